"""What the diagnostics look at: rollouts of the base student and of each checkpoint, and their
tokens, scored.

Both come from a cache under content hashes, so that a second diagnostic on the same models and
rollouts runs no model.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.pair.prepare import Setup, longest_context
from decaylab.pair.targets import Target, Targets, check_same_base
from decaylab.policies import loading, served_policies
from decaylab.policies.policy import Policy, load_settings, wider_than
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems.grading import Grader
from decaylab.progress import Reporter
from decaylab.rollout_files.table import to_table
from decaylab.rollouts.engine_spec import engine_record
from decaylab.rollouts.engines import Engines
from decaylab.rollouts.sampling import SamplingSettings
from decaylab.rollouts.stages import Stages, StageSettings, absent_note
from decaylab.runs import graded, own_tokens, store
from decaylab.runs.vocabulary import BASE, FRESH, FROZEN, STUDENT, TEACHER
from decaylab.tokens import score_store, viewed
from decaylab.tokens.categories import CategoryRules
from decaylab.tokens.scoring import Rollout, Scorer, ScoringSettings
from decaylab.tokens.token_table import Scored

BATCHES_A_PART = 4  # at least, so that large batches are not cut short by the parts on disk


@dataclass
class Material:
    """What was gathered. rollouts: rows of the rollouts table by checkpoint, ``base`` first.
    Scored: see `Scored`."""

    rollouts: dict[str, pd.DataFrame] = field(default_factory=dict)
    scored: list[Scored] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    """Where the scored tokens stand."""
    viewed: list[list[pa.Table]] = field(default_factory=list)
    """Of each student the two tables of the rollouts that are kept to look at."""


class Study:
    """Gathers the material of one setup. Policies other than the pair are loaded when they are
    needed, one at a time."""

    def __init__(
        self,
        setup: Setup[DiagnosticOptions],
        targets: Targets,
        grader: Grader,
        reporter: Reporter,
        rules: CategoryRules,
        engines: Engines,
    ) -> None:
        """rules: the categories of viewed tokens."""
        self.setup, self.targets, self.options = setup, targets, setup.options
        self.grader, self.reporter, self.rules, self.engines = grader, reporter, rules, engines
        self.cache = Path(setup.options.cache).expanduser()
        problem_ids = [problem.problem_id for problem in setup.problems]
        self.codes = {problem_id: code for code, problem_id in enumerate(problem_ids)}
        self.material, self.keeps = Material(), True

    def gather(self, *, tokens: bool, rollouts: bool = True) -> Material:
        """What a diagnostic looks at.

        Args:
            tokens: score the tokens; without, the teacher's rollouts stand beside those of the
                students.
            rollouts: keep the rows of the rollouts too.
        """
        self.keeps = rollouts
        # What does not fit is reported before anything is sampled.
        if tokens:
            share_vocabulary(self.setup.student, self.setup.teacher)
        for target in self.targets.checkpoints:
            self._load(target)
        base = self._base_rollouts()
        self._keep(BASE, base)
        if tokens:
            self._score(BASE, self.setup.student, base, self.views_of_base)
        for target in self.targets.checkpoints:
            policy = self._load(target)
            sampled = self._sampled(policy, STUDENT, target.label)
            self._keep(target.label, sampled)
            if tokens:
                self._score(target.label, policy, sampled, (FRESH,))
                self._score(target.label, policy, base, (FROZEN,))
        if not tokens:
            self._keep(TEACHER, self._sampled(self.setup.teacher, TEACHER, TEACHER))
        return self.material

    @property
    def views_of_base(self) -> tuple[str, ...]:
        """Base is in the frozen view only beside checkpoints that are compared with it."""
        return (FRESH, FROZEN) if self.targets.checkpoints else (FRESH,)

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
        if setup.external is not None:
            name = setup.external.name
            if self.targets.checkpoints:
                self.material.notes.append(
                    f"fresh: base's rollouts are those of {name}, others are sampled at T = "
                    f"{self.options.temperature:g}; give --temperature the one of the file"
                )
            judge = self._judge(STUDENT, setup.student)
            table, notes = to_table(
                setup.external, setup.problems, setup.student, judge, setup.prompts[STUDENT]
            )
            self.material.notes += notes
            return table
        if self.targets.rollouts is not None:
            return self._given(self.targets.rollouts)
        return self._sampled(setup.student, STUDENT, BASE)

    def _given(self, run: Path) -> pa.Table:
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
        return self._judge(STUDENT, self.setup.student).current(asked)

    def _sampled(self, policy: Policy, role: str, label: str) -> pa.Table:
        """A policy's own rollouts, from the cache or sampled now, part by part."""
        options, prompts = self.options, self.setup.prompts[role]
        sampling = SamplingSettings(options.temperature, options.top_p, options.top_k, options.seed)
        identity = {
            "policy": policy.identity.contents,
            "precision": policy.precision,
            "role": role,
            "prompts": _digest([[name, *ids] for name, ids in prompts.items()]),
            "sampling": sampling.__dict__,
            "samples": options.samples,
            "max_tokens": options.max_tokens,
            "end_ids": sorted(policy.end_ids),
            "engine": engine_record(options),
        }
        folder = store.RunFolder(self.cache / f"rollouts-{_digest(identity)[:16]}")
        judge = self._judge(role, policy)
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
                    role, self.setup.problems, prompts, options.samples, name=name
                )
            return folder.merge([written])

    def _judge(self, role: str, policy: Policy) -> graded.Judge:
        """What gives the verdicts on what a policy wrote."""
        return graded.judge(
            self.grader, self.setup.problems, {role: policy}, self.options.thought_marks
        )

    # Tokens

    def _score(
        self, label: str, policy: Policy, rollouts: pa.Table, views: tuple[str, ...]
    ) -> None:
        readable = self._readable(label, rollouts)
        problems = self._problems(rollouts)
        name = self._stage(label, views)
        folder = self._scored(name, policy, readable, self.options.view_rollouts)
        masks = self._masks(rollouts, readable)
        size = len(self.codes)
        tokens = score_store.table(folder, readable, problems, size).own(masks)
        self.material.folders.append(folder)
        if FRESH in views:
            shown = [rollout.rollout_id for rollout in readable[: self.options.view_rollouts]]
            self.material.viewed.append(
                viewed.collect(label, rollouts, folder, shown, self._scenery())
            )
        # The first problems are scored by a second route too, for the noise floor.
        chosen = [problems[each.rollout_id] < self.options.floor_problems for each in readable]
        twice, rescored = None, None
        if any(chosen):
            few = list(itertools.compress(readable, chosen))
            again = self._scored(f"{name} again", policy, few, 0, second=True)
            few_masks = list(itertools.compress(masks, chosen))
            twice = np.array(chosen)
            rescored = score_store.table(again, few, problems, size).own(few_masks)
        self.material.scored += [Scored(label, view, tokens, twice, rescored) for view in views]

    def _problems(self, rollouts: pa.Table) -> dict[str, int]:
        """Problem code of each rollout, by its id."""
        names = zip(rollouts["rollout_id"].to_pylist(), rollouts["problem_id"].to_pylist())
        return {rollout: self.codes[problem] for rollout, problem in names}

    @staticmethod
    def _stage(label: str, views: Sequence[str]) -> str:
        return f"scoring {label}" + ("" if FRESH in views else " on base rollouts")

    @staticmethod
    def _masks(rollouts: pa.Table, readable: Sequence[Rollout]) -> list[np.ndarray | None]:
        """Of each rollout true at the tokens that the policy wrote itself; None where it wrote
        all."""
        by_rollout: dict[str, np.ndarray] = {}
        if own_tokens.MASK in rollouts.column_names:
            masks = rollouts[own_tokens.MASK].to_pylist()
            for name, mask in zip(rollouts["rollout_id"].to_pylist(), masks, strict=True):
                if mask is not None:
                    by_rollout[name] = np.array(mask, dtype=bool)
        return [by_rollout.get(rollout.rollout_id) for rollout in readable]

    def _scenery(self) -> viewed.Scenery:
        student = self.setup.student
        rule = self.options.answer_rule or self.setup.problem_set.answer_rule
        asked = {problem.problem_id: problem for problem in self.setup.problems}
        return viewed.Scenery(student.tokenizer, student.end_ids, self.rules, asked, rule)

    def _readable(self, label: str, rollouts: pa.Table) -> list[Rollout]:
        """The rollouts up to the first token that the teacher cannot read; none of no token.

        Raises:
            UserError: none is left.
        """
        vocabulary = share_vocabulary(self.setup.student, self.setup.teacher)
        readable, cut, beyond, empty = [], 0, 0, 0
        columns = ["rollout_id", "problem_id", "prompt_ids", "response_ids"]
        for row in rollouts.select(columns).to_pylist():
            response = row["response_ids"]
            prompt = self.setup.prompts[TEACHER][row["problem_id"]]
            room = self._room(len(row["prompt_ids"]), len(prompt))
            length = vocabulary.readable(response)
            cut += length < min(len(response), room)
            beyond += len(response) > room
            empty += not response
            kept = tuple(response[: max(min(length, room), 0)])
            if kept:
                student_prompt = tuple(row["prompt_ids"])
                readable.append(Rollout(row["rollout_id"], student_prompt, prompt, kept))
        total = len(rollouts)
        self._count(
            label,
            empty,
            total,
            "hold no token, left out; see whether --max-tokens or the file is at fault",
        )
        self._count(
            label,
            beyond,
            total,
            "go beyond a context: scored up to it; a smaller --max-tokens avoids it",
        )
        lacking = (
            "hold a token that the teacher lacks: scored up to it; where they are many, choose a "
            "teacher with the student's vocabulary"
        )
        self._count(label, cut, total, lacking)
        if not readable:
            raise UserError(
                f"{label}: no rollout begins with a token that {self.setup.teacher.name} can read"
            )
        return readable

    def _room(self, student_prompt: int, teacher_prompt: int) -> int:
        """Tokens of a response that fit into both contexts."""
        student, teacher = self.setup.student, self.setup.teacher
        return int(
            min(student.context_length - student_prompt, teacher.context_length - teacher_prompt)
        )

    def _scored(
        self,
        name: str,
        policy: Policy,
        rollouts: Sequence[Rollout],
        shown: int,
        *,
        second: bool = False,
    ) -> Path:
        """Scores by the first route; or by the second, one rollout at a time and in the next wider
        precision."""
        options, teacher = self.options, self.setup.teacher
        route = "one by one, wider precision" if second else "in batches"
        key = score_store.ScoreKey(
            self._content(policy, second),
            self._content(teacher, second),
            options.score_temperature,
            options.head,
            route,
        )
        settings = ScoringSettings(
            options.score_temperature, options.head, 1 if second else options.batch_tokens
        )
        with ExitStack() as stack:
            # called only where something is left to score, since widening copies the weights
            def scorer() -> Scorer:
                if second:
                    stack.enter_context(policy.wider())
                    if teacher is not policy:
                        stack.enter_context(teacher.wider())
                return Scorer(policy, teacher, settings, self.reporter.note)

            return score_store.scored(
                rollouts,
                key,
                scorer,
                self.cache,
                self.reporter,
                name=name,
                shown=shown,
                part_tokens=BATCHES_A_PART * options.batch_tokens,
            )

    def _content(self, policy: Policy, wider: bool = False) -> str:
        """The policy and its precision, as scores depend on them."""
        content = f"{policy.identity.contents} {policy.precision}"
        return f"{content}, widened to {wider_than(policy.weights.dtype)}" if wider else content


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
