"""Sub-mode commitment: the teacher's rank of the student's top token, where the two disagree most.

Scored tokens in, measurements out; no model, no file. Over the tokens with the highest reverse KL,
pooled over rollouts: the student's top-1 probability, and how often its top-1 token is the
teacher's top token, in the teacher's top 2 to 5, or outside its top 5. The sets of tokens:

    common             highest reverse KL averaged over all models, on the frozen rollouts: the same
                       set for all models, so that a change is one of the student alone
    own                highest reverse KL of the model itself, on the frozen rollouts or on its own
                       (fresh: the paper's choice, in which the set changes with the model)
    ..., two modes     the tokens of that set at which the teacher's second token reaches the
                       probability ``second_mode``; elsewhere a rank of 2 to 5 is an error, not
                       another mode. The set is chosen first.

Every interval resamples problems and accounts for the estimated threshold (``top_share``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.maths import statistics as st
from decaylab.maths import token_means, top_share
from decaylab.maths.clusters import Floats
from decaylab.maths.top_share import TopTokens
from decaylab.printing import percent
from decaylab.problems.abacus_checking import style
from decaylab.runs import own_tokens, rows
from decaylab.runs.measurements import Measurement, to_frame
from decaylab.runs.vocabulary import BASE, FRACTION, FRESH, FROZEN, MEAN_OVER_ROLLOUTS, change
from decaylab.tokens.token_table import Scored

QUANTITIES = (
    "student_top1_probability",
    "equals_teacher_top1",
    "in_teacher_top2to5",
    "outside_teacher_top5",
)
COLUMNS = ("student_top1_probability", "student_top1_rank", "teacher_top2_probability")
COMMON, TWO_MODES = "common", ", two modes"
METHOD = "clustered Wilson, threshold estimated"
SAME_CHANGE = "the change is the same in every problem: no interval"


@dataclass(frozen=True)
class Settings(rows.Settings):
    """Settings of the measurement.

    share: share of all tokens to use, those with the highest reverse KL. second_mode: minimum
    probability of the teacher's second token to count as a mode.
    """

    share: float = 0.10
    second_mode: float = 0.1


@dataclass(frozen=True)
class _OnSet:
    """The means of one model over one set of tokens. rollouts: number with a token in the set."""

    checkpoint: str
    view: str
    condition: str
    names: tuple[str, ...]
    means: token_means.CellMeans
    rollouts: int


def measure(scored: Sequence[Scored], settings: Settings) -> pd.DataFrame:
    """The four quantities of every model on every set of tokens, and their paired change from base
    on the common set.

    Raises:
        ValueError: frozen tables have different tokens.
    """
    return to_frame(_rows(scored, settings))


def _rows(scored: Sequence[Scored], settings: Settings) -> Iterator[Measurement]:
    # A change is one of the student only if both sides have the same tokens.
    common = _common_set([each for each in scored if each.view == FROZEN], settings.share)
    changing: list[_OnSet] = []
    for each in scored:
        tops = {"own": top_share.top_tokens(each.tokens["reverse_kl"], settings.share)}
        if each.view == FROZEN and common is not None:
            tops[COMMON] = common
        for on_set in _on_sets(each, tops, settings):
            yield from _levels(on_set, settings)
            if on_set.condition.startswith(COMMON) and on_set.names == QUANTITIES:
                changing.append(on_set)
    base = {on_set.condition: on_set for on_set in changing if on_set.checkpoint == BASE}
    for on_set in changing:
        if base and on_set.checkpoint != BASE:
            yield from _changes(on_set, base[on_set.condition], settings)


def _common_set(frozen: Sequence[Scored], share: float) -> TopTokens | None:
    """The tokens with the highest reverse KL averaged over the models."""
    if not frozen:
        return None
    lengths = frozen[0].tokens.lengths
    total: Floats = np.zeros(int(lengths.sum()))
    for each in frozen:
        if not np.array_equal(each.tokens.lengths, lengths):
            raise ValueError(
                f"scored: the frozen tokens of {each.checkpoint} differ from those of "
                f"{frozen[0].checkpoint}"
            )
        total += np.asarray(each.tokens["reverse_kl"], dtype=np.float64)
    return top_share.top_tokens(total / len(frozen), share)


def _on_sets(scored: Scored, tops: Mapping[str, TopTokens], settings: Settings) -> Iterator[_OnSet]:
    """The means over each set, the share of the set at which the teacher has two modes, and the
    means over that part."""
    table = scored.tokens
    sizes = np.bincount(table.problems, table.lengths, table.problem_count).astype(np.float64)
    at: dict[str, dict[str, NDArray[Any]]] = {}
    for column in COLUMNS:
        values = table[column]  # read once
        at[column] = {name: values[top.rows] for name, top in tops.items()}
    for name, top in tops.items():
        # the rollout of each row in the set
        rollout = np.searchsorted(table.starts, top.rows, side="right") - 1
        problems = table.problems[rollout]
        two_modes = at["teacher_top2_probability"][name] >= settings.second_mode
        rank = at["student_top1_rank"][name]
        columns = [
            at["student_top1_probability"][name],
            rank == 1,
            (rank >= 2) & (rank <= 5),
            rank > 5,
        ]
        ranked = np.stack(columns, axis=1).astype(np.float64)
        everywhere = np.ones(two_modes.size, dtype=bool)
        for condition, names, averaged, counted in (
            (name, QUANTITIES, ranked, everywhere),
            (name, ("two_mode_share",), two_modes[:, None].astype(np.float64), everywhere),
            (name + TWO_MODES, QUANTITIES, ranked, two_modes),
        ):
            means = top_share.means(top, averaged, problems, sizes, counted)
            rollouts = np.unique(rollout[top.inside & counted]).size
            yield _OnSet(scored.checkpoint, scored.view, condition, names, means, rollouts)


def _levels(on_set: _OnSet, settings: Settings) -> Iterator[Measurement]:
    ends = top_share.interval(on_set.means, level=settings.level)
    estimates = rows.of_cells(on_set.means, level=settings.level, ends=ends, undefined="", alike="")
    for cell, (name, estimate) in enumerate(zip(on_set.names, estimates, strict=True)):
        yield _row(name, on_set, replace(estimate, method=METHOD), cell, settings)


def _changes(after: _OnSet, before: _OnSet, settings: Settings) -> Iterator[Measurement]:
    """Changes paired by token. If no token changed there is no interval, since an error of 0 would
    not hold for other problems."""
    difference = token_means.difference(after.means, before.means)
    low, high = token_means.interval(difference, level=settings.level)
    still = difference.standard_error < 1e-12
    ends = np.where(still, np.nan, low.clip(-1)), np.where(still, np.nan, high.clip(max=1))
    estimates = rows.of_cells(difference, level=settings.level, ends=ends, undefined="", alike="")
    for cell, (name, estimate) in enumerate(zip(after.names, estimates, strict=True)):
        if still[cell] and not estimate.note:
            estimate = replace(estimate, note=SAME_CHANGE)
        method = f"paired {difference.method}, threshold estimated"
        counted = replace(after, means=difference)
        yield _row(change(name), counted, replace(estimate, method=method), cell, settings)


def _row(
    what: str, on_set: _OnSet, estimate: st.Estimate, cell: int, settings: Settings
) -> Measurement:
    ranked = "reverse KL"
    if on_set.condition.startswith(COMMON):
        ranked += " averaged over the models"
    share = f"the {percent(settings.share):g} % of tokens"
    estimand = f"mean over {share} with the highest {ranked}, pooled over rollouts"
    if on_set.condition.endswith(TWO_MODES):
        least = f"{settings.second_mode:.4g}"
        estimand += f", where the teacher's second token has a probability of {least} or more"
    return rows.row(
        settings,
        what,
        FRACTION,
        estimate,
        condition=on_set.condition,
        view=on_set.view,
        checkpoint=on_set.checkpoint,
        estimand=estimand,
        rollouts=on_set.rollouts,
        tokens=int(on_set.means.tokens[cell]),
    )


def measure_styles(rollouts: Mapping[str, pd.DataFrame], settings: Settings) -> pd.DataFrame:
    """Share of verbose (against concise) responses of each checkpoint on the abacus problems, and
    its change from base.

    On the embedded pair the style is the mode, so commitment shows without token statistics. Empty
    responses have no style and are left out; the note gives their number.

    Args:
        rollouts: each checkpoint's own plain rollouts, ``base`` first, as rows of the rollouts
            table.
        settings: level, seed and run.
    """
    return to_frame(_style_rows(rollouts, settings))


def _style_rows(rollouts: Mapping[str, pd.DataFrame], settings: Settings) -> Iterator[Measurement]:
    codes, level = rows.problem_codes(rollouts), settings.level
    styled = {checkpoint: _styled(table, codes) for checkpoint, table in rollouts.items()}
    for checkpoint, table in styled.items():
        share = st.proportion(table["wordy"], table["code"], level=level)
        written, total = len(table), len(rollouts[checkpoint])
        note = rows.left_out(total - written, total, "responses are empty")
        measured = [("wordy_share", share, table, note)]
        if checkpoint != BASE and BASE in styled:
            alone = styled[BASE].groupby("code")["wordy"].mean()
            both = table[table["code"].isin(alone.index)]
            difference = st.paired_difference(
                both["wordy"], both["code"].map(alone), both["code"], level=level
            )
            asked = table["code"].nunique()
            lost = asked - difference.problems
            note = rows.left_out(lost, asked, "problems have no rollouts of base")
            measured.append((change("wordy_share"), difference, both, note))
        for what, estimate, counted, note in measured:
            tokens = int(counted["tokens"].sum())
            place = {"view": FRESH, "checkpoint": checkpoint, "estimand": MEAN_OVER_ROLLOUTS}
            yield rows.row(settings, what, FRACTION, estimate, note, **place, tokens=tokens)


def _styled(rollouts: pd.DataFrame, codes: Mapping[str, int]) -> pd.DataFrame:
    """Problem code, style and length of the non-empty responses."""
    written = rollouts[rollouts["text"] != ""]
    return pd.DataFrame(
        {
            "code": written["problem_id"].map(codes).astype(np.int64),
            "wordy": (written["text"].map(style) == "verbose").astype(np.float64),
            "tokens": own_tokens.count(written),
        }
    )
