"""The three signals by position, where in a rollout the KL lies, and the rollout length that
follows from it.

Tables of scored tokens in, measurements out; each checkpoint on its own rollouts. Means over tokens
have intervals that resample problems. Two cumulative curves of the reverse KL, since they differ in
what each rollout counts for:

    survivors   sum over positions of the mean over the rollouts that reach the position, up to a
                horizon: the rule of arXiv 2605.27028, whose N is where the curve has reached 45 %
                of its end
    mass        sum of all tokens, however many rollouts are left: long rollouts do not count for
    those that ended

Inside a position (or a bin) both curves rise linearly; position p ends at p + 1, so that N is a
number of tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from decaylab.maths.clusters import Floats, per_problem_sums
from decaylab.maths.cumulative import METHOD, Bootstrapped, cumulative, horizon_of
from decaylab.maths.selection import Signals, select
from decaylab.maths.statistics import ALIKE, ONE_PROBLEM
from decaylab.maths.token_means import CellMeans, interval, means, sums_by_problem
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import NEAR_AN_END, Cells, near_an_end
from decaylab.tokens.token_table import Scored, check_edges

PER_BIN = {  # what: its unit, and what its column is divided by
    "student_entropy": ("nats", "student_entropy", 1.0),
    "teacher_entropy": ("nats", "teacher_entropy", 1.0),
    "reverse_kl": ("nats", "reverse_kl", 1.0),
    "overlap_ratio": ("fraction", "top16_overlap", 16.0),
    "student_overlap_mass": ("fraction", "student_overlap_mass", 1.0),
    "teacher_overlap_mass": ("fraction", "teacher_overlap_mass", 1.0),
}
TOP_PERCENT = (1, 5, 10)
CURVES = {
    "survivors": "sum over positions of the mean over rollouts that reach them",
    "mass": "sum over tokens",
}
OVER_ROLLOUTS = "mean over rollouts"
READ = ("reverse_kl", "student_entropy", "teacher_entropy")
# compared here: the windows, random, and the paper's signals and products, each at the same budget
SELECTORS = (
    "prefix",
    "suffix",
    "middle",
    "random",
    "top-reverse-kl",
    "top-student-entropy",
    "top-teacher-entropy",
    "top-reverse-kl-x-student-entropy",
    "top-teacher-entropy-x-student-entropy",
    "top-all-three",
)


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    edges: where the position bins begin, from 0; the last is open. share: of the KL, where N is
    taken. horizon: response tokens over which the KL is cumulated, for every checkpoint; None takes
    each checkpoint's own (`horizon_of`), all of its tokens for ``mass``. budget: tokens that
    selectors choose and that concentration asks about.
    """

    edges: tuple[int, ...]
    share: float = 0.45
    horizon: int | None = None
    budget: int = 100
    level: float = 0.95
    seed: int = 0
    run: str = ""


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """Signals, cumulative KL, concentration and selector overlap of every checkpoint on its own
    rollouts (``fresh``)."""
    check_edges(settings.edges)
    return to_frame(
        row for one in scored if one.view == "fresh" for row in _Checkpoint(one, settings).rows()
    )


