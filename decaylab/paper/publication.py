"""The published numbers of arXiv 2605.27028, read from ``data/paper``, whose README has origins and
traps.

Each loader gives the rows that the analysis of that name gives, fractions of 1 and nats, without an
interval. Checkpoints:
``base`` (the student before training), ``full-rollout`` and ``esr-100`` (after it), ``step-50`` to
``step-200`` of the full rollout that collapsed, and ``teacher`` where the teacher's own rollouts
were measured.
"""

from __future__ import annotations

import pandas as pd

from decaylab.paper.paper_rows import NO_INTERVAL, PERCENT, PROBLEMS, SAMPLES, row
from decaylab.paper.paper_rows import SOURCE as SOURCE
from decaylab.paper.paper_rows import published as published
from decaylab.paper.paper_training import efficiency as efficiency
from decaylab.paper.paper_training import main_results as main_results
from decaylab.paper.paper_training import n_sweep as n_sweep
from decaylab.paper.paper_training import per_step as per_step
from decaylab.paper.paper_training import scaling as scaling
from decaylab.paper.paper_training import token_selection as token_selection
from decaylab.runs.measurements import Measurement, to_frame

SETTING = "Qwen2.5-Math-1.5B and Qwen3-1.7B on MATH-500, avg@4 at T = 0.7, single seed"
CHECKPOINTS = {
    "base_student": "base",
    "full_rollout": "full-rollout",
    "esr_100": "esr-100",
    "teacher": "teacher",
}
BIN_WIDTH = 10  # of three_signals.csv
# statistic of boxed_repetition.csv -> what, unit, how many of its unit make one of ours, answer
# rule
BOXED = {
    "multi_boxed_responses_percent": ("several_boxes_share", "fraction", PERCENT, ""),
    "mean_boxed_per_response": ("boxes_mean", "boxes", 1.0, ""),
    "repetitive_responses_percent": ("repetitive_share", "fraction", PERCENT, ""),
    "mean_response_length_chars": ("response_characters", "characters", 1.0, ""),
    "avg_at_4_percent": ("accuracy", "fraction", PERCENT, "official"),
    "relaxed_avg_at_4_percent": ("accuracy", "fraction", PERCENT, "relaxed"),
}
# direction of prefix_curve.csv -> condition of the curve, and condition at length 0: the continuing
# policy alone
DIRECTIONS = {
    "student_prefix_teacher_continues": ("student-prefix", "teacher"),
    "teacher_prefix_student_continues": ("reverse", "student"),
}


def prefix_curve() -> pd.DataFrame:
    """Published accuracy after a prefix, as fractions of 1, in the rows that
    `analyses.prefix_decay` gives.

    Conditions ``student-prefix`` and ``reverse``, with ``teacher`` and ``student`` alone at length
    0. View ``""``: whether rollouts that had ended before the prefix are among them was not
    published. No interval was either: low, high and band are NaN; nor the answer rule, which is
    empty.

    Source: Fig. 1 left; the reverse direction is an early draft's (see ``note``), the student alone
    the main table's.
    """
    return to_frame(
        Measurement(
            what="accuracy",
            condition=DIRECTIONS[direction][int(tokens == 0)],
            value=percent / PERCENT,
            unit="fraction",
            view="all" if tokens == 0 else "",
            prefix_tokens=float(tokens),
            method=NO_INTERVAL,
            estimand="mean over rollouts",
            problems=PROBLEMS,
            rollouts=PROBLEMS * SAMPLES,
            run=SOURCE,
            note=f"{SOURCE}, {source}; {SETTING}",
        )
        for direction, tokens, percent, source in published("prefix_curve").itertuples(index=False)
    )


def three_signals() -> pd.DataFrame:
    """Published entropies and reverse KL by position, in nats, in the rows that `analyses.signals`
    gives.

    The bins are 10 tokens wide. Of those beyond position 110 only some were read off: there the
    rows leave gaps.

    Source: Fig. 3 left, off the plot, +-5 %.
    """
    table = published("three_signals")
    return to_frame(
        row(
            what,
            "all",
            nats,
            "nats",
            "Fig. 3 left, " + note,
            view="fresh",
            checkpoint="base",
            position_low=centre - BIN_WIDTH / 2,
            position_high=centre + BIN_WIDTH / 2,
        )
        for what in ("student_entropy", "teacher_entropy", "reverse_kl")
        for centre, nats, note in table[["position_bin_centre", f"{what}_nats", "note"]].itertuples(
            index=False
        )
    )


