"""What was measured on a pair and what it says, in plain words: the beginning of a report. Every
sentence is computed.

told = summary(runs)
print(to_markdown(told)); print("\n".join(to_lines(told)))
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from decaylab.claims.advice import Advice, advise
from decaylab.claims.judge import RULE, judge
from decaylab.claims.on_decay import half_decay_words
from decaylab.claims.verdicts import (
    CONTRADICTED,
    HOLDS,
    LEAST_LEVEL,
    NOT_MEASURED,
    NOT_SUPPORTED,
    NOT_TESTABLE,
    UNDECIDED,
    VERDICTS,
    Finding,
    listed,
    pick,
    points,
)
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement, to_frame

SCORED = ("position-kl", "category-kl", "submode", "signals")  # numbers that have a noise floor
BRACKETS = "Brackets hold 95 % intervals over problems where nothing else is said."
NAMED = 3  # runs that are named where many say the same


class KeyNumber(NamedTuple):
    """A number to lead with, as a person reads it. note: its interval, or why there is none."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Summary:
    """Plain text throughout.

    headline: the most important, a sentence or two a line. measured: what each command measured,
    and how. numbers: those to lead with. advice: the paragraph on N. findings: a control first,
    then a claim each. warnings: what must be known before anything is believed.
    """

    headline: tuple[str, ...]
    measured: tuple[str, ...]
    numbers: tuple[KeyNumber, ...]
    advice: str
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]

    @property
    def claims(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if not one.claim.control)

    @property
    def controls(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.claim.control)


def summary(runs: Sequence[FoundRun]) -> Summary:
    """What the runs of one pair measured and say, the claims judged by `claims.judge`."""
    findings = tuple(judge(runs))
    decay = _largest(runs, "prefix-decay")
    advice = _advice(_largest(runs, "signals"), decay)
    return Summary(
        _headline(runs, decay, advice, findings),
        tuple(_measured(runs)),
        (*_decay_numbers(decay), _advised(advice)),
        advice.text,
        findings,
        tuple(_warnings(runs, findings)),
    )


def to_lines(told: Summary) -> list[str]:
    """The summary for a terminal, a line each."""
    lines = [*told.headline, *(f"warning: {warning}" for warning in told.warnings)]
    lines += [f"{one.name}: {one.value} ({one.note})" for one in told.numbers]
    return lines + [f"{one.verdict}: {one.claim.text} {one.sentence}" for one in told.findings]


def to_markdown(told: Summary) -> str:
    """The summary as Markdown, in sections."""
    sections = {
        "Summary": [f"{_escaped(line)}\n" for line in told.headline],
        "Warnings": [f"- {_escaped(line)}" for line in told.warnings],
        "Numbers": [
            *(f"- {one.name}: **{one.value}** ({_escaped(one.note)})" for one in told.numbers),
            f"\n{_escaped(told.advice)}",
        ],
        "Claims": [_item(one) for one in told.claims],
        "Controls": [_item(one) for one in told.controls],
        "What was measured": [f"- {_escaped(line)}" for line in told.measured],
        "How claims are judged": [RULE],
    }
    return (
        "\n\n".join(
            f"## {title}\n\n" + "\n".join(lines).strip()
            for title, lines in sections.items()
            if lines
        )
        + "\n"
    )


def _item(one: Finding) -> str:
    return f"- **{one.verdict}**: {one.claim.text} ({one.claim.place}) {_escaped(one.sentence)}"


def _escaped(text: str) -> str:
    """Names that users and models gave are text, never markup."""
    for character in ("\\", "*", "_", "<", "|", "#"):
        text = text.replace(character, f"\\{character}")
    return text.replace("](", "]\\(")


# Headline and numbers


