"""The vLLM engine against the transformers engine: greedy token by token, sampled by its law and
its accuracy.

What needs vLLM says so; the rest runs anywhere. Run them alone (``pytest -m engine``): vLLM changes
torch's threads for good.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import prepare_smollm2
import pytest
import scipy.stats
import tiny_models as tiny
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from decaylab.errors import UserError
from decaylab.policies import loading, served_policies
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.problems.grading import Grader
from decaylab.problems.sets import load_problems
from decaylab.rollouts import vllm_setup
from decaylab.rollouts.sampling import Request, Response, SamplingSettings, choose
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import VllmEngine, request_seed
from decaylab.rollouts.vllm_setup import CPU_BLOCK, VllmSettings, explained, lora_rank

HOST = LoadSettings("float32", "cpu")
GREEDY = SamplingSettings(temperature=0)
SMALL = VllmSettings(cache_gib=0.25)


def engine_test(function: Any) -> Any:
    missing = importlib.util.find_spec("vllm") is None
    skipped = pytest.mark.skipif(missing, reason="needs engine: vllm is not installed")
    return pytest.mark.engine(skipped(function))


@pytest.fixture(scope="module")
def teacher() -> Policy:
    return loading.load("abacus-teacher", HOST)


@pytest.fixture(scope="module")
def engine(teacher: Policy) -> Iterator[VllmEngine]:
    with VllmEngine(served_policies.serve("abacus-teacher", HOST), SMALL) as made:
        yield made


def asked(
    policy: Policy, count: int, tokens: int = 200, samples: int = 1, stage: str = "teacher"
) -> list[Request]:
    problem_set = load_problems("abacus", limit=count)
    return [
        Request(
            tuple(policy.prompt_ids(one, problem_set.instruction)),
            (),
            tokens,
            stage,
            one.problem_id,
            sample,
        )
        for one in problem_set.problems
        for sample in range(samples)
    ]


def behind_the_student(policy: Policy, count: int, length: int) -> list[Request]:
    """Continuations behind so many tokens of the student's own rollouts, those that ended before
    left out."""
    student = loading.load("abacus-student", HOST)
    plain = asked(student, count, stage="student")
    written = TransformersEngine(student).sample(plain, SamplingSettings(0.7))
    return [
        Request(
            one.prompt_ids,
            response.ids[:length],
            200 - length,
            f"student-prefix/{length}",
            one.problem_id,
            0,
        )
        for one, response in zip(asked(policy, count), written, strict=True)
        if len(response.ids) > length
    ]


@engine_test
def test_greedy_tokens_are_those_of_transformers_up_to_near_ties(
    teacher: Policy, engine: VllmEngine
) -> None:
    requests = (
        asked(teacher, 40)
        + behind_the_student(teacher, 40, 20)
        + behind_the_student(teacher, 40, 45)
    )
    made = engine.sample(requests, GREEDY)
    expected = TransformersEngine(teacher).sample(requests, GREEDY)
    assert tiny.equal_up_to_near_ties(
        teacher.weights, requests, made, expected, GREEDY
    ) >= 0.95 * len(requests)
    ended = [one.stop_reason == "eos" for one in made]
    assert len(ended) > sum(ended) >= 0.7 * len(ended)  # a longer one is cut off at the budget


@engine_test
@pytest.mark.slow
def test_greedy_tokens_of_a_real_model_are_those_of_transformers_up_to_near_ties() -> None:
    folder = str(prepare_smollm2.prepare())
    policy = loading.load(folder, HOST)
    requests = [dataclasses.replace(one, max_new_tokens=40) for one in asked(policy, 6)]
    requests += [
        dataclasses.replace(one, prefix_ids=tuple(policy.encode("First, we")))
        for one in requests[:3]
    ]
    with VllmEngine(
        served_policies.serve(folder, HOST), VllmSettings(cache_gib=0.5, max_model_len=512)
    ) as made_by:
        made = made_by.sample(requests, GREEDY)
    expected = TransformersEngine(policy).sample(requests, GREEDY)
    assert tiny.equal_up_to_near_ties(policy.weights, requests, made, expected, GREEDY) >= 6


@engine_test
@pytest.mark.parametrize(
    "settings", [SamplingSettings(0.7), SamplingSettings(1.3, top_p=0.8, top_k=6)]
)
def test_tokens_are_drawn_from_the_law_that_is_asked_for(
    teacher: Policy, engine: VllmEngine, settings: SamplingSettings
) -> None:
    """4,000 first tokens against the exact law, which inversion at an even grid of uniform numbers
    gives."""
    (one,) = asked(teacher, 1, 1)
    draws = engine.sample(
        [dataclasses.replace(one, sample=place) for place in range(4000)], settings
    )
    counts = np.bincount([response.ids[0] for response in draws], minlength=teacher.head_width)
    with torch.inference_mode():
        logits = (
            teacher.weights(torch.tensor([one.prompt_ids]))
            .logits[0, -1:]
            .float()
            .expand(20_000, -1)
        )
    grid = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    expected = (
        np.bincount(choose(logits, grid, settings)[0].numpy(), minlength=teacher.head_width)
        / 20_000
        * 4000
    )
    likely = expected >= 5
    assert likely.sum() >= 2
    rest = [counts[~likely].sum()], [expected[~likely].sum() + 1e-9]
    seen, wanted = np.append(counts[likely], rest[0]), np.append(expected[likely], rest[1])
    assert scipy.stats.chisquare(seen, wanted * seen.sum() / wanted.sum()).pvalue > 1e-4
    if settings.top_k:
        assert (counts > 0).sum() <= settings.top_k


@engine_test
@pytest.mark.slow
def test_a_small_decay_curve_is_that_of_transformers_within_its_error(
    teacher: Policy, engine: VllmEngine
) -> None:
    """Accuracy alone and behind 40 student tokens: the difference by problem is within 3.5 standard
    errors of zero."""
    problem_set = load_problems("abacus", limit=30)
    gold = {one.problem_id: one.answer or "" for one in problem_set.problems}
    plain, behind = asked(teacher, 30, 320), behind_the_student(teacher, 30, 40)
    sampling = SamplingSettings(0.7, seed=1)
    for requests in (plain, behind):
        asked_for = [
            dataclasses.replace(one, sample=sample) for one in requests for sample in range(8)
        ]
        right = [
            correct(
                asked_for, by.sample(asked_for, sampling), gold, teacher, problem_set.answer_rule
            )
            for by in (engine, TransformersEngine(teacher))
        ]
        by_problem = (right[0] - right[1]).reshape(len(requests), 8).mean(1)
        error = by_problem.std(ddof=1) / np.sqrt(len(requests))
        assert abs(by_problem.mean()) <= 3.5 * error
        assert 0.1 < right[0].mean() < 1


def correct(
    requests: Sequence[Request],
    made: Sequence[Response],
    gold: dict[str, str],
    policy: Policy,
    rule: str,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    texts = [
        policy.decode([*request.prefix_ids, *response.ids])
        for request, response in zip(requests, made, strict=True)
    ]
    with Grader(workers=1) as grader:
        verdicts = grader.grade(
            texts, [gold[one.problem_id] for one in requests], rules=(rule,)
        ).verdicts[rule]
    return np.array([str(verdict) == "correct" for verdict in verdicts], dtype=np.float64)


@engine_test
def test_ids_go_in_and_come_out_as_they_are(
    teacher: Policy, engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids that no text would give back (special tokens in the middle, pieces out of order) reach
    the model unchanged."""
    seen: list[Any] = []
    real = engine.run

    def run(*arguments: Any) -> list[Any]:
        seen.extend(real(*arguments))
        return seen

    monkeypatch.setattr(engine, "run", run)
    odd = Request((5, 0, 1, 3, 2, 300, 7), (1, 0, 9), 5, "s", "p", 0)
    (made,) = engine.sample([odd], GREEDY)
    assert list(seen[0].prompt_token_ids) == [5, 0, 1, 3, 2, 300, 7, 1, 0, 9]
    (expected,) = TransformersEngine(teacher).sample([odd], GREEDY)
    assert made.ids == expected.ids == tuple(seen[0].outputs[0].token_ids)


