"""Checks of option values: types, choices and ranges, declared on the options' fields.

They are checked when the options object is created, from the command line, a file or Python.

    @dataclass(frozen=True)
    class Mine:
        samples: Annotated[int, Must("be at least 1", lambda value: value >= 1)] = 4
        dtype: Literal["auto", "float32"] = "auto"
        bins: tuple[int, ...] | None = None      # a list, a range, or text with commas

        def __post_init__(self) -> None:
            check(self)
"""

from __future__ import annotations

import dataclasses
import json
import numbers
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from decaylab.errors import UserError

SHOWN = 60  # characters of a refused value in the message
FLAGS = {
    "columns": "--column",
    "over": "what is swept",
    "checkpoints": "a checkpoint",
    "run_folders": "a run",
}
WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
}
EXAMPLES: dict[Any, str] = {
    int: "comma-separated whole numbers, such as 0,100,200",
    float: "comma-separated numbers",
}


@dataclass(frozen=True)
class Must:
    """A condition on a value of the declared type.

    words: the condition, as it follows "must". choices: the words that are allowed, if the
    condition is a list of them; those of a registry, which a plugin may extend. advice: what to do,
    at the end of the message.
    """

    words: str
    holds: Callable[[Any], bool]
    choices: Collection[str] = field(default=(), compare=False)
    advice: Callable[[], str] = str

    @property
    def text(self) -> str:
        """The condition with its choices."""
        return f"{self.words} {', '.join(self.choices)}".strip()


@dataclass(frozen=True)
class Names:
    """Names of whole lists, such as ``all``."""

    lists: Mapping[str, tuple[str, ...]]


NUMBER_TOO = "a whole number is accepted and converted to text"
JSON_TOO = "values of a table that are not text are converted to JSON"
NONE = "None is allowed"
ONE_BY_ONE = "text is not split at commas"
PATH = "a file or folder"
ONE_ALONE = "a text alone is a list of one"


def one_of(choices: Collection[str], advice: Callable[[], str] = str) -> Must:
    """One of these words. Words added to a registry later count too."""
    return Must("be one of", lambda value: value in choices, choices, advice)


def among(choices: Sequence[str]) -> Must:
    """Some of these words, comma-separated, or none."""
    return Must(f"be among {', '.join(choices)}", lambda value: set(words(value)) <= set(choices))


