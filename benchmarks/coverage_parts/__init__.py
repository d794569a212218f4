"""Simulations with a known truth, one module a subject; `coverage.py` runs them, the slow tests
assert them.

A module has `rows(draws)`: one dict a case, with what the case is, then the rates that were found,
each with `error(...)`.
"""

from __future__ import annotations

import math


def error(rate: float, draws: int) -> float:
    """Monte Carlo standard error of a rate over so many draws; that of one miss where there is
    none."""
    inside = min(max(rate, 1 / draws), 1 - 1 / draws)
    return math.sqrt(inside * (1 - inside) / draws)
