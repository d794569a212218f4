"""Stages: rollouts are sampled by an engine, graded by a judge and stored in a run folder, part by
part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from itertools import chain, groupby
from typing import Any

import pyarrow as pa

from decaylab.problems.problem import Problem
from decaylab.progress import Reporter, StageProgress
from decaylab.rollouts.sampling import Engine, Ids, Request, Response, SamplingSettings
from decaylab.runs import own_tokens, store
from decaylab.runs.graded import Judge

ABSENT_MATTERS = 1e-4
"""A note is printed if the probability of ids without a token reaches this in some rollout."""


@dataclass(frozen=True)
class StageSettings:
    """Settings of all stages of a run.

    max_tokens: maximum length of prefix and continuation together. part_rows: approximate number of
    sequences in a part on disk; parts have whole problems. parallel: parts sampled at once.
    """

    max_tokens: int
    sampling: SamplingSettings
    part_rows: int = 256
    parallel: int = 1


@dataclass(frozen=True)
class Pending:
    """A rollout to be sampled.

    prefix: the prefix columns of its row. own_prefix: the prefix ids that their author wrote, which
    are graded with the continuation.
    """

    request: Request
    problem: Problem
    condition: str
    prefix: Mapping[str, Any] = field(
        default_factory=lambda: {"prefix_author": "", "prefix_tokens": 0, "prefix_rollout_id": ""}
    )
    own_prefix: Ids = ()

    @property
    def rollout_id(self) -> str:
        return f"{self.request.stage}/{self.problem.problem_id}/{self.request.sample}"


class Stages:
    """Runs stages and stores them in one run folder."""

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
        prompts: Mapping[str, Ids],
        samples: int,
        *,
        name: str | None = None,
    ) -> pa.Table:
        """A policy's rollouts without a prefix. name: of the policy, for the progress bar."""
        pending = []
        for problem in problems:
            prompt, budget = prompts[problem.problem_id], self.settings.max_tokens
            for sample in range(samples):
                request = Request(prompt, (), budget, role, problem.problem_id, sample)
                pending.append(Pending(request, problem, condition=role))
        return self.run(f"{role} rollouts", role, pending, title=f"{name or role} rollouts")

    def run(
        self, name: str, role: str, pending: list[Pending], *, title: str | None = None
    ) -> pa.Table:
        """Runs a stage part by part; rollouts on disk are reused, whatever the size of parts."""
        # Matched by rollout, since another --batch-rows changes the parts.
        stored = self.folder.parts(name)
        numbers = stored.numbers()
        tables = [
            own_tokens.with_column(self.judge.current(stored.read(number))) for number in numbers
        ]
        there = set(chain.from_iterable(table["rollout_id"].to_pylist() for table in tables))
        left = [rollout for rollout in pending if rollout.rollout_id not in there]
        problems = (
            list(group) for _, group in groupby(left, lambda rollout: rollout.problem.problem_id)
        )
        cut = store.cut(problems, len, self.settings.part_rows)
        first = max(numbers, default=-1) + 1
        parts = {number: list(chain(*groups)) for number, groups in enumerate(cut, start=first)}
        with self.reporter.stage(title or name, len(pending)) as progress:
            progress.skip(len(pending) - len(left))
            for number, responses in self._sampled(role, parts, progress):
                tables.append(self._table(parts[number], role, responses))
                stored.write(number, tables[-1])
        if progress.finished:
            self._timed(name, progress)
        # The empty table gives the schema to a stage without rollouts.
        return _in_order([self.judge.table([]), *tables], pending)

    def _timed(self, name: str, progress: StageProgress) -> None:
        """Records the time of a stage, added to that of earlier processes."""
        if self.folder.record is None:
            return
        sampled = dict(self.folder.record.get("sampled") or {})
        before = sampled.get(name) or {"seconds": 0.0, "rollouts": 0, "tokens": 0}
        sampled[name] = {
            "seconds": round(before["seconds"] + progress.seconds, 3),
            "rollouts": before["rollouts"] + progress.finished,
            "tokens": before["tokens"] + progress.tokens,
        }
        self.folder.update({"sampled": sampled})

    def _sampled(
        self, role: str, parts: Mapping[int, Sequence[Pending]], progress: StageProgress
    ) -> Iterator[tuple[int, list[Response]]]:
        """The responses of each part, in order of completion."""
        engine, sampling = self.engines[role], self.settings.sampling
        requests = {number: [rollout.request for rollout in part] for number, part in parts.items()}
        if self.settings.parallel == 1:
            for number, asked in requests.items():
                yield number, engine.sample(asked, sampling, progress.advance)
            return
        pool = ThreadPoolExecutor(self.settings.parallel)
        try:
            tasks = {
                pool.submit(engine.sample, asked, sampling, progress.advance): number
                for number, asked in requests.items()
            }
            for task in as_completed(tasks):
                yield tasks[task], task.result()
        finally:  # without waiting: after Ctrl-C, running threads end with their workers
            pool.shutdown(wait=False, cancel_futures=True)

    def _table(self, part: Sequence[Pending], role: str, responses: Sequence[Response]) -> pa.Table:
        engine, sampling = self.engines[role], self.settings.sampling
        alike = {
            "author": role,
            "policy": engine.policy.name,
            "engine": engine.name,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "seed": sampling.seed,
            "max_tokens": self.settings.max_tokens,
        }
        rows = []
        for rollout, response in zip(part, responses, strict=True):
            row = {
                **alike,
                **rollout.prefix,
                "rollout_id": rollout.rollout_id,
                "condition": rollout.condition,
                "problem_id": rollout.problem.problem_id,
                "sample": rollout.request.sample,
                "prompt_ids": rollout.request.prompt_ids,
                "prefix_ids": rollout.request.prefix_ids,
                "response_ids": response.ids,
                "text": engine.policy.decode([*rollout.own_prefix, *response.ids]),
                "stop_reason": response.stop_reason,
                "absent_mass": response.absent_mass,
            }
            rows.append(row)
        return self.judge.table(rows)


def absent_note(name: str, rollouts: pa.Table) -> str:
    """A note on the probability of ids without a token; "" if it is negligible."""
    if "absent_mass" not in rollouts.column_names:  # a run of an earlier version
        return ""
    masses = rollouts["absent_mass"].drop_null().to_pylist()
    if not masses or max(masses) < ABSENT_MATTERS:
        return ""
    mean = sum(masses) / len(masses)
    return (
        f"{name}: {100 * mean:.2g} % of the probability lies on ids without a token (in one "
        f"rollout {100 * max(masses):.2g} %); none of them was drawn"
    )


def _in_order(tables: Sequence[pa.Table], pending: Sequence[Pending]) -> pa.Table:
    """The row of each rollout, in the order of ``pending``."""
    # Parts of an earlier version may lack a column, which is then null.
    bare = [table.replace_schema_metadata(None) for table in tables]
    rows = pa.concat_tables(bare, promote_options="default")
    place = {rollout: number for number, rollout in enumerate(rows["rollout_id"].to_pylist())}
    places = pa.array([place[rollout.rollout_id] for rollout in pending], pa.int64())
    return rows.take(places).combine_chunks().replace_schema_metadata(tables[0].schema.metadata)
