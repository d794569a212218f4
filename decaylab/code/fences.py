r"""The fenced blocks of Python in what a model wrote.

More is read than Markdown allows, as models write more: a fence behind text ("Sure: ```python"), a
closing fence at the end of a line of code, and fences that stand in a list with their code, whose
indentation goes. A block of Markdown around a block of Python is looked into. Blocks that hold
nothing, as a stray last fence opens one, are none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from decaylab.code.syntax import parsed

_PYTHON = ("python", "py", "python3", "py3")
_MARKDOWN = ("", "markdown", "md")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_OPENING = re.compile(r"(?P<before>[^`\n]*?)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_PLACE = re.compile(r"[ \t]{0,8}(([-*+]|\d{1,3}[.)])[ \t]+)?")  # blanks, or the mark of a list
_LANGUAGE = re.compile(r"[{.\s]*([\w+#-]*)")


@dataclass
class _Block:
    """indent: the column of the fence, 0 behind text."""

    language: str
    fence: str
    indent: int
    lines: list[str] = field(default_factory=list)

    def last_line(self, line: str) -> str | None:
        """What a line that closes the block still holds of it; None if the line does not close it.

        The closing fence has the same character and is at least as long.
        """
        code, fence = line.rstrip().rstrip(self.fence[0]), self.fence
        if not line.rstrip()[len(code) :].startswith(fence):
            return None
        if not code.strip():
            return "" if len(code) <= self.indent + 3 else None
        is_code = "`" not in code and fence[0] == "`" and not self._is_in_text(code)
        return code if is_code else None

    def _is_in_text(self, line: str) -> bool:
        """Whether a line ends inside of text in triple quotes."""
        source = "".join(self.lines) + line
        return any(source.count(mark) % 2 for mark in ('"""', "'''"))

    @property
    def content(self) -> str:
        """The lines without the indentation of the fence, as far as all of them have it."""
        text = "".join(self.lines)
        code = [line for line in self.lines if line.strip()]
        width = min([self.indent, *(len(line) - len(line.lstrip(" \t")) for line in code)])
        return re.sub(rf"^[ \t]{{0,{width}}}", "", text, flags=re.MULTILINE)


def fenced(text: str) -> list[str]:
    """The contents of the fenced blocks of Python, marked or not marked, in order.

    A last fence that is never closed counts up to the end of the text.
    """
    found: list[str] = []
    for block in _blocks(text.replace("\r\n", "\n")):
        content = block.content
        if block.language in _MARKDOWN and _holds_python(content):
            found += fenced(content)
        elif block.language in ("", *_PYTHON):
            found.append(content)
    return [content for content in found if content.strip()]


def _blocks(text: str) -> list[_Block]:
    found: list[_Block] = []
    opened: _Block | None = None
    for line in _LINE.findall(text):
        if opened is None:
            opened = _opened(line)
            found += [opened] if opened else []
        elif (last := opened.last_line(line)) is not None:
            opened.lines.append(last)
            opened = None
        else:
            opened.lines.append(line)
    return found


def _opened(line: str) -> _Block | None:
    """The block that a line opens."""
    mark = _OPENING.match(line)
    if mark is None:
        return None
    before, fence = mark["before"], mark["fence"]
    language = _LANGUAGE.findall(mark["info"])[0].lower()
    if _PLACE.fullmatch(before):
        return _Block(language, fence, len(before))
    is_announced = language in _PYTHON or not language and before.rstrip().endswith(":")
    return _Block(language, fence, 0) if is_announced and fence[0] == "`" else None


def _holds_python(content: str) -> bool:
    """Whether a text is Markdown with a block marked as Python, and not Python with such a
    docstring."""
    opened = [_opened(line) for line in _LINE.findall(content)]
    return any(block and block.language in _PYTHON for block in opened) and not parsed(content)
