"""The figure of values along rollouts, from tables alone: its artists hold their numbers."""

from __future__ import annotations

import markov
import numpy as np
import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import artist, texts
from markov_values import ValueLaw, sampled

from decaylab.analyses import value_signals
from decaylab.analyses import values as analysis
from decaylab.figures import style, values
from decaylab.runs.value_prefixes import SIGNALS, Settings
from decaylab.runs.vocabulary import COMPARISONS, select

GRID = (0, 2, 4)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    law = ValueLaw(markov.decaying_world(), 12, GRID)
    found = sampled(law, 40, 2, 8, np.random.default_rng(0))
    settings = Settings(GRID, markov.RULE)
    parts = analysis.measure(found, settings), value_signals.measure(found, settings)
    return pd.concat(parts, ignore_index=True)


def heights(figure: object, gid: str) -> list[float]:
    return np.asarray(artist(figure, gid).get_ydata()).tolist()  # type: ignore[arg-type,union-attr]


def test_curves_hold_the_numbers_of_the_table(frame: pd.DataFrame) -> None:
    figure = values.draw(frame)
    for role in ("student", "teacher"):
        rows = select(frame, what="value", condition=role, view="open")
        assert heights(figure, f"a.{role}") == pytest.approx((100 * rows.value).tolist())
        shares = select(frame, what="value", condition=role, view="share of the final length")
        assert heights(figure, f"d.{role}") == pytest.approx((100 * shares.value).tolist())
    rows = select(frame, what="value_advantage")
    assert heights(figure, "b.advantage") == pytest.approx((100 * rows.value).tolist())
    for what in ("score_correlation", "score_rank_correlation"):
        known = select(frame, what=what).dropna(subset="value")
        assert heights(figure, f"c.{what}") == pytest.approx(known.value.tolist())


def test_each_comparison_of_signals_is_a_series(frame: pd.DataFrame) -> None:
    figure = values.draw(frame)
    for comparison in COMPARISONS:
        rows = select(frame, what="auroc", view=comparison).set_index("category")
        drawn = artist(figure, f"e.{comparison}").get_xdata()  # type: ignore[union-attr]
        assert np.asarray(drawn).tolist() == pytest.approx(rows.value[[*SIGNALS]].tolist())
    assert artist(figure, "e.ignorance").get_xdata() == [0.5, 0.5]  # type: ignore[union-attr]


@pytest.mark.parametrize("width", ["page", "column"])
def test_no_text_covers_another(frame: pd.DataFrame, width: style.Width) -> None:
    apart_on_the_page(values.draw(frame, width=width))


def test_the_words_say_what_is_shown_and_what_is_no_rule(frame: pd.DataFrame) -> None:
    assert len(values.caption(frame).split()) <= 60
    details = values.details(frame)
    assert "80 rollouts of 40 problems" in details and "answer rule last_token" in details
    assert "no rule for stopping" in details and "0.5 by construction" in details
    assert "AUROC for a correct answer" in texts(values.draw(frame))


def test_measurements_of_something_else_are_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no value by position; pass those of values"):
        values.draw(frame[frame.what == "auroc"])
