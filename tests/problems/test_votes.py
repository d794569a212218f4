"""Majority votes: what a response votes for, which answers are one, ties; by hand, by slow
references, by the real verifier."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pandas as pd
import pytest
from made_votes import never, rollouts

from decaylab.problems import votes
from decaylab.problems.answers import ANSWER_RULES
from decaylab.problems.grading import Grader
from decaylab.problems.votes import NO_VOTE, RIGHT, classes, majority, named_answer, same_answer
from decaylab.runs import outcomes

TOWER = r"9^{9^{9^{9}}}"  # sympy computes it until the machine is full


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(timeout_seconds=30) as started:
        yield started


# The worth of a majority


@pytest.mark.parametrize(
    ("cast", "worth"),
    [
        ([RIGHT, RIGHT, 1, 2], 1.0),
        ([RIGHT, 1, 1, 2], 0.0),
        ([RIGHT, 1, 2, 3], 0.25),  # four classes of one vote
        ([RIGHT, RIGHT, 1, 1, 2, 2, 3], 1 / 3),  # three-way tie; the fourth class is behind
        (
            [RIGHT, 1, NO_VOTE, NO_VOTE],
            0.5,
        ),  # missing answers are no class of their own: as one they would win
        ([RIGHT, NO_VOTE, NO_VOTE, NO_VOTE], 1.0),
        ([1, NO_VOTE], 0.0),
        ([NO_VOTE, NO_VOTE], 0.0),
        ([1, 1, 2, 2], 0.0),  # a tie without the right one
        ([RIGHT], 1.0),
        ([], 0.0),
    ],
)
def test_majorities_by_hand(cast: list[int], worth: float) -> None:
    assert majority(cast) == pytest.approx(worth)


def drawn_winner(cast: Sequence[int]) -> float:
    """The expectation over every order of the votes, the first class to lead at the end taken: each
    tied class as often."""
    orders = list(itertools.permutations([vote for vote in cast if vote != NO_VOTE]))
    wins = 0
    for order in orders:
        leader = max(dict.fromkeys(order), key=order.count) if order else None
        wins += leader == RIGHT
    return wins / len(orders)


def test_a_tie_is_worth_what_a_draw_among_the_first_is_worth_on_average() -> None:
    rng = random.Random(0)
    for _ in range(60):
        cast = [rng.choice([NO_VOTE, RIGHT, 1, 2, 3]) for _ in range(rng.randint(1, 6))]
        assert majority(cast) == pytest.approx(drawn_winner(cast)), cast


@pytest.mark.parametrize("vote", [NO_VOTE, RIGHT, 1])
def test_the_majority_of_one_sample_is_its_correctness(vote: int) -> None:
    assert majority([vote]) == float(vote == RIGHT)


# Classes of answers


def one_by_one(ballot: Sequence[str], same: Sequence[tuple[str, str]]) -> list[int]:
    """Each answer in turn against the first answer of each class."""
    heads: list[str] = []
    found: list[int] = []
    for answer in ballot:
        place = dict(zip(ballot, found)).get(answer)
        if place is None:
            place = next((at for at, head in enumerate(heads) if (head, answer) in same), None)
        if place is None:
            heads.append(answer)
            place = len(heads) - 1
        found.append(place)
    return found


def test_classes_are_those_of_comparing_one_by_one() -> None:
    """Also where the verifier is neither transitive nor symmetric."""
    rng = random.Random(1)
    for _ in range(200):
        ballots = [[rng.choice("abcdef") for _ in range(rng.randint(0, 7))] for _ in range(3)]
        same = {pair for pair in itertools.permutations("abcdef", 2) if rng.random() < 0.3}
        found = classes(ballots, lambda pairs, same=same: [pair in same for pair in pairs])
        assert found == [one_by_one(ballot, list(same)) for ballot in ballots]


def test_equal_strings_are_never_asked_about_and_a_round_asks_for_all_ballots() -> None:
    asked: list[list[tuple[str, str]]] = []

    def same(pairs: Sequence[tuple[str, str]]) -> list[bool]:
        asked.append(list(pairs))
        return [first.lower() == second.lower() for first, second in pairs]

    assert classes([["a", "a", "b", "A"], ["c", "c"], ["d", "e"]], same) == [
        [0, 0, 1, 0],
        [0, 0],
        [0, 1],
    ]
    assert asked == [[("a", "b"), ("a", "A"), ("d", "e")], []]


# What a response names


@pytest.mark.parametrize(
    ("rule", "response", "answer"),
    [
        ("last_boxed", r"\boxed{1} then \boxed{2}", "2"),
        ("first_boxed", r"\boxed{1} then \boxed{2}", "1"),
        (
            "last_boxed",
            r"\boxed{1} then \boxed{2",
            None,
        ),  # a malformed last box is no answer, never an earlier one
        ("last_boxed", "no box", None),
        ("gsm8k", "so 3, hence\n#### 1,250.50", "2501/2"),
        ("gsm8k", "nothing", None),
        ("gsm8k", "It costs $12,345,678.", "12345678"),
        ("gsm8k", "#### -4001", "-4001"),
    ],
)
def test_named_answers(rule: str, response: str, answer: str | None) -> None:
    assert named_answer(rule, response) == answer


def test_numbers_beyond_all_sense_are_one_answer_only_as_the_same_response() -> None:
    """`final_number` makes one number of all of them, which would be a class that can win."""
    first, second = (named_answer("gsm8k", digit * 400) for digit in "12")
    assert first is not None and second is not None
    assert first != second and not same_answer("gsm8k", first, second)
    assert not same_answer("gsm8k", first, "5")


def test_large_numbers_are_one_answer_however_they_are_written_and_wherever_they_stand() -> None:
    """Also with 291 digits: a number is read with at most 300."""
    for number in (4001, 25_000, 10**290 + 1):
        written = [f"so {number}", f"#### {number:,}", f"{number}.0, the answer", f"{number:,}.00"]
        named = [named_answer("gsm8k", response) for response in written]
        assert named == [str(number)] * 4 and same_answer("gsm8k", str(number), str(number))
        assert not same_answer("gsm8k", str(number), str(number + 1))


def test_a_rule_that_may_find_several_answers_names_none(grader: Grader) -> None:
    assert set(ANSWER_RULES) - set(votes.VOTING_RULES) == {"anywhere"}
    for ask in (
        lambda: named_answer("anywhere", "12"),
        lambda: grader.same("anywhere", [("1", "1")]),
    ):
        with pytest.raises(
            ValueError,
            match="rules that name one answer are last_boxed, first_boxed, gsm8k, got anywh",
        ):
            ask()


# The verifier


@pytest.mark.parametrize(
    ("rule", "first", "second", "equal"),
    [
        ("last_boxed", "1/2", "0.5", True),
        ("last_boxed", r"\frac{1}{2}", "1/2", True),
        ("last_boxed", r"\sqrt{8}", r"2\sqrt{2}", True),
        ("last_boxed", "x = 4", "4", True),
        ("last_boxed", "4", "x = 4", True),
        ("last_boxed", "12", "3125", False),
        ("last_boxed", "(1,2)", r"\{1,2\}", False),
        ("gsm8k", "1/3", "0.3333333", True),
        ("gsm8k", "0.3333333", "1/3", True),
        ("gsm8k", "1/3", "0.33", False),
        # Six decimals of the first, seven of the second: equal with the one as gold and not with
        # the other.
        ("gsm8k", "0.1", "0.09999993", True),
        ("last_boxed", "0.1", "0.09999993", True),
    ],
)
def test_answers_are_one_by_the_verifier_and_not_by_their_strings(
    grader: Grader, rule: str, first: str, second: str, equal: bool
) -> None:
    if rule == "gsm8k":
        first, second = (str(Fraction(one)) for one in (first, second))
    assert grader.same(rule, [(first, second)]) == [equal]
    assert grader.same(rule, [(second, first)]) == [equal], "whichever came first"
    assert same_answer(rule, first, second) == same_answer(rule, second, first) == equal


def test_a_pair_that_hangs_is_not_one_and_costs_nothing_else() -> None:
    with Grader(timeout_seconds=2) as grader:
        pairs = [("1/2", "0.5"), (rf"{TOWER}+x", TOWER), ("0.25", "1/4")]
        assert grader.same("last_boxed", pairs) == [True, False, True]
        assert grader.same("first_boxed", pairs) == [
            True,
            False,
            True,
        ]  # known: no worker is lost again


# Outcomes


def test_three_forms_of_a_wrong_answer_win_against_the_right_one(grader: Grader) -> None:
    """By strings four classes would tie, worth 1/4."""
    responses = [r"\boxed{1/2}", r"\boxed{7}", r"\boxed{0.5}", r"\boxed{\frac{1}{2}}"]
    grades = grader.grade(responses, ["7"] * 4, rules=["last_boxed"]).verdicts["last_boxed"]
    rows = rollouts(*zip(responses, map(str, grades), strict=True))
    found = outcomes.collect({"base": rows}, {}, grader.same)
    assert found["vote_last_boxed"].tolist() == [1, RIGHT, 1, 1]
    assert majority(found["vote_last_boxed"].tolist()) == 0.0


def test_two_forms_of_the_right_answer_are_one_class(grader: Grader) -> None:
    responses = [r"\boxed{1/2}", r"\boxed{3}", r"\boxed{0.5}", r"\boxed{4}"]
    grades = grader.grade(responses, [r"\frac{1}{2}"] * 4, rules=["last_boxed"]).verdicts[
        "last_boxed"
    ]
    found = outcomes.collect(
        {"m": rollouts(*zip(responses, map(str, grades), strict=True))}, {}, grader.same
    )
    assert found["vote_last_boxed"].tolist() == [RIGHT, 1, RIGHT, 2]
    assert majority(found["vote_last_boxed"].tolist()) == 1.0


def test_a_time_out_votes_for_a_class_of_its_own_even_where_the_strings_agree() -> None:
    one = (rf"\boxed{{{TOWER}}}", "timeout")
    found = outcomes.collect(
        {"m": rollouts((r"\boxed{1}", "wrong"), one, one, ("none", "no_answer"))}, {}, never
    )
    cast = found["vote_last_boxed"].tolist()
    assert cast[0] == 1 and cast[3] == NO_VOTE == -1 and len({RIGHT, *cast[:3]}) == 4
    assert set(found["vote_gsm8k"]) == {NO_VOTE}


def test_votes_are_counted_within_a_checkpoint_and_problem() -> None:
    wrong = [(rf"\boxed{{{number}}}", "wrong") for number in (1, 2)]
    tables = {
        "base": pd.concat(
            [rollouts(*wrong), rollouts(*wrong[::-1], problem="q")], ignore_index=True
        ),
        "later": rollouts(wrong[1], wrong[1]),
    }
    found = outcomes.collect(tables, {"base": 0.0}, never)
    assert found["vote_last_boxed"].tolist() == [1, 2, 1, 2, 1, 1]
    assert found["checkpoint"].tolist() == ["base"] * 4 + ["later"] * 2
