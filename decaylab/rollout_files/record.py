"""One rollout as its file has it, before any tokenizer: what every format is turned into."""

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
"""Stands where a file has no such column at all; None is a value."""


@dataclass(slots=True)
class Record:
    """One rollout as its file has it. None: the file does not say.

    problem_id: as the file names the problem. sample: number of the rollout among those of its
    problem, from 0.
    prompt: text, or chat messages. Text may be a bare question or a rendered prompt.
    prompt_stripped: the prompt was rendered and then decoded without its special tokens.
    prompt_ids, response_ids: token ids. response_mask: 1 where the student wrote the token, 0 at
        observations, as long as response_ids.
    response: text behind the prompt, as it stands.
    reasoning: the thought, where the file keeps it apart from the response.
    turns: all messages behind the prompt, where there are several or where tools were called; then
    `response` is None.
    answer: the gold answer as it stands, of any type; `ABSENT` where there is no such column.
    answer_name: of its column.
    stop: why the rollout ended, as it stands (a text, or SGLang's object). stop_detail: the stop
        string or the id of the stop token, where the file says (vLLM's ``stop_reason``).
    truncated: where the file says so in a column of its own.
    grades: name -> verdict or score, as they stand in the file.
    request_id: joins a response with a request that stands in another row or file.
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
        """The prompt: text, messages or token ids; None where the file has none."""
        return self.prompt_ids if self.prompt is None else self.prompt

    @property
    def has_response(self) -> bool:
        """Whether there is a response of any kind, an empty one included."""
        return not (self.response is None and self.response_ids is None and self.turns is None)
