"""Where in a rollout the loss lies: the three signals by position (Fig. 3 left of arXiv 2605.27028)
and what follows.

    a, b, c    entropies of student and teacher, and reverse KL, in each bin
    d, e       share of the KL that lies before a position, and N, where the share is reached; two
               ways to sum
    f          share of a rollout's KL that its highest tokens hold
    g, h       what the selectors cover at one budget of tokens, and where they look
    i          how far the selectors' choices overlap, of the base student
    j          the published signals where they are given

Every student on its own rollouts. Drawing reads rows of the measurements table and computes no
statistics.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import FRACTION, FRESH, select

from . import artists, bins, cumulative_kl, next_byte, style, words
from .artists import PERCENT
from .colours import looks
from .cumulative_kl import MASS, SURVIVORS
from .layout import Block
from .page import Part, Sheet, drawing
from .three_signals import ROBUST_SIGNALS, SIGNALS, published_part

CURVES = {
    "d": (SURVIVORS, "Cumulative KL over survivors"),
    "e": (MASS, "Cumulative KL over tokens"),
}
CONCENTRATION, OVERLAP = "kl_concentration", "selector_overlap"
COVERED, LOOK = "selector_kl_share", "selector_mean_position"
DOTS = {  # quantity, title and axis of the panels with a row for each condition
    "f": (CONCENTRATION, "KL in the highest tokens", "share of a rollout's KL (%)"),
    "g": (COVERED, "KL that selectors cover", "share of KL (%)"),
    "h": (LOOK, "Where selectors look", "mean position (tokens)"),
}
PARTS = {
    "student-entropy": "student H",
    "teacher-entropy": "teacher H",
    "reverse-kl": "KL",
    "all-three": "all three",
}
CAPTION = """Entropies and reverse KL by position, where the KL of a rollout lies, and what
    selectors of {budget} tokens cover, every student on its own rollouts: {counts}. Lines:
    winsorised means; dots: plain means; H: entropy. Bars: {level} intervals, problem-clustered."""
DETAILS = """Every student on its own rollouts. (a\u2013c) Student entropy, teacher entropy and
    reverse KL of the student from the teacher by response position ({estimand}), in nats. {dots}
    (d, e) Share of the reverse KL that lies before a position; below, N with its interval. Lines
    join the bin ends, N is read position by position. (d) {survivors} (e) {mass} (f) Share of a
    rollout's KL in its highest tokens{concentrated}. (g, h) What selectors of {budget} tokens
    cover of a rollout's KL, and the mean position they choose; H is the entropy, \u00d7 the
    product{covered}. (i) Overlap of the choices of two selectors, shared / all chosen, on {first};
    its intervals stand in the table. (f\u2013i) Means over rollouts. Bars: pointwise {level}
    intervals ({all_methods}); {arrowhead}. Fresh: {counts}. {all_floors} {published}"""


@next_byte.named
@style.context()
def sheet(measurements: pd.DataFrame, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.signals.measure`.
        published: rows of `decaylab.paper.publication.three_signals`, in a grey panel of their own.

    Raises:
        ValueError: the rows hold no reverse KL by position.
    """
    if not (measurements.what == bins.robust("reverse_kl")).any():
        raise ValueError("measurements hold no winsorised_reverse_kl; measure the signals first")
    parts = {
        letter: bins.signal_part(letter, what, title, measurements, FRESH)
        for letter, (what, title) in zip("abc", SIGNALS.items(), strict=True)
    }
    parts |= {panel: _cumulative_part(measurements, panel) for panel in CURVES}
    parts |= {panel: _dots_part(measurements, panel) for panel in DOTS}
    parts["i"] = Part(
        f"Overlap of choices (%), {words.named(_first(measurements))}",
        Block([["i"]], [2.1], left=1.45, right=0.15),
        lambda axes: _overlap(axes["i"], measurements),
    )
    blocks = _blocks(len(looks(measurements)))
    if published is not None:
        parts["j"] = published_part("j", published)
        blocks.append(Block([["j"]], [1.2], right=4.35))
    return Sheet(parts, blocks)


draw = drawing(sheet)


@next_byte.named
def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    counts, budget = words.first_counts(measurements, FRESH), _budget(measurements)
    robust = select(measurements, what=ROBUST_SIGNALS)
    return words.filled(CAPTION, robust, counts=counts, budget=budget)


