"""The published numbers: carried unchanged, in the shape of measurements, with their known contradictions."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import pandas as pd
import pytest

from decaylab import measurements, noise_floor, paper
from decaylab.selection import SELECTORS

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


# --- token statistics and behaviour -------------------------------------------------------------------------------

LOADERS = {
    "three_signals": 48,  # 3 signals x 16 bins
    "position_kl": 18,  # 2 checkpoints x 9 bins
    "kl_by_category": 36,  # 6 categories x 6 ranges
    "high_kl_tokens": 20,
    "submode": 12,  # 4 numbers x 3 models
    "response_length": 16,  # 4 numbers x 4 models
    "boxed_repetition": 24,  # 6 statistics x 4 checkpoints
}


@pytest.mark.parametrize("name", LOADERS)
def test_every_loader_gives_measurements_without_an_interval_under_keys_of_their_own(name: str) -> None:
    rows = getattr(paper, name)()
    assert tuple(rows.columns) == measurements.COLUMNS and len(rows) == LOADERS[name]
    assert not rows.duplicated(noise_floor.KEY).any()
    assert rows[["low", "high", "band_low", "band_high", "standard_error", "noise_floor"]].isna().all(axis=None)
    assert set(rows.method) == {"published, no interval"} and set(rows.run) == {"arXiv 2605.27028"}
    assert rows.note.str.startswith("arXiv 2605.27028, ").all() and set(rows["view"]) == {"fresh"}
    assert rows.value[rows.unit == "fraction"].between(0, 1).all() and rows.value.notna().all()


def test_three_signals_are_bins_of_ten_tokens_around_their_centres() -> None:
    rows, table = paper.three_signals(), paper.published("three_signals")
    kl = rows[rows.what == "reverse_kl"]
    assert ((kl.position_low + kl.position_high) / 2).tolist() == table.position_bin_centre.tolist()
    assert set(rows.position_high - rows.position_low) == {10} and set(rows.unit) == {"nats"}
    assert rows.value.sum() == pytest.approx(table.filter(like="_nats").sum().sum())
    assert kl.value.tolist() == table.reverse_kl_nats.tolist()
    entropy = rows[rows.what == "teacher_entropy"].set_index("position_low")["value"]
    assert entropy[0] == 0.25 and entropy[490] == 0.16
    gaps = kl.position_low.iloc[1:].to_numpy() - kl.position_high.iloc[:-1].to_numpy()
    assert gaps.tolist() == [0] * 10 + [40, 40, 90, 90, 80], "bins beyond 110 that were not read off"


def test_position_kl_bins_adjoin_and_have_the_published_centres() -> None:
    rows, table = paper.position_kl(), paper.published("position_kl")
    for checkpoint, column in (("base", "kl_before_nats"), ("esr-100", "kl_after_esr100_nats")):
        one = rows[rows.checkpoint == checkpoint]
        assert one.position_low.tolist() == [0, 50, 100, 150, 200, 300, 400, 500, 600]
        assert one.position_high.tolist() == [50, 100, 150, 200, 300, 400, 500, 600, 700]
        assert ((one.position_low + one.position_high) / 2).tolist() == table.position_bin_centre.tolist()
        assert one.value.tolist() == table[column].tolist()


def test_kl_by_category_ends_a_range_after_its_last_position() -> None:
    rows = paper.kl_by_category()
    latex = rows[rows.category == "math_latex"].set_index(["position_low", "position_high"])["value"]
    assert latex[5, 20] == 9.23 and latex[200, 500] == 1.87
    assert latex.index.tolist() == [(0, 5), (5, 20), (20, 50), (50, 100), (100, 200), (200, 500)]
    assert rows.value.sum() == pytest.approx(paper.published("kl_by_category").set_index("category").to_numpy().sum())


def test_high_kl_tokens_hold_502_thousand_nats() -> None:
    """count x mean over the 20 tokens; the two delimiters hold 7152 * 13.21 + 21243 * 10.30 = 313,281 of them."""
    rows = paper.high_kl_tokens().set_index("token")
    held = rows.tokens * rows.value
    assert held.sum() == pytest.approx(502_194, abs=1) and rows.tokens.sum() == 55_070
    assert held[["\\[", "\\("]].sum() == pytest.approx(313_281, abs=1)
    assert rows.loc[" To", "value"] == 5.37 and rows.loc["To", "value"] == 6.90, (
        "a leading space tells two tokens apart"
    )


def test_submode_shares_are_parts_of_one_whole() -> None:
    rows = paper.submode()
    value = rows.set_index(["checkpoint", "what"])["value"]
    assert value["base", "in_teacher_top2to5"] == pytest.approx(0.598)
    assert value["esr-100", "student_top1_probability"] == 0.79
    parts = rows[rows.what != "student_top1_probability"].groupby("checkpoint")["value"].sum()
    assert parts.to_dict() == pytest.approx({"base": 0.999, "full-rollout": 1.0, "esr-100": 1.0})
    assert set(rows.condition) == {"own"}


def test_published_lengths_are_no_tokens_and_say_so() -> None:
    rows = paper.response_length()
    assert set(rows.unit) == {"characters / 3.5"} and not rows.what.str.contains("token").any()
    value = rows.set_index(["checkpoint", "what"])["value"]
    assert value["base", "response_length_p50"] == 860 and value["full-rollout", "response_length_mean"] == 1480
    assert set(rows.checkpoint) == {"base", "teacher", "full-rollout", "esr-100"}


def test_boxed_repetition_has_fractions_of_one_and_two_answer_rules() -> None:
    rows = paper.boxed_repetition()
    value = rows.set_index(["what", "answer_rule", "checkpoint"])["value"].sort_index()
    assert value["accuracy", "official"].to_dict() == pytest.approx(
        {"step-50": 0.656, "step-100": 0.463, "step-150": 0.497, "step-200": 0.438}
    )
    assert value["accuracy", "relaxed", "step-200"] == pytest.approx(0.703)
    assert value["several_boxes_share", "", "step-200"] == pytest.approx(0.891)
    assert value["boxes_mean", "", "step-100"] == 88.1 and value["response_characters", "", "step-50"] == 1388


# --- training -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["n_sweep", "token_selection", "per_step", "efficiency"])
def test_published_training_gives_measurements_without_an_interval_under_keys_of_their_own(name: str) -> None:
    rows = getattr(paper, name)()
    assert tuple(rows.columns) == measurements.COLUMNS and rows.value.notna().all()
    assert not rows.duplicated(["what", "condition", "checkpoint", "step"]).any()
    assert rows[["low", "high", "standard_error"]].isna().all(axis=None)
    assert set(rows.method) == {"published, no interval"} and set(rows.run) == {"arXiv 2605.27028"}
    assert rows.note.str.startswith("arXiv 2605.27028, ").all()


def test_n_sweep_has_an_arm_for_each_length_at_the_best_step() -> None:
    rows = paper.n_sweep()
    assert set(rows["view"]) == {"best"} and set(rows.what) == {"avg_at_4"} and set(rows.problems) == {500}
    value = rows.set_index("checkpoint")["value"]
    assert value["base"] == pytest.approx(0.5095) and value["full"] == pytest.approx(0.6235)
    prefixes = rows[rows.selector == "prefix"]
    assert prefixes.rollout_length.tolist() == [5, 10, 20, 50, 100, 150, 200]
    assert prefixes.checkpoint.tolist() == [f"prefix-{length:.0f}" for length in prefixes.rollout_length]
    assert value[prefixes.checkpoint].tolist() == pytest.approx([0.527, 0.535, 0.605, 0.6665, 0.6585, 0.6665, 0.6605])
    assert rows.set_index("checkpoint").rollout_length["full"] == float("inf")


def test_token_selection_names_its_selectors_as_the_trainer_does() -> None:
    rows = paper.token_selection()
    assert set(rows.selector) - {""} <= set(SELECTORS)
    value = rows.set_index("checkpoint")["value"]
    assert len(rows) == 13 and value["prefix-100"] == pytest.approx(0.6585) and value["full"] == pytest.approx(0.6235)
    assert value["top-student-entropy-100"] == pytest.approx(0.627)
    assert value["top-student-entropy-200"] == pytest.approx(0.532)
    assert value["top-all-three-100"] == pytest.approx(0.579) and value["suffix-100"] == pytest.approx(0.5035)
    early = rows[rows.note.str.contains("early draft")].selector
    assert set(early) == {"random", "suffix", "middle"}


def test_per_step_holds_the_collapse_of_full_rollout() -> None:
    value = paper.per_step().set_index(["condition", "checkpoint", "step"])["value"].sort_index()
    assert value["math500_n16", "full"].tolist() == pytest.approx([0.656, 0.463, 0.497, 0.438])
    assert value["math500_n1", "prefix-100"].tolist() == pytest.approx([0.6375, 0.6445, 0.6515, 0.6585])
    assert len(value) == 32


def test_efficiency_totals_are_sums_and_memory_is_as_printed() -> None:
    rows = paper.efficiency()
    assert set(rows.unit) == {"seconds", "GB as printed"} and not rows.what.str.contains("gib").any()
    seconds = rows[rows.what == "seconds_per_step"].pivot(index="condition", columns="checkpoint", values="value")
    assert seconds.loc["total"].to_dict() == {"prefix-100": 8, "full": 194}
    assert seconds.drop("total").sum().to_dict() == {"prefix-100": 8, "full": 194}
    assert seconds.loc["generation", "full"] == 180 and seconds.loc["training", "full"] == 7
