"""Claims on what students are worth that were trained in different ways, by the arms of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    PAPER,
    POINTS,
    UNDECIDED,
    Claim,
    Effect,
    Judged,
    Number,
    Rule,
    Verdict,
    arm_points,
    every,
    listed,
    p_words,
    plain,
    points,
    remedy,
    seeds_remedy,
    seeds_words,
    some,
)
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement

BOTH = ("sweep rollout-length", "sweep selector")
LENGTHS = "decaylab sweep rollout-length --values 5,10,20,40,60,full --seeds 3"
SELECTORS = "decaylab sweep selector --values prefix,full,{} --seeds 3"
AGAINST = {  # by what arms are compared, the first that was measured
    "_minus_full": " against full rollouts",
    "_minus_base": " against the untrained student",
    "_minus_teacher": " against the teacher",
    "": "",
}
NOT_PAIRED = (
    "Over problems no paired difference of two arms is measured: the ends of two "
    "intervals decide, which asks for more."
)
MORE, LESS, FASTER = Effect(0.0, POINTS), Effect(0.0, -POINTS), Effect(1.0, 0.9)
COUNTED = "What counts is a difference of 2 points."
BEATS = Claim(
    "early-stopping-beats-full",
    "A student trained on rollouts that stop early is right more often than one trained on full "
    "rollouts.",
    f"{PAPER}, Fig. 1 right and main table",
    "Paired difference to full rollouts at each N that samples half of their tokens or fewer: "
    "where an N comes near to a "
    "full rollout, both are one thing. Holds where one of them is shown to lie above 0, corrected "
    "for all arms; contradicted "
    "where each lies below; not supported where each excludes being ahead by what counts. "
    f"{COUNTED}",
    LENGTHS,
    BOTH,
    "n-sweep",
)
PEAK = Claim(
    "peak-between",
    "Accuracy peaks at a rollout length between none and the full rollout.",
    f"{PAPER}, Fig. 1 right",
    "Paired differences at two N or more. Holds where one N is shown to lie above full rollouts "
    "and above the untrained "
    "student, corrected for all arms; contradicted where each N lies below full rollouts; not "
    "supported where each excludes "
    f"being ahead of them by what counts. {COUNTED}",
    LENGTHS,
    BOTH,
    "n-sweep",
)
WORSE = Claim(
    "selectors-worse",
    "Tokens chosen by KL or entropy teach less than as many tokens from the start.",
    f"{PAPER}, table of section 5.1; the contrary in arXiv 2604.14084",
    "Difference to full rollouts of each selector by KL or entropy, less that of the prefix at "
    "the same budget. Holds where "
    "each lies below 0, contradicted where some lie above and none below, corrected for all of "
    "them; not supported where one "
    f"excludes being behind by what counts. {COUNTED}",
    SELECTORS.format("top-reverse-kl,top-student-entropy,top-teacher-entropy"),
    ("sweep selector",),
    "token-selection",
)
FIRST = Claim(
    "first-beats-last",
    "The first tokens of a rollout teach more than as many of its last ones.",
    "arXiv 2606.22600; the contrary in arXiv 2605.21606",
    "Difference to full rollouts of the suffix, less that of the prefix at the same budget. Holds "
    "where it lies below 0, "
    "contradicted where above; not supported where it excludes being behind by what counts. "
    f"{COUNTED}",
    SELECTORS.format("suffix"),
    ("sweep selector",),
    "token-selection",
)
WEIGHTED = (
    "Paired difference to full rollouts of uniform weight. Holds where it lies above 0, "
    "contradicted where below; not "
    f"supported where it excludes being ahead by what counts. {COUNTED}"
)
FALLING = Claim(
    "falling-weights",
    "Weights that fall as the policies' disagreement adds up teach more than uniform ones.",
    "arXiv 2606.22600",
    WEIGHTED,
    SELECTORS.format("importance"),
    ("sweep selector",),
    "token-selection",
)
RISING = Claim(
    "rising-weights",
    "Weights that rise with position teach more than uniform ones.",
    "arXiv 2605.21606",
    WEIGHTED,
    SELECTORS.format("rising"),
    ("sweep selector",),
    "token-selection",
)
CHEAPER = Claim(
    "cheaper",
    "A training step on rollouts that stop early takes less time than one on full rollouts.",
    f"{PAPER}, efficiency table: 24 times less",
    "Ratio of the seconds of a step to those of full rollouts of the same seed, at each N that "
    "samples half of their tokens "
    "or fewer. Holds where each lies below 1, contradicted where one lies above and none below; "
    "not supported where one "
    "excludes a tenth less, which is what counts.",
    "decaylab sweep rollout-length --values 20,full --seeds 3 --workers 1",
    BOTH,
    "efficiency",
)


def beats(run: FoundRun) -> Judged | None:
    """Whether some early stop is better than full rollouts."""
    arms = Arms.of(run)
    prefixes = arms.numbers(arms.named("prefix")) if arms else {}
    if not arms or not prefixes:
        return None
    short = arms.early()
    early = {arm: number for arm, number in prefixes.items() if arm in short}
    if not early:
        lengths = _lengths(arms, prefixes)
        told = (
            f"Of no N of this sweep ({lengths}) it is known that it samples half of the tokens "
            "or fewer."
        )
        return Judged(NOT_TESTABLE, told, _rows(prefixes))
    found = [number.decided(MORE, len(early)) for number in early.values()]
    said = [_best(arms, early), _outcome(found)]
    later = [
        f"{arms.lengths[arm]:g}: {points(number.over_problems[0])}"
        for arm, number in prefixes.items()
        if arm not in early
    ]
    said += (
        [f"Of those that sample more than half of the tokens, {'; '.join(later)}."] if later else []
    )
    return _judged(some(found), said, MORE, early, _rows(prefixes))


def peak(run: FoundRun) -> Judged | None:
    """Whether a rollout length is better than both none and full."""
    arms = Arms.of(run)
    full = arms.numbers(arms.named("prefix")) if arms else {}
    if not arms or len(full) < 2:
        return None
    base = arms.numbers([*full], "_minus_base")
    found = {arm: number.decided(MORE, len(full)) for arm, number in full.items()}
    ahead = [arm for arm in full if found[arm] == HOLDS]
    peaks = [arm for arm in ahead if arm in base and base[arm].decided(MORE, len(full)) == HOLDS]
    shown = HOLDS if peaks else UNDECIDED if ahead else some([*found.values()])
    below = [*found.values()].count(CONTRADICTED)
    said = [_best(arms, full), f"{below} of {len(full)} are shown to lie below full rollouts."]
    said += (
        [f"{listed(arms.lengths[arm] for arm in peaks)} above them and the untrained student."]
        if peaks
        else []
    )
    return _judged(shown, said, MORE, full, (*_rows(full), *_rows(base)))


def worse(run: FoundRun) -> Judged | None:
    """Whether every selector by KL or entropy is behind the prefix."""
    arms = Arms.of(run)
    chosen = (
        [arm for arm, selector in arms.selectors.items() if selector.startswith("top-")]
        if arms
        else []
    )
    return _against_prefix(arms, chosen, "selectors by KL or entropy") if arms else None


def first(run: FoundRun) -> Judged | None:
    """Whether the prefix is ahead of the suffix."""
    arms = Arms.of(run)
    return _against_prefix(arms, arms.named("suffix"), "suffixes") if arms else None


def falling(run: FoundRun) -> Judged | None:
    """Whether weights that fall with spent disagreement are better than uniform ones."""
    return _weights(run, "importance")


def rising(run: FoundRun) -> Judged | None:
    """Whether weights that rise with position are better than uniform ones."""
    return _weights(run, "rising")


def cheaper(run: FoundRun) -> Judged | None:
    """Whether a step of each early stop takes less time."""
    arms = Arms.of(run)
    early = {arm: arms.seconds(arm) for arm in arms.early()} if arms else {}
    numbers = {arm: number for arm, number in early.items() if number is not None}
    if not arms or not numbers:
        return None
    found = [number.decided(FASTER, len(numbers), each=True) for number in numbers.values()]
    tokens = {arm: arms.tokens(arm) for arm in numbers}
    rows = [number.over_seeds for number in numbers.values() if number.over_seeds]
    said = [
        f"N = {arms.lengths[arm]:g}: {_ratio(number)} of the seconds"
        + (f", {share.value:.2f} of the sampled tokens" if (share := tokens[arm]) else "")
        for arm, number in numbers.items()
    ]
    notes = listed(dict.fromkeys(row.note for row in rows if row.note))
    words = [f"Over full rollouts, {'; '.join(said)}."]
    words += [f"{notes[0].upper()}{notes[1:]}."] if notes else []
    return _judged(
        every(found), words, FASTER, numbers, (*rows, *(row for row in tokens.values() if row))
    )


def _ratio(number: Number) -> str:
    """The ratio with its interval over seeds, or each seed's."""
    row = number.over_seeds
    assert row is not None
    said = plain(row)
    if number.seeds > 1 and row.low != row.low:
        said = f"{row.value:.2f} ({listed(f'{value:.2f}' for value in number.by_seed)} by seed)"
    return said


