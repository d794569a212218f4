"""The options of a measurement, with their defaults, the choices that follow from others, and what is refused."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from decaylab.errors import UserError

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
            controls=tuple(sorted(set(self.controls), key=_control_order)),
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
            raise UserError(
                f"--prefix-lengths must begin with 0 (the teacher alone) and go on, got {','.join(map(str, lengths))}"
            )
        if self.max_tokens is not None and lengths[-1] >= self.max_tokens:
            raise UserError(f"--prefix-lengths reach {lengths[-1]}, beyond the budget --max-tokens {self.max_tokens}")
        if self.samples < 1:
            raise UserError(f"--samples must be at least 1, got {self.samples}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit must be at least 1, got {self.limit}; leave it out to take every problem")
        if self.batch_rows < 1:
            raise UserError(f"--batch-rows must be at least 1, got {self.batch_rows}")
        if not 0 < self.level < 1:
            raise UserError(f"--level must lie between 0 and 1, got {self.level}")
        unknown = sorted(set(self.controls) - set(CONTROLS))
        if unknown:
            raise UserError(f"--controls must be all, none or among {', '.join(CONTROLS)}, got {', '.join(unknown)}")
        if self.answer_rule is not None and self.answer_rule not in ANSWER_RULES:
            raise UserError(f"--answer-rule must be one of {', '.join(ANSWER_RULES)}, got {self.answer_rule}")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"--temperature must be at least 0 (0 is greedy), got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise UserError(f"--top-p must lie above 0 and not above 1, got {self.top_p}")
        if self.top_k < 0:
            raise UserError(f"--top-k must be at least 0 (0 is off), got {self.top_k}")

        _check_device(self.device)

    def default_folder(self) -> Path:
        """runs/prefix-decay-TEACHER-STUDENT-PROBLEMS: the same command finds its run again."""
        names = (self.teacher, self.student or "", self.problems or "")
        words = [re.sub(r"[^\w.-]+", "-", Path(name).name or name) for name in names]
        return Path("runs") / ("prefix-decay-" + "-".join(words))


def _control_order(name: str) -> int:
    """Controls are kept in one order, so that a run is found again however they were listed."""
    return CONTROLS.index(name) if name in CONTROLS else len(CONTROLS)


def _check_device(name: str) -> None:
    if name == "auto":
        return
    import torch

    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UserError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from error
