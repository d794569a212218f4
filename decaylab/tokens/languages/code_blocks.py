"""Where in a response the code is: in fenced blocks, or from its first line on.

A line of three or more backticks or tildes opens a block and the next such line without a word
closes it; a block that is not closed runs to the end of the text. A block in another language than
Python is prose. Models that continue a prompt write code without a fence:

- A text whose first line is code, or is indented, began in code. The code ends at a line of prose
  at the margin behind an empty line, or at a fence without a language, which closes the block that
  the prompt opened.
- In a text without any fence, code also begins at a line at the margin that is a statement of
  Python by its look.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Literal, NamedTuple

PYTHON = ("", "python", "python3", "py", "py3", "pycon", "ipython")
FENCE = re.compile(r"(?m)^[ \t]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<word>[^\s`]*)[^`\n]*$")
CUT_FENCE = re.compile(r"\n[ \t]*`{1,2}\Z")  # the first backticks of a fence, where the text is cut
STATEMENT = re.compile(
    r"""(?x)[ \t]*(?:
    @\w
    | (?:async[ ]+)?def\b | class[ ]+\w+[ ]*(?:[:(\[]|$)
    | import[ ]+[\w.]+[ ]*(?:$|,|;|\#|as[ ]) | from[ ]+[\w.]+[ ]*(?:$|import\b)
    | (?:if|elif|while|with|async|match|case|except)\b.*[:=<>(\[] | for[ ].*[ ]in\b
    | (?:else|try|finally)[ ]*: | (?:pass|break|continue|try|else)[ ]*(?:\#|$)
    | (?:return|yield|raise|assert|del|global|nonlocal)(?:[ ]|$)
    | [A-Za-z_][\w.\[\]'"]*(?:,[ ]?[\w.\[\]'"]+)*(?::[ ]*[\w.\[\], |]+)?
      [ ]*(?:[-+*/%&|^@]|//|\*\*|<<|>>)?=(?!=)
    | [A-Za-z_][\w.]*\((?:.*\)|[^)]*)[ ]*(?:\#.*)?$
    | (?:[rRbBuUfF]?\"\"\"|''')
    )"""
)
INDENTED = re.compile(r"(?: {2,}|\t)[ \t]*(?![-*+\u2022 \t]|\d+[.)])")  # no bullet
WORDS = "|".join(word for word in keyword.kwlist if word.islower())
PROSE = re.compile(rf"(?!(?:{WORDS})\b)[^\W\d_][\w'\u2019]*[,;]? +[^\W_]|\#{{2,}} |[*>-] |\d+[.)] ")
Kind = Literal["code", "fence", "prose"]


class Region(NamedTuple):
    """Characters of a text from start to stop; the regions of a text follow each other."""

    kind: Kind
    start: int
    stop: int


def regions(text: str) -> list[Region]:
    """Code, fences and prose of a text, in order, covering it."""
    fences = list(FENCE.finditer(text))
    before = fences[0].start() if fences else len(text)
    found = list(_without_fence(text, before, free=not fences))
    if fences and _still_code(text, found) and fences[0]["word"] == "":
        first = fences.pop(0)
        found.append(Region("fence", first.start(), first.end()))
    found += _fenced(text, fences, found[-1].stop)
    return _cut_fence(text, [region for region in found if region.start < region.stop])


def _fenced(text: str, fences: list[re.Match[str]], at: int) -> Iterator[Region]:
    """Blocks and what is between them, from a place outside of any block on."""
    opened: re.Match[str] | None = None
    for fence in fences:
        if opened is None:
            yield Region("prose", at, fence.start())
            opened = fence
        elif _closes(fence, opened):
            yield Region(_kind_of(opened), at, fence.start())
            opened = None
        else:
            continue
        yield Region("fence", fence.start(), fence.end())
        at = fence.end()
    yield Region(_kind_of(opened) if opened else "prose", at, len(text))


def _closes(fence: re.Match[str], opened: re.Match[str]) -> bool:
    return fence["word"] == "" and fence["mark"].startswith(opened["mark"])


def _kind_of(opened: re.Match[str]) -> Kind:
    """Of a block by its opening fence."""
    return "code" if opened["word"].lower() in PYTHON else "prose"


def _without_fence(text: str, stop: int, *, free: bool) -> Iterator[Region]:
    """Code and prose before the first fence. free: the text has no fence, so that code may begin at
    a later line too."""
    kind: Kind = "code" if _begins_in_code(text[:stop]) else "prose"
    start, quotes, empty = 0, 0, False
    for match in re.finditer(r"[^\n]*\n?", text[:stop]):
        line = match[0]
        at_margin = line[:1].strip() != ""
        if kind == "prose" and free and at_margin and STATEMENT.match(line.rstrip()):
            yield Region("prose", start, match.start())
            kind, start, quotes = "code", match.start(), 0
        elif kind == "code" and empty and at_margin and not quotes % 2 and _is_prose(line):
            yield Region("code", start, match.start())
            kind, start = "prose", match.start()
        quotes += line.count('"""') + line.count("'''")
        empty = not line.strip()
    yield Region(kind, start, stop)


def _begins_in_code(text: str) -> bool:
    """Whether the first line that is neither empty nor a comment is code."""
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    comments = list(takewhile(lambda line: line.lstrip().startswith("#"), lines))
    first = lines[len(comments) : len(comments) + 1]
    if any(STATEMENT.match(line) for line in first):
        return True
    return any(INDENTED.match(line) and not _is_prose(line.lstrip()) for line in lines[:1])


def _still_code(text: str, found: list[Region]) -> bool:
    """Whether the text before the first fence ends in code."""
    return found[-1].kind == "code" and text[: found[-1].stop].strip() != ""


def _is_prose(line: str) -> bool:
    return PROSE.match(line) is not None and not STATEMENT.match(line.rstrip())


def _cut_fence(text: str, found: list[Region]) -> list[Region]:
    """The regions, the last one without the beginning of a fence that the text ends with."""
    cut = CUT_FENCE.search(text)
    if cut is None:
        return found
    last, start = found[-1], cut.start() + 1
    return [*found[:-1], Region(last.kind, last.start, start), Region("fence", start, len(text))]
