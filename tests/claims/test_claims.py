"""A claim is decided by intervals alone, as its rule says; what they do not decide is undecided,
and says its numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from made_runs import SEEDS, arm, made, row
from measured import MEASURED

from decaylab.claims.judge import CLAIMS, RULE, Finding, judge
from decaylab.maths.seeds import APART
from decaylab.paper import paper_items
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement

NAN, INF = math.nan, math.inf


def found(name: str, *runs: FoundRun) -> Finding:
    (one,) = [finding for finding in judge(runs) if finding.claim.name == name]
    assert not re.search(r"\bnan\b|\binf\b|\bNone\b(?! of)|-0\.0\b", one.sentence), one.sentence
    assert one.sentence[-1] in ".)" and "\n" not in one.sentence
    return one


def verdict(name: str, command: str, rows: Sequence[Measurement], **options: Any) -> str:
    return found(name, made(command, rows, **options)).verdict


# The list of claims


def test_there_is_one_finding_a_claim_in_a_fixed_order_and_the_control_stands_first() -> None:
    findings = judge([])
    assert [one.claim for one in findings] == list(CLAIMS)
    assert [one.claim.control for one in findings] == [True] + [False] * (len(CLAIMS) - 1)
    assert len({claim.name for claim in CLAIMS}) == len(CLAIMS)


def test_what_was_not_measured_names_the_command_that_measures_it() -> None:
    for one in judge([]):
        assert one.verdict == "not measured" and one.evidence.empty
        assert one.sentence == f"`{one.claim.needs}` measures it."


def test_every_claim_has_a_rule_a_place_a_command_and_a_figure_that_there_is() -> None:
    figures = {item.name: item for item in paper_items.FIGURES}
    for claim in CLAIMS:
        assert (
            claim.rule.startswith(tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")) and "olds if" in claim.rule
        )
        assert claim.text.endswith(".") and claim.place and claim.figure in figures
        command = claim.needs.removeprefix("decaylab ")
        assert any(command.startswith(of) for of in claim.commands), claim.name
        assert set(figures[claim.figure].commands) & set(claim.commands), claim.name
    assert "95 %" in RULE and "Holm" in RULE and "seeds" in RULE
    assert "neighbours more than 10 points" in RULE and APART == 0.1


# Decay


def changes(
    *values: float, condition: str = "student-prefix", reach: float = 0.03, **more: Any
) -> list[Measurement]:
    """Differences to the teacher alone at 10, 20, ... tokens, and a carry-forward curve that must
    not be read."""
    at = [
        {"prefix_tokens": 10.0 * place, "view": "open", **more}
        for place, _ in enumerate(values, start=1)
    ]
    rows = [
        row("accuracy_difference", value, reach, condition, **one) for value, one in zip(values, at)
    ]
    return rows + [replace(one, view="carry-forward", value=0.9, low=0.8, high=1.0) for one in rows]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((-0.05, -0.2), "holds"),
        ((-0.02, -0.2), "holds"),
        ((-0.2, -0.18), "holds"),
        ((0.05, 0.2), "contradicted"),
        ((0.01, 0.2), "contradicted"),
        ((-0.01, 0.01), "not supported"),
        ((-0.02, 0.02), "not testable here"),
        ((-0.03, 0.0), "not testable here"),
        ((-0.2, 0.2), "undecided"),
        ((-0.2, -0.05), "undecided"),  # falls, and has recovered where it is longer
    ],
)
def test_decay_holds_where_accuracy_falls_and_does_not_come_back(
    values: tuple[float, ...], expected: str
) -> None:
    assert verdict("teacher-decay", "prefix-decay", changes(*values)) == expected


@pytest.mark.parametrize(
    ("values", "reach", "expected"),
    [
        ((0.005,), 0.004, "not supported"),
        ((-0.005,), 0.004, "not supported"),
        ((-0.005, 0.005), 0.004, "not supported"),
        ((-0.046,), 0.004, "holds"),
        ((0.046,), 0.004, "contradicted"),
        ((-0.045,), 0.004, "not supported"),
        ((-0.2, 0.005), 0.004, "undecided"),
    ],
)
def test_a_change_that_excludes_the_size_that_counts_decides_nothing_about_decay(
    values: tuple[float, ...], reach: float, expected: str
) -> None:
    assert verdict("teacher-decay", "prefix-decay", changes(*values, reach=reach)) == expected


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        (-0.01, -0.02, "not supported"),
        (-0.02, -0.01, "not supported"),
        (-0.01, -0.057, "holds"),
        (-0.057, -0.01, "contradicted"),
    ],
)
def test_prefixes_that_err_and_cost_less_than_counts_decide_nothing(
    right: float, wrong: float, expected: str
) -> None:
    rows = [
        *changes(right, condition="correct-so-far", reach=0.002),
        *changes(wrong, condition="already-wrong", reach=0.002),
    ]
    assert verdict("content", "prefix-decay", rows) == expected


def test_a_fall_that_holms_correction_takes_away_is_none() -> None:
    assert (
        verdict("teacher-decay", "prefix-decay", changes(-0.05, -0.06, p_value_holm=0.06))
        == "not testable here"
    )
    assert (
        verdict("teacher-decay", "prefix-decay", changes(-0.05, -0.06, p_value_holm=0.04))
        == "holds"
    )


def test_decay_is_told_with_the_first_length_the_largest_fall_and_the_half_decay_length() -> None:
    half = row("half_decay_length", 33.4, 4, "student-prefix", view="open", unit="tokens")
    one = found(
        "teacher-decay",
        made("prefix-decay", [*changes(-0.01, -0.05, -0.2, p_value_holm=0.002), half]),
    )
    assert (
        "A fall is shown from a prefix of 20 student tokens on: -5.0 points [-8.0, -2.0], "
        "p = 0.002 by Holm" in one.sentence
    )
    assert "the largest is -20.0 points [-23.0, -17.0] at 30 tokens." in one.sentence
    assert "gone after 33 tokens [29, 37]." in one.sentence and one.sentence.endswith(
        "(made, 300 problems, 1,200 rollouts)"
    )
    assert set(one.evidence["what"]) == {"accuracy_difference", "half_decay_length"}
    assert set(one.evidence["view"]) == {"open"}


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (
            INF,
            25.0,
            INF,
            "left after 20 tokens, the longest prefix (interval from 25 tokens).",
        ),
        (INF, INF, INF, "left after 20 tokens, the longest prefix."),
        (15.0, 11.0, INF, "gone after 15 tokens [11, beyond the longest prefix]."),
        (15.0, NAN, NAN, "gone after 15 tokens."),
        (NAN, NAN, NAN, "half-decay length is undefined (no advantage)."),
    ],
)
def test_a_half_decay_length_without_an_end_is_told_in_words(
    value: float, low: float, high: float, said: str
) -> None:
    note = "no advantage" if math.isnan(value) else ""
    half = row(
        "half_decay_length", value, condition="student-prefix", low=low, high=high, note=note
    )
    assert (
        said in found("teacher-decay", made("prefix-decay", [*changes(-0.1, -0.2), half])).sentence
    )


def test_lengths_that_no_rollout_reached_are_no_evidence() -> None:
    rows = changes(-0.1, -0.2)
    empty = replace(rows[1], value=NAN, low=NAN, high=NAN, rollouts=0)
    one = found("teacher-decay", made("prefix-decay", [rows[0], empty]))
    assert one.verdict == "holds" and len(one.evidence) == 1
    assert found("teacher-decay", made("prefix-decay", [empty])).verdict == "not measured"


# The control


def control(*values: float, reach: float = 0.02, **more: Any) -> list[Measurement]:
    return changes(*values, condition="own-prefix", reach=reach, **more)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (control(0.01, -0.01), "holds"),
        (control(0.02, -0.02), "holds"),
        (control(0.01, 0.03, p_value_holm=0.01), "contradicted"),
        (control(-0.03, 0.0), "contradicted"),
        (control(0.01, 0.03, p_value_holm=0.3), "undecided"),
        (control(0.01, 0.0, reach=NAN), "not testable here"),
    ],
)
def test_the_control_passes_where_every_interval_holds_0(
    rows: list[Measurement], expected: str
) -> None:
    assert verdict("own-prefix", "prefix-decay", rows) == expected


@pytest.mark.parametrize(
    ("rows", "expected", "told"),
    [
        (
            control(0.0, 0.0, reach=0.27, problems=10),
            "not testable here",
            "differs by 0.0 points at each of 2 lengths; only 10 problems; at least 30 are needed.",
        ),
        (control(0.0, 0.0, reach=0.01, problems=29), "not testable here", "only 29 problems"),
        (control(0.0, 0.0, reach=0.01, problems=30), "holds", "the widest is 0.0 points [-1.0"),
        (
            [*control(0.0, reach=0.01), *control(0.0, 0.0, reach=0.05)[1:2]],
            "not testable here",
            "the widest, 0.0 points [-5.0, +5.0] at 20 tokens, does not exclude a change of 5.0 "
            "points.",
        ),
        (control(0.02, reach=0.031), "not testable here", "does not exclude a change of 5.0"),
        (control(-0.02, reach=0.031), "not testable here", "does not exclude a change of 5.0"),
        (control(0.0, reach=0.01, level=0.9), "not testable here", "at less than 95 %"),
        (
            [*control(0.0, reach=0.01), *control(0.0, 0.0, reach=0.3, problems=8)[1:2]],
            "holds",
            "the widest is 0.0 points [-1.0, +1.0]; at 20 tokens too few problems are left to "
            "judge it.",
        ),
    ],
)
def test_a_control_that_could_not_fail_does_not_hold(
    rows: list[Measurement], expected: str, told: str
) -> None:
    one = found("own-prefix", made("prefix-decay", rows))
    assert one.verdict == expected and told in one.sentence


def test_a_control_that_could_not_have_seen_the_decay_passes_nothing() -> None:
    decay = changes(-0.01, -0.04, reach=0.005)
    narrow, wide = (control(0.0, 0.0, reach=reach) for reach in (0.039, 0.041))
    assert verdict("own-prefix", "prefix-decay", [*decay, *narrow]) == "holds"
    blunt = found("own-prefix", made("prefix-decay", [*decay, *wide]))
    assert (
        blunt.verdict == "not testable here"
        and "at 20 tokens, 0.0 points [-4.1, +4.1], is wide enough" in blunt.sentence
    )
    few = [*control(0.0, reach=0.01), *control(0.0, 0.0, reach=0.01, problems=8)[1:2]]
    assert verdict("own-prefix", "prefix-decay", [*decay, *few]) == "not testable here"


def test_nothing_is_decided_about_decay_where_the_control_fails() -> None:
    rows = [*changes(-0.1, -0.2), *split((-0.02, 0.0), (-0.3, -0.4)), *control(-0.1, 0.0)]
    run = made("prefix-decay", rows)
    assert (
        "is unsound" in found("own-prefix", run).sentence
        and "-10.0 points" in found("own-prefix", run).sentence
    )
    for name in ("teacher-decay", "content"):
        one = found(name, run)
        assert one.verdict == "undecided" and "The control of this run fails" in one.sentence


# Content


def split(
    right: tuple[float, ...], wrong: tuple[float, ...], names: str = "correct-so-far already-wrong"
) -> list[Measurement]:
    first, second = names.split()
    return [*changes(*right, condition=first), *changes(*wrong, condition=second)]


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ((0.0, 0.0), (-0.05, -0.4), "holds"),
        ((-0.1, -0.1), (-0.05, -0.4), "holds"),
        ((-0.4, -0.4), (0.0, -0.1), "contradicted"),
        ((-0.1, -0.2), (-0.12, -0.22), "not testable here"),
        ((-0.4, 0.0), (0.0, -0.4), "undecided"),
        ((0.3, 0.3), (0.0, 0.0), "not testable here"),
        ((-0.3, -0.3), (-0.25, -0.24), "not supported"),
        ((-0.1, 0.0), (-0.165, 0.0), "not testable here"),
    ],
)
def test_content_holds_where_prefixes_that_err_cost_more(
    right: tuple[float, ...], wrong: tuple[float, ...], expected: str
) -> None:
    assert verdict("content", "prefix-decay", split(right, wrong)) == expected


def test_prefixes_split_by_their_future_decide_nothing() -> None:
    one = found(
        "content", made("prefix-decay", split((0.0, 0.0), (-0.4, -0.4), "ended-right ended-wrong"))
    )
    assert one.verdict == "not testable here" and "conditions on the outcome" in one.sentence


def test_content_tells_what_correct_prefixes_cost_and_needs_both_kinds() -> None:
    one = found("content", made("prefix-decay", split((-0.05, 0.0), (-0.3, -0.4))))
    assert (
        "Correct prefixes also cost accuracy: -5.0 points [-8.0, -2.0] at 10 tokens."
        in one.sentence
    )
    assert "the two differ at 2 of 2 lengths" in one.sentence
    rows = split((0.0, 0.0), (-0.3, -0.4))
    fewer = [replace(row, problems=80) if row.prefix_tokens == 20 else row for row in rows]
    fewer = [replace(row, problems=90) if row.value == -0.3 else row for row in fewer]
    told = found("content", made("prefix-decay", fewer)).sentence
    assert "correct so far (300 problems)" in told and "contain an error (90)" in told
    assert "up to 300 problems" in told
    only = changes(-0.1, -0.2, condition="correct-so-far")
    assert verdict("content", "prefix-decay", only) == "not measured"


# Where the KL lies


def bins(
    *values: float, problems: Sequence[int] = (), reach: float = 0.02, **more: Any
) -> list[Measurement]:
    """Reverse KL of the base student in bins of 10 positions; a trained one's and one category's
    must not be read."""
    counts = problems or [300] * len(values)
    given: dict[str, Any] = {
        "unit": "nats",
        "view": "fresh",
        "checkpoint": "base",
        "tokens": 1000,
        **more,
    }
    rows = [
        row(
            "winsorised_reverse_kl",
            value,
            reach,
            given.get("condition", "all"),
            position_low=10.0 * place,
            position_high=10.0 * place + 10,
            **{"problems": count, **{k: v for k, v in given.items() if k != "condition"}},
        )
        for place, (value, count) in enumerate(zip(values, counts))
    ]
    other = [replace(one, value=9.0, low=8.9, high=9.1) for one in rows[1:]]
    return (
        rows
        + [replace(one, checkpoint="full") for one in other]
        + [replace(one, category="digit") for one in other]
    )


@pytest.mark.parametrize("command", ["signals", "position-kl"])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.5, 0.3, 0.1), "holds"),
        ((0.5, 0.1, 0.3), "holds"),
        ((0.2, 0.1, 0.3), "contradicted"),
        ((0.5, 0.47, 0.1), "not testable here"),
        ((0.3, 0.1, 0.29), "not testable here"),
        ((5.0, 4.9, 0.1), "not supported"),
        ((0.3, 0.1, 0.32), "not supported"),
        ((0.2, 0.25, 0.1), "contradicted"),
    ],
)
def test_early_kl_holds_where_the_first_bin_lies_above_all_others(
    command: str, values: tuple[float, ...], expected: str
) -> None:
    assert verdict("early-kl", command, bins(*values)) == expected


def test_bins_that_few_problems_reach_decide_nothing_about_early_kl() -> None:
    assert verdict("early-kl", "signals", bins(0.5, 0.3, 0.9, problems=(300, 300, 149))) == "holds"
    assert (
        verdict("early-kl", "signals", bins(0.5, 0.3, 0.9, problems=(300, 300, 150)))
        == "contradicted"
    )
    assert verdict("early-kl", "signals", bins(0.5, 0.3, problems=(300, 149))) == "not measured"


def test_early_kl_never_holds_of_a_first_bin_without_a_value() -> None:
    first, *later = bins(0.5, 0.3, 0.1)
    one = found("early-kl", made("signals", [replace(first, value=NAN, low=NAN, high=NAN), *later]))
    assert one.verdict == "not testable here" and one.sentence.startswith(
        "The first bin has no value."
    )
    lacking = replace(later[0], value=NAN, low=NAN, high=NAN)
    assert verdict("early-kl", "signals", [first, lacking, *later[1:]]) == "not testable here"


def test_what_would_test_where_the_kl_lies_is_told() -> None:
    """The ratio of 0.5 to 0.47, each with 0.02 to either side, reaches from 0.98 to 1.16: 0.045
    where 0.036 is needed."""
    one = found("early-kl", made("signals", bins(0.5, 0.47, 0.1)))
    assert one.verdict == "not testable here" and re.search(
        r"About [\d,]+ problems would detect", one.sentence
    )
    decided = bins(0.5, 0.47, 0.1)
    decided[2] = replace(decided[2], low=0.01, high=0.3)  # far below the first, and wide
    wide = found("early-kl", made("signals", decided))
    told = [re.search(r"About [\d,]+ problems", each.sentence) for each in (one, wide)]
    assert told[0].group() == told[1].group(), "of the bin that is not decided"
    rows = [
        row(
            "kl_concentration",
            0.5,
            0.01,
            "top-10-percent",
            checkpoint="base",
            view="fresh",
            problems=20,
        )
    ]
    few = found("concentrated-kl", made("signals", rows))
    assert (
        few.verdict == "not testable here"
        and "Only 20 problems; at least 30 are needed." in few.sentence
    )


def test_kl_under_its_noise_floor_decides_nothing_and_is_counted() -> None:
    rows = [replace(one, under_floor=one.position_low == 10) for one in bins(0.5, 0.3, 0.1)]
    one = found("early-kl", made("signals", rows))
    assert (
        one.verdict == "not testable here"
        and "1 of 3 numbers is too close to the noise floor to decide." in one.sentence
    )


def test_rollouts_of_one_length_go_before_all_of_them() -> None:
    survivors = bins(0.5, 0.3, condition="survivors")
    assert verdict("early-kl", "position-kl", [*bins(0.1, 0.3), *survivors]) == "holds"


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.9, "holds"),
        (0.2, "not supported"),
        (0.05, "not supported"),
        (0.505, "not testable here"),
        (NAN, "not testable here"),
    ],
)
def test_kl_is_concentrated_where_a_tenth_of_the_tokens_holds_more_than_half(
    share: float, expected: str
) -> None:
    rows = [
        row("kl_concentration", share, condition="top-10-percent", checkpoint="base", view="fresh")
    ]
    assert verdict("concentrated-kl", "signals", rows) == expected


# Trained students


def seeded(rows: Sequence[Measurement], *, apart: float = 0.0) -> list[Measurement]:
    """The rows of seed 0, and those of two more seeds whose numbers lie so far to either side of
    it."""
    own = [one for one in rows if one.checkpoint.endswith("seed-0") or "seed-0/" in one.checkpoint]
    more = [
        replace(
            one,
            checkpoint=one.checkpoint.replace("seed-0", f"seed-{seed}"),
            value=one.value + by,
            low=one.low + by,
            high=one.high + by,
            training_seed=float(seed) if one.selector else one.training_seed,
        )
        for seed, by in ((1, apart), (2, -apart))
        for one in own
    ]
    return [*rows, *more]


def ratios(
    label: str, fresh: float, frozen: float | None, low: float = 20.0, **more: Any
) -> list[Measurement]:
    views = {"fresh": fresh, **({} if frozen is None else {"frozen": frozen})}
    return [
        row(
            "cascade_ratio",
            value,
            0.05,
            "all",
            unit="ratio",
            view=view,
            checkpoint=label,
            position_low=low,
            **more,
        )
        for view, value in views.items()
    ]


@pytest.mark.parametrize(
    ("fresh", "frozen", "expected"),
    [
        (0.8, 0.85, "holds"),
        (1.2, 1.1, "contradicted"),
        (0.8, 1.1, "undecided"),
        (0.8, 0.98, "undecided"),
        (0.8, 0.96, "not testable here"),
        (0.8, None, "not testable here"),
        (NAN, 0.8, "not testable here"),
        (1.0, 0.98, "not supported"),
    ],
)
def test_the_cascade_holds_where_the_kl_falls_on_fresh_and_on_frozen_rollouts(
    fresh: float, frozen: float | None, expected: str
) -> None:
    rows = [*ratios("prefix-20-seed-0", fresh, frozen), *ratios("full-seed-0", 0.3, 0.3)]
    assert verdict("cascade", "position-kl", seeded(rows, apart=0.01)) == expected
    one = found("cascade", made("position-kl", rows))
    assert (
        one.verdict in ("undecided", "not testable here")
        and "One training seed is not enough: 4 would" in one.sentence
    )


def test_a_cascade_that_seeds_disagree_about_is_undecided_and_tells_each() -> None:
    rows = ratios("prefix-20-seed-0", 0.5, 0.5)
    told = found("cascade", made("position-kl", seeded(rows, apart=0.3)))
    assert (
        told.verdict == "undecided"
        and "no interval (0.50, 0.80 and 0.20) over 3 seeds" in told.sentence
    )
    assert verdict("cascade", "position-kl", seeded(rows, apart=0.03)) == "holds"


def test_the_cascade_tells_its_seeds_and_full_rollouts_beside_it() -> None:
    rows = [*ratios("prefix-20-seed-0", 0.8, 0.85), *ratios("full-seed-0", 0.4, 0.6)]
    one = found("cascade", made("position-kl", rows))
    assert (
        "from position 20 on" in one.sentence and "One training seed is not enough" in one.sentence
    )
    assert "With full rollouts: full-seed-0 0.40 [0.35, 0.45] on its own rollouts" in one.sentence
    both = [*ratios("prefix-20-seed-0", 0.8, 0.85), *ratios("prefix-20-seed-1", 0.8, 1.0)]
    several = found("cascade", made("position-kl", both))
    assert (
        several.verdict == "undecided" and "Two training seeds are not enough" in several.sentence
    )
    three = found("cascade", made("position-kl", seeded(rows, apart=0.01)))
    assert "Mean on its own rollouts 0.80, [0." in three.sentence and "decide" not in three.sentence


def test_the_cascade_is_asked_of_the_last_checkpoint_of_students_on_a_prefix_alone() -> None:
    steps = [
        *ratios("prefix-20-seed-0/step-000025", 1.2, 1.2),
        *ratios("prefix-20-seed-0/step-000100", 0.8, 0.8),
    ]
    rows = [*seeded(steps, apart=0.01), *ratios("random-20-seed-0", 1.2, 1.2)]
    assert verdict("cascade", "position-kl", rows) == "holds"
    early = [replace(one, checkpoint=one.checkpoint.replace("000100", "000049")) for one in rows]
    short = found("cascade", made("position-kl", early))
    assert (
        short.verdict == "not testable here"
        and "Trained for 49 steps; a verdict needs at least 50." in short.sentence
    )
    unknown = found("cascade", made("position-kl", ratios("ckpt", 0.8, 0.8)))
    assert (
        unknown.verdict == "not testable here"
        and "None of ckpt is known to be trained on a prefix" in unknown.sentence
    )


def test_positions_that_were_trained_are_no_cascade() -> None:
    one = found("cascade", made("position-kl", ratios("prefix-40-seed-0", 0.8, 0.8, low=20.0)))
    assert (
        one.verdict == "not testable here"
        and "among the trained positions of prefix-40-seed-0 (N = 40)" in one.sentence
    )
    rows = seeded(ratios("prefix-20-seed-0", 0.8, 0.8, low=20.0), apart=0.01)
    assert verdict("cascade", "position-kl", rows) == "holds"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (0.05, "holds"),
        (-0.05, "contradicted"),
        (0.0, "not supported"),
        (0.005, "not supported"),
    ],
)
def test_sub_mode_is_decided_where_the_teacher_has_two_modes(change: float, expected: str) -> None:
    what, place = "in_teacher_top2to5_change", {"view": "frozen", "checkpoint": "prefix-20-seed-0"}
    rows = [
        row(what, change, 0.01, "common, two modes", **place),
        row(what, -0.2, 0.01, "common", **place),
    ]
    rows += [replace(one, checkpoint="full-seed-0", value=0.3, low=0.2, high=0.4) for one in rows]
    lone = found("sub-mode", made("submode", rows))
    assert lone.verdict == "undecided" and "One training seed is not enough" in lone.sentence
    one = found("sub-mode", made("submode", seeded(rows, apart=0.001)))
    assert one.verdict == expected and "over all common tokens, by -20.0 points" in one.sentence
    assert "With full rollouts: +30.0 points [+20.0, +40.0] (full-seed-0)." in one.sentence


def lengths(label: str, change: float, reach: float = 2.0, **more: Any) -> list[Measurement]:
    common = {"view": "fresh", "unit": "tokens"}
    before = row("response_tokens_mean", 100.0, 3.0, checkpoint="base", **common)
    return [
        before,
        row("response_tokens_mean_change", change, reach, checkpoint=label, **common, **more),
    ]


@pytest.mark.parametrize(
    ("change", "shorter", "longer"),
    [
        (-30.0, "holds", "contradicted"),
        (-0.5, "not supported", "not supported"),
        (30.0, "contradicted", "holds"),
        (-4.0, "not supported", "not supported"),  # shorter, and by less than counts
        (-10.0, "not testable here", "contradicted"),
        (10.0, "contradicted", "not testable here"),
        (NAN, "not testable here", "not testable here"),
    ],
)
def test_less_than_a_tenth_of_a_response_is_no_change_of_length(
    change: float, shorter: str, longer: str
) -> None:
    for claim, label, expected in (
        ("shorter-responses", "prefix-20-seed-0", shorter),
        ("longer-responses", "full-seed-0", longer),
    ):
        rows = lengths(label, change)
        assert verdict(claim, "behaviour", seeded(rows, apart=0.1)) == expected
        assert verdict(claim, "behaviour", rows) == (
            "not testable here" if math.isnan(change) else "undecided"
        )


def test_each_claim_on_length_is_asked_of_its_own_students() -> None:
    assert (
        verdict("longer-responses", "behaviour", lengths("prefix-20-seed-0", 30.0))
        == "not measured"
    )
    assert (
        verdict("shorter-responses", "behaviour", lengths("full-seed-0", -30.0)) == "not measured"
    )
    cut = found(
        "longer-responses",
        made("behaviour", lengths("full-seed-0", 30.0, note="3 rollouts were cut off")),
    )
    assert "(full-seed-0, 3 rollouts were cut off); a change of 10.0 tokens counts." in cut.sentence


@pytest.mark.parametrize(
    ("share", "expected"), [(0.9, "holds"), (0.02, "not supported"), (0.5, "not testable here")]
)
def test_several_boxes_are_those_of_most_responses(share: float, expected: str) -> None:
    rows = [row("several_boxes_share", share, 0.02, view="fresh", checkpoint="full-seed-0")]
    rows += [row("several_boxes_share", 0.03, 0.02, view="fresh", checkpoint="base")]
    assert verdict("several-boxes", "behaviour", seeded(rows, apart=0.001)) == expected
    assert verdict("several-boxes", "behaviour", rows) == "undecided"
    assert verdict("several-boxes", "behaviour", seeded(rows, apart=0.3)) == "undecided", (
        "seeds that disagree"
    )


def test_several_boxes_are_not_testable_where_most_responses_had_them_before() -> None:
    rows = [row("several_boxes_share", 0.9, 0.02, view="fresh", checkpoint="full-seed-0")]
    rows += [row("several_boxes_share", 0.6, 0.02, view="fresh", checkpoint="base")]
    one = found("several-boxes", made("behaviour", seeded(rows, apart=0.001)))
    assert (
        one.verdict == "not testable here"
        and "Most responses of the untrained student already had several boxes." in one.sentence
    )


# One training seed, and few steps


def test_students_of_one_training_seed_are_no_several_seeds() -> None:
    def measured(*names: str) -> Finding:
        rows = [one for at, name in enumerate(names) for one in lengths(name, -30.0 + 0.1 * at)]
        return found("shorter-responses", made("behaviour", rows))

    shared = "Students with the same or an unknown training seed do not count as several seeds."
    one = measured(*(f"lr{rate}/prefix-20-seed-0" for rate in (1, 2, 3)))
    assert one.verdict == "undecided" and "over 3 seeds" not in one.sentence
    assert shared in one.sentence and "One training seed is not enough" in one.sentence
    unknown = measured(*(f"lr{rate}/prefix-20" for rate in (1, 2, 3)))
    assert unknown.verdict == "undecided" and shared in unknown.sentence
    two = measured(
        "lr1/prefix-20-seed-0", "lr2/prefix-20-seed-0", "prefix-20-seed-1", "prefix-20-seed-2"
    )
    assert two.verdict == "undecided" and shared in two.sentence
    seeds = measured(*(f"prefix-20-seed-{seed}" for seed in range(3)))
    assert (
        seeds.verdict == "holds"
        and shared not in seeds.sentence
        and "over 3 seeds" in seeds.sentence
    )


def test_runs_of_one_training_seed_do_not_decide_a_collapse() -> None:
    runs = [gains(0.2, 0.04 + 0.001 * rate, run=f"lr{rate}/full-seed-0") for rate in (1, 2, 3)]
    rows = [one for rows in runs for one in rows]
    one = found("collapse", made("evaluate", rows))
    assert one.verdict == "undecided" and "One training seed is not enough" in one.sentence
    more = [
        replace(row, training_seed=float(row.checkpoint[2])) if row.selector else row
        for row in rows
    ]
    assert verdict("collapse", "evaluate", more) == "holds"


@pytest.mark.parametrize("steps", [("000100", "000049", "000100"), ("000049", "000100", "000100")])
def test_the_seed_that_was_trained_for_the_fewest_steps_counts(steps: tuple[str, ...]) -> None:
    rows = [
        one
        for seed, step in enumerate(steps)
        for one in lengths(f"prefix-20-seed-{seed}/step-{step}", -30.0 + seed)
    ]
    one = found("shorter-responses", made("behaviour", rows))
    assert one.verdict == "not testable here" and "Trained for 49 steps" in one.sentence
    ratios_of = [
        one
        for seed, step in enumerate(steps)
        for one in ratios(
            f"prefix-20-seed-{seed}/step-{step}", 0.8 + 0.01 * seed, 0.8 + 0.01 * seed
        )
    ]
    assert verdict("cascade", "position-kl", ratios_of) == "not testable here"
    arms = [
        replace(one, step=float(steps[int(one.training_seed)])) if one.training_seed >= 0 else one
        for one in arm("prefix-5", 0.05, share=0.1)
    ]
    assert verdict("early-stopping-beats-full", "sweep rollout-length", arms) == "not testable here"
    longer = [replace(one, step=100.0) if one.training_seed >= 0 else one for one in arms]
    assert verdict("early-stopping-beats-full", "sweep rollout-length", longer) == "holds"


@pytest.mark.parametrize("place", range(3))
def test_steps_that_are_not_known_are_not_held_against_a_student_in_any_order(place: int) -> None:
    for known, expected in (("000100", "holds"), ("000049", "not testable here")):
        names = [
            f"prefix-20-seed-{seed}" + ("" if seed == place else f"/step-{known}")
            for seed in range(3)
        ]
        rows = [one for seed, name in enumerate(names) for one in lengths(name, -30.0 + seed / 10)]
        assert verdict("shorter-responses", "behaviour", rows) == expected


# Collapse


def gains(
    *values: float, run: str = "full-seed-0", rule: str = "last_boxed", reach: float = 0.02
) -> list[Measurement]:
    """Of an evaluation: accuracy over the base student at steps 50, 100, ..."""
    selector = run.rsplit("/", 1)[-1].split("-")[0]
    said = {
        "condition": rule,
        "answer_rule": rule,
        "view": "fresh",
        "selector": selector,
        "training_seed": float(run[-1]),
    }
    rows = [
        row("avg_at_4", 0.5, checkpoint="base", **{**said, "selector": "", "training_seed": NAN})
    ]
    for place, value in enumerate(values, start=1):
        step = {"checkpoint": f"{run}/step-{50 * place:06}", "step": 50.0 * place}
        rows.append(row("avg_at_4_minus_base", value, reach, **said, **step))
    return rows


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.15, 0.1, -0.07), "holds"),
        ((0.2, 0.04), "holds"),
        ((0.1, 0.2), "not supported"),
        ((0.2, 0.15), "not supported"),
        ((0.2, 0.1), "not testable here"),
        ((0.02, -0.2), "not testable here"),
        ((0.2,), "not measured"),
    ],
)
def test_a_collapse_loses_more_than_half_of_the_best_gain(
    values: tuple[float, ...], expected: str
) -> None:
    assert verdict("collapse", "evaluate", seeded(gains(*values), apart=0.002)) == expected
    alone = verdict("collapse", "evaluate", gains(*values))
    assert alone == (
        expected
        if expected in ("not measured", "not testable here") and values != (0.2, 0.1)
        else "undecided"
    )


def test_a_collapse_is_asked_of_every_run_on_full_rollouts_and_of_no_other() -> None:
    other = gains(0.2, -0.1, run="prefix-20-seed-0")
    assert (
        verdict("collapse", "evaluate", [*seeded(gains(0.1, 0.2), apart=0.002), *other])
        == "not supported"
    )
    mixed = [
        *gains(0.2, 0.0),
        *gains(0.1, 0.2, run="full-seed-1"),
        *gains(0.1, 0.21, run="full-seed-2"),
    ]
    one = found("collapse", made("evaluate", mixed))
    assert one.verdict == "undecided" and "over 3 seeds" in one.sentence


def test_a_collapse_that_is_one_of_the_answer_rule_says_so() -> None:
    rows = [*gains(0.2, 0.0), *gains(0.2, 0.19, rule="first_boxed")]
    one = found("collapse", made("evaluate", seeded(rows, apart=0.002)))
    assert (
        one.verdict == "holds"
        and "Other answer rules disagree: first_boxed not supported." in one.sentence
    )
    same = [*gains(0.2, 0.0), *gains(0.2, 0.0, rule="first_boxed")]
    assert "answer rule" not in found("collapse", made("evaluate", same)).sentence


def accuracies(
    *values: float, seed: int = 0, view: str = "validation", arm_name: str = "full"
) -> list[Measurement]:
    """Of a sweep: accuracy by step, step 0 first."""
    place = {
        "checkpoint": arm_name,
        "selector": arm_name,
        "view": view,
        "training_seed": float(seed),
        "problems": 100,
    }
    return [
        row("accuracy", value, 0.03, step=50.0 * at, **place) for at, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.5, 0.7, 0.5), "holds"),
        ((0.5, 0.6, 0.7), "not supported"),
        ((0.5, 0.7, 0.6), "not testable here"),
        ((0.5, 0.54, 0.4), "not testable here"),
        ((0.5, 0.7), "not measured"),
    ],
)
def test_a_sweep_tells_a_collapse_by_its_accuracies(
    values: tuple[float, ...], expected: str
) -> None:
    several = [
        one
        for seed in range(3)
        for one in accuracies(
            *(value + 0.001 * seed * at for at, value in enumerate(values)), seed=seed
        )
    ]
    assert verdict("collapse", "sweep rollout-length", several) == expected


def test_every_seed_of_a_sweep_must_collapse_and_the_test_goes_before_the_validation() -> None:
    fallen = [*accuracies(0.5, 0.7, 0.5), *accuracies(0.5, 0.71, 0.5, seed=1)]
    assert (
        verdict("collapse", "sweep selector", [*fallen, *accuracies(0.5, 0.6, 0.7, seed=2)])
        == "undecided"
    )
    fallen += accuracies(0.5, 0.72, 0.5, seed=2)
    assert verdict("collapse", "sweep selector", fallen) == "holds"
    on_test = [
        one
        for seed in range(3)
        for one in accuracies(0.5, 0.6, 0.7 + 0.002 * seed, view="test", seed=seed)
    ]
    assert verdict("collapse", "sweep selector", [*fallen, *on_test]) == "not supported"


# Sweeps


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ([arm("prefix-5", 0.05, share=0.1), arm("prefix-20", -0.1, share=0.4)], "holds"),
        ([arm("prefix-5", -0.05, share=0.1), arm("prefix-20", -0.1, share=0.4)], "contradicted"),
        ([arm("prefix-5", -0.05, share=0.1), arm("prefix-20", 0.005, share=0.4)], "not supported"),
        (
            [arm("prefix-5", -0.05, share=0.1), arm("prefix-20", 0.015, 0.016, share=0.4)],
            "not testable here",
        ),
        ([arm("prefix-5", 0.05, 0.01, over_seeds=0.06, share=0.1)], "not testable here"),
        ([arm("prefix-5", 0.05, 0.06, over_seeds=0.01, share=0.1)], "not testable here"),
        ([arm("prefix-5", 0.05, over_seeds=NAN, share=0.1)], "undecided"),
        ([arm("prefix-5", 0.05, share=0.1, p=0.06)], "not testable here"),
        ([arm("prefix-5", 0.05, share=0.1, seeds=1)], "undecided"),
        ([arm("prefix-5", 0.05, share=0.1, seeds=2)], "undecided"),
        ([arm("prefix-5", -0.05, share=0.1, seeds=1)], "undecided"),
        (
            [arm("prefix-5", 0.15, 0.05, over_seeds=0.3, share=0.1)],
            "undecided",
        ),  # seeds 12 points apart
        ([arm("prefix-5", 0.05, share=0.1, step=49.0)], "not testable here"),
        ([arm("prefix-5", 0.05, share=0.1, step=50.0)], "holds"),
        ([arm("prefix-5", 0.05, share=0.1, problems=29)], "not testable here"),
        ([arm("prefix-5", 0.01, share=0.1)], "not testable here"),  # touches 0
        (
            [arm("prefix-5", 0.009, 0.008, share=0.1)],
            "not supported",
        ),  # above 0, and by less than counts
        ([arm("prefix-5", -0.009, 0.008, share=0.1)], "not supported"),
        ([arm("prefix-5", -0.05, share=0.1), arm("prefix-60", 0.05, share=0.9)], "contradicted"),
        ([arm("prefix-60", -0.05, share=0.9)], "not testable here"),
        ([arm("prefix-5", 0.05)], "not testable here"),
        ([arm("random-20", 0.05, share=0.1)], "not measured"),
    ],
)
def test_early_stopping_beats_full_rollouts_where_both_intervals_say_so(
    arms: list[list[Measurement]], expected: str
) -> None:
    rows = [one for rows in [*arms, arm("full", 0.0)[:1]] for one in rows]
    assert verdict("early-stopping-beats-full", "sweep rollout-length", rows) == expected


def test_the_best_length_is_told_with_both_intervals_and_what_it_may_reach() -> None:
    rows = [
        *arm("prefix-5", -0.05, share=0.1),
        *arm("prefix-20", -0.005, share=0.4),
        *arm("prefix-60", 0.0, share=0.9),
    ]
    one = found("early-stopping-beats-full", made("sweep rollout-length", rows))
    assert (
        "Of N = 5 and 20, the best is 20: -0.5 points [-1.5, +0.5] over problems, [-1.5, +0.5] "
        "over 3 seeds" in one.sentence
    )
    assert "None of them is ahead by a size that counts." in one.sentence
    assert (
        "more than half of the tokens, N = 60: 0.0 points" in one.sentence
        and "One training seed" not in one.sentence
    )
    lone = found(
        "early-stopping-beats-full",
        made("sweep rollout-length", arm("prefix-5", 0.05, share=0.1, seeds=1)),
    )
    assert (
        "One training seed is not enough: 4 would detect an effect of 3 standard deviations"
        in lone.sentence
    )
    assert "over problems" not in lone.sentence and "It is ahead." not in lone.sentence
    rows = [
        one for n in (5, 10, 20, 30, 35, 40) for one in arm(f"prefix-{n}", 0.05, share=0.1, seeds=1)
    ]
    six = found("early-stopping-beats-full", made("sweep rollout-length", rows))
    assert (
        "5 would detect" in six.sentence
        and "in 86 % of cases over 6 numbers (3 seeds: 21 %)" in six.sentence
    )


def test_seeds_that_disagree_are_told_one_by_one() -> None:
    one = found(
        "early-stopping-beats-full",
        made("sweep rollout-length", arm("prefix-5", 0.15, 0.05, over_seeds=0.3, share=0.1)),
    )
    assert (
        one.verdict == "undecided"
        and "no interval (+27.1, +15.0 and +2.9) over 3 seeds" in one.sentence
    )


def test_what_is_not_testable_names_the_problems_or_the_seeds_that_would_test_it() -> None:
    """Reach 6 points: standard error 3.06 where 2 / 2.8 = 0.71 is needed, 18 times the problems."""
    wide = found("falling-weights", made("sweep selector", arm("importance", 0.0, 0.06)))
    assert wide.verdict == "not testable here"
    assert (
        "About 5,500 problems would detect the smallest effect that counts, and 14 seeds"
        in wide.sentence
    )
    seeds = found(
        "falling-weights", made("sweep selector", arm("importance", 0.0, over_seeds=0.04))
    )
    assert (
        seeds.verdict == "not testable here"
        and "8 seeds are needed at this spread between seeds." in seeds.sentence
    )


def test_of_several_lengths_one_that_is_shown_to_be_better_is_told() -> None:
    rows = [*arm("prefix-5", 0.05, share=0.1), *arm("prefix-20", 0.06, 0.2, share=0.4)]
    one = found("early-stopping-beats-full", made("sweep rollout-length", rows))
    assert one.verdict == "holds" and "the best is 5: +5.0 points" in one.sentence


def test_the_last_checkpoint_and_the_reported_answer_rule_count() -> None:
    last = arm("prefix-5", -0.05, share=0.1)
    best = [
        replace(one, view="best", value=one.value + 0.35, low=one.low + 0.35, high=one.high + 0.35)
        for one in last
        if one.view == "last"
    ]
    other = [
        replace(one, condition="anywhere", value=0.3, low=0.2, high=0.4)
        for one in last
        if one.view == "last"
    ]
    rows = [*last, *other, *best]
    assert verdict("early-stopping-beats-full", "sweep rollout-length", rows) == "contradicted", (
        "of last and best the last"
    )
    only_best = [one for one in [*best, *last] if one.view != "last"]
    assert verdict("early-stopping-beats-full", "sweep rollout-length", only_best) == "holds"


def lengths_of(*full: float, base: float = 0.1) -> list[Measurement]:
    rows = []
    for tokens, difference in zip((5, 20, 60), full):
        rows += arm(f"prefix-{tokens}", difference)
        rows += [
            one
            for one in arm(f"prefix-{tokens}", base, ending="_minus_base")
            if one.what.endswith("base")
        ]
    return rows


def test_accuracy_peaks_where_a_length_is_above_full_and_above_none() -> None:
    assert verdict("peak-between", "sweep rollout-length", lengths_of(-0.1, 0.05, -0.05)) == "holds"
    assert (
        verdict("peak-between", "sweep rollout-length", lengths_of(-0.1, 0.05, -0.05, base=-0.1))
        == "undecided"
    )
    assert (
        verdict("peak-between", "sweep rollout-length", lengths_of(-0.1, -0.05, -0.02))
        == "contradicted"
    )
    level = found("peak-between", made("sweep rollout-length", lengths_of(-0.1, -0.05, -0.005)))
    assert (
        level.verdict == "not supported"
        and "2 of 3 are shown to be below full rollouts." in level.sentence
    )
    assert verdict("peak-between", "sweep rollout-length", lengths_of(-0.1)) == "not measured"


def selected(
    prefix: float, *tops: float, reach: float = 0.01, ending: str = "_minus_full", **more: Any
) -> list[Measurement]:
    names = ("top-reverse-kl-20", "top-all-three-20")
    rows = arm("prefix-20", prefix, reach, ending=ending)
    return rows + [
        one
        for name, top in zip(names, tops)
        for one in arm(name, top, reach, ending=ending, **more)
    ]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (selected(0.0, -0.1, -0.2), "holds"),
        (selected(0.0, 0.1, 0.2), "contradicted"),
        (selected(0.0, 0.1, 0.005), "contradicted"),
        (selected(0.0, -0.1, 0.005), "not testable here"),
        (selected(0.0, 0.1, -0.1), "undecided"),
        (selected(0.0, 0.02), "not supported"),
        (selected(0.0, 0.03), "contradicted"),
        (selected(0.0, -0.02), "not testable here"),
        (selected(0.0, 0.1, over_seeds=0.12), "not testable here"),
        (selected(0.0, 0.1, seeds=1), "undecided"),
        (selected(0.0, -0.1, ending="_minus_base"), "holds"),
        (selected(0.0), "not measured"),
        ([*arm("top-reverse-kl-20", 0.1)], "not measured"),
        # one of the user's own is none of the paper's, whatever it is called
        ([*selected(0.0), *arm("top-mine-20", 0.1)], "not measured"),
    ],
)
def test_selectors_are_worse_than_the_prefix_where_no_interval_touches(
    rows: list[Measurement], expected: str
) -> None:
    assert verdict("selectors-worse", "sweep selector", rows) == expected


def test_the_comparison_of_selectors_counts_them_and_says_that_it_is_not_paired() -> None:
    one = found("selectors-worse", made("sweep selector", selected(0.0, 0.1, 0.2)))
    assert "Of 2 selectors by KL or entropy, 2 are above the prefix and 0 below." in one.sentence
    assert (
        "top-all-three-20: +20.0 points" in one.sentence and "prefix-20: 0.0 points" in one.sentence
    )
    assert (
        "The difference of top-all-three-20 from the prefix is +20.0 points [+18.0, +22.0] over "
        "problems" in one.sentence
    )
    assert "stricter than a paired difference" in one.sentence


@pytest.mark.parametrize(
    ("suffix", "expected"), [(-0.1, "holds"), (0.1, "contradicted"), (-0.02, "not testable here")]
)
def test_the_first_tokens_are_held_against_the_last(suffix: float, expected: str) -> None:
    assert (
        verdict("first-beats-last", "sweep selector", [*selected(0.0), *arm("suffix-20", suffix)])
        == expected
    )


@pytest.mark.parametrize(
    ("claim", "selector"), [("falling-weights", "importance"), ("rising-weights", "rising")]
)
@pytest.mark.parametrize(
    ("difference", "expected"), [(0.1, "holds"), (-0.1, "contradicted"), (0.0, "not supported")]
)
def test_weights_are_held_against_uniform_ones(
    claim: str, selector: str, difference: float, expected: str
) -> None:
    assert verdict(claim, "sweep selector", arm(selector, difference)) == expected
    assert verdict(claim, "sweep selector", arm("random-20", difference)) == "not measured"


def test_seeds_that_are_all_alike_have_no_interval_and_decide_nothing() -> None:
    rows = arm("rising", 0.1, over_seeds=NAN)
    rows = [
        replace(one, note="the same for every training seed") if one.estimand == SEEDS else one
        for one in rows
    ]
    one = found("rising-weights", made("sweep selector", rows))
    assert (
        one.verdict == "undecided"
        and "no interval (+10.0, +10.0 and +10.0) over 3 seeds" in one.sentence
    )
    assert "The same for every training seed" in one.sentence


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        (
            [
                arm("prefix-5", 0.0, share=0.1, seconds=0.2),
                arm("prefix-20", 0.0, share=0.4, seconds=0.6),
            ],
            "holds",
        ),
        (
            [
                arm("prefix-5", 0.0, share=0.1, seconds=0.2),
                arm("prefix-20", 0.0, share=0.4, seconds=0.95),
            ],
            "not testable here",
        ),
        ([arm("prefix-5", 0.0, share=0.1, seconds=1.0)], "not supported"),
        ([arm("prefix-5", 0.0, share=0.1, seconds=0.2, seeds=1)], "undecided"),
        ([arm("prefix-5", 0.0, share=0.1, seconds=1.2)], "contradicted"),
        (
            [
                arm("prefix-5", 0.0, share=0.1, seconds=1.2),
                arm("prefix-20", 0.0, share=0.4, seconds=0.5),
            ],
            "undecided",
        ),
        ([arm("prefix-60", 0.0, share=0.9, seconds=0.5)], "not measured"),
        ([arm("prefix-5", 0.0, share=0.1, seconds=NAN)], "not measured"),
    ],
)
def test_early_stopping_is_cheaper_where_every_step_takes_less_time(
    arms: list[list[Measurement]], expected: str
) -> None:
    assert (
        verdict("cheaper", "sweep rollout-length", [one for rows in arms for one in rows])
        == expected
    )


def test_how_a_step_was_timed_is_told_with_its_time() -> None:
    rows = arm(
        "prefix-5", 0.0, share=0.1, seconds=0.2, seeds=1, note="timed beside up to 1 other run"
    )
    rows = [
        replace(one, note="timed beside up to 1 other run") if one.unit == "ratio" else one
        for one in rows
    ]
    one = found("cheaper", made("sweep rollout-length", rows))
    assert (
        "N = 5 takes 0.20 [0.15, 0.25] of the seconds and 0.10 of the sampled tokens"
        in one.sentence
    )
    assert "Timed beside up to 1 other run." in one.sentence and "One training seed" in one.sentence


# Several runs


def test_of_several_runs_the_one_with_the_most_problems_decides() -> None:
    small = made("prefix-decay", changes(-0.01, -0.02, problems=50), name="small")
    large = made("prefix-decay", changes(-0.1, -0.2), name="large")
    for runs in ((small, large), (large, small)):
        one = found("teacher-decay", *runs)
        assert (
            one.verdict == "holds"
            and "(large, 300 problems" in one.sentence
            and "small" not in one.sentence
        )
    assert (
        found("teacher-decay", made("prefix-decay", changes(-0.01), name="few"), small).verdict
        == "not supported"
    )


def decay_run(said: str, problems: int, name: str) -> FoundRun:
    """A run with this verdict on decay."""
    values, reach = {
        "holds": ((-0.1, -0.2), 0.03),
        "contradicted": ((0.1, 0.2), 0.03),
        "not supported": ((0.005,), 0.004),
        "undecided": ((-0.2, 0.2), 0.03),
        "not testable here": ((-0.03, 0.0), 0.03),
    }[said]
    return made("prefix-decay", changes(*values, reach=reach, problems=problems), name=name)


def test_of_several_runs_one_that_decides_goes_first_then_one_that_is_undecided() -> None:
    """Each with fewer problems than the next, which would go first by these alone."""
    deciding, less = ("holds", "contradicted", "not supported"), ("undecided", "not testable here")
    pairs = [(first, second) for first in deciding for second in less]
    for first, second in [*pairs, ("undecided", "not testable here")]:
        few, many = decay_run(first, 50, "few"), decay_run(second, 300, "many")
        for runs in ((few, many), (many, few)):
            one = found("teacher-decay", *runs)
            assert (
                one.verdict == first
                and "(few, 50 problems" in one.sentence
                and "many" not in one.sentence
            )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("holds", "contradicted", "undecided"),
        ("holds", "not supported", "undecided"),
        ("contradicted", "not supported", "contradicted"),
        ("contradicted", "undecided", "contradicted"),
        ("holds", "holds", "holds"),
        ("contradicted", "contradicted", "contradicted"),
    ],
)
def test_runs_are_in_conflict_where_one_holds_and_one_speaks_against_it(
    one: str, other: str, expected: str
) -> None:
    said = found("teacher-decay", decay_run(other, 50, "few"), decay_run(one, 300, "many"))
    assert said.verdict == expected and "(many, 300 problems" in said.sentence
    conflict = f"few alone disagrees ({other})"
    assert (conflict in said.sentence) == (expected == "undecided")
    assert set(said.evidence["problems"]) == ({50, 300} if expected == "undecided" else {300})


def test_runs_that_say_the_contrary_leave_a_claim_undecided() -> None:
    falls, rises = (
        made("prefix-decay", changes(sign * 0.1), name=name)
        for sign, name in ((-1, "first"), (1, "second"))
    )
    one = found("teacher-decay", falls, rises)
    assert one.verdict == "undecided" and "second alone disagrees (contradicted)" in one.sentence
    assert len(one.evidence) == 2


def test_a_run_that_lacks_what_a_claim_asks_is_passed_over() -> None:
    base_only = made("position-kl", bins(0.5, 0.3), name="base-only")
    trained = made("position-kl", ratios("prefix-20-seed-0", 0.8, 0.8), name="trained")
    assert "(trained," in found("cascade", base_only, trained).sentence
    assert "(base-only," in found("early-kl", trained, base_only).sentence
    assert verdict("teacher-decay", "signals", changes(-0.1)) == "not measured", (
        "rows of another command"
    )


def test_an_empty_table_measures_nothing() -> None:
    runs = [
        made(command, []) for command in {command for claim in CLAIMS for command in claim.commands}
    ]
    assert {one.verdict for one in judge(runs)} == {"not measured"}


# The embedded pair


@pytest.fixture(scope="module")
def measured() -> dict[str, Finding]:
    return {one.claim.name: one for one in judge(found_runs.find([MEASURED]))}


def test_the_verdicts_on_the_embedded_pair_are_those_of_its_page(
    measured: dict[str, Finding],
) -> None:
    assert {name: one.verdict for name, one in measured.items()} == {
        "own-prefix": "holds",
        "teacher-decay": "holds",
        "content": "holds",
        "scores-stay-corrective": "not measured",
        "early-kl": "not testable here",
        "concentrated-kl": "holds",
        "position-uncertainty": "not measured",
        "early-stopping-beats-full": "contradicted",
        "peak-between": "not supported",
        "cascade": "undecided",
        "selectors-worse": "contradicted",
        "first-beats-last": "not testable here",
        "falling-weights": "not supported",
        "rising-weights": "undecided",
        "sub-mode": "undecided",
        "collapse": "undecided",
        "several-boxes": "undecided",
        "shorter-responses": "undecided",
        "longer-responses": "undecided",
        "cheaper": "undecided",
    }


def test_the_numbers_of_its_page_stand_in_the_sentences(measured: dict[str, Finding]) -> None:
    for name, said in (
        ("teacher-decay", "-4.2 points [-6.6, -1.8]"),
        ("teacher-decay", "39 tokens [33, 44]"),
        (
            "early-stopping-beats-full",
            "-11.9 points [-14.3, -9.5] over problems, [-12.4, -11.4] over 3 seeds",
        ),
        ("cascade", "0.80 [0.74, 0.86] on its own rollouts and 0.85 [0.82, 0.88]"),
        ("selectors-worse", "Of 10 selectors by KL or entropy, 10 are above the prefix"),
        ("early-kl", "rollouts of 217 of the 300 problems reach"),
        ("concentrated-kl", "87.5 % [86.6, 88.4]"),
    ):
        assert said in measured[name].sentence, measured[name].sentence


def test_every_number_of_a_finding_stands_in_its_evidence(measured: dict[str, Finding]) -> None:
    for name, one in measured.items():
        numbers = (
            pd.concat([one.evidence[column] for column in ("value", "low", "high")]).abs().dropna()
        )
        shown = {
            f"{scale * number:.{digits}f}"
            for number in numbers
            for scale in (1, 100)
            for digits in (0, 1, 2, 3)
        }
        for interval in re.findall(r"\[([^\]]+)\]", one.sentence):
            for end in interval.split(", "):
                assert end.lstrip("+-") in shown, f"{name}: {end}"
