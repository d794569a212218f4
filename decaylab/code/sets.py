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


def shares_objects(text: str) -> bool:
    """Whether the tests of a problem, given as its gold answer, need objects of the program's own.

    Raises:
        UserError: the text is no code problem.
    """
    return CodeProblem.of_text(text).shares_objects


def humaneval(row: Row) -> CodeProblem:
    """A row of openai/openai_humaneval.

    Raises:
        UserError: a column is missing or empty, or the tests are no Python or cannot fail.
    """
    entry_point, prompt = _text(row, "entry_point"), _text(row, "prompt")
    tests = f"{_text(row, 'test')}\n\ncheck({entry_point})"
    problem = CodeProblem(
        HUMANEVAL, prompt, entry_point, tests, prompt + _text(row, "canonical_solution")
    )
    return _able_to_fail(_checked(problem, row), row["test"], row)


def humaneval_plus(row: Row) -> CodeProblem:
    """A row of evalplus/humanevalplus, which has the columns of HumanEval; its tests import
    numpy."""
    return humaneval(row)


def mbpp(row: Row) -> CodeProblem:
    """A row of google-research-datasets/mbpp, full or sanitized.

    Raises:
        UserError: a column is missing or empty, or the tests call no function.
    """
    setup = _source(row, "test_setup_code") or _source(row, "test_imports")
    return _mbpp(row, f"{setup}\n{_listed(row, 'test_list')}")


def mbpp_plus(row: Row) -> CodeProblem:
    """A row of evalplus/mbppplus, whose column ``test`` is a script with all inputs and results."""
    tests = f"{_source(row, 'test_imports')}\n{_text(row, 'test')}".strip()
    problem = _mbpp(row, _listed(row, "test_list"))
    return _able_to_fail(_checked(replace(problem, tests=tests), row), tests, row)


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


def _able_to_fail(problem: CodeProblem, tests: str, row: Row) -> CodeProblem:
    if preparing.names_function(tests, problem.entry_point):
        return problem
    found = f"its tests never call {problem.entry_point}, so that every program passes"
    raise _unusable(row, found, "a test is `def check(candidate): assert candidate(1) == 2`")


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise _missing(row, column)
    return value


def _listed(row: Row, column: str) -> str:
    """The lines of a column that holds a list of text."""
    lines = _source(row, column)
    if isinstance(row.get(column), str) or not lines.strip():
        raise _missing(row, column)
    return lines


def _source(row: Row, column: str) -> str:
    """The lines of a column that may be absent, and holds text or a list of text."""
    value = row.get(column)
    if value is None or isinstance(value, str):
        return value or ""
    if not _is_list(value) or not all(isinstance(line, str) for line in value):
        raise _unusable(row, f"{column} is {str(value)[:60]}", "a list of text is needed")
    return "\n".join(value)


def _is_list(value: object) -> bool:
    """Whether a value is a list, or an array as tables hold it."""
    return isinstance(value, list | tuple) or type(value).__name__ == "ndarray"


def _missing(row: Row, column: str) -> UserError:
    found = ", ".join(map(str, row)) or "none"
    return _unusable(row, f"no {column}", f"its columns are {found}; {column} is needed")


def _unusable(row: Row, found: str, remedy: str) -> UserError:
    name = row.get("task_id", "without task_id")
    return UserError(f"problem {name} cannot be judged: {found}; {remedy}")
