"""Reads rollout files to the end, one row at a time, and says what was understood.

    read = read_files(paths, ReadSettings(), student)
    read.counts.rollouts, read.problems, read.rollouts

Rollouts are kept of the problems that are measured; of all others there are only counts, so that a
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
from decaylab.policies.policy import Policy
from decaylab.problems.files import Progress, Row
from decaylab.problems.nested_columns import gold_text
from decaylab.problems.plain_numbers import exact, tidy
from decaylab.problems.sets import Problem
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
"""Formats whose sample numbers are those of the problem; others number the rollouts of a
request."""


@dataclass(frozen=True)
class ReadSettings:
    """How files are read. None and "auto": as it is recognised.

    format: of all files. columns: role -> name. prompt_kind, prompt_in_response, no_stop_reason:
    the options of these names.
    limit: number of problems of the file's own that are kept.
    wanted: problem_id -> the texts that a problem may have in the file, the rendered one first; for
        a problem set that was named beside the file, whose own problems are then not read.
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
    """One rollout of a file that is kept: its problem, its number among the samples, and what the
    file says of it."""

    problem_id: str
    sample: int
    place: str
    record: Record
    stop: Stop


@dataclass
class Counts:
    """What all files hold together, in rollouts unless a comment says otherwise.

    Names are those of run.json, where these are stored.
    """

    rows: int = 0  # of the files
    rollouts: int = 0  # without those that were aborted
    formats: Counter[str] = field(default_factory=Counter)  # files by the title of their format
    prompts: Counter[PromptForm] = field(
        default_factory=Counter
    )  # problems by the kind of their prompt
    # By what the file says, and what that means.
    stops: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    token_ids: int = 0
    texts: int = 0
    masked: int = 0
    turns: int = 0
    thoughts_apart: int = 0
    aborted: int = 0
    prompts_cut_off: int = 0  # responses from which the prompt was cut off
    empty: int = 0  # responses without text and ids, which stay
    gold_unwrapped: int = 0  # problems whose gold answer was an object or list of one value
    gold_behind_hashes: int = 0  # problems whose gold answer followed ####
    without_gold: int = 0  # problems
    # Problems of a set to which the file has another gold answer.
    other_gold: list[str] = field(default_factory=list)
    grades: Counter[str] = field(default_factory=Counter)
    steps: set[int] = field(default_factory=set)  # of training, where the rows say
    halves: int = 0  # rows in which half a character was replaced


