"""values as a command on the embedded pair: what it prints and keeps, that nothing is drawn twice,
and what it refuses in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from command_line import Outcome, _SharedGrader, decaylab

import decaylab as dl
from decaylab.commands import drawing
from decaylab.commands import values as command
from decaylab.options import declared
from decaylab.options.valuing import ValuesOptions
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import measurements, store

SMALL = ("--limit", "3", "--samples", "2", "--max-tokens", "32", "--grid", "0,8", "--draws", "2")


@pytest.fixture(autouse=True)
def one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Grader", _SharedGrader)
    monkeypatch.setattr(drawing, "draw", lambda *more, **others: None)


def measured(root: Path, *more: object) -> Outcome:
    return decaylab("values", *SMALL, "--cache", root / "cache", "--out", root / "run", *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    root = tmp_path_factory.mktemp("values")
    with pytest.MonkeyPatch.context() as patch:
        one_pool.__wrapped__(patch)
        outcome = measured(root)
    assert outcome.code == 0, outcome.err
    return root, outcome


def test_it_says_what_it_will_cost_and_prints_what_it_found(finished: tuple[Path, Outcome]) -> None:
    _, outcome = finished
    # 6 rollouts of at least 8 tokens, at two positions, twice by two policies
    assert "values: 48 continuations of 12 prefixes by both policies, at most 1,344" in outcome.err
    for title in ("Values along rollouts", "Correct answers from each position on", "AUROC"):
        assert title in outcome.out
    assert "were cut off at the budget" in outcome.out


def test_its_folder_holds_every_draw_beside_the_rollouts(finished: tuple[Path, Outcome]) -> None:
    root, _ = finished
    table = store.read_table(root / "run" / "rollouts.parquet", store.ROLLOUTS).to_pandas()
    assert table.condition.value_counts().to_dict() == {
        "student": 6,
        "student-value": 24,
        "teacher-value": 24,
    }
    run = dl.open_run(root / "run")
    assert len(run.rollouts) == 54 and set(run.tokens.writer) == {"base"}
    assert {"value", "auroc", "fall_share"} <= set(run.measurements.what)
    record = json.loads((root / "run" / "run.json").read_text())
    assert record["identity"]["diagnostic"] == "values"
    assert record["identity"]["options"]["grid"] == [0, 8]


def test_the_same_command_again_draws_nothing(
    finished: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, first = finished
    before = measurements.read(root / "run" / "measurements.parquet")
    monkeypatch.setattr(
        TransformersEngine, "sample", lambda *_, **__: pytest.fail("an engine was asked")
    )
    again = measured(root)
    assert again.code == 0 and "continuations of" not in again.err
    after = measurements.read(root / "run" / "measurements.parquet")
    pd.testing.assert_frame_equal(before, after)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--draws", "1"),
            "--draws must be at least 2 (one half chooses, the other half measures)",
        ),
        (("--grid", "0,8,8"), "--grid must increase, got 0,8,8"),
        (("--grid", "8,16"), "--grid must begin with 0"),
        (("--grid", "0,32"), "--grid reaches 32, beyond the budget --max-tokens 32"),
        (("--temperature", "0"), "--temperature 0 has no values to draw"),
        (("--fdr", "1"), "--fdr must lie between 0 and 1"),
        (("--student", "abacus-teacher"), "contains a run with different settings (--student"),
        (("--draws", "3"), "contains a run with different settings (--draws 2 there, 3 now)"),
    ],
)
def test_bad_input_is_one_line(
    finished: tuple[Path, Outcome], words: tuple[str, ...], said: str
) -> None:
    outcome = measured(finished[0], *words)
    assert outcome.code == 2 and said in outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err


def test_grid_draws_and_rate_make_another_run() -> None:
    usual = ValuesOptions().resolved()
    changes = {"grid": (0, 7), "draws": 4, "fdr": 0.2}
    for name, value in changes.items():
        other = replace(usual, **{name: value}).resolved()
        kinds = (declared.DIAGNOSTIC,)
        assert declared.identity(other, *kinds) != declared.identity(usual, *kinds)
        assert other.folder_name("values", kinds=kinds) != usual.folder_name("values", kinds=kinds)


def test_tasks_that_are_greedy_by_default_are_sampled_here() -> None:
    assert (
        ValuesOptions(problems="humaneval", teacher="t", student="s").resolved().temperature == 0.7
    )
