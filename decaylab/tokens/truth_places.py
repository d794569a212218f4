"""The places table of token truth: one row per place at which one token decides.

RESULT  the token with which the result of a step begins
REPAIR  the tokens behind a step, from its end to the first letter or digit, at each of which a
        repair can open; one row, since the student passes through all of them

Sets of tokens come from enumerating the vocabulary (`abacus_places`), and their masses from both
policies on the student's own prefix (`next_tokens`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa

from decaylab.problems import abacus_places
from decaylab.problems.abacus import Step
from decaylab.problems.abacus_places import Equation
from decaylab.rollouts.sampling import Ids
from decaylab.runs import store
from decaylab.runs.vocabulary import ALREADY_WRONG, BEHIND_CORRECT, BEHIND_WRONG
from decaylab.tokens.next_tokens import Asked
from decaylab.tokens.pieces import token_pieces, token_text
from decaylab.tokens.scoring import Columns, Rollout

PLACES = "decaylab.places/1"
RESULT, REPAIR = "result", "repair"
TRUE, CONSISTENT = "true", "consistent"
NUMBERS = (
    *(f"{who}_{sense}" for sense in (TRUE, CONSISTENT) for who in ("student", "teacher")),
    *(f"{what}_{sense}" for sense in (TRUE, CONSISTENT) for what in ("pairs", "concordant")),
)
SCHEMA = pa.schema(
    {
        "checkpoint": store.TEXT,
        "rollout_id": store.TEXT,
        "problem_id": store.TEXT,
        "kind": store.TEXT,  # result or repair
        "step": store.WHOLE,  # number of the equation in the response, from 1
        "position": store.WHOLE,  # of the token, or of the first token behind the step
        "state": store.TEXT,  # of the prefix, or which step it is behind
        "written_true": pa.bool_(),  # whether what the student wrote is in the set
        "written_consistent": pa.bool_(),  # null where nothing is consistent, as behind a step
        **dict.fromkeys(NUMBERS, store.REAL),
    }
)
"""student_true and so on: mass on correct tokens; behind a step, the chance that one of its tokens
opens a repair. Consistent: NaN where the equation has no result of its own."""


@dataclass(frozen=True)
class Place:
    """A row of the table before its masses are known.

    positions: of its tokens. true, consistent: the sets there; consistent is None where nothing is.
    """

    kind: str
    step: int
    state: str
    positions: tuple[int, ...]
    true: tuple[Ids, ...]
    consistent: tuple[Ids, ...] | None


class Vocabulary:
    """The tokens that can decide something, by their text after other tokens."""

    def __init__(self, tokenizer: Any, shared: Sequence[int]) -> None:
        """shared: the ids over which the policies are compared."""
        texts = {token: token_text(tokenizer, token) for token in shared}
        self.results = {
            token: text for token, text in texts.items() if abacus_places.may_begin_a_result(text)
        }
        self.repairs = {
            token: text for token, text in texts.items() if abacus_places.opens_a_repair("", text)
        }


def places(
    tokenizer: Any, response: Sequence[int], steps: Sequence[Step], vocabulary: Vocabulary
) -> Iterator[Place]:
    """The places of a response, in order."""
    pieces = token_pieces(tokenizer, response)
    text, starts = "".join(pieces), [0, *accumulate(map(len, pieces))]
    for equation in abacus_places.equations(text, steps):
        found = _token_at(starts, equation.result)
        if found is not None:
            yield _at_result(text, starts[found], found, equation, steps, vocabulary)
        wrong = abacus_places.ends_wrong(text, equation, steps)
        if wrong is not None:
            positions = tuple(_behind(text, starts, equation))
            if positions:
                yield _behind_step(text, starts, positions, equation, wrong, vocabulary)


def _token_at(starts: Sequence[int], character: int) -> int | None:
    """The token that holds a character of the text; None at its end."""
    if character >= starts[-1]:
        return None
    return int(np.searchsorted(starts, character, side="right")) - 1


def _at_result(
    text: str,
    start: int,
    position: int,
    equation: Equation,
    steps: Sequence[Step],
    vocabulary: Vocabulary,
) -> Place:
    before, written = text[:start], text[equation.start : start]
    true: Ids = ()
    if equation.state != ALREADY_WRONG:
        true = tuple(
            token
            for token, added in vocabulary.results.items()
            if abacus_places.is_true(before, added, steps)
        )
    own = abacus_places.as_written(text[equation.start : equation.result])
    consistent = None
    if own is not None:
        ids = tuple(
            token
            for token, added in vocabulary.results.items()
            if abacus_places.is_consistent(written, added, own)
        )
        consistent = (ids,)
    return Place(RESULT, equation.number, equation.state, (position,), (true,), consistent)


def _behind(text: str, starts: Sequence[int], equation: Equation) -> Iterator[int]:
    """The tokens from the end of a step on, as long as a repair can open."""
    first = int(np.searchsorted(starts, equation.end))
    for position in range(first, len(starts) - 1):
        if not abacus_places.may_still_open(text[equation.end : starts[position]]):
            return
        yield position


def _behind_step(
    text: str,
    starts: Sequence[int],
    positions: tuple[int, ...],
    equation: Equation,
    wrong: bool,
    vocabulary: Vocabulary,
) -> Place:
    sets = []
    for position in positions:
        behind = text[equation.end : starts[position]]
        ids = tuple(
            token
            for token, added in vocabulary.repairs.items()
            if abacus_places.opens_a_repair(behind, added)
        )
        sets.append(ids)
    state = BEHIND_WRONG if wrong else BEHIND_CORRECT
    return Place(REPAIR, equation.number, state, positions, tuple(sets), None)


def asked(rollout: Rollout, found: Sequence[Place]) -> Asked:
    """What a scorer is asked about the places of a rollout."""
    positions = tuple(position for place in found for position in place.positions)
    true = tuple(ids for place in found for ids in place.true)
    consistent: list[Ids] = []
    for place in found:
        consistent += place.consistent or [()] * len(place.positions)
    return Asked(rollout, positions, {TRUE: true, CONSISTENT: tuple(consistent)})


def rows(
    rollout: Rollout, found: Sequence[Place], scored: Columns, alike: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    """The rows of a rollout's places. alike: the columns that say whose rollout it is."""
    start = 0
    for place in found:
        here = slice(start, start + len(place.positions))
        start = here.stop
        numbers = {name: values[here].astype(np.float64) for name, values in scored.items()}
        taken = [rollout.response[position] for position in place.positions]
        yield {
            **alike,
            "rollout_id": rollout.rollout_id,
            "kind": place.kind,
            "step": place.step,
            "position": place.positions[0],
            "state": place.state,
            "written_true": any(token in ids for token, ids in zip(taken, place.true, strict=True)),
            "written_consistent": place.consistent and taken[0] in place.consistent[0],
            **_numbers(place, numbers),
        }


def _numbers(place: Place, scored: Mapping[str, Any]) -> dict[str, float]:
    """The masses at a result; behind a step the chance that a repair opens at one of the tokens."""
    nothing = dict.fromkeys(NUMBERS, float("nan"))
    if place.kind == REPAIR:
        chances = {
            f"{who}_{TRUE}": 1 - float(np.prod(1 - scored[f"{TRUE}_{who}"]))
            for who in ("student", "teacher")
        }
        return nothing | chances
    senses = [TRUE] * (place.state != ALREADY_WRONG) + [CONSISTENT] * bool(place.consistent)
    return nothing | {
        f"{what}_{sense}": float(scored[f"{sense}_{what}"][0])
        for sense in senses
        for what in ("student", "teacher", "pairs", "concordant")
    }
