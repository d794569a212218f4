"""Sampling: requests to an engine, and the random numbers it must use.

Every token is drawn by inverting the cumulative distribution at one uniform number that depends
only on (seed, stage, problem, sample, position). A rollout therefore does not depend on the order
or batching of requests, except if rounding moves a boundary across its number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from decaylab.options.pair_options import PairOptions
from decaylab.policies.policy import Policy

Ids = tuple[int, ...]
"""Token ids."""
OnProgress = Callable[[int, int], None]
"""Called with the numbers of new tokens and newly finished sequences; negative if memory ran out
and a batch is run again."""


@dataclass(frozen=True)
class SamplingSettings:
    """The complete sampling settings: a model's own generation settings are ignored."""

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise ValueError(
                f"temperature must be at least 0 (0 is greedy), got {self.temperature}"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0 (0 is off), got {self.top_k}")


def settings_of(options: PairOptions) -> SamplingSettings:
    """The sampling settings of resolved options.

    Raises:
        ValueError: they are not resolved.
    """
    if options.temperature is None:
        raise ValueError("the options have no temperature: resolve them first")
    return SamplingSettings(options.temperature, options.top_p, options.top_k, options.seed)


@dataclass(frozen=True)
class Request:
    """One continuation: prompt, prefix, and maximum number of new tokens."""

    prompt_ids: Ids
    prefix_ids: Ids
    max_new_tokens: int
    stage: str
    problem_id: str
    sample: int

    def __post_init__(self) -> None:
        if not self.prompt_ids:
            raise ValueError(f"the prompt of {self.name} is empty")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, got {self.max_new_tokens}")

    @property
    def name(self) -> str:
        return f"{self.stage} {self.problem_id}/{self.sample}"

    @property
    def context(self) -> Ids:
        """Prompt and prefix."""
        return self.prompt_ids + self.prefix_ids


@dataclass(frozen=True)
class Response:
    """The sampled tokens, including the end-of-turn token if the policy wrote one.

    absent_mass: mean probability, over the sampled positions, of ids without a token, which are
    never drawn; at the sampling temperature (1 if greedy), before top-k and top-p. None if the
    engine does not report it.
    """

    ids: Ids
    stop_reason: Literal["eos", "length"]
    absent_mass: float | None = field(default=None, compare=False)

    @property
    def ended(self) -> bool:
        """Whether the policy ended its turn."""
        return self.stop_reason == "eos"

    @property
    def written(self) -> Ids:
        """The ids without the end-of-turn token."""
        return self.ids[:-1] if self.ended else self.ids


class Engine(Protocol):
    """A policy and its runtime."""

    @property
    def name(self) -> str: ...

    @property
    def policy(self) -> Policy: ...

    def sample(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> list[Response]:
        """One response per request, in the order of the requests."""
        ...


def uniforms(seed: int, request: Request) -> NDArray[np.float64]:
    """The uniform numbers in [0, 1) of a request, one per response position from its prefix on."""
    key = f"{seed}\x1f{request.stage}\x1f{request.problem_id}\x1f{request.sample}".encode()
    words = np.frombuffer(hashlib.sha256(key).digest()[:16], dtype=np.uint64)
    # By position in the whole response: the prefix's numbers are skipped.
    skipped = len(request.prefix_ids)
    generator = np.random.Generator(np.random.Philox(key=words))
    return generator.random(skipped + request.max_new_tokens)[skipped:]


def choose(
    logits: torch.Tensor, uniform: torch.Tensor, settings: SamplingSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The token of each row by inversion of its distribution, and a mask of rows without one.

    A row has no distribution if it contains NaN or +inf (an overflow in 16 bits), or only -inf.

    logits: [rows, vocab] in float32. uniform: [rows] in float64, in [0, 1).
    """
    broken = ~torch.isfinite(logits.amax(dim=-1))  # the largest of a row with a NaN is NaN
    if settings.temperature == 0:
        return logits.argmax(dim=-1), broken
    logits = logits / settings.temperature
    # Greater or equal: ids tied with the last of the top k are kept.
    if settings.top_k:
        smallest = logits.topk(min(settings.top_k, logits.shape[-1]), dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    probabilities = logits.softmax(dim=-1)
    if settings.top_p < 1:
        probabilities = _nucleus(probabilities, settings.top_p)
    # In float64, since float32 sums over 150,000 ids would move the boundaries.
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    target = uniform[:, None] * cumulative[:, -1:]
    chosen = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return chosen.clamp(max=logits.shape[-1] - 1), broken


def cut_absent(
    logits: torch.Tensor, absent: torch.Tensor, settings: SamplingSettings
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits with ids without a token set to -inf, and the probability of those ids, [rows].

    logits: [rows, vocab] in float32. absent: [ids], at least one. The probability is NaN for a row
    without a distribution.
    """
    scaled = logits / (settings.temperature or 1.0)
    mass = (scaled[:, absent].logsumexp(dim=-1) - scaled.logsumexp(dim=-1)).exp()
    return logits.index_fill(-1, absent, -torch.inf), mass


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zeroes all but the smallest set of most probable tokens whose mass reaches top_p.

    Ties keep the lower ids.
    """
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(dim=-1, dtype=torch.float64) - ordered >= top_p
    return probabilities.scatter(-1, order, ordered.masked_fill(outside, 0.0))
