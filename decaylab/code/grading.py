"""Judges responses that contain programs, a few at a time.

    outcomes = judge([("last_block", response, problem.text())])
    outcomes[0].verdict        # "passed"

Equal programs for one problem run once, whatever rule found them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from decaylab.code import blocks, sandbox
from decaylab.code.running import VERDICTS, Outcome, Runner
from decaylab.code.sets import CodeProblem
from decaylab.errors import UserError

__all__ = ["VERDICTS", "Outcome", "check_references", "judge"]
TIMEOUT_SECONDS = 10.0
"""Wall time of one program, with the start of Python."""
WORKERS = 2
Asked = tuple[str, str, str]
_Work = tuple[str, str]  # program, problem text
_NO_CODE = Outcome("no_code", "the response contains no program")


def judge(
    asked: Sequence[Asked],
    *,
    sandboxed: bool = True,
    workers: int = WORKERS,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> list[Outcome]:
    """The outcome of each response, in order.

    asked: answer rule, response, and the text of the `CodeProblem`.
    sandboxed: False runs programs with the rights of this process.
    workers: programs that run at once, in two processes each.

    Raises:
        UserError: there is no sandbox, or no such rule or problem.
    """
    works = [_work(*one) for one in asked]
    distinct = list(dict.fromkeys(work for work in works if work is not None))
    outcomes = _run(distinct, sandboxed, workers, timeout_seconds)
    found = dict(zip(distinct, outcomes))
    return [_NO_CODE if work is None else found[work] for work in works]


def check_references(
    problems: Sequence[str],
    *,
    sandboxed: bool = True,
    workers: int = WORKERS,
    timeout_seconds: float = TIMEOUT_SECONDS,
    on_done: Callable[[], object] = lambda: None,
) -> dict[int, Outcome]:
    """The problems, by index, whose own reference solution does not pass, with the outcome.

    on_done: called after each distinct problem.
    """
    works = [(CodeProblem.of_text(text).reference, text) for text in problems]
    distinct = list(dict.fromkeys(works))
    found = dict(zip(distinct, _run(distinct, sandboxed, workers, timeout_seconds, on_done)))
    outcomes = {index: found[work] for index, work in enumerate(works)}
    return {index: outcome for index, outcome in outcomes.items() if not outcome.is_correct}


def _work(rule: str, response: str, text: str) -> _Work | None:
    program = blocks.program(rule, response, CodeProblem.of_text(text))
    return None if program is None else (program, text)


def _run(
    works: Sequence[_Work],
    sandboxed: bool,
    workers: int,
    timeout_seconds: float,
    on_done: Callable[[], object] = lambda: None,
) -> list[Outcome]:
    """The outcomes of different programs; nothing is left running, Ctrl-C included."""
    if not works:
        return []
    if os.name != "posix":
        raise UserError(f"programs can be run on Linux and macOS; this is {os.name}")
    shut_in = sandbox.require() if sandboxed else None
    runner = Runner(shut_in, timeout_seconds)
    pool = ThreadPoolExecutor(workers)
    try:
        futures = [
            pool.submit(runner.run, source, CodeProblem.of_text(text)) for source, text in works
        ]
        outcomes = []
        for future in futures:
            outcomes.append(future.result())
            on_done()
        return outcomes
    finally:
        runner.stop()
        pool.shutdown(cancel_futures=True)
        if shut_in:
            shut_in.close()
