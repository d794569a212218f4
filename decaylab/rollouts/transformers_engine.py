"""The transformers engine: shrinking batches that share the cache of prompts and prefixes."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from decaylab.errors import UserError
from decaylab.policies.policy import Policy
from decaylab.rollouts.batches import Counted, in_batches
from decaylab.rollouts.cache import GrowingCache, cache_argument
from decaylab.rollouts.sampling import (
    Ids,
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

    A prompt's cache is computed once for all its responses, and a response's once for all prefixes
    cut from it. Rows are right-aligned, so that all of them write the same cache column; finished
    rows leave the batch.

    batch_rows: maximum batch size. If memory runs out, the engine halves it, warns through
    ``on_warning`` and continues.

    Raises:
        UserError: the model has a state that cannot be cut at a prefix (Mamba and similar); raised
            here or at the first batch.
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
            raise self._unfit("it has a recurrent state")
        self._fits = False  # unknown until its first prefill
        # A model without a tokenizer has no absent ids.
        absent: Ids = getattr(policy, "absent_ids", ())
        self._absent = self._tensor(absent) if absent else None

    def sample(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> list[Response]:
        """One response per request, in the order of the requests.

        Raises:
            UserError: NaN in the logits (names policy and rollout), or a model whose cache cannot
                be used.
        """
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
                f"out of memory: {self.policy.name} continues with {self.batch_rows} sequences at "
                "a time"
            )

        # Neighbours share prompts and prefixes and have similar lengths.
        order = sorted(range(len(requests)), key=lambda place: _sort_key(requests[place]))
        responses: dict[int, Response] = {}
        for batch, made in in_batches(order, next_batch, make, shrink):
            responses.update(zip(batch, made, strict=True))
        return [responses[place] for place in range(len(requests))]

    @torch.inference_mode()
    def _batch(
        self, requests: list[Request], settings: SamplingSettings, on_progress: OnProgress
    ) -> list[Response]:
        cache, mask = self._prefill(requests)
        lengths = self._tensor([len(request.context) - 1 for request in requests])
        tokens = self._tensor([request.context[-1] for request in requests])
        budgets = self._tensor([request.max_new_tokens for request in requests])
        # Drawn in advance, so a row's numbers do not depend on other rows.
        noise = np.zeros((len(requests), int(budgets.max())))
        for row, request in enumerate(requests):
            noise[row, : request.max_new_tokens] = uniforms(settings.seed, request)
        uniform = torch.from_numpy(noise).to(self.model.device)
        ends = self._tensor(sorted(self.policy.end_ids))
        written = torch.full_like(uniform, self.policy.pad_id, dtype=torch.long)
        counts = torch.zeros_like(budgets)
        ended = torch.zeros_like(budgets, dtype=torch.bool)
        masses = torch.zeros_like(budgets, dtype=torch.float64)
        rows = self._tensor(range(len(requests)))  # the requests still in the batch
        done = torch.zeros_like(ended)  # of those
        unfinished = len(requests)
        for step in range(uniform.shape[1]):
            mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)
            logits = self._logits(tokens[:, None], mask, lengths[:, None], cache)
            if self._absent is not None:
                logits, mass = cut_absent(logits, self._absent, settings)
                masses[rows] += torch.where(done, 0.0, mass.double())
            tokens, broken = choose(logits, uniform[rows, step], settings)
            if self._absent is not None:
                broken |= mass.isnan()  # also if an absent id had the NaN
            if broken.any() and (broken & ~done).any():
                worst = requests[int(rows[(broken & ~done).nonzero()[0, 0]])]
                raise UserError(
                    f"NaN or infinity in the logits of {self.policy.name} at response position "
                    f"{len(worst.prefix_ids) + step} of {worst.name}; try --dtype float32"
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
            # Not at every end, since moving rows costs more than a few idle ones.
            if remaining <= 0.97 * len(rows):
                # The last unfinished rows move to the places of finished ones.
                holes = done[:remaining].nonzero().squeeze(-1)
                movers = (~done[remaining:]).nonzero().squeeze(-1) + remaining
                order = self._tensor(range(remaining)).index_copy(0, holes, movers)
                first = int((mask.shape[1] - lengths[order]).min())
                cache.close_up(holes, movers, remaining, first)
                mask, rows, tokens = mask[order, first:], rows[order], tokens[order]
                lengths, done = lengths[order], done[order]
        ids, has_ended, means = written.tolist(), ended.tolist(), (masses / counts).tolist()
        responses = []
        for row, count in enumerate(counts.tolist()):
            written_ids = tuple(ids[row][:count])
            responses.append(
                Response(written_ids, "eos" if has_ended[row] else "length", means[row])
            )
        return responses

    def _prefill(self, requests: list[Request]) -> tuple[GrowingCache, Tensor]:
        """A right-aligned cache of every context but its last token, and its mask [rows, time].

        Prompts are run once each, left-padded; the longest prefix of each rollout is run once,
        right-padded, and every shorter one is cut from it.
        """
        pad = self.policy.pad_id
        prompts = sorted({request.prompt_ids for request in requests})
        prompt_width = max(map(len, prompts))
        ids = [[pad] * (prompt_width - len(prompt)) + list(prompt) for prompt in prompts]
        lengths = self._tensor(list(map(len, prompts)))
        mask = self._last(lengths, prompt_width)
        cache = GrowingCache()
        self._run(self._tensor(ids), mask, (mask.cumsum(1) - 1).clamp(min=0), cache)

        families = _longest_prefixes(requests)
        place = {prompt: row for row, prompt in enumerate(prompts)}
        source = [place[request.prompt_ids] for request in requests]
        prefix_width = max(len(prefix) for _, prefix in families)
        if prefix_width:
            chosen = self._tensor([place[prompt] for prompt, _ in families])
            cache.keep(chosen, 0)
            sizes = self._tensor([len(prefix) for _, prefix in families])
            ids = [list(prefix) + [pad] * (prefix_width - len(prefix)) for _, prefix in families]
            columns = self._tensor(range(prefix_width))
            whole = torch.cat([mask[chosen], (columns < sizes[:, None]).long()], dim=1)
            self._run(self._tensor(ids), whole, lengths[chosen][:, None] + columns, cache)
            family = {key: row for row, key in enumerate(families)}
            source = [family[key] for key in _family_of(requests, families)]
        ends = [prompt_width + len(request.prefix_ids) - 1 for request in requests]
        sizes = self._tensor([len(request.context) - 1 for request in requests])
        width = int(sizes.max())
        cache.align(self._tensor(source), self._tensor(ends), width)
        return cache, self._last(sizes, width)

    def _run(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: GrowingCache) -> None:
        """Fills the cache."""
        try:
            self._logits(ids, mask, positions, cache)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            if self._fits:
                raise
            raise self._unfit(f"{type(error).__name__}: {error}".splitlines()[0]) from error
        if not self._fits and not cache.holds(mask.shape[1]):
            raise self._unfit("it does not store every token in the given cache")
        self._fits = True

    def _logits(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: GrowingCache) -> Tensor:
        """Logits at the last position, [rows, vocab], in float32."""
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            **cache_argument(self.model, cache),
            use_cache=True,
            logits_to_keep=1,
        )
        return torch.as_tensor(output.logits[:, -1].float())

    def _last(self, sizes: Tensor, width: int) -> Tensor:
        """A mask [rows, width] of the last ``sizes`` columns of each row."""
        return (self._tensor(range(width)) >= width - sizes[:, None]).long()

    def _tensor(self, values: Sequence[int] | Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(values, device=self.model.device, dtype=torch.long)

    def _unfit(self, reason: str) -> UserError:
        return UserError(
            f"cannot sample from {self.policy.name} ({type(self.model).__name__}): {reason}; the "
            "transformers engine needs an ordinary key-value cache in every layer; try --engine "
            "vllm"
        )


Family = tuple[Ids, Ids]
"""A prompt and a prefix that shorter ones are cut from."""


def _sort_key(request: Request) -> tuple[int, Ids, Ids]:
    return len(request.prompt_ids), request.prompt_ids, request.prefix_ids


def _longest_prefixes(requests: list[Request]) -> list[Family]:
    """The distinct (prompt, prefix) pairs that no other pair extends, sorted."""
    keys = sorted({(request.prompt_ids, request.prefix_ids) for request in requests})
    longest: list[Family] = []
    for prompt, prefix in reversed(keys):
        # Sorting puts every extension of a pair right after it.
        if longest and longest[-1][0] == prompt and longest[-1][1][: len(prefix)] == prefix:
            continue
        longest.append((prompt, prefix))
    return longest[::-1]


def _family_of(requests: list[Request], families: list[Family]) -> Iterator[Family]:
    """For each request, the first longest prefix that begins with its own prefix."""
    for request in requests:
        yield families[bisect.bisect_left(families, (request.prompt_ids, request.prefix_ids))]
