"""Where the loss falls: training arms at one token budget, Fig. 2 left and table of section 5.1 of
arXiv 2605.27028, measured.

    a, b ...   a row for each arm: accuracy at each checkpoint rule; the difference from full
               rollout on the same problems; the mean position of the selected tokens; the share of
               the reverse KL that they hold
    then       the published accuracy of the same selectors where it is given, on a scale of its own
    then       accuracy against that position, and against that share, by row number

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import OVER_SEEDS

from . import arms, artists, scatter_labels, style, words
from .arms import REFERENCES, VIEWS, Arm, Number, Sweep, draw_number
from .artists import PERCENT, Look
from .layout import Block
from .page import Part, Sheet, drawing

PUBLISHED = Look("published", style.PUBLISHED, "o")
POSITION, SHARE = "mean_selected_position", "selected_kl_share"
TRAINING = "training"  # view and condition of what the selection took
ASIDE = 3.5  # points of the single seeds from their mean
ROW_INCHES, NAME_INCHES, PLOT_INCHES = 0.16, 1.8, 1.55
A_ROW, PLOTS_A_ROW = 6, 2  # on a page


@dataclass(frozen=True)
class Panel:
    """A quantity of each arm, an arm a row. sentence: what the caption says of it."""

    what: str
    view: str
    title: str
    unit: str
    sentence: str
    scale: float = PERCENT

    @property
    def graded(self) -> bool:
        return self.view != TRAINING

    def numbers(self, sweep: Sweep) -> dict[str, Number]:
        """By arm, as far as the arms have it."""
        condition = sweep.rule if self.graded else TRAINING
        rows = vocabulary.select(sweep.frame, what=self.what, view=self.view, condition=condition)
        return arms.numbers(rows[rows.selector != ""], self.scale, graded=self.graded)


TAKEN = {
    POSITION: Panel(
        POSITION,
        TRAINING,
        "Mean position",
        "tokens",
        "Mean position of the selected tokens in a rollout, weighted as the loss",
        1.0,
    ),
    SHARE: Panel(
        SHARE,
        TRAINING,
        "Share of KL",
        "%",
        "Share of the reverse KL of the sampled tokens that the selected ones hold",
    ),
}
# Title and axis of a scatter plot, and what its caption calls the axis
AGAINST = {
    POSITION: ("position", "mean position of the selected tokens", "that position"),
    SHARE: ("KL share", "share of the KL that they hold (%)", "that share"),
}
DIFFERENCE = "Difference from {other} at the {view}, paired by problem, and over seeds by seed"
CAPTION = """{what} of students trained with the loss at chosen tokens, and where those tokens lie;
    numbers beside dots are those of the rows. {counts}. Broad bars and shades: {level} intervals
    over problems; thin: over seeds; small marks: each seed."""
DETAILS = """Students trained with the loss at chosen tokens; {counts}. {panels} {scatters} Dashed:
    base student, teacher and full rollout on the same problems. {no_share} {theirs}
    {intervals}"""
SCATTERS = "({letters}) Accuracy of panel a against {named}, by row number."
NO_SHARE = """No share: rollouts stop where the selection ends, so that what lies beyond was not
    sampled."""


@style.context()
def sheet(measurements: pd.DataFrame, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.sweep.measure` and of
            `decaylab.analyses.token_selection.measure`.
        published: rows of `publication.token_selection`, in a grey panel of rows, by selector.

    Raises:
        ValueError: the rows hold no accuracy of a training arm.
        LookupError: a number of an arm lacks its mean over problems or over seeds.
    """
    sweep = Sweep.of(measurements)
    shown = arms.arms_of(measurements)
    panels, scatters = _panels(sweep)
    handles = _handles(measurements)
    parts = {
        letter: _row_part(sweep, shown, panel, letter, handles) for letter, panel in panels.items()
    }
    letters = list(panels)
    behind = _published_values(shown, published)
    if behind:
        letters.append(words.LETTERS[len(letters)])
        parts[letters[-1]] = _published_part(shown, behind, letters[-1])
    plots = []
    for name in scatters:
        plots.append(words.LETTERS[len(parts)])
        parts[plots[-1]] = _scatter_part(sweep, shown, panels["a"], name, plots[-1])
    tall = [ROW_INCHES * len(shown)]
    page = [
        Block([row], tall, left=NAME_INCHES, between=0.14, above=0.4)
        for row in _rows_of(letters, A_ROW)
    ]
    page += [Block([row], [PLOT_INCHES], between=0.78) for row in _rows_of(plots, PLOTS_A_ROW)]
    claim = [letter for letter, panel in panels.items() if panel.graded]
    return Sheet(parts, page, claim=[*claim, *plots])


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    sweep = Sweep.of(measurements)
    what = words.printed(sweep.what, sweep.rule)
    return words.filled(CAPTION, sweep.arms, what=what, counts=sweep.counts)


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, answer rule, and how the intervals were made."""
    sweep = Sweep.of(measurements)
    panels, scatters = _panels(sweep)
    letters = list(sheet(measurements, published=published).parts)[-len(scatters) :]
    against = ""
    if scatters:
        named = " and ".join(AGAINST[name][2] for name in scatters)
        against = SCATTERS.format(letters=" and ".join(letters), named=named)
    shares = vocabulary.select(measurements, what=SHARE, estimand=OVER_SEEDS)
    return words.filled(
        DETAILS,
        counts=sweep.counts,
        panels=" ".join(f"({letter}) {panel.sentence}." for letter, panel in panels.items()),
        scatters=against,
        no_share=NO_SHARE if shares.value.isna().any() else "",
        theirs=arms.published_text(published),
        intervals=arms.interval_text(vocabulary.rows(measurements, condition=sweep.rule)),
    )


def _row_part(
    sweep: Sweep, shown: Sequence[Arm], panel: Panel, letter: str, handles: Sequence[Artist]
) -> Part:
    """A row for each arm; the first panel of a row on a page has the names."""

    def part(some: Sequence[Arm]) -> Part:
        def draw(axes: dict[str, Axes]) -> None:
            arms.name_row(axes[letter], _numbered_names(some), NAME_INCHES)
            _rows(axes[letter], sweep, some, panel, letter)

        block = Block([[letter]], [ROW_INCHES * len(some)], left=NAME_INCHES)
        keys = handles if panel.what == sweep.what else arms.bar_handles()
        return Part(panel.title, block, draw, keys)

    return arms.with_pieces(part, shown)


def _published_part(shown: Sequence[Arm], behind: Mapping[str, float], letter: str) -> Part:
    """The published accuracies, a row for each arm that has one, on a scale of their own."""

    def part(some: Sequence[Arm]) -> Part:
        def draw(axes: dict[str, Axes]) -> None:
            arms.name_row(axes[letter], _numbered_names(some), NAME_INCHES)
            axes[letter].set_xlim(*arms.span([], behind.values(), least=10.0))
            style.ticks_within(axes[letter], most=3, share=True)
            for row, arm in enumerate(some):
                if arm.key in behind:
                    gid, value = f"published.{arm.key}", behind[arm.key]
                    artists.points(axes[letter], row, value, PUBLISHED, gid, upright=False)
            axes[letter].set_xlabel("avg@4 (%)")

        block = Block([[letter]], [ROW_INCHES * len(some)], left=NAME_INCHES)
        return Part("In the paper", block, draw, colour=style.PUBLISHED)

    return arms.with_pieces(part, shown)


def _numbered_names(some: Sequence[Arm]) -> list[str]:
    return [f"{arm.name}  {arm.number}" for arm in some]


def _scatter_part(sweep: Sweep, shown: Sequence[Arm], level: Panel, name: str, letter: str) -> Part:
    return Part(
        f"Accuracy against {AGAINST[name][0]}",
        Block([[letter]], [PLOT_INCHES], right=0.2),
        lambda axes: _scatter(axes[letter], sweep, shown, level, TAKEN[name], letter),
    )


def _panels(sweep: Sweep) -> tuple[dict[str, Panel], list[str]]:
    """The columns of rows from the left by letter, then what accuracy is plotted against."""
    what = words.printed(sweep.what, sweep.rule)
    panels = []
    for view in sweep.views:
        sentence = f"{what} at the {VIEWS[view]}"
        panels.append(Panel(sweep.what, view, f"{what}, {view}", f"{what} (%)", sentence))
    if sweep.other:
        view, other = sweep.views[0], sweep.other
        sentence = DIFFERENCE.format(other=REFERENCES[other].name, view=VIEWS[view])
        difference = sweep.difference(other)
        panels.append(Panel(difference, view, f"Difference from {other}", "points", sentence))
    taken = [what for what in TAKEN if (sweep.frame.what == what).any()]
    panels += [TAKEN[what] for what in taken]
    return dict(zip(words.LETTERS, panels)), taken


def _rows_of(letters: Iterable[str], most: int) -> list[list[str]]:
    """Letters in rows of at most so many, the last row filled up with holes."""
    letters = list(letters)
    columns = min(most, len(letters))
    filled = letters + ["."] * (-len(letters) % columns)
    return [filled[start : start + columns] for start in range(0, len(filled), columns)]


def _handles(measurements: pd.DataFrame) -> list[Artist]:
    """Reference lines and bars; the rows are named."""
    handles: list[Artist] = []
    for name, look in REFERENCES.items():
        if (measurements.checkpoint == name).any():
            handles.append(artists.handle(look, line=True, marker=""))
    return handles + arms.bar_handles()


def _published_values(shown: Sequence[Arm], published: pd.DataFrame | None) -> dict[str, float]:
    """The published accuracy of the same selector, in per cent, at the budget that most have."""
    if published is None:
        return {}
    # The budget is the number at the end of an arm's name; whole selectors have none
    budget = published.checkpoint.str.extract(r"-(\d+)$")[0]
    rows = published[budget.isna() | (budget == budget.mode().iloc[0])]
    values = dict(zip(rows.selector, rows.value * PERCENT, strict=True))
    return {arm.key: values[arm.selector] for arm in shown if arm.selector in values}


# The panels


def _rows(
    axes: Axes,
    sweep: Sweep,
    some: Sequence[Arm],
    panel: Panel,
    letter: str,
) -> None:
    """The numbers of a panel, an arm below the other, on the scale of all arms."""
    numbers = panel.numbers(sweep)
    level = panel.what == sweep.what
    lines: dict[str, arms.Triple] = {}
    if level:
        lines = sweep.references(panel.view)
    elif panel.graded:
        lines = {sweep.other: (0.0, math.nan, math.nan)}
    more = list(itertools.chain(*lines.values()))
    least = 10.0 if panel.scale == PERCENT else 1.0
    low, high = arms.span(numbers.values(), more, least=least)
    if level:
        low, high = max(low, -2.0), min(high, 102.0)
    elif not panel.graded:
        low, high = 0.0, 104.0 if panel.what == SHARE else high
    axes.set_xlim(low, high)
    style.ticks_within(axes, most=3, share=level or panel.what == SHARE)
    for name, line in lines.items():
        gid = f"{letter}.line.{name}" if level else f"{letter}.zero"
        artists.across(axes, line, REFERENCES[name], gid, upright=False)
    arms.say_if_none(axes, numbers.values())
    for row, arm in enumerate(some):
        if arm.key in numbers:
            gid = f"{letter}.{arm.key}"
            draw_number(axes, row, numbers[arm.key], arm.look, gid, aside=ASIDE)
    axes.set_xlabel(panel.unit)


def _scatter(
    axes: Axes, sweep: Sweep, shown: Sequence[Arm], level: Panel, taken: Panel, letter: str
) -> None:
    """Accuracy with its interval over problems, against what the selection took; numbered as the
    rows are."""
    places = {key: number.value for key, number in taken.numbers(sweep).items()}
    levels = {
        key: replace(number, seeds=arms.UNKNOWN, singly=())
        for key, number in level.numbers(sweep).items()
        if not math.isnan(places.get(key, math.nan))
    }
    drawn = [arm for arm in shown if arm.key in levels]
    axes.set_ylim(*arms.span(levels.values(), least=10.0))
    most = max([places[arm.key] for arm in drawn], default=1.0)
    axes.set_xlim(0, 104.0 if taken.what == SHARE else 1.08 * most or 1.0)
    style.ticks_within(axes, most=5, share=taken.what == SHARE)
    style.ticks_within(axes, most=5, upright=True, share=True)
    arms.say_if_none(axes, levels.values())
    # The paper's two arms are drawn last, on top of the others
    for arm in sorted(drawn, key=lambda arm: arm.selector in arms.LOOKS):
        gid = f"{letter}.{arm.key}"
        draw_number(axes, places[arm.key], levels[arm.key], arm.look, gid, upright=True)
    if drawn:
        scatter_labels.draw(axes, drawn, places, levels)
    style.name_y_axis(axes, level.unit)
    axes.set_xlabel(AGAINST[taken.what][1])
