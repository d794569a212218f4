"""The first turn of each conversation becomes a prompt; a row that gives none says why.

The rows are stand-ins: they have the look of the data set's card, which could not be reached.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import write_lines

from decaylab.calls.glaive import Prompt, prompt
from decaylab.calls.reading import Call, read_calls
from decaylab.errors import UserError
from decaylab.problems.sets import load_problems

HELPFUL = "SYSTEM: You are a helpful assistant"
ACCESS = f"{HELPFUL} with access to the following functions. Use them if required -\n"
RATE = """{
    "name": "get_exchange_rate",
    "description": "Get the exchange rate between two currencies",
    "parameters": {
        "type": "object",
        "properties": {
            "base": {"type": "string", "description": "The currency to convert from: {EUR}"},
            "target": {"type": "string"}
        },
        "required": ["base", "target"]
    }
}"""
NEWS = '{"name": "get_news", "description": "News", "parameters": {}}'
ARGUMENTS = '{"base": "USD", "target": "EUR"}'
CALL = f'<functioncall> {{"name": "get_exchange_rate", "arguments": \'{ARGUMENTS}\'}}'
CHAT = (
    "USER: How much is a dollar in euro?\nUSD, please.\n\n\n"
    f"ASSISTANT: {CALL} <|endoftext|>\n\n\n"
    'FUNCTION RESPONSE: {"rate": 0.9}\n\n\n'
    "ASSISTANT: 0.90 euro. <|endoftext|>\n\n\nUSER: Thanks!\n\n\nASSISTANT: Welcome. <|endoftext|>"
)


def read(system: str = ACCESS + RATE + "\n\n", chat: str = CHAT) -> Prompt | None:
    return prompt({"system": system, "chat": chat}, "train:7")


def names(found: Prompt | None) -> list[str]:
    assert found is not None
    return [one["name"] for one in found.functions]


def test_the_first_turn_and_the_functions_are_the_prompt() -> None:
    found = read()
    assert found is not None
    assert found.messages == [
        {"role": "user", "content": "How much is a dollar in euro?\nUSD, please."}
    ]
    (function,) = found.functions
    assert function["name"] == "get_exchange_rate"
    assert list(function["parameters"]["properties"]) == ["base", "target"]
    assert names(read(ACCESS + RATE + "\n\n" + NEWS)) == ["get_exchange_rate", "get_news"]


def test_another_system_text_stays_and_a_list_of_functions_is_read() -> None:
    found = read(f"SYSTEM: Answer in French. [{NEWS}]", "USER: Hi")
    assert found is not None and found.messages == [
        {"role": "system", "content": "Answer in French."},
        {"role": "user", "content": "Hi"},
    ]
    assert names(found) == ["get_news"]


def test_only_the_words_of_the_first_turn_are_the_question() -> None:
    for chat in ("USER: Hi, news? <|endoftext|>\n\n\nASSISTANT: No.", "USER:  Hi, news? \n\n"):
        found = read(f"SYSTEM:\n{NEWS}", chat)
        assert found is not None
        assert found.messages == [{"role": "user", "content": "Hi, news?"}]


def test_the_calls_of_its_answers_can_be_read() -> None:
    assert read_calls(f"{CALL} <|endoftext|>") == [
        Call("get_exchange_rate", {"base": "USD", "target": "EUR"})
    ]


def test_a_row_that_offers_no_functions_gives_no_prompt() -> None:
    for system in (f"{HELPFUL}, with no access to external functions.", HELPFUL, ""):
        assert read(system, "USER: Hi\n\n\nASSISTANT: Hi") is None


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"chat": "ASSISTANT: Hi"}, "train:7: column 'chat' does not begin with USER:, got 'ASS"),
        ({"chat": "Hello"}, "train:7: column 'chat' does not begin with USER:, got 'Hello'"),
        ({"chat": "USER: \nASSISTANT: Hi"}, "train:7: column 'chat' has an empty first turn"),
        ({"chat": None}, "train:7: column 'chat' must hold text, .*got None"),
        ({"system": ACCESS + RATE[:-3]}, "train:7: column 'system': not JSON"),
        ({"system": '{"description": "News"}'}, "train:7: column 'system', .* name must be text"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_place(
    columns: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        prompt({"system": ACCESS + RATE, "chat": CHAT} | columns, "train:7")
    assert "\n" not in str(refused.value)


def test_a_file_gives_the_prompts_of_its_rows_and_counts_those_without(tmp_path: Path) -> None:
    rows = [{"system": ACCESS + RATE, "chat": f"USER: {n} dollars?"} for n in range(4)]
    rows.insert(1, {"system": HELPFUL, "chat": CHAT})
    rows.insert(3, {"system": ACCESS + RATE[:-3], "chat": CHAT})
    loaded = load_problems(f"glaive:{write_lines(tmp_path / 'train.jsonl', *rows)}")
    assert [one.question for one in loaded.problems] == [f"{n} dollars?" for n in range(4)]
    assert '"name": "get_exchange_rate"' in loaded.problems[0].tools
    assert "2 of 6 rows offer no functions that can be read, left out" in loaded.notes


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "mine.jsonl", {"system": ACCESS, "conversations": []})
    with pytest.raises(UserError, match="mine.jsonl:1: column 'chat' must hold text.*got None"):
        load_problems(f"glaive:{path}")
