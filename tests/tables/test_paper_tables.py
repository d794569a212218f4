"""The paper's tables: their numbers are those of the measurements, their text is rounded right, no
token breaks a format."""

from __future__ import annotations

import functools
import io
import math
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import made_decay
import markdown_it
import pandas as pd
import pytest
from measured import MEASURED

from decaylab.paper import publication
from decaylab.printing import rounded, significant
from decaylab.runs import measurements as ms
from decaylab.runs.measurements import Measurement
from decaylab.tables import paper_tables
from decaylab.tables.model import Column, Number, Table
from decaylab.tables.paper_tables import TABLES, build, to_csv, to_latex, to_markdown

PUBLISHED = [name for name, spec in TABLES.items() if spec.published is not None]
OURS, THEIRS = "measured", "published, arXiv 2605.27028"
# table -> run folder of an example
RUNS = {
    "prefix-curve": "prefix-decay",
    "main-results": "trained-evaluate",
    "n-sweep": "rollout-length",
    "token-selection": "selector",
    "per-step": "rollout-length",
    "efficiency": "rollout-length",
    "response-length": "trained-behaviour",
    "submode": "trained-submode",
    "boxed-repetition": "trained-behaviour",
    "category-kl": "category-kl",
    "high-kl-tokens": "category-kl",
    "position-kl": "trained-position-kl",
    "choosing-n": "signals",
}


COMPARED = ("compare", "compare-totals")  # of a comparison made by hand


@functools.cache
def measured(name: str) -> pd.DataFrame:
    if name in COMPARED:
        return made_decay.compared()
    return ms.read_csv(MEASURED / RUNS[name] / "measurements.csv")


def published(name: str) -> pd.DataFrame:
    loader = TABLES[name].published
    assert loader is not None
    return loader()


def pick(frame: pd.DataFrame, **at: object) -> pd.Series:
    """The only row at these coordinates."""
    for column, value in at.items():
        frame = frame[frame[column].isna() if value != value else frame[column] == value]
    assert len(frame) == 1, at
    return frame.iloc[0]


def row_of(table: Table, **at: object) -> pd.Series:
    return pick(table.frame, **at)


def same(row: pd.Series, key: str, number: pd.Series, scale: float = 100.0) -> None:
    """Value and interval of a cell are those of a row of measurements."""
    assert row[key] == pytest.approx(scale * number.value, rel=1e-12, nan_ok=True)
    if not math.isnan(number.low):
        assert (row[f"{key}_low"], row[f"{key}_high"]) == pytest.approx(
            (scale * number.low, scale * number.high), rel=1e-12
        )


# What every table has


@pytest.mark.parametrize("name", [*RUNS, *COMPARED])
def test_every_value_of_a_table_stands_in_the_measurements_with_its_interval(name: str) -> None:
    frame = measured(name)
    rows = frame.assign(scale=frame.unit.eq("fraction") * 99.0 + 1)
    held = {
        tuple(f"{scale * one:.9g}" for one in numbers)
        for *numbers, scale in rows[["value", "low", "high", "scale"]].to_numpy()
    }
    table = build(name, frame)
    intervals = [column for column in table.columns if f"{column.key}_low" in table.frame]
    assert intervals and set(table.frame.source) == {OURS}
    for column in intervals:
        found = table.frame[[column.key, f"{column.key}_low", f"{column.key}_high"]].dropna(
            subset=column.key
        )
        assert {tuple(f"{one:.9g}" for one in numbers) for numbers in found.to_numpy()} <= held, (
            column
        )


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_number_stands_in_its_table_as_it_was_printed(name: str) -> None:
    rows, table = published(name), build(name, None, published(name))
    printed = sorted(
        round(value * (100 if unit == "fraction" else 1), 6)
        for value, unit in zip(rows.value, rows.unit, strict=True)
    )
    cells = [
        cell for row in table.rows for cell in row if isinstance(cell, Number) and cell.published
    ]
    assert sorted(round(cell.value, 6) for cell in cells) == pytest.approx(printed)
    numeric = (
        table.text[[column.name for column in table.columns if column.numeric]].to_numpy().ravel()
    )
    texts = {text.split(" (")[0].replace(",", "") for text in numeric if re.match(r"-?\d", text)}
    assert {float(text) for text in texts} >= {*printed}, "not rounded"
    assert set(table.frame.source) == {THEIRS} and not [
        key for key in table.frame if key.endswith(("_low", "_high"))
    ]
    assert "[" not in "".join(numeric) and "no interval" in table.caption


@pytest.mark.parametrize("name", [name for name in RUNS if name in PUBLISHED])
def test_measured_and_published_rows_stand_in_one_table_under_their_sources(name: str) -> None:
    both = build(name, measured(name), published(name))
    alone = [build(name, measured(name)), build(name, None, published(name))]
    assert [len(table.rows) for table in alone] == [
        (both.frame.source == source).sum() for source in (OURS, THEIRS)
    ]
    for table, source in zip(alone, (OURS, THEIRS), strict=True):
        part = both.frame[both.frame.source == source].reset_index(drop=True)
        shared = [
            column.key
            for column in table.columns
            if column.key in part and column.key not in paper_tables.COUNTS
        ]
        pd.testing.assert_frame_equal(part[shared], table.frame[shared], check_dtype=False)
    assert both.caption.index("Measured: ") < both.caption.index("Published: arXiv 2605.27028")


