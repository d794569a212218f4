"""Progress of long work: a live bar per stage with tokens/s and time left, or a line per stage.

`hushed` keeps libraries from printing beside it.
"""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from decaylab.printing import rounded

NARROW = 100  # columns of a terminal below which the bar is short


class Bar(Progress):
    """A bar with a line below it, where there is something to say."""

    message = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        if self.message:
            yield Text(self.message)


class StageProgress:
    """Counts tokens and finished sequences (or another unit) of one stage.

    What was read from disk is counted apart. Several threads may count at once.
    """

    def __init__(self, bar: Bar | None, name: str, total: int, unit: str = "sequences") -> None:
        self.tokens, self.finished, self.skipped, self.started = 0, 0, 0, time.monotonic()
        self._bar, self.unit, self._message = bar, unit, ""
        self._counting = threading.Lock()
        self._task = bar.add_task(name, total=total, rate="") if bar else None

    def advance(self, tokens: int, finished: int) -> None:
        with self._counting:
            self.tokens += tokens
            self.finished += finished
        if self._bar is not None and self._task is not None:
            rate = f"{rounded(self.rate)} tokens/s" if self.tokens else ""
            self._bar.update(self._task, advance=finished, rate=f"{self._message}{rate}")

    def tell(self, message: str) -> None:
        """Shows a message beside the rate from now on."""
        self._message = f"{message}  "

    def place(self, done: float, message: str) -> None:
        """Shows how far the work is where parts of it are begun: in units, above a message."""
        if self._bar is not None and self._task is not None:
            self._bar.message = message
            self._bar.update(self._task, completed=done)

    def skip(self, finished: int) -> None:
        """Counts sequences of an earlier process: for the bar, not for the rate."""
        self.skipped += finished
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, advance=finished)

    def summary(self) -> str:
        """What this process did, and what it found done."""
        seconds = rounded(self.seconds)
        made = f"{self.finished} {self.unit} in {seconds} s"
        if self.tokens:
            made = (
                f"{self.finished} {self.unit}, {self.tokens:,} tokens in {seconds} s "
                f"({rounded(self.rate)} tokens/s)"
            )
        read = f"{self.skipped} {self.unit} were there already"
        if not self.skipped:
            return made
        return f"{made}; {read}" if self.finished else read

    @property
    def seconds(self) -> float:
        """Since the stage began, in this process."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float:
        """Tokens per second of what this process wrote."""
        return self.tokens / max(self.seconds, 1e-9)


class Reporter:
    """A command's messages while it works: on standard error, as standard output is for results."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet)

    @property
    def live(self) -> bool:
        """Whether a bar shows progress, so that lines need not."""
        return self.console.is_terminal

    def note(self, message: str) -> None:
        style = "yellow" if self.console.is_terminal else None
        self.console.print(message, style=style, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def stage(self, name: str, total: int, unit: str = "sequences") -> Iterator[StageProgress]:
        """A stage of ``total`` sequences (or another unit); prints its summary when it ends."""
        if not self.console.is_terminal:
            progress = StageProgress(None, name, total, unit)
            yield progress
        else:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24 if self.console.width >= NARROW else 10),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            with Bar(*columns, console=self.console, transient=True) as bar:
                progress = StageProgress(bar, name, total, unit)
                yield progress
        if progress.finished or progress.skipped:
            self.console.print(f"{name}: {progress.summary()}", highlight=False, soft_wrap=True)


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Silences transformers and the bars of the hub within the block.

    The hub's download bars and its warnings stay where a person watches. quiet: not even those.
    """
    from huggingface_hub import utils
    from transformers.utils import logging

    hub: Any = utils
    transformers: Any = logging
    verbosity, had_bars = transformers.get_verbosity(), transformers.is_progress_bar_enabled()
    had_hub_bars = not hub.are_progress_bars_disabled()
    hub_verbosity = hub.logging.get_verbosity()
    transformers.set_verbosity_error()
    if quiet:
        hub.logging.set_verbosity_error()
    _set_bars(False, had_hub_bars and sys.stderr.isatty() and not quiet)
    try:
        with warnings.catch_warnings():
            # Of what peft calls.
            warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
            yield
    finally:
        transformers.set_verbosity(verbosity)
        hub.logging.set_verbosity(hub_verbosity)
        _set_bars(had_bars, had_hub_bars)


def _set_bars(loading: bool, hub: bool) -> None:
    """Turns the bars of loaded weights and those of the hub on or off."""
    from huggingface_hub import utils
    from transformers.utils import logging

    bars_of_hub: Any = utils
    transformers: Any = logging
    with warnings.catch_warnings():
        # An environment variable may have turned them on or off for good.
        warnings.simplefilter("ignore")
        if loading:
            transformers.enable_progress_bar()
        else:
            transformers.disable_progress_bar()
        # The two calls above turn those of the hub on and off too.
        if hub:
            bars_of_hub.enable_progress_bars()
        else:
            bars_of_hub.disable_progress_bars()
