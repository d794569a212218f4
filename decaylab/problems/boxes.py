r"""Extracts the contents of \boxed and \fbox from a response.

boxes(r"so \boxed{\frac{3}{4}}")           # ["\\frac{3}{4}"]
boxed_lists(r"\boxed{2} and \boxed{3}")    # ["2, 3", "2, 3"]
"""

from __future__ import annotations

import re

_BOX_TOKEN = re.compile(
    r"(?P<box>\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<brace>\{)?)|\\.|[{}]", re.DOTALL
)


def _spans(text: str) -> list[tuple[int, int, str | None]]:
    """Start, end and content of every box, in order of their starts."""
    spans: list[tuple[int, int, str | None]] = []
    # (index in spans, start of content) for the brace of a box, None for another brace
    open_braces: list[tuple[int, int] | None] = []
    for match in _BOX_TOKEN.finditer(text):
        if match["box"]:
            if match["brace"]:
                open_braces.append((len(spans), match.end()))
            spans.append((match.start(), match.end(), None))
        elif match[0] == "{":
            open_braces.append(None)
        elif match[0] == "}" and open_braces and (box := open_braces.pop()) is not None:
            index, content = box
            spans[index] = spans[index][0], match.end(), text[content : match.start()]
    return spans


def boxes(text: str) -> list[str | None]:
    """Content of every box, in order; None for a box that is not closed or has no braces."""
    return [content for _, _, content in _spans(text)]


def count_boxes(text: str) -> int:
    r"""Number of boxes (\boxed or \fbox) that the text opens, closed or not."""
    return len(boxes(text))


_BLANK = re.compile(r"\\(?:text|mathrm|mbox)\b|\\[ ,;:!_]|[\s{}$~.?_]")


def boxed_answers(text: str) -> list[str | None]:
    """Content of every box, in order; None for one that is malformed, empty or blank."""
    return [_answer(content) for content in boxes(text)]


def _answer(content: str | None) -> str | None:
    return content if content and _BLANK.sub("", content) else None


_BETWEEN_BOXES = re.compile(
    r"(?:[\s,;&$]|\\[()\[\],;: "
    r"]|\\q?quad|(?:and|or)(?![A-Za-z])|\\text\s*\{\s*(?:and|or)\s*\}|[A-Za-z](?:_\{?\w\}?)?\s*=)*"
)


def boxed_lists(text: str) -> list[str | None]:
    r"""The list that each box belongs to, in order: "2, 3" twice for "\boxed{2} and \boxed{3}".

    Boxes form one list if only separators, "and", "or" or "x =" are between them. A single box is a
    list of one. None as in `boxed_answers`.
    """
    lists: list[list[int]] = []
    spans = _spans(text)
    for index, (start, _, content) in enumerate(spans):
        end, before = spans[index - 1][1:] if index else (0, None)
        joins = (
            index
            and _answer(content)
            and _answer(before)
            and _BETWEEN_BOXES.fullmatch(text, end, max(end, start))
        )
        if joins and start >= end:
            lists[-1].append(index)
        else:
            lists.append([index])
    answers: list[str | None] = []
    for members in lists:
        contents = [_answer(spans[index][2]) for index in members]
        answers += [", ".join(filter(None, contents)) or None] * len(members)
    return answers
