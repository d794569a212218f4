"""Folders of training runs with checkpoints, made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from decaylab.pair.checkpoint_rules import Plan


def training_run(
    path: Path, *steps: int, validation: dict[int, Any] | None = None, **training: Any
) -> str:
    """A run's folder: checkpoints of no content, run.json, and a validation.csv where accuracies
    are given."""
    for step in steps:
        (path / f"step-{step:06}").mkdir(parents=True)
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(json.dumps({"identity": {"options": {}, "training": training}}))
    if validation is not None:
        rows = [f"{step},100,{accuracy},0.1" for step, accuracy in validation.items()]
        (path / "validation.csv").write_text(
            "\n".join(["step,problems,accuracy,reverse_kl", *rows]) + "\n"
        )
    return str(path)


def steps(found: Plan) -> list[float]:
    return [one.step for one in found.checkpoints]
