"""Whether an error of torch says that the memory of a device does not suffice."""

from __future__ import annotations

import torch

SIGNS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def out_of_memory(error: Exception) -> bool:
    """Whether an error of torch means that, on whatever device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in SIGNS)
