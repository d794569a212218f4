"""Short training runs and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import torch
from command_line import _SharedGrader

from decaylab.options.training import TrainOptions
from decaylab.runs.train_results import TrainResult
from decaylab.trainer import loop

SHORT: dict[str, Any] = {
    "steps": 4,
    "problems_per_step": 4,
    "checkpoint_every": 2,
    "validation_problems": 6,
}


MEASURED = ("seconds", "gib")


def train(folder: Path, **options: Any) -> TrainResult:
    torch.set_num_threads(1)
    with mock.patch.object(loop, "Grader", _SharedGrader):
        return loop.train(TrainOptions(out=str(folder), **{**SHORT, **options}))


def trace(folder: Path, name: str = "metrics.csv") -> pd.DataFrame:
    """What a run recorded, but for what a clock and a memory meter say."""
    rows = pd.read_csv(folder / name)
    return rows[[column for column in rows if not any(word in column for word in MEASURED)]]