@engine_test
def test_a_response_ends_with_its_end_token_or_at_its_budget(
    teacher: Policy, engine: VllmEngine
) -> None:
    (whole,) = engine.sample(asked(teacher, 1), GREEDY)
    assert whole.stop_reason == "eos" and whole.ids[-1] in teacher.end_ids
    assert not teacher.end_ids.intersection(whole.ids[:-1])
    length = len(whole.ids)
    cut = [
        dataclasses.replace(asked(teacher, 1)[0], max_new_tokens=budget)
        for budget in (length, length - 1, 1)
    ]
    made = engine.sample(cut, GREEDY)
    assert made == [whole, Response(whole.ids[:-1], "length"), Response(whole.ids[:1], "length")]


@engine_test
def test_neither_order_nor_company_changes_a_rollout(teacher: Policy, engine: VllmEngine) -> None:
    requests = asked(teacher, 12, 80, samples=3)
    settings = SamplingSettings(1.0, seed=3)
    first = engine.sample(requests, settings)
    shuffled = np.random.default_rng(0).permutation(len(requests))
    second = engine.sample([requests[place] for place in shuffled], settings)
    same = sum(first[place] == second[at] for at, place in enumerate(shuffled))
    alone = engine.sample(requests[:3], settings)  # as a resumed run would ask
    # Noise is the same to the bit; only rounding in another batch can move a draw across a
    # boundary.
    assert same >= len(requests) - 1
    assert sum(one == other for one, other in zip(alone, first[:3], strict=True)) >= 2
    assert (
        sum(len(set(first[place : place + 3])) > 1 for place in range(0, 36, 3)) >= 10
    )  # samples of a problem differ
    reseeded = engine.sample(requests, dataclasses.replace(settings, seed=4))
    assert sum(one == other for one, other in zip(first, reseeded, strict=True)) < 12


