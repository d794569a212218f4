"""KL of a position bin and its change: how often intervals and bands hold, with problems drawn from
a known population.

    embedded pair   300 problems, 2 rollouts each, drawn with replacement:
                    abacus_position_kl.parquet holds the sum of the reverse KL and the number of
                    tokens of each problem in each bin, of the base student and of one trained on
                    the first 20 tokens. Made by `decaylab train --selector prefix --rollout-length
                    20 --out runs/esr` and `decaylab position-kl runs/esr --limit 300 --samples 2`.
    log-normal      problem means of sigma 1 in 8 bins, correlated by .5; after training .7 times as
    much, with noise

The truth is the same statistic of the whole population (of 400,000 log-normal problems). ``plain``
is the interval of the plain mean, Student's t on the log scale, which is what these replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from coverage_parts import error
from decaylab.maths import token_means
from decaylab.maths import winsorised as ws

Floats = NDArray[np.float64]
Pair = tuple[ws.SumsAndCounts, ws.SumsAndCounts]  # before and after training, on the same rollouts
PROBLEMS = (60, 100, 200)
CELLS = 8
LARGE = 400_000


def rows(draws: int) -> Iterator[dict[str, Any]]:
    for population in POPULATIONS:
        for problems in PROBLEMS:
            yield from coverage(population, problems, draws)


def coverage(population: str, problems: int, draws: int) -> list[dict[str, Any]]:
    """A row for each bin of each quantity in which at least half of the draws print an interval."""
    draw = POPULATIONS[population]()
    truths = {name: found.value for name, found in estimates(draw(None), 1).items()}
    plain_truth = token_means.means(*draw(None)[0]).value
    held: dict[str, list[Floats]] = {name: [] for name in (*truths, "plain")}
    in_band: dict[str, list[float]] = {name: [] for name in truths}
    for number in range(draws):
        pair = draw(np.random.default_rng((problems, number)), problems)
        for name, found in estimates(pair, ws.DRAWS).items():
            held[name].append(_holds(ws.interval(found), truths[name]))
            banded = _holds(ws.band(found), truths[name])
            in_band[name].append(
                float(banded[np.isfinite(banded)].all()) if np.isfinite(banded).any() else np.nan
            )
        held["plain"].append(_holds(token_means.interval(token_means.means(*pair[0])), plain_truth))
    table = []
    for name in truths:
        inside = np.array(held[name])
        printed = np.isfinite(inside).mean(axis=0)
        band = float(np.mean(in_band[name]))  # NaN: too few problems for a band
        for cell in np.flatnonzero(printed >= 0.5):
            rate = float(np.nanmean(inside[:, cell]))
            row = {
                "population": population,
                "problems": problems,
                "what": name,
                "bin": int(cell),
                "printed": printed[cell],
            }
            row |= {"coverage": rate, "error": error(rate, draws)}
            row |= {} if np.isnan(band) else {"band": band, "band_error": error(band, draws)}
            table.append(
                row
                | (
                    {"plain": float(np.mean(np.array(held["plain"])[:, cell]))}
                    if name == "level"
                    else {}
                )
            )
    return table


def estimates(pair: Pair, bootstraps: int) -> dict[str, ws.Winsorised]:
    before, after = pair
    change, relative = ws.winsorised_change(after, before, draws=bootstraps)
    return {
        "level": ws.winsorised(before, draws=bootstraps),
        "change": change,
        "relative change": relative,
    }


def _holds(ends: tuple[Floats, Floats], truth: Floats) -> Floats:
    """Whether each cell's interval holds the truth, NaN where there is none."""
    return np.where(np.isnan(ends[0]), np.nan, (ends[0] <= truth) & (truth <= ends[1]))


Draw = Callable[..., Pair]


def _embedded() -> Draw:
    before, after = (_population(student) for student in ("base", "trained, frozen"))

    def draw(rng: np.random.Generator | None, problems: int = 0) -> Pair:
        chosen = np.arange(300) if rng is None else rng.integers(0, 300, problems)
        first, second = ((sums[chosen], counts[chosen]) for sums, counts in (before, after))
        return first, second

    return draw


@cache
def _population(student: str) -> ws.SumsAndCounts:
    frame = pd.read_parquet(Path(__file__).with_name("abacus_position_kl.parquet"))
    own = frame[frame["student"] == student]
    wide = (
        own.pivot(index="problem", columns="position_low", values=["reverse_kl", "tokens"])
        .reindex(range(300))
        .fillna(0.0)
    )
    sums, counts = (wide[name].to_numpy(dtype=np.float64) for name in ("reverse_kl", "tokens"))
    return sums, counts


def _log_normal() -> Draw:
    def draw(rng: np.random.Generator | None, problems: int = LARGE) -> Pair:
        chosen = np.random.default_rng(0) if rng is None else rng
        shared, own = (
            chosen.standard_normal((problems, 1)),
            chosen.standard_normal((problems, CELLS)),
        )
        logs = (shared + own) / np.sqrt(2)
        after = 0.7 * np.exp(0.8 * logs + 0.6 * chosen.standard_normal((problems, CELLS)))
        counts = np.ones((problems, CELLS))
        return (np.exp(logs), counts), (after, counts)

    return draw


POPULATIONS: dict[str, Callable[[], Draw]] = {"embedded pair": _embedded, "log-normal": _log_normal}
