"""The programs of docs/callback.md run as they stand, on the embedded pair."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
import torch

import decaylab as dl

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
