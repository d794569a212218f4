"""What it takes to make an engine for a policy, on this machine or another one; and what a record
says of engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from decaylab.errors import UserError
from decaylab.options.measuring import PairOptions
from decaylab.policies import loading, served_policies
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.rollouts.sampling import Engine
from decaylab.rollouts.transformers_engine import TransformersEngine

MEMORY_SHARE = 0.9
"""Of a GPU, for vLLM, where nothing is said and nothing else is on it."""
TRANSFORMERS_SEEDING = (
    "every token is drawn at a uniform number that depends on seed, stage, "
    "problem, sample and position alone"
)


@dataclass(frozen=True)
class EngineSpec:
    """An engine that is not made yet; it travels to a worker as it is.

    policy: by name. contents: what the policy must be there, by its identity. longest: positions of
    prompt and budget.
    """

    kind: Literal["transformers", "vllm"]
    policy: str
    contents: str
    loading: LoadSettings
    batch_rows: int
    longest: int
    adapters: Literal["merged", "served"] = "merged"
    tensor_parallel: int = 1
    gpu_memory_share: float = MEMORY_SHARE
    seed: int = 0

    def make(self, on_warning: Callable[[str], None], policy: Policy | None = None) -> Engine:
        """Loads the policy, unless it is given, and makes its engine.

        Raises:
            UserError: a policy of other contents than were meant, or that the engine cannot run; no
            vLLM.
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
        from decaylab.rollouts.vllm_engine import VllmEngine
        from decaylab.rollouts.vllm_setup import VllmSettings

        settings = VllmSettings(
            tensor_parallel=self.tensor_parallel,
            gpu_memory_share=self.gpu_memory_share,
            max_model_len=self.longest,
            max_sequences=self.batch_rows,
            adapters=self.adapters,
            seed=self.seed % 2**32,
        )
        engine = VllmEngine(policy, settings)
        if engine.source.note:
            on_warning(engine.source.note)
        return engine


def spec_of(policy: Policy, options: PairOptions, longest: int) -> EngineSpec:
    """The engine that the options choose for a policy."""
    return EngineSpec(
        options.engine,
        policy.name,
        policy.identity.contents,
        policy.settings,
        options.batch_rows,
        longest,
        options.adapters,
        options.tensor_parallel,
        options.gpu_memory_share or MEMORY_SHARE,
        options.seed,
    )


def engine_record(options: PairOptions) -> dict[str, Any]:
    """What a run's identity says of its engine: what its samples depend on. Workers and memory
    change none."""
    if options.engine == "transformers":
        return {"name": "transformers", "seeding": TRANSFORMERS_SEEDING}
    from decaylab.rollouts.vllm_engine import SEEDING

    return {
        "name": options.engine,
        "seeding": SEEDING,
        "adapters": options.adapters,
        "tensor_parallel": options.tensor_parallel,
    }
