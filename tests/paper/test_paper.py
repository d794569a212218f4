"""The published numbers: carried unchanged, in the shape of measurements, with their known
contradictions."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from importlib import resources

import pandas as pd
import pytest

from decaylab.maths.selection import SELECTORS
from decaylab.paper import publication
from decaylab.runs import measurements
from decaylab.tokens import noise_floor

FOLDER = resources.files("decaylab.data.paper")
TABLES = sorted(
    entry.name.removesuffix(".csv") for entry in FOLDER.iterdir() if entry.name.endswith(".csv")
)


def accuracy(condition: str) -> pd.Series:
    rows = publication.prefix_curve()
    return rows[rows.condition == condition].set_index("prefix_tokens")["value"]


def test_prefix_curve_has_the_columns_and_conditions_of_measurements() -> None:
    rows = publication.prefix_curve()
    assert tuple(rows.columns) == measurements.COLUMNS
    assert set(rows.what) == {"accuracy"} and set(rows.unit) == {"fraction"}
    assert set(rows[rows.prefix_tokens > 0]["view"]) == {""}, (
        "how finished rollouts are counted is not said"
    )
    assert rows[["low", "high", "band_low", "band_high", "standard_error"]].isna().all(axis=None)
    assert set(rows.method) == {"published, no interval"} and set(rows.run) == {"arXiv 2605.27028"}
    assert set(rows.problems) == {500} and set(rows.rollouts) == {2000}


def test_prefix_curve_holds_the_published_numbers_as_fractions() -> None:
    assert accuracy("teacher").to_dict() == pytest.approx({0: 0.6530})
    assert accuracy("student-prefix").to_dict() == pytest.approx(
        {100: 0.6270, 200: 0.5630, 300: 0.5175}
    )
    assert accuracy("student").to_dict() == pytest.approx({0: 0.5095})
    assert accuracy("reverse").to_dict() == pytest.approx({100: 0.4700, 200: 0.4745, 300: 0.5265})


def test_numbers_of_an_early_draft_say_so() -> None:
    rows = publication.prefix_curve()
    early = rows.note.str.contains("early draft only")
    assert set(rows[early].condition) == {"reverse"}
    assert set(rows[~early].condition) == {"student-prefix", "teacher", "student"}
    (alone,) = rows[rows.condition == "student"].itertuples()
    main = publication.published("main_results")
    assert (
        alone.note.startswith("arXiv 2605.27028, main table;")
        and 100 * alone.value in main.math500_avg4.tolist()
    )


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no published table 'prefix'; there are .*prefix_curve"):
        publication.published("prefix")


def test_readme_names_every_table_with_its_checksum() -> None:
    readme = FOLDER.joinpath("README.md").read_text()
    sums = dict(
        reversed(pair) for pair in re.findall(r"^([0-9a-f]{64})  (\S+)$", readme, re.MULTILINE)
    )
    assert sums == {
        f"{name}.csv": hashlib.sha256(FOLDER.joinpath(f"{name}.csv").read_bytes()).hexdigest()
        for name in TABLES
    }
    assert all(f"| `{name}.csv` |" in readme for name in TABLES) and len(TABLES) == 16


def test_tables_agree_where_they_repeat_a_number() -> None:
    main = (
        publication.published("main_results")
        .set_index(["student", "method"])
        .loc["Qwen2.5-Math-1.5B", "math500_avg4"]
    )
    sweep = publication.published("n_sweep").set_index("rollout_length")["avg_at_4_percent"]
    selectors = publication.published("token_selection").set_index("selector")[
        "best_avg_at_4_percent"
    ]
    steps = publication.published("per_step").groupby(["setting", "method"])["percent"]
    assert (
        main["student"]
        == sweep["0"]
        == selectors["baseline"]
        == pytest.approx(100 * accuracy("student")[0])
    )
    assert main["teacher"] == pytest.approx(100 * accuracy("teacher")[0])
    assert (
        main["esr"]
        == sweep["100"]
        == selectors["esr_prefix"]
        == steps.max()["math500_n1", "esr_100"]
    )
    assert main["full_rollout"] == sweep["full"] == selectors["full_sequence"]
    boxed = (
        publication.published("boxed_repetition")
        .set_index("statistic")
        .loc["avg_at_4_percent"]
        .tolist()
    )
    assert boxed == steps.get_group(("math500_n16", "full_rollout")).tolist()


def test_checkpoint_rule_is_the_best_step_not_the_last() -> None:
    steps = publication.published("per_step").groupby(["setting", "method"])["percent"]
    sweep = publication.published("n_sweep").set_index("rollout_length")["avg_at_4_percent"]
    assert (
        sweep["50"] == steps.max()["math500_n1", "esr_50"] != steps.last()["math500_n1", "esr_50"]
    )


def test_totals_and_parts_agree_where_the_paper_gives_both() -> None:
    costs = publication.published("efficiency").set_index("phase")
    assert costs.drop("total_step").sum().tolist() == pytest.approx(
        costs.loc["total_step"].tolist()
    ), "peaks are summed too"
    shares = publication.published("submode").filter(like="percent").sum(axis=1)
    assert shares.between(99.85, 100.05).all(), "parts of a whole, up to rounding"
    text = publication.published("in_text").set_index("quantity")["value"]
    assert (
        round(costs.full_rollout_seconds["total_step"] / costs.esr100_seconds["total_step"])
        == text["speed_up"]
    )
    boxed = publication.published("boxed_repetition").set_index("statistic")
    gap = boxed.loc["relaxed_avg_at_4_percent"] - boxed.loc["avg_at_4_percent"]
    assert (gap.min(), gap.max()) == pytest.approx((9.0, 26.5))
    assert boxed.loc["multi_boxed_responses_percent"].tolist()[::3] == [2.9, 89.1]


# --- contradictions
# ---------------------------------------------------------------------------


def table(name: str, *index: str) -> pd.DataFrame:
    return publication.published(name).set_index([*index])


def text(quantity: str) -> float:
    return float(table("in_text", "quantity").value[quantity])


def main_avg(
    method: str, column: str = "math500_avg4", student: str = "Qwen2.5-Math-1.5B"
) -> float:
    return float(table("main_results", "student", "method").loc[(student, method), column])


def scaling_avg(method: str, regime: str, teacher: str) -> float:
    return float(
        table("scaling", "method", "regime", "teacher")
        .loc[(method, regime, teacher), "math500_avg4"]
        .squeeze()
    )


def step_percent(setting: str, method: str, step: int) -> float:
    return float(table("per_step", "setting", "method", "step").percent[setting, method, step])


def fall(statistic: str) -> float:
    row = table("boxed_repetition", "statistic").loc[statistic]
    return float(row.step_200 - row.step_50)


def kl_change(centre: int) -> float:
    row = table("position_kl", "position_bin_centre").loc[centre]
    return float(100 * (row.kl_after_esr100_nats / row.kl_before_nats - 1))


def share_of_listed_kl(chosen: Callable[[pd.DataFrame], pd.Series]) -> float:
    tokens = publication.published("high_kl_tokens")
    held = tokens["count"] * tokens.mean_kl_nats
    return float(100 * held[chosen(tokens)].sum() / held.sum())


PLANNING = (
    "To",
    "Let",
    "First",
    "Step",
    "We",
    "Given",
    "Therefore",
    "Thus",
    "Since",
)  # of the paper's definition


def labelled_planning_but_not_listed() -> str:
    tokens = publication.published("high_kl_tokens")
    return ", ".join(
        sorted(
            {token.strip() for token in tokens.token[tokens.category == "planning"]} - set(PLANNING)
        )
    )


def curve(direction: str, tokens: int) -> float:
    return float(
        table("prefix_curve", "direction", "prefix_tokens").avg_at_4_percent[direction, tokens]
    )


def n_sweep(length: str) -> float:
    return float(table("n_sweep", "rollout_length").avg_at_4_percent[length])


def peak(phase: str, arm: str = "full_rollout") -> float:
    return float(table("efficiency", "phase")[f"{arm}_peak_gb"][phase])


def largest(arm: str) -> float:
    return float(table("efficiency", "phase")[f"{arm}_peak_gb"].drop("total_step").max())


def random_selection() -> tuple[float, float]:
    row = table("token_selection", "selector").loc["random"]
    other = re.search(r"another draft says ([0-9.]+)", row.source)
    assert other is not None and "early draft only" in row.source
    return row.best_avg_at_4_percent, float(other[1])


COMPUTED: dict[str, Callable[[], tuple[float | str, float | str]]] = {
    "random selection": random_selection,
    "student after 300 teacher tokens": lambda: (
        curve("teacher_prefix_student_continues", 300),
        main_avg("student"),
    ),
    "ESR against the teacher": lambda: (main_avg("esr"), main_avg("teacher")),
    "best full rollout": lambda: (
        main_avg("full_rollout"),
        step_percent("math500_n16", "full_rollout", 50),
    ),
    "collapse of full rollout by the relaxed rule": lambda: (
        fall("avg_at_4_percent"),
        fall("relaxed_avg_at_4_percent"),
    ),
    "collapse of full rollout by the first box": lambda: (
        fall("avg_at_4_percent"),
        text("first_box_avg_at_4_step_200") - text("first_box_avg_at_4_step_50"),
    ),
    "peak memory of full rollout": lambda: (peak("total_step"), largest("full_rollout")),
    "memory saved by ESR": lambda: (
        peak("total_step") / peak("total_step", "esr100"),
        largest("full_rollout") / largest("esr100"),
    ),
    "change of the KL at position 450": lambda: (
        -text("kl_fall_where_not_trained_least"),
        kl_change(450),
    ),
    "change of the KL at position 550": lambda: (
        -text("kl_fall_where_not_trained_least"),
        kl_change(550),
    ),
    "mean reverse KL of the first 50 positions": lambda: (
        table("position_kl", "position_bin_centre").kl_before_nats[25],
        publication.published("three_signals")
        .query("position_bin_centre < 50")
        .reverse_kl_nats.mean(),
    ),
    "share of the KL of the 20 listed tokens": lambda: (
        share_of_listed_kl(lambda tokens: tokens.token.isin(["\\[", "\\("])),
        share_of_listed_kl(lambda tokens: tokens.category == "planning"),
    ),
    "mean KL of planning tokens": lambda: tuple(
        table("kl_by_category", "category").loc["planning", ["5-19", "200-499"]]
    ),
    "words of the planning category": lambda: (
        ", ".join(PLANNING),
        labelled_planning_but_not_listed(),
    ),
    "student's first choice among": lambda: tuple(
        table("submode", "model").in_teacher_top2to5_percent[["esr_100", "base_student"]]
    ),
    "teacher of 8B against one of 4B": lambda: tuple(
        scaling_avg("teacher", "lora", f"Qwen3-{size}") for size in ("8B", "4B")
    ),
    "ESR against full rollout where every weight": lambda: tuple(
        scaling_avg(method, "full_ft", "Qwen3-1.7B") for method in ("esr", "full_rollout")
    ),
    "N = 100 against the best N": lambda: (
        n_sweep("100"),
        max(n_sweep(length) for length in ("50", "150", "200")),
    ),
    "best against last step of ESR at 50": lambda: (
        n_sweep("50"),
        step_percent("math500_n1", "esr_50", 200),
    ),
    "best against last step of ESR on HumanEval": lambda: (
        main_avg("esr", "humaneval_pass1"),
        step_percent("humaneval", "esr_100", 400),
    ),
    "Qwen3-1.7B by itself": lambda: (main_avg("teacher"), text("qwen3_1.7b_student_avg_at_4")),
    "unit of the response length": lambda: (
        "tokens",
        f"characters / {text('characters_per_token'):g}",
    ),
}


@pytest.mark.parametrize("topic", COMPUTED)
def test_each_contradiction_is_computed_anew_from_the_files(topic: str) -> None:
    rows = publication.contradictions()
    (row,) = (one for one in rows.itertuples() if one.topic.startswith(topic))
    for told, computed in zip((row.first, row.second), COMPUTED[topic](), strict=True):
        decimals = len(told.partition(".")[2])
        assert told == (computed if isinstance(computed, str) else f"{computed:.{decimals}f}")
    assert row.first != row.second


def test_every_contradiction_has_two_places_and_is_computed() -> None:
    rows = publication.contradictions()
    assert list(rows.columns) == [
        "topic",
        "first",
        "first_place",
        "second",
        "second_place",
        "remark",
    ]
    assert not rows.isna().any(axis=None) and rows.topic.is_unique and len(rows) == len(COMPUTED)
    files = set(re.findall(r"[a-z_]+\.csv", " ".join(rows.first_place + " " + rows.second_place)))
    assert {name.removesuffix(".csv") for name in files} <= set(TABLES)
    readme = FOLDER.joinpath("README.md").read_text()
    told = (
        "63.05",
        "61.25",
        "52.65",
        "50.95",
        "65.85",
        "65.30",
        "62.35",
        "65.60",
        "2.06",
        "1.94",
        "77.70",
        "47.4",
        "69.20",
    )
    assert {number for number in told if number not in readme} == set(), "the README tells them too"
    assert set(told) <= {*rows["first"], *rows["second"]}


def test_every_number_of_the_text_has_a_unit_and_a_place() -> None:
    rows = publication.published("in_text")
    assert not rows.isna().any(axis=None) and rows.quantity.is_unique and (rows.value > 0).all()


def test_the_gap_to_the_teacher_is_inside_one_standard_error() -> None:
    """0.55 points; the error of a mean over 500 x 4 is sqrt(p (1 - p) / 2000) if samples are
    independent, / 500 if alike."""
    p = main_avg("teacher") / 100
    least, most = (100 * math.sqrt(p * (1 - p) / count) for count in (2000, 500))
    (remark,) = (
        publication.contradictions().query("topic.str.startswith('ESR against the teacher')").remark
    )
    assert (
        f"{least:.2f}" in remark and f"{most:.2f}" in remark and main_avg("esr") - 100 * p < least
    )
    assert max(n_sweep(length) for length in ("50", "100", "150", "200")) - n_sweep("100") < least


def test_remarks_repeat_numbers_of_the_files() -> None:
    remarks = " ".join(publication.contradictions().remark)
    full = table("submode", "model").in_teacher_top2to5_percent["full_rollout"]
    students = [scaling_avg("esr", "lora", f"Qwen3-{size}") for size in ("8B", "4B")]
    for number in (
        f"({full})",
        "({:.2f} against {:.2f})".format(*students),
        f"falls to {curve('teacher_prefix_student_continues', 100):.2f}",
    ):
        assert number in remarks
    assert f"({main_avg('esr'):.2f} against {main_avg('full_rollout'):.2f})" in remarks


# --- token statistics and behaviour
# ---------------------------------------------------------------------------

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
def test_every_loader_gives_measurements_without_an_interval_under_keys_of_their_own(
    name: str,
) -> None:
    rows = getattr(publication, name)()
    assert tuple(rows.columns) == measurements.COLUMNS and len(rows) == LOADERS[name]
    assert not rows.duplicated(noise_floor.KEY).any()
    assert (
        rows[["low", "high", "band_low", "band_high", "standard_error", "noise_floor"]]
        .isna()
        .all(axis=None)
    )
    assert set(rows.method) == {"published, no interval"} and set(rows.run) == {"arXiv 2605.27028"}
    assert rows.note.str.startswith("arXiv 2605.27028, ").all() and set(rows["view"]) == {"fresh"}
    assert rows.value[rows.unit == "fraction"].between(0, 1).all() and rows.value.notna().all()


def test_three_signals_are_bins_of_ten_tokens_around_their_centres() -> None:
    rows, table = publication.three_signals(), publication.published("three_signals")
    kl = rows[rows.what == "reverse_kl"]
    assert ((kl.position_low + kl.position_high) / 2).tolist() == table.position_bin_centre.tolist()
    assert set(rows.position_high - rows.position_low) == {10} and set(rows.unit) == {"nats"}
    assert rows.value.sum() == pytest.approx(table.filter(like="_nats").sum().sum())
    assert kl.value.tolist() == table.reverse_kl_nats.tolist()
    entropy = rows[rows.what == "teacher_entropy"].set_index("position_low")["value"]
    assert entropy[0] == 0.25 and entropy[490] == 0.16
    gaps = kl.position_low.iloc[1:].to_numpy() - kl.position_high.iloc[:-1].to_numpy()
    assert gaps.tolist() == [0] * 10 + [40, 40, 90, 90, 80], (
        "bins beyond 110 that were not read off"
    )


def test_position_kl_bins_adjoin_and_have_the_published_centres() -> None:
    rows, table = publication.position_kl(), publication.published("position_kl")
    for checkpoint, column in (("base", "kl_before_nats"), ("esr-100", "kl_after_esr100_nats")):
        one = rows[rows.checkpoint == checkpoint]
        assert one.position_low.tolist() == [0, 50, 100, 150, 200, 300, 400, 500, 600]
        assert one.position_high.tolist() == [50, 100, 150, 200, 300, 400, 500, 600, 700]
        assert (
            (one.position_low + one.position_high) / 2
        ).tolist() == table.position_bin_centre.tolist()
        assert one.value.tolist() == table[column].tolist()


def test_kl_by_category_ends_a_range_after_its_last_position() -> None:
    rows = publication.kl_by_category()
    latex = rows[rows.category == "math_latex"].set_index(["position_low", "position_high"])[
        "value"
    ]
    assert latex[5, 20] == 9.23 and latex[200, 500] == 1.87
    assert latex.index.tolist() == [(0, 5), (5, 20), (20, 50), (50, 100), (100, 200), (200, 500)]
    assert rows.value.sum() == pytest.approx(
        publication.published("kl_by_category").set_index("category").to_numpy().sum()
    )


def test_high_kl_tokens_hold_502_thousand_nats() -> None:
    """count x mean over the 20 tokens; the two delimiters hold 7152 * 13.21 + 21243 * 10.30 =
    313,281 of them."""
    rows = publication.high_kl_tokens().set_index("token")
    held = rows.tokens * rows.value
    assert held.sum() == pytest.approx(502_194, abs=1) and rows.tokens.sum() == 55_070
    assert held[["\\[", "\\("]].sum() == pytest.approx(313_281, abs=1)
    assert rows.loc[" To", "value"] == 5.37 and rows.loc["To", "value"] == 6.90, (
        "a leading space tells two tokens apart"
    )


def test_submode_shares_are_parts_of_one_whole() -> None:
    rows = publication.submode()
    value = rows.set_index(["checkpoint", "what"])["value"]
    assert value["base", "in_teacher_top2to5"] == pytest.approx(0.598)
    assert value["esr-100", "student_top1_probability"] == 0.79
    parts = rows[rows.what != "student_top1_probability"].groupby("checkpoint")["value"].sum()
    assert parts.to_dict() == pytest.approx({"base": 0.999, "full-rollout": 1.0, "esr-100": 1.0})
    assert set(rows.condition) == {"own"}


def test_published_lengths_are_no_tokens_and_say_so() -> None:
    rows = publication.response_length()
    assert set(rows.unit) == {"characters / 3.5"} and not rows.what.str.contains("token").any()
    value = rows.set_index(["checkpoint", "what"])["value"]
    assert (
        value["base", "response_length_p50"] == 860
        and value["full-rollout", "response_length_mean"] == 1480
    )
    assert set(rows.checkpoint) == {"base", "teacher", "full-rollout", "esr-100"}


def test_boxed_repetition_has_fractions_of_one_and_two_answer_rules() -> None:
    rows = publication.boxed_repetition()
    value = rows.set_index(["what", "answer_rule", "checkpoint"])["value"].sort_index()
    assert value["accuracy", "official"].to_dict() == pytest.approx(
        {"step-50": 0.656, "step-100": 0.463, "step-150": 0.497, "step-200": 0.438}
    )
    assert value["accuracy", "relaxed", "step-200"] == pytest.approx(0.703)
    assert value["several_boxes_share", "", "step-200"] == pytest.approx(0.891)
    assert (
        value["boxes_mean", "", "step-100"] == 88.1
        and value["response_characters", "", "step-50"] == 1388
    )


# --- training
# ---------------------------------------------------------------------------


def test_main_results_are_rows_of_an_evaluation_by_pair_and_task() -> None:
    rows, printed = publication.main_results(), publication.published("main_results")
    assert (
        tuple(rows.columns) == measurements.COLUMNS
        and len(rows) == 8 * 5 == printed.filter(like="_").size
    )
    assert not rows.duplicated(["run", "what", "condition", "checkpoint"]).any()
    assert rows[["low", "high", "standard_error"]].isna().all(axis=None) and set(rows.method) == {
        "published, no interval"
    }
    assert set(rows.run) == {
        "arXiv 2605.27028: Qwen2.5-Math-1.5B under Qwen3-1.7B",
        "arXiv 2605.27028: Gemma-2-2B under Gemma-3-4B",
    }
    assert 100 * rows.value.sum() == pytest.approx(printed.filter(like="_").sum().sum())
    value = (
        rows[rows.run.str.contains("Gemma")]
        .set_index(["what", "condition", "checkpoint"])["value"]
        .sort_index()
    )
    assert value["avg_at_4", "math500", "prefix-100"] == pytest.approx(0.2720)
    assert value["pass_at_4", "math500", "full"] == pytest.approx(0.314)
    assert value["pass_at_1", "humaneval", "base"] == pytest.approx(0.2378)
    assert value["pass_at_1", "humaneval_plus", "prefix-100"] == pytest.approx(0.244)
    assert value["full_accuracy", "bfcl", "teacher"] == pytest.approx(0.7283)
    assert rows[rows["view"] == "best"].checkpoint.unique().tolist() == ["full", "prefix-100"]
    counts = rows.groupby("condition")[["problems", "rollouts"]].first()
    assert counts.loc["math500"].tolist() == [500, 2000] and counts.loc["humaneval"].tolist() == [
        0,
        0,
    ]


def test_scaling_tells_regimes_and_pairs_apart() -> None:
    rows, printed = publication.scaling(), publication.published("scaling")
    assert (
        len(rows) == 2 * len(printed)
        and not rows.duplicated(["run", "what", "condition", "checkpoint"]).any()
    )
    value = rows.set_index(["what", "condition", "run", "checkpoint"])["value"].sort_index()
    pair = "arXiv 2605.27028: {} under {}".format
    assert value[
        "avg_at_4", "full_ft", pair("Gemma-2-2B", "Gemma-3-4B"), "prefix-100"
    ] == pytest.approx(0.2665)
    assert value[
        "pass_at_4", "lora", pair("Qwen2.5-Math-7B", "Qwen3-14B"), "teacher"
    ] == pytest.approx(0.832)
    assert set(rows[rows.condition == "full_ft"].checkpoint) == {"full", "prefix-100"}, (
        "no base, no teacher of their own"
    )
    assert 100 * rows.value.sum() == pytest.approx(
        printed[["math500_avg4", "math500_pass4"]].sum().sum()
    )


@pytest.mark.parametrize("name", ["n_sweep", "token_selection", "per_step", "efficiency"])
def test_published_training_gives_measurements_without_an_interval_under_keys_of_their_own(
    name: str,
) -> None:
    rows = getattr(publication, name)()
    assert tuple(rows.columns) == measurements.COLUMNS and rows.value.notna().all()
    assert not rows.duplicated(["what", "condition", "checkpoint", "step"]).any()
    assert rows[["low", "high", "standard_error"]].isna().all(axis=None)
    assert set(rows.method) == {"published, no interval"} and set(rows.run) == {"arXiv 2605.27028"}
    assert rows.note.str.startswith("arXiv 2605.27028, ").all()


def test_n_sweep_has_an_arm_for_each_length_at_the_best_step() -> None:
    rows = publication.n_sweep()
    assert (
        set(rows["view"]) == {"best"}
        and set(rows.what) == {"avg_at_4"}
        and set(rows.problems) == {500}
    )
    value = rows.set_index("checkpoint")["value"]
    assert value["base"] == pytest.approx(0.5095) and value["full"] == pytest.approx(0.6235)
    prefixes = rows[rows.selector == "prefix"]
    assert prefixes.rollout_length.tolist() == [5, 10, 20, 50, 100, 150, 200]
    assert prefixes.checkpoint.tolist() == [
        f"prefix-{length:.0f}" for length in prefixes.rollout_length
    ]
    assert value[prefixes.checkpoint].tolist() == pytest.approx(
        [0.527, 0.535, 0.605, 0.6665, 0.6585, 0.6665, 0.6605]
    )
    assert rows.set_index("checkpoint").rollout_length["full"] == float("inf")


def test_token_selection_names_its_selectors_as_the_trainer_does() -> None:
    rows = publication.token_selection()
    assert set(rows.selector) - {""} <= set(SELECTORS)
    value = rows.set_index("checkpoint")["value"]
    assert (
        len(rows) == 13
        and value["prefix-100"] == pytest.approx(0.6585)
        and value["full"] == pytest.approx(0.6235)
    )
    assert value["top-student-entropy-100"] == pytest.approx(0.627)
    assert value["top-student-entropy-200"] == pytest.approx(0.532)
    assert value["top-all-three-100"] == pytest.approx(0.579) and value[
        "suffix-100"
    ] == pytest.approx(0.5035)
    early = rows[rows.note.str.contains("early draft")].selector
    assert set(early) == {"random", "suffix", "middle"}


def test_per_step_holds_the_collapse_of_full_rollout() -> None:
    value = (
        publication.per_step().set_index(["condition", "checkpoint", "step"])["value"].sort_index()
    )
    assert value["math500_n16", "full"].tolist() == pytest.approx([0.656, 0.463, 0.497, 0.438])
    assert value["math500_n1", "prefix-100"].tolist() == pytest.approx(
        [0.6375, 0.6445, 0.6515, 0.6585]
    )
    assert len(value) == 32


def test_efficiency_totals_are_sums_and_memory_is_as_printed() -> None:
    rows = publication.efficiency()
    assert (
        set(rows.unit) == {"seconds", "GB as printed"} and not rows.what.str.contains("gib").any()
    )
    seconds = rows[rows.what == "seconds_per_step"].pivot(
        index="condition", columns="checkpoint", values="value"
    )
    assert seconds.loc["total"].to_dict() == {"prefix-100": 8, "full": 194}
    assert seconds.drop("total").sum().to_dict() == {"prefix-100": 8, "full": 194}
    assert seconds.loc["generation", "full"] == 180 and seconds.loc["training", "full"] == 7


COORDINATES = {
    *("prefix_tokens", "position_bin_centre", "step", "rank", "count", "k", "rollout_length"),
    "note",
}
RESTATED = [entry.name.removesuffix(".csv") for entry in (FOLDER / "rows").iterdir()]


@pytest.mark.parametrize("name", RESTATED)
def test_the_rows_of_a_table_hold_its_printed_numbers_each_once_and_no_other(name: str) -> None:
    table = publication.published(name)
    numbers = table.drop(columns=COORDINATES & set(table)).select_dtypes("number")
    rows = getattr(publication, name)()
    # A probability was printed as such, every other fraction in per cent.
    per_cent = (rows["unit"] == "fraction") & (rows["what"] != "student_top1_probability")
    restated = rows["value"].where(~per_cent, 100 * rows["value"])
    printed = sorted(numbers.to_numpy().ravel())
    assert sorted(restated) == pytest.approx(printed, abs=1e-9)
