"""A whole step's gradient against autograd on padded float64 batches with full logits; what must
not change it; its records."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from head_families import family
from tiny_models import END, VOCAB, tiny_llama
from tiny_training import (
    BYTES,
    assert_gradients,
    byte_policy,
    far,
    gradient_of,
    grads,
    naive_step,
    options,
    rollouts,
    training_rollout,
)

from decaylab.maths.selection import SELECTORS, Selector
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.trainer import step
from decaylab.trainer.draw import TrainingRollout
from decaylab.trainer.loss import chunked_loss
from decaylab.trainer.machinery.adapters import Trainable
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.machinery.metrics import Sums, denominator, record
from decaylab.trainer.step import Gradient, NotFinite

NARROW = SharedVocabulary(VOCAB - 4, frozenset({2, 30}))
SELECTED = ("full", "prefix-mask", "suffix", "random", "top-reverse-kl", "rising", "importance")


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    """Tied embeddings, so that a weight takes its gradient from both ends."""
    return tiny_llama(0, tie_word_embeddings=True).double(), tiny_llama(1).double()


def mean(found: dict[str, torch.Tensor], taken: Gradient) -> dict[str, torch.Tensor]:
    count = denominator(taken.sums.values, taken.options.normalise)
    return {name: one / count for name, one in found.items()}


def equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(first[name].equal(second[name]) for name in first)


# --- the gradient of a step
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", ["tokens", "rollouts"])
@pytest.mark.parametrize("selector", SELECTED)
def test_a_step_has_the_loss_and_gradient_of_one_naive_batch(
    models: Any, selector: str, normalise: str
) -> None:
    chosen, given = options(selector=selector, normalise=normalise, batch_tokens=30), rollouts()
    budget = None if SELECTORS[selector].whole else 3
    found, taken = gradient_of(models, chosen, [given], budget)
    loss, expected, _ = naive_step(models, chosen, given, budget)
    assert_gradients(mean(found, taken), expected)
    assert record(taken.sums.values, chosen)["loss"] == pytest.approx(loss, rel=1e-10)
    other = options(selector=selector, normalise="rollouts" if normalise == "tokens" else "tokens")
    assert far(expected, naive_step(models, other, given, budget)[1])


@pytest.mark.parametrize("divergence", ["reverse-kl", "forward-kl", "js", "policy-gradient"])
def test_every_divergence_is_taken_through_the_whole_model(models: Any, divergence: str) -> None:
    """Over a vocabulary with holes, narrower than the heads; normalised by rollouts."""
    chosen = options(divergence=divergence, selector="prefix-mask", normalise="rollouts")
    given = [
        training_rollout("a", ((5, 6), (7,)), (8, 9, 10, END)),
        training_rollout("b", ((9,), (9,)), (11, 12)),
    ]
    found, taken = gradient_of(models, chosen, [given], 2, NARROW)
    loss, expected, _ = naive_step(models, chosen, given, 2, NARROW)
    assert_gradients(mean(found, taken), expected)
    assert record(taken.sums.values, chosen)["loss"] == pytest.approx(loss, rel=1e-10)
    for wrong in {"reverse-kl", "forward-kl", "js", "policy-gradient"} - {divergence}:
        assert far(
            expected,
            naive_step(models, dataclasses.replace(chosen, divergence=wrong), given, 2, NARROW)[1],
        )


@pytest.mark.parametrize("kind", ["llama", "gemma2 capped", "phi with a bias", "opt", "gpt2"])
def test_models_of_other_kinds_have_the_naive_gradient_in_every_weight(kind: str) -> None:
    """Soft-capped, with a bias, tied (GPT-2), and one whose head does not come apart (OPT)."""
    pair = family(kind).double(), family("llama").double()
    chosen, given = options(selector="suffix", batch_tokens=40), rollouts(4, vocab=97)
    vocabulary = SharedVocabulary(97, frozenset())
    found, taken = gradient_of(pair, chosen, [given], 2, vocabulary)
    _, expected, _ = naive_step(pair, chosen, given, 2, vocabulary)
    assert_gradients(mean(found, taken), expected)


def lora_pair(**changes: Any) -> tuple[Trainable, Any]:
    policy = byte_policy(**changes)
    policy.weights.double()
    trained = Trainable(policy, options(full_finetune=False, lora_rank=2, lora_alpha=8))
    for number, weight in enumerate(
        trained.parameters.values()
    ):  # B begins with zeros, where A has no gradient
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(number))
    return trained, tiny_llama(1, vocab_size=BYTES).double()


@pytest.mark.parametrize("selector", ["prefix-mask", "top-reverse-kl"])
def test_adapters_have_the_naive_gradient_and_nothing_else_has_any(selector: str) -> None:
    trained, teacher = lora_pair()
    pair, chosen = (
        (trained.model, teacher),
        options(selector=selector, normalise="rollouts", batch_tokens=50),
    )
    given, vocabulary = rollouts(5, vocab=BYTES), SharedVocabulary(BYTES, frozenset())
    found, taken = gradient_of(pair, chosen, [given], 3, vocabulary)
    _, expected, _ = naive_step(pair, chosen, given, 3, vocabulary)
    assert found.keys() == trained.parameters.keys() and len(found) == 2 * 7 * 3
    assert_gradients(mean(found, taken), expected)
    assert all(
        one.grad is None
        for one in (*trained.model.parameters(), *teacher.parameters())
        if not one.requires_grad
    )
    assert all(one.grad is None for one in teacher.parameters())


def test_recomputed_activations_have_the_same_gradient_and_no_dropout() -> None:
    """Only in training mode are activations recomputed; what would be dropped there is not."""
    plain, teacher = lora_pair()
    given, vocabulary, chosen = (
        rollouts(4, vocab=BYTES),
        SharedVocabulary(BYTES, frozenset()),
        options(selector="full"),
    )
    expected, _ = gradient_of((plain.model, teacher), chosen, [given], None, vocabulary)
    policy = byte_policy(attention_dropout=0.5)
    policy.weights.double()
    checkpointed = Trainable(
        policy, options(full_finetune=False, lora_rank=2, lora_alpha=8, gradient_checkpointing=True)
    )
    with torch.no_grad():
        for name, weight in checkpointed.parameters.items():
            weight.copy_(plain.parameters[name])
    begun = []
    policy.weights.model.layers[0].mlp.register_forward_pre_hook(lambda *_: begun.append(1))
    found, _ = gradient_of(
        (policy.weights, teacher), chosen, [given], None, vocabulary, training=True
    )
    assert len(begun) == 2 + 2  # twice to take the head off; on the way there and on the way back
    assert_gradients(found, expected)


def test_autocast_takes_the_same_gradient_coarsely() -> None:
    """Products in bfloat16, weights and their gradients in float32, in every weight of a model with
    tied embeddings."""
    pair = tiny_llama(0, tie_word_embeddings=True), tiny_llama(1)
    given, rows, found = rollouts(6), [], []
    for autocast in ("off", "bfloat16"):
        one, taken = gradient_of(
            pair, options(autocast=autocast, selector="prefix-mask", batch_tokens=40), [given], 3
        )
        assert all(gradient.dtype == torch.float32 for gradient in one.values())
        rows.append(record(taken.sums.values, options()))
        found.append(one)
    assert not equal(*found)
    for name, exact in found[0].items():
        cosine = torch.nn.functional.cosine_similarity(
            exact.flatten(), found[1][name].flatten(), dim=0
        )
        assert cosine > 0.99, name
    assert rows[1] == pytest.approx(rows[0], rel=0.05, nan_ok=True)
    assert rows[1]["tokens_selected"] == rows[0]["tokens_selected"]


# --- what must not change it
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("selector", ["prefix-mask", "top-reverse-kl", "random"])
@pytest.mark.parametrize("normalise", ["tokens", "rollouts"])
def test_micro_batches_of_any_size_give_one_gradient_and_one_record(
    models: Any, selector: str, normalise: str
) -> None:
    given, found, rows = rollouts(7), [], []
    for batch_tokens in (1, 25, 60, 10**6):
        chosen = options(selector=selector, normalise=normalise, batch_tokens=batch_tokens)
        one, taken = gradient_of(models, chosen, [given], 2)
        found.append(mean(one, taken))
        rows.append(record(taken.sums.values, chosen))
    for one, row in zip(found, rows, strict=True):
        assert_gradients(one, found[-1])
        assert row == pytest.approx(rows[-1], rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("normalise", ["tokens", "rollouts"])
def test_halves_that_are_added_up_are_the_whole(models: Any, normalise: str) -> None:
    """As on two processes: sums and gradients are added, and then divided once. The halves have
    other counts of tokens."""
    chosen, given = options(selector="prefix-mask", normalise=normalise), rollouts(7)
    whole, taken = gradient_of(models, chosen, [given], 6)
    first, one = gradient_of(models, chosen, [given[::2]], 6)
    second, other = gradient_of(models, chosen, [given[1::2]], 6)
    together = Sums(dict(one.sums.values))
    together.add(**other.sums.values)
    assert together.values == pytest.approx(taken.sums.values, rel=1e-12)
    assert_gradients({name: first[name] + second[name] for name in first}, whole)
    counts = [
        denominator(sums, normalise)
        for sums in (taken.sums.values, one.sums.values, other.sums.values)
    ]
    assert counts[0] == counts[1] + counts[2] and counts[1] != counts[2]
    by_halves = {name: (first[name] / counts[1] + second[name] / counts[2]) / 2 for name in first}
    assert far(mean(whole, taken), by_halves, 1e-3)  # a mean of means is not it
    in_turn, both = gradient_of(models, chosen, [given[::2], given[1::2]], 6)  # accumulated in one
    assert_gradients(in_turn, whole)
    assert both.sums.values == pytest.approx(taken.sums.values, rel=1e-12)


@pytest.mark.parametrize("selector", [name for name, one in SELECTORS.items() if not one.whole])
@pytest.mark.parametrize("normalise", ["tokens", "rollouts"])
def test_a_window_at_least_as_long_as_every_rollout_is_full_to_the_bit(
    models: Any, selector: str, normalise: str
) -> None:
    given = rollouts(5)
    longest = max(len(one.scored.response) for one in given)
    full, taken = gradient_of(models, options(selector="full", normalise=normalise), [given])
    for budget in (longest, longest + 100):
        found, same = gradient_of(
            models, options(selector=selector, normalise=normalise), [given], budget
        )
        assert equal(found, full) and same.sums.values == taken.sums.values
    found, other = gradient_of(
        models, options(selector=selector, normalise=normalise), [given], longest - 1
    )
    assert not equal(found, full) and other.sums.values["selected"] < taken.sums.values["selected"]


def test_a_student_equal_to_its_teacher_has_no_loss_no_gradient_and_is_not_moved() -> None:
    """Adapters that still do nothing: to the bit, in float32, by Adam itself."""
    policy = byte_policy()
    teacher = byte_policy()
    trained = Trainable(policy, options(full_finetune=False))
    before = {name: weight.detach().clone() for name, weight in trained.parameters.items()}
    optimizer = torch.optim.AdamW(list(trained.parameters.values()), lr=1e-2, weight_decay=0.0)
    given = [
        dataclasses.replace(
            one, scored=dataclasses.replace(one.scored, teacher_prompt=one.scored.student_prompt)
        )
        for one in rollouts(5, vocab=BYTES)
    ]
    for divergence in ("reverse-kl", "forward-kl", "js", "policy-gradient"):
        chosen, vocabulary = options(divergence=divergence), SharedVocabulary(BYTES, frozenset())
        found, taken = gradient_of(
            (policy.weights, teacher.weights), chosen, [given], None, vocabulary
        )
        assert not any(one.any() for one in found.values())
        row = record(taken.sums.values, chosen)
        assert (
            row["loss"] == row["reverse_kl"] == 0
            and row["student_entropy"] == row["teacher_entropy"] > 0
        )
        optimizer.step()
        assert all(weight.equal(before[name]) for name, weight in trained.parameters.items())


# --- where the loss falls
# ---------------------------------------------------------------------------


class Slopes:
    """Keeps the gradient in the last hidden states and in the input embeddings of every forward of
    a model."""

    def __init__(self, model: Any) -> None:
        self.states: list[torch.Tensor] = []
        self.embeddings: list[torch.Tensor] = []
        self.handles = [
            model.base_model.register_forward_hook(
                lambda m, i, out: self._keep(out.last_hidden_state, self.states)
            ),
            model.get_input_embeddings().register_forward_hook(
                lambda m, i, out: self._keep(out, self.embeddings)
            ),
        ]

    def _keep(self, tensor: torch.Tensor, kept: list[torch.Tensor]) -> None:
        if tensor.requires_grad:
            tensor.register_hook(kept.append)

    def __enter__(self) -> Slopes:
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()


@pytest.mark.parametrize(
    "selector", ["prefix-mask", "suffix", "middle", "random", "top-reverse-kl"]
)
def test_the_gradient_is_zero_outside_the_selection_and_nowhere_else(
    models: Any, selector: str
) -> None:
    """Of a rollout with a prompt of 3 and 8 response tokens: the state before a chosen token,
    position 2 + i, and no other."""
    one = training_rollout("r", ((5, 6, 7), (8, 9)), (10, 11, 12, 13, 14, 15, 16, END))
    chosen = options(selector=selector)
    _, _, (kept,) = naive_step(models, chosen, [one], 3)
    with Slopes(models[0]) as slopes:
        gradient_of(models, chosen, [[one]], 3)
    (states,) = slopes.states
    expected = [2 + place for place, weight in enumerate(kept["weights"]) if weight]
    assert states.abs().amax(-1)[0].nonzero().flatten().tolist() == expected and len(expected) == 3
    (embeddings,) = slopes.embeddings
    assert embeddings.abs().amax(-1)[0].nonzero().flatten().tolist() == list(
        range(expected[-1] + 1)
    )


def test_position_0_depends_on_the_prompt_only(models: Any) -> None:
    """With a window of 1 nothing that is written after the prompt has a gradient, or changes
    one."""
    prompts, chosen = ((5, 6, 7), (8, 9)), options(selector="prefix-mask")
    found = []
    for response in ((10, 11, 12), (13, 40), (14,)):
        with Slopes(models[0]) as slopes:
            found.append(
                gradient_of(models, chosen, [[training_rollout("r", prompts, response)]], 1)
            )
        assert slopes.embeddings[0].abs().amax(-1)[0].nonzero().flatten().tolist() == [0, 1, 2]
    for gradient, taken in found[1:]:
        assert_gradients(gradient, found[0][0])
        assert taken.sums.values["loss"] == pytest.approx(
            found[0][1].sums.values["loss"], rel=1e-12
        )
    moved, _ = gradient_of(
        models, chosen, [[training_rollout("r", ((5, 6, 4), (8, 9)), (10, 11, 12))]], 1
    )
    assert far(moved, found[0][0])


def test_the_last_token_is_predicted_and_never_read(models: Any) -> None:
    with Slopes(models[0]) as slopes:
        gradient_of(models, options(), [[training_rollout("r", ((5, 6), (8,)), (10, 11, 12))]])
    assert slopes.embeddings[0].shape[1] == 4 and slopes.states[0].abs().amax(-1)[
        0
    ].nonzero().flatten().tolist() == [
        1,
        2,
        3,
    ]


def test_weights_stand_at_their_positions_whole(models: Any) -> None:
    """A selector of one's own: weights of 2 and 0.5. Twice the weight is twice the gradient, and
    counts as one token."""
    one = training_rollout("r", ((5, 6, 7), (8, 9)), (10, 11, 12, 13))
    heavy = Selector(
        lambda signals, budget, rng: np.array([0.0, 2.0, 0.5, 0.0]), needs_signals=True
    )
    parts = [gradient_of(models, options(selector="random"), [[one]], 4)[0]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SELECTORS, "heavy", heavy)
        found, taken = gradient_of(models, options(selector="heavy"), [[one]], 4)
        assert (
            denominator(taken.sums.values, "tokens") == 2
            and denominator(taken.sums.values, "rollouts") == 1
        )
        assert record(taken.sums.values, options())["mean_selected_position"] == pytest.approx(
            (2 * 1 + 0.5 * 2) / 2.5
        )
        for place in (1, 2):
            alone = np.eye(4)[place]
            patch.setitem(SELECTORS, "alone", Selector(lambda *_, alone=alone: alone))
            parts.append(gradient_of(models, options(selector="alone"), [[one]], 4)[0])
    assert_gradients(found, {name: 2 * parts[1][name] + 0.5 * parts[2][name] for name in found})


def test_a_rollout_without_a_chosen_token_counts_for_nothing(models: Any) -> None:
    """A selector may leave a rollout out whole: then it is in no denominator, but in every other
    record."""
    given = [
        training_rollout("a", ((5,), (8,)), (10, 11)),
        training_rollout("b", ((6,), (9,)), (12, 13, 14)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            SELECTORS,
            "long",
            Selector(lambda s, b, rng: np.full(len(s.reverse_kl), float(len(s.reverse_kl) > 2))),
        )
        both, taken = gradient_of(models, options(selector="long", normalise="rollouts"), [given])
        alone, single = gradient_of(
            models, options(selector="long", normalise="rollouts"), [given[1:]]
        )
        none, empty = gradient_of(models, options(selector="long"), [given[:1]])
    assert_gradients(both, alone)
    assert (
        denominator(taken.sums.values, "rollouts")
        == denominator(single.sums.values, "rollouts")
        == 1
    )
    assert taken.sums.values["rollouts"] == 2 and taken.sums.values["scored"] == 5
    assert (
        not any(one.any() for one in none.values())
        and denominator(empty.sums.values, "tokens") == 0
    )
    row = record(empty.sums.values, options())
    assert (
        math.isnan(row["loss"])
        and math.isnan(row["mean_selected_position"])
        and row["reverse_kl"] > 0
    )
    assert row["reverse_kl_inside"] == 0 and row["reverse_kl_outside"] == pytest.approx(
        2 * row["reverse_kl"]
    )


def test_gradients_are_computed_at_chosen_positions_alone(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are scored for the record, without a gradient; signals need all of them first."""
    asked = []

    def count(
        heads: Any, states: Any, tokens: Any, vocabulary: Any, weights: Any = None, *more: Any
    ) -> Any:
        asked.append((len(tokens), weights is not None))
        return chunked_loss(heads, states, tokens, vocabulary, weights, *more)

    monkeypatch.setattr(step, "chunked_loss", count)
    given = [training_rollout("r", ((5, 6), (8,)), tuple(range(10, 18)))]
    expected = {
        "prefix-mask": [(3, True), (5, False)],
        "full": [(8, True)],
        "top-reverse-kl": [(8, False), (3, True)],
    }
    for selector, calls in expected.items():
        asked.clear()
        gradient_of(models, options(selector=selector), [given], None if selector == "full" else 3)
        assert asked == calls


