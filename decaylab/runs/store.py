"""Run folders: tables with versioned schemas, written whole or not at all, resumed part by part.

runs/mine/run.json                    command, resolved configuration, versions, identities
runs/mine/problems.parquet            the problems, with gold answers
runs/mine/parts/STAGE-00003.parquet   rollouts of an unfinished stage
runs/mine/rollouts.parquet            all parts, once every stage is done
runs/mine/measurements.parquet        and .csv
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from decaylab import disk
from decaylab.disk import unwritable as unwritable
from decaylab.disk import write_atomically as write_atomically
from decaylab.errors import UserError
from decaylab.plugins.origins import PLUGINS
from decaylab.runs import differences, run_json
from decaylab.runs.made import ENGINE, MADE, resumed

SCHEMA = b"decaylab_schema"
ROLLOUTS = "decaylab.rollouts/1"
PROBLEMS = "decaylab.problems/1"
TOP = "decaylab.top5/1"  # beside scored tokens: the top ids of both policies

# Elements are named as parquet names them, so that tables that were read merge to the same bytes.
IDS = pa.list_(pa.field("element", pa.int32()))
MASK = pa.list_(pa.field("element", pa.int8()))
TEXT, WHOLE, REAL = pa.string(), pa.int32(), pa.float64()

DRAWN = (
    "prefix-decay",
    "position-kl",
    "category-kl",
    "submode",
    "signals",
    "token-truth",
    "interventions",
    "arm-gains",
    "behaviour",
    "evaluate",
    "values",
    "compare",
)
RESULTS = (
    "parts/*.parquet",
    "measurements.parquet",
    "measurements.csv",
    "rollouts.parquet",
    "given-rollouts.parquet",
    "problems.parquet",
    "prompts.parquet",
    "outcomes.parquet",
    "places.parquet",
    "viewed-rollouts.parquet",
    "viewed-tokens.parquet",
    "view.html",
    "advice.txt",
    "advice.csv",
    *(f"{figure}.{kind}" for figure in (*DRAWN, "hand-back") for kind in ("png", "svg", "txt")),
)
"""What a run leaves in its folder beside its record."""

ROLLOUT_FIELDS: dict[str, pa.DataType] = {
    "rollout_id": TEXT,
    "condition": TEXT,  # student, teacher, student-prefix, own-prefix, swapped, hand-back, ...
    "problem_id": TEXT,
    "sample": WHOLE,
    "author": TEXT,  # the role of the policy that wrote the response: student or teacher
    "policy": TEXT,
    "prompt_ids": IDS,
    "prefix_ids": IDS,  # in the author's tokens; empty for a plain rollout
    "prefix_author": TEXT,
    "prefix_tokens": WHOLE,  # in tokens of the prefix's author
    "prefix_rollout_id": TEXT,
    "prefix_correct_so_far": pa.bool_(),  # null without a step verifier
    "prefix_turns": WHOLE,  # turns of the prefix's author; null if it is cut by tokens
    "teacher_tokens": WHOLE,  # of a hand-back: teacher tokens at the end of the prefix; else null
    "prefix_shift": WHOLE,  # tokens cut back to a boundary of both tokenizers; null with one
    "prefix_split": pa.bool_(),  # one tokenization of the whole has no boundary at the cut
    "response_ids": IDS,  # without the prefix; the end-of-turn token included
    "text": TEXT,  # what was graded: prefix and response
    "response_mask": MASK,  # 1 at the author's own tokens, 0 at those of tools and users; null: all
    "tokens": WHOLE,  # the author's own tokens, without the end-of-turn token: `own_tokens`
    "file_grade": TEXT,  # the verdict of the file that the rollout came from
    "stop_reason": TEXT,  # eos, length; of a file also other (no natural end) and unknown
    "absent_mass": REAL,  # mean probability at a position of ids that no token has: never drawn
    "temperature": REAL,
    "top_p": REAL,
    "top_k": WHOLE,
    "max_tokens": WHOLE,
    "engine": TEXT,
    "seed": pa.int64(),
}

NAMED = 4  # settings that differ and are named in one line

Item = TypeVar("Item")


def rollout_schema(answer_rules: tuple[str, ...], explained: tuple[str, ...] = ()) -> pa.Schema:
    """The rollouts table: one row per rollout or continuation, ``grade_RULE`` for each answer rule
    and ``message_RULE`` for those that give reasons.

    answer_start: place in the text behind the last thought, 0 without one; null if a thought is
    open at the end.
    """
    grades = {f"grade_{rule}": TEXT for rule in answer_rules}
    messages = {f"message_{rule}": TEXT for rule in explained}
    return pa.schema({**ROLLOUT_FIELDS, "answer_start": WHOLE, **grades, **messages})


def write_table(table: pa.Table, path: Path, schema_name: str) -> None:
    """Writes a table atomically, with the name and version of its schema in the file."""
    metadata = {**(table.schema.metadata or {}), SCHEMA: schema_name.encode()}
    # Into memory first, so that the file on disk is written whole or not at all.
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
        raise damaged(path, error) from error
    found_name = schema_name_of(table.schema)
    if found_name != schema_name:
        raise UserError(
            f"{path} has schema {found_name}, expected {schema_name}; "
            "it was written by another version"
        )
    return table


def schema_name_of(schema: pa.Schema) -> str:
    """The schema's name and version as a file states it; ``none`` if it states none."""
    name: bytes = (schema.metadata or {}).get(SCHEMA, b"none")
    return name.decode()


