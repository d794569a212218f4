r"""Loads problem sets by name, with their version and content hash.

    load_problems("abacus")                             # generated, the same on every machine
    load_problems("abacus-train", limit=3200)           # other problems of that world, for training
    load_problems("math500", limit=50)                  # from the hub, like gsm8k
    load_problems("math500:math500.jsonl")              # a local copy of a known set
    load_problems("mine.jsonl", columns={"question": "q", "answer": "reward.gold"})
    load_problems("owner/name:config", split="train", revision="v1.2")
    load_problems("gym:chain_sum", limit=200, seed=3)   # reasoning-gym, an extra
    load_problems("rows:3fa9c2d1e0b4")                  # rows in memory (`given_rows`)
    load_problems("my-set", limit=50)                   # registered by `own_sets.problem_set`

A set is read in its own order and never shuffled.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.metadata
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from decaylab.errors import UserError
from decaylab.plugins import loading
from decaylab.problems import abacus, given_rows, hub, own_sets
from decaylab.problems.answers import RULES
from decaylab.problems.chat_questions import Messages, asked
from decaylab.problems.columns import Columns, find_columns, gold_answer
from decaylab.problems.files import (
    FILE_SUFFIXES,
    MENDED,
    Row,
    mended,
    one_line,
    read_rows,
)
from decaylab.problems.nested_columns import lookup

TEST_SEED, TEST_COUNT = 0, 2000
"""Seed and number of the abacus test problems, from the world's test part."""
TRAIN_SEED, TRAIN_COUNT = 2, 5000
"""Seed of the abacus training problems, from the train part; their number without a limit."""
GENERATED_COUNT = 100
"""Number of problems from a generated set (abacus, gym) without a limit."""
BOXED_INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
INSTRUCTIONS = {"boxed": BOXED_INSTRUCTION, "none": ""}
"""Named instructions."""


@dataclass(frozen=True)
class Problem:
    """One question with its gold answer.

    question: text of the last user turn, without the set's instruction. answer: the gold answer as
    text; None if the set has none. steps: the problem's chain of steps, for abacus. messages: role
    and content of all messages if there is a system message or several turns; the last one is
    `question`.
    """

    problem_id: str
    question: str
    answer: str | None
    steps: tuple[abacus.Step, ...] | None = None
    messages: Messages = ()


@dataclass(frozen=True)
class ProblemSet:
    """Problems in their own order, with what a run must record about them.

    name: "abacus", "math500", "gsm8k", "gym:task", the hub id (with its configuration), the file's
    name, or "rows:" and a hash.
    version: of the generator, or the hub commit of the rows, "local file", or "given in Python".
    content_hash: SHA-256 over ids, questions, answers and any messages of these problems, in order.
    instruction: text appended to each question; "" for none.
    answer_rule: the default answer rule.
    notes: what a reader of the results must know about the rows.
    own: the user's own problems, which may already contain an instruction.
    """

    name: str
    version: str
    content_hash: str
    instruction: str
    answer_rule: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...] = ()
    own: bool = False

    def __len__(self) -> int:
        return len(self.problems)

    @property
    def without_gold(self) -> int:
        """Number of problems that have no gold answer."""
        return sum(problem.answer is None for problem in self.problems)


@dataclass(frozen=True)
class _Known:
    """A named set: its hub repository and its columns."""

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
    """The requested part of a set."""

    limit: int | None
    revision: str | None
    split: str | None
    columns: Mapping[str, str] | None

    def refuse(self, spec: str, why: str, *names: str) -> None:
        given = [name for name in names if getattr(self, name)]
        if given:
            raise UserError(
                f"{spec} {why}, so it has no {' or '.join(given)}; leave {' and '.join(given)} out"
            )


def instruction_of(given: str | None, problem_set: ProblemSet) -> str:
    """The instruction after each question: the given one, or the problem set's; "" for none."""
    if given is None:
        return problem_set.instruction
    return mended(INSTRUCTIONS.get(given, given))