# --- records
# ---------------------------------------------------------------------------


def slow_record(
    kept: list[dict[str, Any]], bins: tuple[int, ...], normalise: str
) -> dict[str, float]:
    """A loop over every token, from the naive columns."""
    tokens = [
        {
            name: one[name][place]
            for name in ("loss", "reverse_kl", "student_entropy", "teacher_entropy", "weights")
        }
        | {"position": place + one["rollout"].offset, "rollout": number}
        for number, one in enumerate(kept)
        for place in range(len(one["weights"]))
    ]
    inside = [token for token in tokens if token["weights"] > 0]
    outside = [token for token in tokens if token["weights"] == 0]
    written = [
        one["rollout"].ids[:-1] if one["rollout"].ids[-1] == END else one["rollout"].ids
        for one in kept
    ]

    def share(flags: list[bool]) -> float:
        return sum(flags) / len(flags)

    def average(name: str, of: list[dict[str, Any]]) -> float:
        return sum(token[name] for token in of) / len(of) if of else math.nan

    def repetitive(ids: tuple[int, ...]) -> bool:
        grams = [ids[place : place + 3] for place in range(len(ids) - 2)]
        again = sum(gram in grams[:place] for place, gram in enumerate(grams))
        return bool(grams) and again / len(grams) > 0.5

    if normalise == "tokens":
        loss = sum(token["weights"] * token["loss"] for token in inside) / len(inside)
    else:
        per = [
            [token for token in inside if token["rollout"] == number] for number in range(len(kept))
        ]
        loss = sum(
            sum(t["weights"] * t["loss"] for t in own) / len(own) for own in per if own
        ) / sum(map(bool, per))
    found = {
        "loss": loss,
        "reverse_kl": average("reverse_kl", tokens),
        "reverse_kl_inside": sum(token["reverse_kl"] for token in inside),
        "reverse_kl_outside": sum(token["reverse_kl"] for token in outside),
        "student_entropy": average("student_entropy", tokens),
        "teacher_entropy": average("teacher_entropy", tokens),
        "tokens_sampled": 77,
        "tokens_scored": len(tokens),
        "tokens_selected": len(inside),
        "mean_selected_position": sum(t["weights"] * t["position"] for t in inside)
        / sum(t["weights"] for t in inside),
        "response_tokens": sum(map(len, written)) / len(written),
        "natural_stop_share": share([one["rollout"].ids[-1] == END for one in kept]),
        "repetition_share": share([repetitive(ids) for ids in written]),
        "rollouts": len(kept),
        "left_out": 4,
    }
    for low, high in zip(bins, [*bins[1:], 10**9], strict=True):
        here = [token for token in tokens if low <= token["position"] < high]
        found |= {f"reverse_kl_{low}": average("reverse_kl", here), f"tokens_{low}": len(here)}
    return found


