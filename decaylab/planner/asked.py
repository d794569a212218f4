"""Problems and prompts, as far as they can be known before anything is loaded or fetched."""

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
"""Of the longest prompt, where it cannot be computed and is not given."""


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
    """Reads problems that are here, and renders them by tokenizers that are here.

    Raises:
        UserError: a set that cannot be used, or one on the hub of unknown size.
    """
    problems, instruction = _problems(options)
    count = len(problems) or _hub_size(options)
    if options.prompt_tokens is not None:
        return Asked(count, options.prompt_tokens, options.prompt_tokens)
    notes: list[str] = []
    longest = {"student": PROMPT_TOKENS, "teacher": PROMPT_TOKENS}
    guess = f"assuming prompts of at most {PROMPT_TOKENS} tokens; set --prompt-tokens"
    for role in ("student", "teacher"):
        policy = _tokenizer(role, options) if problems else None
        if policy is None:
            notes.append(guess)
            continue
        longest[role] = max(len(policy.prompt_ids(problem, instruction)) for problem in problems)
        notes += policy.template.notes() if policy.template else []
    if options.teacher_prompt == "student":
        longest["teacher"] = longest["student"]
    return Asked(count, longest["student"], longest["teacher"], tuple(dict.fromkeys(notes)))


def _problems(options: PlanOptions) -> tuple[tuple[Problem, ...], str]:
    """Problems that are here, with their instruction.

    There are none where they are on the hub, or where rollouts hold no questions.
    """
    spec = str(options.problems)
    if spec == "rollouts":
        from decaylab.rollout_files import asked as rollouts_asked  # which imports torch

        student = _tokenizer("student", options)
        theirs = rollouts_asked.read(options, student, None).problems if student else ()
        known = ProblemSet("", "", "", "", "last_boxed", theirs, own=True)
        return theirs, instruction_of(options.instruction, known)
    a_file = Path(spec).exists() or spec.endswith((".jsonl", ".json", ".parquet"))
    if spec in KNOWN_SIZES or (spec.count("/") == 1 and not a_file):
        return (), ""
    local = load_problems(
        spec, limit=options.limit, columns=options.columns or None, seed=options.seed
    )
    return local.problems, instruction_of(options.instruction, local)


def _hub_size(options: PlanOptions) -> int:
    spec = str(options.problems)
    if spec == "rollouts":
        raise UserError(
            f"the problems of {options.rollouts} cannot be counted: it holds no questions, or the "
            "student's tokenizer is not here; say --problems"
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
    path: Path | str = Path(name).expanduser()
    if not (Path(path) / "tokenizer_config.json").exists():
        path = loading.resolve(name)
    if isinstance(path, Path) and any((path / file).exists() for file in loading.TOKENIZER_FILES):
        return loading.load_tokenizer_only(name, load_settings(options, role))
    return None
