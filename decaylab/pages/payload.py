"""Rollouts to look at, packed into a page: base64 of gzip, the same for the same rollouts.

    packed = pack(viewed.rollouts, viewed.tokens, continuations)

Unzipped, it is the length of a JSON text (4 bytes, the lowest first), that text in UTF-8, and the
numbers. The JSON holds

    rollouts        the rows of the rollouts table, each with ``start`` and ``size``, its rows among
                    all tokens; ``mean_kl``, its mean reverse KL over those tokens for which it is
                    defined, in nats (null: none, "Infinity" is text); ``steps``, a list of [first
                    token, token behind the last, verdict], null where steps are not known; and
                    ``first_wrong_token``, a position or null
    continuations   their rows, each with ``rollout`` (its place among the rollouts) and ``outcome``
    categories      names
    strings         every text of a token, each once; the first is null: no entry
    top             how many top tokens of each policy are kept
    tokens          how many tokens there are
    columns         names, in the order of the numbers

Each column is one whole number per token, of 4 bytes with a sign: the lowest bytes of all tokens,
then their second ones, and so on (so that they pack well). The columns are

    token, raw, student_top_1, ...      place in strings; a frequent text has a small one
    category                            place in categories
    token_id, token_rank, student_top1_rank
    reverse_kl, student_entropy, teacher_entropy, student_logprob, teacher_logprob
                                        nats in steps of `STEP`
    student_top_probability_1, ...      thousandths, as they are shown: 0 is below one, 1000 is
                                        above 999, all others are rounded to 1 ... 999
    student_taken, teacher_taken        which of the top tokens was taken, from 1; 0: none

with the numbers `UNDEFINED` and plus and minus `INFINITE` for what they say. A token's position is
its place in its rollout. `student_top_1` is the likeliest; there are as many as the longest list
has.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.runs.vocabulary import BASE
from decaylab.tokens.viewed import CORRECT, RANKS, STATISTICS

STEP = 1e-4  # nats
UNDEFINED, INFINITE = -(2**31), 2**31 - 1
POLICIES = ("student", "teacher")
KEY = ["checkpoint", "rollout_id"]
Texts = NDArray[np.object_]
Numbers = NDArray[Any]


def pack(
    rollouts: pd.DataFrame, tokens: pd.DataFrame, continuations: pd.DataFrame | None = None
) -> str:
    """Packs what `decaylab.tokens.viewed.read` and `decaylab.tokens.viewed.continuations` gave.

    Statistics are kept to 1e-4 nats and probabilities to 1e-3; all else is kept as it is.

    Raises:
        ValueError: a rollout stands there twice, tokens or continuations are of none of the
            rollouts, a rollout's tokens are not together and in order, or a probability is not from
            0 to 1.
    """
    strings, columns = _columns(tokens)
    codes, categories = pd.factorize(tokens["category"].to_numpy(dtype=object))
    columns["category"] = codes
    continued = []
    if continuations is not None:
        continued = outcomes(rollouts, continuations).to_dict("records")
    content = {
        "rollouts": _rows(_placed(rollouts, tokens), tokens["reverse_kl"].to_numpy(np.float64)),
        "continuations": continued,
        "categories": [str(name) for name in categories],
        "strings": strings,
        "top": _longest(tokens),
        "tokens": len(tokens),
        "columns": list(columns),
    }
    # Escaped: half of a surrogate pair has no other way through UTF-8.
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    numbers = b"".join(_bytes(values) for values in columns.values())
    whole = len(text).to_bytes(4, "little") + text + numbers
    # Without the time, so that the same rollouts give the same page.
    return base64.b64encode(gzip.compress(whole, compresslevel=6, mtime=0)).decode()


def _bytes(values: Numbers) -> bytes:
    """A column's lowest bytes, then its second ones, and so on."""
    whole = np.asarray(values, dtype=np.int64)
    if len(whole) and not -(2**31) <= whole.min() <= whole.max() < 2**31:
        raise ValueError("a number of a token must fit into 4 bytes with a sign")
    return np.ascontiguousarray(whole.astype("<i4").view(np.uint8).reshape(-1, 4).T).tobytes()


def _rows(placed: pd.DataFrame, kl: Numbers) -> list[dict[Any, Any]]:
    """The rollouts as JSON has them, with what is known of each as a whole."""
    rows = []
    for row in placed.to_dict("records"):
        own = kl[row["start"] : row["start"] + row["size"]]
        first_wrong = row.get("first_wrong_token")
        rows.append(
            {
                **row,
                "mean_kl": _mean(own[~np.isnan(own)]),
                "steps": _spans(row.get("steps")),
                "first_wrong_token": None if pd.isna(first_wrong) else int(first_wrong),
            }
        )
    return rows


def _mean(values: Numbers) -> float | str | None:
    if not len(values):
        return None
    mean = float(values.mean())
    return mean if math.isfinite(mean) else "Infinity"


def _spans(steps: Sequence[Mapping[str, Any]] | float | None) -> list[list[Any]] | None:
    if steps is None or isinstance(steps, float):  # NaN: a row without steps among others
        return None
    return [[int(step["start"]), int(step["end"]), str(step["verdict"])] for step in steps]


