"""Finds the trained students to measure, and the options that their folders record.

adapter folder   records its base, the student before training, which may be an adapter too
run folder       (run.json in it or above it) records student, teacher, problems and sampling
model folder     records nothing: --student and --teacher must be given
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.pair_options import PairOptions
from decaylab.policies import checkpoint_folders, loaded_models, loading
from decaylab.policies.embedded import EMBEDDED, short_name
from decaylab.policies.identity import PolicyIdentity, hash_folder
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems import tasks
from decaylab.rollout_files import files
from decaylab.runs.store import RunFolder
from decaylab.runs.vocabulary import BASE, TEACHER

OWN_OPTIONS = (
    *("out", "overwrite", "paper", "level", "answer_rule"),
    *("dtype", "device", "batch_rows", "trust_remote_code"),
)
"""Options of a run that are not inherited: they describe where and how it was computed."""
TRAINED_ON = "trained on"
"""What a record is said to know of the training problems, beside options."""
SAMPLED = ("temperature", "top_p", "top_k", "max_tokens", "samples", "seed")
ROLES = {"student": "the student it was trained from", "teacher": "its teacher"}
"""The roles of a pair, each with what a message calls it if a checkpoint does not record it."""


@dataclass(frozen=True)
class Target:
    """A trained student. label: its name in results. name: what it is loaded by."""

    label: str
    name: str

    @property
    def contents(self) -> str:
        """Hashes of the folder and of the adapters below it, or of a model in memory; a hub id is
        used unchanged."""
        if loaded_models.is_loaded(self.name):
            return loaded_models.hash_of(self.name)
        first, *below = loading.chain(self.name)
        adapters = [hash_folder(link.folder) for link in below[:-1]]
        return "+".join(
            [hash_folder(first.path) if isinstance(first.path, Path) else first.path, *adapters]
        )


@dataclass(frozen=True)
class Targets:
    """The resolved arguments of a command.

    checkpoints: the trained students, in order. run: the run folder of the first one, if any.
    rollouts: the run folder whose student rollouts are used, if one was given.
    """

    options: DiagnosticOptions
    checkpoints: tuple[Target, ...]
    run: Path | None = None
    rollouts: Path | None = None


def resolve(options: DiagnosticOptions) -> Targets:
    """The named checkpoints, and the options completed from their records.

    Options on the command line take precedence over records.

    Raises:
        UserError: a folder that is neither a model, an adapter nor a run; checkpoints of two bases;
            a model folder without --student and --teacher.
    """
    given = [_given(name) for name in options.checkpoints]
    runs = [one for one in given if one.holds_rollouts]
    sources = [options.rollouts] if options.rollouts else []
    sources += [one.name for one in runs]
    if runs and len(sources) > 1:
        raise UserError(f"two sources of rollouts, {sources[0]} and {sources[1]}: give only one")
    sampled = runs[0].knows if runs else {}
    if sampled.get("rollouts"):  # the run's rollouts came from a file, which is read again
        _check_unchanged(Path(runs[0].name), str(sampled["rollouts"]))
    # A run with rollouts is their source; every other name is a checkpoint.
    names = [one.name for one in given if not one.holds_rollouts]
    known = _together(given, options)
    if not runs:
        known = _of_this_task(known, options)
    pair = _pair(options, known, names)
    chosen = dataclasses.replace(options, **{**_taken_over(known, options), **pair})
    _check_sampling(chosen, sampled)
    folders = [one.run for one in given if one.run is not None]
    rollouts = None if chosen.rollouts else next((Path(one.name) for one in runs), None)
    return Targets(chosen, labelled(names), run=next(iter(folders), None), rollouts=rollouts)


@dataclass(frozen=True)
class _Given:
    """A name from the command line.

    run: the run folder that it is or belongs to, if any. holds_rollouts: a run whose rollouts are
    used, not a checkpoint. knows: options that its folder records.
    """

    name: str
    run: Path | None
    holds_rollouts: bool
    knows: dict[str, Any]


def _given(name: str) -> _Given:
    path = Path(name)
    run = run_folder(path)
    holds_rollouts = run == path and (path / "rollouts.parquet").exists()
    if run == path and not (
        holds_rollouts or checkpoint_folders.steps(path) or checkpoint_folders.is_model(path)
    ):
        raise UserError(
            f"{name} is a run folder without rollouts or checkpoints; give the run or model that "
            "it measured"
        )
    where = path if holds_rollouts else Path(loading.resolve(name))
    return _Given(name, run, holds_rollouts, _knows(where, run))


def _together(given: Sequence[_Given], options: DiagnosticOptions) -> dict[str, Any]:
    """The options that the names record; the first record of an option counts.

    Raises:
        UserError: they record different students or teachers, and no option decides.
    """
    known: dict[str, Any] = {}
    for one in given:
        for key in ROLES:
            here, there = one.knows.get(key), known.get(key)
            if here and there and not getattr(options, key) and not _same(there, here):
                raise UserError(
                    f"the checkpoints belong to two pairs: the {key} of {one.name} is {here}, that "
                    f"of the others is {there}; set --{key} or measure them separately"
                )
        known = {**one.knows, **known}
    return known


def _of_this_task(known: dict[str, Any], options: DiagnosticOptions) -> dict[str, Any]:
    """What a training records, without the sampling and the prompts of another task."""
    trained = tasks.of_set(known.get(TRAINED_ON) or known.get("problems"))
    asked = tasks.of_set(options.problems or known.get("problems"))
    left: set[str] = set()
    if asked is not trained:
        left = {"temperature", "samples", "max_tokens", "instruction", "tools"}
    elif asked.temperature == 0:
        left = {"temperature"}  # training samples, but such a task is measured greedily
    return {name: value for name, value in known.items() if name not in left}


def _pair(
    options: DiagnosticOptions, known: dict[str, Any], names: Sequence[str]
) -> dict[str, str | None]:
    """Student and teacher: from the options, else from the checkpoints' records.

    Raises:
        UserError: there are checkpoints, and one of the two is unknown.
    """
    pair = {key: getattr(options, key) or known.get(key) for key in ROLES}
    if names and short_name(str(pair["student"])) in EMBEDDED:
        pair["teacher"] = pair["teacher"] or "abacus-teacher"
    lacking = [key for key in ROLES if not pair[key]]
    if names and lacking:
        what = " or ".join(ROLES[key] for key in lacking)
        flags = " and ".join(f"--{key}" for key in lacking)
        raise UserError(f"{names[0]} does not record {what}: give {flags}")
    return pair


def _taken_over(known: dict[str, Any], options: DiagnosticOptions) -> dict[str, Any]:
    """The recorded options to inherit: those that the user has not set."""
    unset = {"columns", "template_kwargs"}
    unset = {name for name in unset if not getattr(options, name)}
    for field in dataclasses.fields(options):
        if getattr(options, field.name) == field.default and field.name not in options.said:
            unset.add(field.name)
    return {key: value for key, value in known.items() if key in unset and key not in OWN_OPTIONS}


def _check_unchanged(run: Path, file: str) -> None:
    """Raises UserError if the file of a run's rollouts is missing or has changed."""
    wanted = (RunFolder(run).record or {}).get("identity", {}).get("rollouts_hash")
    try:
        unchanged = files.content_hash(files.paths_of(file)) == wanted
    except UserError:
        unchanged = False
    if not unchanged:
        raise UserError(
            f"{run} was made from {file}, which is missing or has changed; give the file of its "
            "rollouts with --rollouts"
        )


