"""Category KL: in what kind of text student and teacher disagree, and at which tokens most.

Token statistics in, measurements out; no model, no file. Categories are those of the decoded text
(decaylab.tokens.categories); the numbers that the paper prints are means over tokens of the base
student's own rollouts (view ``fresh``). Every interval resamples problems. Condition ``all``
throughout:

    reverse_kl             of a category, by position bin, nats mean_reverse_kl        of a
    category, over all positions kl_share, token_share  of a category in the whole: fractions
    token_mean_reverse_kl  of the tokens where it is highest or makes up most of the whole, nats;
    token_kl_share: that part

A few problems may hold much of such a mean: it has no interval, and the winsorised mean beside it
has one (`decaylab.runs.skewed_cells`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats, Ints, per_problem_sums
from decaylab.maths.statistics import ALIKE, ONE_PROBLEM
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import NEAR_AN_END, near_an_end
from decaylab.runs.skewed_cells import Cells as SkewedCells
from decaylab.tokens.categories import CategoryRules
from decaylab.tokens.pieces import visible
from decaylab.tokens.token_table import Scored, check_edges

NO_KL = "no KL to share, or that of some token is not finite"
OF_TOKENS = "token_share"  # its interval holds for rare categories too
EVERYWHERE = {"position_low": 0.0, "position_high": math.inf}
SHARE_NAMES: dict[tm.Estimand, str] = {
    "tokens": "share of the total",
    "problems": "mean of problem shares",
}


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    edges: where the position bins begin, ascending from 0; the last is open. min_count: how often a
    token must occur to be listed. top_tokens: how many are listed by mean KL, and as many by their
    share of the KL; both by tokens, whatever the estimand. level: of every interval.

    Raises ValueError for edges that do not ascend from 0.
    """

    edges: tuple[int, ...] = (0, 5, 20, 50, 100, 200, 500)
    min_count: int = 50
    top_tokens: int = 20
    estimand: tm.Estimand = "tokens"
    level: float = 0.95
    seed: int = 0
    run: str = ""

    def __post_init__(self) -> None:
        check_edges(self.edges)


@dataclass(frozen=True)
class Cells:
    """Tokens gathered in cells: their number and KL by problem, [problems, cells], and rollouts
    with one, [cells]."""

    counts: Floats
    sums: Floats
    rollouts: Ints

    @property
    def tokens(self) -> Ints:
        return np.asarray(self.counts.sum(axis=0), dtype=np.int64)


def measure(
    scored: Sequence[Scored], settings: Settings, rules: CategoryRules, end_ids: Collection[int]
) -> pd.DataFrame:
    """Every measurement that the token statistics allow.

    ``tokens`` counts those of the category or the token. ``rollouts`` and ``problems`` are those
    that hold one; behind a share stand all that have a token (of the KL: all problems that have
    KL).

    Args:
        scored: checkpoints and views, measured each by itself.
        settings: bins, which tokens are listed, estimand and level.
        rules: the categories.
        end_ids: ids of end-of-turn tokens, which are category ``end_of_turn``.
    """
    frozen = {
        id(one.tokens) for one in scored if one.view == "frozen"
    }  # all the same text: classified once
    known: dict[str, NDArray[np.int8]] = {}
    rows: list[Measurement] = []
    for one in scored:
        found = _One(one, settings, rules, end_ids)
        text = "frozen" if id(one.tokens) in frozen else one.checkpoint
        if text not in known:
            known[text] = found.codes()
        rows += found.rows(known[text])
    return to_frame(rows)


