"""Prefix-decay runs made by hand: rollouts of policies that are correct by chance, and run folders
that hold them. No model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from decaylab.analyses import compare, prefix_decay
from decaylab.commands.compare import compare as run_comparison
from decaylab.options.comparing import CompareOptions
from decaylab.problems.answers import ANSWER_RULES
from decaylab.runs import graded, measurements, store

LENGTHS = (0, 20, 40)
RULE = "last_boxed"


def rollouts(
    kept: Mapping[int, float],
    *,
    alone: float = 0.9,
    student: float = 0.35,
    problems: int = 80,
    samples: int = 2,
    seed: int = 0,
    student_seed: int = 100,
) -> pd.DataFrame:
    """Rows of the rollouts table.

    kept: chance of a correct answer after a prefix, by its length. seed: of the teacher;
    student_seed: of the student, whose rollouts have 15 to 70 tokens and an end.
    """
    of_student, of_teacher = np.random.default_rng(student_seed), np.random.default_rng(seed)
    rows = []
    for problem in range(problems):
        for sample in range(samples):
            size = int(of_student.integers(16, 72))
            ids = [*of_student.integers(2, 60, size - 1).tolist(), 1]
            place = {"problem_id": f"p/{problem:02}", "sample": sample}
            rollout_id = f"student/p/{problem:02}/{sample}"
            right = of_student.random() < student
            rows.append(_row("student", rollout_id, ids, right, **place))
            answer = of_teacher.integers(2, 60, int(of_teacher.integers(40, 80))).tolist()
            right = of_teacher.random() < alone
            rows.append(
                _row("teacher", rollout_id.replace("student", "teacher"), answer, right, **place)
            )
            for length, chance in kept.items():
                right = of_teacher.random() < chance
                if size - 1 < length:
                    continue
                more = of_teacher.integers(2, 60, int(of_teacher.integers(5, 30))).tolist()
                prefix = {"prefix_tokens": length, "prefix_rollout_id": rollout_id}
                name = f"student-prefix/{length}/p/{problem:02}/{sample}"
                rows.append(_row("student-prefix", name, more, right, **place, **prefix))
    return pd.DataFrame(rows)


def _row(condition: str, name: str, ids: list[int], right: bool, **more: Any) -> dict[str, Any]:
    grades = {f"grade_{rule}": "correct" if right else "wrong" for rule in ANSWER_RULES}
    return {
        "rollout_id": name,
        "condition": condition,
        "author": "student" if condition == "student" else "teacher",
        "prompt_ids": [5, 6, 7],
        "response_ids": ids,
        "stop_reason": "eos",
        "tokens": len(ids) - 1,
        "prefix_tokens": 0,
        "prefix_rollout_id": "",
        "prefix_correct_so_far": None,
        **grades,
        **more,
    }


def folder(
    path: Path,
    rows: pd.DataFrame,
    *,
    teacher: str = "large",
    student: str = "small",
    answer_rule: str = RULE,
    questions: str = "What is {}?",
    grader: str = "one",
    record: Mapping[str, Any] | None = None,
    **options: Any,
) -> Path:
    """A finished prefix-decay run of these rollouts. options: of its identity, where others are
    wanted; record: entries of run.json."""
    chosen = {
        **{"samples": 2, "temperature": 0.7, "top_p": 1.0, "top_k": 0, "max_tokens": 320},
        **{"prefix_lengths": list(LENGTHS), "student": student, "teacher": teacher, "seed": 0},
        **options,
    }
    identity = {
        "options": chosen,
        "student": policy(student),
        "teacher": policy(teacher),
        "problems": {"name": "made", "version": "1", "asked": rows["problem_id"].nunique()},
    }
    path.mkdir(parents=True)
    text = {
        "command": f"decaylab prefix-decay --teacher {teacher}",
        "identity": identity,
        "answer_rule": answer_rule,
        "notes": [],
        **(record or {}),
    }
    (path / "run.json").write_text(json.dumps(text))
    made = store.RunFolder(path)
    problems = sorted(set(rows["problem_id"]))
    made.write_problems(
        [
            {"problem_id": name, "question": questions.format(name), "answer": "7", "steps": None}
            for name in problems
        ]
    )
    schema = store.rollout_schema(ANSWER_RULES)
    marked = {graded.RECORD: json.dumps({"grader": grader}).encode()}
    table = pa.Table.from_pylist(rows.to_dict("records"), schema=schema)
    store.write_table(
        table.replace_schema_metadata(marked), path / "rollouts.parquet", store.ROLLOUTS
    )
    settings = prefix_decay.Settings(tuple(chosen["prefix_lengths"]), answer_rule, False)
    measurements.write(prefix_decay.measure(rows, settings), path / "measurements.parquet")
    return path


def policy(name: str) -> dict[str, Any]:
    """A policy as run.json describes it."""
    return {
        "name": name,
        "source": "folder",
        "revision": "",
        "content_hash": f"hash of {name}",
        "base": None,
    }


def compared() -> pd.DataFrame:
    """The comparison of two teachers with a KL each."""
    sides = []
    for seed, (name, chance) in enumerate({"large": 0.8, "org/medium": 0.6}.items()):
        table = rollouts({20: chance, 40: chance - 0.15}, seed=seed + 1)
        problems = sorted(set(table["problem_id"]))
        sums = np.random.default_rng(seed).gamma(2, 3, len(problems))
        kl = pd.DataFrame({"sum": sums, "count": 60.0}, index=problems)
        sides.append(compare.Side(name, table, kl, 0.25 + seed))
    frame: pd.DataFrame = compare.measure(sides, compare.Settings(LENGTHS, RULE, "teachers", True))
    return frame


def comparison(path: Path) -> Path:
    """The run folder of a comparison of two teachers; its runs stand below the same path."""
    for seed, (name, chance) in enumerate({"large": 0.8, "medium": 0.6}.items()):
        rows = rollouts({20: chance, 40: chance - 0.15}, seed=seed + 1)
        folder(path / name, rows, teacher=name)
    chosen = CompareOptions(
        run_folders=(str(path / "large"), str(path / "medium")), out=str(path / "both")
    )
    return run_comparison(chosen).folder
