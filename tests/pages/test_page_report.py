"""The report holds what it was given, whole and as data, and can be read, sorted and printed in a
browser without a network."""

from __future__ import annotations

import base64
import colorsys
import dataclasses
import hashlib
import html
import io
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from browser import LARGE, PHONE, axe_faults, open_text, sideways
from PIL import Image

from decaylab.claims import verdicts
from decaylab.claims.verdicts import Claim, Finding
from decaylab.figures import style
from decaylab.pages import cells, inlining, report
from decaylab.pages.report import (
    Embedded,
    Missing,
    ReportContent,
    ReportFigure,
    ReportModel,
    ReportTable,
    RunInfo,
    Section,
    render,
)

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest_plugins = ["browser"]

HERE = Path(__file__).parent

NAN, INF = math.nan, math.inf
VALUES = [0.125, NAN, 1 / 3, -2e-9, INF, 123456.789, 1 / 3, -INF]
HIGHS = [9, 10, 2, 2, 10, 9, 1, 1]
CHECKPOINTS = ["prefix-20", "base", "prefix-5", "", "prefix-100", "full", "Base", "prefix-5"]
WORDS = (
    "<script>hacked = 1</script></script><img src=x onerror=hacked=1>\"'`${hacked=1}&amp;{{ "
    "7*7 }}</title></style>-->"
)
UNSEEN = "\u202egnp\u202c \x00\x07\r\u2066\u200f\ufeff"
HOSTILE = WORDS + UNSEEN
UNSEEN_SHOWN = re.sub("[^ gnp]", lambda found: f"\u27e8U+{ord(found[0]):04X}\u27e9", UNSEEN)
SHOWN = WORDS + UNSEEN_SHOWN
# A drawing has no such characters: XML does not.
IN_XML = re.sub("[\x00\x07\r]", "", HOSTILE)
SHOWN_IN_XML = re.sub("\u27e8U\\+00[0-9A-F]{2}\u27e9", "", SHOWN)


def measured() -> pd.DataFrame:
    """Rows with ties, undefined and endless numbers, text of several kinds, one constant column and
    two empty ones."""
    return pd.DataFrame(
        {
            "what": [f"what_{letter}" for letter in "abcdefgh"],
            "value": VALUES,
            "high": HIGHS,
            "checkpoint": CHECKPOINTS,
            "under_floor": [True, False] * 4,
            "level": 0.95,
            "p_value": NAN,
            "token": "",
        }
    )


def long_frame() -> pd.DataFrame:
    names = [f"{'even' if i % 2 == 0 else 'odd'} number-{i}" for i in range(40)]
    notes = ["", *["a remark that is longer than any other cell of this table"] * 39]
    return pd.DataFrame({"name": names, "count": range(40), "note": notes})


def svg(text: str = "a figure") -> bytes:
    """A drawing as matplotlib writes it: white ground, ink, a policy's colour, a clipped line."""
    return f"""<?xml version="1.0" encoding="utf-8" standalone="no"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="504pt" height="252pt" viewBox="0 0 504 252"
 xmlns="http://www.w3.org/2000/svg" version="1.1">
 <metadata>made by</metadata>
 <defs><style type="text/css">*{{stroke-linejoin: round}}</style>
 <clipPath id="p1"><rect x="0" y="0" width="9" height="9"/></clipPath>
 <path id="m1" d="M 0 0 L 9 9" style="stroke: #d55e00"/></defs>
 <path class="ground" d="M 0 0 L 504 0 L 504 252 L 0 252 z" style="fill: #ffffff"/>
 <path clip-path="url(#p1)" d="M 0 0 L 9 9" style="fill: none; stroke: #0072b2"/>
 <use xlink:href="#m1" x="1" y="1" style="stroke: #262626"/>
 <text x="9" y="40" style="fill: #262626">{text}</text>
</svg>""".encode()


def figure(name: str, rows: pd.DataFrame, **changes: Any) -> ReportFigure:
    words = {"title": "Title", "caption": "Caption.", "alt": "Alt.", **changes}
    return ReportFigure(name, wide=svg("wide"), narrow=svg("narrow"), rows=rows, **words)


def finding(
    text: str,
    verdict: Any,
    sentence: str,
    place: str = "",
    needs: str = "",
    shown: str = "nothing",
    rule: str = "",
) -> Finding:
    """What was found about a claim; shown: its figure."""
    claim = Claim("name", text, "question", place, rule, needs, ("signals",), shown)
    return Finding(claim, verdict, sentence, pd.DataFrame())


