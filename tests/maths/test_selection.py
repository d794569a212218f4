"""Each selector against its definition written out in Python, by hand, at ties and in rollouts
shorter than the budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from decaylab.maths.selection import (
    SELECTORS,
    Selector,
    Signals,
    progressive_budget,
    select,
    top,
    weigh,
)

PRODUCTS = {
    "top-reverse-kl": ("reverse_kl",),
    "top-student-entropy": ("student_entropy",),
    "top-teacher-entropy": ("teacher_entropy",),
    "top-reverse-kl-x-student-entropy": ("reverse_kl", "student_entropy"),
    "top-teacher-entropy-x-student-entropy": ("teacher_entropy", "student_entropy"),
    "top-all-three": ("reverse_kl", "student_entropy", "teacher_entropy"),
}
COMBINED = {
    "top-reverse-kl-and-student-entropy": (set.intersection, "reverse_kl", "student_entropy"),
    "top-reverse-kl-or-student-entropy": (set.union, "reverse_kl", "student_entropy"),
    "top-teacher-entropy-and-student-entropy": (
        set.intersection,
        "teacher_entropy",
        "student_entropy",
    ),
    "top-teacher-entropy-or-student-entropy": (set.union, "teacher_entropy", "student_entropy"),
}
PREFIXES = ("prefix", "prefix-mask", "after-teacher-prefix", "progressive")
WHOLE = ("full", "importance", "rising")
PLAIN = [name for name in SELECTORS if name not in ("importance", "rising")]
# Five tokens. Products: KL x Hs 8 6 0 4 1; Ht x Hs 2 9 4 2 2; all three 8 18 0 4 2. |log-ratio| 1 1
# 0 3 1, 6 in all.
HAND = Signals(
    np.array([4.0, 2, 0, 2, 1]),
    np.array([2.0, 3, 4, 2, 1]),
    np.array([1.0, 3, 1, 1, 2]),
    np.array([-1.0, -2, -1, -1, -3]),
    np.array([-2.0, -1, -1, -4, -4]),
)


def weights(selector: str, signals: Signals, budget: int = 2) -> np.ndarray:
    return weigh(selector, signals, budget, np.random.default_rng(0))


def chosen(selector: str, signals: Signals, budget: int, seed: int = 0) -> list[int]:
    return np.flatnonzero(select(selector, signals, budget, np.random.default_rng(seed))).tolist()


def drawn(time: int, seed: int = 0, distinct: int = 10**6) -> Signals:
    """Signals of whole numbers; few distinct ones give many ties."""
    return Signals(*np.random.default_rng(seed).integers(0, distinct, (5, time)).astype(float))


def slow_top(values: list[float], budget: int) -> list[int]:
    """Takes the largest that is left, the first of equals, one at a time."""
    left, taken = list(range(len(values))), []
    while left and len(taken) < budget:
        best = left[0]
        for place in left[1:]:
            if values[place] > values[best]:
                best = place
        taken.append(best)
        left.remove(best)
    return sorted(taken)


def slow_combined(
    combine: Callable[..., set[int]], columns: list[list[float]], budget: int
) -> list[int]:
    """Widens both top-q sets until what they have in common (or together) fills the budget; the
    last to come by position."""
    before: set[int] = set()
    for q in range(1, len(columns[0]) + 1):
        now = combine(*(set(slow_top(column, q)) for column in columns))
        if len(now) >= budget:
            return sorted(before | set(sorted(now - before)[: budget - len(before)]))
        before = now
    return sorted(before)


def test_every_selector_by_hand_on_five_tokens() -> None:
    expected = {
        "prefix": [0, 1],
        "prefix-mask": [0, 1],
        "after-teacher-prefix": [0, 1],
        "progressive": [0, 1],
        "suffix": [3, 4],
        "middle": [1, 2],  # the rest of three: one before, two after
        "full": [0, 1, 2, 3, 4],
        "importance": [0, 1, 2, 3, 4],
        "rising": [0, 1, 2, 3, 4],
        "top-reverse-kl": [0, 1],  # 4, then the first of the two 2s
        "top-student-entropy": [1, 2],
        "top-teacher-entropy": [1, 4],
        "top-reverse-kl-x-student-entropy": [0, 1],
        "top-teacher-entropy-x-student-entropy": [1, 2],
        "top-all-three": [0, 1],
        # From the top: KL 0 1 3 4 2, Hs 2 1 0 3 4, Ht 1 4 0 2 3.
        "top-reverse-kl-and-student-entropy": [0, 1],  # the top three have 0 and 1 in common
        "top-reverse-kl-or-student-entropy": [0, 2],  # the tops
        "top-teacher-entropy-and-student-entropy": [0, 1],  # the product takes 1 and 2
        "top-teacher-entropy-or-student-entropy": [1, 2],
    }
    assert {name: chosen(name, HAND, 2) for name in expected} == expected
    assert {*expected, "random"} == set(SELECTORS)
    assert select("suffix", HAND, 2, np.random.default_rng(0)).dtype == np.bool_
    assert chosen("middle", Signals(*np.zeros((5, 6))), 2) == [2, 3]


@pytest.mark.parametrize("selector", PRODUCTS)
def test_top_selectors_take_what_a_slow_search_takes(selector: str) -> None:
    for seed, time, budget, distinct in itertools.product(
        range(5), (1, 7, 40), (1, 5, 39), (2, 4, 10**6)
    ):
        signals = drawn(time, seed, distinct)
        values = [1.0] * time
        for name in PRODUCTS[selector]:
            values = [left * right for left, right in zip(values, getattr(signals, name))]
        assert chosen(selector, signals, budget) == slow_top(values, budget)


@pytest.mark.parametrize("selector", COMBINED)
def test_combined_selectors_take_what_two_widening_sets_take(selector: str) -> None:
    combine, *names = COMBINED[selector]
    for seed, time, budget, distinct in itertools.product(
        range(5), (1, 7, 16), (1, 2, 5, 15), (2, 4, 10**6)
    ):
        signals = drawn(time, seed, distinct)
        columns = [getattr(signals, name).tolist() for name in names]
        assert chosen(selector, signals, budget) == slow_combined(combine, columns, budget)


def test_a_combination_is_neither_a_product_nor_one_more_than_the_budget() -> None:
    """Four of five: 0, 1 and 3 are common to the top four; the top five add 2 and 4, of which 2 is
    earlier."""
    assert chosen("top-reverse-kl-and-student-entropy", HAND, 4) == [0, 1, 2, 3]
    assert chosen("top-reverse-kl-x-student-entropy", HAND, 4) == [0, 1, 3, 4]
    # The tops are 0 and 2: one place, two that come at once.
    assert chosen("top-reverse-kl-or-student-entropy", HAND, 1) == [0]


def test_ties_go_to_the_earlier_position() -> None:
    """The later of equals, as a plain argsort of the last entries takes them, would be [1, 3,
    4]."""
    assert np.flatnonzero(top(np.array([1.0, 5, 1, 1, 1]), 3)).tolist() == [0, 1, 2]
    assert np.flatnonzero(top(np.zeros(6), 2)).tolist() == [0, 1]
    for name in COMBINED:
        assert chosen(name, Signals(*np.ones((5, 6))), 2) == [0, 1]


@pytest.mark.parametrize("selector", PLAIN)
def test_plain_selectors_spend_their_budget_and_take_a_short_rollout_whole(selector: str) -> None:
    for time in (0, 1, 4, 5, 6, 30):
        found = weights(selector, drawn(time, distinct=3), 5)
        assert found.dtype == np.float64 and found.shape == (time,) and set(found) <= {0.0, 1.0}
        assert found.sum() == (time if selector == "full" else min(time, 5))


@pytest.mark.parametrize("selector", SELECTORS)
def test_what_a_selector_says_of_itself_holds(selector: str) -> None:
    found, signals = SELECTORS[selector], drawn(30)
    three, nothing_known = weights(selector, signals, 3), Signals(*np.full((5, 30), np.nan))
    if found.needs_signals:
        assert not np.array_equal(three, weights(selector, drawn(30, seed=1), 3))
    else:
        np.testing.assert_array_equal(three, weights(selector, nothing_known, 3))
    assert found.whole == (selector in WHOLE) == bool((three > 0).all())
    if found.whole:
        np.testing.assert_array_equal(three, weights(selector, signals, 29))
    assert found.stops_at_budget == (selector in PREFIXES and selector != "prefix-mask")
    if found.stops_at_budget:  # what is never sampled would have carried no loss
        stopped = Signals(*(column[:3] for column in signals))
        np.testing.assert_array_equal(three, [*weights(selector, stopped, 3), *[0.0] * 27])


def test_windows_touch_the_ends_and_the_middle_lies_between_them() -> None:
    for time, budget in itertools.product((7, 8, 20), (1, 2, 5, 6)):
        signals = drawn(time)
        for name in PREFIXES:
            assert chosen(name, signals, budget) == list(range(time))[:budget]
        assert chosen("suffix", signals, budget) == list(range(time))[-budget:]
        inside = chosen("middle", signals, budget)
        before, after = inside[0], time - 1 - inside[-1]
        assert inside == list(range(before, before + budget)) and after - before in (0, 1)


def test_random_takes_every_pair_equally_often_and_repeats_with_its_seed() -> None:
    """6 pairs of 4 tokens, 3,000 draws: 500 of each, standard deviation sqrt(3000 * 1/6 * 5/6) =
    20."""
    rng, signals = np.random.default_rng(0), drawn(4)
    pairs = [tuple(np.flatnonzero(select("random", signals, 2, rng))) for _ in range(3000)]
    counts = [pairs.count(pair) for pair in itertools.combinations(range(4), 2)]
    assert sum(counts) == 3000 and max(abs(count - 500) for count in counts) < 90
    long = drawn(50)
    assert (
        chosen("random", long, 10, seed=3)
        == chosen("random", long, 10, seed=3)
        != chosen("random", long, 10, 4)
    )


# --- weights
# ---------------------------------------------------------------------------


def test_importance_by_hand() -> None:
    """Of 6 nats 0, 1, 2, 2 and 5 lie before the tokens.

    With the token itself the first would be 1.42, signed the second 1.375, with squares the fourth
    1.42, and of the nats so far, not of all, the second 1.25.
    """
    np.testing.assert_allclose(
        weights("importance", HAND), 1 + 0.5 * (1 - np.array([0, 1, 2, 2, 5]) / 6), rtol=1e-14
    )


def test_importance_is_algorithm_1_token_by_token() -> None:
    for seed, time in itertools.product(range(5), (1, 2, 7, 60)):
        rng = np.random.default_rng(seed)
        signals = Signals(*np.zeros((3, time)), *-rng.exponential(size=(2, time)))
        pairs = list(zip(signals.student_logprob, signals.teacher_logprob))
        expected = []
        for t in range(time):
            before = sum(abs(teacher - student) for student, teacher in pairs[:t])
            expected.append(
                1 + 0.5 * (1 - before / sum(abs(teacher - student) for student, teacher in pairs))
            )
        found = weights("importance", signals)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert found[0] == 1.5 and found.min() > 1 and (np.diff(found) <= 0).all()


def test_importance_is_the_same_everywhere_where_policies_agree() -> None:
    assert (
        weights("importance", HAND._replace(teacher_logprob=HAND.student_logprob)).tolist()
        == [1.5] * 5
    )
    assert weights("importance", drawn(0)).shape == (0,)


def test_rising_by_hand_stands_at_five_eighths_where_three_tenths_are_through() -> None:
    """Middles .1 .3 .5 .7 .9: the sigmoid of -2, 0, 2, 4 and 6. No token starts or ends at .3."""
    found = weights("rising", HAND)
    np.testing.assert_allclose(
        found, [0.3394022, 0.625, 0.9105978, 0.9865103, 0.9981454], atol=1e-7
    )


def test_rising_is_the_schedule_of_the_source_token_by_token() -> None:
    for time in (1, 2, 7, 500):
        found = weights("rising", drawn(time))
        for index in range(1, time + 1):  # the source counts tokens from 1
            through = (index - 0.5) / time
            assert found[index - 1] == pytest.approx(
                0.25 + 0.75 / (1 + math.exp(-(through - 0.3) / 0.1)), rel=1e-12
            )
        assert (np.diff(found) > 0).all()
    assert found[0] == pytest.approx(0.286, abs=1e-3) and found[-1] == pytest.approx(
        0.999, abs=1e-3
    )
    assert weights("rising", drawn(0)).shape == (0,)


# --- progressive
# ---------------------------------------------------------------------------


def test_a_progressive_budget_rises_in_a_line_from_half_to_one_and_a_half() -> None:
    assert [progressive_budget(100, step, 5) for step in range(5)] == [50, 75, 100, 125, 150]
    assert (progressive_budget(100, 0, 200), progressive_budget(100, 199, 200)) == (50, 150)
    assert [progressive_budget(5, step, 2) for step in range(2)] == [2, 8], (
        "2.5 and 7.5, halves to the even number"
    )
    assert progressive_budget(7, 0, 1) == 7
    for step in range(30):
        assert abs(progressive_budget(41, step, 30) - (20.5 + 41 * step / 29)) <= 0.5


def test_a_progressive_run_has_as_many_tokens_as_a_fixed_one() -> None:
    """Exactly; rounded down, 3 tokens over 2 steps would be 1 and 4, and with halves up 2 and 5."""
    for budget, steps in itertools.product((1, 2, 3, 4, 5, 10, 41, 100), (1, 2, 3, 4, 7, 10, 50)):
        lengths = [progressive_budget(budget, step, steps) for step in range(steps)]
        assert sum(lengths) == budget * steps and min(lengths) >= 1
        assert lengths == sorted(lengths) and all(isinstance(length, int) for length in lengths)


@pytest.mark.parametrize(("step", "steps"), [(-1, 5), (5, 5), (0, 0)])
def test_a_step_outside_of_the_run_is_refused(step: int, steps: int) -> None:
    with pytest.raises(ValueError, match=f"step must be at least 0 and below {steps}, got {step}"):
        progressive_budget(10, step, steps)
    with pytest.raises(ValueError, match="budget must be at least 1 token, got 0"):
        progressive_budget(0, 0, 5)


# --- misuse and additions
# ---------------------------------------------------------------------------


def test_no_selector_changes_the_signals_it_reads() -> None:
    signals = drawn(30)
    before = [column.copy() for column in signals]
    for name in SELECTORS:
        weights(name, signals, 5)
    assert all(np.array_equal(column, copy) for column, copy in zip(signals, before))


@pytest.mark.parametrize("call", [weigh, select])
def test_an_unknown_selector_or_an_empty_budget_is_refused(call: Callable[..., np.ndarray]) -> None:
    with pytest.raises(
        ValueError, match=r"unknown selector 'first'; choose from prefix, prefix-mask, .*, rising$"
    ):
        call("first", HAND, 2, np.random.default_rng(0))
    for name in ("prefix", "full"):
        with pytest.raises(ValueError, match="budget must be at least 1 token, got 0"):
            call(name, HAND, 0, np.random.default_rng(0))


def test_a_selector_is_added_with_a_function_and_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def sure(signals: Signals, budget: int, rng: np.random.Generator) -> np.ndarray:
        return top(-signals.student_entropy, budget)

    monkeypatch.setitem(SELECTORS, "top-sure", Selector(sure, needs_signals=True))
    assert chosen("top-sure", HAND, 2) == [0, 4]
