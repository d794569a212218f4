"""The shared words of measurement rows, and lookup of rows.

Rows are identified by quantity, view, checkpoint, estimand and so on. All modules that write or
look up such words import them from here. A lookup raises if it finds no row, or several where one
is expected.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from decaylab.problems.tasks import measure_name as measure_name

# Policies and arms that serve as references
BASE = "base"  # the student before training
TEACHER = "teacher"
FULL = "full"  # trained on full rollouts

# Quantities
ACCURACY, DIFFERENCE = "accuracy", "accuracy_difference"

STUDENT_ACCURACY, ADVANTAGE = "student_accuracy", "teacher_advantage"
RETAINED, HALF_DECAY = "retained_advantage", "half_decay_length"
CORRECTIVE_GAIN, USABLE_SHARE = "corrective_gain", "usable_share"
CONTINUATION_GAIN, TEACHER_FINISHED = "continuation_gain", "teacher_finished_share"
CONTINUATION_TOKENS, MEAN_KL = "continuation_tokens", "mean_reverse_kl"
SECONDS_A_ROLLOUT = "seconds_per_rollout"
# Of the tokens at which a step is decided: `decaylab.analyses.token_truth`
TRUTH, CONSISTENCY, REPAIR = "truth", "consistency", "repair"

# Of two tokenizers: `decaylab.analyses.two_tokenizers`
RESPONSE_LOG_RATIO, RESPONSE_K3 = "response_log_ratio", "response_k3"
LOG_RATIO_PER_BYTE, SPAN_LOG_RATIO = "log_ratio_per_byte", "span_log_ratio"
ABOVE_CAP = "above_cap_share"
FINISHED, CUT_OFF = "finished", "cut-off"  # responses
AT_BOUNDARIES = ", at boundaries of both tokenizers"
"""Ends the estimand of what is measured of tokens where the pair has two tokenizers."""
NEXT_BYTE_IS = "next_byte_"
"""Begins the names of quantities of the next byte where the pair has one tokenizer."""
NEXT_BYTE = {
    "Reverse KL": "Next-byte KL",
    "reverse KL": "next-byte KL",
    "forward KL": "next-byte forward KL",
    "JS divergence": "next-byte JS divergence",
}
"""What the divergences are then called."""

# Units
FRACTION, NATS, TOKENS, SECONDS, GIB, RATIO = (
    "fraction",
    "nats",
    "tokens",
    "seconds",
    "GiB",
    "ratio",
)
CORRELATION, AREA, SQUARED = "correlation", "area under the ROC curve", "fraction squared"

# Views: whose rollouts are scored; which checkpoint represents a run; which rollouts count
FRESH, FROZEN = "fresh", "frozen"
LAST, BEST = "last", "best"
OPEN, CARRY_FORWARD, TURNS = "open", "carry-forward", "turns"

# Estimands of comparisons between training runs
ONE_RUN = "one training run"
THESE_SEEDS = "mean over rollouts, over these seeds"
OVER_SEEDS = "mean over training seeds"
GEOMETRIC_OVER_SEEDS = "geometric mean over training seeds"  # of ratios, paired by seed
MEANS_OVER_SEEDS = (OVER_SEEDS, GEOMETRIC_OVER_SEEDS)
MEAN_OVER_ROLLOUTS = "mean over rollouts"
MEAN_OVER_PROBLEMS = "mean over problems"

# Conditions of teacher continuations
STUDENT_PREFIX, OWN_PREFIX, SWAPPED = "student-prefix", "own-prefix", "swapped"
CORRECT_SO_FAR, ALREADY_WRONG = "correct-so-far", "already-wrong"
REPAIRED = "repaired"  # correct so far, with a step that was wrong at first
BEHIND_CORRECT, BEHIND_WRONG = "behind-correct", "behind-wrong"  # right behind such a step
ENDED_RIGHT, ENDED_WRONG = "ended-right", "ended-wrong"
ALL = "all"
TEST, VALIDATION = "test", "validation"  # the problems of a trace of accuracies
TRAINING = "training"  # from the records of a training run
SURVIVORS = "survivors"  # rollouts of at least a given length, or that reach a position
MASS = "mass"  # all tokens, however many rollouts are left

# Arms of sweeps, and what one teacher token is worth where they train
TRAINING_GAIN, ONE_TOKEN_GAIN = "training_gain", "one_token_gain"
MASKED_TRUTH_GAIN, MASKED_KL_SHARE = "masked_truth_gain", "masked_kl_share"
PREDICTORS = (ONE_TOKEN_GAIN, MASKED_TRUTH_GAIN, MASKED_KL_SHARE)
TOKENS_PER_ROLLOUT, RANK_CORRELATION = "tokens_per_rollout", "rank_correlation"

# More conditions: rollouts without a prefix, by the policy that wrote them; other continuations
STUDENT = "student"
STUDENT_TURNS, REVERSE = "student-turns", "reverse"
HAND_BACK_TEACHER, HAND_BACK = "hand-back-teacher", "hand-back"
HAND_BACK_CONTROL = "hand-back-control"  # no teacher token, or all of them
TO_THE_END = math.inf  # teacher tokens: none is left to the student

# Values along rollouts: the conditions of their draws, and what is measured of them
STUDENT_VALUE, TEACHER_VALUE = "student-value", "teacher-value"
VALUE, VALUE_ADVANTAGE = "value", "value_advantage"
VARIANCES = ("variance_within_prefixes", "variance_between_prefixes", "variance_between_problems")
TURNING_SHARE, UP, DOWN = "turning_share", "up", "down"
AUROC, FALL_AUROC = "auroc", "fall_auroc"
FALL_SHARE, FALL_CHANGE = "fall_share", "fall_change"
SHARE_OF_LENGTH = "share of the final length"
SCORE_COVARIANCE, SCORE_CORRELATION = "score_covariance", "score_correlation"
SCORE_RANK_CORRELATION = "score_rank_correlation"
# ... and the comparisons of a signal: between which prefixes
ALL_PREFIXES, SAME_POSITION = "all prefixes", "same position"
SAME_PROBLEM = "same position of the same problem"
COMPARISONS = (ALL_PREFIXES, SAME_POSITION, SAME_PROBLEM)

# Prefixes that were made or changed, and what their effects are of
MADE, BROKEN, EDIT = "made", "broken", "edit"  # and REPAIRED, of a wrong step
AS_WRITTEN, CHANGED = "as-written", "changed"
CORRECT, WRONG = "correct", "wrong"  # content
STUDENT_STYLE, TEACHER_STYLE = "student-style", "teacher-style"
CONTENT, STYLE, INTERACTION = "content", "style", "interaction"

# The policy in which the runs of a comparison differ; the other one is the same
TEACHERS, STUDENTS = "teachers", "students"


def of_two_tokenizers(rows: pd.DataFrame) -> bool:
    """Whether these rows measure tokens at boundaries of two tokenizers."""
    of_tokens = rows[~rows["what"].str.startswith(NEXT_BYTE_IS)]
    ending = AT_BOUNDARIES.removeprefix(", ")
    return bool(of_tokens["estimand"].astype(str).str.endswith(ending).any())


def kl_named(text: str, rows: pd.DataFrame) -> str:
    """The text with the KL under its name in these rows: with two tokenizers it is that of the next
    byte."""
    if of_two_tokenizers(rows):
        for name, next_byte in NEXT_BYTE.items():
            text = text.replace(name, next_byte)
    return text


def minus(what: str, reference: str) -> str:
    """The name of a quantity's difference from a reference, such as ``avg_at_4_minus_base``."""
    return f"{what}_minus_{reference}"


