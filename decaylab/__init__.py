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
    from decaylab.maths.selection import selector
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
    from decaylab.problems.answers import answer_rule
    from decaylab.problems.own_sets import problem_set

__all__ = [
    "answer_rule",
    "behaviour",
    "category_kl",
    "compare",
    "evaluate",
    "figure",
    "catalogue",
    "open_run",
    "position_kl",
    "prefix_decay",
    "problem_set",
    "published",
    "report",
    "selector",
    "signals",
    "submode",
    "sweep",
    "table",
    "train",
    "view",
]


# A plugin is imported by the grading processes too, which need nothing of the commands.
_DECORATORS = {
    "selector": "decaylab.maths.selection",
    "answer_rule": "decaylab.problems.answers",
    "problem_set": "decaylab.problems.own_sets",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'decaylab' has no attribute {name!r}")
    module = importlib.import_module(_DECORATORS.get(name, "decaylab.notebook"))
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
