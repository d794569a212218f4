"""Seconds and peak memory of each phase of a step."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from decaylab.printing import GIB

PHASES = ("generation", "scoring", "training")


class Meter:
    """Total seconds and peak memory of each phase.

    Memory is torch's allocation on a GPU, and resident memory on Linux without one. It is NaN on
    other systems, and if the kernel does not allow a process to reset its peak.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.clear()

    def clear(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.peak_gib = dict.fromkeys(PHASES, math.nan)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures the block as part of this phase; blocks do not nest."""
        fresh = self._reset_peak()
        started = time.perf_counter()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name] += time.perf_counter() - started
        peak = self._peak() if fresh else math.nan
        self.peak_gib[name] = max(peak, self.peak_gib[name])  # in this order a number replaces NaN

    def columns(self) -> dict[str, float]:
        """``generation_seconds``, ..., ``training_peak_gib``."""
        seconds = {f"{name}_seconds": value for name, value in self.seconds.items()}
        return seconds | {f"{name}_peak_gib": value for name, value in self.peak_gib.items()}

    def _reset_peak(self) -> bool:
        """Whether the peak could be reset; otherwise it would be that of the whole process."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return True
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def _peak(self) -> float:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / GIB
        with suppress(OSError, KeyError):
            lines = Path("/proc/self/status").read_text().splitlines()
            status = dict(line.split(":", 1) for line in lines)
            return int(status["VmHWM"].split()[0]) * 1024 / GIB
        return math.nan
