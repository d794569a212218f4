"""Memory of every phase of the planned commands, in bytes: the most that it holds at any time.

weights      both policies, which a command keeps loaded, each in its precision
cache        rows x columns x bytes of a token; while it grows, one layer's is there twice
activations  what a pass over a batch holds at its fullest, counted on the meta device
logits       a few positions x vocabulary at a time, and what is computed from them
trained      gradients, and twice that for AdamW; LoRA; weights with the adapters merged in

What a kernel or an allocator takes beside that is the allowance, stated apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from decaylab.options.measuring import PairOptions
from decaylab.planner.models import Outline, TrainedOutline
from decaylab.printing import GIB
from decaylab.rollouts.cache import SPARE_COLUMNS
from decaylab.rollouts.vllm_setup import CPU_CACHE_GIB
from decaylab.tokens import chunks, scoring

Terms = dict[str, int]

# Bytes for each element of positions x vocabulary, counted; tests count them again.
CHOOSE = {"greedy": 4, "plain": 16, "nucleus": 36}  # of `sampling.choose`, beside the logits
STATISTICS = 28  # of `scoring.token_statistics`, beside both logits
LOSS = {"reverse-kl": 32, "forward-kl": 32, "policy-gradient": 32, "js": 52}  # of `chunked_loss`
RESULTS = 240  # a position: what scoring and the loss return of it
VLLM_TOKENS = 8192  # of a step of vLLM's, by its own default

# The allowance. On a CPU as measured (benchmarks/plan.py, docs/plan.md); never measured on a GPU.
# Code and scratch of libraries; the context of CUDA and its workspaces.
KERNELS = {"cpu": 24 * 2**20, "cuda": 2**30}
CPU_HOLES = {"sampling": 0.2, "scoring": 0.5, "training": 0.6}
CUDA_HOLES = 0.05
TOKENIZER = 768  # bytes of host memory an id: the tokenizer and lists of its words
PROCESS = 540 * 2**20  # Python with its libraries, and two processes that grade
WORKING = ("cache", "activations", "logits", "temporaries")
"""What comes and goes within a phase, and leaves holes."""
LACKING = "lacking"
"""What vLLM's share of a GPU lacks for the cache of the longest sequence."""


@dataclass(frozen=True)
class Batch:
    """Rows that are decoded together.

    families: rollouts that prefixes are cut from; 0 where there are none.
    """

    rows: int
    prompts: int
    prompt_tokens: int
    new_tokens: int
    families: int = 0
    prefix_tokens: int = 0