@pytest.mark.parametrize("name", [*RUNS, *COMPARED])
def test_the_caption_tells_counts_intervals_and_answer_rule(name: str) -> None:
    caption = build(name, measured(name)).caption
    assert re.search(r"\d+ (problems|rollouts)", caption) and "95 % intervals (" in caption
    if name in ("prefix-curve", "main-results", "n-sweep", "token-selection", "boxed-repetition"):
        assert "answer rule last_boxed" in caption


def test_a_missing_quantity_is_named() -> None:
    frame = measured("submode")
    for name in {*RUNS, *COMPARED} - {"submode"}:
        with pytest.raises(
            ValueError,
            match=f"measurements hold no .*{re.escape(TABLES[name].needs.split(' ')[0])}",
        ):
            build(name, frame)
    with pytest.raises(ValueError, match="published rows hold no equals_teacher_top1"):
        build("submode", frame, publication.n_sweep())
    with pytest.raises(ValueError, match="neither measurements nor published rows hold avg_at_k"):
        build("main-results", None)
    with pytest.raises(ValueError, match=r"no table 'main'; there are prefix-curve, main-results"):
        build("main", frame)


def test_rows_of_two_runs_are_refused_and_not_picked_from() -> None:
    frame = pd.concat([measured("submode")] * 2)
    with pytest.raises(
        LookupError,
        match="2 rows at what 'two_mode_share', condition 'own'.*one run",
    ):
        build("submode", frame)


# The tables one by one, against numbers picked with pandas


def test_the_prefix_curve_has_paired_differences_and_the_published_ones_below() -> None:
    frame = measured("prefix-curve")
    table = build("prefix-curve", frame, publication.prefix_curve())
    at = {"condition": "student-prefix", "view": "open", "prefix_tokens": 40.0}
    row = row_of(
        table, writer="teacher after the student", counted="unfinished", prefix_tokens=40.0
    )
    same(row, "accuracy_percent", pick(frame, what="accuracy", **at))
    same(row, "difference_points", pick(frame, what="accuracy_difference", **at))
    same(row, "retained_percent", pick(frame, what="retained_advantage", **at))
    assert row.p_holm == pick(frame, what="accuracy_difference", **at).p_value_holm
    assert (
        table.text.iloc[0, 0] == "teacher alone"
        and table.text.iloc[0]["accuracy (%)"] == "88.4 [85.2, 91.0]"
    )
    drafts = table.text[table.text["accuracy (%)"].str.endswith("(a)")]
    assert drafts["accuracy (%)"].tolist() == ["47.00 (a)", "47.45 (a)", "52.65 (a)"]
    assert table.footnotes == ("(a) early draft only",)


def test_main_results_take_the_checkpoint_of_each_rule_and_say_which() -> None:
    frame = measured("main-results")
    table = build("main-results", frame, publication.main_results(), pair="small under large")
    ours = table.text[table.text.source == OURS]
    taken = dict(zip(ours.model, ours.checkpoint, strict=True))
    assert taken == {
        "student (base)": "",
        "teacher": "",
        "prefix-20-seed-0/step-000100": "last and best on validation",
        "full-seed-0/step-000050": "best on validation",
        "full-seed-0/step-000100": "last",
    }
    best = {"condition": "last_boxed", "view": "best", "checkpoint": "full-seed-0/step-000050"}
    row = row_of(table, model="full-seed-0/step-000050")
    same(row, "avg_at_1_percent", pick(frame, what="avg_at_1", **best))
    same(row, "maj_at_1_percent", pick(frame, what="maj_at_1", **best))
    same(row, "avg_at_1_minus_base_points", pick(frame, what="avg_at_1_minus_base", **best))
    same(row, "avg_at_1_minus_teacher_points", pick(frame, what="avg_at_1_minus_teacher", **best))
    assert (
        row.avg_at_1_minus_base_p_holm
        == pick(frame, what="avg_at_1_minus_base", **best).p_value_holm
    )
    assert row.step == 50 and math.isnan(row.avg_at_4_percent), "avg@1 and avg@4 are two columns"
    theirs = row_of(table, pair="Gemma-2-2B under Gemma-3-4B", model="prefix-100")
    assert (
        theirs.avg_at_4_percent,
        theirs.pass_at_4_percent,
        theirs.humaneval_plus_pass_at_1_percent,
    ) == (
        27.2,
        39.4,
        24.4,
    )
    assert (
        theirs.bfcl_full_accuracy_percent == 79.0
        and theirs.checkpoint_rule == "best on the test problems"
    )
    assert set(ours["student under teacher"]) == {"small under large"}


