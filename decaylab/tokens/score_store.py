"""The cache of scored tokens on disk.

CACHE/tokens-KEY/record.json          everything that the scores depend on
CACHE/tokens-KEY/part-00003.parquet   whole rollouts, while scoring runs
CACHE/tokens-KEY/tokens.parquet       one row per token, see `token_table.COLUMN_TYPES`
CACHE/tokens-KEY/top5.parquet         both policies' top 5 ids, for the rollouts chosen for viewing

The key is a hash of the record: token ids, contents of both models, precision, temperature.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as cache_of
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from decaylab.disk import write_atomically
from decaylab.errors import UserError
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import OnProgress
from decaylab.runs import store
from decaylab.runs.store import Parts
from decaylab.tokens.pieces import token_pieces
from decaylab.tokens.ranks import SHOWN
from decaylab.tokens.scoring import BatchScorer, Rollout, Scorable, ScoredRollout
from decaylab.tokens.token_table import KINDS, ONE_TOKENIZER, WORDS, Kind, TokenTable

TOP = store.TOP
PART_TOKENS = 16384
TOP_SCHEMA = pa.schema(
    {
        "rollout_id": WORDS,
        "position": pa.int32(),
        "policy": pa.string(),  # student or teacher
        "ids": store.IDS,
        "probabilities": pa.list_(pa.field("element", pa.float32())),
    }
)


@dataclass(frozen=True)
class ScoreKey:
    """What scores depend on, beside the tokens.

    student, teacher: content hash and precision.
    """

    student: str
    teacher: str
    temperature: float
    head: str
    route: str

    def record(self, rollouts: Sequence[Rollout], schema_name: str) -> str:
        """Everything that the scores depend on, as JSON, with a hash of the rollouts."""
        digest = hashlib.sha256()
        for rollout in rollouts:
            row = [
                rollout.rollout_id,
                rollout.student_prompt,
                rollout.teacher_prompt,
                *rollout.responses,
            ]
            digest.update(json.dumps(row, separators=(",", ":")).encode())
        record = {"schema": schema_name, **self.__dict__, "rollouts": digest.hexdigest()}
        return json.dumps(record, sort_keys=True, indent=1)


class ParquetColumns:
    """Columns of a tokens table, each read from the file on demand."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        try:
            values = pq.read_table(self.path, columns=[name])[name].combine_chunks()
        except (pa.ArrowInvalid, OSError) as error:
            raise store.damaged(self.path, error) from error
        column: NDArray[np.generic] = values.to_numpy(zero_copy_only=False)
        return column


def scored(
    rollouts: Sequence[Scorable],
    key: ScoreKey,
    scorer: Callable[[], BatchScorer[Scorable]],
    cache: Path,
    reporter: Reporter,
    *,
    kind: Kind = ONE_TOKENIZER,
    name: str = "scoring",
    shown: int = 0,
    part_tokens: int = 0,
) -> Path:
    """The folder with the scored tokens, from the cache or scored now, part by part.

    Args:
        scorer: called only if something is left to score.
        shown: number of rollouts, from the first, whose top 5 are stored.
        part_tokens: minimum tokens of a part on disk, prompts included.

    Raises:
        UserError: a table is damaged or was written by another version, or scoring fails.
    """
    record = key.record(rollouts, kind.name)
    folder = folder_of(cache, "tokens", record)
    if _finished(folder, record, rollouts[:shown]):
        return folder
    # Another process may be scoring the same tokens: then wait for it.
    with store.RunFolder(folder).lock(wait=reporter.note):
        check_record(folder, record)
        if (folder / "tokens.parquet").exists():
            check_tokens(folder / "tokens.parquet")
        else:
            shown_ids = frozenset(rollout.rollout_id for rollout in rollouts[:shown])
            ready = cache_of(scorer)

            parts = Parts(folder, "part", kind.name)

            def write(number: int, part: Sequence[Scorable], progress: OnProgress) -> None:
                results = ready().score(part, progress, shown_ids)
                _write_part(parts, number, part, results, ready().student.tokenizer, kind)

            least = max(part_tokens, PART_TOKENS)
            count = fill(parts, rollouts, least, write, reporter, name)
            _merge(Parts(folder, "top5", TOP), count, folder / "top5.parquet", TOP_SCHEMA)
            _merge(parts, count, folder / "tokens.parquet", kind.schema)
        # An earlier process may have stored the top 5 of fewer rollouts.
        _complete_top(folder, rollouts[:shown], scorer)
        return folder


def folder_of(cache: Path, kind: str, record: str) -> Path:
    """The folder of scores with this record."""
    return cache / f"{kind}-{hashlib.sha256(record.encode()).hexdigest()[:16]}"


def check_record(folder: Path, record: str) -> None:
    """Writes the record; an existing one must be the same.

    Raises:
        UserError: the folder belongs to another record with the same short hash.
    """
    path = folder / "record.json"
    if not path.exists():
        write_atomically(path, record.encode())
    elif path.read_text() != record:
        raise UserError(
            f"{path} belongs to other tokens with the same short hash; choose another --cache"
        )


def fill(
    parts: Parts,
    rollouts: Sequence[Scorable],
    least_tokens: int,
    write: Callable[[int, Sequence[Scorable], OnProgress], None],
    reporter: Reporter,
    name: str,
) -> int:
    """Writes the missing parts; returns the total number of parts.

    Args:
        least_tokens: minimum tokens of a part, prompts included.
        write: writes the part with this number and these rollouts.
        name: of the stage, for the progress bar.
    """
    cut = list(store.cut(rollouts, attrgetter("context"), least_tokens))
    with reporter.stage(name, len(rollouts)) as progress:
        for number, part in enumerate(cut):
            # Another --batch-tokens changes the parts, which are then made again.
            if parts.holds(number, [rollout.rollout_id for rollout in part]):
                progress.skip(len(part))
            else:
                write(number, part, progress.advance)
    return len(cut)


