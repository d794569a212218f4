"""Runs to pages: what the report and the token view of real runs hold, and what is refused in one
line."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pytest
from browser import axe_faults, open_text, sideways
from command_line import SMALL, _SharedGrader, decaylab
from measured import MEASURED

from decaylab.claims import judge, verdicts
from decaylab.commands import diagnose
from decaylab.pages import reporting
from decaylab.runs import found_runs
from decaylab.tokens import viewed

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["browser"]
ASKED = ("--limit", "3", "--samples", "2", "--max-tokens", "24")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decay run and scored tokens of the same rollouts."""
    root = tmp_path_factory.mktemp("reporting")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnose, "Grader", _SharedGrader)
        assert (
            decaylab("prefix-decay", *SMALL, "--controls", "all", "--out", root / "decay").code == 0
        )
        words = ("--cache", root / "cache", "--out", root / "decay" / "kl")
        assert decaylab("position-kl", *ASKED, *words).code == 0
    return root


def test_the_report_holds_answer_claims_figures_tables_rollouts_and_configuration(
    runs: Path, tmp_path: Path
) -> None:
    printed = decaylab("report", runs / "decay", "--out", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert printed.code == 0 and f"report: {tmp_path}/report.html" in printed.out
    assert "How claims are judged" in page and "Holm-corrected" in page
    assert page.startswith("<!DOCTYPE html>") and 'id="token-view"' in page
    for said in (
        "How should this pair be trained?",
        "half-decay length",
        "not measured",
        "figure-prefix-decay",
        "figure-case-study",
    ):
        assert said in page, said


def test_a_folder_is_told_from_where_the_command_was_given_and_one_from_elsewhere_by_its_name() -> (
    None
):
    assert (
        reporting._relative(Path("runs/mine"))
        == "runs/mine"
        == reporting._relative(Path.cwd() / "runs" / "mine")
    )
    assert reporting._relative(Path("/somewhere/else/mine")) == "mine"


def test_when_where_and_by_what_a_run_was_made_is_told_as_far_as_it_was_recorded() -> None:
    made = {"date": "2026-11-30", "seconds": 185.0, "hardware": "2 cores", "commit": None}
    assert reporting._made(made) == {
        "date": "2026-11-30",
        "hardware": "2 cores",
        "duration": "3 min",
    }
    assert reporting._made({}) == {}


@pytest.mark.parametrize(
    ("part", "between", "end"),
    [
        ("student 0.80 [0.74, 0.86]", "; ", "student 0.80 [0.74, 0.86]"),
        ("One student differs by 4.0 points (trained once)", ". ", "points (trained once)"),
        ("prefix-20-seed-0", " ", " prefix-20-seed-0"),
    ],
)
def test_a_long_finding_is_cut_where_a_student_a_sentence_or_a_word_ends(
    part: str, between: str, end: str
) -> None:
    long = between.join([part] * 60)
    finding = verdicts.Finding(judge.CLAIMS[0], "undecided", long, pd.DataFrame())
    cut = reporting._short(finding).sentence
    rest = " \u2026 The rest is under all claims."
    assert 600 < len(cut) < 800 and cut.endswith(f"{end}{rest}")
    assert long.startswith(f"{cut.removesuffix(rest)}{between.rstrip()}")
    short = replace(finding, sentence="A sentence.")
    assert reporting._short(short) is short


def test_the_head_counts_the_problems_of_sweeps_too() -> None:
    runs = found_runs.find([MEASURED])
    assert (
        reporting._problems(runs)
        == "abacus (300 problems in 8 runs, 800 problems in 1 run); the test of sweeps (800 "
        "problems)"
    )
    sweeps = [run for run in runs if run.command.startswith("sweep")]
    assert len(sweeps) == 2 and reporting._problems(sweeps) == "the test of sweeps (800 problems)"


def test_the_same_runs_give_the_same_report(runs: Path) -> None:
    assert reporting.report_page([runs / "decay"]) == reporting.report_page([runs / "decay"])


def test_the_report_of_real_runs_works_in_a_browser(runs: Path, page: Page, tmp_path: Path) -> None:
    open_text(page, reporting.report_page([runs / "decay"], published=True), tmp_path)
    assert page.locator("h1").count() == 1
    tokens = page.locator("#token-view bdi.tv-token[role=option]")
    tokens.first.wait_for()
    assert tokens.count() == 24
    assert axe_faults(page) == []
    page.set_viewport_size({"width": 390, "height": 844})
    assert sideways(page) == 0


def test_the_committed_measurements_make_a_report(tmp_path: Path) -> None:
    runs = [MEASURED / name for name in ("prefix-decay", "signals", "rollout-length")]
    text = reporting.report_page(runs)
    assert "39 tokens" in text and "contradicted" in text and 'id="token-view"' not in text


def test_the_view_stands_alone_with_the_continuations_of_the_run_above_it(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no other run of the pair stands under runs/
    printed = decaylab("view", runs / "decay")
    page = runs / "decay" / "view.html"
    assert printed.code == 0 and f"token view: {page}" in printed.out
    with_continuations = page.stat().st_size
    assert decaylab("view", runs / "decay" / "kl", "--out", runs / "alone.html").code == 0
    assert (runs / "alone.html").stat().st_size < with_continuations
    assert (
        decaylab(
            "view", runs / "decay" / "kl", "--decay", runs / "decay", "--out", runs / "both.html"
        ).code
        == 0
    )
    assert (runs / "both.html").stat().st_size > (runs / "alone.html").stat().st_size
    (tmp_path / "runs").symlink_to(runs)
    assert decaylab("view", runs / "decay" / "kl", "--out", runs / "near.html").code == 0
    assert (runs / "near.html").read_bytes() == (runs / "both.html").read_bytes()


def test_what_cannot_be_shown_is_one_line(runs: Path, tmp_path: Path) -> None:
    assert "no such run folder" in decaylab("report", tmp_path / "nothing").complaint
    assert "no measurements there or below" in decaylab("report", tmp_path).complaint
    assert "has no scored tokens to view" in decaylab("view", MEASURED / "signals").complaint
    told = decaylab("view", runs / "decay" / "kl", "--decay", MEASURED / "signals").complaint
    assert told.startswith("--decay ") and "holds no prefix-decay run" in told
    told = decaylab("report", MEASURED / "signals", "--out", tmp_path).complaint
    assert (
        told
        == f"{tmp_path} is a folder; give the page a name in it, such as {tmp_path}/report.html"
    )
    (tmp_path / "file").write_text("")
    assert decaylab(
        "report", MEASURED / "signals", "--out", tmp_path / "file" / "x.html"
    ).complaint.startswith("cannot write")


def test_runs_of_two_pairs_do_not_stand_in_one_report(runs: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs / "decay", other)
    record = json.loads((other / "run.json").read_text())
    record["identity"]["student"] |= {"name": "another", "content_hash": "another"}
    (other / "run.json").write_text(json.dumps(record))
    shutil.rmtree(other / "kl")
    assert (
        "runs of different pairs" in decaylab("report", MEASURED / "prefix-decay", other).complaint
    )
    assert (
        "runs of different pairs"
        in decaylab("view", runs / "decay" / "kl", "--decay", other).complaint
    )


def test_a_run_that_kept_no_rollouts_says_how_to_keep_some(runs: Path, tmp_path: Path) -> None:
    kept = tmp_path / "none"
    shutil.copytree(runs / "decay" / "kl", kept)
    whole = viewed.read(kept)
    tables = [pa.Table.from_pandas(whole.rollouts[:0], viewed.ROLLOUT_SCHEMA, preserve_index=False)]
    tables.append(pa.Table.from_pandas(whole.tokens[:0], viewed.TOKEN_SCHEMA, preserve_index=False))
    viewed.write([tables], kept)
    assert (
        "kept no rollouts to look at; measure again with --view-rollouts"
        in decaylab("view", kept).complaint
    )
    assert "<title>" in reporting.report_page([kept])
