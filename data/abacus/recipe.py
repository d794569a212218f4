"""The recipe of the embedded pair: tokenizer, teacher and student, trained on the abacus world.

    python -m decaylab.data.abacus.recipe all --out DIR         # both at once, a core each
    python -m decaylab.data.abacus.recipe teacher --out DIR     # one of them
    python -m decaylab.data.abacus.criteria DIR                 # the criteria of the model card

Each policy learns from responses of a writer with habits of its own (``Habits``); the student is
smaller and is stopped early. Nothing is fitted to what decaylab measures on the pair afterwards:
the criteria of the model card are all that a recipe was chosen by. An interrupted training resumes
from its last save and ends with the same weights; the saves of another recipe are refused.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from decaylab.problems import abacus
from decaylab.problems.abacus_writing import Habits, respond

SPECIAL_TOKENS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if not (loop.last and continue_final_message) %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
POOL = 256
"""Problems that are drawn at once, and whose responses are sorted by length into batches."""
SAVE_EVERY = 500
"""Steps between two saves that an interrupted training can go on from."""


@dataclass(frozen=True)
class Recipe:
    """Architecture, data and optimisation of one policy.

    habits: of the writer of its responses. At first 90 % of them are concise and 20 % of the steps
    are slips; both shares go to those of the habits over the first 60 % of the steps, and the
    longest problem grows from 2 steps to 8 over the first 40 %: short, dense examples teach the
    arithmetic, and many slips to notice them, at a fraction of the cost.
    stop: end after so many steps, without changing the schedules that run over all of them.
    polish_steps: so many more at the end state of the schedules, from a fresh optimizer at
    polish_lr, with polish_slips as the share of slips.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    habits: Habits
    steps: int
    stop: int | None = None
    polish_steps: int = 0
    polish_lr: float = 1.5e-3
    polish_slips: float = 0.0
    batch_tokens: int = 1200
    lr: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.05
    seed: int = 0


