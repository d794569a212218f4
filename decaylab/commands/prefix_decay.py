"""A prefix-decay run from options to results: prepare, record, collect, measure, draw.

Safe to kill and start again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from decaylab.analyses import hand_back
from decaylab.analyses import prefix_decay as analysis
from decaylab.commands import decay_notes, pair_identity
from decaylab.commands.drawing import drawn
from decaylab.errors import keeping
from decaylab.options import declared
from decaylab.options.measuring import Options
from decaylab.pair import kept_prompts
from decaylab.pair.prepare import GRADING_WORKERS, Setup, longest_context, prepare
from decaylab.policies.policy import Policy
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollout_files import summary
from decaylab.rollout_files.table import to_table
from decaylab.rollouts.collect import Collector, DecayPlan
from decaylab.rollouts.engine_spec import engine_record
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.sampling import settings_of
from decaylab.runs import graded, measurements, records, store
from decaylab.runs.vocabulary import CORRECT_SO_FAR, STUDENT, TEACHER

COMMAND = "prefix-decay"


@dataclass(frozen=True)
class PrefixDecayResult:
    """A finished run: its folder, record and measurements (columns of
    `measurements.Measurement`)."""

    folder: Path
    record: dict[str, Any]
    measurements: pd.DataFrame
    notes: tuple[str, ...]


def prefix_decay(
    options: Options = Options(), *, command: str = "", reporter: Reporter | None = None
) -> PrefixDecayResult:
    """Measures teacher decay; writes and returns the run. A finished run of the same configuration
    is read, not redone.

    Raises:
        UserError: anything that a user can mend, in one line.
    """
    reporter = reporter or Reporter(quiet=True)
    options = options.resolved()
    folder = store.RunFolder(Path(options.out) if options.out else options.default_folder())
    with (
        keeping(lambda: f"{folder.finished_rollouts():,} rollouts are kept in {folder.path}"),
        Grader(workers=GRADING_WORKERS, sandboxed=not options.no_sandbox) as grader,
        Engines(options, reporter) as engines,
    ):
        setup = prepare(options, grader, engines.device, reporter)
        with folder.lock():
            frame = _measured(setup, folder, command, grader, engines, reporter)
    record = drawn(folder, COMMAND, published=options.beside_published)
    return PrefixDecayResult(folder.path, record, frame, tuple(record["notes"]))


def _measured(
    setup: Setup[Options],
    folder: store.RunFolder,
    command: str,
    grader: Grader,
    engines: Engines,
    reporter: Reporter,
) -> pd.DataFrame:
    """Collects what the folder lacks, and measures."""
    setup = kept_prompts.settled(setup, [] if setup.options.overwrite else [folder.path])
    folder.open(_record(setup, command), overwrite=setup.options.overwrite)
    kept_prompts.write(setup, folder.path)
    problems = []
    for problem in setup.problems:
        steps = None if problem.steps is None else [str(step) for step in problem.steps]
        problems.append(asdict(problem) | {"steps": steps})
    folder.write_problems(problems)
    if folder.finished:
        reporter.note(
            f"{folder.path} holds this run, finished: nothing is sampled again "
            "(--overwrite redoes it)"
        )
    collector = _collector(setup, engines, grader, folder, reporter)
    given, given_notes = None, tuple[str, ...]()
    if setup.external:
        given, given_notes = to_table(
            setup.external, setup.problems, setup.student, collector.judge, setup.prompts[STUDENT]
        )
    rollouts = collector.collect(given)
    if setup.verdicts:
        setup.verdicts.check()
        given_notes += tuple(setup.verdicts.notes())
    notes = [
        *setup.notes,
        *decay_notes.of_problems(setup),
        *given_notes,
        *decay_notes.of_rollouts(rollouts, setup.options, collector.judge.rules),
    ]
    folder.update({**_reported(setup), "notes": notes})
    return _measure(setup, rollouts, folder)


def _record(setup: Setup[Options], command: str) -> dict[str, Any]:
    """run.json."""
    external = setup.external
    identity = {
        **pair_identity.identity(setup),
        "options": declared.identity(setup.options, declared.DECAY),
        "rollouts_hash": external.content_hash if external else None,
        "end_ids": records.end_ids(pair_identity.policies(setup)),
        **records.own_parts(setup.options, setup.problem_set),
    }
    return records.run_record(
        command,
        identity,
        notes=setup.notes,
        prompt_notes=setup.prompt_notes,
        engine=engine_record(setup.options),
        example_prompt=records.example_prompt(pair_identity.policies(setup), setup.prompts),
        rollouts=summary.record(external) if external else None,
        **_reported(setup),
    )


def _reported(setup: Setup[Options]) -> dict[str, Any]:
    """What may differ from one measurement of the same rollouts to the next."""
    return {"answer_rule": setup.answer_rule, "level": setup.options.level}


def _collector(
    setup: Setup[Options],
    engines: Engines,
    grader: Grader,
    folder: store.RunFolder,
    reporter: Reporter,
) -> Collector:
    options = setup.options
    plan = DecayPlan(
        options.prefix_lengths or (0,),
        int(options.samples or 0),
        int(options.max_tokens or 0),
        options.controls,
        settings_of(options),
        part_rows=options.batch_rows,
        parallel=engines.parallel,
        hand_back=options.hand_back or (),
    )
    teacher = engines.of(setup.teacher, longest_context(setup, TEACHER))
    if setup.external is None or options.needs_student:
        student = engines.of(setup.student, longest_context(setup, STUDENT))
    else:
        student = _Reader(setup.student)
    pair = pair_identity.policies(setup)
    rules = setup.problem_set.answer_rule, setup.answer_rule
    judge = graded.judge(
        grader,
        setup.problems,
        pair,
        options.thought_marks,
        *rules,
        task=setup.problem_set.task,
        given=setup.verdicts,
    )
    return Collector(student, teacher, setup.problems, setup.prompts, plan, judge, folder, reporter)


class _Reader:
    """The student of rollouts that are already there: it reads ids and never samples."""

    name = "external"

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def sample(self, requests: Any, settings: Any, on_progress: Any = None) -> Any:
        raise AssertionError(f"{self.policy.name} was loaded without weights")


def _measure(setup: Setup[Options], rollouts: pa.Table, folder: store.RunFolder) -> pd.DataFrame:
    options = setup.options
    settings = analysis.Settings(
        options.prefix_lengths or (0,),
        setup.answer_rule,
        split_by_fate=CORRECT_SO_FAR in options.controls,
        level=options.level,
        seed=options.seed,
        run=folder.path.name,
    )
    table = rollouts.to_pandas()
    frame: pd.DataFrame = analysis.measure(table, settings)
    if options.hand_back:
        frame = pd.concat([frame, _handed_back(setup, table, folder)], ignore_index=True)
    measurements.write(frame, folder.path / "measurements.parquet")
    return frame


def _handed_back(
    setup: Setup[Options], table: pd.DataFrame, folder: store.RunFolder
) -> pd.DataFrame:
    options = setup.options
    settings = hand_back.Settings(
        options.prefix_lengths or (0,),
        setup.answer_rule,
        options.hand_back or (),
        greedy=options.temperature == 0 and setup.external is None,
        level=options.level,
        seed=options.seed,
        run=folder.path.name,
    )
    frame: pd.DataFrame = hand_back.measure(table, settings)
    return frame
