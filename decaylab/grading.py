r"""Grading: was the gold answer given? Four named answer rules over the same stored text, behind hard time-outs.

The rule changes the conclusion (one set of responses scored 43.8 by the last box and 65.0 by the first, arXiv 2605.27028),
so all rules are applied and the reported one is named:

    last_boxed    the content of the last \boxed{}; a malformed or empty last box is no answer, never an earlier box
    first_boxed   the same with the first box
    anywhere      some parsed expression of the response equals gold; never a substring, "12" is not in "3125"
    gsm8k         the number after the last ####; without one, the last number of the text

    with Grader() as grader:
        grades = grader.grade(["so \\boxed{0.75}"], ["\\frac{3}{4}"])
    grades.verdicts["last_boxed"]          # [Verdict.CORRECT]

Plain numbers and words are compared here, everything else by math-verify. It can hang in C code, where its own signal-based
time-out does not reach (nor outside the main thread), so it runs in child processes that end when a response takes too long.
"""

from __future__ import annotations

import ast
import faulthandler
import json
import logging
import math
import operator
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

ANSWER_RULES: tuple[str, ...] = ("last_boxed", "first_boxed", "anywhere", "gsm8k")
_GOLD_CHECK = "gold"  # the question put to a worker by `unparsable`
_CHUNK = 64  # judgements sent to a worker at a time
_WORKER_MEMORY_BYTES = 4 << 30  # a power tower must not take the machine down before its time is out


class Verdict(StrEnum):
    """What one rule says of one response. A time-out (or a grader out of memory) is not correct, and counted apart."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"

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
        """Number of responses with each verdict, all four of them named."""
        found = Counter(self.verdicts[rule])
        return {verdict: found[verdict] for verdict in Verdict}


# --- What a response says -------------------------------------------------------------------------------------------

_BOX_TOKEN = re.compile(r"(?P<box>\\(?:boxed|fbox)(?![A-Za-z])\s*(?P<brace>\{)?)|\\.|[{}]", re.DOTALL)


def _boxes(text: str) -> list[str | None]:
    """Content of every box, in order of their starts; None for a box that never closes or has no braces."""
    found: list[str | None] = []
    # (index in found, start of content) for the brace of a box, None for another brace
    open_braces: list[tuple[int, int] | None] = []
    for match in _BOX_TOKEN.finditer(text):
        if match["box"]:
            if match["brace"]:
                open_braces.append((len(found), match.end()))
            found.append(None)
        elif match[0] == "{":
            open_braces.append(None)
        elif match[0] == "}" and open_braces and (box := open_braces.pop()) is not None:
            found[box[0]] = text[box[1] : match.start()]
    return found


def count_boxes(text: str) -> int:
    r"""Number of boxes (\boxed or \fbox) that the text opens, finished or not."""
    return len(_boxes(text))


_BLANK = re.compile(r"\\(?:text|mathrm|mbox)\b|\\[ ,;:!_]|[\s{}$~.?_]")


def _number_runs() -> str:
    number = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d])|\d+(?:\.\d+)?|\.\d+)"
    term = rf"\({{0,9}}-?\$?{number}\){{0,9}}"  # bounded, or a loop of brackets takes quadratic time
    run = rf"{term}(?:[ \t]*(?:[-+*/×÷^]|\\times|\\cdot|\\div)[ \t]*{term})*"
    # Not a part of a longer number, word, exponent or LaTeX group, but a unit of two or more letters may follow (12cm).
    after = r"(?!\d|[.,]\d|[\^_{]|(?:st|nd|rd|th)\b|[A-Za-z](?![A-Za-z]))"
    return rf"(?<![\w\\^_{{])(?<!\d[.,])(?<!\w-)(?P<run>{run}){after}(?P<percent>\s?\\?%)?"


_NUMBER_RUN = re.compile(_number_runs())
_NUMBER_LIST = re.compile(r"(?<![\w.,{-])[\[(]?-?[\d./]+(?:\s*,\s*-?[\d./]+)+[\])]?(?!\w)")
# Dollars as pandoc reads them: no space inside, no digit after the closing one. So "$12 and then $15" is money.
_MATH = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\\\[(.+?)\\\]|\\\((.+?)\\\)|(?<!\\)\$(?![\s$])((?:\\.|[^$\\\n])+?)(?<![\s\\])\$(?!\d)",
    re.DOTALL,
)
_BARE_LATEX = re.compile(r"(?<!\d)(?:-?\d{1,9})?\\(?:[dt]?frac\{[^{}]*\}\{[^{}]*\}|sqrt\{[^{}]*\})")
_LIST_MARKER = re.compile(r"^[ \t]*[*#]*\d+[.)](?=[ \t*]+\S)|\b(?:Step|Problem|Question|Case)\s+#?\d+", re.MULTILINE)
_RELATION = re.compile(r"(?<![<>!\\:])=|\\(?:approx|implies|Rightarrow|Leftrightarrow|equiv|in)(?![A-Za-z])|≈|⇒")


def _expressions(text: str, answer: str) -> list[str]:
    """The expressions that a response writes outside its boxes or as a part of them: LaTeX, lists, arithmetic, numbers."""
    text = _LIST_MARKER.sub(" ; ", re.sub(r"\\(?:boxed|fbox)\s*(?=\{)", "", text))
    maths = [next(filter(None, match.groups())) for match in _MATH.finditer(text)]
    text = _MATH.sub(" ; ", text)
    plain = [match[0] for match in _BARE_LATEX.finditer(text)]
    text = _BARE_LATEX.sub(" ; ", text)
    if "," in answer:
        plain += [match[0] for match in _NUMBER_LIST.finditer(text)]
    plain += [match["run"] + (r"\%" if match["percent"] else "") for match in _NUMBER_RUN.finditer(text)]
    sides = []
    for formula in maths:
        rows = [formula] if "matrix" in formula else re.sub(r"\\(begin|end)\{[a-z]+\*?\}|&", " ", formula).split(r"\\")
        sides += [side for row in rows for side in _RELATION.split(row) if side.count("{") == side.count("}")]
    return [found for found in dict.fromkeys(map(str.strip, maths + sides + plain)) if found]


_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)}$])-\\?\$?|(?<!\w)\$-)?(?P<digits>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d+\b)?|(?<!\w)\.\d+)"
)


def _final_number(text: str) -> Fraction | None:
    """The number after the last ####, else the last one of the text; None where there is none."""
    _, mark, after = text.replace("−", "-").rpartition("####")
    numbers = list(_NUMBER.finditer(after))
    if not numbers:
        return None
    number = numbers[0] if mark else numbers[-1]
    value = _decimal(number["digits"].replace(",", ""))
    return -value if number["sign"] else value


