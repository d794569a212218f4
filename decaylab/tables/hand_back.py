"""What ``decaylab prefix-decay --hand-back`` prints: gains, usable shares and controls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.runs.vocabulary import (
    CORRECTIVE_GAIN,
    GAIN_MINUS_CONTINUATION,
    HAND_BACK,
    HAND_BACK_CONTROL,
    TO_THE_END,
    teacher_tokens,
)
from decaylab.tables.model import Row, Table
from decaylab.tables.source import Source, columns

WRITTEN, CONTROL = columns("hand-back-labels")
CONTROLS = {
    "the student afresh (no teacher token)": (CORRECTIVE_GAIN, teacher_tokens(0)),
    "teacher to the end, less its continuation": (
        GAIN_MINUS_CONTINUATION,
        teacher_tokens(TO_THE_END),
    ),
}
TITLE = "Hand-back controls: each interval should contain 0"
GREEDY = (
    "Hand-back controls: at temperature 0 they are identities, which repeat what was sampled before"
)


def tables(source: Source, greedy: bool) -> Iterator[Table]:
    """The gains and their controls; none if nothing was handed back.

    greedy: all rollouts were sampled for this run, at temperature 0.
    """
    if source.rows(CORRECTIVE_GAIN, condition=HAND_BACK).empty:
        return
    yield Table.of(
        "Hand-back: the teacher writes behind the prefix, then the student finishes; gain over the "
        "rollouts' own outcomes",
        _gains(source),
    )
    yield Table.of(GREEDY if greedy else TITLE, _controls(source))


def _gains(source: Source) -> Iterator[Row]:
    at = {"condition": HAND_BACK}
    for length, category in source.places(CORRECTIVE_GAIN, "prefix_tokens", "category", at=at):
        place = {**at, "prefix_tokens": length, "category": category}
        prefix, *others = columns("hand-back")
        cells = source.line([prefix], place)
        yield {**cells, WRITTEN: category.rpartition(" ")[2], **source.line(others, place)}


def _controls(source: Source) -> Iterator[Row]:
    for name, (what, category) in CONTROLS.items():
        at: dict[str, Any] = {"condition": HAND_BACK_CONTROL, "category": category}
        for length in source.values(what, "prefix_tokens", at):
            place = {**at, "prefix_tokens": length}
            yield {CONTROL: name, **source.line(columns("hand-back-controls"), place, what)}
