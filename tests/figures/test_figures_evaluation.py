"""The figure of an evaluation, from stored tables alone: its artists hold their numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist, texts
from made_outcomes import at_random, outcomes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from decaylab.analyses.evaluation import Settings, measure
from decaylab.figures import evaluation, style
from decaylab.runs import measurements as table

RULES = ("last_boxed", "anywhere")
ONE_RUN = {
    "base": 0.0,
    "step-000050": 50.0,
    "step-000100": 100.0,
    "step-000200": 200.0,
    "teacher": math.nan,
}
TWO_RUNS = {
    "base": 0.0,
    "esr/step-000050": 50.0,
    "esr/step-000100": 100.0,
    "full/step-000050": 50.0,
    "full/step-000100": 100.0,
    "teacher": math.nan,
}
CHOSEN = {"last": ("step-000200",), "best": ("step-000100",)}


def stored(
    folder: Path,
    steps: Mapping[str, float],
    samples: int = 4,
    rules: tuple[str, ...] = RULES,
    **settings: Any,
) -> pd.DataFrame:
    """Measurements of these models, written and read back."""
    models = {name: at_random(seed, samples=samples) for seed, name in enumerate(steps)}
    table.write(
        measure(outcomes(models, steps), Settings(rules, **settings)),
        folder / "measurements.parquet",
    )
    return table.read(folder / "measurements.parquet")


def rows(frame: pd.DataFrame, what: str, *names: str, rule: str = "last_boxed") -> pd.DataFrame:
    """Picked without the figure's own helper, in the order of the names."""
    own = frame.query(f"what == '{what}' and condition == '{rule}'")
    return own[own["view"] == "fresh"].set_index("checkpoint").loc[list(names)]


def holds(figure: Figure, gid: str, found: pd.DataFrame, x: str = "step") -> None:
    """Line and interval bars of a curve are the table's."""
    line = artist(figure, gid)
    np.testing.assert_allclose(line.get_xdata(), found[x])
    np.testing.assert_allclose(line.get_ydata(), found.value * 100)
    ends = [segment[:, 1] for segment in artist(figure, f"{gid}.bars").get_segments()]
    np.testing.assert_allclose(ends, found[["low", "high"]] * 100)


def test_checkpoints_stand_at_their_steps_with_the_tables_numbers(tmp_path: Path) -> None:
    frame = stored(tmp_path, ONE_RUN, chosen=CHOSEN)
    figure = evaluation.draw(frame)
    names = ["step-000050", "step-000100", "step-000200"]
    for panel, what in (("a", "avg_at_4"), ("b", "maj_at_4")):
        holds(figure, f"{panel}.trained", rows(frame, what, *names))


def test_base_and_teacher_are_lines_across_with_their_intervals(tmp_path: Path) -> None:
    frame = stored(tmp_path, ONE_RUN)
    figure = evaluation.draw(frame)
    for panel, what in (("a", "avg_at_4"), ("b", "maj_at_4")):
        for name, colour in (("base", style.STUDENT), ("teacher", style.TEACHER)):
            row = rows(frame, what, name).iloc[0]
            line, band = artist(figure, f"{panel}.{name}"), artist(figure, f"{panel}.{name}.band")
            assert set(line.get_ydata()) == {row.value * 100}
            assert to_hex(line.get_color()).upper() == colour
            box = band.get_bbox()
            assert (box.y0, box.y1) == pytest.approx((row.low * 100, row.high * 100))


def test_what_each_checkpoint_rule_takes_is_ringed_and_the_rings_are_named(tmp_path: Path) -> None:
    frame = stored(tmp_path, ONE_RUN, chosen=CHOSEN)
    figure = evaluation.draw(frame)
    for view, (name,) in CHOSEN.items():
        for panel, what in (("a", "avg_at_4"), ("b", "maj_at_4")):
            ring, row = artist(figure, f"{panel}.trained.{view}"), rows(frame, what, name).iloc[0]
            assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (row.step, row.value * 100)
    for said in ("Square: the last checkpoint.", "Ring: the best on validation."):
        assert said in evaluation.caption(frame) and said in evaluation.details(frame)
    without = stored(tmp_path, ONE_RUN, chosen={"last": ("step-000200",)})
    assert "validation" not in evaluation.caption(without) + evaluation.details(without)
    assert artist(evaluation.draw(without), "a.trained.best") is None


