"""Runs of the commands in Python: the same results as on the command line, as objects."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from command_line import _SharedGrader, shared_parts
from matplotlib.figure import Figure

import decaylab as dl
from decaylab.api import running
from decaylab.api.columns import without_empty
from decaylab.commands import diagnose
from decaylab.errors import UserError
from decaylab.runs import measurements

SMALL = {"limit": 2, "samples": 2, "max_tokens": 16, "quiet": True}


@pytest.fixture(scope="module")
def decay(tmp_path_factory: pytest.TempPathFactory) -> dl.Run:
    out = tmp_path_factory.mktemp("runs") / "decay"
    with shared_parts():
        return dl.prefix_decay(**SMALL, prefix_lengths=[0, 4, 8], controls="all", out=out)


@pytest.fixture(scope="module")
def kl(tmp_path_factory: pytest.TempPathFactory) -> dl.Run:
    root = tmp_path_factory.mktemp("runs")
    with shared_parts():
        return dl.position_kl(
            **SMALL, cache=root / "cache", out=root / "kl", bins=[0, 4, 8], floor_problems=1
        )


def test_a_run_has_the_measurements_of_its_folder_without_empty_columns(decay: dl.Run) -> None:
    whole = measurements.read(decay.folder / "measurements.parquet")
    pd.testing.assert_frame_equal(decay.measurements, whole[list(decay.measurements)])
    dropped = whole.drop(columns=list(decay.measurements))
    for name in dropped:
        assert dropped[name].isin(["", 0, False]).all() or dropped[name].isna().all(), name
    assert {"own-prefix", "swapped", "reverse"} <= set(decay.measurements["condition"])


def test_tokens_join_with_grades_in_two_lines(kl: dl.Run) -> None:
    grades = kl.rollouts[["rollout_id", "grade_last_boxed"]]
    joined = kl.tokens.merge(grades)
    # By a second route: plain loops over the files of the cache.
    cache = kl.folder.parent / "cache"
    (rollouts,) = cache.glob("rollouts-*/rollouts.parquet")
    grade = {
        row["rollout_id"]: row["grade_last_boxed"] for row in pq.read_table(rollouts).to_pylist()
    }
    tables = [pq.read_table(path).to_pylist() for path in cache.glob("tokens-*/tokens.parquet")]
    scored = max(tables, key=len)  # the other one is the noise floor's
    assert len(joined) == len(scored) == len(kl.tokens) > 30
    for verdict, group in joined.groupby("grade_last_boxed"):
        values = [row["reverse_kl"] for row in scored if grade[row["rollout_id"]] == verdict]
        assert group["reverse_kl"].mean() == pytest.approx(np.mean(values), rel=1e-6)
    text = kl.tokens.groupby("rollout_id")["token"].sum()
    for row in kl.rollouts.to_dict("records"):
        assert text[row["rollout_id"]].startswith(row["text"])


def test_tokens_have_the_mean_that_the_run_reports(kl: dl.Run) -> None:
    rows = kl.measurements.query("what == 'mean_reverse_kl' and condition == 'all'")
    if rows.empty:
        rows = kl.measurements.query("what == 'reverse_kl' and position_low == 0")
        tokens = kl.tokens[kl.tokens["position"] < rows["position_high"].iloc[0]]
    else:
        tokens = kl.tokens
    assert tokens["reverse_kl"].mean() == pytest.approx(rows["value"].iloc[0], rel=1e-5)
    assert len(tokens) == rows["tokens"].iloc[0]


def test_rollouts_of_a_decay_run_have_the_accuracy_that_it_reports(decay: dl.Run) -> None:
    alone = decay.rollouts.query("condition == 'teacher'")
    reported = decay.measurements.query("what == 'accuracy' and condition == 'teacher'")
    rule = reported["answer_rule"].iloc[0]
    accuracy = (alone[f"grade_{rule}"] == "correct").mean()
    assert accuracy == reported["value"].iloc[0]
    assert decay.rollouts["rollout_id"].is_unique and not decay.rollouts["text"].eq("").any()


def test_rollouts_of_several_policies_say_who_wrote_them(kl: dl.Run) -> None:
    with shared_parts():
        run = dl.behaviour(
            **SMALL, cache=kl.folder.parent / "cache", out=kl.folder.parent / "behaviour"
        )
    rollouts = run.rollouts.set_index("writer")
    assert rollouts["rollout_id"].is_unique and set(rollouts.index) == {"base", "teacher"}
    assert list(rollouts.loc["base", "text"]) == list(kl.rollouts["text"])  # the same, cached
    reported = run.measurements.query("what == 'response_tokens_mean'").set_index("checkpoint")
    for policy in ("base", "teacher"):
        assert rollouts.loc[policy, "tokens"].mean() == reported.loc[policy, "value"]
    with pytest.raises(UserError, match="behaviour scores no tokens"):
        _ = run.tokens


def test_rollouts_that_were_given_are_kept_with_the_run(decay: dl.Run, tmp_path: Path) -> None:
    with shared_parts():
        run = dl.position_kl(
            decay.folder,
            cache=tmp_path / "cache",
            out=tmp_path / "kl",
            floor_problems=0,
            quiet=True,
        )
    written = decay.rollouts.query("condition == 'student'")
    assert set(run.tokens["rollout_id"]) == set(written["rollout_id"])
    assert list(run.rollouts["text"]) == list(written["text"])


def test_reopened_and_moved_runs_have_the_same_frames(kl: dl.Run, tmp_path: Path) -> None:
    again = dl.open_run(kl.folder)
    pd.testing.assert_frame_equal(again.tokens, kl.tokens)
    assert again.command == "position-kl" and again.verdict == kl.verdict


def test_every_repr_is_one_line(kl: dl.Run) -> None:
    view = kl.view()
    for one in (kl, view):
        assert "\n" not in repr(one) and len(repr(one)) < 200 and str(kl.folder) in repr(kl)
    assert "<table" in kl._repr_html_() and view._repr_html_().startswith("<iframe ")


def test_figures_are_matplotlib_figures_and_tables_are_data_frames(
    decay: dl.Run, kl: dl.Run
) -> None:
    for figure in (decay.figure(paper=True, width="column"), kl.figure()):
        assert isinstance(figure, Figure)
    titles = {axes.get_title(loc="left") for axes in kl.figure().axes}
    assert any("Reverse KL" in title or "entropy" in title for title in titles), titles
    table = dl.table("prefix-curve", decay.folder)
    alone = decay.measurements.query("what == 'accuracy' and condition == 'teacher'")
    percents = table.select_dtypes("number") - 100 * alone["value"].iloc[0]
    assert percents.abs().min().min() < 1e-9
    listed = dl.catalogue(decay.folder).set_index(["kind", "name"])
    assert listed.run["figure", "prefix-decay"] == "decay" and listed.run["figure", "submode"] == ""


def test_figures_are_written_where_and_as_they_are_named(decay: dl.Run, tmp_path: Path) -> None:
    files = dl.write_figures(
        decay.folder, only=["prefix-decay"], kinds="png", width="column", out=tmp_path
    )
    assert files and all(file.exists() for file in files)
    assert {file.suffix for file in files} >= {".png"} and not list(tmp_path.rglob("*.pdf"))
    for wrong, told in (
        ({"only": "nonsense"}, "only must be among .*prefix-decay.*, got nonsense"),
        ({"kinds": ["gif"]}, "kinds must be among png, svg, pdf, got gif"),
        ({"width": "wide"}, "width must be one of column, page, both, got wide"),
    ):
        with pytest.raises(UserError, match=told):
            dl.write_figures(decay.folder, out=tmp_path, **wrong)


def test_what_a_run_lacks_is_told_in_a_line_with_what_to_do(decay: dl.Run, kl: dl.Run) -> None:
    for ask, told in (
        (lambda: dl.prefix_decay(limits=3), "no option limits of prefix-decay; there are .*limit"),
        (lambda: dl.figure("submode", decay.folder), "figure submode needs what `decaylab submode"),
        (lambda: kl.figure("submode"), "figure submode needs"),
        (lambda: dl.figure("nonsense", decay.folder), "no figure 'nonsense'"),
        (lambda: decay.view(), "has no scored tokens"),
        (lambda: decay.tokens, r"prefix-decay scores no tokens; .*dl.position_kl\(...\).tokens"),
        (lambda: dl.report(), "dl.report needs the folders of runs: .*'runs/b'.$"),
        (lambda: dl.report([decay.folder]), "dl.report needs the folders of runs: .*, got list$"),
        (lambda: dl.open_run(None), "path must be text, got None"),
        (lambda: decay.metrics, "is a run of prefix-decay, not a training run"),
    ):
        with pytest.raises(UserError, match=told) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_quiet_is_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(name: str) -> str:
        monkeypatch.setattr(diagnose, "Grader", _SharedGrader)
        run = dl.position_kl(
            limit=1,
            samples=1,
            max_tokens=6,
            floor_problems=0,
            quiet=True,
            cache=tmp_path / name / "cache",
            out=tmp_path / name / "run",
        )
        _ = run.tokens, run.rollouts, run.measurements, repr(run)
        return "".join(capfd.readouterr())

    capfd.readouterr()
    assert printed("hushed") == ""
    monkeypatch.setattr(running, "hushed", contextlib.nullcontext)
    assert "Loading weights" in printed("not hushed")


def test_the_settings_of_libraries_are_restored() -> None:
    from transformers.utils import logging

    from decaylab.progress import hushed

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with contextlib.suppress(RuntimeError), hushed(True):
        assert not logging.is_progress_bar_enabled()
        raise RuntimeError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_columns_without_a_value_are_left_out() -> None:
    frame = pd.DataFrame(
        {
            "value": [0.0, 1.0],
            "text": ["", ""],
            "missing": [np.nan, np.nan],
            "ids": [[], []],
            "mask": [None, None],
            "tokens": [0, 0],
            "top_k": [0, 0],
            "under_floor": [False, False],
            "note": ["", "why"],
        }
    )
    assert list(without_empty(frame)) == ["value", "top_k", "note"]
    measured = frame.assign(noise_floor=[0.1, np.nan])
    assert "under_floor" in without_empty(measured)
