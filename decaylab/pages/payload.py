"""Rollouts to look at, packed into a page: two blocks of base64(gzip), the same for the same
rollouts.

    packed = pack(viewed.rollouts, viewed.tokens, continuations)

`Payload.texts` is JSON:

    rollouts        the rows of the rollouts table, each with ``start`` and ``size``: its rows among
    all tokens continuations   their rows, each with ``rollout`` (its place among the rollouts) and
    ``outcome`` categories      names strings         every text of a token, each once; the first is
    null: no entry tokens, top     how many tokens there are, and how many likeliest ones of each
    policy are kept columns         name -> {"start": byte, "width": bytes a value}

`Payload.numbers` is the columns, one number a token. A column of width w is w runs of one byte a
token, the lowest bytes of
all tokens first: a value can be read without unpacking the column, and bytes of one kind lie
together, which gzip likes.

    token, raw, student_top_1, ...      place in strings; a frequent text has a small one
    token_id, category, token_rank, student_top1_rank
    reverse_kl, student_entropy, teacher_entropy, student_logprob, teacher_logprob
                                        nats in steps of 1e-4, signed; `UNDEFINED`, `BELOW`,
                                        `ABOVE`: NaN and the infinities student_top_probability_1,
                                        ...      in steps of 1 / `WHOLE`; `UNKNOWN`: NaN
                                        student_taken, teacher_taken        which of the likeliest
                                        tokens was taken, from 1; 0: none of them

A token's position is its place in its rollout. `student_top_1` is the likeliest; there are as many
as the longest list has.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.runs.trained import BASE
from decaylab.tokens.viewed import CORRECT, RANKS, STATISTICS

STEP = 1e-4  # nats
UNDEFINED, BELOW, ABOVE = -(2**31), -(2**31) + 1, 2**31 - 1
WHOLE, UNKNOWN = 65534, 65535
POLICIES = ("student", "teacher")
KEY = ["checkpoint", "rollout_id"]
Texts = NDArray[np.object_]
Numbers = NDArray[Any]


@dataclass(frozen=True)
class Payload:
    """The two blocks, each base64 of gzip; their contents stand above."""

    texts: str
    numbers: str


def pack(
    rollouts: pd.DataFrame, tokens: pd.DataFrame, continuations: pd.DataFrame | None = None
) -> Payload:
    """Packs what `decaylab.tokens.viewed.read` and `decaylab.tokens.viewed.continuations` gave.

    Statistics are kept to 1e-4 nats and probabilities to 1/65534; all else is kept as it is.

    Raises:
        ValueError: a rollout stands there twice, tokens or continuations are of none of the
            rollouts, a rollout's tokens are not together and in order, or a probability is not from
            0 to 1.
    """
    strings, columns = _columns(tokens)
    categories, columns["category"] = _names(tokens["category"])
    blocks, places, start = [], {}, 0
    for name, values in columns.items():
        block = _planes(values)
        places[name] = {"start": start, "width": len(block) // max(1, len(tokens))}
        blocks.append(block)
        start += len(block)
    texts = {
        "rollouts": _placed(rollouts, tokens).to_dict("records"),
        "continuations": []
        if continuations is None
        else outcomes(rollouts, continuations).to_dict("records"),
        "categories": categories,
        "strings": strings,
        "tokens": len(tokens),
        "top": _longest(tokens),
        "columns": places,
    }
    # Escaped: half of a surrogate pair has no other way through UTF-8.
    return Payload(
        _block(json.dumps(texts, separators=(",", ":")).encode()), _block(b"".join(blocks))
    )


def outcomes(rollouts: pd.DataFrame, continuations: pd.DataFrame) -> pd.DataFrame:
    """The continuations with what the teacher made of each rollout of the base student.

    Adds ``rollout``, the place of its rollout among the rollouts, and ``outcome``: recovered, where
    the rollout is not correct and the continuation is; spoilt, where the rollout is correct and the
    continuation is not; "" where they agree.

    Raises:
        ValueError: a continuation is of no rollout of the base student.
    """
    base = {
        str(name): place
        for place, (checkpoint, name) in enumerate(
            zip(rollouts["checkpoint"], rollouts["rollout_id"])
        )
        if checkpoint == BASE
    }
    places = np.array(
        [base.get(str(name), -1) for name in continuations["rollout_id"]], dtype=np.int64
    )
    if (places < 0).any():
        lost = continuations["rollout_id"].iloc[int(places.argmin())]
        raise ValueError(
            f"continuations must be of rollouts of {BASE!r}; {lost!r} is none of {len(base)} that "
            "are shown"
        )
    before = rollouts["verdict"].to_numpy()[places] == CORRECT
    after = continuations["verdict"].to_numpy() == CORRECT
    return continuations.assign(
        rollout=places,
        outcome=np.select([after & ~before, before & ~after], ["recovered", "spoilt"], ""),
    )


def _placed(rollouts: pd.DataFrame, tokens: pd.DataFrame) -> pd.DataFrame:
    """The rollouts with the rows of their tokens; nothing is left over on either side."""
    keys = pd.MultiIndex.from_frame(rollouts[KEY])
    if keys.has_duplicates:
        raise ValueError(
            f"each rollout must stand there once; twice there: {keys[keys.duplicated()][0]}"
        )
    codes, unique = pd.MultiIndex.from_frame(tokens[KEY]).factorize()
    found = pd.Index(unique)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if len(starts) != len(found):
        raise ValueError("the tokens of a rollout must stand together")
    sizes = np.diff(starts, append=len(tokens))
    if not np.array_equal(tokens["position"], np.arange(len(tokens)) - np.repeat(starts, sizes)):
        raise ValueError(
            "the tokens of each rollout must stand in the order of their positions, 0, 1, 2, ..."
        )
    place = found.get_indexer(keys)
    if len(strange := found.difference(keys)):
        raise ValueError(
            f"tokens must be of a rollout in the table of rollouts; {strange[0]} is not there"
        )
    has = place >= 0
    start, size = np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=np.int64)
    start[has], size[has] = starts[place[has]], sizes[place[has]]
    return rollouts.assign(start=start, size=size)


def _columns(tokens: pd.DataFrame) -> tuple[list[str | None], dict[str, Numbers]]:
    """The strings, and the columns of numbers but that of the categories."""
    width = _longest(tokens)
    texts = {name: tokens[name].to_numpy(dtype=object) for name in ("token", "raw")}
    columns: dict[str, Numbers] = {name: tokens[name].to_numpy() for name in ("token_id", *RANKS)}
    columns |= {name: _nats(tokens[name].to_numpy(dtype=np.float64)) for name in STATISTICS}
    for policy in POLICIES:
        top = _padded(tokens[f"{policy}_top"], width, None)
        likely = _padded(tokens[f"{policy}_top_probabilities"], width, np.nan).astype(np.float64)
        taken = np.exp(tokens[f"{policy}_logprob"].to_numpy(dtype=np.float64))
        columns[f"{policy}_taken"] = _taken(
            texts["token"], texts["raw"], top, np.abs(likely - taken[:, None])
        )
        texts |= {f"{policy}_top_{rank + 1}": top[:, rank] for rank in range(width)}
        parts = _parts(likely)
        columns |= {f"{policy}_top_probability_{rank + 1}": parts[:, rank] for rank in range(width)}
    strings, codes = _coded(list(texts.values()))
    return strings, columns | dict(zip(texts, codes, strict=True))


def _taken(token: Texts, raw: Texts, top: Texts, distance: Numbers) -> Numbers:
    """Which of the likeliest tokens was taken, from 1, or 0: it reads alike, and of several the
    probability is nearest.

    Part of a character reads <0xE2> there, and a first token may have lost its leading space.
    """
    spelled = np.array(
        ["".join(f"<0x{byte}>" for byte in one.split()) for one in raw], dtype=object
    )
    alike = np.zeros(top.shape, dtype=bool)
    spelled[raw == ""] = None
    for text in (token, spelled, " " + token):
        alike |= (top == text[:, None]) & (top != None)  # noqa: E711 - element by element
    distance = np.where(alike, np.nan_to_num(distance, nan=np.inf), np.inf)
    nearest = distance.argmin(axis=1) if top.shape[1] else np.zeros(len(top), dtype=np.int64)
    return np.where(alike.any(axis=1), nearest + 1, 0)


def _longest(tokens: pd.DataFrame) -> int:
    return max((len(one) for policy in POLICIES for one in tokens[f"{policy}_top"]), default=0)


def _padded(lists: pd.Series, width: int, fill: Any) -> Texts:
    """Lists as the rows of a table, [tokens, width]."""
    found = np.full((len(lists), width), fill, dtype=object)
    lengths = lists.map(len).to_numpy(dtype=np.int64)
    found[np.arange(width) < lengths[:, None]] = list(chain.from_iterable(lists))
    return found


def _coded(columns: Sequence[Texts]) -> tuple[list[str | None], list[Numbers]]:
    """The strings, the frequent ones first, and each column as places among them."""
    codes, texts = pd.factorize(np.concatenate(columns))
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    order = sorted(range(len(texts)), key=lambda code: (-counts[code], texts[code]))
    place = np.zeros(len(texts) + 1, dtype=np.int64)  # its last entry is where -1, no text, points
    place[order] = np.arange(1, len(texts) + 1)
    return [None, *(str(texts[code]) for code in order)], np.split(place[codes], len(columns))


def _names(column: pd.Series) -> tuple[list[str], Numbers]:
    codes, names = pd.factorize(column.to_numpy(dtype=object))
    return [str(name) for name in names], codes


def _nats(values: NDArray[np.float64]) -> Numbers:
    steps = np.nan_to_num(np.rint(values / STEP), nan=UNDEFINED, posinf=ABOVE, neginf=BELOW)
    whole = np.where(np.isfinite(values), np.clip(steps, BELOW + 1, ABOVE - 1), steps)
    return np.asarray(whole.astype(np.int64))


def _parts(values: NDArray[np.float64]) -> Numbers:
    if not (np.isnan(values) | ((values >= 0) & (values <= 1 + 1e-6))).all():
        raise ValueError("probabilities of the likeliest tokens must be from 0 to 1")
    return np.where(np.isnan(values), UNKNOWN, np.minimum(np.rint(values * WHOLE), WHOLE)).astype(
        np.int64
    )


def _planes(values: Numbers) -> bytes:
    """A column's bytes, the lowest of every value first, with as many a value as the largest needs;
    signed ones have four."""
    if len(values) and values.max() > 2**32 - 1:
        raise ValueError(f"a column of tokens holds {values.max()}, more than four bytes hold")
    signed = len(values) and values.min() < 0
    width = 4 if signed or len(values) == 0 else max(1, (int(values.max()).bit_length() + 7) // 8)
    every = values.astype("<i8").view(np.uint8).reshape(len(values), 8)
    return bytes(every[:, :width].T.tobytes())


def _block(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, compresslevel=6, mtime=0)).decode()
