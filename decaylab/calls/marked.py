"""Calls with marks of their own, as chat templates ask for them.

    <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>                    Hermes, Qwen
    <tool_call><function=f><parameter=a>1</parameter></function></tool_call>       Qwen3-Coder
    <function=f>{"a": 1}</function>                                                Llama 3.1
    <|python_tag|>{"name": "f", "parameters": {"a": 1}}; {...}                     Llama 3.1
    [TOOL_CALLS][{"name": "f", "arguments": {"a": 1}}]                             Mistral
    [TOOL_CALLS]f[ARGS]{"a": 1}                                                    later Mistral
    <functioncall> {"name": "f", "arguments": '{"a": 1}'}                          glaive

Text before, between and after is ignored. A closing mark may be missing at the end of the text or
before the next call. Every reader moves forward only, so the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from decaylab.calls.json_calls import after_blanks, arguments_of, calls_at, value_at
from decaylab.calls.python_calls import python_calls
from decaylab.calls.values import Call, Malformed, Untyped

MARK = re.compile(r"<tool_call>|<function=|<\|python_tag\|>|\[TOOL_CALLS\]|<functioncall>")
_FUNCTION = re.compile(r"<function=([^<>\s]++)>")
_PARAMETER = re.compile(r"<parameter=([^<>\s]++)>")
_VALUE = re.compile(r"\n?(.*?)\n?</parameter>", re.DOTALL)
_NAMED = re.compile(r"([\w.-]++)\s*+(?:\[CALL_ID\][^\[{]*+)?(?:\[ARGS\])?\s*+(?=\{)")
_GLAIVE = re.compile(r'\s*+\{\s*+"name"\s*+:\s*+"([^"\\]++)"\s*+,\s*+"arguments"\s*+:\s*+\'')
_GLAIVE_END = re.compile(r"\s*+'\s*+\}")

Read = tuple[list[Call], int]
"""Calls, and the place after them."""


def marked_calls(text: str) -> list[Call]:
    """The calls of a text with marks, in order.

    Raises:
        Malformed: what follows a mark cannot be read.
    """
    calls: list[Call] = []
    at = 0
    while mark := MARK.search(text, at):
        found, at = _READERS[mark.group()](text, mark.end())
        calls += found
    return calls


def named_calls(text: str, at: int) -> Read:
    """Calls such as ``f[ARGS]{"a": 1}``. `[ARGS]` may be missing: some tokenizers leave it out of
    the text that they decode.

    Raises:
        Malformed: no name before an object there.
    """
    calls: list[Call] = []
    while named := _NAMED.match(text, after_blanks(text, at)):
        value, at = value_at(text, named.end())
        calls.append(Call(named.group(1), arguments_of(value)))
    if not calls:
        raise Malformed("no name of a function with its arguments", at)
    return calls, at


def _tagged(text: str, at: int) -> Read:
    at = after_blanks(text, at)
    read = _functions if text.startswith("<function=", at) else calls_at
    calls, at = read(text, at)
    return calls, _closed(text, at, "</tool_call>")


def _functions(text: str, at: int) -> Read:
    """One or more <function=...>."""
    calls: list[Call] = []
    while opening := _FUNCTION.match(text, after_blanks(text, at)):
        at = after_blanks(text, opening.end())
        if text.startswith("{", at):
            arguments, at = value_at(text, at)
        else:
            arguments, at = _parameters(text, at)
        at = _closed(text, at, "</function>")
        calls.append(Call(opening.group(1), arguments))
    if not calls:
        raise Malformed("<function= without a name", at)
    return calls, at


def _parameters(text: str, at: int) -> tuple[dict[str, Any], int]:
    """Values between <parameter=...> marks, without the line breaks beside the marks."""
    arguments: dict[str, Any] = {}
    while opening := _PARAMETER.match(text, after_blanks(text, at)):
        value = _VALUE.match(text, opening.end())
        if value is None:
            raise Malformed("<parameter= without its end", len(text))
        arguments[opening.group(1)] = Untyped(value.group(1))
        at = value.end()
    return arguments, at


def _one_function(text: str, at: int) -> Read:
    return _functions(text, at - len("<function="))


def _closed(text: str, at: int, mark: str) -> int:
    """The place after a closing mark, which may be missing before another mark or the end."""
    at = after_blanks(text, at)
    if text.startswith(mark, at):
        return at + len(mark)
    if at == len(text) or MARK.match(text, at) or text.startswith("</tool_call>", at):
        return at
    raise Malformed(f"other text before {mark}", at)


def _llama(text: str, at: int) -> Read:
    """JSON, or Python to the end of the text."""
    at = after_blanks(text, at)
    if text.startswith("{", at):
        return calls_at(text, at)
    try:
        return calls_at(text, at)
    except Malformed:
        return python_calls(text[at:]), len(text)


def _mistral(text: str, at: int) -> Read:
    at = after_blanks(text, at)
    return calls_at(text, at) if text.startswith(("[", "{"), at) else named_calls(text, at)


def _glaive(text: str, at: int) -> Read:
    """An object whose arguments are JSON text in single quotes, so that it is not JSON itself."""
    head = _GLAIVE.match(text, at)
    if head is None:
        return calls_at(text, at)
    arguments, at = value_at(text, after_blanks(text, head.end()))
    end = _GLAIVE_END.match(text, at)
    if end is None:
        raise Malformed("arguments in single quotes that do not end", at)
    return [Call(head.group(1), arguments_of(arguments))], end.end()


_READERS: dict[str, Callable[[str, int], Read]] = {
    "<tool_call>": _tagged,
    "<function=": _one_function,
    "<|python_tag|>": _llama,
    "[TOOL_CALLS]": _mistral,
    "<functioncall>": _glaive,
}
