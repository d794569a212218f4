"""Policies: what a name can mean, what each bad folder is told, prompts, end tokens, and
vocabularies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models as tiny
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny_models import byte_tokenizer, save_folder
from transformers import AutoModelForCausalLM, GenerationConfig

from decaylab.errors import UserError
from decaylab.policies import loading
from decaylab.policies.embedded import EMBEDDED
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import LoadSettings, Policy, end_ids
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems.problem import Problem

CPU = LoadSettings(device="cpu")
PLAIN = LoadSettings(device="cpu", prompt_format="plain")
PROBLEM = Problem("p", "What is 2+3?", "5")
WEIGHTS = "model.safetensors"


def refusal(name: str | Path, settings: LoadSettings = CPU) -> str:
    """The one line that a user gets."""
    with pytest.raises(UserError) as caught:
        loading.load(str(name), settings)
    message = str(caught.value)
    assert "\n" not in message and message.strip()
    return message


def policy_of(tokenizer: Any, settings: LoadSettings = CPU, model: Any = None) -> Policy:
    return Policy("some", model, tokenizer, PolicyIdentity("some", "folder", "", ""), settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_folder(tmp_path / "model")


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# What a name can mean


def test_a_folder_loads_with_the_weights_that_are_in_it(folder: Path) -> None:
    policy = loading.load(str(folder), CPU)
    saved = load_file(folder / WEIGHTS)
    loaded = policy.weights.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())
    assert not policy.weights.training
    assert policy.identity.source == "folder" and policy.identity.base is None
    assert policy.context_length == 256


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_embedded_pair_loads_by_name(name: str) -> None:
    policy = loading.load(name, CPU)
    assert policy.identity.source == "embedded"
    assert policy.pad_id not in policy.end_ids
    (one,) = policy.tokenizer("7", add_special_tokens=False)["input_ids"]
    assert policy.decode([one]) == "7"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_precision_is_the_one_asked_for(folder: Path, dtype: Any) -> None:
    assert loading.load(
        str(folder), LoadSettings(dtype=dtype, device="cpu")
    ).weights.dtype == getattr(torch, dtype)


def test_the_precision_on_the_cpu_is_float32_unless_asked(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "model")
    AutoModelForCausalLM.from_pretrained(folder).to(torch.bfloat16).save_pretrained(folder)
    assert loading.load(str(folder), CPU).weights.dtype == torch.float32


@pytest.mark.parametrize("stem", ["checkpoint", "step"])
def test_of_a_folder_of_checkpoints_the_last_counts_by_number(tmp_path: Path, stem: str) -> None:
    for number in (9, 100, 20):
        save_folder(tmp_path / f"{stem}-{number}", seed=number)
    (tmp_path / f"{stem}-notes").mkdir()
    assert loading.resolve(str(tmp_path)) == tmp_path / f"{stem}-100"
    loaded = loading.load(str(tmp_path), CPU)
    wanted = loading.load(str(tmp_path / f"{stem}-100"), CPU)
    assert loaded.identity.content_hash == wanted.identity.content_hash


def test_a_hub_id_is_left_to_the_hub() -> None:
    assert loading.resolve("Qwen/Qwen3-1.7B") == "Qwen/Qwen3-1.7B"


def test_a_tokenizer_alone_reads_and_writes_but_has_no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    policy = loading.load_tokenizer_only(str(folder), CPU)
    assert policy.decode(policy.encode("4 apples")) == "4 apples"
    with pytest.raises(ValueError, match="loaded without weights"):
        _ = policy.weights


def test_a_tokenizer_alone_knows_the_ends_that_the_model_lists_beside_it(
    folder: Path, tmp_path: Path
) -> None:
    edit(folder / "config.json", lambda config: config.update(eos_token_id=[1, 7]))
    GenerationConfig(eos_token_id=[1, 5]).save_pretrained(folder)
    whole = loading.load(str(folder), CPU)
    (folder / WEIGHTS).unlink()
    assert loading.load_tokenizer_only(str(folder), CPU).end_ids == whole.end_ids == {1, 5, 7}
    adapter = tmp_path / "adapter"
    byte_tokenizer().save_pretrained(adapter)
    (adapter / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(folder)})
    )
    assert loading.load_tokenizer_only(str(adapter), CPU).end_ids == {1, 5, 7}
    edit(
        adapter / "adapter_config.json",
        lambda config: config.update(base_model_name_or_path="nobody/nothing"),
    )
    assert loading.load_tokenizer_only(str(adapter), CPU).end_ids == {1}
    (folder / "generation_config.json").write_text("{")
    assert loading.load_tokenizer_only(str(folder), CPU).end_ids == {1, 7}


def test_a_tokenizer_of_the_hub_knows_the_ends_that_the_cache_holds(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    GenerationConfig(eos_token_id=[1, 5]).save_pretrained(folder)
    cached = tmp_path / "hub" / "models--some--model"
    shutil.copytree(folder, cached / "snapshots" / "0123abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123abc")
    for place in (
        "huggingface_hub.constants.HF_HUB_CACHE",
        "transformers.utils.hub.constants.HF_HUB_CACHE",
    ):
        monkeypatch.setattr(place, str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert loading.load_tokenizer_only("some/model", CPU).end_ids == {1, 5}


# Bad input


@pytest.mark.parametrize("name", ["no-such-model", "./no/such/folder", "/no/such/folder", "a b/c"])
def test_an_unknown_name_lists_what_a_name_can_be(name: str) -> None:
    message = refusal(name)
    assert (
        repr(name) in message
        and "folder" in message
        and "hub id" in message
        and "abacus-teacher" in message
    )


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"")
    assert "is a file" in refusal(tmp_path / "weights.safetensors")


def test_a_folder_of_something_else_is_not_a_model(tmp_path: Path) -> None:
    assert "not a model folder" in refusal(tmp_path)


def test_a_folder_without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert f"{folder} has a config.json but no weights" in refusal(folder)


def test_pickled_weights_are_not_read(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    message = refusal(folder)
    assert "pickled weights (pytorch_model.bin)" in message and "safetensors" in message


def test_truncated_weights(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: len(content) // 2])
    assert f"cannot load {folder}" in refusal(folder)


def test_weights_that_lack_a_tensor_are_not_filled_with_random_numbers(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    message = refusal(folder)
    assert "lack 1 of its model's tensors" in message and "layers.1.mlp.up_proj" in message


def test_weights_of_another_size(folder: Path) -> None:
    edit(folder / "config.json", lambda config: config.update(intermediate_size=40))
    message = refusal(folder)
    assert "do not match its config.json" in message and "is (32, 48), not (32, 40)" in message


def test_tied_weights_are_not_missing(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "tied", tie_word_embeddings=True)
    assert "lm_head.weight" not in load_file(folder / WEIGHTS)
    loading.load(str(folder), CPU)


@pytest.mark.parametrize("content", ["{", "{}", '{"model_type": "no-such-architecture"}'])
def test_a_config_that_says_nothing(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    assert f"cannot load {folder}" in refusal(folder)


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    assert f"{folder} has no tokenizer" in refusal(folder)


def test_a_malformed_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    assert "tokenizer" in refusal(folder)


def test_a_tokenizer_without_a_template_points_to_the_plain_format(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "base", tokenizer=byte_tokenizer(None))
    message = refusal(folder)
    assert "no chat template" in message and "--prompt-format plain" in message
    policy = loading.load(str(folder), PLAIN)
    assert (
        policy.decode(policy.prompt_ids(PROBLEM, "Be brief."))
        == "Question: What is 2+3?\nBe brief.\nAnswer:"
    )


def test_a_tokenizer_that_can_never_end_a_turn() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end-of-sequence token"):
        policy_of(tokenizer)


# Adapters


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA with B far from zero, on a base folder beside it."""
    base = AutoModelForCausalLM.from_pretrained(save_folder(tmp_path / "base"))
    model = get_peft_model(
        base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    )
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.5, generator=generator)
    model.save_pretrained(tmp_path / "adapter")
    edit(
        tmp_path / "adapter" / "adapter_config.json",
        lambda c: c.update(base_model_name_or_path=str(tmp_path / "base")),
    )
    return tmp_path / "adapter"


