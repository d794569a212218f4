"""Tokens as running text: how each reads, how wide it is at the printed size, and where its lines
break."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pandas as pd
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from . import style
from .high_kl_tokens import printable

FONT = "DejaVu Sans"
PAD = 1.0  # points beside a token's text


def printed(row: pd.Series[Any]) -> str:
    """A token's text as `readable`; of one that holds but part of a character the bytes, in angle
    brackets."""
    return readable(str(row.token)) if row.token else f"<{row.raw}>"


def readable(text: str) -> str:
    """Spaces as they are, other white space as signs; as codes what the font lacks, and the signs
    themselves."""
    signs = {" ": " ", **{sign: f"\\u{ord(sign):04x}" for sign in "\u21b5\u21e5"}}
    return "".join(signs.get(one) or printable(one) for one in text)


@dataclass(frozen=True)
class Piece:
    """Part of a token, or all of it, on one line; places in points from the left of the text."""

    token: int
    text: str
    line: int
    left: float
    width: float


def wrapped(texts: Iterable[str], room: float, ends: str = "\u21b5") -> list[Piece]:
    """The tokens as running text in lines of so many points, a new one behind ``ends``; no token is
    cut that fits a line."""
    pieces: list[Piece] = []
    line, left = 0, 0.0
    for token, text in enumerate(texts):
        for part in re.findall(f"[^{ends}]*{ends}|[^{ends}]+", text) if ends else [text]:
            for cut in _cut(part, room):
                width = text_width(cut) + 2 * PAD
                if left and left + width > room:
                    line, left = line + 1, 0.0
                pieces.append(Piece(token, cut, line, left, width))
                left += width
            if ends and part.endswith(ends):
                line, left = line + 1, 0.0
    return pieces


def filled(text: str, room: float, most: int = 100) -> list[str]:
    """The words of a text in lines of so many points; what goes beyond the most of them is left
    out, with an ellipsis."""
    lines: dict[int, str] = {}
    for piece in wrapped(re.findall(r"\S+ ?", text), room - text_width("\u2026"), ends=""):
        lines[piece.line] = lines.get(piece.line, "") + piece.text
    kept = [line.rstrip() for line in lines.values()]
    return kept if len(kept) <= most else [*kept[: most - 1], f"{kept[most - 1]}\u2026"]


def _cut(text: str, room: float) -> Iterator[str]:
    """Parts that each fit a line."""
    start = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or text_width(text[start : end + 1]) + 2 * PAD > room:
            yield text[start:end]
            start = end


@lru_cache(maxsize=4096)
def text_width(text: str) -> float:
    """Points that a text takes, spaces at its ends included."""
    font = FontProperties(family=FONT, size=style.SMALL)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])
