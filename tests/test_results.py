"""docs/embedded-pair.md and docs/paper.md are what the committed runs say."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import write_results

from decaylab.claims.verdicts import pick
from decaylab.claims.wording import PERCENT_OF
from decaylab.options.training import EMBEDDED_PRESET
from decaylab.runs import found_runs, vocabulary
from decaylab.runs.vocabulary import (
    DIFFERENCE,
    HALF_DECAY,
    LAST,
    OPEN,
    STUDENT_PREFIX,
    THESE_SEEDS,
)


@pytest.fixture(scope="module")
def results() -> write_results.Results:
    return write_results.Results(found_runs.find([write_results.MEASURED]))


def test_the_pages_are_written_from_the_committed_runs(results: write_results.Results) -> None:
    for path, text in write_results.pages(results).items():
        assert path.read_text() == text, "run scripts/write_results.py"


def test_what_the_page_says_of_the_selectors_is_shown(results: write_results.Results) -> None:
    """Its sentences are written by hand around the numbers."""
    rows = results.runs["selector"].measurements
    at = {"condition": "last_boxed", "view": LAST, "estimand": THESE_SEEDS}
    shown = vocabulary.select(rows, what="avg_at_1_minus_full", **at)
    against_full = shown.set_index("checkpoint")
    for arm in ("prefix-40", "random-40", "top-teacher-entropy-40"):
        assert against_full.loc[arm, "high"] < 0
    for arm in ("top-reverse-kl-40", "middle-40", "suffix-40"):
        assert against_full.loc[arm, "low"] < 0 < against_full.loc[arm, "high"]


def test_the_readme_quotes_the_committed_run() -> None:
    run = found_runs.find([write_results.MEASURED / "prefix-decay"])[0].measurements
    at = {"condition": STUDENT_PREFIX, "view": OPEN, "prefix_tokens": 80}
    (after,), (alone,) = (pick(run, what, **at) for what in ("accuracy", "reference_accuracy"))
    (half,) = pick(run, HALF_DECAY)
    readme = " ".join((write_results.DOCS.parent / "README.md").read_text().split())
    percent = PERCENT_OF.text
    for words in (
        f"correct {PERCENT_OF.number(after)} of the time, against {percent(alone.value)} %",
        f"gone after {half.value:.0f} tokens [{half.low:.0f}, {half.high:.0f}]",
    ):
        assert words in readme


def test_decay_over_all_rollouts_is_that_of_the_run() -> None:
    """The table of parts is measured by another script than the run."""
    table = pd.read_csv(write_results.LABORATORY)
    every = table[table["property"] == "all"].drop(columns=["property", "value_of_property"])
    run = found_runs.find([write_results.MEASURED / "prefix-decay"])[0].measurements
    for what, places in (
        (DIFFERENCE, {"condition": STUDENT_PREFIX, "view": OPEN}),
        (HALF_DECAY, {}),
    ):
        ours, theirs = pick(every, what, **places), pick(run, what, **places)
        lengths = {row.prefix_tokens: row for row in theirs}
        assert ours
        for row in ours:
            same = lengths[row.prefix_tokens] if what == DIFFERENCE else theirs[0]
            assert row.value == pytest.approx(same.value, abs=1e-12)
            assert row.low == pytest.approx(same.low, abs=1e-12)


def test_each_part_and_its_others_make_up_the_whole() -> None:
    table = pd.read_csv(write_results.LABORATORY)
    of_rollouts = table[
        (table["what"] == DIFFERENCE)
        & (table["condition"] == STUDENT_PREFIX)
        & (table["prefix_tokens"] == 40)
    ]
    weighted = of_rollouts.assign(total=of_rollouts["value"] * of_rollouts["rollouts"])
    sums = weighted.groupby("property")[["total", "rollouts"]].sum()
    means = sums["total"] / sums["rollouts"]
    for name in ("style", "length: steps of the problem"):
        assert means[name] == pytest.approx(means["all"], abs=1e-9)
    # A rollout that writes no step has no notation.
    assert set(sums["rollouts"] - sums.loc["all", "rollouts"]) <= {0, -1}


def test_styles_make_up_what_two_commands_measured_of_all_responses() -> None:
    """Accuracy by `behaviour`, the share of verbose responses by `submode`, over the seeds."""
    styles = pd.read_csv(write_results.BY_STYLE)
    styles["total"] = styles["share"] * styles["value"]
    verbose = styles[styles["style"] == "verbose"].set_index("arm")["share"]
    runs = {run.name: run.measurements for run in found_runs.find([write_results.MEASURED])}
    accuracy = vocabulary.select(runs["trained-behaviour"], what="accuracy", condition="last_boxed")
    share = vocabulary.select(runs["trained-submode"], what="wordy_share")
    for arm, total in styles.groupby("arm")["total"].sum().items():
        of_arm = accuracy[accuracy["checkpoint"].str.startswith(str(arm))]
        assert total == pytest.approx(of_arm["value"].mean(), abs=1e-9)
        measured = share[share["checkpoint"].str.startswith(str(arm))]["value"]
        if arm != "teacher":
            assert verbose[arm] == pytest.approx(measured.mean(), abs=1e-9)


def test_the_preset_has_the_rate_with_the_lowest_held_out_kl() -> None:
    rates = pd.read_csv(write_results.RATES, dtype={"learning_rate": str})
    last = rates.groupby("learning_rate").tail(1).set_index("learning_rate")["reverse_kl"]
    assert float(last.idxmin()) == EMBEDDED_PRESET["learning_rate"]
