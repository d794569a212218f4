"""Small tokenizers of every family that pairs of two tokenizers meet, and texts that try them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tiny_models import save_folder
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from decaylab.policies.identity import PolicyIdentity
from decaylab.policies.policy import LoadSettings, Policy

CORPUS = [
    "What is 2+3? The answer is five, so the total is 125 apples and 12 pears.",
    "Let x = 3. Then 2x + 1 = 7, and \\frac{7}{2} is the answer: \\boxed{3.5}.",
    "def total(values):\n    return sum(values)\n\n\nprint(total([1, 20, 300]))",
    "The naïve café résumé was 12.50 — “so” they said…\n\nStep 1: it is the sum.",
    "Die Größe der Straße; 中文字符 和 日本語 かな; Привет мир; שלום עולם; مرحبا بالعالم.",
] * 6
PLAIN = [line for line in CORPUS if line.isascii()]
CHAT = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}<|im_start|>"
CONTROLS = ("<|im_start|>", "<|im_end|>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


def fast(made: Tokenizer, thinks: bool, **roles: str) -> PreTrainedTokenizerFast:
    """The tokenizer with control tokens and a chat template."""
    made.add_special_tokens(list(CONTROLS))
    if thinks:
        marks = [AddedToken(mark, normalized=False) for mark in ("<think>", "</think>")]
        made.add_tokens(marks)
    whole = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", **roles)
    whole.chat_template = CHAT
    return whole


def byte_level(
    pattern: str,
    size: int,
    *,
    thinks: bool = True,
    normalizer: Any = None,
    digits: bool = False,
    alphabet: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """Byte-level BPE. pattern: where words part. digits: each digit is a token. alphabet: the bytes
    that it has, by their signs; by default all."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizer
    parts = [
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
    if digits:
        parts.insert(0, pre_tokenizers.Digits(individual_digits=True))
    made.pre_tokenizer = pre_tokenizers.Sequence(parts)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=[*alphabet] or pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(PLAIN if alphabet else CORPUS, trainer)
    return fast(made, thinks)


def sentencepiece(size: int, *, dummy: bool, fallback: bool = True) -> PreTrainedTokenizerFast:
    """SentencePiece BPE. dummy: a blank ahead of each text (Llama 2), which decoding takes away.
    fallback: it has tokens for bytes; else ASCII alone."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=fallback))
    blanks = normalizers.Replace(" ", "▁")
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    made.normalizer = blanks
    if dummy:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blanks])
        steps.append(decoders.Strip(" ", 1, 0))
    # In the trainer alone: words part at blanks, as in SentencePiece.
    made.pre_tokenizer = pre_tokenizers.Split(Regex("▁*[^▁]+"), "isolated")
    special = ["<unk>", "<s>", "</s>", *(BYTES if fallback else ())]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=[*map(chr, range(0x21, 0x7F)), "\n"],
        show_progress=False,
    )
    made.train_from_iterator(CORPUS if fallback else PLAIN, trainer)
    state = json.loads(made.to_str())
    state["added_tokens"] = state["added_tokens"][:3]  # bytes are no added tokens
    state["pre_tokenizer"] = None
    made = Tokenizer.from_str(json.dumps(state))
    made.decoder = decoders.Sequence(steps)
    return fast(made, True, bos_token="<s>", unk_token="<unk>")


def unigram(scheme: str, size: int = 200) -> PreTrainedTokenizerFast:
    """Unigram over words with a sign for their blank (T5); no bytes, so that some text is unknown.
    scheme: where a blank is put ahead."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=size,
        special_tokens=["<unk>", "</s>"],
        unk_token="<unk>",
        initial_alphabet=[*map(chr, range(0x21, 0x7F)), "\n"],
        show_progress=False,
    )
    made.train_from_iterator(CORPUS, trainer)
    return fast(made, False, unk_token="<unk>")


