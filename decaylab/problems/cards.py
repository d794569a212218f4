"""Reads the configurations and splits of a hub data set from its card.

A card is the README.md of a data set; its ``configs:`` list the files of each split.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from decaylab.errors import UserError
from decaylab.problems.files import one_line

Splits = Mapping[str, list[str]]
"""Split -> patterns of the names of its files."""


def configurations(card: Path, name: str) -> dict[str, Splits]:
    """Configuration -> its splits, in the card's order; empty if the card declares none.

    A configuration without files is left out. The default one is also under "default". name: of the
    data set in messages.

    Raises:
        UserError: the card is damaged.
    """
    from huggingface_hub import metadata_load

    splits: dict[str, Splits] = {}
    defaults = []
    # A card is hand-written and may have any structure.
    try:
        for config in (metadata_load(card) or {}).get("configs") or []:
            if not config.get("data_files"):
                continue
            splits[str(config["config_name"])] = _splits(config)
            if config.get("default"):
                defaults.append(str(config["config_name"]))
    except Exception as error:
        raise UserError(
            f"{name}: cannot read the configurations in its card ({one_line(error)})"
        ) from error
    if len(splits) == 1:
        defaults = list(splits)
    if defaults:
        splits.setdefault("default", splits[defaults[0]])
    return splits


def _splits(config: Mapping[str, Any]) -> Splits:
    """The splits of a configuration; files without a split are train, as on the hub."""
    given = config["data_files"]
    folder = f"{config['data_dir'].strip('/')}/" if config.get("data_dir") else ""
    if isinstance(given, Mapping):
        given = [{"split": split, "path": path} for split, path in given.items()]
    elif isinstance(given, str) or isinstance(given[0], str):
        given = [{"split": "train", "path": given}]
    splits: dict[str, list[str]] = {}
    for part in given:
        paths = [part["path"]] if isinstance(part["path"], str) else part["path"]
        splits.setdefault(part["split"], []).extend(f"{folder}{path}" for path in paths)
    return splits


def matching(files: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """The files that match a pattern, sorted; ``**/`` also matches no folder."""
    matches: set[str] = set()
    for pattern in patterns:
        for form in (pattern, pattern.replace("**/", "")):
            matches.update(fnmatch.filter(files, form))
    return sorted(matches)
