r"""Grading: whether a response gives the gold answer, by four named answer rules.

The rule changes the conclusion (one set of responses scored 43.8 by the last box and 65.0 by the
first, arXiv 2605.27028), so all rules are applied and the reported one is named:

    last_boxed    the content of the last \boxed{}; a malformed or empty last box is no answer,
                  never an earlier box
    first_boxed   the same with the first box
    anywhere      some parsed expression of the response equals gold; never a substring: "12" is
                  not in "3125"
    gsm8k         the number after the last ####; without one, the last number of the text. Not
                  applicable where the gold answer is no number that digits can write: a perfect
                  answer would be wrong there

    with Grader() as grader:
        grades = grader.grade(["so \\boxed{0.75}"], ["\\frac{3}{4}"])
    grades.verdicts["last_boxed"]          # [Verdict.CORRECT]

What a response says and whether it equals gold is found by `answers`, which can hang in C code: it
runs in child processes that end when a response takes too long.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import math
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from decaylab.problems import thoughts
from decaylab.problems.answers import ANSWER_RULES, box_equals, equal, is_readable
from decaylab.problems.boxes import boxed_answers, boxed_lists
from decaylab.problems.expressions import comparable, expressions
from decaylab.problems.plain_numbers import final_number, gold_number, same_rounded, tidy
from decaylab.problems.symbolic import math_equal
from decaylab.problems.votes import VOTING_RULES, same_answer

CODE = tuple(
    Path(__file__).with_name(f"{name}.py")
    for name in (
        *("answers", "boxes", "expressions", "forms", "grading", "plain_numbers", "symbolic"),
        "thoughts",
    )
)
"""The code that gives verdicts. Stored verdicts are given again where it changes."""
_GOLD_CHECK = "gold"  # the question put to a worker by `unparsable`
_SAME = "same "  # and by `same`, with the rule behind it
_CHUNK = 64  # judgements sent to a worker at a time
_WORKER_MEMORY_BYTES = (
    4 << 30
)  # a power tower must not take the machine down before its time is out


class Verdict(StrEnum):
    """What one rule says of one response. A time-out (or a grader out of memory) is not correct,
    and counted apart.

    Not applicable: the rule has no meaning for the gold answer, whatever the response.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    NOT_APPLICABLE = "not_applicable"

    @property
    def is_correct(self) -> bool:
        return self is Verdict.CORRECT


@dataclass(frozen=True)
class Grades:
    """The verdict of each rule on each response, in the order of the responses."""

    verdicts: dict[str, list[Verdict]]

    def correct(self, rule: str) -> list[bool]:
        return [verdict.is_correct for verdict in self.verdicts[rule]]

    def counts(self, rule: str) -> dict[Verdict, int]:
        """Number of responses with each verdict, all five of them named."""
        found = Counter(self.verdicts[rule])
        return {verdict: found[verdict] for verdict in Verdict}


def _judge(rule: str, response: str, answer: str) -> Verdict:
    """The verdict of one rule on one response; may take for ever, so only a worker calls it."""
    if rule.startswith(_SAME):
        return _verdict(same_answer(rule.removeprefix(_SAME), response, answer))
    gold = tidy(answer)
    if rule == _GOLD_CHECK:
        return _verdict(is_readable(gold))
    if rule == "gsm8k":
        expected, number = gold_number(answer), final_number(response)
        if expected is None:
            return Verdict.NOT_APPLICABLE
        return Verdict.NO_ANSWER if number is None else _verdict(same_rounded(expected, number))
    boxed, lists = boxed_answers(response), boxed_lists(response)
    if rule == "anywhere":
        contents = [content for content in dict.fromkeys((*boxed, *lists)) if content]
        found = [tidy(expression) for expression in expressions(response, answer)]
        if not contents + found:
            return Verdict.NO_ANSWER
        return _verdict(
            any(box_equals(gold, content) for content in contents)
            or any(equal(gold, expression) for expression in comparable(gold, found))
        )
    place = 0 if rule == "first_boxed" else -1
    if not boxed or (content := boxed[place]) is None:
        return Verdict.NO_ANSWER
    return _verdict(
        box_equals(gold, content) or lists[place] != content and box_equals(gold, str(lists[place]))
    )


def _verdict(is_equal: bool) -> Verdict:
    return Verdict.CORRECT if is_equal else Verdict.WRONG


# --- Workers that can be lost
# ---------------------------------------------------------------------------

_Judgement = tuple[str, str, str]  # rule, response, gold answer


def _serve(timeout_seconds: float) -> None:
    """The worker: reads lists of judgements from stdin, writes one verdict a line, and ends when
    one takes too long."""
    answers = os.fdopen(os.dup(1), "w")
    null = open(os.devnull, "w")  # noqa: SIM115  (open as long as the process lives)
    os.dup2(null.fileno(), 1)  # nothing that sympy prints may pass for a verdict
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    try:
        import resource

        resource.setrlimit(
            resource.RLIMIT_AS, (_WORKER_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1])
        )
    except (ImportError, ValueError, OSError):
        pass  # Windows has no such limit, and macOS does not grant it
    math_equal(
        r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}", 6
    )  # the slow imports, before the clock runs
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        for rule, response, answer in json.loads(line):
            # A thread outside the interpreter: it also stops C code and works when the parent is
            # gone.
            faulthandler.dump_traceback_later(timeout_seconds, exit=True, file=null)
            try:
                verdict = _judge(rule, response, answer)
            except MemoryError:
                verdict = Verdict.TIMEOUT
            faulthandler.cancel_dump_traceback_later()
            print(verdict, file=answers, flush=True)