def test_main_results_without_a_checkpoint_rule_hold_every_checkpoint() -> None:
    frame = measured("main-results")
    table = build("main-results", frame[frame["view"] == "fresh"])
    assert len(table.rows) == frame.checkpoint.nunique() and "checkpoint" not in table.header
    names = list(table.frame.model)
    assert names[:2] == ["student (base)", "teacher"] and len(set(names)) == len(names)


def test_scaling_is_published_alone_or_below_measured_rows() -> None:
    table = build("scaling", None, publication.scaling())
    assert len(table.rows) == 15
    row = row_of(
        table, pair="Qwen2.5-Math-1.5B under Qwen3-1.7B", regime="every weight", model="full"
    )
    assert (row.avg_at_4_percent, row.pass_at_4_percent) == (58.2, 75.4)
    assert (
        row_of(
            table, pair="Qwen2.5-Math-7B under Qwen3-14B", regime="LoRA", model="student (base)"
        ).avg_at_4_percent
        == 53.6
    )
    both = build("scaling", measured("main-results"), publication.scaling())
    assert len(both.rows) == 5 + 15 and list(both.frame.regime[:5]) == [""] * 5


def test_a_sweep_has_both_intervals_of_an_arm_and_its_paired_difference() -> None:
    frame = measured("n-sweep")
    table = build("n-sweep", frame, publication.n_sweep())
    at = {"condition": "last_boxed", "view": "last", "checkpoint": "prefix-20"}
    row = row_of(table, arm="prefix-20", source=OURS)
    these, seeds = "mean over rollouts, over these seeds", "mean over training seeds"
    same(row, "avg_at_1_percent", pick(frame, what="avg_at_1", estimand=these, **at))
    same(row, "avg_at_1_over_seeds_percent", pick(frame, what="avg_at_1", estimand=seeds, **at))
    same(
        row,
        "avg_at_1_minus_full_points",
        pick(frame, what="avg_at_1_minus_full", estimand=these, **at),
    )
    same(
        row,
        "avg_at_1_minus_full_over_seeds_points",
        pick(frame, what="avg_at_1_minus_full", estimand=seeds, **at),
    )
    assert (row.rollout_length_tokens, row.seeds) == (20, 3)
    full = table.text[(table.text.arm == "full") & (table.text.source == THEIRS)].iloc[0]
    assert (full["N (tokens)"], full["avg@4 (%)"], full.checkpoint) == (
        "full",
        "62.35",
        "best on the test problems",
    )


def test_a_sweep_of_one_seed_takes_the_run_itself() -> None:
    frame = measured("n-sweep")
    one = frame[
        (frame.estimand == "one training run") & (frame.training_seed == 0)
        | (frame.estimand == "mean over rollouts")
    ]
    row = row_of(build("n-sweep", one), arm="prefix-20")
    at = {"condition": "last_boxed", "view": "last", "checkpoint": "prefix-20"}
    same(row, "avg_at_1_percent", pick(one, what="avg_at_1", **at))
    assert row.seeds == 1 and "avg_at_1_over_seeds_percent" not in row


def test_token_selection_tells_what_each_selector_took_and_why_a_share_is_undefined() -> None:
    frame = measured("token-selection")
    table = build("token-selection", frame, publication.token_selection())
    row = row_of(table, arm="random-20")
    at = {"checkpoint": "random-20", "estimand": "mean over training seeds"}
    same(
        row, "mean_selected_position_tokens", pick(frame, what="mean_selected_position", **at), 1.0
    )
    same(row, "selected_kl_share_percent", pick(frame, what="selected_kl_share", **at))
    text = table.text.set_index("arm")
    assert text.loc["prefix-20", "share of KL (%)"] == "\u2013 (a)"
    assert table.footnotes[0].startswith("(a) rollouts stop where the selection ends")
    assert (
        text.loc["random-100", "avg@4 (%)"] == "63.05 (b)"
        and "(b) early draft only (another draft says 61.25)" in table.footnotes
    )


def test_per_step_tables_have_a_column_a_step_and_the_peak_with_its_bias() -> None:
    frame = measured("per-step")
    table = build("per-step", frame, publication.per_step())
    at = {"view": "validation", "checkpoint": "full", "training_seed": 1.0}
    row = row_of(table, arm="full", training_seed=1.0)
    for step in (25.0, 50.0, 75.0, 100.0):
        same(row, f"step_{step:g}_percent", pick(frame, what="accuracy", step=step, **at))
    same(row, "peak_accuracy_percent", pick(frame, what="peak_accuracy", **at))
    same(row, "peak_minus_lowest_points", pick(frame, what="peak_minus_lowest", **at))
    assert any("biased upwards" in note and note.startswith("peak (%)") for note in table.footnotes)
    collapse = row_of(table, asked="MATH-500, 16 rollouts per problem", arm="full")
    assert [collapse[f"step_{step}_percent"] for step in (50, 100, 150, 200)] == [
        65.6,
        46.3,
        49.7,
        43.8,
    ]
    steps = [name for name in table.header if name.startswith("step ")]
    assert steps == sorted(steps, key=lambda name: int(name.split()[1]))


