"""Responses of files in the student's ids: ids before text, end tokens that somebody wrote,
thoughts and turns by template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rollouts_of import (
    CHATML,
    OPENS,
    ROW,
    THINKS,
    abacus,
    chatml,
    of_bytes,
    read,
    responses,
    written,
)
from tiny_models import byte_tokenizer
from tokenizers import normalizers

from decaylab.errors import UserError
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.problems.answers import ANSWER_RULES
from decaylab.problems.problem import Problem
from decaylab.rollout_files.grades import verdicts
from decaylab.rollout_files.responses import Response
from decaylab.rollout_files.table import to_table
from decaylab.runs.graded import Judge

END = 1  # of the embedded pair
SEQUENCE_END, TURN_END = 1, 3  # of the students over bytes
FORGETS = CHATML.replace(
    "{{ m.content }}", "{{ m.content if loop.last or m.role != 'assistant' else m.content[:1] }}"
)
"""Shortens earlier turns, as templates do that drop their thoughts."""
BOTH = THINKS.replace("{% if enable_thinking", "<think>\n{% if false and enable_thinking")
"""Keeps thoughts, and opens one in every prompt."""
CALLS = CHATML.replace(
    "{{ m.content }}",
    "{{ m.content }}{% for c in m.tool_calls %}<call>{{ c.function.name }}{% endfor %}",
)


def one(
    tmp_path: Path, row: dict[str, Any], student: Policy | None = None, **settings: Any
) -> Response:
    (found,), _ = responses(written(tmp_path / "theirs.jsonl", ROW | row), student, **settings)
    return found


def notes(tmp_path: Path, *rows: dict[str, Any], student: Policy | None = None) -> list[str]:
    _, encoder = responses(
        written(tmp_path / "theirs.jsonl", *(ROW | row for row in rows)), student
    )
    return list(encoder.notes("theirs.jsonl"))


def bytes_of(text: str) -> list[int]:
    """Ids of a text without marks, by the order of a byte tokenizer's alphabet."""
    return list(
        byte_tokenizer(CHATML, special=("a", "b", "c", "d", "e")).encode(
            text, add_special_tokens=False
        )
    )


# End tokens


@pytest.mark.parametrize(
    "row, ids, stop",
    [
        ({"finish_reason": "stop"}, [24, 15, 23, 33, 27, END], "eos"),
        ({"finish_reason": "length"}, [24, 15, 23, 33, 27], "length"),
        ({"finish_reason": {"type": "length"}}, [24, 15, 23, 33, 27], "length"),
        ({"finish_reason": None, "truncated": True}, [24, 15, 23, 33, 27], "length"),
        ({"finish_reason": "MAX_TOKENS"}, [24, 15, 23, 33, 27], "length"),
        ({"finish_reason": None, "stop_reason": "length"}, [24, 15, 23, 33, 27], "length"),
        ({"finish_reason": "loop"}, [24, 15, 23, 33, 27], "other"),
        ({"finish_reason": None}, [24, 15, 23, 33, 27], "unknown"),
        ({"finish_reason": None, "response": "4+3=7<|end|>"}, [24, 15, 23, 33, 27, END], "eos"),
        ({"finish_reason": "stop", "response": "4+3=7<|end|>"}, [24, 15, 23, 33, 27, END], "eos"),
        (
            {"finish_reason": "stop", "response": "4+3=7<|end|><|end|><|pad|>"},
            [24, 15, 23, 33, 27, END],
            "eos",
        ),
        ({"finish_reason": "stop", "response": ""}, [END], "eos"),
        ({"finish_reason": "length", "response": ""}, [], "length"),
    ],
)
def test_a_text_is_closed_once_where_it_ended_and_never_where_it_was_cut(
    row: dict[str, Any], ids: list[int], stop: str, tmp_path: Path
) -> None:
    """By hand: 4 is id 24, + 15, 3 23, = 33, 7 27."""
    text = "" if row.get("response") == "" else "4+3=7"
    assert one(tmp_path, row) == Response(ids, text, stop)


@pytest.mark.parametrize(
    "option, ids, stop", [("natural", [27, END], "eos"), ("cut-off", [27], "length")]
)
def test_the_option_says_how_rollouts_ended_that_do_not(
    option: str, ids: list[int], stop: str, tmp_path: Path
) -> None:
    row = {"response": "7", "finish_reason": None}
    assert one(tmp_path, row, no_stop_reason=option) == Response(ids, "7", stop)
    assert (
        one(
            tmp_path, {"response": "7", "finish_reason": "length"}, no_stop_reason=option
        ).stop_reason
        == "length"
    )


