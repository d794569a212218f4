"""Fixtures of rollout formats: the rows of their files, and their records by the one format that
recognises a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from decaylab.errors import UserError
from decaylab.problems.files import read_rows
from decaylab.rollout_files.formats import openai, sglang, trl, verl, vllm
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.record import Record

FOLDER = Path(__file__).parents[1] / "rollout_files" / "files"
FORMATS = (*trl.FORMATS, *verl.FORMATS, *vllm.FORMATS, *sglang.FORMATS, *openai.FORMATS)


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_rows(path, path.name)]


def format_of(row: Mapping[str, Any]) -> Format:
    (found,) = [one for one in FORMATS if one.recognises(row)]
    return found


def read(found: Sequence[Mapping[str, Any]], name: str) -> list[Record]:
    """The records of rows that are all of the format of this name, and of no other one."""
    assert {format_of(row).name for row in found} == {name}
    return [record for row in found for record in format_of(row).records(row, "here")]


def read_file(file: str, name: str) -> list[Record]:
    return read(rows(FOLDER / file), name)


def complaint(one: Format, row: Mapping[str, Any]) -> str:
    """What is said of a malformed row, in one line."""
    with pytest.raises(UserError) as error:
        list(one.records(row, "mine.jsonl:3"))
    message = str(error.value)
    assert message.startswith("mine.jsonl:3: ") and "\n" not in message
    return message.removeprefix("mine.jsonl:3: ")
