"""Progress of long work: one live bar a stage with tokens/s and time left; a line a stage where
there is no terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class StageProgress:
    """Counts tokens and finished sequences (or what else the unit is) of one stage; what was read
    from disk apart.

    Several threads may count at once.
    """

    def __init__(
        self, bar: Progress | None, name: str, total: int, unit: str = "sequences"
    ) -> None:
        self.tokens, self.finished, self.skipped, self.started = 0, 0, 0, time.monotonic()
        self._bar, self.unit, self._told = bar, unit, ""
        self._counting = threading.Lock()
        self._task = bar.add_task(name, total=total, rate="") if bar else None

    def advance(self, tokens: int, finished: int) -> None:
        with self._counting:
            self.tokens += tokens
            self.finished += finished
        if self._bar is not None and self._task is not None:
            rate = f"{self.rate:,.0f} tokens/s" if self.tokens else ""
            self._bar.update(self._task, advance=finished, rate=f"{self._told}{rate}")

    def tell(self, message: str) -> None:
        """Stands beside the rate from now on."""
        self._told = f"{message}  "

    def skip(self, finished: int) -> None:
        """Sequences that an earlier process made already: they count for the bar, not for the
        rate."""
        self.skipped += finished
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=finished)

    def summary(self) -> str:
        """What this process did, and what it found done."""
        seconds = time.monotonic() - self.started
        made = (
            f"{self.finished} {self.unit}, {self.tokens:,} tokens in {seconds:.0f} s "
            f"({self.rate:,.0f} tokens/s)"
        )
        if not self.tokens:
            made = f"{self.finished} {self.unit} in {seconds:.0f} s"
        read = f"{self.skipped} {self.unit} were there already"
        return made if not self.skipped else f"{made}; {read}" if self.finished else read

    @property
    def rate(self) -> float:
        """Tokens per second of what this process wrote."""
        return self.tokens / max(time.monotonic() - self.started, 1e-9)


class Reporter:
    """Where a command speaks while it works: standard error, so that standard output stays for
    results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)

    def note(self, message: str) -> None:
        style = "yellow" if self.console.is_terminal else None
        self.console.print(message, style=style, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "sequences") -> Iterator[StageProgress]:
        """A stage of ``total`` sequences, or what else is counted; prints its summary when it
        ends."""
        if not self.console.is_terminal:
            progress = StageProgress(None, name, total, unit)
            yield progress
        else:
            columns = (
                TextColumn("{task.description:<34}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self.console, transient=True) as bar:
                progress = StageProgress(bar, name, total, unit)
                yield progress
        if progress.finished or progress.skipped:
            self.console.print(f"{name}: {progress.summary()}", highlight=False, soft_wrap=True)