class _Checkpoint:
    """One checkpoint on its own rollouts."""

    def __init__(self, one: Scored, settings: Settings) -> None:
        self.one, self.settings, self.tokens = one, settings, one.tokens
        columns = [np.asarray(one.tokens[name], dtype=np.float64) for name in READ]
        unread = np.broadcast_to(np.nan, len(one.tokens))  # stands for a column without its memory
        self.signals = Signals(*columns, *[unread] * 2)

    def rows(self) -> Iterable[Measurement]:
        yield from self.by_position()
        yield from self.cumulative()
        yield from self.concentration()
        yield from self.selectors()

    def row(self, what: str, condition: str, value: float, unit: str, **more: Any) -> Measurement:
        settings, one = self.settings, self.one
        common = {
            "view": one.view,
            "checkpoint": one.checkpoint,
            "level": settings.level,
            "seed": settings.seed,
        }
        return Measurement(what, condition, value, unit, **{**common, "run": settings.run, **more})

    def cells(
        self,
        what: str,
        unit: str,
        conditions: Sequence[str],
        found: CellMeans,
        places: Sequence[dict[str, Any]],
    ) -> Iterable[Measurement]:
        """A row for each cell with its clustered interval; an interval of fractions ends at 0 and
        1."""
        low, high = interval(found, level=self.settings.level)
        if unit == "fraction":
            low, high = low.clip(0, 1), high.clip(0, 1)
        ends = np.array([near_an_end(value) for value in found.value], dtype=bool) & (
            what == "selector_kl_share"
        )
        low, high = np.where(ends, math.nan, low), np.where(ends, math.nan, high)
        kept = (found.value, low, high, found.standard_error, found.problems, found.alike)
        columns = [column.tolist() for column in (*kept, ends)]
        for condition, place, value, *numbers_, problems, alike, at_end in zip(
            conditions, places, *columns, strict=True
        ):
            several = ALIKE if alike else NEAR_AN_END if at_end else ""
            lacking = several if problems > 1 else ONE_PROBLEM if problems else "nothing to average"
            numbers = dict(
                zip(("low", "high", "standard_error"), numbers_),
                problems=problems,
                method=found.method,
            )
            note = _joined(lacking, place.get("note", ""))
            yield self.row(what, condition, value, unit, **{**place, **numbers, "note": note})

    def by_position(self) -> Iterable[Measurement]:
        """The signals and the overlap of the 16 most likely tokens, per position bin."""
        edges, settings = self.settings.edges, self.settings
        bins, problems = self.tokens.bins(edges), self.tokens.token_problems
        shape = self.tokens.problem_count, len(edges)
        counts = sums_by_problem(None, problems, bins, *shape)
        common = {
            "condition": "all",
            "view": self.one.view,
            "checkpoint": self.one.checkpoint,
            "run": settings.run,
        }
        places = [
            {
                "position_low": float(low),
                "position_high": high,
                "rollouts": int((self.tokens.lengths > low).sum()),
            }
            for low, high in itertools.pairwise((*edges, math.inf))
        ]
        measured = int(counts.any(axis=1).sum())
        cells = Cells(
            [{**common, **place} for place in places],
            measured,
            level=settings.level,
            seed=settings.seed,
        )
        for what, (unit, column, whole) in PER_BIN.items():
            held = getattr(self.signals, column, None)
            values = self.tokens[column] if held is None else held
            sums = sums_by_problem(values, problems, bins, *shape) / whole
            yield from cells.levels(what, unit, (sums, counts), shared=what == "reverse_kl")

    def cumulative(self) -> Iterable[Measurement]:
        """Both cumulative curves: N, the share at each bin edge, the horizon and the threshold."""
        problems, positions, lengths = (
            self.tokens.token_problems,
            self.tokens.positions,
            self.tokens.lengths,
        )
        longest, horizon = int(lengths.max(initial=0)), self.settings.horizon
        shape = self.tokens.problem_count, max(longest, horizon or 0)
        counts = sums_by_problem(None, problems, positions, *shape)
        present = counts.any(axis=1)
        sums, counts = (
            sums_by_problem(self.signals.reverse_kl, problems, positions, *shape)[present],
            counts[present],
        )
        for condition, own in (("survivors", horizon_of(lengths)), ("mass", longest)):
            upto = own if horizon is None else horizon
            yield from self.curve(condition, sums[:, :upto], counts[:, :upto])

    def curve(self, condition: str, sums: Floats, counts: Floats) -> Iterable[Measurement]:
        """One cumulative curve, of sums and counts [problems, horizon]."""
        settings, (problems, horizon), lengths = self.settings, sums.shape, self.tokens.lengths
        edges = settings.edges[1:]
        position, *shares = cumulative(
            sums,
            counts if condition == "survivors" else None,
            edges,
            settings.share,
            level=settings.level,
            seed=settings.seed,
        )
        common = {
            "position_low": 0.0,
            # a coordinate comes from the settings, never from the data: of a horizon of its own the
            # row below says it
            "position_high": math.inf if settings.horizon is None else float(horizon),
            "estimand": CURVES[condition],
            "problems": problems,
            "rollouts": int((lengths > 0).sum()),
            "tokens": int(counts.sum()),
        }
        yield self.row("cumulative_kl_horizon", condition, float(horizon), "tokens", **common)
        yield self.row("cumulative_kl_threshold", condition, settings.share, "fraction", **common)
        common |= {"method": METHOD}
        remark = f"horizon {horizon} tokens, longest rollout {int(lengths.max(initial=0))}"
        yield self.row(
            "cumulative_kl_position",
            condition,
            unit="tokens",
            **{**common, **_noted(position, remark)},
        )
        for edge, share in zip(edges, shares, strict=True):
            place = {**common, "position_high": float(edge), **_noted(_decided(share), remark)}
            yield self.row("cumulative_kl_share", condition, unit="fraction", **place)

    def concentration(self) -> Iterable[Measurement]:
        """Share of a rollout's KL that its highest tokens hold, mean over rollouts."""
        budget, kl, lengths = self.settings.budget, self.signals.reverse_kl, self.tokens.lengths
        conditions = [
            f"top-{budget}-tokens",
            *(f"top-{percent}-percent" for percent in TOP_PERCENT),
        ]
        shares = np.full((len(lengths), len(conditions)), np.nan)
        for i, (start, length) in enumerate(zip(self.tokens.starts, lengths, strict=True)):
            held = np.sort(kl[start : start + length])[::-1].cumsum()
            if length and held[-1] > 0:
                sizes = [
                    min(budget, length),
                    *(-(-length * percent // 100) for percent in TOP_PERCENT),
                ]
                shares[i] = held[np.array(sizes) - 1] / held[-1]
        left = ~np.isnan(shares[:, 0])
        note = _counted(int((~left).sum()), "without KL left out")
        short = _counted(
            int((left & (lengths <= budget)).sum()), f"of at most {budget} tokens, whose share is 1"
        )
        place = {
            "rollouts": int(left.sum()),
            "tokens": int(lengths[left].sum()),
            "estimand": OVER_ROLLOUTS,
        }
        notes = [_joined(note, short), *[note] * len(TOP_PERCENT)]
        found = self.over_rollouts(shares)
        yield from self.cells(
            "kl_concentration", "fraction", conditions, found, [{**place, "note": n} for n in notes]
        )

    def over_rollouts(self, values: Floats) -> CellMeans:
        """Means over the rollouts that have a value, [rollouts, cells]."""
        codes, known = np.arange(self.tokens.problem_count), ~np.isnan(values)
        sums, counts = (
            per_problem_sums(x, self.tokens.problems, codes)
            for x in (np.where(known, values, 0.0), known)
        )
        return means(sums, counts)

    def selectors(self) -> Iterable[Measurement]:
        """What the selectors choose at one budget: their overlap, the KL they cover, where they
        look."""
        budget, lengths, starts = self.settings.budget, self.tokens.lengths, self.tokens.starts
        pairs = list(itertools.combinations(range(len(SELECTORS)), 2))
        shared = np.full((len(lengths), len(pairs)), np.nan)
        covered, position = (np.full((len(lengths), len(SELECTORS)), np.nan) for _ in range(2))
        left, right = np.array(pairs).T
        rng = np.random.default_rng(self.settings.seed)
        for i in np.flatnonzero(lengths > budget):
            start = starts[i]
            own = Signals(*(column[start : start + lengths[i]] for column in self.signals))
            masks = np.array(
                [select(name, own, budget, rng) for name in SELECTORS], dtype=np.float64
            )
            both = (masks @ masks.T)[left, right]
            shared[i] = both / (2 * budget - both)
            position[i] = masks @ np.arange(lengths[i]) / budget
            total = own.reverse_kl.sum()
            if total > 0:
                covered[i] = masks @ own.reverse_kl / total
        kept = lengths > budget
        note = _counted(int((~kept).sum()), f"of at most {budget} tokens left out")
        place = {
            "rollouts": int(kept.sum()),
            "tokens": int(lengths[kept].sum()),
            "estimand": OVER_ROLLOUTS,
            "note": note,
        }
        names, crossed = (
            SELECTORS,
            ["|".join(pair) for pair in itertools.combinations(SELECTORS, 2)],
        )
        for what, unit, conditions, values in (
            ("selector_overlap", "fraction", crossed, shared),
            ("selector_kl_share", "fraction", names, covered),
            ("selector_mean_position", "tokens", names, position),
        ):
            yield from self.cells(
                what, unit, conditions, self.over_rollouts(values), [place] * len(conditions)
            )


def _decided(share: Bootstrapped) -> Bootstrapped:
    """Without its interval where a few problems decide it."""
    if math.isnan(share.value) or not near_an_end(share.value):
        return share
    return Bootstrapped(
        share.value, math.nan, math.nan, share.standard_error, _joined(share.note, NEAR_AN_END)
    )


def _noted(estimate: Bootstrapped, remark: str) -> dict[str, Any]:
    """The estimate as columns of a measurement, with a remark after its note."""
    return {**estimate._asdict(), "note": _joined(estimate.note, remark)}


def _counted(count: int, text: str) -> str:
    return f"{count} rollouts {text}" if count else ""


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))
