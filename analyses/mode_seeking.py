"""Mode seeking: fits of a one-mode student to a two-mode teacher, by either direction of the KL.

The teacher is a mixture of two Gaussians on a line, the student one Gaussian; no language model is
involved. Conditions:

    teacher-1, teacher-2          the teacher's two modes, as given
    forward-kl                    the minimum of KL(teacher || student): the mixture's moments
    reverse-kl-1, reverse-kl-2    the local minima of KL(student || teacher), lowest first

If the modes are far apart, each has a minimum with a reverse KL near -log(weight), the cost of the
mode left out. A wide student over both may be a third minimum, at a much higher KL; if the modes
are close, it is the only one. Each fit has both divergences; its condition names the one that it
minimises.

Source: Fig. 4 of arXiv 2605.27028, a sketch without numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal

import numpy as np
import pandas as pd
import torch
from scipy.optimize import minimize
from torch import Tensor

from decaylab.maths import divergences
from decaylab.maths.clusters import Floats
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import FRACTION, NATS

OPTIMISER = "L-BFGS-B"
STARTS_BETWEEN = 5  # starting means of the search, from one mode to the other
STEPS = 16  # grid cells per smallest standard deviation
REACH = 10  # the grid's reach beyond the modes, in standard deviations
SAME = 1e-3  # minima closer than this, in the teacher's standard deviations, are one
FLAT = 1e-4  # a larger gradient at the end of the search, in nats, means an edge, not a minimum
DRAWN = 400  # points of a curve
SEEN = 3.5  # a curve's reach on either side of a mode, in standard deviations
Divergence = Literal["forward_kl", "reverse_kl"]


@dataclass(frozen=True)
class Settings:
    """The teacher: weight, mean and standard deviation of each of its two modes.

    Raises:
        ValueError: not two of each, weights that do not sum to 1, or a standard deviation that is
            not above 0.
    """

    weights: tuple[float, float] = (0.65, 0.35)
    means: tuple[float, float] = (-2.0, 2.0)
    standard_deviations: tuple[float, float] = (0.7, 0.5)

    def __post_init__(self) -> None:
        for name in ("weights", "means", "standard_deviations"):
            values = getattr(self, name)
            if len(values) != 2 or not all(map(math.isfinite, values)):
                raise ValueError(
                    f"{name} must be one finite number for each of the two modes, got {values}"
                )
        if min(self.weights) <= 0 or not math.isclose(sum(self.weights), 1.0):
            raise ValueError(f"weights must be above 0 and sum to 1, got {self.weights}")
        if min(self.standard_deviations) <= 0:
            raise ValueError(f"standard_deviations must be above 0, got {self.standard_deviations}")


@dataclass(frozen=True)
class ModeSeeking:
    """measurements: rows as in every analysis. curves: columns ``curve`` (``teacher`` or a fit's
    condition), x, density."""

    measurements: pd.DataFrame
    curves: pd.DataFrame


def fit(settings: Settings | None = None) -> ModeSeeking:
    """Both fits of a single Gaussian to the teacher, and the densities for a figure."""
    settings = settings or Settings()
    line = _Line(settings)
    fits = {"forward-kl": line.minima("forward_kl")[0]}
    for i, student in enumerate(line.minima("reverse_kl"), 1):
        fits[f"reverse-kl-{i}"] = student
    rows = list(_teacher_rows(settings))
    for name, student in fits.items():
        rows += _fit_rows(name, student, line)
    return ModeSeeking(to_frame(rows), _curves(settings, fits))


@dataclass(frozen=True)
class _Student:
    """A student at a minimum; both divergences in nats."""

    mean: float
    standard_deviation: float
    forward_kl: float
    reverse_kl: float


class _Line:
    """A grid over the line; its cells play the role of a vocabulary.

    A student's parameters are its mean, relative to the teacher's and in the teacher's standard
    deviations, and the log of its standard deviation.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.mean, self.spread = _moments(settings)
        self.narrow, self.wide = min(settings.standard_deviations), 2 * self.spread
        low, high = min(settings.means) - REACH * self.wide, max(settings.means) + REACH * self.wide
        points = math.ceil((high - low) / self.narrow * STEPS) + 1
        self.places = torch.linspace(low, high, points, dtype=torch.float64)
        self.cell = math.log((high - low) / (points - 1))
        self.teacher = torch.from_numpy(_log_mixture(settings, self.places.numpy())) + self.cell

    def student(self, parameters: Tensor) -> Tensor:
        """Log of the student's mass in each cell."""
        mean, log_deviation = self.mean + parameters[0] * self.spread, parameters[1]
        away = (self.places - mean) / log_deviation.exp()
        return -0.5 * away**2 - log_deviation - 0.5 * math.log(2 * math.pi) + self.cell

    def kl(self, parameters: Tensor, divergence: Divergence) -> Tensor:
        """The divergence of student and teacher, in nats."""
        nats: Tensor = getattr(divergences, divergence)(self.student(parameters), self.teacher)
        return nats

    def minima(self, divergence: Divergence) -> list[_Student]:
        """The distinct local minima over all students, lowest first."""
        # the grid does not resolve a student narrower than half a mode
        edges = [(None, None), (math.log(self.narrow / 2), math.log(self.wide))]
        minima: list[Floats] = []
        for start in self.starts():
            end = minimize(
                self.value_and_gradient,
                start,
                args=(divergence,),
                jac=True,
                method=OPTIMISER,
                bounds=edges,
                options={"ftol": 1e-15, "gtol": 1e-10},
            )
            known = any(np.abs(end.x - other).max() < SAME for other in minima)
            if not known and np.abs(end.jac).max() < FLAT:
                minima.append(end.x)
        return sorted(map(self.described, minima), key=attrgetter(divergence))

    def starts(self) -> Iterator[Floats]:
        """Starting points from one mode to the other, with the width of either mode and of the
        mixture."""
        means = (np.linspace(*self.settings.means, STARTS_BETWEEN) - self.mean) / self.spread
        deviations = dict.fromkeys([*self.settings.standard_deviations, self.spread])
        for mean, deviation in itertools.product(means, deviations):
            yield np.array([mean, math.log(deviation)])

    def value_and_gradient(
        self, parameters: Floats, divergence: Divergence
    ) -> tuple[float, Floats]:
        at = torch.tensor(parameters, dtype=torch.float64, requires_grad=True)
        value = self.kl(at, divergence)
        (gradient,) = torch.autograd.grad(value, at)
        return value.item(), np.asarray(gradient.numpy())

    def described(self, parameters: Floats) -> _Student:
        at = torch.tensor(parameters, dtype=torch.float64)
        return _Student(
            mean=self.mean + float(parameters[0]) * self.spread,
            standard_deviation=math.exp(parameters[1]),
            forward_kl=self.kl(at, "forward_kl").item(),
            reverse_kl=self.kl(at, "reverse_kl").item(),
        )


