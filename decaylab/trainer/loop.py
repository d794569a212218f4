"""The training loop: sample, score, weigh, update; record each step, keep checkpoints, go on after
a kill.

    result = train(TrainOptions(), reporter=Reporter())
    result.folder / "metrics.csv", result.metrics, result.validation

One process, or several under ``accelerate launch``: each samples and scores its share of a step's
problems, the gradients and the counts of all are added up, and every process makes the same update,
of the whole student or of its part of it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from decaylab.errors import UserError
from decaylab.maths.selection import progressive_budget
from decaylab.options.training import TrainOptions
from decaylab.pair import kept_prompts
from decaylab.pair.prepare import GRADING_WORKERS
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter, StageProgress
from decaylab.rollouts.sampling import Engine, SamplingSettings
from decaylab.rollouts.vllm_setup import require_installed
from decaylab.runs import store
from decaylab.runs.growing_csv import Table
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import Scorer, ScoringSettings
from decaylab.trainer import validation
from decaylab.trainer.alarms import Behaviour, alarms
from decaylab.trainer.draw import Plan
from decaylab.trainer.machinery.adapters import Trainable
from decaylab.trainer.machinery.engines import training_engines
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.machinery.processes import Processes, one_speaks
from decaylab.trainer.machinery.records import card, run_record
from decaylab.trainer.machinery.resume import ResumeState, checkpoint_folder
from decaylab.trainer.machinery.setup import TrainSetup, prepare_training
from decaylab.trainer.machinery.sharding import by_kind, clip, own_part
from decaylab.trainer.step import Gradient, NotFinite, batch_tokens_of, denominator, record

WINDOW = 10
"""Steps whose mean behaviour is compared, where the training rollouts themselves are full ones."""


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder and record, the rows of metrics.csv and of validation.csv, what
    must be known, alarms.

    is_main: of the processes of the run this is the one that speaks.
    """

    folder: Path
    record: dict[str, Any]
    metrics: pd.DataFrame
    validation: pd.DataFrame
    notes: tuple[str, ...]
    alarms: tuple[str, ...]
    is_main: bool = True


def train(
    options: TrainOptions, *, command: str = "", reporter: Reporter | None = None
) -> TrainResult:
    """Trains a student; writes and returns the run. A finished run of the same configuration is
    read, not redone.

    Raises:
        UserError: anything that a user can mend, in one line.
    """
    with one_speaks():
        options = options.resolved()
        processes = Processes(options)
        return _train(
            options,
            processes,
            command,
            reporter if reporter and processes.is_main else Reporter(quiet=True),
        )


def _train(
    options: TrainOptions, processes: Processes, command: str, reporter: Reporter
) -> TrainResult:
    if options.needs_vllm:
        require_installed()
    folder = store.RunFolder(
        Path(options.out).expanduser() if options.out else Path(options.default_folder())
    )
    with Grader(workers=GRADING_WORKERS) as grader, ExitStack() as stack:
        with processes.agreeing():
            setup = prepare_training(processes.placed(options), grader)
            trained = Trainable(
                setup.student, setup.options
            )  # what cannot be trained is told before a folder is made
            if processes.is_main:
                stack.enter_context(folder.lock())
                if options.overwrite:
                    _remove_run(folder.path)
                setup = _with_kept_prompts(setup, [] if options.overwrite else [folder.path])
                folder.open(run_record(setup, command), overwrite=options.overwrite)
                kept_prompts.write(setup.pair, folder.path)
        setup = _with_kept_prompts(setup, [folder.path])  # the same in every process
        record = folder.record or {}
        if record.get("finished"):
            reporter.note(
                f"{folder.path} holds this run, finished: nothing is trained again (--overwrite "
                "redoes it)"
            )
        else:
            if processes.is_main:
                folder.update({"command": command, "notes": list(setup.pair.notes)})
            with processes.agreeing():
                engines = training_engines(setup, trained, processes, reporter, stack)
            Run(setup, trained, engines, folder, processes, grader, reporter).go()
            record = folder.record or {}
        processes.wait()
    path = folder.path
    held_out = (
        Table(path / "validation.csv").read()
        if (path / "validation.csv").exists()
        else pd.DataFrame()
    )
    told = tuple(f"alarm at step {one['step']}: {one['alarm']}" for one in record.get("alarms", ()))
    metrics = Table(path / "metrics.csv").read()
    return TrainResult(
        path, record, metrics, held_out, tuple(record["notes"]), told, processes.is_main
    )


