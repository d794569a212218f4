"""A number decides only where its intervals do, and words say it without a NaN, an infinity or a
-0."""

from __future__ import annotations

import math

import pytest
from made_runs import made, row
from scipy import stats

from decaylab.claims.verdicts import (
    POINTS,
    Claim,
    Effect,
    Number,
    Verdict,
    apart,
    decided,
    every,
    fewest,
    pick,
    remedy,
    seeds_remedy,
    seeds_words,
    side,
    some,
    together,
    widened,
)
from decaylab.claims.wording import (
    RATIO,
    Style,
    arm_points,
    listed,
    p_words,
    percent,
    points,
    sentence,
)
from decaylab.runs.measurements import COLUMNS, Measurement, to_frame

NAN = math.nan


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.001, 0.2, 1),
        (-0.2, -0.001, -1),
        (-0.1, 0.1, 0),
        (0.0, 0.2, 0),
        (-0.2, 0.0, 0),
        (NAN, 0.2, 0),
        (0.1, NAN, 0),
    ],
)
def test_a_side_is_shown_where_the_interval_leaves_out_0_and_not_where_it_touches(
    low: float, high: float, expected: int
) -> None:
    assert side(row("x", 0.1, low=low, high=high)) == expected


@pytest.mark.parametrize(("p", "expected"), [(0.049, 1), (0.05, 0), (0.2, 0), (NAN, 1)])
def test_a_corrected_p_value_must_agree_where_there_is_one(p: float, expected: int) -> None:
    assert side(row("x", 0.1, p_value_holm=p)) == expected
    assert side(row("x", 0.1, p_value=0.9)) == 1, "an uncorrected one is not asked"


def test_a_p_value_of_a_difference_from_0_is_not_asked_at_another_bound() -> None:
    assert side(row("x", 0.1, p_value_holm=0.9), at=0.05) == 1
    assert side(row("x", 0.1), at=0.2) == -1 and side(row("x", 0.1), at=0.105) == 0


def test_intervals_of_less_than_95_percent_and_numbers_under_their_floor_decide_nothing() -> None:
    assert side(row("x", 0.1, level=0.9)) == 0 and side(row("x", 0.1, level=0.99)) == 1
    assert side(row("x", 0.1, under_floor=True)) == 0
    assert apart(row("x", 0.1, level=0.9), row("x", 0.5)) == 0
    assert apart(row("x", 0.1), row("x", 0.5, under_floor=True)) == 0


def test_two_numbers_are_apart_where_their_intervals_do_not_touch() -> None:
    low, high = row("x", 0.1, 0.1), row("x", 0.31, 0.1)
    assert apart(low, high) == -1 and apart(high, low) == 1
    assert apart(low, row("x", 0.3, 0.1)) == 0, "they touch at 0.2"
    assert apart(low, row("x", NAN)) == 0
    touching = row("x", 0.25, 0.125), row("x", 0.5, 0.125)  # exactly, at 0.375
    assert apart(*touching) == apart(*touching[::-1]) == 0


def number(
    over_problems: Measurement, over_seeds: Measurement | None, seeds: int, steps: float = 100.0
) -> Number:
    return Number(
        (over_problems,), over_seeds, tuple(0.1 + 0.01 * seed for seed in range(seeds)), steps
    )


# An effect of which 2 counts, by hand: its interval, and that of one that must be reached.
SIZE, REACHED = Effect(0.0, 2.0), Effect(0.0, 2.0, reached=True)