def content(**changes: Any) -> ReportContent:
    """A report with something in every section."""
    columns = {
        "student": ["base", "esr", "full", "teacher"],
        "avg@4": ["38.8 [31.2, 46.9]", "9.0", "n/a", "93.0"],
    }
    keys = {"avg@4": [38.8, 9, NAN, 93]}
    results = ReportTable("main-results", "Main results", pd.DataFrame(columns), keys, "In %.")
    decays = finding("The teacher decays", "holds", "It falls by 29 points.", "Fig. 1 left")
    decays = dataclasses.replace(decays, claim=dataclasses.replace(decays.claim, figure="decay"))
    wins = finding(
        "Early stopping wins", "contradicted", "It loses 6 points.", "Fig. 1 right", shown="long"
    )
    needs = "decaylab category-kl --limit 300"
    base = ReportContent(
        title="Teacher decay of small under large",
        student="small",
        teacher="large",
        problems="abacus, 100 problems",
        answer=["Train with full rollouts.", "No other setting is shown to be better."],
        facts=[
            ("Expected cost", "A step takes 2 seconds."),
            ("Next experiment", "Repeat it: `decaylab sweep selector --seeds 3` (6 runs)."),
        ],
        decay=Section(
            "trust",
            "How far can the teacher be trusted?",
            ["Half of the advantage is gone after 39 tokens [33, 44]."],
            figure("decay", measured(), title="Decay by prefix", alt="Decay. A falling line."),
        ),
        deciding=[wins, decays],
        sections=[
            Section(
                "lengths",
                "How long should rollouts be?",
                ["Against full rollouts: -6.0 points.", "`decaylab sweep` shows more."],
                figure("long", long_frame(), title="Many rows", caption="Of many rows."),
                [results],
                ["Not in the figure: another-run."],
            )
        ],
        unanswered=[Missing("What did it cost?", "decaylab sweep rollout-length --seeds 3")],
        others=[Section("other-map", "Category map", (), figure("map", pd.DataFrame()))],
        missing=[Missing("Sub-modes", needs)],
        measured=["prefix-decay, run demo: 100 problems of abacus x 4 samples."],
        warnings=["One training seed: no interval over seeds."],
        claims=[
            decays,
            wins,
            finding("KL cascades", "undecided", "0.97 [0.90, 1.05].", "Fig. 3 right"),
            finding("Early KL is planning", "not measured", "", "Table 7", needs=needs),
        ],
        controls=[
            finding(
                "Its own prefix does no harm", "holds", "0.4 points [-1.1, 1.9].", shown="decay"
            )
        ],
        counted="Of 4 claims 1 holds.",
        tokens=Embedded(
            "Token view",
            "<p id='embedded'>tokens</p>",
            "#embedded { color: var(--ink) }",
            "window.tokens = 1",
        ),
        runs=[
            RunInfo(
                "demo",
                "decaylab prefix-decay --samples 4 --out runs/demo",
                "runs/demo",
                {"samples": 4, "horizon": None, "bins": [0, 5], "level": 0.95},
                {"decaylab": "0.1.0", "torch": "2.13.0"},
                ["3 of 100 problems have no gold answer, left out"],
                [
                    ReportModel("student", "small", "937f93", "main"),
                    ReportModel("teacher", "large", "efc279"),
                ],
                {"date": "2026-11-30", "duration": "3 min"},
            )
        ],
    )
    return dataclasses.replace(base, **changes)


def hostile() -> ReportContent:
    """A report in which every text that is not a name wants to run."""
    frame = pd.DataFrame({HOSTILE: [HOSTILE, "b"], "n": [1, 2]})
    rows = pd.concat([frame.assign(c=HOSTILE)] * 7)
    wild = finding(HOSTILE, "holds", HOSTILE, HOSTILE, HOSTILE, "decay", HOSTILE)
    drawn = html.escape(IN_XML)
    picture = ReportFigure("decay", HOSTILE, svg(drawn), svg(drawn), HOSTILE, HOSTILE, rows)
    table = ReportTable("decay", HOSTILE, frame, {"n": [1, 2]}, HOSTILE)
    return ReportContent(
        *[HOSTILE] * 4,
        answer=[HOSTILE],
        facts=[(HOSTILE, HOSTILE)],
        alarms=[HOSTILE],
        decay=Section("decay", HOSTILE, [HOSTILE], picture, [table], [HOSTILE]),
        deciding=[wild],
        unanswered=[Missing(HOSTILE, HOSTILE)],
        missing=[Missing(HOSTILE, HOSTILE)],
        warnings=[HOSTILE],
        claims=[wild],
        controls=[wild],
        counted=HOSTILE,
        judging=HOSTILE,
        measured=[HOSTILE],
        runs=[
            RunInfo(
                *[HOSTILE] * 3,
                {HOSTILE: HOSTILE, "list": [HOSTILE]},
                {"decaylab": HOSTILE},
                [HOSTILE],
                [ReportModel(*[HOSTILE] * 4)],
                {HOSTILE: HOSTILE},
            )
        ],
    )


class Read(HTMLParser):
    """The page as elements with their attributes and all text within them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[int] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.texts.append("")
        if tag not in ("meta", "link", "img", "input", "wbr"):
            self._open.append(len(self.texts) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag, (
            "an element is not closed where it should be"
        )

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.texts[place] += data

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text_of(self, tag: str, **attributes: str) -> list[str]:
        return [
            text
            for (name, found), text in zip(self.elements, self.texts, strict=True)
            if name == tag and attributes.items() <= found.items()
        ]

    def table(self, name: str) -> list[list[tuple[str, dict[str, str]]]]:
        """The rows of a table's body, each cell with its text and attributes."""
        start = next(
            i
            for i, (tag, found) in enumerate(self.elements)
            if tag == "table" and found.get("id") == name
        )
        rows: list[list[tuple[str, dict[str, str]]]] = []
        for (tag, found), text in zip(
            self.elements[start + 1 :], self.texts[start + 1 :], strict=True
        ):
            if tag == "table":
                break
            if tag == "tr":
                rows.append([])
            elif tag in ("td", "th"):
                rows[-1].append((text, found))
        return rows[1:]


@pytest.fixture(scope="module")
def written() -> str:
    return render(content())


@pytest.fixture(scope="module")
def read(written: str) -> Read:
    return Read(written)


# What the file holds


