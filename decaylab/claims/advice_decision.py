"""The decision by the rule of `advice`, with one function per outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from decaylab.claims import advice_next
from decaylab.claims.advice_candidates import (
    AS_GOOD,
    BETTER,
    FULL_ROLLOUTS,
    MORE,
    PREFIX,
    WORSE,
    Candidate,
    Compared,
    Setting,
    largest,
)
from decaylab.claims.advice_gain import Gain
from decaylab.claims.advice_lengths import Suggestion
from decaylab.claims.advice_next import Experiment
from decaylab.claims.advice_runs import Read
from decaylab.claims.verdicts import (
    CONTRADICTED,
    NOT_SUPPORTED,
    POINTS,
    RATIO,
    arm_points,
    seeds_words,
    sentence,
)
from decaylab.maths.seeds import LEAST_SEEDS
from decaylab.printing import percent
from decaylab.runs.vocabulary import BASE, FULL, minus

NEAR = 1.5  # factor within which two lengths count as the same


@dataclass(frozen=True)
class Decision:
    """chosen: the recommended candidate; None for full rollouts or no recommendation."""

    recommended: Setting | None
    verdict: tuple[str, str]
    would_change: str
    experiment: Experiment | None = None
    chosen: Candidate | None = None
    gain: Gain | None = None


def decide(read: Read, compared: Compared, suggestion: Suggestion) -> Decision:
    """Applies the rule of `advice`."""
    candidates = compared.candidates
    if not candidates:
        return _untried(read, suggestion)
    torn = any(each.torn for each in candidates) or compared.conflicts
    if not torn and not any(each.gain.known or each.verdict == WORSE for each in candidates):
        return _too_little(candidates)
    best = largest(compared.those(BETTER), key=lambda each: each.gain.expected)
    cheap = [each for each in compared.those(AS_GOOD) if each.cheaper]
    chosen = best or largest(cheap, key=lambda each: -each.tokens.value if each.tokens else 0.0)
    if contradiction := _contradiction(compared, best, chosen):
        return contradiction
    if useless := _useless(compared, chosen):
        return useless
    if chosen is None:
        return _full(compared, suggestion)
    gain = chosen.gain
    setting = chosen.setting
    if chosen is best:
        reason = f"It is expected to gain {gain.words} over full rollouts{_chosen_among(gain)}."
        change_of_mind = (
            "A repeat with other seeds or problems in which it is not ahead of full rollouts."
        )
    else:
        tokens = RATIO.number(chosen.tokens) if chosen.tokens else ""
        reason = (
            f"No setting is shown to be better than full rollouts. This one is as accurate within "
            f"{percent(POINTS):g} points, {gain.words}, and samples {tokens} of the tokens."
        )
        change_of_mind = (
            f"A repeat that shows a loss of more than {percent(POINTS):g} points against full "
            "rollouts."
        )
    again = advice_next.repeat(chosen, f"Repeat {setting.arm} and full rollouts with new seeds")
    return Decision(
        setting, (f"Train with {setting.words}.", reason), change_of_mind, again, chosen, gain
    )


def _untried(read: Read, suggestion: Suggestion) -> Decision:
    first = (
        "No setting is recommended yet: no run of this pair compared a setting with full rollouts, "
        "which remain the default."
    )
    second = "The measurements without training suggest no rollout length to compare with them."
    if suggestion.obstacles:
        second = sentence(f"no length is suggested to compare: {'; '.join(suggestion.obstacles)}")
    following = None
    if read.decay is None:
        following = advice_next.decay_run(read.signals)
    elif suggestion.too_few:
        following = advice_next.more_problems(read.decay)
    if suggestion.tokens is not None:
        if read.decay is not None:
            following = advice_next.first_sweep(suggestion.tokens, read.decay)
        second = (
            f"The length to compare with them is {suggestion.words}; it remains a guess until both "
            "have been trained."
        )
    return Decision(
        None,
        (first, second),
        "Training runs with full and with shorter rollouts, with at least three seeds each.",
        following,
    )


def _too_little(candidates: Sequence[Candidate]) -> Decision:
    seeds = max(each.number.seeds for each in candidates)
    reason = " ".join(seeds_words([each.number for each in candidates]))
    reason = reason or "They have too few problems, or intervals at less than 95 %."
    few = seeds < LEAST_SEEDS
    return Decision(
        None,
        (
            "No setting is recommended yet: the sweeps are inconclusive, and full rollouts remain "
            "the default.",
            reason,
        ),
        "More training seeds, problems or steps.",
        advice_next.more_seeds(candidates) if few else None,
    )


def _contradiction(
    compared: Compared, best: Candidate | None, chosen: Candidate | None
) -> Decision | None:
    """The decision if the evidence contradicts itself: that of the best setting if one is shown to
    be better, otherwise that of any setting."""
    asked = [best] if best else list(compared.candidates)
    found: dict[str, Candidate] = {}
    for each in asked:
        for words in (each.torn, compared.conflicts.get(each.setting, "")):
            if words:
                found[words] = each
    if chosen and (words := chosen.opposed):
        found[words] = chosen
    if not found:
        return None
    disputed = largest(found.values())
    assert disputed is not None
    purpose = f"Repeat {disputed.setting.arm} and full rollouts with new seeds"
    return Decision(
        None,
        (
            "No setting is recommended: the evidence contradicts itself.",
            sentence("; ".join(found)),
        ),
        f"More seeds of {disputed.setting.arm}, with results that agree.",
        advice_next.repeat(disputed, purpose),
    )


def _useless(compared: Compared, chosen: Candidate | None) -> Decision | None:
    """The decision if the recommended setting is shown not to improve the student enough."""
    if compared.full is None:
        return None
    arms = chosen.arms if chosen else compared.full.arms
    arm = chosen.setting.arm if chosen else FULL
    number = arms.number(arm, minus(arms.what, BASE))
    if number is None:
        return None
    if number.decided(MORE) not in (CONTRADICTED, NOT_SUPPORTED):
        return None
    words = chosen.setting.words if chosen else FULL_ROLLOUTS.words
    return Decision(
        None,
        (
            "No setting is recommended: even the best setting does not improve this student by "
            f"{percent(POINTS):g} points.",
            f"With {words}, its accuracy changes by {arm_points(number)}.",
        ),
        "Training with more steps, another teacher or other problems that improves the student.",
    )


def _full(compared: Compared, suggestion: Suggestion) -> Decision:
    candidates, worse = compared.candidates, compared.those(WORSE)
    count = len(candidates)
    reason = f"of the {count} other settings compared, none is shown to be better"
    if count == 1:
        reason = f"the other setting, {candidates[0].setting.arm}, is not shown to be better"
    if worse and count == 1:
        reason = f"the other setting, {candidates[0].setting.arm}, is shown to be worse"
    elif len(worse) == count:
        reason = f"each of the {count} other settings compared is shown to be worse"
    elif worse:
        reason += f" and {len(worse)} {'is' if len(worse) == 1 else 'are'} shown to be worse"
    near = nearest(compared, suggestion)
    if near in worse and count > 1:
        reason += (
            f", including rollouts of {near.setting.rollout_length:g} tokens, near the "
            f"{suggestion.by} of {suggestion.tokens}"
        )
    promising = [each for each in compared.candidates if each.promising]
    if promising and count > 1:
        reason += f"; {len(promising)} could still be ahead by {percent(POINTS):g} points"
    leader = largest(promising)
    if leader is None:
        would_change = (
            "Only a setting that was not compared: all of these are excluded from being ahead by "
            f"{percent(POINTS):g} points."
        )
        lengths_only = all(each.setting.selector == PREFIX for each in compared.candidates)
        following = advice_next.other_selectors(compared.candidates[0]) if lengths_only else None
    else:
        would_change = (
            "A comparison on other seeds and problems that shows another setting ahead. The first "
            f"candidate is {leader.setting.arm}, with an expected difference of "
            f"{leader.gain.words}."
        )
        following = advice_next.repeat(
            leader, f"Compare {leader.setting.arm} alone with full rollouts, with new seeds"
        )
    none = Gain(0.0, 0.0, 0.0, 0.0, count)
    verdict = ("Train with full rollouts.", sentence(reason))
    return Decision(FULL_ROLLOUTS, verdict, would_change, following, None, none)


def _chosen_among(gain: Gain) -> str:
    return f", corrected for the choice among {gain.among}" if gain.among > 1 else ""


def nearest(compared: Compared, suggestion: Suggestion) -> Candidate | None:
    """The trained prefix length nearest to the suggested one, by ratio; None if none is within a
    factor of 1.5."""
    if suggestion.tokens is None:
        return None
    tokens = float(suggestion.tokens)

    def factor(candidate: Candidate) -> float:
        length = candidate.setting.rollout_length
        return max(length / tokens, tokens / length)

    lengths = [each for each in compared.candidates if each.setting.selector == PREFIX]
    closest = min(lengths, key=factor, default=None)
    return closest if closest and factor(closest) <= NEAR else None
