"""arm-gains from options to results: the tokens that each arm of a sweep trains on, one teacher
token there, the numbers beside what training gave, the figure. Safe to kill and start again.

RUN/parts/*.parquet    continuations, while the run goes on
RUN/rollouts.parquet   all of them
RUN/places.parquet     the drawn tokens of each arm, with both outcomes
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from decaylab.analyses import arm_gains as analysis
from decaylab.analyses.arm_gains import Masked
from decaylab.commands import diagnose, results_folders
from decaylab.commands.diagnose import DiagnosticResult
from decaylab.commands.drawing import drawn
from decaylab.commands.study import Study
from decaylab.commands.study_rollouts import Material, check_one_turn, finished_rollouts
from decaylab.commands.token_truth import TruthStudy
from decaylab.errors import UserError, keeping
from decaylab.maths.clusters import Floats
from decaylab.maths.selection import Signals, weigh
from decaylab.options.arm_gaining import ArmGainOptions
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.pair import targets
from decaylab.pair.prepare import GRADING_WORKERS, Setup, prepare
from decaylab.problems.grading import Grader, Verdict
from decaylab.progress import Reporter
from decaylab.rollouts import one_token, seams
from decaylab.rollouts.engines import Engines
from decaylab.runs import found_runs, own_tokens, store, trained_arms
from decaylab.runs.found_runs import FoundRun, Pair
from decaylab.runs.trained_arms import TrainedArm
from decaylab.runs.vocabulary import BASE, HAND_BACK, HAND_BACK_TEACHER
from decaylab.tokens import score_store, task_categories
from decaylab.tokens.token_table import TokenTable
from decaylab.tokens.truth_places import RESULT

COMMAND = "arm-gains"
PLACES = "decaylab.arm-places/1"
EVERY_TOKEN = 10**9  # the budget of selectors without one
SIGNALS = Signals._fields


def arm_gains(
    options: ArmGainOptions, *, spoken: str = "", reporter: Reporter | None = None
) -> DiagnosticResult:
    """Measures and writes the run folder; what was sampled or scored before is not done again.

    Raises:
        UserError: no sweep, sweeps of another pair, or anything else that a user can mend.
    """
    reporter = reporter or Reporter(quiet=True)
    chosen = targets.resolve(options)
    resolved = chosen.options.resolved()
    assert isinstance(resolved, ArmGainOptions)
    sweeps = found_runs.find(list(resolved.sweeps))
    arms, arm_notes = trained_arms.of_sweeps(sweeps)
    folder = store.RunFolder(results_folders.folder(COMMAND, resolved, chosen))
    with (
        keeping(lambda: f"finished continuations are kept in {folder.path}"),
        Grader(workers=GRADING_WORKERS, sandboxed=not resolved.no_sandbox) as grader,
        Engines(resolved, reporter) as engines,
    ):
        setup = prepare(resolved, grader, engines.device, reporter)
        _check_pair(setup, sweeps)
        with folder.lock():
            identity = {"arms": [arm.identity for arm in arms]}
            setup = diagnose.opened(COMMAND, setup, chosen, folder, spoken, **identity)
            rules = task_categories.load(resolved.task.categories, None)
            study = ArmStudy(setup, chosen, grader, reporter, rules, engines)
            material = study.gather(tokens=True, rollouts=False)
            weights = {arm.name: study.weights(arm) for arm in arms}
            places = {arm.name: study.drawn_places(arm, weights[arm.name]) for arm in arms}
            table = study.with_outcomes(places, folder)
            store.write_table(pa.Table.from_pandas(table), folder.path / "places.parquet", PLACES)
            notes = (*setup.notes, *arm_notes, *material.notes)
            diagnose.gathered(folder, spoken, notes, material, answer_rule=setup.answer_rule)
            masked = {arm.name: study.masked(arm, weights[arm.name], table) for arm in arms}
            settings = analysis.Settings(
                level=resolved.level, seed=resolved.seed, run=folder.path.name
            )
            frame = diagnose.written(analysis.measure(arms, masked, settings), chosen, folder)
    record = drawn(folder, COMMAND, published=False)
    return DiagnosticResult(COMMAND, folder.path, record, frame, tuple(record["notes"]))


def _check_pair(setup: Setup[DiagnosticOptions], sweeps: Sequence[FoundRun]) -> None:
    """Raises UserError if the sweeps trained another student, or under another teacher."""
    student, teacher = setup.student.identity, setup.teacher.identity
    pair = Pair(student.name, teacher.name, student.content_hash, teacher.content_hash)
    for sweep in sweeps:
        if not sweep.pair.same(pair):
            raise UserError(
                f"{sweep.folder} trained {sweep.pair}, and this is {pair}; give the sweep's pair "
                "(--student, --teacher), or sweeps of this one"
            )


@dataclass(frozen=True)
class Scored:
    """The base student's rollouts that were scored: ids, problem codes and tokens."""

    names: list[str]
    tokens: TokenTable