def test_per_step_tables_come_from_an_evaluation_of_every_checkpoint_too() -> None:
    frame = measured("main-results")
    row = row_of(build("per-step", frame), arm="full-seed-0")
    at = {"condition": "last_boxed", "view": "fresh", "checkpoint": "full-seed-0/step-000075"}
    same(row, "step_75_percent", pick(frame, what="avg_at_1", **at))


def test_efficiency_keeps_gib_and_gb_as_printed_apart() -> None:
    frame = measured("efficiency")
    table = build("efficiency", frame, publication.efficiency())
    at = {"checkpoint": "prefix-20", "condition": "total", "estimand": "mean over training seeds"}
    row = row_of(table, arm="prefix-20", phase="total")
    same(row, "seconds_per_step", pick(frame, what="seconds_per_step", **at), 1.0)
    ratios = {**at, "estimand": "geometric mean over training seeds"}
    same(row, "seconds_ratio", pick(frame, what="seconds_ratio", **ratios), 1.0)
    assert "geometric means over seeds of the ratios" in " ".join(table.caption.split())
    same(row, "peak_gib", pick(frame, what="peak_gib", **at), 1.0)
    theirs = row_of(table, arm="full", phase="total", source=THEIRS)
    assert (theirs.seconds_per_step, theirs.peak_gb_as_printed) == (194, 63.3) and math.isnan(
        theirs.peak_gib
    )
    assert (
        any("timed beside" in note for note in table.footnotes)
        and "sum of the phases there" in table.caption
    )


def test_lengths_in_tokens_and_in_characters_do_not_share_a_column() -> None:
    frame = measured("response-length")
    table = build("response-length", frame, publication.response_length())
    row = row_of(table, model="full-seed-0")
    for name in ("p10", "p50", "p90", "mean"):
        same(
            row,
            f"{name}_tokens",
            pick(frame, what=f"response_tokens_{name}", checkpoint="full-seed-0"),
            1.0,
        )
    same(
        row,
        "mean_less_base_tokens",
        pick(frame, what="response_tokens_mean_change", checkpoint="full-seed-0"),
        1.0,
    )
    theirs = row_of(table, model="full-rollout")
    assert theirs.p50_characters_by_3_5 == 1530 and math.isnan(theirs.p50_tokens)


def test_submode_has_the_common_set_and_its_change() -> None:
    frame = measured("submode")
    table = build("submode", frame, publication.submode())
    at = {"condition": "common", "view": "frozen", "checkpoint": "full-seed-0"}
    same(
        row_of(table, tokens_are="common", model="full-seed-0"),
        "in_teacher_top2to5_percent",
        pick(frame, what="in_teacher_top2to5", **at),
    )
    change = row_of(table, tokens_are="common", model="full-seed-0, change from base")
    same(
        change, "equals_teacher_top1_percent", pick(frame, what="equals_teacher_top1_change", **at)
    )
    text = table.text[table.text.model == "full-seed-0, change from base"].iloc[0]
    assert text["teacher's top 1 (%)"].startswith("+") and text[
        "teacher's top 2 to 5 (%)"
    ].startswith("-")
    assert row_of(table, model="esr-100").in_teacher_top2to5_percent == 47.4


def test_boxed_repetition_has_a_column_for_each_answer_rule() -> None:
    frame = measured("boxed-repetition")
    table = build("boxed-repetition", frame, publication.boxed_repetition())
    row = row_of(table, model="full-seed-0")
    for rule in ("last_boxed", "first_boxed", "anywhere", "gsm8k"):
        same(
            row,
            f"accuracy_{rule}_percent",
            pick(frame, what="accuracy", answer_rule=rule, checkpoint="full-seed-0"),
        )
    same(
        row,
        "several_boxes_percent",
        pick(frame, what="several_boxes_share", checkpoint="full-seed-0"),
    )
    theirs = row_of(table, model="step-200")
    assert (theirs.accuracy_official_percent, theirs.accuracy_relaxed_percent) == (43.8, 70.3)
    assert (theirs.mean_length_characters, theirs.repetitive_percent) == (4558, 77.5)


def test_categories_have_their_ranges_in_order_and_undefined_cells_their_reason() -> None:
    frame = measured("category-kl")
    table = build("category-kl", frame, publication.kl_by_category())
    row = row_of(table, category="math_number", source=OURS)
    at = {"category": "math_number", "position_low": 40.0}
    same(row, "reverse_kl_40_to_59_nats", pick(frame, what="reverse_kl", **at), 1.0)
    same(
        row,
        "mean_reverse_kl_nats",
        pick(frame, what="mean_reverse_kl", category="math_number"),
        1.0,
    )
    same(row, "kl_share_percent", pick(frame, what="kl_share", category="math_number"))
    assert row_of(table, category="math_latex", source=THEIRS).reverse_kl_5_to_19_nats == 9.23
    assert table.header[3:6] == ("0-4 (nats)", "5-9 (nats)", "5-19 (nats)")
    assert table.text["100+ (nats)"][0] == "\u2013 (a)" and "(a) no tokens" in table.footnotes


