"""What a user has registered: the name, the function, and the file that it comes from.

    register(SELECTOR, "my-selector", function, ("signals", "budget", "rng"), taken=SELECTORS)
    identity([(SELECTOR, "my-selector")])    # for run.json; {} for decaylab's own names

A run that can be resumed needs a function that another process can import and compare: it stands at
the top level of a file, whose SHA-256 is part of the run's identity.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from decaylab.errors import UserError

SELECTOR, ANSWER_RULE, PROBLEM_SET = "selector", "answer rule", "problem set"
GROUP = "decaylab.plugins"
"""The group of entry points by which an installed package registers."""
FILE_MODULE = "decaylab_plugin_"
"""Beginning of the module name of a plugin file, followed by the file's stem."""
PLUGINS = "plugins"
"""The key of registered functions in a run's identity."""
LONGEST_NAME = 40
# A selector's name stands in those of arms (mine-20-seed-0), so no part of it may be a number.
SHAPES = {
    SELECTOR: (
        r"[a-z][a-z0-9]*(-[a-z][a-z0-9]*)*",
        "lower-case words joined by hyphens, such as my-selector",
    ),
    ANSWER_RULE: (
        r"[a-z][a-z0-9_]*",
        "lower-case letters, digits and underscores, such as my_rule",
    ),
    PROBLEM_SET: (
        r"[a-z][a-z0-9]*([-_][a-z0-9]+)*",
        "lower-case words joined by hyphens, such as my-set",
    ),
}
RESERVED = {
    SELECTOR: (),
    ANSWER_RULE: ("file", "gold", "verdicts"),
    PROBLEM_SET: ("rollouts", "none", "gym"),
}
Named = tuple[str, str]
"""A kind and a name."""


@dataclass(frozen=True)
class Origin:
    """Where a registered function comes from.

    function: its qualified name. module: as it is imported, or the stem of a plugin file. file: of
    the module; None without one. sha256: of the file when it was imported. unfit: why no other
    process can import the function; "" if it can.
    """

    kind: str
    name: str
    function: str
    module: str
    file: Path | None
    sha256: str
    unfit: str

    @property
    def words(self) -> str:
        """Name, function and file, for messages."""
        place = self.file.name if self.file else self.module
        return f"{self.kind} {self.name!r} ({self.function} in {place})"

    @property
    def source(self) -> str:
        """What ``--plugin`` takes to register it in another process."""
        # A module of a package may have relative imports, so it is imported by its name.
        return self.module if "." in self.module else str(self.file)

    def record(self) -> dict[str, str]:
        """What run.json holds of it. Its folder may be another on the next machine."""
        file = self.file.name if self.file else ""
        version = distribution(self.module)
        return {
            "kind": self.kind,
            "name": self.name,
            "module": self.module,
            "file": file,
            "sha256": self.sha256,
            "distribution": version,
        }


ORIGINS: dict[Named, Origin] = {}
"""Every registered function, by kind and name."""


def register(
    kind: str,
    name: str,
    function: Callable[..., Any],
    parameters: tuple[str, ...],
    taken: Collection[str],
) -> None:
    """Notes where a function comes from; the registry of its kind keeps the function itself.

    A function may be registered again from the same place, as when a notebook runs a cell twice.

    Args:
        parameters: those that the function is called with, in order.
        taken: the names in the registry.

    Raises:
        UserError: an invalid name or one that exists, or a function that cannot be called so.
    """
    _check_name(kind, name)
    origin = _origin(kind, name, function)
    there = ORIGINS.get((kind, name))
    if there and (there.module, there.file, there.function) != (
        origin.module,
        origin.file,
        origin.function,
    ):
        raise UserError(f"{there.words} is registered already; give {origin.function} another name")
    if name in taken and not there:
        raise UserError(f"{kind} {name!r} is one of decaylab's own; choose another name")
    try:
        inspect.signature(function).bind(*parameters)
    except (TypeError, ValueError) as error:
        noun = "argument" if len(parameters) == 1 else "arguments"
        wanted = f"{len(parameters)} {noun}, {', '.join(parameters)}"
        raise UserError(f"{origin.words} must take {wanted}: {error}") from error
    ORIGINS[kind, name] = origin


