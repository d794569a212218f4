"""Token truth by hand, and against enumerations: masses, gains, pairs of tokens, bins, tests."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from decaylab.analyses import token_truth as analysis
from decaylab.maths.statistics import holm, sign_flip_p
from decaylab.runs.vocabulary import (
    ALREADY_WRONG,
    BEHIND_WRONG,
    CONSISTENCY,
    CORRECT_SO_FAR,
    REPAIR,
    REPAIRED,
    TRUTH,
    auroc,
    gain,
    of_policy,
    row,
    select,
)

WHOLE = {"position_low": 0.0, "position_high": math.inf}


def places(rows: list[dict[str, object]]) -> pd.DataFrame:
    """A places table; what a row does not say is that of one token by which nothing is decided."""
    usual: dict[str, object] = {
        "checkpoint": "base",
        "rollout_id": "r0",
        "problem_id": "p0",
        "kind": "result",
        "step": 1,
        "position": 5,
        "state": CORRECT_SO_FAR,
    }
    numbers = [
        f"{what}_{sense}"
        for what, sense in product(
            ("student", "teacher", "pairs", "concordant"), ("true", "consistent")
        )
    ]
    table = pd.DataFrame([{**usual, **dict.fromkeys(numbers, math.nan), **one} for one in rows])
    return table.assign(rollout_id=[f"r{number}" for number in range(len(table))])


def drawn(count: int, seed: int = 0) -> pd.DataFrame:
    """Random places of some problems, one or two each."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        pairs = rng.uniform(0, 0.25)
        rows.append(
            {
                "problem_id": f"p{number * 2 // 3}",
                "position": int(rng.integers(0, 100)),
                "student_true": rng.uniform(0, 0.9),
                "teacher_true": rng.uniform(0.1, 1),
                "pairs_true": pairs,
                "concordant_true": pairs * rng.uniform(),
            }
        )
    return places(rows)


def measured(table: pd.DataFrame, **settings: object) -> pd.DataFrame:
    return analysis.measure(table, analysis.Settings(**settings))  # type: ignore[arg-type]


def number(frame: pd.DataFrame, what: str, state: str = CORRECT_SO_FAR) -> pd.Series:
    return row(frame, what=what, condition=state, **WHOLE)


def test_the_gain_is_the_teacher_s_mass_minus_the_student_s_over_places() -> None:
    frame = measured(
        places(
            [
                {"student_true": 0.2, "teacher_true": 0.9},
                {"student_true": 0.6, "teacher_true": 0.5},
                {"problem_id": "p1", "student_true": 0.4, "teacher_true": 0.4},
            ]
        )
    )
    # a mean over problems would give .15 instead of .2
    assert number(frame, gain(TRUTH)).value == pytest.approx((0.7 - 0.1 + 0) / 3)
    assert number(frame, of_policy(TRUTH, "student")).value == pytest.approx(0.4)
    assert number(frame, of_policy(TRUTH, "teacher")).value == pytest.approx(0.6)
    counts = number(frame, gain(TRUTH))
    assert (counts.problems, counts.rollouts, counts.tokens) == (2, 3, 3)


def test_the_interval_of_a_gain_is_student_s_over_problems_of_one_place_each() -> None:
    table = drawn(40).drop_duplicates("problem_id")
    found = number(measured(table), gain(TRUTH))
    differences = (table["teacher_true"] - table["student_true"]).to_numpy()
    low, high = stats.t.interval(
        0.95, len(differences) - 1, differences.mean(), stats.sem(differences)
    )
    assert (found.low, found.high) == pytest.approx((low, high))


def test_the_auroc_weighs_each_pair_of_tokens_by_its_probability() -> None:
    table = places(
        [
            {"student_true": 0.5, "teacher_true": 0.5, "pairs_true": 0.25, "concordant_true": 0.25},
            {
                **{"problem_id": "p1", "student_true": 0.9, "teacher_true": 0.9},
                **{"pairs_true": 0.05, "concordant_true": 0.0},
            },
        ]
    )
    # the mean of both shares would be .5
    assert number(measured(table), auroc(TRUTH)).value == pytest.approx(0.25 / 0.30)