def wordpiece() -> PreTrainedTokenizerFast:
    """BERT's: no decoder of bytes."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=150, special_tokens=["[UNK]"], show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    return fast(made, False, unk_token="[UNK]")


FAMILIES: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "GPT-2": lambda: byte_level(GPT2, 420, thinks=False),
    "Qwen2": lambda: byte_level(QWEN2, 520, normalizer=normalizers.NFC()),
    "SmolLM": lambda: byte_level(GPT2, 460, digits=True),
    "Llama-2": lambda: sentencepiece(520, dummy=True),
    "Gemma": lambda: sentencepiece(600, dummy=False),
    "T5": lambda: unigram("always"),
    "Unigram, first blank": lambda: unigram("first", 240),
    "Unigram, no blank": lambda: unigram("never", 240),
    "lower case": lambda: byte_level(GPT2, 430, normalizer=normalizers.Lowercase()),
    "NFKC": lambda: byte_level(QWEN2, 440, normalizer=normalizers.NFKC()),
}
"""The families by the model that has the like, each made anew."""


@cache
def family(name: str) -> PreTrainedTokenizerFast:
    """A tokenizer of a family; not to be changed."""
    return FAMILIES[name]()


def policy_of(tokenizer: Any, name: str = "some") -> Policy:
    """A policy without weights."""
    return Policy(name, None, tokenizer, PolicyIdentity(name, "folder", "", ""), LoadSettings())


def two_tokenizers(path: Path) -> tuple[Path, Path]:
    """Folders of a student and a teacher, tiny random Llamas: byte-level and SentencePiece.

    Their tokens are all of ASCII, so that most of what they write at random is text.
    """
    student = byte_level(
        QWEN2, 260, thinks=False, alphabet=[*map(chr, range(0x21, 0x7F)), "Ġ", "Ċ"]
    )
    teacher = sentencepiece(300, dummy=True, fallback=False)
    folders = []
    for seed, (name, tokenizer) in enumerate({"student": student, "teacher": teacher}.items()):
        ends = {"eos_token_id": int(tokenizer.eos_token_id), "pad_token_id": 0}
        more = {**ends, "max_position_embeddings": 1024}
        folders.append(save_folder(path / name, tokenizer=tokenizer, seed=seed + 1, **more))
    return folders[0], folders[1]


def adversarial_texts() -> list[str]:
    """200 texts that tokenizers treat differently."""
    texts = [*PARTS, *(f" {part}" for part in PARTS[:20]), *(f"{part}\n\n" for part in PARTS[:20])]
    texts += _mixed(200 - len(texts))
    return texts


def _mixed(number: int) -> Iterator[str]:
    draw = random.Random(22)
    for _ in range(number):
        between = draw.choice(["", " ", "\n", "  "])
        yield between.join(draw.choice(PARTS) for _ in range(draw.randint(2, 6)))


PARTS = [
    "plain words of the answer",
    "The answer is 42.",
    " leading blank",
    "   three leading blanks",
    "trailing blank ",
    "trailing blanks   ",
    "\n",
    "\n\n\n\n",
    " \n \n ",
    "\t\ttabs\t",
    "a\r\nb\r\n\r\nc",
    "two  blanks   three    four",
    "1234567890",
    "3.14159 and 1,000,000",
    "12 + 345 = 357",
    "x²+y³",
    "½ ⅓ Ⅷ ① ﬁ ﬂ",  # change by NFKC
    "ÀÉÎÕÜ UPPER lower",
    "cafe\u0301 re\u0301sume\u0301",  # combining: changes by NFC
    "café résumé",
    "a\u0323\u0307b\u0307\u0323",
    "n\u0303o",
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈 flag",
    "👍🏽👍🏿",
    "🇩🇪🇫🇷",
    "😀😀😀 smile",
    "中文字符测试",
    "日本語のかな",
    "한국어 텍스트",
    "שלום עולם",
    "مرحبا بالعالم",
    "left \u202eright\u202c left",
    "Привет, мир",
    "ไทยภาษา",
    "नमस्ते",
    "\\frac{a}{b} = \\sqrt[3]{27}",
    "$$\\int_0^1 x^2\\,dx$$",
    "\\boxed{\\text{yes}}",
    "\\[ \\begin{cases} 1 & x>0 \\\\ 0 \\end{cases} \\]",
    "def f(x):\n    return x ** 2\n",
    "for (int i = 0; i < n; ++i) { a[i] <<= 1; }",
    "```python\nprint('hi')\n```",
    "<html><body>&nbsp;</body></html>",
    "if a != b && c || !d { }",
    "<|im_end|>",
    "say <|im_end|> twice <|im_end|>",
    "<|im_start|>user",
    "<think>not a token</think>",
    "<unk> and <s> and </s>",
    "<0x41> <0xE2>",
    "▁lower▁one",
    "Ġword Ċ",
    "\u00a0no-break\u00a0",
    "zero\u200bwidth\u200d\ufeff",
    "\x00\x01\x7f",
    "\ufffd replaced",
    "\U000f0000 private \ue000",
    "don't can't I'll we've",
    "“quotes” – dashes — …",
    "e\u0301",
    "A",
    " ",
    "  ",
    "İstanbul ıI",  # lower case is longer
    "straße STRASSE",
    "a" * 40,
    "abababababab",
    "((((()))))",
    "-----=====",
    "https://example.org/a?b=c&d=%20e",
    "e=mc^2; E≈10⁻³",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛",
    "\u1100\u1161\u11a8",  # composes by NFC
    "Å Å",
]
