"""Models in memory: what their hash sees and what not, what a call leaves as it was, what is
refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_models import byte_tokenizer, tiny_llama

from decaylab.errors import UserError
from decaylab.policies import loaded_models, loading
from decaylab.policies.loaded_identity import as_json, content_hash
from decaylab.policies.loaded_models import as_loaded, held, loaded
from decaylab.policies.policy import LoadSettings

IDS = torch.tensor([[5, 17, 40, 9, 33]])


def model(seed: int = 0, **changes: Any) -> Any:
    return tiny_llama(seed, **{"vocab_size": 261, **changes})


def with_adapter(seed: int = 0) -> Any:
    """A PEFT model whose adapter changes the logits."""
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return get_peft_model(model(seed), config)


def logits(one: Any) -> Any:
    with torch.no_grad():
        return one(input_ids=IDS).logits


# The hash


def step(one: Any) -> None:
    """One update, as a trainer makes it."""
    optimizer = torch.optim.SGD(one.parameters(), lr=1e-3)
    one(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()


def one_weight(one: Any) -> None:
    with torch.no_grad():
        next(iter(one.parameters()))[0, 0] += 1e-6


def rounded_frequencies(one: Any) -> None:
    rotary = one.model.rotary_emb
    rotary.inv_freq = rotary.inv_freq.bfloat16().float()


CHANGES: dict[str, Callable[[Any], object]] = {
    "a training step": step,
    "one weight in its last bits": one_weight,
    "another precision": lambda one: one.bfloat16(),
    "rounded frequencies": rounded_frequencies,
    "another theta": lambda one: one.config.rope_parameters.update(rope_theta=5e5),
    "another end": lambda one: setattr(one.generation_config, "eos_token_id", [1, 7]),
}


@pytest.mark.parametrize("what", CHANGES)
def test_whatever_changes_a_result_changes_the_hash(what: str) -> None:
    one, tokenizer = model(), byte_tokenizer()
    before = content_hash(one, tokenizer)
    CHANGES[what](one)
    assert content_hash(one, tokenizer) != before


def test_what_a_trainer_does_beside_the_weights_changes_no_hash() -> None:
    one, tokenizer = model(), byte_tokenizer()
    before = content_hash(one, tokenizer)
    one.train()
    one(input_ids=IDS, labels=IDS).loss.backward()
    one.requires_grad_(False)
    one.config.use_cache, one.config._name_or_path = False, "elsewhere"
    one.config.pad_token_id = 3
    tokenizer(["a", "longer"], padding=True, truncation=True, max_length=4)
    assert content_hash(one, tokenizer) == before
    assert content_hash(copy.deepcopy(one), copy.deepcopy(tokenizer)) == before


def test_the_tokenizer_and_its_template_are_part_of_the_hash() -> None:
    one = model()
    tokenizers = [
        byte_tokenizer(),
        byte_tokenizer(shift=1),
        byte_tokenizer(None),
        byte_tokenizer(adds_bos=True),
    ]
    assert len({content_hash(one, tokenizer) for tokenizer in tokenizers}) == len(tokenizers)


def test_adapters_count_as_they_are_switched() -> None:
    peft, tokenizer = with_adapter(), byte_tokenizer()
    inner = loaded(peft, tokenizer).model
    active = content_hash(inner, tokenizer)
    with peft.disable_adapter():
        assert content_hash(inner, tokenizer) != active
    layer = inner.model.layers[0].self_attn.q_proj
    layer.scaling["default"] *= 2
    assert content_hash(inner, tokenizer) != active


def test_the_hash_is_the_same_in_every_process() -> None:
    # The order of a set of texts depends on the process; PEFT keeps the adapted layers in one.
    names = {f"layer_{number}" for number in range(20)}
    assert as_json(names) == sorted(names)
    config = loaded(with_adapter(), byte_tokenizer()).model.peft_config["default"]
    assert isinstance(config.to_dict()["target_modules"], set)


def test_two_models_of_one_name_have_two_names_and_equal_ones_have_one() -> None:
    tokenizer = byte_tokenizer()
    policies = [loaded(model(seed), tokenizer, name="my student") for seed in (0, 1, 0)]
    with held(policies) as names:
        assert names[0] == names[2] != names[1]
        assert all(name.startswith("loaded:my-student-") for name in names)
        identities = [loading.load(name).identity for name in names]
        assert identities[0].contents == content_hash(policies[0].model, tokenizer)
        assert identities[0].contents != identities[1].contents
    with pytest.raises(UserError, match="was a model in the memory of a Python process: give it"):
        loading.load(names[0])


# The model


def test_a_policy_is_the_users_own_model_and_the_call_leaves_it_as_it_was() -> None:
    one, tokenizer = model(tie_word_embeddings=True), byte_tokenizer()
    one.train()
    one.model.layers[0].eval()  # as a trainer may freeze a part
    one.lm_head.requires_grad_(False)
    one(input_ids=IDS, labels=IDS).loss.backward()
    modes = [module.training for module in one.modules()]
    weights = dict(one.named_parameters())
    places = {name: weight.data_ptr() for name, weight in weights.items()}
    grads = {name: weight.grad for name, weight in weights.items()}
    flags = {name: weight.requires_grad for name, weight in weights.items()}
    torch.manual_seed(3)
    expected = torch.rand(1).item()
    torch.manual_seed(3)
    with held([loaded(one, tokenizer)]) as names:
        policy = loading.load(names[0], LoadSettings(dtype="bfloat16"))
        assert policy.weights is one and one.dtype == torch.float32 and not one.training
        narrow = logits(one)
        with policy.wider():
            assert logits(one).dtype == torch.float64
            assert one.lm_head.weight is one.model.embed_tokens.weight
            assert 0 < (logits(one) - narrow).abs().max() < 1e-4
        assert torch.equal(logits(one), narrow)
        torch.rand(3)
    assert torch.rand(1).item() == expected
    assert [module.training for module in one.modules()] == modes
    for name, weight in one.named_parameters():
        assert weight is weights[name] and weight.data_ptr() == places[name]
        assert weight.grad is grads[name] and weight.requires_grad == flags[name]


def test_a_call_that_fails_leaves_the_model_as_it_was() -> None:
    one = model().train()
    with (
        pytest.raises(RuntimeError),
        held([loaded(one, byte_tokenizer())]) as names,
        loading.load(names[0]).wider(),
    ):
        raise RuntimeError
    assert one.training and one.dtype == torch.float32


def test_a_peft_model_is_run_with_its_adapter() -> None:
    peft = with_adapter().eval()
    with held([loaded(peft, byte_tokenizer())]) as names:
        policy = loading.load(names[0])
        assert torch.equal(logits(policy.weights), logits(peft))
        assert "adapters beside them" in policy.precision
        assert not torch.allclose(logits(policy.weights), logits(model()), atol=1e-3)


def test_mixed_precision_is_switched_off_and_on_again() -> None:
    one = model()
    plain, original = logits(one), one.forward

    def cast(**more: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return original(**more)

    one._original_forward, one.forward = original, cast  # as accelerate does
    rough = logits(one)
    with held([loaded(one, byte_tokenizer())]):
        assert torch.equal(logits(one), plain) and not torch.equal(rough, plain)
    assert one.forward is cast


def test_the_callers_own_autocast_changes_nothing() -> None:
    one = model()
    plain = logits(one)
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(logits(one), plain)
        with held([loaded(one, byte_tokenizer())]):
            assert torch.equal(logits(one), plain)
        assert torch.is_autocast_enabled("cpu")


# What cannot be used


def hooked(hook: Any) -> Any:
    one = model()
    one.model.layers[1].register_forward_hook(hook)
    return one


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: model(), r"a model needs its tokenizer: give \(model, tokenizer\)"),
        (lambda: (model(), "gpt2"), "a tokenizer of transformers is needed, got str"),
        (
            lambda: (model(), SimpleNamespace(tokenizer=byte_tokenizer())),
            "got SimpleNamespace: give its .tokenizer",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        as_loaded(given())
    assert "\n" not in str(refused.value)


def test_a_forward_hook_is_refused_unless_a_library_put_it_there() -> None:
    steered = hooked(lambda module, inputs, output: output * 2)
    with (
        pytest.raises(UserError, match=r"forward hook on model\.layers\.1, which changes its"),
        held([loaded(steered, byte_tokenizer())]),
    ):
        pass
    one = model()
    one.enable_input_require_grads()
    with held([loaded(one, byte_tokenizer())]) as names:
        assert names


def test_names_are_not_taken_for_models() -> None:
    assert as_loaded("abacus-student") is None and as_loaded(None) is None
    assert not loaded_models.is_loaded("abacus-student")
    with pytest.raises(UserError, match="the name of a loaded model must be text, got 3"):
        loaded(model(), byte_tokenizer(), name=3)  # type: ignore[arg-type]
