"""The figures of token truth and of interventions: the artists hold the table's numbers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from decaylab.figures import interventions, token_truth
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import (
    ACCURACY,
    ALREADY_WRONG,
    BEHIND_WRONG,
    CONSISTENCY,
    CONTENT,
    CORRECT_SO_FAR,
    EDIT,
    FRACTION,
    FRESH,
    MEAN_KL,
    NATS,
    REPAIR,
    REPAIRED,
    STUDENT,
    STYLE,
    TEACHER,
    TRUTH,
    against,
    effect,
    gain,
    of_policy,
)


def measurement(what: str, condition: str, value: float, **more: Any) -> Measurement:
    given = {"unit": FRACTION, "low": value - 0.1, "high": value + 0.1, "method": "t", "seed": 0}
    given |= {"problems": 30, "rollouts": 120, "estimand": "mean over places"}
    return Measurement(what=what, condition=condition, value=value, **{**given, **more})


def truth_rows(checkpoints: tuple[str, ...] = ("base",)) -> pd.DataFrame:
    rows = []
    for checkpoint in checkpoints:
        for low, high in ((0.0, math.inf), (0.0, 40.0), (40.0, math.inf)):
            at = {"checkpoint": checkpoint, "view": FRESH}
            at |= {"position_low": low, "position_high": high}
            for what, state in (
                (TRUTH, CORRECT_SO_FAR),
                (CONSISTENCY, ALREADY_WRONG),
                (REPAIR, BEHIND_WRONG),
            ):
                rows += [
                    measurement(of_policy(what, STUDENT), state, 0.6, **at),
                    measurement(of_policy(what, TEACHER), state, 0.8, **at),
                    measurement(gain(what), state, 0.2 + low / 1000, **at),
                ]
    return to_frame(rows)


def intervention_rows() -> pd.DataFrame:
    rows = []
    for place, view in enumerate((STUDENT, TEACHER)):
        for condition, category in (
            (CONTENT, "1 step"),
            (STYLE, "1 step"),
            (REPAIRED, "all steps"),
            (REPAIRED, "step 1"),
        ):
            at = {"view": view, "category": category}
            rows.append(measurement(effect(ACCURACY), condition, 0.1 + place / 10, **at))
        rows.append(measurement(ACCURACY, "correct, student-style", 0.9, view=view, rollouts=77))
        few = {"view": view, "category": "step 7", "problems": 2}
        rows.append(measurement(effect(ACCURACY), REPAIRED, 0.9, **few))
    kl = {"view": STUDENT, "category": "1 step", "unit": NATS}
    rows.append(measurement(effect(MEAN_KL), CONTENT, -0.02, **kl))
    return to_frame(rows)


def edit_rows() -> pd.DataFrame:
    rows = []
    for view in (STUDENT, TEACHER):
        for label, value in (("original", 0.5), ("mended", 0.7)):
            rows.append(measurement(ACCURACY, EDIT, value, view=view, category=label))
        other = {"view": view, "category": "mended"}
        rows.append(measurement(effect(ACCURACY), against("original"), 0.2, **other))
    return to_frame(rows)


def test_masses_of_both_policies_and_their_gains_stand_in_panels_of_their_own() -> None:
    panels = {panel.gid: panel for panel in token_truth.panels_of(truth_rows())}
    assert list(panels) == ["a", "b", "c", "d"]
    masses = {series.name: series.rows.value.tolist() for series in panels["a"].series}
    assert masses == {"base": [0.6] * 3, "teacher.base": [0.8] * 3}
    assert [series.rows.value.tolist() for series in panels["b"].series] == [[0.2] * 3]
    assert list(panels["c"].groups.values()) == ["0\u201339", "40+"]
    assert panels["c"].series[0].rows.value.tolist() == pytest.approx([0.2, 0.24])


def test_a_trained_student_has_a_teacher_behind_its_own_prefixes() -> None:
    panel = token_truth.panels_of(truth_rows(("base", "esr")))[0]
    assert [series.look.name for series in panel.series][2:] == ["teacher", "teacher behind esr"]


def test_effects_are_drawn_for_both_policies_and_places_of_few_problems_are_not() -> None:
    panels = {panel.title: panel for panel in interventions.panels_of(intervention_rows())}
    assert list(panels) == [
        "Made prefixes",
        "A step repaired or broken",
        "KL behind made prefixes",
    ]
    changed = panels["A step repaired or broken"]
    assert list(changed.groups.values()) == ["repaired,\nall steps", "repaired,\nstep 1"]
    assert [series.name for series in changed.series] == [STUDENT, TEACHER]
    divergence = panels["KL behind made prefixes"]
    assert divergence.scale == 1000 and divergence.series[0].rows.value.tolist() == [-0.02]


def test_edits_are_drawn_by_label_and_against_the_reference() -> None:
    panels = interventions.panels_of(edit_rows())
    assert [panel.title for panel in panels] == ["By label", "Difference against original"]
    assert list(panels[0].groups.values()) == ["original", "mended"]


@pytest.mark.parametrize(
    ("module", "rows"),
    [
        (token_truth, truth_rows()),
        (interventions, intervention_rows()),
        (interventions, edit_rows()),
    ],
)
def test_each_figure_is_drawn_with_a_short_caption_and_its_details(
    module: Any, rows: pd.DataFrame
) -> None:
    figure = module.draw(rows)
    assert len(figure.axes) >= 2
    assert 15 < len(module.caption(rows).split()) <= 60
    assert "30 problems" in module.details(rows) and "{" not in module.details(rows)


def test_the_details_of_interventions_count_the_continuations_of_an_arm() -> None:
    assert "77 continuations an arm" in interventions.details(intervention_rows())


@pytest.mark.parametrize("module", [token_truth, interventions])
def test_rows_of_another_command_are_refused(module: Any) -> None:
    other = to_frame([measurement("accuracy", "student", 0.5, checkpoint="base")])
    with pytest.raises(ValueError, match="pass those of"):
        module.draw(other)
