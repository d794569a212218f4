"""A tiny pair to train, rollouts to train it on, and a step's loss and gradient the naive way:
padded batches, full logits, log_softmax, sums and autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tiny_models import END, VOCAB, byte_tokenizer, tiny_llama
from torch import Tensor

from decaylab.maths.selection import Signals, weigh
from decaylab.options.training import TrainOptions
from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.loading import Policy
from decaylab.policies.vocabularies import SharedVocabulary
from decaylab.tokens.heads import Head
from decaylab.tokens.scoring import Rollout
from decaylab.trainer.draw import TrainingRollout, generator
from decaylab.trainer.machinery.meter import Meter
from decaylab.trainer.step import Gradient

WHOLE = SharedVocabulary(VOCAB, frozenset())
BYTES = 261  # ids of the byte tokenizer


def bare(model: Any) -> Any:
    """What a head and a step use of a policy."""
    return SimpleNamespace(name="tiny", weights=model)


def byte_policy(seed: int = 0, name: str = "tiny", **changes: Any) -> Policy:
    """A tiny Llama over bytes, with its tokenizer."""
    model = tiny_llama(seed, **{"vocab_size": BYTES, **changes})
    return Policy(
        name, model, byte_tokenizer(), PolicyIdentity(name, "folder", "", f"{name} {seed}")
    )


def options(**changes: Any) -> TrainOptions:
    """Full fine-tuning with a `full` selector, unless something else is said; bins for short
    rollouts."""
    given = {
        "selector": "full",
        "full_finetune": True,
        "bins": (0, 2, 5),
        "teacher": "t",
        "student": "s",
        "seed": 3,
        "batch_tokens": 4096,
    }
    return TrainOptions(**{**given, **changes})


def training_rollout(
    name: str,
    prompts: Sequence[Sequence[int]],
    ids: Sequence[int],
    readable: int | None = None,
    offset: int = 0,
) -> TrainingRollout:
    """prompts: of student and teacher."""
    scored = Rollout(name, tuple(prompts[0]), tuple(prompts[1]), tuple(ids[:readable]))
    return TrainingRollout(scored, tuple(ids), ids[-1] == END, offset)


def rollouts(
    count: int = 6, seed: int = 0, vocab: int = VOCAB, longest: int = 9
) -> list[TrainingRollout]:
    """Prompts and responses of many lengths, other prompts for the teacher; every second one ends
    its turn."""
    rng = np.random.default_rng(seed)

    def text(length: int) -> list[int]:
        return rng.integers(2, vocab, length).tolist()

    found = []
    for number in range(count):
        ids = text(1 + 5 * number % longest) + ([END] if number % 2 else [])
        prompts = text(int(rng.integers(1, 6))), text(int(rng.integers(1, 8)))
        found.append(
            training_rollout(f"train-1/{number}", prompts, ids, offset=3 if number == 2 else 0)
        )
    return found


def gradient_of(
    models: tuple[Any, Any],
    chosen: TrainOptions,
    parts: Sequence[Sequence[TrainingRollout]],
    budget: int | None = None,
    vocabulary: SharedVocabulary = WHOLE,
    training: bool = False,
) -> tuple[dict[str, Tensor], Gradient]:
    """The summed gradient of every parameter that is trained, and what took it; each part by an
    ``add`` of its own.

    training: whether the student is in training mode, as it is where activations are computed
    twice.
    """
    models[0].zero_grad(set_to_none=True)
    heads = Head(bare(models[0])), Head(bare(models[1]))
    models[0].train(training)
    taken = Gradient(heads, vocabulary, chosen, Meter(torch.device("cpu")), budget)
    for part in parts:
        taken.add(part)
    models[0].eval()
    return grads(models[0]), taken


def grads(model: Any) -> dict[str, Tensor]:
    """A copy of each parameter's gradient, zeros where it has none."""
    named = ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)
    return {
        name: torch.zeros_like(one) if one.grad is None else one.grad.clone() for name, one in named
    }


