"""The noise floor: how much a measured number changes when the same tokens are scored by a second
route.

Results closer to no effect than twice their floor say nothing: ``under_floor`` marks them. No
effect is 0, of a quotient of two measurements (unit ``ratio``) 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from decaylab.tokens.token_table import Scored

KEY = [
    "what",
    "condition",
    "view",
    "checkpoint",
    "position_low",
    "position_high",
    "category",
    "token",
]


Measure = Callable[[Sequence[Scored]], pd.DataFrame]


def with_noise_floor(
    measure: Measure, scored: Sequence[Scored], again: Measure | None = None
) -> pd.DataFrame:
    """What ``measure`` gives, with noise_floor and under_floor filled in where the tokens were
    scored twice.

    The floor of a number is the absolute difference between two values of the very same statistic:
    over the rollouts that were scored twice, by the first route and by the second. NaN where none
    was.

    again: measures the rollouts that were scored twice, where ``measure`` would leave out what is
    rare among so few.

    Raises ValueError where two rows share all of `KEY`.
    """
    frame = measure(scored)
    routes = _both_routes(scored)
    if not routes[0]:
        return frame
    first, second = (_by_key((again or measure)(route)) for route in routes)
    found = (first - second).abs().reindex(pd.MultiIndex.from_frame(_keys(frame))).to_numpy()
    effect = (frame["value"] - np.where(frame["unit"] == "ratio", 1.0, 0.0)).abs()
    return frame.assign(noise_floor=found, under_floor=effect < 2 * found)


def _keys(frame: pd.DataFrame) -> pd.DataFrame:
    """`KEY`; a single token counts whatever category most of its places have among the rollouts at
    hand."""
    return frame[KEY].assign(category=frame["category"].where(frame["token"] == "", ""))


def _by_key(frame: pd.DataFrame) -> pd.Series[float]:
    values = frame["value"].set_axis(pd.MultiIndex.from_frame(_keys(frame)))
    if not values.index.is_unique:
        raise ValueError(
            f"rows have a duplicate key: {values.index[values.index.duplicated()][0]}, of {KEY}"
        )
    return values


def _both_routes(scored: Sequence[Scored]) -> tuple[list[Scored], list[Scored]]:
    """The rollouts that were scored twice, by the first route and by the second."""
    first, second = [], []
    for one in scored:
        if one.rescored is None or one.floor_rollouts is None:
            continue
        kept = one.tokens.only(one.floor_rollouts)
        assert np.array_equal(kept.lengths, one.rescored.lengths), (
            "both routes score the same rollouts"
        )
        first.append(replace(one, tokens=kept, floor_rollouts=None, rescored=None))
        second.append(replace(one, tokens=one.rescored, floor_rollouts=None, rescored=None))
    return first, second
