"""What is sampled for a hand-back: whose tokens, how many, and from which noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import markov
import pyarrow as pa
import pytest
from tiny_models import byte_tokenizer
from tokenizer_families import family, policy_of

from decaylab.policies.policy import Policy
from decaylab.problems.problem import Problem
from decaylab.progress import Reporter
from decaylab.rollouts import seams
from decaylab.rollouts.collect import Collector, DecayPlan
from decaylab.rollouts.sampling import Request, Response, SamplingSettings
from decaylab.runs import store
from decaylab.runs.graded import Judge

WORLD, COUNTS = markov.decaying_world(), (1, 3, 6)
PLAN = DecayPlan((0, 2, 4), 2, 12, (), SamplingSettings(1.0, seed=5), part_rows=16)
PROBLEMS, PROMPTS = markov.draw_problems(WORLD, 16, seed=1)
Rows = list[dict[str, Any]]


def plan(counts: tuple[int, ...] = COUNTS) -> DecayPlan:
    return DecayPlan(PLAN.prefix_lengths, 2, 12, (), PLAN.sampling, 16, hand_back=counts)


def collector(
    folder: Any,
    world: markov.World = WORLD,
    chosen: DecayPlan | None = None,
    fail: dict[str, int] | None = None,
) -> Collector:
    """fail: role -> number of the call at which its engine is stopped."""
    policies = {"student": world.student, "teacher": world.teacher}
    student, teacher = (
        markov.MarkovEngine(policy, fail_at_call=(fail or {}).get(role))
        for role, policy in policies.items()
    )
    judge = Judge(markov.grade, (markov.RULE,), markov.gold(PROBLEMS), policies)
    reporter = Reporter(quiet=True)
    chosen = chosen or plan()
    return Collector(student, teacher, PROBLEMS, PROMPTS, chosen, judge, folder, reporter)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collector, pa.Table]:
    one = collector(store.RunFolder(tmp_path_factory.mktemp("whole")))
    return one, one.collect()


@pytest.fixture(scope="module")
def rows(whole: tuple[Collector, pa.Table]) -> dict[str, dict[str, Any]]:
    return {row["rollout_id"]: row for row in whole[1].to_pylist()}


def of(rows: dict[str, dict[str, Any]], condition: str) -> Rows:
    return [row for row in rows.values() if row["condition"] == condition]


def test_the_student_finishes_behind_its_own_tokens_and_the_first_of_the_teacher(
    rows: dict[str, dict[str, Any]],
) -> None:
    handed = of(rows, "hand-back")
    assert {row["teacher_tokens"] for row in handed} == {0, *COUNTS}
    for row in handed:
        stage, length, count, *rest = row["rollout_id"].split("/")
        written = rows["/".join(["hand-back-teacher", length, *rest])]
        source = rows[row["prefix_rollout_id"]]
        own, theirs = source["response_ids"][: int(length)], written["response_ids"][: int(count)]
        assert (stage, row["prefix_tokens"]) == ("hand-back", int(length))
        assert row["teacher_tokens"] == int(count)
        assert row["prefix_ids"] == [*own, *theirs] and markov.END not in row["prefix_ids"]
        assert row["author"] == "student" and row["prefix_author"] == "student"
        assert row["prompt_ids"] == source["prompt_ids"] == list(PROMPTS["student"][rest[0]])
        assert row["text"] == WORLD.student.decode([*row["prefix_ids"], *row["response_ids"]])
        spent = len(row["prefix_ids"]) + len(row["response_ids"])
        assert spent == 12 if row["stop_reason"] == "length" else spent <= 12


def test_the_teacher_writes_behind_every_unfinished_prefix_to_the_end_of_the_budget(
    rows: dict[str, dict[str, Any]],
) -> None:
    continued = {row["rollout_id"].partition("/")[2] for row in of(rows, "student-prefix")}
    written = of(rows, "hand-back-teacher")
    assert {row["rollout_id"].partition("/")[2] for row in written} == continued != set()
    for row in written:
        assert row["teacher_tokens"] is None and row["author"] == "teacher"
        if row["stop_reason"] == "length":
            assert len(row["response_ids"]) == 12 - row["prefix_tokens"]


def test_the_student_is_asked_only_where_the_teacher_wrote_more(
    rows: dict[str, dict[str, Any]],
) -> None:
    found = {row["rollout_id"] for row in of(rows, "hand-back")}
    expected, ended = set(), 0
    for row in of(rows, "hand-back-teacher"):
        place, *rest = row["rollout_id"].split("/")[1:]
        for count in (0, *COUNTS):
            # An end token is one of the teacher's tokens.
            more = len(row["response_ids"]) > count
            ended += not more
            expected |= {"/".join(["hand-back", place, str(count), *rest])} if more else set()
    assert found == expected and ended > 10


def test_the_control_draws_other_tokens_than_the_rollout_had(
    rows: dict[str, dict[str, Any]],
) -> None:
    alike = []
    for row in of(rows, "hand-back"):
        if row["teacher_tokens"] == 0:
            rest = rows[row["prefix_rollout_id"]]["response_ids"][row["prefix_tokens"] :]
            alike.append(row["response_ids"] == rest)
    assert len(alike) > 30 and sum(alike) / len(alike) < 0.5


def test_the_teacher_that_hands_back_is_another_draw_than_the_one_that_continues(
    rows: dict[str, dict[str, Any]],
) -> None:
    alike = [
        row["response_ids"]
        == rows[row["rollout_id"].replace("hand-back-teacher", "student-prefix")]["response_ids"]
        for row in of(rows, "hand-back-teacher")
    ]
    assert sum(alike) / len(alike) < 0.5


def test_nothing_else_is_sampled_differently(
    whole: tuple[Collector, pa.Table],
) -> None:
    alone = collector(markov.MemoryFolder(), chosen=PLAN).collect().to_pylist()
    kept = [row for row in whole[1].to_pylist() if not row["condition"].startswith("hand-back")]
    assert kept == alone


def test_more_numbers_of_teacher_tokens_keep_the_others(
    rows: dict[str, dict[str, Any]],
) -> None:
    fewer = collector(markov.MemoryFolder(), chosen=plan((3,))).collect().to_pylist()
    assert all(rows[row["rollout_id"]] == row for row in fewer) and len(fewer) < len(rows)


def test_a_stopped_hand_back_ends_with_the_same_bytes(
    whole: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    expected = (whole[0].folder.path / "rollouts.parquet").read_bytes()
    counts = {role: len(engine.calls) for role, engine in whole[0].engines.items()}
    for role, count in counts.items():
        for call in (count - 2, count - 1):
            path = tmp_path / f"{role}-{call}"
            with pytest.raises(KeyboardInterrupt):
                collector(store.RunFolder(path), fail={role: call}).collect()
            again = collector(store.RunFolder(path))
            again.collect()
            assert (path / "rollouts.parquet").read_bytes() == expected
            assert len(again.engines[role].calls) == count - call


def test_parts_of_a_version_without_the_column_are_resumed(
    whole: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    folder = store.RunFolder(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        collector(folder, fail={"teacher": 0}).collect()
    parts = folder.parts("student rollouts")
    for number in parts.numbers():
        parts.write(number, parts.read(number).drop_columns(["teacher_tokens"]))
    assert parts.numbers()
    assert collector(folder).collect().to_pylist() == whole[1].to_pylist()


# Two vocabularies


def other_ids(policy: markov.MarkovPolicy) -> markov.MarkovPolicy:
    """The same law with other ids for the same letters."""
    letters = "#bhgnm"
    order = [markov.TOKENS.index(letter) for letter in letters]
    law = policy.law[:, order][:, :, order]
    return markov.MarkovPolicy("other", law, markov.MarkovTokenizer(letters))


def test_two_vocabularies_hand_back_text() -> None:
    world = markov.World(WORLD.student, other_ids(WORLD.teacher))
    one = collector(markov.MemoryFolder(), world)
    assert one.hand_over.agreement.kind == "different"
    rows = {row["rollout_id"]: row for row in one.collect().to_pylist()}
    assert one.left_out == {}
    for row in of(rows, "hand-back"):
        _, length, count, *rest = row["rollout_id"].split("/")
        written = rows["/".join(["hand-back-teacher", length, *rest])]
        handed = WORLD.student.decode(row["prefix_ids"])
        own = rows[row["prefix_rollout_id"]]["text"][: int(length)]
        theirs = world.teacher.decode(written["response_ids"][: int(count)])
        assert handed == own + theirs and row["text"].startswith(handed)


def test_teacher_tokens_that_the_student_lacks_are_left_out_and_counted() -> None:
    letters = markov.TOKENS.replace("h", "?")
    tokenizer = markov.MarkovTokenizer(letters, special="?")
    fewer = markov.MarkovPolicy("teacher", WORLD.teacher.law, tokenizer)
    one = collector(markov.MemoryFolder(), markov.World(WORLD.student, fewer))
    assert one.hand_over.agreement.kind == "compatible"
    rows = {row["rollout_id"]: row for row in one.collect().to_pylist()}
    foreign = 0
    for row in of(rows, "hand-back-teacher"):
        for count in COUNTS:
            ids = row["response_ids"]
            foreign += len(ids) > count and 3 in ids[:count]
    assert one.left_out["hand-back"] == foreign > 0
    assert all(3 not in row["prefix_ids"] for row in of(rows, "hand-back"))


def of_bytes(name: str, shift: int = 0) -> Policy:
    return policy_of(byte_tokenizer(shift=shift), name)


@dataclass
class Scripted:
    """An engine that always writes the same text."""

    policy: Any
    text: str
    name: str = "scripted"
    asked: list[Request] = field(default_factory=list)

    def sample(
        self, requests: Sequence[Request], settings: SamplingSettings, on_progress: Any = None
    ) -> list[Response]:
        self.asked += requests
        ids = tuple(self.policy.encode(self.text))
        return [Response(ids[: request.max_new_tokens], "length") for request in requests]


def scripted(
    student: Scripted, teacher: Scripted, lengths: tuple[int, ...], **more: Any
) -> Collector:
    chosen = DecayPlan(lengths, 1, 12, (), SamplingSettings(1.0), hand_back=(2, 3))
    prompts = {role: {"one": (65,)} for role in ("student", "teacher")}
    policies = {"student": student.policy, "teacher": teacher.policy}

    def wrong(texts: Sequence[str], answers: Sequence[str]) -> dict[str, list[str]]:
        return {"grade_rule": ["wrong"] * len(texts)}

    judge = Judge(wrong, ("rule",), {"one": "1"}, policies)
    problem = Problem("one", "?", "1")
    folder, reporter = markov.MemoryFolder(), Reporter(quiet=True)
    return Collector(student, teacher, [problem], prompts, chosen, judge, folder, reporter)


def test_a_prefix_that_ends_inside_a_character_is_cut_before_it_for_both() -> None:
    """The student alone, and behind the teacher's tokens, continues what the teacher did."""
    student = Scripted(of_bytes("student"), "x\u20acyyyyyyyyyyyyy")
    teacher = Scripted(of_bytes("teacher", shift=7), "=1+2+3+4+5+6+7")
    one = scripted(student, teacher, (0, 1, 2, 4))
    table = one.collect()
    handed = of({row["rollout_id"]: row for row in table.to_pylist()}, "hand-back")
    assert one.left_out == {} and {row["prefix_tokens"] for row in handed} == {1, 2, 4}
    texts = {(row["prefix_tokens"], row["teacher_tokens"]): row["text"] for row in handed}
    starts = {1: "x", 2: "x", 4: "x\u20ac"}
    for (length, count), text in texts.items():
        assert text.startswith(starts[length] + "=1+"[:count] + "x" * (count < 3))
    written = {
        row["prefix_tokens"]: row["prefix_shift"]
        for row in table.to_pylist()
        if row["condition"] == "hand-back-teacher"
    }
    assert written == {1: 0, 2: 1, 4: 0}
    assert {row["prefix_shift"] for row in handed} == {0}  # of the teacher's tokens
    assert [*seams.notes(table)] == [
        "student-prefix: 1 of 3 cuts lie before their length, at a boundary of both tokenizers: "
        "1.0 tokens on average, at most 1",
        "hand-back-teacher: 1 of 3 cuts lie before their length, at a boundary of both "
        "tokenizers: 1.0 tokens on average, at most 1",
    ]


