"""The tables of arXiv 2605.27028 out of measurements, the published rows beside them.

    table = build("main-results", measurements, paper.main_results())
    write(table, Path("tables"), table.name)          # tables/main-results.md, .tex and .csv

Rows are marked measured or published. Nothing is computed that the measurements do not hold;
fractions stand in per cent.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pandas as pd

from decaylab import disk
from decaylab.paper import publication
from decaylab.tables import compare, of_tokens, of_training
from decaylab.tables.latex import to_latex
from decaylab.tables.model import Cell, Column, Row, Table, to_csv, to_markdown
from decaylab.tables.source import SOURCE, Source

__all__ = [
    "TABLES",
    "Table",
    "TableSpec",
    "build",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write",
]


COUNTS = ("problems", "rollouts")


@dataclass(frozen=True)
class TableSpec:
    """A table of the paper.

    shows: what it shows, in the caption. needs: the quantity without which there is no table. rows:
    makes the rows of one source. published: the paper's numbers. printed: what must be known about
    those.
    """

    title: str
    shows: str
    needs: str
    rows: Callable[[Source], Iterator[Row]]
    published: Callable[[], pd.DataFrame] | None = None
    printed: str = ""


def _listed() -> dict[str, TableSpec]:
    """The tables of `paper_tables.toml`."""
    file = resources.files("decaylab.tables").joinpath("paper_tables.toml")
    modules = {"of_tokens": of_tokens, "of_training": of_training, "compare": compare}
    specs = {}
    for name, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
        module, _, rows = entry["rows"].partition(".")
        loader = getattr(publication, entry["published"]) if "published" in entry else None
        loaded = {"rows": getattr(modules[module], rows), "published": loader}
        specs[name] = TableSpec(**{**entry, **loaded})
    return specs


TABLES: Mapping[str, TableSpec] = _listed()


def build(
    name: str,
    measurements: pd.DataFrame | None,
    published: pd.DataFrame | None = None,
    *,
    pair: str = "",
) -> Table:
    """A table from the measurements of one run, with the published rows below where they are given,
    or those alone.

    Args:
        name: one of `TABLES`.
        measurements: columns of `measurements.Measurement`; None: nothing was measured.
        published: the paper's rows, such as ``TABLES[name].published()``.
        pair: what the measured student and teacher are called.

    Raises:
        ValueError: no such table, or rows that lack the quantity that it shows.
        LookupError: several rows where one is needed: the measurements are not those of one run.
    """
    if name not in TABLES:
        raise ValueError(f"no table {name!r}; there are {', '.join(TABLES)}")
    spec = TABLES[name]
    sources = []
    if measurements is not None:
        sources.append(Source(measurements, pair=pair))
    if published is not None:
        sources.append(Source(published, published=True))
    if not sources:
        raise ValueError(
            f"nothing to show: neither measurements nor published rows hold {spec.needs}"
        )
    rows: list[Row] = []
    for source in sources:
        rows_of_source = [{**row, SOURCE: source.name} for row in spec.rows(source)]
        if not rows_of_source:
            kind = "published rows" if source.published else "measurements"
            raise ValueError(f"{kind} hold no {spec.needs}")
        rows += rows_of_source
    captions = [_of_source(source, spec) for source in sources]
    caption = " ".join([f"{spec.shows}.", *captions])
    return Table.of(spec.title, _without_constant_counts(rows), name=name, caption=caption)


def _without_constant_counts(rows: Sequence[Row]) -> list[Row]:
    """The rows without counts that are the same in every row: those stand in the caption."""
    counts: dict[tuple[Column, Cell], set[Cell]] = {}
    for row in rows:
        for column in row:
            if column.key in COUNTS:
                counts.setdefault((column, row[SOURCE]), set())
    for (column, source), values in counts.items():
        values |= {row.get(column, "") for row in rows if row[SOURCE] == source}
    vary = {column for (column, _), values in counts.items() if len(values) > 1}
    kept = []
    for row in rows:
        kept.append({c: cell for c, cell in row.items() if c.key not in COUNTS or c in vary})
    return kept


def _of_source(source: Source, spec: TableSpec) -> str:
    """What must be known to read the rows of one source: counts, intervals and answer rule, or what
    was not published."""
    used = source.used
    if source.published:
        remark = f"; {spec.printed}" if spec.printed else ""
        return f"Published: {publication.SOURCE}, single seed, no interval{remark}."
    parts = []
    if counts := [*filter(None, (_count(used[what], what) for what in COUNTS))]:
        parts.append(f"{' and '.join(counts)} behind a number")
    if methods := _names(used.loc[used["low"].notna(), "method"]):
        level = used["level"].iloc[0] * 100
        parts.append(f"brackets: {level:g} % intervals ({methods})")
    else:
        parts.append("no interval")
    if rules := _names(used["answer_rule"]):
        parts.append(f"answer rule {rules}")
    return f"Measured: {'; '.join(parts)}."


def _names(column: pd.Series[str]) -> str:
    return ", ".join(name for name in column.unique() if name)


def _count(counts: pd.Series[int], name: str) -> str:
    positive = counts[counts > 0]
    if positive.empty:
        return ""
    low, high = int(positive.min()), int(positive.max())
    return f"{low:,} {name}" if low == high else f"{low:,} to {high:,} {name}"


def write(table: Table, folder: Path, name: str) -> list[Path]:
    """Writes NAME.md, NAME.tex and NAME.csv into a folder; gives their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    named = dataclasses.replace(table, name=name)
    texts = {"md": to_markdown(named), "tex": to_latex(named), "csv": to_csv(named)}
    for kind, text in texts.items():
        disk.write_atomically(folder / f"{name}.{kind}", text.encode())
    return [folder / f"{name}.{kind}" for kind in texts]
