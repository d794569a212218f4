"""Ids that the head has and no token of the tokenizer: never drawn, never handed over, and the
probability they had is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from command_line import decaylab, write_lines
from tiny_models import VOCAB, bare_policy, byte_tokenizer, random_requests, save_folder, tiny_llama
from transformers import AutoModelForCausalLM

from decaylab.errors import UserError
from decaylab.policies import loading
from decaylab.policies.handover import HandOver
from decaylab.rollouts.sampling import Response, SamplingSettings, choose, cut_absent, uniforms
from decaylab.rollouts.stages import absent_note
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.rollouts.vllm_engine import VllmEngine
from decaylab.runs.store import rollout_schema

HOLES = (3, 17, 18, 40)
BEYOND = tuple(range(50, VOCAB))
ABSENT = HOLES + BEYOND
SETTINGS = {
    "greedy": SamplingSettings(0.0),
    "sampled": SamplingSettings(1.0, seed=3),
    "hot": SamplingSettings(2.5, seed=4),
    "nucleus": SamplingSettings(0.9, top_p=0.8, seed=5),
    "few": SamplingSettings(0.9, top_k=4, seed=6),
}


@pytest.fixture(scope="module")
def model() -> Any:
    """A head that likes ids that no token has."""
    found = tiny_llama(seed=2)
    with torch.no_grad():
        found.lm_head.weight[list(ABSENT)] *= 1.5
    return found


def policy(model: Any, absent: tuple[int, ...] = ABSENT) -> Any:
    return SimpleNamespace(**vars(bare_policy(model)), absent_ids=absent)


def one_by_one(
    model: Any, request: Any, settings: SamplingSettings
) -> tuple[tuple[int, ...], float]:
    """The definition: probabilities over the ids that tokens have, in their order; the mean mass on
    all others."""
    kept = [index for index in range(VOCAB) if index not in ABSENT]
    ids, written, masses = list(request.prompt_ids + request.prefix_ids), [], []
    for uniform in uniforms(settings.seed, request):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
        masses.append(
            float((logits.double() / (settings.temperature or 1)).softmax(-1)[list(ABSENT)].sum())
        )
        token, _ = choose(logits[kept][None], torch.tensor([uniform]), settings)
        written.append(kept[int(token)])
        ids.append(written[-1])
        if written[-1] in (1,):
            break
    return tuple(written), sum(masses) / len(masses)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_law_is_that_over_the_ids_that_tokens_have(name: str, model: Any) -> None:
    requests = random_requests([(5, 0), (9, 3), (2, 7), (5, 0), (4, 1)], max_new_tokens=12)
    made = TransformersEngine(policy(model), batch_rows=3).sample(requests, SETTINGS[name])
    for request, response in zip(requests, made, strict=True):
        ids, mass = one_by_one(model, request, SETTINGS[name])
        assert response.ids == ids and not set(ids) & set(ABSENT)
        assert response.absent_mass == pytest.approx(mass, rel=1e-4)
    assert max(one.absent_mass or 0 for one in made) > 0.1, "the case has something to remove"
    assert made == TransformersEngine(policy(model), batch_rows=1).sample(requests, SETTINGS[name])
    free = TransformersEngine(policy(model, ())).sample(requests, SETTINGS[name])
    assert any(set(one.ids) & set(ABSENT) for one in free), (
        "they are drawn where nothing keeps them"
    )


def test_a_head_that_fits_is_not_touched(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = random_requests([(5, 0), (9, 3)], max_new_tokens=12)
    bare = TransformersEngine(bare_policy(model)).sample(requests, SETTINGS["sampled"])
    monkeypatch.setattr(
        "decaylab.rollouts.transformers_engine.cut_absent", lambda *more: pytest.fail("touched")
    )
    made = TransformersEngine(policy(model, ())).sample(requests, SETTINGS["sampled"])
    assert made == bare and {one.absent_mass for one in made} == {0.0}


def test_the_mass_is_that_at_the_temperature_of_sampling() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [0.0, -torch.inf, 0.0]])
    for temperature in (0.5, 1.0, 2.0):
        cut, mass = cut_absent(logits, torch.tensor([1]), SamplingSettings(temperature))
        weights = torch.exp(torch.tensor([1.0, 3.0, 2.0]) / temperature)
        assert (
            mass[0] == pytest.approx(float(weights[1] / weights.sum()), rel=1e-5) and mass[1] == 0
        )
        assert cut[:, 1].tolist() == [-torch.inf] * 2 and torch.equal(
            cut[:, [0, 2]], logits[:, [0, 2]]
        )


def test_a_nan_of_an_absent_id_is_still_told(model: Any) -> None:
    broken = tiny_llama(seed=2)
    with torch.no_grad():
        broken.lm_head.weight[60] = torch.nan
    with pytest.raises(UserError, match="NaN or infinity in the logits"):
        TransformersEngine(policy(broken)).sample(random_requests([(3, 0)]), SETTINGS["sampled"])


def test_a_policy_knows_ids_behind_its_tokenizer_and_in_its_holes(tmp_path: Path) -> None:
    tokenizer = byte_tokenizer()
    size = len(tokenizer)
    fits = loading.load(str(save_folder(tmp_path / "fits", tokenizer=tokenizer)))
    assert fits.absent_ids == ()
    wide = loading.load(str(wide_folder(tmp_path / "wide")))
    assert wide.absent_ids == tuple(range(size, size + 40))
    wide.tokenizer.add_tokens(["<|new|>"])
    del wide.absent_ids
    assert wide.absent_ids == tuple(range(size + 1, size + 40)), "an added token has an id"
    vocab = {token: index for token, index in tokenizer.get_vocab().items() if index not in (7, 9)}
    holed = SimpleNamespace(tokenizer=SimpleNamespace(get_vocab=lambda: vocab), head_width=size + 1)
    assert loading.Policy.absent_ids.func(holed) == (7, 9, size)


def wide_folder(path: Path, liked: float = 3.0, seed: int = 0) -> Path:
    """A model over bytes whose head has 40 ids more than its tokenizer, and likes them."""
    save_folder(path, seed=seed)
    size = len(byte_tokenizer())
    model = AutoModelForCausalLM.from_pretrained(path)
    model.resize_token_embeddings(size + 40, mean_resizing=False)
    with torch.no_grad():
        model.lm_head.weight[size:] = liked * model.lm_head.weight[10:50]
    model.save_pretrained(path)
    return path


def test_a_prefix_with_an_id_that_no_token_has_is_not_handed_over(tmp_path: Path) -> None:
    wide = loading.load(str(wide_folder(tmp_path / "wide")))
    size = len(byte_tokenizer())
    same = HandOver(wide, wide)
    assert same([10, 11], "student") == [10, 11] and same([10, size + 3], "student") is None
    shifted = loading.load(
        str(save_folder(tmp_path / "shifted", tokenizer=byte_tokenizer(shift=9)))
    )
    text = HandOver(wide, shifted)
    assert text([70, 71], "student") is not None and text([70, size + 3], "student") is None


@pytest.mark.parametrize("command", ["prefix-decay", "evaluate", "position-kl"])
def test_a_student_wider_than_both_tokenizers_is_measured_and_the_mass_is_told(
    command: str, tmp_path: Path
) -> None:
    student, teacher = wide_folder(tmp_path / "student", seed=1), save_folder(tmp_path / "teacher")
    problems = write_lines(
        tmp_path / "mine.jsonl", *({"question": f"{n} + 1?", "answer": n + 1} for n in range(3))
    )
    words = [
        "--student",
        student,
        "--teacher",
        teacher,
        "--problems",
        problems,
        "--samples",
        2,
        "--max-tokens",
        24,
    ]
    words += (
        ["--prefix-lengths", "0,4,8", "--controls", "all"]
        if command == "prefix-decay"
        else ["--cache", tmp_path]
    )
    found = decaylab(command, *words, "--out", tmp_path / "run")
    assert found.code == 0, found.err
    (line,) = [
        one
        for one in found.out.splitlines()
        if "ids without a token" in one and ("student" in one or "base" in one)
    ]
    assert (
        "% of the probability lies on ids without a token" in line
        and "none of them was drawn" in line
    )
    if command == "prefix-decay":
        rows = pd.read_parquet(tmp_path / "run" / "rollouts.parquet")
        size = len(byte_tokenizer())
        assert max(max(ids) for ids in rows["response_ids"]) < size
        own = rows[rows["author"] == "student"]
        assert (own["absent_mass"] > 0.001).all() and (
            rows[rows["author"] == "teacher"]["absent_mass"] == 0
        ).all()


def test_nothing_is_said_of_mass_that_does_not_matter() -> None:
    schema = rollout_schema(())

    def table(*masses: float | None) -> Any:
        import pyarrow as pa

        rows = [dict.fromkeys(schema.names) | {"absent_mass": mass} for mass in masses]
        return pa.Table.from_pylist(rows, schema=schema)

    assert (
        absent_note("base", table())
        == absent_note("base", table(None, None))
        == absent_note("base", table(0, 9e-5))
        == ""
    )
    assert absent_note("base", table(0.0, 0.02, None)) == (
        "base: 1 % of the probability lies on ids without a token (in one rollout 2 %); none of "
        "them was drawn"
    )


def test_training_and_its_teacher_write_no_such_id(tmp_path: Path) -> None:
    """The student, and the teacher's prefix ahead of it."""
    from decaylab.options.training import TrainOptions
    from decaylab.trainer import loop

    student, teacher = wide_folder(tmp_path / "student", seed=1), wide_folder(tmp_path / "teacher")
    problems = write_lines(
        tmp_path / "mine.jsonl", *({"question": f"{n} + 1?", "answer": n + 1} for n in range(4))
    )
    drawn: list[Response] = []
    sample = TransformersEngine.sample

    def kept(self: TransformersEngine, *more: Any) -> list[Response]:
        found = sample(self, *more)
        drawn.extend(found)
        return found

    patch = pytest.MonkeyPatch()
    patch.setattr(TransformersEngine, "sample", kept)
    with patch.context():
        loop.train(
            TrainOptions(
                teacher=str(teacher),
                student=str(student),
                problems=str(problems),
                test_problems="none",
                steps=2,
                selector="after-teacher-prefix",
                rollout_length="6",
                teacher_prefix=4,
                max_tokens=20,
                problems_per_step=2,
                validation_problems=1,
                out=str(tmp_path / "run"),
                temperature=1.0,
            )
        )
    patch.undo()
    assert drawn and max(max(one.ids) for one in drawn) < len(byte_tokenizer())
    assert any((one.absent_mass or 0) > 0.001 for one in drawn)


def test_vllm_is_told_which_ids_to_leave() -> None:
    engine: Any = object.__new__(VllmEngine)
    engine.policy = SimpleNamespace(name="wide", absent_ids=(3, 60))
    assert engine._bias() == {3: -100.0, 60: -100.0}
    engine.policy = SimpleNamespace(name="fits", absent_ids=())
    assert engine._bias() is None
    engine.policy = SimpleNamespace(name="wide", absent_ids=tuple(range(1025)))
    engine._llm = SimpleNamespace(
        llm_engine=SimpleNamespace(vllm_config=SimpleNamespace(use_v2_model_runner=True))
    )
    with pytest.raises(
        UserError, match="has 1025 ids without a token, and vLLM can exclude only 1024"
    ):
        engine._bias()
