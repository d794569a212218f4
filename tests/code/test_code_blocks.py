"""Which program a response contains, by each rule."""

from __future__ import annotations

from typing import Any

import pytest
from code_problems import encoded, sums

from decaylab.code.blocks import HUMANEVAL_STOPS, RULES, before_entry, program
from decaylab.code.fences import fenced
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


ADDED = "def added(a, b):\n    return a + b\n"


def test_the_last_block_is_the_last_that_defines_the_function() -> None:
    assert program("last_block", TWO, sums()) == ADDED
    better = f"{TWO}Better:\n```\nadded = max\n```\nIt prints:\n```\n3\n```"
    assert program("last_block", better, sums()) == "added = max\n"


def test_where_no_block_defines_the_function_the_last_is_run_and_other_languages_are_not() -> None:
    response = "```python\na = 1\n```\n```py\nprint(added(1, 2))\n```\n```bash\nls\n```"
    assert program("last_block", response, sums()) == "print(added(1, 2))\n"


def test_the_first_block_is_the_first_that_defines_the_function() -> None:
    assert program("first_block", TWO, sums()) == ADDED
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


LISTED = ADDED.replace("def", "   def").replace("    return", "       return")
FENCED = {
    "in a list": f"1. Here:\n\n   ```python\n{LISTED}   ```\nIt adds.",
    "far in a list": "- Here:\n\n        ```python\n        def added(a, b):\n\n"
    "            return a + b\n        ```\n",
    "behind the mark of a list": f"1. ```python\n{LISTED}   ```\n",
    "indented without its code": f"  ```python\n{ADDED}  ```\n",
    "behind text": f"Sure: ```python\n{ADDED}```",
    "unmarked behind a colon": f"Sure: ```\n{ADDED}```",
    "closed behind code": f"```python\n{ADDED.rstrip()}```\nIt adds.",
    "of Pandoc": f"```{{.python .numberLines}}\n{ADDED}```",
    "py3": f"```py3\n{ADDED}```",
    "python3": f"```python3\n{ADDED}```",
    "Python": f"```Python title=a.py\n{ADDED}```",
    "a stray last fence": f"```python\n{ADDED}```\n```",
    "an empty last block": f"```python\n{ADDED}```\n```python\n\n```\n",
    "in Markdown": f"````markdown\nText\n```python\n{ADDED}```\n````",
    "in unmarked Markdown": f"```\nText\n```python\n{ADDED}```\n```",
    "Windows": f"```python\n{ADDED}```\n".replace("\n", "\r\n"),
}


@pytest.mark.parametrize("response", FENCED.values(), ids=FENCED)
def test_a_fence_is_read_as_models_write_it(response: str) -> None:
    (block,) = fenced(response)
    assert "".join(block.split()) == "".join(ADDED.split())
    for rule in ("last_block", "first_block"):
        namespace: dict[str, Any] = {}
        exec(str(program(rule, response, sums())), namespace)
        assert namespace["added"](1, 2) == 3


def test_ticks_that_end_no_block_open_and_close_none() -> None:
    assert fenced("Call `added` like ```added(1, 2)``` or\nwrite ```\nprose") == []
    inside = f'"""\nExample: ```\n"""\n{ADDED}'
    assert fenced(f"```python\n{inside}```") == [inside]


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


BODY = "    return shifted(text)\n"


def test_a_block_of_the_body_alone_continues_the_prompt() -> None:
    response = f"```\n{BODY}```\n```\nprint(restored('a'))\n```"
    for rule in ("last_block", "first_block"):
        assert program(rule, response, encoded()) == encoded().prompt + BODY
    assert program("whole", BODY, encoded()) == encoded().prompt + BODY


@pytest.mark.parametrize("source", ["x = 1\n", "    # nothing\nx = 1\n", "print(restored('a'))\n"])
def test_what_is_no_body_does_not_continue_the_prompt(source: str) -> None:
    """The prompt alone defines the function, which would return None."""
    for rule, response in [("last_block", f"```python\n{source}```"), ("whole", source)]:
        assert program(rule, response, encoded()) == BEFORE + source


def test_a_method_does_not_define_the_function() -> None:
    source = "class Solution:\n    def restored(self, text):\n        return text\n"
    assert program("first_block", f"```python\n{source}```", encoded()) is None
    assert program("last_block", f"```python\n{source}```", encoded()) == BEFORE + source


MARKS = ["<|endoftext|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "</s>", "<end_of_turn>"]


@pytest.mark.parametrize("mark", MARKS)
def test_a_response_ends_at_the_mark_of_its_turn(mark: str) -> None:
    for rule, response in [
        ("completion", BODY),
        ("whole", SOLVED),
        ("last_block", f"```\n{SOLVED}"),
    ]:
        found = program(rule, response, encoded())
        assert program(rule, f"{response}{mark}\n<|im_start|>user", encoded()) == found
    quoted = f"def restored(text):\n    return text + '{mark}'\n"
    assert program("whole", quoted, encoded()) == BEFORE + quoted


@pytest.mark.parametrize("stop", HUMANEVAL_STOPS)
def test_a_completion_ends_where_the_function_does(stop: str) -> None:
    body = "    if not text:\n        return ''\n    # all letters\n    return text"
    response = f"{body}{stop} more"
    assert program("completion", response, encoded()) == encoded().prompt + body


def test_a_completion_that_repeats_the_signature_is_a_program() -> None:
    response = f"{SOLVED}\ndef other():\n    pass\n"
    assert program("completion", response, encoded()) == BEFORE + response
    assert program("completion", f"Sure:\n```python\n{SOLVED}```", encoded()) == BEFORE + SOLVED


ENDED = {
    "the signature again": f"{BODY}\n\n{SOLVED}",
    "the signature again, before prose": f"{BODY}\n\n{SOLVED}\nThis is all.",
    "a closing fence and prose": f"{BODY}```\n\nThis works.",
    "a closing fence behind code": f"{BODY.rstrip()}```\n\nThis works.",
    "a closing fence and another block": f"{BODY}```\n\n```python\nprint(restored('a'))\n```",
    "a fence opened behind it": f"{BODY}\n```python\nprint(restored('a'))\n```",
}


@pytest.mark.parametrize("response", ENDED.values(), ids=ENDED)
def test_what_follows_the_body_does_not_change_a_completion(response: str) -> None:
    found = program("completion", response, encoded())
    assert str(found).rstrip() == encoded().prompt + BODY.rstrip()


def test_a_completion_that_repeats_the_signature_ends_at_its_fence_too() -> None:
    response = f"import re\n# again\n{SOLVED}```\nThis works."
    expected = f"{BEFORE}import re\n# again\n{SOLVED}"
    assert program("completion", response, encoded()) == expected
    assert program("completion", f"{ADDED}```\nThis adds.", sums()) == ADDED


def test_a_completion_of_mbpp_ends_before_its_examples() -> None:
    response = "def helper(): pass\ndef added(a, b):\n    return a + b\nassert added(1, 1) == 2"
    assert program("completion", response, sums()) == response[: response.index("\nassert")]


def test_an_unknown_rule_is_named_with_those_there_are() -> None:
    with pytest.raises(UserError, match="did you mean last_block") as caught:
        program("last_blok", "", sums())
    assert all(rule in str(caught.value) for rule in RULES)
