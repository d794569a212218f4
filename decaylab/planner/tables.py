"""What `decaylab plan` prints: memory phase by phase, what would help, tokens and hours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.markup import escape

from decaylab.options.planning import Devices
from decaylab.planner.phases import Phase
from decaylab.planner.plan import Plan
from decaylab.tables import terminal

GIB = 2**30
# What stands in one column: terms of a phase.
COLUMNS = {
    "weights": (
        "student weights",
        "teacher weights",
        "checkpoint weights",
        "engine weights",
        "float32 heads",
        "adapters",
    ),
    "cache": ("cache",),
    "activa-\ntions": ("activations",),
    "logits": ("logits",),
    "gradi-\nents": ("gradients",),
    "AdamW": ("optimizer",),
    "copies": ("merged copies", "gathered layers", "temporaries", "file"),
}
UNKNOWN = "hours: no rate is known; --probe measures some here, --tokens-per-second states them"
Rows = list[Sequence[str] | None]


def print_plan(plan: Plan) -> None:
    """The pair, the tables, the notes, and whether it fits."""
    console = terminal.terminal()
    wrap, narrow = not console.is_terminal, console.width < terminal.WIDTH
    options = plan.options
    console.print(
        f"\n[bold]Plan[/bold]: {escape(str(options.teacher))} and {escape(str(options.student))}; "
        f"{escape(str(options.problems))}, {plan.asked.problems} problems, prompts of at most "
        f"{max(plan.asked.prompts)} "
        f"tokens, budget {options.max_tokens} tokens; {plan.devices.words}",
        soft_wrap=wrap,
    )
    for line in _models(plan):
        console.print(f"- {line}", markup=False, soft_wrap=wrap)
    console.print(_memory(plan, narrow))
    if plan.remedies:
        console.print(_remedies(plan, narrow))
    console.print(_time(plan, narrow))
    rates = f"hours: {plan.rates.source}" if plan.rates else UNKNOWN
    for line in (rates, *(f"note: {note}" for note in plan.notes)):
        console.print(f"- {line}", markup=False, soft_wrap=wrap)
    console.print(f"\n[bold]{escape(verdict(plan))}[/bold]", soft_wrap=wrap)


def verdict(plan: Plan) -> str:
    """Whether it fits, with the phase that takes most."""
    most = max(plan.phases, key=lambda one: one.load)
    sizes = f"{gib(most.load)} of {gib(plan.devices.memory)} GiB ({most.command}, {most.name})"
    failing = sum(not one.fits(plan.devices) for one in plan.phases)
    if not failing:
        return f"It fits: at most {sizes}."
    return (
        f"It does not fit: {failing} of {len(plan.phases)} phases have too little; the largest "
        f"takes {sizes}."
    )


def gib(size: float) -> str:
    return f"{size / GIB:.2f}" if size < 10 * GIB else f"{size / GIB:.1f}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _models(plan: Plan) -> Iterator[str]:
    for role, one in plan.pair.items():
        dtype = str(one.dtype).removeprefix("torch.")
        yield (
            f"{role}: {one.parameters:,} parameters, {dtype}; cache {one.cache_per_token:,} "
            "bytes a token"
        )


def _memory(plan: Plan, narrow: bool) -> Group:
    shown = {
        column: names
        for column, names in COLUMNS.items()
        if any(one.terms.get(name) for one in plan.phases for name in names)
    }
    columns = ["phase", *shown, "beside", "in all", "fits"]
    rows: Rows = []
    for command in plan.options.only:
        rows.append([command, *[""] * (len(columns) - 1)])
        rows += [
            _phase_row(one, shown, plan.devices) for one in plan.phases if one.command == command
        ]
        rows.append(None)
    of = "one GPU" if plan.devices.kind == "cuda" else "all processes together"
    title = f"Memory of {of} at its fullest, GiB, against {gib(plan.devices.memory)}"
    return terminal.titled(title, terminal.grid(columns, rows, narrow, left=("phase", "fits")))


def _phase_row(one: Phase, shown: dict[str, tuple[str, ...]], devices: Devices) -> list[str]:
    sizes = [one.copies * sum(one.terms.get(name, 0) for name in names) for names in shown.values()]
    beside = one.load - one.copies * sum(one.terms.values())  # the allowance, and what stands by
    known = [gib(size) if size else "" for size in sizes]
    return [
        f"  {one.name}",
        *known,
        gib(beside),
        gib(one.load),
        "yes" if one.fits(devices) else "no",
    ]


def _remedies(plan: Plan, narrow: bool) -> Group:
    rows: Rows = []
    before = ""
    for one in plan.remedies:
        place = f"{one.command}: {one.phase}"
        if before and place != before:
            rows.append(None)
        rows.append(
            [place if place != before else "", one.flag, gib(one.load), "yes" if one.fits else "no"]
        )
        before = place
    columns = ["does not fit", "what would help", "leaves", "fits"]
    grid = terminal.grid(columns, rows, narrow, left=("does not fit", "what would help", "fits"))
    return terminal.titled("What would help, and the GiB that the phase takes then", grid)


def _time(plan: Plan, narrow: bool) -> Group:
    rows: Rows = []
    for command in plan.options.only:
        own = [one for one in plan.phases if one.command == command and one.work.tokens]
        times = [plan.seconds(one) for one in own]
        known = [one for one in times if one is not None]
        whole = duration(sum(known)) if known else ""
        whole += "" if len(known) == len(own) else " + unknown" if known else "unknown"
        rows.append([command, f"{sum(one.work.tokens for one in own):,}", whole])
        rows += [
            [f"  {one.name}", f"{one.work.tokens:,}", duration(time)]
            for one, time in zip(own, times, strict=True)
        ]
        rows.append(None)
    mean = plan.options.mean_tokens
    length = f"at {mean:,} a response" if mean else "at most: every response has its whole budget"
    title = f"Tokens written and read, {length}; prompts count where they are read"
    return terminal.titled(
        title, terminal.grid(["phase", "tokens", "time"], rows, narrow, left=("phase",))
    )