class Run:
    """One run at work: the student and its optimizer, and the files that grow."""

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
        self.setup, self.folder, self.processes, self.reporter = setup, folder, processes, reporter
        self.trained = trained
        self.heads = Head(setup.student), Head(setup.teacher)
        self.engines = engines
        sampling = SamplingSettings(options.temperature, options.top_p, options.top_k, options.seed)
        self.plan = Plan(
            setup.pair.problems,
            setup.pair.prompts,
            sampling,
            options.problems_per_step,
            options.rollouts_per_problem,
            options.score_end,
            options.teacher_prefix or 0,
        )
        self.meter = Meter(self.heads[0].model.device)
        self.state = ResumeState(folder.path)
        self.metrics, self.held_out = (
            Table(folder.path / "metrics.csv"),
            Table(folder.path / "validation.csv"),
        )
        self.validation = None
        if setup.validation:
            batch_tokens = batch_tokens_of(options, self.meter.device)
            scorer = Scorer(
                setup.student, setup.teacher, ScoringSettings(batch_tokens=batch_tokens)
            )
            self.validation = validation.Validation(
                setup, self.engines["student"], scorer, grader, processes.share
            )
        if (
            processes.sharded
        ):  # behind heads and scorer, which run the student to see whether its head comes apart
            self._shard()
        self.optimizer = torch.optim.AdamW(
            [{"params": kind} for kind in by_kind(self.trained.parameters.values())],
            lr=float(options.learning_rate or 0.0),
            weight_decay=options.weight_decay,
        )
        self.alarms: list[dict[str, Any]] = []
        self.interrupted = threading.Event()

    def _shard(self) -> None:
        if self.heads[0].shell is None:
            raise UserError(
                f"the output head of {self.setup.student.name} cannot be applied on its own, so "
                "its layers cannot be sharded; "
                "train it without FSDP"
            )
        self.trained.shard(self.processes.mesh)

    def go(self) -> None:
        """Trains from where the run stands to its end."""
        started = time.monotonic()
        steps = int(self.options.steps or 0)
        done = self._resume()
        with (
            self.processes.tracking(self.folder, self.options) as track,
            _finishing_the_step(self.interrupted),
            self.reporter.stage("training", steps, "steps") as progress,
        ):
            progress.skip(done)
            for step in range(done + 1, steps + 1):
                row, last = self.step(step, progress)
                if self.processes.is_main:
                    self.metrics.append(row)
                track(row, step)
                if step % int(self.options.checkpoint_every or 1) == 0 or step == steps:
                    track(self._checkpoint(step), step)
                if last:
                    self._keep(step)
                    raise KeyboardInterrupt
        if self.processes.is_main:
            seconds = (self.folder.record or {}).get("seconds", 0.0) + time.monotonic() - started
            self.folder.update({"finished": True, "seconds": seconds})
            self.state.remove()
        self.processes.wait()

    def step(self, step: int, progress: StageProgress | None = None) -> tuple[dict[str, Any], bool]:
        """One step, from 1: rollouts, gradient, update. Returns its row of the metrics file, and
        whether to end behind it."""
        options = self.options
        self.meter.clear()
        budget, longest = self._lengths(step)
        told = progress.advance if progress else None
        with self.meter.phase("generation"), self.trained.merged(), self.processes.agreeing():
            draw = self.plan.draw(
                step,
                longest,
                self.engines,
                self.setup.vocabulary,
                self.processes.share,
                (lambda tokens, _: told(tokens, 0)) if told else None,
            )
        most = self.processes.most if self.processes.sharded else None
        gradient = Gradient(
            self.heads, self.setup.vocabulary, options, self.meter, step, budget, most
        )
        self.setup.student.weights.train(options.gradient_checkpointing)
        with self.processes.agreeing():
            try:
                gradient.add(draw.rollouts)
            except NotFinite as error:
                raise self._broken(step, error) from error
        self.setup.student.weights.train(False)
        gradient.sums.add(
            sampled=draw.sampled, left_out=draw.left_out, interrupted=self.interrupted.is_set()
        )
        sums = self.processes.add_up(gradient.sums.values)
        norm = self._update(step, denominator(sums, options.normalise))
        row = {
            "step": step,
            "rollout_length": longest if options.stop_at else None,
            **record(sums, options),
            "gradient_norm": norm,
            "learning_rate": self._rate(step),
            **self.meter.columns(),
        }
        if progress:
            progress.tell(f"KL {row['reverse_kl']:.3f}  {row['response_tokens']:.0f} tokens")
            progress.advance(0, 1)
        self._watch(step, row)
        return row, bool(sums["interrupted"])

    def _lengths(self, step: int) -> tuple[int | None, int]:
        """The selector's budget in this step, and the tokens at which its rollouts stop."""
        options, budget = self.options, self.options.budget
        if options.selector == "progressive" and budget is not None:
            budget = progressive_budget(budget, step - 1, int(options.steps or 1))
            return budget, min(budget, int(options.max_tokens or budget))
        return budget, options.stop_at or int(options.max_tokens or 1)

    def _update(self, step: int, count: float) -> float:
        """Divides the summed gradient, clips it and moves the weights; returns its norm before
        clipping."""
        self.processes.add_gradients(list(self.trained.parameters.values()))
        weights = [one for one in self.trained.parameters.values() if one.grad is not None]
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
        """Learning rate of a step: a linear warm-up, then constant, or down to 0 at the end along a
        line or a cosine."""
        options, steps = self.options, int(self.options.steps or 1)
        warm = min(1.0, step / (options.warmup_steps + 1))
        left = 1 - max(0, step - 1 - options.warmup_steps) / max(steps - options.warmup_steps, 1)
        shape = {"constant": 1.0, "linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left))}[
            options.schedule
        ]
        return float(options.learning_rate or 0.0) * warm * shape

    # What is kept

    def _resume(self) -> int:
        """Puts the run back to where it can go on from; returns the steps that are done."""
        with self.processes.agreeing():
            done = self.state.read(self.trained.parameters, self.optimizer)
        if self.processes.is_main:
            self.metrics.keep_until(done)
            self.held_out.keep_until(done)
            self._note_processes(done + 1)
        self.alarms = [
            one for one in (self.folder.record or {}).get("alarms", []) if one["step"] <= done
        ]
        self.processes.wait()
        if done:
            self.reporter.note(f"{self.folder.path}: goes on behind step {done}")
        elif self.validation and not self.held_out.path.exists():
            self._validate(0)
        return done

    def _note_processes(self, first: int) -> None:
        """Adds to run.json how many processes make the steps from the first of these on."""
        now = {
            "from_step": first,
            "processes": self.processes.count,
            "sharded": self.processes.sharded,
        }
        kept = [
            one
            for one in (self.folder.record or {}).get("launches", [])
            if one["from_step"] < first
        ]
        self.folder.update({"processes": self.processes.count, "launches": [*kept, now]})

    def _checkpoint(self, step: int) -> dict[str, Any]:
        """The checkpoint's folder, its row of validation.csv, and the state to go on from, in this
        order."""
        self.trained.save(
            checkpoint_folder(self.folder.path, step),
            card(self.setup, step, self.folder.path.name),
            self.processes.is_main,
        )
        found = self._validate(step) if self.validation else {}
        self._keep(step)
        return found

    def _keep(self, step: int) -> None:
        self.state.write(step, self.trained.parameters, self.optimizer, self.processes.is_main)
        self.processes.wait()

    def _validate(self, step: int) -> dict[str, Any]:
        assert self.validation is not None
        with self.trained.merged(), self.processes.agreeing():
            sums = self.validation.sums(Reporter(quiet=True))
        row = validation.row(step, self.processes.add_up(sums))
        if self.processes.is_main:
            self.held_out.append(row)
            self.reporter.note(
                f"step {step}: held-out accuracy {100 * row['accuracy']:.1f} %, reverse KL "
                f"{row['reverse_kl']:.4f} nats, "
                f"{row['response_tokens']:.0f} tokens ({row['problems']} problems)"
            )
            self._raise(
                step, validation.behaviour(self._held_out_before()), validation.behaviour(row)
            )
        return {f"validation/{name}": value for name, value in row.items() if name != "step"}

    def _held_out_before(self) -> dict[str, Any]:
        return dict(self.held_out.read().iloc[0])

    def _watch(self, step: int, row: dict[str, Any]) -> None:
        """Looks at the training rollouts where those are full ones: the last steps against the
        first."""
        if self.options.stop_at or not self.processes.is_main or step % WINDOW or step < 2 * WINDOW:
            return
        rows = pd.concat([self.metrics.read(), pd.DataFrame([row])])
        first, last = (
            validation.behaviour(dict(part.mean())) for part in (rows[:WINDOW], rows[-WINDOW:])
        )
        self._raise(step, first, last)

    def _raise(self, step: int, before: Behaviour, now: Behaviour) -> None:
        for alarm in alarms(before, now):
            self.alarms.append({"step": step, "alarm": alarm})
            self.reporter.note(f"ALARM at step {step}: {alarm}")
            self.folder.update({"alarms": self.alarms})

    def _broken(self, step: int, error: NotFinite) -> UserError:
        """Writes down where the loss is no number, and says so."""
        path = self.folder.path / "not-finite.json"
        one = error.rollout
        found = {
            "step": step,
            "rollout": one.scored.rollout_id,
            "position": error.position,
            "losses": {name: str(value) for name, value in error.values.items()},
            "student_prompt": list(one.scored.student_prompt),
            "response": list(one.scored.response),
            "text": self.setup.student.decode(list(one.ids)),
        }
        store.write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
        return UserError(f"step {step}: {error} (all of it in {path}); {self._advice()}")

    def _advice(self) -> str:
        kept = sorted(entry.name for entry in self.folder.path.glob("step-*"))
        intact = f"the checkpoint {kept[-1]} is intact" if kept else "there is no checkpoint yet"
        return f"{intact}; try a lower --learning-rate, or --dtype float32"


@contextmanager
def _finishing_the_step(asked: threading.Event) -> Iterator[None]:
    """The first Ctrl-C sets the event, so that the step in flight is finished and kept; a second
    one ends at once."""
    if threading.current_thread() is not threading.main_thread():  # where no signal can be caught
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _with_kept_prompts(setup: TrainSetup, folders: Sequence[Path]) -> TrainSetup:
    """The setup with the prompts that the run was begun with."""
    return dataclasses.replace(setup, pair=kept_prompts.settled(setup.pair, folders))


def _remove_run(path: Path) -> None:
    """Throws away what a training run left in its folder; other files are left alone."""
    for entry in path.glob("step-*"):
        shutil.rmtree(entry, ignore_errors=True)
    for name in ("metrics.csv", "validation.csv", "not-finite.json"):
        (path / name).unlink(missing_ok=True)
    ResumeState(path).remove()
