"""A tiny pair, problems, and the numbers that a probe of it must find, from the models' logits."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tiny_models import END, byte_tokenizer, tiny_llama

from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import Policy
from decaylab.probing.probe import Probe
from decaylab.problems.problem import Problem, ProblemSet
from decaylab.runs.vocabulary import FRESH, FROZEN, STUDENT, TEACHER
from decaylab.tokens.scoring import Rollout

VOCAB, TIME = 261, 12
BINS = (0, 2, 5, 30)
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
TEXTS = ("one and two", "three", "what is 4 + 5 * 6?", "say it", "count the hats")
PROBLEMS = ProblemSet(
    "questions",
    "1",
    "",
    "Answer.",
    "last_boxed",
    tuple(Problem(f"{i}", text, None) for i, text in enumerate(TEXTS)),
)
SMALL: dict[str, Any] = {"bins": BINS, "max_tokens": 9, "samples": 2}


def student(seed: int = 0, **changes: Any) -> Any:
    return tiny_llama(seed, **{"vocab_size": VOCAB, **changes})


def teacher(seed: int = 1, **changes: Any) -> Policy:
    identity = PolicyIdentity("teacher", "folder", "", "")
    return Policy("teacher", student(seed, **changes), byte_tokenizer(), identity)


def probe(out: Path, of: Policy | None = None, **changes: Any) -> Probe:
    given = {**SMALL, **changes}
    return Probe(of or teacher(), byte_tokenizer(), PROBLEMS, out, **given)


def wide(model: Any) -> Any:
    """A copy whose forward is that of its class, in float64."""
    found = copy.deepcopy(model)
    for module in found.modules():
        module.__dict__.pop("forward", None)  # a trainer's own, which may run the model it is of
        module._forward_hooks.clear()
    return found.double().eval()


def rollouts(folder: Path, step: int, view: str) -> list[Rollout]:
    """The rollouts that a step scored in a view, read from its file without decaylab's reader."""
    prompts = {
        (row["role"], row["problem_id"]): tuple(row["ids"])
        for row in pq.read_table(folder / "prompts.parquet").to_pylist()
    }
    rows = pq.read_table(folder / f"steps/step-{step:06d}.parquet").to_pandas()
    found = []
    for name, tokens in rows[rows["view"] == view].groupby("rollout_id", observed=True):
        assert tokens["position"].tolist() == list(range(len(tokens)))
        problem = str(name).split("/")[1]
        own, read = prompts[STUDENT, problem], prompts[TEACHER, problem]
        found.append(Rollout(str(name), own, read, tuple(tokens["token_id"].tolist())))
    return found


@torch.no_grad()
def naive_kl(student: Any, teacher: Any, rollouts: Sequence[Rollout]) -> list[np.ndarray]:
    """KL(student, teacher) of each response token, rollout by rollout, from the models' own
    logits."""
    found = []
    for one in rollouts:
        logprobs = []
        for model, prompt in ((student, one.student_prompt), (teacher, one.teacher_prompt)):
            logits = model(input_ids=torch.tensor([prompt + one.response])).logits[0]
            logprobs.append(logits[len(prompt) - 1 : -1].log_softmax(-1))
        own, theirs = logprobs
        found.append((own.exp() * (own - theirs)).sum(-1).numpy())
    return found


def expected(folder: Path, step: int, student: Any, teacher: Policy) -> dict[str, float]:
    """What must be logged of a step: plain means over the tokens that lie in each bin, and length
    and stops counted from the stored tokens."""
    of_teacher = copy.deepcopy(teacher.weights).double()
    found = {}
    for view in (FROZEN, FRESH):
        source = (0, FRESH) if view == FROZEN else (step, FRESH)
        kl = naive_kl(student, of_teacher, rollouts(folder, *source))
        named = {f"decay/{view}/reverse_kl": [value for one in kl for value in one]}
        for start, end in pairwise((*BINS, 10**9)):
            label = f"{start}-{end - 1}" if end < 10**9 else f"{start}+"
            named[f"decay/{view}/reverse_kl_{label}"] = [
                value for one in kl for place, value in enumerate(one) if start <= place < end
            ]
        found |= {name: float(np.mean(values)) for name, values in named.items() if values}
    own = rollouts(folder, step, FRESH)
    ended = [one.response[-1] == END for one in own]
    lengths = [len(one.response) - end for one, end in zip(own, ended, strict=True)]
    found["decay/response_tokens"] = float(np.mean(lengths))
    found["decay/natural_stop_share"] = float(np.mean(ended))
    return found


def check(logs: dict[str, float], wanted: dict[str, float]) -> None:
    """Logged numbers are the wanted ones, and no mean is missing or invented."""
    means = {name for name in logs if "reverse_kl" in name}
    assert means == {name for name in wanted if "reverse_kl" in name}
    for name, value in wanted.items():
        np.testing.assert_allclose(logs[name], value, **CLOSE, err_msg=name)
