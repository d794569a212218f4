"""Where the rollouts and scored tokens of a diagnostic stand, as its run.json records them.

Both are in the cache that diagnostics share; rollouts that were given are kept in the run's folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from decaylab.errors import UserError
from decaylab.runs import store
from decaylab.runs.vocabulary import BASE

GIVEN = "given-rollouts.parquet"
"""The base student's rollouts in a run's folder, if they came from a file or another run."""


class Scored(NamedTuple):
    """A folder of scored tokens.

    view: ``fresh`` (the checkpoint's own rollouts) or ``frozen`` (those of the base student).
    """

    checkpoint: str
    view: str
    folder: Path


def record(scored: Iterable[Scored], rollouts: Mapping[str, Path]) -> dict[str, Any]:
    """The entry of run.json. rollouts: the folder of each policy's sampled rollouts."""
    tokens = [one._asdict() | {"folder": str(one.folder)} for one in scored]
    return {"tokens": tokens, "rollouts": {label: str(path) for label, path in rollouts.items()}}


def scored(run: store.RunFolder) -> list[Scored]:
    """The folders of the run's scored tokens, base first; none if it scored no tokens.

    Raises:
        UserError: a folder is gone, or an earlier version measured the run.
    """
    return [
        Scored(one["checkpoint"], one["view"], found(one["folder"], run))
        for one in _recorded(run)["tokens"]
    ]


def rollouts(run: store.RunFolder) -> dict[str, pa.Table]:
    """The rollouts of each policy of the run by its label, base first.

    Raises:
        UserError: a table is gone or damaged, or an earlier version measured the run.
    """
    tables: dict[str, pa.Table] = {}
    if (run.path / GIVEN).exists():
        tables[BASE] = store.read_table(run.path / GIVEN, store.ROLLOUTS)
    folders = _recorded(run)["rollouts"]
    for label in sorted(folders, key=lambda label: label != BASE):
        path = found(folders[label], run) / "rollouts.parquet"
        tables[label] = store.read_table(path, store.ROLLOUTS)
    return tables


def _recorded(run: store.RunFolder) -> dict[str, Any]:
    record = run.record or {}
    if "probe" in record.get("identity", {}):
        raise UserError(
            f"{run.path} is the run of a probe: its scored tokens are in {run.path}/steps, a "
            "parquet file for each step, and the texts of its rollouts are not kept"
        )
    if "sources" not in record:
        raise UserError(
            f"{run.path} does not record where its rollouts and tokens are: an earlier version "
            f"measured it. `{record.get('command')}` records it, and reuses the cache"
        )
    found: dict[str, Any] = record["sources"]
    return found


def found(recorded: str, run: store.RunFolder) -> Path:
    """A recorded folder: where it was, or beside the run if both were moved together.

    Raises:
        UserError: it is gone.
    """
    for place in (Path(), *run.path.absolute().parents):
        if (place / recorded).is_dir():
            return place / recorded
    raise UserError(
        f"{recorded} is gone, which has rollouts or tokens of {run.path}; "
        f"`{(run.record or {}).get('command')}` makes them again"
    )
