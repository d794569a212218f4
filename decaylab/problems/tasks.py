"""Tasks: what a model is asked to do, how its responses are graded, and the usual settings.

    of_set("humaneval").temperature        # 0.0
    of_set("math500").answer_rules         # ("last_boxed", "first_boxed", "anywhere", "gsm8k")

    dl.task("sql", answer_rules=("runs",), temperature=0.0, samples=1)   # a task of the user's own
    @dl.problem_set("sql-dev", task="sql")
    def questions(limit): ...

A task is all that the rest of the library knows about it: nothing outside `decaylab.problems` asks
for its name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from decaylab.calls.judging import RULES as CALL_RULES
from decaylab.calls.judging import CallProblem
from decaylab.code.blocks import RULES as CODE_RULES
from decaylab.code.sets import CodeProblem
from decaylab.errors import UserError
from decaylab.problems.answers import ANSWER_RULES

Bins = tuple[int, ...]


@dataclass(frozen=True)
class Lengths:
    """Usual lengths of a task's responses, in tokens.

    budget: of a rollout. prefixes: lengths of `prefix-decay`. rollout: the N of early stopping.
    bins: lower ends of position bins.
    """

    budget: int
    prefixes: tuple[int, ...]
    rollout: int
    bins: Bins

    def up_to(self, budget: int) -> Lengths:
        """These lengths for another budget of a rollout.

        Above the usual one, as of a thinking model, the bins go on by doubling up to the budget,
        and the prefixes up to half of it.
        """
        if budget <= self.budget:
            return self
        prefixes = _doubling(self.prefixes, budget // 2)
        return replace(self, prefixes=prefixes, bins=_doubling(self.bins, budget))


def _doubling(lengths: Bins, limit: int) -> Bins:
    """These lengths, then twice the last one and so on, each below the limit."""
    more = [*lengths]
    while 2 * more[-1] < limit:
        more.append(2 * more[-1])
    return tuple(more)


@dataclass(frozen=True)
class Task:
    """A kind of problem.

    answer_rules: by which every response is graded and stored; the first is reported. plain_rule:
    the one reported for responses to prompts without a chat template; "" for the same. measures:
    what the mean correctness under a rule is called where that is not avg@k, by rule. categories:
    whose token categories. test_problems: the usual test sets, comma-separated. steps: of training
    as in the paper. shown: a gold answer as a person reads it.
    """

    name: str
    answer_rules: tuple[str, ...]
    lengths: Lengths
    temperature: float = 0.7
    samples: int = 4
    plain_rule: str = ""
    measures: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    categories: str = "mathematics"
    test_problems: str = "math500"
    steps: int = 200
    shown: Callable[[str], str] = str

    def graded_by(self, *more: str) -> tuple[str, ...]:
        """The rules by which a run is graded: the task's, and those that the run names."""
        return tuple(dict.fromkeys((*self.answer_rules, *more)))

    def reported_first(self, rule: str) -> tuple[str, ...]:
        """The rules that a run reports: the chosen one, then the task's."""
        return tuple(dict.fromkeys((rule, *self.answer_rules)))


