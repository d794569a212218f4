"""What training did to curves by position: the band of positions it saw, the gap it closed, and
bands as outlines.

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import BASE

from . import bins, style
from .artists import Look

CREAM = "#fbf3d5"  # under everything; no policy and no noise floor has it
MOST_GAPS = 2  # students whose gap is shaded; of more the last one's
TINT = 0.78  # white in the colour of a gap; it lies under the noise floor


def trained_lengths(frame: pd.DataFrame) -> dict[str, float]:
    """Of each trained student the rollout length of its training, as far as the table knows:
    infinity for full rollouts."""
    rows = frame[frame.rollout_length.notna() & (frame.checkpoint != BASE)]
    rows = rows.drop_duplicates("checkpoint")
    return dict(zip(rows.checkpoint, rows.rollout_length, strict=True))


def length_text(length: float) -> str:
    return "full rollouts" if math.isinf(length) else f"N = {length:g}"


def draw_trained(axes: Axes, lengths: list[float], panel: str, *, said: bool) -> None:
    """Positions below each N in cream, deeper where more students were trained, a dotted line at N;
    named above the axes.

    said: the N are those of training, not only the one that was given for the measurement.
    """
    right = axes.get_xlim()[1]
    inside = [length for length in sorted(set(lengths)) if 0 < length <= right]
    for length in inside:
        shade = axes.axvspan(0, length, color=CREAM, linewidth=0, zorder=-1)
        shade.set(alpha=1 / len(inside), gid=f"{panel}.trained")
        line = axes.axvline(length, color=style.INK, linestyle=":", zorder=1)
        line.set(linewidth=0.8, gid=f"{panel}.rollout-length")
    if inside:
        names = ", ".join(f"{length:g}" for length in inside)
        text = f"trained below N = {names}" if said else f"below N = {names}"
        where = (0.0, 1.0), (0, 2), "axes fraction", "offset points"
        axes.annotate(text, *where, ha="left", fontsize=style.SMALL)


def draw_gaps(
    axes: Axes, curves: Mapping[str, pd.DataFrame], looks: Mapping[str, Look], panel: str
) -> None:
    """Between the base student's curve and that of a trained student, where that lies below it:
    what training closed.

    The areas cover each other, the first student's on top: what shows of a later one is what it
    closed beyond the others.
    """
    for depth, name in enumerate(closed(looks)):
        # Bins that either of the two lacks have no gap
        both = curves[BASE].merge(curves[name], on="position_low", suffixes=("", "_after"))
        both = both.assign(place=bins.bin_places(both)[2]).dropna(subset=["value", "value_after"])
        before, after = both.value.to_numpy(dtype=float), both.value_after.to_numpy(dtype=float)
        area = axes.fill_between(both.place, after, before, where=after <= before, interpolate=True)
        area.set(color=style.lighter(looks[name].colour, TINT), linewidth=0)
        area.set(gid=f"{panel}.{name}.gap", zorder=0.15 - 0.01 * depth)


def closed(looks: Mapping[str, Look]) -> list[str]:
    """The students whose gap is shaded."""
    if BASE not in looks:
        return []
    trained = [name for name in looks if name != BASE]
    return trained if len(trained) <= MOST_GAPS else trained[-1:]


def outline_band(axes: Axes, rows: pd.DataFrame, look: Look, gid: str, scale: float = 1.0) -> None:
    """The band that holds in all bins at once, as two thin lines: areas are gaps here."""
    rows = rows.assign(place=bins.bin_places(rows)[2]).dropna(subset=["band_low", "band_high"])
    if rows.empty:
        return
    for end in ("low", "high"):
        values = rows[f"band_{end}"] * scale
        (line,) = axes.plot(rows.place, values, color=look.colour, linestyle=(0, (1, 1.2)))
        line.set(linewidth=0.6, alpha=0.9, zorder=0.6, gid=f"{gid}.{end}")
