"""What a format is: a name, how its rows are recognised, and how a row becomes records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from decaylab.rollout_files.record import Record

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """A writer's format.

    name: as it is printed, and as ``--rollouts-format`` takes it: lower case with hyphens.
    title: whose files these are, for the output, such as "TRL completions".
    recognises: whether a row is of this format, by its columns and the types of their values. It
        must be strict: no two formats may recognise the same row.
    records: the rollouts of a row; ``place`` (file and line) is for messages. Raises UserError for
    a malformed row.
    """

    name: str
    title: str
    recognises: Callable[[Row], bool]
    records: Callable[[Row, str], Iterator[Record]]
