"""Every format there is, and which one a file has."""

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

FORMATS: tuple[Format, ...] = (
    *(
        *decaylab_runs.FORMATS,
        *trl.FORMATS,
        *verl.FORMATS,
        *vllm.FORMATS,
        *sglang.FORMATS,
        *openai.FORMATS,
    ),
    *(*open_instruct.FORMATS, *prime_rl.FORMATS, *lm_eval.FORMATS, *inspect_logs.FORMATS),
)
NAMES = (*(one.name for one in FORMATS), "columns")


def recognise(row: Row, place: str, columns: Mapping[str, str], name: str | None = None) -> Format:
    """The format of a file, by its first row. columns: the map of a user, which is for plain
    columns. name: as it was given.

    Raises:
        UserError: a row that two formats recognise, or none; a name that is of no format.
    """
    plain = columns_format(columns)
    known = {one.name: one for one in (*FORMATS, plain)}
    if name is not None:
        if name not in known:
            raise UserError(f"--rollouts-format must be one of {', '.join(NAMES)}, got {name!r}")
        return known[name]
    if columns:
        return plain
    found = [one for one in FORMATS if one.recognises(row)]
    if len(found) > 1:
        readings = " and as ".join(one.title for one in found)
        flags = " or ".join(f"--rollouts-format {one.name}" for one in found)
        raise UserError(f"{place}: can be read as {readings}; {flags} says which")
    return found[0] if found else plain
