"""Responses of rollout files as token ids of the student: taken as they are, or encoded once from
their text.

A rollout that ended gets the end-of-turn token that it was ended with: the one among its ids, else
the one that the file names, else that of the template. One that did not end gets none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from decaylab.errors import UserError
from decaylab.policies.policy import Policy
from decaylab.rollout_files.conversation import Conversation
from decaylab.rollout_files.given_prompts import special_tokens, text_of
from decaylab.rollout_files.reading import GivenRollout
from decaylab.rollout_files.stops import Kind

STORED: dict[Kind, str] = {
    "natural": "eos",
    "cut": "length",
    "other": "other",
    "unknown": "unknown",
}
"""What stands under ``stop_reason`` in the rollouts table."""
MOST_MISMATCHES = 0.5
"""Share of the rollouts whose ids may read otherwise than their text; beyond, the ids are of
another tokenizer."""


@dataclass(frozen=True)
class Response:
    """A response in the student's ids.

    text: what is graded. stop_reason: eos, length, other or unknown. mask: 1 at the student's own
    tokens; None: all are.
    """

    ids: list[int]
    text: str
    stop_reason: str
    mask: list[int] | None = None


@dataclass
class Encoded:
    """What became of the responses of a file, counted in rollouts."""

    counts: Counter[str] = field(default_factory=Counter)
    mismatched: list[str] = field(default_factory=list)

    def notes(self, name: str) -> Iterator[str]:
        """What a reader of the results must know, as sentences."""
        total, said = self.counts["all"], SENTENCES
        for what, sentence in said.items():
            if self.counts[what]:
                yield f"{name}: {sentence.format(self.counts[what], total)}"


SENTENCES = {
    "ids": "{} of {} responses are the token ids of the file",
    "text": "{} of {} responses are encoded from their text: their ids may differ from those that "
    "were sampled",
    "changed": "{} of {} responses read otherwise once encoded and decoded",
    "mismatched": "{} of {} responses have token ids that read otherwise than their text: the ids "
    "are taken",
    "reasoning": "{} of {} responses were put together from thought and answer, as the template "
    "writes them",
    "turns": "{} of {} responses were put together from several turns, as the template writes them",
    "closed": "{} of {} responses ended without an end-of-turn token in the file: it was added",
    "begun": "{} of {} responses begin with the token that begins a text: it is left out",
    "padded": "{} of {} responses were padded in the file: the padding is left out",
    "behind": "{} of {} responses go on behind an end of turn: cut there",
    "masked": "{} of {} responses hold text that the student did not write (tools, users): it is "
    "not measured",
    "empty": "{} of {} responses are empty",
    "other": "{} of {} rollouts ended in a way that is no natural end: no end-of-turn token, no "
    "natural stop",
    "unknown": "{} of {} rollouts do not say why they ended: no end-of-turn token, and in no "
    "share of natural stops",
}


class Encoder:
    """Turns what files say into responses, for one student."""

    def __init__(self, student: Policy) -> None:
        self.student, self.found = student, Encoded()
        self.conversation = Conversation(student)

    def responses(self, rollouts: Sequence[GivenRollout]) -> list[Response]:
        """The responses, in order.

        Raises:
            UserError: ids of another tokenizer, a mask without the student, turns or thoughts that
            cannot be written.
        """
        found = [self._response(one) for one in rollouts]
        compared, wrong = self.found.counts["compared"], self.found.counts["mismatched"]
        if wrong > MOST_MISMATCHES * compared:
            raise UserError(
                f"{self.found.mismatched[0]}: {wrong} of {compared} responses have token ids that "
                "read otherwise than their "
                f"text to {self.student.name}: give the student that wrote them, or leave the ids "
                "out"
            )
        return found

    def _response(self, one: GivenRollout) -> Response:
        counts = self.found.counts
        counts["all"] += 1
        record = one.record
        if record.response_ids is not None:
            counts["ids"] += 1
            found = self._of_ids(one, list(record.response_ids))
        elif record.turns is not None:
            counts["turns"] += 1
            found = self._of_turns(one)
        else:
            counts["text"] += 1
            found = self._of_text(one)
        counts["empty"] += not found.ids
        counts["masked"] += found.mask is not None
        if found.stop_reason in ("other", "unknown"):
            counts[found.stop_reason] += 1
        return found

    # Token ids

    def _of_ids(self, one: GivenRollout, ids: list[int]) -> Response:
        whole = text_of(self.student, ids, one.place)
        self._compare(one, whole, ids)
        mask = one.record.response_mask
        if mask and 1 not in mask:
            raise UserError(
                f"{one.place}: response_mask holds no 1, so the student wrote nothing; a mask of "
                "the loss is no such mask: "
                "leave it out of the file, or such rollouts"
            )
        begun = self._begun(ids)
        ids, mask = ids[begun:], None if mask is None else mask[begun:]
        if mask is not None and 0 in mask:
            return self._of_turn_ids(one, ids, mask)
        ids, ended = self._ended(one, ids)
        if not ended and one.stop.kind == "natural":
            ids, ended = [*ids, self._end(one)], True
            self.found.counts["closed"] += 1
        return Response(ids, self.student.decode(ids), self._stop_reason(one, ended))

    def _of_turn_ids(self, one: GivenRollout, ids: list[int], mask: list[int]) -> Response:
        """Ids of several turns: ends of turns stand inside them, and what others wrote is
        masked."""
        while (
            ids and not mask[len(ids) - 1]
        ):  # what was said to the student last, which it never answered
            ids = ids[:-1]
        mask = mask[: len(ids)]
        ended = bool(ids) and ids[-1] in self.student.end_ids
        if not ended and one.stop.kind == "natural":
            ids, mask, ended = [*ids, self._end(one)], [*mask, 1], True
            self.found.counts["closed"] += 1
        text = "".join(self.student.decode(run) for run in _runs(ids, mask))
        return Response(ids, text, self._stop_reason(one, ended), mask if 0 in mask else None)

    def _compare(self, one: GivenRollout, whole: str, ids: list[int]) -> None:
        """Counts ids that read otherwise than the text beside them; special tokens may be missing
        there."""
        given = one.record.response
        if given is None:
            return
        self.found.counts["compared"] += 1
        if "".join(given.split()) == "".join(whole.split()):
            return
        bare = str(
            self.student.tokenizer.decode(
                ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )
        for token in special_tokens(self.student):
            given = given.replace(token, "")
        if "".join(given.split()) != "".join(bare.split()):
            self.found.counts["mismatched"] += 1
            self.found.mismatched.append(one.place)

    # Text

    def _of_text(self, one: GivenRollout) -> Response:
        text = one.record.response or ""
        if one.record.reasoning:
            text = self.conversation.with_thought(
                one.record.reasoning,
                text,
                one.place,
                closed=bool(text.strip()) or one.stop.kind == "natural",
            )
            self.found.counts["reasoning"] += 1
        ids = self.student.encode(text)
        self.found.counts["changed"] += text_of(self.student, ids, one.place) != text
        before = ids
        ids = ids[self._begun(ids) :]
        ids, ended = self._ended(one, ids)
        if ended or len(ids) < len(before):
            text = self.student.decode(ids)
        if not ended and one.stop.kind == "natural":
            ids, ended = [*ids, self._end(one)], True
        return Response(ids, text, self._stop_reason(one, ended))

    def _of_turns(self, one: GivenRollout) -> Response:
        written = self.conversation.turns(
            one.record.turns or [], one.stop.kind == "natural", one.place
        )
        return Response(
            written.ids, written.text, self._stop_reason(one, written.ended), written.mask
        )

    # Ends

    def _begun(self, ids: list[int]) -> int:
        """1 where ids begin with the token that tokenizers put before a text, which for some is
        that of the end, too."""
        begun = len(ids) > 1 and ids[0] == self.student.tokenizer.bos_token_id
        self.found.counts["begun"] += begun
        return int(begun)

    def _ended(self, one: GivenRollout, ids: list[int]) -> tuple[list[int], bool]:
        """The ids up to their first end of turn, and whether there is one; without padding."""
        ends, pad = self.student.end_ids, self.student.pad_id
        named = frozenset() if one.stop.token is None else frozenset((one.stop.token,))
        end = next((place for place, token in enumerate(ids) if token in ends), None)
        if end is None and ids and ids[-1] in named & self.student.control.texts.keys():
            return ids, True
        if end is None:
            kept = len(ids)
            while kept and ids[kept - 1] == pad:
                kept -= 1
            self.found.counts["padded"] += kept < len(ids)
            return ids[:kept], False
        if (
            one.stop.kind == "cut" and ids[end] == pad and set(ids[end:]) == {pad}
        ):  # an end in the place of padding
            return ids[:end], False
        rest = [token for token in ids[end:] if token not in (*ends, self.student.pad_id)]
        self.found.counts["behind"] += bool(rest and self.student.decode(rest).strip())
        return ids[: end + 1], True

    def _end(self, one: GivenRollout) -> int:
        named = one.stop.token
        return named if named is not None and named in self.student.end_ids else self.student.end_id

    @staticmethod
    def _stop_reason(one: GivenRollout, ended: bool) -> str:
        return "eos" if ended else STORED[one.stop.kind]


def _runs(ids: list[int], mask: list[int]) -> Iterator[list[int]]:
    """The stretches of ids that the student wrote itself."""
    run: list[int] = []
    for token, own in zip(ids, mask, strict=True):
        if own:
            run.append(token)
        elif run:
            yield run
            run = []
    if run:
        yield run
