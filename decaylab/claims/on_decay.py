"""Claims on teacher decay, by the rows of a prefix-decay run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    LEAST_PROBLEMS,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    PAPER,
    UNDECIDED,
    Claim,
    Effect,
    Judged,
    Rule,
    Verdict,
    apart,
    decided,
    listed,
    p_words,
    pick,
    points,
    remedy,
    rounded,
    side,
    usable,
    widened,
)
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement

FALL = Effect(0.0, -0.05)

COMMANDS, NEEDS, FIGURE = ("prefix-decay",), "decaylab prefix-decay --controls all", "prefix-decay"
DECAY = Claim(
    "teacher-decay",
    "The longer the prefix that the student has written, the less often the teacher that "
    "continues it is right.",
    f"{PAPER}, Fig. 1 left",
    "Paired difference to the teacher alone on the same problems, over rollouts still open. Holds "
    "where it lies below 0 at "
    "some length, above 0 at none, and at no longer length wholly above a fall at a shorter one; "
    "contradicted where it lies "
    "above 0 at some length and below at none; not supported where every length excludes a fall "
    "of 5 points, which is what "
    "counts. Undecided where the control of the same run fails.",
    NEEDS,
    COMMANDS,
    FIGURE,
)
MACHINERY = Claim(
    "own-prefix",
    "A prefix of its own leaves the teacher as often right as it was.",
    "control of the measurement",
    "Paired difference to the rollout that the prefix was cut from. Holds where every interval "
    "holds 0, and that at the "
    "largest fall after the student's prefixes does not reach as far down as the fall; "
    "contradicted where a difference is "
    "shown; not testable where an interval holds the fall too.",
    NEEDS,
    COMMANDS,
    FIGURE,
    control=True,
)
CONTENT = Claim(
    "content",
    "The decay comes from what the prefix says: while it is correct so far the teacher loses less "
    "than once it errs.",
    "arXiv 2605.30833, as drift; not separated in arXiv 2605.27028",
    "The difference to the teacher alone, after prefixes that already err against those correct "
    "so far, at the same length. "
    "Holds where at some length it lies below 0 and wholly below that of the correct ones, "
    "corrected for the lengths, and at "
    "none wholly above; contradicted the other way round; not supported where every length "
    "excludes that they cost 5 points "
    "more, which is what counts. Prefixes split by how their rollout ended decide nothing: that "
    "looks into the "
    "future. Undecided where the control of the same run fails.",
    NEEDS,
    COMMANDS,
    FIGURE,
)


def decay(run: FoundRun) -> Judged | None:
    """Whether the teacher's accuracy falls with the length of the student's prefix."""
    rows = differences(run, "student-prefix")
    if not rows:
        return None
    falls, rises = ([row for row in rows if side(row) == sign] for sign in (-1, 1))
    recovered = [
        row
        for row in rows
        if any(row.prefix_tokens > fall.prefix_tokens and apart(row, fall) > 0 for fall in falls)
    ]
    said = [_falls(falls) if falls else _no_fall(rows)]
    said += [f"It rises at {_at(rises)}."] if rises else []
    said += [f"At {_at(recovered)} the fall is smaller than before."] if recovered else []
    half = pick(run.measurements, "half_decay_length", condition="student-prefix")
    said += [half_decay_words(half[0], rows[-1].prefix_tokens)] if half else []
    shown = _one_way(bool(falls), bool(rises), rows, bool(recovered)) or _absent(
        decided(FALL, row) for row in rows
    )
    said += filter(None, [remedy(FALL, rows)]) if shown == NOT_TESTABLE else []
    return _guarded(run, Judged(shown, " ".join(said), (*rows, *half)))


def machinery(run: FoundRun) -> Judged | None:
    """Whether the teacher's own prefixes leave it where it was."""
    rows = differences(run, "own-prefix")
    if not rows:
        return None
    off, missing = (
        [row for row in rows if side(row)],
        [row for row in rows if not row.low <= 0 <= row.high],
    )
    said = f"After prefixes of its own the teacher differs by {_range(rows)}"
    evidence = tuple(rows)
    if off:
        worst = max(off, key=lambda row: abs(row.value))
        told = (
            f"{said}: {points(worst)} at {worst.prefix_tokens:g} tokens{p_words(worst)}. The "
            "machinery is not sound, and "
        )
        return Judged(
            CONTRADICTED, f"{told}nothing that this run says of decay can be trusted.", evidence
        )
    if missing:
        told = (
            f"{said}; the interval at {_at(missing)} does not hold 0, as one in twenty does by "
            "chance, or there is none."
        )
        return Judged(
            NOT_TESTABLE if any(math.isnan(row.low) for row in missing) else UNDECIDED,
            told,
            evidence,
        )
    blunt = _blunt(rows, differences(run, "student-prefix"))
    if blunt is not None:
        where = f"that at {blunt.prefix_tokens:g} tokens, {points(blunt)}"
        return Judged(
            NOT_TESTABLE,
            f"{said}; every interval holds 0, but {where}, holds the decay too.",
            evidence,
        )
    widest = max(rows, key=lambda row: row.high - row.low)
    return Judged(
        HOLDS, f"{said}; every interval holds 0, the widest is {points(widest)}.", evidence
    )


