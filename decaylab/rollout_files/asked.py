"""The prompts of both policies for rollouts from a file: the file's own prompts, if it has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from decaylab.errors import UserError
from decaylab.options.pair_options import PairOptions
from decaylab.policies.policy import Policy
from decaylab.policies.prompts import Prompts
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems.files import MENDED, Progress
from decaylab.problems.problem import Problem, ProblemSet
from decaylab.progress import Reporter
from decaylab.rollout_files import files, given_thoughts
from decaylab.rollout_files.given_prompts import rendered_ids
from decaylab.rollout_files.reading import GivenRollout, Read, ReadSettings, read_files

LARGE = 20_000_000
"""File size in bytes from which reading shows a progress bar."""
NAMED = 3  # problems listed in a note
COMPLETE = ("messages", "rendered", "stripped")
"""Kinds of prompts that are used unchanged."""
OF_PROBLEMS = ("question", "answer", "id")
"""Roles of ``--column`` that belong to ``--problems``, if that is given too."""


def read(
    options: PairOptions,
    student: Policy,
    problem_set: ProblemSet | None,
    progress: Progress = lambda count: None,
) -> Read:
    """Reads the rollouts of ``--rollouts``.

    problem_set: their problems; None takes them from the file.

    Raises:
        UserError: see `reading.read_files`.
    """
    columns, limit = options.columns, options.limit
    wanted: dict[str, tuple[str, str]] | None = None
    golds: dict[str, str | None] = {}
    if problem_set is not None:
        columns = {role: name for role, name in columns.items() if role not in OF_PROBLEMS}
        ending = f"\n{problem_set.instruction}" if problem_set.instruction else ""
        limit, wanted = None, {}
        # The file's prompt may or may not include the instruction.
        for problem in problem_set.problems:
            golds[problem.problem_id] = problem.answer
            wanted[problem.problem_id] = (problem.question + ending, problem.question)
    settings = ReadSettings(
        format=options.rollouts_format,
        columns=columns,
        prompt_kind=options.prompt_kind,
        prompt_in_response=options.prompt_in_response,
        no_stop_reason=options.no_stop_reason,
        limit=limit,
        wanted=wanted,
        golds=golds,
    )
    return read_files(files.paths_of(str(options.rollouts)), settings, student, progress)


def read_with_bar(
    options: PairOptions, student: Policy, problem_set: ProblemSet | None, reporter: Reporter | None
) -> Read:
    """The same as `read`, with a progress bar for large files."""
    size = sum(path.stat().st_size for path in files.paths_of(str(options.rollouts)))
    if reporter is None or size < LARGE:
        return read(options, student, problem_set)
    with reporter.stage("reading rollouts", size, "bytes") as bar:
        return read(options, student, problem_set, lambda count: bar.advance(0, count))


def problem_set(options: PairOptions, theirs: Read) -> ProblemSet:
    """The problems in the file.

    Raises:
        UserError: it has none, or options of another source of problems were given.
    """
    if not theirs.problems:
        raise UserError(
            f"{options.rollouts} has problem_ids but no questions; give them with --problems"
        )
    if given := [name for name in ("revision", "split") if getattr(options, name)]:
        raise UserError(
            f"{options.rollouts} has its own questions, so --{given[0]} does not apply; leave it "
            "out"
        )
    return ProblemSet(
        name=theirs.name,
        version="local file",
        content_hash=theirs.content_hash,
        instruction="",
        answer_rule="last_boxed",
        problems=theirs.problems,
        notes=gold_notes(theirs),
        own=True,
    )


def notes(theirs: Read) -> tuple[str, ...]:
    """Notes on the rows of a file, for any source of problems."""
    counts = theirs.counts
    steps, others = len(counts.steps), len(counts.other_gold)
    sentences = []
    if steps > 1:
        sentences.append(
            f"the rollouts are from {steps} training steps, that is, from different students; "
            "they are pooled"
        )
    if counts.halves:
        sentences.append(MENDED.format(counts.halves, counts.rows, f"rows of {theirs.name}"))
    if others:
        sentences.append(
            f"{others} of {len(theirs.prompts)} gold answers of {theirs.name} differ from those "
            f"of --problems ({', '.join(counts.other_gold[:NAMED])}), which are used"
        )
    return tuple(sentences)


def gold_notes(theirs: Read) -> tuple[str, ...]:
    """Notes on the problems in a file."""
    counts, total = theirs.counts, theirs.problem_count
    sentences = []
    if counts.gold_unwrapped:
        sentences.append(
            f"{counts.gold_unwrapped} of {total} gold answers were unwrapped from an object or list"
        )
    if counts.gold_behind_hashes:
        sentences.append(
            f"{counts.gold_behind_hashes} of {total} gold answers are the text after ####"
        )
    return tuple(sentences)


def thought_notes(options: PairOptions, theirs: Read, student: Policy) -> tuple[str, ...]:
    """Notes on thoughts in the responses; see `given_thoughts.notes`."""
    return given_thoughts.notes(options, _rendered_here(theirs), theirs.name, student)


def with_given(
    problems: Sequence[Problem], theirs: Read
) -> tuple[tuple[Problem, ...], frozenset[str]]:
    """Problems of a set with the file's chat messages, and the ids of those with such messages.

    Nothing is added to these messages. For a bare question in the file, the set's prompt is used.
    """
    given = {
        name: prompt.messages
        for name, prompt in theirs.prompts.items()
        if (prompt.kind in COMPLETE or name in theirs.prompt_ids) and prompt.messages
    }
    asked = [
        dataclasses.replace(problem, messages=given.get(problem.problem_id, problem.messages))
        for problem in problems
    ]
    return tuple(asked), frozenset(given)


def _fixed(theirs: Read) -> frozenset[str]:
    """The problems whose prompt is rendered text or ids, which the student reads unchanged."""
    texts = {name for name, prompt in theirs.prompts.items() if prompt.text is not None}
    return frozenset(texts | theirs.prompt_ids.keys())


def takes_instruction(options: PairOptions, theirs: Read) -> bool:
    """Whether an instruction can be added to the prompts.

    It cannot be added to rendered prompts or ids, nor to the file's messages for a named set.
    """
    return not _fixed(theirs) and not _messages_to_set(options, theirs)


def _messages_to_set(options: PairOptions, theirs: Read) -> int:
    """Number of problems of a named set whose prompts are the file's chat messages."""
    if options.problems == "rollouts":
        return 0
    return sum(prompt.kind == "messages" for prompt in theirs.prompts.values())


