"""Category KL: in which kind of text, and at which tokens, student and teacher disagree most.

Token statistics in, measurements out; no model, no file. Categories are assigned to the decoded
text (decaylab.tokens.categories). The paper's numbers are means over tokens of the base student's
own rollouts (view ``fresh``). Every interval resamples problems. The condition is always ``all``:

    reverse_kl               of a category, by position bin, in nats
    mean_reverse_kl          of a category, over all positions
    kl_share, token_share    of a category in the total, as fractions
    token_mean_reverse_kl    of the tokens with the highest mean or the largest share of the KL, in
                             nats
    token_kl_share           their share of the KL

A few problems may dominate such a mean, so it has no interval; the winsorised mean beside it has
one (`decaylab.runs.skewed_cells`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats, Ints, per_problem_sums
from decaylab.maths.statistics import ALIKE
from decaylab.runs import rows
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import NEAR_AN_END, near_an_end
from decaylab.runs.vocabulary import ALL, FRACTION, FROZEN, NATS
from decaylab.tokens.categories import Categories
from decaylab.tokens.pieces import visible
from decaylab.tokens.token_table import Scored, check_edges

__all__ = ["ALIKE", "NO_KL", "Settings", "measure"]

NO_KL = "the total KL is 0, or the KL of some token is not finite"
OF_TOKENS = "token_share"  # its interval is reliable for rare categories too
EVERYWHERE = {"position_low": 0.0, "position_high": math.inf}
SHARE_NAMES: dict[tm.Estimand, str] = {
    "tokens": "share of the total",
    "problems": "mean of problem shares",
}
Labels = Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Settings(rows.Settings):
    """Settings of the measurement.

    edges: beginnings of the position bins, ascending from 0; the last bin has no upper end.
    min_count: minimum occurrences of a listed token. top_tokens: number of tokens listed by mean
    KL, and by share of the KL; both rank over tokens, whatever the estimand.

    Raises ValueError for edges that do not ascend from 0.
    """

    edges: tuple[int, ...] = (0, 5, 20, 50, 100, 200, 500)
    min_count: int = 50
    top_tokens: int = 20
    estimand: tm.Estimand = "tokens"

    def __post_init__(self) -> None:
        check_edges(self.edges)


@dataclass(frozen=True)
class Cells:
    """Tokens in cells: their number and KL by problem, [problems, cells], and the number of
    rollouts with such a token, [cells]."""

    counts: Floats
    sums: Floats
    rollouts: Ints

    @property
    def tokens(self) -> Ints:
        return np.asarray(self.counts.sum(axis=0), dtype=np.int64)


def measure(
    scored: Sequence[Scored], settings: Settings, rules: Categories, end_ids: Collection[int]
) -> pd.DataFrame:
    """Every measurement that the token statistics allow.

    ``tokens`` counts the tokens of the category, or the occurrences of the token. ``rollouts`` and
    ``problems`` count those with such a token; for a share, all with any token (for a share of the
    KL, all problems with KL).

    Args:
        scored: checkpoints and views, each measured separately.
        settings: bins, listed tokens, estimand and level.
        rules: the categories.
        end_ids: ids of end-of-turn tokens, which are category ``end_of_turn``.
    """
    # All frozen tables have the same text, which is classified once.
    frozen = {id(each.tokens) for each in scored if each.view == FROZEN}
    known: dict[str, NDArray[np.int8]] = {}
    measured: list[Measurement] = []
    for each in scored:
        checkpoint = _Checkpoint(each, settings, rules, end_ids)
        text = FROZEN if id(each.tokens) in frozen else each.checkpoint
        if text not in known:
            known[text] = checkpoint.codes()
        measured += checkpoint.by_category(known[text])
        measured += checkpoint.by_token(known[text])
    return to_frame(measured)


class _Checkpoint:
    """One checkpoint over one set of rollouts."""

    def __init__(
        self, scored: Scored, settings: Settings, rules: Categories, end_ids: Collection[int]
    ) -> None:
        table = self.table = scored.tokens
        self.settings, self.rules = settings, rules
        self.place = {"condition": ALL, "view": scored.view, "checkpoint": scored.checkpoint}
        self.kl = np.asarray(table["reverse_kl"], dtype=np.float64)
        self.end_ids = list(end_ids)
        self.rollouts = np.repeat(np.arange(table.lengths.size), table.lengths)
        self.whole = self.cells(*self.by_rollout(np.zeros(len(table), dtype=np.int8), 1))

    def by_rollout(self, of_tokens: NDArray[np.integer], count: int) -> tuple[Floats, Floats]:
        """Tokens and KL in each cell, [rollouts, cells]. of_tokens: each token's cell, negative for
        none, [tokens]."""
        size = (self.table.lengths.size, count)
        counts = tm.sums_by_problem(None, self.rollouts, of_tokens, *size)
        return counts, tm.sums_by_problem(self.kl, self.rollouts, of_tokens, *size)

    def cells(self, counts: Floats, sums: Floats) -> Cells:
        """The cells by problem, from counts and sums by rollout, [rollouts, cells]."""
        problems, codes = self.table.problems, np.arange(self.table.problem_count)
        holding = np.asarray((counts > 0).sum(axis=0), dtype=np.int64)
        return Cells(
            per_problem_sums(counts, problems, codes),
            per_problem_sums(sums, problems, codes),
            holding,
        )

    def pieces(self) -> NDArray[Any]:
        """Text of each token, [tokens]."""
        return np.asarray(self.table["token"], dtype=object)

    def codes(self) -> NDArray[np.int8]:
        """Category of each token, [tokens]."""
        whole = self.table.whole
        pieces, ends = (
            np.asarray(whole["token"], dtype=object),
            np.isin(whole["token_id"], self.end_ids),
        )
        codes = self.rules.classify(pieces, whole.lengths, ends)
        return codes if self.table.kept is None else codes[self.table.kept]

    def by_category(self, codes: NDArray[np.int8]) -> Iterator[Measurement]:
        """Each category by position bin and over all positions, and its share of the total."""
        names, edges = self.rules.names, self.settings.edges
        cell_of = codes * np.int64(len(edges)) + self.table.bins(edges)
        counts, sums = self.by_rollout(cell_of, len(names) * len(edges))
        spans = rows.spans(edges)
        labels = [{"category": name, **span} for name in names for span in spans]
        yield from self.means("reverse_kl", self.cells(counts, sums), labels)
        # a category over all positions is the sum of its bins
        first = np.arange(len(names)) * len(edges)
        cells = self.cells(
            np.add.reduceat(counts, first, axis=1), np.add.reduceat(sums, first, axis=1)
        )
        labels = [{"category": name, **EVERYWHERE} for name in names]
        yield from self.means("mean_reverse_kl", cells, labels)
        yield from self.shares("kl_share", cells, cells.sums, self.whole.sums, labels)
        yield from self.shares(OF_TOKENS, cells, cells.counts, self.whole.counts, labels)

    def by_token(self, categories: NDArray[np.int8]) -> Iterator[Measurement]:
        """The tokens with the highest KL. Tokens with the same text, apart from a leading space,
        are merged.

        Their category is that of most of their occurrences; the note names any others.
        """
        codes, texts = pd.factorize(self.pieces())
        chosen = self.highest(codes, len(texts))
        cell_of = np.full(len(texts), -1)
        cell_of[chosen] = np.arange(chosen.size)
        places = cell_of[codes]
        labels = []
        for cell, code in enumerate(chosen):
            kinds = self.kinds(categories[places == cell])
            labels.append({"token": visible(texts[code]), **kinds, **EVERYWHERE})
        cells = self.cells(*self.by_rollout(places, chosen.size))
        yield from self.means("token_mean_reverse_kl", cells, labels)
        yield from self.shares("token_kl_share", cells, cells.sums, self.whole.sums, labels)

    def kinds(self, codes: NDArray[np.int8]) -> dict[str, str]:
        """The category of most occurrences of a token, and a note on its other categories."""
        names = self.rules.names
        counts = np.bincount(codes, minlength=len(names))
        first, *others = np.argsort(-counts, kind="stable")
        places = [f"{names[k]} in {counts[k]} of {codes.size} places" for k in others if counts[k]]
        return {"category": names[first], "note": ", ".join(places)}

    def highest(self, codes: Ints, count: int) -> Ints:
        """Codes of the tokens to list: by mean KL, then those listed only by share. Ties keep the
        first to occur."""
        counts = np.bincount(codes, minlength=count)
        sums = np.bincount(codes, self.kl, minlength=count)
        frequent = np.flatnonzero(counts >= max(self.settings.min_count, 1))
        listed: dict[int, None] = {}
        for ranked_by in (sums / counts, sums):
            ranks = np.argsort(-ranked_by[frequent], kind="stable")[: self.settings.top_tokens]
            listed |= dict.fromkeys(frequent[ranks].tolist())
        return np.array(list(listed), dtype=np.int64)

    def means(self, what: str, cells: Cells, labels: Labels) -> Iterator[Measurement]:
        """Mean reverse KL of each cell."""
        places = []
        for label, rollouts in zip(labels, cells.rollouts.tolist(), strict=True):
            places.append({**self.place, **label, "rollouts": rollouts})
        problems, estimand = int((self.whole.counts > 0).sum()), self.settings.estimand
        skewed = rows.skewed(self.settings, places, problems, estimand=estimand, banded=False)
        yield from skewed.levels(what, NATS, (cells.sums, cells.counts))

    def shares(
        self, what: str, cells: Cells, parts: Floats, whole: Floats, labels: Labels
    ) -> Iterator[Measurement]:
        """The share of each cell in the total.

        A ratio of sums is computed as a mean of the parts, with the totals in place of counts.
        """
        # a problem whose total is not finite must not drop out of the shares
        if not np.isfinite(whole).all():
            parts, whole = np.zeros_like(parts), np.zeros_like(whole)
        share = tm.means(parts, np.broadcast_to(whole, parts.shape), self.settings.estimand)
        varies = share.standard_error > 0
        small = np.zeros(len(labels), dtype=bool)
        if what != OF_TOKENS:
            small[:] = [near_an_end(value) for value in share.value]
        low, high = tm.interval(share, level=self.settings.level)
        shown = varies & ~small
        ends = (
            np.where(shown, low.clip(0, 1), np.nan),
            np.where(shown, high.clip(0, 1), np.nan),
        )
        notes = np.where(~varies, ALIKE, np.where(small, NEAR_AN_END, ""))
        estimates = rows.of_cells(
            share, level=self.settings.level, ends=ends, empty=NO_KL, undefined=NO_KL, alike=""
        )
        common = {
            **self.place,
            "rollouts": int(self.whole.rollouts[0]),
            "estimand": SHARE_NAMES[self.settings.estimand],
        }
        for cell, (label, estimate) in enumerate(zip(labels, estimates, strict=True)):
            note = estimate.note or str(notes[cell])
            columns = {**common, **label, "tokens": int(cells.tokens[cell])}
            columns["note"] = rows.joined(note, label.get("note", ""))
            yield rows.row(self.settings, what, FRACTION, estimate, **columns)
