"""Encodes control tokens in a user's text as text, so that ``<|im_end|>`` does not end a turn.

    marks, hidden = ControlTokens(tokenizer), {}
    marks.spelt("What does <|im_end|> do?")              # ["<|im_end|>"]
    question = marks.hide("What does <|im_end|> do?", hidden)
    marks.encode(f"<|user|>{question}<|assistant|>", hidden)
    # <|user|> and <|assistant|> are tokens, <|im_end|> is text

A control token is a special token, or an added token in brackets (``<think>``, ``[INST]``). Added
words and white space are ordinary text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, Tokenizer

from decaylab.errors import UserError

BRACKETED = re.compile(r"\s*[<\[].*[>\]]\s*", re.DOTALL)
PRIVATE = range(0xF0000, 0xFFFFD)
"""Private use characters: placeholders for hidden control tokens while a template is rendered."""
AHEAD = {False: chr(PRIVATE[-1]), True: chr(PRIVATE[-2])}
"""Placeholder for the control token before a piece of text, by whether the token is matched in
normalised text. It is needed because many tokenizers mark the first word of a text or after a
token."""


class ControlTokens:
    """The control tokens of a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.texts: dict[int, str] = {}
        self.normalised: set[int] = set()
        for index, token in tokenizer.added_tokens_decoder.items():
            controls = token.special or BRACKETED.fullmatch(token.content)
            if token.content.strip() and controls:
                self.texts[int(index)] = str(token.content)
                if token.normalized:
                    self.normalised.add(int(index))

    def spelt(self, text: str) -> list[str]:
        """The control tokens that a text spells, in order, with repeats."""
        return [text[start:end] for start, end in self._spans(text)]

    def hide(self, text: str, hidden: dict[str, str]) -> str:
        """The text with each control token replaced by a run of one placeholder, of equal length.

        Adds the placeholders and their tokens to ``hidden``.
        """
        pieces, done = [], 0
        for start, end in self._spans(text):
            token = text[start:end]
            signs = [sign for sign, spelt in hidden.items() if spelt == token]
            sign = signs[0] if signs else _unused(text, hidden)
            hidden[sign] = token
            pieces += [text[done:start], sign * len(token)]
            done = end
        return "".join([*pieces, text[done:]])

    def encode(self, text: str, hidden: Mapping[str, str], *, begin: bool = False) -> list[int]:
        """Ids of a rendered text. Hidden control tokens are encoded as text, all others as tokens.

        begin: adds the special tokens that the tokenizer puts around a text.

        Raises:
            UserError: the tokenizer cannot encode a hidden token as text.
        """

        def hides(start: int, end: int) -> bool:
            return any(sign in text[start:end] for sign in hidden)

        if not hides(0, len(text)):
            return list(self.tokenizer(text, add_special_tokens=begin)["input_ids"])
        self._require_offsets()
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        bare, ids = list(coded["input_ids"]), list[int]()
        written = [token for token in self._tokens(text, coded) if not hides(*token[1:])]
        # Go through the pieces between control tokens. first: the piece's first id; start: its
        # first character; ahead: placeholder for the control token before it.
        first, start, ahead = 0, 0, ""
        for place, end, behind in [*written, (len(bare), len(text), len(text))]:
            if hides(start, end):
                ids += self._spelled(_shown(text[start:end], hidden), ahead)
            else:
                ids += bare[first:place]
            ids += bare[place : place + 1]
            first, start = place + 1, behind
            ahead = AHEAD[place < len(bare) and bare[place] in self.normalised]
        return self._around(text, bare, ids) if begin else ids

    def _around(self, text: str, bare: list[int], ids: list[int]) -> list[int]:
        """The ids with the special tokens that the tokenizer puts around a text."""
        whole = list(self.tokenizer(text)["input_ids"])
        ahead = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
        return [*whole[:ahead], *ids, *whole[ahead + len(bare) :]]

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where a text spells control tokens, without the white space that a token absorbs."""
        if not self.tokenizer.is_fast:
            known = sorted(self.texts.values(), key=len, reverse=True)
            pattern = "|".join(map(re.escape, known)) or "(?!)"
            for match in re.finditer(pattern, text):
                yield match.span()
            return
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for _, start, end in self._tokens(text, coded):
            spelt = text[start:end].strip()
            start = text.index(spelt, start)
            yield start, start + len(spelt)

    def _tokens(self, text: str, coded: Any) -> Iterator[tuple[int, int, int]]:
        """Control tokens of an encoded text: id index, first character, last character + 1."""
        offsets = zip(coded["input_ids"], coded["offset_mapping"], strict=True)
        for place, (token, (start, end)) in enumerate(offsets):
            if token not in self.texts:
                continue
            # The unknown token represents any text that is not in the vocabulary.
            unknown = token == self.tokenizer.unk_token_id
            if not unknown or text[start:end].strip() == self.texts[token]:
                yield place, start, end

    def _spelled(self, text: str, ahead: str) -> list[int]:
        """Ids of a text, none of them a control token.

        ahead: placeholder from `AHEAD`; "" at the beginning of the prompt.
        """
        plain, moved = self._plain
        coded = plain.encode(ahead + text)
        first = coded.tokens.index(ahead) + 1 if ahead else 0
        ids = [moved.get(token, token) for token in coded.ids[first:]]
        for token in ids:
            if token in self.texts and token != self.tokenizer.unk_token_id:
                raise self._unspellable(self.texts[token])
        return ids

    def _require_offsets(self) -> None:
        if not self.tokenizer.is_fast:
            raise self._unspellable(next(iter(self.texts.values())))

    @cached_property
    def _plain(self) -> tuple[Tokenizer, dict[int, int]]:
        """The tokenizer without its control tokens, and a map back to the original added ids."""
        state = json.loads(self.tokenizer.backend_tokenizer.to_str())
        kept = [token for token in state["added_tokens"] if token["id"] not in self.texts]
        state |= {"added_tokens": kept, "post_processor": None, "truncation": None, "padding": None}
        model, tokens = state["model"], set(self.texts.values()) - {self.tokenizer.unk_token}
        vocabulary = model["vocab"]
        # A Unigram model has control tokens in its vocabulary too.
        if model["type"] == "Unigram":
            for index, (piece, _) in enumerate(vocabulary):
                if piece in tokens:
                    vocabulary[index][0] = f"{AHEAD[True]}{index}"
        elif model["type"] != "BPE":
            for token in tokens:
                vocabulary.pop(token, None)
        plain = Tokenizer.from_str(json.dumps(state))
        signs = [AddedToken(sign, normalized=normalised) for normalised, sign in AHEAD.items()]
        plain.add_special_tokens(signs)
        moved: dict[Any, int] = {plain.token_to_id(token["content"]): token["id"] for token in kept}
        moved.pop(None, None)
        return plain, moved

    def _unspellable(self, token: str) -> UserError:
        return UserError(
            f"a question contains the control token {token!r}, which this tokenizer "
            f"({type(self.tokenizer).__name__}) cannot encode as text; remove that problem"
        )


def _unused(text: str, hidden: Mapping[str, str]) -> str:
    return next(chr(code) for code in PRIVATE if chr(code) not in text and chr(code) not in hidden)


def _shown(text: str, hidden: Mapping[str, str]) -> str:
    """The text with its hidden control tokens restored."""
    for sign, token in hidden.items():
        text = text.replace(sign * len(token), token)
    return text