def test_pass_at_k_is_that_of_the_last_checkpoint_beside_base_and_teacher(tmp_path: Path) -> None:
    frame = stored(tmp_path, ONE_RUN)
    figure = evaluation.draw(frame)
    for name in ("base", "step-000200", "teacher"):
        found = pd.concat([rows(frame, f"pass_at_{k}", name) for k in (1, 2, 4)]).assign(
            doubled=[0, 1, 2]
        )
        holds(figure, f"c.{name}", found, "doubled")
    assert artist(figure, "c.step-000100") is None
    panel = artist(figure, "c.base").axes
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["1", "2", "4"]


def test_runs_are_curves_of_their_own_and_a_full_rollout_has_its_colour(tmp_path: Path) -> None:
    training = {f"full/step-{step:06}": {"selector": "full"} for step in (50, 100)}
    frame = stored(
        tmp_path,
        TWO_RUNS,
        training=training,
        chosen={"last": ("esr/step-000100", "full/step-000100")},
    )
    figure = evaluation.draw(frame)
    for run, colour in (("esr", style.ESR), ("full", style.FULL_ROLLOUT)):
        holds(
            figure, f"a.{run}", rows(frame, "avg_at_4", f"{run}/step-000050", f"{run}/step-000100")
        )
        line = artist(figure, f"a.{run}")
        assert to_hex(line.get_color()).upper() == colour and run in texts(figure)
        assert artist(figure, f"a.{run}.last").get_xdata().tolist() == [100]
        assert artist(figure, f"c.{run}/step-000100") is not None
    assert "esr at step 100, full at step 100 and the teacher" in evaluation.details(frame)


def test_the_reported_rule_is_the_one_drawn(tmp_path: Path) -> None:
    """Of a rule without a majority panel b is left out."""
    frame = stored(tmp_path, ONE_RUN, rules=("anywhere", "last_boxed"))
    figure = evaluation.draw(frame)
    holds(
        figure,
        "a.trained",
        rows(frame, "avg_at_4", "step-000050", "step-000100", "step-000200", rule="anywhere"),
    )
    assert artist(figure, "b.trained") is None and "maj@4" not in evaluation.details(frame)
    for text in (evaluation.details(frame), evaluation.caption(frame)):
        assert "answer rule anywhere" in text


@pytest.mark.parametrize(
    "steps",
    [{"base": 0.0, "mine": math.nan, "teacher": math.nan}, {"base": 0.0, "teacher": math.nan}],
)
def test_without_steps_there_are_dots(steps: dict[str, float], tmp_path: Path) -> None:
    frame = stored(tmp_path, steps)
    figure = evaluation.draw(frame)
    for name in steps:
        expected = [
            rows(frame, what, name).value.iloc[0]
            for what in ("avg_at_4", "maj_at_4", "pass_at_2", "pass_at_4")
        ]
        np.testing.assert_allclose(
            artist(figure, f"a.{name}").get_xdata(), np.array(expected) * 100
        )
        expected = [rows(frame, "avg_at_4", name, rule=rule).value.iloc[0] for rule in RULES]
        np.testing.assert_allclose(
            artist(figure, f"b.{name}").get_xdata(), np.array(expected) * 100
        )
    assert "under every answer rule" in evaluation.details(frame)


def test_caption_holds_counts_level_and_rule(tmp_path: Path) -> None:
    text = evaluation.details(stored(tmp_path, ONE_RUN, level=0.9))
    for part in (
        "25 problems",
        "100 rollouts",
        "answer rule last_boxed",
        "90 %",
        "clustered Wilson",
        "seed 0",
    ):
        assert part in text, part


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize(
    ("steps", "samples"),
    [
        (ONE_RUN, 4),
        (ONE_RUN, 1),
        (TWO_RUNS, 2),
        ({"base": 0.0, "a/b": math.nan, "teacher": math.nan}, 4),
    ],
)
def test_all_of_it_fits_the_page(
    steps: dict[str, float], samples: int, width: style.Width, tmp_path: Path
) -> None:
    frame = stored(tmp_path, steps, samples)
    apart_on_the_page(evaluation.draw(frame, width=width, title="student with teacher"))


def test_a_run_of_many_checkpoints_or_one_fits_too(tmp_path: Path) -> None:
    many = {
        "base": 0.0,
        **{f"step-{step:06}": float(step) for step in range(50, 1050, 50)},
        "teacher": math.nan,
    }
    for steps in (many, {"base": 0.0, "step-000010": 10.0, "teacher": math.nan}):
        apart_on_the_page(evaluation.draw(stored(tmp_path, steps), width="column"))


def test_measurements_of_something_else_are_refused(tmp_path: Path) -> None:
    frame = stored(tmp_path, ONE_RUN)
    with pytest.raises(ValueError, match="no avg_at_k"):
        evaluation.draw(frame[frame.what == "maj_at_4"])
