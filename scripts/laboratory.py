"""What the decay of the embedded pair depends on: style, length, notation, repair.

    python scripts/laboratory.py runs/experiment      # laboratory.csv and styles.csv in that folder

In laboratory.csv each row is the prefix-decay measurement over a part of the student's rollouts, by
a property that the embedded world can check. Style and notation are those of the rollout's first
step; length is the problem's number of steps. styles.csv holds the accuracy of each style before
and after training, over the seeds of an arm.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

import decaylab
from decaylab import estimates
from decaylab.analyses import prefix_decay
from decaylab.problems import abacus
from decaylab.problems.abacus_checking import check_steps, style
from decaylab.problems.sets import load_problems
from decaylab.runs.vocabulary import DIFFERENCE, HALF_DECAY, STUDENT, STUDENT_PREFIX, TEACHER

LENGTHS = (10, 20, 40, 60, 80, 120, 160)
KEPT = (DIFFERENCE, HALF_DECAY)
Reader = Callable[[str, tuple[abacus.Step, ...]], str]


def _first_equation(text: str, steps: tuple[abacus.Step, ...]) -> tuple[str, str]:
    """The first step that the response writes, and what stands before it on its line."""
    written = check_steps(text, steps).written
    if not written:
        return "", ""
    start, end = written[0].start, written[0].end
    return text[start:end], text[text.rfind("\n", 0, start) + 1 : start]


def _delimiters(text: str, steps: tuple[abacus.Step, ...]) -> str:
    equation, before = _first_equation(text, steps)
    if not equation:
        return "no step"
    return "LaTeX" if before.endswith("\\(") else "plain"


def _spacing(text: str, steps: tuple[abacus.Step, ...]) -> str:
    equation, _ = _first_equation(text, steps)
    if not equation:
        return "no step"
    return "spaced" if " = " in equation else "tight"


PROPERTIES: dict[str, Reader] = {
    "all": lambda text, steps: "all",
    "style": lambda text, steps: style(text),
    "notation: delimiters": _delimiters,
    "notation: spacing": _spacing,
    "length: steps of the problem": lambda text, steps: "5 or 6" if len(steps) <= 6 else "7 or 8",
}
LEAST_ROLLOUTS = 30


def measure(rollouts: pd.DataFrame, limit: int) -> pd.DataFrame:
    """Teacher decay over each part of the student's rollouts: rows of the measurements table, with
    the property and its value."""
    asked = load_problems("abacus", limit=limit).problems
    problems = {problem.problem_id: problem for problem in asked}
    student = rollouts[rollouts["condition"] == STUDENT]
    settings = prefix_decay.Settings(
        prefix_lengths=LENGTHS, answer_rule="last_boxed", split_by_fate=True, seed=0
    )
    parts = []
    for name, reader in PROPERTIES.items():
        values = [
            reader(text, problems[problem].steps or ())
            for text, problem in zip(student["text"], student["problem_id"], strict=True)
        ]
        for value, kept in student.groupby(pd.Series(values, student.index)):
            if len(kept) >= LEAST_ROLLOUTS:
                measured = prefix_decay.measure(_part(rollouts, kept), settings)
                measured.insert(0, "value_of_property", value)
                measured.insert(0, "property", name)
                parts.append(measured)
    table = pd.concat(parts, ignore_index=True)
    return table[table["what"].isin(KEPT)].dropna(axis="columns", how="all")


def _part(rollouts: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """These rollouts of the student, their continuations, and the teacher on their problems."""
    of_kept = rollouts["prefix_rollout_id"].isin(kept["rollout_id"])
    same = rollouts["problem_id"].isin(kept["problem_id"])
    frames = [
        kept,
        rollouts[(rollouts["condition"] == STUDENT_PREFIX) & of_kept],
        rollouts[(rollouts["condition"] == TEACHER) & same],
    ]
    return pd.concat(frames, ignore_index=True)


def by_style(rollouts: pd.DataFrame) -> pd.DataFrame:
    """Share of each style and its accuracy, by the arm that wrote the rollouts; the intervals
    resample problems.

    rollouts: of a behaviour run, with their writers and texts.
    """
    arms = rollouts["writer"].str.replace(r"-seed-\d+$", "", regex=True)
    styles = rollouts["text"].map(style)
    rows = []
    for (arm, name), part in rollouts.groupby([arms.rename("arm"), styles.rename("style")]):
        if len(part) >= LEAST_ROLLOUTS:
            correct = part["grade_last_boxed"] == "correct"
            found = estimates.proportion(correct, part["problem_id"].astype("category").cat.codes)
            share = len(part) / (arms == arm).sum()
            rows.append((arm, name, len(part), share, found.value, found.low, found.high))
    return pd.DataFrame(rows, columns=["arm", "style", "rollouts", "share", "value", "low", "high"])


def main() -> None:
    experiment = Path(sys.argv[1])
    rollouts = pd.read_parquet(experiment / "prefix-decay" / "rollouts.parquet")
    parts = measure(rollouts, rollouts["problem_id"].nunique())
    parts.to_csv(experiment / "laboratory.csv", index=False)
    behaviour = decaylab.open_run(experiment / "trained-behaviour")
    by_style(behaviour.rollouts).to_csv(experiment / "styles.csv", index=False)


if __name__ == "__main__":
    main()
