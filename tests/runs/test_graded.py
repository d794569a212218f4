"""Stored rollouts are graded again where their grading has changed, and only then; nothing is
sampled for it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import SMALL, decaylab, write_lines

from decaylab.policies import loading
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import graded, measurements, store

GRADES = ["grade_last_boxed", "grade_first_boxed", "grade_anywhere", "grade_gsm8k"]
DECAY = ("prefix-decay", *SMALL, "--controls", "none", "--quiet")
EVALUATE = ("evaluate", "--limit", 3, "--samples", 2, "--max-tokens", 24, "--quiet")


def made_stale(path: Path) -> None:
    """Every verdict of a file replaced by one of a grader that found everything correct, in an
    earlier schema."""
    table = pq.read_table(path).drop_columns(["answer_start"])
    for name in GRADES:
        table = table.set_column(
            table.schema.names.index(name), name, pa.array(["correct"] * len(table))
        )
    metadata = {store.SCHEMA: store.ROLLOUTS.encode(), graded.RECORD: b"another grader"}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def nothing_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("rollouts were sampled again")

    monkeypatch.setattr(TransformersEngine, "sample", refuse)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("decay") / "run"
    assert decaylab(*DECAY, "--out", folder).code == 0
    return folder


@pytest.fixture
def stale(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    made_stale(tmp_path / "run" / "rollouts.parquet")
    nothing_is_sampled(monkeypatch)
    return tmp_path / "run"


def test_a_finished_run_is_graded_again_by_another_grader_and_not_sampled(
    finished: Path, stale: Path
) -> None:
    assert decaylab(*DECAY, "--out", stale).code == 0
    assert (stale / "rollouts.parquet").read_bytes() == (finished / "rollouts.parquet").read_bytes()
    assert measurements.read(stale / "measurements.parquet").equals(
        measurements.read(finished / "measurements.parquet").assign(run="run")
    )


def test_other_marks_of_thoughts_grade_again_and_the_record_tells_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    nothing_is_sampled(monkeypatch)
    assert decaylab(*DECAY, "--out", folder, "--thought-marks", "<draft> </draft>").code == 0
    tables = [pq.read_table(path / "rollouts.parquet") for path in (finished, folder)]
    assert len({table.schema.metadata[graded.RECORD] for table in tables}) == 2
    assert tables[0].to_pylist() == tables[1].to_pylist()  # nobody drafts here
    assert (
        "an opening and a closing mark"
        in decaylab(*DECAY, "--out", folder, "--thought-marks", "x").complaint
    )


def test_a_part_of_a_run_that_was_stopped_is_graded_again(finished: Path, tmp_path: Path) -> None:
    folder, own = tmp_path / "run", pq.read_table(finished / "rollouts.parquet")
    shutil.copytree(finished, folder)
    for name in ("rollouts.parquet", "measurements.parquet"):
        (folder / name).unlink()
    students = own.filter(pa.compute.equal(own["condition"], "student"))
    part = store.RunFolder(folder).parts("student rollouts").path(0)
    store.write_table(students, part, store.ROLLOUTS)
    made_stale(part)
    assert decaylab(*DECAY, "--out", folder).code == 0
    assert pq.read_table(folder / "rollouts.parquet").to_pylist() == own.to_pylist()


def test_a_part_of_an_earlier_version_is_resumed_without_being_graded_again(
    finished: Path, tmp_path: Path
) -> None:
    folder, own = tmp_path / "run", pq.read_table(finished / "rollouts.parquet")
    shutil.copytree(finished, folder)
    for name in ("rollouts.parquet", "measurements.parquet"):
        (folder / name).unlink()
    students = own.filter(pa.compute.equal(own["condition"], "student"))
    part = store.RunFolder(folder).parts("student rollouts").path(0)
    store.write_table(students.drop_columns(["tokens"]), part, store.ROLLOUTS)
    assert decaylab(*DECAY, "--out", folder).code == 0
    assert (folder / "rollouts.parquet").read_bytes() == (
        finished / "rollouts.parquet"
    ).read_bytes()


def test_a_finished_run_of_an_earlier_version_is_read_as_it_is(
    finished: Path, tmp_path: Path
) -> None:
    folder, path = tmp_path / "run", tmp_path / "run" / "rollouts.parquet"
    shutil.copytree(finished, folder)
    store.write_table(pq.read_table(path).drop_columns(["tokens"]), path, store.ROLLOUTS)
    before = path.read_bytes()
    (folder / "measurements.parquet").unlink()
    assert decaylab(*DECAY, "--out", folder).code == 0
    assert path.read_bytes() == before
    pd.testing.assert_frame_equal(
        measurements.read(folder / "measurements.parquet"),
        measurements.read(finished / "measurements.parquet").assign(run="run"),
    )


def test_cached_rollouts_are_graded_again_and_a_rule_changes_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ("--cache", tmp_path / "cache", "--out", tmp_path / "run")
    assert decaylab(*EVALUATE, *place).code == 0
    before = measurements.read(tmp_path / "run" / "measurements.parquet")
    for path in (tmp_path / "cache").glob("rollouts-*/rollouts.parquet"):
        made_stale(path)
    nothing_is_sampled(monkeypatch)
    assert decaylab(*EVALUATE, *place).code == 0
    assert measurements.read(tmp_path / "run" / "measurements.parquet").equals(before)
    assert decaylab(*EVALUATE, *place, "--answer-rule", "anywhere").code == 0
    assert (
        measurements.read(tmp_path / "run" / "measurements.parquet")["condition"].iloc[0]
        == "anywhere"
    )


def test_gold_answers_that_are_corrected_grade_the_cached_rollouts_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [{"question": f"{n} + 1?", "answer": "999"} for n in (3, 4)]
    problems = write_lines(tmp_path / "mine.jsonl", *asked)
    command = (
        "behaviour",
        "--problems",
        problems,
        "--samples",
        2,
        "--max-tokens",
        24,
        "--cache",
        tmp_path / "cache",
        "--quiet",
    )
    assert decaylab(*command, "--out", tmp_path / "one").code == 0
    cached = sorted((tmp_path / "cache").glob("rollouts-*/rollouts.parquet"))
    before = [pq.read_schema(path).metadata[graded.RECORD] for path in cached]
    write_lines(problems, asked[0] | {"answer": "4"}, asked[1] | {"answer": "5"})
    nothing_is_sampled(monkeypatch)
    assert decaylab(*command, "--out", tmp_path / "two").code == 0
    after = [pq.read_schema(path).metadata[graded.RECORD] for path in cached]
    assert len(cached) == 2 and all(one != other for one, other in zip(before, after, strict=True))


# Thoughts


def rollouts(tmp_path: Path, *responses: str) -> Path:
    lines = [
        {"question": f"What is {n} + 1?", "answer": "13", "response": text}
        for n, text in enumerate(responses)
    ]
    return write_lines(tmp_path / "theirs.jsonl", *lines)


def accuracy(folder: Path, what: str = "accuracy") -> Mapping[str, float]:
    frame = measurements.read(folder / "measurements.parquet")
    rows = frame[(frame["what"] == what) & (frame["checkpoint"] == "base")]
    return dict(zip(rows["condition"], rows["value"], strict=True))


def test_behaviour_looks_for_answers_and_boxes_behind_thoughts_and_counts_those_that_never_end(
    tmp_path: Path,
) -> None:
    theirs = rollouts(
        tmp_path,
        r"<think> \boxed{12} or \boxed{13}? check</think> The answer is \boxed{13}.",
        r"<think> I get \boxed{13}. Wait",
        r"\boxed{13}",
        r"<think> \boxed{13}? </think> It is \boxed{12}.",
    )
    place = (
        "--cache",
        tmp_path / "cache",
        "--out",
        tmp_path / "run",
        "--max-tokens",
        24,
        "--samples",
        1,
    )
    outcome = decaylab("behaviour", "--rollouts", theirs, *place, "--verbose")
    assert outcome.code == 0
    told = " ".join(outcome.out.split())
    assert (
        "base: 1 of 4 rollouts end inside a thought: no answer" in told and "open thought" in told
    )
    assert accuracy(tmp_path / "run") == dict.fromkeys(
        ("last_boxed", "first_boxed", "anywhere", "gsm8k"), 0.5
    )
    assert set(accuracy(tmp_path / "run", "no_answer_share").values()) == {0.25}
    assert accuracy(tmp_path / "run", "open_thought_share") == {"": 0.25}
    assert accuracy(tmp_path / "run", "boxes_mean") == {"": 0.75}


def test_a_thought_that_the_prompt_opens_is_closed_by_the_response_or_is_no_answer(
    tmp_path: Path,
) -> None:
    policy = loading.load_tokenizer_only("abacus-student")
    own = policy.encode("7+5=12")

    def grade(found: Sequence[str], gold: Sequence[str]) -> dict[str, list[str]]:
        return {"grade_rule": [f"{one!r}" for one in found]}

    marks = (("7+", "=1"),)  # a vocabulary without words: marks that it can write
    judge = graded.Judge(grade, ("rule",), {"p": "2"}, {"student": policy}, marks)
    row: dict[str, Any] = dict.fromkeys(store.ROLLOUT_FIELDS) | {"response_ids": []}
    rows = [
        row
        | {
            "rollout_id": name,
            "problem_id": "p",
            "author": "student",
            "text": text,
            "prompt_ids": prompt,
        }
        for name, text, prompt in (
            ("shut", "5=12", own[:2]),
            ("open", "5", own[:2]),
            ("none", "5=12", own[:1]),
        )
    ]
    table = judge.table(rows)
    assert table["answer_start"].to_pylist() == [3, None, 3]
    assert table["grade_rule"].to_pylist() == ["'2'", "''", "'2'"]
    assert graded.count_open(table) == 1
    assert judge.current(table) is table
    other = graded.Judge(grade, ("rule",), {"p": "3"}, {"student": policy}, marks)
    assert other.current(table) is not table and other.record != judge.record
