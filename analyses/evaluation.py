"""Evaluation: how often each checkpoint is right, against the base student and the teacher on the
same problems.

Outcomes of rollouts in, measurements out; no model, no file. k samples of each problem:

    avg_at_k    mean correctness pass_at_j   chance that one of j samples is right, unbiased, for j
    = 1, 2, 4, ... and k maj_at_k    whether the answer that most of the k samples give is right;
    ties and missing answers as in problems.votes

under every answer rule (``condition``), the reported one first, over the problems to whose gold
answer it applies; a rule that applies to fewer than 95 % of them has no rows. ``..._minus_base``
and ``..._minus_teacher`` are paired over the problems that both were asked. What a checkpoint rule
takes stands once more under its name: view ``last`` and ``best``.

Every interval resamples problems. Holm's correction is over the checkpoints of one comparison,
quantity, rule and view.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats, Ints
from decaylab.problems import applicable, votes
from decaylab.runs.measurements import Measurement, to_frame

BASE, TEACHER = "base", "teacher"
NO_MAJORITY = "a response may name several answers by this rule: there is no vote"
DETECTABLE = "_detectable"


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    answer_rules: those that the rollouts were graded by, the reported one first. chosen: checkpoint
    rule -> the checkpoints that it takes. training: checkpoint -> columns that say how it was
    trained. level: of every interval.
    """

    answer_rules: tuple[str, ...]
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    level: float = 0.95
    seed: int = 0
    run: str = ""


@dataclass(frozen=True)
class Model:
    """The outcomes of one model. rows: ordered by problem. codes: of each of its problems,
    ascending. samples: of each."""

    checkpoint: str
    step: float
    rows: pd.DataFrame
    codes: Ints
    samples: int


@dataclass(frozen=True)
class Score:
    """A quantity of one model by problem, [problems].

    draws: how many disjoint draws of the samples it needs a problem has: no more evidence than that
    stands behind it.
    """

    what: str
    estimand: str
    values: Floats
    draws: int


