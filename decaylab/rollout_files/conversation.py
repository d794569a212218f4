"""Joins separate thoughts and turns of a file with the student's template.

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
    """Several turns in the student's ids.

    text: the student's own text. ended: whether it ended its last turn. mask: 1 at the student's
    own tokens; None if all are.
    """

    ids: list[int]
    text: str
    ended: bool
    mask: list[int] | None


class Conversation:
    """Renders a student's responses with its template."""

    def __init__(self, student: Policy) -> None:
        self.student = student
        self._frame: tuple[str, str] | None = None

    def with_thought(self, thought: str, answer: str, place: str, *, closed: bool = True) -> str:
        """Joins a thought and an answer that a server separated; adjusts line breaks between them.

        closed: whether the student ended its thought; False if it was cut off inside.

        Raises:
            UserError: neither the template nor the tokenizer has thought marks.
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
        """The text before a thought, and between it and the answer.

        From the template, or else from the known thought marks.
        """
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
            f"{place}: the row has a separate thought, but neither the template nor the tokenizer "
            f"of {self.student.name} has thought marks to join it with"
        )

    def _rendered(self, messages: list[Message]) -> str:
        # A template is code by the model's author and can raise anything.
        try:
            return str(self.student.tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception:
            return ""

    # Turns

    def turns(self, messages: Sequence[Message], natural: bool, place: str) -> Written:
        """The student's turns and the others' turns between them, each encoded once.

        natural: the last turn ended naturally; a turn with a reply always did.

        Raises:
            UserError: the template refuses the messages, or changes an earlier turn when another
                follows.
        """
        answers = [number for number, one in enumerate(messages) if one.get("role") == "assistant"]
        if not answers:
            raise UserError(f"{place}: the row has no assistant turn")
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
        """The text after the prompt, split by speaker: each piece, and whether it is the student's.

        The text that opens a student's turn, and text after its end token, is not the student's.
        """
        others = ""
        for number, message in enumerate(messages):
            before = self._behind(messages[:number], place)
            whole = self._behind(messages[: number + 1], place)
            # The template must only append; some drop earlier thoughts.
            if not whole.startswith(before):
                raise UserError(
                    f"{place}: the template of {self.student.name} changes earlier turns when "
                    f"another follows; {REMEDY}"
                )
            added = whole[len(before) :]
            self._check_written(message, added, place)
            if message.get("role") != "assistant":
                others += added
                continue
            # The template's opening of an answer, not written by the student.
            opens = self._behind(messages[:number], place, generate=True)[len(before) :]
            opening = commonprefix([opens, added])
            if opens[len(opening) :].strip():
                raise UserError(
                    f"{place}: the template of {self.student.name} opens an answer with "
                    f"{opens!r}, but renders this one without it; set --thinking as the rollouts "
                    f"were sampled, or {REMEDY}"
                )
            turn, others_next = self._at_end(added[len(opening) :])
            self._check_thought(message, turn, place)
            if number:  # the first opening is part of the prompt
                yield others + opening, False
            yield turn, True
            others = others_next

    def _plain(self, message: Message, place: str) -> Message:
        """A message with text content, and tool arguments in the form that the template takes."""
        plain = {**message, "content": content_of(message, place)}
        if message.get("tool_calls") and not self._takes_text:
            plain["tool_calls"] = [_with_object(call) for call in message["tool_calls"]]
        return plain

    @cached_property
    def _takes_text(self) -> bool:
        """Whether the template prints JSON text arguments of a tool call unchanged.

        Many templates quote them again.
        """
        call = {
            "id": "call00000",
            "type": "function",
            "function": {"name": "probe", "arguments": ARGUMENTS},
        }
        question = {"role": "user", "content": QUESTION}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        return ARGUMENTS in self._rendered([question, answer])

    def _check_written(self, message: Message, written: str, place: str) -> None:
        """Raises UserError if the template drops part of a turn, such as a tool call or thought."""
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
            # A template may print the text inside JSON.
            spellings = (
                without_blanks(str(text)),
                without_blanks(json.dumps(text, ensure_ascii=False)[1:-1]),
            )
            spelling = next((one for one in spellings if one in bare), None)
            if spelling is None:
                raise UserError(
                    f"{place}: the template of {self.student.name} drops the {what} of a turn "
                    f"of role {message.get('role')!r}; {REMEDY}"
                )
            bare = bare.replace(spelling, "", 1)  # a word of the text must not pass for a tool call

    def _check_thought(self, message: Message, written: str, place: str) -> None:
        """Raises UserError if the template adds an empty thought that the file does not have."""
        if message.get("reasoning_content") or message.get("reasoning"):
            return
        text = content_of(message, place)
        for opening, _ in self.student.all_thought_marks:
            if opening in written and opening not in text:
                raise UserError(
                    f"{place}: the template of {self.student.name} adds a thought ({opening}) "
                    "to a turn that has none; set --thinking as the rollouts were sampled, or "
                    f"{REMEDY}"
                )

    def _at_end(self, text: str) -> tuple[str, str]:
        """A turn up to its end token, and the text that the template adds after it."""
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
    """A tool call with its arguments parsed from JSON text to an object."""
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}
