"""What it takes to judge a program, from the rows of the published sets.

HumanEval and MBPP are read as published. humaneval+ and mbpp+ are written for their published
columns (evalplus/humanevalplus, evalplus/mbppplus) and tested on stand-ins: the files were not at
hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from decaylab.code import preparing
from decaylab.errors import UserError

HUMANEVAL, MBPP = "humaneval", "mbpp"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class CodeProblem:
    """A problem whose answer is a program.

    suite: "humaneval" or "mbpp".
    prompt: the signature and docstring to continue; "" for MBPP.
    entry_point: the function under test.
    tests: statements that end without an exception if the program is correct.
    reference: a correct program.
    """

    suite: str
    prompt: str
    entry_point: str
    tests: str
    reference: str

    def text(self) -> str:
        """As JSON with sorted keys in ASCII; the gold answer of a problem."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def of_text(cls, text: str) -> CodeProblem:
        """Raises:
        UserError: the text is not one that `text` writes.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            raise UserError(
                f"no code problem: {text[:60]!r}; its gold answer has suite, prompt, entry_point, "
                "tests and reference as JSON"
            ) from None

    def prepared(self) -> preparing.Prepared:
        """The tests for the judge."""
        return preparing.prepared(self.prompt, self.entry_point, self.tests, self.reference)

    @property
    def shares_objects(self) -> bool:
        """Whether the tests need objects of the program's own, as MBPP 367, 601 and 927 do."""
        return self.prepared().shares_objects


def humaneval(row: Row) -> CodeProblem:
    """A row of openai/openai_humaneval.

    Raises:
        UserError: a column is missing or empty, or the tests are no Python.
    """
    entry_point, prompt = _text(row, "entry_point"), _text(row, "prompt")
    tests = f"{_text(row, 'test')}\n\ncheck({entry_point})"
    problem = CodeProblem(
        HUMANEVAL, prompt, entry_point, tests, prompt + _text(row, "canonical_solution")
    )
    return _checked(problem, row)


def humaneval_plus(row: Row) -> CodeProblem:
    """A row of evalplus/humanevalplus, which has the columns of HumanEval; its tests import
    numpy."""
    return humaneval(row)


def mbpp(row: Row) -> CodeProblem:
    """A row of google-research-datasets/mbpp, full or sanitized.

    Raises:
        UserError: a column is missing or empty, or the tests call no function.
    """
    setup = row.get("test_setup_code") or "\n".join(row.get("test_imports") or [])
    return _mbpp(row, "\n".join([setup, *_lines(row, "test_list")]))


def mbpp_plus(row: Row) -> CodeProblem:
    """A row of evalplus/mbppplus, whose column ``test`` is a script with all inputs and results."""
    imports = "\n".join(row.get("test_imports") or [])
    problem = _mbpp(row, "\n".join(_lines(row, "test_list")))
    return _checked(replace(problem, tests=f"{imports}\n{_text(row, 'test')}".strip()), row)


def _mbpp(row: Row, tests: str) -> CodeProblem:
    reference = _text(row, "code").replace("\r\n", "\n")
    problem = CodeProblem(MBPP, "", "", tests.replace("\r\n", "\n").strip(), reference)
    _checked(problem, row)
    found = preparing.entry_point(problem.tests, reference)
    if found is None:
        raise _unusable(row, "its tests call no function", "a test is `assert f(1) == 2`")
    return replace(problem, entry_point=found)


def _checked(problem: CodeProblem, row: Row) -> CodeProblem:
    try:
        problem.prepared()
    except (SyntaxError, ValueError) as error:
        raise _unusable(row, f"its tests are no Python: {error}", "mend them") from None
    return problem


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise _missing(row, column)
    return value


def _lines(row: Row, column: str) -> list[str]:
    value = row.get(column)
    if value is None or isinstance(value, str) or not len(value):
        raise _missing(row, column)
    return [str(line) for line in value]


def _missing(row: Row, column: str) -> UserError:
    found = ", ".join(map(str, row)) or "none"
    return _unusable(row, f"no {column}", f"its columns are {found}; {column} is needed")


def _unusable(row: Row, found: str, remedy: str) -> UserError:
    name = row.get("task_id", "without task_id")
    return UserError(f"problem {name} cannot be judged: {found}; {remedy}")
