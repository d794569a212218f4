"""How a run in a folder differs from the run that a command would make there, in words.

    found(there, now)   ["--limit 10 there, 6 now"]

A user sets options, so options are named with their values; contents that are compared by a hash
are said in words ("other problems").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from decaylab.options.option_values import flag
from decaylab.plugins import origins
from decaylab.runs.vocabulary import STUDENT, TEACHER

Identity = Mapping[str, Any]
CONTENTS = {
    "problems": "other problems",
    "prompts": "other prompts",
    "rollouts_hash": "other rollouts",
    "categories": "other categories in the file of --categories",
    "end_ids": "other end-of-turn tokens",
    "runs": "other runs",
    "kl": "other runs of the KL",
}
"""Parts of an identity that no option states, as a message calls them."""
IMPLIED = ("problems", "prompts", "end_ids", "precision")
"""Parts that follow from the options: not worth a word where an option differs."""

NOT_COMPARED = ("options", "training", origins.PLUGINS, "engine")
"""Parts that are compared one by one, and the engine that runs of the first edition have there."""


def kind(identity: Identity) -> str:
    """What a run is, by its identity: ``training run``, ``position-kl run``; "" if unclear."""
    options = identity.get("options") or {}
    if "training" in identity:
        return "training run"
    if "over" in options and "runs" in identity:
        return f"sweep {options['over']}"
    command = identity.get("diagnostic") or ("prefix_lengths" in options and "prefix-decay")
    return f"{command} run" if command else ""


def found(there: Identity, now: Identity) -> list[str]:
    """Where two identities differ, in words; empty where they agree.

    now: as JSON holds it, with lists for tuples.
    """
    options = [*_options(there, now)]
    parts = [
        words
        for name in sorted(there.keys() | now.keys())
        if name not in NOT_COMPARED and there.get(name) != now.get(name)
        if not (options and name in IMPLIED)
        for words in _part(name, there.get(name), now.get(name))
    ]
    return list(dict.fromkeys([*options, *of_plugins(there, now), *parts]))


def of_plugins(there: Identity, now: Identity) -> list[str]:
    """The functions of the user's own that have changed, each with its file."""
    return origins.differences(there.get(origins.PLUGINS, {}), now.get(origins.PLUGINS, {}))


def of_options(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The options that differ, as ``--limit 10 there, 6 now``."""
    return [
        f"{flag(name)} {_value(there.get(name))} there, {_value(now.get(name))} now"
        for name in sorted(there.keys() | now.keys())
        if there.get(name) != now.get(name)
    ]


def _options(there: Identity, now: Identity) -> Iterator[str]:
    for part in ("options", "training"):
        theirs, ours = dict(there.get(part) or {}), dict(now.get(part) or {})
        if "checkpoints" in there and "checkpoints" in now:
            # Known by their contents; a path can be written in several ways.
            theirs.pop("checkpoints", None), ours.pop("checkpoints", None)
        yield from of_options(theirs, ours)


def _part(name: str, there: Any, now: Any) -> Iterator[str]:
    """One part of the identities, which differs."""
    if name == "diagnostic":
        yield f"a {there} run there, {now} now"
    elif name in (STUDENT, TEACHER):
        yield f"another {name}"
    elif name == "checkpoints":
        yield from _checkpoints(there or {}, now or {})
    elif name == "runs" and isinstance(there, dict) and isinstance(now, dict):
        yield from _swept(there, now)
    elif name == "scores":
        yield from of_options(there or {}, now or {})
    elif name == "precision":
        yield f"precision {_value(there)} there, {_value(now)} now (--device, --dtype)"
    else:
        yield CONTENTS.get(name, f"other {name.replace('_', ' ')}")


def _checkpoints(there: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for label in sorted(there.keys() | now.keys()):
        if label not in now:
            yield f"checkpoint {label} only there"
        elif label not in there:
            yield f"checkpoint {label} only now"
        elif there[label] != now[label]:
            yield f"another checkpoint {label}"


def _swept(there: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The training runs of two sweeps."""
    for words, names in (("there", there.keys() - now), ("now", now.keys() - there)):
        if names:
            yield f"only {words}: {', '.join(sorted(names))}"
    for name in sorted(there.keys() & now.keys()):
        theirs, ours = (runs[name].get("training") for runs in (there, now))
        if isinstance(theirs, dict) and isinstance(ours, dict):
            yield from of_options(theirs, ours)
        elif theirs != ours:
            yield f"another training of {name}"


def _value(value: Any) -> str:
    """A value of an option as a user writes it."""
    if value is None or value in ({}, []):
        return "not set"
    if isinstance(value, dict):
        return ",".join(f"{key}={text}" for key, text in value.items())
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
