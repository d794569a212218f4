"""Which response positions carry the loss, and with what weight: one rollout at a time; numpy only.

    weights = weigh("top-reverse-kl", signals, budget=100, rng=rng)    # 1 where selected, [time]

A selector selects as many positions as the budget allows, and all of a rollout no longer than the
budget. A selector of your own is a function like those below, registered under a name:

    @dl.selector("every-second")
    def every_second(signals, budget, rng):
        weights = np.zeros(len(signals.reverse_kl))
        weights[: 2 * budget : 2] = 1.0
        return weights

Source: section 5.1 of arXiv 2605.27028 for the signals and their products; ``prefix`` is its
proposal, and ``suffix``, ``middle`` and ``random`` are its controls. It does not define ties or the
middle: here ties go to the earlier position, and an odd token of the middle goes to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from decaylab.errors import UserError
from decaylab.plugins import loading, origins

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

# `importance`: extra weight of the first token, falling to 0 as the log-ratio accumulates.
GAMMA = 0.5
# `rising`: w_min, tau and s of the source's schedule "Moderate".
FLOOR, CENTRE, STEEPNESS = 0.25, 0.30, 0.10


class Signals(NamedTuple):
    """Signals of each token of one rollout, in nats, [time]."""

    reverse_kl: Floats
    student_entropy: Floats
    teacher_entropy: Floats
    student_logprob: Floats  # of the sampled token
    teacher_logprob: Floats


Weigh = Callable[[Signals, int, np.random.Generator], Floats]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Selector:
    """How the positions of a rollout are weighted, and what a trainer needs to know about it.

    weigh: signals, budget in tokens and a generator in, weights of at least 0 out, [time].
    needs_signals: reads the signals' values; if False, only their length.
    stops_at_budget: sampling stops at the budget.
    whole: ignores the budget; every token carries loss.
    """

    weigh: Weigh
    needs_signals: bool = False
    stops_at_budget: bool = False
    whole: bool = False


def prefix(signals: Signals, budget: int, rng: np.random.Generator) -> Floats:
    """1 at the first positions, [time]."""
    return _window(len(signals.reverse_kl), 0, budget)


def suffix(signals: Signals, budget: int, rng: np.random.Generator) -> Floats:
    """1 at the last positions, [time]."""
    time = len(signals.reverse_kl)
    return _window(time, time - budget, budget)


def middle(signals: Signals, budget: int, rng: np.random.Generator) -> Floats:
    """1 at the positions around the middle of the rollout, [time]."""
    time = len(signals.reverse_kl)
    return _window(time, (time - budget) // 2, budget)


def random(signals: Signals, budget: int, rng: np.random.Generator) -> Floats:
    """1 at positions drawn without replacement, each equally likely, [time]."""
    time = len(signals.reverse_kl)
    weights = np.zeros(time)
    weights[rng.choice(time, min(budget, time), replace=False)] = 1.0
    return weights


def full(signals: Signals, budget: int, rng: np.random.Generator) -> Floats:
    """1 everywhere, [time]: ordinary on-policy distillation."""
    return np.ones(len(signals.reverse_kl))


def top_by(
    names: tuple[str, ...], signals: Signals, budget: int, rng: np.random.Generator
) -> Floats:
    """1 at the positions with the largest product of the named signals, [time]."""
    return top(np.multiply.reduce([getattr(signals, name) for name in names]), budget)


def top_by_all(
    names: tuple[str, ...], signals: Signals, budget: int, rng: np.random.Generator
) -> Floats:
    """1 at the positions in the top q of every named signal, [time].

    q is the smallest that fills the budget; ties at its edge go to the earlier positions.
    """
    return top(-np.maximum.reduce([ranks(getattr(signals, name)) for name in names]), budget)


def top_by_any(
    names: tuple[str, ...], signals: Signals, budget: int, rng: np.random.Generator
) -> Floats:
    """1 at the positions in the top q of any named signal, [time].

    q is the smallest that fills the budget; ties at its edge go to the earlier positions.
    """
    return top(-np.minimum.reduce([ranks(getattr(signals, name)) for name in names]), budget)


def importance(signals: Signals, budget: int, rng: np.random.Generator) -> Floats:
    """1 + gamma x (1 - share of the rollout's total |log-ratio| before the token), [time].

    gamma is 0.5; the log-ratio is log student - log teacher of the sampled token. Weights fall from
    1.5 at the first token towards 1. If the policies agree on every token, all weights are 1.5, as
    in the source.

    Source: IW-OPD, Algorithm 1 of arXiv 2606.22600, as in the authors' code (``iw_opd_weight_max``
    1.5) and TRL's ``IWOPDTrainer``: absolute log-ratios, not squares or exact KL; the sum excludes
    the token itself, although the authors' blog prints one that includes it; divided by the
    rollout's total; not rescaled to a mean of 1. We differ in two ways: no epsilon of 1e-8 in the
    denominator, and the weights multiply any loss, where the source multiplies the policy-gradient
    advantage of the sampled token.
    """
    spent = np.cumsum(np.append(0.0, np.abs(signals.student_logprob - signals.teacher_logprob)))
    share: Floats = spent[:-1] / (spent[-1] or 1.0)
    return 1 + GAMMA * (1 - share)


def rising(signals: Signals, budget: int, rng: np.random.Generator) -> Floats:
    """0.25 + 0.75 x sigmoid((u - 0.30) / 0.10), u = (position + 0.5) / length, [time].

    In a long rollout it rises from 0.29 at the start, through 0.625 at 30 %, to 1.00 at the end.

    Source: PW-OPSD, arXiv 2605.21606, schedule "Moderate" (w_min 0.25, tau 0.30, s 0.10), u as in
    the authors' code; not rescaled to a mean of 1. We use only the weight: the source applies it to
    a clipped forward KL to a teacher that has seen the answer, averaged over each rollout's length.
    """
    time = len(signals.reverse_kl)
    through = (np.arange(time) + 0.5) / time
    return FLOOR + (1 - FLOOR) / (1 + np.exp((CENTRE - through) / STEEPNESS))


def top(values: NDArray[np.number], budget: int) -> Floats:
    """1 at the positions of the largest values, [time]; ties go to the earlier positions."""
    time = len(values)
    if time <= budget:
        return np.ones(time)
    smallest = np.partition(values, time - budget)[time - budget]
    weights = np.where(values > smallest, 1.0, 0.0)
    weights[np.flatnonzero(values == smallest)[: budget - np.count_nonzero(weights)]] = 1.0
    return weights


def ranks(values: Floats) -> NDArray[np.int64]:
    """Rank of each value, 0 for the largest, [time]; ties go to the earlier position."""
    order = np.argsort(-values, kind="stable")
    places = np.empty(len(values), dtype=np.int64)
    places[order] = np.arange(len(values))
    return places


KL_AND_STUDENT = ("reverse_kl", "student_entropy")
BOTH_ENTROPIES = ("teacher_entropy", "student_entropy")

SELECTORS: dict[str, Selector] = {
    "prefix": Selector(prefix, stops_at_budget=True),
    "prefix-mask": Selector(prefix),  # the same loss, but rollouts run to their end
    "suffix": Selector(suffix),
    "middle": Selector(middle),
    "random": Selector(random),
    "full": Selector(full, whole=True),
    # Positions count from the student's first token, after the teacher's prefix.
    "after-teacher-prefix": Selector(prefix, stops_at_budget=True),
    # A prefix whose budget grows from step to step, see `progressive_budget`.
    "progressive": Selector(prefix, stops_at_budget=True),
    "top-reverse-kl": Selector(partial(top_by, ("reverse_kl",)), needs_signals=True),
    "top-student-entropy": Selector(partial(top_by, ("student_entropy",)), needs_signals=True),
    "top-teacher-entropy": Selector(partial(top_by, ("teacher_entropy",)), needs_signals=True),
    "top-reverse-kl-x-student-entropy": Selector(
        partial(top_by, KL_AND_STUDENT), needs_signals=True
    ),
    "top-teacher-entropy-x-student-entropy": Selector(
        partial(top_by, BOTH_ENTROPIES), needs_signals=True
    ),
    "top-all-three": Selector(partial(top_by, ("reverse_kl", *BOTH_ENTROPIES)), needs_signals=True),
    "top-reverse-kl-and-student-entropy": Selector(
        partial(top_by_all, KL_AND_STUDENT), needs_signals=True
    ),
    "top-reverse-kl-or-student-entropy": Selector(
        partial(top_by_any, KL_AND_STUDENT), needs_signals=True
    ),
    "top-teacher-entropy-and-student-entropy": Selector(
        partial(top_by_all, BOTH_ENTROPIES), needs_signals=True
    ),
    "top-teacher-entropy-or-student-entropy": Selector(
        partial(top_by_any, BOTH_ENTROPIES), needs_signals=True
    ),
    "importance": Selector(importance, needs_signals=True, whole=True),
    "rising": Selector(rising, whole=True),
}
"""Every selector, by the name that ``--selector`` takes."""


BUILT_IN = tuple(SELECTORS)
"""The names of decaylab's own selectors."""
COMPARED = (
    "prefix",
    "suffix",
    "middle",
    "random",
    "top-reverse-kl",
    "top-student-entropy",
    "top-teacher-entropy",
    "top-reverse-kl-x-student-entropy",
    "top-teacher-entropy-x-student-entropy",
    "top-all-three",
)
"""Compared by ``decaylab signals`` at one budget: windows, random, the paper's signals and their
products."""


