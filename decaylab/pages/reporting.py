"""The report and the token view of finished runs, as pages. Everything is read, judged and drawn
anew; no model is at hand.

page = report_page(["runs/decay", "runs/esr"])
write_page(page, Path("report.html"))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab import disk, printing
from decaylab.claims.advice import Advice
from decaylab.claims.judge import RULE
from decaylab.claims.summary import summary
from decaylab.claims.verdicts import Finding
from decaylab.errors import UserError
from decaylab.pages import gallery, questions, report, token_view
from decaylab.pages.questions import Question
from decaylab.pages.sections import Sections
from decaylab.paper.paper_items import FIGURES, VIEWED
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import NEXT_BYTE, of_two_tokenizers
from decaylab.tokens import viewed

DECAY = "prefix-decay"
SWEPT = "the test of sweeps"
LONGEST = 700  # letters of a finding that stands among the few that decide


@dataclass(frozen=True)
class Rollouts:
    """Rollouts to look at with what the teacher wrote from their prefixes; None: no decay run of
    the pair is at hand."""

    kept: viewed.Viewed
    continuations: pd.DataFrame | None


def report_page(paths: Sequence[str | Path], *, published: bool = False) -> str:
    """The report of the runs at these paths and below, as the text of an HTML file.

    published: the paper's numbers in figures and tables too.

    Raises:
        UserError: no run, runs of different pairs, or measurements that cannot be read.
    """
    runs = found_runs.find(paths)
    result = summary(runs)
    advice = result.advice
    sections = Sections(runs, advice, published)
    answered, unanswered = [], []
    for question in questions.QUESTIONS:
        if section := sections.of(question):
            answered.append(section)
        elif question is not questions.TEACHER:
            unanswered.append(report.Missing(question.heading, _needs(question, advice)))
    decay = sections.of(questions.DECAY)
    if decay is None:
        needs = questions.DECAY.needs
        unanswered.insert(0, report.Missing(questions.DECAY.heading, needs))
    others = list(sections.others())
    page = report.render(
        report.ReportContent(
            title="Teacher decay",
            student=runs[0].pair.student,
            teacher=runs[0].pair.teacher,
            problems=_problems(runs),
            answer=advice.verdict,
            facts=[pair for pair in advice.sections if pair[0] != "Evidence"],
            alarms=result.alarms,
            decay=decay,
            deciding=[_short(finding) for finding in result.deciding],
            sections=answered,
            unanswered=unanswered,
            tokens=_tokens(runs),
            others=others,
            missing=[report.Missing(item.title, item.makes) for item in sections.missing()],
            warnings=[*result.warnings, *sections.lost],
            claims=result.claims,
            controls=result.controls,
            counted=result.counted,
            judging=RULE,
            measured=result.measured,
            runs=[_run(run) for run in runs],
        )
    ).lstrip()
    if not any(of_two_tokenizers(run.measurements) for run in runs):
        return page
    # Every part of the page is of one pair.
    for name in ("Reverse KL", "reverse KL"):
        page = page.replace(name, NEXT_BYTE[name])
    return page


def _short(finding: Finding) -> Finding:
    """A finding on many students, cut where one of them, a sentence or a word ends; all of it is
    under all claims."""
    if len(finding.sentence) <= LONGEST:
        return finding
    start = finding.sentence[:LONGEST]
    cuts = (start.rpartition(end)[0] for end in ("; ", ". ", " "))
    kept = next((cut for cut in cuts if len(cut) > LONGEST / 2), start)
    return replace(finding, sentence=f"{kept} \u2026 The rest is under all claims.")


def _needs(question: Question, advice: Advice) -> str:
    """The command that would answer a question: of the lengths the sweep that the advice names."""
    experiment = advice.experiment
    if question is questions.LENGTHS and experiment and " sweep " in experiment.command:
        return experiment.command
    return question.needs


def view_page(path: Path, decay: Path | None = None) -> str:
    """The token view of a run, as the text of an HTML file.

    decay: the prefix-decay run whose continuations are shown; None: the one at or below the path,
    or else that of the same pair under ``runs``.

    Raises:
        UserError: the run kept no rollouts to look at, or ``decay`` holds no decay run of the same
        pair.
    """
    runs = found_runs.find([path])
    holding = [entry.run for entry in gallery.entries(runs, _CASE) if entry.run]
    if not holding:
        viewed.read(runs[0].folder)  # says what makes them
        raise UserError(
            f"{runs[0].folder} kept no rollouts to look at; measure again with --view-rollouts "
            "above 0"
        )
    known = found_runs.find([decay]) if decay else runs
    if decay and not any(run.command == DECAY for run in known):
        raise UserError(
            f"--decay {decay} holds no prefix-decay run; `decaylab prefix-decay` makes one"
        )
    if decay:
        found_runs.check_one_pair([holding[0], *known])
    near = [] if decay else found_runs.of_same_pair(holding[0], DECAY, Path("runs"))
    rollouts = _rollouts(holding[0], [*known, *near])
    return token_view.page(
        rollouts.kept.rollouts,
        rollouts.kept.tokens,
        rollouts.continuations,
        title=f"Token view of {holding[0].name}",
        pair=str(holding[0].pair),
    )


_CASE = [item for item in FIGURES if item.commands == (VIEWED,)]


def write_page(page: str, path: Path) -> Path:
    """Writes a page, whole or not at all.

    Raises:
        UserError: the place is a folder, or cannot be written.
    """
    if path.is_dir():
        raise UserError(
            f"{path} is a folder; give the page a name in it, such as {path / 'report.html'}"
        )
    disk.write_atomically(path, page.encode())
    return path


def _rollouts(run: FoundRun, runs: Sequence[FoundRun]) -> Rollouts:
    """Those that a run kept, with continuations out of the first decay run that holds any of
    them."""
    kept = viewed.read(run.folder)
    rule = str(kept.rollouts["answer_rule"].iloc[0])
    for other in runs:
        if other.command == DECAY and (other.folder / "rollouts.parquet").exists():
            continuations = viewed.continuations(kept, other.folder, rule)
            if len(continuations):
                return Rollouts(kept, continuations)
    return Rollouts(kept, None)


def _tokens(runs: Sequence[FoundRun]) -> report.Embedded | None:
    """The token view as a part of the report; None where no run kept rollouts."""
    holding = [entry.run for entry in gallery.entries(runs, _CASE) if entry.run]
    if not holding:
        return None
    rollouts = _rollouts(holding[0], runs)
    return token_view.fragment(
        rollouts.kept.rollouts,
        rollouts.kept.tokens,
        rollouts.continuations,
        pair=str(holding[0].pair),
    )


def _problems(runs: Sequence[FoundRun]) -> str:
    """The problem sets with how many problems were asked in how many runs: 300 in 9 runs, 800 in 2.

    A sweep records no problem set of its own: that of its test counts, with as many problems as its
    measurements hold.
    """
    asked: dict[str, Counter[int]] = {}
    for run in runs:
        problems = run.record.get("identity", {}).get("problems") or {}
        if run.command.startswith("sweep") and len(run.measurements):
            problems = {"name": SWEPT, "asked": run.measurements["problems"].max()}
        if "name" in problems:
            counts = asked.setdefault(problems["name"], Counter())
            counts[int(problems.get("asked", 0))] += 1
    return "; ".join(f"{name} ({_asked(counts)})" for name, counts in asked.items())


def _asked(counts: Counter[int]) -> str:
    parts = []
    for count, runs in sorted(counts.items()):
        counted = f"{count:,} problem{'s' * (count != 1)}"
        problems = counted if count else "problems not recorded"
        several = f" in {runs} run{'s' * (runs > 1)}" if len(counts) > 1 else ""
        parts.append(f"{problems}{several}")
    return ", ".join(parts)


def _run(run: FoundRun) -> report.RunInfo:
    record, identity = run.record, run.record.get("identity", {})
    policies: dict[str, Any] = identity if "student" in identity else record.get("pair", {})
    models = [_model(role, policies[role]) for role in ("student", "teacher")]
    models += [
        report.ReportModel(f"checkpoint {name}", name, str(hashed))
        for name, hashed in identity.get("checkpoints", {}).items()
    ]
    return report.RunInfo(
        run.name,
        str(record.get("command", run.command)),
        _relative(run.folder),
        run.options,
        record.get("versions", {}),
        tuple(record.get("notes", ())),
        models,
        _made(record.get("made") or {}),
    )


def _made(made: Mapping[str, Any]) -> dict[str, str]:
    """When, for how long, where and by which code a run was made, as far as it is recorded."""
    shown = {name: str(made[name]) for name in ("date", "hardware", "commit") if made.get(name)}
    if made.get("seconds"):
        shown["duration"] = printing.seconds(float(made["seconds"]))
    return shown


def _relative(folder: Path) -> str:
    """A folder as seen from where the command was given; one from elsewhere by its name alone: a
    report travels."""
    here, there = Path.cwd(), folder.absolute()
    return str(there.relative_to(here)) if there.is_relative_to(here) else folder.name


def _model(role: str, policy: dict[str, Any]) -> report.ReportModel:
    return report.ReportModel(
        role, policy["name"], policy.get("content_hash", ""), policy.get("revision") or ""
    )
