"""Every figure and table of arXiv 2605.27028: what it shows, what it needs, what draws it.

The list is `items.toml`; docs/paper.md tells it in prose. A figure is drawn by
``figures/MODULE.py`` from the measurements of one run, a table by `paper_tables.build`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import pandas as pd

from decaylab.errors import UserError
from decaylab.paper import publication
from decaylab.runs.found_runs import FoundRun

# what stands in place of a command where no measurement is needed but rollouts to look at
VIEWED = "viewed tokens"


@dataclass(frozen=True)
class PaperItem:
    """A figure or table.

    name: on the command line and of its files. place: in the paper. question: what one reads off
    it. commands: whose runs can hold what it needs; none: it needs no run. needs: the quantities
    (``what``) that must all be there.
    makes: the command line that measures it. published: the paper's numbers in the same shape.
    shows: a pattern of the quantities that are drawn.
    """

    name: str
    kind: Literal["figure", "table"]
    title: str
    place: str
    question: str
    commands: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    makes: str = ""
    published: Callable[[], pd.DataFrame] | None = None
    shows: str = ".*"

    @property
    def module(self) -> str:
        """Of a figure, under ``figures``."""
        return self.name.replace("-", "_")

    def rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The measurements behind the figure: its quantities, by the answer rule that is reported,
        the first one."""
        rules = [rule for rule in dict.fromkeys(frame["answer_rule"]) if rule]
        reported = frame["answer_rule"].isin(["", *rules[:1]])
        return frame[frame["what"].str.fullmatch(self.shows) & reported]

    def within(self, run: FoundRun) -> bool:
        """Whether the run holds what is needed."""
        return run.command in self.commands and run.holds(self.needs)


def item(name: str, items: Sequence[PaperItem]) -> PaperItem:
    """The item of that name.

    Raises:
        UserError: there is none; lists those that there are.
    """
    names = [item.name for item in items]
    if name not in names:
        raise UserError(f"no {items[0].kind} {name!r}; there are {', '.join(names)}")
    return items[names.index(name)]


def _listed() -> tuple[tuple[PaperItem, ...], tuple[PaperItem, ...]]:
    """The figures and the tables of the list."""
    text = resources.files("decaylab.paper").joinpath("items.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)
    by_name = {entry["name"]: entry for entry in entries["figure"]}
    figures = [_item("figure", entry) for entry in entries["figure"]]
    tables = []
    for entry in entries["table"]:
        shared = {**by_name.get(entry.get("like"), {}), "shows": ".*"}
        tables.append(_item("table", {**shared, **entry}))
    return tuple(figures), tuple(tables)


def _item(kind: Literal["figure", "table"], entry: dict[str, Any]) -> PaperItem:
    loaded = {key: value for key, value in entry.items() if key != "like"}
    for key in ("commands", "needs"):
        loaded[key] = tuple(entry.get(key, ()))
    if "published" in entry:
        loaded["published"] = getattr(publication, entry["published"])
    return PaperItem(kind=kind, **loaded)


FIGURES, TABLES = _listed()
