"""Rollouts that somebody already has: every fault by its line, the same rows and the same result as one's own."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from command_line import DATA, decaylab, write_lines

from decaylab import external, measurements, policies
from decaylab.errors import UserError
from decaylab.graded import Judge
from decaylab.options import ANSWER_RULES
from decaylab.policies import Policy
from decaylab.problems import Problem

ONE = {"problem_id": "a", "response": "2"}
COMMAND = ("prefix-decay", "--limit", 4, "--samples", 2, "--prefix-lengths", "0,8,16", "--max-tokens", 40, "--quiet")


@functools.cache
def author() -> Policy:
    return policies.load_tokenizer_only("abacus-student")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([ONE, "{broken"], ":2: not JSON"),
        ([ONE, "", '["a list"]'], ":3: a line must be an object with a response, got list"),
        ([ONE, {"problem_id": "a"}], ":2: no text under response or text or completion or output (found problem_id)"),
        ([{"problem_id": "a", "response": 3}], ":1: no text under"),
        ([{"problem_id": "a", "response": None}], ":1: no text under"),
        ([{"response": "2"}], ":1: neither problem_id nor question and answer (found response)"),
        ([{"question": "1?", "response": "2"}], ":1: neither problem_id nor question and answer"),
        ([ONE | {"sample": "first"}], ":1: sample must be a whole number from 0, got 'first'"),
        ([ONE | {"sample": -1}], ":1: sample must be a whole number from 0, got -1"),
        ([ONE | {"sample": 0.5}], ":1: sample must be a whole number from 0, got 0.5"),
        ([ONE | {"sample": 1}, ONE], ":2: sample 1 of problem a stands already in line 1"),
        (
            [ONE | {"question": "1?", "answer": "1"}, ONE | {"question": "2?", "answer": "1"}],
            ":2: problem a has another question or answer",
        ),
        ([], " holds no rollouts"),
        (["", " "], " holds no rollouts"),
    ],
)
def test_a_fault_is_named_with_its_line(tmp_path: Path, lines: list[object], message: str) -> None:
    path = write_lines(tmp_path / "theirs.jsonl", *lines)
    with pytest.raises(UserError) as error:
        external.read(path)
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_missing_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read rollouts .*: No such file"):
        external.read(tmp_path / "none.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem_id": "a", "response": "2"}\n{"problem_id": "b\xe9"}\n')
    with pytest.raises(UserError, match=r"latin\.jsonl:2: not UTF-8 text"):
        external.read(tmp_path / "latin.jsonl")


def test_samples_are_numbered_by_order_where_they_have_no_number(tmp_path: Path) -> None:
    lines = [{"problem_id": name, "text": str(index)} for index, name in enumerate("abaab")]
    read = external.read(write_lines(tmp_path / "theirs.jsonl", *lines))
    assert [(one.problem_id, one.sample) for one in read.rollouts] == [("a", 0), ("b", 0), ("a", 1), ("a", 2), ("b", 1)]
    assert read.samples == 3 and read.problems == ()


def test_a_response_may_hold_any_character_that_json_allows(tmp_path: Path) -> None:
    """U+2028 and its kin end a line for str.splitlines, but not in JSONL."""
    response = "one\u2028two\x85three\x1cfour"
    path = tmp_path / "theirs.jsonl"
    line = json.dumps(ONE | {"response": response}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + line.replace("\\u001c", "\\u001c").encode() + b"\r\n")
    assert [one.response for one in external.read(path).rollouts] == [response]


def test_questions_of_their_own_become_problems(tmp_path: Path) -> None:
    lines = [
        {"question": "1 + 1?", "answer": 2, "completion": "2"},
        {"prompt": "1 + 1?", "answer": 2, "output": "3"},
        {"question": "2 + 2?", "answer": None, "problem_id": "mine", "response": "4"},
    ]
    read = external.read(write_lines(tmp_path / "theirs.jsonl", *lines))
    assert [(one.question, one.answer) for one in read.problems] == [("1 + 1?", "2"), ("2 + 2?", None)]
    assert [one.sample for one in read.rollouts] == [0, 1, 0]
    assert read.problems[1].problem_id == "mine"


def test_a_rollout_that_was_cut_off_stays_open_and_an_ended_one_is_closed_once(tmp_path: Path) -> None:
    lines = [
        ONE | {"response": "4+3=7"},
        ONE | {"response": "4+3=7", "stop_reason": "length"},
        ONE | {"response": "4+3=7", "finish_reason": "max_tokens"},
        ONE | {"response": "4+3=7", "stop_reason": None, "finish_reason": "length"},
        ONE | {"response": "4+3=7", "finish_reason": "stop"},
        ONE | {"response": "4+3=7<|end|>"},
    ]
    read = external.read(write_lines(tmp_path / "theirs.jsonl", *lines))
    assert [one.cut_off for one in read.rollouts] == [False, True, True, True, False, False]
    problems = [Problem("a", "4 + 3?", "7")]

    def grade(texts: object, answers: object) -> dict[str, list[str]]:
        return {rule: ["correct"] * len(lines) for rule in ANSWER_RULES}

    judge = Judge(grade, ANSWER_RULES, {"a": "7"}, {"student": author()})
    table, notes = external.to_table(read, problems, author(), judge, {"a": (5, 6)})
    rows = table.to_pylist()
    ids = author().encode("4+3=7")
    (end,) = author().end_ids
    closed = [*ids, end]
    assert [row["response_ids"] for row in rows] == [closed, ids, ids, ids, closed, closed]
    assert [row["stop_reason"] for row in rows] == ["eos", "length", "length", "length", "eos", "eos"]
    assert {tuple(row["prompt_ids"]) for row in rows} == {(5, 6)}
    assert [row["rollout_id"] for row in rows] == [f"student/a/{sample}" for sample in range(6)]


# Through the command


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of the embedded pair, and its student rollouts as somebody else's file."""
    folder = tmp_path_factory.mktemp("own")
    assert decaylab(*COMMAND, "--controls", "reverse", "--out", folder / "run").code == 0
    rollouts = pd.read_parquet(folder / "run" / "rollouts.parquet")
    lines = [
        {"problem_id": row.problem_id, "response": row.text, "stop_reason": row.stop_reason}
        for row in rollouts[rollouts["condition"] == "student"].itertuples()
    ]
    return folder / "run", write_lines(folder / "theirs.jsonl", *lines)


