"""Behaviour of rollouts by hand, against numpy and brute force, with its corners."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decaylab.analyses.behaviour import Settings, measure, percentiles, repetition_3gram
from decaylab.maths import token_means
from decaylab.maths.statistics import paired_difference, proportion
from decaylab.tokens.noise_floor import KEY

SETTINGS = Settings(("last_boxed", "first_boxed"))
EOS = 99


def rollout(
    problem: str,
    ids: Sequence[int],
    *,
    ended: bool = True,
    text: str = r"\boxed{1}",
    last: str = "wrong",
    first: str = "wrong",
) -> dict[str, Any]:
    """A row of the rollouts table, as far as behaviour reads it; the end-of-turn token is added
    where it ended."""
    return {
        "problem_id": problem,
        "response_ids": np.array([*ids, EOS] if ended else ids, dtype=np.int32),
        "stop_reason": "eos" if ended else "length",
        "text": text,
        "answer_start": 0,
        "grade_last_boxed": last,
        "grade_first_boxed": first,
    }


def of_lengths(lengths: Sequence[int], cut: Sequence[int] = ()) -> pd.DataFrame:
    """One rollout a length, two a problem; those of the indices in ``cut`` were cut off."""
    rows = [rollout(f"p{i // 2}", range(n), ended=i not in cut) for i, n in enumerate(lengths)]
    return pd.DataFrame(rows)


def value(
    frame: pd.DataFrame, what: str, checkpoint: str = "base", condition: str = ""
) -> pd.Series:
    (found,) = (
        row
        for _, row in frame.iterrows()
        if (row["what"], row.checkpoint, row.condition) == (what, checkpoint, condition)
    )
    return found


def grown(seed: int = 0, problems: int = 12) -> pd.DataFrame:
    """Rollouts of unequal number a problem, with everything at random."""
    rng, rows = np.random.default_rng(seed), []
    for problem in range(problems):
        for _ in range(rng.integers(1, 5)):
            ids = rng.integers(0, 3, rng.integers(5, 40))
            grade = rng.choice(["correct", "wrong", "no_answer", "timeout"], size=2)
            text = r"\boxed{1} " * int(rng.integers(0, 4))
            ended = bool(rng.random() < 0.7)
            rows.append(
                rollout(
                    f"p{problem:02}", ids, ended=ended, text=text, last=grade[0], first=grade[1]
                )
            )
    return pd.DataFrame(rows)


# --- lengths
# ---------------------------------------------------------------------------


def test_ten_lengths_by_hand() -> None:
    """10 .. 100: 10 % of ten rollouts is one, so p10 = 10; p50 = 50, p90 = 90; linear interpolation
    gives 19, 55, 91.

    The mean is 55; with the end-of-turn token it would be 56.
    """
    frame = measure({"base": of_lengths([100, 20, 30, 40, 50, 60, 70, 80, 90, 10])}, SETTINGS)
    found = [value(frame, f"response_tokens_p{p}").value for p in (10, 50, 90)]
    assert found == [10, 50, 90]
    mean = value(frame, "response_tokens_mean")
    assert (mean.value, mean.unit, mean.tokens, mean.problems, mean.rollouts) == (
        55,
        "tokens",
        550,
        5,
        10,
    )
    assert mean.low < 55 < mean.high and mean.note == ""


def test_percentiles_are_those_of_numpy_and_weights_are_repetitions() -> None:
    rng = np.random.default_rng(3)
    for size in (1, 7, 10, 70, 333):
        lengths = np.sort(rng.integers(0, 50, size)).astype(float)
        weights = rng.integers(0, 4, size).astype(float)
        weights[-1] += 1
        expected = np.percentile(lengths, [10, 50, 90], method="inverted_cdf")
        assert percentiles(lengths, np.ones(size)).tolist() == expected.tolist()
        repeated = np.repeat(lengths, weights.astype(int))
        expected = np.percentile(repeated, [10, 50, 90], method="inverted_cdf")
        assert percentiles(lengths, weights).tolist() == expected.tolist()


def test_percentile_intervals_resample_problems_not_rollouts() -> None:
    """Ten rollouts of one length a problem: the evidence is that of 8 lengths, whatever the number
    of rollouts."""
    rows = [rollout(f"p{p}", range(10 * (p + 1))) for p in range(8)]
    once, tenfold = (
        measure({"base": pd.DataFrame(rows)}, SETTINGS),
        measure({"base": pd.DataFrame(rows * 10)}, SETTINGS),
    )
    for percent in (10, 50, 90):
        a, b = (value(frame, f"response_tokens_p{percent}") for frame in (once, tenfold))
        assert (a.value, a.low, a.high) == (b.value, b.low, b.high)
    median = value(once, "response_tokens_p50")
    assert (
        median.low <= 20 and median.high >= 70
    )  # binomial: 8 draws, two standard errors are 2.8 ranks either side


def test_an_interval_depends_on_the_seed_and_on_nothing_else() -> None:
    rows = grown(problems=40)
    frames = [measure({"base": rows}, Settings(("last_boxed",), seed=seed)) for seed in (0, 0, 1)]
    ends = [
        [
            value(frame, f"response_tokens_p{p}")[end]
            for p in (10, 50, 90)
            for end in ("low", "high")
        ]
        for frame in frames
    ]
    assert ends[0] == ends[1]
    shuffled = measure({"base": rows.sample(frac=1, random_state=0)}, Settings(("last_boxed",)))
    assert ends[0] == [
        value(shuffled, f"response_tokens_p{p}")[end]
        for p in (10, 50, 90)
        for end in ("low", "high")
    ]


def test_a_percentile_is_marked_where_cut_off_rollouts_reach_below_it() -> None:
    """Cut off at 80, the rollout of 80 may have become the longest: p90 = 90 could be 100 or more;
    p50 = 50 stays."""
    lengths = [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    late = measure({"base": of_lengths(lengths, cut=[7])}, SETTINGS)
    notes = {p: value(late, f"response_tokens_p{p}").note for p in (10, 50, 90)}
    assert notes[10] == notes[50] == ""
    assert (
        notes[90] == "at least: 1 of 10 rollouts were cut off, some of them at or below this length"
    )
    longest = measure({"base": of_lengths(lengths, cut=[9])}, SETTINGS)
    assert (
        value(longest, "response_tokens_p90").note == ""
    )  # 90 is exact: only the longest was cut off
    assert value(longest, "response_tokens_mean").note == "at least: 1 of 10 rollouts were cut off"


def test_a_cut_off_rollout_counts_all_its_tokens() -> None:
    frame = measure({"base": of_lengths([5, 5, 5, 5], cut=[0, 1, 2, 3])}, SETTINGS)
    assert (
        value(frame, "response_tokens_p50").value == 5
        and value(frame, "natural_stop_share").value == 0
    )


# --- repetition, boxes
# ---------------------------------------------------------------------------


def test_repetition_by_hand() -> None:
    """1 2 3 1 2 3: 123 231 312 123, three of four distinct: .25. Bigrams would give 1 - 3/5 =
    .4."""
    assert repetition_3gram([1, 2, 3, 1, 2, 3]) == 0.25
    assert repetition_3gram([7] * 12) == pytest.approx(0.9)  # ten 3-grams, one distinct
    assert repetition_3gram([1, 2, 3]) == 0 and math.isnan(repetition_3gram([1, 2]))


def test_repetition_agrees_with_counting_every_3gram() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        ids = rng.integers(0, 3, 30)
        counts = Counter(" ".join(map(str, ids[i : i + 3])) for i in range(28))
        assert repetition_3gram(ids) == pytest.approx(sum(n - 1 for n in counts.values()) / 28)


def test_repetition_leaves_out_the_end_of_turn_and_the_rollouts_without_a_3gram() -> None:
    """1 1 1 1 has two 3-grams, one distinct: .5; with the end-of-turn token 3 and 2: .33. 1 2 has
    none."""
    rows = pd.DataFrame([rollout("a", [1, 1, 1, 1]), rollout("b", [1, 2, 3]), rollout("b", [1, 2])])
    found = value(measure({"base": rows}, SETTINGS), "repetition_3gram")
    assert (found.value, found.rollouts) == (0.25, 2)
    assert found.note == "1 of 3 rollouts have fewer than 3 tokens, left out"


def test_boxes_by_hand() -> None:
    """Boxes 0, 1, 2, 5: the mean is 2, two of four have several; a box that never closes counts."""
    texts = ["none", r"\boxed{1}", r"\boxed{1} and \fbox{2}", r"\boxed{1}" * 4 + r"\boxed{"]
    rows = pd.DataFrame(
        [rollout(f"p{i // 2}", range(9), text=text) for i, text in enumerate(texts)]
    )
    frame = measure({"base": rows}, SETTINGS)
    mean, several = value(frame, "boxes_mean"), value(frame, "several_boxes_share")
    assert (mean.value, mean.unit, several.value) == (2, "boxes", 0.5)


def test_where_all_problems_agree_a_mean_has_no_interval() -> None:
    found = value(measure({"base": of_lengths([5] * 8)}, SETTINGS), "boxes_mean")
    assert (
        found.value == 1
        and math.isnan(found.low)
        and found.note == "the same in every problem: no interval"
    )


# --- grades, changes
# ---------------------------------------------------------------------------


def test_each_answer_rule_has_its_accuracy_and_a_missing_answer_is_not_a_wrong_one() -> None:
    rows = pd.DataFrame(
        [
            rollout("a", range(5), last="correct", first="correct"),
            rollout("a", range(5), last="wrong", first="correct"),
            rollout("b", range(5), last="no_answer", first="no_answer"),
            rollout("b", range(5), last="timeout", first="correct"),
        ]
    )
    frame = measure({"base": rows}, SETTINGS)
    accuracy = {rule: value(frame, "accuracy", condition=rule) for rule in SETTINGS.answer_rules}
    assert {rule: row.value for rule, row in accuracy.items()} == {
        "last_boxed": 0.25,
        "first_boxed": 0.75,
    }
    assert all(row.answer_rule == rule for rule, row in accuracy.items())
    assert value(frame, "no_answer_share", condition="last_boxed").value == 0.25


def test_shares_are_clustered_by_problem() -> None:
    rows = grown()
    frame, codes = measure({"base": rows}, SETTINGS), pd.factorize(rows["problem_id"])[0]
    for what, condition, x in (
        ("accuracy", "last_boxed", rows["grade_last_boxed"] == "correct"),
        ("natural_stop_share", "", rows["stop_reason"] == "eos"),
        ("several_boxes_share", "", rows["text"].str.count("boxed") > 1),
    ):
        found, expected = value(frame, what, condition=condition), proportion(x, codes)
        assert (found.value, found.low, found.high) == pytest.approx(
            (expected.value, expected.low, expected.high)
        )


def test_changes_by_hand() -> None:
    """Problem a: 1 1 after, 1 0 before; b: 0 1 after, 0 0 before. Right 3/4 against 1/4, lengths 9
    against 6."""
    after = [
        rollout("a", range(8), last="correct"),
        rollout("a", range(8), last="correct"),
        rollout("b", range(8)),
        rollout("b", range(12), last="correct"),
    ]
    before = [
        rollout("a", range(7), last="correct"),
        rollout("a", range(7)),
        rollout("b", range(5), ended=False),
        rollout("b", range(5)),
    ]
    frame = measure({"base": pd.DataFrame(before), "later": pd.DataFrame(after)}, SETTINGS)
    assert value(frame, "accuracy_change", "later", "last_boxed").value == 0.5
    assert value(frame, "natural_stop_share_change", "later").value == 0.25
    length = value(frame, "response_tokens_mean_change", "later")
    assert (length.value, length.unit) == (3, "tokens") and "lower bounds" in length.note
    # Changes by problem are 1 and 5: SE = sqrt(2) * 2 / 2 = 2 (two problems of equal size; the
    # jackknife gives the same).
    spread = math.sqrt(2 * ((1 - 3) ** 2 + (5 - 3) ** 2)) / 2
    assert length.standard_error == pytest.approx(spread)


def test_changes_are_paired_by_problem() -> None:
    before, after = grown(0, 40), grown(0, 40)
    after["grade_last_boxed"] = np.where(after.index % 7 == 0, "correct", after["grade_last_boxed"])
    found = value(
        measure({"base": before, "later": after}, SETTINGS),
        "accuracy_change",
        "later",
        "last_boxed",
    )
    right = (before["grade_last_boxed"] == "correct").astype(float)
    codes = pd.factorize(before["problem_id"])[0]
    expected = paired_difference(
        after["grade_last_boxed"] == "correct", right.groupby(codes).transform("mean"), codes
    )
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    alone = proportion(after["grade_last_boxed"] == "correct", codes)
    assert (
        found.high - found.low < alone.high - alone.low
    )  # unpaired, the difference would be wider than one mean


def test_changes_are_over_the_problems_that_both_were_asked() -> None:
    later = [
        rollout("a", range(4), last="correct"),
        rollout("b", range(4)),
        rollout("c", range(40), last="correct"),
    ]
    before = [
        rollout("a", range(4)),
        rollout("b", range(4)),
        rollout("d", range(90), last="correct"),
    ]
    frame = measure({"base": pd.DataFrame(before), "later": pd.DataFrame(later)}, SETTINGS)
    change = value(frame, "accuracy_change", "later", "last_boxed")
    assert (change.value, change.problems, change.rollouts) == (0.5, 2, 2)
    assert change.note == "1 of 3 problems have no rollouts of base, left out"
    assert value(frame, "response_tokens_mean_change", "later").value == 0


def test_means_have_the_interval_of_the_library() -> None:
    rows = grown()
    codes = pd.factorize(rows["problem_id"])[0]
    lengths = rows["response_ids"].map(len) - (rows["stop_reason"] == "eos")
    sums, counts = (np.bincount(codes, w)[:, None].astype(float) for w in (lengths, None))
    low, high = token_means.interval(token_means.means(sums, counts))
    found = value(measure({"base": rows}, SETTINGS), "response_tokens_mean")
    assert (found.low, found.high) == pytest.approx((low[0], high[0]))


def test_without_common_problems_or_with_one_there_is_no_number_or_interval() -> None:
    one, other = pd.DataFrame([rollout("a", range(9))]), pd.DataFrame([rollout("b", range(5))])
    frame = measure({"base": one, "later": other}, SETTINGS)
    changes = frame[frame["what"].str.endswith("_change")]
    assert changes["value"].isna().all() and changes["note"].str.startswith("no rollouts").all()
    levels = frame[~frame["what"].str.endswith("_change")]
    assert (
        levels["value"].notna().all()
        and levels["low"].isna().all()
        and (levels["note"] != "").all()
    )


def test_rows_have_unique_keys_and_intervals_hold_their_values() -> None:
    frame = measure({"base": grown(), "a": grown(1), "b": grown(2)}, SETTINGS)
    assert not frame.duplicated(KEY).any()
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all()
    assert frame["note"].str.contains("no interval").sum() == 0


# --- rollouts of a file
# ---------------------------------------------------------------------------


def of_file(stops: Sequence[str], grades: Sequence[str | None]) -> pd.DataFrame:
    """Rollouts of 4 tokens, two a problem, as a file tells their ends and grades."""
    rows = [
        rollout(f"p{i // 2}", range(4), ended=stop == "eos")
        | {"stop_reason": stop, "file_grade": grade}
        for i, (stop, grade) in enumerate(zip(stops, grades, strict=True))
    ]
    return pd.DataFrame(rows)


def test_rollouts_whose_end_is_unknown_are_in_no_share_of_natural_stops() -> None:
    rows = of_file(["eos", "length", "unknown", "unknown", "eos", "other"], [None] * 6)
    frame = measure({"base": rows}, SETTINGS)
    found = value(frame, "natural_stop_share")
    assert (found.value, found.rollouts, found.problems) == (0.5, 4, 2)
    assert (
        value(frame, "response_tokens_mean").value == 4
        and value(frame, "response_tokens_mean").rollouts == 6
    )
    assert "at least: 2 of 6 rollouts were cut off" in value(frame, "response_tokens_mean").note


def test_where_no_end_is_known_there_is_no_share_of_natural_stops_and_no_change_of_it() -> None:
    unknown, known = (
        of_file(["unknown"] * 4, [None] * 4),
        of_file(["eos", "length"] * 2, [None] * 4),
    )
    frame = measure({"base": unknown, "later": known}, SETTINGS)
    assert (
        math.isnan(value(frame, "natural_stop_share").value)
        and value(frame, "natural_stop_share").rollouts == 0
    )
    assert value(frame, "natural_stop_share", "later").value == 0.5
    change = value(frame, "natural_stop_share_change", "later")
    assert (
        math.isnan(change.value)
        and "2 of 2 problems have no value for base, left out" in change.note
    )
    half = measure(
        {"base": of_file(["unknown", "unknown", "eos", "unknown"], [None] * 4), "later": known},
        SETTINGS,
    )
    change = value(half, "natural_stop_share_change", "later")
    assert (change.value, change.problems) == (-0.5, 1)
    assert value(frame, "response_tokens_mean_change", "later").value == 0


def test_verdicts_of_the_file_are_a_rule_of_their_own_over_the_rollouts_that_have_one() -> None:
    base = of_file(["eos"] * 6, ["correct", "wrong", "correct", None, "no_answer", "correct"])
    later = of_file(["eos"] * 6, [None] * 6)
    frame = measure({"base": base, "later": later}, SETTINGS)
    found = value(frame, "accuracy", condition="file")
    assert (found.value, found.rollouts, found.answer_rule) == (0.6, 5, "file")
    assert found.note.endswith("graded by the file that the rollouts came from")
    assert value(frame, "no_answer_share", condition="file").value == pytest.approx(0.2)
    assert value(frame, "accuracy", condition="last_boxed").value == 0
    assert not (frame[frame.checkpoint == "later"]["answer_rule"] == "file").any()
    assert not (measure({"base": later}, SETTINGS)["answer_rule"] == "file").any()


def test_what_tools_wrote_is_neither_length_nor_repetition() -> None:
    """Own tokens 1 2 3 4; a tool repeats itself between them."""
    row = rollout("a", [1, 2, 7, 7, 7, 7, 7, 3, 4]) | {
        "response_mask": np.array([1, 1, 0, 0, 0, 0, 0, 1, 1, 1])
    }
    whole = rollout("b", [1, 2, 3, 4]) | {"response_mask": None}
    frame = measure({"base": pd.DataFrame([row, whole])}, SETTINGS)
    assert value(frame, "response_tokens_mean").value == 4
    assert value(frame, "repetition_3gram").value == 0
