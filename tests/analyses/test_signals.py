"""Every number of the signals against loops over single tokens, by hand, and at its corners."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from own_parts import forgotten

import decaylab as dl
from decaylab.analyses import signals
from decaylab.analyses.signals import LOGPROBS, READ
from decaylab.maths.cumulative import horizon_of
from decaylab.maths.selection import COMPARED, Signals, select
from decaylab.runs import measurements
from decaylab.tokens.noise_floor import KEY, with_noise_floor
from decaylab.tokens.token_table import Scored, TokenTable

EDGES = (0, 3, 10, 40)
SETTINGS = signals.Settings(edges=EDGES, budget=6)
COLUMNS = (
    "reverse_kl",
    "student_entropy",
    "teacher_entropy",
    "student_overlap_mass",
    "teacher_overlap_mass",
)
Columns = dict[str, NDArray[np.generic]]


def columns_of(tokens: int, rng: np.random.Generator) -> Columns:
    columns: Columns = {name: rng.random(tokens) for name in COLUMNS}
    columns["reverse_kl"] = rng.exponential(size=tokens) ** 2
    columns["top16_overlap"] = rng.integers(0, 17, tokens).astype(np.int8)
    return columns


def scored(
    seed: int = 0, rollouts: int = 40, problems: int = 10, checkpoint: str = "base"
) -> Scored:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 30, rollouts)
    columns = columns_of(int(lengths.sum()), rng)
    return Scored(
        checkpoint,
        "fresh",
        TokenTable(lengths, rng.integers(0, problems, rollouts), problems, columns),
    )


def by_hand(kl: list[list[float]], problems: list[int]) -> Scored:
    """Rollouts of this reverse KL; the entropies fall with the position."""
    lengths = np.array([len(rollout) for rollout in kl])
    columns = columns_of(int(lengths.sum()), np.random.default_rng(0))
    columns["reverse_kl"] = np.array([nats for rollout in kl for nats in rollout])
    return Scored(
        "base", "fresh", TokenTable(lengths, np.array(problems), max(problems) + 1, columns)
    )


def rollouts_of(one: Scored, column: str) -> list[NDArray[np.float64]]:
    values = np.asarray(one.tokens[column], dtype=np.float64)
    return np.split(values, np.cumsum(one.tokens.lengths)[:-1])


def pick(frame: pd.DataFrame, what: str, condition: str = "all") -> pd.DataFrame:
    return frame[(frame.what == what) & (frame.condition == condition)]


def only(frame: pd.DataFrame, what: str, condition: str) -> pd.Series:
    rows = pick(frame, what, condition)
    assert len(rows) == 1
    return rows.iloc[0]


def slow_error(values: list[float], problems: list[int]) -> float:
    """Clustered standard error of a mean over rollouts, one problem at a time."""
    mean, found = sum(values) / len(values), sorted(set(problems))
    squares = [
        sum(v - mean for v, p in zip(values, problems) if p == problem) ** 2 for problem in found
    ]
    return math.sqrt(len(found) / (len(found) - 1) * sum(squares)) / len(values)


# --- by position
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "column", "whole"),
    [(name, name, 1) for name in COLUMNS] + [("overlap_ratio", "top16_overlap", 16)],
)
def test_a_bin_holds_the_mean_over_its_tokens(what: str, column: str, whole: int) -> None:
    one = scored()
    rows = pick(signals.measure([one], SETTINGS), what)
    assert rows.position_low.tolist() == [0, 3, 10, 40] and rows.position_high.tolist() == [
        3,
        10,
        40,
        math.inf,
    ]
    for row in rows.itertuples():
        inside = [
            value / whole
            for rollout in rollouts_of(one, column)
            for position, value in enumerate(rollout)
            if row.position_low <= position < row.position_high
        ]
        assert row.tokens == len(inside)
        assert row.rollouts == sum(
            len(rollout) > row.position_low for rollout in rollouts_of(one, column)
        )
        if inside:
            assert row.value == pytest.approx(np.mean(inside)) and math.isnan(row.low)
        else:
            assert math.isnan(row.value) and row.note == "no tokens" and row.problems == 0


def test_rows_have_units_keys_of_their_own_and_what_they_come_from() -> None:
    frame = signals.measure(
        [scored(), scored(1, checkpoint="step-50")], signals.Settings(EDGES, run="run-1", seed=3)
    )
    assert tuple(frame.columns) == measurements.COLUMNS and not frame.duplicated(KEY).any()
    assert set(frame.checkpoint) == {"base", "step-50"} and set(frame["view"]) == {"fresh"}
    assert set(frame.run) == {"run-1"} and set(frame.seed) == {3} and set(frame.level) == {0.95}
    assert (frame.estimand != "").all() and frame.noise_floor.isna().all()
    units = frame.groupby("what")["unit"].agg(set).to_dict()
    for what in ("student_entropy", "teacher_entropy", "reverse_kl"):
        assert units[what] == {"nats"}
    for what in ("cumulative_kl_position", "cumulative_kl_horizon", "selector_mean_position"):
        assert units.pop(what) == {"tokens"}
    fractions = frame[frame.unit == "fraction"]
    assert fractions[["value", "low", "high"]].stack().dropna().between(0, 1).all()
    assert set(frame.unit) == {"nats", "tokens", "fraction"}


def test_only_a_checkpoints_own_rollouts_are_measured() -> None:
    one = scored()
    frozen = Scored("base", "frozen", one.tokens)
    assert len(signals.measure([frozen], SETTINGS)) == 0
    pd.testing.assert_frame_equal(
        signals.measure([frozen, one], SETTINGS), signals.measure([one], SETTINGS)
    )


@pytest.mark.parametrize("edges", [(), (1, 5), (0, 5, 5), (0, 9, 4)])
def test_edges_that_do_not_rise_from_zero_are_refused(edges: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="edges must ascend from 0"):
        signals.measure([scored()], signals.Settings(edges))


# --- cumulative KL
# ---------------------------------------------------------------------------


def test_cumulative_kl_by_hand_in_both_countings() -> None:
    """Means 3, 2, 1 to the horizon 3 of the shortest rollout: 45 % of 6 = 2.7 lie before .9; before
    token 2 lie 5/6.

    Sums 6, 4, 2, 8: 45 % of 20 = 9 lie before 1.75, and before token 2 half.
    """
    frame = signals.measure(
        [by_hand([[4, 2, 1, 8], [2, 2, 1]], [0, 1])], signals.Settings((0, 2, 3, 4))
    )
    for condition, horizon, position, shares in (
        ("survivors", 3, 0.9, [5 / 6, 1, math.nan]),
        ("mass", 4, 1.75, [0.5, 0.6, 1]),
    ):
        assert only(frame, "cumulative_kl_horizon", condition).value == horizon
        assert only(frame, "cumulative_kl_threshold", condition).value == 0.45
        row = only(frame, "cumulative_kl_position", condition)
        assert row.value == pytest.approx(position) and row.unit == "tokens"
        assert row.tokens == (6 if horizon == 3 else 7) and row.rollouts == row.problems == 2
        assert row.note.endswith(f"horizon {horizon} tokens, longest rollout 4")
        rows = pick(frame, "cumulative_kl_share", condition)
        assert rows.position_high.tolist() == [2, 3, 4] and set(rows.position_low) == {0}
        assert rows.value.tolist() == pytest.approx(shares, nan_ok=True)


def test_the_two_countings_differ_in_what_a_finished_rollout_counts_for() -> None:
    """KL 1 everywhere: 45 % of the survivors' curve lie at 45 % of the horizon, but earlier in the
    sum of all tokens."""
    one = scored(rollouts=100)
    kl = np.ones(len(one.tokens))
    table = TokenTable(
        one.tokens.lengths, one.tokens.problems, 10, {**one.tokens._columns, "reverse_kl": kl}
    )
    level = Scored("base", "fresh", table)
    frame = signals.measure([level], SETTINGS)
    horizon = horizon_of(one.tokens.lengths)
    survivors, mass = (
        only(frame, "cumulative_kl_position", name) for name in ("survivors", "mass")
    )
    assert (
        survivors.value == pytest.approx(0.45 * horizon)
        and survivors.low == survivors.high == survivors.value
    )
    assert mass.value < survivors.value - 2 and mass.low < mass.value < mass.high
    assert survivors.position_high == math.inf, "a horizon of its own is no coordinate"


def test_a_horizon_by_setting_holds_for_every_checkpoint_and_is_the_coordinate() -> None:
    frame = signals.measure(
        [by_hand([[4, 2, 1, 8], [2, 2, 1]], [0, 1])], signals.Settings((0, 2, 3), horizon=4)
    )
    row = only(frame, "cumulative_kl_position", "survivors")
    assert row.position_high == 4 and row.value == pytest.approx(3 + 0.3 / 8), (
        "45 % of 3 + 2 + 1 + 8 = 14 is 6.3"
    )
    assert only(frame, "cumulative_kl_horizon", "survivors").value == 4
    beyond = signals.measure([by_hand([[4, 2], [2]], [0, 1])], signals.Settings((0, 1), horizon=4))
    row = only(beyond, "cumulative_kl_position", "survivors")
    assert math.isnan(row.value) and row.note.startswith(
        "no rollout reaches the horizon; horizon 4 tokens"
    )
    assert only(beyond, "cumulative_kl_position", "mass").value == pytest.approx(0.45 * 8 / 6), (
        "8 nats, 6 in position 0"
    )


def test_another_share_moves_the_position_along_the_curve() -> None:
    one = scored()
    positions = [
        only(
            signals.measure([one], signals.Settings(EDGES, share=share)),
            "cumulative_kl_position",
            "survivors",
        ).value
        for share in (0.1, 0.45, 0.9)
    ]
    assert positions == sorted(positions) and len(set(positions)) == 3


# --- concentration
# ---------------------------------------------------------------------------


def test_concentration_by_hand() -> None:
    """25 tokens, 1 % is 1 token, 5 % 2, 10 % 3 (rounded up): of 7 5 4 and 22 ones = 38 nats 7, 12,
    16; the top 6: 19.

    The other rollout has 3 tokens: 1 of each share, 2 of 4 nats, and all of it for a budget of 6.
    """
    frame = signals.measure(
        [by_hand([[1.0] * 11 + [5, 7, 4] + [1.0] * 11, [1, 2, 1]], [0, 1])], SETTINGS
    )
    for condition, first, second in (
        ("top-1-percent", 7 / 38, 0.5),
        ("top-5-percent", 12 / 38, 0.5),
        ("top-10-percent", 16 / 38, 0.5),
        ("top-6-tokens", 19 / 38, 1),
    ):
        row = only(frame, "kl_concentration", condition)
        assert row.value == pytest.approx((first + second) / 2), condition
        assert row.rollouts == 2 and row.tokens == 28
    assert (
        only(frame, "kl_concentration", "top-6-tokens").note
        == "1 rollouts of at most 6 tokens, whose share is 1"
    )


def test_concentration_agrees_with_a_sort_of_every_rollout_and_its_clustered_error() -> None:
    one = scored()
    frame = signals.measure([one], SETTINGS)
    for condition, size in (("top-6-tokens", None), ("top-10-percent", 10), ("top-1-percent", 1)):
        shares = []
        for kl in rollouts_of(one, "reverse_kl"):
            taken = (
                6 if size is None else next(n for n in range(1, 99) if 100 * n >= size * len(kl))
            )
            shares.append(sum(sorted(kl, reverse=True)[:taken]) / sum(kl))
        row = only(frame, "kl_concentration", condition)
        assert row.value == pytest.approx(np.mean(shares))
        assert row.low < row.value < row.high and row.estimand == "mean over rollouts"
        assert row.standard_error == pytest.approx(
            slow_error(shares, one.tokens.problems.tolist()), rel=0.35
        )


def test_rollouts_without_kl_are_left_out_and_counted() -> None:
    frame = signals.measure([by_hand([[1, 3], [0, 0], [2, 2]], [0, 1, 2])], SETTINGS)
    row = only(frame, "kl_concentration", "top-1-percent")
    assert row.value == pytest.approx((0.75 + 0.5) / 2) and (
        row.rollouts,
        row.problems,
        row.tokens,
    ) == (2, 2, 4)
    assert row.note == "1 rollouts without KL, left out"
    nothing = only(
        signals.measure([by_hand([[0, 0], [0]], [0, 1])], SETTINGS),
        "kl_concentration",
        "top-1-percent",
    )
    assert (
        math.isnan(nothing.value)
        and nothing.note == "nothing to average; 2 rollouts without KL, left out"
    )


# --- selectors
# ---------------------------------------------------------------------------


def test_selector_overlap_by_hand() -> None:
    """10 tokens with the KL 9 1 1 1 1 1 1 1 9 1 = 26 and a budget of 2: prefix {0, 1}, top {0, 8},
    suffix {8, 9}.

    prefix and top share 1 of 3 positions: 1/3 (1/2 by the size of one mask). The top covers 18/26
    at mean position 4.
    """
    kl = [9.0, 1, 1, 1, 1, 1, 1, 1, 9, 1]
    frame = signals.measure(
        [by_hand([kl, kl, [5, 5]], [0, 1, 2])], signals.Settings((0,), budget=2)
    )
    overlap = frame[frame.what == "selector_overlap"].set_index("condition")
    assert (
        overlap.value["prefix|top-reverse-kl"]
        == overlap.value["suffix|top-reverse-kl"]
        == pytest.approx(1 / 3)
    )
    assert overlap.value["prefix|suffix"] == 0
    covered = frame[frame.what == "selector_kl_share"].set_index("condition").value
    named = ["prefix", "suffix", "middle", "top-reverse-kl"]
    assert covered[named].tolist() == pytest.approx([10 / 26, 10 / 26, 2 / 26, 18 / 26])
    position = frame[frame.what == "selector_mean_position"].set_index("condition").value
    assert position[named].tolist() == [0.5, 8.5, 4.5, 4]
    assert len(overlap) == 45 and len(covered) == len(position) == 10
    left_out = "1 rollouts of at most 2 tokens, left out"
    assert set(overlap.note) == {left_out, f"the same in every problem: no interval; {left_out}"}
    assert set(overlap.rollouts) == {2}


def test_selectors_agree_with_sets_of_positions_rollout_by_rollout() -> None:
    one = scored()
    frame = signals.measure([one], SETTINGS)
    columns = [rollouts_of(one, name) for name in READ]
    long = [i for i, length in enumerate(one.tokens.lengths) if length > SETTINGS.budget]
    rng, masks = np.random.default_rng(SETTINGS.seed), []
    for i in long:
        own = Signals(*(column[i] for column in columns), *np.zeros((2, one.tokens.lengths[i])))
        masks.append(
            {name: set(np.flatnonzero(select(name, own, 6, rng)).tolist()) for name in COMPARED}
        )
    for a, b in (
        ("prefix", "top-all-three"),
        ("random", "top-reverse-kl"),
        ("top-student-entropy", "top-teacher-entropy"),
    ):
        jaccard = [len(mask[a] & mask[b]) / len(mask[a] | mask[b]) for mask in masks]
        row = only(frame, "selector_overlap", f"{a}|{b}")
        assert row.value == pytest.approx(np.mean(jaccard)) and row.rollouts == len(long)
    for name in COMPARED:
        share = [
            sum(columns[0][i][p] for p in mask[name]) / sum(columns[0][i])
            for i, mask in zip(long, masks)
        ]
        assert only(frame, "selector_kl_share", name).value == pytest.approx(np.mean(share))
        position = np.mean([np.mean(list(mask[name])) for mask in masks])
        assert only(frame, "selector_mean_position", name).value == pytest.approx(position)
    shares = frame[frame.what == "selector_kl_share"].set_index("condition").value
    assert shares.idxmax() == "top-reverse-kl"


def test_selectors_that_are_added_are_compared_by_what_they_choose() -> None:
    """One chooses at most two tokens by the log-ratio, one nothing; `random` stays as it was."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 30, 12)
    logprobs = {name: -rng.exponential(size=int(lengths.sum())) for name in LOGPROBS}
    columns = columns_of(int(lengths.sum()), rng) | logprobs
    table = TokenTable(lengths, rng.integers(0, 5, 12), 5, columns)
    each = Scored("base", "fresh", table)

    def surest(signals: Signals, budget: int, rng: np.random.Generator) -> np.ndarray:
        gap = signals.student_logprob - signals.teacher_logprob
        return 0.1 * (gap > np.sort(gap)[-3])

    with forgotten():
        dl.selector("surest")(surest)
        dl.selector("none")(lambda signals, budget, rng: rng.random(len(signals[0])) * 0)
        frame = signals.measure([each], replace(SETTINGS, add_selectors=("surest", "none")))
    usual = signals.measure([each], SETTINGS)
    old = frame[~frame.condition.str.contains("surest|none")].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, usual)

    gap = logprobs["student_logprob"] - logprobs["teacher_logprob"]
    overlaps, positions, shares = [], [], []
    for start, length in zip(table.starts, table.lengths, strict=True):
        if length > 6:
            own, kl = gap[start : start + length], table["reverse_kl"][start : start + length]
            two = set(sorted(range(length), key=lambda i: -own[i])[:2])
            overlaps.append(len(two & set(range(6))) / len(two | set(range(6))))
            positions.append(np.mean(list(two)))
            shares.append(sum(kl[i] for i in two) / sum(kl))
    for what, condition, values in (
        ("selector_overlap", "prefix|surest", overlaps),
        ("selector_mean_position", "surest", positions),
        ("selector_kl_share", "surest", shares),
    ):
        assert only(frame, what, condition).value == pytest.approx(np.mean(values)), what
    nothing = only(frame, "selector_mean_position", "none")
    assert math.isnan(nothing.value) and only(frame, "selector_kl_share", "none").value == 0
    assert (
        f"{len(overlaps)} rollouts where none is chosen"
        in only(frame, "selector_overlap", "surest|none").note
    )


