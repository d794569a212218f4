"""Verdicts on data of a known truth: how often a claim is wrongly called, and how often an effect
is found.

Sweeps: every run is a student whose accuracy differs from its arm's by a normal draw of SEED_SD;
problems differ in difficulty and each run in what it finds hard. Equal arms are all of one
accuracy, so that whatever is shown of them is wrong. The rows are those of `analyses.sweep`, with
the normal limit of the sign-flip test for its p-value.

Reverse KL by position: problem means are log-normal with sigma 1, half of their variance their own
in each bin, and a third of the rollouts end before the last bin. Seeds: a fifth of the runs
collapse by 30 points.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm, t

from coverage_parts import error
from decaylab.claims import on_tokens, verdicts
from decaylab.claims.judge import RULES
from decaylab.claims.sweep_arms import Arms
from decaylab.maths import seeds as over
from decaylab.maths.statistics import holm
from decaylab.runs.found_runs import FoundRun, Pair
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import Cells
from decaylab.runs.vocabulary import ONE_RUN, OVER_SEEDS, THESE_SEEDS

Floats = NDArray[np.float64]
PROBLEMS, ROLLOUTS, SEED_SD = 300, 4, 0.02
SLOPE = 0.18  # of the mean accuracy on the logit of every problem, at the mean
LENGTHS = {f"prefix-{n}": ("prefix", float(n)) for n in (5, 10, 20, 40, 60)}
SELECTORS = {
    **{"prefix-20": ("prefix", 20.0), "suffix-20": ("suffix", math.inf)},
    **{name: (name, math.inf) for name in ("importance", "rising")},
    **{
        f"{name}-20": (name, math.inf)
        for name in ("top-reverse-kl", "top-student-entropy", "top-teacher-entropy")
    },
}
CLAIMS = {
    "early-stopping-beats-full": LENGTHS,
    "peak-between": LENGTHS,
    "selectors-worse": SELECTORS,
    "first-beats-last": SELECTORS,
    "falling-weights": SELECTORS,
    "rising-weights": SELECTORS,
}
WHAT = "avg_at_1"


def found_run(command: str, rows: Sequence[Measurement]) -> FoundRun:
    run = FoundRun(Path("simulated"), "simulated", command, {}, Pair("student", "teacher"))
    run.__dict__["measurements"] = to_frame(rows)  # where the cached property keeps what it read
    return run


# Sweeps


def graded(count: int, better: float, difficulty: Floats, rng: np.random.Generator) -> Floats:
    """Grades of so many runs of an arm, which is better by so much, [seeds, problems]."""
    run = rng.normal(better, SEED_SD, (count, 1)) / SLOPE
    own = rng.normal(0, 0.7, (count, difficulty.size))
    return (rng.random(own.shape) < expit(logit(difficulty) + run + own)).astype(np.float64)


def swept(
    arms: Mapping[str, tuple[str, float]],
    count: int,
    better: Mapping[str, float],
    rng: np.random.Generator,
) -> FoundRun:
    """A sweep of these arms and full rollouts with so many seeds, over a student before training
    that is 20 points behind."""
    difficulty = np.clip(rng.beta(1.8, 1.2, PROBLEMS), 0.01, 0.99)
    grades = {
        name: graded(count, better.get(name, 0.0), difficulty, rng) for name in (*arms, "full")
    }
    before = graded(1, -0.2, difficulty, rng)
    rows = []
    for ending, other in (("_minus_full", grades["full"]), ("_minus_base", before)):
        rows += differences(arms, {name: grades[name] - other for name in arms}, WHAT + ending)
    for name, (selector, length) in arms.items():
        place = {"checkpoint": name, "selector": selector, "rollout_length": length}
        rows.append(
            Measurement(WHAT, "rule", 0.5, "fraction", view="last", estimand=THESE_SEEDS, **place)
        )
        rows.append(Measurement("tokens_ratio", "generation", length / 80, "ratio", **place))
    return found_run("sweep rollout-length", rows)


def differences(
    arms: Mapping[str, tuple[str, float]], found: Mapping[str, Floats], what: str
) -> list[Measurement]:
    """Rows of paired differences, [seeds, problems] each, with Holm's correction over the arms."""
    by_problem = np.stack([one.mean(axis=0) for one in found.values()])
    value = by_problem.mean(axis=1)
    spread = by_problem.std(axis=1, ddof=1) / math.sqrt(PROBLEMS)
    p_values = holm(
        2
        * norm.sf(np.abs(by_problem.sum(axis=1)) / np.sqrt((by_problem**2).sum(axis=1).clip(1e-12)))
    )
    means = [
        over.over_seeds(
            one.mean(axis=1), apart=over.apart_by(one.std(axis=1) / math.sqrt(PROBLEMS))
        )
        for one in found.values()
    ]
    p_seeds = holm([one.p_value for one in means])
    reach, rows = t.ppf(0.975, PROBLEMS - 1), []
    for at, (name, one) in enumerate(found.items()):
        selector, length = arms[name]
        place: dict[str, Any] = {
            "view": "last",
            "checkpoint": name,
            "selector": selector,
            "rollout_length": length,
        }
        place |= {"problems": PROBLEMS, "step": 100.0}
        ends = {
            "low": value[at] - reach * spread[at],
            "high": value[at] + reach * spread[at],
            "p_value_holm": p_values[at],
        }
        rows.append(
            Measurement(what, "rule", value[at], "fraction", estimand=THESE_SEEDS, **place, **ends)
        )
        ends = {"low": means[at].low, "high": means[at].high, "p_value_holm": p_seeds[at]}
        rows.append(
            Measurement(
                what, "rule", means[at].value, "fraction", estimand=OVER_SEEDS, **place, **ends
            )
        )
        errors = one.std(axis=1, ddof=1) / math.sqrt(PROBLEMS)
        rows += [
            Measurement(
                what,
                "rule",
                row.mean(),
                "fraction",
                estimand=ONE_RUN,
                training_seed=float(seed),
                standard_error=errors[seed],
                **place,
            )
            for seed, row in enumerate(one)
        ]
    return rows


