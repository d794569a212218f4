"""The list of mutants that change nothing is about the code as it is; running them all is `make
mutants`."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
LISTED = tomllib.loads((TESTS / "mutants.toml").read_text())
EQUIVALENT = LISTED.get("equivalent", [])


def code_of(module: str, function: str) -> str:
    """The lines of a function, or those of the whole module, each without its indentation."""
    source = (TESTS.parent / f"{module.replace('.', '/')}.py").read_text()
    if function:
        found = [
            one
            for one in ast.walk(ast.parse(source))
            if isinstance(one, ast.FunctionDef) and one.name == function
        ]
        source = "\n".join(ast.get_source_segment(source, one) or "" for one in found)
    return "\n".join(line.strip() for line in source.splitlines())


@pytest.mark.parametrize("one", EQUIVALENT, ids=lambda one: f"{one['module']}-{one['function']}")
def test_a_mutant_that_is_listed_as_equivalent_changes_code_that_is_there(
    one: dict[str, str],
) -> None:
    code = code_of(one["module"], one["function"]).splitlines()
    assert set(one["before"].splitlines()) <= set(code)
    assert one["after"] != one["before"] and one["reason"] and one["module"] in LISTED["tests"]


@pytest.mark.parametrize("module", LISTED["tests"])
def test_every_module_is_there_with_its_tests(module: str) -> None:
    assert code_of(module, "")
    assert all((TESTS / test.partition("::")[0]).exists() for test in LISTED["tests"][module])
