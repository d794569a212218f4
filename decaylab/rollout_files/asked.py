"""What the policies are asked where rollouts come from a file: the file's own prompts, as far as it
has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from decaylab.errors import UserError
from decaylab.options.measuring import PairOptions
from decaylab.policies.loading import Policy
from decaylab.policies.prompts import Prompts
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems import thoughts
from decaylab.problems.files import MENDED, Progress
from decaylab.problems.sets import Problem, ProblemSet
from decaylab.progress import Reporter
from decaylab.rollout_files import files
from decaylab.rollout_files.given_prompts import text_of
from decaylab.rollout_files.reading import GivenRollout, Read, ReadSettings, read_files

PROBE = "a question probe"
LOOKED_AT = 200  # rollouts, for thoughts
LARGE = 20_000_000
"""Bytes from which on reading is shown."""
NAMED = 3  # problems of a note
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
    columns = options.columns if problem_set is None else without(options.columns)
    settings = ReadSettings(
        options.rollouts_format,
        columns,
        options.prompt_kind,
        options.prompt_in_response,
        options.no_stop_reason,
        options.limit if problem_set is None else None,
        None if problem_set is None else _asked(problem_set),
        {} if problem_set is None else {one.problem_id: one.answer for one in problem_set.problems},
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


def without(columns: Mapping[str, str]) -> dict[str, str]:
    """The columns of a map that are those of the rollouts, where the problems have a file of their
    own."""
    return {role: name for role, name in columns.items() if role not in OF_PROBLEMS}


def _asked(problem_set: ProblemSet) -> dict[str, tuple[str, ...]]:
    """How each problem of a set may read in a file: with the instruction, and without it."""
    ending = f"\n{problem_set.instruction}" if problem_set.instruction else ""
    return {one.problem_id: (one.question + ending, one.question) for one in problem_set.problems}


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
        theirs.name,
        "local file",
        theirs.content_hash,
        "",
        "last_boxed",
        theirs.problems,
        gold_notes(theirs),
        own=True,
    )


def notes(theirs: Read) -> tuple[str, ...]:
    """What a reader must know of the rows of a file, whatever problems they are to."""
    counts = theirs.counts
    steps = len(counts.steps) if len(counts.steps) > 1 else 0
    said = {
        f"the rollouts are of {steps} training steps, each of another student, and are taken "
        "together": steps,
        MENDED.format(counts.halves, counts.rows, f"rows of {theirs.name}"): counts.halves,
        f"{len(counts.other_gold)} of {len(theirs.prompts)} gold answers of {theirs.name} are not "
        "those of --problems "
        f"({', '.join(counts.other_gold[:NAMED])}), which are taken": len(counts.other_gold),
    }
    return tuple(sentence for sentence, count in said.items() if count)


def gold_notes(theirs: Read) -> tuple[str, ...]:
    """What a reader must know of the problems that a file brings."""
    counts, total = theirs.counts, theirs.problem_count
    said = {
        f"{counts.gold_unwrapped} of {total} gold answers stood inside an object or list and were "
        "taken out of it": counts.gold_unwrapped,
        f"{counts.gold_behind_hashes} of {total} gold answers are what stands behind ####": counts.gold_behind_hashes,
    }
    return tuple(sentence for sentence, count in said.items() if count)


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
        if (prompt.kind in ("messages", "rendered", "stripped") or name in theirs.prompt_ids)
        and prompt.messages
    }
    found = tuple(
        dataclasses.replace(one, messages=given[one.problem_id]) if one.problem_id in given else one
        for one in problems
    )
    return found, frozenset(given)


def _fixed(theirs: Read) -> frozenset[str]:
    """The problems whose prompt is a rendered text or ids, which the student reads as they
    stand."""
    texts = {name for name, one in theirs.prompts.items() if one.text is not None}
    return frozenset(texts | theirs.prompt_ids.keys())


def takes_instruction(options: PairOptions, theirs: Read) -> bool:
    """Whether an instruction has a place in the prompts; it has none in some that are rendered or
    ids, or are messages of the file's beside the problems of a set.
    """
    said = options.problems != "rollouts" and any(
        one.kind == "messages" for one in theirs.prompts.values()
    )
    return not said and not _fixed(theirs)


def check(options: PairOptions, theirs: Read, student: Policy) -> None:
    """Raises UserError where an option would add to prompts that are complete, or changes what
    responses were written to."""
    _check_thoughts(options, _rendered_here(theirs), student, student)
    prompts, total = theirs.prompts.values(), len(theirs.prompts)
    with_system = sum(bool(one.messages) and one.messages[0][0] == "system" for one in prompts)
    if options.system is not None and with_system:
        raise UserError(
            f"{with_system} of {total} prompts of {options.rollouts} have a system message of "
            "their own: leave --system out"
        )
    fixed, instructed = len(_fixed(theirs)), options.instruction not in (None, "none")
    if fixed and (instructed or options.system):
        name = "--system" if options.system else "--instruction"
        raise UserError(
            f"{fixed} of {total} prompts of {options.rollouts} are rendered or ids already: leave "
            f"{name} out"
        )
    if instructed and not takes_instruction(options, theirs):
        messages = sum(one.kind == "messages" for one in prompts)
        raise UserError(
            f"{messages} of {total} prompts of {options.rollouts} are chat messages, which are "
            "asked as they stand to the "
            f"problems of {options.problems}: leave --instruction out"
        )


def _rendered_here(theirs: Read) -> list[GivenRollout]:
    """The rollouts to prompts that no file has rendered."""
    fixed = _fixed(theirs)
    return [one for one in theirs.rollouts if one.problem_id not in fixed]


def _check_thoughts(
    options: PairOptions, rollouts: Sequence[GivenRollout], student: Policy, reader: Policy
) -> None:
    """Raises UserError where the template of a reader closes the thought that most of the student's
    responses hold."""
    behind = reader.template.prompt(PROBE).partition(PROBE)[2] if reader.template else ""
    marks = (*thoughts.KNOWN, *reader.thought_marks)
    if not any(behind.rstrip().endswith(closing) for _, closing in marks):
        return
    looked_at = rollouts[:LOOKED_AT]
    thinking = [one for one in looked_at if _thinks(one, student)]
    if 2 * len(thinking) > len(looked_at):
        raise UserError(
            f"{thinking[0].place}: {len(thinking)} of the first {len(looked_at)} responses hold a "
            "thought, which the template "
            f"of {reader.name} closes in the prompt with --thinking {options.thinking}; say "
            "--thinking on"
        )


def thought_notes(options: PairOptions, theirs: Read, student: Policy) -> tuple[str, ...]:
    """What a reader must know of thoughts in responses to prompts that are rendered here, maybe
    with another --thinking."""
    looked_at = [one for one in _rendered_here(theirs) if one.record.turns is None][:LOOKED_AT]
    if student.template is None or not looked_at:
        return ()
    prompt = student.template.prompt(PROBE).partition(PROBE)[2].rstrip()
    marks = (*thoughts.KNOWN, *student.thought_marks)
    begin = [_text(one, student).lstrip() for one in looked_at]
    thinking = sum(_thinks(one, student) for one in looked_at)
    again = sum(
        text.startswith(opening)
        for text in begin
        for opening, _ in marks
        if prompt.endswith(opening)
    )
    closed = any(prompt.endswith(closing) for _, closing in marks)
    said = {
        "hold a thought, which their prompt has closed": thinking if closed else 0,
        "open a thought that their prompt has opened already": again,
        "hold no thought": len(looked_at) if options.thinking == "on" and not thinking else 0,
    }
    return tuple(
        f"{count} of the first {len(looked_at)} responses of {theirs.name} {what}: --thinking "
        f"{options.thinking} may not be "
        "how they were written"
        for what, count in said.items()
        if count
    )


def _text(one: GivenRollout, student: Policy) -> str:
    given = one.record
    return (
        given.response
        if given.response is not None
        else text_of(student, given.response_ids or [], one.place)
    )


def _thinks(one: GivenRollout, student: Policy) -> bool:
    """Whether a response holds a thought, or the end of one that its prompt opened."""
    text = _text(one, student)
    return (
        bool(one.record.reasoning)
        or thoughts.answer_start(text, "", (*thoughts.KNOWN, *student.thought_marks)) != 0
    )


def student_reads(
    prompts: Prompts, theirs: Read, options: PairOptions, student: Policy, teacher: Policy
) -> Prompts:
    """The prompts with those of the file in the place of the student's own: its token ids, or its
    rendered text.

    Raises:
        UserError: the teacher's template closes thoughts that the responses hold.
    """
    if options.teacher_prompt == "own":
        _check_thoughts(options, theirs.rollouts, student, teacher)
    given: dict[str, tuple[int, ...]] = {}
    for name in prompts["student"]:
        prompt = theirs.prompts.get(name)
        if name in theirs.prompt_ids:
            given[name] = theirs.prompt_ids[name]
        elif prompt is not None and prompt.text is not None:
            bare = student.template is None and not prompt.text.startswith(
                str(student.tokenizer.bos_token or "\n")
            )
            given[name] = tuple(student.control.encode(prompt.text, {}, begin=bare))
    own = {**prompts["student"], **given}
    if (
        options.teacher_prompt == "own" and student.template is not None
    ):  # without a template a prompt is for both
        return {"student": own, "teacher": prompts["teacher"]}
    if compare_vocabularies(student.tokenizer, teacher.tokenizer).kind != "different":
        return {
            "student": own,
            "teacher": own
            if options.teacher_prompt == "student"
            else {**prompts["teacher"], **given},
        }
    texts = {name: str(student.tokenizer.decode(list(ids))) for name, ids in given.items()}
    read = {name: tuple(teacher.control.encode(text, {})) for name, text in texts.items()}
    return {"student": own, "teacher": {**prompts["teacher"], **read}}
