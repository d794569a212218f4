"""Hands a prefix from one policy to the other.

It passes as ids where the vocabularies agree, and as text where they do not.
"""

from __future__ import annotations

from typing import Any

from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies


class HandOver:
    """Gives the reader's ids of a prefix that the other policy wrote.

    With one vocabulary the ids pass unchanged and are never re-encoded. With two, the text is
    encoded by the reader; where the prefix ends inside a character, it goes back to the last
    boundary that both can express.
    """

    def __init__(self, student: Policy, teacher: Policy) -> None:
        self.policies: dict[str, Any] = {"student": student, "teacher": teacher}
        self.agreement = compare_vocabularies(student.tokenizer, teacher.tokenizer)
        self.tokens = {
            role: set(policy.tokenizer.get_vocab().values())
            for role, policy in self.policies.items()
        }

    def __call__(self, ids: list[int], author: str) -> list[int] | None:
        """The prefix in the ids of the policy that is not its author.

        None where it holds an id that the reader lacks, or one that no token of its author has.
        """
        agreement = self.agreement
        if not self.tokens[author].issuperset(ids):
            return None
        if agreement.kind == "different":
            reader = self.policies["teacher" if author == "student" else "student"]
            return reader.encode(self.expressible_text(ids, author)) or None
        foreign = agreement.student_only if author == "student" else agreement.teacher_only
        return ids if {*agreement.conflicting, *foreign}.isdisjoint(ids) else None

    def expressible_text(self, ids: list[int], author: str) -> str:
        """The text of a prefix, without a character that its last tokens only begin."""
        policy = self.policies[author]
        for end in range(len(ids), 0, -1):
            text = str(policy.decode(ids[:end]))
            # A character may be spread over several tokens.
            if not text.endswith("\ufffd"):
                return text
        return ""
