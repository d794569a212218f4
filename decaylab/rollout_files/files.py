"""Finds rollout files: one, several, or all in a folder; compressed or not."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from decaylab.errors import UserError
from decaylab.problems.files import PACKED, Progress, Row, read_rows, suffix_of

KINDS = (".jsonl", ".ndjson", ".json", ".parquet", ".eval")
BESIDE = tuple(
    f"{name}.json"
    for name in ("args", "config", "dataset_info", "metadata", "metrics", "params", "summary")
)


def paths_of(option: str) -> tuple[Path, ...]:
    """The files of ``--rollouts``: one path or several, separated by commas.

    A folder stands for the files in it, sorted by name.

    Raises:
        UserError: no such file, a folder without rollout files, a file of another kind, or a file
            given twice.
    """
    whole = Path(option).expanduser()
    parts = [name.strip() for name in option.split(",")]
    names = [Path(name).expanduser() for name in parts if name]
    if option.strip() and whole.exists():  # a comma may be part of a file's name
        names = [whole]
    if not names:
        raise UserError("--rollouts names no file")
    files = [file for name in names for file in _files(name)]
    places = Counter(file.resolve() for file in files)
    if repeated := [file for file in files if places[file.resolve()] > 1]:
        raise UserError(f"{repeated[-1]} is given twice")
    return tuple(files)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        run = path / "rollouts.parquet"
        if run.is_file():
            return [run]
        inside = sorted(file for file in path.rglob("*") if _may_hold_rollouts(file, path))
        if not inside:
            raise UserError(f"{path} is a folder without rollout files ({', '.join(KINDS)})")
        # lm-eval puts its results beside its samples.
        return [file for file in inside if file.name.startswith("samples_")] or inside
    if not path.exists():
        raise UserError(f"cannot read {path}: No such file or directory")
    if not kind_of(path):
        raise UserError(
            f"{path} has suffix {path.suffix!r}; rollouts are read from {', '.join(KINDS)}, also "
            f"compressed ({' or '.join(PACKED)})"
        )
    return [path]


def _may_hold_rollouts(path: Path, folder: Path) -> bool:
    """Whether a path in a folder may be a rollout file.

    It must be of a known kind, not hidden, and not a metadata file of an evaluator or trainer.
    """
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    beside = path.name.startswith("_") or path.name in BESIDE
    return path.is_file() and bool(kind_of(path)) and not hidden and not beside


def kind_of(path: Path) -> str:
    """The suffix of a file's format, without the one of its compression; "" for an unknown kind."""
    suffix = suffix_of(path)
    return suffix if suffix in KINDS else ""


def content_hash(paths: Sequence[Path]) -> str:
    """SHA-256 of the files' contents, in order."""
    digests = []
    for path in paths:
        try:
            with path.open("rb") as handle:
                digests.append(hashlib.file_digest(handle, "sha256").hexdigest())
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def rows(
    path: Path, progress: Progress = lambda count: None, halves: list[str] | None = None
) -> Iterator[Row]:
    """Rows of a file with their places, lazily; see `read_rows`."""
    return read_rows(path, progress=progress, halves=halves, holds="a response")
