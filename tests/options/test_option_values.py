"""Every option of every command, with values that it cannot have, by each way a value can come: one
line that names it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pytest
import typer
from command_line import decaylab

import decaylab as dl
from decaylab.api import running
from decaylab.cli import main, parameters
from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.command_options import COMMANDS
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.kinds import before_plugins
from decaylab.options.measuring import Options
from decaylab.options.option_values import Must
from decaylab.options.pair_options import PairOptions
from decaylab.options.planning import PlanOptions
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions

KINDS = (Options, DiagnosticOptions, TrainOptions, SweepOptions, PlanOptions)
COMMAND_LINE: Any = typer.main.get_command(main.app)
FUNCTIONS = {
    name: name.replace("-", "_") for name in COMMANDS if name.replace("-", "_") in dl.__all__
}
INTERNAL = ("said",)
CANDIDATES: tuple[Any, ...] = (
    *(
        0,
        -1,
        2**63,
        1.0,
        2.0,
        -0.5,
        0.0,
        math.nan,
        math.inf,
        -math.inf,
        "",
        " ",
        "nonsense",
        "studnet",
        True,
        None,
        (),
    ),
    *(
        (5, 1),
        (1, 2),
        (-1,),
        ("nonsense",),
        (math.nan,),
        {"nonsense": "x"},
        {"question": 3},
        ["question"],
        object(),
    ),
)


def bare(kind: Any) -> tuple[Any, list[Must]]:
    """The type below None and conditions, and the conditions."""
    inner, marks = option_values.bare(kind)
    return inner, [mark for mark in marks if isinstance(mark, Must)]


def wrong_types(kind: Any) -> list[Any]:
    """Values of types that an option cannot have; what is wrong by its type alone."""
    own, _ = bare(kind)
    if own is bool:
        return ["yes", 1, 0, "true", 1.0, np.float64(1.0), ()]
    if own is int:
        return [True, False, 2.5, 2.0, "3", "many", [1], {}]
    if own is float:
        return [True, "0.5", "hot", [0.5], {}, 1j]
    if get_origin(own) is tuple:
        return [
            5,
            True,
            2.5,
            {"a": "b"},
            [object()],
            [[1]],
            *([["0"], [True], [1.5]] if int in get_args(own) else []),
        ]
    if get_origin(own) is dict:
        return ["question", ["question"], {"question": 1}, {1: "q"}, 3]
    return [True, 2.5, ["auto"], {"a": 1}, b"auto", object()]


def refused_values(kind: Any) -> list[Any]:
    found = wrong_types(kind)
    if "JSON" in str(getattr(kind, "__metadata__", "")):  # a table of anything that JSON can say
        found.remove({"question": 1})
    for value in CANDIDATES:
        try:
            option_values.checked("--it", kind, value)
        except UserError:
            found.append(value)
    return found


def fields() -> list[tuple[type[PairOptions], str, Any]]:
    return [
        (kind, name, one)
        for kind in KINDS
        for name, one in option_values.kinds(kind).items()
        if name not in INTERNAL
    ]


@pytest.mark.parametrize(
    ("options", "name", "kind"), fields(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_an_option_is_refused_at_construction_in_one_line_that_names_it(
    options: type[PairOptions], name: str, kind: Any
) -> None:
    wrong = refused_values(kind)
    assert len(wrong) > 4
    for value in wrong:
        with pytest.raises(UserError) as error:
            options(**{name: value})
        message = str(error.value)
        assert message.startswith(f"{option_values.flag(name)} must "), message
        assert "\n" not in message and len(message) < 700
        assert "got" in message or "empty" in message, message
    with pytest.raises(UserError):
        dataclasses.replace(options(), **{name: wrong[0]})


@pytest.mark.parametrize(
    ("options", "name", "kind"), fields(), ids=lambda one: one if isinstance(one, str) else ""
)
def test_no_number_may_be_nan_and_every_number_has_bounds(
    options: type[PairOptions], name: str, kind: Any
) -> None:
    """A new number without a declared range, or a new choice that is left as free text, fails
    here."""
    own, conditions = bare(kind)
    if own in (int, float):
        assert conditions, f"{name} has no range"
    if own is float:
        assert all(
            not all(one.holds(value) for one in conditions) for value in (math.nan, math.inf)
        )


def test_defaults_pass_their_own_check_and_are_kept() -> None:
    for kind in KINDS:
        made = kind()
        for field in dataclasses.fields(kind):
            default = (
                field.default
                if field.default is not dataclasses.MISSING
                else field.default_factory()
            )
            kept = getattr(made, field.name)
            assert kept == default and type(kept) is type(default), field.name


# By keyword


@pytest.mark.parametrize("command", FUNCTIONS)
def test_a_wrong_value_from_python_ends_before_anything_is_loaded(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from decaylab.policies import loading

    monkeypatch.setattr(loading, "load", lambda *more: pytest.fail("loaded"))
    kinds = option_values.kinds(COMMANDS[command].kind)
    function = getattr(dl, FUNCTIONS[command])
    given: tuple[Any, ...] = ("rollout-length", "5") if command == "sweep" else ()
    for name in COMMANDS[command].names:
        if name in ("checkpoints", "run_folders", "sweeps", "over", "values"):
            continue
        for value in refused_values(kinds[name])[:12]:
            with pytest.raises(UserError) as error:
                function(*given, **{name: value})
            # Objects in memory have no flag.
            in_memory = name.removeprefix("test_") in ("problems", "student", "teacher")
            word = name.removeprefix("test_") if in_memory else option_values.flag(name)
            assert word in str(error.value), (name, value)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"thinking": "yes"}, "--thinking must be one of off, on, template, got yes"),
        (
            {"teacher_prompt": "studnet"},
            "--teacher-prompt must be one of own, student, got studnet",
        ),
        ({"head": "fp32"}, "--head must be one of model, float32, got fp32"),
        ({"estimand": "token"}, "--estimand must be one of tokens, problems, got token"),
        ({"dtype": "fp32"}, "--dtype must be one of auto, float32, bfloat16, float16, got fp32"),
        ({"samples": 2.0}, "--samples must be a whole number, got 2.0"),
        ({"samples": True}, "--samples must be a whole number, got True"),
        ({"samples": "4"}, "--samples must be a whole number, got '4'"),
        ({"temperature": math.nan}, "--temperature must be at least 0 (0 is greedy), got nan"),
        (
            {"bins": "0,five"},
            "--bins must be comma-separated whole numbers, such as 0,100,200, got '0,five'",
        ),
        (
            {"columns": {"solution": "x"}},
            "--column must be ROLE=NAME, with a role among question, answer, ",
        ),
        ({"quiet": "yes"}, "quiet must be true or false, got 'yes'"),
        ({"scores": "served"}, "no option scores of position-kl; there are "),
        ({"top_ids": 5}, "no option top_ids of position-kl; there are "),
        (
            {"checkpoint_rule": "newest"},
            "--checkpoint-rule must be every, last, best, or last,best, got newest",
        ),
        ({"problems": " "}, "--problems must not be empty"),
    ],
)
def test_the_complaint_says_what_is_allowed_and_what_was_given(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError) as error:
        dl.position_kl(**given)
    assert str(error.value).startswith(told)


def test_a_sweep_checks_everything_before_a_child_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from decaylab.commands import children

    monkeypatch.setattr(children, "run", lambda *more, **given: pytest.fail("started"))
    for wrong in (
        {"checkpoint_rule": "newest"},
        {"level": 1.5},
        {"head_start": 1},
        {"gpu_memory_share": 2.0},
    ):
        with pytest.raises(UserError):
            dl.sweep("rollout-length", [5], runs=str(tmp_path / "runs"), **wrong)
    for values in ([5, 2.5], [True], [0], "five", []):
        with pytest.raises(UserError):
            dl.sweep("rollout-length", values, runs=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_what_python_offers_for_the_same_thing_is_taken_as_the_same() -> None:
    found = Options(
        prefix_lengths=[0, np.int64(4)],
        samples=np.int32(2),
        temperature=1,
        controls="all",
        out=Path("there"),
        columns=["question=q"],
    )
    assert found == Options(
        prefix_lengths=(0, 4),
        samples=2,
        temperature=1.0,
        controls=("own-prefix", "correct-so-far", "reverse", "swapped"),
        out="there",
        columns={"question": "q"},
    )
    assert (
        type(found.samples) is int
        and type(found.temperature) is float
        and type(found.prefix_lengths[1]) is int
    )
    assert Options(prefix_lengths=range(0, 9, 4)).prefix_lengths == (0, 4, 8)
    assert Options(controls="none").controls == () and Options(
        prefix_lengths="0,4"
    ).prefix_lengths == (0, 4)
    assert TrainOptions(rollout_length=7) == TrainOptions(rollout_length="7")


# By the command line and by a file


def on_the_command_line(value: Any) -> str | None:
    """The words for a value; None where it has none."""
    if isinstance(value, (bool, dict)) or value is None or isinstance(value, (set, bytes)):
        return None
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value) if isinstance(value, (int, float, str)) else None


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_value_on_the_command_line_is_one_line(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from decaylab.policies import loading

    monkeypatch.setattr(loading, "load", lambda *more: pytest.fail("loaded"))
    kinds = option_values.kinds(COMMANDS[command].kind)
    own = COMMANDS[command].names
    given = ["rollout-length", "--values", "5"] if command == "sweep" else []
    tried = 0
    for name in own:
        if name not in kinds or name in (
            *("over", "values", "checkpoints", "run_folders", "sweeps", "columns"),
        ):
            continue
        kind, _ = bare(kinds[name])
        flag = option_values.flag(name)
        if kind is bool:
            continue  # a flag has no value
        # Click reads the text: what its reading and the option's own check let pass is right.
        spoken = [text for text in map(on_the_command_line, CANDIDATES) if text is not None]
        wrong = [text for text in spoken if not _passes(kinds[name], kind, text)]
        if not wrong:
            continue  # any text will do, such as a system message
        text = wrong[tried % len(wrong)]
        tried += 1
        assert flag in decaylab(command, *given, f"{flag}={text}").complaint, (flag, text)
    assert tried >= (5 if command == "compare" else 12)  # which has no options of a pair


def _passes(declared: Any, kind: Any, text: str) -> bool:
    """Whether the command line can read a text as a value that the option may have."""
    try:
        value: Any = float(text) if kind in (int, float) else text
        if kind is int:
            value = int(value) if value.is_integer() else value  # the command line reads 2.0 as 2
        option_values.checked("--it", declared, value)
    except ValueError:
        return False
    return True


TOML = {
    "text": '"nonsense"',
    "empty": '""',
    "half": "0.5",
    "no": "false",
    "minus": "-1",
    "list": '["nonsense"]',
    "nan": "nan",
    "inf": "inf",
    "date": "2026-01-01",
    "table": "{nonsense = 1}",
}


@pytest.mark.parametrize("command", ["position-kl", "train", "plan"])
def test_a_wrong_value_in_a_file_is_one_line_that_names_file_and_option(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every option of every command: one file serves them all, and what this command does not
    use is checked too."""
    import tomllib

    from decaylab.policies import loading

    monkeypatch.setattr(loading, "load", lambda *more: pytest.fail("loaded"))
    names = {name for kind in KINDS for name in option_values.kinds(kind)} - {
        "said",
        "scores",
        "columns",
    }
    for name in sorted(names):
        kinds = [
            option_values.kinds(kind)[name] for kind in KINDS if name in option_values.kinds(kind)
        ]
        wrong = 0
        for text in TOML.values():
            value = tomllib.loads(f"it = {text}")["it"]
            if any(_allowed(before_plugins(kind), value) for kind in kinds):
                continue
            wrong += 1
            (tmp_path / "it.toml").write_text(f"{name} = {text}\n")
            with pytest.raises(UserError) as error:
                COMMAND_LINE.main(
                    [command, "--config", str(tmp_path / "it.toml")], standalone_mode=False
                )
            told = str(error.value)
            assert told.startswith(f"--config {tmp_path / 'it.toml'}: {name} must "), told
            assert "\n" not in told
        assert wrong >= 4, name


