"""Renders the prompts of both policies, with notes, and finds prompts that are too long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from decaylab.errors import UserError
from decaylab.options.pair_options import PairOptions
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems.files import mended
from decaylab.problems.problem import Problem, ProblemSet
from decaylab.problems.tasks import MATHEMATICS

Prompts = dict[str, dict[str, tuple[int, ...]]]
"""Prompt ids by role and problem."""
NAMED = 3  # control tokens that a note names


def render(
    options: PairOptions,
    student: Policy,
    teacher: Policy,
    asked: Sequence[Problem],
    instruction: str,
    complete: Collection[str] = (),
) -> Prompts:
    """The prompts of both policies.

    With ``--teacher-prompt student`` the teacher reads the student's rendered prompt. complete: ids
    of problems whose messages are used unchanged, without the instruction.

    Raises:
        UserError: a template refuses a question, or a control token in it cannot be encoded as
            text.
    """

    def prompts(author: Policy, reader: Policy) -> dict[str, tuple[int, ...]]:
        rendered = {}
        for problem in asked:
            added = "" if problem.problem_id in complete else instruction
            rendered[problem.problem_id] = tuple(author.prompt_ids(problem, added, reader))
        return rendered

    of_student = prompts(student, student)
    if options.teacher_prompt != "student":
        return {"student": of_student, "teacher": prompts(teacher, teacher)}
    # The teacher reads the student's text in its own ids.
    if compare_vocabularies(student.tokenizer, teacher.tokenizer).kind == "different":
        return {"student": of_student, "teacher": prompts(student, teacher)}
    return {"student": of_student, "teacher": of_student}


def of_problems(
    options: PairOptions,
    student: Policy,
    teacher: Policy,
    asked: Sequence[Problem],
    problem_set: ProblemSet,
    everything: Prompts,
    *,
    takes_instruction: bool = True,
) -> tuple[Prompts, tuple[str, ...]]:
    """The prompts of the problems that fit into both contexts, and notes about them.

    everything: the prompts of all problems. takes_instruction: whether an instruction can be added
    to them.

    Raises:
        UserError: a prompt is too long; with ``--leave-out-long``, only if all are.
    """
    long = _beyond(options, student, teacher, everything)
    fitting = [problem for problem in asked if problem.problem_id not in long]
    prompts = {}
    for role, rendered in everything.items():
        prompts[role] = {name: ids for name, ids in rendered.items() if name not in long}
    notes = list(_of_texts(options))
    own = problem_set.own and not problem_set.instruction and problem_set.task is MATHEMATICS
    if takes_instruction and own and options.instruction is None:
        notes.insert(
            0,
            f"the questions of {problem_set.name} are used without an instruction; "
            "--instruction boxed asks for a boxed answer, --instruction none silences this note",
        )
    for role, policy in (("student", student), ("teacher", teacher)):
        if policy.template and (role == "student" or options.teacher_prompt == "own"):
            notes += policy.template.notes()
        notes += _of_ends(role, policy)
        notes += _of_control_tokens(role, policy, fitting, problem_set.instruction)
    if options.prompt_format == "plain" and options.thinking == "on":
        notes.append("--thinking on has no effect with --prompt-format plain")
    if long:
        notes.append(
            f"{len(long)} of {len(asked)} problems do not fit into the context, left out "
            f"({_first(list(long))})"
        )
    return prompts, tuple(dict.fromkeys(notes))


def _of_texts(options: PairOptions) -> Iterator[str]:
    for name in ("system", "teacher_system", "instruction"):
        text = getattr(options, name)
        if text is not None and mended(text) != text:
            yield (
                f"--{name.replace('_', '-')} contains half a character (a lone surrogate), "
                "replaced by U+FFFD"
            )


def _of_ends(role: str, policy: Policy) -> Iterator[str]:
    end = policy.turn_end
    if policy.adds_end and end.token is not None:
        token = policy.control.texts[end.token]
        yield (
            f"{role}: the template of {policy.name} ends a turn with {token!r}, which is not "
            "one of its end-of-sequence tokens; it also ends a rollout here"
        )
    elif policy.template and end.text and end.token is None:
        yield (
            f"{role}: the template of {policy.name} ends a turn with {end.text!r}, which is not "
            "a single token; a rollout ends only at the end-of-sequence token"
        )


def _of_control_tokens(
    role: str, policy: Policy, asked: Sequence[Problem], instruction: str
) -> Iterator[str]:
    questions, tokens = 0, Counter[str]()
    for problem in asked:
        spelt = policy.control.spelt(problem.question)
        questions += bool(spelt)
        tokens.update(spelt)
    if tokens:
        yield (
            f"{role}: {questions} of {len(asked)} questions contain control tokens "
            f"({_named(tokens)}), encoded as text"
        )
    texts = {"the instruction": instruction, "the system message": policy.settings.system}
    for what, text in texts.items():
        if text and (spelt := policy.control.spelt(text)):
            yield (
                f"{role}: {what} contains control tokens ({_named(Counter(spelt))}), encoded as "
                "text"
            )


def _named(tokens: Counter[str]) -> str:
    return _first([f"{token} {count}x" for token, count in tokens.most_common()])


def _first(names: Sequence[str]) -> str:
    """The first few names."""
    more = ["..."] if len(names) > NAMED else []
    return ", ".join([*names[:NAMED], *more])


def _beyond(
    options: PairOptions, student: Policy, teacher: Policy, prompts: Prompts
) -> dict[str, str]:
    """Problems whose prompt plus budget exceeds a context, each with a sentence on the longest one.

    Raises:
        UserError: there is one and ``--leave-out-long`` is not set, or no problem fits.
    """
    budget, long = int(options.max_tokens or 0), dict[str, str]()
    for role, policy in (("student", student), ("teacher", teacher)):
        lengths = {name: len(ids) for name, ids in prompts[role].items()}
        room = policy.context_length - budget
        beyond = [name for name, length in lengths.items() if length > room]
        if not beyond:
            continue
        worst = max(beyond, key=lambda name: lengths[name])
        sentence = _too_long(worst, lengths[worst], budget, role, policy)
        long |= dict.fromkeys(beyond, sentence)
        if options.leave_out_long:
            continue
        if len(beyond) > 1:
            sentence += f"; {len(beyond)} of {len(lengths)} problems are too long"
        raise UserError(f"{sentence}; use --leave-out-long to leave such problems out")
    if len(long) == len(prompts["student"]):
        raise UserError(f"no problem is left: {next(iter(long.values()))}")
    return long


def _too_long(name: str, length: int, budget: int, role: str, policy: Policy) -> str:
    room = policy.context_length - length
    fits = f"at most {room} fit" if room > 0 else "the prompt alone is too long"
    return (
        f"problem {name}: its prompt of {length} tokens plus --max-tokens {budget} exceeds the "
        f"context of the {role} {policy.name}, {policy.context_length} tokens; {fits}"
    )
