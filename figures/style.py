"""What all figures share: colours, sizes, and how a figure is saved.

Figures are objects: nothing here needs pyplot's state, a display, or the user's settings. Draw
inside ``with context():``.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from decaylab.runs.store import write_atomically

Width = Literal["column", "page"]
WIDTH_INCHES: dict[Width, float] = {"column": 3.4, "page": 7.0}
# Inches at most; a panel alone is a column wide
PANEL_HEIGHT, PAGE_HEIGHT, COLUMN_HEIGHT = 3.0, 8.0, 9.0
POINTS_PER_INCH = 72.0
SMALL, NORMAL = 7.0, 8.0  # points at the printed size
BOLD = 9.0  # as wide as a bold letter of the normal size is, in points of the plain face
PAPER_POINTS = 9.6  # of seaborn's text in papers

# Okabe and Ito's colour-blind-safe set. A policy keeps its colour in every figure.
TEACHER = "#0072B2"
STUDENT = "#D55E00"
ESR = "#009E73"
FULL_ROLLOUT = "#CC79A7"
SKY, ORANGE, BLACK, WINE = "#56B4E9", "#E69F00", "#222222", "#882255"  # for controls; wine is Tol's
CHECKPOINT_MARKERS = ("s", "^", "D", "v", "P", "X")  # the base student has the circle
PUBLISHED = "#808080"  # with hollow markers and dashes, and for nothing measured
INK = "#262626"  # of text and axes in seaborn's themes

# What seaborn's theme "ticks" for papers leaves open, or has otherwise
_RC: dict[str, Any] = {
    "font.sans-serif": ["DejaVu Sans"],  # it comes with matplotlib: the same figure everywhere
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.solid_capstyle": "butt",  # an interval ends where it ends
    "text.parse_math": False,  # a path or a problem set's name may hold a dollar sign
    "figure.dpi": 100.0,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "decaylab",
    "pdf.fonttype": 42,  # TrueType: text can be searched, and journals refuse the other kind
    "backend": "agg",
}


@dataclass(frozen=True)
class EndLabel:
    """A label for the end of a curve, at (x, y) in data units."""

    x: float
    y: float
    text: str
    colour: str


class Drawn(Figure):
    """A figure that a notebook shows as it will be printed, whichever backend it has."""

    def _repr_png_(self) -> bytes:
        return encoded(self, "png", dots_per_inch=150)


@contextmanager
def context() -> Iterator[None]:
    """The settings under which figures are drawn and saved, independent of the user's
    matplotlibrc."""
    # seaborn's dictionaries rather than its set_theme, which would change the user's settings
    paper = sns.plotting_context("paper", font_scale=NORMAL / PAPER_POINTS)
    theme: dict[Any, Any] = dict(mpl.rcParamsDefault) | paper | sns.axes_style("ticks")
    with mpl.rc_context(theme | _RC), warnings.catch_warnings():
        # a name in a script that the font lacks: SVG keeps the text, elsewhere boxes stand for it
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        yield


def new_figure(width: Width, height_inches: float) -> Figure:
    """An empty figure of a print width, on a canvas that needs no display."""
    figure = Drawn(figsize=(WIDTH_INCHES[width], height_inches))
    FigureCanvasAgg(figure)
    return figure


def root(axes: Axes) -> Figure:
    """The figure that the axes stand in."""
    figure = axes.get_figure(root=True)
    assert figure is not None, "axes outside a figure have no size"
    return figure


def narrow(axes: Axes) -> bool:
    """Whether the axes stand in a column or in a panel alone, with no other panel beside them."""
    return root(axes).get_figwidth() < WIDTH_INCHES["page"]


def size_points(axes: Axes) -> tuple[float, float]:
    """Width and height of the axes in points at the printed size."""
    across, up = root(axes).get_size_inches()
    place = axes.get_position()
    return float(place.width * across * POINTS_PER_INCH), float(place.height * up * POINTS_PER_INCH)


def name_y_axis(axes: Axes, name: str) -> None:
    """Names the y axis, 28 points left of it however wide its numbers are: the names of stacked
    panels stand below each other, and none is cut off."""
    axes.set_ylabel(name)
    axes.yaxis.set_label_coords(-28.0 / size_points(axes)[0], 0.5)


def darker(colour: str, share: float = 0.3) -> str:
    """The colour mixed with black: text needs more contrast on white than a line does."""
    return _mixed(colour, "black", share)


def lighter(colour: str, share: float) -> str:
    """The colour mixed with white."""
    return _mixed(colour, "white", share)


def _mixed(colour: str, other: str, share: float) -> str:
    part, rest = (np.array(to_rgb(name)) for name in (other, colour))
    red, green, blue = part * share + rest * (1 - share)
    return to_hex((red, green, blue))


def shades(colour: str, count: int) -> list[str]:
    """The colour alone, or several shades of it from light to dark."""
    if count < 2:
        return [colour] * count
    ends = [lighter(colour, 0.4), colour, darker(colour, 0.55)]
    return [to_hex(shade) for shade in sns.blend_palette(ends, count)]


def markers(count: int) -> list[str]:
    """A marker for each of several trained students."""
    return [CHECKPOINT_MARKERS[i % len(CHECKPOINT_MARKERS)] for i in range(count)]


def label_ends(axes: Axes, labels: Sequence[EndLabel]) -> None:
    """Writes each label right of the axes at the height of its curve's end, moved apart where they
    would overlap.

    The limits of the axes must be set before. A curve that ends undefined has no label.
    """
    labels = [label for label in labels if math.isfinite(label.y)]
    across, up = size_points(axes)
    low, high = axes.get_ylim()
    ordered = sorted(labels, key=lambda label: (label.y, label.text))
    heights = [SMALL * 1.25 * (label.text.count("\n") + 1) + 2.0 for label in ordered]
    places = spread([(label.y - low) / (high - low) * up for label in ordered], heights, up)
    leader = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 3, "relpos": (0, 0.5)}
    for label, place in zip(ordered, places, strict=True):
        axes.annotate(
            label.text,
            xy=(label.x, label.y),
            xytext=(1 + 9 / across, place / up),
            textcoords="axes fraction",
            ha="left",
            va="center",
            fontsize=SMALL,
            linespacing=1.05,
            color=darker(label.colour),
            arrowprops={**leader, "color": label.colour},
            annotation_clip=False,
        )


def spread(wanted: Sequence[float], heights: Sequence[float], room: float) -> list[float]:
    """Centres of boxes of these heights, in the given order from below, near where they are wanted
    and not overlapping.

    The boxes stay within 0 and ``room`` if they fit, and else stick out on top.
    """
    # once down from the top, then once up from the bottom, which wins where the room is too small
    places = list(wanted)
    ceiling = room
    for i in reversed(range(len(places))):
        places[i] = min(places[i], ceiling - heights[i] / 2)
        ceiling = places[i] - heights[i] / 2
    floor = 0.0
    for i, height in enumerate(heights):
        places[i] = max(places[i], floor + height / 2)
        floor = places[i] + height / 2
    return places


def far_apart(places: Sequence[float], gap: float) -> list[int]:
    """Indices of places, in rising order, that keep the gap to each other: the last always, the
    first if it can."""
    kept: list[int] = []
    for i in reversed(range(len(places))):
        if not kept or places[kept[-1]] - places[i] >= gap:
            kept.append(i)
    if kept and kept[-1] != 0 and len(kept) > 1:
        kept[-1] = 0  # the first matters more than its neighbour
    return sorted(kept)


def ticks(axes: Axes, names: Mapping[float, str], gap: float) -> None:
    """Ticks at these places on the x axis, named where the names are ``gap`` points apart.

    The limits and the scale of the axis must be set before.
    """
    places = sorted(names)
    shown = far_apart(places_points(axes, places), gap)
    labels = [""] * len(places)
    for i in shown:
        labels[i] = names[places[i]]
    axes.set_xticks(places, labels)
    axes.xaxis.set_minor_locator(NullLocator())


def places_points(axes: Axes, places: Sequence[float]) -> list[float]:
    """Where these places along the x axis stand, in points from the figure's edge."""
    across = np.array(places, dtype=float)
    pairs = np.stack([across, np.full_like(across, axes.get_ylim()[0])], axis=1)
    points = axes.transData.transform(pairs)[:, 0] * POINTS_PER_INCH / root(axes).dpi
    return [float(place) for place in points]


