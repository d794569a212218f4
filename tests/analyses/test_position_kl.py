"""Divergence by position against hand-sized tables and a Markov law whose every rollout can be
written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import markov
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from decaylab.analyses.position_kl import (
    NO_RATIO,
    NO_TOKENS,
    NOT_FINITE,
    QUANTITIES,
    Settings,
    measure,
)
from decaylab.maths.statistics import ONE_PROBLEM
from decaylab.runs.measurements import COLUMNS
from decaylab.runs.skewed_cells import MOSTLY_ALIKE, RARE_PROBLEMS
from decaylab.tokens.noise_floor import KEY, with_noise_floor
from decaylab.tokens.token_table import Scored, TokenTable

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Problem 0 has rollouts of 3 and 1 tokens, problem 1 one of 4.
LENGTHS, PROBLEMS = np.array([3, 1, 4]), np.array([0, 0, 1])
BEFORE = np.array([1.0, 2, 3, 5, 1, 4, 6, 10])
AFTER = np.array([1.0, 1, 2, 5, 1, 2, 3, 2])


def table(
    values: Floats, lengths: Ints = LENGTHS, problems: Ints = PROBLEMS, problem_count: int = 2
) -> TokenTable:
    """Every quantity a multiple of its own of the values, so that none can stand in for another."""
    columns = {quantity: values * (1 + place) for place, quantity in enumerate(QUANTITIES)}
    return TokenTable(lengths, problems, problem_count, columns)


def pair(before: TokenTable, after: TokenTable, view: str = "frozen") -> list[Scored]:
    return [Scored("base", view, before), Scored("ckpt", view, after)]


def row(frame: pd.DataFrame, what: str, low: float = 0.0, **where: Any) -> Any:
    wanted = {"what": what, "position_low": low, "condition": "all", "checkpoint": "base", **where}
    found = frame[np.all([frame[column] == value for column, value in wanted.items()], axis=0)]
    assert len(found) == 1, (wanted, len(found))
    return found.iloc[0]


# --- by hand
# ---------------------------------------------------------------------------


def test_bins_and_the_whole_response_by_hand() -> None:
    """Positions 0 and 1 hold 1 2 | 5 | 1 4: 13 / 5 = 2.6; positions from 2 on 3 | 6 10: 19 / 3.
    All: 32 / 8 = 4.

    As means of problem means: (8/3 + 5/2) / 2, (3 + 8) / 2 and (11/4 + 21/4) / 2 = 4.
    """
    expected = {"tokens": (2.6, 19 / 3, 4.0), "problems": ((8 / 3 + 5 / 2) / 2, 5.5, 4.0)}
    for estimand, values in expected.items():
        frame = measure(pair(table(BEFORE), table(AFTER)), Settings((0, 2), 2, estimand=estimand))
        for place, quantity in enumerate(QUANTITIES):
            early, late, whole = (
                row(frame, quantity),
                row(frame, quantity, 2.0),
                row(frame, f"mean_{quantity}"),
            )
            assert (early.value, late.value, whole.value) == pytest.approx(
                [x * (1 + place) for x in values]
            )
        assert [(one.position_low, one.position_high) for one in (early, late, whole)] == [
            (0, 2),
            (2, math.inf),
            (0, math.inf),
        ]
        assert [(one.tokens, one.rollouts, one.problems) for one in (early, late, whole)] == [
            (5, 3, 2),
            (3, 2, 2),
            (8, 3, 2),
        ]
        assert early.unit == "nats" and early.estimand == {"tokens": "mean over tokens"}.get(
            estimand, "mean of problem means"
        )


def test_change_relative_change_and_cascade_by_hand() -> None:
    """After: 1 1 | 5 | 1 2 = 10 / 5 = 2 and 2 | 3 2 = 7 / 3. Changes -.6 and -4; relative 10/13 - 1
    and 7/19 - 1.

    Cascade from position 1 on: after 1 2 | 2 3 2 = 10 over before 2 3 | 4 6 10 = 25, of 5 tokens
    each: .4. From position 2 on it would be 7/19.
    """
    frame = measure(pair(table(BEFORE), table(AFTER)), Settings((0, 2), rollout_length=1))
    ckpt = {"checkpoint": "ckpt"}
    changes = [row(frame, "reverse_kl_change", low, **ckpt) for low in (0.0, 2.0)]
    assert [one.value for one in changes] == pytest.approx([-0.6, -4.0])
    relative = [row(frame, "reverse_kl_relative_change", low, **ckpt) for low in (0.0, 2.0)]
    assert [one.value for one in relative] == pytest.approx([10 / 13 - 1, 7 / 19 - 1])
    cascade = row(frame, "cascade_ratio", 1.0, **ckpt)
    assert (cascade.value, cascade.position_high) == (pytest.approx(0.4), math.inf)
    assert (cascade.tokens, cascade.rollouts, cascade.problems) == (5, 2, 2)
    assert [one.unit for one in (changes[0], relative[0], cascade)] == ["nats", "fraction", "ratio"]


def test_survivors_are_the_rollouts_of_at_least_so_many_tokens() -> None:
    """3 tokens: the first and third rollout. Positions 0 and 1: 1 2 | 1 4 = 2. With more than 3 it
    would be 2.5."""
    frame = measure(pair(table(BEFORE), table(AFTER)), Settings((0, 2), 2, survivors=3))
    survivors = {"condition": "survivors"}
    early = row(frame, "reverse_kl", **survivors)
    assert (early.value, early.tokens, early.rollouts) == (2.0, 4, 2)
    assert row(frame, "mean_reverse_kl", **survivors).value == pytest.approx(27 / 7)
    assert row(frame, "reverse_kl", 2.0, **survivors).value == row(frame, "reverse_kl", 2.0).value
    change = row(frame, "reverse_kl_change", checkpoint="ckpt", **survivors)
    assert change.value == pytest.approx(5 / 4 - 2)
    alone = measure(
        pair(*(one.only(LENGTHS >= 3) for one in (table(BEFORE), table(AFTER)))),
        Settings((0, 2), 2),
    )
    matched = frame[frame["condition"] == "survivors"].reset_index(drop=True)
    assert set(matched[matched.what.isin(QUANTITIES)].estimand) == {
        "mean over tokens, of rollouts of at least 3 tokens"
    }
    assert matched.estimand.str.endswith(", of rollouts of at least 3 tokens").all()
    named = ["condition", "estimand"]
    pd.testing.assert_frame_equal(matched.drop(columns=named), alone.drop(columns=named))


def test_a_checkpoint_is_compared_with_base_in_its_own_view() -> None:
    fresh = table(AFTER[:4] * 3, LENGTHS[:2], PROBLEMS[:2])
    entries = [
        Scored("base", "fresh", table(BEFORE)),
        Scored("ckpt", "fresh", fresh),
        Scored("base", "frozen", table(BEFORE)),
        Scored("ckpt", "frozen", table(AFTER)),
        Scored("other", "elsewhere", table(AFTER)),
    ]
    frame = measure(entries, Settings((0, 2), 2))
    assert set(frame.loc[frame["what"] == "cascade_ratio", "view"]) == {"fresh", "frozen"}
    assert row(
        frame, "cascade_ratio", 2.0, checkpoint="ckpt", view="frozen"
    ).value == pytest.approx(7 / 19)
    own = row(frame, "cascade_ratio", 2.0, checkpoint="ckpt", view="fresh")
    assert (own.value, own.tokens, own.rollouts, own.problems) == (
        pytest.approx(6 / (19 / 3)),
        1,
        1,
        1,
    )
    swapped = [
        replace(one, checkpoint={"base": "ckpt", "ckpt": "base"}[one.checkpoint])
        for one in entries[:2]
    ]
    back = row(measure(swapped, Settings((0, 2), 2)), "cascade_ratio", 2.0, checkpoint="ckpt")
    assert (back.tokens, back.rollouts, back.problems) == (1, 1, 1)
    assert (
        not frame["what"].str.contains("change").where(frame["checkpoint"] == "other", False).any()
    )


# --- intervals
# ---------------------------------------------------------------------------


def many(seed: int, problems: int = 15) -> TokenTable:
    """Rollouts of 1 to 30 tokens; KL goes with the problem and falls with the position."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(problems), 3)
    lengths = np.random.default_rng(5).integers(1, 31, codes.size)
    effect = np.random.default_rng(6).lognormal(0, 0.5, problems)
    blank = TokenTable(lengths, codes, problems, {})
    return table(
        rng.exponential(effect[blank.token_problems] / (1 + blank.positions)),
        lengths,
        codes,
        problems,
    )


