"""The vLLM engine: the same requests and responses as transformers, sampled by vLLM on GPU or CPU.

vLLM is an extra and is imported when an engine is made, not with this module. It runs in this
process, so that its errors and weights are accessible; with several GPUs it starts worker
processes.
"""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Self
from unittest import mock

import torch
from torch import Tensor

from decaylab.errors import UserError
from decaylab.policies.memory import out_of_memory
from decaylab.policies.policy import Policy
from decaylab.policies.served_policies import serving_dtype, source, stored_names
from decaylab.rollouts.sampling import OnProgress, Request, Response, SamplingSettings
from decaylab.rollouts.vllm_setup import (
    MOST_BIASED,
    NAN_LOGITS,
    PARAMETERS,
    TEMPERATURES,
    VllmSettings,
    engine_arguments,
    explained,
    require_vllm,
)

SEEDING = (
    "each rollout has a seed of its own, a hash of seed, stage, problem, sample and prefix "
    "length: neither the order of the requests nor a resumed run changes it, except where rounding "
    "in another batch does; the noise is not that of the transformers engine, and a rollout "
    "continued from its own prefix is another one"
)
_open: weakref.WeakSet[VllmEngine] = weakref.WeakSet()


class VllmEngine:
    """Samples from a policy through vLLM. Use it in a ``with`` block, or `close` it.

    policy: with weights or without (`served_policies.serve`); vLLM loads its own copy by the
    policy's name.

    Raises:
        UserError: vLLM is missing, it cannot run the model, memory is too small, or the adapter's
            rank is too large.
    """

    name = "vllm"

    def __init__(self, policy: Policy, settings: VllmSettings = VllmSettings()) -> None:
        vllm = require_vllm()
        from vllm.platforms import current_platform

        self.policy, self.settings, self.on_cpu = policy, settings, bool(current_platform.is_cpu())
        self.dtype = serving_dtype(policy, settings.dtype)
        self.source = source(policy, settings.adapters, self.dtype)
        self.max_model_len = settings.max_model_len or min(policy.context_length, 2**20)
        if self.max_model_len > policy.context_length:
            raise UserError(
                f"max_model_len {self.max_model_len} exceeds the context of {policy.name}, "
                f"{policy.context_length} tokens; lower it"
            )
        arguments = engine_arguments(
            policy, settings, self.source, self.dtype, self.max_model_len, on_cpu=self.on_cpu
        )
        try:
            # Some versions use the file of standard output, which a notebook lacks.
            with redirect_stdout(sys.__stdout__):
                self._llm: Any = vllm.LLM(**arguments)
        except (ValueError, RuntimeError, OSError, ImportError, KeyError) as error:
            raise explained(error, policy.name) from error
        _open.add(self)
        folder = Path(self.source.model)
        tied = bool(self._llm.model_config.hf_text_config.tie_word_embeddings)
        self._names = stored_names(folder, tied) if folder.is_dir() else frozenset()
        self._lora: Any = None
        self._adapters = 0
        if self.source.adapter:
            self.take_adapter(Path(self.source.adapter))

    @property
    def scores_given_ids(self) -> bool:
        """Whether it can return log-probabilities of given ids.

        This needs vLLM's second model runner, and with it a GPU.
        """
        return bool(self._alive().llm_engine.vllm_config.use_v2_model_runner)

    def sample(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> list[Response]:
        """One response per request, in the order of the requests.

        Raises:
            UserError: a request exceeds the context, vLLM would change the temperature, or `run`
                fails.
        """
        self._check(requests, settings)
        # Requests with the same prompt and prefix are sent together, while their cache is warm.
        order = sorted(range(len(requests)), key=lambda place: requests[place].context)
        sent = [requests[place] for place in order]
        shared = {
            "temperature": float(settings.temperature),
            "top_p": float(settings.top_p),
            "top_k": settings.top_k,
            "stop_token_ids": sorted(self.policy.end_ids),
            "logit_bias": self._bias(),
        }
        parameters = []
        for request in sent:
            seed = request_seed(settings.seed, request)
            parameters.append({**shared, "max_tokens": request.max_new_tokens, "seed": seed})

        def finished(output: Any) -> None:
            if on_progress:
                on_progress(len(output.outputs[0].token_ids), 1)

        outputs = self.run([request.context for request in sent], parameters, finished)
        made = dict(zip(order, map(self._response, outputs), strict=True))
        return [made[place] for place in range(len(requests))]

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        parameters: Sequence[dict[str, Any]],
        on_finished: Callable[[Any], None] | None = None,
    ) -> list[Any]:
        """vLLM's outputs for prompts of token ids, in order.

        parameters: changes to `PARAMETERS`.

        Raises:
            UserError: out of memory, or NaN in the logits.
        """
        from vllm import SamplingParams

        llm, outputs = self._alive(), []
        sampling = [SamplingParams(**{**PARAMETERS, **changes}) for changes in parameters]
        tokens = [{"prompt_token_ids": list(ids)} for ids in prompts]
        sent = llm.enqueue(tokens, sampling, use_tqdm=False, lora_request=self._lora)
        try:
            while llm.llm_engine.has_unfinished_requests():
                for output in llm.llm_engine.step():
                    if output.finished:
                        outputs.append(output)
                        if on_finished:
                            on_finished(output)
        except BaseException as error:
            llm.llm_engine.abort_request(sent, internal=True)
            is_known = isinstance(error, RuntimeError) and out_of_memory(error)
            if is_known or (isinstance(error, RuntimeError) and NAN_LOGITS in str(error)):
                raise explained(error, self.policy.name) from error
            raise
        return sorted(outputs, key=lambda output: int(output.request_id))

    def take_adapter(self, folder: Path) -> None:
        """Replaces the served adapter by the one in a PEFT folder.

        The folder is read at the next sampling and must exist then. Adapters share no cache.

        Raises:
            ValueError: the engine serves no adapters.
        """
        from vllm.lora.request import LoRARequest

        if not (self.source.adapter or self.settings.room_for_rank):
            raise ValueError(
                "this engine cannot serve adapters; make it with VllmSettings(room_for_rank=...)"
            )
        self._adapters += 1
        self._lora = LoRARequest(f"adapter-{self._adapters}", self._adapters, str(folder))

    def update_weights(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Loads all weights of a trained student, by their names in a checkpoint; clears the cache.

        Raises:
            ValueError: the engine serves an adapter, which would be applied to the new weights too;
                or a weight of the original folder is missing and would keep its old value.
        """
        if self._lora is not None:
            raise ValueError(
                "an engine that serves an adapter cannot load new weights; set adapters='merged'"
            )
        llm, given = self._alive(), dict(weights)
        if missing := sorted(self._names - given.keys()):
            raise ValueError(
                f"{len(missing)} weights are missing, such as {missing[0]}; give all weights"
            )
        in_one_process = os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
        if self.settings.tensor_parallel == 1 and in_one_process:
            llm.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(given.items())})
        else:  # other processes read them from disk
            from safetensors.torch import save_file

            with tempfile.TemporaryDirectory(prefix="decaylab-weights-") as folder:
                whole = {name: weight.contiguous() for name, weight in given.items()}
                save_file(whole, Path(folder) / "model.safetensors")
                llm.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        if self.on_cpu:
            llm.apply_model(_repack_head)
        if not llm.reset_prefix_cache():
            raise RuntimeError("vLLM kept cached keys and values of the old weights")

    def sleep(self, *, keep_weights: bool = True) -> None:
        """Releases GPU memory until `wake`; does nothing on a CPU.

        keep_weights: if False, new weights must be loaded after `wake`.

        Raises:
            ValueError: the engine was made without ``can_sleep``.
        """
        if not self.on_cpu:
            self._require_sleep()
            self._alive().sleep(level=1 if keep_weights else 2)

    def wake(self) -> None:
        """Allocates its memory again."""
        if not self.on_cpu:
            self._require_sleep()
            self._alive().wake_up()

    def close(self) -> None:
        """Releases model, cache and temporary folders; a closed engine cannot be used again."""
        if self._llm is None:
            return
        from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
        from vllm.v1.engine import core

        # vLLM ends its process groups with any engine of the process; delay that to the last one.
        with mock.patch.object(core, "cleanup_dist_env_and_memory", create=True):
            self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        _open.discard(self)
        if self.source.scratch:
            self.source.scratch.cleanup()
        gc.collect()
        if not _open:
            cleanup_dist_env_and_memory()
        elif not self.on_cpu:
            torch.cuda.empty_cache()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stopped: object) -> None:
        self.close()

    def _alive(self) -> Any:
        if self._llm is None:
            raise ValueError(f"the vLLM engine of {self.policy.name} is closed")
        return self._llm

    def _require_sleep(self) -> None:
        if not self.settings.can_sleep:
            raise ValueError("this engine cannot sleep; make it with VllmSettings(can_sleep=True)")

    def _check(self, requests: Sequence[Request], settings: SamplingSettings) -> None:
        coldest, hottest = TEMPERATURES
        if settings.temperature != 0 and not coldest <= settings.temperature <= hottest:
            raise UserError(
                f"with --engine vllm, --temperature must be 0 or from {coldest} to {hottest}, "
                f"got {settings.temperature}"
            )
        for request in requests:
            length = len(request.context) + request.max_new_tokens
            if length > self.max_model_len:
                raise UserError(
                    f"{request.name} may need {length} positions, more than the "
                    f"{self.max_model_len} of {self.policy.name} in vLLM; lower --max-tokens or "
                    "raise max_model_len"
                )

    def _bias(self) -> dict[int, float] | None:
        """A logit bias that prevents ids without a token: e^-100 of their probability is left."""
        absent = self.policy.absent_ids
        if len(absent) > MOST_BIASED and self.scores_given_ids:
            raise UserError(
                f"the head of {self.policy.name} has {len(absent)} ids without a token, and vLLM "
                f"can exclude only {MOST_BIASED}; use --engine transformers"
            )
        return dict.fromkeys(absent, -100.0) or None

    def _response(self, output: Any) -> Response:
        written = output.outputs[0]
        ids = tuple(written.token_ids)
        if not ids or written.finish_reason not in ("stop", "length"):
            raise RuntimeError(
                f"vLLM ended a request of {self.policy.name}: {written.finish_reason}"
            )
        return Response(ids, "eos" if ids[-1] in self.policy.end_ids else "length")


def _repack_head(model: Any) -> None:
    """Repacks a tied head on a CPU, where vLLM uses packed weights but misses this one."""
    head = model.lm_head
    head.quant_method.process_weights_after_loading(head)


def request_seed(seed: int, request: Request) -> int:
    """The seed of a request, below 2^63: a hash of the run's seed and the continued context."""
    key = (seed, request.stage, request.problem_id, request.sample, len(request.prefix_ids))
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
