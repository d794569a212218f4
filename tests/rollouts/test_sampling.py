"""Sampling: the noise, the law of one draw, and the transformers engine against `generate` and
against itself."""

from __future__ import annotations

import itertools
import math
import random
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tiny_models as tiny
import torch
import transformers
from tiny_models import END, IDS, PAD, SIZES, equal_up_to_near_ties, random_requests

from decaylab.errors import UserError
from decaylab.policies import loading
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Request, Response, SamplingSettings, choose, uniforms
from decaylab.rollouts.transformers_engine import TransformersEngine

GREEDY = SamplingSettings(temperature=0)
SAMPLED = SamplingSettings(temperature=1.0, seed=3)
REQUEST = Request((5, 6), (), 40, "student", "p1", 0)
NO_ID = 10**6  # an end id that no model writes


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny.tiny_llama()


@pytest.fixture(scope="module", params=["abacus-student", "abacus-teacher"])
def embedded(request: pytest.FixtureRequest) -> loading.Policy:
    return loading.load(request.param, loading.LoadSettings(dtype="float32", device="cpu"))


def engine(model: Any, **options: Any) -> TransformersEngine:
    return TransformersEngine(tiny.bare_policy(model), **options)


def endless(model: Any, **options: Any) -> TransformersEngine:
    return TransformersEngine(tiny.bare_policy(model, end_ids=[NO_ID]), **options)


# The noise


@pytest.mark.parametrize(
    "seed, request_",
    [
        (1, REQUEST),
        (0, replace(REQUEST, stage="teacher")),
        (0, replace(REQUEST, problem_id="p2")),
        (0, replace(REQUEST, sample=1)),
    ],
    ids=["seed", "stage", "problem", "sample"],
)
def test_each_part_of_the_key_gives_other_noise(seed: int, request_: Request) -> None:
    first, second = uniforms(0, REQUEST), uniforms(seed, request_)
    assert not np.isin(first, second).any()
    assert np.array_equal(uniforms(seed, request_), second)


def test_noise_does_not_depend_on_the_prompt_or_on_prefix_ids() -> None:
    other = replace(REQUEST, prompt_ids=(9, 9, 9), prefix_ids=(1, 2))
    same_length = replace(other, prefix_ids=(7, 8))
    assert np.array_equal(uniforms(0, other), uniforms(0, same_length))


@pytest.mark.parametrize("prefix", [1, 7, 39])
def test_noise_is_indexed_by_position_in_the_response(prefix: int) -> None:
    continued = replace(REQUEST, prefix_ids=(8,) * prefix, max_new_tokens=40 - prefix)
    assert np.array_equal(uniforms(0, continued), uniforms(0, REQUEST)[prefix:])
    shorter = replace(REQUEST, max_new_tokens=prefix)
    assert np.array_equal(uniforms(0, shorter), uniforms(0, REQUEST)[:prefix])


def test_noise_is_uniform_in_the_half_open_unit_interval() -> None:
    drawn = np.concatenate(
        [uniforms(0, replace(REQUEST, sample=sample, max_new_tokens=500)) for sample in range(40)]
    )
    assert drawn.min() >= 0 and drawn.max() < 1
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_square < 45.3  # the 0.1 % point with 19 degrees of freedom; the numbers are fixed


@pytest.mark.parametrize(
    "changes", [{"prompt_ids": ()}, {"max_new_tokens": 0}, {"max_new_tokens": -3}]
)
def test_a_request_for_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is empty|must be at least 1"):
        replace(REQUEST, **changes)


@pytest.mark.parametrize(
    "changes", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}, {"top_k": -1}]
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} must .* got"):
        SamplingSettings(**changes)


# The law of one draw

GRID = 4000
LOGITS = [1.3, -0.4, 0.2, -2.0]


def drawn(
    logits: Sequence[float], settings: SamplingSettings, uniform: Sequence[float]
) -> list[int]:
    rows = torch.tensor([list(logits)] * len(uniform), dtype=torch.float32)
    tokens, broken = choose(rows, torch.tensor(uniform, dtype=torch.float64), settings)
    assert not broken.any()
    return tokens.tolist()