def selector(
    name: str, *, needs_signals: bool = True, stops_at_budget: bool = False, whole: bool = False
) -> Callable[[Function], Function]:
    """Registers a function as a selector: ``@dl.selector("my-selector")``.

    The function takes the `Signals` of one rollout, the budget in tokens and a numpy generator, and
    returns one weight of at least 0 per token, [time]; a mask will do. It is called once per
    rollout and step, with the same generator when a run is resumed.

    Args:
        name: lower-case words joined by hyphens.
        needs_signals: whether the function reads the values of the signals. If False they are NaN,
            and training saves a pass over the tokens that carry no loss.
        stops_at_budget: whether training rollouts stop at the budget.
        whole: whether the function ignores the budget and may weight every token.

    Raises:
        UserError: an invalid name, one that exists, or a function with other arguments.
    """

    def registered(function: Function) -> Function:
        arguments = ("signals", "budget", "rng")
        origins.register(origins.SELECTOR, name, function, arguments, SELECTORS)
        SELECTORS[name] = Selector(function, needs_signals, stops_at_budget, whole)
        return function

    return registered


def weigh(selector: str, signals: Signals, budget: int, rng: np.random.Generator) -> Floats:
    """Weight of each position of one rollout in the loss, [time].

    budget: in tokens. rng: used by ``random``, and by selectors of the user's own.

    Raises:
        ValueError: an unknown selector, or a budget below 1.
        UserError: a selector of the user's own that raised an error, or did not return one weight
            of at least 0 per token, or weights for more tokens than the budget.
    """
    if selector not in SELECTORS:
        raise ValueError(f"unknown selector {selector!r}; choose from {', '.join(SELECTORS)}")
    _check_budget(budget)
    if origin := origins.ORIGINS.get((origins.SELECTOR, selector)):
        return _own_weights(SELECTORS[selector], origin, signals, budget, rng)
    return SELECTORS[selector].weigh(signals, budget, rng)


