"""What trackers wrote to disk, read back: tracker -> step -> name -> value."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

Logged = dict[int, dict[str, float]]
BLOCK, HEADER = 2**15, 7  # of LevelDB's log format, in which W&B keeps offline runs
PATIENCE = 60  # seconds
WHOLE, FIRST = 1, 2  # kinds of records; a longer one has more pieces


def offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets every tracker write below this folder and nowhere else."""
    places = {
        "TENSORBOARD_LOGGING_DIR": folder / "events",
        "WANDB_MODE": "offline",
        "WANDB_DIR": folder,
        "WANDB_SILENT": "true",
    }
    for variable, value in places.items():
        monkeypatch.setenv(variable, str(value))
    # trackio reads its variable when it is imported, and TRL imports it
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "trackio" and hasattr(module, "TRACKIO_DIR"):
            monkeypatch.setattr(module, "TRACKIO_DIR", folder / "trackio")


def tensorboard(folder: Path) -> Logged:
    """The scalars of an event file."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events, found = (
        EventAccumulator(str(folder / "events")),
        defaultdict[int, dict[str, float]](dict),
    )
    events.Reload()
    for name in events.Tags()["scalars"]:
        for event in events.Scalars(name):
            found[event.step][name] = event.value
    return dict(found)


def wandb(folder: Path) -> Logged:
    """The history of the only offline run."""
    from wandb.proto import wandb_internal_pb2

    def records() -> list[Any]:
        return [wandb_internal_pb2.Record.FromString(each) for each in _records(path.read_bytes())]

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    until = time.monotonic() + PATIENCE
    # W&B's own process may still be writing after wandb.finish
    while not any(record.HasField("exit") for record in records()):
        assert time.monotonic() < until, f"{path} has no end"
        time.sleep(0.1)
    found = defaultdict[int, dict[str, float]](dict)
    for record in records():
        values: dict[str, Any] = {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        if values:
            found[int(values["train/global_step"])].update(values)
    return dict(found)


def trackio(folder: Path) -> Logged:
    """The metrics of the only run."""
    from trackio.sqlite_storage import SQLiteStorage

    (project,) = SQLiteStorage.get_projects()
    (run,) = SQLiteStorage.get_runs(project)
    found = defaultdict[int, dict[str, float]](dict)
    for values in SQLiteStorage.get_logs(project, run):
        found[int(values["train/global_step"])].update(values)
    return dict(found)


def _records(log: bytes) -> Iterator[bytes]:
    """The records of a log: pieces of at most a block, each behind checksum, length and kind."""
    place, record = HEADER, b""  # W&B begins the first block with a header of its own
    while place + HEADER <= len(log):
        room = BLOCK - place % BLOCK
        if room < HEADER:
            place += room
            continue
        _, length, kind = struct.unpack_from("<IHB", log, place)
        piece = log[place + HEADER : place + HEADER + length]
        record = piece if kind in (WHOLE, FIRST) else record + piece
        place += HEADER + length
        if kind not in (FIRST, FIRST + 1):  # whole, or the last piece
            yield record
