"""One teacher token at given places, over policies of a known law: both outcomes against their
expectations."""

from __future__ import annotations

from dataclasses import replace

import markov
import numpy as np
import pandas as pd
from markov_values import stages_of

from decaylab.commands.arm_gains import outcomes_of
from decaylab.rollouts import one_token
from decaylab.runs.vocabulary import HAND_BACK, HAND_BACK_TEACHER

WORLD = markov.decaying_world()
MAX_TOKENS, PROBLEMS, SAMPLES, SEED = 10, 400, 3, 3
POSITIONS = (0, 1, 3)


def collected() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The student's rollouts and all continuations behind the places of `POSITIONS`."""
    stages, problems, prompts = stages_of(WORLD, PROBLEMS, SEED, MAX_TOKENS)
    stages.settings = replace(stages.settings, part_rows=10_000)
    own = stages.plain("student", problems, prompts["student"], SAMPLES)
    places = {
        row["rollout_id"]: [k for k in POSITIONS if k < len(row["response_ids"])]
        for row in own.to_pylist()
    }
    tables = one_token.collect(stages, problems, prompts, own, places)
    frames = [table.to_pandas() for table in tables]
    return own.to_pandas(), pd.concat(frames, ignore_index=True)


OWN, CONTINUED = collected()
FIRST = OWN.drop_duplicates("problem_id").set_index("problem_id")["prompt_ids"]
KIND = FIRST.map(lambda ids: int(ids[-1]) - markov.FIRST_KIND)


def expected(kind: int, prefix: list[int]) -> tuple[float, float]:
    """Accuracy behind the teacher's token, and without it, of a prefix."""
    law, last = markov.DecayLaw(WORLD, MAX_TOKENS), prefix[-1] if prefix else 0
    room = MAX_TOKENS - len(prefix)
    alone, behind = law.right("student", room), law.right("student", room - 1)
    now = law.right("student", 0)
    chances = WORLD.teacher.law[kind, last]
    values = [
        now[kind, last] if token == markov.END else behind[kind, token]
        for token in range(len(chances))
    ]
    return float(chances @ np.array(values)), float(alone[kind, last])


def test_both_outcomes_have_their_expectations_at_every_position() -> None:
    found = outcomes_of(CONTINUED, markov.RULE)
    own = OWN.set_index("rollout_id")
    for position in POSITIONS:
        here = found[found["position"] == position]
        assert here[["with", "without"]].notna().all().all()
        laws = [
            expected(
                KIND[own.loc[name, "problem_id"]], list(own.loc[name, "response_ids"][:position])
            )
            for name in here["rollout_id"]
        ]
        for column, law in zip(("with", "without"), np.array(laws).T, strict=True):
            error = np.sqrt((law * (1 - law)).sum()) / len(law)
            assert abs(here[column].mean() - law.mean()) < 4 * error, (position, column)


def test_a_place_may_be_that_of_the_end_of_a_turn() -> None:
    ended = OWN[OWN["stop_reason"] == "eos"]
    assert len(ended) > 100
    lengths = CONTINUED.groupby("prefix_rollout_id")["prefix_tokens"].max()
    short = ended[ended["response_ids"].map(len) == 4]
    assert len(short) and (lengths.reindex(short["rollout_id"]) == 3).all()


def test_the_teacher_writes_no_more_than_shows_whether_its_token_ended_the_turn() -> None:
    teacher = CONTINUED[CONTINUED["condition"] == HAND_BACK_TEACHER]
    assert teacher["response_ids"].map(len).max() == one_token.LOOK_AHEAD
    student = CONTINUED[CONTINUED["condition"] == HAND_BACK]
    with_token = student[student["teacher_tokens"] == one_token.WITH]
    merged = with_token.merge(
        teacher, on=["prefix_rollout_id", "prefix_tokens"], suffixes=("", "_teacher")
    )
    for row in merged.head(50).itertuples():
        assert list(row.prefix_ids)[row.prefix_tokens :] == [row.response_ids_teacher[0]]
    ended = teacher[teacher["response_ids"].map(len) == 1]
    assert not set(ended["rollout_id"]) & set(merged["rollout_id_teacher"])
    alone = student[student["teacher_tokens"] == one_token.WITHOUT]
    assert len(alone) == len(teacher)