def shares(logits: Sequence[float], settings: SamplingSettings) -> list[float]:
    """Of the cells of a grid over [0, 1), the share that gives each token."""
    tokens = drawn(logits, settings, [(cell + 0.5) / GRID for cell in range(GRID)])
    assert tokens == sorted(tokens)  # the inverse of a cumulative distribution in the order of ids
    return [tokens.count(token) / GRID for token in range(len(logits))]


def law(logits: Sequence[float], settings: SamplingSettings) -> list[float]:
    """Temperature, then top-k, then top-p, from their definitions.

    top-k keeps all that are at least as probable as the k-th. top-p keeps the most probable of the
    smallest sets whose mass reaches top_p, found among all subsets; of a tie the one with the lower
    ids.
    """
    weights = [math.exp(x / settings.temperature) for x in logits]
    if settings.top_k:
        least = sorted(weights, reverse=True)[min(settings.top_k, len(weights)) - 1]
        weights = [w if w >= least else 0.0 for w in weights]
    probabilities = [w / sum(weights) for w in weights]
    for size in range(1, len(logits) + 1):
        subsets = itertools.combinations(range(len(logits)), size)
        best = max(
            subsets, key=lambda subset: sum(probabilities[i] for i in subset)
        )  # the first of equals
        if sum(probabilities[i] for i in best) >= settings.top_p - 1e-12 or size == len(logits):
            break
    kept = [p if i in best else 0.0 for i, p in enumerate(probabilities)]
    return [p / sum(kept) for p in kept]


@pytest.mark.parametrize("temperature", [0.3, 0.7, 1.0, 2.0])
def test_a_grid_of_uniforms_reproduces_the_softmax_to_its_resolution(temperature: float) -> None:
    settings = SamplingSettings(temperature)
    expected = torch.tensor(LOGITS, dtype=torch.float64).div(temperature).softmax(-1).tolist()
    assert shares(LOGITS, settings) == pytest.approx(expected, abs=1 / GRID)
    assert law(LOGITS, settings) == pytest.approx(expected)
    if temperature != 1:
        wrong_way = torch.tensor(LOGITS, dtype=torch.float64).mul(temperature).softmax(-1).tolist()
        assert shares(LOGITS, settings) != pytest.approx(wrong_way, abs=0.02)


def test_each_cell_is_closed_below_and_open_above() -> None:
    quarters = [0.0, 0.25 - 1e-12, 0.25, 0.5 - 1e-12, 0.5, 0.75, 1 - 2**-53]
    assert drawn([0.0] * 4, SAMPLED, quarters) == [0, 0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("impossible", [[0], [3], [0, 1], [2, 3], [0, 3], [1, 2]])
def test_an_impossible_token_is_never_chosen_at_either_end(impossible: list[int]) -> None:
    logits = [-math.inf if token in impossible else LOGITS[token] for token in range(4)]
    uniform = [0.0, 2**-53, *np.linspace(0, 1, 200, endpoint=False), 1 - 2**-53]
    for temperature in (0.7, 1.0, 0.0):
        assert not set(drawn(logits, SamplingSettings(temperature), uniform)) & set(impossible)


def test_the_ends_hold_for_many_tokens_whose_sum_is_not_quite_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 5000, generator=generator) * 3
    logits[:, 4000:] = -math.inf
    logits[:, :10] = -math.inf
    for end in (0.0, 1 - 2**-53):
        tokens, _ = choose(logits, torch.full((200,), end, dtype=torch.float64), SAMPLED)
        assert ((tokens >= 10) & (tokens < 4000)).all()


@pytest.mark.parametrize("top_k", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.5, 0.01])
def test_truncation_follows_its_definition(top_k: int, top_p: float) -> None:
    rng = random.Random(top_k * 100 + round(top_p * 100))
    for temperature in (0.7, 1.0):
        settings = SamplingSettings(temperature, top_p, top_k)
        logits = [rng.gauss(0, 1.5) for _ in range(5)]
        assert shares(logits, settings) == pytest.approx(law(logits, settings), abs=1 / GRID)


@pytest.mark.parametrize(
    "top_p, expected",
    [
        (0.25, [1.0, 0, 0, 0]),  # reached exactly by one
        (0.26, [0.5, 0.5, 0, 0]),
        (0.5, [0.5, 0.5, 0, 0]),
        (0.75, [1 / 3, 1 / 3, 1 / 3, 0]),
        (1.0, [0.25] * 4),
    ],
)
def test_of_equally_probable_tokens_top_p_keeps_the_lower_ids(
    top_p: float, expected: list[float]
) -> None:
    settings = SamplingSettings(1.0, top_p)
    assert shares([0.0] * 4, settings) == pytest.approx(expected, abs=1 / GRID)
    assert law([0.0] * 4, settings) == pytest.approx(expected)


