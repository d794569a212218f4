"""Token truth: how much probability student and teacher give to correct tokens, where they decide.

The places table in (`decaylab.tokens.truth_places`), measurements out; no model, no file.

    truth         mass on the tokens with which the step can still become true to the problem
    consistency   mass on the tokens with which the equation can still become its own result, on
                  whatever numbers the student wrote
    repair        chance that a repair opens behind a step

of student and teacher, and as a gain: the teacher's minus the student's, which is what one token
by the teacher in place of the student's own is worth. ``..._auroc``: of two tokens drawn from the
student at the same place, one correct and one wrong, how often the correct one has the larger
log t/s. Every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from decaylab.maths import statistics as st
from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats, Ints
from decaylab.runs import rows
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import (
    ALREADY_WRONG,
    BEHIND_CORRECT,
    BEHIND_WRONG,
    CONSISTENCY,
    CORRECT_SO_FAR,
    FRACTION,
    FRESH,
    REPAIR,
    REPAIRED,
    TRUTH,
    auroc,
    gain,
    of_policy,
)

COLUMNS = {TRUTH: "true", CONSISTENCY: "consistent", REPAIR: "true"}
"""Quantity -> the end of the names of its columns in the places table."""
AT = {
    TRUTH: (CORRECT_SO_FAR, REPAIRED),
    CONSISTENCY: (CORRECT_SO_FAR, REPAIRED, ALREADY_WRONG),
    REPAIR: (BEHIND_WRONG, BEHIND_CORRECT),
}
"""Quantity -> the states it is measured in. Behind an error no token of an equation is true."""
RESULT_KIND, REPAIR_KIND = "result", "repair"
ESTIMAND = "mean over places"
AUROC_ESTIMAND = "pairs of tokens drawn from the student at the same place"
WHOLE = {"position_low": 0.0, "position_high": math.inf}
NO_PLACES = "no such place in the rollouts"
NO_PAIRS = "the student gives all its probability to one side: no pair of tokens"


@dataclass(frozen=True)
class Settings(rows.Settings):
    """Settings of the measurement. bins: lower ends of position bins, from 0."""

    bins: tuple[int, ...] = (0,)


def measure(places: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Masses, gains and AUROCs of every checkpoint by state, over all positions and by bin.

    p-values are corrected over all gains of one checkpoint at the same positions; those of
    consistency before an error, which is truth, are not counted again and have none corrected.
    """
    found: list[Measurement] = []
    for checkpoint, table in places.groupby("checkpoint", sort=False):
        found += _of_checkpoint(str(checkpoint), table, settings)
    family = ("checkpoint", "position_low", "position_high")
    return to_frame(rows.with_holm(found, family, _is_of_its_own))


def _is_of_its_own(row: Measurement) -> bool:
    """Whether a test is not a repetition: before an error consistency is truth, tested once."""
    return row.what != gain(CONSISTENCY) or row.condition == ALREADY_WRONG


def _of_checkpoint(
    checkpoint: str, table: pd.DataFrame, settings: Settings
) -> Iterator[Measurement]:
    codes = {name: code for code, name in enumerate(sorted(table["problem_id"].unique()))}
    coded = table.assign(code=table["problem_id"].map(codes).astype(np.int64))
    for what, states in AT.items():
        kind = REPAIR_KIND if what == REPAIR else RESULT_KIND
        for state in states:
            there = coded[(coded["kind"] == kind) & (coded["state"] == state)]
            for span in (WHOLE, *_bins(there, settings)):
                at = {"condition": state, "view": FRESH, "checkpoint": checkpoint, **span}
                yield from _cell(what, there, at, settings)


def _bins(places: pd.DataFrame, settings: Settings) -> list[dict[str, float]]:
    """The position bins that hold some of the places, if there are several bins."""
    spans = rows.spans(settings.bins) if len(settings.bins) > 1 else []
    reached = np.searchsorted(settings.bins, places["position"], side="right") - 1
    return [span for number, span in enumerate(spans) if number in reached]


