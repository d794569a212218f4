"""prefix-decay of a pair with two tokenizers, from the options to the stored rows and notes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from command_line import decaylab, write_lines
from tokenizer_families import two_tokenizers

from decaylab.policies import loading
from decaylab.policies.handover import HandOver
from decaylab.rollouts import seams
from decaylab.runs import store

QUESTIONS = [
    {"question": "What is 12 + 345?", "answer": "357"},
    {"question": "Let x = 3. Then 2x + 1?", "answer": "7"},
    {"question": "The total of 20 and 300", "answer": "320"},
]
HANDED = {"student-prefix": "student", "swapped": "student", "reverse": "teacher"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[HandOver, Path]:
    root = tmp_path_factory.mktemp("two")
    student, teacher = two_tokenizers(root)
    problems = write_lines(root / "problems.jsonl", *QUESTIONS)
    options = ["--student", student, "--teacher", teacher, "--problems", str(problems)]
    options += ["--prefix-lengths", "0,3,8", "--max-tokens", "24", "--samples", "2"]
    options += ["--controls", "own-prefix,swapped,reverse", "--hand-back", "2,5"]
    outcome = decaylab("prefix-decay", *options, "--out", root / "run", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    pair = HandOver(loading.load(str(student)), loading.load(str(teacher)))
    return pair, root / "run"


@pytest.fixture(scope="module")
def rows(run: tuple[HandOver, Path]) -> dict[str, dict[str, Any]]:
    table = store.RunFolder(run[1]).read_rollouts()
    assert table is not None
    return {row["rollout_id"]: row for row in table.to_pylist()}


def test_each_prefix_is_the_beginning_of_its_rollout_at_a_boundary_of_both(
    run: tuple[HandOver, Path], rows: Mapping[str, dict[str, Any]]
) -> None:
    known = run[0].bytes
    found = [row for row in rows.values() if row["condition"] in HANDED]
    assert len(found) > 5
    for row in found:
        source, author = rows[row["prefix_rollout_id"]], HANDED[row["condition"]]
        kept = source["response_ids"][: row["prefix_tokens"] - row["prefix_shift"]]
        text = known[author].text(kept)
        reader = known[row["author"]]
        assert reader.text(row["prefix_ids"]) == text
        assert reader.policy.encode(text) == row["prefix_ids"]
        assert row["text"].startswith(text) or row["prefix_split"]


def test_a_policy_continues_itself_at_the_very_length(rows: Mapping[str, dict[str, Any]]) -> None:
    own = [row for row in rows.values() if row["condition"] == "own-prefix"]
    assert own
    for row in own:
        source = rows[row["prefix_rollout_id"]]["response_ids"]
        assert row["prefix_ids"] == source[: row["prefix_tokens"]]
        assert row["prefix_shift"] is None and row["prefix_split"] is None


def test_the_student_finishes_behind_the_prefix_that_the_teacher_continued(
    run: tuple[HandOver, Path], rows: Mapping[str, dict[str, Any]]
) -> None:
    known = run[0].bytes
    back = [row for row in rows.values() if row["condition"] == "hand-back"]
    assert {row["teacher_tokens"] for row in back} >= {0, 5}
    for row in back:
        stage, length, _, *rest = row["rollout_id"].split("/")
        teacher = rows["/".join([f"{stage}-teacher", length, *rest])]
        source = rows[row["prefix_rollout_id"]]["response_ids"]
        own = source[: row["prefix_tokens"] - teacher["prefix_shift"]]
        assert row["prefix_ids"][: len(own)] == own
        count = row["teacher_tokens"] - row["prefix_shift"]
        written = [*teacher["prefix_ids"], *teacher["response_ids"][:count]]
        assert known["student"].text(row["prefix_ids"]) == known["teacher"].text(written)


def test_the_notes_count_what_was_shifted_split_and_left_out(
    run: tuple[HandOver, Path], rows: Mapping[str, dict[str, Any]]
) -> None:
    said = json.loads((run[1] / "run.json").read_text())["notes"]
    table = store.RunFolder(run[1]).read_rollouts()
    assert table is not None
    counted = [*seams.notes(table)]
    assert counted and {*counted} <= {*said}
    found = [row for row in rows.values() if row["condition"] == "student-prefix"]
    shifts = [row["prefix_shift"] for row in found if row["prefix_shift"]]
    (line,) = [line for line in said if line.startswith("student-prefix") and "before" in line]
    assert line.startswith(f"student-prefix: {len(shifts)} of {len(found)} cuts ")
    assert line.endswith(
        f" {sum(shifts) / len(shifts):.1f} tokens on average, at most {max(shifts)}"
    )
    open_at = [
        (row, length)
        for row in rows.values()
        if row["condition"] == "student"
        for length in (3, 8)
        if row["tokens"] >= length
    ]
    lost = len(open_at) - len(found)
    told = [line for line in said if line.startswith("student-prefix") and "left out" in line]
    assert bool(told) == (lost > 0)
    if lost:
        assert told[0].startswith(f"student-prefix: {lost} of {len(open_at)} prefixes ")
