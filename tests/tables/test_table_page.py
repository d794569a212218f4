"""What a command prints: its verdict and the table that carries it, the rest with --verbose; and
tables that a terminal of any width can show."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from decaylab.runs.train_results import TrainResult
from decaylab.tables import terminal, training
from decaylab.tables.latex import to_latex
from decaylab.tables.model import MARK, Column, Number, Row, Table, to_markdown
from decaylab.tables.page import Page, print_page
from decaylab.tables.source import GROUP, MODEL_NAME

KL = Column("kl_nats", "KL", "value")
FLOOR = Column("floor", "floor", "floor")
TOKENS = Column("tokens", "tokens", "whole")
NAN = math.nan


def row(label: str, value: float, floor: float = 1e-7, *, under: bool = False) -> Row:
    number = Number(value, value - 0.01, value + 0.01, under_floor=under)
    return {
        MODEL_NAME: label,
        KL: Number(NAN) if math.isnan(value) else number,
        FLOOR: Number(floor),
        TOKENS: Number(0 if math.isnan(value) else 90),
    }


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Prints a page with one carrying table, another table, reading and notes."""

    def show(rows: list[Row], *, verbose: bool = False, width: int = 118) -> str:
        out = io.StringIO()
        console = Console(width=width, file=out, highlight=False)
        monkeypatch.setattr(terminal, "terminal", lambda: console)
        page = Page(
            "Heading [x]",
            "a pair [y]; 30 problems",
            ("The first sentence.", "The second [0.1, 0.2]."),
            [Table.of("Carrying", rows), Table.of("Another", rows), "a remark"],
            ["how to read it"],
            ["3 of 4 were cut off; do this"],
            ["figure: run/x.png"],
            ["scored tokens: cache/a"],
        )
        print_page(page, Path("runs/my run"), verbose=verbose)
        return out.getvalue()

    return show


