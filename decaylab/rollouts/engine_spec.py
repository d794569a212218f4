"""The specification from which an engine is made, here or in a worker, and its record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from decaylab.errors import UserError
from decaylab.options.pair_options import PairOptions
from decaylab.policies import loading, served_policies
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.rollouts.sampling import Engine
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import SEEDING, VllmEngine
from decaylab.rollouts.vllm_setup import VllmSettings

MEMORY_SHARE = 0.9
"""vLLM's default share of GPU memory, if nothing else uses the GPU."""
TRANSFORMERS_SEEDING = (
    "every token is drawn at a uniform number that depends on seed, stage, "
    "problem, sample and position alone"
)


@dataclass(frozen=True)
class EngineSpec:
    """The specification of an engine, which can be sent to a worker.

    policy: its name. contents: its identity, to check that a worker loads the same model.
    batch_rows: maximum batch size of the transformers engine.
    """

    kind: Literal["transformers", "vllm"]
    policy: str
    contents: str
    loading: LoadSettings
    batch_rows: int
    vllm: VllmSettings

    def make(self, on_warning: Callable[[str], None], policy: Policy | None = None) -> Engine:
        """Loads the policy, unless it is given, and makes its engine.

        Raises:
            UserError: the policy has other contents or the engine cannot run it, or vLLM is
                missing.
        """
        if policy is None:
            load = loading.load if self.kind == "transformers" else served_policies.serve
            policy = load(self.policy, self.loading)
            if policy.identity.contents != self.contents:
                raise UserError(
                    f"{self.policy} differs between this worker and the machine that started the "
                    "run; use the same model on both"
                )
        if self.kind == "transformers":
            return TransformersEngine(policy, batch_rows=self.batch_rows, on_warning=on_warning)
        engine = VllmEngine(policy, self.vllm)
        if engine.source.note:
            on_warning(engine.source.note)
        return engine


def spec_of(policy: Policy, options: PairOptions, longest: int) -> EngineSpec:
    """The engine for a policy by the options.

    longest: positions of the longest prompt plus the token budget.
    """
    settings = VllmSettings.of(
        options, MEMORY_SHARE, longest, adapters=options.adapters, seed=options.seed % 2**32
    )
    assert options.engine != "auto"  # resolved options name one
    contents = policy.identity.contents
    return EngineSpec(
        options.engine, policy.name, contents, policy.settings, options.batch_rows, settings
    )


def engine_record(options: PairOptions) -> dict[str, Any]:
    """The engine settings that samples depend on. Workers and memory have no effect."""
    if options.engine == "transformers":
        return {"name": "transformers", "seeding": TRANSFORMERS_SEEDING}
    return {
        "name": options.engine,
        "seeding": SEEDING,
        "adapters": options.adapters,
        "tensor_parallel": options.tensor_parallel,
    }
