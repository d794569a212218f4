"""The token view in a browser: it shows what is chosen with the numbers of the table, by mouse and
by keyboard."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from browser import PHONE, axe_faults, open_text, sideways
from viewed_tables import large, rollout_row, tables

from decaylab.pages import report, token_view

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest_plugins = ["browser"]

TALL = {"width": 1280, "height": 2400}
SHOWN = "#tv-app:not([hidden])"
COLOURS = ["reverse_kl", "student_entropy", "teacher_entropy", "token_rank", "category", "nothing"]
EDGES = {"token_rank": [2, 3, 6, 21]}
LINES = ["ab", "cd", "ef", "\n", "gh", "ij", "kl", "\n", "mn"]
VERDICTS = {  # of base, esr and full
    ("p0", 0): ("correct", "correct", "wrong"),
    ("p0", 1): ("wrong", "correct", "correct"),
    ("p1", 0): ("no_answer", "wrong", "correct"),
    ("p1", 1): ("correct", "wrong", "timeout"),
    ("p2", 0): ("timeout", "correct", "correct"),
}
CONTINUED = {  # what the teacher made of it after 2 and 4 tokens
    ("p0", 0): ("wrong", "correct"),
    ("p0", 1): ("correct", "correct"),
    ("p1", 0): ("correct", "wrong"),
    ("p1", 1): ("correct", "no_answer"),
}


@pytest.fixture(scope="module")
def shown() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Five rollouts of three checkpoints; the last is cut off and nobody went on from it; one of
    full is missing."""
    rows = [
        rollout_row(
            checkpoint,
            problem,
            sample,
            verdict=verdicts[i],
            stop_reason="length" if problem == "p2" else "eos",
        )
        for (problem, sample), verdicts in VERDICTS.items()
        for i, checkpoint in enumerate(("base", "esr", "full"))
        if (problem, checkpoint) != ("p2", "full")
    ]
    rollouts, tokens = tables(
        rows, [[*LINES, f" {row['problem_id']}", "$\\boxed{4}$"] for row in rows]
    )
    tokens.loc[5, "reverse_kl"] = math.nan
    told = [
        {
            "rollout_id": f"student/{problem}/{sample}",
            "prefix_tokens": k,
            "verdict": verdict,
            "stop_reason": "eos",
            "text": f"the teacher goes on\nfrom {k} of {problem}.{sample}",
            "sample": 0,
        }
        for (problem, sample), verdicts in CONTINUED.items()
        for k, verdict in zip((2, 4), verdicts)
    ]
    return rollouts, tokens, pd.DataFrame(told)


