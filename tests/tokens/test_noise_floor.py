"""The floor by hand: the same statistic over the rollouts scored twice, once by each route."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from decaylab.runs.measurements import Measurement, to_frame
from decaylab.tokens.noise_floor import with_noise_floor
from decaylab.tokens.token_table import Scored, TokenTable

# Rollouts of 2, 1 and 3 tokens; the second and third are scored again.
LENGTHS, TWICE = np.array([2, 1, 3]), np.array([False, True, True])
FIRST = np.array([9.0, 9.0, 1.0, 2.0, 3.0, 4.0])
AGAIN = np.array([1.5, 2.5, 3.0, 4.0])


def table(reverse_kl: np.ndarray, lengths: np.ndarray) -> TokenTable:
    return TokenTable(lengths, np.zeros(len(lengths), dtype=int), 1, {"reverse_kl": reverse_kl})


def scored(checkpoint: str, values: np.ndarray = FIRST, again: np.ndarray | None = AGAIN) -> Scored:
    if again is None:
        return Scored(checkpoint, "fresh", table(values, LENGTHS))
    return Scored(checkpoint, "fresh", table(values, LENGTHS), TWICE, table(again, LENGTHS[TWICE]))


def measure(scored: Sequence[Scored]) -> pd.DataFrame:
    """Mean reverse KL, and its ratio to that of base where base is there; one row has bins and one
    has none."""
    value = {one.checkpoint: float(np.mean(one.tokens["reverse_kl"])) for one in scored}
    rows = [
        Measurement(
            "mean",
            "all",
            value[name],
            "nats",
            checkpoint=name,
            position_low=0.0,
            position_high=math.inf,
        )
        for name in value
    ]
    rows += [
        Measurement("change", "all", value[name] / value["base"], "ratio", checkpoint=name)
        for name in value
        if name != "base" and "base" in value
    ]
    return to_frame(rows)


def floors(frame: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(row.what, row.checkpoint): row.noise_floor for row in frame.itertuples()}


def test_the_floor_is_the_change_over_the_rollouts_scored_twice() -> None:
    """Scored twice are 1, 2, 3, 4: mean 2.5; again 1.5, 2.5, 3, 4: mean 2.75; floor .25. Against
    all rollouts, whose mean is 28/6, it would be 1.92."""
    frame = with_noise_floor(measure, [scored("base")])
    assert frame["value"].tolist() == [28 / 6]
    assert frame["noise_floor"].tolist() == [0.25]
    assert not frame["under_floor"].any()


def test_a_row_without_coordinates_finds_its_floor_and_each_checkpoint_its_own() -> None:
    """ckpt: 4 x (1, 2, 3, 4) against 4 x (1, 2, 3, 4) + 2: means 10 and 12; ratios 10 / 2.5 and 12
    / 2.75."""
    frame = with_noise_floor(
        measure, [scored("base"), scored("ckpt", 4 * FIRST, np.array([6.0, 10.0, 14.0, 18.0]))]
    )
    expected = {("mean", "base"): 0.25, ("mean", "ckpt"): 2.0, ("change", "ckpt"): 12 / 2.75 - 4}
    assert floors(frame) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "under"), [(0.49, True), (0.51, False), (-0.49, True), (-0.51, False), (0.0, True)]
)
def test_under_the_floor_is_within_twice_of_no_effect(value: float, under: bool) -> None:
    """The floor is .25: |value| of nats, and the distance of a ratio from 1, count as nothing up to
    .5."""

    def one_row(unit: str, no_effect: float) -> pd.DataFrame:
        def measured(entries: Sequence[Scored]) -> pd.DataFrame:
            mean = float(np.mean(entries[0].tokens["reverse_kl"]))
            whole = len(entries[0].tokens) == 6
            return to_frame([Measurement("x", "all", no_effect + value if whole else mean, unit)])

        return with_noise_floor(measured, [scored("base")])

    for unit, no_effect in (("nats", 0.0), ("fraction", 0.0), ("ratio", 1.0)):
        frame = one_row(unit, no_effect)
        assert frame["noise_floor"].tolist() == [0.25]
        assert frame["under_floor"].tolist() == [under]


def test_what_was_scored_once_has_no_floor_and_is_not_flagged() -> None:
    once = with_noise_floor(measure, [scored("base", again=None)])
    pd.testing.assert_frame_equal(once, measure([scored("base", again=None)]))
    frame = with_noise_floor(measure, [scored("base"), scored("ckpt", again=None)])
    assert floors(frame)["mean", "base"] == 0.25
    assert math.isnan(floors(frame)["mean", "ckpt"]) and math.isnan(floors(frame)["change", "ckpt"])
    assert frame["under_floor"].dtype == bool and not frame["under_floor"].any()


def test_nothing_else_of_the_frame_changes() -> None:
    entries = [scored("base"), scored("ckpt", 4 * FIRST, 4 * AGAIN)]
    frame, bare = with_noise_floor(measure, entries), measure(entries)
    columns = [column for column in bare.columns if column not in ("noise_floor", "under_floor")]
    pd.testing.assert_frame_equal(frame[columns], bare[columns])
    assert list(frame.columns) == list(bare.columns)
    assert frame.loc[frame["what"] == "change", "noise_floor"].tolist() == [0.0]
    assert not frame["under_floor"].any()


def test_rows_that_one_route_alone_gives_have_no_floor_and_shift_no_other() -> None:
    def measured(entries: Sequence[Scored]) -> pd.DataFrame:
        mean = float(np.mean(entries[0].tokens["reverse_kl"]))
        names = (
            ["a", "b", "c"] if mean < 2.6 else ["c", "b"]
        )  # 2.5 by the first route, 2.75 by the second
        tokens = {"a": 1.0, "b": 2.0, "c": 3.0}
        return to_frame(
            [Measurement("x", "all", mean * tokens[name], "nats", token=name) for name in names]
        )

    assert measured([scored("base")])["token"].tolist() == ["c", "b"]
    frame = with_noise_floor(measured, [scored("base")])
    assert frame["noise_floor"].tolist() == pytest.approx([0.75, 0.5])
    frame = with_noise_floor(measured, [scored("base", FIRST / 4)])
    assert frame["token"].tolist() == ["a", "b", "c"]
    assert frame["noise_floor"].tolist() == pytest.approx(
        [math.nan, 2 * (2.75 - 0.625), 3 * (2.75 - 0.625)], nan_ok=True
    )


def test_rows_that_share_a_key_are_refused() -> None:
    def twice(entries: Sequence[Scored]) -> pd.DataFrame:
        return pd.concat([measure(entries)] * 2, ignore_index=True)

    with pytest.raises(ValueError, match="duplicate"):
        with_noise_floor(twice, [scored("base")])
