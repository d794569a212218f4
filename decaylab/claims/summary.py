"""The summary of a pair's measurements in words: the beginning of a report.

Every sentence is computed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from decaylab.claims import which_teacher
from decaylab.claims.advice import Advice, advise
from decaylab.claims.advice_runs import most_problems, problems_of
from decaylab.claims.judge import judge
from decaylab.claims.on_decay import ahead_words, half_decay_words
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    LEAST_LEVEL,
    NOT_MEASURED,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    PERCENT_OF,
    UNDECIDED,
    VERDICTS,
    Finding,
    listed,
    pick,
    sentence,
)
from decaylab.printing import rounded
from decaylab.runs.found_runs import COMPARISON, FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.vocabulary import BASE, STUDENT_PREFIX, TEACHER

SCORED = ("position-kl", "category-kl", "submode", "signals")  # their numbers have a noise floor
BRACKETS = "Brackets show 95 % intervals over problems unless stated otherwise."
NAMED = 3  # runs named in a list before "and N more"


class KeyNumber(NamedTuple):
    """A key number as text. note: its interval, or why there is none."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Summary:
    """Plain text throughout.

    headline: the main results, one or two sentences a line. measured: what each command measured,
    and how. numbers: the key numbers. advice: how to train this pair. findings: controls first,
    then one per claim. warnings: reasons to distrust results.
    """

    headline: tuple[str, ...]
    measured: tuple[str, ...]
    numbers: tuple[KeyNumber, ...]
    advice: Advice
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]

    @property
    def claims(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if not finding.claim.control)

    @property
    def controls(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.claim.control)


def summary(runs: Sequence[FoundRun]) -> Summary:
    """Summarises the runs of one pair; `judge` decides the claims."""
    findings = tuple(judge(runs))
    decay, _ = most_problems(runs, "prefix-decay")
    advice = advise(runs)
    return Summary(
        tuple(_headline(runs, decay, advice, findings)),
        tuple(_measured(runs)),
        (*_decay_numbers(decay), _advised(advice)),
        advice,
        findings,
        tuple(_warnings(runs, findings)),
    )


# Headline and numbers


def _headline(
    runs: Sequence[FoundRun], decay: FoundRun | None, advice: Advice, findings: Sequence[Finding]
) -> Iterator[str]:
    claims = [finding for finding in findings if not finding.claim.control]
    counted = Counter(finding.verdict for finding in claims)
    pair, several = runs[0].pair, "s" * (len(runs) > 1)
    yield (
        f"{len(runs)} run{several} of the student {pair.student} and the teacher {pair.teacher}. "
        f"{BRACKETS}"
    )
    if decay is not None and (ahead := ahead_words(decay)):
        half = _row(decay, "half_decay_length")
        length = "Its half-decay length was not measured."
        if half:
            length = half_decay_words(half, _longest(decay))
        yield f"{ahead} {length}"
    for run in runs:
        if run.command == COMPARISON:
            yield from which_teacher.verdict(run.measurements)
    if any(each.claim.control and each.verdict == CONTRADICTED for each in findings):
        yield "THE CONTROL FAILED: do not trust the decay results until this is fixed."
    yield advice.short
    yield (
        f"Of {counted.total()} claims of the literature, {counted[HOLDS]} hold on this pair, "
        f"{counted[CONTRADICTED]} are contradicted, {counted[NOT_SUPPORTED]} are not supported, "
        f"{counted[UNDECIDED]} are undecided, {counted[NOT_TESTABLE]} are not testable with these "
        f"runs and {counted[NOT_MEASURED]} were not measured. These verdicts are about this pair "
        "and these problems, not about the models of the original claims."
    )
    for verdict in VERDICTS:
        names = [each.claim.name.replace("-", " ") for each in claims if each.verdict == verdict]
        if names:
            yield sentence(f"{verdict}: {', '.join(names)}")


def _decay_numbers(decay: FoundRun | None) -> list[KeyNumber]:
    gap, half = (_row(decay, what) for what in ("teacher_advantage", "half_decay_length"))
    if decay is None or gap is None or half is None:
        return [
            KeyNumber("half-decay length", "not measured", "`decaylab prefix-decay` measures it")
        ]
    length = "undefined" if math.isnan(half.value) else f"{rounded(half.value)} tokens"
    if math.isinf(half.value):
        length = f"more than {_longest(decay):g} tokens"
    advantage = PERCENT_OF.text
    return [
        KeyNumber(
            "teacher's advantage", f"{advantage(gap.value)} points", _interval(gap, advantage)
        ),
        KeyNumber("half-decay length", length, half.note or _interval(half, _tokens)),
    ]


def _interval(row: Measurement, text: Callable[[float], str]) -> str:
    if math.isnan(row.low) or math.isnan(row.high):
        return row.note or "no interval"
    return (
        f"{100 * row.level:g} % interval over {row.problems:,} problems {text(row.low)} to "
        f"{text(row.high)}"
    )


def _tokens(end: float) -> str:
    return "beyond the longest prefix" if math.isinf(end) else rounded(end)


def _advised(advice: Advice) -> KeyNumber:
    answer, reason = advice.verdict
    if advice.recommended is None:
        return KeyNumber("advised training", "none", answer)
    return KeyNumber("advised training", advice.recommended.words, reason)


def _row(run: FoundRun | None, what: str) -> Measurement | None:
    rows = pick(run.measurements, what, condition=STUDENT_PREFIX) if run else []
    return rows[0] if rows else None


def _longest(decay: FoundRun) -> float:
    """The longest measured prefix, in tokens."""
    rows = decay.measurements
    return float(rows.loc[rows["condition"] == STUDENT_PREFIX, "prefix_tokens"].max())


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
    yield from _of_controls(runs, findings)
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


def _of_controls(runs: Sequence[FoundRun], findings: Sequence[Finding]) -> Iterator[str]:
    decay = any(run.command == "prefix-decay" for run in runs)
    leads = {
        CONTRADICTED: "THE CONTROL FAILED",
        UNDECIDED: "the control is inconclusive",
        NOT_TESTABLE: "the control is inconclusive",
        **({NOT_MEASURED: "the control was not measured"} if decay else {}),
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
