"""The length that decay and KL suggest is the smaller of two, and what forbids one is said."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from decay_rows import decay_rows, decay_run, signal_rows, signals_run

from decaylab.claims.advice_lengths import decay_at, suggest
from decaylab.runs.found_runs import FoundRun

NAN, INF = math.nan, math.inf


def decay(**half: Any) -> FoundRun:
    """The decay run with another half-decay length."""
    rows = decay_rows()
    return decay_run([replace(one, **half) if "half" in one.what else one for one in rows])


def signals(**position: Any) -> FoundRun:
    """The signals with another N by the cumulative KL."""
    rows = signal_rows()
    return signals_run(
        [replace(one, **position) if one.what.endswith("position") else one for one in rows]
    )


def test_the_smaller_of_the_two_lengths_is_suggested_with_what_was_found() -> None:
    found = suggest(signals(), decay())
    assert (found.tokens, found.by) == (39, "half-decay length")
    assert (found.low, found.high) == pytest.approx((34.1, 44.1))
    assert found.words == "39 tokens [34, 44] by the half-decay length"
    assert found.found == (
        "Alone, the teacher is ahead of the student by +44.9 points [+39.9, +49.9]. Half of its "
        "advantage over the student is gone after 39 tokens [34, 44].",
        "45 % of the base student's reverse KL over the first 88 tokens lies in the first 53 "
        "[50, 56].",
    )
    other = suggest(signals(value=20.0, low=17.0, high=23.0), decay())
    assert (other.tokens, other.by) == (20, "cumulative KL")


def test_the_interval_is_that_of_the_smaller_of_two_lengths() -> None:
    found = suggest(signals(low=30.0, high=56.0), decay(low=33.0, high=60.0))
    assert (found.tokens, found.low, found.high) == (39, 30.0, 56.0)


def test_one_of_the_two_alone_suggests_its_length() -> None:
    assert suggest(None, decay()).words == "39 tokens [34, 44] by the half-decay length"
    assert suggest(signals(), None).words == "53 tokens [50, 56] by the cumulative KL"
    assert suggest(None, None).tokens is None


def test_a_half_decay_beyond_the_longest_prefix_leaves_the_kl_to_decide() -> None:
    beyond = decay(value=INF, low=44.0, high=INF, note="not reached by 60")
    assert suggest(signals(), beyond).words == "53 tokens [44, 56] by the cumulative KL"
    alone = suggest(None, beyond)
    assert alone.tokens is None and "at the longest prefix, 60 tokens" in alone.obstacles[0]


@pytest.mark.parametrize(
    ("gap", "why"),
    [
        ({"value": 0.01, "low": -0.02, "high": 0.04}, "not shown to be better than the student"),
        ({"value": 0.0, "low": 0.0, "high": 0.0}, "not shown to be better than the student"),
        ({"low": NAN, "high": NAN}, "the teacher's advantage has no interval"),
    ],
)
def test_without_an_advantage_that_could_be_lost_the_kl_suggests_nothing_either(
    gap: dict[str, float], why: str
) -> None:
    rows = [replace(one, **gap) if "advantage" in one.what else one for one in decay_rows()]
    found = suggest(signals(), decay_run(rows))
    assert found.tokens is None and any(why in each for each in found.obstacles)
    assert found.too_few == (gap.get("high") != 0.0)


def test_a_control_that_fails_forbids_the_length() -> None:
    rows = [
        replace(one, value=-0.1, low=-0.12, high=-0.08) if one.condition == "own-prefix" else one
        for one in decay_rows()
    ]
    found = suggest(signals(), decay_run(rows))
    assert found.tokens is None and "the control of the decay run pair fails" in found.obstacles
    assert not found.too_few


@pytest.mark.parametrize(
    ("half", "why"),
    [
        ({"value": NAN, "low": NAN, "high": NAN, "note": "no advantage"}, "is undefined"),
        ({"low": NAN, "high": NAN}, "the half-decay length has no interval"),
    ],
)
def test_a_half_decay_length_without_value_or_interval_leaves_the_kl(
    half: dict[str, Any], why: str
) -> None:
    found = suggest(signals(), decay(**half))
    assert found.by == "cumulative KL" and why in found.obstacles[0]
    assert suggest(None, decay(**half)).tokens is None


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (signals_run(signal_rows(under=True)), "under twice its noise floor in 1 of 2 position"),
        (signals(value=NAN, low=NAN, high=NAN, note="no rollout"), "is undefined (no rollout)"),
        (signals(low=NAN, high=NAN), "the cumulative KL has no interval"),
        (signals_run([]), "the KL of the base student was not measured"),
        (signals_run(signal_rows(), temperature=1.0), "differ in their temperature (1.0 and 0.7)"),
        (signals_run(signal_rows(), max_tokens=64), "differ in their token budget (64 and 320)"),
    ],
)
def test_a_kl_that_does_not_count_leaves_the_half_decay_length(run: FoundRun, why: str) -> None:
    found = suggest(run, decay())
    assert found.by == "half-decay length" and why in found.obstacles[0]


def test_runs_on_different_problems_are_not_compared() -> None:
    run = signals()
    run.record["identity"]["problems"] = {"name": "gsm8k", "version": "1"}
    (why,) = suggest(run, decay()).obstacles
    assert "differ in their problems (gsm8k 1 and abacus abacus-1)" in why


def test_an_interval_of_more_than_a_factor_of_four_is_no_length() -> None:
    assert suggest(None, decay(low=11.0, high=43.0)).tokens == 39
    wide = suggest(None, decay(low=10.0, high=41.0))
    assert (
        wide.tokens is None
        and "10 to 41 tokens, spans more than a factor of 4" in (wide.obstacles[0])
    )


def test_an_interval_without_an_upper_end_is_said_in_words() -> None:
    (obstacle,) = suggest(None, decay(low=10.0, high=math.inf)).obstacles
    assert "its interval runs from 10 tokens to beyond the longest prefix; measure" in obstacle


def test_a_length_is_at_least_one_token() -> None:
    assert suggest(None, decay(value=0.3, low=0.2, high=0.5)).tokens == 1


def test_kl_without_a_noise_floor_says_so() -> None:
    found = suggest(signals_run(signal_rows(floor=NAN)), None)
    assert "(its noise floor was not measured)" in found.found[0] and found.tokens == 53


def test_the_decay_curve_is_read_at_the_longest_prefix_that_fits() -> None:
    assert decay_at(decay(), 39) == (
        "After 10 tokens of the student the teacher's accuracy differs by -10.0 points "
        "[-12.0, -8.0]."
    )
    assert decay_at(decay(), 9) == ""


def test_a_decay_run_without_student_prefixes_suggests_nothing() -> None:
    rows = [one for one in decay_rows() if one.condition != "student-prefix"]
    found = suggest(signals(), decay_run(rows))
    assert found.by == "cumulative KL" and "has no continuations" in found.obstacles[0]
