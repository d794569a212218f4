"""How two runs differ, in words."""

from __future__ import annotations

import re
from typing import Any

from decaylab.runs import differences

HASHES = ("a" * 64, "b" * 64)


def identity(**changes: Any) -> dict[str, Any]:
    first = HASHES[0]
    return {
        "diagnostic": "evaluate",
        "options": {"limit": 10, "columns": {}, "checkpoints": ["runs/esr"], "score_end": True},
        "student": {"name": "s", "content_hash": first},
        "teacher": {"name": "t", "content_hash": first},
        "problems": {"name": "abacus", "content_hash": first, "asked": 10},
        "prompts": first,
        "rollouts_hash": None,
        "checkpoints": {"esr/step-000002": first},
        "engine": {"name": "transformers", "seeding": "by position"},
        "precision": {"student": "torch.float32 on cpu"},
        **changes,
    }


def test_the_same_run_has_no_difference_however_its_checkpoint_is_written() -> None:
    assert differences.found(identity(), identity()) == []
    options = {**identity()["options"], "checkpoints": ["./runs/esr/"]}
    assert differences.found(identity(), identity(options=options)) == []


def test_options_are_named_as_a_user_sets_them_and_what_follows_from_them_is_left_out() -> None:
    options = {"limit": 6, "columns": {"question": "q"}, "checkpoints": [], "score_end": False}
    now = identity(options=options, prompts=HASHES[1], problems={"content_hash": HASHES[1]})
    assert differences.found(identity(), now) == [
        "--column not set there, question=q now",
        "--limit 10 there, 6 now",
        "--score-end true there, false now",
    ]


def test_contents_are_told_in_words_and_no_hash_is_ever_shown() -> None:
    second = HASHES[1]
    precision = "precision student=torch.float32 on cpu there, student=torch.bfloat16 on cuda now"
    changes: dict[str, tuple[Any, list[str]]] = {
        "student": ({"name": "s", "content_hash": second}, ["another student"]),
        "teacher": ({"name": "t", "content_hash": second}, ["another teacher"]),
        "problems": ({"content_hash": second}, ["other problems"]),
        "prompts": (second, ["other prompts"]),
        "rollouts_hash": (second, ["other rollouts"]),
        "checkpoints": (
            {"esr/step-000002": second, "full": second},
            ["another checkpoint esr/step-000002", "checkpoint full only now"],
        ),
        "engine": ({"name": "vllm", "adapters": "merged"}, []),
        "precision": (
            {"student": "torch.bfloat16 on cuda"},
            [f"{precision} (--device, --dtype)"],
        ),
        "something_new": (second, ["other something new"]),
        "scores": ({"top_ids": 32}, ["--top-ids not set there, 32 now"]),
    }
    for name, (value, words) in changes.items():
        told = differences.found(identity(), identity(**{name: value}))
        assert told == words and not re.search("[0-9a-f]{12}", " ".join(told)), name


def test_sweeps_differ_by_the_names_of_their_runs_and_the_options_of_a_training() -> None:
    def sweep(**runs: Any) -> dict[str, Any]:
        return {"options": {"over": "rollout-length"}, "runs": runs}

    one, other = {"training": {"steps": 5}}, {"training": {"steps": 7}}
    assert differences.found(sweep(a=one, b=one), sweep(a=other, c=one)) == [
        "only there: b",
        "only now: c",
        "--steps 5 there, 7 now",
    ]


def test_what_a_run_is() -> None:
    assert differences.kind({"training": {}, "options": {}}) == "training run"
    assert differences.kind({"options": {"prefix_lengths": [0, 5]}}) == "prefix-decay run"
    assert differences.kind({"options": {"over": "selector"}, "runs": {}}) == "sweep selector"
    assert differences.kind({"diagnostic": "signals"}) == "signals run"
    assert differences.kind({}) == ""
