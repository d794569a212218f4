"""The figure of a hand-back: its artists hold the table's numbers."""

from __future__ import annotations

from functools import cache

import markov
import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist

from decaylab.analyses.hand_back import Settings, measure
from decaylab.figures import hand_back
from decaylab.rollouts.collect import DecayPlan
from decaylab.rollouts.sampling import SamplingSettings
from decaylab.runs import vocabulary

LENGTHS, COUNTS = (0, 2, 4, 8), (1, 4)


@cache
def frame(problems: int = 120) -> pd.DataFrame:
    sampling = SamplingSettings(1.0, seed=2)
    plan = DecayPlan(LENGTHS, 2, 16, (), sampling, 10**6, hand_back=COUNTS)
    rollouts = markov.rollouts(markov.decaying_world(), plan, problems)
    return measure(rollouts, Settings(LENGTHS, markov.RULE, COUNTS))


def of(what: str, condition: str, category: str) -> pd.DataFrame:
    return vocabulary.rows(frame(), what=what, condition=condition, category=category)


@pytest.mark.parametrize("width", ["page", "column"])
def test_curves_hold_the_numbers_of_the_table(width: str) -> None:
    figure = hand_back.draw(frame(), width=width)  # type: ignore[arg-type]
    drawn = {
        "a.finishes": ("continuation_gain", "student-prefix", ""),
        "c.afresh": ("corrective_gain", "hand-back-control", "teacher tokens: 0"),
        "c.again": (
            "corrective_gain_minus_continuation",
            "hand-back-control",
            "teacher tokens: to the end",
        ),
    }
    for count in COUNTS:
        name = f"teacher tokens: {count}"
        drawn |= {f"a.{count}": ("corrective_gain", "hand-back", name)}
        drawn |= {f"b.{count}": ("usable_share", "hand-back", name)}
    for gid, place in drawn.items():
        rows = of(*place).dropna(subset="value")
        line = artist(figure, gid)
        assert line.get_ydata() == pytest.approx(100 * rows.value.to_numpy())
        assert line.get_xdata() == pytest.approx(rows.prefix_tokens.to_numpy())
        low, high = artist(figure, gid).axes.get_ylim()
        bars = artist(figure, f"{gid}.bars").get_segments()
        expected = np.clip(100 * rows.low.to_numpy(), low, high)
        assert [bar[0][1] for bar in bars] == pytest.approx(expected)
    apart_on_the_page(figure)


def test_panels_stand_alone_and_texts_stay_apart() -> None:
    for figure in hand_back.sheet(frame()).panels().values():
        assert figure.get_figheight() <= 3.0 + 1e-9
        apart_on_the_page(figure)


@pytest.mark.parametrize("shape", ["undefined", "one problem", "unbounded"])
def test_hostile_shapes_are_drawn(shape: str) -> None:
    rows = frame().copy()
    numbers = ["value", "low", "high", "band_low", "band_high"]
    if shape == "undefined":
        rows[numbers] = np.nan
    if shape == "one problem":
        rows[numbers[1:]] = np.nan
    if shape == "unbounded":
        shares = rows.what == "usable_share"
        rows.loc[shares, ["low", "high"]] = [-np.inf, np.inf]
    figure = hand_back.draw(rows)
    apart_on_the_page(figure)
    for axes in figure.axes:
        assert np.isfinite(axes.get_ylim()).all()


def test_the_caption_is_short_and_names_the_numbers_of_tokens() -> None:
    text = hand_back.caption(frame())
    assert "What 1 or 4 teacher tokens" in text and "120 problems" in text
    assert len(text.split()) <= 60
    assert "Fieller's interval over problems" in hand_back.details(frame())


def test_a_run_without_a_hand_back_is_refused() -> None:
    with pytest.raises(ValueError, match="hold no hand-back"):
        hand_back.sheet(frame()[lambda rows: rows.condition == "student-prefix"])
