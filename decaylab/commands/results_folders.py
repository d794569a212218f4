"""What a diagnostic measures, and the folder of its results.

runs/esr/evaluate                            evaluate runs/esr
runs/esr/evaluate-limit-10                   evaluate runs/esr --limit 10
runs/esr/position-kl-esr-full                position-kl runs/esr runs/full
runs/position-kl-TEACHER-STUDENT-ckpt-50-... position-kl ckpt-50/ (in no run's folder)
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from decaylab.errors import UserError
from decaylab.options import declared, folder_names
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.kinds import EVERY
from decaylab.pair import checkpoint_rules, targets
from decaylab.pair.targets import Target, Targets
from decaylab.policies import checkpoint_folders, loaded_models, loading
from decaylab.runs import train_results
from decaylab.runs.store import RunFolder


def plan(command: str, options: DiagnosticOptions) -> checkpoint_rules.Plan:
    """The checkpoints of runs that are measured: of each run every one by evaluate, the last one by
    other commands."""
    if command == "evaluate" or options.checkpoint_rule:
        return checkpoint_rules.plan(options.checkpoints, options.checkpoint_rule or EVERY)
    return checkpoint_rules.Plan((), {}, checkpoint_rules.not_measured(options.checkpoints))


def measured(options: DiagnosticOptions, plan: checkpoint_rules.Plan) -> Targets:
    """What is measured. Of several runs in a plan each checkpoint is named with its run, and the
    results stand in none of them."""
    if not plan.checkpoints:
        return targets.resolve(options)
    chosen = targets.resolve(replace(options, checkpoints=plan.loaded))
    if len({checkpoint.run for checkpoint in plan.checkpoints}) < 2:
        return chosen
    names = [target.name for target in chosen.checkpoints]
    return replace(chosen, checkpoints=targets.labelled(names, parts=2), run=None)


def folder(command: str, options: DiagnosticOptions, chosen: Targets) -> Path:
    """The folder of the results: `--out`, in the run that was given, or under runs/.

    In a run it is named after the command, the checkpoints unless they are those that the command
    measures of this run, and the options that the run does not imply.
    """
    if options.out:
        return Path(options.out).expanduser()
    kinds = (declared.DIAGNOSTIC,)
    labels = [target.label for target in chosen.checkpoints]
    alone = _alone(command, chosen.run) if chosen.run else None
    if chosen.run is None or alone is None:
        return Path("runs") / options.folder_name(command, *map(_plain, labels), kinds=kinds)
    if _unfinished(chosen.run):
        labels = [_at_step(target) for target in chosen.checkpoints]
    elif labels == [target.label for target in alone.checkpoints]:
        labels = []
    own = [_plain(label.removeprefix(f"{chosen.run.name}/")) for label in labels]
    differing = folder_names.unusual(options, alone.options, kinds, without=("checkpoints",))
    return chosen.run / folder_names.joined([command, *own, *differing])


def _alone(command: str, run: Path) -> Targets | None:
    """What the command measures if it is given nothing but the run; None if it cannot be."""
    given = DiagnosticOptions(checkpoints=(str(run),))
    try:
        usual = measured(given, plan(command, given))
        return replace(usual, options=usual.options.resolved())
    except UserError:
        return None


def _unfinished(run: Path) -> bool:
    """Whether the run is a training that will have other checkpoints later."""
    return train_results.is_training(run) and not (RunFolder(run).record or {}).get("finished")


def _at_step(target: Target) -> str:
    """The label with the step that a run's folder stands for now."""
    if loaded_models.is_loaded(target.name):
        return target.label
    step = checkpoint_folders.step_folder(Path(loading.resolve(target.name))).name
    return target.label if target.label.endswith(step) else f"{target.label}-at-{step}"


def _plain(label: str) -> str:
    return label.replace("/", "-")
