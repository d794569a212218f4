"""Plans, preflights and rollout files in Python: the numbers of the command line, as DataFrames."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import decaylab, write_lines

import decaylab as dl
from decaylab.api.findings import PreflightResult
from decaylab.planner.preflight import Check, PreflightReport


def test_a_plan_has_the_numbers_that_the_command_prints() -> None:
    options: dict[str, Any] = {"memory": "0.2GB", "only": ["prefix-decay"], "quiet": True}
    plan = dl.plan(**options, tokens_per_second=[100.0])
    words = ("--memory", "0.2GB", "--only", "prefix-decay", "--tokens-per-second", "100")
    record = json.loads(decaylab("plan", *words, "--json").out)
    assert plan.fits is record["fits"] is False and plan.available_gib == pytest.approx(0.2)
    assert list(plan.phases["phase"]) == [phase["phase"] for phase in record["phases"]]
    bytes_of_phases = [phase["bytes"] for phase in record["phases"]]
    assert list(plan.phases["gib"] * 1024**3) == bytes_of_phases
    seconds = [np.nan if one["seconds"] is None else one["seconds"] for one in record["phases"]]
    np.testing.assert_array_equal(plan.phases["seconds"], seconds)
    assert list(plan.remedies["option"]) == [one["flag"] for one in record["remedies"]]
    assert repr(plan).startswith("<PlanResult: does not fit, at most ")
    assert "\n" not in repr(plan) and "<table" in plan._repr_html_()


def test_a_plan_without_rates_has_no_time() -> None:
    plan = dl.plan(memory="64GB", only="train", quiet=True)
    assert plan.fits and plan.phases["seconds"].isna().all() and plan.remedies.empty
    assert "remedies" not in plan._repr_html_()


def test_a_preflight_has_its_checks_and_its_verdict() -> None:
    checks = (Check("memory", "warning", "small"), Check("context", "ok", "fine"))
    found = PreflightResult.of(PreflightReport(checks))
    assert found.measurable and found.verdict == PreflightReport(checks).verdict
    expected = pd.DataFrame(
        [["memory", "warning", "small"], ["context", "ok", "fine"]],
        columns=["name", "verdict", "finding"],
    )
    pd.testing.assert_frame_equal(found.checks, expected)
    assert repr(found) == "<PreflightResult: This pair can be measured; see the warning.>"


def test_a_preflight_is_that_of_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    from decaylab.planner import preflight

    asked: list[Any] = []

    def report(options: Any) -> Any:
        asked.append(options)
        return SimpleNamespace(measurable=False, verdict="no", checks=())

    monkeypatch.setattr(preflight, "preflight", report)
    assert dl.preflight(teacher="abacus-teacher", limit=3, quiet=True).measurable is False
    assert (asked[0].teacher, asked[0].limit) == ("abacus-teacher", 3)


def test_rollout_files_are_read_as_the_command_reads_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": "What is 1 + 1?", "completion": text, "finish_reason": reason, "answer": "2"}
        for text, reason in (("It is 2.", "stop"), ("It is", "length"))
    ]
    file = write_lines(tmp_path / "mine.jsonl", *rows)
    read = dl.read_rollouts(file, prompt_kind="question", quiet=True)
    assert capfd.readouterr() == ("", "")
    shown = json.loads(decaylab("rollouts", file, "--prompt-kind", "question", "--json").out)
    assert {**read.summary, "example": read.prompts, "notes": list(read.notes)} == shown
    assert list(read.rollouts["response"]) == ["It is 2.", "It is"]
    assert list(read.rollouts["stop"]) == ["natural", "cut"]
    assert list(read.rollouts["sample"]) == [0, 1] and read.rollouts["problem_id"].nunique() == 1
    assert repr(read) == "<RolloutFiles: 2 rollouts, 1 problem>"