@pytest.mark.parametrize(
    "row, end",
    [
        ({"finish_reason": "stop"}, TURN_END),  # the template's, not the smaller one
        ({"finish_reason": "stop", "stop_reason": SEQUENCE_END}, SEQUENCE_END),  # vLLM names it
        ({"finish_reason": {"type": "stop", "matched": SEQUENCE_END}}, SEQUENCE_END),  # and SGLang
        (
            {"finish_reason": "stop", "stop_reason": "<|endoftext|>"},
            SEQUENCE_END,
        ),  # as a stop string of the caller's
        ({"finish_reason": {"type": "stop", "matched": "<|im_end|>"}}, TURN_END),
        (
            {"finish_reason": "stop", "stop_reason": 2, "response": None, "response_ids": [27, 2]},
            2,
        ),  # a control token
        ({"finish_reason": "stop", "response": "7<|endoftext|>"}, SEQUENCE_END),
        ({"finish_reason": "stop", "response": "7<|im_end|><|endoftext|>"}, TURN_END),
        (
            {"finish_reason": "stop", "response": None, "response_ids": [27, SEQUENCE_END]},
            SEQUENCE_END,
        ),
        ({"finish_reason": "stop", "response": None, "response_ids": [27, TURN_END]}, TURN_END),
        ({"finish_reason": "stop", "response": None, "response_ids": [27]}, TURN_END),
    ],
)
def test_of_two_end_ids_the_one_that_was_written_closes_a_rollout(
    row: dict[str, Any], end: int, tmp_path: Path
) -> None:
    assert chatml().end_ids == {SEQUENCE_END, TURN_END}
    found = one(tmp_path, {"response": "7"} | row, chatml())
    assert (found.ids[-1], found.stop_reason) == (end, "eos")
    assert not {SEQUENCE_END, TURN_END} & set(found.ids[:-1])


def test_what_stands_behind_an_end_of_turn_is_cut_off_and_counted(tmp_path: Path) -> None:
    row = {"response": "4+3=7<|end|><|user|>More?"}
    assert one(tmp_path, row) == Response([24, 15, 23, 33, 27, END], "4+3=7", "eos")
    assert (
        "theirs.jsonl: 1 of 2 responses continue after an end-of-turn token: they were cut there"
        in notes(tmp_path, row, {})
    )


def test_no_token_of_the_beginning_stands_in_a_response(tmp_path: Path) -> None:
    student = of_bytes("{{ bos_token }}" + CHATML, adds_bos=True)
    assert one(tmp_path, {"response": "7"}, student).ids == [*bytes_of("7"), TURN_END]


# Token ids


def test_ids_are_taken_before_their_text(tmp_path: Path) -> None:
    """One id a letter, where the tokenizer would write a word as one: the file's ids stay."""
    text = "add three"
    merged = abacus().encode(text)
    apart = [token for letter in text for token in abacus().encode(letter)]
    assert len(apart) > len(merged) and abacus().decode(apart) == text
    found = one(tmp_path, {"response": text, "response_ids": apart})
    assert found == Response([*apart, END], text, "eos")
    said = notes(tmp_path, {"response": text, "response_ids": apart}, {})
    assert said == [
        "theirs.jsonl: 1 of 2 responses use the token ids of the file",
        "theirs.jsonl: 1 of 2 responses were encoded from their text: their ids may differ from "
        "the sampled ones",
        "theirs.jsonl: 1 of 2 responses ended naturally without an end-of-turn token in the file: "
        "it was added",
    ]


def test_ids_behind_the_end_of_turn_are_padding(tmp_path: Path) -> None:
    row = {"response": None, "response_ids": [24, END, 0, 0, END], "finish_reason": None}
    assert one(tmp_path, row) == Response([24, END], "4", "eos")
    assert not any("continue after" in note for note in notes(tmp_path, row))


def test_ids_that_were_cut_off_stay_open_whatever_their_text(tmp_path: Path) -> None:
    row = {"response": "4+3=7", "response_ids": [24, 15, 23, 33, 27], "finish_reason": "length"}
    assert one(tmp_path, row) == Response([24, 15, 23, 33, 27], "4+3=7", "length")


