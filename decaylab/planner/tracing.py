"""Bytes that tensors hold while code runs, and the most of them at any time; on torch's meta device
nothing is computed.

    with counted_attention(), LiveBytes(known=model.parameters()) as live:
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    live.now, live.peak

Counted is what torch hands out as tensors. Scratch inside of a kernel and the holes of an allocator
are not.
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
    """Counts the storages of all tensors that are made in the block, each once, for as long as
    anything holds them.

    known: tensors that were there before. answer: what a tensor on the meta device is said to hold
    where code asks for its value. Models ask of masks only: True is "no padding", False is "some".
    """

    def __init__(self, known: Iterable[Tensor] = (), answer: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now, self.peak, self.answer = 0, 0, answer
        self._known = [
            one.untyped_storage() for one in known
        ]  # held, so that no new one takes the id of an old one
        self._ids = {id(one) for one in self._known}
        self._live: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in ASKS and args[0].device.type == "meta":
            return self.answer
        made = func(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, Tensor):
                self._add(one.untyped_storage())
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
    """What a fused attention kernel keeps: its inputs and its output, and no table of scores."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        rows, heads, time = query.shape[:3]
        made = query.new_empty(rows, time, heads, value.shape[-1]).transpose(
            1, 2
        )  # in memory as the kernels leave it
        ctx.save_for_backward(query, key, value, made)
        return made

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        query, key, value, _made = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def counted_attention() -> Iterator[None]:
    """On the meta device torch takes attention apart, with its table of scores; in the block it is
    one kernel, as elsewhere."""
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
            attn_mask = attn_mask.to(
                query.dtype
            )  # the kernels take a mask of numbers, which is there beside theirs
        made: Tensor = _Fused.apply(query, key, value)  # type: ignore[no-untyped-call]
        return made

    # A mode for torch's functions would be off while a checkpointed layer is computed again.
    whole.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        whole.scaled_dot_product_attention = plain
