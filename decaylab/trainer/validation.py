"""Held-out problems: how the student does on them with full rollouts, at each checkpoint, on the
same random numbers."""

from __future__ import annotations

import math
from typing import Any

from decaylab.analyses.behaviour import repetition_3gram
from decaylab.problems import thoughts
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Engine, Request, SamplingSettings
from decaylab.tokens.scoring import Rollout, Scorer
from decaylab.trainer.alarms import Behaviour
from decaylab.trainer.machinery.setup import TrainSetup
from decaylab.trainer.step import REPETITIVE


class Validation:
    """Samples one full rollout to each held-out problem, grades it, and scores it by both
    policies."""

    def __init__(
        self, setup: TrainSetup, engine: Engine, scorer: Scorer, grader: Grader, share: slice
    ) -> None:
        """share: of the problems, those that this process takes."""
        self.setup, self.engine, self.scorer, self.grader = setup, engine, scorer, grader
        self.problems = setup.validation[share]

    def sums(self, reporter: Reporter) -> dict[str, float]:
        """Counts and sums over this process's problems."""
        options, prompts = self.setup.options, self.setup.pair.prompts
        requests = [
            Request(
                prompts["student"][one.problem_id],
                (),
                int(options.max_tokens or 1),
                "validation",
                one.problem_id,
                0,
            )
            for one in self.problems
        ]
        with reporter.stage("validation", len(requests)) as progress:
            sampling = SamplingSettings(
                options.temperature, options.top_p, options.top_k, options.seed
            )
            responses = self.engine.sample(requests, sampling, progress.advance)
        student = self.setup.student
        texts = [student.decode(list(one.ids)) for one in responses]
        ends = [student.decode(list(one.prompt_ids[-thoughts.PROMPT_TOKENS :])) for one in requests]
        marks = thoughts.of_pair([student], options.thought_marks)
        rule = self.setup.options.answer_rule or self.setup.pair.problem_set.answer_rule
        gold = [str(one.answer) for one in self.problems]
        verdicts = self.grader.grade(texts, gold, rules=[rule], prompts=ends, marks=marks).verdicts[
            rule
        ]
        inside = sum(
            thoughts.answer_start(*one, marks) is None for one in zip(texts, ends, strict=True)
        )
        if inside:
            reporter.note(
                f"validation: {inside} of {len(texts)} rollouts end inside a thought: no answer"
            )
        scored = []
        for problem, response in zip(self.problems, responses, strict=True):
            readable = response.ids[: self.setup.vocabulary.readable(response.ids)]
            if readable:
                own, theirs = (prompts[role][problem.problem_id] for role in ("student", "teacher"))
                scored.append(Rollout(problem.problem_id, own, theirs, readable))
        columns = [one.columns["reverse_kl"] for one in self.scorer.score(scored)]
        written = [one.ids[:-1] if one.stop_reason == "eos" else one.ids for one in responses]
        return {
            "problems": float(len(requests)),
            "correct": float(sum(verdict.is_correct for verdict in verdicts)),
            "tokens": float(sum(len(one) for one in columns)),
            "reverse_kl": float(sum(one.astype("float64").sum() for one in columns)),
            "written": float(sum(len(ids) for ids in written)),
            "ended": float(sum(one.stop_reason == "eos" for one in responses)),
            "repetitive": float(sum(repetition_3gram(ids) > REPETITIVE for ids in written)),
        }


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


def behaviour(found: dict[str, Any]) -> Behaviour:
    """Of a row of the metrics or validation file."""
    return Behaviour(
        found["response_tokens"], found["natural_stop_share"], found["repetition_share"]
    )
