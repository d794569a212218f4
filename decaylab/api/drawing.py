"""Figures, tables, the token view and the report of finished runs, as objects of Python."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from decaylab.options import option_values
from decaylab.pages import gallery, reporting
from decaylab.pages.gallery import Width
from decaylab.paper import paper_items
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VIEW_HEIGHT = 720  # pixels of the token view in a notebook


@dataclass(frozen=True)
class TokenView:
    """The token view as a page, which a notebook displays."""

    page: str

    def save(self, path: str | Path) -> Path:
        """Writes the page to a file."""
        return reporting.write_page(self.page, Path(path))

    def _repr_html_(self) -> str:
        # A frame isolates its styles and scripts from the notebook's.
        page = html.escape(self.page, quote=True)
        return (
            f'<iframe title="Token view" sandbox="allow-scripts" srcdoc="{page}" '
            f'style="width: 100%; height: {VIEW_HEIGHT}px; border: 0"></iframe>'
        )


def catalogue(*paths: str | Path) -> pd.DataFrame:
    """The figures and tables of the paper: what each shows and needs, and which run provides it."""
    return gallery.listing(_runs(paths))


def figure(name: str, *paths: str | Path, paper: bool = False, width: Width = "page") -> Figure:
    """A figure of the paper from the first of these runs with its measurements; `catalogue` lists
    the figures.

    Raises:
        UserError: the figure is unknown, or no run has its measurements.
    """
    check_drawing(paper, width)
    entry = gallery.demand(paper_items.item(name, paper_items.FIGURES), _runs(paths))[0]
    return gallery.draw(entry, published=paper, width=width)[0]


def table(name: str, *paths: str | Path, paper: bool = False) -> pd.DataFrame:
    """A table of the paper as numbers, from the first of these runs with its measurements.

    Raises:
        UserError: the table is unknown, or no run has its measurements.
    """
    check_drawing(paper)
    entry = gallery.demand(paper_items.item(name, paper_items.TABLES), _runs(paths))[0]
    return gallery.table(entry, published=paper).frame


def view(path: str | Path, *, decay: str | Path | None = None) -> TokenView:
    """The token view of a run: rollouts token by token, with the teacher's continuations.

    decay: the prefix-decay run with the continuations; by default one at or below ``path``.

    Raises:
        UserError: the run stored no rollouts for viewing.
    """
    return TokenView(reporting.view_page(Path(path), Path(decay) if decay else None))


def report(*paths: str | Path, out: str | Path = "report.html", paper: bool = False) -> Path:
    """One self-contained page with all results of these runs: ``decaylab report``.

    Raises:
        UserError: no run, runs of different pairs, or the file cannot be written.
    """
    check_drawing(paper)
    return reporting.write_page(reporting.report_page(paths, published=paper), Path(out))


def _runs(paths: Sequence[str | Path]) -> list[FoundRun]:
    return found_runs.find(paths) if paths else []


def check_drawing(paper: bool, width: Width = "page") -> None:
    """Raises UserError if these options of a figure, table or page are invalid."""
    option_values.checked("paper", bool, paper)
    option_values.checked("width", Width, width)
