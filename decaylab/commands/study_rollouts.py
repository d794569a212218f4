"""The rollouts that diagnostics look at: of the base student, each checkpoint and the teacher.

They come from a run or a file that was given, or from a cache under content hashes, so that a
second diagnostic on the same models samples nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from decaylab.commands import pair_identity
from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.pair.prepare import Setup, longest_context
from decaylab.pair.targets import Target, Targets, check_same_base
from decaylab.policies import loading, served_policies
from decaylab.policies.policy import Policy, load_settings
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollout_files.table import to_table
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.sampling import settings_of
from decaylab.rollouts.stages import Stages, StageSettings, absent_note
from decaylab.runs import graded, own_tokens, sources, store
from decaylab.runs.vocabulary import BASE, STUDENT, TEACHER
from decaylab.tokens.categories import Categories
from decaylab.tokens.token_table import Scored


@dataclass
class Material:
    """What was gathered. rollouts: rows of the rollouts table by checkpoint, ``base`` first.
    Scored: see `Scored`."""

    rollouts: dict[str, pd.DataFrame] = field(default_factory=dict)
    scored: list[Scored] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[sources.Scored] = field(default_factory=list)
    rollout_folders: dict[str, Path] = field(default_factory=dict)
    """The folder of the cache that each policy's sampled rollouts stand in."""
    given: pa.Table | None = None
    """The base student's rollouts, if they were given and not sampled."""
    by_bytes: list[Scored] = field(default_factory=list)
    """With one tokenizer: the same rollouts scored as with two, where that was asked for."""
    other_law: dict[str, str] = field(default_factory=dict)
    """Of what was scored as with two tokenizers, by checkpoint: why its rollouts were not drawn
    from the law that is scored; "" if they were."""
    viewed: list[list[pa.Table]] = field(default_factory=list)
    """Of each student the two tables of the rollouts that are kept to look at."""


