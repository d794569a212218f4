"""Thoughts and turns that a file keeps apart, written as the student's template writes them.

Conversation(student).with_thought("2 + 3 is 5.", "It is 5.", place)
# "<think>\\n2 + 3 is 5.\\n</think>\\n\\nIt is 5."
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import commonprefix
from typing import Any

from decaylab.errors import UserError
from decaylab.policies.policy import Policy
from decaylab.policies.templates import ANSWER, QUESTION
from decaylab.rollout_files.given_prompts import content_of, without_blanks
from decaylab.rollout_files.record import Message

LINES = "\n"
ARGUMENTS = '{"number": "one"}'
REMEDY = "give token ids with a response_mask"
THOUGHT = "a thought probe"


@dataclass(frozen=True)
class Written:
    """Several turns in the student's ids. text: what the student wrote itself. mask: 1 at its own
    tokens; None: all are."""

    ids: list[int]
    text: str
    ended: bool
    mask: list[int] | None


class Conversation:
    """Writes what a student said as its template does."""

    def __init__(self, student: Policy) -> None:
        self.student = student
        self._frame: tuple[str, str] | None = None

    def with_thought(self, thought: str, answer: str, place: str, *, closed: bool = True) -> str:
        """A response out of a thought and an answer that a server took apart, which leaves line
        breaks at their edges or not.

        closed: whether the student closed its thought; one that was cut off inside did not.

        Raises:
            UserError: neither the template nor the tokenizer says how a thought is written.
        """
        if self._frame is None:
            self._frame = self._thought_frame(place)
        before, between = self._frame
        thought = thought.lstrip(LINES)
        if not closed:
            return f"{before}{thought}"
        thought = thought.rstrip(LINES) if between.startswith(LINES) else thought
        if between.endswith(LINES):
            answer = answer.lstrip(LINES)
        return f"{before}{thought}{between}{answer}"

    def _thought_frame(self, place: str) -> tuple[str, str]:
        """What stands before a thought and between it and the answer: by the template, else by the
        marks it knows."""
        marks, opening_text = self.student.all_thought_marks, self.student.opening
        # Whether the template opens the thought in the prompt.
        opened = any(opening_text.endswith(opening) for opening, _ in marks)
        message = {"role": "assistant", "content": ANSWER, "reasoning_content": THOUGHT}
        whole = self._rendered([{"role": "user", "content": QUESTION}, message])
        behind = whole.partition(QUESTION)[2]
        if THOUGHT in behind and ANSWER in behind:
            before, _, rest = behind.partition(THOUGHT)
            start = max(before.rfind(opening) for opening, _ in marks)
            if start >= 0:
                before = before[start:]
                return ("" if opened else before), rest.partition(ANSWER)[0]
        known = str(self.student.tokenizer.chat_template or "") + " ".join(
            self.student.tokenizer.get_added_vocab()
        )
        for opening, closing in marks:
            if opening in known and closing in known:
                return ("" if opened else f"{opening}\n"), f"\n{closing}\n\n"
        raise UserError(
            f"{place}: keeps the thought apart from the response, and neither template nor "
            f"tokenizer of {self.student.name} says how a thought is written"
        )

    def _rendered(self, messages: list[Message]) -> str:
        # A template is a program of the model's author, and may fail in any way.
        try:
            return str(self.student.tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception:
            return ""

    # Turns

    def turns(self, messages: Sequence[Message], natural: bool, place: str) -> Written:
        """The student's turns and what others said between them, each encoded once.

        natural: the last turn ended by itself; a turn that somebody answered did so in any case.

        Raises:
            UserError: the template refuses the messages, or writes an earlier turn otherwise once
            another follows.
        """
        answers = [number for number, one in enumerate(messages) if one.get("role") == "assistant"]
        if not answers:
            raise UserError(f"{place}: none of its turns is the assistant's")
        natural = natural or answers[-1] < len(messages) - 1
        ids, mask, text = list[int](), list[int](), list[str]()
        for piece, by_student in self._pieces(messages[: answers[-1] + 1], place):
            written = self.student.encode(piece)
            ids += written
            mask += [int(by_student)] * len(written)
            if by_student:
                text.append(self.student.decode(written))
        ended = bool(ids) and ids[-1] in self.student.end_ids
        # The template closes every turn; one that was cut off has no end token.
        if ended and not natural:
            ids, mask, ended = ids[:-1], mask[:-1], False
        elif natural and not ended:
            ids, mask, ended = [*ids, self.student.end_id], [*mask, 1], True
        return Written(ids, "\n".join(text), ended, mask if 0 in mask else None)

    def _pieces(self, messages: Sequence[Message], place: str) -> Iterator[tuple[str, bool]]:
        """The text behind the prompt, cut where the speaker changes: each piece, and whether the
        student wrote it.

        What opens a turn of the student, and what the template writes behind its end token, is not
        the student's.
        """
        others = ""
        for number, message in enumerate(messages):
            before = self._behind(messages[:number], place)
            whole = self._behind(messages[: number + 1], place)
            # Only a template that appends can be read turn by turn: some drop earlier thoughts.
            if not whole.startswith(before):
                raise UserError(
                    f"{place}: the template of {self.student.name} rewrites earlier turns once "
                    f"another follows; {REMEDY}"
                )
            added = whole[len(before) :]
            self._check_written(message, added, place)
            if message.get("role") != "assistant":
                others += added
                continue
            # What the template writes to open an answer, which the student did not write.
            opens = self._behind(messages[:number], place, generate=True)[len(before) :]
            opening = commonprefix([opens, added])
            if opens[len(opening) :].strip():
                raise UserError(
                    f"{place}: the template of {self.student.name} opens an answer with "
                    f"{opens!r}, and writes this one without it; --thinking says how the rollouts "
                    f"were written, or {REMEDY}"
                )
            turn, others_next = self._at_end(added[len(opening) :])
            self._check_thought(message, turn, place)
            if number:  # the first one is opened by the prompt
                yield others + opening, False
            yield turn, True
            others = others_next

    def _plain(self, message: Message, place: str) -> Message:
        """A message with content as text, and with the arguments of tool calls as the template
        takes them."""
        plain = {**message, "content": content_of(message, place)}
        if message.get("tool_calls") and not self._takes_text:
            plain["tool_calls"] = [_with_object(call) for call in message["tool_calls"]]
        return plain

    @cached_property
    def _takes_text(self) -> bool:
        """Whether arguments of a tool call that are JSON text are written as they stand; many
        templates quote them anew."""
        call = {
            "id": "call00000",
            "type": "function",
            "function": {"name": "probe", "arguments": ARGUMENTS},
        }
        question = {"role": "user", "content": QUESTION}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        return ARGUMENTS in self._rendered([question, answer])

    def _check_written(self, message: Message, written: str, place: str) -> None:
        """Raises UserError where the template leaves out a part of a turn: many know no tools, and
        drop thoughts."""
        parts = {
            "text": content_of(message, place),
            "thought": message.get("reasoning_content") or "",
        }
        for call in message.get("tool_calls") or []:
            function = call.get("function", call) if isinstance(call, dict) else None
            if isinstance(function, dict):
                name = str(function.get("name") or "")
                parts[f"tool call {name}"] = name
        bare = without_blanks(written)
        for what, text in parts.items():
            # A template may write a text as a part of JSON.
            spellings = (
                without_blanks(str(text)),
                without_blanks(json.dumps(text, ensure_ascii=False)[1:-1]),
            )
            spelling = next((one for one in spellings if one in bare), None)
            if spelling is None:
                raise UserError(
                    f"{place}: the template of {self.student.name} leaves out the {what} of a turn "
                    f"of the role {message.get('role')!r}; {REMEDY}"
                )
            bare = bare.replace(spelling, "", 1)  # a word of the text is no tool call

    def _check_thought(self, message: Message, written: str, place: str) -> None:
        """Raises UserError where the template writes an empty thought that the file does not
        have."""
        if message.get("reasoning_content") or message.get("reasoning"):
            return
        text = content_of(message, place)
        for opening, _ in self.student.all_thought_marks:
            if opening in written and opening not in text:
                raise UserError(
                    f"{place}: the template of {self.student.name} writes a thought ({opening}) "
                    "into a turn that has none; --thinking says how the rollouts were written, or "
                    f"{REMEDY}"
                )

    def _at_end(self, text: str) -> tuple[str, str]:
        """A turn up to its end token, and what the template writes behind that."""
        token = self.student.control.texts.get(self.student.end_id, "")
        if not token or token not in text:
            return text, ""
        end = text.rindex(token) + len(token)
        return text[:end], text[end:]

    def _behind(self, messages: Sequence[Message], place: str, *, generate: bool = False) -> str:
        question: Message = {"role": "user", "content": QUESTION}
        turns = [self._plain(message, place) for message in messages]
        variables = self.student.template.variables if self.student.template else {}
        options: dict[str, Any] = {
            **variables,
            "tokenize": False,
            "add_generation_prompt": generate,
        }
        try:
            whole = str(self.student.tokenizer.apply_chat_template([question, *turns], **options))
        except Exception as error:  # as in _rendered
            raise UserError(
                f"{place}: the chat template of {self.student.name} refuses these turns: "
                f"{str(error).splitlines()[0]:.80}"
            ) from error
        return whole.partition(QUESTION)[2]


def _with_object(call: Any) -> Any:
    """A tool call whose arguments are an object, and not JSON text of one."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}
