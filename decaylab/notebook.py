"""decaylab in a notebook: what the commands do, with tables as DataFrames and figures as matplotlib
figures.

    import decaylab as dl

    decay = dl.prefix_decay(teacher="Qwen/Qwen3-1.7B", prefix_lengths=[0, 100, 200, 300],
    controls="all") kl = dl.position_kl("runs/esr", "runs/full")       # checkpoints first, then
    options under their command-line names kl.measurements; kl.figure(paper=True); kl.view()
    dl.figure("n-sweep", "runs/sweep-embedded/rollout-length") dl.report("runs/esr", "runs/full",
    out="report.html")

Runs stand in the same folders as those of the command line: what was measured there is not measured
again.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.command_options import COMMANDS
from decaylab.pages import gallery, reporting
from decaylab.pages.gallery import Width
from decaylab.paper import paper_items
from decaylab.paper.publication import published
from decaylab.progress import Reporter
from decaylab.runs import found_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from decaylab.trainer.loop import TrainResult

__all__ = ["published"]

VIEW_HEIGHT = 720  # pixels of the token view in a notebook


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, measurements (columns of `measurements.Measurement`) and what
    must be known.

    advice: the paragraph on N, where it was asked for.
    """

    folder: Path
    measurements: pd.DataFrame
    notes: tuple[str, ...] = ()
    advice: str = ""

    def figure(self, name: str = "", *, paper: bool = False, width: Width = "page") -> Figure:
        """A figure of the paper out of this run; without a name the first one that its command
        measures.

        paper: the published numbers too.
        """
        _check_drawing(paper, width)
        runs = found_runs.find([self.folder])
        own = next(run for run in runs if run.folder == self.folder)
        items = [item for item in paper_items.FIGURES if item.within(own)]
        item = paper_items.item(name, paper_items.FIGURES) if name else items[0]
        entry = gallery.demand(item, [own])[0]
        return gallery.draw(entry, published=paper, width=width)[0]

    def view(self, *, decay: str | Path | None = None) -> TokenView:
        """The token view of the rollouts that this run kept to look at."""
        return view(self.folder, decay=decay)

    def _repr_html_(self) -> str:
        told = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        table: str = self.measurements.to_html(max_rows=20)
        return f"<p><code>{html.escape(str(self.folder))}</code></p><ul>{told}</ul>{table}"


@dataclass(frozen=True)
class TokenView:
    """The token view as a page; a notebook shows it."""

    page: str

    def save(self, path: str | Path) -> Path:
        """Writes the page to a file."""
        return reporting.write_page(self.page, Path(path))

    def _repr_html_(self) -> str:
        # A frame of its own: its styles and scripts touch nothing of the notebook, and the
        # notebook's nothing of it.
        page = html.escape(self.page, quote=True)
        return (
            f'<iframe title="Token view" sandbox="allow-scripts" srcdoc="{page}" '
            f'style="width: 100%; height: {VIEW_HEIGHT}px; border: 0"></iframe>'
        )


def prefix_decay(*, quiet: bool = False, **options: Any) -> Run:
    """Teacher accuracy after k tokens of the student's rollouts: ``decaylab prefix-decay``.

    Args:
        quiet: no progress.
        options: those of `options.Options`, such as teacher, student, problems, limit,
        prefix_lengths, controls, out.

    Raises:
        UserError: an option that does not exist or cannot be used; anything that a user can mend.
    """
    from decaylab.commands import prefix_decay

    result = prefix_decay.prefix_decay(
        _options("prefix-decay", quiet, options),
        command="dl.prefix_decay",
        reporter=Reporter(quiet=quiet),
    )
    return Run(result.folder, result.measurements, result.notes)


def position_kl(*checkpoints: str | Path, quiet: bool = False, **options: Any) -> Run:
    """KL by position before and after training: ``decaylab position-kl``. Options:
    `options.DiagnosticOptions`."""
    return _diagnose("position-kl", checkpoints, quiet, options)


def category_kl(*checkpoints: str | Path, quiet: bool = False, **options: Any) -> Run:
    """KL by kind of token: ``decaylab category-kl``. Options: `options.DiagnosticOptions`."""
    return _diagnose("category-kl", checkpoints, quiet, options)


def submode(*checkpoints: str | Path, quiet: bool = False, **options: Any) -> Run:
    """Where the student's first choice ranks under the teacher: ``decaylab submode``. Options:
    `options.DiagnosticOptions`."""
    return _diagnose("submode", checkpoints, quiet, options)


def signals(*checkpoints: str | Path, quiet: bool = False, **options: Any) -> Run:
    """Entropies, KL and N by position: ``decaylab signals``. Options: `options.DiagnosticOptions`,
    such as advise."""
    return _diagnose("signals", checkpoints, quiet, options)


def behaviour(*checkpoints: str | Path, quiet: bool = False, **options: Any) -> Run:
    """What the rollouts are like: ``decaylab behaviour``. Options: `options.DiagnosticOptions`."""
    return _diagnose("behaviour", checkpoints, quiet, options)


