"""Adapters as they are loaded, against the unmerged model as PEFT runs it: tied heads, chains, 16
bits, new rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from made_adapters import (
    BYTES,
    CPU,
    FAMILIES,
    SHORT,
    adapter,
    distance,
    edit,
    grown,
    logprobs,
    lora,
    moved,
    refusal,
    save_family,
    unmerged,
)
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import (
    byte_tokenizer,
    equal_up_to_near_ties,
    greedy_by_generate,
    random_requests,
    randomised,
)
from torch import Tensor
from transformers import AutoModelForCausalLM

from decaylab.errors import UserError
from decaylab.policies import adapter_loading, loading, served_policies
from decaylab.rollouts.sampling import SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.tokens.heads import Head

pytestmark = [
    pytest.mark.filterwarnings("ignore:Model .*with `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
]


# --- against the unmerged model
# ---------------------------------------------------------------------------


EMBEDDINGS = {
    "gpt2": "wte",
    "gpt_neox": "embed_in",
    "falcon": "word_embeddings",
    "bloom": "word_embeddings",
}


def embedding_of(kind: str) -> str:
    return EMBEDDINGS.get(kind, "embed_tokens")


KINDS: dict[str, Callable[[str], LoraConfig]] = {
    "linear layers": lambda kind: lora("all-linear"),
    "head": lambda kind: lora("lm_head"),
    "embeddings": lambda kind: lora(embedding_of(kind)),
    "both": lambda kind: lora(embedding_of(kind), "lm_head"),
    "whole head": lambda kind: lora("all-linear", modules_to_save=["lm_head"]),
    "whole embeddings": lambda kind: lora("all-linear", modules_to_save=[embedding_of(kind)]),
    "some rows": lambda kind: lora("all-linear", trainable_token_indices=[5, 9, 40]),
}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_loaded_log_probabilities_are_those_of_the_unmerged_adapter(
    kind: str, tied: bool, tmp_path: Path
) -> None:
    base = save_family(tmp_path / "base", kind, tied)
    plain = AutoModelForCausalLM.from_pretrained(base).eval()
    for what, config in KINDS.items():
        folder = adapter(tmp_path / what.replace(" ", "-"), base, config(kind))
        truth, policy = unmerged(folder, base), loading.load(str(folder), CPU)
        assert distance(policy.weights, truth) < 1e-4, what
        assert distance(truth, plain) > 0.01, what
        assert policy.notes == () and not adapter_loading.tuner_layers(policy.weights), (
            what
        )  # merged, by two matrices
        policy.weights.save_pretrained(tmp_path / "merged")  # as vLLM is given it
        assert distance(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), truth) < 1e-4, (
            what
        )
        head = Head(policy)
        ids = torch.arange(3, 23)[None]
        with torch.inference_mode():
            states = head.states(ids, torch.zeros(20, dtype=torch.long), torch.arange(20))
            found = head.logits(states).log_softmax(-1)
        assert (found - logprobs(truth)[0]).abs().max() < 2e-4, what


@pytest.mark.parametrize("tied_too", [False, True])
def test_a_tied_head_may_be_trained_with_its_tie_kept(tied_too: bool, tmp_path: Path) -> None:
    base = save_family(tmp_path / "base", "llama", True)
    for number, more in enumerate(
        (
            {"target_modules": ["lm_head", "q_proj"]},
            {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
            {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
            {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 8]}},
        )
    ):
        config = LoraConfig(r=2, task_type="CAUSAL_LM", ensure_weight_tying=tied_too, **more)
        folder = adapter(tmp_path / f"adapter-{number}", base, config)
        truth = unmerged(folder, base)
        policy = loading.load(str(folder), CPU)
        assert distance(policy.weights, truth) < 1e-4
        assert distance(truth, AutoModelForCausalLM.from_pretrained(base).eval()) > 0.01


def test_the_nearest_wrong_reading_of_a_tied_head_is_far_off(tmp_path: Path) -> None:
    """Merged into the one matrix, the head's adapter would change the embeddings too."""
    base = save_family(tmp_path / "base", "llama", True)
    folder = adapter(tmp_path / "adapter", base, lora("lm_head"))
    wrong = unmerged(folder, base).merge_and_unload()
    assert distance(wrong, unmerged(folder, base)) > 0.1
    policy = loading.load(str(folder), CPU)
    assert not policy.config.tie_word_embeddings
    assert distance(policy.weights, unmerged(folder, base)) < 1e-4


