"""A diagnostic from options to results: prepare, gather, measure, draw. Safe to kill and start
again.

position-kl, category-kl, submode, signals    on scored tokens
behaviour, evaluate                           on rollouts alone
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.analyses import behaviour, category_kl, evaluation, position_kl, signals, submode
from decaylab.claims.advice import advise
from decaylab.commands import decay_runs
from decaylab.commands.drawing import drawn
from decaylab.commands.study import Material, Study
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.options.measuring import EVERY, DiagnosticOptions
from decaylab.pair import checkpoint_rules, kept_prompts, targets
from decaylab.pair.prepare import GRADING_WORKERS, Setup, prepare
from decaylab.paper import publication
from decaylab.policies.identity import versions
from decaylab.problems.answers import ANSWER_RULES
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollout_files import summary
from decaylab.rollouts.engine_spec import engine_record
from decaylab.rollouts.engines import Engines
from decaylab.runs import measurements, outcomes, store, students
from decaylab.tokens import viewed
from decaylab.tokens.categories import CategoryRules
from decaylab.tokens.noise_floor import with_noise_floor
from decaylab.tokens.token_table import Scored

Measure = Callable[[Sequence[Scored]], pd.DataFrame]
# How a run was computed: what can be changed without another run being meant.
COMPUTED = (
    "cache",
    "batch_rows",
    "batch_tokens",
    "advise",
    "decay",
    "view_rollouts",
    "checkpoint_rule",
)
ON_ROLLOUTS = ("behaviour", "evaluate")  # without a score
ALL_TOKENS = 10**9


@dataclass(frozen=True)
class DiagnosticResult:
    """A finished diagnostic: its command, folder, record and measurements (columns of
    `measurements.Measurement`).

    advice: the paragraph on N, where it was asked for. tokens: the folders in which the scored
    tokens stand.
    """

    command: str
    folder: Path
    record: dict[str, Any]
    measurements: pd.DataFrame
    notes: tuple[str, ...]
    advice: str = ""
    tokens: tuple[Path, ...] = ()


def diagnose(
    command: str, options: DiagnosticOptions, *, spoken: str = "", reporter: Reporter | None = None
) -> DiagnosticResult:
    """Runs one diagnostic and writes its run folder; what was sampled or scored before is not done
    again.

    Raises:
        UserError: anything that a user can mend, in one line.
    """
    reporter = reporter or Reporter(quiet=True)
    plan = _plan(command, options)
    chosen = _targets(options, plan)
    options = replace(
        chosen.options.resolved(), scores="none" if command in ON_ROLLOUTS else "exact"
    )
    rules = CategoryRules.load(Path(options.categories) if options.categories else None)
    check_rollouts(command, options)
    decay_run = decay_runs.find(options) if options.advise else None
    folder = store.RunFolder(results_folder(command, options, chosen))
    with Grader(workers=GRADING_WORKERS) as grader, Engines(options, reporter) as engines:
        setup = prepare(options, grader, engines.device, reporter)
        options = setup.options
        decay = decay_runs.read(decay_run, setup)
        with folder.lock():
            shared = kept_prompts.shared(setup, Path(options.cache).expanduser())
            own = [] if options.overwrite else [folder.path]
            setup = kept_prompts.settled(
                setup, [*own, *([chosen.rollouts] if chosen.rollouts else []), shared]
            )
            folder.open(run_record(command, setup, chosen, spoken), overwrite=options.overwrite)
            kept_prompts.write(setup, folder.path)
            kept_prompts.write(setup, shared)
            material = Study(setup, chosen, grader, reporter, rules, engines).gather(
                tokens=command not in ON_ROLLOUTS, rollouts=command in (*ON_ROLLOUTS, "submode")
            )
            notes = (*setup.notes, *plan.notes, *material.notes)
            record = folder.update(
                {
                    "command": spoken,
                    "versions": versions(),
                    "computed": {name: getattr(options, name) for name in COMPUTED},
                    "notes": list(notes),
                    "tokens": [str(one) for one in material.folders],
                }
            )
            frame = MEASURES[command](
                material, _Context(options, setup, rules, folder.path, chosen, plan, grader)
            )
            frame = students.described(frame, [target.name for target in chosen.checkpoints])
            measurements.write(frame, folder.path / "measurements.parquet")
            if material.viewed:
                viewed.write(material.viewed, folder.path)
            advice = (
                _advice(frame, decay, folder) if command == "signals" and options.advise else ""
            )
            if told := drawn(lambda: _draw(command, frame, folder, options), folder.path):
                notes += told
                record = folder.update({"notes": list(notes)})
    return DiagnosticResult(
        command, folder.path, record, frame, notes, advice, tuple(material.folders)
    )


def _plan(command: str, options: DiagnosticOptions) -> checkpoint_rules.Plan:
    """The checkpoints of runs that are measured: of each run every one by evaluate, the last one by
    other commands."""
    if command == "evaluate" or options.checkpoint_rule:
        return checkpoint_rules.plan(options.checkpoints, options.checkpoint_rule or EVERY)
    return checkpoint_rules.Plan((), {}, checkpoint_rules.not_measured(options.checkpoints))


def _targets(options: DiagnosticOptions, plan: checkpoint_rules.Plan) -> targets.Targets:
    """What is measured. Of several runs each checkpoint is named with its run, and the results
    stand in none of them."""
    if not plan.checkpoints:
        return targets.resolve(options)
    chosen = targets.resolve(replace(options, checkpoints=plan.loaded))
    if len({one.run for one in plan.checkpoints}) < 2:
        return chosen
    names = [target.name for target in chosen.checkpoints]
    return replace(chosen, checkpoints=targets.labelled(names, parts=2), run=None)


def check_rollouts(command: str, options: DiagnosticOptions) -> None:
    """Raises UserError where an option of sampling was given and nothing is sampled."""
    given = [name for name in ("samples", "temperature", "top_p", "top_k") if name in options.said]
    if options.rollouts and command == "evaluate":
        raise UserError(
            "evaluate samples the base student as it does the checkpoints; leave out the run "
            "that was made from the "
            f"rollouts of {options.rollouts}"
        )
    if options.rollouts and not options.checkpoints and command != "behaviour" and given:
        name = given[0].replace("_", "-")
        raise UserError(
            f"--{name} has no meaning here: the rollouts are those of {options.rollouts}"
        )


def results_folder(command: str, options: DiagnosticOptions, chosen: targets.Targets) -> Path:
    """In the run that was given; or under runs/, named after the pair and the checkpoints."""
    if options.out:
        return Path(options.out).expanduser()
    if chosen.run is not None:
        return chosen.run / command
    return Path("runs") / options.folder_name(
        command, *(target.label for target in chosen.checkpoints)
    )


def run_record(
    command: str, setup: Setup[DiagnosticOptions], chosen: targets.Targets, spoken: str
) -> dict[str, Any]:
    """run.json. What stands under ``identity`` must agree for a run to be measured again into the
    same folder."""
    configuration = declared.identity(setup.options, declared.DIAGNOSTIC)
    pair = {"student": setup.student, "teacher": setup.teacher}
    return {
        "command": spoken,
        "identity": {
            "diagnostic": command,
            "options": configuration,
            **{role: asdict(policy.identity) for role, policy in pair.items()},
            "precision": {role: policy.precision for role, policy in pair.items()},
            "engine": engine_record(setup.options),
            "problems": {
                "name": setup.problem_set.name,
                "version": setup.problem_set.version,
                "content_hash": setup.problem_set.content_hash,
                "instruction": setup.problem_set.instruction,
                "asked": len(setup.problems),
            },
            "prompts": kept_prompts.digest(setup.prompts),
            "rollouts_hash": _rollouts_hash(setup, chosen),
            "checkpoints": {target.label: target.contents for target in chosen.checkpoints},
            "categories": _categories(setup.options),
        },
        "versions": versions(),
        "rollouts": summary.record(setup.external) if setup.external else None,
        "notes": list(setup.notes),
        "prompt_notes": list(setup.prompt_notes),
    }


def _rollouts_hash(setup: Setup[DiagnosticOptions], chosen: targets.Targets) -> str | None:
    """Of the rollouts that were given, in a file or a run; None where they are sampled."""
    if setup.external:
        return setup.external.content_hash
    return (
        hashlib.sha256((chosen.rollouts / "rollouts.parquet").read_bytes()).hexdigest()
        if chosen.rollouts
        else None
    )


def _categories(options: DiagnosticOptions) -> str:
    """The contents of the category file, in short; "" for the one that comes with decaylab."""
    return (
        hashlib.sha256(Path(options.categories).read_bytes()).hexdigest()
        if options.categories
        else ""
    )


# What each command measures


@dataclass(frozen=True)
class _Context:
    options: DiagnosticOptions
    setup: Setup[DiagnosticOptions]
    rules: CategoryRules
    folder: Path
    chosen: targets.Targets
    plan: checkpoint_rules.Plan
    grader: Grader

    @property
    def common(self) -> dict[str, Any]:
        """What every analysis is told."""
        return {"level": self.options.level, "seed": self.options.seed, "run": self.folder.name}

    @property
    def bins(self) -> tuple[int, ...]:
        return self.options.bins or (0,)

    @property
    def rollout_length(self) -> int:
        return int(self.options.rollout_length or 1)


def _position_kl(material: Material, context: _Context) -> pd.DataFrame:
    options = context.options
    settings = position_kl.Settings(
        context.bins, context.rollout_length, options.survivors, options.estimand, **context.common
    )
    measure: Measure = partial(position_kl.measure, settings=settings)
    return with_noise_floor(measure, material.scored)


def _category_kl(material: Material, context: _Context) -> pd.DataFrame:
    options = context.options
    settings = category_kl.Settings(
        context.bins, min_count=options.min_count, estimand=options.estimand, **context.common
    )
    end_ids = context.setup.student.end_ids

    measure: Measure = partial(
        category_kl.measure, settings=settings, rules=context.rules, end_ids=end_ids
    )
    every = replace(
        settings, min_count=1, top_tokens=ALL_TOKENS
    )  # what is listed on the whole may be rare among few rollouts
    again: Measure = partial(
        category_kl.measure, settings=every, rules=context.rules, end_ids=end_ids
    )
    return with_noise_floor(measure, material.scored, again)


def _submode(material: Material, context: _Context) -> pd.DataFrame:
    options = context.options
    settings = submode.Settings(options.share, options.second_mode, **context.common)
    measure: Measure = partial(submode.measure, settings=settings)
    frame = with_noise_floor(measure, material.scored)
    if not (context.setup.problem_set.name == "abacus" and context.options.of_embedded_pair):
        return frame  # elsewhere the first character says nothing about style
    styles: pd.DataFrame = submode.measure_styles(material.rollouts, settings)
    return pd.concat([frame, styles], ignore_index=True)


def _signals(material: Material, context: _Context) -> pd.DataFrame:
    options = context.options
    settings = signals.Settings(
        context.bins,
        options.cumulative_share,
        options.horizon,
        context.rollout_length,
        **context.common,
    )
    measure: Measure = partial(signals.measure, settings=settings)
    return with_noise_floor(measure, material.scored)


def _behaviour(material: Material, context: _Context) -> pd.DataFrame:
    frame: pd.DataFrame = behaviour.measure(
        material.rollouts, behaviour.Settings(ANSWER_RULES, **context.common)
    )
    return frame


def _evaluate(material: Material, context: _Context) -> pd.DataFrame:
    plan, labels = (
        context.plan,
        {target.name: target.label for target in context.chosen.checkpoints},
    )
    known = [(labels[one.name], one) for one in plan.checkpoints if one.name in labels]
    steps = {targets.BASE: 0.0, **{label: one.step for label, one in known}}
    table = outcomes.collect(material.rollouts, steps, context.grader.same)
    outcomes.write(table, context.folder / "outcomes.parquet")
    settings = evaluation.Settings(
        _reported_first(context.options.answer_rule or context.setup.problem_set.answer_rule),
        {rule: tuple(labels[name] for name in names) for rule, names in plan.chosen.items()},
        {label: one.training for label, one in known},
        **context.common,
    )
    frame: pd.DataFrame = evaluation.measure(table, settings)
    return frame


def _reported_first(rule: str) -> tuple[str, ...]:
    return (rule, *(other for other in ANSWER_RULES if other != rule))


MEASURES: Mapping[str, Callable[[Material, _Context], pd.DataFrame]] = {
    "position-kl": _position_kl,
    "category-kl": _category_kl,
    "submode": _submode,
    "signals": _signals,
    "behaviour": _behaviour,
    "evaluate": _evaluate,
}
PUBLISHED: Mapping[str, Callable[[], pd.DataFrame]] = {
    "position-kl": publication.position_kl,
    "category-kl": publication.kl_by_category,
    "submode": publication.submode,
    "signals": publication.three_signals,
    "behaviour": publication.response_length,
}


def _draw(
    command: str, frame: pd.DataFrame, folder: store.RunFolder, options: DiagnosticOptions
) -> None:
    from decaylab.figures import style

    name = {"evaluate": "evaluation"}.get(command, command.replace("-", "_"))
    figure = importlib.import_module(f"decaylab.figures.{name}")
    published = PUBLISHED[command]() if options.paper and command in PUBLISHED else None
    style.save(figure.draw(frame, published=published), folder.path / command)
    store.write_atomically(
        folder.path / f"{command}.txt", (figure.caption(frame, published) + "\n").encode()
    )


def _advice(frame: pd.DataFrame, decay: pd.DataFrame | None, folder: store.RunFolder) -> str:
    """The paragraph on N, written beside the measurements too."""
    text = advise(frame, decay).text
    store.write_atomically(folder.path / "advice.txt", (text + "\n").encode())
    return text
