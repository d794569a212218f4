r"""Loads problem sets by name, with their version and content hash.

    load_problems("abacus")                             # generated, the same on every machine
    load_problems("abacus-train", limit=3200)           # other problems of that world, for training
    load_problems("math500", limit=50)                  # from the hub, like all of `published`
    load_problems("humaneval:humaneval.jsonl")          # a local copy of a known set
    load_problems("bfcl:parallel:bfcl/")                # a folder with questions and right calls
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
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from decaylab.errors import UserError
from decaylab.plugins import loading
from decaylab.problems import generated, given_rows, hub, local_copies, own_sets
from decaylab.problems.answers import RULES
from decaylab.problems.code_sets import INSTRUCTION as CODE_INSTRUCTION
from decaylab.problems.files import FILE_SUFFIXES, Row, mended, read_rows
from decaylab.problems.problem import BOXED_INSTRUCTION, ProblemSet, problem_set
from decaylab.problems.published import OWN_ROWS, PUBLISHED, TRAINING, named
from decaylab.problems.rows import Parsed, parsed, parsed_by
from decaylab.problems.tasks import task_of

INSTRUCTIONS = {"boxed": BOXED_INSTRUCTION, "code": CODE_INSTRUCTION, "none": ""}
"""Named instructions."""


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
        spec: ``abacus`` or ``abacus-train``; a set of `published`, such as ``math500`` or
            ``bfcl:parallel``, from the hub; the same with ``:FILE``; a .jsonl, .json or .parquet
            file; a hub data set ``owner/name`` or ``owner/name:config``; ``gym:TASK``; a name that
            was registered.
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
        return generated.load(spec, limit, seed)
    if given_rows.is_rows(spec):
        wanted.refuse("a list of problems", "is in memory", "revision", "split")
        return _from_memory(spec, wanted)
    # A known name takes precedence over a folder of that name.
    if own := own_sets.own(spec):
        wanted.refuse(spec, "is made by a function", "revision", "split")
        return _own(spec, own, wanted)
    if known := named(spec):
        return _known(*known, wanted)
    if spec.endswith(FILE_SUFFIXES) or Path(spec).exists():
        wanted.refuse(spec, "is a local file", "revision", "split")
        return _from_file(Path(spec).expanduser(), wanted)
    if re.fullmatch(r"[\w.-]+/[\w.-]+", kind):
        return _from_hub(kind, rest or None, None, wanted)
    raise _unknown(spec)


def _unknown(spec: str) -> UserError:
    names = list(own_sets.SETS)
    close = difflib.get_close_matches(spec, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return UserError(
        f"unknown problem set {spec!r}: {hint}give {', '.join(names)}, gym:TASK, "
        f"a {', '.join(FILE_SUFFIXES)} file, a hub data set as owner/name, or a set of your own "
        f"with --plugin{loading.unloaded()}"
    )


def _own(name: str, own: own_sets.OwnSet, wanted: _Wanted) -> ProblemSet:
    """The problems of a function that a user registered."""
    halves: list[str] = []
    rows = own_sets.read(name, wanted.limit, halves)
    task = task_of(own.task)
    if read := OWN_ROWS.get(own.task):
        problems, notes = parsed_by(read, rows, name, name, halves)
    else:
        problems, notes = parsed(rows, None, wanted.columns, name, halves)
    made = problem_set(name, own_sets.version(name), problems, notes, None, task)
    rule = own.answer_rule or task.answer_rules[0]
    for needed in (rule, *task.answer_rules):
        if needed not in RULES:
            raise UserError(
                f"problem set {name!r} has answer_rule {needed!r}, which is not registered; "
                f"there are {', '.join(RULES)}"
            )
    instruction = INSTRUCTIONS.get(own.instruction, own.instruction)
    return dataclasses.replace(made, instruction=instruction, answer_rule=rule)


def _known(name: str, copy: str, wanted: _Wanted) -> ProblemSet:
    """A published set: from the hub, or a local copy."""
    published = PUBLISHED[name]
    if published.read:
        wanted.refuse(name, "has columns of its own", "columns")
    if not copy:
        return _from_hub(published.repo, published.config, name, wanted)
    refused = ["revision"] if published.splits else ["revision", "split"]
    wanted.refuse(f"{name}:{copy}", "is a local file", *refused)
    path, halves = Path(copy).expanduser(), list[str]()
    rows, notes = local_copies.rows(path, name, wanted.split, wanted.limit, halves)
    return _made(name, "local file", rows, notes, wanted, copy, halves)


def _from_file(path: Path, wanted: _Wanted) -> ProblemSet:
    local_copies.check(path)
    halves: list[str] = []
    rows = list(islice(read_rows(path, halves=halves), wanted.limit))
    problems, notes = parsed(rows, None, wanted.columns, str(path), halves)
    return problem_set(path.name, "local file", problems, notes, None)


def _from_memory(name: str, wanted: _Wanted) -> ProblemSet:
    halves: list[str] = []
    rows = list(islice(given_rows.rows_of(name, halves), wanted.limit))
    problems, notes = parsed(rows, None, wanted.columns, "problems", halves)
    return problem_set(name, "given in Python", problems, notes, None)


def _from_hub(repo: str, config: str | None, known: str | None, wanted: _Wanted) -> ProblemSet:
    name = known or (f"{repo}:{config}" if config else repo)
    of_repo = [spec for spec, one in PUBLISHED.items() if one.repo == repo]
    local_copy = f"{known or of_repo[0]}:FILE" if of_repo else "the path of its file"
    halves: list[str] = []
    data_set = hub.DataSet(repo, name, local_copy)
    if known and PUBLISHED[known].file:
        rows, commit, notes = local_copies.hub_rows(data_set, known, wanted.revision, wanted.limit)
    else:
        split = wanted.split or ("train" if known in TRAINING else None)
        rows, commit, notes = data_set.rows(config, split, wanted.revision, wanted.limit, halves)
    if known:
        return _made(known, commit, rows, notes, wanted, name, halves)
    problems, more = parsed(rows, None, wanted.columns, name, halves)
    boxed = BOXED_INSTRUCTION if of_repo else None
    return problem_set(name, commit, problems, notes + more, boxed)


def _made(
    name: str,
    version: str,
    rows: list[Row],
    notes: list[str],
    wanted: _Wanted,
    source: str,
    halves: list[str],
) -> ProblemSet:
    """A published set from its rows."""
    published = PUBLISHED[name]
    read: Parsed
    if published.read:
        read = parsed_by(published.read, rows, name, source, halves)
    else:
        read = parsed(rows, name, wanted.columns, source, halves)
    problems, more = read
    return problem_set(name, version, problems, notes + more, published.instruction, published.task)
