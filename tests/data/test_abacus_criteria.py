"""The criteria of the embedded pair: that the pair that ships meets them, and how they are read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from decaylab.data.abacus import criteria
from decaylab.problems import abacus

FOLDER = Path(criteria.__file__).parent
MEASURED = pd.read_csv(FOLDER / "criteria.csv")
NOT_MET = {("teacher", "responses with a repaired slip")}
"""What the card names as not met."""


def test_every_criterion_is_met_but_those_that_the_card_names() -> None:
    judged = criteria.judged(MEASURED)
    wanted = {(role, what) for what, roles in criteria.RANGES.items() for role in roles}
    forms = [f"form: {form}" for _, forms in criteria.FORMS.values() for form in forms]
    wanted |= {(role, form) for role in ("teacher", "student") for form in forms}
    assert wanted <= set(zip(judged["role"], judged["what"], strict=True))
    missed = judged[~judged["met"]]
    assert set(zip(missed["role"], missed["what"], strict=True)) == NOT_MET


def test_the_card_shows_the_measured_criteria() -> None:
    assert criteria.card(MEASURED) in (FOLDER / "README.md").read_text()


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_the_card_is_of_the_weights_that_ship(role: str) -> None:
    weights = (FOLDER / role / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() in (FOLDER / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["teacher", "student"])
def test_the_pair_that_ships_measures_as_its_card_says(role: str) -> None:
    """On fewer problems than the card's: within four standard errors of the difference."""
    fresh = criteria.measure(FOLDER, role, problems=100, samples=4)
    both = fresh.merge(MEASURED[MEASURED["role"] == role], on="what", suffixes=("", "_card"))
    assert len(both) == len(MEASURED[MEASURED["role"] == role])
    mine, card = (both["high"] - both["low"]) / 4, (both["high_card"] - both["low_card"]) / 4
    off = (both["value"] - both["value_card"]).abs() / np.hypot(mine, card)
    assert (off < 4).all(), both[off >= 4][["what", "value", "value_card"]]
    assert fresh["value"].between(fresh["low"], fresh["high"]).all()


def test_the_two_fit_into_their_bounds() -> None:
    files = [FOLDER / role / "model.safetensors" for role in ("teacher", "student")]
    size = sum(file.stat().st_size for file in files)
    assert size <= 16 * 2**20 and size / 4 <= 2.5e6  # float32: four bytes a parameter


@pytest.mark.parametrize(
    ("line", "forms"),
    [
        ("47+85=132", {"spacing": "tight", "delimiters": "plain", "concise": "equation first"}),
        ("so 47 + 85 = 132", {"spacing": "spaced", "delimiters": "plain", "concise": "so"}),
        (
            "times 3: \\(47\\times3=141\\)",
            {
                "spacing": "tight",
                "delimiters": "LaTeX",
                "product": "\\times",
                "concise": "operation named",
            },
        ),
        (
            "After that, the number triples, so we get 47 x 3 = 141.",
            {"spacing": "spaced", "delimiters": "plain", "product": "x", "verbose": "After that,"},
        ),
    ],
)
def test_the_notation_of_a_step_is_read_from_its_line(line: str, forms: dict[str, str]) -> None:
    text = f"First, Sam has 47 shells.\n{line}\n"
    steps = abacus_steps(line)
    (step,) = criteria.check_steps(text, steps).written
    assert criteria._notation(text, step.start, step.end) == forms


def abacus_steps(line: str) -> tuple[abacus.Step, ...]:
    if "85" in line:
        return (abacus.Step(47, "+", 85, 132),)
    return (abacus.Step(47, "*", 3, 141),)


def test_a_median_is_resampled_over_problems() -> None:
    codes = np.repeat(np.arange(40), 4)
    values = np.random.default_rng(0).normal(size=40)[codes]
    what, value, low, high, _, count = criteria._resampled(
        "median", lambda places: float(np.median(values[places])), codes, "responses"
    )
    assert (what, value, count) == ("median", float(np.median(values)), 160)
    # One number a problem: the interval is that of 40 draws, not of 160.
    error = 1.2533 * values.std() / np.sqrt(40)
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.5)