def test_top_k_keeps_all_that_tie_with_the_last() -> None:
    assert shares([1.0, 0.0, 0.0, -1.0], SamplingSettings(1.0, top_k=2)) == pytest.approx(
        law([1.0, 0.0, 0.0, -1.0], SamplingSettings(1.0, top_k=2)), abs=1 / GRID
    )
    assert shares([1.0, 0.0, 0.0, -1.0], SamplingSettings(1.0, top_k=2))[1:3] != [0, 0]


def test_top_p_is_taken_of_what_top_k_has_left() -> None:
    probabilities = [
        0.4,
        0.3,
        0.2,
        0.1,
    ]  # of the first two .4/.7 = .571 alone reaches .55; of all four it takes two
    settings = SamplingSettings(1.0, top_p=0.55, top_k=2)
    assert shares([math.log(p) for p in probabilities], settings) == [1, 0, 0, 0]


def test_temperature_zero_takes_the_largest_logit_whatever_the_noise() -> None:
    assert set(drawn(LOGITS, GREEDY, [0.0, 0.3, 0.999])) == {0}
    assert set(drawn(LOGITS[::-1], replace(GREEDY, top_k=1, top_p=0.1), [0.0, 0.3, 0.999])) == {3}


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED, SamplingSettings(0.7, 0.9, 2)])
def test_rows_without_a_distribution_are_flagged_and_no_others(settings: SamplingSettings) -> None:
    logits = torch.tensor([LOGITS] * 5)
    logits[1, 3] = math.nan
    logits[2, 0] = math.inf
    logits[3] = -math.inf
    logits[4, 1:] = -math.inf
    tokens, broken = choose(logits, torch.full((5,), 0.5, dtype=torch.float64), settings)
    assert broken.tolist() == [False, True, True, True, False]
    assert int(tokens[4]) == 0


# The engine against transformers' own generate

ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, **IDS),
    "qwen2": lambda: transformers.Qwen2Config(**SIZES, **IDS),
    "qwen2-sliding": lambda: transformers.Qwen2Config(
        **SIZES, **IDS, use_sliding_window=True, sliding_window=8, max_window_layers=1
    ),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, **IDS, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(**SIZES, **IDS, head_dim=8, sliding_window=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        **SIZES,
        **IDS,
        head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    ),
    "mistral": lambda: transformers.MistralConfig(**SIZES, **IDS, sliding_window=8),
    "phi3": lambda: transformers.Phi3Config(**SIZES, **IDS, sliding_window=8),
    "olmo2": lambda: transformers.Olmo2Config(**SIZES, **IDS),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=64, n_embd=32, n_layer=3, n_head=4, n_positions=256, **IDS
    ),
    "gpt-neox": lambda: transformers.GPTNeoXConfig(**{**SIZES, "num_key_value_heads": 4}, **IDS),
    "deepseek3": lambda: transformers.DeepseekV3Config(
        **{**SIZES, "num_key_value_heads": 4},
        **IDS,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
        num_experts_per_tok=2,
        q_lora_rank=8,
        kv_lora_rank=8,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=8,
        moe_intermediate_size=16,
    ),
    "gpt-oss": lambda: transformers.GptOssConfig(
        **SIZES, **IDS, head_dim=8, sliding_window=8, num_local_experts=4, num_experts_per_tok=2
    ),
}
RECURRENT: dict[str, Callable[[], Any]] = {
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, state_size=4, **IDS
    ),
    "lfm2": lambda: transformers.Lfm2Config(
        **SIZES, **IDS, layer_types=["conv", "full_attention", "conv"]
    ),
    "qwen3-next": lambda: transformers.Qwen3NextConfig(
        **SIZES,
        **IDS,
        head_dim=8,
        num_experts=4,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
}
MIXED_LENGTHS = [(5, 0), (30, 0), (30, 9), (1, 0), (5, 20), (1, 13)]


