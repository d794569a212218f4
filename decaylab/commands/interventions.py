"""interventions from options to results: prefixes, continuations by both policies, the KL behind
them, the numbers, the figure. Safe to kill and start again.

RUN/parts/*.parquet       continuations, while the run goes on
RUN/rollouts.parquet      all continuations
CACHE/tokens-KEY          the student's continuations, scored by both policies
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from decaylab.analyses import interventions as analysis
from decaylab.commands import diagnose, intervention_arms, pair_identity, results_folders
from decaylab.commands.diagnose import DiagnosticResult
from decaylab.commands.drawing import drawn
from decaylab.commands.intervention_arms import Arm
from decaylab.commands.study import Study
from decaylab.commands.study_rollouts import finished_rollouts
from decaylab.errors import UserError, keeping
from decaylab.options.intervening import InterventionOptions
from decaylab.pair import targets
from decaylab.pair.prepare import GRADING_WORKERS, prepare
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems import edits
from decaylab.problems.edits import Edits
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollouts.engines import Engines
from decaylab.runs import store
from decaylab.runs.vocabulary import STUDENT, TEACHER
from decaylab.tokens import score_store, task_categories
from decaylab.tokens.scoring import Rollout

COMMAND = "interventions"
WITH_STEPS = ("abacus", "abacus-train")
STYLES_NOTE = (
    "made prefixes are written in the usual styles of the two writers that the embedded pair "
    "learnt from: student-style is concise, teacher-style is verbose"
)


def interventions(
    options: InterventionOptions, *, spoken: str = "", reporter: Reporter | None = None
) -> DiagnosticResult:
    """Measures and writes the run folder; what was sampled or scored before is not done again.

    Raises:
        UserError: problems without known steps and no edits, edits that cannot be used, or anything
            else that a user can mend.
    """
    reporter = reporter or Reporter(quiet=True)
    chosen = targets.resolve(options)
    resolved = chosen.options.resolved()
    assert isinstance(resolved, InterventionOptions)
    options = resolved
    check_problems(options)
    own = edits.read(options.edits) if options.edits else None
    reference = own.reference(options.reference) if own else ""
    folder = store.RunFolder(results_folders.folder(COMMAND, options, chosen))
    with (
        keeping(lambda: f"finished continuations are kept in {folder.path}"),
        Grader(workers=GRADING_WORKERS, sandboxed=not options.no_sandbox) as grader,
        Engines(options, reporter) as engines,
    ):
        setup = prepare(options, grader, engines.device, reporter)
        with folder.lock():
            contents = {"edits": own.sha256} if own else {}
            setup = diagnose.opened(COMMAND, setup, chosen, folder, spoken, **contents)
            rules = task_categories.load(options.task.categories, None)
            study = InterventionStudy(setup, chosen, grader, reporter, rules, engines)
            assert isinstance(setup.options, InterventionOptions)
            rollouts = study.continued(setup.options, own, folder)  # a file sets the budget
            kl = study.kl_behind(rollouts)
            notes = (*setup.notes, *study.material.notes)
            diagnose.gathered(folder, spoken, notes, study.material)
            settings = analysis.Settings(
                setup.answer_rule,
                reference,
                level=options.level,
                seed=options.seed,
                run=folder.path.name,
            )
            measured = analysis.measure(rollouts.to_pandas(), kl, settings)
            frame = diagnose.written(measured, chosen, folder)
    record = drawn(folder, COMMAND, published=False)
    return DiagnosticResult(COMMAND, folder.path, record, frame, tuple(record["notes"]))


def check_problems(options: InterventionOptions) -> None:
    """Raises UserError where there is nothing to make prefixes of."""
    if not options.edits and options.problems not in WITH_STEPS:
        raise UserError(
            f"{COMMAND} makes prefixes of problems whose steps are known (--problems "
            f"{WITH_STEPS[0]}), and those of {options.problems} are not; give prefixes of your own "
            "with --edits FILE (problem, prefix, label)"
        )


class InterventionStudy(Study):
    """Prefixes, their continuations by both policies, and the KL of the student's."""

    def continued(
        self, options: InterventionOptions, own: Edits | None, folder: store.RunFolder
    ) -> pa.Table:
        """The continuations of all prefixes, from the folder or sampled now, part by part."""
        setup, judge = self.setup, self.judge_of_both()
        finished = finished_rollouts(folder, judge)
        arms = [*self._arms(options, own)]
        if finished is not None:
            return finished
        pair, budget = pair_identity.policies(setup), int(options.max_tokens or 0)
        asked = {
            role: list(intervention_arms.pending(arms, role, policy, setup.prompts[role], budget))
            for role, policy in pair.items()
        }
        stages = self.stages_of_both(folder, judge)
        with self.engines.beside(setup.student, setup.teacher):
            tables = [stages.run(f"{role} continues", role, asked[role]) for role in pair]
        return folder.merge(tables)

    def _arms(self, options: InterventionOptions, own: Edits | None) -> list[Arm]:
        """The prefixes to continue, with notes on problems and rollouts that have none."""
        problems = {problem.problem_id: problem for problem in self.setup.problems}
        samples = int(options.samples or 1)
        if own is not None:
            return [*intervention_arms.own(own, problems, samples)]
        self.material.notes.append(STYLES_NOTE)
        counts = options.chain_steps
        made = [*intervention_arms.made(self.setup.problems, counts, samples, options.seed)]
        pair, budget = pair_identity.policies(self.setup), int(options.max_tokens or 0)
        for role, policy in pair.items():  # what leaves no budget is reported before any sampling
            [*intervention_arms.pending(made, role, policy, self.setup.prompts[role], budget)]
        wanted, got = len(problems) * len(counts), len({_prefix(arm) for arm in made})
        if got < wanted:
            self.material.notes.append(
                f"{wanted - got} of {wanted} made chains are left out: the problem ends there, or "
                "no slip leaves whole numbers; smaller --chain-steps lose fewer"
            )
        base = self._base_rollouts()
        changed = intervention_arms.changed(base, problems, self.setup.student, options.seed)
        arms = [*made, *self._short_enough(list(changed), budget)]
        if not arms:
            raise UserError(
                "there is no prefix to continue: no problem has more steps than --chain-steps, and "
                "no rollout holds a step that can be read; lower --chain-steps"
            )
        # By problem, since parts have whole problems.
        place = {name: number for number, name in enumerate(problems)}
        return sorted(arms, key=lambda arm: place[arm.problem.problem_id])

    def _short_enough(self, arms: list[Arm], budget: int) -> list[Arm]:
        """Changed rollouts, without both sides of those that leave no token of the budget."""
        pair = pair_identity.policies(self.setup).values()
        full = {
            arm.rollout_id
            for arm in arms
            if any(len(policy.encode(arm.text)) >= budget for policy in pair)
        }
        self._count(
            "changed rollouts",
            len(full),
            len({arm.rollout_id for arm in arms}),
            "fill the budget up to the changed step, left out; raise --max-tokens",
        )
        return [arm for arm in arms if arm.rollout_id not in full]

    # The KL behind the prefixes

    def kl_behind(self, rollouts: pa.Table) -> pd.DataFrame:
        """rollout_id and mean_reverse_kl of each continuation by the student, in nats per token.

        Of two vocabularies there is none: the frame is empty and a note says so.
        """
        nothing = pd.DataFrame({"rollout_id": [], "mean_reverse_kl": []})
        try:
            vocabulary = share_vocabulary(self.setup.student, self.setup.teacher)
        except UserError as error:
            self.material.notes.append(f"no KL behind the prefixes: {error}")
            return nothing
        own = rollouts.filter(pc.equal(rollouts["author"], STUDENT))
        readable = []
        for row in own.select(
            ["rollout_id", "problem_id", "prompt_ids", "prefix_ids", "response_ids"]
        ).to_pylist():
            response = row["response_ids"]
            kept = tuple(response[: vocabulary.readable(response)])
            prefix = tuple(row["prefix_ids"])
            teacher = (*self.setup.prompts[TEACHER][row["problem_id"]], *prefix)
            if kept and vocabulary.readable(prefix) == len(prefix):
                student = (*row["prompt_ids"], *prefix)
                readable.append(Rollout(row["rollout_id"], student, teacher, kept))
        if not readable:
            return nothing
        self._count(
            "KL behind the prefixes",
            len(own) - len(readable),
            len(own),
            "continuations hold nothing that both policies can read, left out",
        )
        folder = self._scored("scoring what the student continues", self.setup.student, readable, 0)
        problems = dict.fromkeys([rollout.rollout_id for rollout in readable], 0)
        tokens = score_store.table(folder, readable, problems, 1)
        sums = np.add.reduceat(np.asarray(tokens["reverse_kl"], dtype=np.float64), tokens.starts)
        names = [rollout.rollout_id for rollout in readable]
        return pd.DataFrame({"rollout_id": names, "mean_reverse_kl": sums / tokens.lengths})


def _prefix(arm: Arm) -> tuple[str, str]:
    """Problem and number of steps of a made prefix."""
    return arm.problem.problem_id, arm.condition.split("/")[1]
