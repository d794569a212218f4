"""The run folder of a probe, which grows step by step and resumes at any of them.

RUN/run.json                    a position-kl run: pair, options, prompts, notes, alarms
RUN/prompts.parquet             the rendered prompts
RUN/steps.csv                   one row per measured step: counts, length, stops, repetition
RUN/steps/step-000050.parquet   its tokens: base's rollouts (frozen) and its own (fresh)
RUN/measurements.parquet, .csv  made anew from the steps each time

A row of steps.csv says that its step is whole. Everything else follows from the steps, so a resumed
run neither loses nor doubles a row.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from decaylab.analyses.position_kl import QUANTITIES
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.pair import kept_prompts
from decaylab.policies.identity import versions
from decaylab.policies.prompts import Prompts
from decaylab.probing.asked import Asked
from decaylab.runs import differences, measurements, records, store
from decaylab.runs.growing_csv import Table
from decaylab.runs.made import MADE, resumed
from decaylab.runs.vocabulary import STUDENT, TEACHER
from decaylab.tokens import score_store
from decaylab.tokens.scoring import Rollout, ScoredRollout
from decaylab.tokens.token_table import COLUMN_TYPES, WHOLE, WORDS, TokenTable

PROBE = "probe"
SCHEMA_NAME = "decaylab.probe/1"
COLUMNS = ("token_id", *QUANTITIES)
SCHEMA = pa.schema(
    {
        "view": WORDS,
        "rollout_id": WORDS,
        "position": WHOLE,
        **{name: COLUMN_TYPES[name] for name in COLUMNS},
    }
)


class Kept:
    """The folder of one probe."""

    def __init__(self, path: Path) -> None:
        self.path, self.table = path, Table(path / "steps.csv")

    def open(self, asked: Asked, command: str, *, fresh: bool) -> Asked:
        """Begins the folder, or resumes it if it holds this probe; returns the pair with the
        prompts that were used before, since a template may render another date today.

        Raises:
            UserError: the folder holds something else.
        """
        folder = store.RunFolder(self.path)
        record = folder.record
        if record is None:
            if self.path.exists() and any(self.path.iterdir()):
                raise UserError(f"{self.path} is not empty and holds no probe; give another out")
            folder.open(records.run_record(command, _identity(asked, fresh)))
            kept_prompts.write(asked, self.path)
            return asked
        there = record.get("identity", {})
        if PROBE not in there:
            kind = differences.kind(there) or "run of something else"
            raise UserError(f"{self.path} contains a {kind}, not a probe; give another out")
        prompts = kept_prompts.read(self.path)
        if prompts is not None and _names(prompts) == _names(asked.prompts):
            asked = replace(asked, prompts=prompts)
        now = json.loads(json.dumps(_identity(asked, fresh)))
        # A resumed student is loaded from its checkpoint; the folder is about the untrained one.
        for name in (STUDENT, "precision"):
            now[name] = there[name]
        now["options"][STUDENT] = there["options"][STUDENT]
        if differing := differences.found(there, now):
            raise UserError(
                f"{self.path} contains a probe with other settings ({'; '.join(differing)}); give "
                "another out"
            )
        folder.update({MADE: resumed(record[MADE]), "versions": versions()})
        return asked

    def steps(self) -> list[int]:
        """The measured steps, ascending."""
        if not self.table.path.exists():
            return []
        return [int(step) for step in self.table.read()["step"]]

    def drop_after(self, step: int) -> None:
        """Removes the steps after this one, and what a killed process left of one."""
        self.table.keep_until(step)
        kept = {self.part(each) for each in self.steps()}
        for path in (self.path / "steps").glob("step-*.parquet"):
            if path not in kept:
                path.unlink()

    def part(self, step: int) -> Path:
        return self.path / "steps" / f"step-{step:06d}.parquet"

    def write_step(self, step: int, tokens: pa.Table, row: Mapping[str, Any]) -> None:
        """Writes a step: first its tokens, then the row that says that it is whole."""
        self.part(step).parent.mkdir(parents=True, exist_ok=True)
        store.write_table(tokens, self.part(step), SCHEMA_NAME)
        self.table.append({"step": step, **row})

    def tokens(self, step: int) -> pa.Table:
        """The tokens of a step, with the columns of `SCHEMA`."""
        return store.read_table(self.part(step), SCHEMA_NAME)

    def write(
        self, frame: pd.DataFrame, notes: Sequence[str], alarms: Sequence[dict[str, Any]]
    ) -> None:
        """Writes the measurements of all steps, with what must be known about them."""
        measurements.write(frame, self.path / "measurements.parquet")
        folder = store.RunFolder(self.path)
        made = (folder.record or {})[MADE]
        made = {**made, "seconds": round(float(self.table.read()["seconds"].sum()), 3)}
        folder.update({"notes": list(notes), "alarms": list(alarms), MADE: made})


def _identity(asked: Asked, fresh: bool) -> dict[str, Any]:
    return {
        **asked.identity(),
        "diagnostic": "position-kl",
        "options": declared.identity(asked.options, declared.DIAGNOSTIC),
        "rollouts_hash": None,
        "checkpoints": {},
        "categories": "",
        PROBE: {"fresh": fresh},
    }


def _names(prompts: Prompts) -> list[list[str]]:
    return [list(prompts[role]) for role in (STUDENT, TEACHER)]


# Tokens


def token_rows(view: str, rollouts: Sequence[Rollout], scored: Sequence[ScoredRollout]) -> pa.Table:
    """The scored tokens of some rollouts as rows of `SCHEMA`."""
    columns: dict[str, Any] = {
        name: np.concatenate([one.columns[name] for one in scored]) for name in QUANTITIES
    }
    columns["token_id"] = np.concatenate([rollout.response for rollout in rollouts])
    columns["view"] = np.repeat(view, len(columns["token_id"]))
    return score_store.token_rows(SCHEMA, rollouts, columns)


def token_table(rows: pa.Table, codes: Mapping[str, int]) -> TokenTable:
    """Rows of one view as statistics by rollout. codes: of each problem."""
    starts = _starts(rows)
    problems = [codes[_problem_of(name)] for name in _first(rows, starts)]
    lengths = np.diff([*starts, len(rows)])
    columns = {name: rows[name].to_numpy() for name in COLUMNS}
    return TokenTable(lengths, np.array(problems, dtype=np.int64), len(codes), columns)


def rollouts_of(rows: pa.Table, prompts: Prompts) -> list[Rollout]:
    """Rows of one view as rollouts, which can be scored again."""
    starts = _starts(rows)
    ids = np.split(rows["token_id"].to_numpy(), starts[1:])
    rollouts = []
    for name, response in zip(_first(rows, starts), ids, strict=True):
        problem = _problem_of(name)
        own, read = prompts[STUDENT][problem], prompts[TEACHER][problem]
        rollouts.append(Rollout(name, own, read, tuple(response.tolist())))
    return rollouts


def of_view(rows: pa.Table, view: str) -> pa.Table:
    """The rows of one view; possibly none."""
    return rows.filter(pc.equal(rows["view"].cast(pa.string()), view))


def rollout_id(problem: str, sample: int) -> str:
    return f"{STUDENT}/{problem}/{sample}"


def _problem_of(name: str) -> str:
    # A problem's name may hold a slash itself.
    return name.partition("/")[2].rpartition("/")[0]


def _starts(rows: pa.Table) -> np.ndarray:
    return np.flatnonzero(rows["position"].to_numpy() == 0)


def _first(rows: pa.Table, starts: np.ndarray) -> list[str]:
    """The rollout of each start."""
    names: list[str] = rows["rollout_id"].cast(pa.string()).take(pa.array(starts)).to_pylist()
    return names
