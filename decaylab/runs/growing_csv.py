"""Files that grow a row at a time and that pandas opens: what is there of each step, and of each
checkpoint."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.errors import UserError
from decaylab.runs import store


class Table:
    """A CSV file with a row for each step, appended and flushed row by row; numbers read back as
    they were."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: dict[str, Any]) -> None:
        """Adds a row; the first one of a file names the columns.

        Raises:
            UserError: the file cannot be written.
        """
        new = not self.path.exists() or self.path.stat().st_size == 0
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(
            {name: "" if value is None or value != value else value for name, value in row.items()}
        )
        try:
            with self.path.open("a", newline="") as handle:
                handle.write(text.getvalue())
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise store.unwritable(self.path, error) from error

    def keep_until(self, step: int) -> None:
        """Drops the rows of later steps, and one that was cut off as it was written; a file without
        a row is removed."""
        if not self.path.exists():
            return
        rows = self.path.read_text().splitlines(keepends=True)
        kept = rows[:1] + [
            row for row in rows[1:] if row.endswith("\n") and 0 <= _step(row) <= step
        ]
        if len(kept) < 2:
            self.path.unlink()  # the columns may be cut off too; who writes the next row names them
        elif kept != rows:
            store.write_atomically(self.path, "".join(kept).encode())

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
