"""Rollouts and tokens of a finished run as tidy DataFrames.

Their columns are explained by `decaylab.api.columns`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from decaylab.api.columns import without_empty
from decaylab.errors import UserError
from decaylab.runs import outcomes, own_tokens, sources, store
from decaylab.runs.vocabulary import BASE, FRESH, TEACHER
from decaylab.tokens import score_store, served_scores

WRITER = "writer"
"""The policy that wrote a rollout, in both frames: base, teacher, or the label of a checkpoint."""
SCORES_NO_TOKENS = ("prefix-decay", "behaviour", "evaluate")


def rollouts(run: store.RunFolder, command: str) -> pd.DataFrame:
    """The rollouts of a run, one row each; their ids are unique within the run.

    Raises:
        UserError: the run kept none, or they are gone.
    """
    if command == "compare":
        raise UserError(f"{run.path} compares other runs and has no rollouts; open one of those")
    if command == "train":
        raise UserError(
            f"{run.path} is a training run, which keeps no rollouts; "
            f'dl.evaluate("{run.path}").rollouts has some of each checkpoint'
        )
    if command in ("prefix-decay", "values"):
        frame = store.read_table(run.path / "rollouts.parquet", store.ROLLOUTS).to_pandas()
    elif command.startswith("sweep"):
        frame = _of_sweep(run)
    else:
        frame = _of_diagnostic(run)
    return without_empty(frame)


def _of_sweep(run: store.RunFolder) -> pd.DataFrame:
    """The outcomes of each training run's evaluation."""
    record = run.record or {}
    folder = sources.found(record["runs"], run)
    tables = []
    for name in record["identity"]["runs"]:
        table = outcomes.read(folder / name / "evaluate" / "outcomes.parquet")
        table = table.rename(columns={"checkpoint": WRITER})
        table.insert(0, "run", name)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _of_diagnostic(run: store.RunFolder) -> pd.DataFrame:
    tables = []
    for label, table in sources.rollouts(run).items():
        frame: pd.DataFrame = table.to_pandas()
        frame["rollout_id"] = _unique(frame["rollout_id"], label)
        frame.insert(0, WRITER, label)
        tables.append(frame)
    return pd.concat(tables, ignore_index=True)


def _unique(rollout_ids: pd.Series, label: str) -> pd.Series:
    """The ids with the checkpoint ahead, since all students name their rollouts alike.

    Those of base and teacher stay as they are: student/... and teacher/...
    """
    if label in (BASE, TEACHER):
        return rollout_ids
    return pd.Series(f"{label}/" + rollout_ids)


def tokens(run: store.RunFolder, command: str) -> pd.DataFrame:
    """Every token that a run scored, one row each, with the statistics of both policies.

    Tokens of tools and users are left out, as in the measurements.

    Raises:
        UserError: the run scored none, or they are gone.
    """
    if command in SCORES_NO_TOKENS:
        raise UserError(
            f"{command} scores no tokens; those of position-kl, category-kl, submode and signals "
            "are kept: dl.position_kl(...).tokens"
        )
    if command in ("train", "compare") or command.startswith("sweep"):
        raise UserError(
            f"{run.path} has no scored tokens; dl.position_kl(CHECKPOINT).tokens has those of a "
            "trained student"
        )
    written = sources.rollouts(run)
    tables = []
    for scored in sources.scored(run):
        writer = scored.checkpoint if scored.view == FRESH else BASE
        frame = _described(_read(scored), written[writer].to_pandas())
        frame["rollout_id"] = _unique(frame["rollout_id"], writer)
        frame.insert(0, "checkpoint", scored.checkpoint)
        frame.insert(1, "view", scored.view)
        frame.insert(2, WRITER, writer)
        tables.append(frame)
    return without_empty(pd.concat(tables, ignore_index=True))


def _read(scored: sources.Scored) -> pd.DataFrame:
    """The table of scored tokens, by a teacher in this process or by a served one."""
    path = scored.folder / "tokens.parquet"
    if scored.folder.name.startswith("served-"):
        frame = store.read_table(path, served_scores.TOKENS).to_pandas()
    else:
        frame = score_store.read(path).to_pandas()
    coded = frame.select_dtypes("category")
    return pd.DataFrame(frame.astype(dict.fromkeys(coded, str)))


def _described(tokens: pd.DataFrame, rollouts: pd.DataFrame) -> pd.DataFrame:
    """Own tokens with their problem and sample; positions count own tokens only."""
    tokens = tokens[_is_own(tokens, rollouts)]
    of_rollout = rollouts[["rollout_id", "problem_id", "sample"]]
    whole = of_rollout.merge(tokens, on="rollout_id", how="right", validate="1:m")
    whole["position"] = whole.groupby("rollout_id", sort=False).cumcount()
    return whole


def _is_own(tokens: pd.DataFrame, rollouts: pd.DataFrame) -> np.ndarray:
    """True at the tokens that the rollout's author wrote, [tokens]."""
    own = np.ones(len(tokens), dtype=bool)
    if own_tokens.MASK in rollouts:
        masked = rollouts.dropna(subset=own_tokens.MASK).set_index("rollout_id")[own_tokens.MASK]
        places = tokens.groupby("rollout_id", sort=False).indices
        for rollout_id, mask in masked.items():
            rows = places.get(rollout_id, [])
            own[rows] = mask[: len(rows)]
    return own