def test_an_adapter_gives_the_logits_of_the_unmerged_model(adapter: Path) -> None:
    policy = loading.load(str(adapter), CPU)
    base = AutoModelForCausalLM.from_pretrained(adapter.parent / "base").eval()
    ids = torch.arange(5, 25)[None]
    with torch.inference_mode():
        plain = base(input_ids=ids).logits
        unmerged = PeftModel.from_pretrained(base, str(adapter)).eval()(input_ids=ids).logits
        merged = policy.weights(input_ids=ids).logits
    torch.testing.assert_close(merged, unmerged, atol=1e-4, rtol=1e-4)
    assert (merged - plain).abs().max() > 0.1
    assert not policy.weights.training and not isinstance(policy.weights, PeftModel)


def test_an_adapters_identity_holds_its_bases(adapter: Path) -> None:
    base = loading.load(str(adapter.parent / "base"), CPU)
    identity = loading.load(str(adapter), CPU).identity
    assert identity.source == "adapter" and identity.base == base.identity
    assert identity.content_hash != base.identity.content_hash


def test_an_adapter_whose_base_is_missing(adapter: Path) -> None:
    base = adapter.parent / "base"
    shutil.rmtree(base)
    message = refusal(adapter)
    assert f"{adapter} is an adapter, and its base is missing" in message and str(base) in message


