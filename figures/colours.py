"""Which colour a model has: base student, early stop, full rollout and teacher keep theirs in every
figure.

A student was trained on full rollouts if its ``selector`` says so; where that is empty, if it has a
name such as sweeps give (``full``, ``full-seed-0``, ``full-seed-0/step-000050``). All other trained
students are drawn in the greens of the early stop.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pandas as pd

from decaylab.runs import vocabulary

from . import style
from .artists import Look
from .running_text import short

FULL = re.compile(r"(^|/)full(-rollout)?(-seed-\d+)?(/|$)")
LONGEST_NAME = 30  # characters in a key
MOST_NAMED = 9  # models in a key; of more the first and the last of the trained ones
BASE = Look("base student", style.STUDENT, "o")
TEACHER = Look("teacher", style.TEACHER, "p")


def looks(rows: pd.DataFrame) -> dict[str, Look]:
    """Colour and marker of each model of the rows, in the order in which they are drawn: base,
    checkpoints, teacher. Several students of a kind go from light to dark."""
    names = [str(name) for name in rows.checkpoint.unique()]
    trained = [name for name in names if name not in (vocabulary.BASE, vocabulary.TEACHER)]
    colours: dict[str, str] = {}
    full = _of_full_rollouts(trained, rows)
    for kind, colour in ((False, style.ESR), (True, style.FULL_ROLLOUT)):
        alike = [name for name in trained if (name in full) == kind]
        colours |= zip(alike, style.shades(colour, len(alike)), strict=True)
    known = {vocabulary.BASE: BASE} if vocabulary.BASE in names else {}
    for name, marker in zip(trained, style.markers(len(trained)), strict=True):
        known[name] = Look(short(name, LONGEST_NAME), colours[name], marker)
    if vocabulary.TEACHER in names:
        known[vocabulary.TEACHER] = TEACHER
    return known


def folded(known: Mapping[str, Look]) -> list[Look]:
    """The looks that a key names: of very many checkpoints the first and the last, whose shades
    all others lie between."""
    trained = [name for name in known if name not in (vocabulary.BASE, vocabulary.TEACHER)]
    if len(known) <= MOST_NAMED:
        return list(known.values())
    first, last = known[trained[0]], known[trained[-1]]
    named = {trained[0]: first, trained[-1]: last}
    named[trained[0]] = replace(first, name=f"{first.name} (first of {len(trained)})")
    named[trained[-1]] = replace(last, name=f"{last.name} (last)")
    shown = {name: named.get(name, look) for name, look in known.items()}
    return [look for name, look in shown.items() if name in named or name not in trained]


def _of_full_rollouts(names: Iterable[str], rows: pd.DataFrame) -> set[str]:
    """The students that were trained on full rollouts."""
    known = rows[["checkpoint", "selector"]].drop_duplicates().dropna()
    selectors: dict[str, set[str]] = {}
    for name, selector in known[known.selector != ""].itertuples(index=False):
        selectors.setdefault(str(name), set()).add(selector)
    # sweeps name arms by their selector, but a user's own checkpoint may have any name
    return {
        name
        for name in names
        if (vocabulary.FULL in selectors[name] if name in selectors else FULL.search(name))
    }
