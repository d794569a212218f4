"""How a command ends early: the one error that a user sees without a traceback, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """Input that cannot be used, in one line: what was given, what is allowed, what to do.

    The command line prints the message and exits with status 2; a caller of the library sees a
    ValueError.
    """


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a command that keeps what it has finished. The message says what is kept, where."""


@contextmanager
def keeping(kept: Callable[[], str]) -> Iterator[None]:
    """Work that may be interrupted: Ctrl-C becomes `Interrupted` with what is kept then."""
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt as interrupt:
        raise Interrupted(kept()) from interrupt
