"""Finished runs as objects: their folder, measurements, notes, figures and token view."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from decaylab.api import drawing
from decaylab.api.drawing import TokenView
from decaylab.pages import gallery
from decaylab.pages.gallery import Width
from decaylab.paper import paper_items
from decaylab.runs import found_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, measurements (columns of `measurements.Measurement`) and notes.

    advice: how to train the pair, if requested.
    """

    folder: Path
    measurements: pd.DataFrame
    notes: tuple[str, ...] = ()
    advice: str = ""

    def figure(self, name: str = "", *, paper: bool = False, width: Width = "page") -> Figure:
        """A figure of the paper from this run; without a name, the first one of its command.

        paper: also draw the published numbers.
        """
        drawing.check_drawing(paper, width)
        runs = found_runs.find([self.folder])
        this = next(run for run in runs if run.folder == self.folder)
        if name:
            item = paper_items.item(name, paper_items.FIGURES)
        else:
            item = next(item for item in paper_items.FIGURES if item.within(this))
        entry = gallery.demand(item, [this])[0]
        return gallery.draw(entry, published=paper, width=width)[0]

    def view(self, *, decay: str | Path | None = None) -> TokenView:
        """The token view of the rollouts that this run stored for viewing."""
        return drawing.view(self.folder, decay=decay)

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        table: str = self.measurements.to_html(max_rows=20)
        return f"<p><code>{html.escape(str(self.folder))}</code></p><ul>{notes}</ul>{table}"


@dataclass(frozen=True)
class Comparison(Run):
    """A comparison of runs. verdict: which teacher, in one to three lines."""

    verdict: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in self.verdict)
        return f"<p>{lines}</p>{super()._repr_html_()}"


def open_run(path: str | Path) -> Run:
    """A finished run from its folder.

    Raises:
        UserError: the folder has no measurements.
    """
    run = found_runs.find([path])[0]
    file = run.folder / "advice.txt"
    advice = file.read_text().strip() if file.exists() else ""
    return Run(run.folder, run.measurements, tuple(run.record.get("notes", ())), advice)
