"""Which response positions carry the loss: the selectors of arXiv 2605.27028, one rollout at a time; numpy only.

    mask = select("top-reverse-kl", Signals(reverse_kl, student_entropy, teacher_entropy), budget=100, rng=rng)

A selector takes as many positions as the budget allows; a rollout no longer than the budget is selected whole.

Source: section 5.1 of the paper for the signals; ``suffix``, ``middle`` and ``random`` are its controls. Ties and the place
of the middle are not stated there: ties go to the earlier position, an odd rest of the middle to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Signals(NamedTuple):
    """What is known of each token of one rollout, in nats, [time]."""

    reverse_kl: Floats
    student_entropy: Floats
    teacher_entropy: Floats


Selector = Callable[[Signals, int, np.random.Generator], Mask]


def prefix(signals: Signals, budget: int, rng: np.random.Generator) -> Mask:
    """The first positions, [time]: what a rollout that stops at the budget is trained on."""
    return _window(len(signals.reverse_kl), 0, budget)


def suffix(signals: Signals, budget: int, rng: np.random.Generator) -> Mask:
    """The last positions, [time]."""
    time = len(signals.reverse_kl)
    return _window(time, time - budget, budget)


def middle(signals: Signals, budget: int, rng: np.random.Generator) -> Mask:
    """The positions around the middle of the rollout, [time]."""
    time = len(signals.reverse_kl)
    return _window(time, (time - budget) // 2, budget)


def random(signals: Signals, budget: int, rng: np.random.Generator) -> Mask:
    """Positions drawn without replacement, each equally likely, [time]."""
    time = len(signals.reverse_kl)
    mask = np.zeros(time, dtype=np.bool_)
    mask[rng.choice(time, min(budget, time), replace=False)] = True
    return mask


def top_by(names: tuple[str, ...], signals: Signals, budget: int, rng: np.random.Generator) -> Mask:
    """The positions with the largest product of the named signals, [time]."""
    return top(np.multiply.reduce([getattr(signals, name) for name in names]), budget)


def top(values: Floats, budget: int) -> Mask:
    """The positions of the largest values, [time]; of equal values the earlier ones."""
    time = len(values)
    if time <= budget:
        return np.ones(time, dtype=np.bool_)
    smallest = np.partition(values, time - budget)[time - budget]
    mask: Mask = values > smallest
    mask[np.flatnonzero(values == smallest)[: budget - np.count_nonzero(mask)]] = True
    return mask


SELECTORS: dict[str, Selector] = {
    "prefix": prefix,
    "suffix": suffix,
    "middle": middle,
    "random": random,
    "top-reverse-kl": partial(top_by, ("reverse_kl",)),
    "top-student-entropy": partial(top_by, ("student_entropy",)),
    "top-teacher-entropy": partial(top_by, ("teacher_entropy",)),
    "top-reverse-kl-x-student-entropy": partial(top_by, ("reverse_kl", "student_entropy")),
    "top-teacher-entropy-x-student-entropy": partial(top_by, ("teacher_entropy", "student_entropy")),
    "top-all-three": partial(top_by, ("reverse_kl", "teacher_entropy", "student_entropy")),
}


def select(selector: str, signals: Signals, budget: int, rng: np.random.Generator) -> Mask:
    """The positions of one rollout that a selector chooses at this budget of tokens, [time]; only ``random`` draws.

    Raises:
        ValueError: no selector of that name, or a budget below 1.
    """
    if selector not in SELECTORS:
        raise ValueError(f"no selector {selector!r}; there are {', '.join(SELECTORS)}")
    if budget < 1:
        raise ValueError(f"budget must be at least 1 token, got {budget}")
    return SELECTORS[selector](signals, budget, rng)


def _window(time: int, start: int, budget: int) -> Mask:
    mask = np.zeros(time, dtype=np.bool_)
    first = max(start, 0)
    mask[first : first + budget] = True
    return mask
