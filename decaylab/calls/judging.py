"""Verdicts on responses that should call functions, by three rules.

    problem = CallProblem("simple_python", offered, ({"gcd": {"a": [12], "b": [8]}},))
    judge("full", "gcd(a=12, b=9)", problem.text())
    # Outcome("wrong", "gcd: 'b' is 9, not one of [8]")

=======  =====================================================  ==================================
rule     correct                                                correct where no call is expected
=======  =====================================================  ==================================
full     every expected call, no other: `matching.fault`        no call, or a malformed one
name     the expected functions, each as often; any arguments   no call, or a malformed one
parse    calls that can be read                                 anything that can be read
=======  =====================================================  ==================================

Several expected calls may come in any order. Each takes the first call that fits and is still free,
as on the leaderboard: that can miss a better assignment where one call fits two expected ones.

Otherwise the verdict is ``wrong``, or ``no_answer``: without a call, or where it cannot be read.
Under `parse`, what cannot be read is ``wrong``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from decaylab.calls.matching import fault, same_name, shown
from decaylab.calls.reading import Call, calls_of
from decaylab.calls.schemas import Function
from decaylab.calls.values import Malformed
from decaylab.errors import UserError

RULES = ("full", "name", "parse")
Expected = Mapping[str, Mapping[str, Any]]
"""The name of a function, with the alternatives for each argument."""


@dataclass(frozen=True)
class CallProblem:
    """Functions that a model is offered, and the calls that are expected.

    category: of the leaderboard, such as ``parallel``.
    functions: their schemas, as `schemas.functions` returns them.
    expected: one function with its alternatives for each call; empty where no call is correct.
    """

    category: str
    functions: tuple[Function, ...]
    expected: tuple[Expected, ...] = ()

    def text(self) -> str:
        """The problem as ASCII JSON, always the same for equal problems but for the order of
        parameters, which a prompt shows."""
        expected = [_sorted(each) for each in self.expected]
        parts = {"category": self.category, "functions": self.functions, "expected": expected}
        return json.dumps(parts, separators=(",", ":"))

    @staticmethod
    def of_text(text: str) -> CallProblem:
        """The problem that `text` wrote.

        Raises:
            UserError: it is not such a text.
        """
        try:
            parts = json.loads(text)
            return CallProblem(
                parts["category"], tuple(parts["functions"]), tuple(parts["expected"])
            )
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"the gold answer must be a function-calling problem as JSON, got {text!r:.60}; "
                "load the problems by a function-calling set"
            ) from error


def _sorted(expected: Expected) -> dict[str, dict[str, Any]]:
    """An expected call with its arguments in the order of their names."""
    name = _name(expected)
    return {name: dict(sorted(expected[name].items()))}


@dataclass(frozen=True)
class Outcome:
    """verdict: ``correct``, ``wrong`` or ``no_answer``. message: why, in one line."""

    verdict: str
    message: str


def judge(rule: str, response: str, problem_text: str) -> Outcome:
    """The verdict on a response without its thoughts.

    Args:
        rule: one of `RULES`.
        response: what the model wrote.
        problem_text: `CallProblem.text`.

    Raises:
        ValueError: another rule.
        UserError: another text.
    """
    if rule not in RULES:
        raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")
    problem = _problem(problem_text)
    calls, malformed = _read(response, frozenset(one["name"] for one in problem.functions))
    if rule == "parse":
        return _parsed(calls, malformed, problem)
    if not problem.expected:
        return _without(calls, malformed)
    if not calls:
        return Outcome("no_answer", malformed or "no call")
    why = _names_fault(calls, problem) if rule == "name" else _fault(calls, problem)
    return Outcome("wrong", why) if why else Outcome("correct", _counted(calls))


@lru_cache(maxsize=1024)
def _problem(text: str) -> CallProblem:
    return CallProblem.of_text(text)


@lru_cache(maxsize=1024)
def _read(response: str, offered: frozenset[str]) -> tuple[tuple[Call, ...], str]:
    """The calls, and why the response is malformed if it is."""
    try:
        return tuple(calls_of(response, offered)), ""
    except Malformed as error:
        return (), f"malformed: {error}"


def _parsed(calls: tuple[Call, ...], malformed: str, problem: CallProblem) -> Outcome:
    if malformed:
        return Outcome("wrong", malformed)
    if calls or not problem.expected:
        return Outcome("correct", _counted(calls))
    return Outcome("no_answer", "no call")


def _without(calls: tuple[Call, ...], malformed: str) -> Outcome:
    """Where no function fits. A call that cannot be read is none, as on the leaderboard."""
    if not calls:
        return Outcome("correct", malformed or "no call")
    return Outcome("wrong", f"{_counted(calls)} where none is expected")


def _counted(calls: tuple[Call, ...]) -> str:
    names = {0: "no call", 1: "1 call"}
    return names.get(len(calls), f"{len(calls)} calls")


def _count_fault(calls: tuple[Call, ...], problem: CallProblem) -> str:
    if len(calls) == len(problem.expected):
        return ""
    return f"{_counted(calls)}, {len(problem.expected)} expected"


def _names_fault(calls: tuple[Call, ...], problem: CallProblem) -> str:
    if why := _count_fault(calls, problem):
        return why
    expected = Counter(_name(each) for each in problem.expected)
    for call in calls:
        fitting = [name for name in expected if expected[name] and same_name(call.name, name)]
        if not fitting:
            return f"{shown(call.name)} is called, {', '.join(+expected)} expected"
        expected[fitting[0]] -= 1
    return ""


def _fault(calls: tuple[Call, ...], problem: CallProblem) -> str:
    """Why the calls are not the expected ones: of the first that none fits, the last call's
    fault."""
    if why := _count_fault(calls, problem):
        return why
    free = list(calls)
    for expected in problem.expected:
        faults = [_call_fault(call, expected, problem) for call in free]
        if all(faults):
            return faults[-1]
        del free[faults.index("")]
    return ""


def _call_fault(call: Call, expected: Expected, problem: CallProblem) -> str:
    name = _name(expected)
    function = next(one for one in problem.functions if one["name"] == name)
    return fault(call, function, expected[name])


def _name(expected: Expected) -> str:
    return next(iter(expected))
