"""Claims on what students are worth that were trained in different ways, by the arms of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from decaylab.found_runs import FoundRun
from decaylab.measurements import Measurement
from decaylab.sweep_arms import ONE_RUN, Arms
from decaylab.verdicts import (
    CONTRADICTED,
    HOLDS,
    ONE_SEED,
    PAPER,
    UNDECIDED,
    Claim,
    Judged,
    Number,
    Rule,
    Verdict,
    arm_points,
    listed,
    p_words,
    pick,
    plain,
    points,
    side,
    verdict,
)

BOTH = ("sweep rollout-length", "sweep selector")
LENGTHS = "decaylab sweep rollout-length --values 5,10,20,40,60,full --seeds 3"
SELECTORS = "decaylab sweep selector --values prefix,full,{} --seeds 3"
AGAINST = {  # by what arms are compared, the first that was measured
    "_minus_full": " against full rollouts",
    "_minus_base": " against the untrained student",
    "_minus_teacher": " against the teacher",
    "": "",
}
NOT_PAIRED = "No paired difference of two arms is measured: intervals that do not touch decide, which asks for more."
BEATS = Claim(
    "early-stopping-beats-full",
    "A student trained on rollouts that stop early is right more often than one trained on full rollouts.",
    f"{PAPER}, Fig. 1 right and main table",
    "Paired difference to full rollouts at each N that samples half of their tokens or fewer: where an N comes near to a "
    "full rollout, both are one thing. Holds where one of them lies above 0, contradicted where each lies below.",
    LENGTHS,
    BOTH,
    "n-sweep",
)
PEAK = Claim(
    "peak-between",
    "Accuracy peaks at a rollout length between none and the full rollout.",
    f"{PAPER}, Fig. 1 right",
    "Paired differences at two N or more. Holds where one N lies above full rollouts and above the untrained student; "
    "contradicted where each N lies below full rollouts.",
    LENGTHS,
    BOTH,
    "n-sweep",
)
WORSE = Claim(
    "selectors-worse",
    "Tokens chosen by KL or entropy teach less than as many tokens from the start.",
    f"{PAPER}, table of section 5.1; the contrary in arXiv 2604.14084",
    "Difference to full rollouts of each selector by KL or entropy, against that of the prefix at the same budget. Holds "
    "where each lies wholly below the prefix, contradicted where some lie wholly above and none below.",
    SELECTORS.format("top-reverse-kl,top-student-entropy,top-teacher-entropy"),
    ("sweep selector",),
    "token-selection",
)
FIRST = Claim(
    "first-beats-last",
    "The first tokens of a rollout teach more than as many of its last ones.",
    "arXiv 2606.22600; the contrary in arXiv 2605.21606",
    "Difference to full rollouts of the prefix against that of the suffix at the same budget. Holds where it lies wholly "
    "above, contradicted where wholly below.",
    SELECTORS.format("suffix"),
    ("sweep selector",),
    "token-selection",
)
WEIGHTED = (
    "Paired difference to full rollouts of uniform weight. Holds where it lies above 0, contradicted where below."
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
    "Ratio of the seconds of a step to those of full rollouts, at each N that samples half of their tokens or fewer. Holds "
    "where each lies below 1, contradicted where one lies above and none below.",
    "decaylab sweep rollout-length --values 20,full --seeds 3 --workers 1",
    BOTH,
    "efficiency",
)


def beats(run: FoundRun) -> Judged | None:
    """Whether some early stop is better than full rollouts."""
    arms = Arms.of(run)
    every = arms.numbers(arms.named("prefix")) if arms else {}
    if not arms or not every:
        return None
    early = {arm: number for arm, number in every.items() if arm in arms.early()}
    if not early:
        told = (
            f"Of no N of this sweep ({_lengths(arms, every)}) it is known that it samples half of the tokens or fewer."
        )
        return Judged(UNDECIDED, told, _rows(every))
    sides = [number.side() for number in early.values()]
    shown = HOLDS if 1 in sides else CONTRADICTED if set(sides) == {-1} else UNDECIDED
    said = [_best(arms, early), _outcome(sides)]
    later = [
        f"{arms.lengths[arm]:g}: {points(number.over_problems)}" for arm, number in every.items() if arm not in early
    ]
    said += [f"Of those that sample more than half of the tokens, {'; '.join(later)}."] if later else []
    return Judged(shown, " ".join([*said, *_seeds(early)]), _rows(every))


def peak(run: FoundRun) -> Judged | None:
    """Whether a rollout length is better than both none and full."""
    arms = Arms.of(run)
    full = arms.numbers(arms.named("prefix")) if arms else {}
    if not arms or len(full) < 2:
        return None
    base = arms.numbers([*full], "_minus_base")
    peaks = [arm for arm in full if full[arm].side() > 0 and arm in base and base[arm].side() > 0]
    sides = [number.side() for number in full.values()]
    shown = HOLDS if peaks else CONTRADICTED if set(sides) == {-1} else UNDECIDED
    below = f"{sides.count(-1)} of {len(sides)} lie below full rollouts"
    said = [_best(arms, full)]
    said += [f"{below}; a peak at the others is neither shown nor excluded." if shown == UNDECIDED else f"{below}."]
    said += [f"{listed(arms.lengths[arm] for arm in peaks)} above them and the untrained student."] if peaks else []
    return Judged(shown, " ".join([*said, *_seeds(full)]), (*_rows(full), *_rows(base)))


def worse(run: FoundRun) -> Judged | None:
    """Whether every selector by KL or entropy is behind the prefix."""
    arms = Arms.of(run)
    chosen = [arm for arm, selector in arms.selectors.items() if selector.startswith("top-")] if arms else []
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
    early = arms.early() if arms else []
    rows = {
        arm: row for arm in early for row in pick(run.measurements, "seconds_ratio", checkpoint=arm, condition="total")
    }
    if not arms or not rows:
        return None
    sides = [side(row, at=1.0) for row in rows.values()]
    shown: Verdict = HOLDS if set(sides) == {-1} else CONTRADICTED if 1 in sides and -1 not in sides else UNDECIDED
    tokens = {arm: arms.tokens(arm) for arm in rows}
    said = [
        f"N = {arms.lengths[arm]:g}: {plain(row)} of the seconds"
        + (f", {share.value:.2f} of the sampled tokens" if (share := tokens[arm]) else "")
        for arm, row in rows.items()
    ]
    notes = listed(dict.fromkeys(row.note for row in rows.values() if row.note))
    words = f"Over full rollouts, {'; '.join(said)}." + (f" {notes[0].upper()}{notes[1:]}." if notes else "")
    words += f" {ONE_SEED}" if any(row.estimand == ONE_RUN for row in rows.values()) else ""
    return Judged(shown, words, (*rows.values(), *(row for row in tokens.values() if row)))


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
        (arms.numbers(chosen, ending), arms.numbers(prefixes[:1], ending), said) for ending, said in AGAINST.items()
    ]
    theirs, anchor, reference = next((one for one in compared if one[0] and one[1]), ({}, {}, ""))
    if not theirs:
        return None
    ((prefix_arm, prefix),) = anchor.items()
    sides = [number.apart(prefix) for number in theirs.values()]
    above, below = sides.count(1), sides.count(-1)
    shown: Verdict = HOLDS if below == len(sides) else CONTRADICTED if above and not below else UNDECIDED
    best = max(theirs, key=lambda arm: theirs[arm].value)
    said = (
        f"Of {len(sides)} {name} {above} lie above the prefix and {below} below. The best, " if len(sides) > 1 else ""
    )
    said += f"{best}: {arm_points(theirs[best])}{reference}; {prefix_arm}: {arm_points(prefix)}."
    return Judged(shown, " ".join([said, NOT_PAIRED, *_seeds({**theirs, **anchor})]), _rows({**anchor, **theirs}))


def _weights(run: FoundRun, selector: str) -> Judged | None:
    arms = Arms.of(run)
    numbers = arms.numbers(arms.named(selector)) if arms else {}
    if not numbers:
        return None
    number = next(iter(numbers.values()))
    notes = "".join(f" {row.note[0].upper()}{row.note[1:]}." for row in number.rows if row.note and number.seeds > 1)
    words = f"{_against_full(number)}.{notes}"
    return Judged(verdict(number.side()), " ".join([words[0].upper() + words[1:], *_seeds(numbers)]), number.rows)


def _best(arms: Arms, numbers: Mapping[str, Number]) -> str:
    """The best N against full rollouts, of those that are shown to be better if any is."""
    best = max(numbers, key=lambda arm: (numbers[arm].side() > 0, numbers[arm].value))
    lead = f"Of N = {_lengths(arms, numbers)} the best is " if len(numbers) > 1 else "N = "
    return f"{lead}{arms.lengths[best]:g}: {_against_full(numbers[best])}."


def _against_full(number: Number) -> str:
    return f"{arm_points(number)} against full rollouts{p_words(number.over_problems)}"


def _outcome(sides: Sequence[int]) -> str:
    if 1 in sides:
        return "It beats them."
    if set(sides) == {-1}:
        return "Each of them stays behind." if len(sides) > 1 else "It stays behind."
    if len(sides) == 1:
        return "Neither is shown to be ahead: it may reach them."
    return "None of them is shown to be ahead of full rollouts, and not all are shown to stay behind: such an N may reach them."


def _lengths(arms: Arms, chosen: Mapping[str, Number]) -> str:
    return listed(arms.lengths[arm] for arm in chosen)


def _seeds(numbers: Mapping[str, Number]) -> list[str]:
    return [ONE_SEED] if any(number.seeds < 2 for number in numbers.values()) else []


def _rows(numbers: Mapping[str, Number]) -> tuple[Measurement, ...]:
    return tuple(row for number in numbers.values() for row in number.rows)
