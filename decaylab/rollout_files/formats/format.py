"""What a format is: a name, how its rows are recognised, and how a row becomes records."""

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

    name: as it is printed, and as ``--rollouts-format`` takes it: lower case with hyphens.
    title: whose files these are, for the output, such as "TRL completions".
    recognises: whether a row is of this format (see `shapes`). It must be strict: no two formats
        may recognise the same row.
    read: the rollouts of a row. Raises UserError for a malformed row.
    """

    name: str
    title: str
    recognises: Callable[[Row], bool]
    read: Callable[[Fields], Iterator[Record]]

    def records(self, row: Row, place: str) -> Iterator[Record]:
        """The rollouts of a row; ``place`` is its file and line, for messages."""
        return self.read(Fields(row, place))