def test_tokens_of_the_highest_kl_are_ranked_and_shown_as_they_are() -> None:
    frame = measured("high-kl-tokens")
    table = build("high-kl-tokens", frame, publication.high_kl_tokens())
    first = (
        frame[frame.what == "token_mean_reverse_kl"].sort_values("value", ascending=False).iloc[0]
    )
    pd.testing.assert_frame_equal(
        build("high-kl-tokens", frame.sample(frac=1, random_state=3)).frame,
        build("high-kl-tokens", frame).frame,
    )
    row = table.frame.iloc[0]
    same(row, "mean_reverse_kl_nats", first, 1.0)
    assert (row.token, row["count"], row["rank"]) == (first.token, first.tokens, 1)
    same(row, "kl_share_percent", pick(frame, what="token_kl_share", token=first.token))
    theirs = table.text[table.text.source == THEIRS].set_index("rank")
    assert theirs.token[["3", "6", "9", "18"]].tolist() == ["\\[", "\\(", "\\\\", "\u2423To"]
    assert (theirs.loc["1", "mean KL (nats)"], theirs.loc["6", "count"]) == ("21.93", "21,243")


def test_position_kl_has_own_and_frozen_rollouts_and_the_cascade() -> None:
    frame = measured("position-kl")
    table = build("position-kl", frame, publication.position_kl())
    row = row_of(table, model="full-seed-0", position="20-29")
    at = {
        "checkpoint": "full-seed-0",
        "condition": "all",
        "position_low": 20.0,
        "position_high": 30.0,
    }
    same(row, "reverse_kl_fresh_nats", pick(frame, what="reverse_kl", view="fresh", **at), 1.0)
    same(row, "reverse_kl_frozen_nats", pick(frame, what="reverse_kl", view="frozen", **at), 1.0)
    same(
        row,
        "change_frozen_percent",
        pick(frame, what="winsorised_reverse_kl_relative_change", view="frozen", **at),
    )
    cascade = row_of(table, model="full-seed-0", position="20+")
    same(
        cascade,
        "cascade_ratio_fresh",
        pick(frame, what="cascade_ratio", view="fresh", checkpoint="full-seed-0"),
        1.0,
    )
    assert row_of(table, model="esr-100", position="400-499").reverse_kl_fresh_nats == 0.28


def test_choosing_n_tells_an_infinite_length_as_beyond_the_longest_prefix() -> None:
    signals = measured("choosing-n")
    decay = ms.to_frame(
        [
            Measurement("accuracy", "student-prefix", 0.5, "fraction", prefix_tokens=300.0),
            Measurement(
                "half_decay_length",
                "student-prefix",
                math.inf,
                "tokens",
                low=181.0,
                high=math.inf,
                problems=7,
            ),
        ]
    )
    table = build("choosing-n", pd.concat([signals, decay]))
    same(
        table.frame.iloc[0],
        "rollout_length_tokens",
        pick(signals, what="cumulative_kl_position", condition="survivors"),
        1.0,
    )
    assert table.text["N (tokens)"].tolist()[2] == "> 300 [181.0, > 300]"
    assert math.isinf(table.frame.rollout_length_tokens[2]) and ",inf," in to_csv(table)
    assert len(build("choosing-n", decay).rows) == 1, "either quantity is enough"


# Text


@pytest.mark.parametrize(
    ("value", "places", "text"),
    [
        (66.85, 1, "66.9"),
        (66.75, 1, "66.8"),
        (0.25, 1, "0.3"),
        (-0.25, 1, "-0.3"),
        (2.675, 2, "2.68"),
        (0.5, 0, "1"),
        (-0.04, 1, "0.0"),
        (99.95, 1, "100.0"),
        (1234567.5, 0, "1,234,568"),
        (1e-9, 1, "0.0"),
    ],
)
def test_halves_are_rounded_away_from_zero_as_they_are_written(
    value: float, places: int, text: str
) -> None:
    """Binary arithmetic has 66.85 below its half and 2.675 too: f"{2.675:.2f}" is 2.67."""
    assert rounded(value, places) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.10849, "0.108"),
        (8.845, "8.85"),
        (21.93, "21.9"),
        (99.96, "100"),
        (999.6, "1,000"),
        (0.0009999, "1.0e-3"),
        (0.000914, "9.1e-4"),
        (0.0, "0"),
        (-0.000914, "-9.1e-4"),
        (84660.4, "84,660"),
        (0.001, "0.00100"),
    ],
)
def test_three_digits_are_significant_and_two_below_a_thousandth(value: float, text: str) -> None:
    assert significant(value) == text


