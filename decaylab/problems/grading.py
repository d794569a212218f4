r"""Grades responses against the gold answer, by four named answer rules.

The rule changes the conclusion (one set of responses scored 43.8 by the last box and 65.0 by the
first, arXiv 2605.27028), so all rules are applied and the reported one is named:

    last_boxed    the content of the last \boxed{}; if that is malformed or empty there is no
                  answer, even if an earlier box has one
    first_boxed   the same with the first box
    anywhere      any parsed expression of the response equals gold; not a substring: "12" does not
                  match "3125"
    gsm8k         the number after the last ####, or else the last number of the text. Not
                  applicable if the gold answer is not a number in digits: even a perfect answer
                  would count as wrong

    with Grader() as grader:
        grades = grader.grade(["so \\boxed{0.75}"], ["\\frac{3}{4}"])
    grades.verdicts["last_boxed"]          # [Verdict.CORRECT]

The rules of code and of function calls (`decaylab.problems.judges`) come with a message. A rule of
the user's own (`answers.answer_rule`) is graded in the same way by the function that was
registered.

Comparing answers can hang in C code, so it runs in child processes that are ended after a time
limit.
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
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from decaylab.errors import UserError
from decaylab.plugins import origins
from decaylab.problems import judges, own_rules, thoughts
from decaylab.problems.answers import ANSWER_RULES, RULES, box_equals, equal, is_readable
from decaylab.problems.boxes import boxed_answers, boxed_lists
from decaylab.problems.expressions import comparable, expressions
from decaylab.problems.plain_numbers import final_number, gold_number, same_rounded, tidy
from decaylab.problems.symbolic import math_equal
from decaylab.problems.votes import VOTING_RULES, same_answer

if TYPE_CHECKING:
    from decaylab.progress import Reporter

CODE = tuple(
    Path(__file__).with_name(f"{name}.py")
    for name in (
        *("answers", "boxes", "expressions", "forms", "grading", "own_rules", "plain_numbers"),
        *("symbolic", "thoughts"),
    )
)
"""The files that determine verdicts. Stored verdicts are recomputed when they change."""
_GOLD_CHECK = "gold"  # pseudo-rule of `unparsable`
_SAME = "same "  # pseudo-rule of `same`, followed by a rule
_CHUNK = 64  # judgements sent to a worker at a time
_WORKER_MEMORY_BYTES = 4 << 30  # a power tower must not exhaust memory before the time limit


class Verdict(StrEnum):
    """The verdict of one rule on one response.

    A timeout is not correct, and is counted separately. Not applicable: the rule cannot grade
    against this gold answer. Error, out of memory: how a program ended; of a mathematical answer,
    running out of memory is a timeout.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    NOT_APPLICABLE = "not_applicable"
    ERROR = "error"
    OUT_OF_MEMORY = "out_of_memory"

    @property
    def is_correct(self) -> bool:
        return self is Verdict.CORRECT


@dataclass(frozen=True)
class Grades:
    """The verdict of each rule on each response, in the order of the responses.

    messages: why a program or a call is not right, by rule; without rules that give no reasons.
    """

    verdicts: dict[str, list[Verdict]]
    messages: dict[str, list[str]] = field(default_factory=dict)

    def correct(self, rule: str) -> list[bool]:
        return [verdict.is_correct for verdict in self.verdicts[rule]]

    def counts(self, rule: str) -> dict[Verdict, int]:
        """Number of responses with each verdict."""
        found = Counter(self.verdicts[rule])
        return {verdict: found[verdict] for verdict in Verdict}


def _judge(rule: str, response: str, answer: str) -> Verdict:
    """The verdict of one rule on one response; may hang, so only workers call it."""
    if rule.startswith(_SAME):
        return _verdict(same_answer(rule.removeprefix(_SAME), response, answer))
    if own := RULES.get(rule):
        return Verdict(own_rules.verdict(own, response, answer))
    gold = tidy(answer)
    if rule == _GOLD_CHECK:
        return _verdict(is_readable(gold))
    if rule == "gsm8k":
        expected, number = gold_number(answer), final_number(response)
        if expected is None:
            return Verdict.NOT_APPLICABLE
        return Verdict.NO_ANSWER if number is None else _verdict(same_rounded(expected, number))
    # Left out before the run, unless a rule of the user's own reads this gold answer.
    if not is_readable(gold):
        return Verdict.NOT_APPLICABLE
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


