"""Problem sets of the user's own: a function that returns rows, registered under a name.

    @dl.problem_set("sums")
    def sums(limit):
        return [{"question": f"What is {i} + {i}?", "answer": 2 * i} for i in range(limit or 100)]

The rows are read like those of a file: columns are found by their usual names or by ``--column``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from decaylab.errors import UserError
from decaylab.plugins import loading, origins

if TYPE_CHECKING:
    from decaylab.problems.files import Row

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class OwnSet:
    """A registered set.

    rows: the function. instruction, answer_rule: the defaults of the set; an empty rule is the
    first of its task. task: by name.
    """

    rows: Callable[[int | None], Any]
    instruction: str
    answer_rule: str
    task: str


BUILT_IN = (
    *("abacus", "abacus-train", "math500", "gsm8k"),
    *("humaneval", "humaneval+", "mbpp", "mbpp+", "codeultrafeedback"),
    *("bfcl:CATEGORY", "glaive"),
)
SETS: dict[str, OwnSet | None] = dict.fromkeys(BUILT_IN)
"""Every set with a name; decaylab's own are loaded in `decaylab.problems.sets`."""


def problem_set(
    name: str, *, instruction: str = "", answer_rule: str = "", task: str = "mathematics"
) -> Callable[[Function], Function]:
    """Registers a function as a problem set: ``@dl.problem_set("my-set")``.

    The function takes a limit (None is all) and returns the rows: a list of dicts, a DataFrame, or
    an iterator, of which no more rows than the limit are taken (one without an end needs
    ``--limit``). It must return the same rows in every process.

    Args:
        name: lower-case words joined by hyphens.
        instruction: text added after each question unless ``--instruction`` is given; ``boxed``
            asks for a boxed answer.
        answer_rule: the default answer rule; by default the first of the task, such as
            last_boxed.
        task: the name of the task, such as one that was registered by `tasks.task`.

    Raises:
        UserError: an invalid name, one that exists, or a function with other arguments.
    """

    def registered(function: Function) -> Function:
        origins.register(origins.PROBLEM_SET, name, function, ("limit",), SETS)
        SETS[name] = OwnSet(function, instruction, answer_rule, task)
        return function

    return registered


def own(name: str) -> OwnSet | None:
    """A set of the user's own; None where the name is another's."""
    return SETS.get(name)


def version(name: str) -> str:
    """The version of a set: that of its package, else its file with the beginning of its hash."""
    origin = origins.ORIGINS[origins.PROBLEM_SET, name]
    package = origins.distribution(origin.module)
    file = origin.file.name if origin.file else origin.module
    return package or f"{file} {origin.sha256[:12]}".strip()


def read(name: str, limit: int | None, halves: list[str]) -> list[Row]:
    """The rows of a registered set.

    halves: places of rows with half a character, see `files.read_rows`.

    Raises:
        UserError: the function raised an error or returned something else.
    """
    from decaylab.problems.files import mended_value  # pyarrow, which grading processes don't need

    origin = origins.ORIGINS[origins.PROBLEM_SET, name]
    made = own(name)
    assert made is not None
    try:
        found = list(islice(_rows(made.rows(limit)), limit))
    except Exception as error:
        raise UserError(f"{origin.words}: {loading.described(error, origin.file)}") from error
    rows = []
    for index, value in enumerate(found, start=1):
        place = f"{name}, row {index}"
        if not isinstance(value, Mapping):
            raise UserError(
                f"{origin.words} must return rows as dicts, got {type(value).__name__} as row "
                f"{index}"
            )
        row = {str(key): _plain(part) for key, part in value.items()}
        whole = mended_value(row)
        if whole != row:
            halves.append(place)
        rows.append((place, whole))
    return rows


def _rows(given: Any) -> Iterator[Any]:
    """The rows of a DataFrame, or of anything that can be iterated over."""
    if hasattr(given, "to_dict") and hasattr(given, "columns"):
        # A missing value is no text "nan".
        whole = given.astype(object).where(given.notna(), None)
        return iter(whole.to_dict("records"))
    if isinstance(given, Mapping | str | bytes):
        raise UserError(
            f"must return a list of dicts, a DataFrame or an iterator, got {type(given).__name__}"
        )
    return iter(given)


def _plain(value: Any) -> Any:
    """A numpy value as Python has it; lists and dicts too."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return value.tolist() if hasattr(value, "tolist") else value
