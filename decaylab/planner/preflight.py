"""Preflight: checks the loaded pair, and plans prefix-decay for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from decaylab.errors import UserError
from decaylab.options.measuring import Options
from decaylab.options.planning import PlanOptions
from decaylab.pair.prepare import GRADING_WORKERS, Setup, prepare
from decaylab.planner import alignment_checks
from decaylab.planner.asked import Asked
from decaylab.planner.plan import Plan, plan_of, this_machine
from decaylab.planner.probe import TOKENS
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.printing import gib, seconds
from decaylab.problems.grading import Grader

PROBE_ROWS = 16
LONG = 24 * 3600  # seconds; a longer run is a warning


@dataclass(frozen=True)
class Check:
    """A finding with its verdict: ``ok``, ``warning`` (measurable), or ``no`` (not measurable)."""

    name: str
    verdict: Literal["ok", "warning", "no"]
    finding: str


@dataclass(frozen=True)
class PreflightReport:
    checks: tuple[Check, ...]

    @property
    def measurable(self) -> bool:
        return all(check.verdict != "no" for check in self.checks)

    @property
    def verdict(self) -> str:
        if not self.measurable:
            return "This pair cannot be measured with these options."
        warnings = sum(check.verdict == "warning" for check in self.checks)
        mind = {0: "", 1: "; see the warning"}.get(warnings, f"; see the {warnings} warnings")
        return f"This pair can be measured{mind}."


def preflight(options: Options) -> PreflightReport:
    """Runs all checks; stops if the pair cannot be loaded.

    Raises:
        UserError: an unusable option, as in the run itself.
    """
    options = options.resolved()
    devices = this_machine(options.device)  # free memory before the models are loaded
    try:
        with Grader(workers=GRADING_WORKERS, sandboxed=not options.no_sandbox) as grader:
            setup = prepare(options, grader)
    except UserError as error:
        return PreflightReport((Check("loading", "no", str(error)),))
    student, teacher = (max(map(len, setup.prompts[role].values())) for role in _roles(setup))
    known = Asked(len(setup.problems), student, teacher)
    given: dict[str, Any] = vars(setup.options)  # PlanOptions has all of these
    planned = PlanOptions(only=("prefix-decay",), **given).resolved()
    plan = plan_of(planned, devices, known, setup, PROBE_ROWS)
    checks = [_problems(setup), _vocabularies(setup), *_alignment(setup)]
    checks += [*_templates(setup), _context(setup, known)]
    return PreflightReport((*checks, _memory(plan), _time(plan)))


def _roles(setup: Setup[Options]) -> dict[str, Policy]:
    return {"student": setup.student, "teacher": setup.teacher}


def _problems(setup: Setup[Options]) -> Check:
    left_out = len(setup.problem_set) - len(setup.problems)
    asked = f"{setup.problem_set.name} ({setup.problem_set.version}): {len(setup.problems)}"
    finding = "; ".join([f"{asked} problems", *setup.problem_notes])
    return Check("problems", "warning" if left_out else "ok", finding)


def _vocabularies(setup: Setup[Options]) -> Check:
    student, teacher = setup.student.tokenizer, setup.teacher.tokenizer
    agreement = compare_vocabularies(student, teacher)
    if agreement.kind == "same":
        return Check("vocabularies", "ok", f"the same {len(student):,} ids in both")
    if agreement.kind == "compatible":
        only_student = f"{len(agreement.student_only)} are student-only"
        if agreement.student_only:
            only_student += f" ({_tokens(setup.student, agreement.student_only[:3])})"
        finding = (
            f"the same except for added tokens: {len(agreement.conflicting)} ids conflict, "
            f"{only_student}, {len(agreement.teacher_only)} are teacher-only; prefixes are passed "
            "as ids"
        )
        return Check("vocabularies", "warning", finding)
    index = agreement.conflicting[0]
    first, second = (_tokens(policy, [index]) for policy in _roles(setup).values())
    finding = (
        f"different (id {index} is {first} and {second}): each policy reads the text in its own "
        "tokens"
    )
    return Check("vocabularies", "warning", finding)


def _alignment(setup: Setup[Options]) -> Iterator[Check]:
    """How the tokens of two tokenizers align."""
    agreement = compare_vocabularies(setup.student.tokenizer, setup.teacher.tokenizer)
    if agreement.kind != "different":
        return
    try:
        for name, is_ok, finding in alignment_checks.findings(setup):
            yield Check(name, "ok" if is_ok else "warning", finding)
    except UserError as error:
        yield Check("alignment", "no", str(error))


def _tokens(policy: Policy, ids: Any) -> str:
    """Quoted tokens of these ids."""
    return ", ".join(repr(policy.tokenizer.convert_ids_to_tokens(index)) for index in ids)


def _templates(setup: Setup[Options]) -> Iterator[Check]:
    """The end of each policy's prompt, and the tokens that end a turn."""
    turns = []
    for role, policy in _roles(setup).items():
        prompt = policy.tokenizer.decode(list(next(iter(setup.prompts[role].values()))))
        turns.append(_tokens(policy, sorted(policy.end_ids)))
        finding = f"prompt ends {prompt[-40:]!r}; a turn ends with {turns[-1]}"
        if policy.pad_id in policy.end_ids:
            finding += ", also the padding token"
        yield Check(f"{role} template", "ok", finding)
    for note in setup.prompt_notes:
        yield Check("prompts", "warning", note)
    if len({frozenset(ends.split(", ")) for ends in turns}) > 1:
        finding = "the end-of-turn tokens differ; each policy uses its own, and prefixes have none"
        yield Check("end of turn", "warning", finding)


def _context(setup: Setup[Options], known: Asked) -> Check:
    smaller = min(policy.context_length for policy in _roles(setup).values())
    finding = (
        f"prompt {max(known.prompts)} + budget {setup.options.max_tokens} of the smaller context's "
        f"{smaller:,} tokens"
    )
    return Check("context", "ok", finding)


def _memory(plan: Plan) -> Check:
    """Memory of the largest phase."""
    most = plan.fullest
    weights = sum(size for name, size in most.terms.items() if "weights" in name)
    cache = most.terms.get("cache", 0)
    rest = most.load - weights - cache
    finding = (
        f"weights {gib(weights)} GiB + cache of {most.rows} sequences {gib(cache)} GiB + "
        f"other {gib(rest)} GiB, of {gib(plan.devices.memory)} GiB"
    )
    if weights > plan.devices.memory:
        return Check("memory", "no", f"{finding}: the weights alone do not fit")
    if plan.fits:
        return Check("memory", "ok", finding)
    for remedy in plan.remedies:
        if remedy.phase == most.name and "--batch-rows" in remedy.flag:
            finding += f"; {remedy.flag} would help"
    return Check("memory", "warning", f"{finding}; a batch that does not fit is halved at run time")


def _time(plan: Plan) -> Check:
    """Most tokens of the whole plan, and their time at the rate of a short probe."""
    tokens = sum(phase.tokens for phase in plan.phases)
    total = sum(plan.seconds(phase) or 0 for phase in plan.phases)
    finding = (
        f"at most {tokens:,} tokens, {seconds(total)} if every response used its whole budget "
        f"(probe: {PROBE_ROWS} sequences of {TOKENS} tokens; full batches are faster)"
    )
    return Check("time", "warning" if total > LONG else "ok", finding)
