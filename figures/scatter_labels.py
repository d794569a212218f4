"""Labels of the dots of a scatter plot: row numbers beside them, with a leader where a label stands
far from its dot."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fclusterdata

from . import style
from .arms import Arm, Number

Floats = NDArray[np.float64]
FAR = 13.0  # points: a label farther from its marker has a leader
LEADER = {"arrowstyle": "-", "linewidth": 0.4, "color": "#888888", "shrinkA": 0, "shrinkB": 2}
TOUCH = 5.0  # points: markers closer than that have one label
CLEAR = 2.0  # points: a label is nearer to its own dot than to any other by that
SPACE = 2.0  # points left and right of a label
MARKER, BAR = 2.5, 1.6  # points from the middle of a marker, of a broad bar, to its edge


def _points(axes: Axes, places: Sequence[tuple[float, float]]) -> Floats:
    """Places in points from the lower left corner of the axes."""
    pixels = axes.transData.transform(np.array(places)) - axes.bbox.p0
    return np.asarray(pixels * style.POINTS_PER_INCH / style.root(axes).dpi)


def draw(
    axes: Axes, drawn: Sequence[Arm], places: Mapping[str, float], levels: Mapping[str, Number]
) -> None:
    """Writes the row number of each marker beside it; markers that touch have one label."""
    triples = [levels[arm.key].problems for arm in drawn]
    across = [places[arm.key] for arm in drawn]
    values, lows, highs = (list(zip(across, ends)) for ends in zip(*triples))
    ends = zip(_points(axes, lows), _points(axes, highs))
    bars = [Bbox([low - (BAR, 0.0), high + (BAR, 0.0)]) for low, high in ends]
    spots = _points(axes, values)
    there = _Drawn(spots, [Bbox([spot - MARKER, spot + MARKER]) for spot in spots], bars, [])
    for group in _touching(spots):
        first = group[0]
        label = _numbered([drawn[place].number for place in group])
        aside, box = _beside(axes, group, label, there)
        there.taken.append(box)
        if math.hypot(*aside) > FAR:
            there.leaders.append(_leader(spots[first], box))
        axes.annotate(
            label,
            values[first],
            aside,
            textcoords="offset points",
            fontsize=style.SMALL,
            color=style.darker(drawn[first].look.colour) if len(group) == 1 else style.INK,
            arrowprops=LEADER if math.hypot(*aside) > FAR else None,
            linespacing=1.0,
        )


def _touching(spots: Floats) -> list[list[int]]:
    """Markers that touch each other, directly or by others, as groups of their indices; each begins
    with its rightmost."""
    if len(spots) == 1:
        return [[0]]
    # Single linkage: markers in a chain of touching ones are one group
    members = fclusterdata(spots, TOUCH, criterion="distance", method="single")
    groups = [np.flatnonzero(members == member) for member in dict.fromkeys(members)]
    return [sorted(group.tolist(), key=lambda place: -spots[place, 0]) for group in groups]


def _numbered(numbers: Sequence[int]) -> str:
    """Row numbers in few signs: 8, 9, 11-20; three ranges a line."""
    texts = []
    # Of consecutive numbers, the difference from their place in the row is the same
    for _, run in itertools.groupby(enumerate(sorted(numbers)), lambda place: place[1] - place[0]):
        members = [str(number) for _, number in run]
        texts.append(", ".join(members) if len(members) < 3 else f"{members[0]}\u2013{members[-1]}")
    return ",\n".join(", ".join(texts[start : start + 3]) for start in range(0, len(texts), 3))


@dataclass(frozen=True)
class _Drawn:
    """What labels keep clear of, in points: dots, the boxes of dots and labels, bars, leaders."""

    spots: Floats
    taken: list[Bbox]
    bars: Sequence[Bbox]
    leaders: list[Path]


def _beside(
    axes: Axes, group: Sequence[int], label: str, there: _Drawn
) -> tuple[tuple[float, float], Bbox]:
    """Where the label of a group of dots goes, in points from the first, and the box it takes:
    within the axes, where it meets few labels and leaders and is read as that of no other dot,
    over few bars, and near its dot, in this order."""
    width, height = style.size_points(axes)
    frame = Bbox([(0.0, 0.0), (width + 6, height)])
    wide = 4.3 * max(len(line) for line in label.split("\n"))
    tall = 7.5 * (label.count("\n") + 1)
    spot = there.spots[group[0]]
    strangers = np.delete(there.spots, list(group), axis=0)
    others = [each for each in there.taken if not each.contains(*spot)]

    def box(aside: tuple[float, float]) -> Bbox:
        corner = spot + aside
        return Bbox([corner - (SPACE, 0.0), corner + (wide + SPACE, tall)])

    def cost(aside: tuple[float, float]) -> tuple[bool, int, int, float]:
        place = box(aside)
        inside = frame.contains(*place.p0) and frame.contains(*place.p1)
        met = place.count_overlaps(there.taken)
        met += sum(leader.intersects_bbox(place, filled=False) for leader in there.leaders)
        if math.hypot(*aside) > FAR:
            own = _leader(spot, place)
            met += sum(own.intersects_bbox(each, filled=False) for each in others)
            met += sum(own.intersects_path(leader, filled=False) for leader in there.leaders)
        else:
            clear = _from_middle(spot[None], place)[0] + CLEAR
            met += int((_from_middle(strangers, place) < clear).sum())
        far = math.hypot(max(aside[0], -aside[0] - wide), aside[1] + 3)
        return not inside, met, place.count_overlaps(there.bars), far

    rights = [right for step in (5, 15, 25) for right in (step, -step - int(wide))]
    ups = [-3, 1, -7, 8, -14, 15, -21, -28, -35, -45, -55, -int(tall) - 4]
    best = min(itertools.product(rights, ups), key=cost)
    return best, box(best)


def _leader(spot: Floats, label: Bbox) -> Path:
    """The line from a marker to the middle of its label, as an annotation has it."""
    middle = (label.x0 + label.x1) / 2, (label.y0 + label.y1) / 2
    return Path(np.stack([spot, np.array(middle)]))


def _from_middle(spots: Floats, label: Bbox) -> Floats:
    """How far these dots are from the middle line of a label, points."""
    across = spots[:, 0] - spots[:, 0].clip(label.x0, label.x1)
    return np.asarray(np.hypot(across, spots[:, 1] - (label.y0 + label.y1) / 2))