def ticks_within(
    axes: Axes, *, upright: bool = False, most: int | None = None, share: bool = False
) -> None:
    """Round numbers within the limits of the axis, at most about ``most``.

    share: in per cent of a whole, where the axis may go beyond 100 to keep room for a marker.
    """
    axis = axes.yaxis if upright else axes.xaxis
    if most is not None:
        axis.set_major_locator(MaxNLocator(most))
    # matplotlib's ticks may lie beyond the limits, and would widen them
    low, high = sorted(axis.get_view_interval())
    if share:
        low, high = max(low, 0.0), min(high, 100.0)
    axis.set_ticks([tick for tick in axis.get_majorticklocs() if low <= tick <= high])


# What a file would say about when and by what it was written; None leaves it out.
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save(
    figure: Figure, path: Path, *, kinds: Sequence[str] = ("png", "svg"), dots_per_inch: int = 300
) -> tuple[Path, ...]:
    """Writes PATH.png, PATH.svg or PATH.pdf, each whole or not at all, in the order of ``kinds``.

    The same figure gives the same bytes. Text stays text: in SVG as it is, in PDF with its font
    inside the file.

    Raises:
        ValueError: a kind that is none of these.
        UserError: the disk is full or the folder cannot be written.
    """
    unknown = [kind for kind in kinds if kind not in _METADATA]
    if unknown:
        raise ValueError(f"kinds must be among {', '.join(_METADATA)}, got {unknown[0]!r}")
    written = []
    for kind in kinds:
        target = path.with_name(f"{path.name}.{kind}")
        write_atomically(target, encoded(figure, kind, dots_per_inch=dots_per_inch))
        written.append(target)
    return tuple(written)


def encoded(figure: Figure, kind: str, *, dots_per_inch: int = 300) -> bytes:
    """A figure as the content of a file: png, svg or pdf. The same figure gives the same bytes."""
    content = io.BytesIO()
    with context():
        figure.savefig(content, format=kind, dpi=dots_per_inch, metadata=_METADATA[kind])
    return content.getvalue()
