"""The report: one HTML file with the answer, the questions behind it with a figure each, and all
that was measured.

    page = render(ReportContent(title="...", student="...", teacher="...", problems="...",
    sections=[...]))

Whoever calls has measured, judged and drawn; here it is only set. The same content gives the same
bytes. Every text is data: it is escaped, and characters that cannot be seen or that turn the text
around are shown by name. The page's policy runs the scripts below this folder and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from decaylab.claims.verdicts import VERDICTS, Finding
from decaylab.pages.cells import measured_grid, read_grid
from decaylab.pages.inlining import ASSETS, asset, colours, drawing, inlined, policy

# What stands before each verdict, in their order.
SYMBOLS = dict(zip(VERDICTS, "\u2713\u2717\u2205?\u2026\u2013", strict=True))
LONG = 12  # rows; above that a table has a filter
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
    """A figure. wide, narrow: SVG files, for a page and with its panels below each other for a
    phone. caption: what is printed with it. alt: its title and what it shows, in a sentence.
    rows: the numbers that it was drawn from, where no table has them. details: panels, counts and
    methods. breaks: where the wide drawing may part on paper, as fractions of its height."""

    name: str
    title: str
    wide: bytes
    narrow: bytes
    caption: str
    alt: str
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    details: str = ""
    breaks: Sequence[float] = ()


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
class Section:
    """A question with its answer, or a figure or table that belongs to none.

    name: its address. sentences: the answer. notes: what must be known of the figure, such as why
    it is not there.
    """

    name: str
    heading: str
    sentences: Sequence[str] = ()
    figure: ReportFigure | None = None
    tables: Sequence[ReportTable] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Missing:
    """A question that the runs leave open, or a figure of the paper that they do not hold. needs:
    the command that would answer or measure it."""

    title: str
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
    """How numbers came about. command: as it was typed. made: date, duration, hardware and commit,
    by name, as far as they were recorded."""

    name: str
    command: str
    folder: str
    options: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    models: Sequence[ReportModel] = ()
    made: Mapping[str, str] = field(default_factory=dict)


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

    answer: how to train the pair, two sentences. facts: what the answer gains, costs and rests on,
    a heading and its text each. alarms: what forbids to believe the answer. decay: the first
    figure. deciding: the claims that matter for the answer. sections: the questions. others: what
    fits no question. counted: how many claims hold, a sentence. measured: what each run measured, a
    line each. judging: how all claims are judged. Names of sections, figures and tables are words
    of a-z and 0-9 joined by hyphens; those of figures and tables may be alike.
    """

    title: str
    student: str
    teacher: str
    problems: str
    answer: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    alarms: Sequence[str] = ()
    decay: Section | None = None
    deciding: Sequence[Finding] = ()
    sections: Sequence[Section] = ()
    unanswered: Sequence[Missing] = ()
    tokens: Embedded | None = None
    others: Sequence[Section] = ()
    missing: Sequence[Missing] = ()
    warnings: Sequence[str] = ()
    claims: Sequence[Finding] = ()
    controls: Sequence[Finding] = ()
    counted: str = ""
    judging: str = ""
    measured: Sequence[str] = ()
    runs: Sequence[RunInfo] = ()

    @property
    def shown(self) -> list[Section]:
        """Every section, in the order of the page."""
        return [*([self.decay] if self.decay else []), *self.sections, *self.others]


def render(content: ReportContent) -> str:
    """The report as the text of an HTML file, to be written in UTF-8.

    Raises:
        ValueError: names that are used twice or cannot be part of an address.
    """
    _check_names(content)
    versions = ", ".join(_versions(content.runs))
    drawn = [section.figure for section in content.shown if section.figure]
    scripts, styles = [asset("report.js").strip()], [asset("page.css")]
    styles.append(colours(svg for figure in drawn for svg in (figure.wide, figure.narrow)))
    if content.tokens:
        scripts.append(content.tokens.script.strip())
        styles.append(content.tokens.css)
    template = environment().get_template("report.html.jinja")
    return template.render(
        content=content,
        places=_places(content),
        folded=_folded(content),
        drawings={figure.name: _drawings(figure) for figure in drawn},
        numbers={figure.name: measured_grid(figure.rows) for figure in drawn},
        grids={
            table.name: read_grid(table.text, table.keys)
            for section in content.shown
            for table in section.tables
        },
        tokens=Markup(content.tokens.html) if content.tokens else "",
        version=versions or "of unknown version",
        software=SOFTWARE % (versions or "unknown"),
        paper=PAPER,
        symbols=SYMBOLS,
        long=LONG,
        arxiv=ARXIV,
        styles=[inlined(style, "style") for style in filter(None, styles)],
        scripts=[inlined(script, "script") for script in scripts],
        policy=policy(scripts),
    )


def _drawings(figure: ReportFigure) -> Iterator[Markup]:
    for look, svg, breaks in (("wide", figure.wide, figure.breaks), ("narrow", figure.narrow, ())):
        yield drawing(svg, f"{figure.name}-{look}", figure.alt, look, visible, breaks)


# What the content is checked for


def _check_names(content: ReportContent) -> None:
    named = [("section", section.name) for section in content.shown]
    named += [("figure", section.figure.name) for section in content.shown if section.figure]
    named += [("table", table.name) for section in content.shown for table in section.tables]
    taken: set[tuple[str, str]] = set()
    for kind, name in named:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
            raise ValueError(
                f"name of a {kind} must be words of a-z and 0-9 joined by hyphens; given {name!r}"
            )
        if (kind, name) in taken:
            raise ValueError(f"two {kind}s are named {name!r}")
        taken.add((kind, name))


def _versions(runs: Sequence[RunInfo]) -> list[str]:
    """The versions of decaylab that measured, each once."""
    return list(
        dict.fromkeys(str(run.versions["decaylab"]) for run in runs if "decaylab" in run.versions)
    )


def _places(content: ReportContent) -> dict[str, tuple[str, str]]:
    """By figure its address and the heading that it stands under, for claims that it shows."""
    return {
        section.figure.name: (f"#figure-{section.figure.name}", section.heading)
        for section in content.shown
        if section.figure
    }


def _folded(content: ReportContent) -> str:
    """What stands under "Everything else", in words."""
    parts = {
        "warnings": content.warnings,
        "all claims": content.claims,
        "other figures and tables": content.others,
        "what was measured and how": content.runs,
    }
    words = ", ".join([*(name for name, there in parts.items() if there), "how to cite"])
    return f"{words[0].upper()}{words[1:]}"


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
    made.filters["coded"] = _coded
    return made


def _words(command: str) -> Markup:
    """A command whose lines break between its words only: a break inside reads as another
    option."""
    return Markup(" ").join(
        Markup('<span class="word">{}</span>').format(visible(word)) for word in command.split(" ")
    )


def _coded(text: str) -> Markup:
    """Text with what stands between backticks as a command."""
    code = Markup('<code class="command">{}</code>')
    parts = re.split(r"`([^`]+)`", text)
    return Markup("").join(
        code.format(_words(part)) if place % 2 else visible(part)
        for place, part in enumerate(parts)
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