OTHERS: dict[str, Callable[[], Any]] = {
    "DoRA": lambda: lora(use_dora=True),
    "rsLoRA": lambda: lora(use_rslora=True),
    "patterns": lambda: lora(rank_pattern={"q_proj": 4}, alpha_pattern={"v_proj": 32}),
    "biases": lambda: lora("all-linear", bias="all"),
    "IA3": lambda: peft.IA3Config(
        target_modules=["k_proj", "v_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        task_type="CAUSAL_LM",
    ),
    "LoHa": lambda: peft.LoHaConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    "LoKr": lambda: peft.LoKrConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    "OFT": lambda: peft.OFTConfig(
        r=0, oft_block_size=8, target_modules=["q_proj"], task_type="CAUSAL_LM"
    ),
    "VeRA": lambda: peft.VeraConfig(
        r=4, target_modules=["q_proj"], task_type="CAUSAL_LM", save_projection=True
    ),
    "layer norms": lambda: peft.LNTuningConfig(
        task_type="CAUSAL_LM", target_modules=["input_layernorm", "norm"]
    ),
    "token rows": lambda: peft.TrainableTokensConfig(
        token_indices=[4, 7], target_modules=["embed_tokens"], task_type="CAUSAL_LM"
    ),
}


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("what", OTHERS)
def test_other_kinds_of_adapter_give_the_unmerged_log_probabilities(
    what: str, tied: bool, tmp_path: Path
) -> None:
    base = save_family(tmp_path / "base", "llama", tied)
    folder = adapter(tmp_path / "adapter", base, OTHERS[what]())
    policy = loading.load(str(folder), CPU)
    assert distance(policy.weights, unmerged(folder, base)) < 1e-4
    assert distance(policy.weights, AutoModelForCausalLM.from_pretrained(base).eval()) > 1e-3


# --- chains
# ---------------------------------------------------------------------------


STEPS = {
    "same layers": (["q_proj", "v_proj"], ["q_proj", "v_proj"]),
    "other layers": (["q_proj"], ["up_proj", "down_proj"]),
    "some of them": (["q_proj", "up_proj"], ["q_proj", "k_proj"]),
    "three deep": (["q_proj"], ["q_proj", "v_proj"], ["down_proj", "q_proj"]),
}


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_an_adapter_on_an_adapter_is_loaded_with_all_below_it(
    steps: tuple[list[str], ...], tmp_path: Path
) -> None:
    folders, truth = grown(tmp_path, *(lora(*targets) for targets in steps))
    policy = loading.load(str(folders[-1]), CPU)
    assert distance(policy.weights, truth) < 1e-4
    edit(folders[-1], base_model_name_or_path=str(folders[0]))
    alone = loading.load(str(folders[-1]), CPU)
    assert distance(alone.weights, truth) > 0.1  # the last one alone on the plain base
    assert alone.identity.contents != policy.identity.contents
    assert (
        policy.identity.base is not None
        and policy.identity.base.contents == loading.load(str(folders[-2]), CPU).identity.contents
    )


def test_an_adapter_on_a_dora_with_a_head_of_its_own_is_loaded_with_it(tmp_path: Path) -> None:
    first = lora("q_proj", use_dora=True, modules_to_save=["lm_head"])
    folders, truth = grown(tmp_path, first, lora("q_proj", "lm_head"))
    assert distance(loading.load(str(folders[-1]), CPU).weights, truth) < 1e-4


@pytest.mark.parametrize("how", ["beside", "here", "run folder", "link"])
def test_a_base_is_found_from_the_adapters_folder_and_from_here(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    folders, truth = grown(tmp_path / "models", lora(), lora())
    a, b = folders[1:]
    if how == "beside":
        edit(b, base_model_name_or_path="../a")
        edit(a, base_model_name_or_path="../base")
    if how == "here":
        edit(b, base_model_name_or_path="models/a")
        edit(a, base_model_name_or_path="./models/base")
        monkeypatch.chdir(tmp_path)
    if how == "run folder":  # its last checkpoint
        shutil.copytree(a, tmp_path / "run" / "checkpoint-10")
        shutil.copytree(b, tmp_path / "run" / "checkpoint-9")
        edit(tmp_path / "run" / "checkpoint-9", base_model_name_or_path=str(folders[0]))
        edit(b, base_model_name_or_path=str(tmp_path / "run"))
    if how == "link":
        (tmp_path / "link").symlink_to(a)
        edit(b, base_model_name_or_path=str(tmp_path / "link"))
    assert distance(loading.load(str(b), CPU).weights, truth) < 1e-4
    served = served_policies.serve(str(b), CPU)
    assert served.identity == loading.load(str(b), CPU).identity


def test_two_folders_that_a_base_could_mean_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_family(tmp_path / "base", "llama", False)
    folder = adapter(tmp_path / "adapter", base, lora(), name="base")
    shutil.copytree(base, folder / "base")
    assert distance(loading.load(str(folder), CPU).weights, unmerged(folder, base)) < 1e-4
    monkeypatch.chdir(tmp_path)
    assert "its base base is a folder here" in refusal(
        folder
    ) and "to the full path of one of them" in refusal(folder)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_bases_in_a_circle_are_refused(length: int, tmp_path: Path) -> None:
    folders, _ = grown(tmp_path, lora(), lora(), lora())
    edit(folders[1], base_model_name_or_path=str(folders[length]))
    message = refusal(folders[length])
    assert "form a cycle" in message and message.count(str(folders[1])) >= 1


def test_a_chain_whose_plain_model_is_gone_names_the_adapter_that_wants_it(tmp_path: Path) -> None:
    folders, _ = grown(tmp_path, lora(), lora())
    shutil.rmtree(folders[0])
    assert f"{folders[1]} is an adapter, and its base is missing" in refusal(folders[2])


def test_a_tokenizer_comes_from_the_last_trained_that_has_one(tmp_path: Path) -> None:
    folders, _ = grown(tmp_path, lora(), lora())
    byte_tokenizer("{{ messages[0]['content'] }}!").save_pretrained(folders[1])
    policy = loading.load(str(folders[2]), CPU)
    assert policy.tokenizer.chat_template == "{{ messages[0]['content'] }}!"
    assert (
        loading.load_tokenizer_only(str(folders[2]), CPU).tokenizer.chat_template
        == policy.tokenizer.chat_template
    )


def test_a_base_on_the_hub_is_taken_at_the_revision_that_the_adapter_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_family(tmp_path / "base", "llama", False)
    folder = adapter(tmp_path / "adapter", base, lora(), name="owner/base")
    edit(folder, revision="v1.2")
    monkeypatch.setattr(adapter_loading, "hub_folder", lambda repo, revision: None)
    assert [link.revision for link in loading.chain(str(folder))] == [None, "v1.2"]
    assert [link.revision for link in loading.chain(str(folder), "v2")] == [None, "v2"]


def test_an_adapter_on_the_hub_is_loaded_with_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save_family(tmp_path / "base", "llama", False)
    first = adapter(tmp_path / "first", base, lora())
    second = adapter(
        tmp_path / "second",
        base,
        lora(),
        on=unmerged(first, base).merge_and_unload(),
        name="owner/first",
        seed=2,
    )
    asked = []

    def fetched(repo: str, revision: str | None) -> Path | None:
        asked.append((repo, revision))
        return first

    monkeypatch.setattr(adapter_loading, "hub_folder", fetched)
    monkeypatch.setattr(loading, "hub_commit", lambda repo, revision: "abc")
    policy = loading.load(str(second), CPU)
    assert asked == [("owner/first", None)]
    truth = PeftModel.from_pretrained(unmerged(first, base).merge_and_unload(), str(second)).eval()
    assert distance(policy.weights, truth) < 1e-4
    assert policy.identity.base is not None and policy.identity.base.revision == "abc"


# --- 16 bits
# ---------------------------------------------------------------------------


def test_in_16_bits_a_small_adapter_is_kept_and_not_rounded_away(tmp_path: Path) -> None:
    base = save_family(tmp_path / "base", "llama", False)
    folder = adapter(tmp_path / "adapter", base, lora("all-linear"), scale=0.02)
    policy = loading.load(str(folder), SHORT)
    truth, plain = (
        unmerged(folder, base, torch.bfloat16),
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16),
    )
    assert policy.weights.dtype == torch.bfloat16
    assert logprobs(policy.weights).equal(logprobs(truth))
    rounded = unmerged(folder, base, torch.bfloat16).merge_and_unload()
    assert distance(rounded, truth) > 1e-2 and distance(truth, plain.eval()) > 1e-3
    assert policy.notes[0].startswith(
        f"{folder}: its adapter is not merged into the bfloat16 weights (merging would change"
    )
    assert adapter_loading.kept_adapters(policy.weights) == ("loaded0",)
    assert policy.head_width == BYTES


def test_in_16_bits_whole_modules_are_merged(tmp_path: Path) -> None:
    base = save_family(tmp_path / "base", "llama", False)
    config = lora("q_proj", modules_to_save=["lm_head"])
    model = moved(get_peft_model(AutoModelForCausalLM.from_pretrained(base), config))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.zeros_(weight)
    model.save_pretrained(tmp_path / "adapter")
    edit(tmp_path / "adapter", base_model_name_or_path=str(base))
    policy = loading.load(str(tmp_path / "adapter"), SHORT)
    assert policy.notes == () and adapter_loading.kept_adapters(policy.weights) == ()


def test_a_kept_adapter_is_sampled_scored_and_widened_as_peft_runs_it(tmp_path: Path) -> None:
    base = save_family(tmp_path / "base", "llama", True)
    folder = adapter(tmp_path / "adapter", base, lora("q_proj", "down_proj", "lm_head"))
    policy, truth = loading.load(str(folder), SHORT), unmerged(folder, base, torch.bfloat16)
    assert policy.notes and logprobs(policy.weights).equal(logprobs(truth))
    with policy.wider() as wide:
        assert distance(wide.weights, unmerged(folder, base, torch.bfloat16).float()) < 1e-4
    assert logprobs(policy.weights).equal(logprobs(truth))
    for precision in ("model", "float32"):
        head = Head(policy, precision)
        ids = torch.arange(3, 23)[None]
        with torch.inference_mode():
            found = head.logits(
                head.states(ids, torch.zeros(20, dtype=torch.long), torch.arange(20))
            ).float()
            wanted = truth(input_ids=ids).logits[0].float()
        assert head.shell is not None
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)
    policy.weights.float()
    truth.float()
    requests = random_requests([(4, 0), (7, 2), (3, 5)], 12, vocab=BYTES)
    greedy = SamplingSettings(temperature=0)
    found_tokens = TransformersEngine(policy).sample(requests, greedy)
    expected = greedy_by_generate(truth, requests, sorted(policy.end_ids), policy.pad_id)
    equal_up_to_near_ties(truth, requests, found_tokens, expected, greedy)


