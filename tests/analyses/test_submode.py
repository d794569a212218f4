"""Sub-mode statistics on tables small enough to count by hand, against a slow definition, with what
must not be mixed up."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decaylab.analyses.submode import QUANTITIES, Settings, measure, measure_styles
from decaylab.maths import top_share
from decaylab.maths.statistics import paired_difference, proportion
from decaylab.maths.token_means import difference
from decaylab.problems.abacus import generate
from decaylab.problems.abacus_writing import Habits, respond
from decaylab.tokens.noise_floor import KEY, with_noise_floor
from decaylab.tokens.token_table import Scored, TokenTable

SETS = ("common", "own", "common, two modes", "own, two modes")


def table(
    lengths: Sequence[int],
    problems: Sequence[int],
    kl: Sequence[float],
    rank: Sequence[int],
    top1: Sequence[float],
    second: Sequence[float],
) -> TokenTable:
    columns = {
        "reverse_kl": np.asarray(kl, dtype=np.float32),
        "student_top1_rank": np.asarray(rank, dtype=np.int32),
        "student_top1_probability": np.asarray(top1, dtype=np.float32),
        "teacher_top2_probability": np.asarray(second, dtype=np.float32),
    }
    return TokenTable(np.array(lengths), np.array(problems), max(problems) + 1, columns)


def at(
    frame: pd.DataFrame, what: str, condition: str, checkpoint: str = "base", view: str = "frozen"
) -> pd.Series:
    chosen = (frame["what"] == what) & (frame["condition"] == condition)
    (found,) = (
        row
        for _, row in frame[
            chosen & (frame["checkpoint"] == checkpoint) & (frame["view"] == view)
        ].iterrows()
    )
    return found


def by_hand() -> list[Scored]:
    """Eight tokens in three rollouts of two problems, half of them in the set; base, and a
    checkpoint on its text.

    Mean KL of the two: 4.5 4.0 .5 1.0 | 2.5 2.0 | 1.5 3.0, so the common set is rows 0 1 4 7.
    Base's own highest are 9 8 2 5: rows 0 1 4 7 as well; the checkpoint's are 4 3 6 4 ... : rows 3,
    4, 5, 6.
    """
    place = ([4, 2, 2], [0, 0, 1])
    second = [0.3, 0.05, 0.3, 0.1, 0.1, 0.0, 0.2, 0.4]
    base = table(
        *place,
        kl=[9, 8, 1, 0, 2, 1, 0, 5],
        rank=[1, 2, 1, 1, 5, 1, 1, 6],
        top1=[0.5, 0.7, 1, 1, 0.9, 1, 1, 0.3],
        second=second,
    )
    later = table(
        *place,
        kl=[0, 0, 0, 2, 3, 3, 3, 1],
        rank=[1, 1, 1, 3, 2, 7, 2, 4],
        top1=[0.6, 0.9, 1, 0.4, 0.9, 0.2, 0.8, 0.6],
        second=second,
    )
    return [
        Scored("base", "frozen", base),
        Scored("base", "fresh", base),
        Scored("later", "frozen", later),
    ]


HALF = Settings(share=0.5)


def simulated(
    seed: int = 0, problems: int = 12, models: Sequence[str] = ("base", "a", "b")
) -> list[Scored]:
    """Models on one set of frozen rollouts, and each on its own; ranks and KL go together."""
    rng = np.random.default_rng(seed)

    def drawn(lengths: Any, codes: Any) -> TokenTable:
        count = int(lengths.sum())
        kl, second = rng.exponential(size=count), rng.uniform(0, 0.5, count)
        rank = 1 + rng.poisson(1 + kl)
        made = table(lengths, codes, kl, rank, rng.uniform(0.3, 1, count), second)
        return TokenTable(made.lengths, made.problems, problems, made._columns)

    def layout() -> tuple[Any, Any]:
        codes = np.repeat(np.arange(problems), rng.integers(1, 4, problems))
        return rng.integers(0, 80, codes.size), codes

    frozen = layout()
    scored = [Scored(name, "frozen", drawn(*frozen)) for name in models]
    fresh = [Scored(name, "fresh", drawn(*layout())) for name in models if name != "base"]
    return [*scored, Scored("base", "fresh", scored[0].tokens), *fresh]


# --- the four quantities on each set
# ---------------------------------------------------------------------------


def test_the_common_set_by_hand() -> None:
    """Base on rows 0 1 4 7: ranks 1 2 5 6, so 1/4, 2/4, 1/4; top-1 (.5 + .7 + .9 + .3) / 4 = .6.

    The checkpoint on the same rows: ranks 1 1 2 4, so 2/4, 2/4, 0; top-1 (.6 + .9 + .9 + .6) / 4 =
    .75.
    """
    frame = measure(by_hand(), HALF)
    expected = {"base": (0.6, 0.25, 0.5, 0.25), "later": (0.75, 0.5, 0.5, 0.0)}
    for checkpoint, values in expected.items():
        rows = [at(frame, what, "common", checkpoint) for what in QUANTITIES]
        assert [row.value for row in rows] == pytest.approx(values)
        assert all(
            (row.tokens, row.rollouts, row.problems, row.unit) == (4, 3, 2, "fraction")
            for row in rows
        )


def test_each_models_own_set_by_hand() -> None:
    """The checkpoint's own rows 3 4 5 6: ranks 3 2 7 2, so 0, 3/4, 1/4; top-1 (.4 + .9 + .2 + .8) /
    4 = .575."""
    frame = measure(by_hand(), HALF)
    found = [at(frame, what, "own", "later").value for what in QUANTITIES]
    assert found == pytest.approx((0.575, 0, 0.75, 0.25))


def test_ranks_2_and_5_are_inside_the_top_5_and_rank_1_is_not_among_2_to_5() -> None:
    scored = Scored(
        "base", "fresh", table([6], [0], range(6), [1, 2, 5, 6, 1, 5], [0.5] * 6, [0.2] * 6)
    )
    frame = measure([scored], Settings(share=0.999))
    found = [at(frame, what, "own", view="fresh").value for what in QUANTITIES[1:]]
    assert found == pytest.approx([2 / 6, 3 / 6, 1 / 6])


def test_two_modes_restrict_the_set_that_was_chosen_first() -> None:
    """Of rows 0 1 4 7 the teacher's second token has .3 .05 .1 .4: three of four, .1 among them;
    ranks of base 1 5 6.

    A quarter of the table is rows 0 1, of which row 0 has two modes. Restricted first, a quarter of
    the six tokens with two modes would be rows 0 7.
    """
    frame = measure(by_hand(), HALF)
    assert at(frame, "two_mode_share", "common").value == 0.75
    found = [at(frame, what, "common, two modes") for what in QUANTITIES]
    assert [row.value for row in found] == pytest.approx([1.7 / 3, 1 / 3, 1 / 3, 1 / 3])
    assert all(row.tokens == 3 and row.rollouts == 3 for row in found)
    quarter = at(
        measure(by_hand(), Settings(share=0.25)), "equals_teacher_top1", "common, two modes"
    )
    assert (quarter.value, quarter.tokens) == (1, 1)
    assert at(frame, "two_mode_share", "own", "later").value == 0.75  # rows 3 4 6 of 3 4 5 6


def test_values_agree_with_a_slow_definition_in_every_set_and_view() -> None:
    scored, settings = simulated(), Settings(share=0.1, second_mode=0.2)
    frame = measure(scored, settings)
    frozen = [one for one in scored if one.view == "frozen"]
    for one in scored:
        for condition in SETS if one.view == "frozen" else SETS[1::2]:
            used = frozen if condition.startswith("common") else [one]
            kl = [
                sum(float(other.tokens["reverse_kl"][i]) for other in used)
                for i in range(len(one.tokens))
            ]
            ranked = sorted(range(len(kl)), key=lambda i: (-kl[i], i))[: math.ceil(0.1 * len(kl))]
            if condition.endswith("two modes"):
                ranked = [i for i in ranked if one.tokens["teacher_top2_probability"][i] >= 0.2]
            ranks = [int(one.tokens["student_top1_rank"][i]) for i in ranked]
            top1 = [float(one.tokens["student_top1_probability"][i]) for i in ranked]
            expected = [
                sum(top1),
                ranks.count(1),
                sum(2 <= r <= 5 for r in ranks),
                sum(r > 5 for r in ranks),
            ]
            found = [at(frame, what, condition, one.checkpoint, one.view) for what in QUANTITIES]
            assert [row.value for row in found] == pytest.approx(
                [x / len(ranked) for x in expected]
            )
            assert all(row.tokens == len(ranked) for row in found)


def test_intervals_are_those_of_a_set_whose_threshold_is_estimated() -> None:
    scored = simulated()
    one, frame = scored[-1], measure(scored, Settings(level=0.9))
    tokens, top = one.tokens, top_share.top_tokens(one.tokens["reverse_kl"], 0.1)
    problems = tokens.token_problems
    behind, inside = (
        np.bincount(problems, minlength=12).astype(float),
        np.ones(top.rows.size, dtype=bool),
    )
    equal = (tokens["student_top1_rank"][top.rows] == 1).astype(float)
    expected = top_share.means(top, equal[:, None], problems[top.rows], behind, inside)
    low, high = top_share.interval(expected, level=0.9)
    row = at(frame, "equals_teacher_top1", "own", one.checkpoint, "fresh")
    assert (row.low, row.high, row.standard_error) == pytest.approx(
        (low[0], high[0], expected.standard_error[0])
    )
    assert row.level == 0.9


# --- changes
# ---------------------------------------------------------------------------


def test_changes_by_hand() -> None:
    """On rows 0 1 4 7: top-1 .75 - .6, equal 2/4 - 1/4, in 2 to 5 the same share of other tokens,
    outside 0 - 1/4."""
    frame = measure(by_hand(), HALF)
    found = [at(frame, f"{what}_change", "common", "later") for what in QUANTITIES]
    assert [row.value for row in found] == pytest.approx([0.15, 0.25, 0, -0.25])
    assert set(frame.loc[frame["what"].str.endswith("_change"), "condition"]) == {
        "common",
        "common, two modes",
    }


def test_changes_are_paired_by_problem_on_the_same_tokens() -> None:
    scored = simulated()
    row = at(measure(scored, Settings()), "in_teacher_top2to5_change", "common", "a")
    top = top_share.top_tokens(
        sum(one.tokens["reverse_kl"].astype(float) for one in scored[:3]), 0.1
    )
    sides = []
    for one in (scored[1], scored[0]):
        rank, problems = one.tokens["student_top1_rank"][top.rows], one.tokens.token_problems
        behind = np.bincount(problems, minlength=12).astype(float)
        inside = ((rank > 1) & (rank < 6)).astype(float)[:, None]
        sides.append(
            top_share.means(top, inside, problems[top.rows], behind, np.ones(rank.size, dtype=bool))
        )
    expected = difference(*sides)
    assert (row.value, row.standard_error) == pytest.approx(
        (expected.value[0], expected.standard_error[0])
    )
    unpaired = math.hypot(*(side.standard_error[0] for side in sides))
    assert (
        row.standard_error != pytest.approx(unpaired, rel=0.01) and row.low < row.value < row.high
    )


def test_a_model_that_did_not_change_has_a_change_of_0_and_no_interval() -> None:
    base = simulated(models=["base"])[0]
    frame = measure([base, Scored("same", "frozen", base.tokens)], Settings())
    changes = frame[frame["what"].str.endswith("_change")]
    assert len(changes) == 8 and (changes["value"] == 0).all() and changes["low"].isna().all()
    assert (changes["note"] == "the change is the same in every problem: no interval").all()


# --- which sets there are
# ---------------------------------------------------------------------------


def test_the_common_set_is_one_for_all_models_and_depends_on_all_of_them() -> None:
    frame, alone = measure(by_hand(), HALF), measure(by_hand()[:1], HALF)
    assert (
        at(alone, "equals_teacher_top1", "common").value
        == at(alone, "equals_teacher_top1", "own").value
    )
    scored = by_hand()
    far = table([4, 2, 2], [0, 0, 1], [0, 0, 99, 99, 0, 99, 99, 0], [1] * 8, [1] * 8, [0.2] * 8)
    drawn_off = measure([*scored, Scored("far", "frozen", far)], HALF)
    assert at(drawn_off, "equals_teacher_top1", "common").value == 1  # rows 2 3 5 6
    assert at(frame, "equals_teacher_top1", "common").value == 0.25
    assert (
        at(drawn_off, "equals_teacher_top1", "own").value
        == at(frame, "equals_teacher_top1", "own").value
    )


def test_there_is_no_common_set_on_fresh_rollouts() -> None:
    frame = measure(simulated(), Settings())
    fresh = frame[frame["view"] == "fresh"]
    assert set(fresh["condition"]) == {"own", "own, two modes"} and set(fresh["checkpoint"]) == {
        "base",
        "a",
        "b",
    }
    assert not measure([one for one in simulated() if one.view == "fresh"], Settings()).empty


def test_frozen_tables_of_other_tokens_are_refused() -> None:
    scored = simulated()
    other = Scored("a", "frozen", scored[-1].tokens)
    with pytest.raises(ValueError, match="frozen tokens of a differ from those of base"):
        measure([scored[0], other], Settings())


def test_keys_are_unique_and_intervals_hold_their_values() -> None:
    frame = measure(simulated(), Settings())
    assert not frame.duplicated(KEY).any()
    assert (
        len(frame) == 3 * 18 + 3 * 9 + 2 * 8
    )  # frozen on two sets, fresh on one, changes of two checkpoints
    assert ((frame["low"] <= frame["value"]) & (frame["value"] <= frame["high"])).all() and (
        frame["note"] == ""
    ).all()


def test_a_set_without_a_second_mode_is_undefined_and_says_so() -> None:
    frame = measure(by_hand(), Settings(share=0.5, second_mode=0.9))
    found = at(frame, "equals_teacher_top1", "common, two modes")
    assert math.isnan(found.value) and (found.note, found.tokens, found.rollouts) == (
        "no tokens",
        0,
        0,
    )
    assert at(frame, "two_mode_share", "common").value == 0


def test_the_noise_floor_is_that_of_the_very_share_with_the_set_chosen_anew() -> None:
    """The second route ranks rows 2 3 5 6 highest instead of 0 1 4 7, all of rank 1: equal to the
    teacher's 1 for 1/4."""
    base = by_hand()[0]
    second = table(
        [4, 2, 2],
        [0, 0, 1],
        [0, 0, 9, 9, 0, 9, 9, 0],
        [1, 2, 1, 1, 5, 1, 1, 6],
        [0.5] * 8,
        [0.2] * 8,
    )
    twice = replace(base, floor_rollouts=np.ones(3, dtype=bool), rescored=second)
    frame = with_noise_floor(lambda entries: measure(entries, HALF), [twice])
    for condition in ("common", "own"):
        row = at(frame, "equals_teacher_top1", condition)
        assert (row.value, row.noise_floor, row.under_floor) == (0.25, 0.75, True)
    same = replace(base, floor_rollouts=np.ones(3, dtype=bool), rescored=base.tokens)
    frame = with_noise_floor(lambda entries: measure(entries, HALF), [same])
    assert (frame["noise_floor"] == 0).all() and not frame["under_floor"].any()


