"""Problem sets of code: what is asked, and what a program must pass.

    humaneval        signature and docstring, to be completed        openai/openai_humaneval
    mbpp             a sentence with three asserts, ids 11 to 510    google-research-datasets/mbpp
    humaneval+       HumanEval with many more tests                  evalplus/humanevalplus
    mbpp+            MBPP with many more tests                       evalplus/mbppplus
    codeultrafeedback   prompts for training, without tests          coseal/CodeUltraFeedback

The last three were written after their published columns and never read here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from decaylab.code import sets
from decaylab.errors import UserError
from decaylab.problems.problem import Problem

INSTRUCTION = "Answer with the complete code in one ```python block, without tests or examples."
MBPP_SPLITS = {
    "test": range(11, 511),
    "train": range(601, 975),
    "validation": range(511, 601),
    "prompt": range(1, 11),
}
"""The splits of MBPP, by task_id."""
ASKED = "Your code should pass these tests:"
COMPLETE = "Complete this Python function."
DOCSTRING = re.compile(r'(""" ?|\'\'\' ?)(.*?)(?:"""|\'\'\')', re.DOTALL)


def humaneval(row: Mapping[str, Any], where: str) -> Problem:
    """A HumanEval problem, or one in its columns."""
    problem = _judged(sets.humaneval, row, where)
    return _function(row, problem)


def humaneval_plus(row: Mapping[str, Any], where: str) -> Problem:
    """A HumanEval+ problem."""
    return _function(row, _judged(sets.humaneval_plus, row, where))


def mbpp(row: Mapping[str, Any], where: str) -> Problem:
    """An MBPP problem."""
    return _sentence(row, _judged(sets.mbpp, row, where), where)


def mbpp_plus(row: Mapping[str, Any], where: str) -> Problem:
    """An MBPP+ problem."""
    return _sentence(row, _judged(sets.mbpp_plus, row, where), where)


def own(row: Mapping[str, Any], where: str) -> Problem:
    """A problem of a user's own set, in the columns of MBPP (``test_list``) or of HumanEval."""
    return mbpp(row, where) if "test_list" in row else humaneval(row, where)


def codeultrafeedback(row: Mapping[str, Any], where: str) -> Problem:
    """A training prompt. It has no tests, so it has no gold answer."""
    question = row.get("instruction")
    if not isinstance(question, str) or not question.strip():
        raise UserError(f"{where}: column 'instruction' must hold the prompt, got {question!r:.60}")
    return Problem(str(row.get("id") or ""), question, None)


def essence(question: str) -> str:
    """What is asked, in words: without this library's own, the code around a docstring, and
    asserts."""
    asked = question.partition(f"\n{ASKED}")[0]
    if not asked.startswith(COMPLETE):
        return asked
    words = (line for text in DOCSTRING.findall(asked) for line in text[1].splitlines())
    return "\n".join(line for line in words if ">>>" not in line)


def _judged(
    read: Callable[[Mapping[str, Any]], sets.CodeProblem], row: Mapping[str, Any], where: str
) -> sets.CodeProblem:
    try:
        return read(row)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _function(row: Mapping[str, Any], problem: sets.CodeProblem) -> Problem:
    """A function to complete."""
    question = f"{COMPLETE}\n```python\n{problem.prompt.strip()}\n```"
    name = str(row.get("task_id") or "")
    return Problem(name, question, problem.text(), completion=problem.prompt)


def _sentence(row: Mapping[str, Any], problem: sets.CodeProblem, where: str) -> Problem:
    """A sentence with its asserts. A base model gets both as the docstring of a file."""
    sentence = row.get("text") or row.get("prompt")
    tests = row.get("test_list")
    if not isinstance(sentence, str) or not isinstance(tests, list | tuple):
        raise UserError(f"{where}: columns 'text' (or 'prompt') and 'test_list' must hold the task")
    shown = "\n".join(map(str, tests))
    question = f"{sentence.strip()}\n{ASKED}\n{shown}"
    start = f'"""\n{sentence.strip()}\n{shown}\n"""\n'
    name = f"MBPP/{row['task_id']}" if "task_id" in row else ""
    return Problem(name, question, problem.text(), completion=start)