def test_in_16_bits_a_chain_of_loras_is_kept_whole(tmp_path: Path) -> None:
    folders, truth = grown(
        tmp_path, lora("q_proj", "v_proj"), lora("q_proj", "down_proj"), lora("all-linear")
    )
    policy = loading.load(str(folders[-1]), SHORT)
    assert adapter_loading.kept_adapters(policy.weights) == ("loaded0", "loaded1", "loaded2")
    assert len(policy.notes) == 3
    with policy.wider() as wide:
        plain = (
            AutoModelForCausalLM.from_pretrained(folders[0], dtype=torch.bfloat16).float().eval()
        )
        exact = loading.load(str(folders[-1]), CPU).weights
        effect = (logprobs(exact) - logprobs(plain)).abs().mean()
        assert (
            logprobs(wide.weights) - logprobs(truth)
        ).abs().mean() < 0.1 * effect  # base weights of 16 bits


def test_in_16_bits_a_chain_that_cannot_be_kept_is_refused_with_the_remedy(tmp_path: Path) -> None:
    folders, truth = grown(tmp_path, lora("q_proj", use_dora=True), lora("q_proj"))
    assert "use --dtype float32" in refusal(folders[-1], SHORT)
    assert distance(loading.load(str(folders[-1]), CPU).weights, truth) < 1e-4


