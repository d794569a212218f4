"""Where a diagnostic writes by default: another run never has the folder of the first."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from decaylab.commands import results_folders
from decaylab.options.diagnosing import DiagnosticOptions

PAIR = {"teacher": "abacus-teacher", "student": "abacus-student"}


def trained(folder: Path, steps: Sequence[int] = (1, 2), *, finished: bool = True) -> str:
    """The folder of a training run, with adapters that nothing loads."""
    for step in steps:
        place = folder / f"step-{step:06d}"
        place.mkdir(parents=True, exist_ok=True)
        adapter = {"base_model_name_or_path": "abacus-student"}
        (place / "adapter_config.json").write_text(json.dumps(adapter))
    options = {**PAIR, "max_tokens": 200, "temperature": 0.5}
    record = {"identity": {"training": {}, "options": options}, "finished": finished}
    (folder / "run.json").write_text(json.dumps(record))
    return str(folder)


def folder(command: str, *checkpoints: str, **options: Any) -> str:
    """The default folder, below that of the first run."""
    given = DiagnosticOptions(checkpoints=checkpoints, **options)
    chosen = results_folders.measured(given, results_folders.plan(command, given))
    path = results_folders.folder(command, chosen.options.resolved(), chosen)
    return str(path.relative_to(checkpoints[0].partition("/step-")[0]))


@pytest.fixture
def esr(tmp_path: Path) -> str:
    return trained(tmp_path / "esr")


@pytest.fixture
def full(tmp_path: Path) -> str:
    return trained(tmp_path / "full")


def test_in_a_run_the_name_follows_the_options_that_the_run_does_not_imply(esr: str) -> None:
    assert folder("evaluate", esr) == "evaluate"
    assert folder("evaluate", esr, limit=10, samples=2) == "evaluate-limit-10-samples-2"
    assert folder("evaluate", esr, limit=6, samples=2) == "evaluate-limit-6-samples-2"
    assert folder("evaluate", esr, max_tokens=200) == "evaluate", "as the run recorded it"
    assert folder("evaluate", esr, max_tokens=320) == "evaluate-max-tokens-320"
    assert folder("position-kl", esr, bins=(0, 9)) == "position-kl-bins-0-9"
    assert folder("served-kl", esr, engine="vllm", top_ids=8) == "served-kl-top-ids-8"
    assert folder("evaluate", esr, student="abacus-teacher") == "evaluate-student-abacus-teacher"
    assert folder("evaluate", esr, level=0.9, out=f"{esr}/mine") == "mine"


def test_in_a_run_the_name_follows_the_set_of_checkpoints(esr: str, full: str) -> None:
    assert folder("position-kl", esr) == "position-kl"
    assert folder("position-kl", esr, full) == "position-kl-esr-full"
    assert folder("position-kl", f"{esr}/step-000001") == "position-kl-step-000001"
    assert folder("position-kl", esr, checkpoint_rule="last") == "position-kl-step-000002"
    assert folder("evaluate", esr, checkpoint_rule="every") == "evaluate", "which is the default"
    assert folder("evaluate", esr, checkpoint_rule="last") == "evaluate-step-000002"
    assert (
        folder("position-kl", esr, full, limit=3, answer_rule="anywhere")
        == "position-kl-esr-full-limit-3"
    )


def test_a_training_that_goes_on_has_a_folder_for_each_step_it_was_measured_at(
    tmp_path: Path,
) -> None:
    run = tmp_path / "esr"
    names = []
    for steps, finished in (((1,), False), ((1, 2), False), ((1, 2, 3), True)):
        trained(run, steps, finished=finished)
        names.append((folder("position-kl", str(run)), folder("evaluate", str(run))))
    assert names == [
        ("position-kl-esr-at-step-000001", "evaluate-step-000001"),
        ("position-kl-esr-at-step-000002", "evaluate-step-000001-step-000002"),
        ("position-kl", "evaluate"),
    ]


def test_runs_in_none_of_their_folders_are_named_by_pair_checkpoints_and_options(
    esr: str, full: str
) -> None:
    given = DiagnosticOptions(checkpoints=(esr, full), limit=3)
    chosen = results_folders.measured(given, results_folders.plan("evaluate", given))
    options = replace(chosen.options, max_tokens=320, temperature=0.7).resolved()
    name = results_folders.folder("evaluate", options, chosen).name
    assert name.startswith("evaluate-abacus-teacher-abacus-student-esr-step-000001-esr-step-0000")
