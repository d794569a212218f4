"""Scored tokens on disk: what was scored once is never scored again.

CACHE/tokens-KEY/record.json      what the scores depend on, in full, and the tokens of each rollout
CACHE/tokens-KEY/part-00003.parquet   while the work goes on: whole rollouts, written whole and
renamed into place CACHE/tokens-KEY/tokens.parquet   one row a token, see `token_table.COLUMNS`
CACHE/tokens-KEY/top5.parquet     both policies' five most likely ids, for the rollouts chosen for
viewing

The key is a hash over all of the record that says what the scores depend on: token ids, contents of
both models, precision, temperature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from decaylab.errors import UserError
from decaylab.progress import Reporter
from decaylab.runs import store
from decaylab.tokens.pieces import token_pieces
from decaylab.tokens.scoring import SHOWN, Rollout, ScoredRollout, Scorer
from decaylab.tokens.token_table import COLUMNS, TokenTable

TOKENS, TOP = "decaylab.tokens/1", store.TOP
PART_TOKENS = 16384
WORDS = pa.dictionary(pa.int32(), pa.string())
WHOLE = {
    **{
        "position": pa.int32(),
        "token_id": pa.int32(),
        "token_rank": pa.int32(),
        "student_top1_rank": pa.int32(),
    },
    "top16_overlap": pa.int8(),
}
SCHEMA = pa.schema(
    [
        ("rollout_id", WORDS),
        ("position", pa.int32()),
        *((name, WORDS if name == "token" else WHOLE.get(name, pa.float32())) for name in COLUMNS),
    ]
)
TOP_SCHEMA = pa.schema(
    [
        ("rollout_id", WORDS),
        ("position", pa.int32()),
        ("policy", pa.string()),  # student or teacher
        ("ids", pa.list_(pa.field("element", pa.int32()))),
        ("probabilities", pa.list_(pa.field("element", pa.float32()))),
    ]
)


@dataclass(frozen=True)
class ScoreKey:
    """What scores depend on beyond the tokens. student, teacher: content hash and precision of
    each."""

    student: str
    teacher: str
    temperature: float
    head: str
    route: str

    def record(self, rollouts: Sequence[Rollout]) -> dict[str, Any]:
        digest = hashlib.sha256()
        for one in rollouts:
            row = [one.rollout_id, one.student_prompt, one.teacher_prompt, one.response]
            digest.update(json.dumps(row, separators=(",", ":")).encode())
        return {"schema": TOKENS, **self.__dict__, "rollouts": digest.hexdigest()}


class ParquetColumns(Mapping[str, NDArray[np.generic]]):
    """Columns of a tokens table, each read from the file when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, column: str) -> NDArray[np.generic]:
        try:
            values = pq.read_table(self.path, columns=[column])[column].combine_chunks()
        except (pa.ArrowInvalid, OSError) as error:
            raise _damaged(self.path, error) from error
        found: NDArray[np.generic] = values.to_numpy(zero_copy_only=False)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(COLUMNS)

    def __len__(self) -> int:
        return len(COLUMNS)


def scored(
    rollouts: Sequence[Rollout],
    key: ScoreKey,
    scorer: Callable[[], Scorer],
    cache: Path,
    reporter: Reporter,
    *,
    name: str = "scoring",
    shown: int = 0,
    part_tokens: int = 0,
) -> Path:
    """The folder with the scored tokens of the rollouts, from the cache or made now, part by part.

    scorer: called only where something is left to score. shown: the first so many rollouts keep
    their top 5. part_tokens:
    least tokens of a part on disk, prompts included.

    Raises:
        UserError: a table that is damaged or was written by another version; whatever scoring
        raises.
    """
    record = key.record(rollouts)
    text = json.dumps(record, sort_keys=True, indent=1)
    folder = cache / f"tokens-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if _finished(folder, text, rollouts[:shown]):
        return folder
    with store.RunFolder(folder).lock(wait=reporter.note):
        _check_record(folder / "record.json", text)
        parts = list(parts_of(rollouts, max(part_tokens, PART_TOKENS)))
        shown_ids = frozenset(one.rollout_id for one in rollouts[:shown])
        if (folder / "tokens.parquet").exists():
            check_tokens(folder / "tokens.parquet")
            _complete_top(folder, rollouts[:shown], scorer)
            return folder
        ready: Scorer | None = None
        with reporter.stage(name, len(rollouts)) as progress:
            for number, part in enumerate(parts):
                if _holds(folder / f"part-{number:05d}.parquet", part):
                    progress.skip(len(part))
                    continue
                ready = ready or scorer()
                _write_part(
                    folder, number, part, ready.score(part, progress.advance, shown_ids), ready
                )
        _merge(folder, "top5", len(parts), TOP_SCHEMA, TOP)
        _merge(folder, "part", len(parts), SCHEMA, TOKENS)
        _complete_top(
            folder, rollouts[:shown], scorer
        )  # a process before this one may have kept fewer
        return folder


def table(
    folder: Path, rollouts: Sequence[Rollout], problems: Mapping[str, int], problem_count: int
) -> TokenTable:
    """The tokens of a folder as analyses see them. problems: rollout_id -> problem code below
    ``problem_count``."""
    lengths = np.array([len(one.response) for one in rollouts], dtype=np.int64)
    codes = np.array([problems[one.rollout_id] for one in rollouts], dtype=np.int64)
    path = folder / "tokens.parquet"
    if pq.read_metadata(path).num_rows != lengths.sum():
        raise UserError(
            f"{path} does not hold a row for each token; delete {folder} and run the same command "
            "again"
        )
    return TokenTable(lengths, codes, problem_count, ParquetColumns(path))


