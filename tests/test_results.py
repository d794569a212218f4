"""docs/embedded-pair.md is what the committed runs say."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

import write_results

from decaylab.claims.verdicts import pick
from decaylab.options.training import EMBEDDED_PRESET
from decaylab.runs import found_runs
from decaylab.runs.vocabulary import DIFFERENCE, HALF_DECAY, OPEN, STUDENT_PREFIX


def test_the_page_is_written_from_the_committed_runs() -> None:
    assert write_results.PAGE.read_text() == write_results.page(), "run scripts/write_results.py"


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


def test_the_preset_has_the_rate_with_the_lowest_held_out_kl() -> None:
    rates = pd.read_csv(write_results.RATES, dtype={"learning_rate": str})
    last = rates.groupby("learning_rate").tail(1).set_index("learning_rate")["reverse_kl"]
    assert float(last.idxmin()) == EMBEDDED_PRESET["learning_rate"]
