"""The sentences of an advice: evidence, expected gain and cost, runs read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from decaylab.claims.advice_candidates import (
    BETTER,
    FULL_ROLLOUTS,
    PREFIX,
    WORSE,
    Candidate,
    Setting,
    largest,
)
from decaylab.claims.advice_compared import Compared
from decaylab.claims.advice_decision import Decision, chosen_among, decide, nearest
from decaylab.claims.advice_lengths import Suggestion, decay_at
from decaylab.claims.advice_runs import Read, problems_of
from decaylab.claims.of_students import of_selector
from decaylab.claims.on_scores import corrective
from decaylab.claims.on_sweeps import ratio_words
from decaylab.claims.on_values import in_line
from decaylab.claims.sweep_arms import Arms
from decaylab.claims.verdicts import POINTS, pick
from decaylab.claims.wording import PERCENT_OF, POINTS_OF, RATIO, arm_points, listed, sentence
from decaylab.printing import percent, significant, with_interval
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import FULL, OVER_SEEDS, change


def evidence(
    read: Read,
    compared: Compared,
    suggestion: Suggestion,
    decision: Decision,
    otherwise: Sequence[Compared] = (),
) -> Iterator[str]:
    """The evidence in sentences, training first. otherwise: sweeps that trained or tested in
    another way."""
    yield from _of_lengths(compared)
    yield from _of_selectors(compared)
    for other in otherwise:
        verdict = decide(read, other, suggestion).verdict[0].rstrip(".")
        yield (
            f"{other.names} cannot be compared with {compared.names} ({other.differs(compared)}); "
            f'read alone: "{verdict}".'
        )
    candidates = compared.candidates
    torn = [words for each in candidates for words in (each.torn, each.opposed) if words]
    for words in (*torn, *compared.conflicts.values()):
        if words[1:] not in decision.verdict[1]:
            yield sentence(words)
    yield from suggestion.found
    if suggestion.obstacles:
        yield sentence("; ".join(suggestion.obstacles))
    yield from _against_training(read, compared, suggestion)
    yield from _of_scores(read)
    yield from _of_behaviour(read.behaviour, decision.recommended)


def on_training(read: Read, compared: Compared, suggestion: Suggestion) -> Iterator[str]:
    """What training says of how long rollouts should be, then of other selectors."""
    lengths = list(_of_lengths(compared))
    yield from lengths
    if lengths:
        yield from _against_training(read, compared, suggestion)
    yield from _of_selectors(compared)


def _of_lengths(compared: Compared) -> Iterator[str]:
    lengths = [each for each in compared.candidates if each.setting.selector == PREFIX]
    lengths.sort(key=lambda each: each.setting.rollout_length)
    parts = []
    for each in lengths:
        value = POINTS_OF.text(each.number.value)
        parts.append(f"{value} at N = {each.setting.rollout_length:g}")
    if parts:
        yield f"Against full rollouts, in points: {', '.join(parts)}{_shown(lengths)}."


def _shown(candidates: Sequence[Candidate]) -> str:
    """Which lengths are shown to be better or worse."""
    words = []
    for verdict in (BETTER, WORSE):
        those = [each.setting for each in candidates if each.verdict == verdict]
        if those:
            names = listed(f"{setting.rollout_length:g}" for setting in those)
            words.append(f"shown to be {verdict}: {names}")
    return f"; {'; '.join(words)}" if words else "; none is shown to be better or worse"


def _of_selectors(compared: Compared) -> Iterator[str]:
    others = [each for each in compared.candidates if each.setting.selector != PREFIX]
    best = largest(others)
    if best is None:
        return
    better, worse = (sum(each.verdict == verdict for each in others) for verdict in (BETTER, WORSE))
    several = f"Of {len(others)} other selectors" if len(others) > 1 else "Of one other selector"
    yield (
        f"{several}, {better or 'none'} {'are' if better > 1 else 'is'} shown to be better and "
        f"{worse or 'none'} worse; the largest measured difference is {best.setting.arm}'s, "
        f"{arm_points(best.number)}."
    )


def _against_training(read: Read, compared: Compared, suggestion: Suggestion) -> Iterator[str]:
    """How training agrees with the suggested length; without training, the decay curve there."""
    if suggestion.tokens is None:
        return
    if not compared.candidates:
        if read.decay and (words := decay_at(read.decay, suggestion.tokens)):
            yield words
        return
    near = nearest(compared, suggestion)
    if near is None:
        yield f"No sweep trained with a length near {suggestion.words}."
        return
    says = {BETTER: "agrees", WORSE: "contradicts it"}.get(near.verdict, "does not decide it")
    yield (
        f"Without training, {suggestion.words} would be the length to try; training {says}: "
        f"{arm_points(near.number)} at N = {near.setting.rollout_length:g}."
    )


def _of_scores(read: Read) -> Iterator[str]:
    """What the teacher's scores were found to be worth, by hand-back and by values."""
    judged = corrective(read.decay) if read.decay else None
    if judged:
        yield judged.sentence
    if read.values and (words := in_line(read.values)):
        yield words