def content(run: FoundRun) -> Judged | None:
    """Whether prefixes that already err cost the teacher more than those that are correct so
    far."""
    verified = bool(differences(run, "correct-so-far"))
    names = ("correct-so-far", "already-wrong") if verified else ("ended-right", "ended-wrong")
    right, wrong = (
        {row.prefix_tokens: row for row in differences(run, name) if usable(row)} for name in names
    )
    both = [(right[length], wrong[length]) for length in right if length in wrong]
    if not both:
        return None
    wide = {id(pair): tuple(widened(row, len(both)) for row in pair) for pair in both}
    less = [pair for pair in both if side(pair[1]) < 0 and apart(*wide[id(pair)]) > 0]
    more = [pair for pair in both if side(pair[0]) < 0 and apart(*wide[id(pair)]) < 0]
    sound, erring = max(less or more or both, key=lambda pair: min(row.problems for row in pair))
    words = (
        ("that are correct so far", "that already err")
        if verified
        else ("of rollouts that end right", "that end wrong")
    )
    said = (
        f"At {sound.prefix_tokens:g} tokens the teacher differs by {points(sound)} after prefixes "
        f"{words[0]}, by "
        f"{points(erring)} after those {words[1]}"
    )
    said += f"; apart at {len(less or more)} of {len(both)} lengths"
    shorter = len({row.prefix_tokens for name in names for row in differences(run, name)}) - len(
        both
    )
    said += (
        f" ({shorter} more stand on fewer than {LEAST_PROBLEMS} problems or lack one kind)."
        if shorter
        else "."
    )
    style = [pair[0] for pair in both if side(pair[0]) < 0]
    if style and verified:
        worst = min(style, key=lambda row: row.value)
        said += (
            f" Correct ones are not free of cost: {points(worst)} at {worst.prefix_tokens:g} "
            "tokens."
        )
    evidence = tuple(row for pair in both for row in pair)
    if not verified:
        told = (
            f"{said} Nothing tells which prefixes err; how their rollout ended looks into the "
            "future and decides nothing."
        )
        return Judged(NOT_TESTABLE, told, evidence)
    costs = [
        replace(
            erring,
            value=erring.value - sound.value,
            low=erring.low - sound.high,
            high=erring.high - sound.low,
        )
        for sound, erring in both
    ]
    shown = _one_way(bool(less), bool(more), costs) or _absent(
        decided(FALL, replace(row, p_value_holm=math.nan)) for row in costs
    )
    if shown == NOT_TESTABLE and (told := remedy(FALL, costs)):
        said += f" {told}"
    return _guarded(run, Judged(shown, said, evidence))


RULES: tuple[tuple[Claim, Rule], ...] = ((MACHINERY, machinery), (DECAY, decay), (CONTENT, content))


def _guarded(run: FoundRun, found: Judged) -> Judged:
    """The same; undecided where the control fails."""
    control = machinery(run)
    if control is None or control.verdict != CONTRADICTED:
        return found
    return found._replace(
        verdict=UNDECIDED, sentence=f"{found.sentence} But the control of this run fails."
    )