RULES: tuple[tuple[Claim, Rule], ...] = (
    (BEATS, beats),
    (PEAK, peak),
    (WORSE, worse),
    (FIRST, first),
    (FALLING, falling),
    (RISING, rising),
    (CHEAPER, cheaper),
)


def _against_prefix(arms: Arms, chosen: Sequence[str], name: str) -> Judged | None:
    """Whether arms are behind the prefix at their budget, by what both differ from."""
    prefixes = arms.named("prefix") or arms.named("prefix-mask")
    compared = [
        (arms.numbers(chosen, ending), arms.numbers(prefixes[:1], ending), ending)
        for ending in AGAINST
    ]
    theirs, anchor, ending = next((one for one in compared if one[0] and one[1]), ({}, {}, ""))
    if not theirs:
        return None
    ((prefix_arm, prefix),) = anchor.items()
    less = {
        arm: number for arm in theirs if (number := arms.less(arm, prefix_arm, ending)) is not None
    }
    found = [number.decided(LESS, len(less), each=True) for number in less.values()]
    best = max(less, key=lambda arm: less[arm].value)
    said = (
        [
            f"Of {len(found)} {name} {found.count(CONTRADICTED)} lie above the prefix and "
            f"{found.count(HOLDS)} below."
        ]
        if len(found) > 1
        else []
    )
    said += [
        f"{'The best, ' if len(found) > 1 else ''}{best}: "
        f"{arm_points(theirs[best])}{AGAINST[ending]}; {prefix_arm}: "
        f"{arm_points(prefix)}. Less the prefix, {best} is {arm_points(less[best])}.",
        NOT_PAIRED,
    ]
    return _judged(every(found), said, LESS, less, (*_rows(anchor), *_rows(theirs), *_rows(less)))


