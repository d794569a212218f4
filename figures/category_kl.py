"""Category KL: in what kind of text student and teacher disagree, where in the response, and at which tokens most.

    maps      mean reverse KL by category and position, of the base student and of each checkpoint; published, if given
    shares    what part of the tokens and of the KL each category holds
    tokens    the tokens of the highest mean reverse KL of the base student, with their number and share of the KL

Checkpoints are shown on the rollouts of the base student (view ``frozen``), where the text is the same for all. Drawing
reads rows of the measurements table and computes no statistics. What the rows lack is not drawn.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable
from dataclasses import replace
from unicodedata import combining

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from decaylab.paper import NO_INTERVAL

from . import style
from .bins import floor_text
from .curves import PERCENT, Look
from .groups import Panel, Series, counts, draw_panel, intervals, looks, new_page, series_of

LETTERS = string.ascii_letters
TOKENS_TITLE = "Highest-KL tokens"
TOKENS = 15
LONGEST_TOKEN = 12  # characters
LONGEST_NAME = 13  # characters of a checkpoint's name above a map
CELL, UPRIGHT_CELL = 12.0, 20.0  # points up; the second where numbers must stand upright
NUMBER = 17.0  # points across that a number takes
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
        published: rows of `decaylab.paper.kl_by_category`, a map in grey, on a scale of its own.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in, two beside each other).
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no reverse KL by category and position.
    """
    rows = shown(measurements)
    maps = maps_of(rows, published)
    if not maps or maps[0][0] == "published":
        raise ValueError("measurements hold no reverse_kl by category; pass those of category-kl")
    panels = panels_of(rows, first=len(maps))
    most = _most(cells for name, cells in maps if name != "published")
    with style.context():
        heights = [_map_height(cells) for _, cells in maps] + [panel.points for panel in panels]
        figure, axes = new_page(heights, panels, rows, width, title)
        for letter, one, (name, cells) in zip(LETTERS, axes, maps, strict=False):
            _widen(one, 0.36)
            _draw_map(
                one, cells, name, most if name != "published" else _most([cells]), f"{letter}  {_title(name, cells)}"
            )
        for one, panel in zip(axes[len(maps) :], panels, strict=True):
            if panel.title == TOKENS_TITLE:
                _widen(one, -0.44)
                _write_tokens(one, panel, rows)
            draw_panel(one, panel)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, of which tokens, counts, and how the intervals were made."""
    rows = shown(measurements)
    maps = maps_of(rows, published)
    estimands = {what: "; ".join(dict.fromkeys(rows[rows.what == what].estimand)) for what in set(rows.what)}
    whole = rows[rows.what == "mean_reverse_kl"]
    tokens = whole.groupby("checkpoint").tokens.sum()
    told = f"{tokens.min():,}" if tokens.nunique() == 1 else f"{tokens.min():,} to {tokens.max():,}"
    lettered = LETTERS[0] if len(maps) == 1 else f"a to {LETTERS[len(maps) - 1]}"
    text = [
        f"({lettered}) Mean reverse KL in nats ({estimands.get('reverse_kl', '')}) of the tokens of "
        "each category, by position in the response; a bin does not hold its upper edge. "
        "\u2013: no token, or undefined. "
        "Italics: the interval is wider than the number, or there is none. Hatched: under twice the noise floor."
    ]
    if len(looks(rows.checkpoint)) > 1:
        view = "the base student's rollouts, the same tokens for all" if set(rows["view"]) == {"frozen"} else "rollouts"
        text.append(f"Base student and checkpoints on {view}.")
    for panel in panels_of(rows, first=len(maps)):
        if panel.title == TOKENS_TITLE:
            text.append(
                f"({panel.gid}) Of the tokens that are listed, the {len(panel.groups)} with the highest mean reverse KL of "
                f"{panel.series[0].look.name}; beside them how often they occur and their share of its KL; "
                "\u2423 space, \u21b5 end of a line."
            )
        else:
            text.append(
                f"({panel.gid}) Shares of each category: black of all tokens, in colours of the KL of each model."
            )
    if published is not None:
        letter = LETTERS[[name for name, _ in maps].index("published")]
        text.append(
            f"({letter}, grey) Published, {published.run.iloc[0]}, another pair and problem set, without intervals, on a "
            "colour scale of its own."
        )
    text.append(f"{counts(rows, ('problems', 'rollouts'))}, {told} tokens.")
    return " ".join([*text, intervals(rows), floor_text(rows)])


def shown(measurements: pd.DataFrame) -> pd.DataFrame:
    """Each model on the frozen rollouts, where it was measured on them, else on its own."""
    frozen = set(measurements[measurements["view"] == "frozen"].checkpoint)
    wanted = np.where(measurements.checkpoint.isin(frozen), "frozen", "fresh")
    return measurements[measurements["view"] == wanted]


def maps_of(rows: pd.DataFrame, published: pd.DataFrame | None) -> list[tuple[str, pd.DataFrame]]:
    """Rows of each map with its name: base, checkpoints, published."""
    binned = rows[rows.what == "reverse_kl"]
    found = [(name, binned[binned.checkpoint == name]) for name in looks(binned.checkpoint)]
    if published is not None:
        found.append(("published", published[published.what == "reverse_kl"]))
    return found


def panels_of(rows: pd.DataFrame, first: int) -> list[Panel]:
    """The panels of bars; their letters begin after those of the maps."""
    known = looks(rows.checkpoint)
    panels = [panel for panel in (_shares(rows, known), _tokens(rows, known)) if panel.groups]
    return [replace(panel, gid=LETTERS[first + i]) for i, panel in enumerate(panels)]


def _shares(rows: pd.DataFrame, known: dict[str, Look]) -> Panel:
    keyed = rows.assign(group=rows.category)
    tokens = series_of(keyed[keyed.what == "token_share"], known)[:1]  # of the same text the same for all
    series = [Series("tokens", TOKEN_SHARE, one.rows) for one in tokens]
    series += series_of(keyed[keyed.what == "kl_share"], known)
    groups = {name: name.replace("_", " ") for name in dict.fromkeys(rows[rows.what == "kl_share"].category)}
    numbers = ".1f" if len(known) == 1 else ""
    return Panel("", "Share of the tokens and of the KL", "share (%)", groups, series, numbers=numbers)


def _tokens(rows: pd.DataFrame, known: dict[str, Look]) -> Panel:
    keyed = rows[rows.what == "token_mean_reverse_kl"]
    series = series_of(keyed.assign(group=keyed.token), known)
    by_mean = [
        token for one in series[:1] for token in one.rows.sort_values("value", ascending=False, kind="stable").index
    ]
    groups = {token: printable(token) for token in by_mean[:TOKENS]}
    series = [one for one in series if one.rows.index.isin(list(groups)).any()]
    return Panel("", TOKENS_TITLE, "mean reverse KL (nats)", groups, series, scale=1.0, numbers="")


def printable(token: str) -> str:
    """A token as the font can show it: other characters as their codes; white space as signs; cut where it is long."""
    font = get_font(findfont("DejaVu Sans"))
    signs = token.replace(" ", "\u2423").replace("\n", "\u21b5").replace("\t", "\u21e5")
    shown = [
        one if one.isprintable() and not combining(one) and font.get_char_index(ord(one)) else _code(one)
        for one in signs
    ]
    kept = 0
    while kept < len(shown) and len("".join(shown[: kept + 1])) <= LONGEST_TOKEN:
        kept += 1
    return "".join(shown[:kept]) + ("\u2026" if kept < len(shown) else "")


def _code(character: str) -> str:
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):x}"


# The maps


def _title(name: str, cells: pd.DataFrame) -> str:
    if name == "published":
        return "mean KL (nats), published"
    known = looks([name])[name].name
    own = ", own" if name != "base" and set(cells["view"]) == {"fresh"} else ""
    short = known if len(known) <= LONGEST_NAME else f"\u2026{known[1 - LONGEST_NAME :]}"
    return f"mean KL (nats), {short}{own}"


def _edges(cells: pd.DataFrame) -> list[float]:
    return sorted({*cells.position_low, *cells.position_high})


def _map_height(cells: pd.DataFrame) -> float:
    return cells.category.nunique() * (UPRIGHT_CELL if _upright(cells) else CELL)


def _upright(cells: pd.DataFrame) -> bool:
    return (len(_edges(cells)) - 1) * NUMBER > 2.4 * style.POINTS_PER_INCH


def _most(maps: Iterable[pd.DataFrame]) -> float:
    """The end of the colour scale."""
    values = np.concatenate([cells.value.to_numpy(dtype=float) for cells in maps])
    return float(values[np.isfinite(values)].max(initial=0.0)) or 1.0


def _draw_map(axes: Axes, cells: pd.DataFrame, name: str, most: float, title: str) -> None:
    """A colour and a number for each cell."""
    edges, categories = _edges(cells), list(dict.fromkeys(cells.category))
    table = cells.pivot(index="category", columns="position_low", values="value").reindex(categories)
    colours = LinearSegmentedColormap.from_list("kl", ["white", "#5a5a5a" if name == "published" else style.WINE])
    shape = (np.arange(len(edges)), np.arange(len(categories) + 1))
    axes.pcolormesh(*shape, table.to_numpy(dtype=float), cmap=colours, vmin=0.0, vmax=most, gid=f"map.{name}")
    axes.set_ylim(len(categories), 0)
    for _, row in cells.iterrows():
        place = (edges.index(row.position_low), categories.index(row.category))
        _write_cell(axes, row, place, most, upright=_upright(cells))
    axes.set_yticks(np.arange(len(categories)) + 0.5, [one.replace("_", " ") for one in categories])
    across = style.size_points(axes)[0] / (len(edges) - 1)
    labelled = set(style.far_apart([i * across for i in range(len(edges))], 15.0))
    names = ["\u221e" if math.isinf(edge) else f"{edge:g}" for edge in edges]
    axes.set_xticks(range(len(edges)), [one if i in labelled else "" for i, one in enumerate(names)])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("position in the response (tokens)")
    axes.set_title(title, pad=4)


def _write_cell(axes: Axes, row: pd.Series, place: tuple[int, int], most: float, *, upright: bool) -> None:
    """The number: white on dark, in italics where its interval is wider than itself, hatched under the noise floor."""
    value, low, high = row.value, row.low, row.high
    dark = math.isfinite(value) and value > 0.55 * most
    measured = row.method != NO_INTERVAL
    unsure = measured and math.isfinite(value) and not high - low <= value
    if row.under_floor:
        axes.fill_between([place[0], place[0] + 1], place[1], place[1] + 1, facecolor="none", edgecolor="#999999",
                          hatch="/////", linewidth=0, gid="under-floor")  # fmt: skip
    axes.text(
        place[0] + 0.5, place[1] + 0.5, number_text(value), ha="center", va="center", fontsize=style.SMALL,
        color="white" if dark else style.INK, style="italic" if unsure else "normal", rotation=90 if upright else 0,
    )  # fmt: skip


def number_text(value: float) -> str:
    """Nats in four characters: two decimals, below 0.01 a power of ten."""
    if not math.isfinite(value):
        return "\u2013" if math.isnan(value) else "\u221e"
    if value >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.01 or value == 0 else f"{value:.0e}".replace("e-0", "e-")


def _widen(axes: Axes, inches: float) -> None:
    """To the right."""
    place = axes.get_position()
    across = style.root(axes).get_size_inches()[0]
    axes.set_position((place.x0, place.y0, place.width + inches / across, place.height))


def _write_tokens(axes: Axes, panel: Panel, rows: pd.DataFrame) -> None:
    """Number and share of the KL of each token, right of its bars."""
    first = panel.series[0].rows
    parts = rows[(rows.what == "token_kl_share") & (rows.checkpoint == panel.series[0].name)].set_index("token").value
    columns = [("count", 30), ("KL (%)", 62)]
    texts = [(axes_y, token) for axes_y, token in zip((np.arange(len(panel.groups)) + 0.5) * panel.step, panel.groups)]
    lines = [(0.0, [name for name, _ in columns], 8.0)]
    lines += [
        (y, [f"{first.tokens[token]:,}", f"{parts.get(token, math.nan) * PERCENT:.1f}"], -0.3) for y, token in texts
    ]
    for y, written, up in lines:
        for text, (_, right) in zip(written, columns, strict=True):
            axes.annotate(
                text.replace("nan", "\u2013"), (1, y), (right, up), axes.get_yaxis_transform(), "offset points",
                ha="right", va="center", fontsize=style.SMALL, annotation_clip=False,
            )  # fmt: skip
