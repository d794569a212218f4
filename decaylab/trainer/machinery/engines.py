"""The engines of training: transformers, or vLLM with updated weights."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from decaylab.errors import UserError
from decaylab.pair.prepare import longest_context
from decaylab.policies.served_policies import plain_weights
from decaylab.progress import Reporter
from decaylab.rollouts.sampling import Engine, OnProgress, Request, Response, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.rollouts.vllm_setup import VllmSettings
from decaylab.runs.vocabulary import STUDENT, TEACHER
from decaylab.trainer.machinery.adapters import Trainable
from decaylab.trainer.machinery.processes import Processes
from decaylab.trainer.machinery.setup import TrainSetup

MEMORY_SHARE = 0.4
"""vLLM's default share of a GPU's memory, beside weights, gradients and activations of training."""


class VllmStudent:
    """The current student in vLLM: its adapter or weights are passed on before each use.

    An adapter is served and not merged, since 16-bit weights would round it away. Between uses the
    engine sleeps, so that training has the GPU's memory.

    Raises:
        UserError: the student is itself an unmerged adapter.
    """

    name = "vllm"

    def __init__(self, trained: Trainable, setup: TrainSetup) -> None:
        options, self.trained, self.policy = setup.options, trained, setup.student
        if trained.kept:
            raise UserError(
                f"--student {self.policy.name} is an adapter that cannot be merged into its "
                f"{self.policy.weights.dtype} weights, and vLLM serves one adapter at a time: use "
                "--dtype float32, or remove --engine vllm"
            )
        self.settings = VllmSettings.of(
            options,
            MEMORY_SHARE,
            longest_context(setup.pair, STUDENT),
            room_for_rank=None if trained.adapter is None else options.lora_rank,
            can_sleep=True,
            seed=options.seed % 2**32,
        )
        self.engine = VllmEngine(setup.student, self.settings)
        self.engine.sleep(keep_weights=trained.adapter is not None)

    def sample(
        self,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> list[Response]:
        """One response per request, in order, by the current student."""
        self.engine.wake()
        with tempfile.TemporaryDirectory(prefix="decaylab-adapter-") as folder:
            if self.trained.adapter is None:
                self.engine.update_weights(plain_weights(self.trained.model))
            else:
                self.trained.adapter.save_pretrained(folder, save_embedding_layers=False)
                self.engine.take_adapter(Path(folder))
            responses = self.engine.sample(requests, settings, on_progress)
        self.engine.sleep(keep_weights=self.trained.adapter is not None)
        return responses


def training_engines(
    setup: TrainSetup,
    trained: Trainable,
    processes: Processes,
    reporter: Reporter,
    stack: ExitStack,
) -> dict[str, Engine]:
    """The engines of student and teacher. stack: closes vLLM's at the end of the run.

    Raises:
        UserError: vLLM with several processes, or an error of vLLM.
    """
    options = setup.options
    engines: dict[str, Engine] = {
        role: TransformersEngine(policy, batch_rows=options.batch_rows, on_warning=reporter.note)
        for role, policy in ((STUDENT, setup.student), (TEACHER, setup.teacher))
    }
    if options.engine == "vllm":
        if processes.count > 1:
            raise UserError(
                f"--engine vllm trains in one process, and this run has {processes.count}; remove "
                "it, or start one process (--tensor-parallel spreads vLLM's student over GPUs)"
            )
        student = VllmStudent(trained, setup)
        stack.callback(student.engine.close)
        engines[STUDENT] = student
    return engines
