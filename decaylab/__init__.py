"""How far into a student's rollout can its teacher be trusted? Teacher decay, measured.

    import decaylab as dl

    decay = dl.prefix_decay(teacher="Qwen/Qwen3-1.7B")   # the command of that name
    decay.measurements                                   # a DataFrame, one number a row
    decay.figure()                                       # a matplotlib figure

Everything here is explained in `decaylab.api`. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decaylab.api.drawing import catalogue as catalogue
    from decaylab.api.drawing import figure as figure
    from decaylab.api.drawing import report as report
    from decaylab.api.drawing import table as table
    from decaylab.api.drawing import view as view
    from decaylab.api.results import open_run as open_run
    from decaylab.api.running import behaviour as behaviour
    from decaylab.api.running import category_kl as category_kl
    from decaylab.api.running import compare as compare
    from decaylab.api.running import evaluate as evaluate
    from decaylab.api.running import position_kl as position_kl
    from decaylab.api.running import prefix_decay as prefix_decay
    from decaylab.api.running import signals as signals
    from decaylab.api.running import submode as submode
    from decaylab.api.running import sweep as sweep
    from decaylab.api.running import train as train
    from decaylab.paper.publication import published as published
    from decaylab.policies.loaded_models import loaded as loaded
    from decaylab.tokens.score_texts import score as score

HOMES = {
    "decaylab.api.running": (
        *("behaviour", "category_kl", "compare", "evaluate", "position_kl", "prefix_decay"),
        *("signals", "submode", "sweep", "train"),
    ),
    "decaylab.api.results": ("open_run",),
    "decaylab.api.drawing": ("catalogue", "figure", "report", "table", "view"),
    "decaylab.paper.publication": ("published",),
    "decaylab.policies.loaded_models": ("loaded",),
    "decaylab.tokens.score_texts": ("score",),
}
"""The module of each public name, imported on first use."""

__all__ = sorted(name for names in HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'decaylab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
