"""vLLM's settings, arguments and error messages.

vLLM is imported by `require_vllm`, not with this module.
"""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from typing import Any, Literal, Self

from decaylab.errors import UserError
from decaylab.options.pair_options import PairOptions
from decaylab.policies.policy import Policy
from decaylab.policies.served_policies import Adapters, Source

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
CPU_CACHE_GIB = 1.0
CPU_BLOCK = 32  # tokens per cache block: with vLLM's 128, shorter prompts would not be shared
TEMPERATURES = (0.01, 2.0)
"""The range of temperatures, beside 0, that vLLM uses unchanged: it silently raises lower ones and
refuses higher ones."""
NAN_LOGITS, NAN_SWITCH, OLDEST = "NaNs detected in logits", "VLLM_RAISE_ON_LOGIT_NANS", "0.28"
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Its errors are raised here; without this, vLLM also dumps its state.
    "VLLM_LOGGING_LEVEL": "CRITICAL",
    NAN_SWITCH: "1",  # otherwise it continues with id 0
    "VLLM_NO_USAGE_STATS": "1",
}
"""Set while vLLM is in use, unless the user's environment sets them."""
MOST_BIASED = 1024
"""Maximum number of biased ids per request in vLLM's second model runner."""
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
    "ignore_eos": True,  # stop_token_ids lists the end tokens
    "max_tokens": 1,
    "min_tokens": 0,
    "logprobs": None,
    "prompt_logprobs": None,
    "detokenize": False,
    "bad_words": None,
    "logit_bias": None,
    "allowed_token_ids": None,
}
"""All sampling parameters of vLLM that could change a token: no model default applies."""


@dataclass(frozen=True)
class VllmSettings:
    """How vLLM runs a policy.

    dtype: of weights and activations; auto is the policy's own, as in transformers.
    tensor_parallel: GPUs per model.
    gpu_memory_share: share of each GPU's memory for weights and cache.
    cache_gib: size of the key-value cache; by default the rest of the share, and 1 GiB on a CPU.
    max_model_len: positions; by default the policy's.
    max_sequences: maximum batch size.
    adapters: merged into a temporary folder, or served beside the base's weights.
    max_lora_rank: by default the adapter's.
    room_for_rank: rank of adapters given to `VllmEngine.take_adapter`; by default none are.
    max_logprobs: maximum log-probabilities per position in scoring.
    enforce_eager: no compilation and no CUDA graphs; default on a CPU, where they take longer than
        a run.
    can_sleep: whether memory can be released between uses; GPUs only.
    seed: vLLM's own seed, for anything without a seed per request.
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
        """Settings from a command's options. share: default share of a GPU's memory."""
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
        UserError: the adapter's rank is too large.
    """
    cache = settings.cache_gib or (CPU_CACHE_GIB if on_cpu else None)
    chosen: dict[str, Any] = {
        "model": loaded.model,
        "revision": loaded.revision,
        "trust_remote_code": policy.settings.trust_remote_code,
        "skip_tokenizer_init": True,  # ids in, ids out
        "generation_config": "vllm",  # ignores the model's sampling defaults
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
        # vLLM resets the generator of a prompt read in two parts, which fails on a CPU.
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
    """The smallest rank that vLLM supports and that fits the adapter.

    Raises:
        UserError: the adapter's rank is too large.
    """
    most = settings.max_lora_rank or LORA_RANKS[-1]
    if rank > most:
        raise UserError(
            f"the adapter {name} has rank {rank}, more than max_lora_rank {most}; raise it (at "
            f"most {LORA_RANKS[-1]}) or use --adapters merged"
        )
    return next(known for known in LORA_RANKS if known >= (settings.max_lora_rank or rank))


def require_installed() -> None:
    """Raises UserError if vLLM is not installed, before any folder is made."""
    if importlib.util.find_spec("vllm") is None:
        raise _missing("it is not installed")


def require_vllm() -> Any:
    """The vllm package, imported with `ENVIRONMENT` in force.

    Raises:
        UserError: it is not installed, does not import, or has a version that ignores NaN in the
            logits.
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
            f"the vllm engine needs vLLM {OLDEST} or later, found {vllm.__version__}: older "
            "versions ignore NaN in the logits; upgrade vLLM"
        )
    return vllm


def _missing(why: str) -> UserError:
    return UserError(
        f'the vllm engine needs vLLM ({why}): pip install "decaylab[vllm]" with a GPU, '
        "scripts/install_vllm_cpu.sh without one"
    )


def explained(error: BaseException, name: str) -> UserError:
    """A one-line message for an exception of vLLM."""
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
        return UserError(f"vLLM cannot run {name} ({reason}); use --engine transformers")
    if "memory" in lowered or "kv cache" in lowered:
        return UserError(
            f"too little memory for {name} in vLLM: change gpu_memory_share or cache_gib, or "
            f"lower max_model_len ({reason})"
        )
    if "root cause" in lowered or "stack trace" in lowered:
        return UserError(
            f"vLLM's workers for {name} did not start; set VLLM_LOGGING_LEVEL=INFO and run again "
            "to see why"
        )
    return UserError(f"vLLM cannot run {name}: {reason}")