def load_problems(
    spec: str,
    *,
    limit: int | None = None,
    revision: str | None = None,
    split: str | None = None,
    columns: Mapping[str, str] | None = None,
    seed: int = 0,
) -> ProblemSet:
    """Loads the problems that ``spec`` names, in their own order.

    Args:
        spec: ``abacus`` or ``abacus-train``; ``math500`` or ``gsm8k``, from the hub;
            ``math500:FILE`` or ``gsm8k:FILE``; a .jsonl, .json or .parquet file; a hub data set
            ``owner/name`` or ``owner/name:config``; ``gym:TASK``; a name that was registered.
        limit: use only the first ``limit`` problems; None is all, and 100 of a generated set.
        revision: hub branch, tag or commit.
        split: hub split; None is test, or train if there is no test split.
        columns: maps question, answer and id to the set's own names, or to paths such as
            ``reward_model.ground_truth``; ``answer=""`` means that it has no answers.
        seed: of a gym task; abacus has a fixed seed.

    Raises:
        UserError: an unusable set, file, row or column, or an argument that does not apply to the
            set.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1, got {limit}; omit it to use every problem")
    wanted = _Wanted(limit, revision, split, columns)
    kind, _, rest = spec.partition(":")
    if spec in ("abacus", "abacus-train") or kind == "gym":
        wanted.refuse(spec, "is generated", "revision", "split", "columns")
        return _gym(rest, limit, seed) if kind == "gym" else _abacus(spec, limit)
    if given_rows.is_rows(spec):
        wanted.refuse("a list of problems", "is in memory", "revision", "split")
        return _from_memory(spec, wanted)
    # A known name takes precedence over a folder of that name.
    if own := own_sets.own(spec):
        wanted.refuse(spec, "is made by a function", "revision", "split")
        return _own(spec, own, wanted)
    if spec in _KNOWN:
        return _from_hub(_KNOWN[spec].repo, _KNOWN[spec].config, spec, wanted)
    known = kind if kind in _KNOWN else None
    if known or spec.endswith(FILE_SUFFIXES) or Path(spec).exists():
        wanted.refuse(spec, "is a local file", "revision", "split")
        return _from_file(Path(rest if known else spec).expanduser(), known, wanted)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", kind):
        return _from_hub(kind, rest or None, None, wanted)
    named = list(own_sets.SETS)
    close = difflib.get_close_matches(spec, named, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise UserError(
        f"unknown problem set {spec!r}: {hint}give {', '.join(named)}, gym:TASK, "
        f"a {', '.join(FILE_SUFFIXES)} file, a hub data set as owner/name, or a set of your own "
        f"with --plugin{loading.unloaded()}"
    )


def _own(name: str, own: own_sets.OwnSet, wanted: _Wanted) -> ProblemSet:
    """The problems of a function that a user registered."""
    halves: list[str] = []
    rows = own_sets.read(name, wanted.limit, halves)
    problems, notes = _parse(rows, None, wanted, name, halves)
    made = _problem_set(name, own_sets.version(name), problems, notes, None)
    if own.answer_rule not in RULES:
        raise UserError(
            f"problem set {name!r} has answer_rule {own.answer_rule!r}, which is not registered; "
            f"there are {', '.join(RULES)}"
        )
    instruction = INSTRUCTIONS.get(own.instruction, own.instruction)
    return dataclasses.replace(made, instruction=instruction, answer_rule=own.answer_rule)


def _abacus(name: str, limit: int | None) -> ProblemSet:
    """The abacus problems for tests or for training."""
    part: abacus.Part = "train"
    seed, usual, notes = TRAIN_SEED, TRAIN_COUNT, list[str]()
    if name == "abacus":
        part = "test"
        seed, usual, notes = TEST_SEED, GENERATED_COUNT, _default_count(f"of {TEST_COUNT}", limit)
    count = usual if limit is None else limit
    if name == "abacus" and count > TEST_COUNT:
        raise UserError(
            f"abacus has {TEST_COUNT} test problems, got a limit of {limit}; give at most "
            f"{TEST_COUNT}"
        )
    problems = [
        Problem(f"abacus-{seed}-{index:06d}", problem.question, str(problem.answer), problem.steps)
        for index, problem in enumerate(abacus.generate(count, seed=seed, part=part))
    ]
    return _problem_set(name, abacus.VERSION, problems, notes, instruction="")


def _default_count(of: str, limit: int | None) -> list[str]:
    if limit is not None:
        return []
    return [f"the first {GENERATED_COUNT} problems {of} are used; set another number with --limit"]


def _gym(task: str, limit: int | None, seed: int) -> ProblemSet:
    try:
        gym = importlib.import_module("reasoning_gym")
        tasks = sorted(importlib.import_module("reasoning_gym.factory").DATASETS)
    except ImportError as error:
        raise UserError(
            f'gym:{task} needs reasoning-gym ({error}): pip install "decaylab[gym]"'
        ) from error
    if task not in tasks:
        close = difflib.get_close_matches(task, tasks, n=3) or tasks[:3]
        raise UserError(f"reasoning-gym has no task {task!r}; try {', '.join(close)}")
    count = GENERATED_COUNT if limit is None else limit
    try:
        drawn = gym.create_dataset(task, size=count, seed=seed)
        rows = [(f"{task}, row {index + 1}", dict(drawn[index])) for index in range(count)]
    # Some tasks need a configuration.
    except (AssertionError, ValueError, TypeError) as error:
        raise UserError(
            f"reasoning-gym can't make {count} problems of {task}: {one_line(error)}"
        ) from error
    # Not unwrapped: the answer to a task may itself be JSON text.
    problems, notes = _problems(
        rows, Columns("question", "answer", None, f"{task}-{seed}", wrapped=False)
    )
    version = f"reasoning-gym {importlib.metadata.version('reasoning-gym')}, seed {seed}"
    notes += _default_count("of the seed", limit)
    notes.append("answers are graded by the answer rule, not by the task's own verifier")
    return _problem_set(f"gym:{task}", version, problems, notes)


def _problem_set(
    name: str,
    version: str,
    problems: list[Problem],
    notes: list[str],
    instruction: str | None = BOXED_INSTRUCTION,
) -> ProblemSet:
    """Makes a problem set and its hash. instruction: None for the user's own problems."""
    digest = hashlib.sha256()
    # Line by line, to match the hashes of stored runs.
    for problem in problems:
        parts: list[Any] = [problem.problem_id, problem.question, problem.answer]
        if problem.messages:
            parts.append(problem.messages)
        row = json.dumps(parts, ensure_ascii=True, separators=(",", ":"))
        digest.update(f"{row}\n".encode())
    missing = sum(problem.answer is None for problem in problems)
    if missing:
        notes = [*notes, f"{missing} of {len(problems)} problems have no gold answer"]
    return ProblemSet(
        name=name,
        version=version,
        content_hash=digest.hexdigest(),
        instruction=instruction or "",
        answer_rule="last_boxed",
        problems=tuple(problems),
        notes=tuple(notes),
        own=instruction is None,
    )


