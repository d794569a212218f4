"""Stages: rollouts that are still to be written, sampled and graded part by part into a run folder.

Engines sample, a judge grades, a run folder keeps; none of them is known here beyond that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa

from decaylab.problems.sets import Problem
from decaylab.progress import Reporter, StageProgress
from decaylab.rollouts.sampling import Engine, Request, Response, SamplingSettings
from decaylab.runs import store
from decaylab.runs.graded import Judge

ABSENT_MATTERS = 1e-4
"""Probability on ids that no token has, in the rollout that has most, from which it is told."""


@dataclass(frozen=True)
class StageSettings:
    """How every stage of a run is sampled.

    max_tokens: the budget of prefix and continuation together. part_rows: a part on disk holds
    whole problems and about this many sequences. parallel: parts that the engines sample at once.
    """

    max_tokens: int
    sampling: SamplingSettings
    part_rows: int = 256
    parallel: int = 1


@dataclass(frozen=True)
class Pending:
    """A rollout that is still to be written: its request, and what its row says beyond the
    response.

    own_prefix: the ids of the prefix that its author wrote, which are graded with the continuation.
    """

    request: Request
    problem: Problem
    condition: str
    prefix_author: str = ""
    prefix_tokens: int = 0
    prefix_rollout_id: str = ""
    prefix_correct_so_far: bool | None = None
    prefix_turns: int | None = None
    own_prefix: tuple[int, ...] = ()

    @property
    def rollout_id(self) -> str:
        return f"{self.request.stage}/{self.problem.problem_id}/{self.request.sample}"


class Stages:
    """Runs stages into one run folder."""

    def __init__(
        self,
        engines: Mapping[str, Engine],
        settings: StageSettings,
        judge: Judge,
        folder: store.RunFolder,
        reporter: Reporter,
    ) -> None:
        """engines: by the role of their policy."""
        self.engines, self.settings = engines, settings
        self.judge, self.folder, self.reporter = judge, folder, reporter

    def plain(
        self,
        role: str,
        problems: Sequence[Problem],
        prompts: Mapping[str, tuple[int, ...]],
        samples: int,
        *,
        name: str | None = None,
    ) -> pa.Table:
        """What a policy writes without a prefix: so many rollouts a problem. name: of the policy,
        for the progress."""
        pending = [
            Pending(
                Request(
                    prompts[problem.problem_id],
                    (),
                    self.settings.max_tokens,
                    role,
                    problem.problem_id,
                    sample,
                ),
                problem,
                condition=role,
            )
            for problem in problems
            for sample in range(samples)
        ]
        return self.run(f"{role} rollouts", role, pending, title=f"{name or role} rollouts")

    def run(
        self, name: str, role: str, pending: list[Pending], *, title: str | None = None
    ) -> pa.Table:
        """Runs a stage part by part; rollouts that are on disk already are read, whatever size
        their parts were cut at."""
        numbers = self.folder.parts(name)
        tables: list[Any] = [
            self.judge.current(self.folder.read_part(name, number)) for number in numbers
        ]
        there = {row for table in tables for row in table["rollout_id"].to_pylist()}
        left = [one for one in pending if one.rollout_id not in there]
        first = max(numbers, default=-1) + 1
        parts = dict(enumerate(_parts(left, self.settings.part_rows), start=first))
        with self.reporter.stage(title or name, len(pending)) as progress:
            progress.skip(len(pending) - len(left))
            for number, responses in self._sampled(role, parts, progress):
                tables.append(self._table(parts[number], role, responses))
                self.folder.write_part(name, number, tables[-1])
        return _in_order([self.judge.table([]), *tables], pending)

    def _sampled(
        self, role: str, parts: Mapping[int, Sequence[Pending]], progress: StageProgress
    ) -> Iterator[tuple[int, list[Response]]]:
        """The responses of each part, in whatever order parts end; each is sampled by itself, so
        the order changes none."""
        engine, sampling = self.engines[role], self.settings.sampling
        requests = {number: [one.request for one in part] for number, part in parts.items()}
        if self.settings.parallel == 1:
            for number, asked in requests.items():
                yield number, engine.sample(asked, sampling, progress.advance)
            return
        pool = ThreadPoolExecutor(self.settings.parallel)
        try:
            tasks = {
                pool.submit(engine.sample, asked, sampling, progress.advance): n
                for n, asked in requests.items()
            }
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        finally:  # without waiting: after Ctrl-C, threads at work end when their workers do
            pool.shutdown(wait=False, cancel_futures=True)

    def _table(self, part: list[Pending], role: str, responses: Sequence[Any]) -> pa.Table:
        engine, sampling = self.engines[role], self.settings.sampling
        texts = [
            engine.policy.decode([*one.own_prefix, *response.ids])
            for one, response in zip(part, responses, strict=True)
        ]
        rows = [
            {
                "rollout_id": one.rollout_id,
                "condition": one.condition,
                "problem_id": one.problem.problem_id,
                "sample": one.request.sample,
                "author": role,
                "policy": engine.policy.name,
                "prompt_ids": one.request.prompt_ids,
                "prefix_ids": one.request.prefix_ids,
                "prefix_author": one.prefix_author,
                "prefix_tokens": one.prefix_tokens,
                "prefix_rollout_id": one.prefix_rollout_id,
                "prefix_correct_so_far": one.prefix_correct_so_far,
                "prefix_turns": one.prefix_turns,
                "response_ids": response.ids,
                "text": text,
                "stop_reason": response.stop_reason,
                "absent_mass": response.absent_mass,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "max_tokens": self.settings.max_tokens,
                "engine": engine.name,
                "seed": sampling.seed,
            }
            for one, response, text in zip(part, responses, texts, strict=True)
        ]
        return self.judge.table(rows)


def absent_note(name: str, rollouts: pa.Table) -> str:
    """What must be known of probability on ids that no token has; "" where it is too small to
    matter."""
    if "absent_mass" not in rollouts.column_names:  # of a run made before it was stored
        return ""
    known = [mass for mass in rollouts["absent_mass"].to_pylist() if mass is not None]
    if not known or max(known) < ABSENT_MATTERS:
        return ""
    mean = sum(known) / len(known)
    return (
        f"{name}: {100 * mean:.2g} % of the probability lies on ids that no token has (in one "
        f"rollout {100 * max(known):.2g} "
        "%); none of them was drawn"
    )


def _in_order(tables: Sequence[pa.Table], pending: Sequence[Pending]) -> pa.Table:
    """The row of each rollout, in the order in which they are wanted."""
    rows = pa.concat_tables(table.replace_schema_metadata(None) for table in tables)
    place = {rollout: number for number, rollout in enumerate(rows["rollout_id"].to_pylist())}
    ordered = rows.take(
        pa.array([place[one.rollout_id] for one in pending], pa.int64())
    ).combine_chunks()
    return ordered.replace_schema_metadata(tables[0].schema.metadata)


def _parts(pending: list[Pending], part_rows: int) -> list[list[Pending]]:
    """Whole problems, in order, until a part holds at least part_rows sequences."""
    parts: list[list[Pending]] = [[]]
    for _, group in groupby(pending, key=lambda one: one.problem.problem_id):
        if len(parts[-1]) >= part_rows:
            parts.append([])
        parts[-1] += group
    return [part for part in parts if part]