@pytest.mark.parametrize(
    ("low", "high", "shown", "reached"),
    [
        (1, 3, "holds", "not testable here"),
        (2.1, 3, "holds", "holds"),
        (0.5, 1.5, "not supported", "not supported"),
        (-1, 1, "not supported", "not supported"),
        (-1, 2, "not testable here", "not testable here"),
        (-3, 3, "not testable here", "not testable here"),
        (-3, 1, "not supported", "not supported"),
        (-3, -1, "contradicted", "contradicted"),
        (-1.5, -0.5, "not supported", "not supported"),
        (0, 3, "not testable here", "not testable here"),
        (-3, 0, "not supported", "not supported"),  # touch nothing
        (1, 2, "holds", "not testable here"),
        (2, 3, "holds", "not testable here"),  # touch what counts
        (-2, -1, "contradicted", "contradicted"),
    ],
)
def test_an_interval_decides_an_effect_by_its_direction_and_by_the_size_that_counts(
    low: float, high: float, shown: str, reached: str
) -> None:
    one = row("x", (low + high) / 2, low=low, high=high)
    turned = row("x", -(low + high) / 2, low=-high, high=-low)
    assert decided(SIZE, one) == shown and decided(REACHED, one) == reached
    assert decided(Effect(0.0, -2.0), turned) == shown, (
        "a claim in the other direction is its mirror image"
    )
    shifted = row("x", (low + high) / 2 + 7, low=low + 7, high=high + 7, p_value_holm=0.9)
    assert decided(Effect(7.0, 9.0), shifted) == shown, "the p-value is of a difference from 0"


def test_one_of_several_numbers_is_held_to_the_wider_interval() -> None:
    """Over 300 problems t goes from 1.968 to 2.825 for ten numbers: a reach of 1 becomes 1.44."""
    one = row("x", 1.3, 1.0)
    assert decided(SIZE, one) == "holds" and decided(SIZE, one, 10) == "not testable here"
    assert (
        widened(one, 10).low == pytest.approx(1.3 - 1.437, abs=1e-3)
        and widened(one, 1).low == one.low
    )
    by_three = widened(one, 10, 3)
    assert by_three.high == pytest.approx(1.3 + stats.t.ppf(0.9975, 2) / stats.t.ppf(0.975, 2))
    with_holm = row("x", 1.3, 1.0, p_value_holm=0.01)
    assert decided(SIZE, with_holm, 10) == "holds", "Holm's correction stands for it"
    for p in (0.05, 0.06):
        assert decided(SIZE, row("x", 1.3, 1.0, p_value_holm=p), 10) == "not testable here"
        assert decided(SIZE, row("x", -1.3, 1.0, p_value_holm=p), 10) == "not supported"
    small = row("x", 0.0, 1.5)
    assert decided(SIZE, small, 10) == "not supported", (
        "of one of ten each must exclude it: no correction"
    )
    assert decided(SIZE, small, 10, each=True) == "not testable here", "of all of ten one would do"


def test_by_default_a_number_stands_alone_over_its_own_problems() -> None:
    """A reach of 1 becomes 1.14 for two numbers, and 1.437 for ten over 300 problems."""
    barely = row("x", 1.05, 1.0)
    assert decided(SIZE, barely) == number(barely, barely, 3).decided(SIZE) == "holds"
    assert (
        decided(SIZE, barely, 2)
        == number(barely, barely, 3).decided(SIZE, 2)
        == "not testable here"
    )
    factor = stats.t.ppf(1 - 0.025 / 2, 299) / stats.t.ppf(0.975, 299)
    assert (widened(barely, 2).low, widened(barely, 2).high) == pytest.approx(
        (1.05 - factor, 1.05 + factor)
    )
    assert decided(SIZE, row("x", 1.45, 1.0), 10) == "holds"
    assert widened(row("x", 0.0, 1.0, problems=0), 10).high == pytest.approx(
        stats.norm.ppf(0.9975) / stats.norm.ppf(0.975)
    ), "not over problems: the normal law"


