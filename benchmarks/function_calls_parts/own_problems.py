"""Problems of the project's own with every type that function sets use, for toy runs and the tests.

Their columns are those of the leaderboard's files.
"""

from __future__ import annotations

from typing import Any

from decaylab.calls.judging import CallProblem
from decaylab.calls.sets import problem


def _function(name: str, required: list[str], **properties: Any) -> dict[str, Any]:
    parameters = {"type": "dict", "properties": properties, "required": required}
    return {"name": name, "description": f"About {name}.", "parameters": parameters}


def _of(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": f"A {kind}.", **more}


def _list_of(kind: str, outer: str = "array") -> dict[str, Any]:
    return _of(outer, items={"type": kind})


TRIP = _function(
    "trip.plan",
    ["city", "days"],
    city=_of("string"),
    days=_of("integer"),
    budget=_of("float"),
    by_train=_of("boolean"),
    tags=_list_of("string"),
)
MEAN = _function("stats.mean", ["values"], values=_list_of("float"), weights=_list_of("integer"))
PLACE = _function(
    "place", ["at"], at=_list_of("float", "tuple"), grid=_list_of("array"), data=_of("any")
)
UPDATE = _function(
    "db_update",
    ["table", "fields"],
    table=_of("string"),
    fields=_of("dict", properties={"name": _of("string"), "age": _of("integer")}),
    conditions=_list_of("dict"),
    mode=_of("float"),
)
LISBON = {
    "city": ["Lisbon", "Lisbon, Portugal"],
    "days": [3],
    "budget": [450.0, 450.5, ""],
    "by_train": [True, ""],
    "tags": [["Old-Town", "food"], ["food", "Old-Town"], ""],
}
CONDITIONS = [[{"field": ["age"], "is": [">"], "value": [25, "25"]}, {"field": ["job", ""]}], ""]
ROWS: list[tuple[str, list[Any], list[Any]]] = [
    ("simple_python", [TRIP], [{"trip.plan": LISBON}]),
    (
        "simple_python",
        [UPDATE],
        [
            {
                "db_update": {
                    "table": ["people"],
                    "fields": [{"name": ["John Doe", "J. Doe"], "age": [30, ""]}],
                    "conditions": CONDITIONS,
                    "mode": ["", None],
                }
            }
        ],
    ),
    (
        "multiple",
        [MEAN, PLACE],
        [
            {
                "place": {
                    "at": [[38.5, -9.25]],
                    "grid": [[[1, 2], [3, 4]], ""],
                    "data": ["my_data", ""],
                }
            }
        ],
    ),
    (
        "multiple",
        [TRIP, MEAN],
        [{"stats.mean": {"values": ["data['x']", [1.5, 2.0, 4.0]], "weights": [[1, 1, 2], []]}}],
    ),
    (
        "parallel",
        [TRIP],
        [
            {"trip.plan": {"city": ["O'Porto", "Porto"], "days": [2, 3], "budget": [99.5, ""]}},
            {"trip.plan": {"city": ["Porto"], "days": [3], "budget": [99.5, ""]}},
            {"trip.plan": LISBON},
        ],
    ),
    (
        "parallel_multiple",
        [TRIP, MEAN, UPDATE],
        [
            {"stats.mean": {"values": [[2.0, 4.0]], "weights": [""]}},
            {"trip.plan": LISBON},
            {"db_update": {"table": ["log_entries"], "fields": [{"age": [1]}], "conditions": [""]}},
        ],
    ),
]


def problems() -> list[CallProblem]:
    """The problems, as the project's reader of the set makes them."""
    made = []
    for number, (category, offered, expected) in enumerate(ROWS):
        question = {"id": f"own-{number}", "question": "Do it.", "function": offered}
        made.append(problem(question, {"ground_truth": expected}, category)[1])
    return made
