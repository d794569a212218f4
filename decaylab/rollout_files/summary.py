"""Describes what was read from rollout files.

A line for every command, a record for run.json, and a page for ``decaylab rollouts``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from decaylab.rollout_files.given_prompts import KINDS
from decaylab.rollout_files.reading import Counts, Read

MEANINGS = {
    "natural": "natural end",
    "cut": "cut off",
    "aborted": "aborted, left out",
    "other": "not a natural end",
    "unknown": "unknown end",
}
SHOWN = 6  # stop reasons shown in a line
_COUNTED = (
    "rows rollouts token_ids texts thoughts_apart aborted empty "
    "without_gold gold_unwrapped gold_behind_hashes prompts_cut_off"
)
COUNTED = tuple(_COUNTED.split())
"""Counts that are stored unchanged."""


def line(read: Read) -> str:
    """The summary in one line."""
    counts = read.counts
    parts = [
        f"{read.name}: {' and '.join(counts.formats)}, {counts.rollouts:,} rollouts for "
        f"{read.problem_count:,} problems",
        f"prompts {_prompts(counts)}",
        f"responses {_responses(counts)}",
        f"stop reasons {_stops(counts)}",
    ]
    if counts.aborted:
        parts.append(f"{counts.aborted:,} were aborted by their engine, left out")
    if counts.prompts_cut_off:
        parts.append(f"the prompt was cut off {counts.prompts_cut_off:,} responses")
    return "; ".join(parts)


def record(read: Read) -> dict[str, Any]:
    """The summary as values, for run.json and ``--json``."""
    counts = read.counts
    return {
        "files": [str(path) for path in read.paths],
        "content_hash": read.content_hash,
        **{name: getattr(counts, name) for name in COUNTED},
        "formats": dict(counts.formats),
        "problems": read.problem_count,
        "samples": read.samples,
        "prompts": dict(counts.prompts),
        "stop_reasons": {
            value: {"rollouts": count, "means": kind}
            for (value, kind), count in counts.stops.items()
        },
        "several_turns": counts.turns + counts.masked,
        "grades": dict(counts.grades),
        "training_steps": sorted(counts.steps),
    }


def page(read: Read) -> Iterator[tuple[str, str]]:
    """Label and text of each line of the page, without examples."""
    counts = read.counts
    for title, number in counts.formats.items():
        yield "format", f"{title} ({number} file{'s' * (number > 1)})"
    yield "rows", f"{counts.rows:,}"
    each = f"at most {read.samples} each" if counts.rollouts != read.problem_count else "one each"
    yield "rollouts", f"{counts.rollouts:,} for {read.problem_count:,} problems, {each}"
    yield "prompts", _prompts(counts)
    yield "responses", _responses(counts)
    for (value, kind), count in counts.stops.most_common():
        yield "stop reasons", f"{value}: {count:,}, {MEANINGS[kind]}"
    yield "gold answers", _gold(read)
    yield "grades", _listed(counts.grades) or "none in the file"
    yield "left out", f"{counts.aborted:,} aborted by their engine" if counts.aborted else "nothing"
    if counts.empty:
        yield "empty", f"{counts.empty:,} responses are empty; they are kept"
    if counts.prompts_cut_off:
        yield "cut", f"the prompt was cut off {counts.prompts_cut_off:,} responses"


def _prompts(counts: Counts) -> str:
    return _listed({KINDS[kind]: count for kind, count in counts.prompts.items()})


def _responses(counts: Counts) -> str:
    kinds = {
        "token ids": counts.token_ids,
        "encoded from text": counts.rollouts - counts.token_ids - counts.turns,
        "several turns": counts.turns,
        "with a mask": counts.masked,
        "separate thought and answer": counts.thoughts_apart,
    }
    return _listed({kind: count for kind, count in kinds.items() if count > 0})


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in counts.items())


def _stops(counts: Counts) -> str:
    common = counts.stops.most_common()
    shown = [f"{value} ({count:,}, {MEANINGS[kind]})" for (value, kind), count in common[:SHOWN]]
    if len(common) > SHOWN:
        shown.append(f"{len(common) - SHOWN} others")
    return ", ".join(shown)


def _gold(read: Read) -> str:
    counts = read.counts
    if not read.problems:
        return "none in the file, taken from --problems"
    parts = [f"{read.problem_count - counts.without_gold:,} of {read.problem_count:,} problems"]
    if counts.gold_unwrapped:
        parts.append(f"{counts.gold_unwrapped:,} unwrapped from an object or list")
    if counts.gold_behind_hashes:
        parts.append(f"{counts.gold_behind_hashes:,} after ####")
    return ", ".join(parts)
