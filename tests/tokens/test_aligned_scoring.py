"""Scoring with two tokenizers, against the logits of each model in float64, token by token."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tokenizer_families import two_tokenizers

from decaylab.errors import UserError
from decaylab.policies import loading
from decaylab.policies.alignment import Aligner, Alignment
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.tokens import token_table
from decaylab.tokens.aligned_scoring import AlignedRollout, AlignedScorer
from decaylab.tokens.scoring import ScoringSettings

TEXTS = ("The answer is 12.", " 3 + 4 = 7\n\nso 7", "Größe \u03b1\u2264\u03b2 \U0001f600!", "")
PROMPT = "What is 3 + 4?"
CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, Policy]:
    folders = two_tokenizers(tmp_path_factory.mktemp("pair"))
    settings = LoadSettings(dtype="float32", device="cpu")
    student, teacher = (loading.load(str(folder), settings) for folder in folders)
    return student, teacher


def rollouts_of(pair: tuple[Policy, Policy]) -> list[AlignedRollout]:
    """Finished and cut-off responses."""
    aligner = Aligner(*pair)
    prompts = [tuple(policy.encode(PROMPT)) for policy in pair]
    found = []
    for number, text in enumerate(TEXTS):
        ids = pair[0].encode(text)
        for ended in (True, False):
            if not ended and not ids:
                continue
            alignment = aligner.align([*ids, pair[0].end_id] if ended else ids)
            assert isinstance(alignment, Alignment)
            name = f"{number}/{ended}"
            found.append(AlignedRollout(name, *prompts, alignment.student, alignment))
    return found


def laws(policy: Policy, prompt: tuple[int, ...], response: tuple[int, ...], temperature: float):
    """The law of each next token over the ids that have a token, [tokens][id], in float64."""
    model: Any = policy.weights.double()
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *response]])).logits[0] / temperature
    policy.weights.float()
    known = sorted(set(policy.tokenizer.get_vocab().values()))
    rows = logits[len(prompt) - 1 : -1, known].softmax(-1)
    return [dict(zip(known, row.tolist(), strict=True)) for row in rows]


def given_bytes(
    laws: list[dict[int, float]], ids: tuple[int, ...], place: int, reader: Any
) -> dict[Any, float]:
    """The law of what comes next behind the first tokens, given their bytes: by sums over every
    token that begins with them or earlier and reaches beyond them."""
    pieces = reader.of(ids[:place])
    found: dict[Any, float] = defaultdict(float)
    for start in range(place, -1, -1):
        since = b"".join(pieces[start:])
        written = math.prod(
            chance_of(laws[at], ids[at], reader.policy) for at in range(start, place)
        )
        for token, chance in laws[start].items():
            text = reader.table[token]
            if start == 0 and reader.drops_blank and token not in reader.added:
                text = text.removeprefix(b" ")
            is_text = token not in reader.policy.control.texts
            if token in reader.policy.end_ids:
                event: Any = "end" if not since else None
            elif not text or not is_text:
                event = "other" if not since else None
            else:
                beyond = text.startswith(since) and len(text) > len(since)
                event = text[len(since)] if beyond else None
            if event is not None:
                found[event] += chance / written
    if place == 0 and reader.of(ids[:1]) == [b""] and reader.table[ids[0]] == b" ":
        # A blank that is not written comes before what is.
        found["other"] -= laws[0][ids[0]]
        for event, chance in at_once(laws[1], reader).items():
            found[event] += laws[0][ids[0]] * chance
    whole = sum(found.values())
    return {event: mass / whole for event, mass in found.items()}


def at_once(law: dict[int, float], reader: Any) -> dict[Any, float]:
    """The law of the first byte of the next token inside a text, of its end, and of the rest."""
    found: dict[Any, float] = defaultdict(float)
    for token, chance in law.items():
        text = reader.table[token]
        is_text = text and token not in reader.policy.control.texts
        ends = token in reader.policy.end_ids
        found["end" if ends else text[0] if is_text else "other"] += chance
    return found


def kl(first: dict[Any, float], other: dict[Any, float]) -> float:
    """KL over the text and ends that both can write."""
    both = {event for event in first if event != "other" and other.get(event, 0.0) > 0}
    ours, theirs = sum(first[event] for event in both), sum(other[event] for event in both)
    pairs = [(first[event] / ours, other[event] / theirs) for event in both]
    return sum(p * math.log(p / q) for p, q in pairs if p > 0)


def chance_of(law: dict[int, float], token: int, policy: Policy) -> float:
    if token in policy.end_ids:
        return sum(law.get(end, 0.0) for end in policy.end_ids)
    return law[token]


def entropy_of(law: dict[int, float], policy: Policy) -> float:
    """The ids that end a turn are one event."""
    ends = sum(law.get(end, 0.0) for end in policy.end_ids)
    others = [chance for token, chance in law.items() if token not in policy.end_ids]
    return -sum(p * math.log(p) for p in [ends, *others] if p)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_every_column_is_that_of_the_logits(
    pair: tuple[Policy, Policy], temperature: float
) -> None:
    rollouts = rollouts_of(pair)
    scorer = AlignedScorer(*pair, ScoringSettings(temperature, batch_tokens=64))
    readers = Aligner(*pair).student, Aligner(*pair).teacher
    for rollout, scored in zip(rollouts, scorer.score(rollouts), strict=True):
        alignment, columns = rollout.alignment, scored.columns
        both = [
            laws(policy, prompt, response, temperature)
            for policy, (prompt, response) in zip(pair, rollout.contexts, strict=True)
        ]
        taken = [
            [math.log(chance_of(law, token, policy)) for law, token in zip(side, ids, strict=True)]
            for side, ids, policy in zip(both, alignment_ids(alignment), pair, strict=True)
        ]
        np.testing.assert_allclose(columns["student_logprob"], taken[0], **CLOSE)
        entropy = [entropy_of(law, pair[0]) for law in both[0]]
        np.testing.assert_allclose(columns["student_entropy"], entropy, **CLOSE)
        shared = dict(zip(*(places.tolist() for places in alignment.boundaries), strict=True))
        for place in range(len(alignment.student)):
            assert columns["at_shared_boundary"][place] == (place in shared)
            if place not in shared:
                assert math.isnan(columns["reverse_kl"][place])
                continue
            events = [
                given_bytes(both[side], alignment_ids(alignment)[side], at, readers[side])
                for side, at in enumerate((place, shared[place]))
            ]
            assert columns["reverse_kl"][place] == pytest.approx(kl(*events), rel=1e-3, abs=2e-5)
            assert columns["forward_kl"][place] == pytest.approx(
                kl(*events[::-1]), rel=1e-3, abs=2e-5
            )
        for span in alignment.spans:
            ratio = sum(taken[0][span.student]) - sum(taken[1][span.teacher])
            place = span.student.start
            assert columns["span_log_ratio"][place] == pytest.approx(ratio, rel=1e-3, abs=2e-4)
            assert columns["teacher_logprob"][place] == pytest.approx(
                sum(taken[1][span.teacher]), rel=1e-3, abs=2e-4
            )
        begins = {span.student.start for span in alignment.spans}
        assert set(np.flatnonzero(columns["span_bytes"])) == begins
        assert columns["span_bytes"].sum() == (alignment.spans[-1].stop if begins else 0)


def alignment_ids(alignment: Alignment) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return alignment.student, alignment.teacher


def test_ranks_are_those_over_strings_that_are_one_token_in_both(
    pair: tuple[Policy, Policy],
) -> None:
    rollouts = rollouts_of(pair)
    scorer = AlignedScorer(*pair)
    student, teacher = Aligner(*pair).student, Aligner(*pair).teacher
    for rollout, scored in zip(rollouts, scorer.score(rollouts), strict=True):
        both = [
            laws(policy, prompt, response, 1.0)
            for policy, (prompt, response) in zip(pair, rollout.contexts, strict=True)
        ]
        for place, its in zip(*(places.tolist() for places in rollout.alignment.boundaries)):
            if place == 0 and (student.drops_blank or teacher.drops_blank):
                continue
            ours = by_string(both[0][place], student)
            theirs = by_string(both[1][its], teacher)
            common = ours.keys() & theirs.keys()
            outside = 1 - sum(theirs[string] for string in common)
            assert scored.columns["teacher_removed_mass"][place] == pytest.approx(outside, abs=1e-4)
            best = max(common, key=lambda string: ours[string])
            rank = 1 + sum(theirs[string] > theirs[best] for string in common)
            assert scored.columns["student_top1_rank"][place] == rank
            mass = sum(ours[string] for string in common)
            assert scored.columns["student_top1_probability"][place] == pytest.approx(
                ours[best] / mass, rel=1e-3
            )


def by_string(law: dict[int, float], reader: Any) -> dict[bytes, float]:
    """The law over strings of one token, the end as one string; of two tokens of the same bytes,
    the one that is not a byte's own."""
    found = {b"(end)": 0.0}
    names = {index: token for token, index in reader.tokenizer.get_vocab().items()}
    for token in sorted(law, key=lambda token: names[token].startswith("<0x")):
        if token in reader.policy.end_ids:
            found[b"(end)"] += law[token]
        elif reader.table[token]:
            found.setdefault(reader.table[token], law[token])
    return found