def test_selectors_are_undefined_where_no_rollout_is_longer_than_the_budget() -> None:
    """At 29 tokens, the longest here, every selector takes everything: an overlap of 1 would say
    nothing."""
    frame = signals.measure([scored()], signals.Settings(EDGES, budget=29))
    rows = frame[frame.what.str.startswith("selector_")]
    assert len(rows) == 65 and rows.value.isna().all() and set(rows.rollouts) == {0}
    assert set(rows.note) == {"nothing to average; 40 rollouts of at most 29 tokens, left out"}


def test_the_random_selector_repeats_with_its_seed() -> None:
    def overlap(seed: int) -> float:
        frame = signals.measure([scored()], signals.Settings(EDGES, budget=6, seed=seed))
        return float(only(frame, "selector_overlap", "prefix|random").value)

    assert overlap(1) == overlap(1) != overlap(2)


# --- corners
# ---------------------------------------------------------------------------


def test_the_noise_floor_reaches_every_number_though_the_subset_has_its_own_horizon() -> None:
    one = scored(rollouts=60)
    chosen = np.arange(60) % 3 == 0
    again = one.tokens.only(chosen)
    columns = {name: again[name] for name in one.tokens._columns}
    columns["reverse_kl"] = np.asarray(columns["reverse_kl"]) * np.random.default_rng(9).uniform(
        0.9, 1.1, len(again)
    )
    rescored = TokenTable(again.lengths, again.problems, again.problem_count, columns)
    twice = Scored("base", "fresh", one.tokens, chosen, rescored)
    frame = with_noise_floor(lambda some: signals.measure(some, SETTINGS), [twice])
    assert horizon_of(again.lengths) != horizon_of(one.tokens.lengths)
    for condition in ("survivors", "mass"):
        assert only(frame, "cumulative_kl_position", condition).noise_floor > 0
    kl = pick(frame, "reverse_kl")
    assert (kl.noise_floor[kl.tokens > 0] > 0).all()
    assert (pick(frame, "student_entropy").noise_floor.dropna() == 0).all()


def test_one_rollout_one_problem_or_none_give_rows_without_intervals() -> None:
    full = signals.measure([scored()], SETTINGS)
    single = signals.measure([by_hand([[1, 2, 3, 4, 5, 6, 7, 8]], [0])], SETTINGS)
    empty = Scored(
        "base",
        "fresh",
        TokenTable(np.zeros(0), np.zeros(0), 3, columns_of(0, np.random.default_rng(0))),
    )
    none = signals.measure([empty], SETTINGS)
    for frame in (single, none):
        assert frame[KEY].equals(full[KEY]), "the same rows, whatever the data"
        assert frame[["low", "high"]].isna().all(axis=None)
        stated = frame.what.isin(
            ["cumulative_kl_horizon", "cumulative_kl_threshold", "reverse_kl_largest_problem"]
        )
        assert (frame.note[~stated] != "").all()
    assert (
        none.value[~none.what.isin(["cumulative_kl_horizon", "cumulative_kl_threshold"])]
        .isna()
        .all()
    )
    assert only(single, "cumulative_kl_position", "survivors").value == pytest.approx(
        5 + 1.2 / 6
    ), "45 % of 36 is 16.2"
