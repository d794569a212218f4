"""Jobs in processes of their own: order, failures, shares of the machine, and that none outlives
the process that began it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from decaylab.commands import children
from decaylab.commands.children import Job, run
from decaylab.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def bare_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is a piece of Python."""
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, "-S", "-c"))


def job(folder: Path, name: str, *commands: str) -> Job:
    return Job(name, tuple((one,) for one in commands), folder / "logs" / f"{name}.log")


class Ended(children.Watch):
    """Keeps the name of each job that ended, what it said where it failed, whether it took time."""

    def __init__(self, kept: list[tuple[str, str, bool]]) -> None:
        self.kept = kept

    def ended(self, job: Job, failure: str, seconds: float) -> None:
        self.kept.append((job.name, failure, seconds > 0))


def test_commands_of_a_job_follow_each_other_and_what_they_say_is_kept(tmp_path: Path) -> None:
    ended: list[tuple[str, str, bool]] = []
    one = job(tmp_path, "one", "print('first')", "import sys; print('second', file=sys.stderr)")
    failed = run(
        [one],
        workers=1,
        watch=Ended(ended),
    )
    assert failed == {} and ended == [("one", "", True)]
    said = one.log.read_text().splitlines()
    assert [line for line in said if not line.startswith("$ ")] == ["first", "second"]
    assert said[0] == "$ decaylab 'print('\"'\"'first'\"'\"')'"


def test_a_job_that_fails_stops_at_its_command_and_stops_no_other(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    jobs = [
        job(
            tmp_path,
            "bad",
            "import sys; print('on the way'); sys.exit('decaylab: no problem is left')",
            "open('never', 'w')",
        ),
        job(tmp_path, "mute", "import sys; sys.exit(3)"),
        job(tmp_path, "shot", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"),
        job(tmp_path, "good", f"open({str(tmp_path / 'made')!r}, 'w')"),
    ]
    ends: list[tuple[str, str, bool]] = []
    failed = run(jobs, workers=2, watch=Ended(ends))
    told = {name: said for name, said, _ in ends}
    assert failed == {
        "bad": "no problem is left",
        "mute": "exit code 3",
        "shot": "ended by SIGTERM",
    }
    assert (
        told == {**failed, "good": ""}
        and (tmp_path / "made").exists()
        and not Path("never").exists()
    )


def test_so_many_work_at_a_time_and_no_more(tmp_path: Path) -> None:
    """Each waits until as many as may work at once are there; the highest number that was ever
    there is that."""
    code = textwrap.dedent(f"""
        import os, time, pathlib
        here = pathlib.Path({str(tmp_path)!r}) / f"here-{{os.getpid()}}"
        here.touch()
        end = time.monotonic() + 20
        while len(list(here.parent.glob("here-*"))) < 2 and not (here.parent / "met").exists():
            assert time.monotonic() < end
            time.sleep(0.005)
        (here.parent / "met").touch()
        print(len(list(here.parent.glob("here-*"))))
        here.unlink()
    """)
    jobs = [job(tmp_path, f"job-{number}", code) for number in range(4)]
    assert run(jobs, workers=2) == {}
    counts = [int(one.log.read_text().splitlines()[-1]) for one in jobs]
    assert max(counts) == 2


def test_workers_share_cores_and_devices_unless_the_user_has_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ.get('CUDA_VISIBLE_DEVICES'))"
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setattr(children, "cores", lambda: 7)
    jobs = [job(tmp_path, f"job-{number}", code) for number in range(2)]
    run(jobs, workers=2, devices=children.cuda_devices(2))
    assert [one.log.read_text().splitlines()[-1] for one in jobs] == ["3 4", "3 5"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    run(jobs[:1], workers=2)
    assert jobs[0].log.read_text().splitlines()[-1] == "1 4,5"
    assert (
        children.cuda_devices(1) == ()
        and children.cuda_devices(3, {"CUDA_VISIBLE_DEVICES": "2"}) == ()
    )


PARENT = """
import sys
from pathlib import Path
from decaylab.commands import children
children.PROGRAM = (sys.executable, "-S", "-c")
code = ("import os, time, pathlib, signal, subprocess, sys; pathlib.Path({place!r}).write_text(str(os.getpid()));"
        "{more}time.sleep(300)")
children.run([children.Job("one", ((code,),), Path({log!r}))], workers=1)
"""  # noqa: E501


def started(tmp_path: Path, more: str = "") -> tuple[subprocess.Popen[bytes], int]:
    """A process that runs one endless job, and the job's own process id."""
    place = tmp_path / "pid"
    code = PARENT.format(place=str(place), log=str(tmp_path / "log"), more=more)
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not (place.exists() and place.read_text()):
        assert time.monotonic() < end and parent.poll() is None
        time.sleep(0.01)
    return parent, int(place.read_text())


def gone(pid: int) -> bool:
    """Whether the process ends within ten seconds; one that nobody has waited for counts."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs extra: prctl, which Linux has"
)
def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent, child = started(tmp_path)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert gone(child)


def test_ctrl_c_is_handed_on_and_the_child_may_finish_what_it_does(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    more = (
        f"signal.signal(signal.SIGINT, lambda *a: (pathlib.Path({str(kept)!r}).touch(), "
        "sys.exit(130)));"
    )
    parent, child = started(tmp_path, more)
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=30)
    assert kept.exists() and gone(child)


def test_a_second_ctrl_c_ends_a_child_that_does_not_listen(tmp_path: Path) -> None:
    parent, child = started(tmp_path, "signal.signal(signal.SIGINT, signal.SIG_IGN);")
    parent.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert parent.poll() is None, "it waits for the child"
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=30)
    assert gone(child)


def test_a_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    with pytest.raises(UserError, match="cannot write .*one.log"):
        run([job(tmp_path, "one", "pass")], workers=1)


def test_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 4, 6}, raising=False)
    assert children.cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    assert children.cores() == 7