def _moments(settings: Settings) -> tuple[float, float]:
    """Mean and standard deviation of the whole teacher."""
    weights, means, deviations = map(
        np.array, (settings.weights, settings.means, settings.standard_deviations)
    )
    mean = float(weights @ means)
    return mean, math.sqrt(float(weights @ (deviations**2 + (means - mean) ** 2)))


def _log_normal(x: Floats, mean: float, deviation: float) -> Floats:
    return np.asarray(
        -0.5 * ((x - mean) / deviation) ** 2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)
    )


def _log_mixture(settings: Settings, x: Floats) -> Floats:
    """Log-density of the teacher."""
    modes = []
    for weight, mean, deviation in zip(
        settings.weights, settings.means, settings.standard_deviations, strict=True
    ):
        modes.append(math.log(weight) + _log_normal(x, mean, deviation))
    return np.asarray(np.logaddexp(*modes))


# What comes out


def _teacher_rows(settings: Settings) -> Iterator[Measurement]:
    columns = (
        ("weight", settings.weights, FRACTION),
        ("mean", settings.means, "x"),
        ("standard_deviation", settings.standard_deviations, "x"),
    )
    for i in range(2):
        for what, values, unit in columns:
            yield Measurement(what, f"teacher-{i + 1}", values[i], unit, method="given")


def _fit_rows(name: str, student: _Student, line: _Line) -> Iterator[Measurement]:
    sought = "local minimum of KL(student || teacher)"
    if name == "forward-kl":
        sought = "least KL(teacher || student)"
    how = (
        f"{OPTIMISER} from {len(list(line.starts()))} starting points, KL summed over "
        f"{len(line.places):,} cells of the line"
    )
    units = {"mean": "x", "standard_deviation": "x", "forward_kl": NATS, "reverse_kl": NATS}
    for what, unit in units.items():
        yield Measurement(what, name, getattr(student, what), unit, method=how, estimand=sought)


def _curves(settings: Settings, fits: dict[str, _Student]) -> pd.DataFrame:
    """Densities over the visible range of the teacher and of the fits."""
    shapes = list(zip(settings.means, settings.standard_deviations, strict=True))
    shapes += [(student.mean, student.standard_deviation) for student in fits.values()]
    low = min(mean - SEEN * deviation for mean, deviation in shapes)
    high = max(mean + SEEN * deviation for mean, deviation in shapes)
    x = np.linspace(low, high, DRAWN)
    densities = {"teacher": _log_mixture(settings, x)}
    for name, student in fits.items():
        densities[name] = _log_normal(x, student.mean, student.standard_deviation)
    tables = []
    for name, log_density in densities.items():
        tables.append(pd.DataFrame({"curve": name, "x": x, "density": np.exp(log_density)}))
    return pd.concat(tables, ignore_index=True)
