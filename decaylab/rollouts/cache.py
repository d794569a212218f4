"""A key-value cache whose rows can be copied, cut, realigned and dropped.

It has the interface of a `transformers` cache. All rows share columns; a buffer with spare room
takes new columns without copying the old ones.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

SPARE_COLUMNS = 64


def cache_argument(model: Any, cache: Cache) -> dict[str, Cache]:
    """The cache as an argument of a model: its name is ``cache`` from transformers 5.24 on."""
    named = "cache" in inspect.signature(model.forward).parameters
    return {"cache" if named else "past_key_values": cache}


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values of one layer, [rows, heads, columns, features]: views into larger buffers."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.columns = 0
        self._keys, self._values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        # Copying the whole cache at every token would make sampling quadratic.
        end = self.columns + key_states.shape[2]
        if end > self._keys.shape[2]:
            self._keys, self._values = self._grown(self._keys, end), self._grown(self._values, end)
        self._keys[:, :, self.columns : end] = key_states
        self._values[:, :, self.columns : end] = value_states
        return self._view(end)

    def _grown(self, buffer: Tensor, end: int) -> Tensor:
        grown = buffer.new_empty((*buffer.shape[:2], end + SPARE_COLUMNS, buffer.shape[3]))
        grown[:, :, : self.columns] = buffer[:, :, : self.columns]
        return grown

    def _view(self, columns: int) -> tuple[Tensor, Tensor]:
        self.columns = columns
        keys, values = self._keys[:, :, :columns], self._values[:, :, :columns]
        self.keys, self.values = keys, values
        return keys, values

    def keep(self, rows: Tensor, first: int) -> None:
        """Keeps these rows (repeats allowed), from this column on."""
        self._keys = self._keys[:, :, first : self.columns].index_select(0, rows)
        self._values = self._values[:, :, first : self.columns].index_select(0, rows)
        self._view(self.columns - first)

    def close_up(self, holes: Tensor, movers: Tensor, count: int, first: int) -> None:
        """Moves rows ``movers`` to ``holes``; keeps ``count`` rows, from column ``first`` on.

        Only the movers are copied; the buffer shrinks to the remaining rows when it next grows.
        """
        for buffer in (self._keys, self._values):
            buffer[holes, :, first : self.columns] = buffer[movers, :, first : self.columns]
        self._keys, self._values = self._keys[:count, :, first:], self._values[:count, :, first:]
        self._view(self.columns - first)

    def align(self, rows: Tensor, ends: Tensor, width: int) -> None:
        """Row i becomes columns [ends[i] - width, ends[i]) of old row rows[i].

        Column indices below 0 repeat column 0.
        """
        columns = (ends[:, None] - width + torch.arange(width, device=ends.device)).clamp(min=0)
        self._keys = self._keys[rows[:, None], :, columns].transpose(1, 2).contiguous()
        self._values = self._values[rows[:, None], :, columns].transpose(1, 2).contiguous()
        self._view(width)

    def get_seq_length(self) -> int:
        return self.columns if self.is_initialized else 0


class GrowingCache(Cache):
    """One `GrowingLayer` for each attention layer of a model."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=GrowingLayer)

    def keep(self, rows: Tensor, first: int) -> None:
        for layer in self._rows():
            layer.keep(rows, first)

    def close_up(self, holes: Tensor, movers: Tensor, count: int, first: int) -> None:
        for layer in self._rows():
            layer.close_up(holes, movers, count, first)

    def align(self, rows: Tensor, ends: Tensor, width: int) -> None:
        for layer in self._rows():
            layer.align(rows, ends, width)

    def holds(self, columns: int) -> bool:
        """Whether every layer is an attention layer with this many columns."""
        return bool(self.layers) and all(
            isinstance(layer, GrowingLayer) and layer.get_seq_length() == columns
            for layer in self.layers
        )

    def _rows(self) -> list[GrowingLayer]:
        return cast(list[GrowingLayer], self.layers)
