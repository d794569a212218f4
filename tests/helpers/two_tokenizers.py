"""Pairs of tiny policies with two tokenizers, and rollouts of the student aligned with the
teacher's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from tiny_models import CHAT, SPECIAL, tiny_llama
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from decaylab.policies.alignment import Aligner
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import Policy
from decaylab.rollouts.sampling import Response
from decaylab.trainer.draw import TrainingRollout
from decaylab.trainer.span_draw import aligned

LETTERS = "abc "
OF_STUDENT = (("a", "b"), ("c", "c"))
OF_TEACHER = (("b", "c"), ("bc", "a"), ("a", "a"))


def merging_tokenizer(
    merges: Sequence[tuple[str, str]], *, shift: int = 0, special: Sequence[str] = SPECIAL
) -> PreTrainedTokenizerFast:
    """Byte-level BPE with these merges of letters, which are not split at words. shift: rotates the
    ids of the bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*special, *alphabet[shift:], *alphabet[:shift], *(a + b for a, b in merges)]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(special))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=special[1], pad_token=special[0]
    )
    fast.chat_template = CHAT
    return fast


def policy(name: str, tokenizer: Any, seed: int, **changes: Any) -> Policy:
    """A tiny Llama in float64 with this tokenizer."""
    model = tiny_llama(seed, **{"vocab_size": len(tokenizer), **changes}).double()
    return Policy(name, model, tokenizer, PolicyIdentity(name, "folder", "", f"{name} {seed}"))


def pair() -> tuple[Policy, Policy]:
    """Student and teacher whose tokens overlap in both ways."""
    student = policy("student", merging_tokenizer(OF_STUDENT), 0)
    teacher = policy("teacher", merging_tokenizer(OF_TEACHER, shift=7), 1)
    return student, teacher


def written(student: Policy, text: str, ended: bool) -> Response:
    """A response of the student, in its own tokens."""
    ids = tuple(student.encode(text))
    return Response((*ids, student.end_id), "eos") if ended else Response(ids, "length")


def spanned(
    student: Policy, teacher: Policy, count: int = 5, seed: int = 0
) -> list[TrainingRollout]:
    """Rollouts of letters, every second one finished, with prompts of other lengths."""
    aligner, rng, found = Aligner(student, teacher), np.random.default_rng(seed), []
    for number in range(count):
        text = "".join(rng.choice(list(LETTERS), 5 + 3 * number))
        prompts = (tuple(student.encode("a" * (1 + number))), tuple(teacher.encode("ca" * 3)))
        response = written(student, text, bool(number % 2))
        rollout = aligned(aligner, f"train-1/{number}", prompts, response)
        assert not isinstance(rollout, str)
        found.append(rollout)
    return found
