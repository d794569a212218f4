"""Evaluation: accuracy of each checkpoint, compared with base student and teacher.

Outcomes of rollouts in, measurements out; no model, no file. From k samples of each problem:

    avg_at_k     mean correctness
    pass_at_j    probability that at least one of j samples is correct, unbiased, for j = 1, 2, 4,
                 ... and k
    maj_at_k     whether the most frequent answer of the k samples is correct; ties and missing
                 answers as in problems.votes

    full_accuracy, name_accuracy, parse_rate    the first by another name, for function calls; other
                 tasks may name theirs too

There are rows for every answer rule (``condition``), the reported one first, over the problems to
whose gold answer the rule applies; a rule that applies to fewer than 95 % of them has no rows.
``..._minus_base`` and ``..._minus_teacher`` are paired over common problems. Checkpoints chosen by
a checkpoint rule have their rows again, with view ``last`` or ``best``.

Every interval resamples problems. Holm's correction is over the checkpoints of one comparison,
quantity, rule and view.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats, Ints
from decaylab.problems import applicable, votes
from decaylab.problems.grading import Verdict
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import (
    BASE,
    FRACTION,
    FRESH,
    MEAN_OVER_ROLLOUTS,
    TEACHER,
    detectable,
    minus,
)

NO_MAJORITY = "the rule does not name one answer per response, so there is no majority"


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the measurement.

    answer_rules: rules by which the rollouts were graded, the reported one first. chosen:
    checkpoint rule -> the checkpoints it chooses. training: checkpoint -> columns that describe its
    training. measures: answer rule -> what its avg@k is called, where it has a name of its own.
    """

    answer_rules: tuple[str, ...]
    chosen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """The outcomes of one model. rows: ordered by problem. codes: of its problems, ascending.
    samples: per problem."""

    checkpoint: str
    step: float
    rows: pd.DataFrame
    codes: Ints
    samples: int


@dataclass(frozen=True)
class Score:
    """A quantity of one model by problem, [problems].

    draws: how many disjoint draws of the needed samples a problem allows, which limits the
    evidence.
    """

    what: str
    estimand: str
    values: Floats
    draws: int


