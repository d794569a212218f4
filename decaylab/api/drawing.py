"""Figures, tables, the token view and the report of finished runs, as objects of Python."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.pages import gallery, reporting
from decaylab.pages.gallery import Width
from decaylab.paper import paper_items
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VIEW_HEIGHT = 720  # pixels of the token view in a notebook
Kind = Literal["png", "svg", "pdf"]


@dataclass(frozen=True, repr=False)
class TokenView:
    """The token view as a page, which a notebook displays."""

    page: str

    def save(self, path: str | Path) -> Path:
        """Writes the page to a file."""
        return reporting.write_page(self.page, Path(path))

    def __repr__(self) -> str:
        return f"<TokenView: a page of {len(self.page) / 2**20:.1f} MiB; save(PATH) writes it>"

    def _repr_html_(self) -> str:
        # A frame isolates its styles and scripts from the notebook's.
        page = html.escape(self.page, quote=True)
        return (
            f'<iframe title="Token view" sandbox="allow-scripts" srcdoc="{page}" '
            f'style="width: 100%; height: {VIEW_HEIGHT}px; border: 0"></iframe>'
        )


def catalogue(*paths: str | Path) -> pd.DataFrame:
    """The figures and tables of the paper: ``decaylab figures``.

    Returns:
        What each shows and needs, and which of these runs has it, one a row.
    """
    return gallery.listing(_runs(paths))


def write_figures(
    *paths: str | Path,
    only: Sequence[str] | str | None = None,
    out: str | Path = "runs/figures",
    paper: bool = False,
    width: Literal["column", "page", "both"] = "both",
    panel: bool = False,
    kinds: Sequence[Kind] | str = ("png", "svg", "pdf"),
) -> list[Path]:
    """Writes the paper's figures and tables from these runs: ``decaylab figures --all``.

    Args:
        paths: run folders; runs in them and below are found.
        only: names of figures and tables. Default: all that the runs allow.
        out: the folder of the files.
        paper: also draw the published numbers.
        width: of a column or a page of a paper, or both.
        panel: also write each panel as a file.
        kinds: the file formats.

    Returns:
        The files.

    Raises:
        UserError: an unknown name, or no run has its measurements.
    """
    option_values.checked("paper", bool, paper)
    option_values.checked("width", Literal["column", "page", "both"], width)
    option_values.checked("panel", bool, panel)
    formats = _names("kinds", kinds, gallery.KINDS)
    known, entries = _runs(paths), list[gallery.Entry]()
    items = (*paper_items.FIGURES, *paper_items.TABLES)
    if only is None:
        entries = list(gallery.entries(known, items))
    else:
        for name in _names("only", only, list(dict.fromkeys(item.name for item in items))):
            for item in items:
                if item.name == name:
                    entries += gallery.demand(item, known)
    widths = [name for name in gallery.WIDTHS if width in (name, "both")]
    written = list[Path]()
    gallery.write(
        entries,
        Path(out),
        published=paper,
        widths=widths,
        panels=panel,
        kinds=formats,
        told=lambda entry, files: written.extend(files),
    )
    return written


def _names(option: str, given: Sequence[str] | str, known: Sequence[str]) -> tuple[str, ...]:
    """The given names.

    Raises:
        UserError: none, or one that is not known.
    """
    names: tuple[str, ...] = option_values.checked(option, tuple[str, ...], given)
    for name in names:
        if name not in known:
            raise UserError(f"{option} must be among {', '.join(known)}, got {name}")
    if not names:
        raise UserError(f"{option} must not be empty; there are {', '.join(known)}")
    return names


def figure(
    name: str, *paths: str | Path, paper: bool = False, width: Literal["column", "page"] = "page"
) -> Figure:
    """A figure of the paper from the first of these runs that has its measurements.

    Args:
        name: of the figure; `catalogue` lists them.
        paths: run folders; runs in them and below are found.
        paper: also draw the published numbers.
        width: of a column or a page of a paper.

    Raises:
        UserError: the figure is unknown, or no run has its measurements.
    """
    _check_drawing(paper, width)
    entry = gallery.demand(paper_items.item(name, paper_items.FIGURES), _runs(paths))[0]
    return gallery.draw(entry, published=paper, width=width)[0]


def of_run(run: FoundRun, name: str, *, paper: bool, width: Width) -> Figure:
    """A figure from one run; without a name, the first one of its command."""
    _check_drawing(paper, width)
    known = found_runs.find([run.folder])
    this = next(one for one in known if one.folder == run.folder)
    if name:
        item = paper_items.item(name, paper_items.FIGURES)
    else:
        drawn = [item for item in paper_items.FIGURES if item.within(this)]
        if not drawn:
            raise UserError(f"{run.command} has no figure of its own; dl.catalogue() lists them")
        item = drawn[0]
    entry = gallery.demand(item, [this])[0]
    return gallery.draw(entry, published=paper, width=width)[0]


def table(name: str, *paths: str | Path, paper: bool = False) -> pd.DataFrame:
    """A table of the paper as numbers, from the first of these runs that has its measurements.

    Args:
        name: of the table; `catalogue` lists them.
        paths: run folders; runs in them and below are found.
        paper: add the published numbers.

    Raises:
        UserError: the table is unknown, or no run has its measurements.
    """
    _check_drawing(paper)
    entry = gallery.demand(paper_items.item(name, paper_items.TABLES), _runs(paths))[0]
    return gallery.table(entry, published=paper).frame


def view(path: str | Path, *, decay: str | Path | None = None) -> TokenView:
    """The token view of a run: ``decaylab view``.

    Args:
        path: the folder of a run that scored tokens.
        decay: the prefix-decay run with the teacher's continuations. Default: one at or below
            ``path``.

    Raises:
        UserError: the run stored no rollouts for viewing.
    """
    return TokenView(reporting.view_page(Path(path), Path(decay) if decay else None))


def report(
    *paths: str | Path, out: str | Path | None = None, card: bool = False, paper: bool = False
) -> Path:
    """Writes one self-contained page with all results of these runs: ``decaylab report``.

    Args:
        paths: run folders; runs in them and below are found.
        out: the file. Default: report.html, or CARD.md of a card.
        card: write a Markdown card for a model card, with its figure beside it.
        paper: also draw the published numbers.

    Returns:
        The file.

    Raises:
        UserError: no run, runs of different pairs, or the file cannot be written.
    """
    _check_drawing(paper)
    option_values.checked("card", bool, card)
    wrong = [path for path in paths if not isinstance(path, str | Path)]
    if wrong or not paths:
        got = f", got {type(wrong[0]).__name__}" if wrong else ""
        raise UserError(f"dl.report needs the folders of runs: dl.report('runs/a', 'runs/b'){got}")
    if card:
        from decaylab.pages import card as cards

        return cards.write(list(map(Path, paths)), Path(out or "CARD.md"), published=paper)[0]
    page = reporting.report_page(paths, published=paper)
    return reporting.write_page(page, Path(out or "report.html"))


def _runs(paths: Sequence[str | Path]) -> list[FoundRun]:
    return found_runs.find(paths) if paths else []


def _check_drawing(paper: bool, width: Literal["column", "page"] = "page") -> None:
    """Raises UserError if these options of a figure, table or page are invalid."""
    option_values.checked("paper", bool, paper)
    option_values.checked("width", Width, width)
