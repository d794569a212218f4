"""Draws of values over policies of a known law: what is asked of which engine, with which noise,
what it costs at most, and what a crash costs."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import markov
import pyarrow as pa
import pytest
from markov_values import stages_of

from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Request, uniforms
from decaylab.rollouts.stages import Stages
from decaylab.rollouts.value_draws import ValueDraws, ValuePlan
from decaylab.runs import store

WORLD = markov.decaying_world()
PLAN = ValuePlan((0, 2, 4), 3)
PROBLEMS, SAMPLES, MAX_TOKENS, SEED = 10, 2, 12, 5


class Notes(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


class Made:
    """A collection: rollouts, draws of both policies, and what the engines were asked."""

    def __init__(self, folder: Any = None, world: markov.World = WORLD, **failing: int) -> None:
        self.stages, problems, prompts = stages_of(
            world, PROBLEMS, SEED, MAX_TOKENS, folder, **failing
        )
        self.stages.settings = replace(self.stages.settings, part_rows=40)
        self.notes = Notes()
        self.draws = ValueDraws(self.stages, problems, prompts, PLAN, self.notes)
        self.own = self.stages.plain("student", problems, prompts["student"], SAMPLES)

    def collect(self) -> list[pa.Table]:
        return self.draws.collect(self.own)

    def asked(self, role: str) -> list[Request]:
        """The requests for draws."""
        calls = engine(self.stages, role).calls
        every = [request for call in calls for request in call]
        return [request for request in every if request.stage.startswith(f"{role}-value")]


def engine(stages: Stages, role: str) -> Any:
    return stages.engines[role]


@pytest.fixture(scope="module")
def made() -> tuple[Made, list[pa.Table]]:
    whole = Made()
    return whole, whole.collect()


def test_every_unfinished_rollout_is_continued_by_both_policies(
    made: tuple[Made, list[pa.Table]],
) -> None:
    whole, tables = made
    expected = set()
    for row in whole.own.to_pylist():
        written = row["response_ids"][: row["tokens"]]
        for position in PLAN.grid:
            if len(written) >= position:
                expected.add((row["rollout_id"], tuple(written[:position])))
    for table, role in zip(tables, ("student", "teacher"), strict=True):
        rows = table.to_pylist()
        found = [(row["prefix_rollout_id"], tuple(row["prefix_ids"])) for row in rows]
        assert set(found) == expected and len(found) == PLAN.draws * len(expected)
        for row in rows:
            assert (row["author"], row["condition"]) == (role, f"{role}-value")
            assert row["prefix_tokens"] == len(row["prefix_ids"])
            assert len(row["prefix_ids"]) + len(row["response_ids"]) <= MAX_TOKENS
            text = WORLD.student.decode([*row["prefix_ids"], *row["response_ids"]])
            assert row["text"] == text  # the prefix is graded with its continuation


def test_every_draw_has_noise_of_its_own(made: tuple[Made, list[pa.Table]]) -> None:
    whole, _ = made
    own = engine(whole.stages, "student").calls[0]
    asked = [*own, *whole.asked("student"), *whole.asked("teacher")]
    # the numbers of a whole response: those behind a prefix are a part of them
    numbers = {
        uniforms(SEED, replace(one, prefix_ids=(), max_new_tokens=MAX_TOKENS)).tobytes()
        for one in asked
    }
    assert len(numbers) == len(asked)


def test_the_draws_of_a_prefix_are_neighbours_in_one_part(
    made: tuple[Made, list[pa.Table]],
) -> None:
    whole, _ = made
    for role in ("student", "teacher"):
        for call in engine(whole.stages, role).calls:
            draws = [one for one in call if one.stage.startswith(f"{role}-value")]
            prefixes = groupby(draws, lambda one: (one.problem_id, one.sample, one.prefix_ids))
            assert all(len([*some]) == PLAN.draws for _, some in prefixes)


def test_the_cost_that_is_printed_bounds_what_is_drawn(made: tuple[Made, list[pa.Table]]) -> None:
    whole, tables = made
    prefixes = whole.draws.prefixes(whole.own)
    cost = whole.draws.cost(prefixes)
    assert cost.continuations == sum(map(len, tables)) == 2 * 3 * cost.prefixes
    room = sum(MAX_TOKENS - len(asked.prefix) for asked in prefixes)
    assert cost.tokens == 2 * 3 * room
    tokens = sum(sum(map(len, table["response_ids"].to_pylist())) for table in tables)
    assert tokens <= cost.tokens and whole.notes.said == [cost.words]
    assert f"{cost.continuations:,} continuations of {cost.prefixes:,} prefixes" in cost.words


def test_a_killed_collection_goes_on_to_the_same_draws(
    made: tuple[Made, list[pa.Table]], tmp_path: Path
) -> None:
    folder = store.RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        Made(folder, fail_at_call=2).collect()
    again = Made(folder)
    tables = again.collect()
    assert not engine(again.stages, "student").calls  # every part of it was kept
    assert 0 < len(again.asked("teacher")) < len(made[0].asked("teacher"))
    for table, undisturbed in zip(tables, made[1], strict=True):
        assert table.to_pylist() == undisturbed.to_pylist()


def test_a_prefix_that_the_teacher_cannot_read_is_left_out() -> None:
    # the teacher has an added token where the student has "b"
    letters = markov.MarkovTokenizer("#ngh?m", special="?")
    world = markov.World(WORLD.student, replace(WORLD.teacher, tokenizer=letters))
    whole = Made(world=world)
    assert whole.draws.hand_over.agreement.kind == "compatible"
    prefixes = whole.draws.prefixes(whole.own)
    assert prefixes and all(4 not in asked.prefix for asked in prefixes)
    every = Made().draws.prefixes(whole.own)
    assert prefixes == [one for one in every if 4 not in one.prefix]
