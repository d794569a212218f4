"""One rollout as in its file, before any tokenizer; the common form of all formats."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]
"""A chat message: ``role``, ``content`` (text, or a list of parts), and maybe
``reasoning_content``, ``tool_calls``."""


class _Absent:
    """The type of `ABSENT`."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
"""The value of a column that does not exist in the file; None is a value."""


@dataclass(slots=True)
class Record:
    """One rollout as in its file. None: not in the file.

    problem_id: the file's id of the problem. sample: number of the rollout within its problem, from
        0.
    prompt: text (a bare question or a rendered prompt), or chat messages.
    prompt_stripped: the prompt was rendered and then decoded without its special tokens.
    prompt_ids, response_ids: token ids. response_mask: 1 at the student's tokens, 0 at
        observations, as long as response_ids.
    response: text after the prompt, unchanged.
    reasoning: the thought, if the file stores it separately.
    turns: all messages after the prompt, if there are several or tools were called; `response` is
        then None.
    answer: the gold answer of any type, unchanged; `ABSENT` if there is no such column.
    answer_name: name of its column.
    stop: the stop reason, unchanged (text, or SGLang's object). stop_detail: the stop string or id
        of the stop token, if given (vLLM's ``stop_reason``).
    truncated: the file's own column for truncation.
    grades: name -> verdict or score, unchanged.
    request_id: joins a response with a request in another row or file.
    """

    response: str | None = None
    problem_id: str | None = None
    sample: int | None = None
    prompt: str | list[Message] | None = None
    prompt_stripped: bool = False
    prompt_ids: list[int] | None = None
    response_ids: list[int] | None = None
    response_mask: list[int] | None = None
    reasoning: str | None = None
    turns: list[Message] | None = None
    answer: Any = ABSENT
    answer_name: str = field(default="answer", compare=False)
    stop: Any = None
    stop_detail: Any = None
    truncated: bool | None = None
    grades: dict[str, Any] = field(default_factory=dict)
    request_id: str | None = None

    @property
    def asked(self) -> str | list[Message] | list[int] | None:
        """The prompt: text, messages or token ids; None if the file has none."""
        return self.prompt_ids if self.prompt is None else self.prompt

    @property
    def has_response(self) -> bool:
        """Whether there is a response of any kind, an empty one included."""
        return not (self.response is None and self.response_ids is None and self.turns is None)
