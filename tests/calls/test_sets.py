"""The leaderboard's rows become problems; a row that cannot be used is named."""

from __future__ import annotations

from typing import Any

import pytest

from decaylab.calls.judging import judge
from decaylab.calls.sets import problem
from decaylab.errors import UserError

FLY = {
    "name": "fly",
    "description": "Fly.",
    "parameters": {"type": "dict", "properties": {"to": {"type": "string"}}, "required": ["to"]},
}
OF_DICTIONARIES = {
    "name": "fly",
    "parameters": {
        "properties": {
            "seat": {"type": ["dict", "null"]},
            "bags": {"type": "array", "items": {"type": "object"}},
            "note": {"type": "any"},
        },
    },
}
TURN = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "To Oslo."}]
ANSWER = {"id": "parallel_0", "ground_truth": [{"fly": {"to": ["Oslo"]}}]}


def question(number: int = 0, **columns: Any) -> dict[str, Any]:
    return {"id": f"parallel_{number}", "question": [TURN], "function": [FLY]} | columns


@pytest.mark.parametrize("value", ["To Oslo.", TURN[1:], [TURN[1:]]])
def test_a_question_is_a_turn_its_messages_or_a_text(value: Any) -> None:
    messages, _ = problem(question(question=value), ANSWER, "parallel")
    assert messages == TURN[1:]


@pytest.mark.parametrize(
    ("row", "answer", "message"),
    [
        ({"question": [TURN, TURN]}, ANSWER, "row parallel_0: column 'question' has 2 turns"),
        ({"question": []}, ANSWER, "column 'question' must hold messages"),
        ({"question": ""}, ANSWER, "row parallel_0: column 'question' is empty"),
        ({"question": [[{"role": "user", "content": " \n"}]]}, ANSWER, "'question' is empty"),
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
        (
            {"function": [OF_DICTIONARIES]},
            {"ground_truth": [{"fly": {"seat": [{"row": 3}]}}]},
            "a list of alternatives for each key of a dictionary, got {'row': 3} for seat",
        ),
        (
            {"function": [OF_DICTIONARIES]},
            {"ground_truth": [{"fly": {"bags": ["", [{"kg": [8]}, {"kg": 8}]]}}]},
            "a list of alternatives for each key of a dictionary, got .* for bags",
        ),
        ({}, {"ground_truth": [{"walk": {}}]}, r"expects walk.*does not offer \(fly\)"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_column(
    row: dict[str, Any], answer: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        problem(question(**row), answer, "parallel")
    assert "\n" not in str(refused.value)


def test_only_dictionaries_that_are_compared_key_by_key_need_alternatives() -> None:
    answer = {"ground_truth": [{"fly": {"seat": [{"row": [3]}, None], "note": [{"text": "x"}]}}]}
    _, judged = problem(question(function=[OF_DICTIONARIES]), answer, "parallel")
    response = "[fly(seat={'row': 3}, note={'text': 'x'})]"
    assert judge("full", response, judged.text()).verdict == "correct"
