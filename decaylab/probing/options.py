"""The options of a probe. They are those of ``position-kl``, with defaults for repeated use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypedDict

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions

PROBLEMS, BUDGET = 64, 512


class ProbeOptions(TypedDict, total=False):
    """What can be set, by name; `decaylab position-kl --help` explains the measurement's.

    student: its name in the run folder, as other runs of the pair call it; by default the model's
    own. rollout_length: the paper's N, the response tokens at which training rollouts stop.
    """

    student: str
    limit: int  # problems; 64
    samples: int  # rollouts per problem; 1
    max_tokens: int  # of a rollout; 512, and 320 with the embedded teacher
    temperature: float
    top_p: float
    top_k: int
    seed: int
    bins: Sequence[int]
    rollout_length: int
    level: float  # of intervals
    instruction: str
    prompt_format: Literal["chat", "plain"]
    thinking: Literal["off", "on", "template"]
    system: str
    split: str
    columns: Mapping[str, str]
    dtype: Literal["auto", "float32", "bfloat16", "float16"]  # of a teacher given by name
    batch_rows: int
    batch_tokens: int


def probe_options(given: Mapping[str, Any], teacher: str, problems: str) -> DiagnosticOptions:
    """The options of a probe, checked.

    given: options by name. teacher, problems: their names.

    Raises:
        UserError: an unknown option or an invalid value.
    """
    known = sorted(ProbeOptions.__annotations__)
    for name in given:
        if name not in known:
            raise UserError(f"no option {name} of a probe; there are {', '.join(known)}")
    usual = {"limit": PROBLEMS, "samples": 1, "floor_problems": 0}
    options = DiagnosticOptions(**{**usual, **given, "teacher": teacher, "problems": problems})
    if options.max_tokens is None:
        options = replace(options, max_tokens=min(BUDGET, options.lengths.budget))
    return options
