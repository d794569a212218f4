"""Which colour a model has: base student, early stop, full rollout and teacher keep theirs in every
figure.

That a student was trained on full rollouts is said by its ``selector``; where that is empty, by a
name such as sweeps give (``full``, ``full-seed-0``, ``full-seed-0/step-000050``). Everybody else is
drawn in the greens of the early stop.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
from matplotlib.colors import to_hex

from . import groups, style
from .curves import Look

FULL = re.compile(r"(^|/)full(-rollout)?(-seed-\d+)?(/|$)")


def looks(rows: pd.DataFrame) -> dict[str, Look]:
    """Colour and marker of each model of the rows, in the order in which they are drawn: base,
    checkpoints, teacher."""
    return recoloured(groups.looks(rows.checkpoint), rows)


def recoloured(known: Mapping[str, Look], rows: pd.DataFrame) -> dict[str, Look]:
    """The same looks in these colours; of several students of a kind from light to dark, in their
    order."""
    trained = [name for name in known if name not in ("base", "teacher")]
    full = [name for name in trained if is_full(name, rows)]
    early = [name for name in trained if name not in full]
    colours = {name: style.checkpoint_look(i, len(early))[0] for i, name in enumerate(early)}
    colours |= {name: _shade(style.FULL_ROLLOUT, i, len(full)) for i, name in enumerate(full)}
    return {
        name: replace(look, colour=colours.get(name, look.colour)) for name, look in known.items()
    }


def is_full(name: str, rows: pd.DataFrame) -> bool:
    """Whether a student was trained on full rollouts."""
    said = [one for one in rows[rows.checkpoint == name].selector.dropna().unique() if one]
    return "full" in said if said else FULL.search(name) is not None


def _shade(colour: str, index: int, count: int) -> str:
    """As it is for one alone; of several from 30 % white to 55 % black."""
    if count == 1:
        return colour
    shade = 0.3 - 0.85 * index / (count - 1)
    return to_hex(style.lighter(colour, shade) if shade > 0 else style.darker(colour, -shade))
