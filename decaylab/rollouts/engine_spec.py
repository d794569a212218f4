"""What it takes to make an engine for a policy, here or elsewhere; what a record says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from decaylab.errors import UserError
from decaylab.options.measuring import PairOptions
from decaylab.policies import loading, served_policies
from decaylab.policies.loading import LoadSettings, Policy
from decaylab.rollouts.sampling import Engine
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import SEEDING, VllmEngine
from decaylab.rollouts.vllm_setup import VllmSettings

MEMORY_SHARE = 0.9
"""Of a GPU, for vLLM, if it is not set and nothing else is on the GPU."""
TRANSFORMERS_SEEDING = (
    "every token is drawn at a uniform number that depends on seed, stage, "
    "problem, sample and position alone"
)


@dataclass(frozen=True)
class EngineSpec:
    """An engine that is not made yet; a worker is sent it as it is.

    policy: by name. contents: of the policy that is meant, by its identity. batch_rows: most
    sequences that transformers decodes together.
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
            UserError: a policy with other contents, or one that the engine cannot run; no vLLM.
        """
        if policy is None:
            load = loading.load if self.kind == "transformers" else served_policies.serve
            policy = load(self.policy, self.loading)
            if policy.identity.contents != self.contents:
                raise UserError(
                    f"{self.policy} is another model here than where the run was started: its "
                    "contents differ"
                )
        if self.kind == "transformers":
            return TransformersEngine(policy, batch_rows=self.batch_rows, on_warning=on_warning)
        engine = VllmEngine(policy, self.vllm)
        if engine.source.note:
            on_warning(engine.source.note)
        return engine


def spec_of(policy: Policy, options: PairOptions, longest: int) -> EngineSpec:
    """The engine that the options choose for a policy.

    longest: positions of its longest prompt and the budget behind it.
    """
    settings = VllmSettings.of(
        options, MEMORY_SHARE, longest, adapters=options.adapters, seed=options.seed % 2**32
    )
    contents = policy.identity.contents
    return EngineSpec(
        options.engine, policy.name, contents, policy.settings, options.batch_rows, settings
    )


def engine_record(options: PairOptions) -> dict[str, Any]:
    """What the samples depend on in the engine. Workers and memory change none."""
    if options.engine == "transformers":
        return {"name": "transformers", "seeding": TRANSFORMERS_SEEDING}
    return {
        "name": options.engine,
        "seeding": SEEDING,
        "adapters": options.adapters,
        "tensor_parallel": options.tensor_parallel,
    }
