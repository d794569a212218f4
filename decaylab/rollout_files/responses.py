"""Converts the responses of rollout files to the student's token ids.

Ids are used unchanged; text is encoded once. A rollout that ended naturally gets the end-of-turn
token in its ids, or else the one named in the file, or else the template's. Others get none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from decaylab.errors import UserError
from decaylab.policies.policy import Policy
from decaylab.rollout_files.conversation import Conversation
from decaylab.rollout_files.given_prompts import (
    special_tokens,
    text_of,
    without_blanks,
    without_tokens,
)
from decaylab.rollout_files.reading import GivenRollout
from decaylab.rollout_files.stops import Kind

STORED: dict[Kind, str] = {
    "natural": "eos",
    "cut": "length",
    "other": "other",
    "unknown": "unknown",
}
"""Values of ``stop_reason`` in the rollouts table."""
MOST_MISMATCHES = 0.5
"""Largest share of rollouts whose ids may differ from their text; above it, the ids must be from
another tokenizer."""


@dataclass(frozen=True)
class Response:
    """A response in the student's ids.

    text: the text to grade. stop_reason: eos, length, other or unknown. mask: 1 at the student's
    own tokens; None if all are.
    """

    ids: list[int]
    text: str
    stop_reason: str
    mask: list[int] | None = None


SENTENCES = {
    "ids": "{} of {} responses use the token ids of the file",
    "text": "{} of {} responses were encoded from their text: their ids may differ from the "
    "sampled ones",
    "changed": "{} of {} responses change when encoded and decoded",
    "mismatched": "{} of {} responses have token ids that differ from their text: the ids are used",
    "reasoning": "{} of {} responses were joined from thought and answer with the chat template",
    "turns": "{} of {} responses were joined from several turns with the chat template",
    "closed": "{} of {} responses ended naturally without an end-of-turn token in the file: it was "
    "added",
    "begun": "{} of {} responses began with the beginning-of-sequence token: it was removed",
    "padded": "{} of {} responses were padded in the file: the padding was removed",
    "behind": "{} of {} responses continue after an end-of-turn token: they were cut there",
    "masked": "{} of {} responses contain text that the student did not write (tools, users): it "
    "is not measured",
    "empty": "{} of {} responses are empty",
    "other": "{} of {} rollouts did not stop naturally: they get no end-of-turn token",
    "unknown": "{} of {} rollouts have no stop reason: they get no end-of-turn token, and do not "
    "count as natural stops",
}


class Encoder:
    """Converts records to responses in one student's tokens.

    counts: number of responses by the keys of `SENTENCES`, "all" and "compared".
    """

    def __init__(self, student: Policy) -> None:
        self.student, self.counts = student, Counter[str]()
        self.conversation = Conversation(student)
        self.first_mismatch = ""

    def notes(self, name: str = "") -> Iterator[str]:
        """What a reader of the results must know. name: of the files; without it, the responses are
        the first of a file."""
        among = str(self.counts["all"]) if name else f"the first {self.counts['all']}"
        for what, sentence in SENTENCES.items():
            if self.counts[what]:
                text = sentence.format(self.counts[what], among)
                yield f"{name}: {text}" if name else text

    def responses(self, rollouts: Sequence[GivenRollout]) -> list[Response]:
        """The responses, in order.

        Raises:
            UserError: ids of another tokenizer, a mask without the student, turns or thoughts that
            cannot be written.
        """
        responses = [self._response(rollout) for rollout in rollouts]
        compared, wrong = self.counts["compared"], self.counts["mismatched"]
        if wrong > MOST_MISMATCHES * compared:
            raise UserError(
                f"{self.first_mismatch}: {wrong} of {compared} responses have token ids that "
                f"{self.student.name} decodes to a different text: give the student that wrote "
                "them, or leave the ids out"
            )
        return responses

    def _response(self, rollout: GivenRollout) -> Response:
        record = rollout.record
        if record.response_ids is not None:
            kind, response = "ids", self._of_ids(rollout, list(record.response_ids))
        elif record.turns is not None:
            kind, response = "turns", self._of_turns(rollout)
        else:
            kind, response = "text", self._of_text(rollout)
        self.counts.update(("all", kind, response.stop_reason))
        self.counts["empty"] += not response.ids
        self.counts["masked"] += response.mask is not None
        return response

    # Token ids

    def _of_ids(self, rollout: GivenRollout, ids: list[int]) -> Response:
        self._compare(rollout, ids)
        mask = rollout.record.response_mask
        if mask and 1 not in mask:
            raise UserError(
                f"{rollout.place}: response_mask has no 1, so no token is the student's; if it is "
                "a loss mask, remove it from the file; otherwise remove such rollouts"
            )
        begun = self._begun(ids)
        ids = ids[begun:]
        if mask is not None and 0 in mask[begun:]:
            return self._of_turn_ids(rollout, ids, mask[begun:])
        ids, ended = self._ended(rollout, ids)
        if not ended and rollout.stop.kind == "natural":
            ids, ended = [*ids, self._end(rollout)], True
            self.counts["closed"] += 1
        return Response(ids, self.student.decode(ids), _stop_reason(rollout, ended))

    def _of_turn_ids(self, rollout: GivenRollout, ids: list[int], mask: list[int]) -> Response:
        """A response of several turns, with ends of turns inside and others' text masked."""
        # Drop a last turn of others, which the student did not answer.
        while mask and not mask[-1]:
            ids, mask = ids[:-1], mask[:-1]
        ended = bool(ids) and ids[-1] in self.student.end_ids
        if not ended and rollout.stop.kind == "natural":
            ids, mask, ended = [*ids, self._end(rollout)], [*mask, 1], True
            self.counts["closed"] += 1
        text = "".join(self.student.decode(run) for run in _runs(ids, mask))
        stop_reason = _stop_reason(rollout, ended)
        return Response(ids, text, stop_reason, mask if 0 in mask else None)

    def _compare(self, rollout: GivenRollout, ids: list[int]) -> None:
        """Counts ids that differ from the text in the file, which may lack special tokens."""
        whole, given = text_of(self.student, ids, rollout.place), rollout.record.response
        if given is None:
            return
        self.counts["compared"] += 1
        if without_blanks(given) == without_blanks(whole):
            return
        bare = self.student.tokenizer.decode(
            ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        given = without_tokens(given, special_tokens(self.student))
        if without_blanks(given) != without_blanks(str(bare)):
            self.counts["mismatched"] += 1
            self.first_mismatch = self.first_mismatch or rollout.place

    # Text

    def _of_text(self, rollout: GivenRollout) -> Response:
        text, thought = rollout.record.response or "", rollout.record.reasoning
        natural = rollout.stop.kind == "natural"
        if thought:
            closed = natural or bool(text.strip())
            text = self.conversation.with_thought(thought, text, rollout.place, closed=closed)
            self.counts["reasoning"] += 1
        ids = self.student.encode(text)
        self.counts["changed"] += text_of(self.student, ids, rollout.place) != text
        begun = self._begun(ids)
        kept, ended = self._ended(rollout, ids[begun:])
        if ended or len(kept) < len(ids):
            text = self.student.decode(kept)
        if not ended and natural:
            kept, ended = [*kept, self._end(rollout)], True
        return Response(kept, text, _stop_reason(rollout, ended))

    def _of_turns(self, rollout: GivenRollout) -> Response:
        natural = rollout.stop.kind == "natural"
        written = self.conversation.turns(rollout.record.turns or [], natural, rollout.place)
        stop_reason = _stop_reason(rollout, written.ended)
        return Response(written.ids, written.text, stop_reason, written.mask)

    # Ends

    def _begun(self, ids: list[int]) -> int:
        """1 if ids begin with the beginning-of-sequence token, else 0."""
        begun = len(ids) > 1 and ids[0] == self.student.tokenizer.bos_token_id
        self.counts["begun"] += begun
        return int(begun)

    def _ended(self, rollout: GivenRollout, ids: list[int]) -> tuple[list[int], bool]:
        """The ids up to their first end-of-turn token, without padding; whether there is one."""
        ends, pad = self.student.end_ids, self.student.pad_id
        end = next((place for place, token in enumerate(ids) if token in ends), None)
        if end is None:
            named = rollout.stop.token
            if ids and ids[-1] == named and named in self.student.control.texts:
                return ids, True
            kept = len(ids)
            while kept and ids[kept - 1] == pad:
                kept -= 1
            self.counts["padded"] += kept < len(ids)
            return ids[:kept], False
        # If the end token is also the padding, a rollout that was cut off has only padding.
        if rollout.stop.kind == "cut" and set(ids[end:]) == {pad}:
            return ids[:end], False
        rest = [token for token in ids[end:] if token not in ends and token != pad]
        self.counts["behind"] += bool(rest and self.student.decode(rest).strip())
        return ids[: end + 1], True

    def _end(self, rollout: GivenRollout) -> int:
        """The end-of-turn token of a rollout: the one named in the file, or else the template's."""
        named = rollout.stop.token
        return named if named is not None and named in self.student.end_ids else self.student.end_id


def _stop_reason(rollout: GivenRollout, ended: bool) -> str:
    return "eos" if ended else STORED[rollout.stop.kind]


def _runs(ids: list[int], mask: list[int]) -> Iterator[list[int]]:
    """The runs of ids that the student wrote."""
    run: list[int] = []
    for token, is_own in zip(ids, mask, strict=True):
        if is_own:
            run.append(token)
        elif run:
            yield run
            run = []
    if run:
        yield run
