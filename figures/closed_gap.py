"""What training did to curves by position: the band of positions it saw, the gap it closed, and
bands as outlines.

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from . import bins, style
from .artists import Look

CREAM = "#fbf3d5"  # under everything; no policy and no noise floor has it
MOST_GAPS = 2  # students whose gap is shaded; of more the last one's
TINT = 0.78  # white in the colour of a gap; it lies under the noise floor


def trained_lengths(frame: pd.DataFrame) -> dict[str, float]:
    """Of each trained student the rollout length of its training, as far as the table knows:
    infinity for full rollouts."""
    known = frame[frame.rollout_length.notna() & (frame.checkpoint != "base")]
    return {
        str(name): float(rows.rollout_length.iloc[0])
        for name, rows in known.groupby("checkpoint", sort=False)
    }


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
        axes.axvspan(
            0,
            length,
            color=CREAM,
            linewidth=0,
            zorder=-1,
            alpha=1 / len(inside),
            gid=f"{panel}.trained",
        )
        axes.axvline(
            length,
            color=style.INK,
            linewidth=0.8,
            linestyle=":",
            gid=f"{panel}.rollout-length",
            zorder=1,
        )
    if inside:
        text = ("trained below N = " if said else "below N = ") + ", ".join(
            f"{length:g}" for length in inside
        )
        where = (0.0, 1.0), (0, 2), "axes fraction", "offset points"
        axes.annotate(text, *where, ha="left", fontsize=style.SMALL)


def draw_gaps(
    axes: Axes, curves: Mapping[str, pd.DataFrame], found: Mapping[str, Look], panel: str
) -> None:
    """Between the base student's curve and that of a trained student, where that lies below it:
    what training closed.

    The areas cover each other, the first student's on top: what shows of a later one is what it
    closed beyond the others.
    """
    for depth, name in enumerate(closed(found)):
        before, after = (curves[one].set_index("position_low") for one in ("base", name))
        shared = before.index.intersection(after.index)
        rows = before.loc[shared].reset_index()
        old, new = (side.loc[shared].value.to_numpy(dtype=float) for side in (before, after))
        known = np.isfinite(old) & np.isfinite(new)
        places = bins.bin_places(rows)[2]
        axes.fill_between(
            places[known],
            new[known],
            old[known],
            where=(new <= old)[known],
            interpolate=True,
            linewidth=0,
            color=style.lighter(found[name].colour, TINT),
            gid=f"{panel}.{name}.gap",
            zorder=0.15 - 0.01 * depth,
        )


def closed(found: Mapping[str, Look]) -> list[str]:
    """The students whose gap is shaded."""
    trained = [name for name in found if name != "base"]
    if "base" not in found:
        return []
    return trained if len(trained) <= MOST_GAPS else trained[-1:]


def outline_band(axes: Axes, rows: pd.DataFrame, look: Look, gid: str, scale: float = 1.0) -> None:
    """The band that holds in all bins at once, as two thin lines: areas are gaps here."""
    known = (rows.band_low.notna() & rows.band_high.notna()).to_numpy()
    for end in ("low", "high") if known.any() else ():
        values = rows.loc[known, f"band_{end}"].to_numpy(dtype=float) * scale
        axes.plot(
            bins.bin_places(rows)[2][known],
            values,
            color=look.colour,
            linewidth=0.6,
            linestyle=(0, (1, 1.2)),
            alpha=0.9,
            gid=f"{gid}.{end}",
            zorder=0.6,
        )
