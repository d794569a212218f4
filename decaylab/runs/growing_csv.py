"""CSV files that grow row by row: the records of steps and checkpoints."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab import disk
from decaylab.errors import UserError


class Table:
    """A CSV file with one row per step, flushed after each row; numbers round-trip exactly."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row; the first row sets the columns. None and NaN are written as empty cells.

        Raises:
            UserError: the file cannot be written.
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
        if not self.path.exists() or self.path.stat().st_size == 0:
            writer.writeheader()
        # NaN is the one value that differs from itself.
        writer.writerow({name: None if value != value else value for name, value in row.items()})
        try:
            with self.path.open("a", newline="") as handle:
                handle.write(text.getvalue())
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise disk.unwritable(self.path, error) from error

    def keep_until(self, step: int) -> None:
        """Drops the rows of later steps and an incompletely written row.

        A file without rows is removed, since its header may be incomplete too.
        """
        if not self.path.exists():
            return
        rows = self.path.read_text().splitlines(keepends=True)
        # A row without a newline was not completely written.
        kept = [row for row in rows[1:] if row.endswith("\n") and 0 <= _step(row) <= step]
        if not kept:
            self.path.unlink()
        elif len(kept) < len(rows) - 1:
            disk.write_atomically(self.path, "".join(rows[:1] + kept).encode())

    def read(self) -> pd.DataFrame:
        """The rows, in the order of their steps.

        Raises:
            UserError: the file is damaged.
        """
        try:
            return pd.read_csv(self.path)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path} cannot be read ({error})") from error


def _step(row: str) -> int:
    first = row.partition(",")[0]
    return int(first) if first.isdecimal() else -1