def _of_behaviour(runs: Sequence[FoundRun], setting: Setting | None) -> Iterator[str]:
    """How training with this setting changed the responses, by the behaviour run with the most
    problems."""
    if setting is None:
        return
    for run in sorted(runs, key=problems_of, reverse=True):
        labels = [
            student.label
            for student in of_selector(run, setting.selector)
            if student.rollout_length == setting.rollout_length
        ]
        for label in labels[:1]:
            frame = run.measurements
            tokens = pick(frame, change("response_tokens_mean"), checkpoint=label)
            stops = pick(frame, "natural_stop_share", checkpoint=label)
            if tokens and stops:
                row = tokens[0]
                length = with_interval(row.value, row.low, row.high, row.unit, signed=True)
                yield (
                    f"Training with {setting.words} ({label}) changes the response length by "
                    f"{length} tokens; {PERCENT_OF.number(stops[0])} of responses stop "
                    "naturally."
                )
                return


# Gain and cost


def expected_gain(compared: Compared, decision: Decision) -> str:
    """The gain of the recommended setting over full rollouts and over the untrained student."""
    if decision.recommended is None:
        return ""
    words = []
    if decision.chosen:
        gain = decision.chosen.gain
        words.append(f"{gain.words} over full rollouts.")
    elif rival := _rival(compared):
        words.append(
            f"Full rollouts are the reference. Of the settings with an interval, "
            f"{rival.setting.arm} has the largest measured gain: {rival.gain.words}"
            f"{chosen_among(rival.gain)}."
        )
    if compared.full:
        words.append(
            f"Full rollouts gain {arm_points(compared.full.number)} over the untrained student."
        )
    return " ".join(words)


def _rival(compared: Compared) -> Candidate | None:
    """The setting with the largest measured gain of those with an interval."""
    known = [each for each in compared.candidates if each.gain.known and each.verdict != WORSE]
    return largest(known)


def expected_cost(compared: Compared, decision: Decision) -> str:
    """Tokens and seconds of the recommended setting, relative to full rollouts and absolute."""
    if decision.recommended is None:
        return ""
    words = []
    if decision.chosen:
        chosen = decision.chosen
        ratios = cost_ratios(chosen.arms, chosen.setting.arm)
        words.append(f"{sentence(chosen.setting.words)[:-1]}: {ratios}.")
    if compared.full:
        words += full_cost(compared.full.run)
    if decision.recommended == FULL_ROLLOUTS:
        near = [each for each in compared.candidates if each.number.value > -POINTS]
        cheaper = [each for each in near if each.verdict != WORSE and each.cheaper]
        cheapest = largest(cheaper, key=lambda each: -each.tokens.value if each.tokens else 0.0)
        if cheapest:
            words.append(
                f"The cheapest setting measured within {percent(POINTS):g} points, "
                f"{cheapest.setting.arm} at {POINTS_OF.text(cheapest.number.value)}, takes "
                f"{cost_ratios(cheapest.arms, cheapest.setting.arm)}."
            )
    return " ".join(words)


def cost_ratios(arms: Arms, arm: str) -> str:
    """Sampled tokens and seconds of a step of an arm, over those of full rollouts."""
    tokens, seconds = arms.tokens(arm), arms.seconds(arm)
    parts = []
    if tokens:
        parts.append(f"{RATIO.number(tokens)} of the sampled tokens")
    if seconds:
        parts.append(f"{ratio_words(seconds)} of the seconds per step")
    if not parts:
        return "its cost was not measured"
    return f"{' and '.join(parts)} of full rollouts"


def full_cost(run: FoundRun) -> list[str]:
    """The cost of a step with full rollouts."""
    at = {"checkpoint": FULL, "estimand": OVER_SEEDS}
    seconds = pick(run.measurements, "seconds_per_step", condition="total", **at)
    tokens = pick(run.measurements, "tokens_sampled_per_step", **at)
    parts = []
    if tokens and not math.isnan(tokens[0].value):
        parts.append(f"samples {significant(tokens[0].value, 4)} tokens")
    if seconds and not math.isnan(seconds[0].value):
        parts.append(f"takes {RATIO.number(seconds[0])} seconds")
    if not parts:
        return []
    note = f" ({seconds[0].note})" if seconds and seconds[0].note else ""
    return [f"A step with full rollouts {' and '.join(parts)}{note}."]


# Runs


def runs_read(read: Read, compared: Compared) -> str:
    """The runs that were read, with their numbers of problems, and the runs left out."""
    if not read.all:
        return "No run has the measurements that an advice needs."
    parts = [f"{run.name} ({run.command}, {problems_of(run):,} problems)" for run in read.all]
    notes = [*read.notes, *map(sentence, compared.notes)]
    return " ".join([f"{listed(parts)}.", *notes])
