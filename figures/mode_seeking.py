"""Mode seeking: what a student of one mode becomes beside a teacher of two (Fig. 4 of arXiv
2605.27028, computed).

The teacher shaded, the student of least forward KL across both modes, those of least reverse KL on
one mode each. It is an illustration with the parameters that it names: no model stands behind it.
Drawing reads what was computed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal, Protocol

import pandas as pd
from matplotlib.axes import Axes

from decaylab.printing import rounded
from decaylab.runs.vocabulary import TEACHER, row, select

from . import bins, style, words
from .artists import PERCENT
from .layout import Block
from .page import Part, Sheet, drawing

FORWARD = "forward-kl"
COLOURS = {TEACHER: style.TEACHER, FORWARD: style.WINE}  # all others are the student's
# Labels at the edges: at which share of the curve's peak the leader ends, and on which side
SLOPES: dict[str, tuple[float, Literal["left", "right"]]] = {
    TEACHER: (0.5, "right"),
    FORWARD: (0.35, "left"),
}
BEHIND = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5}  # a curve may pass labels
LEADER = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 1, "shrinkB": 1}
SEEN = 0.005  # of the highest density; where all curves lie lower the axis ends
MINUS = "\u2212"
REFUSAL = "the published figure is a sketch without numbers"
CAPTION = """Computed, no model: a teacher of two Gaussians (shaded), {modes}, and students of one:
    of least forward KL(teacher || student), and of least reverse KL(student || teacher)."""
DETAILS = """A computed illustration of mode seeking; no model was measured. The teacher (shaded) is
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


@style.context()
def sheet(result: Computed, *, published: pd.DataFrame | None = None) -> Sheet:
    """The figure's one panel.

    Args:
        result: of `decaylab.analyses.mode_seeking.fit`.
        published: None; the published sketch has no numbers.

    Raises:
        ValueError: published rows are given.
    """
    bins.refuse_published(published, REFUSAL)
    block = Block([["densities"]], [1.8])
    part = Part(
        "Fits of one mode to a teacher of two",
        block,
        lambda axes: _densities(axes["densities"], result),
    )
    return Sheet({"a": part}, [replace(block, heights=[2.0])])


draw = drawing(sheet)


def _densities(axes: Axes, result: Computed) -> None:
    _axes(axes, result.curves)
    teacher = select(result.curves, curve=TEACHER)
    shade: dict[str, Any] = {"color": COLOURS[TEACHER], "alpha": 0.2, "linewidth": 0, "zorder": 0}
    axes.fill_between(teacher.x, teacher.density, **shade)
    _curve(axes, teacher, TEACHER, TEACHER)
    for name in _fits(result.curves):
        text = f"{_name(name)}\n{_nats(result.measurements, name)}"
        _curve(axes, select(result.curves, curve=name), name, text)


def caption(result: Computed, published: pd.DataFrame | None = None) -> str:
    """What is shown, in at most 60 words.

    Raises:
        ValueError: published rows are given.
    """
    bins.refuse_published(published, REFUSAL)
    return words.filled(CAPTION, modes=_modes(result.measurements))


def details(result: Computed, published: pd.DataFrame | None = None) -> str:
    """The parameters, each fit with its divergence, and how it was found."""
    bins.refuse_published(published, REFUSAL)
    rows, names = result.measurements, _fits(result.curves)
    fits = []
    for name in names:
        mean, deviation = (_number(rows, name, what) for what in ("mean", "standard_deviation"))
        fits.append(
            f"{_name(name)}: mean {mean}, standard deviation {deviation}, {_nats(rows, name)}"
        )
    methods = "; ".join(select(rows, condition=names).method.unique())
    return words.filled(DETAILS, modes=_modes(rows), fits="; ".join(fits), methods=methods)


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


def _curve(axes: Axes, rows: pd.DataFrame, name: str, text: str) -> None:
    """A density, named over its peak; or at the left or right edge, half-way up, with a leader to
    a point of the curve."""
    colour, width = COLOURS.get(name, style.STUDENT), 0.8 if name == TEACHER else 1.3
    axes.plot(rows.x, rows.density, color=colour, linewidth=width, gid=name, zorder=2)
    share, side = SLOPES.get(name, (1.0, "center"))
    high = rows[rows.density >= share * rows.density.max()]
    point = high.iloc[-1 if side == "right" else 0]
    place: dict[str, Any] = {"xytext": (0, 3), "textcoords": "offset points", "va": "bottom"}
    if side != "center":
        place = {
            "xytext": (0.99 if side == "right" else 0.01, 0.45),
            "textcoords": "axes fraction",
            "va": "center",
            "arrowprops": LEADER | {"color": colour},
        }
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