@pytest.fixture(scope="module")
def text(shown: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> str:
    return token_view.page(*shown, title="Tokens of a test", pair="student and teacher")


@pytest.fixture
def view(page: Page, text: str, tmp_path: Path) -> Iterator[Page]:
    """The page of those rollouts, opened."""
    open_text(page, text, tmp_path)
    page.wait_for_selector(SHOWN)
    yield page


def tokens_of(page: Page, column: int = 0) -> list[str]:
    """The texts of the tokens, without what stands above them."""
    return (
        page.locator("#tv-columns article")
        .nth(column)
        .locator(".tv-token")
        .evaluate_all(
            "all => all.map(one => [...one.childNodes].map(function text(node) { return "
            "node.nodeName === 'RT' ? '' : node.childNodes.length ? "
            "[...node.childNodes].map(text).join('') : node.textContent; }).join(''))"
        )
    )


def token(page: Page, at: int, column: int = 0) -> Any:
    return page.locator("#tv-columns article").nth(column).locator(".tv-token").nth(at)


def chosen(page: Page) -> tuple[str, str]:
    """Problem and sample of what is shown."""
    said = page.locator("#tv-gold .tv-place").text_content() or ""
    problem, sample = said.removeprefix(" \u00b7 problem ").split(", sample ")
    return problem, sample


def open_list(page: Page) -> None:
    """Opens the list of rollouts where it does not stand beside the texts."""
    if not page.is_visible("#tv-list"):
        page.click("#tv-list-button")


def show(page: Page, problem: str, sample: int = 0) -> None:
    """Chooses a rollout in the list, which stands beside the texts or is opened first."""
    open_list(page)
    row = page.locator(".tv-pair", has_text=problem).filter(has_text=f"sample {sample} ")
    row.click()


def display(page: Page) -> None:
    """Opens the choices of display, or closes them."""
    page.click("#tv-options-button")


def focused(page: Page) -> int:
    return int(page.evaluate("document.activeElement.dataset.at"))


def panel(page: Page) -> dict[str, Any]:
    """What the panel says: its head, its numbers by key, and the rows of the two tables."""
    rows = {}
    for policy in ("student", "teacher"):
        table = page.locator(f"#tv-details table[data-policy={policy}]")
        rows[policy] = [
            row.locator("td").all_text_contents() for row in table.locator("tbody tr").all()
        ]
    values = page.locator("#tv-details dd").evaluate_all(
        "all => all.map(one => [one.dataset.key, one.textContent])"
    )
    return {"head": page.locator("#tv-details .tv-what-line").inner_text(), **dict(values), **rows}


def nats(value: float) -> str:
    return f"{value:.4f}".replace("-", "\u2212")


def percent(probability: float) -> str:
    if probability < 0.001:
        return "< 0.1 %"
    if probability > 0.999:
        return "> 99.9 %"
    return f"{min(max(100 * probability, 0.1), 99.9):.1f} %"


def agrees(panel: dict[str, Any], row: dict[str, Any], size: int) -> None:
    """The panel tells the table's row."""
    assert f"token {row['position'] + 1} of {size} (position {row['position']})" in panel["head"]
    assert f"id {row['token_id']}" in panel["head"]
    assert row["category"].replace("_", " ") in panel["head"] and row["checkpoint"] in panel["head"]
    for name in ("reverse_kl", "student_entropy", "teacher_entropy"):
        assert panel[name] == ("undefined" if math.isnan(row[name]) else f"{nats(row[name])} nats")
    for policy in ("student", "teacher"):
        logprob = row[f"{policy}_logprob"]
        assert (
            panel[f"{policy}_probability"] == f"{percent(math.exp(logprob))} (log {nats(logprob)})"
        )
        told = [
            (visible(text, True), likely)
            for text, likely in zip(row[f"{policy}_top"], row[f"{policy}_top_probabilities"])
        ]
        assert [text.removesuffix(" taken") for _, text, _ in panel[policy]] == [
            text for text, _ in told
        ]
        for i, ((rank, _, share), (_, likely)) in enumerate(zip(panel[policy], told, strict=True)):
            near = {percent(likely + error) for error in (-1e-9, 0, 1e-9)}  # ties round either way
            assert rank == str(i + 1) and share in near
        taken = [i for i, text in enumerate(row[f"{policy}_top"]) if text == row["token"]]
        assert [
            i for i, (_, text, _) in enumerate(panel[policy]) if text.endswith(" taken")
        ] == taken
    assert panel["token_rank"] == str(row["token_rank"])
    assert panel["student_top1_rank"] == str(row["student_top1_rank"])


def visible(text: str, spaces: bool = False) -> str:
    """A token's text as the page promises to show it, from the promise."""
    signs = {"\n": "\u21b5\n", "\t": "\u21e5"}
    spaces = spaces or text.isspace()
    ignorable = {"\u034f", "\ufe0f", "\u3164"}

    def one(character: str) -> str:
        if character == " ":
            return "\u2423" if spaces else " "
        hidden = unicodedata.category(character)[0] in "CZ" or character in ignorable | {
            "\u2423",
            "\u21b5",
            "\u2800",
        }
        return signs.get(character) or (f"U+{ord(character):04X}" if hidden else character)

    mark = "\u25cc" if unicodedata.category(text[0])[0] == "M" and text[0] not in ignorable else ""
    return mark + "".join(map(one, text))


# Choosing


def test_the_first_rollout_is_shown_in_every_checkpoint_with_what_became_of_it(view: Page) -> None:
    assert chosen(view) == ("p0", "0")
    assert view.locator("#tv-columns article > h2").all_text_contents() == ["base", "esr", "full"]
    heads = view.locator("#tv-columns article > h2 + p").all_text_contents()
    assert heads[0].startswith("✓ correct (last_boxed) · 11 tokens, stopped naturally · mean KL ")
    assert heads[2].startswith("✗ wrong ")
    assert "What is p0?" in view.inner_text("#tv-question")
    assert view.inner_text("#tv-gold") == "Gold answer: 42 · problem p0, sample 0"
    for column in range(3):
        assert tokens_of(view, column) == [visible(one) for one in [*LINES, " p0", "$\\boxed{4}$"]]


def test_only_the_shown_rollouts_stand_in_the_page(view: Page) -> None:
    assert view.locator(".tv-text .tv-token").count() == 3 * 11
    display(view)
    view.get_by_label("esr", exact=True).uncheck()
    assert view.locator(".tv-text .tv-token").count() == 2 * 11
    assert view.locator("#tv-columns article > h2").all_text_contents() == ["base", "full"]


def test_a_rollout_that_was_cut_off_or_not_kept_says_so(view: Page) -> None:
    show(view, "p2")
    assert view.locator("#tv-columns").inner_text().count("cut off at the token budget") == 2
    assert "? not judged: time-out" in view.locator("#tv-columns article").nth(0).inner_text()
    assert (
        "No rollout of this checkpoint was kept"
        in view.locator("#tv-columns article").nth(2).inner_text()
    )


def test_rollouts_are_listed_with_what_they_are_sorted_and_filtered_by(
    view: Page, shown: tuple[pd.DataFrame, ...]
) -> None:
    open_list(view)
    rows = view.locator(".tv-pair").all_text_contents()
    base = shown[0][shown[0]["checkpoint"] == "base"]
    means = shown[1][shown[1]["checkpoint"] == "base"].groupby("rollout_id")["reverse_kl"].mean()
    for row, rollout in zip(rows, base.to_dict("records"), strict=True):
        assert f"What is {rollout['problem_id']}?" in row and "11 tokens" in row
        assert f"sample {rollout['sample']}" in row
        assert f"KL {means[rollout['rollout_id']]:.3f}" in row
    assert ["recovered" in row for row in rows] == [False, True, True, False, False]
    assert ["regressed" in row for row in rows] == [True, False, False, False, False]
    assert "? not judged: time-out" in rows[4]
    view.locator(".tv-pair").nth(3).click()
    assert chosen(view) == ("p1", "1") and view.inner_text("#tv-count") == "4 of 5"


@pytest.mark.parametrize(
    ("order", "column", "ascending"),
    [
        ("kl", "mean_kl", False),
        ("low_kl", "mean_kl", True),
        ("long", "response_tokens", False),
        ("short", "response_tokens", True),
    ],
)
def test_the_list_is_sorted_by_a_number_and_those_without_one_come_last(
    page: Page, tmp_path: Path, order: str, column: str, ascending: bool
) -> None:
    rows = [rollout_row("base", f"p{i}", 0) for i in range(6)]
    rollouts, tokens = tables(rows, [["x"] * size for size in (5, 3, 9, 3, 1, 7)])
    tokens.loc[tokens["rollout_id"] == "student/p1/0", "reverse_kl"] = math.nan
    open_text(page, token_view.page(rollouts, tokens, title="Sorted", pair="two"), tmp_path)
    page.wait_for_selector(SHOWN)
    open_list(page)
    page.select_option("#tv-order", order)
    means = tokens.groupby("rollout_id")["reverse_kl"].mean()
    wanted = rollouts.assign(mean_kl=rollouts["rollout_id"].map(means)).sort_values(
        column, ascending=ascending, kind="stable", na_position="last"
    )
    names = page.locator(".tv-pair bdi").all_text_contents()
    assert names == list(wanted["problem_id"])
    page.select_option("#tv-order", "given")
    least = 0.1
    page.fill("#tv-least-kl", str(least))
    page.press("#tv-least-kl", "Tab")
    left = [name for name in rollouts["rollout_id"] if means[name] >= least]
    assert page.inner_text("#tv-count").endswith(f" of {len(left)}") and 0 < len(left) < 6
    page.fill("#tv-least-kl", "")
    page.fill("#tv-least-tokens", "5")
    page.press("#tv-least-tokens", "Tab")
    assert page.locator(".tv-pair bdi").all_text_contents() == ["p0", "p2", "p5"]
    page.fill("#tv-words", "IS P2")
    page.press("#tv-words", "Enter")
    assert page.locator(".tv-pair bdi").all_text_contents() == ["p2"]


def test_filters_count_and_leave_what_they_say(view: Page) -> None:
    base = {key: verdicts[0] for key, verdicts in VERDICTS.items()}
    made = {key: verdicts[0] for key, verdicts in CONTINUED.items()}
    wanted = {
        "all": [*VERDICTS],
        "correct": [key for key, verdict in base.items() if verdict == "correct"],
        "wrong": [key for key, verdict in base.items() if verdict != "correct"],
        "recovered": [
            key for key, then in made.items() if base[key] != "correct" and then == "correct"
        ],
        "regressed": [
            key for key, then in made.items() if base[key] == "correct" and then != "correct"
        ],
    }
    for name, keys in wanted.items():
        option = view.locator(f"#tv-filter option[value={name}]")
        assert f"({len(keys)})" in (option.text_content() or "")
        view.select_option("#tv-filter", name)
        seen = []
        for _ in keys:
            seen.append(chosen(view))
            view.click("#tv-next")
        assert sorted(seen) == [(problem, str(sample)) for problem, sample in keys]
        assert chosen(view) == seen[0]  # the next of the last is the first
        view.click("#tv-previous")
        assert chosen(view) == seen[-1]


def test_the_verdict_that_filters_may_be_another_checkpoints(view: Page) -> None:
    display(view)
    view.select_option("#tv-judged", "full")
    view.select_option("#tv-filter", "correct")
    assert view.inner_text("#tv-count") == "1 of 2" and chosen(view) == ("p0", "1")
    assert "teacher recovered at 2 (2)" in filters(view)  # base alone is continued


def filters(page: Page) -> str:
    return page.locator("#tv-filter").text_content() or ""


def test_recovered_and_regressed_are_those_of_the_chosen_prefix(view: Page) -> None:
    counts = {}
    display(view)
    for k in (2, 4):
        view.select_option("#tv-prefix", str(k))
        counts[k] = filters(view)
    assert "teacher recovered at 2 (2)" in counts[2] and "teacher regressed at 2 (1)" in counts[2]
    assert "teacher recovered at 4 (1)" in counts[4] and "teacher regressed at 4 (1)" in counts[4]
    view.select_option("#tv-filter", "regressed")
    assert chosen(view) == ("p1", "1")
    view.select_option("#tv-prefix", "null")
    assert view.inner_text("#tv-count") == "none is left; what was shown stays"
    assert chosen(view) == ("p1", "1")


def test_the_prefix_is_marked_where_it_ends_and_followed_by_what_the_teacher_wrote(
    view: Page,
) -> None:
    display(view)
    for k in (2, 4):
        view.select_option("#tv-prefix", str(k))
        before = view.locator(".tv-boundary").evaluate("bar => bar.previousSibling.dataset.at")
        assert (
            before == str(k - 1)
            and view.inner_text(".tv-boundary") == f"teacher takes over after {k} tokens"
        )
    said = view.locator("#tv-columns article").nth(0).locator(".tv-continuation")
    assert "✓ correct · stopped naturally" in said.inner_text()
    assert said.locator(".tv-text").text_content() == "the teacher goes on\u21b5\nfrom 4 of p0.0"
    view.select_option("#tv-prefix", "2")
    assert "✗ wrong · teacher regressed: the rollout itself is correct" in said.inner_text()
    assert view.locator(".tv-continuation").count() == 1  # of base alone
    display(view)
    show(view, "p2")
    assert "No continuation from there was kept" in view.inner_text(".tv-continuation")
    assert view.locator(".tv-boundary").count() == 0


# The address


def test_what_is_chosen_stands_in_the_address_and_comes_back_from_it(
    view: Page, text: str, tmp_path: Path
) -> None:
    show(view, "p1")
    display(view)
    view.select_option("#tv-colour", "category")
    view.select_option("#tv-prefix", "4")
    view.get_by_label("esr", exact=True).uncheck()
    view.select_option("#tv-filter", "wrong")
    token(view, 6, 1).click()
    address = urlsplit(view.url).fragment
    said = parse_qs(address)
    assert said["problem"] == ["p1"] and said["sample"] == ["0"] and said["colour"] == ["category"]
    assert said["of"] == ["full"] and said["token"] == ["7"]
    before = (chosen(view), view.inner_text("#tv-columns"), view.inner_text("#tv-count"))
    told = panel(view)
    view.goto("about:blank")
    open_text(view, text, tmp_path, f"#{address}")
    view.wait_for_selector(SHOWN)
    assert (chosen(view), view.inner_text("#tv-columns"), view.inner_text("#tv-count")) == before
    assert panel(view) == told and "token 7 of 11" in told["head"]
    assert view.input_value("#tv-colour") == "category"
    assert view.input_value("#tv-filter") == "wrong"
    assert not view.is_checked("#tv-checkpoints input[value=esr]")


def test_the_link_of_a_token_leads_to_it(view: Page, text: str, tmp_path: Path) -> None:
    token(view, 3, 2).click()
    told = panel(view)
    link = view.get_by_role("link", name="Link to this token").get_attribute("href") or ""
    view.goto("about:blank")
    open_text(view, text, tmp_path, link)
    view.wait_for_selector("#tv-details:not([hidden])")
    assert panel(view) == told
    assert view.locator(".tv-chosen").evaluate("one => one.dataset.at") == "3"


def test_a_new_address_is_followed_and_one_that_names_nothing_says_so(view: Page) -> None:
    view.evaluate("location.hash = '#problem=p1&sample=1&colour=token_rank'")
    view.wait_for_function("document.getElementById('tv-colour').value === 'token_rank'")
    assert chosen(view) == ("p1", "1") and view.input_value("#tv-colour") == "token_rank"
    view.evaluate("location.hash = '#problem=p9&colour=mauve&of=base&token=1'")
    view.wait_for_function("document.getElementById('tv-notice').textContent !== ''")
    told = view.inner_text("#tv-notice")
    assert (
        "problem p9, sample any" in told and "colour mauve" in told and chosen(view) == ("p1", "1")
    )
    view.evaluate("location.hash = '#problem=p1&of=base&token=99'")
    view.wait_for_function("document.getElementById('tv-notice').textContent.includes('99')")
    assert "token 99 of base" in view.inner_text("#tv-notice")
    view.click("#tv-next")
    assert view.locator("#tv-notice").text_content() == ""
    view.evaluate(
        "location.hash = '#problem=p0&sample=1&filter=correct'"
    )  # which is wrong: what was asked for is shown
    view.wait_for_function("document.getElementById('tv-gold').textContent.includes('problem p0')")
    assert chosen(view) == ("p0", "1") and view.input_value("#tv-filter") == "all"


# Colours


@pytest.mark.parametrize("colour", COLOURS[:4])
def test_a_colour_is_the_step_of_the_scale_that_the_number_falls_in(
    view: Page, shown: tuple[pd.DataFrame, ...], colour: str
) -> None:
    display(view)
    view.select_option("#tv-colour", colour)
    own = shown[1][(shown[1]["checkpoint"] == "base") & (shown[1]["rollout_id"] == "student/p0/0")]
    classes = (
        view.locator("#tv-columns article")
        .nth(0)
        .locator(".tv-token")
        .evaluate_all("all => all.map(x => x.className)")
    )
    for name, value in zip(classes, own[colour], strict=True):
        steps = sum(round(value, 4) >= edge for edge in EDGES.get(colour, [0.01, 0.1, 0.5, 2]))
        assert ("tv-undefined" if math.isnan(value) else f"tv-level-{steps}") in name.split()
    display(view)
    legend = view.locator("#tv-scale li:not(:has(.tv-differs))").all_inner_texts()
    assert len(legend) == (5 if colour == "token_rank" else 6)  # a rank is never undefined
    assert "≥ 2" in legend or "≥ 21" in legend


def test_the_high_end_and_each_category_differ_by_more_than_colour(view: Page) -> None:
    style = "getComputedStyle(one).textDecorationLine + getComputedStyle(one).textDecorationStyle"
    display(view)
    for colour, parts in (("reverse_kl", 4), ("category", 3)):
        view.select_option("#tv-colour", colour)
        lines = view.locator("#tv-scale .tv-token").evaluate_all(f"all => all.map(one => {style})")
        assert (
            len({*lines}) == parts
        )  # the two lowest steps of a scale, and undefined, have no line
    view.select_option("#tv-colour", "nothing")
    assert view.inner_text("#tv-scale-name") == "Tokens are not coloured."
    assert not view.locator("[class*=tv-level], [class*=tv-kind]").count()


def test_the_button_of_a_text_goes_to_its_highest_number(
    view: Page, shown: tuple[pd.DataFrame, ...]
) -> None:
    own = shown[1][
        (shown[1]["checkpoint"] == "base") & (shown[1]["rollout_id"] == "student/p0/0")
    ].reset_index()
    for colour, unit in (("reverse_kl", " nats"), ("token_rank", "")):
        display(view)
        view.select_option("#tv-colour", colour)
        display(view)
        best = int(own[colour].idxmax())
        button = view.locator("article").first.locator(".tv-finder", has_text="Highest")
        number = nats(own[colour][best]) if unit else str(own[colour][best])
        assert f"{number}{unit} at token {best + 1}" in button.inner_text()
        button.click()
        assert f"token {best + 1} of 11" in panel(view)["head"]


# One token


def test_pointing_and_the_keyboard_tell_the_same_and_it_is_what_the_table_holds(
    view: Page, shown: tuple[pd.DataFrame, ...]
) -> None:
    view.set_viewport_size(TALL)
    for column, checkpoint in enumerate(("base", "esr", "full")):
        own = shown[1][
            (shown[1]["checkpoint"] == checkpoint) & (shown[1]["rollout_id"] == "student/p0/0")
        ]
        told = []
        token(view, 0, column).click()  # opens the details
        for at in range(len(own)):
            token(view, at, column).hover()
            told.append(panel(view))
        view.mouse.move(1, 1)
        token(view, 0, column).focus()
        for at, row in enumerate(own.to_dict("records")):
            found = panel(view)
            assert found == told[at]
            agrees(found, row, len(own))
            view.keyboard.press("ArrowRight")


def test_the_panel_returns_to_the_chosen_token_when_the_pointer_leaves(view: Page) -> None:
    view.set_viewport_size(TALL)
    token(view, 2).click()
    before = panel(view)
    token(view, 6).hover()
    assert panel(view) != before
    view.mouse.move(1, 1)
    assert panel(view) == before


def test_tab_enters_a_text_once_and_keys_move_in_it(view: Page) -> None:
    view.set_viewport_size({"width": 1900, "height": 900})  # a line of the text is one of the page
    view.locator(".tv-strip").first.focus()
    view.keyboard.press("Tab")
    assert focused(view) == 0
    assert view.locator('.tv-text .tv-token[tabindex="0"]').count() == 3  # one a text
    moves = {
        "ArrowRight": [1],
        "ArrowDown": [5, 9, 9],
        "ArrowUp": [5, 1, 1],
        "End": [10],
        "ArrowLeft": [9],
        "Home": [0],
    }
    edges = [("ArrowLeft", 0), ("End", 10), ("ArrowRight", 10)]
    for key, at in [*((key, at) for key, places in moves.items() for at in places), *edges]:
        view.keyboard.press(key)
        assert focused(view) == at, key
    view.keyboard.press("End")
    view.keyboard.press("Tab")  # on to the next text, not to the next token
    assert view.evaluate("document.activeElement.className") == "tv-finder"
    view.keyboard.press("Shift+Tab")
    assert focused(view) == 10


def test_a_focused_token_is_described_in_one_sentence_and_nothing_is_announced(view: Page) -> None:
    token(view, 3).focus()
    name = view.evaluate("document.activeElement.getAttribute('aria-describedby')")
    said = view.locator(f"#{name}").text_content() or ""
    assert (
        said.startswith("Token 4 of 11, ") and "reverse KL" in said and "under the teacher" in said
    )
    assert (
        view.locator(
            "#tv-details[aria-live], #tv-details [aria-live], #tv-details[role=status]"
        ).count()
        == 0
    )


def test_a_choice_keeps_the_token_where_the_rollout_stays(view: Page) -> None:
    token(view, 7, 1).click()
    display(view)
    view.select_option("#tv-colour", "token_rank")
    assert "token 8 of 11" in panel(view)["head"] and "esr" in panel(view)["head"]
    view.click("#tv-next")
    assert not view.is_visible("#tv-details")  # another rollout: nothing is chosen of it yet


def test_the_details_are_closed_at_first_and_open_and_close_by_keyboard(view: Page) -> None:
    assert not view.is_visible("#tv-details")
    token(view, 0).focus()
    view.keyboard.press("ArrowRight")
    assert not view.is_visible("#tv-details") and focused(view) == 1
    view.keyboard.press("Enter")
    assert "token 2 of 11" in panel(view)["head"] and focused(view) == 1
    view.keyboard.press("ArrowRight")
    assert "token 3 of 11" in panel(view)["head"]
    view.keyboard.press("Escape")
    assert not view.is_visible("#tv-details") and focused(view) == 2
    view.keyboard.press(" ")
    view.locator("#tv-close").focus()
    view.keyboard.press("Enter")
    assert not view.is_visible("#tv-details") and focused(view) == 2


def test_a_list_that_lies_over_the_texts_is_closed_by_a_choice_and_by_escape(view: Page) -> None:
    view.set_viewport_size(PHONE)
    view.wait_for_selector("#tv-list", state="hidden")  # the page closes it when it is resized
    for name in ("list", "options"):
        button = view.locator(f"#tv-{name}-button")
        if button.get_attribute("aria-expanded") == "true":
            button.click()
        assert not view.is_visible(f"#tv-{name}")
        button.click()
        assert button.get_attribute("aria-expanded") == "true" and view.is_visible(f"#tv-{name}")
        view.locator(f"#tv-{name} select").first.focus()
        view.keyboard.press("Escape")
        assert button.get_attribute("aria-expanded") == "false"
        assert view.evaluate("document.activeElement.id") == f"tv-{name}-button"
    view.click("#tv-list-button")
    view.locator(".tv-pair").nth(2).click()
    assert not view.is_visible("#tv-list") and chosen(view) == ("p1", "0")


# What was written


HOSTILE = [
    "<script>window.pwned=1</script>",
    "</script>",
    "<!--",
    "\"'",
    "\0",
    "\u202eevil",
    "\u2028",
    "${x}",
    "{{ 7*7 }}",
    "&amp;",
    "\\frac{1}{2}$x^2$",
    "\t",
    "\r\n",
    "  ",
    " a b",
    "\u2423",
    "\u21b5",
    "\u200d",
    "\u0301",
    "\ufe0f",
    "\u05d0\u05d1",
    "\u00a0",
    "\u3164",
    "\u2800",
    "javascript:window.pwned=1",
    "\U0001f600",
    "<img src=x onerror=window.pwned=1>",
    "\u0e33",
]


def test_hostile_texts_do_nothing_and_are_shown_as_they_are_written(
    page: Page, tmp_path: Path
) -> None:
    evil = "".join(HOSTILE)
    names = {
        "question": evil,
        "answer": evil,
        "answer_rule": evil,
        "stop_reason": evil,
        "verdict": evil,
    }
    row = rollout_row("base", evil, 0, **names)
    other = rollout_row("<img src=x onerror=window.pwned=1>\u202e", evil, 0, **names)
    rollouts, tokens = tables(
        [row, other],
        [HOSTILE, ["", "\u20ac", *HOSTILE[:3]]],
        [[""] * len(HOSTILE), ["E2 82", "AC", "", "", ""]],
    )
    tokens["category"] = evil
    tokens["teacher_top"] = [HOSTILE[i % 20 : i % 20 + 5] for i in range(len(tokens))]
    continuation = {
        "rollout_id": row["rollout_id"],
        "prefix_tokens": 2,
        "text": evil,
        "verdict": evil,
        "stop_reason": evil,
        "sample": 0,
    }
    text = token_view.page(rollouts, tokens, pd.DataFrame([continuation]), title=evil, pair="two")
    open_text(page, text, tmp_path)
    page.wait_for_selector(SHOWN)
    assert tokens_of(page) == [visible(one) for one in HOSTILE]
    assert tokens_of(page, 1) == ["E2 82", "\u20ac", *map(visible, HOSTILE[:3])]
    open_list(page)
    row = page.locator(".tv-pair").first.text_content() or ""
    assert "<script>window.pwned=1</script>" in row
    for at in range(len(HOSTILE)):
        token(page, at).focus()
    page.keyboard.press("Enter")
    display(page)
    for colour in COLOURS:
        page.select_option("#tv-colour", colour)
    assert page.evaluate("window.pwned === undefined")
    assert page.locator("#token-view img, #token-view script:not([type])").count() == 0
    assert page.locator(".tv-continuation .tv-text").text_content() == visible(evil)
    raw = page.evaluate("document.getElementById('token-view').innerText")
    assert not any(unicodedata.category(one) in ("Cf", "Zl") or one == "\0" for one in raw)
    assert page.locator(".tv-text .tv-token").evaluate_all(
        "all => all.every(x => getComputedStyle(x).unicodeBidi === 'isolate')"
    )


def test_every_space_is_shown_where_that_is_asked_for(page: Page, tmp_path: Path) -> None:
    texts = ["a b", " c", " ", "\t"]
    page_text = token_view.page(
        *tables([rollout_row("base", "p0", 0)], [texts]), title="Spaces", pair="two"
    )
    open_text(page, page_text, tmp_path)
    page.wait_for_selector(SHOWN)
    assert tokens_of(page) == ["a b", " c", "\u2423", "\u21e5"]
    display(page)
    page.check("#tv-spaces")
    assert tokens_of(page) == ["a\u2423b", "\u2423c", "\u2423", "\u21e5"]
    assert not page.is_visible("#tv-prefix-row") and not page.is_visible(
        "#tv-judged-row"
    )  # nothing to choose there
    assert page.locator("#tv-filter option").count() == 3


def test_an_infinite_number_is_told_as_one(page: Page, tmp_path: Path) -> None:
    rollouts, tokens = tables([rollout_row("base", "p0", 0)], [["a", "b"]])
    tokens.loc[0, ["reverse_kl", "teacher_logprob"]] = [math.inf, -math.inf]
    open_text(page, token_view.page(rollouts, tokens, title="Infinite", pair="two"), tmp_path)
    page.wait_for_selector(SHOWN)
    token(page, 0).click()
    found = panel(page)
    assert "mean KL \u221e" in page.inner_text(".tv-facts")
    assert (
        found["reverse_kl"] == "\u221e nats"
        and found["teacher_probability"] == "0 % (log \u2212\u221e)"
    )
    assert "tv-level-4" in (token(page, 0).get_attribute("class") or "")


# What can go wrong


def test_without_decompression_the_page_says_so_in_words(
    page: Page, text: str, tmp_path: Path
) -> None:
    page.add_init_script("delete window.DecompressionStream")
    open_text(page, text, tmp_path)
    assert "This browser cannot unpack the token view" in page.inner_text("#tv-notice")
    assert not page.is_visible("#tv-app")


def test_a_damaged_file_says_so_in_words(page: Page, text: str, tmp_path: Path) -> None:
    cut = re.sub(r'(id="tv-payload">.{40})[^<]*', r"\1", text)
    assert len(cut) < len(text)
    open_text(page, cut, tmp_path)
    page.wait_for_function("document.getElementById('tv-notice').textContent !== ''")
    assert "cannot be unpacked; the file may be damaged" in page.inner_text("#tv-notice")


def test_without_rollouts_the_page_says_so(
    page: Page, tmp_path: Path, shown: tuple[pd.DataFrame, ...]
) -> None:
    open_text(
        page,
        token_view.page(shown[0].head(0), shown[1].head(0), title="None", pair="two"),
        tmp_path,
    )
    page.wait_for_function("document.getElementById('tv-notice').textContent !== ''")
    assert page.inner_text("#tv-notice") == "No rollout was kept to look at."


def test_without_scripts_the_page_says_so(chromium: Browser, text: str, tmp_path: Path) -> None:
    context = chromium.new_context(java_script_enabled=False)
    plain = context.new_page()
    open_text(plain, text, tmp_path)
    assert "needs JavaScript" in plain.locator("#token-view").inner_text()
    context.close()


def test_title_and_pair_are_escaped_and_the_page_asks_for_nothing(
    text: str, shown: tuple[pd.DataFrame, ...]
) -> None:
    evil = "<b>&\"'</b></title><script>1</script>"
    page_text = token_view.page(*shown, title=evil, pair=evil)
    assert (
        evil not in page_text
        and html.escape(evil, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
        in page_text
    )
    turned = token_view.page(*shown, title="a\u202eb", pair="c\u202ed")
    assert "\u202e" not in turned and turned.count("U+202E") > text.count("U+202E") + 2
    assert not re.search(r"(?:src|href)=\"(?!data:,\"|#)", text)
    assert token_view.page(*shown, title="Tokens of a test", pair="student and teacher") == text


# How it looks


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrast(first: str, second: str) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tokens_can_be_read_on_every_colour_in_both_modes(view: Page, scheme: Any) -> None:
    view.emulate_media(color_scheme=scheme)
    papers = set()
    display(view)
    for colour in COLOURS[:5]:
        view.select_option("#tv-colour", colour)
        looks = view.locator("#tv-scale .tv-token").evaluate_all(
            "all => all.map(x => [getComputedStyle(x).color, getComputedStyle(x).backgroundColor])"
        )
        filled = [
            (ink, ground) for ink, ground in looks if not ground.startswith("rgba(0, 0, 0, 0)")
        ]
        assert len(filled) >= (4 if colour != "category" else 3)
        assert min(contrast(ink, ground) for ink, ground in filled) >= 4.5
        papers |= {ground for _, ground in filled}
    bright = [luminance(ground) > 0.2 for ground in papers]
    assert all(bright) if scheme == "light" else not any(bright)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(view: Page, scheme: Any) -> None:
    view.set_viewport_size(TALL)
    view.emulate_media(color_scheme=scheme)
    assert axe_faults(view) == []
    open_list(view)
    assert axe_faults(view) == []
    display(view)
    token(view, 3, 1).focus()
    view.keyboard.press("Enter")
    for colour in COLOURS:
        view.select_option("#tv-colour", colour)
        assert axe_faults(view) == []


def test_a_phone_shows_the_columns_below_each_other_without_sideways_scrolling(
    page: Page, tmp_path: Path, shown: tuple[pd.DataFrame, ...]
) -> None:
    page.set_viewport_size(PHONE)
    rollouts, tokens, continuations = shown
    long = tokens.assign(token=tokens["token"].where(tokens["position"] != 2, "x" * 300))
    asked = rollouts.assign(question="y" * 300 + " " + rollouts["question"])
    open_text(
        page, token_view.page(asked, long, continuations, title="z" * 200, pair="a" * 200), tmp_path
    )
    page.wait_for_selector(SHOWN)
    display(page)
    for colour in COLOURS:
        page.select_option("#tv-colour", colour)
        assert sideways(page) == 0
    display(page)
    token(page, 2).click()
    assert sideways(page) == 0
    boxes = [box.bounding_box() for box in page.locator("#tv-columns article").all()]
    assert len({box["x"] for box in boxes if box}) == 1
    assert axe_faults(page) == []


def test_a_focused_token_is_not_hidden_behind_the_panel(page: Page, tmp_path: Path) -> None:
    texts = [["word ", "\n"] * 150]
    page.emulate_media(reduced_motion="reduce")
    open_text(
        page,
        token_view.page(*tables([rollout_row("base", "p0", 0)], texts), title="Long", pair="two"),
        tmp_path,
    )
    page.wait_for_selector(SHOWN)
    page.set_viewport_size(PHONE)
    token(page, 0).focus()
    page.keyboard.press("Enter")
    for key in ["ArrowDown"] * 30 + ["End"]:
        page.keyboard.press(key)
        own = page.evaluate("document.activeElement.getClientRects()[0].bottom")
        assert (
            own
            <= page.evaluate("document.getElementById('tv-details').getBoundingClientRect().top")
            + 1
        )


def test_the_panel_covers_nothing_that_stands_above_the_texts(view: Page) -> None:
    view.set_viewport_size(PHONE)
    token(view, 0).click()
    top = "document.getElementById('tv-details').getBoundingClientRect().top"
    for name in ("tv-filter", "tv-scale", "tv-question"):
        view.evaluate(
            f"document.getElementById('{name}').scrollIntoView({{block: 'end', behavior: "
            f"'instant'}})"
        )
        assert view.evaluate(
            f"document.getElementById('{name}').getBoundingClientRect().bottom <= {top}"
        )


def test_paper_shows_the_chosen_rollout_on_white_without_controls(view: Page) -> None:
    show(view, "p1")
    token(view, 0).click()
    view.emulate_media(media="print", color_scheme="dark")
    for name in (".tv-bar", ".tv-reading", ".tv-list", "#tv-close"):
        assert not view.is_visible(name)
    assert view.is_visible("#tv-details") and chosen(view) == ("p1", "0")
    assert (
        view.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    grounds = view.locator("#tv-scale .tv-token").evaluate_all(
        "all => all.map(x => getComputedStyle(x).backgroundColor)"
    )
    assert all(
        luminance(ground) > 0.2 for ground in grounds if not ground.startswith("rgba(0, 0, 0, 0)")
    )
    assert len(view.pdf()) > 10_000


# In a report, and at full size


def test_a_report_holds_the_view_as_a_section(
    page: Page, tmp_path: Path, shown: tuple[pd.DataFrame, ...]
) -> None:
    section = token_view.fragment(*shown, pair="student and teacher")
    content = report.ReportContent(
        title="R", student="s", teacher="t", problems="p", tokens=section
    )
    assert section.html.strip().startswith("{#") is False and 'id="token-view"' in section.html
    open_text(page, report.render(content), tmp_path)
    page.wait_for_selector(SHOWN)
    assert page.locator("#tv-columns article > h3").all_text_contents() == ["base", "esr", "full"]
    assert not page.is_visible("#tv-details") and not page.is_visible("#tv-list")
    token(page, 4, 1).click()
    agrees(panel(page), shown[1][shown[1]["checkpoint"] == "esr"].iloc[4].to_dict(), 11)
    show(page, "p1")
    assert "problem=p1" in page.url
    assert axe_faults(page) == []
    page.set_viewport_size(PHONE)
    assert sideways(page) == 0


def test_two_hundred_rollouts_of_500_tokens_stay_below_8_mb_and_open(
    page: Page, tmp_path: Path
) -> None:
    text = token_view.page(*large(), title="Large", pair="two")
    assert len(text.encode()) < 8_000_000
    open_text(page, text, tmp_path)
    page.wait_for_selector(SHOWN)
    assert page.locator(".tv-text .tv-token").count() == 500


# Long rollouts inside a report, on the screen and on paper

LONG = 3000  # tokens; of a rollout of 32,000 the same is drawn, only slower


@pytest.fixture(scope="module")
def long_report() -> str:
    """A report with two long rollouts, whose tokens tell their place."""
    words = [f"w{at}\n" if at % 20 == 19 else f"w{at} " for at in range(LONG)]
    rows = [
        rollout_row(name, "p0", 0, verdict="wrong", stop_reason="length")
        for name in ("base", "full")
    ]
    view = token_view.fragment(*tables(rows, [words, words]), pair="student and teacher")
    return report.render(
        report.ReportContent(title="R", student="s", teacher="t", problems="p", tokens=view)
    )


@pytest.mark.parametrize("size", [{"width": 1366, "height": 720}, PHONE])
def test_in_a_report_a_long_rollout_scrolls_in_itself_and_what_follows_is_in_reach(
    page: Page, long_report: str, tmp_path: Path, size: Any
) -> None:
    page.set_viewport_size(size)
    page.emulate_media(reduced_motion="reduce")
    open_text(page, long_report, tmp_path)
    page.wait_for_selector(SHOWN)
    high = page.locator("section.tokens").bounding_box()
    assert high and high["height"] < 3.5 * size["height"]
    text = page.locator("#tv-columns .tv-text").first
    assert text.evaluate("one => one.scrollHeight > 3 * one.clientHeight")
    strip = page.locator("#tv-columns .tv-strip").first
    strip.focus()
    strip.press("End")
    last, frame = token(page, LONG - 1).bounding_box(), text.bounding_box()
    assert last and frame
    assert frame["y"] <= last["y"] <= frame["y"] + frame["height"]
    assert 0 <= last["y"] < size["height"]
    assert sideways(page) == 0


def test_of_a_long_rollout_a_stretch_around_the_chosen_token_is_printed(
    page: Page, long_report: str, tmp_path: Path
) -> None:
    pdfium = pytest.importorskip("pypdfium2", reason="needs extra: pypdfium2")
    open_text(page, long_report, tmp_path, "#problem=p0&sample=0&of=base&token=1501")
    page.wait_for_selector(SHOWN)
    sheets = pdfium.PdfDocument(page.pdf(format="A4"))
    said = " ".join(sheet.get_textpage().get_text_bounded() for sheet in sheets)
    said = " ".join(said.split())
    assert len(sheets) <= 4
    assert "tokens 1,351 to 1,650 of 3,000" in said and "tokens 1 to 300 of 3,000" in said
    for place, printed in ((1350, True), (1649, True), (1349, False), (1650, False)):
        assert bool(re.search(rf"\bw{place}\b", said)) == printed, place
    assert re.search(r"\bw0\b", said)  # of the other, where nothing was chosen, its beginning


def test_counts_of_tokens_have_separators_and_one_is_one(
    page: Page, long_report: str, tmp_path: Path
) -> None:
    open_text(page, long_report, tmp_path)
    page.wait_for_selector(SHOWN)
    assert "3,000 tokens, cut off" in page.locator(".tv-facts").first.inner_text()
    rollouts, tokens = tables([rollout_row("base", "p0", 0)], [["one"]])
    open_text(page, token_view.page(rollouts, tokens, title="One", pair="two"), tmp_path)
    page.wait_for_selector(SHOWN)
    assert "1 token, stopped" in page.locator(".tv-facts").first.inner_text()