def built(config: Any) -> Any:
    return tiny.randomised(transformers.AutoModelForCausalLM.from_config(config))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_equals_generate_for(architecture: str) -> None:
    """Batched, with contexts on either side of a sliding window of 8, prefixes and a prompt of one
    token."""
    model = built(ARCHITECTURES[architecture]())
    requests = random_requests(MIXED_LENGTHS, max_new_tokens=20)
    made = engine(model).sample(requests, GREEDY)
    expected = tiny.greedy_by_generate(model, requests, [END], PAD)
    assert equal_up_to_near_ties(model, requests, made, expected, GREEDY) >= len(requests) - 1
    assert (
        len({token for response in made for token in response.ids}) > 3
    )  # not one token over and over


@pytest.mark.parametrize("architecture", RECURRENT)
def test_a_model_without_an_ordinary_cache_is_refused(architecture: str) -> None:
    model = built(RECURRENT[architecture]())
    with pytest.raises(
        UserError, match=f"cannot sample from tiny .{type(model).__name__}.*key-value cache"
    ):
        engine(model).sample(random_requests([(5, 0)]), GREEDY)


def test_a_model_that_ignores_the_cache_is_refused(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = llama.forward
    monkeypatch.setattr(
        llama,
        "forward",
        lambda past_key_values, use_cache, **rest: forward(use_cache=False, **rest),
    )
    with pytest.raises(UserError, match="does not store every token in the given cache"):
        engine(llama).sample(random_requests([(5, 0)]), GREEDY)


def test_an_error_of_a_model_that_has_worked_is_not_put_down_to_its_cache(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = engine(llama)
    one.sample(random_requests([(5, 0)], 2), GREEDY)
    monkeypatch.setattr(llama, "forward", lambda **rest: {}["gone"])
    with pytest.raises(KeyError, match="gone"):
        one.sample(random_requests([(5, 0)], 2), GREEDY)


def abacus_requests(policy: loading.Policy, count: int, max_new_tokens: int) -> list[Request]:
    """Prompts of the embedded pair's own kind; every third continues a prefix."""
    rng = random.Random(7)
    found = []
    for number in range(count):
        facts = [
            f"Ann has {rng.randrange(2, 40)} pens and buys {rng.randrange(2, 20)} more."
            for _ in range(number % 4 + 1)
        ]
        problem = Problem(f"p{number}", " ".join(facts) + " How many pens does she have?", None)
        prefix = tuple(policy.encode("12+3=15")[:number]) if number % 3 == 0 else ()
        prompt = tuple(policy.prompt_ids(problem, ""))
        found.append(Request(prompt, prefix, max_new_tokens, "s", problem.problem_id, number % 2))
    return found


def test_greedy_equals_generate_on_the_embedded_pair(embedded: loading.Policy) -> None:
    requests = abacus_requests(embedded, 12, 50)
    made = TransformersEngine(embedded).sample(requests, GREEDY)
    expected = tiny.greedy_by_generate(
        embedded.model, requests, sorted(embedded.end_ids), embedded.pad_id
    )
    assert equal_up_to_near_ties(embedded.model, requests, made, expected, GREEDY) >= 10


def test_the_near_tie_check_refuses_a_token_that_is_no_tie(llama: Any) -> None:
    requests = random_requests([(5, 0)], 6)
    for settings in (GREEDY, SAMPLED):
        made = endless(llama).sample(requests, settings)
        wrong = [
            Response(
                (*made[0].ids[:3], (made[0].ids[3] + 20) % tiny.VOCAB, *made[0].ids[4:]), "length"
            )
        ]
        with pytest.raises(AssertionError, match="apart"):
            equal_up_to_near_ties(llama, requests, made, wrong, settings)


# The engine against itself


def test_a_rollout_does_not_depend_on_order_or_company(embedded: loading.Policy) -> None:
    settings = SamplingSettings(0.7, seed=11)
    requests = abacus_requests(embedded, 10, 40)
    reference = TransformersEngine(embedded, batch_rows=64).sample(requests, settings)
    assert TransformersEngine(embedded, batch_rows=64).sample(requests, settings) == reference
    for batch_rows in (1, 3):
        shuffled = random.Random(batch_rows).sample(range(len(requests)), len(requests))
        made = TransformersEngine(embedded, batch_rows=batch_rows).sample(
            [requests[i] for i in shuffled], settings
        )
        in_order = [made[shuffled.index(i)] for i in range(len(requests))]
        assert equal_up_to_near_ties(embedded.model, requests, in_order, reference, settings) >= 9


def test_another_seed_stage_or_sample_is_another_rollout(llama: Any) -> None:
    request = random_requests([(9, 0)])[0]
    others = [
        request,
        replace(request, stage="t"),
        replace(request, sample=1),
        replace(request, problem_id="q"),
    ]
    made = endless(llama).sample(others, SAMPLED) + endless(llama).sample(
        [request], replace(SAMPLED, seed=4)
    )
    assert len({response.ids for response in made}) == 5


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED, SamplingSettings(0.8, 0.9, 20, seed=2)])
def test_a_rollout_continued_from_its_own_prefix_is_itself(
    llama: Any, settings: SamplingSettings
) -> None:
    """With the same key; the stages of a measurement have keys of their own."""
    requests = random_requests([(4, 0), (17, 0), (9, 0)], 30)
    whole = endless(llama).sample(requests, settings)
    cut = [
        (
            replace(request, prefix_ids=response.ids[:at], max_new_tokens=30 - at),
            Response(response.ids[at:], "length"),
        )
        for request, response in zip(requests, whole, strict=True)
        for at in (1, 13, 29)
    ]
    made = endless(llama).sample([request for request, _ in cut], settings)
    expected = [rest for _, rest in cut]
    if settings.top_p == 1:
        assert (
            equal_up_to_near_ties(llama, [request for request, _ in cut], made, expected, settings)
            >= 8
        )
    else:
        assert made == expected


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_padding_and_shared_prefixes_change_nothing(
    architecture: str, settings: SamplingSettings
) -> None:
    model = built(ARCHITECTURES[architecture]())
    short, long = random_requests([(3, 0), (60, 40)])
    one_token = replace(short, prompt_ids=(9,))
    prefix = long.prefix_ids
    requests = [
        short,
        replace(short, sample=1),  # the same prompt again
        one_token,
        replace(one_token, prefix_ids=(4,)),
        long,
        replace(long, prefix_ids=()),
        *(replace(long, prefix_ids=prefix[:cut]) for cut in (1, 17, 39)),  # nested
        replace(long, prefix_ids=(*prefix[:17], 2, 3)),  # branches off
        replace(short, prefix_ids=prefix),  # another prompt's prefix
    ]
    together = endless(model).sample(requests, settings)
    alone = [endless(model).sample([request], settings)[0] for request in requests]
    assert equal_up_to_near_ties(model, requests, together, alone, settings) >= len(requests) - 1


