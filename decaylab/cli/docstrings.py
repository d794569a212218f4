"""The docstring of a command, read as its --help: a summary, paragraphs, examples.

    Examples:
        decaylab train  # the embedded student by ESR
        decaylab train --teacher Qwen/Qwen3-1.7B
            --problems numina.jsonl

The summary is the first paragraph. --help shows the first example, --help-all and the reference
show all of them.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """A command as typed, and what it does (may be empty)."""

    command: str
    what: str = ""

    def lines(self, width: int) -> list[str]:
        """The example as it may be pasted into a shell, with lines of at most ``width``
        characters."""
        # An option stays beside its value.
        command = re.sub(r"( --\S+) (?!-)", "\\1\xa0", self.command)
        lines = [line.replace("\xa0", " ") for line in wrap(command, width - 2, rest="    ")]
        typed = [f"{line} \\" for line in lines[:-1]] + lines[-1:]
        return [*wrap(self.what, width, first="# ", rest="# "), *typed]


@dataclass(frozen=True)
class Docstring:
    """A command's docstring. paragraphs: without the summary; `code` stands in backticks."""

    summary: str
    paragraphs: tuple[str, ...]
    examples: tuple[Example, ...]


def read(docstring: str | None) -> Docstring:
    """Parts of a docstring."""
    text, _, examples = inspect.cleandoc(docstring or "").partition("\nExamples:\n")
    summary, *paragraphs = [" ".join(one.split()) for one in text.strip().split("\n\n")]
    return Docstring(summary, tuple(paragraphs), tuple(_examples(textwrap.dedent(examples))))


def _examples(text: str) -> list[Example]:
    """A line is an example; an indented line continues the one before."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith(" "):
            lines[-1] += f" {line.strip()}"
        elif line:
            lines.append(line.rstrip())
    parts = [line.partition(" # ") for line in lines]
    return [Example(command.rstrip(), what) for command, _, what in parts]


def wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Lines of at most ``width`` characters, broken at spaces only. first, rest: indents."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
