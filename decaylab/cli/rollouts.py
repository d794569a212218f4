"""``decaylab rollouts``: what files of rollouts hold, as a page or as JSON."""

from __future__ import annotations

import json

from rich.table import Table
from rich.text import Text

from decaylab.commands.reading import Understood
from decaylab.rollout_files import summary

SHOWN = 400  # characters of a response


def print_understood(understood: Understood) -> None:
    """The page: a line per fact, then an example of a prompt and its response."""
    from decaylab.tables.terminal import terminal

    console = terminal()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    response = understood.response
    if len(response) > SHOWN:
        response = f"{response[:SHOWN]} ..."
    facts = [
        ("file", ", ".join(map(str, understood.read.paths))),
        *summary.page(understood.read),
        *((f"{role} reads", text) for role, text in understood.prompts.items()),
        ("response", response),
    ]
    before = ""
    for label, text in facts:
        table.add_row("" if label == before else label, Text(text))
        before = label
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        console.print(Text.from_ansi(line.rstrip()), soft_wrap=True)
    for note in understood.notes:
        console.print(f"- note: {note}", markup=False, soft_wrap=not console.is_terminal)


def record(understood: Understood) -> str:
    """The same as JSON."""
    facts = summary.record(understood.read)
    return json.dumps({**facts, "example": understood.prompts, "notes": list(understood.notes)})