def _check_sampling(options: DiagnosticOptions, sampled: dict[str, Any]) -> None:
    """Raises UserError if sampling options differ from those of the run's rollouts.

    The checkpoints' rollouts are compared with them, so they must be sampled in the same way.
    """
    for key in SAMPLED:
        here, there = getattr(options, key), sampled.get(key)
        if there is not None and here != there:
            name = f"--{key.replace('_', '-')}"
            raise UserError(
                f"{name} {here}: the rollouts of the run were sampled with {there}; use {name} "
                f"{there}"
            )


def run_folder(path: Path) -> Path | None:
    """The run folder (with run.json) of a checkpoint: the path itself or its parent."""
    if loaded_models.is_loaded(str(path)):
        return None
    return next((folder for folder in (path, path.parent) if (folder / "run.json").is_file()), None)


def _knows(path: Path, run: Path | None) -> dict[str, Any]:
    """Options of the pair that a checkpoint's folder records; embedded policies by short name."""
    knows: dict[str, Any] = {}
    if (path / "adapter_config.json").is_file():
        knows["student"] = loading.adapter_base(path)
    if run is not None:
        record = RunFolder(run).record or {}
        options = (record.get("identity") or {}).get("options") or {}
        fields = {field.name for field in dataclasses.fields(PairOptions)} | {"rollout_length"}
        knows |= {key: value for key, value in options.items() if key in fields}
        training = (record.get("identity") or {}).get("training") or {}
        knows[TRAINED_ON] = training.get("problems")
    for key in ROLES:
        if knows.get(key):
            knows[key] = short_name(knows[key])
    return knows


