"""Choices that follow from others, for every selector; what is refused, in which words; names of
arms and folders."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.options.folder_names import LONGEST_NAME
from decaylab.options.training import (
    DIVERGENCES,
    EMBEDDED_PRESET,
    FULL_FINETUNE_RATE,
    PAPER_PRESET,
    TrainOptions,
)
from decaylab.problems.tasks import EMBEDDED_LENGTHS, MATHEMATICS

HUB = {"teacher": "owner/teacher", "student": "owner/student", "problems": "numina.jsonl"}
STOPPING = ("prefix", "after-teacher-prefix", "progressive")
WHOLE = ("full", "importance", "rising")
BUDGETED = tuple(name for name in SELECTORS if name not in (*STOPPING, *WHOLE))


def resolved(**given: Any) -> TrainOptions:
    return TrainOptions(**given).resolved()


def refused(**given: Any) -> str:
    with pytest.raises(UserError) as error:
        resolved(**given)
    message = str(error.value)
    assert "\n" not in message and "None" not in message
    return message


def lengths(**given: Any) -> tuple[str, str | None, int | None]:
    found = resolved(**given)
    return found.selector, found.rollout_length, found.budget


# --- presets
# ---------------------------------------------------------------------------


def test_the_embedded_pair_has_its_own_preset_and_hub_models_the_papers() -> None:
    own, hub = resolved(), resolved(**HUB)
    assert (own.preset, hub.preset) == ("embedded pair", "paper")
    assert (own.teacher, own.student) == ("abacus-teacher", "abacus-student")
    assert (own.problems, own.test_problems, own.max_tokens) == ("abacus-train", "abacus", 320)
    assert (hub.problems, hub.test_problems, hub.max_tokens) == ("numina.jsonl", "math500", 2048)
    assert own.bins == EMBEDDED_LENGTHS.bins and hub.bins == MATHEMATICS.lengths.bins
    for found, preset in ((own, EMBEDDED_PRESET), (hub, PAPER_PRESET)):
        assert found.steps == preset["steps"] and found.learning_rate == preset["learning_rate"]
        assert found.rollout_length == preset["rollout_length"] and found.budget == int(
            preset["rollout_length"]
        )
        assert found.checkpoint_every == preset["checkpoint_every"]


def test_the_papers_values_are_the_defaults_for_hub_models() -> None:
    found = resolved(**HUB)
    assert (found.rollout_length, found.steps, found.learning_rate) == ("100", 200, 5e-5)
    assert (found.lora_rank, found.lora_alpha, found.lora_targets, found.full_finetune) == (
        32,
        64,
        "all-linear",
        False,
    )
    assert (found.selector, found.divergence, found.score_end) == ("prefix", "reverse-kl", True)


def test_full_fine_tuning_takes_a_fifth_of_the_rate_and_32_bits_unless_told() -> None:
    for given in ({}, HUB):
        plain, whole = resolved(**given), resolved(full_finetune=True, **given)
        assert whole.learning_rate == FULL_FINETUNE_RATE * float(plain.learning_rate or 0)
        assert (plain.dtype, whole.dtype) == ("auto", "float32")
    told = resolved(full_finetune=True, learning_rate=1e-6, dtype="bfloat16")
    assert (told.learning_rate, told.dtype) == (1e-6, "bfloat16")


def test_what_is_said_stands() -> None:
    said = {
        "steps": 7,
        "learning_rate": 0.5,
        "test_problems": "mine.jsonl",
        "bins": (0, 3),
        "max_tokens": 90,
        "checkpoint_every": 3,
        "batch_tokens": 11,
        "problems": "other.jsonl",
        "rollout_length": "9",
    }
    for given in ({}, HUB):
        found = resolved(**{**given, **said})
        assert {name: getattr(found, name) for name in said} == said


@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("given", [{}, HUB], ids=["embedded", "hub"])
def test_resolving_again_changes_nothing(selector: str, given: dict[str, Any]) -> None:
    once = resolved(selector=selector, **given)
    assert once.resolved() == once


# --- rollout length and budget
# ---------------------------------------------------------------------------


def test_a_rollout_that_stops_at_its_budget_has_one_number_for_both() -> None:
    for selector in STOPPING:
        assert lengths(selector=selector) == (selector, "40", 40)
        assert lengths(selector=selector, rollout_length="30") == (selector, "30", 30)
        assert lengths(selector=selector, budget=30) == (selector, "30", 30)
        assert lengths(selector=selector, budget=30, rollout_length="30") == (selector, "30", 30)
        for wrong in (
            {"rollout_length": "50", "budget": 30},
            {"rollout_length": "full", "budget": 30},
        ):
            message = refused(selector=selector, **wrong)
            assert (
                f"--selector {selector} stops rollouts at its budget" in message
                and "must be equal" in message
            )
            assert (
                f"--rollout-length {wrong['rollout_length']}" in message
                and "--budget 30" in message
            )


def test_a_prefix_without_an_end_is_the_full_rollout() -> None:
    assert lengths(rollout_length="full") == ("full", "full", None)
    assert resolved(rollout_length="full") == resolved(selector="full")
    assert (
        resolved(rollout_length="full").stop_at is None
        and resolved(rollout_length="30").stop_at == 30
    )


@pytest.mark.parametrize("selector", WHOLE)
def test_a_selector_of_every_token_has_no_budget(selector: str) -> None:
    assert lengths(selector=selector) == (selector, "full", None)
    assert lengths(selector=selector, rollout_length="30") == (selector, "30", None)
    assert refused(selector=selector, budget=5) == (
        f"--budget does not apply to --selector {selector}, which trains on every token: remove it"
    )


@pytest.mark.parametrize("selector", BUDGETED)
def test_other_selectors_take_a_budget_of_a_full_rollout_or_of_a_stopped_one(selector: str) -> None:
    assert lengths(selector=selector) == (selector, "full", 40)
    assert lengths(selector=selector, **HUB) == (selector, "full", 100)
    assert lengths(selector=selector, budget=7) == (selector, "full", 7)
    assert lengths(selector=selector, rollout_length="50") == (selector, "50", 40)
    assert lengths(selector=selector, rollout_length="10") == (selector, "10", 10)
    assert lengths(selector=selector, rollout_length="10", budget=10) == (selector, "10", 10)
    assert lengths(selector=selector, rollout_length="10", budget=9) == (selector, "10", 9)


def test_a_teachers_prefix_belongs_to_its_selector_alone() -> None:
    assert resolved(selector="after-teacher-prefix").teacher_prefix == 80
    assert resolved(selector="after-teacher-prefix", **HUB).teacher_prefix == 200
    assert resolved(selector="after-teacher-prefix", teacher_prefix=7).teacher_prefix == 7
    for selector in SELECTORS:
        if selector != "after-teacher-prefix":
            assert resolved(selector=selector).teacher_prefix is None
            assert refused(selector=selector, teacher_prefix=7) == (
                f"--teacher-prefix does not apply to --selector {selector}: remove it, or use "
                "--selector after-teacher-prefix"
            )


# --- what is refused
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["0", "-5"])
@pytest.mark.parametrize("selector", ["prefix", "full", "random"])
def test_a_rollout_length_below_1_is_refused(given: str, selector: str) -> None:
    assert (
        refused(rollout_length=given, selector=selector)
        == f"--rollout-length must be at least 1 token, got {given}"
    )


@pytest.mark.parametrize("given", ["ten", "1.5", "", "1e2", "Full", "--5", "10,20"])
def test_a_rollout_length_that_is_no_number_is_refused(given: str) -> None:
    assert (
        refused(rollout_length=given)
        == f"--rollout-length must be a number of tokens or full, got {given or repr(given)}"
    )


def test_a_budget_that_no_rollout_has_is_refused() -> None:
    for selector in ("random", *STOPPING):
        told = "--budget 21 exceeds --rollout-length 20: rollouts have fewer tokens; lower --budget"
        assert refused(selector=selector, budget=21, rollout_length="20") == told
        assert refused(selector=selector, budget=0) == "--budget must be at least 1 token, got 0"
    assert refused(selector="random", budget=-3) == "--budget must be at least 1 token, got -3"
    assert "--budget 321 exceeds the longest rollout, --max-tokens 320" in refused(
        selector="random", budget=321
    )
    assert lengths(selector="random", budget=320) == ("random", "full", 320)
    assert "rollouts of 321 tokens exceed" in refused(rollout_length="321")
    assert lengths(rollout_length="320") == ("prefix", "320", 320)
    behind = {"selector": "after-teacher-prefix", "teacher_prefix": 300}
    assert "rollouts of 321 tokens exceed --max-tokens 320; raise --max-tokens" in refused(
        budget=21, **behind
    )
    assert lengths(budget=20, **behind) == ("after-teacher-prefix", "20", 20)


def test_an_unknown_selector_is_refused_with_the_list() -> None:
    assert (
        refused(selector="prefixx")
        == f"--selector must be one of {', '.join(SELECTORS)}, got prefixx; one of your own needs "
        "--plugin FILE.py"
    )


def test_training_rollouts_are_never_greedy() -> None:
    assert (
        refused(temperature=0.0)
        == "--temperature 0 is greedy, but training samples its rollouts: give a value above 0"
    )
    assert "--temperature must be at least 0" in refused(temperature=-0.1)
    assert resolved(temperature=1e-3).temperature == 1e-3


def test_hub_models_must_be_given_training_problems() -> None:
    message = refused(teacher="owner/teacher", student="owner/student")
    assert message.startswith("--problems is missing: name the training problems")
    assert resolved(student="owner/student").problems == "abacus-train"


COUNTS = (
    "steps",
    "problems_per_step",
    "rollouts_per_problem",
    "lora_rank",
    "lora_alpha",
    "batch_tokens",
    "checkpoint_every",
    "test_limit",
)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_begin_at_1(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert refused(**{name: 0}) == f"{flag} must be at least 1, got 0"
    assert refused(**{name: -2}) == f"{flag} must be at least 1, got -2"
    assert getattr(resolved(**{name: 1}), name) == 1


def test_a_teachers_prefix_begins_at_1() -> None:
    assert (
        refused(selector="after-teacher-prefix", teacher_prefix=0)
        == "--teacher-prefix must be at least 1, got 0"
    )


@pytest.mark.parametrize("name", ["validation_problems", "warmup_steps"])
def test_what_can_be_off_begins_at_0(name: str) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert refused(**{name: -1}) == f"{flag} must be at least 0 (0 is off), got -1"
    assert getattr(resolved(**{name: 0}), name) == 0


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["learning_rate", "clip"])
def test_rates_and_clips_are_positive_numbers(name: str, value: float) -> None:
    assert refused(**{name: value}) == f"--{name.replace('_', '-')} must be above 0, got {value}"


@pytest.mark.parametrize("value", [-0.1, float("inf"), float("nan")])
def test_weight_decay_is_at_least_0(value: float) -> None:
    assert refused(weight_decay=value) == f"--weight-decay must be at least 0, got {value}"
    assert resolved(weight_decay=0.1).weight_decay == 0.1


@pytest.mark.parametrize("bins", [(1, 2), (0, 5, 5), (0, 9, 3)])
def test_bins_begin_at_0_and_increase(bins: tuple[int, ...]) -> None:
    assert (
        refused(bins=bins)
        == f"--bins must begin with 0 and increase, got {','.join(map(str, bins))}"
    )


def test_trackers_are_among_those_that_there_are() -> None:
    assert (
        refused(track="wandb,comet")
        == "--track must be among tensorboard, wandb, trackio, got wandb,comet"
    )
    assert (
        resolved(track="wandb, tensorboard,").trackers == ("wandb", "tensorboard")
        and resolved().trackers == ()
    )


def test_what_every_command_refuses_is_refused_here_too() -> None:
    assert "--top-p must lie above 0" in refused(top_p=0.0)
    assert "--max-tokens must be at least 1" in refused(max_tokens=0)
    assert "--seed must be at least 0" in refused(seed=-1)


# --- names
# ---------------------------------------------------------------------------


def test_arms_are_named_by_selector_and_lengths() -> None:
    expected = {
        "prefix-40": {},
        "prefix-5": {"rollout_length": "5"},
        "full": {"rollout_length": "full"},
        "full-of-50": {"selector": "full", "rollout_length": "50"},
        "random-40": {"selector": "random"},
        "random-40-of-50": {"selector": "random", "rollout_length": "50"},
        "prefix-mask-40": {"selector": "prefix-mask"},
        "importance": {"selector": "importance"},
    }
    for name, given in expected.items():
        assert resolved(**given).arm() == name


def test_distinct_arms_have_distinct_names_and_folders() -> None:
    arms = []
    for selector, one in SELECTORS.items():
        arms += [{"selector": selector}, {"selector": selector, "rollout_length": "60"}]
        if not one.whole:
            arms += [{"selector": selector, "budget": 5}]
        if not one.whole and not one.stops_at_budget:
            arms += [{"selector": selector, "budget": 5, "rollout_length": "60"}]
    found = [resolved(seed=seed, **arm) for arm in arms for seed in (0, 1)]
    assert len({one.arm() for one in found}) == len(arms)
    assert len({one.default_folder() for one in found}) == len(found)
    assert (
        len(
            {
                dataclasses.replace(found[0], **{role: f"owner/{role}-2"}).default_folder()
                for role in ("teacher", "student", "problems")
            }
            | {found[0].default_folder()}
        )
        == 4
    )


def test_folders_are_under_runs_and_no_longer_than_a_name_may_be() -> None:
    assert (
        resolved().default_folder()
        == "runs/train-abacus-teacher-abacus-student-prefix-40-seed-0-abacus-train"
    )
    long = {"teacher": "owner/" + "t" * 90, "student": "owner/" + "s" * 90, "problems": "p.jsonl"}
    names = [resolved(seed=seed, **long).default_folder() for seed in (0, 1)]
    assert names[0] != names[1]
    assert all(
        name.startswith("runs/train-") and len(name.removeprefix("runs/")) <= LONGEST_NAME
        for name in names
    )


def test_every_divergence_can_be_chosen() -> None:
    assert {resolved(divergence=one).divergence for one in DIVERGENCES} == set(DIVERGENCES)
