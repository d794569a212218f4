"""The records of a training run: run.json, and the model card of its checkpoints."""

from __future__ import annotations

from typing import Any

from decaylab.options import declared
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
        engine_record(options),
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
        preset=options.preset,
        example_prompt=records.example_prompt(policies, pair.prompts),
    )


def measured_with(options: TrainOptions) -> dict[str, Any]:
    """The options of the run for a measurement, with the test problems as its problems."""
    measured = {name: getattr(options, name) for name in MEASURED_WITH}
    if options.test_problems != NO_PROBLEMS:
        measured["problems"] = options.test_problems
    if options.stop_at:
        measured["rollout_length"] = options.stop_at
    return measured


def card(setup: TrainSetup, step: int, run: str) -> str:
    """The model card of a checkpoint, in Markdown."""
    options, problems = setup.options, setup.pair.problem_set
    library, trained = "peft", f"LoRA, r = {options.lora_rank}, alpha = {options.lora_alpha}"
    if options.full_finetune:
        library, trained = "transformers", "full fine-tuning"
    stop = f"full rollouts (at most {options.max_tokens} tokens)"
    if options.stop_at:
        stop = f"{options.stop_at} tokens"
    end = "scored" if options.score_end else "not scored"
    budget = f", {options.budget} tokens per rollout" if options.budget else ""
    student, teacher = setup.student.identity, setup.teacher.identity
    return f"""---
base_model: {options.student}
library_name: {library}
pipeline_tag: text-generation
tags:
- on-policy-distillation
- decaylab
---
# {options.student}, distilled on-policy from {options.teacher}: step {step} of {options.steps}

Trained by decaylab (run `{run}`).

| | |
|---|---|
| student before training | {options.student} (contents {student.content_hash[:12]}) |
| teacher | {options.teacher} (contents {teacher.content_hash[:12]}) |
| training problems | {problems.name}, {problems.version}; {len(setup.pair.problems)} of them |
| rollouts | stop at {stop}; T = {options.temperature:g}, top-p {options.top_p:g}, top-k {options.top_k} |
| step | {options.problems_per_step} problems x {options.rollouts_per_problem} |
| loss | {options.divergence}, T = 1, mean over {options.normalise}; end-of-turn token {end} |
| selector | {options.selector}{budget} |
| trained weights | {trained} |
| optimizer | AdamW, lr {options.learning_rate:g}, {options.schedule}, warm-up {options.warmup_steps}, clip {options.clip:g} |
| seed | {options.seed} |

`decaylab evaluate` and `decaylab position-kl` accept this folder.
"""  # noqa: E501
