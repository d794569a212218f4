"""Preflight: can this pair be measured, and what will it cost? Loads, compares and probes; samples
nothing that is kept."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Literal

import torch

from decaylab.errors import UserError
from decaylab.options.measuring import Options
from decaylab.pair.prepare import GRADING_WORKERS, Setup, prepare
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.problems.grading import Grader
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine

PROBE_ROWS, PROBE_TOKENS = 16, 32


@dataclass(frozen=True)
class Check:
    """One thing looked at: ``ok``, ``warning`` (measurable, but know this), or ``no`` (not
    measurable)."""

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
            return "This pair cannot be measured like this."
        warnings = sum(check.verdict == "warning" for check in self.checks)
        mind = {0: "", 1: "; mind the warning"}.get(warnings, f"; mind the {warnings} warnings")
        return f"This pair can be measured{mind}."


def preflight(options: Options) -> PreflightReport:
    """Every check in turn; what makes the run impossible ends them.

    Raises:
        UserError: an option that cannot be used at all, as in the run itself.
    """
    options = options.resolved()
    try:
        with Grader(workers=GRADING_WORKERS) as grader:
            setup = prepare(options, grader)
    except UserError as error:
        return PreflightReport((Check("loading", "no", str(error)),))
    checks = [
        _problems(setup),
        _vocabularies(setup.student, setup.teacher),
        *_templates(setup),
        _context(setup),
    ]
    return PreflightReport((*checks, _memory(setup), _time(setup)))


def _problems(setup: Setup[Options]) -> Check:
    left_out = len(setup.problem_set) - len(setup.problems)
    finding = (
        f"{setup.problem_set.name} ({setup.problem_set.version}): {len(setup.problems)} "
        "problems asked"
    )
    notes = "".join(f"; {note}" for note in setup.problem_notes)
    return Check("problems", "warning" if left_out else "ok", finding + notes)


def _vocabularies(student: Policy, teacher: Policy) -> Check:
    agreement = compare_vocabularies(student.tokenizer, teacher.tokenizer)
    if agreement.kind == "same":
        return Check("vocabularies", "ok", f"the same {len(student.tokenizer):,} ids in both")
    if agreement.kind == "compatible":
        names = ", ".join(
            repr(student.tokenizer.convert_ids_to_tokens(index))
            for index in agreement.student_only[:3]
        )
        finding = (
            f"agree but for special tokens: {len(agreement.conflicting)} ids conflict, "
            f"{len(agreement.student_only)} only the "
            f"student has{f' ({names})' if names else ''}, {len(agreement.teacher_only)} only the "
            "teacher; prefixes pass as ids"
        )
        return Check("vocabularies", "warning", finding)
    index = agreement.conflicting[0]
    first = (
        student.tokenizer.convert_ids_to_tokens(index),
        teacher.tokenizer.convert_ids_to_tokens(index),
    )
    finding = f"different (id {index} is {first[0]!r} and {first[1]!r}): prefixes pass as text"
    return Check("vocabularies", "warning", finding)


def _templates(setup: Setup[Options]) -> list[Check]:
    """What each policy reads before its response, and what ends a turn."""
    checks = []
    for role, policy in (("student", setup.student), ("teacher", setup.teacher)):
        prompt = policy.tokenizer.decode(list(next(iter(setup.prompts[role].values()))))
        ends = ", ".join(
            repr(policy.tokenizer.convert_ids_to_tokens(index)) for index in sorted(policy.end_ids)
        )
        shared = policy.pad_id in policy.end_ids
        finding = f"prompt ends {prompt[-40:]!r}; a turn ends with {ends}" + (
            ", which is also the padding" if shared else ""
        )
        checks.append(Check(f"{role} template", "ok", finding))
    checks += [Check("prompts", "warning", note) for note in setup.prompt_notes]
    own = {
        role: sorted(p.tokenizer.convert_ids_to_tokens(i) for i in p.end_ids)
        for role, p in _roles(setup).items()
    }
    if own["student"] != own["teacher"]:
        checks.append(
            Check(
                "end of turn",
                "warning",
                "the two end a turn differently; each one's own token is used, none is handed over",
            )
        )
    return checks


def _roles(setup: Setup[Options]) -> dict[str, Policy]:
    return {"student": setup.student, "teacher": setup.teacher}


def _context(setup: Setup[Options]) -> Check:
    longest = max(len(ids) for prompts in setup.prompts.values() for ids in prompts.values())
    smaller = min(setup.student.context_length, setup.teacher.context_length)
    budget = int(setup.options.max_tokens or 0)
    return Check(
        "context",
        "ok",
        f"prompt {longest} + budget {budget} of the smaller context's {smaller:,} tokens",
    )


def _memory(setup: Setup[Options]) -> Check:
    """Weights of both, and the cache of a full batch of the larger one."""
    options = setup.options
    weights = sum(
        p.numel() * p.element_size()
        for policy in _roles(setup).values()
        for p in policy.weights.parameters()
    )
    length = int(options.max_tokens or 0) + max(
        len(ids) for ids in setup.prompts["teacher"].values()
    )
    cache = (
        max(cache_bytes_per_token(policy) for policy in _roles(setup).values())
        * length
        * options.batch_rows
    )
    device = setup.teacher.weights.device
    free = torch.cuda.mem_get_info(device)[0] + weights if device.type == "cuda" else host_memory()
    sizes = (
        f"weights {weights / 2**30:.2f} GiB + cache of {options.batch_rows} sequences "
        f"{cache / 2**30:.2f} GiB"
    )
    finding = f"{sizes}, of {free / 2**30:.1f} GiB"
    if weights > free:
        return Check("memory", "no", finding + ": the weights alone do not fit")
    if weights + cache > 0.9 * free:
        fitting = max(1, int(options.batch_rows * (0.8 * free - weights) / cache))
        return Check(
            "memory",
            "warning",
            finding + f"; say --batch-rows {fitting}, or it will be halved on the way",
        )
    return Check("memory", "ok", finding)


def cache_bytes_per_token(policy: Policy) -> int:
    """Keys and values of one token over all layers."""
    config = policy.weights.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    features = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(2 * config.num_hidden_layers * heads * features * policy.weights.dtype.itemsize)


def host_memory() -> int:
    """Bytes of the host's memory that can be had; caches of files are given up for it."""
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024


