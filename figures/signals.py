"""Where in a rollout the loss lies: the three signals by position (Fig. 3 left of arXiv 2605.27028)
and what follows.

    a, b, c    entropies of student and teacher, and reverse KL, in each bin d, e       share of the
    KL that lies before a position, and N, where the share is reached; two ways to sum f
    share of a rollout's KL that its highest tokens hold g, h       what the selectors cover at one
    budget of tokens, and where they look i          how far the selectors' choices overlap, of the
    base student

Every student on its own rollouts. Drawing reads rows of the measurements table and computes no
statistics.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import bins, cumulative_kl, style
from .bins import PUBLISHED_CAPTION, pick
from .colours import recoloured
from .cumulative_kl import VIEW
from .curves import PERCENT, Look

SIGNALS = {
    "student_entropy": "Student entropy",
    "teacher_entropy": "Teacher entropy",
    "reverse_kl": "Reverse KL",
}
CURVES = {
    "d": ("survivors", "Cumulative KL, survivors"),
    "e": ("mass", "Cumulative KL, all tokens"),
}
TEXTS = {
    "student-entropy": "student H",
    "teacher-entropy": "teacher H",
    "reverse-kl": "KL",
    "all-three": "all three",
}


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.signals.measure`.
        published: rows of `decaylab.paper.publication.three_signals`, drawn grey, dashed and hollow
        in panels a to c.
        width: ``column`` (3.4 in, panels below each other) or ``page`` (7 in).

    Raises:
        ValueError: the rows hold no reverse KL by position.
    """
    if not (measurements.what == bins.robust("reverse_kl")).any():
        raise ValueError("measurements hold no winsorised_reverse_kl; measure the signals first")
    found = recoloured(bins.looks(measurements), measurements)
    with style.context():
        known = [*found.values(), *bins.published_looks(published)]
        head = 0.3 + bins.key_height(known, width)
        figure, axes = (_page if width == "page" else _column)(head, len(found))
        bins.draw_signals(
            {name: axes[name] for name in SIGNALS}, measurements, VIEW, published, found
        )
        for panel in CURVES:
            _cumulative(axes, measurements, found, panel)
        _concentration(axes["f"], measurements, found)
        _selectors(axes["g"], measurements, found, "g", "selector_kl_share")
        _selectors(axes["h"], measurements, found, "h", "selector_mean_position")
        _overlap(axes["i"], measurements, _first(measurements))
        bins.key(figure, known)
        bins.note(figure, _note(measurements), published)
    return figure


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, estimands, intervals, counts, horizon and noise
    floor."""
    signals = measurements[measurements.what.isin([*map(bins.robust, SIGNALS)])]
    level = f"{signals.level.iloc[0] * PERCENT:g} %"
    methods = sorted({*measurements.method} - {""})
    text = [
        "Every student on its own rollouts.",
        "(a\u2013c) Student entropy, teacher entropy and reverse KL of the student from the "
        "teacher by response position "
        f"({signals.estimand.iloc[0]}), in nats.",
        "Dots: plain means over tokens, in which a few problems may weigh so much that no "
        "interval of them holds.",
        "(d, e) Share of the reverse KL that lies before a position; below, N with its interval. "
        "Lines join "
        "the bin ends, N is read position by position.",
        *(_cumulative_text(measurements, panel) for panel in CURVES),
        "(f) Share of a rollout's KL in its highest "
        f"tokens{_notes(measurements, 'kl_concentration')}.",
        f"(g, h) What selectors of {_budget(measurements)} tokens cover of a rollout's KL, and "
        "the mean position they choose; "
        f"H is the entropy, \u00d7 the product{_notes(measurements, 'selector_kl_share')}.",
        "(i) Overlap of the choices of two selectors, shared / all chosen, on "
        f"{bins.named(_first(measurements))}; its "
        "intervals stand in the table.",
        "(f\u2013i) Means over rollouts.",
        f"Bars: pointwise {level} intervals ({'; '.join(methods)}); an arrowhead: the interval "
        "goes on beyond the frame.",
        f"Fresh: {bins.counts_text(measurements, VIEW)}.",
        bins.floor_text(measurements),
    ]
    return " ".join([*text, *([PUBLISHED_CAPTION] if published is not None else [])])


def _first(frame: pd.DataFrame) -> str:
    return next(iter(bins.looks(frame)))


def _notes(frame: pd.DataFrame, what: str) -> str:
    """What was left out, by student."""
    rows = frame[(frame.what == what) & (frame.note != "")].drop_duplicates("checkpoint")
    told = "; ".join(f"{row.checkpoint} {row.note}" for row in rows.itertuples())
    return f" ({told})" if told else ""


def _cumulative_text(frame: pd.DataFrame, panel: str) -> str:
    """How it is summed, and N of every student with its horizon."""
    text = cumulative_kl.length_text(frame, CURVES[panel][0])
    return f"({panel}) {text[0].upper()}{text[1:]}"


def _budget(frame: pd.DataFrame) -> str:
    """How many tokens selectors choose, from the name of the concentration at that budget."""
    names = [
        str(name)
        for name in frame[frame.what == "kl_concentration"].condition
        if str(name).endswith("tokens")
    ]
    return names[0].split("-")[1] if names else "a given number of"


# Layout


def _page(head: float, count: int) -> tuple[Figure, dict[str, Axes]]:
    """Three rows: the signals; cumulative KL and concentration; the selectors."""
    tall, strip, selectors, gap = 1.35, 0.12 * count + 0.06, 2.25, 0.85
    height = head + 1.25 + gap + tall + 0.06 + strip + gap + selectors + gap
    figure = style.new_figure("page", height)
    top = height - head
    axes = bins.signal_axes(figure, SIGNALS, top)
    top -= 1.25 + gap
    for panel, left in (("d", 0.55), ("e", 2.82)):
        both = cumulative_kl.with_strip(figure, (left, left + 1.8), top, tall, strip)
        axes |= dict(zip((panel, f"{panel}.N"), both, strict=True))
    axes["f"] = style.add_axes(figure, 5.35, top - tall - 0.06 - strip, 6.88, top)
    top -= tall + 0.06 + strip + gap
    for panel, left, right in (("g", 1.45, 2.75), ("h", 2.95, 4.2), ("i", 4.62, 6.88)):
        axes[panel] = style.add_axes(figure, left, top - selectors, right, top)
    axes["h"].tick_params(labelleft=False)
    return figure, axes


def _column(head: float, count: int) -> tuple[Figure, dict[str, Axes]]:
    """All panels below each other."""
    tall, strip, gap, signals = 1.35, 0.12 * count + 0.06, 0.8, bins.SIGNAL_STEP * len(SIGNALS)
    panels = {"f": (1.12, 0.9), "g": (1.45, 2.3), "h": (1.45, 2.3), "i": (0.55, 2.5)}
    height = (
        head
        + signals
        + 2 * (tall + 0.06 + strip + gap)
        + sum(high + gap for _, high in panels.values())
        + 0.2
    )
    figure = style.new_figure("column", height)
    axes = bins.signal_axes(figure, SIGNALS, height - head)
    top = height - head - signals
    for panel in CURVES:
        both = cumulative_kl.with_strip(figure, (0.55, 3.22), top, tall, strip)
        axes |= dict(zip((panel, f"{panel}.N"), both, strict=True))
        top -= tall + 0.06 + strip + gap
    for panel, (left, high) in panels.items():
        axes[panel] = style.add_axes(figure, left, top - high, 3.22, top)
        top -= high + gap
    return figure, axes


# The panels


def _cumulative(
    axes: dict[str, Axes], frame: pd.DataFrame, found: dict[str, Look], panel: str
) -> None:
    """The curve, with N in the strip below it."""
    condition, title = CURVES[panel]
    above, below = axes[panel], axes[f"{panel}.N"]
    cumulative_kl.place_axis(above, frame, [condition], name=False)
    cumulative_kl.share_axis(above)
    cumulative_kl.draw_shares(above, frame, found, condition, panel)
    cumulative_kl.draw_threshold(above, frame, condition, panel)
    above.set_title(f"{panel}  {title}")
    style.name_y_axis(above, "share of KL (%)")
    cumulative_kl.draw_lengths(below, frame, found, {condition: panel})
    below.set_ylabel("N", rotation=0, ha="right", va="center")


def _concentration(axes: Axes, frame: pd.DataFrame, found: dict[str, Look]) -> None:
    conditions = list(dict.fromkeys(frame[frame.what == "kl_concentration"].condition))
    _rows_of_dots(axes, frame, found, "f", "kl_concentration", conditions)
    texts = [str(name).replace("-percent", " %").replace("-", " ") for name in conditions]
    axes.set_yticks(range(len(conditions)), texts)
    axes.set_title("f  Concentration")
    axes.set_xlabel("share of a rollout's KL (%)")


def _selectors(
    axes: Axes, frame: pd.DataFrame, found: dict[str, Look], panel: str, what: str
) -> None:
    names = _selector_names(frame)
    _rows_of_dots(axes, frame, found, panel, what, names)
    axes.set_yticks(range(len(names)), [f"{_short(name)}  {i + 1}" for i, name in enumerate(names)])
    title, label = (
        ("KL covered", "share of KL (%)")
        if panel == "g"
        else ("Where they look", "mean position (tokens)")
    )
    axes.set_title(f"{panel}  {title}")
    axes.set_xlabel(label)


def _rows_of_dots(
    axes: Axes,
    frame: pd.DataFrame,
    found: dict[str, Look],
    panel: str,
    what: str,
    conditions: list[str],
) -> None:
    """A row for each condition, the students below each other in it; from 0 to all, or to the
    longest interval."""
    rows = frame[frame.what == what]
    scale = PERCENT if (rows.unit == "fraction").all() else 1.0
    top = 1.0 if scale == PERCENT else float(np.nanmax([1.0, *rows.value, *rows.high])) * 1.04
    axes.set_xlim(0, top * scale)
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= top * scale])
    axes.set_ylim(max(1, len(conditions)) - 0.5, -0.5)
    twice = 2 * scale * rows.noise_floor.max()
    if twice > 0:
        axes.axvspan(0, twice, color=bins.FLOOR, linewidth=0, zorder=0, gid=f"{panel}.floor")
    for i, (name, look) in enumerate(found.items()):
        own = pd.concat(
            [pick(frame, what, VIEW, name, condition) for condition in conditions] or [rows.head(0)]
        )
        aside = (i - (len(found) - 1) / 2) * 0.7 / len(found)
        heights = [conditions.index(condition) + aside for condition in own.condition]
        bins.draw_dots(axes, own, heights, look, f"{panel}.{name}", scale)


def _overlap(axes: Axes, frame: pd.DataFrame, checkpoint: str) -> None:
    """Each pair of selectors, in per cent, with its number; the numbers of the rows are those of
    the panels beside."""
    names = _selector_names(frame)
    table = np.full((len(names), len(names)), np.nan)
    rows = frame[(frame.what == "selector_overlap") & (frame.checkpoint == checkpoint)]
    for condition, value in zip(rows.condition, rows.value, strict=True):
        first, second = (names.index(name) for name in condition.split("|"))
        table[max(first, second), min(first, second)] = value * PERCENT
    axes.imshow(table, cmap="Blues", vmin=0, vmax=PERCENT * 1.2, aspect="auto", gid="i.overlap")
    for (row, column), value in np.ndenumerate(table):
        if not np.isnan(value):
            white = "white" if value > 65 else style.INK
            axes.text(
                column,
                row,
                f"{value:.0f}",
                ha="center",
                va="center",
                fontsize=style.SMALL,
                color=white,
            )
    numbers = [str(i + 1) for i in range(len(names))]
    axes.set_xticks(range(len(names)), numbers)
    axes.set_yticks(range(len(names)), numbers)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(f"i  Overlap (%), {bins.named(checkpoint)}")
    axes.set_xlabel("selector, numbered as in g")


def _selector_names(frame: pd.DataFrame) -> list[str]:
    return [str(name) for name in dict.fromkeys(frame[frame.what == "selector_kl_share"].condition)]


def _short(selector: str) -> str:
    return " \u00d7 ".join(
        TEXTS.get(part, part) for part in selector.removeprefix("top-").split("-x-")
    )


def _note(frame: pd.DataFrame) -> str:
    level, (name, counts) = frame.level.iloc[0], next(iter(bins.counts(frame, VIEW).items()))
    return (
        f"Bars: {level * PERCENT:g} % intervals, problem-clustered; {counts} of "
        f"{bins.named(name)}. Selectors choose "
        f"{_budget(frame)} tokens by the highest value of what they are named after (H: entropy)."
    )
