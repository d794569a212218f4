"""The calls of a response, whatever form they have.

    read_calls('<tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>')   # [Call("f", ...)]
    read_calls("None of the functions can do that.")                            # []
    read_calls('<tool_call>{"name": "f", "arguments": {"a": 1</tool_call>')     # None

Thoughts are removed before. Nothing in a response is ever evaluated.

==================================================================  ==============================
response, the first row that applies                                read as
==================================================================  ==============================
the whole text is JSON, a Python call or list of calls, or          the calls
Mistral's ``name{...}``
a mark (``<tool_call>``, ``<function=``, ``<|python_tag|>``,        the calls after the marks;
``[TOOL_CALLS]``, ``<functioncall>``), with any text around         malformed if one of them cannot
                                                                    be read
fenced blocks that are such a text, with any text around            the calls
JSON objects or lists of calls in prose                             the calls; malformed if one
                                                                    begins with ``{"name":`` and
                                                                    cannot be read
lines of prose that are Python calls                                the calls
a text that begins as a call (``{``, ``[{``, ``f(``, ``[f(``)       malformed
anything else: prose, fenced programs, other data, nothing          no call
==================================================================  ==============================

An empty list (``[]``), alone or after a mark, is no call. These are malformed: JSON with single
quotes, trailing commas, comments or line breaks inside strings; an object without a name, or
without arguments (or parameters); arguments that are neither an object nor its JSON text; what is
nested too deeply for Python's parsers. NaN and Infinity are read, and equal nothing. Of a key or an
argument given twice the last value counts.
"""

from __future__ import annotations

from decaylab.calls.marked import MARK, marked_calls
from decaylab.calls.plain import plain_calls, whole_calls
from decaylab.calls.values import Call, Malformed

__all__ = ["Call", "calls_of", "read_calls"]

ENDS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "</s>")
"""Marks of a turn's end, which are no part of a response."""


def read_calls(text: str) -> list[Call] | None:
    """The calls of a response, in order; empty for an answer without any; None where it is
    malformed."""
    try:
        return calls_of(text)
    except Malformed:
        return None


def calls_of(text: str) -> list[Call]:
    """As `read_calls`.

    Raises:
        Malformed: why it cannot be read.
    """
    text = text[: _end(text)]
    calls = whole_calls(text)
    if calls is not None:
        return calls
    return marked_calls(text) if MARK.search(text) else plain_calls(text)


def _end(text: str) -> int:
    """Where a response ends, without blanks and marks of the turn's end."""
    end = len(text)
    while mark := next((one for one in (*ENDS, " ", "\n") if text.endswith(one, 0, end)), ""):
        end -= len(mark)
    return end
