"""Generated problem sets: abacus, and the tasks of reasoning-gym."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata

from decaylab.errors import UserError
from decaylab.problems import abacus
from decaylab.problems.columns import Columns
from decaylab.problems.files import one_line
from decaylab.problems.problem import Problem, ProblemSet, problem_set
from decaylab.problems.rows import problems_of

TEST_SEED, TEST_COUNT = 0, 2000
"""Seed and number of the abacus test problems, from the world's test part."""
TRAIN_SEED, TRAIN_COUNT = 2, 5000
"""Seed of the abacus training problems, from the train part; their number without a limit."""
GENERATED_COUNT = 100
"""Number of problems from a generated set (abacus, gym) without a limit."""


def load(spec: str, limit: int | None, seed: int) -> ProblemSet:
    """The problems of ``abacus``, ``abacus-train`` or ``gym:TASK``."""
    kind, _, task = spec.partition(":")
    return _gym(task, limit, seed) if kind == "gym" else _abacus(spec, limit)


def _abacus(name: str, limit: int | None) -> ProblemSet:
    """The abacus problems for tests or for training."""
    part: abacus.Part = "train"
    seed, usual, notes = TRAIN_SEED, TRAIN_COUNT, list[str]()
    if name == "abacus":
        part = "test"
        seed, usual, notes = TEST_SEED, GENERATED_COUNT, _default_count(f"of {TEST_COUNT}", limit)
    count = usual if limit is None else limit
    if name == "abacus" and count > TEST_COUNT:
        raise UserError(
            f"abacus has {TEST_COUNT} test problems, got a limit of {limit}; give at most "
            f"{TEST_COUNT}"
        )
    problems = [
        Problem(f"abacus-{seed}-{index:06d}", problem.question, str(problem.answer), problem.steps)
        for index, problem in enumerate(abacus.generate(count, seed=seed, part=part))
    ]
    return problem_set(name, abacus.VERSION, problems, notes, instruction="")


def _default_count(of: str, limit: int | None) -> list[str]:
    if limit is not None:
        return []
    return [f"the first {GENERATED_COUNT} problems {of} are used; set another number with --limit"]


def _gym(task: str, limit: int | None, seed: int) -> ProblemSet:
    try:
        gym = importlib.import_module("reasoning_gym")
        tasks = sorted(importlib.import_module("reasoning_gym.factory").DATASETS)
    except ImportError as error:
        raise UserError(
            f'gym:{task} needs reasoning-gym ({error}): pip install "decaylab[gym]"'
        ) from error
    if task not in tasks:
        close = difflib.get_close_matches(task, tasks, n=3) or tasks[:3]
        raise UserError(f"reasoning-gym has no task {task!r}; try {', '.join(close)}")
    count = GENERATED_COUNT if limit is None else limit
    try:
        drawn = gym.create_dataset(task, size=count, seed=seed)
        rows = [(f"{task}, row {index + 1}", dict(drawn[index])) for index in range(count)]
    # Some tasks need a configuration.
    except (AssertionError, ValueError, TypeError) as error:
        raise UserError(
            f"reasoning-gym can't make {count} problems of {task}: {one_line(error)}"
        ) from error
    # Not unwrapped: the answer to a task may itself be JSON text.
    problems, notes = problems_of(
        rows, Columns("question", "answer", None, f"{task}-{seed}", wrapped=False)
    )
    version = f"reasoning-gym {importlib.metadata.version('reasoning-gym')}, seed {seed}"
    notes += _default_count("of the seed", limit)
    notes.append("answers are graded by the answer rule, not by the task's own verifier")
    return problem_set(f"gym:{task}", version, problems, notes)
