"""The paper's tables of token statistics, behaviour and the prefix curve, as specifications.

Measured and published rows have one shape, so each specification makes the rows of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.runs.vocabulary import (
    ALL,
    BASE,
    CARRY_FORWARD,
    FRESH,
    FROZEN,
    OPEN,
    OWN_PREFIX,
    REVERSE,
    STUDENT,
    STUDENT_PREFIX,
    TEACHER,
    change,
)
from decaylab.tables.model import Column, Number, Row
from decaylab.tables.source import (
    Source,
    bin_at,
    columns,
    ordered,
    percent,
    positions,
    spoken,
)

MODEL, VIEW, KIND, POSITION, SET, RULE = columns("token-labels")
WRITER, ROLLOUTS_COUNTED, PREFIX = columns("curve-labels")
RANK, TOKEN, TOKEN_KIND = columns("ranking")
VIEWS = {FRESH: "its own", FROZEN: "of base"}
HIGHEST = 20  # tokens of the table of high-KL tokens


# The prefix curve

# condition of a prefix curve -> who writes the answer
WRITERS = {
    TEACHER: "teacher alone",
    STUDENT: "student alone",
    STUDENT_PREFIX: "teacher after the student",
    OWN_PREFIX: "teacher after itself",
    REVERSE: "student after the teacher",
}
COUNTED = {
    ALL: "all",
    OPEN: "unfinished",
    CARRY_FORWARD: "all, finished as they stand",
    "": "not stated",
}


def prefix_curve(source: Source) -> Iterator[Row]:
    """Fig. 1 left: accuracy after a prefix; each arm alone, then by length."""
    arms, views = [*WRITERS], [*COUNTED]
    kept = []
    for condition, view, tokens in source.places("accuracy", "condition", "view", "prefix_tokens"):
        if condition in WRITERS and (condition, view) != (OWN_PREFIX, CARRY_FORWARD):
            kept.append((arms.index(condition), views.index(view), tokens))
    for arm, counted, tokens in sorted(kept):
        condition, view = arms[arm], views[counted]
        at = {"condition": condition, "view": view, "prefix_tokens": tokens}
        yield {
            WRITER: WRITERS[condition],
            ROLLOUTS_COUNTED: COUNTED[view],
            PREFIX: Number(tokens),
            **source.line(columns("prefix-curve"), at),
        }


# Reverse KL by kind of token, by token, by position


def category_kl(source: Source) -> Iterator[Row]:
    """Category table: mean reverse KL by kind of token and range of positions, and the shares that
    each kind holds."""
    spans = source.places("reverse_kl", "position_low", "position_high")
    ranges = [_range(*span) for span in spans]
    for checkpoint, view, kind in source.places("reverse_kl", "checkpoint", "view", "category"):
        if kind:
            at = {"checkpoint": checkpoint, "view": view, "category": kind}
            labels: Row = {MODEL: spoken(checkpoint), VIEW: VIEWS[view], KIND: kind}
            yield {**labels, **source.line([*ranges, *columns("category-kl")], at)}


def _range(low: float, high: float) -> Column:
    name = positions((low, high))
    key = f"reverse_kl_{name.replace('-', '_to_').replace('+', '_on')}_nats"
    at = tuple(bin_at((low, high)).items())
    place = (1, 0, low, high)
    return Column(key, f"{name} (nats)", "value", place, of="reverse_kl", at=at, quiet=True)


HIGH_KL = "token_mean_reverse_kl"


def high_kl_tokens(source: Source) -> Iterator[Row]:
    """The tokens of the highest mean reverse KL of each model on its own rollouts."""
    for checkpoint in source.values(HIGH_KL, "checkpoint", view=FRESH):
        fresh = {"checkpoint": checkpoint, "view": FRESH}
        highest = source.largest(HIGH_KL, HIGHEST, fresh)
        for rank, row in enumerate(highest, 1):
            token, kind = row.token, row.category
            at = {**fresh, "token": token, "category": kind}
            yield {
                MODEL: spoken(checkpoint),
                RANK: Number(rank),
                TOKEN: token,
                TOKEN_KIND: kind,
                **source.line(columns("high-kl-tokens"), at),
            }


def position_kl(source: Source) -> Iterator[Row]:
    """Fig. 3 right: mean reverse KL by position before and after training, on own rollouts and on
    those of base."""
    models = source.values("reverse_kl", "checkpoint", condition=ALL, category="")
    for checkpoint in ordered(models):
        at: dict[str, Any] = {"checkpoint": checkpoint, "condition": ALL}
        bins = source.places("reverse_kl", "position_low", "position_high", at=at, category="")
        behind = source.places("cascade_ratio", "position_low", "position_high", at=at)
        for span in [*bins, *behind]:
            labels: Row = {MODEL: spoken(checkpoint), POSITION: positions(span)}
            yield {**labels, **source.line(columns("position-kl"), at | bin_at(span))}


# Sub-modes

TOP1 = "equals_teacher_top1"


def submode(source: Source) -> Iterator[Row]:
    """Behaviour table, right: the student's most likely token at the tokens of the highest KL, and
    its change from base."""
    for condition, view, checkpoint in source.places(TOP1, "condition", "view", "checkpoint"):
        at = {"condition": condition, "view": view, "checkpoint": checkpoint}
        labels: Row = {SET: condition, MODEL: spoken(checkpoint), VIEW: VIEWS[view]}
        two_modes = source.line(columns("two-modes"), at)
        yield {**labels, **two_modes, **source.line(columns("submode"), at)}
        if len(source.rows(change(TOP1), at)):
            labels[MODEL] = f"{spoken(checkpoint)}, change from base"
            yield {**labels, **source.line(columns("submode"), at, ending="_change")}


# Responses


def response_length(source: Source) -> Iterator[Row]:
    """Behaviour table, left: percentiles and mean of the response length; the published ones are
    not in tokens."""
    for median in ("response_tokens_p50", "response_length_p50"):
        for checkpoint in ordered(source.values(median, "checkpoint")):
            at = {"checkpoint": checkpoint}
            cells = source.line(columns("response-length"), at, median)
            yield {MODEL: spoken(checkpoint), **cells}


def boxed_repetition(source: Source) -> Iterator[Row]:
    """Boxed repetition table: several boxes, repetition, length, and accuracy under each answer
    rule."""
    rules = []
    for order, rule in enumerate(source.values("accuracy", "answer_rule")):
        key, name, at = f"accuracy_{rule}", f"correct, {rule}", (("answer_rule", rule),)
        rules.append(percent(key, name, 10, order, of="accuracy", at=at))
    for checkpoint in ordered(source.values("several_boxes_share", "checkpoint")):
        cells = source.line([*columns("boxed-repetition"), *rules], {"checkpoint": checkpoint})
        yield {MODEL: spoken(checkpoint), **cells}


# Choosing N

CURVES = {"survivors": "cumulative KL, survivors", "mass": "cumulative KL, all tokens"}


def choosing_n(source: Source) -> Iterator[Row]:
    """The paper's rule for N, by both ways to cumulate, and the half-decay length of the same
    pair."""
    what, half = "cumulative_kl_position", "half_decay_length"
    length, share, up_to = columns("choosing-n")
    for checkpoint, curve in source.places(what, "checkpoint", "condition"):
        at = {"checkpoint": checkpoint, "condition": curve}
        labels: Row = {RULE: CURVES[curve], MODEL: spoken(checkpoint)}
        yield {**labels, **source.line([length, share, up_to, *columns("counts")], at, what)}
    if len(source.rows(half, condition=STUDENT_PREFIX)):
        prefixes = source.frame.loc[source.frame["condition"] == STUDENT_PREFIX, "prefix_tokens"]
        longest = float(prefixes.max())
        yield {
            RULE: "half-decay of the teacher's advantage",
            MODEL: spoken(BASE),
            length: source.number(half, longest=longest, condition=STUDENT_PREFIX),
            share: Number(50.0),
            up_to: Number(longest),
            **source.line(columns("counts"), {"condition": STUDENT_PREFIX}, half),
        }