def words(text: str) -> tuple[str, ...]:
    """The words of a comma-separated text."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def flag(name: str) -> str:
    """The name of an option in error messages."""
    return FLAGS.get(name, f"--{name.replace('_', '-')}")


def _kinds(options: Any) -> dict[str, Any]:
    hints = get_type_hints(options, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(options)}


kinds: Callable[[Any], dict[str, Any]] = cache(_kinds)
"""The declared type of each option of a class, with its conditions."""


def check(options: Any) -> None:
    """Checks every value of a frozen options object.

    Lists become tuples, paths become text, and whole numbers become floats where declared.

    Raises:
        UserError: a value that its option does not allow.
    """
    for name, kind in kinds(type(options)).items():
        object.__setattr__(options, name, checked(flag(name), kind, getattr(options, name)))


def checked(name: str, kind: Any, value: Any) -> Any:
    """A value, converted to the declared type. name: the option's name in the message.

    Raises:
        UserError: the type is wrong or a condition fails.
    """
    kind, marks = bare(kind)
    if value is None and NONE in marks:
        return None
    value = _typed(name, kind, value, marks)
    conditions = _conditions(marks)
    if kind is str and not conditions and not value.strip():
        raise UserError(f"{name} must not be empty")
    for condition in conditions:
        if not condition.holds(value):
            raise UserError(
                f"{name} must {condition.text}, got {_plain(value)}{condition.advice()}"
            )
    return value


def choices_of(kind: Any) -> tuple[str, ...]:
    """The words that an option may have, for one that may have only these; none for others."""
    kind, marks = bare(kind)
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(word for condition in _conditions(marks) for word in condition.choices)


def _conditions(marks: Sequence[Any]) -> list[Must]:
    return [mark for mark in marks if isinstance(mark, Must)]


def bare(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """A type without its optional None and conditions, and those marks: conditions, `NONE`."""
    marks: tuple[Any, ...] = ()
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
        marks = (NONE,)
    if get_origin(kind) is Annotated:
        kind, *conditions = get_args(kind)
        marks = (*conditions, *marks)
    return kind, marks


def _typed(name: str, kind: Any, value: Any, marks: Sequence[Any]) -> Any:
    """A value of the declared type. Nothing is rounded; text is read as numbers only in lists."""
    if get_origin(kind) is Literal:
        if isinstance(value, str) and value in get_args(kind):
            return value
        raise UserError(f"{name} must be one of {', '.join(get_args(kind))}, got {_plain(value)}")
    if get_origin(kind) is tuple:
        return _list(name, get_args(kind)[0], value, marks)
    if get_origin(kind) is dict:
        return _table(name, value, marks)
    is_bool = isinstance(value, bool)
    if kind is str and (isinstance(value, Path) or (NUMBER_TOO in marks and type(value) is int)):
        return str(value)
    if kind is int and isinstance(value, numbers.Integral) and not is_bool:
        return int(value)
    if kind is float and isinstance(value, numbers.Real) and not is_bool:
        return float(value)
    if kind not in WORDS or (kind in (bool, str) and isinstance(value, kind)):
        return value  # a kind without words is internal
    condition = f"be {WORDS[kind]}"
    if kind is str and _conditions(marks):
        condition = _conditions(marks)[0].text
    raise UserError(f"{name} must {condition}, got {_quoted(value)}")


def _list(name: str, kind: Any, value: Any, marks: Sequence[Any]) -> tuple[Any, ...]:
    """A tuple from a list or from comma-separated text."""
    if ONE_ALONE in marks and isinstance(value, str | Path):
        value = [value]
    if ONE_BY_ONE in marks and not isinstance(value, (list, tuple)):
        raise UserError(f"{name} must be a list, got {_quoted(value)}")
    if isinstance(value, str):
        for mark in marks:
            if isinstance(mark, Names) and value in mark.lists:
                return mark.lists[value]
        if kind is str:
            return words(value)
    wrong = f"{name} must be {EXAMPLES.get(kind, 'a list of texts')}, got {_quoted(value)}"
    if isinstance(value, str):
        try:
            value = [kind(part) for part in value.split(",")]
        except ValueError as error:
            raise UserError(wrong) from error
    if not isinstance(value, (list, tuple, range, set)):
        raise UserError(f"{name} must be a list or comma-separated text, got {_quoted(value)}")
    try:
        return tuple(checked(name, kind, part) for part in value)
    except UserError as error:
        raise UserError(wrong) from error


def _table(name: str, value: Any, marks: Sequence[Any]) -> dict[str, str]:
    """A dict of texts from a dict or from KEY=VALUE words."""
    if isinstance(value, (list, tuple)):
        wrong = [word for word in value if not (isinstance(word, str) and "=" in word)]
        value = wrong[0] if wrong else dict(word.split("=", 1) for word in value)
    if JSON_TOO in marks and isinstance(value, dict):
        value = {key: _as_json(name, part) for key, part in value.items()}
    if isinstance(value, dict):
        texts = [text for text in (*value, *value.values()) if isinstance(text, str)]
        if len(texts) == 2 * len(value):
            return value
    condition = [condition.text for condition in _conditions(marks)] or ["be KEY=VALUE"]
    raise UserError(f"{name} must {condition[0]}, got {_quoted(value)}")


def _as_json(name: str, value: Any) -> str:
    """A value as JSON; text unchanged."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{name} must hold text, numbers, true or false, lists and tables, got {_quoted(value)}"
        ) from error


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, (str, int, float)) and value != "":
        return _short(str(value))
    return _quoted(value)


def _quoted(value: Any) -> str:
    return _short(repr(value))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
