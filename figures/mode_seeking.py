"""Mode seeking: what a student of one mode becomes beside a teacher of two (Fig. 4 of arXiv
2605.27028, computed).

The teacher shaded, the student of least forward KL across both modes, those of least reverse KL on
one mode each. It is an illustration with the parameters that it names: no model stands behind it.
Drawing reads what was computed.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from decaylab.printing import rounded
from decaylab.runs.vocabulary import TEACHER, row, select

from . import bins, style, words
from .artists import PERCENT
from .page import Block, page

FORWARD = "forward-kl"
BEHIND = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}  # a curve may pass labels
LEADER = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 1}
SEEN = 0.005  # of the highest density; where all curves lie lower the axis ends
MINUS = "\u2212"
REFUSAL = "the published figure is a sketch without numbers"
NOTE = """Computed, no model: a teacher of two Gaussians, {modes}, and a student of one. Forward:
    KL(teacher || student). Reverse: KL(student || teacher)."""
CAPTION = """A computed illustration of mode seeking; no model was measured. The teacher (shaded) is
    a mixture of two Gaussians, {modes}, the student a single one. Where the forward KL(teacher ||
    student) is least, the student spreads over both modes and the gap between them. At a minimum
    of the reverse KL(student || teacher), which on-policy distillation lowers, it can sit on one
    of two modes that lie apart, at the price of about -log of that mode's weight. {fits}. Nothing
    is sampled, so there are no intervals ({methods})."""


class Computed(Protocol):
    """What `decaylab.analyses.mode_seeking.fit` gives."""

    @property
    def measurements(self) -> pd.DataFrame: ...

    @property
    def curves(self) -> pd.DataFrame: ...


def draw(
    result: Computed, *, published: pd.DataFrame | None = None, width: style.Width = "page"
) -> Figure:
    """The figure, at its printed size.

    Args:
        result: of `decaylab.analyses.mode_seeking.fit`.
        published: None; the published sketch has no numbers.
        width: ``column`` (3.4 in) or ``page`` (7 in).

    Raises:
        ValueError: published rows are given.
    """
    bins.refuse_published(published, REFUSAL)
    note = words.filled(NOTE, modes=_modes(result.measurements))
    with style.context():
        block = Block([["densities"]], [2.0 if width == "page" else 1.7], above=0.04)
        figure, panels = page(width, [block], note=note)
        axes = panels["densities"]
        _axes(axes, result.curves)
        _teacher(axes, select(result.curves, curve=TEACHER))
        for name in _fits(result.curves):
            _fit(axes, result, name)
    return figure


def caption(result: Computed, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: the parameters, each fit with its divergence, and how it was found.

    Raises:
        ValueError: published rows are given.
    """
    bins.refuse_published(published, REFUSAL)
    rows, names = result.measurements, _fits(result.curves)
    fits = []
    for name in names:
        mean, deviation = (_number(rows, name, what) for what in ("mean", "standard_deviation"))
        fits.append(
            f"{_name(name)}: mean {mean}, standard deviation {deviation}, {_nats(rows, name)}"
        )
    methods = "; ".join(select(rows, condition=names).method.unique())
    return words.filled(CAPTION, modes=_modes(rows), fits="; ".join(fits), methods=methods)


def _axes(axes: Axes, curves: pd.DataFrame) -> None:
    """As far as a density can be seen, with room for labels above the highest."""
    top = float(curves.density.max())
    seen = curves[curves.density > SEEN * top].x
    axes.set_xlim(seen.min(), seen.max())
    axes.set_ylim(0, 1.32 * top)
    style.ticks_within(axes)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= top])
    axes.set_xlabel("x, a line in place of a vocabulary")
    style.name_y_axis(axes, "density")


def _teacher(axes: Axes, rows: pd.DataFrame) -> None:
    """Shaded; its name at the right edge."""
    axes.fill_between(rows.x, rows.density, color=style.TEACHER, alpha=0.2, linewidth=0, zorder=0)
    axes.plot(rows.x, rows.density, color=style.TEACHER, linewidth=0.8, gid=TEACHER, zorder=1)
    slope = rows[rows.density > 0.5 * rows.density.max()].iloc[-1]
    _label(axes, TEACHER, TEACHER, slope, style.TEACHER, "right")


def _fit(axes: Axes, result: Computed, name: str) -> None:
    """The line of a fit, with its divergence beside it: of a reverse fit over its peak, of the
    forward fit on the left."""
    rows = select(result.curves, curve=name)
    colour = style.WINE if name == FORWARD else style.STUDENT
    axes.plot(rows.x, rows.density, color=colour, linewidth=1.3, gid=name, zorder=2)
    text = f"{_name(name)}\n{_nats(result.measurements, name)}"
    peak = rows.nlargest(1, "density").iloc[0]
    if name == FORWARD:
        slope = rows[rows.density > 0.35 * peak.density].iloc[0]
        _label(axes, name, text, slope, colour, "left")
    else:
        _label(axes, name, text, peak, colour, "center")


def _label(axes: Axes, name: str, text: str, point: pd.Series[Any], colour: str, side: str) -> None:
    """Over a point of the curve; or at the left or right edge, half-way up, with a leader to it."""
    place: dict[str, Any] = {
        "xytext": (0.99 if side == "right" else 0.01, 0.45),
        "textcoords": "axes fraction",
        "va": "center",
        "arrowprops": LEADER | {"color": colour},
    }
    if side == "center":
        place = {"xytext": (0, 3), "textcoords": "offset points", "va": "bottom"}
    label = axes.annotate(text, (point.x, point.density), ha=side, bbox=BEHIND, **place)
    label.set(fontsize=style.SMALL, color=style.darker(colour), gid=f"{name}.label")


# Words


def _fits(curves: pd.DataFrame) -> list[str]:
    return [str(name) for name in curves.curve.unique() if name != TEACHER]


def _name(fit: str) -> str:
    if fit == FORWARD:
        return "forward-KL fit"
    return f"reverse-KL fit {fit.removeprefix('reverse-kl-')}"


def _nats(rows: pd.DataFrame, fit: str) -> str:
    """The divergence that the fit minimises."""
    return f"{_number(rows, fit, 'forward_kl' if fit == FORWARD else 'reverse_kl')} nats"


def _value(rows: pd.DataFrame, condition: str, what: str) -> float:
    return float(row(rows, condition=condition, what=what).value)


def _number(rows: pd.DataFrame, condition: str, what: str) -> str:
    value = _value(rows, condition, what)
    return rounded(value, 2).replace("-", MINUS) if math.isfinite(value) else "undefined"


def _modes(rows: pd.DataFrame) -> str:
    """The teacher's two modes, as given."""
    modes = []
    for name in ("teacher-1", "teacher-2"):
        weight = _value(rows, name, "weight") * PERCENT
        mean, deviation = _value(rows, name, "mean"), _value(rows, name, "standard_deviation")
        modes.append(f"{weight:g} % at {mean:g} (sd {deviation:g})".replace("-", MINUS))
    return " and ".join(modes)