def change(what: str) -> str:
    """The name of a quantity's change by training."""
    return f"{what}_change"


def difference(what: str) -> str:
    """The name of a quantity's difference between two runs on the same problems."""
    return f"{what}_difference"


def of_policy(what: str, policy: str) -> str:
    """The name of a quantity of student or teacher, such as ``student_truth``."""
    return f"{policy}_{what}"


def gain(what: str) -> str:
    """The name of the teacher's probability minus the student's."""
    return f"{what}_gain"


def effect(what: str) -> str:
    """The name of a quantity's difference between two kinds of prefixes."""
    return f"{what}_effect"


def auroc(what: str) -> str:
    """The name of how well log t/s tells correct tokens from wrong ones."""
    return f"{what}_auroc"


def against(run: str) -> str:
    """The condition of a difference from another run in a comparison."""
    return f"against {run}"


def winsorised(what: str) -> str:
    """The name of a quantity's winsorised version, which has an interval."""
    return f"winsorised_{what}"


def detectable(difference: str) -> str:
    """The name of the smallest value of a difference that the data could detect."""
    return f"{difference}_detectable"


def teacher_tokens(count: float) -> str:
    """The category of rows behind so many teacher tokens; `TO_THE_END` is all of them."""
    return f"teacher tokens: {'to the end' if math.isinf(count) else f'{count:g}'}"


GAIN_MINUS_CONTINUATION = minus(CORRECTIVE_GAIN, "continuation")


def select(frame: pd.DataFrame, **at: Any) -> pd.DataFrame:
    """The rows at these coordinates, in order; possibly none.

    at: column names and required values. NaN matches NaN; a list or tuple matches any member.

    Raises:
        KeyError: the frame has no such column.
    """
    return frame[places(frame, **at)]


def places(frame: pd.DataFrame, **at: Any) -> NDArray[np.bool_]:
    """A mask of the rows at these coordinates, as in `select`."""
    wanted = np.ones(len(frame), dtype=bool)
    for column, value in at.items():
        wanted &= _matches(frame[column], value)
    return wanted


def rows(frame: pd.DataFrame, **at: Any) -> pd.DataFrame:
    """The rows at these coordinates, in order; at least one.

    Raises:
        LookupError: no row. The message names the coordinate that emptied the selection and the
            values that its column has.
    """
    found = select(frame, **at)
    if len(found):
        return found
    left = frame
    for column, value in at.items():
        narrowed = select(left, **{column: value})
        if narrowed.empty:
            there = ", ".join(sorted({str(other) for other in left[column]})) or "no rows"
            raise LookupError(f"no row has {column} {value!r} at {_place(at)}; there are: {there}")
        left = narrowed
    raise LookupError("there are no rows")


def row(frame: pd.DataFrame, **at: Any) -> pd.Series:
    """The only row at these coordinates.

    Raises:
        LookupError: no row, or several.
    """
    found = rows(frame, **at)
    if len(found) > 1:
        raise LookupError(f"{len(found)} rows at {_place(at)}; give the measurements of one run")
    return found.iloc[0]


def _matches(column: pd.Series, value: Any) -> NDArray[np.bool_]:
    if isinstance(value, list | tuple | set):
        return column.isin(list(value)).to_numpy(dtype=bool)
    if isinstance(value, float) and math.isnan(value):
        return column.isna().to_numpy(dtype=bool)
    # In numpy, since every printed or drawn number takes a lookup.
    return np.asarray(column.to_numpy() == value, dtype=bool)


def _place(at: dict[str, Any]) -> str:
    return ", ".join(f"{column} {value!r}" for column, value in at.items())
