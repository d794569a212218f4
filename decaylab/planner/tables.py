"""Prints `decaylab plan`: memory by phase, options that would help, tokens and hours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group
from rich.markup import escape

from decaylab.planner.phases import Phase
from decaylab.planner.plan import Plan, notes, precision
from decaylab.printing import gib, seconds
from decaylab.tables import terminal

COLUMNS = {
    "weights": (
        *("student weights", "teacher weights", "checkpoint weights", "engine weights"),
        *("float32 heads", "adapters"),
    ),
    "cache": ("cache",),
    "acts": ("activations",),
    "logits": ("logits",),
    "grads": ("gradients",),
    "AdamW": ("optimizer",),
    "copies": ("merged copies", "gathered layers", "temporaries"),
}
"""The terms of a phase that each column adds up. The headings are short: beside the longest phase,
numbers of five characters fit 80 columns."""
UNKNOWN = "unknown"
FIT = "fit"
FITS = {True: "yes", False: "no"}
NO_RATE = "hours: unknown; measure rates with --probe, or set --tokens-per-second"
Rows = list[Sequence[str] | None]


def print_plan(plan: Plan, *, verbose: bool = False) -> None:
    """Prints whether it fits, what would help if not, and how long it takes; the memory of each
    phase.

    verbose: also the models, the tokens and hours of each phase.
    """
    console = terminal.terminal()
    wrap, narrow = not console.is_terminal, console.width < terminal.WIDTH
    options = plan.options
    console.print("\n[bold]Plan[/bold]")
    for line in (verdict(plan), *_help(plan), _duration(plan)):
        console.print(escape(line), soft_wrap=wrap)
    console.print(_memory(plan, narrow))
    if plan.remedies:
        console.print(_remedies(plan, narrow))
    if verbose:
        console.print(_time(plan, narrow))
    console.print(
        f"\n{escape(str(options.teacher))} and {escape(str(options.student))}; "
        f"{escape(str(options.problems))}, {plan.asked.problems} problems, prompts of at most "
        f"{max(plan.asked.prompts)} tokens, budget {options.max_tokens} tokens; "
        f"{plan.devices.words}",
        soft_wrap=wrap,
    )
    lines = [f"note: {note}" for note in notes(plan)]
    if verbose:
        rates = f"hours: {plan.rates.source}" if plan.rates else NO_RATE
        lines = [*_models(plan), rates, *lines]
    for line in lines:
        console.print(f"- {line}", markup=False, soft_wrap=wrap)
    if not verbose:
        console.print("\nmore: the same with --verbose (tokens and time of each phase)")


def _models(plan: Plan) -> Iterator[str]:
    for role, model in plan.pair.items():
        yield (
            f"{role}: {model.parameters:,} parameters, {precision(model)}; cache "
            f"{model.cache_per_token:,} bytes per token"
        )


def _help(plan: Plan) -> Iterator[str]:
    """The first remedy with which its phase fits."""
    for remedy in plan.remedies:
        if remedy.fits:
            yield (
                f"{remedy.flag} would do for {remedy.command}, {remedy.phase}: "
                f"{gib(remedy.load)} GiB."
            )
            return


def _duration(plan: Plan) -> str:
    """How long each command takes, as far as rates are known."""
    if not plan.rates:
        return f"{NO_RATE[0].upper()}{NO_RATE[1:]}."
    commands = [f"{command} {' + '.join(_times(plan, command))}" for command in plan.options.only]
    return f"Time: {', '.join(commands)}."


def _times(plan: Plan, command: str) -> list[str]:
    """The known time of a command, and whether some of it is unknown."""
    times = [plan.seconds(phase) for phase in _of_command(plan, command) if phase.tokens]
    known = sum(time for time in times if time is not None)
    return [seconds(known)] * bool(known) + [UNKNOWN] * (None in times)


def verdict(plan: Plan) -> str:
    """Whether the plan fits, and its largest phase."""
    most = plan.fullest
    sizes = f"{gib(most.load)} of {gib(plan.devices.memory)} GiB ({most.command}, {most.name})"
    failing = sum(not phase.fits for phase in plan.phases)
    if not failing:
        return f"It fits: at most {sizes}."
    return (
        f"It does not fit: {failing} of {len(plan.phases)} phases need more memory; the largest "
        f"takes {sizes}."
    )


def _of_command(plan: Plan, command: str) -> list[Phase]:
    return [phase for phase in plan.phases if phase.command == command]


def _memory(plan: Plan, narrow: bool) -> Group:
    present = {name for phase in plan.phases for name in phase.terms}
    shown = {column: names for column, names in COLUMNS.items() if present & set(names)}
    columns = ["phase", *shown, "other", "total", FIT]
    rows: Rows = []
    for command in plan.options.only:
        rows.append([command, *[""] * (len(columns) - 1)])
        for phase in _of_command(plan, command):
            rows.append(_memory_row(phase, shown.values()))
        rows.append(None)
    of = "one GPU" if plan.devices.kind == "cuda" else "all processes together"
    title = f"Peak memory of {of}, GiB, against {gib(plan.devices.memory)} (acts: activations)"
    return terminal.titled(title, terminal.grid(columns, rows, narrow, left=("phase", FIT)))


def _memory_row(phase: Phase, columns: Iterable[Sequence[str]]) -> list[str]:
    cells = [f" {phase.name}"]
    # Besides the terms: the allowance, and the parent process's memory.
    beside = phase.load
    for names in columns:
        size = phase.copies * sum(phase.terms.get(name, 0) for name in names)
        beside -= size
        cells.append(gib(size) if size else "")
    return [*cells, gib(beside), gib(phase.load), FITS[phase.fits]]


def _remedies(plan: Plan, narrow: bool) -> Group:
    rows: Rows = []
    before = ""
    for remedy in plan.remedies:
        place = f"{remedy.command}: {remedy.phase}"
        if before not in ("", place):
            rows.append(None)
        shown = "" if place == before else place
        rows.append([shown, remedy.flag, gib(remedy.load), FITS[remedy.fits]])
        before = place
    columns = ["does not fit", "what would help", "peak", "fits"]
    grid = terminal.grid(columns, rows, narrow, left=("does not fit", "what would help", "fits"))
    return terminal.titled("What would help, and the peak memory of the phase then, GiB", grid)


def _time(plan: Plan, narrow: bool) -> Group:
    rows: Rows = []
    for command in plan.options.only:
        tokens, works = 0, list[list[str]]()
        for phase in _of_command(plan, command):
            if not phase.tokens:
                continue
            time = plan.seconds(phase)
            tokens += phase.tokens
            shown = UNKNOWN if time is None else seconds(time)
            works.append([f"  {phase.name}", f"{phase.tokens:,}", shown])
        rows += [[command, f"{tokens:,}", " + ".join(_times(plan, command))], *works, None]
    mean = plan.options.mean_tokens
    length = "at most: every response has its whole budget"
    if mean:
        length = f"at {mean:,} per response"
    title = (
        f"Tokens generated, scored and trained on, {length}; scoring and training include prompts"
    )
    grid = terminal.grid(["phase", "tokens", "time"], rows, narrow, left=("phase",))
    return terminal.titled(title, grid)
