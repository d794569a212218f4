"""Measurements: tidy rows, one number each, with its interval, counts and origin.

Every analysis returns a frame of this shape, the published numbers have it too, and figures are
drawn from it alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from decaylab.disk import write_atomically
from decaylab.errors import UserError
from decaylab.runs import store

SCHEMA = "decaylab.measurements/3"


@dataclass(frozen=True)
class Measurement:
    """One measured or published number.

    what: the quantity, such as ``accuracy`` or ``retained_advantage``.
    estimand: what the mean is over.
    value: a fraction, a number of tokens, a p-value, ...; see ``unit``. NaN if undefined, with the
        reason in ``note``.
    condition: what was continued or controlled, such as ``student-prefix`` or ``own-prefix``.
    view: ``open`` (only rollouts unfinished at the length) or ``carry-forward`` (finished ones
        count with their own grade); for token statistics, ``fresh`` (each checkpoint on its own
        rollouts) or ``frozen`` (all on the base student's rollouts).
    checkpoint: the measured student, ``base`` before training.
    prefix_tokens: the prefix length, in tokens of its author; NaN without a prefix.
    position_low, position_high: a bin of response positions, upper end excluded; infinity if it has
        no upper end.
    category, token: restrict the tokens behind the number.
    selector, rollout_length, step, training_seed: how the student was trained; a rollout_length of
        infinity is a full rollout.
    low, high: the pointwise interval at ``level``.
    band_low, band_high: the simultaneous band over all lengths.
    problems, rollouts, tokens: counts behind the number (tokens: of the continuations).
    noise_floor: change of the same number between two ways of scoring the same rollouts.
    under_floor: whether the value is less than twice the noise floor.
    """

    what: str
    condition: str
    value: float
    unit: str
    view: str = ""
    checkpoint: str = ""
    prefix_tokens: float = math.nan
    position_low: float = math.nan
    position_high: float = math.nan
    category: str = ""
    token: str = ""
    selector: str = ""
    rollout_length: float = math.nan
    step: float = math.nan
    training_seed: float = math.nan
    low: float = math.nan
    high: float = math.nan
    band_low: float = math.nan
    band_high: float = math.nan
    standard_error: float = math.nan
    level: float = 0.95
    method: str = ""
    estimand: str = ""
    p_value: float = math.nan
    p_value_holm: float = math.nan
    problems: int = 0
    rollouts: int = 0
    tokens: int = 0
    answer_rule: str = ""
    noise_floor: float = math.nan
    under_floor: bool = False
    seed: int = 0
    run: str = ""
    note: str = ""


COLUMNS = tuple(field.name for field in dataclasses.fields(Measurement))


def to_frame(rows: Iterable[Measurement]) -> pd.DataFrame:
    """The rows as a frame with the columns of `Measurement`, in order."""
    return pd.DataFrame([dataclasses.asdict(row) for row in rows], columns=list(COLUMNS))


def write(frame: pd.DataFrame, path: Path) -> None:
    """Writes measurements as parquet, with a CSV of the same name beside it."""
    store.write_table(pa.Table.from_pandas(frame, preserve_index=False), path, SCHEMA)
    write_atomically(path.with_suffix(".csv"), frame.to_csv(index=False).encode())


def read(path: Path) -> pd.DataFrame:
    """Reads measurements.

    Raises:
        UserError: the file is missing, is damaged, or has another schema.
    """
    table = store.read_table(path, SCHEMA)
    missing = [column for column in COLUMNS if column not in table.column_names]
    if missing:
        raise UserError(
            f"{path}: columns {', '.join(missing)} are missing; the file was not written by "
            "decaylab"
        )
    return pd.DataFrame(table.to_pandas())


def read_csv(path: Path) -> pd.DataFrame:
    """Reads measurements from the CSV that `write` puts beside the parquet file.

    Raises:
        UserError: the file is missing, is not a CSV, or has other columns.
    """
    kinds = {field.name: field.type for field in dataclasses.fields(Measurement)}
    texts = {name: str for name, kind in kinds.items() if kind == "str"}
    empty = {name: [""] for name in kinds if name not in texts}
    try:
        frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=empty)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a table of measurements ({str(error).splitlines()[0]})"
        ) from error
    if tuple(frame.columns) != COLUMNS:
        odd = sorted(set(COLUMNS) ^ set(frame.columns))
        raise UserError(
            f"{path} does not have the schema {SCHEMA} (columns {', '.join(odd)}); measure again"
        )
    return frame.astype({name: float for name, kind in kinds.items() if kind == "float"})