def damaged(path: Path, error: Exception) -> UserError:
    """The message for a table that cannot be read."""
    reason = str(error).splitlines()[0]
    return UserError(
        f"{path} is truncated or damaged ({reason}); delete it and run the same command again"
    )


class Parts:
    """A table that is made part by part, so that a killed process loses one part at most.

    Each part, ``FOLDER/NAME-00003.parquet``, is written whole and has rows of whole rollouts. Once
    the last one exists they are joined into one table and removed.
    """

    def __init__(self, folder: Path, name: str, schema_name: str) -> None:
        self.folder, self.name, self.schema_name = folder, name, schema_name

    def path(self, number: int) -> Path:
        return self.folder / f"{self.name}-{number:05d}.parquet"

    def numbers(self) -> list[int]:
        """The numbers of the parts that exist, ascending."""
        paths = self.folder.glob(f"{self.name}-[0-9][0-9][0-9][0-9][0-9].parquet")
        return sorted(int(path.stem[-5:]) for path in paths)

    def read(self, number: int) -> pa.Table:
        return read_table(self.path(number), self.schema_name)

    def write(self, number: int, table: pa.Table) -> None:
        write_table(table, self.path(number), self.schema_name)

    def holds(self, number: int, rollout_ids: Sequence[str]) -> bool:
        """Whether a part exists and has exactly these rollouts, in this order."""
        if not self.path(number).exists():
            return False
        return bool(self.read(number)["rollout_id"].unique().to_pylist() == list(rollout_ids))

    def merge(self, count: int, target: Path, schema: pa.Schema) -> None:
        """Joins parts 0 to ``count`` - 1 into one table, with one part in memory at a time.

        Parts are removed after the table exists: a process killed in between makes none again.
        """
        # A killed process may have come as far as the removal of parts.
        if not target.exists():
            temporary = target.with_name(f".{target.name}.tmp")
            named = schema.with_metadata({SCHEMA: self.schema_name.encode()})
            try:
                with pq.ParquetWriter(temporary, named, compression="zstd") as writer:
                    for number in range(count):
                        writer.write_table(self.read(number).replace_schema_metadata().cast(named))
                temporary.replace(target)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise unwritable(target, error) from error
        for number in self.numbers():
            self.path(number).unlink(missing_ok=True)


def cut(items: Iterable[Item], size_of: Callable[[Item], int], least: int) -> Iterator[list[Item]]:
    """Items in their order, cut into parts of at least this size; the last may be smaller."""
    part: list[Item] = []
    size = 0
    for item in items:
        part.append(item)
        size += size_of(item)
        if size >= least:
            yield part
            part, size = [], 0
    if part:
        yield part


