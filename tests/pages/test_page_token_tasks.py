"""What a reader does in the token view, at the sizes of a laptop and of a phone: the rollout stays
in sight, the token that went wrong is found in few steps, and no shape of rollouts breaks the
page."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from browser import PHONE, axe_faults, open_text, sideways
from viewed_tables import rollout_row, tables

from decaylab.api.drawing import VIEW_HEIGHT
from decaylab.pages import report, token_view
from decaylab.problems import abacus
from decaylab.runs.step_verdicts import in_tokens

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytest_plugins = ["browser"]

LAPTOP = {"width": 1366, "height": 720}
SIZES = {"laptop": LAPTOP, "phone": PHONE}
SHOWN = "#tv-app:not([hidden])"
CHAIN = ["47+85=132", "132*2=264", "264-4=260", "\\boxed{260}"]
WRONG = ["47+85=132", "132*2=254", "254-4=250", "\\boxed{250}"]
WENT_WRONG = 10 + 7  # the 5 of 254, where 264 has a 6
STEPS = (
    abacus.Step(47, "+", 85, 132),
    abacus.Step(132, "*", 2, 264),
    abacus.Step(264, "-", 4, 260),
)


def text_of(lines: list[str]) -> list[str]:
    """One token a character, and the end of the turn."""
    return [*"\n".join(lines), "<|end|>"]


def known_steps(rows: list[dict[str, Any]], texts: list[list[str]]) -> list[dict[str, Any]]:
    """The rows with the steps of their texts, as decaylab.tokens.viewed keeps them."""
    found = []
    for row, text in zip(rows, texts, strict=True):
        steps, first_wrong = in_tokens(text, STEPS)
        found.append(
            row
            | {
                "steps": [step._asdict() for step in steps],
                "first_wrong_token": first_wrong,
            }
        )
    return found


@pytest.fixture(scope="module")
def pair() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Base and a trained student on two problems; on the second base is wrong and the other is not,
    and the teacher would have written the 6."""
    rows = [
        rollout_row(checkpoint, problem, 0, verdict=verdict)
        for checkpoint, problem, verdict in (
            ("base", "p0", "correct"),
            ("esr", "p0", "correct"),
            ("base", "p1", "wrong"),
            ("esr", "p1", "correct"),
        )
    ]
    texts = [text_of(CHAIN), text_of(CHAIN), text_of(WRONG), text_of(CHAIN)]
    rollouts, tokens = tables(known_steps(rows, texts), texts)
    tokens["reverse_kl"] = 0.001
    wrong = (tokens["rollout_id"] == "student/p1/0") & (tokens["checkpoint"] == "base")
    at = int(tokens.index[wrong & (tokens["position"] == WENT_WRONG)][0])
    tokens.loc[at, "reverse_kl"] = 4.5
    tokens.at[at, "teacher_top"] = ["6", "5", "7", "8", "9"]
    tokens.at[at, "teacher_top_probabilities"] = [0.98, 0.01, 0.004, 0.003, 0.002]
    tokens.loc[at, "teacher_logprob"] = math.log(0.01)
    continuations = pd.DataFrame(
        [
            {
                "rollout_id": "student/p1/0",
                "prefix_tokens": k,
                "verdict": "correct" if k == 10 else "wrong",
                "stop_reason": "eos",
                "text": "x",
                "sample": 0,
            }
            for k in (10, 20)
        ]
    )
    return rollouts, tokens, continuations


@pytest.fixture(scope="module")
def text(pair: tuple[pd.DataFrame, ...]) -> str:
    return token_view.page(*pair, title="Tokens of a test", pair="student and teacher")


def opened(page: Page, text: str, folder: Path, size: dict[str, int]) -> None:
    page.set_viewport_size(size)
    page.emulate_media(reduced_motion="reduce")
    open_text(page, text, folder)
    page.wait_for_selector(SHOWN)


