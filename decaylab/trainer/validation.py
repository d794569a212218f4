"""Validation: full rollouts on held-out problems, with the same random numbers each time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from decaylab.maths.statistics import Estimate, proportion
from decaylab.maths.token_means import means
from decaylab.printing import percent, rounded
from decaylab.problems import thoughts
from decaylab.problems.grading import Grader
from decaylab.problems.problem import Problem
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Engine, Request, Response, settings_of
from decaylab.runs.rows import of_cells
from decaylab.runs.vocabulary import RESPONSE_LOG_RATIO, STUDENT, TEACHER
from decaylab.tokens.scoring import Rollout, Scorer
from decaylab.trainer import alarms
from decaylab.trainer.alarms import Behaviour
from decaylab.trainer.machinery.setup import TrainSetup

LEVEL = 0.95  # of the intervals


@dataclass(frozen=True)
class HeldOut:
    """One held-out rollout. tokens: those that were scored. reverse_kl: summed over them, in nats.
    written: its tokens. log_ratio: with two tokenizers, the sum over its spans instead; NaN if it
    could not be aligned."""

    problem_id: str
    correct: bool
    tokens: int
    reverse_kl: float
    written: int
    ended: bool
    repetitive: bool
    log_ratio: float = math.nan


class Scored(NamedTuple):
    """What is scored of one rollout; the columns are those of `HeldOut`."""

    tokens: int
    reverse_kl: float
    log_ratio: float = math.nan


NO_TOKENS = Scored(0, 0.0)
Scores = Callable[[TrainSetup, Sequence[Problem], Sequence[Response]], dict[str, Scored]]
"""Scores of the rollouts that have any, by problem."""


class TokenScores:
    """Scores of rollouts where both policies have one tokenizer."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def __call__(
        self, setup: TrainSetup, problems: Sequence[Problem], responses: Sequence[Response]
    ) -> dict[str, Scored]:
        """The rollouts up to the first token outside the shared vocabulary, without empty ones."""
        rollouts, prompts = [], setup.pair.prompts
        for problem, response in zip(problems, responses, strict=True):
            name, vocabulary = problem.problem_id, self.scorer.vocabulary
            readable = response.ids[: vocabulary.readable(response.ids)]
            if readable:
                student, teacher = prompts[STUDENT][name], prompts[TEACHER][name]
                rollouts.append(Rollout(name, student, teacher, readable))
        found = {}
        for rollout in self.scorer.score(rollouts):
            kl = rollout.columns["reverse_kl"].astype("float64")
            found[rollout.rollout_id] = Scored(len(kl), float(kl.sum()))
        return found


class Validation:
    """Samples, grades and scores one full rollout per held-out problem."""

    def __init__(
        self, setup: TrainSetup, engine: Engine, scorer: Scores, grader: Grader, share: slice
    ) -> None:
        """share: this process's part of the problems."""
        self.setup, self.engine, self.scores, self.grader = setup, engine, scorer, grader
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
        scored = self.scores(self.setup, self.problems, responses)
        correct = self._correct(requests, responses, reporter)
        held_out = []
        for name, response, is_correct in zip(names, responses, correct, strict=True):
            held_out.append(
                HeldOut(
                    name,
                    is_correct,
                    **scored.get(name, NO_TOKENS)._asdict(),
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


def row(step: int, held_out: Sequence[HeldOut]) -> dict[str, Any]:
    """A row of validation.csv from the rollouts of all processes.

    Means over problems, of the KL over tokens (nats); accuracy and KL with their 95 % intervals
    over problems, NaN where undefined.
    """
    # In one order, whichever process had which problem.
    rollouts = sorted(held_out, key=lambda one: one.problem_id)
    accuracy = proportion([one.correct for one in rollouts], np.arange(len(rollouts)))
    kl = mean_of([one.reverse_kl for one in rollouts], [one.tokens for one in rollouts])

    def mean(name: str) -> float:
        values = [float(getattr(one, name)) for one in rollouts]
        return sum(values) / len(values) if values else math.nan

    return {
        "step": step,
        "problems": len(rollouts),
        "tokens": sum(one.tokens for one in rollouts),
        **with_interval("accuracy", accuracy),
        **with_interval("reverse_kl", kl),
        "response_tokens": mean("written"),
        "natural_stop_share": mean("ended"),
        "repetition_share": mean("repetitive"),
    }


def mean_of(sums: Sequence[float], counts: Sequence[float], *, signed: bool = False) -> Estimate:
    """The mean over counts, with its interval; sums and counts of each problem.

    signed: the sums can be below 0.
    """
    total, count = (np.array(one, dtype=np.float64).reshape(-1, 1) for one in (sums, counts))
    (estimate,) = of_cells(means(total, count, signed=signed), level=LEVEL)
    return estimate


def with_interval(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def words(row: dict[str, Any]) -> str:
    """A row of validation.csv in a phrase."""
    distance = f"reverse KL {rounded(row['reverse_kl'], 4)} nats, "
    if RESPONSE_LOG_RATIO in row:
        distance = (
            f"log-ratio {rounded(row[RESPONSE_LOG_RATIO], 2)} nats a response "
            f"({row['finished']} finished), {rounded(row['log_ratio'], 4)} a token, "
        )
    return (
        f"held-out accuracy {rounded(percent(row['accuracy']), 1)} %, {distance}"
        f"{rounded(row['response_tokens'])} tokens ({row['problems']} problems)"
    )


def behaviour(values: dict[str, Any]) -> Behaviour:
    """The behaviour in a row of the metrics or validation file."""
    return Behaviour(
        values["response_tokens"], values["natural_stop_share"], values["repetition_share"]
    )