def _check_name(kind: str, name: Any) -> None:
    if not isinstance(name, str):
        raise UserError(
            f"the name of {_a(kind)} must be text, got {name!r:.60}; write @dl."
            f'{kind.replace(" ", "_")}("NAME") above the function'
        )
    pattern, words = SHAPES[kind]
    if not re.fullmatch(pattern, name) or len(name) > LONGEST_NAME:
        raise UserError(
            f"the name of {_a(kind)} must be {words}, of at most {LONGEST_NAME} characters, got "
            f"{name!r:.60}"
        )
    if name in RESERVED[kind]:
        raise UserError(f"the name {name!r} of {_a(kind)} has another meaning; choose another")


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _origin(kind: str, name: str, function: Callable[..., Any]) -> Origin:
    if not callable(function):
        raise UserError(f"{kind} {name!r} must be a function, got {function!r:.60}")
    bare: Any = inspect.unwrap(function)
    while isinstance(bare, functools.partial):
        bare = inspect.unwrap(bare.func)
    called = str(getattr(bare, "__qualname__", type(bare).__qualname__))
    module = str(getattr(bare, "__module__", None) or "__main__")
    given = getattr(sys.modules.get(module), "__file__", None)
    file = Path(given).resolve() if given and module != "__main__" else None
    content = file.read_bytes() if file and file.is_file() else None
    unfit = ""
    if called.endswith("<lambda>"):
        unfit = "is a lambda"
    elif module == "__main__":
        unfit = "is defined in a notebook or a script"
    elif "<locals>" in called:
        unfit = "is defined inside another function"
    elif content is None:
        unfit = "has no source file"
    digest = hashlib.sha256(content).hexdigest() if content is not None else ""
    return Origin(kind, name, called, module.removeprefix(FILE_MODULE), file, digest, unfit)


def origins(names: Iterable[Named]) -> list[Origin]:
    """The origins of those names that a user registered, each once.

    Raises:
        UserError: one of them cannot be imported by another process.
    """
    found = [ORIGINS[named] for named in dict.fromkeys(names) if named in ORIGINS]
    for origin in found:
        if origin.unfit:
            raise UserError(
                f"{origin.kind} {origin.name!r} {origin.unfit}, and a run must be able to import "
                "and compare it when it is resumed: define it at the top level of a file, such as "
                "my_parts.py, and give --plugin my_parts.py (plugin= in Python)"
            )
    return found


def identity(names: Iterable[Named]) -> dict[str, Any]:
    """The part of a run's identity for the functions that it uses: ``{"plugins": {...}}``.

    {} if they are all decaylab's own.

    Raises:
        UserError: one of them cannot be imported by another process.
    """
    found = {f"{origin.kind} {origin.name}": origin.record() for origin in origins(names)}
    return {PLUGINS: found} if found else {}


def differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed between the functions of two runs, in words.

    A function that only one of them has is no difference: an option names it, and a run's rollouts
    may be graded by another rule later.
    """
    return [
        f"{key} ({one['file']}) has changed: {_version(there[key])} there, {_version(one)} now"
        for key, one in now.items()
        if key in there and there[key] != one
    ]


def _version(record: Mapping[str, Any]) -> str:
    words = [record["distribution"], f"SHA-256 {str(record['sha256'])[:12]}"]
    return ", ".join(filter(None, words))


@functools.cache
def distribution(module: str) -> str:
    """Name and version of the installed package that a module belongs to; "" without one."""
    top = module.partition(".")[0]
    for point in metadata.entry_points(group=GROUP):
        if point.module.partition(".")[0] == top and point.dist:
            return f"{point.dist.name} {point.dist.version}"
    packages = metadata.packages_distributions().get(top, [])
    return f"{packages[0]} {metadata.version(packages[0])}" if packages else ""