def test_an_adapter_whose_base_has_no_weights(adapter: Path) -> None:
    (adapter.parent / "base" / WEIGHTS).unlink()
    assert f"{adapter} is an adapter" in refusal(adapter)


def test_an_adapter_that_names_no_base(adapter: Path) -> None:
    edit(
        adapter / "adapter_config.json", lambda config: config.update(base_model_name_or_path=None)
    )
    assert "names no base model" in refusal(adapter)


def test_a_pickled_adapter_is_not_read(adapter: Path) -> None:
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    assert "adapter_model.safetensors is missing" in refusal(adapter)


def test_an_adapter_for_another_model(adapter: Path) -> None:
    save_folder(adapter.parent / "base", hidden_size=48)
    assert f"cannot load the adapter {adapter}" in refusal(adapter)


def test_an_adapter_without_some_of_its_tensors_is_not_passed_off_as_its_base(
    adapter: Path,
) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    renamed = {name.replace("layers.1.", "blocks.1."): tensor for name, tensor in tensors.items()}
    save_file(renamed, adapter / "adapter_model.safetensors", metadata={"format": "pt"})
    message = refusal(adapter)
    assert "missing adapter keys" in message and "layers.1" in message


# What a policy is


def test_the_content_hash_does_not_depend_on_the_path(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "README.md").write_text("about")
    first, second = (
        loading.load(str(path), CPU).identity for path in (folder, tmp_path / "elsewhere")
    )
    assert first.content_hash == second.content_hash and first.name != second.name


def nudge_a_weight(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"][0] += 1e-3
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize(
    "change",
    [
        nudge_a_weight,
        lambda folder: edit(
            folder / "config.json", lambda config: config.update(rms_norm_eps=1e-3)
        ),
        lambda folder: edit(
            folder / "generation_config.json", lambda config: config.update(eos_token_id=[1, 7])
        ),
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}"),
        lambda folder: edit(
            folder / "tokenizer_config.json", lambda config: config.update(eos_token="<|user|>")
        ),
        lambda folder: edit(
            folder / "tokenizer.json", lambda content: content.update(pre_tokenizer=None)
        ),
    ],
    ids=["a weight", "the config", "an end id", "the template", "a special token", "the tokenizer"],
)
def test_the_content_hash_changes_with(folder: Path, change: Callable[[Path], object]) -> None:
    before = loading.load(str(folder), CPU).identity.content_hash
    change(folder)
    assert loading.load(str(folder), CPU).identity.content_hash != before


def test_end_ids_are_the_tokenizers_and_those_the_model_lists(folder: Path) -> None:
    edit(
        folder / "generation_config.json",
        lambda config: config.update(eos_token_id=[7, 9], temperature=0.1),
    )
    edit(folder / "config.json", lambda config: config.update(eos_token_id=11))
    assert loading.load(str(folder), CPU).end_ids == {1, 7, 9, 11}


def test_end_ids_without_any_of_the_models(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.generation_config, model.config.eos_token_id = GenerationConfig(), None
    assert end_ids(model, byte_tokenizer()) == {1}


def test_without_a_pad_token_an_end_token_pads() -> None:
    tokenizer = byte_tokenizer()
    assert policy_of(tokenizer).pad_id == 0
    tokenizer.pad_token = None
    assert policy_of(tokenizer).pad_id == 1


# Prompts and responses

THINKING = (
    "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}<|assistant|>"
    "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
)


@pytest.mark.parametrize(
    "thinking, ending",
    [
        ("off", "<|assistant|><think></think>"),
        ("on", "<|assistant|>"),
        ("template", "<|assistant|>"),
    ],
)
def test_thinking_is_off_unless_asked_where_the_template_knows_it(
    thinking: Any, ending: str
) -> None:
    policy = policy_of(byte_tokenizer(THINKING), LoadSettings(thinking=thinking))
    text = policy.tokenizer.decode(policy.prompt_ids(PROBLEM, ""))
    assert text == f"<|user|>What is 2+3?<|end|>{ending}"


def test_template_says_nothing_about_thinking_to_the_template() -> None:
    aware = "{{ 'told' if enable_thinking is defined else 'free' }}{{ messages[0]['content'] }}"
    said = {
        how: policy_of(byte_tokenizer(aware), LoadSettings(thinking=how))
        for how in ("off", "on", "template")
    }
    texts = {
        how: policy.tokenizer.decode(policy.prompt_ids(PROBLEM, ""))[:4]
        for how, policy in said.items()
    }
    assert texts == {"off": "told", "on": "told", "template": "free"}


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_turn_is_left_open(name: str) -> None:
    policy = loading.load_tokenizer_only(name, CPU)
    ids = policy.prompt_ids(PROBLEM, "Put the answer in a box.")
    assert policy.tokenizer.decode(ids).endswith("Put the answer in a box.<|end|><|assistant|>")
    assert ids[-1] not in policy.end_ids


def test_the_instruction_stands_on_a_line_of_its_own() -> None:
    policy = policy_of(byte_tokenizer())
    assert "<|user|>What is 2+3?\nBox it.<|end|>" in policy.tokenizer.decode(
        policy.prompt_ids(PROBLEM, "Box it.")
    )


@pytest.mark.parametrize("in_template", [True, False])
def test_a_tokenizer_that_adds_bos_never_gives_two(in_template: bool) -> None:
    template = ("{{ bos_token }}" if in_template else "") + tiny.CHAT
    tokenizer = byte_tokenizer(template, adds_bos=True)
    bos = tokenizer.bos_token_id
    assert tokenizer("a")["input_ids"][0] == bos  # it does add one by itself
    ids = policy_of(tokenizer).prompt_ids(PROBLEM, "")
    assert ids.count(bos) == int(in_template)
    expected = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROBLEM.question}],
        add_generation_prompt=True,
        return_dict=False,
    )
    assert ids == list(expected)


