"""How files of rollouts are read, as every command would read them.

Loads tokenizers and no weights.
"""

from __future__ import annotations

import dataclasses

from decaylab.errors import UserError
from decaylab.options.measuring import FileOptions
from decaylab.pair.prepare import read_problems, read_tokenizer
from decaylab.policies.policy import Policy, Role
from decaylab.policies.prompts import render
from decaylab.progress import Reporter
from decaylab.rollout_files import asked as rollouts_asked
from decaylab.rollout_files.reading import Read
from decaylab.rollout_files.responses import Encoder

ROLES: tuple[Role, ...] = ("student", "teacher")
PROBLEMS = 50  # read by default
EXAMPLES = 200  # rollouts that are encoded, to see whether ids and texts agree


@dataclasses.dataclass(frozen=True)
class Understood:
    """How a file was read. prompts: an example as each policy reads it. notes: sentences."""

    read: Read
    prompts: dict[str, str]
    response: str
    notes: tuple[str, ...]


def understand(options: FileOptions, reporter: Reporter) -> Understood:
    """Reads the files whole and renders the first prompt.

    Raises:
        UserError: anything that would stop a measurement of these rollouts.
    """
    if not options.files:
        raise UserError("no file is named: decaylab rollouts FILE")
    chosen = dataclasses.replace(options, rollouts=",".join(options.files)).with_pair()
    chosen = dataclasses.replace(chosen, limit=chosen.limit or PROBLEMS)
    pair: dict[str, Policy] = {role: read_tokenizer(chosen, role) for role in ROLES}
    student, teacher = pair["student"], pair["teacher"]
    asked, read = read_problems(chosen, student, reporter)
    assert read is not None
    encoder = Encoder(student)
    shown = read.rollouts[:EXAMPLES]
    responses = encoder.responses(shown)
    notes = (
        *rollouts_asked.notes(read),
        *rollouts_asked.thought_notes(chosen, read, student),
        *rollouts_asked.gold_notes(read),
        *encoder.notes(),
    )
    problems, complete = asked.problems, frozenset[str]()
    if chosen.problems != "rollouts":
        problems, complete = rollouts_asked.with_given(problems, read)
    prompts: dict[str, str] = {}
    first = [problem for problem in problems if problem.problem_id in read.prompts][:1]
    if first:
        rendered = render(chosen, student, teacher, first, asked.instruction, complete)
        rendered = rollouts_asked.student_reads(rendered, read, chosen, student, teacher)
        for role, ids in rendered.items():
            example = list(ids[first[0].problem_id])
            prompts[role] = str(pair[role].tokenizer.decode(example))
    return Understood(read, prompts, responses[0].text if responses else "", notes)
