"""The trained students that a run measured, and how each was trained, as far as it is known.

Of each student the first of these that knows: the rows of the table; run.json in the checkpoint's
folder or above it; the folder's name, where it is one that a sweep gives (``prefix-20-seed-0``). A
student of whom nothing is known has no selector.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.policies.checkpoint_folders import NAME, step_folder
from decaylab.runs import store
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.trained import BASE, TEACHER

_NAMES = "|".join(sorted(SELECTORS, key=len, reverse=True))
_ARM = re.compile(rf"({_NAMES})(?:-(\d+))?(?:-of-(\d+))?(?:-behind-\d+)?(?:-seed-(\d+))?")
_STEP = re.compile(rf"(?:(.*)/)?{NAME.pattern}")


@dataclass(frozen=True)
class Student:
    """A trained student. label: its ``checkpoint`` in the table. run: names those of one training.

    selector: "" where it is not known. rollout_length: tokens at which its training rollouts
    stopped, infinity where they did not. step: of a checkpoint that is not its run's last by name.
    steps: after how many it was measured. seed, step,
    steps, rollout_length: NaN where not known.
    """

    label: str
    run: str
    selector: str = ""
    rollout_length: float = math.nan
    seed: float = math.nan
    step: float = math.nan
    steps: float = math.nan


def students(run: FoundRun) -> list[Student]:
    """Every trained student of the run's table, in its order."""
    return _of(run.measurements, [str(path) for path in run.options.get("checkpoints") or ()])


def described(frame: pd.DataFrame, paths: Sequence[str]) -> pd.DataFrame:
    """Measurements with what is known of each student's training in the rows that do not say it
    themselves.

    paths: the checkpoints as they were named.
    """
    filled = frame.copy()
    for one in _of(frame, paths):
        own = (frame["checkpoint"] == one.label) & (frame["selector"] == "")
        if one.selector and own.any():
            filled.loc[own, "selector"] = one.selector
            filled.loc[own, "rollout_length"] = one.rollout_length
            filled.loc[own, "training_seed"] = one.seed
    return filled


def _of(frame: pd.DataFrame, paths: Sequence[str]) -> list[Student]:
    rows = frame[~frame["checkpoint"].isin(["", BASE, TEACHER])].drop_duplicates("checkpoint")
    return [_student(str(row["checkpoint"]), row, paths) for _, row in rows.iterrows()]


def last_of_each(found: Sequence[Student]) -> list[Student]:
    """Of each training its last checkpoint."""
    kept: dict[str, Student] = {}
    for one in sorted(
        found, key=lambda one: math.inf if math.isnan(one.step) else one.step
    ):  # a run's folder is its last
        kept[one.run] = one
    return [one for one in found if kept[one.run] is one]


def _student(label: str, row: pd.Series, paths: Sequence[str]) -> Student:
    ends = [str(step_folder(Path(os.path.abspath(os.path.expanduser(path))))) for path in paths]
    path = next((end for end in ends if end.endswith(f"/{label}")), "")
    matched = _STEP.fullmatch(path or label)
    run, step = (matched[1] or "", float(matched[2])) if matched else (path or label, math.nan)
    known = (
        _by_row(row)
        or (_by_record(Path(path), Path(run)) if path else {})
        or _by_name(path or label)
    )
    planned = _record(Path(path), Path(run)).get("steps") if path else None
    steps = step if not math.isnan(step) else math.nan if planned is None else float(planned)
    return Student(label, run, step=step, steps=steps, **known)


def _by_row(row: pd.Series) -> dict[str, Any]:
    if not row["selector"]:
        return {}
    return {
        "selector": str(row["selector"]),
        "rollout_length": row["rollout_length"],
        "seed": row["training_seed"],
    }


def _by_record(*folders: Path) -> dict[str, Any]:
    """What run.json says of a training; nothing where there is none, or it is no training's."""
    options = _record(*folders)
    if "selector" not in options:
        return {}
    length, seed = options.get("rollout_length"), options.get("seed")
    return {
        "selector": str(options["selector"]),
        "rollout_length": math.inf if length in (None, "full") else float(length),
        "seed": math.nan if seed is None else float(seed),
    }


def _record(*folders: Path) -> dict[str, Any]:
    """The options of a training by the first run.json that is one's."""
    for folder in folders:
        try:
            record = store.RunFolder(folder).record or {}
        except UserError:  # a damaged record of another run does not keep this one from being read
            continue
        options = (record.get("identity") or {}).get("training") or {}
        if "selector" in options:
            return dict(options)
    return {}


def _by_name(path: str) -> dict[str, Any]:
    """What a folder's name says of a training, the innermost first."""
    for part in reversed(Path(path).parts):
        if matched := _ARM.fullmatch(part):
            selector, budget, stop, seed = matched.groups()
            length = (
                float(stop or budget or math.nan)
                if SELECTORS[selector].stops_at_budget
                else math.inf
            )
            return {
                "selector": selector,
                "rollout_length": length,
                "seed": float(seed) if seed else math.nan,
            }
    return {}
