"""Policies of a known law: a Markov chain behind the interfaces of policies and engines, and its
decay in closed form.

The next token depends on the last one, on the policy and on the kind of the problem, which stands
in the prompt. A text is right if its last token is the problem's gold token. So everything that a
decay measurement estimates is a sum over (token, position), computed here by recursion, and again
by writing out every possible text (``paths``).

    world = decaying_world() DecayLaw(world, max_tokens=20).prefixed(4)      # teacher's accuracy
    behind 4 student tokens, given open there
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from decaylab.problems.problem import Problem
from decaylab.progress import Reporter
from decaylab.rollouts.collect import Collector, DecayPlan
from decaylab.rollouts.sampling import OnProgress, Request, Response, SamplingSettings, uniforms
from decaylab.runs.graded import Judge

Floats = NDArray[np.float64]

END, TOKENS = 0, "#nghbm"
"""Token ids are places in TOKENS: the end, a neutral token, two answers, two that are never an
answer."""
FIRST_KIND = len(TOKENS)  # prompt tokens: FIRST_KIND + kind of the problem
GOLD = "gh"  # of each kind
RULE = "last_token"
MEASURED_COLUMNS = [
    "rollout_id",
    "condition",
    "problem_id",
    "prefix_tokens",
    "prefix_rollout_id",
    "prefix_correct_so_far",
    "teacher_tokens",
    "response_ids",
    "stop_reason",
    f"grade_{RULE}",
]


class MarkovTokenizer:
    """One id a character."""

    is_fast, unk_token_id = True, None
    added_tokens_decoder: ClassVar[dict[int, Any]] = {}
    backend_tokenizer = SimpleNamespace(to_str=lambda: '{"decoder": {"type": "ByteLevel"}}')

    def __init__(self, letters: str = TOKENS, special: str = "") -> None:
        self.letters, self.special = letters, special

    def get_vocab(self) -> dict[str, int]:
        return {letter: index for index, letter in enumerate(self.letters)}

    def get_added_vocab(self) -> dict[str, int]:
        return {letter: self.letters.index(letter) for letter in self.special}

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(self.letters[index] for index in ids)


@dataclass(frozen=True)
class MarkovPolicy:
    """What Collector and HandOver use of a policy. law: [kinds, last token, next token]; last token
    0 is the start."""

    name: str
    law: Floats
    tokenizer: MarkovTokenizer = field(default_factory=MarkovTokenizer)
    end_ids: frozenset[int] = frozenset({END})
    control = SimpleNamespace(texts={})

    def __post_init__(self) -> None:
        assert self.law.shape == (len(GOLD), len(TOKENS), len(TOKENS)), self.law.shape
        assert np.allclose(self.law.sum(axis=-1), 1)

    def encode(self, text: str) -> list[int]:
        return [self.tokenizer.letters.index(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        kept = ids[:-1] if ids and ids[-1] in self.end_ids else ids
        return "".join(
            self.tokenizer.letters[index] for index in kept if index < FIRST_KIND
        )  # prompts have no text


class MarkovEngine:
    """Samples a MarkovPolicy, all requests at once, by inversion at the library's own uniforms.
    Temperature 1 only.

    fail_at_call: the number of the call, from 0, that raises instead, as a killed process would
    stop there.
    """

    name = "markov"

    def __init__(self, policy: MarkovPolicy, *, fail_at_call: int | None = None) -> None:
        self.policy, self.fail_at_call = policy, fail_at_call
        self.calls: list[list[Request]] = []

    def sample(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> list[Response]:
        assert (settings.temperature, settings.top_p, settings.top_k) == (1, 1, 0), (
            "the law is that of temperature 1"
        )
        if len(self.calls) == self.fail_at_call:
            raise KeyboardInterrupt
        self.calls.append(list(requests))
        rows, width = len(requests), max(request.max_new_tokens for request in requests)
        uniform = np.ones((rows, width))
        for row, request in enumerate(requests):
            uniform[row, : request.max_new_tokens] = uniforms(settings.seed, request)
        budgets = np.array([request.max_new_tokens for request in requests])
        kinds = np.array([request.prompt_ids[-1] - FIRST_KIND for request in requests])
        last = np.array(
            [request.prefix_ids[-1] if request.prefix_ids else 0 for request in requests]
        )
        cumulative = self.policy.law.cumsum(axis=-1)
        written, counts = np.zeros((rows, width), dtype=np.int64), np.zeros(rows, dtype=np.int64)
        live = np.arange(rows)
        for step in range(width):
            steps = cumulative[kinds[live], last[live]]
            target = uniform[live, step] * steps[:, -1]
            token = np.minimum((steps <= target[:, None]).sum(axis=1), len(TOKENS) - 1)
            written[live, step], last[live] = token, token
            counts[live] += 1
            live = live[(token != END) & (step + 1 < budgets[live])]
            if live.size == 0:
                break
        if on_progress:
            on_progress(int(counts.sum()), rows)
        ids = [
            tuple(row[:count]) for row, count in zip(written.tolist(), counts.tolist(), strict=True)
        ]
        return [Response(one, "eos" if one[-1] == END else "length") for one in ids]


def grade(texts: Sequence[str], answers: Sequence[str]) -> dict[str, list[str]]:
    """Right if the last token is the gold answer; a text without one has no answer."""
    return {
        f"grade_{RULE}": [
            "no_answer" if not text else "correct" if text[-1] == answer else "wrong"
            for text, answer in zip(texts, answers, strict=True)
        ]
    }


def gold(problems: Sequence[Problem]) -> dict[str, str]:
    return {problem.problem_id: problem.answer or "" for problem in problems}


@dataclass(frozen=True)
class World:
    """Two policies, and how often each kind of problem is drawn."""

    student: MarkovPolicy
    teacher: MarkovPolicy
    shares: tuple[float, float] = (0.5, 0.5)


def decaying_world() -> World:
    """A slip of the student (``b``) is hard to recover from; the second kind of problem is harder
    for both."""
    bad = (0.09, 0.03, 0.02, 0.01, 0.85)
    student_easy = _law(
        (0.03, 0.62, 0.20, 0.05, 0.10),
        (0.10, 0.46, 0.27, 0.05, 0.12),
        (0.42, 0.20, 0.30, 0.03, 0.05),
        bad,
    )
    student_hard = _law(
        (0.01, 0.74, 0.05, 0.05, 0.15),
        (0.03, 0.58, 0.12, 0.05, 0.22),
        (0.20, 0.30, 0.36, 0.03, 0.11),
        bad,
    )
    teacher_easy = _law(
        (0.01, 0.57, 0.38, 0.02, 0.02),
        (0.02, 0.45, 0.50, 0.01, 0.02),
        (0.32, 0.10, 0.56, 0.01, 0.01),
        bad,
    )
    teacher_hard = _law(
        (0.01, 0.75, 0.14, 0.04, 0.06),
        (0.02, 0.61, 0.25, 0.05, 0.07),
        (0.20, 0.22, 0.48, 0.03, 0.07),
        bad,
    )
    return World(
        MarkovPolicy("student", np.stack([student_easy, _swap_answers(student_hard)])),
        MarkovPolicy("teacher", np.stack([teacher_easy, _swap_answers(teacher_hard)])),
        shares=(0.5, 0.5),
    )


def flat_world() -> World:
    """The teacher begins anew behind anything the student wrote, and never ends on it; the student
    writes n and b only.

    The teacher writes g, h and m, and which of them stands last does not depend on how many there
    are: its accuracy is the same behind every prefix and under every budget that leaves it a token.
    """
    student = np.zeros((len(TOKENS), len(TOKENS)))
    student[:] = (0.06, 0.50, 0.0, 0.0, 0.44, 0.0)
    student[0] = (0.0, 0.60, 0.0, 0.0, 0.40, 0.0)
    laws = []
    for right, stopping in ((0.85, 0.3), (0.55, 0.2)):
        fresh = np.array([0.0, 0.0, right, 0.04, 0.0, 0.96 - right])
        law = np.tile(fresh, (len(TOKENS), 1))
        law[[2, 3, 5]] = fresh * (1 - stopping)
        law[[2, 3, 5], END] = stopping
        laws.append(law)
    teacher = np.stack([laws[0], _swap_answers(laws[1])])
    return World(
        MarkovPolicy("student", np.stack([student, student])), MarkovPolicy("teacher", teacher)
    )


def _law(
    start: tuple[float, ...],
    n: tuple[float, ...],
    answer: tuple[float, ...],
    bad: tuple[float, ...],
) -> Floats:
    """Rows: behind the start, n, the gold answer g, the other answer h, b, m. Columns: end, n, g,
    h, b; m never comes."""
    other = (0.10, 0.40, 0.25, 0.20, 0.05)
    return np.array([(*row, 0.0) for row in (start, n, answer, other, bad, bad)])


def _swap_answers(law: Floats) -> Floats:
    order = [0, 1, 3, 2, 4, 5]
    return law[np.ix_(order, order)]


def draw_problems(
    world: World, count: int, seed: int
) -> tuple[list[Problem], dict[str, dict[str, tuple[int, ...]]]]:
    """Problems of kinds drawn at random, so that a sample of problems is one of independent
    problems; and the prompts."""
    kinds = np.random.default_rng(seed).choice(len(GOLD), size=count, p=world.shares).tolist()
    problems = [
        Problem(f"p{index:04d}", f"kind {kind}?", GOLD[kind]) for index, kind in enumerate(kinds)
    ]
    prompts = {
        problem.problem_id: (FIRST_KIND + kind,)
        for problem, kind in zip(problems, kinds, strict=True)
    }
    return problems, {
        "student": prompts,
        "teacher": {key: (1, *ids) for key, ids in prompts.items()},
    }


class MemoryFolder:
    """The part of a run folder that Collector uses, without the disk."""

    record = None

    def read_rollouts(self) -> pa.Table | None:
        return None

    def parts(self, stage: str) -> MemoryFolder:
        return self

    def numbers(self) -> list[int]:
        return []

    def write(self, number: int, table: pa.Table) -> None:
        pass

    def merge(self, tables: list[pa.Table]) -> pa.Table:
        return pa.concat_tables(tables)


def rollouts(world: World, plan: DecayPlan, problems: int) -> pd.DataFrame:
    """One whole collection in memory; problems and rollouts are drawn by the plan's seed."""
    asked, prompts = draw_problems(world, problems, plan.sampling.seed)
    engines = MarkovEngine(world.student), MarkovEngine(world.teacher)
    collector = Collector(
        *engines,
        asked,
        prompts,
        plan,
        Judge(grade, (RULE,), gold(asked), {"student": world.student, "teacher": world.teacher}),
        MemoryFolder(),
        Reporter(quiet=True),
    )
    return collector.collect().select(MEASURED_COLUMNS).to_pandas()