def _cell(
    what: str, places: pd.DataFrame, at: dict[str, Any], settings: Settings
) -> Iterator[Measurement]:
    """The numbers of one quantity in one state, over some positions."""
    position = places["position"]
    inside = places[(position >= at["position_low"]) & (position < at["position_high"])]
    ends = COLUMNS[what]
    known = inside[inside[f"student_{ends}"].notna()]
    at = at | {"rollouts": known["rollout_id"].nunique(), "tokens": len(known)}
    lost = rows.left_out(len(inside) - len(known), len(inside), "places have no own result")
    student, teacher = known[f"student_{ends}"], known[f"teacher_{ends}"]
    for who, values in (("student", student), ("teacher", teacher)):
        estimate = _noted(st.proportion(_clipped(values), known["code"], level=settings.level))
        name = of_policy(what, who)
        yield rows.row(settings, name, FRACTION, estimate, lost, estimand=ESTIMAND, **at)
    yield _gain(what, known, at, settings)
    if what != REPAIR:
        yield _auroc(what, known, at, settings)


def _gain(what: str, known: pd.DataFrame, at: dict[str, Any], settings: Settings) -> Measurement:
    """The expected gain of one token: the teacher's mass minus the student's."""
    differences = known[f"teacher_{COLUMNS[what]}"] - known[f"student_{COLUMNS[what]}"]
    codes, p_value = known["code"].to_numpy(), math.nan
    if len(np.unique(codes)) > 1:
        p_value = st.sign_flip_p(differences, codes, seed=settings.seed)
    estimate = mean_gain(differences.to_numpy(), codes, level=settings.level)
    more = {"estimand": ESTIMAND, "p_value": p_value}
    return rows.row(settings, gain(what), FRACTION, estimate, **more, **at)


def mean_gain(differences: Floats, problems: Ints, *, level: float) -> st.Estimate:
    """The mean over places of differences of probabilities, clustered by problem.

    Probabilities differ in every problem, so a plain t interval over problems holds; that of
    `statistics.paired_difference` allows for outcomes that rarely differ, and would be too wide.
    """
    distinct, codes = np.unique(problems, return_inverse=True)
    cells, count = np.zeros(len(differences), dtype=np.int64), len(distinct)
    sums = tm.sums_by_problem(differences, codes, cells, count, 1)
    means = tm.means(sums, tm.sums_by_problem(None, codes, cells, count, 1), signed=True)
    (estimate,) = rows.of_cells(means, level=level, empty=NO_PLACES)
    return rows.within(estimate, -1.0, 1.0)


def pair_share(pairs: Floats, concordant: Floats, problems: Ints, *, level: float) -> st.Estimate:
    """Concordant pairs of tokens as a share of all pairs, each weighted by its probability."""
    some = pairs > 0
    share = _clipped(concordant[some] / pairs[some])
    return st.proportion(share, problems[some], weights=pairs[some], level=level)


def _auroc(what: str, known: pd.DataFrame, at: dict[str, Any], settings: Settings) -> Measurement:
    """How often the correct of two tokens has the larger log t/s."""
    columns = known[[f"{name}_{COLUMNS[what]}" for name in ("pairs", "concordant")]]
    pairs, concordant = columns.to_numpy(dtype=np.float64).T
    estimate = pair_share(pairs, concordant, known["code"].to_numpy(), level=settings.level)
    if not estimate.problems and len(known):
        estimate = replace(estimate, note=NO_PAIRS)
    return rows.row(
        settings, auroc(what), FRACTION, _noted(estimate), estimand=AUROC_ESTIMAND, **at
    )


def _noted(estimate: st.Estimate) -> st.Estimate:
    """The estimate, which says so where there is no place."""
    nothing = estimate.problems == 0 and estimate.note != NO_PAIRS
    return replace(estimate, note=NO_PLACES) if nothing else estimate


def _clipped(values: ArrayLike) -> Floats:
    """Masses in [0, 1], which sums in float32 leave by rounding."""
    return np.clip(np.asarray(values, dtype=np.float64), 0.0, 1.0)
