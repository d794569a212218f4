"""Problem sets that are known by name: where they are published, and how their rows are read.

PUBLISHED["humaneval"].repo      # "openai/openai_humaneval"
named("bfcl:parallel:bfcl/")     # the set, and the rest of the name: a local copy
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from decaylab.errors import UserError
from decaylab.problems import call_sets, code_sets
from decaylab.problems.problem import BOXED_INSTRUCTION, Problem
from decaylab.problems.tasks import CALLS, CODE, MATHEMATICS, Task

Read = Callable[[Mapping[str, Any], str], Problem | None]
"""A row and its place in; its problem out, or None for a row that is none."""


@dataclass(frozen=True)
class Published:
    """A named set.

    repo, config: on the hub. question, id: its columns, for sets of a question and an answer. read:
    reads a row of any other set. file: its name, for a set that the hub's card does not describe;
    answers are in a file of that name in a folder. splits: ids of the rows of each split, for a
    file that holds all of them.
    """

    repo: str
    config: str | None = None
    question: str = ""
    id: str | None = None
    task: Task = MATHEMATICS
    instruction: str = BOXED_INSTRUCTION
    read: Read | None = None
    file: str = ""
    splits: Mapping[str, range] = field(default_factory=dict)


def _code(repo: str, config: str | None, read: Read, **more: Any) -> Published:
    return Published(repo, config, task=CODE, instruction=code_sets.INSTRUCTION, read=read, **more)


def _bfcl(category: str) -> Published:
    return Published(
        "gorilla-llm/Berkeley-Function-Calling-Leaderboard",
        task=CALLS,
        instruction="",
        read=functools.partial(call_sets.bfcl, category=category),
        file=f"BFCL_v3_{category.removesuffix('_python')}.json",
    )


PUBLISHED = {
    "math500": Published("HuggingFaceH4/MATH-500", None, "problem", "unique_id"),
    "gsm8k": Published("openai/gsm8k", "main", "question", None),
    "humaneval": _code("openai/openai_humaneval", "openai_humaneval", code_sets.humaneval),
    "humaneval+": _code("evalplus/humanevalplus", None, code_sets.humaneval_plus),
    "mbpp": _code(
        "google-research-datasets/mbpp", "full", code_sets.mbpp, splits=code_sets.MBPP_SPLITS
    ),
    "mbpp+": _code("evalplus/mbppplus", None, code_sets.mbpp_plus),
    "codeultrafeedback": _code("coseal/CodeUltraFeedback", None, code_sets.codeultrafeedback),
    **{f"bfcl:{category}": _bfcl(category) for category in call_sets.CATEGORIES},
    "glaive": Published(
        "glaiveai/glaive-function-calling-v2",
        task=CALLS,
        instruction="",
        read=call_sets.glaive,
    ),
}
"""Every named set that is published."""
OWN_ROWS: dict[str, Read] = {"code": code_sets.own, "calls": call_sets.own}
"""How the rows of a user's own set are read, by the name of its task."""
TRAINING = ("codeultrafeedback", "glaive")
"""Sets of training prompts, which have no answers."""
WITH_TRAIN_SPLIT = ("math500", "gsm8k", "mbpp", *TRAINING)
"""Sets whose train split is the default of training."""


def named(spec: str) -> tuple[str, str] | None:
    """The name of a published set in ``spec``, and the path of a local copy behind it ("" for the
    hub); None for any other set.

    Raises:
        UserError: no such category of function calls.
    """
    name, _, rest = spec.partition(":")
    if name == "bfcl":
        category, _, rest = rest.partition(":")
        name = f"bfcl:{category}"
        if name not in PUBLISHED:
            raise UserError(
                f"--problems {spec}: the categories of bfcl are "
                f"{', '.join(call_sets.CATEGORIES)}, as in bfcl:{call_sets.CATEGORIES[0]}; a local "
                "copy is bfcl:CATEGORY:FOLDER"
            )
    return (name, rest) if name in PUBLISHED else None
