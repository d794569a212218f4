"""The reference of the command line: a Markdown page per command, from the declared options.

    python scripts/cli_reference.py docs/reference/cli

`pages` gives the same pages by name, for the build of the site.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

import decaylab.cli.main  # noqa: F401 - registers the commands
from decaylab.cli import docstrings
from decaylab.cli.help import FLAG
from decaylab.cli.registering import app
from decaylab.cli.rows import ARGUMENTS, GROUPS, OPTIONS, Row, rows, usage
from decaylab.options.command_options import COMMANDS
from decaylab.options.declared import PANELS

WIDTH = 88  # characters of a line of an example
MARK = "●"
GUIDES = Path(__file__).parents[1] / "docs"
BOLD = "Options in bold are those that `--help` lists; `--help-all` lists all."
IDENTITY = (
    f"An option marked {MARK} identifies the run: another value makes another run. All others may "
    "change when a run is resumed."
)
VALUES = """`N` is a whole number, `NUMBER` any number, `N,N,...` a comma-separated list.
An option without a value is a switch. Any option can be set in a TOML file (`--config`), under its
name without the dashes; one file can serve every command."""


def pages() -> dict[str, str]:
    """The pages by their path below ``docs/reference/cli/``: an index, and one per command."""
    group: Any = typer.main.get_command(app)
    written = {f"{name}.md": _page(command) for name, command in group.commands.items()}
    return {"index.md": _index(group), **written}


def _index(group: Any) -> str:
    lines = ["# Commands", "", docstrings.read(group.help).summary, ""]
    for title, names in GROUPS.items():
        lines += [f"## {title}", "", "| command | |", "|---|---|"]
        for name in names:
            summary = docstrings.read(group.commands[name].help).summary
            lines.append(f"| [{name}]({name}.md) | {_text(summary)} |")
        lines.append("")
    return "\n".join([*lines, "## Options", "", VALUES, "", f"{BOLD} {IDENTITY}", ""])


def _page(command: Any) -> str:
    doc = docstrings.read(command.help)
    known = rows(command)
    lines = [f"# {command.name}", "", _text(doc.summary), ""]
    for paragraph in doc.paragraphs:
        lines += [_text(paragraph), ""]
    if (GUIDES / f"{command.name}.md").exists():
        guide = f"[guide to {command.name}](../../{command.name}.md)"
        lines += [f"How to read its results, and what it costs: {guide}.", ""]
    examples = [line for example in doc.examples for line in example.lines(WIDTH)]
    lines += ["## Examples", "", "```bash", *examples, "```", "", "## Options", ""]
    lines += ["```text", f"decaylab {usage(command)}", "```", ""]
    makes_runs = command.name in COMMANDS and bool(COMMANDS[command.name].runs)
    if command.name in COMMANDS:
        lines += [f"{BOLD} {IDENTITY}" if makes_runs else BOLD, ""]
    for panel in (ARGUMENTS, OPTIONS, *PANELS):
        some = [row for row in known if row.panel == panel]
        if some:
            lines += [f"### {panel}", "", *_table(command.name, some, makes_runs), ""]
    return "\n".join(lines)


def _table(command: str, some: Sequence[Row], makes_runs: bool) -> Iterator[str]:
    """A table of options. makes_runs: with a column that marks those that identify the run."""
    titles = ["option", "value", "default", "meaning", *(["identity"] if makes_runs else [])]
    yield f"| {' | '.join(titles)} |"
    yield "|---" * len(titles) + "|"
    for row in some:
        name = _value(row.name, " or ")
        if row.common and command in COMMANDS:
            name = f"**{name}**"
        help, default = _default(row)
        cells = [name, _value(row.value), default, help]
        if makes_runs:
            cells.append(MARK if row.identifies else "")
        yield f"| {' | '.join(cells)} |"


def _value(value: str, between: str = ", ") -> str:
    """The choices of an option, or the word for its value."""
    return between.join(f"`{choice}`" for choice in value.split("|") if choice)


def _default(row: Row) -> tuple[str, str]:
    """Help and default. A default that the help gives in its last sentence is moved."""
    if row.default:
        return _text(row.help), f"`{row.default}`"
    help, _, default = row.help.partition(" Default: ")
    if not default or ". " in default:
        return _text(row.help), ""
    return _text(help), _text(default.removesuffix("."))


def _text(text: str) -> str:
    """Prose with its flags as code."""
    parts = text.split("`")  # every other one is code already
    parts[::2] = [re.sub(FLAG, r"`\g<0>`", part) for part in parts[::2]]
    return "`".join(parts).replace("|", "&#124;")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, page in pages().items():
        (folder / name).write_text(page, encoding="utf-8")
