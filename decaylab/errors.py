"""How a command ends early: the one error that a user sees without a traceback, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

NEAR = 0.75
"""Similarity of difflib above which one word may be a misspelling of another."""


class UserError(ValueError):
    """Input that cannot be used, in one line: what was given, what is allowed, what to do.

    The command line prints the message and exits with status 2; a caller of the library sees a
    ValueError.
    """


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` with the known word that is nearest, or the first that begins with this
    one; empty if there is none."""
    known = list(known)
    near = get_close_matches(word, known, n=1, cutoff=NEAR)
    near = near or [one for one in known if one.startswith(word)]
    return f"; did you mean {near[0]}?" if near else ""


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
