"""What the diagnostics print: the numbers of the frame, parsed back from the page, and the words
and signs around them."""

from __future__ import annotations

import dataclasses
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from decaylab.claims.advice import Advice
from decaylab.claims.advice_next import Experiment
from decaylab.runs.found_runs import FoundRun, Pair
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.skewed_cells import RARE_PROBLEMS
from decaylab.tables import diagnostics, terminal
from decaylab.tables.model import MARK, Table
from decaylab.tables.shown import print_run
from decaylab.tables.source import Source, columns, positions, shown

RANKS = [column.of for column in columns("ranks")]
RESPONSES = [column.of for column in columns("responses")]
TEXTS = [column.of for column in columns("texts")][:3]
NAMES = ("base", "ckpt-20", "ckpt-60")
SPANS = ((0.0, 5.0), (5.0, 6.0), (6.0, math.inf))
WHOLE = {"position_low": 0.0, "position_high": math.inf}
OPTIONS = {
    "student": "small",
    "teacher": "large",
    "samples": 2,
    "temperature": 0.7,
    "max_tokens": 320,
    "score_temperature": 1.5,
    "survivors": None,
    "min_count": 50,
    "share": 0.1,
    "second_mode": 0.1,
    "cumulative_share": 0.45,
    "rollout_length": 20,
}


class Rows:
    """Measurements with numbers of their own: no two are alike, so that a number in a wrong cell is
    found."""

    def __init__(self) -> None:
        self.made: list[Measurement] = []

    def add(
        self, what: str, condition: str, unit: str, view: str, checkpoint: str, **more: Any
    ) -> None:
        value = 0.101 + 0.0073 * len(self.made) % 0.8
        numbers = {
            "value": value,
            "low": value * 0.9,
            "high": value * 1.1,
            "noise_floor": 2e-7,
            "tokens": 900,
            "problems": 30,
        }
        self.made.append(
            Measurement(
                what=what,
                condition=condition,
                unit=unit,
                view=view,
                checkpoint=checkpoint,
                **{**numbers, "rollouts": 60, **more},
            )
        )

    @property
    def frame(self) -> pd.DataFrame:
        return to_frame(self.made)


def plain(rows: Rows, condition: str, unit: str, view: str, name: str, **at: Any) -> None:
    """The plain mean of a bin, without an interval, and the share of its largest problem."""
    none = {"low": math.nan, "high": math.nan}
    rows.add("reverse_kl", condition, unit, view, name, **none, note=RARE_PROBLEMS, **at)
    rows.add(
        "reverse_kl_largest_problem", condition, "fraction", view, name, value=0.125, **none, **at
    )


def position_kl(names: Sequence[str], *conditions: str) -> pd.DataFrame:
    rows = Rows()
    for name in names:
        for view in ("fresh", "frozen"):
            for condition in ("all", *conditions):
                at = (condition, "nats", view, name)
                for low, high in SPANS:
                    rows.add("winsorised_reverse_kl", *at, position_low=low, position_high=high)
                    plain(rows, *at, position_low=low, position_high=high)
                for quantity in diagnostics.QUANTITIES:
                    rows.add(f"mean_{quantity}", *at, **WHOLE)
                if name == "base":
                    continue
                for low, high in SPANS:
                    span = {"position_low": low, "position_high": high}
                    rows.add(
                        "winsorised_reverse_kl_relative_change",
                        condition,
                        "fraction",
                        view,
                        name,
                        **span,
                    )
                rows.add(
                    "cascade_ratio",
                    condition,
                    "ratio",
                    view,
                    name,
                    position_low=20.0,
                    position_high=math.inf,
                )
    return rows.frame


def category_kl(names: Sequence[str], tokens: Sequence[str] = ("\u2423To", "=")) -> pd.DataFrame:
    rows = Rows()
    for name in names:
        for view in ("fresh", "frozen"):
            for kind in ("planning", "rest"):
                for low, high in SPANS:
                    span = {"position_low": low, "position_high": high}
                    rows.add("reverse_kl", "all", "nats", view, name, category=kind, **span)
                for what in ("mean_reverse_kl", "winsorised_mean_reverse_kl"):
                    rows.add(what, "all", "nats", view, name, category=kind, **WHOLE)
                for what in ("kl_share", "token_share"):
                    rows.add(what, "all", "fraction", view, name, category=kind, **WHOLE)
            for token in tokens:
                at = {"category": "rest", "token": token, **WHOLE}
                for what in ("token_mean_reverse_kl", "winsorised_token_mean_reverse_kl"):
                    rows.add(what, "all", "nats", view, name, **at)
                rows.add("token_kl_share", "all", "fraction", view, name, **at)
    return rows.frame


