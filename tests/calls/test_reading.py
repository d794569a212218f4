"""Every form of calls that models write is read, and nothing in a response is ever run."""

from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest

from decaylab.calls import json_calls, plain
from decaylab.calls.reading import ENDS, Call, calls_of, read_calls
from decaylab.calls.values import Malformed

ONE = [("get_weather", {"city": "Paris", "days": 3})]
TWO = [*ONE, ("math.gcd", {"a": 12, "b": -8})]
AS_JSON = ['{"name": "get_weather", "arguments": {"city": "Paris", "days": 3}}']
AS_JSON += ['{"name": "math.gcd", "arguments": {"a": 12, "b": -8}}']
OF_LLAMA = [text.replace("arguments", "parameters") for text in AS_JSON]
IN_PYTHON = ["get_weather(city='Paris', days=3)", "math.gcd(a=12, b=-8)"]
OPENAI = [{"name": name, "arguments": json.dumps(given)} for name, given in TWO]
OF_OPENAI = [json.dumps({"type": "function", "id": "c1", "function": one}) for one in OPENAI]
NAMED = [f"{name}[ARGS]{json.dumps(given)}" for name, given in TWO]
IDENTIFIED = [text.replace("[ARGS]", "[CALL_ID]a1B2[ARGS]") for text in NAMED]
BARE = [text.replace("[ARGS]", "") for text in NAMED]
OF_GLAIVE = [f'{{"name": "{name}", "arguments": \'{json.dumps(given)}\'}}' for name, given in TWO]
CUSTOM = [f"<function={name}>{json.dumps(given)}</function>" for name, given in TWO]

