"""Run folders: parquet tables with versioned schemas, written whole or not at all, and resumed part
by part.

runs/mine/run.json               command, resolved configuration, versions, identities
runs/mine/problems.parquet       what was asked
runs/mine/parts/STAGE-00003.parquet   while the run goes on
runs/mine/rollouts.parquet       the merged parts, once every stage is done
runs/mine/measurements.parquet   and .csv
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from decaylab.errors import UserError

SCHEMA = b"decaylab_schema"
ROLLOUTS = "decaylab.rollouts/1"
PROBLEMS = "decaylab.problems/1"
TOP = "decaylab.top5/1"  # beside scored tokens: the likeliest ids of both policies
IDS = pa.list_(
    pa.field("element", pa.int32())
)  # as parquet calls it: parts that were read merge to the same bytes
MASK = pa.list_(pa.field("element", pa.int8()))
COMMANDS = (
    "prefix-decay",
    "position-kl",
    "category-kl",
    "submode",
    "signals",
    "behaviour",
    "evaluate",
)
RESULTS = (
    *(
        "measurements.parquet",
        "measurements.csv",
        "rollouts.parquet",
        "problems.parquet",
        "prompts.parquet",
        "outcomes.parquet",
        "viewed-rollouts.parquet",
        "viewed-tokens.parquet",
        "view.html",
        "advice.txt",
    ),
    *(f"{command}.{kind}" for command in COMMANDS for kind in ("png", "svg", "txt")),
)
# 1 at the author's own tokens, 0 at what tools and users wrote between; null: all are its own
ROLLOUT_FIELDS: list[tuple[str, pa.DataType]] = [
    ("rollout_id", pa.string()),
    (
        "condition",
        pa.string(),
    ),  # student, teacher, student-prefix, student-turns, own-prefix, swapped, reverse
    ("problem_id", pa.string()),
    ("sample", pa.int32()),
    ("author", pa.string()),  # the role of the policy that wrote the response: student or teacher
    ("policy", pa.string()),
    ("prompt_ids", IDS),
    ("prefix_ids", IDS),  # in the author's tokens; empty for a plain rollout
    ("prefix_author", pa.string()),
    ("prefix_tokens", pa.int32()),  # in tokens of the prefix's author
    ("prefix_rollout_id", pa.string()),
    ("prefix_correct_so_far", pa.bool_()),  # null where no step verifier knows
    ("prefix_turns", pa.int32()),  # turns of the prefix's author; null where it is cut by tokens
    ("response_ids", IDS),  # without the prefix; the end-of-turn token included
    ("text", pa.string()),  # what was graded: prefix and response
    (
        "response_mask",
        MASK,
    ),
    ("file_grade", pa.string()),  # the verdict of the file that the rollout came from
    ("stop_reason", pa.string()),  # eos, length; of a file also other (no natural end) and unknown
    (
        "absent_mass",
        pa.float64(),
    ),  # probability at a position, on the mean, of ids that no token has: never drawn
    ("temperature", pa.float64()),
    ("top_p", pa.float64()),
    ("top_k", pa.int32()),
    ("max_tokens", pa.int32()),
    ("engine", pa.string()),
    ("seed", pa.int64()),
]


def rollout_schema(answer_rules: tuple[str, ...]) -> pa.Schema:
    """The rollouts table: one row a rollout or continuation, one ``grade_RULE`` column for each
    answer rule.

    answer_start: place in the text behind the last thought, 0 without one; null where a thought is
    open at the end.
    """
    graded = [
        ("answer_start", pa.int32()),
        *((f"grade_{rule}", pa.string()) for rule in answer_rules),
    ]
    return pa.schema(ROLLOUT_FIELDS + graded)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        UserError: the disk is full or the folder cannot be written; what stood there before still
        stands.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error) from error


def write_table(table: pa.Table, path: Path, schema_name: str) -> None:
    """Writes a table atomically, with the name and version of its schema in the file."""
    metadata = {**(table.schema.metadata or {}), SCHEMA: schema_name.encode()}
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    write_atomically(path, sink.getvalue().to_pybytes())


def read_table(path: Path, schema_name: str) -> pa.Table:
    """Reads a table of the named schema.

    Raises:
        UserError: the file is missing, truncated or damaged, or of another schema.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"{path} is truncated or damaged ({reason}); delete it and run the same command again"
        ) from error
    found = (table.schema.metadata or {}).get(SCHEMA, b"none").decode()
    if found != schema_name:
        raise UserError(
            f"{path} has schema {found}, expected {schema_name}; it was written by another version"
        )
    return table


