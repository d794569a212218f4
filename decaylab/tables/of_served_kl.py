"""What served-kl prints: the bound by position with both masses, named an approximation wherever it
is printed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from decaylab.runs.skewed_cells import RARE_PROBLEMS
from decaylab.runs.vocabulary import winsorised
from decaylab.tables import terminal
from decaylab.tables.diagnostics import (
    BRACKETS,
    POSITION,
    VIEWS,
    bins,
    grouped,
    undefined,
    views,
)
from decaylab.tables.model import Table
from decaylab.tables.source import WHOLE, Source, columns

if TYPE_CHECKING:
    from decaylab.commands.diagnose import DiagnosticResult

BOUND = "reverse_kl_bound"


def print_served(result: DiagnosticResult) -> None:
    """What was compared, the tables, what must be known to read them, and where the results are."""
    identity = result.record["identity"]
    options = identity["options"]
    terminal.print_page(
        "KL by position, approximated",
        f"{options['student']} with {options['teacher']}, held by vLLM, as its teacher; "
        f"{terminal.asked(options, identity['problems'], 'rollouts of')}; scored at temperature 1",
        _tables(Source(result.measurements, notes=False)),
        [*_reading(result), *(f"note: {note}" for note in result.notes)],
        [
            *terminal.measured_paths(result.folder),
            *(f"scored tokens: {path}" for path in result.tokens),
        ],
    )


def _tables(source: Source) -> Iterator[Table]:
    for view in views(source):
        places = bins(source, BOUND, what=winsorised(""), view=view)
        places["all"] = {"what": "mean_", "view": view, **WHOLE}
        title = (
            f"Approximation: a lower bound of the reverse KL by response position, nats ({view}); "
            "by bin the winsorised mean over problems, for the whole response the plain mean"
        )
        yield grouped(title, source, POSITION, places, columns("bound"))


def _reading(result: DiagnosticResult) -> Iterator[str]:
    """What the words of the tables mean, and why a number or an interval is missing."""
    frame = result.measurements
    yield BRACKETS.format(100 * frame["level"].iloc[0])
    if len(result.tokens) > 1:
        yield VIEWS
    yield (
        "at least: the exact reverse KL is not known and not below it; a difference of two bounds "
        "bounds nothing. Mass: each policy's probability of the ids behind the bound, 100 where "
        "nothing can be missed"
    )
    yield (
        "log-ratio taken: mean of log student - log teacher of the tokens that were written, exact"
    )
    for note, rows in frame.groupby("note", sort=False):
        reason = str(note).partition("; ")[2]
        if reason not in ("", RARE_PROBLEMS):
            yield undefined(reason, rows, f"{len(rows)} numbers")
