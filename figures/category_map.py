"""The category table as heat maps: mean reverse KL by token category and position in the response.

A map for the base student, one for each checkpoint on the same scale of colours, and a grey one of
the published table on a scale of its own. Checkpoints are shown on the rollouts of the base student
(view ``frozen``), where the text is the same for all. Drawing reads rows of the measurements table
and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

import math
import string
import textwrap
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from . import style
from .colours import looks
from .curves import PERCENT
from .groups import counts

LETTERS = string.ascii_letters
PUBLISHED = "published"
CELL, UPRIGHT_CELL = 12.0, 20.0  # points up; the second where numbers must stand upright
NUMBER = 17.0  # points across that a number takes
NARROW = 2.34  # inches across of a map that shares a page or fills a column
LEFT, HEAD, ABOVE, BELOW = (
    0.92,
    0.24,
    0.26,
    0.42,
)  # inches: of category names, of the heading, around a map


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
        width: ``column`` (3.4 in, maps below each other) or ``page`` (7 in, two beside each other;
        one alone fills it).
        title: a line above the maps, such as the names of the two models.

    Raises:
        ValueError: the rows hold no reverse KL by category and position.
    """
    rows = shown(measurements)
    maps = maps_of(rows, published)
    most = most_of(cells for name, cells in maps if name != PUBLISHED)
    with style.context():
        figure, axes = _page(maps, width, title, _note(rows))
        for letter, one, (name, cells) in zip(LETTERS, axes, maps, strict=False):
            scale = most if name != PUBLISHED else most_of([cells])
            draw_map(one, cells, name, scale, f"{letter}  {_title(name, cells)}")
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what a cell is, of which tokens, counts, and how the intervals were
    made."""
    rows = shown(measurements)
    cells = rows[rows.what == "reverse_kl"]
    text = map_sentences(rows, published)
    robust = rows[rows.what == "winsorised_reverse_kl"]
    methods = "; ".join(sorted({*robust.method} - {""}))
    levels = " / ".join(f"{level * PERCENT:g} %" for level in sorted(set(robust.level)))
    text.append(f"{counts(cells, ('problems', 'rollouts'))}, {tokens_told(rows)} tokens.")
    text.append(
        f"The intervals are of the winsorised means, pointwise {levels} ({methods}), and stand in "
        "the table."
    )
    return " ".join([*text, _floor_text(cells)])


# What is drawn, shared with the figure that has shares and tokens beside the maps


def shown(measurements: pd.DataFrame) -> pd.DataFrame:
    """Each model on the frozen rollouts, where it was measured on them, else on its own."""
    frozen = set(measurements[measurements["view"] == "frozen"].checkpoint)
    wanted = np.where(measurements.checkpoint.isin(frozen), "frozen", "fresh")
    return measurements[measurements["view"] == wanted]


def maps_of(rows: pd.DataFrame, published: pd.DataFrame | None) -> list[tuple[str, pd.DataFrame]]:
    """Rows of each map with its name: base, checkpoints, published.

    Raises:
        ValueError: the rows hold no reverse KL by category and position.
    """
    binned = rows[(rows.what == "reverse_kl") & (rows.category != "")]
    if not len(binned):
        raise ValueError("measurements hold no reverse_kl by category; pass those of category-kl")
    binned = binned.assign(unsure=_unsure(binned, rows))
    found = [(name, binned[binned.checkpoint == name]) for name in looks(binned)]
    if published is not None:
        found.append((PUBLISHED, published[published.what == "reverse_kl"]))
    return found


def _unsure(binned: pd.DataFrame, rows: pd.DataFrame) -> list[bool]:
    """Of each cell, whether its winsorised mean has no interval, or one wider than itself."""
    place = ["view", "checkpoint", "category", "position_low"]
    robust = rows[(rows.what == "winsorised_reverse_kl") & (rows.category != "")].set_index(place)
    sure = robust.high - robust.low <= robust.value
    return [not sure.get(key, False) for key in binned[place].itertuples(index=False, name=None)]


def map_sentences(rows: pd.DataFrame, published: pd.DataFrame | None) -> list[str]:
    """What a caption says of the maps: what a cell is, on whose rollouts, and which map is
    published."""
    maps = maps_of(rows, published)
    lettered = LETTERS[0] if len(maps) == 1 else f"a to {LETTERS[len(maps) - 1]}"
    estimand = "; ".join(dict.fromkeys(rows[rows.what == "reverse_kl"].estimand))
    text = [
        f"({lettered}) Mean reverse KL in nats ({estimand}) of the tokens of each category, by "
        "position in the response; a "
        "bin does not hold its upper edge. \u2013: no token, or undefined. "
        "Italics: the interval of the winsorised mean is wider than that mean, or there is none. "
        "Hatched: under twice the "
        "noise floor."
    ]
    if len(looks(rows)) > 1:
        view = (
            "the base student's rollouts, the same tokens for all"
            if set(rows["view"]) == {"frozen"}
            else "rollouts"
        )
        text.append(f"Base student and checkpoints on {view}.")
    if published is not None:
        letter = LETTERS[[name for name, _ in maps].index(PUBLISHED)]
        text.append(
            f"({letter}, grey) Published, {published.run.iloc[0]}, another pair and problem set, "
            "without intervals, on a "
            "colour scale of its own."
        )
    return text


def tokens_told(rows: pd.DataFrame) -> str:
    """How many tokens stand behind the map of each model: every token is in one category."""
    tokens = rows[rows.what == "mean_reverse_kl"].groupby("checkpoint").tokens.sum()
    if not len(tokens):  # the maps alone were kept
        tokens = rows[rows.what == "reverse_kl"].groupby("checkpoint").tokens.sum()
    return f"{tokens.min():,}" if tokens.nunique() == 1 else f"{tokens.min():,} to {tokens.max():,}"


def most_of(maps: Iterable[pd.DataFrame]) -> float:
    """The end of the colour scale of these maps, in nats: the largest value."""
    values = np.concatenate([cells.value.to_numpy(dtype=float) for cells in maps])
    return float(values[np.isfinite(values)].max(initial=0.0)) or 1.0


def map_points(cells: pd.DataFrame) -> float:
    """How high a map is, in points."""
    return cells.category.nunique() * (UPRIGHT_CELL if _upright(cells) else CELL)


def draw_map(axes: Axes, cells: pd.DataFrame, name: str, most: float, title: str) -> None:
    """A colour and a number for each cell."""
    edges, categories = _edges(cells), list(dict.fromkeys(cells.category))
    table = cells.pivot(index="category", columns="position_low", values="value").reindex(
        categories
    )
    colours = LinearSegmentedColormap.from_list(
        "kl", ["white", "#5a5a5a" if name == PUBLISHED else style.WINE]
    )
    shape = (np.arange(len(edges)), np.arange(len(categories) + 1))
    axes.pcolormesh(
        *shape, table.to_numpy(dtype=float), cmap=colours, vmin=0.0, vmax=most, gid=f"map.{name}"
    )
    axes.set_ylim(len(categories), 0)
    for _, row in cells.iterrows():
        place = (edges.index(row.position_low), categories.index(row.category))
        _write_cell(axes, row, place, most, upright=_upright(cells), measured=name != PUBLISHED)
    axes.set_yticks(np.arange(len(categories)) + 0.5, [one.replace("_", " ") for one in categories])
    across = style.size_points(axes)[0] / (len(edges) - 1)
    labelled = set(style.far_apart([i * across for i in range(len(edges))], 15.0))
    names = ["\u221e" if math.isinf(edge) else f"{edge:g}" for edge in edges]
    axes.set_xticks(
        range(len(edges)), [one if i in labelled else "" for i, one in enumerate(names)]
    )
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("position in the response (tokens)")
    axes.set_title(title, pad=4)


def number_text(value: float) -> str:
    """Nats in four characters: two decimals, below 0.01 a power of ten."""
    if not math.isfinite(value):
        return "\u2013" if math.isnan(value) else "\u221e"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.01 or value == 0 else f"{value:.0e}".replace("e-0", "e-")


def on_own(name: str, cells: pd.DataFrame) -> str:
    """What is added to the name of a checkpoint that was measured on its own rollouts alone."""
    return ", own" if name != "base" and set(cells["view"]) == {"fresh"} else ""


def _edges(cells: pd.DataFrame) -> list[float]:
    return sorted({*cells.position_low, *cells.position_high})


def _upright(cells: pd.DataFrame) -> bool:
    return (len(_edges(cells)) - 1) * NUMBER > 2.4 * style.POINTS_PER_INCH


def _write_cell(
    axes: Axes,
    row: pd.Series,
    place: tuple[int, int],
    most: float,
    *,
    upright: bool,
    measured: bool,
) -> None:
    """The number: white on dark, in italics where its interval is wider than itself, hatched under
    the noise floor."""
    value = row.value
    dark = math.isfinite(value) and value > 0.55 * most
    unsure = measured and math.isfinite(value) and row.unsure
    if row.under_floor:
        axes.fill_between(
            [place[0], place[0] + 1],
            place[1],
            place[1] + 1,
            facecolor="none",
            edgecolor="#999999",
            hatch="/////",
            linewidth=0,
            gid="under-floor",
        )
    axes.text(
        place[0] + 0.5,
        place[1] + 0.5,
        number_text(value),
        ha="center",
        va="center",
        fontsize=style.SMALL,
        color="white" if dark else style.INK,
        style="italic" if unsure else "normal",
        rotation=90 if upright else 0,
    )


# The page of maps alone


def _floor_text(cells: pd.DataFrame) -> str:
    known = cells[cells.noise_floor.notna()]
    if not len(known):
        return "Noise floor: not measured."
    under = f"{known.under_floor.sum()} of {len(known)} cells"
    return f"Noise floor at most {known.noise_floor.max():.1e} nats; under twice it {under}."


def _title(name: str, cells: pd.DataFrame) -> str:
    return (
        "published, other pair"
        if name == PUBLISHED
        else looks(cells)[name].name + on_own(name, cells)
    )


def _note(rows: pd.DataFrame) -> str:
    most = counts(rows[rows.what == "reverse_kl"], ("problems", "rollouts"))
    return (
        "Italics: the winsorised mean's interval is wider than that mean, or there is none. "
        "Hatched: under twice the noise "
        f"floor. \u2013: no token. {most} a model."
    )


def _page(
    maps: list[tuple[str, pd.DataFrame]], width: style.Width, title: str, note: str
) -> tuple[Figure, list[Axes]]:
    """Axes of the maps, two in a row on a page; title, heading and note stand."""
    a_row = min(len(maps), 2 if width == "page" else 1)
    note, title = (textwrap.fill(text, 125 if width == "page" else 60) for text in (note, title))
    heights = [map_points(cells) / style.POINTS_PER_INCH for _, cells in maps]
    tall = [max(heights[i : i + a_row]) for i in range(0, len(heights), a_row)]
    title_inches = 0.14 * (title.count("\n") + 1) if title else 0.0
    foot = 0.1 + 0.13 * (note.count("\n") + 1)
    total = 0.06 + title_inches + HEAD + sum(ABOVE + one + BELOW for one in tall) + foot
    figure = style.new_figure(width, total)
    across = style.WIDTH_INCHES[width]
    wide = NARROW if a_row == 2 or width == "column" else across - LEFT - 0.15
    axes, top = [], total - 0.06 - title_inches - HEAD
    for row, deep in enumerate(tall):
        top -= ABOVE
        for column, high in enumerate(heights[row * a_row : (row + 1) * a_row]):
            left = LEFT + 3.5 * column
            axes.append(style.add_axes(figure, left, top - high, left + wide, top))
        top -= deep + BELOW
    if title:
        figure.text(0.08 / across, 1 - 0.06 / total, title, va="top", gid="title")
    heading = 1 - (0.06 + title_inches + 0.04) / total
    figure.text(
        0.08 / across,
        heading,
        "Mean reverse KL (nats) by category and position",
        va="top",
        gid="heading",
    )
    figure.text(
        0.08 / across,
        0.06 / total,
        note,
        fontsize=style.SMALL,
        va="bottom",
        linespacing=1.2,
        gid="note",
    )
    return figure, axes
