"""Student and teacher of two tokenizers on whole responses, and on the spans between boundaries.

Token statistics in (`decaylab.tokens.aligned_scoring`), measurements out; no model, no file.

    response_log_ratio       mean over responses of log s - log t, the end of the turn included
    response_k3              the same by k3, exp(-r) - 1 + r, of finished responses; exp(-r) is 0
                             where the tokens are not those of the student's own tokenizer
    above_cap_share          share of the boundaries of both whose next-byte KL is above `CAP`
    log_ratio_per_byte       summed log-ratio of finished responses over their bytes
    span_log_ratio           mean over the spans that begin in a position bin: a description, no KL
    *_entropy_per_byte       entropy of each policy's own tokens, per byte, and per own token

Where every response is finished, the mean log-ratio is unbiased for the KL of the student's law of
tokens from the teacher's law of the tokens that its tokenizer gives to the same text. It needs
rollouts that the student drew at the scoring temperature from its whole distribution. A response
that was cut off counts up to its last closed span. Where that lies depends on the text before the
cut, so with such responses the mean is no KL, and is off by about a span: 0.2 nats for one law of
text in docs/two-tokenizers.md. The finished ones alone are a selection. That page says what each
of these is not. Every interval resamples problems.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.maths import statistics as st
from decaylab.maths import token_means as tm
from decaylab.maths.clusters import Floats, per_problem_sums
from decaylab.runs import rows
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import (
    ABOVE_CAP,
    ALL,
    CUT_OFF,
    FINISHED,
    FRACTION,
    FRESH,
    LOG_RATIO_PER_BYTE,
    NATS,
    RESPONSE_K3,
    RESPONSE_LOG_RATIO,
    SPAN_LOG_RATIO,
    of_policy,
)
from decaylab.tokens.token_table import Scored, TokenTable, check_edges

OVER_RESPONSES = "mean over responses"
OVER_SPANS = "mean over spans that begin there; span ends depend on later text, so no KL"
OVER_BYTES, OVER_TOKENS = "sum over bytes", "mean over own tokens"
OVER_BOUNDARIES = "share of the boundaries of both"
NO_RESPONSE = "no such response"
CAP = 10.0
"""Nats of a next byte."""


@dataclass(frozen=True)
class Settings(rows.Settings):
    """Settings of the measurement.

    edges: beginnings of the position bins, ascending from 0; the last bin has no upper end.
    """

    edges: tuple[int, ...]

    def __post_init__(self) -> None:
        check_edges(self.edges)


def measure(
    scored: Sequence[Scored],
    settings: Settings,
    end_ids: Collection[int],
    other_law: Mapping[str, str],
) -> pd.DataFrame:
    """Every quantity of each checkpoint on its own rollouts (``fresh``).

    Args:
        end_ids: the student's ids that end a turn.
        other_law: why the rollouts of a checkpoint were not drawn from the law that is scored; ""
            if they were.
    """
    measured: list[Measurement] = []
    for each in scored:
        if each.view == FRESH:
            checkpoint = _Checkpoint(each, settings, end_ids)
            measured += checkpoint.responses(other_law.get(each.checkpoint, ""))
            measured += checkpoint.spans()
            measured += checkpoint.entropies()
            measured.append(checkpoint.above_cap())
    return to_frame(measured)


class _Checkpoint:
    """One checkpoint on its own rollouts."""

    def __init__(self, scored: Scored, settings: Settings, end_ids: Collection[int]) -> None:
        self.settings = settings
        self.tokens: TokenTable = scored.tokens.whole
        self.place = {"view": scored.view, "checkpoint": scored.checkpoint}
        last = self.tokens.starts + self.tokens.lengths - 1
        self.finished = np.isin(self.tokens["token_id"][last], list(end_ids))
        self.sizes = self.by_response("span_bytes")
        self.ratios = self.by_response("span_log_ratio")

    def by_response(self, column: str) -> Floats:
        """Sum of a column over the closed spans of each response, [rollouts]."""
        begins = np.asarray(self.tokens["span_bytes"]) > 0
        values = np.where(begins, np.asarray(self.tokens[column], dtype=np.float64), 0.0)
        return np.asarray(np.add.reduceat(values, self.tokens.starts))

    def responses(self, other_law: str) -> Iterator[Measurement]:
        """The log-ratio of whole responses, and of the cut-off ones up to their last span."""
        counted = {
            FINISHED: self.finished,
            CUT_OFF: ~self.finished,
        }
        # A text that the student writes in several ways would count the teacher's mass for each.
        own = np.asarray(self.tokens["as_own_tokenizer"], dtype=bool)[self.tokens.starts]
        with np.errstate(over="ignore"):
            k3 = np.where(own, np.exp(-self.ratios), 0.0) - 1 + self.ratios
        whole = np.ones_like(self.ratios)
        counted[ALL] = np.ones_like(self.finished)
        for condition, chosen in counted.items():
            at = {"condition": condition, "estimand": OVER_RESPONSES}
            yield self.mean(RESPONSE_LOG_RATIO, self.ratios, whole, chosen, other_law, True, at)
        at = {"condition": FINISHED, "estimand": OVER_RESPONSES}
        yield self.mean(RESPONSE_K3, k3, whole, self.finished, other_law, False, at)
        at["estimand"] = OVER_BYTES
        ratios = self.ratios, self.sizes, self.finished, other_law
        yield self.mean(LOG_RATIO_PER_BYTE, *ratios, True, at)

    def above_cap(self) -> Measurement:
        """How many boundaries of both have a next-byte KL that may be an artefact of the tokens."""
        at = np.asarray(self.tokens["at_shared_boundary"], dtype=bool)
        above = np.asarray(self.tokens["reverse_kl"], dtype=np.float64)[at] > CAP
        problems = np.asarray(self.tokens.token_problems)[at]
        estimate = st.proportion(above, problems, level=self.settings.level)
        counts: dict[str, Any] = {"rollouts": len(self.ratios), "tokens": int(at.sum())}
        columns = {**self.place, **counts, "condition": ALL, "estimand": OVER_BOUNDARIES}
        return rows.row(self.settings, ABOVE_CAP, FRACTION, estimate, **columns)

    def mean(
        self,
        what: str,
        values: Floats,
        counts: Floats,
        chosen: NDArray[np.bool_],
        other_law: str,
        signed: bool,
        place: dict[str, Any],
    ) -> Measurement:
        """Sum of values over sum of counts of the chosen responses, [rollouts]."""
        codes = np.arange(self.tokens.problem_count)
        sums = [
            per_problem_sums(
                np.where(chosen, of_response, 0.0)[:, None], self.tokens.problems, codes
            )
            for of_response in (values, counts)
        ]
        (estimate,) = rows.of_cells(
            tm.means(sums[0], sums[1], signed=signed),
            level=self.settings.level,
            empty=NO_RESPONSE,
            undefined="",
        )
        columns = {**self.place, **place, "rollouts": int(chosen.sum())}
        columns["tokens"] = int(self.tokens.lengths[chosen].sum())
        if other_law:
            estimate = st.Estimate(
                math.nan, *st.UNDEFINED[:3], "", estimate.problems, estimate.rollouts, other_law
            )
        return rows.row(self.settings, what, NATS, estimate, **columns)

    def spans(self) -> Iterator[Measurement]:
        """The mean log-ratio of the spans that begin in each position bin."""
        begins = np.asarray(self.tokens["span_bytes"]) > 0
        bins = np.where(begins, self.tokens.bins(self.settings.edges), -1)
        size = self.tokens.problem_count, len(self.settings.edges)
        problems = self.tokens.token_problems
        values = np.asarray(self.tokens["span_log_ratio"], dtype=np.float64)
        sums = tm.sums_by_problem(np.nan_to_num(values), problems, bins, *size)
        means = tm.means(sums, tm.sums_by_problem(None, problems, bins, *size), signed=True)
        estimates = rows.of_cells(means, level=self.settings.level)
        places = rows.spans(self.settings.edges)
        for cell, (estimate, span) in enumerate(zip(estimates, places, strict=True)):
            reaching = int((self.tokens.lengths > span["position_low"]).sum())
            columns = {**self.place, **span, "condition": ALL, "rollouts": reaching}
            columns |= {"tokens": int(means.tokens[cell]), "estimand": OVER_SPANS}
            yield rows.row(self.settings, SPAN_LOG_RATIO, NATS, estimate, **columns)

    def entropies(self) -> Iterator[Measurement]:
        """The entropy of each policy, per byte of the closed spans and per own token."""
        everything = np.ones(len(self.ratios), dtype=bool)
        for policy in ("student", "teacher"):
            sums = self.by_response(f"{policy}_span_entropy")
            counts = self.by_response(f"span_{policy}_tokens")
            for what, counted, estimand in (
                ("entropy_per_byte", self.sizes, OVER_BYTES),
                ("entropy_per_own_token", counts, OVER_TOKENS),
            ):
                at = {"condition": ALL, "estimand": estimand}
                yield self.mean(of_policy(what, policy), sums, counted, everything, "", False, at)
