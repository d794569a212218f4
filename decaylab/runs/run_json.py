"""run.json as it is read: one check of its shape, so that no reader meets a list for an object.

record = read(Path("runs/mine/run.json"))
record["identity"]["options"]["samples"]     # UserError in one line where it is missing
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.comparing import CompareOptions
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.plugins.origins import ANSWER_RULE, PLUGINS, SELECTOR
from decaylab.runs.vocabulary import STUDENT, TEACHER

AGAIN = "rerun its command with --overwrite, or leave the folder out"
NULL = type(None)
NUMBER = (int, float)
BASE = {"name": str, "content_hash": str}
POLICY: dict[str, Any] = {**BASE, "base": (BASE, NULL)}
PAIR = {STUDENT: POLICY, TEACHER: POLICY}
RESUMED = {"date": str, "hardware": str, "commit": (str, NULL), "engine": {"name": str}}
SHAPE: dict[str, Any] = {
    "command": str,
    "notes": [str],
    "prompt_notes": [str],
    "tokens": [str],
    "sources": {
        "tokens": [{"checkpoint": str, "view": str, "folder": str}],
        "rollouts": {},
    },
    "answer_rule": str,
    "preset": str,
    "level": NUMBER,
    "runs": str,
    "verdict": [str],
    "versions": {},
    "sampled": {},
    "pair": PAIR,
    "compared": [{**PAIR, "name": str, "folder": str}],
    "advice": ({"verdict": [str], "runs": [{}], "left_out": [str], "next": str}, NULL),
    "alarms": [{"step": int, "alarm": str}],
    "launches": [{"from_step": int, "processes": int}],
    "made": {**RESUMED, "seconds": NUMBER, "resumed": [RESUMED]},
    "identity": {
        **PAIR,
        "diagnostic": str,
        PLUGINS: {},
        "options": {},
        "training": {},
        "checkpoints": {},
        "rollouts_hash": (str, NULL),
        "runs": ({}, [{}]),
        "problems": {
            "name": (str, NULL),
            "version": (str, NULL),
            "asked": int,
        },
    },
}
"""The types of what readers use. A key may be missing, and others may be there. A tuple lists
alternatives, ``{}`` is any object, a list of one shape is a list of such."""
OWN = {"selector": SELECTOR, "answer_rule": ANSWER_RULE}
"""Options that may hold a name of the user's own, with its kind."""
RESOLVED = ("temperature", "samples")
"""Options that a run always records with a value, which tables and pages print."""
CALLED = {dict: "an object", list: "a list", str: "text", NULL: "null", int: "a whole number"}


class Recorded(dict[str, Any]):
    """An object of run.json; a key that is missing is a `UserError` that names file and key."""

    file = Path("run.json")
    place = ""

    def __missing__(self, name: str) -> Any:
        raise UserError(f"{self.file} lacks {self.place}{name}; {AGAIN}")


def read(file: Path, advice: str = AGAIN) -> Recorded:
    """The content of a run.json.

    advice: what to do about one that is damaged.

    Raises:
        UserError: it cannot be read, is no JSON, or holds something of another shape.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} is damaged ({error}); {advice}") from error
    wrong = _wrong(record, SHAPE, "") or _wrong_option(record.get("identity", {}))
    if wrong:
        raise UserError(f"{file} is damaged ({wrong}); {advice}")
    whole: Recorded = _recorded(record, file, "")
    return whole


def _recorded(value: Any, file: Path, place: str) -> Any:
    if isinstance(value, dict):
        prefix = f"{place}." if place else ""
        found = Recorded({key: _recorded(one, file, prefix + key) for key, one in value.items()})
        found.file, found.place = file, prefix
        return found
    if isinstance(value, list):
        return [_recorded(part, file, f"{place}[{index}]") for index, part in enumerate(value)]
    return value


def _wrong(value: Any, shape: Any, place: str) -> str:
    """What is wrong with a value, in words; "" where it has the shape."""
    alternatives = shape if isinstance(shape, tuple) else (shape,)
    fitting = [one for one in alternatives if _is(value, _type(one))]
    if not fitting:
        allowed = dict.fromkeys(CALLED.get(_type(one), "a number") for one in alternatives)
        return f"{place or 'the content'} must be {' or '.join(allowed)}, got {_shown(value)}"
    parts: list[tuple[Any, Any, str]] = []
    if isinstance(fitting[0], dict):
        prefix = f"{place}." if place else ""
        parts = [(value[key], one, prefix + key) for key, one in fitting[0].items() if key in value]
    elif isinstance(fitting[0], list):
        parts = [(part, fitting[0][0], f"{place}[{index}]") for index, part in enumerate(value)]
    return next((wrong for part in parts if (wrong := _wrong(*part))), "")


def _type(shape: Any) -> type:
    return type(shape) if isinstance(shape, dict | list) else shape


def _is(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)


def _wrong_option(identity: Mapping[str, Any]) -> str:
    """The first option whose value has another type than the option; "" where there is none."""
    for part, options in (("options", _class_of(identity)), ("training", TrainOptions)):
        kinds = option_values.kinds(options)
        for name, value in identity.get(part, {}).items():
            if name not in kinds:
                continue
            # A name of the user's own need not be registered where the run is read.
            own = f"{OWN.get(name)} {value}" in identity.get(PLUGINS, {})
            lacking = value is None and name in RESOLVED
            if (
                lacking
                or not _fits(value, kinds[name])
                or (part == "training" and not own and not _holds(value, kinds[name]))
            ):
                return f"identity.{part}.{name} is {_shown(value)}"
    return ""


def _class_of(identity: Mapping[str, Any]) -> Any:
    """The class whose options a run records."""
    if "training" in identity:
        return DiagnosticOptions
    if "over" in identity.get("options", {}):
        return SweepOptions
    if identity.get("diagnostic") == "compare":
        return CompareOptions
    return DiagnosticOptions if "diagnostic" in identity else Options


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of JSON has the declared type of an option; conditions are not checked: they
    may have been others when the run was made."""
    kind, marks = option_values.bare(kind)
    if value is None:
        return option_values.NONE in marks
    if get_origin(kind) is Literal:
        return isinstance(value, str)
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(_fits(part, get_args(kind)[0]) for part in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict)
    if kind is float:
        return any(_is(value, one) for one in NUMBER)
    return _is(value, kind) if kind in (int, str, bool) else True


def _holds(value: Any, kind: Any) -> bool:
    """Whether a text meets the conditions of its option, which readers count on in a training:
    rollout lengths are read as numbers, selectors are known."""
    _, marks = option_values.bare(kind)
    conditions = [mark for mark in marks if isinstance(mark, option_values.Must)]
    return not isinstance(value, str) or all(one.holds(value) for one in conditions)


def _shown(value: Any) -> str:
    """A value of JSON, cut short."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
