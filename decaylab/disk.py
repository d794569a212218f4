"""Files that are written whole or not at all, and folders that one process at a time works in."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from decaylab.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        UserError: the disk is full or the folder cannot be written; an older file stays as it was.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            handle.write(content)
            handle.flush()
            # Without it a crash of the machine can leave the new name on an empty file.
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UserError:
    """The message for a file or folder that cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"no space left while writing {path}; free some and run the same command again: "
            "nothing is lost"
        )
    return UserError(f"cannot write {path}: {error.strerror or error}")


@contextmanager
def lock(folder: Path, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Keeps other processes out of a folder; a process that is killed leaves it free.

    wait: called once with a message if another process holds the folder, which is then waited
    for. Without it, that is an error.

    Raises:
        UserError: the folder cannot be written, or another process holds it.
    """
    held = FileLock(folder / ".lock")
    in_use = f"{folder} is in use by another process"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            # Of the operating system, where it can: what a killed process held is free again.
            held.acquire(timeout=0)
        except Timeout as error:
            if wait is None:
                raise UserError(in_use) from error
            wait(f"{in_use}: waiting for it")
            held.acquire()
    except OSError as error:
        raise unwritable(folder, error) from error
    except NotImplementedError as error:  # some versions of filelock, where flock is missing
        raise UserError(f"cannot lock {folder}: its file system has no locks") from error
    try:
        yield
    finally:
        held.release()
