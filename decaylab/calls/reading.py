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
fenced blocks of JSON, or of Python statements of which some call   the calls
offered functions, with any text around
JSON objects or lists of calls in prose                             the calls; malformed if one
                                                                    begins with ``{"name":`` or
                                                                    ``{"function":`` and cannot be
                                                                    read
lines of prose, also numbered or with bullets, that call offered    the calls
functions; inline code that does so with arguments by name
a text that begins as a call: ``{``, ``[{``; ``f(`` or ``[f(`` of   malformed
an offered function
anything else: prose, fenced programs, other data, nothing          no call
==================================================================  ==============================

In Python's syntax, a call may be assigned (``n = f(a=1)``), and of other functions than the offered
ones (``print(2)``) only a whole text of nothing but calls is read. Without the names of those that
are offered, every name counts.

An empty list (``[]``), alone or after a mark, is no call. These are malformed: JSON with single
quotes, trailing commas, comments or line breaks inside strings; an object without a name, or
without arguments (or parameters); arguments that are neither an object nor its JSON text; what is
nested too deeply for Python's parsers. NaN and Infinity are read, and equal nothing. Of a key or an
argument given twice the last value counts.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from decaylab.calls.marked import MARK, marked_calls
from decaylab.calls.matching import same_name
from decaylab.calls.plain import plain_calls, whole_calls
from decaylab.calls.values import Call, Malformed

__all__ = ["Call", "calls_of", "read_calls"]

ENDS = ("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "</s>")
"""Marks of a turn's end, which are no part of a response."""


def read_calls(text: str, offered: Collection[str] | None = None) -> list[Call] | None:
    """The calls of a response, in order; empty for an answer without any; None where it is
    malformed.

    offered: the names of the functions that are offered; None for any.
    """
    try:
        return calls_of(text, offered)
    except Malformed:
        return None


def calls_of(text: str, offered: Collection[str] | None = None) -> list[Call]:
    """As `read_calls`.

    Raises:
        Malformed: why it cannot be read.
    """
    text = text[: _end(text)]
    calls = whole_calls(text)
    if calls is not None:
        return calls
    if MARK.search(text):
        return marked_calls(text)
    return plain_calls(text, partial(_is_offered, offered))


def _is_offered(offered: Collection[str] | None, name: str) -> bool:
    return offered is None or any(same_name(name, one) for one in offered)


def _end(text: str) -> int:
    """Where a response ends, without blanks and marks of the turn's end."""
    end = len(text)
    while mark := next((one for one in (*ENDS, " ", "\n") if text.endswith(one, 0, end)), ""):
        end -= len(mark)
    return end
