"""The engines of a run: which one samples for a policy, here or in workers, and when it is loaded
and let go.

with Engines(options, reporter) as engines:
    engine = engines.of(policy, longest=2500)
    engine.sample(requests, settings)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

from decaylab.options.measuring import PairOptions
from decaylab.policies.policy import Policy
from decaylab.progress import Reporter
from decaylab.rollouts.engine_spec import EngineSpec, spec_of
from decaylab.rollouts.sampling import Engine, OnProgress, Request, Response, SamplingSettings
from decaylab.rollouts.vllm_setup import require_installed
from decaylab.rollouts.workers import Crew


class Engines:
    """Makes engines; of vLLM's at most one is open at a time, since it takes a GPU for itself.

    device: where policies are, as `LoadSettings` names it. parallel: calls of ``sample`` that can
    be at work at once.

    Raises:
        UserError: workers that cannot be started (see `workers.Crew`).
    """

    def __init__(self, options: PairOptions, reporter: Reporter) -> None:
        self.options, self.reporter, self.device, self.parallel = (
            options,
            reporter,
            options.device,
            1,
        )
        self.crew: Crew | None = None
        if options.needs_vllm and not options.has_workers:  # those may be where it is
            require_installed()
        if options.has_workers:
            reporter.note(
                f"starting {options.workers} worker{'s' * (options.workers > 1)} through Ray"
            )
            gpus_each = options.tensor_parallel
            self.crew = Crew(
                options.workers, options.ray, device=options.device, gpus_each=gpus_each
            )
            self.device, self.parallel = self.crew.placement.device, options.workers
        self._open: Any = None
        self._opened: EngineSpec | None = None

    def of(self, policy: Policy, longest: int) -> Engine:
        """The engine of a policy. longest: positions of its longest prompt and the budget behind
        it."""
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
        """By a worker, or by vLLM here; the engine is opened first where it is not."""
        if self.crew is not None:
            responses, warned = self.crew.sample(spec, requests, settings, on_progress)
            for message in warned:
                self.reporter.note(message)
            return responses
        if self._opened != spec:
            self._let_go()
            self._open, self._opened = spec.make(self.reporter.note, policy), spec
        found: list[Response] = self._open.sample(requests, settings, on_progress)
        return found

    @contextmanager
    def beside(self, *held: Policy) -> Iterator[None]:
        """While others sample, the weights that this process holds on a GPU wait in the host's
        memory; vLLM is let go after.

        The transformers engine here samples from those weights themselves, and they stay.
        """
        if self.crew is None and self.options.engine == "transformers":
            yield
            return
        with _aside(held):
            try:
                yield
            finally:
                self._let_go()

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


class _Deferred:
    """An engine that is opened when something is to be sampled: a stage that is on disk already
    loads nothing."""

    def __init__(self, policy: Policy, spec: EngineSpec, engines: Engines) -> None:
        self.policy, self._spec, self._engines = policy, spec, engines
        self.name: str = spec.kind

    def sample(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> list[Response]:
        return self._engines.sample(self.policy, self._spec, requests, settings, on_progress)


@contextmanager
def _aside(held: Sequence[Policy]) -> Iterator[None]:
    """Weights on a GPU wait in the host's memory for as long as the block lasts."""
    import torch

    moved = [(one.weights, one.weights.device) for one in held if one.model is not None]
    moved = [(weights, device) for weights, device in moved if device.type == "cuda"]
    try:
        for weights, _ in moved:
            weights.to("cpu")  # type: ignore[arg-type]
        if moved:
            torch.cuda.empty_cache()
        yield
    finally:
        for weights, device in moved:
            weights.to(device)  # type: ignore[arg-type]
