"""The paper's figures and tables out of finished runs: which of them can be drawn, and drawn. No
model is at hand.

runs = found_runs.find(["runs/mine"])
for entry in entries(runs):
    entry.item.name, entry.run            # a figure once for each run that holds what it needs
write(entries(runs), Path("figures"))
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import pandas as pd

from decaylab import disk
from decaylab.claims import which_teacher
from decaylab.errors import UserError
from decaylab.paper import paper_items
from decaylab.paper.paper_items import FIGURES, VIEWED, PaperItem
from decaylab.runs.found_runs import FoundRun
from decaylab.tables import paper_tables
from decaylab.tables.model import Table
from decaylab.tokens import viewed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from decaylab.figures.page import Sheet

Width = Literal["column", "page"]
WIDTHS: tuple[Width, ...] = get_args(Width)
KINDS = ("png", "svg", "pdf")


@dataclass(frozen=True)
class Entry:
    """A figure or table and the run that it is drawn from; None: it needs none. name: of its
    files."""

    item: PaperItem
    run: FoundRun | None
    name: str


def sources(item: PaperItem, runs: Sequence[FoundRun]) -> list[FoundRun]:
    """The runs that a figure or table can be drawn from. Of rollouts to look at: the run with the
    most students."""
    if item.commands != (VIEWED,):
        return [run for run in runs if item.within(run)]
    holding = [run for run in runs if viewed.holds(run.folder)]
    students = [viewed.read(run.folder).rollouts["checkpoint"].nunique() for run in holding]
    return [holding[students.index(max(students))]] if any(students) else []


def entries(runs: Sequence[FoundRun], items: Sequence[PaperItem] = FIGURES) -> list[Entry]:
    """What can be drawn from these runs, in the order of the paper; from several runs each under a
    name of its own."""
    drawable = []
    for item in items:
        if not item.commands:
            drawable.append(Entry(item, None, item.name))
        holding = sources(item, runs)
        for run, name in zip(holding, _names(item, holding), strict=True):
            drawable.append(Entry(item, run, name))
    return drawable


def _names(item: PaperItem, runs: Sequence[FoundRun]) -> list[str]:
    """Of files and of places in a page: the item's, with what the runs are called where there are
    several.

    Words of a-z and 0-9 joined by hyphens; runs that come to the same words are numbered.
    """
    if len(runs) == 1:
        return [item.name]
    names: list[str] = []
    for run in runs:
        words = re.sub(r"[^a-z0-9]+", "-", f"{item.name}-{run.name}".lower()).strip("-")
        name, number = words, 2
        while name in names:
            name, number = f"{words}-{number}", number + 1
        names.append(name)
    return names


def demand(item: PaperItem, runs: Sequence[FoundRun]) -> list[Entry]:
    """The entries of one figure or table that was asked for by name.

    Raises:
        UserError: no run holds what it needs; says which command measures it.
    """
    drawable = entries(runs, [item])
    if not drawable:
        looked = ", ".join(str(run.folder) for run in runs[:3]) or "no run"
        raise UserError(
            f"{item.kind} {item.name} needs what `{item.makes}` measures; it is not in {looked}"
        )
    return drawable


def draw(entry: Entry, *, published: bool = False, width: Width = "page") -> tuple[Figure, str]:
    """A figure and its caption. published: with the paper's numbers in panels of their own, grey.

    Raises:
        UserError: the measurements cannot be drawn.
    """
    made = drawn(entry, published=published)
    return made.sheet.printed(width), made.caption


@dataclass(frozen=True)
class DrawnFigure:
    """A figure's panels, its caption of at most 60 words, and all else that is to be said."""

    sheet: Sheet
    caption: str
    details: str

    def text(self, width: Width = "page") -> bytes:
        """The text file beside the figure; that of a column says which panels it has no room
        for."""
        left, remark = self.sheet.left_out, ""
        if width == "column" and left:
            remark = f" Not in this column, which is at most 9 inches high: {', '.join(left)}; "
            remark += "--panel writes each panel."
        return f"{self.caption}\n\n{self.details}{remark}\n".encode()


def drawn(entry: Entry, *, published: bool = False) -> DrawnFigure:
    """A figure with its texts, of any size.

    Raises:
        UserError: the measurements cannot be drawn.
    """
    module = importlib.import_module(f"decaylab.figures.{entry.item.module}")
    theirs = None
    # The paper's figures are of mathematics.
    if published and entry.item.published and (entry.run is None or entry.run.is_mathematics):
        theirs = entry.item.published()
    try:
        if entry.item.name in _OTHERWISE:
            return _OTHERWISE[entry.item.name](module, entry.run)
        assert entry.run is not None
        frame = entry.run.measurements
        sheet = module.sheet(frame, published=theirs)
        return DrawnFigure(sheet, module.caption(frame, theirs), module.details(frame, theirs))
    except (ValueError, LookupError) as error:
        where = f" from {entry.run.folder}" if entry.run else ""
        raise UserError(f"figure {entry.item.name} cannot be drawn{where}: {error}") from error


