"""The table of hostile programs, judged; as a script by an ordinary user, where the caller is root.

python hostile_programs.py FOLDER PORT    judges all of them as nobody; prints the outcomes as JSON
"""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "tests" / "code" / "hostile.toml"
SECRET, VARIABLE = "secret-5f1d", "DECAYLAB_TEST_SECRET"
NOBODY = 65534
PATIENCE_SECONDS, SHORT_SECONDS = 13.0, 1.0
"""Time-outs of the programs that end by themselves, and of those that must be ended."""


@dataclass(frozen=True)
class Hostile:
    name: str
    verdicts: list[str]
    code: str
    slow: bool = False


def table() -> list[Hostile]:
    return [Hostile(**row) for row in tomllib.loads(TABLE.read_text())["program"]]


def filled(code: str, folder: Path, port: int) -> str:
    """A program that knows where the secret is."""
    places = {"variable": VARIABLE, "file": folder / "secret", "port": port, "repository": ROOT}
    for name, value in places.items():
        code = code.replace("{" + name + "}", str(value))
    return code


def outcomes(folder: Path, port: int) -> dict[str, tuple[str, str]]:
    """The verdict and the message of each program, by name."""
    from code_problems import asserting

    from decaylab.code.grading import judge

    text = asserting(f"assert answer(1) == {SECRET!r}").text()
    found = {}
    for slow, timeout, workers in ((False, PATIENCE_SECONDS, 2), (True, SHORT_SECONDS, 8)):
        programs = [one for one in table() if one.slow == slow]
        asked = [("whole", filled(one.code, folder, port), text) for one in programs]
        judged = judge(asked, timeout_seconds=timeout, workers=workers)
        found |= {one.name: (out.verdict, out.message) for one, out in zip(programs, judged)}
    return found


def alive(timeouts: Sequence[float]) -> list[str]:
    """Command lines of the processes that are still there of runs with these time-outs, in s."""
    from decaylab.code.running import MEMORY_BYTES

    limits = [f"\0{MEMORY_BYTES}\0{int(timeout) + 2}\0" for timeout in timeouts]
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_text(errors="replace")
        except OSError:  # it has just ended
            continue
        found += [words for limit in limits if limit in words]
    return found


def left_alive(*timeouts: float, patience_seconds: float = 10.0) -> list[str]:
    """The Python processes still alive after some time: the kernel needs a moment to end them.

    Not bubblewrap's own: killed in the middle of its start, it can leave a child asleep that waits
    for it to go on, and has not started anything.
    """
    deadline = time.monotonic() + patience_seconds
    while left := [words for words in alive(timeouts) if not _is_bubblewrap(words)]:
        if time.monotonic() > deadline:
            return left
        time.sleep(0.05)
    return []


def _is_bubblewrap(words: str) -> bool:
    return os.path.basename(words.split("\0")[0]) == "bwrap"


def words_as_nobody(folder: Path, port: int) -> list[str]:
    """A command that judges the table as nobody, who is shown the folders that Python needs."""
    from decaylab.code.sandbox import bubblewraps

    shown = {Path(sys.base_prefix), Path(sys.prefix), ROOT, folder}
    shown |= {Path(path) for path in sys.path if os.path.isdir(path)}
    hidden = {_private(path) for path in shown} - {None}
    words = [bubblewraps()[0], "--dev-bind", "/", "/"]
    words += [word for path in sorted(map(str, hidden)) for word in ("--tmpfs", path)]
    for path in sorted(path for path in shown if _private(path)):
        above = [parent for parent in reversed(path.parents) if _private(path) in parent.parents]
        words += [word for parent in above for word in ("--dir", str(parent))]
        words += ["--ro-bind", str(path), str(path)]
    hidden_modes = [word for path in sorted(map(str, hidden)) for word in ("--chmod", "0755", path)]
    return [*words, *hidden_modes, "--", sys.executable, __file__, str(folder), str(port)]


def _private(path: Path) -> Path | None:
    """The outermost folder above a path that others may not enter."""
    closed = [one for one in (*reversed(path.parents), path) if not one.stat().st_mode & 0o001]
    return closed[0] if closed else None


def become_nobody() -> None:
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


if __name__ == "__main__":
    become_nobody()
    made = outcomes(Path(sys.argv[1]), int(sys.argv[2]))
    print(json.dumps({"user": os.geteuid(), "outcomes": made}))
