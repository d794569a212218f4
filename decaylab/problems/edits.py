"""Edits of the user's own: a CSV or JSONL file with the columns problem, prefix and label.

problem,prefix,label
abacus-0-000000,"38+55=93\\n",correct
abacus-0-000000,"38+55=83\\n",wrong
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.errors import UserError, did_you_mean

COLUMNS = ("problem", "prefix", "label")
KINDS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Edit:
    """A prefix to continue. problem: id. line: of the file, for messages."""

    problem: str
    prefix: str
    label: str
    line: int


@dataclass(frozen=True)
class Edits:
    """The rows of a file, in order. sha256: of the file."""

    name: str
    rows: tuple[Edit, ...]
    sha256: str

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the file."""
        return tuple(dict.fromkeys(row.label for row in self.rows))

    def reference(self, asked: str | None) -> str:
        """The label that the others are compared with: by default the first one.

        Raises:
            UserError: the file has no such label.
        """
        if asked is None or asked in self.labels:
            return asked or self.labels[0]
        raise UserError(
            f"--reference {asked}: the labels of {self.name} are {', '.join(self.labels)}"
            f"{did_you_mean(asked, self.labels)}"
        )


def read(name: str) -> Edits:
    """Reads a file of edits.

    Raises:
        UserError: it is missing, of another kind or empty; a column or a label is missing; a row
            stands there twice.
    """
    path = Path(name).expanduser()
    if path.suffix not in KINDS:
        raise UserError(f"--edits {name} must end in {' or '.join(KINDS)}")
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")  # spreadsheets write a byte-order mark
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise UserError(f"--edits {name}: {reason}") from error
    lines = _csv_rows(text) if path.suffix == ".csv" else _json_rows(name, text)
    rows = [_row(name, line, row) for line, row in lines]
    if not rows:
        raise UserError(f"--edits {name} holds no rows; give it one a prefix, as {_columns()}")
    _check_twice(name, rows)
    return Edits(path.name, tuple(rows), hashlib.sha256(content).hexdigest())


def _columns() -> str:
    return ", ".join(COLUMNS)


def _csv_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text))
    fields, line = reader.fieldnames, reader.line_num + 1
    for row in reader if fields else ():
        yield line, row
        line = reader.line_num + 1  # a text may go over several lines


def _json_rows(name: str, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UserError(f"--edits {name}, line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise UserError(f"--edits {name}, line {number}: not an object with {_columns()}")
        yield number, row


def _row(name: str, line: int, row: Mapping[str, Any]) -> Edit:
    missing = [column for column in COLUMNS if row.get(column) is None]
    if missing:
        raise UserError(
            f"--edits {name}, line {line}: no {missing[0]}; every row needs {_columns()}"
        )
    if None in row:
        raise UserError(
            f"--edits {name}, line {line}: more values than columns; put a prefix with a comma "
            "into quotation marks"
        )
    texts = [row[column] for column in COLUMNS]
    odd = next((column for column in COLUMNS if not isinstance(row[column], str)), None)
    if odd:
        raise UserError(f"--edits {name}, line {line}: {odd} must be text, got {row[odd]!r}")
    problem, prefix, label = texts
    if not label.strip():
        raise UserError(f"--edits {name}, line {line}: the label is empty; name what was changed")
    return Edit(problem, prefix, label.strip(), line)


def _check_twice(name: str, rows: list[Edit]) -> None:
    seen: dict[tuple[str, str, str], int] = {}
    for row in rows:
        first = seen.setdefault((row.problem, row.prefix, row.label), row.line)
        if first != row.line:
            raise UserError(
                f"--edits {name}, line {row.line} repeats line {first}; remove it, and raise "
                "--samples for more continuations"
            )
