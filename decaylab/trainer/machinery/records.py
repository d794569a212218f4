"""What a training run says about itself: run.json, and the model card of its checkpoints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from decaylab.options import declared
from decaylab.options.training import NO_PROBLEMS, TrainOptions
from decaylab.pair import kept_prompts
from decaylab.policies.identity import versions
from decaylab.rollouts.engine_spec import engine_record
from decaylab.trainer.machinery.setup import TrainSetup

# What a measurement of a checkpoint takes over from the run, where nothing else is said (see
# `targets`).
MEASURED_WITH = (
    *(
        "teacher",
        "student",
        "max_tokens",
        "teacher_revision",
        "student_revision",
        "temperature",
        "top_p",
        "top_k",
    ),
    *(
        "teacher_prompt",
        "prompt_format",
        "thinking",
        "system",
        "teacher_system",
        "instruction",
        "template_kwargs",
    ),
)


def run_record(setup: TrainSetup, command: str) -> dict[str, Any]:
    """run.json. What stands under ``identity`` must agree for a run to be resumed."""
    options, pair = setup.options, setup.pair
    policies = {"student": pair.student, "teacher": pair.teacher}
    example = next(iter(pair.prompts["student"]))
    return {
        "command": command,
        "preset": options.preset,
        "identity": {
            "options": measured_with(options),
            "training": declared.identity(options, declared.TRAINED),
            **{role: asdict(policy.identity) for role, policy in policies.items()},
            "engine": engine_record(options),
            "precision": {role: policy.precision for role, policy in policies.items()},
            "end_ids": {role: sorted(policy.end_ids) for role, policy in policies.items()},
            "prompts": kept_prompts.digest(pair.prompts),
            "problems": {
                "name": pair.problem_set.name,
                "version": pair.problem_set.version,
                "content_hash": pair.problem_set.content_hash,
                "instruction": pair.problem_set.instruction,
                "trained_on": len(pair.problems),
                "held_out": [problem.problem_id for problem in setup.validation],
                "overlap_with_test": setup.overlap,
            },
        },
        "versions": versions(),
        "example_prompt": {
            role: policy.tokenizer.decode(list(pair.prompts[role][example]))
            for role, policy in policies.items()
        },
        "notes": list(pair.notes),
        "prompt_notes": list(pair.prompt_notes),
    }


def measured_with(options: TrainOptions) -> dict[str, Any]:
    """Options as a measurement means them: its problems are those of the test."""
    found = {name: getattr(options, name) for name in MEASURED_WITH}
    if options.test_problems != NO_PROBLEMS:
        found["problems"] = options.test_problems
    if options.stop_at:
        found["rollout_length"] = options.stop_at
    return found


def card(setup: TrainSetup, step: int, run: str) -> str:
    """The model card of a checkpoint, in Markdown."""
    options = setup.options
    kind = (
        "full fine-tuning"
        if options.full_finetune
        else f"LoRA, r = {options.lora_rank}, alpha = {options.lora_alpha}"
    )
    stop = (
        f"{options.stop_at} tokens"
        if options.stop_at
        else f"full rollouts (at most {options.max_tokens} tokens)"
    )
    end = "scored" if options.score_end else "not scored"
    library = "transformers" if options.full_finetune else "peft"
    problems = setup.pair.problem_set
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
| student before training | {options.student} (contents {setup.student.identity.content_hash[:12]}) |
| teacher | {options.teacher} (contents {setup.teacher.identity.content_hash[:12]}) |
| training problems | {problems.name}, {problems.version}; {len(setup.pair.problems)} of them |
| rollouts | stop at {stop}; T = {options.temperature:g}, top-p {options.top_p:g}, top-k {options.top_k} |
| a step | {options.problems_per_step} problems x {options.rollouts_per_problem} |
| loss | {options.divergence}, T = 1, mean over {options.normalise}; end-of-turn token {end} |
| where it falls | selector {options.selector}{f", {options.budget} tokens a rollout" if options.budget else ""} |
| what is trained | {kind} |
| optimizer | AdamW, lr {options.learning_rate:g}, {options.schedule}, warm-up {options.warmup_steps}, clip {options.clip:g} |
| seed | {options.seed} |

`decaylab evaluate` and `decaylab position-kl` take this folder as it is.
"""  # noqa: E501
