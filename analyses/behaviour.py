"""Rollout behaviour: length, stopping, repetition, boxes and correctness of responses.

Plain rollouts in, measurements out; no model, no file. Lengths are in tokens that the policy wrote,
without the end-of-turn token. Rollouts that were cut off make a percentile or mean a lower bound,
which the note states.

Every interval resamples problems. Changes are paired with base over their common problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import statistics as st
from decaylab.maths import token_means
from decaylab.maths.clusters import Floats, Ints, bootstrap_weights, percentile_interval
from decaylab.maths.cumulative import METHOD
from decaylab.maths.token_means import CellMeans
from decaylab.problems import applicable, judges, thoughts
from decaylab.problems.boxes import count_boxes
from decaylab.problems.grading import Verdict
from decaylab.runs import own_tokens
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import BASE, FRACTION, FRESH, MEAN_OVER_ROLLOUTS, TOKENS, change

BOXED_RULES = ("last_boxed", "first_boxed", "anywhere")
PERCENTILES = (10, 50, 90)
MEAN_LENGTH = "response_tokens_mean"
BOXES, SEVERAL_BOXES = "boxes_mean", "several_boxes_share"
MEANS = (
    (MEAN_LENGTH, "written", TOKENS),
    ("repetition_3gram", "repetition", FRACTION),
    (BOXES, "boxes", "boxes"),
)
NATURAL = "natural_stop_share"
GRADES = {"accuracy": Verdict.CORRECT, "no_answer_share": Verdict.NO_ANSWER}
PROGRAMS = {
    "error_share": Verdict.ERROR,
    "timeout_share": Verdict.TIMEOUT,
    "out_of_memory_share": Verdict.OUT_OF_MEMORY,
}
"""How programs end, beside `GRADES`."""
DRAWS = 2000
FILE_RULE = "file"
UNKNOWN = "unknown"
"""Stop reason of a rollout whose file gives none; it is left out of natural-stop shares."""


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the measurement. answer_rules: rules by which the rollouts were graded."""

    answer_rules: tuple[str, ...]

    @property
    def boxed(self) -> bool:
        """Whether an answer can stand in a box."""
        return bool(set(BOXED_RULES).intersection(self.answer_rules))


def measure(rollouts: Mapping[str, pd.DataFrame], settings: Settings) -> pd.DataFrame:
    """The behaviour of each checkpoint, and its paired change from ``base``.

    Args:
        rollouts: each checkpoint's own plain rollouts, as rows of the rollouts table.
        settings: answer rules, level and seed.
    """
    return to_frame(_rows(rollouts, settings))


def _rows(rollouts: Mapping[str, pd.DataFrame], settings: Settings) -> Iterator[Measurement]:
    codes, tables = estimated.problem_codes(rollouts), [*rollouts.values()]
    shown = list(settings.answer_rules)
    for table in tables:
        shown = [rule for rule in shown if applicable.is_shown(table, rule)]
    checkpoints: dict[str, _Checkpoint] = {}
    for name, table in rollouts.items():
        left_out = {rule: applicable.note(table, rule) for rule in shown}
        if "file_grade" in table and table["file_grade"].notna().any():
            left_out[FILE_RULE] = "graded by the file that the rollouts came from"
        per_rollout = _per_rollout(table, codes, [*left_out])
        checkpoints[name] = _Checkpoint(name, per_rollout, left_out, settings)
    for name, checkpoint in checkpoints.items():
        yield from checkpoint.lengths()
        yield from checkpoint.means()
        yield from checkpoint.shares()
        if name != BASE and BASE in checkpoints:
            yield from checkpoint.changes(checkpoints[BASE].rollouts)


def _per_rollout(
    rollouts: pd.DataFrame, codes: Mapping[str, int], answer_rules: Sequence[str]
) -> pd.DataFrame:
    """One row per rollout with a column per count; grades have one per rule, ``accuracy
    last_boxed``.

    NaN if the rule does not apply to the gold answer.
    """
    written = own_tokens.count(rollouts)
    masks: Sequence[Any] = [None] * len(rollouts)
    if own_tokens.MASK in rollouts:
        masks = rollouts[own_tokens.MASK].tolist()
    repetition = []
    for ids, mask, length in zip(rollouts["response_ids"], masks, written, strict=True):
        repetition.append(repetition_3gram(own_tokens.ids(ids, mask)[:length]))
    answers = thoughts.answers(rollouts["text"].tolist(), rollouts["answer_start"].tolist())
    boxes = np.array([count_boxes(answer) for answer in answers], dtype=np.float64)
    stops = rollouts["stop_reason"]
    columns = {
        "code": rollouts["problem_id"].map(codes).to_numpy(dtype=np.int64),
        "written": written,
        NATURAL: np.where(stops == UNKNOWN, np.nan, stops == "eos"),
        "repetition": np.array(repetition, dtype=np.float64),
        "boxes": boxes,
        SEVERAL_BOXES: (boxes > 1).astype(np.float64),
        "open_thought_share": rollouts["answer_start"].isna().to_numpy(dtype=np.float64),
    }
    for rule in answer_rules:
        if rule == FILE_RULE:
            grades = rollouts["file_grade"].fillna(Verdict.NOT_APPLICABLE).to_numpy()
        else:
            grades = rollouts[f"grade_{rule}"].to_numpy()
        applies = grades != Verdict.NOT_APPLICABLE
        for what, verdict in _verdicts(rule).items():
            columns[f"{what} {rule}"] = np.where(applies, grades == verdict, np.nan)
    return pd.DataFrame(columns)


