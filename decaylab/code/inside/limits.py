"""What a process in a sandbox does before anything else: it gives up privileges, then resources."""

from __future__ import annotations

import os
import resource
import sys

PROCESSES = 64
OPEN_FILES = 64
FILE_BYTES = 16 << 20


class Limits:
    """user: the id to become, if this process may; 0 to stay. incoming, outgoing: the file
    descriptors of this side's pipes."""

    def __init__(
        self, user: int, memory_bytes: int, cpu_seconds: int, incoming: int, outgoing: int
    ) -> None:
        self.user, self.memory_bytes, self.cpu_seconds = user, memory_bytes, cpu_seconds
        self.incoming, self.outgoing = incoming, outgoing

    def words(self) -> list[str]:
        """As arguments of a command, which `of_words` reads."""
        numbers = (self.user, self.memory_bytes, self.cpu_seconds, self.incoming, self.outgoing)
        return [str(number) for number in numbers]

    @classmethod
    def of_words(cls, words: list[str]) -> Limits:
        return cls(*map(int, words))


def apply(limits: Limits) -> None:
    """Becomes the unprivileged user, then lowers the hard limits, which such a user cannot
    raise."""
    if limits.user:
        os.setgroups([])
        os.setresgid(limits.user, limits.user, limits.user)
        os.setresuid(limits.user, limits.user, limits.user)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_CPU, limits.cpu_seconds)
    _lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    _lower(resource.RLIMIT_NOFILE, OPEN_FILES)
    _lower(resource.RLIMIT_NPROC, PROCESSES)
    if sys.platform == "linux":  # macOS refuses it
        _lower(resource.RLIMIT_AS, limits.memory_bytes)


def _lower(which: int, most: int) -> None:
    hard = resource.getrlimit(which)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))


def standard_input() -> bytes:
    """All of it; afterwards input, output and errors are the null device."""
    with os.fdopen(os.dup(0), "rb") as handle:
        given = handle.read()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    return given
