"""The trained students that a run measured, and how each was trained, if known.

The first of these sources that has the information counts: the rows of the table; run.json in the
checkpoint's folder or above; the folder's name, if a sweep chose it (``prefix-20-seed-0``). A
student with unknown training has no selector.
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
from decaylab.runs.vocabulary import BASE, FULL, TEACHER

_ARM = r"({names})(?:-(\d+))?(?:-of-(\d+))?(?:-behind-\d+)?(?:-seed-(\d+))?"
_STEP = re.compile(rf"(?:(.*)/)?{NAME.pattern}")


@dataclass(frozen=True)
class Student:
    """A trained student. label: its ``checkpoint`` in the table. run: its training run's name.

    selector: "" if unknown. rollout_length: tokens at which its training rollouts stopped, infinity
    for full rollouts. step: of a checkpoint named by its step. steps: total training steps. seed,
    step, steps, rollout_length: NaN if unknown.
    """

    label: str
    run: str
    selector: str = ""
    rollout_length: float = math.nan
    seed: float = math.nan
    step: float = math.nan
    steps: float = math.nan


def students(run: FoundRun) -> list[Student]:
    """Every trained student of the run's table, in order."""
    return _of(run.measurements, [str(path) for path in run.options.get("checkpoints") or ()])


def described(frame: pd.DataFrame, paths: Sequence[str]) -> pd.DataFrame:
    """Measurements with each student's training filled in where rows lack it.

    paths: the checkpoints as given by the user.
    """
    filled = frame.copy()
    for student in _of(frame, paths):
        rows = (frame["checkpoint"] == student.label) & (frame["selector"] == "")
        if student.selector and rows.any():
            filled.loc[rows, "selector"] = student.selector
            filled.loc[rows, "rollout_length"] = student.rollout_length
            filled.loc[rows, "training_seed"] = student.seed
    return filled


def last_of_each(trained: Sequence[Student]) -> list[Student]:
    """The last checkpoint of each training run; a run folder counts as its last."""
    last: dict[str, Student] = {}
    for student in sorted(trained, key=lambda student: _or_else(student.step, math.inf)):
        last[student.run] = student
    return [student for student in trained if last[student.run] is student]


def _of(frame: pd.DataFrame, paths: Sequence[str]) -> list[Student]:
    rows = frame[~frame["checkpoint"].isin(["", BASE, TEACHER])].drop_duplicates("checkpoint")
    return [_student(row, paths) for _, row in rows.iterrows()]


def _student(row: pd.Series, paths: Sequence[str]) -> Student:
    label = str(row["checkpoint"])
    # The table has only the ends of paths.
    folders = [str(step_folder(Path(os.path.abspath(os.path.expanduser(path))))) for path in paths]
    path = next((folder for folder in folders if folder.endswith(f"/{label}")), "")
    run, step = path or label, math.nan
    if matched := _STEP.fullmatch(run):
        run, step = matched[1] or "", float(matched[2])
    options = _training_options(Path(path), Path(run)) if path else {}
    known = _by_row(row) or _by_options(options) or _by_name(path or label)
    selector, length, seed = known or ("", math.nan, math.nan)
    steps = _or_else(step, _number(options.get("steps")))
    return Student(label, run, selector, length, seed, step, steps)


Known = tuple[str, float, float] | tuple[()]
"""Selector, rollout length and seed of a training run; empty if unknown."""


def _by_row(row: pd.Series) -> Known:
    if not row["selector"]:
        return ()
    return str(row["selector"]), row["rollout_length"], row["training_seed"]


def _by_options(options: dict[str, Any]) -> Known:
    if "selector" not in options:
        return ()
    length = options.get("rollout_length")
    stop = math.inf if length in (None, FULL) else float(length)
    return str(options["selector"]), stop, _number(options.get("seed"))


def _by_name(path: str) -> Known:
    """The training settings in the names of a path's folders, the innermost first."""
    # The longest names first: "prefix" would match the beginning of "prefix-mask".
    names = "|".join(sorted(SELECTORS, key=len, reverse=True))
    arm = re.compile(_ARM.replace("{names}", names))
    for part in reversed(Path(path).parts):
        if matched := arm.fullmatch(part):
            selector, budget, stop, seed = matched.groups()
            length = math.inf
            if SELECTORS[selector].stops_at_budget:
                length = _number(stop or budget)
            return selector, length, _number(seed)
    return ()


def _training_options(*folders: Path) -> dict[str, Any]:
    """The options in the first run.json of a training run; empty if there is none."""
    for folder in folders:
        try:
            record = store.RunFolder(folder).record or {}
        except UserError:  # a damaged record of another run must not hide this one
            continue
        options = (record.get("identity") or {}).get("training") or {}
        if "selector" in options:
            return dict(options)
    return {}


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _or_else(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else value
