"""The leaderboard's problems are read from its files; a row that cannot be used is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from decaylab.calls.judging import judge
from decaylab.calls.sets import CATEGORIES, load, problem
from decaylab.errors import UserError

FLY = {
    "name": "fly",
    "description": "Fly.",
    "parameters": {"type": "dict", "properties": {"to": {"type": "string"}}, "required": ["to"]},
}
TURN = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "To Oslo."}]
ANSWER = {"id": "parallel_0", "ground_truth": [{"fly": {"to": ["Oslo"]}}]}


def question(number: int = 0, **columns: Any) -> dict[str, Any]:
    return {"id": f"parallel_{number}", "question": [TURN], "function": [FLY]} | columns


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def trial_files(folder: Path) -> Path:
    write(folder / "parallel_answers.jsonl", ANSWER)
    return write(folder / "parallel.jsonl", question())


def published_files(folder: Path) -> Path:
    write(folder / "possible_answer" / "BFCL_v4_parallel.json", ANSWER)
    return write(folder / "BFCL_v4_parallel.json", question())


def older_files(folder: Path) -> Path:
    write(folder / "possible_answer" / "BFCL_v3_parallel.json", ANSWER)
    return write(folder / "BFCL_v3_parallel.json", question())


@pytest.mark.parametrize("files", [trial_files, published_files, older_files])
def test_files_are_found_by_their_usual_names(files: Any, tmp_path: Path) -> None:
    path = files(tmp_path)
    (loaded,) = load(tmp_path, "parallel")
    assert load(path, "parallel") == [loaded]
    assert (loaded.problem_id, loaded.messages) == ("parallel_0", TURN)
    assert loaded.problem.functions == (FLY,) and loaded.problem.category == "parallel"
    assert judge("full", "fly(to='OSLO')", loaded.problem.text()).verdict == "correct"


def test_version_3_called_simple_python_simple(tmp_path: Path) -> None:
    write(tmp_path / "possible_answer" / "BFCL_v3_simple.json", ANSWER)
    write(tmp_path / "BFCL_v3_simple.json", question())
    assert len(load(tmp_path, "simple_python")) == 1


def test_answers_are_matched_by_id_and_irrelevance_has_none(tmp_path: Path) -> None:
    other = {"id": "parallel_1", "ground_truth": [{"fly": {"to": ["Rome"]}}]}
    write(tmp_path / "parallel_answers.jsonl", other, ANSWER)
    write(tmp_path / "parallel.jsonl", question(0), question(1))
    cities = [one.problem.expected[0]["fly"]["to"] for one in load(tmp_path, "parallel")]
    assert cities == [["Oslo"], ["Rome"]]
    write(tmp_path / "irrelevance.jsonl", question())
    (none,) = load(tmp_path, "irrelevance")
    assert none.problem.expected == ()


@pytest.mark.parametrize("value", ["To Oslo.", TURN[1:], [TURN[1:]]])
def test_a_question_is_a_turn_its_messages_or_a_text(value: Any) -> None:
    messages, _ = problem(question(question=value), ANSWER, "parallel")
    assert messages == TURN[1:]


@pytest.mark.parametrize(
    ("row", "answer", "message"),
    [
        ({"question": [TURN, TURN]}, ANSWER, "row parallel_0: column 'question' has 2 turns"),
        ({"question": []}, ANSWER, "column 'question' must hold messages"),
        ({"question": [[]]}, ANSWER, "column 'question' must hold messages"),
        ({"question": [[{"role": "user"}]]}, ANSWER, "column 'question' must hold messages"),
        ({"question": [["To Oslo."]]}, ANSWER, "column 'question' must hold messages"),
        ({"question": None}, ANSWER, "column 'question' must hold messages"),
        ({"function": "f("}, ANSWER, "row parallel_0: column 'function' must hold .* as JSON"),
        ({"function": None}, ANSWER, "column 'function' must hold a list of function schemas"),
        ({}, {}, "row parallel_0: column 'ground_truth' must hold a list of expected calls"),
        ({}, {"ground_truth": ["fly(to='Oslo')"]}, "'ground_truth' must hold one function"),
        ({}, {"ground_truth": [{"fly": {"to": "Oslo"}}]}, "lists of alternatives"),
        ({}, {"ground_truth": [{"fly": {}, "f": {}}]}, "one function"),
        ({}, {"ground_truth": [{"walk": {}}]}, r"expects walk.*does not offer \(fly\)"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_column(
    row: dict[str, Any], answer: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        problem(question(**row), answer, "parallel")
    assert "\n" not in str(refused.value)


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"no category 'simple' of bfcl; there are {CATEGORIES[0]}"):
        load(tmp_path, "simple")
    with pytest.raises(UserError, match="no such file or folder: .*missing"):
        load(tmp_path / "missing", "parallel")
    with pytest.raises(UserError, match="no problems of parallel: no file parallel.jsonl, BFCL_v4"):
        load(tmp_path, "parallel")
    path = write(tmp_path / "parallel.jsonl", question(3))
    with pytest.raises(UserError, match="parallel.jsonl has no answers: no file .*_answers.jsonl"):
        load(path, "parallel")
    answers = write(tmp_path / "parallel_answers.jsonl", ANSWER)
    with pytest.raises(UserError, match=r"parallel.jsonl:1: no answer has the id 'parallel_3'"):
        load(path, "parallel")
    answers.write_text("\n[1]\n")
    with pytest.raises(UserError, match=r"parallel_answers.jsonl:2: must be an object"):
        load(path, "parallel")
    answers.write_text('{"id": "x"\n')
    with pytest.raises(UserError, match=r"parallel_answers.jsonl:1: not JSON"):
        load(path, "parallel")
    answers.write_bytes(b"\xff")
    with pytest.raises(UserError, match="cannot read .*not UTF-8 text"):
        load(path, "parallel")
    write(path, question(id=5))
    write(answers, ANSWER)
    with pytest.raises(UserError, match=r"parallel.jsonl:1: column 'id' must hold text, got 5"):
        load(path, "parallel")
    path.write_text("\n")
    with pytest.raises(UserError, match="has no problems: it is empty"):
        load(path, "parallel")
