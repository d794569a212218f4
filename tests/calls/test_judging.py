"""Verdicts are those of the leaderboard's own checker, and each rule judges what it says."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from decaylab.calls.judging import RULES, CallProblem, Outcome, judge
from decaylab.errors import UserError

CASES = json.loads((Path(__file__).parent / "ast_checker_cases.json").read_text())
"""Changed calls with the verdicts of bfcl-eval, by `benchmarks/function_calls.py --table`."""
MIXED = "one name with underscores"
"""Of two calls; the checker knows models with dots in names, and models with underscores."""


def function(name: str, required: list[str], **types: Any) -> dict[str, Any]:
    kinds = {key: kind if isinstance(kind, dict) else {"type": kind} for key, kind in types.items()}
    parameters = {"type": "dict", "properties": kinds, "required": required}
    return {"name": name, "description": "", "parameters": parameters}


def one_argument(kind: Any, alternatives: list[Any]) -> CallProblem:
    expected = ({"f": {"x": alternatives}},)
    return CallProblem("simple_python", (function("f", [], x=kind),), expected)


def list_of(kind: Any, outer: Any = "array") -> dict[str, Any]:
    return {"type": outer, "items": {"type": kind}}


GCD = function("math.gcd", ["a", "b"], a="integer", b="integer", how="string")
TO_CITY = function("fly", ["to"], to="string", price="float", direct="boolean")
BOTH = (GCD, TO_CITY)
OF_GCD = {"math.gcd": {"a": [12], "b": [8], "how": ["", "euclid"]}}
PARALLEL = CallProblem("parallel_multiple", BOTH, (OF_GCD, {"fly": {"to": ["Oslo", "Bergen"]}}))
IRRELEVANT = CallProblem("irrelevance", BOTH)


def verdict(response: str, problem: CallProblem, rule: str = "full") -> str:
    return judge(rule, response, problem.text()).verdict


def test_stored_cases_have_the_verdicts_of_the_leaderboards_checker() -> None:
    different = [
        (change, text, expected)
        for problem, change, text, expected in CASES["cases"]
        if judge("full", text, CASES["problems"][problem]).verdict != expected
    ]
    assert {change for change, _, _ in different} <= {MIXED}, different
    assert len(different) < 8
    assert "bfcl-eval" in CASES["source"]
    counts = Counter(expected for _, _, _, expected in CASES["cases"])
    assert min(counts["correct"], counts["wrong"]) > 100


ONE_ARGUMENT = [
    # type, alternatives, what is correct, what is wrong
    ("integer", [5], ["5"], ["5.0", "True", "'5'", "[5]", "null", "6", "-5"]),
    ("integer", [1], ["1"], ["True", "1.0"]),
    ("integer", ["", 5], ["5"], ["0", "'x'"]),
    ("float", [5.0], ["5", "5.0", "5e0"], ["'5'", "5.01", "True"]),
    ("float", ["", None], ["None", "null"], ["0.0", "'x'"]),
    ("boolean", [True], ["True", "true"], ["1", "'true'", "False"]),
    (
        "string",
        ["April 1, 2024"],
        ["'april 1 2024'", "'April 1,2024'", "'A.p/r-i_l*1^2024'"],
        ["'April 1; 2024'", "'April 1, 2025'", "20241", "''"],
    ),
    ("string", ["it's"], ["'it\"s'", '"IT\'S"'], ["'its'"]),
    ("string", ["Oslo", ""], ["'Oslo'", "''", "' '"], ["'Bergen'"]),
    ("string", [True, ""], ["True", "''"], ["'True'", "'true'"]),
    ("string", [5, "Oslo"], ["5", "'Oslo'"], ["'oslo'", "'5'", "5.0"]),
    ({"type": "string", "items": {"type": "integer"}}, ["Oslo"], ["'oslo'"], ["['Oslo']"]),
    (["string", "null"], ["Oslo", None], ["'oslo'", "None", "null"], ["5", "'None'", "''"]),
    (["string", "null"], [None, "Oslo"], ["'oslo'", "None"], ["'Rome'"]),
    (["integer", "string"], [5, "Five"], ["5", "'five'"], ["5.0", "'5'", "None"]),
    (["number", "null"], [5.0], ["5", "5.0"], ["None", "True", "'5'"]),
    (["integer", "null"], ["size", ""], ["size", "'size'"], ["'Size'", "None", "5"]),
    ("null", [None], ["None"], ["0", "''"]),
    (list_of(["string", "null"]), [["A", None]], ["['a', None]"], ["['a', 5]", "[None, 'a']"]),
    (list_of("string", ["array", "null"]), [["A"], None], ["['a']", "None"], ["'a'", "[None]"]),
    (list_of(["dict", "string"]), [[{"a": [1, 2]}], ["X"]], ["[{'a': 2}]", "['x']"], ["[{}]"]),
    (["dict", "null"], [{"a": [1]}, None], ["{'a': 1}", "None"], ["{'a': 2}", "{'a': [1]}"]),
    ("any", ["my_data"], ["my_data", "'My data'"], ["5", "[1]"]),
    (list_of("integer"), [[1, 2]], ["[1, 2]"], ["[2, 1]", "[1]", "[1, 2.0]", "(1, 2)"]),
    (list_of("integer"), [[1]], ["[1]"], ["[True]", "1"]),
    ({"type": "array"}, [[1, "a"]], ["[1, 'A']"], ["['a', 1]", "'1a'"]),
    (list_of("string", "tuple"), [["a", "b"]], ["('a', 'B')"], ["'ab'"]),
    (list_of("float"), [[1.0, 2.5]], ["[1.0, 2.5]"], ["[1, 2.5]"]),
    (list_of("float"), [[1, 2.5]], ["[1, 2.5]", "[1.0, 2.5]"], ["['1', 2.5]"]),
    (list_of("string"), [["A-b", "c"]], ["['a B', 'C']"], ["['c', 'a b']", "'ab'", "[]"]),
    (list_of("string"), [["a"], ["b", "a"]], ["['a']", "['b', 'a']"], ["['a', 'b']"]),
    (list_of("string"), [["a"], ""], ["['a']", "[]"], ["''", "['']"]),
    (list_of("array"), [[[1, "A"], [2]]], ["[[1, 'A'], [2]]"], ["[[1, 'a'], [2]]", "[1, 2]"]),
    (list_of("float", "tuple"), [[1.0, 2.0]], ["(1.0, 2.0)", "[1.0, 2.0]"], ["(2.0, 1.0)"]),
    (list_of("float"), ["data['x']"], ["data['x']", "\"data['x']\""], ["'data[x]'", "data"]),
    (
        "dict",
        [{"name": ["Al B.", "Al"], "age": [3, ""]}],
        ["{'name': 'al b', 'age': 3}", "{'name': 'AL'}", "{'name': 'Al', 'age': 3.0}"],
        ["{'age': 3}", "{'name': 'Al', 'age': 4}", "{'name': 'Al', 'x': 1}", "{}", "'Al'"],
    ),
    ("dict", [{"a": [1]}, {"b": [2]}], ["{'a': 1}", "{'b': 2}"], ["{'a': 1, 'b': 2}"]),
    (
        list_of("dict"),
        [[{"a": [1]}, {"b": ["X", ""]}]],
        ["[{'a': 1}, {'b': 'x'}]", "[{'a': 1}, {}]"],
        ["['x', 'y']", "[{'b': 'x'}, {'a': 1}]", "[{'a': 1}]", "[{'a': 1}, 5]", "{'a': 1}"],
    ),
]


@pytest.mark.parametrize(("kind", "alternatives", "correct", "wrong"), ONE_ARGUMENT)
def test_a_value_is_right_if_its_type_and_one_of_the_alternatives_say_so(
    kind: Any, alternatives: list[Any], correct: list[str], wrong: list[str]
) -> None:
    problem = one_argument(kind, alternatives)
    for text in correct:
        assert verdict(f"f(x={text})", problem) == "correct", text
    for text in wrong:
        assert verdict(f"f(x={text})", problem) == "wrong", text


def test_arguments_are_required_optional_or_unexpected() -> None:
    problem = CallProblem("simple_python", (GCD,), (OF_GCD,))
    messages = {
        "math.gcd(a=12, b=8)": "1 call",
        "math.gcd(b=8, a=12, how='Euclid')": "1 call",
        "math_gcd(a=12, b=8)": "1 call",
        "math.gcd(a=12)": "math.gcd: 'b' is missing",
        "math.gcd(a=12, b=8, c=1)": "math.gcd: 'c' is not expected",
        "math.gcd(12, b=8)": "math.gcd: 'a' is missing",
        "math.gcd(a=12, b=9)": "math.gcd: 'b' is 9, not one of [8]",
        "math.gcd(a='12', b=8)": "math.gcd: 'a' is str '12', not integer",
        "gcd(a=12, b=8)": "'gcd' is called, 'math.gcd' is expected",
        "math.gcd(a=12, b=8)\nmath.gcd(a=12, b=8)": "2 calls, 1 expected",
    }
    found = {text: judge("full", text, problem.text()) for text in messages}
    assert {text: outcome.message for text, outcome in found.items()} == messages
    assert [outcome.verdict for outcome in found.values()] == ["correct"] * 3 + ["wrong"] * 7
    unknown = CallProblem("multiple", (GCD,), ({"math.gcd": {**OF_GCD["math.gcd"], "c": [1, ""]}},))
    assert verdict("math.gcd(a=12, b=8)", unknown) == "correct"
    assert verdict("math.gcd(a=12, b=8, c=1)", unknown) == "wrong", "offered by no function"
    needed = one_argument("string", ["always"])
    assert judge("full", "f()", needed.text()) == Outcome("wrong", "f: 'x' is missing")


def test_a_list_of_dictionaries_that_a_set_writes_otherwise_fits_nothing() -> None:
    problem = one_argument(list_of("dict"), [["x"]])
    for text in ("['x']", "[{}]", "[{'x': 1}]"):
        assert verdict(f"f(x={text})", problem) == "wrong"


def test_parallel_calls_have_no_order_and_each_expected_one_takes_a_call_of_its_own() -> None:
    assert verdict("[fly(to='Oslo'), math.gcd(a=12, b=8)]", PARALLEL) == "correct"
    assert verdict("[math_gcd(a=12, b=8), fly(to='Bergen')]", PARALLEL) == "correct"
    assert verdict("[fly(to='Oslo'), fly(to='Bergen')]", PARALLEL) == "wrong"
    assert verdict("[fly(to='Oslo'), math.gcd(a=12, b=8), fly(to='Oslo')]", PARALLEL) == "wrong"
    assert verdict("fly(to='Oslo')", PARALLEL) == "wrong"


def test_the_first_call_that_fits_is_taken_as_on_the_leaderboard() -> None:
    either, oslo = {"fly": {"to": ["Oslo", "Bergen"]}}, {"fly": {"to": ["Oslo"]}}
    problem = CallProblem("parallel", (TO_CITY,), (either, oslo))
    assert verdict("[fly(to='Bergen'), fly(to='Oslo')]", problem) == "correct"
    assert verdict("[fly(to='Oslo'), fly(to='Bergen')]", problem) == "wrong"


def test_values_without_a_type_take_the_one_of_the_schema() -> None:
    written = "<function=f><parameter=x>{}</parameter></function>".format
    for kind, text, value in [
        ("string", "5", "5"),
        ("integer", "5", 5),
        ("float", "5", 5.0),
        ("boolean", "true", True),
        ("boolean", "True", True),
        ("boolean", "False", False),
        ("float", "None", None),
        (list_of("integer"), "[1, 2]", [1, 2]),
        ("dict", '{"a": 1}', {"a": [1]}),
        (["string", "null"], "null", None),
        (["string", "null"], "5", "5"),
        ("any", "null", "null"),
    ]:
        problem = one_argument(kind, [value])
        assert verdict(written(text), problem) == "correct", (kind, text)
    assert verdict(written("five"), problem) == "wrong"


NAMES = [
    ("[fly(to='Rome', x=1), math.gcd()]", "correct"),
    ("[math_gcd(), fly()]", "correct"),
    ("[fly(), fly()]", "wrong"),
    ("[math.gcd(a=12, b=8)]", "wrong"),
    ("[math.gcd(), fly(), fly()]", "wrong"),
    ("[Math.gcd(), fly()]", "wrong"),
    ("No function fits.", "no_answer"),
    ("<tool_call>{", "no_answer"),
]


@pytest.mark.parametrize(("text", "expected"), NAMES)
def test_names_are_judged_whatever_the_arguments_are(text: str, expected: str) -> None:
    assert verdict(text, PARALLEL, "name") == expected


TEXTS = {
    "fly(to='Mars')": ("wrong", "wrong", "correct"),
    "No function fits.": ("no_answer", "no_answer", "no_answer"),
    '<tool_call>{"name": ': ("no_answer", "no_answer", "wrong"),
    "": ("no_answer", "no_answer", "no_answer"),
    '```python\nprint("hello")\n```': ("no_answer", "no_answer", "no_answer"),
    "The area is\nf(x)": ("no_answer", "no_answer", "no_answer"),
    "1. fly(to='Oslo')\n2. n = math.gcd(a=12, b=8)": ("correct", "correct", "correct"),
}
WHERE_NONE_IS_EXPECTED = {
    "fly(to='Oslo')": ("wrong", "wrong", "correct"),
    "No function fits.": ("correct", "correct", "correct"),
    '<tool_call>{"name": ': ("correct", "correct", "wrong"),
    "[]": ("correct", "correct", "correct"),
    '```python\nprint("hello")\n```': ("correct", "correct", "correct"),
    "The root is\nsqrt(3)": ("correct", "correct", "correct"),
    "Or not:\n- fly(to='Oslo')": ("wrong", "wrong", "correct"),
    "math.gcd(a=": ("correct", "correct", "wrong"),
}


def test_what_is_no_call_and_what_cannot_be_read_are_told_apart() -> None:
    for texts, problem in ((TEXTS, PARALLEL), (WHERE_NONE_IS_EXPECTED, IRRELEVANT)):
        found = {text: tuple(verdict(text, problem, rule) for rule in RULES) for text in texts}
        assert found == texts
    assert judge("full", "", PARALLEL.text()) == Outcome("no_answer", "no call")
    for problem in (PARALLEL, IRRELEVANT):
        for rule in RULES:
            assert judge(rule, "{", problem.text()).message.startswith("malformed: ")
            assert judge(rule, "None fits.", problem.text()).message == "no call"
    found = judge("full", "fly()", IRRELEVANT.text())
    assert found == Outcome("wrong", "1 call where none is expected")


def test_a_correct_response_is_correct_by_name_and_parses() -> None:
    for problem, _, text, _ in CASES["cases"]:
        gold = CASES["problems"][problem]
        full, name, parse = (judge(rule, text, gold).verdict for rule in RULES)
        assert parse == "correct" and (full != "correct" or name == "correct"), text


def test_a_problem_survives_its_text_in_which_expected_arguments_are_sorted() -> None:
    assert CallProblem.of_text(PARALLEL.text()) == PARALLEL
    turned = {"math.gcd": dict(reversed(OF_GCD["math.gcd"].items()))}
    assert CallProblem("x", BOTH, (turned,)).text() == CallProblem("x", BOTH, (OF_GCD,)).text()
    assert one_argument("string", ["é"]).text().isascii()
    names = list(CallProblem.of_text(PARALLEL.text()).functions[0]["parameters"]["properties"])
    assert names == ["a", "b", "how"], "in the order of the prompt"


def test_other_rules_and_other_texts_are_refused() -> None:
    with pytest.raises(ValueError, match="rule must be one of full, name, parse, got 'exact'"):
        judge("exact", "", PARALLEL.text())
    for text in ("42", "{", "[]", '{"category": "x"}'):
        with pytest.raises(UserError, match="must be a function-calling problem as JSON"):
            judge("full", "", text)


def test_messages_are_one_short_line_whatever_the_response() -> None:
    deep: Any = "x" * 10_000
    for _ in range(200):
        deep = [deep]
    text = json.dumps({"name": "fly\n\n", "arguments": {"to": deep}})
    problem = CallProblem("x", (TO_CITY,), ({"fly": {"to": ["Oslo"]}},)).text()
    long = "x\n" * 10_000
    named = json.dumps({"name": long, "arguments": {}})
    argued = json.dumps({"name": "fly", "arguments": {long: 1, "to": 2}})
    for response in (text, text.replace("\\n", ""), "f(a='\n" * 1_000, named, argued):
        for rule in RULES:
            message = judge(rule, response, problem).message
            assert "\n" not in message and len(message) < 250
