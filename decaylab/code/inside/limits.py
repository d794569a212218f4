"""What a process in a sandbox does before anything else: it gives up privileges, then resources."""

from __future__ import annotations

import os
import select
import sys

OPEN_FILES = 64
FILE_BYTES = 16 << 20


class Limits:
    """user: the id to become, if this process may; 0 to stay. processes: with threads; 0 for no
    limit. incoming, outgoing: the file descriptors of this side's pipes."""

    def __init__(
        self,
        user: int,
        memory_bytes: int,
        cpu_seconds: int,
        processes: int,
        incoming: int,
        outgoing: int,
    ) -> None:
        self.user, self.memory_bytes, self.cpu_seconds = user, memory_bytes, cpu_seconds
        self.processes, self.incoming, self.outgoing = processes, incoming, outgoing

    def words(self) -> list[str]:
        """As arguments of a command, which `of_words` reads."""
        return [str(number) for number in self.__dict__.values()]

    @classmethod
    def of_words(cls, words: list[str]) -> Limits:
        return cls(*map(int, words))


def apply(limits: Limits) -> None:
    """Becomes the unprivileged user, and lowers the hard limits, which such a user cannot raise.

    Every file descriptor but the first three and the pipes is closed.
    """
    import resource  # Windows has none

    low, high = sorted((limits.incoming, limits.outgoing))
    for first, last in ((3, low), (low + 1, high), (high + 1, 1024)):
        os.closerange(first, last)
    if limits.user:
        os.setgroups([])
        os.setresgid(limits.user, limits.user, limits.user)
        os.setresuid(limits.user, limits.user, limits.user)
    most = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: limits.cpu_seconds,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
    }
    if limits.processes:
        most[resource.RLIMIT_NPROC] = limits.processes
    if sys.platform == "linux":  # macOS refuses it
        most[resource.RLIMIT_AS] = limits.memory_bytes
    for which, value in most.items():
        hard = resource.getrlimit(which)[1]
        lowered = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (lowered, lowered))


def standard_input() -> bytes:
    """All of it; afterwards input, output and errors are the null device.

    The process ends here if the grader is gone. bubblewrap ends what it started when its parent
    ends, but only from the moment at which it has asked the kernel for that.
    """
    if not _has_reader(1):
        os._exit(1)
    with os.fdopen(os.dup(0), "rb") as handle:
        given = handle.read()
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    return given


def _has_reader(pipe: int) -> bool:
    """Whether somebody could still read what is written to a pipe."""
    polled = select.poll()
    polled.register(pipe, 0)  # errors are always reported
    return not polled.poll(0)
