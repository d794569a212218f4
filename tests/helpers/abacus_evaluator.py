r"""A second reading of responses to abacus problems, by another method than ``abacus_checking``.

It is told the question, not the chain of steps: it takes the start number and the operations from
the question's sentences and follows the running value. It reads a response line by line and
sentence by sentence, in the writer's forms only, parses the equation of each, token by token, and
does its arithmetic anew.

    reading = read(problem.question, "47+85=122\nwait, 47+85=132")
    [step.verdict for step in reading.steps], reading.correct_so_far        # ["repaired"], True
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

TIMES = {"doubles.": 2, "triples.": 3, "quadruples.": 4}
PARTS = {"two": 2, "three": 3, "four": 4, "five": 5}
COMMANDS = {"\\times": "*", "\\cdot": "*", "\\div": "/"}
SIGNS = {"+": "+", "-": "-", "*": "*", "x": "*", "/": "/"}
OPERATION_NAMES = ("add ", "take ", "times ", "share by ")
SHAPE = ("number", "sign", "number", "=", "number")


@dataclass(frozen=True)
class Operation:
    sign: str
    operand: int

    def applied_to(self, value: int) -> int:
        if self.sign == "/":
            return next(share for share in range(value + 1) if share * self.operand == value)
        return {
            "+": value + self.operand,
            "-": value - self.operand,
            "*": sum([value] * self.operand),
        }[self.sign]


@dataclass
class ReadStep:
    start: int
    end: int
    verdict: str


@dataclass(frozen=True)
class Reading:
    """What stands in a response; boxed: whether the box is wrong."""

    steps: list[ReadStep]
    boxed_wrong: bool

    @property
    def correct_so_far(self) -> bool | None:
        verdicts = {step.verdict for step in self.steps}
        if "unread" in verdicts:
            return None
        return "wrong" not in verdicts and not self.boxed_wrong


@cache
def chain(question: str) -> tuple[list[int], list[Operation]]:
    """The running values, the start first, and the operations that a question tells."""
    first, *told, _ = question.split(". ")
    operations = [_operation(f"{sentence}.".split()) for sentence in told]
    values = [int(first.split()[2])]
    for operation in operations:
        values.append(operation.applied_to(values[-1]))
    return values, operations


def _operation(words: list[str]) -> Operation:
    if words[-1] in TIMES:
        return Operation("*", TIMES[words[-1]])
    if words[1] == "splits":
        return Operation("/", PARTS[words[4]])
    number = next(int(word.rstrip(".")) for word in words if word[0].isdigit())
    return Operation("-" if words[1] in ("loses", "gives") else "+", number)


@dataclass(frozen=True)
class Place:
    """Where an equation or a box may stand.

    ended: whether a delimiter or the end of its line or sentence ends it, not that of the text.
    """

    start: int
    text: str
    ended: bool
    restates: bool = False


def places(response: str) -> Iterator[Place]:
    """The places of a response in order."""
    start = 0
    for line in response.splitlines(keepends=True):
        ended = line.endswith("\n")
        if line[:1].isupper():
            yield from _of_sentences(start, line.removesuffix("\n"), ended)
        else:
            yield from _of_line(start, line.removesuffix("\n"), ended)
        start += len(line)


def _of_sentences(start: int, line: str, ended: bool) -> Iterator[Place]:
    while line:
        stop = line.find(". ")
        sentence = line if stop < 0 else line[: stop + 1]
        for mark in ("so we get ", "Wait, ", "To check: ", "the answer is "):
            _, found, place = sentence.partition(mark)
            if found:
                at = start + len(sentence) - len(place)
                place, restates = place.removesuffix("."), mark in ("Wait, ", "To check: ")
                whole = ended or stop >= 0 or sentence.endswith(".")
                yield Place(at, place, whole or place.endswith("\\)"), restates)
        step = len(sentence) + (stop >= 0)
        start, line = start + step, line[step:]


def _of_line(start: int, line: str, ended: bool) -> Iterator[Place]:
    opening = ""
    for known in ("wait, ", "check: ", "so "):
        if line.startswith(known):
            opening = known
    if line.startswith(OPERATION_NAMES):
        name, colon, _ = line.partition(": ")
        if not colon:
            return
        opening = name + colon
    place, restates = line[len(opening) :], opening in ("wait, ", "check: ")
    yield Place(start + len(opening), place, ended or place.endswith("\\)"), restates)


@dataclass(frozen=True)
class Token:
    """kind: number, sign, =, or ? for what does not belong into an equation. open: whether the end
    of the text may have cut it off."""

    kind: str
    text: str
    start: int
    end: int
    open: bool = False


def tokens(place: Place) -> list[Token]:
    """The tokens of an equation, without its delimiters."""
    found: list[Token] = []
    text = place.text
    position = 2 if text.startswith("\\(") else 0
    while position < len(text):
        start, first = position, text[position]
        position += 1
        if first == " ":
            continue
        if text[start:] == "\\)" and position > 2:
            break
        if first.isalnum() or first == "\\":
            while position < len(text) and _goes_on(first, text[position]):
                position += 1
        word = text[start:position]
        opened = position == len(text) and not place.ended
        found.append(Token(_kind(word, opened), word, start, position, opened))
    return found


def _goes_on(first: str, character: str) -> bool:
    return character.isdigit() if first.isdigit() else character.isalpha()


def _kind(word: str, opened: bool) -> str:
    if word[0].isdigit():
        return "number"
    if word == "=":
        return "="
    cut_command = opened and any(command.startswith(word) for command in COMMANDS)
    return "sign" if word in SIGNS or word in COMMANDS or cut_command else "?"


def _is_read(found: list[Token], ended: bool) -> bool:
    """Whether tokens are an equation, or the beginning of one where the text is cut off."""
    kinds = [token.kind for token in found if not _is_lone(token)]
    return tuple(kinds) == SHAPE[: len(SHAPE) if ended else len(kinds)]


def _is_lone(token: Token) -> bool:
    """Whether it is a backslash at the end of the text, which may also begin a delimiter."""
    return token.open and token.text == "\\"


def _agrees(found: list[Token], value: int, operation: Operation) -> str:
    """right; open where the end of the text cuts off what may become right; or wrong. The two
    numbers of a sum or a product may change places."""
    orders = [(value, operation.operand)]
    if operation.sign in "+*":
        orders.append((operation.operand, value))
    result = operation.applied_to(value)
    found_so = {
        _agrees_with(found, (left, operation.sign, right, "=", result)) for left, right in orders
    }
    return next(verdict for verdict in ("right", "open", "wrong") if verdict in found_so)


def _agrees_with(found: list[Token], expected: tuple[int | str, ...]) -> str:
    states = [_token_agrees(token, want) for token, want in zip(found, expected, strict=False)]
    if states == ["yes"] * len(SHAPE):
        return "right"
    return "wrong" if len(found) > len(SHAPE) or "no" in states else "open"


def _token_agrees(token: Token, want: int | str) -> str:
    """yes, no, or maybe where the token is cut off."""
    meant = COMMANDS.get(token.text, SIGNS.get(token.text, token.text))
    if meant == str(want):
        return "yes"
    if token.kind == "number":
        return "maybe" if token.open and str(want).startswith(token.text) else "no"
    commands = [command for command in COMMANDS if COMMANDS[command] == want]
    cut_off = token.open and any(command.startswith(token.text) for command in commands)
    return "maybe" if cut_off else "no"


def read(question: str, response: str) -> Reading:
    """Every step and box of a response, or of the beginning of one."""
    values, operations = chain(question)
    steps: list[ReadStep] = []
    boxed_wrong = False
    for place in places(response):
        inner = place.text.removeprefix("\\(")
        if inner.startswith("\\boxed{"):
            boxed_wrong = _boxed_wrong(inner.removeprefix("\\boxed{"), values[-1], boxed_wrong)
            continue
        if not any(character in "0123456789+-*/=" for character in place.text):
            continue
        found = tokens(place)
        verdict = "unread"
        restates = place.restates and bool(steps)
        if _is_read(found, place.ended):
            verdict = _turn(found, values, operations, len(steps))
            if restates and verdict == "wrong":
                verdict = _turn(found, values, operations, len(steps) - 1)
            else:
                restates = False
        if verdict == "open":
            break
        if verdict == "unread" or not restates:
            at = place.start
            end = [token.end for token in found if not _is_lone(token)][-1]
            steps.append(ReadStep(at + found[0].start, at + end, verdict))
        else:
            last = steps[-1]
            put_right = verdict == "right" and last.verdict != "right"
            last.verdict = "repaired" if put_right else verdict
        if verdict == "unread":
            break
    return Reading(steps, boxed_wrong)


def _boxed_wrong(content: str, answer: int, before: bool) -> bool:
    """Whether the answer is boxed wrong, after one more box; a box that is cut off leaves it as it
    was before, unless it cannot become right."""
    number, closed, _ = content.partition("}")
    if closed:
        return number != str(answer)
    return before or not str(answer).startswith(number)


def _turn(found: list[Token], values: list[int], operations: list[Operation], turn: int) -> str:
    """How an equation agrees with one step; none agrees with a step behind the last."""
    if turn >= len(operations):
        return "wrong"
    return _agrees(found, values[turn], operations[turn])
