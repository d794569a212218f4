"""Claims that compare students trained in different ways, by the arms of a sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    POINTS,
    UNDECIDED,
    Effect,
    Judged,
    Number,
    Rule,
    Verdict,
    every,
    remedy,
    seeds_remedy,
    seeds_words,
    some,
    why_open,
)
from decaylab.claims.wording import RATIO, arm_points, listed, p_words, points, sentence
from decaylab.maths.selection import BUILT_IN
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import BASE, minus

AGAINST = {  # the references of arms; the first one measured is used
    "_minus_full": " against full rollouts",
    "_minus_base": " against the untrained student",
    "_minus_teacher": " against the teacher",
    "": "",
}
NOT_PAIRED = (
    "The two arms are compared by the ends of their intervals over problems, which is "
    "stricter than a paired difference."
)
MORE, LESS, FASTER = Effect(0.0, POINTS), Effect(0.0, -POINTS), Effect(1.0, 0.9)


Numbers = Mapping[str, Number]  # by arm


def _of_arms(rule: Callable[..., Judged | None], *more: str) -> Rule:
    """A rule on a run from a rule on its arms; None if the run has no arms."""

    def of_run(run: FoundRun) -> Judged | None:
        arms = Arms.of(run)
        return rule(arms, *more) if arms else None

    return of_run


def _beats(arms: Arms) -> Judged | None:
    """Whether some early stop is more accurate than full rollouts."""
    prefixes = arms.numbers(arms.named("prefix"))
    if not prefixes:
        return None
    short = arms.early()
    early = {arm: number for arm, number in prefixes.items() if arm in short}
    if not early:
        unknown = (
            f"No N of this sweep ({_lengths(arms, prefixes)}) is known to sample at most half of "
            "the tokens."
        )
        return Judged(NOT_TESTABLE, unknown, _rows(prefixes))
    verdicts = [number.decided(MORE, len(early)) for number in early.values()]
    words = [_best(arms, early), _outcome(verdicts)]
    later = []
    for arm, number in prefixes.items():
        if arm not in early:
            later.append(f"N = {arms.lengths[arm]:g}: {points(number.over_problems[0])}")
    if later:
        words.append(f"With more than half of the tokens, {'; '.join(later)}.")
    return _judged(some(verdicts), words, MORE, early, _rows(prefixes))


def _peak(arms: Arms) -> Judged | None:
    """Whether a rollout length is more accurate than both no training and full rollouts."""
    full = arms.numbers(arms.named("prefix"))
    if len(full) < 2:
        return None
    base = arms.numbers(list(full), minus(arms.what, BASE))
    verdicts = {arm: number.decided(MORE, len(full)) for arm, number in full.items()}
    ahead = [arm for arm, verdict in verdicts.items() if verdict == HOLDS]
    peaks = [arm for arm in ahead if arm in base and base[arm].decided(MORE, len(full)) == HOLDS]
    verdict = some(list(verdicts.values()))
    if ahead:
        verdict = HOLDS if peaks else UNDECIDED
    below = list(verdicts.values()).count(CONTRADICTED)
    words = [_best(arms, full), f"{below} of {len(full)} are shown to be below full rollouts."]
    if peaks:
        lengths = listed(arms.lengths[arm] for arm in peaks)
        words.append(f"{lengths} above both full rollouts and the untrained student.")
    return _judged(verdict, words, MORE, full, _rows(full) + _rows(base))


def _against_prefix(arms: Arms, selectors: str, name: str) -> Judged | None:
    """Whether arms are behind the prefix at their budget, compared by a common reference.

    selectors: beginning of their selectors' names. A selector of the user's own is none of them.
    """
    known = [name for name in BUILT_IN if name.startswith(selectors)]
    chosen = [arm for arm, selector in arms.selectors.items() if selector in known]
    prefixes = arms.named("prefix") or arms.named("prefix-mask")
    for ending in AGAINST:
        theirs = arms.numbers(chosen, arms.what + ending)
        anchor = arms.numbers(prefixes[:1], arms.what + ending)
        if theirs and anchor:
            break
    else:
        return None
    ((prefix_arm, prefix),) = anchor.items()
    less = {arm: arms.less(arm, prefix_arm, arms.what + ending) for arm in theirs}
    verdicts = [number.decided(LESS, len(less), each=True) for number in less.values()]
    best = max(less, key=lambda arm: less[arm].value)
    lead, words = "", []
    if len(less) > 1:
        lead = "The best, "
        words.append(
            f"Of {len(less)} {name}, {verdicts.count(CONTRADICTED)} are above the prefix and "
            f"{verdicts.count(HOLDS)} below."
        )
    words.append(
        f"{lead}{best}: {arm_points(theirs[best])}{AGAINST[ending]}; {prefix_arm}: "
        f"{arm_points(prefix)}. The difference of {best} from the prefix is "
        f"{arm_points(less[best])}."
    )
    rows = _rows(anchor) + _rows(theirs) + _rows(less)
    return _judged(every(verdicts), words + [NOT_PAIRED], LESS, less, rows)


def _weights(arms: Arms, selector: str) -> Judged | None:
    """Whether these weights are better than uniform ones."""
    numbers = arms.numbers(arms.named(selector))
    if not numbers:
        return None
    number = next(iter(numbers.values()))
    words = [sentence(_against_full(number))]
    for row in number.rows:
        if row.note and number.seeds > 1:
            words.append(sentence(row.note))
    only = {selector: number}
    return _judged(number.decided(MORE), dict.fromkeys(words), MORE, only, number.rows)


def _cheaper(arms: Arms) -> Judged | None:
    """Whether a step with each early stop takes less time."""
    seconds = {arm: arms.seconds(arm) for arm in arms.early()}
    numbers = {arm: number for arm, number in seconds.items() if number is not None}
    if not numbers:
        return None
    verdicts = [number.decided(FASTER, len(numbers), each=True) for number in numbers.values()]
    parts, rows, shares = [], [], []
    for arm, number in numbers.items():
        part = f"N = {arms.lengths[arm]:g} takes {ratio_words(number)} of the seconds"
        rows += [number.over_seeds] if number.over_seeds else []
        if share := arms.tokens(arm):
            part += f" and {RATIO.text(share.value)} of the sampled tokens"
            shares.append(share)
        parts.append(part)
    words = [f"Relative to full rollouts, {'; '.join(parts)}."]
    if notes := listed(dict.fromkeys(row.note for row in rows if row.note)):
        words.append(sentence(notes))
    return _judged(every(verdicts), words, FASTER, numbers, tuple(rows + shares))


def ratio_words(number: Number) -> str:
    """The ratio with its interval over seeds, or each seed's."""
    row = number.over_seeds
    assert row is not None
    if number.seeds > 1 and math.isnan(row.low):
        by_seed = listed(RATIO.text(value) for value in number.by_seed)
        return f"{RATIO.text(row.value)} ({by_seed} per seed)"
    return RATIO.number(row)


