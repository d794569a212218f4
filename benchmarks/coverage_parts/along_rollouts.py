"""Values along rollouts of Markov policies, whose law is known: how often the intervals hold the
truth of what the whole measurement finds.

The student's rollouts, which end at their own times, are prefixes at three positions; each prefix
is continued 8 times by each policy. The truth is a sum over (kind of problem, last token,
position), or over every text that a segment can hold (`tests/helpers/markov_values.py`). The goal
is coverage of .90 to .98 at 30 problems and of .92 to .97 at 200.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from coverage_parts import error
from decaylab.analyses.value_signals import _Labels
from decaylab.analyses.values import mean_value
from decaylab.maths.noisy_values import change_and_signal
from decaylab.maths.statistics import Estimate, paired_difference
from decaylab.runs.value_prefixes import POSITION, segments, values
from decaylab.runs.vocabulary import ALL_PREFIXES, SAME_POSITION, SAME_PROBLEM

sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "helpers"))

import markov
from markov_values import LOG_RATIO, ValueLaw, sampled

GRID, MAX_TOKENS, SAMPLES, DRAWS = (0, 2, 4), 12, 2, 8
LAW = ValueLaw(markov.decaying_world(), MAX_TOKENS, GRID)


def estimates(found: pd.DataFrame) -> Iterator[tuple[str, Estimate]]:
    for position in GRID:
        rows = found[found["position"] == position]
        problems = rows["problem"].to_numpy()
        for role in ("student", "teacher"):
            right, drawn = rows[f"{role}_right"], rows[f"{role}_draws"]
            yield f"value of {role} at {position}", mean_value(right, drawn, rows["problem"], 0.95)
        both = values(rows, "teacher"), values(rows, "student")
        yield f"advantage at {position}", paired_difference(*both, problems)
    between = segments(found, GRID)
    for start, end in zip(GRID, GRID[1:]):
        part = between.only((between.starts["position"] == start).to_numpy())
        moved = change_and_signal(
            part.starts["score"],
            part.start("student"),
            part.end("student"),
            part.starts["problem"],
        )
        yield f"covariance, {start} to {end}", moved.covariance
    later = found[found["position"] > 0]
    labels = _Labels(later, later["student_right"].to_numpy(), later["student_draws"].to_numpy())
    for signal, comparison in (
        (POSITION, ALL_PREFIXES),
        (LOG_RATIO, SAME_POSITION),
        (LOG_RATIO, SAME_PROBLEM),
    ):
        scores = later[signal].to_numpy(dtype=np.float64)
        yield f"AUROC of {signal}, {comparison}", labels.area(scores, comparison, 0.95)


def truths(problems: int) -> Iterator[float]:
    """In the order of `estimates`."""
    for position in GRID:
        yield LAW.value("student", position)
        yield LAW.value("teacher", position)
        yield LAW.advantage(position)
    for start, end in zip(GRID, GRID[1:]):
        yield LAW.covariance(start, end)
    yield LAW.auroc_of_position(problems, SAMPLES)
    for same_problem in (False, True):
        yield LAW.auroc_of_log_ratio(problems, SAMPLES, same_problem)


def rows(draws: int) -> Iterator[dict[str, Any]]:
    for problems in (30, 200):
        rng, truth = np.random.default_rng(problems), [*truths(problems)]
        runs = [[*estimates(sampled(LAW, problems, SAMPLES, DRAWS, rng))] for _ in range(draws)]
        for place, true in enumerate(truth):
            some = [run[place][1] for run in runs]
            ends = np.array([(each.value, each.low, each.high) for each in some])
            known = ~np.isnan(ends[:, 1])
            inside = (ends[known, 1] <= true) & (true <= ends[known, 2])
            share = float(inside.mean()) if known.any() else float("nan")
            yield {
                "case": runs[0][place][0],
                "problems": problems,
                "truth": true,
                "bias": float(np.nanmean(ends[:, 0]) - true),
                "bias_error": float(np.nanstd(ends[:, 0]) / np.sqrt(draws)),
                "coverage": share,
                "coverage_error": error(share, draws),
                "without_interval": float((~known).mean()),
            }