def test_a_fraction_becomes_per_cent_without_the_dust_of_binary_arithmetic() -> None:
    frame = ms.to_frame(
        [
            Measurement(
                "several_boxes_share",
                "",
                0.285 + 1e-17,
                "fraction",
                checkpoint="base",
                low=0.07,
                high=0.57,
            )
        ]
    )
    table = build("boxed-repetition", frame)
    assert 100 * 0.07 != 7.0 and table.frame.several_boxes_percent_low[0] == 7.0
    assert table.text["several boxes (%)"][0] == "28.5 [7.0, 57.0]"


def test_signs_stand_before_differences_and_not_before_zero() -> None:
    assert [rounded(value, 1, signed=True) for value in (1.25, -1.25, 0.04, -0.04)] == [
        "+1.3",
        "-1.3",
        "0.0",
        "0.0",
    ]


def test_the_dust_of_a_difference_does_not_turn_a_half_down() -> None:
    assert repr(0.1 - 0.15) == "-0.04999999999999999" and rounded(0.1 - 0.15, 1) == "-0.1"


def test_counts_that_never_change_stand_in_the_caption_alone() -> None:
    alike, varied = (build(name, measured(name)) for name in ("main-results", "prefix-curve"))
    assert "problems" not in alike.header and "800 problems" in alike.caption
    assert "problems" in varied.header and "217 to 300 problems" in varied.caption


def test_a_number_under_its_noise_floor_is_marked() -> None:
    frame = measured("position-kl").assign(under_floor=True)
    table = build("position-kl", frame)
    assert "\u2020 [" in table.text["winsorised KL, own rollouts (nats)"][0]
    assert any("twice its noise floor" in note for note in table.footnotes)


def test_footnotes_are_lettered_beyond_z() -> None:
    rows = tuple((Number(math.nan, note=f"reason {place}"), OURS) for place in range(28))
    table = Table("t", "T", (Column("x", "x", "value"), Column("source", "source")), rows, "C")
    assert table.text.x.tolist()[25:] == ["\u2013 (z)", "\u2013 (aa)", "\u2013 (ab)"]


# Formats


HOSTILE = {
    "|": "|",
    "\\|": "\\|",
    "\\(": "\\(",
    "\\[": "\\[",
    "\\\\": "\\\\",
    "\n": "\u21b5",
    "<script>": "<script>",
    "_a_": "_a_",
    "%": "%",
    "#": "#",
    "&": "&",
    "&amp;": "&amp;",
    "$x$": "$x$",
    "~": "~",
    "^": "^",
    "{": "{",
    "}": "}",
    "`": "`",
    "``a`": "``a`",
    "*": "*",
    "**b**": "**b**",
    "[a](b)": "[a](b)",
    "]": "]",
    "-": "-",
    "--": "--",
    ",,": ",,",
    "'": "'",
    '"': '"',
    "\x00": "\\x00",
    "\u200f": "\\u200f",
    "\u202e": "\\u202e",
    "\r": "\\r",
    "\t": "\\t",
    "\u2028": "\\u2028",
    " To": "\u2423To",
    "\u4f60": "\u4f60",
    "\u00e9": "\u00e9",
    "!`": "!`",
    "=1+1": "=1+1",
    "https://a.b": "https://a.b",
    "![x](y)": "![x](y)",
}


@pytest.fixture(scope="module")
def hostile() -> Table:
    """The table of the highest tokens, in pages of as many as it holds, with words as hostile in
    the other columns."""
    columns = (
        Column("model", "mo|del_%"),
        Column("token", "token", "token"),
        Column("kl", "KL [nats]", "value"),
        Column("source", "source"),
    )
    rows = tuple(
        (token, token, Number(1.5, 1.0, 2.0, note="" if token else token), OURS)
        for token in HOSTILE
    )
    return Table(
        "a_b",
        "Tokens & more",
        columns,
        rows,
        "100 % of `them` | <b>",
        remarks=("note \\( 5 %", "[1] *"),
    )


def test_tokens_are_shown_with_what_cannot_be_seen_by_its_code(hostile: Table) -> None:
    assert hostile.text.token.tolist() == list(HOSTILE.values())
    assert all(one.isprintable() for text in hostile.text.to_numpy().ravel() for one in text)


def test_markdown_shows_every_token_as_text_and_nothing_else(hostile: Table) -> None:
    parsed = markdown_it.MarkdownIt("commonmark").enable("table").parse(to_markdown(hostile))
    kinds = {token.type for token in parsed} | {
        child.type for token in parsed for child in token.children or []
    }
    assert not kinds & {"html_inline", "html_block", "code_inline", "link_open", "image", "em_open"}
    cells, inside = [], False
    for token in parsed:
        inside = token.type == "td_open" or (inside and token.type != "td_close")
        if inside and token.type == "inline":
            cells.append("".join(child.content for child in token.children or []))
    rows = [cells[start : start + 4] for start in range(0, len(cells), 4)]
    assert [row[1] for row in rows] == list(HOSTILE.values())
    assert "<" not in to_markdown(hostile) and ">" not in to_markdown(hostile)
    words = [text.replace("\u2423", "").replace("\u21b5", "\\n") for text in HOSTILE.values()]
    assert [row[0] for row in rows] == words, "of words spaces stay spaces"
    assert {row[2] for row in rows} == {"1.50 [1.00, 2.00]"}