def in_sight(page: Page, selector: str) -> bool:
    """Whether the middle of an element can be seen: in the window, and with nothing over it."""
    return bool(
        page.locator(selector).first.evaluate(
            "one => { const box = one.getClientRects()[0]; const [x, y] = "
            "[box.left + box.width / 2, box.top + box.height / 2]; "
            "const there = one.ownerDocument.elementFromPoint(x, y); "
            "return y > 0 && y < innerHeight && one.contains(there); }"
        )
    )


# Tasks


@pytest.mark.parametrize("size", SIZES)
def test_where_a_wrong_rollout_first_went_wrong_is_found_in_two_steps(
    page: Page, text: str, tmp_path: Path, size: str
) -> None:
    opened(page, text, tmp_path, SIZES[size])
    page.select_option("#tv-filter", "wrong")  # first step
    finder = page.get_by_role("button", name="First went wrong")
    assert finder.inner_text() == f"First went wrong at token {WENT_WRONG + 1} (step 2)"
    finder.click()  # second step
    head = page.inner_text(".tv-what-line")
    assert f"token {WENT_WRONG + 1} of 42" in head and "first went wrong here" in head
    assert "step 2: wrong" in head and head.startswith("5")
    first = page.locator("#tv-details table[data-policy=teacher] tbody tr").first
    assert first.locator("td").all_text_contents() == ["1", "6", "98.0 %"]
    assert page.locator(".tv-chosen rt").text_content() == "6"  # and in place, above the 5
    for name in (".tv-chosen", "#tv-details table[data-policy=teacher] .tv-entry"):
        assert in_sight(page, name), name
    assert sideways(page) == 0


@pytest.mark.parametrize("size", SIZES)
def test_the_rollout_is_in_sight_when_the_page_opens_and_when_details_do(
    page: Page, text: str, tmp_path: Path, size: str
) -> None:
    opened(page, text, tmp_path, SIZES[size])
    assert in_sight(page, '.tv-token[data-at="12"]') and not page.is_visible("#tv-details")
    assert in_sight(page, ".tv-strip")
    page.locator('.tv-token[data-at="12"]').first.click()
    assert in_sight(page, "#tv-details .tv-what") and in_sight(page, '.tv-token[data-at="12"]')
    assert axe_faults(page) == []


@pytest.mark.parametrize("size", SIZES)
def test_the_rollout_is_in_sight_inside_the_report(
    page: Page, pair: tuple[pd.DataFrame, ...], tmp_path: Path, size: str
) -> None:
    section = token_view.fragment(*pair, pair="student and teacher")
    content = report.ReportContent(
        title="R", student="s", teacher="t", problems="p", tokens=section
    )
    opened(page, report.render(content), tmp_path, SIZES[size])
    page.evaluate("document.getElementById('tokens').scrollIntoView()")
    assert in_sight(page, '.tv-token[data-at="12"]') and not page.is_visible("#tv-details")
    page.locator('.tv-token[data-at="12"]').first.click()
    assert in_sight(page, "#tv-details .tv-what") and in_sight(page, '.tv-token[data-at="12"]')
    assert sideways(page) == 0


def test_the_rollout_is_in_sight_inside_a_notebook(page: Page, text: str, tmp_path: Path) -> None:
    """In a frame as decaylab.api.drawing makes it, which may run scripts and nothing else."""
    frame = (
        f'<iframe sandbox="allow-scripts" width="900" height="{VIEW_HEIGHT}" '
        f'srcdoc="{html.escape(text)}"></iframe>'
    )
    open_text(page, f"<!DOCTYPE html><body>{frame}</body>", tmp_path)
    inside: Any = page.frames[1]
    inside.wait_for_selector(SHOWN)
    assert in_sight(inside, '.tv-token[data-at="12"]')
    inside.locator('.tv-token[data-at="12"]').first.click()
    assert in_sight(inside, "#tv-details .tv-what")
    assert in_sight(inside, '.tv-token[data-at="12"]')


# The strip, the steps, the teacher's choice


