"""What a run needs to go on after a kill: the trained weights and the optimizer's moments after a step, in one file."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from decaylab import store
from decaylab.errors import UserError

MOMENTS = ("exp_avg", "exp_avg_sq")


def checkpoint_folder(run: Path, step: int) -> Path:
    return run / f"step-{step:06d}"


class ResumeState:
    """``resume/state.safetensors`` of a run: replaced whole, so that there is always one to go on from."""

    def __init__(self, run: Path) -> None:
        self.path = run / "resume" / "state.safetensors"

    def write(self, step: int, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
        tensors = {f"weights.{name}": weight.detach().contiguous() for name, weight in parameters.items()}
        for name, weight in parameters.items():
            for moment in MOMENTS:
                if moment in optimizer.state[weight]:
                    tensors[f"{moment}.{name}"] = optimizer.state[weight][moment].contiguous()
        store.write_atomically(self.path, save(tensors, metadata={"step": str(step)}))

    def read(self, parameters: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> int:
        """Puts weights and moments back in place; returns the step they are of, 0 where there is none to read.

        Raises:
            UserError: the file is damaged or of other parameters.
        """
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, framework="pt") as file, torch.no_grad():
                step = int(file.metadata()["step"])
                for name, weight in parameters.items():
                    weight.copy_(file.get_tensor(f"weights.{name}"))
                    moments = {one: file.get_tensor(f"{one}.{name}").to(weight.device) for one in MOMENTS}
                    optimizer.state[weight] = {"step": torch.tensor(float(step)), **moments}
        except (SafetensorError, OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{self.path} is damaged ({reason}); --overwrite begins the run anew") from error
        return step

    def remove(self) -> None:
        shutil.rmtree(self.path.parent, ignore_errors=True)
