"""Answer rules of the user's own in a grading process: importing them, verdicts, errors."""

from __future__ import annotations

from collections.abc import Mapping

from decaylab.errors import UserError
from decaylab.plugins import loading, origins
from decaylab.problems.answers import RULES, Rule

VERDICTS = ("correct", "wrong", "no_answer")
"""The verdicts that a rule may return as text."""
Sources = dict[str, tuple[str, str]]
"""Rule -> what ``--plugin`` takes to register it, and the SHA-256 of its file."""


def verdict(rule: Rule, response: str, gold: str) -> str:
    """The verdict of a rule on a response; one without text has no answer.

    Raises:
        UserError: the rule returned no verdict.
    """
    given = rule(response, gold) if response.strip() else None
    if given is None:
        return "no_answer"
    if type(given).__name__ in ("bool", "bool_"):  # numpy's too
        return "correct" if given else "wrong"
    if isinstance(given, str) and given in VERDICTS:
        return given
    raise UserError(f"must return True, False, None or {', '.join(VERDICTS)}, got {given!r:.60}")


def load(sources: Mapping[str, tuple[str, str]]) -> str:
    """Imports the plugins of rules; returns what is wrong with one, in a line."""
    for rule, (source, digest) in sources.items():
        if RULES.get(rule):
            continue
        try:
            loading.load(source)
        except Exception as error:
            return f"answer rule {rule!r} in a grading process: {loading.described(error)}"
        origin = origins.ORIGINS.get((origins.ANSWER_RULE, rule))
        if origin is None:
            return (
                f"answer rule {rule!r} is not registered when {source} is imported; register it at "
                "the top level of the file"
            )
        if origin.sha256 != digest:
            return f"{source} has changed since this command began; start the command again"
    return ""


def complaint(rule: str, response: str, error: Exception) -> str:
    """What went wrong in a rule, in a line."""
    origin = origins.ORIGINS[origins.ANSWER_RULE, rule]
    shown = " ".join(response.split())[-60:]
    what = loading.described(error, origin.file)
    return f"{origin.words}: {what}, on a response that ends {shown!r}"
