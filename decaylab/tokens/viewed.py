"""Rollouts to look at: what a token view and a case study need, kept in the run's folder without
any model.

RUN/viewed-rollouts.parquet   one row a rollout: problem, verdict, how it ended
RUN/viewed-tokens.parquet     one row a token: text, category, statistics of both policies and their
five likeliest tokens

Each student's tokens are those of its own rollouts. `continuations` adds what the teacher wrote
from their prefixes, out of a prefix-decay run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from decaylab.problems.sets import Problem
from decaylab.runs import store
from decaylab.tokens.categories import CategoryRules
from decaylab.tokens.pieces import token_bytes, token_text

ROLLOUTS, TOKENS = "decaylab.viewed-rollouts/1", "decaylab.viewed-tokens/1"
FILES = ("viewed-rollouts.parquet", "viewed-tokens.parquet")
CORRECT = "correct"
ROLLOUT_SCHEMA = pa.schema(
    [
        ("checkpoint", pa.string()),
        ("rollout_id", pa.string()),
        ("problem_id", pa.string()),
        ("sample", pa.int32()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("verdict", pa.string()),
        ("answer_rule", pa.string()),
        ("stop_reason", pa.string()),
        ("response_tokens", pa.int32()),
    ]
)
TEXTS = pa.list_(pa.field("element", pa.string()))
PROBABILITIES = pa.list_(pa.field("element", pa.float32()))
STATISTICS = (
    "reverse_kl",
    "student_entropy",
    "teacher_entropy",
    "student_logprob",
    "teacher_logprob",
)
RANKS = ("token_rank", "student_top1_rank")
TOKEN_SCHEMA = pa.schema(
    [
        ("checkpoint", pa.string()),
        ("rollout_id", pa.string()),
        ("position", pa.int32()),
        ("token_id", pa.int32()),
        ("token", pa.string()),
        ("raw", pa.string()),  # the bytes of a token that holds part of a character
        ("category", pa.string()),
        *((name, pa.float32()) for name in STATISTICS),
        *((name, pa.int32()) for name in RANKS),
        ("student_top", TEXTS),
        ("student_top_probabilities", PROBABILITIES),
        ("teacher_top", TEXTS),
        ("teacher_top_probabilities", PROBABILITIES),
    ]
)
CONTINUATIONS = ["rollout_id", "prefix_tokens", "text", "verdict", "stop_reason", "sample"]


@dataclass(frozen=True)
class Viewed:
    """rollouts: columns of `ROLLOUT_SCHEMA`. tokens: columns of `TOKEN_SCHEMA`, those of a rollout
    together and in order."""

    rollouts: pd.DataFrame
    tokens: pd.DataFrame


@dataclass(frozen=True)
class Scenery:
    """What the tokens are told with: how they read, what kinds there are, what was asked, and the
    rule that judged it."""

    tokenizer: Any
    end_ids: frozenset[int]
    categories: CategoryRules
    problems: Mapping[str, Problem]
    answer_rule: str


def collect(
    checkpoint: str, rollouts: pa.Table, scored: Path, shown: Sequence[str], scenery: Scenery
) -> list[pa.Table]:
    """The two tables of one student: its rollouts named in ``shown``, as they lie first in the
    folder of scored tokens."""
    if not shown:
        return [ROLLOUT_SCHEMA.empty_table(), TOKEN_SCHEMA.empty_table()]
    tokens = _first_tokens(scored / "tokens.parquet", set(shown))
    lengths = tokens.groupby("rollout_id", sort=False, observed=True).size()
    wanted = rollouts.filter(pc.is_in(rollouts["rollout_id"], pa.array(list(shown))))
    rows = [
        _rollout(checkpoint, row, int(lengths[row["rollout_id"]]), scenery)
        for row in wanted.to_pylist()
    ]
    ends = tokens["token_id"].isin(list(scenery.end_ids)).to_numpy()
    codes = scenery.categories.classify(
        tokens["token"].to_numpy(), np.asarray(lengths, dtype=np.int64), ends
    )
    raw = {
        int(token): token_bytes(scenery.tokenizer, int(token))
        for token in tokens["token_id"].unique()
    }
    found = tokens.assign(
        checkpoint=checkpoint,
        raw=tokens["token_id"].map(raw),
        category=np.array(scenery.categories.names, dtype=object)[codes],
        **_tops(scored / "top5.parquet", tokens, scenery.tokenizer),
    )
    return [
        pa.Table.from_pylist(rows, schema=ROLLOUT_SCHEMA),
        pa.Table.from_pandas(found[TOKEN_SCHEMA.names], schema=TOKEN_SCHEMA, preserve_index=False),
    ]


def _first_tokens(path: Path, wanted: set[str]) -> pd.DataFrame:
    """The rows of these rollouts, which stand at the beginning: no more of the file is read than
    holds them."""
    columns = ["rollout_id", "position", "token_id", "token", *STATISTICS, *RANKS]
    found: list[pd.DataFrame] = []
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1 << 15, columns=columns):
        frame = batch.to_pandas()
        own = frame[frame["rollout_id"].isin(wanted)]
        found.append(own.astype({"rollout_id": str, "token": str}))
        if len(own) < len(frame):
            break
    return pd.concat(found, ignore_index=True)


def _rollout(
    checkpoint: str, row: Mapping[str, Any], tokens: int, scenery: Scenery
) -> dict[str, Any]:
    problem = scenery.problems[row["problem_id"]]
    return {
        **{name: row[name] for name in ("rollout_id", "problem_id", "sample", "stop_reason")},
        "checkpoint": checkpoint,
        "question": problem.question,
        "answer": problem.answer or "",
        "verdict": row[f"grade_{scenery.answer_rule}"],
        "answer_rule": scenery.answer_rule,
        "response_tokens": tokens,
    }


def _tops(path: Path, tokens: pd.DataFrame, tokenizer: Any) -> dict[str, Any]:
    """The likeliest tokens of both policies at each position, as texts with their probabilities."""
    table = store.read_table(path, store.TOP).to_pandas()
    texts: dict[int, str] = {}
    columns: dict[str, Any] = {}
    place = pd.MultiIndex.from_frame(tokens[["rollout_id", "position"]])
    for policy in ("student", "teacher"):
        own = table[table["policy"] == policy].astype({"rollout_id": str})
        ordered = own.set_index(["rollout_id", "position"]).loc[place]
        for token in {int(one) for ids in ordered["ids"] for one in ids} - texts.keys():
            texts[token] = token_text(tokenizer, token)
        columns[f"{policy}_top"] = [[texts[int(one)] for one in ids] for ids in ordered["ids"]]
        columns[f"{policy}_top_probabilities"] = list(ordered["probabilities"])
    return columns


def write(tables: Sequence[Sequence[pa.Table]], folder: Path) -> None:
    """Writes what `collect` gave for each student into a run's folder."""
    for name, schema, place in ((FILES[0], ROLLOUTS, 0), (FILES[1], TOKENS, 1)):
        both = pa.concat_tables([one[place].replace_schema_metadata() for one in tables])
        store.write_table(both, folder / name, schema)


