"""Category KL: in what kind of text student and teacher disagree, where in the response, and at
which tokens most.

    maps      mean reverse KL by category and position, of the base student and of each checkpoint;
    published, if given shares    what part of the tokens and of the KL each category holds tokens
    the tokens of the highest mean reverse KL of the base student, with their number and share of
    the KL

`category_map` and `high_kl_tokens` draw the first and the last alone. Checkpoints are shown on the
rollouts of the base student (view ``frozen``), where the text is the same for all. Drawing reads
rows of the measurements table and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from . import category_map, high_kl_tokens, style
from .bins import floor_text
from .category_map import LETTERS, PUBLISHED, maps_of, shown
from .colours import looks
from .curves import Look
from .groups import Panel, Series, counts, draw_panel, intervals, new_page, series_of

TOKENS = 15
LONGEST_NAME = 13  # characters of a checkpoint's name above a map
TOKEN_SHARE = Look("share of the tokens", style.BLACK, "d")


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
    most = category_map.most_of(cells for name, cells in maps if name != PUBLISHED)
    with style.context():
        heights = [category_map.map_points(cells) for _, cells in maps] + [
            panel.points for panel in panels
        ]
        figure, axes = new_page(heights, panels, rows, width, title)
        for letter, one, (name, cells) in zip(LETTERS, axes, maps, strict=False):
            high_kl_tokens.widen(one, 0.36)
            scale = most if name != PUBLISHED else category_map.most_of([cells])
            category_map.draw_map(one, cells, name, scale, f"{letter}  {_title(name, cells)}")
        for one, panel in zip(axes[len(maps) :], panels, strict=True):
            if panel.title == high_kl_tokens.TITLE:
                high_kl_tokens.widen(one, -high_kl_tokens.NARROWER)
                high_kl_tokens.write_columns(one, panel, high_kl_tokens.columns_of(panel, rows))
            draw_panel(one, panel)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, of which tokens, counts, and how the intervals
    were made."""
    rows = shown(measurements)
    text = category_map.map_sentences(rows, published)
    for panel in panels_of(rows, first=len(maps_of(rows, published))):
        if panel.title == high_kl_tokens.TITLE:
            text.append(high_kl_tokens.sentence(panel))
        else:
            text.append(
                f"({panel.gid}) Shares of each category: black of all tokens, in colours of the "
                "KL of each model."
            )
    text.append(
        f"{counts(rows, ('problems', 'rollouts'))}, {category_map.tokens_told(rows)} tokens."
    )
    return " ".join([*text, intervals(rows), floor_text(rows)])


def panels_of(rows: pd.DataFrame, first: int) -> list[Panel]:
    """The panels of bars; their letters begin after those of the maps."""
    known = looks(rows)
    both = (_shares(rows, known), high_kl_tokens.tokens_panel(rows, known, "", TOKENS))
    panels = [panel for panel in both if panel.groups]
    return [replace(panel, gid=LETTERS[first + i]) for i, panel in enumerate(panels)]


def _shares(rows: pd.DataFrame, known: dict[str, Look]) -> Panel:
    keyed = rows.assign(group=rows.category)
    tokens = series_of(keyed[keyed.what == "token_share"], known)[
        :1
    ]  # of the same text the same for all
    series = [Series("tokens", TOKEN_SHARE, one.rows) for one in tokens]
    series += series_of(keyed[keyed.what == "kl_share"], known)
    groups = {
        name: name.replace("_", " ")
        for name in dict.fromkeys(rows[rows.what == "kl_share"].category)
    }
    numbers = ".1f" if len(known) == 1 else ""
    return Panel(
        "", "Share of the tokens and of the KL", "share (%)", groups, series, numbers=numbers
    )


def _title(name: str, cells: pd.DataFrame) -> str:
    if name == PUBLISHED:
        return "mean KL (nats), published"
    known = looks(cells)[name].name
    short = known if len(known) <= LONGEST_NAME else f"\u2026{known[1 - LONGEST_NAME :]}"
    return f"mean KL (nats), {short}{category_map.on_own(name, cells)}"
