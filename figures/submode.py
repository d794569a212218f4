"""Sub-mode commitment: what the student's most likely token is to the teacher, where the two
disagree most.

    common set    the same tokens for every model: base student's rollouts, highest reverse KL
                  averaged over the models
    own set       each model's own tokens of the highest reverse KL, on its own rollouts: the
                  paper's way
    two modes     of a set, where the teacher gives its second token a real chance
    change        on the common set, paired with the base student
    verbose       share of a model's responses, where the problems have two styles

Drawing reads rows of the measurements table and computes no statistics. What the rows lack is not
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from decaylab.runs.vocabulary import FRACTION, FRESH, change, select

from . import next_byte, style, words
from .artists import Look
from .colours import looks
from .groups import (
    Panel,
    counts,
    intervals,
    published_sentence,
    published_series,
    series_of,
    sheet_of,
)
from .page import Sheet, drawing

SHARES = {
    "equals_teacher_top1": "top-1 is the\nteacher's",
    "in_teacher_top2to5": "in teacher's\ntop 2 to 5",
    "outside_teacher_top5": "outside its\ntop 5",
    "student_top1_probability": "student's\ntop-1 prob.",
    "two_mode_share": "teacher has\ntwo modes",
}
CHANGES = {change(what): name for what, name in SHARES.items()}
WORDY = {"wordy_share": "verbose"}
COMMON, OWN = "common", "own"
SETS = {COMMON: "Common set", OWN: "Own sets"}
PUBLISHED = "Published: own sets, another pair"
ALONE = "Highest-KL tokens"  # without a checkpoint the common set is base's own
PARTS = {"": "all positions", ", two modes": "two modes"}
CAPTION = """Where student and teacher disagree most: how often the student's most likely token
    (top-1) is the teacher's, among its 2nd to 5th, or outside, and the student's probability of
    it. {counts} per model. Lines: {level} intervals, problem-clustered."""
DETAILS = """Where student and teacher disagree most: how often the student's most likely token
    (top-1) is the teacher's, among the teacher's 2nd to 5th, or outside its 5; the mean probability
    that the student gives it; and how often the teacher has two modes. {sets} {intervals}
    {floor}"""
SET = "({panel.gid}) {panel.title}: {estimands} ({counts})."
CHANGED = """({letters}) Change on the common set, paired by token: only there is it one of the
    student."""
OWN_SETS = "An own set changes with its model."


@next_byte.named
@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.submode`, both of ``measure`` and of
            ``measure_styles``.
        published: rows of `decaylab.paper.publication.submode`, own sets, in a grey panel.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no share of the student's top-1.
    """
    panels = panels_of(measurements, published)
    if not any(panel.groups.keys() & SHARES.keys() for panel in panels):
        raise ValueError("measurements hold no equals_teacher_top1; pass those of submode")
    common = [panel.gid for panel in panels if panel.title.startswith(SETS[COMMON]) or panel.change]
    return sheet_of(panels, title, claim=common)


draw = drawing(sheet)


@next_byte.named
def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    most = counts(measurements, ("problems", "rollouts"))
    return words.filled(CAPTION, select(measurements, unit=FRACTION), counts=most.capitalize())


@next_byte.named
def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, over which tokens, counts, and how the intervals were made."""
    panels = panels_of(measurements, published)
    changed = [panel.gid for panel in panels if panel.change]
    own_sets = any(panel.title.startswith(SETS[OWN]) for panel in panels)
    sets = [_set_text(panel) for panel in panels if not panel.change]
    more = []
    if changed:
        more.append(CHANGED.format(letters=" and ".join(changed)))
    if own_sets:
        more.append(OWN_SETS)
    more.append(published_sentence(published))
    return words.filled(
        DETAILS,
        select(measurements, unit=FRACTION),
        sets=" ".join(sets + more),
        intervals=intervals(measurements),
    )


def _set_text(panel: Panel) -> str:
    """Over which tokens the means of a panel are, and how many."""
    tables = [series.rows for series in panel.series if not series.look.hollow]
    if not tables:
        return ""
    rows = pd.concat(tables)
    estimands = "; ".join(rows.estimand.unique())
    return SET.format(panel=panel, estimands=estimands, counts=counts(rows))


def panels_of(measurements: pd.DataFrame, published: pd.DataFrame | None) -> list[Panel]:
    """The panels that the rows allow, lettered."""
    known = looks(measurements)
    several = len(known) > 1
    common = (measurements.condition == COMMON).any()
    chosen = [COMMON] if common else []
    # of the base student alone both sets are the same tokens
    if several or not common:
        chosen.append(OWN)
    panels = []
    for name in chosen:
        for part, where in PARTS.items():
            title = f"{SETS[name] if several else ALONE}, {where}"
            panel = _panel(_of(measurements, f"{name}{part}"), known, SHARES, title)
            panels.append(panel)
    for part, where in PARTS.items():
        rows = select(measurements, condition=f"{COMMON}{part}")
        panel = _panel(rows, known, CHANGES, f"Change, common set, {where}")
        axis = "change against base (points)"
        panels.append(replace(panel, axis=axis, change=True))
    wordy = _panel(measurements, known, WORDY, "Verbose responses")
    panels.append(replace(wordy, axis="share of the responses (%)"))
    if published is not None:
        theirs = published_series(published.assign(group=published.what))
        groups = {what: SHARES[what] for what in SHARES if (published.what == what).any()}
        panels.append(Panel("", PUBLISHED, "share or probability (%)", groups, theirs))
    panels = [panel for panel in panels if panel.series]
    return [replace(panel, gid=letter) for panel, letter in zip(panels, "abcdefgh")]


def _of(measurements: pd.DataFrame, condition: str) -> pd.DataFrame:
    """The rows of a set of tokens, each model on its own rollouts where there are such."""
    rows = select(measurements, condition=condition)
    fresh = select(rows, view=FRESH)
    return fresh if len(fresh) else rows


def _panel(
    rows: pd.DataFrame, known: Mapping[str, Look], names: Mapping[str, str], title: str
) -> Panel:
    """A panel of the quantities that the rows hold."""
    rows = select(rows, what=list(names))
    groups = {what: name for what, name in names.items() if (rows.what == what).any()}
    series = series_of(rows.assign(group=rows.what), known)
    return Panel("", title, "share or probability (%)", groups, series)