RULES: dict[str, Rule] = {
    "early-stopping-beats-full": _of_arms(_beats),
    "peak-between": _of_arms(_peak),
    "selectors-worse": _of_arms(_against_prefix, "top-", "selectors by KL or entropy"),
    "first-beats-last": _of_arms(_against_prefix, "suffix", "suffixes"),
    "falling-weights": _of_arms(_weights, "importance"),
    "rising-weights": _of_arms(_weights, "rising"),
    "cheaper": _of_arms(_cheaper),
}


def _judged(
    verdict: Verdict,
    words: Iterable[str],
    effect: Effect,
    numbers: Numbers,
    rows: tuple[Measurement, ...],
) -> Judged:
    """The verdict, with sentences on its seeds and, if undecided, on what would test the claim."""
    every_number = list(numbers.values())
    more: list[str] = []
    if verdict == NOT_TESTABLE:
        over = [row for number in every_number for row in number.over_problems]
        problems, seeds = remedy(effect, over), seeds_remedy(effect, every_number)
        if problems and seeds:
            seeds = f"{problems[:-1]}, and {seeds[0].lower()}{seeds[1:]}"
            problems = ""
        more = [part for part in (problems, seeds) if part]
    sentences = [*words, *seeds_words(every_number), *more]
    return Judged(verdict, " ".join(sentences), rows, why_open(verdict, every_number, more))


def _best(arms: Arms, numbers: Numbers) -> str:
    """The best N against full rollouts; if any is shown to be better, the best of those."""

    def rank(arm: str) -> tuple[bool, float]:
        return numbers[arm].decided(MORE, len(numbers)) == HOLDS, numbers[arm].value

    best = max(numbers, key=rank)
    lead = f"Of N = {_lengths(arms, numbers)}, the best is " if len(numbers) > 1 else "N = "
    return f"{lead}{arms.lengths[best]:g}: {_against_full(numbers[best])}."


def _against_full(number: Number) -> str:
    return f"{arm_points(number)} against full rollouts{p_words(number.over_problems[0])}"


def _outcome(verdicts: Sequence[Verdict]) -> str:
    several = len(verdicts) > 1
    if HOLDS in verdicts:
        return "It is ahead."
    if set(verdicts) == {CONTRADICTED}:
        return "Each of them is behind." if several else "It is behind."
    if set(verdicts) <= {CONTRADICTED, NOT_SUPPORTED}:
        return f"{'None of them is' if several else 'It is not'} ahead by a size that counts."
    return f"{'None of them' if several else 'Neither'} is shown to be ahead."


def _lengths(arms: Arms, chosen: Iterable[str]) -> str:
    return listed(arms.lengths[arm] for arm in chosen)


def _rows(numbers: Numbers) -> tuple[Measurement, ...]:
    return tuple(row for number in numbers.values() for row in number.rows)
