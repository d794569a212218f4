"""Student rollouts that somebody already has: a JSONL file in, rows of the rollouts table out.

Each line holds ``response`` (or ``text``, ``completion``, ``output``) and either ``problem_id`` of a problem in the set
that is asked, or ``question`` and ``answer`` of its own. ``sample`` numbers the rollouts of a problem (by order where it is
missing), ``stop_reason`` (or ``finish_reason``) says ``length`` or ``max_tokens`` for a rollout that was cut off; without
it a rollout counts as ended.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from decaylab.errors import UserError
from decaylab.graded import Judge
from decaylab.policies import Policy
from decaylab.problem_files import MENDED, mended_row
from decaylab.problems import Problem

RESPONSE_COLUMNS = ("response", "text", "completion", "output")
STOP_COLUMNS, CUT_OFF = ("stop_reason", "finish_reason"), ("length", "max_tokens", "max_length")
QUESTION_COLUMNS = ("question", "problem", "prompt")


@dataclass(frozen=True)
class ExternalRollout:
    """One line of the file."""

    problem_id: str
    sample: int
    response: str
    cut_off: bool


@dataclass(frozen=True)
class ExternalRollouts:
    """The lines of a file, the problems it brings itself (empty where it names those of a set), and its hash.

    notes: what a reader of the results must know about the lines.
    """

    rollouts: tuple[ExternalRollout, ...]
    problems: tuple[Problem, ...]
    content_hash: str
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Most rollouts of one problem."""
        return 1 + max(rollout.sample for rollout in self.rollouts)


def read(path: Path) -> ExternalRollouts:
    """Reads a JSONL file of rollouts.

    Raises:
        UserError: no such file, an empty one, a malformed line (with its number), a line without a response or a problem.
    """
    raw, text = _text(path)
    rollouts: list[ExternalRollout] = []
    problems: dict[str, Problem] = {}
    seen: dict[str, int] = defaultdict(int)
    places: dict[tuple[str, int], int] = {}
    broken = 0
    for number, line in enumerate(text.split("\n"), start=1):  # a line may hold other separators inside its text
        if not line.strip():
            continue
        place = f"{path}:{number}"
        found = _row(line, place)
        row = mended_row(found)
        broken += row != found
        response = _first(row, RESPONSE_COLUMNS)
        if not isinstance(response, str):
            raise UserError(f"{place}: no text under {' or '.join(RESPONSE_COLUMNS)} (found {', '.join(row)})")
        problem_id = _problem_of(row, place, problems)
        sample = _sample(row, place, seen[problem_id])
        seen[problem_id] += 1
        first = places.setdefault((problem_id, sample), number)
        if first != number:
            raise UserError(f"{place}: sample {sample} of problem {problem_id} stands already in line {first}")
        cut_off = _first(row, STOP_COLUMNS) in CUT_OFF
        rollouts.append(ExternalRollout(problem_id, sample, response, cut_off))
    if not rollouts:
        raise UserError(f"{path} holds no rollouts")
    notes = (f"{path.name}: {MENDED.format(broken, len(rollouts), 'lines')}",) if broken else ()
    return ExternalRollouts(tuple(rollouts), tuple(problems.values()), hashlib.sha256(raw).hexdigest(), notes)


def _text(path: Path) -> tuple[bytes, str]:
    """The bytes of a file, for its hash, and their text."""
    try:
        raw = path.read_bytes()
        return raw, raw.decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read rollouts {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{number}: not UTF-8 text ({error.reason})") from error


def _sample(row: dict[str, Any], place: str, by_order: int) -> int:
    sample = row.get("sample")
    if sample is None:
        return by_order
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        raise UserError(f"{place}: sample must be a whole number from 0, got {sample!r}")
    return sample


def _row(line: str, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{place}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: a line must be an object with a response, got {type(row).__name__}")
    return row


def _first(row: dict[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _problem_of(row: dict[str, Any], place: str, problems: dict[str, Problem]) -> str:
    """The id a line names; a line with a question of its own adds that problem."""
    question, answer, named = _first(row, QUESTION_COLUMNS), row.get("answer"), row.get("problem_id")
    if question is not None and "answer" in row:
        own = str(named if named is not None else hashlib.sha256(str(question).encode()).hexdigest()[:12])
        problem = Problem(own, str(question), None if answer is None else str(answer))
        if problems.setdefault(own, problem) != problem:
            raise UserError(f"{place}: problem {own} has another question or answer than in an earlier line")
        return own
    if named is None:
        raise UserError(f"{place}: neither problem_id nor question and answer (found {', '.join(row)})")
    return str(named)


def to_table(
    external: ExternalRollouts,
    problems: Sequence[Problem],
    author: Policy,
    judge: Judge,
    prompts: dict[str, tuple[int, ...]],
) -> tuple[pa.Table, tuple[str, ...]]:
    """Rows of the rollouts table, in the order of the problems, and notes; rollouts of other problems are not in it.

    The responses are encoded by the author's tokenizer, since only their text is known. One that goes on behind its first
    end of turn is cut there, and graded so.
    """
    by_problem: dict[str, list[ExternalRollout]] = defaultdict(list)
    for rollout in external.rollouts:
        by_problem[rollout.problem_id].append(rollout)
    chosen = [(problem, rollout) for problem in problems for rollout in by_problem[problem.problem_id]]
    read = [_response(rollout, author) for _, rollout in chosen]
    rows = [
        {
            "rollout_id": f"student/{problem.problem_id}/{rollout.sample}",
            "condition": "student",
            "problem_id": problem.problem_id,
            "sample": rollout.sample,
            "author": "student",
            "policy": author.name,
            "prompt_ids": prompts[problem.problem_id],
            "prefix_ids": [],
            "prefix_author": "",
            "prefix_tokens": 0,
            "prefix_rollout_id": "",
            "response_ids": read[index].ids,
            "text": read[index].text,
            "stop_reason": "eos" if read[index].ended else "length",
            "engine": "external",
        }
        for index, (problem, rollout) in enumerate(chosen)
    ]
    cut = sum(one.cut for one in read)
    notes = (f"{cut} of {len(read)} responses go on behind an end of turn: cut there",) if cut else ()
    return judge.table(rows), notes


@dataclass(frozen=True)
class _Response:
    """A response as the author's ids. cut: it went on behind its end of turn."""

    ids: list[int]
    text: str
    ended: bool
    cut: bool = False


def _response(rollout: ExternalRollout, author: Policy) -> _Response:
    """The ids of a response; one that ended is closed by one end-of-turn token, whether its text shows it or not."""
    ids = author.encode(rollout.response)
    end = next((place for place, token in enumerate(ids) if token in author.end_ids), None)
    if end is None:
        return _Response(ids if rollout.cut_off else [*ids, author.end_id], rollout.response, not rollout.cut_off)
    rest = [token for token in ids[end:] if token not in (*author.end_ids, author.pad_id)]
    if author.decode(rest).strip():
        return _Response(ids[: end + 1], author.decode(ids[: end + 1]), True, cut=True)
    return _Response(ids[: end + 1], rollout.response, True)