def test_errors_are_those_of_leaving_each_problem_out() -> None:
    before, after = many(0), many(1)
    settings = Settings((0, 4, 12), 4, survivors=9)

    def values(kept: NDArray[np.bool_]) -> pd.Series[float]:
        return measure(pair(before.only(kept), after.only(kept)), settings).set_index(KEY)["value"]

    frame = measure(pair(before, after), settings).set_index(KEY)
    frame = frame[~frame.index.get_level_values("what").str.contains("winsorised|largest")]
    left_out = pd.concat([values(before.problems != problem) for problem in range(15)], axis=1).loc[
        frame.index
    ]
    counts = frame["problems"]
    spread = ((left_out.sub(frame["value"], axis=0)) ** 2).sum(axis=1)
    expected = np.sqrt((counts - 1) / counts * spread)
    relative = frame.index.get_level_values("what").str.contains("relative|cascade")
    assert frame.loc[~relative, "standard_error"].to_numpy() == pytest.approx(
        expected[~relative].to_numpy()
    )
    assert frame.loc[relative, "standard_error"].to_numpy() == pytest.approx(
        expected[relative].to_numpy(), rel=0.2
    )
    assert relative.sum() == 8


def test_only_winsorised_means_have_intervals_in_a_bin_and_the_bands_hold_them() -> None:
    frame = measure(pair(many(0, 120), many(1, 120)), Settings((0, 2, 4, 8), 4))
    robust, whole = (
        frame["what"].str.startswith("winsorised"),
        frame["what"].str.contains("^mean|cascade"),
    )
    bins = frame[robust]
    assert ((bins["band_low"] <= bins["low"]) & (bins["high"] <= bins["band_high"])).all()
    assert ((bins["low"] < bins["value"]) & (bins["value"] < bins["high"])).all()
    assert frame.loc[~robust, ["band_low", "band_high"]].isna().all().all()
    assert (
        frame.loc[~robust & ~whole, ["low", "high"]].isna().all().all()
        and frame.loc[whole, "low"].notna().all()
    )
    plain = frame[~robust & ~whole & ~frame["what"].str.contains("largest")]
    assert set(plain.note) == {RARE_PROBLEMS}
    assert len(bins) == len(plain)