def test_the_auroc_of_one_place_is_that_of_weighted_draws() -> None:
    rng = np.random.default_rng(4)
    s, label = rng.dirichlet(np.ones(7)), np.array([1, 0, 1, 0, 0, 1, 0], dtype=bool)
    score = rng.integers(0, 4, 7)  # with ties
    # as often as a token is drawn, it stands in a list for Mann and Whitney
    times = rng.multinomial(2000, s)
    positive = np.repeat(score[label], times[label])
    negative = np.repeat(score[~label], times[~label])
    expected = stats.mannwhitneyu(positive, negative).statistic / positive.size / negative.size
    share = times / times.sum()
    pairs = share[label].sum() * share[~label].sum()
    concordant = sum(
        share[one]
        * share[other]
        * ((score[one] > score[other]) + 0.5 * (score[one] == score[other]))
        for one in np.flatnonzero(label)
        for other in np.flatnonzero(~label)
    )
    table = places(
        [
            {
                **{"problem_id": f"p{copy}", "student_true": 0.5, "teacher_true": 0.5},
                **{"pairs_true": pairs, "concordant_true": concordant},
            }
            for copy in range(2)
        ]
    )
    assert number(measured(table), auroc(TRUTH)).value == pytest.approx(expected)


def test_states_are_kept_apart_and_truth_is_not_asked_behind_an_error() -> None:
    table = places(
        [
            {"student_true": 0.1, "teacher_true": 0.2},
            {"state": REPAIRED, "student_true": 0.3, "teacher_true": 0.8},
            {"state": ALREADY_WRONG, "student_consistent": 0.6, "teacher_consistent": 0.9},
            {"kind": "repair", "state": BEHIND_WRONG, "student_true": 0.0, "teacher_true": 0.4},
        ]
    )
    frame = measured(table)
    assert number(frame, gain(TRUTH)).value == pytest.approx(0.1)
    assert number(frame, gain(TRUTH), REPAIRED).value == pytest.approx(0.5)
    assert number(frame, gain(CONSISTENCY), ALREADY_WRONG).value == pytest.approx(0.3)
    assert number(frame, gain(REPAIR), BEHIND_WRONG).value == pytest.approx(0.4)
    assert select(frame, what=gain(TRUTH), condition=ALREADY_WRONG).empty


def test_each_place_is_in_the_bin_of_its_position_and_empty_bins_have_no_row() -> None:
    table = drawn(30).assign(position=[9, 10, 11] * 10)
    frame = measured(table, bins=(0, 10, 50))
    for low, high, expected in ((0.0, 10.0, [9]), (10.0, 50.0, [10, 11])):
        inside = table[table["position"].isin(expected)]
        at = {"condition": CORRECT_SO_FAR, "position_low": low, "position_high": high}
        found = row(frame, what=gain(TRUTH), **at)
        assert found.value == pytest.approx((inside.teacher_true - inside.student_true).mean())
    assert select(frame, position_low=50.0).empty


def test_places_without_a_result_of_their_own_are_left_out_and_counted() -> None:
    usual = {"student_consistent": 0.5, "teacher_consistent": 0.7, "state": ALREADY_WRONG}
    table = places([usual, {**usual, "problem_id": "p1"}, {"state": ALREADY_WRONG}])
    found = number(measured(table), of_policy(CONSISTENCY, "student"), ALREADY_WRONG)
    assert found.tokens == 2 and "1 of 3 places have no own result, left out" in found.note


def test_what_cannot_be_measured_is_nan_with_a_note() -> None:
    frame = measured(places([{"student_true": 1.0, "teacher_true": 1.0, "pairs_true": 0.0}]))
    nobody = number(frame, gain(TRUTH), REPAIRED)
    assert math.isnan(nobody.value) and nobody.note == analysis.NO_PLACES
    undecided = number(frame, auroc(TRUTH))
    assert math.isnan(undecided.value) and undecided.note == analysis.NO_PAIRS
    alone = number(frame, gain(TRUTH))
    assert alone.value == 0 and math.isnan(alone.low) and "fewer than 2 problems" in alone.note


def test_p_values_are_corrected_over_the_gains_of_a_checkpoint() -> None:
    one = drawn(40)
    other = drawn(40, seed=5).assign(state=REPAIRED)
    frame = measured(pd.concat([one, other, one.assign(checkpoint="trained")]))
    plain = []
    for table in (one, other):
        codes = table["problem_id"].map(
            {name: place for place, name in enumerate(sorted(one["problem_id"].unique()))}
        )
        plain.append(sign_flip_p(table["teacher_true"] - table["student_true"], codes.to_numpy()))
    base = select(frame, checkpoint="base", what=gain(TRUTH))
    assert base["p_value"].tolist() == pytest.approx(plain)
    assert base["p_value_holm"].tolist() == pytest.approx(holm(plain).tolist())
    trained = select(frame, checkpoint="trained", what=gain(TRUTH), condition=CORRECT_SO_FAR)
    assert trained["p_value_holm"].tolist() == trained["p_value"].tolist()
