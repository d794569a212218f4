"""The tokens of the highest mean reverse KL, with how often they occur and what part of the KL they
hold.

    a   by the base student's mean, checkpoints on the same tokens
    b   the published list where it is given, on its own axis: another pair, another vocabulary

Checkpoints are shown on the rollouts of the base student (view ``frozen``), where the text is the
same for all. Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from unicodedata import combining

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from . import style
from .bins import floor_text, named
from .category_map import shown
from .colours import looks
from .curves import PERCENT, Look
from .groups import (
    Panel,
    Series,
    counts,
    draw_panel,
    new_page,
    published_sentence,
    published_series,
    series_of,
)

TITLE = "Highest-KL tokens"
MEAN, PART = "token_mean_reverse_kl", "token_kl_share"
MOST = 20  # tokens, as many as were published
LONGEST_TOKEN = 12  # characters
COUNT, SHARE = "count", "KL (%)"
COLUMNS = {COUNT: 30, SHARE: 62}  # points right of the bars where each column of numbers ends
NARROWER = 0.44  # inches that the columns take from the bars
ALONE = 3.06  # inches by which a panel alone on a page is wider


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
        published: rows of `decaylab.paper.publication.high_kl_tokens`, drawn grey and hollow in a
        panel of their own.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in, two beside each
        other).
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no mean reverse KL by token.
    """
    rows = shown(measurements)
    panels = _panels(rows, published)
    with style.context():
        figure, axes = new_page(
            [panel.points for panel in panels], panels, rows[rows.what == MEAN], width, title
        )
        for one, panel in zip(axes, panels, strict=True):
            widen(one, ALONE if width == "page" and len(panels) == 1 else -NARROWER)
            write_columns(one, panel, _columns(panel, rows))
            draw_panel(one, panel)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: which tokens these are, on whose rollouts, counts, and how the
    intervals were made."""
    rows = shown(measurements)
    measured = rows[rows.what == MEAN]
    text = [sentence(_panels(rows, None)[0])]
    if measured.checkpoint.nunique() > 1:
        frozen = set(measured["view"]) == {"frozen"}
        text.append(
            "All on "
            f"{'the same rollouts, those of the base student' if frozen else 'their own rollouts'}."
        )
    if published is not None:
        text.append(f"(b) {published_sentence(published)} Shares of the KL were not published.")
    text.append(f"{counts(measured, ('problems', 'rollouts'))}.")
    text.append(
        "No intervals: a few problems may hold much of such a mean; the winsorised means in the "
        "table have them."
    )
    return " ".join([*text, floor_text(measured)])


def _panels(rows: pd.DataFrame, published: pd.DataFrame | None) -> list[Panel]:
    panel = tokens_panel(rows, looks(rows), "a", MOST)
    if not panel.groups:
        raise ValueError("measurements hold no token_mean_reverse_kl; pass those of category-kl")
    if published is None:
        return [panel]
    return [panel, _published(published)]


def _published(published: pd.DataFrame) -> Panel:
    theirs = published[published.what == MEAN]
    series = published_series(theirs.assign(group=theirs.token))
    return _panel(
        "b",
        "Published, other pair",
        series,
        {token: printable(token) for token in theirs.token[:MOST]},
    )


def _columns(panel: Panel, rows: pd.DataFrame) -> dict[str, Mapping[str, str]]:
    found = columns_of(panel, rows)
    return {COUNT: found[COUNT]} if panel.series[0].hollow else found


# What the figure of categories has of it too


def tokens_panel(rows: pd.DataFrame, known: Mapping[str, Look], gid: str, most: int) -> Panel:
    """Tokens by the mean of the first model, highest first, at most so many; without groups where
    none was measured."""
    keyed = rows[rows.what == MEAN]
    series = series_of(keyed.assign(group=keyed.token), known)
    by_mean = [
        token
        for one in series[:1]
        for token in one.rows.sort_values("value", ascending=False, kind="stable").index
    ]
    groups = {token: printable(token) for token in by_mean[:most]}
    return _panel(
        gid, TITLE, [one for one in series if one.rows.index.isin(list(groups)).any()], groups
    )


def _panel(gid: str, title: str, series: list[Series], groups: Mapping[str, str]) -> Panel:
    return Panel(gid, title, "mean reverse KL (nats)", groups, series, scale=1.0, numbers="")


def sentence(panel: Panel) -> str:
    """What a caption says of the panel."""
    return (
        f"({panel.gid}) Of the tokens that are listed, the {len(panel.groups)} with the highest "
        "mean reverse KL of "
        f"{named(panel.series[0].name)}; beside them how often they occur and their share of its "
        "KL; "
        "\u2423 space, \u21b5 end of a line."
    )


def columns_of(panel: Panel, rows: pd.DataFrame) -> dict[str, Mapping[str, str]]:
    """Number and share of the KL of each token, of the first model, as written."""
    first = panel.series[0]
    parts = rows[(rows.what == PART) & (rows.checkpoint == first.name)].set_index("token").value
    shares = {token: parts.get(token, math.nan) * PERCENT for token in panel.groups}
    return {
        COUNT: {token: f"{first.rows.tokens[token]:,}" for token in panel.groups},
        SHARE: {
            token: "\u2013" if math.isnan(share) else f"{share:.1f}"
            for token, share in shares.items()
        },
    }


def write_columns(axes: Axes, panel: Panel, columns: Mapping[str, Mapping[str, str]]) -> None:
    """Columns of numbers right of the bars, a number a token."""
    places = dict(zip(panel.groups, (np.arange(len(panel.groups)) + 0.5) * panel.step, strict=True))
    for name, texts in columns.items():
        for y, text, up in [
            (0.0, name, 8.0),
            *((places[token], text, -0.3) for token, text in texts.items()),
        ]:
            axes.annotate(
                text,
                (1, y),
                (COLUMNS[name], up),
                axes.get_yaxis_transform(),
                "offset points",
                ha="right",
                va="center",
                fontsize=style.SMALL,
                annotation_clip=False,
            )


def widen(axes: Axes, inches: float) -> None:
    """To the right; narrower with a negative number."""
    place = axes.get_position()
    across = style.root(axes).get_size_inches()[0]
    axes.set_position((place.x0, place.y0, place.width + inches / across, place.height))


def printable(token: str) -> str:
    """A token as the font can show it: other characters as their codes; white space as signs; cut
    where it is long."""
    font = get_font(findfont("DejaVu Sans"))
    signs = token.replace(" ", "\u2423").replace("\n", "\u21b5").replace("\t", "\u21e5")
    seen = [
        one
        if one.isprintable() and not combining(one) and font.get_char_index(ord(one))
        else _code(one)
        for one in signs
    ]
    kept = 0
    while kept < len(seen) and len("".join(seen[: kept + 1])) <= LONGEST_TOKEN:
        kept += 1
    return "".join(seen[:kept]) + ("\u2026" if kept < len(seen) else "")


def _code(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):x}"
