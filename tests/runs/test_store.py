"""Run folders: whole files or none, one schema, one configuration, one process at a time."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from command_line import held

from decaylab import disk
from decaylab.errors import UserError
from decaylab.runs import store

TABLE = pa.table({"rollout_id": ["a", "b"], "response_ids": pa.array([[1, 2], []], store.IDS)})
RECORD = {
    "command": "decaylab prefix-decay",
    "identity": {
        "options": {"prefix_lengths": (0, 2), "seed": 0},
        "teacher": {"name": "t", "content_hash": "1"},
    },
}


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


# Writing


def fail_with(code: int) -> Any:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_the_old_file_and_says_so_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "run.json"
    disk.write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", fail_with(code))
    with pytest.raises(UserError) as error:
        disk.write_atomically(path, b"new and longer")
    assert one_line(error).startswith(f"no space left while writing {path}")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.json"]


def test_a_full_disk_while_a_part_is_written_leaves_no_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.RunFolder(tmp_path)
    folder.parts("student rollouts").write(0, TABLE)
    monkeypatch.setattr(os, "fsync", fail_with(errno.ENOSPC))
    with pytest.raises(UserError, match="no space left"):
        folder.parts("student rollouts").write(1, TABLE)
    assert not folder.parts("student rollouts").path(1).exists()
    assert folder.parts("student rollouts").read(0) is not None


def test_another_failure_names_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", fail_with(errno.EROFS))
    with pytest.raises(UserError) as error:
        disk.write_atomically(tmp_path / "x", b"")
    assert one_line(error) == f"cannot write {tmp_path / 'x'}: {os.strerror(errno.EROFS)}"


def test_a_file_where_the_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError) as error:
        disk.write_atomically(tmp_path / "file" / "run.json", b"")
    assert one_line(error).startswith("cannot write")
    with pytest.raises(UserError, match="cannot write"), store.RunFolder(tmp_path / "file").lock():
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_an_interrupted_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.parquet"
    store.write_table(TABLE, path, "s/1")

    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.write_table(TABLE.slice(1), path, "s/1")
    assert store.read_table(path, "s/1").to_pylist() == TABLE.to_pylist()
    store.write_table(TABLE.slice(1), path, "s/1")
    assert store.read_table(path, "s/1").num_rows == 1


# Reading


def test_tables_come_back_as_they_were_written(tmp_path: Path) -> None:
    store.write_table(TABLE, tmp_path / "t.parquet", "s/1")
    found = store.read_table(tmp_path / "t.parquet", "s/1")
    assert found.to_pylist() == TABLE.to_pylist()
    assert found.schema.remove_metadata().equals(TABLE.schema, check_metadata=True), (
        "names within lists included"
    )


def test_a_table_that_was_read_writes_the_same_bytes_as_one_that_was_not(tmp_path: Path) -> None:
    schema = store.rollout_schema(("last_boxed",))
    row = dict.fromkeys(schema.names) | {
        "rollout_id": "a",
        "response_ids": [1, 2],
        "prefix_ids": [],
    }
    tables = [
        pa.Table.from_pylist([{**row, "sample": index}] * 3, schema=schema) for index in range(4)
    ]
    whole, resumed = store.RunFolder(tmp_path / "whole"), store.RunFolder(tmp_path / "resumed")
    whole.merge(tables)
    for number, table in enumerate(tables[:2]):
        resumed.parts("student rollouts").write(number, table)
    again = [resumed.parts("student rollouts").read(number) for number in range(2)]
    resumed.merge(again + tables[2:])
    first, second = ((folder.path / "rollouts.parquet").read_bytes() for folder in (whole, resumed))
    assert first == second
    assert list((resumed.path / "parts").iterdir()) == []


@pytest.mark.parametrize("kept", [0, 3, 200, -1])
def test_a_truncated_table_is_named_in_one_line(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "rollouts.parquet"
    store.write_table(TABLE, path, store.ROLLOUTS)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError) as error:
        store.RunFolder(tmp_path).read_rollouts()
    assert one_line(error).startswith(f"{path} is truncated or damaged")


def test_a_table_damaged_at_its_first_page_is_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    store.write_table(pa.table({"x": list(range(5000))}), path, "s/1")
    content = bytearray(path.read_bytes())
    content[4:64] = bytes(60)
    path.write_bytes(bytes(content))
    with pytest.raises(UserError) as error:
        store.read_table(path, "s/1")
    assert str(path) in one_line(error)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="t.parquet: no such file"):
        store.read_table(tmp_path / "t.parquet", "s/1")


def test_another_schema_is_refused_with_both_names(tmp_path: Path) -> None:
    store.write_table(TABLE, tmp_path / "t.parquet", "decaylab.rollouts/2")
    with pytest.raises(
        UserError, match="has schema decaylab.rollouts/2, expected decaylab.rollouts/1"
    ):
        store.read_table(tmp_path / "t.parquet", store.ROLLOUTS)
    pa.parquet.write_table(TABLE, tmp_path / "foreign.parquet")
    with pytest.raises(UserError, match="has schema none"):
        store.read_table(tmp_path / "foreign.parquet", store.ROLLOUTS)


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    path = tmp_path / "lr=1e-4" / "t.parquet"
    store.write_table(TABLE, path, "s/1")
    assert store.read_table(path, "s/1").column_names == TABLE.column_names


def test_parts_of_different_stages_do_not_collide(tmp_path: Path) -> None:
    folder = store.RunFolder(tmp_path)
    stages = (
        "student rollouts",
        "teacher rollouts",
        "student-prefix",
        "own-prefix",
        "swapped",
        "reverse",
    )
    assert len({folder.parts(stage).path(number) for stage in stages for number in (0, 1)}) == 12


# One run a folder


def changed(**options: Any) -> dict[str, Any]:
    return {
        **RECORD,
        "identity": {**RECORD["identity"], "options": {**RECORD["identity"]["options"], **options}},
    }


def test_a_new_folder_gets_its_record_and_the_same_run_is_resumed(tmp_path: Path) -> None:
    folder = store.RunFolder(tmp_path / "runs" / "mine")
    assert folder.record is None
    folder.open(RECORD)
    again = folder.open({**RECORD, "command": "decaylab prefix-decay --quiet"})
    assert again["command"] == RECORD["command"], "the record that stands there holds"
    assert folder.record == json.loads(json.dumps(RECORD)), (
        "a tuple and the list it becomes are one"
    )


def test_another_configuration_is_refused_and_what_differs_is_named(tmp_path: Path) -> None:
    folder = store.RunFolder(tmp_path)
    folder.open(RECORD)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError) as error:
        folder.open(changed(seed=3, samples=8))
    message = one_line(error)
    assert "--seed 0 there, 3 now" in message and "--samples not set there, 8 now" in message
    assert "prefix_lengths" not in message and "content_hash" not in message
    assert (tmp_path / "run.json").read_bytes() == before


def test_another_model_behind_the_same_name_is_refused(tmp_path: Path) -> None:
    folder = store.RunFolder(tmp_path)
    folder.open(RECORD)
    other = {
        **RECORD,
        "identity": {**RECORD["identity"], "teacher": {"name": "t", "content_hash": "2"}},
    }
    with pytest.raises(UserError, match="different settings .another teacher"):
        folder.open(other)


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="is not empty and holds no run.json"):
        store.RunFolder(tmp_path).open(RECORD)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_that_was_killed_while_it_wrote_its_first_file_starts_again(tmp_path: Path) -> None:
    (tmp_path / ".run.json.tmp").write_text('{"comm')
    folder = store.RunFolder(tmp_path)
    with folder.lock():
        folder.open(RECORD)
    assert folder.record is not None


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"identity": ')
    with pytest.raises(UserError) as error:
        store.RunFolder(tmp_path).open(RECORD)
    assert one_line(error).startswith(f"{tmp_path / 'run.json'} is damaged")


def test_a_run_of_another_command_is_called_what_it_is(tmp_path: Path) -> None:
    folder = store.RunFolder(tmp_path)
    folder.open({"identity": {"training": {"steps": 3}, "options": {}}})
    with pytest.raises(UserError) as error:
        folder.open({"identity": {"options": {"prefix_lengths": (0, 5), "columns": {}}}})
    assert one_line(error) == (
        f"{tmp_path} contains a training run, and this is a prefix-decay run; choose another --out"
    )


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    folder = store.RunFolder(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "run.json").write_text(json.dumps(RECORD))
    folder.parts("reverse").write(0, TABLE)
    store.write_table(TABLE, tmp_path / "rollouts.parquet", store.ROLLOUTS)
    (tmp_path / "submode.png").write_bytes(b"drawn")
    other = changed(seed=3)
    assert folder.open(other, overwrite=True) == other
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["notes.txt", "run.json"] and folder.record == json.loads(json.dumps(other))


# One process a folder


def test_a_second_process_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    folder = store.RunFolder(tmp_path)
    with held(tmp_path):
        with pytest.raises(UserError) as error, folder.lock():
            pass
        assert one_line(error) == f"{tmp_path} is in use by another process"
    with folder.lock():
        pass


def test_a_second_process_that_waits_gets_in_once_the_first_is_gone_and_says_so_once(
    tmp_path: Path,
) -> None:
    told: list[str] = []
    with held(tmp_path) as other:

        def wait(message: str) -> None:
            told.append(message)
            threading.Timer(0.3, other.kill).start()

        with store.RunFolder(tmp_path).lock(wait=wait):
            assert other.wait(timeout=30) != 0
    assert told == [f"{tmp_path} is in use by another process: waiting for it"]


def test_nobody_waits_for_a_folder_that_is_free(tmp_path: Path) -> None:
    with store.RunFolder(tmp_path).lock(wait=lambda message: pytest.fail(message)):
        pass


TRY = "import fcntl, sys; fcntl.flock(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"


def test_the_lock_holds_while_it_is_held_and_not_after(tmp_path: Path) -> None:
    command = [sys.executable, "-S", "-c", TRY, str(tmp_path / ".lock")]
    with store.RunFolder(tmp_path).lock():
        refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 1 and "BlockingIOError" in refused.stderr
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    with pytest.raises(RuntimeError), store.RunFolder(tmp_path).lock():
        raise RuntimeError
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
