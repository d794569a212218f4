"""Where in a rollout the loss lies: the three signals by position (Fig. 3 left of arXiv 2605.27028)
and what follows.

    a, b, c    entropies of student and teacher, and reverse KL, in each bin
    d, e       share of the KL that lies before a position, and N, where the share is reached; two
               ways to sum
    f          share of a rollout's KL that its highest tokens hold
    g, h       what the selectors cover at one budget of tokens, and where they look
    i          how far the selectors' choices overlap, of the base student

Every student on its own rollouts. Drawing reads rows of the measurements table and computes no
statistics.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decaylab.runs.vocabulary import FRACTION, FRESH, select

from . import artists, bins, cumulative_kl, style, words
from .artists import PERCENT
from .colours import looks
from .cumulative_kl import MASS, SURVIVORS
from .page import Block, page
from .three_signals import ROBUST_SIGNALS, SIGNALS

CURVES = {
    "d": (SURVIVORS, "Cumulative KL, survivors"),
    "e": (MASS, "Cumulative KL, all tokens"),
}
CONCENTRATION, OVERLAP = "kl_concentration", "selector_overlap"
COVERED, LOOK = "selector_kl_share", "selector_mean_position"
DOTS = {  # quantity, title and axis of the panels with a row for each condition
    "f": (CONCENTRATION, "Concentration", "share of a rollout's KL (%)"),
    "g": (COVERED, "KL covered", "share of KL (%)"),
    "h": (LOOK, "Where they look", "mean position (tokens)"),
}
PARTS = {
    "student-entropy": "student H",
    "teacher-entropy": "teacher H",
    "reverse-kl": "KL",
    "all-three": "all three",
}
NOTE = """Bars: {level} intervals, problem-clustered; {counts}. Selectors choose {budget} tokens by
    the highest value of what they are named after (H: entropy). {published_note}"""
CAPTION = """Every student on its own rollouts. (a\u2013c) Student entropy, teacher entropy and
    reverse KL of the student from the teacher by response position ({estimand}), in nats. {dots}
    (d, e) Share of the reverse KL that lies before a position; below, N with its interval. Lines
    join the bin ends, N is read position by position. (d) {survivors} (e) {mass} (f) Share of a
    rollout's KL in its highest tokens{concentrated}. (g, h) What selectors of {budget} tokens
    cover of a rollout's KL, and the mean position they choose; H is the entropy, \u00d7 the
    product{covered}. (i) Overlap of the choices of two selectors, shared / all chosen, on {first};
    its intervals stand in the table. (f\u2013i) Means over rollouts. Bars: pointwise {level}
    intervals ({all_methods}); {arrowhead}. Fresh: {counts}. {all_floors} {published}"""


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.signals.measure`.
        published: rows of `decaylab.paper.publication.three_signals`, drawn grey, dashed and hollow
            in panels a to c.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in).

    Raises:
        ValueError: the rows hold no reverse KL by position.
    """
    if not (measurements.what == bins.robust("reverse_kl")).any():
        raise ValueError("measurements hold no winsorised_reverse_kl; measure the signals first")
    counts, budget = words.first_counts(measurements, FRESH), _budget(measurements)
    note = words.filled(NOTE, measurements[:1], published, counts=counts, budget=budget)
    known = looks(measurements)
    with style.context():
        handles = bins.handles(known, published)
        figure, axes = page(width, _blocks(width, len(known)), handles=handles, note=note)
        bins.draw_signals(axes, SIGNALS, measurements, FRESH, published)
        for panel in CURVES:
            _cumulative(axes, measurements, panel)
        for panel in DOTS:
            _dots(axes[panel], measurements, panel)
        if width == "page":
            axes["h"].tick_params(labelleft=False)
        _overlap(axes["i"], measurements)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, estimands, intervals, counts, horizon and noise
    floor."""
    return words.filled(
        CAPTION,
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


def _blocks(width: style.Width, count: int) -> list[Block]:
    """The signals; cumulative KL with N below it, and concentration; the selectors."""
    tall = [1.35, cumulative_kl.strip_inches(count)]
    signals = bins.signal_block(SIGNALS, width)
    if width == "page":
        curves = [["d", "e", ".", "f"], ["d.N", "e.N", ".", "f"]]  # names stand left of f
        return [
            signals,
            Block(curves, tall, apart=0.06, widths=[1.7, 1.7, 0.02, 1.5]),
            Block([["g", "h", "i"]], [2.25], left=1.45, between=0.34, widths=[1.1, 1.1, 2]),
        ]
    strips = [Block([[panel], [f"{panel}.N"]], tall, apart=0.06) for panel in CURVES]
    lefts = {"f": (1.12, 0.9), "g": (1.45, 2.3), "h": (1.45, 2.3), "i": (0.55, 2.5)}
    others = [Block([[panel]], [high], left=left) for panel, (left, high) in lefts.items()]
    return [signals] + strips + others


# The panels


def _cumulative(axes: dict[str, Axes], frame: pd.DataFrame, panel: str) -> None:
    """The curve, with N in the strip below it."""
    condition, title = CURVES[panel]
    above, below, known = axes[panel], axes[f"{panel}.N"], looks(frame)
    cumulative_kl.draw_shares(above, frame, known, [condition], condition, panel)
    above.set_title(f"{panel}  {title}")
    cumulative_kl.draw_lengths(below, frame, known, {condition: panel})
    below.set_ylabel("N", rotation=0, ha="right", va="center")


def _dots(axes: Axes, frame: pd.DataFrame, panel: str) -> None:
    """A row for each condition, the students below each other in it; from 0 to all, or to the
    longest interval."""
    what, title, name = DOTS[panel]
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
    axes.set_title(f"{panel}  {title}")
    axes.set_xlabel(name)


def _named(conditions: list[str], panel: str) -> list[str]:
    """Shares of tokens in words; selectors with their numbers, which the map of overlaps uses."""
    if panel == "f":
        return [name.replace("-percent", " %").replace("-", " ") for name in conditions]
    return [f"{_short(name)}  {number}" for number, name in enumerate(conditions, start=1)]


def _short(selector: str) -> str:
    parts = selector.removeprefix("top-").split("-x-")
    return " \u00d7 ".join(PARTS.get(part, part) for part in parts)


def _overlap(axes: Axes, frame: pd.DataFrame) -> None:
    """Each pair of selectors, in per cent, with its number; the numbers of the rows are those of
    the panels beside."""
    names, first = _conditions(frame, COVERED), _first(frame)
    table = np.full((len(names), len(names)), np.nan)
    pairs = select(frame, what=OVERLAP, checkpoint=first)
    for pair, share in zip(pairs.condition, pairs.value, strict=True):
        column, row = sorted(map(names.index, str(pair).split("|")))
        table[row, column] = share * PERCENT
    numbers = list(range(1, len(names) + 1))
    sns.heatmap(
        table,
        ax=axes,
        xticklabels=numbers,
        yticklabels=numbers,
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
    axes.set_title(f"i  Overlap (%), {words.named(first)}")
    axes.set_xlabel("selector, numbered as in g")
