"""decaylab in a notebook: the commands as functions, with DataFrames and matplotlib figures.

    import decaylab as dl

    decay = dl.prefix_decay(teacher="Qwen/Qwen3-1.7B", prefix_lengths=[0, 100, 200, 300])
    kl = dl.position_kl("runs/esr", "runs/full")   # checkpoints first, then options
    kl.measurements; kl.figure(paper=True); kl.view()
    dl.compare("runs/decay-a", "runs/decay-b").verdict    # which teacher?
    dl.figure("n-sweep", "runs/sweep/rollout-length-5-20-full")
    dl.report("runs/esr", "runs/full", out="report.html")

Options have their command-line names. Runs are stored in the same folders as on the command line,
and existing results are reused.
"""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from decaylab.claims import one_run
from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.command_options import COMMANDS
from decaylab.pages import gallery, reporting
from decaylab.pages.gallery import Width
from decaylab.paper import paper_items
from decaylab.paper.publication import published
from decaylab.progress import Reporter
from decaylab.runs import found_runs
from decaylab.runs.found_runs import FoundRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from decaylab.runs.train_results import TrainResult

__all__ = ["published"]

VIEW_HEIGHT = 720  # pixels of the token view in a notebook


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
        _check_drawing(paper, width)
        runs = found_runs.find([self.folder])
        this = next(run for run in runs if run.folder == self.folder)
        if name:
            item = paper_items.item(name, paper_items.FIGURES)
        else:
            item = next(item for item in paper_items.FIGURES if item.within(this))
        entry = gallery.demand(item, [this])[0]
        return gallery.draw(entry, published=paper, width=width)[0]

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the run says, in at most three sentences with their numbers."""
        return one_run.verdict(found_runs.read(self.folder))

    def view(self, *, decay: str | Path | None = None) -> TokenView:
        """The token view of the rollouts that this run stored for viewing."""
        return view(self.folder, decay=decay)

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


def prefix_decay(*, quiet: bool = False, **options: Any) -> Run:
    """Teacher accuracy after k tokens of the student's rollouts: ``decaylab prefix-decay``.

    Args:
        quiet: show no progress.
        options: those of the command, such as teacher, student, problems, limit, prefix_lengths,
            controls, out.

    Raises:
        UserError: an unknown or invalid option, or anything else that a user can fix.
    """
    from decaylab.commands import prefix_decay

    chosen = _options("prefix-decay", quiet, options)
    return _run(
        prefix_decay.prefix_decay(chosen, command="dl.prefix_decay", reporter=Reporter(quiet=quiet))
    )


def _diagnostic(command: str, what: str) -> Callable[..., Run]:
    """The function of a diagnostic, with checkpoints followed by the command's options."""
    name = command.replace("-", "_")

    def measure(*checkpoints: str | Path, quiet: bool = False, **options: Any) -> Run:
        from decaylab.commands import diagnose

        chosen = _options(command, quiet, {**options, "checkpoints": checkpoints})
        chosen = dataclasses.replace(chosen, said=frozenset(options))
        reporter = Reporter(quiet=quiet)
        return _run(diagnose.diagnose(command, chosen, spoken=f"dl.{name}", reporter=reporter))

    measure.__name__ = measure.__qualname__ = name
    measure.__doc__ = f"{what}: ``decaylab {command}``. Checkpoints, then the command's options."
    return measure


position_kl = _diagnostic("position-kl", "KL by position before and after training")
category_kl = _diagnostic("category-kl", "KL by kind of token")
submode = _diagnostic("submode", "Rank under the teacher of the student's top token")
signals = _diagnostic("signals", "Entropies, KL and N by position")
behaviour = _diagnostic("behaviour", "Length, stopping, repetition and boxes of rollouts")
evaluate = _diagnostic("evaluate", "avg@k, pass@k and maj@k of every checkpoint")


def train(*, quiet: bool = False, **options: Any) -> TrainResult:
    """Trains a student on-policy: ``decaylab train``, with its options."""
    from decaylab.commands.drawing import with_curves
    from decaylab.trainer import loop

    chosen = _options("train", quiet, options)
    return with_curves(loop.train(chosen, command="dl.train", reporter=Reporter(quiet=quiet)))