# --- what is refused
# ---------------------------------------------------------------------------

PROMPTS: dict[str, Callable[[], Any]] = {
    "PROMPT_TUNING": lambda: peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    "P_TUNING": lambda: peft.PromptEncoderConfig(
        num_virtual_tokens=3, encoder_hidden_size=16, task_type="CAUSAL_LM"
    ),
    "ADAPTION_PROMPT": lambda: peft.AdaptionPromptConfig(
        adapter_len=3, adapter_layers=1, task_type="CAUSAL_LM"
    ),
}


@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("load", [loading.load, served_policies.serve], ids=["load", "serve"])
def test_learned_prompts_are_refused_before_anything_is_loaded(
    kind: str, load: Any, tmp_path: Path
) -> None:
    base = save_family(tmp_path / "base", "llama", False)
    folder = tmp_path / "adapter"
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), PROMPTS[kind]()).save_pretrained(
        folder
    )
    edit(folder, base_model_name_or_path=str(base))
    with pytest.raises(
        UserError, match=f"adapter of type {kind} .learned prompts.*does not change"
    ) as caught:
        load(str(folder), CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"peft_type": "NEXT_YEARS_LORA"},
            "the installed PEFT cannot read .*, an adapter of type NEXT_YEARS_LORA: upgrade peft",
        ),
        ({"peft_type": None}, "upgrade peft"),
        (
            {"use_next_years_trick": True},
            "does not know the setting use_next_years_trick=True.*upgrade peft",
        ),
        ({"use_next_years_trick": None, "peft_type": "NEXT"}, "upgrade peft"),
        (
            {"alora_invocation_tokens": [3, 4]},
            "adapters with alora_invocation_tokens are not supported",
        ),
        (
            {"layer_replication": [[0, 2], [1, 2]]},
            "adapters with layer_replication are not supported",
        ),
        (
            {"init_lora_weights": "pissa_niter_4"},
            "subtracts a random part from the base at every load",
        ),
        ({"megatron_config": {"a": 1}}, "cannot load the adapter"),
    ],
)
def test_adapters_that_peft_would_read_as_others_are_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = adapter(tmp_path / "adapter", save_family(tmp_path / "base", "llama", False), lora())
    edit(folder, **changes)
    with pytest.raises(UserError, match=message):
        loading.load(str(folder), CPU)


