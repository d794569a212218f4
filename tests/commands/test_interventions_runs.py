"""interventions on the embedded pair: continuations, resuming, edits, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import Outcome, _SharedGrader, decaylab
from matplotlib import image

from decaylab.commands import interventions
from decaylab.problems.abacus_checking import check_steps
from decaylab.problems.sets import load_problems
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import measurements, store
from decaylab.runs.vocabulary import ACCURACY, CONTENT, EDIT, MEAN_KL, STUDENT, effect, row

SMALL = ("--limit", "4", "--samples", "1", "--max-tokens", "90")


@pytest.fixture(autouse=True)
def one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interventions, "Grader", _SharedGrader)


def called(out: Path, *more: object) -> Outcome:
    cache = out.parent / "cache"
    return decaylab("interventions", *SMALL, "--out", out, "--cache", cache, *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("interventions") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interventions, "Grader", _SharedGrader)
        return folder, called(folder, "--chain-steps", "2")


def rollouts(folder: Path) -> pd.DataFrame:
    return pd.DataFrame(store.read_table(folder / "rollouts.parquet", store.ROLLOUTS).to_pandas())


def test_the_run_prints_draws_and_keeps_every_continuation(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    assert outcome.code == 0, outcome.err
    assert "What a prefix does to accuracy" in outcome.out
    assert image.imread(folder / "interventions.png").ndim == 3
    frame, table = measurements.read(folder / "measurements.parquet"), rollouts(folder)
    made = table[table["condition"].str.startswith("made/2/") & (table["author"] == STUDENT)]
    assert len(made) == 16
    correct = made["grade_last_boxed"] == "correct"
    content = made["condition"].str.contains("/correct/")
    found = row(frame, what=effect(ACCURACY), condition=CONTENT, view=STUDENT)
    assert found.value == pytest.approx(correct[content].mean() - correct[~content].mean())
    assert (frame["what"] == effect(MEAN_KL)).any()


def test_every_prefix_is_what_the_verifier_says_of_its_arm(finished: tuple[Path, Outcome]) -> None:
    steps = {one.problem_id: one.steps for one in load_problems("abacus", limit=4).problems}
    table = rollouts(finished[0])
    assert table["text"].str.len().min() > 0
    sides = {
        **{"made/2/correct/student-style": True, "made/2/correct/teacher-style": True},
        **{"made/2/wrong/student-style": False, "made/2/wrong/teacher-style": False},
    }
    for one in table.itertuples():
        kind, _, arm = one.condition.split("/", 2)
        wanted = sides.get(one.condition, (kind == "repaired") == (arm == "changed"))
        assert one.prefix_correct_so_far == wanted
        whole = check_steps(one.text, steps[one.problem_id])
        if not wanted and not whole.abstains:  # an error may be repaired behind the prefix
            assert whole.count("wrong") or whole.count("repaired")
    pairs = table[table["prefix_rollout_id"] != ""].groupby(["author", "prefix_rollout_id"])
    assert set(pairs["condition"].count()) <= {2, 4}, "each side has the other"


def test_a_killed_run_samples_only_what_is_missing_and_ends_alike(
    finished: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, calls = TransformersEngine.sample, list[int]()

    def killed(self: TransformersEngine, requests: Any, *more: Any) -> Any:
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(requests))
        return sample(self, requests, *more)

    monkeypatch.setattr(TransformersEngine, "sample", killed)
    more = ("--chain-steps", "2", "--batch-rows", "8")
    assert called(tmp_path / "run", *more).code == 130
    assert list((tmp_path / "run" / "parts").glob("*.parquet"))
    done, calls[:] = sum(calls), [-1] * 4
    assert called(tmp_path / "run", *more).code == 0
    table, whole = rollouts(tmp_path / "run"), rollouts(finished[0])
    base = 4  # the student's own rollouts come first
    assert sum(calls) + 4 == len(whole) + base - done
    columns = ["rollout_id", "text", "stop_reason", "grade_last_boxed"]
    pd.testing.assert_frame_equal(table[columns], whole[columns])


def edits(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(("problem,prefix,label", *rows)) + "\n")
    return path


def test_edits_are_continued_by_both_and_compared_by_label(tmp_path: Path) -> None:
    names = [one.problem_id for one in load_problems("abacus", limit=4).problems]
    given = [f"{name},{text},{text}" for name in names for text in ("a", "b")]
    outcome = called(tmp_path / "run", "--edits", edits(tmp_path, *given), "--reference", "b")
    assert outcome.code == 0, outcome.err
    table = rollouts(tmp_path / "run")
    assert table.groupby(["author", "condition"]).size().to_dict() == {
        (author, f"edit/0/{label}"): 4 for author in ("student", "teacher") for label in "ab"
    }
    frame = measurements.read(tmp_path / "run" / "measurements.parquet")
    assert row(frame, what=effect(ACCURACY), condition="against b", view=STUDENT).category == "a"
    own = row(frame, what=ACCURACY, condition=EDIT, category="a", view=STUDENT)
    chosen = table[(table["author"] == STUDENT) & (table["condition"] == "edit/0/a")]
    assert own.value == np.mean(chosen["grade_last_boxed"] == "correct")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--problems", "math500"),
            "interventions makes prefixes of problems whose steps are known (--problems abacus), "
            "and those of math500 are not; give prefixes of your own with --edits FILE (problem, "
            "prefix, label)",
        ),
        (("--chain-steps", "0,2"), "--chain-steps must be at least 1 and increase, got 0,2"),
        (("--chain-steps", "2,1"), "--chain-steps must be at least 1 and increase, got 2,1"),
        (("--reference", "a"), "--reference only applies with --edits; add --edits FILE"),
        (("--edits", "none.csv"), "--edits none.csv: no such file"),
        (
            ("--edits", "none.csv", "--rollouts", "none.jsonl"),
            "--edits brings prefixes of its own, so --rollouts would not be read; leave one out",
        ),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], complaint: str, tmp_path: Path) -> None:
    assert called(tmp_path / "run", *words).complaint == complaint


@pytest.mark.parametrize(
    ("rows", "words", "complaint"),
    [
        (("abacus-0-000001,so,a", "abacus-9,so,a"), (), "problem 'abacus-9' is not among the 4"),
        (
            (f"abacus-0-000001,{'so ' * 100},a",),
            (),
            "tokens of abacus-student, and the budget is 90; shorten it, or raise --max-tokens",
        ),
        (
            ("abacus-0-000001,so<|end|>,a",),
            (),
            "--edits, line 2: the prefix holds the end-of-turn token of abacus-student, behind "
            "which nothing is written; remove it",
        ),
        (("abacus-0-000001,so,a",), ("--reference", "b"), "--reference b: the labels of mine.csv"),
    ],
)
def test_edits_that_cannot_be_used_are_one_line(
    rows: tuple[str, ...], words: tuple[str, ...], complaint: str, tmp_path: Path
) -> None:
    path = edits(tmp_path, *rows)
    assert complaint in called(tmp_path / "run", "--edits", path, *words).complaint


def test_made_prefixes_beyond_the_budget_are_named_before_anything_is_sampled(
    tmp_path: Path,
) -> None:
    complaint = called(tmp_path / "run", "--max-tokens", "20").complaint
    assert "a prefix of --chain-steps: the prefix has" in complaint
    assert complaint.endswith("the budget is 20; lower --chain-steps, or raise --max-tokens")
    assert not (tmp_path / "run" / "parts").exists()
