"""What is packed into a page comes out again, by a reader that was written from the description
alone."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest
from viewed_tables import rollout_row, tables

from decaylab.pages import payload

STATISTICS = (
    "reverse_kl",
    "student_entropy",
    "teacher_entropy",
    "student_logprob",
    "teacher_logprob",
)
WHOLE_NUMBERS = ("token_id", "token_rank", "student_top1_rank")


class Unpacked:
    """The slow reader: one value at a time, as the module's description says."""

    def __init__(self, packed: str) -> None:
        whole = gzip.decompress(base64.b64decode(packed))
        length = struct.unpack("<I", whole[:4])[0]
        self.texts: dict[str, Any] = json.loads(whole[4 : 4 + length])
        self.numbers = whole[4 + length :]
        columns, tokens = self.texts["columns"], self.texts["tokens"]
        assert len(self.numbers) == 4 * len(columns) * tokens

    def number(self, name: str, place: int) -> int:
        tokens = self.texts["tokens"]
        first = 4 * self.texts["columns"].index(name) * tokens + place
        whole = bytes(self.numbers[first + part * tokens] for part in range(4))
        return int(struct.unpack("<i", whole)[0])

    def string(self, name: str, place: int) -> Any:
        return self.texts["strings"][self.number(name, place)]

    def nats(self, name: str, place: int) -> float:
        steps = self.number(name, place)
        if steps == -(2**31):
            return math.nan
        return math.copysign(math.inf, steps) if abs(steps) == 2**31 - 1 else steps / 10_000

    def top(self, policy: str, place: int) -> list[str]:
        found = [
            self.string(f"{policy}_top_{rank}", place) for rank in range(1, self.texts["top"] + 1)
        ]
        return [text for text in found if text is not None]

    def probabilities(self, policy: str, place: int) -> list[float]:
        names = [f"{policy}_top_probability_{rank}" for rank in range(1, self.texts["top"] + 1)]
        parts = [self.number(name, place) for name in names]
        return [math.nan if part == -(2**31) else part / 1000 for part in parts]


def two_rollouts() -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [rollout_row("base", "p0", 0), rollout_row("esr", "p0", 0, verdict="wrong")]
    return tables(
        rows,
        [["So", " x", "=", "4", "\n", "\u20ac", "</script>"], ["So", "\0", "\u202e", "=", "é"]],
    )


def test_every_column_comes_out_as_it_went_in() -> None:
    rollouts, tokens = two_rollouts()
    found = Unpacked(payload.pack(rollouts, tokens))
    assert found.texts["tokens"] == len(tokens) == 12
    for place, row in enumerate(tokens.to_dict("records")):
        assert (found.string("token", place), found.string("raw", place)) == (
            row["token"],
            row["raw"],
        )
        assert found.texts["categories"][found.number("category", place)] == row["category"]
        for name in WHOLE_NUMBERS:
            assert found.number(name, place) == row[name]
        for name in STATISTICS:
            assert abs(found.nats(name, place) - row[name]) <= 0.5001e-4
        for policy in ("student", "teacher"):
            assert found.top(policy, place) == list(row[f"{policy}_top"])
            kept = row[f"{policy}_top_probabilities"]
            shown = found.probabilities(policy, place)
            np.testing.assert_allclose(shown, kept, rtol=0, atol=1.001e-3)
            sure = [share for share in zip(shown, kept) if 0.001 <= share[1] <= 0.999]
            assert all(abs(part - share) <= 0.501e-3 for part, share in sure)


def test_a_rollout_knows_which_tokens_are_its_own_in_whatever_order_the_tokens_come() -> None:
    rollouts, tokens = two_rollouts()
    rollouts = pd.concat(
        [rollouts, pd.DataFrame([rollout_row("full", "p0", 0)])], ignore_index=True
    )
    turned = pd.concat(
        [tokens[tokens["checkpoint"] == "esr"], tokens[tokens["checkpoint"] == "base"]]
    )
    found = Unpacked(payload.pack(rollouts, turned))
    base, esr, full = found.texts["rollouts"]
    assert (base["start"], base["size"], esr["start"], esr["size"], full["size"]) == (5, 7, 0, 5, 0)
    assert (
        "".join(found.string("token", place) for place in range(5, 12)) == "So x=4\n\u20ac</script>"
    )
    assert esr["verdict"] == "wrong" and base["question"] == "What is p0?"


