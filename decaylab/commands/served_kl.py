"""served-kl from options to results: a lower bound of the reverse KL by position, of a teacher that
only an engine holds.

Rollouts come from the cache of the diagnostics. The scored tokens are written beside them, part by
part (`decaylab.tokens.served_scores`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from decaylab.analyses import served_kl as analysis
from decaylab.commands import diagnose, results_folders
from decaylab.commands.diagnose import DiagnosticResult
from decaylab.commands.study import Study
from decaylab.commands.study_rollouts import Material
from decaylab.errors import UserError, keeping
from decaylab.maths.clusters import Ints
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.pair import targets
from decaylab.pair.prepare import GRADING_WORKERS, prepare
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.rollouts.vllm_setup import VllmSettings
from decaylab.runs import sources, store
from decaylab.runs.vocabulary import BASE, FRESH, FROZEN, STUDENT
from decaylab.tokens import served_scores, task_categories
from decaylab.tokens.score_store import PART_TOKENS, ScoreKey
from decaylab.tokens.scoring import Rollout
from decaylab.tokens.served_scores import COLUMNS, TOKENS, ServedScorer
from decaylab.tokens.token_table import Scored, TokenTable

COMMAND = "served-kl"
MEMORY_SHARE = 0.7
"""Of a GPU, for the teacher, by default: the student that scores beside it needs the rest."""


def served_kl(
    options: DiagnosticOptions, *, spoken: str = "", reporter: Reporter | None = None
) -> DiagnosticResult:
    """Measures and writes the run folder; what was sampled or scored before is not done again.

    Raises:
        UserError: anything that a user can mend, in one line.
    """
    reporter = reporter or Reporter(quiet=True)
    chosen = targets.resolve(options)
    options = replace(chosen.options.resolved(), scores="served")
    if options.score_temperature != 1:
        raise UserError(
            "served-kl scores at temperature 1: engines know no other for tokens that are given"
        )
    diagnose.check_rollouts(COMMAND, options)
    folder = store.RunFolder(results_folders.folder(COMMAND, options, chosen))
    with (
        keeping(lambda: diagnose.kept(options)),
        Grader(workers=GRADING_WORKERS, sandboxed=not options.no_sandbox) as grader,
        Engines(options, reporter) as engines,
    ):
        setup = prepare(options, grader, engines.device, reporter)
        with folder.lock():
            scores = {"kind": "approximation: a lower bound", "top_ids": options.top_ids}
            setup = diagnose.opened(COMMAND, setup, chosen, folder, spoken, scores=scores)
            rules = task_categories.load(options.task.categories, None)
            study = ServedStudy(setup, chosen, grader, reporter, rules, engines)
            with closing(study):
                material = study.gather(tokens=True, rollouts=False)
            route = "; ".join(study.routes)
            notes = (*setup.notes, *material.notes, f"approximation: {route}")
            diagnose.gathered(folder, spoken, notes, material, scored=route)
            settings = analysis.Settings(
                options.bins or (0,),
                route,
                options.estimand,
                level=options.level,
                seed=options.seed,
                run=folder.path.name,
            )
            frame = diagnose.written(analysis.measure(material.scored, settings), chosen, folder)
    return DiagnosticResult(COMMAND, folder.path, folder.record or {}, frame, notes)


class ServedStudy(Study):
    """Rollouts as other diagnostics gather them; their tokens are scored by the student here and
    the teacher in its engine.

    Everything is sampled before the engine is opened, so that no two are open at once. routes:
    which ids the bounds stand on.
    """

    _engine: VllmEngine | None = None

    def gather(self, *, tokens: bool, rollouts: bool = True) -> Material:
        """The scored tokens, by checkpoint and view; rows of rollouts are not kept."""
        assert tokens and not rollouts
        self.keeps, self.routes = False, dict[str, None]()
        # What does not fit is reported before anything is sampled.
        share_vocabulary(self.setup.student, self.setup.teacher)
        for target in self.targets.checkpoints:
            self._load(target)
        sampled = {BASE: self._base_rollouts()}
        for target in self.targets.checkpoints:
            sampled[target.label] = self._sampled(self._load(target), STUDENT, target.label)
        for label, table in sampled.items():
            self._keep(label, table)
        given = {label: self._given_to_score(label, table) for label, table in sampled.items()}
        self._longest = 0
        for to_score, _ in given.values():
            for rollout in to_score:
                length = len(rollout.teacher_prompt) + len(rollout.response)
                self._longest = max(self._longest, length)
        self._measure(BASE, self.setup.student, *given[BASE], self.views_of_base)
        for target in self.targets.checkpoints:
            policy = self._load(target)
            self._measure(target.label, policy, *given[target.label], (FRESH,))
            self._measure(target.label, policy, *given[BASE], (FROZEN,))
        return self.material

    def close(self) -> None:
        """Lets go of the teacher."""
        if self._engine is not None:
            self._engine.close()

    def _given_to_score(self, label: str, table: pa.Table) -> tuple[list[Rollout], Ints]:
        """The rollouts as far as the teacher can read them, and the problem of each as a code."""
        readable = [*self._readable(label, table)]
        if any(mask is not None for mask in self._masks(table, readable)):
            raise UserError(
                f"{label}: rollouts with tools or several users are measured by position-kl, not "
                f"by {COMMAND}"
            )
        problems = self._problems(table)
        return readable, np.array([problems[rollout.rollout_id] for rollout in readable])

    def _measure(
        self,
        label: str,
        policy: Policy,
        rollouts: Sequence[Rollout],
        problems: Ints,
        views: Sequence[str],
    ) -> None:
        path = self._stored(self._stage(label, views), policy, rollouts)
        table = store.read_table(path, TOKENS)
        self.routes |= dict.fromkeys(table["route"].unique().to_pylist())
        columns = {column: table[column].to_numpy() for column in COLUMNS}
        lengths = np.array([len(rollout.response) for rollout in rollouts])
        tokens = TokenTable(lengths, problems, len(self.codes), columns)
        self.material.folders.append(sources.Scored(label, views[0], path.parent))
        self.material.scored += [Scored(label, view, tokens) for view in views]

    def _stored(self, name: str, policy: Policy, rollouts: Sequence[Rollout]) -> Path:
        """The table of the scored tokens, from the cache or made now, part by part."""
        student, teacher = self._content(policy), self._content(self.setup.teacher)
        key = ScoreKey(student, teacher, 1.0, "model", f"served, {self.options.top_ids} ids")
        return served_scores.scored(
            rollouts,
            key,
            lambda: ServedScorer(policy, self._teacher(), self.options.top_ids),
            self.cache,
            self.reporter,
            name=name,
            part_tokens=PART_TOKENS,
        )

    def _teacher(self) -> VllmEngine:
        """The teacher's engine, opened where something is left to score."""
        options, teacher = self.options, self.setup.teacher
        if self._engine is None:
            settings = VllmSettings.of(
                options,
                MEMORY_SHARE,
                min(self._longest + 1, teacher.context_length),
                adapters=options.adapters,
                max_logprobs=options.top_ids,
            )
            self._engine = VllmEngine(teacher, settings)
        return self._engine
