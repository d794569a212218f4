"""Verdicts of a grader elsewhere, from a file with one row per rollout (``--verdicts FILE``).

    rollout_id,checkpoint,verdict
    student/problem-1/0,base,correct

Where the file does not exist, the command writes it, with the rollouts and an empty column
``verdict`` to be filled in; the next start of the same command reads it and samples nothing again.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.disk import write_atomically
from decaylab.errors import UserError
from decaylab.problems.grading import Verdict

RULE = "verdicts"
"""The answer rule of given verdicts."""
ROLLOUT, CHECKPOINT, VERDICT = "rollout_id", "checkpoint", "verdict"
WORDS = {
    **{verdict.value: verdict for verdict in Verdict},
    **{"true": Verdict.CORRECT, "false": Verdict.WRONG, "1": Verdict.CORRECT, "0": Verdict.WRONG},
    **{"1.0": Verdict.CORRECT, "0.0": Verdict.WRONG, "passed": Verdict.CORRECT},
    **{"failed": Verdict.WRONG, "timed_out": Verdict.TIMEOUT, "no_code": Verdict.NO_ANSWER},
}
"""What a verdict may be written as, in lower case."""
SUFFIXES = (".csv", ".jsonl", ".parquet")
NAMED = 3
Place = tuple[str, str]
"""Whose rollouts (base, teacher, a checkpoint; empty in prefix-decay), and a rollout's id."""


class GivenVerdicts:
    """The verdicts of a file.

    waiting: the rollouts that have none, as rows of the file.

    Raises:
        UserError: another kind of file, or one that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.waiting: dict[Place, dict[str, Any]] = {}
        self.used: set[Place] = set()
        if path.suffix not in SUFFIXES:
            raise UserError(f"--verdicts {path}: the file must end in {', '.join(SUFFIXES)}")
        self.there = path.exists()
        self.known = self._read() if self.there else {}

    @property
    def sha256(self) -> str:
        """Of the file; it identifies the grades."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest() if self.there else ""

    def of(self, whose: str, rows: Sequence[Mapping[str, Any]], gold: Sequence[str]) -> list[str]:
        """The verdicts of rows of the rollouts table. A row without one is noted as waiting."""
        verdicts = []
        for row, answer in zip(rows, gold, strict=True):
            place = whose, str(row[ROLLOUT])
            named = place if place in self.known else ("", place[1])
            found = self.known.get(named)
            self.used.add(named)
            if found is None:
                self.waiting[place] = {
                    ROLLOUT: place[1],
                    CHECKPOINT: whose,
                    "problem_id": row["problem_id"],
                    "answer": answer,
                    "response": row["text"],
                    VERDICT: None,
                }
            verdicts.append(str(found or Verdict.NOT_APPLICABLE))
        return verdicts

    def notes(self) -> list[str]:
        """That the file has verdicts of rollouts which were not judged."""
        others = len(self.known.keys() - self.used)
        if not self.used or not others:
            return []
        return [f"{others} verdicts of {self.path.name} are of other rollouts, not used"]

    def check(self) -> None:
        """Raises UserError where rollouts have no verdict, after writing a file that has none."""
        if not self.waiting:
            return
        names = ", ".join(name for _, name in [*self.waiting][:NAMED])
        if self.there:
            raise UserError(
                f"--verdicts {self.path} has no verdict of {len(self.waiting)} rollouts ({names}); "
                "fill in their column verdict, or name a file that does not exist to have it "
                "written"
            )
        self._write()
        raise UserError(
            f"{self.path} is written with {len(self.waiting)} rollouts to grade: fill in the "
            "column verdict (correct, wrong, no_answer, or true and false) and start the same "
            "command again"
        )

    def _write(self) -> None:
        frame = pd.DataFrame(list(self.waiting.values()))
        if self.path.suffix == ".parquet":
            content = frame.to_parquet(index=False)
        elif self.path.suffix == ".csv":
            content = frame.to_csv(index=False, quoting=csv.QUOTE_ALL).encode()
        else:
            content = frame.to_json(orient="records", lines=True, force_ascii=False).encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, content)
        except OSError as error:
            raise UserError(f"cannot write --verdicts {self.path}: {error.strerror}") from error

    def _read(self) -> dict[Place, Verdict]:
        frame = self._frame()
        for name in (ROLLOUT, VERDICT):
            if name not in frame:
                raise UserError(
                    f"--verdicts {self.path} has no column {name!r}: found "
                    f"{', '.join(map(str, frame.columns))}"
                )
        whose = frame[CHECKPOINT].fillna("") if CHECKPOINT in frame else [""] * len(frame)
        known: dict[Place, Verdict] = {}
        for label, rollout, given in zip(whose, frame[ROLLOUT], frame[VERDICT], strict=True):
            if pd.isna(given) or not str(given).strip():
                continue
            word = str(given).strip().lower()
            if word not in WORDS:
                raise UserError(
                    f"--verdicts {self.path}: the verdict of {rollout} must be "
                    f"{', '.join(verdict.value for verdict in Verdict)}, true or false, got "
                    f"{given!r:.40}"
                )
            place = str(label), str(rollout)
            if known.setdefault(place, WORDS[word]) != WORDS[word]:
                raise UserError(
                    f"--verdicts {self.path} has two verdicts of {rollout}: "
                    f"{known[place].value} and {WORDS[word].value}; keep one"
                )
        return known

    def _frame(self) -> pd.DataFrame:
        try:
            if self.path.suffix == ".parquet":
                return pd.read_parquet(self.path)
            if self.path.suffix == ".csv":
                return pd.read_csv(self.path, dtype={ROLLOUT: str, CHECKPOINT: str, VERDICT: str})
            return pd.read_json(self.path, orient="records", lines=True, dtype=False)
        except (OSError, ValueError) as error:
            first = str(error).partition("\n")[0]
            raise UserError(f"cannot read --verdicts {self.path}: {first}") from error