def test_the_same_content_gives_the_same_bytes_in_any_process(written: str) -> None:
    code = (
        "import test_page_report as t, hashlib; "
        "print(hashlib.sha256(t.render(t.content()).encode()).hexdigest())"
    )
    for seed in ("1", "2"):
        environment = {
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": f"{HERE}:{HERE.parent / 'helpers'}",
            "PATH": "",
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == hashlib.sha256(written.encode()).hexdigest()


def test_every_number_behind_a_figure_stands_in_the_page_in_full(read: Read) -> None:
    rows = read.table("numbers-decay")
    assert len(rows) == len(VALUES)
    for row, value, high, floor in zip(rows, VALUES, HIGHS, [1, 0] * 4, strict=True):
        key = row[1][1]["data-sort"]
        assert key == "" if math.isnan(value) else float(key.replace("Infinity", "inf")) == value
        assert float(row[2][1]["data-sort"]) == high and float(row[4][1]["data-sort"]) == floor
    assert [row[3][0] for row in rows] == CHECKPOINTS


def test_what_is_the_same_in_every_row_is_told_once_and_empty_columns_are_named(read: Read) -> None:
    heads = [text for text in read.text_of("button") if "_" in text or text in measured().columns]
    assert heads[:5] == ["what", "value", "high", "checkpoint", "under_floor"]
    assert "In every row: level 0.95." in read.text_of("p", **{"class": "constant"})
    assert "Columns without a value: p_value, token." in read.text_of("p", **{"class": "constant"})
    assert {"value": "0.95"} in read.of("data")


def test_an_undefined_number_is_shown_as_such_and_an_absent_text_as_nothing(read: Read) -> None:
    rows = read.table("numbers-decay")
    assert rows[1][1][0] == "\u2013"
    assert rows[3][3][0] == "" and rows[3][3][1]["data-sort"] == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.95, "0.95"),
        (0.14903, "0.1490"),
        (-0.000312345, "-0.0003123"),
        (9.99996, "10.000"),
        (1234.56, "1235"),
        (3.1e-7, "3.1e-07"),
        (3.14159e-7, "3.142e-07"),
        (1e20, "1e+20"),
        (1.23456e20, "1.235e+20"),
        (54976.3, "54976"),
        (54976, "54976"),
        (84660.0, "84660"),
        (0, "0"),
        (-0.0, "0"),
        (np.float32(0.1), "0.1000"),
        (INF, "\u221e"),
        (-INF, "-\u221e"),
        (NAN, "\u2013"),
        (pd.NA, "\u2013"),
    ],
)
def test_a_number_is_shown_with_four_digits_and_whole_ones_in_full(value: Any, text: str) -> None:
    assert cells.number_text(value) == text


def test_a_frame_of_one_row_and_one_of_none_show_all_their_columns() -> None:
    one = cells.measured_grid(measured().head(1))
    assert [name for name, _ in one.columns] == list(measured().columns) and len(one.rows) == 1
    none = cells.measured_grid(measured().head(0))
    assert [name for name, _ in none.columns] == list(measured().columns) and none.rows == []


def test_rows_that_are_all_alike_are_still_counted() -> None:
    grid = cells.measured_grid(pd.DataFrame({"what": ["a", "a", "a"], "value": [1.0, 1.0, 1.0]}))
    assert len(grid.rows) == 3 and grid.constant == [("value", cells.Cell("1", "1.0"))]


def test_a_table_keeps_its_text_and_is_sorted_by_its_keys(read: Read) -> None:
    rows = read.table("rows-main-results")
    assert [row[1][0] for row in rows] == ["38.8 [31.2, 46.9]", "9.0", "n/a", "93.0"]
    assert [row[1][1]["data-sort"] for row in rows] == ["38.8", "9", "", "93"]
    assert all("data-sort" not in row[0][1] for row in rows)


def test_a_figure_is_part_of_the_page_once_for_a_page_and_once_for_a_phone(read: Read) -> None:
    drawn = read.of("svg")[:2]
    assert [one["class"] for one in drawn] == ["wide", "narrow"]
    for one in drawn:
        assert one["role"] == "img" and one["aria-label"] == "Decay. A falling line."
        assert one["viewbox"] == "0 0 504 252" and "width" not in one
    assert read.text_of("text")[:2] == ["wide", "narrow"]
    assert read.text_of("p", **{"class": "caption"})[0] == "Caption."


def test_two_drawings_do_not_share_a_name_and_each_refers_to_its_own(read: Read) -> None:
    of_svg = [found for tag, found in read.elements if tag in ("clippath", "path", "use")]
    assert [found["id"] for found in of_svg if "id" in found][:4] == [
        *("decay-wide-p1", "decay-wide-m1", "decay-narrow-p1", "decay-narrow-m1"),
    ]
    assert [found["href"] for found in read.of("use")][:2] == ["#decay-wide-m1", "#decay-narrow-m1"]
    clipped = [found["clip-path"] for found in of_svg if "clip-path" in found]
    assert clipped[:2] == ["url(#decay-wide-p1)", "url(#decay-narrow-p1)"]


def test_a_figure_that_no_number_stands_behind_has_none_below_it() -> None:
    alone = Section("decay", "Decay", (), figure("decay", pd.DataFrame()))
    page = Read(render(content(decay=alone, sections=[], others=[])))
    assert page.text_of("summary")[1] == "Caption: Decay"
    assert not [found for found in page.of("table") if "sortable" in found.get("class", "")]


def test_a_section_without_a_figure_shows_its_notes_and_its_table() -> None:
    table = ReportTable("of-it", "Of it", long_frame())
    bare = Section("bare", "Bare", (), None, [table], ["No figure: `decaylab x` is needed."])
    page = Read(render(content(sections=[bare])))
    assert "No figure: decaylab\u00a0x is needed.".replace("\u00a0", " ") in page.text_of("p")
    assert "Table: Bare" in page.text_of("summary") and len(page.table("rows-of-it")) == 40


def test_commands_in_sentences_are_set_as_commands(read: Read) -> None:
    commands = read.text_of("code", **{"class": "command"})
    assert commands[0] == "decaylab sweep selector --seeds 3" and "decaylab sweep" in commands
    assert not [text for text in read.text_of("dd") if "`" in text]


def test_every_verdict_has_a_sign_of_its_own_and_a_colour() -> None:
    assert tuple(report.SYMBOLS) == verdicts.VERDICTS
    assert len(set(report.SYMBOLS.values())) == len(verdicts.VERDICTS)
    style = (Path(report.__file__).parent / "page.css").read_text()
    assert all(f".{name.replace(' ', '-')}" in style for name in verdicts.VERDICTS)


def test_a_verdict_is_a_word_with_a_sign_and_leads_to_its_figure_or_command(read: Read) -> None:
    judged = read.text_of("td", **{"class": "judged"})
    assert judged == [
        "\u2713holds",
        "\u2717contradicted",
        "?undecided",
        "\u2013not measured",
        "\u2713holds",
    ]
    see = read.text_of("td", **{"class": "see"})
    assert see == [
        "How far can the teacher be trusted?",
        "How long should rollouts be?",
        "",
        "decaylab category-kl --limit 300",
        "How far can the teacher be trusted?",
    ]
    links = {found["href"] for found in read.of("a")}
    assert {"#figure-decay", "#figure-long"} <= links


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"others": [Section("x", "X", tables=[ReportTable("a b", "t", long_frame())])]},
            "name of a table must be words .* given 'a b'",
        ),
        (
            {"others": [Section("x", "X", tables=[ReportTable("long", "t", long_frame())] * 2)]},
            "two tables are named 'long'",
        ),
        ({"others": [Section("lengths", "X")]}, "two sections are named 'lengths'"),
        (
            {"others": [Section("x", "X", figure=figure("decay", pd.DataFrame()))]},
            "two figures are named 'decay'",
        ),
    ],
)
def test_content_that_would_make_a_broken_page_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        render(content(**changes))


