"""Values along rollouts: how likely a correct answer is from here, for the student and the teacher.

Prefixes with their draws in, measurements out; no model, no file. The value of a prefix to a policy
is the chance that its continuation is correct, estimated from fresh draws. Every interval resamples
problems.

    value, value_advantage       by position, over the rollouts that are unfinished there
    variance_...                 of values at a position, taken apart
    turning_share                segments over which the student's value changes beyond noise
    score_...                    how the teacher's score of a segment goes with the change of value
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import noisy_values, turning_points
from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats
from decaylab.maths.noisy_values import Counts
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.value_prefixes import (
    STUDENT_COUNTS,
    TEACHER_COUNTS,
    Segments,
    Settings,
    segments,
    values,
)
from decaylab.runs.vocabulary import (
    BASE,
    CORRELATION,
    DOWN,
    FRACTION,
    MEAN_OVER_ROLLOUTS,
    NATS,
    OPEN,
    SCORE_CORRELATION,
    SCORE_COVARIANCE,
    SCORE_RANK_CORRELATION,
    SHARE_OF_LENGTH,
    SQUARED,
    STUDENT,
    STUDENT_PREFIX,
    TEACHER,
    TURNING_SHARE,
    UP,
    VALUE,
    VALUE_ADVANTAGE,
    VARIANCES,
)

NAMES = {STUDENT: STUDENT_COUNTS, TEACHER: TEACHER_COUNTS}
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Ends of the bins of a position as a share of the final length."""
LOWERED = "lowered by the sampling noise of values"