def test_undefined_and_infinite_numbers_survive() -> None:
    rollouts, tokens = two_rollouts()
    tokens.loc[0, ["reverse_kl", "student_entropy", "student_logprob"]] = [
        math.nan,
        math.inf,
        -math.inf,
    ]
    tokens.at[1, "student_top_probabilities"] = [math.nan, 1.0, 0.0, 0.5, 0.25]
    tokens.at[2, "student_top_probabilities"] = [0.9991, 0.9989, 0.001, 0.00099, 0.1234]
    found = Unpacked(payload.pack(rollouts, tokens))
    assert math.isnan(found.nats("reverse_kl", 0))
    assert (found.nats("student_entropy", 0), found.nats("student_logprob", 0)) == (
        math.inf,
        -math.inf,
    )
    assert not math.isnan(found.nats("reverse_kl", 1))
    likely = found.probabilities("student", 1)
    assert math.isnan(likely[0]) and likely[1:] == [1.0, 0.0, 0.5, 0.25]
    # 1 is above 99.9 % and 0 below 0.1 %: neither is a rounded number.
    assert found.probabilities("student", 2) == [1.0, 0.999, 0.001, 0.0, 0.123]


def test_the_mean_kl_of_a_rollout_is_that_of_its_defined_tokens() -> None:
    rollouts, tokens = two_rollouts()
    found = Unpacked(payload.pack(rollouts, tokens)).texts["rollouts"]
    for i, name in enumerate(("base", "esr")):
        own = [row["reverse_kl"] for row in tokens.to_dict("records") if row["checkpoint"] == name]
        assert found[i]["mean_kl"] == pytest.approx(sum(own) / len(own), rel=1e-6)
    tokens["reverse_kl"] = [math.nan, 1.0, 0.25, *[math.nan] * 4, *[math.inf] * 5]
    base, esr = Unpacked(payload.pack(rollouts, tokens)).texts["rollouts"]
    assert (base["mean_kl"], esr["mean_kl"]) == (0.625, "Infinity")
    tokens["reverse_kl"] = math.nan
    assert Unpacked(payload.pack(rollouts, tokens)).texts["rollouts"][0]["mean_kl"] is None


def test_steps_come_out_where_they_are_known_and_as_null_elsewhere() -> None:
    rollouts, tokens = two_rollouts()
    old = Unpacked(payload.pack(rollouts, tokens)).texts["rollouts"]
    assert [row["steps"] for row in old] == [row["first_wrong_token"] for row in old] == [None] * 2
    steps = [{"start": 0, "end": 4, "verdict": "right"}, {"start": 4, "end": 6, "verdict": "wrong"}]
    rollouts["steps"] = pd.Series([steps, None], dtype=object)
    rollouts["first_wrong_token"] = [5, None]
    base, esr = Unpacked(payload.pack(rollouts, tokens)).texts["rollouts"]
    assert base["steps"] == [[0, 4, "right"], [4, 6, "wrong"]] and base["first_wrong_token"] == 5
    assert esr["steps"] is None and esr["first_wrong_token"] is None
    none_found = rollouts.assign(steps=pd.Series([[], []], dtype=object), first_wrong_token=None)
    assert Unpacked(payload.pack(none_found, tokens)).texts["rollouts"][0]["steps"] == []


def test_lists_may_be_of_different_lengths() -> None:
    rollouts, tokens = two_rollouts()
    tokens.at[2, "teacher_top"], tokens.at[2, "teacher_top_probabilities"] = (
        ["a", "b"],
        [0.75, 0.25],
    )
    tokens.at[3, "teacher_top"], tokens.at[3, "teacher_top_probabilities"] = [], []
    found = Unpacked(payload.pack(rollouts, tokens))
    assert found.top("teacher", 2) == ["a", "b"] and found.top("teacher", 3) == []
    assert found.top("teacher", 4) == list(tokens["teacher_top"][4])


def test_a_string_is_kept_once_and_half_of_a_character_survives() -> None:
    rollouts, tokens = two_rollouts()
    tokens["token"] = tokens["token"].astype(object)
    tokens.at[0, "token"] = "\ud83d"
    found = Unpacked(payload.pack(rollouts, tokens))
    assert found.string("token", 0) == "\ud83d"
    assert len(found.texts["strings"]) == len(set(found.texts["strings"]))


def test_large_ids_are_kept_whole() -> None:
    rollouts, tokens = two_rollouts()
    sizes = [0, 255, 256, 65535, 65536, 2**24 - 1, 2**24, 2**30, 2**31 - 1, -1, 2, 3]
    found = Unpacked(
        payload.pack(rollouts, tokens.assign(token_id=np.array(sizes, dtype=np.int64)))
    )
    assert [found.number("token_id", place) for place in range(12)] == sizes
    with pytest.raises(ValueError, match="must fit into 4 bytes"):
        payload.pack(rollouts, tokens.assign(token_id=2**31))


