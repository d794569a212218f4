"""How far into a student's rollout can its teacher be trusted? Teacher decay, measured.

    import decaylab as dl

    decay = dl.prefix_decay(teacher="Qwen/Qwen3-1.7B")   # the command of that name
    decay.measurements                                   # a DataFrame, one number a row
    decay.figure()                                       # a matplotlib figure

Everything here is explained in `decaylab.notebook`. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decaylab.callback import DecayCallback
    from decaylab.notebook import (
        behaviour,
        catalogue,
        category_kl,
        compare,
        evaluate,
        figure,
        open_run,
        position_kl,
        prefix_decay,
        published,
        report,
        signals,
        submode,
        sweep,
        table,
        train,
        view,
    )
    from decaylab.probing.probe import Probe

IN_TRAINING = {"DecayCallback": "decaylab.callback", "Probe": "decaylab.probing.probe"}
"""What a training loop uses, and where it stands."""

__all__ = [
    "DecayCallback",
    "Probe",
    "behaviour",
    "category_kl",
    "compare",
    "evaluate",
    "figure",
    "catalogue",
    "open_run",
    "position_kl",
    "prefix_decay",
    "published",
    "report",
    "signals",
    "submode",
    "sweep",
    "table",
    "train",
    "view",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'decaylab' has no attribute {name!r}")
    return getattr(importlib.import_module(IN_TRAINING.get(name, "decaylab.notebook")), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
