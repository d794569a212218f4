"""Hands a prefix from one policy to the other: as ids if the vocabularies agree, else as text."""

from __future__ import annotations

from typing import Any

from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies


class HandOver:
    """Converts a prefix of one policy into the ids of the other, the reader.

    With one vocabulary the ids pass unchanged and are never re-encoded. With two, the reader
    encodes the text; a prefix that ends inside a character is cut back to the last complete one.
    """

    def __init__(self, student: Policy, teacher: Policy) -> None:
        self.policies: dict[str, Any] = {"student": student, "teacher": teacher}
        self.agreement = compare_vocabularies(student.tokenizer, teacher.tokenizer)
        self.tokens = {
            role: set(policy.tokenizer.get_vocab().values())
            for role, policy in self.policies.items()
        }

    def __call__(self, ids: list[int], author: str) -> list[int] | None:
        """The prefix in the reader's ids; ``author`` is the role that wrote it.

        None if it contains an id that the reader does not have, or one outside the author's own
        vocabulary.
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
        """The text of a prefix, without an incomplete character at its end."""
        policy = self.policies[author]
        for end in range(len(ids), 0, -1):
            text = str(policy.decode(ids[:end]))
            # A character may be spread over several tokens.
            if not text.endswith("\ufffd"):
                return text
        return ""
