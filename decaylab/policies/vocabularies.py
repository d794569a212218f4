"""Compares the vocabularies of two policies, id by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from decaylab.errors import UserError
from decaylab.policies.policy import Policy

CUT = -1e30  # a logit of probability 0; unlike -inf, its difference to itself is 0, not NaN


@dataclass(frozen=True)
class VocabularyAgreement:
    """Whether two tokenizers map the same ids to the same strings.

    kind: ``same`` (every id), ``compatible`` (only added tokens conflict, or ids are missing on one
    side), ``different``. conflicting: ids with two different strings. student_only, teacher_only:
    ids that the other one lacks.
    """

    kind: Literal["same", "compatible", "different"]
    conflicting: tuple[int, ...]
    student_only: tuple[int, ...]
    teacher_only: tuple[int, ...]


def compare_vocabularies(student: Any, teacher: Any) -> VocabularyAgreement:
    """Compares the id -> string maps of two tokenizers; equal sizes are not enough."""
    strings_s = {index: token for token, index in student.get_vocab().items()}
    strings_t = {index: token for token, index in teacher.get_vocab().items()}
    common = strings_s.keys() & strings_t.keys()
    conflicting = tuple(sorted(index for index in common if strings_s[index] != strings_t[index]))
    student_only = tuple(sorted(strings_s.keys() - strings_t.keys()))
    teacher_only = tuple(sorted(strings_t.keys() - strings_s.keys()))
    # Added tokens may differ between a base and a chat model of one family.
    special = set(student.get_added_vocab().values()) | set(teacher.get_added_vocab().values())
    if not (conflicting or student_only or teacher_only):
        return VocabularyAgreement("same", (), (), ())
    ordinary = [index for index in conflicting if index not in special]
    kind: Literal["compatible", "different"] = "different" if ordinary else "compatible"
    return VocabularyAgreement(kind, conflicting, student_only, teacher_only)


@dataclass(frozen=True)
class SharedVocabulary:
    """The ids over which two policies are compared: in both tokenizers, with the same string.

    size: the largest shared id + 1. holes: ids below size that are not shared.
    """

    size: int
    holes: frozenset[int]

    def holds(self, token: int) -> bool:
        return 0 <= token < self.size and token not in self.holes

    def readable(self, ids: Sequence[int]) -> int:
        """Number of tokens of a response before the first id that is not shared."""
        return next((index for index, token in enumerate(ids) if not self.holds(token)), len(ids))

    def logprobs(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities over the shared ids, [positions, size], renormalised; and the
        probability of all other ids before that, [positions].

        An id in a hole has the same negligible log-probability in both policies.
        """
        shared = logits[:, : self.size]
        if self.holes:
            holes = torch.tensor(sorted(self.holes), device=logits.device)
            shared = shared.index_fill(-1, holes, CUT)
        # Not log_softmax: on a CPU it is off by 1e-5 nats at 100,000 ids.
        kept = shared.logsumexp(-1)
        logprobs = shared - kept[:, None]
        if logits.shape[-1] == self.size and not self.holes:
            return logprobs, torch.zeros_like(kept)
        removed = -torch.expm1(kept - logits.logsumexp(-1))
        return logprobs, removed.clamp(min=0.0) + 0.0  # not -0


def share_vocabulary(student: Policy, teacher: Policy) -> SharedVocabulary:
    """The ids that both policies have.

    Raises:
        UserError: an ordinary id means one thing to the student and another to the teacher.
    """
    agreement = compare_vocabularies(student.tokenizer, teacher.tokenizer)
    own, others = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    if agreement.kind == "different":
        added = {
            *student.tokenizer.get_added_vocab().values(),
            *teacher.tokenizer.get_added_vocab().values(),
        }
        first = next(index for index in agreement.conflicting if index not in added)
        ours, theirs = (
            next(token for token, index in vocabulary.items() if index == first)
            for vocabulary in (own, others)
        )
        raise UserError(
            f"the vocabularies differ: id {first} is {ours!r} in {student.name} and {theirs!r} in "
            f"{teacher.name}, so tokens cannot be compared one by one; use a teacher with the "
            "student's tokenizer"
        )
    width = min(student.head_width, teacher.head_width)
    both = set(own.values()) & set(others.values())
    common = {index for index in both if index < width} - set(agreement.conflicting)
    size = max(common) + 1
    return SharedVocabulary(size, frozenset(range(size)) - common)