class _Worker:
    """A child process with the judgements it still owes, oldest first."""

    def __init__(
        self, timeout_seconds: float, inbox: queue.SimpleQueue[tuple[_Worker, str | None]]
    ) -> None:
        # A plain child rather than multiprocessing: that would run the caller's main module again,
        # torch and all.
        code = f"from decaylab.problems.grading import _serve; _serve({timeout_seconds})"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.owed: deque[_Judgement] = deque()
        self.is_ready = False
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def _read(self, inbox: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                inbox.put((self, line.strip()))
        inbox.put((self, None))

    def send(self, judgements: list[_Judgement]) -> None:
        assert self.process.stdin is not None
        self.owed.extend(judgements)
        try:
            self.process.stdin.write(json.dumps(judgements) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone, and the end of its output says so

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        try:
            assert self.process.stdin is not None
            self.process.stdin.close()
        except BrokenPipeError:
            pass


class Grader:
    """Grades responses in worker processes; a response that takes too long costs its worker and
    nothing else.

    Works in any thread. Equal questions are judged once in the life of the grader. Workers start
    when first needed.

    Raises:
        ValueError: `workers` is not positive, or `timeout_seconds`, the longest that one rule may
        take on one response.
    """

    def __init__(self, *, workers: int = 1, timeout_seconds: float = 5.0) -> None:
        if workers < 1 or not timeout_seconds > 0:
            raise ValueError(
                f"workers and timeout_seconds must be positive, got {workers} and {timeout_seconds}"
            )
        self.workers = workers
        self.timeout_seconds = timeout_seconds
        self._pool: list[_Worker] = []
        self._inbox: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()
        self._known: dict[_Judgement, Verdict] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers. A later call starts new ones."""
        for worker in self._pool:
            worker.stop()
        self._pool = []

    def grade(
        self,
        responses: Sequence[str],
        answers: Sequence[str],
        *,
        rules: Sequence[str] = ANSWER_RULES,
        prompts: Sequence[str] | None = None,
        marks: thoughts.Marks = thoughts.KNOWN,
    ) -> Grades:
        """The verdict of each rule on each response, given the gold answer to its problem.

        What a response holds in thoughts is no answer: it is looked for behind the last one, and
        there is none where one is still open. prompts: what stands before each response, at least
        its end, which may open a thought.

        Raises:
            ValueError: the two sequences differ in length, or a rule is unknown.
        """
        if len(responses) != len(answers):
            raise ValueError(
                f"each response needs its gold answer, got {len(responses)} responses and "
                f"{len(answers)} answers"
            )
        if unknown := [rule for rule in rules if rule not in ANSWER_RULES]:
            raise ValueError(
                f"answer rules are {', '.join(ANSWER_RULES)}, got {', '.join(unknown)}"
            )
        starts = [
            thoughts.answer_start(response, prompt, marks)
            for response, prompt in zip(responses, prompts or [""] * len(responses), strict=True)
        ]
        pairs = list(zip(thoughts.answers(responses, starts), answers, strict=True))
        known = self._ask((rule, response, answer) for response, answer in pairs for rule in rules)
        return Grades(
            {rule: [known[rule, response, answer] for response, answer in pairs] for rule in rules}
        )

    def same(self, rule: str, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether the two answers of each pair, as `votes.named_answer` gives them, are one; a
        time-out is none.

        Raises ValueError for a rule that does not name one answer.
        """
        if rule not in VOTING_RULES:
            raise ValueError(
                f"rules that name one answer are {', '.join(VOTING_RULES)}, got {rule}"
            )
        question = _SAME + (
            "last_boxed" if rule == "first_boxed" else rule
        )  # one verifier, asked once
        known = self._ask((question, first, second) for first, second in pairs)
        return [known[question, first, second].is_correct for first, second in pairs]

    def unparsable(self, answers: Sequence[str]) -> list[int]:
        """Indices of the gold answers that can't be parsed: no number, no text, and nothing that
        math-verify reads."""
        known = self._ask((_GOLD_CHECK, "", answer) for answer in answers)
        return [
            index
            for index, answer in enumerate(answers)
            if not known[_GOLD_CHECK, "", answer].is_correct
        ]

    def _ask(self, judgements: Iterable[_Judgement]) -> dict[_Judgement, Verdict]:
        with self._lock:
            waiting = deque(
                asked for asked in dict.fromkeys(judgements) if asked not in self._known
            )
            try:
                while waiting or any(worker.owed for worker in self._pool):
                    self._hand_out(waiting)
                    self._take_in(waiting, *self._inbox.get())
            except BaseException:
                self.close()  # what the workers still owe would answer the next question
                raise
            return self._known

    def _hand_out(self, waiting: deque[_Judgement]) -> None:
        self._pool = [
            worker for worker in self._pool if worker.owed or worker.process.poll() is None
        ]
        while len(self._pool) < min(self.workers, math.ceil(len(waiting) / _CHUNK)):
            self._pool.append(_Worker(self.timeout_seconds, self._inbox))
        for worker in self._pool:
            if waiting and not worker.owed:
                worker.send([waiting.popleft() for _ in range(min(_CHUNK, len(waiting)))])

    def _take_in(self, waiting: deque[_Judgement], worker: _Worker, line: str | None) -> None:
        if worker not in self._pool:
            return  # the last words of one that was ended
        if line == "ready":
            worker.is_ready = True
        elif line is not None:
            self._known[worker.owed.popleft()] = Verdict(line)
        elif not worker.is_ready:
            raise RuntimeError("the grading worker could not start; its error stands above")
        else:
            self._pool.remove(worker)
            worker.stop()
            if worker.owed:
                self._known[worker.owed.popleft()] = Verdict.TIMEOUT
                waiting.extendleft(reversed(worker.owed))
