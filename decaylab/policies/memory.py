"""Recognises torch's out-of-memory errors."""

from __future__ import annotations

import torch

SIGNS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


def out_of_memory(error: Exception) -> bool:
    """Whether a torch error means that the device ran out of memory, on any kind of device."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or any(sign in text for sign in SIGNS)
