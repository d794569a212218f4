"""The claim that a teacher's scores stay corrective after its continuations have decayed."""

from __future__ import annotations

from collections.abc import Sequence

from decaylab.claims.on_decay import machinery
from decaylab.claims.verdicts import (
    CONTRADICTED,
    NOT_TESTABLE,
    POINTS,
    UNDECIDED,
    Effect,
    Judged,
    Rule,
    Verdict,
    decided,
    pick,
    remedy,
    side,
    some,
    usable,
)
from decaylab.claims.wording import listed, p_words, points
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import (
    CORRECTIVE_GAIN,
    GAIN_MINUS_CONTINUATION,
    HAND_BACK,
    HAND_BACK_CONTROL,
    OPEN,
    RETAINED,
    STUDENT_PREFIX,
    TO_THE_END,
    teacher_tokens,
)

GAIN, HALF = Effect(0.0, POINTS), 0.5
MOST_TOKENS = 10
"""More teacher tokens say what its continuation is worth, rather than its scores."""


def corrective(run: FoundRun) -> Judged | None:
    """Whether the fewest teacher tokens help the student where the continuation has lost half of
    the teacher's advantage."""
    gains = _of_fewest_tokens(pick(run.measurements, CORRECTIVE_GAIN, condition=HAND_BACK))
    if not gains:
        return None
    if _count(gains[0]) > MOST_TOKENS:
        why = (
            f"{_count(gains[0]):g} teacher tokens say what its continuation is worth, not its "
            f"scores: hand back {MOST_TOKENS} or fewer (--hand-back 1)."
        )
        return Judged(NOT_TESTABLE, why, (*gains,), why)
    retained = pick(run.measurements, RETAINED, condition=STUDENT_PREFIX, view=OPEN)
    decayed = {row.prefix_tokens: row for row in retained if usable(row) and row.high < HALF}
    found = [row for row in gains if row.prefix_tokens in decayed]
    if not found:
        why = "At no length is less than half of the teacher's advantage shown to be left."
        return Judged(NOT_TESTABLE, why, (*gains, *retained), why)
    verdict = some([decided(GAIN, row) for row in found])
    lost = any(side(row) < 0 for row in found)
    verdict = UNDECIDED if lost and any(side(row) > 0 for row in found) else verdict
    return _guarded(run, verdict, found, (*found, *decayed.values()))


def _guarded(
    run: FoundRun,
    verdict: Verdict,
    found: Sequence[Measurement],
    evidence: tuple[Measurement, ...],
) -> Judged:
    """The verdict with its sentence; undecided if a control fails."""
    words, why = [_sentence(found)], ""
    if verdict == NOT_TESTABLE:
        why = remedy(GAIN, found)
    if off := [row for row in _controls(run) if side(row)]:
        worst = max(off, key=lambda row: abs(row.value))
        why = (
            f"The control at {worst.prefix_tokens:g} tokens ({worst.category}) differs from 0 by "
            f"{points(worst)}{p_words(worst)}, so the claim is undecided."
        )
        verdict = UNDECIDED
    control = machinery(run)
    if control and control.verdict == CONTRADICTED:
        verdict, why = UNDECIDED, "The control of this run fails, so the claim is undecided."
    return Judged(verdict, " ".join(filter(None, [*words, why])), evidence, why)


def _of_fewest_tokens(gains: Sequence[Measurement]) -> list[Measurement]:
    """The gains of the fewest teacher tokens, which come first at each length."""
    if not gains:
        return []
    return [row for row in gains if row.category == gains[0].category]


def _count(gain: Measurement) -> float:
    """Number of teacher tokens that were handed back."""
    return float(gain.category.rpartition(" ")[2])


def _controls(run: FoundRun) -> list[Measurement]:
    controls = {CORRECTIVE_GAIN: 0, GAIN_MINUS_CONTINUATION: TO_THE_END}
    found: list[Measurement] = []
    for what, count in controls.items():
        at = {"condition": HAND_BACK_CONTROL, "category": teacher_tokens(count)}
        found += pick(run.measurements, what, **at)
    return found


def _sentence(found: Sequence[Measurement]) -> str:
    largest = max(found, key=lambda row: abs(row.value))
    count = _count(largest)
    tokens = "1 teacher token changes" if count == 1 else f"{count:g} teacher tokens change"
    lengths = listed(f"{row.prefix_tokens:g}" for row in found)
    return (
        f"Less than half of the teacher's advantage is left at {lengths} tokens; there {tokens} "
        f"the student's accuracy by at most {points(largest)} at {largest.prefix_tokens:g}"
        f"{p_words(largest)}."
    )


RULES: dict[str, Rule] = {"scores-stay-corrective": corrective}
