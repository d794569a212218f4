"""Claims on teacher decay, judged on a prefix-decay run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    LEAST_PROBLEMS,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    UNDECIDED,
    Effect,
    Judged,
    Rule,
    Verdict,
    apart,
    decided,
    pick,
    remedy,
    side,
    too_few,
    usable,
    widened,
)
from decaylab.claims.wording import POINTS_OF, listed, lowered, p_words, points
from decaylab.printing import rounded
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import (
    ALREADY_WRONG,
    CORRECT_SO_FAR,
    ENDED_RIGHT,
    ENDED_WRONG,
    OPEN,
    OWN_PREFIX,
    STUDENT_PREFIX,
)

FALL = Effect(0.0, -0.05)


def decay(run: FoundRun) -> Judged | None:
    """Whether the teacher's accuracy falls with the length of the student's prefix."""
    rows = differences(run, STUDENT_PREFIX)
    if not rows:
        return None
    falls = [row for row in rows if side(row) < 0]
    rises = [row for row in rows if side(row) > 0]
    recovered = []
    for row in rows:
        shorter = [fall for fall in falls if fall.prefix_tokens < row.prefix_tokens]
        if any(apart(row, fall) > 0 for fall in shorter):
            recovered.append(row)
    words = [_falls(falls) if falls else _no_fall(rows)]
    if rises:
        words.append(f"It rises at {_at(rises)}.")
    if recovered:
        words.append(f"At {_at(recovered)} the fall is smaller than before.")
    half = pick(run.measurements, "half_decay_length", condition=STUDENT_PREFIX)
    words += [half_decay_words(row, rows[-1].prefix_tokens) for row in half[:1]]
    verdict = _one_way(bool(falls), bool(rises), rows, bool(recovered)) or _absent(
        decided(FALL, row) for row in rows
    )
    return _guarded(run, verdict, words, rows, tuple(rows + half))


def machinery(run: FoundRun) -> Judged | None:
    """Whether the teacher's accuracy is unchanged after prefixes of its own."""
    rows = differences(run, OWN_PREFIX)
    if not rows:
        return None
    verdict, words = _control(rows, differences(run, STUDENT_PREFIX), _alone(run))
    return Judged(
        verdict,
        f"After prefixes of its own, the teacher's accuracy differs by {_range(rows)}{words}.",
        tuple(rows),
    )


def _control(
    rows: Sequence[Measurement],
    after_student: Sequence[Measurement],
    alone: Sequence[Measurement],
) -> tuple[Verdict, str]:
    """The verdict on the control and the end of its sentence. alone: numbers over all problems.

    Lengths at which few problems are left do not count, unless the decay is judged by them.
    """
    if off := [row for row in rows if side(row)]:
        worst = max(off, key=lambda row: abs(row.value))
        return CONTRADICTED, (
            f": {points(worst)} at {worst.prefix_tokens:g} tokens{p_words(worst)}; the measurement "
            "is unsound: do not trust the decay results of this run"
        )
    if missing := [row for row in rows if not row.low <= 0 <= row.high]:
        undefined = any(math.isnan(row.low) for row in missing)
        return NOT_TESTABLE if undefined else UNDECIDED, (
            f"; the interval at {_at(missing)} is missing or excludes 0, as one in twenty does by "
            "chance"
        )
    counted = [row for row in rows if usable(row)]
    if not counted:
        reason = lowered(too_few([*alone, *rows]).removesuffix("."))
        return NOT_TESTABLE, f"; {reason or 'its intervals are at less than 95 %'}"
    if blunt := _blunt(rows, after_student):
        return NOT_TESTABLE, (
            f"; every interval contains 0, but that at {blunt.prefix_tokens:g} tokens, "
            f"{points(blunt)}, is wide enough to contain the decay too"
        )
    widest = max(counted, key=lambda row: row.high - row.low)
    most = POINTS_OF.text(-FALL.counts).removeprefix("+")
    if any(row.low <= FALL.counts or row.high >= -FALL.counts for row in counted):
        return NOT_TESTABLE, (
            f"; every interval contains 0, but the widest, {points(widest)} at "
            f"{widest.prefix_tokens:g} tokens, does not exclude a change of {most} points"
        )
    words = f"; every interval contains 0, and the widest is {points(widest)}"
    if few := [row for row in rows if not usable(row)]:
        words += f"; at {_at(few)} too few problems are left to judge it"
    return HOLDS, words