def differences(run: FoundRun, condition: str) -> list[Measurement]:
    """Paired differences to the teacher alone by prefix length, over open rollouts, where there are
    any."""
    rows = pick(run.measurements, "accuracy_difference", condition=condition, view="open")
    kept = [row for row in rows if row.prefix_tokens > 0 and not math.isnan(row.value)]
    return sorted(kept, key=lambda row: row.prefix_tokens)


def half_decay_words(half: Measurement, longest: float) -> str:
    """The half-decay length with its interval, in one sentence. longest: of the prefixes, in
    tokens."""
    if math.isnan(half.value):
        return (
            f"The half-decay length is undefined ({half.note})."
            if half.note
            else "The half-decay length is undefined."
        )
    high = "more than was measured" if math.isinf(half.high) else f"{half.high:.0f}"
    if math.isinf(half.value):
        since = f" (interval from {half.low:.0f} tokens)" if math.isfinite(half.low) else ""
        return (
            f"Half of its advantage over the student is not gone within {longest:g} tokens, "
            f"the longest prefix{since}."
        )
    shown = f" [{half.low:.0f}, {high}]" if not math.isnan(half.low) else ""
    return f"Half of its advantage over the student is gone after {half.value:.0f} tokens{shown}."


def _one_way(
    towards: bool, against: bool, rows: Iterable[Measurement], recovered: bool = False
) -> Verdict | None:
    """Holds where all that is shown speaks for the claim, contradicted where all speaks against it.

    None where nothing is shown, or nothing in whose direction one of the rows leaves room for a
    size that counts.
    """
    room = [row for row in rows if usable(row)]
    falls, rises = (
        any(row.low <= FALL.counts for row in room),
        any(row.high >= -FALL.counts for row in room),
    )
    if not (towards and falls or against and rises):
        return None
    if towards and (against or recovered):
        return UNDECIDED
    return CONTRADICTED if against else HOLDS


def _absent(found: Iterable[Verdict]) -> Verdict:
    """Where nothing is shown: not supported if every length excludes what counts."""
    return NOT_SUPPORTED if set(found) <= {NOT_SUPPORTED, CONTRADICTED} else NOT_TESTABLE


def _falls(falls: list[Measurement]) -> str:
    first, largest = falls[0], min(falls, key=lambda row: row.value)
    said = (
        f"A fall is shown from {first.prefix_tokens:g} tokens of the student on: "
        f"{points(first)}{p_words(first)}"
    )
    return (
        f"{said}."
        if largest is first
        else f"{said}; the largest is {points(largest)} at {largest.prefix_tokens:g} tokens."
    )


def _no_fall(rows: list[Measurement]) -> str:
    lowest = min(rows, key=lambda row: row.value)
    lengths = (
        f"any of {len(rows)} lengths up to {rows[-1].prefix_tokens:g}"
        if len(rows) > 1
        else f"{rows[0].prefix_tokens:g}"
    )
    return (
        f"No fall is shown at {lengths} tokens; the lowest is {points(lowest)} at "
        f"{lowest.prefix_tokens:g}."
    )


def _blunt(rows: list[Measurement], after_student: list[Measurement]) -> Measurement | None:
    """The control at the largest fall, where it could not have seen a fall as large."""
    falls = [row for row in after_student if side(row) < 0]
    if not falls:
        return None
    largest = min(falls, key=lambda row: row.value)
    beside = [row for row in rows if row.prefix_tokens == largest.prefix_tokens]
    return next((row for row in beside if row.low <= largest.value), None)


def _range(rows: list[Measurement]) -> str:
    values = [100 * row.value for row in rows]
    low, high = (rounded(end, "+.1f") for end in (min(values), max(values)))
    where = f"at {len(rows)} lengths" if len(rows) > 1 else f"at {rows[0].prefix_tokens:g} tokens"
    return f"{low} to {high} points {where}" if len(rows) > 1 else f"{low} points {where}"


def _at(rows: list[Measurement]) -> str:
    return f"{listed(row.prefix_tokens for row in rows)} tokens"