class DecayLaw:
    """The expectation of everything that is measured, by recursion over (last token, position).

    Means are over rollouts: sum over kinds and last tokens of probability x accuracy, over the same
    sum of probability. Arrays are [kinds, last token].
    """

    def __init__(self, world: World, max_tokens: int) -> None:
        self.laws = {"student": world.student.law, "teacher": world.teacher.law}
        self.shares, self.max_tokens = np.array(world.shares)[:, None], max_tokens

    def reach(self, author: str, length: int) -> Floats:
        """P(the first ``length`` tokens hold no end, and the last of them is v)."""
        law = self.laws[author]
        at = np.zeros(law.shape[:2])
        at[:, 0] = 1.0
        for _ in range(length):
            at = np.einsum("ku,kuv->kv", at, law)
            at[:, END] = 0.0
        return at

    def right(self, author: str, room: int) -> Floats:
        """P(the text ends right | its last token is v, and ``author`` may write ``room`` more)."""
        law = self.laws[author]
        now = np.zeros(law.shape[:2])
        now[np.arange(len(GOLD)), [TOKENS.index(letter) for letter in GOLD]] = 1.0
        value = now
        for _ in range(room):
            value = law[:, :, END] * now + np.einsum("kuv,kv->ku", law[:, :, 1:], value[:, 1:])
        return value

    def unprefixed(self, author: str) -> Floats:
        """Accuracy alone, [kinds, 1]."""
        return self.right(author, self.max_tokens)[:, :1]

    def accuracy(self, author: str) -> float:
        return float((self.shares * self.unprefixed(author)).sum())

    def mean(
        self, values: Floats, author: str, length: int, weights: Floats | float = 1.0
    ) -> float:
        """Mean over the author's rollouts that are open at a length."""
        mass = self.shares * self.reach(author, length) * weights
        return float((mass * values).sum() / mass.sum()) if mass.sum() > 0 else float("nan")

    def open_share(self, author: str, length: int) -> float:
        return float((self.shares * self.reach(author, length)).sum())

    def prefixed(self, length: int, author: str = "student", by: str = "teacher") -> float:
        """Accuracy of ``by`` behind the first tokens of the author's open rollouts."""
        return self.mean(self.right(by, self.max_tokens - length), author, length)

    def author_outcome(self, length: int, author: str = "student") -> float:
        """The author's own accuracy over its rollouts that are open at a length."""
        return self.mean(self.right(author, self.max_tokens - length), author, length)

    def reference(self, length: int, author: str = "student", by: str = "teacher") -> float:
        """Accuracy of ``by`` alone on the problems of the author's open rollouts."""
        return self.mean(self.unprefixed(by), author, length)

    def carry_forward(self, length: int, author: str = "student") -> float:
        """Accuracy of the teacher behind open prefixes and of the author's rollouts that ended
        before."""
        at, room = self.reach(author, length), self.max_tokens - length
        gained = (self.shares * at * (self.right("teacher", room) - self.right(author, room))).sum()
        return self.accuracy(author) + float(gained)

    def swapped(self, length: int) -> tuple[float, float]:
        """Accuracy under another, independent problem, and the teacher's alone there (any kind: not
        those of the open)."""
        ends = (self.shares * self.reach("student", length)).sum(axis=0)
        under = (self.shares * self.right("teacher", self.max_tokens - length)).sum(axis=0)
        return float((ends * under).sum() / ends.sum()), self.accuracy("teacher")

    def by_fate(self, length: int, ended_right: bool) -> tuple[float, float]:
        """Accuracy behind open prefixes of rollouts that ended right (or wrong), and the teacher's
        alone there."""
        room = self.max_tokens - length
        own = self.right("student", room)
        weights = own if ended_right else 1 - own
        curve = self.mean(self.right("teacher", room), "student", length, weights)
        return curve, self.mean(self.unprefixed("teacher"), "student", length, weights)

    def handed_back(self, length: int, teacher_tokens: int) -> float:
        """Accuracy of the student behind its first tokens and so many of the teacher's.

        A teacher that ends within them, or fills the budget, is the outcome itself.
        """
        law, room = self.laws["teacher"], self.max_tokens - length
        now = self.right("student", 0)
        value = self.right("student", room - teacher_tokens) if teacher_tokens < room else now
        for _ in range(min(teacher_tokens, room)):
            value = law[:, :, END] * now + np.einsum("kuv,kv->ku", law[:, :, 1:], value[:, 1:])
        return self.mean(value, "student", length)

    def teacher_finished(self, length: int, teacher_tokens: int) -> float:
        """P(the teacher ends within so many tokens, its end token counted, or fills the budget)."""
        law, room = self.laws["teacher"], self.max_tokens - length
        value = np.full(law.shape[:2], float(teacher_tokens >= room))
        for _ in range(min(teacher_tokens, room)):
            value = law[:, :, END] + np.einsum("kuv,kv->ku", law[:, :, 1:], value[:, 1:])
        return self.mean(value, "student", length)

    def hand_back(
        self, lengths: Sequence[int], counts: Sequence[int]
    ) -> dict[tuple[str, str, float, str], float]:
        """What a hand-back measures: (what, condition, prefix_tokens, category) -> value."""
        found = {}
        for length in lengths:
            own, at = self.author_outcome(length), float(length)
            worth = self.prefixed(length) - own
            for count in counts:
                place = ("hand-back", at, f"teacher tokens: {count}")
                gain = self.handed_back(length, count) - own
                for what, value in (
                    ("accuracy", gain + own),
                    ("student_accuracy", own),
                    ("corrective_gain", gain),
                    ("usable_share", gain / worth),
                    ("teacher_finished_share", self.teacher_finished(length, count)),
                ):
                    found[what, *place] = value
            control, to_the_end = "hand-back-control", "teacher tokens: to the end"
            found["corrective_gain", control, at, "teacher tokens: 0"] = 0.0
            found["corrective_gain", control, at, to_the_end] = worth
            found["corrective_gain_minus_continuation", control, at, to_the_end] = 0.0
            found["continuation_gain", "student-prefix", at, ""] = worth
        return found

    def recovery(self, length: int) -> float:
        return self.by_fate(length, ended_right=False)[0]

    def spoil(self, length: int) -> float:
        room = self.max_tokens - length
        weights = self.right("student", room) * self.unprefixed("teacher")
        return 1 - self.mean(self.right("teacher", room), "student", length, weights)

    def retained(self, length: int) -> float:
        student = self.author_outcome(length)
        return (self.prefixed(length) - student) / (self.reference(length) - student)

    def half_decay(self, lengths: Sequence[int]) -> float:
        """Where the straight lines through (0, 1) and the retained advantages first meet .5."""
        points = [(0.0, 1.0), *((float(length), self.retained(length)) for length in lengths)]
        for (x0, y0), (x1, y1) in pairwise(points):
            if y1 <= 0.5:
                return x0 + (x1 - x0) * (y0 - 0.5) / (y0 - y1)
        return float("inf")

    def measurements(
        self, lengths: Sequence[int], controls: bool = True
    ) -> dict[tuple[str, str, str, float], float]:
        """Everything with an expectation: (what, condition, view, prefix_tokens) -> value."""
        student, teacher = self.accuracy("student"), self.accuracy("teacher")
        found = {
            ("accuracy", "student", "all", 0.0): student,
            ("accuracy", "teacher", "all", 0.0): teacher,
            ("teacher_advantage", "student-prefix", "all", 0.0): teacher - student,
            ("half_decay_length", "student-prefix", "open", float("nan")): self.half_decay(lengths),
        }

        def curve(
            condition: str, length: int, accuracy: float, reference: float, view: str = "open"
        ) -> None:
            place = (condition, view, float(length))
            found["accuracy", *place], found["accuracy_difference", *place] = (
                accuracy,
                accuracy - reference,
            )
            if view == "open":
                found["reference_accuracy", *place] = reference

        for length in lengths:
            place = ("student-prefix", "open", float(length))
            curve("student-prefix", length, self.prefixed(length), self.reference(length))
            found["student_accuracy", *place] = self.author_outcome(length)
            found["open_share", *place] = self.open_share("student", length)
            found["retained_advantage", *place] = self.retained(length)
            found["recovery_rate", *place], found["spoil_rate", *place] = (
                self.recovery(length),
                self.spoil(length),
            )
            curve("student-prefix", length, self.carry_forward(length), teacher, "carry-forward")
            found["finished_share", "student-prefix", "carry-forward", float(length)] = (
                1 - found["open_share", *place]
            )
            curve("ended-right", length, *self.by_fate(length, ended_right=True))
            curve("ended-wrong", length, *self.by_fate(length, ended_right=False))
            if controls:
                curve(
                    "own-prefix",
                    length,
                    self.prefixed(length, "teacher"),
                    self.author_outcome(length, "teacher"),
                )
                curve(
                    "own-prefix",
                    length,
                    self.carry_forward(length, "teacher"),
                    teacher,
                    "carry-forward",
                )
                finished = 1 - self.open_share("teacher", length)
                found["finished_share", "own-prefix", "carry-forward", float(length)] = finished
                curve("swapped", length, *self.swapped(length))
                reverse = ("teacher", "student")
                curve(
                    "reverse",
                    length,
                    self.prefixed(length, *reverse),
                    self.reference(length, *reverse),
                )
        return found


def paths(law: Floats, kind: int, last: int, room: int) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every text of at most ``room`` tokens behind a last token, without its end token, and its
    probability."""
    if room == 0:
        yield (), 1.0
        return
    for token, probability in enumerate(law[kind, last]):
        if probability == 0:
            continue
        if token == END:
            yield (), float(probability)
            continue
        for rest, chance in paths(law, kind, token, room - 1):
            yield (token, *rest), float(probability) * chance
