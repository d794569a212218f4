"""The token categories of a task, or those of a file in their place.

categories = load("code", None)
categories.names
"""

from __future__ import annotations

from pathlib import Path

from decaylab.errors import UserError
from decaylab.tokens.call_categories import CallCategories
from decaylab.tokens.categories import Categories
from decaylab.tokens.category_rules import CategoryRules
from decaylab.tokens.code_categories import CodeCategories

KINDS = ("mathematics", "code", "calls")


def load(kind: str, path: Path | None) -> Categories:
    """The categories of one of `KINDS`, or those of a file, whatever the kind.

    Raises:
        UserError: there is no such kind, or the file cannot be used.
    """
    if kind not in KINDS:
        raise UserError(
            f"there are no token categories {kind!r}; allowed are {', '.join(KINDS)}, or pass a "
            f"file of your own with --categories"
        )
    if path or kind == "mathematics":
        return CategoryRules.load(path)
    return CodeCategories() if kind == "code" else CallCategories()