def test_a_figure_and_a_table_of_one_name_have_addresses_of_their_own() -> None:
    tables = [ReportTable(name, "Table", long_frame()) for name in ("decay", "other")]
    page = Read(render(content(others=[Section("x", "X", tables=tables)])))
    names = [found["id"] for _, found in page.elements if "id" in found]
    assert {"figure-decay", "table-decay"} <= set(names) and len(names) == len(set(names))


def test_one_heading_of_the_first_rank_and_none_skips_a_rank(read: Read) -> None:
    ranks = [int(tag[1]) for tag, _ in read.elements if re.fullmatch("h[1-6]", tag)]
    assert ranks.count(1) == 1 and ranks[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(ranks))


def test_every_link_within_the_page_leads_somewhere_and_every_section_is_listed(read: Read) -> None:
    names = [found["id"] for _, found in read.elements if "id" in found]
    assert len(names) == len(set(names))
    links = [found["href"] for found in read.of("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(names)
    sections = {
        found["aria-labelledby"] for found in read.of("section") if "aria-labelledby" in found
    }
    assert sections <= {link[1:] for link in links}


def test_labels_of_regions_fields_and_tables_name_what_is_there(read: Read) -> None:
    names = {found["id"] for _, found in read.elements if "id" in found}
    for attribute in ("aria-labelledby", "aria-controls", "for", "data-copies"):
        assert {found[attribute] for _, found in read.elements if attribute in found} <= names
    labels = [found["aria-label"] for found in read.of("div") if found.get("role") == "region"]
    assert (
        len(labels) == len(set(labels)) == 5
    )  # two tables of findings, numbers of two figures, one table


def test_sections_without_content_are_left_out_with_their_links() -> None:
    page = Read(render(ReportContent("t", "s", "t", "p")))
    assert page.text_of("h2") == ["Contents", "How should this pair be trained?", "Everything else"]
    assert [found["href"] for found in page.of("a")][1:3] == ["#answer", "#everything-else"]
    assert "decaylab of unknown version" in page.text_of("dd")


def test_versions_are_those_of_the_runs_and_not_of_this_machine() -> None:
    runs = [
        RunInfo("b", "c", "f", versions={"decaylab": "0.9"}),
        RunInfo("a", "c", "f", versions={"decaylab": "0.9"}),
        RunInfo("c", "c", "f", versions={"decaylab": "1.0", "torch": "2"}),
    ]
    page = Read(render(content(runs=runs)))
    assert "decaylab 0.9, 1.0" in page.text_of("dd")
    assert "version = {0.9, 1.0}" in page.text_of("pre", id="cite-decaylab")[0]


def test_a_run_shows_command_notes_options_models_and_versions(read: Read) -> None:
    assert read.text_of("pre", **{"class": "command"}) == [
        "decaylab prefix-decay --samples 4 --out runs/demo"
    ]
    assert "3 of 100 problems have no gold answer, left out" in read.text_of("li")
    assert "date 2026-11-30; duration 3 min." in read.text_of("p")
    pairs = dict(zip(read.text_of("dt"), read.text_of("dd"), strict=True))
    assert {
        "samples": "4",
        "horizon": "not set",
        "bins": "[0, 5]",
        "torch": "2.13.0",
    }.items() <= pairs.items()
    assert pairs["student"] == "small, revision main, contents 937f93"


def test_both_citations_are_there(read: Read) -> None:
    assert "eprint        = {2605.27028}" in read.text_of("pre", id="cite-paper")[0]
    assert "version = {0.1.0}" in read.text_of("pre", id="cite-decaylab")[0]


# What must not happen


def test_the_page_names_nothing_outside_itself_but_the_paper(read: Read) -> None:
    for tag, found in read.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            value = found.get(name, "")
            assert value.startswith(("#", "data:")) or value in ("", report.ARXIV), (
                tag,
                name,
                value,
            )
        assert not [name for name in found if name.startswith("on")], (tag, found)
        assert tag in ("path", "use", "text") or "style" not in found, (tag, found)
    for css in read.text_of("style"):
        assert "url(" not in css and "@import" not in css


def test_the_policy_names_each_script_by_its_hash_and_allows_no_other(read: Read) -> None:
    policy = next(
        found["content"]
        for found in read.of("meta")
        if found.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    scripts = read.text_of("script")
    assert len(scripts) == 2 and scripts[1] == "window.tokens = 1"
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
        for one in scripts
    ]
    assert rules["script-src"].split() == hashes
    assert (rules["default-src"], rules["connect-src"], rules["img-src"]) == (
        "'none'",
        "'none'",
        "data:",
    )


def test_hostile_text_makes_no_element_and_no_attribute() -> None:
    tame = ReportContent(**{**vars(hostile())})
    page, harmless = Read(render(tame)), Read(render(tamed(tame)))
    shape = [(tag, sorted(found)) for tag, found in page.elements if tag not in ("span", "wbr")]
    assert shape == [
        (tag, sorted(found)) for tag, found in harmless.elements if tag not in ("span", "wbr")
    ]
    assert len(page.of("script")) == 1


def tamed(wild: Any) -> Any:
    """The same content with a word for each hostile text."""
    if isinstance(wild, bytes):
        return svg("word")
    if isinstance(wild, tuple):
        return tuple(map(tamed, wild))
    if isinstance(wild, str):
        return wild.replace(HOSTILE, "word")
    if isinstance(wild, pd.DataFrame):
        return wild.rename(columns=tamed).map(tamed)
    if isinstance(wild, dict):
        return {tamed(name): tamed(value) for name, value in wild.items()}
    if isinstance(wild, list):
        return [tamed(one) for one in wild]
    if dataclasses.is_dataclass(wild) and not isinstance(wild, type):
        return dataclasses.replace(
            wild, **{name: tamed(value) for name, value in vars(wild).items()}
        )
    return wild


def test_hostile_text_is_shown_as_it_is_with_a_name_for_what_cannot_be_seen() -> None:
    page = Read(render(hostile()))
    assert page.text_of("title") == [SHOWN]
    for tag in (
        "h1",
        "text",
        "h4",
        "dt",
        "li",
        "code",
        "pre",
        "bdi",
        "td",
        "th",
        "button",
        "summary",
    ):
        shown = SHOWN_IN_XML if tag == "text" else SHOWN
        assert any(shown in text for text in page.text_of(tag)), tag
    assert page.of("svg")[0]["aria-label"] == SHOWN
    assert not set(UNSEEN) - set(" gnp") & set(render(hostile()))


def test_half_a_character_can_still_be_written_to_a_file() -> None:
    page = render(content(title="half \ud83d of it"))
    assert "half \u27e8U+D83D\u27e9 of it" in page
    page.encode("utf-8")


def test_letters_that_run_from_right_to_left_are_kept_and_set_apart() -> None:
    title = "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 <b>"
    page = Read(render(content(title=title)))
    assert page.text_of("h1") == [title] and title in page.text_of("bdi")


def test_a_script_that_would_end_its_element_is_not_taken() -> None:
    with pytest.raises(AssertionError, match="end of its element"):
        render(content(tokens=Embedded("Token view", "", script="'</SCRIPT>'")))


# The look


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def looks() -> dict[str, dict[str, str]]:
    """The variables of the light and of the dark look, what the dark one does not change
    included."""
    css = (inlining.ASSETS / "page.css").read_text()
    light, dark = (
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{.*?\}", css, re.S)
    )
    return {"light": light, "dark": {**light, **dark}}


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_every_ink_stands_out_from_paper_and_wash_by_at_least_four_and_a_half(mode: str) -> None:
    look = looks()[mode]
    for ink in ("ink", "muted", "accent", "teacher-ink", "student-ink", "esr-ink", "full-ink"):
        for ground in ("paper", "wash"):
            low, high = sorted((luminance(look[ink]), luminance(look[ground])))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def test_policies_have_the_colours_that_they_have_in_figures() -> None:
    look = looks()["light"]
    named = {
        "teacher": style.TEACHER,
        "student": style.STUDENT,
        "esr": style.ESR,
        "full": style.FULL_ROLLOUT,
    }
    assert {name: look[name].lower() for name in named} == {
        name: colour.lower() for name, colour in named.items()
    }


@pytest.mark.parametrize("colour", ["#0072b2", "#d55e00", "#e69f00", "#ececec", "#f4e2ec"])
def test_a_colour_stands_out_from_the_dark_page_more_than_from_white_and_keeps_its_hue(
    colour: str,
) -> None:
    dark = inlining.in_the_dark(colour)
    ground, paper = luminance("#ffffff"), luminance(looks()["dark"]["paper"])
    before = (ground + 0.05) / (luminance(colour) + 0.05)
    after = (luminance(dark) + 0.05) / (paper + 0.05)
    assert after == pytest.approx(before**1.3, rel=0.03)
    one, other = (
        colorsys.rgb_to_hls(*[int(each[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        for each in (colour, dark)
    )
    assert one[2] < 0.01 or one[0] == pytest.approx(other[0], abs=0.02)


def test_a_picture_in_a_drawing_has_a_second_one_in_the_colours_of_the_dark_page() -> None:
    """A scale of colours goes the way of the colours that it explains."""
    pixels = np.array([[[0, 114, 178, 255], [255, 255, 255, 255], [0, 114, 178, 0]]], np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    data = base64.b64encode(content.getvalue()).decode()
    picture = f'<image id="i" x="1" xlink:href="data:image/png;base64,{data}"/></svg>'
    drawn = Read(inlining.drawing(svg().replace(b"</svg>", picture.encode()), "d", "a", "wide"))
    light, dark = drawn.of("image")
    assert (light["class"], dark["class"]) == ("in-light", "in-dark")
    assert light["href"].endswith(data) and dark["x"] == "1" and "id" not in dark
    shown = np.array(Image.open(io.BytesIO(base64.b64decode(dark["href"].partition(",")[2]))))
    for colour, there in zip(("#0072b2", "#ffffff", "#0072b2"), shown[0], strict=True):
        wanted = inlining.in_the_dark(colour)
        assert list(there[:3]) == [int(wanted[i : i + 2], 16) for i in (1, 3, 5)]
    assert list(shown[0, :, 3]) == [255, 255, 0]


def test_drawings_take_ink_and_ground_from_the_page_and_the_page_knows_every_colour() -> None:
    page = Read(render(content()))
    styles = " ".join(found["style"] for _, found in page.elements if "style" in found)
    assert "#" not in styles and "fill: var(--paper)" in styles and "fill: currentColor" in styles
    given = " ".join(page.text_of("style"))
    for name in re.findall(r"var\(--([0-9a-f]{6})\)", styles):
        assert f"--{name}: #{name};" in given
        assert f"--{name}: {inlining.in_the_dark(f'#{name}')};" in given
    look = looks()["dark"]
    assert (look["paper"], look["ink"]) == (inlining.DARK_PAPER, inlining.DARK_INK)


# In a browser


@pytest.fixture
def opened(page: Page, written: str, tmp_path: Path) -> Page:
    open_text(page, written, tmp_path)
    return page


def show_numbers(page: Page, name: str = "decay") -> None:
    page.locator(f".lead:has(#figure-{name}) ~ details > summary").click()


def open_all(page: Page) -> None:
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


def column(page: Page, number: int, table: str = "numbers-decay") -> list[str]:
    """The texts of a column's cells, from above."""
    return page.locator(
        f"#{table} tbody tr:not([hidden]) > :nth-child({number + 1})"
    ).all_text_contents()


def heading(page: Page, name: str, table: str = "numbers-decay") -> Any:
    return page.locator(f"#{table} thead").get_by_role("button", name=name, exact=True)


RISING = ["-\u221e", "-2e-09", "0.125", "0.3333", "0.3333", "123457", "\u221e", "\u2013"]


def test_numbers_sort_by_value_upwards_downwards_and_back_with_undefined_ones_last(
    opened: Page,
) -> None:
    show_numbers(opened)
    given = column(opened, 0)
    head = opened.locator("#numbers-decay th").nth(1)
    heading(opened, "value").click()
    assert column(opened, 1) == RISING and head.get_attribute("aria-sort") == "ascending"
    heading(opened, "value").click()
    assert (
        column(opened, 1) == [*RISING[-2::-1], "\u2013"]
        and head.get_attribute("aria-sort") == "descending"
    )
    heading(opened, "value").click()
    assert column(opened, 0) == given and head.get_attribute("aria-sort") is None


def test_text_sorts_by_letter_with_numbers_by_size_and_absent_text_last(opened: Page) -> None:
    show_numbers(opened)
    heading(opened, "checkpoint").click()
    assert column(opened, 3) == [
        "base",
        "Base",
        "full",
        "prefix-5",
        "prefix-5",
        "prefix-20",
        "prefix-100",
        "",
    ]
    heading(opened, "checkpoint").click()
    assert column(opened, 3) == [
        "prefix-100",
        "prefix-20",
        "prefix-5",
        "prefix-5",
        "full",
        "Base",
        "base",
        "",
    ]


def test_whole_numbers_sort_by_size_and_equal_ones_keep_their_order_in_both_directions(
    opened: Page,
) -> None:
    show_numbers(opened)
    heading(opened, "high").click()
    assert column(opened, 2) == ["1", "1", "2", "2", "9", "9", "10", "10"]
    assert "".join(name[-1] for name in column(opened, 0)) == "ghcdafbe"
    heading(opened, "high").click()
    assert "".join(name[-1] for name in column(opened, 0)) == "beafcdgh"


def test_a_second_column_sorts_within_the_order_of_the_first(opened: Page) -> None:
    show_numbers(opened)
    heading(opened, "checkpoint").click()
    heading(opened, "under_floor").click()
    assert column(opened, 4) == ["no"] * 4 + ["yes"] * 4
    assert column(opened, 3) == [
        "base",
        "full",
        "prefix-5",
        "",
        "Base",
        "prefix-5",
        "prefix-20",
        "prefix-100",
    ]
    heads = opened.locator("#numbers-decay th[aria-sort]")
    assert heads.count() == 1 and heads.first.text_content() == "under_floor"


def test_a_table_of_text_sorts_by_its_keys_and_not_by_its_letters(opened: Page) -> None:
    open_all(opened)
    heading(opened, "avg@4", "rows-main-results").click()
    assert column(opened, 0, "rows-main-results") == ["esr", "base", "teacher", "full"]


def test_sorting_works_by_keyboard_and_keeps_the_focus(opened: Page) -> None:
    show_numbers(opened)
    heading(opened, "what").focus()
    opened.keyboard.press("Tab")
    opened.keyboard.press("Enter")
    assert column(opened, 1) == RISING
    opened.keyboard.press("Space")
    assert column(opened, 1) == [*RISING[-2::-1], "\u2013"]
    assert opened.evaluate("document.activeElement.textContent") == "value"


def boxes(page: Page, table: str) -> Any:
    return page.evaluate(
        "name => [...document.querySelectorAll(`#${name} thead th, #${name}`)].map((one) => {"
        "const box = one.getBoundingClientRect(); return [box.x, box.width, one.offsetHeight]; })",
        table,
    )


def test_sorting_moves_nothing_but_rows(opened: Page) -> None:
    show_numbers(opened)
    before = boxes(opened, "numbers-decay")
    heading(opened, "value").click()
    assert boxes(opened, "numbers-decay") == before


def test_a_filter_shows_rows_with_all_words_and_counts_them(opened: Page) -> None:
    show_numbers(opened, "long")
    field = opened.get_by_label("Show rows with")
    assert field.count() == 1  # the short tables have none
    field.fill("  EVEN number-1 ")
    assert column(opened, 0, "numbers-long") == [f"even number-{i}" for i in (10, 12, 14, 16, 18)]
    count = opened.locator("output")
    assert count.text_content() == "5 of 40 rows"
    heading(opened, "count", "numbers-long").click(click_count=2)
    assert column(opened, 1, "numbers-long") == ["18", "16", "14", "12", "10"]
    field.fill("nothing of the kind")
    assert column(opened, 0, "numbers-long") == [] and count.text_content() == "0 of 40 rows"
    field.fill("")
    assert len(column(opened, 0, "numbers-long")) == 40 and count.text_content() == "40 rows"


def test_filtering_keeps_columns_and_what_follows_where_they_were(opened: Page) -> None:
    show_numbers(opened, "long")
    following = "document.querySelector('#unanswered').getBoundingClientRect().top + scrollY"
    before = [box[:2] for box in boxes(opened, "numbers-long")], opened.evaluate(following)
    opened.get_by_label("Show rows with").fill("number-0")  # the one row without the long remark
    assert column(opened, 2, "numbers-long") == [""]
    after = [box[:2] for box in boxes(opened, "numbers-long")], opened.evaluate(following)
    assert np.allclose(before[0], after[0], atol=0.5) and before[1] == pytest.approx(
        after[1], abs=1
    )


def test_what_a_filter_held_on_the_screen_does_not_hold_on_paper(
    page: Page, tmp_path: Path
) -> None:
    open_text(
        page,
        render(content(sections=[Section("x", "X", tables=[ReportTable("a", "A", long_frame())])])),
        tmp_path,
    )
    open_all(page)
    page.get_by_label("Show rows with").fill("number-0")
    page.emulate_media(media="print")
    held = (
        "name => { const one = getComputedStyle(document.querySelector(name)); return "
        "[one.minWidth, one.minHeight]; }"
    )
    assert (
        page.evaluate(held, ".sortable th")[0] == "0px"
        and page.evaluate(held, ".scroll")[1] == "0px"
    )


def test_numbers_and_configuration_open_and_close_by_keyboard(opened: Page) -> None:
    table, options = opened.locator("#numbers-decay"), opened.locator("dl.pairs").first
    assert not table.is_visible() and not options.is_visible()
    opened.locator(".lead:has(#figure-decay) ~ details > summary").focus()
    opened.keyboard.press("Enter")
    assert table.is_visible()
    opened.keyboard.press("Space")
    assert not table.is_visible()
    opened.locator(".rest > details > summary").click()
    opened.locator(".configuration > summary").focus()
    opened.keyboard.press("Enter")
    assert options.is_visible()


FOCUS = """() => {
  const at = document.activeElement;
  const style = getComputedStyle(at);
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return [at.tagName, (at.getAttribute("aria-label") ?? at.textContent).trim(), seen];
}"""


def test_tab_goes_through_the_page_in_reading_order_and_always_shows_where_it_is(
    opened: Page,
) -> None:
    open_all(opened)
    stops = []
    for _ in range(100):
        opened.keyboard.press("Tab")
        tag, text, seen = opened.evaluate(FOCUS)
        if tag == "BODY":
            break
        assert seen, (tag, text)
        stops.append(text)
    assert stops[:3] == ["Skip to the report", "Contents", "The answer"]
    order = [
        "Everything else",
        "Figure: Decay by prefix",
        "Table and caption: How far can the teacher be trusted?",
        "Figure: Many rows",
        "Table and caption: How long should rollouts be?",
        "Main results",
        "student",
        "avg@4",
        "Warnings, all claims, other figures and tables, what was measured and how, how to cite",
        "arXiv 2605.27028",
        "Claims and what became of them",
        "Controls and what became of them",
        "Configuration and versions of run 1",
        "Copy BibTeX",
    ]
    for name in order:
        assert name in stops, name
        stops = stops[stops.index(name) + 1 :]


def test_the_skip_link_leads_past_the_contents(opened: Page) -> None:
    opened.keyboard.press("Tab")
    assert opened.locator(".skip").bounding_box()["y"] >= 0
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "content"
    opened.keyboard.press("Tab")
    assert opened.evaluate(FOCUS)[1] == "Figure: Decay by prefix"


def test_a_verdict_leads_to_its_figure_and_an_address_opens_what_is_folded(
    opened: Page, written: str, tmp_path: Path
) -> None:
    open_all(opened)
    link = opened.locator(".findings").first.get_by_role("link", name="How long should")
    link.click()
    assert opened.evaluate("location.hash") == "#figure-long"
    open_text(opened, written, tmp_path, "#figure-map")
    assert opened.locator("#figure-map").is_visible()


def test_the_dark_page_is_dark_and_its_figures_are_too(opened: Page) -> None:
    ground = "name => getComputedStyle(document.querySelector(name)).backgroundColor"
    assert opened.evaluate(ground, "html") == "rgb(255, 255, 255)"
    opened.emulate_media(color_scheme="dark")
    red, green, blue = map(int, re.findall(r"\d+", opened.evaluate(ground, "html"))[:3])
    assert max(red, green, blue) < 50
    drawn = "name => getComputedStyle(document.querySelector(name))"
    assert opened.evaluate(f"{drawn}.fill", ".plate .ground") == opened.evaluate(ground, "html")
    assert opened.evaluate(f"{drawn}.fill", ".plate text") == opened.evaluate(f"{drawn}.color", "p")
    line = opened.evaluate(f"{drawn}.stroke", ".plate [clip-path]")
    parts = [int(inlining.in_the_dark("#0072b2")[i : i + 2], 16) for i in (1, 3, 5)]
    assert line == f"rgb({parts[0]}, {parts[1]}, {parts[2]})"
    opened.emulate_media(media="print")
    assert opened.evaluate(f"{drawn}.stroke", ".plate [clip-path]") == "rgb(0, 114, 178)"


@pytest.mark.parametrize(("size", "look"), [(PHONE, "narrow"), (LARGE, "wide")])
def test_a_phone_shows_the_drawing_with_its_panels_below_each_other(
    opened: Page, size: Any, look: str
) -> None:
    opened.set_viewport_size(size)
    seen = (
        "all => all.filter(one => one.getBoundingClientRect().width).map(one => one.classList[0])"
    )
    assert (
        opened.locator("main > section svg").evaluate_all(seen) == [look] * 3
    )  # one of them folded
    opened.emulate_media(media="print")
    assert opened.locator("main > section svg").evaluate_all(seen) == ["wide"] * 2


def test_contents_are_folded_on_a_phone_and_open_on_a_large_screen(
    opened: Page, written: str, tmp_path: Path
) -> None:
    assert opened.locator("nav li").first.is_visible()
    opened.set_viewport_size(PHONE)
    open_text(opened, written, tmp_path, "#")
    opened.reload()
    assert not opened.locator("nav li").first.is_visible()
    opened.locator("nav summary").click()
    assert opened.locator("nav li").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["large", "phone"])
def test_axe_finds_no_grave_fault(opened: Page, scheme: Any, size: str) -> None:
    opened.emulate_media(color_scheme=scheme)
    if size == "phone":
        opened.set_viewport_size(PHONE)
    open_all(opened)
    heading(opened, "value").click()
    assert axe_faults(opened) == []


def test_on_a_phone_only_tables_and_figures_scroll_sideways_and_the_first_column_stays(
    opened: Page,
) -> None:
    opened.set_viewport_size(PHONE)
    open_all(opened)
    assert sideways(opened) <= 0
    frame = opened.locator(".scroll:has(#numbers-decay)")
    first = opened.locator("#numbers-decay tbody th").first
    frame.focus()
    across = "cell => [cell.getBoundingClientRect().x, cell.getBoundingClientRect().width]"
    left, width = first.evaluate(across)
    frame.evaluate("frame => { frame.scrollLeft = 150; }")
    assert frame.evaluate("frame => frame.scrollLeft") > 100
    assert first.evaluate(across) == [left, width] and width < 0.5 * PHONE["width"]


def test_on_a_phone_findings_stand_below_each_other_and_are_still_a_table(opened: Page) -> None:
    opened.set_viewport_size(PHONE)
    open_all(opened)
    table = opened.get_by_role("table", name="Claims and what became of them")
    assert table.get_by_role("row").count() == 5 and table.get_by_role("columnheader").count() == 5
    claim, verdict = (
        table.get_by_role(role).nth(i).bounding_box() for role, i in (("rowheader", 0), ("cell", 0))
    )
    assert claim and verdict and verdict["y"] >= claim["y"] + claim["height"] - 1
    widths = table.locator("tbody tr").first.evaluate(
        "row => [...row.cells].map((cell) => cell.offsetWidth)"
    )
    assert len(widths) == 5 and min(widths) > 0.8 * PHONE["width"]


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_text_does_nothing_and_is_seen(page: Page, tmp_path: Path, width: int) -> None:
    open_text(page, render(hostile()), tmp_path)
    page.set_viewport_size({"width": width, "height": 800})
    open_all(page)
    page.get_by_label("Show rows with").fill("hacked")
    page.locator("#rows-decay thead button").first.click()
    assert page.evaluate("typeof hacked") == "undefined"
    assert page.title() == SHOWN
    assert SHOWN in page.locator("h1").inner_text() and SHOWN in column(page, 0, "numbers-decay")[0]
    assert page.locator("script").count() == 1 and page.locator("img").count() == 0
    assert sideways(page) <= 0
    assert axe_faults(page) == []


def test_a_script_that_gets_into_the_page_all_the_same_does_not_run(
    opened: Page, faults: list[str]
) -> None:
    opened.evaluate(
        "() => { const script = document.createElement('script'); script.textContent = "
        "'window.hacked = 1';"
        "document.body.append(script);"
        "document.body.insertAdjacentHTML('beforeend', '<button id=trap onclick=\"window.hacked = "
        "2\">x</button>');"
        "document.getElementById('trap').click(); }"
    )
    assert opened.evaluate("typeof hacked") == "undefined"
    assert opened.evaluate("tokens") == 1  # the view's own script did run
    refused = [fault for fault in faults if "Content Security Policy" in fault]
    assert len(refused) == 2 and refused == faults
    faults.clear()


def test_what_is_asked_of_the_network_is_refused(opened: Page, faults: list[str]) -> None:
    asked = "fetch('https://example.org/').then(() => 'sent', () => 'refused')"
    assert opened.evaluate(asked) == "refused"
    assert not [fault for fault in faults if fault.startswith("request")]
    faults.clear()


COPIED = (
    "Object.defineProperty(navigator, 'clipboard', {value: {writeText: async (text) => { "
    "window.copied = text; }}})"
)
CLOSED = (
    "Object.defineProperty(navigator, 'clipboard', {value: undefined}); document.execCommand "
    "= () => false"
)


def test_a_citation_is_copied_whole(opened: Page) -> None:
    open_all(opened)
    opened.evaluate(COPIED)
    opened.locator("[data-copies=cite-decaylab]").click()
    assert opened.evaluate("copied") == report.SOFTWARE % "0.1.0"
    assert opened.locator(".copying [role=status]").first.text_content() == "Copied."


def test_where_the_clipboard_is_closed_the_citation_is_left_selected(opened: Page) -> None:
    open_all(opened)
    opened.evaluate(CLOSED)
    opened.locator("[data-copies=cite-paper]").click()
    assert opened.evaluate("getSelection().toString()").strip() == report.PAPER
    assert str(opened.locator(".copying [role=status]").nth(1).text_content()).startswith(
        "Selected"
    )


def test_without_scripts_all_is_there_but_what_needs_them(
    chromium: Browser, written: str, tmp_path: Path
) -> None:
    context = chromium.new_context(java_script_enabled=False)
    still = context.new_page()
    open_text(still, written, tmp_path)
    still.locator(".lead:has(#figure-long) ~ details > summary").click()
    still.locator(".rest > details > summary").click()
    assert still.locator("#numbers-long").is_visible() and still.locator("#cite-paper").is_visible()
    assert (
        not still.locator(".filter").is_visible()
        and not still.locator(".copying").first.is_visible()
    )
    context.close()


def test_on_paper_stand_the_questions_with_their_captions_and_no_controls_of_the_screen(
    opened: Page,
) -> None:
    opened.emulate_media(media="print", color_scheme="dark")
    assert opened.locator(".behind .caption").first.bounding_box()["height"] > 10
    assert not opened.locator("#numbers-decay").is_visible()
    assert not opened.locator(".rest").is_visible() and not opened.locator("nav").is_visible()
    show_paper = "document.querySelector('.rest > details').open = true"
    opened.evaluate(show_paper)
    assert opened.locator("#cite-paper").is_visible()
    assert not opened.locator(".copying").first.is_visible()
    open_all(opened)
    assert opened.locator("#numbers-decay").is_visible()
    look = "([name, part, value]) => getComputedStyle(document.querySelector(name), part)[value]"
    assert opened.evaluate(look, ["html", None, "backgroundColor"]) == "rgb(255, 255, 255)"
    assert opened.evaluate(look, ["#rows-main-results th", None, "position"]) == "static"
    assert opened.evaluate(look, [".lead > figure", None, "breakInside"]) == "avoid"
    assert opened.evaluate(look, ["h2", None, "breakAfter"]) == "avoid"
    assert (
        opened.evaluate(look, ["thead button", None, "display"]) == "contents"
    )  # else its text is missing on later pages
    assert report.ARXIV in opened.evaluate(look, ["main a[href^=http]", "::after", "content"])
    assert opened.pdf(format="A4").startswith(b"%PDF")


def test_nothing_glides_where_a_reader_wants_no_motion(opened: Page) -> None:
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert opened.evaluate(behaviour) == "smooth"
    opened.emulate_media(reduced_motion="reduce")
    assert opened.evaluate(behaviour) == "auto"
