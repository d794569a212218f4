"""Finished runs as objects: DataFrames, notes, verdict, figures, token view."""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pandas as pd

from decaylab.api import drawing
from decaylab.api.columns import without_empty
from decaylab.api.drawing import TokenView
from decaylab.claims import one_run
from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.kinds import PathName
from decaylab.runs import found_runs, train_results
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.store import RunFolder
from decaylab.runs.train_results import TrainResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TRAIN = "train"


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run of any command. Everything is read from its folder on first use.

    Attributes:
        folder: the folder of the run.
        command: ``prefix-decay``, ``position-kl``, ..., ``sweep selector``, ``train``.

    `columns` says what each column of its DataFrames holds. A run that lacks something raises
    `UserError` with what to do.
    """

    folder: Path
    command: str

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """The measurements, one number a row with its interval and counts."""
        return without_empty(self._found.measurements)

    @cached_property
    def tokens(self) -> pd.DataFrame:
        """The scored tokens, one a row, with the statistics of student and teacher.

        Kept by position-kl, category-kl, submode, signals, served-kl and values. Its
        ``rollout_id`` is that of `rollouts`.
        """
        from decaylab.api import frames

        return frames.tokens(RunFolder(self.folder), self.command)

    @cached_property
    def rollouts(self) -> pd.DataFrame:
        """The rollouts, one a row, with text, stop reason and the grade of every answer rule.

        A sweep has the outcomes of its evaluations, without texts.
        """
        from decaylab.api import frames

        return frames.rollouts(RunFolder(self.folder), self.command)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The steps of a training run, one a row."""
        return without_empty(self._trained.metrics)

    @cached_property
    def validation(self) -> pd.DataFrame:
        """The held-out problems at each checkpoint of a training run, one checkpoint a row."""
        return without_empty(self._trained.validation)

    @property
    def notes(self) -> tuple[str, ...]:
        """What must be known about the run, a sentence each."""
        return self._trained.notes if self.command == TRAIN else self._found.notes

    @property
    def verdict(self) -> tuple[str, ...]:
        """What the run says, in at most three sentences with their numbers."""
        if self.command != TRAIN:
            return one_run.verdict(self._found)
        from decaylab.tables import training

        return tuple(training.verdict(self._trained.validation))

    @property
    def alarms(self) -> tuple[str, ...]:
        """The alarms of a training run, such as a collapse of lengths."""
        return self._trained.alarms

    @property
    def advice(self) -> str:
        """How to train the pair, if the run was to advise: ``signals(advise=True)``."""
        file = self.folder / "advice.txt"
        return file.read_text(encoding="utf-8").strip() if file.exists() else ""

    def figure(
        self, name: str = "", *, paper: bool = False, width: Literal["column", "page"] = "page"
    ) -> Figure:
        """A figure of the paper from this run; without a name, the first one of its command.

        Args:
            name: of the figure; `catalogue` lists them.
            paper: also draw the published numbers.
            width: of a column or a page of a paper.
        """
        return drawing.of_run(self._found, name, paper=paper, width=width)

    def view(self, *, decay: str | Path | None = None) -> TokenView:
        """The token view of the rollouts that this run stored for viewing.

        Args:
            decay: the prefix-decay run with the teacher's continuations.
        """
        return drawing.view(self.folder, decay=decay)

    def show(self, *, verbose: bool = False) -> None:
        """Prints what the command printed: ``decaylab show``.

        Args:
            verbose: print every table and note.
        """
        if self.command == TRAIN:
            from decaylab.tables import training

            training.print_training(self._trained, verbose=verbose)
        else:
            from decaylab.tables.shown import print_run

            print_run(self._found, verbose=verbose)

    @cached_property
    def _found(self) -> FoundRun:
        if self.command == TRAIN:
            raise UserError(
                f"{self.folder} is a training run: it has .metrics and .validation; "
                f'dl.evaluate("{self.folder}") measures its checkpoints'
            )
        return found_runs.read(self.folder)

    @cached_property
    def _trained(self) -> TrainResult:
        if self.command != TRAIN:
            raise UserError(f"{self.folder} is a run of {self.command}, not a training run")
        return train_results.read(self.folder)

    def __repr__(self) -> str:
        return f"<Run {self.command}: {self.folder}>"

    def _repr_html_(self) -> str:
        lines = "<br>".join(html.escape(line) for line in self.verdict)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        frame = self.metrics if self.command == TRAIN else self.measurements
        table: str = frame.to_html(max_rows=20)
        head = f"<p><b>{self.command}</b> <code>{html.escape(str(self.folder))}</code></p>"
        return f"{head}<p>{lines}</p><ul>{notes}</ul>{table}"


def open_run(path: str | Path) -> Run:
    """A finished run of any command, from its folder.

    Raises:
        UserError: there is no finished run in the folder.
    """
    folder = Path(option_values.checked("path", PathName, path)).expanduser()
    if train_results.is_training(folder):
        train_results.read(folder)
        return Run(folder, TRAIN)
    return Run(folder, found_runs.read(folder).command)


def show(run: str | Path | Run, *, verbose: bool = False) -> None:
    """Prints what a run's command printed: ``decaylab show``.

    Args:
        run: the run or its folder.
        verbose: print every table and note.

    Raises:
        UserError: there is no finished run in the folder.
    """
    opened = run if isinstance(run, Run) else open_run(run)
    opened.show(verbose=verbose)
