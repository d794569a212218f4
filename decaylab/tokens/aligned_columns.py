"""The columns of a rollout that was scored with two tokenizers, from those of its places.

`decaylab.tokens.aligned_scoring` says what they mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from decaylab.policies.alignment import Alignment
from decaylab.tokens.scoring import Columns, ScoredRollout
from decaylab.tokens.token_table import COLUMN_TYPES, SPAN_COLUMNS, WHOLE

COUNTS = ("token_rank", "student_top1_rank", "top16_overlap")
TOPS = ("student_top", "teacher_top")
OTHER_MASSES = ("student_other_mass", "teacher_other_mass")
Floats = NDArray[np.float32]


def columns_of(
    rollout_id: str,
    alignment: Alignment,
    at_boundaries: Columns,
    own: list[dict[str, Floats]],
    shown: bool,
) -> ScoredRollout:
    """The columns of one rollout, each [tokens of the student]."""
    time = len(alignment.student)
    places, their_places = alignment.boundaries
    columns: Columns = {}
    tops: dict[str, tuple[NDArray[np.int32], NDArray[np.float32]]] = {}
    for policy, top in zip(("student", "teacher"), TOPS, strict=True):
        ids = at_boundaries[f"{top}_ids"]
        everywhere = np.zeros((time, ids.shape[1]), dtype=np.int32)
        everywhere[places] = ids
        probabilities = np.full(everywhere.shape, np.nan, dtype=np.float32)
        probabilities[places] = np.exp(at_boundaries[f"{top}_logprobs"])
        tops[policy] = everywhere, probabilities
    for name in (*COLUMN_TYPES, *OTHER_MASSES):
        if name in at_boundaries:
            columns[name] = _spread(at_boundaries[name], places, time, whole=name in COUNTS)
    columns["student_logprob"] = own[0]["logprob"]
    columns["student_entropy"] = own[0]["entropy"]
    columns["teacher_entropy"] = _spread(own[1]["entropy"][their_places], places, time)
    columns |= _of_spans(alignment, own)
    return ScoredRollout(rollout_id, columns, tops if shown else {})


def _spread(
    values: NDArray[np.generic], places: NDArray[np.int64], time: int, *, whole: bool = False
) -> NDArray[np.generic]:
    """Values at some places of [time]; elsewhere NaN, or 0 for whole numbers."""
    kind = np.int32 if whole else np.float32
    everywhere: NDArray[np.generic] = np.full(time, 0 if whole else np.nan, dtype=kind)
    everywhere[places] = values
    return everywhere


def _of_spans(alignment: Alignment, own: list[dict[str, Floats]]) -> Columns:
    """Columns of the spans, at their first tokens; NaN elsewhere."""
    time, spans = len(alignment.student), alignment.spans
    first = np.array([span.student.start for span in spans], dtype=np.int64)
    boundary = np.zeros(time, dtype=bool)
    boundary[alignment.boundaries[0]] = True
    sums = {
        (side, name): np.array(
            [
                own[side][name][(span.student, span.teacher)[side]].sum(dtype=np.float64)
                for span in spans
            ]
        )
        for side in (0, 1)
        for name in ("logprob", "entropy")
    }
    sizes = np.diff([0, *(span.stop for span in spans)])
    of_spans = {
        "teacher_logprob": sums[1, "logprob"],
        "span_log_ratio": sums[0, "logprob"] - sums[1, "logprob"],
        "student_span_entropy": sums[0, "entropy"],
        "teacher_span_entropy": sums[1, "entropy"],
        "span_bytes": sizes,
        "span_student_tokens": np.array([s.student.stop - s.student.start for s in spans]),
        "span_teacher_tokens": np.array([s.teacher.stop - s.teacher.start for s in spans]),
    }
    columns: Columns = {
        "at_shared_boundary": boundary,
        "as_own_tokenizer": np.full(time, alignment.canonical),
    }
    for name, values in of_spans.items():
        whole = SPAN_COLUMNS.get(name) == WHOLE
        columns[name] = _spread(values, first, time, whole=whole)
    return columns
