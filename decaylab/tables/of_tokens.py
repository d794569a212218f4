"""The paper's tables of token statistics, behaviour and the prefix curve: rows of measurements in,
rows of a table out.

Measured and published rows have one shape, so each function makes the rows of both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from decaylab.tables.diagnostic_cells import positions
from decaylab.tables.source import Row, Source, column, ordered, percent, spoken, words
from decaylab.tables.text import Column, Number

MODEL = words("model", "model", 1)
VIEW = words("rollouts_of", "rollouts", 2)
TOKENS = column("tokens", "tokens", "whole", 80)
PROBLEMS = column("problems", "problems", "whole", 81)
ROLLOUTS = column("rollouts", "rollouts", "whole", 82)
VIEWS = {"fresh": "its own", "frozen": "of base"}
WHOLE = (0.0, math.inf)
HIGHEST = 20  # tokens of the table of high-KL tokens

# condition of a prefix curve -> who writes the answer
WRITERS = {
    "teacher": "teacher alone",
    "student": "student alone",
    "student-prefix": "teacher after the student",
    "own-prefix": "teacher after itself",
    "reverse": "student after the teacher",
}
COUNTED = {
    "all": "all",
    "open": "still open",
    "carry-forward": "all, finished as they stand",
    "": "not stated",
}


def prefix_curve(source: Source) -> Iterator[Row]:
    """Fig. 1 left: accuracy after a prefix; each arm alone, then by length."""
    found = source.places("accuracy", "condition", "view", "prefix_tokens")
    arms, views = [*WRITERS], [*COUNTED]
    kept = [
        place
        for place in found
        if place[0] in WRITERS and place[:2] != ("own-prefix", "carry-forward")
    ]
    for condition, view, tokens in sorted(
        kept, key=lambda at: (arms.index(at[0]), views.index(at[1]), at[2])
    ):
        at = {"condition": condition, "view": view, "prefix_tokens": tokens}
        yield {
            words("writer", "who answers", 0): WRITERS[condition],
            words("counted", "rollouts counted", 1): COUNTED[view],
            column("prefix_tokens", "prefix (tokens)", "whole", 0): Number(tokens),
            percent("still_open", "still open", 1): source.number("open_share", **at),
            percent("accuracy", "accuracy", 2): source.number("accuracy", **at),
            percent("difference", "less without prefix", 3, signed=True): source.number(
                "accuracy_difference", **at
            ),
            column("p_holm", "p (Holm)", "p", 4): source.p("accuracy_difference", **at),
            percent("retained", "advantage kept", 5): source.number("retained_advantage", **at),
            PROBLEMS: source.field("problems", "accuracy", **at),
            ROLLOUTS: source.field("rollouts", "accuracy", **at),
        }


def category_kl(source: Source) -> Iterator[Row]:
    """Category table: mean reverse KL by kind of token and range of positions, and what each kind
    holds."""
    spans = source.places("reverse_kl", "position_low", "position_high")
    for checkpoint, view, kind in source.places("reverse_kl", "checkpoint", "view", "category"):
        if not kind:
            continue
        at: dict[str, Any] = {"checkpoint": checkpoint, "view": view, "category": kind}
        ranges = {
            _range(low, high): {"position_low": low, "position_high": high} for low, high in spans
        }
        yield {
            MODEL: spoken(checkpoint),
            VIEW: VIEWS[view],
            words("category", "kind of token", 3): kind,
            **{
                name: source.number("reverse_kl", quiet=True, **at, **span)
                for name, span in ranges.items()
            },
            column("mean_reverse_kl_nats", "all positions (nats)", "digits", 40): source.number(
                "mean_reverse_kl", quiet=True, **at
            ),
            column("winsorised_nats", "winsorised (nats)", "digits", 40.5): source.number(
                "winsorised_mean_reverse_kl", **at
            ),
            percent("token_share", "of tokens", 41): source.number("token_share", **at),
            percent("kl_share", "of the KL", 42): source.number("kl_share", **at),
            TOKENS: source.field("tokens", "mean_reverse_kl", **at),
        }


def _range(low: float, high: float) -> Column:
    name = positions((low, high))
    key = name.replace("-", "_to_").replace("+", "_on")
    return column(f"reverse_kl_{key}_nats", f"{name} (nats)", "digits", 0, low, high)


def high_kl_tokens(source: Source) -> Iterator[Row]:
    """The tokens of the highest mean reverse KL of each model on its own rollouts."""
    what = "token_mean_reverse_kl"
    for checkpoint in source.values(what, "checkpoint", view="fresh"):
        rows = [
            row
            for row in source.rows(what, checkpoint=checkpoint, view="fresh")
            if not math.isnan(row["value"])
        ]
        rows.sort(key=lambda row: -row["value"])
        for rank, row in enumerate(rows[:HIGHEST], 1):
            token, kind = row["token"], row["category"]
            at = {"checkpoint": checkpoint, "view": "fresh", "token": token, "category": kind}
            yield {
                MODEL: spoken(checkpoint),
                column("rank", "rank", "whole", -3): Number(rank),
                Column("token", "token", "token", (1, -2)): token,
                Column("category", "kind", place=(1, -1)): kind,
                column("count", "count", "whole", 0): source.field("tokens", what, **at),
                column("mean_reverse_kl_nats", "mean KL (nats)", "digits", 1): source.number(
                    what, quiet=True, **at
                ),
                column("winsorised_nats", "winsorised (nats)", "digits", 1.5): source.number(
                    f"winsorised_{what}", **at
                ),
                percent("kl_share", "of the KL", 2): source.number("token_kl_share", **at),
            }


def position_kl(source: Source) -> Iterator[Row]:
    """Fig. 3 right: mean reverse KL by position before and after training, on own rollouts and on
    those of base."""
    for checkpoint in ordered(
        source.values("reverse_kl", "checkpoint", condition="all", category="")
    ):
        at: dict[str, Any] = {"checkpoint": checkpoint, "condition": "all"}
        spans = source.places("reverse_kl", "position_low", "position_high", **at, category="")
        for low, high in [
            *spans,
            *source.places("cascade_ratio", "position_low", "position_high", **at),
        ]:
            at |= {"position_low": low, "position_high": high}
            yield {
                MODEL: spoken(checkpoint),
                words("position", "position", 2): positions((low, high)),
                **_views(
                    source,
                    "winsorised_reverse_kl",
                    "winsorised_{}_nats",
                    "winsorised KL, {} (nats)",
                    "digits",
                    0,
                    **at,
                ),
                **_changes(source, **at),
                **_views(
                    source,
                    "reverse_kl",
                    "reverse_kl_{}_nats",
                    "mean KL, {} (nats)",
                    "digits",
                    15,
                    **at,
                ),
                **_views(
                    source,
                    "cascade_ratio",
                    "cascade_ratio_{}",
                    "after / before, {}",
                    "digits",
                    20,
                    **at,
                ),
                TOKENS: source.field("tokens", "reverse_kl", view="fresh", **at),
                PROBLEMS: source.field("problems", "reverse_kl", view="fresh", **at),
            }


def _views(
    source: Source, what: str, key: str, name: str, form: str, place: float, **at: Any
) -> Row:
    """A number on each model's own rollouts, and on those of base."""
    return {
        column(
            key.format(view), name.format(f"rollouts {told}"), form, place + order
        ): source.number(what, view=view, quiet=what == "reverse_kl", **at)
        for order, (view, told) in enumerate(VIEWS.items())
    }


