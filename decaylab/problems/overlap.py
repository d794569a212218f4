"""Training problems that are also among the test problems.

    shared(training, tests, in_text=False)    # places of problems with the same question
    shared(training, tests, in_text=True)     # and of those that contain the text of a test problem

Prompts of chat data wrap a problem in other words. There a training problem counts as shared when
it has a run of `RUN` words of a test problem, the usual length since GPT-3 (arXiv 2005.14165,
appendix C), or the whole of a shorter one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from decaylab.problems.code_sets import essence
from decaylab.problems.problem import Problem

RUN = 13
SHORTEST = 6
"""Fewest words of a test problem that are looked for inside other text."""
WORD = re.compile(r"\w+")


def shared(training: Sequence[Problem], tests: Sequence[Problem], in_text: bool) -> set[int]:
    """Places of the training problems that are among the tests."""
    tested = {one_form(problem.question) for problem in tests}
    found = {index for index, one in enumerate(training) if one_form(one.question) in tested}
    if in_text:
        runs = {run for problem in tests for run in _telling(essence(problem.question))}
        lengths = {len(run) for run in runs}
        found |= {
            index
            for index, one in enumerate(training)
            if any(run in runs for run in _runs(_words(essence(one.question)), lengths))
        }
    return found


def one_form(question: str) -> str:
    """A question in a normal form of case and spacing, to detect copies of a problem."""
    return " ".join(question.split()).casefold()


def _words(text: str) -> list[str]:
    return WORD.findall(text.casefold())


def _telling(question: str) -> Iterator[tuple[str, ...]]:
    """The runs of words of a test problem; the whole first line of one whose lines are shorter."""
    words = _words(question)
    first = _words(question.partition("\n")[0])
    if SHORTEST <= len(first) < RUN:
        yield tuple(first)
    yield from _runs(words, {min(RUN, max(len(words), SHORTEST))})


def _runs(words: Sequence[str], lengths: set[int]) -> Iterator[tuple[str, ...]]:
    for length in lengths:
        for start in range(len(words) - length + 1):
            yield tuple(words[start : start + length])