def test_rows_that_leave_a_batch_do_not_change_the_others(llama: Any) -> None:
    """Budgets from 1 to 60: the batch shrinks many times, and loses its longest and its shortest
    contexts."""
    requests = random_requests([(length, length % 5) for length in (40, 3, 25, 1, 12, 33, 7, 18)])
    budgets = [3, 60, 1, 45, 12, 30, 59, 1]
    requests = [
        replace(r, max_new_tokens=budget) for r, budget in zip(requests, budgets, strict=True)
    ]
    made = endless(llama).sample(requests, SAMPLED)
    alone = [endless(llama).sample([request], SAMPLED)[0] for request in requests]
    assert [len(response.ids) for response in made] == budgets
    assert equal_up_to_near_ties(llama, requests, made, alone, SAMPLED) >= 7


# Where a response stops


@pytest.fixture(scope="module")
def spoken(llama: Any) -> tuple[Request, tuple[int, ...]]:
    """A request and what is greedily written where nothing ends a turn."""
    request = random_requests([(6, 0)], 16)[0]
    return request, endless(llama).sample([request], GREEDY)[0].ids


def test_the_end_token_is_part_of_the_response(
    llama: Any, spoken: tuple[Request, tuple[int, ...]]
) -> None:
    request, ids = spoken
    end = ids[5]
    policy = tiny.bare_policy(llama, end_ids=[end])
    assert TransformersEngine(policy).sample([request], GREEDY) == [
        Response(ids[: ids.index(end) + 1], "eos")
    ]


