"""The names and codes of the categories of function calls."""

from __future__ import annotations

NAMES = ("function_name", "argument_name", "value", "call_syntax", "prose")
FUNCTION, ARGUMENT, VALUE, SYNTAX, PROSE = range(len(NAMES))
