"""What preflight shows of two tokenizers: how well their tokens align on responses of the student,
and both prompts.

The student writes a short response to each of the first problems. Their coverage is no
measurement: it tells, before a run, whether spans are short enough to say anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from decaylab.options.measuring import Options
from decaylab.pair.prepare import Setup
from decaylab.policies.alignment import REASONS, Aligner, Alignment, Reason, Span, coverage
from decaylab.policies.policy import Policy
from decaylab.printing import rounded
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Ids, Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine

PROBLEMS, TOKENS = 10, 128
"""Problems that are looked at, and most tokens of a response that is written for it."""
WORST = 3
SHOWN = 160
"""Characters of a prompt at either end."""
TOLERATED = 0.02
"""Share of responses left out above which a warning says so."""


class Finding(NamedTuple):
    """A line of the page: its name, whether it is as it should be, and what was found."""

    name: str
    is_ok: bool
    text: str


def findings(setup: Setup[Options]) -> Iterator[Finding]:
    """Alignment, longest spans and prompts of a pair with two tokenizers.

    Raises:
        UserError: the tokens of one of them cannot be read as bytes.
    """
    aligner, problems = Aligner(setup.student, setup.teacher), setup.problems[:PROBLEMS]
    room = min(TOKENS, int(setup.options.max_tokens or TOKENS))
    found = [aligner.align(ids) for ids in _responses(setup, problems, room)]
    aligned = [one for one in found if isinstance(one, Alignment)]
    yield _coverage(room, aligned, found)
    if aligned:
        yield Finding("longest spans", True, _longest(aligner, aligned))
    for role, policy in (("student", setup.student), ("teacher", setup.teacher)):
        prompt = setup.prompts[role][problems[0].problem_id]
        yield Finding(f"{role} prompt", True, _prompt(policy, prompt))


def _responses(setup: Setup[Options], problems: Sequence[Problem], room: int) -> list[Ids]:
    """What the student writes to each problem."""
    asked, prompts = [problem.problem_id for problem in problems], setup.prompts["student"]
    requests = [Request(prompts[name], (), room, "preflight", name, 0) for name in asked]
    engine = TransformersEngine(setup.student, batch_rows=len(requests))
    return [response.ids for response in engine.sample(requests, SamplingSettings())]


def _coverage(
    room: int, aligned: Sequence[Alignment], found: Sequence[Alignment | Reason]
) -> Finding:
    """How much of the responses is in short spans, and how many were left out, and why."""
    lost = [one for one in found if isinstance(one, str)]
    parts = [f"{len(found)} responses of up to {room} tokens"]
    if aligned:
        of_limits = coverage(aligned).items()
        shares = [
            f"{rounded(100 * share.bytes, 1)} and {rounded(100 * share.student_tokens, 1)} % up to "
            f"{limit}"
            for limit, share in of_limits
        ]
        parts.append(f"bytes and student tokens in spans of tokens: {', '.join(shares)}")
    reasons = [
        f"{lost.count(reason)} {words}" for reason, words in REASONS.items() if reason in lost
    ]
    if reasons:
        parts.append(f"left out: {', '.join(reasons)}")
    is_ok = bool(found) and len(lost) <= TOLERATED * len(found)
    return Finding("alignment", is_ok, "; ".join(parts))


def _longest(aligner: Aligner, aligned: Sequence[Alignment]) -> str:
    """The spans of most tokens, each with its tokens on both sides."""
    spans = [(one, span) for one in aligned for span in one.spans]
    spans.sort(key=lambda pair: -pair[1].tokens)
    shown = dict.fromkeys(_shown(aligner, one, span) for one, span in spans)
    return "; ".join([*shown][:WORST])


def _shown(aligner: Aligner, alignment: Alignment, span: Span) -> str:
    sides = (
        aligner.student.tokenizer.convert_ids_to_tokens(list(alignment.student[span.student])),
        aligner.teacher.tokenizer.convert_ids_to_tokens(list(alignment.teacher[span.teacher])),
    )
    student, teacher = (" ".join(map(repr, tokens)) for tokens in sides)
    return f"{student} are {teacher}"


def _prompt(policy: Policy, ids: Ids) -> str:
    """A prompt as its policy reads it, its middle left out where it is long."""
    text = str(policy.tokenizer.decode(list(ids)))
    shown = text if len(text) <= 2 * SHOWN else f"{text[:SHOWN]} ... {text[-SHOWN:]}"
    return f"{len(ids)} tokens: {shown!r}"