# --- styles
# ---------------------------------------------------------------------------


def responses(texts: Sequence[str], problems: Sequence[str]) -> pd.DataFrame:
    ids = [list(range(len(text) + 1)) for text in texts]
    return pd.DataFrame(
        {"text": texts, "problem_id": problems, "response_ids": ids, "stop_reason": "eos"}
    )


def test_wordy_share_by_hand() -> None:
    """One of four after, none of three before; the fifth response is empty and has no style, so 1/4
    and not 1/5."""
    later = responses(["Then", "1+1=2", "2=2", "3=3", ""], ["p", "p", "q", "q", "q"])
    base = responses(["1=1", "2=2", "3=3"], ["p", "p", "q"])
    frame = measure_styles({"base": base, "later": later}, Settings())
    levels = [at(frame, "wordy_share", "", name, "fresh") for name in ("base", "later")]
    assert [(row.value, row.rollouts) for row in levels] == [(0, 3), (0.25, 4)]
    assert (
        levels[1].note == "1 of 5 responses are empty, left out"
        and levels[1].tokens == 4 + 5 + 3 + 3
    )
    change = at(frame, "wordy_share_change", "", "later", "fresh")
    assert (change.value, change.problems, change.unit) == (
        0.25,
        2,
        "fraction",
    ) and change.low < 0.25 < change.high


