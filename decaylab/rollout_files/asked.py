"""What the policies are asked where rollouts come from a file.

That is the file's own prompts, as far as it has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from decaylab.errors import UserError
from decaylab.options.measuring import PairOptions
from decaylab.policies.policy import Policy
from decaylab.policies.prompts import Prompts
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems.files import MENDED, Progress
from decaylab.problems.sets import Problem, ProblemSet
from decaylab.progress import Reporter
from decaylab.rollout_files import files, given_thoughts
from decaylab.rollout_files.reading import GivenRollout, Read, ReadSettings, read_files

LARGE = 20_000_000
"""Bytes from which on reading is shown."""
NAMED = 3  # problems of a note
COMPLETE = ("messages", "rendered", "stripped")
"""Kinds of prompts that are asked as they stand."""
OF_PROBLEMS = ("question", "answer", "id")
"""Roles of ``--column`` that are those of ``--problems``, where that is given too."""


def read(
    options: PairOptions,
    student: Policy,
    problem_set: ProblemSet | None,
    progress: Progress = lambda count: None,
) -> Read:
    """The rollouts that an option names. problem_set: the problems they are to; None: the file
    brings them.

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
        # A problem may read in a file with the instruction, and without it.
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
    """The same with a bar for files that take a while."""
    size = sum(path.stat().st_size for path in files.paths_of(str(options.rollouts)))
    if reporter is None or size < LARGE:
        return read(options, student, problem_set)
    with reporter.stage("reading rollouts", size, "bytes") as bar:
        return read(options, student, problem_set, lambda count: bar.advance(0, count))


def problem_set(options: PairOptions, theirs: Read) -> ProblemSet:
    """The problems that a file brings itself.

    Raises:
        UserError: it brings none, or options of another source of problems were given.
    """
    if not theirs.problems:
        raise UserError(
            f"{options.rollouts} names problem_ids but holds no questions; say --problems"
        )
    if given := [name for name in ("revision", "split") if getattr(options, name)]:
        raise UserError(
            f"{options.rollouts} brings its own questions, so --{given[0]} has no meaning"
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
    """What a reader must know of the rows of a file, whatever problems they are to."""
    counts = theirs.counts
    steps, others = len(counts.steps), len(counts.other_gold)
    sentences = []
    if steps > 1:
        sentences.append(
            f"the rollouts are of {steps} training steps, each of another student, and are taken "
            "together"
        )
    if counts.halves:
        sentences.append(MENDED.format(counts.halves, counts.rows, f"rows of {theirs.name}"))
    if others:
        sentences.append(
            f"{others} of {len(theirs.prompts)} gold answers of {theirs.name} are not those of "
            f"--problems ({', '.join(counts.other_gold[:NAMED])}), which are taken"
        )
    return tuple(sentences)


def gold_notes(theirs: Read) -> tuple[str, ...]:
    """What a reader must know of the problems that a file brings."""
    counts, total = theirs.counts, theirs.problem_count
    sentences = []
    if counts.gold_unwrapped:
        sentences.append(
            f"{counts.gold_unwrapped} of {total} gold answers stood inside an object or list and "
            "were taken out of it"
        )
    if counts.gold_behind_hashes:
        sentences.append(
            f"{counts.gold_behind_hashes} of {total} gold answers are what stands behind ####"
        )
    return tuple(sentences)


def thought_notes(options: PairOptions, theirs: Read, student: Policy) -> tuple[str, ...]:
    """What a reader must know of thoughts in the responses; see `given_thoughts.notes`."""
    return given_thoughts.notes(options, _rendered_here(theirs), theirs.name, student)


def with_given(
    problems: Sequence[Problem], theirs: Read
) -> tuple[tuple[Problem, ...], frozenset[str]]:
    """Problems of a set with the messages that the file was written to, and the ids of those:
    nothing is added to them.

    A bare question in the file changes nothing: the set says how it is asked.
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
    """The problems whose prompt is a rendered text or ids, which the student reads as they
    stand."""
    texts = {name for name, prompt in theirs.prompts.items() if prompt.text is not None}
    return frozenset(texts | theirs.prompt_ids.keys())


def takes_instruction(options: PairOptions, theirs: Read) -> bool:
    """Whether an instruction has a place in the prompts.

    It has none in prompts that are rendered or ids, nor in messages of the file's that stand beside
    the problems of a set.
    """
    return not _fixed(theirs) and not _messages_to_set(options, theirs)


def _messages_to_set(options: PairOptions, theirs: Read) -> int:
    """How many problems of a set are asked by chat messages of the file."""
    if options.problems == "rollouts":
        return 0
    return sum(prompt.kind == "messages" for prompt in theirs.prompts.values())


def check(options: PairOptions, theirs: Read, student: Policy) -> None:
    """Raises UserError where an option would add to prompts that are complete, or changes what
    responses were written to."""
    given_thoughts.check(options, _rendered_here(theirs), student, student)
    total, file = len(theirs.prompts), options.rollouts
    first_roles = [prompt.messages[0][0] for prompt in theirs.prompts.values() if prompt.messages]
    with_system = first_roles.count("system")
    if options.system is not None and with_system:
        raise UserError(
            f"{with_system} of {total} prompts of {file} have a system message of their own: leave "
            "--system out"
        )
    fixed, instructed = len(_fixed(theirs)), options.instruction not in (None, "none")
    if fixed and (instructed or options.system):
        name = "--system" if options.system else "--instruction"
        raise UserError(
            f"{fixed} of {total} prompts of {file} are rendered or ids already: leave {name} out"
        )
    messages = _messages_to_set(options, theirs)
    if instructed and messages:
        raise UserError(
            f"{messages} of {total} prompts of {file} are chat messages, which are asked as they "
            f"stand to the problems of {options.problems}: leave --instruction out"
        )


def _rendered_here(theirs: Read) -> list[GivenRollout]:
    """The rollouts to prompts that no file has rendered."""
    fixed = _fixed(theirs)
    return [rollout for rollout in theirs.rollouts if rollout.problem_id not in fixed]


def student_reads(
    prompts: Prompts, theirs: Read, options: PairOptions, student: Policy, teacher: Policy
) -> Prompts:
    """The prompts with those of the file in the place of the student's own: its token ids, or its
    rendered text.

    Raises:
        UserError: the teacher's template closes thoughts that the responses hold.
    """
    own_teacher_prompt = options.teacher_prompt == "own"
    if own_teacher_prompt:
        given_thoughts.check(options, theirs.rollouts, student, teacher)
    begin = str(student.tokenizer.bos_token or "\n")
    given: dict[str, tuple[int, ...]] = {}
    for name in prompts["student"]:
        prompt = theirs.prompts.get(name)
        if name in theirs.prompt_ids:
            given[name] = theirs.prompt_ids[name]
        elif prompt is not None and prompt.text is not None:
            bare = student.template is None and not prompt.text.startswith(begin)
            given[name] = tuple(student.control.encode(prompt.text, {}, begin=bare))
    read_by_student = {**prompts["student"], **given}
    if own_teacher_prompt and student.template is not None:
        return {"student": read_by_student, "teacher": prompts["teacher"]}
    # Without a template a prompt is for both.
    if compare_vocabularies(student.tokenizer, teacher.tokenizer).kind == "different":
        for name, ids in given.items():
            text = str(student.tokenizer.decode(list(ids)))
            given[name] = tuple(teacher.control.encode(text, {}))
    elif not own_teacher_prompt:
        return {"student": read_by_student, "teacher": read_by_student}
    return {"student": read_by_student, "teacher": {**prompts["teacher"], **given}}
