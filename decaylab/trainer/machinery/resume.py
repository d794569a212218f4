"""What a run needs to go on after a kill: the trained weights and the optimizer's moments after a
step, in one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from decaylab.errors import UserError
from decaylab.runs import store
from decaylab.trainer.machinery.sharding import gather, like

KEPT = ("step", "exp_avg", "exp_avg_sq")
"""Of each parameter. Its count of updates is its own and not the run's: a step that has left every
rollout out makes none."""


def checkpoint_folder(run: Path, step: int) -> Path:
    return run / f"step-{step:06d}"


class ResumeState:
    """``resume/state.safetensors`` of a run: replaced whole, so that there is always one to go on
    from."""

    def __init__(self, run: Path) -> None:
        self.path = run / "resume" / "state.safetensors"

    def write(
        self,
        step: int,
        parameters: dict[str, Tensor],
        optimizer: torch.optim.Optimizer,
        keep: bool = True,
    ) -> None:
        """keep: whether this process writes the file; where weights are sharded, all take part in
        gathering them."""
        named = [(f"weights.{name}", weight) for name, weight in parameters.items()]
        for name, weight in parameters.items():  # no moments where it has never had a gradient
            named += [
                (f"{one}.{name}", value) for one, value in optimizer.state.get(weight, {}).items()
            ]
        tensors = gather(named, keep)
        if keep:
            store.write_atomically(self.path, save(tensors, metadata={"step": str(step)}))

    def read(self, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
        """Puts weights and moments back in place; returns the step they are of, 0 where there is
        none to read.

        Raises:
            UserError: the file is damaged or of other parameters.
        """
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, framework="pt") as file, torch.no_grad():
                step = int(file.metadata()["step"])
                for name, weight in parameters.items():
                    weight.copy_(like(file.get_tensor(f"weights.{name}"), weight))
                    if f"exp_avg.{name}" in file.keys():  # noqa: SIM118  (a handle, not a dict)
                        step_count, *moments = (file.get_tensor(f"{one}.{name}") for one in KEPT)
                        moments = [like(one, weight) for one in moments]
                        optimizer.state[weight] = dict(
                            zip(KEPT, [step_count, *moments], strict=True)
                        )
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"{self.path} is damaged ({reason}); --overwrite begins the run anew"
            ) from error
        return step

    def remove(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)
