"""How numbers are printed: against the decimal arithmetic that a person would do."""

import math
from fractions import Fraction

import pytest

from decaylab import printing


@pytest.mark.parametrize("samples", [2000, 500, 1319, 64])
def test_every_possible_accuracy_is_rounded_half_away_from_zero(samples):
    for correct in range(samples + 1):
        tenths = Fraction(1000 * correct, samples)
        nearest = math.floor(tenths + Fraction(1, 2))
        shown = printing.in_unit(correct / samples, "fraction")
        assert shown == f"{nearest // 10}.{nearest % 10}", (correct, samples)


def test_nine_of_two_thousand_is_half_a_percent():
    assert printing.in_unit(9 / 2000, "fraction") == "0.5"  # 0.45: binary formatting says 0.4
    assert printing.in_unit(-9 / 2000, "fraction", signed=True) == "-0.5"


@pytest.mark.parametrize(
    "value, low, high, unit, shown",
    [
        (0.654, 0.608, 0.698, "fraction", "65.4 [60.8, 69.8]"),
        (0.654, math.nan, math.nan, "fraction", "65.4"),
        (math.nan, 0.1, 0.2, "fraction", printing.UNDEFINED),
        (0.28849, 0.2421, 0.343, "nats", "0.288 [0.242, 0.343]"),
        (1480.4, 12.34, math.inf, "tokens", "1,480.4 [12.3, \u221e]"),
        (0.00091, 0.0, 0.5, "nats", "9.1e-4 [0, 0.500]"),
    ],
)
def test_a_value_stands_before_its_interval(value, low, high, unit, shown):
    assert printing.with_interval(value, low, high, unit) == shown


def test_a_difference_carries_its_sign_and_zero_has_none():
    shown = printing.with_interval(0.02, -0.01, 0.05, "fraction", signed=True)
    assert shown == "+2.0 [-1.0, +5.0]"
    assert printing.rounded(-0.0001, 1, signed=True) == "0.0"


@pytest.mark.parametrize(
    "duration, shown",
    [(0.4, "0 s"), (119.4, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2.0 h")],
)
def test_durations(duration, shown):
    assert printing.seconds(duration) == shown


def test_sizes_and_p_values():
    assert printing.gib(1.005 * 2**30) == "1.01" and printing.gib(12.34 * 2**30) == "12.3"
    assert printing.p_value(0.0004) == "<0.001" and printing.p_value(0.0125) == "0.013"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(6.4e-8, "6e-8"), (2.5e-2, "3e-2"), (9.6e-3, "1e-2"), (0.0, "0"), (math.nan, "\u2013")],
)
def test_a_noise_floor_has_one_digit_and_its_power_of_ten(value, shown):
    assert printing.magnitude(value) == shown
