"""What stands before the first token: problems and policies, loaded, addressed, and checked against
each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from decaylab.errors import UserError
from decaylab.options.measuring import DiagnosticOptions, Options, PairOptions
from decaylab.options.training import TrainOptions
from decaylab.policies import loading, prompts, served_policies
from decaylab.policies.policy import Policy, Role, load_settings
from decaylab.policies.prompts import Prompts
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems import applicable
from decaylab.problems.answers import ANSWER_RULES, applies
from decaylab.problems.grading import Grader
from decaylab.problems.sets import Problem, ProblemSet, instruction_of, load_problems
from decaylab.progress import Reporter
from decaylab.rollout_files import asked as rollouts_asked
from decaylab.rollout_files import summary
from decaylab.rollout_files.reading import Read

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
    external: Read | None
    problem_notes: tuple[str, ...]
    pair_notes: tuple[str, ...] = ()
    prompt_notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know, as sentences."""
        return (*self.problem_notes, *self.prompt_notes, *self.pair_notes)


def prepare(
    options: Chosen, grader: Grader, device: str | None = None, reporter: Reporter | None = None
) -> Setup[Chosen]:
    """Loads problems and policies, and checks that they fit together.

    device: where the policies are, as `policies.LoadSettings` names it; by default the options'
    own. reporter: shows how far a large file of rollouts is read.
    """
    for name in (str(options.teacher), *(() if options.rollouts else (str(options.student),))):
        loading.resolve(name)  # a misspelt name is told before anything is fetched
    tokenizer = _tokenizer(options, device) if options.rollouts else None
    problem_set, theirs = read_problems(options, tokenizer, reporter)
    asked, graded = gradable(problem_set, grader)
    notes = graded + rule_notes(
        options.answer_rule or problem_set.answer_rule, problem_set.name, asked
    )
    complete: frozenset[str] = frozenset()
    if theirs:
        asked, told = _with_rollouts(asked, theirs, problem_set, str(options.rollouts))
        notes += told
        if tokenizer is not None:
            notes += rollouts_asked.thought_notes(options, theirs, tokenizer)
        if options.problems != "rollouts":
            asked, complete = rollouts_asked.with_given(asked, theirs)
    teacher = _load(options, "teacher", device)
    student = (
        tokenizer
        if tokenizer is not None and not options.needs_student
        else _load(options, "student", device)
    )
    everything = prompts.render(options, student, teacher, asked, problem_set.instruction, complete)
    if theirs:
        everything = rollouts_asked.student_reads(everything, theirs, options, student, teacher)
        fitted, told = _with_budget(options, student, teacher, everything)
        options, notes = fitted, notes + told
    rendered, told = prompts.of_problems(
        *(options, student, teacher, asked, problem_set, everything),
        takes_instruction=theirs is None or rollouts_asked.takes_instruction(options, theirs),
    )
    asked = tuple(problem for problem in asked if problem.problem_id in rendered["student"])
    setup = Setup(
        options, student, teacher, problem_set, asked, rendered, theirs, notes, prompt_notes=told
    )
    return dataclasses.replace(setup, pair_notes=notes_of(student, teacher) + shared_ids(setup))


def _load(options: Chosen, role: Role, device: str | None) -> Policy:
    """A policy of the pair: with its weights where they are needed in this process."""
    load = loading.load if options.needs_weights(role) else served_policies.serve
    return load(str(getattr(options, role)), load_settings(options, role, device))


def notes_of(student: Policy, teacher: Policy) -> tuple[str, ...]:
    """What there is to say of how the two were loaded, each sentence once."""
    return tuple(dict.fromkeys((*student.notes, *teacher.notes)))


def longest_context(setup: Setup[Chosen], role: str) -> int:
    """Positions of a policy's longest prompt and of the budget behind it, in tokens."""
    return max(len(ids) for ids in setup.prompts[role].values()) + int(
        setup.options.max_tokens or 0
    )


def _tokenizer(options: PairOptions, device: str | None) -> Policy:
    """The student without its weights: it reads the prompts of a file."""
    return loading.load_tokenizer_only(
        str(options.student), load_settings(options, "student", device)
    )


