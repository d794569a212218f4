"""The three signals by position, the location of the KL in a rollout, and the length derived from
it.

Tables of scored tokens in, measurements out; each checkpoint on its own rollouts. Means over tokens
have intervals that resample problems. There are two cumulative curves of the reverse KL, which
weight rollouts differently:

    survivors   sum over positions of the mean over the rollouts that reach the position, up to a
                horizon: the rule of arXiv 2605.27028, whose N is where the curve reaches 45 % of
                its end
    mass        sum over all tokens, however many rollouts reach a position: rollouts that ended
                contribute nothing

Within a position (or bin) both curves rise linearly; position p ends at p + 1, so that N is a
number of tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.maths import statistics as st
from decaylab.maths.clusters import Floats, per_problem_sums
from decaylab.maths.cumulative import METHOD, cumulative, horizon_of
from decaylab.maths.selection import COMPARED, SELECTORS, Signals, select
from decaylab.maths.token_means import interval, means, sums_by_problem
from decaylab.runs import rows as estimated
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import NEAR_AN_END, near_an_end
from decaylab.runs.vocabulary import (
    ALL,
    FRACTION,
    FRESH,
    MASS,
    MEAN_OVER_ROLLOUTS,
    NATS,
    SURVIVORS,
    TOKENS,
)
from decaylab.tokens.token_table import Scored, check_edges

PER_BIN = {  # quantity: its unit, and the divisor of its column
    "student_entropy": (NATS, "student_entropy", 1.0),
    "teacher_entropy": (NATS, "teacher_entropy", 1.0),
    "reverse_kl": (NATS, "reverse_kl", 1.0),
    "overlap_ratio": (FRACTION, "top16_overlap", 16.0),
    "student_overlap_mass": (FRACTION, "student_overlap_mass", 1.0),
    "teacher_overlap_mass": (FRACTION, "teacher_overlap_mass", 1.0),
}
TOP_PERCENT = (1, 5, 10)
CURVES = {
    SURVIVORS: "sum over positions of the mean over rollouts that reach them",
    MASS: "sum over tokens",
}
READ = ("reverse_kl", "student_entropy", "teacher_entropy")
LOGPROBS = ("student_logprob", "teacher_logprob")
KL_SHARE = "selector_kl_share"
NOTHING = "nothing to average"


@dataclass(frozen=True)
class Settings(estimated.Settings):
    """Settings of the measurement.

    edges: beginnings of the position bins, from 0; the last bin has no upper end. share: share of
    the cumulative KL that defines N. horizon: response tokens over which KL is accumulated; None
    takes each checkpoint's own (`horizon_of`), and all tokens for ``mass``. budget: number of
    tokens for selectors and concentration. add_selectors: compared beside `COMPARED`; their choice
    is the tokens to which they give a weight above 0.
    """

    edges: tuple[int, ...]
    share: float = 0.45
    horizon: int | None = None
    budget: int = 100
    add_selectors: tuple[str, ...] = ()


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """Signals, cumulative KL, concentration and selector overlap of every checkpoint on its own
    rollouts (``fresh``)."""
    check_edges(settings.edges)
    measured: list[Measurement] = []
    for each in scored:
        if each.view == FRESH:
            checkpoint = _Checkpoint(each, settings)
            measured += checkpoint.by_position()
            measured += checkpoint.cumulative()
            measured += checkpoint.concentration()
            measured += checkpoint.selectors()
    return to_frame(measured)


class _Checkpoint:
    """One checkpoint on its own rollouts."""

    def __init__(self, scored: Scored, settings: Settings) -> None:
        self.settings, self.tokens, self.lengths = settings, scored.tokens, scored.tokens.lengths
        self.place = {"view": scored.view, "checkpoint": scored.checkpoint}
        columns = [np.asarray(scored.tokens[name], dtype=np.float64) for name in READ]
        # stand for two columns that no selector of `COMPARED` reads, without memory
        logprobs: list[Floats] = [np.broadcast_to(np.nan, len(scored.tokens))] * 2
        if any(SELECTORS[name].needs_signals for name in settings.add_selectors):
            logprobs = [np.asarray(scored.tokens[name], np.float64) for name in LOGPROBS]
        self.signals = Signals(*columns, *logprobs)

    def row(
        self, what: str, condition: str, unit: str, estimate: st.Estimate, *notes: str, **more: Any
    ) -> Measurement:
        place = {**self.place, "condition": condition, **more}
        return estimated.row(self.settings, what, unit, estimate, *notes, **place)

    def by_position(self) -> Iterator[Measurement]:
        """The signals and the overlap of the top 16 tokens, per position bin."""
        edges = self.settings.edges
        bins, problems = self.tokens.bins(edges), self.tokens.token_problems
        shape = self.tokens.problem_count, len(edges)
        counts = sums_by_problem(None, problems, bins, *shape)
        places = []
        for span in estimated.spans(edges):
            reaching = int((self.tokens.reach > span["position_low"]).sum())
            places.append({"condition": ALL, **self.place, **span, "rollouts": reaching})
        measured = int(counts.any(axis=1).sum())
        cells = estimated.skewed(self.settings, places, measured)
        for what, (unit, column, whole) in PER_BIN.items():
            values: Any = getattr(self.signals, column, None)
            if values is None:
                values = self.tokens[column]
            sums = sums_by_problem(values, problems, bins, *shape) / whole
            yield from cells.levels(what, unit, (sums, counts), shared=what == "reverse_kl")

    def cumulative(self) -> Iterator[Measurement]:
        """Both cumulative curves: N, the share at each bin edge, the horizon and the threshold."""
        problems, positions = self.tokens.token_problems, self.tokens.positions
        longest, horizon = int(self.tokens.reach.max(initial=0)), self.settings.horizon
        shape = self.tokens.problem_count, max(longest, horizon or 0)
        counts = sums_by_problem(None, problems, positions, *shape)
        sums = sums_by_problem(self.signals.reverse_kl, problems, positions, *shape)
        # problems without a token are not resampled
        present = counts.any(axis=1)
        sums, counts = sums[present], counts[present]
        for condition, reach in ((SURVIVORS, horizon_of(self.tokens.reach)), (MASS, longest)):
            if horizon is not None:
                reach = horizon
            yield from self.curve(condition, sums[:, :reach], counts[:, :reach])

    def curve(self, condition: str, sums: Floats, counts: Floats) -> Iterator[Measurement]:
        """One cumulative curve, from sums and counts [problems, horizon]."""
        settings, (problems, horizon) = self.settings, sums.shape
        edges = settings.edges[1:]
        position, *shares = cumulative(
            sums,
            counts if condition == SURVIVORS else None,
            edges,
            settings.share,
            level=settings.level,
            seed=settings.seed,
        )
        # Coordinates come from the settings, never from the data; a checkpoint's own horizon has
        # its own row.
        end = math.inf if settings.horizon is None else float(horizon)
        rollouts = int((self.lengths > 0).sum())
        place: dict[str, Any] = {"position_low": 0.0, "position_high": end}
        place |= {"estimand": CURVES[condition], "tokens": int(counts.sum())}

        def given(value: float) -> st.Estimate:
            return st.Estimate(value, *st.UNDEFINED[:3], "", problems, rollouts)

        yield self.row("cumulative_kl_horizon", condition, TOKENS, given(float(horizon)), **place)
        threshold = given(settings.share)
        yield self.row("cumulative_kl_threshold", condition, FRACTION, threshold, **place)
        remark = (
            f"horizon {horizon} tokens, longest rollout {int(self.tokens.reach.max(initial=0))}"
        )
        estimate = st.Estimate(*position[:4], METHOD, problems, rollouts, position.note)
        yield self.row("cumulative_kl_position", condition, TOKENS, estimate, remark, **place)
        for edge, share in zip(edges, shares, strict=True):
            estimate = st.Estimate(*share[:4], METHOD, problems, rollouts, share.note)
            if near_an_end(share.value) and not math.isnan(share.value):
                note = estimated.joined(share.note, NEAR_AN_END)
                estimate = replace(estimate, low=math.nan, high=math.nan, note=note)
            place["position_high"] = float(edge)
            yield self.row("cumulative_kl_share", condition, FRACTION, estimate, remark, **place)

    def concentration(self) -> Iterator[Measurement]:
        """Share of a rollout's KL in its highest-KL tokens, mean over rollouts."""
        budget, kl, lengths = self.settings.budget, self.signals.reverse_kl, self.lengths
        conditions = [
            f"top-{budget}-tokens",
            *(f"top-{percent}-percent" for percent in TOP_PERCENT),
        ]
        shares = np.full((len(lengths), len(conditions)), np.nan)
        for i, (start, length) in enumerate(zip(self.tokens.starts, lengths, strict=True)):
            highest_first = np.sort(kl[start : start + length])[::-1].cumsum()
            if length and highest_first[-1] > 0:
                sizes = [min(budget, length)]
                sizes += [-(-length * percent // 100) for percent in TOP_PERCENT]
                shares[i] = highest_first[np.array(sizes) - 1] / highest_first[-1]
        counted = ~np.isnan(shares[:, 0])
        note = _rollouts(int((~counted).sum()), "without KL, left out")
        whole = int((counted & (lengths <= budget)).sum())
        short = _rollouts(whole, f"of at most {budget} tokens, whose share is 1")
        notes = [estimated.joined(note, short), *[note] * len(TOP_PERCENT)]
        yield from self.cells("kl_concentration", FRACTION, conditions, shares, counted, notes)

    def selectors(self) -> Iterator[Measurement]:
        """The selectors at one budget: their overlap, the KL they cover, the positions they
        choose."""
        budget, lengths, starts = self.settings.budget, self.lengths, self.tokens.starts
        names = (*COMPARED, *self.settings.add_selectors)
        pairs = list(itertools.combinations(range(len(names)), 2))
        overlap = np.full((len(lengths), len(pairs)), np.nan)
        covered = np.full((len(lengths), len(names)), np.nan)
        position = covered.copy()
        left, right = np.array(pairs).T
        # Every selector takes all of a rollout within the budget, so it is left out.
        positions = self.tokens.positions
        rng = np.random.default_rng(self.settings.seed)
        added_rng = np.random.default_rng([self.settings.seed, 1])  # leaves ``random`` as it is
        for i in np.flatnonzero(lengths > budget):
            tokens = slice(starts[i], starts[i] + lengths[i])
            signals = Signals(*(column[tokens] for column in self.signals))
            chosen = [select(name, signals, budget, rng) for name in COMPARED]
            chosen += [select(name, signals, budget, added_rng) for name in names[len(COMPARED) :]]
            masks = np.array(chosen, dtype=np.float64)
            sizes = masks.sum(axis=1)
            # one of the user's own may choose fewer than the budget, and none
            sizes[sizes == 0] = np.nan
            both = (masks @ masks.T)[left, right]
            overlap[i] = both / (sizes[left] + sizes[right] - both)
            position[i] = masks @ positions[tokens] / sizes
            total = signals.reverse_kl.sum()
            if total > 0:
                covered[i] = masks @ signals.reverse_kl / total
        kept = lengths > budget
        note = _rollouts(int((~kept).sum()), f"of at most {budget} tokens, left out")
        crossed = ["|".join(pair) for pair in itertools.combinations(names, 2)]
        for what, unit, conditions, values in (
            ("selector_overlap", FRACTION, crossed, overlap),
            (KL_SHARE, FRACTION, names, covered),
            ("selector_mean_position", TOKENS, names, position),
        ):
            notes = [note] * len(conditions)
            if what != KL_SHARE:
                empty = np.isnan(values[kept]).sum(axis=0)
                notes = [
                    estimated.joined(note, _rollouts(int(count), "where none is chosen, left out"))
                    for count in empty
                ]
            yield from self.cells(what, unit, conditions, values, kept, notes)

    def cells(
        self,
        what: str,
        unit: str,
        conditions: Sequence[str],
        values: Floats,
        kept: NDArray[np.bool_],
        notes: Sequence[str],
    ) -> Iterator[Measurement]:
        """Means over rollouts per condition, with clustered intervals; fractions are clipped to 0
        and 1.

        values: [rollouts, conditions], NaN where undefined. kept: the rollouts that count,
        [rollouts].
        """
        codes, known = np.arange(self.tokens.problem_count), ~np.isnan(values)
        sums = per_problem_sums(np.where(known, values, 0.0), self.tokens.problems, codes)
        mean = means(sums, per_problem_sums(known, self.tokens.problems, codes))
        low, high = interval(mean, level=self.settings.level)
        if unit == FRACTION:
            low, high = low.clip(0, 1), high.clip(0, 1)
        place = {
            "rollouts": int(kept.sum()),
            "tokens": int(self.lengths[kept].sum()),
            "estimand": MEAN_OVER_ROLLOUTS,
        }
        estimates = estimated.of_cells(
            mean, level=self.settings.level, ends=(low, high), empty=NOTHING, undefined=""
        )
        for condition, estimate, note in zip(conditions, estimates, notes, strict=True):
            if what == KL_SHARE and near_an_end(estimate.value):
                reason = estimate.note or NEAR_AN_END
                estimate = replace(estimate, low=math.nan, high=math.nan, note=reason)
            yield self.row(what, condition, unit, estimate, note, **place)


def _rollouts(count: int, which: str) -> str:
    return f"{count} rollouts {which}" if count else ""
