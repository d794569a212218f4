"""Every term of the plan's memory, counted a second way: on real tensors of really built tiny
models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import SIZES, VOCAB, bare_policy, tiny_llama
from transformers import LlamaConfig

from decaylab.options.measuring import Options
from decaylab.options.training import TrainOptions
from decaylab.planner.memory import (
    CHOOSE,
    KERNELS,
    LACKING,
    LOSS,
    STATISTICS,
    Batch,
    Reading,
    allocated_columns,
    sampling_terms,
    scoring_terms,
    vllm_terms,
)
from decaylab.planner.models import Outline, Source, TrainedOutline, size
from decaylab.planner.tracing import LiveBytes
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.rollouts.cache import GrowingCache
from decaylab.rollouts.sampling import Request, SamplingSettings, choose
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.tokens.scoring import token_statistics
from decaylab.trainer.loss import _at_chunk
from decaylab.trainer.machinery.adapters import Trainable

TRAINING = TrainOptions(problems="none", lora_rank=4)


@pytest.fixture
def outline(tmp_path: Path) -> Outline:
    LlamaConfig(**SIZES).save_pretrained(tmp_path)
    return Outline(Source.of(str(tmp_path), None, False), torch.float32)


def real(policy: Any = None) -> Any:
    """A policy as `Trainable` takes it."""
    policy = bare_policy(tiny_llama())
    policy.identity = type("Identity", (), {"source": "folder"})()
    return policy


def test_weights_are_those_of_the_model_that_is_built(outline: Outline) -> None:
    assert outline.weight_bytes == size(tiny_llama().parameters())


def test_a_token_of_the_cache_takes_what_a_real_cache_holds(outline: Outline) -> None:
    cache = GrowingCache()
    tiny_llama()(
        input_ids=torch.zeros(3, 5, dtype=torch.long), past_key_values=cache, use_cache=True
    )
    layers: list[Any] = list(cache.layers)
    assert outline.cache_per_token * 3 * 5 == size(
        [one for layer in layers for one in (layer.keys, layer.values)]
    )


@pytest.mark.parametrize("written", [1, 65, 66, 200])
def test_a_cache_has_the_columns_that_it_grows_to(written: int) -> None:
    cache = GrowingCache()
    keys = torch.zeros(1, 2, 7, 8)
    cache.update(keys, keys, 0)
    rows = torch.zeros(1, dtype=torch.long)
    cache.align(rows, rows + 7, 7)
    for _ in range(written):
        cache.update(keys[:, :, :1], keys[:, :, :1], 0)
    layer: Any = cache.layers[0]
    assert layer._keys.shape[2] == allocated_columns(7, written)


@pytest.mark.parametrize("rows", [2, 8])
def test_sampling_holds_no_more_than_the_plan_says_and_not_much_less(
    outline: Outline, rows: int
) -> None:
    model = tiny_llama()
    engine = TransformersEngine(bare_policy(model, end_ids=[-1]), batch_rows=rows)
    requests = [Request((3, 4, 5, 6), (), 150, "plan", "one", row) for row in range(rows)]
    with LiveBytes([*model.parameters(), *model.buffers()]) as live:
        engine.sample(requests, SamplingSettings())
    terms = sampling_terms(outline, Batch(rows, 1, 4, 150), Options())
    assert 0.85 < sum(terms.values()) / live.peak < 1.15


def test_bytes_of_a_drawn_token_are_those_that_choose_makes() -> None:
    logits, uniform = torch.randn(64, 4096), torch.rand(64, dtype=torch.float64)
    for name, settings in (("plain", SamplingSettings()), ("nucleus", SamplingSettings(top_p=0.9))):
        with LiveBytes([logits, uniform]) as live:
            choose(logits, uniform, settings)
        assert 0.8 < CHOOSE[name] * logits.numel() / live.peak <= 1.3, name


def test_bytes_of_statistics_and_losses_are_those_that_they_make() -> None:
    student, teacher = torch.randn(16, 8192), torch.randn(16, 8192)
    tokens, vocabulary = torch.zeros(16, dtype=torch.long), SharedVocabulary(8192, frozenset())
    with LiveBytes([student, teacher, tokens]) as live:
        token_statistics(student, teacher, tokens, vocabulary)
    assert 0.8 < STATISTICS * student.numel() / live.peak < 1.3
    for divergence, bytes_each in LOSS.items():
        with LiveBytes([student, teacher, tokens]) as live:
            _at_chunk(student, teacher, tokens, vocabulary, divergence)
        assert 0.7 < bytes_each * student.numel() / live.peak < 2.2, (
            divergence,
            live.peak / student.numel(),
        )


def test_scoring_adds_the_logits_of_both_to_the_states(outline: Outline) -> None:
    read = Reading(4, 10, 12, 20)
    terms = scoring_terms(outline, outline, read, "cuda")
    states = 2 * 80 * 32 * 4
    logits = 80 * VOCAB * (4 + 4 + STATISTICS)
    assert terms == {"activations": states, "logits": logits + 80 * 240}


@pytest.mark.parametrize("full", [False, True])
def test_trained_weights_gradients_and_moments_are_those_of_a_real_step(
    outline: Outline, full: bool
) -> None:
    options = replace(TRAINING, full_finetune=full)
    policy = real()
    trainable = Trainable(policy, options)
    weights = list(trainable.parameters.values())
    optimizer = torch.optim.AdamW(weights)
    policy.weights(input_ids=torch.zeros(1, 4, dtype=torch.long)).logits.sum().backward()
    optimizer.step()
    moments = [one[name] for one in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    state = TrainedOutline(outline, options).state(1)
    assert state.gradients == size(one.grad for one in weights)
    assert state.optimizer == size(moments)
    assert state.weights + state.adapters == size(policy.weights.parameters())
    with trainable.merged():
        own = [layer.get_base_layer().weight for layer in trainable.layers]
        largest = max((size([one]) for one in own), default=0)
        assert state.merged == size(own) + 2 * largest


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_pass_and_its_way_back_hold_what_a_real_one_does(
    outline: Outline, checkpointing: bool
) -> None:
    options = replace(TRAINING, gradient_checkpointing=checkpointing)
    policy = real()
    trainable = Trainable(policy, options)
    for one in trainable.parameters.values():
        one.grad = torch.zeros_like(one)
    gradients = [one.grad for one in trainable.parameters.values() if one.grad is not None]
    model = policy.weights.train(checkpointing)
    with LiveBytes([*model.parameters(), *model.buffers(), *gradients]) as live:
        states = model.base_model(
            input_ids=torch.zeros(8, 64, dtype=torch.long), use_cache=False
        ).last_hidden_state
        held = live.now
        torch.autograd.backward(states, torch.empty_like(states))
    found = TrainedOutline(outline, options).pass_and_back(8, 64)
    assert 0.9 < found.held / held < 1.1
    assert 0.8 < found.peak / live.peak < 1.2


def test_fsdp_shares_out_the_layers_and_nothing_else(outline: Outline) -> None:
    state = TrainedOutline(outline, replace(TRAINING, full_finetune=True)).state(4)
    model = tiny_llama()
    layers = size(model.model.layers.parameters())
    rest = size(model.parameters()) - layers
    assert state.weights == state.gradients == rest + layers // 4
    assert state.optimizer == 2 * state.gradients
    assert state.gathered_student == layers
    assert state.gathered_layers == 3 * layers // SIZES["num_hidden_layers"]
    adapted = TrainedOutline(outline, TRAINING)
    assert adapted.state(4).gradients == adapted.state(1).gradients


def test_the_rest_of_vllms_share_is_cache_and_must_hold_the_longest_sequence(
    outline: Outline,
) -> None:
    options = Options(engine="vllm")
    terms = vllm_terms(outline, 8, 300, options, 4 * 2**30)
    assert not terms[LACKING] and sum(terms.values()) + KERNELS["cuda"] == 4 * 2**30
    two = vllm_terms(outline, 8, 300, replace(options, tensor_parallel=2), 4 * 2**30)
    assert two["engine weights"] == outline.weight_bytes // 2
    needed = sum(terms.values()) - terms["cache"] + KERNELS["cuda"] + 300 * outline.cache_per_token
    assert vllm_terms(outline, 8, 300, options, needed)[LACKING] == 0
    assert vllm_terms(outline, 8, 300, options, needed - 1)[LACKING] == 1


def test_a_config_json_alone_describes_a_model(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LlamaConfig(**SIZES, dtype="bfloat16").to_dict()))
    assert Outline(Source.of(str(tmp_path), None, False), torch.bfloat16).weight_bytes * 2 == size(
        tiny_llama().parameters()
    )


def test_what_a_process_keeps_under_fsdp_is_what_the_trainer_shards(outline: Outline) -> None:
    """By torch's process group that only pretends: one process of four, with its own part of each
    layer."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    from decaylab.trainer.machinery.sharding import own_part

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    try:
        for options in (TRAINING, replace(TRAINING, full_finetune=True)):
            policy = real()
            trainable = Trainable(policy, options)
            trainable.shard(init_device_mesh("cpu", (4,)))
            state = TrainedOutline(outline, options).state(4)
            assert state.weights + state.adapters == size(
                map(own_part, policy.weights.parameters())
            )
            assert state.gradients == size(map(own_part, trainable.parameters.values()))
    finally:
        dist.destroy_process_group()
