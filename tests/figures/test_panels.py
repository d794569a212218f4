"""Every figure of the committed runs, on a page, in a column and panel by panel: sizes, texts,
captions; and the same of hostile shapes."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from measured import MEASURED

from decaylab.figures import artists, colours, curves, style, submode
from decaylab.pages import gallery
from decaylab.paper.paper_items import FIGURES, PaperItem
from decaylab.runs import found_runs

RUNS = found_runs.find([MEASURED])
DRAWN = {one.name: one for one in gallery.entries(RUNS) if one.run}
ONCE = list({one.item.name: one.name for one in DRAWN.values()}.values())  # the last run of each
NUMBERS = ["value", "low", "high", "band_low", "band_high"]
MANY = 40


def theirs(item: PaperItem) -> pd.DataFrame | None:
    return item.published() if item.published else None


def check(item: PaperItem, frame: pd.DataFrame, *, apart: bool = True) -> None:
    """Sizes, titles and caption of a figure of these measurements; apart: and its texts."""
    module: Any = importlib.import_module(f"decaylab.figures.{item.module}")
    published = theirs(item)
    assert len(module.caption(frame, published).split()) <= 60
    sheet = module.sheet(frame, published=published)
    page = sheet.draw("page")
    assert page.get_figwidth() == 7.0 and page.get_figheight() <= 8.0 + 1e-9
    if not apart:
        page.draw_without_rendering()
        return
    panels = sheet.panels()
    for letter, figure in panels.items():
        assert figure.get_figwidth() == 3.4 and figure.get_figheight() <= 3.0 + 1e-9
        title = next(filter(None, (one.get_title(loc="left") for one in figure.axes)))
        assert not title.startswith(f"{letter[0]}  ") and len(title) > 3, "it stands alone"
    for figure in (page, *panels.values()):
        apart_on_the_page(figure)


@pytest.mark.parametrize("name", DRAWN)
def test_pages_and_panels_are_within_their_sizes_and_captions_are_short(name: str) -> None:
    entry = DRAWN[name]
    check(entry.item, entry.run.measurements)


LONG = ["token-selection", "efficiency-selector", "stability-selector", "submode-trained-submode"]


@pytest.mark.parametrize(
    ("name", "kept"), dict(zip(LONG, ["ab", "ac", "bd", "abef"], strict=True)).items()
)
def test_a_printed_column_has_the_panels_of_the_claim_that_fit_nine_inches(
    name: str, kept: str
) -> None:
    made = gallery.drawn(DRAWN[name], published=True)
    figure = made.sheet.printed("column")
    assert figure.get_figwidth() == 3.4 and figure.get_figheight() <= 9.0 + 1e-9
    titles = filter(None, (one.get_title(loc="left") for one in figure.axes))
    assert "".join(title[0] for title in titles) == kept
    apart_on_the_page(figure)
    left = ", ".join(letter for letter in made.sheet.parts if letter not in kept)
    assert (
        f"at most 9 inches high: {left}; --panel writes each panel" in made.text("column").decode()
    )
    assert "9 inches" not in made.text("page").decode()


def undefined(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**dict.fromkeys(NUMBERS, math.nan))


def constant(frame: pd.DataFrame, value: float) -> pd.DataFrame:
    """All shares at 0 or 1, as where every answer is correct or wrong."""
    changed = frame.copy()
    shares = changed.unit == "fraction"
    changed.loc[shares, NUMBERS] = changed.loc[shares, NUMBERS].mask(
        changed.loc[shares, NUMBERS].notna(), value
    )
    return changed


def single(frame: pd.DataFrame) -> pd.DataFrame:
    """One problem and one rollout: no interval anywhere."""
    return frame.assign(**dict.fromkeys(NUMBERS[1:], math.nan), problems=1, rollouts=1)


def many(frame: pd.DataFrame) -> pd.DataFrame:
    """As many checkpoints, or training arms, as a run of a day has."""
    swept = frame[frame.selector.fillna("").ne("") & frame.training_seed.notna()]
    names = [name for name in frame.checkpoint.unique() if name not in ("base", "teacher")]
    source = swept.checkpoint.iloc[-1] if len(swept) else [*names, "base"][0]
    own = frame[frame.checkpoint == source]
    called = f"{source}-{{}}" if len(swept) else "esr/step-{:06d}"
    more = [own.assign(checkpoint=called.format(25 * place)) for place in range(1, MANY + 1)]
    return pd.concat([frame, *more], ignore_index=True)


SHAPES = {
    "undefined": undefined,
    "all correct": lambda frame: constant(frame, 1.0),
    "all wrong": lambda frame: constant(frame, 0.0),
    "one problem": single,
    "many checkpoints": many,
}


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ONCE)
def test_hostile_shapes_are_drawn_within_the_same_sizes(name: str, shape: str) -> None:
    entry = DRAWN[name]
    check(entry.item, SHAPES[shape](entry.run.measurements), apart=shape == "undefined")


def test_rows_of_very_many_students_keep_room_for_their_names_on_a_page() -> None:
    entry = DRAWN["submode-trained-submode"]
    frame = many(entry.run.measurements)
    apart_on_the_page(submode.sheet(frame, published=theirs(entry.item)).draw("page"))


@pytest.mark.parametrize("name", ["submode-trained-submode", "stability-rollout-length"])
def test_panels_of_very_many_checkpoints_keep_their_size(name: str) -> None:
    entry = DRAWN[name]
    module: Any = importlib.import_module(f"decaylab.figures.{entry.item.module}")
    for figure in module.sheet(many(entry.run.measurements)).panels().values():
        assert figure.get_figheight() <= 3.0 + 1e-9


def test_every_figure_is_checked() -> None:
    drawn = {one.item.name for one in DRAWN.values()}
    elsewhere = {"case-study", "mode-seeking", "compare", "hand-back", "values"}
    elsewhere |= {"token-truth", "interventions", "arm-gains"}
    assert {item.name for item in FIGURES} - drawn == elsewhere


@pytest.mark.parametrize("count", [1, 2, 3, 8, 41])
def test_no_curve_is_moved_farther_from_its_place_than_a_marker_is_wide(count: int) -> None:
    shifts = curves.shifts(count, 100.0)
    assert len(shifts) == count and sum(shifts) == pytest.approx(0)
    assert max(shifts) - min(shifts) <= artists.MARKER


def test_a_key_of_very_many_models_names_the_first_and_the_last() -> None:
    names = ["base", *(f"esr/step-{step:06d}" for step in range(25, 1025, 25)), "teacher"]
    rows = pd.DataFrame({"checkpoint": names, "selector": ""})
    named = [look.name for look in colours.folded(colours.looks(rows))]
    assert named == [
        "base student",
        f"esr/step-000025 (first of {MANY})",
        "esr/step-001000 (last)",
        "teacher",
    ]
    few = colours.looks(rows[:5])
    assert colours.folded(few) == list(few.values())


def test_a_panel_is_written_beside_page_and_column_with_one_text(tmp_path: Path) -> None:
    entry = DRAWN["n-sweep"]
    files = gallery.write([entry], tmp_path, widths=["page"], panels=True, kinds=["svg"])
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "page/n-sweep.svg",
        "panel/n-sweep-a.svg",
        "panel/n-sweep-b.svg",
    ]
    short, _, long = (tmp_path / "panel" / "n-sweep.txt").read_text().partition("\n\n")
    assert len(short.split()) <= 60 and "Student t over the seeds" in long
    assert style.PANEL_HEIGHT == 3.0