def test_a_setting_that_peft_does_not_know_and_that_is_off_changes_nothing(tmp_path: Path) -> None:
    base = save_family(tmp_path / "base", "llama", False)
    folder = adapter(tmp_path / "adapter", base, lora())
    edit(folder, use_next_years_trick=False, next_years_config=None, peft_version="99.0")
    assert distance(loading.load(str(folder), CPU).weights, unmerged(folder, base)) < 1e-4


def change_tensors(file: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    save_file(change(load_file(file)), file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "extra", ["layers.9.self_attn.q_proj", "layers.0.self_attn.o_proj", "visual.blocks.0.qkv"]
)
def test_an_adapters_tensor_without_a_place_is_refused_by_name(extra: str, tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", save_family(tmp_path / "base", "llama", False), lora())
    name = f"base_model.model.model.{extra}.lora_A.weight"
    change_tensors(
        folder / "adapter_model.safetensors", lambda own: {**own, name: torch.ones(2, 32)}
    )
    message = refusal(folder)
    assert (
        "has 1 tensors that" in message and "does not use, such as" in message and extra in message
    )


def test_the_magnitudes_of_a_dora_that_says_it_is_a_lora_are_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", save_family(tmp_path / "base", "llama", False), lora())
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"
    change_tensors(folder / "adapter_model.safetensors", lambda own: {**own, name: torch.ones(32)})
    assert "does not use, such as" in refusal(folder)


def test_in_16_bits_a_lora_that_changed_the_base_is_not_laid_beside_another(tmp_path: Path) -> None:
    folders, truth = grown(
        tmp_path, lora("q_proj", "v_proj"), lora("q_proj", init_lora_weights="pissa")
    )
    assert "use --dtype float32" in refusal(folders[-1], SHORT)
    assert distance(loading.load(str(folders[-1]), CPU).weights, truth) < 1e-4


def test_an_adapter_of_another_rank_than_it_says_is_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", save_family(tmp_path / "base", "llama", False), lora())
    edit(folder, r=4)
    assert "size mismatch" in refusal(folder) or "cannot load the adapter" in refusal(folder)


def test_an_adapter_beside_whole_weights_is_refused(tmp_path: Path) -> None:
    base = save_family(tmp_path / "base", "llama", False)
    folder = adapter(tmp_path / "adapter", base, lora())
    shutil.copy(base / "model.safetensors", folder)
    assert "contains both an adapter" in refusal(folder)


def test_an_adapter_of_a_classifier_is_refused(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "adapter", save_family(tmp_path / "base", "llama", False), lora())
    edit(folder, task_type="SEQ_CLS", modules_to_save=["score"])
    name = "base_model.model.score.weight"
    change_tensors(
        folder / "adapter_model.safetensors", lambda own: {**own, name: torch.ones(2, 32)}
    )
    assert "score" in refusal(folder)


# --- vocabularies that training resized
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize("whole", [False, True], ids=["saved beside", "modules_to_save"])
@pytest.mark.parametrize("rows", [BYTES + 3, 320, 250])
def test_new_rows_come_with_the_adapter(tied: bool, whole: bool, rows: int, tmp_path: Path) -> None:
    base = save_family(tmp_path / "base", "llama", tied)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(rows, mean_resizing=False)
    randomised(model.get_input_embeddings(), seed=7)
    config = lora(modules_to_save=["embed_tokens", "lm_head"]) if whole else lora()
    trained = moved(get_peft_model(model, config))
    trained.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    edit(tmp_path / "adapter", base_model_name_or_path=str(base))
    policy = loading.load(str(tmp_path / "adapter"), CPU)
    assert policy.head_width == rows
    assert distance(policy.weights, trained) < 1e-4


@pytest.mark.parametrize(
    ("tied", "more"),
    [
        (False, {"modules_to_save": ["embed_tokens"]}),
        (False, {"modules_to_save": ["lm_head"]}),
        (True, {"modules_to_save": ["embed_tokens"]}),  # the head keeps the base's own matrix
        (False, {"trainable_token_indices": [261, 299]}),
    ],
)
def test_new_rows_that_were_not_saved_are_refused_with_the_remedy(
    tied: bool, more: dict[str, Any], tmp_path: Path
) -> None:
    base = save_family(tmp_path / "base", "llama", tied)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(300, mean_resizing=False)
    trained = moved(get_peft_model(model, lora(**more)))
    trained.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    edit(tmp_path / "adapter", base_model_name_or_path=str(base))
    message = refusal(tmp_path / "adapter")
    assert (
        f"a vocabulary of 300 rows, but {base} has 261" in message
        and "save_embedding_layers=True" in message
    )


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_new_rows_that_were_trained_by_name_come_with_the_adapter(
    tied: bool, tmp_path: Path
) -> None:
    base = save_family(tmp_path / "base", "llama", tied)
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(264, mean_resizing=False)
    trained = moved(get_peft_model(model, lora(trainable_token_indices=[261, 262, 263])))
    trained.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    edit(tmp_path / "adapter", base_model_name_or_path=str(base))
    assert distance(loading.load(str(tmp_path / "adapter"), CPU).weights, trained) < 1e-4


def test_an_adapter_that_left_its_new_rows_behind_is_refused_when_one_is_asked_for(
    tmp_path: Path,
) -> None:
    """Its tokenizer has a token that the model has no embedding of."""
    base = save_family(tmp_path / "base", "llama", False)
    folder = adapter(tmp_path / "adapter", base, lora())
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|think|>"]})
    tokenizer.pad_token = "<|think|>"
    tokenizer.save_pretrained(folder)
    policy = loading.load(str(folder), CPU)
    assert policy.pad_id < BYTES
    assert policy.encode("a") and policy.decode(policy.encode("a")) == "a"
    with pytest.raises(
        UserError, match=r"<\|think\|>.*261 embeddings: save the resized embeddings"
    ):
        policy.encode("<|think|>")