def test_a_few_ids_that_read_otherwise_than_their_text_are_counted_and_many_are_refused(
    tmp_path: Path,
) -> None:
    good = {"response": "4+3=7", "response_ids": [24, 15, 23, 33, 27, END]}
    bad = good | {"response": "5+3=8"}
    said = "1 of 3 responses have token ids that differ from their text: the ids are used"
    assert f"theirs.jsonl: {said}" in notes(tmp_path, good, good, bad)
    assert not any(
        "differ from" in note for note in notes(tmp_path, good, good | {"response": "4+3=7<|end|>"})
    )
    path = written(tmp_path / "theirs.jsonl", ROW | good, ROW | bad, ROW | bad)
    with pytest.raises(UserError) as error:
        responses(path)
    assert str(error.value) == (
        f"{path}:2: 2 of 3 responses have token ids that abacus-student decodes to a different "
        "text: give the student that wrote them, or leave the ids out"
    )


def test_ids_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    other = of_bytes(CHATML, shift=40)
    path = written(
        tmp_path / "theirs.jsonl",
        ROW | {"response": "It is 7.", "response_ids": other.encode("It is 7.")},
    )
    assert responses(path, other)[0][0].text == "It is 7."
    with pytest.raises(
        UserError,
        match="1 of 1 responses have token ids that abacus-student decodes to a different text",
    ):
        responses(path)


# Text


def test_a_text_that_changes_on_the_way_through_the_tokenizer_is_counted(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer(
        CHATML, special=("<|pad|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|bos|>")
    )
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    student = Policy(
        "low", None, tokenizer, PolicyIdentity("low", "folder", "", ""), LoadSettings()
    )
    said = notes(tmp_path, {"response": "It is 7."}, {"response": "it is 7."}, student=student)
    assert "theirs.jsonl: 1 of 2 responses change when encoded and decoded" in said
    assert not any(
        "change when" in note for note in notes(tmp_path, {"response": "Ünï 😀 \t\n it"})
    )


def test_empty_responses_stay_and_are_counted(tmp_path: Path) -> None:
    path = written(
        tmp_path / "theirs.jsonl", ROW, ROW | {"response": "", "finish_reason": "length"}
    )
    found, encoder = responses(path)
    assert [len(each.ids) for each in found] == [6, 0] and read(path).counts.empty == 1
    assert "theirs.jsonl: 1 of 2 responses are empty" in list(encoder.notes("theirs.jsonl"))


# Thoughts


@pytest.mark.parametrize(
    "template, text",
    [
        (THINKS, "<think>\n4 and 3.\n</think>\n\nIt is 7."),
        (CHATML + "{# <think> and </think> #}", "<think>\n4 and 3.\n</think>\n\nIt is 7."),
        (BOTH, "4 and 3.\n</think>\n\nIt is 7."),
        (
            OPENS + "{# </think> #}",
            "4 and 3.\n</think>\n\nIt is 7.",
        ),  # the prompt holds the opening mark
        (
            THINKS.replace("<think>", "[THINK]").replace("</think>", "[/THINK]"),
            "[THINK]\n4 and 3.\n[/THINK]\n\nIt is 7.",
        ),
    ],
)
def test_a_thought_that_is_kept_apart_is_joined_as_the_template_writes_it(
    template: str, text: str, tmp_path: Path
) -> None:
    row = {"response": "It is 7.", "reasoning_content": "4 and 3."}
    student = of_bytes(template)
    found = one(tmp_path, row, student)
    assert found == Response([*student.encode(text), TURN_END], text, "eos")
    said = "1 of 1 responses were joined from thought and answer with the chat template"
    assert f"theirs.jsonl: {said}" in notes(tmp_path, row, student=student)


def test_a_thought_of_a_student_without_thoughts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        one(tmp_path, {"response": "It is 7.", "reasoning_content": "4 and 3."})
    assert str(error.value) == (
        f"{tmp_path / 'theirs.jsonl'}:1: the row has a separate thought, but neither the "
        "template nor the tokenizer of abacus-student has thought marks to join it with"
    )


# Turns

TURNS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "Call add."},
    {"role": "tool", "content": "It says 7."},
    {"role": "assistant", "content": "7"},
]
OWN, TOOL, LAST = (
    "Call add.<|im_end|>",
    "\n<|im_start|>tool\nIt says 7.<|im_end|>\n<|im_start|>assistant\n",
    "7<|im_end|>",
)


def masked(student: Policy, *pieces: tuple[str, int]) -> tuple[list[int], list[int]]:
    ids, mask = list[int](), list[int]()
    for text, own in pieces:
        new = student.encode(text)
        ids, mask = ids + new, mask + [own] * len(new)
    return ids, mask


