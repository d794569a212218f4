"""`DecayCallback`: logs the student's KL from its teacher by position, in any transformers trainer.

    student, teacher = policies.load("Qwen/Qwen2.5-Math-1.5B"), policies.load("Qwen/Qwen3-1.7B")
    probe = sample_probe(student, teacher, load_problems("math500", limit=64), max_tokens=512)
    trainer = DistillationTrainer(...)  # TRL's, or any other of transformers
    trainer.add_callback(DecayCallback(trainer, probe, teacher, every=50))
    trainer.train()

The probe is fixed: the same rollouts are scored before training, at regular optimizer steps and at
the end, so that a change is one of the student and not of its text (the frozen view of
``position-kl``). Training is not affected: module modes, random numbers, gradients and the
trainer's own log are restored.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from decaylab.errors import UserError
from decaylab.maths import token_means
from decaylab.maths.statistics import ALIKE, ONE_PROBLEM
from decaylab.maths.winsorised import LEAST_PROBLEMS, interval, winsorised
from decaylab.options.diagnosing import position_bins
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems.sets import ProblemSet
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs.growing_csv import Table
from decaylab.runs.skewed_cells import NO_TOKENS
from decaylab.runs.vocabulary import ALL
from decaylab.tokens.scoring import Rollout, ScoredRollout, Scorer, ScoringSettings
from decaylab.tokens.token_table import check_edges

logger = logging.getLogger(__name__)


def sample_probe(
    student: Policy,
    teacher: Policy,
    problems: ProblemSet,
    *,
    samples: int = 1,
    max_tokens: int = 512,
    sampling: SamplingSettings = SamplingSettings(),
    batch_rows: int = 256,
) -> list[Rollout]:
    """Samples a probe: rollouts of the current student, with both policies' prompts.

    A rollout is cut before the first token outside the shared vocabulary.

    Raises:
        UserError: the tokenizers assign different tokens to one id, or the teacher can read no
            token of any rollout.
    """
    vocabulary, instruction = share_vocabulary(student, teacher), problems.instruction
    requests, teacher_prompts = [], []
    for problem in problems.problems:
        prompt = tuple(student.prompt_ids(problem, instruction))
        read = tuple(teacher.prompt_ids(problem, instruction))
        for sample in range(samples):
            requests.append(Request(prompt, (), max_tokens, "probe", problem.problem_id, sample))
            teacher_prompts.append(read)
    responses = TransformersEngine(student, batch_rows=batch_rows).sample(requests, sampling)
    probe = []
    for request, read, response in zip(requests, teacher_prompts, responses, strict=True):
        readable = response.ids[: vocabulary.readable(response.ids)]
        if readable:
            name = f"probe/{request.problem_id}/{request.sample}"
            probe.append(Rollout(name, request.prompt_ids, read, readable))
    if not probe:
        raise UserError(
            f"no rollout of {student.name} begins with a token that {teacher.name} can read"
        )
    return probe


class DecayCallback(TrainerCallback):
    """Logs the student's mean reverse KL from the teacher by position, in nats per token.

    ``decay/reverse_kl`` is over all tokens of the probe, ``decay/reverse_kl_0-4`` over those at
    response positions 0 to 4, and so on; the last bin has no upper end (``100+``). Bins that no
    rollout of the probe reaches are not logged. Both policies are scored at temperature 1, over
    their shared ids, in the precision of their weights (mixed precision is switched off).

    The file is a CSV with one row per bin and scored step: step, bin, position_low, position_high
    (excluded; infinity for the last bin), reverse_kl, low, high, winsorised_reverse_kl,
    winsorised_low, winsorised_high, tokens, rollouts, problems, probe, note. Intervals are at 95 %
    and resample problems; rollouts with the same prompt belong to one problem. In bins only the
    winsorised mean has an interval, see `decaylab.maths.winsorised`. probe: a hash of rollouts and
    bins.

    With several processes the main one scores and logs while the others wait.

    Args:
        trainer: of transformers or TRL.
        probe: rollouts to score repeatedly; `sample_probe` makes some.
        teacher: None takes the teacher of TRL's DistillationTrainer, whose prompts must then be the
            probe's teacher prompts.
        every: optimizer steps between scorings.
        bins: beginnings of position bins, ascending from 0; the last bin has no upper end. None:
            the bins of ``position-kl``.
        path: of the file; None is ``decay.csv`` in the trainer's output folder.
        batch_tokens: tokens per scoring batch, padding included.

    Raises:
        UserError: weights are sharded over processes, adapters are prompts, tokenizer or teacher
            are missing, or the teacher has another vocabulary. At the beginning of training: the
            file belongs to an earlier run that is not resumed, or to another probe. While scoring:
            NaN in the logits.
    """

    def __init__(
        self,
        trainer: Trainer,
        probe: Sequence[Rollout],
        teacher: Policy | None = None,
        *,
        every: int = 50,
        bins: Sequence[int] | None = None,
        path: Path | str | None = None,
        batch_tokens: int = 4096,
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        if not probe:
            raise ValueError("probe is empty; sample_probe makes rollouts")
        self.bins = tuple(position_bins(embedded=False) if bins is None else bins)
        check_edges(self.bins)
        self.trainer, self.probe, self.every = trainer, list(probe), every
        self.settings = ScoringSettings(batch_tokens=batch_tokens)
        default = Path(str(trainer.args.output_dir)) / "decay.csv"
        self.table = Table(default if path is None else Path(path))
        self.digest = _digest(self.probe, self.bins)
        _refuse_sharded(trainer)
        self.tokenizer = _tokenizer(trainer)
        self.teacher = teacher or self._own_teacher()
        share_vocabulary(self._student(), self.teacher)
        self._scorer: Scorer | None = None
        self._scored_at, self._training = -1, False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.trainer.is_world_process_zero():
            self._open_file(state.global_step)
            self._training = True
            self._score(state, control)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.global_step % self.every == 0 or control.should_training_stop:
            self._score(state, control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Also if an evaluation stops training; later the best checkpoint may be loaded.
        if control.should_training_stop:
            self._score(state, control)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._training = False

    def _open_file(self, step: int) -> None:
        """Resumes the file of the run that continues at this step."""
        path, self._scored_at = self.table.path, -1
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        # A trainer that searches for a batch size restarts training itself.
        if step == 0 and not (self._training and self.trainer.args.auto_find_batch_size):
            raise UserError(
                f"{path} already exists, from an earlier run; give DecayCallback another path, or "
                "remove it"
            )
        self.table.keep_until(step if step else -1)
        with path.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
        if any(row.get("probe") != self.digest for row in rows):
            raise UserError(
                f"{path} was written with another probe or other bins; use the same ones, or give "
                "another path"
            )
        if sum(row["step"] == str(step) for row in rows) == len(self.bins) + 1:
            self._scored_at = step
        else:  # killed while it was written
            self.table.keep_until(step - 1)

    def _score(self, state: TrainerState, control: TrainerControl) -> None:
        """Scores the student, logs and writes; once per step, on the main process only."""
        if self._scored_at == state.global_step or not self.trainer.is_world_process_zero():
            return
        self._scored_at = state.global_step
        rows = self._rows(self._scored())
        logged = {}
        for row in rows:
            if row["tokens"]:
                suffix = "" if row["bin"] == ALL else f"_{row['bin']}"
                logged[f"decay/reverse_kl{suffix}"] = row["reverse_kl"]
        # Not through the trainer's own log: TRL's would add its running means and restart them.
        # Logging also clears the flag for the trainer's own log of this step, so it is restored.
        should_log = control.should_log
        Trainer.log(self.trainer, logged)
        control.should_log = should_log
        for row in rows:
            self.table.append({"step": state.global_step, **row, "probe": self.digest})

    def _scored(self) -> list[ScoredRollout]:
        student = self._student()
        with _undisturbed(student.weights), _undisturbed(self.teacher.weights):
            if self._scorer is None or self._scorer.student.weights is not student.weights:
                self._scorer = Scorer(student, self.teacher, self.settings, logger.warning)
            return self._scorer.score(self.probe)

    def _rows(self, scored: Sequence[ScoredRollout]) -> list[dict[str, Any]]:
        """One row for the whole probe and one per bin."""
        lengths = np.array([len(rollout.response) for rollout in self.probe])
        prompts = {rollout.student_prompt: code for code, rollout in enumerate(self.probe)}
        problems = np.repeat([prompts[rollout.student_prompt] for rollout in self.probe], lengths)
        positions = np.concatenate([np.arange(length) for length in lengths])
        values = np.concatenate([rollout.columns["reverse_kl"] for rollout in scored]).astype(
            np.float64
        )
        cells = np.searchsorted(self.bins, positions, side="right")
        size = len(self.probe), len(self.bins) + 1
        sums, counts = (
            token_means.sums_by_problem(column, problems, cells, *size) for column in (values, None)
        )
        # Cell 0 is still empty: it becomes the sum of all bins.
        sums[:, 0], counts[:, 0] = sums.sum(axis=1), counts.sum(axis=1)
        means, robust = token_means.means(sums, counts), winsorised((sums, counts))
        low, high = token_means.interval(means)
        robust_low, robust_high = interval(robust)
        rows = []
        for cell, (start, end) in enumerate([(0, np.inf), *pairwise((*self.bins, np.inf))]):
            row = {
                "bin": _label(start, end) if cell else ALL,
                "position_low": start,
                "position_high": end,
                "reverse_kl": float(means.value[cell]),
                "low": np.nan if cell else float(low[cell]),
                "high": np.nan if cell else float(high[cell]),
                "winsorised_reverse_kl": float(robust.value[cell]),
                "winsorised_low": float(robust_low[cell]),
                "winsorised_high": float(robust_high[cell]),
                "tokens": int(means.tokens[cell]),
                "rollouts": int((lengths > start).sum()),
                "problems": int(means.problems[cell]),
                "note": _note(means, cell),
            }
            rows.append(row)
        return rows

    def _student(self) -> Policy:
        return _policy("the student", _body(self.trainer, self.trainer.model), self.tokenizer)

    def _own_teacher(self) -> Policy:
        model = getattr(self.trainer, "teacher_model", None)
        if model is None:
            name = type(self.trainer).__name__
            raise UserError(f"{name} has no teacher; give DecayCallback one: policies.load(...)")
        return _policy("the teacher", _body(self.trainer, model), self.tokenizer)


def _digest(probe: Sequence[Rollout], bins: tuple[int, ...]) -> str:
    contents = [
        (rollout.student_prompt, rollout.teacher_prompt, rollout.response) for rollout in probe
    ]
    return "sha256:" + hashlib.sha256(repr((bins, contents)).encode()).hexdigest()[:12]


def _label(start: float, end: float) -> str:
    return f"{start:.0f}+" if end == np.inf else f"{start:.0f}-{end - 1:.0f}"


def _note(means: token_means.CellMeans, cell: int) -> str:
    if not means.tokens[cell]:
        return NO_TOKENS
    if cell > 0 and means.problems[cell] < LEAST_PROBLEMS:
        return f"{means.problems[cell]} problems: an interval needs {LEAST_PROBLEMS}"
    if means.problems[cell] < 2:
        return ONE_PROBLEM
    return ALIKE if means.alike[cell] else ""


def _policy(name: str, model: Any, tokenizer: Any) -> Policy:
    """A model in memory as a policy, only for its logits."""
    identity = PolicyIdentity(name, "folder", "", "")
    return Policy(name, model, tokenizer, identity, LoadSettings(prompt_format="plain"))


def _tokenizer(trainer: Trainer) -> Any:
    tokenizer = getattr(trainer, "processing_class", None)
    if not hasattr(tokenizer, "get_vocab"):
        raise UserError(
            "the trainer has no tokenizer, which is needed to compare vocabularies: set "
            "processing_class=..."
        )
    return tokenizer


def _body(trainer: Trainer, model: Any) -> Any:
    """The causal language model inside a trainer's model, adapters included."""
    body: Any = trainer.accelerator.unwrap_model(model, keep_torch_compile=False)
    if not hasattr(body, "peft_config"):
        return body
    if any(config.is_prompt_learning for config in body.peft_config.values()):
        raise UserError(
            "prefix and prompt tuning adapters cannot be scored; use adapters of weights, such as "
            "LoRA"
        )
    return body.get_base_model() if hasattr(body, "get_base_model") else body


def _refuse_sharded(trainer: Trainer) -> None:
    from torch.distributed.tensor import DTensor

    model: Any = trainer.model
    deepspeed = getattr(trainer.accelerator.state, "deepspeed_plugin", None)
    sharded = trainer.is_fsdp_enabled or (deepspeed is not None and deepspeed.zero_stage == 3)
    if sharded or any(isinstance(weight, DTensor) for weight in model.parameters()):
        raise UserError(
            "DecayCallback needs the whole student on the main process, but its weights are "
            "sharded (FSDP, DeepSpeed ZeRO-3 or tensor parallel); train with DDP, or score the "
            "checkpoints with decaylab position-kl"
        )


@contextmanager
def _undisturbed(model: Any) -> Iterator[None]:
    """Evaluation mode and full precision within the block; restores the state afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    # Under mixed precision, accelerate wraps the model's forward, and the shell would inherit it.
    cast = model.__dict__.pop("forward", None) if "_original_forward" in model.__dict__ else None
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        model.eval()
        with torch.random.fork_rng(devices):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        if cast is not None:
            model.forward = cast
