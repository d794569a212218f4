"""Rates: as somebody stated them, or measured by a probe, a short batch of each phase with the
models that are here."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from decaylab.errors import UserError
from decaylab.options.measuring import Options, PairOptions
from decaylab.options.planning import PlanOptions
from decaylab.pair.prepare import Setup, prepare
from decaylab.planner.phases import Phase
from decaylab.policies.loading import Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems.grading import Grader
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings
from decaylab.trainer.draw import TrainingRollout
from decaylab.trainer.machinery.adapters import Trainable
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.step import Gradient

TOKENS, READ = 32, 16
"""Of each response that is sampled; and how many of them are scored and trained on."""


@dataclass(frozen=True)
class Rates:
    """Tokens a second by whose they are: student and teacher sampled, scored, scored wider,
    trained. source: in words.

    A batch of more rows writes more tokens a second: rates that are known of a number of rows alone
    are ``student x 256``.
    """

    source: str
    by_name: dict[str, float]

    def seconds(self, phase: Phase) -> float | None:
        """How long a phase takes; None where its rate is unknown."""
        rate = self.by_name.get(
            _of_rows(phase.work.rate, phase.rows), self.by_name.get(phase.work.rate)
        )
        return None if rate is None else phase.work.tokens / rate / phase.work.sharers

    @classmethod
    def stated(cls, numbers: tuple[float, ...]) -> Rates:
        """Of sampling by either policy, and of scoring and training where they were given."""
        names = (("student", "teacher"), ("scored", "scored wider"), ("trained",))
        return cls("as stated", {name: rate for rate, own in zip(numbers, names) for name in own})


def _of_rows(role: str, rows: int) -> str:
    return f"{role} x {rows}"


def probe(options: PlanOptions, phases: Sequence[Phase]) -> Rates:
    """Loads both policies here; samples with as many rows as each phase has, scores and, where it
    is planned, trains a little.

    Raises:
        UserError: policies or problems that cannot be loaded, as in the run itself.
    """
    if options.problems == "rollouts":
        raise UserError(
            f"--probe asks problems, and {options.rollouts} is not read for them; say --problems"
        )
    given: dict[str, Any] = {
        field.name: getattr(options, field.name) for field in fields(PairOptions)
    }
    with Grader(workers=1) as grader:
        setup = prepare(Options(**given | {"rollouts": None, "workers": 1, "ray": None}), grader)
    found, responses = {}, _sample(setup, "student", setup.student, READ)[1]
    for role, rows in sorted(
        {(one.work.rate, one.rows) for one in phases if one.kind == "sampling"}
    ):
        policy = setup.student if role == "student" else setup.teacher
        found[_of_rows(role, rows)] = _sample(setup, role, policy, rows)[0]
    rollouts = _rollouts(setup, responses)
    if set(options.only) & {"diagnostics", "train"}:
        found["scored"] = _score(setup, rollouts, 4096)
    if "diagnostics" in options.only and options.floor_problems:
        with setup.student.wider(), setup.teacher.wider():
            found["scored wider"] = _score(setup, rollouts, 1)
    if "train" in options.only:
        found["trained"] = _train(setup, options, rollouts)
    device = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"this CPU, {torch.get_num_threads()} threads"
    )
    return Rates(f"measured by the probe on {device}, {TOKENS} tokens a sequence", found)


Responses = Sequence[tuple[str, tuple[int, ...]]]
"""Problems, and what was written to them."""


def _sample(setup: Setup[Options], role: str, policy: Policy, rows: int) -> tuple[float, Responses]:
    """The rate of a batch as the plan's own, and the batch."""
    prompts, samples = setup.prompts[role], setup.options.samples
    asked = [setup.problems[row // samples % len(setup.problems)].problem_id for row in range(rows)]
    requests = [
        Request(prompts[one], (), TOKENS, "probe", one, row) for row, one in enumerate(asked)
    ]
    engine = TransformersEngine(policy, batch_rows=rows)
    engine.sample([replace(one, max_new_tokens=2) for one in requests], SamplingSettings())
    written = []
    rate = _rate(
        lambda: written.extend(engine.sample(requests, SamplingSettings())),
        lambda: sum(len(one.ids) for one in written),
    )
    return rate, [(place, one.ids) for place, one in zip(asked, written, strict=True)]


def _rollouts(setup: Setup[Options], responses: Responses) -> list[Rollout]:
    """Some of the student's responses, up to what both can read; one of the prompt's own ids where
    none is left."""
    vocabulary, found = share_vocabulary(setup.student, setup.teacher), []
    for row, (place, ids) in enumerate(responses):
        own, theirs = (setup.prompts[role][place] for role in ("student", "teacher"))
        found.append(Rollout(str(row), own, theirs, ids[: vocabulary.readable(ids)] or own[:1]))
    return found


def _score(setup: Setup[Options], rollouts: list[Rollout], batch_tokens: int) -> float:
    scorer = Scorer(setup.student, setup.teacher, ScoringSettings(batch_tokens=batch_tokens))
    scorer.score(rollouts[:1])
    return _rate(lambda: scorer.score(rollouts), lambda: sum(one.context for one in rollouts))


def _train(setup: Setup[Options], options: PlanOptions, rollouts: list[Rollout]) -> float:
    student, training = setup.student, options.training()
    Trainable(student, training)
    heads, vocabulary = (
        (Head(student), Head(setup.teacher)),
        share_vocabulary(student, setup.teacher),
    )
    gradient = Gradient(
        heads, vocabulary, training, Meter(student.weights.device), 1, training.budget
    )
    read = [TrainingRollout(one, one.response, False) for one in rollouts]
    student.weights.train(training.gradient_checkpointing)
    gradient.add(read[:1])
    return _rate(lambda: gradient.add(read), lambda: sum(one.context for one in rollouts))


def _rate(work: Callable[[], Any], tokens: Callable[[], int]) -> float:
    started = time.monotonic()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return tokens() / (time.monotonic() - started)