def measure(outcomes: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """avg@k, pass@k and maj@k of each model, and each checkpoint against ``base`` and ``teacher``.

    Args:
        outcomes: rows of the outcomes table, see `decaylab.runs.outcomes`.
        settings: answer rules, chosen checkpoints, level and seed.

    Raises:
        ValueError: the number of samples differs between problems or models.
    """
    measured: list[Measurement] = []
    for rule in settings.answer_rules:
        if applicable.is_shown(outcomes, rule):
            measured += _Rule(rule, outcomes, settings).rows()
    plain = list(measured)
    for view, taken in settings.chosen.items():
        measured += [replace(row, view=view) for row in plain if row.checkpoint in taken]
    # base is compared with the teacher too, but does not belong to the family
    return to_frame(
        estimated.with_holm(
            measured, ("what", "condition", "view"), lambda row: row.checkpoint != BASE
        )
    )


def _models(outcomes: pd.DataFrame) -> list[Model]:
    names = sorted(outcomes["problem_id"].unique())
    place = {name: code for code, name in enumerate(names)}
    models = []
    for checkpoint, rows in outcomes.groupby("checkpoint", sort=False):
        coded = rows.assign(code=rows["problem_id"].map(place))
        ordered = coded.sort_values(["code", "sample"], kind="stable")
        codes, counts = np.unique(ordered["code"].to_numpy(dtype=np.int64), return_counts=True)
        if len(set(counts)) != 1:
            raise ValueError(
                f"{checkpoint}: every problem must have the same number of samples, got "
                f"{sorted(set(counts.tolist()))}"
            )
        step = float(rows["step"].iloc[0])
        models.append(Model(str(checkpoint), step, ordered, codes, int(counts[0])))
    if len({model.samples for model in models}) > 1:
        samples = ", ".join(f"{model.checkpoint} {model.samples}" for model in models)
        raise ValueError(f"all models must have the same number of samples, got {samples}")
    return models


def drawn(samples: int) -> list[int]:
    """The numbers of samples for which pass@k is measured: 1, 2, 4, ... and ``samples``."""
    powers = {2**power for power in range(samples.bit_length())}
    return sorted(powers | {samples})


def scores(model: Model, rule: str, named: str = "") -> list[Score]:
    """The scores of a model under a rule; without maj@k if the rule has none. named: what its avg@k
    is called; "" for no other name."""
    k, count = model.samples, len(model.codes)
    right = (model.rows[f"grade_{rule}"] == Verdict.CORRECT).to_numpy().reshape(count, k)
    names = filter(None, (f"avg_at_{k}", named))
    measured = [Score(name, MEAN_OVER_ROLLOUTS, right.mean(axis=1), k) for name in names]
    for j in drawn(k):
        chance = st.pass_at_k(np.full(count, k), right.sum(axis=1), j)
        estimand = f"chance that one of {j} samples is right, mean over problems"
        measured.append(Score(f"pass_at_{j}", estimand, chance, k // j))
    if rule in votes.VOTING_RULES:
        cast = model.rows[f"vote_{rule}"].to_numpy().reshape(count, k).tolist()
        worth = np.array([votes.majority(answers) for answers in cast])
        estimand = f"worth of the majority of {k} samples, mean over problems"
        measured.append(Score(f"maj_at_{k}", estimand, worth, 1))
    return measured


class _Rule:
    """The measurements under one answer rule."""

    def __init__(self, rule: str, outcomes: pd.DataFrame, settings: Settings) -> None:
        self.rule, self.settings = rule, settings
        self.models = _models(applicable.rows(outcomes, rule))
        self.left_out = applicable.note(outcomes, rule)
        self.has_majorities = bool(set(votes.VOTING_RULES).intersection(settings.answer_rules))
        named = settings.measures.get(rule, "")
        self.scores = {model.checkpoint: scores(model, rule, named) for model in self.models}

    def rows(self) -> Iterator[Measurement]:
        references = [model for model in self.models if model.checkpoint in (BASE, TEACHER)]
        for model in self.models:
            yield from self.levels(model)
            for reference in references:
                if model.checkpoint not in (reference.checkpoint, TEACHER):
                    yield from self.differences(model, reference)

    def levels(self, model: Model) -> Iterator[Measurement]:
        late = int((model.rows[f"grade_{self.rule}"] == Verdict.TIMEOUT).sum())
        note = estimated.graded_late(late, len(model.rows))
        for score in self.scores[model.checkpoint]:
            # pass@k needs several samples per draw, so it counts as that many fewer rollouts
            values = np.repeat(score.values, score.draws)
            codes = np.repeat(model.codes, score.draws)
            share = st.proportion(values, codes, level=self.settings.level)
            yield self.row(score.what, score, model, share, model.codes, note)
        # a row that states why there is no majority, beside rules that have one
        if self.rule not in votes.VOTING_RULES and self.has_majorities:
            undefined = Score(f"maj_at_{model.samples}", "", np.zeros(0), 0)
            none = st.Estimate(*st.UNDEFINED, "", 0, 0, NO_MAJORITY)
            yield self.row(undefined.what, undefined, model, none, model.codes)

    def differences(self, model: Model, reference: Model) -> Iterator[Measurement]:
        """Each score of the model minus that of the reference on the same problem, and the smallest
        detectable difference."""
        common, mine, theirs = np.intersect1d(model.codes, reference.codes, return_indices=True)
        asked, level = len(model.codes), self.settings.level
        note = estimated.left_out(
            asked - len(common), asked, f"problems have no rollouts of {reference.checkpoint}"
        )
        pairs = zip(self.scores[model.checkpoint], self.scores[reference.checkpoint], strict=True)
        for score, other in pairs:
            first, second = score.values[mine], other.values[theirs]
            x, y, codes = (np.repeat(column, score.draws) for column in (first, second, common))
            change = st.paired_difference(x, y, codes, level=level)
            p_value = math.nan
            if len(common):
                p_value = st.sign_flip_p(first - second, common, seed=self.settings.seed)
            what = minus(score.what, reference.checkpoint)
            yield self.row(what, score, model, change, common, note, p_value=p_value)
            least = estimated.detectable_difference(change, level=level)
            yield self.row(detectable(what), score, model, least, common, note)

    def row(
        self,
        what: str,
        score: Score,
        model: Model,
        estimate: st.Estimate,
        codes: Ints,
        *notes: str,
        **more: Any,
    ) -> Measurement:
        """codes: the problems behind the number."""
        counted = model.rows[model.rows["code"].isin(codes)]
        columns = {
            "condition": self.rule,
            "answer_rule": self.rule,
            "view": FRESH,
            "checkpoint": model.checkpoint,
            "step": model.step,
            "estimand": score.estimand,
            "problems": len(codes),
            "rollouts": len(counted),
            "tokens": int(counted["response_tokens"].sum()),
            **self.settings.training.get(model.checkpoint, {}),
            **more,
        }
        notes = (*notes, self.left_out)
        return estimated.row(self.settings, what, FRACTION, estimate, *notes, **columns)