def evaluate(*checkpoints: str | Path, quiet: bool = False, **options: Any) -> Run:
    """avg@k, pass@k and maj@k of every checkpoint: ``decaylab evaluate``. Options:
    `options.DiagnosticOptions`."""
    return _diagnose("evaluate", checkpoints, quiet, options)


def train(*, quiet: bool = False, **options: Any) -> TrainResult:
    """Trains a student on-policy: ``decaylab train``. Options: `training_options.TrainOptions`."""
    from decaylab.trainer import loop

    return loop.train(
        _options("train", quiet, options), command="dl.train", reporter=Reporter(quiet=quiet)
    )


def sweep(
    over: str, values: Sequence[str | int] | str, *, quiet: bool = False, **options: Any
) -> Run:
    """Arms over seeds, compared: ``decaylab sweep``. Options: `sweep_options.SweepOptions`.

    Raises:
        UserError: an option that cannot be used, or runs that failed.
    """
    from decaylab.commands import sweeps

    words = values if isinstance(values, str) else ",".join(map(str, values))
    chosen = _options("sweep", quiet, {**options, "over": over, "values": words})
    result = sweeps.sweep(chosen, command="dl.sweep", reporter=Reporter(quiet=quiet))
    if result.failed:
        raise UserError(result.complaint)
    return Run(result.folder, result.measurements, result.notes)


def open_run(path: str | Path) -> Run:
    """A finished run from its folder.

    Raises:
        UserError: no measurements there.
    """
    run = found_runs.find([path])[0]
    advice = run.folder / "advice.txt"
    told = advice.read_text() if advice.exists() else ""
    return Run(run.folder, run.measurements, tuple(run.record.get("notes", ())), told.strip())


def catalogue(*paths: str | Path) -> pd.DataFrame:
    """Each figure and table of the paper: what it shows, what it needs, and the run among these
    that has it."""
    runs = found_runs.find(paths) if paths else []
    return gallery.listing(runs)


def figure(name: str, *paths: str | Path, paper: bool = False, width: Width = "page") -> Figure:
    """A figure of the paper out of the first of these runs that holds what it needs; `catalogue`
    lists them.

    Raises:
        UserError: an unknown figure, or none of the runs holds what it needs.
    """
    _check_drawing(paper, width)
    item = paper_items.item(name, paper_items.FIGURES)
    entry = gallery.demand(item, found_runs.find(paths) if paths else [])[0]
    return gallery.draw(entry, published=paper, width=width)[0]


def table(name: str, *paths: str | Path, paper: bool = False) -> pd.DataFrame:
    """A table of the paper as numbers, from the first of these runs that holds what it needs.

    Raises:
        UserError: an unknown table, or none of the runs holds what it needs.
    """
    _check_drawing(paper)
    item = paper_items.item(name, paper_items.TABLES)
    entry = gallery.demand(item, found_runs.find(paths) if paths else [])[0]
    return gallery.table(entry, published=paper).frame


def view(path: str | Path, *, decay: str | Path | None = None) -> TokenView:
    """The token view of a run: rollouts token by token, and what the teacher wrote from their
    prefixes.

    decay: the prefix-decay run that the continuations are read from; by default one at or below
    ``path``.

    Raises:
        UserError: the run kept no rollouts to look at.
    """
    return TokenView(reporting.view_page(Path(path), Path(decay) if decay else None))


def report(*paths: str | Path, out: str | Path = "report.html", paper: bool = False) -> Path:
    """One self-contained page of everything that these runs measured: ``decaylab report``.

    Raises:
        UserError: no run, runs of different pairs, or a file that cannot be written.
    """
    _check_drawing(paper)
    return reporting.write_page(reporting.report_page(paths, published=paper), Path(out))


def _check_drawing(paper: bool, width: Width = "page") -> None:
    """Raises UserError where a figure, table or page is asked for in a way that there is not."""
    option_values.checked("paper", bool, paper)
    option_values.checked("width", Width, width)


def _diagnose(
    command: str, checkpoints: Sequence[str | Path], quiet: bool, options: dict[str, Any]
) -> Run:
    from decaylab.commands import diagnose

    chosen = _options(command, quiet, {**options, "checkpoints": checkpoints})
    chosen = dataclasses.replace(chosen, said=frozenset(options))
    spoken = f"dl.{command.replace('-', '_')}"
    result = diagnose.diagnose(command, chosen, spoken=spoken, reporter=Reporter(quiet=quiet))
    return Run(result.folder, result.measurements, result.notes, result.advice)


def _options(command: str, quiet: bool, given: dict[str, Any]) -> Any:
    """The options of a command from keyword arguments.

    Raises:
        UserError: one that the command does not have, or a value that it cannot have.
    """
    known = COMMANDS[command].names
    option_values.checked("quiet", bool, quiet)
    if unknown := sorted(set(given) - set(known)):
        raise UserError(
            f"no option {unknown[0]} of {command}; there are {', '.join(sorted(known))}"
        )
    return COMMANDS[command].kind(**given)
