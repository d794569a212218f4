"""Where the loss falls: training arms at one token budget, Fig. 2 left and table of section 5.1 of
arXiv 2605.27028, measured.

    a, b ...   a row for each arm: accuracy at each checkpoint rule; the difference to full rollout
               on the same problems; the mean position of the selected tokens; the share of the
               reverse KL that they hold
    then       accuracy against that position, and against that share, by row number

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import arms, style
from .arms import REFERENCES, Arm, Number, across, draw_number, look_handle, pick, reported
from .artists import PERCENT, Look

PUBLISHED = Look("published", style.PUBLISHED, "o")
POSITION, SHARE = "mean_selected_position", "selected_kl_share"
AXIS_TITLES = {POSITION: ("Position", "tokens, mean"), SHARE: ("KL share", "%")}
AGAINST = {
    POSITION: ("position", "mean position of the selected tokens"),
    SHARE: ("KL share", "share of the KL that they hold (%)"),
}
FAR, LEADER = (
    13.0,
    {"arrowstyle": "-", "linewidth": 0.4, "color": "#888888", "shrinkA": 0, "shrinkB": 2},
)
TOUCH = 5.0  # points: markers closer than that have one name
NAME_INCHES, TITLE_INCHES, AXIS_INCHES, PLOT_INCHES, GAP = 1.72, 0.26, 0.46, 1.55, 0.14
A_ROW: dict[style.Width, int] = {"page": 5, "column": 2}


@dataclass(frozen=True)
class Panel:
    """One column of rows: a quantity of each arm. views: as in the table."""

    what: str
    view: str
    condition: str
    title: str
    unit: str
    scale: float = PERCENT


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.sweep.measure` and of
        `decaylab.analyses.token_selection.measure`.
        published: rows of `publication.token_selection`, drawn grey and hollow in the last panel of
        accuracy, by selector.
        width: ``column`` (3.4 in, blocks of panels below each other) or ``page`` (7 in).

    Raises:
        ValueError: the rows hold no accuracy of a training arm.
    """
    what, rule = reported(measurements)
    found = arms.arms_of(measurements)
    panels = _panels(measurements)
    scatters = [name for name in (POSITION, SHARE) if any(panel.what == name for panel in panels)]
    theirs = _at_one_budget(published) if published is not None else None
    handles = _handles(measurements, found, theirs)
    note = _note(measurements)
    with style.context():
        head, foot = arms.key_inches(len(handles), width), arms.foot_inches(note, width)
        figure, axes, plots = _layout(found, len(panels), len(scatters), width, head, foot)
        best = max(place for place, panel in enumerate(panels) if panel.what == what)
        for place, (one, panel) in enumerate(zip(axes, panels, strict=True)):
            behind = theirs if place == best else None
            _rows(one, measurements, found, panel, chr(ord("a") + place), behind)
        for place, (one, name) in enumerate(zip(plots, scatters, strict=True), start=len(panels)):
            _scatter(one, measurements, found, panels[0], name, chr(ord("a") + place))
        arms.key(figure, handles, width)
        arms.foot(figure, note, width)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, counts, answer rule, and how the intervals were
    made."""
    what, rule = reported(measurements)
    panels = _panels(measurements)
    letters = {id(panel): chr(ord("a") + place) for place, panel in enumerate(panels)}
    text = [
        f"Students trained with the loss at chosen tokens; {arms.counts(measurements, what, rule)}."
    ]
    for panel in panels:
        text.append(f"({letters[id(panel)]}) {_sentence(panel, what)}.")
    scatters = [name for name in (POSITION, SHARE) if any(panel.what == name for panel in panels)]
    if scatters:
        first = chr(ord("a") + len(panels))
        named = " and ".join(
            {POSITION: "that position", SHARE: "that share"}[name] for name in scatters
        )
        text.append(
            f"({first}{' ff.' if len(scatters) > 1 else ''}) Accuracy of panel a against {named}, "
            "by row number."
        )
    text.append("Dashed: base student, teacher and full rollout on the same problems.")
    if (measurements.what == SHARE).any() and pick_share(measurements).value.isna().any():
        text.append(
            "No share: rollouts stop where the selection ends, so that what lies beyond was not "
            "sampled."
        )
    if published is not None:
        text.append(arms.published_text(published))
    return " ".join([*text, arms.interval_text(measurements[measurements.condition == rule])])


def pick_share(measurements: pd.DataFrame) -> pd.DataFrame:
    """The shares of each arm over its seeds."""
    return pd.DataFrame(
        measurements[(measurements.what == SHARE) & (measurements.estimand == arms.SEEDS)]
    )


def _panels(measurements: pd.DataFrame) -> list[Panel]:
    """The columns, from the left."""
    what, rule = reported(measurements)
    rows = measurements[(measurements.condition == rule) & (measurements.selector != "")]
    views = arms.views_of(rows[rows.what == what])
    found = [
        Panel(
            what,
            view,
            rule,
            f"{arms.SHORT_VIEWS[view].capitalize()}",
            f"{arms.samples_of(what)} (%)",
        )
        for view in views
    ]
    for name in ("full", "base"):
        if (rows.what == f"{what}_minus_{name}").any():
            short = {"full": "full", "base": "base"}[name]
            found.append(Panel(f"{what}_minus_{name}", views[0], rule, f"Less {short}", "points"))
            break
    for name, (title, unit) in AXIS_TITLES.items():
        if (measurements.what == name).any():
            found.append(
                Panel(name, "training", "training", title, unit, PERCENT if name == SHARE else 1.0)
            )
    return found


def _sentence(panel: Panel, what: str) -> str:
    if panel.what == what:
        return f"{arms.samples_of(what)} at the {arms.VIEWS[panel.view]}"
    if panel.what.startswith(what):
        other = REFERENCES[panel.what.rpartition("_")[2]].name
        return (
            f"Difference to {other} at the {arms.VIEWS[panel.view]}, paired by problem, and "
            "over seeds by seed"
        )
    return {
        POSITION: "Mean position of the selected tokens in a rollout, weighted as the loss",
        SHARE: "Share of the reverse KL of the sampled tokens that the selected ones hold",
    }[panel.what]


def _note(measurements: pd.DataFrame) -> str:
    what, rule = reported(measurements)
    level = f"{measurements.level.iloc[0] * PERCENT:g} %"
    return f"Bars, shaded: {level} intervals; H: entropy. {arms.counts(measurements, what, rule)}."


def _handles(
    measurements: pd.DataFrame, found: Sequence[Arm], published: pd.DataFrame | None
) -> list[Artist]:
    looks = list(dict.fromkeys(arm.look for arm in found))
    marks = [look_handle(look, line=look.colour == arms.FULL.colour) for look in looks]
    lines = [
        look_handle(REFERENCES[name], marker=False, line=True)
        for name in ("base", "teacher")
        if (measurements.checkpoint == name).any()
    ]
    return [
        *marks,
        *lines,
        *arms.bar_handles(),
        *([look_handle(PUBLISHED)] if published is not None else []),
    ]


def _at_one_budget(published: pd.DataFrame) -> pd.DataFrame:
    """Published rows at the budget that most have: of a selector with several budgets the others
    are left out."""
    budget = published.checkpoint.str.extract(r"-(\d+)$")[0]
    common = budget.mode().iloc[0]
    return pd.DataFrame(published[budget.isna() | (budget == common)])


# Layout


def _layout(
    found: Sequence[Arm], panels: int, plots: int, width: style.Width, head: float, foot: float
) -> tuple[Figure, list[Axes], list[Axes]]:
    """Blocks of panels that share their rows, then the plots: beside each other on a page, else
    below."""
    a_row = min(A_ROW[width], panels)
    blocks = [min(a_row, panels - start) for start in range(0, panels, a_row)]
    tall = arms.ROW_INCHES * len(found)
    plot_rows = math.ceil(plots / (2 if width == "page" else 1))
    total = (
        head
        + len(blocks) * (TITLE_INCHES + tall + AXIS_INCHES)
        + plot_rows * (TITLE_INCHES + PLOT_INCHES + AXIS_INCHES)
        + foot
    )
    figure = style.new_figure(width, total)
    right = style.WIDTH_INCHES[width] - 0.12
    axes: list[Axes] = []
    top = total - head
    for count in blocks:
        each = (right - NAME_INCHES - GAP * (a_row - 1)) / a_row
        lefts = [NAME_INCHES + (each + GAP) * place for place in range(count)]
        axes += arms.row_axes(
            figure,
            found,
            top - TITLE_INCHES,
            [(left, left + each) for left in lefts],
            numbered=True,
        )
        top -= TITLE_INCHES + tall + AXIS_INCHES
    spots = []
    for place in range(plots):
        column, row = (place % 2, place // 2) if width == "page" else (0, place)
        upper = top - TITLE_INCHES - row * (TITLE_INCHES + PLOT_INCHES + AXIS_INCHES)
        left = 0.55 + 3.5 * column
        spots.append(style.add_axes(figure, left, upper - PLOT_INCHES, left + 2.72, upper))
    return figure, axes, spots


# The panels


def _numbers(measurements: pd.DataFrame, found: Sequence[Arm], panel: Panel) -> dict[str, Number]:
    every = {
        arm.key: pick(measurements, panel.what, arm.key, view=panel.view, condition=panel.condition)
        for arm in found
    }
    return {name: Number.of(rows, panel.scale) for name, rows in every.items() if len(rows)}


def _rows(
    axes: Axes,
    measurements: pd.DataFrame,
    found: Sequence[Arm],
    panel: Panel,
    letter: str,
    published: pd.DataFrame | None,
) -> None:
    """The numbers of a panel, an arm below the other."""
    what, rule = reported(measurements)
    numbers = _numbers(measurements, found, panel)
    lines = {}
    if panel.what == what:
        lines = {
            name: arms.reference(measurements, what, rule, name, panel.view) for name in REFERENCES
        }
    behind = _published_values(found, published)
    zero = [0.0] if panel.what.startswith(f"{what}_minus") else []
    more = [end for line in lines.values() for end in line] + list(behind.values()) + zero
    low, high = arms.span(numbers.values(), more, least=10.0 if panel.scale == PERCENT else 1.0)
    if panel.what in AXIS_TITLES:
        low, high = 0.0, 104.0 if panel.what == SHARE else high
    elif not zero:
        low, high = max(low, -2.0), min(high, 102.0)
    axes.set_xlim(low, high)
    arms.value_ticks(axes, 3)
    for name, line in lines.items():
        across(axes, line, REFERENCES[name], f"{letter}.line.{name}", upright=True)
    if zero:
        other = REFERENCES[panel.what.rpartition("_")[2]]
        axes.axvline(
            0.0, color=other.colour, linewidth=0.9, linestyle="--", zorder=1, gid=f"{letter}.zero"
        )
    for row, arm in enumerate(found):
        if arm.key in numbers:
            draw_number(axes, row, numbers[arm.key], arm.look, f"{letter}.{arm.key}", aside=0.3)
        if arm.key in behind:
            axes.plot(
                [behind[arm.key]],
                [row],
                "o",
                markersize=4.0,
                markerfacecolor="white",
                markeredgewidth=0.9,
                markeredgecolor=style.PUBLISHED,
                clip_on=False,
                gid=f"{letter}.published.{arm.key}",
                zorder=1.5,
            )
    axes.set_title(f"{letter}  {panel.title}", pad=4)
    axes.set_xlabel(panel.unit)


def _published_values(found: Sequence[Arm], published: pd.DataFrame | None) -> dict[str, float]:
    """The published accuracy of the same selector, in per cent."""
    if published is None:
        return {}
    values = {
        str(name): float(value) * PERCENT
        for name, value in zip(published.selector, published.value, strict=True)
    }
    return {arm.key: values[arm.selector] for arm in found if arm.selector in values}


def _scatter(
    axes: Axes,
    measurements: pd.DataFrame,
    found: Sequence[Arm],
    panel: Panel,
    name: str,
    letter: str,
) -> None:
    """Accuracy with its interval over problems, against what the selection took; numbered as the
    rows are."""
    levels = _numbers(measurements, found, panel)
    title, unit = AXIS_TITLES[name]
    taken = _numbers(
        measurements,
        found,
        Panel(name, "training", "training", title, unit, PERCENT if name == SHARE else 1.0),
    )
    drawn = [
        arm
        for arm in found
        if arm.key in levels and arm.key in taken and not math.isnan(taken[arm.key].value)
    ]
    shown = [replace(levels[arm.key], seeds=(math.nan,) * 3, singly=()) for arm in drawn]
    low, high = arms.span(shown, least=10.0)
    axes.set_ylim(low, high)
    most = max([taken[arm.key].value for arm in drawn], default=1.0)
    axes.set_xlim(0, 104.0 if name == SHARE else 1.08 * most or 1.0)
    arms.value_ticks(axes, 5)
    arms.value_ticks(axes, 5, upright=True)
    last = sorted(
        zip(drawn, shown, strict=True), key=lambda one: one[0].selector in ("full", "prefix")
    )  # on top
    for arm, number in last:
        draw_number(
            axes, taken[arm.key].value, number, arm.look, f"{letter}.{arm.key}", upright=True
        )
    groups = _close(
        axes,
        [(taken[arm.key].value, number.value) for arm, number in zip(drawn, shown, strict=True)],
    )
    labels = [_numbered([drawn[place] for place in group]) for group in groups]
    middles = [group[0] for group in groups]
    spots = [(taken[drawn[place].key].value, shown[place].value) for place in middles]
    bars = [
        (taken[arm.key].value, end)
        for arm, number in zip(drawn, shown)
        for end in number.problems[1:]
    ]
    for label, spot, group, aside in zip(
        labels, spots, groups, _beside(axes, spots, labels, bars), strict=True
    ):
        colour = style.darker(drawn[group[0]].look.colour) if len(group) == 1 else style.INK
        axes.annotate(
            label,
            spot,
            aside,
            textcoords="offset points",
            fontsize=style.SMALL,
            color=colour,
            arrowprops=LEADER if math.hypot(*aside) > FAR else None,
            linespacing=1.0,
        )
    style.name_y_axis(axes, f"{arms.samples_of(panel.what)} (%)")
    short, long = AGAINST[name]
    axes.set_title(f"{letter}  Accuracy against {short}", pad=4)
    axes.set_xlabel(long)


def _points(axes: Axes, places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Places in points from the lower left corner of the axes."""
    across_points, up_points = style.size_points(axes)
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    return [
        ((x - left) / (right - left) * across_points, (y - low) / (high - low) * up_points)
        for x, y in places
    ]


