"""What ``decaylab sweep`` prints: each arm over its seeds and seed by seed, against base and full
rollout."""

from __future__ import annotations

from collections.abc import Iterator

from decaylab.claims import one_run
from decaylab.options.sweeping import SELECTOR
from decaylab.printing import percent, rounded
from decaylab.problems.tasks import measure_name
from decaylab.runs.found_runs import FoundRun
from decaylab.runs.vocabulary import (
    BASE,
    BEST,
    FRESH,
    LAST,
    ONE_RUN,
    OVER_SEEDS,
    minus,
)
from decaylab.tables.model import Row, Table
from decaylab.tables.page import Page
from decaylab.tables.source import Source, columns, over_problems_of

READING = (
    "over problems: holds for other problems and these seeds; over seeds (Student's t): for other "
    "seeds and these problems",
    "p (Holm): sign-flip test over problems, corrected over the arms; detectable: with 80 % "
    "power, over problems",
)
ARM, EACH_SEED = columns("sweep-labels")


def page(run: FoundRun) -> Page:
    """The arms and what must be known to read them."""
    options, source = run.options, Source(run.measurements, notes=False)
    what, seeds = f"avg_at_{options['samples']}", options["seeds"]
    accuracies = source.demanded(what)
    rule, problems = accuracies["answer_rule"].iloc[0], accuracies["problems"].max()
    views = [view for view in (LAST, BEST) if (source.frame["view"] == view).any()]
    return Page(
        f"Sweep over {options['over']}",
        f"{seeds} seed{'s' * (seeds > 1)}, {problems} test problems x {options['samples']}, "
        f"answer rule {rule}, {' and '.join(views)} checkpoint",
        one_run.verdict(run),
        _tables(source, what, rule, views, by_selector=options["over"] == SELECTOR),
        READING,
        run.notes,
        paths=[f"figures and measurements: {run.folder}"],
        carrying=2,
        brackets=f"brackets: {100 * source.frame['level'].iloc[0]:g} % intervals",
    )


def _tables(
    source: Source, what: str, rule: str, views: list[str], *, by_selector: bool
) -> Iterator[Table]:
    for view in views:
        ending = f", {view} checkpoint" if len(views) > 1 else ""
        arms = _arms(source, what, rule, view)
        measure = measure_name(rule, int(what.rpartition("_")[2]))
        yield Table.of(f"Accuracy, {measure}, %{ending}", arms)
        differences = _differences(source, what, rule, view)
        yield Table.of(f"Differences on the same problems, points{ending}", differences)
    if by_selector:
        yield Table.of("What the selection took, means over seeds", _selections(source))


def _arms(source: Source, what: str, rule: str, view: str) -> Iterator[Row]:
    over_problems, over_seeds = columns("sweep-arms")
    for arm in source.values(what, "checkpoint", condition=rule, view=[view, FRESH]):
        at = {"checkpoint": arm, "condition": rule, "view": [view, FRESH]}
        measured = source.values(what, "estimand", at)
        estimand = over_problems_of(measured)
        each = source.rows(what, at, estimand=ONE_RUN)["value"]
        yield {
            ARM: arm,
            **source.line([over_problems], {**at, "estimand": estimand}, what),
            **source.line([over_seeds], {**at, "estimand": OVER_SEEDS}, what),
            EACH_SEED: " ".join(rounded(percent(value), 1) for value in each),
        }


def _differences(source: Source, what: str, rule: str, view: str) -> Iterator[Row]:
    base = minus(what, BASE)
    for arm in source.values(base, "checkpoint", condition=rule, view=[view, FRESH]):
        at = {"checkpoint": arm, "condition": rule, "view": [view, FRESH]}
        measured = source.values(base, "estimand", at)
        estimand = over_problems_of(measured)
        yield {
            ARM: arm,
            **source.line(columns("arm-differences"), {**at, "estimand": estimand}, what),
            **source.line(columns("sweep-differences"), {**at, "estimand": OVER_SEEDS}, what),
        }


def _selections(source: Source) -> Iterator[Row]:
    share = "selected_kl_share"
    estimand = OVER_SEEDS if OVER_SEEDS in source.values(share, "estimand") else ONE_RUN
    for arm in source.values(share, "checkpoint", estimand=estimand):
        at = {"checkpoint": arm, "estimand": estimand}
        yield {ARM: arm, **source.line(columns("selections"), at)}
