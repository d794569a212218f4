"""avg@k, pass@k and maj@k of checkpoints and their paired differences: by hand, by enumeration, and
with their corners."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_outcomes import at_random, outcomes

from decaylab.analyses.evaluation import Settings, drawn, measure
from decaylab.maths import statistics as st
from decaylab.problems.votes import majority
from decaylab.tokens.noise_floor import KEY

RULES = ("last_boxed", "anywhere")
SETTINGS = Settings(RULES)


def value(
    frame: pd.DataFrame,
    what: str,
    checkpoint: str = "base",
    rule: str = "last_boxed",
    view: str = "fresh",
) -> Any:
    place = (what, checkpoint, rule, view)
    (found,) = (
        row
        for row in frame.itertuples()
        if (row.what, row.checkpoint, row.condition, row.view) == place
    )
    return found


# Levels


def test_levels_by_hand() -> None:
    """a: right right wrong none, b: wrong wrong right none, c: four times wrong, two and two.

    avg@4 = (2 + 1 + 0) / 12. pass@2: a 1 - 1/6 = 5/6, b 1 - 3/6 = 1/2. maj@4: a 1, b 0, c 0.
    """
    frame = measure(
        outcomes({"base": {"a": [0, 0, 1, -1], "b": [1, 1, 0, -1], "c": [1, 1, 2, 2]}}), SETTINGS
    )
    found = {
        what: value(frame, what).value
        for what in ("avg_at_4", "pass_at_1", "pass_at_2", "pass_at_4", "maj_at_4")
    }
    expected = {
        "avg_at_4": 1 / 4,
        "pass_at_1": 1 / 4,
        "pass_at_2": (5 / 6 + 1 / 2) / 3,
        "pass_at_4": 2 / 3,
    }
    assert found == pytest.approx({**expected, "maj_at_4": 1 / 3})
    one = value(frame, "avg_at_4")
    assert (one.unit, one.problems, one.rollouts, one.tokens, one.answer_rule) == (
        "fraction",
        3,
        12,
        120,
        "last_boxed",
    )


def test_a_tie_is_worth_its_share() -> None:
    """a: right and wrong tie, 1/2; b: three classes tie, 1/3. Counting a tie as won gives 1, as
    lost 0."""
    frame = measure(outcomes({"base": {"a": [0, 0, 1, 1], "b": [0, 1, 2, -1]}}), SETTINGS)
    assert value(frame, "maj_at_4").value == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_pass_at_k_is_the_mean_over_every_choice_of_samples() -> None:
    votes = at_random(0, samples=6)
    frame = measure(outcomes({"base": votes}), SETTINGS)
    assert drawn(6) == [1, 2, 4, 6]
    for k in drawn(6):
        chosen = [[0 in few for few in itertools.combinations(cast, k)] for cast in votes.values()]
        assert value(frame, f"pass_at_{k}").value == pytest.approx(np.mean(chosen))


@pytest.mark.parametrize(
    ("samples", "numbers"),
    [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (8, [1, 2, 4, 8])],
)
def test_samples_are_drawn_in_doubling_numbers_and_all_at_once(
    samples: int, numbers: list[int]
) -> None:
    assert drawn(samples) == numbers


def test_with_one_sample_all_three_are_the_same_number() -> None:
    frame = measure(outcomes({"base": at_random(1, samples=1)}), SETTINGS)
    rows = [value(frame, what) for what in ("avg_at_1", "pass_at_1", "maj_at_1")]
    assert len({(row.value, row.low, row.high) for row in rows}) == 1


def test_intervals_are_those_of_the_library_over_rollouts_and_over_problems() -> None:
    votes = at_random(2)
    frame = measure(outcomes({"base": votes}), SETTINGS)
    right = np.array([[vote == 0 for vote in cast] for cast in votes.values()], dtype=float)
    codes = np.arange(len(votes))
    expected = {
        "avg_at_4": st.proportion(right.ravel(), np.repeat(codes, 4)),
        "pass_at_1": st.proportion(right.ravel(), np.repeat(codes, 4)),
        "pass_at_4": st.proportion(right.max(axis=1), codes),
        "maj_at_4": st.proportion([majority(cast) for cast in votes.values()], codes),
    }
    for what, estimate in expected.items():
        row = value(frame, what)
        assert (row.value, row.low, row.high) == pytest.approx(
            (estimate.value, estimate.low, estimate.high)
        ), what
        assert row.standard_error == pytest.approx(estimate.standard_error)
        assert row.method == "clustered Wilson"


def test_the_interval_of_pass_at_2_knows_that_four_samples_are_two_draws() -> None:
    """Independent samples of one chance: 2 x 400 draws stand behind it, not 400."""
    rng = np.random.default_rng(0)
    votes = {f"p{n:03}": np.where(rng.random(4) < 0.3, 0, 1).tolist() for n in range(400)}
    row = value(measure(outcomes({"base": votes}), SETTINGS), "pass_at_2")
    half = (row.high - row.low) / 2
    expected = 1.966 * math.sqrt(row.value * (1 - row.value) / 800)
    assert half == pytest.approx(expected, rel=0.12) and half < 0.8 * expected * math.sqrt(2)


def test_a_rule_that_names_several_answers_has_no_majority() -> None:
    frame = measure(outcomes({"base": at_random(3), "teacher": at_random(4)}), SETTINGS)
    row = value(frame, "maj_at_4", rule="anywhere")
    assert math.isnan(row.value) and "there is no majority" in row.note
    assert value(frame, "avg_at_4", rule="anywhere").value > 0
    assert not (
        (frame["condition"] == "anywhere") & frame["what"].str.startswith("maj_at_4_minus")
    ).any()


def test_the_reported_rule_comes_first() -> None:
    frame = measure(outcomes({"base": at_random(3)}), Settings(("anywhere", "last_boxed")))
    assert frame["condition"].drop_duplicates().tolist() == ["anywhere", "last_boxed"]


def test_responses_that_took_too_long_are_told() -> None:
    frame = measure(outcomes({"base": at_random(3)}, anywhere="timeout"), SETTINGS)
    row = value(frame, "avg_at_4", rule="anywhere")
    assert row.value == 0 and row.note.endswith(
        "100 of 100 responses took too long to grade and count as not correct"
    )
    assert value(frame, "avg_at_4").note == ""


# Differences


MODELS = {"base": at_random(5), "one": at_random(6), "two": at_random(7), "teacher": at_random(8)}
STEPS = {"base": 0.0, "one": 50.0, "two": 100.0}


def by_problem(votes: Mapping[str, Sequence[int]], what: str) -> np.ndarray:
    if what == "maj_at_4":
        return np.array([majority(cast) for cast in votes.values()])
    reduce = np.mean if what == "avg_at_4" else np.max
    return np.array([reduce([vote == 0 for vote in cast]) for cast in votes.values()], dtype=float)


@pytest.mark.parametrize("what", ["avg_at_4", "pass_at_4", "maj_at_4"])
@pytest.mark.parametrize("other", ["base", "teacher"])
def test_differences_are_the_checkpoint_less_the_other_paired_by_problem(
    what: str, other: str
) -> None:
    frame = measure(outcomes(MODELS, STEPS), SETTINGS)
    row = value(frame, f"{what}_minus_{other}", "one")
    first, second = (by_problem(MODELS[name], what) for name in ("one", other))
    codes = np.arange(len(first))
    assert row.value == pytest.approx((first - second).mean())
    each = 4 if what == "avg_at_4" else 1
    expected = st.paired_difference(
        np.repeat(first, each), np.repeat(second, each), np.repeat(codes, each)
    )
    assert (row.low, row.high) == pytest.approx((expected.low, expected.high))
    assert row.p_value == st.sign_flip_p(first - second, codes)
    assert (row.problems, row.rollouts, row.step) == (25, 100, 50)


def test_a_difference_by_hand_over_the_problems_that_both_were_asked() -> None:
    """b: 3/4 against 1/4, c: 0 against 1/2; a was not asked of base. Mean difference 0."""
    models = {
        "base": {"b": [0, 1, 1, 1], "c": [0, 0, 1, 1]},
        "one": {"a": [0] * 4, "b": [0, 0, 0, 1], "c": [1] * 4},
    }
    row = value(measure(outcomes(models), SETTINGS), "avg_at_4_minus_base", "one")
    assert (row.value, row.problems, row.rollouts) == (0, 2, 8)
    assert row.note == "1 of 3 problems have no rollouts of base, left out"
    assert row.standard_error == pytest.approx(
        0.5
    )  # differences +1/2 and -1/2: sd .7071 over the root of 2


def test_the_order_of_rows_and_problems_changes_nothing() -> None:
    frame = outcomes(MODELS, STEPS)
    parts = [frame[frame["checkpoint"] == name].sample(frac=1, random_state=0) for name in MODELS]
    pd.testing.assert_frame_equal(measure(pd.concat(parts), SETTINGS), measure(frame, SETTINGS))


def test_base_is_compared_with_the_teacher_and_the_teacher_with_none() -> None:
    frame = measure(outcomes(MODELS, STEPS), SETTINGS)
    compared = {(row.checkpoint, row.what) for row in frame.itertuples() if "_minus_" in row.what}
    assert ("base", "avg_at_4_minus_teacher") in compared
    assert not [
        pair for pair in compared if pair[0] == "teacher" or pair == ("base", "avg_at_4_minus_base")
    ]


@pytest.mark.parametrize("what", ["avg_at_4", "pass_at_2", "maj_at_4"])
@pytest.mark.parametrize("other", ["base", "teacher"])
def test_holm_is_over_the_checkpoints_of_one_comparison_and_rule(what: str, other: str) -> None:
    """Two checkpoints are a family of two; base against the teacher is no checkpoint, and each rule
    is corrected alone."""
    frame = measure(outcomes(MODELS, STEPS), SETTINGS)
    rows = [value(frame, f"{what}_minus_{other}", name) for name in ("one", "two")]
    expected = st.holm([row.p_value for row in rows])
    assert [row.p_value_holm for row in rows] == pytest.approx(expected.tolist())
    base = value(frame, f"{what}_minus_teacher", "base")
    assert not math.isnan(base.p_value) and math.isnan(base.p_value_holm)


def test_the_detectable_difference_is_that_of_the_paired_error() -> None:
    """Bound by hand: (1.960 + 0.842) times the standard error, or what the interval implies where
    that is more."""
    frame = measure(outcomes(MODELS, STEPS), SETTINGS)
    change = value(frame, "avg_at_4_minus_base", "one")
    row = value(frame, "avg_at_4_minus_base_detectable", "one")
    error = max(change.standard_error, (change.high - change.low) / 2 / 1.959964)
    assert row.value == pytest.approx((1.959964 + 0.841621) * error, rel=1e-5)
    assert math.isnan(row.low) and row.unit == "fraction" and row.method == ""


def test_identical_outcomes_could_still_have_differed() -> None:
    frame = measure(outcomes({"base": at_random(1), "one": at_random(1)}), SETTINGS)
    row = value(frame, "avg_at_4_minus_base", "one")
    assert row.value == 0 and row.low < 0 < row.high and row.p_value == 1
    assert value(frame, "avg_at_4_minus_base_detectable", "one").value > 0.01


# Checkpoint rules, training


def test_what_a_rule_takes_stands_again_under_its_name_with_its_own_correction() -> None:
    settings = Settings(RULES, {"last": ("two",), "best": ("one",)})
    frame = measure(outcomes(MODELS, STEPS), settings)
    whole = frame[frame["view"] == "fresh"]
    for view, name in (("last", "two"), ("best", "one")):
        rows, own = frame[frame["view"] == view], whole[whole["checkpoint"] == name]
        assert set(rows["checkpoint"]) == {name} and len(rows) == len(own)
        columns = [column for column in frame if column not in ("view", "p_value_holm")]
        left, right = (table[columns].reset_index(drop=True) for table in (rows, own))
        pd.testing.assert_frame_equal(left, right)
        known = rows[rows["p_value"].notna()]
        assert (
            known["p_value_holm"] == known["p_value"]
        ).all()  # one checkpoint is a family of one


def test_how_a_checkpoint_was_trained_stands_in_its_rows() -> None:
    training = {"one": {"selector": "prefix", "rollout_length": 20.0, "training_seed": 3.0}}
    frame = measure(outcomes(MODELS, STEPS), Settings(RULES, training=training))
    one, base, teacher = (value(frame, "avg_at_4", name) for name in ("one", "base", "teacher"))
    assert (one.step, one.selector, one.rollout_length, one.training_seed) == (50, "prefix", 20, 3)
    assert (
        (base.step, base.selector) == (0, "")
        and math.isnan(base.rollout_length)
        and math.isnan(teacher.step)
    )


def test_rows_have_unique_keys_and_intervals_hold_their_values() -> None:
    frame = measure(outcomes(MODELS, STEPS), Settings(RULES, {"last": ("two",), "best": ("two",)}))
    assert not frame.duplicated(KEY).any()
    known = frame[frame["low"].notna()]
    assert ((known["low"] <= known["value"]) & (known["value"] <= known["high"])).all()


# Corners


def test_one_problem_has_values_and_no_intervals() -> None:
    frame = measure(outcomes({"base": {"a": [0, 1]}, "one": {"a": [0, 0]}}), SETTINGS)
    row, change = value(frame, "avg_at_2"), value(frame, "avg_at_2_minus_base", "one")
    assert (
        (row.value, change.value) == (0.5, 0.5) and math.isnan(row.low) and math.isnan(change.low)
    )
    assert st.ONE_PROBLEM in row.note and st.ONE_PROBLEM in change.note
    least = value(frame, "avg_at_2_minus_base_detectable", "one")
    assert math.isnan(least.value) and st.ONE_PROBLEM in least.note


def test_without_a_common_problem_there_is_no_difference() -> None:
    frame = measure(
        outcomes({"base": {"a": [0, 1], "b": [0, 0]}, "one": {"c": [0, 0], "d": [1, 1]}}), SETTINGS
    )
    row = value(frame, "avg_at_2_minus_base", "one")
    assert math.isnan(row.value) and math.isnan(row.p_value) and row.note.startswith("no rollouts")


def test_numbers_of_samples_that_differ_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"base: every problem must have the same number of samples, got \[1, 2\]"
    ):
        measure(outcomes({"base": {"a": [0, 1], "b": [0]}}), SETTINGS)
    with pytest.raises(
        ValueError, match="all models must have the same number of samples, got base 2, one 1"
    ):
        measure(outcomes({"base": {"a": [0, 1]}, "one": {"a": [0]}}), SETTINGS)
