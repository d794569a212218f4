"""Reads rollout files to the end, one row at a time, and says what was understood.

    read = read_files(paths, ReadSettings(), student)
    read.counts.rollouts, read.problems, read.rollouts

What is kept are the rollouts to the problems that are asked; of all others only counts, so that a
file may be larger than the memory. Nothing is guessed in silence: what can be read in two ways is
refused, with the option that decides.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from decaylab.errors import UserError
from decaylab.policies.loading import Policy
from decaylab.problems.answers import exact, tidy
from decaylab.problems.nested_columns import gold_text
from decaylab.problems.sets import Problem
from decaylab.rollout_files import files
from decaylab.rollout_files.formats import inspect_logs, openai
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.registry import recognise
from decaylab.rollout_files.given_prompts import (
    GivenPrompt,
    PromptKind,
    PromptReader,
    content_of,
    endings,
    letters,
)
from decaylab.rollout_files.record import ABSENT, Record
from decaylab.rollout_files.stops import NO_RESPONSE, NOT_SAID, Ends, Kind, Stop, stop_of

WithPrompt = Literal["refuse", "cut", "keep"]
NoStop = Literal["unknown", "natural", "cut-off"]
CHOSEN: dict[NoStop, Kind] = {"unknown": "unknown", "natural": "natural", "cut-off": "cut"}
LEAST_QUESTION = 12
"""Characters of a question that a response may begin with only by repeating it."""
NAMED = 3
NUMBERED = ("columns", "decaylab")
"""Formats whose sample numbers are those of the problem; others number the rollouts of a
request."""


@dataclass(frozen=True)
class ReadSettings:
    """How files are read. None and "auto": as it is recognised.

    format: of all files. columns: role -> name. prompt_kind, prompt_in_response, no_stop_reason:
    the options of these names.
    limit: problems of the file's own that are kept. wanted: of the problems of a set that was named
        beside the file, by id how they may read there, as they are asked first; the file's own
        problems are not read then. golds: their gold answers.
    """

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    prompt_kind: PromptKind = "auto"
    prompt_in_response: WithPrompt = "refuse"
    no_stop_reason: NoStop = "unknown"
    limit: int | None = None
    wanted: Mapping[str, Sequence[str]] | None = None
    golds: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GivenRollout:
    """One rollout of a file that is kept: to which problem, which of its samples, and what the file
    says of it."""

    problem_id: str
    sample: int
    place: str
    record: Record
    stop: Stop


@dataclass
class Counts:
    """What was found in all files together, in rollouts unless a comment says otherwise."""

    rows: int = 0  # of the files
    rollouts: int = 0  # without those that were aborted
    formats: Counter[str] = field(default_factory=Counter)  # files by the title of their format
    prompts: Counter[str] = field(default_factory=Counter)  # problems by the kind of their prompt
    stops: Counter[tuple[str, Kind]] = field(
        default_factory=Counter
    )  # by what the file says, and what that means
    with_ids: int = 0
    with_text: int = 0
    with_mask: int = 0
    with_turns: int = 0
    reasoning: int = 0
    aborted: int = 0
    cut_prompts: int = 0  # responses from which the prompt was cut off
    empty: int = 0  # responses without text and ids, which stay
    unwrapped: int = 0  # problems whose gold answer was an object or list of one value
    hashes: int = 0  # problems whose gold answer stood behind ####
    no_gold: int = 0  # problems
    other_gold: list[str] = field(
        default_factory=list
    )  # problems of a set to which the file has another gold answer
    grades: Counter[str] = field(default_factory=Counter)
    steps: set[int] = field(default_factory=set)  # of training, where the rows say
    halves: int = 0  # rows in which half a character was replaced


@dataclass(frozen=True)
class Read:
    """What files hold. problems: those that they bring themselves, in order, and ``prompts`` how
    those are given.

    rollouts: of the problems that are asked. samples: most rollouts to one problem. problem_count:
    of all.
    """

    paths: tuple[Path, ...]
    content_hash: str
    counts: Counts
    problems: tuple[Problem, ...]
    prompts: Mapping[str, GivenPrompt]
    prompt_ids: Mapping[str, tuple[int, ...]]
    rollouts: tuple[GivenRollout, ...]
    samples: int
    problem_count: int

    @property
    def name(self) -> str:
        """Of the file, or of the first and how many there are."""
        return self.paths[0].name + (
            f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        )


def read_files(
    paths: Sequence[Path],
    settings: ReadSettings,
    student: Policy,
    progress: files.Progress | None = None,
) -> Read:
    """Reads rollout files whole.

    Args:
        student: whose template and tokenizer prompts are parsed with; its weights are not needed.
        progress: takes the number of bytes read.

    Raises:
        UserError: a malformed file or row, one that can be read in two ways, or no rollout at all.
    """
    reading = _Reading(settings, PromptReader(student, settings.prompt_kind))
    ordered = sorted(paths, key=_holds_requests, reverse=True) if len(paths) > 1 else paths
    for path in ordered:  # what answers them may have an earlier name
        reading.read(path, progress)
    return reading.result(tuple(paths))


class _Reading:
    def __init__(self, settings: ReadSettings, prompts: PromptReader) -> None:
        self.settings, self.reader, self.counts = settings, prompts, Counts()
        control, end_ids = prompts.student.control.texts, prompts.student.end_ids
        texts = {control[one]: one for one in end_ids if one in control}
        self.ends = Ends(texts, frozenset((*end_ids, *control)))
        self.requests: dict[str, Record] = {}
        self.samples: Counter[str] = Counter()
        self.places: set[int] = set()  # hashes of problem and sample
        self.contents: dict[str, int] = {}  # problem -> hash of prompt and answer
        self.problems: dict[str, Problem] = {}
        self.prompts: dict[str, GivenPrompt] = {}
        self.asked = {
            text.strip(): name for name, texts in (settings.wanted or {}).items() for text in texts
        }
        self.matches: dict[int, str | None] = {}  # hash of a prompt -> problem of the set
        self.prompt_ids: dict[str, tuple[int, ...]] = {}
        self.rollouts: list[GivenRollout] = []
        self.begins: list[str] = []  # places of responses that begin with their prompt
        self.begins_count = 0

    # Rows

    def read(self, path: Path, progress: files.Progress | None) -> None:
        format: Format | None = None
        halves: list[str] = []
        for place, row in _rows(path, progress, halves):
            if format is None:
                format = recognise(row, place, self.settings.columns, self.settings.format)
                self.counts.formats[format.title] += 1
            self.counts.rows += 1
            step = row.get("step")
            if isinstance(step, int) or (
                isinstance(step, str) and step.isdecimal()
            ):  # TRL wrote it as text once
                self.counts.steps.add(int(step))
            tools = _tools(row)
            for record in format.records(row, place):
                if tools and record.prompt_ids is None and isinstance(record.prompt, list):
                    raise UserError(
                        f"{place}: the row defines tools, which are not rendered into its prompt; "
                        "give the prompt as it was "
                        "rendered, or as token ids (prompt_ids)"
                    )
                self._take(record, place, format.name in NUMBERED)
        self.counts.halves += len(halves)

    def _take(self, record: Record, place: str, numbered: bool) -> None:
        if record.response is None and record.response_ids is None and record.turns is None:
            if record.request_id is not None and (
                record.prompt is not None or record.prompt_ids is not None
            ):
                self.requests[record.request_id] = record
                return
            record.stop = record.stop if stop_of(record).kind == "aborted" else NO_RESPONSE
        stop = self._stop(record)
        self.counts.stops[stop.value, stop.kind] += 1
        if stop.kind == "aborted":
            self.counts.aborted += 1
            return
        self._join(record, place)
        problem_id = self._problem(record, place)
        sample = self._sample(record, problem_id, place, numbered)
        self._count(record)
        self._check_beginning(record, problem_id, place)
        if problem_id in self.prompts:
            self.rollouts.append(GivenRollout(problem_id, sample, place, record, stop))

    def _stop(self, record: Record) -> Stop:
        stop = stop_of(record, self.ends)
        return (
            Stop(CHOSEN[self.settings.no_stop_reason], NOT_SAID) if stop.kind == "unknown" else stop
        )

    def _join(self, record: Record, place: str) -> None:
        """Takes prompt and answer of the request that a response belongs to."""
        if record.request_id is None or record.prompt is not None or record.prompt_ids is not None:
            return
        request = self.requests.get(record.request_id)
        if request is None:
            if record.problem_id is None:
                record.problem_id = record.request_id
            return
        record.prompt, record.prompt_ids = request.prompt, request.prompt_ids
        record.problem_id = record.problem_id or request.problem_id or record.request_id
        if record.answer is ABSENT:
            record.answer = request.answer

    def _count(self, record: Record) -> None:
        counts = self.counts
        counts.rollouts += 1
        counts.with_ids += record.response_ids is not None
        counts.with_text += record.response is not None
        counts.with_mask += record.response_mask is not None and 0 in record.response_mask
        counts.with_turns += record.turns is not None
        counts.reasoning += bool(record.reasoning)
        counts.empty += not (record.response or record.response_ids or record.turns)
        for name in record.grades:
            counts.grades[name] += 1

    # Problems

    def _problem(self, record: Record, place: str) -> str:
        """The id of the problem; one that the file brings itself is added when it comes first."""
        brings = (
            record.prompt is not None or record.prompt_ids is not None
        ) and record.answer is not ABSENT
        has_prompt = record.prompt is not None or record.prompt_ids is not None
        if not brings and record.problem_id is None and not (self.asked and has_prompt):
            raise UserError(
                f"{place}: names no problem: give problem_id, or a prompt with its gold answer "
                "(prompt, answer), or say by "
                "--column which columns hold them"
            )
        asked = record.prompt if record.prompt is not None else record.prompt_ids
        if record.problem_id is None and self.asked:
            record.problem_id = self._match(record, place)
        problem_id = record.problem_id if record.problem_id is not None else _digest(asked)
        if asked is not None:
            content = hash((_canonical(asked), str(record.answer)))
            known = self.contents.setdefault(problem_id, content)
            if known != content:
                raise UserError(
                    f"{place}: problem {problem_id} has another prompt or gold answer than in an "
                    "earlier row"
                )
        if problem_id not in self.samples:
            self._add(record, problem_id, brings, place)
        return problem_id

    def _match(self, record: Record, place: str) -> str | None:
        """The problem of the set whose question a prompt is; None where it is none of them."""
        key = hash(_canonical(record.prompt if record.prompt is not None else record.prompt_ids))
        if key not in self.matches:
            self.matches[key] = self.asked.get(self._prompt(record, place).question.strip())
        return self.matches[key]

    def _add(self, record: Record, problem_id: str, brings: bool, place: str) -> None:
        prompt = self._prompt(record, place)
        self.counts.prompts[prompt.kind] += 1
        self._check_question(prompt, problem_id, place)
        named = problem_id in self.settings.golds and isinstance(record.answer, str | int | float)
        answer = self._answer(record, place) if brings or named else None
        if not self._is_asked(problem_id):
            return
        if answer and _differ(self.settings.golds.get(problem_id) or answer, answer):
            self.counts.other_gold.append(problem_id)
        self.prompts[problem_id] = prompt
        if record.prompt_ids is not None:
            self.prompt_ids[problem_id] = self.reader.ids_of(record.prompt_ids, prompt, place)
        if brings and self.settings.wanted is None:
            several = prompt.messages if len(prompt.messages) > 1 else ()
            self.problems[problem_id] = Problem(
                problem_id, prompt.question, answer, messages=several
            )

    def _check_question(self, prompt: GivenPrompt, problem_id: str, place: str) -> None:
        """Raises UserError where a problem of the set is named and another question stands beside
        its name."""
        *_, question = (self.settings.wanted or {}).get(problem_id, ("",))
        if prompt.kind != "named" and letters(question) not in letters(
            "".join(text for _, text in prompt.messages)
        ):
            raise UserError(
                f"{place}: problem {problem_id} of --problems asks {question!r:.50}, and the "
                f"prompt {prompt.question!r:.50}: "
                "give the set that the rollouts are to, or say by --column problem_id=NAME where "
                "its ids stand"
            )

    def _is_asked(self, problem_id: str) -> bool:
        """Whether a problem that comes first now is asked: of a set that was named, or among the
        first of the file."""
        limit, wanted = self.settings.limit, self.settings.wanted
        if wanted is not None:
            return problem_id in wanted
        return limit is None or len(self.prompts) < limit

    def _prompt(self, record: Record, place: str) -> GivenPrompt:
        if isinstance(record.prompt, str):
            found = self.reader.of_text(record.prompt, place, stripped=record.prompt_stripped)
            if record.prompt_ids is None or found.kind != "question":
                return found
            return self.reader.of_ids(
                record.prompt_ids, place
            )  # what was put around the question stands there
        if record.prompt is not None:
            return self.reader.of_messages(record.prompt, place)
        if record.prompt_ids is not None:
            return self.reader.of_ids(record.prompt_ids, place)
        texts = (self.settings.wanted or {}).get(str(record.problem_id))
        return GivenPrompt("named", (("user", texts[0]),) if texts else ())

    def _answer(self, record: Record, place: str) -> str | None:
        text, unwrapped = gold_text(record.answer, place, record.answer_name)
        self.counts.unwrapped += unwrapped
        if text and "####" in text:
            self.counts.hashes += 1
            text = text.rpartition("####")[2].strip().replace(",", "") or None
        self.counts.no_gold += not text
        return text

    def _sample(self, record: Record, problem_id: str, place: str, numbered: bool) -> int:
        """The number of the rollout. That of a request may come again with the next request to the
        same prompt."""
        sample = record.sample if record.sample is not None else self.samples[problem_id]
        self.samples[problem_id] += 1
        key = hash((problem_id, sample))
        if key in self.places and numbered:
            raise UserError(
                f"{place}: sample {sample} of problem {problem_id} stands already in an earlier row"
            )
        while key in self.places:
            sample += 1
            key = hash((problem_id, sample))
        self.places.add(key)
        return sample

    # Responses that hold their prompt

    def _check_beginning(self, record: Record, problem_id: str, place: str) -> None:
        if self.settings.prompt_in_response == "keep":
            return
        text = (
            None if record.response is None else self.reader.without_begin(record.response.lstrip())
        )
        found = (
            None
            if text is None
            else next(filter(text.startswith, self._beginnings(record, problem_id)), None)
        )
        asked, ids = record.prompt_ids or [], record.response_ids
        repeats = (
            bool(asked) and ids is not None and len(ids) > len(asked) and ids[: len(asked)] == asked
        )
        repeated = self._repeated_turns(record, problem_id, place)
        if found is None and not repeats and not repeated:
            return
        if self.settings.prompt_in_response == "refuse":
            self.begins_count += 1
            if len(self.begins) < NAMED:
                self.begins.append(place)
            return
        self.counts.cut_prompts += 1
        record.turns = record.turns[repeated:] if record.turns else record.turns
        if text is not None and found is not None:
            record.response = text[len(found) :]
        if repeats and ids is not None:
            mask = record.response_mask
            record.response_mask = None if mask is None else mask[len(asked) :]
            record.response_ids = ids[len(asked) :]

    def _repeated_turns(self, record: Record, problem_id: str, place: str) -> int:
        """How many of the first turns are those of the prompt; its last message has to be one of
        them."""
        prompt, turns = self.prompts.get(problem_id), record.turns or []
        before = next(
            (number for number, one in enumerate(turns) if one.get("role") == "assistant"), 0
        )
        if prompt is None or not before:
            return 0
        size = len(prompt.messages)
        given = [content_of(one, place).strip() for one in turns[:size]]
        if given == [text.strip() for _, text in prompt.messages]:
            return size
        last = content_of(turns[before - 1], place).strip()
        return before if last in (prompt.question.strip(), record.prompt) else 0

    def _beginnings(self, record: Record, problem_id: str) -> Iterator[str]:
        """The texts that a response begins with where it holds its prompt, the longest first."""
        prompt = self.prompts.get(problem_id)
        if isinstance(record.prompt, str):
            whole = record.prompt.strip()
            rendered = prompt is not None and prompt.kind in ("rendered", "stripped")
            if rendered or len(whole) >= LEAST_QUESTION:
                yield from endings(self.reader.without_begin(record.prompt))
        if prompt is None or not prompt.messages:
            return
        yield from self.reader.renderings(prompt)
        if len(prompt.question) >= LEAST_QUESTION and prompt.question != record.prompt:
            yield prompt.question.strip()

    # The result

    def result(self, paths: tuple[Path, ...]) -> Read:
        if not self.counts.rollouts:
            left = f" but {self.counts.aborted} that were aborted" if self.counts.aborted else ""
            raise UserError(f"{', '.join(map(str, paths))} holds no rollouts{left}")
        if self.begins_count:
            raise UserError(
                f"{self.begins[0]}: {self.begins_count} of {self.counts.rollouts} responses begin "
                "with their prompt; "
                "--prompt-in-response cut cuts it off, and keep takes it for what the student wrote"
            )
        return Read(
            paths,
            files.content_hash(paths),
            self.counts,
            tuple(self.problems.values()),
            self.prompts,
            self.prompt_ids,
            tuple(self.rollouts),
            max(self.samples.values()),
            len(self.samples),
        )


def _holds_requests(path: Path) -> bool:
    """Whether a file is the input of a batch, by its first row."""
    if files.kind_of(path) in (".eval", ".parquet"):
        return False
    first = next(files.rows(path), None)
    return first is not None and openai.is_request(first[1])


def _rows(
    path: Path, progress: files.Progress | None, halves: list[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    if files.kind_of(path) != ".eval":
        for place, row in files.rows(path, progress, halves):
            if inspect_logs.is_log(row):
                break
            yield place, row
        else:
            return
    for number, row in enumerate(inspect_logs.rows(path), start=1):
        yield f"{path}, sample {number}", row


def _tools(row: Mapping[str, Any]) -> bool:
    """Whether a row, or the request in it, defines tools that its prompt was written with."""
    request = row.get("request")
    holders = (
        row,
        row.get("body"),
        request,
        request.get("body") if isinstance(request, dict) else None,
    )
    return any(
        isinstance(one, dict) and isinstance(one.get("tools"), list) and one["tools"]
        for one in holders
    )


def _differ(gold: str, other: str) -> bool:
    """Whether two gold answers are neither the same text nor the same number."""
    first, second = tidy(gold), tidy(other)
    return first != second and (exact(first) is None or exact(first) != exact(second))


def _canonical(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)


def _digest(prompt: Any) -> str:
    return hashlib.sha256(str(_canonical(prompt)).encode()).hexdigest()[:12]
