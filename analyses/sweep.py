"""Sweeps: training arms side by side, each with its seeds, against base, teacher and full rollout
on the same problems.

Runs in, measurements out; no model, no file. ``checkpoint`` is the arm, ``condition`` the answer
rule, ``view`` the checkpoint rule (``last``, ``best``), ``training_seed`` the seed of a number that
stands for one run. Of several seeds there are two numbers, told apart by ``estimand`` and not to be
mixed up:

    over these seeds      interval and p resample problems: they hold for other problems, and for
    the seeds at hand over training seeds   Student's t over the seeds: holds for other seeds, on
    the problems that were asked

    avg_at_k                                  mean correctness of k samples avg_at_k_minus_base,
    _teacher, _full      paired by problem; over seeds, those of full rollout paired by seed
    ..._detectable                            the smallest difference that would have been found in
    four of five cases
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths import seeds as over
from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats, Ints
from decaylab.problems import applicable
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.trained import BASE, FULL, TEACHER, TrainedRun, by_arm

RULES = ("last", "best")
ONE_RUN, THESE, SEEDS = (
    "one training run",
    "mean over rollouts, over these seeds",
    "mean over training seeds",
)
DETECTABLE = "_detectable"


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with. answer_rules: the reported one first. level: of every
    interval."""

    answer_rules: tuple[str, ...]
    level: float = 0.95
    seed: int = 0
    run: str = ""


def measure(runs: Sequence[TrainedRun], settings: Settings) -> pd.DataFrame:
    """Accuracy of every arm, seed by seed and over the seeds, and its paired differences.

    Raises:
        ValueError: no run; runs that were asked different problems, or a different number of
        samples.
    """
    if not runs:
        raise ValueError("a sweep needs a run")
    shown = [
        rule
        for rule in settings.answer_rules
        if all(applicable.is_shown(run.outcomes, rule) for run in runs)
    ]
    rows: list[Measurement] = []
    for rule in shown:
        judged = [replace(run, outcomes=applicable.rows(run.outcomes, rule)) for run in runs]
        left_out = applicable.note(runs[0].outcomes, rule)
        found = _Accuracy(by_arm(judged), _Asked.of(judged[0]), rule, settings).rows()
        rows += [replace(row, note="; ".join(filter(None, (row.note, left_out)))) for row in found]
    return to_frame(_with_holm(rows))


@dataclass(frozen=True)
class _Asked:
    """The problems, in order, and the samples of each."""

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
                f"{name} was not asked what the others were: {len(self.problems)} problems x "
                f"{self.samples} samples"
            )
        return np.asarray(ordered[column].to_numpy().reshape(len(self.problems), self.samples))


@dataclass(frozen=True)
class _Model:
    """Outcomes of an arm by one checkpoint rule, or of base or teacher.

    right: [seeds, problems, samples]. tokens: that were written, [seeds]. late: responses that took
    too long to grade.
    """

    name: str
    right: Floats
    tokens: Ints
    late: int
    seeds: tuple[int, ...] = ()
    steps: tuple[float, ...] = ()

    def of_seeds(self, seeds: Sequence[int]) -> _Model:
        """The same with these of its seeds."""
        places = [self.seeds.index(seed) for seed in seeds]
        steps = tuple(self.steps[place] for place in places)
        return replace(
            self,
            right=self.right[places],
            tokens=self.tokens[places],
            seeds=tuple(seeds),
            steps=steps,
        )

    @property
    def by_problem(self) -> Floats:
        """Mean over seeds and samples, [problems]."""
        return np.asarray(self.right.mean(axis=(0, 2)))


