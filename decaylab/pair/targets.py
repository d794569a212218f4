"""What is measured: trained students, named by folders, and what the folders know of their pair.

adapter folder   knows its base, the student before training; that may be an adapter folder too
run folder       (run.json in it or above it) knows student, teacher, problems and the sampling
model folder     knows nothing: --student and --teacher must be given
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
from decaylab.options.measuring import PairOptions
from decaylab.policies import checkpoint_folders, loading
from decaylab.policies.identity import PolicyIdentity, hash_folder
from decaylab.policies.loading import EMBEDDED
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.rollout_files import files
from decaylab.runs.store import RunFolder
from decaylab.runs.vocabulary import BASE, TEACHER

OWN_OPTIONS = (
    *("out", "overwrite", "paper", "level", "answer_rule"),
    *("dtype", "device", "batch_rows", "trust_remote_code"),
)
"""Options of a run that are not taken over: they belong to where and how it was computed."""
SAMPLED = ("temperature", "top_p", "top_k", "max_tokens", "samples", "seed")
ROLES = {"student": "what it was trained from", "teacher": "which teacher it had"}
"""The roles of a pair, each with what a checkpoint that does not say it leaves open."""


@dataclass(frozen=True)
class Target:
    """A trained student: ``label`` names it in results, ``name`` is what it is loaded by."""

    label: str
    name: str

    @property
    def contents(self) -> str:
        """A hash of what the folder holds, with those of the adapters below it; a hub id as it
        stands."""
        first, *below = loading.chain(self.name)
        adapters = [hash_folder(link.folder) for link in below[:-1]]
        return "+".join(
            [hash_folder(first.path) if isinstance(first.path, Path) else first.path, *adapters]
        )


@dataclass(frozen=True)
class Targets:
    """What a command was given.

    checkpoints: the trained students, in order. run: the run folder that the first of them belongs
    to, if any.
    rollouts: the run folder whose student rollouts are looked at, if one was given.
    """

    options: DiagnosticOptions
    checkpoints: tuple[Target, ...]
    run: Path | None = None
    rollouts: Path | None = None


def resolve(options: DiagnosticOptions) -> Targets:
    """The checkpoints that were named, and the options with what the checkpoints know filled in.

    What is said on the command line goes before what a checkpoint knows.

    Raises:
        UserError: a folder that is neither model, adapter nor run; checkpoints of two bases; a
            model folder without --student and --teacher.
    """
    given = [_given(name) for name in options.checkpoints]
    runs = [one for one in given if one.holds_rollouts]
    sources = [options.rollouts] if options.rollouts else []
    sources += [one.name for one in runs]
    if runs and len(sources) > 1:
        raise UserError(f"two sources of rollouts, {sources[0]} and {sources[1]}: give one")
    sampled = runs[0].knows if runs else {}
    if sampled.get("rollouts"):  # those came from a file, which is read again
        _check_unchanged(Path(runs[0].name), str(sampled["rollouts"]))
    # A run with rollouts says what is looked at; all else that is named is a checkpoint.
    names = [one.name for one in given if not one.holds_rollouts]
    known = _together(given, options)
    pair = _pair(options, known, names)
    chosen = dataclasses.replace(options, **{**_taken_over(known, options), **pair})
    _check_sampling(chosen, sampled)
    folders = [one.run for one in given if one.run is not None]
    rollouts = None if chosen.rollouts else next((Path(one.name) for one in runs), None)
    return Targets(chosen, labelled(names), run=next(iter(folders), None), rollouts=rollouts)


@dataclass(frozen=True)
class _Given:
    """Something that was named on the command line.

    run: the run folder that it is or belongs to, if any. holds_rollouts: it is a run whose rollouts
    are looked at, and no checkpoint. knows: options that its folder records.
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
            f"{name} is a run folder with neither rollouts nor checkpoints; give the run or model "
            "that it measured"
        )
    where = path if holds_rollouts else Path(loading.resolve(name))
    return _Given(name, run, holds_rollouts, _knows(where, run))


def _together(given: Sequence[_Given], options: DiagnosticOptions) -> dict[str, Any]:
    """What all of them know; of what several know, the first counts.

    Raises:
        UserError: they know another student or teacher, and no option decides.
    """
    known: dict[str, Any] = {}
    for one in given:
        for key in ROLES:
            here, there = one.knows.get(key), known.get(key)
            if here and there and not getattr(options, key) and not _same(there, here):
                raise UserError(
                    f"checkpoints of two pairs: the {key} of {one.name} is {here}, of the others "
                    f"{there}"
                )
        known = {**one.knows, **known}
    return known


def _pair(
    options: DiagnosticOptions, known: dict[str, Any], names: Sequence[str]
) -> dict[str, str | None]:
    """Student and teacher: as the options say, else as the checkpoints know.

    Raises:
        UserError: there are checkpoints, and neither says which.
    """
    pair = {key: getattr(options, key) or known.get(key) for key in ROLES}
    if names and _embedded(str(pair["student"])) in EMBEDDED:
        pair["teacher"] = pair["teacher"] or "abacus-teacher"
    lacking = [key for key in ROLES if not pair[key]]
    if names and lacking:
        what = " or ".join(ROLES[key] for key in lacking)
        flags = " and ".join(f"--{key}" for key in lacking)
        raise UserError(f"{names[0]} does not say {what}: give {flags}")
    return pair


def _taken_over(known: dict[str, Any], options: DiagnosticOptions) -> dict[str, Any]:
    """The options of the run that hold here too: those that the user has not set."""
    unset = {"columns", "template_kwargs"}
    unset = {name for name in unset if not getattr(options, name)}
    for field in dataclasses.fields(options):
        if getattr(options, field.name) == field.default and field.name not in options.said:
            unset.add(field.name)
    return {key: value for key, value in known.items() if key in unset and key not in OWN_OPTIONS}