def test_the_plain_format_begins_as_the_tokenizer_begins_a_text() -> None:
    tokenizer = byte_tokenizer(None, adds_bos=True)
    ids = policy_of(tokenizer, PLAIN).prompt_ids(PROBLEM, "")
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids[1:]) == "Question: What is 2+3?\nAnswer:"


def test_the_plain_format_stays_open_where_the_tokenizer_closes_every_text() -> None:
    from tokenizers import processors

    tokenizer = byte_tokenizer(None)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", 1)]
    )
    assert tokenizer("a")["input_ids"][-1] == 1
    assert policy_of(tokenizer, PLAIN).prompt_ids(PROBLEM, "")[-1] != 1


def test_text_inside_a_response_gets_nothing_in_front_or_behind() -> None:
    policy = policy_of(byte_tokenizer(adds_bos=True))
    ids = policy.encode(" 2+3 =\n5 ")
    assert len(ids) == len(" 2+3 =\n5 ") and policy.decode(ids) == " 2+3 =\n5 "


def test_only_the_end_token_that_closes_a_response_is_left_out_of_its_text() -> None:
    policy = policy_of(byte_tokenizer())
    a, b = policy.encode("a"), policy.encode("b , c")
    assert policy.decode([*a, 1]) == "a"
    assert policy.decode([*a, 1, *b]) == "a<|end|>b , c"
    assert policy.decode([*a, 1, 1]) == "a<|end|>"
    assert policy.decode([]) == ""


# Vocabularies


def test_the_same_vocabulary_is_the_same() -> None:
    agreement = compare_vocabularies(byte_tokenizer(), byte_tokenizer(None))
    assert agreement.kind == "same"
    assert not (agreement.conflicting or agreement.student_only or agreement.teacher_only)


def test_special_tokens_that_differ_are_compatible_and_foreign() -> None:
    student = byte_tokenizer()
    teacher = byte_tokenizer(
        special=("<|pad|>", "<|stop|>", "<|user|>", "<|assistant|>", "<|bos|>")
    )
    teacher.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    agreement = compare_vocabularies(student, teacher)
    new = teacher.convert_tokens_to_ids("<|tool|>")
    assert agreement.kind == "compatible"
    assert (agreement.conflicting, agreement.student_only, agreement.teacher_only) == (
        (1,),
        (),
        (new,),
    )
    swapped = compare_vocabularies(teacher, student)
    assert swapped.student_only == (new,) and swapped.conflicting == (1,)


def test_equal_sizes_prove_nothing() -> None:
    student, teacher = byte_tokenizer(), byte_tokenizer(shift=1)
    assert len(student) == len(teacher)
    agreement = compare_vocabularies(student, teacher)
    assert agreement.kind == "different" and len(agreement.conflicting) == 256


def test_one_ordinary_id_with_two_meanings_is_enough() -> None:
    class Words:
        def __init__(self, words: str) -> None:
            self.words = words

        def get_vocab(self) -> dict[str, int]:
            return {word: index for index, word in enumerate(self.words)}

        def get_added_vocab(self) -> dict[str, int]:
            return {self.words[0]: 0}

    assert compare_vocabularies(Words("#abc"), Words("#abc")).kind == "same"
    assert compare_vocabularies(Words("#abc"), Words("$abc")).kind == "compatible"
    assert compare_vocabularies(Words("#abc"), Words("#abcd")).kind == "compatible"
    assert compare_vocabularies(Words("#abc"), Words("#abd")).kind == "different"