def test_ones_own_rollouts_fed_back_give_the_same_run(own: tuple[Path, Path], tmp_path: Path) -> None:
    run, theirs = own
    options = ("--rollouts", theirs, "--problems", "abacus", "--controls", "reverse")
    assert decaylab(*COMMAND, *options, "--out", tmp_path / "run").code == 0
    first, second = (pd.read_parquet(folder / "rollouts.parquet") for folder in (run, tmp_path / "run"))
    columns = ["rollout_id", "response_ids", "text", "stop_reason", "prefix_ids", "grade_last_boxed"]
    for frame in (first, second):
        for column in ("response_ids", "prefix_ids"):
            frame[column] = frame[column].map(tuple)
    pd.testing.assert_frame_equal(first[columns], second[columns])
    assert set(second[second["condition"] == "student"]["engine"]) == {"external"}
    pd.testing.assert_frame_equal(
        *(measurements.read(folder / "measurements.parquet") for folder in (run, tmp_path / "run"))
    )


def test_a_tokenizer_is_student_enough_for_rollouts_that_are_there(own: tuple[Path, Path], tmp_path: Path) -> None:
    _, theirs = own
    student = tmp_path / "tokenizer"
    student.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DATA / "student" / name, student)
    options = ("--rollouts", theirs, "--problems", "abacus", "--student", student, "--out", tmp_path / "run")
    assert decaylab(*COMMAND, "--controls", "none", *options).code == 0
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    assert identity["precision"]["student"] == "tokenizer only"
    made = pd.read_parquet(tmp_path / "run" / "rollouts.parquet")
    tokenizer = policies.load_tokenizer_only(str(student))
    for row in made[made["condition"] == "student-prefix"].itertuples():
        (rollout,) = made[made["rollout_id"] == row.prefix_rollout_id]["text"]
        assert list(row.prefix_ids) == tokenizer.encode(rollout)[: row.prefix_tokens]
    refused = decaylab(*COMMAND, "--controls", "reverse", *options[:-1], tmp_path / "other")
    assert str(student) in refused.complaint  # the reverse control has to sample from the student


def test_a_file_with_its_own_questions_is_measured_on_them(tmp_path: Path) -> None:
    lines = [
        {"question": f"{n} + 1?", "answer": n + 1, "response": f"{n}+1={n + 1} " * 9} for n in (1, 2, 3) for _ in "ab"
    ]
    theirs = write_lines(tmp_path / "theirs.jsonl", *lines)
    command = ("prefix-decay", "--rollouts", theirs, "--samples", 1, "--prefix-lengths", "0,4", "--max-tokens", 16)
    outcome = decaylab(*command, "--limit", 2, "--quiet", "--out", tmp_path / "run")
    assert "theirs.jsonl, 2 problems x 1 samples" in outcome.out
    assert "1 problems of " in outcome.out and "are not asked, left out" in outcome.out
    assert "4 student rollouts are longer than the budget of 16 tokens: graded whole" in " ".join(outcome.out.split())
    assert "so --split has no meaning" in decaylab(*command, "--split", "test", "--out", tmp_path / "other").complaint


def test_problems_that_the_set_does_not_have_are_refused_or_counted(own: tuple[Path, Path], tmp_path: Path) -> None:
    _, theirs = own
    strange = write_lines(tmp_path / "strange.jsonl", ONE)
    refused = decaylab(*COMMAND, "--rollouts", strange, "--problems", "abacus", "--out", tmp_path / "run")
    assert "none of its problem_ids is in abacus" in refused.complaint
    assert (
        "names problem_ids but holds no questions; say --problems"
        in decaylab(*COMMAND, "--rollouts", strange).complaint
    )
    mixed = write_lines(tmp_path / "mixed.jsonl", *theirs.read_text().splitlines(), ONE)
    options = ("--rollouts", mixed, "--problems", "abacus", "--controls", "none", "--out", tmp_path / "run")
    outcome = decaylab(*COMMAND, *options)
    assert f"1 problems of {mixed} are not asked, left out" in outcome.out
