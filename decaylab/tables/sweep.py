"""What ``decaylab sweep`` prints: each arm over its seeds and seed by seed, against base and full
rollout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
from rich.console import RenderableType

from decaylab.options.sweeping import SELECTOR
from decaylab.tables import terminal

if TYPE_CHECKING:
    from decaylab.commands.sweeps import SweepResult

THESE, SEEDS, ONE = (
    "mean over rollouts, over these seeds",
    "mean over training seeds",
    "one training run",
)


def print_sweep(result: SweepResult) -> None:
    """The tables, what must be known to read them, and where everything stands."""
    console = terminal.terminal()
    options, frame = result.record["identity"]["options"], result.measurements
    rule = str(frame.loc[frame["what"].str.startswith("avg_at_"), "answer_rule"].iloc[0])
    views = [view for view in ("last", "best") if (frame["view"] == view).any()]
    what, seeds = f"avg_at_{options['samples']}", options["seeds"]
    problems = int(frame.loc[frame["what"] == what, "problems"].max())
    console.print(
        f"\n[bold]Sweep over {options['over']}[/bold]: {seeds} seed{'s' * (seeds > 1)}, "
        f"{problems} test problems x "
        f"{options['samples']}, answer rule {rule}, {' and '.join(views)} checkpoint",
        soft_wrap=not console.is_terminal,
    )
    for view in views:
        rows = frame[(frame["condition"] == rule) & (frame["view"].isin([view, "fresh"]))]
        ending = f", {view} checkpoint" if len(views) > 1 else ""
        console.print(_arms(rows, what, ending))
        console.print(_differences(rows, what, ending))
    if options["over"] == SELECTOR:
        console.print(_selections(frame))
    for line in (*READING, *(f"note: {note}" for note in result.notes)):
        console.print(f"- {line}", markup=False, soft_wrap=not console.is_terminal)
    console.print(f"\nfigures and measurements: {result.folder}", markup=False, soft_wrap=True)


READING = (
    "over problems: holds for other problems and these seeds; over seeds (Student's t): for other "
    "seeds and these problems",
    "p (Holm): sign-flip test over problems, corrected over the arms; detectable: with 80 % "
    "power, over problems",
)


def _pick(rows: pd.DataFrame, what: str, arm: str, estimand: str) -> pd.DataFrame:
    return rows[
        (rows["what"] == what) & (rows["checkpoint"] == arm) & (rows["estimand"] == estimand)
    ]


def _cell(rows: pd.DataFrame, *, signed: bool = False) -> str:
    return terminal.percent(rows, signed=signed) if len(rows) else ""


def _arms(rows: pd.DataFrame, what: str, ending: str) -> RenderableType:
    lines = []
    for arm in rows.loc[rows["what"] == what, "checkpoint"].unique():
        singly = _pick(rows, what, arm, ONE)
        numbers = " ".join(f"{100 * value:.1f}" for value in singly["value"])
        several = _pick(rows, what, arm, THESE)
        one = (
            several if len(several) else rows[(rows["what"] == what) & (rows["checkpoint"] == arm)]
        )
        lines.append([arm, _cell(one[:1]), _cell(_pick(rows, what, arm, SEEDS)), numbers])
    columns = ["arm", "over problems", "over seeds", "each seed"]
    return terminal.titled(
        f"Right, {what.replace('_at_', '@')}, %{ending}",
        terminal.grid(columns, lines, False, left=("arm", "each seed")),
    )


def _differences(rows: pd.DataFrame, what: str, ending: str) -> RenderableType:
    lines = []
    for arm in rows.loc[rows["what"] == f"{what}_minus_base", "checkpoint"].unique():
        cells = [arm]
        for other in ("base", "full"):
            found = _pick(rows, f"{what}_minus_{other}", arm, THESE)
            found = found if len(found) else _pick(rows, f"{what}_minus_{other}", arm, ONE)
            cells += [
                _cell(found[:1], signed=True),
                terminal.p_value(found["p_value_holm"].iloc[0]) if len(found) else "",
            ]
            if other == "full":
                least = _pick(rows, f"{what}_minus_full_detectable", arm, THESE)
                cells += [
                    _cell(least[:1]),
                    _cell(_pick(rows, f"{what}_minus_full", arm, SEEDS), signed=True),
                ]
        lines.append(cells)
    columns = [
        "arm",
        "less base",
        "p (Holm)",
        "less full",
        "p (Holm)",
        "detectable",
        "less full, over seeds",
    ]
    return terminal.titled(
        f"Differences on the same problems, points{ending}",
        terminal.grid(columns, lines, False, left=("arm",)),
    )


def _selections(frame: pd.DataFrame) -> RenderableType:
    lines = []
    rows = frame[frame["estimand"] == SEEDS]
    rows = rows if (rows["what"] == "selected_kl_share").any() else frame[frame["estimand"] == ONE]
    for arm in rows.loc[rows["what"] == "selected_kl_share", "checkpoint"].unique():
        found = {
            what: part["value"].iloc[0]
            for what, part in rows[rows["checkpoint"] == arm].groupby("what")
        }
        lines.append(
            [
                arm,
                f"{found['mean_selected_position']:.1f}",
                f"{100 * found['selected_kl_share']:.1f}",
                f"{found['tokens_selected']:,.0f}",
                f"{found['tokens_sampled']:,.0f}",
            ]
        )
    columns = ["arm", "mean position", "share of KL, %", "tokens with loss", "tokens sampled"]
    return terminal.titled(
        "What the selection took, means over seeds",
        terminal.grid(columns, lines, False, left=("arm",)),
    )
