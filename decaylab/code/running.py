"""Runs one program against its tests: two processes, three pipes, one deadline.

    grader --tests--> judge --verdict--> grader
                      judge <--plain data--> program <--source-- grader

The program has no other end of a pipe than the two of its conversation with the judge. Both
processes are killed, each with its whole sandbox, as soon as there is a verdict or the time is up.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import IO

from decaylab.code.inside import judge, plain, program
from decaylab.code.inside.limits import Limits
from decaylab.code.sandbox import ENVIRONMENT, HARNESS, INSIDE, PACKAGES, Sandbox, interpreter
from decaylab.code.sandbox import packages as numpy_folders
from decaylab.code.sets import CodeProblem
from decaylab.printing import visible

MEMORY_BYTES = 2 << 30
"""Address space of one process."""
PROCESSES = 64
"""Threads of one program; it may have no process beside its own."""
_START = "import sys; sys.path += {}; from inside.{} import main; main(sys.argv[1:])"
_VERDICT_BYTES = 4096
_ENDED = "ended"  # the judge's word for a program that is gone
_GRACE_SECONDS = 2.0  # for the exit status of a program that is gone
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Outcome:
    """What the tests of a problem made of a program.

    verdict: passed, failed (an assertion), error, timed_out, out_of_memory or no_code.
    message: the assertion or exception in one line of at most 200 characters; "" if passed.
    """

    verdict: str
    message: str = ""

    @property
    def is_correct(self) -> bool:
        return self.verdict == "passed"


VERDICTS = ("passed", "failed", "error", "timed_out", "out_of_memory", "no_code")


class Interrupted(Exception):
    """All runs are being ended."""


@dataclass
class Runner:
    """Runs programs in a sandbox, or without one; `stop` ends all that run.

    Safe to share between threads.
    """

    sandbox: Sandbox | None
    timeout_seconds: float
    alive: set[Process] = field(default_factory=set)
    is_stopped: bool = False

    def run(self, source: str, problem: CodeProblem) -> Outcome:
        """Executes a program and its tests."""
        tests = plain.encode(problem.prepared().message())
        given = source.encode("utf-8", "surrogatepass")
        deadline = time.monotonic() + self.timeout_seconds
        with ExitStack() as stack:
            requests, replies = stack.enter_context(_pipe()), stack.enter_context(_pipe())
            theirs = stack.enter_context(
                self._started(program, given, requests.reading, replies.writing)
            )
            ours = stack.enter_context(
                self._started(judge, tests, replies.reading, requests.writing)
            )
            for pipe in (requests, replies):
                pipe.close()
            words = _verdict(ours, deadline)
            if words is None:
                return self._timed_out()
            return _outcome(words, theirs if self.sandbox else None)

    def stop(self) -> None:
        """Kills every process; runs in other threads end soon, without a verdict."""
        self.is_stopped = True
        for process in list(self.alive):
            self._kill(process)

    def _kill(self, process: Process) -> None:
        """Kills a process and the sandbox around it; without a sandbox, all of its session."""
        if self.sandbox is None and process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()

    def _timed_out(self) -> Outcome:
        return Outcome("timed_out", f"no verdict after {self.timeout_seconds:g} s")

    @contextmanager
    def _started(
        self, side: ModuleType, given: bytes, incoming: int, outgoing: int
    ) -> Iterator[Process]:
        """One side's process, which is killed at the end."""
        with ExitStack() as stack:
            process = self._start(stack, side, given, incoming, outgoing)
            self.alive.add(process)
            try:
                if self.is_stopped:
                    raise Interrupted
                yield process
            finally:
                self._kill(process)
                process.wait()
                self.alive.discard(process)
                if process.stdout:
                    process.stdout.close()

    def _start(
        self, stack: ExitStack, side: ModuleType, given: bytes, incoming: int, outgoing: int
    ) -> Process:
        """Starts one side; it reads what it is given from its standard input."""
        handle = stack.enter_context(_file(given))
        command, descriptors = self._command(stack, side, incoming, outgoing)
        folder = None if self.sandbox else stack.enter_context(tempfile.TemporaryDirectory())
        return subprocess.Popen(
            command,
            stdin=handle,
            stdout=subprocess.PIPE,  # the program's is never read, see `standard_input`
            stderr=subprocess.DEVNULL,
            pass_fds=[incoming, outgoing, *descriptors],
            env=ENVIRONMENT,
            cwd=folder,
            start_new_session=self.sandbox is None,
        )

    def _command(
        self, stack: ExitStack, side: ModuleType, incoming: int, outgoing: int
    ) -> tuple[list[str], list[int]]:
        """The words of a side's process, and the file descriptors that the sandbox needs."""
        is_inside = self.sandbox is not None
        paths = [HARNESS, PACKAGES] if is_inside else [str(INSIDE.parent), *_package_paths()]
        start = _START.format(paths, side.__name__.rpartition(".")[2])
        words = [interpreter(), "-S", "-s", "-P", "-c", start]
        numbers = (MEMORY_BYTES, int(self.timeout_seconds) + 2)
        if self.sandbox is None:
            return [*words, *Limits(0, *numbers, 0, incoming, outgoing).words()], []
        command, descriptors, user = stack.enter_context(self.sandbox.command(words))
        limits = Limits(user, *numbers, PROCESSES, incoming, outgoing)
        return [*command, *limits.words()], descriptors


