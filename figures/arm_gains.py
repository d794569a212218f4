"""Arms of sweeps: what training gave each, and what was measured at the tokens that it trains on.

    a    accuracy of the trained student minus that of the untrained one
    b    what one token of the teacher's is worth to the untrained student there
    c    the teacher's mass on correct tokens minus the student's, where results begin
    d    share of the reverse KL

Arms stand in the same order in every panel, the one that gained most from training first. Drawing
reads rows of the measurements table and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from decaylab.runs.vocabulary import (
    MASKED_KL_SHARE,
    MASKED_TRUTH_GAIN,
    ONE_TOKEN_GAIN,
    TRAINING_GAIN,
    select,
)

from . import style, words
from .artists import Look
from .groups import Panel, Series, counts, intervals, sheet_of
from .page import Sheet, drawing

POINTS = "difference (points)"
PANELS = {
    TRAINING_GAIN: ("What training gave", "accuracy, trained less untrained (points)"),
    ONE_TOKEN_GAIN: ("One teacher token, where the arm trains", POINTS),
    MASKED_TRUTH_GAIN: ("Mass on correct tokens, teacher less student", POINTS),
    MASKED_KL_SHARE: ("Share of the reverse KL", "share (%)"),
}
LOOK = Look("arm", style.STUDENT, "o")
LONGEST = 18  # characters of a name in one line
CAPTION = """What training gave each arm, and what was measured before it at the tokens that the arm
    trains on: the gain of one teacher token, the gain of mass on correct tokens, the share of the
    KL. Arms in the order of (a). Lines: {level} intervals."""
DETAILS = """(a) Accuracy of the trained student minus that of the untrained one, as the sweep
    measured it, with its own interval. (b) At tokens drawn from those that the arm trains on:
    accuracy of the student that finishes behind one token of the teacher's, minus that of the
    student without it, both afresh. Other panels: teacher's mass on correct tokens minus the
    student's where a step's result begins and the arm trains; share of the reverse KL on its
    tokens. At most {counts} an arm. {intervals}"""


@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.arm_gains.measure`.
        published: nobody has published such numbers; None.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no arm.
    """
    panels = panels_of(measurements)
    if not panels:
        raise ValueError(f"measurements hold no {ONE_TOKEN_GAIN}; pass those of arm-gains")
    return sheet_of(panels, title, claim=["a", "b"])


draw = drawing(sheet)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, and the intervals, in at most 60 words."""
    return words.filled(CAPTION, measurements)


def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, counts, and how the intervals were made."""
    drawn = select(measurements, what=ONE_TOKEN_GAIN)
    number = counts(drawn, ("problems", "tokens"))
    return words.filled(DETAILS, counts=number, intervals=intervals(drawn))


def panels_of(measurements: pd.DataFrame) -> list[Panel]:
    """A panel for each quantity that has a value, lettered."""
    if select(measurements, what=ONE_TOKEN_GAIN).empty:
        return []
    trained = select(measurements, what=TRAINING_GAIN)
    names = trained.sort_values("value", ascending=False, kind="stable")["checkpoint"]
    groups = {str(name): _broken(str(name)) for name in names}
    panels = []
    for what, (title, axis) in PANELS.items():
        rows = select(measurements, what=what).set_index("checkpoint", drop=False)
        if rows.value.notna().any():
            series = [Series("arm", LOOK, rows)]
            change = what != MASKED_KL_SHARE
            panels.append(Panel("", title, axis, groups, series, change=change))
    return [replace(panel, gid=letter) for panel, letter in zip(panels, "abcd")]


def _broken(name: str) -> str:
    """The name of an arm, over two lines where it is long."""
    if len(name) <= LONGEST:
        return name
    at = name.find("-", len(name) // 2)
    return f"{name[: at + 1]}\n{name[at + 1 :]}" if at > 0 else name
