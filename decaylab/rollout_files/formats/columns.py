"""Files of unknown writers: columns by their usual names, or by a map of names.

A row needs a response (text, token ids, a list of messages, or a list of several responses) and a
problem: its id in the set of ``--problems``, or a prompt and a gold answer. Two candidate columns
for the response are refused if their values differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from decaylab.errors import UserError
from decaylab.problems.nested_columns import has, lookup
from decaylab.rollout_files.formats.fields import Fields, Name, is_messages
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.rollout import add_reply
from decaylab.rollout_files.record import ABSENT, Record

_NAMES = {
    "response": "response completion output text generation generated_text model_output responses",
    "prompt": "question problem prompt messages input query",
    "answer": "answer ground_truth gold gold_answer reward_model.ground_truth final_answer "
    "reference_answer expected_answer target",
    "problem_id": "problem_id unique_id question_id prompt_id example_id",
    "sample": "sample sample_index rollout_index",
    "stop": "finish_reason stop_reason",
    "truncated": "truncated is_truncated",
    "prompt_ids": "prompt_ids prompt_token_ids",
    "response_ids": "response_ids response_token_ids completion_ids output_ids output_token_ids "
    "token_ids",
    "response_mask": "response_mask loss_mask",
    "reasoning": "reasoning_content reasoning thinking",
    "grade": "correct is_correct acc grade reward score",
}
USUAL = {role: tuple(names.split()) for role, names in _NAMES.items()}
"""Role -> the usual names of its column, in search order."""
ALTERNATIVES = ("response", "prompt", "answer", "response_ids")
"""Roles for which a row may have two columns, which must then agree."""
REQUIRED = frozenset(("response", "prompt", "answer", "problem_id"))
"""Roles whose column must exist in every row once the user has named it."""
EACH = ("stop", "truncated", "reasoning", "grade")
"""Roles whose column may be a list with one value per response."""
PROBLEM_ROLES = {"question": "prompt", "id": "problem_id"}
"""Roles of problem files -> roles here."""


def columns_format(given: Mapping[str, str]) -> Format:
    """The format of plain columns.

    given: role -> column name or path; other roles use the usual names.

    Raises:
        UserError: an unknown role.
    """
    given = {PROBLEM_ROLES.get(role, role): name for role, name in given.items()}
    if odd := sorted(set(given) - set(USUAL)):
        raise UserError(
            f"--column must map {', '.join(sorted({*USUAL, *PROBLEM_ROLES}))}; got {', '.join(odd)}"
        )
    named = {role: (name,) for role, name in given.items()}
    reader = _Columns({**USUAL, **named}, set(given))
    return Format("columns", "plain columns", reader.recognises, reader.read)


class _Roles(Fields):
    """The values of a row by role; messages use the name of their column."""

    __slots__ = ("names",)

    def __init__(self, place: str) -> None:
        super().__init__({}, place)
        self.names: dict[Name, str] = {}

    def path(self, name: Name) -> str:
        return self.names.get(name, str(name))


class _Columns:
    """Reads rows by column names; the lookup is cached for rows with the same columns."""

    def __init__(self, names: Mapping[str, tuple[str, ...]], given: set[str]) -> None:
        self.names, self.given = names, given
        self.checked = False
        self.plans: dict[tuple[str, ...], dict[str, list[str]]] = {}

    def recognises(self, row: Row) -> bool:
        there = self._there(row)
        return bool(there["response"] or there["response_ids"])

    def _there(self, row: Row) -> dict[str, list[str]]:
        """The candidate names of each role in a row; for a path, its first column must exist."""
        key = tuple(row)
        if key not in self.plans:
            there = self.plans[key] = {}
            for role, names in self.names.items():
                there[role] = [
                    name for name in names if name in row or name.partition(".")[0] in row
                ]
        return self.plans[key]

    def _roles(self, row: Row, place: str) -> _Roles:
        """The first value of each role except grades.

        Raises:
            UserError: another candidate column has a different value.
        """
        roles = _Roles(place)
        values: dict[str, Any] = {}
        roles.values = values
        for role, columns in self._there(row).items():
            for name in columns if role != "grade" else ():
                value = row[name] if name in row else lookup(row, name)
                if value is None or value != value:  # NaN, a missing value in tables
                    continue
                if role not in values:
                    values[role], roles.names[role] = value, name
                elif role in ALTERNATIVES and value != values[role]:
                    first = roles.names[role]
                    raise UserError(
                        f"{place}: columns {first!r} and {name!r} could both be the {role}, but "
                        f"differ; choose with --column {role}={first} or --column {role}={name}"
                    )
        return roles

    def read(self, fields: Fields) -> Iterator[Record]:
        """The rollouts of a row; an empty response column gives a record without a response."""
        row, place = fields.values, fields.place
        self._check_given(row, place)
        roles = self._roles(row, place)
        response, ids = roles.get("response"), roles.optional_ids("response_ids")
        if response is None and ids is None:
            if roles.optional_text("reasoning"):
                response = ""  # cut off inside the thought
            elif not self.recognises(row):
                names = " or ".join((*self.names["response"], *self.names["response_ids"]))
                raise UserError(
                    f"{place}: no response under {names} (found {', '.join(row) or 'none'}); set "
                    "its column with --column response=NAME"
                )
        if not isinstance(response, list) or is_messages(response):
            yield self._record(row, roles, response, ids)
            return
        count = len(response)
        if not count:
            raise UserError(f"{place}: the list of responses is empty")
        if count > 1 and ids is not None:
            raise UserError(f"{place}: must have one response for its token ids, got {count}")
        for number, text in enumerate(response):
            inner = self._of_response(row, number, count)
            record = self._record(inner, self._roles(inner, place), text, ids)
            if count > 1:
                record.sample = number
            yield record

    def _of_response(self, row: Row, number: int, count: int) -> Row:
        """The row for one of its responses, with the values of per-response lists picked out."""
        names = [name for role in EACH for name in self._there(row)[role]]
        lists = [name for name in names if isinstance(row.get(name), list)]
        return {**row, **{name: row[name][number] for name in lists if len(row[name]) == count}}

    def _check_given(self, row: Row, place: str) -> None:
        """Raises UserError if a given column is missing; all must exist in the first row."""
        roles = self.given & REQUIRED if self.checked else self.given
        self.checked = True
        for role in sorted(roles):
            name = self.names[role][0]
            if not has(row, name):
                raise UserError(
                    f"{place}: no column {name!r} for the {role} (found {', '.join(row) or 'none'})"
                )

    def _record(self, row: Row, roles: _Roles, response: Any, ids: list[int] | None) -> Record:
        there = self._there(row)
        answer = roles.get("answer", ABSENT)
        if answer is ABSENT and any(has(row, name) for name in there["answer"]):
            answer = None
        if ids is None and "response_mask" in roles:
            raise UserError(
                f"{roles.place}: response_mask needs the token ids of the response (response_ids)"
            )
        stop = roles.get("stop")
        if isinstance(stop, list):
            raise roles.refused("stop", "one stop reason for each response", stop)
        record = Record(
            problem_id=roles.optional_name("problem_id"),
            sample=roles.optional_whole("sample"),
            prompt_ids=roles.optional_ids("prompt_ids"),
            response_ids=ids,
            reasoning=roles.optional_text("reasoning") or None,
            answer=answer,
            answer_name=roles.path("answer"),
            stop=stop,
            truncated=roles.optional_flag("truncated"),
        )
        if "prompt" in roles:
            record.prompt = roles.prompt("prompt")
        if ids is not None and "response_mask" in roles:
            record.response_mask = roles.mask("response_mask", len(ids))
        # vLLM's stop_reason gives the cause of its finish_reason.
        if "stop" not in self.given and stop is not row.get("stop_reason"):
            record.stop_detail = row.get("stop_reason")
        for name in there["grade"]:
            grade = lookup(row, name)
            if grade is not None and grade == grade:  # NaN is a missing value
                record.grades[name] = grade
        if is_messages(response):
            thought = record.reasoning
            add_reply(record, response, Fields(response[0], roles.place, roles.path("response")))
            record.reasoning = record.reasoning or thought
        elif response is None or isinstance(response, str):
            record.response = response
        else:
            raise roles.refused("response", "text, messages or a list of those", response)
        return record
