"""Imports what registers selectors, answer rules and problem sets: files, modules, entry points.

load("my_selectors.py")      # --plugin my_selectors.py
load("my_package.parts")     # --plugin my_package.parts
load_installed()             # packages with an entry point in the group decaylab.plugins
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from decaylab.errors import UserError
from decaylab.plugins.origins import FILE_MODULE, GROUP, ORIGINS, Named, origins

EXAMPLE = '@dl.selector("NAME"), @dl.answer_rule("NAME") or @dl.problem_set("NAME")'


def load(source: str) -> None:
    """Imports a plugin, which registers its functions. One that is loaded is not imported again,
    unless its file has changed.

    source: a .py file, or the name of a module that can be imported.

    Raises:
        UserError: it cannot be imported, or registers nothing.
    """
    before = len(ORIGINS)
    if source.endswith(".py"):
        path = Path(source).expanduser().resolve()
        _load_file(source, path)
        registers = any(origin.file == path for origin in ORIGINS.values())
    else:
        _load_module(source)
        registers = any(f"{one.module}.".startswith(f"{source}.") for one in ORIGINS.values())
    if not registers and len(ORIGINS) == before:
        raise UserError(
            f"--plugin {source} registers nothing: write {EXAMPLE} above a function in it"
        )


def _load_file(source: str, path: Path) -> None:
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"--plugin {source}: {error.strerror}: {path}") from error
    if any(one.file == path and one.sha256 == digest for one in ORIGINS.values()):
        return
    name = f"{FILE_MODULE}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UserError(
            f"--plugin {source} cannot be imported: {described(error, path)}"
        ) from error


def _load_module(source: str) -> None:
    try:
        importlib.import_module(source)
    except Exception as error:
        file = Path(f"{source}.py")
        hint = f"; is it the file --plugin {file}?" if file.is_file() else ""
        raise UserError(
            f"--plugin {source} cannot be imported: {described(error)}{hint}"
        ) from error


@functools.cache
def load_installed() -> tuple[str, ...]:
    """Imports the plugins of installed packages, once in a process.

    Returns:
        What went wrong, a line for each one that could not be imported: a package that happens to
        be installed must not stop a run that does not use it.
    """
    failures = []
    for point in metadata.entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:
            package = f" of {point.dist.name}" if point.dist else ""
            failures.append(
                f"the plugin {point.name}{package} ({point.value}) could not be imported: "
                f"{described(error)}"
            )
    return tuple(failures)


def unloaded() -> str:
    """The failures of `load_installed`, at the end of a message on an unknown name."""
    return "".join(f"; {failure}" for failure in load_installed())


def sources(names: Iterable[Named], given: Iterable[str] = ()) -> tuple[str, ...]:
    """The ``--plugin`` values with which another process has these names, after those given.

    Raises:
        UserError: one of them cannot be imported by another process.
    """
    there = {str(Path(one).expanduser().resolve()) if one.endswith(".py") else one for one in given}
    more = dict.fromkeys(origin.source for origin in origins(names))
    return (*given, *(source for source in more if source not in there))


def described(error: BaseException, file: Path | None = None) -> str:
    """An exception in one line, with the line that raised it; with a file, the last line in it."""
    words = " ".join(str(error).split())[:200]
    if isinstance(error, UserError):
        return words
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen")
    ]
    inside = [frame for frame in frames if file and Path(frame.filename) == file]
    if isinstance(error, SyntaxError) or not frames or frames[-1].filename == importlib.__file__:
        return text
    last = (inside or frames)[-1]
    return f"{text} (line {last.lineno} of {Path(last.filename).name})"