def sweeps(
    count: int,
    draws: int,
    better: Mapping[str, float],
    claims: Sequence[str] = tuple(CLAIMS),
    seed: int = 0,
) -> dict[str, Counter[str]]:
    """How often each claim had which verdict."""
    rng = np.random.default_rng([seed, count, len(better)])
    found: dict[str, Counter[str]] = {name: Counter() for name in claims}
    for _ in range(draws):
        for arms in (LENGTHS, SELECTORS):
            asked = {name: RULES[name] for name in claims if CLAIMS[name] is arms}
            if not asked:
                continue
            run = swept(arms, count, better, rng)
            with mock.patch.object(
                Arms, "of", return_value=Arms.of(run)
            ):  # read once for all claims
                for name, rule in asked.items():
                    judged = rule(run)
                    assert judged is not None
                    found[name][judged.verdict] += 1
    return found


# Reverse KL by position


EDGES = (0, 5, 10, 20, 30, 40, 60, 80)


def early(problems: int, draws: int, falls: float = 1.0, seed: int = 0) -> Counter[str]:
    """Verdicts on early-kl where the KL of the first five positions is so many times that of all
    others.

    Problem means are log-normal of sigma 1, in part their own in each bin; two problems in three
    reach the last bin.
    """
    rng = np.random.default_rng([seed, problems, int(100 * falls)])
    found: Counter[str] = Counter()
    width = np.diff(EDGES)
    for _ in range(draws):
        whole = rng.random((problems, ROLLOUTS)) >= 1 / 3
        counts = np.stack(
            [
                whole.sum(axis=1) * 20 if low == 60 else np.full(problems, ROLLOUTS * size)
                for low, size in zip(EDGES, width)
            ],
            axis=1,
        ).astype(np.float64)
        shared, own = (
            rng.standard_normal((problems, 1)),
            rng.standard_normal((problems, len(width))),
        )
        level = np.exp((shared + own) / math.sqrt(2)) * np.where(
            np.arange(len(width)) == 0, falls, 1.0
        )
        judged = on_tokens.early(by_bin(counts, counts * level))
        assert judged is not None
        found[judged.verdict] += 1
    return found


