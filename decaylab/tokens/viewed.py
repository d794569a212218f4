"""The rollouts stored for the token view and case studies, in the run's folder.

RUN/viewed-rollouts.parquet   one row per rollout: problem, verdict, stop reason
RUN/viewed-tokens.parquet     one row per token: text, category, statistics of both policies and
                              their top 5 tokens

No model is needed to read them. Each student's tokens come from its own rollouts. `continuations`
adds the teacher's continuations of their prefixes, from a prefix-decay run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from decaylab.errors import UserError
from decaylab.problems.problem import Problem
from decaylab.problems.tasks import MATHEMATICS, Task
from decaylab.runs import store
from decaylab.runs.step_verdicts import in_tokens
from decaylab.runs.vocabulary import BASE, STUDENT, STUDENT_PREFIX, TEACHER
from decaylab.tokens.categories import Categories
from decaylab.tokens.pieces import token_bytes, token_text
from decaylab.tokens.token_table import COLUMN_TYPES, REAL, WHOLE

ROLLOUTS, TOKENS = "decaylab.viewed-rollouts/1", "decaylab.viewed-tokens/1"
FILES = ("viewed-rollouts.parquet", "viewed-tokens.parquet")
CORRECT = "correct"
TEXT = pa.string()
STEP = pa.struct({"start": WHOLE, "end": WHOLE, "verdict": TEXT})  # in tokens, end excluded
STEPS = pa.list_(pa.field("element", STEP))
ROLLOUT_SCHEMA = pa.schema(
    {
        "checkpoint": TEXT,
        "rollout_id": TEXT,
        "problem_id": TEXT,
        "sample": WHOLE,
        "question": TEXT,
        "answer": TEXT,
        "verdict": TEXT,
        "answer_rule": TEXT,
        "stop_reason": TEXT,
        "response_tokens": WHOLE,
        "steps": STEPS,  # null if the problem's steps are not known
        "first_wrong_token": WHOLE,  # position; null if no step is known to stay wrong
    }
)
STATISTICS = (
    "reverse_kl",
    "student_entropy",
    "teacher_entropy",
    "student_logprob",
    "teacher_logprob",
)
RANKS = ("token_rank", "student_top1_rank")
TEXTS = pa.list_(pa.field("element", TEXT))
PROBABILITIES = pa.list_(pa.field("element", REAL))
TOKEN_SCHEMA = pa.schema(
    {
        "checkpoint": TEXT,
        "rollout_id": TEXT,
        "position": WHOLE,
        "token_id": WHOLE,
        "token": TEXT,
        "raw": TEXT,  # the bytes, if the token is part of a character
        "category": TEXT,
        **{name: COLUMN_TYPES[name] for name in (*STATISTICS, *RANKS)},
        "student_top": TEXTS,
        "student_top_probabilities": PROBABILITIES,
        "teacher_top": TEXTS,
        "teacher_top_probabilities": PROBABILITIES,
    }
)
CONTINUATIONS = ["rollout_id", "prefix_tokens", "text", "verdict", "stop_reason", "sample"]


@dataclass(frozen=True)
class Viewed:
    """rollouts: columns of `ROLLOUT_SCHEMA`. tokens: of `TOKEN_SCHEMA`, rollout by rollout."""

    rollouts: pd.DataFrame
    tokens: pd.DataFrame


@dataclass(frozen=True)
class Scenery:
    """What the token view needs beside the tokens: tokenizer, categories, problems, answer rule."""

    tokenizer: Any
    end_ids: frozenset[int]
    categories: Categories
    problems: Mapping[str, Problem]
    answer_rule: str
    task: Task = MATHEMATICS


def collect(
    checkpoint: str, rollouts: pa.Table, scored: Path, shown: Sequence[str], scenery: Scenery
) -> list[pa.Table]:
    """The two tables of one student.

    Args:
        scored: the folder of scored tokens.
        shown: ids of the rollouts to keep, which come first in that folder.
    """
    if not shown:
        return [ROLLOUT_SCHEMA.empty_table(), TOKEN_SCHEMA.empty_table()]
    tokens = _first_tokens(scored / "tokens.parquet", set(shown))
    pieces = tokens.groupby("rollout_id", sort=False, observed=True)["token"].apply(list)
    lengths = pieces.map(len)
    rows = []
    for row in rollouts.filter(pc.is_in(rollouts["rollout_id"], pa.array(list(shown)))).to_pylist():
        problem = scenery.problems[row["problem_id"]]
        row |= {
            "checkpoint": checkpoint,
            "question": problem.question,
            "answer": scenery.task.shown(problem.answer) if problem.answer else "",
            "verdict": row[f"grade_{scenery.answer_rule}"],
            "answer_rule": scenery.answer_rule,
            "response_tokens": int(lengths[row["rollout_id"]]),
            **steps_of(problem, pieces[row["rollout_id"]]),
        }
        rows.append(row)
    ends = tokens["token_id"].isin(list(scenery.end_ids)).to_numpy()
    of_rollouts = np.asarray(lengths, dtype=np.int64)
    codes = scenery.categories.classify(tokens["token"].to_numpy(), of_rollouts, ends)
    ids = [int(token) for token in tokens["token_id"].unique()]
    raw = {token: token_bytes(scenery.tokenizer, token) for token in ids}
    whole = tokens.assign(
        checkpoint=checkpoint,
        raw=tokens["token_id"].map(raw),
        category=np.array(scenery.categories.names, dtype=object)[codes],
        **_tops(scored / "top5.parquet", tokens, scenery.tokenizer),
    )
    return [
        pa.Table.from_pylist(rows, schema=ROLLOUT_SCHEMA),
        pa.Table.from_pandas(whole[TOKEN_SCHEMA.names], schema=TOKEN_SCHEMA, preserve_index=False),
    ]


def steps_of(problem: Problem, pieces: Sequence[str]) -> dict[str, Any]:
    """The steps of a rollout with their verdicts; null if the problem's steps are not known."""
    if problem.steps is None:
        return {"steps": None, "first_wrong_token": None}
    steps, first_wrong = in_tokens(pieces, problem.steps)
    return {"steps": [step._asdict() for step in steps], "first_wrong_token": first_wrong}


