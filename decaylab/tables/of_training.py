"""The paper's tables of trained students, as specifications: measurements of evaluations and sweeps
in, rows of a table out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from decaylab.problems.tasks import measure_name
from decaylab.runs.vocabulary import (
    BASE,
    BEST,
    FRESH,
    LAST,
    MEANS_OVER_SEEDS,
    ONE_RUN,
    OVER_SEEDS,
    TEACHER,
)
from decaylab.tables.model import Cell, Column, Number, Row
from decaylab.tables.source import Source, columns, ordered, over_problems_of, percent, spoken

PAIR, REGIME, MODEL, CHECKPOINT, ARM, ASKED, PHASE, SEEDS_COUNTED, SEED = columns("arm-labels")
UNTRAINED = (BASE, TEACHER)
RULES = {LAST: "last", BEST: "best on validation"}
BEST_ON_TEST = "best on the test problems"
AVERAGE = r"avg_at_\d+"
REGIMES = {"lora": "LoRA", "full_ft": "every weight"}


def main_results(source: Source) -> Iterator[Row]:
    """Main table, of one evaluation: base, teacher, and each checkpoint that a rule takes; all
    checkpoints if there is no rule."""
    for average in source.whats(AVERAGE)[:1]:
        rule = source.values(average, "condition")[0]
        if source.published:
            yield from _published(source, average, rule)
            return
        passes = sorted(source.whats(r"pass_at_\d+"), key=_samples)
        accuracies = [average, f"maj_at_{_samples(average)}", *passes]
        measured = [_accuracy(average, measure_name(rule, _samples(average)))]
        measured += [_accuracy(what) for what in accuracies[1:] if what != "pass_at_1"]
        names = {"what": average, "name": measure_name(rule, _samples(average))}
        measured += [*columns("less-untrained", **names), *columns("counts")]
        for label, view, checkpoint in _taken(source, average):
            trained = () if label in UNTRAINED else columns("trained")
            at = {"checkpoint": label, "condition": rule, "view": view}
            labels: Row = {PAIR: source.pair, MODEL: spoken(label), CHECKPOINT: checkpoint}
            yield {**labels, **source.line([*trained, *measured], at, average)}


def scaling(source: Source) -> Iterator[Row]:
    """Table over sizes and regimes of training. Measured: the rows of `main_results`."""
    if not source.published:
        yield from main_results(source)
        return
    for average in source.whats(AVERAGE)[:1]:
        for regime in source.values(average, "condition"):
            for row in _published(source, average, regime):
                yield {REGIME: REGIMES[regime], **row}


def _published(source: Source, average: str, condition: str) -> Iterator[Row]:
    """Each pair's base, teacher, full rollout and ESR."""
    measured = [
        _accuracy(average),
        _accuracy(f"pass_at_{_samples(average)}"),
        *columns("published-tasks"),
        *columns("counts"),
    ]
    for run, label in source.places(average, "run", "checkpoint", condition=condition):
        at = {"run": run, "checkpoint": label, "condition": condition}
        yield {
            PAIR: run.partition(": ")[2],
            MODEL: spoken(label),
            CHECKPOINT: "" if label in UNTRAINED else BEST_ON_TEST,
            **source.line(measured, at, average),
        }


def _taken(source: Source, average: str) -> Iterator[tuple[str, str, str]]:
    """Models in the order of the paper: each with its view and the checkpoint rules that take
    it."""
    taken = {view: source.values(average, "checkpoint", view=view) for view in RULES}
    for name in ordered(source.values(average, "checkpoint", view=FRESH)):
        rules = [view for view, names in taken.items() if name in names]
        if rules or name in UNTRAINED or not any(taken.values()):
            yield name, [*rules, FRESH][0], " and ".join(RULES[rule] for rule in rules)


def _samples(what: str) -> int:
    return int(what.rpartition("_")[2])


def _at_sign(what: str) -> str:
    return what.replace("_at_", "@")


def _accuracy(what: str, name: str = "") -> Column:
    kind = ("avg", "maj", "pass").index(what.partition("_")[0])
    return percent(what, name or _at_sign(what), 0, kind, float(_samples(what)), of=what)


# Sweeps


def n_sweep(source: Source) -> Iterator[Row]:
    """Fig. 1 right: accuracy against the rollout length N."""
    yield from _arms(source, columns("selected")[-1:])


def token_selection(source: Source) -> Iterator[Row]:
    """Fig. 2 and the table of section 5.1: selectors at one budget, and what each of them took."""
    yield from _arms(source, columns("selected"))


