"""`DecayCallback`: a probe of the student in any trainer of transformers, TRL's among them.

    trainer = DistillationTrainer(model=..., teacher_model=..., args=..., train_dataset=...)
    trainer.add_callback(DecayCallback(trainer, "math500", every=50))
    trainer.train()

It measures before training, every so many optimizer steps and at the end, see `Probe`; the numbers
go to the trainer's trackers and to a run folder. Training is not affected: module modes, random
numbers, gradients and the trainer's own log are as without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Unpack

from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.option_values import Must
from decaylab.policies.loaded_checks import plain_model, refuse_sharded
from decaylab.probing.asked import ProblemsLike, TeacherLike
from decaylab.probing.options import ProbeOptions
from decaylab.probing.probe import Probe
from decaylab.problems.problem import ProblemSet
from decaylab.trainer.alarms import Thresholds

Every = Annotated[int, Must("be at least 1 step", lambda steps: steps >= 1)]


class DecayCallback(TrainerCallback):
    """Measures the student in training: KL from its teacher by position, length and stops.

    With several processes the main one measures and writes while the others wait.

    Args:
        trainer: of transformers or TRL.
        problems: what the student is asked, see `Probe`.
        teacher: see `Probe`; None takes the trainer's own ``teacher_model``, which reads the
            student's prompts.
        every: optimizer steps between measurements.
        out: the run folder; None is ``decay`` in the trainer's output folder.
        fresh: see `Probe`; so are the alarms' thresholds and all options. ``rollout_length`` is by
            default the trainer's own limit on new tokens.

    Raises:
        UserError: anything that cannot be measured, in one line, before training begins.
    """

    def __init__(
        self,
        trainer: Trainer,
        problems: ProblemsLike | ProblemSet,
        teacher: TeacherLike | None = None,
        *,
        every: int = 50,
        out: str | Path | None = None,
        fresh: bool = True,
        thresholds: Thresholds = Thresholds(),
        **options: Unpack[ProbeOptions],
    ) -> None:
        if not isinstance(trainer, Trainer):
            kind = type(trainer).__name__
            raise UserError(f"DecayCallback needs a trainer of transformers or TRL, got {kind}")
        self.trainer, self.every = trainer, option_values.checked("every", Every, every)
        _refuse_sharded(trainer)
        length = _rollout_length(trainer)
        if length is not None:
            options.setdefault("rollout_length", length)
        self.probe = Probe(
            _teacher(trainer) if teacher is None else teacher,
            _tokenizer(trainer),
            problems,
            Path(str(trainer.args.output_dir)) / "decay" if out is None else out,
            fresh=fresh,
            thresholds=thresholds,
            command="DecayCallback",
            **options,
        )
        if trainer.is_world_process_zero():
            self.probe.prepare(trainer.model)
        self._measured_at, self._training = -1, False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._measured_at = -1
        if self.trainer.is_world_process_zero():
            # A trainer that searches for a batch size restarts training itself.
            if state.global_step:
                self.probe.resume(self.trainer.model, state.global_step)
                self._measured_at = self.probe.steps[-1]
            elif self._training and args.auto_find_batch_size:
                self.probe.resume(self.trainer.model, -1)
            self._training = True
        if not state.global_step:
            self._measure(state, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.every == 0 or control.should_training_stop:
            self._measure(state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Also if an evaluation stops training; later the best checkpoint may be loaded.
        if control.should_training_stop:
            self._measure(state, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._training = False

    def _measure(self, state: TrainerState, control: TrainerControl) -> None:
        """Measures and logs; once per step, on the main process only."""
        if self._measured_at == state.global_step or not self.trainer.is_world_process_zero():
            return
        self._measured_at = state.global_step
        reading = self.probe.measure(self.trainer.model, state.global_step)
        # Not through the trainer's own log: TRL's would add its running means and restart them.
        # Logging also clears the flag for the trainer's own log of this step, so it is restored.
        should_log = control.should_log
        Trainer.log(self.trainer, reading.logs)
        control.should_log = should_log


def _teacher(trainer: Trainer) -> Any:
    model, name = getattr(trainer, "teacher_model", None), type(trainer).__name__
    if model is None:
        raise UserError(
            f"{name} has no teacher_model; give DecayCallback a teacher: a name, or a loaded model"
        )
    if getattr(trainer.args, "teacher_tokenizer_name_or_path", None):  # TRL's GOLD
        raise UserError(
            f"the teacher of this {name} has a tokenizer of its own; give DecayCallback the "
            "teacher by name, so that the vocabularies are compared"
        )
    return plain_model(model)


def _tokenizer(trainer: Trainer) -> Any:
    tokenizer = getattr(trainer, "processing_class", None)
    # A processor of text and images has a tokenizer.
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if not hasattr(tokenizer, "get_vocab"):
        raise UserError(
            "the trainer has no tokenizer, which is needed to compare vocabularies: set "
            "processing_class=..."
        )
    return tokenizer


def _rollout_length(trainer: Trainer) -> int | None:
    """Tokens at which the trainer's own rollouts stop, if it trains on nothing else."""
    if getattr(trainer.args, "lmbda", 1.0) < 1:  # TRL's GKD and GOLD: a share of off-policy texts
        return None
    for name in ("max_completion_length", "max_new_tokens"):
        if (length := getattr(trainer.args, name, None)) is not None:
            return int(length)
    return None


def _refuse_sharded(trainer: Trainer) -> None:
    deepspeed = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    if trainer.is_fsdp_enabled or (deepspeed is not None and deepspeed.zero_stage == 3):
        refuse_sharded(type(trainer.model).__name__)