@next_byte.named
def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, estimands, intervals, counts, horizon and noise floor."""
    return words.filled(
        DETAILS,
        select(measurements, what=ROBUST_SIGNALS),
        published,
        survivors=_capital(cumulative_kl.length_text(measurements, SURVIVORS)),
        mass=_capital(cumulative_kl.length_text(measurements, MASS)),
        concentrated=_notes(measurements, CONCENTRATION),
        budget=_budget(measurements),
        covered=_notes(measurements, COVERED),
        first=words.named(_first(measurements)),
        all_methods=words.methods(measurements),
        counts=words.counts_text(measurements, FRESH),
        all_floors=words.floor_text(measurements),
    )


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _first(frame: pd.DataFrame) -> str:
    return next(iter(looks(frame)))


def _notes(frame: pd.DataFrame, what: str) -> str:
    """What was left out, by student."""
    rows = select(frame, what=what)
    rows = rows[rows.note != ""].drop_duplicates("checkpoint")
    notes = [f"{name} {note}" for name, note in zip(rows.checkpoint, rows.note, strict=True)]
    return f" ({'; '.join(notes)})" if notes else ""


def _conditions(frame: pd.DataFrame, what: str) -> list[str]:
    return [str(name) for name in select(frame, what=what).condition.unique()]


def _budget(frame: pd.DataFrame) -> str:
    """How many tokens selectors choose, from the name of the concentration at that budget."""
    names = [name for name in _conditions(frame, CONCENTRATION) if name.endswith("tokens")]
    return names[0].split("-")[1] if names else "a given number of"


def _blocks(count: int) -> list[Block]:
    """Of a page: the signals; cumulative KL with N below it, and concentration; the selectors."""
    tall = [1.35, cumulative_kl.strip_inches(count)]
    curves = [["d", "e", ".", "f"], ["d.N", "e.N", ".", "f"]]  # names stand left of f
    return [
        bins.signal_row("abc"),
        Block(curves, tall, apart=0.06, widths=[1.7, 1.7, 0.02, 1.5], fixed=["d.N", "e.N"]),
        Block([["g", "h", "i"]], [2.0], left=1.45, between=0.34, widths=[1.1, 1.1, 2]),
    ]


def _cumulative_part(frame: pd.DataFrame, panel: str) -> Part:
    condition, title = CURVES[panel]
    known = looks(frame)
    block = Block([[panel], [f"{panel}.N"]], [1.5, cumulative_kl.strip_inches(len(known))])

    def draw(axes: dict[str, Axes]) -> None:
        above, below = axes[panel], axes[f"{panel}.N"]
        cumulative_kl.draw_shares(above, frame, known, [condition], condition, panel)
        cumulative_kl.draw_lengths(below, frame, known, {condition: panel})
        below.set_ylabel("N", rotation=0, ha="right", va="center")

    block = replace(block, apart=0.06, fixed=[f"{panel}.N"])
    return Part(title, block, draw, bins.handles(known))


def _dots_part(frame: pd.DataFrame, panel: str) -> Part:
    what, title, name = DOTS[panel]
    left, tall = (1.12, 0.9) if panel == "f" else (1.45, 2.0)

    def draw(axes: dict[str, Axes]) -> None:
        _dots(axes[panel], frame, panel)
        # beside g on a page, whose rows have the names
        if panel == "h" and not style.narrow(axes[panel]):
            axes[panel].tick_params(labelleft=False)
        axes[panel].set_xlabel(name)

    return Part(title, Block([[panel]], [tall], left=left), draw, bins.handles(looks(frame)))


# The panels


def _dots(axes: Axes, frame: pd.DataFrame, panel: str) -> None:
    """A row for each condition, the students below each other in it; from 0 to all, or to the
    longest interval."""
    what = DOTS[panel][0]
    rows, conditions = select(frame, what=what), _conditions(frame, what)
    scale, top = 1.0, 1.04 * float(np.fmax(1.0, rows[["value", "high"]].max().max()))
    if (rows.unit == FRACTION).all():
        scale, top = PERCENT, PERCENT
    axes.set_xlim(0, top)
    style.ticks_within(axes)
    axes.set_ylim(max(1, len(conditions)) - 0.5, -0.5)
    axes.set_yticks(range(len(conditions)), _named(conditions, panel))
    # one band for all rows: twice the largest floor among them
    twice = 2 * scale * rows.noise_floor.max()
    if twice > 0:
        axes.axvspan(0, twice, color=bins.FLOOR, linewidth=0, zorder=0, gid=f"{panel}.floor")
    known = looks(frame)
    for i, (student, look) in enumerate(known.items()):
        aside = (i - (len(known) - 1) / 2) * 0.7 / len(known)
        curve = select(rows, view=FRESH, checkpoint=student).dropna(subset="value")
        heights = [conditions.index(condition) + aside for condition in curve.condition]
        artists.draw(axes, heights, curve, look, f"{panel}.{student}", scale=scale, upright=False)


def _named(conditions: list[str], panel: str) -> list[str]:
    """Shares of tokens in words; selectors with their numbers, which the map of overlaps uses."""
    if panel == "f":
        return [name.replace("-percent", " %").replace("-", " ") for name in conditions]
    return [f"{_short(name)}  {number}" for number, name in enumerate(conditions, start=1)]


def _short(selector: str) -> str:
    parts = selector.removeprefix("top-").split("-x-")
    return " \u00d7 ".join(PARTS.get(part, part) for part in parts)


def _overlap(axes: Axes, frame: pd.DataFrame) -> None:
    """Each pair of selectors, in per cent, with its number; beside g, whose rows have the names,
    numbers name the selectors."""
    names = _conditions(frame, COVERED)
    table = np.full((len(names), len(names)), np.nan)
    pairs = select(frame, what=OVERLAP, checkpoint=_first(frame))
    for pair, share in zip(pairs.condition, pairs.value, strict=True):
        column, row = sorted(map(names.index, str(pair).split("|")))
        table[row, column] = share * PERCENT
    numbers = list(range(1, len(names) + 1))
    alone = style.narrow(axes)
    sns.heatmap(
        table,
        ax=axes,
        xticklabels=numbers,
        yticklabels=_named(names, "i") if alone else numbers,
        cmap="Blues",
        vmin=0,
        vmax=PERCENT * 1.2,
        annot=True,
        fmt=".0f",
        annot_kws={"fontsize": style.SMALL},
        cbar=False,
        gid="i.overlap",
    )
    axes.tick_params(length=0, labelrotation=0)
    axes.set_xlabel("selector, numbered as the rows" if alone else "selector, numbered as in g")
