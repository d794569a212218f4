"""Position against uncertainty is decided by intervals alone; what the score is worth is said of
segments that show it."""

from __future__ import annotations

from typing import Any

import pytest
from made_runs import made, row

from decaylab.claims import on_values, one_run
from decaylab.claims.judge import judge
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement


def run(so_far: float, following: float, reach: float = 0.02, **more: Any) -> FoundRun:
    """A run in which position has an AUROC of .2, and uncertainty these differences from it."""
    at = {"view": "all prefixes", "unit": "area under the ROC curve"} | more
    rows = [row("auroc", 0.2, 0.01, "student", category="token position", **at)]
    for signal, value in (
        ("student entropy so far", so_far),
        ("student entropy next", following),
        ("KL so far", 0.4),  # no measure of the student's uncertainty
    ):
        rows.append(row("auroc_minus_position", value, reach, "student", category=signal, **at))
    rows.append(row("auroc_minus_position", 0.4, 0.01, "student", **at | {"view": "same position"}))
    return made("values", rows)


def verdict(found: FoundRun) -> str:
    (one,) = [one for one in judge([found]) if one.claim.name == "position-uncertainty"]
    return one.verdict


@pytest.mark.parametrize(
    ("so_far", "following", "reach", "expected"),
    [
        (-0.2, -0.1, 0.05, "holds"),
        (-0.2, 0.1, 0.05, "undecided"),  # position leads one of them and is led by the other
        (-0.2, -0.1, 0.12, "not testable here"),
        (-0.01, -0.2, 0.02, "not supported"),
        (0.1, 0.1, 0.02, "contradicted"),
    ],
)
def test_position_must_lead_each_measure_of_uncertainty(
    so_far: float, following: float, reach: float, expected: str
) -> None:
    assert verdict(run(so_far, following, reach)) == expected


def test_few_problems_decide_nothing() -> None:
    assert verdict(run(-0.2, -0.1, problems=20)) == "not testable here"


def segments(*values: float, problems: int = 100) -> FoundRun:
    rows: list[Measurement] = []
    for place, value in enumerate(values):
        span = {"position_low": 20.0 * place, "position_high": 20.0 * (place + 1)}
        if place == len(values) - 1:
            span["position_high"] = float("inf")
        rows.append(
            row("score_covariance", value, 0.1, "student", view="open", problems=problems, **span)
        )
    return made("values", rows)


def test_segments_are_named_where_score_and_change_go_together_or_apart() -> None:
    assert on_values.in_line(segments(0.5, 0.0, -0.5)) == (
        "The teacher's score goes with the change of the student's value over tokens 0 to 19 and "
        "against the change of the student's value over tokens from 40 on; elsewhere nothing is "
        "shown."
    )
    assert "In no segment" in on_values.in_line(segments(0.05, -0.05))
    assert "fewer than 30 problems" in on_values.in_line(segments(0.5, 0.5, problems=20))
    assert "In no segment" in " ".join(one_run.verdict(segments(0.0)))