def _decimal(text: str) -> Fraction:
    # An exponent or a digit run of thousands of places is babble, not an answer: as an infinity it equals no gold.
    mantissa, _, exponent = text.lower().partition("e")
    return Fraction(text) if len(mantissa) <= 300 and len(exponent) <= 4 else Fraction(10) ** 400


# --- Whether two answers are equal ----------------------------------------------------------------------------------

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d*)?|\.\d+)"
_TIDY: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.DOTALL), replacement)
    for pattern, replacement in (
        (r"[−–]", "-"),
        (r"\^?[°º]", r"^\\circ"),
        (r"\\!|(?<=\d)(?:\{,\}|\\,)(?=\d{3})", ""),
        (r"\\[dt]frac(?![A-Za-z])", r"\\frac"),
        (r"^\s*\$(.*)\$\s*$", r"\1"),
        (r"^[\s=]+|[\s.,;:=]+$", ""),
        (r"^(-?)\s*\\?\$\s*(?=[-\d.])|(?<=\d)\s*\\?\$$", r"\1"),
        (r"\s*(?:\\?%|percent)$", r"\\%"),
        (rf"^(-?{_PLAIN})[eE]([-+]?\d+)$", r"\1 \\times 10^{\2}"),
        # A bare unit: "18.90 dollars", "15 cm^2". Words that belong to an expression or a list stay.
        (
            rf"^(-?{_PLAIN})\s+(?!(?:pi|and|or|sqrt|sin|cos|tan|log|ln|mod)\b)[A-Za-z][A-Za-z .]+(?:\^\{{?\d\}}?)?$",
            r"\1",
        ),
    )
)


