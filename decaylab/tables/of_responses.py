"""What behaviour and evaluate print: tables of responses, of which no token is scored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from decaylab.problems.judges import PROGRAMS
from decaylab.problems.tasks import measure_name
from decaylab.runs.vocabulary import BASE, BEST, LAST, TEACHER, change, minus
from decaylab.tables.by_model import Options, Parts, by_model
from decaylab.tables.model import Column, Row, Table
from decaylab.tables.source import MODEL_NAME, Source, columns, judged_by, shown

OTHERS = {BASE: "base", TEACHER: "the teacher"}
CHECKPOINT_RULES = (LAST, BEST)
RULE, CHECKPOINT = columns("response-labels")
BOXES, SEVERAL_BOXES = "boxes_mean", "several_boxes_share"
VERDICTS = {
    "accuracy": "right",
    "no_answer_share": "no answer found",
    "error_share": "ended with an error",
    "timeout_share": "timed out",
    "out_of_memory_share": "ran out of memory",
}


def behaviour(source: Source, options: Options) -> Parts:
    texts = columns("texts")
    if not (source.rows("open_thought_share")["value"] > 0).any():
        texts = texts[:-1]
    boxed = bool(source.whats(SEVERAL_BOXES))
    if not boxed:
        texts = tuple(column for column in texts if column.of not in (SEVERAL_BOXES, BOXES))
    titles = {
        "Response length in tokens, and its change against base": columns("responses"),
        f"Repetition{' and boxed answers' if boxed else ''}, and their change against base": texts,
    }
    for title, levels in titles.items():
        changes = by_model(source, levels, group="change", condition="", ending="_change")
        yield Table.of(title, [*by_model(source, levels, condition=""), *changes])
    rules = source.values("accuracy", "condition")
    numbers = []
    for row in source.rows("accuracy", condition=rules[0]).itertuples():
        numbers.append(f"{row.checkpoint} {row.rollouts} and {row.problems}")
    yield f"rollouts and problems: {'; '.join(numbers)}"
    rows: list[Row] = []
    rules_of = by_rule(source, "accuracy")
    for what, words in VERDICTS.items():
        if not source.whats(what):
            continue
        rows += by_model(source, rules_of, group=words, what=what)
        changed = f"{words}, change against base"
        rows += by_model(source, rules_of, group=changed, what=change(what))
    yield Table.of("Accuracy under each answer rule, %", rows)


def by_rule(source: Source, what: str) -> list[Column]:
    """A column for each answer rule; it names the problems where it does not judge all."""
    judged = []
    for rule in source.values(what, "condition"):
        judged.append(shown("", judged_by(source, what, rule), at=(("condition", rule),)))
    return judged


def evaluate(source: Source, options: Options) -> Parts:
    average = f"avg_at_{options['samples']}"
    rule: Any = source.demanded(average)["condition"].iloc[0]
    label = measure_name(rule, options["samples"])
    quantities = [average, *source.whats(r"maj_at_\d+")]
    passes = [what for what in source.whats(r"pass_at_\d+") if what != "pass_at_1"]  # it is avg@k
    quantities += sorted(passes, key=lambda what: int(what.removeprefix("pass_at_")))
    names = {what: what.replace("_at_", "@") for what in quantities}
    names[average] = label
    title = f"Accuracy by the rule {judged_by(source, average, rule)}, %"
    levels = [shown(what, name, at=(("condition", rule),)) for what, name in names.items()]
    levels += _named_measures(source, average, options["samples"])
    yield Table.of(title, _labelled(source, by_model(source, levels)))
    for other, words in OTHERS.items():
        rows: list[Row] = []
        for what, name in names.items():
            at = {"what": minus(what, other), "condition": rule}
            rows += by_model(source, columns("differences"), group=name, **at)
        if rows:
            title = f"Difference from {words} on the same problems, by the rule {rule}, points"
            yield Table.of(title, _labelled(source, rows))
    if taken := [*_taken(source, average, rule, label)]:
        yield Table.of(f"What each checkpoint rule takes, {label} by {rule}, %", taken)
    by_rules = by_rule(source, average)
    rows = by_model(source, by_rules, group="right", what=average)
    for other, words in OTHERS.items():
        group = f"difference from {words}"
        rows += by_model(source, by_rules, group=group, what=minus(average, other))
    yield Table.of(
        f"{_of_rules(source, options)} under each answer rule, %", _labelled(source, rows)
    )
    yield (
        "p (Holm): sign-flip test, corrected over the checkpoints that a table holds for the same "
        "quantity; detectable: the smallest true difference that this many problems would show "
        "with a power of 80 %"
    )


def _labelled(source: Source, rows: list[Row]) -> list[Row]:
    """The rows with the checkpoint rules that take each model."""
    frame = source.frame
    labelled = []
    for row in rows:
        views_of_model = set(frame.loc[frame["checkpoint"] == row[MODEL_NAME], "view"])
        rules = [view for view in CHECKPOINT_RULES if view in views_of_model]
        label = f"{row[MODEL_NAME]} ({', '.join(rules)})" if rules else row[MODEL_NAME]
        labelled.append({**row, MODEL_NAME: label})
    return labelled


def _named_measures(source: Source, average: str, samples: int) -> Iterator[Column]:
    """The mean correctness under every other rule for which it has a name, such as a parse rate."""
    for rule in source.values(average, "condition")[1:]:
        name = measure_name(rule, samples)
        if name != f"avg@{samples}" and rule not in PROGRAMS:
            yield shown(average, name, at=(("condition", rule),))


def _of_rules(source: Source, options: Options) -> str:
    """What the columns of the rules hold."""
    average = f"avg_at_{options['samples']}"
    rules = source.values(average, "condition")
    return ", ".join(dict.fromkeys(measure_name(rule, options["samples"]) for rule in rules))


def _taken(source: Source, average: str, rule: str, label: str) -> Iterator[Row]:
    taken = columns("taken", name=label)
    for view in CHECKPOINT_RULES:
        for name in source.values(average, "checkpoint", view=view):
            at = {"condition": rule, "checkpoint": name, "view": view}
            cells = source.line(taken, at, average)
            yield {RULE: view, CHECKPOINT: name, **cells}
