"""The record of a training run: run.json."""

from __future__ import annotations

from typing import Any

from decaylab.options import declared
from decaylab.options.option_values import words
from decaylab.options.training import NO_PROBLEMS, TrainOptions
from decaylab.pair import kept_prompts
from decaylab.rollouts.engine_spec import engine_record
from decaylab.runs import records
from decaylab.runs.vocabulary import STUDENT, TEACHER
from decaylab.trainer.machinery.setup import TrainSetup

# Options that a measurement of a checkpoint takes from its run by default (see `targets`).
MEASURED_WITH = (
    "teacher",
    "student",
    "max_tokens",
    "teacher_revision",
    "student_revision",
    "temperature",
    "top_p",
    "top_k",
    "teacher_prompt",
    "prompt_format",
    "thinking",
    "system",
    "teacher_system",
    "instruction",
    "template_kwargs",
)


def run_record(setup: TrainSetup, command: str) -> dict[str, Any]:
    """run.json of a training run."""
    options, pair = setup.options, setup.pair
    policies = {STUDENT: pair.student, TEACHER: pair.teacher}
    identity = records.identity_of_pair(
        policies,
        pair.problem_set,
        kept_prompts.digest(pair.prompts),
        trained_on=len(pair.problems),
        held_out=[problem.problem_id for problem in setup.validation],
        overlap_with_test=setup.overlap,
    )
    identity |= {
        "options": measured_with(options),
        "training": declared.identity(options, declared.TRAINED),
        "end_ids": records.end_ids(policies),
        **records.own_parts(options, pair.problem_set),
    }
    return records.run_record(
        command,
        identity,
        notes=pair.notes,
        prompt_notes=pair.prompt_notes,
        engine=engine_record(options),
        preset=options.preset,
        example_prompt=records.example_prompt(policies, pair.prompts),
    )


def measured_with(options: TrainOptions) -> dict[str, Any]:
    """The options of the run for a measurement, with the test problems as its problems."""
    measured = {name: getattr(options, name) for name in MEASURED_WITH}
    if options.test_problems != NO_PROBLEMS:
        measured["problems"] = words(str(options.test_problems))[0]
    if options.stop_at:
        measured["rollout_length"] = options.stop_at
    return measured
