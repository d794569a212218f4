"""What a command prints about the run that it finished, and `decaylab show` again later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from decaylab.runs import made
from decaylab.runs.found_runs import COMPARISON, FoundRun
from decaylab.tables import (
    arm_gains,
    compare,
    diagnostics,
    interventions,
    prefix_decay,
    sweep,
    token_truth,
    values,
)
from decaylab.tables.page import Page, print_page

PAGES: Mapping[str, Callable[[FoundRun], Page]] = {
    "prefix-decay": prefix_decay.page,
    **dict.fromkeys(diagnostics.PAGES, diagnostics.page),
    token_truth.COMMAND: token_truth.page,
    interventions.COMMAND: interventions.page,
    arm_gains.COMMAND: arm_gains.page,
    "values": values.page,
    "sweep rollout-length": sweep.page,
    "sweep selector": sweep.page,
    COMPARISON: compare.page,
}


def print_run(run: FoundRun, *, verbose: bool = False) -> None:
    """The verdict and the table that carries it; with verbose all of it, and what made the run."""
    page = PAGES[run.command](run)
    if words := made.words(run.record.get(made.MADE)):
        page = replace(page, more_paths=[*page.more_paths, f"made: {words}"])
    print_page(page, run.folder, verbose=verbose)
