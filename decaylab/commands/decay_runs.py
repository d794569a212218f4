"""The decay run that advice on N is read from: the one that was named, or the pair's own under
runs/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.commands import pair_identity
from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.pair.prepare import Setup
from decaylab.runs import measurements, store
from decaylab.runs.vocabulary import STUDENT, TEACHER


def find(options: DiagnosticOptions) -> Path | None:
    """The decay run that was named, or the pair's own under runs/; None where there is none.

    Raises:
        UserError: what was named is not a run, or a run of another pair.
    """
    usual = Options(teacher=options.teacher, student=options.student, problems=options.problems)
    path = Path(options.decay) if options.decay else usual.default_folder()
    folder = store.RunFolder(path)
    if not options.decay and not folder.finished:
        return None
    if folder.record is None:
        raise UserError(f"--decay {path} is no run folder: it holds no run.json")
    there, here = _names(_identity(path).get("options") or {}), _names(asdict(options))
    if there == here:
        return path
    if options.decay:
        raise UserError(f"--decay {path} was measured on {there}, not on {here}")
    return None


def read(path: Path | None, setup: Setup[DiagnosticOptions]) -> pd.DataFrame | None:
    """Measurements of a decay run; None without one, or where the pair's own is of other contents.

    Raises:
        UserError: the run that was named holds no measurements, or is one of other models, problems
            or temperature.
    """
    if path is None:
        return None
    here = {**pair_identity.identity(setup), "options": asdict(setup.options)}
    differences = store.differing(_compared(_identity(path)), _compared(here))
    if differences and setup.options.decay:
        raise UserError(f"--decay {path} was measured on something else ({'; '.join(differences)})")
    return None if differences else measurements.read(path / "measurements.parquet")


def _identity(path: Path) -> dict[str, Any]:
    return (store.RunFolder(path).record or {}).get("identity") or {}


def _names(options: Mapping[str, Any]) -> str:
    return f"{options.get('teacher')} and {options.get('student')}"


def _compared(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a decay run was measured on, as far as it must agree with what is measured now."""
    options, problems = identity.get("options") or {}, identity.get("problems") or {}
    hashes = {role: (identity.get(role) or {}).get("content_hash") for role in (TEACHER, STUDENT)}
    return {
        **hashes,
        "problems": (problems.get("name"), problems.get("version")),
        "temperature": options.get("temperature"),
    }
