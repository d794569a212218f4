"""served-kl from options to results: a lower bound of the reverse KL by position, of a teacher that
only an engine holds.

Rollouts come from the cache of the diagnostics. The scored tokens stand beside them, made part by
part:

CACHE/served-KEY/record.json          what the scores depend on, in full
CACHE/served-KEY/part-00003.parquet   while the work goes on: whole rollouts, written whole and
renamed into place CACHE/served-KEY/tokens.parquet       one row a token: rollout_id, position,
`COLUMNS`, and which ids the bound stands on
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from decaylab.analyses import served_kl as analysis
from decaylab.commands import diagnose
from decaylab.commands.diagnose import DiagnosticResult
from decaylab.commands.study import Material, Study
from decaylab.errors import UserError
from decaylab.maths.clusters import Ints
from decaylab.options.measuring import DiagnosticOptions
from decaylab.pair import kept_prompts, targets
from decaylab.pair.prepare import GRADING_WORKERS, prepare
from decaylab.pair.targets import BASE
from decaylab.policies.identity import versions
from decaylab.policies.loading import Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.rollouts.vllm_setup import VllmSettings
from decaylab.runs import measurements, store, students
from decaylab.tokens import served_scores
from decaylab.tokens.categories import CategoryRules
from decaylab.tokens.score_store import ScoreKey
from decaylab.tokens.scoring import Rollout
from decaylab.tokens.served_scores import COLUMNS, TOKENS, ServedScorer
from decaylab.tokens.token_table import Scored, TokenTable

COMMAND = "served-kl"
PART_TOKENS = 16384
MEMORY_SHARE = 0.7
"""Of a GPU, for the teacher, where nothing is said: the student that scores beside it needs the
rest."""


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
    folder = store.RunFolder(diagnose.results_folder(COMMAND, options, chosen))
    with Grader(workers=GRADING_WORKERS) as grader, Engines(options, reporter) as engines:
        setup = prepare(options, grader, engines.device, reporter)
        with folder.lock():
            shared = kept_prompts.shared(setup, Path(options.cache).expanduser())
            own = [] if options.overwrite else [folder.path]
            setup = kept_prompts.settled(
                setup, [*own, *([chosen.rollouts] if chosen.rollouts else []), shared]
            )
            record = diagnose.run_record(COMMAND, setup, chosen, spoken)
            record["identity"]["scores"] = {
                "kind": "approximation: a lower bound",
                "top_ids": options.top_ids,
            }
            folder.open(record, overwrite=options.overwrite)
            kept_prompts.write(setup, folder.path)
            kept_prompts.write(setup, shared)
            study = ServedStudy(setup, chosen, grader, reporter, CategoryRules.load(None), engines)
            with closing(study):
                material = study.gather(tokens=True, rollouts=False)
            told = "; ".join(study.routes)
            notes = (*setup.notes, *material.notes, f"approximation: {told}")
            scores = [str(path) for path in material.folders]
            changes = {
                "command": spoken,
                "versions": versions(),
                "notes": list(notes),
                "tokens": scores,
            }
            record = folder.update({**changes, "scored": told})
            settings = analysis.Settings(
                options.bins or (0,),
                told,
                options.estimand,
                level=options.level,
                seed=options.seed,
                run=folder.path.name,
            )
            frame = analysis.measure(material.scored, settings)
            frame = students.described(frame, [target.name for target in chosen.checkpoints])
            measurements.write(frame, folder.path / "measurements.parquet")
    return DiagnosticResult(
        COMMAND, folder.path, record, frame, notes, tokens=tuple(material.folders)
    )


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
        share_vocabulary(
            self.setup.student, self.setup.teacher
        )  # what does not fit is told before anything is sampled
        for target in self.targets.checkpoints:
            self._load(target)
        sampled = {BASE: self._base_rollouts()}
        for target in self.targets.checkpoints:
            sampled[target.label] = self._sampled(self._load(target), "student", target.label)
        for label, rows in sampled.items():
            self._keep(label, rows)
        given = {label: self._given_to_score(label, rows) for label, rows in sampled.items()}
        self._longest = max(
            len(one.teacher_prompt) + len(one.response)
            for some, _ in given.values()
            for one in some
        )
        views = ("fresh", "frozen") if self.targets.checkpoints else ("fresh",)
        self._measure(BASE, self.setup.student, *given[BASE], views)
        for target in self.targets.checkpoints:
            policy = self._load(target)
            self._measure(target.label, policy, *given[target.label], ("fresh",))
            self._measure(target.label, policy, *given[BASE], ("frozen",))
        return self.material

    def close(self) -> None:
        """Lets go of the teacher."""
        if self._engine is not None:
            self._engine.close()

    def _given_to_score(self, label: str, rows: pa.Table) -> tuple[list[Rollout], Ints]:
        """The rollouts as far as the teacher can read them, and the problem of each as a code."""
        readable = self._readable(label, rows)
        if any(mask is not None for mask in self._masks(rows, readable)):
            raise UserError(
                f"{label}: rollouts with tools or several users are measured by position-kl, not "
                f"by {COMMAND}"
            )
        if not readable:
            raise UserError(
                f"{label}: no rollout begins with a token that {self.setup.teacher.name} can read"
            )
        names = dict(
            zip(rows["rollout_id"].to_pylist(), rows["problem_id"].to_pylist(), strict=True)
        )
        return readable, np.array([self.codes[names[one.rollout_id]] for one in readable])

    def _measure(
        self,
        label: str,
        policy: Policy,
        rollouts: Sequence[Rollout],
        problems: Ints,
        views: Sequence[str],
    ) -> None:
        name = f"scoring {label}" + ("" if "fresh" in views else " on base rollouts")
        path = self._stored(name, policy, rollouts)
        table = store.read_table(path, TOKENS)
        self.routes |= dict.fromkeys(table["route"].unique().to_pylist())
        columns = {column: table[column].to_numpy() for column in COLUMNS}
        lengths = np.array([len(one.response) for one in rollouts])
        tokens = TokenTable(lengths, problems, len(self.codes), columns)
        self.material.folders.append(path.parent)
        self.material.scored += [Scored(label, view, tokens) for view in views]

    def _stored(self, name: str, policy: Policy, rollouts: Sequence[Rollout]) -> Path:
        """The table of the scored tokens, from the cache or made now, part by part."""
        contents = [
            f"{one.identity.contents} {one.precision}" for one in (policy, self.setup.teacher)
        ]
        key = ScoreKey(
            contents[0], contents[1], 1.0, "model", f"served, {self.options.top_ids} ids"
        )
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
            settings = VllmSettings(
                tensor_parallel=options.tensor_parallel,
                gpu_memory_share=options.gpu_memory_share or MEMORY_SHARE,
                max_model_len=min(self._longest + 1, teacher.context_length),
                max_sequences=options.batch_rows,
                adapters=options.adapters,
                max_logprobs=options.top_ids,
            )
            self._engine = VllmEngine(teacher, settings)
        return self._engine