# Worker processes

_Judgement = tuple[str, str, str]  # rule, response, gold answer
_ERROR = "error "  # beginning of a line that is no verdict


def _serve(timeout_seconds: float) -> None:
    """Runs a worker: reads plugins and judgements from stdin and writes one verdict per line.

    Exits when a judgement takes too long. A rule of the user's own that cannot be used is a line
    with the reason.
    """
    answers = os.fdopen(os.dup(1), "w")
    null = open(os.devnull, "w")  # noqa: SIM115  (open as long as the process lives)
    os.dup2(null.fileno(), 1)  # keep sympy's output apart from the verdicts
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    try:
        import resource

        resource.setrlimit(
            resource.RLIMIT_AS, (_WORKER_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1])
        )
    except (ImportError, ValueError, OSError):
        pass  # Windows has no such limit, and macOS does not grant it
    # Do the slow imports before the clock starts.
    math_equal(r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}", 6)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        sources, judgements = json.loads(line)
        if problem := own_rules.load(sources):
            print(_ERROR + problem, file=answers, flush=True)
            continue
        for rule, response, answer in judgements:
            # A timer outside the interpreter: it also stops C code, and works without the parent.
            faulthandler.dump_traceback_later(timeout_seconds, exit=True, file=null)
            verdict: str
            try:
                verdict = _judge(rule, response, answer)
            except MemoryError:
                verdict = Verdict.TIMEOUT
            except Exception as error:
                if not RULES.get(rule):
                    raise
                verdict = _ERROR + own_rules.complaint(rule, response, error)
            faulthandler.cancel_dump_traceback_later()
            print(verdict, file=answers, flush=True)


