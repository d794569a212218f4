r"""Thoughts: what a response holds between marks such as <think> and </think> is no answer.

    answer_start("<think> \\boxed{12}? </think> It is 13.")
    # 28: the answer stands behind the last thought
    answer_start("<think> I get \\boxed{12}. Wait")
    # None: the thought never ends
    answer_start("\\boxed{12}? </think> It is 13.", "...<think>")
    # 20: the prompt opened the thought, as templates of R1 do

Marks that a text merely mentions open nothing: `<think>` in backticks or quotes, or in the middle
of a sentence.
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
    """A policy, as far as thoughts go."""

    @property
    def thought_marks(self) -> Marks:
        """Marks of its tokenizer and template."""


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
"""Those of models that think in text: DeepSeek, Qwen, Granite, Magistral, Seed, Sky-T1, Command,
Kimi, Gemma, gpt-oss."""

_OPENING = re.compile(
    r"[<\[◁]\|?[\w:-]*(?:think|thought|reason|scratchpad|reflection)[\w:-]*\|?[>\]▷]", re.IGNORECASE
)
PROMPT_TOKENS = 32
"""Tokens at the end of a prompt that are looked at: a template that opens a thought does it
last."""


def of_tokenizer(tokens: Iterable[str], template: str) -> Marks:
    """Pairs of marks among the added tokens of a tokenizer and in its template, by their names,
    beside those known."""
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
    """The pair that an option names, "START END"; none where it names none.

    Raises:
        UserError: it names anything but two different marks.
    """
    if option is None or option == "none":
        return ()
    words = option.split()
    if len(words) != 2 or words[0] == words[1]:
        raise UserError(
            "--thought-marks must be an opening and a closing mark with a blank between, such as "
            f"'<think> </think>', or none, got {option!r}"
        )
    return ((words[0], words[1]),)


def of_pair(policies: Iterable[HasMarks], option: str | None) -> Marks:
    """Every pair of marks that counts for what these policies write: known, their own, and that of
    an option."""
    if option == "none":
        return ()
    of_policies = sorted({pair for policy in policies for pair in policy.thought_marks})
    return tuple(dict.fromkeys((*KNOWN, *of_policies, *of_option(option))))


def answer_start(text: str, prompt: str = "", marks: Marks = KNOWN) -> int | None:
    """Where the answer begins: behind the last thought, 0 without one; None where a thought is
    still open at the end.

    The last mark of a pair decides, however many were opened before it: templates and models open
    some twice.

    Args:
        text: a response, or a prefix with its continuation.
        prompt: what stands before it, at least its end.
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
    """The answer in each text; "" where a thought is open (None or NaN)."""
    answers = []
    for text, start in zip(texts, starts, strict=True):
        is_open = start is None or start != start
        answers.append("" if is_open else text[int(start) :])  # type: ignore[arg-type]
    return answers


_TURN = re.compile(
    r"<[|/]|\|>|\[/?[A-Z]+\]|<\w+_of_\w+>|\bassistant\b|###", re.IGNORECASE
)  # where another turn begins


def _prompt_opens(prompt: str, opening: str, closing: str) -> bool:
    """Whether a prompt ends in an open thought: in its mark, or in words that the template writes
    behind the mark.

    A mark in a question is followed by the marks of the next turn.
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
_JOINED = re.compile(
    r"\W{0,8}(?:and|or|to)?\W{0,8}"
)  # between two marks that a text mentions together
_NAMED = re.compile(r"\s*(?:-?tags?|tokens?|blocks?|sections?|marks?|markers?)\b", re.IGNORECASE)


def _opens(text: str, match: re.Match[str], thinks: bool) -> bool:
    """Whether an opening mark opens a thought: at the start of a line, after a sentence, or after
    thoughts before."""
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
