"""Tables with a row or a group for each model: what the diagnostics' tables share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from decaylab.runs.vocabulary import ALL, BASE, FRESH, FROZEN
from decaylab.tables.model import Column, Number, Row, Table
from decaylab.tables.source import (
    GROUP,
    MODEL_NAME,
    NOWHERE,
    Source,
    bin_at,
    columns,
    positions,
)

Options = Mapping[str, Any]
Parts = Iterator[Table | str]
Places = dict[str, dict[str, Any]]  # label of a row -> its coordinates

BRACKETS = "brackets: {:g} % intervals over problems"


def views(source: Source) -> tuple[str, ...]:
    """Fresh and frozen rollouts; of base alone both are the same."""
    return (FRESH,) if source.models == [BASE] else (FRESH, FROZEN)


def place(checkpoint: str, condition: str = ALL, view: str = FRESH, **at: Any) -> dict[str, Any]:
    """Coordinates of a number: of no position, kind of token or token where none is given."""
    return {**NOWHERE, "checkpoint": checkpoint, "condition": condition, "view": view, **at}


def grouped(
    title: str, source: Source, axis: Column, places: Places, filled: Sequence[Column]
) -> Table:
    """A table with a group for each model, in it a row for each place. axis: of their labels."""
    rows = []
    for checkpoint in source.models:
        for label, at in places.items():
            cells = source.line(filled, place(checkpoint, **at))
            rows.append({GROUP: checkpoint, axis: label, **cells})
    return Table.of(title, rows)


def by_model(
    source: Source,
    filled: Sequence[Column],
    axis: Column = MODEL_NAME,
    group: str = "",
    **at: Any,
) -> list[Row]:
    """A row for each model that has any of these numbers. group: the name over them."""
    rows = []
    for checkpoint in source.models:
        cells = source.line(filled, place(checkpoint, **at))
        if any(isinstance(cell, Number) for cell in cells.values()):
            rows.append({GROUP: group, axis: checkpoint, **cells})
    return rows


def bins(source: Source, of: str, **at: Any) -> Places:
    """The position bins of a quantity as places."""
    return {positions(span): {**at, **bin_at(span)} for span in source.spans(of)}


def in_views(source: Source) -> tuple[Column, ...]:
    """A number and its floor on each kind of rollouts."""
    return columns("in-views")[: 2 * len(views(source))]
