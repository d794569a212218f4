"""Peak memory of every phase of the planned commands, in bytes.

weights      both policies, which stay loaded, each in its precision
cache        rows x columns x bytes per token; while it grows, one layer exists twice
activations  peak of a pass over a batch, counted on the meta device
logits       a few positions x vocabulary at a time, and the tensors computed from them
trained      gradients, and twice that for AdamW; LoRA; weights with the adapters merged in

The allowance covers kernels and the allocator, and is listed separately.
"""

from __future__ import annotations

from dataclasses import dataclass

from decaylab.options.pair_options import PairOptions
from decaylab.planner.models import Outline, TrainedOutline
from decaylab.printing import GIB
from decaylab.rollouts.cache import SPARE_COLUMNS
from decaylab.rollouts.vllm_setup import CPU_CACHE_GIB
from decaylab.tokens import chunks, scoring

Terms = dict[str, int]

# Bytes per element of positions x vocabulary, counted; tests count them again.
CHOOSE = {"greedy": 4, "plain": 16, "nucleus": 36}  # of `sampling.choose`, besides the logits
STATISTICS = 28  # of `scoring.token_statistics`, besides both logits
LOSS = {"reverse-kl": 32, "forward-kl": 32, "policy-gradient": 32, "js": 52}  # of `chunked_loss`
RESULTS = 240  # per position: the results of scoring and of the loss
VLLM_TOKENS = 8192  # per step of vLLM, its default

# The allowance. Measured on a CPU (benchmarks/plan.py, docs/plan.md), not on a GPU.
# Code and scratch memory of libraries; the CUDA context and its workspaces.
KERNELS = {"cpu": 24 * 2**20, "cuda": 2**30}
CPU_HOLES = {"sampling": 0.2, "scoring": 0.5, "training": 0.6}
CUDA_HOLES = 0.05
TOKENIZER = 768  # bytes of host memory per id, for the tokenizer and its vocabulary lists
PROCESS = 540 * 2**20  # Python with its libraries, and two grading processes
WORKING = ("cache", "activations", "logits", "temporaries")
"""Terms that are allocated and freed within a phase, which causes fragmentation."""
LACKING = "lacking"
"""Bytes that vLLM's share of a GPU is short of for the cache of the longest sequence."""


@dataclass(frozen=True)
class Batch:
    """Rows decoded together.

    families: rollouts from which prefixes are cut; 0 without prefixes.
    """

    rows: int
    prompts: int
    prompt_tokens: int
    new_tokens: int
    families: int = 0
    prefix_tokens: int = 0


