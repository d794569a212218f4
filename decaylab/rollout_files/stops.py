"""Classifies the stop reasons of engines, trainers and evaluators.

natural   the policy ended its turn
cut       a token limit ended it; it gets no end-of-turn token
aborted   the engine aborted it; left out
other     a stop string set by the caller, or an unknown value; not a natural end
unknown   no stop reason in the file
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from decaylab.rollout_files.record import Record

Kind = Literal["natural", "cut", "aborted", "other", "unknown"]

NOT_SAID, NO_RESPONSE = "no stop reason", "no response"
_NAMES: dict[Kind, str] = {
    "natural": """
        stop eos eos_token end_of_text end_of_turn end_turn eot eom end natural stopped
        finish finished complete completed done end_of_sequence finish_reason_stop eos_found
        tool_calls tool_call tool_use function_call""",  # a tool call ends the turn
    "cut": """
        length max_tokens max_length max_new_tokens max_output_tokens max_completion_tokens budget
        max_response_length max_model_len max_seq_len token_limit token_budget model_length
        context_length context_length_exceeded context_window model_context_window_exceeded
        truncated truncation cut cut_off incomplete limit finish_reason_max_tokens
        finish_reason_length overlong out_of_tokens max_tokens_reached max_length_reached
        prompt_too_long""",
    "aborted": """
        abort aborted cancel cancelled canceled error failed failure timeout timed_out interrupted
        preempted content_filter safety blocked refused_by_filter rejected expired no_response""",
}
KNOWN = {name: kind for kind, names in _NAMES.items() for name in names.split()}
"""Stop reason -> kind; in lower case, with ``_`` for blanks and hyphens."""


@dataclass(frozen=True, slots=True)
class Stop:
    """How a rollout ended. value: the file's value, for counts. token: id of the end token, if
    given."""

    kind: Kind
    value: str
    token: int | None = None


@dataclass(frozen=True)
class Ends:
    """The student's end-of-turn tokens, to recognise them in a file's stop details.

    texts: end token -> id. ids: end and control tokens; None accepts any id. Any other stop string
    or token was set by the caller and is not a natural end.
    """

    texts: Mapping[str, int] = field(default_factory=dict)
    ids: frozenset[int] | None = None


def stop_of(record: Record, ends: Ends = Ends()) -> Stop:
    """How a rollout ended. ``truncated`` takes precedence over an unknown stop reason.

    Environments end an episode for their own reasons (verifiers' ``max_turns_reached``), which say
    nothing about the last turn.
    """
    value: Any = record.stop
    detail: Any = record.stop_detail
    if isinstance(value, dict):  # SGLang: {"type": "stop", "matched": 151645}
        value, detail = value.get("type"), value.get("matched", detail)
    value, detail = _without_blanks(value), _without_blanks(detail)
    kind = KNOWN.get(_normalised(value))
    if record.truncated:
        return Stop("cut", "truncated: true")
    if record.truncated is False and kind is None:
        return Stop("natural", "truncated: false")
    if value is None:
        return Stop("unknown", NOT_SAID)
    if kind != "natural" or detail is None or isinstance(detail, bool):
        return Stop(kind or "other", str(value))
    if isinstance(detail, int):
        if ends.ids is None or detail in ends.ids:
            return Stop(kind, str(value), detail)
        return Stop("other", f"{value} at the token id {detail}")
    if str(detail) in ends.texts:
        return Stop(kind, str(value), ends.texts[str(detail)])
    # The detail may repeat the stop reason.
    if KNOWN.get(_normalised(detail)) == "natural":
        return Stop(kind, str(value))
    return Stop("other", f"{value} at the stop string {str(detail)!r:.40}")


def _without_blanks(value: Any) -> Any:
    """The value, with NaN and empty text as None, and whole floats (ids in tables) as ints."""
    if value != value or (isinstance(value, str) and not value):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _normalised(value: Any) -> str:
    return str(value).strip().rpartition(".")[2].lower().replace("-", "_").replace(" ", "_")
