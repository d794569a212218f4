"""The stored files of a training run: records, alarms, and the state to resume from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from decaylab.disk import write_atomically
from decaylab.errors import UserError
from decaylab.progress import Reporter
from decaylab.runs.growing_csv import Table
from decaylab.runs.store import RunFolder
from decaylab.trainer.machinery.processes import Processes
from decaylab.trainer.machinery.sharding import gather, like

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""AdamW's state of each parameter. The update count is included, since a step whose rollouts are
all left out makes no update."""
Parameters = dict[str, Tensor]


def checkpoint_folder(run: Path, step: int) -> Path:
    return run / f"step-{step:06d}"


class ResumeState:
    """``resume/state.safetensors`` of a run: weights and moments, written atomically."""

    def __init__(self, run: Path) -> None:
        self.path = run / "resume" / "state.safetensors"

    def write(
        self,
        step: int,
        parameters: Parameters,
        optimizer: torch.optim.Optimizer,
        keep: bool = True,
    ) -> None:
        """keep: whether this process writes the file; all processes gather shards."""
        tensors = [(f"weights.{name}", weight) for name, weight in parameters.items()]
        for name, weight in parameters.items():  # no moments without a first gradient
            moments = optimizer.state.get(weight, {})
            tensors += [(f"{moment}.{name}", value) for moment, value in moments.items()]
        gathered = gather(tensors, keep)
        if keep:
            write_atomically(self.path, save(gathered, metadata={"step": str(step)}))

    def read(self, parameters: Parameters, optimizer: torch.optim.Optimizer) -> int:
        """Restores weights and moments; returns their step, 0 if there is no file.

        Raises:
            UserError: the file is damaged or belongs to other parameters.
        """
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, framework="pt") as file, torch.no_grad():
                step = int(file.metadata()["step"])
                for name, weight in parameters.items():
                    weight.copy_(like(file.get_tensor(f"weights.{name}"), weight))
                    if f"exp_avg.{name}" in file.keys():  # noqa: SIM118  (a handle, not a dict)
                        moments = {key: file.get_tensor(f"{key}.{name}") for key in MOMENTS}
                        for key in MOMENTS[1:]:
                            moments[key] = like(moments[key], weight)
                        optimizer.state[weight] = moments
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{self.path} is damaged ({reason}); use --overwrite to restart the run"
            ) from error
        return step

    def step(self) -> int:
        """The step that the state is of, 0 if there is no file."""
        if not self.path.exists():
            return 0
        with safe_open(self.path, framework="pt") as file:
            return int(file.metadata()["step"])

    def remove(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)


class Kept:
    """The growing files of a run. Only the main process writes, but all must call."""

    def __init__(self, folder: RunFolder, processes: Processes, reporter: Reporter) -> None:
        self.folder, self.processes, self.reporter = folder, processes, reporter
        self.metrics = Table(folder.path / "metrics.csv")
        self.validation = Table(folder.path / "validation.csv")
        self.state = ResumeState(folder.path)
        self.alarms: list[dict[str, Any]] = []

    def resume(self, parameters: Parameters, optimizer: torch.optim.Optimizer) -> int:
        """Restores the run; returns the number of finished steps."""
        with self.processes.agreeing():
            done = self.state.read(parameters, optimizer)
        record = self.folder.record or {}
        self.alarms = [alarm for alarm in record.get("alarms", []) if alarm["step"] <= done]
        # Rows of later steps than the state's are made again.
        if self.processes.is_main:
            self.metrics.keep_until(done)
            self.validation.keep_until(done)
            self._note_launch(record, done + 1)
        self.processes.wait()
        if done:
            self.reporter.note(f"{self.folder.path}: resuming after step {done}")
        return done

    def write_state(
        self, step: int, parameters: Parameters, optimizer: torch.optim.Optimizer
    ) -> None:
        """Writes the state to resume from; every process waits for it."""
        self.state.write(step, parameters, optimizer, self.processes.is_main)
        if self.processes.is_main:
            self.folder.update({})  # the seconds up to here
        self.processes.wait()

    def add_alarms(self, step: int, sentences: list[str]) -> None:
        """Reports alarms and writes them to run.json."""
        for sentence in sentences:
            self.alarms.append({"step": step, "alarm": sentence})
            self.reporter.note(f"ALARM at step {step}: {sentence}")
            self.folder.update({"alarms": self.alarms})

    def finish(self) -> None:
        """Marks the run as finished."""
        if self.processes.is_main:
            self.folder.update({"finished": True})
            self.state.remove()
        self.processes.wait()

    def _note_launch(self, record: dict[str, Any], first: int) -> None:
        """Records in run.json the number of processes from this step on."""
        count, sharded = self.processes.count, self.processes.sharded
        earlier = [launch for launch in record.get("launches", []) if launch["from_step"] < first]
        launch = {"from_step": first, "processes": count, "sharded": sharded}
        self.folder.update({"processes": count, "launches": [*earlier, launch]})


def kept_words(path: Path) -> str:
    """What stays of an interrupted training run."""
    step = ResumeState(path).step()
    if not step:
        return f"no step is kept in {path} yet"
    return f"the first {step:,} steps are kept in {path}"


def remove_run(path: Path) -> None:
    """Removes a training run's files from its folder, and no others."""
    for entry in path.glob("step-*"):
        shutil.rmtree(entry, ignore_errors=True)
    for name in ("metrics.csv", "validation.csv", "not-finite.json"):
        (path / name).unlink(missing_ok=True)
    ResumeState(path).remove()
