"""The model card of a checkpoint, README.md in its folder.

It depends on the run's settings, its held-out results and the installed versions only, so a run
that was killed and resumed writes the same bytes as one that nothing disturbed.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from decaylab.options import declared
from decaylab.options.training import NO_PROBLEMS, TrainOptions
from decaylab.policies.identity import PolicyIdentity, versions
from decaylab.printing import with_interval
from decaylab.runs.model_cards import (
    PAPER,
    SHORT_HASH,
    base_id,
    called,
    front_matter,
    portable_command,
    table,
)
from decaylab.runs.vocabulary import FRACTION, NATS, RESPONSE_LOG_RATIO
from decaylab.trainer.machinery.setup import TrainSetup

VERSIONS = ("decaylab", "torch", "transformers", "peft")
HELD_OUT = (
    ("accuracy (%)", "accuracy", FRACTION),
    ("reverse KL (nats per token)", "reverse_kl", NATS),
)
HELD_OUT_SPANS = (
    HELD_OUT[0],
    ("log-ratio of a response up to the budget (nats)", RESPONSE_LOG_RATIO, NATS),
    ("log-ratio (nats per token of the student)", "log_ratio", NATS),
)
TITLE = "{student}, distilled on-policy from {teacher}: step {step} of {steps}"
ABOUT = """Trained by decaylab (run `{run}`). The student writes rollouts; the loss
compares it with its teacher at the positions that a selector chooses, in the setting of
[Less is More: Early Stopping Rollout for On-Policy Distillation]({paper})."""
HELD_OUT_WORDS = """{problems} problems that were not trained on, one full rollout each; in brackets
95 % intervals over problems. They are for choosing a checkpoint: `decaylab evaluate` measures it on
a test."""
AGAIN = "`decaylab evaluate` and `decaylab position-kl` accept this folder. To train it again:"


def card(
    setup: TrainSetup,
    step: int,
    run: str,
    held_out: Sequence[Mapping[str, Any]] = (),
    alarms: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The card in Markdown.

    Args:
        setup: of the run.
        step: of the checkpoint.
        run: the run's name.
        held_out: the rows of validation.csv up to this step, the first from before training; none
            if nothing is held out.
        alarms: those that were raised up to this step, as run.json has them.
    """
    options = setup.options
    student, teacher = (called(str(name)) for name in (options.student, options.teacher))
    parts = [
        f"# {TITLE.format(student=student, teacher=teacher, step=step, steps=options.steps)}",
        ABOUT.format(run=run, paper=PAPER),
        "## Training",
        table(("", ""), _training(setup)),
        "## Held-out problems",
        *_results(step, held_out),
        *(f"**Alarm at step {one['step']}:** {one['alarm']}" for one in alarms),
        "## Use",
        f"{AGAIN}\n\n```bash\n{_command(options)}\n```",
        "## Framework versions",
        "\n".join(f"- {name} {versions()[name]}" for name in VERSIONS),
    ]
    front = front_matter(
        library="transformers" if options.full_finetune else "peft",
        base_model=base_id(asdict(setup.student.identity)),
        tags=() if options.full_finetune else ("lora",),
    )
    return "\n\n".join([f"{front}{parts[0]}", *parts[1:]]) + "\n"


def _training(setup: TrainSetup) -> Iterator[tuple[str, str]]:
    options, problems = setup.options, setup.pair.problem_set
    yield "student before training", _policy(setup.student.identity)
    yield "teacher", _policy(setup.teacher.identity)
    of_set = f"{called(problems.name)}, {problems.version}"
    digest = problems.content_hash[:SHORT_HASH]
    count = f"{len(setup.pair.problems)} of them"
    yield "training problems", f"{of_set}, contents {digest}; {count}"
    if options.test_problems != NO_PROBLEMS:
        yield "left out of them", f"the problems of {called(str(options.test_problems))}"
    yield "selector", f"{options.selector}{_budget(options)}"
    yield "rollouts", _rollouts(options)
    each = f"{options.problems_per_step} problems x {options.rollouts_per_problem}"
    yield "a step", f"{each}; {options.steps} steps in all"
    end = "scored" if options.score_end else "not scored"
    loss = f"{options.divergence}, T = 1, mean over {options.normalise}"
    yield "loss", f"{loss}; end-of-turn token {end}"
    trained = f"LoRA, r = {options.lora_rank}, alpha = {options.lora_alpha}, {options.lora_targets}"
    yield "trained weights", "all of them" if options.full_finetune else trained
    yield "optimizer", _optimizer(options)
    yield "seed", str(options.seed)


def _policy(policy: PolicyIdentity) -> str:
    revision = f", revision {policy.revision}" if policy.revision else ""
    return f"{called(policy.name)}{revision}, contents {policy.content_hash[:SHORT_HASH]}"


def _budget(options: TrainOptions) -> str:
    ahead = f", behind {options.teacher_prefix} of the teacher" if options.teacher_prefix else ""
    return f", {options.budget} tokens per rollout{ahead}" if options.budget else ""


def _rollouts(options: TrainOptions) -> str:
    stop = f"full (at most {options.max_tokens} tokens)"
    if options.stop_at:
        stop = f"stop at {options.stop_at} tokens"
    drawn = f"T = {options.temperature:g}, top-p {options.top_p:g}, top-k {options.top_k}"
    return f"{stop}; {drawn}"


def _optimizer(options: TrainOptions) -> str:
    rate = f"lr {options.learning_rate:g}, {options.schedule}, warm-up {options.warmup_steps}"
    return f"AdamW, {rate}, clip {options.clip:g}, weight decay {options.weight_decay:g}"


def _results(step: int, held_out: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not held_out:
        yield "None were held out."
        return
    before, now = held_out[0], held_out[-1]
    yield HELD_OUT_WORDS.format(problems=int(now["problems"]))
    rows = [
        (name, *(_with_interval(row, column, unit) for row in (before, now)))
        for name, column, unit in (HELD_OUT_SPANS if RESPONSE_LOG_RATIO in now else HELD_OUT)
    ]
    yield table(("", "before training", f"step {step}"), rows)


def _with_interval(row: Mapping[str, Any], column: str, unit: str) -> str:
    value, low, high = (float(row[f"{column}{end}"]) for end in ("", "_low", "_high"))
    return with_interval(value, low, high, unit)


def _command(options: TrainOptions) -> str:
    """The command line of the run, each option that makes it what it is written out: presets may
    change."""
    values = declared.identity(options, declared.TRAINED)
    values |= {"engine": options.engine, "plugin": options.plugin}
    words = ["decaylab", "train", *declared.as_words(TrainOptions, values)]
    return portable_command(shlex.join(words))