def read_problems(
    options: PairOptions, student: Policy | None, reporter: Reporter | None
) -> tuple[ProblemSet, Read | None]:
    """The problems with the instruction that they are asked with, and the rollouts of a file, if
    one is given."""
    found = None if options.problems == "rollouts" else _named_set(options)
    if student is None:
        assert found is not None
        return found, None
    theirs = rollouts_asked.read_with_bar(options, student, found, reporter)
    rollouts_asked.check(options, theirs, student)
    return found or _instructed(rollouts_asked.problem_set(options, theirs), options), theirs


def _instructed(found: ProblemSet, options: PairOptions) -> ProblemSet:
    return dataclasses.replace(found, instruction=instruction_of(options.instruction, found))


def _named_set(options: PairOptions) -> ProblemSet:
    columns = options.columns
    if options.rollouts:
        columns = {
            role: name for role, name in columns.items() if role in rollouts_asked.OF_PROBLEMS
        }
    found = load_problems(
        str(options.problems),
        limit=options.limit,
        revision=options.revision,
        split=options.split,
        columns=columns or None,
        seed=options.seed,
    )
    return _instructed(found, options)


def _with_rollouts(
    asked: tuple[Problem, ...], theirs: Read, problem_set: ProblemSet, name: str
) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """The problems that a file has rollouts to, and a sentence about the others that it has."""
    listed = {one.problem_id for one in theirs.rollouts}
    known = tuple(problem for problem in asked if problem.problem_id in listed)
    if not known:
        raise UserError(f"{name}: none of its problem_ids is in {problem_set.name}")
    others = theirs.problem_count - len(known)
    told = (f"{others} problems of {name} are not asked, left out",) if others else ()
    return known, (summary.line(theirs), *rollouts_asked.notes(theirs), *told)


def _with_budget(
    options: Chosen, student: Policy, teacher: Policy, rendered: Prompts
) -> tuple[Chosen, tuple[str, ...]]:
    """The options with a budget that fits, where none was given, and a sentence where it is less
    than usual."""
    if options.max_tokens is not None:
        return options, ()
    pair = {"student": student, "teacher": teacher}
    room = min(
        pair[role].context_length - max(map(len, own.values())) for role, own in rendered.items()
    )
    chosen = options.with_budget(room)
    chosen.check()
    told = (
        f"the budget is {chosen.max_tokens} tokens, all that fit behind the longest prompt "
        "(--max-tokens sets it)"
    )
    return chosen, (told,) if chosen.max_tokens == room else ()


def gradable(
    problem_set: ProblemSet, grader: Grader
) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """The problems whose gold answer can be compared with, and a sentence about the others."""
    asked = tuple(problem for problem in problem_set.problems if problem.answer)
    told = (
        f"{len(problem_set.problems) - len(asked)} of {len(problem_set.problems)} problems "
        "have no gold answer"
    )
    notes = [note for note in problem_set.notes if note != told]
    if len(asked) < len(problem_set.problems):
        notes.append(f"{told}, left out")
    bad = set(grader.unparsable([problem.answer or "" for problem in asked]))
    if bad:
        names = ", ".join(asked[index].problem_id for index in sorted(bad)[:3])
        notes.append(
            f"{len(bad)} of {len(asked)} problems have a gold answer that cannot be parsed "
            f"({names}), left out"
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
        told = (
            f"{rule} applies to {judged} of {len(asked)} gold answers of {name}, those that "
            "are plain numbers"
        )
        if rule == reported and not shown:
            raise UserError(f"--answer-rule {told}; choose another rule, such as {ANSWER_RULES[0]}")
        if judged < len(asked):
            notes.append(f"{told}: {'its accuracy is over those' if shown else 'not shown'}")
    return tuple(notes)


def shared_ids(setup: Setup[Chosen]) -> tuple[str, ...]:
    """What the vocabularies do not share, as a sentence."""
    agreement = compare_vocabularies(setup.student.tokenizer, setup.teacher.tokenizer)
    if agreement.kind == "different":
        return (
            "two tokenizers: prefixes pass as text, and prefix lengths count tokens of the "
            "prefix's author",
        )
    if agreement.kind == "compatible":
        return (
            f"the vocabularies agree but for {len(agreement.conflicting)} conflicting, "
            f"{len(agreement.student_only)} "
            f"student-only and {len(agreement.teacher_only)} teacher-only ids; "
            f"{setup.options.unshared}",
        )
    return ()
