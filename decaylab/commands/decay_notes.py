"""What a reader of a prefix-decay run must know about its rollouts, a line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from decaylab.options.measuring import Options
from decaylab.pair.prepare import Setup
from decaylab.problems.grading import Verdict
from decaylab.rollouts import seams
from decaylab.rollouts.stages import absent_note
from decaylab.runs import graded, own_tokens
from decaylab.runs.vocabulary import (
    CORRECT_SO_FAR,
    HAND_BACK,
    HAND_BACK_TEACHER,
    OWN_PREFIX,
    REVERSE,
    STUDENT,
    STUDENT_PREFIX,
    TEACHER,
)

HANDED_OVER = {
    STUDENT_PREFIX: STUDENT,
    OWN_PREFIX: TEACHER,
    REVERSE: TEACHER,
    HAND_BACK_TEACHER: STUDENT,
}
"""Condition -> who wrote the prefixes."""


def of_rollouts(rollouts: pa.Table, options: Options, rules: Sequence[str]) -> list[str]:
    """The notes on rollouts and continuations. rules: the answer rules by which they are graded."""
    return [*filter(None, _notes(rollouts, options, rules))]


def of_problems(setup: Setup[Options]) -> Iterator[str]:
    """The note on a control that needs steps which the problems do not have."""
    known = any(problem.steps for problem in setup.problems)
    if CORRECT_SO_FAR in setup.options.controls and not known:
        yield (
            f"{CORRECT_SO_FAR} needs problems with known steps, and {setup.problem_set.name} has "
            "none: continuations are told apart by how the rollout ended"
        )


def _notes(rollouts: pa.Table, options: Options, rules: Sequence[str]) -> Iterator[str]:
    """The same; "" says nothing."""
    columns = {"condition", "stop_reason", own_tokens.TOKENS, "response_ids", own_tokens.MASK}
    columns |= {"teacher_tokens"}
    kept = [name for name in rollouts.column_names if name in columns]
    frame = rollouts.select(kept).to_pandas()
    frame["written"] = own_tokens.count(frame)
    yield from _not_handed_over(frame, options)
    yield from seams.notes(rollouts)
    if options.hand_back:
        yield from _hand_back(frame, options)
    for author in (STUDENT, TEACHER):
        yield absent_note(author, rollouts.filter(pc.equal(rollouts["author"], author)))
    student = frame[frame["condition"] == STUDENT]
    cut_off = int((student["stop_reason"] == "length").sum())
    if cut_off:
        count = f"{cut_off} of {len(student)} student rollouts"
        yield f"{count} were cut off at the budget{graded.RAISE}"
    longer = int((student["written"] > int(options.max_tokens or 0)).sum())
    if longer:
        yield (
            f"{longer} student rollouts are longer than the budget of {options.max_tokens} "
            "tokens: graded whole; give --max-tokens their length for equal budgets"
        )
    inside = graded.count_open(rollouts)
    if inside:
        yield f"{inside} of {len(rollouts)} responses end inside a thought: no answer{graded.RAISE}"
    for rule in rules:
        late = rollouts[f"grade_{rule}"].to_pylist().count(Verdict.TIMEOUT)
        if late:
            yield (
                f"{rule}: {late} of {len(rollouts)} responses took too long to grade and count as "
                "not correct; another --answer-rule may grade them"
            )


def _not_handed_over(frame: pd.DataFrame, options: Options) -> Iterator[str]:
    """Prefixes that have no tokens in the vocabulary of the policy that continues."""
    lengths = (options.prefix_lengths or (0,))[1:]
    measured = {STUDENT_PREFIX, *options.controls}
    if options.hand_back:
        measured.add(HAND_BACK_TEACHER)
    for condition, author in HANDED_OVER.items():
        if condition not in measured:
            continue
        written = frame.loc[frame["condition"] == author, "written"]
        unfinished = sum(int((written >= length).sum()) for length in lengths)
        lost = unfinished - int((frame["condition"] == condition).sum())
        if lost > 0:
            yield (
                f"{condition}: {lost} of {unfinished} prefixes could not be handed over, left out; "
                "other --prefix-lengths may end where both tokenizers can"
            )


def _hand_back(frame: pd.DataFrame, options: Options) -> Iterator[str]:
    """Teacher tokens that the student does not have, and what the controls show."""
    written = frame.loc[frame["condition"] == HAND_BACK_TEACHER, "response_ids"].map(len)
    back = frame[frame["condition"] == HAND_BACK]
    for count in (0, *(options.hand_back or ())):
        asked = int((written > count).sum())
        lost = asked - int((back["teacher_tokens"] == count).sum())
        if lost > 0:
            yield (
                f"{HAND_BACK}: {lost} of {asked} rollouts could not be handed back after {count} "
                "teacher tokens, left out; the two vocabularies differ there"
            )
    if options.rollouts:
        yield (
            f"{HAND_BACK}: the gain subtracts the outcomes in {options.rollouts}, which are draws "
            "of this student's value only if they were sampled with the same settings; its control "
            "without teacher tokens shows whether they agree"
        )
