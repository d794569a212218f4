"""Reads whole rollout files, one row at a time, and counts what was found.

    read = read_files(paths, ReadSettings(), student)
    read.counts.rollouts, read.problems, read.rollouts

Only rollouts of the measured problems are kept; others are counted, so files may be larger than
memory. Ambiguous input is refused, with the option that resolves it.
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
from decaylab.policies.policy import Policy
from decaylab.problems.files import Progress, Row
from decaylab.problems.nested_columns import gold_text
from decaylab.problems.plain_numbers import exact, tidy
from decaylab.problems.problem import Problem
from decaylab.rollout_files import files
from decaylab.rollout_files.formats import inspect_logs, openai
from decaylab.rollout_files.formats.format import Format
from decaylab.rollout_files.formats.registry import recognise
from decaylab.rollout_files.given_prompts import GivenPrompt, PromptKind, PromptReader, letters
from decaylab.rollout_files.given_prompts import Kind as PromptForm
from decaylab.rollout_files.record import ABSENT, Record
from decaylab.rollout_files.repeated_prompts import RepeatedPrompts, WithPrompt
from decaylab.rollout_files.stops import NO_RESPONSE, NOT_SAID, Ends, Kind, Stop, stop_of

NoStop = Literal["unknown", "natural", "cut-off"]
CHOSEN: dict[NoStop, Kind] = {"unknown": "unknown", "natural": "natural", "cut-off": "cut"}
NUMBERED = ("columns", "decaylab")
"""Formats that number samples within a problem; others number them within a request."""


@dataclass(frozen=True)
class ReadSettings:
    """How files are read. None and "auto": recognised from the file.

    format: of all files. columns: role -> name. prompt_kind, prompt_in_response, no_stop_reason:
        the options of these names.
    limit: number of the file's own problems to keep.
    wanted: problem_id -> texts that the problem may have in the file, with the instruction first;
        for a named problem set, in place of the file's own problems.
    golds: problem_id -> gold answer of that set.
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
    """A rollout that is kept: its problem, sample number, place in the file, record and stop."""

    problem_id: str
    sample: int
    place: str
    record: Record
    stop: Stop


@dataclass
class Counts:
    """Counts over all files, in rollouts unless a comment says otherwise.

    run.json uses the same names.
    """

    rows: int = 0  # in all files
    rollouts: int = 0  # without aborted ones
    formats: Counter[str] = field(default_factory=Counter)  # files by format title
    prompts: Counter[PromptForm] = field(default_factory=Counter)  # problems by kind of prompt
    # By the file's value and its meaning.
    stops: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    token_ids: int = 0
    texts: int = 0
    masked: int = 0
    turns: int = 0
    thoughts_apart: int = 0
    aborted: int = 0
    prompts_cut_off: int = 0  # responses from which the prompt was cut off
    empty: int = 0  # responses without text and ids, which are kept
    gold_unwrapped: int = 0  # problems whose gold answer was an object or list of one value
    gold_behind_hashes: int = 0  # problems whose gold answer followed ####
    without_gold: int = 0  # problems
    # Problems of a named set for which the file has a different gold answer.
    other_gold: list[str] = field(default_factory=list)
    grades: Counter[str] = field(default_factory=Counter)
    steps: set[int] = field(default_factory=set)  # training steps in the rows
    halves: int = 0  # rows in which half a character was replaced


