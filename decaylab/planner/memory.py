"""Memory of every phase of the planned commands, in bytes, term by term: the most that each phase
holds at any time.

    weights       both policies, which a command keeps loaded from its beginning to its end, each in
    its precision cache         rows x columns x bytes of a token; while it grows, one layer's keys
    and values are there twice activations   what a pass over a batch holds at its fullest, counted
    on the meta device logits        a few positions x vocabulary at a time, and what is computed
    from them trained       gradients, and twice that for AdamW; what LoRA adds; weights with the
    adapters merged in

What a kernel or an allocator takes beside that is the allowance (`allowance`), stated apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from decaylab.options.measuring import PairOptions
from decaylab.planner.models import Outline, Trained, TrainedOutline
from decaylab.rollouts.cache import SPARE_COLUMNS
from decaylab.rollouts.vllm_setup import CPU_CACHE_GIB
from decaylab.tokens import chunks, scoring

Terms = dict[str, int]

# Bytes for each element of positions x vocabulary, counted; tests count them again.
CHOOSE = {"greedy": 4, "plain": 16, "nucleus": 36}  # of `sampling.choose`, beside the logits
STATISTICS = 28  # of `scoring.token_statistics`, beside both logits
LOSS = {
    "reverse-kl": 32,
    "forward-kl": 32,
    "policy-gradient": 32,
    "js": 52,
}  # of `loss.chunked_loss`, likewise
RESULTS = 240  # a position: what scoring and the loss return of it
VLLM_TOKENS = 8192  # of a step of vLLM's, by its own default

# The allowance. On a CPU as measured (benchmarks/plan.py, docs/plan.md); of a GPU's nothing was
# measured here.
KERNELS = {
    "cpu": 24 * 2**20,
    "cuda": 2**30,
}  # code and scratch of libraries; the context of CUDA and its workspaces
CPU_HOLES = {"sampling": 0.2, "scoring": 0.5, "training": 0.6}
CUDA_HOLES = 0.05
TOKENIZER = 768  # bytes of host memory an id: the tokenizer and lists of its words
PROCESS = 540 * 2**20  # Python with its libraries, and two processes that grade
LASTING = (
    *(
        "student weights",
        "teacher weights",
        "checkpoint weights",
        "engine weights",
        "float32 heads",
        "gathered layers",
    ),
    *("adapters", "optimizer", "gradients", "merged copies", "file"),
)
"""What does not come and go within a phase."""


@dataclass(frozen=True)
class Batch:
    """Rows that are decoded together. families: rollouts that prefixes are cut from; 0 where there
    are none."""

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
        """As many as fit into a batch of so many tokens, padding included; one at least."""
        return cls(min(max(1, tokens // (max(prompts) + response)), rollouts), *prompts, response)


def holes(kind: str, device: str) -> float:
    """Room that an allocator has and cannot use, as a share of what comes and goes in a phase of
    this kind."""
    return CUDA_HOLES if device == "cuda" else CPU_HOLES.get(kind, 0.0)


def allowance(terms: Terms, kind: str, device: str, ids: int) -> int:
    """Bytes beside the terms of a phase of this kind. ids: of both tokenizers."""
    working = sum(size for name, size in terms.items() if name not in LASTING)
    return (
        KERNELS[device]
        + int(holes(kind, device) * working)
        + (TOKENIZER * ids if device == "cpu" else 0)
    )


def sampling_terms(policy: Outline, batch: Batch, options: PairOptions) -> Terms:
    """Cache, activations and logits of sampling a batch: while it reads what is there, or at its
    last token."""
    width = batch.prompt_tokens + batch.prefix_tokens - 1
    filled = policy.prefill(
        batch.prompts, batch.prompt_tokens, batch.families, batch.prefix_tokens, batch.rows
    )
    reading = {"cache": filled.held, "activations": filled.peak - filled.held, "logits": 0}
    columns = allocated_columns(width, batch.new_tokens)
    cache = batch.rows * columns * policy.cache_per_token
    again = batch.rows * (columns - SPARE_COLUMNS - 1) * max(policy.cache)  # a layer before it grew
    lists = batch.rows * batch.new_tokens * 16  # random numbers and ids
    elements, item = batch.rows * policy.head_width, policy.dtype.itemsize
    step = policy.reading(batch.rows, 1).peak
    growing = {
        "cache": cache + again,
        "activations": step + lists,
        "logits": item * elements,
    }  # of the token before
    drawing = {
        "cache": cache,
        "activations": lists,
        "logits": (item + choose_bytes(options)) * elements,
    }
    return fuller(reading, growing, drawing)


def allocated_columns(width: int, written: int) -> int:
    """Columns of a growing cache once so many more were written behind ``width``: it grows by one
    and `SPARE_COLUMNS`."""
    grown = SPARE_COLUMNS + 1
    return width + grown * -(-written // grown)


def choose_bytes(options: PairOptions) -> int:
    """Bytes an element that drawing a token takes."""
    return CHOOSE[
        "greedy" if options.temperature == 0 else "nucleus" if options.top_p < 1 else "plain"
    ]


def vllm_terms(
    policy: Outline, rows: int, length: int, options: PairOptions, share: int | None
) -> tuple[Terms, bool]:
    """What vLLM holds on each of the GPUs that share a policy, and whether its share has room for
    the longest sequence.

    The weights and a step's work come first, and all the rest of the share is cache. Heads of the
    cache are shared out as far as they go; activations are counted whole, which is more than they
    take.

    Args:
        length: positions of the longest prompt and the budget. share: bytes; None on a CPU, where
        the cache has a size.
    """
    over = options.tensor_parallel
    terms = {
        "engine weights": policy.weight_bytes // over,
        "activations": policy.reading(1, max(VLLM_TOKENS, length)).peak,
        "logits": (policy.dtype.itemsize + 8)
        * min(rows, VLLM_TOKENS)
        * policy.head_width,  # and two of float32
    }
    longest = length * policy.cache_per_token // min(over, policy.cache_heads)
    rest = (
        int(CPU_CACHE_GIB * 2**30)
        if share is None
        else share - KERNELS["cuda"] - sum(terms.values())
    )
    return terms | {"cache": max(rest, longest)}, rest >= longest


def scoring_terms(student: Outline, teacher: Outline, batch: Reading, kind: str) -> Terms:
    """Activations and logits of scoring a batch by both: in the student's pass, the teacher's, or
    over the logits."""
    own, theirs = (batch.positions * one.width * one.dtype.itemsize for one in (student, teacher))
    first = student.reading(batch.rows, batch.student_prompt + batch.response - 1)
    second = teacher.reading(batch.rows, batch.teacher_prompt + batch.response - 1)
    results = batch.positions * RESULTS
    return fuller(
        {"activations": max(first.peak, first.held + own), "logits": 0},
        {"activations": own + max(second.peak, second.held + theirs), "logits": 0},
        {
            "activations": own + theirs,
            "logits": scored_logits(student, teacher, batch.positions, kind) + results,
        },
    )


def scored_logits(student: Outline, teacher: Outline, positions: int, kind: str) -> int:
    """Logits of both of a chunk, those of the chunk before beside them; or the statistics of a part
    of it."""
    widest = max(student.head_width, teacher.head_width)
    chunk = min(max(1, chunks.head_elements(kind) // widest), positions)
    part = min(max(1, scoring.STATISTICS_ELEMENTS[kind] // widest), chunk)
    pair = chunk * sum(one.head_width * one.dtype.itemsize for one in (student, teacher))
    again = pair if chunk < positions else 0
    return max(pair + again, pair + part * widest * STATISTICS * _wide(student, teacher))


def loss_logits(
    student: Outline, teacher: Outline, positions: int, kind: str, divergence: str
) -> int:
    """Logits of both of a chunk, the loss of it and its gradient."""
    widest = max(student.head_width, teacher.head_width)
    chunk = min(max(1, chunks.head_elements(kind, backward=True) // widest), positions)
    pair = chunk * sum(one.head_width * one.dtype.itemsize for one in (student, teacher))
    return pair + chunk * widest * LOSS[divergence] * _wide(student, teacher)


def _wide(student: Outline, teacher: Outline) -> int:
    """What is computed from logits is float32, or twice as wide where they are float64."""
    return max(1, max(student.dtype.itemsize, teacher.dtype.itemsize) // 4)


def training_terms(
    student: TrainedOutline, teacher: Outline, batch: Reading, kind: str, divergence: str
) -> tuple[Terms, Terms]:
    """Of a micro-batch: the teacher's pass; and the student's, with the loss over its states and
    the way back."""
    own = batch.positions * student.outline.width * student.outline.dtype.itemsize
    theirs = batch.positions * teacher.width * teacher.dtype.itemsize
    second = teacher.reading(batch.rows, batch.teacher_prompt + batch.response - 1)
    first = student.pass_and_back(batch.rows, batch.student_prompt + batch.response - 1)
    logits = loss_logits(student.outline, teacher, batch.positions, kind, divergence)
    if (
        student.options.full_finetune
    ):  # the head's own gradient, made chunk by chunk before it is added
        logits += (
            student.outline.head_width * student.outline.width * student.outline.dtype.itemsize
        )
    scored = {"activations": max(second.peak, second.held + theirs), "logits": 0}
    # States, their gradient, and both of the positions that carry loss; the teacher's twice
    # likewise.
    there = fuller(
        {
            "activations": first.held + 4 * own + 2 * theirs,
            "logits": logits + batch.positions * RESULTS,
        },
        {"activations": first.peak + 2 * own + theirs, "logits": 0},
    )
    return scored, there


@dataclass(frozen=True)
class TrainedState:
    """What one process keeps of a student in training, in bytes.

    Under FSDP each keeps its part of the decoder layers, of their gradients and of their moments;
    adapters, embeddings, norms and head are whole everywhere.
    """

    weights: int
    adapters: int
    gradients: int
    optimizer: int
    gathered_layers: int
    """While a pass runs: the layer at work and the one that is gathered ahead, and a whole layer's
    gradient."""
    gathered_student: int
    """While rollouts are written: the layers whole, beside the parts."""

    @classmethod
    def of(cls, weights: int, of: Trained, parts: int) -> TrainedState:
        """weights: of the student before anything is added. parts: processes that share it out; 1
        where each has all."""
        away = of.layers - of.layers // parts
        trained = of.weights - (of.trained_layers - of.trained_layers // parts)
        shared = parts > 1
        whole_gradient = of.largest_layer if of.trained_layers else 0
        return cls(
            weights=weights - away,
            adapters=of.adapters,
            gradients=trained,
            optimizer=2 * trained,
            gathered_layers=shared * (2 * of.largest_layer + whole_gradient),
            gathered_student=shared * of.layers,
        )


def fuller(*moments: Terms) -> Terms:
    """The moment that holds most."""
    return max(moments, key=lambda one: sum(one.values()))
