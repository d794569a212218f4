"""Checkpoint rules: which checkpoints of a run are measured, and which one stands for the run.

    last   the highest step
    best   the step of the highest accuracy in the run's validation.csv, of equals the earliest;
           never by the test problems

Both are shown side by side wherever the run has a validation.csv. Step 0, before training, is no
checkpoint. A model in the run's folder itself is its final one.
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
from decaylab.policies import checkpoint_folders, loading
from decaylab.policies.checkpoint_folders import step_of
from decaylab.policies.identity import hash_folder
from decaylab.runs.store import RunFolder

VALIDATION = "validation.csv"


@dataclass(frozen=True)
class Checkpoint:
    """One that is measured. name: as it is loaded. step: NaN where its folder does not tell.
    training, run: of its run."""

    name: str
    step: float
    training: dict[str, Any] = field(default_factory=dict)
    run: Path = Path()


@dataclass(frozen=True)
class Plan:
    """What is measured, and what each rule takes. chosen: rule -> names of the checkpoints it
    takes, one a run."""

    checkpoints: tuple[Checkpoint, ...]
    chosen: dict[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()

    @property
    def loaded(self) -> tuple[str, ...]:
        """What the checkpoints are loaded by."""
        return tuple(one.name for one in self.checkpoints)


def plan(names: Sequence[str], rule: str = EVERY) -> Plan:
    """The checkpoints behind the names that were given: of a run's folder those that the rule
    takes, else the one named.

    rule: ``every``, ``last``, ``best``, or ``last,best``.

    Raises:
        UserError: an unknown rule; ``best`` of a run without a validation.csv that says it; a
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
        # Without a validation.csv the last checkpoint can still be measured.
        best, note = (None, "") if rules == (LAST,) else _best(run, folders)
        if best is None and BEST in rules:
            raise UserError(f"--checkpoint-rule {rule}: {note}; say --checkpoint-rule {LAST}")
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
    """Of each run's folder that stands for its last checkpoint, a sentence on those that it holds
    besides."""
    sentences = []
    for name in names:
        folders, notes = _checkpoints_of(name)
        if len(folders) > 1:
            listed = _listed(Path(name).expanduser(), folders)
            sentences += [
                *notes,
                f"{name}: of its {len(folders)} checkpoints ({listed}) the last one is measured; "
                f"--checkpoint-rule {EVERY} measures all",
            ]
    return tuple(sentences)


def _rules(rule: str) -> tuple[str, ...]:
    if not CHECKPOINT_RULE.holds(rule):
        raise UserError(f"--checkpoint-rule must {CHECKPOINT_RULE.words}, got {rule}")
    return tuple(part.strip() for part in rule.split(","))


def _checkpoints_of(name: str) -> tuple[list[Path], list[str]]:
    """The checkpoints in a run's folder, by step, the final model in the folder itself behind them;
    and what must be known.

    None where a single policy is meant, or a run of something else.
    """
    run = Path(name).expanduser()
    if name in loading.EMBEDDED or not run.is_dir() or (run / "rollouts.parquet").exists():
        return [], []
    # DeepSpeed keeps its states in global_stepN inside the folder of a step.
    if checkpoint_folders.is_model(run) and step_of(run) is not None:
        return [], []
    folders, note = checkpoint_folders.checkpoints(run)
    folders = [folder for folder in folders if step_of(folder) != 0]
    notes = [note] if note else []
    if not folders or not checkpoint_folders.is_model(run):
        return folders, notes
    if hash_folder(run) == hash_folder(folders[-1]):
        notes.append(
            f"{run}: the model in the folder itself is {folders[-1].name}, byte for byte: measured "
            "once"
        )
        return folders, notes
    folders.append(run)
    notes.append(
        f"{run}: {_listed(run, folders)} are measured; the last of these is the model in the "
        "folder itself"
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
    """Columns of the measurements that say how a run was trained; none where its record does
    not."""
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
    """The checkpoint of the highest validation accuracy, and what must be known about the
    choice."""
    path = run / VALIDATION
    if not path.exists():
        return None, f"{run} holds no {VALIDATION}, by which the best checkpoint would be chosen"
    accuracies = _accuracies(path)
    steps = {step: folder for folder in folders if (step := step_of(folder)) is not None}
    known = [step for step in steps if step in accuracies]
    if not known:
        return (
            None,
            f"{path} holds no accuracy of a checkpoint that is there, by which the best one would "
            "be chosen",
        )
    lacking = len(folders) - len(known)
    note = (
        f"{lacking} of {len(folders)} checkpoints have no accuracy in {path}: none of them can "
        "be the best one"
    )
    # Of equal accuracies the earliest step.
    return steps[max(known, key=lambda step: (accuracies[step], -step))], note if lacking else ""


def _accuracies(path: Path) -> dict[int, float]:
    """Validation accuracy by step, where there is one; of a step that was validated twice the later
    one."""
    try:
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        found = {int(row["step"]): float(row["accuracy"] or math.nan) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged: each row needs a step and an accuracy ({error!r})"
        ) from error
    return {step: accuracy for step, accuracy in found.items() if not math.isnan(accuracy)}