def test_a_response_that_is_cut_off_gets_no_end_token(
    llama: Any, spoken: tuple[Request, tuple[int, ...]]
) -> None:
    request, ids = spoken
    assert endless(llama).sample([replace(request, max_new_tokens=9)], GREEDY) == [
        Response(ids[:9], "length")
    ]
    at_the_end = ids.index(ids[8])
    policy = tiny.bare_policy(llama, end_ids=[ids[at_the_end]])
    budget = replace(request, max_new_tokens=at_the_end + 1)
    assert TransformersEngine(policy).sample([budget], GREEDY) == [
        Response(ids[: at_the_end + 1], "eos")
    ]


def test_an_end_token_that_is_also_the_pad_token_ends_and_pads(
    llama: Any, spoken: tuple[Request, tuple[int, ...]]
) -> None:
    request, ids = spoken
    end = ids[5]
    company = [request, *random_requests([(30, 0), (2, 0)], 16, seed=5)]
    made = TransformersEngine(tiny.bare_policy(llama, [end], pad_id=end)).sample(company, GREEDY)
    apart = TransformersEngine(tiny.bare_policy(llama, [end], pad_id=PAD)).sample(company, GREEDY)
    assert made == apart
    assert made[0] == Response(ids[: ids.index(end) + 1], "eos")


def test_pad_ids_inside_a_context_or_a_response_are_ordinary_tokens(
    llama: Any, spoken: tuple[Request, tuple[int, ...]]
) -> None:
    request, ids = spoken
    for pad in (request.prompt_ids[2], ids[0]):
        policy = tiny.bare_policy(llama, [NO_ID], pad_id=pad)
        company = [request, *random_requests([(30, 8), (2, 0)], 16, seed=5)]
        assert TransformersEngine(policy).sample(company, GREEDY)[0].ids == ids


def test_whichever_of_several_end_ids_comes_first_ends(
    llama: Any, spoken: tuple[Request, tuple[int, ...]]
) -> None:
    request, ids = spoken
    ends = {ids[3], ids[9], NO_ID}
    first = min(ids.index(end) for end in ends if end in ids)
    made = TransformersEngine(tiny.bare_policy(llama, sorted(ends))).sample([request], GREEDY)
    assert made == [Response(ids[: first + 1], "eos")]


def test_one_token_may_be_all(llama: Any, spoken: tuple[Request, tuple[int, ...]]) -> None:
    request, ids = spoken
    one = replace(request, max_new_tokens=1)
    assert endless(llama).sample([one], GREEDY) == [Response(ids[:1], "length")]
    assert TransformersEngine(tiny.bare_policy(llama, [ids[0]])).sample([one], GREEDY) == [
        Response(ids[:1], "eos")
    ]


def test_nothing_is_asked_and_nothing_comes(llama: Any) -> None:
    assert engine(llama).sample([], SAMPLED) == []


@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_a_models_generation_settings_never_leak_in(settings: SamplingSettings) -> None:
    model, requests = tiny.tiny_llama(), random_requests([(6, 0), (20, 3)], 20)
    before = endless(model).sample(requests, settings)
    model.generation_config = transformers.GenerationConfig(
        do_sample=True,
        temperature=0.01,
        top_k=1,
        top_p=0.1,
        repetition_penalty=5.0,
        no_repeat_ngram_size=1,
        max_length=3,
        max_new_tokens=2,
        bad_words_ids=[[before[0].ids[0]]],
        forced_eos_token_id=END,
    )
    assert endless(model).sample(requests, settings) == before


# What goes wrong, and what is told meanwhile


