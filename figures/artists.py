"""The artists that all figures share: values with their stored intervals, bands, references.

    GID          the values, as markers, joined or not
    GID.bars     their intervals
    GID.cut      an arrowhead where an interval extends beyond the frame
    GID.band     around a reference line

A bar holds the stored low and high, clipped to the frame, so the limits of the axes must be set
before. Nothing is computed here but places on the page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import ArrayLike

from . import style

PERCENT = 100.0
NUMBERS = ["value", "low", "high"]
MARKER = 4.0  # points: its width
BROAD, THIN = 3.2, 0.9  # points: bars over problems beside bars over seeds; all other bars are thin


@dataclass(frozen=True)
class Look:
    """How a curve is drawn and named; the name's line breaks fit the margin."""

    name: str
    colour: str
    marker: str
    line: str = "-"

    @property
    def hollow(self) -> bool:
        """Published numbers have hollow markers, so that grey alone does not set them apart."""
        return self.colour == style.PUBLISHED


def marker(look: Look, size: float = MARKER) -> dict[str, Any]:
    """Matplotlib's properties of the marker: filled with a white edge, or hollow."""
    fill, edge, width = look.colour, "white", 0.4
    if look.hollow:
        fill, edge, width = edge, fill, 0.9
    return {
        "marker": look.marker,
        "markersize": size,
        "markerfacecolor": fill,
        "markeredgecolor": edge,
        "markeredgewidth": width,
    }


def handle(look: Look, *, line: bool = False, size: float = MARKER, **more: Any) -> Line2D:
    """The entry of a key for this look. line: with its line."""
    properties = marker(look, size) | {"linewidth": 0.9, "linestyle": look.line if line else ""}
    return Line2D([], [], color=look.colour, label=look.name, **properties | more)


def moved(axes: Axes, shift: float, *, upright: bool = True) -> Transform:
    """Data units, plus some points along the axis without values: right, or down.

    Points rather than data units, so that a shift changes no number and looks alike on any scale.
    """
    inches = shift / style.POINTS_PER_INCH
    right, up = (inches, 0.0) if upright else (0.0, -inches)
    return axes.transData + ScaledTranslation(right, up, style.root(axes).dpi_scale_trans)


def draw(
    axes: Axes,
    at: ArrayLike,
    rows: pd.DataFrame,
    look: Look,
    gid: str,
    *,
    scale: float = 1.0,
    shift: float = 0.0,
    upright: bool = True,
    joined: bool | None = None,
    **more: Any,
) -> None:
    """Values and intervals of rows of the measurements table.

    Args:
        at: the place of each row along the other axis.
        scale: what the table's numbers are multiplied by, such as `PERCENT`.
        shift: points by which curves are moved aside so that their bars can be told apart.
        upright: values are on the y axis.
        joined: a line joins the values; by default where they are upright.
        more: properties of the line, such as ``linewidth``, ``markersize``, ``zorder``.
    """
    value, low, high = scale * rows[NUMBERS].to_numpy(dtype=float).T
    place: dict[str, Any] = {"upright": upright, "shift": shift}
    intervals(axes, at, low, high, look.colour, f"{gid}.bars", **place)
    if joined is None:
        joined = upright  # rows of dots below each other are no curve
    points(axes, at, value, look, gid, joined=joined, **place | more)


def points(
    axes: Axes,
    at: ArrayLike,
    values: ArrayLike,
    look: Look,
    gid: str,
    *,
    upright: bool = True,
    shift: float = 0.0,
    joined: bool = False,
    **more: Any,
) -> None:
    """Values as markers, joined or not; nothing where there is none."""
    if not np.size(values):
        return
    x, y = np.atleast_1d(at), np.atleast_1d(values)
    width, above = (1.0, 1.5) if look.hollow else (1.2, 3.0)  # what is published lies behind
    properties = marker(look) | {
        "color": look.colour,
        "linestyle": look.line if joined else "",
        "linewidth": width,
        "transform": moved(axes, shift, upright=upright),
        "clip_on": False,  # a marker at the end of an axis is whole
        "zorder": above,
    }
    if not upright:
        x, y = y, x
    axes.plot(x, y, gid=gid, **properties | more)


