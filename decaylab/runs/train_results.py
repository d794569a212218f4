"""What a training run leaves in its folder, as it is printed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.errors import UserError
from decaylab.runs.growing_csv import Table
from decaylab.runs.store import RunFolder


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its folder and record, the rows of metrics.csv and validation.csv, notes.

    is_main: this process is the one of the run that reports.
    """

    folder: Path
    record: dict[str, Any]
    metrics: pd.DataFrame
    validation: pd.DataFrame
    notes: tuple[str, ...]
    alarms: tuple[str, ...]
    is_main: bool = True


def is_training(folder: Path) -> bool:
    """Whether a folder holds a training run, finished or not."""
    return "training" in (RunFolder(folder).record or {}).get("identity", {})


def read(folder: Path, is_main: bool = True) -> TrainResult:
    """A finished run as its folder has it.

    Raises:
        UserError: the run is not finished.
    """
    record = RunFolder(folder).record or {}
    if not record.get("finished"):
        raise UserError(f"{folder}: the training is not finished; its own command resumes it")
    held_out = Table(folder / "validation.csv")
    rows = held_out.read() if held_out.path.exists() else pd.DataFrame()
    raised = [
        f"alarm at step {alarm['step']}: {alarm['alarm']}" for alarm in record.get("alarms", ())
    ]
    metrics = Table(folder / "metrics.csv").read()
    return TrainResult(
        folder, record, metrics, rows, tuple(record["notes"]), tuple(raised), is_main
    )
