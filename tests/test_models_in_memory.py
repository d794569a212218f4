"""A model in memory is used, or refused, in the same way wherever it is given: to `dl.score`, to a
command, to a `Probe` as student or teacher, and in the trainer of a `DecayCallback`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from peft import (
    AdaptionPromptConfig,
    LoraConfig,
    PolyConfig,
    PromptTuningConfig,
    ShadowConfig,
    XLoraConfig,
    get_peft_model,
)
from probed import BINS, PROBLEMS, VOCAB, check, expected, student, teacher
from tiny_models import IDS, SIZES, byte_tokenizer
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
)
from transformers.integrations.neftune import activate_neftune

import decaylab as dl
from decaylab.callback import DecayCallback
from decaylab.commands import in_memory
from decaylab.errors import UserError
from decaylab.policies import loading
from decaylab.probing.probe import Probe

Ways = dict[str, Callable[[Any], Any]]
TOKENIZER = byte_tokenizer()
TEXT = "two three"
TINY: dict[str, Any] = {"bins": BINS, "max_tokens": 3, "limit": 2}
CAUSAL_LM = {"task_type": "CAUSAL_LM"}
LORA = {**CAUSAL_LM, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """A trainer in mixed precision, in a group of one process."""
    folder = str(tmp_path_factory.mktemp("trainer"))
    args = TrainingArguments(output_dir=folder, use_cpu=True, bf16=True, report_to=[])
    made = Trainer(model=student(), args=args, processing_class=byte_tokenizer())
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield made
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, str], Any]:
    """What each way has found with a plain model."""
    return {}


@pytest.fixture
def ways(trainer: Trainer, tmp_path: Path) -> Ways:
    """What each way of using a model finds with it."""

    def score(model: Any) -> list[float]:
        table = dl.score((model, TOKENIZER), (student(1), TOKENIZER), [TEXT], quiet=True)
        return list(table["reverse_kl"])

    def command(model: Any) -> list[float]:
        with in_memory.named("position-kl", {"student": (model, TOKENIZER)}) as named:
            weights: Any = loading.load(named["student"]).weights
            with torch.no_grad():
                logits = weights(input_ids=torch.tensor([TOKENIZER(TEXT)["input_ids"]])).logits
        return list(logits[0].double().log_softmax(-1).flatten().tolist())

    def measured(probe: Probe, model: Any) -> dict[str, float]:
        return probe.measure(model, 0).logs

    def out() -> Path:
        return tmp_path / f"probe-{len(list(tmp_path.iterdir()))}"

    def probe(model: Any) -> dict[str, float]:
        return measured(Probe(teacher(), TOKENIZER, PROBLEMS, out(), **TINY), model)

    def probes_teacher(model: Any) -> dict[str, float]:
        return measured(Probe((model, TOKENIZER), TOKENIZER, PROBLEMS, out(), **TINY), student(1))

    def trainers_student(model: Any) -> dict[str, float]:
        trainer.model = model
        made = DecayCallback(trainer, PROBLEMS, teacher(), out=out(), **TINY)
        return measured(made.probe, trainer.model)

    def trainers_teacher(model: Any) -> dict[str, float]:
        trainer.model, trainer.teacher_model = student(1), model  # type: ignore[attr-defined]
        return measured(DecayCallback(trainer, PROBLEMS, out=out(), **TINY).probe, trainer.model)

    used = (score, command, probe, probes_teacher, trainers_student, trainers_teacher)
    return {way.__name__: way for way in used}


def adapted() -> Any:
    """A PEFT model whose adapter changes the logits."""
    torch.manual_seed(0)
    return get_peft_model(student(), LoraConfig(**LORA, init_lora_weights=False))


def compiled(model: Any) -> Any:
    return torch.compile(model, backend=_never)


def _never(*_: Any) -> Any:
    raise AssertionError("a measurement has compiled the model")


def compiled_in_place() -> Any:
    model = student()
    model.compile(backend=_never)
    return model


def noisy() -> Any:
    model = student().train()
    activate_neftune(model, 5.0)
    return model


def asking_for_gradients() -> Any:
    model = student().train()
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable()
    return model


def placed() -> Any:
    """As accelerate dispatches a model that fits on one device."""
    return add_hook_to_module(student(), AlignDevicesHook("cpu", io_same_device=True))


USED: dict[str, tuple[Callable[[Trainer], Any], Callable[[], Any]]] = {
    "DDP": (lambda _: DistributedDataParallel(student()), student),
    "DataParallel": (lambda _: torch.nn.DataParallel(student()), student),
    "compiled": (lambda _: compiled(student()), student),
    "compiled in place": (lambda _: compiled_in_place(), student),
    "DDP around compiled": (lambda _: DistributedDataParallel(compiled(student())), student),
    "compiled around DDP": (lambda _: compiled(DistributedDataParallel(student())), student),
    "autocast by accelerate": (lambda trainer: trainer.accelerator.prepare(student()), student),
    "autocast PEFT": (lambda trainer: trainer.accelerator.prepare(adapted()), adapted),
    "compiled PEFT in DDP": (lambda _: DistributedDataParallel(compiled(adapted())), adapted),
    "NEFTune": (lambda _: noisy(), student),
    "input gradients, checkpointed": (lambda _: asking_for_gradients(), student),
    "placed by accelerate": (lambda _: placed(), student),
}


@pytest.mark.parametrize("case", USED)
def test_what_training_puts_around_a_model_changes_no_number(
    case: str, trainer: Trainer, ways: Ways, found: dict[tuple[str, str], Any]
) -> None:
    given, plain = USED[case]
    model = given(trainer)
    forward, modes = model.forward, [module.training for module in model.modules()]
    for name, way in ways.items():
        if (name, plain.__name__) not in found:
            found[name, plain.__name__] = way(plain())
        assert way(model) == found[name, plain.__name__], name
    assert model.forward == forward
    assert [module.training for module in model.modules()] == modes


def sharded_by_deepspeed() -> Any:
    model = student()
    for number, weight in enumerate(model.parameters()):
        weight.ds_id = number  # type: ignore[attr-defined]
    return model


def with_a_stage_elsewhere() -> Any:
    """As transformers marks a model that it has spread over processes."""
    model = student()
    model._device_mesh = init_device_mesh("cpu", (1,))
    return model


def partly_on_meta() -> Any:
    model = student()
    model.lm_head.to("meta")
    return model


def mixture() -> Any:
    model = student()
    model.config.use_cache = False
    with TemporaryDirectory() as folder:
        get_peft_model(student(), LoraConfig(**LORA)).save_pretrained(folder)
        experts = XLoraConfig(**CAUSAL_LM, hidden_size=32, adapters={"0": folder})
        return get_peft_model(model, experts)


class Wrapper(torch.nn.Module):
    """A wrapper that accelerate does not know."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.module = module


