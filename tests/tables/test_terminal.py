"""One table model: the terminal prints the numbers that Markdown, CSV and the report hold, with one
rounding and one mark for undefined."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pytest
from rich.console import Console

from decaylab.errors import UserError
from decaylab.printing import UNDEFINED
from decaylab.runs.found_runs import FoundRun, Pair
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.tables import terminal
from decaylab.tables.model import Column, Form, Number, Table, to_csv, to_markdown
from decaylab.tables.shown import print_run
from decaylab.tables.source import GROUP, MODEL_NAME, Source, columns

SHARE = Column("share_percent", "share (%)", "tenths")


def shown(table: Table, width: int = 118) -> str:
    """A table as a terminal of this width prints it."""
    out = io.StringIO()
    console = Console(width=width, file=out, highlight=False)
    console.print(terminal.render(table, console))
    return out.getvalue()


def rows_of(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]


def test_nine_of_2000_is_half_a_per_cent_in_every_format() -> None:
    source = Source(to_frame([Measurement("kl_share", "all", 9 / 2000, "fraction")]))
    table = Table.of("T", [{MODEL_NAME: "base", SHARE: source.number("kl_share")}])
    assert rows_of(shown(table)) == [["base", "0.5"]]
    assert "| base | 0.5 |" in to_markdown(table)
    assert table.text["share (%)"].tolist() == ["0.5"]
    assert to_csv(table).splitlines()[1] == "base,0.45"


def test_undefined_is_one_mark_and_an_empty_cell_stays_empty() -> None:
    rows = [{MODEL_NAME: "a", SHARE: Number(math.nan)}, {MODEL_NAME: "b", SHARE: ""}]
    table = Table.of("T", rows)
    assert rows_of(shown(table)) == [["a", UNDEFINED], ["b", ""]]
    assert f"| a | {UNDEFINED} |" in to_markdown(table)


def test_groups_are_headings_in_a_terminal_and_a_column_elsewhere() -> None:
    rows = []
    for group, model, share in (("", "x", 1.0), ("one", "a", 2.0), ("one", "b", 3.0)):
        rows.append({GROUP: group, MODEL_NAME: model, SHARE: Number(share)})
    table = Table.of("T", rows)
    printed = shown(table)
    assert rows_of(printed) == [["x", "1.0"], ["one", ""], ["a", "2.0"], ["b", "3.0"]]
    assert printed.count("├") == 1, "a rule between groups, none before the first"
    assert "| one | a | 2.0 |" in to_markdown(table)


def test_columns_that_hold_nothing_are_left_out_and_keep_their_order() -> None:
    empty, late = Column("empty", "empty", "value"), Column("late", "late", "value")
    rows = [
        {MODEL_NAME: "a", empty: "", late: "", SHARE: Number(1.0)},
        {MODEL_NAME: "b", empty: "", late: Number(2.0), SHARE: Number(3.0)},
    ]
    assert Table.of("T", rows).header == ("model", "late", "share (%)")


def test_an_interval_stands_under_its_number_where_the_table_is_too_wide() -> None:
    wide = [Column(f"k{place}", f"quantity {place}", "value") for place in range(4)]
    row = {column: Number(0.123, 0.111, 0.135) for column in wide}
    beside, under = shown(Table.of("T", [row])), shown(Table.of("T", [row]), 70)
    assert "0.123 [0.111, 0.135]" in beside
    assert "0.123 [" not in under and under.count("[0.111,0.135]") == 4


def test_no_number_is_folded_at_any_width() -> None:
    label = Column("set", "set of tokens")
    wide = [Column(f"k{place}", f"quantity {place} of these", "value") for place in range(5)]
    tokens = Column("tokens", "tokens", "whole")
    row = {label: "own, fresh", **{one: Number(0.123, 0.111, 0.135) for one in wide}}
    table = Table.of("T", [{**row, tokens: Number(15407)}])
    for width in range(70, 160):
        text = shown(table, width)
        assert "15,407" in text and "tokens" in text.replace("set of tokens", ""), width
        assert max(map(len, text.splitlines())) <= width


def test_a_table_without_rows_says_so() -> None:
    assert shown(Table.of("Nothing here", [])) == "\nNothing here: none\n"


def test_every_listed_column_has_a_form_and_a_quantity_or_takes_that_of_its_row() -> None:
    listed = Path(terminal.__file__).with_name("columns.csv")
    names = pd.read_csv(listed, keep_default_na=False)["table"].unique()
    for name in names:
        for column in columns(name, measure="avg@4", what="avg_at_4", name="avg@4"):
            assert column.form in get_args(Form)
            assert "{" not in column.name
    assert columns("no such table") == ()


# Pages that no other test prints


def found(command: str, folder: str, record: dict[str, Any], rows: list[Measurement]) -> FoundRun:
    run = FoundRun(Path(folder), folder, command, record, Pair("student", "teacher"))
    run.__dict__["measurements"] = to_frame(rows)  # where the cached property keeps what it read
    return run


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Any:
    out = io.StringIO()
    monkeypatch.setattr(terminal, "terminal", lambda: Console(width=118, file=out, highlight=False))
    return out


def test_served_kl_names_its_bound_an_approximation_with_both_masses(printed: Any) -> None:
    rows = []
    names = ("reverse_kl_bound", "student_mass", "teacher_mass", "log_ratio", "student_entropy")
    for place, what in enumerate(names):
        unit = "fraction" if "mass" in what else "nats"
        at = {"view": "fresh", "checkpoint": "base", "tokens": 90, "problems": 30}
        for start, end in ((0.0, 5.0), (5.0, math.inf)):
            span = {"position_low": start, "position_high": end}
            for form in ("winsorised_{}", "{}"):
                value = 0.1 + place / 100 + start / 1000
                rows.append(Measurement(form.format(what), "all", value, unit, **at, **span))
        whole = {"position_low": 0.0, "position_high": math.inf}
        rows.append(Measurement(f"mean_{what}", "all", 0.5 + place / 100, unit, **at, **whole))
    options = {"student": "s", "teacher": "t", "samples": 1, "temperature": 1, "max_tokens": 9}
    record = {"identity": {"options": options, "problems": {"name": "sums", "asked": 30}}}
    print_run(found("served-kl", "run", {**record, "notes": ["cut"]}, rows), verbose=True)
    text = printed.getvalue()
    assert "approximated" in text and "Approximation: a lower bound" in text
    cells = {row[0]: row[1:] for row in rows_of(text)}
    assert cells["0-4"] == ["0.100", "11.0", "12.0", "0.130", "0.140", "90", "30"]
    assert cells["5+"][0] == "0.105"
    assert cells["all"] == ["0.500", "51.0", "52.0", "0.530", "0.540", "90", "30"]
    assert "- note: cut" in text and "measurements: run/measurements.csv" in text


def test_a_sweep_prints_each_arm_over_problems_over_seeds_and_by_seed(printed: Any) -> None:
    rows = []
    at = {"view": "last", "answer_rule": "boxed", "problems": 40}
    for arm, value in (("prefix-5", 0.5), ("full", 0.7)):
        for what, shift in (("avg_at_2", 0.0), ("avg_at_2_minus_base", -0.4)):
            for estimand, interval in (
                ("mean over rollouts, over these seeds", 0.03),
                ("mean over training seeds", 0.08),
            ):
                ends = {"low": value + shift - interval, "high": value + shift + interval}
                more = {"checkpoint": arm, "estimand": estimand, "p_value_holm": 0.0004}
                number = (what, "boxed", value + shift, "fraction")
                rows.append(Measurement(*number, **at, **more, **ends))
        for seed in (0.0, 1.0):
            one = {"estimand": "one training run", "training_seed": seed, "checkpoint": arm}
            rows.append(
                Measurement("avg_at_2", "boxed", value + seed / 100, "fraction", **at, **one)
            )
    options = {"over": "rollout-length", "samples": 2, "seeds": 2}
    record = {"identity": {"options": options}, "notes": ["one"]}
    print_run(found("sweep rollout-length", "sweep", record, rows), verbose=True)
    text = printed.getvalue()
    first, second = (re.split("points", text)[place] for place in (0, -1))
    assert rows_of(first)[0] == ["prefix-5", "50.0 [47.0, 53.0]", "50.0 [42.0, 58.0]", "50.0 51.0"]
    assert rows_of(second)[1] == ["full", "+30.0 [+27.0, +33.0]", "<0.001"]
    assert "2 seeds, 40 test problems x 2, answer rule boxed, last checkpoint" in text
    options["samples"] = 3
    with pytest.raises(UserError, match="the measurements have no avg_at_3, which run.json promis"):
        print_run(found("sweep rollout-length", "sweep", record, rows))
