"""What commands find that make no run: a plan, a preflight, how rollout files are read."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from decaylab.commands.reading import Understood
    from decaylab.planner.plan import Plan
    from decaylab.planner.preflight import PreflightReport

GIB = 2**30


@dataclass(frozen=True, repr=False)
class PlanResult:
    """The plan of a pair: memory and time of each phase, before anything starts.

    Attributes:
        fits: whether every phase fits in the available memory.
        available_gib: memory of one device.
        phases: one row per phase: command, phase, gib (peak on one device), fits, tokens,
            seconds (NaN if no rate is known).
        remedies: one row per option that would help a phase that does not fit: command, phase,
            option, gib, fits.
        notes: what must be known about the numbers.
    """

    fits: bool
    available_gib: float
    phases: pd.DataFrame
    remedies: pd.DataFrame
    notes: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> PlanResult:
        """The result of a plan, in GiB."""
        record = plan.record()
        phases = [
            {
                "command": phase["command"],
                "phase": phase["phase"],
                "gib": phase["bytes"] / GIB,
                "fits": phase["fits"],
                "tokens": phase["tokens"],
                "seconds": phase["seconds"],
            }
            for phase in record["phases"]
        ]
        remedies = [
            {
                "command": remedy["command"],
                "phase": remedy["phase"],
                "option": remedy["flag"],
                "gib": remedy["load"] / GIB,
                "fits": remedy["fits"],
            }
            for remedy in record["remedies"]
        ]
        return cls(
            plan.fits,
            plan.devices.memory / GIB,
            pd.DataFrame(phases).astype({"seconds": float}),
            pd.DataFrame(remedies, columns=["command", "phase", "option", "gib", "fits"]),
            tuple(record["notes"]),
        )

    def __repr__(self) -> str:
        verdict = "fits" if self.fits else "does not fit"
        most = self.phases["gib"].max()
        return f"<PlanResult: {verdict}, at most {most:.2f} of {self.available_gib:.2f} GiB>"

    def _repr_html_(self) -> str:
        return _page(repr(self), self.notes, self.phases, self.remedies)


@dataclass(frozen=True, repr=False)
class PreflightResult:
    """Whether a pair can be measured.

    Attributes:
        measurable: whether it can.
        verdict: the same in a sentence.
        checks: one row per check: name, verdict (ok, warning or no), finding.
    """

    measurable: bool
    verdict: str
    checks: pd.DataFrame

    @classmethod
    def of(cls, report: PreflightReport) -> PreflightResult:
        """The result of a preflight."""
        return cls(report.measurable, report.verdict, pd.DataFrame(report.checks))

    def __repr__(self) -> str:
        return f"<PreflightResult: {self.verdict}>"

    def _repr_html_(self) -> str:
        return _page(repr(self), (), self.checks)


@dataclass(frozen=True, repr=False)
class RolloutFiles:
    """How files of rollouts are read.

    Attributes:
        summary: counts by format, prompt, stop reason and so on, as ``decaylab rollouts --json``
            prints them.
        rollouts: one row per rollout of the first problems: problem_id, sample, place (in the
            files), stop, stop_reason (as in the file), response (NaN where only ids or several
            turns are given).
        prompts: the first prompt as student and teacher read it.
        notes: what must be known about the files.
    """

    summary: dict[str, Any]
    rollouts: pd.DataFrame
    prompts: dict[str, str]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, understood: Understood) -> RolloutFiles:
        """The result of reading files."""
        from decaylab.rollout_files import summary

        rows = [
            {
                "problem_id": rollout.problem_id,
                "sample": rollout.sample,
                "place": rollout.place,
                "stop": rollout.stop.kind,
                "stop_reason": rollout.stop.value,
                "response": rollout.record.response,
            }
            for rollout in understood.read.rollouts
        ]
        return cls(
            summary.record(understood.read),
            pd.DataFrame(rows),
            understood.prompts,
            understood.notes,
        )

    def __repr__(self) -> str:
        rollouts, problems = self.summary["rollouts"], self.summary["problems"]
        return f"<RolloutFiles: {rollouts} rollouts, {problems} problem{'s' * (problems != 1)}>"

    def _repr_html_(self) -> str:
        return _page(repr(self), self.notes, self.rollouts)


def _page(head: str, notes: tuple[str, ...], *tables: pd.DataFrame) -> str:
    """A line, notes and tables for a notebook."""
    listed = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    shown = "".join(table.to_html(max_rows=20, index=False) for table in tables if len(table))
    return f"<p>{html.escape(head)}</p><ul>{listed}</ul>{shown}"
