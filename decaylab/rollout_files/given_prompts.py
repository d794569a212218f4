"""Parses prompts of rollout files: bare questions, chat messages, rendered texts, or token ids.

    reader = PromptReader(student)
    reader.of_text("What is 2 + 3?").kind                                  # "question"
    reader.of_text("<|user|>What is 2 + 3?<|end|><|assistant|>").kind      # "rendered"
    reader.of_text("<|user|>What is 2 + 3?<|end|><|assistant|>").messages
    # (("user", "What is 2 + 3?"),)

A rendered prompt is recognised by the text that the student's template writes around its messages.
It is parsed completely or refused. The student reads it unchanged; the teacher reads the messages
through its own template.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from decaylab.errors import UserError
from decaylab.policies.policy import PLAIN_FORMAT, Policy
from decaylab.policies.templates import ANSWER, QUESTION, SYSTEM, ChatTemplate, Thinking
from decaylab.problems.chat_questions import Messages, joined
from decaylab.rollout_files.record import Message

Kind = Literal["question", "messages", "rendered", "stripped", "named"]
PromptKind = Literal["auto", "question", "rendered"]
KINDS: dict[Kind, str] = {
    "question": "bare questions",
    "messages": "chat messages",
    "rendered": "rendered by the student's template",
    "stripped": "rendered, then decoded without special tokens",
    "named": "problem ids only",
}
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
}
THINKING: tuple[Thinking, ...] = ("template", "off", "on")
FOREIGN = re.compile(
    r"(?:<s>|<bos>|<BOS_TOKEN>|<\|begin_of_text\|>|<\|startoftext\|>|<\|endoftext\|>|<｜begin▁of▁sentence｜>|\[gMASK\](?:<sop>)?)?\s*(?:"
    r"<\|(?:im_start|start_header_id|user|assistant|system|start_of_role|start|turn|User|Assistant)\|?>|<｜(?:User|Assistant)｜>"
    r"|<start_of_turn>|\[INST\]|<\|START_OF_TURN_TOKEN\|>|<reserved_\d+>|### "
    r"?(?:Instruction|Human):|<extra_id_1>User)"
)
"""Text of common templates before a message: the beginning-of-sequence token and a role mark."""
DAY = re.compile(r"\d{1,2} [A-Z][a-z]{2,8} \d{4}|[A-Z][a-z]{2,8} \d{1,2}, \d{4}|\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True)
class GivenPrompt:
    """A parsed prompt. messages: role and text of each. text: a rendered prompt, if given."""

    kind: Kind
    messages: Messages = ()
    text: str | None = None

    @property
    def question(self) -> str:
        """The last message, which the response answers."""
        return self.messages[-1][1] if self.messages else ""


@dataclass(frozen=True)
class _Frame:
    """The text that a template writes around the messages of a conversation.

    head: before the first question; a date in it matches any date. before_system, after_system:
    around a system message; before_system is None if the template takes none. after_user,
    after_assistant: between turns; "" if the template takes no answers. tail: after the last
    question.
    """

    head: str
    tail: str
    before_system: str | None = None
    after_system: str = ""
    after_user: str = ""
    after_assistant: str = ""

    def parse(self, text: str) -> Messages | None:
        """The messages of a rendered text; None if it does not match this frame."""
        # The text before the question may differ without a system message.
        for system in (False, True):
            inside = self._inside(text, self.before_system if system else self.head)
            if inside is None:
                continue
            messages = list[tuple[str, str]]()
            if system:
                content, separator, inside = inside.partition(self.after_system)
                # Any question may contain a blank separator.
                if not separator.strip():
                    continue
                messages.append(("system", content))
            if turns := self._turns(inside):
                return (*messages, *turns)
        return None

    def _inside(self, text: str, head: str | None) -> str | None:
        """The text between head and tail; None if one of them is missing."""
        begins = None if head is None else _dated(head).match(text)
        end = len(text.rstrip()) - len(self.tail.rstrip())
        if begins is None or end < begins.end() or not text.rstrip().endswith(self.tail.rstrip()):
            return None
        return text[begins.end() : end]

    def holds(self, text: str) -> bool:
        """Whether a text has this head and tail; both must contain words."""
        return (
            all(re.search(r"\w", part) for part in (self.head, self.tail))
            and self._inside(text, self.head) is not None
        )

    def _turns(self, text: str) -> Messages | None:
        if not self.after_user or not self.after_assistant or self.after_user not in text:
            return (("user", text),)
        first, *rest = text.split(self.after_user)
        turns = [("user", first)]
        for piece in rest:
            answer, separator, question = piece.partition(self.after_assistant)
            if not separator:
                return None
            turns += [("assistant", answer), ("user", question)]
        return tuple(turns)

    def without(self, tokens: Sequence[str]) -> _Frame:
        """The same frame in a text that was decoded without these tokens."""

        parts: list[Any] = [getattr(self, name) for name in self.__dataclass_fields__]
        return _Frame(*(part and without_tokens(part, tokens) for part in parts))


@lru_cache(maxsize=64)
def _dated(head: str) -> re.Pattern[str]:
    """A pattern for a template's head that accepts any date, since templates write today's."""
    return re.compile(f"(?:{DAY.pattern})".join(map(re.escape, DAY.split(head))))


def _with_days(rendered: str, text: str, head: str) -> str:
    """A text that was rendered today, with the dates in its head taken from another text."""
    count = len(DAY.findall(head))
    if not count:
        return rendered
    days = iter(DAY.findall(text))
    return DAY.sub(lambda match: next(days, match[0]), rendered, count=count)


class PromptReader:
    """Parses the prompts of a file for a student, each independently of the others.

    forced: the value of ``--prompt-kind``.
    """

    def __init__(self, student: Policy, forced: PromptKind = "auto") -> None:
        self.student, self.forced = student, forced
        framed = list(_frames(student)) if student.template else []
        self.frames = [frame for _, frame in framed]
        special = special_tokens(student)
        self.bare: dict[_Frame, ChatTemplate] = {}
        for template, frame in framed:
            self.bare.setdefault(frame.without(special), template)
        self.begin = str(student.tokenizer.bos_token or "")

    def of_messages(self, messages: Sequence[Message], place: str) -> GivenPrompt:
        """Parses a prompt given as chat messages.

        Raises:
            UserError: a role or content that cannot be rendered, or a last message that is not the
                user's.
        """
        plain = tuple(_message(message, place) for message in messages)
        last = plain[-1][0] if plain else "nothing"
        if last != "user":
            raise UserError(
                f"{place}: the messages of a prompt must end with the user's, got {last}"
            )
        return GivenPrompt("messages", plain)

    def of_text(self, text: str, place: str = "", *, stripped: bool = False) -> GivenPrompt:
        """Parses a prompt given as text.

        stripped: it was rendered, then decoded without its special tokens.

        Raises:
            UserError: it looks rendered but cannot be parsed.
        """
        if self.forced == "question":
            return GivenPrompt("question", (("user", text),))
        if messages := self._rendered(text):
            return GivenPrompt("rendered", messages, self._begun(text))
        if prompt := self._stripped(text, stripped):
            return prompt
        named, has_template = self.student.name, self.student.template is not None
        if plain := _plain(text):
            if has_template:
                raise UserError(
                    f"{place}: the prompt is in the plain format ({text!r:.40}), but {named} uses "
                    "its chat template; use --prompt-format plain to keep the file's format, or "
                    "--prompt-kind question to read the prompt as a question"
                )
            return GivenPrompt("question", (("user", plain),))
        if self.forced == "rendered" and not has_template:
            return GivenPrompt("rendered", (("user", text),), text)
        if self.forced == "rendered" or (stripped and self.frames):
            raise UserError(
                f"{place}: the prompt was not rendered by the template of {named} ({text!r:.60}); "
                "use --prompt-kind question to read prompts as questions"
            )
        if mark := self._marked(text):
            holds = f"{place}: the prompt contains {mark!r}, as rendered prompts do,"
            if not has_template:
                raise UserError(
                    f"{holds} but --prompt-format plain uses no template: leave that out, or set "
                    "--prompt-kind to rendered (used unchanged) or question"
                )
            tails = tuple(frame.tail.rstrip() for frame in self.frames if frame.tail.strip())
            cut = ""
            if text.rstrip().endswith(tails):
                cut = " (only its end matches: was it cut off on the left?)"
            raise UserError(
                f"{holds} but was not rendered by the template of {named}{cut}: give the student "
                "that it was rendered for, or use --prompt-kind question if it is a question"
            )
        return GivenPrompt("question", (("user", text),))

    def of_ids(self, ids: Sequence[int], place: str) -> GivenPrompt:
        """Parses a prompt given as the student's token ids.

        Raises:
            UserError: ids outside the student's vocabulary, or a prompt that cannot be parsed.
        """
        # Prompts of a batch may be padded on the left.
        pad = str(self.student.tokenizer.pad_token or "")
        text = text_of(self.student, ids, place)
        while pad and pad != self.begin and text.startswith(pad):
            text = text.removeprefix(pad)
        return self.of_text(text, place)

    def ids_of(self, ids: Sequence[int], prompt: GivenPrompt, place: str) -> tuple[int, ...]:
        """The ids of a prompt without left padding.

        Raises:
            UserError: they do not contain the question of their row.
        """
        pad, kept = self.student.tokenizer.pad_token_id, list(ids)
        while kept and kept[0] == pad != self.student.tokenizer.bos_token_id:
            kept.pop(0)
        text = text_of(self.student, kept, place)
        if letters(prompt.question) not in letters(text):
            raise UserError(
                f"{place}: the token ids of the prompt are {text!r:.60} for {self.student.name}, "
                "without the row's question: give the student that they belong to, or leave the "
                "ids out"
            )
        return tuple(kept)

    def renderings(self, prompt: GivenPrompt) -> Iterator[str]:
        """All rendered forms of a prompt, without the beginning-of-sequence token."""
        if len(prompt.messages) > 1:
            given = [prompt.text] if prompt.text is not None else None
            for text in given or self._conversations(prompt.messages):
                yield from endings(self.without_begin(text))
            return
        for frame in (*self.frames, *self.bare):
            if frame.head.strip():
                yield from endings(f"{frame.head}{prompt.question}{frame.tail}")
        yield PLAIN_FORMAT.format(question=prompt.question)

    def _conversations(self, messages: Messages) -> Iterator[str]:
        special = special_tokens(self.student)
        for template in dict.fromkeys(self.bare.values()):
            try:
                text = template.conversation(messages)
            except UserError:
                continue
            yield text
            # Engines often decode without special tokens.
            yield without_tokens(text, special)

    def _rendered(self, text: str) -> Messages | None:
        bare = self.without_begin(text)
        parsed = (frame.parse(bare) for frame in self.frames)
        return next(filter(None, parsed), None)

    def without_begin(self, text: str) -> str:
        """The text without beginning-of-sequence tokens; template and engine may each add one."""
        while self.begin and text.startswith(self.begin):
            text = text.removeprefix(self.begin)
        return text

    def _stripped(self, text: str, known: bool) -> GivenPrompt | None:
        """Restores the special tokens of a stripped prompt; None if the text is not one.

        Keeps opened or closed thoughts as in the text. known: the writer always strips, so frames
        without any text of their own count too.
        """
        for frame, template in self.bare.items():
            counts = known or (frame.head.strip() and frame.tail.strip())
            if counts and (messages := frame.parse(text)):
                rendered = template.conversation(messages)
                return GivenPrompt("stripped", messages, _with_days(rendered, text, frame.head))
        return None

    def _begun(self, text: str) -> str:
        """The text with the template's beginning-of-sequence token, which engines add."""
        template = self.student.template
        if template is None or text.startswith(self.begin):
            return text
        return (
            self.begin + text
            if template.conversation([("user", "?")]).startswith(self.begin)
            else text
        )

    def _marked(self, text: str) -> str:
        """A part of a text that looks like a template's; "" if there is none."""
        for frame in self.frames:
            for mark in (frame.head, frame.tail):
                if mark.strip() and mark.strip() in text:
                    return mark.strip()
        for frame in self.bare:
            if frame.holds(text):
                return f"{frame.head}...{frame.tail}".strip()
        foreign = FOREIGN.match(self.without_begin(text).lstrip())
        return foreign[0] if foreign else ""


