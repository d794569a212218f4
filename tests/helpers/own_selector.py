"""A plugin that registers a selector, loaded where every option is tested."""

from __future__ import annotations

import decaylab as dl
from decaylab.maths.selection import Floats, Signals, suffix


@dl.selector("suffix-twice", needs_signals=False)
def suffix_twice(signals: Signals, budget: int, rng: object) -> Floats:
    """2 at the last positions, [time]."""
    return 2 * suffix(signals, budget, rng)  # type: ignore[arg-type]