class RunFolder:
    """One run on disk. An existing folder is opened only by the same run, which keeps its parts.

    The seconds since this object was made, until its lock is released, count as the run's own:
    each change of run.json adds them to what earlier processes took (`decaylab.runs.made`). A
    finished run that is only read keeps its seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._since, self._counts = time.monotonic(), False

    @property
    def record(self) -> dict[str, Any] | None:
        """The content of run.json; None in a new folder.

        Raises:
            UserError: it is damaged.
        """
        path = self.path / "run.json"
        return run_json.read(path) if path.exists() else None

    @property
    def finished(self) -> bool:
        return (self.path / "measurements.parquet").exists()

    def open(
        self, record: dict[str, Any], *, overwrite: bool = False, complete: bool | None = None
    ) -> dict[str, Any]:
        """Starts a run, or resumes one with the same identity; returns the record in force.

        ``record["identity"]`` must agree; the rest (command, versions, dates) may differ. With
        ``overwrite`` the results of any earlier run are removed; other files are left alone.

        complete: whether an earlier run has nothing left to do, which its measurements say by
        default.

        Raises:
            UserError: the folder contains a run with different settings (says which), or files of
                something else.
        """
        existing = self._existing(overwrite)
        if existing is not None and not overwrite:
            # Through JSON, which makes lists of tuples.
            wanted = json.loads(json.dumps(record["identity"]))
            identity = existing.get("identity", {})
            self._check_same(identity, wanted)
            self._counts = not (self.finished if complete is None else complete)
            resumes = self._counts and MADE in existing
            if resumes:
                existing[MADE] = resumed(existing[MADE], record.get(MADE, {}).get(ENGINE))
            # Another answer rule of the user's own may grade the same rollouts.
            plugins = {**identity.get(PLUGINS, {}), **wanted.get(PLUGINS, {})}
            more = plugins != identity.get(PLUGINS, {})
            if more:
                identity[PLUGINS] = plugins
            if resumes or more:
                self._write_record(existing)
            return existing
        if existing is None and self._has_other_files():
            raise UserError(
                f"{self.path} is not empty and holds no run.json; choose another folder with --out"
            )
        if existing is not None:
            for pattern in RESULTS:
                for path in self.path.glob(pattern):
                    path.unlink()
        self._counts = True
        self._write_record(record)
        return record

    def _existing(self, overwrite: bool) -> dict[str, Any] | None:
        """The record of an earlier run; a damaged one counts as empty if it is overwritten."""
        path = self.path / "run.json"
        advice = "--overwrite redoes the run, or choose another folder with --out"
        try:
            return run_json.read(path, advice) if path.exists() else None
        except UserError:
            if overwrite:
                return {}
            raise

    def _check_same(self, there: dict[str, Any], now: dict[str, Any]) -> None:
        """Raises UserError if the folder holds another run."""
        found, wanted = differences.kind(there), differences.kind(now)
        if found and wanted and found != wanted:
            raise UserError(
                f"{self.path} contains a {found}, and this is a {wanted}; choose another --out"
            )
        if differing := differences.found(there, now):
            more = f"; and {len(differing) - NAMED} more" if len(differing) > NAMED else ""
            raise UserError(
                f"{self.path} contains a run with different settings "
                f"({'; '.join(differing[:NAMED])}{more}); choose another --out"
            )

    def _has_other_files(self) -> bool:
        names = {path.name for path in self.path.iterdir()} if self.path.exists() else set()
        return not names <= {".lock", ".run.json.tmp"}

    def update(self, values: dict[str, Any]) -> dict[str, Any]:
        """Changes entries of run.json outside the run's identity; returns the whole record."""
        record = {**(self.record or {}), **values}
        if self._counts and MADE in record:
            record[MADE] = self._longer(record[MADE])
        self._write_record(record)
        return record

    def _longer(self, made: dict[str, Any]) -> dict[str, Any]:
        """What made the run, with the seconds since the last time this was asked."""
        now = time.monotonic()
        seconds, self._since = made["seconds"] + now - self._since, now
        return {**made, "seconds": round(seconds, 3)}

    def _write_record(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, indent=1, sort_keys=True) + "\n"
        write_atomically(self.path / "run.json", text.encode())

    @contextmanager
    def lock(self, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
        """Keeps other processes out of the folder: `disk.lock`."""
        with disk.lock(self.path, wait=wait):
            try:
                yield
            finally:
                if self._counts and MADE in (self.record or {}):
                    # A full disk is reported by what met it first.
                    with suppress(UserError):
                        self.update({})
                self._counts = False

    def write_problems(self, problems: list[dict[str, Any]]) -> None:
        """The problems: problem_id, question, gold answer, and the steps where they are known."""
        path = self.path / "problems.parquet"
        steps = pa.list_(pa.field("step", TEXT))
        schema = pa.schema({"problem_id": TEXT, "question": TEXT, "answer": TEXT, "steps": steps})
        if not path.exists():
            write_table(pa.Table.from_pylist(problems, schema=schema), path, PROBLEMS)

    def parts(self, stage: str) -> Parts:
        """The parts of a stage's rollouts."""
        return Parts(self.path / "parts", re.sub("[^a-z0-9-]+", "_", stage), ROLLOUTS)

    def merge(self, tables: list[pa.Table]) -> pa.Table:
        """Writes rollouts.parquet from the tables of all stages and removes their parts."""
        # Only tables that were read have the schema's name: without it all of them are alike.
        metadata = dict(tables[0].schema.metadata or {})
        metadata.pop(SCHEMA, None)
        table = pa.concat_tables([table.replace_schema_metadata(metadata) for table in tables])
        write_table(table, self.path / "rollouts.parquet", ROLLOUTS)
        for part in (self.path / "parts").glob("*.parquet"):
            part.unlink()
        return table

    def finished_rollouts(self) -> int:
        """How many rollouts stand in the folder, in parts or in the whole table."""
        tables = [self.path / "rollouts.parquet", *(self.path / "parts").glob("*.parquet")]
        return sum(pq.read_metadata(table).num_rows for table in tables if table.exists())

    def read_rollouts(self) -> pa.Table | None:
        path = self.path / "rollouts.parquet"
        return read_table(path, ROLLOUTS) if path.exists() else None