def _own_weights(
    selector: Selector,
    origin: origins.Origin,
    signals: Signals,
    budget: int,
    rng: np.random.Generator,
) -> Floats:
    """The weights of a selector of the user's own, checked."""
    time = len(signals.reverse_kl)
    given = signals if selector.needs_signals else Signals(*[np.full(time, np.nan)] * len(signals))
    try:
        weights = np.array(selector.weigh(_read_only(given), budget, rng), dtype=np.float64)
    except Exception as error:
        raise UserError(f"{origin.words}: {loading.described(error, origin.file)}") from error
    if weights.shape != (time,):
        raise UserError(
            f"{origin.words} must return one weight per token, of shape ({time},), got shape "
            f"{weights.shape}"
        )
    if not (np.isfinite(weights) & (weights >= 0)).all():
        hint = "" if selector.needs_signals else "; does it read signals? set needs_signals=True"
        raise UserError(
            f"{origin.words} must return finite weights of at least 0, got {weights.min()}{hint}"
        )
    chosen = int(np.count_nonzero(weights))
    if chosen > budget and not selector.whole:
        raise UserError(
            f"{origin.words} must weight at most budget = {budget} tokens, got {chosen} of {time}; "
            "register it with whole=True if it ignores the budget"
        )
    return weights


def _read_only(signals: Signals) -> Signals:
    """Views that cannot be written to: the columns are those that the run records."""
    columns = [column.view() for column in signals]
    for column in columns:
        column.flags.writeable = False
    return Signals(*columns)


def select(selector: str, signals: Signals, budget: int, rng: np.random.Generator) -> Mask:
    """Positions of one rollout with a weight above 0, [time]; raises as `weigh` does."""
    mask: Mask = weigh(selector, signals, budget, rng) > 0
    return mask


def progressive_budget(budget: int, step: int, steps: int) -> int:
    """Token budget of ``progressive`` at a step (from 0), rising linearly from 0.5 to 1.5 x budget.

    budget x (1/2 + step / (steps - 1)), rounded to whole tokens, halves to even. Then steps
    equally far from the start and the end add up to two budgets, and the mean over a run is exactly
    the budget. A run of one step uses the budget, and a budget of 1 stays 1. The source names a
    progressive N but gives no schedule; this one is ours, with the same total as ``prefix``.

    Raises:
        ValueError: a budget below 1, or a step outside the run.
    """
    _check_budget(budget)
    if not 0 <= step < steps:
        raise ValueError(f"step must be at least 0 and below {steps}, got {step}")
    if budget == 1 or steps == 1:
        return budget
    return round(Fraction(budget, 2) + Fraction(budget * step, steps - 1))


def _check_budget(budget: int) -> None:
    if budget < 1:
        raise ValueError(f"budget must be at least 1 token, got {budget}")


def _window(time: int, start: int, budget: int) -> Floats:
    weights = np.zeros(time)
    first = max(start, 0)
    weights[first : first + budget] = 1.0
    return weights