@pytest.mark.parametrize("template", [CHATML, THINKS, "{{ bos_token }}" + CHATML])
def test_turns_are_written_as_the_template_writes_them_and_only_the_students_count(
    template: str, tmp_path: Path
) -> None:
    student = of_bytes(template, adds_bos="bos" in template, thinking="on")
    ids, mask = masked(student, (OWN, 1), (TOOL, 0), (LAST, 1))
    found = one(tmp_path, {"response": TURNS}, student)
    assert found == Response(ids, "Call add.\n7", "eos", mask)
    assert sum(mask) == len("Call add.") + 1 + len("7") + 1
    said = notes(tmp_path, {"response": TURNS}, student=student)
    assert (
        "theirs.jsonl: 1 of 1 responses were joined from several turns with the chat template"
        in said
    )
    assert any(
        "contain text that the student did not write (tools, users): it is not measured" in one
        for one in said
    )


@pytest.mark.parametrize(
    "stop, reason", [("length", "length"), (None, "unknown"), ("loop", "other")]
)
def test_a_last_turn_that_was_cut_off_stays_open(stop: Any, reason: str, tmp_path: Path) -> None:
    ids, mask = masked(chatml(), (OWN, 1), (TOOL, 0), ("7", 1))
    found = one(tmp_path, {"response": TURNS, "finish_reason": stop}, chatml())
    assert found == Response(ids, "Call add.\n7", reason, mask)


def test_what_was_said_to_the_student_last_and_not_answered_is_no_part_of_the_rollout(
    tmp_path: Path,
) -> None:
    ids, _ = masked(chatml(), (OWN, 1))
    for stop in (
        "stop",
        "length",
        None,
    ):  # a turn that was answered ended, whatever ended the rollout
        row = {"response": TURNS[:2], "finish_reason": stop}
        assert one(tmp_path, row, chatml()) == Response(ids, "Call add.", "eos")


def test_thoughts_and_calls_of_a_turn_are_the_students_own(tmp_path: Path) -> None:
    student = of_bytes(THINKS, thinking="on")
    thinking = [TURNS[0] | {"reasoning_content": "Hm."}, *TURNS[1:]]
    ids, mask = masked(student, ("<think>\nHm.\n</think>\n\n" + OWN, 1), (TOOL, 0), (LAST, 1))
    assert one(tmp_path, {"response": thinking}, student).ids == ids
    assert one(tmp_path, {"response": thinking}, student).mask == mask
    calling = [
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "add"}}]},
        *TURNS[1:],
    ]
    student = of_bytes(CALLS)
    ids, mask = masked(student, ("<call>add<|im_end|>", 1), (TOOL, 0), (LAST, 1))
    assert (
        one(tmp_path, {"response": calling}, student).ids,
        one(tmp_path, {"response": calling}, student).mask,
    ) == (
        ids,
        mask,
    )


def test_a_template_that_rewrites_earlier_turns_cannot_write_them(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match="changes earlier turns when another follows; give token ids with a response_mask",
    ):
        one(tmp_path, {"response": TURNS}, of_bytes(FORGETS))
    refusing = "{{ raise_exception('only one turn') if messages | length > 2 }}" + CHATML
    with pytest.raises(
        UserError, match="the chat template of some/model refuses these turns: only one turn"
    ):
        one(tmp_path, {"response": TURNS}, of_bytes(refusing))


@pytest.mark.parametrize(
    "ids, mask, stop, kept, own, text",
    [
        (
            [24, END, 3, 23, 4, 27, END],
            [1, 1, 0, 0, 0, 1, 1],
            "stop",
            7,
            [1, 1, 0, 0, 0, 1, 1],
            "47",
        ),
        ([24, END, 3, 23, 4, 27], [1, 1, 0, 0, 0, 1], "length", 6, [1, 1, 0, 0, 0, 1], "47"),
        ([24, END, 3, 23], [1, 1, 0, 0], "length", 2, None, "4"),  # it never answered
        ([24, 27, END], [1, 1, 1], "stop", 3, None, "47"),
    ],
)
def test_a_mask_of_the_file_says_what_the_student_wrote(
    ids: list[int],
    mask: list[int],
    stop: str,
    kept: int,
    own: list[int] | None,
    text: str,
    tmp_path: Path,
) -> None:
    row = {"response": None, "response_ids": ids, "response_mask": mask, "finish_reason": stop}
    ended = kept > 0 and ids[kept - 1] == END
    assert one(tmp_path, row) == Response(ids[:kept], text, "eos" if ended else stop, own)
    as_flags = row | {"response_mask": [bool(each) for each in mask]}
    assert one(tmp_path, as_flags) == one(tmp_path, row)


