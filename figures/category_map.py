"""The category table as heat maps: mean reverse KL by token category and position in the response.

A map for the base student, one for each checkpoint on the same scale of colours, and a grey one of
the published table on a scale of its own. Checkpoints are shown on the rollouts of the base student
(view ``frozen``), where the text is the same for all. Drawing reads rows of the measurements table
and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from decaylab.printing import rounded
from decaylab.runs.vocabulary import BASE, FRESH, FROZEN, select

from . import next_byte, style, words
from .colours import looks
from .groups import counts
from .layout import Block, balanced
from .page import Part, Sheet, drawing
from .running_text import short

LETTERS = string.ascii_letters
PUBLISHED = "published"
KL, ROBUST = "reverse_kl", "winsorised_reverse_kl"
CELL, UPRIGHT_CELL = 12.0, 20.0  # points up; the second where numbers must stand upright
NUMBER = 17.0  # points across that a number takes
HALF = Block(left=0.92, right=0.2, between=1.16)  # of maps that share a page
PLACE = ["view", "checkpoint", "category", "position_low"]
MOST_MAPS = 5  # of measured models: more do not fit a page
LONGEST_NAME = 15  # characters of a checkpoint's name above a map
CAPTION = """Mean reverse KL in nats of the tokens of each category, by position. Italics: the
    interval of the winsorised mean is wider than that mean, or there is none; hatched: under twice
    the noise floor; \u2013: no token. {counts} per model."""
DETAILS = """{maps} {counts}, {tokens} tokens. The intervals are of the winsorised means, pointwise
    {level} ({methods}), and stand in the table. {floors}"""
MAPS = """({letters}) Mean reverse KL in nats ({estimands}) of the tokens of each category, by
    position in the response; a bin does not hold its upper edge. \u2013: no token, or undefined.
    Italics: the interval of the winsorised mean is wider than that mean, or there is none.
    Hatched: under twice the noise floor. {views} {theirs}"""
VIEWS = "Base student and checkpoints on {whose}."
THEIRS = """({letter}, grey) Published, {run}, another pair and problem set, without intervals, on
    a colour scale of its own."""
FEWER = "Maps of {shown} of the {all} models; the numbers of all stand in the table."
FLOORS = "Noise floor at most {most:.1e} nats; under twice it {under} of {all} cells."

Maps = Mapping[str, pd.DataFrame]  # the cells of each map by its name: base, checkpoints, published


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
        title: a line above the maps, such as the names of the two models.

    Raises:
        ValueError: the rows hold no reverse KL by category and position.
    """
    maps = maps_of(shown(measurements), published)
    # one alone fills the page
    page = [map_block(maps)] if len(maps) > 1 else []
    return Sheet(map_parts(maps), page, title)


draw = drawing(sheet)


@next_byte.named
def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What a cell is, and counts, in at most 60 words."""
    cells = select(shown(measurements), what=KL)
    most = counts(cells, ("problems", "rollouts"))
    return words.filled(CAPTION, counts=most.capitalize())


@next_byte.named
def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What a cell is, of which tokens, counts, and how the intervals were made."""
    rows = shown(measurements)
    cells, robust = select(rows, what=KL), select(rows, what=ROBUST)
    floored, floors = cells[cells.noise_floor.notna()], "Noise floor: not measured."
    if len(floored):
        most, under = floored.noise_floor.max(), floored.under_floor.sum()
        floors = FLOORS.format(most=most, under=under, all=len(floored))
    return words.filled(
        DETAILS,
        maps=map_text(rows, published),
        counts=counts(cells, ("problems", "rollouts")),
        tokens=tokens_text(rows),
        level=words.levels(robust),
        methods=words.methods(robust),
        floors=floors,
    )


# What is drawn, shared with the figure that has shares and tokens beside the maps


def shown(measurements: pd.DataFrame) -> pd.DataFrame:
    """Each model on the frozen rollouts, where it was measured on them, else on its own."""
    # on the same text a difference between models is one of the models
    frozen = select(measurements, view=FROZEN).checkpoint
    wanted = np.where(measurements.checkpoint.isin(frozen), FROZEN, FRESH)
    return measurements[measurements["view"] == wanted]


def maps_of(rows: pd.DataFrame, published: pd.DataFrame | None) -> dict[str, pd.DataFrame]:
    """The cells of each map; of a measured one ``unsure`` says whether its winsorised mean has no
    interval, or one wider than itself.

    Raises:
        ValueError: the rows hold no reverse KL by category and position.
    """
    cells = rows[(rows.what == KL) & (rows.category != "")]
    if not len(cells):
        raise ValueError("measurements hold no reverse_kl by category; pass those of category-kl")
    robust = rows[(rows.what == ROBUST) & (rows.category != "")].set_index(PLACE)
    sure = robust.high - robust.low <= robust.value
    known = sure.reindex(pd.MultiIndex.from_frame(cells[PLACE]), fill_value=False)
    cells = cells.assign(unsure=~known.to_numpy(dtype=bool))
    maps = {name: select(cells, checkpoint=name) for name in _mapped(list(looks(cells)))}
    if published is not None:
        maps[PUBLISHED] = select(published, what=KL).assign(unsure=False)
    return maps


def _mapped(names: list[str]) -> list[str]:
    """The models that have a map: of very many the first, the last, and some between them."""
    if len(names) <= MOST_MAPS:
        return names
    places = np.linspace(0, len(names) - 1, MOST_MAPS).round().astype(int)
    return [names[place] for place in places]


