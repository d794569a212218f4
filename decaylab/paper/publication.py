"""The published numbers of arXiv 2605.27028, read from ``data/paper``, whose README has origins and
traps.

`published` reads a table as it was printed. Each other loader gives the rows that the analysis of
that name gives, from ``data/paper/rows``: fractions of 1 and nats, without an interval.

Checkpoints of diagnostics: ``base`` (the student before training), ``full-rollout`` and
``esr-100`` (after it), ``step-50`` to ``step-200`` of the full rollout that collapsed, and
``teacher`` where the teacher's own rollouts were measured. Arms of training are called as sweeps
call them: ``base``, ``teacher``, ``prefix-100`` (ESR at 100 tokens), ``full``, ``random-100``; of
each run the best step was published, chosen on the test problems: view ``best``.
"""

from __future__ import annotations

import dataclasses
from importlib import resources
from typing import IO

import pandas as pd

from decaylab.runs.measurements import COLUMNS, Measurement

SOURCE = "arXiv 2605.27028"
NO_INTERVAL = "published, no interval"


def published(name: str, dtype: type | None = None) -> pd.DataFrame:
    """A published table as it was printed, such as ``prefix_curve`` or ``main_results``: per cent
    and nats.

    dtype: of every column; by default what each looks like.

    Raises:
        ValueError: no table of that name.
    """
    folder = resources.files("decaylab.data.paper")
    file = folder / f"{name}.csv"
    if not file.is_file():
        names = [entry.name for entry in folder.iterdir() if entry.name.endswith(".csv")]
        known = sorted(name.removesuffix(".csv") for name in names)
        raise ValueError(f"no published table {name!r}; there are {', '.join(known)}")
    with file.open("rb") as handle:
        return pd.read_csv(handle, dtype=dtype)


def _rows(name: str) -> pd.DataFrame:
    """Published rows in the columns of `Measurement`; what a file leaves out has its default."""
    with (resources.files("decaylab.data.paper") / "rows" / f"{name}.csv").open("rb") as handle:
        return _typed(handle)


def _typed(handle: IO[bytes]) -> pd.DataFrame:
    fields = dataclasses.fields(Measurement)
    types = {field.name: field.type for field in fields}
    defaults = {field.name: field.default for field in fields}
    defaults |= {"method": NO_INTERVAL, "run": SOURCE}
    # Text is kept as it stands: an empty cell is "", and a token may read "nan".
    text = pd.read_csv(handle, dtype=str, keep_default_na=False)
    rows = pd.DataFrame({name: text.get(name, defaults[name]) for name in COLUMNS}, text.index)
    return rows.replace({name: {"": "nan"} for name in COLUMNS if types[name] == "float"}).astype(
        types
    )


def prefix_curve() -> pd.DataFrame:
    """Published accuracy after a prefix, as fractions of 1, in the rows that
    `analyses.prefix_decay` gives.

    Conditions ``student-prefix`` and ``reverse``, with ``teacher`` and ``student`` alone at length
    0. View ``""``: whether rollouts that had ended before the prefix are among them was not
    published. No interval was either: low, high and band are NaN; nor the answer rule, which is
    empty.

    Source: Fig. 1 left; the reverse direction is an early draft's (see ``note``), the student alone
    the main table's.
    """
    return _rows("prefix_curve")


def three_signals() -> pd.DataFrame:
    """Published entropies and reverse KL by position, in nats, in the rows that `analyses.signals`
    gives.

    The bins are 10 tokens wide. Of those beyond position 110 only some were read off: there the
    rows leave gaps.

    Source: Fig. 3 left, off the plot, +-5 %.
    """
    return _rows("three_signals")


def position_kl() -> pd.DataFrame:
    """Published reverse KL by position before training and after 100-token rollouts, in nats, as
    `analyses.position_kl`.

    Bins adjoin from 0: 50 tokens wide to 200, then 100 wide. Each checkpoint on its own rollouts.

    Source: Fig. 3 right, off the plot, +-0.03 nats.
    """
    return _rows("position_kl")


def kl_by_category() -> pd.DataFrame:
    """Published reverse KL by token category and position, in nats, as `analyses.category_kl`; a
    range 5-19 is [5, 20).

    Source: category table. How often each category occurs was not published: counts are 0.
    """
    return _rows("kl_by_category")