SHARDED = r"^the weights of \w+ are sharded over processes .*: train with DDP, or save the model"
ONE_DEVICE = ", but must be on one device: move them to one, or save the model and measure"
NOT_CAUSAL = "is not a causal language model: give one that AutoModelForCausalLM loads"
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "ZeRO-3": (sharded_by_deepspeed, SHARDED),
    "FSDP 2": (lambda: fully_shard(student(), mesh=init_device_mesh("cpu", (1,))), SHARDED),
    "FSDP": (
        lambda: FullyShardedDataParallel(student(), device_id=torch.device("cpu")),
        SHARDED,
    ),
    "pipeline": (with_a_stage_elsewhere, SHARDED),
    "meta": (lambda: student().to("meta"), f"are on meta{ONE_DEVICE}"),
    "offloaded": (lambda: cpu_offload(student(), "cpu"), f"are on meta{ONE_DEVICE}"),
    "two devices": (partly_on_meta, f"are on cpu and meta{ONE_DEVICE}"),
    "no head": (lambda: student().model, f"LlamaModel {NOT_CAUSAL}"),
    "classifier": (
        lambda: LlamaForSequenceClassification(LlamaConfig(**{**SIZES, **IDS})),
        f"LlamaForSequenceClassification {NOT_CAUSAL}",
    ),
    "encoder and decoder": (
        lambda: T5ForConditionalGeneration(
            T5Config(vocab_size=VOCAB, d_model=16, d_ff=16, num_layers=1, num_heads=2)
        ),
        f"T5ForConditionalGeneration {NOT_CAUSAL}",
    ),
    "prompts": (
        lambda: get_peft_model(student(), PromptTuningConfig(**CAUSAL_LM, num_virtual_tokens=2)),
        "PEFT model of type PROMPT_TUNING works only inside PEFT: use an adapter that changes weig",
    ),
    "prompts in attention": (
        lambda: get_peft_model(
            student(), AdaptionPromptConfig(**CAUSAL_LM, adapter_len=2, adapter_layers=1)
        ),
        "type ADAPTION_PROMPT works only inside PEFT",
    ),
    "adapters by task": (
        lambda: get_peft_model(student(), PolyConfig(**LORA, n_tasks=2)),
        "type POLY works only inside PEFT",
    ),
    "mixture of adapters": (mixture, "type XLORA works only inside PEFT"),
    "a network beside the model": (
        lambda: get_peft_model(student(), ShadowConfig(**CAUSAL_LM)),
        "type SHADOW works only inside PEFT",
    ),
    "activated by tokens": (
        lambda: get_peft_model(student(), LoraConfig(**LORA, alora_invocation_tokens=[7])),
        "type aLoRA works only inside PEFT",
    ),
    "unknown wrapper": (
        lambda: Wrapper(student()),
        "a model of transformers or PEFT is needed, got Wrapper: give the model inside it",
    ),
    "another module": (
        lambda: torch.nn.Linear(2, 2),
        "a model of transformers or PEFT is needed, got Linear: give one that AutoModelForCausalLM",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_measured_is_refused_in_one_line_that_is_the_same_everywhere(
    case: str, ways: Ways, tmp_path: Path
) -> None:
    make, message = REFUSED[case]
    model, told = make(), {}
    for name, way in ways.items():
        with pytest.raises(UserError, match=message) as refused:
            way(model)
        told[name] = str(refused.value)
    assert len(set(told.values())) == 1 and "\n" not in told["score"], told
    assert not list(tmp_path.glob("probe*"))


def steered() -> Any:
    """A model with a hook of the user's own, which doubles what a layer writes."""
    model = student()
    model.model.layers[1].register_forward_hook(lambda layer, given, written: written * 2)
    return model


def test_a_hook_of_ones_own_runs_where_no_hash_stands_for_the_model_and_is_refused_elsewhere(
    ways: Ways, tmp_path: Path
) -> None:
    model, ids = steered(), torch.tensor([TOKENIZER(TEXT)["input_ids"]])
    with torch.no_grad():
        own, theirs = (
            one(input_ids=ids).logits[0, :-1].double().log_softmax(-1)
            for one in (steered(), student(1))
        )
    kl = (own.exp() * (own - theirs)).sum(-1)
    np.testing.assert_allclose(ways["score"](model)[-len(kl) :], kl, rtol=1e-5)
    logs = ways["probe"](model)
    check(logs, expected(tmp_path / "probe-0", 0, copy.deepcopy(model).double(), teacher()))
    assert ways["trainers_student"](model) == logs
    assert ways["trainers_teacher"](model) != ways["trainers_teacher"](student())
    for way in ("command", "probes_teacher"):
        with pytest.raises(UserError, match=r"a forward hook on model\.layers\.1, which changes"):
            ways[way](model)


def test_a_student_with_adapters_is_not_its_own_teacher(ways: Ways, trainer: Trainer) -> None:
    """get_peft_model changes the model that it wraps, so the teacher would have the adapters."""
    base = student()
    trained = get_peft_model(base, LoraConfig(**LORA))
    for of in (base, (base, TOKENIZER)):
        with pytest.raises(UserError, match="one and the same model with adapters in it"):
            Probe(of, TOKENIZER, PROBLEMS, "nowhere", **TINY).prepare(trained)
