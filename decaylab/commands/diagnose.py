"""A diagnostic from options to results: prepare, gather, measure, draw. Safe to kill and start
again.

position-kl, category-kl, submode, signals    on scored tokens
behaviour, evaluate                           on rollouts alone
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.claims.advice import Advice
from decaylab.commands import advising, pair_identity, results_folders
from decaylab.commands.drawing import drawn
from decaylab.commands.measures import Context, measured
from decaylab.commands.study import Study
from decaylab.commands.study_rollouts import Material
from decaylab.errors import UserError, keeping
from decaylab.options import declared
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.pair import kept_prompts, targets
from decaylab.pair.prepare import GRADING_WORKERS, Setup, prepare
from decaylab.policies.identity import versions
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollout_files import summary
from decaylab.rollouts.engine_spec import engine_record
from decaylab.rollouts.engines import Engines
from decaylab.runs import measurements, records, sources, store, students
from decaylab.tokens import task_categories, viewed

# How a run was computed: what can be changed without another run being meant.
COMPUTED = (
    "cache",
    "batch_rows",
    "batch_tokens",
    "advise",
    "evidence",
    "view_rollouts",
    "checkpoint_rule",
)
ON_ROLLOUTS = ("behaviour", "evaluate")  # without a score


class DiagnosticStudy(Study):
    """What a diagnostic looks at."""

    takes_two_tokenizers = True


@dataclass(frozen=True)
class DiagnosticResult:
    """A finished diagnostic: its command, folder, record and measurements (columns of
    `measurements.Measurement`).

    advice: how to train the pair, where it was asked for.
    """

    command: str
    folder: Path
    record: dict[str, Any]
    measurements: pd.DataFrame
    notes: tuple[str, ...]
    advice: Advice | None = None


def diagnose(
    command: str, options: DiagnosticOptions, *, spoken: str = "", reporter: Reporter | None = None
) -> DiagnosticResult:
    """Runs one diagnostic and writes its run folder; what was sampled or scored before is not done
    again.

    Raises:
        UserError: anything that a user can mend, in one line.
    """
    reporter = reporter or Reporter(quiet=True)
    plan = results_folders.plan(command, options)
    chosen = results_folders.measured(options, plan)
    options = replace(
        chosen.options.resolved(), scores="none" if command in ON_ROLLOUTS else "exact"
    )
    own = Path(options.categories) if options.categories else None
    rules = task_categories.load(options.task.categories, own)
    check_rollouts(command, options)
    advising.check_folders(options.evidence)
    folder = store.RunFolder(results_folders.folder(command, options, chosen))
    advice = None
    with (
        keeping(lambda: kept(options)),
        Grader(workers=GRADING_WORKERS, sandboxed=not options.no_sandbox) as grader,
        Engines(options, reporter) as engines,
    ):
        setup = prepare(options, grader, engines.device, reporter)
        advising.check_runs(options.evidence, setup)
        with folder.lock():
            setup = opened(command, setup, chosen, folder, spoken)
            material = DiagnosticStudy(setup, chosen, grader, reporter, rules, engines).gather(
                tokens=command not in ON_ROLLOUTS, rollouts=command in (*ON_ROLLOUTS, "submode")
            )
            computed = {name: getattr(options, name) for name in COMPUTED}
            notes = (*setup.notes, *plan.notes, *material.notes)
            gathered(folder, spoken, notes, material, computed=computed)
            context = Context(setup.options, setup, rules, folder.path, chosen, plan, grader)
            frame = written(measured(command, material, context), chosen, folder)
            if material.viewed:
                viewed.write(material.viewed, folder.path)
            if options.advise:
                advice = advising.written(folder, options.evidence, setup)
            elif (folder.record or {}).get("advice"):  # of an earlier day's runs
                folder.update({"advice": None})
    record = drawn(folder, command, published=options.beside_published)
    return DiagnosticResult(command, folder.path, record, frame, tuple(record["notes"]), advice)


# What every diagnostic does before and after it measures


def kept(options: DiagnosticOptions) -> str:
    """What stays of an interrupted diagnostic."""
    return f"finished rollouts and scored tokens are kept in {options.cache}"


def opened(
    command: str,
    setup: Setup[DiagnosticOptions],
    chosen: targets.Targets,
    folder: store.RunFolder,
    spoken: str,
    **identity: Any,
) -> Setup[DiagnosticOptions]:
    """Opens the run's folder; returns the setup with the prompts that were used before.

    Prompts of earlier rollouts stay, in the run and in the cache: a template may render another
    date tomorrow.

    identity: what the results depend on beside options, pair and rollouts.
    """
    options = setup.options
    shared = kept_prompts.shared(setup, Path(options.cache).expanduser())
    folders = [shared]
    if chosen.rollouts:
        folders.insert(0, chosen.rollouts)
    if not options.overwrite:
        folders.insert(0, folder.path)
    setup = kept_prompts.settled(setup, folders)
    record = run_record(command, setup, chosen, spoken)
    record["identity"] |= identity
    folder.open(record, overwrite=options.overwrite)
    kept_prompts.write(setup, folder.path)
    kept_prompts.write(setup, shared)
    return setup


def gathered(
    folder: store.RunFolder, spoken: str, notes: Sequence[str], material: Material, **more: Any
) -> None:
    """Records what the measurement is made of; keeps rollouts that were given."""
    changes = {"command": spoken, "versions": versions(), "notes": list(notes)}
    changes["tokens"] = [str(one.folder) for one in material.folders]
    changes["sources"] = sources.record(material.folders, material.rollout_folders)
    if material.given is not None:
        store.write_table(material.given, folder.path / sources.GIVEN, store.ROLLOUTS)
    folder.update({**changes, **more})


def written(frame: pd.DataFrame, chosen: targets.Targets, folder: store.RunFolder) -> pd.DataFrame:
    """Writes the measurements, with columns that say how each checkpoint was trained."""
    frame = students.described(frame, [target.name for target in chosen.checkpoints])
    measurements.write(frame, folder.path / "measurements.parquet")
    return frame


def check_rollouts(command: str, options: DiagnosticOptions) -> None:
    """Raises UserError where an option of sampling was given and nothing is sampled."""
    if options.rollouts and command == "evaluate":
        raise UserError(
            "evaluate samples the base student as it does the checkpoints; leave out the run "
            f"that was made from the rollouts of {options.rollouts}"
        )
    sampling = ("samples", "temperature", "top_p", "top_k")
    given = [name for name in sampling if name in options.said]
    if options.rollouts and not options.checkpoints and command != "behaviour" and given:
        name = given[0].replace("_", "-")
        raise UserError(
            f"--{name} has no meaning here: the rollouts are those of {options.rollouts}"
        )


def run_record(
    command: str, setup: Setup[DiagnosticOptions], chosen: targets.Targets, spoken: str
) -> dict[str, Any]:
    """run.json."""
    categories, rollouts_hash = "", None
    if setup.options.categories:  # "" stands for the file that comes with decaylab
        categories = _hash(Path(setup.options.categories))
    if setup.external:
        rollouts_hash = setup.external.content_hash
    elif chosen.rollouts:
        rollouts_hash = _hash(chosen.rollouts / "rollouts.parquet")
    identity = {
        **pair_identity.identity(setup),
        "diagnostic": command,
        "options": declared.identity(setup.options, declared.DIAGNOSTIC),
        "rollouts_hash": rollouts_hash,
        "checkpoints": {target.label: target.contents for target in chosen.checkpoints},
        "categories": categories,
        **records.own_parts(setup.options, setup.problem_set),
    }
    return records.run_record(
        spoken,
        identity,
        notes=setup.notes,
        prompt_notes=setup.prompt_notes,
        engine=engine_record(setup.options),
        rollouts=summary.record(setup.external) if setup.external else None,
    )


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
