"""Categories of function calls in the forms that models write, whole and cut."""

from __future__ import annotations

import json
import random
import re
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pytest

from decaylab.tokens.call_categories import CallCategories
from decaylab.tokens.categories import END_OF_TURN
from decaylab.tokens.languages.call_names import NAMES

CATEGORIES = CallCategories()
HOSTILE = "\"'\\{}[]():,;=<>/|`\n\t abn1é\U0001f642"
WORDS = ("name", "arguments", "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<function=", "f(")
STRINGS = ("Paris", "New York", 'a "b"', "it's", "x: {1, [2]}", "", "née\n", "\\", "</x>", "f(a=1)")


class Parts(NamedTuple):
    """The stretches of a text by their category; prose without the white space at its ends."""

    functions: list[str]
    arguments: list[str]
    values: list[str]
    prose: list[str]


def of_text(text: str) -> list[str]:
    return [NAMES[code] for code in CATEGORIES.of_characters([text])]


def parts(text: str) -> Parts:
    found: dict[str, list[str]] = {name: [] for name in NAMES}
    for category, group in groupby(zip(of_text(text), text, strict=True), lambda pair: pair[0]):
        found[category].append("".join(character for _, character in group))
    prose = [piece.strip() for piece in found["prose"] if piece.strip()]
    return Parts(found["function_name"], found["argument_name"], found["value"], prose)


PARIS = Parts(["get_weather"], ["city", "days"], ["Paris", "3"], [])
BOTH = Parts(["get_weather", "get_time"], ["city", "days", "zone"], ["Paris", "3", "CET"], [])
FIRST = '{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}'
SECOND = '{"name": "get_time", "arguments": {"zone": "CET"}}'
FORMS = {
    f"<tool_call>\n{FIRST}\n</tool_call>": PARIS,
    f"<tool_call>\n{FIRST}\n</tool_call>\n<tool_call>\n{SECOND}\n</tool_call>": BOTH,
    f"<tool_call>{FIRST}": PARIS,
    f"[{FIRST}, {SECOND}]": BOTH,
    f"{FIRST}\n{SECOND}": BOTH,
    f"```json\n{FIRST}\n```": PARIS,
    f"```\n[{FIRST},\n {SECOND}]\n```": BOTH,
    f"```json\n{FIRST}\n```\nand\n```json\n{SECOND}\n```": BOTH._replace(prose=["and"]),
    "{'name': 'get_weather', 'arguments': {'city': 'Paris', 'days': 3}}": PARIS,
    json.dumps(json.loads(FIRST), indent=2): PARIS,
    '{"arguments": {"city": "Paris", "days": 3}, "name": "get_weather"}': Parts(
        ["get_weather"], ["city", "days"], ["Paris", "3"], []
    ),
    # Llama
    FIRST.replace("arguments", "parameters"): PARIS,
    f"<|python_tag|>{FIRST}; {SECOND}".replace("arguments", "parameters"): BOTH,
    '<function=get_weather>{"city": "Paris", "days": 3}</function>': PARIS,
    '[get_weather(city="Paris", days=3), get_time(zone=\'CET\')]': BOTH,
    '<|python_tag|>get_weather(city="Paris", days=3)': PARIS,
    # Mistral
    f"[TOOL_CALLS][{FIRST}, {SECOND}]": BOTH,
    f"[TOOL_CALLS] [{FIRST}]": PARIS,
    '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris", "days": 3}': PARIS,
    '[TOOL_CALLS]get_weather{"city": "Paris", "days": 3}[TOOL_CALLS]get_time{"zone": "CET"}': BOTH,
    # OpenAI
    json.dumps({"type": "function", "function": json.loads(FIRST)}): PARIS,
    json.dumps({"id": "call_1", "type": "function", "function": json.loads(FIRST)}): PARIS,
    json.dumps({"tool_calls": [json.loads(FIRST), json.loads(SECOND)]}): BOTH,
    json.dumps({"name": "get_weather", "arguments": '{"city": "Paris", "days": 3}'}): PARIS,
    # glaive
    '<functioncall> {"name": "get_weather", "arguments": \'{"city": "Paris", "days": 3}\'}': PARIS,
    # Qwen3-Coder
    "<tool_call><function=get_time>\n<parameter=zone>CET</parameter>\n</function></tool_call>": (
        Parts(["get_time"], ["zone"], ["CET"], [])
    ),
    # Python
    'get_weather(city="Paris", days=3)\nget_time(zone="CET")': BOTH,
    '```python\n[get_weather(city="Paris", days=3)]\n```': PARIS,
    "```tool_code\nget_weather(city = 'Paris',\n  days = 3)\n```": PARIS,
    'math.gcd(a=-1, b=[2, {"k": None}], c=(True, x.y))': Parts(
        ["math.gcd"], ["a", "b", "k", "c"], ["-1", "2", "None", "True", "x.y"], []
    ),
    # nested values, and text that is not quite JSON
    '{"name": "f", "arguments": {"o": {"k": [1, "a\\"b", null]}, "name": "v"}}': Parts(
        ["f"], ["o", "k", "name"], ["1", 'a\\"b', "null", "v"], []
    ),
    '{"name": f, "arguments": {a: 1,}}': Parts(["f"], ["a"], ["1"], []),
    '<tool_call>{"name": "f", "arguments": {"a": "b}}\n</tool_call>\nSo': Parts(
        ["f"], ["a"], ["b}}\n"], ["So"]
    ),
    '{"name": "f", "arguments": {"a": 1}\n\nThis is it.': Parts(
        ["f"], ["a"], ["1"], ["This is it."]
    ),
    '<tool_call>\nNo JSON.\n</tool_call>': Parts([], [], [], ["No JSON."]),
}  # fmt: skip


