"""Mode seeking: what a student of one mode becomes beside a teacher of two (Fig. 4 of arXiv
2605.27028, computed).

The teacher shaded, the student of least forward KL across both modes, those of least reverse KL on
one mode each. It is an illustration with the parameters that it names: no model stands behind it.
Drawing reads what was computed.
"""

from __future__ import annotations

import math
from typing import Protocol

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import bins, style
from .curves import PERCENT

FORWARD = "forward-kl"
BEHIND = {
    "facecolor": "white",
    "alpha": 0.8,
    "linewidth": 0,
    "pad": 0.5,
}  # labels: a curve may pass
SEEN = 0.005  # of the highest density; where all curves lie lower the axis ends


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
    bins.refuse_published(published, "the published figure is a sketch without numbers")
    page = width == "page"
    with style.context():
        figure = style.new_figure(width, 2.75 if page else 2.6)
        across, up = figure.get_size_inches()
        axes = style.add_axes(figure, 0.55, 0.72 if page else 0.85, across - 0.12, up - 0.08)
        _axes(axes, result.curves)
        _teacher(axes, result.curves)
        for name in _fits(result.curves):
            _fit(axes, result, name)
        bins.note(figure, _note(result.measurements), None)
    return figure


def caption(result: Computed, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: the parameters, each fit with its divergence, and how it was found.

    Raises:
        ValueError: published rows are given.
    """
    bins.refuse_published(published, "the published figure is a sketch without numbers")
    rows = result.measurements
    fits = [
        f"{_name(name)}: mean {_number(rows, name, 'mean')}, standard deviation "
        f"{_number(rows, name, 'standard_deviation')}, "
        f"{_nats(rows, name)}"
        for name in _fits(result.curves)
    ]
    methods = "; ".join(dict.fromkeys(rows[rows.condition.isin(_fits(result.curves))].method))
    return (
        "A computed illustration of mode seeking; no model was measured. The teacher (shaded) is "
        "a mixture of two "
        f"Gaussians, {_modes(rows)}, the student a single one. Where the forward KL(teacher || "
        "student) is least, the student "
        "spreads over both modes and the gap between them. At a minimum of the reverse KL(student "
        "|| teacher), which "
        "on-policy distillation lowers, it can sit on one of two modes that lie apart, at the "
        "price of about -log of that "
        "mode's weight. "
        f"{'; '.join(fits)}. Nothing is sampled, so there are no intervals ({methods})."
    )


def _axes(axes: Axes, curves: pd.DataFrame) -> None:
    """As far as a density can be seen, with room for labels above the highest."""
    top = float(curves.density.max())
    seen = curves[curves.density > SEEN * top].x
    axes.set_xlim(seen.min(), seen.max())
    axes.set_ylim(0, 1.32 * top)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= top])
    axes.set_xticks([tick for tick in axes.get_xticks() if seen.min() <= tick <= seen.max()])
    axes.set_xlabel("x, a line in place of a vocabulary")
    style.name_y_axis(axes, "density")


def _teacher(axes: Axes, curves: pd.DataFrame) -> None:
    """Shaded; its name at the right edge."""
    rows = curves[curves.curve == "teacher"]
    axes.fill_between(rows.x, rows.density, color=style.TEACHER, alpha=0.2, linewidth=0, zorder=0)
    axes.plot(rows.x, rows.density, color=style.TEACHER, linewidth=0.8, gid="teacher", zorder=1)
    slope = rows[rows.density > 0.5 * rows.density.max()].iloc[-1]
    _label(axes, "teacher", "teacher", slope, style.TEACHER, 1.0)


def _fit(axes: Axes, result: Computed, name: str) -> None:
    """The line of a fit, with its divergence beside it: of a reverse fit over its peak, of the
    forward fit on the left."""
    rows = result.curves[result.curves.curve == name]
    colour = style.WINE if name == FORWARD else style.STUDENT
    axes.plot(rows.x, rows.density, color=colour, linewidth=1.3, gid=name, zorder=2)
    text = f"{_name(name)}\n{_nats(result.measurements, name)}"
    peak = rows.iloc[int(rows.density.to_numpy().argmax())]
    if name == FORWARD:
        slope = rows[rows.density > 0.35 * peak.density].iloc[0]
        _label(axes, name, text, slope, colour, 0.0)
        return
    axes.annotate(
        text,
        (peak.x, peak.density),
        (0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=style.SMALL,
        color=style.darker(colour),
        bbox=BEHIND,
        gid=f"{name}.label",
    )


def _label(axes: Axes, name: str, text: str, point: pd.Series, colour: str, edge: float) -> None:
    """At the left (0) or right (1) edge, half-way up, with a leader to a point of the curve."""
    axes.annotate(
        text,
        (point.x, point.density),
        (0.01 + 0.98 * edge, 0.45),
        textcoords="axes fraction",
        ha="right" if edge else "left",
        va="center",
        fontsize=style.SMALL,
        color=style.darker(colour),
        bbox=BEHIND,
        gid=f"{name}.label",
        arrowprops={
            "arrowstyle": "-",
            "linewidth": 0.5,
            "color": colour,
            "shrinkA": 1,
            "shrinkB": 1,
        },
    )


# Words


def _fits(curves: pd.DataFrame) -> list[str]:
    return [str(name) for name in curves.curve.unique() if name != "teacher"]


def _name(fit: str) -> str:
    return (
        "forward-KL fit" if fit == FORWARD else f"reverse-KL fit {fit.removeprefix('reverse-kl-')}"
    )


def _nats(rows: pd.DataFrame, fit: str) -> str:
    """The divergence that the fit minimises."""
    return f"{_number(rows, fit, 'forward_kl' if fit == FORWARD else 'reverse_kl')} nats"


def _number(rows: pd.DataFrame, condition: str, what: str) -> str:
    (value,) = rows[(rows.condition == condition) & (rows.what == what)].value
    return f"{value:.2f}".replace("-", "\u2212") if math.isfinite(value) else "undefined"


def _note(rows: pd.DataFrame) -> str:
    return (
        f"Computed, no model: a teacher of two Gaussians, {_modes(rows)}, and a student of one. "
        "Forward: KL(teacher || student). Reverse: KL(student || teacher)."
    )


def _modes(rows: pd.DataFrame) -> str:
    """The teacher's two modes, as given."""
    told = []
    for name in ("teacher-1", "teacher-2"):
        weight, mean, deviation = (
            float(rows[(rows.condition == name) & (rows.what == what)].value.iloc[0])
            for what in ("weight", "mean", "standard_deviation")
        )
        told.append(f"{weight * PERCENT:g} % at {mean:g} (sd {deviation:g})".replace("-", "\u2212"))
    return " and ".join(told)
