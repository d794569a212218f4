"""The collector over policies of a known law: what is asked of which engine, what is kept, and what
a crash costs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import markov
import numpy as np
import pyarrow as pa
import pytest
from tiny_models import byte_tokenizer
from tokenizer_families import policy_of

from decaylab.options.kinds import CONTROLS
from decaylab.policies.handover import HandOver
from decaylab.problems.abacus import Step
from decaylab.problems.problem import Problem
from decaylab.progress import Reporter
from decaylab.rollouts.collect import Collector, DecayPlan
from decaylab.rollouts.sampling import Request, Response, SamplingSettings, uniforms
from decaylab.runs import store
from decaylab.runs.graded import Judge

WORLD = markov.decaying_world()
PLAN = DecayPlan((0, 2, 4), 2, 12, CONTROLS, SamplingSettings(1.0, seed=5), part_rows=16)
PROBLEMS, PROMPTS = markov.draw_problems(WORLD, 12, seed=1)
Rows = list[dict[str, Any]]


class Notes(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def collector(
    path: Path,
    *,
    plan: DecayPlan = PLAN,
    problems: Sequence[Problem] = PROBLEMS,
    fail: dict[str, int] | None = None,
    world: markov.World = WORLD,
) -> Collector:
    """fail: role -> number of the call at which its engine is stopped."""
    student, teacher = (
        markov.MarkovEngine(policy, fail_at_call=(fail or {}).get(role))
        for role, policy in (("student", world.student), ("teacher", world.teacher))
    )
    policies = {"student": world.student, "teacher": world.teacher}
    judge = Judge(markov.grade, (markov.RULE,), markov.gold(problems), policies)
    folder = store.RunFolder(path)
    return Collector(
        student,
        teacher,
        problems,
        PROMPTS,
        plan,
        judge,
        folder,
        Notes(),
    )


def calls(one: Collector) -> dict[str, list[list[Request]]]:
    return {role: engine.calls for role, engine in one.engines.items()}


def by_condition(rows: Rows, condition: str) -> Rows:
    return [row for row in rows if row["condition"] == condition]


def content(row: dict[str, Any]) -> list[int]:
    return [token for token in row["response_ids"] if token != markov.END]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collector, pa.Table]:
    one = collector(tmp_path_factory.mktemp("undisturbed"))
    return one, one.collect()


@pytest.fixture(scope="module")
def rows(undisturbed: tuple[Collector, pa.Table]) -> Rows:
    return undisturbed[1].to_pylist()


# Resuming


def test_a_stopped_collection_ends_with_the_same_bytes_and_redoes_only_the_part_in_flight(
    undisturbed: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    whole = {role: len(made) for role, made in calls(undisturbed[0]).items()}
    assert whole["student"] >= 4 and whole["teacher"] >= 8, "too few parts to stop between"
    expected = (undisturbed[0].folder.path / "rollouts.parquet").read_bytes()
    stops = [(role, call) for role, count in whole.items() for call in range(count)]
    for role, call in stops:
        path = tmp_path / f"{role}-{call}"
        first = collector(path, fail={role: call})
        with pytest.raises(KeyboardInterrupt):
            first.collect()
        assert not (path / "rollouts.parquet").exists()
        second = collector(path)
        second.collect()
        assert (path / "rollouts.parquet").read_bytes() == expected, (
            f"stopped at call {call} of the {role}"
        )
        assert list((path / "parts").glob("*")) == []
        for either, count in whole.items():
            assert len(calls(first)[either]) + len(calls(second)[either]) == count
            again = {request for part in calls(second)[either] for request in part}
            assert again.isdisjoint(request for part in calls(first)[either] for request in part)


def test_a_collection_stopped_twice_still_ends_with_the_same_bytes(
    undisturbed: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    for fail in ({"teacher": 2}, {"teacher": 3}, {"student": 1}):
        with pytest.raises(KeyboardInterrupt):
            collector(tmp_path, fail=fail).collect()
    collector(tmp_path).collect()
    expected = (undisturbed[0].folder.path / "rollouts.parquet").read_bytes()
    assert (tmp_path / "rollouts.parquet").read_bytes() == expected


def test_one_collector_can_go_on_after_a_failure_without_doubling_its_rollouts(
    undisturbed: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    one = collector(tmp_path, fail={"teacher": 3})
    with pytest.raises(KeyboardInterrupt):
        one.collect()
    one.engines["teacher"].fail_at_call = None
    assert one.collect().num_rows == undisturbed[1].num_rows


def test_a_finished_collection_is_read_and_nothing_is_sampled(
    undisturbed: tuple[Collector, pa.Table],
) -> None:
    again = collector(undisturbed[0].folder.path)
    assert again.collect().to_pylist() == undisturbed[1].to_pylist()
    assert calls(again) == {"student": [], "teacher": []}


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        collector(tmp_path, fail={"teacher": 1}).collect()
    part = min((tmp_path / "parts").glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(ValueError, match=f"{part.name} is truncated or damaged"):
        collector(tmp_path).collect()


# Which part a rollout is made in, and in what company, does not matter


def without_place(table: pa.Table) -> set[str]:
    return {repr(sorted(row.items())) for row in table.to_pylist()}


@pytest.mark.parametrize("part_rows", [1, 7, 10_000])
def test_the_size_of_parts_changes_no_rollout(
    undisturbed: tuple[Collector, pa.Table], tmp_path: Path, part_rows: int
) -> None:
    table = collector(tmp_path, plan=replace(PLAN, part_rows=part_rows)).collect()
    assert table.to_pylist() == undisturbed[1].to_pylist()


def test_the_order_of_problems_changes_no_rollout_but_the_partners_of_swapped_ones(
    undisturbed: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    shuffled = [PROBLEMS[index] for index in np.random.default_rng(0).permutation(len(PROBLEMS))]
    table = collector(tmp_path, problems=shuffled).collect()
    kept = [
        without_place(one.filter(pa.compute.field("condition") != "swapped"))
        for one in (table, undisturbed[1])
    ]
    assert kept[0] == kept[1]
    assert table.to_pylist() != undisturbed[1].to_pylist()


def test_fewer_problems_keep_their_rollouts(
    undisturbed: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    plan = replace(PLAN, controls=("own-prefix", "reverse"))
    table = collector(tmp_path, plan=plan, problems=PROBLEMS[3:8]).collect()
    assert without_place(table) < without_place(undisturbed[1])


def test_another_seed_changes_the_rollouts(
    undisturbed: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    table = collector(
        tmp_path, plan=replace(PLAN, sampling=SamplingSettings(1.0, seed=6))
    ).collect()
    pairs = zip(
        table["response_ids"][:24].to_pylist(),
        undisturbed[1]["response_ids"][:24].to_pylist(),
        strict=True,
    )
    assert sum(first != second for first, second in pairs) > 12


def test_no_two_requests_share_their_noise(undisturbed: tuple[Collector, pa.Table]) -> None:
    requests = [
        request for made in calls(undisturbed[0]).values() for part in made for request in part
    ]
    assert (
        len({request.stage for request in requests}) == 2 + 4 * 2
    )  # two plain ones, four conditions at two lengths
    drawn = [float(uniforms(PLAN.sampling.seed, request)[0]) for request in requests]
    assert len(set(drawn)) == len(requests) > 100


def test_noise_belongs_to_the_response_position() -> None:
    whole = Request((1,), (), 12, "stage", "p", 0)
    behind = replace(whole, prefix_ids=(1, 2, 3), max_new_tokens=9)
    np.testing.assert_array_equal(uniforms(0, whole)[3:], uniforms(0, behind))
    for other in (
        replace(whole, stage="other"),
        replace(whole, problem_id="q"),
        replace(whole, sample=1),
    ):
        assert not np.isclose(uniforms(0, whole), uniforms(0, other)).any()


# What is asked, and of whom


def test_prefix_and_continuation_stay_within_the_budget_and_use_all_of_it(
    undisturbed: tuple[Collector, pa.Table], rows: Rows
) -> None:
    for part in itertools.chain(*calls(undisturbed[0]).values()):
        assert all(
            len(request.prefix_ids) + request.max_new_tokens == PLAN.max_tokens for request in part
        )
    lengths = [len(row["prefix_ids"]) + len(row["response_ids"]) for row in rows]
    assert max(lengths) == PLAN.max_tokens
    assert all(
        length == PLAN.max_tokens
        for length, row in zip(lengths, rows, strict=True)
        if row["stop_reason"] == "length"
    )
    assert all(
        (row["response_ids"][-1] == markov.END) == (row["stop_reason"] == "eos") for row in rows
    )


@pytest.mark.parametrize(
    ("condition", "author"),
    [
        ("student-prefix", "student"),
        ("swapped", "student"),
        ("own-prefix", "teacher"),
        ("reverse", "teacher"),
    ],
)
def test_every_rollout_with_k_tokens_before_its_end_is_continued_and_no_other(
    rows: Rows, condition: str, author: str
) -> None:
    plain = by_condition(rows, author)
    assert len(plain) == len(PROBLEMS) * PLAN.samples
    wanted = {
        (row["rollout_id"], k): content(row)[:k]
        for row in plain
        for k in (2, 4)
        if len(content(row)) >= k
    }
    found = {
        (row["prefix_rollout_id"], row["prefix_tokens"]): row["prefix_ids"]
        for row in by_condition(rows, condition)
    }
    assert found == wanted
    lengths = [len(content(row)) for row in plain]
    assert {2, 4} & set(lengths), (
        "no rollout ends right behind a prefix: the boundary is not tested"
    )
    assert min(lengths) < 2, "no rollout ends before the shortest prefix"
    assert all(markov.END not in prefix for prefix in found.values())


def test_each_condition_has_its_writer_its_author_and_its_problem(rows: Rows) -> None:
    parts = {
        "student": ("student", ""),
        "teacher": ("teacher", ""),
        "student-prefix": ("teacher", "student"),
        "own-prefix": ("teacher", "teacher"),
        "swapped": ("teacher", "student"),
        "reverse": ("student", "teacher"),
    }
    assert {row["condition"] for row in rows} == set(parts)
    plain = {row["rollout_id"]: row for row in rows if not row["prefix_tokens"]}
    for row in rows:
        writer, author = parts[row["condition"]]
        assert (row["author"], row["policy"], row["prefix_author"]) == (writer, writer, author)
        assert tuple(row["prompt_ids"]) == PROMPTS[writer][row["problem_id"]]
        if author:
            source = plain[row["prefix_rollout_id"]]
            assert source["author"] == author and source["sample"] == row["sample"]
            assert (source["problem_id"] != row["problem_id"]) == (row["condition"] == "swapped")
    assert len({row["rollout_id"] for row in rows}) == len(rows)


def test_swapped_prefixes_give_each_problem_one_partner(rows: Rows) -> None:
    partners = {
        (row["problem_id"], row["prefix_rollout_id"].split("/")[1])
        for row in by_condition(rows, "swapped")
    }
    assert (
        len({one for one, _ in partners}) == len({other for _, other in partners}) == len(partners)
    )


def test_texts_are_prefix_and_response_graded_by_the_answer_of_the_problem_that_is_asked(
    rows: Rows,
) -> None:
    answers = {problem.problem_id: problem.answer for problem in PROBLEMS}
    for row in rows:
        text = "".join(markov.TOKENS[token] for token in row["prefix_ids"] + content(row))
        verdict = (
            "no_answer"
            if not text
            else "correct"
            if text.endswith(str(answers[row["problem_id"]]))
            else "wrong"
        )
        assert (row["text"], row[f"grade_{markov.RULE}"]) == (text, verdict)
        assert (row["temperature"], row["seed"], row["max_tokens"], row["engine"]) == (
            1.0,
            5,
            12,
            "markov",
        )
        assert row["prefix_correct_so_far"] is None


def test_controls_that_are_not_asked_for_are_not_sampled(tmp_path: Path) -> None:
    one = collector(tmp_path, plan=replace(PLAN, controls=()))
    assert set(one.collect()["condition"].to_pylist()) == {"student", "teacher", "student-prefix"}


def test_swapping_needs_two_problems_and_says_so(tmp_path: Path) -> None:
    one = collector(tmp_path, problems=PROBLEMS[:1])
    assert "swapped" not in one.collect()["condition"].to_pylist()
    assert one.reporter.said == ["swapped: left out, since it needs at least two problems"]


def test_prefixes_longer_than_any_rollout_leave_plain_rollouts_and_a_note(tmp_path: Path) -> None:
    short = np.zeros_like(WORLD.student.law)
    short[:, 0, 1], short[:, 1:, markov.END] = 1.0, 1.0  # n and the end
    policy = markov.MarkovPolicy("short", short)
    one = collector(tmp_path, plan=replace(PLAN, controls=()), world=markov.World(policy, policy))
    assert set(one.collect()["condition"].to_pylist()) == {"student", "teacher"}
    assert one.reporter.said == [
        "student-prefix: left out, since no rollout is unfinished after 2 tokens"
    ]


def test_length_zero_alone_measures_the_two_policies_and_notes_nothing(tmp_path: Path) -> None:
    one = collector(tmp_path, plan=replace(PLAN, prefix_lengths=(0,)))
    assert set(one.collect()["condition"].to_pylist()) == {"student", "teacher"}
    assert one.reporter.said == []


def test_rollouts_that_somebody_has_stand_in_for_the_students(
    undisturbed: tuple[Collector, pa.Table], tmp_path: Path
) -> None:
    table = undisturbed[1]
    theirs = table.filter(pa.compute.field("condition") == "student")
    one = collector(tmp_path, plan=replace(PLAN, controls=("swapped",)))
    found = one.collect(theirs)
    assert calls(one)["student"] == []
    kept = table.filter(
        pa.compute.is_in(
            table["condition"], pa.array(["student", "teacher", "student-prefix", "swapped"])
        )
    )
    assert found.to_pylist() == kept.to_pylist()


# Handing over


def other_ids(policy: markov.MarkovPolicy) -> markov.MarkovPolicy:
    """The same policy with another numbering of its tokens."""
    letters = "#bhgnm"
    order = [markov.TOKENS.index(letter) for letter in letters]
    law = policy.law[:, order][:, :, order]
    return markov.MarkovPolicy("other", law, markov.MarkovTokenizer(letters))


def test_two_vocabularies_exchange_text(tmp_path: Path) -> None:
    one = collector(tmp_path, world=markov.World(WORLD.student, other_ids(WORLD.teacher)))
    assert one.hand_over.agreement.kind == "different"
    rows = one.collect().to_pylist()
    texts = {row["rollout_id"]: row["text"] for row in rows}
    letters = {"student": markov.TOKENS, "teacher": "#bhgnm"}
    continued = [row for row in rows if row["prefix_tokens"]]
    assert {row["condition"] for row in continued} == {
        "student-prefix",
        "own-prefix",
        "swapped",
        "reverse",
    }
    for row in continued:
        handed = "".join(letters[row["author"]][token] for token in row["prefix_ids"])
        assert handed == texts[row["prefix_rollout_id"]][: row["prefix_tokens"]] and row[
            "text"
        ].startswith(handed)
    assert one.left_out == {}


def test_a_prefix_with_an_id_that_the_reader_lacks_is_left_out_and_counted(tmp_path: Path) -> None:
    fewer = replace(
        WORLD.teacher,
        tokenizer=markov.MarkovTokenizer(markov.TOKENS.replace("h", "?"), special="?"),
    )
    one = collector(
        tmp_path,
        world=markov.World(WORLD.student, fewer),
        plan=replace(PLAN, controls=("own-prefix",)),
    )
    assert one.hand_over.agreement.kind == "compatible" and one.hand_over.agreement.conflicting == (
        3,
    )
    rows = one.collect().to_pylist()
    opened = [
        content(row)[:k]
        for row in by_condition(rows, "student")
        for k in (2, 4)
        if len(content(row)) >= k
    ]
    foreign = sum(3 in prefix for prefix in opened)
    assert one.left_out == {"student-prefix": foreign} and foreign > 0
    assert len(by_condition(rows, "student-prefix")) == len(opened) - foreign
    own = [k for row in by_condition(rows, "teacher") for k in (2, 4) if len(content(row)) >= k]
    assert len(by_condition(rows, "own-prefix")) == len(own), "a policy can always read itself"


def test_a_prefix_that_ends_inside_a_character_goes_back_to_the_last_whole_one() -> None:
    student, teacher = policy_of(byte_tokenizer()), policy_of(byte_tokenizer(shift=7))
    hand_over = HandOver(student, teacher)
    ids = student.encode("x=\u20ac\U0001f600")  # 1 + 1 + 3 + 4 bytes
    texts = [teacher.decode(hand_over(ids[:count], "student") or []) for count in range(1, 10)]
    assert texts == [
        "x",
        "x=",
        "x=",
        "x=",
        "x=\u20ac",
        "x=\u20ac",
        "x=\u20ac",
        "x=\u20ac",
        "x=\u20ac\U0001f600",
    ]
    assert hand_over(student.encode("\u20ac")[:2], "student") is None, (
        "nothing that both can express"
    )


# The step verifier


@dataclass
class Scripted:
    """An engine that always writes the same."""

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


def test_prefixes_are_split_by_the_steps_where_the_problem_has_them(tmp_path: Path) -> None:
    steps = (Step(47, "+", 85, 132), Step(132, "-", 12, 120))
    problem = Problem("one", "?", "120", steps)
    engine = Scripted(policy_of(byte_tokenizer(), "both"), "47+85=132\n132-1=131\n")
    plan = DecayPlan((0, 9, 15, 16, 18), 1, 20, (), SamplingSettings(1.0))
    prompts = {role: {"one": (65,)} for role in ("student", "teacher")}

    def wrong(texts: Sequence[str], answers: Sequence[str]) -> dict[str, list[str]]:
        return {"grade_rule": ["wrong"] * len(texts)}

    folder, reporter = store.RunFolder(tmp_path), Reporter(quiet=True)
    judge = Judge(
        wrong, ("rule",), {"one": "120"}, {"student": engine.policy, "teacher": engine.policy}
    )
    table = Collector(engine, engine, [problem], prompts, plan, judge, folder, reporter).collect()
    found = {row["prefix_tokens"]: row["prefix_correct_so_far"] for row in table.to_pylist()}
    # 9: the first equation whole. 15: "132-1", still able to become 132-12. 16: "132-1=", no
    # longer. 18: "132-1=13".
    assert found == {0: None, 9: True, 15: True, 16: False, 18: False}
