r"""Answer rules: how the answer is found in a response, and when it equals the gold answer.

    >>> from decaylab.api import answers
    >>> with answers.Grader(workers=1) as grader:
    ...     grades = grader.grade([r"so \boxed{0.75}", "about 0.7"], [r"\frac{3}{4}", "0.75"])
    >>> grades.correct("last_boxed")
    [True, False]
    >>> grades.verdicts["last_boxed"][1].value
    'no_answer'

`ANSWER_RULES` lists the rules; a grader applies all of them. Answers are compared in other
processes, since that can hang, so a script needs ``if __name__ == "__main__":``. `boxes` lists
what stands in the boxes of a text.
"""

from __future__ import annotations

from decaylab.problems.answers import ANSWER_RULES
from decaylab.problems.boxes import boxes
from decaylab.problems.grading import Grader, Grades, Verdict

__all__ = ["ANSWER_RULES", "Grader", "Grades", "Verdict", "boxes"]