def latex_tabulars(text: str) -> list[list[list[str]]]:
    """The cells of each row of each tabular."""
    parts = text.split("\\toprule")[1:]
    return [latex_rows(part.split("\\bottomrule")[0].split("\\midrule", 1)[1]) for part in parts]


def latex_rows(body: str) -> list[list[str]]:
    """The cells of each row, by braces and escapes; fails on what LaTeX would act on."""
    cells, cell, depth, place = [[]], "", 0, 0
    while place < len(body):
        one = body[place : place + 2]
        if one == "\\\\" and depth == 0:
            cells[-1].append(cell.strip())
            cells.append([])
            cell, place = "", place + 2
            continue
        if one[0] == "\\":
            cell, place = cell + one, place + 2
            continue
        depth += (one[0] == "{") - (one[0] == "}")
        assert depth >= 0 and one[0] not in "%#~^"
        if one[0] == "&" and depth == 0:
            cells[-1].append(cell.strip())
            cell = ""
        else:
            cell += one[0]
        place += 1
    assert depth == 0 and not cell.strip()
    return [row for row in cells if row]


COMMANDS = {
    "\\textbackslash{}": "\\",
    "\\{": "{",
    "\\}": "}",
    "\\%": "%",
    "\\#": "#",
    "\\&": "&",
    "\\_": "_",
    "\\$": "$",
    "\\textasciitilde{}": "~",
    "\\textasciicircum{}": "^",
    "\\textless{}": "<",
    "\\textgreater{}": ">",
    "\\textbar{}": "|",
    "{[}": "[",
    "{]}": "]",
    "{*}": "*",
    "\\textasciigrave{}": "`",
    "\\symbol{34}": '"',
    "\\textquotesingle{}": "'",
    "\\textvisiblespace{}": "\u2423",
    "$\\hookleftarrow$": "\u21b5",
    "{}": "",
    "U+4F60": "\u4f60",
}


def read_latex(cell: str) -> str:
    """What LaTeX would set: every command that a cell may hold, and plain characters."""
    pattern = "|".join(re.escape(command) for command in COMMANDS)
    left = re.sub(pattern, "", cell)
    assert not re.search(r"[\\{}%#&_$~^\[\]*<>|`\"]", left), f"unescaped in {cell}"
    return re.sub(pattern, lambda found: COMMANDS[found[0]], cell)


def test_latex_sets_every_token_as_it_is(hostile: Table) -> None:
    rows = [row for rows in latex_tabulars(to_latex(hostile)) for row in rows]
    assert len(rows) == len(HOSTILE) and {len(row) for row in rows} == {3}, "the source: above"
    for row, text in zip(rows, HOSTILE.values(), strict=True):
        found = re.fullmatch(r"\\texttt\{(.*)\}", row[1])
        assert found is not None and read_latex(found[1]) == text
        assert not row[0].startswith(("[", "*")), "would be an argument of the row's end before it"
    for ligature in ("--", ",,", "''", "!`"):
        assert ligature not in "".join(cell for row in rows for cell in row)


def of_table(name: str) -> Table:
    return build(
        name,
        measured(name) if name in (*RUNS, *COMPARED) else None,
        published(name) if name in PUBLISHED else None,
    )


@pytest.mark.parametrize("name", TABLES)
def test_latex_of_every_table_is_balanced_and_has_a_cell_for_each_column(name: str) -> None:
    text = to_latex(of_table(name))
    environments: list[str] = []
    for kind, environment in re.findall(r"\\(begin|end)\{([a-z]+)\}", text.split("\n", 2)[2]):
        if kind == "begin":
            environments.append(environment)
        else:
            assert environments.pop() == environment
    assert not environments
    specs = re.findall(r"\\begin\{tabular\}\{@\{\}([lr]+)@\{\}\}\n\\toprule", text)
    tabulars = latex_tabulars(text)
    assert len(specs) == len(tabulars)
    for spec, rows in zip(specs, tabulars, strict=True):
        assert {len(row) for row in rows} == {len(spec)}
    for rule in ("\\toprule", "\\midrule", "\\bottomrule", "\\caption", f"\\label{{tab:{name}}}"):
        assert rule in text
    plain = re.sub(
        r"\\(begin|end|label|setlength|providecommand|usepackage|addtocounter).*", "", text
    )
    assert not re.search(r"(?<!\\)[#&](?![^\n]*\\\\)|(?<!\\)_", plain), (
        "an underscore or a sign that is not escaped"
    )


def characters(cell: str) -> int:
    """The longest line of a cell as it is set."""
    stacked = re.fullmatch(r"\\stacked(?:\[l\])?\{(.*)\}", cell)
    lines = (stacked[1] if stacked else cell).split("\\\\")
    plain = [re.sub(r"\\[a-z]+(\{\})?|[{}$\\]", "", line) for line in lines]
    return max(map(len, plain))


