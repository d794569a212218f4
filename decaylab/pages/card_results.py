"""The results of a card that the hub reads: its model-index.

The hub shows them as results of the model whose card it is. So there are some only where exactly
one trained student was evaluated, on enough problems for a verdict, with an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from huggingface_hub import EvalResult

from decaylab import printing
from decaylab.claims.verdicts import pick, usable
from decaylab.problems.tasks import measure_name
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.model_cards import called
from decaylab.runs.vocabulary import FRESH
from decaylab.tables.card import trained


def model_index(runs: Sequence[FoundRun]) -> dict[str, Any]:
    """The arguments of `model_cards.front_matter` for the results of these runs; none where they
    are not of one trained student."""
    evaluated = [run for run in runs if run.command == "evaluate"]
    students = {label for run in evaluated for label in trained(run)}
    if len(students) != 1:
        return {}
    (student,) = students
    results = [_result(run, row) for run in evaluated for row in _accuracies(run, student)]
    return {"model_name": student.replace("/", "-"), "results": results} if results else {}


def _accuracies(run: FoundRun, student: str) -> list[Measurement]:
    """avg@k by the rule that the run reports, if it can carry a verdict."""
    what = f"avg_at_{run.options['samples']}"
    rows = pick(run.measurements, what, view=FRESH, checkpoint=student)
    known = (run.record.get("identity", {}).get("problems") or {}).get("name")
    return [row for row in rows[:1] if known and usable(row) and not math.isnan(row.value)]


def _result(run: FoundRun, row: Measurement) -> EvalResult:
    """In per cent with one decimal, as everywhere else in the card."""
    problems, options = run.record["identity"]["problems"], run.options
    shown = [float(printing.in_unit(end, row.unit)) for end in (row.value, row.low, row.high)]
    samples, temperature = options["samples"], options.get("temperature")
    measure = measure_name(row.answer_rule, samples)
    drawn = "" if temperature is None else f", T = {temperature:g}"
    return EvalResult(
        task_type="text-generation",
        dataset_type=called(problems["name"]),
        dataset_name=called(problems["name"]),
        dataset_args={"version": problems.get("version"), "problems": row.problems},
        metric_type="accuracy",
        metric_name=f"{measure} in per cent ({row.answer_rule}{drawn})",
        metric_value=shown[0],
        metric_args={"low": shown[1], "high": shown[2], "level": row.level, "samples": samples},
    )
