"""Values along rollouts against their closed form, and by hand: what a prefix and a segment is,
which draws choose and which measure, what is undefined."""

from __future__ import annotations

import math
from typing import Any

import markov
import numpy as np
import pandas as pd
import pytest
from markov_values import LOG_RATIO, ValueLaw, collected, sampled

from decaylab.analyses import value_signals, values
from decaylab.rollouts.value_draws import ValuePlan
from decaylab.runs.value_prefixes import POSITION, SIGNALS, Settings, prefixes, segments
from decaylab.runs.vocabulary import COMPARISONS

GRID, MAX_TOKENS, DRAWS = (0, 2, 4), 12, 4
WORLD = markov.decaying_world()
LAW = ValueLaw(WORLD, MAX_TOKENS, GRID)
SETTINGS = Settings(GRID, markov.RULE)
BY_HAND = Settings(GRID, "rule")
BY_POSITION, SAME_POSITION, SAME_PROBLEM = COMPARISONS


# Against the law


@pytest.fixture(scope="module")
def run() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rollouts and tokens of a run by the product's own stages."""
    return collected(WORLD, 50, 2, ValuePlan(GRID, DRAWS), MAX_TOKENS, seed=3)


@pytest.fixture(scope="module")
def measured(run: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return measure(prefixes(*run, SETTINGS))


@pytest.fixture(scope="module")
def many() -> pd.DataFrame:
    """The prefixes of 2,000 problems."""
    return sampled(LAW, 2000, 2, DRAWS, np.random.default_rng(1))


def measure(found: pd.DataFrame, settings: Settings = SETTINGS) -> pd.DataFrame:
    parts = values.measure(found, settings), value_signals.measure(found, settings)
    return pd.concat(parts, ignore_index=True)


def near(row: Any, truth: float) -> None:
    """Within four standard errors, the counts being those of the row."""
    assert abs(row.value - truth) < 4 * row.standard_error, (row, truth)


def rows(frame: pd.DataFrame, what: str, **at: Any) -> pd.DataFrame:
    found = frame[frame.what == what]
    for column, value in at.items():
        found = found[found[column] == value]
    return found


@pytest.fixture(scope="module")
def of_many(many: pd.DataFrame) -> pd.DataFrame:
    """The measurements of these prefixes, without a table of rollouts."""
    whole = values._Values(many, segments(many, GRID), SETTINGS)
    return values.to_frame([*whole.by_position(), *whole.scores()])


def test_values_and_the_advantage_are_those_of_the_law(
    many: pd.DataFrame, of_many: pd.DataFrame
) -> None:
    frame = of_many
    for position in GRID:
        for author in ("student", "teacher"):
            row = rows(frame, "value", condition=author, prefix_tokens=position).iloc[0]
            near(row, LAW.value(author, position))
            assert row.band_low <= row.low <= row.value <= row.high <= row.band_high
        row = rows(frame, "value_advantage", prefix_tokens=position).iloc[0]
        near(row, LAW.advantage(position))
        assert row.rollouts == (many.position == position).sum()
        assert row.standard_error < 0.02  # the student's value there is more than .15 away


def test_a_run_of_the_stages_has_the_values_of_the_law(measured: pd.DataFrame) -> None:
    for position in GRID:
        for author in ("student", "teacher"):
            row = rows(measured, "value", condition=author, prefix_tokens=position).iloc[0]
            near(row, LAW.value(author, position))
    for start, end in ((0, 2), (2, 4)):
        near(
            rows(measured, "score_covariance", position_low=start).iloc[0],
            LAW.covariance(start, end),
        )


def test_the_covariance_of_score_and_change_is_that_of_all_texts(of_many: pd.DataFrame) -> None:
    for start, end in ((0, 2), (2, 4)):
        row = rows(of_many, "score_covariance", position_low=start).iloc[0]
        near(row, LAW.covariance(start, end))
        assert 15 * row.standard_error < row.value


def test_aurocs_are_concordant_pairs_over_pairs(many: pd.DataFrame) -> None:
    behind = many[many.position > 0]
    labels = value_signals._Labels(
        behind, behind.student_right.to_numpy(), behind.student_draws.to_numpy()
    )

    def area(signal: str, comparison: str) -> Any:
        return labels.area(behind[signal].to_numpy(dtype=float), comparison, 0.95)

    near(area(POSITION, BY_POSITION), LAW.auroc_of_position(2000, 2))
    for comparison, same in ((SAME_POSITION, False), (SAME_PROBLEM, True)):
        near(area(LOG_RATIO, comparison), LAW.auroc_of_log_ratio(2000, 2, same))
        assert area(POSITION, comparison).value == 0.5


def test_one_half_of_the_draws_chooses_and_the_other_one_measures() -> None:
    # nothing changes: what the choosing half sees fall is chance alone
    flat = sampled(LAW, 400, 2, DRAWS, np.random.default_rng(0))
    flat = flat[flat.position < 4].assign(written=MAX_TOKENS)
    flat = flat[flat.groupby("rollout_id")["position"].transform("size") == 2]
    rng = np.random.default_rng(2)
    for name, size in (("first", 2), ("second", 2), ("student", 4)):
        flat[f"{name}_right"] = rng.binomial(size, 0.5, len(flat))
    between = segments(flat.reset_index(drop=True), (0, 2))
    between = between.only(between.starts.position.to_numpy() == 0)
    found = value_signals.to_frame(value_signals._falls(between, SETTINGS))
    chose, other = rows(found, "fall_change").itertuples()
    assert (chose.category, other.category) == ("by the half that chose", "by the other half")
    assert chose.high < -0.4 and abs(other.value) < 4 * other.standard_error
    assert rows(found, "fall_share").value.iloc[0] > 0.2


def test_falls_and_rises_are_known_by_no_signal_of_the_value_alone() -> None:
    """Values that differ and do not change: a fall of the estimate is likelier in the middle."""
    rng, areas = np.random.default_rng(3), []
    for _ in range(30):
        flat = sampled(LAW, 60, 2, DRAWS, rng)
        flat = flat[flat.position < 4].assign(written=MAX_TOKENS)
        flat = flat[flat.groupby("rollout_id")["position"].transform("size") == 2]
        level = rng.choice([0.02, 0.5], len(flat) // 2).repeat(2)
        right = rng.binomial(8, level)
        flat = flat.assign(student_right=right, student_draws=8, signal=level)
        between = segments(flat.reset_index(drop=True), (0, 2))
        between = between.only(between.starts.position.to_numpy() == 0)
        labels = value_signals._fall_labels(between)
        areas.append(labels.area(between.starts["signal"].to_numpy(), BY_POSITION, 0.95).value)
    assert abs(np.mean(areas) - 0.5) < 4 * np.std(areas) / np.sqrt(30)


def test_falls_and_rises_are_pairs_of_draws_that_disagree() -> None:
    rollouts, tokens = by_hand()
    between = segments(prefixes(rollouts, tokens, BY_HAND), (0, 2, 4))
    labels = value_signals._fall_labels(between)
    for number, (right, all_pairs) in enumerate(zip(labels.right, labels.number, strict=True)):
        start, drawn = between.starts[["student_right", "student_draws"]].iloc[number]
        first = [1] * start + [0] * (drawn - start)
        if between.ended[number]:
            then = [between.starts.outcome.iloc[number]] * drawn
        else:
            end, size = between.ends[["student_right", "student_draws"]].iloc[number]
            then = [1] * end + [0] * (size - end)
        pairs = [(a, b) for a in first for b in then]
        assert (right, all_pairs) == (pairs.count((1, 0)), sum(a != b for a, b in pairs))


# By hand: two rollouts, of which the first ends behind 3 tokens and the second reaches the budget


def drawn(condition: str, source: str, position: int, right: str) -> list[dict[str, Any]]:
    """Draws of a prefix; right: 1 for a correct one, in order."""
    row = {
        "condition": condition,
        "problem_id": source[-1],
        "prefix_tokens": position,
        "prefix_rollout_id": source,
        "response_ids": [1],
        "tokens": 1,
    }
    verdicts = {"1": "correct", "0": "wrong"}
    return [row | {"rollout_id": "", "grade_rule": verdicts[one]} for one in right]


def by_hand() -> tuple[pd.DataFrame, pd.DataFrame]:
    own = {"condition": "student", "prefix_tokens": 0, "prefix_rollout_id": ""}
    table = [
        own | {"rollout_id": "own/a", "problem_id": "a", "response_ids": [1, 1, 1, 0], "tokens": 3},
        own | {"rollout_id": "own/b", "problem_id": "b", "response_ids": [1] * 6, "tokens": 6},
    ]
    table[0]["grade_rule"], table[1]["grade_rule"] = "correct", "no_answer"
    for source, position, student, teacher in (
        ("own/a", 0, "1100", "1111"),
        ("own/a", 2, "1011", "1110"),
        ("own/b", 0, "0001", "0000"),
        ("own/b", 2, "0010", "1000"),
        ("own/b", 4, "0000", "0000"),
    ):
        table += drawn("student-value", source, position, student)
        table += drawn("teacher-value", source, position, teacher)
    tokens = []
    for source, length in (("own/a", 4), ("own/b", 6)):
        for position in range(length):
            number = float(position + 1 + 10 * (source == "own/b"))
            scores = {"reverse_kl": number, "student_entropy": 2 * number}
            scores |= {"teacher_entropy": 3 * number, "student_logprob": -number}
            scores |= {"teacher_logprob": -2.5 * number}
            tokens.append({"rollout_id": source, "position": position, **scores})
    return pd.DataFrame(table), pd.DataFrame(tokens)


def test_a_prefix_has_its_draws_and_what_was_written_before_it() -> None:
    found = prefixes(*by_hand(), BY_HAND)
    assert list(zip(found.rollout_id, found.position)) == [
        *(("own/a", 0), ("own/a", 2), ("own/b", 0), ("own/b", 2), ("own/b", 4))
    ]
    assert found.student_right.tolist() == [2, 3, 1, 1, 0]
    assert found.teacher_right.tolist() == [4, 3, 0, 1, 0]
    assert found.first_right.tolist() == [2, 1, 0, 0, 0]
    assert found.second_right.tolist() == [0, 2, 1, 1, 0]
    assert found.outcome.tolist() == [1, 1, 0, 0, 0] and found.written.tolist() == [3] * 2 + [6] * 3
    at = found.iloc[1]
    assert [at[name] for name in SIGNALS] == [2, 1.5, 3.5, 3, 6, 4.5, 9, -4.5, -3.75]
    # the window behind the last position is as wide as the one before it
    assert found.iloc[4]["KL of the next window"] == 15.5
    before = found[found.position == 0][[*SIGNALS]]
    defined = before.columns[before.notna().all()]
    assert set(SIGNALS) - set(defined) == {
        *("KL so far", "student entropy so far", "teacher entropy so far"),
        *("log-ratio so far", "teacher log-probability"),
    }


def test_a_segment_ends_at_the_next_position_or_with_the_rollout() -> None:
    between = segments(prefixes(*by_hand(), BY_HAND), GRID)
    assert between.starts.position.tolist() == [0, 2, 0, 2, 4]
    assert between.ended.tolist() == [False, True, False, False, True]
    start, end = between.both_ends("student")
    assert (end - start).tolist() == [0.25, 0.25, 0.0, -0.25, 0.0]
    assert between.end("student").draws.tolist() == [4, 0, 4, 4, 0]
    # -1.5 a token's number: tokens 1 and 2; 3 and the end; 11 and 12; 13 and 14; 15 and 16
    assert between.starts.score.tolist() == [-4.5, -10.5, -34.5, -40.5, -46.5]


def test_what_has_no_score_is_left_out_and_counted() -> None:
    rollouts, tokens = by_hand()
    read = tokens[(tokens.rollout_id != "own/b") | (tokens.position < 3)]
    found = prefixes(rollouts, read, BY_HAND)
    assert math.isnan(found.iloc[3].score) and not math.isnan(found.iloc[3]["KL so far"])
    assert math.isnan(found.iloc[4]["KL so far"])
    frame = measure(found, BY_HAND)
    scores = rows(frame, "score_covariance", position_low=2).iloc[0]
    assert scores.rollouts == 1 and "1 of 2 segments are not scored to their end" in scores.note
    area = rows(frame, "auroc", category=POSITION, view=BY_POSITION).iloc[0]
    assert area.rollouts == 2 and "1 of 3 prefixes have no score for some signal" in area.note


def test_an_end_that_was_left_out_begins_no_segment() -> None:
    rollouts, tokens = by_hand()
    lost = (rollouts.prefix_rollout_id == "own/b") & (rollouts.prefix_tokens == 2)
    between = segments(prefixes(rollouts[~lost], tokens, BY_HAND), (0, 2, 4))
    places = [*zip(between.starts.rollout_id, between.starts.position)]
    assert places == [("own/a", 0), ("own/a", 2), ("own/b", 4)]


# What is printed of it


def test_position_is_half_by_construction_where_positions_are_equal(
    measured: pd.DataFrame,
) -> None:
    for what in ("auroc", "fall_auroc"):
        for comparison in (SAME_POSITION, SAME_PROBLEM):
            row = rows(measured, what, category=POSITION, view=comparison).iloc[0]
            assert row.value == 0.5 and math.isnan(row.low) and "by construction" in row.note
        assert set(rows(measured, what).category) == set(SIGNALS)
        against = rows(measured, f"{what}_minus_position")
        assert set(against.category) == set(SIGNALS) - {POSITION}


def test_a_difference_compares_signals_in_the_direction_in_which_they_know_more(
    measured: pd.DataFrame,
) -> None:
    areas = rows(measured, "auroc", view=BY_POSITION).set_index("category").value
    known = (areas - 0.5).abs()
    for row in rows(measured, "auroc_minus_position").itertuples():
        assert row.value == pytest.approx(known[row.category] - known[POSITION])


def test_without_a_second_rollout_of_a_problem_nothing_is_compared_within_problems() -> None:
    one = sampled(LAW, 30, 1, DRAWS, np.random.default_rng(0))
    found = value_signals.measure(one, SETTINGS)
    within = rows(found, "auroc", view=SAME_PROBLEM)
    assert within.value.isna().all() and within.note.str.contains("no pair of a right").all()
    variances = values._Values(one, segments(one, GRID), SETTINGS).by_position()
    between = rows(values.to_frame(variances), "variance_between_prefixes")
    assert between.value.isna().all() and between.note.str.contains("no two prefixes").all()


def test_turning_points_are_shares_of_the_segments_between_two_positions(
    measured: pd.DataFrame, run: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    own = run[0][run[0].condition == "student"]
    reached = {position: int((own.tokens >= position).sum()) for position in GRID}
    for category in ("up", "down"):
        found = rows(measured, "turning_share", category=category)
        assert [*zip(found.position_low, found.position_high)] == [(0, 2), (2, 4), (0, 4)]
        assert found.rollouts.tolist() == [reached[2], reached[4], reached[2] + reached[4]]
        assert found.note.str.contains("rate of 0.1 over all segments").all()


def test_shares_of_the_final_length_are_counted_once_each(
    measured: pd.DataFrame, run: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    found = rows(measured, "value", view="share of the final length", condition="student")
    whole = prefixes(*run, SETTINGS)
    assert found.rollouts.sum() == len(whole)
    last = whole[whole.position >= 0.75 * whole.written.clip(lower=1)]
    assert found.iloc[-1].value == pytest.approx(last.student_right.sum() / (DRAWS * len(last)))
