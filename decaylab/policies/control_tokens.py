"""Control tokens in a user's text: a question that spells ``<|im_end|>`` is encoded as text and
closes no turn.

    marks = ControlTokens(tokenizer) marks.spelt("What does <|im_end|> do?")              #
    ["<|im_end|>"] hidden = {} text = "<|user|>" + marks.hide("What does <|im_end|> do?", hidden) +
    "<|assistant|>" marks.encode(text, hidden)                           # <|user|> and
    <|assistant|> are tokens, <|im_end|> is text

A control token is a special token, or an added one in brackets (``<think>``, ``[INST]``). Words and
white space that were added to a vocabulary are ordinary text.
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
"""Characters of no meaning (a private use area): they stand for hidden control tokens while a
template is rendered."""
AHEAD = {False: chr(PRIVATE[-1]), True: chr(PRIVATE[-2])}
"""In place of the control token ahead of a piece, by whether that is looked for in normalised text:
many tokenizers mark the first word of a text, or of what follows a token."""


class ControlTokens:
    """The control tokens of a tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        added = {
            int(i): one for i, one in tokenizer.added_tokens_decoder.items() if one.content.strip()
        }
        control = {
            i: one for i, one in added.items() if one.special or BRACKETED.fullmatch(one.content)
        }
        self.texts = {i: str(one.content) for i, one in control.items()}
        self.normalised = {i for i, one in control.items() if one.normalized}

    def spelt(self, text: str) -> list[str]:
        """The control tokens that a text spells, in its order, repeats included."""
        return [text[start:end] for start, end in self._spans(text)]

    def hide(self, text: str, hidden: dict[str, str]) -> str:
        """The text with a run of one character, as long, in the place of each control token;
        ``hidden`` says of which."""
        pieces, done = [], 0
        for start, end in self._spans(text):
            token = text[start:end]
            sign = next((sign for sign, one in hidden.items() if one == token), None) or _unused(
                text, hidden
            )
            hidden[sign] = token
            pieces += [text[done:start], sign * len(token)]
            done = end
        return "".join([*pieces, text[done:]])

    def encode(self, text: str, hidden: Mapping[str, str], *, begin: bool = False) -> list[int]:
        """Ids of a rendered text. What is hidden in it is encoded as text; every other control
        token is one.

        begin: as the beginning of a text, with what the tokenizer puts around one.

        Raises:
            UserError: a hidden token that the tokenizer can't spell.
        """
        if not any(sign in text for sign in hidden):
            return list(self.tokenizer(text, add_special_tokens=begin)["input_ids"])
        self._require_offsets()
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        bare, found = list(coded["input_ids"]), list[int]()
        first, start, ahead = 0, 0, ""  # of the piece that stands between two control tokens
        written = [
            one
            for one in self._found(text, coded)
            if not any(sign in text[slice(*one[1:])] for sign in hidden)
        ]
        for place, end, behind in [*written, (len(bare), len(text), len(text))]:
            spells = any(sign in text[start:end] for sign in hidden)
            found += (
                self._spelled(_shown(text[start:end], hidden), ahead)
                if spells
                else bare[first:place]
            )
            found += bare[place : place + 1]
            first, start, ahead = (
                place + 1,
                behind,
                AHEAD[place < len(bare) and bare[place] in self.normalised],
            )
        return self._around(text, bare, found) if begin else found

    def _around(self, text: str, bare: list[int], found: list[int]) -> list[int]:
        """The ids with what the tokenizer puts in front of a text and behind it."""
        whole = list(self.tokenizer(text)["input_ids"])
        ahead = next(n for n in range(len(whole)) if whole[n : n + len(bare)] == bare)
        return [*whole[:ahead], *found, *whole[ahead + len(bare) :]]

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where a text spells control tokens; white space that a token takes with it is no part of
        one."""
        if not self.tokenizer.is_fast:
            known = sorted(self.texts.values(), key=len, reverse=True)
            yield from (
                one.span() for one in re.finditer("|".join(map(re.escape, known)) or "(?!)", text)
            )
            return
        coded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        for _, start, end in self._found(text, coded):
            spelt = text[start:end].strip()
            start = text.index(spelt, start)
            yield start, start + len(spelt)

    def _found(self, text: str, coded: Any) -> Iterator[tuple[int, int, int]]:
        """The control tokens of an encoded text: the place of each among the ids, and its first and
        last character + 1."""
        for place, (token, (start, end)) in enumerate(
            zip(coded["input_ids"], coded["offset_mapping"], strict=True)
        ):
            # The unknown token stands for any text that the vocabulary lacks.
            if token in self.texts and (
                token != self.tokenizer.unk_token_id or text[start:end].strip() == self.texts[token]
            ):
                yield place, start, end

    def _spelled(self, text: str, ahead: str) -> list[int]:
        """Ids of a text without control tokens. ahead: of `AHEAD`, unless the text begins the
        prompt."""
        plain, moved = self._plain
        coded = plain.encode(ahead + text)
        first = coded.tokens.index(ahead) + 1 if ahead else 0
        ids = [moved.get(token, token) for token in coded.ids[first:]]
        if bad := [
            token for token in ids if token in self.texts and token != self.tokenizer.unk_token_id
        ]:
            raise self._unspellable(self.texts[bad[0]])
        return ids

    def _require_offsets(self) -> None:
        if not self.tokenizer.is_fast:
            raise self._unspellable(next(iter(self.texts.values())))

    @cached_property
    def _plain(self) -> tuple[Tokenizer, dict[int, int]]:
        """The tokenizer without its control tokens, and the ids of added tokens that it gives
        another number."""
        state = json.loads(self.tokenizer.backend_tokenizer.to_str())
        kept = [one for one in state["added_tokens"] if one["id"] not in self.texts]
        state |= {"added_tokens": kept, "post_processor": None, "truncation": None, "padding": None}
        model, tokens = state["model"], set(self.texts.values()) - {self.tokenizer.unk_token}
        if model["type"] == "Unigram":  # which would take a control token for a word of its own
            pieces = enumerate(model["vocab"])
            model["vocab"] = [
                [f"{AHEAD[True]}{i}" if piece in tokens else piece, score]
                for i, (piece, score) in pieces
            ]
        elif model["type"] != "BPE":
            model["vocab"] = {
                piece: index for piece, index in model["vocab"].items() if piece not in tokens
            }
        plain = Tokenizer.from_str(json.dumps(state))
        plain.add_special_tokens(
            [AddedToken(sign, normalized=normalised) for normalised, sign in AHEAD.items()]
        )
        numbers = {plain.token_to_id(one["content"]): one["id"] for one in kept}
        return plain, {here: there for here, there in numbers.items() if here is not None}

    def _unspellable(self, token: str) -> UserError:
        return UserError(
            f"a question spells the control token {token!r}, and this tokenizer "
            f"({type(self.tokenizer).__name__}) cannot "
            "encode it as text; leave that problem out"
        )


def _unused(text: str, hidden: Mapping[str, str]) -> str:
    return next(chr(code) for code in PRIVATE if chr(code) not in text and chr(code) not in hidden)


def _shown(text: str, hidden: Mapping[str, str]) -> str:
    """The text with the hidden control tokens in their places again."""
    for sign, token in hidden.items():
        text = text.replace(sign * len(token), token)
    return text
