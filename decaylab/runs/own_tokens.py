"""The tokens of a response that its author wrote, and prefixes cut by them.

A mask excludes the tokens of tools and users; without one, all tokens are the author's. Their
number is the column ``tokens`` of the rollouts table, without the end-of-turn token.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from decaylab.runs import store

MASK, TOKENS = "response_mask", "tokens"


def number(response: Sequence[int], mask: Sequence[int] | None, stop_reason: str) -> int:
    """Tokens that the author of a response wrote, without the end-of-turn token."""
    written = len(response) if mask is None else int(np.sum(mask))
    return written - (stop_reason == "eos")


def count(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Tokens that the author wrote in each response, [rollouts].

    Computed if the stored column is missing, as in runs of earlier versions.
    """
    if TOKENS in rows:
        return rows[TOKENS].to_numpy(dtype=np.int64)
    masks = rows[MASK] if MASK in rows else [None] * len(rows)
    responses = zip(rows["response_ids"], masks, rows["stop_reason"], strict=True)
    return np.array([number(*response) for response in responses], dtype=np.int64)


def with_column(table: pa.Table) -> pa.Table:
    """A rollouts table with the column ``tokens`` at its place in the schema."""
    if TOKENS in table.column_names:
        return table
    place = list(store.ROLLOUT_FIELDS).index(TOKENS)
    tokens = pa.array(count(table.to_pandas()), store.WHOLE)
    return table.add_column(place, pa.field(TOKENS, store.WHOLE), tokens)


def ids(response: Sequence[int], mask: Sequence[int] | None) -> list[int]:
    """The ids that the author wrote, in order, the end-of-turn token included."""
    if mask is None:
        return list(response)
    return [token for token, is_own in zip(response, mask, strict=True) if is_own]


@dataclass(frozen=True)
class Prefix:
    """The beginning of a response.

    ids: all its ids. own_ids: those that its author wrote. turns: number of whole turns, if cut by
    turns.
    """

    ids: list[int]
    own_ids: list[int]
    turns: int | None = None


def prefix(response: Sequence[int], mask: Sequence[int] | None, length: int) -> Prefix | None:
    """A response up to and including its author's ``length``-th token; None if it is shorter.

    Tokens of others before that token are part of the prefix.
    """
    if mask is None:
        start = list(response[:length])
        return Prefix(start, start) if len(response) >= length else None
    places = np.flatnonzero(mask)
    return _cut(response, mask, int(places[length - 1]) + 1) if places.size >= length else None


def without(prefix: Prefix, last: int) -> Prefix:
    """A prefix without its last tokens, which its author wrote."""
    if not last:
        return prefix
    return replace(prefix, ids=prefix.ids[:-last], own_ids=prefix.own_ids[:-last])


def behind_turns(response: Sequence[int], mask: Sequence[int]) -> Iterator[Prefix]:
    """A response up to the beginning of each later turn of its author, answers to it included."""
    is_own = np.asarray(mask, dtype=bool)
    starts = np.flatnonzero(is_own & ~np.concatenate([[False], is_own[:-1]]))
    for turns, place in enumerate(starts[1:], start=1):
        yield replace(_cut(response, mask, int(place)), turns=turns)


def _cut(response: Sequence[int], mask: Sequence[int], end: int) -> Prefix:
    return Prefix(list(response[:end]), ids(response[:end], mask[:end]))
