"""Counts problems and prompt tokens without loading or fetching anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from decaylab.errors import UserError
from decaylab.options.planning import PlanOptions
from decaylab.policies import loading
from decaylab.policies.policy import Policy, Role, load_settings
from decaylab.problems.problem import Problem, ProblemSet
from decaylab.problems.published import named
from decaylab.problems.sets import instruction_of, load_problems

KNOWN_SIZES = {
    **{"math500": 500, "gsm8k": 1319},
    **{"humaneval": 164, "humaneval+": 164, "mbpp": 500, "mbpp+": 378},
    **{"bfcl:simple_python": 400, "bfcl:irrelevance": 240},
    **{f"bfcl:{category}": 200 for category in ("multiple", "parallel", "parallel_multiple")},
}
"""Number of problems in the named hub sets, which are not fetched to be counted."""
PROMPT_TOKENS = 256
"""Assumed length of the longest prompt, if it is neither known nor given."""


@dataclass(frozen=True)
class Asked:
    """The number of problems, and the longest prompt of each policy, in tokens.

    notes: what was assumed.
    """

    problems: int
    student_prompt: int
    teacher_prompt: int
    notes: tuple[str, ...] = ()

    @property
    def prompts(self) -> tuple[int, int]:
        return self.student_prompt, self.teacher_prompt


def asked(options: PlanOptions) -> Asked:
    """Reads local problems and renders them with local tokenizers.

    Raises:
        UserError: a set that cannot be used, or a hub set of unknown size.
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
    """Local problems and their instruction; none for a hub set, or rollouts without questions."""
    spec = str(options.problems)
    if spec == "rollouts":
        from decaylab.rollout_files import asked as rollouts_asked  # which imports torch

        student = _tokenizer("student", options)
        theirs = rollouts_asked.read(options, student, None).problems if student else ()
        known = ProblemSet("", "", "", "", "last_boxed", theirs, own=True)
        return theirs, instruction_of(options.instruction, known)
    a_file = Path(spec).exists() or spec.endswith((".jsonl", ".json", ".parquet"))
    published = named(spec)
    on_hub = not published[1] if published else spec.count("/") == 1 and not a_file
    if on_hub:
        return (), ""
    local = load_problems(
        spec, limit=options.limit, columns=options.columns or None, seed=options.seed
    )
    return local.problems, instruction_of(options.instruction, local)


def _hub_size(options: PlanOptions) -> int:
    spec = str(options.problems)
    if spec == "rollouts":
        raise UserError(
            f"the problems of {options.rollouts} cannot be counted: it has no questions, or the "
            "student's tokenizer is not a local folder; set --problems"
        )
    if spec in KNOWN_SIZES:
        return min(KNOWN_SIZES[spec], options.limit or KNOWN_SIZES[spec])
    if options.limit is None:
        raise UserError(
            f"--problems {spec} is on the hub and not fetched to be counted; set --limit"
        )
    return options.limit


def _tokenizer(role: Role, options: PlanOptions) -> Policy | None:
    """The policy's tokenizer, if it is in a local folder."""
    name = str(getattr(options, role))
    path: Path | str = Path(name).expanduser()
    if not (Path(path) / "tokenizer_config.json").exists():
        path = loading.resolve(name)
    if isinstance(path, Path) and any((path / file).exists() for file in loading.TOKENIZER_FILES):
        return loading.load_tokenizer_only(name, load_settings(options, role))
    return None
