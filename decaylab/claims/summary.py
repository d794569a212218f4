"""The summary of a pair's measurements in words: the contents of a report.

Every sentence is computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from decaylab.claims.advice import Advice, advise
from decaylab.claims.advice_candidates import BETTER, PREFIX
from decaylab.claims.advice_runs import problems_of
from decaylab.claims.judge import judge
from decaylab.claims.sweep_arms import HALF
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    LEAST_LEVEL,
    NOT_MEASURED,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    POINTS,
    UNDECIDED,
    Finding,
    Verdict,
)
from decaylab.claims.wording import listed
from decaylab.printing import percent
from decaylab.runs.found_runs import COMPARISON, FoundRun
from decaylab.runs.vocabulary import BASE, TEACHER

SCORED = ("position-kl", "category-kl", "submode", "signals")  # numbers that have a noise floor
NAMED = 3  # runs that are named where many say the same


@dataclass(frozen=True)
class Summary:
    """Plain text throughout.

    measured: what each command measured, and how. advice: how to train this pair. findings:
    controls first, then one per claim. alarms: controls that failed or are inconclusive. warnings:
    other reasons to distrust results.
    """

    measured: tuple[str, ...]
    advice: Advice
    findings: tuple[Finding, ...]
    alarms: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def claims(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.claim.control)

    @property
    def controls(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.claim.control)

    @property
    def deciding(self) -> tuple[Finding, ...]:
        """The few claims that matter for how to train: those that were decided, then others that
        were measured, in the order of `DECIDING`."""
        order = {name: place for place, name in enumerate(DECIDING)}
        those = [each for each in self.claims if each.claim.name in order]
        those = [each for each in those if each.verdict != NOT_MEASURED]
        those.sort(key=lambda each: (each.verdict not in DECIDED, order[each.claim.name]))
        return tuple(sorted(those[:MOST], key=lambda each: order[each.claim.name]))

    @property
    def counted(self) -> str:
        """How many claims were judged how, in a sentence."""
        counts = Counter(finding.verdict for finding in self.claims)
        return (
            f"Of {counts.total()} claims of the literature, {counts[HOLDS]} hold on this pair, "
            f"{counts[CONTRADICTED]} are contradicted, {counts[NOT_SUPPORTED]} are not supported, "
            f"{counts[UNDECIDED]} are undecided, {counts[NOT_TESTABLE]} are not testable with "
            f"these runs and {counts[NOT_MEASURED]} were not measured. These verdicts are about "
            "this pair and these problems, not about the models of the original claims."
        )


def summary(runs: Sequence[FoundRun]) -> Summary:
    """Summarises the runs of one pair.

    `judge` decides the claims; a claim that the advice contradicts is undecided.
    """
    advice = advise(runs)
    findings = tuple(agreeing(finding, advice) for finding in judge(runs))
    alarms = tuple(_alarms(findings))
    return Summary(
        tuple(_measured(runs)), advice, findings, alarms, tuple(_warnings(runs, findings))
    )


# Claims and advice

DECIDING = (
    "early-stopping-beats-full",
    "peak-between",
    "teacher-decay",
    "content",
    "selectors-worse",
    "cascade",
    "cheaper",
    "collapse",
)
DECIDED, MOST = (HOLDS, CONTRADICTED, NOT_SUPPORTED), 5


def _early(settings: pd.DataFrame) -> pd.Series:
    return (settings["selector"] == PREFIX) & (settings["tokens_ratio"] <= HALF)


# Claims that a setting is better than full rollouts: which settings they are on
ON_SETTINGS: dict[str, Callable[[pd.DataFrame], pd.Series]] = {
    "early-stopping-beats-full": _early,
    "peak-between": lambda settings: settings["selector"] == PREFIX,
    "falling-weights": lambda settings: settings["selector"] == "importance",
    "rising-weights": lambda settings: settings["selector"] == "rising",
}


def agreeing(finding: Finding, advice: Advice) -> Finding:
    """The finding; undecided, with the reason, where the advice decides otherwise."""
    reason = disagreement(finding.claim.name, finding.verdict, advice)
    if not reason:
        return finding
    return replace(finding, verdict=UNDECIDED, sentence=f"{finding.sentence} {reason}")


def disagreement(claim: str, verdict: Verdict, advice: Advice) -> str:
    """Why the verdict on a claim is not what the advice decides on the settings that the claim is
    on, in a sentence; "" if both agree.

    A claim corrects for its own settings and asks for 2 points; the advice corrects for all
    settings that were compared, and counts a gain of any size.
    """
    settings = advice.candidates
    if claim not in ON_SETTINGS or settings.empty:
        return ""
    those = settings[ON_SETTINGS[claim](settings)]
    better = list(those["arm"][those["verdict"] == BETTER])
    if verdict == HOLDS and not better:
        among = f"corrects for the choice among {len(settings)} settings"
        if len(settings) == 1:
            among = "adds up the uncertainty over problems and over seeds"
        return f"The advice, which {among}, does not show the gain."
    if verdict in (CONTRADICTED, NOT_SUPPORTED) and better:
        return (
            f"The advice finds {listed(better)} better than full rollouts, by less than the "
            f"{percent(POINTS):g} points that this claim requires."
        )
    return ""


# What was measured


def _measured(runs: Sequence[FoundRun]) -> Iterator[str]:
    """One sentence per command and settings. Runs that differ only in the measured students are
    named together."""
    groups: dict[tuple[str, str], list[FoundRun]] = {}
    for run in runs:
        groups.setdefault((run.command, _how(run)), []).append(run)
    for (command, how), same in groups.items():
        names = dict.fromkeys(name for run in same for name in run.measurements["checkpoint"])
        trained = [name for name in names if name not in ("", BASE, TEACHER)]
        on, kind = "", "arms" if command.startswith("sweep") else "students"
        if command == COMPARISON:  # its rows name teachers or students
            kind = str(same[0].measurements["category"].iloc[0])
        if trained:
            on = f"; {kind} {_named(trained)}"
        several = "s" * (len(same) > 1)
        yield f"{command}, run{several} {_named([run.name for run in same])}: {how}{on}."


def _how(run: FoundRun) -> str:
    """Problems, samples and settings, as recorded."""
    options, samples = run.options, run.options.get("samples")
    asked = f"{problems_of(run):,} problems"
    if name := _problem_set(run):
        asked += f" of {name}"
    if samples:
        asked += f" x {samples} sample{'s' * (samples != 1)}"
    parts = [asked]
    if options.get("temperature") is not None:
        parts.append(f"T = {options['temperature']:g}")
    if options.get("max_tokens"):
        parts.append(f"at most {options['max_tokens']} tokens")
    rules = [rule for rule in run.measurements["answer_rule"].unique() if rule]
    parts += [f"answer rule {rule}" for rule in rules[:1]]
    if "seeds" in options:
        parts.append(f"{options['seeds']} training seeds, {options['checkpoint_rule']} checkpoint")
    if "seed" in options:
        parts.append(f"seed {options['seed']}")
    if lengths := [length for length in options.get("prefix_lengths") or () if length]:
        parts.append(f"prefixes of {listed(lengths)} tokens")
    return ", ".join(parts)


def _problem_set(run: FoundRun) -> Any:
    return (run.record.get("identity", {}).get("problems") or {}).get("name")


def _named(names: Sequence[str]) -> str:
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


# Warnings


def _warnings(runs: Sequence[FoundRun], findings: Sequence[Finding]) -> Iterator[str]:
    if any(run.command == "prefix-decay" for run in runs):
        for finding in findings:
            if finding.claim.control and finding.verdict == NOT_MEASURED:
                yield f"The control was not measured: {finding.sentence}"
    yield from _of_settings(runs)
    for run in runs:
        frame = run.measurements
        if (frame["level"] < LEAST_LEVEL).any():
            yield (
                f"{run.name}: its intervals are at {100 * frame['level'].min():g} %, too low to "
                "decide claims; measure again with --level 0.95"
            )
        known = frame["noise_floor"].notna()
        under = int((frame["under_floor"] & known).sum())
        if under:
            yield f"{run.name}: {under} of {known.sum()} numbers lie under twice their noise floor"
        elif run.command in SCORED and not known.any():
            yield f"{run.name}: the noise floor was not measured"
    notes: dict[str, list[str]] = {}
    for run in runs:
        for note in run.record.get("notes", ()):
            notes.setdefault(str(note), []).append(run.name)
    for note, names in notes.items():
        yield f"{_named(names)}: {note}"


def _alarms(findings: Sequence[Finding]) -> Iterator[str]:
    leads = {
        CONTRADICTED: "The control failed, so do not trust the decay results until this is fixed",
        UNDECIDED: "The control is inconclusive",
        NOT_TESTABLE: "The control is inconclusive",
    }
    for finding in findings:
        if finding.claim.control and finding.verdict in leads:
            yield f"{leads[finding.verdict]}: {finding.sentence}"


SETTINGS: dict[str, Callable[[FoundRun], object]] = {
    "problem set": _problem_set,
    "temperature": lambda run: run.options.get("temperature"),
    "token budget": lambda run: run.options.get("max_tokens"),
}


def _of_settings(runs: Sequence[FoundRun]) -> Iterator[str]:
    """Differences between the settings of runs of one pair that make their numbers incomparable."""
    for name, read in SETTINGS.items():
        values: dict[object, list[str]] = {}
        for run in runs:
            if (value := read(run)) is not None:
                values.setdefault(value, []).append(run.name)
        if len(values) > 1:
            different = [f"{value} ({_named(who)})" for value, who in values.items()]
            yield f"the runs differ in their {name}: {'; '.join(different)}"
