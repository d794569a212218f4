"""Rows of problem files (JSONL, JSON, parquet) and which of their columns hold question, answer and
id.

    rows = list(read_rows(Path("mine.jsonl"), "mine.jsonl"))   # [("mine.jsonl, line 1", {"q": "2 +
    2?", "gold": 4})] columns = find_columns(rows[0], {"question": "q", "answer": "gold"},
    "mine.jsonl") gold_answer(rows[0][1], columns, rows[0][0]).text          # "4"

Malformed input is a UserError that names the file and the row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from decaylab.errors import UserError
from decaylab.problems.nested_columns import Gold, gold_text, has, lookup, names

FILE_SUFFIXES = (".parquet", ".jsonl", ".json")
QUESTION_COLUMNS, ID_COLUMNS = ("problem", "question", "prompt"), ("unique_id", "problem_id", "id")
VERL_ANSWER, VERL_ID = "reward_model.ground_truth", "extra_info.index"
OTHER_ANSWERS = ("final_answer", VERL_ANSWER)
"""Where DeepMath and verl have their gold answers."""

Row = tuple[str, dict[str, Any]]
"""Where a row stands, for messages, and its columns."""


def read_rows(path: Path, name: str) -> Iterator[Row]:
    """Rows of a file, lazily; ``name`` is what messages call it."""
    try:
        if path.suffix == ".parquet":
            yield from _read_parquet(path, name)
        elif path.suffix == ".json" and path.read_text(encoding="utf-8-sig").lstrip().startswith(
            "["
        ):
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
    for number, value in enumerate(
        _parse_json(path.read_text(encoding="utf-8-sig"), name), start=1
    ):
        yield _as_row(value, f"{name}, row {number}")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text.strip())
    except json.JSONDecodeError as error:
        at = (
            f"line {error.lineno} column {error.colno}"
            if error.lineno > 1
            else f"column {error.colno}"
        )
        raise UserError(f"{where}: malformed JSON at {at}: {error.msg}") from error


def _as_row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise UserError(
            f"{where}: must be a JSON object with a question and an answer, got "
            f"{type(value).__name__}"
        )
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
        raise UserError(
            f"{name} is not a readable parquet file (truncated?): {one_line(error)}"
        ) from error


def one_line(error: BaseException) -> str:
    """The error's first line, of a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]


SURROGATES = re.compile("[\ud800-\udfff]")
MENDED = "{} of {} {} hold half a character (a lone surrogate, such as \\ud83d), replaced by U+FFFD"


def mended(text: str) -> str:
    """A text in which half a character (a lone surrogate), which no file and no tokenizer takes, is
    U+FFFD."""
    return SURROGATES.sub("\ufffd", text)


def mended_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its texts mended, those inside objects and lists as well."""
    return {name: _mended_value(value) for name, value in row.items()}


def _mended_value(value: Any) -> Any:
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [_mended_value(one) for one in value]
    return mended_row(value) if isinstance(value, dict) else value


# Which columns hold what


@dataclass(frozen=True)
class Columns:
    """Which columns (or paths into them) hold what, and how problems without an id are called.

    hashes: gold is what follows ``####``; text without it has no gold, unless the caller named the
    column (``named``).
    wrapped: gold answers may stand inside an object or list.
    """

    question: str
    answer: str | None
    id: str | None
    prefix: str
    hashes: bool = False
    named: bool = False
    wrapped: bool = True


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
    """Finds the columns in the first row: those of the caller's map (``given``) first, then the
    usual names.

    A name of the map may be a path, such as ``reward_model.ground_truth``. Usual names count in any
    case, as written first.

    Raises:
        UserError: a role in the map or a column in the row that isn't there, or several that could
            be meant; ``source`` is what messages call the set.
    """
    found = row[1]
    odd = sorted(set(given) - {"question", "answer", "id"})
    if odd:
        raise UserError(f"the column map knows question, answer and id, got {', '.join(odd)}")
    question = _pick(
        given.get("question"), _usual(found, questions), questions, found, "question", source
    )
    answer = None
    if given.get("answer") != "":
        likely = _usual(found, ("answer",)) or [name for name in OTHER_ANSWERS if has(found, name)]
        answer = _pick(given.get("answer"), likely, ("answer",), found, "answer", source)
    likely = _usual(found, ids) or [VERL_ID] * (answer == VERL_ANSWER and has(found, VERL_ID))
    identity = (
        _pick(given.get("id"), likely, (), found, "id", source)
        if given.get("id") or likely
        else None
    )
    return Columns(question, answer, identity, prefix, hashes, "answer" in given)


def _usual(row: Mapping[str, Any], usual: Iterable[str]) -> list[str]:
    """The first usual name that is a column, as written or else in another case: then all columns
    that differ by case."""
    usual = list(usual)
    exact = next((name for name in usual if name in row), None)
    if exact:
        return [exact]
    folded = ([column for column in row if column.casefold() == name] for name in usual)
    return next(filter(None, folded), [])


def _pick(
    given: str | None,
    likely: list[str],
    usual: Iterable[str],
    row: Mapping[str, Any],
    role: str,
    source: str,
) -> str:
    """The column that was named, or the likely one. usual: what the message says was looked for."""
    found = ([given] if has(row, given) else []) if given else likely
    if len(found) == 1:
        return found[0]
    way = f"name the right one with --column {role}=NAME"
    if found:
        raise UserError(
            f"{source} has several columns for the {role}: {', '.join(map(repr, found))}; {way}"
        )
    wanted = [given] if given else list(usual)
    raise UserError(
        f"{source} has no column {' or '.join(map(repr, wanted))} for the {role}: found "
        f"{', '.join(map(repr, names(row))) or 'none'}; {way}"
    )


def gold_answer(row: Mapping[str, Any], columns: Columns, where: str) -> Gold:
    """The gold answer of a row; its text is None where the set has none."""
    if not columns.answer:
        return Gold(None, False)
    value = lookup(row, columns.answer)
    if isinstance(value, str) and not columns.wrapped:
        gold = Gold(value.strip() or None, False)
    else:
        gold = gold_text(value, where, columns.answer)
    if columns.hashes:
        # The set writes thousands with commas (1,200), which no answer rule should have to guess.
        _, found, last = (gold.text or "").rpartition("####")
        gold = Gold(
            (last.strip().replace(",", "") or None) if found or columns.named else None,
            gold.unwrapped,
        )
    return gold
