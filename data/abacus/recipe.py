"""The recipe of the embedded pair: tokenizer, teacher and student, trained on the abacus world.

    python -m decaylab.data.abacus.recipe all --out DIR         # both, an hour on two cores
    python -m decaylab.data.abacus.recipe teacher --out DIR     # one of them
    python -m decaylab.data.abacus.recipe evaluate --out DIR    # as in the model card: accuracy,
                                                                # style and length

The teacher learns both styles, mostly the wordy one; the student is smaller, sees terse responses
only and is stopped early. Nothing is fitted to what decaylab measures on the pair afterwards: the
targets are accuracy, style and length alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from decaylab.maths.statistics import proportion
from decaylab.policies import loading
from decaylab.problems import abacus
from decaylab.problems.grading import Grader
from decaylab.problems.sets import TEST_COUNT, TEST_SEED, load_problems
from decaylab.rollouts.sampling import Request, SamplingSettings
from decaylab.rollouts.transformers_engine import TransformersEngine

SPECIAL_TOKENS = ("<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if not (loop.last and continue_final_message) %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TRAIN_SEED = 1


@dataclass(frozen=True)
class Recipe:
    """Architecture, data and optimisation of one policy.

    terse_share runs from its first to its second value over the first 60 % of the steps, and the
    longest problem grows from 2 steps to 8 over the first 40 %: short, dense examples teach the
    arithmetic at a fraction of the cost.
    stop: end after so many steps, without changing the schedules that run over all of them.
    polish_steps: so many more at the end state of the schedules, from a fresh optimizer at
    polish_lr.
    """

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    terse_share: tuple[float, float]
    steps: int
    stop: int | None = None
    polish_steps: int = 0
    polish_lr: float = 1.5e-3
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
        terse_share=(0.9, 0.3),
        steps=9000,
        polish_steps=5000,
    ),
    "student": Recipe(
        hidden=96,
        layers=4,
        heads=4,
        kv_heads=2,
        intermediate=256,
        terse_share=(1.0, 1.0),
        steps=9000,
        stop=6000,
    ),
}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every digit is a token of its own; any text survives encoding and
    decoding."""
    rng = random.Random(0)
    corpus = []
    for problem in abacus.generate(3000, seed=TRAIN_SEED):
        corpus += [problem.question, abacus.terse(problem), abacus.wordy(problem, rng)]
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


class Examples:
    """An endless stream of (prompt_ids, response_ids); problems of the test set never appear."""

    def __init__(
        self, recipe: Recipe, tokenizer: PreTrainedTokenizerFast, polish: bool = False
    ) -> None:
        self.rng = random.Random(f"examples/{recipe.seed}" + ("/polish" if polish else ""))
        self.recipe, self.tokenizer, self.polish = recipe, tokenizer, polish
        self.steps = recipe.polish_steps if polish else recipe.steps
        self.test = {problem.question for problem in abacus.generate(TEST_COUNT, seed=TEST_SEED)}

    def draw(self, count: int, progress: float) -> list[tuple[list[int], list[int]]]:
        first, last = self.recipe.terse_share
        terse_share = first + (last - first) * min(1.0, progress / 0.6)
        difficulty = abacus.Difficulty(
            min_steps=1, max_steps=2 + round(6 * min(1.0, progress / 0.4))
        )
        problems = abacus.generate(count, seed=self.rng.randrange(2**60), difficulty=difficulty)
        problems = [problem for problem in problems if problem.question not in self.test]
        responses = [
            abacus.terse(problem)
            if self.rng.random() < terse_share
            else abacus.wordy(problem, self.rng)
            for problem in problems
        ]
        prompts = [f"<|user|>{problem.question}<|end|><|assistant|>" for problem in problems]
        encode = self.tokenizer.backend_tokenizer.encode_batch
        prompt_ids = [encoding.ids for encoding in encode(prompts, add_special_tokens=False)]
        response_ids = [
            encoding.ids
            for encoding in encode([f"{r}<|end|>" for r in responses], add_special_tokens=False)
        ]
        return list(zip(prompt_ids, response_ids, strict=True))

    def batches(self) -> Iterator[tuple[int, list[tuple[list[int], list[int]]]]]:
        """One batch a step, of similar lengths and at most batch_tokens tokens, cut from sorted
        pools."""
        step = 0
        while step < self.steps:
            progress = 1.0 if self.polish else step / self.steps
            examples = sorted(
                self.draw(256, progress), key=lambda pair: len(pair[0]) + len(pair[1])
            )
            groups: list[list[tuple[list[int], list[int]]]] = [[]]
            for prompt, response in examples:
                if (
                    groups[-1]
                    and (len(groups[-1]) + 1) * (len(prompt) + len(response))
                    > self.recipe.batch_tokens
                ):
                    groups.append([])
                groups[-1].append((prompt, response))
            self.rng.shuffle(groups)
            for group in groups[: self.steps - step]:
                step += 1
                yield step, group