def high_kl_tokens() -> pd.DataFrame:
    """The 20 published tokens of the highest mean reverse KL, in nats; ``tokens`` is how often each
    occurs.

    Source: table of high-KL tokens, at least 50 occurrences.
    """
    return _rows("high_kl_tokens")


def submode() -> pd.DataFrame:
    """Published sub-mode shares, as fractions of 1, in the rows that `analyses.submode` gives.

    Condition ``own``: over the 10 % of each model's own tokens with the highest KL, on its own
    rollouts, so that the set changes with the model. One number of tokens is given for all rows; it
    is left out.

    Source: behaviour table, right.
    """
    return _rows("submode")


def response_length() -> pd.DataFrame:
    """Published response lengths: ``response_length_p10``, ``_p50``, ``_p90`` and ``_mean``.

    They are no tokens, as the paper calls them, but characters / 3.5, and the unit says so.

    Source: behaviour table, left.
    """
    return _rows("response_length")


def boxed_repetition() -> pd.DataFrame:
    """Published collapse of the full rollout: boxes, repetition, length, accuracy, by checkpoint
    ``step-50`` to ``-200``.

    Accuracy has its answer rule (``official``, ``relaxed``) as condition too. What counts as
    repetitive is not stated.

    Source: boxed repetition table, 16 rollouts per problem in training.
    """
    return _rows("boxed_repetition")


def main_results() -> pd.DataFrame:
    """Published results of two pairs over tasks, as fractions of 1: base, teacher, full rollout and
    ESR at 100 tokens.

    ``run`` ends in the pair, "Gemma-2-2B under Gemma-3-4B"; ``condition`` is the task: ``math500``
    (avg_at_4, pass_at_4), ``humaneval`` and ``humaneval_plus`` (pass_at_1 at T = 0), ``bfcl``
    (full_accuracy: name and arguments of the call). View ``best`` of what was trained: the best
    step, chosen on the test problems. No answer rule is stated.

    Source: main table.
    """
    return _rows("main_results")


def scaling() -> pd.DataFrame:
    """Published avg@4 and pass@4 on MATH-500 by pair and regime, as fractions of 1; rows as in
    `main_results`.

    ``condition`` is the regime: ``lora``, or ``full_ft``, where every weight is trained. Base and
    teacher stand with LoRA.

    Source: full fine-tuning and scaling table.
    """
    return _rows("scaling")


def n_sweep() -> pd.DataFrame:
    """Published avg@4 against the rollout length N, as fractions of 1, in the rows that
    `analyses.sweep` gives.

    View ``best``: of each run the best step, chosen on the test problems. Arms ``prefix-N`` and
    ``full``, and ``base``.

    Source: Fig. 1 right.
    """
    return _rows("n_sweep")


def token_selection() -> pd.DataFrame:
    """Published avg@4 of each selector at its budget, in the rows that `analyses.sweep` gives;
    ``top-reverse-kl-100``.

    View ``best``, as in `n_sweep`. What stands in an early draft alone says so in ``note``.

    Source: Fig. 2 and table of section 5.1.
    """
    return _rows("token_selection")


def per_step() -> pd.DataFrame:
    """Published accuracy at each checkpoint, in the rows that `analyses.stability` gives;
    ``condition`` is the setting.

    Settings ``math500_n1`` and ``_n16`` (avg@4, 1 and 16 rollouts per problem in training) and
    ``humaneval`` (pass@1).

    Source: per-step tables.
    """
    return _rows("per_step")


def efficiency() -> pd.DataFrame:
    """Published seconds per step and peak memory of each phase, in the rows that
    `analyses.efficiency` gives.

    Memory, ``peak_gb``, is in GB as printed. Its ``total`` is the sum of the phases, which no
    device needs at once; ours is the largest of them.

    Source: efficiency table.
    """
    return _rows("efficiency")


def contradictions() -> pd.DataFrame:
    """Where the paper, its drafts or its figures disagree: topic (with the unit), first and second
    with their places, remark.

    first and second are text as printed, most of them numbers.
    """
    return published("contradictions", dtype=str)
