"""Hand-back: is following the teacher at position k worth anything to this student?

After the student's first k tokens the teacher writes m, then the student finishes within the same
budget. All rows are over rollouts unfinished at k:

    corrective_gain     G(k, m) = accuracy of these minus the outcomes of the very rollouts that the
                        prefixes are cut from
    usable_share        G(k, m) / (A(k) - S(k)): of what the teacher gains by finishing itself, the
                        share that its first m tokens give the student
    continuation_gain   A(k) - S(k), over the rollouts that were handed back

Two controls have rows of their own, condition ``hand-back-control``: no teacher token (the student
continues its own prefix afresh, so the gain is 0) and all of them (the gain is A(k) - S(k), from
other draws). Where the teacher ended within m tokens, its own response is the outcome.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import statistics as st
from decaylab.maths.ratios import ratio_of_differences
from decaylab.runs import rows as estimated
from decaylab.runs.arms import Arms, Floats, Integers
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import (
    ACCURACY,
    CONTINUATION_GAIN,
    CORRECTIVE_GAIN,
    FRACTION,
    GAIN_MINUS_CONTINUATION,
    HAND_BACK,
    HAND_BACK_CONTROL,
    HAND_BACK_TEACHER,
    MEAN_OVER_ROLLOUTS,
    OPEN,
    STUDENT_ACCURACY,
    STUDENT_PREFIX,
    TEACHER_FINISHED,
    TO_THE_END,
    USABLE_SHARE,
    teacher_tokens,
)

IDENTITY = "an identity at temperature 0: it repeats what was sampled before"
WORSE = "the teacher that finishes itself is less accurate than the student's own outcomes"


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the measurement.

    teacher_tokens: the numbers m, ascending, above 0. greedy: all rollouts were sampled here, at
    temperature 0.
    """

    prefix_lengths: tuple[int, ...]
    answer_rule: str
    teacher_tokens: tuple[int, ...]
    greedy: bool = False


@dataclass(frozen=True)
class Handed:
    """The rollouts behind one k and m, one entry per rollout, [rollouts].

    correct: grade of what was handed back. student: of the rollout that the prefix is cut from.
    continued: of the teacher's ordinary continuation of the same prefix; NaN without one. finished:
    whether the teacher ended within m tokens, 0 or 1. tokens: written behind the prefix by both.
    lost: number of rollouts that could not be handed back.
    """

    correct: Floats
    student: Floats
    continued: Floats
    finished: Floats
    problems: Integers
    tokens: Integers
    lost: int

    def compared(self) -> Handed:
        """The rollouts that have an ordinary continuation."""
        kept = ~np.isnan(self.continued)
        return Handed(
            self.correct[kept],
            self.student[kept],
            self.continued[kept],
            self.finished[kept],
            self.problems[kept],
            self.tokens[kept],
            self.lost,
        )


Point = tuple[int, float]  # k and m
Sides = Callable[[Handed], tuple[Floats, Floats]]


