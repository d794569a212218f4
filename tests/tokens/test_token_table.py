"""Rows by rollout: which token stands where, and what is left when some rollouts are chosen.
Against loops over rollouts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from decaylab.tokens.token_table import COLUMNS, TokenTable

# Rollouts of 3, 0, 1 and 2 tokens; the first and the third answer the same problem.
LENGTHS, PROBLEMS = np.array([3, 0, 1, 2]), np.array([2, 0, 2, 1])
VALUES = np.arange(6) / 10


def table() -> TokenTable:
    return TokenTable(
        LENGTHS,
        PROBLEMS,
        3,
        {"reverse_kl": VALUES, "token": np.array(list("abcdef"), dtype=object)},
    )


def random_table(seed: int) -> TokenTable:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 6, 40)
    return TokenTable(lengths, rng.integers(0, 9, 40), 9, {"reverse_kl": rng.random(lengths.sum())})


def rows(found: TokenTable) -> list[tuple[int, int, int, float]]:
    """Rollout, position, problem and value of each token, by a loop."""
    values = iter(found["reverse_kl"])
    return [
        (rollout, position, int(problem), float(next(values)))
        for rollout, (length, problem) in enumerate(zip(found.lengths, found.problems, strict=True))
        for position in range(length)
    ]


def test_each_token_knows_its_position_and_its_problem() -> None:
    """Tokens a b c | | d | e f: positions from 0 in each rollout, the empty one has none."""
    found = table()
    assert len(found) == 6
    assert found.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert found.token_problems.tolist() == [2, 2, 2, 2, 1, 1]
    assert found.starts.tolist() == [0, 3, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_positions_and_problems_are_those_of_a_loop_over_rollouts(seed: int) -> None:
    found = random_table(seed)
    slow = rows(found)
    assert found.positions.tolist() == [position for _, position, _, _ in slow]
    assert found.token_problems.tolist() == [problem for _, _, problem, _ in slow]
    starts = [
        next((n for n, row in enumerate(slow) if row[0] >= rollout), len(slow))
        for rollout in range(40)
    ]
    assert found.starts.tolist() == starts


def test_some_of_the_rollouts_keep_their_tokens_and_their_problem_codes() -> None:
    kept = table().only(np.array([False, True, True, True]))
    assert kept["token"].tolist() == ["d", "e", "f"]
    assert kept["reverse_kl"].tolist() == [0.3, 0.4, 0.5]
    assert kept.positions.tolist() == [0, 0, 1]
    assert (kept.problems.tolist(), kept.problem_count) == (
        [0, 2, 1],
        3,
    )  # codes are shared between tables: not counted anew


@pytest.mark.parametrize("seed", range(5))
def test_a_choice_of_a_choice_is_the_choice_of_both(seed: int) -> None:
    found, rng = random_table(seed), np.random.default_rng(seed + 100)
    first = rng.random(40) < 0.6
    second = rng.random(first.sum()) < 0.6
    both = np.zeros(40, dtype=bool)
    both[np.flatnonzero(first)[second]] = True
    assert rows(found.only(first).only(second)) == rows(found.only(both))
    values = [value for rollout, _, _, value in rows(found) if both[rollout]]
    assert [value for *_, value in rows(found.only(both))] == values


def test_all_and_none_of_the_rollouts() -> None:
    everything = table().only(np.ones(4, dtype=bool))
    assert rows(everything) == rows(table())
    nothing = table().only(np.zeros(4, dtype=bool))
    assert (len(nothing), nothing["token"].tolist(), nothing.positions.tolist()) == (0, [], [])


def test_a_column_is_read_when_it_is_asked_for_and_not_before() -> None:
    class Counted(Mapping[str, NDArray[np.generic]]):
        asked: list[str] = []

        def __getitem__(self, column: str) -> NDArray[np.generic]:
            self.asked.append(column)
            return VALUES

        def __iter__(self) -> Iterator[str]:
            return iter(COLUMNS)

        def __len__(self) -> int:
            return len(COLUMNS)

    columns = Counted()
    some = TokenTable(LENGTHS, PROBLEMS, 3, columns).only(np.array([True, True, True, False]))
    assert len(some) == 4 and some.positions.tolist() == [0, 1, 2, 0]
    assert columns.asked == []
    assert some["js"].tolist() == [0.0, 0.1, 0.2, 0.3]
    assert columns.asked == ["js"]


def test_a_rollout_without_a_problem_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one entry per rollout, got \(3,\) and \(4,\)"):
        TokenTable(LENGTHS, PROBLEMS[:3], 3, {})