def test_a_bin_that_few_problems_reach_has_no_interval_and_says_how_many_would_do() -> None:
    frame = measure(pair(many(0, 60), many(1, 60)), Settings((0, 28), 4))
    thin = row(frame, "winsorised_reverse_kl", 28.0)
    assert (
        0 < thin.problems < 40
        and np.isnan([thin.low, thin.high, thin.band_low, thin.standard_error]).all()
    )
    needed = math.ceil(40 * 60 / thin.problems)
    assert (
        thin.note
        == f"{thin.problems} of 60 problems reach it: too few for an interval, about {needed} "
        "are needed"
    )
    assert row(frame, "winsorised_reverse_kl").note == ""


def test_the_share_of_the_largest_problem_by_hand() -> None:
    """Positions 0 and 1: problem 0 holds 1 + 2 + 5 = 8, problem 1 holds 5. From 2 on: 3 and 16."""
    frame = measure(pair(table(BEFORE), table(AFTER)), Settings((0, 2), 2))
    shares = [row(frame, "reverse_kl_largest_problem", low).value for low in (0.0, 2.0)]
    assert shares == pytest.approx([8 / 13, 16 / 19])


def test_relative_change_is_the_ratio_less_one() -> None:
    frame = measure(pair(many(0), many(1)), Settings((0, 4), 4))
    relative = row(frame, "reverse_kl_relative_change", 4.0, checkpoint="ckpt")
    cascade = row(frame, "cascade_ratio", 4.0, checkpoint="ckpt")
    assert relative.value == pytest.approx(cascade.value - 1)
    assert cascade.low * cascade.high == pytest.approx(cascade.value**2)


