"""``decaylab rollouts``: what a file of rollouts holds, as every command would read it. Loads
tokenizers and no weights."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from rich.table import Table

from decaylab.errors import UserError
from decaylab.options.measuring import FileOptions
from decaylab.pair.prepare import read_problems
from decaylab.policies import loading
from decaylab.policies.policy import Policy, Role, load_settings
from decaylab.policies.prompts import render
from decaylab.progress import Reporter
from decaylab.rollout_files import asked as rollouts_asked
from decaylab.rollout_files import summary
from decaylab.rollout_files.reading import Read
from decaylab.rollout_files.responses import Encoder

EXAMPLES = 200
"""Rollouts that are encoded, to see whether ids and texts agree."""


@dataclasses.dataclass(frozen=True)
class Understood:
    """What a file was taken for. prompts: an example as it stands in the file and as each policy
    reads it. notes: sentences."""

    read: Read
    prompts: dict[str, str]
    response: str
    notes: tuple[str, ...]


def understand(options: FileOptions, reporter: Reporter) -> Understood:
    """Reads the files whole and renders the first prompt.

    Raises:
        UserError: anything that would stop a measurement of these rollouts.
    """
    if not options.files:
        raise UserError("no file is named: decaylab rollouts FILE")
    chosen = dataclasses.replace(options, rollouts=",".join(options.files)).with_pair()
    chosen = dataclasses.replace(chosen, limit=chosen.limit or 50)
    student, teacher = (_tokenizer(chosen, role) for role in ("student", "teacher"))
    found, read = read_problems(chosen, student, reporter)
    assert read is not None
    encoder = Encoder(student)
    shown = read.rollouts[:EXAMPLES]
    responses = encoder.responses(shown)
    notes = [
        *rollouts_asked.notes(read),
        *rollouts_asked.thought_notes(chosen, read, student),
        *rollouts_asked.gold_notes(read),
        *encoder.notes(f"the first {len(shown)}"),
    ]
    problems, complete = found.problems, frozenset[str]()
    if chosen.problems != "rollouts":
        problems, complete = rollouts_asked.with_given(problems, read)
    first = next((one for one in problems if one.problem_id in read.prompts), None)
    prompts: dict[str, str] = {}
    if first is not None:
        rendered = render(chosen, student, teacher, [first], found.instruction, complete)
        rendered = rollouts_asked.student_reads(rendered, read, chosen, student, teacher)
        pair = {"student": student, "teacher": teacher}
        prompts = {
            role: str(pair[role].tokenizer.decode(list(ids[first.problem_id])))
            for role, ids in rendered.items()
        }
    return Understood(read, prompts, responses[0].text if responses else "", tuple(notes))


def _tokenizer(options: FileOptions, role: Role) -> Policy:
    return loading.load_tokenizer_only(str(getattr(options, role)), load_settings(options, role))


def print_understood(found: Understood) -> None:
    """The page: a line a fact, then an example of a prompt and its response."""
    from rich.text import Text

    from decaylab.tables.terminal import terminal

    console = terminal()
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for label, text in [("file", ", ".join(map(str, found.read.paths))), *summary.page(found.read)]:
        table.add_row("" if label == before else label, _plain(text))
        before = label
    for role, text in found.prompts.items():
        table.add_row(f"{role} reads", _plain(text))
    table.add_row("response", _plain(_short(found.response)))
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        console.print(Text.from_ansi(line.rstrip()), soft_wrap=True)
    for note in found.notes:
        console.print(f"- note: {note}", markup=False, soft_wrap=not console.is_terminal)


def record(found: Understood) -> str:
    """The same as JSON."""
    return json.dumps(
        {**summary.record(found.read), "example": found.prompts, "notes": list(found.notes)}
    )


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _short(text: str, most: int = 400) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."
