"""The training loop: sample, score, weight, update; record each step, save checkpoints.

    result = train(TrainOptions(), reporter=Reporter())
    result.folder / "metrics.csv", result.metrics, result.validation

It runs in one process, or in several under ``accelerate launch``. Each samples and scores its share
of a step's problems; gradients and counts are summed; every process makes the same update, of the
whole student or of its shard. A killed run resumes from its last checkpoint.
"""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from decaylab.disk import write_atomically
from decaylab.errors import UserError, keeping
from decaylab.maths.selection import progressive_budget
from decaylab.options.training import TrainOptions
from decaylab.pair import kept_prompts
from decaylab.pair.prepare import GRADING_WORKERS
from decaylab.printing import rounded
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter, StageProgress
from decaylab.rollouts.sampling import Engine
from decaylab.rollouts.vllm_setup import require_installed
from decaylab.runs import store, train_results
from decaylab.runs.train_results import TrainResult
from decaylab.tokens.heads import Head
from decaylab.trainer import validation
from decaylab.trainer.alarms import alarms
from decaylab.trainer.machinery import checkpoint_cards
from decaylab.trainer.machinery.adapters import Trainable
from decaylab.trainer.machinery.engines import training_engines
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.machinery.metrics import denominator, record
from decaylab.trainer.machinery.processes import Processes, one_speaks
from decaylab.trainer.machinery.records import run_record
from decaylab.trainer.machinery.resume import Kept, checkpoint_folder, kept_words, remove_run
from decaylab.trainer.machinery.setup import TrainSetup, prepare_training
from decaylab.trainer.machinery.sharding import by_kind, clip, own_part
from decaylab.trainer.pairing import pairing_of
from decaylab.trainer.step import NotFinite, batch_tokens_of

WINDOW = 10
"""Number of steps whose mean behaviour is compared, if training rollouts are full."""


def train(
    options: TrainOptions, *, command: str = "", reporter: Reporter | None = None
) -> TrainResult:
    """Trains a student; writes and returns the run. A finished run with the same settings is only
    read.

    Raises:
        UserError: anything that a user can fix.
    """
    with one_speaks():
        options = options.resolved()
        processes = Processes(options)
        if reporter is None or not processes.is_main:
            reporter = Reporter(quiet=True)
        return _train(options, processes, command, reporter)


def _train(
    options: TrainOptions, processes: Processes, command: str, reporter: Reporter
) -> TrainResult:
    if options.needs_vllm:
        require_installed()
    folder = store.RunFolder(Path(options.out or options.default_folder()).expanduser())
    with (
        keeping(lambda: kept_words(folder.path)),
        Grader(workers=GRADING_WORKERS, sandboxed=not options.no_sandbox) as grader,
        ExitStack() as stack,
    ):
        with processes.agreeing():
            setup = prepare_training(processes.placed(options), grader)
            # Refuse a student that cannot be trained before making a folder.
            trained = Trainable(setup.student, setup.options)
            # One process writes the folder and locks it until the end.
            if processes.is_main:
                stack.enter_context(folder.lock())
                if options.overwrite:
                    remove_run(folder.path)
                setup = _with_kept_prompts(setup, [] if options.overwrite else [folder.path])
                finished = not options.overwrite and bool((folder.record or {}).get("finished"))
                folder.open(
                    run_record(setup, command), overwrite=options.overwrite, complete=finished
                )
                kept_prompts.write(setup.pair, folder.path)
        setup = _with_kept_prompts(setup, [folder.path])  # the same in every process
        if (folder.record or {}).get("finished"):
            reporter.note(
                f"{folder.path} contains this run, finished: nothing is trained again; use "
                "--overwrite to redo it"
            )
        else:
            if processes.is_main:
                folder.update({"command": command, "notes": list(setup.pair.notes)})
            with processes.agreeing():
                engines = training_engines(setup, trained, processes, reporter, stack)
            Run(setup, trained, engines, folder, processes, grader, reporter).go()
        processes.wait()
    return train_results.read(folder.path, processes.is_main)