def intervals(
    axes: Axes,
    at: ArrayLike,
    low: ArrayLike,
    high: ArrayLike,
    colour: str,
    gid: str,
    *,
    upright: bool = True,
    shift: float = 0.0,
    width: float = THIN,
    alpha: float = 1.0,
    zorder: float = 2.0,
) -> None:
    """Bars from low to high, with an arrowhead at the frame where one extends beyond it.

    The gid of an arrowhead is that of the bars with ``.cut`` in place of ``.bars``, or behind it.
    """
    # one place may have many bars, and one bar may stand alone
    places, lows, highs = np.broadcast_arrays(np.atleast_1d(at), low, high)
    table = np.stack([places, lows, highs]).astype(float)
    places, lows, highs = table[:, ~np.isnan(table).any(axis=0)]
    if not len(places):
        return
    first, last = sorted(axes.get_ylim() if upright else axes.get_xlim())
    place: dict[str, Any] = {
        "color": colour,
        "alpha": alpha,
        "transform": moved(axes, shift, upright=upright),
        "clip_on": False,
        "zorder": zorder,
    }
    lines = axes.vlines if upright else axes.hlines
    drawn = lines(places, lows.clip(first, last), highs.clip(first, last), linewidth=width, **place)
    drawn.set_gid(gid)
    heads = ("v", "^") if upright else ("<", ">")
    # stored ends may be infinite, and some lie far outside: what is cut has to be seen as cut
    for head, end, cut in zip(heads, (first, last), (lows < first, highs > last), strict=True):
        if cut.any():
            frame = np.full(int(cut.sum()), end)
            x, y = (places[cut], frame) if upright else (frame, places[cut])
            axes.plot(x, y, head, markersize=3.0, gid=f"{gid.removesuffix('.bars')}.cut", **place)


def band(
    axes: Axes, at: ArrayLike, rows: pd.DataFrame, colour: str, gid: str, scale: float = 1.0
) -> None:
    """A shade over the rows that have a band: an interval that holds at all places at once."""
    look: dict[str, Any] = {"color": colour, "alpha": 0.15, "gid": gid, "zorder": 0.5}
    ends = scale * rows[["band_low", "band_high"]].to_numpy(dtype=float)
    known = ~np.isnan(ends).any(axis=1)
    x, (bottom, top) = np.asarray(at, dtype=float)[known], ends[known].T
    if len(x) == 1:  # an area over a single place has no width
        axes.vlines(x, bottom, top, linewidth=7, **look)
    elif len(x):
        axes.fill_between(x, bottom, top, linewidth=0, **look)


def across(
    axes: Axes,
    number: tuple[float, float, float],
    look: Look,
    gid: str,
    *,
    upright: bool = True,
    **more: Any,
) -> None:
    """A reference: value, low, high as a line over the whole panel, shaded by its interval.

    upright: values are on the y axis, so the line lies. more: other properties of the shade.
    """
    value, low, high = number
    if math.isnan(value):
        return
    line, shade = (axes.axhline, axes.axhspan) if upright else (axes.axvline, axes.axvspan)
    line(value, color=look.colour, linewidth=0.9, linestyle=look.line, gid=gid, zorder=1)
    if not (math.isnan(low) or math.isnan(high)):
        properties = more or {"color": look.colour, "alpha": 0.1, "linewidth": 0}
        shade(low, high, gid=f"{gid}.band", zorder=0, **properties)


def no_value(axes: Axes) -> None:
    """Says in an empty panel that nothing is defined there."""
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "center"}
    axes.text(0.5, 0.5, "no value", fontsize=style.SMALL, **place)


def beside(
    axes: Axes,
    height: float,
    text: str,
    aside: float,
    *,
    colour: str = style.INK,
    align: Literal["left", "right"] = "right",
) -> None:
    """Writes a text right of the axes at a height in data units.

    aside: points from the axes to that end of the text which ``align`` names.
    """
    axes.annotate(
        text,
        (1, height),
        (aside, -0.3),
        axes.get_yaxis_transform(),
        "offset points",
        ha=align,
        va="center",
        fontsize=style.SMALL,
        color=colour,
        annotation_clip=False,
    )
