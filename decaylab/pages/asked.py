"""What the answers of a report are made from: the runs, and the numbers of their trained
students."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from decaylab.claims.advice import Advice
from decaylab.claims.verdicts import pick
from decaylab.claims.wording import Style, listed
from decaylab.paper import paper_items
from decaylab.paper.paper_items import FIGURES
from decaylab.printing import rounded
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.measurements import Measurement
from decaylab.runs.students import last_of_each, students

NAMED = 3  # students that a sentence names


class Asked(NamedTuple):
    """run: behind the figure. runs: all."""

    run: FoundRun
    runs: Sequence[FoundRun]
    advice: Advice

    @property
    def trained(self) -> list[str]:
        """The trained students of the run, each at its last checkpoint."""
        return [student.label for student in last_of_each(students(self.run))]


def by_student(asked: Asked, what: str, style: Style, **at: object) -> str:
    """The number of each trained student, with its name behind it; "" where there is none."""
    parts = [
        f"{style.number(row)} ({row.checkpoint})" for row in rows_by_student(asked, what, **at)
    ]
    if len(parts) > NAMED + 1:
        parts[NAMED:] = [f"{rounded(len(parts) - NAMED)} more"]
    return listed(parts)


def rows_by_student(asked: Asked, what: str, **at: object) -> list[Measurement]:
    """The row of each trained student that has one."""
    rows = (pick(asked.run.measurements, what, checkpoint=label, **at) for label in asked.trained)
    return [found[0] for found in rows if found]


def untrained(figure: str, what: str) -> str:
    """That no trained student was measured, and what shows the rest. figure: name of an item."""
    makes = paper_items.item(figure, FIGURES).makes
    return f"No trained student was measured; `{makes}` shows {what}."
