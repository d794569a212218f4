"""The programs of docs/callback.md run as they stand, on the embedded pair."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from command_line import decaylab

import decaylab as dl
from decaylab.policies import loading
from decaylab.problems.sets import load_problems

PAGE = Path(__file__).parents[2] / "docs" / "callback.md"
RUN = "<!-- not run: a test of its own runs it -->\n"


def program(first: str) -> str:
    """The only program of the page that is run and contains this."""
    blocks = re.findall(re.escape(RUN) + "```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if first in block]
    return found


@pytest.mark.parametrize(
    ("first", "folder"),
    [("DistillationTrainer", "runs/trl/decay"), ("optimizer.step()", "runs/loop")],
)
def test_a_program_of_the_page_leaves_a_run_that_the_commands_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(program(first), str(PAGE), "exec"), {"__name__": "page"})
    run = dl.open_run(folder)
    assert list(run.measurements["checkpoint"].unique()) == ["base", "step-1", "step-2"]
    assert list(pd.read_csv(f"{folder}/steps.csv")["rollouts"]) == [6, 6, 6]
    cascades = run.measurements.query("what == 'cascade_ratio'")
    assert set(cascades["position_low"]) == {20} and set(cascades["rollout_length"]) == {20}
    assert cascades["value"].between(0.1, 10).all() and len(cascades) == 4
    report = dl.report(folder, out="report.html").read_text()
    assert "abacus-student" in report and "step-2" in report


def test_the_texts_of_a_step_of_nemo_rl_become_rollouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows as NeMo-RL's `distillation.py` logs them: the messages' texts, the first of them behind
    the chat template."""
    monkeypatch.chdir(tmp_path)
    student = loading.load_tokenizer_only("abacus-student")
    asked = load_problems("abacus", limit=3).problems
    rows = [
        {
            "content": [student.decode(student.prompt_ids(problem, "")), f"It is {number}."],
            "input_lengths": 30,
            "idx": number,
        }
        for number, problem in enumerate(asked)
    ]
    Path("train_data_step50.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    exec(compile(program("train_data_step50"), str(PAGE), "exec"))
    pair = ("--student", "abacus-student", "--teacher", "abacus-teacher", "--problems", "abacus")
    read = json.loads(decaylab("rollouts", "mine.jsonl", *pair, "--json").out)
    assert (read["rollouts"], read["problems"], read["prompts"]) == (3, 3, {"rendered": 3})
