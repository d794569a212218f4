"""The rollout length that decay and cumulative KL suggest before any training: a length to compare
with full rollouts in a sweep.

It is the smaller of two lengths, in response tokens, or the only one that was measured:

    half-decay      the prefix length at which half of the teacher's advantage over the student is
                    gone (condition student-prefix)
    cumulative KL   the length at which the base student's reverse KL, over surviving rollouts,
                    reaches its share

The interval runs from the smaller of the two low ends to the smaller of the two high ends. It
contains the smaller length whenever both intervals contain theirs. No length is suggested if the
teacher has no advantage, if its control fails, or if the interval spans more than a factor of 4.
A KL under twice its noise floor does not count.

Source: cumulative KL arXiv 2605.27028; half-decay and taking the smaller are ours. On the embedded
pair, training contradicts both (docs/embedded-pair.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import pandas as pd

from decaylab.claims.on_decay import differences, half_decay_words, machinery
from decaylab.claims.verdicts import CONTRADICTED, pick
from decaylab.claims.wording import points, sentence
from decaylab.printing import percent, rounded
from decaylab.runs import vocabulary
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import BASE, FRESH, OPEN, STUDENT_PREFIX, SURVIVORS

WIDEST = 4.0  # high end over low end
HALF_DECAY, CUMULATIVE_KL = "half-decay length", "cumulative KL"


@dataclass(frozen=True)
class Suggestion:
    """A rollout length worth a sweep.

    tokens: the length, or None. by: which of the two it is. low, high: its interval. found: the
    measurements, one sentence each. obstacles: why a length does not count, or why none is
    suggested. too_few: whether more problems would help.
    """

    tokens: int | None
    by: str
    low: float
    high: float
    found: tuple[str, ...]
    obstacles: tuple[str, ...]
    too_few: bool = False

    @property
    def words(self) -> str:
        """``39 tokens [33, 44] by the half-decay length``."""
        return f"{self.tokens} tokens [{_end(self.low)}, {_end(self.high)}] by the {self.by}"


class _Length(NamedTuple):
    """One of the two lengths with its interval, NaN if undefined.

    found: the measurement, in words. obstacle: why it does not count, or "". stops: whether the
    obstacle excludes the other length too. too_few: whether more problems would help.
    """

    by: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    found: str = ""
    obstacle: str = ""
    stops: bool = False
    too_few: bool = False


TWO_TOKENIZERS = (
    "the KL does not count, since the pair has two tokenizers: only the next byte is compared"
)


def suggest(signals: FoundRun | None, decay: FoundRun | None) -> Suggestion:
    """The length worth a sweep, from measurements without training."""
    lengths = []
    if decay is not None:
        lengths.append(_by_decay(decay))
    if signals is not None:
        length = _by_kl(signals.measurements)
        if vocabulary.of_two_tokenizers(signals.measurements):
            length = _Length(CUMULATIVE_KL, obstacle=TWO_TOKENIZERS)
        if decay is not None and (how := differently(signals, decay)):
            length = _Length(CUMULATIVE_KL, found=length.found, obstacle=how)
        lengths.append(length)
    found = tuple(sentence(each.found) for each in lengths if each.found)
    obstacles = [each.obstacle for each in lengths if each.obstacle]
    usable = [each for each in lengths if not each.obstacle]
    too_few = any(each.too_few for each in lengths)
    none = Suggestion(None, "", math.nan, math.nan, found, tuple(obstacles), too_few)
    if not usable or any(each.stops for each in lengths):
        return none
    shortest = min(usable, key=lambda each: each.value)
    low, high = min(each.low for each in usable), min(each.high for each in usable)
    if obstacle := _too_uncertain(shortest.value, low, high, decay):
        return replace(
            none, obstacles=(*obstacles, obstacle), too_few=math.isfinite(shortest.value)
        )
    tokens = max(1, round(shortest.value))
    return Suggestion(tokens, shortest.by, low, high, found, tuple(obstacles))


def differently(signals: FoundRun, decay: FoundRun) -> str:
    """How the settings of the two runs differ, so that their lengths cannot be compared; "" if they
    agree or are not recorded."""
    for name, one, other in (
        ("problems", _problem_set(signals), _problem_set(decay)),
        *(
            (name, signals.options.get(name), decay.options.get(name))
            for name in ("temperature", "max_tokens")
        ),
    ):
        if one is not None and other is not None and one != other:
            called = {"max_tokens": "token budget"}.get(name, name)
            return (
                f"the KL does not count, since {signals.name} and {decay.name} differ in their "
                f"{called} ({one} and {other})"
            )
    return ""


def _problem_set(run: FoundRun) -> str | None:
    problems = run.record.get("identity", {}).get("problems") or {}
    if not problems.get("name"):
        return None
    return " ".join(str(problems[key]) for key in ("name", "version") if problems.get(key))


def _by_kl(signals: pd.DataFrame) -> _Length:
    base = vocabulary.select(signals, checkpoint=BASE, view=FRESH)
    position, horizon, threshold = (
        _first(base, f"cumulative_kl_{what}", SURVIVORS)
        for what in ("position", "horizon", "threshold")
    )
    none = _Length(CUMULATIVE_KL)
    if position is None or horizon is None or threshold is None:
        return none._replace(obstacle="the KL of the base student was not measured")
    if not math.isfinite(position.value):
        reason = f" ({position.note})" if position.note else ""
        return none._replace(obstacle=f"the cumulative KL is undefined{reason}")
    found = (
        f"{percent(threshold.value):.3g} % of the base student's reverse KL over the first "
        f"{horizon.value:g} tokens lies in the first {rounded(position.value)}"
    )
    if math.isnan(position.low):
        return none._replace(found=found, obstacle="the cumulative KL has no interval")
    found += f" [{rounded(position.low)}, {_end(position.high)}]"
    bins = vocabulary.select(base, what="reverse_kl")
    bins = bins[bins["position_low"] < horizon.value]
    if bins["noise_floor"].isna().all():
        found += " (its noise floor was not measured)"
    under = int(bins["under_floor"].sum())
    obstacle = ""
    if under:
        obstacle = f"the KL is under twice its noise floor in {under} of {len(bins)} position bins"
    return _Length(CUMULATIVE_KL, position.value, position.low, position.high, found, obstacle)


def _by_decay(run: FoundRun) -> _Length:
    none = _Length(HALF_DECAY, stops=True)
    gap = _first(run.measurements, "teacher_advantage", STUDENT_PREFIX)
    half = _first(run.measurements, "half_decay_length", STUDENT_PREFIX)
    curve = differences(run, STUDENT_PREFIX)
    if gap is None or half is None or not curve:
        continued = "the decay run has no continuations of the student's rollouts"
        return none._replace(obstacle=continued, stops=False)
    control = machinery(run)
    if control is not None and control.verdict == CONTRADICTED:
        return none._replace(obstacle=f"the control of the decay run {run.name} fails")
    if math.isnan(gap.low) or math.isnan(gap.high):
        return none._replace(obstacle="the teacher's advantage has no interval", too_few=True)
    ahead = "ahead of the student by" if gap.low > 0 else "not shown to be ahead of the student:"
    advantage = f"alone, the teacher is {ahead} {points(gap)}"
    if not gap.low > 0:
        lost = "the teacher is not shown to be better than the student, so there is nothing to lose"
        return none._replace(found=advantage, obstacle=lost, too_few=gap.high > 0)
    longest = curve[-1].prefix_tokens
    found = f"{advantage}. {half_decay_words(half, longest)}".removesuffix(".")
    if math.isnan(half.value):
        undefined = "the half-decay length is undefined"
        return none._replace(found=found, obstacle=undefined, stops=False)
    if math.isnan(half.low):
        unknown = "the half-decay length has no interval"
        return none._replace(found=found, obstacle=unknown, stops=False, too_few=True)
    return _Length(HALF_DECAY, half.value, half.low, half.high, found)


def _too_uncertain(value: float, low: float, high: float, decay: FoundRun | None) -> str:
    """Why a length is too uncertain to suggest, or ""."""
    if decay is not None and not math.isfinite(value):
        return (
            "more than half of the teacher's advantage is left at the longest prefix, "
            f"{_longest(decay):g} tokens; add longer --prefix-lengths"
        )
    if high > WIDEST * low:
        wide = f", {rounded(low)} to {rounded(high)} tokens, spans more than a factor of {WIDEST:g}"
        if math.isinf(high):
            wide = f" runs from {rounded(low)} tokens to beyond the longest prefix"
        return f"its interval{wide}; measure more problems to narrow it"
    return ""


def _longest(decay: FoundRun) -> float:
    """The longest prefix length that some rollout reached, in tokens."""
    return differences(decay, STUDENT_PREFIX)[-1].prefix_tokens


def _first(frame: pd.DataFrame, what: str, condition: str) -> Measurement | None:
    return next(iter(pick(frame, what, condition=condition)), None)


def _end(high: float) -> str:
    return "beyond the longest prefix" if math.isinf(high) else rounded(high)


def decay_at(decay: FoundRun, tokens: float) -> str:
    """The decay at the longest measured prefix of at most this length, in words; "" if none."""
    within = [row for row in differences(decay, STUDENT_PREFIX) if row.prefix_tokens <= tokens]
    if not within:
        return ""
    row = within[-1]
    words = (
        f"after {row.prefix_tokens:g} tokens of the student the teacher's accuracy differs by "
        f"{points(row)}"
    )
    at = {"condition": STUDENT_PREFIX, "view": OPEN, "prefix_tokens": row.prefix_tokens}
    left = pick(decay.measurements, "retained_advantage", **at)
    if left and not math.isnan(left[0].value):
        words += f", and {percent(left[0].value):.3g} % of its advantage is left"
    return sentence(words)