def test_a_tokenizer_that_puts_a_blank_ahead_of_a_text_puts_none_behind_a_prefix() -> None:
    student = Scripted(policy_of(family("Llama-2"), "student"), "x = 12. The answer is 12 apples")
    teacher = Scripted(of_bytes("teacher", shift=7), "no, it is 5")
    one = scripted(student, teacher, (0, 4))
    rows = {row["rollout_id"]: row for row in one.collect().to_pylist()}
    back = [row for row in of(rows, "hand-back") if row["teacher_tokens"]]
    assert back and one.left_out == {}
    for row in back:
        source = rows[f"hand-back-teacher/{row['prefix_tokens']}/one/0"]
        ahead = teacher.policy.decode([*source["prefix_ids"]])
        kept = row["teacher_tokens"] - row["prefix_shift"]
        # What the student writes anew has the blank that is ahead of its texts.
        assert row["text"].startswith(f"{ahead}{'no,'[:kept]} x = 12")


def test_tokens_of_tools_stay_in_the_prefix_and_are_not_graded() -> None:
    student = Scripted(of_bytes("both"), "abcdefghijkl")
    teacher = Scripted(of_bytes("both"), "TUVWXYZTUVWX")
    one = scripted(student, teacher, (0, 3))
    judge = one.judge
    plain = {"condition": "student", "author": "student", "policy": "both", "sample": 0}
    plain |= {"rollout_id": "student/one/0", "problem_id": "one", "prompt_ids": [65]}
    plain |= {"prefix_ids": [], "prefix_author": "", "prefix_tokens": 0, "prefix_rollout_id": ""}
    ids = student.policy.encode("abTOOLcdefgh")
    plain |= {"response_ids": ids, "text": "abcdefgh", "stop_reason": "length"}
    plain |= {"response_mask": [1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]}
    table = one.collect(judge.table([plain]))
    rows = {row["rollout_id"]: row for row in table.to_pylist()}
    (two,) = [row for row in of(rows, "hand-back") if row["teacher_tokens"] == 2]
    assert two["prefix_tokens"] == 3
    assert student.policy.decode(two["prefix_ids"]) == "abTOOLcTU"
    assert two["text"] == "abcTUabc" and len(two["response_ids"]) == 12 - 9