class _One:
    """One checkpoint over one set of rollouts."""

    def __init__(
        self, one: Scored, settings: Settings, rules: CategoryRules, end_ids: Collection[int]
    ) -> None:
        self.table, self.settings, self.rules = one.tokens, settings, rules
        self.place: dict[str, Any] = {
            "condition": "all",
            "view": one.view,
            "checkpoint": one.checkpoint,
        }
        self.kl = np.asarray(one.tokens["reverse_kl"], dtype=np.float64)
        self.ends = np.isin(one.tokens["token_id"], list(end_ids))
        self.rollouts = np.repeat(np.arange(one.tokens.lengths.size), one.tokens.lengths)
        self.whole = self.cells(*self.by_rollout(np.zeros(len(one.tokens), dtype=np.int8), 1))

    def by_rollout(self, of_tokens: NDArray[np.integer], count: int) -> tuple[Floats, Floats]:
        """Tokens and KL in each cell, [rollouts, cells]. of_tokens: the cell of each, negative for
        none, [tokens]."""
        size = (self.table.lengths.size, count)
        counts = tm.sums_by_problem(None, self.rollouts, of_tokens, *size)
        return counts, tm.sums_by_problem(self.kl, self.rollouts, of_tokens, *size)

    def cells(self, counts: Floats, sums: Floats) -> Cells:
        """From what the rollouts hold, [rollouts, cells]."""
        problems, codes = self.table.problems, np.arange(self.table.problem_count)
        held = np.asarray((counts > 0).sum(axis=0), dtype=np.int64)
        return Cells(
            per_problem_sums(counts, problems, codes), per_problem_sums(sums, problems, codes), held
        )

    def codes(self) -> NDArray[np.int8]:
        """Category of each token, [tokens]."""
        return self.rules.classify(
            np.asarray(self.table["token"], dtype=object), self.table.lengths, self.ends
        )

    def rows(self, codes: NDArray[np.int8]) -> Iterable[Measurement]:
        yield from self.by_category(codes)
        yield from self.by_token(np.asarray(self.table["token"], dtype=object), codes)

    def by_category(self, codes: NDArray[np.int8]) -> Iterable[Measurement]:
        names, edges = self.rules.names, self.settings.edges
        binned = self.by_rollout(
            codes * np.int64(len(edges)) + self.table.bins(edges), len(names) * len(edges)
        )
        spans = [
            {"position_low": float(low), "position_high": high}
            for low, high in pairwise((*edges, math.inf))
        ]
        labels = [{"category": name, **span} for name in names for span in spans]
        yield from self.means("reverse_kl", self.cells(*binned), labels)
        cells = self.cells(
            *(np.add.reduceat(one, np.arange(len(names)) * len(edges), axis=1) for one in binned)
        )
        labels = [{"category": name, **EVERYWHERE} for name in names]
        yield from self.means("mean_reverse_kl", cells, labels)
        yield from self.shares("kl_share", cells, cells.sums, self.whole.sums, labels)
        yield from self.shares(OF_TOKENS, cells, cells.counts, self.whole.counts, labels)

    def by_token(self, pieces: NDArray[Any], categories: NDArray[np.int8]) -> Iterable[Measurement]:
        """The highest-KL tokens. What reads the same is the same token, with its leading space or
        without.

        Their category is the one that most of their occurrences in the responses have; the note
        names any others.
        """
        codes, texts = pd.factorize(pieces)
        chosen = self.highest(codes, len(texts))
        cell_of = np.full(len(texts), -1)
        cell_of[chosen] = np.arange(chosen.size)
        places = cell_of[codes]
        labels = [
            {"token": visible(texts[code]), **self.kinds(categories[places == cell]), **EVERYWHERE}
            for cell, code in enumerate(chosen)
        ]
        cells = self.cells(*self.by_rollout(places, chosen.size))
        yield from self.means("token_mean_reverse_kl", cells, labels)
        yield from self.shares("token_kl_share", cells, cells.sums, self.whole.sums, labels)

    def kinds(self, codes: NDArray[np.int8]) -> dict[str, str]:
        """The category of most occurrences of a token, and a note of how often it has which
        others."""
        counts = np.bincount(codes, minlength=len(self.rules.names))
        first, *others = np.argsort(-counts, kind="stable")
        told = [
            f"{self.rules.names[code]} in {counts[code]} of {codes.size} places"
            for code in others
            if counts[code]
        ]
        return {"category": self.rules.names[first], "note": ", ".join(told)}

    def highest(self, codes: Ints, count: int) -> Ints:
        """Codes of the tokens to list: by mean KL, then those that only the share brings in. Ties:
        the first to occur."""
        counts, sums = (
            np.bincount(codes, minlength=count),
            np.bincount(codes, self.kl, minlength=count),
        )
        frequent = np.flatnonzero(counts >= max(self.settings.min_count, 1))
        order = [np.argsort(-by[frequent], kind="stable") for by in (sums / counts, sums)]
        listed = [frequent[ranks[: self.settings.top_tokens]] for ranks in order]
        return np.array(list(dict.fromkeys(np.concatenate(listed).tolist())), dtype=np.int64)

    def means(
        self, what: str, cells: Cells, labels: Sequence[dict[str, Any]]
    ) -> Iterable[Measurement]:
        """Mean reverse KL of each cell."""
        settings, common = self.settings, {**self.place, "run": self.settings.run}
        places = [
            {**common, **label, "rollouts": int(n)}
            for label, n in zip(labels, cells.rollouts, strict=True)
        ]
        problems = int((self.whole.counts > 0).sum())
        skewed = SkewedCells(
            places, problems, settings.estimand, settings.level, settings.seed, banded=False
        )
        yield from skewed.levels(what, "nats", (cells.sums, cells.counts))

    def shares(
        self,
        what: str,
        cells: Cells,
        parts: Floats,
        whole: Floats,
        labels: Sequence[dict[str, Any]],
    ) -> Iterable[Measurement]:
        """What share of a whole each cell holds. A ratio of sums is the mean of parts with wholes
        in place of counts."""
        if not np.isfinite(
            whole
        ).all():  # a problem must not drop out of the shares for want of a finite total
            parts, whole = np.zeros_like(parts), np.zeros_like(whole)
        share = tm.means(parts, np.broadcast_to(whole, parts.shape), self.settings.estimand)
        varies, small = (
            share.standard_error > 0,
            np.array([near_an_end(value) for value in share.value], dtype=bool),
        )
        small &= what != OF_TOKENS
        ends = [
            np.where(varies & ~small, end.clip(0, 1), np.nan)
            for end in tm.interval(share, level=self.settings.level)
        ]
        name = SHARE_NAMES[self.settings.estimand]
        for cell, label in enumerate(labels):
            note = (
                _note(share, cell)
                or ("" if varies[cell] else ALIKE)
                or NEAR_AN_END * bool(small[cell])
            )
            counted = {"rollouts": int(self.whole.rollouts[0]), "tokens": int(cells.tokens[cell])}
            yield self.row(
                what,
                "fraction",
                share,
                cell,
                (ends[0], ends[1]),
                note,
                estimand=name,
                **counted,
                **label,
            )

    def row(
        self,
        what: str,
        unit: str,
        means: tm.CellMeans,
        cell: int,
        ends: tuple[Floats, Floats],
        said: str,
        **more: Any,
    ) -> Measurement:
        note = "; ".join(filter(None, (said, more.pop("note", ""))))
        return Measurement(
            note=note,
            what=what,
            unit=unit,
            value=float(means.value[cell]),
            low=float(ends[0][cell]),
            high=float(ends[1][cell]),
            standard_error=float(means.standard_error[cell]),
            method=means.method,
            problems=int(means.problems[cell]),
            level=self.settings.level,
            seed=self.settings.seed,
            run=self.settings.run,
            **self.place,
            **more,
        )


def _note(means: tm.CellMeans, cell: int) -> str:
    if not np.isfinite(means.value[cell]):
        return NO_KL
    return ONE_PROBLEM if means.problems[cell] < 2 else ""
