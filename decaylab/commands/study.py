"""What the diagnostics look at: rollouts of the base student and of each checkpoint, and their
tokens, scored.

Scores come from a cache under content hashes, so that a second diagnostic on the same models and
rollouts runs no model.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from decaylab.commands.study_rollouts import Material, StudyRollouts
from decaylab.errors import UserError
from decaylab.policies.alignment import Aligner
from decaylab.policies.policy import Policy, wider_than
from decaylab.policies.vocabularies import compare_vocabularies, share_vocabulary
from decaylab.runs import own_tokens, sources
from decaylab.runs.vocabulary import BASE, FRESH, FROZEN, STUDENT, TEACHER
from decaylab.tokens import aligned_rollouts, score_store, viewed
from decaylab.tokens.aligned_scoring import AlignedRollout, scoring_of
from decaylab.tokens.scoring import BatchScorer, Rollout, ScoringSettings
from decaylab.tokens.token_table import Scored, TokenTable

BATCHES_A_PART = 4  # at least, so that large batches are not cut short by the parts on disk


class Study(StudyRollouts):
    """Gathers the material of one setup: rollouts, and their tokens, scored."""

    takes_two_tokenizers = False
    """Whether what is measured is defined for a pair of two tokenizers."""
    aligner: Aligner | None = None

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
            self._check_vocabularies()
        for target in self.targets.checkpoints:
            self._load(target)
        base = self._base_rollouts()
        self._keep(BASE, base)
        if tokens:
            self._score_views(BASE, self.setup.student, {self.views_of_base: base})
        for target in self.targets.checkpoints:
            policy = self._load(target)
            sampled = self._sampled(policy, STUDENT, target.label)
            self._keep(target.label, sampled)
            if tokens:
                self._score_views(target.label, policy, {(FRESH,): sampled, (FROZEN,): base})
        if not tokens:
            self._keep(TEACHER, self._sampled(self.setup.teacher, TEACHER, TEACHER))
        if self.setup.verdicts:
            self.setup.verdicts.check()
            self.material.notes += self.setup.verdicts.notes()
        return self.material

    @property
    def views_of_base(self) -> tuple[str, ...]:
        """Base is in the frozen view only beside checkpoints that are compared with it."""
        return (FRESH, FROZEN) if self.targets.checkpoints else (FRESH,)

    # Tokens

    def _check_vocabularies(self) -> None:
        """Raises UserError where the pair's tokens cannot be compared."""
        student, teacher = self.setup.student, self.setup.teacher
        agreement = compare_vocabularies(student.tokenizer, teacher.tokenizer)
        if self.takes_two_tokenizers and agreement.kind == "different":
            self.aligner = Aligner(student, teacher)
        else:
            share_vocabulary(student, teacher)

    def _score_views(
        self, label: str, policy: Policy, rollouts: Mapping[tuple[str, ...], pa.Table]
    ) -> None:
        """Scores the rollouts of each of a policy's views, and by bytes too where that is asked."""
        for views, table in rollouts.items():
            self._score(label, policy, table, views)
        if not self.options.bytes or self.aligner is not None:
            return
        material, self.material = self.material, Material()
        self.aligner = Aligner(policy, self.setup.teacher)
        for views, table in rollouts.items():
            self._score(f"{label} by bytes", policy, table, views)
        for each in self.material.scored:
            material.by_bytes.append(replace(each, checkpoint=label))
        material.other_law[label] = self.material.other_law[f"{label} by bytes"]
        material.notes += self.material.notes
        self.material, self.aligner = material, None

    def _score(
        self, label: str, policy: Policy, rollouts: pa.Table, views: tuple[str, ...]
    ) -> None:
        read_as = label if FRESH in views else f"{label} on base rollouts"
        readable = self._readable(read_as, rollouts)
        if self.aligner is not None and FRESH in views:
            temperature = self.options.score_temperature
            self.material.other_law[label] = aligned_rollouts.other_law(rollouts, temperature)
        problems = self._problems(rollouts)
        name = self._stage(label, views)
        folder = self._scored(name, policy, readable, self.options.view_rollouts)
        masks = self._masks(rollouts, readable)
        tokens = self._table(folder, readable, problems, masks)
        self.material.folders.append(sources.Scored(label, views[0], folder))
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
            rescored = self._table(again, few, problems, few_masks)
        self.material.scored += [Scored(label, view, tokens, twice, rescored) for view in views]

    def _table(
        self,
        folder: Path,
        rollouts: Sequence[Rollout],
        problems: Mapping[str, int],
        masks: Sequence[np.ndarray | None],
    ) -> TokenTable:
        """The scored tokens that the policy wrote; with two tokenizers those that begin at a
        boundary of both."""
        table = score_store.table(folder, rollouts, problems, len(self.codes)).own(masks)
        if self.aligner is None:
            return table
        return table.at(np.asarray(table["at_shared_boundary"], dtype=bool))

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
        rule, task = self.setup.answer_rule, self.setup.problem_set.task
        asked = {problem.problem_id: problem for problem in self.setup.problems}
        return viewed.Scenery(student.tokenizer, student.end_ids, self.rules, asked, rule, task)

    def _readable(self, label: str, rollouts: pa.Table) -> Sequence[Rollout]:
        """The rollouts up to the first token that the teacher cannot read; none of no token. With
        two tokenizers those that both can read, as a whole.

        Raises:
            UserError: none is left.
        """
        if self.aligner is not None:
            return self._aligned(label, rollouts)
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

    def _aligned(self, label: str, rollouts: pa.Table) -> list[AlignedRollout]:
        """The rollouts in the tokens of both."""
        assert self.aligner is not None
        found = aligned_rollouts.read(
            rollouts, self.setup.prompts[TEACHER], self.aligner, self.setup.answer_rule
        )
        self.material.notes += [f"{label}: {note}" for note in found.notes]
        if not found.rollouts:
            raise UserError(f"{label}: no rollout is left to score ({found.notes[0]})")
        return found.rollouts

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
        kind, scorer_of = scoring_of(two_tokenizers=self.aligner is not None)
        with ExitStack() as stack:
            # called only where something is left to score, since widening copies the weights
            def scorer() -> BatchScorer[Any]:
                if second:
                    stack.enter_context(policy.wider())
                    if teacher is not policy:
                        stack.enter_context(teacher.wider())
                return scorer_of(policy, teacher, settings, self.reporter.note)

            return score_store.scored(
                rollouts,
                key,
                scorer,
                self.cache,
                self.reporter,
                kind=kind,
                name=name,
                shown=shown,
                part_tokens=BATCHES_A_PART * options.batch_tokens,
            )

    def _content(self, policy: Policy, wider: bool = False) -> str:
        """The policy and its precision, as scores depend on them."""
        content = f"{policy.identity.contents} {policy.precision}"
        return f"{content}, widened to {wider_than(policy.weights.dtype)}" if wider else content
