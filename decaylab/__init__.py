"""How far into a student's rollout can its teacher be trusted? Teacher decay, measured.

    import decaylab as dl

    decay = dl.prefix_decay(teacher="Qwen/Qwen3-1.7B")   # the command of that name
    decay.measurements                                   # a DataFrame, one number a row
    decay.figure()                                       # a matplotlib figure

Every command is a function with its name, with ``_`` for ``-``. Two have another one, since
`decaylab.rollouts` and `decaylab.figures` are packages: `read_rollouts` is ``decaylab rollouts``;
`catalogue` and `write_figures` are ``decaylab figures``.

The parts that commands are made of are in the modules `divergences`, `selectors`, `estimates`,
`answers` and `engines`. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decaylab.api import answers as answers
    from decaylab.api import divergences as divergences
    from decaylab.api import engines as engines
    from decaylab.api import estimates as estimates
    from decaylab.api import selectors as selectors
    from decaylab.api.columns import columns as columns
    from decaylab.api.commands import arm_gains as arm_gains
    from decaylab.api.commands import behaviour as behaviour
    from decaylab.api.commands import category_kl as category_kl
    from decaylab.api.commands import compare as compare
    from decaylab.api.commands import evaluate as evaluate
    from decaylab.api.commands import interventions as interventions
    from decaylab.api.commands import plan as plan
    from decaylab.api.commands import position_kl as position_kl
    from decaylab.api.commands import prefix_decay as prefix_decay
    from decaylab.api.commands import preflight as preflight
    from decaylab.api.commands import read_rollouts as read_rollouts
    from decaylab.api.commands import served_kl as served_kl
    from decaylab.api.commands import signals as signals
    from decaylab.api.commands import submode as submode
    from decaylab.api.commands import sweep as sweep
    from decaylab.api.commands import token_truth as token_truth
    from decaylab.api.commands import train as train
    from decaylab.api.commands import values as values
    from decaylab.api.drawing import catalogue as catalogue
    from decaylab.api.drawing import figure as figure
    from decaylab.api.drawing import report as report
    from decaylab.api.drawing import table as table
    from decaylab.api.drawing import view as view
    from decaylab.api.drawing import write_figures as write_figures
    from decaylab.api.results import Run as Run
    from decaylab.api.results import open_run as open_run
    from decaylab.api.results import show as show
    from decaylab.callback import DecayCallback as DecayCallback
    from decaylab.errors import UserError as UserError
    from decaylab.maths.selection import selector as selector
    from decaylab.paper.publication import published as published
    from decaylab.policies.loaded_models import loaded as loaded
    from decaylab.probing.probe import Probe as Probe
    from decaylab.problems.answers import answer_rule as answer_rule
    from decaylab.problems.own_sets import problem_set as problem_set
    from decaylab.problems.tasks import Lengths as Lengths
    from decaylab.problems.tasks import task as task
    from decaylab.tokens.score_texts import score as score

    __version__: str

HOMES = {
    "decaylab.api.commands": (
        *("arm_gains", "behaviour", "category_kl", "compare", "evaluate", "interventions"),
        *("plan", "position_kl"),
        *("prefix_decay", "preflight", "read_rollouts", "served_kl", "signals", "submode"),
        *("sweep", "token_truth", "train", "values"),
    ),
    "decaylab.api.columns": ("columns",),
    "decaylab.api.results": ("Run", "open_run", "show"),
    "decaylab.api.drawing": ("catalogue", "figure", "report", "table", "view", "write_figures"),
    "decaylab.callback": ("DecayCallback",),
    "decaylab.errors": ("UserError",),
    # A plugin is imported by the grading processes too, which need nothing of the commands.
    "decaylab.maths.selection": ("selector",),
    "decaylab.paper.publication": ("published",),
    "decaylab.policies.loaded_models": ("loaded",),
    "decaylab.probing.probe": ("Probe",),
    "decaylab.problems.answers": ("answer_rule",),
    "decaylab.problems.own_sets": ("problem_set",),
    "decaylab.problems.tasks": ("Lengths", "task"),
    "decaylab.tokens.score_texts": ("score",),
}
"""The module of each public name, imported on first use."""
MODULES = ("answers", "divergences", "engines", "estimates", "selectors")
"""The public modules in `decaylab.api`: ``from decaylab import divergences``."""

__all__ = sorted([*MODULES, *(name for names in HOMES.values() for name in names)])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in MODULES:
        return import_module(f"decaylab.api.{name}")
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'decaylab' has no attribute {name!r}")


def _version() -> str:
    try:
        return metadata.version("decaylab")
    except metadata.PackageNotFoundError:  # a checkout that is not installed
        return "unknown"


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
