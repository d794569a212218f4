"""Runs that are to be compared: read, paired, and refused in one line where they cannot be.

runs = read(["runs/a", "runs/b", "runs/b-kl"])
compared = check(runs.decay, answer_rule=None)      # "teachers" or "students"
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from decaylab.errors import UserError
from decaylab.plugins import origins
from decaylab.runs import graded, store
from decaylab.runs.graded import GRADE
from decaylab.runs.vocabulary import STUDENT, STUDENTS, TEACHER, TEACHERS

Compared = Literal["teachers", "students"]
SCORED = ("position-kl", "category-kl", "submode", "signals")  # runs that hold scored tokens
SAMPLING = ("samples", "temperature", "top_p", "top_k", "max_tokens")
READ = (
    *("rollout_id", "condition", "problem_id", "sample", "prefix_tokens", "prefix_rollout_id"),
    *("prefix_turns", "prompt_ids", "response_ids", "response_mask", "tokens", "stop_reason"),
)


@dataclass(frozen=True)
class ComparedRun:
    """A finished run that is compared, or one of its KL."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def identity(self) -> Mapping[str, Any]:
        identity: Mapping[str, Any] = self.record["identity"]
        return identity

    @property
    def options(self) -> Mapping[str, Any]:
        options: Mapping[str, Any] = self.identity["options"]
        return options

    @property
    def command(self) -> str:
        return str(self.identity.get("diagnostic", "prefix-decay"))

    def policy(self, role: str) -> Mapping[str, Any]:
        """The student or the teacher, as run.json describes it."""
        policy: Mapping[str, Any] = self.identity[role]
        return policy

    def contents(self, role: str) -> str:
        """What a policy is, whatever it is called."""
        return _contents(self.policy(role))

    @property
    def answer_rule(self) -> str:
        return str(self.record["answer_rule"])

    @property
    def answer_rules(self) -> tuple[str, ...]:
        """The rules by which the rollouts were graded."""
        names = self.rollouts.columns
        return tuple(name.removeprefix(GRADE) for name in names if name.startswith(GRADE))

    def own_rule(self, rule: str) -> Any:
        """The hash of the file of a rule of the user's own; None for decaylab's."""
        record = self.identity.get(origins.PLUGINS, {}).get(f"{origins.ANSWER_RULE} {rule}")
        return record and record["sha256"]

    @property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self.options["prefix_lengths"])

    @cached_property
    def rollouts(self) -> pd.DataFrame:
        """Rows of the rollouts table, with the columns that a comparison reads."""
        path = self.folder / "rollouts.parquet"
        names = pq.read_schema(path).names
        grades = [name for name in names if name.startswith(GRADE)]
        table = store.read_table(path, store.ROLLOUTS)
        kept = [name for name in (*READ, *grades) if name in names]
        return pd.DataFrame(table.select(kept).to_pandas())

    @cached_property
    def problems(self) -> dict[str, tuple[str, str]]:
        """Question and gold answer by problem_id."""
        table = store.read_table(self.folder / "problems.parquet", store.PROBLEMS)
        rows = table.select(["problem_id", "question", "answer"]).to_pylist()
        return {row["problem_id"]: (row["question"], row["answer"]) for row in rows}

    @cached_property
    def digest(self) -> str:
        """A hash of the rollouts, graded as they are."""
        return hashlib.sha256((self.folder / "rollouts.parquet").read_bytes()).hexdigest()

    @property
    def grader(self) -> Any:
        """The code and versions that gave the verdicts; None where a run does not say."""
        try:
            metadata = pq.read_schema(self.folder / "rollouts.parquet").metadata or {}
        except (pa.ArrowInvalid, OSError) as error:
            raise store.damaged(self.folder / "rollouts.parquet", error) from error
        return json.loads(metadata.get(graded.RECORD, b"{}")).get("grader")

    def prompts(self, role: str) -> dict[str, tuple[int, ...]]:
        """The prompt of a policy's own rollouts, by problem."""
        rows = self.rollouts[self.rollouts["condition"] == role].drop_duplicates("problem_id")
        return dict(zip(rows["problem_id"], map(tuple, rows["prompt_ids"]), strict=True))


