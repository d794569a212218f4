"""Right calls of a problem, and seeded changes of them that a model might make."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from random import Random
from typing import Any

from decaylab.calls.judging import CallProblem

Made = list[tuple[str, dict[str, Any]]]
"""Calls: name and arguments."""
Change = Callable[[Random, Made, CallProblem], None]


class Inapplicable(Exception):
    """The calls have nothing that a change could change."""


def right_calls(rng: Random, problem: CallProblem) -> Made:
    """One of the alternatives for each argument; half of the optional ones are left out."""
    calls: Made = []
    for expected in problem.expected:
        ((name, alternatives),) = expected.items()
        arguments = {}
        for argument, options in alternatives.items():
            values = [one for one in options if one != ""]
            if values and ("" not in options or rng.random() < 0.5):
                arguments[argument] = _value(rng, rng.choice(values))
        calls.append((name, arguments))
    return calls


def _value(rng: Random, alternative: Any) -> Any:
    """A value in which each dictionary has one of the alternatives for its keys."""
    if isinstance(alternative, list):
        return [_value(rng, one) for one in alternative]
    if not isinstance(alternative, dict):
        return alternative
    made = {}
    for key, options in alternative.items():
        if "" not in options or rng.random() < 0.5:
            made[key] = deepcopy(rng.choice([one for one in options if one != ""] or [""]))
    return made


def changed(rng: Random, change: str, problem: CallProblem) -> Made:
    """Right calls with a change.

    Raises:
        Inapplicable: there is nothing to change.
    """
    calls = right_calls(rng, problem)
    for part in change.split(" and "):
        CHANGES[part](rng, calls, problem)
    return calls


def response(rng: Random, calls: Made) -> str:
    """The calls in Python's syntax, or as JSON where JSON has all their types."""
    listed = [{"name": name, "arguments": arguments} for name, arguments in calls]
    named = all(name.isidentifier() for _, arguments in calls for name in arguments)
    if named and ("(" in repr([arguments for _, arguments in calls]) or rng.random() < 0.5):
        return "[" + ", ".join(_python(name, arguments) for name, arguments in calls) + "]"
    return json.dumps(listed)


def _python(name: str, arguments: dict[str, Any]) -> str:
    given = ", ".join(f"{argument}={value!r}" for argument, value in arguments.items())
    return f"{name}({given})"


# Changes of a value

Kinds = type | tuple[type, ...]


def _on_value(kinds: Kinds, new: Callable[[Random, Any], Any]) -> Change:
    """The change of the value of one argument of a kind, at any depth."""

    def change(rng: Random, calls: Made, problem: CallProblem) -> None:
        places: list[tuple[Any, Any]] = []
        for _, arguments in calls:
            _collect(arguments, kinds, places)
        if not places:
            raise Inapplicable
        holder, key = rng.choice(places)
        holder[key] = new(rng, holder[key])

    return change


def _collect(holder: Any, kinds: Kinds, places: list[tuple[Any, Any]]) -> None:
    keys = list(holder) if isinstance(holder, dict) else range(len(holder))
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    for key in keys:
        if type(holder[key]) in allowed:
            places.append((holder, key))
        if isinstance(holder[key], dict | list):
            _collect(holder[key], kinds, places)


def _shuffled(rng: Random, values: list[Any]) -> list[Any]:
    return rng.sample(values, len(values))


def _without_one(rng: Random, values: Any) -> Any:
    """A list or dictionary without one of its items."""
    if not values:
        raise Inapplicable
    if isinstance(values, dict):
        gone = rng.choice(list(values))
        return {key: value for key, value in values.items() if key != gone}
    place = rng.randrange(len(values))
    return values[:place] + values[place + 1 :]


def _spaced(rng: Random, text: str) -> str:
    """A text with a sign in it that does not count."""
    place = rng.randint(0, len(text))
    return text[:place] + rng.choice(" ,./-_*^") + text[place:]


def _signed(rng: Random, text: str) -> str:
    """A text with a sign in it that counts."""
    place = rng.randint(0, len(text))
    return text[:place] + rng.choice("!?:;()\"'\n\\é") + text[place:]


def _quoted(rng: Random, text: str) -> str:
    return text.replace("'", '"') if "'" in text else text.replace('"', "'")


ANY = (int, float, str, bool, list, dict)
OF_VALUES: dict[str, tuple[Kinds, Callable[[Random, Any], Any]]] = {
    "another number": ((int, float), lambda rng, value: value + rng.choice([-1, 1, 0.5])),
    "the opposite": (bool, lambda rng, value: not value),
    "another text": (str, lambda rng, value: value + rng.choice(["s", " x", "1"])),
    "integer to float": (int, lambda rng, value: float(value)),
    "float to integer": (float, lambda rng, value: int(value)),
    "number to text": ((int, float), lambda rng, value: str(value)),
    "number to boolean": ((int, float), lambda rng, value: bool(value)),
    "boolean to text": (bool, lambda rng, value: str(value)),
    "boolean to integer": (bool, lambda rng, value: int(value)),
    "text to number": (str, lambda rng, value: len(value)),
    "text to list": (str, lambda rng, value: [value]),
    "value to list": (ANY, lambda rng, value: [value]),
    "value to none": (ANY, lambda rng, value: None),
    "value to empty text": (ANY, lambda rng, value: ""),
    "value to text": (ANY, lambda rng, value: json.dumps(value)),
    "value to dictionary": (ANY, lambda rng, value: {"value": value}),
    "capitals": (str, lambda rng, value: value.swapcase()),
    "a sign that does not count": (str, _spaced),
    "a sign that counts": (str, _signed),
    "other quotes": (str, _quoted),
    "list to tuple": (list, lambda rng, value: tuple(value)),
    "list in another order": (list, _shuffled),
    "list or dictionary without one": ((list, dict), _without_one),
    "list with one twice": (list, lambda rng, value: value + value[-1:]),
    "empty list": (list, lambda rng, value: []),
    "empty dictionary": (dict, lambda rng, value: {}),
    "dictionary with another key": (dict, lambda rng, value: {**value, "more": 1}),
    "dictionary in another order": (dict, lambda rng, value: dict(reversed(value.items()))),
}