def _time(setup: Setup[Options]) -> Check:
    """Tokens of the whole plan at most, and how long they take at the rate of a short probe."""
    options = setup.options
    sequences = len(setup.problems) * options.samples
    lengths = (options.prefix_lengths or (0,))[1:]
    budget = int(options.max_tokens or 0)
    continued = sum(budget - length for length in lengths)
    stages = 1 + ("own-prefix" in options.controls) + ("swapped" in options.controls)
    tokens = {
        "teacher": sequences * (budget + stages * continued),
        "student": sequences * (budget + ("reverse" in options.controls) * continued),
    }
    seconds = {role: tokens[role] / probe(setup, role) for role in tokens}
    total = sum(seconds.values())
    finding = (
        f"at most {sum(tokens.values()):,} tokens, {_duration(total)} if every response used its "
        "whole budget "
        f"(probe: {PROBE_ROWS} sequences of {PROBE_TOKENS} tokens; full batches are faster)"
    )
    return Check("time", "warning" if total > 24 * 3600 else "ok", finding)


def probe(setup: Setup[Options], role: str) -> float:
    """Tokens per second of a short batch."""
    policy = _roles(setup)[role]
    problem = setup.problems[0].problem_id
    prompt = setup.prompts[role][problem]
    requests = [
        Request(prompt, (), PROBE_TOKENS, "probe", problem, row) for row in range(PROBE_ROWS)
    ]
    engine = TransformersEngine(policy, batch_rows=PROBE_ROWS)
    engine.sample(
        [dataclasses.replace(one, max_new_tokens=2) for one in requests], SamplingSettings()
    )
    started = time.monotonic()
    written = sum(len(response.ids) for response in engine.sample(requests, SamplingSettings()))
    return written / (time.monotonic() - started)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / 3600:.1f} h"
    )
