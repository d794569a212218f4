"""Preflight: a plain verdict before anything is sampled, and what to change where it is no."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from command_line import DATA, decaylab
from tiny_models import save_folder
from tokenizer_families import two_tokenizers, wordpiece

from decaylab.planner import alignment_checks, plan
from decaylab.planner.probe import Rates
from decaylab.policies import loading
from decaylab.printing import gib

ROLES = ("student", "teacher")
SMALL = ("--limit", "2", "--prefix-lengths", "0,8", "--max-tokens", "32")


def checks(*arguments: object) -> dict[str, dict[str, str]]:
    outcome = decaylab("preflight", *SMALL, *arguments, "--json")
    assert outcome.err == ""
    return {check["name"]: check for check in json.loads(outcome.out)["checks"]}


def respelt(folder: Path, change: Any) -> Path:
    """A copy of the embedded student whose tokenizer.json was changed."""
    shutil.copytree(DATA / "student", folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    change(tokenizer)
    path.write_text(json.dumps(tokenizer))
    return folder


def test_the_embedded_pair_can_be_measured() -> None:
    outcome = decaylab("preflight", *SMALL)
    assert outcome.code == 0
    assert outcome.err == "decaylab preflight: loads torch and the models ...\n"
    assert outcome.out.lstrip().splitlines()[0] == "This pair can be measured."
    found = checks()
    wanted = [
        "problems",
        "vocabularies",
        "student template",
        "teacher template",
        "context",
        "memory",
        "time",
    ]
    assert list(found) == wanted
    assert {check["verdict"] for check in found.values()} == {"ok"}
    assert "a turn ends with '<|end|>'" in found["teacher template"]["finding"]


def test_json_gives_the_verdict_too() -> None:
    printed = json.loads(decaylab("preflight", *SMALL, "--json").out)
    assert (printed["measurable"], printed["verdict"]) == (True, "This pair can be measured.")


def test_a_budget_beyond_the_context_is_no_and_says_what_fits() -> None:
    outcome = decaylab("preflight", *SMALL, "--max-tokens", 5000)
    assert outcome.code == 1
    shown = " ".join(outcome.out.split())
    assert "exceeds the context of the student abacus-student, 1024 tokens; at most" in shown
    assert shown.startswith("This pair cannot be measured with these options.")
    assert shown.count("exceeds the context") == 1
    fitting = int(shown.split("at most ")[1].split()[0])
    assert checks("--max-tokens", fitting)["context"]["verdict"] == "ok"
    assert decaylab("preflight", *SMALL, "--max-tokens", fitting + 1).code == 1


def test_the_smaller_context_is_the_one_that_counts(tmp_path: Path) -> None:
    shutil.copytree(DATA / "student", tmp_path / "short")
    config = json.loads((tmp_path / "short" / "config.json").read_text())
    (tmp_path / "short" / "config.json").write_text(
        json.dumps(config | {"max_position_embeddings": 300})
    )
    assert (
        "of the smaller context's 300 tokens"
        in checks("--student", tmp_path / "short")["context"]["finding"]
    )
    outcome = decaylab("preflight", *SMALL, "--student", tmp_path / "short", "--max-tokens", 299)
    assert outcome.code == 1 and "300 tokens; at most" in " ".join(outcome.out.split())


def test_an_unknown_model_is_no_and_an_unusable_option_is_exit_2() -> None:
    outcome = decaylab("preflight", "--teacher", "nonsense", "--json")
    assert outcome.code == 1
    (check,) = json.loads(outcome.out)["checks"]
    assert (check["name"], check["verdict"]) == (
        "loading",
        "no",
    ) and "no model 'nonsense'" in check["finding"]
    assert "--samples must be at least 1" in decaylab("preflight", "--samples", 0).complaint


# What the vocabularies have in common


def test_a_token_that_only_the_student_added_is_a_warning(tmp_path: Path) -> None:
    def add(tokenizer: dict[str, Any]) -> None:
        last = tokenizer["added_tokens"][-1]
        size = 1 + max(
            [
                *tokenizer["model"]["vocab"].values(),
                *(one["id"] for one in tokenizer["added_tokens"]),
            ]
        )
        tokenizer["added_tokens"].append(last | {"id": size, "content": "<|mine|>"})

    student = respelt(tmp_path / "student", add)
    found = checks("--student", student)
    assert found["vocabularies"]["verdict"] == "warning"
    assert (
        "0 ids conflict, 1 are student-only ('<|mine|>'), 0 are teacher-only"
        in found["vocabularies"]["finding"]
    )
    outcome = decaylab("preflight", *SMALL, "--student", student)
    assert outcome.code == 0
    assert outcome.out.lstrip().startswith("This pair can be measured; see the warning.")


def test_one_ordinary_id_with_another_meaning_makes_them_different(tmp_path: Path) -> None:
    """The sizes agree and the strings are the same ones; only which id is which differs."""

    def swap(tokenizer: dict[str, Any]) -> None:
        vocab = tokenizer["model"]["vocab"]
        vocab["3"], vocab["4"] = vocab["4"], vocab["3"]

    finding = checks("--student", respelt(tmp_path / "student", swap))["vocabularies"]
    assert finding["verdict"] == "warning"
    assert (
        "reads the text in its own tokens" in finding["finding"]
        and "is '4' and '3'" in finding["finding"]
    )


# Memory and time


@pytest.mark.parametrize("free_gib", [0.6, 1.0])
def test_small_memory_names_the_batch_that_helps(
    monkeypatch: pytest.MonkeyPatch, free_gib: float
) -> None:
    monkeypatch.setattr(plan, "host_memory", lambda: int(free_gib * 2**30))
    many = ("--samples", 1200, "--batch-rows", 100_000)
    found = checks(*many)["memory"]
    assert found["verdict"] == "warning"
    fitting = int(found["finding"].split("--batch-rows ")[1].split()[0])
    assert checks(*many, "--batch-rows", fitting)["memory"]["verdict"] == "ok"
    assert checks(*many, "--batch-rows", 2 * fitting)["memory"]["verdict"] == "warning"


def test_weights_that_do_not_fit_are_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "host_memory", lambda: 1 << 20)
    outcome = decaylab("preflight", *SMALL)
    assert outcome.code == 1 and "the weights alone do not fit" in " ".join(outcome.out.split())


def test_memory_is_that_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Preflight and plan count the same phases: here the continuation of 8 rows."""
    monkeypatch.setattr(plan, "host_memory", lambda: 8 * 2**30)
    finding = checks()["memory"]["finding"]
    planned = json.loads(
        decaylab("plan", *SMALL, "--only", "prefix-decay", "--memory", "8GB", "--json").out
    )
    most = max(planned["phases"], key=lambda phase: phase["bytes"])
    cache, weights = most["terms"]["cache"], sum(most["terms"][f"{role} weights"] for role in ROLES)
    assert finding.startswith(f"weights {gib(weights)} GiB + cache of 8 sequences {gib(cache)} GiB")
    assert finding.endswith(f"other {gib(most['bytes'] - cache - weights)} GiB, of 8.00 GiB")