@dataclass(frozen=True)
class ComparedRuns:
    """The prefix-decay runs in the order given, and the run of scored tokens of some of them, by
    the folder of the prefix-decay run."""

    decay: tuple[ComparedRun, ...]
    scored: Mapping[Path, ComparedRun]


def read(paths: Sequence[str]) -> ComparedRuns:
    """The runs at these paths.

    Raises:
        UserError: a path without a run; a run that is of another command, is unfinished or has no
            rollouts; fewer than two prefix-decay runs; a KL of a pair that is not compared.
    """
    _check_each_once(paths)
    runs = [_read(Path(path).expanduser()) for path in paths]
    decay = tuple(run for run in runs if run.command == "prefix-decay")
    if len(decay) < 2:
        raise UserError(
            f"a comparison needs at least two prefix-decay runs, got {len(decay)}: "
            "decaylab compare RUN RUN"
        )
    scored: dict[Path, ComparedRun] = {}
    for run in runs:
        if run.command == "prefix-decay":
            continue
        pairs = [one for one in decay if _same_pair(one, run)]
        if not pairs:
            raise UserError(
                f"{run.folder} measured {_pair(run)}, which none of the prefix-decay runs did; "
                "leave it out"
            )
        for one in pairs:
            if one.folder in scored:
                raise UserError(
                    f"{scored[one.folder].folder} and {run.folder} both measured the KL of "
                    f"{_pair(run)}; give one of them"
                )
            scored[one.folder] = run
    _check_scored(list(dict.fromkeys(run.folder for run in scored.values())), scored)
    return ComparedRuns(decay, scored)


def check(runs: Sequence[ComparedRun], answer_rule: str | None) -> Compared:
    """What the runs differ in: their teachers, or their students.

    answer_rule: of the comparison; None: that of the runs, which must be one.

    Raises:
        UserError: runs that cannot be paired; names the first two and all that differs.
    """
    first, *others = runs
    for run in runs:
        rule = answer_rule or run.answer_rule
        if rule not in run.answer_rules:
            raise UserError(
                f"{run.folder} was not graded by {rule}, but by {', '.join(run.answer_rules)}; "
                "rerun its command with --answer-rule: nothing is resampled"
            )
    compared = _compared(runs)
    shared = STUDENT if compared == TEACHERS else TEACHER
    for other in others:
        differences = [*_differing(first, other, shared, answer_rule)]
        if differences:
            raise UserError(
                f"{other.folder} cannot be paired with {first.folder}: {'; '.join(differences)}"
            )
    return "students" if compared == STUDENTS else "teachers"


def names(runs: Sequence[ComparedRun], compared: Compared) -> list[str]:
    """What each run is called: its teacher or its student, with its folder where that is not
    enough."""
    role = TEACHER if compared == TEACHERS else STUDENT
    called = [str(run.policy(role)["name"]) for run in runs]
    if len(set(called)) < len(called):
        called = [f"{name} ({run.folder})" for name, run in zip(called, runs, strict=True)]
    return called


def _check_each_once(paths: Sequence[str]) -> None:
    """Raises UserError if a folder was given twice, however it is written."""
    seen = set()
    for path in paths:
        place = Path(path).expanduser().resolve()
        if place in seen:
            raise UserError(f"{path} was given twice; give each run once")
        seen.add(place)


def _read(path: Path) -> ComparedRun:
    folder = store.RunFolder(path)
    if not path.is_dir():
        if path.exists():
            raise UserError(f"{path} is a file, not a run folder; leave it out")
        raise UserError(f"{path}: no such run folder")
    record = folder.record
    if record is None:
        raise UserError(f"{path} is no run folder: it holds no run.json")
    run = ComparedRun(path, record)
    identity = record.get("identity") or {}
    is_decay = "diagnostic" not in identity and "prefix_lengths" in (identity.get("options") or {})
    if not is_decay and identity.get("diagnostic") not in SCORED:
        raise UserError(
            f"{path} is not a prefix-decay run; give prefix-decay runs, and for the KL their "
            "position-kl or signals runs"
        )
    if not folder.finished and not (is_decay and (path / "measurements.csv").exists()):
        again = record.get("command", "its command")
        raise UserError(f"{path} is unfinished; `{again}` resumes it")
    if is_decay and not (path / "rollouts.parquet").exists():
        raise UserError(
            f"{path} holds no rollouts.parquet, and its measurements alone cannot be paired by "
            "problem; measure again"
        )
    return run


