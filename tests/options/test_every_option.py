"""Every option, changed, by every way: it arrives, and identifies another run if it should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer
from own_parts import forgotten

import decaylab as dl
from decaylab.api import running
from decaylab.cli import main, registering
from decaylab.commands import sweep_runs
from decaylab.errors import UserError
from decaylab.options import declared, option_values
from decaylab.options.command_options import COMMANDS, KINDS
from decaylab.options.comparing import CompareOptions
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.intervening import InterventionOptions
from decaylab.options.measuring import Options
from decaylab.options.option_values import flag
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions

SPECIAL: dict[str, Any] = {
    "columns": {"question": "q", "answer": "deep.path"},
    "template_kwargs": {"mode": "fast"},
    "bins": (0, 7, 9),
    "chain_steps": (2, 4),
    "prefix_lengths": (0, 3),
    "grid": (0, 3),
    "controls": ("reverse", "swapped"),
    "hand_back": (3, 9),
    "checkpoints": ("one,two", "three"),
    "sweeps": ("one,two", "three"),
    "files": ("one,two.jsonl", "three"),
    "evidence": ("runs/one", "runs/two"),
    "run_folders": ("one,two", "three"),
    "answer_rule": "anywhere",
    "checkpoint_rule": "last,best",
    "selector": "random",
    "track": "wandb,trackio",
    "over": "selector",
    "only": ("train", "diagnostics"),
    "plugin": (str(Path(__file__).parents[1] / "helpers" / "own_selector.py"),),
    "add_selectors": ("prefix-mask", "progressive"),
    "tokens_per_second": (7.0, 8.5),
    "device": "cpu",
}
# Recorded beside a run's options, and part of its identity there.
APART = {"top_ids"}
# What a run resumes under, written down a second time.
MACHINE = {"device", "batch_rows", "out", "overwrite", "paper", "plugin"} | {
    *("engine", "adapters", "tensor_parallel", "gpu_memory_share", "workers", "ray")
}
GRADED = {"answer_rule", "thought_marks", "no_sandbox", "verdicts"}
RESUMES: dict[str, tuple[Any, set[str]]] = {
    declared.DECAY: (Options, MACHINE | GRADED | {"level"}),
    declared.DIAGNOSTIC: (
        InterventionOptions,  # those of all diagnostics, and its own
        MACHINE
        | GRADED
        | {"top_ids", "cache", "batch_tokens", "advise", "evidence", "view_rollouts"}
        | {"checkpoint_rule", "reference"},
    ),
    declared.TRAINED: (
        TrainOptions,
        MACHINE
        | {"track", "level", "samples", "rollouts", "verdicts", "test_limit", "batch_tokens"}
        | {"gradient_checkpointing"},
    ),
    declared.SWEEP: (
        SweepOptions,
        {name for kind in (TrainOptions, SweepOptions) for name in declared.options_of(kind)}
        - {"over", "seeds", "seed", "test_limit", "checkpoint_rule", "samples"},
    ),
    declared.COMPARISON: (CompareOptions, {"run_folders", "out", "overwrite"}),
}


def changed(kind: Any, name: str) -> Any:
    """A value of an option that is not its default."""
    default = getattr(kind(), name)
    hint = option_values.kinds(kind)[name]
    inner, _ = option_values.bare(hint)
    if name in SPECIAL:
        return SPECIAL[name]
    if inner is bool:
        return not default
    if inner is int:
        return (default or 0) + 7
    if inner is float:
        return 0.25
    if get_origin(inner) is Literal:
        return next(choice for choice in get_args(inner) if choice != default)
    return "12"


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    with forgotten():
        yield


class Arrived(Exception):
    """Ends a command once its options are made."""


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options that a command was called with."""
    kept: dict[str, Any] = {}
    make = registering._options

    def stop(kind: Any, values: Any) -> Any:
        kept["options"] = make(kind, values)
        raise Arrived

    monkeypatch.setattr(registering, "_options", stop)
    return kept


COMMAND_LINE: Any = typer.main.get_command(main.app)


def called(*words: str) -> None:
    with pytest.raises(Arrived):
        COMMAND_LINE.main(list(words), standalone_mode=False)


