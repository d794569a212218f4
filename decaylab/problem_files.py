"""Rows of problem files (JSONL, JSON, parquet) and which of their columns hold question, answer and id.

    rows = list(read_rows(Path("mine.jsonl"), "mine.jsonl"))   # [("mine.jsonl, line 1", {"q": "2 + 2?", "gold": 4})]
    columns = find_columns(rows[0], {"question": "q", "answer": "gold"}, "mine.jsonl")
    gold_answer(rows[0][1], columns, rows[0][0])               # "4"

Malformed input is a UserError that names the file and the row.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from decaylab.errors import UserError

FILE_SUFFIXES = (".parquet", ".jsonl", ".json")
QUESTION_COLUMNS, ID_COLUMNS = ("problem", "question", "prompt"), ("unique_id", "problem_id", "id")

Row = tuple[str, dict[str, Any]]
"""Where a row stands, for messages, and its columns."""


def read_rows(path: Path, name: str) -> Iterator[Row]:
    """Rows of a file, lazily; ``name`` is what messages call it."""
    try:
        if path.suffix == ".parquet":
            yield from _read_parquet(path, name)
        elif path.suffix == ".json" and path.read_text(encoding="utf-8-sig").lstrip().startswith("["):
            yield from _read_json(path, name)
        else:
            yield from _read_jsonl(path, name)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text: {one_line(error)}") from error
    except OSError as error:
        raise UserError(f"{name} can't be read: {one_line(error)}") from error


def _read_jsonl(path: Path, name: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{name}, line {number}"
                yield _as_row(_parse_json(line, where), where)


def _read_json(path: Path, name: str) -> Iterator[Row]:
    for number, value in enumerate(_parse_json(path.read_text(encoding="utf-8-sig"), name), start=1):
        yield _as_row(value, f"{name}, row {number}")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text.strip())
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise UserError(f"{where}: malformed JSON at {at}: {error.msg}") from error


def _as_row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a JSON object with a question and an answer, got {type(value).__name__}")
    return where, value


def _read_parquet(path: Path, name: str) -> Iterator[Row]:
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=1024)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"{name}, row {number}", row
    except pa.ArrowException as error:
        raise UserError(f"{name} is not a readable parquet file (truncated?): {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """The error's first line, of a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]


SURROGATES = re.compile("[\ud800-\udfff]")
MENDED = "{} of {} {} hold half a character (a lone surrogate, such as \\ud83d), replaced by U+FFFD"


def mended(text: str) -> str:
    """A text in which half a character (a lone surrogate), which no file and no tokenizer takes, is U+FFFD."""
    return SURROGATES.sub("\ufffd", text)


def mended_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its texts mended."""
    return {name: mended(value) if isinstance(value, str) else value for name, value in row.items()}


# Which columns hold what


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, and how problems without an id are called.

    hashes: gold is what follows ``####``; text without it has no gold, unless the caller named the column (``named``).
    """

    question: str
    answer: str | None
    id: str | None
    prefix: str
    hashes: bool = False
    named: bool = False


def find_columns(
    row: Row,
    given: Mapping[str, str],
    source: str,
    *,
    questions: Iterable[str] = QUESTION_COLUMNS,
    ids: Iterable[str] = ID_COLUMNS,
    prefix: str = "row",
    hashes: bool = False,
) -> Columns:
    """Finds the columns in the first row: those of the caller's map (``given``) first, then the usual names.

    Raises:
        UserError: a role in the map or a column in the row that isn't there; ``source`` is what messages call the set.
    """
    found = list(row[1])
    odd = sorted(set(given) - {"question", "answer", "id"})
    if odd:
        raise UserError(f"the column map knows question, answer and id, got {', '.join(odd)}")
    question = _pick(given.get("question"), questions, found, "question", source)
    answer = None if given.get("answer") == "" else _pick(given.get("answer"), ("answer",), found, "answer", source)
    identity = given.get("id") or next((name for name in ids if name in found), None)
    if "id" in given:
        _pick(identity, (), found, "id", source)
    return Columns(question, answer, identity, prefix, hashes, "answer" in given)


def _pick(given: str | None, usual: Iterable[str], found: list[str], role: str, source: str) -> str:
    wanted = [given] if given else list(usual)
    name = next((name for name in wanted if name in found), None)
    if name is None:
        raise UserError(
            f"{source} has no column {' or '.join(map(repr, wanted))} for the {role}: found "
            f"{', '.join(map(repr, found)) or 'none'}; name the right one with --column {role}=NAME"
        )
    return name


def gold_answer(row: Mapping[str, Any], columns: Columns, where: str) -> str | None:
    value = row.get(columns.answer) if columns.answer else None
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is not None and not isinstance(value, str | int | float):
        raise UserError(f"{where}: column {columns.answer!r} must hold text or a number, got {value!r:.60}")
    text = "" if value is None else str(value).strip()
    if columns.hashes:
        # The set writes thousands with commas (1,200), which no answer rule should have to guess.
        _, found, last = text.rpartition("####")
        text = last.strip().replace(",", "") if found or columns.named else ""
    return text or None
