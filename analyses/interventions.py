"""Interventions: what content and style of a prefix do to what is written behind it.

The rollouts table in, measurements out; no model, no file. Three families, by the first word of a
rollout's condition:

    made/2/wrong/teacher-style    made prefixes: main effects of content (correct minus wrong) and
                                  style (student's minus teacher's), and their interaction (the
                                  effect of content in the student's style minus that in the
                                  teacher's)
    repaired/3/changed            the third step of a student's rollout repaired, beside
                                  repaired/3/as-written, cut at the same place; broken/... likewise
    edit/0/LABEL                  prefixes of the user's own, by label

each continued by student and by teacher (``view``). Effects are on accuracy, and on the reverse KL
of what the student writes behind the prefix. They are paired by problem, or by rollout where a
rollout was changed; every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import statistics as st
from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats, Ints
from decaylab.problems.grading import Verdict
from decaylab.runs import rows
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import (
    ACCURACY,
    AS_WRITTEN,
    BROKEN,
    CHANGED,
    CONTENT,
    CORRECT,
    EDIT,
    FRACTION,
    INTERACTION,
    MADE,
    MEAN_KL,
    NATS,
    REPAIRED,
    STUDENT,
    STUDENT_STYLE,
    STYLE,
    TEACHER,
    TEACHER_STYLE,
    WRONG,
    against,
    effect,
)

ARMS = (
    (CORRECT, STUDENT_STYLE),
    (CORRECT, TEACHER_STYLE),
    (WRONG, STUDENT_STYLE),
    (WRONG, TEACHER_STYLE),
)
EFFECTS = {
    CONTENT: ((1, 1, -1, -1), 0.5),
    STYLE: ((1, -1, 1, -1), 0.5),
    INTERACTION: ((1, -1, -1, 1), 1.0),
}
"""Effect -> the sign of each of `ARMS`, and what the signed sum is multiplied by."""
ALL_PLACES = "all steps"
OF_ROLLOUTS = "mean over continuations"
OF_PROBLEMS = "mean over problems, paired"
OF_PAIRS = "mean over rollouts, paired"
NONE_PAIRED = "no problem has both sides"


@dataclass(frozen=True)
class Settings(rows.Settings):
    """Settings of the measurement. reference: the label that others are compared with; "" without
    edits of the user's own."""

    answer_rule: str = ""
    reference: str = ""


@dataclass(frozen=True)
class _Outcome:
    """A quantity of one policy's continuations: column ``value`` of ``table``."""

    what: str
    unit: str
    author: str
    table: pd.DataFrame


