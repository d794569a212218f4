"""What a reader does in the report of the committed runs, at the sizes of a laptop and of a phone:
the advised setting, its evidence and what it costs are found in three interactions at most. And the
report on paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from browser import PHONE, axe_faults, open_text, sideways
from measured import MEASURED

from decaylab.pages import questions, reporting
from decaylab.runs import found_runs, measurements
from decaylab.runs.vocabulary import FULL, OVER_SEEDS, select

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytest_plugins = ["browser"]

LAPTOP = {"width": 1366, "height": 720}
SIZES = {"laptop": LAPTOP, "phone": PHONE}
INTERACTIONS = 3


@pytest.fixture(scope="module")
def text() -> str:
    return reporting.report_page([MEASURED])


class Reader:
    """Someone with the report, who may click a few times; scrolling to look is free."""

    def __init__(self, page: Page, text: str, folder: Path, size: str) -> None:
        self.page, self.left = page, INTERACTIONS
        page.set_viewport_size(SIZES[size])  # type: ignore[arg-type]
        page.emulate_media(reduced_motion="reduce")
        open_text(page, text, folder)
        self.phone = size == "phone"

    def click(self, one: Locator) -> None:
        assert self.left, "too many interactions"
        self.left -= 1
        one.click()

    def go(self, heading: str) -> None:
        """To a heading, by the contents."""
        if self.phone:
            self.click(self.page.locator("nav summary"))
        self.click(self.page.locator("nav a", has_text=heading))
        box = self.page.locator("main h2", has_text=heading).bounding_box()
        assert box and 0 <= box["y"] < 200, "the heading is not at the top of the window"

    def sees(self, one: Locator) -> str:
        """The text of what is in the window, or can be scrolled to without opening anything."""
        assert one.is_visible()
        box = one.bounding_box()
        assert box and box["height"] > 0 and box["x"] >= 0
        return one.inner_text()


def section(page: Page, name: str) -> Locator:
    return page.locator(f"section[aria-labelledby={name}]")


@pytest.mark.parametrize("size", SIZES)
def test_the_advised_setting_and_its_evidence_are_found_in_three_interactions(
    page: Page, text: str, tmp_path: Path, size: str
) -> None:
    reader = Reader(page, text, tmp_path, size)
    answer = page.locator(".answer")
    assert reader.sees(answer.first) == "Train with full rollouts."
    for place in (0, 1):  # in the first window
        box = answer.nth(place).bounding_box()
        assert box and box["y"] + box["height"] < SIZES[size]["height"]
    reader.go("How long should rollouts be?")
    sentences = [reader.sees(one) for one in section(page, "lengths").locator(".lead > p").all()]
    assert len(sentences) == 2 and "-6.3 at N = 40" in sentences[0]
    assert "training contradicts it: -6.3 points [-8.1, -4.5]" in sentences[1]
    assert reader.sees(section(page, "lengths").locator(".plate")) != ""
    if size == "laptop":
        reader.click(section(page, "lengths").locator(".behind > summary"))
        row = section(page, "lengths").locator("#rows-settings tr", has_text="prefix-40")
        row.scroll_into_view_if_needed()
        assert "worse" in reader.sees(row) and "-6.3" in reader.sees(row)


@pytest.mark.parametrize("size", SIZES)
def test_what_full_rollouts_cost_is_found_in_three_interactions(
    page: Page, text: str, tmp_path: Path, size: str
) -> None:
    reader = Reader(page, text, tmp_path, size)
    reader.go("What did it cost?")
    full, advised = (reader.sees(one) for one in section(page, "cost").locator(".lead > p").all())
    frame = measurements.read_csv(MEASURED / "rollout-length" / "measurements.csv")
    at = {"checkpoint": FULL, "estimand": OVER_SEEDS}
    tokens = float(select(frame, what="tokens_sampled_per_step", **at)["value"].iloc[0])
    seconds = select(frame, what="seconds_per_step", condition="total", **at)["value"]
    assert f"samples {tokens:,.0f} tokens and takes {seconds.iloc[0]:.2f} [" in full
    ratio = select(frame, what="tokens_ratio", checkpoint="prefix-5")["value"].iloc[0]
    assert advised.startswith("Full rollouts are the advised setting; the cheapest of the others")
    assert f"prefix-5, changes accuracy by -21.1 points and takes {ratio:.2f} [" in advised


def test_answer_decay_and_deciding_claims_fill_three_screens_of_a_laptop(
    page: Page, text: str, tmp_path: Path
) -> None:
    Reader(page, text, tmp_path, "laptop")
    heads = page.locator("main > section > h2, main > section > .lead > h2")
    assert heads.all_inner_texts()[:4] == [
        "How should this pair be trained?",
        "How far can the teacher be trusted?",
        "What decides it",
        "How long should rollouts be?",
    ]
    tops = heads.evaluate_all("all => all.map(one => one.getBoundingClientRect().top)")
    assert tops[0] < LAPTOP["height"] / 3 and tops[3] <= 3 * LAPTOP["height"]
    claims = page.locator(".deciding li").all_inner_texts()
    assert 3 <= len(claims) <= 5
    for claim in claims:  # a verdict, a sentence, and numbers in sentences
        assert re.search(r"(holds|contradicted|not supported): [A-Z].+\. .+\d", claim), claim
        assert "concentrated" not in claim


def test_every_question_has_one_figure_two_sentences_and_a_fold(
    page: Page, text: str, tmp_path: Path
) -> None:
    Reader(page, text, tmp_path, "laptop")
    for question in (questions.DECAY, *questions.QUESTIONS[:-1]):
        here = section(page, question.name)
        assert here.locator("h2").inner_text() == question.heading
        assert here.locator("svg[role=img]:visible").count() == 1, question.name
        sentences = here.locator(".lead > p").all_inner_texts()
        assert len(sentences) == 2 and all(re.search(r"\d", one) for one in sentences), sentences
        assert here.locator("details:not(.more)").count() == 1
        assert not here.locator("table").first.is_visible()
    assert page.locator("main > section").last.get_attribute("aria-labelledby") == "everything-else"
    assert "Which teacher?" not in page.locator("nav").inner_text()


def test_no_figure_and_no_table_is_there_twice(text: str) -> None:
    """Two runs measured position-kl, two submode, and two sweeps stability and efficiency."""
    for kind in ("figure", "rows"):
        names = re.findall(rf'id="{kind}-([a-z0-9-]+)"', text)
        assert len(set(names)) == len(names) > 10
    assert not re.search(r'id="figure-[a-z-]*(trained|rollout-length|selector)', text)


@pytest.mark.parametrize(("size", "scheme"), [("laptop", "light"), ("phone", "dark")])
def test_the_report_of_the_committed_runs_has_no_grave_fault(
    page: Page, text: str, tmp_path: Path, size: str, scheme: Any
) -> None:
    Reader(page, text, tmp_path, size)
    page.emulate_media(color_scheme=scheme)
    assert sideways(page) == 0
    assert axe_faults(page) == []


def test_no_drawing_is_white_in_the_dark(page: Page, text: str, tmp_path: Path) -> None:
    Reader(page, text, tmp_path, "laptop")
    page.emulate_media(color_scheme="dark")
    fills = page.locator("svg.wide :is(path, rect, text):not(defs *)").evaluate_all(
        "all => [...new Set(all.map(one => getComputedStyle(one).fill))]"
    )
    assert len(fills) > 10 and "rgb(20, 23, 27)" in fills
    assert not {"rgb(255, 255, 255)", "rgb(0, 0, 0)", "rgb(38, 38, 38)"} & set(fills)


@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_on_paper_pages_are_few_and_full_and_a_heading_stays_with_its_text(
    page: Page, text: str, tmp_path: Path, paper: Literal["A4", "Letter"]
) -> None:
    pdfium = pytest.importorskip("pypdfium2", reason="needs extra: pypdfium2")
    Reader(page, text, tmp_path, "laptop")
    sheets = pdfium.PdfDocument(page.pdf(format=paper))
    assert 4 <= len(sheets) <= 15
    filled = [
        lowest_ink(np.asarray(sheet.render(scale=0.5).to_pil().convert("L"))) for sheet in sheets
    ]
    assert min(filled[:-1]) > 0.6, filled
    words = [" ".join(sheet.get_textpage().get_text_bounded().split()) for sheet in sheets]
    for question in (questions.DECAY, *questions.QUESTIONS[:-1]):
        (on,) = [one for one in words if question.heading in one]
        assert len(on.partition(question.heading)[2]) > 40, question.heading


def lowest_ink(pixels: np.ndarray) -> float:
    """How far down a page something is printed, of its height."""
    rows = np.flatnonzero((pixels < 245).any(axis=1))
    return float(rows.max() + 1) / len(pixels)


def test_on_paper_a_figure_has_its_short_caption_and_the_rest_stays_folded(
    page: Page, text: str, tmp_path: Path
) -> None:
    Reader(page, text, tmp_path, "laptop")
    page.emulate_media(media="print")
    shown = [
        one.inner_text()
        for one in page.locator("main > section .caption").all()
        if one.is_visible()
    ]
    assert len(shown) == 6 and max(len(one.split()) for one in shown) <= 70
    page.emulate_media(media="screen")
    page.locator("section[aria-labelledby=kl] > .behind > summary").click()
    page.locator("section[aria-labelledby=kl] .more > summary").click()
    told = page.locator("section[aria-labelledby=kl] .more > .caption").inner_text()
    assert "Grey band: twice the noise floor" in told


def test_runs_that_lack_something_leave_its_question_out_and_name_the_command(
    page: Page, tmp_path: Path
) -> None:
    runs = [MEASURED / "prefix-decay", MEASURED / "signals"]
    Reader(page, reporting.report_page(runs), tmp_path, "laptop")
    lines = page.locator("section[aria-labelledby=unanswered] .missing > div").all_inner_texts()
    told = dict(line.split("\n") for line in lines)
    assert list(told) == [
        "How long should rollouts be?",
        "Does the student commit to a mode?",
        "What did training do to length and stopping?",
        "What did it cost?",
    ]
    assert all(command.startswith("decaylab ") for command in told.values())
    assert "sweep rollout-length --values 20,39,78,full" in told["How long should rollouts be?"]
    assert "No setting is recommended yet" in page.locator(".answer").first.inner_text()
    for gone in ("lengths", "mode", "behaviour", "cost", "teacher"):
        assert section(page, gone).count() == 0
    assert "No trained student was measured" in section(page, "kl").inner_text()


def test_the_answer_is_that_of_the_advice_and_no_claim_says_otherwise(text: str) -> None:
    from decaylab.claims.advice import advise

    advice = advise(found_runs.find([MEASURED]))
    assert advice.verdict[0] == "Train with full rollouts." and advice.verdict[1] in text
    assert "Recommended rollout length" not in text
    early = re.search(r'class="verdict ([a-z-]+)".{0,200}rollouts that stop early', text, re.S)
    assert early and early[1] != "holds"
