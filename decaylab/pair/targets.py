"""What is measured: trained students, named by folders, and what those folders know about the pair
they come from.

adapter folder   knows its base, the student before training; that may be an adapter folder too run
folder       (run.json in it or above it) knows student, teacher, problems and how they were sampled
model folder     knows nothing: --student and --teacher must be said
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from decaylab.errors import UserError
from decaylab.options.measuring import DiagnosticOptions, PairOptions
from decaylab.policies import checkpoint_folders, loading
from decaylab.policies.identity import PolicyIdentity, hash_folder
from decaylab.policies.loading import EMBEDDED
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.rollout_files import files
from decaylab.runs.store import RunFolder

# Of the options a run was made with, those that belong to where and how it was computed are not
# taken over.
OWN_OPTIONS = (
    "out",
    "overwrite",
    "paper",
    "level",
    "answer_rule",
    "dtype",
    "device",
    "batch_rows",
    "trust_remote_code",
)
SAMPLED = ("temperature", "top_p", "top_k", "max_tokens", "samples", "seed")
BASE, TEACHER = "base", "teacher"


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
    names: list[str] = []
    known: dict[str, Any] = {}
    run, rollouts, sampled = None, None, {}
    for name in options.checkpoints:
        folder = run_folder(Path(name))
        holds_rollouts = folder == Path(name) and (folder / "rollouts.parquet").exists()
        if (
            folder == Path(name)
            and not holds_rollouts
            and not checkpoint_folders.steps(Path(name))
            and not checkpoint_folders.is_model(Path(name))
        ):
            raise UserError(
                f"{name} is a run folder with neither rollouts nor checkpoints; give the run or "
                "model that it measured"
            )
        mine = _knows(Path(name if holds_rollouts else loading.resolve(name)), folder)
        clash = [
            key
            for key in ("student", "teacher")
            if not getattr(options, key)
            and key in known
            and key in mine
            and not _same(known[key], mine[key])
        ]
        if clash:
            raise UserError(
                f"checkpoints of two pairs: the {clash[0]} of {name} is {mine[clash[0]]}, of the "
                f"others {known[clash[0]]}"
            )
        known = {**mine, **known}
        run = run or folder
        if holds_rollouts:
            if rollouts is not None or options.rollouts:
                raise UserError(
                    f"two sources of rollouts, {rollouts or options.rollouts} and {folder}: give "
                    "one"
                )
            rollouts, sampled = Path(name), mine
            if mine.get("rollouts"):  # those came from a file, which is read again
                _check_unchanged(rollouts, str(mine["rollouts"]))
        else:
            names.append(name)
    given = {key: getattr(options, key) or known.get(key) for key in ("student", "teacher")}
    if names and any(_embedded(str(given["student"])) == name for name in EMBEDDED):
        given["teacher"] = given["teacher"] or "abacus-teacher"
    if names and not all(given.values()):
        lacking = [key for key, value in given.items() if not value]
        words = " or ".join(
            {"student": "what it was trained from", "teacher": "which teacher it had"}[key]
            for key in lacking
        )
        raise UserError(
            f"{names[0]} does not say {words}: give {' and '.join(f'--{key}' for key in lacking)}"
        )
    unsaid = {
        field.name
        for field in dataclasses.fields(options)
        if getattr(options, field.name) == field.default
    }
    unsaid = unsaid - options.said | {
        name for name in ("columns", "template_kwargs") if not getattr(options, name)
    }
    taken = {key: value for key, value in known.items() if key in unsaid and key not in OWN_OPTIONS}
    chosen = dataclasses.replace(options, **{**taken, **given})
    _check_sampling(chosen, sampled)
    return Targets(chosen, labelled(names), run, None if chosen.rollouts else rollouts)


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
    found: dict[str, Any] = {}
    if (path / "adapter_config.json").is_file():
        found["student"] = loading.adapter_base(path)
    if run is not None:
        record = RunFolder(run).record or {}
        options = (record.get("identity") or {}).get("options") or {}
        fields = {field.name for field in dataclasses.fields(PairOptions)} | {"rollout_length"}
        found |= {key: value for key, value in options.items() if key in fields}
    return {
        key: _embedded(value) if key in ("student", "teacher") else value
        for key, value in found.items()
    }


def _same(one: str, other: str) -> bool:
    """Whether two names mean the same policy: equal, or paths to one folder."""
    return one == other or (
        Path(one).is_dir() and Path(other).is_dir() and Path(one).samefile(other)
    )


def _embedded(name: str | None) -> str | None:
    """The short name of a policy of the embedded pair, by whatever path it is named; any other name
    as it is."""
    for short in EMBEDDED:
        if (
            name
            and Path(name).is_dir()
            and Path(name).resolve() == Path(loading.resolve(short)).resolve()
        ):
            return short
    return name


def labelled(names: Sequence[str], parts: int = 1) -> tuple[Target, ...]:
    """Each name with a label of its own: its last part, and as many before as tell it from base,
    teacher and the others.

    parts: at least so many of each name.
    """
    for depth in range(parts, 20):
        # Of a model that a trainer put into the folder of a step, the step is what tells it.
        places = [checkpoint_folders.step_folder(Path(os.path.abspath(name))) for name in names]
        labels = ["/".join(place.parts[-depth:]) for place in places]
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
    told = ""
    base = checkpoint.identity.base
    if base is not None:
        if _root(base).contents != _root(student.identity).contents:
            raise UserError(
                f"{checkpoint.name} was trained from {_root(base).name}, which is not --student "
                f"{student.name}: "
                "measured side by side they would tell nothing"
            )
        if student.identity.contents != base.contents:
            between = any(one.contents == student.identity.contents for one in _below(base))
            told = f"{checkpoint.name} was trained on {base.name}, which is " + (
                f"itself an adapter on --student {student.name}: what both changed is measured"
                if between
                else f"not --student {student.name}: both are adapters on the same model"
            )
    differing = [key for key in SHAPE if _shape(checkpoint, key) != _shape(student, key)]
    if differing:
        here, there = (_shape(policy, differing[0]) for policy in (checkpoint, student))
        raise UserError(
            f"{checkpoint.name} was not trained from --student {student.name}: its {differing[0]} "
            f"is {here}, not {there}"
        )
    if compare_vocabularies(checkpoint.tokenizer, student.tokenizer).kind != "same":
        new = sorted(checkpoint.tokenizer.get_vocab().keys() - student.tokenizer.get_vocab().keys())
        refusal = (
            f"{checkpoint.name} was not trained from --student {student.name}: its "
            "tokenizer is another one"
        )
        if new:
            refusal += (
                f", with {len(new)} tokens more, {new[0]!r} among them; give as --student "
                "the one it was trained from, "
            )
            refusal += "with those tokens added"
        raise UserError(refusal)
    return told


SHAPE = ("model_type", "hidden_size", "num_hidden_layers", "num_attention_heads")


def _shape(policy: Policy, key: str) -> Any:
    return getattr(policy.config.get_text_config(), key, None)


def _below(identity: PolicyIdentity) -> list[PolicyIdentity]:
    """What an adapter was trained on, and what that was trained on, down to the plain model."""
    return [identity.base, *_below(identity.base)] if identity.base else []


def _root(identity: PolicyIdentity) -> PolicyIdentity:
    return [identity, *_below(identity)][-1]
