"""The recipe of the embedded pair: its examples, its batches, and that it can be repeated."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from decaylab.data.abacus import recipe
from decaylab.problems import abacus

TOKENIZER = recipe.build_tokenizer()
SHORT = replace(recipe.RECIPES["student"], batch_tokens=300, hidden=32, intermediate=64)


def trained(folder: Path, chosen: recipe.Recipe, lr: float = 1e-3) -> dict[str, torch.Tensor]:
    """The weights after a training in this folder, or after the rest of one that began there."""
    folder.mkdir(exist_ok=True)
    model = recipe.build_model(chosen, TOKENIZER)
    examples = recipe.Examples(chosen, TOKENIZER, "train")
    recipe.Training(model, examples, lr).run(folder / "train.pt", folder / "log.csv")
    return model.state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_over_the_first_steps(tmp_path: Path) -> None:
    chosen = replace(recipe.RECIPES["student"], stop=100)
    first = trained(tmp_path / "first", chosen, chosen.lr)
    assert same(first, trained(tmp_path / "second", chosen, chosen.lr))
    other = recipe.build_model(chosen, TOKENIZER).state_dict()
    assert not same(first, other), "nothing was trained"


def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "SAVE_EVERY", 20)
    chosen = replace(SHORT, stop=600)
    whole = trained(tmp_path / "whole", chosen)
    steps = 0

    def killed(self: recipe.Training, batch: list[recipe.Example]) -> float:
        nonlocal steps
        steps += 1
        if steps > 400:
            raise KeyboardInterrupt
        return step(self, batch)

    step = recipe.Training.step
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(recipe.Training, "step", killed)
        trained(tmp_path / "killed", chosen)
    assert (tmp_path / "killed" / "train.pt").exists()
    assert same(whole, trained(tmp_path / "killed", chosen))
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("whole", "killed")]
    rows = [[line.rsplit(",", 1)[0] for line in log] for log in logs]  # without the seconds
    assert rows[0] == rows[1]


def test_a_training_in_two_phases_that_is_killed_in_the_second_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "SAVE_EVERY", 20)
    tiny = replace(SHORT, stop=None, steps=200, polish_steps=200, polish_lr=1e-3, polish_slips=0.1)
    monkeypatch.setitem(recipe.RECIPES, "student", tiny)
    recipe.train("student", tmp_path / "whole")
    step = recipe.Training.step

    def killed(self: recipe.Training, batch: list[recipe.Example]) -> float:
        if self.examples.phase == "polish" and self.done > 100:
            raise KeyboardInterrupt
        return step(self, batch)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(recipe.Training, "step", killed)
        recipe.train("student", tmp_path / "killed")
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    recipe.train("student", tmp_path / "killed")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]


def test_a_save_of_another_recipe_is_refused(tmp_path: Path) -> None:
    chosen = replace(SHORT, stop=20)
    trained(tmp_path / "one", chosen)
    other = replace(chosen, habits=replace(chosen.habits, checks=0.5))
    with pytest.raises(SystemExit, match="save of another recipe"):
        trained(tmp_path / "one", other)


@pytest.mark.parametrize("role", ["teacher", "student"])
@pytest.mark.parametrize("phase", ["train", "polish"])
def test_every_example_asks_a_problem_of_the_pairs_own_part_and_answers_it(
    role: str, phase: Literal["train", "polish"]
) -> None:
    examples = recipe.Examples(recipe.RECIPES[role], TOKENIZER, phase)
    batches = [batch for index in range(3) for batch in examples.pool(index, 0.5 * index)]
    texts = [TOKENIZER.decode(prompt) for batch in batches for prompt, _ in batch]
    assert len(texts) == 3 * recipe.POOL
    for text in texts:
        question = text.removeprefix("<|user|>").removesuffix("<|end|><|assistant|>")
        assert abacus.part_of(question) == "pair"
    ends = {response[-1] for batch in batches for _, response in batch}
    assert ends == {TOKENIZER.eos_token_id}


def test_a_batch_holds_at_most_its_tokens_with_padding_and_the_prompt_carries_no_loss() -> None:
    chosen = recipe.RECIPES["teacher"]
    for batch in recipe.Examples(chosen, TOKENIZER, "train").pool(0, 1.0):
        ids, labels = recipe.collate(batch, TOKENIZER.pad_token_id)
        assert ids.numel() <= chosen.batch_tokens
        for row, (prompt, response) in enumerate(batch):
            assert ids[row, : len(prompt)].tolist() == prompt
            assert labels[row][labels[row] >= 0].tolist() == response
            assert (labels[row, : len(prompt)] == -100).all()


def test_examples_grow_from_short_and_concise_to_the_writers_habits() -> None:
    examples = recipe.Examples(recipe.RECIPES["teacher"], TOKENIZER, "train")
    lengths = [
        sum(len(response) for batch in examples.pool(0, progress) for _, response in batch)
        for progress in (0.0, 0.3, 1.0)
    ]
    assert lengths[0] * 2 < lengths[1] < lengths[2]


def test_both_tokenizer_files_are_those_that_the_recipe_builds() -> None:
    built = TOKENIZER.backend_tokenizer.to_str()
    for role in recipe.RECIPES:
        folder = Path(recipe.__file__).parent / role
        shipped = recipe.PreTrainedTokenizerFast.from_pretrained(folder)
        assert shipped.backend_tokenizer.to_str() == built
        assert shipped.chat_template == TOKENIZER.chat_template
