"""The judge's side: runs the tests of a problem; calls of the function go to the program's sandbox.

The tests, the prompt's helper functions and every comparison are here. The program is reached only
by plain data, so what it returns is compared as what it is.
"""

from __future__ import annotations

import builtins
import os

from . import limits, plain
from .channel import Channel, TooLarge
from .program import seed

TYPE_CHECKING = False  # not typing's, whose import takes as long as Python's own start
if TYPE_CHECKING:
    from typing import Any

TESTS = "<tests>"
LENGTH = 200
"""Characters of a message."""
_NEVER = (StopIteration, StopAsyncIteration)  # they would end a loop of the tests early


class Broken(BaseException):
    """The program ended or wrote no plain data; not an Exception, which tests may catch."""


class ProgramError(Exception):
    """An exception of the program's that is not built in, or that the tests must not mistake."""


class Remote:
    """The program, as the tests see it."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.returned: list[Any] = []  # the last value
        self.raised: BaseException | None = None  # the last exception

    def call(self, name: str, *args: Any, **keywords: Any) -> Any:
        """What a function of the program's returns; changed arguments are changed here too."""
        given = [list(args), keywords]
        value, changed = self.request("call", name, *given)
        if type(changed) is list and len(changed) == 2:
            plain.put_back(given, changed)
        return value

    def evaluate(self, source: str) -> Any:
        """The value of an expression among the program's names."""
        return self.request("evaluate", source)[0]

    def execute(self, source: str) -> None:
        """Executes a statement among the program's names."""
        self.request("execute", source)

    def request(self, *message: Any) -> tuple[Any, Any]:
        self.channel.send(plain.encode(message))
        return self.answer()

    def answer(self) -> tuple[Any, Any]:
        """The value and the changed arguments, or the exception that the program raised."""
        try:
            status, first, second = self.channel.receive()
        except EOFError:
            raise Broken("the program ended before it answered") from None
        except (plain.Malformed, TooLarge, RecursionError, TypeError, ValueError) as error:
            raise Broken(f"the program's answer cannot be read: {error}") from None
        if status == "raised":
            self.raised = raised(str(first), str(second))
            raise self.raised
        self.returned = [first]
        return first, second


def raised(name: str, message: str) -> Exception:
    """An exception of the program's, of a built-in class or `ProgramError`."""
    kind = getattr(builtins, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, _NEVER):
        return ProgramError(f"{name}: {message}".removesuffix(": "))
    try:
        error: Exception = kind(message)
    except TypeError:  # UnicodeDecodeError takes five arguments
        return ProgramError(f"{name}: {message}".removesuffix(": "))
    return error


def run(problem: dict[str, Any], remote: Remote) -> None:
    """Runs the tests, as `decaylab.code.preparing` prepared them; returns if they pass."""
    remote.answer()  # the program has been executed
    namespace: dict[str, Any] = {
        "__name__": "tests",
        problem["evaluate"]: remote.evaluate,
        problem["execute"]: remote.execute,
    }
    for source in problem["before"]:
        exec(compile(source, "<problem>", "exec"), namespace)
    for name in problem["functions"]:
        namespace[name] = _function(remote, name)
    seed(problem["tests"])
    exec(compile(problem["tests"], TESTS, "exec"), namespace)


def _function(remote: Remote, name: str) -> Any:
    def function(*args: Any, **keywords: Any) -> Any:
        return remote.call(name, *args, **keywords)

    function.__name__ = name
    return function


# Verdicts


def verdict(problem: dict[str, Any], remote: Remote) -> tuple[str, str]:
    """The verdict and its message."""
    try:
        run(problem, remote)
    except Broken as error:
        return "ended", str(error)
    except BaseException as error:
        return _of_exception(error, problem["tests"], remote)
    return "passed", ""


def _of_exception(error: BaseException, tests: str, remote: Remote) -> tuple[str, str]:
    if error is remote.raised:
        kind = "out_of_memory" if isinstance(error, MemoryError) else "error"
        return kind, _described(error)
    if not isinstance(error, AssertionError):
        return "error", f"{_described(error)} in {_line(error, tests)}"
    words = f"{error}: " if str(error) else ""
    return "failed", f"{words}{_line(error, tests)}{_last(remote)}"


def _described(error: BaseException) -> str:
    if type(error) is ProgramError:
        return str(error)
    return f"{type(error).__name__}: {error}".removesuffix(": ")


def _last(remote: Remote) -> str:
    """What the last call returned, for a reader."""
    try:
        return f"; it returned {remote.returned[0]!r}"
    except (IndexError, ValueError):  # an integer of more than 4,300 digits has no decimal form
        return ""


def _line(error: BaseException, tests: str) -> str:
    """The line of the tests in which an exception was raised."""
    number, trace = 0, error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == TESTS:
            number = trace.tb_lineno
        trace = trace.tb_next
    lines = tests.splitlines()
    return lines[number - 1].strip() if 0 < number <= len(lines) else "the tests"


def main(words: list[str]) -> None:
    """Writes the verdict to standard output, which the program's sandbox does not have."""
    wanted = limits.Limits.of_words(words)
    limits.apply(wanted)
    out = os.dup(1)
    problem = plain.decode(limits.standard_input())
    kind, message = verdict(problem, Remote(Channel(wanted.incoming, wanted.outgoing)))
    os.write(out, plain.encode([kind, " ".join(message.split())[:LENGTH]]))
    os._exit(0)
