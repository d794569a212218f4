"""The sections of a report: what answers each question, and what is left, drawn and set out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from decaylab.claims.advice import Advice
from decaylab.errors import UserError
from decaylab.pages import gallery, questions
from decaylab.pages.asked import Asked
from decaylab.pages.merging import Merged, merge
from decaylab.pages.paper_breaks import breaks
from decaylab.pages.questions import Question
from decaylab.pages.report import ReportFigure, ReportTable, Section
from decaylab.paper.paper_items import FIGURES, TABLES, VIEWED, PaperItem
from decaylab.runs.found_runs import FoundRun
from decaylab.tables.model import Table
from decaylab.tables.settings import settings

# What says how a number came about rather than what it is; the report tells it once, by the run.
PROVENANCE = ("run", "seed", "level")
# Tables of figures that fit no question, where they are called otherwise
TABLE_OF = {
    "evaluation": "main-results",
    "stability": "per-step",
    "category-map": "category-kl",
    "cumulative-kl": "choosing-n",
}


class Sections:
    """Figures and tables of some runs as sections of a report, each in one of them only."""

    def __init__(self, runs: Sequence[FoundRun], advice: Advice, published: bool) -> None:
        self.runs, self.advice, self.published = runs, advice, published
        self.taken: set[tuple[str, str]] = set()
        self.lost: list[str] = []  # tables that cannot be made, a sentence each

    def of(self, question: Question) -> Section | None:
        """A question with its answer; None where the runs leave it open."""
        merged = question.source(self.runs)
        if merged is None:
            return None
        tables = [table for item in question.items for table in self._tables(item)]
        if question is questions.LENGTHS and len(self.advice.candidates):
            tables.insert(0, _as_table("settings", settings(self.advice.candidates)))
        if question is questions.COST:
            merged = questions.of_cost(merged, self.advice)
        assert merged.run is not None, "a question is answered by runs"
        asked = Asked(merged.run, self.runs, self.advice)
        figure, notes = self._figure(merged, named=False, tabled=bool(tables))
        answer = [] if _undefined(merged) else question.answer(asked)[:2]
        return Section(question.name, question.heading, answer, figure, tables, notes)

    def others(self) -> Iterator[Section]:
        """What is in no question: the other figures, each with its table, then the other tables."""
        for item in self._left(FIGURES):
            if merged := merge(item, self.runs):
                called = TABLE_OF.get(item.name, item.name)
                own = [table for table in self._left(TABLES) if table.name == called]
                tables = [table for one in own for table in self._tables(one)]
                figure, notes = self._figure(merged, named=True, tabled=bool(tables))
                yield Section(f"other-{item.name}", item.title, (), figure, tables, notes)
        for item in self._left(TABLES):
            if tables := self._tables(item):
                yield Section(f"other-table-{item.name}", item.title, (), None, tables)

    def missing(self) -> list[PaperItem]:
        """Figures that the runs do not hold and no open question names."""
        asked = {name for question in questions.ASKED for name in question.figures}
        return [item for item in gallery.missing(self.runs, FIGURES) if item.name not in asked]

    def _left(self, items: Sequence[PaperItem]) -> list[PaperItem]:
        return [item for item in items if (item.kind, item.name) not in self.taken]

    def _tables(self, item: PaperItem) -> list[ReportTable]:
        """A table of the runs that agree, and of each other run one of its own."""
        merged = merge(item, self.runs)
        self.taken.add((item.kind, item.name))
        if merged is None or (merged.run is None and not self.published):
            return []
        apart = [entry for entry in gallery.entries(self.runs, [item]) if entry.run in merged.left]
        tables = []
        for entry in (merged.entry, *apart):
            try:
                table = gallery.table(entry, published=self.published)
                tables.append(_as_table(entry.name, table))
            except UserError as error:
                self.lost.append(f"No table {entry.name}: {error.__cause__ or error}.")
        return tables

    def _figure(
        self, merged: Merged, *, named: bool, tabled: bool
    ) -> tuple[ReportFigure | None, list[str]]:
        """A figure, and what must be known of it. named: its section is called like it. tabled: a
        table holds its numbers."""
        item, run = merged.item, merged.run
        self.taken.add((item.kind, item.name))
        notes = []
        if merged.left:
            left = ", ".join(other.name for other in merged.left)
            notes.append(f"Not in the figure, since measured otherwise: {left}.")
        if _undefined(merged):
            return None, [*notes, "No value of this figure is defined in these runs."]
        try:
            made = gallery.drawn(merged.entry, published=self.published)
            page = made.sheet.draw("page")
            drawings = _svg(page), _svg(made.sheet.draw("column"))
            parts = breaks(page)
        except UserError as error:
            return None, [*notes, f"No figure: {error.__cause__ or error}."]
        rows = pd.DataFrame()
        if run and item.commands != (VIEWED,) and not tabled:
            rows = item.rows(run.measurements).drop(columns=list(PROVENANCE))
        caption = made.caption if named else f"{item.title}. {made.caption}"
        alt = f"{item.title}. {item.question}"
        figure = ReportFigure(
            item.name, item.title, *drawings, caption, alt, rows, made.details.strip(), parts
        )
        return figure, notes


def _undefined(merged: Merged) -> bool:
    """Whether no number of a figure has a value."""
    if merged.run is None or merged.item.commands == (VIEWED,):
        return False
    return bool(merged.item.rows(merged.run.measurements)["value"].isna().all())


def _svg(figure: Any) -> bytes:
    from decaylab.figures import style

    return bytes(style.encoded(figure, "svg"))


def _as_table(name: str, table: Table) -> ReportTable:
    caption = " ".join([table.caption, *table.footnotes])
    return ReportTable(name, table.title, table.text, table.keys, caption)
