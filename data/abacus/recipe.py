"""The recipe of the embedded pair: tokenizer, teacher and student, trained from scratch on the abacus world.

    python -m decaylab.data.abacus.recipe tokenizer --out DIR
    python -m decaylab.data.abacus.recipe teacher --out DIR
    python -m decaylab.data.abacus.recipe student --out DIR

The teacher learns both styles, mostly the wordy one; the student is smaller, sees terse responses only and stops early.
Nothing is fitted to what decaylab measures on the pair afterwards: the targets are accuracy, style and length alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from decaylab import abacus

SPECIAL_TOKENS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if not (loop.last and continue_final_message) %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TRAIN_SEED, TEST_SEED, TEST_COUNT = 1, 0, 2000


@dataclass(frozen=True)
class Recipe:
    """Architecture, data and optimisation of one policy.

    terse_share runs from its first to its second value over the first 60 % of the steps, and the longest problem grows
    from 2 steps to 8 over the first 40 %: short, dense examples teach the arithmetic at a fraction of the cost.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    terse_share: tuple[float, float]
    steps: int
    batch_tokens: int = 1200
    lr: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.05
    seed: int = 0


RECIPES = {
    "teacher": Recipe(hidden=160, layers=4, heads=4, kv_heads=2, intermediate=416, terse_share=(0.9, 0.3), steps=9000),
    "student": Recipe(hidden=96, layers=4, heads=4, kv_heads=2, intermediate=256, terse_share=(1.0, 1.0), steps=9000),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every digit is a token of its own; any text survives encoding and decoding."""
    rng = random.Random(0)
    corpus = []
    for problem in abacus.generate(3000, seed=TRAIN_SEED):
        corpus += [problem.question, abacus.terse(problem), abacus.wordy(problem, rng)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
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


class Examples:
    """An endless stream of (prompt_ids, response_ids); problems of the test set never appear."""

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> None:
        self.rng = random.Random(f"examples/{recipe.seed}")
        self.recipe, self.tokenizer = recipe, tokenizer
        self.test = {problem.question for problem in abacus.generate(TEST_COUNT, seed=TEST_SEED)}

    def draw(self, count: int, progress: float) -> list[tuple[list[int], list[int]]]:
        first, last = self.recipe.terse_share
        terse_share = first + (last - first) * min(1.0, progress / 0.6)
        difficulty = abacus.Difficulty(min_steps=1, max_steps=2 + round(6 * min(1.0, progress / 0.4)))
        problems = abacus.generate(count, seed=self.rng.randrange(2**60), difficulty=difficulty)
        problems = [problem for problem in problems if problem.question not in self.test]
        responses = [
            abacus.terse(problem) if self.rng.random() < terse_share else abacus.wordy(problem, self.rng)
            for problem in problems
        ]
        prompts = [f"<|user|>{problem.question}<|end|><|assistant|>" for problem in problems]
        encode = self.tokenizer.backend_tokenizer.encode_batch
        prompt_ids = [encoding.ids for encoding in encode(prompts, add_special_tokens=False)]
        response_ids = [encoding.ids for encoding in encode([f"{r}<|end|>" for r in responses], add_special_tokens=False)]
        return list(zip(prompt_ids, response_ids, strict=True))

    def batches(self):
        """One batch a step, of similar lengths and at most batch_tokens tokens, cut from sorted pools."""
        step = 0
        while step < self.recipe.steps:
            examples = sorted(self.draw(256, step / self.recipe.steps), key=lambda pair: len(pair[0]) + len(pair[1]))
            groups: list[list[tuple[list[int], list[int]]]] = [[]]
            for prompt, response in examples:
                if groups[-1] and (len(groups[-1]) + 1) * (len(prompt) + len(response)) > self.recipe.batch_tokens:
                    groups.append([])
                groups[-1].append((prompt, response))
            self.rng.shuffle(groups)
            for group in groups[: self.recipe.steps - step]:
                step += 1
                yield step, group


def collate(examples: list[tuple[list[int], list[int]]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels; prompt and padding carry no loss. The causal mask hides the padding."""
    longest = max(len(prompt) + len(response) for prompt, response in examples)
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full((len(examples), longest), -100)
    for row, (prompt, response) in enumerate(examples):
        ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
        labels[row, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
    return ids, labels


def train(role: str, recipe: Recipe, out: Path) -> None:
    """Trains one policy and saves it with its tokenizer, its recipe and a log line every 50 steps."""
    tokenizer = build_tokenizer()
    model = build_model(recipe, tokenizer)
    examples = Examples(recipe, tokenizer)
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / recipe.warmup)
        * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / recipe.steps)))),
    )
    out.mkdir(parents=True, exist_ok=True)
    started, tokens, window = time.monotonic(), 0, []
    with (out / "training_log.csv").open("w", newline="") as handle:
        log = csv.writer(handle)
        log.writerow(["step", "loss_nats", "response_tokens", "seconds"])
        for step, batch in examples.batches():
            ids, labels = collate(batch, tokenizer.pad_token_id)
            logits = model(input_ids=ids).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            tokens += int((labels != -100).sum())
            window.append(loss.item())
            if step % 100 == 0 or step == recipe.steps:
                log.writerow([step, f"{sum(window) / len(window):.4f}", tokens, f"{time.monotonic() - started:.0f}"])
                handle.flush()
                print(f"{role} step {step}/{recipe.steps} loss {sum(window) / len(window):.4f}", flush=True)
                window.clear()
            if step % 1000 == 0:
                model.save_pretrained(out / f"step-{step}")
                tokenizer.save_pretrained(out / f"step-{step}")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps({"role": role, "world": abacus.VERSION, **asdict(recipe)}, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tokenizer", *RECIPES])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "tokenizer":
        build_tokenizer().save_pretrained(arguments.out)
    else:
        train(arguments.what, RECIPES[arguments.what], arguments.out)


if __name__ == "__main__":
    main()