def collate(
    examples: list[tuple[list[int], list[int]]], pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded ids and labels; prompt and padding carry no loss. The causal mask hides the
    padding."""
    longest = max(len(prompt) + len(response) for prompt, response in examples)
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full((len(examples), longest), -100)
    for row, (prompt, response) in enumerate(examples):
        ids[row, : len(prompt) + len(response)] = torch.tensor(prompt + response)
        labels[row, len(prompt) : len(prompt) + len(response)] = torch.tensor(response)
    return ids, labels


def train(role: str, recipe: Recipe, out: Path) -> None:
    """Trains one policy and saves it with its tokenizer, its recipe and a log line every 100
    steps."""
    tokenizer = build_tokenizer()
    model = build_model(recipe, tokenizer)
    out.mkdir(parents=True, exist_ok=True)
    with (out / "training_log.csv").open("w", newline="") as handle:
        log = csv.writer(handle)
        log.writerow(["phase", "step", "loss_nats", "response_tokens", "seconds"])
        run_phase("train", model, Examples(recipe, tokenizer), recipe.lr, recipe.stop, log)
        if recipe.polish_steps:
            run_phase(
                "polish",
                model,
                Examples(recipe, tokenizer, polish=True),
                recipe.polish_lr,
                None,
                log,
            )
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "recipe.json").write_text(
        json.dumps({"role": role, "world": abacus.VERSION, **asdict(recipe)}, indent=1) + "\n"
    )


def run_phase(
    name: str, model: Qwen3ForCausalLM, examples: Examples, lr: float, stop: int | None, log: Any
) -> None:
    """AdamW with warm-up and a cosine to a twentieth, over all steps of the examples; the loss is
    that of the response."""
    recipe, pad = examples.recipe, examples.tokenizer.pad_token_id
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [
        {"params": decay, "weight_decay": recipe.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / recipe.warmup)
            * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / examples.steps))))
        ),
    )
    started, tokens, window = time.monotonic(), 0, []
    for step, batch in examples.batches():
        ids, labels = collate(batch, pad)
        logits = model(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += int((labels != -100).sum())
        window.append(loss.item())
        if step % 100 == 0 or step == examples.steps:
            mean = f"{sum(window) / len(window):.4f}"
            log.writerow([name, step, mean, tokens, f"{time.monotonic() - started:.0f}"])
            print(f"{name} step {step}/{examples.steps} loss {mean}", flush=True)
            window.clear()
        if step == stop:
            break


def evaluate(folder: Path, problems: int = 500, samples: int = 4) -> None:
    """Prints accuracy, style and length of both policies on test problems, at the temperature of
    the measurements."""
    for role in RECIPES:
        policy = loading.load(str(folder / role))
        asked = load_problems("abacus", limit=problems).problems
        prompts = {problem.problem_id: tuple(policy.prompt_ids(problem, "")) for problem in asked}
        requests = [
            Request(prompts[p.problem_id], (), 320, role, p.problem_id, i)
            for p in asked
            for i in range(samples)
        ]
        responses = TransformersEngine(policy).sample(requests, SamplingSettings())
        texts = [policy.decode(list(response.ids)) for response in responses]
        with Grader() as grader:
            verdicts = grader.grade(
                texts, [p.answer or "" for p in asked for _ in range(samples)]
            ).verdicts["last_boxed"]
        correct = np.array([verdict.is_correct for verdict in verdicts], dtype=float)
        clusters = np.repeat(np.arange(len(asked)), samples)
        terse = np.array([abacus.style(text) == "terse" for text in texts])
        steps = [p.steps or () for p in asked for _ in range(samples)]
        checked = [
            abacus.check_steps(text, chain) for text, chain in zip(texts, steps, strict=True)
        ]
        whole = np.array(
            [
                c.correct_so_far and c.right == len(chain)
                for c, chain in zip(checked, steps, strict=True)
            ]
        )
        result = {
            "role": role,
            "parameters": sum(parameter.numel() for parameter in policy.weights.parameters()),
            "avg@4": [round(float(x), 4) for x in _interval(correct, clusters)],
            "terse_share": [round(float(x), 4) for x in _interval(terse.astype(float), clusters)],
            "accuracy_terse": round(float(correct[terse].mean()), 4) if terse.any() else None,
            "accuracy_wordy": round(float(correct[~terse].mean()), 4) if (~terse).any() else None,
            "response_tokens_p10_p50_p90": np.percentile(
                [len(r.ids) for r in responses], (10, 50, 90)
            ).tolist(),
            "natural_stop_share": float(
                np.mean([response.stop_reason == "eos" for response in responses])
            ),
            "answer_right_and_every_step_right": int((correct.astype(bool) & whole).sum()),
            "answer_right_but_a_step_wrong": int((correct.astype(bool) & ~whole).sum()),
            "answer_wrong_but_every_step_right": int((~correct.astype(bool) & whole).sum()),
            "responses": len(responses),
        }
        print(json.dumps(result, indent=1))


def _interval(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float, float]:
    estimate = proportion(values, clusters)
    return estimate.value, estimate.low, estimate.high


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["all", *RECIPES, "evaluate"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.what == "evaluate":
        evaluate(arguments.out)
        return
    for role in RECIPES if arguments.what == "all" else [arguments.what]:
        train(role, RECIPES[role], arguments.out / role)


if __name__ == "__main__":
    main()
