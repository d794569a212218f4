"""A plugin as a user writes it, and registries that are as before when a test ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from decaylab.maths.selection import SELECTORS
from decaylab.plugins import loading
from decaylab.plugins.origins import ANSWER_RULE, FILE_MODULE, ORIGINS, PROBLEM_SET, SELECTOR
from decaylab.problems.answers import RULES
from decaylab.problems.own_sets import SETS

PLUGIN = '''
import decaylab as dl
import numpy as np


@dl.selector("last-half-weights", needs_signals=False)
def last_half(signals, budget, rng):
    weights = np.zeros(len(signals.reverse_kl))
    weights[-budget:] = 0.5
    return weights


@dl.answer_rule("last_word")
def last_word(response, gold):
    """The last word, without its full stop."""
    words = response.split()
    return words[-1].strip(".") == gold if words else None


@dl.answer_rule("odd_length")
def odd_length(response, gold):
    return len(response) % 2 == 1


@dl.problem_set("little-sums", answer_rule="odd_length")
def little_sums(limit):
    for i in range(1, 10**9):
        yield {"question": f"{i} beads and {i} more", "answer": "{]" + str(2 * i)}
'''


def write_plugin(folder: Path, text: str = PLUGIN, name: str = "my_parts.py") -> Path:
    """A plugin file."""
    path = folder / name
    path.write_text(text)
    return path


@contextmanager
def forgotten(*, at_once: bool = False) -> Iterator[None]:
    """Whatever is registered inside is unknown again at the end.

    at_once: what was registered before is unknown inside.
    """
    kept = [(names, dict(names)) for names in (SELECTORS, RULES, SETS, ORIGINS)]
    modules = set(sys.modules)
    if at_once:
        for kind, name in list(ORIGINS):
            {SELECTOR: SELECTORS, ANSWER_RULE: RULES, PROBLEM_SET: SETS}[kind].pop(name)
        ORIGINS.clear()
    try:
        yield
    finally:
        for names, before in kept:
            names.clear()
            names.update(before)  # type: ignore[arg-type]
        for name in set(sys.modules) - modules:
            if name.startswith((FILE_MODULE, "my_")):
                del sys.modules[name]
        loading.load_installed.cache_clear()
