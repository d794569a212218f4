"""How to train a pair: the recommended setting, its evidence, expected gain and cost, and the next
experiment.

    advice = advise(runs)          # runs of one pair, as decaylab.runs.found_runs finds them
    advice.recommended             # a Setting, or None
    advice.short                   # two sentences; advice.text is all of it

Only sweeps decide. They compare each setting with full rollouts, over problems and seeds. A setting
is recommended

    if its gain over full rollouts, corrected for the choice, is above 0 (`Gain`)
    or if it is at most 2 points less accurate and samples at least a tenth fewer tokens.

Otherwise full rollouts are recommended. Nothing is recommended if no sweep was run, if seeds, steps
or problems are too few, if the evidence contradicts itself, or if the best setting does not improve
the student. Decay curve and cumulative KL, measured without training, only suggest a length for a
sweep: on the embedded pair that suggestion was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from decaylab.claims import advice_evidence
from decaylab.claims.advice_candidates import Setting
from decaylab.claims.advice_compared import Compared, compare
from decaylab.claims.advice_decision import decide
from decaylab.claims.advice_gain import Gain
from decaylab.claims.advice_lengths import suggest
from decaylab.claims.advice_next import Experiment
from decaylab.claims.advice_runs import Read
from decaylab.runs.found_runs import FoundRun

__all__ = ["Advice", "Setting", "advise"]


@dataclass(frozen=True)
class Advice:
    """The advice on a pair.

    recommended: the setting, or None. verdict: the answer and its reason, two sentences. evidence:
    sentences. on_training: the sentences on training, lengths first. gain: of the recommended
    setting over full rollouts, or None. experiment: the next one, None if none would change the
    advice. candidates: one row per setting that sweeps compared, with the columns
    `advice_compared.COLUMNS`. used: the runs that were read.
    """

    recommended: Setting | None
    verdict: tuple[str, str]
    evidence: tuple[str, ...]
    expected_gain: str
    expected_cost: str
    would_change: str
    experiment: Experiment | None
    runs_read: str
    gain: Gain | None = None
    candidates: pd.DataFrame = field(default_factory=pd.DataFrame)
    used: tuple[FoundRun, ...] = ()
    on_training: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """Two sentences, for the top of a report and for the terminal."""
        return " ".join(self.verdict)

    @property
    def sections(self) -> list[tuple[str, str]]:
        """The sections after the verdict, as heading and text; empty ones are omitted."""
        following = self.experiment.words if self.experiment else ""
        parts = [
            ("Evidence", " ".join(self.evidence)),
            ("Gain", self.expected_gain),
            ("Cost", self.expected_cost),
            ("What would change the advice", self.would_change),
            ("Next experiment", following),
            ("Runs read", self.runs_read),
        ]
        return [(heading, text) for heading, text in parts if text]

    @property
    def text(self) -> str:
        """The whole advice as plain text, one paragraph per section."""
        return "\n\n".join([self.short, *(f"{name}: {text}" for name, text in self.sections)])


def advise(runs: Sequence[FoundRun]) -> Advice:
    """How to train the pair of these runs, or why no setting can be recommended.

    Args:
        runs: runs of one pair, of any command; runs without relevant results are ignored.
    """
    read = Read.of(runs)
    compared, *otherwise = compare(read.sweeps) or [Compared()]
    suggestion = suggest(read.signals, read.decay)
    decision = decide(read, compared, suggestion)
    return Advice(
        decision.recommended,
        decision.verdict,
        tuple(advice_evidence.evidence(read, compared, suggestion, decision, otherwise)),
        advice_evidence.expected_gain(compared, decision),
        advice_evidence.expected_cost(compared, decision),
        decision.would_change,
        decision.experiment,
        advice_evidence.runs_read(read, compared),
        decision.gain,
        compared.table,
        read.all,
        tuple(advice_evidence.on_training(read, compared, suggestion)),
    )
