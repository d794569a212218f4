"""TRL: the completions that its trainers log (``log_completions=True``).

Sources: huggingface/trl 1.16.0, ``trl/trainer/grpo_trainer.py`` and ``rloo_trainer.py``, ``log``: a
data frame of step, prompt, completion, one column a reward function, columns of ``log_extra`` and
advantage, written to ``completions/completions_00010.parquet`` (RLOO logs it to Weights & Biases or
trackio alone). ``trl/trainer/distillation_trainer.py``: step, prompt and completion.
``trl/experimental/gold/gold_trainer.py`` and ``iw_opd/iw_opd_trainer.py``: the same three, as a
logged table only. Also read: 0.15.2, 0.17.0, 0.19.1, 0.22.2, 0.24.0, 0.26.2, 0.29.0 and 1.0.0; up
to 0.26 the step is text, up to 0.17 there is no advantage.

What texts went through differs. Completions are decoded without special tokens, but with them by
GOLD and IW-OPD. Prompts are the data set's own text or messages in 1.16, rendered with special
tokens up to 0.22, and rendered without them in between and by the distillation trainer. No column
says which, so it is read off the texts: a rendered prompt without its special tokens ends with the
bare name of the assistant's role.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from decaylab.rollout_files.formats.format import Format, Row
from decaylab.rollout_files.formats.row_values import (
    USER_COLUMNS,
    asked,
    is_logged_table,
    is_messages,
    is_number,
    logged_rows,
    messages,
    name_rollout,
    reply,
)
from decaylab.rollout_files.record import Record

LOGGED = ("step", "prompt", "completion")
OWN_COLUMNS = USER_COLUMNS | {*LOGGED, "advantage"}
SPECIAL_TOKEN = re.compile(
    r"<[|｜][^<>]*[|｜]>|</?s>|<(?:bos|eos)>|<(?:start|end)_of_turn>|\[/?INST\]"
)
BARE_ROLE = re.compile(
    r"(?:(?<!>)(?:assistant|model)\n+(?:<think>\n*(?:</think>\n*)?)?|\nassistant)\Z"
)


def recognises(row: Row) -> bool:
    """A row of the data frame; without an advantage it holds nothing but rewards and a user's own
    columns beside."""
    step = row.get("step")
    if type(step) is not int and not (isinstance(step, str) and step.isdecimal()):
        return False
    if not all(
        isinstance(row.get(name), str) or is_messages(row.get(name))
        for name in ("prompt", "completion")
    ):
        return False
    return is_number(row.get("advantage")) or all(
        name in OWN_COLUMNS or value is None or isinstance(value, int | float)
        for name, value in row.items()
    )


def records(row: Row, place: str) -> Iterator[Record]:
    """The rollout of a row."""
    prompt, completion = asked(row.get("prompt"), "prompt", place), row.get("completion")
    if isinstance(completion, str):
        record = Record(response=completion)
    else:
        record = reply(messages(completion, "completion", place), "completion", place)
    record.prompt = prompt
    record.prompt_stripped, record.response_stripped = _stripped(row, prompt, completion)
    record.grades = {
        name: value for name, value in row.items() if name not in OWN_COLUMNS and is_number(value)
    }
    yield name_rollout(record, row, place)


def _stripped(row: Row, prompt: object, completion: object) -> tuple[bool, bool]:
    """Whether prompt and completion went through a decoding without special tokens."""
    if not isinstance(prompt, str):
        return False, True
    if "advantage" in row or "reward" in row:
        return BARE_ROLE.search(prompt[-60:]) is not None, True
    shown = any(isinstance(one, str) and SPECIAL_TOKEN.search(one) for one in (prompt, completion))
    return not shown, not shown


def recognises_table(row: Row) -> bool:
    return is_logged_table(row, LOGGED)


def table_records(row: Row, place: str) -> Iterator[Record]:
    """The rollouts of a logged table, which is one row of JSON."""
    for where, one in logged_rows(row, place):
        yield from records(one, where)


FORMATS = (
    Format("trl", "TRL completions", recognises, records),
    Format("trl-table", "TRL completions, logged table", recognises_table, table_records),
)
