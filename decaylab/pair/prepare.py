"""Loads and checks the pair and its problems before anything is sampled."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.options.pair_options import PairOptions
from decaylab.options.training import TrainOptions
from decaylab.pair import gradable
from decaylab.policies import loading, prompts, served_policies
from decaylab.policies.policy import Policy, Role, load_settings
from decaylab.policies.prompts import Prompts
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems.answers import RULES
from decaylab.problems.grading import Grader
from decaylab.problems.problem import Problem, ProblemSet
from decaylab.problems.sets import instruction_of, load_problems
from decaylab.progress import Reporter
from decaylab.rollout_files import asked as rollouts_asked
from decaylab.rollout_files import summary
from decaylab.rollout_files.reading import Read
from decaylab.runs import given_verdicts
from decaylab.runs.given_verdicts import GivenVerdicts

GRADING_WORKERS = 2
Chosen = TypeVar("Chosen", Options, DiagnosticOptions, TrainOptions)


@dataclass(frozen=True)
class Setup(Generic[Chosen]):
    """The loaded and checked pair, problems and prompts. external: rollouts read from a file.
    verdicts: given by a grader elsewhere."""

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
    verdicts: GivenVerdicts | None = None

    @property
    def answer_rule(self) -> str:
        """The reported answer rule."""
        return self.options.answer_rule or self.problem_set.answer_rule

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the results must know."""
        return (*self.problem_notes, *self.prompt_notes, *self.pair_notes)


def prepare(
    options: Chosen, grader: Grader, device: str | None = None, reporter: Reporter | None = None
) -> Setup[Chosen]:
    """Loads problems and policies, and checks that they fit together.

    device: of the policies, as in `LoadSettings`; by default the options' own. reporter: shows
    progress while a large file of rollouts is read.
    """
    # Refuse a misspelt name before anything is fetched.
    loading.resolve(str(options.teacher))
    if not options.rollouts:
        loading.resolve(str(options.student))
    tokenizer = read_tokenizer(options, "student", device) if options.rollouts else None
    problem_set, theirs = read_problems(options, tokenizer, reporter)
    verdicts = GivenVerdicts(Path(options.verdicts).expanduser()) if options.verdicts else None
    problems, notes = problem_set.problems, problem_set.notes
    if verdicts is None:
        rule = options.answer_rule or problem_set.answer_rule
        problems, notes = gradable.problems(
            problem_set, grader, rule, options.leave_out_broken, reporter
        )
    complete: frozenset[str] = frozenset()
    if theirs is not None and tokenizer is not None:
        problems, more = _with_rollouts(problems, theirs, problem_set, str(options.rollouts))
        notes += more + rollouts_asked.thought_notes(options, theirs, tokenizer)
        if options.problems != "rollouts":
            problems, complete = rollouts_asked.with_given(problems, theirs)
    teacher = _load(options, "teacher", device)
    # With rollouts from a file, the tokenizer is enough unless the student must generate or score.
    if tokenizer is not None and not options.needs_student:
        student = tokenizer
    else:
        student = _load(options, "student", device)
    instruction = problem_set.instruction
    rendered = prompts.render(options, student, teacher, problems, instruction, complete)
    takes_instruction = True
    if theirs is not None:
        rendered = rollouts_asked.student_reads(rendered, theirs, options, student, teacher)
        options, more = _with_budget(options, student, teacher, rendered)
        notes += more
        takes_instruction = rollouts_asked.takes_instruction(options, theirs)
    fitting, prompt_notes = prompts.of_problems(
        options,
        student,
        teacher,
        problems,
        problem_set,
        rendered,
        takes_instruction=takes_instruction,
    )
    return Setup(
        options=options,
        student=student,
        teacher=teacher,
        problem_set=problem_set,
        problems=tuple(one for one in problems if one.problem_id in fitting["student"]),
        prompts=fitting,
        external=theirs,
        problem_notes=notes,
        pair_notes=pair_notes(options, student, teacher),
        prompt_notes=prompt_notes,
        verdicts=verdicts,
    )


def _load(options: Chosen, role: Role, device: str | None) -> Policy:
    """Loads a policy of the pair, with weights only if this process needs them."""
    load = loading.load if options.needs_weights(role) else served_policies.serve
    return load(str(getattr(options, role)), load_settings(options, role, device))


def longest_context(setup: Setup[Chosen], role: str) -> int:
    """Length of a policy's longest prompt plus the token budget."""
    longest = max(map(len, setup.prompts[role].values()))
    return longest + int(setup.options.max_tokens or 0)


