"""Tiny random models and tokenizers, and what it means that two samples of a model agree up to
near-ties."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from decaylab.rollouts.sampling import Request, Response, SamplingSettings, uniforms

VOCAB, PAD, END = 64, 0, 1
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
IDS: dict[str, Any] = {"bos_token_id": None, "eos_token_id": END, "pad_token_id": PAD}
SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|bos|>")
CHAT = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}<|assistant|>"
GREEDY_GAP, BOUNDARY_GAP = 1e-3, 1e-5


def randomised(model: Any, seed: int = 0, scale: float = 0.3) -> Any:
    """Weights large enough that the next token depends on the whole context."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=scale, generator=generator)
    return model.float().eval()


def tiny_llama(seed: int = 0, **changes: Any) -> LlamaForCausalLM:
    return randomised(LlamaForCausalLM(LlamaConfig(**{**SIZES, **IDS, **changes})), seed)


def bare_policy(model: Any, end_ids: Sequence[int] = (END,), pad_id: int = PAD) -> Any:
    """What an engine uses of a policy."""
    return SimpleNamespace(name="tiny", weights=model, end_ids=frozenset(end_ids), pad_id=pad_id)


def byte_tokenizer(
    template: str | None = CHAT,
    *,
    shift: int = 0,
    adds_bos: bool = False,
    special: Sequence[str] = SPECIAL,
) -> PreTrainedTokenizerFast:
    """Byte-level BPE without merges: one id a byte, behind the special tokens. shift: rotates the
    ids of the bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    alphabet = alphabet[shift:] + alphabet[:shift]
    vocab = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", vocab["<|bos|>"])]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=special[1],
        pad_token=special[0],
        bos_token="<|bos|>" if adds_bos else None,
    )
    fast.chat_template = template
    return fast


def save_folder(path: Path, *, tokenizer: Any = None, seed: int = 0, **changes: Any) -> Path:
    """A model folder: a tiny Llama over bytes and its tokenizer."""
    tokenizer = tokenizer or byte_tokenizer()
    tiny_llama(seed, vocab_size=len(tokenizer), **changes).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def random_requests(
    lengths: Sequence[tuple[int, int]],
    max_new_tokens: int = 24,
    stage: str = "s",
    seed: int = 0,
    vocab: int = VOCAB,
) -> list[Request]:
    """lengths: of prompt and prefix."""
    rng = np.random.default_rng(seed)
    return [
        Request(
            tuple(rng.integers(2, vocab, prompt).tolist()),
            tuple(rng.integers(2, vocab, prefix).tolist()),
            max_new_tokens,
            stage,
            f"p{number}",
            0,
        )
        for number, (prompt, prefix) in enumerate(lengths)
    ]


def greedy_by_generate(
    model: Any, requests: Sequence[Request], end_ids: Sequence[int], pad_id: int
) -> list[Response]:
    """Each request alone through transformers' own `generate`."""
    found = []
    for request in requests:
        ids = torch.tensor([request.prompt_ids + request.prefix_ids])
        whole = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=request.max_new_tokens,
            eos_token_id=list(end_ids),
            pad_token_id=pad_id,
        )
        new = tuple(whole[0, ids.shape[1] :].tolist())
        found.append(Response(new, "eos" if new[-1] in end_ids else "length"))
    return found


def equal_up_to_near_ties(
    model: Any,
    requests: Sequence[Request],
    first: Sequence[Response],
    second: Sequence[Response],
    settings: SamplingSettings,
) -> int:
    """How many responses are identical; each of the others must part at a near-tie.

    The near-tie is shown on one unbatched forward of the context that both share. Greedy: both
    tokens are the largest logits, and at most GREEDY_GAP apart. Sampled: every boundary of the
    cumulative distribution that lies between the two tokens is at most BOUNDARY_GAP from the
    uniform number.
    """
    identical = 0
    for request, one, other in zip(requests, first, second, strict=True):
        if one == other:
            identical += 1
            continue
        pairs = enumerate(zip(one.ids, other.ids, strict=False))
        parting = next(((at, a, b) for at, (a, b) in pairs if a != b), None)
        assert parting is not None, f"the same tokens stop differently: {one} {other}"
        at, a, b = parting
        context = torch.tensor([request.prompt_ids + request.prefix_ids + one.ids[:at]])
        with torch.inference_mode():
            logits = model(input_ids=context).logits[0, -1].double()
        if settings.temperature == 0:
            gap = float(logits.max() - torch.minimum(logits[a], logits[b]))
            assert gap < GREEDY_GAP, f"{request.problem_id}: {a} and {b} at {at} are {gap} apart"
        else:
            cumulative = (logits / settings.temperature).softmax(-1).cumsum(-1)
            between = cumulative[min(a, b) : max(a, b)]
            gap = float((between - uniforms(settings.seed, request)[at]).abs().max())
            assert gap < BOUNDARY_GAP, f"{request.problem_id}: {a} and {b} at {at} are {gap} apart"
    return identical
