"""decaylab's own rollouts table, ``rollouts.parquet`` of a run: the student's plain rollouts out of
it."""

from __future__ import annotations

from collections.abc import Iterator

from decaylab.rollout_files import must_hold
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.record import Record

MARKS = (
    "rollout_id",
    "condition",
    "author",
    "prefix_ids",
    "response_ids",
    "prompt_ids",
    "stop_reason",
    "text",
)


def _recognises(row: Row) -> bool:
    return all(name in row for name in MARKS)


def _records(row: Row, place: str) -> Iterator[Record]:
    if row["condition"] == "student":
        ids, mask = row["response_ids"], row.get("response_mask")
        yield Record(
            response=row["text"],
            problem_id=row["problem_id"],
            sample=row["sample"],
            prompt_ids=row["prompt_ids"],
            response_ids=ids,
            response_mask=None
            if mask is None
            else must_hold.mask(mask, "response_mask", len(ids), place),
            stop=row["stop_reason"],
        )


FORMATS = (Format("decaylab", "decaylab's rollouts table", _recognises, _records),)
