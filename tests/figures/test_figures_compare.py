"""The figure of a comparison: its artists hold the table's numbers."""

from __future__ import annotations

import made_decay
import pandas as pd
import pytest
from figure_parts import artist as part
from made_decay import LENGTHS, RULE

from decaylab.analyses.compare import STUDENTS, TEACHERS, Settings, Side, measure
from decaylab.figures import compare
from decaylab.runs import vocabulary
from decaylab.runs.vocabulary import DIFFERENCE, STUDENT_PREFIX

NAMES = ("owner/first-teacher", "owner/second-teacher-with-a-long-name", "third")


def frame(compared: str = TEACHERS, count: int = 3) -> pd.DataFrame:
    tables = [made_decay.rollouts({20: 0.8, 40: 0.6}, seed=seed) for seed in range(count)]
    sides = [Side(name, table) for name, table in zip(NAMES, tables, strict=False)]
    return measure(sides, Settings(LENGTHS, RULE, compared, True))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", ["page", "column"])
def test_curves_hold_the_numbers_of_the_table(width: str) -> None:
    table = frame()
    figure = compare.draw(table, width=width)  # type: ignore[arg-type]
    for name in NAMES:
        rows = vocabulary.select(table, what="accuracy", checkpoint=name, condition=STUDENT_PREFIX)
        line = part(figure, f"a.{name}")
        assert line.get_ydata() == pytest.approx(100 * rows.value.to_numpy())
        assert line.get_xdata() == pytest.approx([0, 20, 40])
    for name in NAMES[1:]:
        rows = vocabulary.select(
            table, what=DIFFERENCE, checkpoint=name, condition=f"against {NAMES[0]}"
        )
        assert part(figure, f"b.{name}").get_ydata() == pytest.approx(100 * rows.value.to_numpy())
        bars = part(figure, f"b.{name}.bars").get_segments()
        assert [bar[0][1] for bar in bars] == pytest.approx(100 * rows.low.to_numpy())
    assert part(figure, "b.reference").get_ydata() == pytest.approx([0, 0])


def test_the_caption_names_the_reference_and_what_the_numbers_stand_on() -> None:
    text = compare.details(frame())
    assert (
        "its difference from owner/first-teacher" in text.lower() and "mean over rollouts" in text
    )
    assert "80 problems" in text and "answer rule last_boxed" in text
    assert len(text.split()) <= 60
    assert "each student's own outcome" in compare.details(frame(STUDENTS))


def test_names_are_cut_to_the_margin_and_stay_apart() -> None:
    assert compare._short("owner/name", ["owner/name", "other"]) == "name"
    assert compare._short("a/name", ["a/name", "b/name"]) == "a/name"
    longest = compare._short(NAMES[1], list(NAMES))
    assert all(len(line) <= compare.MARGIN for line in longest.splitlines())


def test_measurements_without_a_comparison_are_refused() -> None:
    with pytest.raises(ValueError, match="hold no comparison"):
        compare.draw(frame().query("what == 'half_decay_length'"))
