r"""What is asked, where it comes from, and which version of it.

    load_problems("abacus")                                  # the generated world, the same on every machine
    load_problems("math500", limit=50)                       # from the hub; gsm8k likewise
    load_problems("math500:math500.jsonl")                   # a local copy of a known set
    load_problems("mine.jsonl", columns={"question": "q", "answer": "gold"})
    load_problems("owner/name:config", split="train", revision="v1.2")
    load_problems("gym:chain_sum", limit=200, seed=3)        # reasoning-gym, an extra

A set is read in its own order, never shuffled, and carries a version and a content hash into the run.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.metadata
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from decaylab import abacus
from decaylab.errors import UserError

TEST_SEED, TEST_COUNT = 0, 2000
"""The abacus problems that are asked; the recipe of the embedded pair never trains on one of them."""
GENERATED_COUNT = 100
"""Problems taken from a generated set (abacus, gym) when no limit is given."""
BOXED_INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."

QUESTION_COLUMNS, ID_COLUMNS = ("problem", "question", "prompt"), ("unique_id", "problem_id", "id")
FILE_SUFFIXES = (".parquet", ".jsonl", ".json")
DEFAULT_SPLITS = ("test", "train")
CONVERTED = "refs/convert/parquet"
_ABOUT = re.compile(r"(^|/)(\.|(dataset_infos?|config|package)\.json$)")  # hidden files, and JSON that holds no rows

Row = tuple[str, dict[str, Any]]
"""Where a row stands, for messages, and its columns."""


@dataclass(frozen=True)
class Problem:
    """One question with its gold answer.

    question: the text of the user's turn, without the set's instruction.
    answer: the gold answer as text; None where the set has none.
    steps: the chain behind the problem, where the world is known.
    """

    problem_id: str
    question: str
    answer: str | None
    steps: tuple[abacus.Step, ...] | None = None


@dataclass(frozen=True)
class ProblemSet:
    """Problems in their own order, with what a run must record about them.

    name: "abacus", "math500", "gsm8k", "gym:task", the hub id (with its configuration), or the file's name.
    version: of the generator, or the hub commit the rows were read from, or "local file".
    content_hash: SHA-256 over ids, questions and answers of the problems that are here, in order.
    instruction: what a chat turn appends to each question; "" for none.
    answer_rule: the answer rule the instruction calls for; the default, which a caller may override.
    notes: what a reader of the results must know about the rows, one sentence each.
    """

    name: str
    version: str
    content_hash: str
    instruction: str
    answer_rule: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def without_gold(self) -> int:
        """Number of problems that have no gold answer."""
        return sum(problem.answer is None for problem in self.problems)


@dataclass(frozen=True)
class _Known:
    """A named set: its hub repository and its own columns."""

    repo: str
    config: str | None
    question: str
    id: str | None


_KNOWN = {
    "math500": _Known("HuggingFaceH4/MATH-500", None, "problem", "unique_id"),
    "gsm8k": _Known("openai/gsm8k", "main", "question", None),
}


@dataclass(frozen=True)
class _Wanted:
    """The part of a set that the caller asked for."""

    limit: int | None
    revision: str | None
    split: str | None
    columns: Mapping[str, str] | None

    def refuse(self, spec: str, why: str, *names: str) -> None:
        given = [name for name in names if getattr(self, name)]
        if given:
            raise UserError(
                f"{spec} {why}, so it has no {' or '.join(given)} to choose; leave {' and '.join(given)} out"
            )


def load_problems(
    spec: str,
    *,
    limit: int | None = None,
    revision: str | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ProblemSet:
    """The problems that ``spec`` names, in their own order; with ``limit``, the first ones.

    Args:
        spec: ``abacus``; ``math500`` or ``gsm8k``, from the hub; ``math500:FILE`` or ``gsm8k:FILE``; a .jsonl, .json or
            .parquet file; a hub data set ``owner/name`` or ``owner/name:config``; ``gym:TASK``.
        limit: how many problems to take; None is all of them, and 100 of a generated set.
        revision: hub branch, tag or commit.
        split: hub split; None is test, and train where there is no test.
        columns: from question, answer and id to the set's own names; ``answer=""`` says that it has no answers.
        seed: of a gym task; abacus always asks its test problems.

    Raises:
        UserError: where the set, a file, a row or a column can't be used, or an argument has no meaning for the set.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1, got {limit}; leave it out to take every problem")
    wanted = _Wanted(limit, revision, split, columns)
    kind, _, rest = spec.partition(":")
    if spec == "abacus" or kind == "gym":
        wanted.refuse(spec, "is generated", "revision", "split", "columns")
        return _abacus(limit) if spec == "abacus" else _gym(rest, limit, seed)
    if spec in _KNOWN:
        return _from_hub(_KNOWN[spec].repo, _KNOWN[spec].config, spec, wanted)
    known = kind if kind in _KNOWN else None
    if known or spec.endswith(FILE_SUFFIXES) or Path(spec).exists():
        wanted.refuse(spec, "is a local file", "revision", "split")
        return _from_file(Path(rest if known else spec).expanduser(), known, wanted)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", kind):
        return _from_hub(kind, rest or None, None, wanted)
    raise _unknown(spec)


