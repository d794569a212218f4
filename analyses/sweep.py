"""Sweeps: training arms, each with its seeds, compared with base, teacher and full rollouts on the
same problems.

Runs in, measurements out; no model, no file. ``checkpoint`` is the arm, ``condition`` the answer
rule, ``view`` the checkpoint rule (``last``, ``best``), ``training_seed`` the seed of a single
run's number. Over several seeds there are two numbers, distinguished by ``estimand``:

    over these seeds       interval and p resample problems: valid for other problems with these
                           seeds
    over training seeds    Student's t over the seeds: valid for other seeds on these problems

The quantities:

    avg_at_k                                mean correctness of k samples
    avg_at_k_minus_base, _teacher, _full    paired by problem; over seeds, differences from full
                                            rollouts are paired by seed
    ..._detectable                          the smallest difference detected with 80 % power
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import seeds as over
from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats, Ints
from decaylab.problems import applicable
from decaylab.problems.grading import Verdict
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.trained import TrainedRun, by_arm
from decaylab.runs.vocabulary import (
    BASE,
    BEST,
    FRACTION,
    FRESH,
    FULL,
    LAST,
    MEAN_OVER_ROLLOUTS,
    ONE_RUN,
    OVER_SEEDS,
    TEACHER,
    THESE_SEEDS,
    detectable,
    minus,
)


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the measurement. answer_rules: the reported one first."""

    answer_rules: tuple[str, ...]


def measure(runs: Sequence[TrainedRun], settings: Settings) -> pd.DataFrame:
    """Accuracy of every arm, per seed and over seeds, and its paired differences.

    Raises:
        ValueError: no run, or runs that differ in problems or number of samples.
    """
    if not runs:
        raise ValueError("a sweep needs at least one run")
    measured: list[Measurement] = []
    for rule in settings.answer_rules:
        if not all(applicable.is_shown(run.outcomes, rule) for run in runs):
            continue
        judged = [replace(run, outcomes=applicable.rows(run.outcomes, rule)) for run in runs]
        left_out = applicable.note(runs[0].outcomes, rule)
        accuracy = _Accuracy(by_arm(judged), _Asked.of(judged[0]), rule, left_out, settings)
        measured += accuracy.rows()
    # family: the arms of one comparison, answer rule, checkpoint rule and kind of mean
    return to_frame(estimated.with_holm(measured, ("what", "condition", "view", "estimand")))


