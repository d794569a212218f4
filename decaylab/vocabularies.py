"""What the vocabularies of two policies have in common, id by id."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class VocabularyAgreement:
    """How far two tokenizers give the same ids the same meaning.

    kind: ``same`` (every id), ``compatible`` (no id but those of special tokens means two things), ``different``.
    conflicting: ids that mean different strings; student_only, teacher_only: ids that the other one lacks.
    """

    kind: Literal["same", "compatible", "different"]
    conflicting: tuple[int, ...]
    student_only: tuple[int, ...]
    teacher_only: tuple[int, ...]

    @property
    def foreign_to_teacher(self) -> frozenset[int]:
        """Student ids that cannot be handed to the teacher as they are."""
        return frozenset(self.conflicting) | frozenset(self.student_only)

    @property
    def foreign_to_student(self) -> frozenset[int]:
        return frozenset(self.conflicting) | frozenset(self.teacher_only)


def compare_vocabularies(student: Any, teacher: Any) -> VocabularyAgreement:
    """Compares the id -> string maps of two tokenizers; equal sizes alone prove nothing."""
    strings_s = {index: token for token, index in student.get_vocab().items()}
    strings_t = {index: token for token, index in teacher.get_vocab().items()}
    common = strings_s.keys() & strings_t.keys()
    conflicting = tuple(sorted(index for index in common if strings_s[index] != strings_t[index]))
    student_only = tuple(sorted(strings_s.keys() - strings_t.keys()))
    teacher_only = tuple(sorted(strings_t.keys() - strings_s.keys()))
    special = set(student.get_added_vocab().values()) | set(teacher.get_added_vocab().values())
    if not (conflicting or student_only or teacher_only):
        return VocabularyAgreement("same", (), (), ())
    ordinary = [index for index in conflicting if index not in special]
    kind: Literal["compatible", "different"] = "different" if ordinary else "compatible"
    return VocabularyAgreement(kind, conflicting, student_only, teacher_only)