def _verdicts(rule: str) -> dict[str, Verdict]:
    """The shares of verdicts under a rule."""
    return {**GRADES, **PROGRAMS} if rule in judges.PROGRAMS else GRADES


def repetition_3gram(token_ids: Sequence[int]) -> float:
    """1 - distinct / all 3-grams of token ids: 0 if none repeats; NaN under 3 tokens."""
    ids = np.asarray(token_ids).tolist()
    if len(ids) < 3:
        return math.nan
    return 1 - len(set(zip(ids, ids[1:], ids[2:], strict=False))) / (len(ids) - 2)


def percentiles(ordered: Floats, weights: Floats) -> Floats:
    """The weighted `PERCENTILES` of lengths, [percentiles].

    ordered: lengths, ascending. weights: of each length; equal weights give numpy's
    ``inverted_cdf``.
    """
    reached = np.cumsum(weights)
    return np.asarray(ordered[np.searchsorted(reached, np.array(PERCENTILES) / 100 * reached[-1])])


def _bootstrapped(ordered: Floats, problems: Ints, seed: int) -> Floats:
    """`percentiles` in every bootstrap replicate, [percentiles, draws]; no draws with fewer than 2
    problems."""
    # only problems with a rollout are drawn
    codes, place = np.unique(problems, return_inverse=True)
    if codes.size < 2:
        return np.zeros((len(PERCENTILES), 0))
    weights = bootstrap_weights(codes.size, draws=DRAWS, seed=seed)
    return np.stack([percentiles(ordered, drawn[place]) for drawn in weights], axis=1)