def limited(
    model: Any,
    rows: int,
    columns: int,
    error: Callable[[], Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From so many columns on the model's forward fails above so many rows."""
    forward = model.forward

    def failing(**inputs: Any) -> Any:
        if inputs["input_ids"].shape[0] > rows and inputs["attention_mask"].shape[1] >= columns:
            raise error()
        return forward(**inputs)

    monkeypatch.setattr(model, "forward", failing)


@pytest.mark.parametrize("columns", [0, 25], ids=["at once", "in the middle of a batch"])
@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory"),
        lambda: RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"
        ),
    ],
    ids=["cuda", "cpu"],
)
def test_out_of_memory_halves_the_batch_and_says_so(
    llama: Any, columns: int, error: Callable[[], Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = random_requests([(5 + number, number % 3) for number in range(11)], 20)
    expected = endless(llama).sample(requests, SAMPLED)
    limited(llama, 3, columns, error, monkeypatch)
    said: list[str] = []
    told: list[tuple[int, int]] = []
    one = endless(llama, batch_rows=100, on_warning=said.append)
    made = one.sample(requests, SAMPLED, lambda *news: told.append(news))
    assert equal_up_to_near_ties(llama, requests, made, expected, SAMPLED) >= 10
    assert said == [
        f"out of memory: tiny continues with {rows} sequences at a time" for rows in (5, 2)
    ]
    assert one.batch_rows == 2  # and stays so
    assert (sum(tokens for tokens, _ in told), sum(done for _, done in told)) == (11 * 20, 11)


def test_out_of_memory_with_one_sequence_is_the_end(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(llama, 0, 0, lambda: torch.OutOfMemoryError("CUDA out of memory"), monkeypatch)
    with pytest.raises(torch.OutOfMemoryError):
        endless(llama).sample(random_requests([(5, 0), (6, 0)]), SAMPLED)


def test_other_errors_are_not_taken_for_memory(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limited(llama, 1, 0, lambda: RuntimeError("shapes do not match"), monkeypatch)
    said: list[str] = []
    with pytest.raises(RuntimeError, match="shapes"):
        endless(llama, on_warning=said.append).sample(random_requests([(5, 0), (6, 0)]), SAMPLED)
    assert not said


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("settings", [GREEDY, SAMPLED])
def test_a_nan_names_policy_rollout_and_position(
    llama: Any, value: float, settings: SamplingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = llama.forward
    fourth_token_of_the_longest = 9 + 2 - 1 + 3

    def failing(**inputs: Any) -> Any:
        output = forward(**inputs)
        if inputs["input_ids"].shape[1] == 1:
            output.logits[inputs["position_ids"][:, 0] == fourth_token_of_the_longest, :, 7] = value
        return output

    monkeypatch.setattr(llama, "forward", failing)
    requests = [
        replace(request, sample=4, stage="own/2")
        for request in random_requests([(5, 0), (9, 2), (3, 1)], 20)
    ]
    with pytest.raises(
        UserError, match=r"logits of tiny at response position 5 of own/2 p1/4.*--dtype"
    ) as caught:
        endless(llama).sample(requests, settings)
    assert "NaN" in str(caught.value) and "\n" not in str(caught.value)


def test_a_nan_behind_the_end_of_a_response_is_nobodys(
    llama: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished row stays in the batch while most go on; what the model makes of it is not looked
    at."""
    requests = [
        replace(r, max_new_tokens=2 if i == 0 else 12)
        for i, r in enumerate(random_requests([(5, 0)] * 60))
    ]
    expected = endless(llama).sample(requests, SAMPLED)
    finished = requests[0].prompt_ids
    row = sorted(range(60), key=lambda i: requests[i].prompt_ids).index(0)
    forward, touched = llama.forward, []

    def failing(**inputs: Any) -> Any:
        output = forward(**inputs)
        if (
            inputs["input_ids"].shape == (60, 1)
            and int(inputs["position_ids"][0, 0]) >= len(finished) - 1 + 2
        ):
            output.logits[row] = math.nan
            touched.append(1)
        return output

    monkeypatch.setattr(llama, "forward", failing)
    assert endless(llama).sample(requests, SAMPLED) == expected
    assert touched


def test_progress_adds_up_to_the_tokens_and_sequences(llama: Any) -> None:
    requests = random_requests([(5, 0), (9, 4), (2, 0), (30, 1), (5, 0), (5, 5)], 40)
    told: list[tuple[int, int]] = []
    made = engine(llama, batch_rows=4).sample(requests, SAMPLED, lambda *news: told.append(news))
    assert {response.stop_reason for response in made} == {"eos", "length"}
    assert sum(tokens for tokens, _ in told) == sum(len(response.ids) for response in made)
    assert sum(done for _, done in told) == len(requests)
    assert all(tokens > 0 and done >= 0 for tokens, done in told)


def test_no_batch_is_no_batch_size(llama: Any) -> None:
    with pytest.raises(ValueError, match="batch_rows must be at least 1, got 0"):
        engine(llama, batch_rows=0)


def test_sampling_warns_of_nothing(llama: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine(llama).sample(random_requests([(5, 0), (9, 4)], 4), SAMPLED)
