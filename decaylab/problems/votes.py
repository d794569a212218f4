"""Majority votes: what a response votes for, and what the majority of a problem is worth.

maj@k takes, of k responses to a problem, the answer that most of them give:

    what votes      a response that names an answer; one without does not vote
    the right class the responses that the verifier calls correct
    other classes   wrong answers that the verifier holds equal, either of the two taken as gold;
                    strings need not agree
    a time-out      votes for a class of its own: what could not be judged is not compared with
                    anything either
    ties            m classes share the first place, the right one among them: worth 1/m, as if one
                    were drawn
    no vote at all  worth 0

Rules that name one answer a response have a majority; ``anywhere`` may find several and has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from decaylab.problems.answers import box_equals
from decaylab.problems.boxes import boxed_lists
from decaylab.problems.plain_numbers import final_number, same_rounded, tidy

VOTING_RULES = ("last_boxed", "first_boxed", "gsm8k")
RIGHT, NO_VOTE = 0, -1
_BEYOND = Fraction(10) ** 400  # what `final_number` makes of a number that no one can have meant


def named_answer(rule: str, response: str) -> str | None:
    """The answer that a response names by a rule, as text; None where it names none.

    Raises ValueError for a rule that does not name one answer.
    """
    if rule not in VOTING_RULES:
        raise ValueError(f"rules that name one answer are {', '.join(VOTING_RULES)}, got {rule}")
    if rule != "gsm8k":
        boxed = boxed_lists(response)
        return boxed[0 if rule == "first_boxed" else -1] if boxed else None
    number = final_number(response)
    if number is None:
        return None
    # A number beyond all sense equals no other: it takes the same response to vote for it again.
    return str(number) if abs(number) < _BEYOND else f"beyond sense: {response}"


def same_answer(rule: str, first: str, second: str) -> bool:
    """Whether two named answers are one by the rule's verifier, either of them taken as gold; may
    take for ever."""
    if rule != "gsm8k":
        return box_equals(tidy(first), second) or box_equals(tidy(second), first)
    try:
        numbers = Fraction(first), Fraction(second)
    except ValueError:
        return False
    return same_rounded(*numbers) or same_rounded(*numbers[::-1])


def classes(
    ballots: Sequence[Sequence[str]], same: Callable[[Sequence[tuple[str, str]]], Sequence[bool]]
) -> list[list[int]]:
    """The class of each answer of each ballot, from 0 in the order in which classes come up,
    [ballots][answers].

    Equal strings are one answer. Any other is compared with the first answer of each class, in
    order, and joins the first class that it equals.

    same: whether the two answers of each pair are one; asked once a round, for all ballots
    together.
    """
    found: list[dict[str, int]] = [{} for _ in ballots]
    waiting = [list(dict.fromkeys(ballot)) for ballot in ballots]
    number = 0
    while any(waiting):
        pairs = [
            (place, left[0], other) for place, left in enumerate(waiting) for other in left[1:]
        ]
        equal = same([(first, other) for _, first, other in pairs])
        joined = {
            (place, other) for (place, _, other), alike in zip(pairs, equal, strict=True) if alike
        }
        for place, left in enumerate(waiting):
            members = [one for one in left if one == left[0] or (place, one) in joined]
            found[place].update(dict.fromkeys(members, number))
            waiting[place] = [one for one in left if one not in found[place]]
        number += 1
    return [
        [known[answer] for answer in ballot] for known, ballot in zip(found, ballots, strict=True)
    ]


def majority(votes: Sequence[int]) -> float:
    """What the majority of the votes on one problem is worth: 1 right, 0 wrong, 1/m where m classes
    tie and one is right.

    votes: the class that each response votes for, `RIGHT` or another number from 1 on, or
    `NO_VOTE`.
    """
    cast = [vote for vote in votes if vote != NO_VOTE]
    sizes = {vote: cast.count(vote) for vote in set(cast)}
    first = [vote for vote, size in sizes.items() if size == max(sizes.values())]
    return 1 / len(first) if RIGHT in first else 0.0