def test_the_same_rollouts_give_the_same_bytes() -> None:
    first, second = (payload.pack(*two_rollouts()) for _ in range(2))
    assert first == second
    assert base64.b64decode(first)[4:8] == bytes(4)  # the time in a gzip header


def test_the_taken_token_is_the_one_that_reads_alike_and_is_as_likely() -> None:
    rollouts, tokens = tables(
        [rollout_row("base", "p0", 0)], [["The", "", "x", "y"]], [["", "E2 82", "", ""]]
    )
    likely = [0.5, 0.2, 0.1, 0.05, 0.01]
    tokens["student_top"] = [
        ["a", " The", "b", "c", "d"],  # a first token loses its leading space
        ["a", "b", "<0xE2><0x82>", "c", "d"],
        ["x", "a", "b", "x", "c"],  # two entries of the vocabulary may read alike
        ["a", "b", "c", "d", "e"],
    ]
    tokens["student_top_probabilities"] = [likely] * 4
    tokens["student_logprob"] = np.log([0.2, 0.1, 0.05, 0.001])
    found = Unpacked(payload.pack(rollouts, tokens))
    assert [found.number("student_taken", place) for place in range(4)] == [2, 3, 4, 0]


def test_recovered_and_regressed_are_told_for_every_pair_of_verdicts() -> None:
    verdicts = ["correct", "wrong", "no_answer", "timeout"]
    rows = [rollout_row("base", verdict, 0, verdict=verdict) for verdict in verdicts]
    rollouts = pd.DataFrame([rollout_row("esr", "correct", 0), *rows])
    pairs = list(itertools.product(verdicts, verdicts))
    continuations = pd.DataFrame(
        [
            {
                "rollout_id": f"student/{own}/0",
                "prefix_tokens": 5,
                "text": "",
                "verdict": then,
                "sample": 0,
            }
            for own, then in pairs
        ]
    )
    found = payload.outcomes(rollouts, continuations)
    told = dict(zip(pairs, found["outcome"], strict=True))
    assert {pair for pair, outcome in told.items() if outcome == "recovered"} == {
        (own, "correct") for own in ("wrong", "no_answer", "timeout")
    }
    assert {pair for pair, outcome in told.items() if outcome == "regressed"} == {
        ("correct", then) for then in ("wrong", "no_answer", "timeout")
    }
    assert set(told.values()) == {"recovered", "regressed", ""}
    assert list(rollouts["verdict"].iloc[found["rollout"]]) == [own for own, _ in pairs]


def test_nothing_at_all_can_be_packed() -> None:
    rollouts, tokens = two_rollouts()
    found = Unpacked(payload.pack(rollouts.head(0), tokens.head(0)))
    assert found.texts["rollouts"] == [] and found.texts["tokens"] == 0


def broken(what: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    rollouts, tokens = two_rollouts()
    if what == "twice":
        return pd.concat([rollouts, rollouts.head(1)]), tokens
    if what == "strange":
        return rollouts.head(1), tokens
    if what == "apart":
        return rollouts, pd.concat([tokens.iloc[1:], tokens.iloc[:1]])
    if what == "turned":
        return rollouts, pd.concat([tokens.iloc[[1, 0]], tokens.iloc[2:]])
    tokens.at[0, "teacher_top_probabilities"] = [1.5, 0, 0, 0, 0]
    return rollouts, tokens


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("twice", "each rollout must stand there once; twice there: .*base.*student/p0/0"),
        ("strange", "tokens must be of a rollout in the table of rollouts; .*esr.* is not there"),
        ("apart", "the tokens of a rollout must stand together"),
        ("turned", "in the order of their positions, 0, 1, 2"),
        ("likely", "probabilities of the top tokens must be from 0 to 1"),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(what: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        payload.pack(*broken(what))


def test_a_continuation_of_a_rollout_that_is_not_shown_is_refused() -> None:
    rollouts, tokens = two_rollouts()
    row = {"prefix_tokens": 2, "text": "x", "verdict": "correct", "stop_reason": "eos", "sample": 0}
    for name, shown in (
        ("student/p9/0", rollouts),
        ("student/p0/0", rollouts.assign(checkpoint=["full", "esr"])),
    ):
        with pytest.raises(ValueError, match=f"must be of rollouts of 'base'; '{name}' is none of"):
            payload.outcomes(shown, pd.DataFrame([row | {"rollout_id": name}]))