def _frames(student: Policy) -> Iterator[tuple[ChatTemplate, _Frame]]:
    """The frames of a policy's template, with each setting of ``--thinking``."""
    variables = student.template.given if student.template else {}
    for thinking in THINKING:
        try:
            template = ChatTemplate(
                student.name, student.tokenizer, thinking=thinking, variables=variables
            )
        except UserError:
            continue
        if frame := _frame(template, str(student.tokenizer.bos_token or "")):
            yield template, frame


NEXT = "a second question probe"


def _frame(template: ChatTemplate, begin: str) -> _Frame | None:
    def rendered(*messages: tuple[str, str]) -> str:
        try:
            return template.conversation(messages).removeprefix(begin)
        except UserError:
            return ""

    head, question, tail = rendered(("user", QUESTION)).partition(QUESTION)
    if not question:
        return None
    with_system = rendered(("system", SYSTEM), ("user", QUESTION))
    before_system, system, rest = with_system.partition(SYSTEM)
    after_system = rest.partition(QUESTION)[0]
    conversation = rendered(("user", QUESTION), ("assistant", ANSWER), ("user", NEXT))
    after_user, answer, rest = conversation.partition(QUESTION)[2].partition(ANSWER)
    return _Frame(
        head,
        tail,
        before_system=before_system if system and after_system else None,
        after_system=after_system,
        after_user=after_user if answer else "",
        after_assistant=rest.partition(NEXT)[0],
    )


