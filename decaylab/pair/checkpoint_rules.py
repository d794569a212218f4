"""Checkpoint rules: which checkpoints of a run are measured, and which one represents the run.

    last   the highest step
    best   the step with the highest accuracy in the run's validation.csv, ties to the earliest;
           never chosen on the test problems

If the run has a validation.csv, both are shown side by side. Step 0, before training, is not a
checkpoint. A model in the run's own folder is its final model.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decaylab.errors import UserError
from decaylab.options.kinds import BEST, CHECKPOINT_RULE, EVERY, LAST
from decaylab.pair import targets
from decaylab.policies import checkpoint_folders
from decaylab.policies.checkpoint_folders import step_of
from decaylab.policies.embedded import EMBEDDED
from decaylab.policies.identity import hash_folder
from decaylab.runs.store import RunFolder

VALIDATION = "validation.csv"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint to measure.

    name: what it is loaded by. step: NaN if unknown. training: columns that describe how its run
    was trained. run: its run folder.
    """

    name: str
    step: float
    training: dict[str, Any] = field(default_factory=dict)
    run: Path = Path()


@dataclass(frozen=True)
class Plan:
    """The checkpoints to measure. chosen: rule -> names of the checkpoints it selects, one per run.

    notes: what a reader must know.
    """

    checkpoints: tuple[Checkpoint, ...]
    chosen: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names by which the checkpoints are loaded."""
        return tuple(one.name for one in self.checkpoints)


def plan(names: Sequence[str], rule: str = EVERY) -> Plan:
    """The checkpoints for the given names: for a run's folder, those that the rule selects.

    rule: ``every``, ``last``, ``best``, or ``last,best``.

    Raises:
        UserError: an unknown rule; ``best`` for a run whose validation.csv does not decide it; a
            damaged record.
    """
    rules = _rules(rule)
    checkpoints: list[Checkpoint] = []
    chosen: dict[str, list[str]] = {}
    notes: list[str] = []
    for name in names:
        run = Path(name).expanduser()
        folders, more = _checkpoints_of(name)
        notes += more
        if not folders:
            checkpoints.append(_checkpoint(run, name, run.absolute().parent))
            continue
        # The last checkpoint does not need a validation.csv.
        best, note = (None, "") if rules == (LAST,) else _best(run, folders)
        if best is None and BEST in rules:
            raise UserError(f"--checkpoint-rule {rule}: {note}; use --checkpoint-rule {LAST}")
        if note:
            notes.append(note)
        taken = {LAST: folders[-1], BEST: best}
        for of in taken if EVERY in rules else rules:
            if taken[of]:
                chosen.setdefault(of, []).append(str(taken[of]))
        if EVERY not in rules:
            wanted = [taken[of] for of in rules]
            folders = [folder for folder in folders if folder in wanted]
        checkpoints += [_checkpoint(folder, str(folder), run.absolute()) for folder in folders]
    by_rule = {of: tuple(chosen[of]) for of in (LAST, BEST) if of in chosen}
    return Plan(tuple(checkpoints), by_rule, tuple(notes))


def not_measured(names: Sequence[str]) -> tuple[str, ...]:
    """A note for each run folder whose last checkpoint is measured and that has others."""
    sentences = []
    for name in names:
        folders, notes = _checkpoints_of(name)
        if len(folders) > 1:
            listed = _listed(Path(name).expanduser(), folders)
            sentences += [
                *notes,
                f"{name}: only the last of its {len(folders)} checkpoints ({listed}) is measured; "
                f"use --checkpoint-rule {EVERY} to measure all",
            ]
    return tuple(sentences)


def _rules(rule: str) -> tuple[str, ...]:
    if not CHECKPOINT_RULE.holds(rule):
        raise UserError(f"--checkpoint-rule must {CHECKPOINT_RULE.words}, got {rule}")
    return tuple(part.strip() for part in rule.split(","))


def _checkpoints_of(name: str) -> tuple[list[Path], list[str]]:
    """The checkpoints in a run's folder sorted by step, then the final model; and notes.

    Empty if the name is a single policy or another kind of run.
    """
    run = Path(name).expanduser()
    if name in EMBEDDED or not run.is_dir() or (run / "rollouts.parquet").exists():
        return [], []
    # DeepSpeed writes its states into global_stepN inside the folder of a step.
    if checkpoint_folders.is_model(run) and step_of(run) is not None:
        return [], []
    folders, note = checkpoint_folders.checkpoints(run)
    folders = [folder for folder in folders if step_of(folder) != 0]
    notes = [note] if note else []
    if not folders or not checkpoint_folders.is_model(run):
        return folders, notes
    if hash_folder(run) == hash_folder(folders[-1]):
        notes.append(
            f"{run}: the model in the folder itself is identical to {folders[-1].name}, measured "
            "once"
        )
        return folders, notes
    folders.append(run)
    notes.append(
        f"{run}: {_listed(run, folders)} are measured; the last one is the model in the folder "
        "itself"
    )
    return folders, notes


def _listed(run: Path, folders: Sequence[Path]) -> str:
    """The names of a run's checkpoints."""
    names = {folder: checkpoint_folders.step_folder(folder).name for folder in folders}
    return ", ".join((names | {run: "final"})[folder] for folder in folders)


def _checkpoint(folder: Path, name: str, run: Path) -> Checkpoint:
    step: float | None = step_of(folder)
    if step is None:
        step = checkpoint_folders.recorded_step(folder)
    training_run = targets.run_folder(folder)
    training = _training(training_run) if training_run else {}
    return Checkpoint(name, math.nan if step is None else float(step), training, run)


def _training(run: Path) -> dict[str, Any]:
    """Columns of the measurements that describe how a run was trained; empty if unknown."""
    options = ((RunFolder(run).record or {}).get("identity") or {}).get("training") or {}
    if "selector" not in options:
        return {}
    length, seed = options.get("rollout_length"), options.get("seed")
    return {
        "selector": str(options["selector"]),
        "rollout_length": math.inf if length in (None, "full") else float(length),
        "training_seed": math.nan if seed is None else float(seed),
    }


def _best(run: Path, folders: Sequence[Path]) -> tuple[Path | None, str]:
    """The checkpoint with the highest validation accuracy, and a note about the choice."""
    path = run / VALIDATION
    if not path.exists():
        return None, f"{run} has no {VALIDATION} to choose the best checkpoint from"
    accuracies = _accuracies(path)
    steps = {step: folder for folder in folders if (step := step_of(folder)) is not None}
    known = [step for step in steps if step in accuracies]
    if not known:
        return (
            None,
            f"{path} has no accuracy for any existing checkpoint, so the best one is unknown",
        )
    lacking = len(folders) - len(known)
    note = (
        f"{lacking} of {len(folders)} checkpoints have no accuracy in {path} and cannot be the "
        "best one"
    )
    # Ties go to the earliest step.
    return steps[max(known, key=lambda step: (accuracies[step], -step))], note if lacking else ""


def _accuracies(path: Path) -> dict[int, float]:
    """Validation accuracy by step; for a step that was validated twice, the later one."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        found = {int(row["step"]): float(row["accuracy"] or math.nan) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: each row needs a step and an accuracy ({error!r})"
        ) from error
    return {step: accuracy for step, accuracy in found.items() if not math.isnan(accuracy)}