def _same(one: str, other: str) -> bool:
    """Whether two names are the same policy: equal, or paths to one folder."""
    return one == other or (
        Path(one).is_dir() and Path(other).is_dir() and Path(one).samefile(other)
    )


def labelled(names: Sequence[str], parts: int = 1) -> tuple[Target, ...]:
    """Gives each name a unique label: the last parts of its path, as few as possible.

    The folder of a step keeps the name of its run.

    Labels also differ from those of base and teacher. parts: least number of parts.
    """
    for depth in range(parts, 20):
        places = [_place(name) for name in names]
        steps = [checkpoint_folders.step_of(place) is not None for place in places]
        labels = [
            "/".join(place.parts[-max(depth, 1 + step) :])
            for place, step in zip(places, steps, strict=True)
        ]
        if len({*labels, BASE, TEACHER}) == len(labels) + 2:
            return tuple(Target(label, name) for label, name in zip(labels, names, strict=True))
    raise UserError(f"the same checkpoint is given twice: {', '.join(sorted(names))}")


def _place(name: str) -> Path:
    """The path that a name is shortened from. A model inside a step's folder is named after the
    step, a model in memory by its name and hash."""
    if loaded_models.is_loaded(name):
        return Path(name.removeprefix(loaded_models.PREFIX))
    return checkpoint_folders.step_folder(Path(os.path.abspath(name)))


def check_same_base(checkpoint: Policy, student: Policy) -> str:
    """A note if the checkpoint was not trained directly from this student; "" otherwise.

    "" also if the checkpoint's base is unknown. The student may be any link of an adapter's chain
    of bases, down to the plain model. Two adapters on the same model are accepted too: an adapter
    that was trained further may name the plain model as its base.

    Raises:
        UserError: the checkpoint cannot have been trained from this student.
    """
    sentence = _check_base(checkpoint, student)
    refusal = f"{checkpoint.name} was not trained from --student {student.name}: its"
    for key in SHAPE:
        here, there = _shape(checkpoint, key), _shape(student, key)
        if here != there:
            raise UserError(f"{refusal} {key} is {here}, not {there}")
    if compare_vocabularies(checkpoint.tokenizer, student.tokenizer).kind != "same":
        new = sorted(checkpoint.tokenizer.get_vocab().keys() - student.tokenizer.get_vocab().keys())
        refusal += " tokenizer is different"
        if new:
            refusal += (
                f", with {len(new)} more tokens, such as {new[0]!r}; give as --student the model "
                "it was trained from, with those tokens added"
            )
        raise UserError(refusal)
    return sentence


def _check_base(checkpoint: Policy, student: Policy) -> str:
    """A note if an adapter was trained on something other than this student; "" otherwise.

    Raises:
        UserError: the two have different plain models.
    """
    base = checkpoint.identity.base
    if base is None:
        return ""
    if _root(base).contents != _root(student.identity).contents:
        raise UserError(
            f"{checkpoint.name} was trained from {_root(base).name}, not from --student "
            f"{student.name}, so the two cannot be compared"
        )
    if student.identity.contents == base.contents:
        return ""
    trained_on = f"{checkpoint.name} was trained on {base.name}, which is"
    if any(below.contents == student.identity.contents for below in _below(base)):
        return (
            f"{trained_on} itself an adapter on --student {student.name}: the measurements show "
            "the effect of both"
        )
    return f"{trained_on} not --student {student.name}: both are adapters on the same model"


SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")


def _shape(policy: Policy, key: str) -> Any:
    return getattr(policy.config.get_text_config(), key, None)


def _below(identity: PolicyIdentity) -> list[PolicyIdentity]:
    """The chain of bases of an adapter, down to the plain model."""
    return [identity.base, *_below(identity.base)] if identity.base else []


def _root(identity: PolicyIdentity) -> PolicyIdentity:
    return [identity, *_below(identity)][-1]
