"""What stands before the first token: problems and policies, loaded, addressed, and checked against each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from decaylab import applicable, external, policies, prompts, served_policies
from decaylab.answers import applies
from decaylab.errors import UserError
from decaylab.grading import Grader
from decaylab.options import ANSWER_RULES, DiagnosticOptions, Options
from decaylab.policies import Policy, Role, load_settings
from decaylab.problems import Problem, ProblemSet, instruction_of, load_problems
from decaylab.prompts import Prompts
from decaylab.training_options import TrainOptions
from decaylab.vocabularies import compare_vocabularies

GRADING_WORKERS = 2
Chosen = TypeVar("Chosen", Options, DiagnosticOptions, TrainOptions)


@dataclass(frozen=True)
class Setup(Generic[Chosen]):
    """Everything loaded and checked, before a token is sampled."""

    options: Chosen
    student: Policy
    teacher: Policy
    problem_set: ProblemSet
    problems: tuple[Problem, ...]
    prompts: Prompts
    external: external.ExternalRollouts | None
    problem_notes: tuple[str, ...]
    pair_notes: tuple[str, ...] = ()
    prompt_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know, as sentences."""
        return (*self.problem_notes, *self.prompt_notes, *self.pair_notes)


def prepare(options: Chosen, grader: Grader, device: str | None = None) -> Setup[Chosen]:
    """Loads problems and policies, and checks that they fit together.

    device: where the policies are, as `policies.LoadSettings` names it; by default the options' own.
    """
    for name in (str(options.teacher), *(() if options.rollouts else (str(options.student),))):
        policies.resolve(name)  # a misspelt name is told before anything is fetched
    theirs = external.read(Path(options.rollouts)) if options.rollouts else None
    problem_set = _problem_set(options, theirs)
    asked, notes = gradable(problem_set, grader)
    notes += rule_notes(options.answer_rule or problem_set.answer_rule, problem_set.name, asked)
    if theirs:
        notes += theirs.notes
        listed = {rollout.problem_id for rollout in theirs.rollouts}
        known = tuple(problem for problem in asked if problem.problem_id in listed)
        if not known:
            raise UserError(f"{options.rollouts}: none of its problem_ids is in {problem_set.name}")
        if len(known) < len(listed):
            notes += (f"{len(listed) - len(known)} problems of {options.rollouts} are not asked, left out",)
        asked = known
    teacher = _load(options, "teacher", device)
    student = (
        _load(options, "student", device)
        if theirs is None or options.needs_student
        else policies.load_tokenizer_only(str(options.student), load_settings(options, "student", device))
    )
    rendered, told = prompts.of_problems(options, student, teacher, asked, problem_set)
    asked = tuple(problem for problem in asked if problem.problem_id in rendered["student"])
    setup = Setup(options, student, teacher, problem_set, asked, rendered, theirs, notes, prompt_notes=told)
    return dataclasses.replace(setup, pair_notes=notes_of(student, teacher) + shared_ids(setup))


def _load(options: Chosen, role: Role, device: str | None) -> Policy:
    """A policy of the pair: with its weights where they are needed in this process."""
    load = policies.load if options.needs_weights(role) else served_policies.serve
    return load(str(getattr(options, role)), load_settings(options, role, device))


def notes_of(student: Policy, teacher: Policy) -> tuple[str, ...]:
    """What there is to say of how the two were loaded, each sentence once."""
    return tuple(dict.fromkeys((*student.notes, *teacher.notes)))


def longest_context(setup: Setup[Chosen], role: str) -> int:
    """Positions of a policy's longest prompt and of the budget behind it, in tokens."""
    return max(len(ids) for ids in setup.prompts[role].values()) + int(setup.options.max_tokens or 0)


def _problem_set(options: Chosen, theirs: external.ExternalRollouts | None) -> ProblemSet:
    """The problems, with the instruction that they are asked with."""
    found = _given_problems(options, theirs)
    return dataclasses.replace(found, instruction=instruction_of(options.instruction, found))


def _given_problems(options: Chosen, theirs: external.ExternalRollouts | None) -> ProblemSet:
    if options.problems == "rollouts":
        if theirs is None or not theirs.problems:
            raise UserError(f"{options.rollouts} names problem_ids but holds no questions; say --problems")
        given = [name for name in ("revision", "split", "columns") if getattr(options, name)]
        if given:
            raise UserError(f"{options.rollouts} brings its own questions, so --{given[0].rstrip('s')} has no meaning")
        own = theirs.problems[: options.limit]
        name = Path(options.rollouts or "").name
        return ProblemSet(name, "local file", theirs.content_hash, "", "last_boxed", own, own=True)
    return load_problems(
        str(options.problems),
        limit=options.limit,
        revision=options.revision,
        split=options.split,
        columns=options.columns or None,
        seed=options.seed,
    )


def gradable(problem_set: ProblemSet, grader: Grader) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """The problems whose gold answer can be compared with, and a sentence about the others."""
    asked = tuple(problem for problem in problem_set.problems if problem.answer)
    told = f"{len(problem_set.problems) - len(asked)} of {len(problem_set.problems)} problems have no gold answer"
    notes = [note for note in problem_set.notes if note != told]
    if len(asked) < len(problem_set.problems):
        notes.append(f"{told}, left out")
    bad = set(grader.unparsable([problem.answer or "" for problem in asked]))
    if bad:
        names = ", ".join(asked[index].problem_id for index in sorted(bad)[:3])
        notes.append(
            f"{len(bad)} of {len(asked)} problems have a gold answer that cannot be parsed ({names}), left out"
        )
        asked = tuple(problem for index, problem in enumerate(asked) if index not in bad)
    if not asked:
        raise UserError(f"{problem_set.name}: no problem with a gold answer that can be graded")
    return asked, tuple(notes)


def rule_notes(reported: str, name: str, asked: Sequence[Problem]) -> tuple[str, ...]:
    """Which answer rules do not apply to every gold answer.

    Raises:
        UserError: the reported rule applies to too few of them to be shown.
    """
    notes = []
    for rule in ANSWER_RULES:
        judged = sum(applies(rule, problem.answer or "") for problem in asked)
        shown = judged >= applicable.LEAST * len(asked)
        told = f"{rule} applies to {judged} of {len(asked)} gold answers of {name}, those that are plain numbers"
        if rule == reported and not shown:
            raise UserError(f"--answer-rule {told}; choose another rule, such as {ANSWER_RULES[0]}")
        if judged < len(asked):
            notes.append(f"{told}: {'its accuracy is over those' if shown else 'not shown'}")
    return tuple(notes)


def shared_ids(setup: Setup[Chosen]) -> tuple[str, ...]:
    """What the vocabularies do not share, as a sentence."""
    agreement = compare_vocabularies(setup.student.tokenizer, setup.teacher.tokenizer)
    if agreement.kind == "different":
        return ("two tokenizers: prefixes pass as text, and prefix lengths count tokens of the prefix's author",)
    if agreement.kind == "compatible":
        return (
            f"the vocabularies agree but for {len(agreement.conflicting)} conflicting, {len(agreement.student_only)} "
            f"student-only and {len(agreement.teacher_only)} teacher-only ids; {setup.options.unshared}",
        )
    return ()
