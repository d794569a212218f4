"""The arms of a sweep and their numbers, from the rows of its measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from decaylab.claims.verdicts import Number, fewest, held, measured
from decaylab.maths.seeds import apart_by, over_seeds, ratios_over_seeds
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import FULL, LAST, ONE_RUN, OVER_SEEDS, THESE_SEEDS, minus

HALF = 0.5
TOTAL = "total"
COSTS = ("tokens_ratio", "seconds_ratio", "seconds_per_step")


class Arms(NamedTuple):
    """The arms of a sweep.

    what: avg_at_k. at: the reported answer rule and checkpoint rule. rows: the measurements.
    selectors, lengths: selector and rollout length in tokens of each arm. trained: training steps
    of each arm, the fewest of its seeds.
    """

    rows: Sequence[Measurement]
    what: str
    at: Mapping[str, str]
    selectors: Mapping[str, str]
    lengths: Mapping[str, float]
    trained: Mapping[Any, float]

    @classmethod
    def of(cls, run: FoundRun) -> Arms | None:
        """The arms of a run; None if it compares no accuracies. If both checkpoint rules were
        evaluated, the last checkpoint counts."""
        frame = run.measurements
        rows = frame[frame["what"].str.fullmatch(r"avg_at_\d+") & (frame["selector"] != "")]
        if rows.empty:
            return None
        what, rule, view = (str(rows[name].iloc[0]) for name in ("what", "condition", "view"))
        if (rows["view"] == LAST).any():
            view = LAST
        arms = rows.drop_duplicates("checkpoint").set_index("checkpoint")
        ways: Any = arms.to_dict()
        steps = frame.groupby(["checkpoint", "training_seed"], dropna=False)["step"].max()
        reported = (frame["condition"] == rule) & (frame["view"] == view)
        claimed = frame["what"].str.startswith(what) & reported | frame["what"].isin(COSTS)
        return cls(
            measured(frame[claimed]),
            what,
            {"condition": rule, "view": view},
            ways["selector"],
            ways["rollout_length"],
            dict(steps.groupby("checkpoint").min().items()),
        )

    def pick(self, what: str, **at: object) -> list[Measurement]:
        """The rows of one quantity at these coordinates."""
        rows = [row for row in self.rows if row.what == what]
        for name, value in at.items():
            rows = [row for row in rows if getattr(row, name) == value]
        return rows

    def named(self, *selectors: str) -> list[str]:
        """The arms of these selectors, by rollout length."""
        arms = [arm for arm, selector in self.selectors.items() if selector in selectors]
        return sorted(arms, key=lambda arm: self.lengths[arm])

    def number(self, arm: str, what: str) -> Number | None:
        """An arm's accuracy, or a paired difference of it."""
        at = {**self.at, "checkpoint": arm}
        these = self.pick(what, **at, estimand=THESE_SEEDS)
        if not these:
            return None
        single = [*self.by_seed(arm, what).values()]
        values = tuple(row.value for row in single)
        over = next(iter(self.pick(what, **at, estimand=OVER_SEEDS)), None)
        if over is not None and all(map(math.isfinite, values)):
            errors = [row.standard_error for row in single]
            over = held(over, over_seeds(values, level=over.level, apart=apart_by(errors)))
        return Number((these[0],), over, values, self.trained[arm])

    def less(self, arm: str, other: str, what: str) -> Number:
        """One arm's number minus another's, both against one reference, over their common seeds.

        Over problems this is not a paired difference: the interval contains the difference whenever
        both intervals contain their numbers, and is at least as wide as a paired one.
        """
        mine, theirs = self.number(arm, what), self.number(other, what)
        assert mine is not None and theirs is not None
        (first,), (second,) = mine.over_problems, theirs.over_problems
        apart = replace(
            first,
            what=minus(first.what, other),
            value=first.value - second.value,
            low=first.low - second.high,
            high=first.high - second.low,
            standard_error=math.nan,
            p_value=math.nan,
            p_value_holm=math.nan,
            method="ends of two intervals",
            problems=min(first.problems, second.problems),
            level=min(first.level, second.level),
            under_floor=first.under_floor or second.under_floor,
            note="",
        )
        by_seed, others = self.by_seed(arm, what), self.by_seed(other, what)
        errors = [row.standard_error for row in by_seed.values()]
        values = [by_seed[seed].value - others[seed].value for seed in others if seed in by_seed]
        over = None
        if all(map(math.isfinite, values)):
            mean = over_seeds(values, level=apart.level, apart=apart_by(errors))
            over = held(replace(apart, estimand=OVER_SEEDS, method=mean.method), mean)
        return Number((apart,), over, tuple(values), fewest([mine.steps, theirs.steps]))

    def by_seed(self, arm: str, what: str) -> dict[float, Measurement]:
        """The number of each training seed of an arm."""
        rows = self.pick(what, **self.at, checkpoint=arm, estimand=ONE_RUN)
        return {row.training_seed: row for row in rows}

    def seconds(self, arm: str) -> Number | None:
        """Seconds per step relative to full rollouts of the same seed, a ratio."""
        ratio = self.pick("seconds_ratio", checkpoint=arm, condition=TOTAL)
        mine, full = (self._seconds_by_seed(name) for name in (arm, FULL))
        both = [(mine[seed], full[seed]) for seed in mine if seed in full]
        if not ratio or not both or not all(seconds > 0 for pair in both for seconds in pair):
            return None
        over, values = ratio[0], tuple(first / second for first, second in both)
        if len(both) > 1:
            over = held(over, ratios_over_seeds(*zip(*both), level=over.level))
        return Number((), over, values, self.trained[arm])

    def _seconds_by_seed(self, arm: str) -> dict[float, float]:
        at = {"checkpoint": arm, "condition": TOTAL, "estimand": ONE_RUN}
        rows = self.pick("seconds_per_step", **at)
        return {row.training_seed: row.value for row in rows}

    def numbers(self, arms: Sequence[str], what: str = "") -> dict[str, Number]:
        """The numbers of the arms that have one; by default the differences from full rollouts."""
        numbers = {arm: self.number(arm, what or minus(self.what, FULL)) for arm in arms}
        return {arm: number for arm, number in numbers.items() if number is not None}

    def early(self) -> list[str]:
        """The prefix arms that sample at most half of the tokens of full rollouts."""
        shares = {arm: self.tokens(arm) for arm in self.named("prefix")}
        return [arm for arm, row in shares.items() if row is not None and row.value <= HALF]

    def tokens(self, arm: str) -> Measurement | None:
        """Sampled tokens relative to full rollouts, a ratio."""
        return next(iter(self.pick("tokens_ratio", checkpoint=arm)), None)
