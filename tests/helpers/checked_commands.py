"""Checks a command of the documents without running it: by the real command line's own parser and
options, by accelerate's, and by what is in the repository."""

from __future__ import annotations

import contextlib
import functools
import io
import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from checked_python import OPTIONAL
from document_blocks import ROOT, Stale

from decaylab.cli import main, pages, registering
from decaylab.errors import UserError
from decaylab.options.command_options import COMMANDS
from decaylab.pages import gallery

PLACEHOLDER = "..."  # further options of the reader's own, at the end of a command
ANY_COMMAND = "COMMAND"
SHELL = ("cd", "export", "git", "apt-get")
OF_THE_READER = (
    *("mine.jsonl", "theirs.jsonl", "numina.jsonl", "train.jsonl", "gsm8k_test.jsonl"),
    "verdicts.jsonl",
    "prefixes.csv",
    *("completions_00042.parquet", "test.parquet", "report.html", "look.html", "mine.toml"),
)
"""Files that a reader has, or that a command writes."""
SUFFIXES = re.compile(r"[\w./-]+\.(jsonl?|csv|parquet|toml|ya?ml|py|sh|ipynb|html|eval|txt|md)")
FOLDERS = ("benchmarks", "data", "decaylab", "docs", "notebooks", "scripts", "tests")


def check(command: str, folder: Path) -> None:
    """Parses one command as the program that it names would. folder: where its files may be.

    Raises:
        Stale: an unknown program, command, option, choice, target, package or file.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise Stale(f"{command}: {error}") from error
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if not words:
        return
    if words[-1] == PLACEHOLDER:
        words.pop()
    program, *rest = Path(words[0]).name, *words[1:]
    check_files(words, folder)
    if program == "decaylab":
        check_decaylab(rest, folder)
    elif program == "make":
        _check_make(rest)
    elif program == "accelerate":
        _check_accelerate(rest, folder)
    elif program == "pip":
        _check_pip(rest)
    elif program in ("python", "python3"):
        _check_python(rest, folder)
    elif program not in SHELL and not words[0].startswith("scripts/"):
        raise Stale(f"{command}: no check for the program {program}")


@functools.cache
def _group() -> Any:
    """decaylab's command line."""
    return typer.main.get_command(main.app)


def check_decaylab(words: list[str], folder: Path) -> None:
    """Parses words as decaylab's command line, and makes the options of the run from them."""
    if words and words[0] in (PLACEHOLDER, ANY_COMMAND):
        return
    group = _group()
    if not words or words[0].startswith("-"):
        known = {name for one in group.params for name in one.opts} | {"--help"}
        unknown = [word for word in words if word not in known]
        if unknown:
            raise Stale(f"decaylab has no option {unknown[0]}")
        return
    name, *arguments = words
    command = group.commands.get(name)
    if command is None:
        raise Stale(f"decaylab has no command {name}")
    if any(word in ("--help", "--help-all") for word in arguments):
        return
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
            values = command.make_context(name, arguments).params
            if name in COMMANDS:
                options = registering._options(COMMANDS[name].kind, values | {"said": frozenset()})
                if name == "sweep" and options.values:
                    options.arms()
            elif name == "figures":
                _check_figures(values)
    except UserError as error:
        raise Stale(f"decaylab {' '.join(words)}: {error}") from error
    except Exception as error:
        if not hasattr(error, "format_message"):  # a usage error, which typer carries inside itself
            raise
        raise Stale(f"decaylab {' '.join(words)}: {error.format_message()}") from error


def _check_figures(values: dict[str, Any]) -> None:
    """The choices that the command itself checks, after it has read the runs."""
    pages._chosen(values["only"])
    if values["width"] not in (*gallery.WIDTHS, "both"):
        raise UserError(f"--width {values['width']}")
    if not set(values["kinds"].split(",")) <= set(gallery.KINDS):
        raise UserError(f"--kinds {values['kinds']}")


def check_files(words: list[str], folder: Path) -> None:
    """Files of the repository that are named must be there; others must be a reader's own."""
    for word in re.split("[,= ]", " ".join(words)):
        top = word.removeprefix("./").split("/")[0]
        inside = "/" in word and top in FOLDERS
        if not inside and not SUFFIXES.fullmatch(word):
            continue
        found = (ROOT / word).exists() or (ROOT / "docs" / word).exists()
        if found or (folder / word).exists() or not inside and Path(word).name in OF_THE_READER:
            continue
        raise Stale(f"no file {word}")


def _check_make(words: list[str]) -> None:
    text = (ROOT / "Makefile").read_text()
    for word in words:
        name, equals, _ = word.partition("=")
        if not re.search(rf"^{name} :?\??= " if equals else rf"^{name}:", text, re.MULTILINE):
            raise Stale(f"make {word}: the Makefile has no {name}")


def _check_accelerate(words: list[str], folder: Path) -> None:
    from accelerate.commands.launch import launch_command_parser

    subcommand, *rest = words
    if subcommand != "launch" or "decaylab" not in rest:
        raise Stale(f"accelerate {' '.join(words)}: expected launch ... -m decaylab ...")
    cut = rest.index("decaylab")
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            launch_command_parser().parse_args(rest[: cut + 1])
        except SystemExit as error:
            raise Stale(f"accelerate {' '.join(words)}: {said.getvalue()[-300:]}") from error
    check_decaylab([word for word in rest[cut + 1 :] if word != PLACEHOLDER], folder)


def _check_pip(words: list[str]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words:
        named = re.fullmatch(r"(?:decaylab|\.)\[(.+)\]", word)
        for extra in named.group(1).split(",") if named else ():
            if extra not in extras["optional-dependencies"]:
                raise Stale(f"pip: decaylab has no extra {extra}")


def _check_python(words: list[str], folder: Path) -> None:
    if words[0] == "-m":
        module, *rest = words[1:]
        if module == "decaylab":
            check_decaylab(rest, folder)
        elif module.split(".")[0] not in OPTIONAL and find_spec(module) is None:
            raise Stale(f"python -m {module}: no such module")
        return
    if words[0] == "-c":
        compile(words[1], "-c", "exec")
        return
    source = (ROOT / words[0]).read_text()
    for word in words[1:]:
        if word.startswith("--") and f'"{word.split("=")[0]}"' not in source:
            raise Stale(f"python {' '.join(words)}: no option {word}")


@functools.cache
def options_everywhere() -> set[str]:
    """Every option of every command of decaylab, and of decaylab itself."""
    group = _group()
    every = [group, *group.commands.values()]
    return {
        name
        for command in every
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help"}
