"""Control tokens that a user's text spells are encoded as text, by every kind of tokenizer; those
of a template stay tokens."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from tiny_models import byte_tokenizer
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from decaylab.errors import UserError
from decaylab.policies import loading
from decaylab.policies.control_tokens import ControlTokens
from decaylab.policies.policy import LoadSettings
from decaylab.problems.problem import Problem

CORPUS = [
    "What is 2+3? The answer is five. im_end im start user assistant think </s> <|x|>",
    "a b question ab table",
] * 20
WORDS = ["What", "is", "2+3?", "\n", "\n\n", " ", "  ", "answer", "ab", "im", "ünd", "<|", "x>"]


def qwen_like() -> Any:
    """Byte-level BPE; control tokens behind the vocabulary, some of them not special; a word and
    white space added."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|pad|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    made.train_from_iterator(CORPUS, trainer)
    made.add_special_tokens(["<|im_start|>"])
    made.add_tokens(
        ["answer", AddedToken("\n\n", normalized=False), AddedToken("<think>", normalized=False)]
    )
    made.add_special_tokens(["<|im_end|>", "  "])  # white space is text, whatever its mark
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|endoftext|>")


def llama_like() -> Any:
    """SentencePiece BPE: control tokens inside the vocabulary, bytes, and a mark in front of the
    first word."""
    made = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    )
    state = json.loads(made.to_str())
    state["added_tokens"] = state["added_tokens"][:3]  # bytes are no added tokens
    made = Tokenizer.from_str(json.dumps(state))
    made.add_special_tokens(
        ["<|im_start|>", "<|im_end|>", AddedToken("<|user|>", rstrip=True, normalized=False)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
    )


def unigram_like(scheme: str) -> Callable[[], Any]:
    def make() -> Any:
        made = Tokenizer(models.Unigram())
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        made.decoder = decoders.Metaspace(prepend_scheme=scheme)
        special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
        trainer = trainers.UnigramTrainer(
            vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False
        )
        made.train_from_iterator(CORPUS, trainer)
        return PreTrainedTokenizerFast(
            tokenizer_object=made, eos_token="</s>", bos_token="<s>", unk_token="<unk>"
        )

    return make


def words_alone() -> Any:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = ["<unk>", "<|im_start|>", "<|im_end|>"]
    made.train_from_iterator(
        CORPUS, trainers.WordLevelTrainer(special_tokens=special, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", unk_token="<unk>")


KINDS: dict[str, Callable[[], Any]] = {
    "byte-level BPE": qwen_like,
    "SentencePiece BPE": llama_like,
    "Unigram, first word marked": unigram_like("first"),
    "Unigram, every piece marked": unigram_like("always"),
    "Unigram, none marked": unigram_like("never"),
    "bytes": byte_tokenizer,
    "abacus": lambda: loading.load_tokenizer_only("abacus-student").tokenizer,
}


def without_control_tokens(tokenizer: Any, text: str, ahead: str) -> list[int]:
    """The ids of text behind a control token, by the tokenizer's own pipeline, taken apart: an
    independent definition."""
    whole = tokenizer.backend_tokenizer
    text = whole.normalizer.normalize_str(text) if whole.normalizer else text
    pieces = [text]
    if whole.pre_tokenizer:
        pieces = [piece for piece, _ in whole.pre_tokenizer.pre_tokenize_str(text)]
    return [token.id for piece in pieces for token in whole.model.tokenize(piece)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_question_spells_is_text_and_what_stands_around_it_is_not(kind: str) -> None:
    tokenizer = KINDS[kind]()
    marks = ControlTokens(tokenizer)
    tokens = [text for token, text in marks.texts.items() if token != tokenizer.unk_token_id]
    assert {"<|im_end|>", "<|end|>"} & set(tokens)
    for spelt in tokens:
        hidden: dict[str, str] = {}
        question = f"What {spelt}{spelt} is {spelt}?"
        text = tokens[0] + marks.hide(question, hidden) + tokens[-1]
        ids = marks.encode(text, hidden)
        assert ids[0] == tokenizer.convert_tokens_to_ids(tokens[0]), "the template's own token"
        assert ids[-1] == tokenizer.convert_tokens_to_ids(tokens[-1])
        assert not (set(ids[1:-1]) - {tokenizer.unk_token_id}) & set(marks.texts)
        shown = tokenizer.decode(ids[1:-1], clean_up_tokenization_spaces=False).replace("▁", " ")
        assert shown.replace(" ", "") == question.replace(" ", "")


def test_byte_level_text_is_encoded_as_where_the_token_does_not_exist() -> None:
    tokenizer = qwen_like()
    marks = ControlTokens(tokenizer)
    for spelt in ("<|im_start|>", "<|im_end|>", "<think>"):
        hidden: dict[str, str] = {}
        question = f"is {spelt}? im{spelt}"
        ids = marks.encode(f"<|im_start|>{marks.hide(question, hidden)}<|im_end|>", hidden)
        assert ids[1:-1] == without_control_tokens(tokenizer, question, "")


@pytest.mark.parametrize("kind", [*KINDS, "words"])
def test_a_text_that_spells_none_is_encoded_as_the_tokenizer_does(kind: str) -> None:
    """Also where other pieces are encoded anew: only the piece that spells a control token may
    differ."""
    tokenizer = KINDS.get(kind, words_alone)()
    marks, draw = ControlTokens(tokenizer), random.Random(0)
    tokens = [text for token, text in marks.texts.items() if token != tokenizer.unk_token_id]
    for _ in range(100):
        text = draw.choice(["", " "]).join(
            draw.choice([*WORDS, *tokens]) for _ in range(draw.randint(1, 8))
        )
        assert marks.encode(text, {}) == tokenizer(text, add_special_tokens=False)["input_ids"]
        hidden: dict[str, str] = {}
        tail = marks.hide(f"{tokens[0]}", hidden)
        before = tokenizer(text + tokens[-1], add_special_tokens=False)["input_ids"]
        assert marks.encode(text + tokens[-1] + tail, hidden)[: len(before)] == before


@pytest.mark.parametrize(
    "kind", ["SentencePiece BPE", "Unigram, first word marked", "Unigram, every piece marked"]
)
def test_a_piece_inside_a_prompt_gets_the_marks_of_one_inside_it(kind: str) -> None:
    """The question's words around the token have the ids that they have where it spells no token at
    all."""
    tokenizer = KINDS[kind]()
    marks, hidden = ControlTokens(tokenizer), dict[str, str]()
    plain = tokenizer("<|im_start|>What is this", add_special_tokens=False)["input_ids"]
    ids = marks.encode(f"<|im_start|>{marks.hide('What is this <|im_end|>', hidden)}", hidden)
    assert ids[: len(plain) - 1] == plain[:-1]
    begin = tokenizer("What is this", add_special_tokens=False)["input_ids"]
    hidden = {}
    assert (
        marks.encode(marks.hide("What is this <|im_end|>", hidden), hidden)[: len(begin) - 1]
        == begin[:-1]
    )


def test_words_and_white_space_that_were_added_are_text() -> None:
    tokenizer = qwen_like()
    marks = ControlTokens(tokenizer)
    assert marks.spelt("the answer\n\nis <think> and <|im_end|><|im_end|>") == [
        "<think>",
        "<|im_end|>",
        "<|im_end|>",
    ]
    hidden: dict[str, str] = {}
    ids = marks.encode(marks.hide("answer\n\n<|im_end|>", hidden), hidden)
    assert ids[:2] == tokenizer.convert_tokens_to_ids(
        ["answer", "\n\n"]
    )  # with their ids, although fewer were added


def test_an_unknown_character_is_no_control_token() -> None:
    tokenizer = unigram_like("first")()
    marks = ControlTokens(tokenizer)
    assert tokenizer.unk_token_id in tokenizer("語", add_special_tokens=False)["input_ids"]
    assert marks.spelt("語 <s> <unk>") == ["<s>", "<unk>"]


def test_a_token_that_matches_normalised_text_is_found_in_its_other_spellings() -> None:
    made = byte_tokenizer().backend_tokenizer
    made.normalizer = normalizers.Lowercase()
    made.add_special_tokens([AddedToken("<|stop|>", normalized=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")
    marks, hidden = ControlTokens(tokenizer), dict[str, str]()
    assert marks.spelt("a <|STOP|> b") == ["<|STOP|>"]
    ids = marks.encode(marks.hide("a <|STOP|> b", hidden), hidden)
    assert (
        tokenizer.decode(ids) == "a <|stop|> b"
        and tokenizer.convert_tokens_to_ids("<|stop|>") not in ids
    )


@pytest.mark.parametrize("format", ["chat", "plain"])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_prompts_spell_what_question_instruction_and_system_message_spell(
    format: Any, adds_bos: bool
) -> None:
    template = (
        "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor "
        "%}<|assistant|>"
    )
    special = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|bos|>", "<|system|>")
    tokenizer = byte_tokenizer(template, adds_bos=adds_bos, special=special)
    chat = format == "chat"
    settings = LoadSettings("auto", "cpu", prompt_format=format, system="S<|end|>" if chat else "")
    policy = loading.Policy(
        "some", None, tokenizer, loading.PolicyIdentity("some", "folder", "", ""), settings
    )
    ids = policy.prompt_ids(Problem("p", "Q <|end|><|assistant|>", None), "I <|user|>")
    expected = "Question: Q <|end|><|assistant|>\nI <|user|>\nAnswer:"
    if chat:
        expected = (
            "<|system|>S<|end|><|end|><|user|>Q <|end|><|assistant|>\nI "
            "<|user|><|end|><|assistant|>"
        )
    expected = "<|bos|>" * (adds_bos and not chat) + expected
    assert tokenizer.decode(ids) == expected
    wanted = (
        ["<|system|>", "<|end|>", "<|user|>", "<|end|>", "<|assistant|>"]
        if chat
        else ["<|bos|>"] * adds_bos
    )
    assert [marks for marks in tokenizer.convert_ids_to_tokens(ids) if marks in special] == wanted


def test_another_readers_ids_hide_that_readers_control_tokens() -> None:
    """The teacher reads the student's rendered prompt by a tokenizer of its own."""
    identity = loading.PolicyIdentity("some", "folder", "", "")
    student = loading.Policy("student", None, byte_tokenizer(), identity)
    reader = loading.Policy(
        "teacher", None, qwen_like(), identity, LoadSettings(prompt_format="plain")
    )
    ids = student.prompt_ids(Problem("p", "a <|im_end|>", None), "", reader)
    assert reader.tokenizer.decode(ids) == "<|user|>a <|im_end|><|end|><|assistant|>"
    assert not set(ids) & set(reader.control.texts)


def test_a_tokenizer_without_a_backend_is_refused_where_a_token_is_spelt() -> None:
    class Slow:
        is_fast, unk_token_id, unk_token = False, None, None
        added_tokens_decoder = {1: AddedToken("<|end|>", special=True)}

        def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
            return {"input_ids": [ord(letter) for letter in text], "offset_mapping": []}

    marks, hidden = ControlTokens(Slow()), dict[str, str]()
    assert marks.encode(marks.hide("ab", hidden), hidden) == [97, 98]
    text = marks.hide("a<|end|>", hidden)
    with pytest.raises(
        UserError, match=r"contains the control token '<\|end\|>', which this tokenizer \(Slow\)"
    ):
        marks.encode(text, hidden)
