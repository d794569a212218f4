"""Writes docs/embedded-pair.md and its figures, from its template and the committed runs.

    python scripts/write_results.py

Every number of the page comes from docs/measurements: the answers to the report's questions, the
verdicts on the claims, the tables. A test compares the page with what this writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from decaylab.claims.summary import Summary, summary
from decaylab.claims.verdicts import Finding, pick
from decaylab.claims.wording import POINTS_OF, RATIO, Style
from decaylab.pages import gallery, questions
from decaylab.pages.asked import Asked
from decaylab.pages.questions import Question
from decaylab.printing import percent, rounded
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import (
    ALREADY_WRONG,
    CORRECT_SO_FAR,
    DIFFERENCE,
    HALF_DECAY,
    OPEN,
    STUDENT_PREFIX,
)
from decaylab.tables.model import Table, seen, to_markdown
from decaylab.tables.settings import settings

DOCS = Path(__file__).resolve().parents[1] / "docs"
MEASURED, FIGURES = DOCS / "measurements", DOCS / "figures"
TEMPLATE, PAGE = "embedded-pair.md.jinja", DOCS / "embedded-pair.md"
FIRST, RATES = MEASURED / "first-edition.csv", MEASURED / "rates.csv"
LABORATORY = MEASURED / "laboratory.csv"
STYLES = {"points": POINTS_OF, "ratio": RATIO, "nats": Style(" nats", 3), "tokens": Style("", 0)}


class Results:
    """What the page says, in Markdown."""

    def __init__(self, runs: list[FoundRun]) -> None:
        self.runs = {run.name: run for run in runs}
        self.found: Summary = summary(runs)

    def question(self, name: str) -> str:
        """A question as a heading, its answer, its figure, and its tables folded."""
        (question,) = [one for one in questions.ASKED if one.name == name]
        merged = question.source(list(self.runs.values()))
        if merged is None or merged.run is None:
            raise ValueError(f"no run answers {question.heading}")
        answer = question.answer(Asked(merged.run, list(self.runs.values()), self.found.advice))
        made = gallery.drawn(merged.entry)
        image = f"figures/embedded-pair-{merged.item.name}.png"
        parts = [
            f"## {question.heading}",
            " ".join(answer[:2]),
            f"![{merged.item.title}]({image})",
            f"*{made.caption}*",
            *self._folded(question),
        ]
        return "\n\n".join(parts)

    def figures(self) -> Iterator[tuple[str, bytes]]:
        """The file name and the picture of each question's figure."""
        from decaylab.figures import style

        for question in questions.ASKED:
            merged = question.source(list(self.runs.values()))
            if merged is not None and merged.run is not None:
                figure = gallery.drawn(merged.entry).sheet.draw("page")
                yield f"embedded-pair-{merged.item.name}.png", bytes(style.encoded(figure, "png"))

    def _folded(self, question: Question) -> Iterator[str]:
        tables: list[Table] = []
        if question is questions.LENGTHS and len(self.found.advice.candidates):
            tables.append(settings(self.found.advice.candidates))
        for item in question.items:
            for entry in gallery.entries(list(self.runs.values()), [item]):
                if entry.run:
                    tables.append(gallery.table(entry))
        for table in tables:
            yield folded(table.title, to_markdown(table))

    @cached_property
    def claims(self) -> str:
        """The verdict on each claim in both editions, and whether it depends on the laboratory."""
        first = pd.read_csv(FIRST).set_index("claim")
        head = ["claim of the literature", "first edition", "second edition", "depends on the pair"]
        lines = [f"| {' | '.join(head)} |", "|:--|:--|:--|:--|"]
        for finding in (*self.found.controls, *self.found.claims):
            before = first["verdict"].get(finding.claim.name, "not a claim then")
            lines.append(
                f"| {cell(finding.claim.text)} | {before} | **{finding.verdict}** | "
                f"{dependence(before, finding.verdict)} |"
            )
        return "\n".join(lines)

    @cached_property
    def numbers_of_claims(self) -> str:
        """The sentences behind the verdicts of both editions."""
        first = pd.read_csv(FIRST).set_index("claim")
        lines = ["| claim | first edition | second edition |", "|:--|:--|:--|"]
        for finding in (*self.found.controls, *self.found.claims):
            before = first["sentence"].get(finding.claim.name, "not a claim then")
            lines.append(
                f"| {cell(finding.claim.text)} | {cell(before)} | {cell(finding.sentence)} |"
            )
        return folded("The numbers behind both editions", "\n".join(lines) + "\n")

    @property
    def laboratory(self) -> str:
        """Decay over parts of the student's rollouts: by style, notation and length."""
        frame = pd.read_csv(LABORATORY)
        lines = [
            "| rollouts of the student | number | after 40 tokens | after 80 tokens | "
            "after 80 that are right so far | after 80 with an error | half-decay length, tokens |",
            "|:--|--:|--:|--:|--:|--:|--:|",
        ]
        for (name, value), part in frame.groupby(["property", "value_of_property"], sort=False):
            lines.append(f"| {' | '.join(_of_part(name, value, part))} |")
        return "\n".join(lines)

    @property
    def rates(self) -> str:
        """Held-out KL and accuracy of full rollouts at each learning rate, after training."""
        frame = pd.read_csv(RATES, dtype={"learning_rate": str})
        before = frame[frame["step"] == 0].iloc[0]
        last = frame.groupby("learning_rate").tail(1).sort_values("reverse_kl")
        lines = ["| learning rate | held-out reverse KL, nats | accuracy |", "|:--|--:|--:|"]
        for row in last.to_dict("records"):
            lines.append(
                f"| {row['learning_rate']} | {rounded(row['reverse_kl'], 4)} | "
                f"{rounded(percent(row['accuracy']))} % |"
            )
        lead = (
            f"**Learning rate.** Chosen first: of {len(last)} rates, the one with the lowest "
            f"reverse KL on {before['problems']:g} held-out problems after {last['step'].max():g} "
            f"steps of full rollouts (before training: {rounded(before['reverse_kl'], 4)} nats, "
            f"{rounded(percent(before['accuracy']))} %). Nothing else was tried."
        )
        return "\n\n".join([lead, "\n".join(lines)])

    def finding(self, name: str) -> Finding:
        (found,) = [each for each in self.found.findings if each.claim.name == name]
        return found

    def number(self, run: str, what: str, style: str, **at: object) -> str:
        """A measured number with its interval."""
        rows = pick(self.runs[run].measurements, what, **at)
        if len(rows) != 1:
            raise ValueError(f"{len(rows)} rows of {run} are {what} at {at}")
        return STYLES[style].number(rows[0])


