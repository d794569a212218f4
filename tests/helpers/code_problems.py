"""Small problems for programs, and whether this machine has a sandbox."""

from __future__ import annotations

import pytest

from decaylab.code import sandbox
from decaylab.code.sets import CodeProblem, humaneval, mbpp
from decaylab.errors import UserError


def has_sandbox() -> bool:
    try:
        sandbox.require().close()
    except UserError:
        return False
    return True


needs_sandbox = pytest.mark.skipif(
    not has_sandbox(), reason="needs extra: decaylab[code], or a system that lets bubblewrap work"
)

ENCODED = {
    "task_id": "HumanEval/38",
    "prompt": '''import string

SHIFT = 5


def shifted(text: str) -> str:
    """Each letter five places on."""
    return "".join(chr((ord(letter) - 97 + SHIFT) % 26 + 97) for letter in text)


def restored(text: str) -> str:
    """The text that `shifted` was given."""
''',
    "entry_point": "restored",
    "canonical_solution": """    back = [chr((ord(one) - 97 - SHIFT) % 26 + 97) for one in text]
    return "".join(back)
""",
    "test": """

def check(candidate):
    from random import choice
    for _ in range(5):
        text = "".join(choice("abcxyz") for _ in range(8))
        assert candidate(shifted(text)) == text
    assert candidate("") == ""
""",
}
"""Made for the tests, in the columns of openai/openai_humaneval, with a helper in its prompt."""
SUMS = {
    "task_id": 11,
    "text": "Write a function to add numbers.",
    "code": "def added(a, b):\r\n    return a + b",
    "test_setup_code": "",
    "test_list": ["assert added(1, 2) == 3", "assert added('a', 'b') == 'ab'"],
    "challenge_test_list": [],
}
"""Made for the tests, in the columns of MBPP."""
TREE = {
    "task_id": 367,
    "text": "Write a function to find the height of a tree.",
    "code": (
        "class Node:\n    def __init__(self, value):\n        self.left = self.right = None\n\n"
        "def height(node):\n    if node is None:\n        return 0\n"
        "    return 1 + max(height(node.left), height(node.right))\n"
    ),
    "test_setup_code": "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)",
    "test_list": ["assert height(root) == 3", "assert (height(Node(7))) == 1"],
    "challenge_test_list": [],
}
"""Tests that need the program's own class."""


def encoded() -> CodeProblem:
    return humaneval(ENCODED)


def sums() -> CodeProblem:
    return mbpp(SUMS)


def tree() -> CodeProblem:
    return mbpp(TREE)


def asserting(tests: str, entry_point: str = "answer") -> CodeProblem:
    """A problem of MBPP's kind with these tests."""
    return CodeProblem("mbpp", "", entry_point, tests, f"def {entry_point}(*given): ...")