def assert_gradients(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], rtol: float = 3e-6
) -> None:
    """rtol: of the largest entry of all gradients; norms of most models round to float32 whatever
    the weights are in."""
    assert found.keys() == expected.keys()
    scale = max(float(one.abs().max()) for one in expected.values())
    assert scale > 1e-6
    for name, one in expected.items():
        torch.testing.assert_close(
            found[name],
            one,
            rtol=0,
            atol=rtol * scale,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def far(found: Mapping[str, Tensor], wrong: Mapping[str, Tensor], share: float = 1e-2) -> bool:
    """Whether some entry differs by more than this share of the largest."""
    scale = max(float(one.abs().max()) for one in found.values())
    return any(float((found[name] - wrong[name]).abs().max()) > share * scale for name in found)


# --- the naive way
# ---------------------------------------------------------------------------


def naive_reverse_kl(s: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    return (s.exp() * (s - t)).sum(-1)


def naive_forward_kl(s: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    return (t.exp() * (t - s)).sum(-1)


def naive_js(s: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    m = ((s.exp() + t.exp()) / 2).log()
    return ((s.exp() * (s - m)).sum(-1) + (t.exp() * (t - m)).sum(-1)) / 2


def naive_policy_gradient(s: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    """Value k1; its gradient that of REINFORCE with reward -k1: k1 times that of log s(y)."""
    own, theirs = s.gather(-1, tokens[..., None])[..., 0], t.gather(-1, tokens[..., None])[..., 0]
    k1 = (own - theirs).detach()
    return k1 * own + (k1 - k1 * own).detach()


NAIVE: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "reverse-kl": naive_reverse_kl,
    "forward-kl": naive_forward_kl,
    "js": naive_js,
    "policy-gradient": naive_policy_gradient,
}
"""Log-probabilities of student and teacher [..., vocab] and the tokens taken in, the loss [...]
out."""


def shared_logprobs(
    logits: Tensor, tokens: Tensor, vocabulary: SharedVocabulary
) -> tuple[Tensor, Tensor]:
    """Log-probabilities over the shared ids alone, put side by side, and where among them each
    token is."""
    shared = [index for index in range(vocabulary.size) if index not in vocabulary.holes]
    place = torch.zeros(vocabulary.size, dtype=torch.long)
    place[shared] = torch.arange(len(shared))
    return logits[..., shared].log_softmax(-1), place[tokens]


def naive_rows(model: Any, contexts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[Tensor]:
    """One padded batch with its mask; of each (prompt, response) the logits before each response
    token."""
    longest = max(len(prompt) + len(response) for prompt, response in contexts)
    ids, mask = (
        torch.zeros(len(contexts), longest, dtype=torch.long),
        torch.zeros(len(contexts), longest),
    )
    for row, (prompt, response) in enumerate(contexts):
        whole = [*prompt, *response]
        ids[row, : len(whole)], mask[row, : len(whole)] = torch.tensor(whole), 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return [logits[row, len(p) - 1 : len(p) + len(r) - 1] for row, (p, r) in enumerate(contexts)]


def slow_weights(
    selector: str, time: int, budget: int, columns: dict[str, list[float]], seed: int, name: str
) -> list[float]:
    """The definitions again, in plain Python."""
    if selector == "full":
        return [1.0] * time
    if selector in ("prefix", "prefix-mask"):
        return [1.0 if i < budget else 0.0 for i in range(time)]
    if selector == "suffix":
        return [1.0 if time - i <= budget else 0.0 for i in range(time)]
    if selector == "middle":
        return [1.0 if 0 <= i - max((time - budget) // 2, 0) < budget else 0.0 for i in range(time)]
    if selector == "top-reverse-kl":
        best = sorted(range(time), key=lambda i: -columns["reverse_kl"][i])[:budget]
        return [1.0 if i in best else 0.0 for i in range(time)]
    if selector == "rising":
        return [0.25 + 0.75 / (1 + math.exp(-((i + 0.5) / time - 0.3) / 0.1)) for i in range(time)]
    if selector == "importance":
        gaps = [
            abs(s - t)
            for s, t in zip(columns["student_logprob"], columns["teacher_logprob"], strict=True)
        ]
        return [1 + 0.5 * (1 - sum(gaps[:i]) / sum(gaps)) for i in range(time)]
    if selector == "random":
        zeros = np.zeros(time)
        return weigh(
            "random", Signals(zeros, zeros, zeros, zeros, zeros), budget, generator(seed, name)
        ).tolist()
    raise AssertionError(selector)


def naive_step(
    models: tuple[Any, Any],
    chosen: TrainOptions,
    given: Sequence[TrainingRollout],
    budget: int | None = None,
    vocabulary: SharedVocabulary = WHOLE,
) -> tuple[float, dict[str, Tensor], list[dict[str, Any]]]:
    """The step's loss, its gradient, and of each rollout its weights and columns as lists."""
    student, teacher = models
    own = naive_rows(student, [(one.scored.student_prompt, one.scored.response) for one in given])
    with torch.no_grad():
        theirs = naive_rows(
            teacher, [(one.scored.teacher_prompt, one.scored.response) for one in given]
        )
    total, tokens_selected, selecting, kept = torch.zeros((), dtype=own[0].dtype), 0, 0, []
    for one, s_logits, t_logits in zip(given, own, theirs, strict=True):
        tokens = torch.tensor(one.scored.response)
        s, place = shared_logprobs(s_logits, tokens, vocabulary)
        t, _ = shared_logprobs(t_logits, tokens, vocabulary)
        loss = NAIVE[chosen.divergence](s, t, place)
        columns = {
            "loss": loss,
            "reverse_kl": naive_reverse_kl(s, t, place),
            "student_entropy": -(s.exp() * s).sum(-1),
            "teacher_entropy": -(t.exp() * t).sum(-1),
            "student_logprob": s[range(len(place)), place],
            "teacher_logprob": t[range(len(place)), place],
        }
        plain = {name: column.tolist() for name, column in columns.items()}
        time = len(one.scored.response)
        weights = slow_weights(
            chosen.selector, time, budget or time, plain, chosen.seed, one.scored.rollout_id
        )
        count = sum(weight > 0 for weight in weights)
        part = (torch.tensor(weights, dtype=loss.dtype) * loss).sum()
        total = total + (part / count if chosen.normalise == "rollouts" else part)
        tokens_selected, selecting = tokens_selected + count, selecting + (count > 0)
        kept.append({"rollout": one, "weights": weights, **plain})
    mean = total / (selecting if chosen.normalise == "rollouts" else tokens_selected)
    named = {name: weight for name, weight in student.named_parameters() if weight.requires_grad}
    found = torch.autograd.grad(mean, list(named.values()), allow_unused=True)
    zeros = (torch.zeros_like(one) for one in named.values())
    return (
        float(mean.detach()),
        {n: z if g is None else g for n, g, z in zip(named, found, zeros, strict=True)},
        kept,
    )
