"""A diagnostic from options to results: prepare, gather, measure, draw. Safe to kill and start again.

position-kl, category-kl, submode, signals    on scored tokens
behaviour                                     on rollouts alone
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

from decaylab import measurements, paper, store, targets
from decaylab.advice import advise
from decaylab.analyses import behaviour, category_kl, position_kl, signals, submode
from decaylab.categories import CategoryRules
from decaylab.errors import UserError
from decaylab.grading import Grader
from decaylab.identity import versions
from decaylab.noise_floor import with_noise_floor
from decaylab.options import ANSWER_RULES, DiagnosticOptions, Options
from decaylab.prepare import GRADING_WORKERS, Setup, prepare
from decaylab.progress import Reporter
from decaylab.study import Material, Study
from decaylab.token_table import Scored

Measure = Callable[[Sequence[Scored]], pd.DataFrame]
# How a run was computed, and what can be changed without another run being meant.
COMPUTED = ("cache", "batch_rows", "batch_tokens", "advise", "decay", "view_rollouts")
NOT_IDENTITY = ("out", "overwrite", "paper", "said", *COMPUTED)
EVERY = 10**9


@dataclass(frozen=True)
class DiagnosticResult:
    """A finished diagnostic: its command, folder, record and measurements (columns of `measurements.Measurement`).

    advice: the paragraph on N, where it was asked for. tokens: the folders in which the scored tokens stand.
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
    """Runs one diagnostic and writes its run folder; what was sampled or scored before is not done again.

    Raises:
        UserError: anything that a user can mend, in one line.
    """
    reporter = reporter or Reporter(quiet=True)
    chosen = targets.resolve(options)
    options = chosen.options.resolved()
    rules = CategoryRules.load(Path(options.categories) if options.categories else None)
    _check_rollouts(command, options)
    decay_run = _decay_run(options) if options.advise else None
    folder = store.RunFolder(_out(command, options, chosen))
    with Grader(workers=GRADING_WORKERS) as grader:
        setup = prepare(options, grader)
        decay = _decay(decay_run, setup)
        with folder.lock():
            folder.open(_record(command, setup, chosen, spoken), overwrite=options.overwrite)
            material = Study(setup, chosen, grader, reporter).gather(
                tokens=command != "behaviour", rollouts=command in ("behaviour", "submode")
            )
            notes = (*setup.notes, *material.notes)
            record = folder.update(
                {
                    "command": spoken,
                    "versions": versions(),
                    "computed": {name: getattr(options, name) for name in COMPUTED},
                    "notes": list(notes),
                    "tokens": [str(one) for one in material.folders],
                }
            )
            frame = MEASURES[command](material, _Context(options, setup, rules, folder.path.name))
            measurements.write(frame, folder.path / "measurements.parquet")
            advice = _advice(frame, decay, folder) if command == "signals" and options.advise else ""
            _draw(command, frame, folder, options)
    return DiagnosticResult(command, folder.path, record, frame, notes, advice, tuple(material.folders))


def _check_rollouts(command: str, options: DiagnosticOptions) -> None:
    """Raises UserError where an option of sampling was given and nothing is sampled."""
    given = [name for name in ("samples", "temperature", "top_p", "top_k") if name in options.said]
    if options.rollouts and not options.checkpoints and command != "behaviour" and given:
        name = given[0].replace("_", "-")
        raise UserError(f"--{name} has no meaning here: the rollouts are those of {options.rollouts}")


def _out(command: str, options: DiagnosticOptions, chosen: targets.Targets) -> Path:
    """In the run that was given; or under runs/, named after the pair and the checkpoints."""
    if options.out:
        return Path(options.out).expanduser()
    if chosen.run is not None:
        return chosen.run / command
    return Path("runs") / options.folder_name(command, *(target.label for target in chosen.checkpoints))


def _record(command: str, setup: Setup[DiagnosticOptions], chosen: targets.Targets, spoken: str) -> dict[str, Any]:
    """run.json. What stands under ``identity`` must agree for a run to be measured again into the same folder."""
    configuration = {name: value for name, value in asdict(setup.options).items() if name not in NOT_IDENTITY}
    pair = {"student": setup.student, "teacher": setup.teacher}
    return {
        "command": spoken,
        "identity": {
            "diagnostic": command,
            "options": configuration,
            **{role: asdict(policy.identity) for role, policy in pair.items()},
            "precision": {role: policy.precision for role, policy in pair.items()},
            "problems": {
                "name": setup.problem_set.name,
                "version": setup.problem_set.version,
                "content_hash": setup.problem_set.content_hash,
                "asked": len(setup.problems),
            },
            "rollouts_hash": _rollouts_hash(setup, chosen),
            "checkpoints": {target.label: target.contents for target in chosen.checkpoints},
            "categories": _categories(setup.options),
        },
        "versions": versions(),
        "notes": list(setup.notes),
    }


def _rollouts_hash(setup: Setup[DiagnosticOptions], chosen: targets.Targets) -> str | None:
    """Of the rollouts that were given, in a file or a run; None where they are sampled."""
    if setup.external:
        return setup.external.content_hash
    return hashlib.sha256((chosen.rollouts / "rollouts.parquet").read_bytes()).hexdigest() if chosen.rollouts else None


