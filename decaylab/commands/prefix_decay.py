"""A prefix-decay run from options to results: prepare, record, collect, measure, draw. Safe to kill
and start again."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from decaylab.analyses import prefix_decay as analysis
from decaylab.commands.drawing import drawn
from decaylab.options import declared
from decaylab.options.measuring import Options
from decaylab.pair import kept_prompts
from decaylab.pair.prepare import GRADING_WORKERS, Setup, longest_context, prepare
from decaylab.paper import publication
from decaylab.policies.identity import versions
from decaylab.policies.loading import Policy
from decaylab.problems.answers import ANSWER_RULES
from decaylab.problems.grading import Grader
from decaylab.problems.sets import Problem
from decaylab.progress import Reporter
from decaylab.rollout_files import summary
from decaylab.rollout_files.table import to_table
from decaylab.rollouts.collect import Collector, DecayPlan
from decaylab.rollouts.engine_spec import engine_record
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.sampling import SamplingSettings
from decaylab.rollouts.stages import absent_note
from decaylab.runs import graded, measurements, own_tokens, store


@dataclass(frozen=True)
class PrefixDecayResult:
    """A finished run: its folder, record and measurements (columns of
    `measurements.Measurement`)."""

    folder: Path
    record: dict[str, Any]
    measurements: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def figures(self) -> tuple[Path, Path]:
        return self.folder / "prefix-decay.png", self.folder / "prefix-decay.svg"


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
    with Grader(workers=GRADING_WORKERS) as grader, Engines(options, reporter) as engines:
        setup = prepare(options, grader, engines.device, reporter)
        with folder.lock():
            setup = kept_prompts.settled(setup, [] if options.overwrite else [folder.path])
            folder.open(_record(setup, command), overwrite=options.overwrite)
            kept_prompts.write(setup, folder.path)
            folder.write_problems(
                [asdict(problem) | {"steps": _steps(problem)} for problem in setup.problems]
            )
            if folder.finished:
                reporter.note(
                    f"{folder.path} holds this run, finished: nothing is sampled again "
                    "(--overwrite redoes it)"
                )
            options = setup.options
            collector = _collector(setup, engines, grader, folder, reporter)
            student_rollouts, told = (
                _external_table(setup, collector) if setup.external else (None, ())
            )
            rollouts = collector.collect(student_rollouts)
            notes = (*setup.notes, *told, *_afterwards(rollouts, setup))
            record = folder.update(
                {"answer_rule": _answer_rule(setup), "level": options.level, "notes": list(notes)}
            )
            frame = _measure(setup, rollouts, folder)
            if told := drawn(lambda: _draw(frame, folder, options), folder.path):
                notes += told
                record = folder.update({"notes": list(notes)})
    return PrefixDecayResult(folder.path, record, frame, notes)


def _record(setup: Setup[Options], command: str) -> dict[str, Any]:
    """run.json. What stands under ``identity`` must agree for a run to be resumed."""
    configuration = declared.identity(setup.options, declared.DECAY)
    problem_set = setup.problem_set
    identity = {
        "options": configuration,
        "teacher": asdict(setup.teacher.identity),
        "student": asdict(setup.student.identity),
        "problems": {
            "name": problem_set.name,
            "version": problem_set.version,
            "content_hash": problem_set.content_hash,
            "instruction": problem_set.instruction,
            "asked": len(setup.problems),
        },
        "prompts": kept_prompts.digest(setup.prompts),
        "rollouts_hash": setup.external.content_hash if setup.external else None,
        "end_ids": {
            "student": sorted(setup.student.end_ids),
            "teacher": sorted(setup.teacher.end_ids),
        },
        "precision": {
            role: policy.precision
            for role, policy in (("student", setup.student), ("teacher", setup.teacher))
        },
        "engine": engine_record(setup.options),
    }
    return {
        "command": command,
        "identity": identity,
        "answer_rule": _answer_rule(setup),
        "level": setup.options.level,
        "versions": versions(),
        "example_prompt": {
            "student": setup.student.tokenizer.decode(
                list(next(iter(setup.prompts["student"].values())))
            ),
            "teacher": setup.teacher.tokenizer.decode(
                list(next(iter(setup.prompts["teacher"].values())))
            ),
        },
        "rollouts": summary.record(setup.external) if setup.external else None,
        "notes": list(setup.notes),
        "prompt_notes": list(setup.prompt_notes),
    }


def _steps(problem: Problem) -> list[str] | None:
    return [str(step) for step in problem.steps] if problem.steps is not None else None


def _answer_rule(setup: Setup[Options]) -> str:
    return setup.options.answer_rule or setup.problem_set.answer_rule


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
        options.samples,
        int(options.max_tokens or 0),
        options.controls,
        SamplingSettings(options.temperature, options.top_p, options.top_k, options.seed),
        part_rows=options.batch_rows,
        parallel=engines.parallel,
    )
    teacher = engines.of(setup.teacher, longest_context(setup, "teacher"))
    samples = setup.external is None or options.needs_student
    student = (
        engines.of(setup.student, longest_context(setup, "student"))
        if samples
        else _Reader(setup.student)
    )

    pair = {"student": setup.student, "teacher": setup.teacher}
    judge = graded.judge(grader, setup.problems, pair, options.thought_marks)
    return Collector(student, teacher, setup.problems, setup.prompts, plan, judge, folder, reporter)


class _Reader:
    """The student of rollouts that are already there: it reads ids and never samples."""

    name = "external"

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def sample(self, requests: Any, settings: Any, on_progress: Any = None) -> Any:
        raise AssertionError(f"{self.policy.name} was loaded without weights")


def _external_table(
    setup: Setup[Options], collector: Collector
) -> tuple[pa.Table, tuple[str, ...]]:
    assert setup.external is not None
    return to_table(
        setup.external, setup.problems, setup.student, collector.judge, setup.prompts["student"]
    )


def _afterwards(rollouts: pa.Table, setup: Setup[Options]) -> tuple[str, ...]:
    """What a reader must know about the rollouts, as sentences."""
    options = setup.options
    columns = [
        "condition",
        "author",
        "prefix_tokens",
        "response_ids",
        "response_mask",
        "stop_reason",
    ]
    frame = rollouts.select([name for name in columns if name in rollouts.column_names]).to_pandas()
    written = pd.Series(own_tokens.count(frame), index=frame.index)
    notes = []
    for condition, author in (
        ("student-prefix", "student"),
        ("own-prefix", "teacher"),
        ("reverse", "teacher"),
    ):
        made = frame[frame.condition == condition]
        if condition not in ("student-prefix", *options.controls):
            continue
        open_at = sum(
            int((written[frame.condition == author] >= k).sum())
            for k in (options.prefix_lengths or (0,))[1:]
        )
        if open_at > len(made):
            notes.append(
                f"{condition}: {open_at - len(made)} of {open_at} prefixes could not be handed "
                "over, left out"
            )
    for author in ("student", "teacher"):
        notes.append(absent_note(author, rollouts.filter(pc.equal(rollouts["author"], author))))
    cut_off = frame[(frame.condition == "student") & (frame["stop_reason"] == "length")]
    if len(cut_off):
        notes.append(
            f"{len(cut_off)} of {(frame.condition == 'student').sum()} student rollouts were cut "
            "off at the budget"
        )
    longer = int((written[frame.condition == "student"] > int(options.max_tokens or 0)).sum())
    if longer:
        notes.append(
            f"{longer} student rollouts are longer than the budget of {options.max_tokens} "
            "tokens: graded whole"
        )
    inside = graded.count_open(rollouts)
    if inside:
        notes.append(f"{inside} of {len(rollouts)} responses end inside a thought: no answer")
    for rule in ANSWER_RULES:
        late = sum(verdict == "timeout" for verdict in rollouts[f"grade_{rule}"].to_pylist())
        if late:
            notes.append(
                f"{rule}: {late} of {len(rollouts)} responses took too long to grade and count as "
                "not correct"
            )
    return tuple(note for note in notes if note)


def _measure(setup: Setup[Options], rollouts: pa.Table, folder: store.RunFolder) -> pd.DataFrame:
    options = setup.options
    settings = analysis.Settings(
        options.prefix_lengths or (0,),
        _answer_rule(setup),
        seed=options.seed,
        level=options.level,
        run=folder.path.name,
        split_by_fate="correct-so-far" in options.controls,
    )
    frame: pd.DataFrame = analysis.measure(rollouts.to_pandas(), settings)
    measurements.write(frame, folder.path / "measurements.parquet")
    return frame


def _draw(frame: pd.DataFrame, folder: store.RunFolder, options: Options) -> None:
    from decaylab.figures import prefix_decay as figure
    from decaylab.figures import style

    published = publication.prefix_curve() if options.paper else None
    style.save(figure.draw(frame, published=published), folder.path / "prefix-decay")
    store.write_atomically(
        folder.path / "prefix-decay.txt", (figure.caption(frame) + "\n").encode()
    )
