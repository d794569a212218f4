"""Curves of reverse KL by position before and after training: the levels of every student, or their
changes from the base student.

Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.axes import Axes

from decaylab.runs.vocabulary import ALL, BASE, SURVIVORS, select

from . import artists, bins, style
from .artists import PERCENT, Look
from .cascade import WHAT as CASCADE
from .curves import shifts
from .layout import Block
from .page import Part
from .running_text import in_lines
from .trained_positions import FIRST, LINE, draw_given, draw_trained, drawn_lengths

PLAIN, PLAIN_CHANGE = "reverse_kl", "reverse_kl_relative_change"
LEVEL, CHANGE = bins.robust(PLAIN), bins.robust(PLAIN_CHANGE)
MOST_LABELLED = 4  # curves named at their ends; of more there is a key above the panels
LABEL = 16  # characters a line of those names


@dataclass(frozen=True)
class Panel:
    """Levels of each student, or their changes in per cent.

    frame: the rows of both views, which share their axes; of_view: those drawn here. known: how
    each student is drawn and named; lengths: of its training rollouts.
    """

    frame: pd.DataFrame
    of_view: pd.DataFrame
    letter: str
    plain: str
    known: Mapping[str, Look]
    lengths: Mapping[str, float]

    @property
    def change(self) -> bool:
        return self.plain == PLAIN_CHANGE

    def part(self, title: str, block: Block) -> Part:
        crowded = len(self.known) > MOST_LABELLED
        lines = len(drawn_lengths(self.lengths))
        pad = FIRST + LINE * (lines - 1) + style.SMALL if lines else 12.0

        def draw(axes: dict[str, Axes]) -> None:
            labels = self._draw(axes[self.letter])
            if not crowded:
                style.label_ends(axes[self.letter], labels)

        key = bins.handles(self.known) if crowded else []
        return Part(title, block, draw, key, pad=pad)

    def _draw(self, axes: Axes) -> list[style.EndLabel]:
        """Draws the curves; their labels."""
        # the base student has not changed against itself
        known = {name: look for name, look in self.known.items() if not self.change or name != BASE}
        robust, scale = bins.robust(self.plain), PERCENT if self.change else 1.0
        curves = self._curves(robust, known)
        self._axes(axes, curves, scale)
        for name in banded(known):
            rows, gid = curves[name], f"{self.letter}.{name}.band"
            artists.band(axes, bins.bin_places(rows)[2], rows, known[name].colour, gid, scale)
        plain, aside = self._curves(self.plain, known), shifts(len(curves), artists.MARKER)
        labels = []
        for shift, (name, rows) in zip(aside, curves.items(), strict=True):
            look, gid = known[name], f"{self.letter}.{name}"
            drawn = bins.draw_bins(axes, rows, look, gid, shift, scale)
            bins.draw_plain(axes, plain[name], look, gid, shift, scale)
            text = in_lines(look.name, LABEL)
            labels += [replace(label, text=text) for label in drawn]
        return labels

    def _axes(self, axes: Axes, curves: Mapping[str, pd.DataFrame], scale: float) -> None:
        """The axes, the noise floor, and which positions training saw."""
        bins.position_axis(axes, select(self.frame, what=LEVEL, condition=ALL))
        every = select(self.frame, what=[bins.robust(self.plain), self.plain], condition=ALL)
        bins.value_axis(axes, [every], scale, change=self.change)
        floor = f"{self.letter}.floor"
        bins.draw_floor(axes, curves.values(), floor, scale, change=self.change)
        style.name_y_axis(axes, "geometric mean (%)" if self.change else "reverse KL (nats)")
        if self.change:
            axes.axhline(0.0, color=style.INK, linewidth=0.6, zorder=0)
        else:
            draw_survivors(
                axes, self._curves(LEVEL, self.known, SURVIVORS), self.known, self.letter
            )
        draw_trained(axes, self.lengths, self.known, self.letter)
        for given in (
            []
            if self.lengths
            else select(self.frame, what=CASCADE, condition=ALL).position_low.head(1)
        ):
            draw_given(axes, given, self.letter)

    def _curves(
        self, what: str, known: Iterable[str], condition: str = ALL
    ) -> dict[str, pd.DataFrame]:
        """The rows of a quantity by student, by position; those of some may be empty."""
        rows = select(self.of_view, what=what, condition=condition)
        rows = rows.sort_values(["position_low", "position_high"])
        by_name = {str(name): some for name, some in rows.groupby("checkpoint", sort=False)}
        return {name: by_name.get(name, rows[:0]) for name in known}


def banded(known: Mapping[str, Look]) -> list[str]:
    """Whose bands are shaded: the base student's and the last checkpoint's; those of many would
    cover each other."""
    return [name for name in dict.fromkeys([BASE, list(known)[-1]]) if name in known]


def draw_survivors(
    axes: Axes, curves: Mapping[str, pd.DataFrame], known: Mapping[str, Look], panel: str
) -> None:
    """Dashed beside each level: the same over the rollouts of a least length alone, where that was
    measured."""
    for name, rows in curves.items():
        rows = rows.dropna(subset="value")
        dashed = replace(known[name], marker="", line="--")
        place, gid = bins.bin_places(rows)[2], f"{panel}.{name}.survivors"
        artists.points(axes, place, rows.value, dashed, gid, joined=True, linewidth=0.9, zorder=2)
