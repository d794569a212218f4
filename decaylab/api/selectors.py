"""Selectors: which positions of a rollout carry the loss, and with what weight.

    >>> import numpy as np
    >>> from decaylab.api import selectors
    >>> kl = np.array([0.1, 0.9, 0.0, 0.4])
    >>> signals = selectors.Signals(kl, kl, kl, -kl, -kl)   # of one rollout of four tokens
    >>> selectors.weigh("top-reverse-kl", signals, budget=2, rng=np.random.default_rng(0))
    array([0., 1., 0., 1.])
    >>> selectors.weigh("prefix", signals, budget=2, rng=np.random.default_rng(0))
    array([1., 1., 0., 0.])

`SELECTORS` lists them by name. Training uses the same function: ``dl.train(selector=NAME)``.
"""

from __future__ import annotations

from decaylab.maths.selection import (
    SELECTORS,
    Selector,
    Signals,
    progressive_budget,
    select,
    weigh,
)

__all__ = ["SELECTORS", "Selector", "Signals", "progressive_budget", "select", "weigh"]
