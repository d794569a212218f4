"""Files that belong to no known writer: columns by their usual names, or by a map of names.

A row needs a response (text, token ids, a list of messages, or a list of several responses) and a
problem: its id in the set that ``--problems`` names, or a prompt and a gold answer. Two columns
that could both be the response are refused where their values differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from decaylab.errors import UserError
from decaylab.problems.nested_columns import lookup
from decaylab.rollout_files import must_hold
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.row_values import reply
from decaylab.rollout_files.record import ABSENT, Record

USUAL: dict[str, tuple[str, ...]] = {
    "response": (
        "response",
        "completion",
        "output",
        "text",
        "generation",
        "generated_text",
        "model_output",
        "responses",
    ),
    "prompt": ("question", "problem", "prompt", "messages", "input", "query"),
    "answer": (
        *(
            "answer",
            "ground_truth",
            "gold",
            "gold_answer",
            "reward_model.ground_truth",
            "final_answer",
        ),
        *("reference_answer", "expected_answer", "target"),
    ),
    "problem_id": ("problem_id", "unique_id", "question_id", "prompt_id", "example_id"),
    "sample": ("sample", "sample_index", "rollout_index"),
    "stop": ("finish_reason", "stop_reason"),
    "truncated": ("truncated", "is_truncated"),
    "prompt_ids": ("prompt_ids", "prompt_token_ids"),
    "response_ids": (
        "response_ids",
        "response_token_ids",
        "completion_ids",
        "output_ids",
        "output_token_ids",
        "token_ids",
    ),
    "response_mask": ("response_mask", "loss_mask"),
    "reasoning": ("reasoning_content", "reasoning", "thinking"),
    "grade": ("correct", "is_correct", "acc", "grade", "reward", "score"),
}
"""Role -> the usual names of its column, in the order in which they are looked for."""
ALTERNATIVES = ("response", "prompt", "answer", "response_ids")
"""Roles of which a row may hold two columns by chance: they must agree."""
REQUIRED = frozenset(("response", "prompt", "answer", "problem_id"))
"""Roles whose column must be there in every row, once a user has named it."""
EACH = ("stop", "truncated", "reasoning", "grade")
"""Roles that may hold a list, with a value for each of several responses."""
PROBLEM_ROLES = {"question": "prompt", "id": "problem_id"}
"""What the roles of problem files are called here."""


def columns_format(given: Mapping[str, str]) -> Format:
    """The reader of plain columns. given: role -> name, nested names included; the usual names
    serve other roles.

    Raises:
        UserError: a role that does not exist.
    """
    given = {PROBLEM_ROLES.get(role, role): name for role, name in given.items()}
    if odd := sorted(set(given) - set(USUAL)):
        raise UserError(
            f"--column knows {', '.join(sorted({*USUAL, *PROBLEM_ROLES}))}, got {', '.join(odd)}"
        )
    reader = _Columns(
        {role: (given[role],) if role in given else names for role, names in USUAL.items()},
        set(given),
    )
    return Format("columns", "plain columns", reader.recognises, reader.records)


class _Columns:
    """Reads rows by the names of their columns, which are looked for once for all rows with the
    same columns."""

    def __init__(self, names: Mapping[str, tuple[str, ...]], given: set[str]) -> None:
        self.names, self.given = names, given
        self.checked = False
        self.plans: dict[tuple[str, ...], dict[str, list[str]]] = {}

    def recognises(self, row: Row) -> bool:
        there = self._there(row)
        return bool(there["response"] or there["response_ids"])

    def _there(self, row: Row) -> dict[str, list[str]]:
        """The names of each role that a row may hold; of a nested one, the column that it lies in
        is there."""
        key = tuple(row)
        if key not in self.plans:
            self.plans[key] = {
                role: [name for name in names if name in row or name.partition(".")[0] in row]
                for role, names in self.names.items()
            }
        return self.plans[key]

    def records(self, row: Row, place: str) -> Iterator[Record]:
        self._check_given(row, place)
        response, ids = self._value(row, "response", place), self._ids(row, "response_ids", place)
        if response is None and ids is None and self._reasoning(row, place):
            response = ""  # cut off inside the thought
        there = self._there(row)
        if (
            response is None
            and ids is None
            and any(name in row for name in (*there["response"], *there["response_ids"]))
        ):
            yield self._record(
                row, None, None, None, place
            )  # the column is there: this rollout has no response
            return
        if response is None and ids is None:
            names = " or ".join((*self.names["response"], *self.names["response_ids"]))
            raise UserError(
                f"{place}: no response under {names} (found {', '.join(row) or 'none'}); --column "
                "response=NAME names it"
            )
        several = (
            response if isinstance(response, list) and not _are_messages(response) else [response]
        )
        if not several:
            raise UserError(f"{place}: holds no response: the list of responses is empty")
        if len(several) > 1 and ids is not None:
            raise UserError(
                f"{place}: must hold one response for its token ids, found {len(several)}"
            )
        for number, one in enumerate(several):
            own = self._of_response(row, number, len(several)) if several is response else row
            yield self._record(own, one, ids, number if len(several) > 1 else None, place)

    def _of_response(self, row: Row, number: int, count: int) -> Row:
        """A row with what it says of one of its responses, where it says that for each of them."""
        names = [name for role in EACH for name in self._there(row)[role] if name in row]
        each = {
            name: row[name]
            for name in names
            if isinstance(row[name], list) and len(row[name]) == count
        }
        return {**row, **{name: values[number] for name, values in each.items()}}

    def _check_given(self, row: Row, place: str) -> None:
        """Raises UserError where a column that was named is not there: in the first row all of them
        must be."""
        roles = sorted(self.given & REQUIRED if self.checked else self.given)
        self.checked = True
        for role in roles:
            if lookup(row, self.names[role][0], ABSENT) is ABSENT:
                raise UserError(
                    f"{place}: no column {self.names[role][0]!r} for the {role} (found "
                    f"{', '.join(row) or 'none'})"
                )

    def _record(
        self, row: Row, response: Any, ids: list[int] | None, number: int | None, place: str
    ) -> Record:
        prompt = self._value(row, "prompt", place)
        if prompt is not None and not isinstance(prompt, str) and not _are_messages(prompt):
            raise UserError(
                f"{place}: the prompt must be text or a list of messages with roles, got "
                f"{prompt!r:.60}"
            )
        turns, reasoning = (
            response if _are_messages(response) else None,
            self._reasoning(row, place),
        )
        if turns and [one["role"] for one in turns] == [
            "assistant"
        ]:  # one answer needs no template
            said = reply(turns, "response", place)
            turns, response, reasoning = said.turns, said.response, said.reasoning or reasoning
        if turns is None and response is not None and not isinstance(response, str):
            raise UserError(
                f"{place}: the response must be text, messages or a list of those, got "
                f"{response!r:.60}"
            )
        problem_id = self._value(row, "problem_id", place)
        if isinstance(problem_id, bool) or not isinstance(problem_id, str | int | None):
            raise UserError(
                f"{place}: problem_id must be text or a whole number, got {problem_id!r:.60}"
            )
        stop = self._value(row, "stop", place)
        if isinstance(stop, list):
            raise UserError(
                f"{place}: the stop reason must be one value for each response, got {stop!r:.60}"
            )
        detail = (
            row.get("stop_reason")
            if "stop" not in self.given and stop is not row.get("stop_reason")
            else None
        )
        return Record(
            response=None if turns else response,
            problem_id=None if problem_id is None else str(problem_id),
            sample=number if number is not None else self._sample(row, place),
            prompt=prompt,
            prompt_ids=self._ids(row, "prompt_ids", place),
            response_ids=ids,
            response_mask=self._mask(row, ids, place),
            reasoning=reasoning,
            turns=turns,
            answer=self._answer(row, place),
            answer_name=self._name(row, "answer") or "answer",
            stop=stop,
            stop_detail=detail,
            truncated=self._truncated(row, place),
            grades=self._grades(row),
        )

    def _value(self, row: Row, role: str, place: str) -> Any:
        """The first value there is; where another column could be meant and holds something else, a
        refusal."""
        first, value = "", None
        for name in self._there(row)[role]:
            found = row[name] if name in row else lookup(row, name)
            if found is None or found != found:  # NaN, which tables write for nothing
                continue
            if not first:
                first, value = name, found
            elif role in ALTERNATIVES and found != value:
                raise UserError(
                    f"{place}: columns {first!r} and {name!r} could both be the {role} and "
                    f"differ; --column {role}={first} or "
                    f"--column {role}={name} says which"
                )
        return value

    def _name(self, row: Row, role: str) -> str:
        """The name of the column whose value is taken; "" where there is none."""
        return next((name for name in self._there(row)[role] if lookup(row, name) is not None), "")

    def _answer(self, row: Row, place: str) -> Any:
        value = self._value(row, "answer", place)
        if value is not None:
            return value
        there = any(lookup(row, name, ABSENT) is not ABSENT for name in self._there(row)["answer"])
        return None if there else ABSENT

    def _ids(self, row: Row, role: str, place: str) -> list[int] | None:
        value = self._value(row, role, place)
        if value is None:
            return None
        if not isinstance(value, list) or not must_hold.are_whole(value):
            raise UserError(f"{place}: {role} must be a list of whole numbers, got {value!r:.60}")
        return value

    def _mask(self, row: Row, ids: list[int] | None, place: str) -> list[int] | None:
        value = self._value(row, "response_mask", place)
        if value is None:
            return None
        if ids is None:
            raise UserError(
                f"{place}: response_mask has no meaning without the token ids of the response"
            )
        return must_hold.mask(value, self._name(row, "response_mask"), len(ids), place)

    def _sample(self, row: Row, place: str) -> int | None:
        value = self._value(row, "sample", place)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 0
        ):
            raise UserError(f"{place}: sample must be a whole number from 0, got {value!r}")
        return value

    def _reasoning(self, row: Row, place: str) -> str | None:
        value = self._value(row, "reasoning", place)
        if value is not None and not isinstance(value, str):
            raise UserError(f"{place}: the reasoning must be text, got {value!r:.60}")
        return value or None

    def _truncated(self, row: Row, place: str) -> bool | None:
        value = self._value(row, "truncated", place)
        if value is not None and not isinstance(value, bool):
            raise UserError(f"{place}: truncated must be true or false, got {value!r:.60}")
        return value

    def _grades(self, row: Row) -> dict[str, Any]:
        values = ((name, lookup(row, name)) for name in self._there(row)["grade"])
        return {
            name: value for name, value in values if value is not None and value == value
        }  # NaN stands for none


def _are_messages(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(one, dict) and "role" in one for one in value)
    )