def position_kl() -> pd.DataFrame:
    """Published reverse KL by position before training and after 100-token rollouts, in nats, as
    `analyses.position_kl`.

    Bins adjoin from 0: 50 tokens wide to 200, then 100 wide. Each checkpoint on its own rollouts.

    Source: Fig. 3 right, off the plot, +-0.03 nats.
    """
    table = published("position_kl")
    edges = [0.0]
    for centre in table["position_bin_centre"]:
        edges.append(2 * centre - edges[-1])
    return to_frame(
        row(
            "reverse_kl",
            "all",
            nats,
            "nats",
            "Fig. 3 right, " + note,
            view="fresh",
            checkpoint=checkpoint,
            position_low=low,
            position_high=high,
        )
        for checkpoint, column in (("base", "kl_before_nats"), ("esr-100", "kl_after_esr100_nats"))
        for low, high, nats, note in zip(edges, edges[1:], table[column], table["note"])
    )


def kl_by_category() -> pd.DataFrame:
    """Published reverse KL by token category and position, in nats, as `analyses.category_kl`; a
    range 5-19 is [5, 20).

    Source: category table. How often each category occurs was not published: counts are 0.
    """
    rows = published("kl_by_category").melt("category", var_name="positions", value_name="nats")
    ends = rows["positions"].str.split("-", expand=True).astype(float)
    return to_frame(
        row(
            "reverse_kl",
            "all",
            nats,
            "nats",
            "category table",
            view="fresh",
            checkpoint="base",
            category=category,
            position_low=low,
            position_high=last + 1,
        )
        for category, nats, low, last in zip(rows["category"], rows["nats"], ends[0], ends[1])
    )


def high_kl_tokens() -> pd.DataFrame:
    """The 20 published tokens of the highest mean reverse KL, in nats; ``tokens`` is how often each
    occurs.

    Source: table of high-KL tokens, at least 50 occurrences.
    """
    return to_frame(
        row(
            "token_mean_reverse_kl",
            "all",
            nats,
            "nats",
            f"high-KL tokens, rank {rank}",
            view="fresh",
            checkpoint="base",
            category=category,
            token=token,
            tokens=count,
        )
        for rank, token, category, count, nats in published("high_kl_tokens").itertuples(
            index=False
        )
    )


def submode() -> pd.DataFrame:
    """Published sub-mode shares, as fractions of 1, in the rows that `analyses.submode` gives.

    Condition ``own``: over the 10 % of each model's own tokens with the highest KL, on its own
    rollouts, so that the set changes with the model. One number of tokens is given for all rows; it
    is left out.

    Source: behaviour table, right.
    """
    columns = {
        "student_top1_probability": ("top1_probability", 1.0),
        "equals_teacher_top1": ("equals_teacher_top1_percent", PERCENT),
        "in_teacher_top2to5": ("in_teacher_top2to5_percent", PERCENT),
        "outside_teacher_top5": ("outside_teacher_top5_percent", PERCENT),
    }
    table = published("submode")
    return to_frame(
        row(
            what,
            "own",
            number / whole,
            "fraction",
            "behaviour table",
            view="fresh",
            checkpoint=CHECKPOINTS[model],
        )
        for what, (column, whole) in columns.items()
        for model, number in zip(table["model"], table[column])
    )


def response_length() -> pd.DataFrame:
    """Published response lengths: ``response_length_p10``, ``_p50``, ``_p90`` and ``_mean``.

    They are no tokens, as the paper calls them, but characters / 3.5, and the unit says so.

    Source: behaviour table, left.
    """
    table = published("response_length")
    return to_frame(
        row(
            f"response_length_{column.removesuffix('_tokens')}",
            "",
            length,
            "characters / 3.5",
            "behaviour table",
            view="fresh",
            checkpoint=CHECKPOINTS[model],
        )
        for column in table.columns[1:]
        for model, length in zip(table["model"], table[column])
    )


def boxed_repetition() -> pd.DataFrame:
    """Published collapse of the full rollout: boxes, repetition, length, accuracy, by checkpoint
    ``step-50`` to ``-200``.

    Accuracy has its answer rule (``official``, ``relaxed``) as condition too. What counts as
    repetitive is not stated.

    Source: boxed repetition table, 16 rollouts a problem in training.
    """
    return to_frame(
        row(
            what,
            rule,
            float(number) / whole,
            unit,
            "boxed repetition table",
            view="fresh",
            checkpoint=column.replace("_", "-"),
            answer_rule=rule,
        )
        for statistic, *numbers in published("boxed_repetition").itertuples(index=False)
        for what, unit, whole, rule in [BOXED[statistic]]
        for column, number in zip(("step_50", "step_100", "step_150", "step_200"), numbers)
    )


def contradictions() -> pd.DataFrame:
    """Where the paper, its drafts or its figures disagree: topic (with the unit), first and second
    with their places, remark.

    first and second are text as printed, most of them numbers.
    """
    return published("contradictions", dtype=str)
