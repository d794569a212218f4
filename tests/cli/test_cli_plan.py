"""What a user of `decaylab plan` sees: whether it fits, what would help, hours, and one line for
what cannot be planned."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from command_line import decaylab
from qwen_configs import write_config
from rich.console import Console

from decaylab.options.planning import PlanOptions
from decaylab.planner import tables
from decaylab.planner.plan import make_plan
from decaylab.tables import terminal

PAIR = ("--teacher", "{teacher}", "--student", "{student}", "--problems", "math500")


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """A pair as the hub describes it: config.json and nothing else."""
    names = ("Qwen3-8B", "Qwen2.5-Math-1.5B")
    teacher, student = (str(write_config(name, tmp_path)) for name in names)
    return [one.format(teacher=teacher, student=student) for one in PAIR]


def test_the_embedded_pair_fits_here_and_says_so() -> None:
    found = decaylab("plan", "--memory", "8GB")
    assert found.code == 0
    assert "It fits: at most" in found.out and "Hours: unknown; measure rates" in found.out


def test_the_memory_of_each_phase_fits_80_columns_without_a_broken_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a plan with every phase and a number of five characters."""
    narrow = Console(width=80, force_terminal=True, color_system=None, file=io.StringIO())
    monkeypatch.setattr(terminal, "terminal", lambda: narrow)
    made = make_plan(PlanOptions(memory="512GB", checkpoint_count=2))
    tables.print_plan(made)
    assert isinstance(narrow.file, io.StringIO)
    lines = [line.rstrip() for line in narrow.file.getvalue().splitlines()]
    starts = [" ".join(line[:19].split()) for line in lines]
    assert max(map(len, lines)) <= 80
    for phase in made.phases:
        assert phase.name in starts, phase.name


def test_what_does_not_fit_ends_with_1_and_names_a_flag_that_helps(pair: list[str]) -> None:
    found = decaylab("plan", *pair, "--gpus", "1x48GB", "--only", "prefix-decay", "--json")
    assert found.code == 1
    record = json.loads(found.out)
    assert record["models"]["teacher"]["weight_bytes"] == 2 * 8_190_735_360
    by_name = {one["phase"]: one for one in record["phases"]}
    assert by_name["student writes"]["fits"] and not by_name["teacher writes"]["fits"]
    (rows,) = (
        one
        for one in record["remedies"]
        if one["phase"] == "teacher writes" and "batch-rows" in one["flag"]
    )
    assert rows["fits"]
    again = decaylab(
        "plan", *pair, "--gpus", "1x48GB", "--only", "prefix-decay", *rows["flag"].split()
    )
    assert again.code == 0, again.out


def test_flags_of_training_are_named_and_do_what_is_said(pair: list[str]) -> None:
    words = [
        "plan",
        *pair,
        "--gpus",
        "8x80GB",
        "--only",
        "train",
        "--full-finetune",
        "--validation-problems",
        "0",
    ]
    found = decaylab(*words, "--json", "--problems-per-step", "64")
    record = json.loads(found.out)
    flags = {one["flag"] for one in record["remedies"] if one["phase"] == "student learns"}
    assert any("--gradient-checkpointing" in one for one in flags)
    whole, parts = (
        {
            one["phase"]: one
            for one in json.loads(decaylab(*words, "--json", "--processes", "8", *more).out)[
                "phases"
            ]
        }
        for more in ((), ("--sharded",))
    )
    assert parts["update"]["terms"]["optimizer"] < 0.4 * whole["update"]["terms"]["optimizer"]
    assert parts["student writes"]["terms"]["gathered layers"] > 0


def test_hours_are_tokens_over_the_stated_rate(pair: list[str]) -> None:
    words = [
        "plan",
        *pair,
        "--gpus",
        "1x80GB",
        "--only",
        "prefix-decay",
        "--json",
        "--tokens-per-second",
        "1000",
    ]
    record = json.loads(decaylab(*words).out)
    assert {one["seconds"] for one in record["phases"]} == {
        500 * 4 * 2048 / 1000,
        500 * 4 * (1948 + 1848 + 1748) / 1000,
    }


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--gpus", "48GB"), "--gpus must be a count, x and the memory of one"),
        (("--gpus", "1x48"), "--gpus must give memory with a unit"),
        (("--gpus", "0x48GB"), "at least one GPU"),
        (("--only", "tarin"), "--only must be among prefix-decay, diagnostics, train, got tarin"),
        (("--only", ","), "--only must name the planned commands"),
        (("--teacher", "nowhere"), "no model 'nowhere'"),
        (
            ("--gpus", "1x48GB", "--processes", "2"),
            "--processes needs 2 GPUs, but --gpus 1x48GB has only 1",
        ),
        (
            ("--gpus", "1x48GB", "--tensor-parallel", "2"),
            "--tensor-parallel only applies to --engine vllm",
        ),
        (("--sharded",), "give their number with --processes"),
        (("--tokens-per-second", "fast"), "--tokens-per-second must be comma-separated numbers"),
        (("--tokens-per-second", "0"), "numbers above 0"),
        (("--problems", "someone/set", "--teacher", "abacus-teacher"), "set --limit"),
        (("--prefix-lengths", "a"), "--prefix-lengths must be comma-separated whole numbers"),
        (("--column", "x=y"), "--column must be ROLE=NAME, with a role among question, "),
        (("--probe", "--engine", "vllm"), "--probe only measures the transformers engine"),
        (("--dtype", "int8"), "--dtype must be one of"),
    ],
)
def test_what_cannot_be_planned_is_one_line(words: tuple[str, ...], told: str) -> None:
    assert told in decaylab("plan", *words).complaint


def test_a_model_that_cannot_be_described_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unheard-of"}')
    assert (
        "cannot read the configuration of"
        in decaylab("plan", "--teacher", tmp_path, "--student", "abacus-student").complaint
    )
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert (
        str(tmp_path)
        in decaylab("plan", "--teacher", tmp_path, "--student", "abacus-student").complaint
    )


def test_a_probe_measures_every_rate_that_the_plan_needs() -> None:
    options = PlanOptions(
        limit=4, samples=2, memory="8GB", probe=True, validation_problems=4, problems_per_step=2
    )
    found = make_plan(options)
    assert all((found.seconds(one) or 0) > 0 for one in found.phases if one.tokens)
    assert sum(one.tokens > 0 for one in found.phases) == 10