def map_text(rows: pd.DataFrame, published: pd.DataFrame | None) -> str:
    """What a caption says of the maps: what a cell is, on whose rollouts, and which map is
    published."""
    names = list(maps_of(rows, published))
    last = LETTERS[len(names) - 1]
    views = ""
    if len(looks(rows)) > 1:
        frozen = set(rows["view"]) == {FROZEN}
        whose = "the base student's rollouts, the same tokens for all" if frozen else "rollouts"
        views = VIEWS.format(whose=whose)
    if len(looks(rows)) > MOST_MAPS:
        views = f"{views} {FEWER.format(shown=MOST_MAPS, all=len(looks(rows)))}"
    return words.filled(
        MAPS,
        letters=f"a to {last}" if len(names) > 1 else "a",
        estimands="; ".join(select(rows, what=KL).estimand.unique()),
        views=views,
        theirs=words.of_published(THEIRS, published, letter=last),
    )


def tokens_text(rows: pd.DataFrame) -> str:
    """How many tokens stand behind the map of each model: every token is in one category."""
    cells = rows[(rows.what == KL) & (rows.category != "")]
    return words.span(cells.groupby("checkpoint").tokens.sum())


def map_inches(cells: pd.DataFrame) -> float:
    """How high a map is."""
    points = UPRIGHT_CELL if _upright(cells) else CELL
    return cells.category.nunique() * points / style.POINTS_PER_INCH


def map_block(maps: Maps) -> Block:
    """Of a page: two maps in a row."""
    heights = {f"map.{name}": map_inches(cells) for name, cells in maps.items()}
    return balanced(heights, "page", HALF)


def map_parts(maps: Maps) -> dict[str, Part]:
    """A panel for each map by its letter; the measured ones on one scale of colours."""
    most = _most([cells for name, cells in maps.items() if name != PUBLISHED])
    parts = {}
    for letter, (name, cells) in zip(LETTERS, maps.items()):
        scale = most if name != PUBLISHED else _most([cells])
        parts[letter] = _part(name, cells, scale)
    return parts


def _part(name: str, cells: pd.DataFrame, most: float) -> Part:
    place = f"map.{name}"
    block = replace(HALF, mosaic=[[place]], heights=[map_inches(cells)], apart=0.0)
    colour = style.PUBLISHED if name == PUBLISHED else style.INK
    title = f"Reverse KL (nats), {_name(name, cells)}"

    def draw(axes: dict[str, Axes]) -> None:
        _draw_map(axes[place], cells, name, most)

    return Part(title, block, draw, colour=colour)


def _most(maps: Iterable[pd.DataFrame]) -> float:
    """The end of the colour scale of these maps, in nats: the largest value."""
    values = pd.concat(maps).value.to_numpy(dtype=float)
    return float(values[np.isfinite(values)].max(initial=0.0)) or 1.0


def _draw_map(axes: Axes, cells: pd.DataFrame, name: str, most: float) -> None:
    """A colour and a number for each cell."""
    edges, categories = _edges(cells), list(cells.category.unique())
    table = cells.pivot(index="category", columns="position_low", values="value").loc[categories]
    dark = "#5a5a5a" if name == PUBLISHED else style.WINE
    sns.heatmap(
        table,
        ax=axes,
        cmap=sns.blend_palette(["white", dark], as_cmap=True),
        vmin=0.0,
        vmax=most,
        cbar=False,
        xticklabels=False,
        yticklabels=[category.replace("_", " ") for category in categories],
        gid=f"map.{name}",
    )
    # seaborn's own numbers would leave out undefined cells, and know no italics
    for _, row in cells.iterrows():
        place = edges.index(row.position_low), categories.index(row.category)
        _write_cell(axes, row, place, dark=row.value > 0.55 * most, upright=_upright(cells))
    names = [f"{edge:g}".replace("inf", "\u221e") for edge in edges]
    style.ticks(axes, dict(enumerate(names)), 15.0)
    axes.tick_params(axis="x", bottom=True)
    axes.tick_params(axis="y", length=0, labelrotation=0)
    axes.set_ylabel("")
    axes.set_xlabel("position in the response (tokens)")


def number_text(value: float) -> str:
    """Nats in four characters: two decimals, below 0.01 a power of ten."""
    if not math.isfinite(value):
        return rounded(value)
    if value >= 9.995:
        return rounded(value, 1)
    if value >= 0.01 or value == 0:
        return rounded(value, 2)
    return f"{value:.0e}".replace("e-0", "e-")


def on_own(name: str, cells: pd.DataFrame) -> str:
    """What is added to the name of a checkpoint that was measured on its own rollouts alone."""
    return ", own" if name != BASE and set(cells["view"]) == {FRESH} else ""


def _name(name: str, cells: pd.DataFrame) -> str:
    if name == PUBLISHED:
        return "published"
    return short(looks(cells)[name].name, LONGEST_NAME) + on_own(name, cells)


def _edges(cells: pd.DataFrame) -> list[float]:
    return sorted(set(cells.position_low) | set(cells.position_high))


def _upright(cells: pd.DataFrame) -> bool:
    return (len(_edges(cells)) - 1) * NUMBER > 2.4 * style.POINTS_PER_INCH


def _write_cell(
    axes: Axes, row: pd.Series[Any], place: tuple[int, int], *, dark: bool, upright: bool
) -> None:
    """The number: white on dark, in italics where its interval is wider than itself, hatched under
    the noise floor."""
    x, y = place
    if row.under_floor:
        hatch: dict[str, Any] = {"facecolor": "none", "edgecolor": "#999999", "hatch": "/////"}
        axes.fill_between([x, x + 1], y, y + 1, linewidth=0, gid="under-floor", **hatch)
    text = axes.text(x + 0.5, y + 0.5, number_text(row.value), ha="center", va="center")
    text.set_fontsize(style.SMALL)
    text.set_rotation(90 if upright else 0)
    if math.isfinite(row.value):
        text.set_color("white" if dark else style.INK)
        text.set_fontstyle("italic" if row.unsure else "normal")