class StudyRollouts:
    """The rollouts of one setup. Policies other than the pair are loaded when they are needed, one
    at a time."""

    def __init__(
        self,
        setup: Setup[DiagnosticOptions],
        targets: Targets,
        grader: Grader,
        reporter: Reporter,
        rules: Categories,
        engines: Engines,
    ) -> None:
        """rules: the categories of viewed tokens."""
        self.setup, self.targets, self.options = setup, targets, setup.options
        self.grader, self.reporter, self.rules, self.engines = grader, reporter, rules, engines
        self.cache = Path(setup.options.cache).expanduser()
        problem_ids = [problem.problem_id for problem in setup.problems]
        self.codes = {problem_id: code for code, problem_id in enumerate(problem_ids)}
        self.material, self.keeps = Material(), True

    def _keep(self, label: str, rollouts: pa.Table) -> None:
        if self.keeps:
            self.material.rollouts[label] = rollouts.to_pandas()
        cut_off = pc.sum(pc.equal(rollouts["stop_reason"], "length")).as_py() or 0
        self._count(label, cut_off, len(rollouts), f"were cut off at the budget{graded.RAISE}")
        inside = graded.count_open(rollouts)
        self._count(label, inside, len(rollouts), f"end inside a thought: no answer{graded.RAISE}")
        if note := absent_note(label, rollouts):
            self.material.notes.append(note)

    def _count(self, label: str, count: int, total: int, what: str) -> None:
        """Notes how many rollouts something happened to."""
        if count:
            self.material.notes.append(f"{label}: {count} of {total} rollouts {what}")

    def _load(self, target: Target) -> Policy:
        # A hub revision is that of the student; a local adapter finds its base there.
        settings = load_settings(self.options, "student", self.engines.device)
        if not isinstance(loading.resolve(target.name), Path):
            settings = replace(settings, revision=None)
        load = loading.load if self.options.needs_weights("student") else served_policies.serve
        policy = load(target.name, settings)
        for note in (*policy.notes, check_same_base(policy, self.setup.student)):
            if note and note not in self.material.notes:  # a target is loaded more than once
                self.material.notes.append(note)
        return policy

    # Rollouts

    def _base_rollouts(self) -> pa.Table:
        """Of the base student: those of the run or file that was given, or sampled."""
        setup = self.setup
        if setup.external is None and self.targets.rollouts is None:
            return self._sampled(setup.student, STUDENT, BASE)
        self.material.given = self._given_rollouts()
        return self.material.given

    def _given_rollouts(self) -> pa.Table:
        """Those of the file, or of the run."""
        setup = self.setup
        if setup.external is not None:
            name = setup.external.name
            if self.targets.checkpoints:
                self.material.notes.append(
                    f"fresh: base's rollouts are those of {name}, others are sampled at T = "
                    f"{self.options.temperature:g}; give --temperature the one of the file"
                )
            judge = self._judge(STUDENT, setup.student, BASE)
            table, notes = to_table(
                setup.external, setup.problems, setup.student, judge, setup.prompts[STUDENT]
            )
            self.material.notes += notes
            return table
        assert self.targets.rollouts is not None
        return self._of_run(self.targets.rollouts)

    def _of_run(self, run: Path) -> pa.Table:
        """The student rollouts of a run, to the problems that are asked.

        Raises:
            UserError: another student wrote them, or to other prompts.
        """
        author = (store.RunFolder(run).record or {}).get("identity", {}).get(STUDENT, {})
        if author.get("content_hash") != self.setup.student.identity.content_hash:
            raise UserError(
                f"the rollouts of {run} were written by {author.get('name')}, not by --student "
                f"{self.setup.student.name}"
            )
        everything = store.read_table(run / "rollouts.parquet", store.ROLLOUTS)
        written = everything.filter(pc.equal(everything["condition"], STUDENT))
        asked = written.filter(pc.is_in(written["problem_id"], pa.array(list(self.codes))))
        prompts = self.setup.prompts[STUDENT]
        rows = asked.select(["problem_id", "prompt_ids"]).to_pylist()
        if not rows or any(tuple(row["prompt_ids"]) != prompts[row["problem_id"]] for row in rows):
            raise UserError(
                f"the rollouts of {run} were written to other prompts than are asked now; leave "
                "out what makes them others (--problems, --thinking, --prompt-format, --system, "
                "--instruction, --template-kwargs)"
            )
        if len(asked) < len(written):
            self.material.notes.append(
                f"{len(written) - len(asked)} rollouts of {run} are to problems that are not "
                "asked, left out; a larger --limit takes them in"
            )
        return self._judge(STUDENT, self.setup.student, BASE).current(asked)

    def _sampled(self, policy: Policy, role: str, label: str) -> pa.Table:
        """A policy's own rollouts, from the cache or sampled now, part by part."""
        options, prompts = self.options, self.setup.prompts[role]
        sampling = settings_of(options)
        identity = {
            "policy": policy.identity.contents,
            "precision": policy.precision,
            "role": role,
            "prompts": _digest([[name, *ids] for name, ids in prompts.items()]),
            "sampling": sampling.__dict__,
            "samples": options.samples,
            "max_tokens": options.max_tokens,
            "end_ids": sorted(policy.end_ids),
        }
        folder = store.RunFolder(self.cache / f"rollouts-{_digest(identity)[:16]}")
        self.material.rollout_folders[label] = folder.path
        judge = self._judge(role, policy, label)
        # A finished one is read while another process is in there; what is still being made is
        # waited for.
        if (folder.path / "rollouts.parquet").exists():
            folder.open({"identity": identity})
            finished = folder.read_rollouts()
            if finished is not None and judge.current(finished) is finished:
                return finished
        with folder.lock(wait=self.reporter.note):
            folder.open({"identity": identity})
            if (finished := folder.read_rollouts()) is not None:
                return folder.merge([judge.current(finished)])
            engine = self.engines.of(policy, longest_context(self.setup, role))
            settings = StageSettings(
                int(options.max_tokens or 0),
                sampling,
                options.batch_rows,
                parallel=self.engines.parallel,
            )
            stages = Stages({role: engine}, settings, judge, folder, self.reporter)
            name = role if label in (BASE, TEACHER) else label
            with self.engines.beside(self.setup.student, self.setup.teacher, policy):
                written = stages.plain(
                    role, self.setup.problems, prompts, int(options.samples or 0), name=name
                )
            return folder.merge([written])

    def _judge(self, role: str, policy: Policy, label: str) -> graded.Judge:
        """What gives the verdicts on what a policy wrote. label: of the policy in the results."""
        default = self.setup.problem_set.answer_rule
        return graded.judge(
            self.grader,
            self.setup.problems,
            {role: policy},
            self.options.thought_marks,
            *(default, self.setup.answer_rule),
            task=self.setup.problem_set.task,
            given=self.setup.verdicts,
            whose=label,
        )

    # Continuations by both policies, in the folder of a run

    def judge_of_both(self) -> graded.Judge:
        """What gives the verdicts on continuations by student and teacher."""
        setup = self.setup
        return graded.judge(
            self.grader,
            setup.problems,
            pair_identity.policies(setup),
            self.options.thought_marks,
            *(setup.problem_set.answer_rule, setup.answer_rule),
            task=setup.problem_set.task,
        )

    def stages_of_both(self, folder: store.RunFolder, judge: graded.Judge) -> Stages:
        """Stages of both policies, which write their parts to a run's folder."""
        setup, options = self.setup, self.options
        engines = {
            role: self.engines.of(policy, longest_context(setup, role))
            for role, policy in pair_identity.policies(setup).items()
        }
        settings = StageSettings(
            int(options.max_tokens or 0),
            settings_of(options),
            options.batch_rows,
            parallel=self.engines.parallel,
        )
        return Stages(engines, settings, judge, folder, self.reporter)


def check_one_turn(command: str, rollouts: pa.Table) -> None:
    """Raises UserError if tools or users wrote parts of the rollouts."""
    names = rollouts.column_names
    if own_tokens.MASK in names and rollouts[own_tokens.MASK].null_count < len(rollouts):
        raise UserError(
            f"rollouts with tools or several users are measured by prefix-decay, not by {command}"
        )


def finished_rollouts(folder: store.RunFolder, judge: graded.Judge) -> pa.Table | None:
    """The rollouts of a run that has sampled all of them, graded by the current rules."""
    finished = folder.read_rollouts()
    if finished is None:
        return None
    current = judge.current(finished)
    return finished if current is finished else folder.merge([current])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