def test_an_unchanged_checkpoint_has_changed_by_exactly_nothing() -> None:
    frame = measure(pair(many(0, 60), many(0, 60)), Settings((0, 4), 4))
    change, relative = "reverse_kl_change", "reverse_kl_relative_change"
    for what, expected in ((change, 0), (relative, 0), ("cascade_ratio", 1)):
        rows = frame[frame["what"] == what]
        assert (rows["value"] == expected).all() and rows[["low", "high"]].isna().all().all()
    for what in (f"winsorised_{change}", f"winsorised_{relative}"):
        rows = frame[frame["what"] == what]
        assert (
            (rows["value"] == 0).all()
            and rows["low"].isna().all()
            and set(rows.note) == {MOSTLY_ALIKE}
        )


def test_the_seed_moves_bootstraps_alone_and_the_level_moves_intervals() -> None:
    entries, settings = pair(many(0, 60), many(1, 60)), Settings((0, 2, 4), 4)
    once, again, other = (measure(entries, replace(settings, seed=seed)) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(once, again)
    moved = ("low", "high", "band_low", "band_high", "standard_error", "seed")
    same = [column for column in COLUMNS if column not in moved]
    pd.testing.assert_frame_equal(once[same], other[same])
    robust = once["what"].str.startswith("winsorised")
    assert (once.loc[robust, "low"] != other.loc[robust, "low"]).mean() > 0.9
    pd.testing.assert_frame_equal(
        once[~robust].drop(columns="seed"), other[~robust].drop(columns="seed")
    )
    narrow = measure(entries, replace(settings, level=0.5))
    has = once["low"].notna()
    assert (narrow.loc[has, "low"] > once.loc[has, "low"]).all() and (narrow["level"] == 0.5).all()


# --- corners
# ---------------------------------------------------------------------------


def test_an_empty_bin_is_there_and_says_so() -> None:
    frame = measure(pair(table(BEFORE), table(AFTER)), Settings((0, 2, 50), 60, survivors=100))
    for what in (*QUANTITIES, "reverse_kl_change", "reverse_kl_relative_change"):
        empty = row(frame, what, 50.0, checkpoint="ckpt")
        assert np.isnan(
            [empty.value, empty.low, empty.high, empty.band_low, empty.standard_error]
        ).all()
        assert (empty.note, empty.tokens, empty.rollouts, empty.problems) == (NO_TOKENS, 0, 0, 0)
    assert row(frame, "cascade_ratio", 60.0, checkpoint="ckpt").note == NO_TOKENS
    nothing_to_share = {NO_TOKENS, "nothing to share"}
    assert set(frame.loc[frame["condition"] == "survivors", "note"]) == nothing_to_share
    nothing = table(BEFORE[:0], LENGTHS[:0], PROBLEMS[:0])
    assert set(measure(pair(nothing, nothing), Settings((0, 2), 1))["note"]) == nothing_to_share


def test_a_bin_of_one_problem_has_no_interval_and_says_so() -> None:
    frame = measure(pair(table(BEFORE), table(AFTER)), Settings((0, 3), 3))
    for what, value in (("reverse_kl", 2.0), ("reverse_kl_change", -8.0), ("cascade_ratio", 0.2)):
        lonely = row(frame, what, 3.0, checkpoint="ckpt")
        note = ONE_PROBLEM if what == "cascade_ratio" else RARE_PROBLEMS
        assert (lonely.value, lonely.problems, lonely.note) == (pytest.approx(value), 1, note)
        assert np.isnan([lonely.low, lonely.high, lonely.standard_error]).all()


def test_a_kl_of_zero_before_has_no_ratio_and_what_is_not_finite_says_so() -> None:
    zero, spoilt = np.where(BEFORE == 5, 5.0, 0.0), np.where(BEFORE == 10, math.inf, BEFORE)
    frame = measure(pair(table(zero), table(AFTER)), Settings((0, 2), 2))
    for what in ("reverse_kl_relative_change", "cascade_ratio"):
        found = row(frame, what, 2.0, checkpoint="ckpt")
        assert math.isnan(found.value) and found.note == NO_RATIO
    assert math.isfinite(row(frame, "reverse_kl_change", 2.0, checkpoint="ckpt").value)
    frame = measure(pair(table(spoilt), table(AFTER)), Settings((0, 2), 2))
    infinite = row(frame, "reverse_kl", 2.0)
    assert (infinite.value, infinite.note) == (math.inf, NOT_FINITE) and math.isnan(
        infinite.standard_error
    )
    assert math.isnan(row(frame, "winsorised_reverse_kl", 2.0).low)


def test_rows_are_measurements_with_keys_of_their_own() -> None:
    entries = [*pair(many(0), many(1)), *pair(many(0), many(2), "fresh")]
    frame = measure(entries, Settings((0, 4), 4, survivors=9, run="here"))
    assert tuple(frame.columns) == COLUMNS and not frame.duplicated(KEY).any()
    levels, changes = (
        5 * (3 * 2 + 1),
        4 * 2 + 1,
    )  # quantities in 2 bins and on the whole; 2 bins and the cascade
    assert len(frame) == 2 * 2 * (2 * levels + changes)  # views and conditions; base and checkpoint
    assert set(frame["run"]) == {"here"}
    assert set(frame["method"]) == {
        "",
        "percentile bootstrap over problems",
        "jackknife over problems, t on the log scale",
    }


def test_the_noise_floor_of_a_change_is_that_of_the_change() -> None:
    """Rollouts 1 and 3 again: before has 1 more at position 0 of the third, after as well: the
    change has a floor of 0."""
    twice, rows, shift = (
        np.array([True, False, True]),
        [0, 1, 2, 4, 5, 6, 7],
        np.array([0.0, 0, 0, 1, 0, 0, 0]),
    )
    entries = [
        replace(
            one,
            floor_rollouts=twice,
            rescored=table(values[rows] + shift, LENGTHS[twice], PROBLEMS[twice]),
        )
        for one, values in zip(pair(table(BEFORE), table(AFTER)), (BEFORE, AFTER), strict=True)
    ]
    frame = with_noise_floor(lambda scored: measure(scored, Settings((0, 2), 2)), entries)
    assert row(frame, "reverse_kl").noise_floor == pytest.approx(1 / 4)
    assert row(frame, "reverse_kl", 2.0).noise_floor == 0
    assert row(frame, "reverse_kl_change", checkpoint="ckpt").noise_floor == pytest.approx(0)
    assert row(frame, "reverse_kl_relative_change", checkpoint="ckpt").noise_floor == pytest.approx(
        6 / 9 - 5 / 8
    )


@pytest.mark.parametrize("edges", [(), (1, 5), (0, 5, 5), (0, 9, 5)])
def test_edges_that_do_not_ascend_from_0_are_refused(edges: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="edges must ascend from 0"):
        Settings(edges, 100)


def test_two_checkpoints_of_one_name_and_a_negative_length_are_refused() -> None:
    with pytest.raises(ValueError, match="give checkpoints unique names"):
        measure([*pair(many(0), many(1)), Scored("ckpt", "frozen", many(2))], Settings((0,), 1))
    with pytest.raises(ValueError, match="rollout_length"):
        Settings((0,), -1)


# --- a known law
# ---------------------------------------------------------------------------

ROOM = 4


def quarters(*rows: tuple[int, ...]) -> Floats:
    """A law in quarters, so that every rollout of 4 tokens has a multiple of 1/256. Rows: start, n,
    g, b; as columns end, n, g, h, b, m."""
    start, n, g, b = rows
    return np.array([start, n, g, g, b, b]) / 4


BASE = np.stack(
    [
        quarters((0, 2, 1, 0, 1, 0), (1, 1, 1, 0, 1, 0), (2, 1, 0, 1, 0, 0), (0, 0, 1, 0, 3, 0)),
        quarters((1, 3, 0, 0, 0, 0), (0, 2, 0, 1, 1, 0), (1, 0, 2, 0, 1, 0), (1, 0, 0, 0, 2, 1)),
    ]
)
TRAINED = np.stack(
    [
        quarters((0, 3, 1, 0, 0, 0), (0, 2, 2, 0, 0, 0), (1, 1, 1, 1, 0, 0), (1, 0, 1, 0, 2, 0)),
        quarters((0, 3, 0, 1, 0, 0), (1, 2, 0, 1, 0, 0), (1, 0, 2, 1, 0, 0), (0, 1, 0, 1, 2, 0)),
    ]
)
SCORED = {
    "base": 0.9 * BASE + 0.1 / 6,
    "ckpt": 0.9 * TRAINED + 0.1 / 6,
}  # every token is possible: finite forward KL
TEACHER = np.random.default_rng(3).dirichlet(np.ones(6), (2, 6))


def quantity(name: str, student: Floats, teacher: Floats) -> Floats:
    """Its definition, summed over the next token: [kinds, last token]."""

    def kl(p: Floats, q: Floats) -> Floats:
        found = np.zeros(p.shape[:-1])
        for place in np.ndindex(p.shape):
            if p[place] > 0:
                found[place[:-1]] += p[place] * (
                    math.log(p[place]) - math.log(q[place]) if q[place] > 0 else math.inf
                )
        return found

    middle = (student + teacher) / 2
    return {
        "reverse_kl": lambda: kl(student, teacher),
        "forward_kl": lambda: kl(teacher, student),
        "js": lambda: (kl(student, middle) + kl(teacher, middle)) / 2,
        "student_entropy": lambda: -kl(student, np.ones_like(student)),
        "teacher_entropy": lambda: -kl(teacher, np.ones_like(teacher)),
    }[name]()


class PositionLaw:
    """Expected means by position over an author's rollouts: sum over (kind, last token) of the
    probability to stand there times the quantity. survivors: given that the rollout has at least so
    many tokens."""

    def __init__(self, author: Floats, max_tokens: int, survivors: int = 0) -> None:
        self.mass = np.zeros((max_tokens, *author.shape[:2]))  # [position, kind, last token]
        at = np.zeros(author.shape[:2])
        at[:, 0] = 0.5
        for position in range(max_tokens):
            lasts = np.ones(
                author.shape[:2]
            )  # P(no end among the tokens from here to survivors - 2)
            for _ in range(position, survivors - 1):
                lasts = np.einsum("kuv,kv->ku", author[:, :, 1:], lasts[:, 1:])
            self.mass[position] = at * lasts
            at = np.einsum("ku,kuv->kv", at, author)
            at[:, markov.END] = 0.0

    def mean(
        self, values: Floats, low: int, high: float = math.inf, kind: int | None = None
    ) -> float:
        chosen = slice(None) if kind is None else slice(kind, kind + 1)
        mass = self.mass[low : int(min(high, len(self.mass))), chosen]
        return float((mass * values[chosen]).sum() / mass.sum())


def law_table(
    written: Sequence[tuple[int, Sequence[int]]], problems: Ints, student: Floats, teacher: Floats
) -> TokenTable:
    """Rollouts as (kind, token ids), scored by the student's and teacher's laws."""
    kinds = np.concatenate([[kind] * len(ids) for kind, ids in written])
    lasts = np.concatenate([[0, *ids[:-1]] for _, ids in written])
    columns = {name: quantity(name, student, teacher)[kinds, lasts] for name in QUANTITIES}
    lengths = np.array([len(ids) for _, ids in written])
    return TokenTable(lengths, problems, int(problems.max()) + 1, columns)


def every_rollout(law: Floats) -> list[tuple[int, tuple[int, ...]]]:
    """Each rollout of at most 4 tokens as often as it comes in 256, for both kinds; a text that
    stops early has an end."""
    found = []
    for kind in (0, 1):
        for text, chance in markov.paths(law, kind, 0, ROOM):
            ids = text if len(text) == ROOM else (*text, markov.END)
            assert (chance * 4**ROOM).is_integer()
            found += [(kind, ids)] * int(chance * 4**ROOM)
    assert len(found) == 2 * 4**ROOM
    return found


@pytest.mark.parametrize("estimand", ["tokens", "problems"])
def test_every_rollout_of_a_known_law_gives_its_expectation(estimand: Any) -> None:
    """All quantities, both views, all rollouts and survivors, bins and cascade: exactly. As means
    of problem means each kind is one problem."""
    trained, base = every_rollout(TRAINED), every_rollout(BASE)
    kinds = np.repeat([0, 1], 4**ROOM)
    authors = {
        ("base", "fresh"): BASE,
        ("ckpt", "fresh"): TRAINED,
        ("base", "frozen"): BASE,
        ("ckpt", "frozen"): BASE,
    }
    scored = [
        Scored(
            checkpoint,
            view,
            law_table(base if author is BASE else trained, kinds, SCORED[checkpoint], TEACHER),
        )
        for (checkpoint, view), author in authors.items()
    ]
    frame = measure(scored, Settings((0, 1, 3), 2, survivors=3, estimand=estimand))

    def mean(
        name: str, checkpoint: str, view: str, condition: str, low: float, high: float
    ) -> float:
        law = PositionLaw(authors[checkpoint, view], ROOM, 3 if condition == "survivors" else 0)
        values = quantity(name, SCORED[checkpoint], TEACHER)
        if estimand == "tokens":
            return law.mean(values, int(low), high)
        return float(np.mean([law.mean(values, int(low), high, kind) for kind in (0, 1)]))

    plain = frame[~frame["what"].str.contains("winsorised|largest")]
    for one in plain.itertuples():
        place = (one.view, one.condition, one.position_low, one.position_high)
        if one.what.removeprefix("mean_") in QUANTITIES:
            expected = mean(one.what.removeprefix("mean_"), one.checkpoint, *place)
        else:
            after, before = (
                mean("reverse_kl", checkpoint, *place) for checkpoint in ("ckpt", "base")
            )
            expected = {
                "reverse_kl_change": after - before,
                "reverse_kl_relative_change": after / before - 1,
                "cascade_ratio": after / before,
            }[one.what]
        assert one.value == pytest.approx(expected, rel=1e-9), (one.what, *place)
    assert len(plain) == 2 * 2 * (2 * 5 * 4 + 2 * 3 + 1)


def test_the_law_tells_survivors_views_and_checkpoints_apart() -> None:
    """What the exact test could not reject if these agreed."""
    values, after = (quantity("reverse_kl", SCORED[name], TEACHER) for name in ("base", "ckpt"))
    alive, survivors, own = (
        PositionLaw(BASE, ROOM),
        PositionLaw(BASE, ROOM, 3),
        PositionLaw(TRAINED, ROOM),
    )
    assert alive.mean(values, 3) == pytest.approx(survivors.mean(values, 3))
    for left, right in (
        (alive.mean(values, 1, 3), survivors.mean(values, 1, 3)),
        (survivors.mean(values, 1), PositionLaw(BASE, ROOM, 4).mean(values, 1)),
        (alive.mean(after, 2), own.mean(after, 2)),
        (alive.mean(after, 2), alive.mean(values, 2)),
        (alive.mean(values, 2), alive.mean(values, 1)),
    ):
        assert left != pytest.approx(right, rel=1e-4)


def drawn(
    law: Floats, kinds: Ints, max_tokens: int, rng: np.random.Generator
) -> list[tuple[int, list[int]]]:
    cumulative, written = law.cumsum(axis=-1), []
    for kind in kinds.tolist():
        ids = [0]
        while len(ids) <= max_tokens and (len(ids) == 1 or ids[-1] != markov.END):
            ids.append(int(np.searchsorted(cumulative[kind, ids[-1]], rng.random(), side="right")))
        written.append((kind, ids[1:]))
    return written


@pytest.mark.slow
def test_intervals_of_whole_responses_cover_the_law_at_their_rate() -> None:
    """40 problems of 3 rollouts of at most 12 tokens; means and cascade ratios .93 to .97 with 300
    replicates. The intervals of bins are in tests/maths/test_winsorised.py."""
    world, room, settings = markov.decaying_world(), 12, Settings((0,), 3)
    base, teacher = world.student.law, world.teacher.law
    laws = {"base": base, "ckpt": 0.6 * base + 0.4 * teacher}
    problems, rng = np.repeat(np.arange(40), 3), np.random.default_rng(1)

    def expected(one: Any) -> float:
        def mean(checkpoint: str, name: str = "reverse_kl") -> float:
            law = PositionLaw(laws["base" if one.view == "frozen" else checkpoint], room)
            return law.mean(
                quantity(name, laws[checkpoint], teacher), int(one.position_low), one.position_high
            )

        if one.what != "cascade_ratio":
            return mean(one.checkpoint, one.what.removeprefix("mean_"))
        return mean("ckpt") / mean("base")

    held, truth = [], np.zeros(0)
    for _ in range(200):
        kinds = np.repeat(rng.integers(0, 2, 40), 3)
        own = {checkpoint: drawn(law, kinds, room, rng) for checkpoint, law in laws.items()}
        scored = [
            Scored(
                checkpoint,
                view,
                law_table(own["base" if view == "frozen" else checkpoint], problems, law, teacher),
            )
            for view in ("fresh", "frozen")
            for checkpoint, law in laws.items()
        ]
        frame = measure(scored, settings)
        frame = frame[frame["what"].str.contains("^mean|cascade")]
        truth = truth if truth.size else np.array([expected(one) for one in frame.itertuples()])
        held.append((frame["low"].to_numpy() <= truth) & (truth <= frame["high"].to_numpy()))
    covered = np.mean(held, axis=0)
    assert len(frame) == 2 * (2 * 5 + 1)
    assert covered.min() >= 0.88 and 0.935 <= covered.mean() <= 0.965


def test_a_relative_change_is_named_as_the_mean_of_ratios_that_it_is() -> None:
    """Of 2 problems the ratios 1 / 4 and 1: the geometric mean is 1 / 2, that of the levels 2 / 5;
    the plain mean is the ratio of (1 + 1) / 2 and (4 + 1) / 2."""
    lengths, problems = np.array([1, 1]), np.array([0, 1])
    before = table(np.array([4.0, 1.0]), lengths, problems)
    after = table(np.array([1.0, 1.0]), lengths, problems)
    frame = measure(pair(before, after), Settings((0,), 0))
    at = {"checkpoint": "ckpt"}
    robust = row(frame, "winsorised_reverse_kl_relative_change", **at)
    assert robust.value == pytest.approx(-1 / 2)
    assert robust.estimand.startswith("winsorised geometric mean of the problems' ratios, minus 1")
    plain = row(frame, "reverse_kl_relative_change", **at)
    assert plain.value == pytest.approx(-3 / 5)
    assert plain.estimand == "ratio of the means over tokens, minus 1"
    absolute = row(frame, "winsorised_reverse_kl_change", **at)
    assert absolute.estimand.startswith("winsorised mean of the problems' changes")
    assert row(frame, "cascade_ratio", **at).estimand == "ratio of the means over tokens"
    level = row(frame, "winsorised_reverse_kl", **at)
    assert level.estimand.startswith("winsorised mean of problem means")
