"""Published sets are read from local files: the rows of a split, and questions with the right calls
in another file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import write_lines

from decaylab.calls.judging import judge
from decaylab.errors import UserError
from decaylab.problems.sets import load_problems

FLY = {
    "name": "fly",
    "description": "Fly.",
    "parameters": {"type": "dict", "properties": {"to": {"type": "string"}}, "required": ["to"]},
}
TURN = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "To Oslo."}]
ANSWER = {"id": "parallel_0", "ground_truth": [{"fly": {"to": ["Oslo"]}}]}


def question(number: int = 0, **columns: Any) -> dict[str, Any]:
    return {"id": f"parallel_{number}", "question": [TURN], "function": [FLY]} | columns


def trial_files(folder: Path) -> Path:
    write_lines(folder / "parallel_answers.jsonl", ANSWER)
    return write_lines(folder / "parallel.jsonl", question())


def published_files(folder: Path, name: str = "BFCL_v4_parallel.json") -> Path:
    (folder / "possible_answer").mkdir()
    write_lines(folder / "possible_answer" / name, ANSWER)
    return write_lines(folder / name, question())


def older_files(folder: Path) -> Path:
    return published_files(folder, "BFCL_v3_parallel.json")


@pytest.mark.parametrize("files", [trial_files, published_files, older_files])
def test_right_calls_are_found_in_a_folder_and_beside_a_file(files: Any, tmp_path: Path) -> None:
    path = files(tmp_path)
    loaded = load_problems(f"bfcl:parallel:{tmp_path}")
    assert load_problems(f"bfcl:parallel:{path}").problems == loaded.problems
    (problem,) = loaded.problems
    assert (problem.problem_id, problem.question) == ("parallel_0", "To Oslo.")
    assert problem.messages[0] == ("system", "Be brief.") and '"name": "fly"' in problem.tools
    assert judge("full", "fly(to='OSLO')", problem.answer or "").verdict == "correct"
    assert (loaded.task.name, loaded.answer_rule, loaded.instruction) == ("calls", "full", "")


def test_version_3_called_simple_python_simple(tmp_path: Path) -> None:
    published_files(tmp_path, "BFCL_v3_simple.json")
    assert len(load_problems(f"bfcl:simple_python:{tmp_path}")) == 1


def test_right_calls_are_matched_by_id_or_stand_in_the_row(tmp_path: Path) -> None:
    other = {"id": "parallel_1", "ground_truth": [{"fly": {"to": ["Rome"]}}]}
    write_lines(tmp_path / "parallel_answers.jsonl", other, ANSWER)
    write_lines(tmp_path / "parallel.jsonl", question(0), question(1))
    golds = [str(one.answer) for one in load_problems(f"bfcl:parallel:{tmp_path}").problems]
    assert "Oslo" in golds[0] and "Rome" in golds[1] and "Oslo" not in golds[1]
    whole = write_lines(tmp_path / "mine.jsonl", question() | ANSWER)
    assert load_problems(f"bfcl:parallel:{whole}").problems[0].answer == golds[0]


def test_irrelevance_has_no_right_calls(tmp_path: Path) -> None:
    write_lines(tmp_path / "irrelevance.jsonl", question())
    (problem,) = load_problems(f"bfcl:irrelevance:{tmp_path}").problems
    assert judge("full", "I cannot.", problem.answer or "").verdict == "correct"
    assert judge("full", "fly(to='Oslo')", problem.answer or "").verdict == "wrong"


def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path) -> None:
    def refused(words: str, spec: str) -> None:
        with pytest.raises(UserError, match=words) as error:
            load_problems(spec)
        assert "\n" not in str(error.value)

    refused("no such file: .*missing", f"bfcl:parallel:{tmp_path / 'missing'}")
    refused("has no questions of parallel: none of parallel.jsonl", f"bfcl:parallel:{tmp_path}")
    path = write_lines(tmp_path / "parallel.jsonl", question(3))
    refused("parallel.jsonl:1: no right calls: .*_answers.jsonl", f"bfcl:parallel:{path}")
    write_lines(tmp_path / "parallel_answers.jsonl", ANSWER)
    refused("parallel.jsonl:1: .* has no right calls of id 'parallel_3'", f"bfcl:parallel:{path}")
    path = write_lines(tmp_path / "irrelevance.jsonl", question(), question(question=[]))
    refused("irrelevance.jsonl:2: column 'question' must hold", f"bfcl:irrelevance:{path}")
    path = write_lines(tmp_path / "irrelevance.jsonl", question(question=""))
    refused("irrelevance.jsonl:1: column 'question' is empty", f"bfcl:irrelevance:{path}")
    path = tmp_path / "parallel.jsonl"
    write_lines(tmp_path / "parallel_answers.jsonl", {"id": "parallel_3"})
    refused("answers.jsonl:1: column 'ground_truth' is missing", f"bfcl:parallel:{path}")


def mbpp(number: int) -> dict[str, Any]:
    return {
        "task_id": number,
        "text": f"Write a function that adds {number} to its argument.",
        "code": f"def plus(a):\n    return a + {number}",
        "test_setup_code": "",
        "test_list": [f"assert plus(1) == {1 + number}"],
        "challenge_test_list": ["assert False"],
    }


def test_the_test_split_of_mbpp_is_read_from_a_file_of_all_rows(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "mbpp.jsonl", *map(mbpp, (3, 10, 11, 510, 511, 601, 974)))
    tested = load_problems(f"mbpp:{path}")
    assert [one.problem_id for one in tested.problems] == ["MBPP/11", "MBPP/510"]
    note = "5 of 7 rows are not of the test split (task_id 11 to 510), left out"
    assert tested.notes == (note,)
    trained = load_problems(f"mbpp:{path}", split="train", limit=1)
    assert [one.problem_id for one in trained.problems] == ["MBPP/601"]
    with pytest.raises(UserError, match="has splits test, train, validation, prompt, not 'dev'"):
        load_problems(f"mbpp:{path}", split="dev")


def test_a_question_of_mbpp_shows_its_asserts_but_no_challenge(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "mine.jsonl", mbpp(2000))
    (problem,) = load_problems(f"mbpp:{path}").problems
    assert problem.question == (
        "Write a function that adds 2000 to its argument.\nYour code should pass these tests:\n"
        "assert plus(1) == 2001"
    )
    assert problem.completion.startswith('"""\nWrite a function') and "assert False" not in (
        problem.answer or ""
    )
