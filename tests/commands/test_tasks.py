"""The commands on code and on function calls: what is stored, what is printed, and bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import task_files
from command_line import decaylab, write_lines
from tiny_models import byte_tokenizer, save_folder

LENGTHS = ("--prefix-lengths", "0,4,8", "--max-tokens", "90")


class World:
    """A folder with a pair, problems of both tasks, and responses to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        teacher, student = task_files.pair(folder)
        self.pair = ("--teacher", teacher, "--student", student, "--cache", folder / "cache")
        self.code = f"humaneval:{task_files.code_file(folder)}"
        (folder / "bfcl").mkdir()
        self.calls = f"bfcl:parallel:{task_files.calls_folder(folder / 'bfcl')}"
        self.programs = task_files.responses(folder / "programs-written.jsonl", task_files.PROGRAMS)
        self.called = task_files.responses(folder / "calls-written.jsonl", task_files.CALLS)

    def run(self, command: str, out: str, *options: Any) -> Any:
        pair = self.pair[:4] if command == "prefix-decay" else self.pair
        return decaylab(command, *pair, "--out", self.folder / out, *options)

    def rows(self, out: str) -> pd.DataFrame:
        return pd.read_parquet(self.folder / out / "measurements.parquet")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("tasks"))


def students(world: World, out: str) -> pd.DataFrame:
    rollouts = pd.read_parquet(world.folder / out / "rollouts.parquet")
    return rollouts[rollouts["condition"] == "student"].set_index("problem_id")


def test_programs_are_executed_and_every_rule_is_stored_with_its_reason(world: World) -> None:
    given = ("--problems", world.code, "--rollouts", world.programs)
    done = world.run("prefix-decay", "decay-of-code", *given, *LENGTHS)
    assert done.code == 0, done.err
    assert "teacher pass@1" in done.out and "T = 0.0" in done.out
    rows = students(world, "decay-of-code")
    verdicts = rows.loc[list(task_files.PROGRAMS), "grade_last_block"].tolist()
    assert verdicts == ["correct", "wrong", "no_answer"]
    assert rows["grade_whole"].tolist() == ["error"] * 3  # prose is no program
    assert rows.loc["Own/larger", "message_last_block"].startswith("assert candidate(2, 3) == 3")
    assert rows.loc["Own/added", "message_last_block"] == ""
    options = json.loads((world.folder / "decay-of-code" / "run.json").read_text())["identity"]
    assert options["options"]["samples"] == 1 and options["options"]["temperature"] == 0.0


def test_calls_are_read_and_every_rate_is_stored_with_its_reason(world: World) -> None:
    given = ("--problems", world.calls, "--rollouts", world.called)
    done = world.run("prefix-decay", "decay-of-calls", *given, *LENGTHS)
    assert done.code == 0, done.err
    assert "teacher full accuracy" in done.out
    rows = students(world, "decay-of-calls")
    assert rows["grade_full"].tolist() == ["correct", "wrong", "no_answer"]
    assert rows["grade_name"].tolist() == ["correct", "correct", "no_answer"]
    assert "'city' is 'Lima'" in rows.loc["parallel_1", "message_full"]


@pytest.mark.parametrize(("task", "words"), [("code", "keyword"), ("calls", "argument name")])
def test_token_categories_are_those_of_the_task(world: World, task: str, words: str) -> None:
    problems, written = world.code, world.programs
    if task == "calls":
        problems, written = world.calls, world.called
    given = ("--problems", problems, "--rollouts", written, "--max-tokens", "90")
    done = world.run("category-kl", f"categories-of-{task}", *given, "--floor-problems", 0)
    assert done.code == 0, done.err
    assert words in done.out and "math number" not in done.out


def test_an_evaluation_prints_each_measure_under_its_own_name(world: World) -> None:
    done = world.run("evaluate", "evaluated", "--problems", world.calls, "--max-tokens", "12")
    assert done.code == 0, done.err
    assert "full accuracy" in done.out and "parse rate" in done.out
    named = world.rows("evaluated").what
    assert {"full_accuracy", "name_accuracy", "parse_rate", "avg_at_1"} <= set(named)
    assert not named.str.startswith("maj_at").any()
    coded = world.run("evaluate", "passed", "--problems", world.code, "--max-tokens", "12")
    assert coded.code == 0 and "pass@1" in coded.out and "avg@1" not in coded.out


def test_behaviour_counts_how_programs_end_and_no_boxes(world: World) -> None:
    done = world.run("behaviour", "behaved", "--problems", world.code, "--max-tokens", "12")
    assert done.code == 0, done.err
    measured = set(world.rows("behaved").what)
    assert {"error_share", "timeout_share", "out_of_memory_share"} <= measured
    assert not {"boxes_mean", "several_boxes_share"} & measured