def test_the_styles_of_the_abacus_world_are_told_apart_and_clustered_by_problem() -> None:
    rng = np.random.default_rng(0)
    problems = generate(20, seed=0)
    even = (1 / 3, 1 / 3, 1 / 3)
    concise = Habits(0.0, 0.5, 0.5, 0.5, even, even, slips=(0.1, 0.1), checks=0.2)
    writers = (concise, replace(concise, verbose=1.0))
    chosen = rng.random((20, 3)) < rng.random((20, 1))
    texts = [
        respond(problems[place], writers[int(verbose)], random.Random(place))
        for place, row in enumerate(chosen)
        for verbose in row
    ]
    names = [f"p{i}" for i in range(20) for _ in range(3)]
    row = at(
        measure_styles({"base": responses(texts, names)}, Settings()),
        "wordy_share",
        "",
        view="fresh",
    )
    expected = proportion(chosen.ravel(), np.repeat(np.arange(20), 3))
    assert (row.value, row.low, row.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


def test_changes_of_style_are_over_common_problems_against_the_mean_of_base_on_each() -> None:
    """p: 1 1 against 1 0 -> .5 each; q: 0 against 0; r was not asked of base: (.5 + .5 + 0) / 3."""
    later = responses(["A", "B", "1=1", "C"], ["p", "p", "q", "r"])
    base = responses(["A", "1=1", "2=2"], ["p", "p", "q"])
    change = at(
        measure_styles({"base": base, "later": later}, Settings()),
        "wordy_share_change",
        "",
        "later",
        "fresh",
    )
    expected = paired_difference([1, 1, 0], [0.5, 0.5, 0], [0, 0, 1])
    assert (change.value, change.low, change.high) == pytest.approx(
        (1 / 3, expected.low, expected.high)
    )
    assert (
        change.note == "1 of 3 problems have no rollouts of base, left out" and change.rollouts == 3
    )
