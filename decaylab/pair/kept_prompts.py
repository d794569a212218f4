"""The prompts of a run, kept as they were rendered: a template may write today's date.

RUN/prompts.parquet                one row a role and problem: the ids, and how they read
CACHE/prompts-KEY/prompts.parquet  those that diagnostics share; KEY hashes all but the day
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from decaylab.pair.prepare import Setup
from decaylab.policies.prompts import Prompts
from decaylab.runs import store

FILE, SCHEMA_NAME = "prompts.parquet", "decaylab.prompts/1"
SCHEMA = pa.schema(
    [("role", pa.string()), ("problem_id", pa.string()), ("ids", store.IDS), ("text", pa.string())]
)
OTHERWISE = (
    "the prompts are those of {}: rendered today they would read otherwise (a template "
    "may write the date)"
)
Kept = TypeVar("Kept", bound=Setup[Any])


def digest(prompts: Prompts) -> str:
    """SHA-256 over roles, problems and ids, whatever their order."""
    return hashlib.sha256(json.dumps(prompts, sort_keys=True).encode()).hexdigest()


def write(setup: Setup[Any], folder: Path) -> None:
    """Keeps the prompts of a setup in a folder, unless it holds some."""
    if (folder / FILE).exists():
        return
    policies = {"student": setup.student, "teacher": setup.teacher}
    rows = [
        {
            "role": role,
            "problem_id": name,
            "ids": ids,
            "text": policies[role].tokenizer.decode(list(ids)),
        }
        for role, prompts in setup.prompts.items()
        for name, ids in prompts.items()
    ]
    store.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), folder / FILE, SCHEMA_NAME)


def read(folder: Path) -> Prompts | None:
    """The prompts that a folder holds; None where it holds none.

    Raises:
        UserError: the file is damaged.
    """
    if not (folder / FILE).exists():
        return None
    prompts: Prompts = {"student": {}, "teacher": {}}
    for row in store.read_table(folder / FILE, SCHEMA_NAME).to_pylist():
        prompts[row["role"]][row["problem_id"]] = tuple(row["ids"])
    return prompts


def settled(setup: Kept, folders: Sequence[Path]) -> Kept:
    """The setup with the prompts of the first folder that holds those of all its problems, or with
    its own."""
    for folder in folders:
        kept = read(folder)
        if kept is None:
            continue
        try:
            prompts = {
                role: {name: kept[role][name] for name in rendered}
                for role, rendered in setup.prompts.items()
            }
        except KeyError:  # it lacks a problem
            continue
        if prompts == setup.prompts:
            return setup
        notes = (*setup.prompt_notes, OTHERWISE.format(folder))
        return dataclasses.replace(setup, prompts=prompts, prompt_notes=notes)
    return setup


def shared(setup: Setup[Any], cache: Path) -> Path:
    """The folder of a cache for prompts like these: of the same policies, addressed alike, and the
    same questions."""
    options = setup.options
    # Everything that a prompt depends on but the day, which a template may write into it.
    depends: dict[str, Any] = {
        "policies": [setup.student.identity.contents, setup.teacher.identity.contents],
        "options": [
            options.teacher_prompt,
            options.prompt_format,
            options.thinking,
            options.template_kwargs,
        ],
        "system": [setup.student.settings.system, setup.teacher.settings.system],
        "instruction": setup.problem_set.instruction,
        "questions": [[problem.problem_id, problem.question] for problem in setup.problems],
    }
    if messages := {one.problem_id: one.messages for one in setup.problems if one.messages}:
        depends["messages"] = messages
    if setup.external is not None:
        read = [options.rollouts_format, options.prompt_kind, options.columns]
        depends["rollouts"] = [setup.external.content_hash, *read]
    key = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()
    return cache / f"prompts-{key[:16]}"