def _mode_seeking(module: Any, run: FoundRun | None) -> DrawnFigure:
    from decaylab.analyses import mode_seeking

    result = mode_seeking.fit()
    return DrawnFigure(module.sheet(result), module.caption(result), module.details(result))


def _case_study(module: Any, run: FoundRun | None) -> DrawnFigure:
    assert run is not None
    kept = viewed.read(run.folder)
    if not len(kept.tokens):
        raise UserError("the stored rollouts have no tokens")
    case = module.choose(kept.rollouts, kept.tokens)
    return DrawnFigure(module.sheet(case), module.caption(case), module.details(case))


def _compare(module: Any, run: FoundRun | None) -> DrawnFigure:
    assert run is not None
    frame = run.measurements
    details = " ".join([*which_teacher.verdict(frame), module.details(frame)])
    return DrawnFigure(module.sheet(frame), module.caption(frame), details)


_OTHERWISE: dict[str, Callable[[Any, FoundRun | None], DrawnFigure]] = {
    "mode-seeking": _mode_seeking,
    "case-study": _case_study,
    "compare": _compare,
}


def table(entry: Entry, *, published: bool = False) -> Table:
    """A table of the paper, from the run's measurements, with the published rows where they are
    wanted."""
    theirs, frame, pair = None, None, ""
    if entry.item.published and (published or entry.run is None):
        theirs = entry.item.published()
    if entry.run:
        frame, pair = entry.run.measurements, entry.run.measured_on
    try:
        return paper_tables.build(entry.item.name, frame, theirs, pair=pair)
    except (ValueError, LookupError) as error:
        where = f" from {entry.run.folder}" if entry.run else ""
        raise UserError(f"table {entry.item.name} cannot be made{where}: {error}") from error


def write(
    found: Iterable[Entry],
    folder: Path,
    *,
    published: bool = False,
    widths: Sequence[Width] = WIDTHS,
    panels: bool = False,
    kinds: Sequence[str] = KINDS,
    told: Callable[[Entry, list[Path]], None] = lambda entry, files: None,
) -> list[Path]:
    """Figures as FOLDER/WIDTH/NAME.KIND with their text as NAME.txt; tables as
    FOLDER/tables/NAME.md, .tex and .csv.

    panels: each panel too, as FOLDER/panel/NAME-LETTER.KIND.

    told: is called for each with its files.

    Raises:
        UserError: a figure cannot be drawn, or the folder cannot be written.
    """
    written: list[Path] = []
    for entry in found:
        if entry.item.kind == "figure":
            files = _write_figure(
                drawn(entry, published=published), entry, folder, widths, panels, kinds
            )
        else:
            made = table(entry, published=published)
            files = paper_tables.write(made, folder / "tables", entry.name)
        told(entry, files)
        written += files
    return written


def _write_figure(
    made: DrawnFigure,
    entry: Entry,
    folder: Path,
    widths: Sequence[Width],
    panels: bool,
    kinds: Sequence[str],
) -> list[Path]:
    from decaylab.figures import style

    files: list[Path] = []
    for width in widths:
        files += style.save(made.sheet.printed(width), folder / width / entry.name, kinds=kinds)
        disk.write_atomically(folder / width / f"{entry.name}.txt", made.text(width))
    if panels:
        for letter, figure in made.sheet.panels().items():
            files += style.save(figure, folder / "panel" / f"{entry.name}-{letter}", kinds=kinds)
        disk.write_atomically(folder / "panel" / f"{entry.name}.txt", made.text())
    return files


def missing(
    runs: Sequence[FoundRun], items: Sequence[PaperItem] = paper_items.FIGURES
) -> list[PaperItem]:
    """What cannot be drawn from these runs."""
    there = {entry.item.name for entry in entries(runs, items)}
    return [item for item in items if item.name not in there]


def listing(runs: Sequence[FoundRun]) -> pd.DataFrame:
    """Every figure and table, a row each: kind, name, title, place, question, makes (the command),
    run (those that have it)."""
    rows = []
    for item in (*paper_items.FIGURES, *paper_items.TABLES):
        holding = [run.name for run in sources(item, runs)]
        here = ", ".join(holding[:3])
        if len(holding) > 3:
            here += f" and {len(holding) - 3} more"
        columns = ("kind", "name", "title", "place", "question")
        row = {column: getattr(item, column) for column in columns}
        row["makes"] = item.makes or "nothing: it needs no run"
        row["run"] = here if item.commands else "always"
        rows.append(row)
    return pd.DataFrame(rows)
