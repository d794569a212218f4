"""No hostile program passes, none leaves a trace, and the grader goes on; whoever runs it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from code_problems import needs_sandbox, sums
from hostile_programs import (
    NOBODY,
    PATIENCE_SECONDS,
    ROOT,
    SECRET,
    SHORT_SECONDS,
    VARIABLE,
    alive,
    left_alive,
    outcomes,
    table,
    words_as_nobody,
)

from decaylab.code.grading import judge
from decaylab.code.sandbox import INSIDE

pytestmark = needs_sandbox


@dataclass(frozen=True)
class Bait:
    """A folder with the secret, which anybody may write to, and a server that gives it away."""

    folder: Path
    port: int


@pytest.fixture
def bait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bait]:
    monkeypatch.setenv(VARIABLE, SECRET)
    folder = tmp_path / "bait"
    folder.mkdir()
    (folder / "secret").write_text(SECRET)
    folder.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_give_away, args=(server,), daemon=True).start()
        yield Bait(folder, server.getsockname()[1])


def _give_away(server: socket.socket) -> None:
    while True:
        try:
            connection = server.accept()[0]
        except OSError:  # closed
            return
        with connection:
            connection.sendall(SECRET.encode())


def assert_harmless(found: dict[str, tuple[str, str]], bait: Bait) -> None:
    """The verdicts of the table; nothing written, nothing alive; an honest program passes."""
    unexpected = {
        one.name: found[one.name] for one in table() if found[one.name][0] not in one.verdicts
    }
    assert not unexpected
    assert [path.name for path in bait.folder.iterdir()] == ["secret"]
    for folder in (ROOT, Path(sysconfig.get_path("stdlib"))):
        assert not list(folder.glob("left_by_a_program*"))
    assert not left_alive(PATIENCE_SECONDS, SHORT_SECONDS)
    assert judge([("whole", sums().reference, sums().text())])[0].verdict == "passed"


def test_the_table_has_at_least_40_programs_and_none_is_expected_to_pass() -> None:
    programs = table()
    assert len({one.name for one in programs}) == len(programs) >= 40
    assert not [one.name for one in programs if "passed" in one.verdicts or not one.verdicts]


def judged_by_nobody(bait: Bait) -> dict[str, tuple[str, str]]:
    """The outcomes where the caller is an ordinary user."""
    done = subprocess.run(
        words_as_nobody(bait.folder, bait.port),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert reported["user"] == NOBODY
    return reported["outcomes"]


@pytest.mark.parametrize("caller", ["this user", "nobody"] if os.geteuid() == 0 else ["this user"])
def test_no_hostile_program_passes_or_leaves_a_trace(bait: Bait, caller: str) -> None:
    """Root judges the table twice, the second time as nobody."""
    found = judged_by_nobody(bait) if caller == "nobody" else outcomes(bait.folder, bait.port)
    assert_harmless(found, bait)


def test_the_secret_can_be_found_without_a_sandbox(bait: Bait) -> None:
    """The baits work: else the other tests would show nothing."""
    assert os.environ[VARIABLE] == (bait.folder / "secret").read_text() == SECRET
    with socket.create_connection(("127.0.0.1", bait.port)) as connection:
        assert connection.recv(100).decode() == SECRET


SLEEPING = """
from code_problems import sums
from decaylab.code.grading import judge
judge([("whole", "import time; time.sleep(60)", sums().text())], timeout_seconds=61)
"""


@pytest.mark.parametrize("milliseconds", [0, 5, 10, 500])
def test_a_grader_that_is_killed_leaves_nothing_alive(milliseconds: int) -> None:
    path = os.pathsep.join(filter(None, sys.path))
    grader = subprocess.Popen(
        [sys.executable, "-c", SLEEPING], env=os.environ | {"PYTHONPATH": path}
    )
    deadline = time.monotonic() + 30
    while not alive([61]) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert alive([61])
    time.sleep(milliseconds / 1000)
    grader.kill()
    grader.wait()
    assert not left_alive(61)


WRITES = """
import sys
sys.path.append(sys.argv[1])
from inside.limits import standard_input
given = standard_input()
open(sys.argv[2], "wb").write(given)
"""


@pytest.mark.parametrize("is_there", [True, False])
def test_nothing_is_executed_for_a_grader_that_is_gone(tmp_path: Path, is_there: bool) -> None:
    """It can be killed before bubblewrap has asked the kernel to be ended with it."""
    reading, writing = os.pipe()
    if not is_there:
        os.close(reading)
    words = [sys.executable, "-c", WRITES, str(INSIDE.parent), str(tmp_path / "executed")]
    done = subprocess.run(words, input=b"program", stdout=writing)
    assert (tmp_path / "executed").exists() == is_there == (done.returncode == 0)
    os.close(writing)
    if is_there:
        os.close(reading)