@engine_test
def test_more_prompts_than_one_step_reads_are_sampled_with_their_seeds(
    teacher: Policy, engine: VllmEngine
) -> None:
    """vLLM sets a generator back where a prompt is read in two parts, and one on the CPU cannot be:
    no prompt is."""
    requests = asked(teacher, 100, 2, samples=2)
    assert sum(len(one.prompt_ids) for one in requests) > 3 * 4096
    distinct = [
        dataclasses.replace(one, prompt_ids=(5, place % 400 + 20, *one.prompt_ids))
        for place, one in enumerate(requests)
    ]
    assert len(engine.sample(distinct, SamplingSettings(0.7))) == 200


@engine_test
def test_prompts_and_prefixes_that_were_read_are_not_read_again(
    teacher: Policy, engine: VllmEngine
) -> None:
    """By vLLM's own counter: whole blocks of 32 tokens are taken from the cache, for samples and
    for longer prefixes."""
    (one,) = asked(teacher, 1)
    prompt = one.prompt_ids + one.prompt_ids  # 2 blocks and more
    written = engine.sample([dataclasses.replace(one, prompt_ids=prompt)], GREEDY)[0].ids
    for length in (0, 20, 40):
        (output,) = engine.run([prompt + written[:length]], [{}])
        whole = (len(prompt) + length - 1) // CPU_BLOCK * CPU_BLOCK  # the last token is always read
        assert output.num_cached_tokens == whole >= 64
    assert engine._llm.reset_prefix_cache()
    (output,) = engine.run([prompt], [{}])
    assert output.num_cached_tokens == 0


@engine_test
def test_a_cache_too_small_for_the_batch_changes_no_token(
    teacher: Policy, engine: VllmEngine
) -> None:
    """vLLM throws rollouts out of a full cache and reads them again; their generators go on where
    they were."""
    requests, settings = asked(teacher, 12, 200, samples=4), SamplingSettings(1.0, seed=5)
    small = VllmSettings(cache_gib=0.004, max_model_len=400)
    with VllmEngine(served_policies.serve("abacus-teacher", HOST), small) as cramped:
        scheduler = cramped._llm.llm_engine.engine_core.engine_core.scheduler
        with mock.patch.object(
            scheduler, "_preempt_request", wraps=scheduler._preempt_request
        ) as thrown_out:
            made = cramped.sample(requests, settings)
    assert thrown_out.call_count > 10
    expected = engine.sample(requests, settings)
    assert sum(one == other for one, other in zip(made, expected, strict=True)) >= len(requests) - 1


