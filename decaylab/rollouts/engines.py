"""The engines of a run: choice, location (here or in workers) and lifetime.

with Engines(options, reporter) as engines:
    engine = engines.of(policy, longest=2500)
    engine.sample(requests, settings)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch

from decaylab.options.pair_options import PairOptions
from decaylab.policies.policy import Policy
from decaylab.progress import Reporter
from decaylab.rollouts.engine_spec import EngineSpec, spec_of
from decaylab.rollouts.sampling import Engine, OnProgress, Request, Response, SamplingSettings
from decaylab.rollouts.vllm_setup import require_installed
from decaylab.rollouts.workers import Crew


class Engines:
    """Makes engines. At most one vLLM engine is open at a time, since it takes most of a GPU.

    device: of policies, as in `LoadSettings`. parallel: maximum concurrent calls of ``sample``.

    Raises:
        UserError: workers cannot be started (see `workers.Crew`).
    """

    def __init__(self, options: PairOptions, reporter: Reporter) -> None:
        self.options, self.reporter = options, reporter
        self.device, self.parallel = options.device, 1
        self.crew: Crew | None = None
        if options.has_workers:  # vLLM may be installed only there
            self.parallel, several = options.workers, "s" * (options.workers > 1)
            reporter.note(f"starting {options.workers} worker{several} through Ray")
            self.crew = Crew(
                options.workers,
                options.ray,
                device=options.device,
                gpus_each=options.tensor_parallel,
            )
            self.device = self.crew.placement.device
        elif options.needs_vllm:
            require_installed()
        self._open: Any = None
        self._opened: EngineSpec | None = None

    def of(self, policy: Policy, longest: int) -> Engine:
        """The engine of a policy.

        longest: positions of the longest prompt plus the token budget.
        """
        spec = spec_of(policy, self.options, longest)
        if self.crew is None and spec.kind == "transformers":
            return spec.make(self.reporter.note, policy)
        return _Deferred(policy, spec, self)

    def sample(
        self,
        policy: Policy,
        spec: EngineSpec,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None,
    ) -> list[Response]:
        """Samples in a worker or with vLLM here, opening the engine if necessary."""
        if self.crew is not None:
            responses, warnings = self.crew.sample(spec, requests, settings, on_progress)
            for message in warnings:
                self.reporter.note(message)
            return responses
        # Two vLLM engines do not fit: each takes most of a GPU's memory.
        if self._opened != spec:
            self._let_go()
            self._open, self._opened = spec.make(self.reporter.note, policy), spec
        return list(self._open.sample(requests, settings, on_progress))

    @contextmanager
    def beside(self, *held: Policy) -> Iterator[None]:
        """Moves this process's weights from the GPU to host memory while other engines sample.

        vLLM is closed afterwards. With the transformers engine in this process the weights stay,
        since it samples from them.
        """
        if self.crew is None and self.options.engine == "transformers":
            yield
            return
        weights = [policy.weights for policy in held if policy.model is not None]
        moved = [(model, model.device) for model in weights if model.device.type == "cuda"]
        try:
            for model, _ in moved:
                model.to("cpu")  # type: ignore[arg-type]
            if moved:
                torch.cuda.empty_cache()
            yield
        finally:
            self._let_go()
            for model, device in moved:
                model.to(device)  # type: ignore[arg-type]

    def close(self) -> None:
        self._let_go()
        if self.crew is not None:
            self.crew.close()
            self.crew = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stopped: object) -> None:
        self.close()

    def _let_go(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open, self._opened = None, None


@dataclass
class _Deferred:
    """An engine that is opened at the first sampling. A stage already on disk loads no model."""

    policy: Policy
    spec: EngineSpec
    engines: Engines

    @property
    def name(self) -> str:
        return self.spec.kind

    def sample(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> list[Response]:
        return self.engines.sample(self.policy, self.spec, requests, settings, on_progress)
