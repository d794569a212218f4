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
    Setting,
    largest,
)
from decaylab.claims.advice_compared import RULES_DIFFER, Compared
from decaylab.claims.advice_gain import Gain
from decaylab.claims.advice_lengths import Suggestion
from decaylab.claims.advice_next import Experiment
from decaylab.claims.advice_runs import Read
from decaylab.claims.verdicts import (
    CONTRADICTED,
    LEAST_LEVEL,
    LEAST_PROBLEMS,
    LEAST_STEPS,
    NOT_SUPPORTED,
    POINTS,
    seeds_words,
)
from decaylab.claims.wording import NO_INTERVAL, RATIO, arm_points, sentence
from decaylab.maths.seeds import ALIKE
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
    sound = [each for each in candidates if not each.opposed]
    best = largest(
        [each for each in sound if each.verdict == BETTER], key=lambda each: each.gain.even_odds
    )
    cheap = [each for each in sound if each.verdict == AS_GOOD and each.cheaper]
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
        reason = f"It gains {gain.words} over full rollouts{chosen_among(gain)}."
        change_of_mind = (
            "A repeat with other seeds or problems in which it is not ahead of full rollouts."
        )
    else:
        tokens = RATIO.number(chosen.tokens) if chosen.tokens else ""
        reason = (
            f"No setting is shown to be better than full rollouts. This one is at most "
            f"{percent(POINTS):g} points less accurate, {gain.words}, and samples {tokens} of the "
            "tokens."
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
    reason, following = _lacking(candidates)
    return Decision(
        None,
        (
            "No setting is recommended yet: the sweeps are inconclusive, and full rollouts remain "
            "the default.",
            reason,
        ),
        "More training seeds, problems or steps.",
        following,
    )


def _lacking(candidates: Sequence[Candidate]) -> tuple[str, Experiment]:
    """What these results lack for a decision, and the experiment that supplies it."""
    numbers = [each.number for each in candidates]
    rows = [number.over_problems[0] for number in numbers]
    problems, level = min(row.problems for row in rows), min(row.level for row in rows)
    if few := " ".join(seeds_words(numbers)):
        if min(number.steps for number in numbers) < LEAST_STEPS:
            return few, advice_next.with_more_steps(candidates[0], LEAST_STEPS)
        return few, advice_next.more_seeds(candidates)
    if problems < LEAST_PROBLEMS:
        words = f"Only {problems} problems were tested; at least {LEAST_PROBLEMS} are needed."
        return words, advice_next.on_all_problems(candidates[0])
    if level < LEAST_LEVEL:
        words = (
            f"The intervals are at {100 * level:g} %; at least {100 * LEAST_LEVEL:g} % is needed."
        )
        return words, advice_next.at_level(candidates[0], LEAST_LEVEL)
    notes = dict.fromkeys(
        f"{each.setting.arm} is {note}" if note == ALIKE else f"{each.setting.arm}: {note}"
        for each in candidates
        if (note := each.number.over_seeds.note if each.number.over_seeds else NO_INTERVAL)
    )
    leader = largest(candidates)
    assert leader is not None
    purpose = f"Repeat {leader.setting.arm} and full rollouts with new seeds"
    return sentence("; ".join(notes) or NO_INTERVAL), advice_next.repeat(leader, purpose)


def _contradiction(
    compared: Compared, best: Candidate | None, chosen: Candidate | None
) -> Decision | None:
    """The decision if the evidence contradicts itself: that of the recommended setting, or that of
    any setting if none is."""
    asked = [best] if best else list(compared.candidates)
    seeds: dict[str, Candidate] = {}
    rules: dict[str, Candidate] = {}
    for each in asked:
        conflict = compared.conflicts.get(each.setting, "")
        by_rule = RULES_DIFFER in conflict
        for words, found in (
            (each.torn, seeds),
            (conflict, rules if by_rule else seeds),
            (each.opposed if chosen is None else "", rules),
        ):
            if words:
                found[words] = each
    disputed = largest({**seeds, **rules}.values())
    if disputed is None:
        return None
    would_change = f"More seeds of {disputed.setting.arm}, with results that agree."
    following = None
    if seeds:
        purpose = f"Repeat {disputed.setting.arm} and full rollouts with new seeds"
        following = advice_next.repeat(disputed, purpose)
    else:
        would_change = (
            "A choice of the rule that grades these responses correctly: read responses on which "
            "the rules differ. More seeds cannot settle it."
        )
    return Decision(
        None,
        (
            "No setting is recommended: the evidence contradicts itself.",
            sentence("; ".join({**seeds, **rules})),
        ),
        would_change,
        following,
    )


def _useless(compared: Compared, chosen: Candidate | None) -> Decision | None:
    """The decision if the recommended setting is shown not to improve the student enough. If it is
    full rollouts, another setting may."""
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
    changed = f"With {words}, its accuracy changes by {arm_points(number)}."
    leader = None if chosen else largest(each for each in compared.candidates if each.promising)
    if leader:
        return Decision(
            None,
            (
                "No setting is recommended yet: full rollouts do not improve this student by "
                f"{percent(POINTS):g} points, and {leader.setting.arm} is not decided.",
                f"{changed} Against them, {leader.setting.arm} gains {leader.gain.words}.",
            ),
            f"A comparison that shows whether {leader.setting.arm} improves the student.",
            advice_next.repeat(
                leader, f"Repeat {leader.setting.arm} and full rollouts with new seeds"
            ),
        )
    return Decision(
        None,
        (
            "No setting is recommended: even the best setting does not improve this student by "
            f"{percent(POINTS):g} points.",
            changed,
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
            f"candidate is {leader.setting.arm}: {leader.gain.words}."
        )
        following = advice_next.repeat(
            leader, f"Compare {leader.setting.arm} alone with full rollouts, with new seeds"
        )
    none = Gain(0.0, 0.0, 0.0, 0.0, count)
    verdict = ("Train with full rollouts.", sentence(reason))
    return Decision(FULL_ROLLOUTS, verdict, would_change, following, None, none)


def chosen_among(gain: Gain) -> str:
    """That the gain is corrected for a choice, if there was one."""
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