@engine_test
def test_a_model_whose_logits_are_nan_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    shutil.copytree(loading.resolve("abacus-student"), folder)
    weights = load_file(folder / "model.safetensors")
    save_file(
        weights | {"model.norm.weight": weights["model.norm.weight"] * math.nan},
        folder / "model.safetensors",
    )
    policy = served_policies.serve(str(folder), HOST)
    with (
        VllmEngine(policy, SMALL) as made_by,
        pytest.raises(UserError, match="NaN in the logits of .*--dtype float32$"),
    ):
        made_by.sample(asked(policy, 2, 5), GREEDY)


@engine_test
def test_a_vllm_that_writes_on_after_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import envs

    monkeypatch.delitem(envs.environment_variables, vllm_setup.NAN_SWITCH)
    with pytest.raises(UserError, match=r"needs vLLM 0.28 or later, found 0\."):
        VllmEngine(served_policies.serve("abacus-teacher", HOST), SMALL)


@engine_test
def test_engines_that_were_closed_hold_no_memory(teacher: Policy) -> None:
    """The cache alone would be 0.5 GiB a time."""
    held = []
    for _ in range(4):
        with VllmEngine(
            served_policies.serve("abacus-teacher", HOST), VllmSettings(cache_gib=0.5)
        ) as made_by:
            made_by.sample(asked(teacher, 2, 5), GREEDY)
        held.append(
            int(Path("/proc/self/statm").read_text().split()[1])
            * os.sysconf("SC_PAGE_SIZE")
            / 2**30
        )
    assert held[-1] - held[0] < 0.1


@engine_test
def test_progress_counts_every_token_and_every_rollout(teacher: Policy, engine: VllmEngine) -> None:
    told: list[tuple[int, int]] = []
    made = engine.sample(
        asked(teacher, 5), GREEDY, lambda tokens, finished: told.append((tokens, finished))
    )
    assert sum(tokens for tokens, _ in told) == sum(len(one.ids) for one in made)
    assert [finished for _, finished in told] == [1] * 5


