"""Counts the bytes of live tensors while code runs, and their peak.

    with counted_attention(), LiveBytes(known=model.parameters()) as live:
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    live.now, live.peak

On torch's meta device nothing is computed. Counts tensors only, without a kernel's scratch memory
and the allocator's fragmentation.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

ASKS = frozenset({"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero"})


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storage of every tensor created in the block, once each, while it is alive.

    known: existing tensors, not counted. Reading the value of a meta tensor returns True: models
    do so only for masks, where True means "no padding".
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak = 0, 0
        # Kept alive, so that no new storage gets the id of an old one.
        self._known = [tensor.untyped_storage() for tensor in known]
        self._ids = {id(storage) for storage in self._known}
        self._live: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in ASKS and args[0].device.type == "meta":
            return True
        made = func(*args, **(kwargs or {}))
        for result in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(result, Tensor):
                self._add(result.untyped_storage())
        return made

    def _add(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self._live or key in self._ids:
            return

        def gone(_: Any) -> None:
            del self._live[key]
            self.now -= size

        self._live[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)


class _Fused(torch.autograd.Function):
    """A stand-in for fused attention: keeps inputs and output, but no attention matrix."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, heads, time = query.shape[:3]
        # The memory layout of the real kernels.
        made = query.new_empty(rows, time, heads, value.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(query, key, value, made)
        return made

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _made = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def counted_attention() -> Iterator[None]:
    """Makes attention one fused kernel in the block, as on real devices.

    On the meta device, torch would decompose it and create the attention matrix.
    """
    whole: Any = torch.nn.functional
    plain = whole.scaled_dot_product_attention

    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> Tensor:
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            # The kernels convert the mask to numbers, in addition to the given one.
            attn_mask = attn_mask.to(query.dtype)
        made: Tensor = _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]
        return made

    # Not a TorchFunctionMode: it would be off while a checkpointed layer is recomputed.
    whole.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        whole.scaled_dot_product_attention = plain
