"""What training can do where student and teacher have two tokenizers, and what a reader must know
of such a run."""

from __future__ import annotations

from collections.abc import Mapping

from decaylab.errors import UserError
from decaylab.maths.selection import SELECTORS
from decaylab.options.training import TrainOptions
from decaylab.policies.alignment import Aligner
from decaylab.policies.policy import Policy
from decaylab.policies.vocabularies import compare_vocabularies
from decaylab.printing import percent, rounded

POLICY_GRADIENT = "policy-gradient"
READS_STUDENT = "top-student-entropy"
"""The selector whose only signal is the student's own."""
BEHIND_TEACHER = "after-teacher-prefix"
WARN_ABOVE = 0.02
"""Share of left-out rollouts above which a run warns."""
DIFFERENT = (
    "the tokenizers differ: the loss is the policy gradient of log-ratios of spans between byte "
    "boundaries that both have; rollouts whose text the teacher's tokens cannot give are left out"
)


def aligner_of(options: TrainOptions, student: Policy, teacher: Policy) -> Aligner | None:
    """What aligns the pair's tokens; None if they have one tokenizer.

    Raises:
        UserError: an option needs one tokenizer, or tokens cannot be read as bytes.
    """
    if compare_vocabularies(student.tokenizer, teacher.tokenizer).kind != "different":
        return None
    if options.divergence != POLICY_GRADIENT:
        raise UserError(
            f"--divergence {options.divergence} compares laws over one vocabulary, and the "
            f"tokenizers of {student.name} and {teacher.name} differ: use --divergence "
            f"{POLICY_GRADIENT}"
        )
    if options.selector not in selectors():
        raise UserError(_refused(options.selector))
    return Aligner(student, teacher)


def selectors() -> tuple[str, ...]:
    """The selectors that need nothing of a teacher at the student's tokens."""
    plain = [name for name, selector in SELECTORS.items() if not selector.needs_signals]
    return tuple(name for name in (*plain, READS_STUDENT) if name != BEHIND_TEACHER)


def _refused(selector: str) -> str:
    reason = "reads the teacher's law at each token of the student"
    if selector == BEHIND_TEACHER:
        reason = "lets the student go on behind the teacher's own tokens"
    return (
        f"--selector {selector} {reason}, and the tokenizers differ: use one of "
        f"{', '.join(selectors())}"
    )


def notes(options: TrainOptions, student: Policy, teacher: Policy) -> tuple[str, ...]:
    """Notes on how the two policies were loaded, and on what their tokens allow."""
    drawn = options.temperature, options.top_p, options.top_k
    found = [*student.notes, *teacher.notes, DIFFERENT]
    if drawn != (1.0, 1.0, 0):
        found.append(
            f"rollouts are sampled at temperature {drawn[0]:g}, top-p {drawn[1]:g}, top-k "
            f"{drawn[2]}, so their log-ratios at temperature 1 estimate no KL; sample at 1, 1, 0"
        )
    return tuple(dict.fromkeys(found))


def left_out_words(counts: Mapping[str, float]) -> str:
    """The share of rollouts that were left out in a run; "" if none was.

    counts: sums of the columns ``unaligned``, ``beyond_context``, ``left_out`` and ``rollouts`` of
    metrics.csv.
    """
    asked = counts["rollouts"] + counts["left_out"]
    if not counts["left_out"]:
        return ""
    share = counts["left_out"] / asked
    warning = "WARNING: " * (share > WARN_ABOVE)
    return (
        f"{warning}{counts['left_out']:g} of {asked:g} training rollouts "
        f"({rounded(percent(share), 1)} %) are left out: {counts['unaligned']:g} cannot be "
        f"aligned, {counts['beyond_context']:g} exceed the teacher's context, the others have no "
        "closed span; what is left is a law conditioned on that"
    )
