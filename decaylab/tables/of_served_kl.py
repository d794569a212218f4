"""What served-kl prints: the bound by position with both masses, named an approximation wherever it
stands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.markup import escape

from decaylab.runs.skewed_cells import RARE_PROBLEMS
from decaylab.tables import terminal
from decaylab.tables.diagnostic_cells import WHOLE, Lines, Page, positions

if TYPE_CHECKING:
    from decaylab.commands.diagnose import DiagnosticResult

COLUMNS = {
    "reverse_kl_bound": "reverse KL, at least",
    "student_mass": "student's mass, %",
    "teacher_mass": "teacher's mass, %",
    "log_ratio": "log-ratio taken",
    "student_entropy": "student entropy",
}


def print_served(result: DiagnosticResult) -> None:
    """What was compared, the tables, what must be known to read them, and where everything
    stands."""
    console = terminal.terminal()
    page, wrap = Page(result, console), not console.is_terminal
    console.print(
        f"\n[bold]KL by position, approximated[/bold]: {escape(_compared(result))}", soft_wrap=wrap
    )
    for part in _contents(page):
        console.print(part)
    console.print()
    for line in (*_reading(result), *(f"note: {note}" for note in result.notes)):
        console.print(f"- {line}", markup=False, emoji=False, soft_wrap=wrap)
    paths = [f"measurements: {result.folder / 'measurements.csv'}  (and .parquet)"]
    paths += [f"scored tokens: {path}" for path in result.tokens]
    console.print("\n" + "\n".join(paths), markup=False, emoji=False, soft_wrap=True)


def _compared(result: DiagnosticResult) -> str:
    identity = result.record["identity"]
    options, problems = identity["options"], identity["problems"]
    how = (
        f"x {options['samples']} samples at T = {options['temperature']:g}, budget "
        f"{options['max_tokens']} tokens"
    )
    if options.get("rollouts"):
        how = f"rollouts of {options['rollouts']}"
    return (
        f"{options['student']} with {options['teacher']}, held by vLLM, as its teacher; "
        f"{problems['name']}, "
        f"{problems['asked']} problems {how}; scored at temperature 1"
    )


def _contents(page: Page) -> Iterator[RenderableType]:
    for view in page.views:

        def bins(checkpoint: str, view: str = view) -> Lines:
            lines = []
            for span in page.spans("reverse_kl_bound"):
                row = page.find("reverse_kl_bound", checkpoint, view=view, span=span)
                cells = page.shown(
                    map("winsorised_{}".format, COLUMNS), checkpoint, "all", view, span=span
                )
                lines.append([positions(span), *cells, str(row.tokens), str(row.problems)])
            whole = page.find("mean_reverse_kl_bound", checkpoint, view=view, span=WHOLE)
            means = page.shown(
                [f"mean_{what}" for what in COLUMNS], checkpoint, "all", view, span=WHOLE
            )
            return [*lines, ["all", *means, str(whole.tokens), str(whole.problems)]]

        title = (
            f"Approximation: a lower bound of the reverse KL by response position, nats ({view}); "
            "by bin the winsorised mean "
            "over problems, for the whole response the plain mean"
        )
        yield page.table(
            title, ["position", *COLUMNS.values(), "tokens", "problems"], page.by_model(bins)
        )


def _reading(result: DiagnosticResult) -> Iterator[str]:
    """What the words of the tables mean, and why a number or an interval is missing."""
    frame = result.measurements
    yield (
        f"base: the student before training. Brackets: {100 * frame['level'].iloc[0]:g} % "
        "intervals over problems"
    )
    if len(result.tokens) > 1:
        yield "fresh: each model on its own rollouts; frozen: every model on the rollouts of base"
    yield (
        "at least: the exact reverse KL is not known and not below it; a difference of two bounds "
        "bounds nothing. Mass: each "
        "policy's probability of the ids behind the bound, 100 where nothing can be missed"
    )
    yield (
        "log-ratio taken: mean of log student - log teacher of the tokens that were written, exact"
    )
    for note, rows in frame.groupby("note", sort=False):
        reason = str(note).partition("; ")[2]
        if reason not in ("", RARE_PROBLEMS):
            missing = "n/a: " if rows["value"].isna().all() else ""
            yield (
                f"{missing}{reason} ({len(rows)} numbers of "
                f"{', '.join(rows['checkpoint'].unique())})"
            )