@lru_cache(maxsize=65536)
def _tidy(answer: str) -> str:
    """The answer without what carries no meaning: outer dollars, currency, blanks in numbers, bare units, final period."""
    if answer.isdigit():
        return answer
    for pattern, replacement in _TIDY:
        answer = pattern.sub(replacement, answer)
    return answer.replace(" ", "") if re.fullmatch(r"-?\d{1,3}(?: \d{3})+", answer) else answer


_THOUSANDS = r"(?<=\d),(?=\d{3}(?!\d))"
_FRACTION = re.compile(r"\\frac\{(-?\d+)\}\{(-?\d+)\}|\\frac(\d)(\d)")
_OPERATORS: dict[type[ast.operator], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv
}  # fmt: skip


@lru_cache(maxsize=65536)
def _exact(answer: str) -> Fraction | None:
    """The value of a tidy plain number, fraction or sum of them; None for anything else."""
    if re.fullmatch(rf"-?{_PLAIN}", answer):
        return Fraction(answer.replace(",", "").rstrip(".")) if len(answer) <= 300 else None
    text = _FRACTION.sub(lambda m: f"(({m[1] or m[3]})/({m[2] or m[4]}))", answer)
    for pattern, replacement in ((r"\\times|\\cdot|×", "*"), (r"\\div|÷", "/"), (_THOUSANDS, "")):
        text = re.sub(pattern, replacement, text)
    if len(text) > 200 or not re.fullmatch(r"[\d\s.()+*/-]+", text):
        return None

    def value(node: ast.expr) -> Fraction:
        match node:
            case ast.BinOp(left, op, right):
                return Fraction(_OPERATORS[type(op)](value(left), value(right)))
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand)
            case ast.Constant():
                return Fraction(ast.get_source_segment(text, node) or "")
            case _:
                raise ValueError("not arithmetic")

    try:
        text = text.strip()
        return value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError):
        return None


def _decimals(gold: Fraction) -> int:
    """Decimals to which an answer in decimals must agree: six, and as many more as gold has zeros after the point."""
    return 6 if gold == 0 or abs(gold) >= 1 else 5 - math.floor(math.log10(abs(gold)))


def _same_number(gold: str, gold_value: Fraction, answer: str, value: Fraction) -> bool:
    """Exactly equal, or equal when rounded where one of the two is written in decimals."""
    if "." not in gold and "." not in answer:
        return gold_value == value
    decimals = _decimals(gold_value)
    return round(gold_value, decimals) == round(value, decimals)


_WRAPPER = re.compile(r"\\(?:text(?:bf|it|rm)?|mbox|mathrm|mathbf|operatorname)\s*\{([^{}]*)\}")

_PROSE = re.compile(r"[A-Za-z]{3,}(?:[\s'-]+[A-Za-z]+)*|[A-Za-z]{2}(?:[\s'-]+[A-Za-z]+)+")


def _words(answer: str) -> str | None:
    """A text answer in lower case without wrapper, brackets, blanks; None where the answer is mathematics."""
    bare, wrappers = _WRAPPER.subn(r"\1", answer)
    if not wrappers and not _PROSE.fullmatch(bare.strip(" ()")):
        return None
    letters = re.sub(r"[\s().,'\"-]|\\[ ,;]", "", bare)
    return letters.lower() if letters.isalpha() and letters not in ("pi", "infty") else None


_BASE = re.compile(r"(\w+)_\{?(\d+)\}?")
_COMMAND_OR_TEXT = re.compile(
    r"\\(?:begin|end)\s*\{[^{}]*\}|\\(?:text|mbox|mathrm|operatorname)\s*\{[^{}]*\}|\\[A-Za-z]+|\\."
)


def _letters(expression: str) -> set[str]:
    return set(re.findall("[a-z]", _COMMAND_OR_TEXT.sub(" ", expression).lower()))