def test_the_strip_shows_kl_steps_and_where_the_teacher_took_over(
    page: Page, text: str, tmp_path: Path
) -> None:
    opened(page, text, tmp_path, LAPTOP)
    page.select_option("#tv-filter", "wrong")
    strip = page.locator(".tv-strip").first
    levels = strip.locator("rect:not(.tv-lane)").evaluate_all(
        "all => all.map(one => [Number(one.getAttribute('x')), one.getAttribute('class')])"
    )
    assert levels == [[x, f"tv-bar-{4 if x == WENT_WRONG else 0}"] for x in range(42)]
    lanes = strip.locator(".tv-lane").evaluate_all(
        "all => all.map(one => [Number(one.getAttribute('x')), "
        "Number(one.getAttribute('width')), one.classList[1]])"
    )
    assert lanes == [[0, 9, "tv-lane-right"], [10, 9, "tv-lane-wrong"], [20, 9, "tv-lane-wrong"]]
    over = strip.locator(".tv-taken-over").evaluate_all(
        "all => all.map(one => [one.getAttribute('x1'), one.classList.contains('tv-now')])"
    )
    assert over == [["10", True], ["20", False]]
    assert strip.get_attribute("aria-label") == (
        "Whole rollout of base: reverse KL, 3 steps read, 2 of them wrong"
    )
    signs = (
        page.locator("article")
        .first.locator(".tv-step")
        .evaluate_all("all => all.map(one => [one.textContent, one.nextSibling.dataset?.at])")
    )
    assert [sign for sign, _ in signs] == ["✓", "✗", "✗"]


def test_the_strip_moves_by_pointer_and_by_keyboard(page: Page, text: str, tmp_path: Path) -> None:
    opened(page, text, tmp_path, LAPTOP)
    strip = page.locator(".tv-strip").first
    box = strip.bounding_box()
    assert box is not None
    strip.click(position={"x": box["width"] * 20.5 / 42, "y": 10})
    at = page.locator(".tv-chosen").first
    assert at.get_attribute("data-at") == "20" and page.is_visible("#tv-details")
    strip.focus()
    moves = {"ArrowRight": 21, "ArrowLeft": 20, "PageUp": 24, "PageDown": 20, "End": 41, "Home": 0}
    for key, place in moves.items():
        page.keyboard.press(key)
        assert at.get_attribute("data-at") == str(place), key
        assert strip.get_attribute("aria-valuenow") == str(place + 1)
    assert (strip.get_attribute("aria-valuetext") or "").startswith("Token 1 of 42, ")
    assert page.evaluate("document.activeElement.className") == "tv-strip"


def test_the_teachers_choice_stands_above_tokens_of_high_kl_that_it_would_not_have_taken(
    page: Page, tmp_path: Path
) -> None:
    rollouts, tokens = tables([rollout_row("base", "p0", 0)], [["x", "\n", " word", ".\n"] * 20])
    tokens.loc[3, "reverse_kl"] = math.nan
    firsts = ["word", "\n", "  ", "x", "<b>"]
    tokens["teacher_top"] = [[firsts[i % 5], "q", "r", "s", "t"] for i in range(len(tokens))]
    tokens["teacher_top_probabilities"] = [[0.9, 0.04, 0.03, 0.02, 0.01]] * len(tokens)
    opened(page, token_view.page(rollouts, tokens, title="T", pair="two"), tmp_path, LAPTOP)
    above = page.locator(".tv-text .tv-token").evaluate_all(
        "all => all.map(one => one.querySelector('rt')?.textContent ?? null)"
    )
    wanted = []
    for row in tokens.to_dict("records"):
        first = row["teacher_top"][0]
        other = first not in (row["token"], " " + row["token"])
        spoken = first.replace(" ", "\u2423") if first.isspace() else first
        high = round(row["reverse_kl"], 4) >= 0.5 if row["reverse_kl"] == row["reverse_kl"] else 0
        wanted.append(spoken.replace("\n", "\u21b5") if high and other else None)
    assert above == wanted and len({*wanted}) > 3
    page.click("#tv-options-button")
    page.uncheck("#tv-above")
    assert page.locator(".tv-text rt").count() == 0


