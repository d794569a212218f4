"""Rates in tokens per second: given by the user, or measured on a short batch of each phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from decaylab.errors import UserError
from decaylab.options.measuring import Options
from decaylab.options.pair_options import PairOptions
from decaylab.options.planning import PlanOptions
from decaylab.pair.prepare import Setup, prepare
from decaylab.planner.phases import Phase
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems.grading import Grader
from decaylab.rollouts.sampling import Request, Response, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings
from decaylab.trainer.draw import TrainingRollout
from decaylab.trainer.machinery.adapters import Trainable
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.step import Gradient

TOKENS = 32  # per sampled response
READ = 16  # responses that are scored and trained on
SCORED_TOKENS = 4096  # per scored batch


@dataclass(frozen=True)
class Rates:
    """Tokens per second, by name: student, teacher (sampling), scored, scored wider, trained.

    source: where the rates come from. Larger batches sample more tokens per second, so a rate for
    one number of rows is named, for example, ``student x 256``.
    """

    source: str
    by_name: dict[str, float]

    def seconds(self, phase: Phase) -> float | None:
        """Duration of a phase in seconds; None if its rate is unknown."""
        rate = self.by_name.get(f"{phase.rate} x {phase.rows}", self.by_name.get(phase.rate))
        return None if rate is None else phase.tokens / rate / phase.sharers

    @classmethod
    def stated(cls, numbers: tuple[float, ...]) -> Rates:
        """Rates given as numbers: sampling, then optionally scoring and training."""
        kinds = (("student", "teacher"), ("scored", "scored wider"), ("trained",))
        by_name = {name: rate for rate, names in zip(numbers, kinds) for name in names}
        return cls("from --tokens-per-second", by_name)


def load(options: PlanOptions, grader: Grader) -> Setup[Options]:
    """Loads the pair and its problems for a probe.

    Raises:
        UserError: policies or problems that cannot be loaded, as in the run itself.
    """
    if options.problems == "rollouts":
        raise UserError(f"--probe does not read problems from {options.rollouts}; set --problems")
    names = [field.name for field in fields(PairOptions)]
    given: dict[str, Any] = {name: getattr(options, name) for name in names}
    # The probe samples in this process.
    return prepare(Options(**given | {"rollouts": None, "workers": 1, "ray": None}), grader)


def probe(setup: Setup[Options], options: PlanOptions, phases: Sequence[Phase], rows: int) -> Rates:
    """Measures the rates of sampling, and of scoring and training if they are planned.

    rows: rows of each sampled batch; 0 uses those of the phase.
    """
    rates: dict[str, float] = {}
    batches = {(phase.rate, phase.rows) for phase in phases if phase.rows}
    for role, planned in sorted(batches):
        name = role if rows else f"{role} x {planned}"
        if name not in rates:
            rates[name] = _sample(setup, role, rows or planned)[0]
    if set(options.only) & {"diagnostics", "train"}:
        rollouts = _rollouts(setup, _sample(setup, "student", READ)[1])
        rates["scored"] = _score(setup, rollouts, SCORED_TOKENS)
        if "diagnostics" in options.only and options.floor_problems:
            with setup.student.wider(), setup.teacher.wider():
                rates["scored wider"] = _score(setup, rollouts, 1)
        if "train" in options.only:
            rates["trained"] = _train(setup, options, rollouts)
    device = f"this CPU, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name()
    return Rates(f"measured by the probe on {device}, {TOKENS} tokens per sequence", rates)


Sampled = list[tuple[str, Response]]
"""Problem ids and the responses sampled for them."""


def _sample(setup: Setup[Options], role: str, rows: int) -> tuple[float, Sampled]:
    """Samples a batch of this many rows; returns its rate and its responses."""
    prompts, samples = setup.prompts[role], int(setup.options.samples or 1)
    policy = setup.student if role == "student" else setup.teacher
    requests = []
    for row in range(rows):
        problem = setup.problems[row // samples % len(setup.problems)].problem_id
        requests.append(Request(prompts[problem], (), TOKENS, "probe", problem, row))
    engine = TransformersEngine(policy, batch_rows=rows)
    warm_up = [replace(request, max_new_tokens=2) for request in requests]
    engine.sample(warm_up, SamplingSettings())
    written: list[Response] = []
    rate = _rate(
        lambda: written.extend(engine.sample(requests, SamplingSettings())),
        lambda: sum(len(response.ids) for response in written),
    )
    problems = [request.problem_id for request in requests]
    return rate, list(zip(problems, written, strict=True))


def _rollouts(setup: Setup[Options], sampled: Sampled) -> list[Rollout]:
    """Student responses up to the first unshared id; if that leaves nothing, one prompt id."""
    vocabulary, rollouts = share_vocabulary(setup.student, setup.teacher), []
    for row, (problem, response) in enumerate(sampled):
        student, teacher = (setup.prompts[role][problem] for role in ("student", "teacher"))
        ids = response.ids[: vocabulary.readable(response.ids)] or student[:1]
        rollouts.append(Rollout(str(row), student, teacher, ids))
    return rollouts


def _score(setup: Setup[Options], rollouts: list[Rollout], batch_tokens: int) -> float:
    scorer = Scorer(setup.student, setup.teacher, ScoringSettings(batch_tokens=batch_tokens))
    scorer.score(rollouts[:1])
    return _rate(lambda: scorer.score(rollouts), lambda: _context(rollouts))


def _context(rollouts: list[Rollout]) -> int:
    return sum(rollout.context for rollout in rollouts)


def _train(setup: Setup[Options], options: PlanOptions, rollouts: list[Rollout]) -> float:
    student, teacher, training = setup.student, setup.teacher, options.training()
    Trainable(student, training)
    heads = Head(student), Head(teacher)
    meter = Meter(student.weights.device)
    vocabulary = share_vocabulary(student, teacher)
    gradient = Gradient(heads, vocabulary, training, meter, training.budget)
    read = [TrainingRollout(rollout, rollout.response, False) for rollout in rollouts]
    student.weights.train(training.gradient_checkpointing)
    gradient.add(read[:1])
    return _rate(lambda: gradient.add(read), lambda: _context(rollouts))


def _rate(work: Callable[[], Any], tokens: Callable[[], int]) -> float:
    """Tokens per second of work, run once."""
    started = time.monotonic()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return tokens() / (time.monotonic() - started)