class ArmStudy(TruthStudy):
    """The base student's rollouts with scores, what arms train on in them, and one teacher token
    there."""

    def gather(self, *, tokens: bool, rollouts: bool = True) -> Material:
        """Rollouts and scores; the places of steps where the problems have steps."""
        self.places = list[pa.Table]()
        Study.gather(self, tokens=tokens, rollouts=rollouts)
        check_one_turn(COMMAND, self.base)
        readable = self._readable(BASE, self.base)
        table = score_store.table(
            self.material.folders[0].folder,
            readable,
            self._problems(self.base),
            len(self.codes),
        )
        self.scored = Scored([rollout.rollout_id for rollout in readable], table)
        if all(problem.steps for problem in self.setup.problems):
            self._measure(BASE, self.setup.student, self.base)
        # The same rollouts are looked at several times.
        self.material.notes[:] = dict.fromkeys(self.material.notes)
        return self.material

    def _keep(self, label: str, rollouts: pa.Table) -> None:
        super()._keep(label, rollouts)
        self.base = own_tokens.with_column(rollouts)

    def weights(self, arm: TrainedArm) -> list[Floats]:
        """Of each scored rollout, the weight of every token in the arm's loss."""
        tokens, rng = self.scored.tokens, self._rng(arm)
        columns = [np.asarray(tokens[name], dtype=np.float64) for name in SIGNALS]
        found = []
        for start, length in zip(tokens.starts, tokens.lengths, strict=True):
            signals = Signals(*(column[start : start + length] for column in columns))
            found.append(weigh(arm.selector, signals, arm.budget or EVERY_TOKEN, rng))
        return found

    def _rng(self, arm: TrainedArm) -> np.random.Generator:
        return np.random.default_rng([self.options.seed, zlib.crc32(arm.name.encode())])

    def drawn_places(self, arm: TrainedArm, weights: Sequence[Floats]) -> pd.DataFrame:
        """Tokens of the arm, drawn with replacement in proportion to their weights: rollout_id
        and position."""
        options = self.options
        assert isinstance(options, ArmGainOptions)
        flat = np.concatenate(weights)
        if not flat.sum() > 0:
            raise UserError(f"{arm.name} weights no token of these rollouts; sample longer ones")
        chosen = self._rng(arm).choice(flat.size, options.tokens_per_arm, p=flat / flat.sum())
        names = np.repeat(np.array(self.scored.names, dtype=object), self.scored.tokens.lengths)
        positions = self.scored.tokens.positions
        columns = {"rollout_id": names[chosen], "position": positions[chosen]}
        return pd.DataFrame({"arm": arm.name, **columns})

    def with_outcomes(
        self, places: dict[str, pd.DataFrame], folder: store.RunFolder
    ) -> pd.DataFrame:
        """The drawn places of all arms, with whether the student is right behind the teacher's
        token and without it, NaN where it could not be handed back."""
        table = pd.concat(places.values(), ignore_index=True)
        asked = table[["rollout_id", "position"]].drop_duplicates()
        grouped = asked.groupby("rollout_id")["position"]
        by_rollout = {str(name): sorted(each.tolist()) for name, each in grouped}
        outcomes = outcomes_of(self._continued(by_rollout, folder), self.setup.answer_rule)
        return table.merge(outcomes, on=["rollout_id", "position"], how="left")

    def _continued(self, places: dict[str, list[int]], folder: store.RunFolder) -> pd.DataFrame:
        """The rows of all continuations, from the folder or sampled now."""
        judge = self.judge_of_both()
        table = finished_rollouts(folder, judge)
        if table is None:
            stages, setup = self.stages_of_both(folder, judge), self.setup
            written = one_token.collect(stages, setup.problems, setup.prompts, self.base, places)
            table = folder.merge(written)
        self.material.notes += seams.notes(table)
        return pd.DataFrame(table.to_pandas())

    def masked(self, arm: TrainedArm, weights: Sequence[Floats], table: pd.DataFrame) -> Masked:
        """What the arm trains on, as the analysis takes it."""
        flat, kl = np.concatenate(weights), np.asarray(self.scored.tokens["reverse_kl"])
        problem_of = self._problems(self.base)
        own = table[table["arm"] == arm.name]
        draws = own.assign(problem=own["rollout_id"].map(problem_of))
        total = float(kl.sum())
        share = float(kl[flat > 0].sum()) / total if total > 0 else np.nan
        return Masked(draws, self._truth(weights), float((flat > 0).sum() / len(weights)), share)

    def _truth(self, weights: Sequence[Floats]) -> pd.DataFrame | None:
        """The gains of mass on correct tokens where results begin, with the arm's weights."""
        if not self.places:
            return None
        places = self.places[0].to_pandas()
        places = places[(places["kind"] == RESULT) & places["student_true"].notna()]
        by_name = dict(zip(self.scored.names, weights, strict=True))
        weight = [
            by_name[name][position]
            for name, position in zip(places["rollout_id"], places["position"], strict=True)
        ]
        found = pd.DataFrame(
            {
                "problem": places["problem_id"].map(self.codes).to_numpy(),
                "weight": weight,
                "gain": (places["teacher_true"] - places["student_true"]).to_numpy(),
            }
        )
        return found[found["weight"] > 0]


def outcomes_of(rollouts: pd.DataFrame, answer_rule: str) -> pd.DataFrame:
    """Both outcomes of each place: rollout_id, position, with and without, 1 if right.

    Where the teacher's first token ended the turn, or filled the budget, its own text is the
    outcome with it.
    """
    place = ["prefix_rollout_id", "prefix_tokens"]
    right = (rollouts[f"grade_{answer_rule}"] == Verdict.CORRECT).astype(np.float64)
    graded_rows = rollouts.assign(right=right, written=rollouts["response_ids"].map(len))
    teacher = graded_rows[graded_rows["condition"] == HAND_BACK_TEACHER].set_index(place)
    student = graded_rows[graded_rows["condition"] == HAND_BACK]
    by_count = {
        count: student[student["teacher_tokens"] == count].set_index(place)["right"]
        for count in (one_token.WITHOUT, one_token.WITH)
    }
    ended = teacher["written"] <= one_token.WITH
    behind = by_count[one_token.WITH].reindex(teacher.index)
    found = pd.DataFrame(
        {
            "with": teacher["right"].where(ended, behind),
            "without": by_count[one_token.WITHOUT].reindex(teacher.index),
        }
    )
    return found.reset_index(names=["rollout_id", "position"])
