"""run.json: one writer for what every command's record has in common."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from decaylab.policies.identity import PolicyIdentity, versions
from decaylab.problems.problem import ProblemSet
from decaylab.runs import records


def policy(name: str, ends: set[int]) -> Any:
    tokenizer = SimpleNamespace(decode=lambda ids: f"{name} {ids}")
    identity = PolicyIdentity(name, "folder", "", f"hash of {name}")
    return SimpleNamespace(
        identity=identity, precision=f"{name} float32", end_ids=ends, tokenizer=tokenizer
    )


POLICIES = {"student": policy("s", {3, 1}), "teacher": policy("t", {2})}


def test_an_identity_says_which_pair_and_problems_a_run_depends_on() -> None:
    problem_set = cast(
        ProblemSet,
        SimpleNamespace(name="abacus", version="3", content_hash="c", instruction="boxed"),
    )
    found = records.identity_of_pair(POLICIES, problem_set, "digest", asked=7)
    assert found["student"]["content_hash"] == "hash of s" and found["teacher"]["name"] == "t"
    assert found["precision"] == {"student": "s float32", "teacher": "t float32"}
    assert found["prompts"] == "digest" and "engine" not in found
    assert found["problems"] == {
        "name": "abacus",
        "version": "3",
        "content_hash": "c",
        "instruction": "boxed",
        "asked": 7,
    }


def test_ends_are_sorted_and_the_first_prompt_is_the_example() -> None:
    assert records.end_ids(POLICIES) == {"student": [1, 3], "teacher": [2]}
    prompts = {"student": {"p0": (5, 6), "p1": (7,)}, "teacher": {"p0": (8,)}}
    example = records.example_prompt(POLICIES, prompts)
    assert example == {"student": "s [5, 6]", "teacher": "t [8]"}


def test_a_record_has_the_command_its_identity_versions_and_notes() -> None:
    found = records.run_record("decaylab x", {"a": 1}, notes=("n",), preset="embedded pair")
    assert found.pop("made")["seconds"] == 0
    assert found == {
        "command": "decaylab x",
        "identity": {"a": 1},
        "versions": versions(),
        "notes": ["n"],
        "prompt_notes": [],
        "preset": "embedded pair",
    }