def _changes(source: Source, **at: Any) -> Row:
    return {
        Column(
            f"change_{view}_percent",
            f"change, rollouts {told} (%)",
            "tenths",
            (1, 10, order),
            signed=True,
        ): source.number("winsorised_reverse_kl_relative_change", view=view, **at)
        for order, (view, told) in enumerate(VIEWS.items())
    }


RANKS = {
    "student_top1_probability": "its probability",
    "equals_teacher_top1": "is the teacher's 1st",
    "in_teacher_top2to5": "teacher's 2nd to 5th",
    "outside_teacher_top5": "beyond the 5th",
}


def submode(source: Source) -> Iterator[Row]:
    """Behaviour table, right: the student's likeliest token at the tokens of the highest KL, and
    its change against base."""
    first = "equals_teacher_top1"
    for condition, view, checkpoint in source.places(first, "condition", "view", "checkpoint"):
        at = {"condition": condition, "view": view, "checkpoint": checkpoint}
        for ending, less in (("", ""), ("_change", ", less base")):
            if not source.rows(first + ending, **at):
                continue
            yield {
                words("tokens_are", "set of tokens", 0): condition,
                MODEL: spoken(checkpoint) + less,
                VIEW: VIEWS[view],
                **{
                    percent(what, told, place): source.number(
                        what + ending, signed=bool(ending), **at
                    )
                    for place, (what, told) in enumerate(RANKS.items())
                },
                percent("two_mode_share", "two modes", 10): ""
                if ending
                else source.number("two_mode_share", **at),
                TOKENS: source.field("tokens", first + ending, **at),
            }


