"""Rows of published sets from local files, and of a set whose questions and answers are two files.

rows(Path("mbpp.jsonl"), "mbpp", None, None, halves)     # the test split of a file of all rows
rows(Path("bfcl/"), "bfcl:parallel", None, 40, halves)   # parallel.jsonl, parallel_answers.jsonl
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from decaylab.errors import UserError
from decaylab.problems import hub
from decaylab.problems.files import FILE_SUFFIXES, Row, read_rows
from decaylab.problems.published import PUBLISHED

ANSWERS = "possible_answer"
"""The folder of right calls beside the questions, as BFCL publishes them."""


def check(path: Path) -> None:
    """Raises UserError for a path that is not a file of rows."""
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a file of problems")
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if path.suffix not in FILE_SUFFIXES:
        raise UserError(
            f"{path} has suffix {path.suffix!r}; problems are read from {', '.join(FILE_SUFFIXES)}"
        )


def rows(
    path: Path, name: str, split: str | None, limit: int | None, halves: list[str]
) -> tuple[list[Row], list[str]]:
    """The first rows of a local copy of a published set, and notes.

    Raises:
        UserError: no such file, or one that cannot be read or joined.
    """
    published = PUBLISHED[name]
    if published.file:
        questions, answers = _two_files(path, name)
        return list(islice(_joined(questions, answers, name), limit)), []
    check(path)
    if not published.splits:
        return list(islice(read_rows(path, halves=halves), limit)), []
    everything = list(read_rows(path, halves=halves))
    if split and split not in published.splits:
        raise UserError(f"{name} has splits {', '.join(published.splits)}, not {split!r}")
    ids = published.splits[split or "test"]
    chosen = [row for row in everything if row[1].get("task_id") in ids]
    if not chosen and split is None:
        return everything[:limit], []  # problems of somebody's own in these columns
    notes, left = [], len(everything) - len(chosen)
    if left:
        part = f"{split or 'test'} split (task_id {ids[0]} to {ids[-1]})"
        notes = [f"{left} of {len(everything)} rows are not of the {part}, left out"]
    return chosen[:limit], notes


def hub_rows(
    data_set: hub.DataSet, name: str, revision: str | None, limit: int | None
) -> tuple[list[Row], str, list[str]]:
    """The first rows of a set of two files on the hub, their commit, and notes."""
    file = PUBLISHED[name].file
    path, commit = data_set.file(file, revision)
    answers = None
    if _has_answers(name):
        answers = data_set.file(f"{ANSWERS}/{file}", commit)[0]
    return list(islice(_joined(path, answers, name), limit)), commit, []


def _has_answers(name: str) -> bool:
    return not name.endswith(":irrelevance")


def _two_files(path: Path, name: str) -> tuple[Path, Path | None]:
    """The files of questions and of right calls: in a folder, or beside a file of questions. The
    second need not exist, since rows may hold the right calls themselves."""
    category = name.partition(":")[2]
    if path.is_dir():
        names = [f"{category}.jsonl", f"BFCL_v4_{category}.json", PUBLISHED[name].file]
        there = [path / file for file in names if (path / file).is_file()]
        if not there:
            raise UserError(f"{path} has no questions of {category}: none of {', '.join(names)}")
        path = there[0]
    check(path)
    if not _has_answers(name):
        return path, None
    beside = [
        path.with_name(f"{path.stem}_answers{path.suffix}"),
        path.parent / ANSWERS / path.name,
    ]
    return path, next((file for file in beside if file.is_file()), beside[0])


def _joined(questions: Path, answers: Path | None, name: str) -> Iterator[Row]:
    """The rows of the questions with their right calls as ``ground_truth``."""
    known = dict(_by_id(read_rows(answers))) if answers and answers.is_file() else {}
    for where, row in read_rows(questions):
        if answers and "ground_truth" not in row:
            if not known:
                raise UserError(f"{where}: no right calls: there is no {answers} beside it")
            identity = str(row.get("id"))
            if identity not in known:
                raise UserError(f"{where}: {answers} has no right calls of id {identity!r}")
            row = {**row, "ground_truth": known[identity]}
        yield where, row


def _by_id(rows: Iterable[Row]) -> Iterator[tuple[str, object]]:
    for where, row in rows:
        if "ground_truth" not in row:
            raise UserError(f"{where}: column 'ground_truth' is missing")
        yield str(row.get("id")), row["ground_truth"]