@pytest.mark.parametrize("normalise", ["tokens", "rollouts"])
@pytest.mark.parametrize("selector", SELECTED)
def test_every_column_of_a_row_is_that_of_a_slow_loop_over_the_tokens(
    models: Any, selector: str, normalise: str
) -> None:
    """One rollout stands behind a prefix of the teacher's, one repeats itself, one was cut at a
    token nobody can read."""
    given = [
        *rollouts(6),
        training_rollout("again", ((5,), (6,)), (7, 8, 9) * 4),
        training_rollout(
            "half", ((5,), (6,)), (7, 8, 9, 10, 7, 8, 9, 10)
        ),  # 2 of its 6 3-grams come again
        training_rollout(
            "at the edge", ((5,), (6,)), (7, 7, 7, 7)
        ),  # 1 of 2: half is not more than half
        training_rollout("cut", ((5,), (6,)), (7, 8, 63, 10, END), readable=2),
        training_rollout("short", ((5,), (6,)), (END,)),
    ]
    budget = None if SELECTORS[selector].whole else 3
    chosen = options(
        selector=selector,
        normalise=normalise,
        batch_tokens=40,
        bins=(0, 2, 5, 40),
        divergence="forward-kl",
    )
    _, taken = gradient_of(models, chosen, [given], budget)
    taken.sums.add(sampled=77, left_out=4)
    row = record(taken.sums.values, chosen)
    _, _, kept = naive_step(models, chosen, given, budget)
    expected = slow_record(kept, (0, 2, 5, 40), normalise)
    assert row.keys() == expected.keys()
    assert row == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
    assert math.isnan(row["reverse_kl_40"]) and row["tokens_40"] == 0
    assert row["repetition_share"] == 1 / 11 and row["natural_stop_share"] == 5 / 11
    assert row["loss"] != pytest.approx(row["reverse_kl"], rel=1e-3)