@dataclass(frozen=True)
class Reading:
    """Rollouts scored together, and the longest prompt of each policy."""

    rows: int
    student_prompt: int
    teacher_prompt: int
    response: int

    @property
    def positions(self) -> int:
        return self.rows * self.response

    @classmethod
    def of(cls, tokens: int, rollouts: int, prompts: tuple[int, int], response: int) -> Reading:
        """As many rollouts as fit into ``tokens``, padding included; at least one."""
        return cls(min(max(1, tokens // (max(prompts) + response)), rollouts), *prompts, response)


def holes(kind: str, device: str) -> float:
    """Fragmentation of the allocator, as a share of the `WORKING` terms."""
    return CUDA_HOLES if device == "cuda" else CPU_HOLES.get(kind, 0.0)


def allowance(terms: Terms, kind: str, device: str, ids: int) -> int:
    """Bytes of a phase besides its terms. ids: number of ids of both tokenizers."""
    working = sum(terms.get(name, 0) for name in WORKING)
    process = PROCESS + TOKENIZER * ids if device == "cpu" else 0
    return KERNELS[device] + int(holes(kind, device) * working) + process


def sampling_terms(policy: Outline, batch: Batch, options: PairOptions) -> Terms:
    """Cache, activations and logits of sampling a batch, at the prefill or at its last token."""
    token, rows, width = policy.cache_per_token, batch.rows, policy.head_width
    read = batch.prompt_tokens + batch.prefix_tokens
    prefill = policy.reading(batch.prompts, batch.prompt_tokens).peak
    if batch.families:
        prefill = max(prefill, policy.reading(batch.families, batch.prefix_tokens).peak)
    reading = {
        "cache": max(batch.prompts * batch.prompt_tokens, batch.families * read) * token,
        "activations": prefill,
    }
    columns = allocated_columns(read - 1, batch.new_tokens)
    cache = rows * columns * token
    again = rows * (columns - SPARE_COLUMNS - 1) * max(policy.cache)  # a layer's previous copy
    lists = rows * batch.new_tokens * 16  # random numbers and ids
    logits = policy.dtype.itemsize * rows * width
    growing = {
        "cache": cache + again,
        "activations": policy.reading(rows, 1).peak + lists,
        "logits": logits,  # of the previous token
    }
    drawing = {
        "cache": cache,
        "activations": lists,
        "logits": logits + choose_bytes(options) * rows * width,
    }
    return fuller(reading, growing, drawing)


def allocated_columns(width: int, written: int) -> int:
    """Columns of a cache that starts at ``width`` and grows by `SPARE_COLUMNS` + 1 at a time."""
    grown = SPARE_COLUMNS + 1
    return width + grown * -(-written // grown)


def choose_bytes(options: PairOptions) -> int:
    """Bytes per logit needed to draw a token."""
    if options.temperature == 0:
        return CHOOSE["greedy"]
    return CHOOSE["nucleus" if options.top_p < 1 else "plain"]


def vllm_terms(
    policy: Outline, rows: int, length: int, options: PairOptions, share: int | None
) -> Terms:
    """Memory of vLLM on each of the GPUs that share a policy.

    Weights and a step's activations come first; the rest of the share is cache. Cache heads are
    split over the GPUs as far as possible. Activations are not split, an overestimate.

    Args:
        policy: the served model.
        rows: maximum number of sequences.
        length: longest prompt plus budget, in tokens.
        options: gives the number of GPUs that share the model.
        share: bytes for vLLM; None on a CPU, where the cache size is fixed.
    """
    over = options.tensor_parallel
    terms = {
        "engine weights": policy.weight_bytes // over,
        "activations": policy.reading(1, max(VLLM_TOKENS, length)).peak,
        # Plus two float32 copies.
        "logits": (policy.dtype.itemsize + 8) * min(rows, VLLM_TOKENS) * policy.head_width,
    }
    longest = length * policy.cache_per_token // min(over, policy.cache_heads)
    rest = int(CPU_CACHE_GIB * GIB)
    if share is not None:
        rest = share - KERNELS["cuda"] - sum(terms.values())
    return terms | {"cache": max(rest, 0), LACKING: max(longest - max(rest, 0), 0)}


def scoring_terms(student: Outline, teacher: Outline, batch: Reading, kind: str) -> Terms:
    """Activations and logits of scoring a batch: the peak of either pass or of the statistics."""
    mine, theirs = _states(student, batch), _states(teacher, batch)
    first = student.reading(batch.rows, batch.student_prompt + batch.response - 1)
    second = teacher.reading(batch.rows, batch.teacher_prompt + batch.response - 1)
    return fuller(
        {"activations": max(first.peak, first.held + mine)},
        {"activations": mine + max(second.peak, second.held + theirs)},
        {
            "activations": mine + theirs,
            "logits": scored_logits(student, teacher, batch.positions, kind)
            + batch.positions * RESULTS,
        },
    )


def _states(policy: Outline, batch: Reading) -> int:
    """Bytes of the last hidden states of a batch's responses."""
    return batch.positions * policy.width * policy.dtype.itemsize


def scored_logits(student: Outline, teacher: Outline, positions: int, kind: str) -> int:
    """Both models' logits of a chunk, plus the previous chunk or the statistics of a part."""
    widest = max(student.head_width, teacher.head_width)
    chunk = min(max(1, chunks.head_elements(kind) // widest), positions)
    part = min(max(1, scoring.STATISTICS_ELEMENTS[kind] // widest), chunk)
    pair = chunk * _pair_of_logits(student, teacher)
    before = pair if chunk < positions else 0
    return pair + max(before, part * widest * STATISTICS * _wide(student, teacher))


def loss_logits(
    student: Outline, teacher: Outline, positions: int, kind: str, divergence: str
) -> int:
    """Both models' logits of a chunk, its loss and its gradient."""
    widest = max(student.head_width, teacher.head_width)
    chunk = min(max(1, chunks.head_elements(kind, backward=True) // widest), positions)
    each = widest * LOSS[divergence] * _wide(student, teacher)
    return chunk * (_pair_of_logits(student, teacher) + each)


def _pair_of_logits(student: Outline, teacher: Outline) -> int:
    """Bytes of both policies' logits at one position."""
    return sum(policy.head_width * policy.dtype.itemsize for policy in (student, teacher))


def _wide(student: Outline, teacher: Outline) -> int:
    """Width of tensors computed from logits, in float32: 1, or 2 if the logits are float64."""
    return max(1, max(student.dtype.itemsize, teacher.dtype.itemsize) // 4)


def teacher_terms(teacher: Outline, batch: Reading) -> Terms:
    """Memory of the teacher's pass over a micro-batch."""
    second = teacher.reading(batch.rows, batch.teacher_prompt + batch.response - 1)
    return {"activations": max(second.peak, second.held + _states(teacher, batch))}


def learning_terms(
    student: TrainedOutline, teacher: Outline, batch: Reading, kind: str, divergence: str
) -> Terms:
    """Memory of the student's forward pass over a micro-batch, the loss, and the backward pass."""
    outline = student.outline
    mine, theirs = _states(outline, batch), _states(teacher, batch)
    first = student.pass_and_back(batch.rows, batch.student_prompt + batch.response - 1)
    logits = loss_logits(outline, teacher, batch.positions, kind, divergence)
    if student.options.full_finetune:
        # The head's gradient of a chunk, before it is added.
        logits += outline.head_width * outline.width * outline.dtype.itemsize
    # The student's states and their gradient, each also for the positions with loss alone; the
    # teacher's states twice as well.
    return fuller(
        {
            "activations": first.held + 4 * mine + 2 * theirs,
            "logits": logits + batch.positions * RESULTS,
        },
        {"activations": first.peak + 2 * mine + theirs},
    )


def fuller(*moments: Terms) -> Terms:
    """The moment with the largest total."""
    return max(moments, key=lambda terms: sum(terms.values()))
