"""Category KL: in what kind of text student and teacher disagree, where in the response, and at
which tokens most.

    maps      mean reverse KL by category and position, of the base student and of each checkpoint;
              published, if given
    shares    what part of the tokens and of the KL each category holds
    tokens    the tokens of the highest mean reverse KL of the base student, with their number and
              share of the KL

`category_map` and `high_kl_tokens` draw the first and the last alone. Checkpoints are shown on the
rollouts of the base student (view ``frozen``), where the text is the same for all. Drawing reads
rows of the measurements table and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from decaylab.runs.vocabulary import select

from . import category_map, high_kl_tokens, style, words
from .artists import Look
from .category_map import LETTERS, PUBLISHED, maps_of, shown
from .colours import looks, short
from .groups import Panel, Series, counts, draw_panel, intervals, new_page, series_of

TOKENS = 15
LONGEST_NAME = 13  # characters of a checkpoint's name above a map
TOKEN_SHARE = Look("share of the tokens", style.BLACK, "d")
CAPTION = "{maps} {panels} {counts}, {tokens} tokens. {intervals} {floor}"
SHARES = """({letter}) Shares of each category: black of all tokens, in colours of the KL of each
    model."""


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
    title: str = "",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.category_kl.measure`.
        published: rows of `decaylab.paper.publication.kl_by_category`, a map in grey, on a scale of
            its own.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in, two beside each
            other).
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no reverse KL by category and position.
    """
    rows = shown(measurements)
    maps = maps_of(rows, published)
    panels = panels_of(rows, first=len(maps))
    titles = {name: _title(name, cells) for name, cells in maps.items()}
    with style.context():
        figure, axes = new_page(
            panels, rows, width, title, before=[category_map.map_block(maps, width)]
        )
        category_map.draw_maps(axes, maps, titles)
        for panel in panels:
            draw_panel(axes[panel.gid], panel)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, of which tokens, counts, and how the intervals
    were made."""
    rows = shown(measurements)
    panels = []
    for panel in panels_of(rows, first=len(maps_of(rows, published))):
        if panel.title == high_kl_tokens.TITLE:
            panels.append(high_kl_tokens.sentence(panel))
        else:
            panels.append(SHARES.format(letter=panel.gid))
    return words.filled(
        CAPTION,
        rows,
        maps=category_map.map_text(rows, published),
        panels=" ".join(panels),
        counts=counts(rows, ("problems", "rollouts")),
        tokens=category_map.tokens_text(rows),
        intervals=intervals(rows),
    )


def panels_of(rows: pd.DataFrame, first: int) -> list[Panel]:
    """The panels of bars; their letters begin after those of the maps."""
    both = _shares(rows), high_kl_tokens.tokens_panel(rows, "", TOKENS)
    panels = [panel for panel in both if panel.groups]
    return [replace(panel, gid=LETTERS[first + i]) for i, panel in enumerate(panels)]


def _shares(rows: pd.DataFrame) -> Panel:
    known, keyed = looks(rows), rows.assign(group=rows.category)
    # the share of the tokens is that of the same text for all models
    tokens = series_of(select(keyed, what="token_share"), known)[:1]
    series = [Series("tokens", TOKEN_SHARE, first.rows) for first in tokens]
    series += series_of(select(keyed, what="kl_share"), known)
    categories = select(rows, what="kl_share").category.unique()
    groups = {name: name.replace("_", " ") for name in categories}
    places = 1 if len(known) == 1 else None
    title = "Share of the tokens and of the KL"
    return Panel("", title, "share (%)", groups, series, places=places)


def _title(name: str, cells: pd.DataFrame) -> str:
    if name == PUBLISHED:
        return "mean KL (nats), published"
    known = short(looks(cells)[name].name, LONGEST_NAME)
    return f"mean KL (nats), {known}{category_map.on_own(name, cells)}"