def unwritable(path: Path, error: OSError) -> UserError:
    """What is told where a file could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"no space left while writing {path}; free some and run the same command again: "
            "nothing is lost"
        )
    return UserError(f"cannot write {path}: {error.strerror or error}")


class RunFolder:
    """One run on disk. Opening an existing one checks that it is the same run; finished parts are
    kept."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def record(self) -> dict[str, Any] | None:
        """The content of run.json; None in a new folder."""
        path = self.path / "run.json"
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} is damaged ({error}); choose another folder with --out"
            ) from error
        if not isinstance(record, dict):
            raise UserError(f"{path} is damaged (not an object); choose another folder with --out")
        return record

    @property
    def finished(self) -> bool:
        return (self.path / "measurements.parquet").exists()

    def open(self, record: dict[str, Any], *, overwrite: bool = False) -> dict[str, Any]:
        """Starts a run, or resumes one whose identity is the same; returns the record that holds.

        ``record["identity"]`` is what must agree; the rest (command, versions, dates) may differ
        between the two. With ``overwrite`` the run that stands here, whatever its identity, gives
        way; other files are left alone.

        Raises:
            UserError: another configuration stands in the folder (says what differs), or files of
            something else.
        """
        existing = self.record
        if existing is None:
            if self.path.exists() and any(
                entry.name not in (".lock", ".run.json.tmp") for entry in self.path.iterdir()
            ):
                raise UserError(
                    f"{self.path} is not empty and holds no run.json; choose another folder with "
                    "--out"
                )
            self._write_record(record)
            return record
        if overwrite:
            self._remove_results()
            self._write_record(record)
            return record
        differences = differing(
            existing.get("identity", {}), json.loads(json.dumps(record["identity"]))
        )
        if differences:
            raise UserError(
                f"{self.path} holds a run of another configuration "
                f"({'; '.join(differences[:4])}); choose another --out"
            )
        return existing

    def update(self, values: dict[str, Any]) -> dict[str, Any]:
        """Changes entries of run.json that are not part of the run's identity; returns the whole
        record."""
        record = {**(self.record or {}), **values}
        self._write_record(record)
        return record

    def _write_record(self, record: dict[str, Any]) -> None:
        write_atomically(
            self.path / "run.json", (json.dumps(record, indent=1, sort_keys=True) + "\n").encode()
        )

    def clear(self) -> None:
        """Removes the tables and parts of the run that stands here, and its record."""
        if self.record is None:
            return
        self._remove_results()
        (self.path / "run.json").unlink(missing_ok=True)

    def _remove_results(self) -> None:
        for entry in (
            *(self.path / name for name in RESULTS),
            *(self.path / "parts").glob("*.parquet"),
        ):
            entry.unlink(missing_ok=True)

    @contextmanager
    def lock(self, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Keeps a second process out of the folder while this one works in it.

        wait: is told, once, where another process is in there; that one is then waited for.
        Without, it is an error.

        Raises:
            UserError: the folder cannot be written; or is in use, and is not to be waited for.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = (self.path / ".lock").open("w")
        except OSError as error:
            raise unwritable(self.path, error) from error
        with handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if wait is None:
                    raise UserError(f"{self.path} is in use by another process") from error
                wait(f"{self.path} is in use by another process: waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def write_problems(self, problems: list[dict[str, Any]]) -> None:
        """What is asked: problem_id, question, gold answer, and the chain of steps where it is
        known."""
        columns = [("problem_id", pa.string()), ("question", pa.string()), ("answer", pa.string())]
        schema = pa.schema([*columns, ("steps", pa.list_(pa.field("step", pa.string())))])
        if not (self.path / "problems.parquet").exists():
            write_table(
                pa.Table.from_pylist(problems, schema=schema),
                self.path / "problems.parquet",
                PROBLEMS,
            )

    def part_path(self, stage: str, number: int) -> Path:
        return self.path / "parts" / f"{re.sub('[^a-z0-9-]+', '_', stage)}-{number:05d}.parquet"

    def parts(self, stage: str) -> list[int]:
        """The numbers of a stage's parts that are there, ascending."""
        here = self.part_path(stage, 0)
        found = here.parent.glob(
            f"{here.stem.removesuffix('-00000')}-[0-9][0-9][0-9][0-9][0-9].parquet"
        )
        return sorted(int(path.stem[-5:]) for path in found)

    def read_part(self, stage: str, number: int) -> pa.Table | None:
        """A part that an earlier process finished, or None."""
        path = self.part_path(stage, number)
        return read_table(path, ROLLOUTS) if path.exists() else None

    def write_part(self, stage: str, number: int, table: pa.Table) -> None:
        write_table(table, self.part_path(stage, number), ROLLOUTS)

    def merge(self, tables: list[pa.Table]) -> pa.Table:
        """Writes rollouts.parquet from all parts and removes the parts."""
        metadata = {
            name: value
            for name, value in (tables[0].schema.metadata or {}).items()
            if name != SCHEMA
        }
        table = pa.concat_tables([table.replace_schema_metadata(metadata) for table in tables])
        write_table(table, self.path / "rollouts.parquet", ROLLOUTS)
        for part in (self.path / "parts").glob("*.parquet"):
            part.unlink()
        return table

    def read_rollouts(self) -> pa.Table | None:
        path = self.path / "rollouts.parquet"
        return read_table(path, ROLLOUTS) if path.exists() else None


def differing(first: dict[str, Any], second: dict[str, Any], name: str = "") -> list[str]:
    """Where two nested configurations differ, as ``key: there, here`` in words."""
    found = []
    for key in sorted(first.keys() | second.keys()):
        there, here = first.get(key), second.get(key)
        if isinstance(there, dict) and isinstance(here, dict):
            found += differing(there, here, f"{name}{key}.")
        elif there != here:
            found.append(f"{name}{key}: {there!r} there, {here!r} now")
    return found