def test_the_time_estimate_counts_every_stage_at_the_probed_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2 problems x 4 samples, budget 32, lengths 0 and 8: 8 x 32 tokens plain and 8 x 24
    continued."""
    monkeypatch.setattr(plan, "probe", lambda *more: Rates("", {"student": 10.0, "teacher": 10.0}))
    finding = checks("--controls", "none")["time"]["finding"]
    assert finding.startswith(f"at most {8 * 32 + 8 * (32 + 24)} tokens, 70 s")
    every = checks("--controls", "all")["time"]["finding"]
    assert every.startswith(f"at most {8 * (32 + 24) + 8 * (32 + 3 * 24):,} tokens, 2 min")
    # The teacher again behind every prefix, and the student behind 0, 4 and 10 of its tokens.
    back = checks("--controls", "none", "--hand-back", "4,10")["time"]["finding"]
    tokens = 8 * 32 + 8 * (32 + 24) + 8 * 24 + 8 * (24 + 20 + 14)
    assert back.startswith(f"at most {tokens:,} tokens, ")


def test_the_probe_measures_a_positive_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Rates] = []
    probe = plan.probe

    def kept(*given: Any) -> Rates:
        found.append(probe(*given))
        return found[-1]

    monkeypatch.setattr(plan, "probe", kept)
    assert checks()["time"]["verdict"] == "ok"
    assert set(found[0].by_name) == set(ROLES) and min(found[0].by_name.values()) > 0


# Two tokenizers


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = two_tokenizers(tmp_path_factory.mktemp("two"))
    return dict(zip(ROLES, folders, strict=True))


def of_two(two: dict[str, Path], *more: object) -> dict[str, dict[str, str]]:
    pair = [part for role, path in two.items() for part in (f"--{role}", path)]
    options = "--problems", "abacus", "--max-tokens", "24", "--device", "cpu"
    return checks(*pair, *options, *more)


def test_two_tokenizers_are_shown_side_by_side(two: dict[str, Path]) -> None:
    found = of_two(two, "--limit", 12)
    alignment = found["alignment"]["finding"]
    assert alignment.startswith("10 responses of up to 24 tokens; bytes and student tokens in ")
    shares = [float(share) for share in re.findall(r"[\d.]+(?= and| %)", alignment)]
    assert len(shares) == 8 and shares[::2] == sorted(shares[::2])
    assert all(0 <= share <= 100 for share in shares)
    assert " are " in found["longest spans"]["finding"]
    for role in ROLES:
        prompt = found[f"{role} prompt"]["finding"]
        assert "<|im_start|>" in prompt and "tokens: " in prompt


def test_the_coverage_is_that_of_the_students_own_responses(
    two: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: AAA, of which the teacher has the blank ahead in a token, and an id of no token."""

    def written(_: Any, problems: Any, room: int) -> list[tuple[int, ...]]:
        student = loading.load_tokenizer_only(str(two["student"]))
        return [(*student.encode("AAA"), student.end_id), (10**6, student.end_id)]

    monkeypatch.setattr(alignment_checks, "_responses", written)
    found = of_two(two)
    assert found["alignment"]["verdict"] == "warning"
    assert found["alignment"]["finding"] == (
        "2 responses of up to 24 tokens; bytes and student tokens in spans of tokens: 75.0 and "
        "75.0 % up to 1, 100.0 and 100.0 % up to 2, 100.0 and 100.0 % up to 4, 100.0 and 100.0 % "
        "up to 8; left out: 1 hold an id that has no token"
    )


def test_tokens_that_are_no_bytes_are_no(two: dict[str, Path], tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "words", tokenizer=wordpiece())
    found = of_two({**two, "teacher": folder})
    assert found["alignment"]["verdict"] == "no"
    assert "cannot be read as bytes" in found["alignment"]["finding"]