def _categories(options: DiagnosticOptions) -> str:
    """The contents of the category file, in short; "" for the one that comes with decaylab."""
    return hashlib.sha256(Path(options.categories).read_bytes()).hexdigest() if options.categories else ""


# What each command measures


@dataclass(frozen=True)
class _Context:
    options: DiagnosticOptions
    setup: Setup[DiagnosticOptions]
    rules: CategoryRules
    run: str

    @property
    def common(self) -> dict[str, Any]:
        """What every analysis is told."""
        return {"level": self.options.level, "seed": self.options.seed, "run": self.run}

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

    measure: Measure = partial(category_kl.measure, settings=settings, rules=context.rules, end_ids=end_ids)
    every = replace(
        settings, min_count=1, top_tokens=EVERY
    )  # what is listed on the whole may be rare among few rollouts
    again: Measure = partial(category_kl.measure, settings=every, rules=context.rules, end_ids=end_ids)
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
        context.bins, options.cumulative_share, options.horizon, context.rollout_length, **context.common
    )
    measure: Measure = partial(signals.measure, settings=settings)
    return with_noise_floor(measure, material.scored)


def _behaviour(material: Material, context: _Context) -> pd.DataFrame:
    frame: pd.DataFrame = behaviour.measure(material.rollouts, behaviour.Settings(ANSWER_RULES, **context.common))
    return frame


MEASURES: Mapping[str, Callable[[Material, _Context], pd.DataFrame]] = {
    "position-kl": _position_kl,
    "category-kl": _category_kl,
    "submode": _submode,
    "signals": _signals,
    "behaviour": _behaviour,
}
PUBLISHED: Mapping[str, Callable[[], pd.DataFrame]] = {
    "position-kl": paper.position_kl,
    "category-kl": paper.kl_by_category,
    "submode": paper.submode,
    "signals": paper.three_signals,
    "behaviour": paper.response_length,
}


def _draw(command: str, frame: pd.DataFrame, folder: store.RunFolder, options: DiagnosticOptions) -> None:
    from decaylab.figures import style

    figure = importlib.import_module(f"decaylab.figures.{command.replace('-', '_')}")
    published = PUBLISHED[command]() if options.paper else None
    style.save(figure.draw(frame, published=published), folder.path / command)
    store.write_atomically(folder.path / f"{command}.txt", (figure.caption(frame, published) + "\n").encode())


def _advice(frame: pd.DataFrame, decay: pd.DataFrame | None, folder: store.RunFolder) -> str:
    """The paragraph on N, written beside the measurements too."""
    text = advise(frame, decay).text
    store.write_atomically(folder.path / "advice.txt", (text + "\n").encode())
    return text


def _decay_run(options: DiagnosticOptions) -> Path | None:
    """The decay run that was named, or the pair's own under runs/; None where there is none.

    Raises:
        UserError: what was named is no run, or one of another pair.
    """
    path = Path(options.decay) if options.decay else _default_decay(options)
    if not options.decay and not (path / "measurements.parquet").exists():
        return None
    record = store.RunFolder(path).record
    if record is None:
        raise UserError(f"--decay {path} is no run folder: it holds no run.json")
    there, here = (_names(one) for one in ((record.get("identity") or {}).get("options") or {}, asdict(options)))
    if there != here and options.decay:
        raise UserError(f"--decay {path} was measured on {there}, not on {here}")
    return path if there == here else None


def _names(options: Mapping[str, Any]) -> str:
    return f"{options.get('teacher')} and {options.get('student')}"


def _decay(path: Path | None, setup: Setup[DiagnosticOptions]) -> pd.DataFrame | None:
    """Measurements of a decay run; None without one, or where the pair's own is of other contents.

    Raises:
        UserError: the run that was named holds no measurements, or is one of other models, problems or temperature.
    """
    if path is None:
        return None
    identity = (store.RunFolder(path).record or {}).get("identity") or {}
    differences = store.differing(_measured(identity), _asked(setup))
    if differences and setup.options.decay:
        raise UserError(f"--decay {path} was measured on something else ({'; '.join(differences)})")
    return None if differences else measurements.read(path / "measurements.parquet")


def _measured(identity: dict[str, Any]) -> dict[str, Any]:
    """What a decay run was measured on, as far as it must agree with what is measured now."""
    options, problems = identity.get("options") or {}, identity.get("problems") or {}
    models = {role: identity.get(role) or {} for role in ("teacher", "student")}
    return {
        **{role: model.get("content_hash") for role, model in models.items()},
        **{"problems": (problems.get("name"), problems.get("version")), "temperature": options.get("temperature")},
    }


def _asked(setup: Setup[DiagnosticOptions]) -> dict[str, Any]:
    options, problems = setup.options, setup.problem_set
    return {
        **{"teacher": setup.teacher.identity.content_hash, "student": setup.student.identity.content_hash},
        **{"problems": (problems.name, problems.version), "temperature": options.temperature},
    }


def _default_decay(options: DiagnosticOptions) -> Path:
    return Options(teacher=options.teacher, student=options.student, problems=options.problems).default_folder()
