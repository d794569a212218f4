"""The arms of a sweep and their numbers, looked up by name in the rows of its measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from decaylab.found_runs import FoundRun
from decaylab.measurements import Measurement
from decaylab.verdicts import Number, pick

# The estimands of decaylab.analyses.sweep.
ONE_RUN, THESE, SEEDS = "one training run", "mean over rollouts, over these seeds", "mean over training seeds"
HALF = 0.5


class Arms(NamedTuple):
    """The arms of a sweep. what: avg_at_k; rule: the answer rule that is reported; view: the checkpoint rule.

    selectors: of each arm. lengths: tokens at which its rollouts stop.
    """

    frame: pd.DataFrame
    what: str
    rule: str
    view: str
    selectors: Mapping[str, str]
    lengths: Mapping[str, float]

    @classmethod
    def of(cls, run: FoundRun) -> Arms | None:
        """None where the run compares no accuracies. Of two checkpoint rules the last checkpoint counts."""
        frame = run.measurements
        rows = frame[frame["what"].str.fullmatch(r"avg_at_\d+") & (frame["selector"] != "")]
        if not len(rows):
            return None
        view = "last" if (rows["view"] == "last").any() else str(rows["view"].iloc[0])
        arms = rows.drop_duplicates("checkpoint")
        selectors, lengths = (dict(zip(arms["checkpoint"], arms[name])) for name in ("selector", "rollout_length"))
        return cls(frame, str(rows["what"].iloc[0]), str(rows["condition"].iloc[0]), view, selectors, lengths)

    def named(self, *selectors: str) -> list[str]:
        """The arms of these selectors, by rollout length."""
        found = [arm for arm, selector in self.selectors.items() if selector in selectors]
        return sorted(found, key=lambda arm: self.lengths[arm])

    def number(self, arm: str, ending: str = "_minus_full") -> Number | None:
        """Its accuracy, or a paired difference of it."""
        found = pick(self.frame, self.what + ending, checkpoint=arm, condition=self.rule, view=self.view)
        by = {name: [row for row in found if row.estimand == name] for name in (ONE_RUN, THESE, SEEDS)}
        if not by[THESE]:
            return None
        return Number(by[THESE][0], by[SEEDS][0] if by[SEEDS] else None, len(by[ONE_RUN]))

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
        return next(iter(pick(self.frame, "tokens_ratio", checkpoint=arm)), None)
