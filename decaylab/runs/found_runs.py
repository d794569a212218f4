"""Finds finished runs on disk, for figures, tables and the report.

runs = find(["runs/mine", "docs/measurements/rollout-length"])  # also searches below the paths
runs[0].command, runs[0].pair, runs[0].measurements
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.errors import UserError
from decaylab.policies.identity import TOKENIZER_ONLY
from decaylab.problems.tasks import MATHEMATICS, of_set
from decaylab.runs import measurements, run_json, store, train_results

SWEEPS = {"rollout-length": "sweep rollout-length", "selector": "sweep selector"}
NOT_RUNS = ("cache", "parts", "resume", "logs")  # folders without runs
PASSED_OVER = (*NOT_RUNS, "figures")  # folders in runs/ that decaylab writes for other things
COMPARISON = "compare"  # its runs cover several pairs
COMMANDS = (*store.DRAWN, "served-kl", *SWEEPS.values())
DEPTH = 3  # folders below a given path that are searched


@dataclass(frozen=True)
class Pair:
    """The two policies of a run: names, and content hashes if their weights were read."""

    student: str
    teacher: str
    student_hash: str = ""
    teacher_hash: str = ""

    def __str__(self) -> str:
        return f"{self.student} under {self.teacher}"

    def same(self, other: Pair) -> bool:
        """Whether both have the same models, by content hash, or by name if none was recorded."""
        students, teachers = self.student == other.student, self.teacher == other.teacher
        if self.student_hash and other.student_hash:
            students = self.student_hash == other.student_hash
        if self.teacher_hash and other.teacher_hash:
            teachers = self.teacher_hash == other.teacher_hash
        return students and teachers


@dataclass(frozen=True)
class FoundRun:
    """A run folder with measurements.

    name: unique among the runs found together. command: prefix-decay, position-kl, category-kl,
    submode, signals, behaviour, evaluate, values, served-kl, compare, or sweep OVER. pair: for a
    comparison, one of the pairs it compares; the pair of the other runs if it is among them.
    """

    folder: Path
    name: str
    command: str
    record: dict[str, Any]
    pair: Pair

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """The measurements, with the columns of `measurements.Measurement`.

        Raises:
            UserError: the table is damaged or has another schema.
        """
        table = self.folder / "measurements.parquet"
        if table.exists():
            return measurements.read(table)
        return measurements.read_csv(table.with_suffix(".csv"))

    @property
    def options(self) -> dict[str, Any]:
        """The options that are part of the run's identity."""
        options: dict[str, Any] = self.record["identity"]["options"]
        return options

    @property
    def measured_on(self) -> str:
        """The pair, and its problem set where that is not of mathematics."""
        return f"{self.pair}" if self.is_mathematics else f"{self.pair} on {self._problems}"

    @property
    def is_mathematics(self) -> bool:
        """Whether its problems are of mathematics, as those of the paper's figures."""
        return of_set(self._problems) is MATHEMATICS

    @property
    def _problems(self) -> str:
        return str((self.record.get("identity", {}).get("problems") or {}).get("name", ""))

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known about the run, a sentence each."""
        return tuple(self.record.get("notes", ()))

    @property
    def pairs(self) -> list[Pair]:
        """The pair, or all pairs of a comparison."""
        compared = self.record.get("compared") or []
        return [_pair(policies) for policies in compared] or [self.pair]

    def holds(self, quantities: Sequence[str]) -> bool:
        """Whether each quantity was measured, even if its value is undefined."""
        return set(quantities) <= set(self.measurements["what"])


def find(paths: Sequence[str | Path]) -> list[FoundRun]:
    """The runs with measurements at and below these paths, each once, in the order of the paths.

    The evaluation of a training run is left out if a found sweep includes it. Folders that never
    hold runs, such as a cache that a shell's * names, are skipped.

    Raises:
        UserError: a path without a measured run, or runs of different pairs.
    """
    folders: list[Path] = []
    for path in map(Path, paths):
        found = [*_below(path, DEPTH)] if path.is_dir() else []
        if not found and not (path.is_dir() and len(paths) > 1 and path.name in PASSED_OVER):
            raise _nothing_in(path)
        folders += found
    runs = _each_once([_read(folder) for folder in dict.fromkeys(folders)])
    if not runs:
        raise _nothing_in(Path(paths[0]))
    check_one_pair(runs)
    return _of_one_pair(runs)


def _nothing_in(path: Path) -> UserError:
    """The message for a path without a measured run."""
    if not path.exists():
        return UserError(f"{path}: no such run folder")
    if not path.is_dir():
        return UserError(f"{path} is a file, not a run folder; leave it out")
    if train_results.is_training(path):
        return UserError(
            f"{path} is a training run without measurements; `decaylab evaluate {path}` makes "
            "some, or leave it out"
        )
    return UserError(
        f"{path}: no measurements there or below; run a command such as `decaylab prefix-decay` "
        "or `decaylab position-kl` first, or leave it out"
    )


def read(folder: Path) -> FoundRun:
    """The finished run of one folder.

    Raises:
        UserError: there is no finished run in it, or it is damaged.
    """
    if not [*_below(folder, 0)]:
        raise UserError(f"{folder} holds no finished run: no run.json with measurements")
    return _read(folder)


def holds(folder: Path) -> bool:
    """Whether there is a measured run in a folder or below it."""
    return any(_below(folder, DEPTH))


def training(folder: Path, record: dict[str, Any]) -> FoundRun:
    """A training run as one of these runs. It has no measurements of its own."""
    name = folder.absolute().name
    return FoundRun(folder, name, "train", record, _pair(record["identity"]))


def of_same_pair(run: FoundRun, command: str, root: Path) -> list[FoundRun]:
    """The runs of a command on the same pair at and below a folder; unreadable ones are skipped."""
    return [other for other in of_pair(run.pair, [root])[0] if other.command == command]


def of_pair(pair: Pair, roots: Sequence[Path]) -> tuple[list[FoundRun], list[str]]:
    """The runs of a pair at and below these folders, of any command, each once as in `find`; and
    why others cannot be read."""
    runs, unreadable = [], []
    folders = [folder for root in roots if root.is_dir() for folder in _below(root, DEPTH)]
    for folder in {folder.absolute(): folder for folder in folders}.values():
        try:
            run = _read(folder)
            if run.pair.same(pair):
                _ = run.measurements
                runs.append(run)
        except UserError as error:
            unreadable.append(str(error))
    return _each_once(runs), unreadable


def _each_once(runs: Sequence[FoundRun]) -> list[FoundRun]:
    """The runs under unique names, without evaluations that are already part of a found sweep."""
    compared = {Path(run.record["runs"], name).absolute() for run in runs for name in _arms(run)}
    kept = [run for run in runs if run.folder.absolute().parent not in compared]
    names = _names([run.folder for run in kept])
    return [replace(run, name=name) for run, name in zip(kept, names, strict=True)]


def check_one_pair(runs: Sequence[FoundRun]) -> None:
    """Raises UserError if runs have different pairs. A comparison matches any of its pairs."""
    first = _decides_pair(runs)
    for run in runs:
        if not any(pair.same(first.pair) for pair in run.pairs):
            raise UserError(
                f"runs of different pairs: {first.folder} measured {first.pair}, {run.folder} "
                f"{run.pair}; give only the runs of one pair"
            )


def _decides_pair(runs: Sequence[FoundRun]) -> FoundRun:
    """The first run that is not a comparison, or the first run."""
    return next((run for run in runs if run.command != COMPARISON), runs[0])


def _of_one_pair(runs: Sequence[FoundRun]) -> list[FoundRun]:
    """The runs, with comparisons assigned to the pair of the others."""
    pair = _decides_pair(runs).pair
    return [replace(run, pair=pair) if run.command == COMPARISON else run for run in runs]


def _arms(run: FoundRun) -> list[str]:
    """The folder names of the training runs that a sweep compares."""
    if run.command not in SWEEPS.values() or "runs" not in run.record:
        return []
    arms = run.record["identity"]["runs"]
    return list(arms) if isinstance(arms, dict) else []


def _below(path: Path, depth: int) -> Iterator[Path]:
    """The folders with measurements from here down, this one first."""
    tables = path / "measurements.parquet", path / "measurements.csv"
    if (path / "run.json").is_file() and any(table.is_file() for table in tables):
        yield path
    if depth:
        for entry in sorted(path.iterdir()):
            if entry.is_dir() and not entry.name.startswith(".") and entry.name not in NOT_RUNS:
                yield from _below(entry, depth - 1)


def _names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that are all different."""
    for depth in range(1, 20):
        names = ["/".join(Path(os.path.abspath(folder)).parts[-depth:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def _read(folder: Path) -> FoundRun:
    record = store.RunFolder(folder).record or {}
    identity = record.get("identity", {})
    over = identity.get("options", {}).get("over")
    command = identity.get("diagnostic", "prefix-decay")
    if over:
        command = SWEEPS.get(over, f"sweep {over}")
    if command not in COMMANDS:
        raise UserError(
            f"{folder}/run.json is damaged or of another version: no command is called "
            f"{command!r}; {run_json.AGAIN}"
        )
    policies = identity if "student" in identity else record.get("pair", {})
    if not {"student", "teacher"} <= set(policies):
        raise UserError(
            f"{folder}/run.json does not record which student and teacher were measured; "
            f"{run_json.AGAIN}"
        )
    return FoundRun(folder, folder.name, command, record, _pair(policies))


def _pair(policies: dict[str, Any]) -> Pair:
    """The pair of student and teacher as run.json describes them."""
    student, teacher = policies["student"], policies["teacher"]
    return Pair(
        student["name"],
        teacher["name"],
        _hash_of_weights(student),
        _hash_of_weights(teacher),
    )


def _hash_of_weights(policy: dict[str, Any]) -> str:
    """The content hash; "" of a policy of which only the tokenizer was loaded."""
    without_weights = policy.get("revision") == TOKENIZER_ONLY
    return "" if without_weights else str(policy.get("content_hash", ""))
