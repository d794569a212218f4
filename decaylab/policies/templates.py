"""Chat templates: render messages as prompt text, and find what ends a turn.

template = ChatTemplate("some/model", tokenizer, system=True)
template.conversation([("system", "Be brief."), ("user", "2 + 3?")])
# "<|system|>Be brief.<|end|><|user|>2 + 3?<|end|><|assistant|>"
template.turn_end     # "<|end|>"
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from decaylab.errors import UserError
from decaylab.problems.files import mended, one_line

Thinking = Literal["off", "on", "template"]
QUESTION = "a question of a probe"
SYSTEM, ANSWER = "a system message of a probe", "an answer of a probe"
NAME = "function_of_a_probe"
PROBE = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "A probe.",
        "parameters": {"type": "object", "properties": {}},
    },
}
PARTS_AS_TEXT = re.compile(r"""['"]type['"]\s*:\s*['"]text['"]""")
OPENED = re.compile(
    r"[<\[]\|?(?!/)[^<>\[\]\s/]*(?:think|thought|reason)[^<>\[\]\s/]*[>\]]", re.IGNORECASE
)
"""Opening thought marks: ``<think>``, ``[THINK]``, ``<|begin_of_thought|>``. Closing marks have a
slash or "end"."""
CLOSED = re.compile(
    r"[<\[](?:/|\|?/?end)[^<>\[\]\s]*(?:think|thought|reason)[^<>\[\]\s]*[>\]]", re.IGNORECASE
)
SWITCH = "enable_thinking"
OTHER_SWITCH = re.compile(r"{%[^%]*(?<![\w.'\"])thinking\b")


class ChatTemplate:
    """A tokenizer's chat template with its settings.

    system: whether there is a system message. thinking: off and on set the template's
    ``enable_thinking``. variables: further template variables.

    Raises:
        UserError: the template cannot be used with these settings.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        *,
        system: bool = False,
        thinking: Thinking = "template",
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self.name, self.tokenizer, self.thinking = name, tokenizer, thinking
        switch = {} if thinking == "template" else {SWITCH: thinking == "on"}
        self.variables = {**switch, **(variables or {})}
        self.given = dict(variables or {})
        self.in_parts, self.probe_system = False, SYSTEM if system else ""
        self._choose_content()

    def conversation(
        self, messages: Sequence[tuple[str, str]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> str:
        """Renders messages (role, text) up to where the response begins. tools: the functions that
        the model may call.

        Raises:
            UserError: the template refuses the messages, or leaves the functions out.
        """
        rendered = [self._message(role, text) for role, text in messages]
        if tools and not self.takes_tools:
            raise UserError(
                f"{self.name}: its chat template leaves functions out; --tools text writes them "
                "into the question"
            )
        return self._rendered(rendered, True, tools=tools)

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template writes functions into the prompt."""
        messages = [*self._system(self.probe_system), self._message("user", QUESTION)]
        try:
            return NAME in self._rendered(messages, True, tools=[PROBE])
        except UserError:
            return False

    @cached_property
    def turn_end(self) -> str:
        """Text that the template writes after an answer; "" if none, or if it takes no answers.

        If nothing follows the last turn, the text between an answer and the next turn counts.
        """
        turn = [self._message("user", QUESTION), self._message("assistant", ANSWER)]
        for messages in (turn, [*turn, self._message("user", QUESTION)]):
            for system in ("", SYSTEM):  # some templates need one
                try:
                    text = self._rendered([*self._system(system), *messages], generate=False)
                except UserError:
                    continue
                asked, _, behind = text.rpartition(ANSWER)
                if QUESTION in asked and (behind := behind.partition(QUESTION)[0].strip()):
                    return behind
        return ""

    def notes(self) -> Iterator[str]:
        """A note for each setting that does not change the prompt."""
        for key in self.given:
            others = {name: self.variables[name] for name in self.variables if name != key}
            if self._probe() == self._probe(others):
                yield (
                    f"--template-kwargs {key} has no effect on {self.name}: its template does not "
                    "use it"
                )
        if self.thinking == "template":
            return
        no_effect = f"--thinking {self.thinking} has no effect on {self.name}"
        prompt = self._probe()
        switched = self._switched()
        mark = open_thought(prompt.partition(QUESTION)[2])
        if self.thinking == "off" and mark:
            opens = f"its template always opens a thought ({mark})"
            yield f"{no_effect}: {opens}{self._other_switch}"
        elif switched or (self.thinking == "on" and mark):
            return
        elif self.thinking == "on":
            yield f"{no_effect}: its template has no enable_thinking{self._other_switch}"
        elif known := self._thought_mark:
            yield (
                f"{no_effect}: its template has no enable_thinking, and the model may still think "
                f"({known}){self._other_switch}"
            )

    @property
    def _other_switch(self) -> str:
        """The remedy for templates whose switch has another name; "" for all others."""
        if not OTHER_SWITCH.search(json.dumps(self.tokenizer.chat_template)):
            return ""
        return "; use --template-kwargs thinking=true or thinking=false"

    @property
    def _thought_mark(self) -> str:
        """An opening thought mark in the template or the tokenizer; "" if there is none."""
        template = json.dumps(self.tokenizer.chat_template, ensure_ascii=False)
        mark = OPENED.search("\n".join([template, *self.tokenizer.get_added_vocab()]))
        return mark[0] if mark else ""

    def _choose_content(self) -> None:
        """Chooses message content as text or as a list of parts: the first that keeps all texts."""
        refusals = []
        for self.in_parts in (False, True):
            try:
                text = self._probe()
            except UserError as error:
                refusals.append(error)
                continue
            wanted = {"the question": QUESTION, "--system": self.probe_system}
            # A template that expects text prints the list of parts itself.
            spelt_out = self.in_parts and PARTS_AS_TEXT.search(text)
            lost = [what for what, part in wanted.items() if part not in text or spelt_out]
            if not lost:
                return
            refusals.append(
                UserError(
                    f"{self.name}: its chat template drops {' and '.join(lost)} from the prompt"
                )
            )
        raise refusals[0]

    def _system(self, text: str) -> list[dict[str, Any]]:
        return [self._message("system", text)] if text else []

    def _message(self, role: str, text: str) -> dict[str, Any]:
        content = [{"type": "text", "text": text}] if self.in_parts else text
        return {"role": role, "content": content}

    def _probe(self, variables: Mapping[str, Any] | None = None) -> str:
        """The prompt of a probe question, with the given template variables."""
        messages = [*self._system(self.probe_system), self._message("user", QUESTION)]
        return self._rendered(messages, True, variables)

    def _switched(self) -> bool:
        """Whether the template's ``enable_thinking`` changes the prompt."""
        try:
            on, off = ({**self.variables, SWITCH: on} for on in (True, False))
            return self._probe(on) != self._probe(off)
        except UserError:  # it refuses one of the two
            return True

    def _rendered(
        self,
        messages: list[dict[str, Any]],
        generate: bool,
        variables: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        if variables is None:
            variables = self.variables
        if tools:
            variables = {**variables, "tools": list(tools)}
        # A template is code by the model's author and can raise anything.
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages, tokenize=False, add_generation_prompt=generate, **variables
                )
            )
        except Exception as error:
            line = f" (line {error.lineno})" if hasattr(error, "lineno") else ""
            remedy = ""
            if "system" in str(error).lower():
                remedy = self._system_remedy(messages[0]["role"] == "system")
            raise UserError(
                f"{self.name}: its chat template refuses the prompt: "
                f"{one_line(error)}{line}{remedy}"
            ) from error

    def _system_remedy(self, given: bool) -> str:
        """What to do if a template requires or refuses a system message. given: there is one."""
        if not given:
            return "; give a system message with --system TEXT"
        if self.probe_system:
            return "; leave --system out"
        return (
            "; the problem has its own system message: use --teacher-prompt student or "
            "--teacher-system ''"
        )


def open_thought(text: str) -> str:
    """The mark of a thought that a text opens and does not close; "" if there is none."""
    opened = [mark for mark in OPENED.finditer(text) if not CLOSED.fullmatch(mark[0])]
    closed = [mark.start() for mark in CLOSED.finditer(text)]
    if not opened or (closed and closed[-1] > opened[-1].start()):
        return ""
    return opened[-1][0]


def variables_of(text: Mapping[str, str]) -> dict[str, Any]:
    """Values of ``--template-kwargs``: parsed as JSON (true, 3, "text") if possible, else text."""
    return {name: _value(value) for name, value in text.items()}


def _value(text: str) -> Any:
    try:
        value = json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        value = text
    return mended(value) if isinstance(value, str) else value
