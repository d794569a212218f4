"""--help and --help-all at the width of a reader's terminal, and what a misspelt word answers."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import shlex
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import typer
from command_line import decaylab

from decaylab.cli import docstrings, help, main, rows
from decaylab.cli.parameters import spoken
from decaylab.errors import did_you_mean
from decaylab.options import option_values
from decaylab.options.command_options import COMMANDS

MOST = 15
GROUP: Any = typer.main.get_command(main.app)
ALL: dict[str, Any] = GROUP.commands
SCRIPT = Path(__file__).parents[2] / "scripts" / "cli_reference.py"
HEAD = re.compile(r"^│ (--[\w-]+|[A-Z]+|rollout-length\|selector)", re.MULTILINE)


@pytest.fixture(scope="module")
def reference() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("cli_reference", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def printed(command: Any, width: int, monkeypatch: pytest.MonkeyPatch, everything: bool) -> str:
    """The help of a command in a terminal of this width."""
    monkeypatch.setenv("COLUMNS", str(width))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        help.print_help(command, everything)
    return out.getvalue()


def heads(command: Any) -> list[str]:
    """The first name of every argument and option."""
    return [row.name.split(" /")[0] for row in rows.rows(command)]


def words_of(page: str) -> list[str]:
    return page.replace("│", " ").split()


# Two depths


@pytest.mark.parametrize("name", ALL)
def test_help_lists_at_most_15_options_and_help_all_lists_every_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = printed(ALL[name], 80, monkeypatch, everything=False)
    full = printed(ALL[name], 80, monkeypatch, everything=True)
    assert 3 <= len(HEAD.findall(short)) <= MOST
    assert Counter(HEAD.findall(full)) == Counter(heads(ALL[name]))
    assert set(HEAD.findall(short)) < set(heads(ALL[name]))
    hidden = len(HEAD.findall(full)) - len(HEAD.findall(short)) - len(rows.HELP)
    if hidden:
        last = short.rstrip().splitlines()[-1]
        assert last.startswith(f" {hidden} more option{'s' * (hidden > 1)}")
        assert last.endswith(f": decaylab {name} --help-all")
    assert "--help-all" not in full.splitlines()[-1]


def test_the_options_of_a_command_itself_come_before_those_that_it_shares(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = printed(ALL["position-kl"], 80, monkeypatch, everything=False)
    own, shared = page.split(f"─ {help.SHARED} ")
    assert HEAD.findall(own) == ["CHECKPOINT", "--bins", "--rollout-length"]
    assert HEAD.findall(shared)[:3] == ["--teacher", "--student", "--problems"]
    assert "--bins" not in printed(ALL["signals"], 80, monkeypatch, everything=False)


@pytest.mark.parametrize("width", [60, 80, 300])
@pytest.mark.parametrize("name", ALL)
def test_no_word_is_cut_and_no_line_is_too_long_at_any_width(
    name: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = printed(ALL[name], width, monkeypatch, everything=True)
    assert max(map(len, page.splitlines())) <= min(width, 100)
    assert "<" not in page, "a type in typer's words"
    shown = Counter(words_of(page))
    doc = docstrings.read(ALL[name].help)
    told = [doc.summary, *doc.paragraphs, *(example.command for example in doc.examples)]
    for row in rows.rows(ALL[name]):
        told += [row.head, row.help]
        if row.default:
            told.append(f"[default: {row.default}]")
    assert not Counter(" ".join(told).replace("`", "").split()) - shown
    for example in doc.examples:  # may be pasted
        typed = "\n".join(example.lines(width - 4)).replace(" \\\n", " ").splitlines()[-1]
        assert shlex.split(typed) == shlex.split(example.command)


@pytest.mark.parametrize("name", COMMANDS)
def test_choices_and_defaults_are_shown_and_a_switch_has_no_value(name: str) -> None:
    by_name = {row.name: row for row in rows.rows(ALL[name])}
    for field, one in spoken(name).items():
        if one.spec.argument:
            continue
        flag = {"columns": "--column", "as_json": "--json"}.get(field, option_values.flag(field))
        row = next(row for title, row in by_name.items() if title.split(" /")[0] == flag)
        own = option_values.bare(one.kind)[0]
        assert bool(row.value) == (own is not bool), flag
        for choice in option_values.choices_of(one.kind):
            assert choice in [*row.value.split("|"), *re.split(r"[\s,.:]+", row.help)], flag
        if own in (int, float) and one.field.default is not None:
            assert float(row.default) == one.field.default
    assert by_name["--config"].value == "FILE"


def test_each_command_shows_one_example_and_all_examples_are_valid_commands() -> None:
    for name, command in ALL.items():
        doc = docstrings.read(command.help)
        assert doc.examples, name
        for example in doc.examples:
            words = shlex.split(example.command)
            words = words[words.index("decaylab") + 1 :]
            assert words[0] == name
            command.make_context(name, words[1:])  # complains about what it does not know
        assert decaylab(name, "--help").out.count(f"  decaylab {name}") == 1, name


def test_a_docstring_is_read_as_summary_paragraphs_and_examples() -> None:
    doc = docstrings.read("""What it
    does.

    How.

    Examples:
        decaylab a --b 3  # the
            usual way
        decaylab a
            --c 4
    """)
    assert doc.summary == "What it does." and doc.paragraphs == ("How.",)
    assert [(one.command, one.what) for one in doc.examples] == [
        ("decaylab a --b 3", "the usual way"),
        ("decaylab a --c 4", ""),
    ]
    assert doc.examples[0].lines(16) == ["# the usual way", "decaylab a \\", "    --b 3"]


# All commands


def test_commands_stand_in_the_order_of_use_in_one_line_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = decaylab("--help").out
    places = []
    for title, names in rows.GROUPS.items():
        places.append(page.index(f"─ {title} ─"))
        for name in names:
            line = f"│ {name:<15}{docstrings.read(ALL[name].help).summary}"
            assert f"{line:<79}│\n" in page, name
            places.append(page.index(line))
    assert places == sorted(places) and len(places) == len(ALL) + len(rows.GROUPS)
    assert page.index("decaylab prefix-decay") < places[0], "what to run first"
    assert decaylab().out == page and decaylab().code == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("posit-kl", "no such command posit-kl; did you mean position-kl?"),
        ("eval", "no such command eval; did you mean evaluate?"),
        ("zzz", "no such command zzz; decaylab --help lists the commands"),
        ("--hlep", "no such option --hlep; did you mean --help?"),
        (
            "position-kl --rollout-lenght 5",
            "no such option --rollout-lenght; did you mean --rollout-length?",
        ),
        ("train --help-al", "no such option --help-al; did you mean --help-all?"),
        ("prefix-decay -limit 5", "no such option -limit; did you mean --limit?"),
        ("train --score_end", "no such option --score_end; did you mean --score-end?"),
        ("signals --bin 0,5", "no such option --bin; did you mean --bins?"),
        ("behaviour --advise", "no such option --advise of behaviour; signals has it"),
        (
            "train --samples 3",
            "no such option --samples of train; prefix-decay, preflight, position-kl, category-kl "
            "and 11 others have it",
        ),
        ("compare --zzz", "no such option --zzz; decaylab compare --help-all lists them"),
        ("show x --zzz", "no such option --zzz; decaylab show --help lists them"),
    ],
)
def test_a_misspelt_word_is_one_line_with_what_is_near(arguments: str, told: str) -> None:
    assert decaylab(*arguments.split()).complaint == told


def test_the_nearest_word_is_suggested_and_none_that_is_far() -> None:
    known = ["--limit", "--split", "--samples"]
    assert did_you_mean("--limits", known) == "; did you mean --limit?"
    assert did_you_mean("--sam", known) == "; did you mean --samples?"
    assert did_you_mean("--problems", known) == ""


# The reference


def test_every_option_of_every_command_is_in_the_reference_once(
    reference: types.ModuleType,
) -> None:
    pages = reference.pages()
    assert set(pages) == {"index.md", *(f"{name}.md" for name in ALL)}
    for name, command in ALL.items():
        page = pages[f"{name}.md"]
        cells = re.findall(r"^\| \**(`[^*|]+`)\** \|", page, re.MULTILINE)
        listed = [cell.replace("` or `", "|").strip("`").split(" /")[0] for cell in cells]
        assert Counter(listed) == Counter(heads(command))
        bold = re.findall(r"^\| \*\*`([^` ]+)", page, re.MULTILINE)
        common = [re.split(r"[ |]", row.name)[0] for row in rows.rows(command) if row.common]
        assert Counter(bold) == Counter(common if name in COMMANDS else [])
        for row in re.findall(r"^\|.*$", page, re.MULTILINE):  # as many cells as the title
            assert row.count("|") in (5, 6), row
        assert f"]({name}.md)" in pages["index.md"]


def test_the_reference_gives_values_defaults_and_what_identifies_a_run(
    reference: types.ModuleType,
) -> None:
    pages = reference.pages()
    train, decay = pages["train.md"], pages["prefix-decay.md"]
    assert "| `--thinking` | `off`, `on`, `template` | `off` | " in decay
    assert "| **`--out`** | `FOLDER` | a folder in runs/ named after the pair" in decay
    assert "Default: 25 with the embedded pair" in train, "a sentence follows it"
    assert "`--selector prefix`" not in decay and "`--selector`" in train
    for name, page in pages.items():
        assert "--" not in re.sub(r"`[^`]*`|```.*?```|\|(---\|)+", "", page, flags=re.DOTALL), name
    for name in ("plan", "preflight", "rollouts", "show"):
        assert reference.MARK not in pages[f"{name}.md"]
