"""How much the approximate scores miss: the bound of `decaylab served-kl` against the exact reverse
KL, by number of ids.

    python benchmarks/served_scores.py                    # the embedded pair, float32, up to its
                                                          # whole vocabulary
    python benchmarks/served_scores.py --pair smollm2     # or smollm2-far;
                                                          # helpers/prepare_smollm2.py makes it
    python benchmarks/served_scores.py --toy              # does it run at all?

The student writes at temperature 0.7; every token is scored at temperature 1. Exact:
`scoring.Scorer`, both policies in torch. Teacher's ids: the bound as vLLM gives it without its
second model runner, that is on a CPU. Student's ids: the bound as it is given with that, on a GPU;
here both policies' probabilities come from torch, so that only the choice of ids differs. The
student of SmolLM2 is SmolLM2 with noise on every weight matrix, of .03 of its standard deviation
(smollm2-far: a tenth, which makes both distributions flat); the teacher is SmolLM2 as it is. Both
are in float32.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timing import keep, parser

from decaylab.policies import loading, served_policies
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.policies.vocabularies import share_vocabulary
from decaylab.problems.sets import load_problems
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.rollouts.vllm_setup import VllmSettings
from decaylab.tokens.heads import Head
from decaylab.tokens.ranks import top
from decaylab.tokens.scoring import Rollout, Scorer, states
from decaylab.tokens.served_scores import ServedScorer, partial_reverse_kl

HOST = LoadSettings("float32", "cpu")
SMOLLM2 = "models/smollm2-135m-instruct"
NOISY: dict[str, Any] = {
    "student": SMOLLM2,
    "teacher": SMOLLM2,
    "problems": 16,
    "max_tokens": 96,
    "ids": [1, 4, 16, 64, 256, 1024],
}
PAIRS: dict[str, dict[str, Any]] = {
    "abacus": {
        "student": "abacus-student",
        "teacher": "abacus-teacher",
        "noise": 0.0,
        "problems": 100,
        "max_tokens": 160,
        "ids": [1, 4, 16, 64, 520],
    },
    "smollm2": {"noise": 0.03, **NOISY},
    "smollm2-far": {"noise": 0.1, **NOISY},
}
TOY = {**PAIRS["abacus"], "problems": 2, "max_tokens": 12, "ids": [1, 520]}
Floats = NDArray[np.float64]


def student_of(work: dict[str, Any]) -> Policy:
    student = loading.load(work["student"], HOST)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.weights.parameters() if work["noise"] else ():
            if weight.ndim > 1:
                weight += (
                    work["noise"] * weight.std() * torch.randn(weight.shape, generator=generator)
                )
    return student


def rollouts_of(student: Policy, work: dict[str, Any]) -> list[Rollout]:
    asked = load_problems("abacus", limit=work["problems"])
    requests = [
        Request(
            tuple(student.prompt_ids(problem, asked.instruction)),
            (),
            work["max_tokens"],
            "student",
            problem.problem_id,
            0,
        )
        for problem in asked.problems
    ]
    made = TransformersEngine(student).sample(requests, SamplingSettings(0.7))
    return [
        Rollout(request.problem_id, request.prompt_ids, request.prompt_ids, response.ids)
        for request, response in zip(requests, made, strict=True)
    ]


@torch.inference_mode()
def by_students_ids(
    student: Policy, teacher: Policy, rollouts: list[Rollout], counts: list[int]
) -> dict[int, Floats]:
    """The bound from the student's likeliest ids and the token that was taken, [tokens], by how
    many ids."""
    vocabulary, heads = share_vocabulary(student, teacher), [Head(student), Head(teacher)]
    bounds: dict[int, list[Floats]] = {count: [] for count in counts}
    for rollout in rollouts:
        given = [(rollout.student_prompt, rollout.response)]
        both = [vocabulary.logprobs(head.logits(states(head, given)).float())[0] for head in heads]
        taken = torch.tensor(rollout.response)[:, None]
        for count in counts:
            ids = top(both[0], count)[1]
            again = ids == taken
            chosen = (
                torch.cat(
                    [of.gather(1, taken), of.gather(1, ids).masked_fill(again, -torch.inf)], 1
                )
                for of in both
            )
            bounds[count].append(partial_reverse_kl(*chosen).reverse_kl_bound.double().numpy())
    return {count: np.concatenate(parts) for count, parts in bounds.items()}


def compared(bound: Floats, exact: Floats) -> dict[str, float]:
    """By how much the bound misses the exact KL, in nats a token; ``above``: how far it is ever
    above, which is rounding."""
    gap = exact - bound
    return {
        "mean_bound": round(float(bound.mean()), 5),
        "mean_missed": round(float(gap.mean()), 6),
        "missed_percent": round(100 * float(gap.mean() / exact.mean()), 3),
        "missed_p99": round(float(np.quantile(gap, 0.99)), 5),
        "above": round(float(max(0.0, -gap.min())), 7),
    }


def measure(work: dict[str, Any]) -> dict[str, Any]:
    student, teacher = student_of(work), loading.load(work["teacher"], HOST)
    rollouts = rollouts_of(student, work)
    started = time.perf_counter()
    exact = np.concatenate(
        [rollout.columns["reverse_kl"] for rollout in Scorer(student, teacher).score(rollouts)]
    )
    seconds = {"exact": round(time.perf_counter() - started, 2)}
    of_student = by_students_ids(student, teacher, rollouts, work["ids"])
    rows: dict[str, Any] = {}
    settings = VllmSettings(max_model_len=512, max_logprobs=max(work["ids"]))
    with VllmEngine(served_policies.serve(work["teacher"], HOST), settings) as engine:
        ServedScorer(student, engine, 1).score(rollouts[:2])  # what is slow only once
        for count in work["ids"]:
            started = time.perf_counter()
            scored = ServedScorer(student, engine, count).score(rollouts)
            seconds[str(count)] = round(time.perf_counter() - started, 2)
            columns = {
                name: np.concatenate([rollout.columns[name] for rollout in scored])
                for name in scored[0].columns
            }
            rows[str(count)] = {
                "teachers_ids": compared(columns["reverse_kl_bound"].astype(np.float64), exact),
                "students_ids": compared(of_student[count], exact),
                "student_mass": round(float(columns["student_mass"].mean()), 5),
                "teacher_mass": round(float(columns["teacher_mass"].mean()), 5),
            }
    return {
        "work": work,
        "tokens": len(exact),
        "mean_exact": round(float(exact.mean()), 5),
        "seconds": seconds,
        "ids": rows,
    }


def main(words: Sequence[str] | None = None) -> None:
    made = parser(__doc__, "2 problems of the embedded pair")
    made.add_argument("--pair", choices=sorted(PAIRS), default="abacus")
    arguments = made.parse_args(words)
    import vllm

    result = measure(TOY if arguments.toy else PAIRS[arguments.pair])
    print(
        f"{result['tokens']} tokens, mean reverse KL {result['mean_exact']} nats; missed, per cent "
        "of it:"
    )
    print(
        f"{'ids':>6} {'teachers':>9} {'students':>9} {'student mass':>13} {'teacher mass':>13} "
        f"{'seconds':>8}"
    )
    for count, row in result["ids"].items():
        missed = [row[side]["missed_percent"] for side in ("teachers_ids", "students_ids")]
        masses = f"{row['student_mass']:13.4f} {row['teacher_mass']:13.4f}"
        seconds = result["seconds"][count]
        print(f"{count:>6} {missed[0]:9.3f} {missed[1]:9.3f} {masses} {seconds:8.2f}")
    print(f"exact: {result['seconds']['exact']} s")
    if not arguments.toy:
        device = f"CPU, {os.cpu_count()} cores"
        around = {"vllm": vllm.__version__, "torch": torch.__version__, "device": device}
        keep("served-scores", {arguments.pair: {**around, **result}})


if __name__ == "__main__":
    main()