def test_a_step_without_rollouts_has_counts_of_0_and_no_means(models: Any) -> None:
    chosen = options()
    _, taken = gradient_of(models, chosen, [[]])
    taken.sums.add(sampled=5, left_out=2)
    row = record(taken.sums.values, chosen)
    counts = {
        "tokens_0",
        "tokens_2",
        "tokens_5",
        "tokens_sampled",
        "tokens_scored",
        "tokens_selected",
        "rollouts",
        "left_out",
    }
    assert {name for name, value in row.items() if not math.isnan(value)} == {
        *counts,
        "reverse_kl_inside",
        "reverse_kl_outside",
    }
    assert row["tokens_sampled"] == 5 and row["left_out"] == 2 and row["tokens_scored"] == 0
    assert (
        denominator(taken.sums.values, "tokens") == denominator(taken.sums.values, "rollouts") == 0
    )


def test_seconds_and_memory_go_to_scoring_and_training(models: Any) -> None:
    _, taken = gradient_of(models, options(), [rollouts(3)])
    seconds = taken.meter.seconds
    assert seconds["scoring"] > 0 < seconds["training"] and seconds["generation"] == 0


# --- losses that are no numbers
# ---------------------------------------------------------------------------

POISON = 60


@pytest.fixture
def poisoned() -> tuple[Any, Any]:
    """A teacher that has no number to say right behind token 60."""
    student, teacher = tiny_llama(0).double(), tiny_llama(1).double()

    def spoil(module: Any, arguments: Any, given: dict[str, Any], output: Any) -> None:
        if given.get("input_ids") is not None:
            output.last_hidden_state[given["input_ids"] == POISON] = math.nan

    teacher.base_model.register_forward_hook(spoil, with_kwargs=True)
    return student, teacher


