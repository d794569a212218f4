"""Rollout behaviour: how long a checkpoint's responses are, how they end, repeat and box, and how
often they are right.

Plain rollouts in, measurements out; no model, no file. Lengths are in tokens that the policy wrote,
without the end-of-turn token. A rollout that was cut off would have been longer: where that touches
a percentile or mean, the note says so.

Every interval resamples problems; changes are paired with base over the problems that both were
asked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import statistics as st
from decaylab.maths import token_means
from decaylab.maths.clusters import Floats, Ints, bootstrap_weights, percentile_interval
from decaylab.maths.token_means import CellMeans
from decaylab.problems import applicable, thoughts
from decaylab.problems.boxes import count_boxes
from decaylab.problems.grading import Verdict
from decaylab.runs import own_tokens
from decaylab.runs.measurements import Measurement, to_frame

PERCENTILES = (10, 50, 90)
MEANS = (
    ("response_tokens_mean", "written", "tokens"),
    ("repetition_3gram", "repetition", "fraction"),
    ("boxes_mean", "boxes", "boxes"),
)
DRAWS = 2000
FILE_RULE = "file"
UNKNOWN = "unknown"
"""Stop reason of a rollout whose file does not say why it ended: it counts in no share of natural
stops."""


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with. answer_rules: those that the rollouts were graded by. level:
    of every interval."""

    answer_rules: tuple[str, ...]
    level: float = 0.95
    seed: int = 0
    run: str = ""


def measure(rollouts: Mapping[str, pd.DataFrame], settings: Settings) -> pd.DataFrame:
    """The behaviour of each checkpoint, and its paired change against ``base``.

    Args:
        rollouts: by checkpoint: the plain rollouts that it wrote itself, as rows of the rollouts
        table.
        settings: answer rules, level and seed.
    """
    return to_frame(_rows(rollouts, settings))


def _rows(rollouts: Mapping[str, pd.DataFrame], settings: Settings) -> Iterator[Measurement]:
    names = sorted({name for rows in rollouts.values() for name in rows["problem_id"]})
    codes = {name: code for code, name in enumerate(names)}
    shown = [
        rule
        for rule in settings.answer_rules
        if all(applicable.is_shown(one, rule) for one in rollouts.values())
    ]
    behaviour = {
        name: _per_rollout(rows, codes, [*shown, *_file_rule(rows)])
        for name, rows in rollouts.items()
    }
    for checkpoint, rows in behaviour.items():
        left_out = {rule: applicable.note(rollouts[checkpoint], rule) for rule in shown}
        left_out |= dict.fromkeys(
            _file_rule(rollouts[checkpoint]), "graded by the file that the rollouts came from"
        )
        one = _Checkpoint(checkpoint, rows, left_out, settings)
        yield from one.lengths()
        yield from one.means()
        yield from one.shares()
        if checkpoint != "base" and "base" in behaviour:
            yield from one.changes(behaviour["base"])


def _file_rule(rows: pd.DataFrame) -> list[str]:
    """The rule of a file's own verdicts, where the rollouts came from one that has some."""
    return [FILE_RULE] if "file_grade" in rows and rows["file_grade"].notna().any() else []


def _per_rollout(
    rows: pd.DataFrame, codes: Mapping[str, int], answer_rules: Sequence[str]
) -> pd.DataFrame:
    """What is counted of each rollout: a column each, of grades one for each rule, ``accuracy
    last_boxed``.

    NaN where the rule does not apply to the gold answer.
    """
    written = own_tokens.count(rows)
    masks = rows[own_tokens.MASK] if own_tokens.MASK in rows else [None] * len(rows)
    said = thoughts.answers(rows["text"].tolist(), rows["answer_start"].tolist())
    boxes = np.array([count_boxes(one) for one in said], dtype=np.float64)
    own = (own_tokens.ids(*one) for one in zip(rows["response_ids"], masks, strict=True))
    ids = zip(own, written, strict=True)
    columns = {
        "code": rows["problem_id"].map(codes).to_numpy(dtype=np.int64),
        "written": written,
        "natural_stop_share": np.where(
            rows["stop_reason"] == UNKNOWN, np.nan, rows["stop_reason"] == "eos"
        ),
        "repetition": np.array(
            [repetition_3gram(found[:length]) for found, length in ids], dtype=np.float64
        ),
        "boxes": boxes,
        "several_boxes_share": (boxes > 1).astype(np.float64),
        "open_thought_share": rows["answer_start"].isna().to_numpy(dtype=np.float64),
    }
    for rule in answer_rules:
        given = (
            rows["file_grade"].fillna(Verdict.NOT_APPLICABLE)
            if rule == FILE_RULE
            else rows[f"grade_{rule}"]
        )
        grades = given.to_numpy()
        for what, verdict in (
            ("accuracy", Verdict.CORRECT),
            ("no_answer_share", Verdict.NO_ANSWER),
        ):
            columns[f"{what} {rule}"] = np.where(
                grades == Verdict.NOT_APPLICABLE, np.nan, grades == verdict
            )
    return pd.DataFrame(columns)