class _Worker:
    """A child process and its pending judgements, oldest first."""

    def __init__(
        self, timeout_seconds: float, inbox: queue.SimpleQueue[tuple[_Worker, str | None]]
    ) -> None:
        # Not multiprocessing, which would import the caller's main module again, including torch.
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

    def send(self, judgements: list[_Judgement], sources: own_rules.Sources) -> None:
        """sources: of the user's own rules, which the worker imports if it has not yet."""
        assert self.process.stdin is not None
        self.owed.extend(judgements)
        try:
            self.process.stdin.write(json.dumps([sources, judgements]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the worker has died; the end of its output is handled in _take_in

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        try:
            assert self.process.stdin is not None
            self.process.stdin.close()
        except BrokenPipeError:
            pass


class Grader:
    """Grades responses in worker processes; a worker is ended if a response takes too long.

    Thread-safe. Results are cached for the life of the grader. Workers start when first needed.
    timeout_seconds: limit for one rule on one response. sandboxed: whether programs run in
    sandboxes; only a user may turn that off.

    Raises:
        ValueError: `workers` or `timeout_seconds` is not positive.
    """

    def __init__(
        self, *, workers: int = 1, timeout_seconds: float = 5.0, sandboxed: bool = True
    ) -> None:
        if workers < 1 or not timeout_seconds > 0:
            raise ValueError(
                f"workers and timeout_seconds must be positive, got {workers} and {timeout_seconds}"
            )
        self.workers = workers
        self.timeout_seconds = timeout_seconds
        self.sandboxed = sandboxed
        self._judged: dict[_Judgement, judges.Judged] = {}
        self._pool: list[_Worker] = []
        self._inbox: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()
        self._known: dict[_Judgement, Verdict] = {}
        self._sources: own_rules.Sources = {}
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
        """Ends the workers. A later call to `grade` starts new ones."""
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
        """The verdict of each rule on each response, given its gold answer.

        The answer is searched after the last thought; a response with an open thought has no
        answer. prompts: text before each response, or at least its end, which may open a thought.

        Raises:
            ValueError: the two sequences differ in length, or a rule is unknown.
            UserError: a rule of the user's own cannot be imported by another process, raised an
                error, or returned no verdict.
        """
        if len(responses) != len(answers):
            raise ValueError(
                f"each response needs its gold answer, got {len(responses)} responses and "
                f"{len(answers)} answers"
            )
        if unknown := [rule for rule in rules if rule not in RULES]:
            raise ValueError(f"answer rules are {', '.join(RULES)}, got {', '.join(unknown)}")
        self._use(rules)
        starts = [
            thoughts.answer_start(response, prompt, marks)
            for response, prompt in zip(responses, prompts or [""] * len(responses), strict=True)
        ]
        pairs = list(zip(thoughts.answers(responses, starts), answers, strict=True))
        compared = [rule for rule in rules if rule not in judges.JUDGED_HERE]
        explained = [rule for rule in rules if rule in judges.JUDGED_HERE]
        known = self._ask((rule, *pair) for pair in pairs for rule in compared)
        judged = self._judge_here([(rule, *pair) for pair in pairs for rule in explained])
        verdicts, messages = {}, {}
        for rule in rules:
            if rule in compared:
                verdicts[rule] = [known[rule, *pair] for pair in pairs]
            else:
                verdicts[rule] = [Verdict(judged[rule, *pair][0]) for pair in pairs]
                messages[rule] = [judged[rule, *pair][1] for pair in pairs]
        return Grades(verdicts, messages)

    def _judge_here(self, judgements: Sequence[_Judgement]) -> dict[_Judgement, judges.Judged]:
        """Verdicts with messages. An empty gold answer leaves nothing to judge."""
        with self._lock:
            new = [asked for asked in dict.fromkeys(judgements) if asked not in self._judged]
            without = [asked for asked in new if not asked[2]]
            self._judged |= dict.fromkeys(without, (Verdict.NOT_APPLICABLE.value, ""))
            new = [asked for asked in new if asked[2]]
            found = judges.judge(new, sandboxed=self.sandboxed, workers=self.workers)
            self._judged |= dict(zip(new, found, strict=True))
            return self._judged

    def _use(self, rules: Sequence[str]) -> None:
        """Notes the plugins of the user's own rules. One whose file has changed and was imported
        again starts new workers."""
        for origin in origins.origins((origins.ANSWER_RULE, rule) for rule in rules):
            source = origin.source, origin.sha256
            with self._lock:
                if self._sources.get(origin.name, source) != source:
                    self.close()
                    self._known = {
                        asked: verdict
                        for asked, verdict in self._known.items()
                        if asked[0] != origin.name
                    }
                self._sources[origin.name] = source

    def same(self, rule: str, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether the two answers of each pair are equal; False after a timeout.

        pairs: answers from `votes.named_answer`. Raises ValueError for a rule that does not name
        one answer.
        """
        if rule not in VOTING_RULES:
            raise ValueError(
                f"rules that name one answer are {', '.join(VOTING_RULES)}, got {rule}"
            )
        # Both box rules share one verifier, and so the cached results.
        question = _SAME + ("last_boxed" if rule == "first_boxed" else rule)
        known = self._ask((question, first, second) for first, second in pairs)
        return [known[question, first, second].is_correct for first, second in pairs]

    def unparsable(self, answers: Sequence[str]) -> list[int]:
        """Indices of gold answers that are neither numbers nor text nor readable by math-verify."""
        known = self._ask((_GOLD_CHECK, "", answer) for answer in answers)
        return [
            index
            for index, answer in enumerate(answers)
            if not known[_GOLD_CHECK, "", answer].is_correct
        ]

    def broken_references(
        self, golds: Sequence[str], reporter: Reporter | None = None
    ) -> dict[int, str]:
        """Indices of problems of code whose reference solution fails their tests, and why.

        Raises:
            UserError: programs cannot be run here.
        """
        from decaylab.problems import references  # with progress bars, which workers do not need

        return references.broken(
            golds, sandboxed=self.sandboxed, workers=self.workers, reporter=reporter
        )

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
                self.close()  # pending verdicts would be taken for those of the next call
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
                chunk = [waiting.popleft() for _ in range(min(_CHUNK, len(waiting)))]
                asked = {rule for rule, _, _ in chunk}
                sources = {rule: self._sources[rule] for rule in asked & self._sources.keys()}
                worker.send(chunk, sources)

    def _take_in(self, waiting: deque[_Judgement], worker: _Worker, line: str | None) -> None:
        if worker not in self._pool:
            return  # late output of a worker that was ended
        if line == "ready":
            worker.is_ready = True
        elif line is not None and line.startswith(_ERROR):
            raise UserError(line.removeprefix(_ERROR))
        elif line is not None:
            self._known[worker.owed.popleft()] = Verdict(line)
        elif not worker.is_ready:
            raise RuntimeError("the grading worker could not start; see its error above")
        else:
            self._pool.remove(worker)
            worker.stop()
            if worker.owed:
                self._known[worker.owed.popleft()] = Verdict.TIMEOUT
                waiting.extendleft(reversed(worker.owed))
