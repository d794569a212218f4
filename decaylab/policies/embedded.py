"""The pair that ships with decaylab: its names on the command line and its folders."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

EMBEDDED = {"abacus-teacher": "teacher", "abacus-student": "student"}


def folder_of(name: str) -> Path:
    """The folder of ``abacus-teacher`` or ``abacus-student``."""
    return Path(str(files("decaylab.data") / "abacus" / EMBEDDED[name]))


def short_name(name: str) -> str:
    """The name of an embedded policy for a path to its folder; other names are unchanged."""
    if name and Path(name).is_dir():
        for short in EMBEDDED:
            if Path(name).resolve() == folder_of(short).resolve():
                return short
    return name
