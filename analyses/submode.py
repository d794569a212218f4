"""Sub-mode commitment: what the student's most likely token is to the teacher, where the two
disagree most.

Scored tokens in, measurements out; no model, no file. Of the tokens with the highest reverse KL,
pooled over rollouts: the student's top-1 probability, and how often its top-1 is the teacher's, in
the teacher's top 2 to 5, or outside its top 5. Which tokens those are makes the comparison:

    common             highest reverse KL averaged over all models, on the frozen rollouts: one set
                       for all, and the only one on which a change is a change of the student
    own                highest reverse KL of the model itself, on the frozen rollouts or on its own
                       (fresh: the paper's way, in which the set changes with the model)
    ..., two modes     of that set, the tokens at which the teacher gives its second token a real
                       chance; elsewhere a rank of 2 to 5 is an error rather than another mode. The
                       set is chosen first.

Every interval resamples problems and knows that the threshold was estimated (``top_share``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.maths import statistics as st
from decaylab.maths import token_means, top_share
from decaylab.maths.clusters import Floats
from decaylab.maths.top_share import TopTokens
from decaylab.problems.abacus import style
from decaylab.runs import own_tokens
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.tokens.token_table import Scored, TokenTable

QUANTITIES = (
    "student_top1_probability",
    "equals_teacher_top1",
    "in_teacher_top2to5",
    "outside_teacher_top5",
)
COLUMNS = ("student_top1_probability", "student_top1_rank", "teacher_top2_probability")


@dataclass(frozen=True)
class Settings:
    """What a measurement is made with.

    share: of all tokens, those of the highest reverse KL. second_mode: least probability of the
    teacher's second token where it has two modes. level: of every interval.
    """

    share: float = 0.10
    second_mode: float = 0.1
    level: float = 0.95
    seed: int = 0
    run: str = ""


@dataclass(frozen=True)
class _OnSet:
    """The means of one model over one set of tokens. rollouts: with a token in the set."""

    checkpoint: str
    view: str
    condition: str
    names: tuple[str, ...]
    means: token_means.CellMeans
    rollouts: int


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """The four quantities of every model on every set of tokens, and on the common set their paired
    change against base.

    Raises ValueError where frozen tables do not hold the same tokens.
    """
    return to_frame(_rows(scored, settings))


def _rows(scored: Sequence[Scored], settings: Settings) -> Iterator[Measurement]:
    common = _common_set([one for one in scored if one.view == "frozen"], settings.share)
    changing: list[_OnSet] = []
    for one in scored:
        tops = {"own": top_share.top_tokens(one.tokens["reverse_kl"], settings.share)}
        if one.view == "frozen" and common is not None:
            tops["common"] = common
        for on_set in _on_sets(one, tops, settings):
            yield from _levels(on_set, settings)
            if on_set.condition.startswith("common") and on_set.names == QUANTITIES:
                changing.append(on_set)
    base = {on_set.condition: on_set for on_set in changing if on_set.checkpoint == "base"}
    for on_set in changing:
        if base and on_set.checkpoint != "base":
            yield from _changes(on_set, base[on_set.condition], settings)


def _common_set(frozen: Sequence[Scored], share: float) -> TopTokens | None:
    """The tokens of the highest reverse KL averaged over the models."""
    if not frozen:
        return None
    lengths = frozen[0].tokens.lengths
    total: Floats = np.zeros(int(lengths.sum()))
    for one in frozen:
        if not np.array_equal(one.tokens.lengths, lengths):
            raise ValueError(
                f"scored: the frozen tokens of {one.checkpoint} are not those of "
                f"{frozen[0].checkpoint}"
            )
        total += np.asarray(one.tokens["reverse_kl"], dtype=np.float64)
    return top_share.top_tokens(total / len(frozen), share)


def _on_sets(one: Scored, tops: Mapping[str, TopTokens], settings: Settings) -> Iterator[_OnSet]:
    """The means over each set, the share of it at which the teacher has two modes, and the means
    over that part."""
    table = one.tokens
    tokens_by_problem = np.bincount(table.problems, table.lengths, table.problem_count).astype(
        np.float64
    )
    at = {column: _at(table, column, tops) for column in COLUMNS}
    for name, top in tops.items():
        rollout = np.searchsorted(table.starts, top.rows, side="right") - 1
        problems = table.problems[rollout]
        two_modes = at["teacher_top2_probability"][name] >= settings.second_mode
        rank = at["student_top1_rank"][name]
        shares = [rank == 1, (rank >= 2) & (rank <= 5), rank > 5]
        values = np.stack([at["student_top1_probability"][name], *shares], axis=1).astype(
            np.float64
        )
        everywhere = np.ones(two_modes.size, dtype=bool)
        for condition, names, columns, counted in (
            (name, QUANTITIES, values, everywhere),
            (name, ("two_mode_share",), two_modes[:, None].astype(np.float64), everywhere),
            (f"{name}, two modes", QUANTITIES, values, two_modes),
        ):
            means = top_share.means(top, columns, problems, tokens_by_problem, counted)
            rollouts = np.unique(rollout[top.inside & counted]).size
            yield _OnSet(one.checkpoint, one.view, condition, names, means, rollouts)


def _at(table: TokenTable, column: str, tops: Mapping[str, TopTokens]) -> dict[str, NDArray[Any]]:
    """A column, read once, at the rows of each set."""
    read: NDArray[Any] = table[column]
    return {name: read[top.rows] for name, top in tops.items()}


def _levels(on_set: _OnSet, settings: Settings) -> Iterator[Measurement]:
    low, high = top_share.interval(on_set.means, level=settings.level)
    method = "clustered Wilson, threshold estimated"
    for cell, name in enumerate(on_set.names):
        yield _row(name, on_set, on_set.means, cell, (low[cell], high[cell]), method, settings)


def _changes(after: _OnSet, before: _OnSet, settings: Settings) -> Iterator[Measurement]:
    """Paired by token. Where no token changed there is no interval: the errors of 0 and 0 say
    nothing about others."""
    change = token_means.difference(after.means, before.means)
    low, high = token_means.interval(change, level=settings.level)
    method = f"paired {change.method}, threshold estimated"
    for cell, name in enumerate(after.names):
        still = change.standard_error[cell] < 1e-12
        ends = (math.nan, math.nan) if still else (max(low[cell], -1.0), min(high[cell], 1.0))
        note = "the same change in every problem: no interval" if still else ""
        yield _row(f"{name}_change", after, change, cell, ends, method, settings, note)


def _row(
    what: str,
    on_set: _OnSet,
    means: token_means.CellMeans,
    cell: int,
    ends: tuple[float, float],
    method: str,
    settings: Settings,
    note: str = "",
) -> Measurement:
    tokens, problems = int(means.tokens[cell]), int(means.problems[cell])
    ranked = (
        "reverse KL averaged over the models"
        if on_set.condition.startswith("common")
        else "reverse KL"
    )
    chosen = f"the {settings.share:.4g} of them with the highest {ranked}, pooled over rollouts"
    if on_set.condition.endswith("two modes"):
        chosen += f", where the teacher's second token has {settings.second_mode:.4g} or more"
    return Measurement(
        what=what,
        condition=on_set.condition,
        value=float(means.value[cell]),
        unit="fraction",
        view=on_set.view,
        checkpoint=on_set.checkpoint,
        low=float(ends[0]),
        high=float(ends[1]),
        standard_error=float(means.standard_error[cell]),
        level=settings.level,
        method=method,
        estimand=f"mean over tokens: {chosen}",
        problems=problems,
        rollouts=on_set.rollouts,
        tokens=tokens,
        seed=settings.seed,
        run=settings.run,
        note=_nothing(tokens, problems) or note,
    )


def _nothing(tokens: int, problems: int) -> str:
    """Why there is no value or no interval."""
    if tokens == 0:
        return "no tokens"
    return st.ONE_PROBLEM if problems < 2 else ""


def measure_styles(rollouts: Mapping[str, pd.DataFrame], settings: Settings) -> pd.DataFrame:
    """Share of wordy, against terse, responses of each checkpoint on the abacus problems; its
    change against base.

    On the embedded pair the style is the mode: commitment to it shows without any token statistic.
    An empty response has no style and is left out; the note counts those.

    Args:
        rollouts: by checkpoint, ``base`` first: the plain rollouts that it wrote itself, as rows of
        the rollouts table.
        settings: level, seed and run.
    """
    return to_frame(_style_rows(rollouts, settings))


def _style_rows(rollouts: Mapping[str, pd.DataFrame], settings: Settings) -> Iterable[Measurement]:
    names = sorted({name for rows in rollouts.values() for name in rows["problem_id"]})
    codes = {name: code for code, name in enumerate(names)}
    styled = {checkpoint: _styled(rows, codes) for checkpoint, rows in rollouts.items()}
    for checkpoint, rows in styled.items():
        share = st.proportion(rows["wordy"], rows["code"], level=settings.level)
        empty = len(rollouts[checkpoint]) - len(rows)
        note = (
            f"{empty} of {len(rollouts[checkpoint])} responses are empty, left out" if empty else ""
        )
        yield _style_row("wordy_share", checkpoint, share, rows, note, settings)
        if checkpoint == "base" or "base" not in styled:
            continue
        alone = styled["base"].groupby("code")["wordy"].mean()
        both = rows[rows["code"].isin(alone.index)]
        change = st.paired_difference(
            both["wordy"], both["code"].map(alone), both["code"], level=settings.level
        )
        asked = rows["code"].nunique()
        left_out = asked - change.problems
        note = (
            f"{left_out} of {asked} problems were not asked of base, left out" if left_out else ""
        )
        yield _style_row("wordy_share_change", checkpoint, change, both, note, settings)


def _styled(rows: pd.DataFrame, codes: Mapping[str, int]) -> pd.DataFrame:
    """Problem code, style and length of the responses that are not empty."""
    written = rows[rows["text"] != ""]
    return pd.DataFrame(
        {
            "code": written["problem_id"].map(codes).astype(np.int64),
            "wordy": (written["text"].map(style) == "wordy").astype(np.float64),
            "tokens": own_tokens.count(written),
        }
    )


def _style_row(
    what: str,
    checkpoint: str,
    estimate: st.Estimate,
    rows: pd.DataFrame,
    note: str,
    settings: Settings,
) -> Measurement:
    values: dict[str, Any] = {
        name: getattr(estimate, name) for name in ("value", "low", "high", "standard_error")
    }
    return Measurement(
        what=what,
        condition="",
        unit="fraction",
        view="fresh",
        checkpoint=checkpoint,
        level=settings.level,
        method=estimate.method,
        estimand="mean over rollouts",
        problems=estimate.problems,
        rollouts=estimate.rollouts,
        tokens=int(rows["tokens"].sum()),
        seed=settings.seed,
        run=settings.run,
        note="; ".join(filter(None, (estimate.note, note))),
        **values,
    )