def _allowed(kind: Any, value: Any) -> bool:
    try:
        option_values.checked("it", kind, value)
    except UserError:
        return False
    return True


def test_a_file_can_hold_every_option_of_every_command(tmp_path: Path) -> None:
    """And what plan alone has, which its own --config refused."""
    text = (
        'gpus = "1x48GB"\nonly = ["train"]\nprocesses = 1\nmean-tokens = 50\ntokens_per_second '
        "= [100, 200.5]\n"
    )
    (tmp_path / "plan.toml").write_text(
        text + 'checkpoint-rule = "last"\nadvise = true\nseeds = 2\nmemory = "8GB"\n'
    )
    (tmp_path / "plan.toml").write_text(
        (tmp_path / "plan.toml").read_text().replace('gpus = "1x48GB"\n', "")
    )
    found = decaylab("plan", "--config", tmp_path / "plan.toml", "--json")
    assert found.code == 0, found.err
    import json

    record = json.loads(found.out)
    assert {one["command"] for one in record["phases"]} == {"train"}
    known = set(parameters.file_options())
    for kind in KINDS:
        names = {name.replace("_", "-") for name in option_values.kinds(kind)}
        assert names - {"said", "scores", "columns"} <= known
    assert {"column", "json", "quiet"} <= known and not {"said", "config", "as-json"} & known


def test_no_function_offers_what_its_command_does_not() -> None:
    with pytest.raises(UserError, match="no option rollouts of evaluate"):
        dl.evaluate(rollouts="mine.jsonl")
    with pytest.raises(UserError, match="no option adapters of sweep"):
        dl.sweep("rollout-length", [5], adapters="served")
    assert running.COMMANDS is COMMANDS


def test_how_a_figure_is_drawn_is_checked_too() -> None:
    for draw, told in (
        (
            lambda: dl.figure("n-sweep", "nowhere", width="narrow"),
            "width must be one of column, page, got narrow",
        ),
        (
            lambda: dl.figure("n-sweep", "nowhere", paper="yes"),
            "paper must be true or false, got 'yes'",
        ),
        (
            lambda: dl.table("prefix-curve", "nowhere", paper=1),
            "paper must be true or false, got 1",
        ),
        (lambda: dl.report("nowhere", paper=None), "paper must be true or false, got None"),
    ):
        with pytest.raises(UserError) as error:
            draw()
        assert str(error.value) == told
