"""Hand-back against its closed form: policies of a known law are sampled and measured, and the
truth must be covered. Nothing here asserts that a gain must appear."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import markov
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from decaylab.analyses.hand_back import IDENTITY, WORSE, Settings, measure
from decaylab.maths.ratios import NO_DENOMINATOR, OPEN_ENDED, ratio_of_differences
from decaylab.maths.statistics import holm, paired_difference, sign_flip_p
from decaylab.rollouts.collect import DecayPlan
from decaylab.rollouts.sampling import SamplingSettings
from decaylab.runs.measurements import COLUMNS

LENGTHS, COUNTS, MAX_TOKENS = (0, 2, 6), (1, 4, 12), 16
PROBLEMS, SAMPLES, REPLICATES = 60, 2, 30
KEY = ["what", "condition", "prefix_tokens", "category"]
GAIN, BACK, CONTROL = "corrective_gain", "hand-back", "hand-back-control"
SPLIT = "corrective_gain_minus_continuation"


def category(count: int | str) -> str:
    return f"teacher tokens: {count}"


# Hand-sized, every value by arithmetic


def row(condition: str, name: str, correct: int, tokens: int, count: int | None = None, k: int = 2):
    """A row as far as it is measured; name: a letter for the problem, a digit for the sample."""
    plain = condition in ("student", "teacher")
    stage = condition if plain else f"{condition}/{k}" + (f"/{count}" if count is not None else "")
    return {
        "rollout_id": f"{stage}/{name}",
        "condition": condition,
        "problem_id": name[0],
        "prefix_tokens": 0 if plain else k,
        "prefix_rollout_id": "" if plain else f"student/{name}",
        "prefix_correct_so_far": None,
        "teacher_tokens": count,
        "response_ids": list(range(tokens)),
        "stop_reason": "eos",
        "grade_rule": "correct" if correct else "wrong",
    }


def hand_rows() -> list[dict[str, Any]]:
    """Open at 2 are P0, P1, Q0 and R0; S0 ended before."""
    rows = [row("student", *one) for one in (("P0", 0, 9), ("P1", 1, 9), ("Q0", 0, 9))]
    rows += [row("student", "R0", 0, 9), row("student", "S0", 1, 2)]
    rows += [row("teacher", name, 1, 5) for name in ("P0", "Q0", "R0", "S0")]
    continued = (("P0", 1), ("P1", 1), ("Q0", 0), ("R0", 1))
    rows += [row("student-prefix", *one, 5) for one in continued]
    # The teacher ended after 3 tokens for P0, its end token counted, after 4 for P1, later else.
    written = (("P0", 1, 3), ("P1", 0, 4), ("Q0", 1, 7), ("R0", 1, 7))
    rows += [row("hand-back-teacher", *one) for one in written]
    for name, none, three in (("P0", 0, None), ("P1", 1, 1), ("Q0", 1, 0), ("R0", 0, 1)):
        rows.append(row("hand-back", name, none, 6, 0))
        if three is not None:
            rows.append(row("hand-back", name, three, 2, 3))
    return rows


def hand(rows: list[dict[str, Any]], counts: tuple[int, ...] = (3,), **more: Any) -> pd.DataFrame:
    frame = measure(pd.DataFrame(rows), Settings((0, 2, 8), "rule", counts, **more))
    assert tuple(frame.columns) == COLUMNS
    assert not frame.duplicated(KEY).any()
    return frame.set_index(KEY).sort_index()


@pytest.fixture(scope="module")
def by_hand() -> pd.DataFrame:
    return hand(hand_rows())


HAND = {
    # After 3: P0 is the teacher's own 1, then the student's 1 0 1; the outcomes are 0 1 0 0.
    ("accuracy", BACK, category(3)): 3 / 4,
    ("student_accuracy", BACK, category(3)): 1 / 4,
    (GAIN, BACK, category(3)): 3 / 4 - 1 / 4,
    ("teacher_finished_share", BACK, category(3)): 1 / 4,
    # A 1 1 0 1 less S: 2/4.
    ("continuation_gain", "student-prefix", ""): 3 / 4 - 1 / 4,
    (GAIN, CONTROL, category(0)): 2 / 4 - 1 / 4,
    # The teacher's own 1 0 1 1.
    (GAIN, CONTROL, category("to the end")): 3 / 4 - 1 / 4,
    (SPLIT, CONTROL, category("to the end")): 3 / 4 - 3 / 4,
}


@pytest.mark.parametrize("key", HAND, ids=lambda key: "-".join(key).replace(" ", "_"))
def test_each_value_is_that_of_the_arithmetic(
    by_hand: pd.DataFrame, key: tuple[str, str, str]
) -> None:
    what, condition, named = key
    found = by_hand.loc[(what, condition, 2.0, named)]
    assert found.value == pytest.approx(HAND[key], abs=1e-12)
    assert (found.rollouts, found.problems, found["view"]) == (4, 3, "open")


def test_an_ended_teacher_is_the_outcome_even_where_the_student_was_sampled() -> None:
    found = hand([*hand_rows(), row("hand-back", "P0", 0, 2, 3)])
    assert found.loc[(GAIN, BACK, 2.0, category(3)), "value"] == pytest.approx(1 / 2)


def test_tokens_are_those_that_both_wrote_behind_the_prefix(by_hand: pd.DataFrame) -> None:
    assert by_hand.loc[(GAIN, BACK, 2.0, category(3)), "tokens"] == 3 + 3 * (3 + 2)
    assert by_hand.loc[(GAIN, CONTROL, 2.0, category(0)), "tokens"] == 4 * 6
    assert by_hand.loc[(GAIN, CONTROL, 2.0, category("to the end")), "tokens"] == 3 + 4 + 7 + 7


def test_intervals_and_tests_are_paired_over_the_same_rollouts(by_hand: pd.DataFrame) -> None:
    handed, student, problems = [1, 1, 0, 1], [0, 1, 0, 0], [0, 0, 1, 2]
    found = by_hand.loc[(GAIN, BACK, 2.0, category(3))]
    plain = paired_difference(handed, student, problems)
    assert (found.low, found.high, found.standard_error) == pytest.approx(
        (plain.low, plain.high, plain.standard_error)
    )
    assert found.p_value == sign_flip_p(np.subtract(handed, student), problems)


def test_the_share_is_over_the_same_rollouts() -> None:
    """30 times the table, so that the denominator is shown."""
    rows = [
        {**one, "problem_id": f"{one['problem_id']}{copy}"}
        | {
            name: one[name] and f"{one[name]}-{copy}"
            for name in ("rollout_id", "prefix_rollout_id")
        }
        for copy in range(30)
        for one in hand_rows()
    ]
    found = hand(rows).loc[("usable_share", BACK, 2.0, category(3))]
    columns = [np.tile(grades, 30).astype(float) for grades in ([1, 1, 0, 1], [0, 1, 0, 0])]
    continued = np.tile([1.0, 1, 0, 1], 30)
    codes = 3 * np.repeat(np.arange(30), 4) + np.tile([0, 0, 1, 2], 30)
    share = ratio_of_differences(columns, (continued, columns[1]), codes)
    assert (found.value, found.low, found.high) == pytest.approx(
        (share.value, share.low, share.high)
    )


def test_a_share_without_a_shown_denominator_is_undefined(by_hand: pd.DataFrame) -> None:
    # A - S by problem: P 1 of 2 rollouts, Q 0, R 1; mean .5, standard error .217.
    found = by_hand.loc[("usable_share", BACK, 2.0, category(3))]
    assert found.value == pytest.approx(1) and found.note == OPEN_ENDED
    # P 1 of 2, Q 0, R 0: mean .25, standard error .188.
    rows = hand_rows()
    next(one for one in rows if one["rollout_id"] == "student-prefix/2/R0")["grade_rule"] = "wrong"
    found = hand(rows).loc[("usable_share", BACK, 2.0, category(3))]
    assert math.isnan(found.value) and found.note == NO_DENOMINATOR


def test_rollouts_that_could_not_be_handed_back_are_left_out_and_counted() -> None:
    rows = [one for one in hand_rows() if one["rollout_id"] != "hand-back/2/3/Q0"]
    found = hand(rows)
    gain = found.loc[(GAIN, BACK, 2.0, category(3))]
    assert gain.value == pytest.approx(2 / 3) and gain.rollouts == 3
    assert "1 of 4 rollouts could not be handed back, left out" in gain.note
    assert found.loc[(GAIN, CONTROL, 2.0, category(0)), "rollouts"] == 4


def test_a_length_that_no_rollout_reaches_is_undefined_and_says_so(by_hand: pd.DataFrame) -> None:
    for what in (GAIN, "usable_share", "accuracy", "teacher_finished_share"):
        found = by_hand.loc[(what, BACK, 8.0, category(3))]
        assert math.isnan(found.value) and found.note == "no rollouts" and found.rollouts == 0
    gain = by_hand.loc[(GAIN, BACK, 8.0, category(3))]
    assert math.isnan(gain.p_value) and math.isnan(gain.p_value_holm) and math.isnan(gain.low)


def test_at_temperature_0_the_controls_say_that_they_are_identities() -> None:
    found = hand(hand_rows(), greedy=True).reset_index()
    said = found[found.note.str.contains(IDENTITY, regex=False)]
    assert set(zip(said.what, said.condition)) == {(GAIN, CONTROL), (SPLIT, CONTROL)}
    assert not hand(hand_rows()).note.str.contains(IDENTITY, regex=False).any()


def test_a_share_of_a_loss_says_so() -> None:
    """The teacher that finishes itself is wrong where the student is correct."""
    names = [f"{letter}0" for letter in "ABCDEFGHIJKL"]
    rows = [row("student", name, 1, 9) for name in names]
    rows += [row("teacher", name, 1, 9) for name in names]
    rows += [row("student-prefix", name, int(name < "C"), 9) for name in names]
    rows += [row("hand-back-teacher", name, 0, 9) for name in names]
    rows += [
        row("hand-back", name, int(name < "G"), 9, count) for name in names for count in (0, 3)
    ]
    found = hand(rows).loc[("usable_share", BACK, 2.0, category(3))]
    assert found.value == pytest.approx(-6 / -10) and WORSE in found.note


# The closed form against every possible text


def test_closed_forms_are_sums_over_all_texts() -> None:
    world, room, length = markov.decaying_world(), 5, 2
    law = markov.DecayLaw(world, room)
    for count in (0, 1, 2, 3, 9):
        sums: dict[str, float] = defaultdict(float)
        for kind, share in enumerate(world.shares):
            gold = markov.TOKENS.index(markov.GOLD[kind])
            left = room - length
            for prefix, mass in markov.paths(world.student.law, kind, 0, length):
                if len(prefix) < length:
                    continue
                cut = min(count, left)
                for text, chance in markov.paths(world.teacher.law, kind, prefix[-1], cut):
                    weight, ended = share * mass * chance, len(text) < cut or count >= left
                    sums["open"] += weight
                    sums["ended"] += weight * ended
                    last = (*prefix, *text)[-1]
                    if ended:
                        sums["correct"] += weight * (last == gold)
                        continue
                    for more, rest in markov.paths(world.student.law, kind, last, left - count):
                        sums["correct"] += weight * rest * ((last, *more)[-1] == gold)
        assert law.handed_back(length, count) == pytest.approx(sums["correct"] / sums["open"])
        assert law.teacher_finished(length, count) == pytest.approx(sums["ended"] / sums["open"])


def test_the_closed_form_has_both_controls() -> None:
    law = markov.DecayLaw(markov.decaying_world(), MAX_TOKENS)
    for length in LENGTHS[1:]:
        assert law.handed_back(length, 0) == pytest.approx(law.author_outcome(length))
        assert law.handed_back(length, MAX_TOKENS) == pytest.approx(law.prefixed(length))


# Measured against the closed form, over whole runs


@cache
def replicates() -> pd.DataFrame:
    """The measurements of many whole runs, with the truth in a column of its own."""
    world, frames = markov.decaying_world(), []
    for seed in range(REPLICATES):
        sampling = SamplingSettings(1.0, seed=seed)
        plan = DecayPlan(LENGTHS, SAMPLES, MAX_TOKENS, (), sampling, 10**6, hand_back=COUNTS)
        settings = Settings(LENGTHS, markov.RULE, COUNTS, seed=seed)
        rollouts = markov.rollouts(world, plan, PROBLEMS)
        frames.append(measure(rollouts, settings).assign(replicate=seed))
    truth = markov.DecayLaw(world, MAX_TOKENS).hand_back(LENGTHS[1:], COUNTS)
    every = pd.concat(frames, ignore_index=True)
    every["truth"] = [truth[key] for key in every[KEY].itertuples(index=False, name=None)]
    assert set(truth) == set(every[KEY].itertuples(index=False, name=None))
    every["covered"] = every.truth.between(every.low, every.high)
    every["band_covered"] = every.truth.between(every.band_low, every.band_high)
    return every


@pytest.mark.slow
def test_every_mean_over_runs_is_that_of_the_closed_form() -> None:
    rows = replicates()
    means = rows[rows.what != "usable_share"]  # a ratio has a small bias: its interval is tested
    assert means.value.notna().all()
    groups = means.groupby(KEY)
    errors = groups.value.std() / math.sqrt(REPLICATES)
    # A teacher whose budget is full has always finished: no error, and no distance.
    distances = ((groups.value.mean() - groups.truth.first()).abs() / errors).fillna(0.0)
    assert len(distances) == 2 * (3 * 4 + 4)
    assert groups.value.std()["teacher_finished_share"].eq(0).sum() == 1
    assert (distances < 4).all(), distances[distances >= 4]


@pytest.mark.slow
def test_every_interval_and_band_covers_the_closed_form_at_its_rate() -> None:
    rows = replicates()
    with_interval = rows[rows.low.notna()]
    rates = with_interval.groupby(KEY).covered.mean()
    least = float(binom.ppf(0.001, REPLICATES, 0.95)) / REPLICATES
    assert (rates >= least).all(), rates[rates < least]
    assert 0.93 <= rates.mean() <= 0.98, rates.mean()
    banded = rows[rows.band_low.notna()]
    family = ["what", "condition", banded.category == category(0), "replicate"]
    joint = banded.groupby(family).band_covered.all().groupby(level=[0, 1, 2]).mean()
    assert len(joint) == 5 and (joint >= 0.85).all() and joint.mean() >= 0.92, joint


def test_holm_and_the_band_are_over_lengths_and_teacher_tokens_alike() -> None:
    world = markov.decaying_world()
    plan = DecayPlan(
        LENGTHS, SAMPLES, MAX_TOKENS, (), SamplingSettings(1.0, seed=3), 10**6, hand_back=COUNTS
    )
    frame = measure(markov.rollouts(world, plan, 20), Settings(LENGTHS, markov.RULE, COUNTS))
    asked = frame[(frame.what == GAIN) & (frame.condition == BACK)]
    assert len(asked) == 6
    assert asked.p_value_holm.tolist() == pytest.approx(holm(asked.p_value).tolist())
    for name in (category(0), category("to the end")):
        control = frame[(frame.what == GAIN) & (frame.category == name)]
        assert control.p_value_holm.tolist() == pytest.approx(holm(control.p_value).tolist())


@pytest.mark.slow
def test_the_nearest_wrong_formulas_are_far_from_what_is_measured() -> None:
    law = markov.DecayLaw(markov.decaying_world(), MAX_TOKENS)
    own, late = law.author_outcome(2), law.author_outcome(6)
    wrong = {
        "outcomes of all rollouts": (6, 4, law.handed_back(6, 4) - law.accuracy("student")),
        "against the teacher alone": (2, 4, law.handed_back(2, 4) - law.reference(2)),
        "the teacher's whole continuation": (6, 4, law.prefixed(6) - late),
        "one teacher token less": (2, 1, law.handed_back(2, 0) - own),
    }
    rows = replicates()
    for name, (length, count, value) in wrong.items():
        at = rows[(rows.what == GAIN) & (rows.condition == BACK) & (rows.prefix_tokens == length)]
        found = at[at.category == category(count)].value
        error = found.std() / math.sqrt(REPLICATES)
        assert abs(found.mean() - value) > 4 * error, (name, value, found.mean(), error)


def test_the_simulated_coverage_is_within_its_goals() -> None:
    """The committed result: 2,000 draws of each case, nominal .95."""
    path = Path(__file__).parents[2] / "benchmarks" / "results" / "coverage-hand-back.json"
    found = json.loads(path.read_text())
    assert found["draws"] == 2000
    rows = [row for row in found["rows"] if "accuracy" not in row["what"]]
    assert {row["problems"] for row in rows} == {30, 200} and len(rows) == 2 * (8 + 6 + 2 + 5)
    for row in rows:
        low, high = (0.90, 0.98) if row["problems"] == 30 else (0.92, 0.97)
        assert low <= row["coverage"] <= high, row
