"""Categories of code: those of Python's own tokenizer where the text parses, and sensible ones
where it is cut or wrong."""

from __future__ import annotations

import random
import sysconfig
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from python_categories import by_the_library

from decaylab.tokens.categories import END_OF_TURN
from decaylab.tokens.code_categories import NAMES, CodeCategories, of_code
from decaylab.tokens.languages.code_blocks import regions

CATEGORIES = CodeCategories()
LIBRARY = Path(sysconfig.get_paths()["stdlib"])
# k keyword, n name, o operator, l literal, _ layout, c comment, d docstring, p prose
LETTERS = dict(zip("knol_cdp", NAMES, strict=True))
HOSTILE = "\"'`\\{}[]():;#\n\t $fr=mtch09é\u3000\U0001f642"


def of_characters(code: str) -> list[str]:
    """Category of each character of a block of code."""
    found = [""] * len(code)
    for start, stop, category in of_code(code):
        assert found[start:stop] == [""] * (stop - start)
        found[start:stop] = [NAMES[category]] * (stop - start)
    return found


def of_text(text: str) -> list[str]:
    return [NAMES[code] for code in CATEGORIES.of_characters([text])]


def letters(categories: list[str]) -> str:
    known = {name: letter for letter, name in LETTERS.items()}
    return "".join(known[category] for category in categories)


def pieces(text: str) -> list[tuple[str, str]]:
    """Stretches of one category, and their text."""
    places = groupby(enumerate(of_text(text)), key=lambda pair: pair[1])
    return [(category, "".join(text[place] for place, _ in group)) for category, group in places]


def only(text: str, *wanted: str) -> list[str]:
    return [piece for category, piece in pieces(text) if category in wanted]


@pytest.mark.parametrize("name", ["bisect", "contextlib", "dataclasses", "keyword", "textwrap"])
def test_a_module_that_parses_is_read_as_python_reads_it(name: str) -> None:
    code = (LIBRARY / f"{name}.py").read_text(encoding="utf-8")
    compare(code)


SNIPPETS = {
    "docstrings": '"m"\nclass A:\n    "a"\n    "b"\n    async def f(self): "f"; "no"\n'
    '    def g(self) -> "T":\n        # why\n\n        r"""g"""\n        x = "no"\n',
    "no docstring": 'def f():\n    b"no"\n    "no"\ndef g():\n    "no".upper()\n'
    'def h():\n    "no",\ndef i(a="no"): x = 1; "no"\nif 1:\n    "no"\n',
    "two strings in one": 'def f():\n    "one" \\\n    "doc"\n    return ("no"\n        "no")\n',
    "soft keywords": "match = case = type = 1\nmatch(1)\nmatch[0]\nmatch.x\nmatch -1\n"
    "match match:\n    case [case, *_] if match: pass\n    case {'a': (type)}: match = case\n"
    "match (x):\n    case -1 | 2: pass\n    case A(b=_): print(match)\nmatch ...:\n    case _: 1\n"
    "def f(match, case): return match * case\nmatch: int = 2\ntype(match)\ncase: int\n"
    "case(x[1:2])\ncase -= lambda: 1\nmatch(lambda: 1)\n",
    "layout": "x = (1 +\n\n  2)  # c\nif x: \\\n  y = 1\n\ty\n"
    if False
    else "x = (1 +\n\n  2)  # c\nif x: \\\n  y = 1\n\x0cz = 2\r\nw = 3\n",
    "numbers": "0x_fF + 0b1_0 - 0o17 * 1_0.5e-3j / .5 ** 1. // 1e5 % 0_0 if 1else 2\n",
    "operators": "x: int = (y := a @ b)\nx @= ~y | -z ^ 1 << 2 >> 3 & 4\nx //= y != z <= w\n"
    "@a.b\ndef f(a, /, *, b=..., **c) -> None: ...\nlambda: (yield)\n",
    "strings": "x = u'a' + R\"\\n\\\"\" + rb'''\n'\\'' ''' + \"\\\n\" + '#' + ''\n"
    "x = '''a'b''c'''\n",
    "words": "naïve = _数学 = ª1\nprint(True, None, self, __x__, async_, nonlocal_)\n",
}


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_that_parses_is_read_as_python_reads_it(name: str) -> None:
    compare(SNIPPETS[name])