def good(name: str, length: int = 9) -> TrainingRollout:
    return training_rollout(name, ((5, 6), (7,)), tuple(range(10, 10 + length)))


@pytest.mark.parametrize("selector", ["full", "prefix-mask", "suffix", "top-reverse-kl"])
@pytest.mark.parametrize("batch_tokens", [1, 1000])
def test_a_loss_that_is_no_number_names_rollout_and_position(
    poisoned: Any, selector: str, batch_tokens: int
) -> None:
    """The token at 3 is read before position 4 is predicted; the teacher wrote 7 tokens ahead of
    this rollout. In or out of the selection, first or last of the batch."""
    bad = training_rollout("bad", ((5, 6), (7,)), (10, 11, 12, POISON, 13, 14), offset=7)
    chosen = options(selector=selector, batch_tokens=batch_tokens)
    budget = None if selector == "full" else 2
    for given in ([good("long"), bad, good("short", 2)], [bad], [bad, good("longer", 20)]):
        with pytest.raises(NotFinite, match="response position 11 of rollout bad") as raised:
            gradient_of(poisoned, chosen, [given], budget)
        error = raised.value
        assert error.rollout is bad and error.position == 11
        assert error.values.keys() == {
            "loss",
            "reverse_kl",
            "student_entropy",
            "teacher_entropy",
            "student_logprob",
            "teacher_logprob",
        }
        assert math.isnan(error.values["loss"]) and math.isnan(error.values["teacher_logprob"])
        assert math.isfinite(error.values["student_entropy"])


