"""Majority votes: the answer that each response votes for, and the score of the majority.

maj@k takes the most frequent answer among k responses to a problem:

    votes           every response that names an answer
    correct class   the responses that the verifier finds correct
    other classes   wrong answers that the verifier finds equal, with either one as gold
    timeout         each response forms its own class, since it cannot be compared
    ties            if m classes share first place and one is correct, the score is 1/m, the
                    expected value of a random draw
    no votes        the score is 0

Only rules that name one answer per response have a majority; ``anywhere`` may find several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

from decaylab.problems.answers import box_equals
from decaylab.problems.boxes import boxed_lists
from decaylab.problems.plain_numbers import final_number, same_rounded, tidy

VOTING_RULES = ("last_boxed", "first_boxed", "gsm8k")
RIGHT, NO_VOTE = 0, -1
_BEYOND = Fraction(10) ** 400  # the value of `final_number` for gibberish


def named_answer(rule: str, response: str) -> str | None:
    """The answer that a response names by a rule, as text; None if it names none.

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
    # Gibberish equals only the same response.
    return str(number) if abs(number) < _BEYOND else f"beyond sense: {response}"


def same_answer(rule: str, first: str, second: str) -> bool:
    """Whether the rule's verifier finds two answers equal, with either one as gold; may hang."""
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
    """The class of each answer, a list for each ballot, numbered from 0 as they appear.

    An answer joins the first class whose first answer equals it. Equal strings are one answer.

    same: whether the two answers of each pair are equal; called once per round for all ballots.
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
    """Score of the majority on one problem: 1 correct, 0 wrong, 1/m if m classes tie for first.

    The score of a tie is 0 if none of the m classes is correct. votes: class of each response:
    `RIGHT`, a number from 1 on, or `NO_VOTE`.
    """
    cast = [vote for vote in votes if vote != NO_VOTE]
    sizes = {vote: cast.count(vote) for vote in set(cast)}
    first = [vote for vote, size in sizes.items() if size == max(sizes.values())]
    return 1 / len(first) if RIGHT in first else 0.0
