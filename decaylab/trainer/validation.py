"""Validation: full rollouts on held-out problems, with the same random numbers each time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from decaylab.problems import thoughts
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Engine, Request, Response, SamplingSettings
from decaylab.runs.vocabulary import STUDENT, TEACHER
from decaylab.tokens.scoring import Rollout, Scorer
from decaylab.trainer import alarms
from decaylab.trainer.alarms import Behaviour
from decaylab.trainer.machinery.setup import TrainSetup


class Validation:
    """Samples, grades and scores one full rollout per held-out problem."""

    def __init__(
        self, setup: TrainSetup, engine: Engine, scorer: Scorer, grader: Grader, share: slice
    ) -> None:
        """share: this process's part of the problems."""
        self.setup, self.engine, self.scorer, self.grader = setup, engine, scorer, grader
        self.problems = setup.validation[share]

    def sums(self, reporter: Reporter) -> dict[str, float]:
        """Counts and sums over this process's problems."""
        options, prompts = self.setup.options, self.setup.pair.prompts[STUDENT]
        budget = int(options.max_tokens or 1)
        names = [problem.problem_id for problem in self.problems]
        # The stage's name has no step, so every checkpoint draws the same random numbers.
        requests = [Request(prompts[name], (), budget, "validation", name, 0) for name in names]
        with reporter.stage("validation", len(requests)) as progress:
            sampling = SamplingSettings(
                options.temperature, options.top_p, options.top_k, options.seed
            )
            responses = self.engine.sample(requests, sampling, progress.advance)
        columns = [
            rollout.columns["reverse_kl"] for rollout in self.scorer.score(self._read(responses))
        ]
        written = [response.written for response in responses]
        ended = [response.ended for response in responses]
        return {
            "problems": float(len(requests)),
            "correct": float(self._correct(requests, responses, reporter)),
            "tokens": float(sum(len(column) for column in columns)),
            "reverse_kl": float(sum(column.astype("float64").sum() for column in columns)),
            **alarms.counted(written, ended),
        }

    def _correct(
        self, requests: Sequence[Request], responses: Sequence[Response], reporter: Reporter
    ) -> int:
        """Number of correct rollouts."""
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
        return sum(verdict.is_correct for verdict in graded.verdicts[rule])

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


def row(step: int, sums: dict[str, float]) -> dict[str, Any]:
    """A row of validation.csv from the sums over all processes."""

    def mean(name: str, over: str) -> float:
        return sums[name] / sums[over] if sums[over] else math.nan

    return {
        "step": step,
        "problems": int(sums["problems"]),
        "tokens": int(sums["tokens"]),
        "accuracy": mean("correct", "problems"),
        "reverse_kl": mean("reverse_kl", "tokens"),
        "response_tokens": mean("written", "problems"),
        "natural_stop_share": mean("ended", "problems"),
        "repetition_share": mean("repetitive", "problems"),
    }


def behaviour(values: dict[str, Any]) -> Behaviour:
    """The behaviour in a row of the metrics or validation file."""
    return Behaviour(
        values["response_tokens"], values["natural_stop_share"], values["repetition_share"]
    )
