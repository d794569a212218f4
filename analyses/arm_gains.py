"""What one teacher token is worth where an arm trains, beside what training gave that arm.

Drawn places in, measurements out; no model, no file. Of every arm of a sweep:

    training_gain       accuracy of the trained student minus that of the untrained one, as the
                        sweep measured it
    one_token_gain      at tokens drawn from those that the arm trains on: accuracy of the student
                        that finishes behind one token of the teacher's, minus that of the student
                        that finishes without it, both afresh
    masked_truth_gain   there, where a step's result begins: the teacher's mass on correct tokens
                        minus the student's
    masked_kl_share     share of the reverse KL that lies on its tokens
    tokens_per_rollout  that it trains on

`rank_correlation` of training_gain with each of the three, over the arms of one budget: arms of
another number of tokens differ in more than where they train. With fewer than `LEAST_ARMS` arms it
has no test, and the points are to be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import permutation_test, spearmanr

from decaylab.maths import statistics as st
from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.rows import Settings
from decaylab.runs.trained_arms import TrainedArm
from decaylab.runs.vocabulary import (
    CORRELATION,
    FRACTION,
    MASKED_KL_SHARE,
    MASKED_TRUTH_GAIN,
    ONE_TOKEN_GAIN,
    PREDICTORS,
    RANK_CORRELATION,
    TOKENS,
    TOKENS_PER_ROLLOUT,
    TRAINING,
    TRAINING_GAIN,
)

__all__ = ["Settings", "measure"]

LEAST_ARMS, FEWEST_POINTS = 10, 3
PERMUTATIONS = 9999
FEW_ARMS = "{} arms: fewer than {}, so there is no test; look at the points"
OVER_ARMS = "over the arms of one budget; their masks overlap, so they are not independent"
NO_PLACES = "no such token"


@dataclass(frozen=True)
class Masked:
    """What an arm trains on, in the student's rollouts.

    draws: one row per drawn token: problem (code), with, without (whether the student is right
    behind the teacher's token and without it; NaN where it could not be handed back). truth: one
    row per token of the arm at which a step's result begins: problem, weight, gain. tokens:
    per rollout. kl_share: of the reverse KL of all tokens.
    """

    draws: pd.DataFrame
    truth: pd.DataFrame | None
    tokens: float
    kl_share: float


def measure(
    arms: Sequence[TrainedArm], masked: Mapping[str, Masked], settings: Settings
) -> pd.DataFrame:
    """The numbers of every arm, and the rank correlations over arms of one budget.

    masked: by the arm's name.
    """
    found: list[Measurement] = []
    for arm in arms:
        found += _of_arm(arm, masked[arm.name], settings)
    return to_frame([*found, *_correlations(arms, found, settings)])


def _of_arm(arm: TrainedArm, masked: Masked, settings: Settings) -> Iterator[Measurement]:
    trained = st.Estimate(arm.gain, arm.low, arm.high, math.nan, f"of {arm.sweep}", 0, 0)
    yield _row(arm, TRAINING_GAIN, FRACTION, trained, settings, estimand=arm.estimand)
    known = masked.draws.dropna(subset=["with", "without"])
    lost = estimated.left_out(
        len(masked.draws) - len(known), len(masked.draws), "tokens could not be handed back"
    )
    gain = st.paired_difference(
        known["with"], known["without"], known["problem"].to_numpy(), level=settings.level
    )
    more = {"tokens": len(known), "estimand": "mean over the tokens of the arm"}
    yield _row(arm, ONE_TOKEN_GAIN, FRACTION, gain, settings, lost, **more)
    if masked.truth is not None:
        truth = _weighted_mean(masked.truth, settings.level)
        more = {"tokens": len(masked.truth), "estimand": "mean over places, by the arm's weights"}
        yield _row(arm, MASKED_TRUTH_GAIN, FRACTION, truth, settings, **more)
    yield _row(arm, MASKED_KL_SHARE, FRACTION, _bare(masked.kl_share), settings)
    yield _row(arm, TOKENS_PER_ROLLOUT, TOKENS, _bare(masked.tokens), settings)


def _row(
    arm: TrainedArm,
    what: str,
    unit: str,
    estimate: st.Estimate,
    settings: Settings,
    *notes: str,
    **more: Any,
) -> Measurement:
    length = math.inf if arm.budget is None else float(arm.budget)
    place = {"checkpoint": arm.name, "selector": arm.selector, "rollout_length": length}
    return estimated.row(
        settings, what, unit, estimate, *notes, condition=TRAINING, **place, **more
    )


def _bare(value: float) -> st.Estimate:
    return st.Estimate(value, *st.UNDEFINED[:3], "", 0, 0)


def _weighted_mean(places: pd.DataFrame, level: float) -> st.Estimate:
    """Mean of the gains by the arm's weights, clustered by problem."""
    distinct, codes = np.unique(places["problem"], return_inverse=True)
    weights = places["weight"].to_numpy(dtype=np.float64)
    count = len(distinct)
    sums = np.bincount(codes, weights * places["gain"], count).astype(np.float64)
    masses = np.bincount(codes, weights, count).astype(np.float64)
    means = tm.means(sums[:, None], masses[:, None], signed=True)
    (estimate,) = estimated.of_cells(means, level=level, empty=NO_PLACES)
    return estimated.within(estimate, -1.0, 1.0)


# Over arms


def _correlations(
    arms: Sequence[TrainedArm], found: Sequence[Measurement], settings: Settings
) -> Iterator[Measurement]:
    values = {(row.checkpoint, row.what): row.value for row in found}
    budgets = sorted({arm.budget for arm in arms if arm.budget is not None})
    for budget in budgets:
        names = [arm.name for arm in arms if arm.budget == budget]
        for predictor in PREDICTORS:
            pairs = [
                (values.get((name, predictor), math.nan), values[name, TRAINING_GAIN])
                for name in names
            ]
            x, y = np.array(pairs, dtype=np.float64).T
            known = np.isfinite(x) & np.isfinite(y)
            if known.sum() >= FEWEST_POINTS:
                yield _correlation(predictor, budget, x[known], y[known], settings)


def _correlation(
    predictor: str, budget: int, x: Floats, y: Floats, settings: Settings
) -> Measurement:
    """Spearman's correlation over arms, tested by permutation if there are enough of them."""
    varies = np.ptp(x) > 0 and np.ptp(y) > 0
    value = float(spearmanr(x, y).statistic) if varies else math.nan
    p_value, note = math.nan, "" if varies else "the same for every arm: undefined"
    if varies and len(x) < LEAST_ARMS:
        note = FEW_ARMS.format(len(x), LEAST_ARMS)
    elif varies:
        tested = permutation_test(
            (x,),
            lambda order: spearmanr(order, y).statistic,
            permutation_type="pairings",
            n_resamples=PERMUTATIONS,
            rng=np.random.default_rng(settings.seed),
        )
        p_value = float(tested.pvalue)
    estimate = st.Estimate(value, *st.UNDEFINED[:3], "Spearman over arms", 0, 0, note)
    return estimated.row(
        settings,
        RANK_CORRELATION,
        CORRELATION,
        estimate,
        condition=predictor,
        rollout_length=float(budget),
        category=f"{len(x)} arms",
        estimand=OVER_ARMS,
        p_value=p_value,
    )
