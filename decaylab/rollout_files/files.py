"""Rows of the files that hold rollouts: JSONL, JSON and parquet, packed by gzip or zstd, alone,
several, or in folders.

    for place, row in rows(Path("rollouts/part-00001.jsonl.zst")):
        ...                                     # "rollouts/part-00001.jsonl.zst:17", {"prompt":
        ..., "response": ...}

Rows come one at a time, so that a file may be larger than the memory. Malformed input is a
UserError with file and line.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from decaylab.errors import UserError
from decaylab.problems.files import mended, one_line

KINDS = (".jsonl", ".ndjson", ".json", ".parquet", ".eval")
BESIDE = tuple(
    f"{name}.json"
    for name in ("args", "config", "dataset_info", "metadata", "metrics", "params", "summary")
)
PACKED = (".gz", ".zst")
BATCH_ROWS, LINES_A_TICK, BUFFER = 256, 512, 1 << 20
Progress = Callable[[int], None]
"""Takes the number of bytes read since it was called last."""


def paths_of(option: str) -> tuple[Path, ...]:
    """The files that an option names: one path, or several with commas between; folders as the
    files in them, by name.

    Raises:
        UserError: no such file, a folder without files of rollouts, a file of another kind, the
        same file twice.
    """
    whole = Path(option).expanduser()
    parts = [name.strip() for name in option.split(",")]
    names = (
        [whole]
        if option.strip() and whole.exists()
        else [Path(name).expanduser() for name in parts if name]
    )
    if not names:
        raise UserError("--rollouts names no file")
    found = [file for name in names for file in _files(name)]
    places = Counter(file.resolve() for file in found)
    if repeated := [file for file in found if places[file.resolve()] > 1]:
        raise UserError(f"{repeated[-1]} is named twice")
    return tuple(found)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        run = path / "rollouts.parquet"
        if run.is_file():
            return [run]
        inside = sorted(
            one for one in path.rglob("*") if one.is_file() and kind_of(one) and _counts(one, path)
        )
        samples = [
            one for one in inside if one.name.startswith("samples_")
        ]  # lm-eval puts its results beside them
        if not inside:
            raise UserError(f"{path} is a folder without files of rollouts ({', '.join(KINDS)})")
        return samples or inside
    if not path.exists():
        raise UserError(f"cannot read rollouts {path}: No such file or directory")
    if not kind_of(path):
        raise UserError(
            f"{path} has suffix {path.suffix!r}; rollouts are read from {', '.join(KINDS)}, also "
            f"with {' or '.join(PACKED)}"
        )
    return [path]


def _counts(path: Path, folder: Path) -> bool:
    """Whether a file of a folder may hold rollouts: it is not hidden, nor what evaluators and
    trainers put beside them."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and not path.name.startswith("_") and path.name not in BESIDE


def kind_of(path: Path) -> str:
    """The suffix that says how a file is read, without that of its packing; "" for a file of
    another kind."""
    suffix = path.with_suffix("").suffix if path.suffix in PACKED else path.suffix
    return suffix if suffix in KINDS else ""


def content_hash(paths: Sequence[Path]) -> str:
    """SHA-256 of what the files hold, in their order."""
    digests = []
    for path in paths:
        try:
            with path.open("rb") as handle:
                digests.append(hashlib.file_digest(handle, "sha256").hexdigest())
        except OSError as error:
            raise _unreadable(path, error) from error
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def rows(
    path: Path, progress: Progress | None = None, halves: list[str] | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file with their places, one at a time.

    halves: takes the places of rows in which half a character (a lone surrogate) was replaced by
    U+FFFD.

    Raises:
        UserError: a file that is damaged, cut off or no text; a malformed line.
    """
    progress, halves = progress or (lambda count: None), halves if halves is not None else []
    kind = kind_of(path)
    try:
        if kind == ".parquet":
            yield from _parquet_rows(path, progress)
        elif kind == ".json":
            yield from _json_rows(path, progress, halves)
        else:
            yield from _lines(path, progress, halves)
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    return UserError(f"cannot read rollouts {path}: {reason}")


def _unpacked(raw: BinaryIO, path: Path) -> Any:
    """What a file holds, as bytes that can be read line by line."""
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), BUFFER)
    if path.suffix == ".zst":
        stream: Any = pa.CompressedInputStream(pa.PythonFile(raw), "zstd")
        return io.BufferedReader(stream, BUFFER)
    return raw


def _lines(
    path: Path, progress: Progress, halves: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    done = 0
    with path.open("rb", buffering=BUFFER) as raw:
        for number, line in enumerate(_unpacked(raw, path), start=1):
            if number % LINES_A_TICK == 0:
                now = raw.tell()
                progress(now - done)
                done = now
            text = _text(line, path, number)
            if text and not text.isspace():
                place = f"{path}:{number}"
                yield place, _row(text, place, halves)
    progress(path.stat().st_size - done)  # what unpacks a file closes it


def _text(line: bytes, path: Path, number: int) -> str:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{number}: not UTF-8 text ({error.reason})") from error
    return text.removeprefix("\ufeff") if number == 1 else text


def _row(text: str, place: str, halves: list[str]) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({one_line(error)})") from error
    return _checked(_mended(value, text, place, halves), place)


def _checked(value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{place}: must be an object with a response, got {type(value).__name__}")
    return value


def _mended(value: Any, text: str, place: str, halves: list[str]) -> Any:
    """The value with every half of a character replaced; only an escape can have written one."""
    if "\\u" not in text or ("\\ud" not in text and "\\uD" not in text):
        return value
    whole = _deeply_mended(value)
    if whole != value:
        halves.append(place)
    return whole


def _deeply_mended(value: Any) -> Any:
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [_deeply_mended(one) for one in value]
    if isinstance(value, dict):
        return {_deeply_mended(name): _deeply_mended(one) for name, one in value.items()}
    return value


def _json_rows(
    path: Path, progress: Progress, halves: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of an array, or one object; a file that begins with an object may also hold one a
    line."""
    with path.open("rb") as raw:
        text = _text(_unpacked(raw, path).read(), path, 1)
    progress(path.stat().st_size)
    if text.lstrip()[:1] == "{":
        try:
            value = [json.loads(text)]
        except ValueError:  # several: one a line
            yield from _lines(path, lambda count: None, halves)
            return
        except RecursionError as error:
            raise UserError(f"{path}: not JSON ({one_line(error)})") from error
    else:
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not JSON ({one_line(error)})") from error
    if not isinstance(value, list):
        raise UserError(f"{path}: must be an array of objects, got {type(value).__name__}")
    for number, one in enumerate(value, start=1):
        place = f"{path}, row {number}"
        yield place, _checked(_mended(one, text, place, halves), place)


def _parquet_rows(path: Path, progress: Progress) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.suffix in PACKED:
        raise UserError(f"{path}: parquet is packed by itself; unpack it first")
    number, size = 0, path.stat().st_size
    try:
        file = pq.ParquetFile(path)
        total = max(file.metadata.num_rows, 1)
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            progress(size * batch.num_rows // total)
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except pa.ArrowException as error:
        raise UserError(
            f"{path} is not a readable parquet file (truncated?): {one_line(error)}"
        ) from error
