"""Rollouts to look at, made by hand or at random, in the columns of decaylab.tokens.viewed, without
a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

STATISTICS = ("reverse_kl", "student_entropy", "teacher_entropy")
OTHERS = ["one", " two", "drei", "4", "\n", " ", "fünf"]
TOP = 5


def rollout_row(checkpoint: str, problem: str, sample: int, **columns: Any) -> dict[str, Any]:
    """A row of the rollouts table; what is not given is plain."""
    given = {
        "rollout_id": f"student/{problem}/{sample}",
        "question": f"What is {problem}?",
        "answer": "42",
        "verdict": "correct",
        "answer_rule": "last_boxed",
        "stop_reason": "eos",
        "response_tokens": 0,
    }
    return {"checkpoint": checkpoint, "problem_id": problem, "sample": sample} | given | columns


def tables(
    rows: Sequence[dict[str, Any]],
    texts: Sequence[Sequence[str]],
    raws: Sequence[Sequence[str]] | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables. texts, raws: of the tokens of each rollout; the numbers are at random."""
    rollouts = pd.DataFrame(
        [row | {"response_tokens": len(own)} for row, own in zip(rows, texts, strict=True)]
    )
    rng = np.random.default_rng(seed)
    raws = raws or [[""] * len(own) for own in texts]
    tokens = [
        pd.DataFrame(
            {
                "checkpoint": row["checkpoint"],
                "rollout_id": row["rollout_id"],
                "position": np.arange(len(own)),
                "token_id": rng.integers(0, 150_000, len(own)),
                "token": np.array(own, dtype=object),
                "raw": np.array(raw, dtype=object),
                "category": rng.choice(["math_number", "structural", "continuation"], len(own)),
                **numbers(rng, len(own)),
                **likeliest(rng, own, "student"),
                **likeliest(rng, own, "teacher"),
            }
        )
        for row, own, raw in zip(rows, texts, raws, strict=True)
    ]
    return rollouts, pd.concat(tokens, ignore_index=True)


def numbers(rng: np.random.Generator, size: int) -> dict[str, Any]:
    """Statistics and ranks: of every size that a colour knows."""
    found: dict[str, Any] = {
        name: np.exp(rng.normal(-2, 2.5, size)).astype(np.float32) for name in STATISTICS
    }
    return found | {
        name: rng.geometric(0.3, size).astype(np.int32)
        for name in ("token_rank", "student_top1_rank")
    }


def likeliest(rng: np.random.Generator, texts: Sequence[str], policy: str) -> dict[str, Any]:
    """The five likeliest tokens of a policy, with the taken one among them in two of three; and its
    log-probability."""
    top, probabilities, logprobs = [], [], []
    for text in texts:
        likely = np.sort(rng.dirichlet(np.full(TOP + 1, 0.4)))[::-1][:TOP].astype(np.float32)
        entries = [other for other in OTHERS if other != text][:TOP]
        rank = int(rng.integers(0, 3 * TOP // 2))
        if rank < TOP:
            entries[rank] = text
        top.append(entries)
        probabilities.append(likely)
        logprobs.append(np.log(max(likely[rank], 1e-30)) if rank < TOP else -12.5)
    return {
        f"{policy}_top": top,
        f"{policy}_top_probabilities": probabilities,
        f"{policy}_logprob": np.array(logprobs, dtype=np.float32),
    }


def large(
    rollouts: int = 200, size: int = 500, vocabulary: int = 150_000
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As much as a page must hold, and nearly as hard to pack as it can be: every likeliest token
    at random."""
    rng = np.random.default_rng(7)
    count = rollouts * size
    words = np.array([word(rng, i % 4 == 0) for i in range(vocabulary)], dtype=object)
    ids = rng.integers(0, vocabulary, count)
    columns: dict[str, Any] = {"token_id": ids, "token": words[ids], "raw": ""}
    for policy in ("student", "teacher"):
        first = 1 - rng.beta(0.5, 3, count)
        rest = (
            np.sort(rng.dirichlet(np.full(TOP, 0.7), count), axis=1)[:, :-TOP:-1]
            * (1 - first)[:, None]
        )
        columns |= {
            f"{policy}_top": list(words[rng.integers(0, vocabulary, (count, TOP))]),
            f"{policy}_top_probabilities": list(np.column_stack([first, rest])),
            f"{policy}_logprob": -rng.exponential(0.5, count),
        }
    columns |= numbers(rng, count) | {
        "category": rng.choice(["number", "operator", "planning", "structural"], count)
    }
    names = [f"rollout-{i}" for i in range(rollouts)]
    rows = [
        rollout_row("base", f"p{i // 4}", i % 4, rollout_id=name) for i, name in enumerate(names)
    ]
    frame = pd.DataFrame(
        {
            "checkpoint": "base",
            "rollout_id": np.repeat(names, size),
            "position": np.tile(np.arange(size), rollouts),
            **columns,
        }
    )
    return pd.DataFrame(rows).assign(response_tokens=size), frame


def word(rng: np.random.Generator, ideographs: bool) -> str:
    """A text such as vocabularies hold: a few ideographs, or letters, behind a space in one of
    two."""
    if ideographs:
        return "".join(map(chr, rng.integers(0x4E00, 0x9FFF, rng.integers(1, 4))))
    return (
        " " * int(rng.integers(0, 2))
        + bytes(rng.integers(97, 123, rng.integers(1, 10)).tolist()).decode()
    )
