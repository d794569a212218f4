"""The tokens of the highest mean reverse KL, with how often they occur and what part of the KL they
hold.

    a   by the base student's mean, checkpoints on the same tokens
    b   the published list where it is given, on its own axis: another pair, another vocabulary

Checkpoints are shown on the rollouts of the base student (view ``frozen``), where the text is the
same for all. Drawing reads rows of the measurements table and computes no statistics.
"""

from __future__ import annotations

import pandas as pd

from decaylab.printing import percent, rounded
from decaylab.runs.vocabulary import FROZEN, select

from . import next_byte, style, words
from .category_map import shown
from .colours import looks
from .groups import (
    Panel,
    Series,
    counts,
    published_sentence,
    published_series,
    series_of,
    sheet_of,
)
from .page import Sheet, drawing
from .running_text import printable as printable

TITLE = "Highest-KL tokens"
MEAN, PART = "token_mean_reverse_kl", "token_kl_share"
MOST = 20  # tokens, as many as were published
COUNT, SHARE = "count", "KL (%)"
CAPTION = """The {count} listed tokens with the highest mean reverse KL of {first}, how often they
    occur and their share of its KL. {counts} per model. No intervals: a few problems may hold much
    of such a mean."""
DETAILS = """{tokens} {whose} {theirs} {counts}. No intervals: a few problems may hold much of such
    a mean; the winsorised means in the table have them. {floor}"""
SENTENCE = """({letter}) Of the tokens that are listed, the {count} with the highest mean reverse KL
    of {first}; beside them how often they occur and their share of its KL; \u2423 space, \u21b5 end
    of a line."""
THEIRS = "(b) {published_rows} Shares of the KL were not published."


@next_byte.named
@style.context()
def sheet(
    measurements: pd.DataFrame, *, published: pd.DataFrame | None = None, title: str = ""
) -> Sheet:
    """The figure's panels.

    Args:
        measurements: rows of `decaylab.analyses.category_kl.measure`.
        published: rows of `decaylab.paper.publication.high_kl_tokens`, in a grey panel of their
            own.
        title: a line above the panels, such as the names of the two models.

    Raises:
        ValueError: the rows hold no mean reverse KL by token.
    """
    return sheet_of(_panels(shown(measurements), published), title)


draw = drawing(sheet)


@next_byte.named
def caption(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """What is shown and counts, in at most 60 words."""
    rows = shown(measurements)
    panel, measured = _panels(rows, None)[0], select(rows, what=MEAN)
    return words.filled(
        CAPTION,
        count=f"{len(panel.groups)}",
        first=words.named(panel.series[0].name),
        counts=counts(measured, ("problems", "rollouts")).capitalize(),
    )


@next_byte.named
def details(measurements: pd.DataFrame, published: pd.DataFrame | None = None) -> str:
    """Which tokens these are, on whose rollouts, counts, and how the intervals were made."""
    rows = shown(measurements)
    measured = select(rows, what=MEAN)
    whose = ""
    if measured.checkpoint.nunique() > 1:
        frozen = set(measured["view"]) == {FROZEN}
        rollouts = (
            "the same rollouts, those of the base student" if frozen else "their own rollouts"
        )
        whose = f"All on {rollouts}."
    theirs = published_sentence(published)
    return words.filled(
        DETAILS,
        measured,
        tokens=sentence(_panels(rows, None)[0]),
        whose=whose,
        theirs=words.of_published(THEIRS, published, published_rows=theirs),
        counts=counts(measured, ("problems", "rollouts")),
    )


def _panels(rows: pd.DataFrame, published: pd.DataFrame | None) -> list[Panel]:
    panel = tokens_panel(rows, "a", MOST)
    if not panel.groups:
        raise ValueError("measurements hold no token_mean_reverse_kl; pass those of category-kl")
    if published is None:
        return [panel]
    theirs = select(published, what=MEAN)
    series = published_series(theirs.assign(group=theirs.token))
    return [
        panel,
        _panel(
            "b",
            "Published tokens",
            series,
            theirs.token[:MOST].tolist(),
            published,
        ),
    ]


# What the figure of categories has of it too


def tokens_panel(rows: pd.DataFrame, gid: str, most: int) -> Panel:
    """Tokens by the mean of the first model, highest first, at most ``most`` of them; no groups
    where none was measured."""
    means = select(rows, what=MEAN)
    series = series_of(means.assign(group=means.token), looks(rows))
    tokens: list[str] = []
    for first in series[:1]:
        ordered = first.rows.sort_values("value", ascending=False, kind="stable")
        tokens = ordered.index[:most].tolist()
    listed = [model for model in series if model.rows.index.isin(tokens).any()]
    return _panel(gid, TITLE, listed, tokens, rows)


def _panel(
    gid: str, title: str, series: list[Series], tokens: list[str], rows: pd.DataFrame
) -> Panel:
    """With number and share of the KL of each token, of the first model; no share was
    published."""
    columns = {}
    for first in series[:1]:
        columns[COUNT] = [f"{count:,}" for count in first.rows.tokens[tokens]]
        parts = select(rows, what=PART, checkpoint=first.name).set_index("token").value
        if not first.look.hollow:
            columns[SHARE] = [rounded(percent(part), 1) for part in parts.reindex(tokens)]
    groups = {token: printable(token) for token in tokens}
    axis = "mean reverse KL (nats)"
    return Panel(gid, title, axis, groups, series, 1.0, columns=columns)


def sentence(panel: Panel) -> str:
    """What a caption says of the panel."""
    first = words.named(panel.series[0].name)
    return SENTENCE.format(letter=panel.gid, count=len(panel.groups), first=first)
