"""One rollout token by token: its first and last 100 tokens as running text (Fig. 2 left of arXiv
2605.27028).

    shading      reverse KL of the student from the teacher at the token, on a square-root scale
    underline    category of the token; the rest of the text has none
    numbers      position of the first token of a line

A rollout of at most 200 tokens is shown whole. Drawing reads the tokens that a diagnostic keeps to
look at (``viewed-tokens.parquet``) and computes no statistics; `choose` picks the rollout by a rule
that the caption tells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from . import style, words
from .running_text import PAD, Piece, filled, printed, readable, text_width, wrapped

BLOCK = 100  # tokens at either end
PITCH, BOX = 16.0, 10.5  # points from line to line, and of a box up
MARGIN = 24.0  # points left of the text, for positions
HEADING = 0.26  # inches
BOLDER = 1.35  # how much wider the title's letters are
SAMPLE = 16.0  # points that an underline takes in the list of categories
COLOURS = LinearSegmentedColormap.from_list("kl", ["white", style.WINE]).with_extremes(
    bad="#d9d9d9"
)
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
TICKS = (0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


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
    base = rollouts[rollouts.checkpoint == "base"]
    if not len(base):
        raise ValueError("there is no rollout of the base student to choose from")
    kinds = (
        ("wrong", base.verdict == "wrong"),
        ("not correct", base.verdict != "correct"),
        ("", base.verdict != ""),
    )
    kind, pool = next((kind, base[held]) for kind, held in kinds if held.any())
    means = tokens[tokens.checkpoint == "base"].groupby("rollout_id").reverse_kl.mean()
    kl = pool.rollout_id.map(means)
    telling = pool[~(kl < kl.median())]
    chosen = telling.iloc[int(telling.response_tokens.to_numpy().argmax())]
    own = tokens[(tokens.checkpoint == "base") & (tokens.rollout_id == chosen.rollout_id)]
    rule = (
        f"the longest of the base student's {f'{kind} ' if kind else ''}rollouts whose mean "
        "reverse KL is at least their "
        f"median ({len(telling)} of {len(pool)}, out of {len(base)} kept to look at)"
    )
    return Case(own, chosen, rule)


def draw(case: Case, *, width: style.Width = "page") -> Figure:
    """The figure, at its printed size and as high as the text needs.

    Raises:
        ValueError: there is no token, or there are those of several rollouts.
    """
    parts = blocks(case.tokens)
    shown = pd.concat([*parts.values()])
    across = style.WIDTH_INCHES[width]
    room = (across - 0.16) * style.POINTS_PER_INCH
    pieces = {
        name: wrapped(rows.apply(printed, axis=1), room - MARGIN) for name, rows in parts.items()
    }
    heights = {
        name: (1 + max(one.line for one in found)) * PITCH / style.POINTS_PER_INCH
        for name, found in pieces.items()
    }
    entries = _entries(shown, room)
    title, question = filled(_title(case), room / BOLDER), filled(_question(case), room, most=2)
    note = filled(_note(shown), room)
    bar = 0.22 + 0.15 * len(title) + 0.13 * len(question)  # inches from the top
    head = bar + 0.34 + 0.16 * (1 + max((line for line, _, _ in entries), default=-1))
    total = head + sum(HEADING + height for height in heights.values()) + 0.16 + 0.13 * len(note)
    with style.context():
        figure = style.new_figure(width, total)
        _write(figure, title, question, note)
        _colour_bar(
            style.add_axes(figure, 0.12, total - bar - 0.08, 1.72, total - bar), _scale(shown)
        )
        if entries:
            _draw_entries(
                style.add_axes(figure, 0.08, total - head, across - 0.08, total - bar - 0.34),
                entries,
                shown,
            )
        top = total - head
        for name, rows in parts.items():
            axes = style.add_axes(
                figure, 0.08, top - HEADING - heights[name], across - 0.08, top - HEADING
            )
            axes.set_title(name, pad=2)
            _draw_text(axes, rows, pieces[name], _scale(shown))
            top -= HEADING + heights[name]
    return figure


def _write(
    figure: Figure, title: Sequence[str], question: Sequence[str], note: Sequence[str]
) -> None:
    """What stands above and below the tokens."""
    across, up = figure.get_size_inches()
    small: dict[str, Any] = {"fontsize": style.SMALL, "linespacing": 1.2}
    left, under = 0.08 / across, 1 - (0.07 + 0.15 * len(title)) / up
    figure.text(
        left,
        1 - 0.06 / up,
        "\n".join(title),
        va="top",
        fontweight="bold",
        linespacing=1.2,
        gid="title",
    )
    figure.text(left, under, "\n".join(question), va="top", gid="question", **small)
    figure.text(left, 0.06 / up, "\n".join(note), va="bottom", gid="note", **small)


def caption(case: Case) -> str:
    """The figure's caption: whose rollout it is, how it was chosen, and what shading and underlines
    mean.

    Raises:
        ValueError: there is no token, or there are those of several rollouts.
    """
    parts, row = blocks(case.tokens), case.rollout
    shown = pd.concat([*parts.values()])
    told = [
        f"One rollout, token by token: {'; '.join(name[0].lower() + name[1:] for name in parts)}."
    ]
    if row is not None:
        told.append(
            f"Problem {row.problem_id}, sample {row['sample']}, "
            f"{words.named(str(row.checkpoint))}: {_words(row.verdict)} under "
            f"the answer rule {row.answer_rule}; {row.response_tokens:,} tokens, stop reason "
            f"{row.stop_reason}."
        )
    if case.rule:
        told.append(f"Chosen: {case.rule}.")
    told.append(
        "Shading: reverse KL of the student from the teacher at each token, in nats, on a "
        "square-root scale that ends at the "
        f"highest of them ({_most(shown):.2f}). Underlines: token category."
    )
    return " ".join([*told, _note(shown), "One rollout is an example: it has no interval."])


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


# How tokens are drawn


def _draw_text(axes: Axes, rows: pd.DataFrame, pieces: Sequence[Piece], norm: PowerNorm) -> None:
    """Boxes, text and underlines, in points."""
    _in_points(axes, MARGIN)
    looks = _looks(rows)
    begun: set[int] = set()
    for piece in pieces:
        row = rows.iloc[piece.token]
        top, position = piece.line * PITCH + 1.0, int(row.position)
        _draw_box(axes, piece, top, float(row.reverse_kl), norm, f"token.{position}")
        if look := looks.get(str(row.category)):
            ends = piece.left + 0.6, piece.left + piece.width - 0.6
            _underline(axes, ends, top + BOX + 2.0, look, f"category.{position}")
        if piece.line not in begun:
            begun.add(piece.line)
            axes.text(
                -5,
                top + 8.0,
                f"{position}",
                ha="right",
                color="#767676",
                fontsize=style.SMALL,
                gid="position",
            )


def _in_points(axes: Axes, margin: float = 0.0) -> None:
    """Bare axes, from above and from ``margin`` points right of their left end."""
    across, up = style.size_points(axes)
    axes.set(xlim=(-margin, across - margin), ylim=(up, 0), xticks=[], yticks=[])
    axes.set_axis_off()


def _draw_box(axes: Axes, piece: Piece, top: float, kl: float, norm: PowerNorm, gid: str) -> None:
    shade = COLOURS(math.nan if math.isnan(kl) else norm(kl))
    box = Rectangle(
        (piece.left, top),
        piece.width,
        BOX,
        facecolor=shade,
        edgecolor="#cccccc",
        linewidth=0.3,
        gid=gid,
    )
    axes.add_patch(box)
    colour = "white" if luminance(shade) < DARK else "black"
    for word in re.finditer(
        "[^ ]+", piece.text
    ):  # a file may drop the spaces at the ends of a text
        left = piece.left + PAD + text_width(piece.text[: word.start()])
        axes.text(
            left, top + 8.0, word.group(), color=colour, fontsize=style.SMALL, gid=f"{gid}.text"
        )


def luminance(colour: Sequence[float]) -> float:
    """Relative luminance of red, green and blue, from 0 to 1, as WCAG has it."""
    red, green, blue = (
        one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in colour[:3]
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _underline(
    axes: Axes, ends: tuple[float, float], height: float, look: tuple[str, str], gid: str
) -> None:
    """One line, two, or dots."""
    colour, pattern = look
    for shift in (-0.9, 0.9) if pattern == "=" else (0.0,):
        axes.plot(ends, [height + shift] * 2, color=colour, gid=gid, **_pattern(pattern))


def _pattern(pattern: str) -> dict[str, Any]:
    thin = {"=": 0.8, ":": 1.4}.get(pattern, 1.6)
    return {
        "linewidth": thin,
        "linestyle": (0, (1, 1)) if pattern == ":" else "-",
        "solid_capstyle": "butt",
    }


# Colours and words


def _most(rows: pd.DataFrame) -> float:
    """The end of the colour scale."""
    known = rows.reverse_kl[rows.reverse_kl.map(math.isfinite)]
    return float(known.max()) if len(known) and known.max() > 0 else 1.0


def _scale(rows: pd.DataFrame) -> PowerNorm:
    return PowerNorm(0.5, vmin=0.0, vmax=_most(rows), clip=True)


def _looks(rows: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """The underline of each category that has one, the known ones first."""
    found = [str(name) for name in dict.fromkeys(rows.category) if name != REST]
    others = sorted(set(found) - UNDERLINES.keys())
    looks = {name: look for name, look in UNDERLINES.items() if name in found}
    return looks | {name: OTHERS[i % len(OTHERS)] for i, name in enumerate(others)}


def _colour_bar(axes: Axes, norm: PowerNorm) -> None:
    bar = style.root(axes).colorbar(
        ScalarMappable(norm, COLOURS), cax=axes, orientation="horizontal"
    )
    top = float(norm.vmax or 1.0)
    ticks = [tick for tick in TICKS if tick <= top]
    shown = style.far_apart(
        [math.sqrt(tick / top) * style.size_points(axes)[0] for tick in ticks], 16.0
    )
    bar.set_ticks([ticks[i] for i in shown], labels=[f"{ticks[i]:g}" for i in shown])
    axes.tick_params(length=2, pad=1)
    axes.annotate(
        "reverse KL (nats),\nsquare-root scale",
        (1, 0.5),
        (6, 0),
        "axes fraction",
        "offset points",
        va="center",
        fontsize=style.SMALL,
        linespacing=1.1,
        annotation_clip=False,
    )


def _entries(rows: pd.DataFrame, room: float) -> list[tuple[int, float, str]]:
    """Line and place of the name of each category that is underlined, in points."""
    entries: list[tuple[int, float, str]] = []
    line, left = 0, 0.0
    for name in _looks(rows):
        width = SAMPLE + text_width(readable(name)) + 12
        if left and left + width > room:
            line, left = line + 1, 0.0
        entries.append((line, left, name))
        left += width
    return entries


def _draw_entries(
    axes: Axes, entries: Sequence[tuple[int, float, str]], rows: pd.DataFrame
) -> None:
    """What each underline means."""
    _in_points(axes)
    for line, left, name in entries:
        middle = line * 11.5 + 6.0
        _underline(axes, (left, left + SAMPLE - 4), middle, _looks(rows)[name], f"key.{name}")
        axes.text(left + SAMPLE, middle, _words(name), va="center_baseline", fontsize=style.SMALL)


def _title(case: Case) -> str:
    row = case.rollout
    if row is None:
        first = case.tokens.iloc[0]
        return readable(f"{first.rollout_id}, {words.named(str(first.checkpoint))}")
    whose = words.named(str(row.checkpoint))
    return readable(
        f"{row.problem_id}, sample {row['sample']}, {whose}: {_words(str(row.verdict))}"
    )


def _question(case: Case) -> str:
    row = case.rollout
    return (
        ""
        if row is None
        else readable(f"Question (answer {row.answer}): {' '.join(str(row.question).split())}")
    )


def _note(rows: pd.DataFrame) -> str:
    """What is on the page beside the shading; only that which occurs."""
    written = {readable(one) for one in set("".join(rows.token))}
    told = ["Grey numbers: position of the first token of the line."]
    if REST in set(rows.category):
        told.append(f"Not underlined: {REST}.")
    signs = {"\u21b5": "end of a line", "\u21e5": "tab"}
    told += [f"{sign}: {meaning}." for sign, meaning in signs.items() if sign in written]
    if any(len(one) > 1 for one in written):
        told.append("\\u\u2026: code of a character.")
    if rows.reverse_kl.isna().any():
        told.append("Grey: undefined.")
    if rows.reverse_kl.map(math.isinf).any():
        told.append("As dark as the highest: infinite.")
    if (rows.token == "").any():
        told.append("<\u2026>: bytes of part of a character.")
    return " ".join(told)


def _words(name: str) -> str:
    return readable(name.replace("_", " "))
