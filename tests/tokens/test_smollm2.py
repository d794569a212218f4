"""A real model that nobody here trained: greedy rollouts against transformers' own `generate`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import prepare_smollm2
import pytest
import tiny_models as tiny
from command_line import write_lines

from decaylab.commands.prefix_decay import prefix_decay
from decaylab.options.measuring import Options
from decaylab.policies import loading
from decaylab.problems import abacus
from decaylab.problems.abacus_writing import Habits, respond
from decaylab.problems.problem import Problem
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine

pytestmark = pytest.mark.slow
GREEDY = SamplingSettings(temperature=0)
QUESTIONS = (
    "A baker fills 6 trays with 12 rolls each and sells 45 of them before noon. How many rolls "
    "are left?",
    "Tom reads 14 pages a day. His book has 210 pages. How many days does he need?",
    "A bus starts with 23 people. At the first stop 9 get off and 4 get on, at the second stop "
    "half of all people get "
    "off. How many people are on the bus then, and how many have got off altogether?",
    "What is 15% of 80?",
)


@pytest.fixture(scope="module")
def smollm2() -> Iterator[loading.Policy]:
    yield loading.load(
        str(prepare_smollm2.prepare()), loading.LoadSettings(dtype="float32", device="cpu")
    )


@pytest.fixture(scope="module")
def requests(smollm2: loading.Policy) -> list[Request]:
    """Four prompts of different lengths, one of them behind a prefix."""
    prefix = tuple(smollm2.encode("To solve this, we first"))
    return [
        Request(
            tuple(smollm2.prompt_ids(Problem(f"p{n}", text, None), "")),
            prefix if n == 1 else (),
            40,
            "s",
            f"p{n}",
            0,
        )
        for n, text in enumerate(QUESTIONS)
    ]


def test_greedy_equals_generate_on_a_real_model(
    smollm2: loading.Policy, requests: list[Request]
) -> None:
    made = TransformersEngine(smollm2).sample(requests, GREEDY)
    expected = tiny.greedy_by_generate(
        smollm2.model, requests, sorted(smollm2.end_ids), smollm2.pad_id
    )
    assert tiny.equal_up_to_near_ties(smollm2.model, requests, made, expected, GREEDY) >= 3
    assert all(len(set(response.ids)) > 10 for response in made if len(response.ids) == 40)


def test_a_real_rollout_continued_from_its_own_prefix_is_itself(
    smollm2: loading.Policy, requests: list[Request]
) -> None:
    settings = SamplingSettings(0.7, seed=5)
    whole = TransformersEngine(smollm2).sample([requests[0]], settings)[0]
    cut = [Request(requests[0].prompt_ids, whole.ids[:at], 40 - at, "s", "p0", 0) for at in (3, 20)]
    made = TransformersEngine(smollm2).sample(cut, settings)
    rest = [type(whole)(whole.ids[at:], whole.stop_reason) for at in (3, 20)]
    tiny.equal_up_to_near_ties(smollm2.model, cut, made, rest, settings)


def test_where_end_and_pad_are_one_token_a_turn_is_left_open_and_ends_once(
    smollm2: loading.Policy,
) -> None:
    assert smollm2.pad_id in smollm2.end_ids
    ids = smollm2.prompt_ids(Problem("p", QUESTIONS[3], None), "")
    turn = "<|im_start|>assistant\n"
    assert smollm2.tokenizer.decode(ids).endswith(f"<|im_end|>\n{turn}")
    assert ids.count(smollm2.pad_id) == 2  # of the system's and the user's turn, none behind
    request = Request(tuple(ids), tuple(smollm2.encode("15% of 80 is 12.")), 12, "s", "p", 0)
    (made,) = TransformersEngine(smollm2).sample([request], GREEDY)
    assert made.stop_reason == ("eos" if made.ids[-1] in smollm2.end_ids else "length")
    assert not smollm2.end_ids.intersection(made.ids[:-1])


def test_the_whole_measurement_runs_over_a_local_file_in_gsm8ks_columns(tmp_path: Path) -> None:
    habits = Habits(0.0, 0.5, 0.5, 0.5, (1, 1, 1), (1, 1, 1), slips=(0.0, 0.0), checks=0.0)
    rows = [
        {
            "question": problem.question,
            "answer": f"{respond(problem, habits, random.Random(0))}\n#### {problem.answer}",
        }
        for problem in abacus.generate(20, seed=3)
    ]
    model = str(prepare_smollm2.prepare())
    options = Options(
        teacher=model,
        student=model,
        problems=f"gsm8k:{write_lines(tmp_path / 'problems.jsonl', *rows)}",
        prefix_lengths=(0, 16),
        samples=1,
        max_tokens=32,
        answer_rule="gsm8k",
        out=str(tmp_path / "run"),
    )
    result = prefix_decay(options)
    assert result.record["identity"]["problems"]["asked"] == 20
    rollouts = pd.read_parquet(tmp_path / "run" / "rollouts.parquet")
    assert set(rollouts.condition) == {"student", "teacher", "student-prefix"}
    headline = result.measurements.query(
        "what == 'accuracy' and condition == 'student-prefix' and prefix_tokens == 16"
    )
    assert headline["rollouts"].max() == (rollouts.condition == "student-prefix").sum() > 0