def _first_tokens(path: Path, shown: set[str]) -> pd.DataFrame:
    """The rows of these rollouts, which come first, without reading the rest of the file."""
    columns = ["rollout_id", "position", "token_id", "token", *STATISTICS, *RANKS]
    frames: list[pd.DataFrame] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1 << 15, columns=columns):
        frame = batch.to_pandas()
        rows = frame[frame["rollout_id"].isin(shown)]
        frames.append(rows.astype({"rollout_id": str, "token": str}))
        # The first row of another rollout ends the shown ones.
        if len(rows) < len(frame):
            break
    return pd.concat(frames, ignore_index=True)


def _tops(path: Path, tokens: pd.DataFrame, tokenizer: Any) -> dict[str, Any]:
    """The top tokens of both policies at each position, as texts and probabilities."""
    table = store.read_table(path, store.TOP).to_pandas().astype({"rollout_id": str})
    ids = {int(token) for tops in table["ids"] for token in tops}
    texts = {token: token_text(tokenizer, token) for token in ids}
    columns: dict[str, Any] = {}
    place = pd.MultiIndex.from_frame(tokens[["rollout_id", "position"]])
    for policy in (STUDENT, TEACHER):
        rows = table[table["policy"] == policy].set_index(["rollout_id", "position"]).loc[place]
        columns[f"{policy}_top"] = [[texts[int(token)] for token in tops] for tops in rows["ids"]]
        columns[f"{policy}_top_probabilities"] = list(rows["probabilities"])
    return columns


def write(tables: Sequence[Sequence[pa.Table]], folder: Path) -> None:
    """Writes the tables that `collect` made for each student into a run's folder."""
    kinds = zip(FILES, (ROLLOUTS, TOKENS), zip(*tables, strict=True), strict=True)
    for name, schema_name, of_students in kinds:
        whole = pa.concat_tables(table.replace_schema_metadata() for table in of_students)
        store.write_table(whole, folder / name, schema_name)


def holds(folder: Path) -> bool:
    """Whether a run's folder has rollouts for viewing."""
    return all((folder / name).exists() for name in FILES)


def read(folder: Path) -> Viewed:
    """The rollouts for viewing of a run's folder.

    Raises:
        UserError: there are none, or the files are damaged or have another version.
    """
    if not holds(folder):
        raise UserError(
            f"{folder} has no scored tokens to view; run a diagnostic such as `decaylab "
            "position-kl`, which stores some (--view-rollouts sets how many)"
        )
    rollouts = store.read_table(folder / FILES[0], ROLLOUTS).to_pandas()
    return Viewed(rollouts, store.read_table(folder / FILES[1], TOKENS).to_pandas())


def continuations(viewed: Viewed, decay: Path, answer_rule: str) -> pd.DataFrame:
    """The teacher's continuations of the base student's rollouts: columns `CONTINUATIONS`.

    A viewed rollout is matched with the decay run by problem, sample and token ids.

    Args:
        decay: the folder of a prefix-decay run of the same pair.
        answer_rule: the rule of the verdicts.
    """
    table = store.read_table(decay / "rollouts.parquet", store.ROLLOUTS).to_pandas()
    known = {key: (rollout, pieces) for key, rollout, pieces in _base_rollouts(viewed)}
    authors = {}
    for row in table[table["condition"] == STUDENT].to_dict("records"):
        key = row["problem_id"], row["sample"], tuple(row["response_ids"])
        if key in known:
            authors[row["rollout_id"]] = known[key]
    rows = []
    for row in table[table["condition"] == STUDENT_PREFIX].to_dict("records"):
        if row["prefix_rollout_id"] in authors:
            rollout, pieces = authors[row["prefix_rollout_id"]]
            prefix = "".join(pieces[: int(row["prefix_tokens"])])
            row["text"] = row["text"][len(commonprefix([prefix, row["text"]])) :]
            rows.append({**row, "rollout_id": rollout, "verdict": row[f"grade_{answer_rule}"]})
    whole = {"prefix_tokens": "int64", "sample": "int64"}
    return pd.DataFrame(rows, columns=CONTINUATIONS).astype(whole)


Ids = tuple[int, ...]
Key = tuple[str, int, Ids]
"""Problem, sample and token ids."""


def _base_rollouts(viewed: Viewed) -> Iterator[tuple[Key, str, list[str]]]:
    """The base student's rollouts: key, id and token texts."""
    base = viewed.tokens[viewed.tokens["checkpoint"] == BASE]
    tokens = dict(list(base.groupby("rollout_id", sort=False)))
    rows = viewed.rollouts[viewed.rollouts["checkpoint"] == BASE]
    for row in rows.to_dict("records"):
        its_tokens = tokens[row["rollout_id"]]
        key = row["problem_id"], row["sample"], tuple(its_tokens["token_id"])
        yield key, row["rollout_id"], list(its_tokens["token"])