def test_numbers_of_training_are_corrected_over_problems_and_over_seeds_as_one_is() -> None:
    """Over three seeds the reach grows with t of 2 degrees of freedom: for two numbers by 6.205 /
    4.303 = 1.442."""
    sure = row("x", 1.5, 0.6)
    assert number(sure, row("x", 1.5, 1.0), 3).decided(SIZE, 2) == "holds"
    assert number(sure, row("x", 1.5, 1.1), 3).decided(SIZE, 2) == "not testable here"
    small, sure = row("x", 0.0, 1.5), row("x", 0.0, 0.1)
    assert number(small, sure, 3).decided(SIZE, 10) == "not supported"
    assert number(small, sure, 3).decided(SIZE, 10, each=True) == "not testable here"
    assert number(sure, small, 3).decided(SIZE, 10, each=True) == "not testable here"


def test_the_value_of_a_number_is_that_over_seeds_where_there_is_one() -> None:
    first, over = row("x", 3.0), row("x", 3.1)
    alone, both = number(first, None, 1), number(first, over, 3)
    assert (alone.value, alone.rows, alone.seeds) == (3.0, (first,), 1)
    assert (both.value, both.rows, both.seeds) == (3.1, (first, over), 3)
    assert math.isnan(Number((first,), None, ()).steps)


def test_the_difference_of_accuracies_that_counts_is_two_points() -> None:
    assert points(row("x", POINTS)).startswith("+2.0 points")


@pytest.mark.parametrize(
    ("problems", "expected"),
    [(0, "holds"), (1, "not testable here"), (29, "not testable here"), (30, "holds")],
)
def test_fewer_problems_than_the_least_decide_nothing(problems: int, expected: str) -> None:
    one = row("x", 3.0, 1.0, problems=problems)
    assert decided(SIZE, one) == expected, "0: no number over problems"
    assert side(one) == apart(one, row("x", 0.0)) == (expected == "holds")


@pytest.mark.parametrize(
    ("found", "of_one", "of_some", "of_every"),
    [
        ("HH", "holds", "holds", "holds"),
        ("HC", "undecided", "holds", "undecided"),
        ("HT", "not testable here", "holds", "not testable here"),
        ("HS", "undecided", "holds", "not supported"),
        ("CC", "contradicted", "contradicted", "contradicted"),
        ("CS", "not supported", "not supported", "contradicted"),
        ("CT", "not testable here", "not testable here", "contradicted"),
        ("ST", "not testable here", "not testable here", "not supported"),
        ("SS", "not supported", "not supported", "not supported"),
        ("UC", "undecided", "undecided", "contradicted"),
        ("UT", "undecided", "undecided", "undecided"),
        ("UH", "undecided", "holds", "undecided"),
        ("", "not testable here", "not testable here", "not testable here"),
    ],
)
def test_verdicts_of_several_numbers(found: str, of_one: str, of_some: str, of_every: str) -> None:
    names: dict[str, Verdict] = {
        "H": "holds",
        "C": "contradicted",
        "S": "not supported",
        "T": "not testable here",
        "U": "undecided",
    }
    said = [names[letter] for letter in found]
    assert (together(said), some(said), every(said)) == (of_one, of_some, of_every)
    assert (together(said[::-1]), some(said[::-1]), every(said[::-1])) == (
        of_one,
        of_some,
        of_every,
    )


def test_a_number_of_training_needs_three_seeds_and_the_steps_and_both_intervals() -> None:
    above, around = row("x", 3.0, 1.0), row("x", 3.0, 4.0)
    assert number(above, above, 3).decided(SIZE) == "holds"
    assert (
        number(above, around, 3).decided(SIZE)
        == number(around, above, 3).decided(SIZE)
        == "not testable here"
    )
    assert (
        number(above, row("x", 3.0, NAN), 3).decided(SIZE)
        == number(above, None, 3).decided(SIZE)
        == "undecided"
    )
    assert (
        number(above, None, 1).decided(SIZE) == number(above, above, 2).decided(SIZE) == "undecided"
    )
    assert number(above, above, 3, steps=49).decided(SIZE) == number(
        above, None, 1, steps=20
    ).decided(SIZE)
    assert number(above, above, 3, steps=49).decided(SIZE) == "not testable here"
    assert number(above, above, 3, steps=50).decided(SIZE) == "holds"
    assert number(above, above, 3, steps=NAN).decided(SIZE) == "holds", (
        "where the steps were not recorded"
    )
    level = row("x", 0.0, 1.0)
    assert (
        number(level, level, 1).decided(SIZE) == "undecided"
        and number(level, level, 3).decided(SIZE) == "not supported"
    )


