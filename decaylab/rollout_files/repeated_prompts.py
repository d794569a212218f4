"""Finds responses that begin with their prompt, as some engines return them.

``--prompt-in-response`` decides whether the prompt is cut off, kept, or refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from decaylab.errors import UserError
from decaylab.rollout_files.given_prompts import GivenPrompt, PromptReader, content_of, endings
from decaylab.rollout_files.record import Record

WithPrompt = Literal["refuse", "cut", "keep"]
LEAST_QUESTION = 12
"""Length from which a question at the start of a response counts as repeated, in characters."""


class RepeatedPrompts:
    """Looks for prompts at the beginning of responses.

    count: number of such responses, if they are refused. first: place of the first one.
    """

    def __init__(self, reader: PromptReader, choice: WithPrompt) -> None:
        self.reader, self.choice = reader, choice
        self.count, self.first = 0, ""

    def cut(self, record: Record, prompt: GivenPrompt | None, place: str) -> bool:
        """Cuts the prompt off a response if that is the choice; returns whether it did."""
        if self.choice == "keep":
            return False
        text = self._behind_prompt(record, prompt)
        repeated_ids = _repeated_ids(record)
        repeated_turns = _repeated_turns(record, prompt, place)
        if text is None and not repeated_ids and not repeated_turns:
            return False
        # `check` raises at the end, with the number of such responses.
        if self.choice == "refuse":
            self.count += 1
            self.first = self.first or place
            return False
        if record.turns:
            record.turns = record.turns[repeated_turns:]
        if text is not None:
            record.response = text
        if record.response_ids is not None:
            record.response_ids = record.response_ids[repeated_ids:]
        if record.response_mask is not None:
            record.response_mask = record.response_mask[repeated_ids:]
        return True

    def check(self, rollouts: int) -> None:
        """Raises UserError if responses begin with their prompt and the choice is to refuse."""
        if self.count:
            raise UserError(
                f"{self.first}: {self.count} of {rollouts} responses begin with their prompt; use "
                "--prompt-in-response cut to remove it, or keep if it is part of the response"
            )

    def _behind_prompt(self, record: Record, prompt: GivenPrompt | None) -> str | None:
        """The text of a response after its prompt; None if it does not begin with the prompt."""
        if record.response is None:
            return None
        text = self.reader.without_begin(record.response.lstrip())
        for beginning in self._beginnings(record, prompt):
            if text.startswith(beginning):
                return text[len(beginning) :]
        return None

    def _beginnings(self, record: Record, prompt: GivenPrompt | None) -> Iterator[str]:
        """The texts of the prompt that a response may begin with, longest first."""
        if isinstance(record.prompt, str):
            rendered = prompt is not None and prompt.kind in ("rendered", "stripped")
            if rendered or len(record.prompt.strip()) >= LEAST_QUESTION:
                yield from endings(self.reader.without_begin(record.prompt))
        if prompt is None or not prompt.messages:
            return
        yield from self.reader.renderings(prompt)
        if len(prompt.question) >= LEAST_QUESTION and prompt.question != record.prompt:
            yield prompt.question.strip()


def _repeated_ids(record: Record) -> int:
    """Number of prompt ids if the response begins with all of them, else 0."""
    size, ids = len(record.prompt_ids or ()), record.response_ids
    if not size or ids is None or len(ids) <= size or ids[:size] != record.prompt_ids:
        return 0
    return size


def _repeated_turns(record: Record, prompt: GivenPrompt | None, place: str) -> int:
    """Number of first turns that repeat the prompt, including at least its last message."""
    if prompt is None or record.turns is None:
        return 0
    roles = [turn.get("role") for turn in record.turns]
    before = roles.index("assistant") if "assistant" in roles else 0
    if not before:
        return 0
    size = len(prompt.messages)
    texts = [content_of(turn, place).strip() for turn in record.turns[:size]]
    # All messages of the prompt, or at least its question just before the first answer.
    if texts == [text.strip() for _, text in prompt.messages]:
        return size
    last = content_of(record.turns[before - 1], place).strip()
    return before if last in (prompt.question.strip(), record.prompt) else 0
