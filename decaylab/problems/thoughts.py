r"""Finds where the answer begins, after thoughts between marks such as <think> and </think>.

    answer_start("<think> \\boxed{12}? </think> It is 13.")
    # 28: the answer begins after the last thought
    answer_start("<think> I get \\boxed{12}. Wait")
    # None: the thought never ends
    answer_start("\\boxed{12}? </think> It is 13.", "...<think>")
    # 20: the prompt opened the thought, as R1's templates do

Marks that a text only mentions are ignored: `<think>` in backticks or quotes, or in the middle of a
sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from decaylab.errors import UserError

Marks = tuple[tuple[str, str], ...]
"""Pairs of an opening and a closing mark."""


class HasMarks(Protocol):
    """Anything with thought marks, such as a policy."""

    @property
    def thought_marks(self) -> Marks:
        """Marks in its tokenizer and template."""


KNOWN: Marks = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<thoughts>", "</thoughts>"),
    ("<reasoning>", "</reasoning>"),
    ("<reason>", "</reason>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
    ("<unused94>thought", "<unused95>"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),
)
"""Marks of common reasoning models: DeepSeek, Qwen, Granite, Magistral, Seed, Sky-T1, Command,
Kimi, Gemma, gpt-oss."""

_OPENING = re.compile(
    r"[<\[◁]\|?[\w:-]*(?:think|thought|reason|scratchpad|reflection)[\w:-]*\|?[>\]▷]", re.IGNORECASE
)
PROMPT_TOKENS = 32
"""Number of tokens to search at the end of a prompt, where a template may open a thought."""


def of_tokenizer(tokens: Iterable[str], template: str) -> Marks:
    """Pairs of marks in a tokenizer's added tokens and its template, without the known ones."""
    marks = {*tokens, *_OPENING.findall(template)}
    pairs = []
    for opening in sorted(mark for mark in marks if _OPENING.fullmatch(mark)):
        closings = [opening[0] + "/" + opening[1:], opening[:2] + "/" + opening[2:]]
        for begin, end in (("begin", "end"), ("START", "END"), ("start", "end")):
            closings.append(opening.replace(begin, end))
        for closing in closings:
            if closing != opening and (closing in marks or closing in template):
                pairs.append((opening, closing))
                break
    return tuple(pair for pair in pairs if pair not in KNOWN)


def of_option(option: str | None) -> Marks:
    """The pair in the option "START END"; empty for None and "none".

    Raises:
        UserError: not two different marks.
    """
    if option is None or option == "none":
        return ()
    words = option.split()
    if len(words) != 2 or words[0] == words[1]:
        raise UserError(
            "--thought-marks must be an opening and a closing mark separated by a blank, such as "
            f"'<think> </think>', or none, got {option!r}"
        )
    return ((words[0], words[1]),)


def of_pair(policies: Iterable[HasMarks], option: str | None) -> Marks:
    """All pairs of marks for these policies: the known ones, their own, and the option's."""
    if option == "none":
        return ()
    of_policies = sorted({pair for policy in policies for pair in policy.thought_marks})
    return tuple(dict.fromkeys((*KNOWN, *of_policies, *of_option(option))))


def answer_start(text: str, prompt: str = "", marks: Marks = KNOWN) -> int | None:
    """Where the answer begins: after the last thought, or at 0; None if a thought is still open.

    The last mark of a pair decides, however many were opened: templates and models may open a
    thought twice.

    Args:
        text: a response, or a prefix with its continuation.
        prompt: the text before it, or at least its end.
        marks: pairs of marks.
    """
    start, is_open = 0, False
    for opening, closing in marks:
        inside = thinks = _prompt_opens(prompt, opening, closing)
        mention = None  # the end of an opening mark that opened nothing
        for match in _pattern(opening, closing).finditer(text):
            if _is_quoted(text, match):
                continue
            if match["closing"]:
                if inside or mention is None or not _JOINED.fullmatch(text, mention, match.start()):
                    inside, thinks, start = False, True, max(start, match.end())
            elif _opens(text, match, thinks):
                inside = thinks = True
            else:
                mention = match.end()
        is_open = is_open or inside
    return None if is_open else start


def answers(texts: Sequence[str], starts: Sequence[float | None]) -> list[str]:
    """The answer in each text; "" if a thought is open (None or NaN)."""
    answers = []
    for text, start in zip(texts, starts, strict=True):
        is_open = start is None or start != start
        answers.append("" if is_open else text[int(start) :])  # type: ignore[arg-type]
    return answers


# The beginning of another turn.
_TURN = re.compile(r"<[|/]|\|>|\[/?[A-Z]+\]|<\w+_of_\w+>|\bassistant\b|###", re.IGNORECASE)


def _prompt_opens(prompt: str, opening: str, closing: str) -> bool:
    """Whether a prompt ends in an open thought: its mark, or text that the template adds to it.

    A mark inside a question does not count: the marks of the next turn follow it.
    """
    if prompt.rstrip().lower().endswith(opening.lower()):
        return True
    matches = _pattern(opening, closing).finditer(prompt)
    marks = [match for match in matches if not _is_quoted(prompt, match)]
    if not marks or marks[-1]["closing"] or _TURN.search(prompt, marks[-1].end()):
        return False
    return _opens(prompt, marks[-1], False)


@lru_cache(maxsize=64)
def _pattern(opening: str, closing: str) -> re.Pattern[str]:
    return re.compile(
        f"(?P<opening>{re.escape(opening)})|(?P<closing>{re.escape(closing)})", re.IGNORECASE
    )


_QUOTES = "`'\"“”‘’«»"
_JOINED = re.compile(r"\W{0,8}(?:and|or|to)?\W{0,8}")  # between two marks mentioned together
_NAMED = re.compile(r"\s*(?:-?tags?|tokens?|blocks?|sections?|marks?|markers?)\b", re.IGNORECASE)


def _opens(text: str, match: re.Match[str], thinks: bool) -> bool:
    """Whether an opening mark opens a thought: at the start of a line, after a sentence, or if the
    text has had thoughts before."""
    if _NAMED.match(text, match.end()):
        return False
    before = text[text.rfind("\n", 0, match.start()) + 1 : match.start()].strip(" \t*_#")
    return (
        thinks or not before or (before[-1] in ".!?>]▷" and not before.endswith(("e.g.", "i.e.")))
    )


def _is_quoted(text: str, match: re.Match[str]) -> bool:
    before, after = text[: match.start()][-1:], text[match.end() : match.end() + 1]
    return "`" in (before, after) or bool(
        before and after and before in _QUOTES and after in _QUOTES
    )
