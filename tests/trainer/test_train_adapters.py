"""What is trained: adapters merged and put back, folders that load as what was trained, targets
that are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from head_families import family
from peft import PeftModel
from tiny_models import byte_tokenizer, random_requests, save_folder, tiny_llama
from tiny_training import BYTES, byte_policy, options
from torch import Tensor
from transformers import AutoModelForCausalLM

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.policies import loading
from decaylab.policies.checkpoint_folders import steps
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.loading import Policy
from decaylab.rollouts.sampling import SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.trainer.machinery.adapters import Trainable

IDS = torch.arange(5, 25)[None]


def lora(**changes: Any) -> TrainOptions:
    return options(**{"full_finetune": False, "lora_rank": 3, "lora_alpha": 12, **changes})


def moved(trained: Trainable, scale: float = 0.1) -> Trainable:
    """As after some training."""
    with torch.no_grad():
        for number, weight in enumerate(trained.parameters.values()):
            weight += (
                torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) * scale
            )
    return trained


def logits(model: Any) -> Tensor:
    with torch.inference_mode():
        return model(input_ids=IDS).logits


def of_family(kind: str) -> Policy:
    return Policy("tiny", family(kind), byte_tokenizer(), PolicyIdentity("tiny", "folder", "", "x"))


# --- what is trained
# ---------------------------------------------------------------------------


def test_lora_trains_two_small_matrices_of_every_linear_layer_of_the_body() -> None:
    policy = byte_policy()
    trained = Trainable(policy, lora())
    names = [
        f"model.layers.{layer}.{part}"
        for layer in range(3)
        for part in (
            *(f"self_attn.{one}_proj" for one in "qkvo"),
            *(f"mlp.{one}_proj" for one in ("gate", "up", "down")),
        )
    ]
    assert set(trained.parameters) == {
        f"{name}.lora_{side}.default.weight" for name in names for side in "AB"
    }
    assert trained.parameters["model.layers.0.mlp.up_proj.lora_A.default.weight"].shape == (3, 32)
    assert trained.parameters["model.layers.0.mlp.up_proj.lora_B.default.weight"].shape == (48, 3)
    assert trained.model is policy.weights and len(trained.layers) == 21
    frozen = [
        name for name, weight in policy.weights.named_parameters() if not weight.requires_grad
    ]
    assert len(frozen) == 30 and all("lora" not in name for name in frozen)


def test_lora_adds_alpha_over_rank_times_the_product_of_both_matrices() -> None:
    policy = byte_policy()
    own = policy.weights.model.layers[1].self_attn.q_proj.weight.clone()
    trained = moved(Trainable(policy, lora(lora_rank=4, lora_alpha=8, lora_targets="q_proj")))
    a, b = (
        trained.parameters[f"model.layers.1.self_attn.q_proj.lora_{side}.default.weight"]
        for side in "AB"
    )
    layer, given = policy.weights.model.layers[1].self_attn.q_proj, torch.randn(5, 32)
    torch.testing.assert_close(layer(given), given @ (own + 2.0 * b @ a).T, rtol=1e-5, atol=1e-5)


def test_adapters_begin_as_nothing_and_with_the_seeds_own_numbers() -> None:
    plain = logits(tiny_llama(0, vocab_size=BYTES))
    found = {}
    for seed in (0, 0, 1):
        trained = Trainable(byte_policy(), lora(seed=seed))
        assert logits(trained.model).equal(plain)
        name = "model.layers.0.mlp.up_proj.lora_A.default.weight"
        own = trained.parameters[name]
        assert seed not in found or own.equal(found[seed])
        found[seed] = own
        assert own.abs().max() > 0
    assert not found[0].equal(found[1])


def test_full_fine_tuning_trains_every_weight_once() -> None:
    policy = byte_policy(tie_word_embeddings=True)
    policy.weights.requires_grad_(False)
    trained = Trainable(policy, options())
    assert dict(policy.weights.named_parameters()).keys() == trained.parameters.keys()
    assert (
        all(weight.requires_grad for weight in trained.parameters.values()) and trained.layers == []
    )
    assert (
        "lm_head.weight" not in trained.parameters
        and "model.embed_tokens.weight" in trained.parameters
    )


def test_adapters_of_a_16_bit_student_are_trained_in_32_bits() -> None:
    policy = byte_policy()
    policy.weights.bfloat16()
    trained = Trainable(policy, lora())
    assert {weight.dtype for weight in trained.parameters.values()} == {torch.float32}
    assert logits(trained.model).dtype == torch.bfloat16


# --- merged for sampling
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", ["llama", "llama tied", "gpt2", "phi with a bias", "gemma2 capped", "opt"]
)
def test_merged_adapters_give_the_logits_of_the_unmerged_and_come_back_bit_by_bit(
    kind: str,
) -> None:
    policy = of_family(kind)
    plain = logits(policy.weights)
    trained = moved(Trainable(policy, lora()))
    before = {name: weight.clone() for name, weight in policy.weights.state_dict().items()}
    unmerged = logits(trained.model)
    assert (unmerged - plain).abs().max() > 0.1
    with trained.merged():
        assert all(layer.merged for layer in trained.layers)
        torch.testing.assert_close(logits(trained.model), unmerged, rtol=1e-4, atol=1e-4)
    assert logits(trained.model).equal(unmerged) and not any(
        layer.merged for layer in trained.layers
    )
    after = policy.weights.state_dict()
    assert before.keys() == after.keys() and all(before[name].equal(after[name]) for name in before)


def test_merging_again_and_again_leaves_no_trace() -> None:
    """Adding and taking away would: weights are put aside instead."""
    trained = moved(Trainable(byte_policy(), lora()))
    own = trained.layers[0].get_base_layer().weight
    kept, place = own.clone(), own.data_ptr()
    for _ in range(20):
        with trained.merged():
            assert not trained.layers[0].get_base_layer().weight.equal(kept)
    assert own.equal(kept) and own.data_ptr() == place
    delta = trained.layers[0].get_delta_weight("default")
    assert not (kept + delta - delta).equal(kept)


def test_weights_come_back_when_sampling_fails_and_when_merging_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = moved(Trainable(byte_policy(), lora()))
    unmerged = logits(trained.model)
    with pytest.raises(RuntimeError, match="out of memory"), trained.merged():
        raise RuntimeError("out of memory")
    assert logits(trained.model).equal(unmerged)

    def fail(name: str) -> Tensor:
        raise RuntimeError("no room for the sum")

    monkeypatch.setattr(trained.layers[7], "get_delta_weight", fail)
    with pytest.raises(RuntimeError, match="no room"), trained.merged():
        pass
    assert logits(trained.model).equal(unmerged) and not any(
        layer.merged for layer in trained.layers
    )


def test_what_is_sampled_merged_is_what_the_trained_student_would_write() -> None:
    policy = byte_policy()
    plain = tiny_llama(0, vocab_size=BYTES)
    trained = moved(Trainable(policy, lora()))
    requests = random_requests([(4, 0), (7, 0), (3, 0)], 12, vocab=BYTES)
    greedy, engine = SamplingSettings(temperature=0), TransformersEngine(policy)
    with trained.merged():
        found = engine.sample(requests, greedy)
    unmerged = engine.sample(requests, greedy)
    base = TransformersEngine(Policy("tiny", plain, policy.tokenizer, policy.identity)).sample(
        requests, greedy
    )
    assert found == unmerged != base


def test_a_gradient_after_sampling_is_that_of_the_unmerged_weights() -> None:
    trained = moved(Trainable(byte_policy(), lora()))
    gradients = []
    for merge_first in (False, True):
        trained.model.zero_grad(set_to_none=True)
        if merge_first:
            with trained.merged():
                logits(trained.model)
        trained.model(input_ids=IDS).logits.square().mean().backward()
        gradients.append(
            [
                weight.grad.clone()
                for weight in trained.parameters.values()
                if weight.grad is not None
            ]
        )
    assert len(gradients[0]) == len(trained.parameters)
    assert all(one.equal(other) for one, other in zip(*gradients, strict=True))


def test_full_fine_tuning_has_nothing_to_merge() -> None:
    trained = moved(Trainable(byte_policy(), options()))
    before = logits(trained.model)
    with trained.merged():
        assert logits(trained.model).equal(before)


# --- saved and loaded
# ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("models") / "base")


def test_a_saved_adapter_loads_as_what_was_trained(base: Path, tmp_path: Path) -> None:
    trained = moved(Trainable(loading.load(str(base)), lora()))
    trained.save(tmp_path / "step-000050", "# a card\n")
    folder = tmp_path / "step-000050"
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "README.md",
    } <= set(os.listdir(folder))
    assert "model.safetensors" not in os.listdir(folder)
    assert (folder / "README.md").read_text() == "# a card\n"
    loaded = loading.load(str(folder))
    torch.testing.assert_close(logits(loaded.weights), logits(trained.model), rtol=1e-4, atol=1e-4)
    assert (logits(loaded.weights) - logits(loading.load(str(base)).weights)).abs().max() > 0.1
    assert loaded.identity.base is not None and loaded.identity.base.name == str(base)
    assert loaded.tokenizer.get_vocab() == trained.student.tokenizer.get_vocab()
    assert loaded.tokenizer.chat_template == trained.student.tokenizer.chat_template
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base) and (
        config["r"],
        config["lora_alpha"],
    ) == (3, 12)
    assert (
        loading.load(str(tmp_path)).identity.contents == loaded.identity.contents
    )  # the run's folder: its last one


def test_a_saved_adapter_names_its_student_as_it_was_asked_for(base: Path, tmp_path: Path) -> None:
    """Not by the folder that the name stood for, and with the revision that was trained."""
    student = loading.load(str(base))
    student.name = "owner/base"
    Trainable(student, lora(student_revision="v1.2")).save(tmp_path / "step-000001", "")
    config = json.loads((tmp_path / "step-000001" / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("owner/base", "v1.2")
    assert loading.adapter_base(tmp_path / "step-000001") == "owner/base"


def test_a_saved_adapter_loads_by_peft_alone(base: Path, tmp_path: Path) -> None:
    trained = moved(Trainable(loading.load(str(base)), lora()))
    trained.save(tmp_path / "step-000001", "")
    model = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(str(base)), str(tmp_path / "step-000001")
    )
    torch.testing.assert_close(logits(model.eval()), logits(trained.model), rtol=1e-5, atol=1e-5)


def test_full_fine_tuning_saves_a_model_folder(base: Path, tmp_path: Path) -> None:
    trained = moved(Trainable(loading.load(str(base)), options()))
    trained.save(tmp_path / "step-000050", "# a card\n")
    folder = tmp_path / "step-000050"
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= set(
        os.listdir(folder)
    )
    loaded = loading.load(str(folder))
    assert logits(loaded.weights).equal(logits(trained.model))
    assert (logits(loaded.weights) - logits(loading.load(str(base)).weights)).abs().max() > 0.1


def test_weights_of_16_bits_are_not_merged_since_rounding_would_take_small_adapters_away(
    base: Path, tmp_path: Path
) -> None:
    settings = loading.LoadSettings(dtype="bfloat16")
    plain = logits(loading.load(str(base), settings).weights)
    trained = moved(Trainable(loading.load(str(base), settings), lora()))
    unmerged, own = logits(trained.model), trained.layers[0].get_base_layer().weight
    assert unmerged.dtype == torch.bfloat16 and not unmerged.equal(plain)
    with trained.merged():
        assert (
            logits(trained.model).equal(unmerged)
            and trained.layers[0].get_base_layer().weight is own
        )
    small = moved(Trainable(loading.load(str(base), settings), lora()), 1e-3).layers[0]
    weight, delta = small.get_base_layer().weight, small.get_delta_weight("default")
    assert ((weight + delta.bfloat16()) == weight)[delta.abs() > 0].double().mean() > 0.5
    trained.save(tmp_path / "step-000001", "")
    loaded = logits(loading.load(str(tmp_path / "step-000001"), settings).weights)
    assert (
        loaded.dtype == torch.bfloat16
        and (loaded - unmerged).abs().mean() < 0.05 * (unmerged - plain).abs().mean()
    )


@pytest.mark.parametrize("fails", ["tokenizer", "model"])
def test_a_folder_appears_whole_or_not_at_all(
    fails: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = moved(Trainable(loading.load(str(base)), lora()))
    folder, seen = tmp_path / "step-000050", []

    def full_disk(*arguments: Any, **more: Any) -> None:
        seen.append(os.listdir(tmp_path))
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        what = trained.student.tokenizer if fails == "tokenizer" else trained.adapter
        patch.setattr(what, "save_pretrained", full_disk)
        with pytest.raises(OSError):
            trained.save(folder, "")
    assert not folder.exists() and seen and steps(tmp_path) == []
    trained.save(folder, "")  # what was left behind does not stand in the way
    assert os.listdir(tmp_path) == ["step-000050"]
    first = (folder / "adapter_model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(what, "save_pretrained", full_disk)
        with pytest.raises(OSError):
            moved(trained).save(folder, "")
    assert (folder / "adapter_model.safetensors").read_bytes() == first  # the one before is intact
    trained.save(folder, "")
    assert (folder / "adapter_model.safetensors").read_bytes() != first


# --- refused
# ---------------------------------------------------------------------------


def refused(policy: Policy, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        Trainable(policy, lora(**changes))
    message = str(error.value)
    assert "\n" not in message
    return message


def test_an_adapter_is_trained_on_as_it_was_loaded(base: Path, tmp_path: Path) -> None:
    """With adapters of its own, which name the first as their base, or whole."""
    moved(Trainable(loading.load(str(base)), lora())).save(tmp_path / "first" / "step-000001", "")
    run = tmp_path / "first"
    trained = moved(Trainable(loading.load(str(run)), lora(seed=3)))
    with trained.merged():
        sampled = logits(trained.model)
    torch.testing.assert_close(sampled, logits(trained.model), rtol=1e-4, atol=1e-4)
    trained.save(tmp_path / "second", "")
    assert loading.adapter_base(tmp_path / "second") == str(
        run / "step-000001"
    )  # not a run that may go on
    loaded = loading.load(str(tmp_path / "second"))
    torch.testing.assert_close(logits(loaded.weights), logits(trained.model), rtol=1e-4, atol=1e-4)
    assert [link.name for link in loading.chain(str(tmp_path / "second"))] == [
        str(tmp_path / "second"),
        str(run / "step-000001"),
        str(base),
    ]
    whole = moved(Trainable(loading.load(str(run)), options()))
    whole.save(tmp_path / "step-000002", "")
    assert logits(loading.load(str(tmp_path / "step-000002")).weights).equal(logits(whole.model))


def test_an_adapter_that_16_bits_keep_beside_the_weights_is_trained_on_and_stays_what_it_is(
    base: Path, tmp_path: Path
) -> None:
    moved(Trainable(loading.load(str(base)), lora(lora_targets="q_proj,up_proj"))).save(
        tmp_path / "first", ""
    )
    settings = loading.LoadSettings(dtype="bfloat16")
    student = loading.load(str(tmp_path / "first"), settings)
    untrained = logits(student.weights)
    trained = Trainable(student, lora(lora_targets="q_proj,v_proj"))
    assert logits(trained.model).equal(untrained) and trained.kept == ("loaded0",)
    assert (
        all(".lora_" in name and ".default." in name for name in trained.parameters)
        and len(trained.parameters) == 12
    )
    kept = {
        name: one.clone() for name, one in student.weights.named_parameters() if ".loaded0." in name
    }
    trained.model(input_ids=IDS).logits.square().mean().backward()
    assert all(one.grad is not None for one in trained.parameters.values())
    moved(trained)
    assert (logits(trained.model) - untrained).abs().max() > 0.1
    with trained.merged():
        now = logits(trained.model)
    assert now.equal(logits(trained.model))
    trained.save(tmp_path / "second", "")
    assert sorted(os.listdir(tmp_path / "second")) == sorted(os.listdir(tmp_path / "first"))
    loaded = loading.load(str(tmp_path / "second"), settings)
    assert logits(loaded.weights).equal(logits(trained.model))
    after = dict(student.weights.named_parameters())
    assert kept and all(one.equal(after[name]) for name, one in kept.items())
    message = refused(loading.load(str(tmp_path / "first"), settings), full_finetune=True)
    assert (
        "cannot be merged into its torch.bfloat16 weights" in message
        and "--dtype float32" in message
    )


LEAVES = (
    "its linear layers are down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj"
)


@pytest.mark.parametrize("targets", ["wq", "wq,wk", "norm", "Q_PROJ", "proj"])
def test_targets_that_match_nothing_are_refused_with_those_there_are(targets: str) -> None:
    message = refused(byte_policy(), lora_targets=targets)
    assert f"--lora-targets {targets}" in message and message.endswith(LEAVES)


def test_one_target_among_several_that_matches_nothing_is_refused_by_name() -> None:
    message = refused(byte_policy(), lora_targets="q_proj, wk,v_proj")
    assert ": wk matches no layer" in message and message.endswith(LEAVES)


def test_targets_are_matched_by_their_last_parts() -> None:
    trained = Trainable(
        byte_policy(), lora(lora_targets="self_attn.q_proj, up_proj,model.layers.1.mlp.gate_proj")
    )
    assert len(trained.layers) == 3 + 3 + 1
    assert len(Trainable(byte_policy(), lora(lora_targets="lm_head")).layers) == 1


@pytest.mark.parametrize("targets", ["lm_head", "q_proj,embed_tokens"])
def test_a_layer_that_lends_its_weights_to_another_one_is_refused(targets: str) -> None:
    """With tied embeddings an adapter on the head, merged, would change the input embeddings:
    another policy would be sampled, and loaded, than was trained."""
    message = refused(byte_policy(tie_word_embeddings=True), lora_targets=targets)
    assert f"{targets.split(',')[-1]} of tiny shares its weights" in message
    assert len(Trainable(byte_policy(), lora(lora_targets=targets)).layers) > 0


def test_dropout_is_off_where_activations_are_computed_twice() -> None:
    """That needs training mode, and in it nothing may be random: kept as a module, or as a plain
    number."""
    policy = of_family("gpt2")
    for module in policy.weights.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    trained = Trainable(policy, lora(gradient_checkpointing=True))
    policy.weights.train()
    assert policy.weights.is_gradient_checkpointing
    assert trained.model(input_ids=IDS).logits.equal(trained.model(input_ids=IDS).logits)
    llama = byte_policy(attention_dropout=0.5)
    Trainable(llama, lora(gradient_checkpointing=True))
    llama.weights.train()
    assert llama.weights(input_ids=IDS).logits.equal(llama.weights(input_ids=IDS).logits)
