"""The tokens of a response that its author wrote: all of them, or those that a mask leaves where
tools and users wrote too.

Rows are of the rollouts table. The end-of-turn token that closes a response is not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MASK = "response_mask"


def count(rows: pd.DataFrame) -> NDArray[np.int64]:
    """Tokens that the author wrote in each response, [rollouts]."""
    lengths = np.array(rows["response_ids"].map(len), dtype=np.int64)
    if MASK in rows:
        for place, mask in enumerate(rows[MASK]):
            if mask is not None:
                lengths[place] = int(np.sum(mask))
    return np.asarray(lengths - (rows["stop_reason"] == "eos").to_numpy())


def ids(response: Sequence[int], mask: Sequence[int] | None) -> list[int]:
    """The ids that the author wrote, in order, the end-of-turn token included."""
    return (
        list(response)
        if mask is None
        else [token for token, own in zip(response, mask, strict=True) if own]
    )


@dataclass(frozen=True)
class Prefix:
    """The beginning of a response. ids: all of it. own: what its author wrote. turns: how many
    whole turns, if cut by those."""

    ids: list[int]
    own: list[int]
    turns: int | None = None


def prefix(response: Sequence[int], mask: Sequence[int] | None, length: int) -> Prefix | None:
    """A response up to the author's own token number ``length``, with what others wrote before it;
    None where it is shorter."""
    if mask is None:
        start = list(response[:length])
        return Prefix(start, start) if len(response) >= length else None
    places = np.flatnonzero(mask)
    return _cut(response, mask, int(places[length - 1]) + 1) if places.size >= length else None


def behind_turns(response: Sequence[int], mask: Sequence[int]) -> Iterator[Prefix]:
    """A response up to where each turn of its author but the first begins: whole turns, each with
    what others answered."""
    own = np.asarray(mask, dtype=bool)
    starts = np.flatnonzero(own & ~np.concatenate([[False], own[:-1]]))
    for turns, place in enumerate(starts[1:], start=1):
        yield replace(_cut(response, mask, int(place)), turns=turns)


def _cut(response: Sequence[int], mask: Sequence[int], end: int) -> Prefix:
    return Prefix(list(response[:end]), ids(response[:end], mask[:end]))
