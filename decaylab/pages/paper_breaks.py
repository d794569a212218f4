"""Where a tall figure may part on paper: between its rows of panels, so that no page is left half
empty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TALL = 0.62  # height over width; a figure up to here takes 40 % of a printed page and stays whole


def breaks(figure: Figure) -> list[float]:
    """Heights between rows of panels, as fractions of the figure's height from its top; none where
    the figure is not tall.

    A legend or a title above a row stays with it.
    """
    if figure.bbox.height <= TALL * figure.bbox.width:
        return []
    rows = _rows(figure)
    between = [(upper[1] + lower[0]) / 2 for upper, lower in zip(rows, rows[1:], strict=False)]
    return [round(float(height), 4) for height in between]


def _rows(figure: Figure) -> list[tuple[float, float]]:
    """Top and bottom of each row of panels with all that is written on it, from the top."""
    rows: list[tuple[float, float]] = []
    open_row: tuple[float, float] | None = None  # has no panel yet
    for top, bottom, panel in _merged(_spans(figure)):
        start = open_row[0] if open_row else top
        if panel:
            rows.append((start, bottom))
            open_row = None
        else:
            open_row = (start, bottom)
    if open_row and rows:
        rows[-1] = (rows[-1][0], open_row[1])
    return rows


def _spans(figure: Figure) -> list[tuple[float, float, bool]]:
    """Top, bottom and whether it is a panel, of everything in a figure."""
    from matplotlib.axes import Axes

    spans = []
    for artist in figure.get_children():
        if artist is figure.patch or not artist.get_visible():
            continue
        box: Any = artist.get_tightbbox()
        if box is not None and box.height > 0:
            top, bottom = (1 - edge / figure.bbox.height for edge in (box.y1, box.y0))
            spans.append((top, bottom, isinstance(artist, Axes)))
    return sorted(spans)


def _merged(spans: list[tuple[float, float, bool]]) -> list[tuple[float, float, bool]]:
    """Spans with those that overlap put together."""
    merged: list[tuple[float, float, bool]] = []
    for top, bottom, panel in spans:
        if merged and top <= merged[-1][1]:
            above = merged[-1]
            merged[-1] = (above[0], max(above[1], bottom), above[2] or panel)
        else:
            merged.append((top, bottom, panel))
    return merged
