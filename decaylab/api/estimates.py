"""Estimates with intervals that resample the problem, since rollouts of a problem are not
independent.

    >>> from decaylab.api import estimates
    >>> correct = [1, 1, 0, 1, 0, 0, 1, 1]                 # one entry per rollout
    >>> problem = [0, 0, 1, 1, 2, 2, 3, 3]                 # the problem of each
    >>> found = estimates.proportion(correct, problem)
    >>> found.value, found.problems, found.rollouts
    (0.625, 4, 8)
    >>> found.low < found.value < found.high
    True

Of a run, with its problems as integers:

    correct = run.rollouts["grade_last_boxed"] == "correct"
    estimates.proportion(correct, run.rollouts["problem_id"].astype("category").cat.codes)

`proportion` and `paired_difference` are for values in [0, 1], such as grades. `sums_by_problem`,
`means`, `difference` and `interval` are for means over tokens by cell (a position bin, a category).
`retained_advantage` and `half_decay` are ratios over prefix lengths; `winsorised` limits the
influence of single problems. Undefined values are NaN, with the reason in ``note``.
"""

from __future__ import annotations

from decaylab.maths.retention import (
    DecayCurve,
    OpenRollouts,
    half_decay,
    half_decay_length,
    retained_advantage,
)
from decaylab.maths.statistics import (
    Estimate,
    holm,
    influence,
    paired_difference,
    pass_at_k,
    proportion,
    sign_flip_p,
    simultaneous_critical,
    smallest_detectable_difference,
)
from decaylab.maths.token_means import (
    CellMeans,
    difference,
    interval,
    means,
    ratio,
    sums_by_problem,
)
from decaylab.maths.winsorised import Winsorised, winsorised

__all__ = [
    "CellMeans",
    "DecayCurve",
    "Estimate",
    "OpenRollouts",
    "Winsorised",
    "difference",
    "half_decay",
    "half_decay_length",
    "holm",
    "influence",
    "interval",
    "means",
    "paired_difference",
    "pass_at_k",
    "proportion",
    "ratio",
    "retained_advantage",
    "sign_flip_p",
    "simultaneous_critical",
    "smallest_detectable_difference",
    "sums_by_problem",
    "winsorised",
]