def read_tokenizer(options: PairOptions, role: Role, device: str | None = None) -> Policy:
    """Student or teacher without weights, enough to read the prompts of a file."""
    settings = load_settings(options, role, device)
    return loading.load_tokenizer_only(str(getattr(options, role)), settings)


def read_problems(
    options: PairOptions, student: Policy | None, reporter: Reporter | None
) -> tuple[ProblemSet, Read | None]:
    """The problems with their instruction, and the rollouts of a file, if one is given."""
    problem_set = None if options.problems == "rollouts" else _named_set(options)
    theirs = None
    if student is not None:
        theirs = rollouts_asked.read_with_bar(options, student, problem_set, reporter)
        rollouts_asked.check(options, theirs, student)
        problem_set = problem_set or settled(rollouts_asked.problem_set(options, theirs), options)
    assert problem_set is not None
    return problem_set, theirs


def settled(problem_set: ProblemSet, options: PairOptions) -> ProblemSet:
    """The problems with the instruction and the answer rule that the options give them.

    Raises:
        UserError: an answer rule of another task.
    """
    task, rule = problem_set.task, problem_set.answer_rule
    if options.prompt_format == "plain" and task.plain_rule:
        rule = task.plain_rule
    if options.verdicts:
        rule = given_verdicts.RULE
    chosen = options.answer_rule
    if chosen and chosen in RULES and not RULES[chosen] and chosen not in task.answer_rules:
        raise UserError(
            f"--answer-rule {chosen} does not grade {problem_set.name}: give one of "
            f"{', '.join(task.answer_rules)}"
        )
    instruction = instruction_of(options.instruction, problem_set)
    return dataclasses.replace(problem_set, instruction=instruction, answer_rule=rule)


def _named_set(options: PairOptions) -> ProblemSet:
    columns = options.columns
    if options.rollouts:
        columns = {
            role: name for role, name in columns.items() if role in rollouts_asked.OF_PROBLEMS
        }
    problem_set = load_problems(
        str(options.problems),
        limit=options.limit,
        revision=options.revision,
        split=options.split,
        columns=columns or None,
        seed=options.seed,
    )
    return settled(problem_set, options)


def _with_rollouts(
    asked: tuple[Problem, ...], theirs: Read, problem_set: ProblemSet, name: str
) -> tuple[tuple[Problem, ...], tuple[str, ...]]:
    """The problems for which a file has rollouts, and notes about the file."""
    listed = {one.problem_id for one in theirs.rollouts}
    known = tuple(problem for problem in asked if problem.problem_id in listed)
    if not known:
        raise UserError(f"{name}: none of its problem_ids is in {problem_set.name}")
    notes = [summary.line(theirs), *rollouts_asked.notes(theirs)]
    if others := theirs.problem_count - len(known):
        notes.append(
            f"{others} problems of {name} are not among those selected, left out; a larger "
            "--limit selects them"
        )
    return known, tuple(notes)


def _with_budget(
    options: Chosen, student: Policy, teacher: Policy, rendered: Prompts
) -> tuple[Chosen, tuple[str, ...]]:
    """The options with a token budget that fits if none was given, and a note if it was reduced."""
    if options.max_tokens is not None:
        return options, ()
    pair = {"student": student, "teacher": teacher}
    longest = {role: max(map(len, ids.values())) for role, ids in rendered.items()}
    room = min(pair[role].context_length - length for role, length in longest.items())
    budget = options.lengths.budget
    budget = min(budget, room) if room > 0 else budget
    chosen = dataclasses.replace(options, max_tokens=budget)
    chosen.check()
    if chosen.max_tokens != room:
        return chosen, ()
    return chosen, (
        f"the budget is {chosen.max_tokens} tokens, all that fit after the longest prompt "
        "(set it with --max-tokens)",
    )


def pair_notes(options: Chosen, student: Policy, teacher: Policy) -> tuple[str, ...]:
    """Notes on how the two policies were loaded and where their vocabularies differ."""
    notes = [*student.notes, *teacher.notes]
    agreement = compare_vocabularies(student.tokenizer, teacher.tokenizer)
    if agreement.kind == "different":
        notes.append(
            "the tokenizers differ: each policy reads the same text in its own tokens; positions "
            "and prefix lengths count tokens of whoever wrote the text"
        )
    if agreement.kind == "compatible":
        notes.append(
            f"the vocabularies agree except for {len(agreement.conflicting)} conflicting, "
            f"{len(agreement.student_only)} "
            f"student-only and {len(agreement.teacher_only)} teacher-only ids; "
            f"{options.unshared}"
        )
    return tuple(dict.fromkeys(notes))