def holds(folder: Path) -> bool:
    """Whether a run's folder has rollouts to look at."""
    return (folder / FILES[0]).exists() and (folder / FILES[1]).exists()


def read(folder: Path) -> Viewed:
    """The rollouts to look at of a run's folder.

    Raises:
        UserError: there are none, or the files are damaged or of another version.
    """
    if not holds(folder):
        raise UserError(
            f"{folder} holds no scored tokens to look at; a diagnostic such as `decaylab "
            "position-kl` keeps some "
            "(--view-rollouts says how many)"
        )
    rollouts = store.read_table(folder / FILES[0], ROLLOUTS).to_pandas()
    return Viewed(rollouts, store.read_table(folder / FILES[1], TOKENS).to_pandas())


def continuations(viewed: Viewed, decay: Path, answer_rule: str) -> pd.DataFrame:
    """What the teacher wrote from prefixes of the base student's rollouts, in the columns of
    `CONTINUATIONS`.

    A viewed rollout is found in the decay run by its problem, sample and tokens: nothing is
    attached to another text.

    Args:
        decay: the folder of a prefix-decay run of the same pair.
        answer_rule: the rule whose verdicts are told.
    """
    table = store.read_table(decay / "rollouts.parquet", store.ROLLOUTS).to_pandas()
    pieces, known = _base_texts(viewed)
    theirs = table[table["condition"] == "student"].to_dict("records")
    keys = {
        row["rollout_id"]: (row["problem_id"], row["sample"], tuple(row["response_ids"]))
        for row in theirs
    }
    found = {rollout: known[key] for rollout, key in keys.items() if key in known}
    rows = []
    written = table[
        (table["condition"] == "student-prefix") & table["prefix_rollout_id"].isin(list(found))
    ]
    for row in written.to_dict("records"):
        rollout = found[row["prefix_rollout_id"]]
        prefix = "".join(pieces[rollout][: int(row["prefix_tokens"])])
        rows.append(
            {
                "rollout_id": rollout,
                "prefix_tokens": int(row["prefix_tokens"]),
                "text": row["text"][len(commonprefix([prefix, row["text"]])) :],
                "verdict": row[f"grade_{answer_rule}"],
                "stop_reason": row["stop_reason"],
                "sample": int(row["sample"]),
            }
        )
    return pd.DataFrame(rows, columns=CONTINUATIONS)


def _base_texts(
    viewed: Viewed,
) -> tuple[dict[str, list[str]], dict[tuple[str, int, tuple[int, ...]], str]]:
    """Of the base student's rollouts the texts of their tokens, and which one has a problem, sample
    and token ids."""
    own = viewed.tokens[viewed.tokens["checkpoint"] == "base"]
    groups = {str(name): rows for name, rows in own.groupby("rollout_id", sort=False)}
    base = viewed.rollouts[viewed.rollouts["checkpoint"] == "base"].to_dict("records")
    known = {
        (row["problem_id"], row["sample"], tuple(groups[row["rollout_id"]]["token_id"])): row[
            "rollout_id"
        ]
        for row in base
    }
    return {name: list(rows["token"]) for name, rows in groups.items()}, known
