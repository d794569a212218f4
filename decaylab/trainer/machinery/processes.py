"""The processes of a training run, through accelerate: shares of the work, and total sums."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.runs.store import RunFolder
from decaylab.trainer.machinery import sharding

Track = Callable[[dict[str, Any], int], None]
Item = TypeVar("Item")
LAST_WORD_SECONDS = 30.0


@contextmanager
def one_speaks() -> Iterator[None]:
    """Lets only the main process report an error or interruption that all processes have.

    A launcher ends all processes when one fails, so the others wait for the main one to end first.
    """
    try:
        yield
    except (UserError, KeyboardInterrupt) as end:
        if sharding.processes() == 1 or int(os.environ.get("RANK", "0")) == 0:
            raise
        if isinstance(end, KeyboardInterrupt):
            raise SystemExit(130) from None
        time.sleep(LAST_WORD_SECONDS)
        raise SystemExit(2) from None


class Processes:
    """This process among those started by ``accelerate launch``; the only one without it.

    sharded: whether the student's layers are sharded (FSDP), so that all processes must run the
    student equally often.

    Raises:
        UserError: a tracker's package is missing, or the launcher's file has unsupported settings.
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
        self.accelerator: Any = Accelerator(
            # A single process uses the device of its policies.
            cpu=sharding.processes() > 1 and options.device == "cpu",
            log_with=list(options.trackers) or None,
            project_dir=options.out or options.default_folder(),
        )
        self.count = int(self.accelerator.num_processes)
        self.rank = int(self.accelerator.process_index)
        set_seed(options.seed % 2**32)  # numpy's limit; the trainer draws nothing from it

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> slice:
        """This process's part of a sequence of problems."""
        return slice(self.rank, None, self.count)

    @property
    def mesh(self) -> DeviceMesh:
        """A one-dimensional mesh of all processes."""
        return init_device_mesh(self.accelerator.device.type, (self.count,))

    def placed(self, options: TrainOptions) -> TrainOptions:
        """The options with this process's device."""
        if self.count == 1:
            return options
        return dataclasses.replace(options, device=str(self.accelerator.device))

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    @contextmanager
    def agreeing(self) -> Iterator[None]:
        """Raises a `UserError` of one process in all of them at the end of the block.

        This prevents a deadlock. Within the block no process may wait for the others.
        """
        message = ""
        try:
            yield
        except UserError as error:
            if self.count == 1:
                raise
            message = str(error)
        messages = list(filter(None, self._of_all(message)))
        if messages:
            raise UserError(messages[0])

    def most(self, number: int) -> int:
        """The largest of a number over the processes."""
        return int(max(self._of_all(number)))

    def _of_all(self, value: Any) -> list[Any]:
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        return list(gather_object([value]))

    def add_up(self, sums: dict[str, float]) -> dict[str, float]:
        """Each sum over all processes. A name missing in a process counts as 0."""
        total: dict[str, float] = defaultdict(float)
        for of_process in self._of_all(sums):
            for name, value in of_process.items():
                total[name] += value
        return dict(total)

    def gathered(self, items: list[Item]) -> list[Item]:
        """The items of every process, those of the first one first."""
        return [item for of_process in self._of_all(items) for item in of_process]

    def add_gradients(self, weights: list[Tensor]) -> None:
        """Replaces each gradient by the sum over all processes; a missing one counts as 0.

        The gradient of a sharded weight is already the sum. A weight without a gradient anywhere
        stays without one, since the optimizer would otherwise apply weight decay to it.
        """
        # One exchange for all gradients and their existence, since many small ones are slow.
        weights = [weight for weight in weights if not isinstance(weight, DTensor)]
        if self.count == 1 or not weights:
            return
        with torch.no_grad():
            parts = []
            for weight in weights:
                gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
                parts.append(gradient.flatten())
            there = [float(weight.grad is not None) for weight in weights]
            parts.append(torch.tensor(there, dtype=weights[0].dtype, device=weights[0].device))
            flat = self.accelerator.reduce(torch.cat(parts), reduction="sum")
            sums = flat.split([*(weight.numel() for weight in weights), len(weights)])
            for weight, total, count in zip(weights, sums, sums[-1].tolist(), strict=False):
                weight.grad = total.view_as(weight).clone() if count else None

    @contextmanager
    def tracking(self, folder: RunFolder, options: TrainOptions) -> Iterator[Track]:
        """Logs rows to the trackers named in the options."""
        if not options.trackers:
            yield lambda row, step: None
            return
        config = {"run": folder.path.name, **_plain(dataclasses.asdict(options), int, float, str)}
        self.accelerator.init_trackers("decaylab", config=config)
        try:
            yield lambda row, step: self.accelerator.log(_plain(row, int, float), step=step)
        finally:
            self.accelerator.end_training()


def _plain(values: dict[str, Any], *kinds: type) -> dict[str, Any]:
    return {name: value for name, value in values.items() if isinstance(value, kinds)}