@lru_cache(maxsize=4096)
def _parse(answer: str) -> tuple[Any, ...]:
    """math-verify's reading of a tidy answer; what it can't read stays a string."""
    from math_verify import LatexExtractionConfig, parse  # type: ignore[import-untyped]

    config = [LatexExtractionConfig(boxed_match_priority=0)]
    return tuple(parse(rf"\boxed{{{answer}}}", config, parsing_timeout=None))


@lru_cache(maxsize=65536)
def _equal(gold: str, answer: str) -> bool:
    """Whether a tidy answer equals a tidy gold answer. Only what is no plain number and no text goes to math-verify."""
    if "".join(gold.split()) == "".join(answer.split()):
        return True
    gold_value, value = _exact(gold), _exact(answer)
    if gold_value is not None and value is not None:
        return _same_number(gold, gold_value, answer, value)
    if (words := _words(gold)) is not None:
        return words == (_words(answer) or re.sub(r"[\s().]", "", answer).lower())
    if (base := _BASE.fullmatch(gold)) and (other := _BASE.fullmatch(answer)):
        return base.groups() == other.groups()
    if "," in gold and {_bracket(gold), _bracket(answer)} in ({"{", "("}, {"{", "["}):
        return False  # a set has no order, a point or an interval has
    return _verify(gold, answer, 6 if gold_value is None else _decimals(gold_value))


def _bracket(answer: str) -> str:
    return answer.replace(r"\left", "").strip().removeprefix("\\")[:1]


def _verify(gold: str, answer: str, decimals: int) -> bool:
    from math_verify import verify

    for expected in _parse(gold):
        for given in _parse(answer):
            try:
                if verify(expected, given, float_rounding=decimals, timeout_seconds=None, raise_on_error=True):
                    return True
            except MemoryError:
                raise
            except Exception:  # noqa: BLE001, S112  (sympy fails in as many ways as there are strange answers)
                continue
    return False


def _box_equals(gold: str, content: str) -> bool:
    answer = _tidy(content)
    if _equal(gold, answer):
        return True
    # "3 \times 4 = 12" answers 12, but "x = 3, y = 4" does not answer 4.
    chain = _RELATION.split(re.sub(_THOUSANDS, "", answer))
    return (
        len(chain) > 1 and "," not in "".join(chain) and not _RELATION.search(gold) and _equal(gold, _tidy(chain[-1]))
    )


def _judge(rule: str, response: str, answer: str) -> Verdict:
    """The verdict of one rule on one response; may take for ever, so only a worker calls it."""
    gold = _tidy(answer)
    if rule == _GOLD_CHECK:
        parsed = _exact(gold) is not None or _words(gold) or any(not isinstance(found, str) for found in _parse(gold))
        return Verdict.CORRECT if parsed else Verdict.WRONG
    if rule == "gsm8k":
        if (number := _final_number(response)) is None:
            return Verdict.NO_ANSWER
        gold_text = _WRAPPER.sub("", re.sub(r"\\%|\^\{?\\circ\}?", "", gold)).strip()
        gold_number = _final_number(answer) if "####" in answer else _exact(gold_text)
        return _verdict(gold_number is not None and _same_number(".", gold_number, ".", number))
    boxes = [content if content and _BLANK.sub("", content) else None for content in _boxes(response)]
    if rule == "anywhere":
        contents = [content for content in boxes if content]
        expressions = [_tidy(expression) for expression in _expressions(response, answer)]
        if not contents + expressions:
            return Verdict.NO_ANSWER
        # What has other variables than gold is not worth math-verify's time.
        letters = [_letters(gold), _letters(_RELATION.split(gold)[-1])]
        worthy = (found for found in expressions if _words(gold) or _letters(found) in letters)
        return _verdict(
            any(_box_equals(gold, found) for found in contents) or any(_equal(gold, found) for found in worthy)
        )
    content = boxes[0 if rule == "first_boxed" else -1] if boxes else None
    return Verdict.NO_ANSWER if content is None else _verdict(_box_equals(gold, content))


def _verdict(is_equal: bool) -> Verdict:
    return Verdict.CORRECT if is_equal else Verdict.WRONG


# --- Workers that can be lost ---------------------------------------------------------------------------------------

