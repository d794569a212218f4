"""Each selector against a sort written out in Python, by hand, at ties and in rollouts shorter than the budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from decaylab.selection import SELECTORS, Signals, select, top

PRODUCTS = {
    "top-reverse-kl": ("reverse_kl",),
    "top-student-entropy": ("student_entropy",),
    "top-teacher-entropy": ("teacher_entropy",),
    "top-reverse-kl-x-student-entropy": ("reverse_kl", "student_entropy"),
    "top-teacher-entropy-x-student-entropy": ("teacher_entropy", "student_entropy"),
    "top-all-three": ("reverse_kl", "student_entropy", "teacher_entropy"),
}
# Five tokens. Products: KL x Hs 8 6 0 4 1; Ht x Hs 2 9 4 2 2; all three 8 18 0 4 2.
HAND = Signals(np.array([4.0, 2, 0, 2, 1]), np.array([2.0, 3, 4, 2, 1]), np.array([1.0, 3, 1, 1, 2]))


def chosen(selector: str, signals: Signals, budget: int, seed: int = 0) -> list[int]:
    return np.flatnonzero(select(selector, signals, budget, np.random.default_rng(seed))).tolist()


def drawn(time: int, seed: int = 0, distinct: int = 10**6) -> Signals:
    """Signals of whole numbers; few distinct ones give many ties."""
    return Signals(*np.random.default_rng(seed).integers(0, distinct, (3, time)).astype(float))


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


def test_every_selector_by_hand_on_five_tokens() -> None:
    expected = {
        "prefix": [0, 1],
        "suffix": [3, 4],
        "middle": [1, 2],  # the rest of three: one before, two after
        "top-reverse-kl": [0, 1],  # 4, then the first of the two 2s
        "top-student-entropy": [1, 2],
        "top-teacher-entropy": [1, 4],
        "top-reverse-kl-x-student-entropy": [0, 1],
        "top-teacher-entropy-x-student-entropy": [1, 2],
        "top-all-three": [0, 1],
    }
    assert {name: chosen(name, HAND, 2) for name in expected} == expected
    assert {*expected, "random"} == set(SELECTORS)
    assert chosen("middle", Signals(*np.zeros((3, 6))), 2) == [2, 3]


@pytest.mark.parametrize("selector", PRODUCTS)
def test_top_selectors_take_what_a_slow_search_takes(selector: str) -> None:
    for seed, time, budget, distinct in itertools.product(range(5), (1, 7, 40), (1, 5, 39), (2, 4, 10**6)):
        signals = drawn(time, seed, distinct)
        values = [1.0] * time
        for name in PRODUCTS[selector]:
            values = [left * right for left, right in zip(values, getattr(signals, name))]
        assert chosen(selector, signals, budget) == slow_top(values, budget)


def test_ties_go_to_the_earlier_position() -> None:
    """The later of equals, as a plain argsort of the last entries takes them, would be [1, 3, 4]."""
    assert np.flatnonzero(top(np.array([1.0, 5, 1, 1, 1]), 3)).tolist() == [0, 1, 2]
    assert np.flatnonzero(top(np.zeros(6), 2)).tolist() == [0, 1]


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_selector_spends_its_budget_and_takes_a_short_rollout_whole(selector: str) -> None:
    for time in (0, 1, 4, 5, 6, 30):
        mask = select(selector, drawn(time, distinct=3), 5, np.random.default_rng(0))
        assert mask.dtype == np.bool_ and mask.shape == (time,) and mask.sum() == min(time, 5)


def test_windows_touch_the_ends_and_the_middle_lies_between_them() -> None:
    for time, budget in itertools.product((7, 8, 20), (1, 2, 5, 6)):
        signals = drawn(time)
        assert chosen("prefix", signals, budget) == list(range(time))[:budget]
        assert chosen("suffix", signals, budget) == list(range(time))[-budget:]
        inside = chosen("middle", signals, budget)
        before, after = inside[0], time - 1 - inside[-1]
        assert inside == list(range(before, before + budget)) and after - before in (0, 1)


def test_random_takes_every_pair_equally_often_and_repeats_with_its_seed() -> None:
    """6 pairs of 4 tokens, 3,000 draws: 500 of each, standard deviation sqrt(3000 * 1/6 * 5/6) = 20."""
    rng, signals = np.random.default_rng(0), drawn(4)
    pairs = [tuple(np.flatnonzero(select("random", signals, 2, rng))) for _ in range(3000)]
    counts = [pairs.count(pair) for pair in itertools.combinations(range(4), 2)]
    assert sum(counts) == 3000 and max(abs(count - 500) for count in counts) < 90
    long = drawn(50)
    assert chosen("random", long, 10, seed=3) == chosen("random", long, 10, seed=3) != chosen("random", long, 10, 4)


def test_no_selector_changes_the_signals_it_reads() -> None:
    signals = drawn(30)
    before = [column.copy() for column in signals]
    for name in SELECTORS:
        select(name, signals, 5, np.random.default_rng(0))
    assert all(np.array_equal(column, copy) for column, copy in zip(signals, before))


def test_an_unknown_selector_or_an_empty_budget_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no selector 'first'; there are prefix, suffix"):
        select("first", HAND, 2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="budget must be at least 1 token, got 0"):
        select("prefix", HAND, 0, np.random.default_rng(0))