def _compared(runs: Sequence[ComparedRun]) -> str:
    """Whether the teachers or the students differ.

    Raises:
        UserError: both do, or neither.
    """
    several = {role: len({run.contents(role) for run in runs}) for role in (STUDENT, TEACHER)}
    if several[STUDENT] > 1 and several[TEACHER] > 1:
        other = next(
            run
            for run in runs
            if any(run.contents(role) != runs[0].contents(role) for role in (STUDENT, TEACHER))
        )
        raise UserError(
            f"the runs differ in student and teacher ({runs[0].folder}: {_pair(runs[0])}; "
            f"{other.folder}: {_pair(other)}); give runs that share one of them"
        )
    role = STUDENT if several[STUDENT] > 1 else TEACHER
    if several[role] < len(runs):
        first, second = _twice(runs, role)
        raise UserError(
            f"{first.folder} and {second.folder} both measured {_pair(first)}; give one run of "
            "each pair"
        )
    return STUDENTS if role == STUDENT else TEACHERS


def _twice(runs: Sequence[ComparedRun], role: str) -> tuple[ComparedRun, ComparedRun]:
    """Two runs with the same policy in this role."""
    seen: dict[str, ComparedRun] = {}
    for run in runs:
        if run.contents(role) in seen:
            return seen[run.contents(role)], run
        seen[run.contents(role)] = run
    raise AssertionError("every run has a policy of its own")


def _differing(
    first: ComparedRun, other: ComparedRun, shared: str, answer_rule: str | None
) -> Iterator[str]:
    """What keeps two runs from being paired, in words."""
    for name in SAMPLING:
        one, two = first.options.get(name), other.options.get(name)
        if one != two:
            yield f"{name.replace('_', ' ')} {two} against {one}"
    if answer_rule is None and first.answer_rule != other.answer_rule:
        yield (
            f"answer rule {other.answer_rule} against {first.answer_rule} (--answer-rule sets one)"
        )
    rule = answer_rule or first.answer_rule
    if first.own_rule(rule) != other.own_rule(rule):
        yield f"the answer rule {rule} has changed between them"
    if first.grader != other.grader:
        yield "graded by other versions of the grader (rerun their commands: nothing is resampled)"
    common = first.problems.keys() & other.problems.keys()
    if not common:
        yield "no problem in common"
    changed = sum(first.problems[name] != other.problems[name] for name in common)
    if changed:
        yield f"other problems ({changed} of {len(common)} under the same id)"
    elif common:
        ours, theirs = first.prompts(shared), other.prompts(shared)
        asked = common & ours.keys() & theirs.keys()
        if any(ours[name] != theirs[name] for name in asked):
            yield f"other prompts of the {shared}"
    if len(set(first.lengths) & set(other.lengths)) < 2:
        yield f"no prefix length in common beyond 0 ({_lengths(other)} against {_lengths(first)})"


def _check_scored(folders: Sequence[Path], scored: Mapping[Path, ComparedRun]) -> None:
    """Raises UserError where the runs of scored tokens were sampled or scored in other ways."""
    by_folder = {run.folder: run for run in scored.values()}
    for folder in folders[1:]:
        first, other = by_folder[folders[0]], by_folder[folder]
        differences = []
        for name in (*SAMPLING, "score_temperature"):
            one, two = first.options.get(name), other.options.get(name)
            if one != two:
                differences.append(f"{name.replace('_', ' ')} {two} against {one}")
        if differences:
            raise UserError(
                f"the KL of {other.folder} cannot be paired with that of {first.folder}: "
                f"{'; '.join(differences)}"
            )


def _same_pair(one: ComparedRun, other: ComparedRun) -> bool:
    return all(one.contents(role) == other.contents(role) for role in (STUDENT, TEACHER))


def _pair(run: ComparedRun) -> str:
    return f"{run.policy(STUDENT)['name']} under {run.policy(TEACHER)['name']}"


def _lengths(run: ComparedRun) -> str:
    return ",".join(map(str, run.lengths))


def _contents(policy: Mapping[str, Any]) -> str:
    base = policy.get("base")
    return str(policy["content_hash"]) + (f"+{_contents(base)}" if base else "")