class Run:
    """A run in progress: the student, its optimizer, and the growing files."""

    def __init__(
        self,
        setup: TrainSetup,
        trained: Trainable,
        engines: dict[str, Engine],
        folder: store.RunFolder,
        processes: Processes,
        grader: Grader,
        reporter: Reporter,
    ) -> None:
        options = self.options = setup.options
        self.setup, self.trained, self.engines = setup, trained, engines
        self.folder, self.processes, self.reporter = folder, processes, reporter
        self.kept = Kept(folder, processes, reporter)
        self.heads = Head(setup.student), Head(setup.teacher)
        self.meter = Meter(self.heads[0].model.device)
        self.pairing = pairing_of(setup, self.heads)
        self.plan = self.pairing.plan
        self.validation: validation.Validation | None = None
        if setup.validation:
            scores = self.pairing.scores(batch_tokens_of(options, self.meter.device))
            self.validation = validation.Validation(
                setup, engines["student"], scores, grader, processes.share
            )
        # After heads and scorer, which run the student to test whether its head can be separated.
        if processes.sharded:
            self._shard()
        self.optimizer = torch.optim.AdamW(
            [{"params": kind} for kind in by_kind(trained.parameters.values())],
            lr=float(options.learning_rate or 0.0),
            weight_decay=options.weight_decay,
        )
        self.interrupted = threading.Event()

    def _shard(self) -> None:
        if self.heads[0].shell is None:
            raise UserError(
                f"the output head of {self.setup.student.name} cannot be separated from the model, "
                "so its layers cannot be sharded; train it without FSDP"
            )
        self.trained.shard(self.processes.mesh)

    def go(self) -> None:
        """Trains from the last checkpoint, if there is one, to the end."""
        steps = int(self.options.steps or 0)
        done = self.kept.resume(self.trained.parameters, self.optimizer)
        if not done and self.validation and not self.kept.validation.path.exists():
            self._validate(0)
        with (
            self.processes.tracking(self.folder, self.options) as track,
            _finishing_the_step(self.interrupted, self.reporter.note),
            self.reporter.stage("training", steps, "steps") as progress,
        ):
            progress.skip(done)
            for step in range(done + 1, steps + 1):
                row, last = self.step(step, progress)
                if self.processes.is_main:
                    self.kept.metrics.append(row)
                track(row, step)
                if step % int(self.options.checkpoint_every or 1) == 0 or step == steps:
                    track(self._checkpoint(step), step)
                # All processes got the interruption with the sums of this step.
                if last:
                    self._keep(step)
                    raise KeyboardInterrupt
        if self.processes.is_main:
            self._note_left_out()
        self.kept.finish()

    def _note_left_out(self) -> None:
        """Adds to the notes of the run what share of its rollouts was left out."""
        words = self.pairing.left_out(self.kept.metrics.read())
        if words:
            self.reporter.note(words)
            self.folder.update({"notes": [*self.setup.pair.notes, words]})

    def step(self, step: int, progress: StageProgress | None = None) -> tuple[dict[str, Any], bool]:
        """One step, from 1: rollouts, gradient, update.

        Returns:
            Its row of the metrics file, and whether to stop after it.
        """
        options = self.options
        self.meter.clear()
        budget, longest = self._lengths(step)

        def on_progress(tokens: int, finished: int) -> None:
            if progress:
                progress.advance(tokens, 0)

        with self.meter.phase("generation"), self.trained.merged(), self.processes.agreeing():
            draw = self.plan.draw(
                step,
                longest,
                self.engines,
                self.setup.vocabulary,
                self.processes.share,
                on_progress,
            )
        most = self.processes.most if self.processes.sharded else None
        gradient = self.pairing.gradient(options, self.meter, budget, most)
        self.setup.student.weights.train(options.gradient_checkpointing)
        with self.processes.agreeing():
            try:
                gradient.add(draw.rollouts)
            except NotFinite as error:
                raise self._broken(step, error) from error
        self.setup.student.weights.train(False)
        gradient.sums.add(
            sampled=draw.sampled,
            left_out=draw.left_out,
            interrupted=self.interrupted.is_set(),
            **self.pairing.counts(draw),
        )
        sums = self.processes.add_up(gradient.sums.values)
        norm = self._update(step, denominator(sums, options.normalise))
        row: dict[str, Any] = {
            "step": step,
            "rollout_length": longest if options.stop_at else None,
            **record(sums, options),
            **self.pairing.columns(sums),
            "gradient_norm": norm,
            "learning_rate": self._rate(step),
            **self.meter.columns(),
        }
        if progress:
            progress.tell(f"{self.pairing.told(row)}  {rounded(row['response_tokens'])} tokens")
            progress.advance(0, 1)
        self._watch(step, row)
        return row, bool(sums["interrupted"])

    def _lengths(self, step: int) -> tuple[int | None, int]:
        """The selector's budget in this step, and its rollout length in tokens."""
        options, budget = self.options, self.options.budget
        if options.selector == "progressive" and budget is not None:
            budget = progressive_budget(budget, step - 1, int(options.steps or 1))
            return budget, min(budget, int(options.max_tokens or budget))
        return budget, options.stop_at or int(options.max_tokens or 1)

    def _update(self, step: int, count: float) -> float:
        """Divides the summed gradient, clips it and updates the weights.

        Returns:
            The gradient's norm before clipping; NaN if there is no gradient.
        """
        self.processes.add_gradients(list(self.trained.parameters.values()))
        weights = [weight for weight in self.trained.parameters.values() if weight.grad is not None]
        # If all rollouts were left out nothing is updated, not even by weight decay.
        if not count or not weights:
            return math.nan
        with torch.no_grad():
            for weight in weights:
                assert weight.grad is not None
                own_part(weight.grad).div_(count)
        with self.meter.phase("training"):
            norm = clip(weights, self.options.clip)
            if not math.isfinite(norm):
                raise UserError(
                    f"step {step}: the gradient is not finite ({norm}); {self._advice()}"
                )
            for group in self.optimizer.param_groups:
                group["lr"] = self._rate(step)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return norm

    def _rate(self, step: int) -> float:
        """Learning rate of a step: a linear warm-up, then constant or decaying to 0 at the end."""
        options, steps = self.options, int(self.options.steps or 1)
        warm = min(1.0, step / (options.warmup_steps + 1))
        left = 1 - max(0, step - 1 - options.warmup_steps) / max(steps - options.warmup_steps, 1)
        cosine = 0.5 * (1 - math.cos(math.pi * left))
        shape = {"constant": 1.0, "linear": left, "cosine": cosine}[options.schedule]
        return float(options.learning_rate or 0.0) * warm * shape

    def _checkpoint(self, step: int) -> dict[str, Any]:
        """Saves a checkpoint, its row of validation.csv, and the state to resume from."""
        row = self._validate(step) if self.validation else {}
        text = ""
        if self.processes.is_main:
            run, alarms = self.folder.path.name, self.kept.alarms
            text = checkpoint_cards.card(self.setup, step, run, self._held_out(), alarms)
        place = checkpoint_folder(self.folder.path, step)
        self.trained.save(place, text, self.processes.is_main)
        self._keep(step)
        return {f"validation/{name}": value for name, value in row.items() if name != "step"}

    def _held_out(self) -> list[dict[str, Any]]:
        """The rows of validation.csv, the one before training first; none without validation."""
        if self.validation is None:
            return []
        return [dict(row) for _, row in self.kept.validation.read().iterrows()]

    def _keep(self, step: int) -> None:
        self.kept.write_state(step, self.trained.parameters, self.optimizer)

    def _validate(self, step: int) -> dict[str, Any]:
        """Full rollouts on the held-out problems, with alarms."""
        assert self.validation is not None
        with self.trained.merged(), self.processes.agreeing():
            rollouts = self.validation.outcomes(Reporter(quiet=True))
        row = self.pairing.row(step, self.processes.gathered(rollouts))
        if self.processes.is_main:
            self.kept.validation.append(row)
            self.reporter.note(f"step {step}: {validation.words(row)}")
            # The first row is from before training.
            before = dict(self.kept.validation.read().iloc[0])
            self._compare(step, before, row)
        return row

    def _watch(self, step: int, row: dict[str, Any]) -> None:
        """Alarms from full training rollouts: the last steps against the first."""
        if self.options.stop_at or not self.processes.is_main or step % WINDOW or step < 2 * WINDOW:
            return
        rows = pd.concat([self.kept.metrics.read(), pd.DataFrame([row])])
        self._compare(step, dict(rows[:WINDOW].mean()), dict(rows[-WINDOW:].mean()))

    def _compare(self, step: int, before: dict[str, Any], now: dict[str, Any]) -> None:
        sentences = alarms(validation.behaviour(before), validation.behaviour(now))
        self.kept.add_alarms(step, sentences)

    def _broken(self, step: int, error: NotFinite) -> UserError:
        """Stores where the loss is not finite; returns the message."""
        path = self.folder.path / "not-finite.json"
        rollout = error.rollout
        details = {
            "step": step,
            "rollout": rollout.scored.rollout_id,
            "position": error.position,
            "losses": {name: str(value) for name, value in error.values.items()},
            "student_prompt": list(rollout.scored.student_prompt),
            "response": list(rollout.scored.response),
            "text": self.setup.student.decode(list(rollout.ids)),
        }
        write_atomically(path, (json.dumps(details, indent=1) + "\n").encode())
        return UserError(f"step {step}: {error} (details in {path}); {self._advice()}")

    def _advice(self) -> str:
        checkpoints = sorted(entry.name for entry in self.folder.path.glob("step-*"))
        intact = "there is no checkpoint yet"
        if checkpoints:
            intact = f"the checkpoint {checkpoints[-1]} is intact"
        return f"{intact}; try a lower --learning-rate, or --dtype float32"


@contextmanager
def _finishing_the_step(asked: threading.Event, tell: Callable[[str], None]) -> Iterator[None]:
    """The first Ctrl-C sets the event, so that the current step is finished; a second one stops."""
    if threading.current_thread() is not threading.main_thread():  # others get no signals
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()
        tell("Ctrl-C: finishes the step in flight and keeps it; Ctrl-C again stops at once")

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _with_kept_prompts(setup: TrainSetup, folders: Sequence[Path]) -> TrainSetup:
    """The setup with the prompts with which the run was started."""
    return dataclasses.replace(setup, pair=kept_prompts.settled(setup.pair, folders))
