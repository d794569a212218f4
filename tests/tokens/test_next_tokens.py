"""Masses on sets of tokens, against loops over the vocabulary and against the models one at a
time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from decaylab.errors import UserError
from decaylab.policies.loading import load
from decaylab.policies.policy import LoadSettings, Policy
from decaylab.tokens.next_tokens import NONE, Asked, SetScorer, set_statistics
from decaylab.tokens.scoring import Rollout, ScoringSettings

SETS = [(0, 3), (), (1, 2, 4), (5,)]


def laws(seed: int, ties: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(SETS), 6, generator=generator, dtype=torch.float64)
    return torch.log_softmax(logits.round() if ties else logits, dim=-1)


def padded() -> torch.Tensor:
    return torch.tensor([[*ids, *[NONE] * (3 - len(ids))] for ids in SETS])


@pytest.mark.parametrize("ties", [False, True])
def test_masses_and_pairs_are_sums_over_the_vocabulary(ties: bool) -> None:
    student, teacher = laws(0, ties), laws(1, ties)
    found = set_statistics(student, teacher, padded())
    for place, ids in enumerate(SETS):
        s, t = student[place].exp().tolist(), teacher[place].exp().tolist()
        ratio = (teacher - student)[place].tolist()
        pairs = concordant = 0.0
        for one in ids:
            for other in set(range(6)) - set(ids):
                pairs += s[one] * s[other]
                tie = 0.5 * (ratio[one] == ratio[other])
                concordant += s[one] * s[other] * ((ratio[one] > ratio[other]) + tie)
        assert found.student[place].item() == pytest.approx(sum(s[one] for one in ids))
        assert found.teacher[place].item() == pytest.approx(sum(t[one] for one in ids))
        assert found.pairs[place].item() == pytest.approx(pairs)
        assert found.concordant[place].item() == pytest.approx(concordant)


def test_a_teacher_equal_to_the_student_orders_half_of_the_pairs() -> None:
    law = laws(2)
    found = set_statistics(law, law.clone(), padded())
    torch.testing.assert_close(found.concordant, found.pairs / 2)


@pytest.fixture(scope="module")
def pair() -> tuple[Policy, Policy]:
    torch.set_num_threads(1)
    settings = LoadSettings(device="cpu")
    return load("abacus-student", settings), load("abacus-teacher", settings)


def asked(student: Policy, text: str, positions: tuple[int, ...], name: str) -> Asked:
    prompt = tuple(student.encode("How many?"))
    rollout = Rollout(name, prompt, prompt + (7,), tuple(student.encode(text)))
    sets = tuple((10 + place, 40, 200) for place in positions)
    return Asked(rollout, positions, {"mine": sets, "none": ((),) * len(positions)})


@torch.inference_mode()
def by_hand(policy: Policy, ids: tuple[int, ...], chosen: tuple[int, ...]) -> float:
    """Mass on the ids behind a context, from one pass over it."""
    logits = policy.weights(torch.tensor([ids])).logits[0, -1].double()
    return float(torch.softmax(logits / 1.5, dim=-1)[list(chosen)].sum())


def test_the_law_at_a_position_is_that_behind_the_tokens_before_it(
    pair: tuple[Policy, Policy],
) -> None:
    student, teacher = pair
    questions = [
        asked(student, "38+55=93\n93*2=186", (0, 3, 9), "long"),
        asked(student, "12-5=7", (5,), "short"),
    ]
    settings = ScoringSettings(temperature=1.5)
    together = SetScorer(student, teacher, settings).at(questions)
    alone = [SetScorer(student, teacher, settings).at([one])[0] for one in questions]
    for one, columns, single in zip(questions, together, alone, strict=True):
        assert len(columns["mine_student"]) == len(one.positions)
        for place, position in enumerate(one.positions):
            before, chosen = one.rollout.response[:position], one.sets["mine"][place]
            for policy, prompt in (
                (student, one.rollout.student_prompt),
                (teacher, one.rollout.teacher_prompt),
            ):
                role = "student" if policy is student else "teacher"
                expected = by_hand(policy, prompt + before, chosen)
                assert columns[f"mine_{role}"][place] == pytest.approx(expected, rel=1e-3)
        np.testing.assert_allclose(columns["mine_concordant"], single["mine_concordant"], rtol=1e-3)
        assert not columns["none_student"].any() and not columns["none_pairs"].any()


def test_a_set_that_holds_an_id_twice_or_is_missing_is_refused() -> None:
    rollout = Rollout("one", (1,), (1,), (2, 3))
    with pytest.raises(ValueError, match="an id stands in a set twice"):
        Asked(rollout, (0,), {"mine": ((4, 4),)})
    with pytest.raises(ValueError, match="mine needs a set for each of 2 positions, got 1"):
        Asked(rollout, (0, 1), {"mine": ((4,),)})


def test_nan_in_the_logits_names_policy_position_and_rollout(
    pair: tuple[Policy, Policy], monkeypatch: pytest.MonkeyPatch
) -> None:
    student, teacher = pair
    scorer = SetScorer(student, teacher)
    logits = scorer.heads[1].logits

    def broken(states: torch.Tensor) -> torch.Tensor:
        values = logits(states)
        values[1] = torch.nan
        return values

    monkeypatch.setattr(scorer.heads[1], "logits", broken)
    question = asked(student, "38+55=93", (2, 5), "one")
    with pytest.raises(UserError, match="abacus-teacher at response position 5 of rollout one"):
        scorer.at([question])
