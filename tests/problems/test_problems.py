"""Where problems come from, what is kept of them, and what is said about input that can't be
used."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from decaylab.errors import UserError
from decaylab.problems import abacus
from decaylab.problems.generated import TEST_COUNT, TEST_SEED
from decaylab.problems.problem import BOXED_INSTRUCTION, Problem
from decaylab.problems.sets import load_problems

needs_gym = pytest.mark.skipif(
    importlib.util.find_spec("reasoning_gym") is None,
    reason='needs extra: pip install "decaylab[gym]"',
)
GSM8K_ROWS: list[dict[str, object]] = [
    {"question": "Four bags of 300?", "answer": "4*300 = <<4*300=1200>>1200.\n#### 1,200"},
    {"question": "Ten less three?", "answer": "10-3=7\n#### 7"},
]
MATH_ROWS: list[dict[str, object]] = [
    {
        "problem": "Halve $1$.",
        "solution": "s",
        "answer": "\\frac{1}{2}",
        "level": 1,
        "unique_id": "test/prealgebra/9.json",
    },
    {
        "problem": "Compute $2^3$.",
        "solution": "s",
        "answer": "8",
        "level": 2,
        "unique_id": "test/algebra/4.json",
    },
]


def write(path: Path, rows: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def refusal(spec: str, **options: object) -> str:
    """The message of the UserError, checked to be one line."""
    with pytest.raises(UserError) as caught:
        load_problems(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# abacus


def test_abacus_is_the_first_test_problems_of_the_generator() -> None:
    loaded = load_problems("abacus", limit=13)
    expected = abacus.generate(TEST_COUNT, seed=TEST_SEED, part="test")[12]
    last = loaded.problems[12]
    assert (last.problem_id, last.question, last.answer) == (
        "abacus-0-000012",
        expected.question,
        str(expected.answer),
    )
    assert last.steps == expected.steps
    assert (loaded.name, loaded.version, loaded.instruction) == ("abacus", abacus.VERSION, "")


def test_abacus_takes_100_problems_unless_told_otherwise_and_says_so() -> None:
    loaded = load_problems("abacus")
    assert len(loaded) == 100
    assert loaded.notes == (
        "the first 100 problems of 2000 are used; set another number with --limit",
    )
    assert load_problems("abacus", limit=100).notes == ()
    assert load_problems("abacus", limit=2000).problems[:100] == loaded.problems


def test_abacus_has_the_same_content_in_every_process() -> None:
    code = (
        "from decaylab.problems.sets import load_problems; print(load_problems('abacus', "
        "limit=20).content_hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert hashes == {load_problems("abacus", limit=20, seed=7).content_hash}
    assert hashes == {"e43d44c0a7033c5367546b638902253f9ede990603febc94e3541d6cc2b86937"}


def test_no_abacus_problem_is_both_asked_and_trained_on_by_students_or_by_the_pair() -> None:
    asked = load_problems("abacus", limit=TEST_COUNT).problems
    trained = load_problems("abacus-train").problems
    assert {abacus.part_of(problem.question) for problem in asked} == {"test"}
    assert {abacus.part_of(problem.question) for problem in trained} == {"train"}
    # What the pair was trained on: tests/data/test_abacus_recipe.py.


# Identity: hash, limit, ids


def test_content_hash_is_sha256_over_one_json_line_a_problem(tmp_path: Path) -> None:
    file = write(
        tmp_path / "mine.jsonl",
        [{"question": "Größe?", "answer": 2}, {"question": "B?", "answer": None}],
    )
    lines = '["row-000000","Gr\\u00f6\\u00dfe?","2"]\n["row-000001","B?",null]\n'
    assert load_problems(file).content_hash == hashlib.sha256(lines.encode()).hexdigest()


def test_content_hash_depends_on_order_ids_questions_answers_and_nothing_else(
    tmp_path: Path,
) -> None:
    rows: list[dict[str, object]] = [
        {"question": "A?", "answer": "1"},
        {"question": "B?", "answer": "2"},
    ]
    base = load_problems(write(tmp_path / "base.jsonl", rows))
    same = load_problems(write(tmp_path / "other.jsonl", [{**row, "level": 5} for row in rows]))
    assert same.content_hash == base.content_hash
    changed: list[list[dict[str, object]]] = [
        rows[::-1],
        [{**rows[0], "answer": "3"}, rows[1]],
        [{**rows[0], "question": "A ?"}, rows[1]],
        [{**rows[0], "id": "x"}, rows[1]],
        rows[:1],
    ]
    hashes = {load_problems(write(tmp_path / "changed.jsonl", one)).content_hash for one in changed}
    assert len(hashes) == len(changed)
    assert base.content_hash not in hashes


def test_limit_takes_the_first_rows_and_the_hash_is_of_those(tmp_path: Path) -> None:
    file = write(tmp_path / "gsm8k.jsonl", GSM8K_ROWS)
    limited = load_problems(file, limit=1)
    assert limited.problems == load_problems(file).problems[:1]
    assert (
        limited.content_hash
        == load_problems(write(tmp_path / "one.jsonl", GSM8K_ROWS[:1])).content_hash
    )
    assert len(load_problems(file, limit=10)) == 2


def test_repeated_ids_get_their_row_number_and_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"id": 7, "question": f"Q{i}?", "answer": i} for i in range(2)]
    loaded = load_problems(
        write(tmp_path / "mine.jsonl", [*rows, {"id": None, "question": "Q3?", "answer": 3}])
    )
    assert [one.problem_id for one in loaded.problems] == ["7", "7#000001", "row-000002"]
    assert loaded.notes == ("1 ids are duplicates: their row number was added",)


def test_a_repeated_question_is_kept_and_counted(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"question": "Q?", "answer": 1},
        {"question": "Q?", "answer": 1},
    ]
    loaded = load_problems(write(tmp_path / "mine.jsonl", rows))
    assert len(loaded) == 2
    assert loaded.notes == ("1 problems have the same question as an earlier one",)


# Columns and answers


def test_math500_columns_are_recognised_and_the_prefix_says_the_same(tmp_path: Path) -> None:
    file = write(tmp_path / "copy.jsonl", MATH_ROWS)
    found, told = load_problems(file), load_problems(f"math500:{file}")
    assert found.problems == told.problems
    assert (found.problems[0].problem_id, found.problems[0].answer) == (
        "test/prealgebra/9.json",
        "\\frac{1}{2}",
    )
    assert (found.name, told.name, told.version) == ("copy.jsonl", "math500", "local file")
    assert (told.instruction, told.answer_rule) == (BOXED_INSTRUCTION, "last_boxed")


def test_gsm8k_gold_is_what_follows_the_last_hashes_without_thousands_commas(
    tmp_path: Path,
) -> None:
    odd: dict[str, object] = {
        "question": "Odd?",
        "answer": "First #### 3, then\n#### -1,234,567.5 ",
    }
    bare: dict[str, object] = {"question": "Bare?", "answer": "7"}
    file = write(tmp_path / "copy.jsonl", [*GSM8K_ROWS, odd, bare])
    loaded = load_problems(file)
    assert [one.answer for one in loaded.problems] == ["1200", "7", "-1234567.5", None]
    assert loaded.without_gold == 1
    assert loaded.notes == ("1 of 4 problems have no gold answer",)
    assert loaded.problems == load_problems(f"gsm8k:{file}").problems
    assert loaded.problems[0].problem_id == "gsm8k-000000"


def test_a_gsm8k_column_that_the_caller_names_may_hold_the_bare_gold(tmp_path: Path) -> None:
    file = write(
        tmp_path / "copy.jsonl", [{"question": "Q?", "answer": "Thinking.", "gold": "1,200"}]
    )
    assert load_problems(f"gsm8k:{file}").without_gold == 1
    assert load_problems(f"gsm8k:{file}", columns={"answer": "gold"}).problems[0].answer == "1200"


def test_commas_of_an_ordinary_answer_are_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.jsonl", [{"question": "The point?", "answer": "(1,200)"}])
    assert load_problems(file).problems[0].answer == "(1,200)"


@pytest.mark.parametrize("name", ["problem", "question", "prompt"])
def test_usual_question_columns_are_found(tmp_path: Path, name: str) -> None:
    assert (
        load_problems(write(tmp_path / "a.jsonl", [{name: "Q?", "answer": 1}])).problems[0].question
        == "Q?"
    )


def test_a_column_map_goes_before_every_guess(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "problem": "no",
        "answer": "no",
        "unique_id": "no",
        "q": "Q?",
        "gold": "1 #### 2",
        "uid": 5,
    }
    file = write(tmp_path / "a.jsonl", [row])
    mapped = load_problems(file, columns={"question": "q", "answer": "gold", "id": "uid"}).problems[
        0
    ]
    assert (mapped.problem_id, mapped.question, mapped.answer) == ("5", "Q?", "1 #### 2")


def test_a_set_can_be_said_to_have_no_answers(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"question": "Q?"}])
    assert "no column 'answer' for the answer: found 'question'" in refusal(file)
    loaded = load_problems(file, columns={"answer": ""})
    assert (loaded.problems[0].answer, loaded.without_gold) == (None, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (12, "12"),
        (0, "0"),
        (2.5, "2.5"),
        (" x ", "x"),
        ("", None),
        (None, None),
        (float("nan"), None),
        (True, "True"),
    ],
)
def test_answers_become_text_and_only_absent_ones_are_none(
    tmp_path: Path, value: object, text: str | None
) -> None:
    assert (
        load_problems(write(tmp_path / "a.jsonl", [{"question": "Q?", "answer": value}]))
        .problems[0]
        .answer
        == text
    )


# Nested columns, wrapped answers, chats

VERL_ROWS: list[dict[str, object]] = [
    {
        "data_source": "math_dapo",
        "prompt": [{"role": "user", "content": f"{number} + 2?"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": str(number + 2), "style": "rule"},
        "extra_info": {"index": f"uid-{number}", "split": "train"},
    }
    for number in (1, 2)
]


def load_one(tmp_path: Path, row: dict[str, object], **options: object) -> Problem:
    return load_problems(write(tmp_path / "one.jsonl", [row]), **options).problems[0]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_verl_file_is_read_with_and_without_a_map(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"verl.{suffix}"
    if suffix == "jsonl":
        write(file, VERL_ROWS)
    else:
        pq.write_table(pa.Table.from_pylist(VERL_ROWS), file)
    loaded = load_problems(str(file))
    assert [
        (one.problem_id, one.question, one.answer, one.messages) for one in loaded.problems
    ] == [
        ("uid-1", "1 + 2?", "3", ()),
        ("uid-2", "2 + 2?", "4", ()),
    ]
    assert loaded.notes == ()
    columns = {
        "question": "prompt.0.content",
        "answer": "reward_model.ground_truth",
        "id": "extra_info.index",
    }
    assert load_problems(str(file), columns=columns).problems == loaded.problems
    assert load_problems(str(file), columns=columns).content_hash == loaded.content_hash


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        (
            {"question": "Q?", "final_answer": "7", "r1_solution_1": "s"},
            {"answer": "final_answer"},
            "row-000000",
        ),
        (
            {"source": "amc", "problem": "Q?", "solution": "s", "answer": "7"},
            {"question": "problem"},
            "row-000000",
        ),
        (
            {"ID": "2024-I-1", "Problem": "Q?", "Solution": "s", "Answer": 7},
            {"answer": "Answer"},
            "2024-I-1",
        ),
        ({"id": 60, "problem": "Q?", "solution": "s", "answer": "7"}, {"id": "id"}, "60"),
        ({"Id": 60, "PROBLEM": "Q?", "answer": "7"}, {"question": "PROBLEM"}, "60"),
    ],
    ids=["DeepMath", "NuminaMath", "AIME in capitals", "AIME", "AIME in other capitals"],
)
def test_usual_sets_are_read_with_and_without_a_map(
    tmp_path: Path, row: dict[str, object], columns: dict[str, str], expected: str
) -> None:
    found = load_one(tmp_path, row)
    assert (found.problem_id, found.question, found.answer) == (expected, "Q?", "7")
    assert load_one(tmp_path, row, columns=columns) == found


def test_columns_that_could_both_be_meant_are_refused(tmp_path: Path) -> None:
    both: dict[str, object] = {
        "question": "Q?",
        "final_answer": "7",
        "reward_model": {"ground_truth": "8"},
    }
    file = write(tmp_path / "a.jsonl", [both])
    assert (
        "has several columns for the answer: 'final_answer', 'reward_model.ground_truth'; set it"
        in refusal(file)
    )
    assert load_problems(file, columns={"answer": "final_answer"}).problems[0].answer == "7"
    assert "'Answer', 'ANSWER'" in refusal(
        write(tmp_path / "b.jsonl", [{"question": "Q?", "Answer": 1, "ANSWER": 2}])
    )
    assert load_one(tmp_path, {"question": "Q?", "Answer": 1, "answer": 2}).answer == "2"
    assert load_one(tmp_path, {**both, "answer": "9"}).answer == "9"


def test_a_column_whose_own_name_holds_the_dot_wins(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "question": "Q?",
        "a.b": "own",
        "a": {"b": "inside", "b.c": "dots", "l": [{"d": 5}]},
    }
    for path, value in (("a.b", "own"), ("a.b.c", "dots"), ("a.l.0.d", "5")):
        assert load_one(tmp_path, row, columns={"answer": path}).answer == value


def test_a_path_goes_through_json_text(tmp_path: Path) -> None:
    row: dict[str, object] = {"question": "Q?", "info": json.dumps({"gold": ["x", {"value": 3}]})}
    assert load_one(tmp_path, row, columns={"answer": "info.gold.1.value"}).answer == "3"


@pytest.mark.parametrize(
    "path", ["reward_model.truth", "prompt.1.content", "prompt.x", "ability.0", "reward_model."]
)
def test_a_path_that_leads_nowhere_is_refused_with_what_lies_inside(
    tmp_path: Path, path: str
) -> None:
    message = refusal(write(tmp_path / "verl.jsonl", VERL_ROWS), columns={"answer": path})
    assert (
        f"has no column {path!r} for the answer: found 'data_source', 'prompt', 'ability'"
        in message
    )
    assert "'reward_model.ground_truth', 'reward_model.style'" in message


def test_a_later_row_without_the_nested_value_has_no_gold(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        *VERL_ROWS,
        {**VERL_ROWS[0], "reward_model": None, "extra_info": None},
    ]
    loaded = load_problems(write(tmp_path / "verl.jsonl", rows))
    assert (loaded.problems[2].problem_id, loaded.problems[2].answer) == ("row-000002", None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"value": "136"}, "136"),
        (["136"], "136"),
        ([136], "136"),
        ('{"value": "136"}', "136"),
        ('["136"]', "136"),
        ({"value": ["136"], "unit": None}, "136"),
        ('{"value": 136}', "136"),
    ],
)
def test_a_wrapped_gold_answer_is_taken_out_and_counted(
    tmp_path: Path, value: object, text: str
) -> None:
    plain: dict[str, object] = {"question": "R?", "answer": "5"}
    loaded = load_problems(
        write(tmp_path / "a.jsonl", [{"question": "Q?", "answer": value}, plain])
    )
    assert [one.answer for one in loaded.problems] == [text, "5"]
    assert loaded.notes == ("1 of 2 gold answers were unwrapped from an object or list",)


@pytest.mark.parametrize("text", ["[5]", "[-2,7]", "{}", "{1, 2}", '["a", "b"]', "[a]", "{a: 1}"])
def test_gold_text_that_may_be_mathematics_is_kept(tmp_path: Path, text: str) -> None:
    loaded = load_problems(write(tmp_path / "a.jsonl", [{"question": "Q?", "answer": text}]))
    assert (loaded.problems[0].answer, loaded.notes) == (text, ())


@pytest.mark.parametrize("value", [[], {}, {"value": None}, [None]])
def test_an_empty_wrapping_holds_no_gold(tmp_path: Path, value: object) -> None:
    loaded = load_problems(write(tmp_path / "a.jsonl", [{"question": "Q?", "answer": value}]))
    assert (loaded.problems[0].answer, loaded.notes) == (
        None,
        ("1 of 1 problems have no gold answer",),
    )


@pytest.mark.parametrize(
    ("value", "inside"),
    [
        (
            {"value": 1, "unit": "m"},
            "column 'answer' has several values (answer.value, answer.unit)",
        ),
        (
            '{"value": 1, "unit": "m"}',
            "column 'answer' has several values (answer.value, answer.unit)",
        ),
        ([1, 2], "column 'answer' has several values (answer.0, answer.1)"),
        (
            {"gold": {"a": 1, "b": 2}},
            "column 'answer.gold' has several values (answer.gold.a, answer.gold.b)",
        ),
    ],
)
def test_an_object_without_a_single_value_names_the_column_to_map(
    tmp_path: Path, value: object, inside: str
) -> None:
    file = write(tmp_path / "a.jsonl", [{"question": "Q?", "answer": value}])
    message = refusal(file)
    assert message.startswith(f"{file}:1: {inside} instead of one gold answer")
    named = message.rpartition("--column answer=")[2]
    assert load_problems(file, columns={"answer": named}).problems[0].answer == "1"


def test_hashes_are_read_inside_a_wrapping_as_well(tmp_path: Path) -> None:
    row: dict[str, object] = {"question": "Q?", "answer": ["so\n#### 1,200"]}
    assert load_problems(f"gsm8k:{write(tmp_path / 'a.jsonl', [row])}").problems[0].answer == "1200"


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q?"}]


def test_a_chat_of_several_messages_is_kept_and_hashed(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": CHAT, "answer": 1}, {"prompt": "Q?", "answer": 1}]
    loaded = load_problems(write(tmp_path / "a.jsonl", rows))
    first, second = loaded.problems
    assert (first.question, first.messages) == ("Q?", (("system", "Be brief."), ("user", "Q?")))
    assert (second.question, second.messages) == ("Q?", ())
    assert loaded.notes == ("1 of 2 problems have a system message or several turns",)
    lines = (
        '["row-000000","Q?","1",[["system","Be brief."],["user","Q?"]]]\n["row-000001","Q?","1"]\n'
    )
    assert loaded.content_hash == hashlib.sha256(lines.encode()).hexdigest()


def test_turns_and_parts_of_text_are_read(tmp_path: Path) -> None:
    turns: list[dict[str, object]] = [
        {"role": "user", "content": "A?"},
        {"role": "assistant", "content": "B."},
        {"role": "user", "content": [{"type": "text", "text": "C"}, {"type": "text", "text": "?"}]},
    ]
    found = load_one(tmp_path, {"prompt": turns, "answer": 1})
    assert (found.question, found.messages) == (
        "C?",
        (("user", "A?"), ("assistant", "B."), ("user", "C?")),
    )
    assert load_one(tmp_path, {"prompt": turns[2:], "answer": 1}).messages == ()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "column 'prompt' must end with a message of role user, got no message"),
        ([*CHAT, {"role": "assistant", "content": "B."}], "role user, got system, user, assistant"),
        (["Q?"], "column 'prompt.0' must hold a chat message with role and content, got 'Q?'"),
        ([{"role": "user", "content": None}], "column 'prompt.0.content' must hold text, got None"),
        (
            [{"role": "user", "content": [{"type": "image"}]}],
            "column 'prompt.0.content' must hold text, got [{'type'",
        ),
        ([{"role": "user", "content": " "}], "column 'prompt' must hold the question, got ' '"),
    ],
)
def test_chats_that_ask_nothing_are_refused(tmp_path: Path, prompt: object, message: str) -> None:
    assert message in refusal(write(tmp_path / "a.jsonl", [{"prompt": prompt, "answer": 1}]))


def test_half_characters_inside_objects_are_mended_and_counted(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "prompt": [{"role": "user", "content": "Q\ud83d?"}],
        "answer": {"value": "\ud83d"},
    }
    loaded = load_problems(write(tmp_path / "a.jsonl", [row]))
    assert (loaded.problems[0].question, loaded.problems[0].answer) == ("Q\ufffd?", "\ufffd")
    assert loaded.notes[0].startswith("1 of 1 problems contain half a character")


# File formats


def test_jsonl_json_and_parquet_give_the_same_problems(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"question": "Q1?", "answer": 1},
        {"question": "Q2?", "answer": None},
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=2))
    (tmp_path / "b.json").write_text(
        "\n".join(json.dumps(row) for row in rows)
    )  # JSON lines by another name
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    expected = load_problems(write(tmp_path / "a.jsonl", rows)).problems
    for name in ("a.json", "b.json", "a.parquet"):
        assert load_problems(str(tmp_path / name)).problems == expected, name


def test_a_byte_order_mark_and_blank_lines_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '\ufeff{"question": "Q?", "answer": 1}\n\n\n{"question": "R?", "answer": 2}\n'
    )
    assert [one.question for one in load_problems(str(tmp_path / "a.jsonl")).problems] == [
        "Q?",
        "R?",
    ]


# Bad input


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"question": "R?", "answer": 2',
            ":3: not JSON (Expecting ',' delimiter: line 2 column 1",
        ),
        ("[1, 2]", ":3: must be an object with a question and an answer, got list"),
        ('{"question": 5, "answer": 2}', ":3: column 'question' must hold the question, got 5"),
        (
            '{"question": " ", "answer": 2}',
            ":3: column 'question' must hold the question, got ' '",
        ),
        ('{"answer": 2}', ":3: column 'question' must hold the question, got None"),
        ('{"question": "R?", "answer": [1, 2]}', ":3: column 'answer' has several values"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text('{"question": "Q?", "answer": 1}\n\n' + line + "\n")
    assert f"{file}{message}" in refusal(str(file))


def test_an_id_must_be_text_or_a_number(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"question": "Q?", "answer": 1, "id": {"n": 1}}])
    assert ":1: column 'id' must hold text or a number, got {'n': 1}" in refusal(file)


def test_dates_are_no_gold_answers(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"question": ["Q?"], "answer": [[datetime(2024, 1, 1)]]}), tmp_path / "a.parquet"
    )
    assert "column 'answer.0' must hold text or a number, got datetime" in refusal(
        str(tmp_path / "a.parquet")
    )


def test_bad_json_and_parquet_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"question": "Q?",\n "answer": }]')
    assert "a.json: not JSON (Expecting value: line 2 column 12" in refusal(
        str(tmp_path / "a.json")
    )
    pq.write_table(pa.table({"question": ["Q?"], "answer": ["1"]}), tmp_path / "a.parquet")
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(whole[: len(whole) // 2])
    assert "not a readable parquet file (truncated?)" in refusal(str(tmp_path / "a.parquet"))
    (tmp_path / "a.jsonl").write_bytes(b'{"question": "\xff"}')
    assert "not UTF-8" in refusal(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    assert refusal(str(tmp_path / "a.jsonl")).endswith("has no problems: it is empty")


def test_a_missing_column_says_what_was_found_wanted_and_how_to_map(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"q": "Q?", "gold": 1}])
    assert refusal(file) == (
        f"{file} has no column 'problem' or 'question' or 'prompt' for the question: "
        "found 'q', 'gold'; set it with --column question=NAME"
    )
    assert "has no column 'uid' for the id" in refusal(
        file, columns={"question": "q", "answer": "gold", "id": "uid"}
    )
    assert "must map question, answer or id, got prompt" in refusal(file, columns={"prompt": "q"})


def test_unknown_sets_and_files_are_refused_with_what_there_is(tmp_path: Path) -> None:
    assert "did you mean math500? give abacus, abacus-train, math500, gsm8k, humaneval" in refusal(
        "math5000"
    )
    assert refusal(str(tmp_path / "no.jsonl")).startswith("no such file")
    assert refusal(f"math500:{tmp_path / 'no.jsonl'}").startswith("no such file")
    assert "is a folder" in refusal(str(tmp_path))
    (tmp_path / "a.csv").write_text("question,answer\n")
    assert "suffix '.csv'; problems are read from .parquet, .jsonl, .json" in refusal(
        str(tmp_path / "a.csv")
    )


def test_limits_outside_the_set_are_refused() -> None:
    assert "at least 1, got 0" in refusal("abacus", limit=0)
    assert "at least 1, got -3" in refusal("abacus", limit=-3)
    assert "abacus has 2000 test problems, got a limit of 2001" in refusal("abacus", limit=2001)


def test_options_without_meaning_for_the_set_are_refused_rather_than_ignored(
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "a.jsonl", GSM8K_ROWS)
    assert "is generated, so it has no revision; leave revision out" in refusal(
        "abacus", revision="main"
    )
    assert "is a local file, so it has no split; leave split out" in refusal(file, split="test")
    assert "is generated, so it has no columns" in refusal(
        "gym:chain_sum", columns={"question": "q"}
    )


# reasoning-gym


@needs_gym
def test_gym_problems_follow_task_size_and_seed() -> None:
    first, again = (
        load_problems("gym:chain_sum", limit=5, seed=3),
        load_problems("gym:chain_sum", limit=5, seed=3),
    )
    assert first == again
    assert [one.problem_id for one in first.problems[:2]] == [
        "chain_sum-3-000000",
        "chain_sum-3-000001",
    ]
    assert first.version.startswith("reasoning-gym ") and first.version.endswith(", seed 3")
    assert first.content_hash != load_problems("gym:chain_sum", limit=5, seed=4).content_hash
    assert load_problems("gym:chain_sum", limit=3, seed=3).problems == first.problems[:3]


@needs_gym
def test_gym_answers_are_right_on_a_task_that_can_be_recomputed() -> None:
    for one in load_problems("gym:chain_sum", limit=20).problems:
        expression = one.question.rsplit(":", 1)[1].rstrip(" =.")
        assert one.answer == str(eval(expression)), one.question  # digits, plus and minus only


@needs_gym
def test_gym_problems_without_a_gold_answer_are_counted() -> None:
    assert load_problems("gym:rush_hour", limit=2).without_gold == 2
    assert "2 of 2 problems have no gold answer" in load_problems("gym:rush_hour", limit=2).notes
    assert "can't make 100 problems of composite" in refusal("gym:composite")


@needs_gym
def test_an_unknown_gym_task_is_refused_with_close_ones() -> None:
    message = refusal("gym:chain_sums")
    assert "no task 'chain_sums'" in message and "chain_sum" in message.split("; try")[1]


def test_without_reasoning_gym_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    assert 'pip install "decaylab[gym]"' in refusal("gym:chain_sum")
