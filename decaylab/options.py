"""The options of a measurement, with their defaults, the choices that follow from others, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from decaylab.errors import UserError

if TYPE_CHECKING:
    from decaylab.policies import LoadSettings
    from decaylab.sampling import SamplingSettings

ANSWER_RULES = ("last_boxed", "first_boxed", "anywhere", "gsm8k")
CONTROLS = ("own-prefix", "correct-so-far", "reverse", "swapped")
EMBEDDED_TEACHER, EMBEDDED_STUDENT = "abacus-teacher", "abacus-student"
HUB_STUDENT = "Qwen/Qwen2.5-Math-1.5B"


@dataclass(frozen=True)
class Options:
    """Every option of ``decaylab prefix-decay``; None means: chosen by `resolved` from the others."""

    teacher: str = EMBEDDED_TEACHER
    student: str | None = None
    problems: str | None = None
    rollouts: str | None = None
    prefix_lengths: tuple[int, ...] | None = None
    samples: int = 4
    max_tokens: int | None = None
    limit: int | None = None
    split: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    revision: str | None = None
    teacher_revision: str | None = None
    student_revision: str | None = None
    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    controls: tuple[str, ...] = ("correct-so-far",)
    teacher_prompt: Literal["own", "student"] = "own"
    prompt_format: Literal["chat", "plain"] = "chat"
    thinking: Literal["off", "on", "template"] = "off"
    answer_rule: str | None = None
    level: float = 0.95
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    batch_rows: int = 256
    trust_remote_code: bool = False
    out: str | None = None
    overwrite: bool = False
    paper: bool = False

    def resolved(self) -> Options:
        """The same with every open choice made.

        Raises:
            UserError: an option that cannot be used.
        """
        embedded = self.teacher == EMBEDDED_TEACHER
        student = self.student or (EMBEDDED_STUDENT if embedded else HUB_STUDENT)
        problems = self.problems or ("rollouts" if self.rollouts else "abacus" if embedded else "math500")
        lengths = self.prefix_lengths or ((0, 10, 20, 40, 60) if embedded else (0, 100, 200, 300))
        chosen = dataclasses.replace(
            self,
            student=student,
            problems=problems,
            prefix_lengths=tuple(lengths),
            max_tokens=self.max_tokens if self.max_tokens is not None else 320 if embedded else 2048,
        )
        chosen.check()
        return chosen

    def check(self) -> None:
        lengths = self.prefix_lengths or (0,)
        if any(length < 0 for length in lengths):
            raise UserError(f"--prefix-lengths must not be negative, got {','.join(map(str, lengths))}")
        if any(a >= b for a, b in zip(lengths, lengths[1:])):
            raise UserError(f"--prefix-lengths must ascend without repeats, got {','.join(map(str, lengths))}")
        if lengths[0] != 0 or len(lengths) < 2:
            raise UserError(f"--prefix-lengths must begin with 0 (the teacher alone) and go on, got {','.join(map(str, lengths))}")
        if self.max_tokens is not None and lengths[-1] >= self.max_tokens:
            raise UserError(f"--prefix-lengths reach {lengths[-1]}, beyond the budget --max-tokens {self.max_tokens}")
        if self.samples < 1:
            raise UserError(f"--samples must be at least 1, got {self.samples}")
        if self.batch_rows < 1:
            raise UserError(f"--batch-rows must be at least 1, got {self.batch_rows}")
        if not 0 < self.level < 1:
            raise UserError(f"--level must lie between 0 and 1, got {self.level}")
        unknown = sorted(set(self.controls) - set(CONTROLS))
        if unknown:
            raise UserError(f"--controls must be all, none or among {', '.join(CONTROLS)}, got {', '.join(unknown)}")
        if self.answer_rule is not None and self.answer_rule not in ANSWER_RULES:
            raise UserError(f"--answer-rule must be one of {', '.join(ANSWER_RULES)}, got {self.answer_rule}")
        try:
            self.sampling()
        except ValueError as error:
            raise UserError(f"--{str(error).replace('_', '-')}") from error

    def sampling(self) -> SamplingSettings:
        from decaylab.sampling import SamplingSettings

        return SamplingSettings(self.temperature, self.top_p, self.top_k, self.seed)

    def loading(self, role: Literal["student", "teacher"]) -> LoadSettings:
        from decaylab.policies import LoadSettings

        revision = self.student_revision if role == "student" else self.teacher_revision
        return LoadSettings(
            self.dtype, self.device, revision, self.trust_remote_code, self.prompt_format, self.thinking
        )

    def default_folder(self) -> Path:
        """runs/prefix-decay-TEACHER-STUDENT-PROBLEMS: the same command finds its run again."""
        names = (self.teacher, self.student or "", self.problems or "")
        words = [re.sub(r"[^\w.-]+", "-", Path(name).name or name) for name in names]
        return Path("runs") / ("prefix-decay-" + "-".join(words))
