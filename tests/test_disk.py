"""Locks of folders, and modules that import where Unix has nothing to offer.

Whole files or none are tested with the run folders, in runs/test_store.py.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import held

from decaylab import disk
from decaylab.errors import UserError


def test_a_lock_left_by_a_killed_process_is_free(tmp_path: Path) -> None:
    with held(tmp_path) as other:
        other.kill()
        other.wait(timeout=30)
    assert (tmp_path / ".lock").exists()
    with disk.lock(tmp_path, wait=lambda message: pytest.fail(message)):
        pass


def test_a_lock_makes_the_folder_and_keeps_others_out_of_it_alone(tmp_path: Path) -> None:
    with disk.lock(tmp_path / "new" / "run"):
        with disk.lock(tmp_path / "new" / "other"):
            pass
        with pytest.raises(UserError) as error, disk.lock(tmp_path / "new" / "run"):
            pass
    assert str(error.value) == f"{tmp_path / 'new' / 'run'} is in use by another process"


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """Below a file nobody can write, root included."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="cannot write") as error, disk.lock(file / "run"):
        pass
    assert "\n" not in str(error.value)


def test_run_folders_import_without_what_only_unix_has() -> None:
    code = (
        "import sys\n"
        "for name in ('fcntl', 'resource'):\n    sys.modules[name] = None\n"
        "import decaylab.disk, decaylab.runs.store, decaylab.commands.children\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_file_system_without_locks_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(self: object, timeout: float = -1) -> None:
        raise NotImplementedError("flock")

    monkeypatch.setattr(disk.FileLock, "acquire", without)
    with pytest.raises(UserError) as error, disk.lock(tmp_path):
        pass
    assert str(error.value) == f"cannot lock {tmp_path}: its file system has no locks"
