"""Artists and texts of a figure, found by what they are called."""

from __future__ import annotations

from matplotlib.artist import Artist
from matplotlib.figure import Figure


def artist(figure: Figure, gid: str) -> Artist | None:
    found = figure.findobj(lambda one: one.get_gid() == gid)
    assert len(found) <= 1, gid
    return found[0] if found else None


def texts(figure: Figure) -> str:
    return "\n".join(one.get_text() for one in figure.findobj(lambda one: hasattr(one, "get_text")))
