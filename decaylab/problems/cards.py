"""Configurations and splits of a hub data set, as its card declares them (``configs:`` in the
README.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from decaylab.errors import UserError

Splits = Mapping[str, list[str]]
"""Split -> patterns of the names of its files."""


def configurations(card: Path, name: str) -> dict[str, Splits]:
    """Configuration -> its splits, in the card's order; none where the card declares none.

    A configuration that names no files is left out. The default one stands under "default", too.

    Raises:
        UserError: the card is damaged; ``name`` is what messages call the data set.
    """
    from huggingface_hub import metadata_load

    try:
        declared = (metadata_load(card) or {}).get("configs") or []
        splits = {str(one["config_name"]): _splits(one) for one in declared if "data_files" in one}
        defaults = [str(one["config_name"]) for one in declared if one.get("default")]
    except Exception as error:  # of the YAML reader, or a shape that no card should have
        raise UserError(
            f"{name}: the configurations of its card can't be read ({error})"
        ) from error
    for default in defaults or (splits if len(splits) == 1 else ()):
        splits.setdefault("default", splits[default])
    return splits


def _splits(config: Mapping[str, Any]) -> Splits:
    """Files without a split are those of train, as on the hub."""
    given = config["data_files"]
    if isinstance(given, str) or all(isinstance(part, str) for part in given):
        given = [{"split": "train", "path": given}]
    elif isinstance(given, Mapping):
        given = [{"split": split, "path": path} for split, path in given.items()]
    splits: dict[str, list[str]] = {}
    for part in given:
        paths = [part["path"]] if isinstance(part["path"], str) else part["path"]
        folder = f"{config['data_dir'].strip('/')}/" if config.get("data_dir") else ""
        splits.setdefault(part["split"], []).extend(f"{folder}{path}" for path in paths)
    return splits


def matching(files: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The files whose names match a pattern, in order; ``**/`` also stands for no folder."""
    spellings = {form for one in patterns for form in (one, one.replace("**/", ""))}
    return sorted(file for file in files if any(fnmatchcase(file, form) for form in spellings))
