"""--help, which lists what most people set, and --help-all, which lists every option.

Typer reads the command line; the page is laid out here, so that no name, choice or default is cut
at any width, and without importing what typer needs for its own page.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from decaylab.cli import docstrings
from decaylab.cli.docstrings import Example, wrap
from decaylab.cli.mistakes import unknown_command, unknown_option
from decaylab.cli.rows import ARGUMENTS, GROUPS, HELP, OPTIONS, Row, rows, usage
from decaylab.options.declared import PANELS

WIDEST = 100  # characters of a line
NARROW = 72  # in a terminal with fewer characters, help stands below its option
WIDEST_NAME = 32  # help stands below an option that is longer, with its value
SHARED = "Shared with other commands"
FLAG = r"(?<![\w-])--[a-z][\w-]*"


class Command(TyperCommand):
    """A command whose help is laid out here."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        print_help(self, everything=False)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with unknown_option(self, args):
            return super().parse_args(ctx, args)


class Group(TyperGroup):
    """decaylab itself: its help lists the commands in the order of use."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        print_commands(self, ctx)

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(self.commands, key=[*chain(*GROUPS.values())].index)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if len(args) == 2 and args[0] in self.commands and args[1] in HELP:
            # Here, since typer loads pydantic to parse anything: 0.1 s more.
            print_help(self.commands[args[0]], everything=args[1] == "--help-all")
            raise typer.Exit
        with unknown_option(self, args):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            unknown_command(args[0], self.commands)
        return super().resolve_command(ctx, args)


def _help_all(context: typer.Context, asked: bool) -> None:
    if asked and not context.resilient_parsing:
        print_help(context.command, everything=True)
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        help="Show every option and exit.",
        callback=_help_all,
        is_eager=True,
    ),
]


def print_help(command: Any, everything: bool) -> None:
    """The help of one command. everything: all options, by panel, and all examples."""
    console, width = _console()
    doc = docstrings.read(command.help)
    known = rows(command)
    _print_usage(console, usage(command))
    for paragraph in (doc.summary, *doc.paragraphs):
        _print(console, wrap(_plain(paragraph), width))
    examples = doc.examples if everything else doc.examples[:1]
    _print_examples(console, "Examples" if len(examples) > 1 else "Example", examples, width)
    if everything:
        titles = (ARGUMENTS, OPTIONS, *PANELS)
        panels = {title: [row for row in known if row.panel == title] for title in titles}
    else:
        panels = {
            OPTIONS: [row for row in known if row.common and row.own],
            SHARED: [row for row in known if row.common and not row.own],
        }
    _print_panels(console, panels, width)
    more = [row for row in known if not row.common and row.name not in HELP]
    if not everything:
        _print_more(console, command.name, len(more), len(doc.examples) - len(examples))


def print_commands(group: Group, context: Any) -> None:
    """The help of decaylab itself: what to run first, and the commands in the order of use."""
    console, width = _console()
    doc = docstrings.read(group.help)
    _print_usage(console, "COMMAND [OPTIONS]")
    for paragraph in (doc.summary, *doc.paragraphs):
        _print(console, wrap(_plain(paragraph), width))
    _print_examples(console, "Run first", doc.examples, width)
    panels: dict[str, list[Row]] = {}
    for name in group.list_commands(context):
        command: Any = group.commands[name]
        row = Row(name, docstrings.read(command.help).summary, panel=command.rich_help_panel)
        panels.setdefault(row.panel, []).append(row)
    _print_panels(console, panels, width)
    _print_panels(console, {OPTIONS: rows(group)}, width)
    _print(console, ["decaylab COMMAND --help shows what most people set, --help-all the rest."])


def _console() -> tuple[Console, int]:
    """A console, and the width of the text on it."""
    console = Console(highlight=False)
    return console, min(console.width, WIDEST) - 2


def _print_usage(console: Console, words: str) -> None:
    console.print()
    _print(console, [f"Usage: decaylab {words}"])


def _print(console: Console, lines: Sequence[str]) -> None:
    """Lines with a margin of one space, and an empty line."""
    for line in (*lines, ""):
        console.print(_coloured(f" {line}".rstrip()), soft_wrap=True)


def _print_examples(console: Console, title: str, examples: Sequence[Example], width: int) -> None:
    if examples:
        lines = [line for example in examples for line in example.lines(width - 2)]
        _print(console, [title, *(f"  {line}" for line in lines)])


def _print_panels(console: Console, panels: dict[str, list[Row]], width: int) -> None:
    inner = width - 2  # between the borders, with a space on each side
    heads = [len(row.head) for some in panels.values() for row in some]
    column = max((head for head in heads if head <= WIDEST_NAME), default=0) + 2
    for title, some in panels.items():
        if some:
            text = Text("\n").join(line for row in some for line in _lines(row, inner, column))
            panel = Panel(
                text, title=title, title_align="left", border_style="dim", width=width + 2
            )
            console.print(panel)


def _lines(row: Row, width: int, column: int) -> list[Text]:
    """An option in a panel, with its help beside it, or below where there is no room."""
    default = f"[default: {row.default}]".replace(" ", "\xa0") if row.default else ""
    beside = width >= NARROW - 4 and len(row.head) < column
    indent = column if width >= NARROW - 4 else 4
    help = wrap(f"{_plain(row.help)} {default}".strip(), width - indent)
    head = Text.assemble((row.name, "bold cyan"), " ", (row.value, "yellow"))
    head.rstrip()
    lines = [_coloured(" " * indent + line.replace("\xa0", " ")) for line in help]
    if beside:
        head.pad_right(column - len(head))
        return [head + lines[0][column:], *lines[1:]]
    return [head, *lines]


def _plain(text: str) -> str:
    return text.replace("`", "")


def _coloured(text: str) -> Text:
    """Flags stand out, defaults step back."""
    line = Text(text)
    line.highlight_regex(r"^ (Usage:|Run first$|Examples?$)", "bold")
    line.highlight_regex(FLAG, "bold cyan")
    line.highlight_regex(r"\[default: .*\]", "dim")
    line.highlight_regex(r"^ *# .*", "dim")
    return line


def _print_more(console: Console, command: str, options: int, examples: int) -> None:
    """The last line of --help: what --help-all shows beside this."""
    counts = {"option": options, "example": examples}
    words = [f"{count} more {name}{'s' * (count > 1)}" for name, count in counts.items() if count]
    if words:
        _print(console, [f"{' and '.join(words)}: decaylab {command} --help-all"])
