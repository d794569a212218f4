"""decaylab's own rollouts table, ``rollouts.parquet`` of a run: its student rollouts."""

from __future__ import annotations

from collections.abc import Iterator

from decaylab.rollout_files.formats.fields import Fields
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.shapes import has
from decaylab.rollout_files.record import Record

COLUMNS = "rollout_id condition author prefix_ids response_ids prompt_ids stop_reason text"
ROW = has(**dict.fromkeys(COLUMNS.split(), object))


def _read(row: Fields) -> Iterator[Record]:
    if row.get("condition") != "student":
        return
    ids = row.get("response_ids")
    masked = row.get("response_mask") is not None
    yield Record(
        response=row.get("text"),
        problem_id=row.get("problem_id"),
        sample=row.get("sample"),
        prompt_ids=row.get("prompt_ids"),
        response_ids=ids,
        response_mask=row.mask("response_mask", len(ids)) if masked else None,
        stop=row.get("stop_reason"),
    )


FORMATS = (Format("decaylab", "decaylab's rollouts table", ROW, _read),)