def _headline(
    runs: Sequence[FoundRun], decay: FoundRun | None, advice: Advice, findings: Sequence[Finding]
) -> tuple[str, ...]:
    counted = Counter(one.verdict for one in findings if not one.claim.control)
    pair, several = runs[0].pair, "s" * (len(runs) > 1)
    lines = [
        f"{len(runs)} run{several} of the student {pair.student} and the teacher {pair.teacher}. "
        f"{BRACKETS}"
    ]
    gap = _row(decay, "teacher_advantage")
    if decay is not None and gap is not None:
        over = f"{points(gap)} over {gap.problems:,} problems"
        lines.append(f"Alone, the teacher is ahead of the student by {over}. {_half_decay(decay)}")
    if any(one.verdict == CONTRADICTED for one in findings if one.claim.control):
        lines.append(
            "THE CONTROL FAILED: nothing that is said of decay here can be trusted before it is "
            "mended."
        )
    lines.append(advice.text.split(". ")[0].removesuffix(".") + ".")
    lines.append(
        f"Of {counted.total()} claims of the paper and of the literature {counted[HOLDS]} hold on "
        "this pair, "
        f"{counted[CONTRADICTED]} are contradicted, {counted[NOT_SUPPORTED]} are not supported, "
        f"{counted[UNDECIDED]} are "
        f"undecided, {counted[NOT_TESTABLE]} are not testable with these runs and "
        f"{counted[NOT_MEASURED]} were not "
        "measured. This speaks of this pair and these problems, not of the models that the claims "
        "were made of."
    )
    for verdict in VERDICTS:
        names = [
            one.claim.name.replace("-", " ")
            for one in findings
            if one.verdict == verdict and not one.claim.control
        ]
        lines += [f"{verdict[0].upper()}{verdict[1:]}: {', '.join(names)}."] if names else []
    return tuple(lines)


def _half_decay(decay: FoundRun) -> str:
    half = _row(decay, "half_decay_length")
    return (
        half_decay_words(half, _longest(decay))
        if half
        else "Its half-decay length was not measured."
    )