def test_a_broken_batch_leaves_no_gradient_in_the_body(poisoned: Any) -> None:
    bad = training_rollout("bad", ((5, 6), (7,)), (10, POISON, 12))
    with pytest.raises(NotFinite):
        gradient_of(poisoned, options(), [[bad]])
    body = {
        name: one for name, one in grads(poisoned[0]).items() if name.startswith("model.layers")
    }
    assert body and not any(one.any() for one in body.values())


def test_an_infinite_loss_is_not_finite_either(models: Any) -> None:
    class Never(torch.nn.Module):
        """Wraps a head: the teacher never says 11."""

        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner, self.weight = inner, inner.weight

        def forward(self, hidden: Any) -> Any:
            return self.inner(hidden).index_fill(-1, torch.tensor([11]), -math.inf)

    teacher = tiny_llama(1).double()
    teacher.lm_head = Never(teacher.lm_head)
    with pytest.raises(NotFinite, match="response position 0 of rollout long"):
        gradient_of((models[0], teacher), options(), [[good("long")]])


def test_meters_phases_are_those_of_the_step() -> None:
    meter = Meter(torch.device("cpu"))
    assert set(meter.columns()) == {
        f"{phase}_{what}"
        for phase in ("generation", "scoring", "training")
        for what in ("seconds", "peak_gib")
    }
