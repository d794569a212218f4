"""Prefix decay: accuracy of the teacher after k tokens of another policy's rollout.

Rows of the rollouts table in, measurements out; no model, no file. The views of a curve:

    open             rollouts unfinished at k, compared with their own student outcome and the
                     teacher's accuracy alone on the same problem. The main result: the effect of a
                     prefix.
    turns            rollouts of several turns (tools, users), continued after whole turns of the
                     student.
    carry-forward    every rollout; one that ended before k counts with its own grade. The curve
                     falls to the student's accuracy as rollouts end, with or without decay. The
                     paper does not state which of the two its curve is.

Every accuracy is a mean over rollouts, and every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from decaylab.maths import retention
from decaylab.maths import statistics as st
from decaylab.runs import rows as estimated
from decaylab.runs.arms import Arm, Arms, Floats
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import (
    ACCURACY,
    ALL,
    ALREADY_WRONG,
    CARRY_FORWARD,
    CORRECT_SO_FAR,
    DIFFERENCE,
    ENDED_RIGHT,
    ENDED_WRONG,
    FRACTION,
    MEAN_OVER_ROLLOUTS,
    OPEN,
    OWN_PREFIX,
    REVERSE,
    STUDENT,
    STUDENT_PREFIX,
    STUDENT_TURNS,
    SWAPPED,
    TEACHER,
    TOKENS,
    TURNS,
)


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the measurement.

    answer_rule: the rule whose grades are reported. split_by_fate: also measure student prefixes
    that are correct so far and those that are already wrong separately.
    """

    prefix_lengths: tuple[int, ...]
    answer_rule: str
    split_by_fate: bool = True