def measure(found: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Values, their variance, turning points and what goes with their change.

    found: rows of `decaylab.runs.value_prefixes.prefixes`.
    """
    measured = _Values(found, segments(found, settings.grid), settings)
    rows = [*measured.by_position(), *measured.turning_points(), *measured.scores()]
    return to_frame([*rows, *measured.by_share_of_length()])


class _Values:
    def __init__(self, found: pd.DataFrame, between: Segments, settings: Settings) -> None:
        self.found, self.between, self.settings = found, between, settings
        self.level, self.seed = settings.level, settings.seed
        self.codes = np.unique(found["problem"])

    def row(
        self, what: str, condition: str, estimate: st.Estimate, unit: str, *notes: str, **more: Any
    ) -> Measurement:
        columns = {
            "condition": condition,
            "checkpoint": BASE,
            "estimand": MEAN_OVER_ROLLOUTS,
            "answer_rule": self.settings.answer_rule,
            **more,
        }
        return estimated.row(self.settings, what, unit, estimate, *notes, **columns)

    # By position

    def by_position(self) -> Iterator[Measurement]:
        """Both values, the teacher's advantage and the parts of the variance at each position."""
        at = {}
        for position in self.settings.grid:
            at[position] = self.found[self.found["position"] == position]
        for condition, name in NAMES.items():
            band = self._critical({k: values(rows, name) for k, rows in at.items()}, at)
            for position, rows in at.items():
                yield self._value(condition, name, rows, position, band)
        yield from self._advantage(at)
        for condition, name in NAMES.items():
            for position, rows in at.items():
                yield from self._variances(condition, name, rows, position)

    def _value(
        self, condition: str, name: str, rows: pd.DataFrame, position: int, band: float
    ) -> Measurement:
        right, drawn = rows[f"{name}_right"], rows[f"{name}_draws"]
        value = mean_value(right, drawn, rows["problem"], self.level)
        wide = mean_value(right, drawn, rows["problem"], self.level, band)
        ends = {"band_low": wide.low, "band_high": wide.high}
        return self.row(VALUE, condition, value, FRACTION, **ends, **_place(rows, position))

    def _advantage(self, at: dict[int, pd.DataFrame]) -> Iterator[Measurement]:
        """Teacher's value less the student's at the same prefixes, with p-values corrected over
        the positions."""
        both = {
            k: (values(rows, TEACHER_COUNTS), values(rows, STUDENT_COUNTS))
            for k, rows in at.items()
        }
        change = {k: teacher - student for k, (teacher, student) in both.items()}
        band = self._critical(change, at)
        p_values = [self._p_value(change[k], rows) for k, rows in at.items()]
        for p_value, p_holm, (k, rows) in zip(
            p_values, st.holm(p_values).tolist(), at.items(), strict=True
        ):
            problems = rows["problem"].to_numpy()
            difference = st.paired_difference(*both[k], problems, level=self.level)
            wide = st.paired_difference(*both[k], problems, level=self.level, critical=band)
            place = {**_place(rows, k), "band_low": wide.low, "band_high": wide.high}
            place |= {"p_value": p_value, "p_value_holm": p_holm}
            yield self.row(VALUE_ADVANTAGE, STUDENT_PREFIX, difference, FRACTION, **place)

    def _p_value(self, change: Floats, rows: pd.DataFrame) -> float:
        if not len(rows):
            return float("nan")
        return st.sign_flip_p(change, rows["problem"].to_numpy(), seed=self.seed)

    def _critical(self, columns: dict[int, Floats], at: dict[int, pd.DataFrame]) -> float:
        """Multiplier of the band over all positions of one curve."""
        influences = []
        for position, rows in at.items():
            if len(rows):
                problems = rows["problem"].to_numpy()
                influences.append(st.influence(columns[position], problems, self.codes))
        if not influences:
            return float("nan")
        residuals = np.stack(influences, axis=1)
        return st.simultaneous_critical(residuals, level=self.level, seed=self.seed)

    def _variances(
        self, condition: str, name: str, rows: pd.DataFrame, position: int
    ) -> Iterator[Measurement]:
        counts = Counts.of(rows[f"{name}_right"], rows[f"{name}_draws"])
        parts = noisy_values.variance_parts(counts, rows["problem"])
        note = "" if len(rows) else "no rollout is unfinished there"
        note = note or "no two prefixes of one problem are unfinished there"
        for what, part in zip(VARIANCES, (parts.sampling, parts.prefixes, parts.problems)):
            number = _bare(part, rows, note if np.isnan(part) else "")
            yield self.row(what, condition, number, SQUARED, **_place(rows, position))

    def by_share_of_length(self) -> Iterator[Measurement]:
        """Both values by position as a share of the final length, which looks into the future: to
        be drawn, and no rule for stopping."""
        share = (self.found["position"] / self.found["written"].clip(lower=1)).to_numpy()
        bins = np.clip(np.searchsorted(SHARES, share, side="right") - 1, 0, len(SHARES) - 2)
        for condition, name in NAMES.items():
            for place, span in enumerate(zip(SHARES, SHARES[1:])):
                rows = self.found[bins == place]
                right, drawn = rows[f"{name}_right"], rows[f"{name}_draws"]
                value = mean_value(right, drawn, rows["problem"], self.level)
                at = {"view": SHARE_OF_LENGTH, "rollouts": len(rows)}
                at |= {"position_low": span[0], "position_high": span[1]}
                yield self.row(VALUE, condition, value, FRACTION, **at)

    # Between positions

    def turning_points(self) -> Iterator[Measurement]:
        """Share of the segments that are turning points, up and down, by position and over all."""
        tested = self.between.only(~self.between.ended)
        start, end = tested.start(STUDENT_COUNTS), tested.end(STUDENT_COUNTS)
        turns = turning_points.turning_points(
            start.correct, start.draws, end.correct, end.draws, rate=self.settings.rate
        )
        problems = tested.starts["problem"].to_numpy()
        positions = tested.starts["position"].to_numpy()
        spans = self._spans()[:-1]
        everywhere = (spans[0][0], spans[-1][1])
        note = f"at a false-discovery rate of {self.settings.rate:g} over all segments"
        for category, sign in ((UP, 1), (DOWN, -1)):
            turned = turns.turns & (np.sign(turns.change) == sign)
            for low, high in dict.fromkeys((*spans, everywhere)):
                inside = (positions >= low) & (positions < high)
                share = st.proportion(
                    turned[inside].astype(float), problems[inside], level=self.level
                )
                place = {"position_low": low, "position_high": high, "category": category}
                yield self.row(TURNING_SHARE, STUDENT, share, FRACTION, note, view=OPEN, **place)

    def _spans(self) -> list[tuple[float, float]]:
        """The segments' positions; the last one has no upper end."""
        spans = estimated.spans(self.settings.grid)
        return [(span["position_low"], span["position_high"]) for span in spans]

    def scores(self) -> Iterator[Measurement]:
        """By position: how the summed log teacher / student of a segment goes with the change of
        the student's value over it."""
        scored = np.isfinite(self.between.starts["score"].to_numpy())
        for low, high in self._spans():
            here = (self.between.starts["position"] == low).to_numpy()
            part = self.between.only(here & scored)
            found = noisy_values.change_and_signal(
                part.starts["score"],
                part.start(STUDENT_COUNTS),
                part.end(STUDENT_COUNTS),
                part.starts["problem"],
                level=self.level,
            )
            lost = int((here & ~scored).sum())
            note = estimated.left_out(lost, int(here.sum()), "segments are not scored to their end")
            place = {"view": OPEN, "position_low": low, "position_high": high}
            yield self.row(SCORE_COVARIANCE, STUDENT, found.covariance, NATS, note, **place)
            yield self.row(SCORE_CORRELATION, STUDENT, found.pearson, CORRELATION, note, **place)
            yield self.row(
                SCORE_RANK_CORRELATION, STUDENT, found.spearman, CORRELATION, LOWERED, note, **place
            )


def mean_value(
    right: pd.Series, drawn: pd.Series, problems: pd.Series, level: float, band: float | None = None
) -> st.Estimate:
    """Mean over prefixes of the share of right continuations, a proportion over single draws.

    Every prefix has the same number of draws, so that the mean over draws is that over prefixes.

    band: multiplier of a simultaneous band.
    """
    hits = [right.to_numpy(dtype=np.int64), (drawn - right).to_numpy(dtype=np.int64)]
    outcomes = np.concatenate([np.repeat(1.0, hits[0].sum()), np.repeat(0.0, hits[1].sum())])
    codes = problems.to_numpy()
    of_draws = np.concatenate([np.repeat(codes, number) for number in hits])
    return st.proportion(outcomes, of_draws, level=level, critical=band)


def _bare(value: float, rows: pd.DataFrame, note: str) -> st.Estimate:
    """A number without an interval."""
    problems = int(rows["problem"].nunique())
    return st.Estimate(value, *st.UNDEFINED[:3], "", problems, len(rows), note)


def _place(rows: pd.DataFrame, position: int) -> dict[str, Any]:
    """The coordinates of all numbers at one position."""
    return {"view": OPEN, "prefix_tokens": float(position), "rollouts": len(rows)}
