"""What is planned: the options of the commands, the machine, and problems and prompts as far as
they can be known here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from decaylab.errors import UserError
from decaylab.options.planning import PlanOptions
from decaylab.policies import loading
from decaylab.policies.loading import Policy, Role, load_settings
from decaylab.problems.sets import Problem, ProblemSet, instruction_of, load_problems

KNOWN_SIZES = {"math500": 500, "gsm8k": 1319}
"""Problems of the sets on the hub that have a name here: they are not fetched to be counted."""
PROMPT_TOKENS = 256
"""Of the longest prompt, where it can't be read off and nothing was said."""
@dataclass(frozen=True)
class Asked:
    """The problems, and the longest prompt of each policy in tokens. notes: what was assumed."""

    problems: int
    student_prompt: int
    teacher_prompt: int
    notes: tuple[str, ...] = ()

    @property
    def prompts(self) -> tuple[int, int]:
        return self.student_prompt, self.teacher_prompt


def asked(options: PlanOptions) -> Asked:
    """Problems that are here are read, and rendered by tokenizers that are here; nothing is
    fetched.

    Raises:
        UserError: a set that cannot be used, or one on the hub whose size nobody said.
    """
    problems, instruction = _problems(options)
    count = len(problems) if problems else _hub_size(options)
    if options.prompt_tokens is not None:
        return Asked(count, options.prompt_tokens, options.prompt_tokens)
    found = []
    told: list[str] = []
    for role in ("student", "teacher"):
        policy = _tokenizer(role, options) if problems else None
        found.append(
            max(len(policy.prompt_ids(one, instruction)) for one in problems) if policy else None
        )
        told += policy.template.notes() if policy and policy.template else []
    guess = (
        f"the longest prompt is taken to have {PROMPT_TOKENS} tokens, which nobody said "
        "(--prompt-tokens)"
    )
    notes = (*dict.fromkeys(told), *([guess] if None in found else []))
    student, teacher = (PROMPT_TOKENS if one is None else one for one in found)
    return Asked(count, student, student if options.teacher_prompt == "student" else teacher, notes)


def _problems(options: PlanOptions) -> tuple[tuple[Problem, ...], str]:
    """Those that are here with their instruction; none where they are on the hub, or rollouts that
    hold no questions."""
    spec = str(options.problems)
    if spec == "rollouts":
        from decaylab.rollout_files import asked as rollouts_asked  # which imports torch

        student = _tokenizer("student", options)
        theirs = rollouts_asked.read(options, student, None).problems if student else ()
        return theirs, instruction_of(
            options.instruction, ProblemSet("", "", "", "", "last_boxed", theirs, own=True)
        )
    on_hub = (
        spec.count("/") == 1
        and not Path(spec).exists()
        and not spec.endswith((".jsonl", ".json", ".parquet"))
    )
    if spec in KNOWN_SIZES or on_hub:
        return (), ""
    found = load_problems(
        spec, limit=options.limit, columns=options.columns or None, seed=options.seed
    )
    return found.problems, instruction_of(options.instruction, found)


def _hub_size(options: PlanOptions) -> int:
    spec = str(options.problems)
    if spec == "rollouts":
        raise UserError(
            f"the problems of {options.rollouts} cannot be counted: it holds no questions, or the "
            "student's tokenizer is not "
            "here; say --problems"
        )
    if spec in KNOWN_SIZES:
        return min(KNOWN_SIZES[spec], options.limit or KNOWN_SIZES[spec])
    if options.limit is None:
        raise UserError(
            f"--problems {spec} is not fetched to be counted; say --limit, how many of its problems"
        )
    return options.limit


def _tokenizer(role: Role, options: PlanOptions) -> Policy | None:
    """The policy's tokenizer, where it is in a folder here."""
    name = str(getattr(options, role))
    own = Path(name).expanduser()
    path = own if (own / "tokenizer_config.json").exists() else loading.resolve(name)
    if not isinstance(path, Path) or not any(
        (path / file).exists() for file in loading.TOKENIZER_FILES
    ):
        return None
    return loading.load_tokenizer_only(name, load_settings(options, role))
