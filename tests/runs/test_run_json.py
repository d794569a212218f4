"""run.json: what is odd in it is one line that names the file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from decaylab.errors import UserError
from decaylab.runs import found_runs, run_json, train_results
from decaylab.runs.store import RunFolder

MEASURED = Path(__file__).parents[2] / "docs" / "measurements"
ODD = [
    "",
    "{",
    '{"identity": ',
    "[]",
    "3",
    "null",
    '"text"',
    "[" * 100_000,
    '{"identity": null}',
    '{"identity": []}',
    '{"identity": {"options": 3}}',
    '{"identity": {"options": {"samples": "many"}}}',
    '{"identity": {"diagnostic": "position-kl", "options": {"samples": null}}}',
    '{"identity": {"training": [1]}}',
    '{"identity": {"training": {"rollout_length": "far"}}}',
    '{"identity": {"student": "s", "teacher": "t"}}',
    '{"identity": {"student": {"name": 3}}}',
    '{"identity": {"problems": null}}',
    '{"notes": "one"}',
    '{"notes": [1]}',
    '{"made": {"date": 3}}',
    '{"pair": []}',
    '{"compared": [3]}',
]


def one_line(error: pytest.ExceptionInfo[UserError], file: Path) -> str:
    message = str(error.value)
    assert str(file) in message and "\n" not in message
    return message


@pytest.mark.parametrize("text", ODD)
def test_an_odd_record_is_one_line_for_every_reader(tmp_path: Path, text: str) -> None:
    file = tmp_path / "run.json"
    file.write_text(text)
    (tmp_path / "measurements.parquet").write_bytes(b"")
    readers = [
        lambda: RunFolder(tmp_path).record,
        lambda: found_runs.find([tmp_path]),
        lambda: found_runs.read(tmp_path),
        lambda: train_results.is_training(tmp_path),
    ]
    for read in readers:
        with pytest.raises(UserError) as error:
            read()
        message = one_line(error, file)
        assert "is damaged" in message and message.endswith(run_json.AGAIN)
        assert len(message) < 400 and "--out" not in message


@pytest.mark.parametrize("folder", sorted(MEASURED.glob("*/run.json")), ids=str)
def test_records_of_finished_runs_are_read_whole(folder: Path) -> None:
    assert run_json.read(folder) == json.loads(folder.read_text())


def test_a_missing_key_is_named_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    file.write_text('{"identity": {"options": {}, "list": [{}]}}')
    record = run_json.read(file)
    missing: list[tuple[Any, str]] = [
        (lambda: record["identity"]["options"]["samples"], "lacks identity.options.samples;"),
        (lambda: record["identity"]["list"][0]["name"], "lacks identity.list[0].name;"),
        (lambda: record["notes"], "lacks notes;"),
    ]
    for read, words in missing:
        with pytest.raises(UserError) as error:
            read()
        assert words in one_line(error, file)
    assert record.get("notes") is None and "notes" not in record
    assert dataclasses.asdict(Holder(record))["held"] == record, "options carry such objects"


@dataclasses.dataclass
class Holder:
    held: dict[str, Any]


def test_a_damaged_record_is_replaced_by_overwriting_and_refused_else(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "run.json").write_text('{"identity": null}')
    (tmp_path / "rollouts.parquet").write_bytes(b"old")
    new: dict[str, Any] = {"identity": {"options": {"seed": 3}}}
    with pytest.raises(UserError, match="is damaged"):
        folder.open(new)
    folder.open(new, overwrite=True)
    assert folder.record == new and not (tmp_path / "rollouts.parquet").exists()


def test_a_command_that_does_not_exist_is_named(tmp_path: Path) -> None:
    policy = {"name": "s", "content_hash": "1"}
    identity = {"diagnostic": "telepathy", "student": policy, "teacher": policy}
    (tmp_path / "run.json").write_text(json.dumps({"identity": identity}))
    (tmp_path / "measurements.parquet").write_bytes(b"")
    with pytest.raises(UserError, match="no command is called 'telepathy'"):
        found_runs.find([tmp_path])
