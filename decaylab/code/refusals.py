"""Why no sandbox can be had, in one line: the cause and the remedy."""

from __future__ import annotations

from pathlib import Path

OVERRIDE = "--no-sandbox"
"""The option that runs programs without a sandbox."""
NOT_LINUX = "it needs Linux, and this is {}; run decaylab in a Linux virtual machine or container"
NOT_FOUND = (
    "bubblewrap is not installed; apt-get install bubblewrap, or pip install 'decaylab[code]'"
)
_NO_NAMESPACES = (
    "the kernel allows no user namespaces ({} is {}); set it with sysctl, or run as root"
)
_APPARMOR = (
    "AppArmor keeps bubblewrap from making user namespaces; install the system's bubblewrap and a "
    "profile for it, or run sysctl kernel.apparmor_restrict_unprivileged_userns=0 as root"
)
_CONTAINER = (
    "this container allows no namespaces ({}); start it with --security-opt seccomp=unconfined "
    "--cap-add SYS_ADMIN"
)
_OTHER = "bubblewrap failed ({}); see that bwrap --ro-bind / / true runs, in version 0.8 or later"
_MARKS = (".dockerenv", "run/.containerenv", "run/systemd/container")


def refusal(cause: str = "", *, message: str = "", root: Path = Path("/")) -> str:
    """The line that a command ends with.

    message: bubblewrap's, from which and from the system below `root` the cause is found.
    """
    cause = cause or _cause(message, root)
    return (
        f"no sandbox for programs that a model wrote: {cause}; or run them with the rights of this "
        f"process ({OVERRIDE})"
    )


def _cause(message: str, root: Path) -> str:
    switches = {"user/max_user_namespaces": "0", "kernel/unprivileged_userns_clone": "0"}
    for name, off in switches.items():
        if _setting(root, name) == off:
            return _NO_NAMESPACES.format(name.replace("/", "."), off)
    if any((root / mark).exists() for mark in _MARKS):
        return _CONTAINER.format(message)
    if _setting(root, "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return _APPARMOR
    return _OTHER.format(message)


def _setting(root: Path, name: str) -> str:
    path = root / "proc/sys" / name
    return path.read_text().strip() if path.exists() else ""
