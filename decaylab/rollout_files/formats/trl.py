"""Completions logged by TRL's trainers (``log_completions=True``).

Sources: huggingface/trl 1.16.0, ``trl/trainer/grpo_trainer.py`` and ``rloo_trainer.py``, ``log``: a
data frame of step, prompt, completion, one column per reward function, columns of ``log_extra`` and
advantage, written to ``completions/completions_00010.parquet`` (RLOO logs it only to Weights &
Biases or trackio). ``trl/trainer/distillation_trainer.py``: step, prompt and completion.
``trl/experimental/gold/gold_trainer.py`` and ``iw_opd/iw_opd_trainer.py``: the same three, as a
logged table only. Also read: 0.15.2, 0.17.0, 0.19.1, 0.22.2, 0.24.0, 0.26.2, 0.29.0 and 1.0.0; up
to 0.26 the step is text, up to 0.17 there is no advantage.

Texts are written in different ways. Completions are decoded without special tokens, except by GOLD
and IW-OPD. Prompts are the data set's own text or messages in 1.16, rendered with special tokens up
to 0.22, and rendered without them in between and by the distillation trainer. There is no column
for this, so it is inferred from the texts: a rendered prompt without special tokens ends with the
bare name of the assistant's role.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from decaylab.rollout_files.formats.fields import Fields, is_messages, is_number
from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.rollout import (
    USER_COLUMNS,
    add_reply,
    logged_rows,
    name_rollout,
    other_grades,
)
from decaylab.rollout_files.formats.shapes import both, either, has, logged_table
from decaylab.rollout_files.record import Record

LOGGED = ("step", "prompt", "completion")
OWN_COLUMNS = USER_COLUMNS | {*LOGGED, "advantage"}
SPECIAL_TOKEN = re.compile(
    r"<[|｜][^<>]*[|｜]>|</?s>|<(?:bos|eos)>|<(?:start|end)_of_turn>|\[/?INST\]"
)
BARE_ROLE = re.compile(
    r"(?:(?<!>)(?:assistant|model)\n+(?:<think>\n*(?:</think>\n*)?)?|\nassistant)\Z"
)


def _holds_rewards(row: Row) -> bool:
    """Whether all other columns are rewards, besides TRL's own and the user's."""
    others = [value for name, value in row.items() if name not in OWN_COLUMNS]
    return all(isinstance(value, int | float | None) for value in others)


TEXT = either(str, is_messages)
STEP = either(int, lambda value: isinstance(value, str) and value.isdecimal())
ROW = both(
    has(step=STEP, prompt=TEXT, completion=TEXT),
    either(has(advantage=is_number), _holds_rewards),
)


def _read(row: Fields) -> Iterator[Record]:
    prompt, completion = row.prompt("prompt"), row.get("completion")
    record = Record(prompt=prompt, grades=other_grades(row, OWN_COLUMNS))
    if isinstance(completion, str):
        record.response = completion
    else:
        turns = row.messages("completion")
        add_reply(record, turns, row.items("completion").inner(0))
    record.prompt_stripped = _stripped(row, prompt, completion)
    yield name_rollout(record, row)


def _stripped(row: Fields, prompt: object, completion: object) -> bool:
    """Whether the prompt was decoded without special tokens."""
    if not isinstance(prompt, str):
        return False
    if "advantage" in row or "reward" in row:
        return BARE_ROLE.search(prompt[-60:]) is not None
    texts = [text for text in (prompt, completion) if isinstance(text, str)]
    return not any(SPECIAL_TOKEN.search(text) for text in texts)


def _read_table(row: Fields) -> Iterator[Record]:
    for inner in logged_rows(row):
        yield from _read(inner)


FORMATS = (
    Format("trl", "TRL completions", ROW, _read),
    Format("trl-table", "TRL completions, logged table", logged_table(*LOGGED), _read_table),
)
