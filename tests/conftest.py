"""A skip is allowed for missing hardware or a missing extra; any other skip fails the run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(
    str(Path(__file__).resolve().parents[1] / "benchmarks")
)  # coverage_parts: simulations that slow tests share

ALLOWED = ("needs GPU", "needs extra", "needs engine")
_unexplained: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs GPU: no CUDA device"))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not reason.removeprefix("Skipped: ").startswith(ALLOWED):
            _unexplained.append(f"{report.nodeid}: {reason}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _unexplained:
        terminalreporter.write_line(f"skipped without missing hardware or extra: {line}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _unexplained and exitstatus == 0:
        session.exitstatus = 1
