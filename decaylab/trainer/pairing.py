"""What a run does differently if student and teacher have two tokenizers, chosen once at its start.

What the loop does at each step is the same: a plan draws the rollouts, a gradient adds them up,
scores are taken of held-out ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from decaylab.policies.own_vocabulary import OwnVocabulary
from decaylab.printing import rounded
from decaylab.rollouts.sampling import settings_of
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import Scorer, ScoringSettings
from decaylab.trainer import span_draw, span_validation, validation
from decaylab.trainer.draw import Draw, Plan
from decaylab.trainer.machinery import two_tokenizers
from decaylab.trainer.machinery.setup import TrainSetup
from decaylab.trainer.span_draw import SpanPlan
from decaylab.trainer.span_step import SpanGradient
from decaylab.trainer.span_validation import SpanScores
from decaylab.trainer.step import Accumulated, Gradient
from decaylab.trainer.validation import HeldOut, Scores, TokenScores

COUNTED = ("rollouts", "left_out", "unaligned", span_draw.BEYOND)


@dataclass(frozen=True)
class OneTokenizer:
    """Both policies have one tokenizer: tokens are compared one by one."""

    setup: TrainSetup
    heads: tuple[Head, Head]

    @property
    def drawn(self) -> dict[str, Any]:
        """The arguments of the plan."""
        options, pair = self.setup.options, self.setup.pair
        return {
            "problems": pair.problems,
            "prompts": pair.prompts,
            "sampling": settings_of(options),
            "problems_per_step": options.problems_per_step,
            "rollouts_per_problem": options.rollouts_per_problem,
            "score_end": options.score_end,
            "teacher_prefix": options.teacher_prefix or 0,
        }

    @property
    def plan(self) -> Plan:
        return Plan(**self.drawn)

    def scores(self, batch_tokens: int) -> Scores:
        """Scores of held-out rollouts."""
        settings = ScoringSettings(batch_tokens=batch_tokens)
        return TokenScores(Scorer(self.setup.student, self.setup.teacher, settings))

    def gradient(self, *settings: Any) -> Accumulated:
        """settings: those of `Gradient` behind the vocabulary."""
        assert self.setup.vocabulary is not None
        return Gradient(self.heads, self.setup.vocabulary, *settings)

    def counts(self, draw: Draw) -> Mapping[str, int]:
        """Further sums of a step."""
        return {}

    def columns(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Further columns of metrics.csv, or others in the place of some."""
        return {}

    def told(self, row: Mapping[str, Any]) -> str:
        """How far apart the policies are, for the progress bar."""
        return f"KL {rounded(row['reverse_kl'], 3)}"

    def row(self, step: int, held_out: Sequence[HeldOut]) -> dict[str, Any]:
        """A row of validation.csv."""
        return validation.row(step, held_out)

    def left_out(self, metrics: pd.DataFrame) -> str:
        """A note about rollouts that were left out; "" for none."""
        return ""


class TwoTokenizers(OneTokenizer):
    """Spans of text are compared that both have cut at the same places."""

    @cached_property
    def vocabularies(self) -> tuple[OwnVocabulary, OwnVocabulary]:
        return OwnVocabulary(self.setup.student), OwnVocabulary(self.setup.teacher)

    @property
    def plan(self) -> Plan:
        assert self.setup.aligner is not None
        return SpanPlan(**self.drawn, aligner=self.setup.aligner)

    def scores(self, batch_tokens: int) -> Scores:
        return SpanScores(self.heads, self.vocabularies, batch_tokens)

    def gradient(self, *settings: Any) -> Accumulated:
        return SpanGradient(self.heads, self.vocabularies, *settings)

    def counts(self, draw: Draw) -> Mapping[str, int]:
        return span_draw.counts(draw)

    def columns(self, sums: Mapping[str, float]) -> dict[str, float]:
        """The log-ratio for each of the student's tokens in spans; what there is no KL for."""
        scored = sums.get("scored", 0.0)
        ratio = sums["log_ratio"] / scored if scored else math.nan
        counts = {name: sums.get(name, 0.0) for name in ("spans", "tokens_open", *COUNTED[2:])}
        nothing = dict.fromkeys(("reverse_kl_inside", "reverse_kl_outside"), math.nan)
        return {**nothing, "log_ratio": ratio, **counts}

    def told(self, row: Mapping[str, Any]) -> str:
        return f"log-ratio {rounded(row['log_ratio'], 3)}"

    def row(self, step: int, held_out: Sequence[HeldOut]) -> dict[str, Any]:
        return validation.row(step, held_out) | span_validation.columns(held_out)

    def left_out(self, metrics: pd.DataFrame) -> str:
        sums = {name: float(metrics[name].sum()) for name in COUNTED}
        return two_tokenizers.left_out_words(sums)


def pairing_of(setup: TrainSetup, heads: tuple[Head, Head]) -> OneTokenizer:
    """What the run needs for its tokenizers. heads: of student and teacher."""
    return (TwoTokenizers if setup.aligner else OneTokenizer)(setup, heads)
