"""values from options to results: how likely a correct answer is along the student's rollouts.

Rollouts and scored tokens come from the cache of the diagnostics. The continuations stand in the
run's folder, part by part while they are drawn. Safe to kill and start again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from decaylab.analyses import value_signals
from decaylab.analyses import values as analysis
from decaylab.commands import diagnose, results_folders
from decaylab.commands.diagnose import DiagnosticResult
from decaylab.commands.drawing import drawn
from decaylab.commands.study import Study
from decaylab.commands.study_rollouts import check_one_turn, finished_rollouts
from decaylab.errors import keeping
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.valuing import ValuesOptions
from decaylab.pair import targets
from decaylab.pair.prepare import GRADING_WORKERS, prepare
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts import seams
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.value_draws import CONDITIONS, ValueDraws, ValuePlan
from decaylab.runs import graded, own_tokens, store, value_prefixes
from decaylab.runs.vocabulary import STUDENT, TEACHER_VALUE
from decaylab.tokens import score_store, task_categories

COMMAND = "values"
GIVEN = (
    "the rollouts were given: outcomes at their ends and scores of segments are this student's "
    "only if it wrote them, with the same sampling settings"
)


def values(
    options: ValuesOptions = ValuesOptions(), *, spoken: str = "", reporter: Reporter | None = None
) -> DiagnosticResult:
    """Measures values and writes the run folder; what was sampled or scored before is not done
    again.

    Raises:
        UserError: anything that a user can mend, in one line.
    """
    reporter = reporter or Reporter(quiet=True)
    chosen = targets.resolve(options)
    resolved = chosen.options.resolved()
    diagnose.check_rollouts(COMMAND, resolved)
    folder = store.RunFolder(results_folders.folder(COMMAND, resolved, chosen))
    with (
        keeping(lambda: _kept(folder, resolved)),
        Grader(workers=GRADING_WORKERS, sandboxed=not resolved.no_sandbox) as grader,
        Engines(resolved, reporter) as engines,
    ):
        setup = prepare(resolved, grader, engines.device, reporter)
        setup.options.check()  # the rollouts of a file set the budget
        with folder.lock():
            setup = diagnose.opened(COMMAND, setup, chosen, folder, spoken)
            rules = task_categories.load(resolved.task.categories, None)
            study = ValuesStudy(setup, chosen, grader, reporter, rules, engines)
            material = study.gather(tokens=True, rollouts=False)
            rollouts = study.drawn(folder)
            notes = (*setup.notes, *material.notes, *_notes(rollouts, study.drawing))
            notes += (GIVEN,) if study.material.given is not None else ()
            diagnose.gathered(folder, spoken, notes, material, answer_rule=setup.answer_rule)
            frame = _measured(study, rollouts, folder)
            frame = diagnose.written(frame, chosen, folder)
    record = drawn(folder, COMMAND, published=resolved.beside_published)
    return DiagnosticResult(COMMAND, folder.path, record, frame, tuple(record["notes"]))


def _kept(folder: store.RunFolder, options: DiagnosticOptions) -> str:
    """What stays of an interrupted run."""
    return (
        f"{folder.finished_rollouts():,} continuations are kept in {folder.path}, and "
        f"{diagnose.kept(options)}"
    )


def _measured(study: ValuesStudy, rollouts: pa.Table, folder: store.RunFolder) -> pd.DataFrame:
    settings = _settings(study, folder)
    found = value_prefixes.prefixes(rollouts.to_pandas(), _tokens(study), settings)
    parts = analysis.measure(found, settings), value_signals.measure(found, settings)
    frame: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return frame


def _settings(study: ValuesStudy, folder: store.RunFolder) -> value_prefixes.Settings:
    options = study.drawing
    return value_prefixes.Settings(
        options.grid or (0,),
        study.setup.answer_rule,
        options.fdr,
        level=options.level,
        seed=options.seed,
        run=folder.path.name,
    )


def _tokens(study: ValuesStudy) -> pd.DataFrame:
    """The scored tokens of the base student's rollouts, one row each."""
    path = study.material.folders[0].folder / "tokens.parquet"
    table = score_store.read(path)
    frame: pd.DataFrame = table.select(
        ["rollout_id", "position", *value_prefixes.SCORES]
    ).to_pandas()
    return frame


def _notes(rollouts: pa.Table, options: ValuesOptions) -> Iterator[str]:
    """What must be known of the draws."""
    yield from _left_out(rollouts, options)
    yield from seams.notes(rollouts)
    for condition in CONDITIONS:
        draws = rollouts.filter(pc.equal(rollouts["condition"], condition))
        cut_off = pc.sum(pc.equal(draws["stop_reason"], "length")).as_py() or 0
        if cut_off:
            count = f"{cut_off} of {len(draws)} draws"
            yield f"{condition}: {count} were cut off at the budget{graded.RAISE}"


def _left_out(rollouts: pa.Table, options: ValuesOptions) -> Iterator[str]:
    """Prefixes that the teacher could not continue."""
    written = rollouts.filter(pc.equal(rollouts["condition"], STUDENT))[own_tokens.TOKENS]
    grid = np.array(options.grid or (0,))
    unfinished = int((written.to_numpy()[:, None] >= grid).sum())
    draws = pc.sum(pc.equal(rollouts["condition"], TEACHER_VALUE)).as_py() or 0
    lost = unfinished - draws // options.draws
    if lost:
        yield (
            f"{lost} of {unfinished} prefixes hold a token that the teacher lacks, or leave none "
            "of the budget: left out; where they are many, choose a teacher with the student's "
            "vocabulary, or a larger --max-tokens"
        )


class ValuesStudy(Study):
    """The base student's rollouts with their scores, and draws of both policies along them."""

    @property
    def drawing(self) -> ValuesOptions:
        """The options of the draws."""
        assert isinstance(self.setup.options, ValuesOptions)
        return self.setup.options

    def _keep(self, label: str, rollouts: pa.Table) -> None:
        super()._keep(label, rollouts)
        self.base = own_tokens.with_column(rollouts)

    def drawn(self, folder: store.RunFolder) -> pa.Table:
        """The base student's rollouts and all draws, from the folder or drawn now, part by part."""
        check_one_turn(COMMAND, self.base)
        judge = self.judge_of_both()
        finished = finished_rollouts(folder, judge)
        if finished is not None:
            return finished
        options = self.drawing
        draws = ValueDraws(
            self.stages_of_both(folder, judge),
            self.setup.problems,
            self.setup.prompts,
            ValuePlan(options.grid or (0,), options.draws),
            self.reporter,
        )
        return folder.merge([judge.current(self.base), *draws.collect(self.base)])