# Changes of arguments, names and calls


def _one(rng: Random, calls: Made) -> dict[str, Any]:
    """The arguments of one of the calls that has some."""
    holders = [arguments for _, arguments in calls if arguments]
    if not holders:
        raise Inapplicable
    return rng.choice(holders)


def _missing_argument(rng: Random, calls: Made, problem: CallProblem) -> None:
    arguments = _one(rng, calls)
    del arguments[rng.choice(list(arguments))]


def _extra_argument(rng: Random, calls: Made, problem: CallProblem) -> None:
    _one(rng, calls)[rng.choice(["verbose", "unit", "id"])] = rng.choice([1, "x", True])


def _empty_argument(rng: Random, calls: Made, problem: CallProblem) -> None:
    """An argument that is offered, and was left out, as an empty text or list."""
    name, arguments = rng.choice(calls)
    function = next(one for one in problem.functions if one["name"] == name)
    left = [each for each in function["parameters"]["properties"] if each not in arguments]
    if not left:
        raise Inapplicable
    arguments[rng.choice(left)] = rng.choice(["", [], {}, 0, None])


def _renamed_argument(rng: Random, calls: Made, problem: CallProblem) -> None:
    arguments = _one(rng, calls)
    name = rng.choice(list(arguments))
    arguments[rng.choice([name.upper(), f"{name}s", f"the_{name}"])] = arguments.pop(name)


def _arguments_in_another_order(rng: Random, calls: Made, problem: CallProblem) -> None:
    arguments = _one(rng, calls)
    for name in _shuffled(rng, list(arguments)):
        arguments[name] = arguments.pop(name)


def _renamed(new: Callable[[str], str]) -> Change:
    def change(rng: Random, calls: Made, problem: CallProblem) -> None:
        place = rng.randrange(len(calls))
        name = new(calls[place][0])
        if name == calls[place][0]:
            raise Inapplicable
        calls[place] = (name, calls[place][1])

    return change


def _all_underscores(rng: Random, calls: Made, problem: CallProblem) -> None:
    calls[:] = [(name.replace(".", "_"), arguments) for name, arguments in calls]


def _another_function(rng: Random, calls: Made, problem: CallProblem) -> None:
    place = rng.randrange(len(calls))
    calls[place] = (rng.choice(problem.functions)["name"], calls[place][1])


def _in_another_order(rng: Random, calls: Made, problem: CallProblem) -> None:
    rng.shuffle(calls)


def _call_twice(rng: Random, calls: Made, problem: CallProblem) -> None:
    calls.insert(rng.randint(0, len(calls)), deepcopy(rng.choice(calls)))


def _call_for_another(rng: Random, calls: Made, problem: CallProblem) -> None:
    calls[rng.randrange(len(calls))] = deepcopy(rng.choice(calls))


def _missing_call(rng: Random, calls: Made, problem: CallProblem) -> None:
    if len(calls) < 2:
        raise Inapplicable
    del calls[rng.randrange(len(calls))]


def _swapped_arguments(rng: Random, calls: Made, problem: CallProblem) -> None:
    """The values of two arguments in each other's place, of one call or of two."""
    first, second = _one(rng, calls), _one(rng, calls)
    one, other = rng.choice(list(first)), rng.choice(list(second))
    first[one], second[other] = second[other], first[one]


CHANGES: dict[str, Change] = {
    "nothing": lambda rng, calls, problem: None,
    **{name: _on_value(kinds, new) for name, (kinds, new) in OF_VALUES.items()},
    "missing argument": _missing_argument,
    "extra argument": _extra_argument,
    "empty argument": _empty_argument,
    "renamed argument": _renamed_argument,
    "arguments in another order": _arguments_in_another_order,
    "renamed function": _renamed(lambda name: f"{name}_2"),
    "name without its module": _renamed(lambda name: name.rpartition(".")[2]),
    "capitals in the name": _renamed(lambda name: name.upper()),
    "one name with underscores": _renamed(lambda name: name.replace(".", "_")),
    "names with underscores": _all_underscores,
    "another function": _another_function,
    "calls in another order": _in_another_order,
    "call twice": _call_twice,
    "call in place of another": _call_for_another,
    "missing call": _missing_call,
    "swapped arguments": _swapped_arguments,
}
TWICE = (
    "calls in another order and another number",
    "calls in another order and capitals",
    "capitals and missing argument",
    "another text and another text",
    "integer to float and a sign that does not count",
    "missing argument and empty argument",
)
EVERY = (*CHANGES, *TWICE)
