"""Tokens as running text: how each reads, how wide it is at the printed size, and where its lines
break."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from unicodedata import combining, east_asian_width

import pandas as pd
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import text_to_path

from decaylab.printing import visible

from . import style

FONT = "DejaVu Sans"
PAD = 1.0  # points beside a token's text
CHARACTER = 4.5  # points of a character of usual width: a digit
LONGEST_TOKEN = 12  # characters of a token in a list
SIGNS = str.maketrans({" ": "\u2423", "\n": "\u21b5", "\t": "\u21e5"})


def printable(token: str) -> str:
    """A token as the font can show it: other characters as their codes; white space as signs; cut
    where it is long."""
    # never cut within a code
    seen = [_sign(character) for character in token.translate(SIGNS)]
    kept = 0
    while kept < len(seen) and len("".join(seen[: kept + 1])) <= LONGEST_TOKEN:
        kept += 1
    return "".join(seen[:kept]) + ("\u2026" if kept < len(seen) else "")


@lru_cache(maxsize=4096)
def _known(character: str) -> bool:
    """Whether the font has it."""
    return bool(get_font(findfont(FONT)).get_char_index(ord(character)))


def _sign(character: str) -> str:
    if _known(character) and character.isprintable() and not combining(character):
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:x}"


def printed(row: pd.Series[Any]) -> str:
    """A token's text as `readable`; of one that holds but part of a character the bytes, in angle
    brackets."""
    return readable(str(row.token)) if row.token else f"<{row.raw}>"


def readable(text: str) -> str:
    """Spaces as they are, other white space as signs; as codes what the font lacks, and the signs
    themselves."""
    signs = {" ": " ", "\u21b5": "\\u21b5", "\u21e5": "\\u21e5"}
    return "".join(signs.get(character) or printable(character) for character in text)


@dataclass(frozen=True)
class Piece:
    """Part of a token, or all of it, on one line; places in points from the left of the text."""

    token: int
    text: str
    line: int
    left: float
    width: float


def wrapped(texts: Iterable[str], room: float) -> list[Piece]:
    """The tokens as running text in lines of ``room`` points, with a new line after the sign of
    one. Only a token that does not fit a line is cut."""
    pieces: list[Piece] = []
    line, left = 0, 0.0
    for token, text in enumerate(texts):
        for part in re.findall("[^\u21b5]*\u21b5|[^\u21b5]+", text):
            for cut in _cut(part, room):
                width = text_width(cut) + 2 * PAD
                if left and left + width > room:
                    line, left = line + 1, 0.0
                pieces.append(Piece(token, cut, line, left, width))
                left += width
            if part.endswith("\u21b5"):
                line, left = line + 1, 0.0
    return pieces


def filled(text: str, room: float, most: int = 100) -> list[str]:
    """The words of a text in lines of ``room`` points; what goes beyond ``most`` lines is left out,
    with an ellipsis."""
    room -= text_width("\u2026")
    lines: list[str] = []
    for word in text.split():
        for part in _cut(word, room):
            longer = f"{lines[-1]} {part}" if lines else part
            if lines and text_width(longer) <= room:
                lines[-1] = longer
            else:
                lines.append(part)
    if len(lines) > most:
        lines = lines[:most]
        lines[-1] += "\u2026"
    return lines


def _cut(text: str, room: float) -> Iterator[str]:
    """Parts that each fit a line."""
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or text_width(text[start : end + 1]) + 2 * PAD > room:
            yield text[start:end]
            start = end


@lru_cache(maxsize=4096)
def text_width(text: str) -> float:
    """Points that a text takes, spaces at its ends included; of a sign that the font lacks those
    of another font, as far as can be known: its size, or half of that where it is narrow."""
    known = "".join(sign for sign in text if _known(sign))
    font = FontProperties(family=FONT, size=style.SMALL)
    width = float(text_to_path.get_text_width_height_descent(known, font, ismath=False)[0])
    for sign in text:
        if not _known(sign):
            width += style.SMALL * (1.0 if east_asian_width(sign) in "WF" else 0.6)
    return width


def in_lines(name: str, characters: int) -> str:
    """A name in lines of at most so many characters of usual width, broken within a word only
    where it is too wide for a line."""
    lines = textwrap.wrap(name, characters) or [""]
    return "\n".join(part for line in lines for part in _cut(line, CHARACTER * characters))


def short(name: str, most: int) -> str:
    """The end of a name, where it is wider than so many characters; what cannot be seen stands as
    its code."""
    name = visible(name)
    for start in range(len(name)):
        kept = f"\u2026{name[start:]}" if start else name
        if len(kept) <= most and text_width(kept) <= CHARACTER * most:
            return kept
    return name[-1:]