@pytest.mark.parametrize("text", FORMS)
def test_calls_are_read_in_each_form(text: str) -> None:
    assert parts(text) == FORMS[text]


@pytest.mark.parametrize("text", [text for text in FORMS if not FORMS[text].prose])
def test_text_around_calls_is_prose(text: str) -> None:
    found = parts(f"I will look it up:\n\n{text}\n\nThat is all.")
    assert found.prose[0] == "I will look it up:" and found.prose[-1] == "That is all."
    assert found[:3] == FORMS[text][:3]


@pytest.mark.parametrize("text", [text for text in FORMS if FORMS[text].functions])
def test_a_call_that_is_cut_is_read_as_the_whole_one_up_to_its_last_word(text: str) -> None:
    """From the name of the function on."""
    whole, name = of_text(text), FORMS[text].functions[0]
    for end in range(text.index(name) + len(name) + 1, len(text)):
        word = re.search(r"[\w.]*\W{0,3}[\w.]*\Z", text[:end])
        assert word is not None
        known = word.start()
        assert of_text(text[:end])[:known] == whole[:known], text[:end]


PROSE = (
    "The answer (see f(x)) is 5, for x = 3.",
    "print(x) prints x.",
    "Paris (the capital of France) is [nice].",
    '{"answer": 3}',
    "None of these functions can be used. Please give the zone.",
    "[1, 2, 3]",
    "Use `x` {here}.",
    "f(the value of x)",
    "<b>bold</b>",
)


@pytest.mark.parametrize("text", PROSE)
def test_an_answer_without_a_call_is_prose(text: str) -> None:
    assert set(of_text(text)) == {"prose"}


def test_syntax_is_what_is_fixed() -> None:
    text = f"A.\n<tool_call>\n{FIRST}\n</tool_call>"
    syntax = "".join(
        character
        for character, category in zip(text, of_text(text), strict=True)
        if category == "call_syntax"
    )
    assert syntax == '<tool_call>\n{"name": "", "arguments": {"": "", "": }}\n</tool_call>'


@pytest.mark.parametrize("cut", ["{", '[{"na', "<tool", "[TOOL_C", "```json", "</tool_cal", "[f("])
def test_the_beginning_of_a_call_is_no_prose(cut: str) -> None:
    assert "prose" not in of_text(cut)


def values(draw: random.Random, depth: int) -> Any:
    """A value of JSON."""
    kind = draw.randrange(6 if depth else 4)
    if kind == 5:
        return {f"k{i}": values(draw, depth - 1) for i in range(draw.randrange(3))}
    if kind == 4:
        return [values(draw, depth - 1) for _ in range(draw.randrange(3))]
    return (draw.choice(STRINGS), draw.randrange(-9, 99), draw.random(), draw.choice([True, None]))[
        kind
    ]


def keys_and_leaves(value: Any) -> tuple[list[str], list[str]]:
    """Keys, and leaves as JSON without quotes, in the order in which they are written."""
    keys, leaves = [], []
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        for key, item in pairs:
            below = keys_and_leaves(item)
            keys += [*([] if key is None else [key]), *below[0]]
            leaves += below[1]
        return keys, leaves
    text = json.dumps(value)
    return [], [text[1:-1] if isinstance(value, str) else text]


@pytest.mark.parametrize("seed", range(30))
def test_any_call_of_json_is_read_as_json_reads_it(seed: int) -> None:
    draw = random.Random(seed)
    calls = [
        {"name": f"f{i}.g", "arguments": {f"a{j}": values(draw, 3) for j in range(4)}}
        for i in range(3)
    ]
    text = json.dumps(calls, indent=draw.choice([None, 2]))
    keys, leaves = keys_and_leaves([call["arguments"] for call in calls])
    found = parts(text)
    assert found.functions == [call["name"] for call in calls]
    assert found.arguments == keys
    assert found.values == [leaf for leaf in leaves if leaf]
    wrapped = [{**call, "arguments": json.dumps(call["arguments"])} for call in calls]
    assert parts(json.dumps(wrapped)).arguments == keys


@pytest.mark.parametrize("seed", range(20))
def test_every_character_of_any_text_has_one_category(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(30):
        text = "".join(draw.choices([*HOSTILE, *WORDS], k=draw.randrange(60)))
        assert len(of_text(text)) == len(text)


def test_tokens_take_the_category_of_their_first_visible_character() -> None:
    tokens = ["<tool_call>", "\n", '{"', "name", '":', ' "', "f", '",', ' "', "arguments", '":']
    tokens += [' {"', "a", '":', " ", "1", "}}\n", "</tool_call>", "<|end|>"]
    ends = np.array([token == "<|end|>" for token in tokens])
    codes = CATEGORIES.classify(tokens, np.array([len(tokens)]), ends)
    names = ["call_syntax"] * len(tokens)
    names[6], names[12], names[15], names[-1] = (
        *("function_name", "argument_name", "value"),
        END_OF_TURN,
    )
    assert [CATEGORIES.names[code] for code in codes] == names