# From rows of a file or the hub to problems


def _from_file(path: Path, known: str | None, wanted: _Wanted) -> ProblemSet:
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a file of problems")
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    if path.suffix not in FILE_SUFFIXES:
        raise UserError(
            f"{path} has suffix {path.suffix!r}; problems are read from {', '.join(FILE_SUFFIXES)}"
        )
    halves: list[str] = []
    rows = list(islice(read_rows(path, halves=halves), wanted.limit))
    problems, notes = _parse(rows, known, wanted, str(path), halves)
    return _problem_set(
        known or path.name, "local file", problems, notes, BOXED_INSTRUCTION if known else None
    )


def _from_memory(name: str, wanted: _Wanted) -> ProblemSet:
    halves: list[str] = []
    rows = list(islice(given_rows.rows_of(name, halves), wanted.limit))
    problems, notes = _parse(rows, None, wanted, "problems", halves)
    return _problem_set(name, "given in Python", problems, notes, None)


def _from_hub(repo: str, config: str | None, known: str | None, wanted: _Wanted) -> ProblemSet:
    name = known or (f"{repo}:{config}" if config else repo)
    of_repo = [spec for spec, one in _KNOWN.items() if one.repo == repo]
    local_copy = f"{of_repo[0]}:FILE" if of_repo else "the path of its file"
    halves: list[str] = []
    rows, commit, notes = hub.DataSet(repo, name, local_copy).rows(
        config, wanted.split, wanted.revision, wanted.limit, halves
    )
    problems, more = _parse(rows, known, wanted, name, halves)
    boxed = BOXED_INSTRUCTION if of_repo else None
    return _problem_set(name, commit, problems, notes + more, boxed)