@pytest.mark.parametrize("name", TABLES)
def test_latex_tables_fit_a_column_and_have_no_empty_columns(name: str) -> None:
    text = to_latex(of_table(name))
    for rows in latex_tabulars(text):
        columns = list(zip(*rows, strict=True))
        assert all(any(cells) for cells in columns), "an empty column"
        assert all(any(row) for row in rows)
        width = sum(2 + max(map(characters, cells)) for cells in columns)
        assert width <= 70, f"{width} characters: wider than a column"
    assert "sideways" not in text and "longtable" not in text
    for float_ in text.split("\\begin{table}")[1:]:
        lines = sum(
            max(1 + cell.count("\\\\") for cell in row)
            for rows in latex_tabulars(float_)
            for row in rows
        )
        assert lines <= 50, "longer than a column"


@pytest.mark.parametrize("name", TABLES)
def test_latex_keeps_every_number_of_the_table(name: str) -> None:
    table = of_table(name)
    wanted: list[str] = []
    for row in table.rows:
        cells = zip(table.printed(row), table.columns, strict=True)
        wanted += [text.split(" [")[0] for text, column in cells if column.numeric and text]
    cells = [cell for rows in latex_tabulars(to_latex(table)) for row in rows for cell in row]
    stacked = re.compile(r"^\\stacked(?:\[l\])?\{|\{\[\}.*|\\\\.*")
    found = [stacked.sub("", cell.replace("$-$", "-")).strip().rstrip("}") for cell in cells]
    found = [text.replace("\\textless{}", "<").replace("\\textgreater{}", ">") for text in found]
    missing = Counter(text for text in wanted if re.fullmatch(r"[-+<>]?[\d.,]+", text))
    missing -= Counter(found)
    assert not missing, f"numbers of the table that are not in LaTeX: {missing}"


def test_a_wide_table_has_its_intervals_below_the_numbers_and_a_long_one_several_floats() -> None:
    wide = to_latex(build("main-results", measured("main-results")))
    assert "\\stacked{46.9\\\\{[}43.4, 50.3{]}}" in wide and "$-$" in wide
    long = to_latex(build("prefix-curve", measured("prefix-curve"), publication.prefix_curve()))
    floats = long.count("\\begin{table}")
    assert floats > 1 and long.count("continued.") == floats - 1
    assert long.count("\\addtocounter{table}{-1}") == floats - 1
    assert long.count("\\label{") == 1


def test_a_latex_caption_has_at_most_60_words_and_the_rest_stands_below() -> None:
    table = of_table("main-results")
    text = to_latex(table)
    caption = re.search(r"\\caption\[.*?\](.*)", text)
    assert caption is not None and len(caption[1].split()) <= 60
    assert "answer rule not stated" in text.split("\\bottomrule")[-1]


def test_latex_is_compiled(tmp_path: Path, hostile: Table) -> None:
    if shutil.which("pdflatex") is None:
        pytest.skip("needs extra: pdflatex")
    names = ["prefix-curve", "main-results", "high-kl-tokens", "submode", "category-kl"]
    tables = [hostile, *(build(name, measured(name), published(name)) for name in names)]
    inputs = []
    for place, table in enumerate(tables):
        paper_tables.write(table, tmp_path, f"t{place}")
        inputs.append(f"\\input{{t{place}}}\\clearpage")
    needs = "\\usepackage{booktabs,graphicx}"
    source = ["\\documentclass{article}", needs, "\\begin{document}", *inputs, "\\end{document}"]
    (tmp_path / "all.tex").write_text("\n".join(source))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").stat().st_size > 10_000


def test_csv_has_every_digit_and_the_tokens_themselves(hostile: Table) -> None:
    frame = measured("high-kl-tokens")
    back = pd.read_csv(io.StringIO(to_csv(build("high-kl-tokens", frame))), keep_default_na=False)
    first = frame[frame.what == "token_mean_reverse_kl"].sort_values("value", ascending=False)
    assert back.mean_reverse_kl_nats.tolist() == first.value.tolist(), "to the last bit"
    tokens = pd.read_csv(
        io.StringIO(to_csv(hostile)), keep_default_na=False, lineterminator="\n"
    ).token
    readable = [token for token in HOSTILE if token not in ("\n", "\r", "\x00")]
    assert {*readable} <= {*tokens}


def test_three_files_are_written_under_the_name_that_is_given(tmp_path: Path) -> None:
    table = build("scaling", None, publication.scaling())
    paths = paper_tables.write(table, tmp_path / "new", "scaling-other")
    assert [path.name for path in paths] == [
        "scaling-other.md",
        "scaling-other.tex",
        "scaling-other.csv",
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(
        path.name for path in paths
    )
    assert "\\label{tab:scaling-other}" in paths[1].read_text() and paths[2].read_text() == to_csv(
        table
    )
    assert (
        table.keys["avg@4 (%)"] == table.frame.avg_at_4_percent.tolist()
        and "source" not in table.keys
    )
