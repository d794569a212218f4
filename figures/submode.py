"""Sub-mode commitment: what the student's most likely token is to the teacher, where the two
disagree most.

    common set      the same tokens for every model: base student's rollouts, highest reverse KL
    averaged over the models own set         each model's own tokens of the highest reverse KL, on
    its own rollouts: the paper's way two modes       of a set, where the teacher gives its second
    token a real chance change          on the common set, paired with the base student wordy share
    of a model's responses, where the problems have a wordy and a terse style

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from . import style
from .bins import floor_text
from .colours import looks
from .curves import Look
from .groups import (
    Panel,
    Series,
    counts,
    draw_panels,
    intervals,
    published_sentence,
    published_series,
    series_of,
)

SHARES = {
    "equals_teacher_top1": "top-1 is the\nteacher's",
    "in_teacher_top2to5": "in teacher's\ntop 2 to 5",
    "outside_teacher_top5": "outside its\ntop 5",
    "student_top1_probability": "student's\ntop-1 prob.",
    "two_mode_share": "teacher has\ntwo modes",
}
SETS = {"common": "Common set", "own": "Own sets"}
ALONE = "Highest-KL tokens"  # without a checkpoint the common set is base's own
PARTS = {"": "all positions", ", two modes": "two modes"}


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
    title: str = "",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.submode`, both of ``measure`` and of
        ``measure_styles``.
        published: rows of `decaylab.paper.publication.submode`, drawn grey and hollow among the own
        sets.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in, two beside each
        other).
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no share of the student's top-1.
    """
    panels = panels_of(measurements, published)
    if not any(panel.groups.keys() & SHARES.keys() for panel in panels):
        raise ValueError("measurements hold no equals_teacher_top1; pass those of submode")
    return draw_panels(panels, measurements, width, title)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, over which tokens, counts, and how the intervals
    were made."""
    panels = panels_of(measurements, published)
    text = [
        "Where student and teacher disagree most: how often the student's most likely token "
        "(top-1) is the teacher's, "
        "among the teacher's 2nd to 5th, or outside its 5; the mean probability that the student "
        "gives it; and how often "
        "the teacher has two modes."
    ]
    for panel in panels:
        rows = pd.concat(
            [one.rows for one in panel.series if not one.hollow] or [measurements.iloc[:0]]
        )
        if len(rows) and not panel.change:
            text.append(
                f"({panel.gid}) {panel.title}: {'; '.join(dict.fromkeys(rows.estimand))} "
                f"({counts(rows)})."
            )
    if any(panel.change for panel in panels):
        letters = " and ".join(panel.gid for panel in panels if panel.change)
        text.append(
            f"({letters}) Change on the common set, paired by token: only there is it one of the "
            "student."
        )
    if any(panel.title.startswith(SETS["own"]) for panel in panels):
        text.append("An own set changes with its model.")
    if published is not None:
        text.append(published_sentence(published))
    return " ".join(
        [*text, intervals(measurements), floor_text(measurements[measurements.unit == "fraction"])]
    )


def panels_of(measurements: pd.DataFrame, published: pd.DataFrame | None) -> list[Panel]:
    """The panels that the rows allow, lettered."""
    known = looks(measurements)
    behind = (
        published_series(published.assign(group=published.what)) if published is not None else []
    )
    chosen = ["common"] if len(measurements[measurements.condition == "common"]) else []
    if not chosen or len(known) > 1:
        chosen.append("own")
    panels = []
    for name in chosen:
        for part, where in PARTS.items():
            one = _levels(
                measurements,
                known,
                f"{name}{part}",
                behind if chosen[-1] == name and not part else [],
            )
            panels.append(replace(one, title=f"{SETS[name] if len(known) > 1 else ALONE}, {where}"))
    panels += [_changes(measurements, known, part, where) for part, where in PARTS.items()]
    panels = [panel for panel in [*panels, _wordy(measurements, known)] if panel.series]
    return [replace(panel, gid=letter) for panel, letter in zip(panels, "abcdefg", strict=False)]


def _levels(
    measurements: pd.DataFrame,
    known: Mapping[str, Look],
    condition: str,
    behind: Sequence[Series] = (),
) -> Panel:
    rows = measurements[(measurements.condition == condition) & measurements.what.isin(SHARES)]
    if "fresh" in set(rows["view"]):
        rows = rows[rows["view"] == "fresh"]
    series = series_of(rows.assign(group=rows.what), known)
    groups = {what: name for what, name in SHARES.items() if what in set(rows.what)}
    return Panel("", "", "share or probability (%)", groups, [*series, *behind])


def _changes(measurements: pd.DataFrame, known: Mapping[str, Look], part: str, where: str) -> Panel:
    rows = measurements[
        (measurements.condition == f"common{part}") & measurements.what.str.endswith("_change")
    ]
    rows = rows.assign(group=rows.what.str.removesuffix("_change"))
    groups = {what: name for what, name in SHARES.items() if what in set(rows.group)}
    series = series_of(rows, known)
    title = f"Change, common set, {where}"
    return Panel(
        "", title, "change against base (points)", groups, series, numbers="+.1f", change=True
    )


def _wordy(measurements: pd.DataFrame, known: Mapping[str, Look]) -> Panel:
    rows = measurements[measurements.what == "wordy_share"]
    series = series_of(rows.assign(group=rows.what), known)
    return Panel(
        "", "Wordy responses", "share of the responses (%)", {"wordy_share": "wordy"}, series
    )
