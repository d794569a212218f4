"""Where continuations of prefixes in another tokenizer's tokens begin.

A continuation may write, as its first characters, what one tokenization of the whole text would
join to the last token of the prefix. Such seams are told in the column ``prefix_split``, and both
they and the cuts that lie before the length asked for are counted in notes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from decaylab.policies.handover import HandOver
from decaylab.runs import store

SHIFT, SPLIT = "prefix_shift", "prefix_split"


def told(table: pa.Table, hand_over: HandOver) -> pa.Table:
    """A stage's rows with ``prefix_split``; unchanged where the tokenizers agree."""
    if not hand_over.differs:
        return table
    rows = table.select(["prefix_ids", "response_ids", "author"]).to_pylist()
    split = [
        hand_over.splits(row["prefix_ids"], row["response_ids"], row["author"]) for row in rows
    ]
    place = table.column_names.index(SPLIT)
    column = pa.array(split, store.ROLLOUT_FIELDS[SPLIT])
    return table.set_column(place, table.schema.field(SPLIT), column)


def notes(rollouts: pa.Table) -> Iterator[str]:
    """What the reader of a run must know about cuts; nothing where the tokenizers agree."""
    if SHIFT not in rollouts.column_names:  # a run of an earlier version
        return
    cut = rollouts.filter(pc.is_valid(rollouts[SHIFT]))
    for condition in dict.fromkeys(cut["condition"].to_pylist()):
        here = cut.filter(pc.equal(cut["condition"], condition))
        shifts = [shift for shift in here[SHIFT].to_pylist() if shift]
        if shifts:
            mean = sum(shifts) / len(shifts)
            yield (
                f"{condition}: {len(shifts)} of {len(here)} cuts lie before their length, at a "
                f"boundary of both tokenizers: {mean:.1f} tokens on average, at most {max(shifts)}"
            )
        split = here[SPLIT].to_pylist().count(True)
        if split:
            yield (
                f"{condition}: {split} of {len(here)} continuations are not what one tokenization "
                "of the whole text gives: it has no boundary where the prefix ends"
            )