def submode(names: Sequence[str]) -> pd.DataFrame:
    rows = Rows()
    for name in names:
        for condition, view in (("own", "fresh"), ("own", "frozen"), ("common", "frozen")):
            for part in ("", ", two modes"):
                for what in RANKS:
                    rows.add(what, condition + part, "fraction", view, name)
                    if condition == "common" and name != "base":
                        rows.add(f"{what}_change", condition + part, "fraction", view, name)
            rows.add("two_mode_share", condition, "fraction", view, name)
        rows.add("wordy_share", "", "fraction", "fresh", name)
    return rows.frame


def signals(names: Sequence[str]) -> pd.DataFrame:
    rows = Rows()
    for name in names:
        for low, high in SPANS:
            span = {"position_low": low, "position_high": high}
            for what in ("student_entropy", "teacher_entropy", "reverse_kl"):
                rows.add(f"winsorised_{what}", "all", "nats", "fresh", name, **span)
            plain(rows, "all", "nats", "fresh", name, **span)
            for column in columns("overlaps"):
                rows.add(column.of, "all", "fraction", "fresh", name, **span)
        for curve, horizon in (("survivors", 89.0), ("mass", 94.0)):
            rows.add("cumulative_kl_position", curve, "tokens", "fresh", name, **WHOLE)
            rows.add(
                "cumulative_kl_horizon", curve, "tokens", "fresh", name, value=horizon, **WHOLE
            )
        for condition in ("top-20-tokens", "top-5-percent"):
            rows.add("kl_concentration", condition, "fraction", "fresh", name)
        for selector in ("prefix", "top-reverse-kl-x-student-entropy"):
            rows.add("selector_kl_share", selector, "fraction", "fresh", name)
            rows.add("selector_mean_position", selector, "tokens", "fresh", name)
        for pair in ("prefix|suffix", "prefix|middle", "suffix|middle"):
            rows.add("selector_overlap", pair, "fraction", "fresh", name)
    return rows.frame


def behaviour(names: Sequence[str]) -> pd.DataFrame:
    rows, unit = Rows(), {"boxes_mean": "boxes"}
    none = {"noise_floor": math.nan}
    for name in (*names, "teacher"):
        for what in (*RESPONSES, *TEXTS):
            kind = "tokens" if what.startswith("response") else unit.get(what, "fraction")
            rows.add(what, "", kind, "fresh", name, **none)
        for rule in ("last_boxed", "anywhere"):
            for what in ("accuracy", "no_answer_share"):
                rows.add(what, rule, "fraction", "fresh", name, answer_rule=rule, **none)
                if name != "base":
                    rows.add(f"{what}_change", rule, "fraction", "fresh", name, **none)
    return rows.frame


def evaluate(names: Sequence[str]) -> pd.DataFrame:
    """Two samples a problem; the rules in another order than the options have them, since the
    reported one comes first."""
    rows, none = Rows(), {"noise_floor": math.nan}
    chosen = {
        name: view for view, name in (("last", "ckpt-60"), ("best", "ckpt-20")) if name in names
    }
    for rule in ("first_boxed", "anywhere"):
        for name in (*names, "teacher"):
            for what in ("avg_at_2", "pass_at_1", "pass_at_2", "maj_at_2"):
                for other in ("base", "teacher"):
                    if name not in (other, "teacher"):
                        for view in ("fresh", *filter(None, [chosen.get(name)])):
                            place = ("fraction", view, name)
                            rows.add(
                                f"{what}_minus_{other}", rule, *place, p_value_holm=0.031, **none
                            )
                            rows.add(f"{what}_minus_{other}_detectable", rule, *place, **none)
                for view in ("fresh", *filter(None, [chosen.get(name)])):
                    rows.add(what, rule, "fraction", view, name, answer_rule=rule, **none)
    return rows.frame.sort_values(
        "checkpoint", key=lambda column: column.map([*names, "teacher"].index), kind="stable"
    )


MAKERS = {
    "position-kl": position_kl,
    "category-kl": category_kl,
    "submode": submode,
    "signals": signals,
    "behaviour": behaviour,
    "evaluate": evaluate,
}