def _package_paths() -> list[str]:
    return sorted({str(path.parent) for path in numpy_folders()})


# Processes


@dataclass
class _Pipe:
    reading: int
    writing: int
    is_open: bool = True

    def close(self) -> None:
        if self.is_open:
            os.close(self.reading)
            os.close(self.writing)
        self.is_open = False


@contextmanager
def _pipe() -> Iterator[_Pipe]:
    pipe = _Pipe(*os.pipe())
    try:
        yield pipe
    finally:
        pipe.close()


@contextmanager
def _file(content: bytes) -> Iterator[IO[bytes]]:
    """A file without a name, at its beginning."""
    with tempfile.TemporaryFile() as handle:
        handle.write(content)
        handle.seek(0)
        yield handle


def _verdict(judge: Process, deadline: float) -> bytes | None:
    """What the judge writes until it ends; None if the deadline comes first."""
    assert judge.stdout is not None
    written = b""
    with selectors.DefaultSelector() as selector:
        selector.register(judge.stdout, selectors.EVENT_READ)
        while (left := deadline - time.monotonic()) > 0:
            if not selector.select(left):
                continue
            part = os.read(judge.stdout.fileno(), _VERDICT_BYTES)
            if not part:
                return written
            written += part
    return None


def _outcome(words: bytes, program: Process | None) -> Outcome:
    """The judge's verdict; if the program is gone, by the signal that ended it.

    program: None without a sandbox, whose group is killed while its number is still its own.
    """
    try:
        verdict, message = plain.decode(words)
    except plain.Malformed:
        return Outcome("error", "the judge ended without a verdict")
    if verdict == _ENDED:
        return _of_ending(_ending(program) if program else None, message)
    return Outcome(verdict, visible(message)[:200])


def _ending(program: Process) -> int | None:
    """The signal that ended a program; None if it ended by itself or still runs."""
    try:
        status = program.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    number = -status if status < 0 else status - 128
    return number if 0 < number < signal.NSIG else None


def _of_ending(number: int | None, message: str) -> Outcome:
    if number == signal.SIGXCPU:
        return Outcome("timed_out", "it used more processor time than it had")
    if number == signal.SIGKILL:
        return Outcome("out_of_memory", "the system killed it")
    if number is not None:
        return Outcome("error", f"{message}: {signal.Signals(number).name}")
    return Outcome("error", message)
