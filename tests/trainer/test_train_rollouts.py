"""What a step is made of: which problems, what is asked of which engine, what of the answers is
scored, and in what batches."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from tiny_models import END, VOCAB, bare_policy, tiny_llama
from tiny_training import WHOLE, gradient_of, options, rollouts, training_rollout

from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Request, Response, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.trainer.draw import Draw, Plan, generator, micro_batches, order

Written = Callable[[Request], Response]


class Engine:
    """Answers by a function of the request, and remembers what it was asked."""

    def __init__(self, answer: Written) -> None:
        self.answer, self.asked, self.settings = answer, [], []

    def sample(
        self, requests: Sequence[Request], settings: SamplingSettings, on_progress: Any = None
    ) -> list[Response]:
        self.asked.append(list(requests))
        self.settings.append(settings)
        return [self.answer(request) for request in requests]


def ended(*ids: int) -> Response:
    return Response((*ids, END), "eos")


def cut(*ids: int) -> Response:
    return Response(ids, "length")


def plan(count: int = 7, **changes: Any) -> Plan:
    problems = tuple(
        Problem(f"p{number}", f"question {number}", str(number)) for number in range(count)
    )
    prompts = {
        "student": {one.problem_id: (5, 10 + place) for place, one in enumerate(problems)},
        "teacher": {one.problem_id: (6, 7, 10 + place) for place, one in enumerate(problems)},
    }
    given = {"problems_per_step": 3, "rollouts_per_problem": 2, **changes}
    return Plan(problems, prompts, SamplingSettings(0.7, seed=given.pop("seed", 0)), **given)


def drawn(
    one: Plan, answer: Written, step: int = 1, vocabulary: SharedVocabulary = WHOLE, **more: Any
) -> tuple[Draw, Engine]:
    engine = Engine(answer)
    return one.draw(step, 9, {"student": engine}, vocabulary, **more), engine


# --- the problems of a step
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "per_step"), [(7, 3), (8, 4), (5, 5), (3, 8), (1, 2), (10, 1)])
def test_each_problem_comes_once_before_any_comes_again(count: int, per_step: int) -> None:
    one = plan(count, problems_per_step=per_step)
    steps = 4 * count
    taken = [
        problem.problem_id for step in range(1, steps + 1) for problem in one.problems_of(step)
    ]
    assert len(taken) == steps * per_step
    epochs = [taken[start : start + count] for start in range(0, len(taken) - count + 1, count)]
    assert len(epochs) >= 4 and all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(taken[:count])) == count
    if count > 3:
        assert len({tuple(epoch) for epoch in epochs}) > 1  # each time in a new order


def test_the_order_of_problems_is_a_function_of_the_seed_and_the_epoch() -> None:
    assert (
        order(0, 0, 20)
        == order(0, 0, 20)
        == tuple(np.random.default_rng([0, 0]).permutation(20).tolist())
    )
    assert len({order(0, 0, 20), order(1, 0, 20), order(0, 1, 20), tuple(range(20))}) == 4
    first, again = plan(seed=4), plan(seed=4)
    assert first.problems_of(5) == again.problems_of(5) and first.problems_of(
        5
    ) != first.problems_of(6)
    assert [plan(50, seed=seed).problems_of(1) for seed in (0, 1)][0] != plan(
        50, seed=1
    ).problems_of(1)


# --- the draw
# ---------------------------------------------------------------------------


def test_every_rollout_is_asked_for_behind_its_own_prompt_with_noise_of_its_own() -> None:
    one = plan(2)  # 3 places for 2 problems: one stands twice in a step
    found, engine = drawn(one, lambda request: ended(20, 21), step=4)
    (asked,), (settings,) = engine.asked, engine.settings
    problems = one.problems_of(4)
    assert [request.prompt_ids for request in asked] == [
        one.prompts["student"][problem.problem_id] for problem in problems for _ in range(2)
    ]
    assert {(request.prefix_ids, request.max_new_tokens, request.stage) for request in asked} == {
        ((), 9, "train-4")
    }
    assert len({(request.problem_id, request.sample) for request in asked}) == 6
    assert settings == one.sampling and settings.temperature == 0.7
    assert [rollout.scored.teacher_prompt for rollout in found.rollouts] == [
        one.prompts["teacher"][problem.problem_id] for problem in problems for _ in range(2)
    ]
    assert [rollout.scored.student_prompt for rollout in found.rollouts] == [
        request.prompt_ids for request in asked
    ]
    assert len({rollout.scored.rollout_id for rollout in found.rollouts}) == 6
    other, _ = drawn(one, lambda request: ended(20, 21), step=5)
    assert not {o.scored.rollout_id for o in other.rollouts} & {
        f.scored.rollout_id for f in found.rollouts
    }


def test_the_end_token_is_scored_unless_it_is_not_to_be() -> None:
    """That token alone is left out, and only where the student wrote it: a rollout that was cut is
    scored whole."""
    answers = {10: ended(20, 21), 11: cut(22, END, 23), 12: ended(), 13: ended(24)}

    def answer(request: Request) -> Response:
        return answers[request.prompt_ids[-1]]

    one = plan(4, problems_per_step=4, rollouts_per_problem=1)
    found, _ = drawn(one, answer)
    responses = {
        rollout.scored.student_prompt[-1]: rollout.scored.response for rollout in found.rollouts
    }
    assert responses == {10: (20, 21, END), 11: (22, END, 23), 12: (END,), 13: (24, END)}
    assert found.left_out == 0 and found.sampled == 3 + 3 + 1 + 2
    without, _ = drawn(dataclasses.replace(one, score_end=False), answer)
    responses = {
        rollout.scored.student_prompt[-1]: rollout.scored.response for rollout in without.rollouts
    }
    assert responses == {10: (20, 21), 11: (22, END, 23), 13: (24,)}
    assert without.left_out == 1 and without.sampled == 9  # what is empty then has nothing to score
    for rollout in (*found.rollouts, *without.rollouts):
        place = rollout.scored.student_prompt[-1]
        assert rollout.ids == answers[place].ids and rollout.ended == (place != 11)
        assert rollout.written == (answers[place].ids if place == 11 else answers[place].ids[:-1])


def test_the_gradient_without_the_end_is_that_of_the_other_tokens() -> None:
    models = tiny_llama(0).double(), tiny_llama(1).double()
    one = plan(2, problems_per_step=2, rollouts_per_problem=1)
    whole, _ = drawn(one, lambda request: ended(20, 21, 22))
    without, _ = drawn(dataclasses.replace(one, score_end=False), lambda request: ended(20, 21, 22))
    masked, _ = gradient_of(models, options(selector="prefix-mask"), [whole.rollouts], 3)
    found, taken = gradient_of(models, options(selector="full"), [without.rollouts])
    assert taken.sums.values["scored"] == 6 and taken.sums.values["ended"] == 2
    for name, gradient in found.items():
        assert float((gradient - masked[name]).abs().max()) < 1e-9


def test_a_rollout_is_scored_up_to_the_first_token_that_both_cannot_read() -> None:
    vocabulary = SharedVocabulary(50, frozenset({30}))
    answers = {10: ended(20, 30, 21), 11: ended(55, 20), 12: ended(20, 21), 13: cut(20, 21, 50)}
    one = plan(4, problems_per_step=4, rollouts_per_problem=1)
    found, _ = drawn(one, lambda request: answers[request.prompt_ids[-1]], vocabulary=vocabulary)
    responses = {
        rollout.scored.student_prompt[-1]: rollout.scored.response for rollout in found.rollouts
    }
    assert responses == {10: (20,), 12: (20, 21, END), 13: (20, 21)}
    assert found.left_out == 1 and found.sampled == 4 + 3 + 3 + 3
    assert {r.scored.student_prompt[-1]: r.ids for r in found.rollouts} == {
        p: answers[p].ids for p in (10, 12, 13)
    }


def pair_of_engines() -> dict[str, TransformersEngine]:
    return {
        "student": TransformersEngine(bare_policy(tiny_llama(0))),
        "teacher": TransformersEngine(bare_policy(tiny_llama(1))),
    }


@pytest.mark.parametrize("teacher_prefix", [0, 3])
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_the_shares_of_several_processes_are_the_step_of_one(
    teacher_prefix: int, processes: int
) -> None:
    """Real models: each rollout the same tokens, prompts and name, whoever makes it; also where a
    share is empty."""
    one, engines = plan(7, teacher_prefix=teacher_prefix), pair_of_engines()
    for step in (1, 5):
        whole = one.draw(step, 6, engines, WHOLE)
        shares = [
            one.draw(step, 6, engines, WHOLE, slice(rank, None, processes))
            for rank in range(processes)
        ]
        together = {
            rollout.scored.rollout_id: rollout for share in shares for rollout in share.rollouts
        }
        assert together == {rollout.scored.rollout_id: rollout for rollout in whole.rollouts}
        assert sum(len(share.rollouts) for share in shares) == len(whole.rollouts) > 0
        assert sum(share.left_out for share in shares) == whole.left_out
        assert sum(share.sampled for share in shares) == whole.sampled
    assert len({rollout.ids for rollout in whole.rollouts}) > 3


def test_a_draw_is_a_function_of_seed_step_problem_and_sample_alone() -> None:
    """Whatever was drawn before; another seed, step or sample is another draw."""
    engines = pair_of_engines()
    one = plan(3, teacher_prefix=2)
    one.draw(1, 6, engines, WHOLE)
    later = one.draw(7, 6, engines, WHOLE)
    fresh = plan(3, teacher_prefix=2).draw(7, 6, pair_of_engines(), WHOLE)
    assert later == fresh
    assert [
        r.ids for r in plan(3, teacher_prefix=2, seed=1).draw(7, 6, engines, WHOLE).rollouts
    ] != [r.ids for r in fresh.rollouts]
    by_problem = Counter(
        r.scored.student_prompt
        for r in plan(1, rollouts_per_problem=4).draw(1, 6, engines, WHOLE).rollouts
    )
    assert list(by_problem.values()) == [12]
    assert (
        len({r.ids for r in plan(1, rollouts_per_problem=4).draw(1, 6, engines, WHOLE).rollouts})
        > 3
    )


# --- behind what the teacher wrote
# ---------------------------------------------------------------------------


def test_a_window_after_the_teachers_prefix_stands_behind_what_the_teacher_wrote() -> None:
    """Prefix of 3. Of four: one goes on, one the teacher has ended (with its third token), one the
    student cannot read."""
    prefixes = {10: cut(40, 41, 42), 11: ended(40, 41), 12: cut(40, 60, 41), 13: cut(43, 44, 45)}
    teacher = Engine(lambda request: prefixes[request.prompt_ids[-1]])
    student = Engine(lambda request: ended(20, 21) if request.prompt_ids[-1] == 10 else cut(22, 23))
    one = plan(4, problems_per_step=4, rollouts_per_problem=1, teacher_prefix=3)
    vocabulary = SharedVocabulary(VOCAB, frozenset({60}))
    found = one.draw(2, 9, {"student": student, "teacher": teacher}, vocabulary)
    (asked,) = teacher.asked
    assert {(request.prefix_ids, request.max_new_tokens) for request in asked} == {((), 3)}
    assert {request.prompt_ids for request in asked} == set(one.prompts["teacher"].values())
    assert not {request.stage for request in asked} & {
        request.stage for request in student.asked[0]
    }  # noise of its own
    assert {
        (request.prompt_ids, request.prefix_ids, request.max_new_tokens)
        for request in student.asked[0]
    } == {((5, 10), (40, 41, 42), 9), ((5, 13), (43, 44, 45), 9)}
    by_place = {rollout.scored.student_prompt[1]: rollout for rollout in found.rollouts}
    assert by_place.keys() == {10, 13} and found.left_out == 2
    assert by_place[10].scored.student_prompt == (5, 10, 40, 41, 42)
    assert by_place[10].scored.teacher_prompt == (6, 7, 10, 40, 41, 42)
    assert by_place[10].scored.response == by_place[10].ids == (20, 21, END) and by_place[10].ended
    assert by_place[10].written == (20, 21)
    assert by_place[13].scored.response == (22, 23) and not by_place[13].ended
    assert all(rollout.offset == 3 for rollout in found.rollouts)
    assert (
        found.sampled == 3 + 3 + 3 + 3 + 3 + 2
    )  # all that either has written, the end of a turn included


def test_positions_behind_a_teachers_prefix_count_from_the_start_of_the_response() -> None:
    models = tiny_llama(0).double(), tiny_llama(1).double()
    one = plan(1, problems_per_step=1, rollouts_per_problem=1, teacher_prefix=4)
    engines = {
        "student": Engine(lambda r: cut(20, 21)),
        "teacher": Engine(lambda r: cut(40, 41, 42, 43)),
    }
    found = one.draw(1, 2, engines, WHOLE)
    _, taken = gradient_of(
        models, options(selector="after-teacher-prefix", bins=(0, 4, 5)), [found.rollouts], 2
    )
    assert taken.sums.values["weighted_position"] == 4 + 5
    assert [taken.sums.values[f"tokens_{low}"] for low in (0, 4, 5)] == [0, 1, 1]


def test_a_step_of_which_nothing_is_left_is_empty_and_counted() -> None:
    one = plan(4, teacher_prefix=3)
    engines = {
        "student": Engine(lambda request: cut(20)),
        "teacher": Engine(lambda request: ended(40)),
    }
    found = one.draw(1, 9, engines, WHOLE)
    assert found.rollouts == [] and found.left_out == 6 and engines["student"].asked == [[]]
    assert found.sampled == 12
    real = pair_of_engines()["student"]
    assert real.sample([], one.sampling) == []


def test_without_a_prefix_the_teacher_is_not_asked() -> None:
    found, _ = drawn(plan(), lambda request: cut(20))  # there is no teacher's engine at all
    assert {rollout.offset for rollout in found.rollouts} == {0}


# --- random numbers of a selection
# ---------------------------------------------------------------------------


def test_the_random_numbers_of_a_selection_depend_on_the_seed_and_the_rollout_alone() -> None:
    def first(seed: int, name: str) -> float:
        return float(generator(seed, name).random())

    assert first(0, "train-1/0/p3/0") == first(0, "train-1/0/p3/0")
    others = [
        (1, "train-1/0/p3/0"),
        (0, "train-2/0/p3/0"),
        (0, "train-1/1/p3/0"),
        (0, "train-1/0/p4/0"),
        (0, "train-1/0/p3/1"),
    ]
    assert len({first(seed, name) for seed, name in [(0, "train-1/0/p3/0"), *others]}) == 6
    values = [first(0, f"train-{step}/0/p/0") for step in range(400)]
    assert 0.45 < np.mean(values) < 0.55


# --- micro-batches
# ---------------------------------------------------------------------------


def padded(batch: Sequence[Any]) -> int:
    return len(batch) * max(one.scored.context for one in batch)


@pytest.mark.parametrize("batch_tokens", [1, 7, 20, 33, 64, 1000])
def test_micro_batches_hold_every_rollout_once_and_no_more_tokens_than_allowed(
    batch_tokens: int,
) -> None:
    given = rollouts(25, seed=2)
    found = micro_batches(given, batch_tokens)
    names = [one.scored.rollout_id for batch in found for one in batch]
    assert sorted(names) == sorted(one.scored.rollout_id for one in given)
    assert all(padded(batch) <= batch_tokens or len(batch) == 1 for batch in found)
    contexts = [one.scored.context for batch in found for one in batch]
    assert contexts == sorted(contexts, reverse=True)
    for batch, following in zip(found, found[1:], strict=False):
        assert (
            padded([*batch, following[0]]) > batch_tokens
        )  # nothing that would have fitted was put off
    assert found == micro_batches(given, batch_tokens)


def test_micro_batches_by_hand() -> None:
    """Contexts 6, 5, 5, 3, 2 and 15 tokens: 2 x 6 = 12; a third of 6 would make 18. Then 5 + 3 + 2,
    padded to 5: 15."""
    contexts = {"a": 3, "b": 5, "c": 6, "d": 5, "e": 2}
    given = [
        training_rollout(name, ((5,), (5,)), [7] * (context - 1))
        for name, context in contexts.items()
    ]
    names = [[one.scored.rollout_id for one in batch] for batch in micro_batches(given, 15)]
    assert names == [["c", "b"], ["d", "a", "e"]]
    assert [len(batch) for batch in micro_batches(given, 14)] == [2, 2, 1]
    assert micro_batches([], 15) == []


def test_the_longer_of_the_two_contexts_is_what_counts() -> None:
    given = [training_rollout(name, ((5,), (5,) * 9), (7,)) for name in "ab"]
    assert [len(batch) for batch in micro_batches(given, 20)] == [2]
    assert [len(batch) for batch in micro_batches(given, 19)] == [1, 1]