def test_the_fewest_steps_are_those_of_the_seeds_whose_steps_are_known() -> None:
    assert fewest([60.0, NAN, 49.0]) == fewest([NAN, 49.0, 60.0]) == 49
    assert math.isnan(fewest([NAN, NAN])) and math.isnan(fewest([]))


# --- what would test it
# ---------------------------------------------------------------------------


def power(seeds: int, effect: float, numbers: int) -> float:
    """Of a two-sided t test at .05 over so many numbers, by scipy's noncentral t."""
    critical = stats.t.ppf(1 - 0.025 / numbers, seeds - 1)
    return float(stats.nct.sf(critical, seeds - 1, effect * math.sqrt(seeds)))


def seeds_for(effect: float, numbers: int = 1) -> int:
    return next(seeds for seeds in range(3, 1000) if power(seeds, effect, numbers) >= 0.8)


@pytest.mark.parametrize(
    ("seeds", "lead"), [(1, "One training seed is"), (2, "Two training seeds are")]
)
@pytest.mark.parametrize("numbers", [1, 2, 6])
def test_of_few_seeds_it_is_said_how_many_would_find_three_deviations(
    seeds: int, lead: str, numbers: int
) -> None:
    one, enough = row("x", 0.1), seeds_for(3, numbers)
    (said,) = seeds_words([number(one, None, seeds), *[number(one, one, 3)] * (numbers - 1)])
    assert said == (
        f"{lead} not enough: {enough} would detect an effect of 3 standard deviations between "
        f"seeds in {100 * power(enough, 3, numbers):.0f} % of "
        f"cases{f' over {numbers} numbers' if numbers > 1 else ''} "
        f"(3 seeds: {100 * power(3, 3, numbers):.0f} %)."
    )


def test_three_seeds_of_50_steps_need_no_words_and_fewer_steps_are_told() -> None:
    one = row("x", 0.1)
    assert seeds_words([number(one, one, 3, steps=steps) for steps in (50, NAN)]) == []
    said = seeds_words([number(one, one, 3, steps=steps) for steps in (49, 20, 60)])
    assert said == ["Trained for 20 steps; a verdict needs at least 50."]


def test_the_problems_that_would_do_by_hand() -> None:
    """An error of 2.8 over 100 problems, which must shrink to 1 to tell 2.8 from 0: 2.8^2 times as
    many, 784."""
    effect = Effect(1.0, 3.8)
    wide, narrow = row("x", 0.0, 1.96 * 2.8, problems=100), row("x", 0.0, 1.0, problems=200)
    told = "About 780 problems would detect the smallest effect that counts."
    assert remedy(effect, [narrow, wide]) == remedy(Effect(1.0, -1.8), [wide]) == told
    more = row("x", 0.0, 19.6, problems=1000)  # an error of 10: a hundredfold
    assert remedy(Effect(0.0, 2.8), [more]) == told.replace("780", "100,000")
    assert remedy(effect, [row("x", 0.0, math.inf), row("x", 0.0, 9.0, problems=0), wide]) == told


def test_where_the_problems_would_do_already_nothing_is_advised() -> None:
    enough = row("x", 0.0, 1.96, problems=100)
    assert remedy(Effect(0.0, 2.8), [enough]) == remedy(Effect(0.0, 2.8), []) == ""
    assert remedy(Effect(0.0, 2.8), [row("x", 0.0, math.inf)]) == ""


