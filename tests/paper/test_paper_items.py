"""The list of the paper's figures and tables: whole, drawn by modules that exist, and told in
docs/paper.md."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from decaylab.errors import UserError
from decaylab.paper.paper_items import FIGURES, TABLES, item
from decaylab.tables import paper_tables

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "paper.md").read_text()
OF_COMMANDS = ("behaviour", "category_kl", "signals", "training")


@pytest.mark.parametrize("one", FIGURES, ids=lambda one: one.name)
def test_each_figure_has_a_module_of_its_own_that_draws_and_captions(one) -> None:
    module = importlib.import_module(f"decaylab.figures.{one.module}")
    assert all(map(callable, (module.sheet, module.draw, module.caption, module.details)))


def test_no_module_under_figures_draws_what_the_list_does_not_know() -> None:
    modules = {path.stem for path in (ROOT / "figures").glob("[a-z]*.py")}
    drawing = {
        name
        for name in modules
        if hasattr(importlib.import_module(f"decaylab.figures.{name}"), "caption")
    }
    assert drawing == {one.module for one in FIGURES} | set(OF_COMMANDS)


def test_each_table_is_one_that_can_be_made() -> None:
    assert {one.name for one in TABLES} == set(paper_tables.TABLES)


@pytest.mark.parametrize("one", [*FIGURES, *TABLES], ids=lambda one: f"{one.kind}-{one.name}")
def test_the_paper_page_tells_each_item_with_its_place(one) -> None:
    section = PAGE.split("## Figures")[1].split("## Tables")[0 if one.kind == "figure" else 1]
    lines = [line for line in section.splitlines() if f"`{one.name}`" in line]
    assert len(lines) == 1
    place = re.sub("^the ", "", one.place)
    assert lines[0].startswith(f"| {place} |")


@pytest.mark.parametrize("one", [*FIGURES, *TABLES], ids=lambda one: f"{one.kind}-{one.name}")
def test_what_makes_an_item_is_a_command_that_exists(one) -> None:
    from decaylab.cli import main

    if one.commands:
        words = one.makes.split()
        assert words[0] == "decaylab" and words[1] in {
            command.name for command in main.app.registered_commands
        }


def test_a_name_that_is_not_there_is_answered_with_the_list() -> None:
    with pytest.raises(
        UserError,
        match=r"no figure 'nonsense'; there are prefix-decay, .*, interventions, arm-gains$",
    ):
        item("nonsense", FIGURES)
    assert item("submode", TABLES).kind == "table"