def content(run: FoundRun) -> Judged | None:
    """Whether prefixes that already contain an error cost the teacher more than those correct so
    far."""
    verified = bool(differences(run, CORRECT_SO_FAR))
    names = (CORRECT_SO_FAR, ALREADY_WRONG) if verified else (ENDED_RIGHT, ENDED_WRONG)
    split = [differences(run, name) for name in names]
    sound_at, erring_at = (
        {row.prefix_tokens: row for row in rows if usable(row)} for rows in split
    )
    both = [(row, erring_at[at]) for at, row in sound_at.items() if at in erring_at]
    if not both:
        return None
    less, more, costs = [], [], []
    for sound, erring in both:
        order = apart(widened(sound, len(both)), widened(erring, len(both)))
        if order > 0 and side(erring) < 0:
            less.append((sound, erring))
        if order < 0 and side(sound) < 0:
            more.append((sound, erring))
        low, high = erring.low - sound.high, erring.high - sound.low
        costs.append(replace(erring, value=erring.value - sound.value, low=low, high=high))
    words = [_contrast(less or more, both, split, verified)]
    style = [sound for sound, _ in both if side(sound) < 0]
    if style and verified:
        worst = min(style, key=lambda row: row.value)
        words.append(
            f"Correct prefixes also cost accuracy: {points(worst)} at {worst.prefix_tokens:g} "
            "tokens."
        )
    evidence = tuple(row for pair in both for row in pair)
    if not verified:
        words.append(
            "It was not measured which prefixes contain an error. Splitting them by how their "
            "rollout ended conditions on the outcome, so it is not used as evidence."
        )
        return Judged(NOT_TESTABLE, " ".join(words), evidence)
    verdict = _one_way(bool(less), bool(more), costs) or _absent(
        decided(FALL, replace(row, p_value_holm=math.nan)) for row in costs
    )
    return _guarded(run, verdict, words, costs, evidence)


Pair = tuple[Measurement, Measurement]


def _contrast(
    shown: Sequence[Pair],
    both: Sequence[Pair],
    split: Sequence[Sequence[Measurement]],
    verified: bool,
) -> str:
    """A sentence on the length with the most problems among those at which the two kinds of
    prefixes differ."""
    sound, erring = max(shown or both, key=lambda pair: min(row.problems for row in pair))
    kinds = ("of rollouts that end correct", "that end wrong")
    if verified:
        kinds = ("that are correct so far", "that already contain an error")
    left_out = len({row.prefix_tokens for rows in split for row in rows}) - len(both)
    fewer = ""
    if left_out:
        fewer = f" ({left_out} more have fewer than {LEAST_PROBLEMS} problems or lack one kind)"
    return (
        f"At {sound.prefix_tokens:g} tokens, the teacher's accuracy differs by {points(sound)} "
        f"after prefixes {kinds[0]} ({sound.problems:,} problems) and by {points(erring)} after "
        f"those {kinds[1]} ({erring.problems:,}); the two differ at {len(shown)} of {len(both)} "
        f"lengths{fewer}."
    )


RULES: dict[str, Rule] = {"own-prefix": machinery, "teacher-decay": decay, "content": content}


def _guarded(
    run: FoundRun,
    verdict: Verdict,
    words: Sequence[str],
    numbers: Sequence[Measurement],
    rows: tuple[Measurement, ...],
) -> Judged:
    """The verdict, with what would test the claim; undecided if the control fails."""
    why = ""
    if verdict == NOT_TESTABLE:
        why = too_few([*_alone(run), *numbers]) or remedy(FALL, numbers)
    control = machinery(run)
    if control and control.verdict == CONTRADICTED:
        verdict, why = UNDECIDED, "The control of this run fails, so the claim is undecided."
    return Judged(verdict, " ".join(filter(None, [*words, why])), rows, why)


def differences(run: FoundRun, condition: str) -> list[Measurement]:
    """Paired differences from the teacher alone by prefix length, over unfinished rollouts."""
    rows = pick(run.measurements, "accuracy_difference", condition=condition, view=OPEN)
    kept = [row for row in rows if row.prefix_tokens > 0 and not math.isnan(row.value)]
    return sorted(kept, key=lambda row: row.prefix_tokens)


