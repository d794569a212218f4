"""Advice in the folder of a run: the runs of its pair are found, weighed, and named in its
record."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from decaylab.claims.advice import Advice, advise
from decaylab.claims.advice_runs import problems_of
from decaylab.disk import write_atomically
from decaylab.errors import UserError
from decaylab.pair.prepare import Setup
from decaylab.runs import store
from decaylab.runs.found_runs import Pair, of_pair

RUNS = Path("runs")
TEXT, CANDIDATES = "advice.txt", "advice.csv"


def check_folders(folders: Sequence[str]) -> None:
    """Raises UserError where a folder that was given holds no run."""
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"--evidence {folder}: no such folder")


def check_runs(folders: Sequence[str], setup: Setup[Any]) -> None:
    """Raises UserError where a folder that was given holds no run of the pair."""
    pair = pair_of(setup)
    for folder in folders:
        runs, unreadable = of_pair(pair, [Path(folder)])
        if not runs:
            why = f" ({unreadable[0]})" if unreadable else ""
            raise UserError(f"--evidence {folder} holds no run of {pair}{why}")


def written(folder: store.RunFolder, folders: Sequence[str], setup: Setup[Any]) -> Advice:
    """The advice by the runs of the pair in these folders, by default under runs/, and by the run
    itself.

    Leaves advice.txt, advice.csv with a row for each way of training that was compared, and in
    run.json the runs that were used.
    """
    roots = [Path(each) for each in folders] or [RUNS]
    runs, unreadable = of_pair(pair_of(setup), [folder.path, *roots])
    advice = advise(runs)
    text = "\n\n".join([advice.text, *(f"Left out: {why}" for why in unreadable)])
    write_atomically(folder.path / TEXT, f"{text}\n".encode())
    table = advice.candidates.to_csv(index=False)
    write_atomically(folder.path / CANDIDATES, table.encode())
    used = [
        {
            "name": run.name,
            "command": run.command,
            "folder": str(run.folder),
            "problems": problems_of(run),
        }
        for run in advice.used
    ]
    record = {
        "recommended": advice.recommended.arm if advice.recommended else None,
        "verdict": list(advice.verdict),
        "next": advice.experiment.words if advice.experiment else "",
        "runs": used,
        "left_out": unreadable,
    }
    folder.update({"advice": record})
    return advice


def pair_of(setup: Setup[Any]) -> Pair:
    """The loaded pair, as runs on disk are compared with it."""
    student, teacher = setup.student.identity, setup.teacher.identity
    return Pair(student.name, teacher.name, student.content_hash, teacher.content_hash)