def _arms(source: Source, selected: tuple[Column, ...]) -> Iterator[Row]:
    """Each arm under each checkpoint rule, base and teacher first."""
    for average in source.whats(AVERAGE)[:1]:
        rule = source.values(average, "condition")[0]
        for label in ordered(source.values(average, "checkpoint", condition=rule)):
            for view in source.values(average, "view", condition=rule, checkpoint=label):
                at = {"condition": rule, "view": view, "checkpoint": label}
                yield {
                    ARM: spoken(label),
                    CHECKPOINT: _checkpoint(source, label, view),
                    **_arm(source, average, at),
                    **_means(source, selected, {"checkpoint": label}),
                }


def _checkpoint(source: Source, label: str, view: str) -> str:
    if label in UNTRAINED:
        return ""
    return BEST_ON_TEST if source.published else RULES[view]


def _arm(source: Source, average: str, at: dict[str, Any]) -> Row:
    measure = measure_name(at["condition"], _samples(average))
    names = {"what": average, "name": measure}
    estimand = over_problems_of(source.values(average, "estimand", at))
    seeds = len(source.rows(average, at, estimand=ONE_RUN))
    over_problems, over_seeds = columns("arms", **names), columns("arms-over-seeds", **names)
    return {
        SEEDS_COUNTED: Number(seeds) if seeds and at["checkpoint"] not in UNTRAINED else "",
        **source.line(over_problems, {**at, "estimand": estimand}, average),
        **source.line(over_seeds, {**at, "estimand": OVER_SEEDS}, average),
    }


def _means(source: Source, means: tuple[Column, ...], at: dict[str, Any]) -> Row:
    """Means over training seeds; of what was measured once the number itself."""
    row: Row = {}
    for mean in means:
        measured = source.values(mean.of, "estimand", at)
        over_seeds = [{**at, "estimand": name} for name in MEANS_OVER_SEEDS if name in measured]
        row |= source.line([mean], over_seeds[0] if over_seeds else at)
    return row


# Over the steps of training

SETTINGS = {
    "math500_n1": "MATH-500, 1 rollout a problem",
    "math500_n16": "MATH-500, 16 rollouts per problem",
    "humaneval": "HumanEval, pass@1",
    "validation": "held-out training problems",
    "test": "test problems",
}
Steps = tuple[str, str, float, dict[float, Cell]]


def per_step(source: Source) -> Iterator[Row]:
    """Per-step tables: accuracy of each checkpoint of each run; of a sweep also peak, last and
    lowest."""
    runs = [*_steps_of_sweep(source)] or [*_steps_of_evaluation(source)]
    for setting, label, seed, steps in runs:
        at: dict[str, Any] = {"checkpoint": label, "training_seed": seed, "view": setting}
        row: Row = {ASKED: SETTINGS[setting], ARM: label}
        row[SEED] = "" if math.isnan(seed) else Number(seed)
        for step, cell in steps.items():
            row[percent(f"step_{step:g}", f"step {step:g}", 0, step)] = cell
        yield {**row, **source.line(columns("over-steps"), at)}


def _steps_of_sweep(source: Source) -> Iterator[Steps]:
    """Setting, arm, seed, and accuracy by step, where a sweep or the paper has them."""
    coordinates = ("view", "condition", "checkpoint", "training_seed")
    for place in source.places("accuracy", *coordinates):
        at = dict(zip(coordinates, place, strict=True))
        cells: dict[float, Cell] = {}
        for step in source.values("accuracy", "step", at):
            if not math.isnan(step):
                cells[step] = source.number("accuracy", at, step=step)
        if cells:
            setting = at["condition"] if source.published else at["view"]
            yield setting, at["checkpoint"], at["training_seed"], cells


def _steps_of_evaluation(source: Source) -> Iterator[Steps]:
    """The same for checkpoints of runs that were evaluated."""
    for average in source.whats(AVERAGE)[:1]:
        rule = source.values(average, "condition")[0]
        at = {"condition": rule, "view": FRESH}
        runs: dict[str, Steps] = {}
        for label, seed, step in source.places(
            average, "checkpoint", "training_seed", "step", at=at
        ):
            run, slash, _ = label.rpartition("/")
            if slash and not math.isnan(step):
                _, _, _, cells = runs.setdefault(run, ("test", run, seed, {}))
                cells[step] = source.number(average, at, checkpoint=label)
        yield from runs.values()


# Costs


def efficiency(source: Source) -> Iterator[Row]:
    """Efficiency table: seconds per step and peak memory by phase, and both as ratios to full
    rollouts."""
    for label in source.values("seconds_per_step", "checkpoint"):
        for phase in source.values("seconds_per_step", "condition", checkpoint=label):
            at = {"checkpoint": label, "condition": phase}
            yield {ARM: label, PHASE: phase, **_means(source, columns("costs"), at)}