FORMS: dict[str, tuple[list[str], str, str, str]] = {
    # the calls, and what stands before the first, between two, and after the last
    "Hermes, Qwen": (AS_JSON, "<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"),
    "Qwen in one line": (AS_JSON, "<tool_call>", "</tool_call><tool_call>", "</tool_call>"),
    "Qwen, the last one not closed": (AS_JSON, "<tool_call>\n", "\n<tool_call>\n", ""),
    "Llama 3.1": (OF_LLAMA, "", "; ", ""),
    "Llama 3.1 with its mark": (OF_LLAMA, "<|python_tag|>", "; ", "<|eom_id|>"),
    "Llama 3.1, in Python": (IN_PYTHON, "<|python_tag|>", "; ", ""),
    "Llama 3.1, in Python after a blank": (IN_PYTHON, "<|python_tag|> [", ", ", "]"),
    "Llama 3.1, custom": (CUSTOM, "", "", ""),
    "Llama 3.2": (IN_PYTHON, "[", ", ", "]<|eot_id|>"),
    "Mistral": (AS_JSON, "[TOOL_CALLS][", ", ", "]</s>"),
    "Mistral with a blank": (AS_JSON, "[TOOL_CALLS] [", ", ", "]"),
    "Mistral's later form": (NAMED, "[TOOL_CALLS]", "[TOOL_CALLS]", ""),
    "Mistral's later form, identified": (IDENTIFIED, "[TOOL_CALLS]", "[TOOL_CALLS]", ""),
    "Mistral's later form without marks": (BARE, "", "", ""),
    "OpenAI": (OF_OPENAI, "[", ", ", "]"),
    "OpenAI, a message": (OF_OPENAI, '{"content": "", "tool_calls": [', ", ", "]}"),
    "OpenAI in lines": (OF_OPENAI, "", "\n", ""),
    "glaive": (OF_GLAIVE, "<functioncall> ", " <functioncall> ", " <|endoftext|>"),
    "glaive, an object": (AS_JSON, "<functioncall> ", " <functioncall> ", " <|endoftext|>"),
    "JSON list": (AS_JSON, "[", ", ", "]"),
    "JSON lines": (AS_JSON, "", "\n", ""),
    "JSON separated by commas": (AS_JSON, "", ", ", ""),
    "JSON in a fence": (AS_JSON, "```json\n[", ", ", "]\n```"),
    "JSON in a fence without language": (AS_JSON, "```\n", "\n", "\n```"),
    "JSON in fences": (AS_JSON, "```json\n", "\n```\nand\n```json\n", "\n```"),
    "JSON in a fence that does not end": (AS_JSON, "```json\n", "\n", ""),
    "JSON in other tags": (AS_JSON, "<tools>\n", "\n</tools>\n<tools>\n", "\n</tools>"),
    "Python lines": (IN_PYTHON, "", "\n", ""),
    "Python list": (IN_PYTHON, "[", ", ", "]"),
    "Python in a fence": (IN_PYTHON, "```python\n", "\n", "\n```"),
    "Python in one line of a fence": (IN_PYTHON, "```[", ", ", "]```"),
    "Python separated by semicolons": (IN_PYTHON, "", "; ", ""),
    "Python in backticks": (IN_PYTHON, "`[", ", ", "]`"),
    "Gemma's tool_code": (IN_PYTHON, "```tool_code\n", "\n", "\n```"),
    "Gemma's tool_code, printed": (IN_PYTHON, "```tool_code\nprint(", ")\nprint(", ")\n```"),
}
OF_CODER = [
    "<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n<parameter=days>\n3\n"
    "</parameter>\n</function>",
    "<function=math.gcd>\n<parameter=a>\n12\n</parameter>\n<parameter=b>\n-8\n</parameter>\n"
    "</function>",
]
FORMS_OF_TEXTS = {
    "Qwen3-Coder": (
        OF_CODER,
        "<tool_call>\n",
        "\n</tool_call>\n<tool_call>\n",
        "</tool_call>",
    ),
    "Qwen3-Coder in one tag": (OF_CODER, "<tool_call>", "\n", "</tool_call>"),
    "Qwen3-Coder, functions not closed": (
        [text.removesuffix("</function>") for text in OF_CODER],
        "<tool_call>",
        "</tool_call>\n<tool_call>",
        "</tool_call>",
    ),
    "Qwen3-Coder without the tag": (OF_CODER, "", "\n", ""),
}
WITHOUT_TEXT_AROUND = (
    "Qwen, the last one not closed",
    "Llama 3.1, in Python",
    "Llama 3.1, in Python after a blank",  # everything after the mark is Python
    "Mistral's later form without marks",
    "JSON in a fence that does not end",
    "Python separated by semicolons",  # lines of their own are looked for
    "Python in one line of a fence",
)
FORMS_WITH_TEXT_AROUND = [
    name for name in (*FORMS, *FORMS_OF_TEXTS) if name not in WITHOUT_TEXT_AROUND
]


def pairs(text: str) -> list[tuple[str, dict[str, Any]]] | None:
    calls = read_calls(text)
    return None if calls is None else [(call.name, call.arguments) for call in calls]


def written(form: str, count: int) -> tuple[str, list[tuple[str, dict[str, Any]]]]:
    """A text in this form and its calls; the values of some forms are texts."""
    texts, before, between, after = (FORMS | FORMS_OF_TEXTS)[form]
    text = before + between.join(texts[:count]) + after
    if form in FORMS:
        return text, TWO[:count]
    calls = [(name, {key: str(value) for key, value in given.items()}) for name, given in TWO]
    return text, calls[:count]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("form", [*FORMS, *FORMS_OF_TEXTS])
def test_each_form_is_read_with_one_and_with_two_calls(form: str, count: int) -> None:
    text, calls = written(form, count)
    assert pairs(text) == calls
    assert pairs(f"\n\n  {text} \n") == calls


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("form", FORMS_WITH_TEXT_AROUND)
def test_text_before_and_after_changes_nothing(form: str, count: int) -> None:
    text, calls = written(form, count)
    for end in ENDS:
        text = text.removesuffix(end)
    around = f"Sure, I can look that up.\n{text}\n\nI have called it."
    assert pairs(around) == calls