@dataclass(frozen=True)
class Read:
    """The contents of rollout files.

    problems: the files' own problems, in order. prompts: parsed prompts of the measured problems.
    prompt_ids: those given as ids. rollouts: of the measured problems. samples: largest number of
    rollouts of one problem. problem_count: number of all problems.
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
        """Name of the file, or of the first one and the number of others."""
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return self.paths[0].name + more


def read_files(
    paths: Sequence[Path],
    settings: ReadSettings,
    student: Policy,
    progress: Progress = lambda count: None,
) -> Read:
    """Reads whole rollout files.

    Args:
        paths: the files.
        settings: how to read them.
        student: its template and tokenizer parse the prompts; weights are not needed.
        progress: called with the number of bytes read.

    Raises:
        UserError: a malformed or ambiguous file or row, or no rollouts at all.
    """
    reading = _Reading(settings, PromptReader(student, settings.prompt_kind))
    # Requests first, whatever the order of the file names.
    ordered = sorted(paths, key=_holds_requests, reverse=True) if len(paths) > 1 else paths
    for path in ordered:
        reading.read(path, progress)
    return reading.result(tuple(paths))


class _Reading:
    def __init__(self, settings: ReadSettings, prompts: PromptReader) -> None:
        self.settings, self.reader, self.counts = settings, prompts, Counts()
        control, end_ids = prompts.student.control.texts, prompts.student.end_ids
        end_texts = {control[token]: token for token in end_ids if token in control}
        self.ends = Ends(end_texts, frozenset((*end_ids, *control)))
        self.repeats = RepeatedPrompts(prompts, settings.prompt_in_response)
        self.requests: dict[str, Record] = {}
        self.samples: Counter[str] = Counter()
        # Hashes instead of texts: a file may have millions of rows.
        self.places: set[int] = set()  # hashes of problem and sample
        self.contents: dict[str, int] = {}  # problem -> hash of prompt and answer
        self.problems: dict[str, Problem] = {}
        self.prompts: dict[str, GivenPrompt] = {}
        self.wanted = settings.wanted or {}
        self.by_text = {text.strip(): name for name, texts in self.wanted.items() for text in texts}
        self.matches: dict[int, str | None] = {}  # hash of a prompt -> problem of the set
        self.prompt_ids: dict[str, tuple[int, ...]] = {}
        self.rollouts: list[GivenRollout] = []

    # Rows

    def read(self, path: Path, progress: Progress) -> None:
        format: Format | None = None
        halves: list[str] = []
        for place, row in _rows(path, progress, halves):
            # A file has one format: the first row decides.
            if format is None:
                format = recognise(row, place, self.settings.columns, self.settings.format)
                self.counts.formats[format.title] += 1
            self.counts.rows += 1
            step = row.get("step")
            if isinstance(step, int) or (isinstance(step, str) and step.isdecimal()):
                self.counts.steps.add(int(step))  # TRL wrote it as text once
            tools = _tools(row)
            for record in format.records(row, place):
                if tools and record.prompt_ids is None and isinstance(record.prompt, list):
                    raise UserError(
                        f"{place}: the row defines tools, which cannot be rendered into its "
                        "prompt; give the rendered prompt or its token ids (prompt_ids)"
                    )
                self._take(record, place, format.name in NUMBERED)
        self.counts.halves += len(halves)

    def _take(self, record: Record, place: str, numbered: bool) -> None:
        # A row without a response is a request, or a rollout that the engine did not produce.
        if not record.has_response:
            if record.request_id is not None and record.asked is not None:
                self.requests[record.request_id] = record
                return
            if stop_of(record).kind != "aborted":
                record.stop = NO_RESPONSE
        stop = stop_of(record, self.ends)
        if stop.kind == "unknown":
            stop = Stop(CHOSEN[self.settings.no_stop_reason], NOT_SAID)
        self.counts.stops[stop.value, stop.kind] += 1
        if stop.kind == "aborted":
            self.counts.aborted += 1
            return
        self._join(record)
        # Order matters: _problem adds a new problem before _sample counts its first rollout.
        problem_id = self._problem(record, place)
        sample = self._sample(record, problem_id, place, numbered)
        self._count(record)
        prompt = self.prompts.get(problem_id)
        self.counts.prompts_cut_off += self.repeats.cut(record, prompt, place)
        if prompt is not None:
            self.rollouts.append(GivenRollout(problem_id, sample, place, record, stop))

    def _join(self, record: Record) -> None:
        """Copies prompt and answer from the request of a response."""
        if record.request_id is None or record.asked is not None:
            return
        request = self.requests.get(record.request_id)
        if request is not None:
            record.prompt, record.prompt_ids = request.prompt, request.prompt_ids
            record.problem_id = record.problem_id or request.problem_id
            if record.answer is ABSENT:
                record.answer = request.answer
        record.problem_id = record.problem_id or record.request_id

    def _count(self, record: Record) -> None:
        counts = self.counts
        counts.rollouts += 1
        counts.token_ids += record.response_ids is not None
        counts.texts += record.response is not None
        counts.masked += record.response_mask is not None and 0 in record.response_mask
        counts.turns += record.turns is not None
        counts.thoughts_apart += bool(record.reasoning)
        counts.empty += not (record.response or record.response_ids or record.turns)
        counts.grades.update(record.grades.keys())

    # Problems

    def _problem(self, record: Record, place: str) -> str:
        """The id of the record's problem; adds a new problem of the file."""
        asked = record.asked
        brings = asked is not None and record.answer is not ABSENT
        if record.problem_id is None and asked is not None and self.by_text:
            record.problem_id = self._match(record, place)
        elif record.problem_id is None and not brings:
            raise UserError(
                f"{place}: the row has no problem: it needs problem_id, or a prompt with its gold "
                "answer (prompt, answer); --column maps other column names"
            )
        problem_id = record.problem_id
        if problem_id is None:
            problem_id = hashlib.sha256(str(_canonical(asked)).encode()).hexdigest()[:12]
        if asked is not None:
            content = hash((_canonical(asked), str(record.answer)))
            if self.contents.setdefault(problem_id, content) != content:
                raise UserError(
                    f"{place}: problem {problem_id} has a different prompt or gold answer in an "
                    "earlier row"
                )
        if problem_id not in self.samples:
            self._add(record, problem_id, brings, place)
        return problem_id

    def _match(self, record: Record, place: str) -> str | None:
        """The problem of the named set with the record's question; None if there is none."""
        key = hash(_canonical(record.asked))
        if key not in self.matches:
            self.matches[key] = self.by_text.get(self._prompt(record, place).question.strip())
        return self.matches[key]

    def _add(self, record: Record, problem_id: str, brings: bool, place: str) -> None:
        prompt = self._prompt(record, place)
        self.counts.prompts[prompt.kind] += 1
        self._check_question(prompt, problem_id, place)
        named = problem_id in self.settings.golds and isinstance(record.answer, str | int | float)
        answer = self._answer(record, place) if brings or named else None
        # Keep the problems of the named set, or the first ones of the file.
        limit = self.settings.limit
        if self.settings.wanted is not None:
            limit = None if problem_id in self.wanted else 0
        if limit is not None and len(self.prompts) >= limit:
            return
        gold = self.settings.golds.get(problem_id)
        if gold and answer and _differ(gold, answer):
            self.counts.other_gold.append(problem_id)
        self.prompts[problem_id] = prompt
        if record.prompt_ids is not None:
            # The student reads the exact ids that the rollouts were sampled from.
            self.prompt_ids[problem_id] = self.reader.ids_of(record.prompt_ids, prompt, place)
        if brings and self.settings.wanted is None:
            messages = prompt.messages if len(prompt.messages) > 1 else ()
            self.problems[problem_id] = Problem(
                problem_id, prompt.question, answer, messages=messages
            )

    def _check_question(self, prompt: GivenPrompt, problem_id: str, place: str) -> None:
        """Raises UserError if the id is in the named set but the prompt has another question."""
        *_, question = self.wanted.get(problem_id, ("",))
        text = "".join(text for _, text in prompt.messages)
        if prompt.kind != "named" and letters(question) not in letters(text):
            raise UserError(
                f"{place}: problem {problem_id} of --problems is {question!r:.50}, but the prompt "
                f"is {prompt.question!r:.50}: give the problem set of these rollouts, or the "
                "column of its ids with --column problem_id=NAME"
            )

    def _prompt(self, record: Record, place: str) -> GivenPrompt:
        ids = record.prompt_ids
        if isinstance(record.prompt, str):
            prompt = self.reader.of_text(record.prompt, place, stripped=record.prompt_stripped)
            if ids is None or prompt.kind != "question":
                return prompt
            # The ids of a bare question include its rendered prompt.
        elif record.prompt is not None:
            return self.reader.of_messages(record.prompt, place)
        if ids is not None:
            return self.reader.of_ids(ids, place)
        texts = self.wanted.get(str(record.problem_id))
        return GivenPrompt("named", (("user", texts[0]),) if texts else ())

    def _answer(self, record: Record, place: str) -> str | None:
        text, unwrapped = gold_text(record.answer, place, record.answer_name)
        self.counts.gold_unwrapped += unwrapped
        if text and "####" in text:
            self.counts.gold_behind_hashes += 1
            # As in GSM8K: the answer follows ####, with commas in thousands.
            text = text.rpartition("####")[2].strip().replace(",", "") or None
        self.counts.without_gold += not text
        return text

    def _sample(self, record: Record, problem_id: str, place: str, numbered: bool) -> int:
        """The sample number of the rollout within its problem.

        Numbers within a request may repeat with the next request for the same prompt.
        """
        sample = record.sample if record.sample is not None else self.samples[problem_id]
        self.samples[problem_id] += 1
        while (key := hash((problem_id, sample))) in self.places:
            if numbered:
                raise UserError(
                    f"{place}: sample {sample} of problem {problem_id} is already in an earlier row"
                )
            sample += 1
        self.places.add(key)
        return sample

    # The result

    def result(self, paths: tuple[Path, ...]) -> Read:
        counts = self.counts
        if not counts.rollouts:
            but = f" except {counts.aborted} that were aborted" if counts.aborted else ""
            raise UserError(f"{', '.join(map(str, paths))} has no rollouts{but}")
        self.repeats.check(counts.rollouts)
        return Read(
            paths=paths,
            content_hash=files.content_hash(paths),
            counts=counts,
            problems=tuple(self.problems.values()),
            prompts=self.prompts,
            prompt_ids=self.prompt_ids,
            rollouts=tuple(self.rollouts),
            samples=max(self.samples.values()),
            problem_count=len(self.samples),
        )


def _holds_requests(path: Path) -> bool:
    """Whether a file is the input of an OpenAI batch, by its first row."""
    if files.kind_of(path) in (".eval", ".parquet"):
        return False
    first = next(files.rows(path), None)
    return first is not None and openai.is_request(first[1])


def _rows(path: Path, progress: Progress, halves: list[str]) -> Iterator[Row]:
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
    """Whether a row, or the request in it, defines tools."""
    request = row.get("request")
    holders = [row, row.get("body"), request]
    if isinstance(request, dict):
        holders.append(request.get("body"))
    tools = [holder.get("tools") for holder in holders if isinstance(holder, dict)]
    return any(isinstance(tool, list) and tool for tool in tools)


def _differ(gold: str, other: str) -> bool:
    """Whether two gold answers differ both as text and as numbers."""
    first, second = tidy(gold), tidy(other)
    return first != second and (exact(first) is None or exact(first) != exact(second))


def _canonical(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
