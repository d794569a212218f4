"""The decay run that advice on N is read from: the one that was named, or the pair's own under
runs/."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from decaylab.errors import UserError
from decaylab.options.measuring import DiagnosticOptions, Options
from decaylab.pair.prepare import Setup
from decaylab.runs import measurements, store


def find(options: DiagnosticOptions) -> Path | None:
    """The decay run that was named, or the pair's own under runs/; None where there is none.

    Raises:
        UserError: what was named is no run, or one of another pair.
    """
    path = Path(options.decay) if options.decay else _default_decay(options)
    if not options.decay and not (path / "measurements.parquet").exists():
        return None
    record = store.RunFolder(path).record
    if record is None:
        raise UserError(f"--decay {path} is no run folder: it holds no run.json")
    there, here = (
        _names(one)
        for one in ((record.get("identity") or {}).get("options") or {}, asdict(options))
    )
    if there != here and options.decay:
        raise UserError(f"--decay {path} was measured on {there}, not on {here}")
    return path if there == here else None


def _names(options: Mapping[str, Any]) -> str:
    return f"{options.get('teacher')} and {options.get('student')}"


def read(path: Path | None, setup: Setup[DiagnosticOptions]) -> pd.DataFrame | None:
    """Measurements of a decay run; None without one, or where the pair's own is of other contents.

    Raises:
        UserError: the run that was named holds no measurements, or is one of other models, problems
        or temperature.
    """
    if path is None:
        return None
    identity = (store.RunFolder(path).record or {}).get("identity") or {}
    differences = store.differing(_measured(identity), _asked(setup))
    if differences and setup.options.decay:
        raise UserError(f"--decay {path} was measured on something else ({'; '.join(differences)})")
    return None if differences else measurements.read(path / "measurements.parquet")


def _measured(identity: dict[str, Any]) -> dict[str, Any]:
    """What a decay run was measured on, as far as it must agree with what is measured now."""
    options, problems = identity.get("options") or {}, identity.get("problems") or {}
    models = {role: identity.get(role) or {} for role in ("teacher", "student")}
    return {
        **{role: model.get("content_hash") for role, model in models.items()},
        **{
            "problems": (problems.get("name"), problems.get("version")),
            "temperature": options.get("temperature"),
        },
    }


def _asked(setup: Setup[DiagnosticOptions]) -> dict[str, Any]:
    options, problems = setup.options, setup.problem_set
    return {
        **{
            "teacher": setup.teacher.identity.content_hash,
            "student": setup.student.identity.content_hash,
        },
        **{"problems": (problems.name, problems.version), "temperature": options.temperature},
    }


def _default_decay(options: DiagnosticOptions) -> Path:
    return Options(
        teacher=options.teacher, student=options.student, problems=options.problems
    ).default_folder()