def _weights(run: FoundRun, selector: str) -> Judged | None:
    arms = Arms.of(run)
    numbers = arms.numbers(arms.named(selector)) if arms else {}
    if not numbers:
        return None
    number = next(iter(numbers.values()))
    notes = [
        f"{row.note[0].upper()}{row.note[1:]}."
        for row in number.rows
        if row.note and number.seeds > 1
    ]
    words = f"{_against_full(number)}."
    said = [words[0].upper() + words[1:], *dict.fromkeys(notes)]
    return _judged(number.decided(MORE), said, MORE, {selector: number}, number.rows)


def _judged(
    found: Verdict,
    said: Sequence[str],
    effect: Effect,
    numbers: Mapping[str, Number],
    rows: tuple[Measurement, ...],
) -> Judged:
    """The verdict with what must be known of the seeds behind it, and what would test the claim
    where this does not."""
    words = [*said, *seeds_words([*numbers.values()])]
    if found == NOT_TESTABLE:
        problems = remedy(
            effect, [row for number in numbers.values() for row in number.over_problems]
        )
        seeds = seeds_remedy(effect, [*numbers.values()])
        words += (
            [f"{problems[:-1]}, and, besides, {seeds[0].lower()}{seeds[1:]}"]
            if problems and seeds
            else []
        )
        words += filter(None, [problems, seeds]) if not (problems and seeds) else []
    return Judged(found, " ".join(words), rows)


def _best(arms: Arms, numbers: Mapping[str, Number]) -> str:
    """The best N against full rollouts, of those that are shown to be better if any is."""
    best = max(
        numbers,
        key=lambda arm: (numbers[arm].decided(MORE, len(numbers)) == HOLDS, numbers[arm].value),
    )
    lead = f"Of N = {_lengths(arms, numbers)} the best is " if len(numbers) > 1 else "N = "
    return f"{lead}{arms.lengths[best]:g}: {_against_full(numbers[best])}."


def _against_full(number: Number) -> str:
    return f"{arm_points(number)} against full rollouts{p_words(number.over_problems[0])}"


def _outcome(found: Sequence[Verdict]) -> str:
    several = len(found) > 1
    if HOLDS in found:
        return "It beats them."
    if set(found) == {CONTRADICTED}:
        return "Each of them stays behind." if several else "It stays behind."
    if set(found) <= {CONTRADICTED, NOT_SUPPORTED}:
        return f"{'None of them is' if several else 'It is not'} ahead by what counts."
    return f"{'None of them' if several else 'Neither'} is shown to be ahead."


def _lengths(arms: Arms, chosen: Mapping[str, Number]) -> str:
    return listed(arms.lengths[arm] for arm in chosen)


def _rows(numbers: Mapping[str, Number]) -> tuple[Measurement, ...]:
    return tuple(row for number in numbers.values() for row in number.rows)
