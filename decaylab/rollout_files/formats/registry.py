"""All formats, and the recognition of a file's format."""

from __future__ import annotations

from collections.abc import Mapping

from decaylab.errors import UserError
from decaylab.rollout_files.formats import (
    decaylab_runs,
    inspect_logs,
    lm_eval,
    open_instruct,
    openai,
    prime_rl,
    sglang,
    trl,
    verl,
    vllm,
)
from decaylab.rollout_files.formats.columns import columns_format
from decaylab.rollout_files.formats.format import Format, Row

_WRITERS = (decaylab_runs, trl, verl, vllm, sglang, openai, open_instruct, prime_rl, lm_eval)
FORMATS: tuple[Format, ...] = tuple(
    format for module in (*_WRITERS, inspect_logs) for format in module.FORMATS
)
NAMES = (*(format.name for format in FORMATS), "columns")


def recognise(row: Row, place: str, columns: Mapping[str, str], name: str | None = None) -> Format:
    """The format of a file, by its first row.

    columns: the user's column map, which selects plain columns. name: of ``--rollouts-format``.

    Raises:
        UserError: several formats recognise the row, or the name is unknown.
    """
    plain = columns_format(columns)
    if name is not None:
        named = [format for format in (*FORMATS, plain) if format.name == name]
        if not named:
            raise UserError(f"--rollouts-format must be one of {', '.join(NAMES)}, got {name!r}")
        return named[0]
    recognised = [format for format in FORMATS if format.recognises(row)]
    if columns or not recognised:
        return plain
    if len(recognised) > 1:
        readings = " and as ".join(format.title for format in recognised)
        flags = " or ".join(f"--rollouts-format {format.name}" for format in recognised)
        raise UserError(f"{place}: can be read as {readings}; choose with {flags}")
    return recognised[0]