def given(command: str, name: str, value: Any) -> list[str]:
    """A command with one option, as a user writes it."""
    words = [command]
    if command == "sweep":
        words.append(value if name == "over" else "rollout-length")
    if name in ("checkpoints", "files", "run_folders", "sweeps"):
        return [*words, *value]
    if name == "over":
        return words
    return [*words, *declared.as_words(COMMANDS[command].kind, {name: value})]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_changed_value_arrives_from_the_command_line(
    command: str, arrived: dict[str, Any]
) -> None:
    usual = COMMANDS[command].kind()
    for name in COMMANDS[command].names:
        value = changed(COMMANDS[command].kind, name)
        called(*given(command, name, value))
        assert getattr(arrived["options"], name) == value
        others = {field.name for field in fields(usual)} - {name, "said", "over"}
        assert all(getattr(arrived["options"], one) == getattr(usual, one) for one in others), name


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {toml(one)}' for key, one in value.items())}}}"
    return json.dumps(value)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_changed_value_arrives_from_a_file(
    command: str, arrived: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "options.toml"
    for name in COMMANDS[command].names:
        value = changed(COMMANDS[command].kind, name)
        key = {"columns": "column"}.get(name, name).replace("_", "-")
        file.write_text(f"{key} = {toml(value)}\n")
        called(command, "--config", str(file))
        assert getattr(arrived["options"], name) == value, name


@pytest.mark.parametrize("command", COMMANDS)
def test_a_changed_value_arrives_from_python(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setitem(running.RUNNERS, command, lambda options, *others: kept.append(options))
    name_of = {"rollouts": "read_rollouts"}.get(command, command.replace("-", "_"))
    function = getattr(dl, name_of)
    for name in COMMANDS[command].names:
        value = changed(COMMANDS[command].kind, name)
        first, given = positional(command, name, value)
        function(*first, **given)
        assert getattr(kept[-1], name) == value, name
    if "said" in {field.name for field in fields(COMMANDS[command].kind)}:
        assert kept[-1].said == set(given)


def positional(command: str, name: str, value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call that changes one option."""
    if command == "sweep":
        given = {"over": "rollout-length", "values": "5", name: value}
        return (given.pop("over"), given.pop("values")), given
    if name in ("checkpoints", "run_folders", "files", "sweeps"):
        return value, {}
    return (), {name: value}


def test_a_changed_value_arrives_in_the_trainings_of_a_sweep(arrived: dict[str, Any]) -> None:
    for name in set(COMMANDS["train"].names) - set(sweep_runs.OWN):
        value = changed(TrainOptions, name)
        called("train", *sweep_runs.train_words(TrainOptions(**{name: value})))
        assert getattr(arrived["options"], name) == value, name


def test_a_changed_value_arrives_in_the_evaluations_of_a_sweep(arrived: dict[str, Any]) -> None:
    shared = set(COMMANDS["evaluate"].names) & set(COMMANDS["sweep"].names)
    shared -= {*sweep_runs.OWN, *sweep_runs.TRAINING_PROBLEMS, "samples", "checkpoint_rule"}
    assert len(shared) > 20
    for name in sorted(shared):
        value = changed(SweepOptions, name)
        words = sweep_runs.evaluation_words(SweepOptions(**{name: value}), "last")
        called("evaluate", "run", *words)
        assert getattr(arrived["options"], name) == value, name


@pytest.mark.parametrize("run", RESUMES)
def test_an_option_names_another_run_if_and_only_if_it_is_declared_to(run: str) -> None:
    kind, resumes = RESUMES[run]
    usual = kind()
    for name in declared.options_of(kind):
        other = replace(usual, **{name: changed(kind, name)})
        same = declared.identity(other, run) == declared.identity(usual, run)
        assert same == (name in resumes), name
    assert not {"said", "scores"} & set(declared.identity(usual, run))


SWEPT = {"rollout-length": "5,full", "selector": "prefix,full"}
FOLDERS: dict[str, tuple[str, Any]] = {
    declared.DECAY: ("prefix-decay", lambda options: options.default_folder()),
    declared.DIAGNOSTIC: (
        "position-kl",
        lambda options: options.folder_name(
            "x", *options.checkpoints, kinds=(declared.DIAGNOSTIC,)
        ),
    ),
    declared.TRAINED: ("train", lambda options: options.default_folder()),
    declared.SWEEP: (
        "sweep",
        lambda options: replace(options, values=SWEPT[options.over], rollout_length=None).folder(),
    ),
}


def test_the_folder_of_a_sweep_is_named_by_what_its_arms_share() -> None:
    runs = Path("runs/sweep-abacus-teacher-abacus-student-abacus-train")
    assert SweepOptions(values="5,full").folder() == runs / "rollout-length-5-full"
    assert SweepOptions(values="full,5").folder() == runs / "rollout-length-5-full"
    other = SweepOptions(values="full,20,5", over="rollout-length", seeds=2)
    assert other.folder() == runs / "rollout-length-5-20-full-seeds-2", "the runs are shared"
    selectors = SweepOptions(over="selector", values="suffix,prefix", budget=20)
    assert selectors.folder() == runs / "selector-prefix-20-suffix-20"
    longer = SweepOptions(values="5,full", steps=70, limit=30)
    assert longer.folder_of_runs() == Path(f"{runs}-limit-30-steps-70")


@pytest.mark.parametrize("run", FOLDERS)
def test_a_folder_has_another_name_if_and_only_if_an_option_makes_it_another_run(run: str) -> None:
    kind, resumes = RESUMES[run]
    command, folder_of = FOLDERS[run]
    usual = folder_of(kind().resolved())
    runs_of_a_sweep = set(declared.identity(kind(), declared.TRAINED)) - {"values"}
    for name in declared.options_of(kind, command):
        try:
            options = replace(kind(), **{name: changed(kind, name)}).resolved()
        except UserError:
            continue  # has no meaning with the other defaults
        other = name not in resumes or name in APART
        other |= run == declared.SWEEP and name in runs_of_a_sweep
        if name in ("out", "runs", "selector", "budget", "rollout_length", "teacher_prefix"):
            continue  # names the folder itself, or one of a sweep's runs
        assert (folder_of(options) != usual) == other, name


def test_every_option_is_declared_whole() -> None:
    """Help that ends as a sentence, a known panel, and commands that exist."""
    internal = set()
    for kind, commands in KINDS.items():
        known = declared.options_of(kind)
        internal |= {field.name for field in fields(kind)} - set(known)
        for name, spec in known.items():
            assert spec.help.endswith((".", "auto.", "...")), (name, spec.help)
            assert spec.panel in declared.PANELS and spec.among in (None, *declared.PANELS)
            if not isinstance(spec.common, bool):
                assert set(spec.common) <= set(COMMANDS), name
                assert any(name in COMMANDS[one].names for one in spec.common), name
            assert {*spec.only, *spec.without} <= set(COMMANDS), name
            assert set(spec.identity) <= {*declared.RUNS, declared.SWEEP, declared.COMPARISON}
        for command in commands:
            assert set(declared.options_of(kind, command)) == set(COMMANDS[command].names)
    assert internal == {"said", "scores"}


MADE_BY = {
    "prefix-decay": (declared.DECAY,),
    **dict.fromkeys(KINDS[DiagnosticOptions], (declared.DIAGNOSTIC,)),
    **dict.fromkeys(KINDS[InterventionOptions], (declared.DIAGNOSTIC,)),
    "values": (declared.DIAGNOSTIC,),
    "arm-gains": (declared.DIAGNOSTIC,),
    "train": (declared.TRAINED,),
    "sweep": (declared.SWEEP, declared.TRAINED),
    "compare": (declared.COMPARISON,),
}
NAMING_WHAT_COUNTS = {"checkpoint_rule", "run_folders", "values"}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_reference_marks_the_options_that_make_another_run(command: str) -> None:
    marked = {
        name
        for name, spec in declared.options_of(COMMANDS[command].kind, command).items()
        if COMMANDS[command].identifies(name, spec)
    }
    expected = set()
    for run in MADE_BY.get(command, ()):
        kind, resumes = RESUMES[run]
        if command in ("values", "arm-gains"):  # diagnostics with options of their own
            kind = COMMANDS[command].kind
        expected |= (set(declared.options_of(kind)) - resumes) | NAMING_WHAT_COUNTS
        expected |= APART if run != declared.COMPARISON else set()
    assert marked == expected & set(COMMANDS[command].names)


def test_words_of_a_command_leave_defaults_out_and_spell_switches() -> None:
    values = {"score_end": False, "lora_rank": 32, "columns": {"id": "x"}, "bins": (0, 5)}
    words = declared.as_words(TrainOptions, values)
    assert words == ["--no-score-end", flag("columns"), "id=x", "--bins", "0,5"]
