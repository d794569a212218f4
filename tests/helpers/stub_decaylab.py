"""Stands in for ``python -m decaylab`` where a sweep is tested: train and evaluate leave the files
of a run behind, at once.

A run is right with a chance that its arm and seed decide; its first checkpoint is the best one on
validation. What was called stands in calls.txt beside the runs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

STEPS = (1, 2)


def option(words: list[str], name: str, default: str = "") -> str:
    return words[words.index(name) + 1] if name in words else default


def train(words: list[str]) -> None:
    run = Path(option(words, "--out"))
    if os.environ.get("STUB_STALL") == run.name:
        (run.parent / "stalled").touch()
        time.sleep(300)
    if os.environ.get("STUB_FAIL") == run.name:
        print("something on the way", file=sys.stderr)
        sys.exit("decaylab: the loss is not finite")
    from synthetic_runs import metrics, validation

    for step in STEPS:
        (run / f"step-00000{step}").mkdir(parents=True)
        (run / f"step-00000{step}" / "adapter_config.json").write_text("{}")
    metrics(30).to_csv(run / "metrics.csv", index=False)
    validation({0: 0.5, 1: 0.6, 2: 0.55}).to_csv(run / "validation.csv", index=False)
    pair = {
        role: {"name": f"abacus-{role}", "content_hash": role} for role in ("student", "teacher")
    }
    (run / "run.json").write_text(json.dumps({"finished": True, "words": words, "identity": pair}))


def evaluate(words: list[str]) -> None:
    import numpy as np
    import pandas as pd

    from decaylab.problems.answers import ANSWER_RULES
    from decaylab.runs import measurements, outcomes

    run = Path(words[0])
    folder, problems = run / "evaluate", int(option(words, "--limit", "40"))
    if (folder / "run.json").exists() and "--overwrite" not in words:
        sys.exit("decaylab: holds a run of another configuration")
    folder.mkdir(parents=True, exist_ok=True)
    rules = {"last": (2,), "best": (1,), "last,best": (1, 2), "every": STEPS}
    steps = rules[option(words, "--checkpoint-rule")]
    chances = {"base": (0.0, 0.3), "teacher": (np.nan, 0.9)}
    chances |= {f"step-00000{step}": (float(step), chance_of(run.name, step)) for step in steps}
    frames = []
    for name, (step, chance) in chances.items():
        # The same draws: a higher chance is right wherever a lower one is.
        right = np.random.default_rng(0).random(problems) < chance
        rows = pd.DataFrame(
            {"problem_id": [f"p{i:03}" for i in range(problems)], "sample": 0, "stop_reason": "eos"}
        )
        rows = rows.assign(checkpoint=name, step=step, response_tokens=10)
        for field in outcomes.schema(ANSWER_RULES).names:
            if field.startswith("grade_"):
                rows[field] = np.where(right, "correct", "wrong")
            elif field.startswith("vote_"):
                rows[field] = np.where(right, 0, 1)
        frames.append(rows)
    outcomes.write(pd.concat(frames, ignore_index=True), folder / "outcomes.parquet")
    asked = {"samples": int(option(words, "--samples")), "limit": problems}
    (folder / "run.json").write_text(json.dumps({"identity": {"options": asked}}))
    rule = option(words, "--answer-rule", os.environ.get("STUB_RULE", "last_boxed"))
    row = measurements.Measurement("avg_at_1", rule, 0.5, "fraction", answer_rule=rule)
    measurements.write(measurements.to_frame([row]), folder / "measurements.parquet")


def chance_of(name: str, step: int = 2) -> float:
    arm, _, seed = name.rpartition("-seed-")
    return (
        {"prefix-5": 0.4, "prefix-20": 0.6, "full": 0.7}.get(arm, 0.5)
        + 0.05 * int(seed)
        + 0.1 * (2 - step)
    )


if __name__ == "__main__":
    command, *given = sys.argv[1:]
    place = Path(option(given, "--out") if command == "train" else given[0])
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / "calls.txt").open("a") as handle:
        handle.write(f"{command} {place.name}\n")
    {"train": train, "evaluate": evaluate}[command](given)
