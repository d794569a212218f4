"""The published numbers: carried unchanged, in the shape of measurements, with their known contradictions."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import pandas as pd
import pytest

from decaylab import measurements, paper

FOLDER = resources.files("decaylab.data.paper")
TABLES = sorted(entry.name.removesuffix(".csv") for entry in FOLDER.iterdir() if entry.name.endswith(".csv"))


def accuracy(condition: str) -> pd.Series:
    rows = paper.prefix_curve()
    return rows[rows.condition == condition].set_index("prefix_tokens")["value"]


def test_prefix_curve_has_the_columns_and_conditions_of_measurements() -> None:
    rows = paper.prefix_curve()
    assert tuple(rows.columns) == measurements.COLUMNS
    assert set(rows.what) == {"accuracy"} and set(rows.unit) == {"fraction"}
    assert set(rows[rows.prefix_tokens > 0]["view"]) == {"carry-forward"}
    assert rows[["low", "high", "band_low", "band_high", "standard_error"]].isna().all(axis=None)
    assert set(rows.method) == {"published, no interval"} and set(rows.run) == {"arXiv 2605.27028"}
    assert set(rows.problems) == {500} and set(rows.rollouts) == {2000}


def test_prefix_curve_holds_the_published_numbers_as_fractions() -> None:
    assert accuracy("teacher").to_dict() == pytest.approx({0: 0.6530})
    assert accuracy("student-prefix").to_dict() == pytest.approx({100: 0.6270, 200: 0.5630, 300: 0.5175})
    assert accuracy("student").to_dict() == pytest.approx({0: 0.5095})
    assert accuracy("reverse").to_dict() == pytest.approx({100: 0.4700, 200: 0.4745, 300: 0.5265})


def test_numbers_of_an_early_draft_say_so() -> None:
    rows = paper.prefix_curve()
    early = rows.note.str.contains("early draft only")
    assert set(rows[early].condition) == {"reverse", "student"} and set(rows[~early].condition) == {
        "student-prefix",
        "teacher",
    }


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no published table 'prefix'; there are .*prefix_curve"):
        paper.published("prefix")


def test_readme_names_every_table_with_its_checksum() -> None:
    readme = FOLDER.joinpath("README.md").read_text()
    sums = dict(reversed(pair) for pair in re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE))
    assert sums == {
        f"{name}.csv": hashlib.sha256(FOLDER.joinpath(f"{name}.csv").read_bytes()).hexdigest() for name in TABLES
    }
    assert all(f"| `{name}.csv` |" in readme for name in TABLES) and len(TABLES) == 14


def test_tables_agree_where_they_repeat_a_number() -> None:
    main = paper.published("main_results").set_index(["student", "method"]).loc["Qwen2.5-Math-1.5B", "math500_avg4"]
    sweep = paper.published("n_sweep").set_index("rollout_length")["avg_at_4_percent"]
    selectors = paper.published("token_selection").set_index("selector")["best_avg_at_4_percent"]
    steps = paper.published("per_step").groupby(["setting", "method"])["percent"]
    assert main["student"] == sweep["0"] == selectors["baseline"] == pytest.approx(100 * accuracy("student")[0])
    assert main["teacher"] == pytest.approx(100 * accuracy("teacher")[0])
    assert main["esr"] == sweep["100"] == selectors["esr_prefix"] == steps.max()["math500_n1", "esr_100"]
    assert main["full_rollout"] == sweep["full"] == selectors["full_sequence"]
    boxed = paper.published("boxed_repetition").set_index("statistic").loc["avg_at_4_percent"].tolist()
    assert boxed == steps.get_group(("math500_n16", "full_rollout")).tolist()


def test_checkpoint_rule_is_the_best_step_not_the_last() -> None:
    steps = paper.published("per_step").groupby(["setting", "method"])["percent"]
    sweep = paper.published("n_sweep").set_index("rollout_length")["avg_at_4_percent"]
    assert sweep["50"] == steps.max()["math500_n1", "esr_50"] != steps.last()["math500_n1", "esr_50"]


def test_known_contradictions_stand_in_the_data() -> None:
    random = paper.published("token_selection").set_index("selector").loc["random"]
    assert random.best_avg_at_4_percent == 63.05 and "61.25" in random.source and "early draft" in random.source
    assert accuracy("reverse")[300] > accuracy("student")[0]
    peaks = paper.published("efficiency").set_index("phase")[["esr100_peak_gb", "full_rollout_peak_gb"]]
    assert peaks.drop("total_step").sum().tolist() == pytest.approx(peaks.loc["total_step"].tolist()), "a sum of peaks"
    kl = paper.published("position_kl").set_index("position_bin_centre")
    change = kl.kl_after_esr100_nats / kl.kl_before_nats - 1
    assert change[450] == pytest.approx(-0.125) and change[550] > 0
    tokens = paper.published("high_kl_tokens")
    mass = tokens["count"] * tokens.mean_kl_nats
    assert mass[tokens.token.isin(["\\[", "\\("])].sum() / mass.sum() == pytest.approx(0.62, abs=0.005)
    fifty = paper.published("three_signals").query("position_bin_centre < 50").reverse_kl_nats.mean()
    assert fifty == pytest.approx(1.94, abs=0.005) and kl.kl_before_nats[25] == 2.06
    boxed = paper.published("boxed_repetition").set_index("statistic")
    gap = boxed.loc["relaxed_avg_at_4_percent"] - boxed.loc["avg_at_4_percent"]
    assert (gap.min(), gap.max()) == pytest.approx((9.0, 26.5))
    shares = paper.published("submode").filter(like="percent").sum(axis=1)
    assert shares.between(99.85, 100.05).all(), "parts of a whole, up to rounding"
