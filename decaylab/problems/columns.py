"""Finds the columns of question, answer and id in a row, and extracts the gold answer.

row = ("mine.jsonl:1", {"q": "2 + 2?", "gold": 4})
columns = find_columns(row, {"question": "q", "answer": "gold"}, "mine.jsonl")
gold_answer(row[1], columns, row[0]).text          # "4"
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from decaylab.errors import UserError
from decaylab.problems.files import Row
from decaylab.problems.nested_columns import Gold, gold_text, has, lookup, names

QUESTION_COLUMNS, ID_COLUMNS = ("problem", "question", "prompt"), ("unique_id", "problem_id", "id")
VERL_ANSWER, VERL_ID = "reward_model.ground_truth", "extra_info.index"
OTHER_ANSWERS = ("final_answer", VERL_ANSWER)
"""The gold answer columns of DeepMath and verl."""


@dataclass(frozen=True)
class Columns:
    """The columns (or paths into them) of question, answer and id.

    prefix: starts the generated ids of problems without an id. hashes: the gold answer follows
    ``####``; text without it has no gold answer, unless the caller named the column (``named``).
    wrapped: gold answers may be inside an object or list.
    """

    question: str
    answer: str | None
    id: str | None
    prefix: str
    hashes: bool = False
    named: bool = False
    wrapped: bool = True


def find_columns(
    row: Row,
    given: Mapping[str, str],
    source: str,
    *,
    questions: Iterable[str] = QUESTION_COLUMNS,
    ids: Iterable[str] = ID_COLUMNS,
    prefix: str = "row",
    hashes: bool = False,
) -> Columns:
    """Finds the columns in the first row: the caller's map (``given``) first, then the usual names.

    A name in the map may be a path, such as ``reward_model.ground_truth``. Usual names match in any
    case; an exact match comes first. source: name of the set in messages.

    Raises:
        UserError: an unknown role in the map, a missing column, or several candidates.
    """
    found = row[1]
    odd = sorted(set(given) - {"question", "answer", "id"})
    if odd:
        raise UserError(f"--column must map question, answer or id, got {', '.join(odd)}")
    question = _pick(
        given.get("question"), _usual(found, questions), questions, found, "question", source
    )
    answer = None
    # An empty name means that the set has no answers.
    if given.get("answer") != "":
        likely = _usual(found, ("answer",)) or [name for name in OTHER_ANSWERS if has(found, name)]
        answer = _pick(given.get("answer"), likely, ("answer",), found, "answer", source)
    likely = _usual(found, ids) or [VERL_ID] * (answer == VERL_ANSWER and has(found, VERL_ID))
    identity = (
        _pick(given.get("id"), likely, (), found, "id", source)
        if given.get("id") or likely
        else None
    )
    return Columns(question, answer, identity, prefix, hashes, "answer" in given)


def _usual(row: Mapping[str, Any], usual: Iterable[str]) -> list[str]:
    """The first usual name that is a column; without an exact match, all that match in any case."""
    usual = list(usual)
    exact = next((name for name in usual if name in row), None)
    if exact:
        return [exact]
    folded = ([column for column in row if column.casefold() == name] for name in usual)
    return next(filter(None, folded), [])


def _pick(
    given: str | None,
    likely: list[str],
    usual: Iterable[str],
    row: Mapping[str, Any],
    role: str,
    source: str,
) -> str:
    """The given column, or the likely one. usual: the names that the message lists."""
    if given:
        likely, usual = [given] if has(row, given) else [], [given]
    if len(likely) == 1:
        return likely[0]
    way = f"set it with --column {role}=NAME"
    if likely:
        raise UserError(
            f"{source} has several columns for the {role}: {', '.join(map(repr, likely))}; {way}"
        )
    raise UserError(
        f"{source} has no column {' or '.join(map(repr, usual))} for the {role}: found "
        f"{', '.join(map(repr, names(row))) or 'none'}; {way}"
    )


def gold_answer(row: Mapping[str, Any], columns: Columns, where: str) -> Gold:
    """The gold answer of a row; its text is None if there is none."""
    if not columns.answer:
        return Gold(None, False)
    value = lookup(row, columns.answer)
    if isinstance(value, str) and not columns.wrapped:
        gold = Gold(value.strip() or None, False)
    else:
        gold = gold_text(value, where, columns.answer)
    if columns.hashes:
        # GSM8K writes thousands with commas (1,200).
        _, found, last = (gold.text or "").rpartition("####")
        gold = Gold(
            (last.strip().replace(",", "") or None) if found or columns.named else None,
            gold.unwrapped,
        )
    return gold
