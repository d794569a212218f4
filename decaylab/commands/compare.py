"""A comparison of finished runs: read, paired, measured, drawn. No model is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.analyses import compare as analysis
from decaylab.claims import which_teacher
from decaylab.commands import comparable, scored_kl
from decaylab.commands.comparable import Compared, ComparedRun
from decaylab.commands.drawing import drawn
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.options.comparing import CompareOptions
from decaylab.runs import measurements, records, store
from decaylab.runs.panels import identical_rollouts
from decaylab.runs.vocabulary import STUDENT, TEACHER, TEACHERS

COMMAND = "compare"
TIMED = "teacher rollouts"  # the stage of a prefix-decay run in which the teacher writes alone


@dataclass(frozen=True)
class CompareResult:
    """A comparison: its folder, record and measurements (columns of `measurements.Measurement`).

    verdict: which teacher, in one to three lines.
    """

    folder: Path
    record: dict[str, Any]
    measurements: pd.DataFrame
    notes: tuple[str, ...]
    verdict: tuple[str, ...]


@dataclass(frozen=True)
class _Paired:
    """What the runs have in common."""

    problems: tuple[str, ...]
    settings: analysis.Settings
    sides: tuple[analysis.Side, ...]
    notes: tuple[str, ...]


def compare(options: CompareOptions, *, command: str = "") -> CompareResult:
    """Compares runs and writes the run folder of the comparison.

    Raises:
        UserError: runs that cannot be read or paired, in one line; a folder with another run.
    """
    found = comparable.read(options.run_folders)
    compared = comparable.check(found.decay, options.answer_rule)
    runs, names = _reference_first(found.decay, compared, options.reference)
    rule = options.answer_rule or runs[0].answer_rule
    identity = _identity(options, runs, found.scored, names, rule)
    folder = store.RunFolder(Path(options.out or _default_folder(runs, compared, identity)))
    paired = _paired(options, runs, names, compared, found.scored, rule, folder.path.name)
    identity["problems"] |= {"asked": len(paired.problems)}
    with folder.lock():
        record = records.run_record(
            command,
            identity,
            notes=paired.notes,
            pair={role: runs[0].policy(role) for role in (STUDENT, TEACHER)},
            compared=[_described(run, name) for run, name in zip(runs, names, strict=True)],
        )
        folder.open(record, overwrite=options.overwrite)
        frame = analysis.measure(paired.sides, paired.settings)
        verdict = which_teacher.verdict(frame)
        folder.update({"command": command, "notes": list(paired.notes), "verdict": list(verdict)})
        measurements.write(frame, folder.path / "measurements.parquet")
    record = drawn(folder, COMMAND, published=False)
    return CompareResult(folder.path, record, frame, tuple(record["notes"]), verdict)


def _reference_first(
    runs: Sequence[ComparedRun], compared: Compared, reference: str | None
) -> tuple[tuple[ComparedRun, ...], tuple[str, ...]]:
    """The runs with their names, the one that differences are taken from first."""
    names = comparable.names(runs, compared)
    place = 0
    if reference is not None:
        path = Path(reference).expanduser().absolute()
        fitting = [
            index
            for index, (run, name) in enumerate(zip(runs, names, strict=True))
            if name == reference or run.folder.absolute() == path
        ]
        if len(fitting) != 1:
            raise UserError(f"--reference must be one of {', '.join(names)}, got {reference}")
        (place,) = fitting
    order = [place, *(index for index in range(len(runs)) if index != place)]
    return tuple(runs[index] for index in order), tuple(names[index] for index in order)


def _paired(
    options: CompareOptions,
    runs: tuple[ComparedRun, ...],
    names: tuple[str, ...],
    compared: Compared,
    scored: Mapping[Path, ComparedRun],
    rule: str,
    name: str,
) -> _Paired:
    """What the runs have in common, and what is left out of each."""
    problems = sorted(set.intersection(*(set(run.problems) for run in runs)))
    lengths = sorted(set.intersection(*(set(run.lengths) for run in runs)))
    if len(lengths) < 2 or not problems:
        raise UserError("the runs have no problem, or no prefix length beyond 0, that all share")
    tables = [run.rollouts[run.rollouts["problem_id"].isin(problems)] for run in runs]
    same, total = identical_rollouts(tables)
    by_rollout = compared == TEACHERS and same == total
    kl, kl_notes = _kl(runs, scored, problems)
    settings = analysis.Settings(
        tuple(lengths),
        rule,
        compared,
        by_rollout,
        level=options.level,
        seed=options.seed,
        run=name,
    )
    sides = [
        analysis.Side(called, table, kl.get(run.folder), _seconds(run))
        for called, table, run in zip(names, tables, runs, strict=True)
    ]
    notes = [*_left_out(runs, problems, lengths), _pairing(compared, same, total), *kl_notes]
    return _Paired(tuple(problems), settings, tuple(sides), tuple(notes))


def _pairing(compared: Compared, same: int, total: int) -> str:
    """On what the runs are paired, in a sentence."""
    if compared != TEACHERS:
        return "paired by problem: each student has rollouts of its own"
    if same == total:
        return f"paired by rollout: the student's {total} rollouts are the same in all runs"
    return (
        f"paired by problem: {same} of the student's {total} rollouts are the same in all runs "
        "(another seed, engine or precision writes others)"
    )


def _left_out(
    runs: Sequence[ComparedRun], problems: Sequence[str], lengths: Sequence[int]
) -> list[str]:
    """What not all runs have."""
    notes = []
    most = max(len(run.problems) for run in runs)
    if most > len(problems):
        notes.append(
            f"{len(problems)} of up to {most} problems are in all runs; others left out: run all "
            "with one --limit to compare them too"
        )
    others = sorted(set().union(*(run.lengths for run in runs)) - set(lengths))
    if others:
        notes.append(
            f"prefix lengths that not all runs have, left out: {_numbers(others)}; run all with "
            "the same --prefix-lengths to compare them too"
        )
    return notes


def _kl(
    runs: Sequence[ComparedRun], scored: Mapping[Path, ComparedRun], problems: Sequence[str]
) -> tuple[dict[Path, pd.DataFrame], list[str]]:
    """The KL by problem of the runs that have one, by folder, and what must be known of it."""
    tables, notes = {}, []
    for run in runs:
        if run.folder not in scored:
            continue
        table, note = scored_kl.by_problem(scored[run.folder])
        if table is not None:
            table = table[table.index.isin(problems)]
            if table.empty:
                table, note = None, f"{scored[run.folder].folder}: on other problems, no KL"
        if table is not None:
            tables[run.folder] = table
        if note:
            notes.append(note)
    shared = [set(table.index) for table in tables.values()]
    if shared and not set.intersection(*shared):
        return {}, [*notes, "the KL was measured on no problem that all runs share: left out"]
    return tables, notes


def _seconds(run: ComparedRun) -> float:
    """Seconds for a rollout of the teacher alone, as the run timed it; NaN if it did not."""
    timed = (run.record.get("sampled") or {}).get(TIMED) or {}
    return float(timed["seconds"]) / timed["rollouts"] if timed.get("rollouts") else float("nan")


def _identity(
    options: CompareOptions,
    runs: Sequence[ComparedRun],
    scored: Mapping[Path, ComparedRun],
    names: Sequence[str],
    rule: str,
) -> dict[str, Any]:
    """What the numbers of a comparison depend on."""
    shared = {name: runs[0].options.get(name) for name in comparable.SAMPLING}
    chosen = declared.identity(options, declared.COMPARISON)
    chosen |= {"reference": names[0], "answer_rule": rule}
    problems = runs[0].identity["problems"]
    return {
        "diagnostic": COMMAND,
        "options": {**shared, **chosen},
        "runs": [{"name": name, "rollouts": run.digest} for name, run in zip(names, runs)],
        "kl": [scored[run.folder].record.get("tokens") for run in runs if run.folder in scored],
        "problems": {name: problems.get(name) for name in ("name", "version")},
    }


def _described(run: ComparedRun, name: str) -> dict[str, Any]:
    """A run that is compared, as run.json holds it."""
    policies = {role: run.policy(role) for role in (STUDENT, TEACHER)}
    return {"name": name, "folder": str(run.folder), **policies}


def _default_folder(
    runs: Sequence[ComparedRun], compared: Compared, identity: Mapping[str, Any]
) -> Path:
    """Another comparison has another folder: its name ends with a hash of what is compared."""
    shared = runs[0].policy(STUDENT if compared == TEACHERS else TEACHER)["name"]
    plain = re.sub(r"[^\w.-]+", "-", Path(shared).name)[:60]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"{COMMAND}-{compared}-{plain}-{digest}"


def _numbers(lengths: Sequence[int]) -> str:
    return ", ".join(map(str, lengths))