def check_tokens(path: Path) -> None:
    """Raises UserError unless the file is a tokens table of this version."""
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise _damaged(path, error) from error
    found = (schema.metadata or {}).get(b"decaylab_schema", b"none").decode()
    if found != TOKENS:
        raise UserError(
            f"{path} has schema {found}, expected {TOKENS}; delete it and run the same command "
            "again"
        )


def _damaged(path: Path, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(
        f"{path} is truncated or damaged ({reason}); delete it and run the same command again"
    )


def _check_record(path: Path, text: str) -> None:
    """Writes what the scores depend on; a record that stands there must be the same one."""
    if not path.exists():
        store.write_atomically(path, text.encode())
    elif path.read_bytes() != text.encode():
        raise UserError(
            f"{path} belongs to other tokens under the same short name; choose another --cache"
        )


def _finished(folder: Path, text: str, shown: Sequence[Rollout]) -> bool:
    """Whether all of it stands there already: nothing is to be written then, and nobody in there to
    be waited for."""
    if not (folder / "tokens.parquet").exists():
        return False
    _check_record(folder / "record.json", text)
    check_tokens(folder / "tokens.parquet")
    return not _lacking(folder, shown)


def _holds(path: Path, part: Sequence[Rollout]) -> bool:
    """Whether a part that an earlier process finished is there and holds just these rollouts."""
    if not path.exists():
        return False
    held = store.read_table(path, TOKENS)["rollout_id"].unique().to_pylist()
    return bool(held == [one.rollout_id for one in part])


def _complete_top(folder: Path, shown: Sequence[Rollout], scorer: Callable[[], Scorer]) -> None:
    """Adds to the side table what it lacks of the rollouts that are to be viewed: those alone are
    scored again."""
    path = folder / "top5.parquet"
    if lacking := _lacking(folder, shown):
        held = store.read_table(path, TOP)
        found = scorer().score(lacking, shown=frozenset(one.rollout_id for one in lacking))
        rows = [
            row
            for rollout, one in zip(lacking, found, strict=True)
            for row in _top_rows(rollout, one)
        ]
        more = pa.Table.from_pylist(rows, schema=TOP_SCHEMA)
        both = [table.replace_schema_metadata().cast(TOP_SCHEMA) for table in (held, more)]
        store.write_table(pa.concat_tables(both).unify_dictionaries(), path, TOP)


def _lacking(folder: Path, shown: Sequence[Rollout]) -> list[Rollout]:
    """The rollouts to be viewed that the side table does not hold."""
    known = set(store.read_table(folder / "top5.parquet", TOP)["rollout_id"].unique().to_pylist())
    return [one for one in shown if one.rollout_id not in known]


def parts_of(rollouts: Sequence[Rollout], part_tokens: int) -> Iterator[list[Rollout]]:
    """Whole rollouts, in order, until a part holds at least so many tokens of prompts and
    responses."""
    part: list[Rollout] = []
    tokens = 0
    for rollout in rollouts:
        part.append(rollout)
        tokens += rollout.context
        if tokens >= part_tokens:
            yield part
            part, tokens = [], 0
    if part:
        yield part


def _write_part(
    folder: Path,
    number: int,
    rollouts: Sequence[Rollout],
    found: Sequence[ScoredRollout],
    scorer: Scorer,
) -> None:
    """The rows of some rollouts; the side table first, so that a part that is there has it."""
    tops = [
        row for rollout, one in zip(rollouts, found, strict=True) for row in _top_rows(rollout, one)
    ]
    top = pa.Table.from_pylist(tops, schema=TOP_SCHEMA)
    store.write_table(top, folder / f"top5-{number:05d}.parquet", TOP)
    lengths = [len(one.response) for one in rollouts]
    columns: dict[str, Any] = {
        "rollout_id": np.repeat([one.rollout_id for one in rollouts], lengths),
        "position": np.concatenate([np.arange(length) for length in lengths]),
        "token_id": np.concatenate([one.response for one in rollouts]),
        "token": [
            piece
            for one in rollouts
            for piece in token_pieces(scorer.student.tokenizer, one.response)
        ],
    }
    for name in COLUMNS[2:]:
        columns[name] = np.concatenate([one.columns[name] for one in found])
    arrays = [pa.array(columns[field.name]).cast(field.type, safe=False) for field in SCHEMA]
    store.write_table(
        pa.Table.from_arrays(arrays, schema=SCHEMA), folder / f"part-{number:05d}.parquet", TOKENS
    )


def _top_rows(rollout: Rollout, found: ScoredRollout) -> Iterator[dict[str, Any]]:
    for policy, (ids, probabilities) in found.top.items():
        assert ids.shape[1] <= SHOWN
        for position in range(len(rollout.response)):
            yield {
                "rollout_id": rollout.rollout_id,
                "position": position,
                "policy": policy,
                "ids": ids[position],
                "probabilities": probabilities[position],
            }


def _merge(folder: Path, kind: str, count: int, schema: pa.Schema, schema_name: str) -> None:
    """Joins the parts into one table, a part at a time, and removes them once it stands."""
    target = folder / ("tokens.parquet" if kind == "part" else f"{kind}.parquet")
    paths = [folder / f"{kind}-{number:05d}.parquet" for number in range(count)]
    if not target.exists():  # a process that was killed may have come as far as this
        temporary = folder / f".{target.name}.tmp"
        named = schema.with_metadata({b"decaylab_schema": schema_name.encode()})
        try:
            with pq.ParquetWriter(temporary, named, compression="zstd") as writer:
                for path in paths:
                    writer.write_table(
                        store.read_table(path, schema_name).replace_schema_metadata().cast(named)
                    )
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise store.unwritable(target, error) from error
    for path in paths:
        path.unlink(missing_ok=True)