def by_bin(counts: Floats, sums: Floats) -> FoundRun:
    """Rows of the reverse KL by position, from tokens and their KL by problem, [problems, bins]."""
    places = [
        {
            "condition": "all",
            "view": "fresh",
            "checkpoint": "base",
            "position_low": float(low),
            "position_high": float(high),
        }
        for low, high in pairwise(EDGES)
    ]
    return found_run(
        "position-kl", [*Cells(places, len(counts)).levels("reverse_kl", "nats", (sums, counts))]
    )


# Seeds of which some collapse


def collapsing(count: int, draws: int, seed: int = 0) -> dict[str, float]:
    """Student's t, where a fifth of the runs lose 30 points: how often it is printed, holds the
    mean, and must not be."""
    rng = np.random.default_rng([seed, count])
    fallen = rng.random((draws, count)) < 0.2
    values = rng.normal(0.6, SEED_SD, fallen.shape) - 0.3 * fallen
    plain = [over.over_seeds(one) for one in values]
    ruled = [over.over_seeds(one, apart=over.APART) for one in values]
    truth, mixed = 0.6 - 0.3 * 0.2, fallen.any(axis=1) & ~fallen.all(axis=1)
    printed = np.array([not math.isnan(one.low) for one in ruled])
    return {
        "coverage_of_every_t": float(np.mean([one.low <= truth <= one.high for one in plain])),
        "disagree_where_some_collapsed": float(1 - printed[mixed].mean()),
        "disagree_where_none_or_all_did": float(1 - printed[~mixed].mean()),
        "sweeps_in_which_no_collapse_is_seen": float(np.mean(~fallen.any(axis=1))),
    }


def counted(found: Counter[str], draws: int, **case: Any) -> dict[str, Any]:
    """A row: the rate of each verdict, and that of the two that say that something was shown, with
    its error."""
    rates = {
        name: found[name] / draws for name in verdicts.VERDICTS if name != verdicts.NOT_MEASURED
    }
    shown = rates[verdicts.HOLDS] + rates[verdicts.CONTRADICTED]
    return {
        **case,
        **{name.replace(" ", "_"): rate for name, rate in rates.items()},
        "shown": shown,
        "error": error(shown, draws),
    }


def equal_arms(count: int, draws: int) -> list[dict[str, Any]]:
    """Of arms that are all equally good: whatever is shown is wrong."""
    found = sweeps(count, draws, {})
    return [
        counted(one, draws, case="equal arms", claim=name, seeds=count)
        for name, one in found.items()
    ]


def by_position(problems: int, draws: int, falls: float) -> dict[str, Any]:
    case = "no effect of position" if falls == 1 else f"{falls:g} times the KL at 0 to 4"
    return counted(
        early(problems, draws, falls), draws, case=case, claim="early-kl", problems=problems
    )


def disagreement(count: int, draws: int) -> list[dict[str, Any]]:
    found = collapsing(count, draws)
    case = {"case": "a fifth of the runs collapse", "seeds": count}
    return [
        {**case, "claim": name, "shown": rate, "error": error(rate, draws)}
        for name, rate in found.items()
    ]


def rows(draws: int) -> Iterator[dict[str, Any]]:
    for count in (3, 5):
        yield from equal_arms(count, draws)
    for problems in (60, 300):
        yield by_position(problems, draws, 1.0)
    for count in (3, 5):
        yield from disagreement(count, draws)
