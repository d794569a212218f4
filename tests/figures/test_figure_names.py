"""Names in figures: measured as they are shown, whatever their script and length."""

from __future__ import annotations

import warnings

import pandas as pd
import pytest
from behaviour_figures import apart_on_the_page
from figure_parts import texts
from test_panels import DRAWN

from decaylab.figures import colours, position_kl, running_text, style, submode
from decaylab.printing import visible

TURNED = "<img src=x>-\u6a21\u578b-\u202eabc"
NAMES = {"prefix-20-seed-0": TURNED, "full-seed-0": "a-very-long-name-" * 15}


def renamed(name: str) -> pd.DataFrame:
    frame = DRAWN[name].run.measurements
    return frame.assign(checkpoint=frame.checkpoint.replace(NAMES))


def test_what_cannot_be_seen_is_shown_by_its_code() -> None:
    assert visible("a\u202eb\x00") == "a\u27e8U+202E\u27e9b\u27e8U+0000\u27e9"
    assert visible("\u6a21 \u00e9\n") == "\u6a21 \u00e9\n"


def test_a_sign_that_the_font_lacks_is_as_wide_as_another_font_has_it() -> None:
    assert running_text.text_width("\u6a21\u578b") == 2 * style.SMALL
    assert running_text.text_width("ab\u6a21") == running_text.text_width("ab") + style.SMALL


@pytest.mark.parametrize("name", [TURNED, "W" * 60, "\u6a21" * 60, "a-b " * 20, "i" * 60])
def test_names_are_cut_and_folded_by_their_width(name: str) -> None:
    kept = running_text.short(name, 16)
    assert running_text.text_width(kept) <= 16 * running_text.CHARACTER and len(kept) <= 16
    assert kept.endswith(visible(name)[-2:])
    for line in running_text.in_lines(running_text.short(name, 30), 15).split("\n"):
        assert running_text.text_width(line) <= 15 * running_text.CHARACTER


def test_curve_ends_and_keys_have_the_code_that_a_page_would_write() -> None:
    found = colours.looks(pd.DataFrame({"checkpoint": [TURNED], "selector": [""]}))
    assert found[TURNED].name.endswith("\u27e8U+202E\u27e9abc")


@pytest.mark.parametrize("width", ["page", "column"])
def test_foreign_and_long_names_stay_on_the_page_and_say_nothing_of_the_font(
    width: style.Width,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name, module in {
            "position-kl-trained-position-kl": position_kl,
            "submode-trained-submode": submode,
        }.items():
            figure = module.draw(renamed(name), width=width)
            apart_on_the_page(figure)
            style.encoded(figure, "svg")
            assert "\u202e" not in texts(figure)
