"""Several boxes and repetition over checkpoints: is a collapse one of content, or of stopping and
the answer rule?

Where the checkpoints are steps of training runs (``step-000050``, ``full-seed-0/step-000050``),
against the training step:

    a, b, c, d   share of responses with several boxes, boxes per response, repeated 3-grams,
    natural stops e            accuracy under the last box, the first box and anywhere in the
    response f, g, h, i   the published collapse where it is given: several boxes, boxes, repetitive
    responses, accuracy

Otherwise as bars by model: a shares, b boxes, c accuracy; d, e, f published. Drawing reads rows of
the measurements table and computes no statistics.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from . import step_curves, style
from .colours import looks
from .groups import (
    Panel,
    Series,
    counts,
    draw_panels,
    intervals,
    published_sentence,
    published_series,
    series_of,
)

SEVERAL, BOXES, REPETITION, STOPS, ACCURACY = (
    "several_boxes_share",
    "boxes_mean",
    "repetition_3gram",
    "natural_stop_share",
    "accuracy",
)
REPETITIVE = "repetitive_share"  # of the published rows
RULES, PUBLISHED_RULES = ("last_boxed", "first_boxed", "anywhere"), ("official", "relaxed")
SHARES = {SEVERAL: "several\nboxes", REPETITION: "repeated\n3-grams", STOPS: "natural\nstops"}
PUBLISHED_SHARES = {SEVERAL: "several\nboxes", REPETITIVE: "repetitive\nresponses"}
CURVES = {
    SEVERAL: "several boxes (%)",
    BOXES: "boxes per response",
    REPETITION: "repeated 3-grams (%)",
    STOPS: "natural stops (%)",
    ACCURACY: "accuracy (%)",
}
PUBLISHED_CURVES = {
    SEVERAL: "several boxes (%)",
    BOXES: "boxes per response",
    REPETITIVE: "repetitive (%)",
    ACCURACY: "accuracy (%)",
}
STEP = re.compile(r"(.*?)/?(?:step|checkpoint)-(\d+)")
ONE_RUN = "trained student"  # where the names of the checkpoints hold no run


def draw(
    measurements: pd.DataFrame,
    *,
    published: pd.DataFrame | None = None,
    width: style.Width = "page",
    title: str = "",
) -> Figure:
    """The figure, at its printed size.

    Args:
        measurements: rows of `decaylab.analyses.behaviour.measure`.
        published: rows of `decaylab.paper.publication.boxed_repetition`, drawn grey and hollow in
        panels of their own.
        width: ``column`` (3.4 in) or ``page`` (7 in).
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no share of responses with several boxes.
    """
    rows = _rows(measurements)
    runs = runs_of(rows.checkpoint)
    if not runs:
        panels = _panels(rows) + ([] if published is None else _published_panels(published))
        return draw_panels(panels, rows, width, title)
    measured = step_curves.Block(rows, runs, dict(zip(CURVES, "abcde", strict=True)), CURVES, RULES)
    blocks = [measured] if published is None else [measured, _published_block(published)]
    return step_curves.draw(blocks, width, title)


def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """The figure's caption: what each panel shows, counts, and how the intervals were made."""
    rows = _rows(measurements)
    rules = ", ".join(rule for rule in RULES if (rows.condition == rule).any())
    over_steps = bool(runs_of(rows.checkpoint))
    text = [f"Rollouts that each model wrote itself ({counts(rows)})."]
    if over_steps:
        text.append(
            "Against the training step, the base student at 0; blue, dashed and shaded: the "
            "teacher with its interval, in e by "
            "the first of the rules."
        )
    text.append(
        "(a) Responses with more than one box. (b) Boxes per response, mean. (c) Of the 3-grams "
        "of a response those that came "
        "before in it, mean over rollouts. (d) Responses that ended by themselves."
        if over_steps
        else "(a) Responses with more than one box; of the 3-grams of a response those that came "
        "before in it, mean over "
        "rollouts; responses that ended by themselves. (b) Boxes per response, mean."
    )
    text.append(
        f"({'e' if over_steps else 'c'}) Accuracy, mean over rollouts, by the answer rules {rules}."
    )
    if published is not None:
        text.append(
            f"({'f to i' if over_steps else 'd to f'}) {published_sentence(published)} One run of "
            "full rollout; what counts as "
            "a repetitive response is not stated and is not the measured share of 3-grams."
        )
    return " ".join([*text, intervals(rows)])