def test_fewer_problems_than_the_least_are_told_first() -> None:
    rows = [row("x", 0.0, 100.0, problems=problems) for problems in (0, 29, 17, 300)]
    assert remedy(SIZE, rows) == "Only 17 problems; at least 30 are needed."
    both = [row("x", 0.0, 100.0, problems=count, prefix_tokens=9.0) for count in (12, 8)]
    assert remedy(SIZE, both) == "Only 12 problems; at least 30 are needed."
    assert "Only" not in remedy(SIZE, [row("x", 0.0, 100.0, problems=30)])
    assert remedy(SIZE, [row("x", 0.0, 100.0, problems=1)]).startswith("Only 1 problem; ")
    after = [row("x", 0.0, 100.0), row("x", 0.0, 100.0, problems=8, prefix_tokens=80.0)]
    assert remedy(SIZE, after) == (
        "Only 8 problems have rollouts unfinished at 80 tokens; at least 30 are needed."
    )


def trained(*by_seed: float) -> Number:
    return Number((row("x", 0.0),), None, by_seed, 100.0)


def test_the_seeds_that_would_do_are_those_of_the_numbers_that_differ_most() -> None:
    alone, calm = trained(0.0, 2.0, 4.0), trained(0.1, 0.2, 0.3)  # deviations 2 and .1
    assert (
        seeds_remedy(Effect(1.0, 3.0), [alone])
        == f"{seeds_for(1.0)} seeds are needed at this spread between seeds."
    )
    assert seeds_remedy(Effect(1.0, -1.0), [calm, alone]).startswith(
        f"{seeds_for(1.0, 2)} seeds are needed"
    )
    assert seeds_for(1.0, 2) > seeds_for(1.0)
    assert (
        seeds_remedy(SIZE, [trained(0.0, 9.0)])
        == seeds_remedy(SIZE, [trained(1.0, 1.0, 1.0)])
        == ""
    )
    assert seeds_remedy(SIZE, [trained(0.0, 900.0), alone]).startswith(
        f"{seeds_for(1.0, 2)} seeds are needed"
    )


def test_where_the_seeds_would_do_already_or_differ_by_ten_times_the_effect_no_number_is_said() -> (
    None
):
    assert seeds_for(3.0) == 4
    four = trained(0.0, 0.0, math.sqrt(3), math.sqrt(3))  # deviation 1
    assert seeds_remedy(Effect(0.0, 3.0), [four]) == ""
    three = trained(0.0, 1.0, 2.0)
    assert seeds_remedy(Effect(0.0, 3.0), [three]).startswith("4 seeds are needed")
    assert (
        seeds_remedy(Effect(0.0, 0.1), [three])
        == "More than 100 seeds are needed at this spread between seeds."
    )
    assert seeds_remedy(Effect(0.0, 0.125), [three]).startswith(
        f"{seeds_for(0.125)} seeds are needed"
    )


# --- words
# ---------------------------------------------------------------------------


def test_rows_are_picked_by_quantity_and_columns_and_are_what_was_put_in() -> None:
    first, second = (
        row("x", 0.1, condition="a", view="open"),
        row("x", 0.2, condition="b", view="open"),
    )
    frame = to_frame([first, second, row("y", 0.3, condition="a")])
    assert [one.value for one in pick(frame, "x", view="open")] == [0.1, 0.2]
    assert [one.value for one in pick(frame, "x", condition="a")] == [0.1], (
        "not the y of that condition"
    )
    (found,) = pick(frame, "x", condition="b")
    assert (
        isinstance(found, Measurement)
        and found.low == second.low
        and math.isnan(found.prefix_tokens)
    )
    assert (
        tuple(made("signals", [first]).measurements.columns) == COLUMNS
        and pick(to_frame([]), "x") == []
    )