def measure(rollouts: pd.DataFrame, kl: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Levels of every arm, and the effects; p-values are corrected over the effects of one family
    on one quantity.

    Args:
        rollouts: rows of the rollouts table.
        kl: rollout_id and mean_reverse_kl in nats per token, of the student's continuations.
        settings: answer rule, reference, seed and level.
    """
    table, found = _parsed(rollouts, settings), list[Measurement]()
    for family in (MADE, REPAIRED, BROKEN, EDIT):
        measured = _of_family(family, _outcomes(table, kl), settings)
        found += rows.with_holm(measured, ("what",))
    return to_frame(found)


def place_name(number: int) -> str:
    """Which step of a rollout was changed, as ``category``."""
    return f"step {number}"


def length_name(count: int) -> str:
    """How many steps a made prefix has, as ``category``."""
    return f"{count} step" + "s" * (count > 1)


def _of_family(
    family: str, outcomes: Iterator[_Outcome], settings: Settings
) -> Iterator[Measurement]:
    for outcome in outcomes:
        table = outcome.table[outcome.table["family"] == family]
        if family == MADE:
            for number in sorted(table["number"].unique()):
                yield from _made(outcome, table[table["number"] == number], int(number), settings)
        elif family == EDIT:
            yield from _edits(outcome, table, settings)
        else:
            yield from _changed(outcome, table, family, settings)


def _parsed(rollouts: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The rollouts with the parts of their condition, a code of their problem and their grade."""
    parts = rollouts["condition"].str.split("/", n=2, expand=True)
    codes = rows.problem_codes({"": rollouts})
    correct = rollouts[f"grade_{settings.answer_rule}"] == Verdict.CORRECT
    return rollouts.assign(
        family=parts[0],
        number=parts[1].astype(np.int64),
        arm=parts[2],
        code=rollouts["problem_id"].map(codes).astype(np.int64),
        value=correct.astype(np.float64),
    )


def _outcomes(table: pd.DataFrame, kl: pd.DataFrame) -> Iterator[_Outcome]:
    for author in (STUDENT, TEACHER):
        yield _Outcome(ACCURACY, FRACTION, author, table[table["author"] == author])
    if len(kl):
        scored = table.merge(kl[["rollout_id", "mean_reverse_kl"]], on="rollout_id")
        value = scored["mean_reverse_kl"]
        own = scored.assign(value=value)[scored["author"] == STUDENT]
        yield _Outcome(MEAN_KL, NATS, STUDENT, own)


# The families


def _made(
    outcome: _Outcome, table: pd.DataFrame, number: int, settings: Settings
) -> Iterator[Measurement]:
    """The four arms of one number of steps, and the effects over problems that have all of them."""
    by_arm = {f"{content}/{style}": f"{content}, {style}" for content, style in ARMS}
    for arm, name in by_arm.items():
        at = {"condition": name, "category": length_name(number)}
        yield _level(outcome, table[table["arm"] == arm], at, settings)
    means = table.groupby(["code", "arm"])["value"].mean().unstack("arm")
    whole = means.reindex(columns=list(by_arm)).dropna()
    counted = table[table["code"].isin(whole.index)]
    for name, (signs, factor) in EFFECTS.items():
        at = {"condition": name, "category": length_name(number)}
        yield _contrast(outcome, whole, signs, factor, counted, at, settings)


def _contrast(
    outcome: _Outcome,
    means: pd.DataFrame,
    signs: Sequence[int],
    factor: float,
    counted: pd.DataFrame,
    at: dict[str, Any],
    settings: Settings,
) -> Measurement:
    """An effect over the problems' means of the arms, [problems, arms]."""
    plus = means.to_numpy()[:, [sign > 0 for sign in signs]].mean(axis=1)
    less = means.to_numpy()[:, [sign < 0 for sign in signs]].mean(axis=1)
    codes = means.index.to_numpy(dtype=np.int64)
    # Both sides are means of two arms, so that the signed sum is twice their difference.
    return _effect(outcome, plus, less, codes, 2 * factor, counted, OF_PROBLEMS, at, settings)


def _changed(
    outcome: _Outcome, table: pd.DataFrame, kind: str, settings: Settings
) -> Iterator[Measurement]:
    """Changed minus as written, at each place and over all of them, paired by rollout."""
    sides = table.pivot_table(
        index=["code", "number", "prefix_rollout_id"], columns="arm", values="value"
    )
    pairs = sides.reindex(columns=[CHANGED, AS_WRITTEN]).dropna().reset_index()
    numbers = [int(number) for number in sorted(pairs["number"].unique())]
    for number in (None, *numbers) if numbers else ():
        there = pairs if number is None else pairs[pairs["number"] == number]
        category = ALL_PLACES if number is None else place_name(number)
        paired = table[table["prefix_rollout_id"].isin(there["prefix_rollout_id"])]
        for arm in (AS_WRITTEN, CHANGED):
            at = {"condition": f"{kind}, {arm}", "category": category}
            yield _level(outcome, paired[paired["arm"] == arm], at, settings)
        first, second = there[CHANGED].to_numpy(), there[AS_WRITTEN].to_numpy()
        at = {"condition": kind, "category": category}
        codes = there["code"].to_numpy()
        yield _effect(outcome, first, second, codes, 1.0, paired, OF_PAIRS, at, settings)


def _edits(outcome: _Outcome, table: pd.DataFrame, settings: Settings) -> Iterator[Measurement]:
    """Each label, and its difference from the reference over the problems that have both."""
    means = table.groupby(["code", "arm"])["value"].mean().unstack("arm")
    for label in table["arm"].unique():
        at = {"condition": EDIT, "category": label}
        yield _level(outcome, table[table["arm"] == label], at, settings)
    for label in table["arm"].unique():
        if label == settings.reference:
            continue
        both = means.reindex(columns=[label, settings.reference]).dropna()
        at = {"condition": against(settings.reference), "category": label}
        first, second = both[label].to_numpy(), both[settings.reference].to_numpy()
        counted = table[table["code"].isin(both.index) & table["arm"].isin(both.columns)]
        codes = both.index.to_numpy(dtype=np.int64)
        yield _effect(outcome, first, second, codes, 1.0, counted, OF_PROBLEMS, at, settings)


# Rows


def _level(
    outcome: _Outcome, table: pd.DataFrame, at: dict[str, Any], settings: Settings
) -> Measurement:
    """The mean over the continuations of an arm."""
    if outcome.unit == FRACTION:
        estimate = st.proportion(table["value"], table["code"], level=settings.level)
    else:
        values, codes = table["value"].to_numpy(), table["code"].to_numpy()
        estimate = _mean(values, codes, settings.level, signed=False)
    place = {**at, "view": outcome.author, "estimand": OF_ROLLOUTS, "rollouts": len(table)}
    place["answer_rule"] = _rule(outcome, settings)
    return rows.row(settings, outcome.what, outcome.unit, estimate, **place)


def _effect(
    outcome: _Outcome,
    first: Floats,
    second: Floats,
    codes: Ints,
    factor: float,
    counted: pd.DataFrame,
    estimand: str,
    at: dict[str, Any],
    settings: Settings,
) -> Measurement:
    """A factor times first minus second, entry by entry."""
    estimate = difference(outcome.unit, first, second, codes, level=settings.level)
    if not estimate.problems:
        estimate = replace(estimate, note=NONE_PAIRED)
    p_value = math.nan
    if estimate.problems > 1:
        p_value = st.sign_flip_p(first - second, codes, seed=settings.seed)
    place = {**at, "view": outcome.author, "estimand": estimand, "rollouts": len(counted)}
    return rows.row(
        settings,
        effect(outcome.what),
        outcome.unit,
        _scaled(estimate, factor),
        answer_rule=_rule(outcome, settings),
        p_value=p_value,
        **place,
    )


def difference(
    unit: str, first: Floats, second: Floats, problems: Ints, *, level: float
) -> st.Estimate:
    """The mean of first minus second, entry by entry, clustered by problem.

    unit: of both; accuracies may differ in few problems, which their interval allows for.
    """
    if unit == FRACTION:
        return st.paired_difference(first, second, problems, level=level)
    return _mean(first - second, problems, level, signed=True)


def _mean(values: Floats, codes: Ints, level: float, *, signed: bool) -> st.Estimate:
    """The mean over entries of any unit, clustered by problem."""
    distinct, place = np.unique(codes, return_inverse=True)
    cells, count = np.zeros(len(values), dtype=np.int64), len(distinct)
    sums = tm.sums_by_problem(values, place, cells, count, 1)
    means = tm.means(sums, tm.sums_by_problem(None, place, cells, count, 1), signed=signed)
    (estimate,) = rows.of_cells(means, level=level)
    return estimate


def _scaled(estimate: st.Estimate, factor: float) -> st.Estimate:
    return replace(
        estimate,
        value=factor * estimate.value,
        low=factor * estimate.low,
        high=factor * estimate.high,
        standard_error=factor * estimate.standard_error,
    )


def _rule(outcome: _Outcome, settings: Settings) -> str:
    return settings.answer_rule if outcome.unit == FRACTION else ""
