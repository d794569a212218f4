"""Heads taken apart from their bodies against the model's own logits, over the families that people
distil."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from head_families import FAMILIES, family
from peft import LoraConfig, get_peft_model
from tiny_models import tiny_llama
from torch import Tensor

from decaylab.errors import UserError
from decaylab.tokens.heads import Head

# What each head has that a bare matrix has not, where it has anything; capping small enough to
# matter.
CHANGED = (
    "gemma2 capped",
    "gemma3 capped",
    "phi with a bias",
    "gptj with a bias",
    "granite scaled",
    "cohere scaled",
)


def policy(model: Any) -> Any:
    return SimpleNamespace(name="tiny", weights=model)


def places() -> tuple[Tensor, Tensor, Tensor]:
    """Three rows, and positions among them, with gaps and from the first to the last."""
    ids = torch.randint(2, 97, (3, 12), generator=torch.Generator().manual_seed(0))
    return ids, torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 5, 11, 3, 4])


def own_logits(model: Any) -> Tensor:
    ids, rows, columns = places()
    with torch.inference_mode():
        return model(input_ids=ids).logits[rows, columns]


def applied(head: Head) -> Tensor:
    ids, rows, columns = places()
    return head.logits(head.states(ids, rows, columns))


def bare_matrix(model: Any) -> Tensor:
    """The near miss: the output embedding's matrix on the last hidden states, and nothing else."""
    ids, rows, columns = places()
    with torch.inference_mode():
        hidden = model.base_model(input_ids=ids).last_hidden_state[rows, columns]
        return hidden @ model.get_output_embeddings().weight.T


@pytest.mark.parametrize("name", FAMILIES)
def test_body_and_head_apart_give_the_logits_of_the_whole(name: str) -> None:
    model = family(name)
    head, whole = Head(policy(model)), own_logits(model)
    found = applied(head)
    assert head.shell is not None
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-4)
    assert (found - whole[[1, 0, 2, 4, 3]]).abs().max() > 0.1  # rows in another order
    assert ((bare_matrix(model) - whole).abs().max() > 0.1) == (name in CHANGED)


def test_what_is_given_to_the_head_is_a_hidden_state_and_no_row_of_logits() -> None:
    states = Head(policy(tiny_llama(vocab_size=97))).states(*places())
    assert states.shape == (5, 32)


def test_a_head_on_some_of_the_positions_gives_those_rows() -> None:
    head = Head(policy(family("gemma2 capped")))
    states = head.states(*places())
    apart = torch.cat([head.logits(states[:2]), head.logits(states[2:3]), head.logits(states[3:])])
    torch.testing.assert_close(apart, head.logits(states), rtol=1e-5, atol=1e-5)


def test_the_model_is_left_as_it_was() -> None:
    model = family("gemma2 capped")
    before, body, output = own_logits(model), model.model, model.get_output_embeddings()
    for precision in ("model", "float32"):
        applied(Head(policy(model), precision))
        applied(Head(policy(model.bfloat16()), precision))
        model.float()
    assert model.model is body and model.get_output_embeddings() is output
    torch.testing.assert_close(
        own_logits(model), before, rtol=0.1, atol=0.1
    )  # weights went through 16 bits


# --- heads that cannot be taken apart
# ---------------------------------------------------------------------------


def test_a_model_that_reaches_into_its_body_gives_its_own_logits_row_by_row() -> None:
    model = family("opt")
    head = Head(policy(model))
    assert head.shell is None and head.states(*places()).shape == (5, 97)
    torch.testing.assert_close(applied(head), own_logits(model), rtol=1e-5, atol=1e-5)


class Shifting(torch.nn.Module):
    """A model whose logits are not a function of its last hidden state: it looks at the tokens
    again behind its body."""

    base_model_prefix = "body"

    def __init__(self) -> None:
        super().__init__()
        self.inner = tiny_llama(vocab_size=97)
        self.body, self.lm_head = self.inner.model, self.inner.lm_head
        self.base_model, self.dtype, self.device = self.body, torch.float32, torch.device("cpu")

    def get_input_embeddings(self) -> Any:
        return self.inner.get_input_embeddings()

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **kwargs: Any) -> Any:
        logits = self.lm_head(
            self.body(input_ids=input_ids, inputs_embeds=inputs_embeds).last_hidden_state
        )
        if input_ids is not None:
            logits = logits + torch.nn.functional.one_hot(input_ids, 97)
        return SimpleNamespace(logits=logits)


