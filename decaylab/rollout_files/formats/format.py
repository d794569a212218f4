"""The definition of a format: its name, how its rows are recognised, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.record import Record

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """A writer's format.

    name: printed, and accepted by ``--rollouts-format``: lower case with hyphens.
    title: description for the output, such as "TRL completions".
    recognises: whether a row is of this format (see `shapes`). Must be strict: no two formats may
        recognise the same row.
    read: the rollouts of a row. Raises UserError for a malformed row.
    """

    name: str
    title: str
    recognises: Callable[[Row], bool]
    read: Callable[[Fields], Iterator[Record]]

    def records(self, row: Row, place: str) -> Iterator[Record]:
        """The rollouts of a row. place: its file and line, for messages."""
        return self.read(Fields(row, place))