def _unknown(spec: str) -> UserError:
    close = difflib.get_close_matches(spec, ["abacus", *_KNOWN], n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return UserError(
        f"unknown problem set {spec!r}: {hint}give abacus, {', '.join(_KNOWN)}, gym:TASK, "
        f"a {', '.join(FILE_SUFFIXES)} file, or a hub data set as owner/name"
    )


def _abacus(limit: int | None) -> ProblemSet:
    count = GENERATED_COUNT if limit is None else limit
    if count > TEST_COUNT:
        raise UserError(f"abacus has {TEST_COUNT} test problems, got a limit of {limit}; give at most {TEST_COUNT}")
    drawn = abacus.generate(count, seed=TEST_SEED)
    problems = [
        Problem(f"abacus-{TEST_SEED}-{index:06d}", one.question, str(one.answer), one.steps)
        for index, one in enumerate(drawn)
    ]
    notes = _default_count(f"of {TEST_COUNT}", limit)
    return _problem_set("abacus", abacus.VERSION, problems, notes, instruction="")


def _default_count(of: str, limit: int | None) -> list[str]:
    return [f"the first {GENERATED_COUNT} problems {of} are taken, as no limit was given"] if limit is None else []


def _gym(task: str, limit: int | None, seed: int) -> ProblemSet:
    try:
        gym = importlib.import_module("reasoning_gym")
        tasks = sorted(importlib.import_module("reasoning_gym.factory").DATASETS)
    except ImportError as error:
        raise UserError(f'gym:{task} needs reasoning-gym ({error}): pip install "decaylab[gym]"') from error
    if task not in tasks:
        close = difflib.get_close_matches(task, tasks, n=3) or tasks[:3]
        raise UserError(f"reasoning-gym has no task {task!r} among its {len(tasks)}; close ones: {', '.join(close)}")
    count = GENERATED_COUNT if limit is None else limit
    try:
        drawn = gym.create_dataset(task, size=count, seed=seed)
        rows = [(f"{task}, row {index + 1}", dict(drawn[index])) for index in range(count)]
    except (AssertionError, ValueError, TypeError) as error:  # a task that needs a configuration of its own
        raise UserError(f"reasoning-gym can't make {count} problems of {task}: {_one_line(error)}") from error
    problems, notes = _problems(rows, _Columns("question", "answer", None, f"{task}-{seed}"))
    version = f"reasoning-gym {importlib.metadata.version('reasoning-gym')}, seed {seed}"
    notes += _default_count("of the seed", limit)
    notes.append("answers are compared by the answer rule, not by the task's own verifier")
    return _problem_set(f"gym:{task}", version, problems, notes)


def _problem_set(
    name: str, version: str, problems: list[Problem], notes: list[str], instruction: str = BOXED_INSTRUCTION
) -> ProblemSet:
    digest = hashlib.sha256()
    for one in problems:
        row = json.dumps([one.problem_id, one.question, one.answer], ensure_ascii=True, separators=(",", ":"))
        digest.update(f"{row}\n".encode())
    missing = sum(one.answer is None for one in problems)
    if missing:
        notes = [*notes, f"{missing} of {len(problems)} problems have no gold answer"]
    return ProblemSet(name, version, digest.hexdigest(), instruction, "last_boxed", tuple(problems), tuple(notes))


# From rows to problems


@dataclass(frozen=True)
class _Columns:
    """Which columns hold what, and how problems without an id are called.

    hashes: gold is what follows ``####``; text without it has no gold, unless the caller named the column (``named``).
    """

    question: str
    answer: str | None
    id: str | None
    prefix: str
    hashes: bool = False
    named: bool = False


def _resolve_columns(row: Row, known: str | None, columns: Mapping[str, str] | None, source: str) -> _Columns:
    """Finds the columns from the first row: the caller's map first, then a known set's own, then the usual names."""
    given, found = dict(columns or {}), list(row[1])
    odd = sorted(set(given) - {"question", "answer", "id"})
    if odd:
        raise UserError(f"the column map knows question, answer and id, got {', '.join(odd)}")
    known = known or (None if given else _recognise(row[1]))
    usual = (_KNOWN[known].question,) if known else QUESTION_COLUMNS
    question = _pick(given.get("question"), usual, found, "question", source)
    answer = None if given.get("answer") == "" else _pick(given.get("answer"), ("answer",), found, "answer", source)
    wanted_id = (_KNOWN[known].id,) if known else ID_COLUMNS
    identity = given.get("id") or next((name for name in wanted_id if name in found), None)
    if "id" in given:
        _pick(identity, (), found, "id", source)
    return _Columns(question, answer, identity, known or "row", known == "gsm8k", "answer" in given)


def _recognise(row: Mapping[str, Any]) -> str | None:
    if {"problem", "answer", "unique_id"} <= row.keys():
        return "math500"
    return "gsm8k" if "question" in row and "####" in str(row.get("answer")) else None


def _pick(given: str | None, usual: Iterable[str], found: list[str], role: str, source: str) -> str:
    wanted = [given] if given else list(usual)
    name = next((name for name in wanted if name in found), None)
    if name is None:
        raise UserError(
            f"{source} has no column {' or '.join(map(repr, wanted))} for the {role}: found "
            f"{', '.join(map(repr, found)) or 'none'}; name the right one with --columns {role}=NAME"
        )
    return name


def _problems(rows: Iterable[Row], columns: _Columns) -> tuple[list[Problem], list[str]]:
    """Problems of the rows, and notes on what repeats: a repeated id gets its row number, so that ids stay unique."""
    problems: list[Problem] = []
    ids: set[str] = set()
    questions: set[str] = set()
    repeated_ids = 0
    for index, (where, row) in enumerate(rows):
        question = row.get(columns.question)
        if not isinstance(question, str) or not question.strip():
            raise UserError(f"{where}: column {columns.question!r} must hold the question, got {question!r:.60}")
        own_id = row.get(columns.id) if columns.id else None
        problem_id = f"{columns.prefix}-{index:06d}" if own_id in (None, "") else str(own_id)
        if problem_id in ids:
            repeated_ids += 1
            problem_id = f"{problem_id}#{index:06d}"
        ids.add(problem_id)
        questions.add(question)
        problems.append(Problem(problem_id, question, _gold(row, columns, where)))
    notes = [f"{repeated_ids} ids repeat an earlier one: their row number was added"] if repeated_ids else []
    repeated = len(problems) - len(questions)
    return problems, notes + ([f"{repeated} problems repeat an earlier question"] if repeated else [])


def _gold(row: Mapping[str, Any], columns: _Columns, where: str) -> str | None:
    value = row.get(columns.answer) if columns.answer else None
    if isinstance(value, float) and math.isnan(value):
        return None
    if value is not None and not isinstance(value, str | int | float):
        raise UserError(f"{where}: column {columns.answer!r} must hold text or a number, got {value!r:.60}")
    text = "" if value is None else str(value).strip()
    if columns.hashes:
        # The set writes thousands with commas (1,200), which no answer rule should have to guess.
        _, found, last = text.rpartition("####")
        text = last.strip().replace(",", "") if found or columns.named else ""
    return text or None


# From files to rows


def _read_rows(path: Path, name: str) -> Iterator[Row]:
    """Rows of a file, lazily; ``name`` is what messages call it."""
    try:
        if path.suffix == ".parquet":
            yield from _read_parquet(path, name)
        elif path.suffix == ".json" and path.read_text(encoding="utf-8-sig").lstrip().startswith("["):
            yield from _read_json(path, name)
        else:
            yield from _read_jsonl(path, name)
    except UnicodeDecodeError as error:
        raise UserError(f"{name} is not UTF-8 text: {_one_line(error)}") from error
    except OSError as error:
        raise UserError(f"{name} can't be read: {_one_line(error)}") from error


def _read_jsonl(path: Path, name: str) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                where = f"{name}, line {number}"
                yield _as_row(_parse_json(line, where), where)


def _read_json(path: Path, name: str) -> Iterator[Row]:
    for number, value in enumerate(_parse_json(path.read_text(encoding="utf-8-sig"), name), start=1):
        yield _as_row(value, f"{name}, row {number}")


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text.strip())
    except json.JSONDecodeError as error:
        at = f"line {error.lineno} column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise UserError(f"{where}: malformed JSON at {at}: {error.msg}") from error


