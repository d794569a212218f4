"""`Probe`: KL from the teacher by position, and length and stops, while a student is trained.

    probe = Probe("Qwen/Qwen3-1.7B", tokenizer, "math500", out="runs/probe", limit=64)
    for step in range(1001):
        if step % 50 == 0:
            reading = probe.measure(model, step)  # the first time before training, with step 0
            wandb.log(reading.logs, step=step)
        train_one_step(model)

Each measurement has the two views of ``position-kl``: `frozen` scores the rollouts of the untrained
student, `fresh` the student's own of this step. The folder is a position-kl run, with the steps as
checkpoints. The model is left as it was: modes, random numbers, gradients, precision.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Unpack

import pandas as pd
import pyarrow as pa

from decaylab.analyses import position_kl
from decaylab.errors import UserError
from decaylab.options import option_values
from decaylab.options.option_values import Must
from decaylab.policies import loaded_checks, loading
from decaylab.policies.loaded_checks import plain_model
from decaylab.policies.loaded_models import (
    LoadedPolicy,
    as_loaded,
    same_random_numbers,
    undisturbed,
)
from decaylab.policies.policy import Policy
from decaylab.probing import kept, notes
from decaylab.probing.asked import (
    Asked,
    ProblemsLike,
    TeacherLike,
    asked,
    named,
    problem_set,
    student_policy,
    teacher_name,
)
from decaylab.probing.options import ProbeOptions, probe_options
from decaylab.probing.reading import Reading
from decaylab.problems.problem import ProblemSet
from decaylab.rollouts.sampling import Response, settings_of
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs.vocabulary import BASE, FRESH, FROZEN, TEACHER, rows
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings
from decaylab.tokens.token_table import Scored
from decaylab.trainer import alarms
from decaylab.trainer.alarms import Thresholds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)
Step = Annotated[int, Must("be at least 0", lambda step: step >= 0)]
PREFIX = "prefix"
"""The selector of a loop whose rollouts stop at N tokens and that trains on all of them."""


class Probe:
    """Measures one student again and again, on rollouts of its own and of its untrained self.

    Args:
        teacher: a name (folder, hub id, ``abacus-teacher``), a `Policy`, a model in memory with its
            tokenizer, ``(model, tokenizer)``, or a model alone that reads the student's ids.
        tokenizer: of the student.
        problems: a problem set, by name or loaded; or a list of dicts, or a DataFrame.
        out: the run folder. An existing one is resumed by the same probe.
        fresh: sample the student's own rollouts at each step too, for the fresh view and the
            alarms. Without, only base is sampled, and a measurement is one scoring pass.
        thresholds: of the alarms.
        command: what the run folder names as its command.
        options: see `ProbeOptions`.

    Raises:
        UserError: an option, the teacher's name or the problem set is not usable.
    """

    def __init__(
        self,
        teacher: TeacherLike,
        tokenizer: PreTrainedTokenizerBase,
        problems: ProblemsLike | ProblemSet,
        out: str | Path,
        *,
        fresh: bool = True,
        thresholds: Thresholds = Thresholds(),
        command: str = "dl.Probe",
        **options: Unpack[ProbeOptions],
    ) -> None:
        loaded_checks.check_tokenizer(tokenizer, "give the student's, as AutoTokenizer loads it")
        given: Any = str(teacher) if isinstance(teacher, Path) else teacher
        if isinstance(teacher, tuple | LoadedPolicy):
            given = as_loaded(teacher)
        self._given, self.tokenizer = given, tokenizer
        self.fresh, self.thresholds, self.command = fresh, thresholds, command
        with named(problems) as asked_for:
            name = asked_for.name if isinstance(asked_for, ProblemSet) else asked_for
            self.options = probe_options(options, teacher_name(given), name)
            self.problem_set = problem_set(asked_for, self.options)
        if isinstance(given, str):
            loading.resolve(given)
        else:
            loaded_checks.refuse_placing({"dtype": self.options.dtype})
        self.kept = kept.Kept(Path(out))
        self._asked: Asked | None = None
        self._opened = False
        self._tables: dict[int, pa.Table] = {}
        self._frames: dict[int, pd.DataFrame] = {}
        self._scorer: Scorer | None = None

    @property
    def steps(self) -> tuple[int, ...]:
        """The measured steps, ascending."""
        return tuple(self.kept.steps())

    @property
    def measurements(self) -> pd.DataFrame:
        """The measurements of all steps so far."""
        return pd.concat([self._frame(step) for step in self.steps], ignore_index=True)

    def prepare(self, model: Any) -> Asked:
        """Loads the teacher and renders the prompts, if that is not done; `measure` calls it.

        Raises:
            UserError: the teacher has another vocabulary, or a prompt leaves no room for the
                budget.
        """
        if self._asked is None:
            with same_random_numbers(plain_model(model)):  # a teacher that is loaded may draw some
                self._asked = asked(
                    model, self._given, self.tokenizer, self.problem_set, self.options
                )
        return self._asked

    def resume(self, model: Any, step: int) -> None:
        """Drops the measurements after this step, at which training resumes; -1 drops all.

        Raises:
            UserError: the folder holds another probe, or nothing from before training.
        """
        self._open(model)
        self._drop_after(step)
        if step > 0 and not self.steps:
            raise UserError(
                f"{self.kept.path} holds no measurement from before training, so step {step} has "
                "no base to compare with: give the out of the run that is resumed, or measure from "
                "step 0 on"
            )

    def measure(self, model: Any, step: int) -> Reading:
        """Measures the student as it is now and adds it to the folder.

        The first measurement is that of the untrained student, with step 0. A later step that was
        measured before is measured again, and those after it are dropped: training has been
        resumed. In a run of several processes only the main one may call it.

        Args:
            model: the student; wrappers of DDP, torch.compile and PEFT are looked through.
            step: optimizer steps taken.

        Raises:
            UserError: step 0 in a folder that holds a measured run, or no rollout has a token that
                the teacher can read.
        """
        step = option_values.checked("step", Step, step)
        self._open(model)
        if step == 0 and self.steps:
            raise UserError(
                f"{self.kept.path} already holds the probe of a training run, up to step "
                f"{self.steps[-1]}: resume that run, remove the folder, or give another out"
            )
        if step:
            self.resume(model, step)
            self._drop_after(step - 1)  # a step that is measured again
        began = time.monotonic()
        student = self._student(model)
        with undisturbed(student.weights), undisturbed(self.prepare(model).teacher.weights):
            table, row = self._measured(student, step)
        self.kept.write_step(step, table, {**row, "seconds": time.monotonic() - began})
        self._tables[step] = table
        return self._written(step)

    def _open(self, model: Any) -> None:
        if not self._opened:
            self._asked = self.kept.open(self.prepare(model), self.command, fresh=self.fresh)
            # What a killed process left of a step is dropped.
            self._drop_after(max(self.steps, default=-1))
            self._opened = True

    def _drop_after(self, step: int) -> None:
        self.kept.drop_after(step)
        for each in (self._tables, self._frames):
            for later in [known for known in each if known > step]:
                del each[later]

    def _student(self, model: Any) -> Policy:
        found = self.prepare(model)
        if found.student.weights is plain_model(model):
            return found.student
        return student_policy(model, self.tokenizer, found.options)

    def _measured(self, student: Policy, step: int) -> tuple[pa.Table, dict[str, Any]]:
        """The scored tokens of this step, and counts of its rollouts."""
        views: dict[str, list[Rollout]] = {}
        counts: dict[str, Any] = dict.fromkeys(
            ("rollouts", "cut_off", "unreadable", *notes.BEHAVIOUR), math.nan
        )
        if step:
            views[FROZEN] = self._base()
        if self.fresh or not step:
            views[FRESH], counts = self._sampled(student)
        if not any(views.values()):
            raise UserError(
                f"no rollout of {student.name} begins with a token that "
                f"{self.prepare(student.weights).teacher.name} can read"
            )
        parts = []
        for view, rollouts in views.items():
            if rollouts:
                scored = self._scoring(student).score(rollouts)
                parts.append(kept.token_rows(view, rollouts, scored))
        return pa.concat_tables(parts).unify_dictionaries(), counts

    def _scoring(self, student: Policy) -> Scorer:
        if self._scorer is None or self._scorer.student.weights is not student.weights:
            settings = ScoringSettings(batch_tokens=self.options.batch_tokens)
            teacher = self.prepare(student.weights).teacher
            self._scorer = Scorer(student, teacher, settings, logger.warning)
        return self._scorer

    def _sampled(self, student: Policy) -> tuple[list[Rollout], dict[str, Any]]:
        """The student's own rollouts, up to what the teacher can read, and counts of them."""
        found = self.prepare(student.weights)
        chosen = found.options
        requests = list(found.requests())
        engine = TransformersEngine(
            student, batch_rows=chosen.batch_rows, on_warning=logger.warning
        )
        sampling = settings_of(chosen)
        responses = engine.sample(requests, sampling)
        vocabulary = self._scoring(student).vocabulary
        rollouts, unreadable = [], 0
        for request, response in zip(requests, responses, strict=True):
            readable = response.ids[: vocabulary.readable(response.ids)]
            unreadable += len(readable) < len(response.ids)
            if readable:
                name = kept.rollout_id(request.problem_id, request.sample)
                read = found.prompts[TEACHER][request.problem_id]
                rollouts.append(Rollout(name, request.prompt_ids, read, readable))
        return rollouts, {**_counts(responses), "unreadable": unreadable}

    def _table(self, step: int) -> pa.Table:
        if step not in self._tables:
            self._tables[step] = self.kept.tokens(step)
        return self._tables[step]

    def _base(self) -> list[Rollout]:
        assert self._asked is not None
        return kept.rollouts_of(kept.of_view(self._table(0), FRESH), self._asked.prompts)

    # Measurements

    def _written(self, step: int) -> Reading:
        """Writes the folder's measurements; returns those of this step."""
        steps = self.kept.table.read()
        raised = notes.raised(steps, self.thresholds)
        self.kept.write(self.measurements, [*notes.notes(steps, raised)], raised)
        for done in [known for known in self._tables if known]:  # only base is needed again
            del self._tables[done]
        row = steps[steps["step"] == step].iloc[0]
        now = tuple(str(each["alarm"]) for each in raised if each["step"] == step)
        for sentence in now:
            logger.warning("alarm at step %d: %s", step, sentence)
        frame, behaviour = self._frame(step), notes.behaviour(row)
        name = notes.checkpoint(step)
        return Reading(step, name, frame, behaviour, now, float(row["seconds"]))

    def _frame(self, step: int) -> pd.DataFrame:
        """The measurements of one step, changes from base included."""
        if step not in self._frames:
            assert self._asked is not None
            codes, chosen = self._asked.codes, self._asked.options
            base = kept.token_table(kept.of_view(self._table(0), FRESH), codes)
            scored = [Scored(BASE, FRESH, base), Scored(BASE, FROZEN, base)]
            name = notes.checkpoint(step)
            for view in (FRESH, FROZEN) if step else ():
                found = kept.of_view(self._table(step), view)
                if len(found):
                    scored.append(Scored(name, view, kept.token_table(found, codes)))
            settings = position_kl.Settings(
                chosen.bins or (0,),
                int(chosen.rollout_length or 1),
                level=chosen.level,
                seed=chosen.seed,
                run=self.kept.path.name,
            )
            frame = rows(position_kl.measure(scored, settings), checkpoint=name)
            frame = frame.assign(step=float(step))
            if step and self.options.rollout_length is not None:
                length = float(self.options.rollout_length)
                frame = frame.assign(selector=PREFIX, rollout_length=length)
            self._frames[step] = frame
        return self._frames[step]


def _counts(responses: Sequence[Response]) -> dict[str, Any]:
    written = [response.written for response in responses]
    ended = [response.ended for response in responses]
    found = alarms.behaviour_of(alarms.counted(written, ended), len(responses))
    return {
        "rollouts": len(responses),
        "cut_off": len(responses) - sum(ended),
        **{name: getattr(found, name) for name in notes.BEHAVIOUR},
    }