def test_steps_that_are_not_known_show_nothing_and_where_it_went_wrong_is_not_known(
    page: Page, tmp_path: Path
) -> None:
    rows = [
        rollout_row("base", "p0", 0, verdict="wrong", steps=None, first_wrong_token=None),
        rollout_row("esr", "p0", 0, verdict="wrong", steps=[], first_wrong_token=None),
        rollout_row("full", "p0", 0, verdict="correct", steps=None, first_wrong_token=None),
    ]
    made = tables(rows, [["a", "b"]] * 3)
    opened(page, token_view.page(*made, title="T", pair="two"), tmp_path, LAPTOP)
    finders = page.locator(".tv-finders").all_inner_texts()
    assert ["First went wrong: not known" in one for one in finders] == [True, True, False]
    assert page.locator(".tv-lane, .tv-step, .tv-first-wrong").count() == 0


def test_every_verdict_of_a_step_has_a_sign_of_its_own(page: Page, tmp_path: Path) -> None:
    verdicts = ["right", "repaired", "unread", "wrong", "<b>other"]
    steps = [{"start": i, "end": i + 1, "verdict": name} for i, name in enumerate(verdicts)]
    row = rollout_row("base", "p0", 0, verdict="wrong", steps=steps, first_wrong_token=3)
    made = tables([row], [list("abcde")])
    opened(page, token_view.page(*made, title="T", pair="two"), tmp_path, LAPTOP)
    assert page.locator(".tv-step").all_text_contents() == ["✓", "↻", "?", "✗", "?"]
    said = []
    for at in range(5):
        page.locator(".tv-text .tv-token").nth(at).focus()
        said.append(page.locator("#tv-summary-0").text_content() or "")
    assert "step 2: wrong at first, corrected later" in said[1] and "step 4: wrong" in said[3]
    assert "first went wrong here" in said[3] and "step 5: <b>other" in said[4]


# Base and trained student


LINES = ["a b c\n", "d e\n", "f g h\n", "i j\n"]
OTHERS = {  # of a trained student -> the tokens of it that differ from base, by hand
    "the same": (LINES, []),
    "one token": (["a b c\n", "d E\n", "f g h\n", "i j\n"], [4]),
    "a line more": (["a b c\n", "x y\n", "d e\n", "f g h\n", "i j\n"], [3, 4]),
    "a line less": (["a b c\n", "f g h\n", "i j\n"], []),
    "other at the end": (["a b c\n", "d e\n", "z\n"], [5]),
    "one more token": (["a b c\n", "d d e\n", "f g h\n", "i j\n"], [4]),
    "all": (["k\n", "l\n"], [0, 1]),
    "two lines in place of two": (["a b c\n", "d E\n", "f G h\n", "i j\n"], [4, 6]),
    "two lines apart": (["A b c\n", "d e\n", "f G h\n", "i j\n"], [0, 6]),
}
PARTS = {"one token": 5, "a line more": 4, "a line less": 4, "other at the end": 6}


def test_what_differs_from_base_is_marked(page: Page, tmp_path: Path) -> None:
    def split(lines: list[str]) -> list[str]:
        return [word for line in lines for word in line.split(" ")]

    rows, texts = [], []
    for problem, (lines, _) in OTHERS.items():
        rows += [rollout_row("base", problem, 0), rollout_row("esr", problem, 0)]
        texts += [split(LINES), split(lines)]
    rollouts, tokens = tables(rows, texts)
    ids = {text: i for i, text in enumerate(sorted(set(tokens["token"])))}
    tokens["token_id"] = tokens["token"].map(ids)
    opened(page, token_view.page(rollouts, tokens, title="T", pair="two"), tmp_path, LAPTOP)
    for problem, (_, wanted) in OTHERS.items():
        marked = page.locator(".tv-text .tv-differs").evaluate_all(
            "all => all.map(one => Number(one.dataset.at))"
        )
        assert marked == wanted, problem
        column = page.locator("article").nth(1)
        assert column.locator(".tv-differs").count() == len(wanted)  # none of base's own
        said = column.locator(".tv-finders").inner_text()
        if problem in PARTS:
            assert f"Differs from base from token {PARTS[problem]}" in said
        assert ("The same tokens as base" in said) == (problem == "the same")
        page.click("#tv-next")


# Hostile shapes