def rendered_ids(student: Policy, text: str) -> tuple[int, ...]:
    """Ids of a prompt that is rendered already, as the student reads it.

    Without a template, the special tokens that begin a text are added if it lacks them.
    """
    begin = str(student.tokenizer.bos_token or "\n")
    bare = student.template is None and not text.startswith(begin)
    return tuple(student.control.encode(text, {}, begin=bare))


def letters(text: str) -> str:
    """Letters and digits only, to compare texts that were normalised or trimmed."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def without_blanks(text: str) -> str:
    return "".join(text.split())


def without_tokens(text: str, tokens: Sequence[str]) -> str:
    for token in tokens:
        text = text.replace(token, "")
    return text


def endings(text: str) -> tuple[str, str]:
    """A prompt as the beginning of a longer text: with and without its trailing blanks."""
    return text.lstrip(), text.strip()


def special_tokens(policy: Policy) -> list[str]:
    """The tokens that decoding with skip_special_tokens drops, longest first.

    Includes added tokens, since the tokenizer's list of Llama 3 is incomplete.
    """
    added = policy.tokenizer.added_tokens_decoder.values()
    special = {str(token.content) for token in added if token.special}
    special.update(map(str, policy.tokenizer.all_special_tokens))
    return sorted(special, key=lambda token: (-len(token), token))


def text_of(policy: Policy, ids: Sequence[int], place: str) -> str:
    """The text of token ids, special tokens included.

    Raises:
        UserError: an id outside the policy's vocabulary.
    """
    size = len(policy.tokenizer)
    if beyond := [token for token in ids if not 0 <= token < size]:
        raise UserError(
            f"{place}: token id {beyond[0]} is outside the vocabulary of {policy.name} ({size} "
            "ids): give the student that wrote the rollouts"
        )
    return str(
        policy.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
    )


def _plain(text: str) -> str:
    """The question of a prompt in the plain format; "" for any other text."""
    before, _, behind = PLAIN_FORMAT.partition("{question}")
    if text.startswith(before) and text.rstrip().endswith(behind):
        return text.rstrip()[len(before) : -len(behind)]
    return ""


def _message(message: Message, place: str) -> tuple[str, str]:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise UserError(
            f"{place}: the role of a message must be one of {', '.join(ROLES)}, got {role!r}"
        )
    if message.get("tool_calls"):
        raise UserError(
            f"{place}: the prompt contains tool calls, which are not supported; the rollout must "
            "begin before them"
        )
    return ROLES[role], content_of(message, place)


def content_of(message: Mapping[str, Any], place: str) -> str:
    """The text of a message, joined from its parts if needed.

    Raises:
        UserError: content that is not text, such as an image.
    """
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and (text := joined(content)) is not None:
        return text
    raise UserError(
        f"{place}: the content of a message must be text or parts with text, got {content!r:.60}"
    )
