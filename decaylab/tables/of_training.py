"""The paper's tables of trained students: rows of measurements of evaluations and sweeps in, rows
of a table out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from decaylab.tables.source import Row, Source, column, ordered, percent, spoken, words
from decaylab.tables.text import Cell, Column, Number

PAIR = words("pair", "student under teacher", 0)
REGIME = words("regime", "training", 1)
MODEL = words("model", "model", 2)
CHECKPOINT = words("checkpoint_rule", "checkpoint", 3)
ARM = words("arm", "arm", 2)
STEP = column("step", "step", "whole", -1)
SEEDS_COUNTED = column("seeds", "seeds", "whole", -1)
LENGTH = column("rollout_length_tokens", "N (tokens)", "length", -2)
PROBLEMS = column("problems", "problems", "whole", 81)
ROLLOUTS = column("rollouts", "rollouts", "whole", 82)
OTHERS = {"base": "base", "teacher": "the teacher", "full": "full rollouts"}
UNTRAINED = ("base", "teacher")
THESE, ONE, SEEDS = (
    "mean over rollouts, over these seeds",
    "one training run",
    "mean over training seeds",
)
LEVELS = (
    THESE,
    ONE,
    "mean over rollouts",
)  # estimands whose interval is over problems, the first that there is
RULES = {"last": "last", "best": "best on validation"}
BEST_ON_TEST = "best on the test problems"
AVERAGE = r"avg_at_\d+"
REGIMES = {"lora": "LoRA", "full_ft": "every weight"}
# quantity and condition of a published task -> column
TASKS = {
    ("pass_at_1", "humaneval"): percent("humaneval_pass_at_1", "HumanEval pass@1", 5, 0),
    ("pass_at_1", "humaneval_plus"): percent("humaneval_plus_pass_at_1", "HumanEval+ pass@1", 5, 1),
    ("full_accuracy", "bfcl"): percent("bfcl_full_accuracy", "BFCL full accuracy", 5, 2),
}
SETTINGS = {
    "math500_n1": "MATH-500, 1 rollout a problem",
    "math500_n16": "MATH-500, 16 rollouts a problem",
    "humaneval": "HumanEval, pass@1",
    "validation": "held-out training problems",
    "test": "test problems",
}


def main_results(source: Source) -> Iterator[Row]:
    """Main table, of one evaluation: base, teacher, and each checkpoint that a rule takes; all of
    them if there is none."""
    for average in source.whats(AVERAGE)[:1]:
        rule = source.values(average, "condition")[0]
        if source.published:
            yield from _published(source, average, rule)
            return
        passes = sorted(source.whats(r"pass_at_\d+"), key=_samples)
        levels = [
            average,
            f"maj_at_{_samples(average)}",
            *(what for what in passes if what != "pass_at_1"),
        ]
        for label, view, told in _taken(source, average):
            at = {"checkpoint": label, "condition": rule, "view": view}
            yield {
                PAIR: source.pair,
                MODEL: spoken(label),
                CHECKPOINT: told,
                STEP: "" if label in UNTRAINED else source.field("step", average, **at),
                **{_accuracy(what): source.number(what, **at) for what in levels},
                **_differences(source, average, UNTRAINED, at),
                PROBLEMS: source.field("problems", average, **at),
                ROLLOUTS: source.field("rollouts", average, **at),
            }


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
    for run, label in source.places(average, "run", "checkpoint", condition=condition):
        at = {"run": run, "checkpoint": label}
        yield {
            PAIR: run.partition(": ")[2],
            MODEL: spoken(label),
            CHECKPOINT: "" if label in UNTRAINED else BEST_ON_TEST,
            **{
                _accuracy(what): source.number(what, condition=condition, **at)
                for what in (average, f"pass_at_{_samples(average)}")
            },
            **{
                column: source.number(what, condition=task, **at)
                for (what, task), column in TASKS.items()
            },
            PROBLEMS: source.field("problems", average, condition=condition, **at),
            ROLLOUTS: source.field("rollouts", average, condition=condition, **at),
        }


def _taken(source: Source, average: str) -> Iterator[tuple[str, str, str]]:
    """Models in the order of the paper, each with the view that its numbers stand in, and the
    checkpoint rules that take it."""
    views = {view: source.values(average, "checkpoint", view=view) for view in RULES}
    trained = {name for names in views.values() for name in names}
    for name in ordered(source.values(average, "checkpoint", view="fresh")):
        rules = [view for view, names in views.items() if name in names]
        if rules or name in UNTRAINED or not trained:
            yield name, rules[0] if rules else "fresh", " and ".join(RULES[rule] for rule in rules)


def _samples(what: str) -> int:
    return int(what.rpartition("_")[2])


def _accuracy(what: str) -> Column:
    kind, _, samples = what.partition("_at_")
    return percent(what, f"{kind}@{samples}", 0, ("avg", "maj", "pass").index(kind), float(samples))


def _differences(source: Source, average: str, others: tuple[str, ...], at: dict[str, Any]) -> Row:
    """Paired differences to others, with their p-values."""
    found: Row = {}
    for place, other in enumerate(others):
        what, name = (
            f"{average}_minus_{other}",
            f"{average.replace('_at_', '@')} less {OTHERS[other]}",
        )
        found[percent(what, name, 10, place, signed=True)] = source.number(what, **at)
        found[column(f"{what}_p_holm", f"p (Holm), less {OTHERS[other]}", "p", 10, place, 1)] = (
            source.p(what, **at)
        )
    return found


# Sweeps


def n_sweep(source: Source) -> Iterator[Row]:
    """Fig. 1 right: accuracy against the rollout length N."""
    for label, row in _arms(source):
        yield {**row, **_selection(source, label, ("tokens_sampled",))}


def token_selection(source: Source) -> Iterator[Row]:
    """Fig. 2 and the table of section 5.1: selectors at one budget, and what each of them took."""
    for label, row in _arms(source):
        yield {**row, **_selection(source, label, tuple(SELECTED))}


def _arms(source: Source) -> Iterator[tuple[str, Row]]:
    """Each arm with its row under each checkpoint rule, base and teacher first."""
    for average in source.whats(AVERAGE)[:1]:
        rule = source.values(average, "condition")[0]
        for label in ordered(source.values(average, "checkpoint", condition=rule)):
            for view in source.values(average, "view", condition=rule, checkpoint=label):
                yield (
                    label,
                    _arm(source, average, {"condition": rule, "view": view, "checkpoint": label}),
                )


def _arm(source: Source, average: str, at: dict[str, Any]) -> Row:
    label, view, name = at["checkpoint"], at["view"], average.replace("_at_", "@")
    there = source.values(average, "estimand", **at)
    over_problems = {**at, "estimand": next(one for one in LEVELS if one in there)}
    seeds = len(source.rows(average, **at, estimand=ONE)) if label not in UNTRAINED else 0
    full, less = f"{average}_minus_full", f"{name} less full rollouts, over seeds"
    return {
        ARM: spoken(label),
        CHECKPOINT: "" if label in UNTRAINED else BEST_ON_TEST if source.published else RULES[view],
        LENGTH: source.field("rollout_length", average, **over_problems),
        SEEDS_COUNTED: Number(seeds) if seeds else "",
        _accuracy(average): source.number(average, **over_problems),
        percent(f"{average}_over_seeds", f"{name}, over seeds", 1): source.number(
            average, **at, estimand=SEEDS
        ),
        **_differences(source, average, ("base", "full"), over_problems),
        percent(f"{full}_over_seeds", less, 11, signed=True): source.number(
            full, **at, estimand=SEEDS
        ),
        PROBLEMS: source.field("problems", average, **over_problems),
    }


SELECTED = {
    "mean_selected_position": column(
        "mean_selected_position_tokens", "mean position (tokens)", "tenths", 20
    ),
    "selected_kl_share": percent("selected_kl_share", "of the KL", 21),
    "tokens_selected": column("tokens_selected", "tokens with loss", "whole", 22),
    "tokens_sampled": column("tokens_sampled", "tokens sampled in training", "whole", 23),
}


def _selection(source: Source, label: str, whats: tuple[str, ...]) -> Row:
    return {SELECTED[what]: _mean(source, what, checkpoint=label) for what in whats}


def _mean(source: Source, what: str, **at: Any) -> Cell:
    """The mean over training seeds; the number itself of what has but one."""
    if SEEDS in source.values(what, "estimand", **at):
        at["estimand"] = SEEDS
    return source.number(what, **at)


def per_step(source: Source) -> Iterator[Row]:
    """Per-step tables: accuracy of each checkpoint of each run; of a sweep also peak, last and
    lowest."""
    for setting, label, seed, steps in [*_steps_of_sweep(source)] or [
        *_steps_of_evaluation(source)
    ]:
        at: dict[str, Any] = {"checkpoint": label, "training_seed": seed, "view": setting}
        yield {
            words("asked", "asked", 1): SETTINGS[setting],
            ARM: label,
            column("training_seed", "seed", "whole", -3): "" if math.isnan(seed) else Number(seed),
            **{
                percent(f"step_{step:g}", f"step {step:g}", 0, step): cell
                for step, cell in steps.items()
            },
            **{
                percent(f"{name}_accuracy", name, 1, place): source.number(f"{name}_accuracy", **at)
                for place, name in enumerate(("peak", "last", "lowest"))
            },
            **{
                percent(what, told, 2, place, signed=True): source.number(what, **at)
                for place, (what, told) in enumerate(DISTANCES.items())
            },
        }


DISTANCES = {
    "peak_minus_lowest": "peak less lowest",
    "peak_minus_lowest_by_chance": "the same by chance",
}
Steps = tuple[str, str, float, dict[float, Cell]]


def _steps_of_sweep(source: Source) -> Iterator[Steps]:
    """Setting, arm, seed, and accuracy by step, where a sweep or the paper has them."""
    for view, condition, label, seed in source.places(
        "accuracy", "view", "condition", "checkpoint", "training_seed"
    ):
        at: dict[str, Any] = {
            "view": view,
            "condition": condition,
            "checkpoint": label,
            "training_seed": seed,
        }
        steps = [step for step in source.values("accuracy", "step", **at) if not math.isnan(step)]
        if steps:
            cells = {step: source.number("accuracy", **at, step=step) for step in steps}
            yield condition if source.published else view, label, seed, cells


def _steps_of_evaluation(source: Source) -> Iterator[Steps]:
    """The same of checkpoints of runs that were evaluated."""
    for average in source.whats(AVERAGE)[:1]:
        at: dict[str, Any] = {"condition": source.values(average, "condition")[0], "view": "fresh"}
        found: dict[str, Steps] = {}
        for label, seed, step in source.places(
            average, "checkpoint", "training_seed", "step", **at
        ):
            run, slash, _ = label.rpartition("/")
            if slash and not math.isnan(step):
                _, _, _, cells = found.setdefault(run, ("test", run, seed, {}))
                cells[step] = source.number(average, **at, checkpoint=label)
        yield from found.values()


def efficiency(source: Source) -> Iterator[Row]:
    """Efficiency table: seconds a step and peak memory by phase, and both over those of full
    rollouts."""
    for label in source.values("seconds_per_step", "checkpoint"):
        for phase in source.values("seconds_per_step", "condition", checkpoint=label):
            at = {"checkpoint": label, "condition": phase}
            costs = {of: _mean(source, what, **at) for what, of in COSTS.items()}
            yield {ARM: label, words("phase", "phase", 4): phase, **costs}


COSTS = {
    "seconds_per_step": column("seconds_per_step", "seconds a step", "digits", 0),
    "seconds_ratio": column("seconds_ratio", "seconds / full", "digits", 1),
    "peak_gib": column("peak_gib", "peak (GiB)", "digits", 2),
    "peak_gb": column("peak_gb_as_printed", "peak (GB as printed)", "digits", 3),
    "peak_ratio": column("peak_ratio", "peak / full", "digits", 4),
    "tokens_sampled_per_step": column(
        "tokens_sampled_per_step", "tokens sampled a step", "tenths", 5
    ),
    "tokens_ratio": column("tokens_ratio", "tokens / full", "digits", 6),
    "seconds_ratio_over_tokens_ratio": column(
        "seconds_over_tokens", "seconds ratio / tokens ratio", "digits", 7
    ),
}