LENGTHS = {"p10": "10th percentile", "p50": "median", "p90": "90th percentile", "mean": "mean"}
# quantity -> unit in the key of its columns, and as printed
LENGTH_KINDS = {
    "response_tokens": ("tokens", "tokens"),
    "response_length": ("characters_by_3_5", "characters / 3.5"),
}


def response_length(source: Source) -> Iterator[Row]:
    """Behaviour table, left: percentiles and mean of the response length; published ones are no
    tokens."""
    less = Column("mean_less_base_tokens", "mean less base (tokens)", "tenths", (1, 5), signed=True)
    for second, (kind, (unit, told)) in enumerate(LENGTH_KINDS.items()):
        for checkpoint in ordered(source.values(f"{kind}_p50", "checkpoint")):
            at = {"checkpoint": checkpoint}
            yield {
                MODEL: spoken(checkpoint),
                **{
                    _length(name, unit, told, second): source.number(f"{kind}_{name}", **at)
                    for name in LENGTHS
                },
                less: source.number("response_tokens_mean_change", **at),
                percent("natural_stop", "ended by itself", 6): source.number(
                    "natural_stop_share", **at
                ),
                PROBLEMS: source.field("problems", f"{kind}_p50", **at),
                ROLLOUTS: source.field("rollouts", f"{kind}_p50", **at),
            }


def _length(name: str, unit: str, told: str, second: int) -> Column:
    """Lengths in tokens stand before those in another unit."""
    form = "tenths" if name == "mean" else "whole"
    return column(
        f"{name}_{unit}", f"{LENGTHS[name]} ({told})", form, second, [*LENGTHS].index(name)
    )


CHARACTERS = column("mean_length_characters", "mean length (characters)", "whole", 5)


def boxed_repetition(source: Source) -> Iterator[Row]:
    """Boxed repetition table: several boxes, repetition, length, and accuracy under each answer
    rule."""
    rules = source.values("accuracy", "answer_rule")
    for checkpoint in ordered(source.values("several_boxes_share", "checkpoint")):
        at = {"checkpoint": checkpoint}
        yield {
            MODEL: spoken(checkpoint),
            percent("several_boxes", "several boxes", 0): source.number(
                "several_boxes_share", **at
            ),
            column("boxes", "boxes per response", "digits", 1): source.number("boxes_mean", **at),
            percent("repeated_3_grams", "repeated 3-grams", 2): source.number(
                "repetition_3gram", **at
            ),
            percent("repetitive", "repetitive responses", 3): source.number(
                "repetitive_share", **at
            ),
            column("mean_length_tokens", "mean length (tokens)", "tenths", 4): source.number(
                "response_tokens_mean", **at
            ),
            column("mean_length_characters", "mean length (characters)", "whole", 5): source.number(
                "response_characters", **at
            ),
            **{
                percent(f"accuracy_{rule}", f"right, {rule}", 10, order): source.number(
                    "accuracy", answer_rule=rule, **at
                )
                for order, rule in enumerate(rules)
            },
            ROLLOUTS: source.field("rollouts", "several_boxes_share", **at),
        }


CURVES = {"survivors": "cumulative KL, rollouts still open", "mass": "cumulative KL, all tokens"}


def choosing_n(source: Source) -> Iterator[Row]:
    """The rule for N of the paper, by both ways to cumulate, and the half-decay length of the same
    pair."""
    rule, up_to = words("rule", "rule", 0), column("up_to_tokens", "up to (tokens)", "whole", 2)
    length, share = (
        column("rollout_length_tokens", "N (tokens)", "tenths", 0),
        percent("share_reached", "share reached", 1),
    )
    what = "cumulative_kl_position"
    for checkpoint, curve in source.places(what, "checkpoint", "condition"):
        at = {"checkpoint": checkpoint, "condition": curve}
        yield {
            rule: CURVES[curve],
            MODEL: spoken(checkpoint),
            length: source.number(what, quiet=True, **at),
            share: source.number("cumulative_kl_threshold", quiet=True, **at),
            up_to: source.number("cumulative_kl_horizon", quiet=True, **at),
            PROBLEMS: source.field("problems", what, **at),
            ROLLOUTS: source.field("rollouts", what, **at),
        }
    longest = source.longest("student-prefix")
    for _ in source.values("half_decay_length", "condition", condition="student-prefix"):
        at = {"condition": "student-prefix"}
        yield {
            rule: "half-decay of the teacher's advantage",
            MODEL: spoken("base"),
            length: source.number("half_decay_length", longest=longest, **at),
            share: Number(50.0),
            up_to: Number(longest),
            PROBLEMS: source.field("problems", "half_decay_length", **at),
            ROLLOUTS: source.field("rollouts", "half_decay_length", **at),
        }
