r"""Token categories by the rules of a TOML file: words and patterns, in order of precedence.

    rules = CategoryRules.load(None)  # the rules of arXiv 2605.27028, data/categories.toml

``Therefore`` is planning as one token and as ``There`` and ``fore``; ``\(`` is a delimiter as one
token or two.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from decaylab.errors import UserError
from decaylab.maths.clusters import Ints
from decaylab.tokens.categories import END_OF_TURN, Categories, Codes, is_space

KEYS = {"name": str, "words": list, "pattern": str, "white_space": bool, "rest": bool}
MOST = 100  # codes are 8 bits


@dataclass(frozen=True)
class CategoryRules(Categories):
    """Categories of text, in order of precedence.

    patterns: pairs of a category's code (its place in names) and its pattern; the first match
    decides. white_space: code of the category of white space, whatever matches it. rest: code of
    the category of what no pattern matches.
    """

    patterns: tuple[tuple[int, re.Pattern[str]], ...]
    white_space: int

    @classmethod
    def load(cls, path: Path | None) -> CategoryRules:
        """Reads a category file; None is the library's own.

        Raises:
            UserError: the file is missing or not TOML, or a key is unknown, missing or invalid.
        """
        file = path or resources.files("decaylab.data") / "categories.toml"
        try:
            return _rules(tomllib.loads(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise UserError(f"cannot read the category file {path}: {error.strerror}") from None
        except ValueError as error:  # invalid TOML, UTF-8 or key
            raise UserError(f"category file {path}: {error}") from None

    def of_characters(self, texts: Sequence[str]) -> Codes:
        """Category of each character of concatenated texts, [characters]."""
        text_ends = np.cumsum([len(text) for text in texts])
        codes = np.full(text_ends[-1], self.rest, dtype=np.int8)
        for code, pattern in reversed(self.patterns):
            codes[_matched(pattern, texts, text_ends)] = code
        codes[is_space("".join(texts))] = self.white_space
        return codes


def _matched(pattern: re.Pattern[str], texts: Sequence[str], text_ends: Ints) -> NDArray[np.bool_]:
    """Whether a match covers each character of concatenated texts, [characters]."""
    spans = []
    for text, begin in zip(texts, text_ends - np.diff(text_ends, prepend=0), strict=True):
        matches = [match.span() for match in pattern.finditer(text)]
        spans.append(np.array(matches, dtype=np.int64).reshape(-1, 2) + begin)
    starts, stops = np.concatenate(spans).T
    # Matches begin at different places, but an empty one may precede another.
    covers = starts < stops
    steps = np.zeros(text_ends[-1] + 1, dtype=np.int8)
    steps[starts[covers]] += 1
    steps[stops[covers]] -= 1
    return np.asarray(np.cumsum(steps, dtype=np.int8)[:-1] > 0)


def _rules(document: Mapping[str, Any]) -> CategoryRules:
    """Raises ValueError naming the invalid key."""
    tables = document.get("category")
    is_list = isinstance(tables, list) and all(isinstance(table, dict) for table in tables)
    if list(document) != ["category"] or tables is None or not is_list:
        raise ValueError(
            f"contains {', '.join(document) or 'nothing'}; only [[category]] tables are allowed"
        )
    if len(tables) > MOST:
        raise ValueError(f"contains {len(tables)} categories; at most {MOST} are allowed")
    names: list[str] = []
    patterns: list[tuple[int, re.Pattern[str]]] = []
    for code, table in enumerate(tables):
        _check(table, names)
        names.append(table["name"])
        patterns += [(code, pattern) for pattern in _patterns(table)]
    rest = [code for code, table in enumerate(tables) if table.get("rest")]
    spaces = [code for code, table in enumerate(tables) if table.get("white_space")]
    if len(rest) != 1:
        raise ValueError(f"key rest: exactly one category must have rest = true, got {len(rest)}")
    if len(spaces) > 1:
        raise ValueError(
            f"key white_space: at most one category may have white_space = true, got {len(spaces)}"
        )
    white_space = (spaces or rest)[0]
    return CategoryRules((*names, END_OF_TURN), rest[0], tuple(patterns), white_space)


def _check(table: Mapping[str, Any], names: Sequence[str]) -> None:
    name = table.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError("key name: every [[category]] needs a name, a string")
    for key, value in table.items():
        if key not in KEYS:
            raise ValueError(
                f"category {name!r}: unknown key {key!r}; allowed are {', '.join(KEYS)}"
            )
        if not isinstance(value, KEYS[key]):
            raise ValueError(
                f"category {name!r}, key {key}: expected {KEYS[key].__name__}, got {value!r}"
            )
    if name in names:
        raise ValueError(f"key name: {name!r} appears twice")
    if name == END_OF_TURN:
        raise ValueError(f"key name: {name!r} is reserved")
    if ("words" in table or "pattern" in table) == bool(table.get("rest")):
        raise ValueError(
            f"category {name!r}: needs either words or pattern (or both), or rest = true"
        )


def _patterns(table: Mapping[str, Any]) -> Iterator[re.Pattern[str]]:
    if "words" in table:
        words = table["words"]
        if not words or not all(isinstance(word, str) and word for word in words):
            raise ValueError(
                f"category {table['name']!r}, key words: expected a list of words, got {words!r}"
            )
        # The lookbehind comes last: a pattern that begins with a letter is several times faster.
        yield re.compile("|".join(rf"{word}(?<!\w{word})(?!\w)" for word in map(re.escape, words)))
    if "pattern" in table:
        try:
            yield re.compile(table["pattern"])
        except re.error as error:
            raise ValueError(f"category {table['name']!r}, key pattern: {error}") from None