def measure(rollouts: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Every measurement that the rollouts allow.

    Args:
        rollouts: rows of the rollouts table: the conditions ``student`` and ``teacher``, and any of
            ``student-prefix``, ``own-prefix``, ``swapped`` and ``reverse``.
        settings: prefix lengths, answer rule, seed and level.
    """
    return to_frame(_Decay(rollouts, settings).rows())


class _Decay:
    def __init__(self, rollouts: pd.DataFrame, settings: Settings) -> None:
        self.settings, self.level, self.seed = settings, settings.level, settings.seed
        self.arms = Arms(rollouts, settings.answer_rule, settings.prefix_lengths)

    def rows(self) -> Iterator[Measurement]:
        for role in (STUDENT, TEACHER):
            arm = self.arms.plain(role)
            accuracy = self.proportion(arm.correct, arm)
            yield self.row(ACCURACY, role, accuracy, **_place(ALL, 0, arm))
        arms = self.arms.continued(STUDENT_PREFIX, TEACHER)
        yield from self.curve(STUDENT_PREFIX, arms)
        yield from self.beside(arms)
        yield from self.recovery_and_spoil(arms)
        yield from self.carry_forward(STUDENT_PREFIX, STUDENT)
        if self.arms.has(STUDENT_TURNS):
            yield from self.behind_turns()
        if self.arms.has(OWN_PREFIX):
            arms = self.arms.continued(OWN_PREFIX, TEACHER)
            yield from self.curve(OWN_PREFIX, arms, reference="author")
            yield from self.carry_forward(OWN_PREFIX, TEACHER)
        if self.settings.split_by_fate:  # splits the student's prefixes without more sampling
            yield from self.split_by_fate()
        for condition, role in ((SWAPPED, TEACHER), (REVERSE, STUDENT)):
            if self.arms.has(condition):
                yield from self.curve(condition, self.arms.continued(condition, role))

    def row(
        self, what: str, condition: str, estimate: st.Estimate, unit: str = FRACTION, **more: Any
    ) -> Measurement:
        columns = {
            "condition": condition,
            "estimand": MEAN_OVER_ROLLOUTS,
            "answer_rule": self.settings.answer_rule,
            **more,
        }
        return estimated.row(self.settings, what, unit, estimate, **columns)

    def proportion(
        self, values: Floats, arm: Arm, weights: Floats | None = None, critical: float | None = None
    ) -> st.Estimate:
        """Mean over the rollouts of an arm. critical: of a simultaneous band."""
        return st.proportion(
            values, arm.problems, weights=weights, level=self.level, critical=critical
        )

    def difference(self, arm: Arm, reference: Floats, critical: float | None = None) -> st.Estimate:
        """Accuracy minus a reference over the same rollouts."""
        return st.paired_difference(
            arm.correct, reference, arm.problems, level=self.level, critical=critical
        )

    def accuracy(
        self, condition: str, view: str, arms: Mapping[int, Arm]
    ) -> Iterator[tuple[int, Measurement]]:
        """Accuracy at each length, with a band over all of them."""
        band = self.critical({length: arm.correct for length, arm in arms.items()}, arms)
        for length, arm in arms.items():
            accuracy = self.proportion(arm.correct, arm)
            wide = self.proportion(arm.correct, arm, critical=band)
            place = {**_place(view, length, arm), "band_low": wide.low, "band_high": wide.high}
            yield length, self.row(ACCURACY, condition, accuracy, **place)

    def curve(
        self, condition: str, arms: Mapping[int, Arm], reference: str = "unprefixed"
    ) -> Iterator[Measurement]:
        """Accuracy at each length, its reference over the same rollouts, and their paired
        difference with p-values.

        reference: ``unprefixed``, the continuing policy alone on the same problems; or ``author``,
        the grade of the rollout that the prefix was cut from (for the own-prefix control, both have
        the same expectation among unfinished rollouts).
        """
        if not arms:
            return
        references = {length: getattr(arm, reference) for length, arm in arms.items()}
        differences = {length: arm.correct - references[length] for length, arm in arms.items()}
        band = self.critical(differences, arms)
        p_values = [self.p_value(differences[length], arm) for length, arm in arms.items()]
        corrected = st.holm(p_values).tolist()  # over the lengths of this curve
        accuracies = self.accuracy(condition, OPEN, arms)
        for (length, accuracy), p_value, p_holm in zip(
            accuracies, p_values, corrected, strict=True
        ):
            arm, other = arms[length], references[length]
            place = _place(OPEN, length, arm)
            yield accuracy
            alone = self.proportion(other, arm)
            yield self.row("reference_accuracy", condition, alone, **place)
            change, wide = self.difference(arm, other), self.difference(arm, other, band)
            tests = {"p_value": p_value, "p_value_holm": p_holm}
            tested = {**place, **tests, "band_low": wide.low, "band_high": wide.high}
            yield self.row(DIFFERENCE, condition, change, **tested)
            least = estimated.detectable_difference(change, level=self.level)
            yield self.row("smallest_detectable_difference", condition, least, **place)

    def behind_turns(self) -> Iterator[Measurement]:
        """The curve over whole turns of the student. ``category``: number of turns.
        ``prefix_tokens``: their mean length."""
        arms = self.arms.continued_behind_turns()

        def moved(row: Measurement, turns: int) -> Measurement:
            tokens, category = arms[turns][1], f"turns: {turns}"
            return replace(row, view=TURNS, category=category, prefix_tokens=tokens)

        for row in self.curve(STUDENT_TURNS, {turns: arm for turns, (arm, _) in arms.items()}):
            yield moved(row, int(row.prefix_tokens))
        for turns, (arm, _) in arms.items():
            student = self.proportion(arm.author, arm)
            place = _place(TURNS, turns, arm)
            yield moved(self.row("student_accuracy", STUDENT_TURNS, student, **place), turns)

    def critical(self, values: Mapping[int, Floats], arms: Mapping[int, Arm]) -> float:
        """Multiplier of the band over all lengths of one curve."""
        columns = [(values[length], arm.problems) for length, arm in arms.items()]
        return self.arms.critical(columns, level=self.level, seed=self.seed)

    def p_value(self, differences: Floats, arm: Arm) -> float:
        """The p-value of the sign-flip test; NaN without rollouts."""
        if not len(arm.problems):
            return math.nan
        return st.sign_flip_p(differences, arm.problems, seed=self.seed)

    def beside(self, arms: Mapping[int, Arm]) -> Iterator[Measurement]:
        """Further results: the student's outcome, the share of unfinished rollouts, retained
        advantage, half-decay."""
        student, teacher = self.arms.plain(STUDENT), self.arms.plain(TEACHER)
        written = self.arms.written(STUDENT)
        reached: dict[int, retention.OpenRollouts] = {}
        for length, arm in arms.items():
            place = _place(OPEN, length, arm)
            alone = self.proportion(arm.author, arm)
            yield self.row("student_accuracy", STUDENT_PREFIX, alone, **place)
            share = estimated.bare(float((written >= length).mean()), alone)
            yield self.row("open_share", STUDENT_PREFIX, share, **place)
            rollouts = retention.OpenRollouts(arm.correct, arm.author, arm.unprefixed, arm.problems)
            retained = retention.retained_advantage(*rollouts, level=self.level, seed=self.seed)
            yield self.row("retained_advantage", STUDENT_PREFIX, retained, **place)
            if len(arm.problems):
                reached[length] = rollouts
        unprefixed = self.arms.unprefixed(TEACHER, student.problems)
        gap = st.paired_difference(unprefixed, student.correct, student.problems, level=self.level)
        yield self.row("teacher_advantage", STUDENT_PREFIX, gap, **_place(ALL, 0, teacher))
        if reached:  # the curve ends with the longest rollout
            half = retention.half_decay(
                [*reached], [*reached.values()], level=self.level, seed=self.seed
            )
            yield self.row("half_decay_length", STUDENT_PREFIX, half, TOKENS, view=OPEN)

    def recovery_and_spoil(self, arms: Mapping[int, Arm]) -> Iterator[Measurement]:
        """P(teacher correct | student wrong), and P(teacher wrong | student correct, teacher
        correct alone).

        The teacher's samples without a prefix do not belong to particular rollouts, so the second
        is weighted by their accuracy.
        """
        for length, arm in arms.items():
            lost, won = 1 - arm.author, arm.author * arm.unprefixed
            for what, values, weights in (
                ("recovery_rate", arm.correct, lost),
                ("spoil_rate", 1 - arm.correct, won),
            ):
                place = _place(OPEN, length, arm)
                place["tokens"] = int(arm.tokens[weights > 0].sum())
                rate = self.proportion(values, arm, weights)
                yield self.row(what, STUDENT_PREFIX, rate, **place)

    def carry_forward(self, condition: str, author: str) -> Iterator[Measurement]:
        """The curve over all rollouts: a finished one keeps its author's grade. Difference from the
        teacher alone."""
        arms = self.arms.carried_forward(condition, author)
        if not arms:
            return
        written = self.arms.written(author)
        for length, accuracy in self.accuracy(condition, CARRY_FORWARD, arms):
            arm = arms[length]
            place = _place(CARRY_FORWARD, length, arm)
            yield accuracy
            change = self.difference(arm, arm.unprefixed)
            p_value = self.p_value(arm.correct - arm.unprefixed, arm)
            yield self.row(DIFFERENCE, condition, change, p_value=p_value, **place)
            finished = float((written < length).mean())
            share = estimated.bare(finished, self.proportion(arm.correct, arm))
            yield self.row("finished_share", condition, share, **place)

    def split_by_fate(self) -> Iterator[Measurement]:
        """Unfinished student prefixes that are correct so far against those already wrong.

        They are split by the step verifier if the problems have one, without the prefixes that it
        cannot read; otherwise by the rollout's final grade, which conditions on the outcome: the
        prefix of a wrong rollout may itself be correct. The estimand names the split.
        """
        rows = self.arms.of(STUDENT_PREFIX)
        if not len(rows):
            return
        read = rows["prefix_correct_so_far"].notna()
        if read.any():
            right = rows["prefix_correct_so_far"].eq(True)
            names = (CORRECT_SO_FAR, ALREADY_WRONG)
            by = "the step verifier"
        else:
            read = ~read
            right = rows["prefix_rollout_id"].map(self.arms.outcome) == 1
            names = (ENDED_RIGHT, ENDED_WRONG)
            by = "the rollout's own outcome (conditions on the future)"
        unread = {
            length: estimated.left_out(
                int((~of_length).sum()), len(of_length), "prefixes cannot be read by the verifier"
            )
            for length, of_length in read.groupby(rows["prefix_tokens"])
        }
        for name, chosen in zip(names, (right, ~right & read), strict=True):
            arms = self.arms.continued(STUDENT_PREFIX, TEACHER, keep=chosen)
            for row in self.curve(name, arms):
                note = "; ".join(filter(None, (row.note, unread.get(row.prefix_tokens, ""))))
                estimand = f"{MEAN_OVER_ROLLOUTS}; prefixes split by {by}"
                yield replace(row, estimand=estimand, note=note)


def _place(view: str, length: int, arm: Arm) -> dict[str, Any]:
    """The coordinates of all rows of one point of a curve."""
    return {"view": view, "prefix_tokens": float(length), "tokens": int(arm.tokens.sum())}