def ahead_words(run: FoundRun) -> str:
    """How far the teacher alone is ahead of the student; "" where that was not measured."""
    rows = _alone(run)
    if not rows:
        return ""
    gap = rows[0]
    over = f"{points(gap)} over {gap.problems:,} problems"
    shown = side(gap)
    if shown > 0:
        return f"Alone, the teacher is ahead of the student by {over}."
    if shown < 0:
        return f"Alone, the teacher is behind the student: {over}."
    few = f"; at least {LEAST_PROBLEMS} are needed" if gap.problems < LEAST_PROBLEMS else ""
    return f"Alone, the teacher is not shown to be ahead of the student: {over}{few}."


def _alone(run: FoundRun) -> list[Measurement]:
    """How far the teacher is ahead without a prefix, over all problems; none if not measured."""
    return pick(run.measurements, "teacher_advantage", condition=STUDENT_PREFIX)[:1]


def half_decay_words(half: Measurement, longest: float) -> str:
    """The half-decay length with its interval, in one sentence. longest: the longest prefix, in
    tokens."""
    if math.isnan(half.value):
        reason = f" ({half.note})" if half.note else ""
        return f"The half-decay length is undefined{reason}."
    high = "beyond the longest prefix" if math.isinf(half.high) else rounded(half.high)
    low = rounded(half.low)
    if math.isinf(half.value):
        since = f" (interval from {low} tokens)" if math.isfinite(half.low) else ""
        return (
            f"More than half of its advantage over the student is left after {longest:g} tokens, "
            f"the longest prefix{since}."
        )
    interval = "" if math.isnan(half.low) else f" [{low}, {high}]"
    tokens = rounded(half.value)
    return f"Half of its advantage over the student is gone after {tokens} tokens{interval}."


def _one_way(
    towards: bool, against: bool, rows: Iterable[Measurement], recovered: bool = False
) -> Verdict | None:
    """Holds if everything shown supports the claim, contradicted if everything opposes it.

    None if nothing is shown, or if no row allows a size that counts in the direction shown.
    """
    room = [row for row in rows if usable(row)]
    falls = any(row.low <= FALL.counts for row in room)
    rises = any(row.high >= -FALL.counts for row in room)
    if not (towards and falls or against and rises):
        return None
    if towards and (against or recovered):
        return UNDECIDED
    return CONTRADICTED if against else HOLDS


def _absent(found: Iterable[Verdict]) -> Verdict:
    """The verdict if nothing is shown: not supported if every length excludes a relevant size."""
    return NOT_SUPPORTED if set(found) <= {NOT_SUPPORTED, CONTRADICTED} else NOT_TESTABLE


def _falls(falls: Sequence[Measurement]) -> str:
    first, largest = falls[0], min(falls, key=lambda row: row.value)
    words = (
        f"A fall is shown from a prefix of {first.prefix_tokens:g} student tokens on: "
        f"{points(first)}{p_words(first)}"
    )
    if largest is first:
        return f"{words}."
    return f"{words}; the largest is {points(largest)} at {largest.prefix_tokens:g} tokens."


def _no_fall(rows: Sequence[Measurement]) -> str:
    lowest = min(rows, key=lambda row: row.value)
    lengths = f"{rows[0].prefix_tokens:g}"
    if len(rows) > 1:
        lengths = f"any of {len(rows)} lengths up to {rows[-1].prefix_tokens:g}"
    return (
        f"No fall is shown at {lengths} tokens; the lowest is {points(lowest)} at "
        f"{lowest.prefix_tokens:g}."
    )


def _blunt(rows: Sequence[Measurement], after_student: Sequence[Measurement]) -> Measurement | None:
    """The control at the length of the largest fall, if it could not have detected that fall."""
    falls = [row for row in after_student if side(row) < 0]
    if not falls:
        return None
    largest = min(falls, key=lambda row: row.value)
    beside = [row for row in rows if row.prefix_tokens == largest.prefix_tokens]
    return next((row for row in beside if not usable(row) or row.low <= largest.value), None)


def _range(rows: Sequence[Measurement]) -> str:
    values = [row.value for row in rows]
    low, high = POINTS_OF.text(min(values)), POINTS_OF.text(max(values))
    if len(rows) == 1:
        return f"{low} points at {rows[0].prefix_tokens:g} tokens"
    if low == high:
        return f"{low} points at each of {len(rows)} lengths"
    return f"{low} to {high} points at {len(rows)} lengths"


def _at(rows: Sequence[Measurement]) -> str:
    return f"{listed(row.prefix_tokens for row in rows)} tokens"