@dataclass(frozen=True)
class Read:
    """What files hold.

    problems: those that the files bring themselves, in order. prompts: how the problems that are
    measured are given. prompt_ids: of those given as ids.
    rollouts: of the problems that are measured. samples: most rollouts of one problem.
    problem_count: of all problems.
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
        more = f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""
        return self.paths[0].name + more


def read_files(
    paths: Sequence[Path],
    settings: ReadSettings,
    student: Policy,
    progress: Progress = lambda count: None,
) -> Read:
    """Reads rollout files whole.

    Args:
        student: whose template and tokenizer prompts are parsed with; its weights are not needed.
        progress: takes the number of bytes read.

    Raises:
        UserError: a malformed file or row, one that can be read in two ways, or no rollout at all.
    """
    reading = _Reading(settings, PromptReader(student, settings.prompt_kind))
    # Requests first: the file of their responses may have an earlier name.
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
        # Hashes in the place of texts: a file may have millions of rows.
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
                        f"{place}: the row defines tools, which are not rendered into its prompt; "
                        "give the prompt as it was rendered, or as token ids (prompt_ids)"
                    )
                self._take(record, place, format.name in NUMBERED)
        self.counts.halves += len(halves)

    def _take(self, record: Record, place: str, numbered: bool) -> None:
        # A row without a response is a request, or a rollout whose engine wrote nothing.
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
        # The order matters: a problem is added before its first rollout is counted.
        problem_id = self._problem(record, place)
        sample = self._sample(record, problem_id, place, numbered)
        self._count(record)
        prompt = self.prompts.get(problem_id)
        self.counts.prompts_cut_off += self.repeats.cut(record, prompt, place)
        if prompt is not None:
            self.rollouts.append(GivenRollout(problem_id, sample, place, record, stop))

    def _join(self, record: Record) -> None:
        """Takes prompt and answer of the request that a response belongs to."""
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
        """The id of the problem. A problem that the file brings itself is added when it comes
        first."""
        asked = record.asked
        brings = asked is not None and record.answer is not ABSENT
        if record.problem_id is None and asked is not None and self.by_text:
            record.problem_id = self._match(record, place)
        elif record.problem_id is None and not brings:
            raise UserError(
                f"{place}: names no problem: give problem_id, or a prompt with its gold answer "
                "(prompt, answer), or say by --column which columns hold them"
            )
        problem_id = record.problem_id
        if problem_id is None:
            problem_id = hashlib.sha256(str(_canonical(asked)).encode()).hexdigest()[:12]
        if asked is not None:
            content = hash((_canonical(asked), str(record.answer)))
            if self.contents.setdefault(problem_id, content) != content:
                raise UserError(
                    f"{place}: problem {problem_id} has another prompt or gold answer than in an "
                    "earlier row"
                )
        if problem_id not in self.samples:
            self._add(record, problem_id, brings, place)
        return problem_id

    def _match(self, record: Record, place: str) -> str | None:
        """The problem of the set whose question a prompt is; None where it is none of them."""
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
        # Measured are the problems of the set that was named, or the first of the file.
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
            # The student reads the very ids that the rollouts were sampled from.
            self.prompt_ids[problem_id] = self.reader.ids_of(record.prompt_ids, prompt, place)
        if brings and self.settings.wanted is None:
            messages = prompt.messages if len(prompt.messages) > 1 else ()
            self.problems[problem_id] = Problem(
                problem_id, prompt.question, answer, messages=messages
            )

    def _check_question(self, prompt: GivenPrompt, problem_id: str, place: str) -> None:
        """Raises UserError where a problem of the set is named and another question stands beside
        its name."""
        *_, question = self.wanted.get(problem_id, ("",))
        text = "".join(text for _, text in prompt.messages)
        if prompt.kind != "named" and letters(question) not in letters(text):
            raise UserError(
                f"{place}: problem {problem_id} of --problems asks {question!r:.50}, and the "
                f"prompt {prompt.question!r:.50}: give the set that the rollouts are to, or say by "
                "--column problem_id=NAME where its ids stand"
            )

    def _prompt(self, record: Record, place: str) -> GivenPrompt:
        ids = record.prompt_ids
        if isinstance(record.prompt, str):
            prompt = self.reader.of_text(record.prompt, place, stripped=record.prompt_stripped)
            if ids is None or prompt.kind != "question":
                return prompt
            # What was put around a bare question stands in the ids.
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
            # As in GSM8K: the answer behind the marks, thousands with commas.
            text = text.rpartition("####")[2].strip().replace(",", "") or None
        self.counts.without_gold += not text
        return text

    def _sample(self, record: Record, problem_id: str, place: str, numbered: bool) -> int:
        """The number of the rollout. That of a request may come again with the next request to the
        same prompt."""
        sample = record.sample if record.sample is not None else self.samples[problem_id]
        self.samples[problem_id] += 1
        while (key := hash((problem_id, sample))) in self.places:
            if numbered:
                raise UserError(
                    f"{place}: sample {sample} of problem {problem_id} stands already in an "
                    "earlier row"
                )
            sample += 1
        self.places.add(key)
        return sample

    # The result

    def result(self, paths: tuple[Path, ...]) -> Read:
        counts = self.counts
        if not counts.rollouts:
            but = f" but {counts.aborted} that were aborted" if counts.aborted else ""
            raise UserError(f"{', '.join(map(str, paths))} holds no rollouts{but}")
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
    """Whether a file is the input of a batch, by its first row."""
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
    """Whether a row, or the request in it, defines tools that its prompt was written with."""
    request = row.get("request")
    holders = [row, row.get("body"), request]
    if isinstance(request, dict):
        holders.append(request.get("body"))
    tools = [holder.get("tools") for holder in holders if isinstance(holder, dict)]
    return any(isinstance(tool, list) and tool for tool in tools)


def _differ(gold: str, other: str) -> bool:
    """Whether two gold answers are neither the same text nor the same number."""
    first, second = tidy(gold), tidy(other)
    return first != second and (exact(first) is None or exact(first) != exact(second))


def _canonical(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
