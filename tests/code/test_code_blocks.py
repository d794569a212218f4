"""Which program a response contains, by each rule."""

from __future__ import annotations

import pytest
from code_problems import encoded, sums

from decaylab.code.blocks import HUMANEVAL_STOPS, RULES, before_entry, fenced, program
from decaylab.errors import UserError

TWO = """I define it first:
```python
def added(a, b):
    return a + b
```
and use it:
```py
print(added(1, 2))
```
```bash
python added.py
```
"""
SOLVED = "def restored(text):\n    return text\n"
BEFORE = encoded().prompt[: encoded().prompt.index("def restored")]


def test_the_last_block_of_python_is_taken_and_other_languages_are_passed_over() -> None:
    assert program("last_block", TWO, sums()) == "print(added(1, 2))\n"


def test_the_first_block_is_the_first_that_defines_the_function() -> None:
    assert program("first_block", TWO, sums()) == "def added(a, b):\n    return a + b\n"
    again = TWO.replace("print(added(1, 2))", "added = max")
    assert program("first_block", again, sums()).startswith("def added")
    assert program("first_block", "```\nother = 1\n```", sums()) is None


@pytest.mark.parametrize("name", ["added", "added2"])
def test_a_function_whose_name_only_begins_alike_is_another(name: str) -> None:
    found = program("first_block", f"```\ndef {name}(a, b):\n    pass\n```", sums())
    assert (found is None) == (name != "added")


def test_an_unmarked_block_is_python_and_an_open_one_runs_to_the_end() -> None:
    assert fenced("```\na = 1\n```\ntext\n```python\nb = 2\n") == ["a = 1\n", "b = 2\n"]


def test_a_longer_fence_holds_shorter_ones() -> None:
    assert fenced("````python\na = '''\n```\n'''\n````") == ["a = '''\n```\n'''\n"]
    assert fenced("~~~python\na = 1\n```\n~~~") == ["a = 1\n```\n"]


def test_a_response_without_a_block_has_no_program_for_the_rules_of_blocks() -> None:
    for rule in ("last_block", "first_block"):
        assert program(rule, "def added(a, b): return a + b", sums()) is None
    assert program("last_block", "```js\nlet a = 1\n```", sums()) is None


def test_the_whole_response_is_the_program() -> None:
    assert program("whole", "def added(a, b):\n    return a", sums()).endswith("return a")
    assert program("whole", "  \n", sums()) is None


def test_imports_and_helpers_of_the_prompt_stand_before_a_block() -> None:
    assert before_entry(encoded()) == BEFORE
    found = program("last_block", f"```python\n{SOLVED}```", encoded())
    assert found == BEFORE + SOLVED
    assert program("whole", SOLVED, encoded()) == BEFORE + SOLVED


def test_an_import_from_the_future_stays_first() -> None:
    source = f"from __future__ import annotations\n{SOLVED}"
    assert program("whole", source, encoded()) == (
        f"from __future__ import annotations\n{BEFORE}{SOLVED}"
    )


def test_a_block_of_the_body_alone_continues_the_prompt() -> None:
    body = "    return shifted(text)\n"
    assert program("last_block", f"```\n{body}```", encoded()) == encoded().prompt + body


@pytest.mark.parametrize("stop", HUMANEVAL_STOPS)
def test_a_completion_ends_where_the_function_does(stop: str) -> None:
    body = "    if not text:\n        return ''\n    # all letters\n    return text"
    response = f"{body}{stop} more"
    assert program("completion", response, encoded()) == encoded().prompt + body


def test_a_completion_that_repeats_the_signature_is_a_program() -> None:
    response = f"{SOLVED}\ndef other():\n    pass\n"
    assert program("completion", response, encoded()) == BEFORE + response
    assert program("completion", f"Sure:\n```python\n{SOLVED}```", encoded()) == BEFORE + SOLVED


def test_a_completion_of_mbpp_ends_before_its_examples() -> None:
    response = "def helper(): pass\ndef added(a, b):\n    return a + b\nassert added(1, 1) == 2"
    assert program("completion", response, sums()) == response[: response.index("\nassert")]


def test_an_unknown_rule_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match="did you mean last_block") as caught:
        program("last_blok", "", sums())
    assert all(rule in str(caught.value) for rule in RULES)