def token_rows(
    schema: pa.Schema, rollouts: Sequence[Rollout], columns: Mapping[str, Any]
) -> pa.Table:
    """One row per token of the rollouts: rollout_id, position and the columns."""
    lengths = [len(rollout.response) for rollout in rollouts]
    whole = {
        "rollout_id": np.repeat([rollout.rollout_id for rollout in rollouts], lengths),
        "position": np.concatenate([np.arange(length) for length in lengths]),
        **columns,
    }
    arrays = [pa.array(whole[field.name]).cast(field.type, safe=False) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def table(
    folder: Path, rollouts: Sequence[Rollout], problems: Mapping[str, int], problem_count: int
) -> TokenTable:
    """The scored tokens of a folder, for analyses.

    problems: rollout_id -> problem code below ``problem_count``.
    """
    lengths = np.array([len(rollout.response) for rollout in rollouts], dtype=np.int64)
    codes = np.array([problems[rollout.rollout_id] for rollout in rollouts], dtype=np.int64)
    path = folder / "tokens.parquet"
    if pq.read_metadata(path).num_rows != lengths.sum():
        raise UserError(
            f"{path} does not have one row per token; delete {folder} and run the same command "
            "again"
        )
    return TokenTable(lengths, codes, problem_count, ParquetColumns(path))


def read(path: Path) -> pa.Table:
    """A tokens table, of one tokenizer or of two.

    Raises:
        UserError: it is damaged or was written by another version.
    """
    return store.read_table(path, check_tokens(path))


def check_tokens(path: Path) -> str:
    """The name of the schema of a tokens table.

    Raises:
        UserError: the file is no tokens table of this version.
    """
    try:
        schema = pq.read_schema(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise store.damaged(path, error) from error
    name = store.schema_name_of(schema)
    if name not in KINDS:
        expected = " or ".join(KINDS)
        raise UserError(
            f"{path} has schema {name}, expected {expected}; delete it and run the same command "
            "again"
        )
    return name


def _finished(folder: Path, record: str, shown: Sequence[Rollout]) -> bool:
    """Whether everything exists already, so that no lock is needed."""
    if not (folder / "tokens.parquet").exists():
        return False
    check_record(folder, record)
    check_tokens(folder / "tokens.parquet")
    return not _lacking(folder, shown)


def _complete_top(
    folder: Path, shown: Sequence[Scorable], scorer: Callable[[], BatchScorer[Scorable]]
) -> None:
    """Adds viewed rollouts that the side table lacks; only those are scored again."""
    path = folder / "top5.parquet"
    if lacking := _lacking(folder, shown):
        held = store.read_table(path, TOP)
        names = frozenset(rollout.rollout_id for rollout in lacking)
        more = _top_table(lacking, scorer().score(lacking, shown=names))
        both = [part.replace_schema_metadata().cast(TOP_SCHEMA) for part in (held, more)]
        store.write_table(pa.concat_tables(both).unify_dictionaries(), path, TOP)


def _lacking(folder: Path, shown: Sequence[Scorable]) -> list[Scorable]:
    """The viewed rollouts that the side table lacks."""
    known = set(store.read_table(folder / "top5.parquet", TOP)["rollout_id"].unique().to_pylist())
    return [rollout for rollout in shown if rollout.rollout_id not in known]


def _write_part(
    parts: Parts,
    number: int,
    rollouts: Sequence[Rollout],
    results: Sequence[ScoredRollout],
    tokenizer: Any,
    kind: Kind,
) -> None:
    """Writes a part, its side table first, so that every existing part has one."""
    Parts(parts.folder, "top5", TOP).write(number, _top_table(rollouts, results))
    parts.write(number, token_table(rollouts, results, tokenizer, kind))


def _merge(parts: Parts, count: int, path: Path, schema: pa.Schema) -> None:
    parts.merge(count, path, schema)


def token_table(
    rollouts: Sequence[Rollout],
    results: Sequence[ScoredRollout],
    tokenizer: Any,
    kind: Kind = ONE_TOKENIZER,
) -> pa.Table:
    """The tokens table of scored rollouts, one row per token. tokenizer: of the student."""
    pieces = [token_pieces(tokenizer, one.response) for one in rollouts]
    columns: dict[str, Any] = {
        name: np.concatenate([one.columns[name] for one in results])
        for name in kind.schema.names
        if name in results[0].columns
    }
    columns["token_id"] = np.concatenate([one.response for one in rollouts])
    columns["token"] = list(chain.from_iterable(pieces))
    return token_rows(kind.schema, rollouts, columns)


def _top_table(rollouts: Sequence[Rollout], results: Sequence[ScoredRollout]) -> pa.Table:
    def rows() -> Iterator[dict[str, Any]]:
        for rollout, scores in zip(rollouts, results, strict=True):
            for policy, (ids, probabilities) in scores.top.items():
                assert ids.shape[1] <= SHOWN
                for position in range(len(rollout.response)):
                    # None where no boundary is shared by two tokenizers.
                    known = ~np.isnan(probabilities[position])
                    yield {
                        "rollout_id": rollout.rollout_id,
                        "position": position,
                        "policy": policy,
                        "ids": ids[position][known],
                        "probabilities": probabilities[position][known],
                    }

    return pa.Table.from_pylist(list(rows()), schema=TOP_SCHEMA)
