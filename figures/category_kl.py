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

from decaylab.runs.vocabulary import select

from . import category_map, high_kl_tokens, next_byte, style, words
from .artists import Look
from .category_map import LETTERS, maps_of, shown
from .colours import looks
from .groups import Panel, Series, counts, intervals, series_of, sheet_of
from .page import Sheet, drawing

TOKENS = 15
TOKEN_SHARE = Look("share of the tokens", style.BLACK, "d")
CAPTION = """Mean reverse KL in nats by token category and position, the share of the tokens and of
    the KL that each category holds, and the tokens of the highest mean reverse KL. {counts} per
    model. Lines: {level} intervals, problem-clustered. Italics and hatches: see the text file."""
DETAILS = "{maps} {panels} {counts}, {tokens} tokens. {intervals} {floor}"
SHARES = """({letter}) Shares of each category: black of all tokens, in colours of the KL of each
    model."""


@next_byte.named
@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.category_kl.measure`.
        published: rows of `decaylab.paper.publication.kl_by_category`, a map in grey, on a scale of
            its own.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no reverse KL by category and position.
    """
    rows = shown(measurements)
    maps = maps_of(rows, published)
    above = [category_map.map_block(maps)]
    panels = panels_of(rows, first=len(maps))
    return sheet_of(panels, title, before=category_map.map_parts(maps), above=above)


draw = drawing(sheet)


@next_byte.named
def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown, counts and intervals, in at most 60 words."""
    rows = shown(measurements)
    most = counts(rows, ("problems", "rollouts")).capitalize()
    return words.filled(CAPTION, rows, counts=most)


@next_byte.named
def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What each panel shows, of which tokens, counts, and how the intervals were made."""
    rows = shown(measurements)
    panels = []
    for panel in panels_of(rows, first=len(maps_of(rows, published))):
        if panel.title == high_kl_tokens.TITLE:
            panels.append(high_kl_tokens.sentence(panel))
        else:
            panels.append(SHARES.format(letter=panel.gid))
    return words.filled(
        DETAILS,
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
    title = "Share of the tokens and of the KL"
    return Panel("", title, "share (%)", groups, series)
