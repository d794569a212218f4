"""Reads rows of JSONL, JSON and parquet files, optionally compressed with gzip or zstd.

    for place, row in read_rows(Path("rollouts/part-00001.jsonl.zst")):
        ...     # "rollouts/part-00001.jsonl.zst:17", {"prompt": ..., "response": ...}

Rows are read one at a time, so files may be larger than memory. Malformed input raises a UserError
that names the file and the line or row.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from decaylab.errors import UserError

FILE_SUFFIXES = (".parquet", ".jsonl", ".json")
PACKED = (".gz", ".zst")
BATCH_ROWS, LINES_A_TICK, BUFFER = 256, 512, 1 << 20
MENDED = (
    "{} of {} {} contain half a character (a lone surrogate, such as \\ud83d), replaced by U+FFFD"
)
SURROGATES = re.compile("[\ud800-\udfff]")

Row = tuple[str, dict[str, Any]]
"""The place of a row (for messages) and its columns."""
Progress = Callable[[int], None]
"""Called with the number of bytes read since the last call."""


def read_rows(
    path: Path,
    name: str = "",
    *,
    progress: Progress = lambda count: None,
    halves: list[str] | None = None,
    holds: str = "a question and an answer",
) -> Iterator[Row]:
    """Rows of a file, lazily.

    Args:
        path: the file.
        name: the file's name in messages; by default its path.
        progress: called with the number of bytes read.
        halves: list to which places of rows with half a character (replaced by U+FFFD) are added.
        holds: what a row should contain, for messages.

    Raises:
        UserError: a file that is damaged, truncated or not text; a malformed row.
    """
    reader = _Reader(path, name or str(path), progress, [] if halves is None else halves, holds)
    try:
        if suffix_of(path) == ".parquet":
            yield from reader.parquet()
        elif suffix_of(path) == ".json":
            yield from reader.array()
        else:
            yield from reader.lines()
    except (OSError, EOFError, zlib.error) as error:
        system = error.strerror if isinstance(error, OSError) else None
        raise UserError(f"cannot read {reader.name}: {system or one_line(error)}") from error


def parsed_rows(
    texts: Iterable[str],
    name: str,
    halves: list[str],
    holds: str = "a question and an answer",
) -> Iterator[Row]:
    """Rows of JSON texts, one object each, as `read_rows` reads the lines of a file.

    name: of the rows in messages.

    Raises:
        UserError: a text that is not a JSON object.
    """
    reader = _Reader(Path(name), name, lambda count: None, halves, holds)
    for number, text in enumerate(texts, start=1):
        place = f"{name}, row {number}"
        yield reader._row(reader._parsed(text, place), text, place)


def suffix_of(path: Path) -> str:
    """The suffix of a file's format, without the one of its compression."""
    return path.with_suffix("").suffix if path.suffix in PACKED else path.suffix


class _Reader:
    def __init__(
        self, path: Path, name: str, progress: Progress, halves: list[str], holds: str
    ) -> None:
        self.path, self.name, self.progress = path, name, progress
        self.halves, self.holds = halves, holds

    def lines(self) -> Iterator[Row]:
        done = 0
        with self.path.open("rb", buffering=BUFFER) as raw:
            for number, line in enumerate(_unpacked(raw, self.path), start=1):
                # Position in the compressed file, to match its size on disk.
                if number % LINES_A_TICK == 0:
                    now = raw.tell()
                    self.progress(now - done)
                    done = now
                text = self._text(line, number)
                if text and not text.isspace():
                    place = f"{self.name}:{number}"
                    yield self._row(self._parsed(text, place), text, place)
        self.progress(self.path.stat().st_size - done)  # the file may be closed already

    def array(self) -> Iterator[Row]:
        """The objects of an array, a single object, or one object per line."""
        with self.path.open("rb") as raw:
            text = self._text(_unpacked(raw, self.path).read(), 1)
        if text.lstrip()[:1] == "{":
            try:
                values = [json.loads(text)]
            except (ValueError, RecursionError):
                yield from self.lines()
                return
        else:
            values = self._parsed(text, self.name)
        self.progress(self.path.stat().st_size)
        if not isinstance(values, list):
            raise UserError(
                f"{self.name}: must be an array of objects, got {type(values).__name__}"
            )
        for number, value in enumerate(values, start=1):
            yield self._row(value, text, f"{self.name}, row {number}")

    def parquet(self) -> Iterator[Row]:
        if self.path.suffix in PACKED:
            raise UserError(
                f"{self.name}: compressed parquet files cannot be read; decompress it first"
            )
        number, size = 0, self.path.stat().st_size
        try:
            file = pq.ParquetFile(self.path)
            total = max(file.metadata.num_rows, 1)
            # In batches, so that files may be larger than memory.
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                self.progress(size * batch.num_rows // total)
                for row in batch.to_pylist():
                    number += 1
                    yield f"{self.name}, row {number}", row
        except pa.ArrowException as error:
            raise UserError(
                f"{self.name} is not a readable parquet file (truncated?): {one_line(error)}"
            ) from error

    def _text(self, line: bytes, number: int) -> str:
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{self.name}:{number}: not UTF-8 text ({error.reason})") from error
        return text.removeprefix("\ufeff") if number == 1 else text

    def _parsed(self, text: str, place: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{place}: not JSON ({one_line(error)})") from error

    def _row(self, value: Any, text: str, place: str) -> Row:
        # Only a \u escape can produce half a character.
        if "\\u" in text and ("\\ud" in text or "\\uD" in text):
            whole = mended_value(value)
            if whole != value:
                self.halves.append(place)
            value = whole
        if not isinstance(value, dict):
            raise UserError(
                f"{place}: must be an object with {self.holds}, got {type(value).__name__}"
            )
        return place, value


def _unpacked(raw: BinaryIO, path: Path) -> Any:
    """The decompressed file, for reading line by line."""
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), BUFFER)
    if path.suffix == ".zst":
        stream: Any = pa.CompressedInputStream(pa.PythonFile(raw), "zstd")
        return io.BufferedReader(stream, BUFFER)
    return raw


def one_line(error: BaseException) -> str:
    """The error's first line, at most 160 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]


def mended(text: str) -> str:
    """Replaces half a character (a lone surrogate) by U+FFFD; files and tokenizers reject it."""
    return SURROGATES.sub("\ufffd", text)


def mended_value(value: Any) -> Any:
    """Applies `mended` to all texts in a value, including inside objects and lists."""
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [mended_value(item) for item in value]
    if isinstance(value, dict):
        return {mended_value(name): mended_value(item) for name, item in value.items()}
    return value
