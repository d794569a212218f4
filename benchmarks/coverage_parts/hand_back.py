"""Hand-back: coverage of the corrective gain, its band, the usable share and both controls.

Policies of a known law (tests/helpers/markov.py): a Markov chain of the student and one of the
teacher, whose expectations are sums. Each draw samples whole rollouts, the teacher's responses
behind every prefix (whose first tokens are handed back, so that the numbers of tokens are paired)
and what the student writes then; the formulas of `decaylab.analyses.hand_back` estimate from them.

A share is printed where its denominator is beyond 2 standard errors of 0; its coverage is over
those draws.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from coverage_parts import error
from decaylab.analyses.hand_back import Settings, measure

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))

import markov

Ints = NDArray[np.int64]
LENGTHS, COUNTS, BUDGET = (2, 6), (1, 4), 16
CASES = ((30, 2), (200, 2))
"""Problems, and samples of each."""
KEY = ["what", "condition", "prefix_tokens", "category"]
WORLD = markov.decaying_world()
GOLD = np.array([markov.TOKENS.index(letter) for letter in markov.GOLD])


def walk(
    role: str, kinds: Ints, last: Ints, steps: int, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """The last token after each number of steps, [steps + 1, rollouts], and whether it ended."""
    cumulative = getattr(WORLD, role).law.cumsum(axis=-1)
    ended = np.zeros(last.size, dtype=bool)
    tokens, ends = [last], [ended]
    for _ in range(steps):
        row = cumulative[kinds, tokens[-1]]
        drawn = (row <= (rng.random(last.size) * row[:, -1])[:, None]).sum(axis=1)
        ended = ended | (drawn == markov.END)
        tokens.append(np.where(ended, tokens[-1], drawn))
        ends.append(ended)
    return np.stack(tokens), np.stack(ends)


def drawn(problems: int, samples: int, seed: int) -> pd.DataFrame:
    """The rollouts table of one run, as far as it is measured."""
    rng = np.random.default_rng([seed, problems, samples])
    kinds = np.repeat(rng.choice(len(GOLD), size=problems, p=WORLD.shares), samples)
    names = np.array([f"{n // samples}/{n % samples}" for n in range(kinds.size)])
    start = np.zeros(kinds.size, dtype=np.int64)
    parts = []
    student, ends = walk("student", kinds, start, BUDGET, rng)
    written = (~ends[1:]).sum(axis=0)
    parts.append(_rows("student", names, kinds, student[-1], written))
    alone, _ = walk("teacher", kinds, start, BUDGET, rng)
    parts.append(_rows("teacher", names, kinds, alone[-1], written))
    for length in LENGTHS:
        kept = ~ends[length]
        parts += _behind(length, names[kept], kinds[kept], student[length][kept], rng)
    return pd.concat(parts, ignore_index=True)


def _behind(
    length: int, names: NDArray[Any], kinds: Ints, last: Ints, rng: np.random.Generator
) -> Iterator[pd.DataFrame]:
    """What is written behind the prefixes of one length."""
    room = BUDGET - length
    continued, _ = walk("teacher", kinds, last, room, rng)
    yield _rows("student-prefix", names, kinds, continued[-1], last, length)
    teacher, ends = walk("teacher", kinds, last, room, rng)
    tokens = np.minimum((~ends).sum(axis=0), room)  # the end token counts as one
    yield _rows("hand-back-teacher", names, kinds, teacher[-1], tokens, length)
    for count in (0, *COUNTS):
        more = tokens > count
        finished, _ = walk("student", kinds[more], teacher[count][more], room - count, rng)
        back = (names[more], kinds[more], finished[-1], tokens[more])
        yield _rows("hand-back", *back, length, count)


def _rows(
    condition: str,
    names: NDArray[Any],
    kinds: Ints,
    last: Ints,
    tokens: Ints,
    length: int = 0,
    count: int | None = None,
) -> pd.DataFrame:
    plain = length == 0
    stage = condition if plain else f"{condition}/{length}/{count}"
    return pd.DataFrame(
        {
            "rollout_id": [f"{stage}/{name}" for name in names],
            "condition": condition,
            "problem_id": [name.partition("/")[0] for name in names],
            "prefix_tokens": length,
            "prefix_rollout_id": ["" if plain else f"student/{name}" for name in names],
            "teacher_tokens": count,
            "response_ids": [range(number) for number in tokens],
            "tokens": tokens,
            "grade_gold": np.where(last == GOLD[kinds], "correct", "wrong"),
        }
    )


@cache
def truth() -> dict[Any, float]:
    return markov.DecayLaw(WORLD, BUDGET).hand_back(LENGTHS, COUNTS)


def measured(problems: int, samples: int, draws: int) -> Iterator[dict[str, Any]]:
    """Coverage of each number, and of each family by its band."""
    settings = Settings((0, *LENGTHS), "gold", COUNTS)
    frames = []
    for seed in range(draws):
        frame = measure(drawn(problems, samples, seed), settings)
        frames.append(frame[frame.method != ""].assign(draw=seed))
    every = pd.concat(frames, ignore_index=True)
    every["truth"] = [truth()[key] for key in every[KEY].itertuples(index=False, name=None)]
    every["held"] = (every.low <= every.truth + 1e-12) & (every.truth <= every.high + 1e-12)
    every["inside"] = (every.band_low <= every.truth) & (every.truth <= every.band_high)
    case = {"problems": problems, "samples": samples}
    for key, rows in every.groupby(KEY, sort=False):
        known = rows[rows.low.notna()]
        covered = float(known.held.mean()) if len(known) else None
        bounded = known[np.isfinite(known.low)]
        yield {
            **case,
            **dict(zip(KEY, key, strict=True)),
            "truth": float(rows.truth.iloc[0]),
            "printed": len(known) / draws,
            "coverage": covered,
            "error": None if covered is None else error(covered, len(known)),
            "bounded": len(bounded) / max(1, len(known)),
            "width": float((bounded.high - bounded.low).median()) if len(bounded) else None,
        }
    yield from ({**case, **row} for row in _bands(every, draws))


def _bands(every: pd.DataFrame, draws: int) -> Iterator[dict[str, Any]]:
    """How often a band holds all numbers of its family."""
    families: dict[tuple[str, str, str], list[Any]] = defaultdict(list)
    banded = every[every.band_low.notna()]
    for (what, condition, category), rows in banded.groupby(["what", "condition", "category"]):
        shared = "all" if condition == "hand-back" else category
        families[what, condition, shared].append(rows)
    for (what, condition, shared), tables in families.items():
        inside = pd.concat(tables).groupby("draw").inside.all()
        rate = float(inside.mean())
        place = {"what": f"{what}, band", "condition": condition, "category": shared}
        yield {
            **place,
            "printed": len(inside) / draws,
            "coverage": rate,
            "error": error(rate, draws),
        }


def rows(draws: int) -> Iterator[dict[str, Any]]:
    for problems, samples in CASES:
        yield from measured(problems, samples, draws)
