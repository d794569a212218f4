"""The kinds of values that options take: a type with its conditions."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from decaylab.maths.selection import SELECTORS
from decaylab.options.option_values import (
    JSON_TOO,
    ONE_ALONE,
    ONE_BY_ONE,
    PATH,
    Must,
    Names,
    bare,
    one_of,
    words,
)
from decaylab.plugins import loading, origins
from decaylab.problems.answers import RULES

CONTROLS = ("own-prefix", "correct-so-far", "reverse", "swapped")

Count = Annotated[int, Must("be at least 1", lambda value: value >= 1)]
CountOrOff = Annotated[int, Must("be at least 0 (0 is off)", lambda value: value >= 0)]
Share = Annotated[float, Must("lie between 0 and 1", lambda value: 0 < value < 1)]
Rate = Annotated[float, Must("be above 0", lambda value: 0 < value < math.inf)]
UpTo1 = Annotated[float, Must("lie above 0 and not above 1", lambda value: 0 < value <= 1)]
Below1 = Annotated[float, Must("be at least 0 and below 1", lambda value: 0 <= value < 1)]
Temperature = Annotated[
    float, Must("be at least 0 (0 is greedy)", lambda value: 0 <= value < math.inf)
]
Seed = Annotated[int, Must("be at least 0 and below 2^63", lambda value: 0 <= value < 2**63)]
PathName = Annotated[str, PATH]
Paths = Annotated[tuple[str, ...], PATH, ONE_BY_ONE]
Lengths = Annotated[tuple[int, ...], Must("not be empty", bool)]
TeacherTokens = Annotated[
    tuple[int, ...],
    Must("not be empty", bool),
    Must("be at least 1", lambda counts: min(counts) >= 1),
    Must("increase", lambda counts: all(a < b for a, b in zip(counts, counts[1:]))),
]
Plugins = Annotated[tuple[str, ...], ONE_BY_ONE, ONE_ALONE]


def _own_names() -> str:
    """What to do about a name that is not registered."""
    return f"; one of your own needs --plugin FILE.py{loading.unloaded()}"


AnswerRule = Annotated[str, one_of(RULES, _own_names)]
SelectorName = Annotated[str, one_of(SELECTORS, _own_names)]


def before_plugins(kind: Any) -> Any:
    """The type of an option while plugins are not loaded: any text where it is a name that one of
    them may register."""
    _, marks = bare(kind)
    names = any(getattr(mark, "choices", ()) in (SELECTORS, RULES) for mark in marks)
    return str if names else kind


StoredRule = Annotated[
    str,
    Must(
        f"be the name of an answer rule, {origins.SHAPES[origins.ANSWER_RULE][1]}",
        lambda name: bool(re.fullmatch(origins.SHAPES[origins.ANSWER_RULE][0], name)),
    ),
]
"""An answer rule that finished runs were graded by; it need not be registered here."""
Bins = Annotated[
    tuple[int, ...],
    Must(
        "begin with 0 and increase",
        lambda bins: bins[:1] == (0,) and all(a < b for a, b in zip(bins, bins[1:])),
    ),
]
Controls = Annotated[
    tuple[str, ...],
    Names({"all": CONTROLS, "none": ()}),
    Must(f"be all, none or among {', '.join(CONTROLS)}", lambda names: set(names) <= set(CONTROLS)),
]
EVERY, LAST, BEST = "every", "last", "best"


def _is_rule(text: str) -> bool:
    rules = tuple(part.strip() for part in text.split(","))
    return rules == (EVERY,) or (set(rules) <= {LAST, BEST} and len(set(rules)) == len(rules))


CHECKPOINT_RULES = f"{EVERY}|{LAST}|{BEST}|{LAST},{BEST}"
CHECKPOINT_RULE = Must(f"be {EVERY}, {LAST}, {BEST}, or {LAST},{BEST}", _is_rule)
CheckpointRule = Annotated[str, CHECKPOINT_RULE]
Text = Annotated[str, Must("be text", lambda text: True)]  # may be empty
Variables = Annotated[
    dict[str, str], JSON_TOO, Must("be KEY=VALUE", lambda table: all(map(str.isidentifier, table)))
]
COLUMN_ROLES = words(
    "question, answer, id, prompt, problem_id, response, stop, truncated, sample, prompt_ids, "
    "response_ids, response_mask, reasoning, grade"
)
"""What a column can hold. Problems use the first three, rollouts all of them."""
Columns = Annotated[
    dict[str, str],
    Must(
        f"be ROLE=NAME, with a role among {', '.join(COLUMN_ROLES)}",
        lambda names: set(names) <= set(COLUMN_ROLES),
    ),
]
