"""What a probe asks: problems, the prompts of both policies, the teacher. Checked first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.pair import kept_prompts
from decaylab.policies import loaded_checks, loading
from decaylab.policies.loaded_models import (
    LoadedPolicy,
    PolicyLike,
    as_policy,
    contents_of,
    loaded,
    own_name,
)
from decaylab.policies.policy import Policy, load_settings
from decaylab.policies.prompts import Prompts, render
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems import given_rows
from decaylab.problems.given_rows import ProblemsLike as ProblemsLike
from decaylab.problems.problem import ProblemSet
from decaylab.problems.sets import instruction_of, load_problems
from decaylab.rollouts.sampling import Request
from decaylab.runs import records
from decaylab.runs.vocabulary import STUDENT, TEACHER

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TeacherLike: TypeAlias = Union[PolicyLike, Policy, "PreTrainedModel"]
STAGE = "probe"


@dataclass(frozen=True)
class Asked:
    """The checked pair with its prompts. student: before training, as a policy."""

    options: DiagnosticOptions
    student: Policy
    teacher: Policy
    problem_set: ProblemSet
    prompts: Prompts

    @property
    def codes(self) -> dict[str, int]:
        """A code for each problem, in the order of the set."""
        return {name: code for code, name in enumerate(self.prompts[STUDENT])}

    @property
    def policies(self) -> dict[str, Policy]:
        return {STUDENT: self.student, TEACHER: self.teacher}

    def requests(self) -> Iterator[Request]:
        """One request per rollout. Every step draws the same random numbers."""
        budget = int(self.options.max_tokens or 1)
        for name, prompt in self.prompts[STUDENT].items():
            for sample in range(int(self.options.samples or 1)):
                yield Request(prompt, (), budget, STAGE, name, sample)

    def identity(self) -> dict[str, Any]:
        """Pair, problems and prompts as run.json identifies them."""
        return records.identity_of_pair(
            self.policies,
            self.problem_set,
            kept_prompts.digest(self.prompts),
            asked=len(self.codes),
        )


@contextmanager
def named(problems: ProblemsLike | ProblemSet) -> Iterator[str | ProblemSet]:
    """A problem set, or the name of one; of rows in memory it is valid within the block.

    Raises:
        UserError: neither a name, rows nor a set, or a row that cannot be read.
    """
    if isinstance(problems, ProblemSet):
        yield problems
    elif (rows := given_rows.as_rows(problems)) is not None:
        with given_rows.held(rows) as name:
            yield name
    else:
        yield str(problems)


def problem_set(problems: str | ProblemSet, options: DiagnosticOptions) -> ProblemSet:
    """The first problems of a set, by its name or already loaded, with their instruction.

    Raises:
        UserError: no such set, or it is empty.
    """
    if isinstance(problems, ProblemSet):
        found = replace(problems, problems=problems.problems[: options.limit])
    else:
        found = load_problems(
            problems,
            limit=options.limit,
            split=options.split,
            columns=options.columns or None,
            seed=options.seed,
        )
    if not found.problems:
        raise UserError(f"{found.name} has no problems, so a probe of it would have no tokens")
    return replace(found, instruction=instruction_of(options.instruction, found))


def asked(
    model: Any, teacher: Any, tokenizer: Any, problems: ProblemSet, options: DiagnosticOptions
) -> Asked:
    """The pair with its prompts.

    Args:
        model: the student.
        teacher: a name, a policy, a model in memory with its tokenizer, or one that reads the
            student's ids.

    Raises:
        UserError: another vocabulary, a prompt that cannot be rendered or leaves no room for the
            budget, a teacher that cannot be loaded.
    """
    student = student_policy(model, tokenizer, options)
    options = replace(options, student=student.name)
    of_teacher = _teacher(teacher, student, options)
    loaded_checks.refuse_shared([student.model, of_teacher.model])
    share_vocabulary(student, of_teacher)
    prompts = render(options, student, of_teacher, problems.problems, problems.instruction)
    found = Asked(options.resolved(), student, of_teacher, problems, prompts)
    _check_room(found)
    return found


def student_policy(model: Any, tokenizer: Any, options: DiagnosticOptions) -> Policy:
    """The student as it is now. Training changes its weights, so its name identifies it.

    Its forward hooks run, as they do in training.

    Raises:
        UserError: a model that cannot be measured.
    """
    student = loaded(model, tokenizer)
    name = options.student or own_name(student.model) or "the student"
    return as_policy(replace(student, name=name), load_settings(options, "student"))


def _teacher(teacher: Any, student: Policy, options: DiagnosticOptions) -> Policy:
    device = str(student.weights.device)
    settings = load_settings(options, "teacher", device)
    if isinstance(teacher, Policy):
        return teacher
    if isinstance(teacher, str):
        return loading.load(teacher, settings)
    if isinstance(teacher, LoadedPolicy):
        return as_policy(teacher, settings, contents_of(teacher))
    found = as_policy(loaded(teacher, student.tokenizer, teacher_name(teacher)), settings)
    ids = max(student.tokenizer.get_vocab().values()) + 1
    if min(found.rows, found.head_width) < ids <= min(student.rows, student.head_width):
        raise UserError(
            f"{found.name} has {found.head_width} ids, and the student's tokenizer has {ids}: it "
            "is a teacher of another vocabulary; give it by name, so that its own tokenizer is read"
        )
    return found


def teacher_name(teacher: Any) -> str:
    """The name of a teacher that was given as a name, a policy or a model in memory.

    Raises:
        UserError: a model that cannot be used.
    """
    if isinstance(teacher, str):
        return teacher
    if isinstance(teacher, Policy | LoadedPolicy):
        return teacher.name
    return own_name(loaded_checks.plain_model(teacher)) or "the teacher"


def _check_room(found: Asked) -> None:
    budget = int(found.options.max_tokens or 0)
    for role, policy in found.policies.items():
        longest = max(len(ids) for ids in found.prompts[role].values())
        if longest + budget > policy.context_length:
            raise UserError(
                f"a prompt of {longest} tokens and a rollout of {budget} do not fit into the "
                f"context of {policy.name} ({policy.context_length}); give a smaller max_tokens"
            )
