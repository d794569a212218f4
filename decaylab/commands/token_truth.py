"""token-truth from options to results: the places of the students' rollouts, their masses, the
numbers, the figure.

Rollouts come from the cache of the diagnostics. Scored places are kept beside them, part by part,
so that a killed run scores the rest:

CACHE/places-KEY/part-00003.parquet   whole rollouts, while scoring runs
CACHE/places-KEY/places.parquet       the places of one student's rollouts
RUN/places.parquet                    those of all students
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache as cache_of
from pathlib import Path
from typing import Any

import pyarrow as pa

from decaylab.analyses import token_truth as analysis
from decaylab.commands import diagnose, results_folders
from decaylab.commands.diagnose import DiagnosticResult
from decaylab.commands.drawing import drawn
from decaylab.commands.study import Study
from decaylab.commands.study_rollouts import Material
from decaylab.errors import UserError, keeping
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.pair import targets
from decaylab.pair.prepare import GRADING_WORKERS, prepare
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.sampling import OnProgress
from decaylab.runs import store
from decaylab.runs.store import Parts
from decaylab.runs.vocabulary import BASE, STUDENT
from decaylab.tokens import score_store, task_categories, truth_places
from decaylab.tokens.next_tokens import SetScorer
from decaylab.tokens.scoring import Rollout, ScoringSettings
from decaylab.tokens.truth_places import PLACES, SCHEMA, Place, Vocabulary

COMMAND = "token-truth"
WITH_STEPS = ("abacus", "abacus-train")
"""The problem sets whose steps are known."""


def token_truth(
    options: DiagnosticOptions, *, spoken: str = "", reporter: Reporter | None = None
) -> DiagnosticResult:
    """Measures and writes the run folder; what was sampled or scored before is not done again.

    Raises:
        UserError: problems without known steps, or anything else that a user can mend.
    """
    reporter = reporter or Reporter(quiet=True)
    chosen = targets.resolve(options)
    options = chosen.options.resolved()
    check_problems(options)
    diagnose.check_rollouts(COMMAND, options)
    folder = store.RunFolder(results_folders.folder(COMMAND, options, chosen))
    with (
        keeping(lambda: diagnose.kept(options)),
        Grader(workers=GRADING_WORKERS, sandboxed=not options.no_sandbox) as grader,
        Engines(options, reporter) as engines,
    ):
        setup = prepare(options, grader, engines.device, reporter)
        with folder.lock():
            setup = diagnose.opened(COMMAND, setup, chosen, folder, spoken)
            rules = task_categories.load(options.task.categories, None)
            study = TruthStudy(setup, chosen, grader, reporter, rules, engines)
            material = study.gather(tokens=True, rollouts=False)
            places = pa.concat_tables(study.places)
            store.write_table(places, folder.path / "places.parquet", PLACES)
            diagnose.gathered(folder, spoken, (*setup.notes, *material.notes), material)
            settings = analysis.Settings(
                options.bins or (0,),
                level=options.level,
                seed=options.seed,
                run=folder.path.name,
            )
            frame = diagnose.written(analysis.measure(places.to_pandas(), settings), chosen, folder)
    record = drawn(folder, COMMAND, published=False)
    return DiagnosticResult(COMMAND, folder.path, record, frame, tuple(record["notes"]))


def check_problems(options: DiagnosticOptions) -> None:
    """Raises UserError unless the steps of the problems are known.

    Before models are loaded: the wrong set is the commonest mistake here.
    """
    if options.problems not in WITH_STEPS:
        raise UserError(
            f"{COMMAND} needs problems whose steps are known (--problems {WITH_STEPS[0]}), and "
            f"those of {options.problems} are not; `decaylab values` measures any set by sampling, "
            "and `decaylab interventions --edits FILE` compares prefixes of your own"
        )


class TruthStudy(Study):
    """Rollouts as other diagnostics gather them; only the places of their steps are scored.

    places: a table of each student's, as `truth_places.SCHEMA` has it.
    """

    def gather(self, *, tokens: bool, rollouts: bool = True) -> Material:
        """Fills `places`; rows of rollouts are not kept."""
        assert tokens and not rollouts
        self.keeps, self.places = False, list[pa.Table]()
        # What does not fit is reported before anything is sampled.
        share_vocabulary(self.setup.student, self.setup.teacher)
        for target in self.targets.checkpoints:
            self._load(target)
        self._measure(BASE, self.setup.student, self._base_rollouts())
        for target in self.targets.checkpoints:
            policy = self._load(target)
            self._measure(target.label, policy, self._sampled(policy, STUDENT, target.label))
        return self.material

    def _measure(self, label: str, policy: Policy, rollouts: pa.Table) -> None:
        self._keep(label, rollouts)
        readable = self._readable(label, rollouts)
        names = rollouts["rollout_id"].to_pylist()
        problem_of = dict(zip(names, rollouts["problem_id"].to_pylist(), strict=True))
        found = self._found(policy, readable, problem_of)
        without = len(readable) - len(found)
        what = "hold no step that can be read, left out; see their texts with `decaylab view`"
        self._count(label, without, len(readable), what)
        if not found:
            raise UserError(
                f"{label}: no rollout holds a step that the verifier can read; raise --max-tokens, "
                "or see what they hold with `decaylab rollouts`"
            )
        kept = [rollout for rollout in readable if rollout.rollout_id in found]
        path = self._stored(f"places of {label}", policy, kept, found, problem_of)
        table = store.read_table(path, PLACES).replace_schema_metadata()
        # Another run may call the same student otherwise.
        column = pa.array([label] * len(table), store.TEXT)
        self.places.append(table.set_column(0, SCHEMA.field("checkpoint"), column))

    def _found(
        self, policy: Policy, rollouts: Sequence[Rollout], problem_of: Mapping[str, str]
    ) -> dict[str, list[Place]]:
        """The places of each rollout that has some."""
        shared = share_vocabulary(policy, self.setup.teacher)
        ids = [token for token in range(shared.size) if shared.holds(token)]
        vocabulary = Vocabulary(policy.tokenizer, ids)
        steps = {problem.problem_id: problem.steps for problem in self.setup.problems}
        found = {}
        for rollout in rollouts:
            chain = steps[problem_of[rollout.rollout_id]]
            assert chain is not None, "the problem set has steps"
            places = truth_places.places(policy.tokenizer, rollout.response, chain, vocabulary)
            found[rollout.rollout_id] = list(places)
        return {name: places for name, places in found.items() if places}

    def _stored(
        self,
        name: str,
        policy: Policy,
        rollouts: Sequence[Rollout],
        found: Mapping[str, Sequence[Place]],
        problem_of: Mapping[str, str],
    ) -> Path:
        """The table of these places, from the cache or scored now, part by part."""
        options = self.options
        key = score_store.ScoreKey(
            self._content(policy),
            self._content(self.setup.teacher),
            options.score_temperature,
            options.head,
            "places",
        )
        record = key.record(rollouts, PLACES)
        folder = score_store.folder_of(self.cache, "places", record)
        path = folder / "places.parquet"
        # A finished table is read even if another process holds the folder's lock.
        if path.exists():
            return path
        settings = ScoringSettings(options.score_temperature, options.head, options.batch_tokens)
        ready = cache_of(
            lambda: SetScorer(policy, self.setup.teacher, settings, self.reporter.note)
        )
        with store.RunFolder(folder).lock(wait=self.reporter.note):
            score_store.check_record(folder, record)
            parts = Parts(folder, "part", PLACES)

            def write(number: int, part: Sequence[Rollout], progress: OnProgress) -> None:
                asked = [truth_places.asked(one, found[one.rollout_id]) for one in part]
                rows: list[dict[str, Any]] = []
                for one, scored in zip(part, ready().at(asked, progress), strict=True):
                    alike = {"checkpoint": "", "problem_id": problem_of[one.rollout_id]}
                    rows += truth_places.rows(one, found[one.rollout_id], scored, alike)
                parts.write(number, pa.Table.from_pylist(rows, schema=SCHEMA))

            least = max(score_store.PART_TOKENS, options.batch_tokens)
            count = score_store.fill(parts, rollouts, least, write, self.reporter, name)
            parts.merge(count, path, SCHEMA)
        return path
