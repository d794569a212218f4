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
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import Stroke
from seaborn.utils import relative_luminance

from decaylab.printing import rounded
from decaylab.runs.vocabulary import BASE, select

from . import style, words
from .page import EDGE, Block, page
from .running_text import PAD, Piece, printed, readable, text_width, wrapped

BLOCK = 100  # tokens at either end
PITCH, BOX = 16.0, 10.5  # points from line to line, and of a box up
MARGIN = 24.0  # points left of the text, for positions
BAR = 0.08  # inches: of the colour bar
COLOURS = sns.blend_palette(["white", style.WINE], as_cmap=True).with_extremes(bad="#d9d9d9")
DARK = 0.179  # relative luminance below which white is read better than black
REST = "continuation"  # the category without an underline
UNDERLINES: dict[str, tuple[str, str]] = {  # colour and pattern, so that colour alone says nothing
    "planning": (style.BLACK, "-"),
    "math_latex": (style.TEACHER, "="),
    "math_operator": (style.STUDENT, ":"),
    "math_number": (style.ESR, "-"),
    "structural": (style.FULL_ROLLOUT, ":"),
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

CAPTION = """One rollout, token by token: {parts}. {chosen} Shading: reverse KL of the
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


def draw(case: Case, *, width: style.Width = "page") -> Figure:
    """The figure, at its printed size and as high as the text needs.

    Raises:
        ValueError: there is no token, or there are those of several rollouts.
    """
    parts = blocks(case.tokens)
    shown = pd.concat(parts.values())
    across = style.WIDTH_INCHES[width]
    room = (across - 2 * EDGE) * style.POINTS_PER_INCH - MARGIN
    texts = {name: wrapped(rows.apply(printed, axis=1), room) for name, rows in parts.items()}
    layout = [Block([["scale"]], [BAR], left=0.12, right=across - 1.72, above=0.1, below=0.1)]
    for name, pieces in texts.items():
        inches = PITCH * (1 + pieces[-1].line) / style.POINTS_PER_INCH
        layout.append(Block([[name]], [inches], left=EDGE, right=EDGE, below=0.0))
    looks = _looks(shown)
    with style.context():
        figure, axes = page(
            width,
            layout,
            title=_title(case),
            subtitle=_question(case),
            handles=[_line(look, label=_words(name)) for name, look in looks.items()],
            note=_note(shown),
        )
        scale = PowerNorm(0.5, vmin=0.0, vmax=_most(shown), clip=True)
        _draw_scale(axes["scale"], scale)
        for name, rows in parts.items():
            axes[name].set_title(name, pad=2)
            _draw_text(axes[name], rows, texts[name], scale)
    return figure


def caption(case: Case) -> str:
    """The figure's caption: whose rollout it is, how it was chosen, and what shading and underlines
    mean.

    Raises:
        ValueError: there is no token, or there are those of several rollouts.
    """
    parts, row = blocks(case.tokens), case.rollout
    shown = pd.concat(parts.values())
    names = [name[0].lower() + name[1:] for name in parts]
    chosen = []
    if row is not None:
        chosen.append(WHOSE.format(title=_whose(row), row=row))
    if case.rule:
        chosen.append(f"Chosen: {case.rule}.")
    return words.filled(
        CAPTION,
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
    """The colour bar."""
    mappable = ScalarMappable(scale, COLOURS)
    style.root(axes).colorbar(mappable, cax=axes, orientation="horizontal")
    ticks = [tick for tick in TICKS if tick <= float(scale.vmax or 1.0)]
    shown = [ticks[i] for i in style.far_apart(style.places_points(axes, ticks), 16.0)]
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.tick_params(length=2, pad=1)
    name = "reverse KL (nats),\nsquare-root scale"
    text = axes.annotate(name, (1, 0.5), (6, 0), "axes fraction", "offset points", va="center")
    text.set(fontsize=style.SMALL, linespacing=1.1, annotation_clip=False)


def _draw_text(axes: Axes, rows: pd.DataFrame, pieces: Sequence[Piece], scale: PowerNorm) -> None:
    """Boxes, text and underlines, in points from the upper left corner."""
    across, up = style.size_points(axes)
    axes.set(xlim=(-MARGIN, across - MARGIN), ylim=(up, 0), xticks=[], yticks=[])
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
    names = set(map(str, rows.category)) - {REST}
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
        f"Not underlined: {REST}.": (rows.category == REST).any(),
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
