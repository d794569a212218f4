"""The recommended length is the smaller of two, every number stands in the frames, and what forbids
one is said."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from decaylab.claims.advice import Advice, advise
from decaylab.runs.measurements import Measurement, to_frame

NAN, INF = float("nan"), math.inf
POSITION = Measurement(
    "cumulative_kl_position",
    "survivors",
    86.4,
    "tokens",
    view="fresh",
    checkpoint="base",
    low=80.2,
    high=95.3,
)
GAP = Measurement(
    "teacher_advantage", "student-prefix", 0.221, "fraction", view="all", low=0.182, high=0.264
)
HALF = Measurement(
    "half_decay_length", "student-prefix", 141.0, "tokens", view="open", low=112.0, high=193.0
)


def signals(
    position: Measurement = POSITION, floor: float = 0.001, under: tuple[bool, ...] = (False,) * 3
) -> pd.DataFrame:
    """The base student's rows up to its horizon of 400 tokens, and those of a checkpoint that must
    not be read."""
    bins = [
        replace(
            POSITION,
            what="reverse_kl",
            condition="all",
            value=0.5,
            unit="nats",
            position_low=low,
            position_high=high,
            noise_floor=floor,
            under_floor=flag,
        )
        for low, high, flag in zip((0.0, 100.0, 400.0), (100.0, 400.0, INF), under)
    ]
    stated = [
        replace(position, what="cumulative_kl_horizon", value=400.0, low=NAN, high=NAN),
        replace(
            position, what="cumulative_kl_threshold", value=0.45, unit="fraction", low=NAN, high=NAN
        ),
    ]
    other = [
        replace(row, checkpoint="step-50", value=7.0, low=7.0, high=7.0)
        for row in (position, *stated)
    ]
    mass = replace(position, condition="mass", value=11.0, low=11.0, high=11.0)
    return to_frame([*other, mass, *bins, *stated, position])


def decay(
    half: Measurement | None = HALF,
    gap: Measurement = GAP,
    lengths: tuple[int, ...] = (32, 64, 128),
) -> pd.DataFrame:
    """A curve that falls by 3 points and keeps .1 less for each 32 tokens; the carry-forward rows
    must not be read."""
    rows = [gap] if half is None else [gap, half]
    for length in lengths:
        place = {"view": "open", "prefix_tokens": float(length), "rollouts": 40}
        change = Measurement(
            "accuracy_difference",
            "student-prefix",
            -0.03 * length / 32,
            "fraction",
            low=-0.05 * length / 32,
            high=-0.01 * length / 32,
            **place,
        )
        left = Measurement(
            "retained_advantage", "student-prefix", 1 - 0.1 * length / 32, "fraction", **place
        )
        rows += [
            change,
            left,
            replace(change, view="carry-forward", value=-0.9),
            replace(change, condition="swapped"),
        ]
    return to_frame(rows)


def refused(advice: Advice, *words: str) -> None:
    assert advice.recommended is None and advice.text.startswith(
        "No rollout length is recommended: "
    )
    assert all(word in advice.text for word in words), advice.text
    assert "\n" not in advice.text and "nan" not in advice.text.lower()


def test_the_smaller_of_the_two_lengths_is_recommended_with_its_evidence() -> None:
    advice = advise(signals(), decay())
    assert advice.recommended == 86
    for said in (
        "Recommended rollout length: 86 tokens (interval 80 to 95), by the cumulative KL: the "
        "smaller of two lengths.",
        "advantage over the student is 22.1 points (95 % interval 18.2 to 26.4)",
        "halved after 141 (95 % interval 112 to 193) student tokens.",
        "45 % of the base student's reverse KL over the first 400 tokens lies in the first 86 (95 "
        "% interval 80 to 95).",
        "With 64 student tokens before it, the teacher's accuracy changes by -6.0 points (95 % "
        "interval -10.0 to -2.0), "
        "and 80 % of its advantage is left.",
        "has been shown to be the best one for training",
        "checked by its authors on two pairs, at 45 % (arXiv 2605.27028)",
        "train with 43 and 172 tokens",
    ):
        assert said in advice.text, advice.text
    assert "\n" not in advice.text


@pytest.mark.parametrize(("low", "high"), [(NAN, NAN), (NAN, 0.264), (0.182, NAN)])
def test_an_advantage_without_an_interval_is_no_absent_one(low: float, high: float) -> None:
    advice = advise(signals(), decay(gap=replace(GAP, low=low, high=high)))
    refused(advice, "the teacher's advantage has no interval: too few problems")
    assert "none that could be lost" not in advice.text


def test_half_decay_decides_where_it_comes_first() -> None:
    advice = advise(signals(), decay(replace(HALF, value=40.3, low=33.0, high=47.0)))
    assert advice.recommended == 40 and "(interval 33 to 47), by the half-decay" in advice.text
    assert "With 32 student tokens before it" in advice.text


def test_of_two_equal_lengths_the_published_one_is_named() -> None:
    advice = advise(signals(), decay(replace(HALF, value=POSITION.value)))
    assert advice.recommended == 86 and "by the cumulative KL" in advice.text


def test_the_interval_is_that_of_the_smaller_length() -> None:
    """Overlapping: 80 to 95 and 60 to 193 leave 60 to 95, since either may be the smaller one."""
    advice = advise(signals(), decay(replace(HALF, value=100.0, low=60.0)))
    assert advice.recommended == 86 and "(interval 60 to 95)" in advice.text


def test_a_wide_interval_of_the_larger_length_forbids_nothing() -> None:
    advice = advise(signals(), decay(replace(HALF, low=90.0, high=INF)))
    assert advice.recommended == 86 and "interval 90 to beyond the longest prefix" in advice.text


def test_every_number_of_the_paragraph_stands_in_the_frames() -> None:
    """Other numbers in, other numbers out: what is left of the text without numbers is the same."""
    one = advise(signals(), decay())
    shifted = replace(POSITION, value=51.0, low=45.0, high=58.0, level=0.9)
    two = advise(
        signals(shifted),
        decay(replace(HALF, value=222.0, low=201.0, high=240.0), replace(GAP, value=0.3)),
    )
    number = re.compile(r"-?\d+(\.\d+)?")
    left = [number.sub("#", advice.text.replace("arXiv 2605.27028", "")) for advice in (one, two)]
    assert left[0] == left[1] and one.text != two.text
    assert (
        "90 % interval 45 to 58" in two.text
        and "51 tokens" in two.text
        and "30.0 points" in two.text
    )


def test_without_a_decay_run_its_command_is_named_and_the_kl_is_still_told() -> None:
    refused(advise(signals(), None), "`decaylab prefix-decay`", "lies in the first 86")


def test_a_teacher_without_an_advantage_is_no_base_for_a_length() -> None:
    for gap in (
        replace(GAP, value=0.01, low=-0.02),
        replace(GAP, low=0.0),
        replace(GAP, value=-0.1, low=-0.2, high=-0.05),
    ):
        refused(advise(signals(), decay(gap=gap)), "none that could be lost")


def test_an_undefined_length_is_told_with_its_reason() -> None:
    undefined = replace(
        HALF, value=NAN, low=NAN, high=NAN, note="at prefix length 64: no advantage there"
    )
    refused(
        advise(signals(), decay(undefined)),
        "half-decay length is undefined (at prefix length 64",
        "22.1 points",
    )
    empty = replace(POSITION, value=NAN, low=NAN, high=NAN, note="no KL up to the horizon")
    refused(
        advise(signals(empty), decay()),
        "cumulative KL is undefined (no KL up to the horizon)",
        "halved after 141",
    )
    refused(advise(signals(), decay(half=None)), "continued no prefix")
    trained = signals()
    refused(
        advise(trained[trained.checkpoint != "base"], decay()),
        "signals of the base student were not measured",
    )


@pytest.mark.parametrize("missing", ["position", "horizon", "threshold"])
def test_a_cumulative_kl_of_which_a_part_is_missing_was_not_measured(missing: str) -> None:
    table = signals()
    there = table[table["what"] != f"cumulative_kl_{missing}"]
    refused(
        advise(there, decay()), "signals of the base student were not measured", "halved after 141"
    )


def test_lengths_without_an_interval_are_not_recommended() -> None:
    lone = advise(signals(replace(POSITION, low=NAN, high=NAN)), decay())
    assert lone.recommended is None and "one of the two lengths has no interval" in lone.text


def test_an_interval_of_more_than_a_factor_of_four_is_too_wide() -> None:
    """20 to 80 is a factor of 4 and passes, 19.9 to 80 does not; nor does one from 0."""
    assert (
        advise(signals(replace(POSITION, value=50.0, low=20.0, high=80.0)), decay()).recommended
        == 50
    )
    for low in (19.9, 0.0):
        wide = advise(signals(replace(POSITION, value=50.0, low=low, high=80.0)), decay())
        refused(
            wide,
            f"interval of the smaller length, {low:.0f} to 80 tokens, spans more than a factor of "
            "4",
        )


def test_a_curve_that_was_not_halved_bounds_the_length_as_far_as_it_goes() -> None:
    open_end = replace(HALF, value=INF, low=110.0, high=INF)
    within = advise(signals(), decay(open_end))
    assert within.recommended == 86 and "not halved within 128 student tokens" in within.text
    assert "(interval from 110)" in within.text and "inf" not in within.text
    refused(
        advise(signals(), decay(open_end, lengths=(32, 64))),
        "beyond the longest prefix of the decay curve, 64 tokens",
    )
    assert "interval from" not in advise(signals(), decay(replace(open_end, low=INF))).text


def test_a_length_that_reaches_the_longest_prefix_lies_within_the_curve() -> None:
    open_end = replace(HALF, value=INF, low=110.0, high=INF)
    at_the_end, beyond = (
        replace(POSITION, value=value, low=100.0, high=160.0) for value in (128.0, 128.1)
    )
    assert advise(signals(at_the_end), decay(open_end)).recommended == 128
    refused(
        advise(signals(beyond), decay(open_end)),
        "beyond the longest prefix of the decay curve, 128 tokens",
    )


def test_one_open_rollout_makes_a_point_of_the_curve() -> None:
    curve = decay(replace(HALF, value=INF, low=110.0, high=INF))
    curve.loc[curve["prefix_tokens"] == 128, "rollouts"] = 1
    assert "not halved within 128 student tokens" in advise(signals(), curve).text
    curve.loc[curve["prefix_tokens"] == 128, "rollouts"] = 0
    assert "not halved within 64 student tokens" in advise(signals(), curve).text


def test_the_longest_prefix_is_that_of_the_students_own_prefixes_where_a_rollout_was_still_open() -> (  # noqa: E501
    None
):
    """A control was measured at 512 tokens, the student's prefixes at 256 with no rollout left and
    at 512 on carried ones."""
    own = Measurement(
        "accuracy_difference",
        "student-prefix",
        -0.1,
        "fraction",
        view="open",
        prefix_tokens=256.0,
        rollouts=0,
    )
    others = [
        own,
        replace(own, view="carry-forward", prefix_tokens=512.0, rollouts=40),
        replace(own, condition="teacher-prefix", prefix_tokens=512.0, rollouts=40),
        replace(own, what="retained_advantage", prefix_tokens=512.0, rollouts=40),
    ]
    open_end = replace(HALF, value=INF, low=110.0, high=INF)
    curve = pd.concat([decay(open_end), to_frame(others)], ignore_index=True)
    assert "not halved within 128 student tokens" in advise(signals(), curve).text
    far = replace(POSITION, value=300.0, low=200.0, high=390.0)
    refused(advise(signals(far), curve), "beyond the longest prefix of the decay curve, 128 tokens")
    late = pd.concat(
        [
            decay(open_end, lengths=(128,)),
            to_frame([replace(one, prefix_tokens=16.0) for one in others]),
        ]
    )
    assert "The shortest prefix measured, 128 tokens, is longer" in advise(signals(), late).text


def test_kl_under_its_noise_floor_before_the_horizon_forbids_a_length() -> None:
    refused(
        advise(signals(under=(False, True, False)), decay()),
        "under twice its noise floor in 1 of 2 position bins",
    )
    assert advise(signals(under=(False, False, True)), decay()).recommended == 86, (
        "beyond the horizon it has no part"
    )


def test_an_unmeasured_noise_floor_is_said() -> None:
    assert (
        "of the base student's reverse KL over the first 400 tokens lies in the first 86 (95 % "
        "interval 80 to 95) "
        "(its noise floor was not measured)."
    ) in advise(signals(floor=NAN), decay()).text
    assert "noise floor" not in advise(signals(), decay()).text


def test_several_obstacles_are_all_told() -> None:
    both = advise(signals(under=(True, True, False)), decay(gap=replace(GAP, low=-0.1)))
    refused(both, "in 2 of 2 position bins", "none that could be lost")


def test_a_curve_measured_only_beyond_the_length_says_so() -> None:
    advice = advise(signals(), decay(lengths=(128, 256)))
    assert "The shortest prefix measured, 128 tokens, is longer than that." in advice.text


@pytest.mark.parametrize(("tokens", "told"), [(63.4, 32), (63.6, 64), (64.0, 64)])
def test_the_curve_is_told_at_the_longest_prefix_within_the_length(
    tokens: float, told: int
) -> None:
    text = advise(signals(replace(POSITION, value=tokens, low=50.0)), decay()).text
    assert (
        f"With {told} student tokens before it, the teacher's accuracy changes by "
        f"-{0.09375 * told:.1f} points" in text
    )


def test_a_curve_tells_its_change_where_no_share_of_the_advantage_is_defined() -> None:
    curve = decay()
    retained = curve["what"] == "retained_advantage"
    for one in (curve[~retained], curve.assign(value=curve["value"].mask(retained))):
        text = advise(signals(), one).text
        assert (
            "changes by -6.0 points (95 % interval -10.0 to -2.0). Neither" in text
            and "nan" not in text
        )


@pytest.mark.parametrize(
    ("value", "tokens", "beside"),
    [(0.2, 1, "2"), (1.4, 1, "2"), (1.6, 2, "1 and 4"), (2.6, 3, "1 and 6")],
)
def test_a_length_is_at_least_one_token_and_no_length_is_advised_twice(
    value: float, tokens: int, beside: str
) -> None:
    early = replace(POSITION, value=value, low=value / 1.2, high=value * 1.2)
    advice = advise(signals(early), decay())
    assert (
        advice.recommended == tokens
        and f"Also train with {beside} tokens, to compare" in advice.text
    )
