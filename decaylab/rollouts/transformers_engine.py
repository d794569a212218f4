"""The transformers engine: batches that share the cache of prompts and prefixes, and shrink as
their rows end."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from decaylab.errors import UserError
from decaylab.policies.loading import Policy
from decaylab.rollouts.batches import Counted, in_batches
from decaylab.rollouts.cache import GrowingCache
from decaylab.rollouts.sampling import (
    OnProgress,
    Request,
    Response,
    SamplingSettings,
    choose,
    cut_absent,
    uniforms,
)


class TransformersEngine:
    """Batched sampling from a Hugging Face causal LM, on the CPU or one GPU.

    The cache of a prompt is computed once for all that follows it, and that of a response once for
    all prefixes cut from it. Rows are right-aligned, so that all of them write the same cache
    column; finished rows leave the batch.

    batch_rows: most sequences decoded together. Running out of memory halves it, says so through
    ``on_warning``, and goes on.

    Raises:
        UserError: the model keeps a state that cannot be cut at a prefix (Mamba and its kin), here
        or at the first batch.
    """

    name = "transformers"

    def __init__(
        self,
        policy: Policy,
        *,
        batch_rows: int = 256,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        if batch_rows < 1:
            raise ValueError(f"batch_rows must be at least 1, got {batch_rows}")
        self.policy, self.batch_rows = policy, batch_rows
        self.on_warning = on_warning or (lambda message: None)
        self.model = policy.weights
        if getattr(self.model, "_is_stateful", False):
            raise self._unfit("it keeps a recurrent state")
        self._fits = False  # unknown until its first prefill
        absent: tuple[int, ...] = getattr(
            policy, "absent_ids", ()
        )  # a model without a tokenizer has none
        self._absent = torch.tensor(absent, device=self.model.device) if absent else None

    def sample(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> list[Response]:
        """One response a request, in the order of the requests.

        Raises:
            UserError: a NaN among the logits (names policy and rollout), or a model whose cache
            cannot be used.
        """
        # Neighbours share prompts and prefixes, and have similar lengths.
        order = sorted(range(len(requests)), key=lambda place: _sort_key(requests[place]))
        progress = Counted(on_progress)

        def next_batch(left: Sequence[int]) -> Sequence[int]:
            nonlocal progress
            progress = Counted(on_progress)
            return left[: self.batch_rows]

        def make(batch: Sequence[int]) -> list[Response]:
            return self._batch([requests[place] for place in batch], settings, progress.add)

        def shrink(batch: Sequence[int]) -> None:
            progress.catch_up(0, 0)
            self.batch_rows = max(1, len(batch) // 2)
            self.on_warning(
                f"out of memory: {self.policy.name} goes on with {self.batch_rows} sequences at a "
                "time"
            )

        responses: dict[int, Response] = {}
        for batch, made in in_batches(order, next_batch, make, shrink):
            responses.update(zip(batch, made, strict=True))
        return [responses[place] for place in range(len(requests))]

    @torch.inference_mode()
    def _batch(
        self, requests: list[Request], settings: SamplingSettings, on_progress: OnProgress
    ) -> list[Response]:
        device = self.model.device
        cache, mask = self._prefill(requests)
        lengths = torch.tensor(
            [len(r.prompt_ids) + len(r.prefix_ids) - 1 for r in requests], device=device
        )
        tokens = torch.tensor([(r.prompt_ids + r.prefix_ids)[-1] for r in requests], device=device)
        budgets = torch.tensor([r.max_new_tokens for r in requests], device=device)
        noise = np.zeros((len(requests), int(budgets.max())))
        for row, request in enumerate(requests):
            noise[row, : request.max_new_tokens] = uniforms(settings.seed, request)
        uniform = torch.from_numpy(noise).to(device)
        ends = torch.tensor(sorted(self.policy.end_ids), device=device)
        written = torch.full(uniform.shape, self.policy.pad_id, device=device)
        counts = torch.zeros(len(requests), dtype=torch.long, device=device)
        ended = torch.zeros(len(requests), dtype=torch.bool, device=device)
        rows = torch.arange(
            len(requests), device=device
        )  # the requests that are still being written
        done = torch.zeros(len(requests), dtype=torch.bool, device=device)  # among those
        masses = torch.zeros(len(requests), dtype=torch.float64, device=device)
        unfinished = len(requests)
        for step in range(uniform.shape[1]):
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            output = self.model(
                input_ids=tokens[:, None],
                attention_mask=mask,
                position_ids=lengths[:, None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            logits = output.logits[:, -1].float()
            if self._absent is not None:
                logits, mass = cut_absent(logits, self._absent, settings)
                masses[rows] += torch.where(done, 0.0, mass.double())
            tokens, broken = choose(logits, uniform[rows, step], settings)
            if self._absent is not None:
                broken |= mass.isnan()  # also where the NaN was that of an absent id
            if broken.any() and (broken & ~done).any():
                worst = requests[int(rows[(broken & ~done).nonzero()[0, 0]])]
                raise UserError(
                    f"NaN or infinity in the logits of {self.policy.name} at response position "
                    f"{len(worst.prefix_ids) + step} of "
                    f"{worst.stage} {worst.problem_id}/{worst.sample}; try --dtype float32"
                )
            live = rows[~done]
            written[live, step] = tokens[~done]
            counts[live] += 1
            ended[rows] |= ~done & torch.isin(tokens, ends)
            lengths = lengths + 1
            done = done | ended[rows] | (step + 1 >= budgets[rows])
            remaining = int((~done).sum())
            on_progress(len(live), unfinished - remaining)
            unfinished = remaining
            if remaining == 0:
                break
            if remaining <= 0.97 * len(rows):
                # The last unfinished rows move into the places of finished ones, and the batch ends
                # before the rest.
                holes = done[:remaining].nonzero().squeeze(-1)
                movers = (~done[remaining:]).nonzero().squeeze(-1) + remaining
                order = torch.arange(remaining, device=device).index_copy(0, holes, movers)
                first = int((mask.shape[1] - lengths[order]).min())
                cache.close_up(holes, movers, remaining, first)
                mask, rows, tokens, lengths = (
                    mask[order, first:],
                    rows[order],
                    tokens[order],
                    lengths[order],
                )
                done = done[order]
        table, stops, means = written.tolist(), ended.tolist(), (masses / counts).tolist()
        return [
            Response(tuple(table[row][:count]), "eos" if stops[row] else "length", means[row])
            for row, count in enumerate(counts.tolist())
        ]

    def _prefill(self, requests: list[Request]) -> tuple[GrowingCache, torch.Tensor]:
        """A right-aligned cache of every context but its last token, and its mask [rows, time].

        Prompts are run once each, left-padded; the longest prefix of each rollout is run once,
        right-padded, and every shorter one is cut from it.
        """
        device, pad = self.model.device, self.policy.pad_id
        prompts = sorted({request.prompt_ids for request in requests})
        prompt_width = max(len(prompt) for prompt in prompts)
        ids = torch.tensor(
            [[pad] * (prompt_width - len(prompt)) + list(prompt) for prompt in prompts],
            device=device,
        )
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        mask = (torch.arange(prompt_width, device=device) >= prompt_width - lengths[:, None]).long()
        cache = GrowingCache()
        self._run(ids, mask, (mask.cumsum(1) - 1).clamp(min=0), cache)

        families = _longest_prefixes(requests)
        place = {prompt: row for row, prompt in enumerate(prompts)}
        prefix_width = max(len(prefix) for _, prefix in families)
        chosen = torch.tensor([place[prompt] for prompt, _ in families], device=device)
        if prefix_width:
            cache.keep(chosen, 0)
            ids = torch.tensor(
                [list(prefix) + [pad] * (prefix_width - len(prefix)) for _, prefix in families],
                device=device,
            )
            sizes = torch.tensor([len(prefix) for _, prefix in families], device=device)
            valid = (torch.arange(prefix_width, device=device) < sizes[:, None]).long()
            positions = lengths[chosen][:, None] + torch.arange(prefix_width, device=device)
            self._run(ids, torch.cat([mask[chosen], valid], dim=1), positions, cache)
            family = {key: row for row, key in enumerate(families)}
            source = [family[key] for key in _family_of(requests, families)]
        else:
            source = [place[request.prompt_ids] for request in requests]
        ends = torch.tensor(
            [prompt_width + len(request.prefix_ids) - 1 for request in requests], device=device
        )
        sizes = torch.tensor(
            [len(r.prompt_ids) + len(r.prefix_ids) - 1 for r in requests], device=device
        )
        width = int(sizes.max())
        cache.align(torch.tensor(source, device=device), ends, width)
        return cache, (torch.arange(width, device=device) >= width - sizes[:, None]).long()

    def _run(
        self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: GrowingCache
    ) -> None:
        """Fills the cache; the head is applied to one position only, since no logits are needed."""
        try:
            self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            if self._fits:
                raise
            raise self._unfit(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        if not self._fits and not cache.holds(mask.shape[1]):
            raise self._unfit("it does not keep every token in the cache it is given")
        self._fits = True

    def _unfit(self, reason: str) -> UserError:
        return UserError(
            f"cannot sample from {self.policy.name} ({type(self.model).__name__}): the "
            "transformers engine needs a model "
            f"with an ordinary key-value cache in every layer ({reason})"
        )


Family = tuple[tuple[int, ...], tuple[int, ...]]


def _sort_key(request: Request) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    return len(request.prompt_ids), request.prompt_ids, request.prefix_ids


def _longest_prefixes(requests: list[Request]) -> list[Family]:
    """The distinct (prompt, prefix) pairs of which no other one is an extension, in sorted
    order."""
    keys = sorted({(request.prompt_ids, request.prefix_ids) for request in requests})
    return [
        (prompt, prefix)
        for (prompt, prefix), following in zip(keys, [*keys[1:], None], strict=True)
        if following is None or following[0] != prompt or following[1][: len(prefix)] != prefix
    ]


def _family_of(requests: list[Request], families: list[Family]) -> Iterator[Family]:
    """For each request the first longest prefix that begins with its own."""
    for request in requests:
        # Sorted order puts every extension of a tuple right behind it.
        yield families[bisect.bisect_left(families, (request.prompt_ids, request.prefix_ids))]
