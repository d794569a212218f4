"""What writes the rollouts of training: transformers, or vLLM with what has changed handed over."""

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
"""Of a GPU, for vLLM beside weights, gradients and activations of training, if it is not set."""


class VllmStudent:
    """The student as it is now, in vLLM: its adapter or weights are handed over before each use.

    An adapter is served and not merged: added to weights of 16 bits it would be rounded away.
    Between two uses the engine sleeps, so that training has the GPU's memory.

    Raises:
        UserError: a student that is an adapter itself and not merged.
    """

    name = "vllm"

    def __init__(self, trained: Trainable, setup: TrainSetup) -> None:
        options, self.trained, self.policy = setup.options, trained, setup.student
        if trained.kept:
            raise UserError(
                f"--student {self.policy.name} is an adapter that cannot be merged into its "
                f"{self.policy.weights.dtype} weights, and vLLM serves one adapter at a time: say "
                "--dtype float32, or leave --engine vllm out"
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
        """One response per request, in their order, by the student as it is now."""
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
        UserError: vLLM with several processes, or what it refuses.
    """
    options = setup.options
    engines: dict[str, Engine] = {
        role: TransformersEngine(policy, batch_rows=options.batch_rows, on_warning=reporter.note)
        for role, policy in ((STUDENT, setup.student), (TEACHER, setup.teacher))
    }
    if options.engine == "vllm":
        if processes.count > 1:
            raise UserError(
                f"--engine vllm trains in one process, and this run has {processes.count}; leave "
                "it out, or start one process (--tensor-parallel shares vLLM's student over GPUs)"
            )
        student = VllmStudent(trained, setup)
        stack.callback(student.engine.close)
        engines[STUDENT] = student
    return engines
