"""Runs of a hostile shape make a report all the same: one problem, one rollout, 40 checkpoints, all
correct, all wrong, nothing defined."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from browser import PHONE, axe_faults, open_text, sideways
from command_line import _SharedGrader, decaylab
from measured import MEASURED

from decaylab.commands import diagnose
from decaylab.pages import reporting
from decaylab.runs import measurements

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["browser"]

RUNS = (
    "prefix-decay",
    "rollout-length",
    "trained-position-kl",
    "trained-submode",
    "trained-behaviour",
)
NUMBERS = ["value", "low", "high", "standard_error"]
P_VALUES = ["p_value", "p_value_holm"]


def undefined(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    frame[[*NUMBERS, *P_VALUES]] = math.nan
    return frame


def all_graded(level: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Every answer of every policy correct (1) or wrong (0): no difference, nothing to lose."""

    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        graded = frame["what"].str.fullmatch(r"avg_at_\d+|(.*_)?accuracy|recovery_rate")
        apart = frame["what"].str.contains("_minus_|difference|advantage")
        lost = frame["what"].isin(["half_decay_length", "retained_advantage"])
        frame.loc[graded, NUMBERS] = [level, max(level - 0.013, 0), min(level + 0.013, 1), 0.004]
        frame.loc[apart, [*NUMBERS, *P_VALUES]] = [0.0, -0.013, 0.013, 0.004, 1.0, 1.0]
        frame.loc[lost, NUMBERS] = math.nan
        frame.loc[lost, "note"] = "the teacher has no advantage to lose"
        return frame

    return change


def forty(frame: pd.DataFrame) -> pd.DataFrame:
    """39 more students like the one that was trained on a prefix."""
    one = frame[frame["checkpoint"] == "prefix-20-seed-0"]
    more = [one.assign(checkpoint=f"prefix-20-seed-{seed}") for seed in range(1, 40)]
    return pd.concat([frame, *more], ignore_index=True)


def changed(
    folder: Path, change: Callable[[pd.DataFrame], pd.DataFrame], names: tuple[str, ...] = RUNS
) -> str:
    """The report of the committed runs with other numbers."""
    for name in names:
        shutil.copytree(MEASURED / name, folder / name)
        table = folder / name / "measurements.csv"
        change(measurements.read_csv(table)).to_csv(table, index=False)
    return reporting.report_page([folder])


def words(page: Page) -> str:
    return page.locator("main").inner_text()


def whole(page: Page, text: str, folder: Path) -> None:
    """The page opens, holds what every report holds, and says nothing of a number that is none."""
    open_text(page, text, folder)
    assert page.locator(".answer").count() == 2
    assert not re.search(r"\b(nan|inf)\b|None\b(?! of)", words(page))
    assert axe_faults(page) == []
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    assert sideways(page) == 0


def test_numbers_that_are_undefined_throughout(page: Page, tmp_path: Path) -> None:
    whole(page, changed(tmp_path, undefined), tmp_path)
    assert page.locator("main > section svg").count() == 2  # of mode seeking, which needs no run
    said = words(page)
    assert said.count("No value of this figure is defined in these runs.") == 6
    assert "No setting is recommended yet" in said and "undefined (prefix" not in said
    assert page.locator(".verdict.holds, .verdict.contradicted").count() == 0


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_answers_that_are_all_correct_or_all_wrong(
    page: Page, tmp_path: Path, level: float
) -> None:
    whole(page, changed(tmp_path, all_graded(level), RUNS[:2]), tmp_path)
    said = words(page)
    assert "0.0 points [-1.3, +1.3] over 300 problems" in said
    assert "undefined (the teacher has no advantage to lose)" in said
    assert "No setting is recommended" in said and "expected to gain" not in said
    assert page.locator("main > section > .lead svg:visible").count() == 3


def test_forty_checkpoints_are_counted_where_a_sentence_cannot_name_them(
    page: Page, tmp_path: Path
) -> None:
    text = changed(tmp_path, forty, ("trained-behaviour",))
    whole(page, text, tmp_path)
    length, stops = page.locator("section[aria-labelledby=behaviour] .lead > p").all_inner_texts()
    assert "-0.1 tokens [-0.2, 0.0] (prefix-20-seed-0)" in length and "and 38 more" in length
    assert len(length) < 300 and len(stops) < 300
    assert max(map(len, page.locator(".deciding li").all_inner_texts()), default=0) < 1000


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One problem, one rollout, in every measurement that needs no training."""
    root = tmp_path_factory.mktemp("smallest")
    shape = ("--limit", "1", "--samples", "1", "--max-tokens", "24")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnose, "Grader", _SharedGrader)
        decay = ("prefix-decay", *shape, "--prefix-lengths", "0,8", "--out", root / "decay")
        assert decaylab(*decay).code == 0
        for name in ("position-kl", "signals", "submode", "behaviour"):
            made = decaylab(name, *shape, "--cache", root / "cache", "--out", root / name)
            assert made.code == 0, made.err
    return root


def test_one_problem_and_one_rollout(page: Page, tmp_path: Path, smallest: Path) -> None:
    whole(page, reporting.report_page([smallest]), tmp_path)
    said = words(page)
    assert "No setting is recommended yet" in said and "over 1 problems" in said
    assert page.locator(".verdict.holds, .verdict.contradicted").count() == 0
    assert page.locator("#token-view").count() == 1