def test_verdicts_of_another_grader_are_asked_for_in_a_file_and_read_from_it(world: World) -> None:
    file = world.folder / "verdicts.jsonl"
    given = ("--problems", world.code, "--rollouts", world.programs, *LENGTHS, "--verdicts", file)
    asked = world.run("prefix-decay", "judged", *given)
    assert asked.code == 2 and "is written with" in asked.err.splitlines()[-1]
    rows = pd.read_json(file, lines=True)
    assert {"rollout_id", "problem_id", "response", "verdict"} <= set(rows)
    right = rows["rollout_id"] == "student/Own/joined/0"
    rows["verdict"] = right.map({True: "correct", False: "wrong"})
    rows.iloc[:-1].to_json(file, orient="records", lines=True)
    lacking = world.run("prefix-decay", "judged", *given)
    assert lacking.code == 2 and "has no verdict of 1 rollouts" in lacking.err.splitlines()[-1]
    rows.to_json(file, orient="records", lines=True)
    done = world.run("prefix-decay", "judged", *given)
    assert done.code == 0, done.err
    verdicts = students(world, "judged")["grade_verdicts"]
    assert verdicts.to_dict() == {
        "Own/added": "wrong",
        "Own/larger": "wrong",
        "Own/joined": "correct",
    }
    assert (
        json.loads((world.folder / "judged" / "run.json").read_text())["answer_rule"] == "verdicts"
    )


def test_a_checkpoint_is_measured_greedily_on_a_greedy_task(world: World) -> None:
    few = (
        "--steps",
        1,
        "--problems-per-step",
        2,
        "--rollout-length",
        8,
        "--validation-problems",
        1,
    )
    trained = decaylab(
        *("train", "--problems", world.code, "--test-problems", "none", *world.pair[:4]),
        *(*few, "--validation-problems", 1, "--max-tokens", 12, "--out", world.folder / "trained"),
    )
    assert trained.code == 0, trained.err
    record = json.loads((world.folder / "trained" / "run.json").read_text())
    assert record["identity"]["training"]["temperature"] == 0.7
    done = world.run("evaluate", "of-trained", world.folder / "trained", "--problems", world.code)
    assert done.code == 0, done.err
    assert "samples at T = 0," in done.out


def test_sampling_and_prompts_of_a_training_do_not_leak_into_another_task(world: World) -> None:
    problems = write_lines(world.folder / "sums.jsonl", {"question": "1 + 1?", "answer": "2"})
    few = ("--steps", 1, "--problems-per-step", 1, "--rollout-length", 4)
    trained = decaylab(
        *("train", "--problems", world.calls, "--test-problems", "none", *world.pair[:4]),
        *(*few, "--validation-problems", 0, "--instruction", "boxed", "--max-tokens", 8),
        *("--out", world.folder / "of-calls"),
    )
    assert trained.code == 0, trained.err
    assert "not drawn" not in trained.out  # without held-out problems too
    given = ("--problems", problems, "--max-tokens", 6, "--checkpoint-rule", "last")
    done = world.run("evaluate", "other", world.folder / "of-calls", *given)
    assert done.code == 0, done.err
    options = json.loads((world.folder / "other" / "run.json").read_text())["identity"]["options"]
    assert (options["temperature"], options["samples"]) == (0.7, 4)
    assert options["instruction"] is None


def test_two_verdicts_of_one_rollout_are_refused(world: World) -> None:
    rows = [{"rollout_id": "student/Own/added/0", "verdict": word} for word in ("true", "false")]
    file = write_lines(world.folder / "twice.jsonl", *rows)
    given = ("--problems", world.code, "--verdicts", file, "--max-tokens", 8)
    words = "has two verdicts of student/Own/added/0: correct and wrong; keep one"
    assert world.run("behaviour", "twice", *given).complaint.endswith(words)


BAD = {
    "a rule beside verdicts": (
        ["--answer-rule", "whole", "--verdicts", "given.csv"],
        "--answer-rule whole does not apply with --verdicts",
    ),
    "another task's rule": (
        ["--answer-rule", "full"],
        "does not grade humaneval: give one of last_",
    ),
    "another kind of file": (["--verdicts", "graded.txt"], "must end in .csv, .jsonl, .parquet"),
    "no such category": (
        ["--problems", "bfcl:nothing"],
        "the categories of bfcl are simple_python",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line(world: World, case: str) -> None:
    options, words = BAD[case]
    problems = () if "--problems" in options else ("--problems", world.code)
    assert words in world.run("evaluate", "bad", *problems, *options).complaint


def test_a_broken_reference_is_counted_and_left_out_only_by_flag(world: World) -> None:
    rows = [dict(row) for row in task_files.HUMANEVAL]
    rows[1]["canonical_solution"] = "    return a\n"
    problems = f"humaneval:{write_lines(world.folder / 'broken.jsonl', *rows)}"
    given = ("--problems", problems, "--max-tokens", "8")
    outcome = world.run("behaviour", "broken", *given)
    refused = outcome.err.splitlines()[-1].removeprefix("decaylab: ")
    assert outcome.code == 2 and refused.startswith(
        "1 of 3 reference solutions fail their own tests (Own/larger: failed"
    )
    assert refused.endswith("--leave-out-broken leaves such problems out")
    done = world.run("behaviour", "broken", *given, "--leave-out-broken")
    assert done.code == 0 and "1 of 3 reference solutions fail" in done.out.replace("\n", " ")
    assert (world.rows("broken").problems <= 2).all()


def test_a_template_without_functions_is_named_with_what_to_do(
    world: World, tmp_path: Path
) -> None:
    plain = save_folder(
        tmp_path / "plain", tokenizer=byte_tokenizer(), max_position_embeddings=4096
    )
    given = ("--problems", world.calls, "--max-tokens", "8", "--student", plain)
    refused = world.run("behaviour", "plain", *given).complaint
    assert refused.endswith(
        "its chat template leaves functions out; --tools text writes them into the question"
    )
    assert world.run("behaviour", "plain", *given, "--tools", "text").code == 0