def _parse(
    rows: list[Row], known: str | None, wanted: _Wanted, source: str, halves: Sequence[str]
) -> tuple[list[Problem], list[str]]:
    if not rows:
        raise UserError(f"{source} has no problems: it is empty")
    return _problems(rows, _columns(rows[0], known, wanted.columns or {}, source), halves)


def _columns(row: Row, known: str | None, given: Mapping[str, str], source: str) -> Columns:
    """The columns of a known set, else the usual ones.

    A set is known by its name, or by its columns if the caller maps none.
    """
    known = known or (None if given else _recognise(row[1]))
    if known is None:
        return find_columns(row, given, source)
    columns = _KNOWN[known]
    return find_columns(
        row,
        given,
        source,
        questions=(columns.question,),
        ids=(columns.id,) if columns.id else (),
        prefix=known,
        hashes=known == "gsm8k",
    )


def _recognise(row: Mapping[str, Any]) -> str | None:
    if {"problem", "answer", "unique_id"} <= row.keys():
        return "math500"
    return "gsm8k" if "question" in row and "####" in str(row.get("answer")) else None


def _problems(
    rows: Iterable[Row], columns: Columns, halves: Sequence[str] = ()
) -> tuple[list[Problem], list[str]]:
    """The problems of the rows, and notes. A repeated id gets its row number, to stay unique."""
    problems: list[Problem] = []
    ids: set[str] = set()
    questions: set[tuple[str, Messages]] = set()
    repeated_ids, unwrapped = 0, 0
    for index, (where, row) in enumerate(rows):
        question, messages = _question(row, columns, where)
        problem_id = _own_id(row, columns, where) or f"{columns.prefix}-{index:06d}"
        # Ids join rollouts and measurements, so they must be unique.
        if problem_id in ids:
            repeated_ids += 1
            problem_id = f"{problem_id}#{index:06d}"
        ids.add(problem_id)
        questions.add((question, messages))
        gold = gold_answer(row, columns, where)
        unwrapped += gold.unwrapped
        problems.append(Problem(problem_id, question, gold.text, messages=messages))
    count = len(problems)
    notes = []
    if repeated_ids:
        notes.append(f"{repeated_ids} ids are duplicates: their row number was added")
    if halves:
        notes.append(MENDED.format(len(halves), count, "problems"))
    if unwrapped:
        notes.append(f"{unwrapped} of {count} gold answers were unwrapped from an object or list")
    chats = sum(bool(problem.messages) for problem in problems)
    if chats:
        notes.append(f"{chats} of {count} problems have a system message or several turns")
    if repeated := count - len(questions):
        notes.append(f"{repeated} problems have the same question as an earlier one")
    return problems, notes


def _question(row: Mapping[str, Any], columns: Columns, where: str) -> tuple[str, Messages]:
    question = lookup(row, columns.question)
    messages: Messages = ()
    if isinstance(question, list):
        question, messages = asked(question, where, columns.question)
    if not isinstance(question, str) or not question.strip():
        raise UserError(
            f"{where}: column {columns.question!r} must hold the question, got {question!r:.60}"
        )
    return question, messages


def _own_id(row: Mapping[str, Any], columns: Columns, where: str) -> str | None:
    value = lookup(row, columns.id) if columns.id else None
    if isinstance(value, dict | list):
        raise UserError(
            f"{where}: column {columns.id!r} must hold text or a number, got {value!r:.60}"
        )
    return None if value is None else str(value)
