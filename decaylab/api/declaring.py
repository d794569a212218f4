"""Makes the typed declarations of `decaylab.api.commands` run their commands.

Imports nothing heavy: a command's modules are imported when it is called.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from decaylab.errors import UserError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def command(
    name: str,
) -> Callable[[Callable[Arguments, Result]], Callable[Arguments, Result]]:
    """A decorator for the declaration of a command. name: as on the command line."""

    def declared(declaration: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
        shape = inspect.signature(declaration)
        options = [
            parameter.name
            for parameter in shape.parameters.values()
            if parameter.kind is not inspect.Parameter.VAR_POSITIONAL
        ]

        @functools.wraps(declaration)
        def run(*arguments: Any, **given: Any) -> Result:
            for option in sorted(set(given) - set(options)):
                known = ", ".join(sorted(options))
                raise UserError(f"no option {option} of {name}; there are {known}")
            from decaylab.api import running

            bound = shape.bind(*arguments, **given).arguments  # only what was given
            return cast(Result, running.run(name, declaration.__name__, bound))

        return cast(Callable[Arguments, Result], run)

    return declared
