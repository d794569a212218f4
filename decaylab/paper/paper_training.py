"""The published numbers of trained students; `decaylab.paper.publication` has them all.

Arms are called as sweeps call them: ``base``, ``teacher``, ``prefix-100`` (ESR at 100 tokens),
``full``, ``random-100``. Of each run the best step was published, chosen on the test problems: view
``best``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd

from decaylab.paper.paper_rows import PERCENT, PROBLEMS, SAMPLES, published, row
from decaylab.runs.measurements import Measurement, to_frame

# selector of token_selection.csv -> ours
SELECTORS = {
    "esr_prefix": "prefix",
    "full_sequence": "full",
    "top_reverse_kl": "top-reverse-kl",
    "top_teacher_entropy": "top-teacher-entropy",
    "top_student_entropy": "top-student-entropy",
    "reverse_kl_x_student_entropy": "top-reverse-kl-x-student-entropy",
    "teacher_entropy_x_student_entropy": "top-teacher-entropy-x-student-entropy",
    "reverse_kl_x_teacher_entropy_x_student_entropy": "top-all-three",
    "random": "random",
    "last": "suffix",
    "middle": "middle",
    "baseline": "",
}
ARMS = {"full_rollout": "full", "esr_50": "prefix-50", "esr_100": "prefix-100"}
# method of main_results.csv and scaling.csv -> arm, selector and rollout length
METHODS: dict[str, tuple[str, str, float]] = {
    "student": ("base", "", math.nan),
    "teacher": ("teacher", "", math.nan),
    "full_rollout": ("full", "full", math.inf),
    "esr": ("prefix-100", "prefix", 100.0),
}
# column of those -> quantity, task, problems where they are stated, rollouts
RESULTS = {
    "math500_avg4": ("avg_at_4", "math500", PROBLEMS, PROBLEMS * SAMPLES),
    "math500_pass4": ("pass_at_4", "math500", PROBLEMS, PROBLEMS * SAMPLES),
    "humaneval_pass1": ("pass_at_1", "humaneval", 0, 0),
    "humaneval_plus_pass1": ("pass_at_1", "humaneval_plus", 0, 0),
    "bfcl_full_acc": ("full_accuracy", "bfcl", 600, 600),
}


def main_results() -> pd.DataFrame:
    """Published results of two pairs over tasks, as fractions of 1: base, teacher, full rollout and
    ESR at 100 tokens.

    ``run`` ends in the pair, "Gemma-2-2B under Gemma-3-4B"; ``condition`` is the task: ``math500``
    (avg_at_4, pass_at_4), ``humaneval`` and ``humaneval_plus`` (pass_at_1 at T = 0), ``bfcl``
    (full_accuracy: name and arguments of the call). View ``best`` of what was trained: the best
    step, chosen on the test problems. No answer rule is stated.

    Source: main table.
    """
    table = published("main_results").assign(regime="")
    return to_frame(_results(table, "main table"))


def scaling() -> pd.DataFrame:
    """Published avg@4 and pass@4 on MATH-500 by pair and regime, as fractions of 1; rows as in
    `main_results`.

    ``condition`` is the regime: ``lora``, or ``full_ft``, where every weight is trained. Base and
    teacher stand with LoRA.

    Source: full fine-tuning and scaling table.
    """
    return to_frame(_results(published("scaling"), "full fine-tuning and scaling table"))


def _results(table: pd.DataFrame, place: str) -> Iterator[Measurement]:
    for line in table.to_dict("records"):
        arm, selector, length = METHODS[line["method"]]
        for column, (what, task, problems, rollouts) in RESULTS.items():
            if column in line:
                yield row(
                    what,
                    line["regime"] or task,
                    line[column] / PERCENT,
                    "fraction",
                    place,
                    pair=f"{line['student']} under {line['teacher']}",
                    view="best" if selector else "fresh",
                    checkpoint=arm,
                    selector=selector,
                    rollout_length=length,
                    problems=problems,
                    rollouts=rollouts,
                    estimand="one training run" if selector else "mean over rollouts",
                )


def n_sweep() -> pd.DataFrame:
    """Published avg@4 against the rollout length N, as fractions of 1, in the rows that
    `analyses.sweep` gives.

    View ``best``: of each run the best step, chosen on the test problems. Arms ``prefix-N`` and
    ``full``, and ``base``.

    Source: Fig. 1 right.
    """
    rows = []
    for length, percent, _ in published("n_sweep").itertuples(index=False):
        if length == "0":
            rows.append(_accuracy(percent, "base", "Fig. 1 right"))
            continue
        arm, stop = ("full", math.inf) if length == "full" else (f"prefix-{length}", float(length))
        rows.append(
            _accuracy(percent, arm, "Fig. 1 right", selector=arm.split("-")[0], rollout_length=stop)
        )
    return to_frame(rows)


def token_selection() -> pd.DataFrame:
    """Published avg@4 of each selector at its budget, in the rows that `analyses.sweep` gives;
    ``top-reverse-kl-100``.

    View ``best``, as in `n_sweep`. What stands in an early draft alone says so in ``note``.

    Source: Fig. 2 and table of section 5.1.
    """
    rows = []
    for selector, budget, percent, place in published("token_selection").itertuples(index=False):
        name = SELECTORS[selector]
        arm = "base" if not name else name if math.isnan(budget) else f"{name}-{budget:.0f}"
        how = (
            {"selector": name, "rollout_length": float(budget) if name == "prefix" else math.inf}
            if name
            else {}
        )
        rows.append(_accuracy(percent, arm, place, **how))
    return to_frame(rows)


def per_step() -> pd.DataFrame:
    """Published accuracy at each checkpoint, in the rows that `analyses.stability` gives;
    ``condition`` is the setting.

    Settings ``math500_n1`` and ``_n16`` (avg@4, 1 and 16 rollouts a problem in training) and
    ``humaneval`` (pass@1).

    Source: per-step tables.
    """
    return to_frame(
        row(
            "accuracy",
            setting,
            percent / PERCENT,
            "fraction",
            f"per-step tables, {metric}",
            view="test",
            checkpoint=ARMS[method],
            step=float(step),
        )
        for setting, method, metric, step, percent in published("per_step").itertuples(index=False)
    )


def efficiency() -> pd.DataFrame:
    """Published seconds a step and peak memory of each phase, in the rows that
    `analyses.efficiency` gives.

    Memory, ``peak_gb``, is in GB as printed. Its ``total`` is the sum of the phases, which no
    device needs at once; ours is the largest of them.

    Source: efficiency table.
    """
    phases = {
        "teacher_scoring": "scoring",
        "student_generation": "generation",
        "student_training": "training",
    }
    rows = []
    for phase, *numbers in published("efficiency").itertuples(index=False):
        for place, value in enumerate(numbers):
            what, unit = (
                ("seconds_per_step", "seconds") if place < 2 else ("peak_gb", "GB as printed")
            )
            arm, condition = ("prefix-100", "full")[place % 2], phases.get(phase, "total")
            rows.append(
                row(
                    what,
                    condition,
                    value,
                    unit,
                    "efficiency table",
                    view="training",
                    checkpoint=arm,
                )
            )
    return to_frame(rows)


def _accuracy(percent: float, arm: str, place: str, **how: Any) -> Measurement:
    """avg@4 of the best step of one run."""
    return row(
        f"avg_at_{SAMPLES}",
        "",
        percent / PERCENT,
        "fraction",
        place,
        view="best",
        checkpoint=arm,
        estimand="one training run",
        problems=PROBLEMS,
        rollouts=PROBLEMS * SAMPLES,
        **how,
    )
