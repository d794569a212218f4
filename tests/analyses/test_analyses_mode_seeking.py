"""Mode seeking: the forward fit in closed form, the reverse fits by another quadrature and by
trying every student."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad

from decaylab.analyses import mode_seeking
from decaylab.analyses.mode_seeking import ModeSeeking, Settings
from decaylab.runs.measurements import COLUMNS

DEFAULT = Settings()
FAR = Settings((0.8, 0.2), (-10.0, 12.0), (1.5, 0.5))
EVEN = Settings((0.5, 0.5), (-2.0, 2.0), (0.7, 0.7))
FITTED = ["mean", "standard_deviation"]
# Gauss-Hermite: sums over these places and weights are means over a standard Gaussian.
PLACES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@pytest.fixture(scope="module")
def computed() -> ModeSeeking:
    return mode_seeking.fit()


def log_normal(x: Any, mean: float, deviation: float) -> Any:
    return -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi))


def modes(settings: Settings) -> Iterator[tuple[float, float, float]]:
    return zip(settings.weights, settings.means, settings.standard_deviations, strict=True)


def log_teacher(settings: Settings, x: Any) -> Any:
    return np.logaddexp.reduce(
        [math.log(weight) + log_normal(x, *mode) for weight, *mode in modes(settings)]
    )


def mean_over(
    settings: Settings, mean: float, deviation: float, integrand: Callable[[float], float]
) -> float:
    """Of a function of the line over a Gaussian, by adaptive quadrature."""
    inside = [at for at in settings.means if abs(at - mean) < 12 * deviation]
    edges = mean - 12 * deviation, mean + 12 * deviation
    weighed = lambda x: math.exp(log_normal(x, mean, deviation)) * integrand(x)  # noqa: E731
    return float(quad(weighed, *edges, points=inside, limit=200)[0])


def kl_of_student_from_teacher(settings: Settings, mean: float, deviation: float) -> float:
    """E over the student of log s - log t."""
    ratio = lambda x: log_normal(x, mean, deviation) - log_teacher(settings, x)  # noqa: E731
    return mean_over(settings, mean, deviation, ratio)


def kl_of_teacher_from_student(settings: Settings, mean: float, deviation: float) -> float:
    """E over the teacher of log t - log s, a mode at a time."""
    ratio = lambda x: log_teacher(settings, x) - log_normal(x, mean, deviation)  # noqa: E731
    return sum(
        weight * mean_over(settings, at, spread, ratio) for weight, at, spread in modes(settings)
    )


def fits(result: ModeSeeking, kind: str) -> pd.DataFrame:
    """A row for each fit of a direction, a column for each quantity."""
    rows = result.measurements
    return rows[rows.condition.str.startswith(kind)].pivot(
        index="condition", columns="what", values="value"
    )


def lowest_places(settings: Settings, step: float) -> list[tuple[float, float]]:
    """Where the reverse KL is lower than at all eight neighbours, of students with every mean and
    standard deviation."""
    means, deviations = np.arange(-4.0, 4.0, step), np.arange(0.2, 4.0, step)
    table = np.empty((len(means), len(deviations)))
    for (i, mean), (j, sd) in itertools.product(enumerate(means), enumerate(deviations)):
        x = mean + sd * PLACES
        table[i, j] = WEIGHTS @ (log_normal(x, mean, sd) - log_teacher(settings, x))
    inner = table[1:-1, 1:-1]
    sides = [(i, j) for i, j in itertools.product(range(3), repeat=2) if (i, j) != (1, 1)]
    around = [table[i : i + inner.shape[0], j : j + inner.shape[1]] for i, j in sides]
    return [(means[i + 1], deviations[j + 1]) for i, j in np.argwhere((inner < around).all(axis=0))]


@pytest.mark.parametrize("settings", [DEFAULT, FAR, EVEN])
def test_the_forward_fit_has_the_mean_and_the_variance_of_the_whole_teacher(
    settings: Settings,
) -> None:
    (fit,) = fits(mode_seeking.fit(settings), "forward-kl").itertuples()
    mean = sum(weight * at for weight, at, _ in modes(settings))
    variance = sum(weight * (spread**2 + at**2) for weight, at, spread in modes(settings)) - mean**2
    assert fit.mean == pytest.approx(mean, abs=1e-7) and fit.standard_deviation**2 == pytest.approx(
        variance, rel=1e-7
    )


def test_the_forward_fit_of_the_default_teacher_by_hand(computed: ModeSeeking) -> None:
    (fit,) = fits(computed, "forward-kl").itertuples()
    # 0.65 x -2 + 0.35 x 2 = -0.6; 0.65 x 0.49 + 0.35 x 0.25 + 4 - 0.36 = 4.046
    assert fit.mean == pytest.approx(-0.6, abs=1e-7) and fit.standard_deviation == pytest.approx(
        4.046**0.5, rel=1e-7
    )


@pytest.mark.parametrize("settings", [DEFAULT, EVEN])
def test_the_reverse_fits_are_the_minima_found_by_trying_every_student(settings: Settings) -> None:
    step = 0.05
    tried = lowest_places(settings, step)
    found = fits(mode_seeking.fit(settings), "reverse-kl")
    np.testing.assert_allclose(
        sorted(tried), sorted(found[FITTED].itertuples(index=False)), atol=step
    )


@pytest.mark.parametrize("settings", [DEFAULT, FAR])
def test_each_reverse_fit_sits_on_one_mode_and_costs_the_log_of_its_weight(
    settings: Settings,
) -> None:
    found = fits(mode_seeking.fit(settings), "reverse-kl")
    assert list(found.index) == ["reverse-kl-1", "reverse-kl-2"], (
        "the heavier mode, whose KL is lower, first"
    )
    near = 0.01 if settings is DEFAULT else 1e-6  # 4 or 22 apart
    np.testing.assert_allclose(found["mean"], settings.means, atol=near)
    np.testing.assert_allclose(found.standard_deviation, settings.standard_deviations, atol=near)
    np.testing.assert_allclose(found.reverse_kl, -np.log(settings.weights), atol=near)


@pytest.mark.parametrize("kind", ["forward-kl", "reverse-kl"])
def test_both_divergences_of_a_fit_agree_with_another_quadrature(
    computed: ModeSeeking, kind: str
) -> None:
    for fit in fits(computed, kind).itertuples():
        place = DEFAULT, fit.mean, fit.standard_deviation
        assert fit.reverse_kl == pytest.approx(kl_of_student_from_teacher(*place), rel=1e-7)
        assert fit.forward_kl == pytest.approx(kl_of_teacher_from_student(*place), rel=1e-7)
        assert abs(fit.reverse_kl - fit.forward_kl) > 0.1, "a swap would be seen"


@pytest.mark.parametrize("kind", ["forward-kl", "reverse-kl"])
def test_a_step_to_any_side_of_a_fit_leaves_its_own_divergence_flat_and_not_the_other(
    computed: ModeSeeking, kind: str
) -> None:
    own, other = kl_of_teacher_from_student, kl_of_student_from_teacher
    own, other = (own, other) if kind == "forward-kl" else (other, own)
    for fit in fits(computed, kind).itertuples():
        assert np.abs(slopes(own, fit.mean, fit.standard_deviation)).max() < 1e-4
        assert np.abs(slopes(other, fit.mean, fit.standard_deviation)).max() > 0.1


def slopes(
    divergence: Callable[..., float], mean: float, sd: float, step: float = 1e-3
) -> list[float]:
    """By the mean and by the standard deviation, from finite differences."""
    sides = ((mean + step, sd), (mean - step, sd)), ((mean, sd + step), (mean, sd - step))
    return [
        (divergence(DEFAULT, *up) - divergence(DEFAULT, *down)) / (2 * step) for up, down in sides
    ]


def test_where_the_modes_lie_close_one_student_holds_both() -> None:
    close = Settings((0.6, 0.4), (-0.5, 0.5), (1.0, 1.0))
    (fit,) = fits(mode_seeking.fit(close), "reverse-kl").itertuples()
    assert -0.5 < fit.mean < 0.5 and fit.standard_deviation > 1.0 and fit.reverse_kl < 0.001


def test_beside_two_equal_modes_a_wide_student_over_both_is_a_third_minimum() -> None:
    found = fits(mode_seeking.fit(EVEN), "reverse-kl")
    assert list(np.round(found["mean"].sort_values(), 2)) == [-1.98, 0, 1.98]
    assert found.reverse_kl.idxmax() == "reverse-kl-3" == found.standard_deviation.idxmax()


def test_a_change_of_units_changes_the_fits_by_it_and_no_divergence() -> None:
    small = Settings(DEFAULT.weights, (-2e-4, 2e-4), (0.7e-4, 0.5e-4))
    for kind in ("forward-kl", "reverse-kl"):
        one, other = fits(mode_seeking.fit(), kind), fits(mode_seeking.fit(small), kind)
        np.testing.assert_allclose(one[FITTED] * 1e-4, other[FITTED], rtol=1e-6)
        np.testing.assert_allclose(
            one[["forward_kl", "reverse_kl"]], other[["forward_kl", "reverse_kl"]], rtol=1e-6
        )


def test_curves_are_the_densities_of_what_the_rows_say(computed: ModeSeeking) -> None:
    curves = {str(name): rows for name, rows in computed.curves.groupby("curve", sort=False)}
    assert list(curves) == ["teacher", "forward-kl", "reverse-kl-1", "reverse-kl-2"]
    assert list(computed.curves) == ["curve", "x", "density"]
    teacher = curves.pop("teacher")
    np.testing.assert_allclose(teacher.density, np.exp(log_teacher(DEFAULT, teacher.x.to_numpy())))
    for name, rows in curves.items():
        (fit,) = fits(computed, name).itertuples()
        expected = np.exp(log_normal(rows.x.to_numpy(), fit.mean, fit.standard_deviation))
        np.testing.assert_allclose(rows.density, expected)
        assert np.trapezoid(rows.density, rows.x) == pytest.approx(1.0, abs=2e-3), (
            "nothing of it is cut off"
        )


def test_rows_hold_the_teacher_as_given_and_how_the_fits_were_found(computed: ModeSeeking) -> None:
    rows = computed.measurements
    assert tuple(rows) == COLUMNS
    given = rows[rows.method == "given"].pivot(index="condition", columns="what", values="value")
    assert list(given.weight) == [0.65, 0.35] and list(given["mean"]) == [-2, 2]
    assert list(given.standard_deviation) == [0.7, 0.5]
    fitted = rows[rows.condition.str.contains("kl")]
    assert fitted.method.str.contains("L-BFGS-B from 15 starting points, KL summed over").all()
    assert set(fitted[fitted.condition == "forward-kl"].estimand) == {
        "least KL(teacher || student)"
    }
    assert set(rows[rows.what.str.endswith("_kl")].unit) == {"nats"}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"weights": (0.5, 0.4)}, "weights"),
        ({"weights": (1.0, 0.0)}, "weights"),
        ({"standard_deviations": (1.0, 0.0)}, "standard_deviations"),
        ({"means": (1.0, math.nan)}, "means"),
        ({"means": (1.0, 2.0, 3.0)}, "means"),
    ],
)
def test_a_teacher_that_is_no_mixture_of_two_is_refused(
    settings: dict[str, tuple[float, ...]], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        Settings(**settings)
