"""The card of a checkpoint: what the hub reads in it, its numbers, and what it keeps to itself."""

from __future__ import annotations

import csv
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard
from scipy import stats
from tiny_models import save_folder
from training_by_hand import train

from decaylab.cli.parameters import signature
from decaylab.options import declared
from decaylab.options.training import TrainOptions
from decaylab.trainer import validation
from decaylab.trainer.machinery import checkpoint_cards
from decaylab.trainer.validation import HeldOut


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training of a student that is a folder under somebody's home."""
    home = tmp_path_factory.mktemp("home") / "alice"
    models = [
        str(save_folder(home / name, seed=seed)) for seed, name in enumerate(("small", "large"))
    ]
    asked = {"problems": "abacus-train", "test_problems": "none", "limit": 40, "max_tokens": 24}
    short = {"steps": 2, "checkpoint_every": 1, "rollout_length": 8, "leave_out_long": True}
    train(home / "esr", student=models[0], teacher=models[1], **asked, **short)
    return home / "esr"


def test_the_hub_reads_the_card_of_a_checkpoint(run: Path) -> None:
    card = ModelCard.load(run / "step-000002" / "README.md")
    front = card.data.to_dict()
    assert front["library_name"] == "peft" and front["pipeline_tag"] == "text-generation"
    assert {"on-policy-distillation", "decaylab", "lora"} <= set(front["tags"])
    assert "base_model" not in front, "a folder of this machine is no model of the hub"
    assert ModelCard(str(card)).data.to_dict() == front
    for said in ("small, distilled on-policy from large: step 2 of 2", "stop at 8 tokens"):
        assert said in card.text


def test_a_run_without_held_out_problems_says_so() -> None:
    assert [*checkpoint_cards._results(4, [])] == ["None were held out."]


def test_the_held_out_results_are_those_of_the_step_and_of_before(run: Path) -> None:
    with (run / "validation.csv").open() as file:
        rows = {int(row["step"]): row for row in csv.DictReader(file)}
    for step in (1, 2):
        card = (run / f"step-{step:06d}" / "README.md").read_text()
        lines = [line.split(" | ") for line in card.splitlines() if " | " in line]
        (accuracy,) = (line for line in lines if "accuracy" in line[0])
        (kl,) = (line for line in lines if "reverse KL" in line[0])
        for place, of in ((1, rows[0]), (2, rows[step])):
            ends = ("", "_low", "_high")
            shares = [f"{100 * float(of[f'accuracy{end}']):.1f}" for end in ends]
            assert accuracy[place].removesuffix(" |") == "{} [{}, {}]".format(*shares)
            nats = [float(of[f"reverse_kl{end}"]) for end in ends]
            shown = kl[place].removesuffix(" |").replace("[", "").replace("]", "").split()
            found = [float(word.rstrip(",")) for word in shown]
            assert found == pytest.approx(nats, rel=5e-3)


def test_no_path_of_the_machine_and_no_user_is_in_a_card(run: Path) -> None:
    for card in run.glob("step-*/README.md"):
        text = card.read_text()
        assert "alice" not in text and str(run.parents[1]) not in text and "/tmp" not in text
        assert (
            "--student small --teacher large" in text or "--teacher large --student small" in text
        )


def test_the_command_of_a_card_trains_the_same_again() -> None:
    options = TrainOptions(selector="random", budget=7, seed=3, learning_rate=2e-4).resolved()
    words = shlex.split(checkpoint_cards._command(options))
    assert words[:2] == ["decaylab", "train"]
    values = dict(zip(words[2::2], words[3::2], strict=True))
    known = set(signature("train").parameters)
    assert {word.removeprefix("--").replace("-", "_") for word in values} <= known
    kinds = {"budget": int, "seed": int, "learning_rate": float, "steps": int}
    given = {name: kind(values[f"--{name.replace('_', '-')}"]) for name, kind in kinds.items()}
    again = TrainOptions(selector=values["--selector"], **given).resolved()
    assert declared.identity(again, declared.TRAINED) == declared.identity(
        options, declared.TRAINED
    )


# The intervals


def held_out() -> list[HeldOut]:
    rng = np.random.default_rng(0)
    sizes, right = rng.integers(3, 40, 12), rng.integers(0, 2, 12)
    return [
        HeldOut(
            f"p{place:02d}",
            bool(one),
            int(size),
            float(size * rng.random()),
            int(size),
            True,
            False,
        )
        for place, (size, one) in enumerate(zip(sizes, right, strict=True))
    ]


def test_the_interval_of_the_held_out_kl_leaves_out_one_problem_at_a_time() -> None:
    rollouts = held_out()
    count, total = len(rollouts), sum(one.tokens for one in rollouts)
    value = sum(one.reverse_kl for one in rollouts) / total
    squares = 0.0
    for left in rollouts:
        rest = [one for one in rollouts if one is not left]
        without = sum(one.reverse_kl for one in rest) / sum(one.tokens for one in rest)
        squares += ((1 - 1 / count) * (value - without)) ** 2
    error = math.sqrt(count / (count - 1) * squares)
    effective = total**2 / sum(one.tokens**2 for one in rollouts)
    reach = stats.t.ppf(0.975, effective - 1) * error / value
    row = validation.row(3, rollouts)
    assert (row["step"], row["problems"], row["tokens"]) == (3, count, total)
    assert row["reverse_kl"] == pytest.approx(value)
    assert row["reverse_kl_low"] == pytest.approx(value * math.exp(-reach))
    assert row["reverse_kl_high"] == pytest.approx(value * math.exp(reach))
    plain = sum(one.reverse_kl / one.tokens for one in rollouts) / count
    assert abs(plain - value) > 1e-3, "the mean of problem means is another number"


def test_held_out_accuracy_has_an_interval_and_the_order_of_processes_changes_nothing() -> None:
    rollouts = held_out()
    row = validation.row(1, rollouts)
    share = sum(one.correct for one in rollouts) / len(rollouts)
    assert row["accuracy"] == share and row["accuracy_low"] < share < row["accuracy_high"]
    assert validation.row(1, rollouts[1::2] + rollouts[::2]) == row
    assert math.isnan(validation.row(1, rollouts[:1])["accuracy_low"])
