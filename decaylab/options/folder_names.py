"""Default folders: named by everything that makes a run another one, so that the same command finds
its run again and a command with another option never meets that run.

    prefix-decay-TEACHER-STUDENT-PROBLEMS-limit-10      under runs/
    evaluate-limit-10                                   in the folder of a training run
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from decaylab.options.declared import RUNS, identity

LONGEST_NAME = 120  # bytes of a folder's name; file systems allow 255
RECORDED_APART = ("top_ids",)
"""Options that a run's identity has beside its options: the bound of served-kl."""


def joined(parts: Iterable[str]) -> str:
    """A folder's name of these parts. A long one ends with a hash of the whole."""
    name = "-".join(re.sub(r"[^\w.-]+", "-", part) for part in parts)
    if len(name.encode()) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"


def unusual(
    options: Any, usual: Any, kinds: Iterable[str], without: Iterable[str] = ()
) -> list[str]:
    """The identifying options of these kinds of runs that differ from the usual ones, each as
    ``limit-10``."""
    names = dict.fromkeys(name for kind in kinds for name in identity(options, kind))
    if set(kinds) & set(RUNS):
        names |= dict.fromkeys(name for name in RECORDED_APART if hasattr(options, name))
    differing = {
        name: getattr(options, name)
        for name in names
        if name not in without and getattr(options, name) != getattr(usual, name)
    }
    return [f"{name.replace('_', '-')}-{_in_a_name(value)}" for name, value in differing.items()]


def last_part(name: str) -> str:
    """The end of a path or of a hub id, as part of a folder's name."""
    return Path(name).name or name


def _in_a_name(value: object) -> str:
    """An option's value as part of a folder's name."""
    if isinstance(value, Mapping):
        value = [f"{key}-{text}" for key, text in value.items()]
    if isinstance(value, list | tuple):
        return "-".join(map(str, value))
    return Path(str(value)).name