def repetition_3gram(token_ids: Sequence[int]) -> float:
    """1 - distinct / all 3-grams of token ids: 0 where none comes twice; NaN under 3 tokens, which
    hold none."""
    ids = np.asarray(token_ids).tolist()
    if len(ids) < 3:
        return math.nan
    return 1 - len(set(zip(ids, ids[1:], ids[2:], strict=False))) / (len(ids) - 2)


def percentiles(ordered: Floats, weights: Floats) -> Floats:
    """Each of `PERCENTILES`: the least length that so many of the rollouts do not exceed,
    [percentiles].

    ordered: lengths, ascending. weights: how often each counts. Of unweighted lengths that is
    numpy's ``inverted_cdf``.
    """
    reached = np.cumsum(weights)
    return np.asarray(ordered[np.searchsorted(reached, np.array(PERCENTILES) / 100 * reached[-1])])


def _bootstrapped(ordered: Floats, problems: Ints, seed: int) -> Floats:
    """`percentiles` in every bootstrap replicate, [percentiles, draws]; none with fewer than 2
    problems."""
    codes, place = np.unique(problems, return_inverse=True)
    if codes.size < 2:
        return np.zeros((len(PERCENTILES), 0))
    weights = bootstrap_weights(codes.size, draws=DRAWS, seed=seed)
    return np.stack([percentiles(ordered, drawn[place]) for drawn in weights], axis=1)


