"""How to train a pair: what its runs say, weighed, with what it would gain and cost, and what comes
next.

    advice = advise(runs)          # runs of one pair, as decaylab.runs.found_runs finds them
    advice.recommended             # a Setting, or None
    advice.short                   # two sentences; advice.text is all of it

Training decides: the sweeps, over problems and seeds, each way of training against full rollouts,
which are always among the options. A way of training is recommended

    where its gain over full rollouts, corrected for the choice, is shown (`Gain`)
    or where it is as good within 2 points and samples a tenth fewer tokens or less

and full rollouts otherwise. Nothing is recommended where no training was compared, where too few
seeds, steps or problems stand behind it, where the evidence contradicts itself, or where even the
recommended training is not shown to improve the student. What was measured without training (decay
curve, cumulative KL) suggests a length for a sweep and recommends nothing: on the embedded pair it
was wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from decaylab.claims import advice_evidence
from decaylab.claims.advice_candidates import Compared, Setting
from decaylab.claims.advice_decision import decide
from decaylab.claims.advice_gain import Gain
from decaylab.claims.advice_lengths import suggest
from decaylab.claims.advice_next import Experiment
from decaylab.claims.advice_runs import Read
from decaylab.runs.found_runs import FoundRun

__all__ = ["Advice", "Setting", "advise"]


@dataclass(frozen=True)
class Advice:
    """recommended: the way of training, None where the runs do not allow one. verdict: the answer
    and its reason, two sentences. evidence: sentences. on_training: those that training gave, on
    lengths first. gain: of the recommended way over full
    rollouts; None where nothing is recommended. experiment: the next one, None where none would
    change anything. candidates: a row for each way that sweeps compared, columns of
    `advice_candidates.COLUMNS`. used: the runs that were read."""

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
        """All of it after the verdict, heading and text, without the empty ones."""
        following = self.experiment.words if self.experiment else ""
        parts = [
            ("Evidence", " ".join(self.evidence)),
            ("Expected gain", self.expected_gain),
            ("Expected cost", self.expected_cost),
            ("What would change it", self.would_change),
            ("Next experiment", following),
            ("Runs read", self.runs_read),
        ]
        return [(heading, text) for heading, text in parts if text]

    @property
    def text(self) -> str:
        """All of it as plain text, a paragraph each."""
        return "\n\n".join([self.short, *(f"{name}: {text}" for name, text in self.sections)])


def advise(runs: Sequence[FoundRun]) -> Advice:
    """How to train the pair of these runs, with the evidence, or why nothing can be said.

    Args:
        runs: of one pair, of any commands; those that say nothing of training are left alone.
    """
    read = Read.of(runs)
    compared = Compared.of(read.sweeps)
    suggestion = suggest(read.signals, read.decay)
    decision = decide(read, compared, suggestion)
    return Advice(
        decision.recommended,
        decision.verdict,
        tuple(advice_evidence.evidence(read, compared, suggestion, decision)),
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