def _check_unchanged(run: Path, file: str) -> None:
    """Raises UserError unless the file that a run's rollouts came from still holds them."""
    wanted = (RunFolder(run).record or {}).get("identity", {}).get("rollouts_hash")
    try:
        unchanged = files.content_hash(files.paths_of(file)) == wanted
    except UserError:
        unchanged = False
    if not unchanged:
        raise UserError(
            f"{run} was made from {file}, which is gone or has changed; give what holds the "
            "rollouts now by --rollouts"
        )


def _check_sampling(options: DiagnosticOptions, sampled: dict[str, Any]) -> None:
    """Checkpoints stand beside the rollouts of the run, so theirs are sampled in the same way."""
    for key in SAMPLED:
        here, there = getattr(options, key), sampled.get(key)
        if there is not None and here != there:
            name = f"--{key.replace('_', '-')}"
            raise UserError(
                f"{name} {here}: the rollouts of the run were sampled with {there}; say {name} "
                f"{there}"
            )


def run_folder(path: Path) -> Path | None:
    """The folder with the run.json that a checkpoint belongs to: its own, or that of the folder it
    stands in."""
    return next((folder for folder in (path, path.parent) if (folder / "run.json").is_file()), None)


def _knows(path: Path, run: Path | None) -> dict[str, Any]:
    """Options of the pair that a checkpoint's folder records, with the embedded policies under
    their own names."""
    knows: dict[str, Any] = {}
    if (path / "adapter_config.json").is_file():
        knows["student"] = loading.adapter_base(path)
    if run is not None:
        record = RunFolder(run).record or {}
        options = (record.get("identity") or {}).get("options") or {}
        fields = {field.name for field in dataclasses.fields(PairOptions)} | {"rollout_length"}
        knows |= {key: value for key, value in options.items() if key in fields}
    for key in ROLES:
        if key in knows:
            knows[key] = _embedded(knows[key])
    return knows


def _same(one: str, other: str) -> bool:
    """Whether two names mean the same policy: equal, or paths to one folder."""
    return one == other or (
        Path(one).is_dir() and Path(other).is_dir() and Path(one).samefile(other)
    )


def _embedded(name: str | None) -> str | None:
    """The short name of a policy of the embedded pair, by whatever path it is named; any other name
    as it is."""
    if name and Path(name).is_dir():
        for short in EMBEDDED:
            if Path(name).resolve() == Path(loading.resolve(short)).resolve():
                return short
    return name


def labelled(names: Sequence[str], parts: int = 1) -> tuple[Target, ...]:
    """Each name with a label of its own: its last part, of a step with its run's, and as many
    before as tell it from base, teacher and the others.

    parts: at least so many of each name.
    """
    for depth in range(parts, 20):
        # Of a model that a trainer put into the folder of a step, the step is what tells it.
        places = [checkpoint_folders.step_folder(Path(os.path.abspath(name))) for name in names]
        # and a step alone does not say of which run it is
        steps = [checkpoint_folders.step_of(place) is not None for place in places]
        labels = [
            "/".join(place.parts[-max(depth, 1 + step) :])
            for place, step in zip(places, steps, strict=True)
        ]
        if len({*labels, BASE, TEACHER}) == len(labels) + 2:
            return tuple(Target(label, name) for label, name in zip(labels, names, strict=True))
    raise UserError(f"the same checkpoint is named twice: {', '.join(sorted(names))}")


def check_same_base(checkpoint: Policy, student: Policy) -> str:
    """A sentence where the checkpoint was not trained from this student itself; "" where it was, or
    where nobody knows.

    An adapter belongs to what it was trained on, and to all that this was trained on in turn: the
    student may be the adapter that came before, or the plain model below both. Two adapters on the
    same model also stand side by side, since one that was trained on names the plain model as its
    base.

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
        refusal += " tokenizer is another one"
        if new:
            refusal += (
                f", with {len(new)} tokens more, {new[0]!r} among them; give as --student the one "
                "it was trained from, with those tokens added"
            )
        raise UserError(refusal)
    return sentence


def _check_base(checkpoint: Policy, student: Policy) -> str:
    """A sentence where an adapter was trained on something other than this student itself; "" where
    it was not, or where nobody knows.

    Raises:
        UserError: the two have no plain model in common.
    """
    base = checkpoint.identity.base
    if base is None:
        return ""
    if _root(base).contents != _root(student.identity).contents:
        raise UserError(
            f"{checkpoint.name} was trained from {_root(base).name}, which is not --student "
            f"{student.name}: measured side by side they would tell nothing"
        )
    if student.identity.contents == base.contents:
        return ""
    trained_on = f"{checkpoint.name} was trained on {base.name}, which is"
    if any(below.contents == student.identity.contents for below in _below(base)):
        return (
            f"{trained_on} itself an adapter on --student {student.name}: what both changed is "
            "measured"
        )
    return f"{trained_on} not --student {student.name}: both are adapters on the same model"


SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")


def _shape(policy: Policy, key: str) -> Any:
    return getattr(policy.config.get_text_config(), key, None)


def _below(identity: PolicyIdentity) -> list[PolicyIdentity]:
    """What an adapter was trained on, and what that was trained on, down to the plain model."""
    return [identity.base, *_below(identity.base)] if identity.base else []


def _root(identity: PolicyIdentity) -> PolicyIdentity:
    return [identity, *_below(identity)][-1]