def shape(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    if name == "one rollout of one token":
        return tables([rollout_row("base", "p0", 0)], [["x"]])
    if name == "a rollout without tokens":
        rollouts, tokens = tables([rollout_row("base", "p0", 0)], [["x"]])
        return rollouts, tokens.head(0)
    if name == "40 checkpoints":
        names = ["base", *(f"step-{i:06d}" for i in range(39))]
        return tables([rollout_row(one, "p0", 0) for one in names], [["a", "b"]] * 40)
    if name.startswith("all"):
        verdict = name.removeprefix("all ")
        rows = [rollout_row("base", "p0", i, verdict=verdict) for i in range(12)]
        return tables(rows, [["a", "b"]] * 12)
    rollouts, tokens = tables([rollout_row("base", "p0", 0, verdict="wrong")], [["a", "b"] * 8])
    numbers = tokens.select_dtypes(np.floating).columns
    tokens[numbers] = math.nan
    for policy in ("student", "teacher"):
        tokens[f"{policy}_top_probabilities"] = [[math.nan] * 5 for _ in range(len(tokens))]
    return rollouts, tokens


@pytest.mark.parametrize(
    "name",
    [
        "one rollout of one token",
        "a rollout without tokens",
        "40 checkpoints",
        "all correct",
        "all wrong",
        "NaN everywhere",
    ],
)
def test_a_strange_shape_is_shown_at_both_sizes(page: Page, tmp_path: Path, name: str) -> None:
    text = token_view.page(*shape(name), title="T", pair="two")
    for size in SIZES.values():
        opened(page, text, tmp_path, size)
        page.click("#tv-options-button")
        assert sideways(page) == 0
        assert axe_faults(page) == []
        page.click("#tv-options-button")
        page.click("#tv-next")
        if name == "a rollout without tokens":
            assert "No token of it was kept" in page.inner_text("#tv-columns")
            continue
        assert in_sight(page, ".tv-text .tv-token")
        page.locator(".tv-text .tv-token").first.click()
        assert in_sight(page, "#tv-details .tv-what") and sideways(page) == 0
        if name == "40 checkpoints":
            assert page.locator("article h2").all_text_contents() == ["base", "step-000038"]
        if name == "NaN everywhere":
            assert "mean KL undefined" in page.inner_text(".tv-facts")
            assert "No reverse KL is known." in page.inner_text(".tv-finders")
            assert page.locator(".tv-strip rect").count() == 0
            assert page.inner_text("#tv-details dd[data-key=reverse_kl]") == "undefined"


@pytest.mark.parametrize("lines", [True, False])
def test_a_rollout_of_32000_tokens_is_jumped_through(
    page: Page, tmp_path: Path, lines: bool
) -> None:
    words = [("\n" if lines and i % 9 == 8 else f" w{i % 7}") for i in range(32_000)]
    rollouts, tokens = tables([rollout_row("base", "p0", 0)], [words])
    tokens["reverse_kl"] = 0.0
    tokens.loc[20_001, "reverse_kl"] = 3.0
    text = token_view.page(rollouts, tokens, title="Long", pair="two")
    opened(page, text, tmp_path, LAPTOP)
    assert page.locator(".tv-strip rect").count() == 240
    strip = page.locator(".tv-strip")
    box = strip.bounding_box()
    assert box is not None
    strip.click(position={"x": box["width"] * 20_001 / 32_000, "y": 10})
    assert "token 20,002 of 32,000" in page.inner_text(".tv-what-line")  # the highest of its bar
    assert in_sight(page, ".tv-chosen") and in_sight(page, ".tv-strip")
    strip.focus()
    page.keyboard.press("End")
    assert "token 32,000 of 32,000" in page.inner_text(".tv-what-line")
    assert in_sight(page, ".tv-chosen")
    assert (
        "".join(words[:9]).strip()
        == page.evaluate(
            "[...document.querySelectorAll('.tv-text .tv-token')].slice(0, 9).map(one => "
            "one.textContent.replace('\u21b5', '')).join('')"
        )
        .replace("\u2423", " ")
        .strip()
    )