def measure(outcomes: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """avg@k, pass@k and maj@k of each model, and each checkpoint against ``base`` and ``teacher``.

    Args:
        outcomes: rows of the outcomes table, see `decaylab.runs.outcomes`.
        settings: answer rules, what the checkpoint rules take, level and seed.

    Raises:
        ValueError: problems of one model with different numbers of samples, or models with
        different numbers.
    """
    shown = [rule for rule in settings.answer_rules if applicable.is_shown(outcomes, rule)]
    rows = [row for rule in shown for row in _Rule(rule, outcomes, settings).rows()]
    return to_frame(_with_holm([*rows, *_taken(rows, settings.chosen)]))


def _models(outcomes: pd.DataFrame) -> list[Model]:
    names = sorted(outcomes["problem_id"].unique())
    place = {name: code for code, name in enumerate(names)}
    models = []
    for checkpoint, rows in outcomes.groupby("checkpoint", sort=False):
        ordered = rows.assign(code=rows["problem_id"].map(place)).sort_values(
            ["code", "sample"], kind="stable"
        )
        codes, counts = np.unique(ordered["code"].to_numpy(dtype=np.int64), return_counts=True)
        if len(set(counts)) != 1:
            raise ValueError(
                f"{checkpoint}: every problem needs as many samples, got "
                f"{sorted(set(counts.tolist()))}"
            )
        models.append(
            Model(str(checkpoint), float(rows["step"].iloc[0]), ordered, codes, int(counts[0]))
        )
    if len({model.samples for model in models}) > 1:
        raise ValueError(
            "models need as many samples: "
            f"{', '.join(f'{m.checkpoint} {m.samples}' for m in models)}"
        )
    return models


def drawn(samples: int) -> list[int]:
    """The numbers of samples for which pass@k is told: 1, 2, 4, ... and all of them."""
    return sorted(
        {2**power for power in range(samples.bit_length()) if 2**power <= samples} | {samples}
    )


def scores(model: Model, rule: str) -> list[Score]:
    """What is told of a model under a rule; without maj@k where the rule has none."""
    k, count = model.samples, len(model.codes)
    right = (model.rows[f"grade_{rule}"] == "correct").to_numpy().reshape(count, k)
    found = [Score(f"avg_at_{k}", "mean over rollouts", right.mean(axis=1), k)]
    for j in drawn(k):
        chance = st.pass_at_k(np.full(count, k), right.sum(axis=1), j)
        words = f"chance that one of {j} samples is right, mean over problems"
        found.append(Score(f"pass_at_{j}", words, chance, k // j))
    if rule in votes.VOTING_RULES:
        cast = model.rows[f"vote_{rule}"].to_numpy().reshape(count, k)
        worth = np.array([votes.majority(one) for one in cast.tolist()])
        found.append(
            Score(
                f"maj_at_{k}", f"worth of the majority of {k} samples, mean over problems", worth, 1
            )
        )
    return found


class _Rule:
    """The measurements under one answer rule."""

    def __init__(self, rule: str, outcomes: pd.DataFrame, settings: Settings) -> None:
        self.rule, self.settings = rule, settings
        self.models, self.left_out = (
            _models(applicable.rows(outcomes, rule)),
            applicable.note(outcomes, rule),
        )
        self.scores = {model.checkpoint: scores(model, rule) for model in self.models}

    def rows(self) -> Iterator[Measurement]:
        against = [model for model in self.models if model.checkpoint in (BASE, TEACHER)]
        for model in self.models:
            yield from self.levels(model)
            for other in against:
                if model.checkpoint not in (other.checkpoint, TEACHER):
                    yield from self.differences(model, other)

    def levels(self, model: Model) -> Iterator[Measurement]:
        late = int((model.rows[f"grade_{self.rule}"] == "timeout").sum())
        note = (
            f"{late} of {len(model.rows)} responses took too long to grade: not correct"
            if late
            else ""
        )
        for score in self.scores[model.checkpoint]:
            values, codes = (
                np.repeat(score.values, score.draws),
                np.repeat(model.codes, score.draws),
            )
            yield self.row(
                score,
                model,
                st.proportion(values, codes, level=self.settings.level),
                model.codes,
                note=note,
            )
        if self.rule not in votes.VOTING_RULES:
            undefined = Score(f"maj_at_{model.samples}", "", np.zeros(0), 0)
            none = st.Estimate(*st.UNDEFINED, "", 0, 0, NO_MAJORITY)
            yield self.row(undefined, model, none, model.codes)

    def differences(self, model: Model, other: Model) -> Iterator[Measurement]:
        """Each score of the model less that of the other on the same problem, and what difference
        could have been seen."""
        common, mine, theirs = np.intersect1d(model.codes, other.codes, return_indices=True)
        left_out = len(model.codes) - len(common)
        note = (
            f"{left_out} of {len(model.codes)} problems were not asked of {other.checkpoint}, "
            "left out"
        )
        level, seed = self.settings.level, self.settings.seed
        pairs = zip(self.scores[model.checkpoint], self.scores[other.checkpoint], strict=True)
        for score, their in pairs:
            first, second = score.values[mine], their.values[theirs]
            x, y, codes = (np.repeat(column, score.draws) for column in (first, second, common))
            change = st.paired_difference(x, y, codes, level=level)
            ending = f"_minus_{other.checkpoint}"
            p_value = st.sign_flip_p(first - second, common, seed=seed) if len(common) else math.nan
            told = note if left_out else ""
            yield self.row(score, model, change, common, note=told, ending=ending, p_value=p_value)
            least = st.smallest_detectable_difference(
                st.cautious_error(change, level=level), level=level
            )
            bare = replace(
                change, value=least, low=math.nan, high=math.nan, standard_error=math.nan, method=""
            )
            bare = replace(bare, note=change.note if math.isnan(least) else "")
            yield self.row(score, model, bare, common, note=told, ending=ending + DETECTABLE)

    def row(
        self,
        score: Score,
        model: Model,
        estimate: st.Estimate,
        codes: Ints,
        *,
        note: str = "",
        ending: str = "",
        p_value: float = math.nan,
    ) -> Measurement:
        """codes: of the problems behind the number."""
        held = model.rows[model.rows["code"].isin(codes)]
        return Measurement(
            what=score.what + ending,
            condition=self.rule,
            value=estimate.value,
            unit="fraction",
            view="fresh",
            checkpoint=model.checkpoint,
            step=model.step,
            low=estimate.low,
            high=estimate.high,
            standard_error=estimate.standard_error,
            level=self.settings.level,
            method=estimate.method,
            estimand=score.estimand,
            p_value=p_value,
            problems=len(codes),
            rollouts=len(held),
            tokens=int(held["response_tokens"].sum()),
            answer_rule=self.rule,
            seed=self.settings.seed,
            run=self.settings.run,
            note="; ".join(filter(None, (estimate.note, note, self.left_out))),
            **dict(self.settings.training.get(model.checkpoint, {})),
        )


def _taken(rows: Iterable[Measurement], chosen: Mapping[str, tuple[str, ...]]) -> list[Measurement]:
    """The rows of the checkpoints that each rule takes, under its name."""
    kept = list(rows)
    return [
        replace(row, view=rule)
        for rule, names in chosen.items()
        for row in kept
        if row.checkpoint in names
    ]


def _with_holm(rows: list[Measurement]) -> list[Measurement]:
    """The rows with p-values corrected over the checkpoints of one comparison, quantity, rule and
    view; base is none."""
    families: dict[tuple[str, str, str], list[int]] = {}
    for index, row in enumerate(rows):
        if not math.isnan(row.p_value) and row.checkpoint != BASE:
            families.setdefault((row.what, row.condition, row.view), []).append(index)
    for members in families.values():
        adjusted = st.holm([rows[index].p_value for index in members])
        for index, p_value in zip(members, adjusted, strict=True):
            rows[index] = replace(rows[index], p_value_holm=float(p_value))
    return rows