def test_a_head_that_runs_alone_but_says_something_else_is_found_out() -> None:
    model = Shifting().eval()
    head = Head(policy(model))
    assert head.shell is None
    torch.testing.assert_close(applied(head), own_logits(model), rtol=1e-5, atol=1e-5)


def test_a_head_that_cannot_be_taken_apart_cannot_be_had_in_float32() -> None:
    model = family("opt").bfloat16()
    with pytest.raises(
        UserError, match=r"output head of tiny \(OPTForCausalLM\).*use --head model"
    ):
        Head(policy(model), "float32")
    assert Head(policy(model)).shell is None
    assert Head(policy(model.float()), "float32").shell is None  # that is its own precision


# --- precision
# ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["llama", "llama tied", "gemma2 capped", "phi with a bias", "granite scaled", "cohere scaled"],
)
def test_a_float32_head_on_a_16_bit_body_is_the_exact_product_of_what_16_bits_hold(
    name: str,
) -> None:
    model = family(name).bfloat16()
    ids, rows, columns = places()
    with torch.inference_mode():
        hidden = model.base_model(input_ids=ids).last_hidden_state[rows, columns]
        output = model.get_output_embeddings()
        exact = hidden.double() @ output.weight.double().T
        if getattr(output, "bias", None) is not None:
            exact = exact + output.bias.double()
        if name == "gemma2 capped":
            exact = 3.0 * torch.tanh(exact / 3.0)
        exact = (
            exact / 8.0
            if name == "granite scaled"
            else exact * 0.1
            if name == "cohere scaled"
            else exact
        )
    found = applied(Head(policy(model), "float32"))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)
    coarse = applied(Head(policy(model)))
    assert coarse.dtype == torch.bfloat16 and (coarse.double() - exact).abs().max() > 1e-3
    torch.testing.assert_close(coarse, own_logits(model), rtol=2e-2, atol=2e-2)


def test_a_float32_head_is_a_copy_only_where_the_model_has_16_bits() -> None:
    model = family("llama")
    assert Head(policy(model), "float32").shell.lm_head is model.lm_head
    small = copy.deepcopy(model).bfloat16()
    head = Head(policy(small), "float32")
    assert (
        head.shell.lm_head.weight.dtype == torch.float32
        and small.lm_head.weight.dtype == torch.bfloat16
    )


# --- adapters
# ---------------------------------------------------------------------------


def adapted() -> Any:
    """LoRA on the body and on the head, with weights large enough to matter."""
    config = LoraConfig(
        r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False, task_type="CAUSAL_LM"
    )
    torch.manual_seed(0)
    return get_peft_model(tiny_llama(vocab_size=97), config).eval()


@pytest.mark.parametrize("form", ["wrapped", "in place", "merged"])
def test_an_adapter_on_the_head_is_in_the_logits(form: str) -> None:
    model, plain = adapted(), own_logits(tiny_llama(vocab_size=97))
    expected = own_logits(model)
    assert (expected - plain).abs().max() > 0.1
    used = {
        "wrapped": lambda: model,
        "in place": lambda: model.base_model.model,
        "merged": model.merge_and_unload,
    }[form]()
    head = Head(policy(used))
    torch.testing.assert_close(applied(head), expected, rtol=1e-3, atol=1e-3)
    assert (head.shell is None) == (form == "wrapped")
    if form == "in place":  # the matrix under the adapter alone is the near miss
        assert (bare_matrix(used) - expected).abs().max() > 0.1


def test_an_adapter_on_a_float32_head_is_in_its_logits() -> None:
    model = adapted().base_model.model
    small = copy.deepcopy(model).bfloat16()
    found = applied(Head(policy(small), "float32"))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, own_logits(model), rtol=0.1, atol=0.3)
    ids, rows, columns = places()
    with torch.inference_mode():
        hidden = small.base_model(input_ids=ids).last_hidden_state[rows, columns].float()
        exact = copy.deepcopy(small.lm_head).float()(hidden)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=1e-5)
