"""The report: one HTML file with what was found on a pair, every figure with its numbers, every
table, and how it was made.

    page = render(ReportContent(title="...", student="...", teacher="...", problems="...",
    figures=[...]))

Whoever calls has measured, judged and drawn; here it is only set. The same content gives the same
bytes. Every text is data:
it is escaped, and characters that cannot be seen or that turn the text around are shown by name.
The page's policy runs the scripts below this folder and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from decaylab.claims.summary import KeyNumber
from decaylab.claims.verdicts import VERDICTS, Finding
from decaylab.pages.cells import measured_grid, read_grid
from decaylab.pages.inlining import ASSETS, asset, image, inlined, policy

# What stands before each verdict, in their order.
SYMBOLS = dict(zip(VERDICTS, "\u2713\u2717\u2205?\u2026\u2013", strict=True))
LONG = 12  # rows; above that a table has a filter
WIDE = 8  # columns; above that a table is printed across
ARXIV = "https://arxiv.org/abs/2605.27028"
PAPER = """\
@misc{ziheng2026less,
  title         = {Less is More: Early Stopping Rollout for On-Policy Distillation},
  author        = {Zhou Ziheng and Jiaqi Li and Huacong Tang and Ying Nian Wu and Demetri Terzopoulos},
  year          = {2026},
  eprint        = {2605.27028},
  archivePrefix = {arXiv},
  url           = {https://arxiv.org/abs/2605.27028}
}"""  # noqa: E501
SOFTWARE = """\
@software{decaylab,
  title   = {decaylab: how far into a student's rollout its teacher can be trusted},
  author  = {{The decaylab authors}},
  version = {%s}
}"""


@dataclass(frozen=True)
class ReportFigure:
    """A figure. alt: its title and what it shows, in a sentence. rows: the numbers that it was
    drawn from, if any."""

    name: str
    title: str
    svg: bytes
    caption: str
    alt: str
    rows: pd.DataFrame


@dataclass(frozen=True)
class ReportTable:
    """A table as a person reads it. keys: by column of numbers, what each row is sorted by, NaN
    where undefined."""

    name: str
    title: str
    text: pd.DataFrame
    keys: Mapping[str, Sequence[float]] = field(default_factory=dict)
    caption: str = ""


@dataclass(frozen=True)
class Missing:
    """A figure or table of the paper that the runs do not hold. needs: the command that would
    measure it."""

    title: str
    place: str
    needs: str


@dataclass(frozen=True)
class ReportModel:
    """A model of a run. role: student, teacher, checkpoint prefix-20-seed-0."""

    role: str
    name: str
    content_hash: str = ""
    revision: str = ""


@dataclass(frozen=True)
class RunInfo:
    """How numbers came about. command: as it was typed."""

    name: str
    command: str
    folder: str
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    models: Sequence[ReportModel] = ()


@dataclass(frozen=True)
class Embedded:
    """The token view as a section of a page: its markup with the packed rollouts, its style, which
    stands behind page.css, and its script, which stands behind the markup. All are trusted."""

    title: str
    html: str
    css: str = ""
    script: str = ""


@dataclass(frozen=True)
class ReportContent:
    """All that a report says.

    summary: paragraphs. measured: what each run measured, a line each. judging: how all claims are
    judged. Names of figures and of tables are words of a-z and 0-9 joined by hyphens; a figure and
    a table may share one.
    """

    title: str
    student: str
    teacher: str
    problems: str
    summary: Sequence[str] = ()
    numbers: Sequence[KeyNumber] = ()
    measured: Sequence[str] = ()
    warnings: Sequence[str] = ()
    claims: Sequence[Finding] = ()
    controls: Sequence[Finding] = ()
    figures: Sequence[ReportFigure] = ()
    tables: Sequence[ReportTable] = ()
    missing: Sequence[Missing] = ()
    tokens: Embedded | None = None
    runs: Sequence[RunInfo] = ()
    judging: str = ""


def render(content: ReportContent) -> str:
    """The report as the text of an HTML file, to be written in UTF-8.

    Raises:
        ValueError: names that are used twice or cannot be part of an address.
    """
    places = _places(content)
    versions = ", ".join(_versions(content.runs))
    scripts, styles = [asset("report.js").strip()], [asset("page.css")]
    if content.tokens:
        scripts.append(content.tokens.script.strip())
        styles.append(content.tokens.css)
    template = environment().get_template("report.html.jinja")
    return template.render(
        content=content,
        shown=_shown(content, places),
        figures=[(item, image(item.svg), measured_grid(item.rows)) for item in content.figures],
        tables=[(item, read_grid(item.text, item.keys)) for item in content.tables],
        tokens=Markup(content.tokens.html) if content.tokens else "",
        version=versions or "of unknown version",
        software=SOFTWARE % (versions or "unknown"),
        paper=PAPER,
        symbols=SYMBOLS,
        long=LONG,
        wide=WIDE,
        arxiv=ARXIV,
        styles=[inlined(style, "style") for style in styles],
        scripts=[inlined(script, "script") for script in scripts],
        policy=policy(scripts),
    )


# What the content is checked for


def _places(content: ReportContent) -> dict[str, tuple[str, str]]:
    """The address and title of each figure and table by its name, once all names are known to be
    right."""
    named = [("figure", item.name, item.title) for item in content.figures]
    named += [("table", item.name, item.title) for item in content.tables]
    places: dict[str, tuple[str, str]] = {}
    taken: set[tuple[str, str]] = set()
    for kind, name, title in named:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ValueError(
                f"name of a {kind} must be words of a-z and 0-9 joined by hyphens; given {name!r}"
            )
        if (kind, name) in taken:
            raise ValueError(f"two {kind}s are named {name!r}")
        taken.add((kind, name))
        # A figure goes before a table of the same name.
        places.setdefault(name, (f"#{kind}-{name}", title))
    return places


def _versions(runs: Sequence[RunInfo]) -> list[str]:
    """The versions of decaylab that measured, each once."""
    return list(
        dict.fromkeys(str(run.versions["decaylab"]) for run in runs if "decaylab" in run.versions)
    )


def _shown(
    content: ReportContent, places: dict[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Where the report shows the figure of each claim; of several runs the first by name."""
    shown = {}
    for finding in (*content.claims, *content.controls):
        figure = finding.claim.figure
        several = sorted(name for name in places if name.startswith(figure))
        for name in [figure] if figure in places else several[:1]:
            shown[figure] = places[name]
    return shown


# The page


def environment() -> Environment:
    """The templates of this folder; every text that they are given is escaped and made visible."""
    made = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["breakable"] = lambda name: Markup("_<wbr>").join(
        map(escape, visible(name).split("_"))
    )
    made.filters["words"] = _words
    made.filters["option"] = _option
    return made


def _words(command: str) -> Markup:
    """A command whose lines break between its words only: a break inside reads as another
    option."""
    return Markup(" ").join(
        Markup('<span class="word">{}</span>').format(visible(word)) for word in command.split(" ")
    )


def _option(value: Any) -> str:
    """An option's value as it would be written down."""
    if value is None:
        return "not set"
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


# Controls (a tab and a new line apart), signs that turn the direction of writing, and halves of a
# character.
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff"
    r"\ud800-\udfff]"
)


def visible(value: Any) -> Any:
    """Text with what cannot be seen shown by name; the page's own markup as it is."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return _UNSEEN.sub(lambda sign: f"\u27e8U+{ord(sign[0]):04X}\u27e9", value)
    return value
