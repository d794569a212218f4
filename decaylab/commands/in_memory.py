"""Models and problems that were given in memory, as the text that a command's options hold.

    with named("position-kl", {"student": (model, tokenizer), "problems": rows}) as texts:
        ...    # {"student": "loaded:step-40-3fa9c2d1", "problems": "rows:3fa9c2d1e0b4"}

The names are valid within the block. What cannot work with a model in memory is refused here, in
one line, before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from decaylab.errors import UserError
from decaylab.policies import loaded_checks, loaded_models
from decaylab.policies.loaded_models import LoadedPolicy
from decaylab.problems import given_rows

MEASURING = (
    *("prefix-decay", "position-kl", "category-kl", "submode", "signals"),
    *("token-truth", "interventions", "values", "arm-gains", "behaviour", "evaluate"),
)
"""The commands that take a model in memory in every role."""
ROLES = ("student", "teacher")
PROBLEMS = ("problems", "test_problems")
IN_OTHER_PROCESSES = ("sweep", "plan")
"""Commands that do not read their problems in this process, or not at all."""


@contextmanager
def named(command: str, given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A command's arguments with a name for each model and each list of problems in memory.

    Args:
        command: as on the command line.
        given: arguments by name: ``student``, ``teacher`` and each of ``checkpoints`` may be a
            loaded policy or a pair (model, tokenizer), ``problems`` a list of dicts or a DataFrame.

    Raises:
        UserError: a model or problems that cannot be used, or not with this command or these
            options.
    """
    pair = {role: loaded_models.as_loaded(given.get(role)) for role in ROLES}
    checkpoints = tuple(given.get("checkpoints", ()))
    trained = [loaded_models.as_loaded(checkpoint) for checkpoint in checkpoints]
    texts = dict(given)
    if any((*pair.values(), *trained)):
        _check(command, pair, trained, given)
        texts["engine"] = "transformers"  # the only one that can run a loaded model
    with ExitStack() as stack:
        for name in PROBLEMS:
            rows = None if texts.get(name) is None else given_rows.as_rows(texts[name], name)
            if rows is None:
                continue
            if command in IN_OTHER_PROCESSES:
                raise UserError(
                    f"{command} does not read problems from memory: write them to a .jsonl file "
                    "and give its path"
                )
            texts[name] = stack.enter_context(given_rows.held(rows))

        def text(policy: LoadedPolicy | None, name: Any) -> Any:
            if policy is None:
                return name
            return stack.enter_context(loaded_models.held([policy]))[0]

        texts |= {role: text(policy, None) for role, policy in pair.items() if policy}
        if checkpoints:
            texts["checkpoints"] = tuple(map(text, trained, checkpoints))
        yield texts


def _check(
    command: str,
    pair: Mapping[str, LoadedPolicy | None],
    trained: Sequence[LoadedPolicy | None],
    options: Mapping[str, Any],
) -> None:
    """Raises UserError if a model in memory cannot be used here."""
    if command == "train" and pair["student"]:
        raise UserError(
            "train would change the loaded student itself: save it and give its folder; a loaded "
            "teacher is fine"
        )
    if command not in (*MEASURING, "train"):
        raise UserError(f"{command} takes no loaded model: save it and give its folder")
    loaded_checks.refuse_shared([one.model for one in (*pair.values(), *trained) if one])
    engine = options.get("engine", "auto")
    if engine not in ("auto", "transformers"):
        raise UserError(
            f"engine {engine!r} cannot run a loaded model: use engine='transformers', or save the "
            "model and give its folder"
        )
    if options.get("workers", 1) != 1 or options.get("ray"):
        raise UserError(
            "workers are other processes, which a loaded model cannot reach: leave workers and ray "
            "out, or save the model and give its folder"
        )
    for role, policy in pair.items():
        if policy and options.get(f"{role}_revision"):
            raise UserError(loaded_checks.NO_REVISION.format(role=role))
    if all((*pair.values(), *trained)):
        loaded_checks.refuse_placing(options)