ADVICE = Advice(
    None,
    ("Stop after 41 tokens [sic].", "It is cheap."),
    (),
    "",
    "",
    "",
    Experiment("decaylab sweep", "Compare", "1 h"),
    "",
)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Prints a frame at a width and hands back the text."""

    def printed(
        command: str,
        frame: pd.DataFrame,
        width: int = 118,
        advice: Advice | None = None,
        verbose: bool = True,
        **options: Any,
    ) -> str:
        identity = {"options": OPTIONS | options, "problems": {"name": "sums", "asked": 30}}
        record: dict[str, Any] = {
            "identity": identity,
            "notes": ["3 rollouts [were] cut"],
            "tokens": ["cache/a"],
        }
        if advice is not None and advice.experiment is not None:
            record["advice"] = {"verdict": advice.verdict, "next": advice.experiment.words}
        run = FoundRun(Path("runs/one"), "one", command, record, Pair("student", "teacher"))
        run.__dict__["measurements"] = frame  # where the cached property keeps what it read
        out = io.StringIO()
        monkeypatch.setattr(
            terminal, "terminal", lambda: Console(width=width, file=out, highlight=False)
        )
        print_run(run, verbose=verbose)
        return out.getvalue()

    return printed


def table(text: str, title: str) -> list[list[str]]:
    """The cells of the table under a title, a line each; the lines of one row are not joined."""
    below = text[text.index(title) :].splitlines()
    start = next(at for at, line in enumerate(below) if line.startswith("┏"))
    lines = []
    for line in below[start + 1 :]:
        if line.startswith("└"):
            return lines
        if line[0] in "┃│":
            lines.append([cell.strip() for cell in re.split("[┃│]", line)[1:-1]])
    raise AssertionError("the table has no end")


def value(frame: pd.DataFrame, **at: Any) -> pd.Series[Any]:
    chosen = frame[
        np.logical_and.reduce([frame[column] == wanted for column, wanted in at.items()])
    ]
    assert len(chosen) == 1
    return chosen.iloc[0]


def numbers(cells: Sequence[str]) -> list[float]:
    """Every number of some cells, signs and units aside."""
    return [
        float(found)
        for cell in cells
        for found in re.findall(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?", cell)
    ]


def section(rows: list[list[str]], name: str) -> list[list[str]]:
    """The rows below a name, up to the next name: a row of a name alone."""
    start = next(at for at, row in enumerate(rows) if row[0] == name and not any(row[1:]))
    found = []
    for row in rows[start + 1 :]:
        if row[0] and not any(row[1:]):
            break
        found.append(row)
    return found


def lines_of(rows: list[list[str]], label: str) -> list[list[str]]:
    """The lines of one row: an interval may stand under its number."""
    start = [row[0] for row in rows].index(label)
    under = next((at for at, row in enumerate(rows[start + 1 :], start + 1) if row[0]), len(rows))
    return rows[start:under]


def three(row: pd.Series[Any], scale: float = 1.0) -> list[float]:
    return [scale * row[column] for column in ("value", "low", "high")]


@pytest.mark.parametrize("command", MAKERS)
@pytest.mark.parametrize("names", [("base",), NAMES])
@pytest.mark.parametrize("width", [80, 118])
def test_every_page_says_what_was_compared_and_where_things_stand_and_fits(
    page: Any, command: str, names: tuple[str, ...], width: int
) -> None:
    text = page(command, MAKERS[command](names), width)
    assert "small with large as its teacher; sums, 30 problems x 2 samples at T = 0.7" in " ".join(
        text.split()
    )
    assert ("scored at temperature 1.5" in " ".join(text.split())) == (
        command not in ("behaviour", "evaluate")
    )
    assert f"figure: runs/one/{command}.png" in text
    assert "measurements: runs/one/measurements.csv" in text
    assert "scored tokens: cache/a" in text
    assert "- note: 3 rollouts [were] cut" in text
    drawn = [line for line in text.splitlines() if line and line[0] in "┃│┏"]
    assert max(map(len, drawn), default=0) <= width
    assert all(name in text for name in names)
    assert ("ckpt" in text) == (len(names) > 1)


def test_position_kl_prints_each_bin_with_its_change_in_both_views(page: Any) -> None:
    frame = position_kl(NAMES)
    rows = section(table(page("position-kl", frame), "Reverse KL of the student"), "ckpt-20")
    assert [row[0] for row in rows if row[0]] == ["0-4", "5", "6+"]
    at = {"checkpoint": "ckpt-20", "condition": "all", "position_low": 5.0}
    lines = lines_of(rows, "5")
    kl, fresh, frozen = (numbers([line[column] for line in lines]) for column in (1, 3, 4))
    assert kl == pytest.approx(
        three(value(frame, what="winsorised_reverse_kl", view="fresh", **at)), rel=6e-3
    )
    for change_shown, view in ((fresh, "fresh"), (frozen, "frozen")):
        change = value(frame, what="winsorised_reverse_kl_relative_change", view=view, **at)
        assert change_shown == pytest.approx(three(change, 100), abs=0.051)
    assert fresh != pytest.approx(frozen, abs=0.051)
    mean = value(frame, what="reverse_kl", view="fresh", **at)
    assert numbers([lines[0][5]]) == pytest.approx([mean.value], rel=6e-3)
    assert (lines[0][2], *lines[0][6:9]) == ("2e-7", "12.5", "900", "30")


def test_means_and_the_cascade_ratio_stand_in_both_views_with_their_floors(page: Any) -> None:
    frame = position_kl(NAMES)
    text = page("position-kl", frame)
    means = {row[0]: row for row in section(table(text, "Means over"), "ckpt-60")}
    (cascade,) = [
        row
        for row in table(text, "Cascade ratio: mean reverse KL from position 20")
        if row[0] == "ckpt-60"
    ]
    for what, row in (("mean_js", means["JS divergence"]), ("cascade_ratio", cascade)):
        for view, column in (("fresh", 1), ("frozen", 3)):
            one = value(frame, what=what, checkpoint="ckpt-60", view=view)
            assert numbers([row[column]]) == pytest.approx(three(one), rel=6e-3)
            assert row[column + 1] == "2e-7"


def test_survivors_have_a_curve_of_their_own(page: Any) -> None:
    frame = position_kl(("base",), "survivors")
    assert "at least" not in page("position-kl", frame)
    rows = section(
        table(
            page("position-kl", frame, survivors=60), "The same over the rollouts of at least 60"
        ),
        "base",
    )
    one = value(
        frame, what="winsorised_reverse_kl", condition="survivors", view="fresh", position_low=0.0
    )
    assert numbers([rows[0][1]]) == pytest.approx(three(one), rel=6e-3)


def test_without_a_checkpoint_there_is_no_column_of_changes(page: Any) -> None:
    text = page("position-kl", position_kl(("base",)))
    assert "against base" not in text and "Cascade" not in text
    assert "frozen" not in table(text, "Means over")[0]


def test_category_kl_prints_means_by_bin_and_shares(page: Any) -> None:
    frame = category_kl(NAMES)
    text = page("category-kl", frame)
    by_bin = {row[0]: row for row in section(table(text, "Mean reverse KL by kind"), "ckpt-20")}
    at = {"checkpoint": "ckpt-20", "view": "fresh", "category": "planning", "token": ""}
    bins = frame[
        (frame["what"] == "reverse_kl")
        & (frame["checkpoint"] == "ckpt-20")
        & (frame["view"] == "fresh")
    ]
    assert numbers(by_bin["planning"][1:4]) == pytest.approx(
        bins[bins["category"] == "planning"]["value"], abs=6e-4
    )
    (row,) = [
        row
        for row in section(table(text, "Share of the reverse KL by kind of token"), "ckpt-20")
        if row[0] == "planning"
    ]
    assert numbers([row[2]]) == pytest.approx(
        three(value(frame, what="token_share", **at), 100), abs=0.051
    )
    assert numbers([row[3]]) == pytest.approx(
        three(value(frame, what="kl_share", **at), 100), abs=0.051
    )
    assert numbers([row[4]]) == pytest.approx(
        three(value(frame, what="mean_reverse_kl", **at)), rel=6e-3
    )


def test_the_floor_of_a_row_of_bins_is_its_largest_and_undefined_where_none_is_known(
    page: Any,
) -> None:
    frame = category_kl(("base",))
    bins = (frame["what"] == "reverse_kl") & (frame["view"] == "fresh")
    frame.loc[
        bins & (frame["category"] == "planning") & (frame["position_low"] == 5), "noise_floor"
    ] = 3e-6
    frame.loc[bins & (frame["category"] == "rest"), "noise_floor"] = math.nan
    rows = {
        row[0]: row
        for row in section(table(page("category-kl", frame), "Mean reverse KL by kind"), "base")
    }
    assert (rows["planning"][-1], rows["rest"][-1]) == ("3e-6", "\u2013")


def test_tokens_are_listed_from_the_highest_mean_and_printed_as_they_are(page: Any) -> None:
    tokens = ("[bold]", "\\", "[/]", ":smile:", "=")
    frame = category_kl(("base",), tokens)
    rows = section(table(page("category-kl", frame), "The 10 tokens"), "base")
    assert [row[0] for row in rows] == list(reversed(tokens))  # the fixture's values ascend
    one = value(frame, what="token_mean_reverse_kl", token="[bold]", view="fresh")
    assert numbers([rows[-1][3]]) == pytest.approx(three(one), rel=6e-3)
    assert rows[-1][1:3] == ["rest", "900"]
    none = frame[~frame["what"].str.startswith("token_m")]
    assert "occur at least 50 times; \u2423 is a space, \u21b5 a line's end: none" in " ".join(
        page("category-kl", none).split()
    )


def test_submode_prints_the_common_set_alone_unless_all_is_wanted(page: Any) -> None:
    text = page("submode", submode(NAMES), verbose=False)
    shares = table(text, "The student's most likely")
    labels = [row[0] for row in shares]
    assert labels.count("common") == labels.count("common, two modes") == 1
    assert len([row for row in shares if row[0] in NAMES]) == 2 * len(NAMES)
    assert not any(label.startswith("own,") for label in labels)
    untrained = page("submode", submode(("base",)), verbose=False)
    assert "own, fresh" in untrained and "The same where" not in untrained


def test_submode_prints_each_set_of_each_model_and_changes_on_the_common_one(page: Any) -> None:
    frame = submode(NAMES)
    text = page("submode", frame)
    shares, changes = table(text, "The student's most likely"), table(text, "Change against base")
    own = table(text, "The same where the reverse KL of each model itself is highest")
    for name, condition, view in (
        ("common", "common", "frozen"),
        ("own, fresh", "own", "fresh"),
        ("own, frozen", "own", "frozen"),
    ):
        rows = section(shares if name == "common" else own, name)
        lines = lines_of(rows, "ckpt-60")
        for column, what in enumerate((*RANKS, "two_mode_share"), 1):
            one = value(frame, what=what, condition=condition, view=view, checkpoint="ckpt-60")
            assert numbers([line[column] for line in lines]) == pytest.approx(
                three(one, 100), abs=0.051
            )
    (row,) = [row for row in section(changes, "common, two modes") if row[0] == "ckpt-20"]
    one = value(
        frame,
        what="equals_teacher_top1_change",
        condition="common, two modes",
        checkpoint="ckpt-20",
    )
    assert numbers([row[2]]) == pytest.approx(three(one, 100), abs=0.051)
    assert row[2].startswith("+")
    (wordy,) = [row for row in table(text, "Verbose") if row[0] == "ckpt-60"]
    assert numbers([wordy[1]]) == pytest.approx(
        three(value(frame, what="wordy_share", checkpoint="ckpt-60"), 100), abs=0.051
    )


def test_signals_prints_n_with_the_horizon_of_its_own_curve(page: Any) -> None:
    frame = signals(NAMES)
    text = page("signals", frame, advice=ADVICE)
    rows = {
        row[0]: row
        for row in section(table(text, "N: the response tokens that hold 45 %"), "ckpt-20")
    }
    for curve, horizon in (("survivors", "89"), ("mass", "94")):
        row = rows[diagnostics.CURVES[curve]]
        one = value(frame, what="cumulative_kl_position", condition=curve, checkpoint="ckpt-20")
        assert numbers([row[1]]) == pytest.approx(three(one), abs=0.051)
        assert row[3] == horizon
    first = text.index("Stop after 41 tokens [sic].\nIt is cheap.\nNext: Compare: ")
    assert first < text.index("by response position"), "the advice is the verdict"
    assert "Next: Compare: `decaylab sweep` (1 h)." in text and "runs/one/advice.txt" in text
    assert "Advice" not in page("signals", frame)


def test_signals_prints_selectors_and_the_strongest_overlaps_first(page: Any) -> None:
    frame = signals(("base",))
    text = page("signals", frame)
    rows = {row[0]: row for row in section(table(text, "Selectors, each choosing 20"), "base")}
    share = value(frame, what="selector_kl_share", condition="top-reverse-kl-x-student-entropy")
    assert numbers([rows["top-reverse-kl x student-entropy"][1]]) == pytest.approx(
        three(share, 100), abs=0.051
    )
    pairs = section(table(text, "The 5 pairs"), "base")
    assert [row[:2] for row in pairs] == [
        ["suffix", "middle"],
        ["prefix", "middle"],
        ["prefix", "suffix"],
    ]
    (top,) = [row for row in table(text, "Concentration") if row[0] == "base"]
    found = frame[frame["what"] == "kl_concentration"]["value"]
    assert [numbers([cell])[0] for cell in top[1:]] == pytest.approx(list(100 * found), abs=0.051)


def test_behaviour_prints_lengths_in_tokens_and_accuracy_under_each_rule(page: Any) -> None:
    frame = behaviour(NAMES)
    text = page("behaviour", frame)
    (row,) = [row for row in table(text, "Response length") if row[0] == "ckpt-20"]
    one = value(frame, what="response_tokens_p90", checkpoint="ckpt-20")
    assert numbers([row[3]]) == pytest.approx(three(one), abs=0.051)
    grades = table(text, "Accuracy under each")
    assert grades[0][1:] == ["last_boxed", "anywhere"]
    for name, what in (("right", "accuracy"), ("no answer found", "no_answer_share")):
        (row,) = [row for row in section(grades, name) if row[0] == "ckpt-60"]
        one = value(frame, what=what, condition="anywhere", checkpoint="ckpt-60")
        assert numbers([row[2]]) == pytest.approx(three(one, 100), abs=0.051)
    (row,) = [row for row in section(grades, "right, change against base") if row[0] == "teacher"]
    one = value(frame, what="accuracy_change", condition="last_boxed", checkpoint="teacher")
    assert numbers([row[1]]) == pytest.approx(three(one, 100), abs=0.051)
    assert "ckpt-20 60 and 30" in text


def test_evaluate_prints_each_quantity_by_the_reported_rule_and_avg_at_k_by_every_rule(
    page: Any,
) -> None:
    frame = evaluate(NAMES)
    frame = frame.sort_values("condition", key=lambda column: column == "anywhere", kind="stable")
    text = page("evaluate", frame)
    levels = table(text, "Accuracy by the rule first_boxed, %")
    assert levels[0] == ["model", "avg@2", "maj@2", "pass@2"]  # pass@1 is avg@2
    (row,) = [row for row in levels if row[0] == "ckpt-20 (best)"]
    for cell, what in zip(row[1:], ("avg_at_2", "maj_at_2", "pass_at_2"), strict=True):
        one = value(frame, what=what, checkpoint="ckpt-20", condition="first_boxed", view="fresh")
        assert numbers([cell]) == pytest.approx(three(one, 100), abs=0.051)
    rules = table(text, "avg@2 under each answer rule")
    assert rules[0][1:] == ["first_boxed", "anywhere"]
    (row,) = [
        row for row in section(rules, "difference from the teacher") if row[0] == "ckpt-60 (last)"
    ]
    one = value(
        frame,
        what="avg_at_2_minus_teacher",
        checkpoint="ckpt-60",
        condition="anywhere",
        view="fresh",
    )
    assert numbers([row[2]]) == pytest.approx(three(one, 100), abs=0.051) and row[2].startswith("+")


def test_evaluate_prints_differences_with_what_could_have_been_seen(page: Any) -> None:
    frame = evaluate(NAMES)
    frame = frame.sort_values("condition", key=lambda column: column == "anywhere", kind="stable")
    text = page("evaluate", frame)
    rows = section(
        table(text, "Difference from base on the same problems, by the rule first_boxed"), "maj@2"
    )
    assert [row[0] for row in rows] == ["ckpt-20 (best)", "ckpt-60 (last)"]
    at = {"checkpoint": "ckpt-60", "condition": "first_boxed", "view": "fresh"}
    change, least = (
        value(frame, what=f"maj_at_2_minus_base{end}", **at) for end in ("", "_detectable")
    )
    assert numbers([rows[1][1]]) == pytest.approx(three(change, 100), abs=0.051)
    assert rows[1][2] == "0.031"
    assert numbers([rows[1][3]])[0] == pytest.approx(100 * least.value, abs=0.051)
    assert [row[0] for row in section(table(text, "Difference from the teacher"), "avg@2")] == [
        "base",
        "ckpt-20 (best)",
        "ckpt-60 (last)",
    ]


def test_evaluate_prints_the_two_checkpoint_rules_side_by_side(page: Any) -> None:
    frame = evaluate(NAMES)
    rows = table(page("evaluate", frame), "What each checkpoint rule takes, avg@2 by first_boxed")
    assert [row[:2] for row in rows[1:]] == [["last", "ckpt-60"], ["best", "ckpt-20"]]
    one = value(
        frame,
        what="avg_at_2_minus_teacher",
        checkpoint="ckpt-20",
        condition="first_boxed",
        view="best",
    )
    assert numbers([rows[2][5]]) == pytest.approx(three(one, 100), abs=0.051)
    assert "What each checkpoint rule takes" not in page("evaluate", evaluate(("base",)))


def test_what_is_undefined_is_shown_as_such_with_its_reason(page: Any) -> None:
    rows = [Measurement(**one) for one in position_kl(("base",)).to_dict("records")]
    empty = {
        "value": math.nan,
        "low": math.nan,
        "high": math.nan,
        "noise_floor": math.nan,
        "tokens": 0,
        "problems": 0,
    }
    bins = [i for i, row in enumerate(rows) if row.position_low == 6 and "reverse_kl" in row.what]
    for i in bins[:3]:
        rows[i] = dataclasses.replace(rows[i], **empty, note="no tokens")
    text = page("position-kl", to_frame(rows))
    assert section(table(text, "Reverse KL of the student"), "base")[-1] == [
        "6+",
        *["\u2013"] * 4,
        "0",
        "0",
    ]
    assert "- \u2013: no tokens (3 numbers of base)" in text
    assert "nan" not in text


def test_numbers_under_twice_their_floor_are_marked_and_the_mark_explained(page: Any) -> None:
    frame = position_kl(NAMES)
    assert MARK not in page("position-kl", frame)
    weak = (
        (frame["what"] == "winsorised_reverse_kl_relative_change")
        & (frame["view"] == "frozen")
        & (frame["position_low"] == 5)
    )
    frame.loc[weak & (frame["checkpoint"] == "ckpt-60"), "under_floor"] = True
    text = page("position-kl", frame)
    marked = [line for line in text.splitlines() if re.search(rf"\d{MARK}", line)]
    (line,) = marked
    assert [bool(re.search(MARK, cell)) for cell in re.split("│", line)[1:-1]].index(True) == 4
    assert (
        f"{MARK}: closer to no effect than twice its floor, so rounding may explain it (1 of "
        in text
    )


def test_a_floor_that_was_not_measured_is_said_to_be_so(page: Any) -> None:
    frame = position_kl(("base",)).assign(noise_floor=math.nan)
    assert "floor: not measured" in page("position-kl", frame)
    assert "floor: not measured" not in page("position-kl", position_kl(("base",)))


@pytest.mark.parametrize(
    ("unit", "what", "number", "text"),
    [
        ("nats", "reverse_kl", 0.3, "0.300"),
        ("nats", "reverse_kl", 0.00012345, "1.2e-4"),
        ("ratio", "cascade_ratio", 123.4, "123"),
        ("tokens", "response_tokens_p50", 1234.0, "1,234.0"),
        ("fraction", "kl_share", 0.30149, "30.1"),
        ("fraction", "reverse_kl_relative_change", 0.30149, "+30.1"),
        ("nats", "reverse_kl", math.nan, "\u2013"),
    ],
)
def test_a_number_keeps_three_digits_and_a_fraction_is_in_per_cent(
    unit: str, what: str, number: float, text: str
) -> None:
    source = Source(to_frame([Measurement(what, "all", number, unit)]))
    table = Table.of("", [source.line([shown(what, "number")])])
    assert table.printed(table.rows[0]) == [text]


@pytest.mark.parametrize("span", [(0.0, 5.0), (5.0, 6.0), (6.0, math.inf)])
def test_a_bin_is_named_by_its_first_and_last_position(span: tuple[float, float]) -> None:
    named = positions(span)
    inside = [position for position in range(12) if span[0] <= position < span[1]]
    first, _, last = named.rstrip("+").partition("-")
    assert (int(first), int(last or first)) == (
        inside[0],
        inside[0] if named.endswith("+") else inside[-1],
    )
