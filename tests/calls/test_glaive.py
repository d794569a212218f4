"""The first turn of each conversation becomes a prompt; what gives none is counted.

The rows are stand-ins: they have the look of the data set's card, which could not be reached.
"""

from __future__ import annotations

from typing import Any

import pytest

from decaylab.calls.glaive import prompts
from decaylab.calls.reading import Call, read_calls
from decaylab.errors import UserError

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


def row(system: str = ACCESS + RATE + "\n\n", chat: str = CHAT) -> tuple[str, dict[str, Any]]:
    return "train:7", {"system": system, "chat": chat}


def test_the_first_turn_and_the_functions_are_the_prompt() -> None:
    read = prompts([row(), row(ACCESS + RATE + "\n\n" + NEWS)])
    first, second = read.prompts
    assert first.messages == [
        {"role": "user", "content": "How much is a dollar in euro?\nUSD, please."}
    ]
    (function,) = first.functions
    assert function["name"] == "get_exchange_rate"
    assert list(function["parameters"]["properties"]) == ["base", "target"]
    assert [one["name"] for one in second.functions] == ["get_exchange_rate", "get_news"]
    assert read.note() == ""


def test_rows_without_functions_and_broken_ones_are_counted() -> None:
    none = row(f"{HELPFUL}, with no access to external functions.", "USER: Hi\n\n\nASSISTANT: Hi")
    hellos = [row(chat="ASSISTANT: Hello"), row(chat="USER: \nASSISTANT: Hello")]
    broken = [row(ACCESS + RATE[:-3]), *hellos]
    nameless = row(ACCESS + '{"description": "News"}')
    read = prompts([row(), none, none, *broken, nameless])
    assert read.unreadable[1].startswith("train:7: column 'chat' does not begin with USER:, got 'A")
    assert (len(read.prompts), read.without_functions, len(read.unreadable)) == (1, 2, 4)
    note = read.note()
    assert note.startswith("2 of 7 rows offer no functions, left out; 4 of 7 rows cannot be read")
    assert "train:7: not JSON" in note and "name must be text" in read.unreadable[3]


def test_another_system_text_stays_and_a_list_of_functions_is_read() -> None:
    (prompt,) = prompts([row(f"SYSTEM: Answer in French. [{NEWS}]", "USER: Hi")]).prompts
    assert prompt.messages == [
        {"role": "system", "content": "Answer in French."},
        {"role": "user", "content": "Hi"},
    ]
    assert [one["name"] for one in prompt.functions] == ["get_news"]


def test_only_the_words_of_the_first_turn_are_the_question() -> None:
    system = f"SYSTEM:\n{NEWS}"
    for chat in ("USER: Hi, news? <|endoftext|>\n\n\nASSISTANT: No.", "USER:  Hi, news? \n\n"):
        (prompt,) = prompts([row(system, chat)]).prompts
        assert prompt.messages == [{"role": "user", "content": "Hi, news?"}]
    read = prompts([row(), row(chat="Hello")])
    assert read.unreadable == ["train:7: column 'chat' does not begin with USER:, got 'Hello'"]


def test_the_calls_of_its_answers_can_be_read() -> None:
    assert read_calls(f"{CALL} <|endoftext|>") == [
        Call("get_exchange_rate", {"base": "USD", "target": "EUR"})
    ]


def test_other_columns_and_a_set_without_prompts_are_refused() -> None:
    with pytest.raises(UserError, match="mine:1: column 'chat' must hold text.*got None"):
        prompts([("mine:1", {"system": ACCESS, "conversations": []})])
    with pytest.raises(UserError, match="1 of 1 rows offer no functions"):
        prompts([row(HELPFUL)])
    with pytest.raises(UserError, match="no row has functions and a question; there are none"):
        prompts([])
