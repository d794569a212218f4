"""Stores the rendered prompts of a run, since a template may include today's date.

RUN/prompts.parquet                one row per role and problem: the ids and their text
CACHE/prompts-KEY/prompts.parquet  prompts shared by diagnostics; KEY hashes all but the date
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from decaylab.pair.prepare import Setup
from decaylab.policies.policy import Policy
from decaylab.policies.prompts import Prompts
from decaylab.runs import store

FILE, SCHEMA_NAME = "prompts.parquet", "decaylab.prompts/1"
SCHEMA = pa.schema(
    [("role", pa.string()), ("problem_id", pa.string()), ("ids", store.IDS), ("text", pa.string())]
)
OTHERWISE = (
    "the prompts are taken from {}: rendered today they would differ (the template may include "
    "the date)"
)
Kept = TypeVar("Kept", bound=Setup[Any])


class Prompted(Protocol):
    """A pair with its prompts."""

    @property
    def student(self) -> Policy: ...
    @property
    def teacher(self) -> Policy: ...
    @property
    def prompts(self) -> Prompts: ...


def digest(prompts: Prompts) -> str:
    """SHA-256 over roles, problems and ids; does not depend on their order."""
    return hashlib.sha256(json.dumps(prompts, sort_keys=True).encode()).hexdigest()


def write(setup: Prompted, folder: Path) -> None:
    """Writes the prompts of a pair into a folder, unless it already has prompts."""
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
    """The prompts stored in a folder; None if there are none.

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
    """The setup with the stored prompts of the first folder that covers all its problems.

    If no folder does, the setup is returned unchanged.
    """
    for folder in folders:
        kept = read(folder)
        if kept is None:
            continue
        try:
            prompts = {
                role: {name: kept[role][name] for name in rendered}
                for role, rendered in setup.prompts.items()
            }
        except KeyError:  # a problem is missing
            continue
        if prompts == setup.prompts:
            return setup
        notes = (*setup.prompt_notes, OTHERWISE.format(folder))
        return dataclasses.replace(setup, prompts=prompts, prompt_notes=notes)
    return setup


def shared(setup: Setup[Any], cache: Path) -> Path:
    """The cache folder for prompts of the same policies, prompt settings and questions."""
    options = setup.options
    # Everything that a prompt depends on, except the date.
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