def test_scores_do_not_depend_on_the_batch(pair: tuple[Policy, Policy]) -> None:
    rollouts = rollouts_of(pair)
    alone = AlignedScorer(*pair, ScoringSettings(batch_tokens=1)).score(rollouts)
    together = AlignedScorer(*pair, ScoringSettings(batch_tokens=10**6)).score(rollouts)
    for one, other in zip(alone, together, strict=True):
        for name in (*token_table.SPAN_COLUMNS, "reverse_kl", "student_logprob"):
            np.testing.assert_allclose(one.columns[name], other.columns[name], **CLOSE)


def test_a_teacher_with_nan_is_named(pair: tuple[Policy, Policy]) -> None:
    student, teacher = pair
    weight = teacher.weights.get_output_embeddings().weight
    before = weight.data.clone()
    try:
        weight.data[5] = float("nan")
        with pytest.raises(UserError, match="NaN in the logits of .* rollout 0/True"):
            AlignedScorer(student, teacher).score(rollouts_of(pair)[:1])
    finally:
        weight.data = before


def test_a_response_that_exceeds_a_context_is_refused(pair: tuple[Policy, Policy]) -> None:
    long = replace(rollouts_of(pair)[0], teacher_prompt=(5,) * 10_000)
    with pytest.raises(UserError, match="more than the context"):
        AlignedScorer(*pair).score([long])
