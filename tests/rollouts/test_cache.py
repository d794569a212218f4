"""The growing cache against a slow construction of the same rows and columns."""

from __future__ import annotations

import pytest
import torch

from decaylab.rollouts.cache import SPARE_COLUMNS, GrowingCache, GrowingLayer, cache_argument

HEADS, FEATURES = 2, 3


def states(rows: int, columns: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values that differ everywhere; values have a width of their own, as in multi-head
    latent attention."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(rows, HEADS, columns, FEATURES, generator=generator),
        torch.randn(rows, HEADS, columns, FEATURES + 1, generator=generator),
    )


def filled(
    rows: int, columns: int, seed: int = 0
) -> tuple[GrowingLayer, torch.Tensor, torch.Tensor]:
    layer = GrowingLayer()
    keys, values = states(rows, columns, seed)
    layer.update(keys, values)
    return layer, keys, values


def test_growing_over_its_capacity_keeps_every_column() -> None:
    layer, keys, values = filled(2, 5)
    for step in range(3 * SPARE_COLUMNS):
        more = states(2, 1 + step % 3, seed=step + 1)
        keys, values = torch.cat([keys, more[0]], 2), torch.cat([values, more[1]], 2)
        seen = layer.update(*more)
        assert torch.equal(seen[0], keys) and torch.equal(seen[1], values)
    assert layer.get_seq_length() == keys.shape[2]
    assert torch.equal(layer.keys, keys) and torch.equal(layer.values, values)


def test_one_column_more_does_not_copy_the_others() -> None:
    layer, *_ = filled(2, 5)
    before = layer.keys.data_ptr()
    for step in range(SPARE_COLUMNS):
        layer.update(*states(2, 1, seed=step))
    assert layer.keys.data_ptr() == before


def test_keep_takes_rows_in_the_order_asked_repeats_included_from_a_column_on() -> None:
    layer, keys, values = filled(4, 7)
    rows, first = [3, 0, 0, 2], 2
    layer.keep(torch.tensor(rows), first)
    for new, old in enumerate(rows):
        for column in range(7 - first):
            assert torch.equal(layer.keys[new, :, column], keys[old, :, first + column])
            assert torch.equal(layer.values[new, :, column], values[old, :, first + column])
    assert layer.get_seq_length() == 7 - first


def test_repeated_rows_are_written_apart_afterwards() -> None:
    layer, keys, _ = filled(1, 3)
    layer.keep(torch.tensor([0, 0]), 0)
    new = states(2, 1, seed=9)
    layer.update(*new)
    assert torch.equal(layer.keys[0, :, :3], keys[0]) and torch.equal(layer.keys[1, :, :3], keys[0])
    assert torch.equal(layer.keys[:, :, 3:], new[0]) and not torch.equal(
        layer.keys[0, :, 3], layer.keys[1, :, 3]
    )


@pytest.mark.parametrize("holes, movers", [([0, 2], [3, 5]), ([1], [4]), ([], [])])
def test_close_up_moves_the_last_rows_into_the_holes_and_goes_on_growing(
    holes: list[int], movers: list[int]
) -> None:
    count, first = 3, 2
    cache, (keys, values) = GrowingCache(), states(6, 7)
    cache.update(keys, values, layer_idx=0)
    cache.close_up(
        torch.tensor(holes, dtype=torch.long), torch.tensor(movers, dtype=torch.long), count, first
    )
    rows = list(range(count))
    for hole, mover in zip(holes, movers, strict=True):
        rows[hole] = mover
    wanted = keys[rows][:, :, first:], values[rows][:, :, first:]
    (layer,) = cache.layers
    assert torch.equal(layer.keys, wanted[0]) and torch.equal(layer.values, wanted[1])
    for step in range(
        2 * SPARE_COLUMNS
    ):  # within the spare columns of the old buffer, and beyond them
        more = states(count, 1, seed=step + 1)
        wanted = torch.cat([wanted[0], more[0]], 2), torch.cat([wanted[1], more[1]], 2)
        seen = cache.update(*more, layer_idx=0)
        assert torch.equal(seen[0], wanted[0]) and torch.equal(seen[1], wanted[1])


@pytest.mark.parametrize("width", [1, 3, 6])
def test_align_right_aligns_each_cut(width: int) -> None:
    layer, keys, values = filled(3, 6)
    rows, ends = [2, 0, 0, 1], [6, 1, 3, 4]
    layer.align(torch.tensor(rows), torch.tensor(ends), width)
    for new, (old, end) in enumerate(zip(rows, ends, strict=True)):
        for column in range(width):
            source = end - width + column
            if source >= 0:  # what stands before the row's first column is masked
                assert torch.equal(layer.keys[new, :, column], keys[old, :, source])
                assert torch.equal(layer.values[new, :, column], values[old, :, source])
    assert layer.get_seq_length() == width


def test_align_to_no_columns_leaves_an_empty_cache_that_can_grow() -> None:
    layer, *_ = filled(2, 1)
    layer.align(torch.tensor([0, 1]), torch.tensor([0, 0]), 0)
    assert layer.get_seq_length() == 0
    new = states(2, 1, seed=4)
    assert torch.equal(layer.update(*new)[0], new[0])


def test_keep_and_align_after_growth_ignore_the_spare_columns() -> None:
    layer, keys, _ = filled(2, 4)
    more = states(2, 1, seed=1)
    layer.update(*more)
    whole = torch.cat([keys, more[0]], 2)
    layer.keep(torch.tensor([1]), 1)
    assert torch.equal(layer.keys, whole[1:, :, 1:])
    layer.align(torch.tensor([0]), torch.tensor([3]), 2)
    assert torch.equal(layer.keys, whole[1:, :, 2:4])


def test_a_cache_moves_all_its_layers_together() -> None:
    cache = GrowingCache()
    assert not cache.holds(0)
    whole = [states(3, 4, seed=index) for index in range(2)]
    for index, one in enumerate(whole):
        cache.update(*one, layer_idx=index)
    assert cache.holds(4) and not cache.holds(5)
    cache.keep(torch.tensor([2, 1]), 1)
    cache.align(torch.tensor([1, 0, 0]), torch.tensor([3, 2, 3]), 2)
    for layer, (keys, _) in zip(cache.layers, whole, strict=True):
        assert torch.equal(
            layer.keys, torch.stack([keys[1, :, 2:4], keys[2, :, 1:3], keys[2, :, 2:4]])
        )
    assert cache.holds(2) and cache.get_seq_length() == 2


def test_a_layer_that_was_passed_over_is_noticed() -> None:
    cache = GrowingCache()
    cache.update(*states(1, 4), layer_idx=1)
    assert not cache.holds(4)


def test_the_cache_is_given_by_the_name_that_the_model_has_for_it() -> None:
    class Older:
        def forward(self, input_ids: object, past_key_values: object = None) -> None: ...

    class Newer:
        def forward(self, input_ids: object, cache: object = None) -> None: ...

    cache = GrowingCache()
    assert cache_argument(Older(), cache) == {"past_key_values": cache}
    assert cache_argument(Newer(), cache) == {"cache": cache}
