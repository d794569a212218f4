"""The engine that samples where the user names none."""

from __future__ import annotations

import importlib.util
from typing import Literal

Engine = Literal["transformers", "vllm"]


def usual(device: str) -> Engine:
    """vllm where it is installed and this machine has a GPU for it, else transformers.

    device: as in ``--device``: a GPU that the user does not want is not there.
    """
    if importlib.util.find_spec("vllm") is None:
        return "transformers"
    import torch  # only here: it takes a second, and most machines are decided above

    wanted = device == "auto" or device.startswith("cuda")
    return "vllm" if wanted and torch.cuda.is_available() else "transformers"
