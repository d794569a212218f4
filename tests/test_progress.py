"""Progress: a line a stage where nobody watches, a bar where somebody does, and a rate of what was
written now."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from decaylab.progress import Reporter, StageProgress


def reporter(*, terminal: bool = False, quiet: bool = False) -> tuple[Reporter, io.StringIO]:
    one, said = Reporter(quiet=quiet), io.StringIO()
    one.console = Console(file=said, force_terminal=terminal, width=100, quiet=quiet)
    return one, said


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_a_stage_is_one_line_without_control_characters(
    clock: list[float],
) -> None:
    one, said = reporter()
    with one.stage("teacher rollouts", 4) as progress:
        progress.advance(600, 1)
        progress.advance(1400, 3)
        clock[0] += 4
        assert said.getvalue() == ""
    assert said.getvalue() == "teacher rollouts: 4 sequences, 2,000 tokens in 4 s (500 tokens/s)\n"


def test_what_was_read_from_disk_does_not_count_for_the_rate(clock: list[float]) -> None:
    one, said = reporter()
    with one.stage("reverse", 10) as progress:
        progress.skip(6)
        progress.advance(50, 4)
        clock[0] += 2
        assert (progress.rate, progress.finished, progress.skipped) == (25, 4, 6)
    with one.stage("swapped", 3) as progress:
        progress.skip(3)
    assert said.getvalue().splitlines() == [
        "reverse: 4 sequences, 50 tokens in 2 s (25 tokens/s); 6 sequences were there already",
        "swapped: 3 sequences were there already",
    ]


def test_a_batch_that_is_taken_back_leaves_the_count_whole(clock: list[float]) -> None:
    """Where memory runs out, the engine takes back what it told."""
    progress = StageProgress(None, "student", 2)
    for tokens, finished in ((30, 1), (-30, -1), (40, 2)):
        progress.advance(tokens, finished)
    assert (progress.tokens, progress.finished) == (40, 2)


def test_an_empty_stage_and_a_quiet_reporter_say_nothing() -> None:
    one, said = reporter()
    with one.stage("own-prefix", 0):
        pass
    silent, nothing = reporter(quiet=True)
    with silent.stage("student", 1) as progress:
        progress.advance(5, 1)
    silent.note("unheard")
    assert said.getvalue() == nothing.getvalue() == ""


def test_on_a_terminal_a_bar_counts_what_is_done_and_goes_away() -> None:
    one, said = reporter(terminal=True)
    with one.stage("teacher rollouts", 8) as progress:
        progress.skip(2)
        progress.advance(700, 3)
        time.sleep(0.3)
    shown = said.getvalue()
    assert "5/8" in shown and "tokens/s" in shown
    assert shown.rstrip().endswith("2 sequences were there already")


def test_a_bar_of_80_columns_has_room_for_its_times_and_a_line_below_it() -> None:
    one, said = Reporter(), io.StringIO()
    one.console = Console(file=said, force_terminal=True, width=80)
    where = "prefix-20-seed-0 step 34 of 100, prefix-40-seed-0 step 3 of 100; 3.1 steps/s"
    with one.stage("sweep rollout-length", 6, "runs") as progress:
        progress.place(2.5, where)
        time.sleep(0.3)
    shown = said.getvalue()
    assert "2/6" in shown and where in shown and "0:00:00" in shown
    assert "…" not in shown


def test_notes_are_one_line_each_and_keep_their_brackets() -> None:
    one, said = reporter()
    one.note(f"runs/[mine] {'is long ' * 30}")
    assert said.getvalue() == f"runs/[mine] {'is long ' * 30}\n"


def test_reporters_speak_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter().note("here")
    assert capsys.readouterr() == ("", "here\n")