class _Checkpoint:
    """The behaviour of one checkpoint.

    rollouts: rows of `_per_rollout`. left_out: by answer rule, the note on problems to which it
    does not apply.
    """

    def __init__(
        self,
        checkpoint: str,
        rollouts: pd.DataFrame,
        left_out: Mapping[str, str],
        settings: Settings,
    ) -> None:
        self.checkpoint, self.rollouts = checkpoint, rollouts
        self.left_out, self.settings = left_out, settings
        boxes = [SEVERAL_BOXES] if settings.boxed else []
        self.shares_of = [NATURAL, *boxes, "open_thought_share"]
        self.shares_of += [f"{what} {rule}" for rule in left_out for what in _verdicts(rule)]

    def row(
        self,
        what: str,
        unit: str,
        estimate: st.Estimate,
        rollouts: pd.DataFrame,
        *notes: str,
        **more: Any,
    ) -> Measurement:
        columns = {
            "view": FRESH,
            "checkpoint": self.checkpoint,
            "estimand": MEAN_OVER_ROLLOUTS,
            "problems": rollouts["code"].nunique(),
            "rollouts": len(rollouts),
            "tokens": int(rollouts["written"].sum()),
        }
        return estimated.row(self.settings, what, unit, estimate, *notes, **{**columns, **more})

    def lengths(self) -> Iterator[Measurement]:
        """Percentiles of the response length, with a percentile bootstrap over problems."""
        # sorted once, since every replicate only changes the weights
        rollouts = self.rollouts.sort_values("written", kind="stable")
        written = rollouts["written"].to_numpy(np.float64)
        cut_off = (rollouts[NATURAL] == 0).to_numpy()
        values = endless = np.full(len(PERCENTILES), np.nan)
        if len(rollouts):
            alike = np.ones(len(rollouts))
            values = percentiles(written, alike)
            # the percentile if all rollouts that were cut off were endless
            endless = percentiles(np.sort(np.where(cut_off, np.inf, written)), alike)
        replicates = _bootstrapped(written, rollouts["code"].to_numpy(), self.settings.seed)
        bound = (
            f"at least: {cut_off.sum()} of {len(rollouts)} rollouts were cut off, some of them at "
            "or below this length"
        )
        for place, percent in enumerate(PERCENTILES):
            low, high = percentile_interval(replicates[place], self.settings.level)
            note = _lacking(rollouts)
            value = float(values[place])
            estimate = st.Estimate(value, low, high, math.nan, METHOD, 0, 0, note)
            yield self.row(
                f"response_tokens_p{percent}",
                TOKENS,
                estimate,
                rollouts,
                bound if endless[place] > value else "",
                estimand=f"least length that {percent} % of the rollouts do not exceed",
            )

    def means(self) -> Iterator[Measurement]:
        """Means over rollouts of quantities that are not shares."""
        cut_off = int((self.rollouts[NATURAL] == 0).sum())
        for what, column, unit in MEANS:
            if what == BOXES and not self.settings.boxed:
                continue
            rollouts = self.rollouts[self.rollouts[column].notna()]
            total = len(self.rollouts)
            short = total - len(rollouts)
            note = estimated.left_out(short, total, "rollouts have fewer than 3 tokens")
            if what == MEAN_LENGTH and cut_off:
                note = f"at least: {cut_off} of {len(rollouts)} rollouts were cut off"
            yield self.mean(what, unit, _mean(rollouts[column], rollouts["code"]), rollouts, note)

    def mean(
        self, what: str, unit: str, mean: CellMeans, rollouts: pd.DataFrame, note: str
    ) -> Measurement:
        """A mean with its interval; no interval if all problems agree, since an error of 0 would
        not hold for other problems."""
        (estimate,) = estimated.of_cells(mean, level=self.settings.level)
        estimate = replace(estimate, note=_lacking(rollouts))
        if estimate.standard_error < 1e-12:
            estimate = replace(estimate, low=math.nan, high=math.nan, note=st.ALIKE)
        if unit == FRACTION:
            estimate = estimated.within(estimate, -math.inf, 1.0)
        return self.row(what, unit, estimate, rollouts, note)

    def shares(self) -> Iterator[Measurement]:
        """Shares of rollouts; shares of grades under every answer rule."""
        for name in self.shares_of:
            rollouts = self.rollouts[self.rollouts[name].notna()]
            share = st.proportion(rollouts[name], rollouts["code"], level=self.settings.level)
            what, _, rule = name.partition(" ")
            yield self.share(what, rule, share, rollouts)

    def share(
        self, what: str, rule: str, estimate: st.Estimate, rollouts: pd.DataFrame, *notes: str
    ) -> Measurement:
        left_out = self.left_out.get(rule, "")
        columns = {"condition": rule, "answer_rule": rule}
        return self.row(what, FRACTION, estimate, rollouts, *notes, left_out, **columns)

    def changes(self, base: pd.DataFrame) -> Iterator[Measurement]:
        """Each rollout minus the mean of base on its problem, over the common problems."""
        both = self.rollouts[self.rollouts["code"].isin(base["code"])]
        by_problem = base.groupby("code")[["written", *self.shares_of]].mean()
        alone = by_problem.reindex(both["code"]).set_axis(both.index)
        asked = self.rollouts["code"].nunique()
        lost = asked - both["code"].nunique()
        note = estimated.left_out(lost, asked, "problems have no rollouts of base")
        for name in self.shares_of:
            known = both[both[name].notna()]
            # an answer rule may apply to none of base's rollouts on a problem
            judged = known[alone[name].loc[known.index].notna()]
            before = alone[name].loc[judged.index]
            difference = st.paired_difference(
                judged[name], before, judged["code"], level=self.settings.level
            )
            what, _, rule = name.partition(" ")
            unknown = known["code"].nunique() - judged["code"].nunique()
            unjudged = f"{unknown} of {asked} problems have no value for base, left out"
            notes = (note, unjudged if unknown else "")
            yield self.share(change(what), rule, difference, judged, *notes)
        if min(both[NATURAL].min(), base[NATURAL].min()) == 0:
            note = estimated.joined(note, "rollouts were cut off: their lengths are lower bounds")
        longer = token_means.difference(
            _mean(both["written"], both["code"]), _mean(alone["written"], both["code"])
        )
        yield self.mean(change(MEAN_LENGTH), TOKENS, longer, both, note)


def _lacking(rollouts: pd.DataFrame) -> str:
    """Why there is no value or no interval."""
    problems = rollouts["code"].nunique()
    if not problems:
        return "no rollouts"
    return "" if problems > 1 else st.ONE_PROBLEM


def _mean(values: pd.Series[Any], codes: pd.Series[Any]) -> CellMeans:
    """Mean over rollouts, clustered by problem."""
    size = int(codes.max()) + 1 if len(codes) else 1
    sums = np.bincount(codes, values, size).astype(np.float64)
    counts = np.bincount(codes, minlength=size).astype(np.float64)
    return token_means.means(sums[:, None], counts[:, None])