EMBEDDED_LENGTHS = Lengths(320, (0, 20, 40, 80, 120), 40, (0, 5, 10, 20, 40, 60, 80, 120, 160))
"""Of the pair that ships with decaylab, whatever it is asked."""
MATHEMATICS = Task(
    "mathematics",
    ANSWER_RULES,
    Lengths(2048, (0, 100, 200, 300), 100, (0, 5, 20, 50, 100, 200, 300, 400, 500, 600)),
)
CODE = Task(
    "code",
    CODE_RULES,
    Lengths(1024, (0, 25, 50, 100, 150), 100, (0, 5, 20, 50, 100, 150, 200, 300, 400)),
    temperature=0.0,
    samples=1,
    plain_rule="completion",
    categories="code",
    test_problems="humaneval,mbpp",
    steps=400,
    shown=lambda gold: CodeProblem.of_text(gold).reference,
)
CALLS = Task(
    "calls",
    CALL_RULES,
    Lengths(512, (0, 5, 10, 20, 40), 20, (0, 5, 10, 20, 40, 60, 80, 120, 160)),
    temperature=0.0,
    samples=1,
    measures=MappingProxyType(
        {"full": "full_accuracy", "name": "name_accuracy", "parse": "parse_rate"}
    ),
    categories="calls",
    test_problems="bfcl:simple_python,bfcl:multiple,bfcl:parallel,bfcl:parallel_multiple",
    shown=lambda gold: json.dumps(CallProblem.of_text(gold).expected, ensure_ascii=False),
)
TASKS: dict[str, Task] = {known.name: known for known in (MATHEMATICS, CODE, CALLS)}
"""Every task by name."""
BUILT_IN = tuple(TASKS)
CODE_SETS = ("humaneval", "humaneval+", "mbpp", "mbpp+", "codeultrafeedback")
CALL_SETS = ("bfcl", "glaive")
NAMES = re.compile(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*")


def of_set(spec: str | None) -> Task:
    """The task of a problem set, by what ``--problems`` calls it."""
    from decaylab.problems.own_sets import SETS

    kind = (spec or "").partition(":")[0]
    if kind in CODE_SETS:
        return CODE
    if kind in CALL_SETS:
        return CALLS
    own = SETS.get(spec or "")
    return task_of(own.task) if own else MATHEMATICS


def measure_name(rule: str, samples: int) -> str:
    """What people call the mean correctness under a rule, over this many samples a problem."""
    if rule in CODE_RULES and samples == 1:
        return "pass@1"
    for known in TASKS.values():
        if rule in known.measures:
            return known.measures[rule].replace("_", " ")
    return f"avg@{samples}"


def task_of(name: str) -> Task:
    """A task by its name.

    Raises:
        UserError: no such task.
    """
    if name not in TASKS:
        raise UserError(f"no task {name!r}; there are {', '.join(TASKS)}, or register it: dl.task")
    return TASKS[name]


def task(
    name: str,
    *,
    answer_rules: tuple[str, ...],
    temperature: float = 0.7,
    samples: int = 4,
    lengths: Lengths = MATHEMATICS.lengths,
    measures: Mapping[str, str] | None = None,
    categories: str = "mathematics",
) -> Task:
    """Registers a task of the user's own, which its problem sets name (``task=``).

    Args:
        name: lower-case words joined by hyphens or underscores.
        answer_rules: registered rules by which its responses are graded; the first is reported.
        temperature, samples, lengths: the defaults of sampling.
        measures: what the mean correctness under a rule is called, by rule; by default avg@k.
        categories: whose token categories: ``mathematics``, ``code`` or ``calls``.

    Raises:
        UserError: an invalid name, one of decaylab's own, no rule, or unknown categories.
    """
    if not NAMES.fullmatch(name) or name in BUILT_IN:
        raise UserError(
            f"the name of a task must be lower-case words joined by hyphens and none of "
            f"{', '.join(BUILT_IN)}, got {name!r}"
        )
    if not answer_rules or isinstance(answer_rules, str):
        raise UserError(f"task {name!r} needs answer_rules=, a tuple of the names of answer rules")
    if not isinstance(lengths, Lengths) or temperature < 0 or samples < 1:
        raise UserError(
            f"task {name!r}: lengths must be dl.Lengths(...), temperature at least 0, samples at "
            f"least 1, got {lengths!r:.60}, {temperature} and {samples}"
        )
    if categories not in BUILT_IN:
        raise UserError(
            f"task {name!r}: categories must be {', '.join(BUILT_IN)}, got {categories!r}"
        )
    TASKS[name] = Task(
        name,
        tuple(answer_rules),
        lengths,
        temperature,
        samples,
        measures=MappingProxyType(dict(measures or {})),
        categories=categories,
    )
    return TASKS[name]
