"""The categories of a task are known by its name, and a file of the user's own replaces them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from decaylab.errors import UserError
from decaylab.tokens import task_categories

OF_KIND = {
    "mathematics": ("math_number", "12"),
    "code": ("prose", "12 x"),
    "calls": ("function_name", "f(a=1)"),
}


@pytest.mark.parametrize("kind", task_categories.KINDS)
def test_each_task_has_categories_of_its_own(kind: str) -> None:
    categories = task_categories.load(kind, None)
    name, text = OF_KIND[kind]
    assert categories.names[categories.classify([text], np.array([1]))[0]] == name
    assert categories.names[-1] == "end_of_turn" and len(set(categories.names)) > 5


@pytest.mark.parametrize("kind", task_categories.KINDS)
def test_a_file_replaces_the_categories_of_every_task(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        '[[category]]\nname = "a"\nwords = ["def"]\n[[category]]\nname = "b"\nrest = true\n'
    )
    categories = task_categories.load(kind, path)
    assert categories.names == ("a", "b", "end_of_turn")
    assert categories.classify(["def", " f"], np.array([2])).tolist() == [0, 1]


def test_an_unknown_task_is_named_with_those_that_are_known() -> None:
    says = "no token categories 'poems'; allowed are mathematics, code, calls"
    with pytest.raises(UserError, match=says):
        task_categories.load("poems", None)
