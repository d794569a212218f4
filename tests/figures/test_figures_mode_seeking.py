"""The figure of mode seeking draws the densities that were computed and writes the divergence that
each fit minimises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist, texts
from matplotlib.colors import to_hex

from decaylab.analyses import mode_seeking as analysis
from decaylab.figures import mode_seeking, style

CURVES = ("teacher", "forward-kl", "reverse-kl-1", "reverse-kl-2")


@pytest.fixture(scope="module")
def computed() -> analysis.ModeSeeking:
    return analysis.fit()


def number(result: analysis.ModeSeeking, condition: str, what: str) -> float:
    rows = result.measurements
    return float(rows[(rows.condition == condition) & (rows.what == what)].value.iloc[0])


def text_of(figure: Any, gid: str) -> str:
    found: Any = artist(figure, gid)
    return str(found.get_text())


@pytest.mark.parametrize("width", ["page", "column"])
def test_lines_hold_the_computed_densities(
    computed: analysis.ModeSeeking, width: style.Width
) -> None:
    figure = mode_seeking.draw(computed, width=width)
    for name in CURVES:
        line: Any = artist(figure, name)
        rows = computed.curves[computed.curves.curve == name]
        np.testing.assert_array_equal(line.get_xydata(), rows[["x", "density"]])


def test_labels_name_the_divergence_that_the_fit_minimises_in_nats(
    computed: analysis.ModeSeeking,
) -> None:
    figure = mode_seeking.draw(computed)
    forward, first, second = (
        number(computed, "forward-kl", "forward_kl"),
        number(computed, "reverse-kl-1", "reverse_kl"),
        number(computed, "reverse-kl-2", "reverse_kl"),
    )
    assert text_of(figure, "forward-kl.label") == f"forward-KL fit\n{forward:.2f} nats"
    assert text_of(figure, "reverse-kl-1.label") == f"reverse-KL fit 1\n{first:.2f} nats"
    assert text_of(figure, "reverse-kl-2.label") == f"reverse-KL fit 2\n{second:.2f} nats"
    others = [
        number(computed, "forward-kl", "reverse_kl"),
        number(computed, "reverse-kl-1", "forward_kl"),
    ]
    assert len({round(one, 2) for one in (forward, first, second, *others)}) == 5, (
        "a swap would be seen"
    )


def test_a_reverse_fit_has_its_label_over_its_own_peak(computed: analysis.ModeSeeking) -> None:
    figure = mode_seeking.draw(computed)
    for name in CURVES[2:]:
        label: Any = artist(figure, f"{name}.label")
        assert label.xy[0] == pytest.approx(number(computed, name, "mean"), abs=0.05)


def test_the_teacher_has_its_colour_and_no_line_is_dashed_as_the_published_ones(
    computed: analysis.ModeSeeking,
) -> None:
    figure = mode_seeking.draw(computed)
    lines: list[Any] = [artist(figure, name) for name in CURVES]
    assert to_hex(lines[0].get_color()).upper() == style.TEACHER
    assert {line.get_linestyle() for line in lines} == {"-"}
    assert style.PUBLISHED.lower() not in {to_hex(line.get_color()) for line in lines}


def test_figure_and_caption_say_that_it_is_computed_with_which_parameters_and_how(
    computed: analysis.ModeSeeking,
) -> None:
    teacher = "65 % at \u22122 (sd 0.7) and 35 % at 2 (sd 0.5)"
    for part in (
        "Computed, no model",
        teacher,
        "forward KL(teacher || student)",
        "reverse KL(student || teacher)",
    ):
        assert part in mode_seeking.caption(computed), part
    text = mode_seeking.details(computed)
    for part in (
        "computed illustration",
        "no model was measured",
        teacher,
        "L-BFGS-B from 15 starting points",
        "no intervals",
        "forward-KL fit: mean \u22120.60, standard deviation 2.01, "
        f"{number(computed, 'forward-kl', 'forward_kl'):.2f} nats",
    ):
        assert part in text, part


@pytest.mark.parametrize(
    "settings",
    [
        analysis.Settings(),
        analysis.Settings((0.5, 0.5), (-2.0, 2.0), (0.7, 0.7)),  # three minima
        analysis.Settings((0.6, 0.4), (-0.5, 0.5), (1.0, 1.0)),  # one
        analysis.Settings((0.2, 0.8), (-3.0, 1.0), (0.3, 1.0)),
    ],
)
@pytest.mark.parametrize("width", ["page", "column"])
def test_any_teacher_fits_the_page(settings: analysis.Settings, width: style.Width) -> None:
    result = analysis.fit(settings)
    figure = mode_seeking.draw(result, width=width)
    apart_on_the_page(figure)
    assert texts(figure).count("reverse-KL fit") == result.curves.curve.nunique() - 2


def test_the_same_numbers_give_the_same_bytes(
    computed: analysis.ModeSeeking, tmp_path: Path
) -> None:
    first, again = (
        style.save(mode_seeking.draw(computed), tmp_path / name) for name in ("first", "again")
    )
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]


def test_published_rows_are_refused_since_there_are_none(computed: analysis.ModeSeeking) -> None:
    for call in (mode_seeking.draw, mode_seeking.caption):
        with pytest.raises(ValueError, match="without numbers"):
            call(computed, published=pd.DataFrame())
