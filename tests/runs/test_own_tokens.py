"""Tokens of a response that its author wrote: counted, cut and picked out with and without a mask,
by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from decaylab.runs import own_tokens, store
from decaylab.runs.own_tokens import Prefix


def test_the_end_of_turn_token_and_what_others_wrote_are_not_counted() -> None:
    rows = pd.DataFrame(
        {
            "response_ids": [[5, 6, 1], [5, 6, 7], [5, 1, 8, 8, 6, 1], [5, 1, 8, 6], []],
            "response_mask": [
                None,
                None,
                np.array([1, 1, 0, 0, 1, 1]),
                np.array([1, 1, 0, 1]),
                None,
            ],
            "stop_reason": ["eos", "length", "eos", "unknown", "length"],
        }
    )
    assert own_tokens.count(rows).tolist() == [2, 3, 3, 3, 0]
    assert own_tokens.count(rows.drop(columns="response_mask")).tolist() == [2, 3, 5, 4, 0]


def test_own_ids_in_order() -> None:
    assert own_tokens.ids([5, 1, 8, 6], [1, 1, 0, 1]) == [5, 1, 6]
    assert own_tokens.ids((5, 6), None) == [5, 6]


@pytest.mark.parametrize(
    "length, expected",
    [
        (1, Prefix([5], [5])),
        (2, Prefix([5, 1], [5, 1])),
        (3, Prefix([5, 1, 8, 8, 6], [5, 1, 6])),  # with what others wrote before it
        (4, Prefix([5, 1, 8, 8, 6, 7], [5, 1, 6, 7])),
        (5, None),
    ],
)
def test_a_prefix_holds_so_many_of_the_authors_own_tokens(
    length: int, expected: Prefix | None
) -> None:
    response, mask = [5, 1, 8, 8, 6, 7, 9], [1, 1, 0, 0, 1, 1, 0]
    assert own_tokens.prefix(response, mask, length) == expected
    whole = [5, 1, 6, 7]
    assert own_tokens.prefix(whole, None, length) == (
        Prefix(whole[:length], whole[:length]) if length <= 4 else None
    )


def test_a_prefix_may_end_where_a_turn_of_the_author_begins() -> None:
    response, mask = [5, 1, 8, 8, 6, 1, 9, 7], [1, 1, 0, 0, 1, 1, 0, 1]
    assert list(own_tokens.behind_turns(response, mask)) == [
        Prefix([5, 1, 8, 8], [5, 1], turns=1),
        Prefix([5, 1, 8, 8, 6, 1, 9], [5, 1, 6, 1], turns=2),
    ]


def test_the_stored_number_is_read_and_computed_only_for_runs_without_it() -> None:
    rows = pd.DataFrame({"response_ids": [[5, 6, 1], [5]], "stop_reason": ["eos", "length"]})
    assert own_tokens.count(rows).tolist() == [2, 1]
    assert own_tokens.count(rows.assign(tokens=[7, 8])).tolist() == [7, 8]


def test_a_table_of_an_earlier_version_gets_the_column_at_its_place() -> None:
    schema = store.rollout_schema(("last_boxed",))
    row = dict.fromkeys(schema.names) | {
        "response_ids": [5, 1, 8, 8, 6, 1],
        "response_mask": [1, 1, 0, 0, 1, 1],
        "stop_reason": "eos",
        "tokens": 3,
    }
    table = pa.Table.from_pylist([row], schema=schema)
    assert own_tokens.with_column(table) is table
    assert own_tokens.with_column(table.drop_columns(["tokens"])).equals(table)
