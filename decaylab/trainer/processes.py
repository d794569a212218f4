"""The processes of one training run, by accelerate: who does what, and how their sums become one."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from decaylab.errors import UserError
from decaylab.store import RunFolder
from decaylab.training_options import TrainOptions

Track = Callable[[dict[str, Any], int], None]


class Processes:
    """This process among those that ``accelerate launch`` started; the only one without it."""

    def __init__(self, options: TrainOptions) -> None:
        """Raises UserError where a tracker's package is missing."""
        from accelerate import Accelerator
        from accelerate.utils import set_seed

        for name in options.trackers:
            if importlib.util.find_spec(name) is None:
                raise UserError(f"--track {name} needs a package that is not installed: pip install {name}")
        own = options.out or options.default_folder()
        several = int(os.environ.get("WORLD_SIZE", "1")) > 1  # alone, a process is where its policies are loaded
        self.accelerator: Any = Accelerator(
            cpu=several and options.device == "cpu", log_with=list(options.trackers) or None, project_dir=own
        )
        self.count, self.rank = int(self.accelerator.num_processes), int(self.accelerator.process_index)
        set_seed(options.seed % 2**32)  # numpy's takes no more; nothing here is drawn from it

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Of problems in a row, those that this process takes."""
        return slice(self.rank, None, self.count)

    def placed(self, options: TrainOptions) -> TrainOptions:
        """The options with the device that this process has among several."""
        if self.count == 1:
            return options
        return dataclasses.replace(options, device=str(self.accelerator.device))

    def wait(self) -> None:
        self.accelerator.wait_for_everyone()

    def add_up(self, sums: dict[str, float]) -> dict[str, float]:
        """Each sum over all processes. A process that has made nothing has no name for what is missing there: 0."""
        if self.count == 1:
            return sums
        from accelerate.utils import gather_object

        found: dict[str, float] = {}
        for one in gather_object([sums]):
            for name, value in one.items():
                found[name] = found.get(name, 0.0) + value
        return found

    def add_gradients(self, weights: list[Tensor]) -> None:
        """Replaces each gradient by the sum over all processes; a process without one counts as 0."""
        if self.count == 1:
            return
        with torch.no_grad():
            flat = torch.cat(
                [torch.zeros_like(one).flatten() if one.grad is None else one.grad.flatten() for one in weights]
            )
            flat = self.accelerator.reduce(flat, reduction="sum")
            start = 0
            for weight in weights:
                weight.grad = flat[start : start + weight.numel()].view_as(weight).clone()
                start += weight.numel()

    @contextmanager
    def tracking(self, folder: RunFolder, options: TrainOptions) -> Iterator[Track]:
        """Hands rows on to the trackers that were asked for."""
        if not options.trackers:
            yield lambda row, step: None
            return
        plain = {
            name: value for name, value in dataclasses.asdict(options).items() if isinstance(value, (int, float, str))
        }
        self.accelerator.init_trackers("decaylab", config={"run": folder.path.name, **plain})

        def track(row: dict[str, Any], step: int) -> None:
            self.accelerator.log(
                {name: value for name, value in row.items() if isinstance(value, (int, float))}, step=step
            )

        try:
            yield track
        finally:
            self.accelerator.end_training()