class _Checkpoint:
    """The behaviour of one checkpoint.

    rows: one a rollout, as `_per_rollout` makes them. left_out: by answer rule, what must be said
    of where it does not apply.
    """

    def __init__(
        self, checkpoint: str, rows: pd.DataFrame, left_out: Mapping[str, str], settings: Settings
    ) -> None:
        self.checkpoint, self.rows, self.left_out, self.settings = (
            checkpoint,
            rows,
            left_out,
            settings,
        )
        self.shares_of = ["natural_stop_share", "several_boxes_share", "open_thought_share"]
        self.shares_of += [
            f"{what} {rule}" for rule in left_out for what in ("accuracy", "no_answer_share")
        ]

    def row(self, what: str, unit: str, rollouts: pd.DataFrame, **more: Any) -> Measurement:
        values: dict[str, Any] = {
            "condition": "",
            "view": "fresh",
            "checkpoint": self.checkpoint,
            "level": self.settings.level,
            "estimand": "mean over rollouts",
            "problems": rollouts["code"].nunique(),
            "rollouts": len(rollouts),
            "tokens": int(rollouts["written"].sum()),
            "seed": self.settings.seed,
            "run": self.settings.run,
        }
        return Measurement(what=what, unit=unit, **{**values, **more})

    def lengths(self) -> Iterator[Measurement]:
        """Percentiles of the response length, with a percentile bootstrap over problems."""
        rows = self.rows.sort_values("written", kind="stable")
        written, cut = (
            rows["written"].to_numpy(np.float64),
            (rows["natural_stop_share"] == 0).to_numpy(),
        )
        alike = np.ones(len(rows))
        values = percentiles(written, alike) if len(rows) else np.full(len(PERCENTILES), np.nan)
        endless = (
            percentiles(np.sort(np.where(cut, np.inf, written)), alike) if len(rows) else values
        )
        replicates = _bootstrapped(written, rows["code"].to_numpy(), self.settings.seed)
        for percent, value, without_end, drawn in zip(
            PERCENTILES, values, endless, replicates, strict=True
        ):
            low, high = percentile_interval(drawn, self.settings.level)
            bound = (
                f"at least: {cut.sum()} of {len(rows)} rollouts were cut off, some of them by "
                "this length"
            )
            yield self.row(
                f"response_tokens_p{percent}",
                "tokens",
                rows,
                value=float(value),
                low=low,
                high=high,
                method="percentile bootstrap over problems",
                estimand=f"least length that {percent} % of the rollouts do not exceed",
                note="; ".join(
                    filter(None, (_lacking(rows), bound if without_end > value else ""))
                ),
            )

    def means(self) -> Iterator[Measurement]:
        """Means over rollouts of what is no share."""
        cut = int((self.rows["natural_stop_share"] == 0).sum())
        for what, column, unit in MEANS:
            rows = self.rows[self.rows[column].notna()]
            short = len(self.rows) - len(rows)
            note = (
                f"{short} of {len(self.rows)} rollouts have fewer than 3 tokens, left out"
                if short
                else ""
            )
            if what == "response_tokens_mean" and cut:
                note = f"at least: {cut} of {len(rows)} rollouts were cut off"
            yield self.mean(what, unit, _mean(rows[column], rows["code"]), rows, note)

    def mean(
        self, what: str, unit: str, mean: CellMeans, rows: pd.DataFrame, note: str
    ) -> Measurement:
        """A mean with its interval; none where all problems agree, since an error of 0 says nothing
        about others."""
        low, high = (float(end[0]) for end in token_means.interval(mean, level=self.settings.level))
        reason = _lacking(rows)
        if mean.standard_error[0] < 1e-12:
            low, high, reason = math.nan, math.nan, "the same in every problem: no interval"
        return self.row(
            what,
            unit,
            rows,
            value=float(mean.value[0]),
            low=low,
            high=min(high, 1.0) if unit == "fraction" else high,
            standard_error=float(mean.standard_error[0]),
            method=mean.method,
            note="; ".join(filter(None, (reason, note))),
        )

    def shares(self) -> Iterator[Measurement]:
        """Shares of rollouts; those of grades under every answer rule."""
        for name in self.shares_of:
            rows = self.rows[self.rows[name].notna()]
            share = st.proportion(rows[name], rows["code"], level=self.settings.level)
            yield self.share(name, share, rows)

    def share(
        self, name: str, estimate: st.Estimate, rows: pd.DataFrame, ending: str = "", note: str = ""
    ) -> Measurement:
        what, _, rule = name.partition(" ")
        return self.row(
            what + ending,
            "fraction",
            rows,
            condition=rule,
            answer_rule=rule,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            standard_error=estimate.standard_error,
            method=estimate.method,
            note="; ".join(filter(None, (estimate.note, note, self.left_out.get(rule, "")))),
        )

    def changes(self, base: pd.DataFrame) -> Iterator[Measurement]:
        """Each rollout less the mean of base on its problem, over the problems that both were
        asked."""
        both = self.rows[self.rows["code"].isin(base["code"])]
        alone = (
            base.groupby("code")[["written", *self.shares_of]]
            .mean()
            .reindex(both["code"])
            .set_axis(both.index)
        )
        asked = self.rows["code"].nunique()
        left_out = asked - both["code"].nunique()
        note = (
            f"{left_out} of {asked} problems were not asked of base, left out" if left_out else ""
        )
        for name in self.shares_of:
            known = both[both[name].notna()]
            judged = known[alone[name].loc[known.index].notna()]
            before = alone[name].loc[judged.index]
            difference = st.paired_difference(
                judged[name], before, judged["code"], level=self.settings.level
            )
            lost = known["code"].nunique() - judged["code"].nunique()
            told = f"of base unknown on {lost} of {asked} problems, left out" if lost else ""
            yield self.share(
                name, difference, judged, "_change", "; ".join(filter(None, (note, told)))
            )
        cut = min(both["natural_stop_share"].min(), base["natural_stop_share"].min()) == 0
        notes = "; ".join(
            filter(
                None, (note, "rollouts were cut off: their lengths are lower bounds" if cut else "")
            )
        )
        change = token_means.difference(
            _mean(both["written"], both["code"]), _mean(alone["written"], both["code"])
        )
        yield self.mean("response_tokens_mean_change", "tokens", change, both, notes)


def _lacking(rows: pd.DataFrame) -> str:
    """Why there is no value or no interval."""
    count = rows["code"].nunique()
    return "" if count > 1 else st.ONE_PROBLEM if count else "no rollouts"


def _mean(values: pd.Series[Any], codes: pd.Series[Any]) -> CellMeans:
    """Mean over rollouts, clustered by problem."""
    count = int(codes.max()) + 1 if len(codes) else 1
    sums, counts = (
        np.bincount(codes, weights, count).astype(np.float64) for weights in (values, None)
    )
    return token_means.means(sums[:, None], counts[:, None])
