"""The columns of a run's DataFrames: what each holds, and those that are empty left out."""

from __future__ import annotations

import re
from importlib import resources
from typing import Literal

import numpy as np
import pandas as pd

from decaylab.options import option_values

Frame = Literal["measurements", "tokens", "rollouts", "metrics", "validation"]
COUNT = re.compile(r"problems|rollouts|tokens(_\d+)?|prefix_tokens")
"""Columns that are 0 where nothing was counted."""


def columns(frame: Frame) -> pd.DataFrame:
    """What each column of a run's DataFrames holds: its name, unit and meaning.

    Raises:
        UserError: there is no such frame.
    """
    option_values.checked("frame", Frame, frame)
    table = every_column()
    of_frame = table[table["frame"] == frame].drop(columns="frame")
    return pd.DataFrame(of_frame.reset_index(drop=True))


def every_column() -> pd.DataFrame:
    """The columns of all frames: frame, column, unit, meaning."""
    file = resources.files("decaylab.api").joinpath("columns.csv")
    with file.open(encoding="utf-8") as text:
        return pd.read_csv(text, keep_default_na=False)


def without_empty(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without columns in which no row has a value: NaN, "", [] or a count of 0."""
    kept = [name for name in frame if not _is_empty(frame[name])]
    if "noise_floor" not in kept and "under_floor" in kept:
        kept.remove("under_floor")
    return pd.DataFrame(frame[kept].reset_index(drop=True))


def _is_empty(column: pd.Series) -> bool:
    if COUNT.fullmatch(str(column.name)):
        return bool((column.fillna(0) == 0).all())
    if column.isna().all():
        return True
    if pd.api.types.is_numeric_dtype(column.dtype):
        return False
    return all(map(_holds_nothing, column.unique() if _is_text(column) else column))


def _is_text(column: pd.Series) -> bool:
    return isinstance(column.dtype, (pd.StringDtype, pd.CategoricalDtype))


def _holds_nothing(value: object) -> bool:
    if isinstance(value, (str, list, np.ndarray)):
        return len(value) == 0
    return value is None or value != value