def _close(axes: Axes, places: Sequence[tuple[float, float]]) -> list[list[int]]:
    """Markers that touch each other, directly or by others, as groups of their indices; each begins
    with its rightmost."""
    spots = _points(axes, places)
    groups: list[list[int]] = []
    for one in range(len(spots)):
        near = [
            group
            for group in groups
            if any(math.dist(spots[one], spots[other]) < TOUCH for other in group)
        ]
        groups = [group for group in groups if group not in near] + [
            [*(place for group in near for place in group), one]
        ]
    return [sorted(group, key=lambda place: -spots[place][0]) for group in groups]


def _numbered(group: Sequence[Arm]) -> str:
    """The numbers of a group in few signs: 8, 9, 11-20; three ranges a line."""
    numbers = sorted(arm.number for arm in group)
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][-1] + 1:
            ranges[-1].append(number)
        else:
            ranges.append([number])
    words = [
        f"{one[0]}\u2013{one[-1]}" if len(one) > 2 else ", ".join(map(str, one)) for one in ranges
    ]
    return "\n".join(", ".join(words[start : start + 3]) for start in range(0, len(words), 3))


def _beside(
    axes: Axes,
    places: Sequence[tuple[float, float]],
    names: Sequence[str],
    bars: Sequence[tuple[float, float]],
) -> list[tuple[int, int]]:
    """Where the name of each marker goes, in points from it: where it meets no bar, else no marker
    and no other name.

    bars: lower and upper ends of the intervals, one after the other.
    """
    across_points, up_points = style.size_points(axes)
    spots = _points(axes, places)
    taken = [(x - 2.5, y - 2.5, x + 2.5, y + 2.5) for x, y in spots]
    found = []
    points = _points(axes, bars)
    broad = [
        (low[0] - 1.6, low[1], high[0] + 1.6, high[1])
        for low, high in zip(points[::2], points[1::2])
    ]
    for (x, y), name in zip(spots, names, strict=True):
        wide, tall = 4.3 * max(map(len, name.split("\n"))), 7.5 * (name.count("\n") + 1)
        asides = sorted(
            [
                (right, up)
                for right in (5, -int(wide) - 4, 15, -int(wide) - 14, 25, -int(wide) - 24)
                for up in (1, -7, 8, -14, 15, -21, -28, -35, -45, -55, -int(tall) - 4)
            ],
            key=lambda aside: math.hypot(max(aside[0], -aside[0] - wide), aside[1] + 3),
        )
        boxes = [(x + right, y + up, x + right + wide, y + up + tall) for right, up in asides]
        inside = [
            place
            for place, box in enumerate(boxes)
            if box[0] > 0 and box[1] > 0 and box[3] < up_points
        ]
        inside = [place for place in inside if boxes[place][2] < across_points + 6] or inside
        free = [place for place in inside if not any(_meet(boxes[place], other) for other in taken)]
        clear = [
            place
            for place in free
            if not any(_meet(boxes[place], bar) for bar in broad if abs(bar[0] - x) > 3)
        ]
        chosen = (clear or free or [0])[0]
        taken.append(boxes[chosen])
        found.append(asides[chosen])
    return found


def _meet(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