def check(options: PairOptions, theirs: Read, student: Policy) -> None:
    """Raises UserError if an option would change prompts that are already complete."""
    given_thoughts.check(options, _rendered_here(theirs), student, student)
    total, file = len(theirs.prompts), options.rollouts
    first_roles = [prompt.messages[0][0] for prompt in theirs.prompts.values() if prompt.messages]
    with_system = first_roles.count("system")
    if options.system is not None and with_system:
        raise UserError(
            f"{with_system} of {total} prompts of {file} have their own system message: leave "
            "--system out"
        )
    fixed, instructed = len(_fixed(theirs)), options.instruction not in (None, "none")
    if fixed and (instructed or options.system):
        name = "--system" if options.system else "--instruction"
        raise UserError(
            f"{fixed} of {total} prompts of {file} are already rendered or token ids: leave {name} "
            "out"
        )
    messages = _messages_to_set(options, theirs)
    if instructed and messages:
        raise UserError(
            f"{messages} of {total} prompts of {file} are chat messages, which are used unchanged "
            f"for the problems of {options.problems}: leave --instruction out"
        )


def _rendered_here(theirs: Read) -> list[GivenRollout]:
    """The rollouts whose prompts are rendered here, not in the file."""
    fixed = _fixed(theirs)
    return [rollout for rollout in theirs.rollouts if rollout.problem_id not in fixed]


def student_reads(
    prompts: Prompts, theirs: Read, options: PairOptions, student: Policy, teacher: Policy
) -> Prompts:
    """The prompts, with the file's token ids or rendered text in place of the student's own.

    Raises:
        UserError: the teacher's template closes thoughts that the responses contain.
    """
    own_teacher_prompt = options.teacher_prompt == "own"
    if own_teacher_prompt:
        given_thoughts.check(options, theirs.rollouts, student, teacher)
    given: dict[str, tuple[int, ...]] = {}
    for name in prompts["student"]:
        prompt = theirs.prompts.get(name)
        if name in theirs.prompt_ids:
            given[name] = theirs.prompt_ids[name]
        elif prompt is not None and prompt.text is not None:
            given[name] = rendered_ids(student, prompt.text)
    read_by_student = {**prompts["student"], **given}
    if own_teacher_prompt and student.template is not None:
        return {"student": read_by_student, "teacher": prompts["teacher"]}
    # Without a template both policies read the same prompt.
    if compare_vocabularies(student.tokenizer, teacher.tokenizer).kind == "different":
        for name, ids in given.items():
            text = str(student.tokenizer.decode(list(ids)))
            given[name] = tuple(teacher.control.encode(text, {}))
    elif not own_teacher_prompt:
        return {"student": read_by_student, "teacher": read_by_student}
    return {"student": read_by_student, "teacher": {**prompts["teacher"], **given}}
