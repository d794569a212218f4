"""verl: rollouts and validation generations that its trainers dump, and what its generation script
writes.

Sources: volcengine/verl 0.9.1. ``verl/trainer/ppo/ray_trainer.py`` and ``v1/trainer_base.py``,
``_write_generations`` (0.6.1 and 0.4.1: ``_dump_generations``): input, output, gts (from 0.5),
score, step and the columns of reward extra information, JSONL under ``trainer.rollout_data_dir``
and ``trainer.validation_data_dir``. Inputs and outputs are decoded with
``skip_special_tokens=True`` (``_log_rollout_data``, ``_validate``). ``verl/utils/tracking.py``,
``ValidationGenerationsLogger``: MLflow's ``val_step10.json`` of input, output and score; the table
of Weights & Biases, one row a step with input_1, output_1, score_1, input_2 and so on.
``verl/trainer/main_generation_server.py``, ``main`` (0.4.1:
``main_generation.py``): the rows of the data set with a column responses, a list of texts.

``uid`` (``v1/trainer_base.py``) is drawn anew for every batch and names no problem; it is not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.row_values import (
    USER_COLUMNS,
    asked,
    is_logged_table,
    is_messages,
    is_number,
    logged_rows,
    malformed,
    name_rollout,
    optional_text,
    text,
)
from decaylab.rollout_files.record import ABSENT, Record

MLFLOW = {"input", "output", "score"}
WIDE = ("step", "input_1", "output_1", "score_1")
OWN_COLUMNS = USER_COLUMNS | {"input", "output", "gts", "step", "request_id", "uid"}


def recognises(row: Row) -> bool:
    """A dumped row, or one of the three columns that MLflow gets."""
    if not (
        isinstance(row.get("input"), str)
        and isinstance(row.get("output"), str)
        and is_number(row.get("score"))
    ):
        return False
    return type(row.get("step")) is int or row.keys() == MLFLOW


def records(row: Row, place: str) -> Iterator[Record]:
    """The rollout of a dumped row."""
    record = _record(row, "", place)
    record.request_id = optional_text(row.get("request_id"), "request_id", place)
    for name, value in row.items():
        if name not in OWN_COLUMNS and is_number(value):
            record.grades[name] = value
    yield name_rollout(record, row, place, row.get("gts", ABSENT), "gts")


def _record(row: Row, suffix: str, place: str) -> Record:
    """The rollout under input, output and score with this suffix."""
    score = row.get(f"score{suffix}")
    if score is not None and not isinstance(score, int | float):
        raise malformed(place, f"score{suffix}", "a number", score)
    return Record(
        prompt=text(row.get(f"input{suffix}"), f"input{suffix}", place),
        response=text(row.get(f"output{suffix}"), f"output{suffix}", place),
        prompt_stripped=True,
        response_stripped=True,
        grades={"score": score} if is_number(score) else {},
    )


def recognises_wide(row: Row) -> bool:
    """A row of Weights & Biases' table, or the whole table."""
    if is_logged_table(row, WIDE):
        return True
    return (
        type(row.get("step")) is int
        and isinstance(row.get("input_1"), str)
        and isinstance(row.get("output_1"), str)
    )


def wide_records(row: Row, place: str) -> Iterator[Record]:
    """The validation generations of one step, or of all of them."""
    if "columns" in row:
        for where, one in logged_rows(row, place):
            yield from wide_records(one, where)
        return
    number = 1
    while row.get(f"input_{number}") is not None:
        yield _record(row, f"_{number}", place)
        number += 1


def recognises_generations(row: Row) -> bool:
    """A row of a data set in verl's shape with responses beside."""
    responses = row.get("responses")
    return (
        isinstance(row.get("data_source"), str)
        and isinstance(row.get("reward_model"), dict)
        and is_messages(row.get("prompt"))
        and isinstance(responses, list)
        and all(isinstance(one, str) for one in responses)
    )


def generation_records(row: Row, place: str) -> Iterator[Record]:
    """The rollouts of a problem, numbered as they stand."""
    responses: Any = row.get("responses")
    if not isinstance(responses, list):
        raise malformed(place, "responses", "a list of texts", responses)
    prompt = asked(row.get("prompt"), "prompt", place)
    rewarded = row.get("reward_model")
    gold = rewarded.get("ground_truth", ABSENT) if isinstance(rewarded, dict) else ABSENT
    for sample, response in enumerate(responses):
        record = Record(
            response=text(response, "responses", place),
            prompt=prompt,
            sample=sample,
            response_stripped=True,
        )
        yield name_rollout(record, row, place, gold, "reward_model.ground_truth")


FORMATS = (
    Format("verl", "verl rollouts and validation generations", recognises, records),
    Format(
        "verl-table", "verl validation generations, logged table", recognises_wide, wide_records
    ),
    Format(
        "verl-generations",
        "verl generations beside a data set",
        recognises_generations,
        generation_records,
    ),
)