RECIPES = {
    "teacher": Recipe(
        hidden=160,
        layers=4,
        heads=4,
        kv_heads=2,
        intermediate=416,
        habits=Habits(
            verbose=0.67,
            spaced=0.7,
            latex=0.6,
            cross=0.7,
            openings=(0.25, 0.3, 0.45),
            leads=(0.45, 0.3, 0.25),
            slips=(0.08, 0.08),
            checks=0.09,
        ),
        steps=14000,
        polish_steps=18000,
        polish_lr=2e-3,
        polish_slips=0.11,
    ),
    "student": Recipe(
        hidden=96,
        layers=4,
        heads=4,
        kv_heads=2,
        intermediate=256,
        habits=Habits(
            verbose=0.37,
            spaced=0.35,
            latex=0.35,
            cross=0.35,
            openings=(0.35, 0.2, 0.45),
            leads=(0.25, 0.3, 0.45),
            slips=(0.07, 0.18),
            checks=0.18,
            unnoticed=0.5,
        ),
        steps=12000,
        stop=10000,
    ),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every digit is a token of its own; any text survives encoding and
    decoding."""
    even = (1 / 3, 1 / 3, 1 / 3)
    habits = Habits(0.5, 0.5, 0.5, 0.5, openings=even, leads=even, slips=(0.05, 0.05), checks=0.2)
    rng = random.Random(0)
    corpus = []
    for problem in abacus.generate(5000, seed=1, part="pair"):
        corpus += [problem.question, respond(problem, habits, rng)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=768,
        min_frequency=50,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )


def build_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Qwen3ForCausalLM:
    torch.manual_seed(recipe.seed)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.kv_heads,
        head_dim=32,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return Qwen3ForCausalLM(config)


Example = tuple[list[int], list[int]]


@dataclass(frozen=True)
class Examples:
    """Prompts and responses, as ids, of one phase of a training; always problems of the pair's own
    part of the world."""

    recipe: Recipe
    tokenizer: PreTrainedTokenizerFast
    phase: str

    @property
    def steps(self) -> int:
        return self.recipe.polish_steps if self.phase == "polish" else self.recipe.steps

    def pool(self, number: int, progress: float) -> list[list[Example]]:
        """A pool of examples as batches of similar lengths, in random order, each of at most
        batch_tokens tokens with its padding. A number gives the same pool at any time."""
        rng = random.Random(f"{self.phase}/{self.recipe.seed}/{number}")
        examples = sorted(self._draw(rng, progress), key=_length)
        batches: list[list[Example]] = [[]]
        for example in examples:
            if (len(batches[-1]) + 1) * _length(example) > self.recipe.batch_tokens:
                batches.append([])
            batches[-1].append(example)
        batches = [batch for batch in batches if batch]
        rng.shuffle(batches)
        return batches

    def _draw(self, rng: random.Random, progress: float) -> list[Example]:
        habits = self.recipe.habits
        grown = min(1.0, progress / 0.6)
        verbose = 0.1 + (habits.verbose - 0.1) * grown
        concise_slips, verbose_slips = (0.2 + (share - 0.2) * grown for share in habits.slips)
        if self.phase == "polish":
            concise_slips = verbose_slips = self.recipe.polish_slips
        longest = 2 + round(6 * min(1.0, progress / 0.4))
        problems = abacus.generate(
            POOL,
            seed=rng.randrange(2**60),
            difficulty=abacus.Difficulty(min_steps=1, max_steps=longest),
            part="pair",
        )
        now = replace(habits, verbose=verbose, slips=(concise_slips, verbose_slips))
        responses = [f"{respond(problem, now, rng)}<|end|>" for problem in problems]
        prompts = [f"<|user|>{problem.question}<|end|><|assistant|>" for problem in problems]
        return list(zip(self._ids(prompts), self._ids(responses), strict=True))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        encodings = self.tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]


def _length(example: Example) -> int:
    prompt, response = example
    return len(prompt) + len(response)


def collate(examples: list[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels; prompt and padding carry no loss. The causal mask hides the
    padding."""
    longest = max(map(_length, examples))
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full((len(examples), longest), -100)
    for row, (prompt, response) in enumerate(examples):
        ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
        labels[row, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
    return ids, labels


class Training:
    """One phase of a training: where it stands, its step, and its saves."""

    def __init__(self, model: Qwen3ForCausalLM, examples: Examples, lr: float) -> None:
        self.model, self.examples = model, examples
        recipe = examples.recipe
        decay = [p for p in model.parameters() if p.dim() > 1]
        rest = [p for p in model.parameters() if p.dim() <= 1]
        groups = [
            {"params": decay, "weight_decay": recipe.weight_decay},
            {"params": rest, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.done, self.pools, self.tokens, self.seconds = 0, 0, 0, 0.0

    def _rate(self, step: int) -> float:
        """Of the learning rate: warm-up, then a cosine to a twentieth over all steps."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.examples.steps)))
        return min(1.0, (step + 1) / self.examples.recipe.warmup) * (0.05 + 0.95 * cosine)

    def step(self, batch: list[Example]) -> float:
        """One update on the mean loss over response tokens, in nats, which it returns."""
        ids, labels = collate(batch, self.examples.tokenizer.pad_token_id)
        logits = self.model(input_ids=ids).logits[:, :-1]
        targets = labels[:, 1:].flatten()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets, ignore_index=-100)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.done += 1
        self.tokens += int((labels != -100).sum())
        return loss.item()

    def run(self, save: Path, log: Path) -> None:
        """Steps until the stop or the end of the schedule; from the last save, where there is
        one.

        Raises:
            SystemExit: the save is of another recipe.
        """
        recipe, phase = self.examples.recipe, self.examples.phase
        if save.exists():
            saved = torch.load(save, weights_only=True)
            if saved.get("recipe") != self._recipe:
                raise SystemExit(
                    f"{save} is the save of another recipe: remove it, or choose --out"
                )
            self._load(saved)
        end = self.examples.steps if phase == "polish" else recipe.stop or recipe.steps
        window: list[float] = []
        while self.done < end:
            started = time.monotonic()
            progress = 1.0 if phase == "polish" else self.done / self.examples.steps
            for batch in self.examples.pool(self.pools, progress)[: end - self.done]:
                window.append(self.step(batch))
            self.pools += 1
            self.seconds += time.monotonic() - started
            if len(window) >= SAVE_EVERY or self.done == end:
                loss = f"{sum(window) / len(window):.4f}"
                window.clear()
                self._save(save)
                _append(log, [phase, self.done, loss, self.tokens, round(self.seconds)])
                print(f"{phase} step {self.done}/{end} loss {loss}", flush=True)

    @property
    def _recipe(self) -> str:
        return _described(self.examples.recipe)

    def _save(self, save: Path) -> None:
        state = {name: getattr(self, name).state_dict() for name in STATES}
        counts = {name: getattr(self, name) for name in COUNTS}
        part = save.with_suffix(".part")
        torch.save(state | counts | {"recipe": self._recipe}, part)
        part.replace(save)

    def _load(self, saved: dict[str, Any]) -> None:
        for name in STATES:
            getattr(self, name).load_state_dict(saved[name])
        for name in COUNTS:
            setattr(self, name, saved[name])


STATES = ("model", "optimizer", "schedule")
COUNTS = ("done", "pools", "tokens", "seconds")
LOG_COLUMNS = ("phase", "step", "loss_nats", "response_tokens", "seconds")


def _append(log: Path, row: Sequence[object]) -> None:
    rows = [row] if log.exists() else [LOG_COLUMNS, row]
    with log.open("a", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows(rows)


def train(role: str, out: Path) -> None:
    """Trains one policy and saves it with its tokenizer, its recipe and a log of its losses."""
    torch.set_num_threads(1)
    recipe = RECIPES[role]
    tokenizer = build_tokenizer()
    model = build_model(recipe, tokenizer)
    out.mkdir(parents=True, exist_ok=True)
    log = out / "training_log.csv"
    for phase in ("train", "polish") if recipe.polish_steps else ("train",):
        lr = recipe.lr if phase == "train" else recipe.polish_lr
        Training(model, Examples(recipe, tokenizer, phase), lr).run(out / f"{phase}.pt", log)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(_described(recipe, role) + "\n")


def _described(recipe: Recipe, role: str = "") -> str:
    """A recipe and the version of its world as JSON."""
    return json.dumps({"role": role, "world": abacus.VERSION, **asdict(recipe)}, indent=1)


def train_both(out: Path) -> None:
    """Both policies at once, a process and a core each.

    Raises:
        SystemExit: one of them failed.
    """
    command = [sys.executable, "-m", "decaylab.data.abacus.recipe"]
    running = [subprocess.Popen([*command, role, "--out", str(out)]) for role in RECIPES]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["all", *RECIPES])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.what == "all":
        train_both(arguments.out)
    else:
        train(arguments.what, arguments.out / arguments.what)


if __name__ == "__main__":
    main()