@dataclass(frozen=True)
class _Asked:
    """The problems, in order, and the number of samples per problem."""

    problems: tuple[str, ...]
    samples: int

    @classmethod
    def of(cls, run: TrainedRun) -> _Asked:
        first = run.outcomes[run.outcomes["checkpoint"] == run.outcomes["checkpoint"].iloc[0]]
        problems = tuple(sorted(first["problem_id"].unique()))
        return cls(problems, len(first) // len(problems))

    def grid(self, rows: pd.DataFrame, column: str, name: str) -> np.ndarray:
        """A column of one model, [problems, samples]."""
        ordered = rows.sort_values(["problem_id", "sample"], kind="stable")
        wanted = np.repeat(np.array(self.problems, dtype=object), self.samples)
        if len(ordered) != wanted.size or (ordered["problem_id"].to_numpy() != wanted).any():
            raise ValueError(
                f"{name} was not evaluated like the others, on {len(self.problems)} problems x "
                f"{self.samples} samples"
            )
        return np.asarray(ordered[column].to_numpy().reshape(len(self.problems), self.samples))


@dataclass(frozen=True)
class _Model:
    """Outcomes of an arm by one checkpoint rule, or of base or teacher, which have no seeds.

    right: whether correct, [seeds, problems, samples]. tokens: written, [seeds]. late: responses
    that took too long to grade.
    """

    name: str
    right: Floats
    tokens: Ints
    late: int
    seeds: tuple[int, ...] = ()
    steps: tuple[float, ...] = ()

    def of_seeds(self, seeds: Sequence[int]) -> _Model:
        """The model with only these seeds; unchanged if it has none."""
        if not self.seeds:
            return self
        places = [self.seeds.index(seed) for seed in seeds]
        return replace(
            self,
            right=self.right[places],
            tokens=self.tokens[places],
            seeds=tuple(seeds),
            steps=tuple(self.steps[place] for place in places),
        )

    @property
    def by_problem(self) -> Floats:
        """Mean over seeds and samples, [problems]."""
        return np.asarray(self.right.mean(axis=(0, 2)))

    @property
    def by_seed(self) -> Floats:
        """Mean over problems and samples, [seeds]."""
        return np.asarray(self.right.mean(axis=(1, 2)))


class _Accuracy:
    """The measurements under one answer rule."""

    def __init__(
        self,
        arms: Mapping[str, list[TrainedRun]],
        asked: _Asked,
        answer_rule: str,
        left_out: str,
        settings: Settings,
    ) -> None:
        """left_out: the note on problems to which the rule does not apply."""
        self.arms, self.asked, self.rule = arms, asked, answer_rule
        self.left_out, self.settings, self.level = left_out, settings, settings.level
        self.what = f"avg_at_{asked.samples}"
        self.codes = np.arange(len(asked.problems), dtype=np.int64)

    def rows(self) -> Iterator[Measurement]:
        # every run was evaluated with the same base and teacher: use those of the first
        outcomes = next(iter(self.arms.values()))[0].outcomes
        references = []
        for name in (BASE, TEACHER):
            rollouts = outcomes[outcomes["checkpoint"] == name]
            if len(rollouts):
                references.append(self.model(name, [rollouts]))
        for model in references:
            yield self.row(self.what, model, self.proportion(model), FRESH)
        for view in (LAST, BEST):
            models = {}
            for arm, runs in self.arms.items():
                chosen = self.chosen(runs, view)
                if chosen is not None:
                    models[arm] = chosen
            for arm, model in models.items():
                yield from self.levels(model, view)
                full = [models[FULL]] if FULL in models and arm != FULL else []
                for reference in [*references, *full]:
                    yield from self.differences(model, reference, view)

    def chosen(self, runs: Sequence[TrainedRun], view: str) -> _Model | None:
        """The checkpoints that the rule chooses from the runs of an arm; None if there are none."""
        taken = [run for run in runs if view in run.chosen]
        if not taken:
            return None
        tables = []
        for run in taken:
            trained = ~run.outcomes["checkpoint"].isin([BASE, TEACHER])
            tables.append(run.outcomes[trained & (run.outcomes["step"] == run.chosen[view])])
        return replace(
            self.model(taken[0].arm, tables),
            seeds=tuple(run.seed for run in taken),
            steps=tuple(float(run.chosen[view]) for run in taken),
        )

    def model(self, name: str, tables: Sequence[pd.DataFrame]) -> _Model:
        column = f"grade_{self.rule}"
        grades = np.stack([self.asked.grid(table, column, name) for table in tables])
        right = (grades == Verdict.CORRECT).astype(np.float64)
        tokens = np.array([table["response_tokens"].sum() for table in tables], dtype=np.int64)
        return _Model(name, right, tokens, int((grades == Verdict.TIMEOUT).sum()))

    def proportion(self, model: _Model) -> st.Estimate:
        codes = np.broadcast_to(self.codes[:, None], model.right.shape)
        return st.proportion(model.right.ravel(), codes.ravel(), level=self.level)

    def paired(self, model: _Model, other: _Model) -> st.Estimate:
        """Each rollout of a model minus the mean of the other on its problem."""
        codes = np.broadcast_to(self.codes[:, None], model.right.shape).ravel()
        return st.paired_difference(
            model.right.ravel(), other.by_problem[codes], codes, level=self.level
        )

    def levels(self, model: _Model, view: str) -> Iterator[Measurement]:
        errors = []
        for seed in model.seeds:
            single = model.of_seeds([seed])
            share = self.proportion(single)
            errors.append(share.standard_error)
            yield self.row(self.what, single, share, view, training_seed=float(seed))
        yield self.row(self.what, model, self.proportion(model), view)
        mean = over.over_seeds(model.by_seed, level=self.level, apart=over.apart_by(errors))
        yield self.row(self.what, model, estimated.within(mean, 0.0, 1.0), view)

    def differences(self, model: _Model, reference: _Model, view: str) -> Iterator[Measurement]:
        """Differences from base and teacher, the same for every seed, and from full rollouts, over
        common seeds."""
        seeds = model.seeds
        if reference.seeds:
            seeds = tuple(seed for seed in seeds if seed in reference.seeds)
        if not seeds:
            return
        what, total = minus(self.what, reference.name), len(model.seeds)
        note = estimated.left_out(
            total - len(seeds), total, f"seeds have no run of {reference.name}"
        )
        mine, theirs = model.of_seeds(seeds), reference.of_seeds(seeds)
        # Seeds disagree if they are further apart than sampling explains, hence the errors.
        errors = []
        for seed in seeds:
            single = mine.of_seeds([seed])
            change = self.paired(single, theirs.of_seeds([seed]))
            errors.append(change.standard_error)
            yield self.row(what, single, change, view, note, training_seed=float(seed))
        change = self.paired(mine, theirs)
        apart = mine.by_problem - theirs.by_problem
        p_value = st.sign_flip_p(apart, self.codes, seed=self.settings.seed)
        yield self.row(what, mine, change, view, note, p_value=p_value)
        least = estimated.detectable_difference(change, level=self.level)
        yield self.row(detectable(what), mine, least, view, note)
        mean = over.over_seeds(
            mine.by_seed - theirs.by_seed, level=self.level, apart=over.apart_by(errors)
        )
        mean = estimated.within(mean, -1.0, 1.0)
        yield self.row(what, mine, mean, view, note, p_value=mean.p_value)
        smallest = over.smallest_detectable_over_seeds(
            mean.standard_error, mean.seeds, level=self.level
        )
        bare = over.OverSeeds(smallest, *st.UNDEFINED, mean.seeds, "", mean.note)
        yield self.row(detectable(what), mine, bare, view, note)

    def row(
        self,
        what: str,
        model: _Model,
        estimate: st.Estimate | over.OverSeeds,
        view: str,
        note: str = "",
        **more: Any,
    ) -> Measurement:
        """A number of a model. Its estimand depends on what the mean is over."""
        if isinstance(estimate, over.OverSeeds):
            estimand = OVER_SEEDS
        elif not model.seeds:
            estimand = MEAN_OVER_ROLLOUTS
        else:
            estimand = ONE_RUN if "training_seed" in more else THESE_SEEDS
        # base and teacher were not trained
        place = {"checkpoint": model.name}
        if model.name in self.arms:
            place = self.arms[model.name][0].place
        columns = {
            "condition": self.rule,
            "answer_rule": self.rule,
            "view": view,
            **place,
            "step": estimated.shared(model.steps),
            "estimand": estimand,
            "problems": len(self.codes),
            "rollouts": model.right.size,
            "tokens": int(model.tokens.sum()),
            **more,
        }
        late = estimated.graded_late(model.late, model.right.size)
        notes = (note, late, self.left_out)
        return estimated.row(self.settings, what, FRACTION, estimate, *notes, **columns)