class _Accuracy:
    """The measurements under one answer rule."""

    def __init__(
        self,
        arms: Mapping[str, list[TrainedRun]],
        asked: _Asked,
        answer_rule: str,
        settings: Settings,
    ) -> None:
        self.arms, self.asked, self.rule, self.settings = arms, asked, answer_rule, settings
        self.k = asked.samples
        self.codes = np.arange(len(asked.problems), dtype=np.int64)

    def rows(self) -> Iterator[Measurement]:
        outcomes = next(iter(self.arms.values()))[0].outcomes
        alone = [
            self.model(name, [outcomes[outcomes["checkpoint"] == name]])
            for name in (BASE, TEACHER)
            if (outcomes["checkpoint"] == name).any()
        ]
        for model in alone:
            yield self.clustered(f"avg_at_{self.k}", model, self.proportion(model), view="fresh")
        for view in RULES:
            taken = (self.chosen(runs, view) for runs in self.arms.values())
            models = {model.name: model for model in taken if model is not None}
            for arm, model in models.items():
                yield from self.levels(model, view)
                for other in [
                    *alone,
                    *(models[name] for name in (FULL,) if name in models and name != arm),
                ]:
                    yield from self.differences(model, other, view)

    def chosen(self, runs: Sequence[TrainedRun], view: str) -> _Model | None:
        """What the rule takes of each run of an arm; None where it takes nothing of any."""
        taken = [run for run in runs if view in run.chosen]
        if not taken:
            return None
        tables = [
            run.outcomes[
                ~run.outcomes["checkpoint"].isin([BASE, TEACHER])
                & (run.outcomes["step"] == run.chosen[view])
            ]
            for run in taken
        ]
        seeds = tuple(run.seed for run in taken)
        return self.model(
            taken[0].arm, tables, seeds, tuple(float(run.chosen[view]) for run in taken)
        )

    def model(
        self,
        name: str,
        tables: Sequence[pd.DataFrame],
        seeds: tuple[int, ...] = (),
        steps: tuple[float, ...] = (),
    ) -> _Model:
        grades = np.stack([self.asked.grid(rows, f"grade_{self.rule}", name) for rows in tables])
        tokens = np.array([rows["response_tokens"].sum() for rows in tables], dtype=np.int64)
        return _Model(
            name,
            (grades == "correct").astype(np.float64),
            tokens,
            int((grades == "timeout").sum()),
            seeds,
            steps,
        )

    def proportion(self, model: _Model) -> st.Estimate:
        codes = np.broadcast_to(self.codes[:, None], model.right.shape)
        return st.proportion(model.right.ravel(), codes.ravel(), level=self.settings.level)

    def paired(self, model: _Model, other: _Model) -> st.Estimate:
        """Each rollout of the one less the mean of the other on its problem."""
        codes = np.broadcast_to(self.codes[:, None], model.right.shape).ravel()
        return st.paired_difference(
            model.right.ravel(), other.by_problem[codes], codes, level=self.settings.level
        )

    def levels(self, model: _Model, view: str) -> Iterator[Measurement]:
        what = f"avg_at_{self.k}"
        for seed in model.seeds:
            one = model.of_seeds([seed])
            yield self.clustered(what, one, self.proportion(one), view, training_seed=float(seed))
        yield self.clustered(what, model, self.proportion(model), view)
        apart = over.apart_by(
            [self.proportion(model.of_seeds([seed])).standard_error for seed in model.seeds]
        )
        mean = over.over_seeds(
            model.right.mean(axis=(1, 2)), level=self.settings.level, apart=apart
        )
        yield self.by_seed(
            what,
            model,
            replace(mean, low=max(mean.low, 0.0), high=min(mean.high, 1.0), p_value=math.nan),
            view,
        )

    def differences(self, model: _Model, other: _Model, view: str) -> Iterator[Measurement]:
        """To base and teacher, the same for every seed; to full rollout, over the seeds that both
        have."""
        what = f"avg_at_{self.k}_minus_{other.name}"
        both = [seed for seed in model.seeds if not other.seeds or seed in other.seeds]
        left_out = len(model.seeds) - len(both)
        note = (
            f"{left_out} of {len(model.seeds)} seeds have no run of {other.name}, left out"
            if left_out
            else ""
        )
        if not both:
            return
        mine, theirs = model.of_seeds(both), other.of_seeds(both) if other.seeds else other
        errors = []
        for seed in both:
            one = mine.of_seeds([seed])
            change = self.paired(one, theirs.of_seeds([seed]) if theirs.seeds else theirs)
            errors.append(change.standard_error)
            yield self.clustered(what, one, change, view, training_seed=float(seed), note=note)
        change = self.paired(mine, theirs)
        apart = mine.by_problem - theirs.by_problem
        p_value = st.sign_flip_p(apart, self.codes, seed=self.settings.seed)
        yield self.clustered(what, mine, change, view, p_value=p_value, note=note)
        level = self.settings.level
        least = st.smallest_detectable_difference(
            st.cautious_error(change, level=level), level=level
        )
        bare = st.Estimate(least, *st.UNDEFINED[:3], "", 0, 0, change.note)
        yield self.clustered(what + DETECTABLE, mine, bare, view, note=note)
        by_seed = mine.right.mean(axis=(1, 2)) - theirs.right.mean(axis=(1, 2))
        mean = over.over_seeds(by_seed, level=level, apart=over.apart_by(errors))
        yield self.by_seed(
            what, mine, replace(mean, low=max(mean.low, -1.0), high=min(mean.high, 1.0)), view, note
        )
        least = over.smallest_detectable_over_seeds(mean.standard_error, mean.seeds, level=level)
        nothing = over.OverSeeds(least, *(math.nan,) * 4, mean.seeds, "", mean.note)
        yield self.by_seed(what + DETECTABLE, mine, nothing, view, note)

    def clustered(
        self,
        what: str,
        model: _Model,
        estimate: st.Estimate,
        view: str,
        *,
        training_seed: float = math.nan,
        p_value: float = math.nan,
        note: str = "",
    ) -> Measurement:
        estimand = (
            THESE
            if math.isnan(training_seed) and model.seeds
            else ONE_RUN
            if model.seeds
            else "mean over rollouts"
        )
        return self.row(
            what,
            model,
            view,
            value=estimate.value,
            low=estimate.low,
            high=estimate.high,
            standard_error=estimate.standard_error,
            method=estimate.method,
            estimand=estimand,
            p_value=p_value,
            training_seed=training_seed,
            note="; ".join(filter(None, (estimate.note, note))),
        )

    def by_seed(
        self, what: str, model: _Model, mean: over.OverSeeds, view: str, note: str = ""
    ) -> Measurement:
        return self.row(
            what,
            model,
            view,
            value=mean.value,
            low=mean.low,
            high=mean.high,
            standard_error=mean.standard_error,
            method=mean.method,
            estimand=SEEDS,
            p_value=mean.p_value,
            note="; ".join(filter(None, (mean.note, note))),
        )

    def row(self, what: str, model: _Model, view: str, *, note: str, **numbers: Any) -> Measurement:
        arm = self.arms.get(model.name)
        late = (
            f"{model.late} of {model.right.size} responses took too long to grade: not correct"
            if model.late
            else ""
        )
        return Measurement(
            what=what,
            condition=self.rule,
            unit="fraction",
            view=view,
            checkpoint=model.name,
            step=_same(model.steps),
            level=self.settings.level,
            problems=len(self.codes),
            rollouts=model.right.size,
            tokens=int(model.tokens.sum()),
            answer_rule=self.rule,
            seed=self.settings.seed,
            run=self.settings.run,
            note="; ".join(filter(None, (note, late))),
            **_training(arm),
            **numbers,
        )


def _training(runs: Sequence[TrainedRun] | None) -> dict[str, Any]:
    """Columns that say how an arm was trained; none for base and teacher."""
    return {"selector": runs[0].selector, "rollout_length": runs[0].rollout_length} if runs else {}


def _same(numbers: Sequence[float]) -> float:
    """The number that all are; NaN where they differ."""
    return numbers[0] if len(set(numbers)) == 1 else math.nan


def _with_holm(rows: Iterable[Measurement]) -> list[Measurement]:
    """The rows with p-values corrected over the arms of one comparison, answer rule, checkpoint
    rule and kind of mean."""
    corrected = list(rows)
    families: dict[tuple[str, str, str, str], list[int]] = {}
    for index, row in enumerate(corrected):
        if not math.isnan(row.p_value):
            families.setdefault((row.what, row.condition, row.view, row.estimand), []).append(index)
    for members in families.values():
        adjusted = st.holm([corrected[index].p_value for index in members])
        for index, p_value in zip(members, adjusted, strict=True):
            corrected[index] = replace(corrected[index], p_value_holm=float(p_value))
    return corrected