def runs_of(checkpoints: Iterable[str]) -> step_curves.Runs:
    """Of each training run its checkpoints by step; none unless every trained one is a step and
    some run has several."""
    names = [name for name in dict.fromkeys(checkpoints) if name not in ("base", "teacher")]
    found: dict[str, dict[float, str]] = {}
    for name in names:
        matched = STEP.fullmatch(name)
        if matched is None:
            return {}
        found.setdefault(matched[1] or ONE_RUN, {})[float(matched[2])] = name
    return found if any(len(steps) > 1 for steps in found.values()) else {}


def _rows(measurements: pd.DataFrame) -> pd.DataFrame:
    """The rows that are drawn."""
    chosen = measurements.what.isin(CURVES) & (
        (measurements.what != ACCURACY) | measurements.condition.isin(RULES)
    )
    rows = measurements[chosen & (measurements["view"] == "fresh")]
    if not (rows.what == SEVERAL).any():
        raise ValueError("measurements hold no several_boxes_share; pass those of behaviour")
    return rows


def _published_block(published: pd.DataFrame) -> step_curves.Block:
    letters = dict(zip(PUBLISHED_CURVES, "fghi", strict=True))
    runs = runs_of(published.checkpoint)
    return step_curves.Block(
        published, runs, letters, PUBLISHED_CURVES, PUBLISHED_RULES, published=True
    )


# Bars by model


def _panels(rows: pd.DataFrame) -> list[Panel]:
    known = looks(rows)
    by_what, by_rule = rows.assign(group=rows.what), rows[rows.what == ACCURACY]
    rules = [rule for rule in RULES if (by_rule.condition == rule).any()]
    panels = [
        _shares(
            "a",
            "Boxes, repetition, stops",
            SHARES,
            series_of(by_what[by_what.what.isin(SHARES)], known),
        ),
        _boxes("b", "Boxes per response", series_of(by_what[by_what.what == BOXES], known)),
        _accuracy(
            "c",
            "Accuracy by answer rule",
            rules,
            series_of(by_rule.assign(group=by_rule.condition), known),
        ),
    ]
    return [panel for panel in panels if panel.series]


def _published_panels(published: pd.DataFrame) -> list[Panel]:
    by_what, by_rule = published.assign(group=published.what), published[published.what == ACCURACY]
    series = {
        "shares": published_series(by_what[by_what.what.isin(PUBLISHED_SHARES)]),
        "boxes": published_series(by_what[by_what.what == BOXES]),
        "rules": published_series(by_rule.assign(group=by_rule.condition)),
    }
    return [
        _shares("d", "Published, other pair", PUBLISHED_SHARES, series["shares"]),
        _accuracy("e", "Published accuracy", PUBLISHED_RULES, series["rules"]),
        _boxes("f", "Published boxes per response", series["boxes"]),
    ]


def _shares(gid: str, title: str, names: dict[str, str], series: list[Series]) -> Panel:
    return Panel(gid, title, "share (%)", names, series)


def _boxes(gid: str, title: str, series: list[Series]) -> Panel:
    return Panel(gid, title, "boxes", {BOXES: "mean"}, series, scale=1.0)


def _accuracy(gid: str, title: str, rules: Iterable[str], series: list[Series]) -> Panel:
    return Panel(
        gid, title, "accuracy (%)", {rule: rule.replace("_", "\n") for rule in rules}, series
    )