VALUES: list[Any] = [
    {"a": {"b": [1, {"c": [[], {}]}]}},
    'a "quoted" \\ text',
    "it's",
    "line\nbreak\tand tab",
    "caf\u00e9 \u6771\u4eac \U0001f600",
    "</tool_call> [TOOL_CALLS] ``` <function=x>",
    "f(a=1); g(b=2)",
    [1, -2.5, 1e-3, True, False, None, ""],
    10**30,
    {},
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_survive_in_json_and_python(value: Any) -> None:
    expected = [("f", {"x": value})]
    for ascii_only in (True, False):
        text = json.dumps({"name": "f", "arguments": {"x": value}}, ensure_ascii=ascii_only)
        assert pairs(f"<tool_call>\n{text}\n</tool_call>") == expected
        assert pairs(text) == expected
        if "<function" not in text:  # in prose and in fences, marks count wherever they are
            assert pairs(f"```json\n{text}\n```") == pairs(f"So: {text}.") == expected
    assert pairs(f"[f(x={value!r})]") == expected


PYTHON = {
    "f(a=true, b=false, c=null, d=True, e=None)": {
        "a": True, "b": False, "c": None, "d": True, "e": None,
    },
    "f(a=-1, b=+2.5, c=-0.0)": {"a": -1, "b": 2.5, "c": -0.0},
    "f(a=(1, 'x'), b=[(1,)], c={'k': [1], 2: ()})": {
        "a": (1, "x"), "b": [(1,)], "c": {"k": [1], 2: ()},
    },
    "f(a=word, b=[x, y])": {"a": "word", "b": ["x", "y"]},
    "f(a=data['sales'], b=x.y)": {"a": "data['sales']", "b": "x.y"},
    "f(a=2 * 3, b=g(1), c=[1][0])": {"a": "2 * 3", "b": "g(1)", "c": "[1][0]"},
    "f(1, 'x', a=2)": {"0": 1, "1": "x", "a": 2},
    "f(a=1, a=2)": {"a": 2},
    "f()": {},
    "f(a=..., b=1j, c=b'x', d={1, 2})": {"a": "...", "b": "1j", "c": "b'x'", "d": "{1, 2}"},
    "f(\n    a=1,\n    b=[\n        2,\n    ],\n)": {"a": 1, "b": [2]},
    "f(a='C:\\dir')": {"a": "C:\\dir"},
    "f(a='x' 'y', b=r'\\d')": {"a": "xy", "b": "\\d"},
}  # fmt: skip


@pytest.mark.parametrize("text", PYTHON)
def test_python_syntax_gives_literals_and_the_source_of_everything_else(text: str) -> None:
    assert pairs(text) == [("f", PYTHON[text])]
    (call,) = read_calls(text)
    assert [type(value) for value in call.arguments.values()] == [
        type(value) for value in PYTHON[text].values()
    ]


NO_CALL = [
    "",
    "  \n",
    "[]",
    "[] ",
    "```json\n[]\n```",
    "<tool_call>\n[]\n</tool_call>",
    "None of the functions can do that.",
    "The area (in square metres) is 25.",
    "# Answer\nIt is 5.",
    "Use $\\frac{1}{2}$ of {it}.",
    "hello",
    "5",
    '"get_weather"',
    "```python\n# nothing to call\n```",
    'The result is {"area": 25, "unit": "cm"}.',
    'She is {"name": "Ada", "age": 36}, or {"age": 36, name}.',
    "[1, 2] and {3}",
    'set{"a": 1} is a set',
    "You could call `get_weather`, but it has no hours.",
    "I would need x = get_weather(city='Paris') first.",
]


@pytest.mark.parametrize("text", NO_CALL)
def test_an_answer_without_a_call_is_read_as_no_call(text: str) -> None:
    assert read_calls(text) == []


OFFERED = ("add", "math.gcd")
ADD, GCD = ("add", {"a": 1, "b": 2}), ("math.gcd", {"a": 8})
WHERE_ADD_AND_GCD_ARE_OFFERED: dict[str, list[tuple[str, dict[str, Any]]]] = {
    # other functions: only where a text is nothing but calls, and in forms with marks and JSON
    "[sqrt(x=3)]": [("sqrt", {"x": 3})],
    "sqrt(x=3)\nadd(a=1, b=2)": [("sqrt", {"x": 3}), ADD],
    "<|python_tag|>sqrt(x=3)": [("sqrt", {"x": 3})],
    'So: {"name": "sqrt", "arguments": {"x": 3}}': [("sqrt", {"x": 3})],
    '```python\nprint("hello")\n```': [],
    "```python\n[sqrt(x=3)]\n```": [],
    "It prints 2:\nprint(2)": [],
    "The root is\nsqrt(3)": [],
    "The area is\nf(x)": [],
    "sqrt(3) is about 1.73.": [],
    "`sqrt(3)` is about 1.73.": [],
    "- sqrt(3)": [],
    "x = sqrt(3)": [],
    "Run this:\n```python\ndef area(b, h):\n    return b * h\n\nprint(area(1, 5))\n```": [],
    "```python\ndef add(a, b):\n    return a + b\n\nadd(a=1, b=2)\nprint(2)\n```": [],
    "```python\nfor n in range(3):\n    print(n)\n```": [],
    # offered functions, dots written as underscores too
    "```python\nadd(a=1, b=2)\nprint(3)\n```": [ADD],
    "```python\nimport math\nn = math.gcd(a=8)\nprint(n)\n```": [GCD],
    "```python\n[sqrt(x=3), add(a=1, b=2)]\n```": [("sqrt", {"x": 3}), ADD],
    "I call\nmath_gcd(a=8)": [("math_gcd", {"a": 8})],
    # assigned
    "result = add(a=1, b=2)": [ADD],
    "n: int = math.gcd(a=8)": [GCD],
    "I compute it:\nresult = add(a=1, b=2)\nDone.": [ADD],
    "x = add(a=1, b=2)\ny = sqrt(x)\nprint(y)": [ADD],
    "I would need x = add(a=1, b=2) first.": [],
    # numbered or with bullets
    "1. add(a=1, b=2)\n2. math.gcd(a=8)": [ADD, GCD],
    "1) add(a=1, b=2)": [ADD],
    "- add(a=1, b=2)\n- math.gcd(a=8)": [ADD, GCD],
    "Two calls:\n* `add(a=1, b=2)`\n* n = math.gcd(a=8)": [ADD, GCD],
    "\u2022 add(a=1, b=2)": [ADD],
    "1. `add(a=1, b=2)`: the sum\n2. `math.gcd(a=8)`: the divisor": [ADD, GCD],
    # inline code
    "I call `add(a=1, b=2)` and `[math.gcd(a=8)]`.": [ADD, GCD],
    "The function `add(a, b)` cannot do that, nor `add()`.": [],
    "Neither `add` nor `sqrt(x=3)` fits.": [],
    # JSON with the name as "function"
    '{"function": "add", "arguments": {"a": 1, "b": 2}}': [ADD],
    '```json\n[{"function": "add", "parameters": {"a": 1, "b": 2}}]\n```': [ADD],
    'So: {"type": "function", "function": "add", "arguments": {"a": 1, "b": 2}}.': [ADD],
}


@pytest.mark.parametrize("text", WHERE_ADD_AND_GCD_ARE_OFFERED)
def test_python_counts_where_it_calls_functions_that_are_offered(text: str) -> None:
    calls = read_calls(text, OFFERED)
    assert calls is not None
    assert [(call.name, call.arguments) for call in calls] == WHERE_ADD_AND_GCD_ARE_OFFERED[text]


def test_only_a_broken_call_of_an_offered_function_is_malformed() -> None:
    for text in ("sqrt(3) - 1 is 0.73", "[sqrt(3), 1] are its ends", "[sqrt(3)](its page)"):
        assert read_calls(text, OFFERED) == [], text
    for text in ("add(a=1", "```python\nmath_gcd(a=\n```", "add(**x)", "[add(a=1), 5]"):
        assert read_calls(text, OFFERED) is None, text


MALFORMED = [
    '<tool_call>{"name": "f", "arguments": {"a": 1}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a": 1',
    "<tool_call>",
    "<tool_call>get_weather</tool_call>",
    "<tool_call>{'name': 'f', 'arguments': {}}</tool_call>",
    '<tool_call>{"name": "f", "arguments": {"a": 1,}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {}} // done</tool_call>',
    '<tool_call>{"name": "f"}</tool_call>',
    '<tool_call>{"name": "", "arguments": {}}</tool_call>',
    '<tool_call>{"name": " ", "arguments": {}}</tool_call>',
    '<tool_call>{"arguments": {}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
    '<tool_call>{"name": "f", "arguments": null}</tool_call>',
    '<tool_call>{"name": "f", "arguments": "a=1"}</tool_call>',
    '<tool_call>{"name": 5, "arguments": {}}</tool_call>',
    '<tool_call>{"name": "f", "arguments": {"a": "line\nbreak"}}</tool_call>',
    AS_JSON[0] + '\n{"name": "g", "arguments": {',
    '<tool_call>{"name": "f", "arguments": {}}</tool_call><tool_call>{"name": </tool_call>',
    "<function=f><parameter=a>1</function>",
    "<function=>",
    "[TOOL_CALLS]",
    "[TOOL_CALLS]f[ARGS]",
    '[TOOL_CALLS][{"name": "f"}]',
    '<functioncall> {"name": "f", "arguments": \'{"a": 1}',
    "<functioncall> f",
    "<|python_tag|>import os",
    '{"area": 25}',
    "{}",
    'Sure: {"name": "f", "arguments": {"a": ',
    'I call {"name": "f", "arguments": {}} and [{"name": "g", arguments}].',
    'Sure: {"function": "f", "arguments": {',
    '<tool_call>{"function": "f"}</tool_call>',
    '[{"name": "f", "arguments": {}}, 5]',
    '```json\n{"name": "f", "arguments": {\n```',
    "f(a=1",
    "f(a=1))",
    "f(**{'a': 1})",
    "[f(a=1), 5]",
    "[f(a=1) for x in y]",
    "f(a=1)(b=2)",
    "f(from='Paris')",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_an_attempt_that_cannot_be_read_is_malformed(text: str) -> None:
    assert read_calls(text) is None


def test_of_a_key_given_twice_the_last_value_counts_and_nan_is_read() -> None:
    text = '{"name": "f", "arguments": {"a": 1, "a": 2, "b": NaN, "c": -Infinity}}'
    (call,) = read_calls(text)
    assert call.arguments["a"] == 2 and math.isnan(call.arguments["b"])
    assert call.arguments["c"] == -math.inf


HOSTILE = [
    "__import__('os').system('touch {mark}')",
    "[__import__('os').system('touch {mark}')]",
    "f(a=__import__('os').system('touch {mark}'))",
    "f(a=open('{mark}', 'w'))",
    "f(a=[open('{mark}', 'w') for x in [1]])",
    "f(a=(lambda: open('{mark}', 'w'))())",
    'f(a=f\'{{open("{mark}", "w")}}\')',
    "open('{mark}', 'w')",
    "```python\nopen('{mark}', 'w')\n```",
    "<|python_tag|>open('{mark}', 'w')",
    '<tool_call>{{"name": "f", "arguments": open(\'{mark}\', \'w\')}}</tool_call>',
    "<function=f><parameter=a>open('{mark}', 'w')</parameter></function>",
    "f(a=9**9**9)",
    "f(a='x' * 10**10)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_response_is_evaluated(text: str, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    read_calls(text.format(mark=mark))
    assert not mark.exists()


DEEP = {
    "lists": "[" * 100_000,
    "closed lists": "f(a=" + "[" * 5_000 + "]" * 5_000 + ")",
    "objects": '{"a":' * 100_000,
    "closed objects": '{"name": "f", "arguments": ' + '{"a":' * 5_000 + "1" + "}" * 5_002,
    "brackets": "f(" * 50_000,
    "signs": "f(a=" + "-" * 100_000 + "1)",
    "attributes": "a" + ".b" * 50_000 + "(c=1)",
    "sums": "f(a=" + "1+" * 50_000 + "1)",
    "digits": '{"name": "f", "arguments": {"a": ' + "1" * 10_000 + "}}",
    "digits of Python": "f(a=" + "1" * 10_000 + ")",
    "null": "f(a='\0')",
}


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("before", ["", "<tool_call>", "<|python_tag|>", "[TOOL_CALLS]"])
def test_deep_and_endless_texts_are_malformed(name: str, before: str) -> None:
    assert not read_calls(before + DEEP[name])


def test_how_deep_a_value_may_be_does_not_depend_on_the_process() -> None:
    usual = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(20_000)  # as some libraries do
        assert not read_calls(DEEP["closed objects"])
    finally:
        sys.setrecursionlimit(usual)


def test_a_deep_value_that_can_be_read_is_read() -> None:
    text = '{"name": "f", "arguments": {"a": ' + "[" * 100 + "]" * 100 + "}}"
    assert len(read_calls(text)) == 1


@pytest.mark.parametrize("part", ['{"', '{"a', '[{"name": [', "{x", "[ ", "```", "f(", "\\"])
def test_prose_full_of_openings_costs_a_bounded_number_of_attempts(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    def counted(text: str, start: int) -> tuple[Any, int]:
        attempts.append(start)
        return json_calls.value_at(text, start)

    monkeypatch.setattr(plain, "value_at", counted)
    assert not read_calls("So: " + part * 5_000)
    assert len(attempts) <= plain.OBJECTS and attempts == sorted(set(attempts))


def test_why_a_text_is_malformed_is_that_of_its_form() -> None:
    whys = {
        '<|python_tag|>{"name": "f", ': "not JSON",
        "<|python_tag|>f(a=": "not Python's call syntax",
        "<function=f><parameter=a>1": "<parameter= without its end",
        "<tool_call>{}": "a JSON object without the name of a function",
        "f(a=1": "begins as a call, but cannot be read",
    }
    for text, why in whys.items():
        with pytest.raises(Malformed, match=why):
            calls_of(text)


def test_lines_of_prose_may_be_indented_and_commented() -> None:
    text = f"I call two:\n\n    {IN_PYTHON[0]}\n  `{IN_PYTHON[1]}`\n  # both\nDone (twice)."
    assert pairs(text) == TWO
    assert pairs(f"So:\n{IN_PYTHON[0]}  # three days") == ONE


def test_a_value_between_marks_loses_one_line_break_on_each_side() -> None:
    text = "<function=f><parameter=a>\n\n x \n\n</parameter><parameter=b></parameter></function>"
    assert pairs(text) == [("f", {"a": "\n x \n", "b": ""})]


def test_marks_of_the_turns_end_are_no_part_of_a_response() -> None:
    ends = " \n".join(ENDS)
    assert pairs(f"{AS_JSON[0]}{ends}\n") == ONE
    assert pairs(f"{IN_PYTHON[0]} {ends} {ends}") == ONE
    assert read_calls(f"It is 5.{ends}") == [] == read_calls(ends)


def test_marks_are_found_in_what_python_takes_for_a_comment() -> None:
    assert pairs(f"# <tool_call>{AS_JSON[0]}</tool_call>") == ONE


def test_damaged_texts_are_read_or_not_but_raise_nothing() -> None:
    rng = random.Random(0)
    known = [written(form, 2)[0] for form in (*FORMS, *FORMS_OF_TEXTS)] + NO_CALL + MALFORMED
    found = []
    for _ in range(1_500):
        first, second = rng.choices(known, k=2)
        damaged = first[: rng.randint(0, len(first))] + second[rng.randint(0, len(second)) :]
        found.append(read_calls(damaged))
    assert found.count(None) > 200 and found.count([]) > 200
    assert sum(bool(calls) for calls in found) > 100


def test_a_call_is_what_the_reader_hands_over() -> None:
    assert read_calls("f(a=1)") == [Call("f", {"a": 1})]
