"""Validation: full rollouts on held-out problems, with the same random numbers each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from decaylab.maths.statistics import Estimate, proportion
from decaylab.maths.token_means import means
from decaylab.problems import thoughts
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Engine, Request, Response, settings_of
from decaylab.runs.rows import of_cells
from decaylab.runs.vocabulary import STUDENT, TEACHER
from decaylab.tokens.scoring import Rollout, Scorer
from decaylab.trainer import alarms
from decaylab.trainer.alarms import Behaviour
from decaylab.trainer.machinery.setup import TrainSetup

LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class HeldOut:
    """One held-out rollout. tokens: those that were scored. reverse_kl: summed over them, in nats.
    written: its tokens."""

    problem_id: str
    correct: bool
    tokens: int
    reverse_kl: float
    written: int
    ended: bool
    repetitive: bool


class Validation:
    """Samples, grades and scores one full rollout per held-out problem."""

    def __init__(
        self, setup: TrainSetup, engine: Engine, scorer: Scorer, grader: Grader, share: slice
    ) -> None:
        """share: this process's part of the problems."""
        self.setup, self.engine, self.scorer, self.grader = setup, engine, scorer, grader
        self.problems = setup.validation[share]

    def outcomes(self, reporter: Reporter) -> list[HeldOut]:
        """A rollout of each of this process's problems, graded and scored."""
        options, prompts = self.setup.options, self.setup.pair.prompts[STUDENT]
        budget = int(options.max_tokens or 1)
        names = [problem.problem_id for problem in self.problems]
        # The stage's name has no step, so every checkpoint draws the same random numbers.
        requests = [Request(prompts[name], (), budget, "validation", name, 0) for name in names]
        with reporter.stage("validation", len(requests)) as progress:
            sampling = settings_of(options)
            responses = self.engine.sample(requests, sampling, progress.advance)
        scored = {
            rollout.rollout_id: rollout.columns["reverse_kl"].astype("float64")
            for rollout in self.scorer.score(self._read(responses))
        }
        correct, nothing = self._correct(requests, responses, reporter), np.zeros(0)
        held_out = []
        for name, response, is_correct in zip(names, responses, correct, strict=True):
            kl = scored.get(name, nothing)
            held_out.append(
                HeldOut(
                    name,
                    is_correct,
                    tokens=len(kl),
                    reverse_kl=float(kl.sum()),
                    written=len(response.written),
                    ended=response.ended,
                    repetitive=alarms.is_repetitive(response.written),
                )
            )
        return held_out

    def _correct(
        self, requests: Sequence[Request], responses: Sequence[Response], reporter: Reporter
    ) -> list[bool]:
        """Whether each rollout is correct."""
        student, options = self.setup.student, self.setup.options
        texts = [student.decode(list(item.ids)) for item in responses]
        ends = [
            student.decode(list(item.prompt_ids[-thoughts.PROMPT_TOKENS :])) for item in requests
        ]
        marks = thoughts.of_pair([student], options.thought_marks)
        rule = options.answer_rule or self.setup.pair.problem_set.answer_rule
        gold = [str(problem.answer) for problem in self.problems]
        graded = self.grader.grade(texts, gold, rules=[rule], prompts=ends, marks=marks)
        inside = sum(
            thoughts.answer_start(text, end, marks) is None
            for text, end in zip(texts, ends, strict=True)
        )
        if inside:
            reporter.note(
                f"validation: {inside} of {len(texts)} rollouts end inside a thought and have no "
                "answer"
            )
        return [verdict.is_correct for verdict in graded.verdicts[rule]]

    def _read(self, responses: Sequence[Response]) -> list[Rollout]:
        """The rollouts up to the first token outside the shared vocabulary, without empty ones."""
        prompts = self.setup.pair.prompts
        rollouts = []
        for problem, response in zip(self.problems, responses, strict=True):
            name = problem.problem_id
            readable = response.ids[: self.setup.vocabulary.readable(response.ids)]
            if readable:
                student, teacher = prompts[STUDENT][name], prompts[TEACHER][name]
                rollouts.append(Rollout(name, student, teacher, readable))
        return rollouts


def row(step: int, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    """A row of validation.csv from the rollouts of all processes.

    Means over problems, of the KL over tokens (nats); accuracy and KL with their 95 % intervals
    over problems, NaN where undefined.
    """
    # In one order, whichever process had which problem.
    rollouts = sorted(held_out, key=lambda one: one.problem_id)
    accuracy = proportion([one.correct for one in rollouts], np.arange(len(rollouts)))
    sums, counts = (
        np.array([[float(getattr(one, name))] for one in rollouts]).reshape(-1, 1)
        for name in ("reverse_kl", "tokens")
    )
    (kl,) = of_cells(means(sums, counts), level=LEVEL)

    def mean(name: str) -> float:
        values = [float(getattr(one, name)) for one in rollouts]
        return sum(values) / len(values) if values else math.nan

    return {
        "step": step,
        "problems": len(rollouts),
        "tokens": int(counts.sum()),
        **_with_interval("accuracy", accuracy),
        **_with_interval("reverse_kl", kl),
        "response_tokens": mean("written"),
        "natural_stop_share": mean("ended"),
        "repetition_share": mean("repetitive"),
    }


def _with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def behaviour(values: dict[str, Any]) -> Behaviour:
    """The behaviour in a row of the metrics or validation file."""
    return Behaviour(
        values["response_tokens"], values["natural_stop_share"], values["repetition_share"]
    )
