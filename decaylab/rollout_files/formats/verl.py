"""Rollouts and validation generations of verl's trainers, and outputs of its generation script.

Sources: volcengine/verl 0.9.1. ``verl/trainer/ppo/ray_trainer.py`` and ``v1/trainer_base.py``,
``_write_generations`` (0.6.1 and 0.4.1: ``_dump_generations``): input, output, gts (from 0.5),
score, step and the columns of reward extra information, JSONL under ``trainer.rollout_data_dir``
and ``trainer.validation_data_dir``. Inputs and outputs are decoded with
``skip_special_tokens=True`` (``_log_rollout_data``, ``_validate``). ``verl/utils/tracking.py``,
``ValidationGenerationsLogger``: MLflow's ``val_step10.json`` of input, output and score; the table
of Weights & Biases, one row per step with input_1, output_1, score_1, input_2 and so on.
``verl/trainer/main_generation_server.py``, ``main`` (0.4.1: ``main_generation.py``): the rows of
the data set with a column responses, a list of texts.

``uid`` (``v1/trainer_base.py``) is new for every batch and does not identify a problem, so it is
not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from decaylab.rollout_files.formats.fields import Fields, is_messages, is_number
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.rollout import (
    USER_COLUMNS,
    logged_rows,
    name_rollout,
    other_grades,
)
from decaylab.rollout_files.formats.shapes import both, either, has, logged_table
from decaylab.rollout_files.record import ABSENT, Record

MLFLOW = {"input", "output", "score"}
OWN_COLUMNS = USER_COLUMNS | {"input", "output", "gts", "step", "request_id", "uid"}


ROW = both(
    has(input=str, output=str, score=is_number),
    either(has(step=int), lambda row: row.keys() == MLFLOW),
)
WIDE = either(
    logged_table("step", "input_1", "output_1", "score_1"),
    has(step=int, input_1=str, output_1=str),
)
GENERATIONS = has(
    data_source=str,
    reward_model=dict,
    prompt=is_messages,
    responses=either([str], lambda value: value == []),
)


def _read(row: Fields) -> Iterator[Record]:
    record = _record(row, "")
    record.request_id = row.optional_text("request_id")
    record.grades |= other_grades(row, OWN_COLUMNS)
    yield name_rollout(record, row, row.get("gts", ABSENT), "gts")


def _record(row: Fields, suffix: str) -> Record:
    """The rollout in the columns input, output and score with this suffix."""
    name = f"score{suffix}"
    score = row.get(name)
    if score is not None and not isinstance(score, int | float):
        raise row.refused(name, "a number", score)
    return Record(
        prompt=row.text(f"input{suffix}"),
        response=row.text(f"output{suffix}"),
        prompt_stripped=True,
        grades={"score": score} if is_number(score) else {},
    )


def _read_wide(row: Fields) -> Iterator[Record]:
    """The validation generations of one step, or of all of them."""
    if "columns" in row:
        for inner in logged_rows(row):
            yield from _read_wide(inner)
        return
    number = 1
    while row.get(f"input_{number}") is not None:
        yield _record(row, f"_{number}")
        number += 1


def _read_generations(row: Fields) -> Iterator[Record]:
    """The rollouts of a problem, numbered in order."""
    responses = row.items("responses", "a list of texts")
    prompt = row.prompt("prompt")
    rewarded = row.get("reward_model")
    gold = rewarded.get("ground_truth", ABSENT) if isinstance(rewarded, dict) else ABSENT
    for sample in responses.values:
        record = Record(response=responses.text(sample), prompt=prompt, sample=sample)
        yield name_rollout(record, row, gold, "reward_model.ground_truth")


FORMATS = (
    Format("verl", "verl rollouts and validation generations", ROW, _read),
    Format("verl-table", "verl validation generations, logged table", WIDE, _read_wide),
    Format(
        "verl-generations", "verl generations beside a data set", GENERATIONS, _read_generations
    ),
)