def _decay_numbers(decay: FoundRun | None) -> list[KeyNumber]:
    gap, half = (_row(decay, what) for what in ("teacher_advantage", "half_decay_length"))
    if decay is None or gap is None or half is None:
        return [
            KeyNumber("half-decay length", "not measured", "`decaylab prefix-decay` measures it")
        ]
    length = "undefined" if math.isnan(half.value) else f"{half.value:.0f} tokens"
    length = f"more than {_longest(decay):g} tokens" if math.isinf(half.value) else length
    return [
        KeyNumber(
            "teacher's advantage",
            f"{100 * gap.value:.1f} points",
            _interval(gap, lambda end: f"{100 * end:.1f}"),
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
    return "beyond the longest prefix" if math.isinf(end) else f"{end:.0f}"


def _advice(signals: FoundRun | None, decay: FoundRun | None) -> Advice:
    """By the signals and the decay that most problems stand behind."""
    return advise(
        signals.measurements if signals else to_frame([]), decay.measurements if decay else None
    )


def _advised(advice: Advice) -> KeyNumber:
    if advice.recommended is None:
        reason = (
            advice.text.split(". ")[0]
            .removeprefix("No rollout length is recommended: ")
            .removesuffix(".")
        )
        return KeyNumber("advised rollout length N", "none", reason)
    return KeyNumber(
        "advised rollout length N",
        f"{advice.recommended} tokens",
        "a start, not shown to be the best",
    )


def _row(run: FoundRun | None, what: str) -> Measurement | None:
    rows = pick(run.measurements, what, condition="student-prefix") if run else []
    return rows[0] if rows else None


def _longest(decay: FoundRun) -> float:
    """The longest prefix that was measured, in tokens."""
    rows = decay.measurements
    return float(rows[rows["condition"] == "student-prefix"]["prefix_tokens"].max())


def _largest(runs: Sequence[FoundRun], command: str) -> FoundRun | None:
    """The run of a command with the most problems, of equals the first."""
    found = [run for run in runs if run.command == command]
    return max(found, key=_problems, default=None)


def _problems(run: FoundRun) -> int:
    return int(run.measurements["problems"].max()) if len(run.measurements) else 0


# What was measured


def _measured(runs: Sequence[FoundRun]) -> Iterable[str]:
    """A sentence a command and way of measuring; runs that differ by what they measured it on are
    named together."""
    groups: dict[tuple[str, str], list[FoundRun]] = {}
    for run in runs:
        groups.setdefault((run.command, _how(run)), []).append(run)
    for (command, how), same in groups.items():
        students = dict.fromkeys(
            name for run in same for name in run.measurements["checkpoint"] if name
        )
        trained = [name for name in students if name not in ("base", "teacher")]
        on = (
            f"; {'arms' if command.startswith('sweep') else 'students'} {_named(trained)}"
            if trained
            else ""
        )
        yield (
            f"{command}, run{'s' * (len(same) > 1)} {_named([run.name for run in same])}: "
            f"{how}{on}."
        )


def _how(run: FoundRun) -> str:
    """Problems, samples and settings, as far as the record has them."""
    options, asked = run.options, run.record.get("identity", {}).get("problems") or {}
    problems, samples = _problems(run), options.get("samples")
    said = [f"{problems:,} problems" + (f" of {asked['name']}" if "name" in asked else "")]
    said[0] += f" x {samples} sample{'s' * (samples != 1)}" if samples else ""
    said += [f"T = {options['temperature']:g}"] if options.get("temperature") is not None else []
    said += [f"at most {options['max_tokens']} tokens"] if options.get("max_tokens") else []
    rules = [str(rule) for rule in dict.fromkeys(run.measurements["answer_rule"]) if rule]
    said += [f"answer rule {rules[0]}"] if rules else []
    said += (
        [f"{options['seeds']} training seeds, {options['checkpoint_rule']} checkpoint"]
        if "seeds" in options
        else []
    )
    said += [f"seed {options['seed']}"] if "seed" in options else []
    lengths = [length for length in options.get("prefix_lengths") or () if length]
    said += [f"prefixes of {listed(lengths)} tokens"] if lengths else []
    return ", ".join(said)


def _named(names: Sequence[str]) -> str:
    if len(names) <= NAMED + 1:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


# Warnings


def _warnings(runs: Sequence[FoundRun], findings: Sequence[Finding]) -> Iterable[str]:
    yield from _of_controls(runs, findings)
    yield from _of_settings(runs)
    for run in runs:
        frame = run.measurements
        if (frame["level"] < LEAST_LEVEL).any():
            yield (
                f"{run.name}: its intervals are at {100 * frame['level'].min():g} %; no claim "
                "is decided by them"
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


def _of_controls(runs: Sequence[FoundRun], findings: Sequence[Finding]) -> Iterable[str]:
    for one in findings:
        if one.claim.control and one.verdict == CONTRADICTED:
            yield f"THE CONTROL FAILED: {one.sentence}"
        elif one.claim.control and one.verdict in (UNDECIDED, NOT_TESTABLE):
            yield f"the control decides nothing: {one.sentence}"
        elif (
            one.claim.control
            and one.verdict == NOT_MEASURED
            and any(run.command == "prefix-decay" for run in runs)
        ):
            yield f"the control was not measured: {one.sentence}"


def _of_settings(runs: Sequence[FoundRun]) -> Iterable[str]:
    """Where runs of one pair were made in different ways, so that their numbers do not stand side
    by side."""
    settings: dict[str, Callable[[FoundRun], object]] = {
        "problem set": lambda run: (run.record.get("identity", {}).get("problems") or {}).get(
            "name"
        ),
        "temperature": lambda run: run.options.get("temperature"),
        "budget of tokens": lambda run: run.options.get("max_tokens"),
    }
    for name, read in settings.items():
        values: dict[object, list[str]] = {}
        for run in runs:
            if (value := read(run)) is not None:
                values.setdefault(value, []).append(run.name)
        if len(values) > 1:
            yield f"the runs differ in their {name}: " + "; ".join(
                f"{value} ({_named(who)})" for value, who in values.items()
            )