_Judgement = tuple[str, str, str]  # rule, response, gold answer


def _serve(timeout_seconds: float) -> None:
    """The worker: reads lists of judgements from stdin, writes one verdict a line, and ends when one takes too long."""
    answers = os.fdopen(os.dup(1), "w")
    null = open(os.devnull, "w")  # noqa: SIM115  (open as long as the process lives)
    os.dup2(null.fileno(), 1)  # nothing that sympy prints may pass for a verdict
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable(logging.CRITICAL)
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_WORKER_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, ValueError, OSError):
        pass  # Windows has no such limit, and macOS does not grant it
    _verify(r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}", 6)  # the slow imports, before the clock runs
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        for rule, response, answer in json.loads(line):
            # A thread outside the interpreter: it also stops C code and works when the parent is gone.
            faulthandler.dump_traceback_later(timeout_seconds, exit=True, file=null)
            try:
                verdict = _judge(rule, response, answer)
            except MemoryError:
                verdict = Verdict.TIMEOUT
            faulthandler.cancel_dump_traceback_later()
            print(verdict, file=answers, flush=True)


class _Worker:
    """A child process with the judgements it still owes, oldest first."""

    def __init__(self, timeout_seconds: float, inbox: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        # A plain child rather than multiprocessing: that would run the caller's main module again, torch and all.
        code = f"from decaylab.grading import _serve; _serve({timeout_seconds})"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
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
    """Grades responses in worker processes; a response that takes too long costs its worker and nothing else.

    Works in any thread. Equal questions are judged once in the life of the grader. Workers start when first needed.

    Raises:
        ValueError: `workers` is not positive, or `timeout_seconds`, the longest that one rule may take on one response.
    """

    def __init__(self, *, workers: int = 1, timeout_seconds: float = 5.0) -> None:
        if workers < 1 or not timeout_seconds > 0:
            raise ValueError(f"workers and timeout_seconds must be positive, got {workers} and {timeout_seconds}")
        self.workers = workers
        self.timeout_seconds = timeout_seconds
        self._pool: list[_Worker] = []
        self._inbox: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()
        self._known: dict[_Judgement, Verdict] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers. A later call starts new ones."""
        for worker in self._pool:
            worker.stop()
        self._pool = []

    def grade(self, responses: Sequence[str], answers: Sequence[str], *, rules: Sequence[str] = ANSWER_RULES) -> Grades:
        """The verdict of each rule on each response, given the gold answer to its problem.

        Raises:
            ValueError: the two sequences differ in length, or a rule is unknown.
        """
        if len(responses) != len(answers):
            raise ValueError(
                f"each response needs its gold answer, got {len(responses)} responses and {len(answers)} answers"
            )
        if unknown := [rule for rule in rules if rule not in ANSWER_RULES]:
            raise ValueError(f"answer rules are {', '.join(ANSWER_RULES)}, got {', '.join(unknown)}")
        pairs = list(zip(responses, answers, strict=True))
        known = self._ask((rule, response, answer) for response, answer in pairs for rule in rules)
        return Grades({rule: [known[rule, response, answer] for response, answer in pairs] for rule in rules})

    def unparsable(self, answers: Sequence[str]) -> list[int]:
        """Indices of the gold answers that can't be parsed: no number, no text, and nothing that math-verify reads."""
        known = self._ask((_GOLD_CHECK, "", answer) for answer in answers)
        return [index for index, answer in enumerate(answers) if not known[_GOLD_CHECK, "", answer].is_correct]

    def _ask(self, judgements: Iterable[_Judgement]) -> dict[_Judgement, Verdict]:
        with self._lock:
            waiting = deque(asked for asked in dict.fromkeys(judgements) if asked not in self._known)
            try:
                while waiting or any(worker.owed for worker in self._pool):
                    self._hand_out(waiting)
                    self._take_in(waiting, *self._inbox.get())
            except BaseException:
                self.close()  # what the workers still owe would answer the next question
                raise
            return self._known

    def _hand_out(self, waiting: deque[_Judgement]) -> None:
        self._pool = [worker for worker in self._pool if worker.owed or worker.process.poll() is None]
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