def compare(code: str) -> None:
    """With the standard library's tokenizer and syntax tree."""
    found, expected = of_characters(code), by_the_library(code)
    for place, category in enumerate(expected):
        around = code[max(0, place - 30) : place + 10]
        assert category in (None, found[place]), (around, code[place])


F_STRINGS = {  # by the grammar of Python 3.12, in every version
    'f"a{b}c"': "lllonoll",
    "rf'{a!r:>{b}}x'": "lllononolonooll",
    'f"{{{a}}}"': "llllonolll",
    'f"{a["k"]}"': "llonolllool",
    "f'{a:{b}.{c}f}'": "llonoonolonolol",
    'F"{x=}{y:%d}"': "llonooonollol",
    'f"""\n{\na}"""': "lllllo_nolll",
    "f'\\N{DASH}{d}'": "l" * 10 + "onol",
    "rf'\\N{d}'": "l" * 5 + "onol",
    "f'{f\"{a}\"}'": "llollonolol",
    "f'{a' + b": "llonlllll",
    "f'a\nb": "lll_n",
    "f'{a\nb": "llon_n",
    'f"{d[1:2]}"': "llonololool",
    'f"{a.b(1, *c)}"': "llononolo_onool",
}


@pytest.mark.parametrize("code", F_STRINGS)
def test_fields_of_an_f_string_are_code(code: str) -> None:
    assert letters(of_characters(code)) == F_STRINGS[code]


BROKEN = {
    "x = [1,\ndef f():\n    'd'": "n_o_olo_kkk_nooo_____ddd",
    "def f()\n    'd'": "kkk_noo_____ddd",
    "it's a $x?\ny": "nn" + "l" * 8 + "_n",
    'x = """a\ny': "n_o_llllll",
    "print('a": "nnnnnoll",
    "0x": "ll",
    "a ? b ! c": "n_o_n_o_n",
    "x = (}\ny)": "n_o_oo_no",
    "\\": "o",
    "match x": "kkkkk_n",
    "match (": "nnnnn_o",
    "type X": "kkkk_n",
}


@pytest.mark.parametrize("code", BROKEN)
def test_code_that_is_cut_or_wrong_has_sensible_categories(code: str) -> None:
    assert letters(of_characters(code)) == BROKEN[code]


RESPONSE = '''Here is a function:

1. It adds, e.g. `a + b`.

```python
from typing import List

@cache
class Adder:
    """Adds
    numbers."""

    def add(self, a: int, b=1.5) -> int:
        """Adds."""
        x = f"{a!r} and {b:>{a}} #no"  # yes, it's
        for i in range(3):
            x += ["it's", 'b' 'c'][i] if not a else """
            text"""
        return x
```

The result:
```
[1, 2]
```
```bash
for x in y; do z; done
```
Done.'''


def test_a_response_has_prose_around_its_code() -> None:
    assert only(RESPONSE, "prose") == [
        "Here is a function:\n\n1. It adds, e.g. `a + b`.\n\n",
        "\n\nThe result:\n",
        "\n",
        "\nfor x in y; do z; done\n",
        "\nDone.",
    ]
    assert only(RESPONSE, "docstring") == ['"""Adds\n    numbers."""', '"""Adds."""']
    assert only(RESPONSE, "comment") == ["# yes, it's"]
    fences = [line for line in RESPONSE.split("\n") if line.startswith("```")]
    assert all(any(fence in layout for layout in only(RESPONSE, "layout")) for fence in fences)


def test_a_cut_response_is_read_as_the_whole_one_up_to_its_last_word() -> None:
    whole = of_text(RESPONSE)
    for end in range(len(RESPONSE)):
        known = max(RESPONSE.rfind(" ", 0, end), RESPONSE.rfind("\n", 0, end)) + 1
        assert of_text(RESPONSE[:end])[:known] == whole[:known], RESPONSE[:end][-40:]