def test_the_verdict_stands_first_then_its_table_and_the_rest_is_left_to_verbose(
    printed: Any,
) -> None:
    text = printed([row("base", 0.2)])
    order = ["Heading [x]", "The first sentence.", "The second [0.1, 0.2].", "Carrying"]
    order += [
        "a pair [y]; 30 problems",
        "- note: 3 of 4 were cut off; do this",
        "figure: run/x.png",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    for words in ("Another", "a remark", "how to read it", "scored tokens"):
        assert words not in text
    assert text.endswith("more: decaylab show 'runs/my run' --verbose\n")


def test_verbose_prints_all_of_it(printed: Any) -> None:
    text = printed([row("base", 0.2), row("late", NAN)], verbose=True)
    for words in ("Another", "a remark", "- how to read it", "scored tokens: cache/a", "floor"):
        assert words in text
    assert text.count("│ late") == 2 and "more:" not in text and "left out" not in text


def test_noise_floors_are_one_line_unless_a_number_is_near_its_own(printed: Any) -> None:
    far = printed([row("base", 0.2, 3e-7), row("esr", 0.1, 6e-8)])
    assert "- noise floor: at most 3e-7 nats; no number is near its floor" in far
    assert far.count("floor") == 2, "both in this line: no column"
    near = printed([row("base", 0.2, 3e-7), row("esr", 1e-7, 1e-6, under=True)])
    assert "┃ floor" in near or " floor ┃" in near
    assert f"- {MARK}: closer to no effect than twice its noise floor" in near
    assert "--head float32" in near, "what to do"
    unknown = printed([row("base", 0.2, NAN)])
    assert "- noise floor: not measured; --floor-problems 32 measures it" in unknown


def test_brackets_are_explained_where_a_printed_table_has_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = {MODEL_NAME: "base", KL: Number(0.2)}

    def show(carried: Row, *, verbose: bool = False) -> str:
        out = io.StringIO()
        console = Console(width=118, file=out, highlight=False)
        monkeypatch.setattr(terminal, "terminal", lambda: console)
        tables = [Table.of("Carrying", [carried]), Table.of("Another", [row("base", 0.2)])]
        words = "brackets: 95 % intervals"
        page = Page("Heading", "a pair", ("One [0.1, 0.2].",), tables, brackets=words)
        print_page(page, Path("runs/one"), verbose=verbose)
        return out.getvalue()

    assert "- brackets: 95 % intervals\n" in show(row("base", 0.2))
    assert "brackets" not in show(bare), "the table of the verdict has none"
    assert "- brackets: 95 % intervals\n" in show(bare, verbose=True), "another one has"


def test_the_id_of_a_kind_of_token_is_printed_in_words() -> None:
    kind = Column("category", "kind", "kind")
    table = Table.of("Kinds", [{kind: "end_of_turn", KL: Number(0.2)}])
    assert table.printed(table.rows[0])[0] == "end of turn"
    assert table.frame["category"].tolist() == ["end_of_turn"], "files keep the id"
    assert "end of turn" in to_latex(table) and "end of turn" in to_markdown(table)


def test_rows_without_a_value_are_left_out_and_named(printed: Any) -> None:
    rows = [row("0-4", 0.2), *(row(f"{start}-", NAN, NAN) for start in (5, 6, 7, 8, 9))]
    text = printed(rows)
    assert "│ 0-4" in text and "│ 5-" not in text and "–" not in text
    assert "- left out, no value: model 5-, 6-, 7-, 8- and others (--verbose says why)" in text


def test_a_number_is_never_folded_however_narrow_the_terminal(printed: Any) -> None:
    rows = []
    for label in ("of another problem, in words", "short"):
        cells: Row = {GROUP: "a group with a long name", MODEL_NAME: label}
        for place in range(8):
            column = Column(f"q{place}", f"q {place}", "value", (place,))
            cells[column] = Number(0.1 + place / 100, -0.101, 0.303, signed=True)
        rows.append(cells)
    for width in (60, 80, 100, 118, 120, 140, 160):
        text = printed(rows, width=width)
        table = text[text.index("Carrying") : text.index("a pair [y]")]
        assert max(map(len, table.splitlines())) <= width
        for place in range(8):
            assert len(re.findall(rf"\+0\.1{place}0(?= |$|\n)", table)) == 2
        intervals = re.findall(r"\[-0\.101, ?\+0\.303\]", table)
        assert len(intervals) == 16
        blocks = sum(line.strip("┃ ").startswith("model") for line in table.splitlines())
        assert table.count("short") == blocks, "each block says which row it is"
        assert blocks > 1 or width > 110


def result(validation: pd.DataFrame) -> TrainResult:
    trained = {
        "rollout_length": "20",
        "budget": None,
        "student": "s",
        "teacher": "t",
        "selector": "prefix",
        "problems_per_step": 4,
        "rollouts_per_problem": 1,
        "seed": 0,
    }
    record = {"identity": {"training": trained}, "preset": "short"}
    return TrainResult(Path("run"), record, pd.DataFrame(), validation, ("n",), ("alarm 1",))


def test_a_training_says_what_became_of_the_held_out_problems() -> None:
    rows = pd.DataFrame(
        {
            "step": [0, 25, 50],
            "problems": 40,
            "accuracy": [0.1, 0.45, 0.4],
            "reverse_kl": [0.0912, 0.06, 0.0501],
            "response_tokens": [120.0, 99.0, 100.4],
            "natural_stop_share": [0.5, 0.9, 0.95],
            "repetition_share": 0.0,
        }
    )
    assert list(training.page(result(rows)).verdict) == [
        "Over 40 held-out problems accuracy goes from 10.0 % to 40.0 % (best: 45.0 % at step 25), "
        "the reverse KL from 0.091 to 0.050 nats per token.",
        "Responses go from 120 to 100 tokens, natural stops from 50.0 to 95.0 %.",
        "alarm 1",
    ]
    (none, _) = training.page(result(pd.DataFrame())).verdict
    assert none.startswith("No held-out problems: `decaylab evaluate`")
    undefined = training.verdict(rows.assign(accuracy=NAN))
    assert "accuracy goes from – % to – %, the" in next(undefined)