def sweep(
    over: str, values: Sequence[str | int] | str, *, quiet: bool = False, **options: Any
) -> Run:
    """Trains arms over seeds and compares them: ``decaylab sweep``, with its options.

    Raises:
        UserError: an invalid option, or training runs that failed.
    """
    from decaylab.commands import sweeps

    words = values if isinstance(values, str) else ",".join(map(str, values))
    chosen = _options("sweep", quiet, {**options, "over": over, "values": words})
    result = sweeps.sweep(chosen, command="dl.sweep", reporter=Reporter(quiet=quiet))
    if result.failed:
        raise UserError(result.complaint)
    return _run(result)


def compare(*runs: str | Path, quiet: bool = False, **options: Any) -> Comparison:
    """Compares teachers or students by their prefix-decay runs: ``decaylab compare``.

    Args:
        runs: folders of finished runs, of one student with several teachers or of one teacher with
            several students. Add their position-kl or signals runs to compare KL.
        quiet: accepted as in other functions; a comparison has no progress.
        options: reference, answer_rule, level, seed, out, overwrite.

    Raises:
        UserError: the runs cannot be paired; the message names what differs.
    """
    from decaylab.commands import compare

    chosen = _options("compare", quiet, {**options, "run_folders": runs})
    result = compare.compare(chosen, command="dl.compare")
    return Comparison(result.folder, result.measurements, result.notes, verdict=result.verdict)


def open_run(path: str | Path) -> Run:
    """A finished run from its folder.

    Raises:
        UserError: the folder has no measurements.
    """
    run = found_runs.find([path])[0]
    file = run.folder / "advice.txt"
    advice = file.read_text().strip() if file.exists() else ""
    return Run(run.folder, run.measurements, tuple(run.record.get("notes", ())), advice)


def catalogue(*paths: str | Path) -> pd.DataFrame:
    """The figures and tables of the paper: what each shows and needs, and which run provides it."""
    return gallery.listing(_runs(paths))


def figure(name: str, *paths: str | Path, paper: bool = False, width: Width = "page") -> Figure:
    """A figure of the paper from the first of these runs with its measurements; `catalogue` lists
    the figures.

    Raises:
        UserError: the figure is unknown, or no run has its measurements.
    """
    _check_drawing(paper, width)
    entry = gallery.demand(paper_items.item(name, paper_items.FIGURES), _runs(paths))[0]
    return gallery.draw(entry, published=paper, width=width)[0]


def table(name: str, *paths: str | Path, paper: bool = False) -> pd.DataFrame:
    """A table of the paper as numbers, from the first of these runs with its measurements.

    Raises:
        UserError: the table is unknown, or no run has its measurements.
    """
    _check_drawing(paper)
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
    _check_drawing(paper)
    return reporting.write_page(reporting.report_page(paths, published=paper), Path(out))


def _runs(paths: Sequence[str | Path]) -> list[FoundRun]:
    return found_runs.find(paths) if paths else []


def _check_drawing(paper: bool, width: Width = "page") -> None:
    """Raises UserError if these options of a figure, table or page are invalid."""
    option_values.checked("paper", bool, paper)
    option_values.checked("width", Width, width)


def _run(result: Any) -> Run:
    """A command's result as a `Run`."""
    advice = getattr(result, "advice", None)
    text = advice.text if advice else ""
    return Run(result.folder, result.measurements, result.notes, text)


def _options(command: str, quiet: bool, given: dict[str, Any]) -> Any:
    """The options of a command from keyword arguments.

    Raises:
        UserError: an unknown option or an invalid value.
    """
    known = sorted(COMMANDS[command].names)
    option_values.checked("quiet", bool, quiet)
    for name in sorted(given):
        if name not in known:
            raise UserError(f"no option {name} of {command}; there are {', '.join(known)}")
    return COMMANDS[command].kind(**given)
