"""The noise floor: how much a number changes if the same tokens are scored by a second route.

``under_floor`` marks results closer to no effect than twice their floor, which show nothing. No
effect is 0, or 1 for a ratio of two measurements (unit ``ratio``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from decaylab.runs.vocabulary import RATIO
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
    """The result of ``measure`` with noise_floor and under_floor.

    A number's floor is the absolute difference between two values of the same statistic, over the
    rollouts that were scored twice: by the first route and by the second. It is NaN if no rollout
    was scored twice.

    Args:
        again: measures the rollouts that were scored twice, if ``measure`` would leave out
            quantities that are rare among so few.

    Raises:
        ValueError: two rows share all of `KEY`.
    """
    frame = measure(scored)
    twice = [
        view for view in scored if view.rescored is not None and view.floor_rollouts is not None
    ]
    if not twice:
        return frame
    # Both routes with the same function, so that only the scores differ.
    again = again or measure
    first, second = (_by_key(again(_by_route(twice, second=last))) for last in (False, True))
    floor = (first - second).abs().reindex(pd.MultiIndex.from_frame(_keys(frame))).to_numpy()
    effect = (frame["value"] - np.where(frame["unit"] == RATIO, 1.0, 0.0)).abs()
    return frame.assign(noise_floor=floor, under_floor=effect < 2 * floor)


def _keys(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns `KEY`, without the category of single tokens, which depends on the rollouts."""
    return frame[KEY].assign(category=frame["category"].where(frame["token"] == "", ""))


def _by_key(frame: pd.DataFrame) -> pd.Series[float]:
    values = frame["value"].set_axis(pd.MultiIndex.from_frame(_keys(frame)))
    if not values.index.is_unique:
        raise ValueError(
            f"rows have a duplicate key: {values.index[values.index.duplicated()][0]}, of {KEY}"
        )
    return values


def _by_route(twice: Sequence[Scored], *, second: bool) -> list[Scored]:
    """The rollouts that were scored twice, by one of the two routes."""
    kept = []
    for view in twice:
        assert view.floor_rollouts is not None and view.rescored is not None
        tokens = view.tokens.only(view.floor_rollouts)
        assert np.array_equal(tokens.lengths, view.rescored.lengths), "routes differ in rollouts"
        tokens = view.rescored if second else tokens
        kept.append(replace(view, tokens=tokens, floor_rollouts=None, rescored=None))
    return kept