def outcomes(rollouts: pd.DataFrame, continuations: pd.DataFrame) -> pd.DataFrame:
    """The continuations with what the teacher made of each rollout of the base student.

    Adds ``rollout``, the place of its rollout among the rollouts, and ``outcome``: recovered, where
    the rollout is not correct and the continuation is; regressed, where the rollout is correct and
    the continuation is not; "" where they agree.

    Raises:
        ValueError: a continuation is of no rollout of the base student.
    """
    ids = rollouts["rollout_id"].where(rollouts["checkpoint"] == BASE)
    base = {str(name): place for place, name in enumerate(ids) if not pd.isna(name)}
    places = continuations["rollout_id"].map(base).fillna(-1).to_numpy(dtype=np.int64)
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
        outcome=np.select([after & ~before, before & ~after], ["recovered", "regressed"], ""),
    )


def _placed(rollouts: pd.DataFrame, tokens: pd.DataFrame) -> pd.DataFrame:
    """The rollouts with the rows of their tokens; nothing is left over on either side."""
    keys = pd.MultiIndex.from_frame(rollouts[KEY])
    if keys.has_duplicates:
        raise ValueError(
            f"each rollout must stand there once; twice there: {keys[keys.duplicated()][0]}"
        )
    codes, unique = pd.MultiIndex.from_frame(tokens[KEY]).factorize()
    with_tokens = pd.Index(unique)
    starts = np.flatnonzero(np.diff(codes, prepend=-1))
    if len(starts) != len(with_tokens):
        raise ValueError("the tokens of a rollout must stand together")
    sizes = np.diff(starts, append=len(tokens))
    if not np.array_equal(tokens["position"], np.arange(len(tokens)) - np.repeat(starts, sizes)):
        raise ValueError(
            "the tokens of each rollout must stand in the order of their positions, 0, 1, 2, ..."
        )
    place = with_tokens.get_indexer(keys)
    if len(strange := with_tokens.difference(keys)):
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
    for name in STATISTICS:
        columns[name] = _steps(tokens[name].to_numpy(dtype=np.float64))
    for policy in POLICIES:
        top = _padded(tokens[f"{policy}_top"], width, None)
        likely = _padded(tokens[f"{policy}_top_probabilities"], width, np.nan).astype(np.float64)
        if not (np.isnan(likely) | ((likely >= 0) & (likely <= 1 + 1e-6))).all():
            raise ValueError("probabilities of the top tokens must be from 0 to 1")
        taken = np.exp(tokens[f"{policy}_logprob"].to_numpy(dtype=np.float64))
        distance = np.abs(likely - taken[:, None])
        columns[f"{policy}_taken"] = _taken(texts["token"], texts["raw"], top, distance)
        probabilities = _thousandths(likely)
        for rank in range(width):
            texts[f"{policy}_top_{rank + 1}"] = top[:, rank]
            columns[f"{policy}_top_probability_{rank + 1}"] = probabilities[:, rank]
    strings, codes = _coded(list(texts.values()))
    return strings, columns | dict(zip(texts, codes, strict=True))


def _taken(token: Texts, raw: Texts, top: Texts, distance: Numbers) -> Numbers:
    """Which of the top tokens was taken, from 1, or 0: it reads alike, and of several the
    probability is nearest.

    Part of a character reads <0xE2> there, and a first token may have lost its leading space.
    """
    bytes_of = [["<0x" + byte + ">" for byte in text.split()] for text in raw]
    spelled = np.array(["".join(parts) for parts in bytes_of], dtype=object)
    alike = np.zeros(top.shape, dtype=bool)
    spelled[raw == ""] = None
    for text in (token, spelled, " " + token):
        alike |= (top == text[:, None]) & (top != None)  # noqa: E711 - element by element
    distance = np.where(alike, np.nan_to_num(distance, nan=np.inf), np.inf)
    nearest = distance.argmin(axis=1) if top.shape[1] else np.zeros(len(top), dtype=np.int64)
    return np.where(alike.any(axis=1), nearest + 1, 0)


def _longest(tokens: pd.DataFrame) -> int:
    lists = chain.from_iterable(tokens[f"{policy}_top"] for policy in POLICIES)
    return max(map(len, lists), default=0)


def _padded(lists: pd.Series, width: int, fill: Any) -> Texts:
    """Lists as the rows of a table, [tokens, width]."""
    padded = np.full((len(lists), width), fill, dtype=object)
    lengths = lists.map(len).to_numpy(dtype=np.int64)
    padded[np.arange(width) < lengths[:, None]] = list(chain.from_iterable(lists))
    return padded


def _coded(columns: Sequence[Texts]) -> tuple[list[str | None], list[Numbers]]:
    """The strings, the frequent ones first, and each column as places among them."""
    codes, texts = pd.factorize(np.concatenate(columns))
    counts = np.bincount(codes[codes >= 0], minlength=len(texts))
    order = sorted(range(len(texts)), key=lambda code: (-counts[code], texts[code]))
    place = np.zeros(len(texts) + 1, dtype=np.int64)  # its last entry is where -1, no text, points
    place[order] = np.arange(1, len(texts) + 1)
    return [None, *(str(texts[code]) for code in order)], np.split(place[codes], len(columns))


def _steps(values: Numbers) -> Numbers:
    """Nats in whole steps."""
    steps = np.full(values.shape, UNDEFINED, dtype=np.int64)
    finite = np.isfinite(values)
    steps[finite] = np.rint(values[finite] / STEP).astype(np.int64)
    steps[np.isposinf(values)], steps[np.isneginf(values)] = INFINITE, -INFINITE
    return steps


def _thousandths(probabilities: Numbers) -> Numbers:
    """Probabilities in thousandths, 0 below the first and 1000 above the last."""
    shown = np.clip(np.rint(probabilities * 1000), 1, 999)
    shown = np.where(probabilities < 0.001, 0, np.where(probabilities > 0.999, 1000, shown))
    return np.where(np.isnan(probabilities), UNDEFINED, shown).astype(np.int64)