def test_the_first_backticks_of_a_fence_are_layout() -> None:
    for marks in ("`", "``", "```", "```py"):
        assert only(f"It is:\n\n{marks}", "layout") == [marks]
        assert only(f"```\nx\n{marks[:3]}", "layout")[-1] == f"\n{marks[:3]}"


PARTS = {
    "```\nx\n```\ny": "fence code fence prose",
    "a\n```python\nx": "prose fence code",
    "a\n~~~Python\n```\n~~~\n": "prose fence code fence prose",
    "````\n```\nx\n```\n````": "fence code fence",
    "1. a\n   ```py\n   x\n   ```\n2. b": "prose fence code fence prose",
    "a\n```java\nx\n```": "prose fence prose fence",
    "``` is a fence": "fence",
    "a ```x``` b": "prose",
    "": "",
    # continuations of a prompt
    "    return x": "code",
    "\tx.y()\n\n\nThis is how\nit works.": "code prose",
    "    return x\n```\nIt works.\n```python\ny\n```": "code fence prose fence code fence",
    "    return x\n\n\n# Test cases\nprint(f(2))\n": "code",
    "    return x\n\n## Explanation\nIt": "code prose",
    "import os\n\ndef f():\n    return 1\n": "code",
    '"""a\n\nA doc of two words.\n"""\nx = 1': "code",
    # no fence
    "To solve it:\n\ndef f(x):\n  return x\n\nIt works.\n": "prose code prose",
    "To solve it": "prose",
    "From here we import a, for x in y.": "prose",
    "The answer is x = 3.\n\n- a\n  - b": "prose",
    "  - a list\n  - of things": "prose",
    "Yes": "prose",
    "if you want to know it": "prose",
    "when you want to know it": "prose",
    "    if n": "code",
    "    This is how it works": "prose",
    "None of these work.": "prose",
    "Call it:\n\nx = f(3)\n\n```\ny\n```": "prose fence code fence",
    # a fence with a language does not close a block
    "```\nx\n```python\ny\n```\nz": "fence code fence prose",
    "x = 1\n```python\ny": "code fence code",
    "Use f.\n```\ny": "prose fence code",
}


@pytest.mark.parametrize("text", PARTS)
def test_code_is_found_with_and_without_fences(text: str) -> None:
    found = regions(text)
    assert " ".join(region.kind for region in found) == PARTS[text]
    assert "".join(text[start:stop] for _, start, stop in found) == text


@pytest.mark.parametrize("seed", range(20))
def test_every_character_of_any_text_has_one_category(seed: int) -> None:
    draw = random.Random(seed)
    for _ in range(30):
        text = "".join(draw.choices(HOSTILE, k=draw.randrange(60)))
        assert len(of_text(text)) == len(text)
        assert "" not in of_characters(text)


def test_deep_f_strings_are_read_to_their_end() -> None:
    for code in ("f'{" * 3000, 'f"{x:' * 3000, "f'{a:{" * 3000, "(" * 9999 + "'"):
        assert "" not in of_characters(code)


def test_tokens_take_the_category_of_their_first_visible_character() -> None:
    tokens = ["``", "`\n", "def", " f", "():", "\n   ", " return", " ''", "\n``", "`", "<|end|>"]
    ends = np.array([token == "<|end|>" for token in tokens])
    codes = CATEGORIES.classify(tokens, np.array([len(tokens)]), ends)
    assert [CATEGORIES.names[code] for code in codes] == [
        *("layout", "layout", "keyword", "name", "operator", "layout", "keyword", "literal"),
        *("layout", "layout", END_OF_TURN),
    ]


def test_texts_are_read_one_by_one() -> None:
    tokens, lengths = ["```\n", "x", "def", " x"], np.array([2, 0, 2])
    names = [CATEGORIES.names[code] for code in CATEGORIES.classify(tokens, lengths)]
    assert names == ["layout", "name", "keyword", "name"]
    assert CATEGORIES.classify([], np.array([0])).size == 0