def measure(rollouts: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The measurements of every prefix length and number of teacher tokens.

    Args:
        rollouts: rows of the rollouts table: the conditions ``student``, ``teacher``,
            ``student-prefix``, ``hand-back-teacher`` and ``hand-back``.
        settings: prefix lengths, teacher tokens, answer rule, seed and level.
    """
    return to_frame(_HandBack(rollouts, settings).rows())


class _HandBack:
    def __init__(self, rollouts: pd.DataFrame, settings: Settings) -> None:
        self.settings, self.level = settings, settings.level
        self.arms = arms = Arms(rollouts, settings.answer_rule, settings.prefix_lengths)
        self.written, self.student = arms.of(HAND_BACK_TEACHER), arms.of(HAND_BACK)
        continued = arms.of(STUDENT_PREFIX).set_index(["prefix_tokens", "prefix_rollout_id"])
        self.continued = continued["correct"]

    def rows(self) -> Iterator[Measurement]:
        asked = self.every(self.settings.teacher_tokens)
        yield from self.tested(CORRECTIVE_GAIN, HAND_BACK, asked, _gain)
        for point, handed in asked.items():
            yield from self.beside(point, handed)
        same = IDENTITY if self.settings.greedy else ""
        for count, note in ((0, same), (TO_THE_END, "")):
            control = self.every([count])
            yield from self.tested(CORRECTIVE_GAIN, HAND_BACK_CONTROL, control, _gain, note)
        compared = {point: handed.compared() for point, handed in control.items()}
        what = GAIN_MINUS_CONTINUATION
        yield from self.tested(what, HAND_BACK_CONTROL, compared, _against_continuation, same)
        yield from self.tested(CONTINUATION_GAIN, STUDENT_PREFIX, compared, _continuation)

    def every(self, counts: Sequence[float]) -> dict[Point, Handed]:
        """What was handed back at every length, for each of these numbers of teacher tokens."""
        points = [(length, count) for length in self.arms.lengths for count in counts]
        return {point: self.handed(*point) for point in points}

    def handed(self, length: int, count: float) -> Handed:
        """What was handed back after ``length`` student and ``count`` teacher tokens."""
        written = self.written[self.written.prefix_tokens == length]
        source = written["prefix_rollout_id"]
        # The rule by which the student was sampled: see decaylab.rollouts.hand_back.
        finished = written["length"] <= count
        back = self.student[self.student.prefix_tokens == length]
        if not back.empty:
            back = back[back.teacher_tokens == count]
        back = back.set_index("prefix_rollout_id")
        theirs = back[["correct", "length"]].astype(float).reindex(source).set_axis(written.index)
        correct = written["correct"].where(finished, theirs["correct"])
        tokens = written["length"].where(finished, count + theirs["length"])
        kept = correct.notna()
        continued = self.continued.reindex([(length, name) for name in source[kept]])
        return Handed(
            correct[kept].to_numpy(dtype=float),
            source[kept].map(self.arms.outcome).to_numpy(dtype=float),
            continued.to_numpy(dtype=float),
            np.asarray(finished[kept], dtype=np.float64),
            written["code"][kept].to_numpy(dtype=np.int64),
            tokens[kept].to_numpy(dtype=np.int64),
            int((~kept).sum()),
        )

    def tested(
        self,
        what: str,
        condition: str,
        points: Mapping[Point, Handed],
        sides: Sides,
        note: str = "",
    ) -> Iterator[Measurement]:
        """A paired difference at each point, with a band and Holm's correction over all of them."""
        pairs = {point: sides(handed) for point, handed in points.items()}
        differences = [first - second for first, second in pairs.values()]
        problems = [handed.problems for handed in points.values()]
        seed = self.settings.seed
        columns = [*zip(differences, problems, strict=True)]
        band = self.arms.critical(columns, level=self.level, seed=seed)
        p_values = [self.p_value(*column) for column in columns]
        corrected = st.holm(p_values).tolist()
        for (point, pair), p_value, p_holm in zip(pairs.items(), p_values, corrected, strict=True):
            handed = points[point]
            plain = st.paired_difference(*pair, handed.problems, level=self.level)
            wide = st.paired_difference(*pair, handed.problems, level=self.level, critical=band)
            tests = {"p_value": p_value, "p_value_holm": p_holm}
            bands = {"band_low": wide.low, "band_high": wide.high}
            yield self.row(what, condition, plain, point, handed, note, **tests, **bands)

    def p_value(self, differences: Floats, problems: Integers) -> float:
        """The p-value of the sign-flip test; NaN without rollouts."""
        if not len(problems):
            return math.nan
        return st.sign_flip_p(differences, problems, seed=self.settings.seed)

    def beside(self, point: Point, handed: Handed) -> Iterator[Measurement]:
        """Both accuracies, the usable share, and how often the teacher had ended."""
        for what, grades in ((ACCURACY, handed.correct), (STUDENT_ACCURACY, handed.student)):
            accuracy = st.proportion(grades, handed.problems, level=self.level)
            yield self.row(what, HAND_BACK, accuracy, point, handed)
        both = handed.compared()
        above, below = _gain(both), _continuation(both)
        share = ratio_of_differences(above, below, both.problems, level=self.level)
        defined = not math.isnan(share.value)
        note = WORSE if defined and float((below[0] - below[1]).mean()) < 0 else ""
        yield self.row(USABLE_SHARE, HAND_BACK, share, point, both, note)
        finished = float(handed.finished.mean()) if handed.finished.size else math.nan
        ended = estimated.bare(finished, accuracy)
        yield self.row(TEACHER_FINISHED, HAND_BACK, ended, point, handed)

    def row(
        self,
        what: str,
        condition: str,
        estimate: st.Estimate,
        point: Point,
        handed: Handed,
        note: str = "",
        **more: Any,
    ) -> Measurement:
        length, count = point
        everything = handed.lost + len(handed.problems)
        lost = estimated.left_out(handed.lost, everything, "rollouts could not be handed back")
        place = {
            "condition": condition,
            "view": OPEN,
            "prefix_tokens": float(length),
            "category": teacher_tokens(count),
            "tokens": int(handed.tokens.sum()),
            "estimand": MEAN_OVER_ROLLOUTS,
            "answer_rule": self.settings.answer_rule,
        }
        if condition == STUDENT_PREFIX:  # nothing of it was handed back
            place |= {"category": "", "tokens": 0}
        return estimated.row(self.settings, what, FRACTION, estimate, note, lost, **place, **more)


def _gain(handed: Handed) -> tuple[Floats, Floats]:
    return handed.correct, handed.student


def _continuation(handed: Handed) -> tuple[Floats, Floats]:
    return handed.continued, handed.student


def _against_continuation(handed: Handed) -> tuple[Floats, Floats]:
    # The student's outcomes, which both gains subtract, cancel.
    return handed.correct, handed.continued