@dataclass(frozen=True)
class Reading:
    """Rollouts that are scored together, and the longest prompt of each policy."""

    rows: int
    student_prompt: int
    teacher_prompt: int
    response: int

    @property
    def positions(self) -> int:
        return self.rows * self.response

    @classmethod
    def of(cls, tokens: int, rollouts: int, prompts: tuple[int, int], response: int) -> Reading:
        """As many as fit into a batch of this many tokens, padding included; one at least."""
        return cls(min(max(1, tokens // (max(prompts) + response)), rollouts), *prompts, response)


def holes(kind: str, device: str) -> float:
    """Room that an allocator has and cannot use, as a share of what comes and goes in a phase."""
    return CUDA_HOLES if device == "cuda" else CPU_HOLES.get(kind, 0.0)


def allowance(terms: Terms, kind: str, device: str, ids: int) -> int:
    """Bytes beside the terms of a phase of this kind. ids: of both tokenizers."""
    working = sum(terms.get(name, 0) for name in WORKING)
    process = PROCESS + TOKENIZER * ids if device == "cpu" else 0
    return KERNELS[device] + int(holes(kind, device) * working) + process


def sampling_terms(policy: Outline, batch: Batch, options: PairOptions) -> Terms:
    """Cache, activations and logits of sampling a batch: in the prefill, or at its last token."""
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
    again = rows * (columns - SPARE_COLUMNS - 1) * max(policy.cache)  # a layer before it grew
    lists = rows * batch.new_tokens * 16  # random numbers and ids
    logits = policy.dtype.itemsize * rows * width
    growing = {
        "cache": cache + again,
        "activations": policy.reading(rows, 1).peak + lists,
        "logits": logits,  # of the token before
    }
    drawing = {
        "cache": cache,
        "activations": lists,
        "logits": logits + choose_bytes(options) * rows * width,
    }
    return fuller(reading, growing, drawing)


def allocated_columns(width: int, written: int) -> int:
    """Columns of a growing cache, which grows by one and `SPARE_COLUMNS`, behind ``width``."""
    grown = SPARE_COLUMNS + 1
    return width + grown * -(-written // grown)


def choose_bytes(options: PairOptions) -> int:
    """Bytes an element that drawing a token takes."""
    if options.temperature == 0:
        return CHOOSE["greedy"]
    return CHOOSE["nucleus" if options.top_p < 1 else "plain"]


def vllm_terms(
    policy: Outline, rows: int, length: int, options: PairOptions, share: int | None
) -> Terms:
    """What vLLM holds on each of the GPUs that share a policy.

    The weights and a step's work come first, and all the rest of the share is cache. Heads of the
    cache are shared as far as they go; activations are counted whole, which is more than they take.

    Args:
        policy: the model that is served.
        rows: sequences at most.
        length: positions of the longest prompt and the budget.
        options: the number of GPUs that share the model.
        share: bytes; None on a CPU, where the cache has a size.
    """
    over = options.tensor_parallel
    terms = {
        "engine weights": policy.weight_bytes // over,
        "activations": policy.reading(1, max(VLLM_TOKENS, length)).peak,
        # And two of float32.
        "logits": (policy.dtype.itemsize + 8) * min(rows, VLLM_TOKENS) * policy.head_width,
    }
    longest = length * policy.cache_per_token // min(over, policy.cache_heads)
    rest = int(CPU_CACHE_GIB * GIB)
    if share is not None:
        rest = share - KERNELS["cuda"] - sum(terms.values())
    return terms | {"cache": max(rest, 0), LACKING: max(longest - max(rest, 0), 0)}


def scoring_terms(student: Outline, teacher: Outline, batch: Reading, kind: str) -> Terms:
    """Activations and logits of scoring a batch by both: in either pass, or over the logits."""
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
    """Logits of both of a chunk; beside them the chunk before, or the statistics of a part."""
    widest = max(student.head_width, teacher.head_width)
    chunk = min(max(1, chunks.head_elements(kind) // widest), positions)
    part = min(max(1, scoring.STATISTICS_ELEMENTS[kind] // widest), chunk)
    pair = chunk * _pair_of_logits(student, teacher)
    before = pair if chunk < positions else 0
    return pair + max(before, part * widest * STATISTICS * _wide(student, teacher))


def loss_logits(
    student: Outline, teacher: Outline, positions: int, kind: str, divergence: str
) -> int:
    """Logits of both of a chunk, the loss of it and its gradient."""
    widest = max(student.head_width, teacher.head_width)
    chunk = min(max(1, chunks.head_elements(kind, backward=True) // widest), positions)
    each = widest * LOSS[divergence] * _wide(student, teacher)
    return chunk * (_pair_of_logits(student, teacher) + each)


def _pair_of_logits(student: Outline, teacher: Outline) -> int:
    """Bytes of both policies' logits of one position."""
    return sum(policy.head_width * policy.dtype.itemsize for policy in (student, teacher))


def _wide(student: Outline, teacher: Outline) -> int:
    """What is computed from logits is float32, or twice as wide where they are float64."""
    return max(1, max(student.dtype.itemsize, teacher.dtype.itemsize) // 4)


def teacher_terms(teacher: Outline, batch: Reading) -> Terms:
    """The teacher's pass over a micro-batch."""
    second = teacher.reading(batch.rows, batch.teacher_prompt + batch.response - 1)
    return {"activations": max(second.peak, second.held + _states(teacher, batch))}


def learning_terms(
    student: TrainedOutline, teacher: Outline, batch: Reading, kind: str, divergence: str
) -> Terms:
    """The student's pass over a micro-batch, with the loss over its states and the way back."""
    outline = student.outline
    mine, theirs = _states(outline, batch), _states(teacher, batch)
    first = student.pass_and_back(batch.rows, batch.student_prompt + batch.response - 1)
    logits = loss_logits(outline, teacher, batch.positions, kind, divergence)
    if student.options.full_finetune:
        # The head's own gradient, made chunk by chunk before it is added.
        logits += outline.head_width * outline.width * outline.dtype.itemsize
    # States, their gradient, and both of the positions that carry loss; the teacher's twice too.
    return fuller(
        {
            "activations": first.held + 4 * mine + 2 * theirs,
            "logits": logits + batch.positions * RESULTS,
        },
        {"activations": first.peak + 2 * mine + theirs},
    )


def fuller(*moments: Terms) -> Terms:
    """The moment that holds most."""
    return max(moments, key=lambda terms: sum(terms.values()))
