"""How the functions of a problem reach a model: by its chat template, or as text."""

from __future__ import annotations

import json
from typing import Any, Literal

Tools = Literal["template", "text"]

AS_TEXT = """You can call these functions, one in each line:
{functions}
If they answer the question, reply with the calls alone, as a JSON list: \
[{{"name": NAME, "arguments": {{NAME: VALUE, ...}}}}, ...]. \
If none of them does, or something is missing that a call needs, say so in words."""
"""What is put ahead of a question whose functions are written as text."""


def as_text(functions: list[dict[str, Any]]) -> str:
    """The functions of a chat template's list, described in a text."""
    lines = [json.dumps(function, ensure_ascii=False) for function in functions]
    return AS_TEXT.format(functions="\n".join(lines))
