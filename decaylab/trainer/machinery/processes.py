"""The processes of one training run, by accelerate: who does what, and how their sums become
one."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.runs.store import RunFolder
from decaylab.trainer.machinery import sharding

Track = Callable[[dict[str, Any], int], None]
LAST_WORD_SECONDS = 30.0


@contextmanager
def one_speaks() -> Iterator[None]:
    """An error or an interruption that every process has is told by the main one alone.

    A launcher ends all processes when one of them ends badly, so with an error the others leave it
    to the main one to be first.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt) as end:
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or int(os.environ.get("RANK", "0")) == 0:
            raise
        if isinstance(end, KeyboardInterrupt):
            raise SystemExit(130) from None
        time.sleep(LAST_WORD_SECONDS)
        raise SystemExit(2) from None


class Processes:
    """This process among those that ``accelerate launch`` started; the only one without it.

    sharded: whether they share out the student's layers (FSDP), and so must run the student the
    same number of times.

    Raises:
        UserError: a tracker's package is missing, or the launcher's file asks for what cannot be
        done.
    """

    def __init__(self, options: TrainOptions) -> None:
        from accelerate import Accelerator
        from accelerate.utils import set_seed

        for name in options.trackers:
            if importlib.util.find_spec(name) is None:
                raise UserError(
                    f"--track {name} needs a package that is not installed: pip install {name}"
                )
        self.sharded = sharding.asked_for()
        own = options.out or options.default_folder()
        several = (
            int(os.environ.get("WORLD_SIZE", "1")) > 1
        )  # alone, a process is where its policies are loaded
        self.accelerator: Any = Accelerator(
            cpu=several and options.device == "cpu",
            log_with=list(options.trackers) or None,
            project_dir=own,
        )
        self.count, self.rank = (
            int(self.accelerator.num_processes),
            int(self.accelerator.process_index),
        )
        set_seed(options.seed % 2**32)  # numpy's takes no more; nothing here is drawn from it

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Of problems in a row, those that this process takes."""
        return slice(self.rank, None, self.count)

    @property
    def mesh(self) -> DeviceMesh:
        """All processes in a row."""
        return init_device_mesh(self.accelerator.device.type, (self.count,))

    def placed(self, options: TrainOptions) -> TrainOptions:
        """The options with the device that this process has among several."""
        if self.count == 1:
            return options
        return dataclasses.replace(options, device=str(self.accelerator.device))

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """A `UserError` of one process is raised by all of them, at the end of the block: none
        waits for another in vain.

        Within the block no process may wait for the others in a way that an error of one would
        leave open.
        """
        own = ""
        try:
            yield
        except UserError as error:
            if self.count == 1:
                raise
            own = str(error)
        if told := [one for one in self._of_all(own) if one]:
            raise UserError(told[0])

    def most(self, number: int) -> int:
        """The largest of what the processes have."""
        return int(max(self._of_all(number)))

    def _of_all(self, value: Any) -> list[Any]:
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def add_up(self, sums: dict[str, float]) -> dict[str, float]:
        """Each sum over all processes. A process that has made nothing has no name for what is
        missing there: 0."""
        found: dict[str, float] = {}
        for one in self._of_all(sums):
            for name, value in one.items():
                found[name] = found.get(name, 0.0) + value
        return found

    def add_gradients(self, weights: list[Tensor]) -> None:
        """Replaces each gradient by the sum over all processes; a process without one counts as 0.

        That of a sharded weight is the sum already. What has no gradient anywhere is left without
        one, as in one process: an optimizer would move it by its weight decay.
        """
        weights = [one for one in weights if not isinstance(one, DTensor)]
        if self.count == 1 or not weights:
            return
        with torch.no_grad():
            there = torch.tensor([one.grad is not None for one in weights], dtype=weights[0].dtype)
            parts = [
                torch.zeros_like(one).flatten() if one.grad is None else one.grad.flatten()
                for one in weights
            ]
            flat = self.accelerator.reduce(
                torch.cat([*parts, there.to(weights[0].device)]), reduction="sum"
            )
            start = 0
            for weight, count in zip(weights, flat[-len(weights) :].tolist(), strict=True):
                own = flat[start : start + weight.numel()].view_as(weight)
                weight.grad = own.clone() if count else None
                start += weight.numel()

    @contextmanager
    def tracking(self, folder: RunFolder, options: TrainOptions) -> Iterator[Track]:
        """Hands rows on to the trackers that were asked for."""
        if not options.trackers:
            yield lambda row, step: None
            return
        plain = {
            name: value
            for name, value in dataclasses.asdict(options).items()
            if isinstance(value, (int, float, str))
        }
        self.accelerator.init_trackers("decaylab", config={"run": folder.path.name, **plain})

        def track(row: dict[str, Any], step: int) -> None:
            self.accelerator.log(
                {name: value for name, value in row.items() if isinstance(value, (int, float))},
                step=step,
            )

        try:
            yield track
        finally:
            self.accelerator.end_training()