def _as_row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise UserError(f"{where}: must be a JSON object with a question and an answer, got {type(value).__name__}")
    return where, value


def _read_parquet(path: Path, name: str) -> Iterator[Row]:
    try:
        batches = pq.ParquetFile(path).iter_batches(batch_size=1024)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"{name}, row {number}", row
    except pa.ArrowException as error:
        raise UserError(f"{name} is not a readable parquet file (truncated?): {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    """The error's first line, of a readable length."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]


def _from_file(path: Path, known: str | None, wanted: _Wanted) -> ProblemSet:
    if not path.is_file():
        raise UserError(f"{path} is a folder, not a file of problems" if path.is_dir() else f"no such file: {path}")
    if path.suffix not in FILE_SUFFIXES:
        raise UserError(f"{path} has suffix {path.suffix!r}; problems are read from {', '.join(FILE_SUFFIXES)}")
    rows = list(islice(_read_rows(path, str(path)), wanted.limit))
    problems, notes = _parse(rows, known, wanted, str(path))
    return _problem_set(known or path.name, "local file", problems, notes)


def _parse(rows: list[Row], known: str | None, wanted: _Wanted, source: str) -> tuple[list[Problem], list[str]]:
    if not rows:
        raise UserError(f"{source} holds no problems: it is empty")
    return _problems(rows, _resolve_columns(rows[0], known, wanted.columns, source))


# The hub: parquet or JSONL files found by the names of their split and configuration, without the datasets package


def _from_hub(repo: str, config: str | None, known: str | None, wanted: _Wanted) -> ProblemSet:
    name = known or (f"{repo}:{config}" if config else repo)
    revision = wanted.revision
    files, cached = _hub_files(repo, revision)
    notes = ["the hub was not reached: its local cache was read"] if cached else []
    converted = [] if revision or cached or _data_files(files) else _converted_files(repo)
    if converted:
        revision, notes = CONVERTED, [f"read from the hub's parquet conversion ({CONVERTED})"]
    place = f"{name} (in the local cache)" if cached else name
    chosen, used = _choose(converted or files, config, wanted.split, place)
    if used != (wanted.split or DEFAULT_SPLITS[0]):
        notes.append(f"the {used} split is read: no {DEFAULT_SPLITS[0]} split was found")
    first = _fetch(repo, chosen[0], revision, cached)
    commit = first.parents[len(PurePosixPath(chosen[0]).parts) - 1].name
    stream = (row for file in chosen for row in _read_rows(_fetch(repo, file, commit, cached), f"{repo}/{file}"))
    rows = list(islice(stream, wanted.limit))
    if cached and (wanted.limit is None or len(rows) < wanted.limit):
        _refuse_partial(chosen, name)
    problems, more = _parse(rows, known, wanted, name)
    return _problem_set(name, commit, problems, notes + more)


def _refuse_partial(files: list[str], name: str) -> None:
    """An earlier limit may have left later files out of the cache; their names (``-00000-of-00002``) tell."""
    shards = re.search(r"-of-(\d+)", files[0])
    if shards and int(shards[1]) > len(files):
        raise UserError(
            f"{name}: the hub was not reached and its local cache holds {len(files)} of {int(shards[1])} files; "
            "go online once, or give a limit that the first files can serve"
        )


def _hub_files(repo: str, revision: str | None) -> tuple[list[str], bool]:
    """The repository's file names at a revision, and whether they are those of the local cache, the hub being away."""
    try:
        info = HfApi().dataset_info(repo, revision=revision)
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise _hub_error(repo, revision, error) from error
    except Exception as error:  # offline or unreachable: the exception's class changes with the client's transport
        folder = _cached_snapshot(repo, revision)
        if folder is None:
            raise _hub_error(repo, revision, error) from error
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()], True
    return [sibling.rfilename for sibling in info.siblings or ()], False