def test_numbers_read_as_a_person_writes_them() -> None:
    one = row("x", -0.0417, low=-0.0683, high=-0.0177)
    assert points(one) == "-4.2 points [-6.8, -1.8]"
    assert percent(row("x", 0.8842, low=0.852, high=0.91)) == "88.4 % [85.2, 91.0]"
    assert (
        Style(" nats", 3).number(row("x", 0.2273, low=0.2149, high=0.2409))
        == "0.227 nats [0.215, 0.241]"
    )
    assert points(row("x", 0.0, low=-0.0004, high=0.0004)) == "0.0 points [0.0, 0.0]"
    assert RATIO.number(row("x", -0.001, low=-0.002, high=0.002)) == "0.00 [0.00, 0.00]"
    assert points(row("x", 0.1, NAN)) == "+10.0 points (no interval)"
    half = row("x", 0.1, low=NAN), row("x", 0.1, high=NAN)
    assert [points(one) for one in half] == ["+10.0 points (no interval)"] * 2, (
        "one end is no interval"
    )
    assert (
        points(row("x", NAN, note="no rollouts")) == "undefined (no rollouts)"
        and points(row("x", NAN)) == "undefined"
    )
    assert points(row("x", 0.1, 0.02, level=0.9)) == "+10.0 points [90 %: +8.0, +12.0]"


def test_both_intervals_of_an_arm_are_told_and_only_one_of_a_single_seed() -> None:
    over = row("x", -0.119, low=-0.124, high=-0.114)
    value = row("x", -0.119, low=-0.143, high=-0.095)
    assert arm_points(Number((value,), over, (-0.12, -0.119, -0.118))) == (
        "-11.9 points [-14.3, -9.5] over problems, [-12.4, -11.4] over 3 seeds"
    )
    told = arm_points(Number((value,), row("x", -0.119, NAN), (-0.4, 0.022, 0.021)))
    assert told.endswith("over problems, no interval (-40.0, +2.2 and +2.1) over 3 seeds")
    assert arm_points(Number((value,), None, (-0.13, -0.11))).endswith(
        ", no interval (-13.0 and -11.0) over 2 seeds"
    )
    assert arm_points(Number((value,), over, (-0.119,))) == "-11.9 points [-14.3, -9.5]"


@pytest.mark.parametrize(
    ("p", "words"),
    [
        (0.0004, "p < 0.001"),
        (0.001, "p = 0.001"),
        (0.9994, "p = 0.999"),
        (0.002, "p = 0.002"),
        (0.0496, "p = 0.050"),
        (0.9995, "p = 1.000"),
        (0.9999, "p = 1.000"),
        (0.5, "p = 0.500"),
    ],
)
def test_p_values_are_told_with_three_places(p: float, words: str) -> None:
    assert p_words(row("x", 0.1, p_value_holm=p)) == f", {words} by Holm"
    assert p_words(row("x", 0.1)) == ""


def test_a_claim_is_no_control_unless_it_says_so() -> None:
    assert not Claim(
        "name", "text", "question", "place", "rule", "needs", ("command",), "figure"
    ).control


def test_lists_read_aloud() -> None:
    assert listed([5.0, 10.0, 20.0]) == "5, 10 and 20" and listed(["a", "b"]) == "a and b"
    assert listed(["a"]) == "a" and listed([]) == ""


def test_a_mean_over_seeds_is_told_with_its_interval_and_nothing_of_one_seed() -> None:
    value = row("x", 0.8, low=0.7, high=0.9)
    several = Number((value,), row("x", 0.81, low=0.75, high=0.88), (0.8, 0.81, 0.82))
    told = RATIO.mean(several, " on its own rollouts")
    assert told == "Mean on its own rollouts 0.81, [0.75, 0.88] over 3 seeds."
    assert RATIO.mean(Number((value,), None, (0.8,))) == ""


def test_a_sentence_has_a_capital_and_a_full_stop() -> None:
    assert sentence("the seeds disagree") == "The seeds disagree."
