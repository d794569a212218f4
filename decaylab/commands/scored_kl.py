"""The reverse KL of a run's student rollouts by problem, out of the tokens that the run scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from decaylab.commands.comparable import ComparedRun
from decaylab.runs import measurements, vocabulary
from decaylab.runs.vocabulary import ALL, BASE, FRESH, MEAN_KL
from decaylab.tokens import score_store

CLOSE = 1e-5
"""Relative difference up to which a mean over the tokens is the one that the run reports."""


def by_problem(run: ComparedRun) -> tuple[pd.DataFrame | None, str]:
    """Of each problem the ``sum`` of the reverse KL in nats and the ``count`` of its tokens.

    Indexed by problem_id. None where they cannot be had, with a note that says why.

    Of the untrained student on its own rollouts.

    Raises:
        UserError: a table of scores that is damaged or of another version.
    """
    folders = run.record.get("tokens") or [""]
    path = Path(folders[0]) / "tokens.parquet"
    if not folders[0] or not path.exists():
        again = run.record.get("command", "its command")
        return None, f"{run.folder}: its scored tokens are gone, no KL; `{again}` scores them again"
    score_store.check_tokens(path)
    rows = pq.read_table(path, columns=["rollout_id", "reverse_kl"]).to_pandas()
    rows = rows[rows["reverse_kl"].notna()]  # with two tokenizers it is known at some tokens
    rollouts = rows["rollout_id"].astype(str)
    # A rollout is named student/PROBLEM/SAMPLE, and a problem's name may hold a slash itself.
    problems = rollouts.str.partition("/")[2].str.rpartition("/")[0]
    kl = rows["reverse_kl"].to_numpy(dtype=np.float64)
    grouped = pd.Series(kl).groupby(problems.to_numpy())
    table = pd.DataFrame({"sum": grouped.sum(), "count": grouped.size().astype(float)})
    if not _is_reported(run, float(kl.mean())):
        return None, f"{run.folder}: tools or users wrote parts of its rollouts, no KL"
    return table, ""


def _is_reported(run: ComparedRun, mean: float) -> bool:
    """Whether a mean over all tokens is the one that the run reports, where it reports one."""
    frame = measurements.read(run.folder / "measurements.parquet")
    rows = vocabulary.select(frame, what=MEAN_KL, checkpoint=BASE, view=FRESH, condition=ALL)
    if rows.empty or rows["estimand"].iloc[0] != "mean over tokens":
        return True
    return bool(np.isclose(rows["value"].iloc[0], mean, rtol=CLOSE, atol=1e-9))
