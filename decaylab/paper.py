"""The published numbers of arXiv 2605.27028, read from ``data/paper``, whose README has origins and traps."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from decaylab.measurements import Measurement, to_frame

SOURCE = "arXiv 2605.27028"
PERCENT = 100.0
PROBLEMS, SAMPLES = 500, 4  # MATH-500, avg@4
SETTING = "Qwen2.5-Math-1.5B and Qwen3-1.7B on MATH-500, avg@4 at T = 0.7, single seed"
SETTING = "Qwen2.5-Math-1.5B and Qwen3-1.7B on MATH-500, avg@4 at T = 0.7, single seed"
# direction of prefix_curve.csv -> condition of the curve, and condition at length 0: the continuing policy alone
DIRECTIONS = {
    "student_prefix_teacher_continues": ("student-prefix", "teacher"),
    "teacher_prefix_student_continues": ("reverse", "student"),
}


def published(name: str) -> pd.DataFrame:
    """A published table as it stands, such as ``prefix_curve`` or ``main_results``: per cent and nats as printed.

    Raises:
        ValueError: no table of that name.
    """
    folder = resources.files("decaylab.data.paper")
    file = folder / f"{name}.csv"
    if not file.is_file():
        known = sorted(entry.name.removesuffix(".csv") for entry in folder.iterdir() if entry.name.endswith(".csv"))
        raise ValueError(f"no published table {name!r}; there are {', '.join(known)}")
    with file.open("rb") as handle:
        return pd.read_csv(handle)


def prefix_curve() -> pd.DataFrame:
    """Published accuracy after a prefix, as fractions of 1, in the rows that `analyses.prefix_decay` gives.

    Conditions ``student-prefix`` and ``reverse`` (carry-forward), with ``teacher`` and ``student`` alone at length 0.
    No interval was published: low, high and band are NaN. The answer rule was not published either, and is empty.

    Source: Fig. 1 left; the reverse direction and the student alone of that file are an early draft's (see ``note``),
    but the student's 50.95 % is in the main table too.
    """
    return to_frame(
        Measurement(
            what="accuracy",
            condition=DIRECTIONS[direction][int(tokens == 0)],
            value=percent / PERCENT,
            unit="fraction",
            view="all" if tokens == 0 else "carry-forward",
            prefix_tokens=float(tokens),
            method="published, no interval",
            estimand="mean over rollouts",
            problems=PROBLEMS,
            rollouts=PROBLEMS * SAMPLES,
            run=SOURCE,
            note=f"{SOURCE}, {source}; {SETTING}",
        )
        for direction, tokens, percent, source in published("prefix_curve").itertuples(index=False)
    )
