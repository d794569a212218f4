"""The arms of a sweep and their numbers, looked up by name in the rows of its measurements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from decaylab.claims.verdicts import Number, fewest, measured
from decaylab.maths.seeds import OverSeeds, apart_by, over_seeds, ratios_over_seeds
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement

# The estimands of decaylab.analyses.sweep.
ONE_RUN, THESE, SEEDS = (
    "one training run",
    "mean over rollouts, over these seeds",
    "mean over training seeds",
)
HALF = 0.5
TOTAL, FULL = "total", "full"
COSTS = ("tokens_ratio", "seconds_ratio", "seconds_per_step")


class Arms(NamedTuple):
    """The arms of a sweep. what: avg_at_k; rule: the answer rule that is reported; view: the
    checkpoint rule.

    rows: the numbers that claims are on. selectors: of each arm. lengths: tokens at which its
    rollouts stop. trained: steps, of the seed that was trained for the fewest.
    """

    rows: Sequence[Measurement]
    what: str
    rule: str
    view: str
    selectors: Mapping[str, str]
    lengths: Mapping[str, float]
    trained: Mapping[str, float]

    @classmethod
    def of(cls, run: FoundRun) -> Arms | None:
        """None where the run compares no accuracies. Of two checkpoint rules the last checkpoint
        counts."""
        frame = run.measurements
        rows = frame[frame["what"].str.fullmatch(r"avg_at_\d+") & (frame["selector"] != "")]
        if not len(rows):
            return None
        view = "last" if (rows["view"] == "last").any() else str(rows["view"].iloc[0])
        arms = rows.drop_duplicates("checkpoint")
        selectors, lengths = (
            dict(zip(arms["checkpoint"], arms[name])) for name in ("selector", "rollout_length")
        )
        what, rule = str(rows["what"].iloc[0]), str(rows["condition"].iloc[0])
        own = (
            frame["what"].str.startswith(what)
            & (frame["condition"] == rule)
            & (frame["view"] == view)
        )
        kept = measured(frame[own | frame["what"].isin(COSTS)])
        by_seed = frame.groupby(["checkpoint", "training_seed"], dropna=False)["step"].max()
        trained = {
            str(arm): float(step) for arm, step in by_seed.groupby("checkpoint").min().items()
        }
        return cls(kept, what, rule, view, selectors, lengths, trained)

    def pick(self, what: str, **columns: object) -> list[Measurement]:
        """The rows of one quantity whose columns have these values."""
        return [
            row
            for row in self.rows
            if row.what == what
            and all(getattr(row, name) == value for name, value in columns.items())
        ]

    def named(self, *selectors: str) -> list[str]:
        """The arms of these selectors, by rollout length."""
        found = [arm for arm, selector in self.selectors.items() if selector in selectors]
        return sorted(found, key=lambda arm: self.lengths[arm])

    def number(self, arm: str, ending: str = "_minus_full") -> Number | None:
        """Its accuracy, or a paired difference of it."""
        found = self.pick(self.what + ending, checkpoint=arm)
        by = {
            name: [row for row in found if row.estimand == name] for name in (ONE_RUN, THESE, SEEDS)
        }
        if not by[THESE]:
            return None
        singly = [row.value for row in by[ONE_RUN]]
        mean = over_seeds(singly, apart=apart_by([row.standard_error for row in by[ONE_RUN]]))
        over = held(by[SEEDS][0], mean) if by[SEEDS] else None
        return Number((by[THESE][0],), over, tuple(singly), self.steps(arm))

    def less(self, arm: str, other: str, ending: str) -> Number | None:
        """An arm's number less that of another, by what both differ from; over the seeds that both
        have.

        Over problems it is no paired difference: the interval holds the difference wherever both
        intervals hold theirs, and is at least as wide as a paired one.
        """
        mine, theirs = self.number(arm, ending), self.number(other, ending)
        if mine is None or theirs is None:
            return None
        (first,), (second,) = mine.over_problems, theirs.over_problems
        apart = replace(
            first,
            what=f"{first.what}_minus_{other}",
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
        by_seed = self._by_seed(arm, ending)
        errors = [row.standard_error for row in by_seed.values()]
        pairs = {
            seed: row.value for seed, row in self._by_seed(other, ending).items() if seed in by_seed
        }
        values = [by_seed[seed].value - value for seed, value in pairs.items()]
        mean = over_seeds(values, apart=apart_by(errors))
        over = held(replace(apart, estimand=SEEDS, method=mean.method), mean)
        return Number((apart,), over, tuple(values), fewest([mine.steps, theirs.steps]))

    def _by_seed(self, arm: str, ending: str) -> dict[float, Measurement]:
        return {
            row.training_seed: row
            for row in self.pick(self.what + ending, checkpoint=arm, estimand=ONE_RUN)
        }

    def steps(self, arm: str) -> float:
        """How many steps it was trained for; NaN where that was not recorded."""
        return self.trained[arm]

    def seconds(self, arm: str) -> Number | None:
        """Seconds of a step over those of full rollouts of the same seed."""
        ratio = next(iter(self.pick("seconds_ratio", checkpoint=arm, condition=TOTAL)), None)
        mine, full = (
            {
                row.training_seed: row.value
                for row in self.pick(
                    "seconds_per_step", checkpoint=name, condition=TOTAL, estimand=ONE_RUN
                )
            }
            for name in (arm, FULL)
        )
        both = [seed for seed in mine if seed in full]
        first, second = ([one[seed] for seed in both] for one in (mine, full))
        if ratio is None or not both or not min(*first, *second) > 0:
            return None
        return Number(
            (),
            held(ratio, ratios_over_seeds(first, second)) if len(both) > 1 else ratio,
            tuple(a / b for a, b in zip(first, second)),
            self.steps(arm),
        )

    def numbers(self, arms: Sequence[str], ending: str = "_minus_full") -> dict[str, Number]:
        """Of the arms that have one."""
        found = {arm: self.number(arm, ending) for arm in arms}
        return {arm: number for arm, number in found.items() if number is not None}

    def early(self) -> list[str]:
        """The prefix arms that sample half of the tokens of full rollouts or fewer."""
        shares = {arm: self.tokens(arm) for arm in self.named("prefix")}
        return [arm for arm, row in shares.items() if row is not None and row.value <= HALF]

    def tokens(self, arm: str) -> Measurement | None:
        """Tokens that it samples over those of full rollouts."""
        return next(iter(self.pick("tokens_ratio", checkpoint=arm)), None)


def held(row: Measurement, mean: OverSeeds) -> Measurement:
    """The row with the interval and the note of a mean over seeds."""
    note = "; ".join(dict.fromkeys(filter(None, (mean.note, row.note))))
    return replace(
        row,
        value=mean.value,
        low=mean.low,
        high=mean.high,
        standard_error=mean.standard_error,
        note=note,
    )