def _converted_files(repo: str) -> list[str]:
    """Files of the hub's own conversion, which is made of the main branch alone; none where it made none."""
    try:
        return _hub_files(repo, CONVERTED)[0]
    except UserError:
        return []


def _cached_snapshot(repo: str, revision: str | None) -> Path | None:
    try:
        return Path(snapshot_download(repo, repo_type="dataset", revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        # Some files of the repository were never needed: newer clients say so and name the folder.
        partial = getattr(error, "snapshot_path", None)
        return Path(partial) if partial else None


def _fetch(repo: str, file: str, revision: str | None, cached: bool) -> Path:
    try:
        return Path(hf_hub_download(repo, file, repo_type="dataset", revision=revision, local_files_only=cached))
    except Exception as error:  # as in _hub_files
        raise _hub_error(repo, revision, error) from error


def _hub_error(repo: str, revision: str | None, error: Exception) -> UserError:
    local = next((f"{name}:FILE" for name, known in _KNOWN.items() if known.repo == repo), "the path of its file")
    remedy = f"or give a local copy as {local}"
    if isinstance(error, GatedRepoError):
        return UserError(f"hub data set {repo} is gated: accept its terms on the hub and set HF_TOKEN, {remedy}")
    if isinstance(error, RevisionNotFoundError):
        return UserError(f"hub data set {repo} has no revision {revision!r}: leave it out for the newest, {remedy}")
    if isinstance(error, RepositoryNotFoundError | HFValidationError):
        return UserError(f"no data set {repo} on the hub: check the name (HF_TOKEN, if it is private), {remedy}")
    why = f"{type(error).__name__}: {_one_line(error)}"
    return UserError(f"hub data set {repo} can't be fetched ({why}): check the network and HF_ENDPOINT, {remedy}")


def _data_files(files: Iterable[str]) -> list[str]:
    return sorted(file for file in files if file.endswith(FILE_SUFFIXES) and not _ABOUT.search(file))


def _choose(files: list[str], config: str | None, split: str | None, name: str) -> tuple[list[str], str]:
    """The files of one split and one configuration, parquet before JSONL, and the split's name."""
    data = _data_files(files)
    inside = [file for file in data if config is None or config in PurePosixPath(file).parts[:-1]]
    for wanted in [split] if split else DEFAULT_SPLITS:
        for suffix in FILE_SUFFIXES:
            found = _of_split([file for file in inside if file.endswith(suffix)], wanted)
            if found:
                return _of_one_config(found, wanted, name), wanted
    if split is None and len(inside) == 1:
        return inside, "only"
    place = f" in configuration {config}" if config else ""
    raise UserError(
        f"{name} has no {split or ' or '.join(DEFAULT_SPLITS)} split as parquet or JSONL{place}: "
        f"found {', '.join(data[:6]) or 'neither'}{', ...' if len(data) > 6 else ''}; name the split or a local file"
    )


def _of_split(files: list[str], split: str) -> list[str]:
    """Files under a folder of the split's name or called by it; failing that, the one whose name contains it."""
    whole = re.compile(rf"{re.escape(split)}(-\d+-of-\d+.*)?")
    stems = {file: [*PurePosixPath(file).parts[:-1], PurePosixPath(file).stem] for file in files}
    exact = [file for file in files if any(whole.fullmatch(stem) for stem in stems[file])]
    within = re.compile(rf"(?<![A-Za-z0-9]){re.escape(split)}(?![A-Za-z0-9])")
    loose = [file for file in files if within.search(stems[file][-1])]
    return exact or (loose if len(loose) == 1 else [])


def _of_one_config(files: list[str], split: str, name: str) -> list[str]:
    configs = {file: "/".join(p for p in PurePosixPath(file).parts[:-1] if p not in (split, "data")) for file in files}
    several = sorted(set(configs.values()))
    wanted = "default" if "default" in several else several[0]
    if len(several) > 1 and wanted != "default":
        raise UserError(f"{name} has configurations {', '.join(several)}; name one, as in {name}:{several[-1]}")
    return [file for file in files if configs[file] == wanted]
