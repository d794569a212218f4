"""A user namespace for a caller that is root: root's own id inside, and ids for programs.

bubblewrap would map one id only, the caller's, and no limit on processes or threads holds for
root's. With more ids a program becomes a user who owns nothing on the machine. The first id of the
namespace is needed to reach an interpreter in a folder of root's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import count

FIRST, SIZE = 60_000, 5_000
"""Ids of programs, the same inside and outside: above those of people, below that of nobody."""
_MADE = "import ctypes, os; print(ctypes.CDLL(None).unshare(0x10000000), flush=True); os.read(0, 1)"
_next = count(16 * os.getpid())  # apart from other graders


def program_user() -> int:
    """An id that no other running program has."""
    return FIRST + next(_next) % SIZE


def opened() -> int | None:
    """A file descriptor of a new namespace, which lasts until it is closed; None if the kernel or
    the container does not allow it."""
    words = [sys.executable, "-S", "-E", "-c", _MADE]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None
        try:
            is_made = child.stdout.readline().strip() == b"0"
            return _mapped(child.pid) if is_made else None
        except OSError:
            return None
        finally:
            child.stdin.close()


def _mapped(process: int) -> int:
    lines = f"0 0 1\n{FIRST} {FIRST} {SIZE}\n"
    for name in ("uid_map", "gid_map"):
        with open(f"/proc/{process}/{name}", "w") as handle:
            handle.write(lines)
    return os.open(f"/proc/{process}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
