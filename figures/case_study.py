"""One rollout token by token: its first and last 100 tokens as running text (Fig. 2 left of arXiv
2605.27028).

    shading      reverse KL of the student from the teacher at the token, on a square-root scale
    underline    category of the token; the rest of the text has none
    numbers      position of the first token of a line

A rollout of at most 200 tokens is shown whole. Drawing reads the tokens that a diagnostic keeps to
look at (``viewed-tokens.parquet``) and computes no statistics; `choose` picks the rollout by a rule
that the caption gives.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Stroke
from seaborn.utils import relative_luminance

from decaylab.printing import rounded
from decaylab.runs.vocabulary import BASE, select

from . import style, words
from .layout import EDGE, Block
from .page import Part, Sheet, drawing
from .running_text import PAD, Piece, printed, readable, text_width, wrapped

BLOCK = 100  # tokens at either end
PITCH, BOX = 16.0, 10.5  # points from line to line, and of a box up
MARGIN = 24.0  # points left of the text, for positions
BAR = 0.08, 1.5  # inches: height and length of the colour bar
ABOVE = 0.42  # inches: of the heading and the colour bar
MOST_LINES = 7  # of a panel that stands alone
COLOURS = sns.blend_palette(["white", style.WINE], as_cmap=True).with_extremes(bad="#d9d9d9")
DARK = 0.179  # relative luminance below which white is read better than black
PLAIN = ("continuation", "prose")  # the categories without an underline
UNDERLINES: dict[str, tuple[str, str]] = {  # colour and pattern, so that colour alone says nothing
    # of mathematics
    "planning": (style.BLACK, "-"),
    "math_latex": (style.TEACHER, "="),
    "math_operator": (style.STUDENT, ":"),
    "math_number": (style.ESR, "-"),
    "structural": (style.FULL_ROLLOUT, ":"),
    # of code
    "keyword": (style.TEACHER, "="),
    "name": (style.BLACK, "-"),
    "operator": (style.STUDENT, ":"),
    "literal": (style.ESR, "-"),
    "layout": (style.FULL_ROLLOUT, ":"),
    "comment": (style.ORANGE, "-"),
    "docstring": (style.ORANGE, "="),
    # of function calls
    "function_name": (style.TEACHER, "="),
    "argument_name": (style.BLACK, "-"),
    "value": (style.ESR, "-"),
    "call_syntax": (style.FULL_ROLLOUT, ":"),
    # of all
    "end_of_turn": (style.BLACK, "="),
}
OTHERS = [(style.WINE, pattern) for pattern in "-=:"]  # categories of a user's own file, in turn
# a double line is a thick one with a white one on it
DOUBLE = [Stroke(linewidth=2.6), Stroke(linewidth=1.0, foreground="white")]
PATTERNS: dict[str, dict[str, Any]] = {
    "-": {"linewidth": 1.6},
    "=": {"linewidth": 2.6, "path_effects": DOUBLE},
    ":": {"linewidth": 1.4, "linestyle": (0, (1, 1))},
}
TICKS = (0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)

CAPTION = """One rollout, token by token: {parts}. Shading: reverse KL of the student from the
    teacher at each token; underlines: token category; grey numbers: position of the first token
    of the line. An example without an interval."""
DETAILS = """One rollout, token by token: {parts}. {chosen} Shading: reverse KL of the
    student from the teacher at each token, in nats, on a square-root scale that ends at the highest
    of them ({most}). Underlines: token category. {note} One rollout is an example: it has no
    interval."""
WHOSE = """Problem {title} under the answer rule {row.answer_rule}; {row.response_tokens:,} tokens,
    stop reason {row.stop_reason}."""
RULE = """the longest of the base student's {kind}rollouts whose mean reverse KL is at least their
    median ({count} of {pool}, out of {kept} kept to look at)"""


@dataclass(frozen=True, eq=False)
class Case:
    """A rollout to draw.

    tokens: its rows of ``viewed-tokens``. rollout: its row of ``viewed-rollouts``, for the title.
    rule: how it was chosen.
    """

    tokens: pd.DataFrame
    rollout: pd.Series[Any] | None = None
    rule: str = ""


def choose(rollouts: pd.DataFrame, tokens: pd.DataFrame) -> Case:
    """A telling rollout: of the base student's wrong ones with at least their median of mean
    reverse KL the longest.

    Where none is wrong, of those that are not correct, then of all; of equally long ones the first
    in the table.

    Args:
        rollouts: columns of ``viewed-rollouts.parquet``.
        tokens: columns of ``viewed-tokens.parquet``.

    Raises:
        ValueError: the base student has no rollout here.
    """
    base = select(rollouts, checkpoint=BASE)
    if not len(base):
        raise ValueError("there is no rollout of the base student to choose from")
    kind, pool = "wrong ", select(base, verdict="wrong")
    if not len(pool):
        kind, pool = "not correct ", base[base.verdict != "correct"]
    if not len(pool):
        kind, pool = "", base
    # the highest mean would pick a short burst, the greatest length one without disagreement
    means = select(tokens, checkpoint=BASE).groupby("rollout_id").reverse_kl.mean()
    kl = pool.rollout_id.map(means)
    telling = pool[~(kl < kl.median())]
    chosen = telling.iloc[int(telling.response_tokens.to_numpy().argmax())]
    rule = RULE.format(kind=kind, count=len(telling), pool=len(pool), kept=len(base))
    shown = select(tokens, checkpoint=BASE, rollout_id=chosen.rollout_id)
    return Case(shown, chosen, " ".join(rule.split()))


@style.context()
def sheet(case: Case) -> Sheet:
    """The figure's panels: the first and the last tokens, or all of a short rollout; as high as
    the text needs.

    Raises:
        ValueError: there is no token, or there are those of several rollouts.
    """
    found = blocks(case.tokens)
    scale = PowerNorm(0.5, vmin=0.0, vmax=_most(pd.concat(found.values())), clip=True)
    parts = {}
    for letter, (name, rows) in zip(words.LETTERS, found.items()):
        whole = _part(letter, name, rows, scale)
        pieces = [_part(letter, f"{name}{more}", some, scale) for more, some in _pieces(rows)]
        parts[letter] = whole if len(pieces) < 2 else replace(whole, pieces=pieces)
    page = [_block(letter, rows, "page") for letter, rows in zip(parts, found.values())]
    return Sheet(parts, page, _title(case), _question(case))


draw = drawing(sheet)


def _part(letter: str, name: str, rows: pd.DataFrame, scale: PowerNorm) -> Part:
    def draw(axes: dict[str, Axes]) -> None:
        _draw_text(axes[letter], rows, scale)
        _draw_scale(axes[letter], scale)

    keys = [_line(look, label=_words(name)) for name, look in _looks(rows).items()]
    return Part(name, _block(letter, rows, "column"), draw, keys, pad=3.0)


def _block(letter: str, rows: pd.DataFrame, width: style.Width) -> Block:
    lines = 1 + _wrapped(rows, _room(width))[-1].line
    inches = PITCH * lines / style.POINTS_PER_INCH
    return Block([[letter]], [inches], left=EDGE, right=EDGE, above=ABOVE, below=0.05)


def _room(width: style.Width) -> float:
    """Points of a line of text."""
    return (style.WIDTH_INCHES[width] - 2 * EDGE) * style.POINTS_PER_INCH - MARGIN


def _wrapped(rows: pd.DataFrame, room: float) -> list[Piece]:
    return wrapped(rows.apply(printed, axis=1), room)


def _pieces(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The tokens in as many lines as a panel alone has room for, each with what its heading
    adds."""
    lines = {piece.token: piece.line // MOST_LINES for piece in _wrapped(rows, _room("column"))}
    groups = [some for _, some in rows.groupby([lines[token] for token in range(len(rows))])]
    return [(f", from {int(some.position.iloc[0])}", some) for some in groups]


def caption(case: Case) -> str:
    """What is shown, in at most 60 words.

    Raises:
        ValueError: there is no token, or there are those of several rollouts.
    """
    names = [name[0].lower() + name[1:] for name in blocks(case.tokens)]
    return words.filled(CAPTION, parts="; ".join(names))


def details(case: Case) -> str:
    """Whose rollout it is, how it was chosen, and what shading and underlines mean."""
    parts, row = blocks(case.tokens), case.rollout
    shown = pd.concat(parts.values())
    names = [name[0].lower() + name[1:] for name in parts]
    chosen = []
    if row is not None:
        chosen.append(WHOSE.format(title=_whose(row), row=row))
    if case.rule:
        chosen.append(f"Chosen: {case.rule}.")
    return words.filled(
        DETAILS,
        parts="; ".join(names),
        chosen=" ".join(chosen),
        most=rounded(_most(shown), 2),
        note=_note(shown),
    )


def blocks(tokens: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The rows of each block by its heading: the first and the last 100 tokens, or all of a short
    rollout.

    Raises:
        ValueError: there is no token, or there are those of several rollouts.
    """
    rollouts = len(tokens.drop_duplicates(["checkpoint", "rollout_id"]))
    if rollouts != 1:
        raise ValueError(f"tokens must be those of one rollout, got {rollouts}; see choose")
    rows = tokens.sort_values("position")
    if len(rows) <= 2 * BLOCK:
        return {f"All {len(rows)} tokens": rows}
    return {
        f"First {BLOCK} tokens": rows[:BLOCK],
        f"Last {BLOCK} of {len(rows):,} tokens": rows[-BLOCK:],
    }


# What is drawn


def _draw_scale(axes: Axes, scale: PowerNorm) -> None:
    """The colour bar, above the text on the right."""
    across, up = (points / style.POINTS_PER_INCH for points in style.size_points(axes))
    tall, long = BAR
    bar = axes.inset_axes((1 - long / across, 1 + 0.2 / up, long / across, tall / up))
    bar.set_gid("scale")
    mappable = ScalarMappable(scale, COLOURS)
    style.root(axes).colorbar(mappable, cax=bar, orientation="horizontal")
    ticks = [tick for tick in TICKS if tick <= float(scale.vmax or 1.0)]
    places = [float(scale(tick)) * long * style.POINTS_PER_INCH for tick in ticks]
    shown = [ticks[i] for i in style.far_apart(places, 16.0)]
    bar.set_xticks(shown, [f"{tick:g}" for tick in shown])
    bar.tick_params(length=2, pad=1)
    name = "reverse KL (nats)"
    text = bar.annotate(name, (0, 0.5), (-5, 0), "axes fraction", "offset points", va="center")
    text.set(fontsize=style.SMALL, ha="right", annotation_clip=False)


def _draw_text(axes: Axes, rows: pd.DataFrame, scale: PowerNorm) -> None:
    """Boxes, text and underlines, in points from the upper left corner."""
    across = style.size_points(axes)[0]
    pieces = _wrapped(rows, across - MARGIN)
    axes.set(xlim=(-MARGIN, across - MARGIN), ylim=(PITCH * (1 + pieces[-1].line), 0))
    axes.set(xticks=[], yticks=[])
    axes.set_axis_off()
    looks = _looks(rows)
    numbered = -1
    for piece in pieces:
        row = rows.iloc[piece.token]
        top, position = piece.line * PITCH + 1.0, int(row.position)
        shade = COLOURS(math.nan if math.isnan(row.reverse_kl) else scale(row.reverse_kl))
        _draw_box(axes, piece, top, shade, f"token.{position}")
        if look := looks.get(str(row.category)):
            ends = [piece.left + 0.6, piece.left + piece.width - 0.6]
            under = [top + BOX + 2.0] * 2
            axes.add_line(_line(look, ends, under, gid=f"category.{position}"))
        if piece.line > numbered:
            numbered = piece.line
            number = axes.text(-5, top + 8.0, f"{position}", ha="right", gid="position")
            number.set(color="#767676", fontsize=style.SMALL)


def _draw_box(axes: Axes, piece: Piece, top: float, shade: Any, gid: str) -> None:
    box = Rectangle((piece.left, top), piece.width, BOX, facecolor=shade, gid=gid)
    box.set(edgecolor="#cccccc", linewidth=0.3)
    axes.add_patch(box)
    ink = "white" if relative_luminance(shade) < DARK else "black"
    # a file may drop the spaces at the ends of a text, so each word is placed by itself
    for word in re.finditer("[^ ]+", piece.text):
        left = piece.left + PAD + text_width(piece.text[: word.start()])
        text = axes.text(left, top + 8.0, word.group(), color=ink, gid=f"{gid}.text")
        text.set_fontsize(style.SMALL)


def _line(
    look: tuple[str, str], x: Sequence[float] = (), y: Sequence[float] = (), **more: Any
) -> Line2D:
    """The underline of a category: one line, two, or dots."""
    colour, pattern = look
    return Line2D(x, y, color=colour, **PATTERNS[pattern] | more)


# Colours and words


def _most(rows: pd.DataFrame) -> float:
    """The end of the colour scale: the highest KL that is finite."""
    known = rows.reverse_kl[np.isfinite(rows.reverse_kl)]
    return float(known.max()) if (known > 0).any() else 1.0


def _looks(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The underline of each category that has one, the known ones first."""
    names = set(map(str, rows.category)) - set(PLAIN)
    looks = {name: look for name, look in UNDERLINES.items() if name in names}
    for i, name in enumerate(sorted(names - UNDERLINES.keys())):
        looks[name] = OTHERS[i % len(OTHERS)]
    return looks


def _title(case: Case) -> str:
    if case.rollout is not None:
        return readable(_whose(case.rollout))
    first = case.tokens.iloc[0]
    return readable(f"{first.rollout_id}, {words.named(str(first.checkpoint))}")


def _whose(row: pd.Series[Any]) -> str:
    student, verdict = words.named(str(row.checkpoint)), _words(str(row.verdict))
    return f"{row.problem_id}, sample {row['sample']}, {student}: {verdict}"


def _question(case: Case) -> str:
    if case.rollout is None:
        return ""
    question = " ".join(str(case.rollout.question).split())
    return readable(f"Question (answer {case.rollout.answer}): {question}")


def _note(rows: pd.DataFrame) -> str:
    """What is on the page beside the shading; only that which occurs."""
    written = {readable(character) for character in set("".join(rows.token))}
    sentences = {
        "Grey numbers: position of the first token of the line.": True,
        **{f"Not underlined: {name}.": (rows.category == name).any() for name in PLAIN},
        "\u21b5: end of a line.": "\u21b5" in written,
        "\u21e5: tab.": "\u21e5" in written,
        "\\u\u2026: code of a character.": any(len(sign) > 1 for sign in written),
        "Grey: undefined.": rows.reverse_kl.isna().any(),
        "As dark as the highest: infinite.": np.isinf(rows.reverse_kl).any(),
        "<\u2026>: bytes of part of a character.": (rows.token == "").any(),
    }
    return " ".join(sentence for sentence, occurs in sentences.items() if occurs)


def _words(name: str) -> str:
    return readable(name.replace("_", " "))