DECIDED = ("holds", "contradicted", "not supported")


def dependence(first: str, second: str) -> str:
    """Whether a verdict depends on the pair: only where both editions decide it."""
    if first not in DECIDED or second not in DECIDED:
        return "not known: one edition leaves it open"
    return "no" if first == second else "**yes**"


def _of_part(name: str, value: str, part: pd.DataFrame) -> list[str]:
    """The cells of one part of the rollouts: how far the teacher falls, and half-decay."""

    rows = part.drop(columns=["property", "value_of_property"])

    def fall(condition: str, length: float) -> str:
        (row,) = pick(rows, DIFFERENCE, condition=condition, view=OPEN, prefix_tokens=length)
        return POINTS_OF.number(row)

    (half,) = pick(rows, HALF_DECAY)
    label = "all" if name == value else f"{name}: {value}"
    return [
        label,
        f"{half.rollouts:,.0f}",
        fall(STUDENT_PREFIX, 40),
        fall(STUDENT_PREFIX, 80),
        fall(CORRECT_SO_FAR, 80),
        fall(ALREADY_WRONG, 80),
        Style("", 0).number(half),
    ]


def folded(title: str, text: str) -> str:
    return f'<details markdown="1">\n<summary>{title}</summary>\n\n{text}\n</details>'


def cell(text: str) -> str:
    return seen(text).replace("|", "\\|")


def page() -> str:
    """The page as it should be."""
    results = Results(found_runs.find([MEASURED]))
    loader = FileSystemLoader(DOCS)
    environment = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.get_template(TEMPLATE).render(results=results)


def main() -> None:
    PAGE.write_text(page())
    for name, picture in Results(found_runs.find([MEASURED])).figures():
        (FIGURES / name).write_bytes(picture)


if __name__ == "__main__":
    main()
