"""Prefix decay: how often the teacher still answers right after k tokens of somebody else's
rollout.

Rows of the rollouts table in, measurements out; no model, no file. The views of a curve:

    open            rollouts that are still open at k, each beside its own student outcome and the
                    teacher's unprefixed accuracy on the same problem. The headline: what a prefix
                    does.
    turns           rollouts of several turns (tools, users), continued behind whole turns of the
    student. carry-forward   every rollout; one that ended before k counts as it stands. Falls to
    the student's accuracy as rollouts
                    end, decay or not. The paper does not say how its curve counts them.

Every accuracy is a mean over rollouts, and every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.maths import retention
from decaylab.maths import statistics as st
from decaylab.runs.arms import Arm, Arms, Floats
from decaylab.runs.measurements import Measurement, to_frame

MEAN_OVER_ROLLOUTS = "mean over rollouts"


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    answer_rule: the rule whose grades are reported. level: of every interval and band, pointwise
    and simultaneous.
    split_by_fate: also the student prefixes that are correct so far apart from those already wrong.
    """

    prefix_lengths: tuple[int, ...]
    answer_rule: str
    seed: int = 0
    level: float = 0.95
    run: str = ""
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
        self.settings = settings
        self.arms = Arms(rollouts, settings.answer_rule, settings.prefix_lengths)

    def rows(self) -> Iterable[Measurement]:
        yield from self.baselines()
        yield from self.student_prefix()
        if self.arms.has("student-turns"):
            yield from self.behind_turns()
        if self.arms.has("own-prefix"):
            yield from self.curve(
                "own-prefix", self.arms.continued("own-prefix", "teacher"), reference="author"
            )
            yield from self.carry_forward("own-prefix", "teacher")
        if self.settings.split_by_fate:
            yield from self.split_by_fate()
        if self.arms.has("swapped"):
            yield from self.curve("swapped", self.arms.continued("swapped", "teacher"))
        if self.arms.has("reverse"):
            yield from self.curve("reverse", self.arms.continued("reverse", "student"))

    def row(
        self, what: str, condition: str, estimate: st.Estimate, unit: str = "fraction", **more: Any
    ) -> Measurement:
        values: dict[str, Any] = {
            "value": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
            "standard_error": estimate.standard_error,
            "method": estimate.method,
            "problems": estimate.problems,
            "rollouts": estimate.rollouts,
            "note": estimate.note,
            "estimand": MEAN_OVER_ROLLOUTS,
            "level": self.settings.level,
            "answer_rule": self.settings.answer_rule,
            "seed": self.settings.seed,
            "run": self.settings.run,
        }
        return Measurement(what=what, condition=condition, unit=unit, **{**values, **more})

    def baselines(self) -> Iterable[Measurement]:
        for role in ("student", "teacher"):
            arm = self.arms.plain(role)
            estimate = st.proportion(arm.correct, arm.problems, level=self.settings.level)
            yield self.row(
                "accuracy",
                role,
                estimate,
                view="all",
                prefix_tokens=0.0,
                tokens=int(arm.tokens.sum()),
            )

    def student_prefix(self) -> Iterable[Measurement]:
        """The headline curve, what it stands beside, and the carry-forward curve."""
        arms = self.arms.continued("student-prefix", "teacher")
        yield from self.curve("student-prefix", arms)
        yield from self.beside(arms)
        yield from self.recovery_and_spoil(arms)
        yield from self.carry_forward("student-prefix", "student")

    def curve(
        self, condition: str, arms: dict[int, Arm], reference: str = "unprefixed"
    ) -> Iterable[Measurement]:
        """Accuracy at each length, its reference over the same rollouts, and their paired
        difference with p-values.

        reference: ``unprefixed``, the continuing policy alone on the same problems; or ``author``,
        the grade of the very rollout that the prefix was cut from (for the own-prefix control both
        have one expectation among open rollouts).
        """
        lengths = list(arms)
        if not lengths:
            return
        references = {length: getattr(arms[length], reference) for length in lengths}
        differences = {length: arms[length].correct - references[length] for length in lengths}
        band = self.critical({length: arms[length].correct for length in lengths}, arms)
        band_of_differences = self.critical(differences, arms)
        p_values = [self.p_value(differences[k], arms[k].problems) for k in lengths]
        level = self.settings.level
        for length, p_value, p_holm in zip(lengths, p_values, st.holm(p_values), strict=True):
            arm, place = arms[length], _place("open", length, arms[length])
            accuracy = st.proportion(arm.correct, arm.problems, level=level)
            wide = st.proportion(arm.correct, arm.problems, level=level, critical=band)
            yield self.row(
                "accuracy", condition, accuracy, band_low=wide.low, band_high=wide.high, **place
            )
            alone = st.proportion(references[length], arm.problems, level=level)
            yield self.row("reference_accuracy", condition, alone, **place)
            change = st.paired_difference(
                arm.correct, references[length], arm.problems, level=level
            )
            wide = st.paired_difference(
                arm.correct,
                references[length],
                arm.problems,
                level=level,
                critical=band_of_differences,
            )
            yield self.row(
                "accuracy_difference",
                condition,
                change,
                band_low=wide.low,
                band_high=wide.high,
                p_value=p_value,
                p_value_holm=float(p_holm),
                **place,
            )
            detectable = st.smallest_detectable_difference(
                st.cautious_error(change, level=level), level=level
            )
            yield self.number(
                "smallest_detectable_difference", condition, detectable, change, **place
            )

    def behind_turns(self) -> Iterable[Measurement]:
        """The curve over whole turns of the student: ``category`` says how many, ``prefix_tokens``
        their mean length."""
        arms = self.arms.continued_behind_turns()
        curve = self.curve("student-turns", {turns: arm for turns, (arm, _) in arms.items()})
        for row in curve:
            turns = int(row.prefix_tokens)
            yield replace(
                row, view="turns", category=f"turns: {turns}", prefix_tokens=arms[turns][1]
            )
        for turns, (arm, tokens) in arms.items():
            place = {
                **_place("turns", turns, arm),
                "prefix_tokens": tokens,
                "category": f"turns: {turns}",
            }
            own = st.proportion(arm.author, arm.problems, level=self.settings.level)
            yield self.row("student_accuracy", "student-turns", own, **place)

    def critical(self, values: dict[int, Floats], arms: dict[int, Arm]) -> float:
        """Multiplier of the band over all lengths of one curve."""
        columns = [
            st.influence(values[length], arm.problems, self.arms.codes)
            for length, arm in arms.items()
            if len(arm.problems)
        ]
        if not columns:
            return math.nan
        present = np.stack(columns, axis=1)[
            np.isin(self.arms.codes, np.concatenate([arm.problems for arm in arms.values()]))
        ]
        return st.simultaneous_critical(present, level=self.settings.level, seed=self.settings.seed)

    def p_value(self, differences: Floats, problems: NDArray[np.int64]) -> float:
        """Of the sign-flip test; NaN without rollouts."""
        return (
            st.sign_flip_p(differences, problems, seed=self.settings.seed)
            if len(problems)
            else math.nan
        )

    def number(
        self, what: str, condition: str, value: float, like: st.Estimate, **more: Any
    ) -> Measurement:
        """A number without an interval, over the rollouts of another estimate."""
        note = like.note if math.isnan(value) else ""
        bare = st.Estimate(
            value, math.nan, math.nan, math.nan, "", like.problems, like.rollouts, note
        )
        return self.row(what, condition, bare, **more)

    def beside(self, arms: dict[int, Arm]) -> Iterable[Measurement]:
        """What stands beside the headline: the student's outcome, the open share, retained
        advantage, half-decay."""
        level, seed = self.settings.level, self.settings.seed
        student, teacher = self.arms.plain("student"), self.arms.plain("teacher")
        written = self.arms.written("student")
        opened = []
        for length, arm in arms.items():
            place = _place("open", length, arm)
            own = st.proportion(arm.author, arm.problems, level=level)
            yield self.row("student_accuracy", "student-prefix", own, **place)
            yield self.number(
                "open_share", "student-prefix", float((written >= length).mean()), own, **place
            )
            opened.append(
                retention.OpenRollouts(arm.correct, arm.author, arm.unprefixed, arm.problems)
            )
            retained = retention.retained_advantage(*opened[-1], level=level, seed=seed)
            yield self.row("retained_advantage", "student-prefix", retained, **place)
        alone = self.arms.unprefixed("teacher", student.problems)
        gap = st.paired_difference(alone, student.correct, student.problems, level=level)
        yield self.row(
            "teacher_advantage",
            "student-prefix",
            gap,
            view="all",
            prefix_tokens=0.0,
            tokens=int(teacher.tokens.sum()),
        )
        reached = [
            (length, arm)
            for length, arm in zip(arms, opened, strict=True)
            if len(arms[length].problems)
        ]
        if reached:  # the curve ends where the last rollout does
            half = retention.half_decay(
                [length for length, _ in reached],
                [arm for _, arm in reached],
                level=level,
                seed=seed,
            )
            yield self.row("half_decay_length", "student-prefix", half, unit="tokens", view="open")

    def recovery_and_spoil(self, arms: dict[int, Arm]) -> Iterable[Measurement]:
        """P(teacher right | student wrong), and P(teacher wrong | student right, teacher right
        unprefixed).

        The unprefixed samples of a problem belong to no particular rollout, so the second is
        weighted by their accuracy.
        """
        for length, arm in arms.items():
            lost, won = 1 - arm.author, arm.author * arm.unprefixed
            level = self.settings.level
            recovery = st.proportion(arm.correct, arm.problems, weights=lost, level=level)
            spoil = st.proportion(1 - arm.correct, arm.problems, weights=won, level=level)
            for what, estimate, weights in (
                ("recovery_rate", recovery, lost),
                ("spoil_rate", spoil, won),
            ):
                place = {
                    **_place("open", length, arm),
                    "tokens": int(arm.tokens[weights > 0].sum()),
                }
                yield self.row(what, "student-prefix", estimate, **place)

    def carry_forward(self, condition: str, author: str) -> Iterable[Measurement]:
        """The curve over all rollouts: a finished one keeps its author's grade. Difference to the
        teacher alone."""
        level = self.settings.level
        arms = self.arms.carried_forward(condition, author)
        if not arms:
            return
        band = self.critical({length: arm.correct for length, arm in arms.items()}, arms)
        for length, arm in arms.items():
            place = _place("carry-forward", length, arm)
            accuracy = st.proportion(arm.correct, arm.problems, level=level)
            wide = st.proportion(arm.correct, arm.problems, level=level, critical=band)
            yield self.row(
                "accuracy", condition, accuracy, band_low=wide.low, band_high=wide.high, **place
            )
            change = st.paired_difference(arm.correct, arm.unprefixed, arm.problems, level=level)
            p_value = self.p_value(arm.correct - arm.unprefixed, arm.problems)
            yield self.row("accuracy_difference", condition, change, p_value=p_value, **place)
            finished = float((self.arms.written(author) < length).mean())
            yield self.number("finished_share", condition, finished, accuracy, **place)

    def split_by_fate(self) -> Iterable[Measurement]:
        """Open student prefixes that are correct so far against those already wrong.

        By the step verifier where the problems have one; otherwise by whether the rollout ended
        right, which conditions on
        the future: a prefix of a rollout that ended wrong may itself be sound. The estimand says
        which.
        """
        rows = self.arms.of("student-prefix")
        if not len(rows):
            return
        verified = rows["prefix_correct_so_far"].notna().all()
        ended_right = rows["prefix_rollout_id"].map(self.arms.outcome) == 1
        right = rows["prefix_correct_so_far"].astype(bool) if verified else ended_right
        names = ("correct-so-far", "already-wrong") if verified else ("ended-right", "ended-wrong")
        estimand = f"{MEAN_OVER_ROLLOUTS}; prefixes split by " + (
            "the step verifier"
            if verified
            else "the rollout's own outcome (conditions on the future)"
        )
        for name, chosen in zip(names, (right, ~right), strict=True):
            for row in self.curve(
                name, self.arms.continued("student-prefix", "teacher", keep=chosen)
            ):
                yield replace(row, estimand=estimand)


def _place(view: str, length: int, arm: Arm) -> dict[str, Any]:
    """The coordinates that every row of one point of a curve has."""
    return {"view": view, "prefix_tokens": float(length), "tokens": int(arm.tokens.sum())}
