"""Engines: policies that write rollouts, with random numbers that do not depend on the batch.

    >>> from decaylab.api import engines
    >>> student = engines.load("abacus-student")
    >>> engine = engines.TransformersEngine(student)
    >>> prompt = tuple(student.encode("To find the answer, add 2 and 3."))
    >>> request = engines.Request(prompt, (), 8, "mine", "problem-0", 0)
    >>> (response,) = engine.sample([request], engines.SamplingSettings(temperature=0))
    >>> len(response.ids) <= 8 and response.stop_reason in ("eos", "length")
    True

A request has prompt, prefix and most new tokens; stage, problem and sample choose its random
numbers. `Engine` is the protocol: an engine of your own has ``name``, ``policy`` and ``sample``.
`VllmEngine` needs the extra ``vllm``. `load` loads a policy by name, like the options ``student``
and ``teacher``.
"""

from __future__ import annotations

from decaylab.policies.loading import load
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.rollouts.sampling import Engine, Request, Response, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.rollouts.vllm_setup import VllmSettings

__all__ = [
    "Engine",
    "LoadSettings",
    "Policy",
    "Request",
    "Response",
    "SamplingSettings",
    "TransformersEngine",
    "VllmEngine",
    "VllmSettings",
    "load",
]