@engine_test
def test_an_interrupted_call_leaves_nothing_behind(teacher: Policy, engine: VllmEngine) -> None:
    def stop(tokens: int, finished: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.sample(asked(teacher, 8), GREEDY, stop)
    assert not engine._llm.llm_engine.has_unfinished_requests()
    assert len(engine.sample(asked(teacher, 2, 5), GREEDY)) == 2


@engine_test
def test_what_goes_beyond_the_context_or_would_be_changed_is_refused_before_anything_runs(
    teacher: Policy, engine: VllmEngine
) -> None:
    fits, (long,) = asked(teacher, 2), asked(teacher, 1, 1000)
    told: list[Any] = []
    with pytest.raises(
        UserError, match=r"teacher .*/0 may need 1\d\d\d positions, more than the 1024"
    ):
        engine.sample([*fits, long], GREEDY, lambda *progress: told.append(progress))
    for temperature in (0.001, 2.5):
        with pytest.raises(UserError, match="--temperature must be 0 or from 0.01 to 2"):
            engine.sample(fits, SamplingSettings(temperature))
    assert not told
    with pytest.raises(UserError, match="exceeds the context"):
        VllmEngine(teacher, VllmSettings(max_model_len=2048))


@engine_test
def test_every_parameter_of_vllm_that_could_change_a_token_is_set() -> None:
    from vllm import SamplingParams

    # on which token comes next: what is returned, how it is shown, and the engine's own bookkeeping
    without_effect = {
        *(
            "prompt_logprob_token_ids",
            "prompt_logprob_start",
            "logprob_token_ids",
            "flat_logprobs",
            "output_kind",
        ),
        *(
            "skip_special_tokens",
            "spaces_between_special_tokens",
            "include_stop_str_in_output",
            "stream_interval",
        ),
        *(
            "skip_clone",
            "output_text_buffer_length",
            "skip_reading_prefix_cache",
            "routed_experts_prompt_start",
        ),
        *(
            "extra_args",
            "structured_outputs",
            "thinking_token_budget",
            "repetition_detection",
            "watermarking",
        ),
        "trace_decode_token_ids",  # off unless given, and no model's configuration gives them
    }
    fields = {name for name in SamplingParams.__struct_fields__ if not name.startswith("_")}
    assert fields - without_effect == vllm_setup.PARAMETERS.keys()


@engine_test
def test_of_a_models_own_generation_settings_only_its_ends_are_used(
    teacher: Policy, tmp_path: Path
) -> None:
    plain = loading.resolve("abacus-student")
    folder = tmp_path / "student"
    shutil.copytree(plain, folder)
    requests = asked(loading.load("abacus-student", HOST), 4, 60)
    expected = TransformersEngine(loading.load("abacus-student", HOST)).sample(requests, GREEDY)
    third = expected[0].ids[3]
    told = {"repetition_penalty": 5.0, "temperature": 0.1, "top_k": 1, "eos_token_id": [1, third]}
    (folder / "generation_config.json").write_text(json.dumps(told))
    with VllmEngine(served_policies.serve(str(folder), HOST), SMALL) as made_by:
        made = made_by.sample(requests, GREEDY)
    for one, other in zip(made, expected, strict=True):
        end = next(
            (place for place, token in enumerate(other.ids) if token in (1, third)),
            len(other.ids) - 1,
        )
        assert one.ids == other.ids[: end + 1]


def adapter_folder(path: Path, seed: int = 0, rank: int = 4) -> Path:
    """An adapter on the embedded student that changes what it writes."""
    model = loading.load("abacus-student", HOST).weights
    made = get_peft_model(
        model,
        LoraConfig(r=rank, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"),
    )
    torch.manual_seed(seed)
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    made.save_pretrained(str(path), save_embedding_layers=False)
    told = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(
        json.dumps(told | {"base_model_name_or_path": "abacus-student"})
    )
    return path


@engine_test
@pytest.mark.parametrize("adapters", ["merged", "served"])
def test_an_adapter_merged_or_served_writes_what_transformers_writes(
    tmp_path: Path, adapters: Any
) -> None:
    folder = str(adapter_folder(tmp_path / "adapter"))
    policy = loading.load(folder, HOST)
    requests = asked(policy, 10, 60)
    expected = TransformersEngine(policy).sample(requests, GREEDY)
    with VllmEngine(
        served_policies.serve(folder, HOST), dataclasses.replace(SMALL, adapters=adapters)
    ) as made_by:
        made = made_by.sample(requests, GREEDY)
        scratch = made_by.source.scratch
    assert tiny.equal_up_to_near_ties(policy.weights, requests, made, expected, GREEDY) >= 8
    base = TransformersEngine(loading.load("abacus-student", HOST)).sample(requests, GREEDY)
    assert (
        sum(one == other for one, other in zip(made, base, strict=True)) < 8
    )  # the adapter is not passed over
    assert (scratch is not None) == (adapters == "merged")
    assert scratch is None or not Path(scratch.name).exists()


@engine_test
def test_new_weights_replace_the_old_ones_and_what_was_cached_of_them(tmp_path: Path) -> None:
    """Greedy tokens follow the weights that were handed over last, also where prompt and prefix had
    been read before."""
    policy = loading.load("abacus-student", HOST)
    other = loading.load(str(adapter_folder(tmp_path / "adapter", seed=1)), HOST)
    requests = asked(policy, 10, 60)
    with VllmEngine(policy, SMALL) as made_by:
        before = made_by.sample(requests, GREEDY)
        made_by.update_weights(served_policies.plain_weights(other.weights))
        changed = made_by.sample(requests, GREEDY)
        made_by.update_weights(served_policies.plain_weights(policy.weights))
        after = made_by.sample(requests, GREEDY)
        few = list(served_policies.plain_weights(other.weights))[:5]
        with pytest.raises(
            ValueError, match=r"weights are missing, such as model.layers.0.*; give all"
        ):
            made_by.update_weights(few)
        assert made_by.sample(requests, GREEDY) == before
    expected = TransformersEngine(other).sample(requests, GREEDY)
    assert tiny.equal_up_to_near_ties(other.weights, requests, changed, expected, GREEDY) >= 8
    assert changed != before
    assert after == before


@engine_test
def test_an_engine_that_serves_an_adapter_takes_no_new_weights(tmp_path: Path) -> None:
    folder = str(adapter_folder(tmp_path / "adapter"))
    with (
        VllmEngine(
            served_policies.serve(folder, HOST), dataclasses.replace(SMALL, adapters="served")
        ) as made_by,
        pytest.raises(ValueError, match="adapters='merged'"),
    ):
        made_by.update_weights([])


@engine_test
def test_two_engines_stand_side_by_side_and_close_one_by_one(
    teacher: Policy, engine: VllmEngine
) -> None:
    requests = asked(teacher, 8, 60)
    student = VllmEngine(served_policies.serve("abacus-student", HOST), SMALL)
    before = engine.sample(requests, GREEDY)
    assert student.sample(requests, GREEDY) != before
    student.sleep()
    student.wake()
    student.close()
    student.close()
    with pytest.raises(ValueError, match="is closed"):
        student.sample(requests, GREEDY)
    assert engine.sample(requests, GREEDY) == before


@engine_test
@pytest.mark.parametrize(
    ("settings", "change", "message"),
    [
        (
            SMALL,
            {"architectures": ["NoSuchForCausalLM"], "model_type": "qwen3"},
            "use --engine transformers",
        ),
        (
            VllmSettings(cache_gib=1e-5),
            {},
            "too little memory for .* gpu_memory_share or cache_gib",
        ),
        (VllmSettings(cache_gib=1e6), {}, "too little memory for"),
    ],
)
def test_what_vllm_cannot_do_is_said_in_one_line(
    tmp_path: Path, settings: VllmSettings, change: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "student"
    shutil.copytree(loading.resolve("abacus-student"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(UserError, match=message) as caught:
        VllmEngine(served_policies.serve(str(folder), HOST), settings)
    assert "\n" not in str(caught.value)


def test_importing_the_engine_imports_no_vllm() -> None:
    code = (
        "import sys\nfrom decaylab.policies import served_policies\nfrom decaylab.tokens import "
        "served_scores\n"
        "from decaylab.rollouts import vllm_engine, vllm_setup\n"
        "assert 'vllm' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_without_vllm_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    for name in vllm_setup.ENVIRONMENT:
        monkeypatch.setenv(name, "0")
    with pytest.raises(
        UserError, match=r"pip install \"decaylab\[vllm\]\".*install_vllm_cpu.sh"
    ) as caught:
        VllmEngine(served_policies.serve("abacus-teacher", HOST))
    assert "\n" not in str(caught.value)


def test_a_seed_belongs_to_one_continuation_and_is_the_same_everywhere() -> None:
    one = Request((5, 6), (7,), 10, "teacher", "p1", 0)
    changes: list[dict[str, Any]] = [
        {"stage": "student"},
        {"problem_id": "p2"},
        {"sample": 1},
        {"prefix_ids": (7, 8)},
        {"prefix_ids": ()},
    ]
    seeds = {request_seed(0, one), request_seed(1, one)} | {
        request_seed(0, dataclasses.replace(one, **change)) for change in changes
    }
    assert len(seeds) == 7 and all(0 <= seed < 2**63 for seed in seeds)
    assert (
        request_seed(0, one) == 1100899154341889071
    )  # another value would make every finished run another one
    assert request_seed(0, dataclasses.replace(one, max_new_tokens=20)) == request_seed(0, one)


@pytest.mark.parametrize("name", ["abacus-teacher", "abacus-student", "adapter"])
def test_a_served_policy_is_the_loaded_one_without_its_weights(tmp_path: Path, name: str) -> None:
    if name == "adapter":
        name = str(adapter_folder(tmp_path / "adapter"))
    loaded, served = loading.load(name, HOST), served_policies.serve(name, HOST)
    assert (served.identity, served.end_ids, served.pad_id) == (
        loaded.identity,
        loaded.end_ids,
        loaded.pad_id,
    )
    assert (served.context_length, served.head_width) == (loaded.context_length, loaded.head_width)
    (one,) = load_problems("abacus", limit=1).problems
    assert served.prompt_ids(one, "x") == loaded.prompt_ids(one, "x")
    assert served.model is None and "float32" in served.precision
    with pytest.raises(ValueError, match="without weights"):
        _ = served.weights


def test_the_precision_is_always_said() -> None:
    served = served_policies.serve("abacus-teacher", LoadSettings(device="cpu"))
    assert served_policies.serving_dtype(served) == "float32"
    assert served_policies.serving_dtype(served, "bfloat16") == "bfloat16"
    on_gpu = served_policies.serve("abacus-teacher", LoadSettings(device="cuda"))
    on_gpu.config.dtype = torch.bfloat16
    assert served_policies.serving_dtype(on_gpu) == "bfloat16"
    loaded = SimpleNamespace(settings=LoadSettings(), model=SimpleNamespace(dtype=torch.float16))
    assert served_policies.serving_dtype(loaded) == "float16"


def test_only_an_adapter_that_vllm_can_apply_is_served(tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "adapter", rank=4)
    served = served_policies.serve(str(folder), HOST)
    found = served_policies.source(served, "served", "float32")
    assert (found.adapter, found.rank, found.scratch) == (str(folder), 4, None)
    assert found.model == str(loading.resolve("abacus-student"))
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(told | {"use_dora": True}))
    with pytest.raises(UserError, match="use_dora=True; use --adapters merged"):
        served_policies.source(served, "served", "float32")


def test_a_rank_gets_the_smallest_room_that_holds_it() -> None:
    assert [lora_rank("a", rank, VllmSettings()) for rank in (1, 4, 32, 33, 512)] == [
        1,
        8,
        32,
        64,
        512,
    ]
    assert lora_rank("a", 4, VllmSettings(max_lora_rank=16)) == 16
    with pytest.raises(UserError, match="rank 32, more than max_lora_rank 16"):
        lora_rank("a", 32, VllmSettings(max_lora_rank=16))
    with pytest.raises(UserError, match="rank 600, more than max_lora_rank 512"):
        lora_rank("a", 600, VllmSettings())


def test_weights_are_handed_over_under_a_checkpoints_names_and_never_without_their_adapter() -> (
    None
):
    model = loading.load("abacus-student", HOST).weights
    plain = dict(served_policies.plain_weights(model))
    names = set(plain)
    expected = {name: weight.clone() for name, weight in plain.items()}
    adapted = get_peft_model(
        model, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    )
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.constant_(weight, 0.1)
    with pytest.raises(ValueError, match="4 layers have an adapter that is not merged"):
        dict(served_policies.plain_weights(adapted))
    adapted.merge_adapter()
    merged = dict(served_policies.plain_weights(adapted))
    assert merged.keys() == names and "lm_head.weight" not in names  # tied to the embeddings
    changed = {name for name in names if not torch.equal(merged[name], expected[name])}
    assert changed == {name for name in names if "q_proj" in name and "norm" not in name}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "1 validation error for ModelConfig\n  Value error, Model architectures ['X'] are not "
            "supported for now. [type=v",
            "Say",
        ),
        (
            "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`",
            "too little memory for m",
        ),
        ("CUDA out of memory. Tried to allocate 2 GiB", "too little memory for m"),
        ("Engine core initialization failed. See root cause above.", "workers for m did not start"),
        (
            "NaNs detected in logits: {'0-9a66': 494}",
            "NaN in the logits of m; try --dtype float32$",
        ),
        ("something else\nand more", "vLLM cannot run m: something else$"),
    ],
)
def test_an_error_of_vllm_becomes_one_line(said: str, message: str) -> None:
    text = str(explained(ValueError(said), "m"))
    assert "\n" not in text
    if message == "Say":
        assert (
            text == "vLLM cannot run m (Model architectures ['X'] are not supported for now.); use "
            "--engine transformers"
        )
    else:
        assert re.search(message, text), text


def test_settings_out_of_range_are_refused() -> None:
    for wrong in (
        {"tensor_parallel": 0},
        {"gpu_memory_share": 0},
        {"max_sequences": 0},
        {"max_lora_rank": 513},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            VllmSettings(**wrong)