def test_an_end_that_the_ids_of_turns_lack_is_added_as_the_students_own(tmp_path: Path) -> None:
    row = {
        "response": None,
        "response_ids": [24, END, 3, 27],
        "response_mask": [1, 1, 0, 1],
        "finish_reason": "stop",
    }
    assert one(tmp_path, row) == Response([24, END, 3, 27, END], "47", "eos", [1, 1, 0, 1, 1])


# The table


def test_rollouts_become_rows_in_the_order_of_the_problems_with_the_files_verdicts(
    tmp_path: Path,
) -> None:
    lines = [
        {"problem_id": "b", "response": "8", "finish_reason": "stop", "correct": True},
        {"problem_id": "a", "response": "4+3=7", "finish_reason": "length", "correct": False},
        {"problem_id": "a", "response": "7", "correct": None},
        {"problem_id": "c", "response": "9", "correct": True},
    ]
    found = read(
        written(tmp_path / "theirs.jsonl", *lines),
        wanted={name: (f"What is {name}, in all?",) for name in "ab"},
    )
    problems = [Problem("a", "4 + 3?", "7"), Problem("b", "4 + 4?", "8")]
    judge = Judge(
        lambda texts, answers: {f"grade_{rule}": ["wrong"] * len(texts) for rule in ANSWER_RULES},
        *(ANSWER_RULES, {"a": "7", "b": "8"}, {"student": abacus()}),
    )
    table, said = to_table(found, problems, abacus(), judge, {"a": (5, 6), "b": (5,)})
    rows = table.to_pylist()
    assert [row["rollout_id"] for row in rows] == ["student/a/0", "student/a/1", "student/b/0"]
    assert [row["response_ids"] for row in rows] == [[24, 15, 23, 33, 27], [27], [28, END]]
    assert [row["stop_reason"] for row in rows] == ["length", "unknown", "eos"]
    assert [row["file_grade"] for row in rows] == ["wrong", None, "correct"]
    assert [row["prompt_ids"] for row in rows] == [[5, 6], [5, 6], [5]]
    assert {row["engine"] for row in rows} == {"external"} and all(
        row["response_mask"] is None for row in rows
    )
    assert (
        "theirs.jsonl: 1 of 3 rollouts have no stop reason: they get no end-of-turn token, and do "
        "not count as natural stops" in said
    )
    assert "the file's own grade, correct, is shown as answer rule file" in said


@pytest.mark.parametrize(
    "grades, taken, told",
    [
        (
            [{"correct": True}, {"correct": False}],
            ["correct", "wrong"],
            "own grade, correct, is shown",
        ),
        ([{"reward": 1.0}, {"reward": 0.0}], ["correct", "wrong"], "own grade, reward, is shown"),
        ([{"score": 1}, {"score": -1}], ["correct", "wrong"], "own grade, score, is shown"),
        ([{"score": "C"}, {"score": "I"}], ["correct", "wrong"], "own grade, score, is shown"),
        ([{"score": "C"}, {"score": "N"}], ["correct", "no_answer"], "own grade, score, is shown"),
        (
            [{"reward": 1.0, "acc": 0.0}, {"reward": 1.0, "acc": 1.0}],
            ["wrong", "correct"],
            "own grade, acc, is shown",
        ),
        (
            [{"reward": 0.0, "acc": 0.5}, {"reward": 1.0, "acc": 1.0}],
            ["wrong", "correct"],
            "unused grades of the file: acc",
        ),
        (
            [{"reward": 0.25}, {"reward": 1.0}],
            [None, None],
            "not verdicts and are not used: reward",
        ),
        ([{"correct": True}, {}], ["correct", None], "own grade, correct, is shown"),
        ([{}, {}], [None, None], None),
    ],
)
def test_a_grade_of_the_file_is_a_verdict_where_all_of_its_values_are(
    grades: list[dict[str, Any]], taken: list[str | None], told: str | None, tmp_path: Path
) -> None:
    path = written(tmp_path / "theirs.jsonl", *(ROW | grade for grade in grades))
    found, said = verdicts(read(path).rollouts)
    assert found == taken
    assert (told is None and not said) or any(str(told) in one for one in said)
