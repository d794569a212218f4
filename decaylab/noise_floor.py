"""The noise floor: how much a measured number changes when the same tokens are scored by a second route.

Results closer to 0 than twice their floor say nothing: ``under_floor`` marks them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from decaylab.token_table import Scored

KEY = ["what", "condition", "view", "checkpoint", "position_low", "position_high", "category", "token"]


def with_noise_floor(measure: Callable[[Sequence[Scored]], pd.DataFrame], scored: Sequence[Scored]) -> pd.DataFrame:
    """What ``measure`` gives, with noise_floor and under_floor filled in where the tokens were scored twice.

    The floor of a number is the absolute difference between two values of the very same statistic: over the rollouts
    that were scored twice, by the first route and by the second. NaN where none was.
    """
    frame = measure(scored)
    twice = [one for one in scored if one.rescored is not None and one.floor_rollouts is not None]
    if not twice:
        return frame
    routes = [
        measure([replace(one, tokens=one.tokens.only(one.floor_rollouts), rescored=None) for one in twice]),  # type: ignore[arg-type]
        measure([replace(one, tokens=one.rescored, rescored=None) for one in twice]),  # type: ignore[arg-type]
    ]
    first, second = (route.set_index(KEY)["value"] for route in routes)
    floors = (first - second).abs()
    found = floors.reindex(pd.MultiIndex.from_frame(frame[KEY])).to_numpy()
    return frame.assign(noise_floor=found, under_floor=frame["value"].abs() < 2 * found)
