"""How results leave a command: tables or JSON on standard output, progress on standard error."""

from __future__ import annotations

import json
import math
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from decaylab.progress import Reporter

if TYPE_CHECKING:
    import pandas as pd

    from decaylab.runs.train_results import TrainResult


@dataclass(frozen=True)
class Output:
    """What was asked of a command's output. verbose: every table and note, not the verdict and its
    table alone."""

    as_json: bool
    quiet: bool
    verbose: bool = False

    @property
    def reporter(self) -> Reporter:
        return Reporter(quiet=self.quiet)

    def run(self, result: Any, **more: str | list[str]) -> None:
        """A finished run: its page, or its measurements in full with what else is given."""
        if self.as_json:
            print_json(result, **more)
            return
        from decaylab.runs import found_runs
        from decaylab.tables.shown import print_run

        print_run(found_runs.read(result.folder), verbose=self.verbose)


def print_json(result: Any, **more: Any) -> None:
    """A run with its verdict, notes and measurements as one JSON object."""
    from decaylab.claims import one_run
    from decaylab.runs import found_runs

    record = {
        "run": str(result.folder),
        "verdict": list(one_run.verdict(found_runs.read(result.folder))),
        "notes": list(result.notes),
        **more,
        "measurements": rows(result.measurements),
    }
    print(json.dumps(record))


def print_training(result: TrainResult) -> None:
    """A training run as one JSON object."""
    from decaylab.tables import training

    record = {
        "run": str(result.folder),
        "verdict": list(training.verdict(result.validation)),
        "notes": list(result.notes),
        "alarms": list(result.alarms),
        "metrics": rows(result.metrics),
        "validation": rows(result.validation),
    }
    print(json.dumps(record))


def rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    """Numbers in full. JSON has no undefined, which is null, and no infinity, which is "inf"."""
    records = frame.to_dict("records")
    return [{name: _plain(value) for name, value in row.items()} for row in records]


def _plain(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def typed() -> str:
    """The command as it was typed."""
    return shlex.join(["decaylab", *sys.argv[1:]])
