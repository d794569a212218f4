"""KL by category and by token: a table by hand, every number against slow loops, and the shape of
the published tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest

from decaylab.analyses.category_kl import ALIKE, NO_KL, Settings, measure
from decaylab.paper import publication
from decaylab.runs.measurements import COLUMNS
from decaylab.runs.skewed_cells import NO_TOKENS, NOT_FINITE, RARE_PROBLEMS
from decaylab.tokens import task_categories
from decaylab.tokens.category_rules import CategoryRules
from decaylab.tokens.noise_floor import KEY, with_noise_floor
from decaylab.tokens.token_table import Scored, TokenTable

END = 9
RULES = CategoryRules.load(None)
# Pieces and KL of each rollout; problems 0, 0, 1, and 2 of no rollout. The last token of the first
# is the end of its turn.
HAND = (
    (0, [("To", 4.0), (" add", 1.0), (" 3", 0.0), ("<end>", 1.0)]),
    (0, [("To", 2.0), (" 4", 0.5)]),
    (1, [(" \\", 6.0), ("(", 1.0), ("\n", 0.5)]),
)
WORDS = ["To", " add", " 3", "1", "2", " \\", "(", "\n", "The", "re", "fore", " +", "<end>", ""]


def table(
    rollouts: Sequence[tuple[int, Sequence[tuple[str, float]]]], problem_count: int = 3
) -> TokenTable:
    tokens = [token for _, one in rollouts for token in one]
    columns = {
        "token": np.array([piece for piece, _ in tokens], dtype=object),
        "token_id": np.array([END if piece == "<end>" else 0 for piece, _ in tokens]),
        "reverse_kl": np.array([kl for _, kl in tokens], dtype=np.float32),
    }
    lengths = np.array([len(one) for _, one in rollouts])
    return TokenTable(
        lengths, np.array([problem for problem, _ in rollouts]), problem_count, columns
    )


def random_rollouts(seed: int = 0, count: int = 40) -> list[tuple[int, list[tuple[str, float]]]]:
    """Of 8 problems, ragged, some without a token; KL that goes with the problem."""
    rng = np.random.default_rng(seed)
    rollouts = []
    for _ in range(count):
        problem, length = int(rng.integers(0, 8)), int(rng.integers(0, 25))
        pieces = [WORDS[index] for index in rng.integers(0, len(WORDS), length)]
        rollouts.append(
            (
                problem,
                [(piece, float(np.float32(rng.exponential(1 + problem)))) for piece in pieces],
            )
        )
    return rollouts


def measured(
    rollouts: Sequence[tuple[int, Sequence[tuple[str, float]]]], **changes: Any
) -> pd.DataFrame:
    settings = Settings(**{"edges": (0, 1, 3), "min_count": 1, **changes})
    frame = measure([Scored("base", "fresh", table(rollouts, 8))], settings, RULES, [END])
    assert tuple(frame.columns) == COLUMNS and not frame.duplicated(KEY).any()
    return frame


def rows(frame: pd.DataFrame, what: str, *names: str) -> pd.DataFrame:
    chosen = frame[frame["what"] == what]
    return chosen.set_index(list(names)) if names else chosen


def flat(
    rollouts: Sequence[tuple[int, Sequence[tuple[str, float]]]],
) -> list[tuple[int, int, int, str, str, float]]:
    """(rollout, problem, position, category, piece, KL) of each token; categories rollout by
    rollout."""
    found = []
    for number, (problem, one) in enumerate(rollouts):
        pieces = [piece for piece, _ in one]
        codes = RULES.classify(
            pieces,
            np.array([len(one)]),
            np.array([piece == "<end>" for piece in pieces], dtype=bool),
        )
        for position, ((piece, kl), code) in enumerate(zip(one, codes, strict=True)):
            found.append((number, problem, position, RULES.names[code], piece, kl))
    return found


def test_by_hand() -> None:
    """KL 16 over 9 tokens: planning 6 of 2, latex 7 of 2, numbers .5 of 2, structural .5 of 1, rest
    1 of 1, end 1 of 1."""
    frame = measured(HAND)
    whole = rows(frame, "mean_reverse_kl", "category")
    values = {
        "planning": 3,
        "math_latex": 3.5,
        "math_number": 0.25,
        "structural": 0.5,
        "continuation": 1,
        "end_of_turn": 1,
    }
    assert whole["value"].dropna().to_dict() == values
    assert (whole["position_low"] == 0).all() and np.isinf(whole["position_high"]).all()
    assert whole.loc["planning", ["problems", "rollouts", "tokens", "note"]].tolist() == [
        1,
        2,
        2,
        RARE_PROBLEMS,
    ]
    assert whole.loc["math_operator", ["problems", "rollouts", "tokens", "note"]].tolist() == [
        0,
        0,
        0,
        NO_TOKENS,
    ]
    share = rows(frame, "kl_share", "category")["value"]
    assert (
        share["math_latex"] == 7 / 16
        and share["math_number"] == 0.5 / 16
        and share["math_operator"] == 0
    )
    assert rows(frame, "token_share", "category").loc["math_latex", "value"] == 2 / 9
    binned = rows(frame, "reverse_kl", "category", "position_low", "position_high")["value"]
    assert (
        binned["planning", 0, 1] == 3
        and binned["math_latex", 0, 1] == 6
        and binned["math_latex", 1, 3] == 1
    )
    assert binned["end_of_turn", 3, math.inf] == 1 and math.isnan(binned["planning", 1, 3])
    token = rows(frame, "token_mean_reverse_kl", "token")
    assert token.loc["To", ["value", "tokens", "category", "unit"]].tolist() == [
        3,
        2,
        "planning",
        "nats",
    ]
    assert (
        token.loc["<end>", "category"] == "end_of_turn"
        and token.loc["↵", "category"] == "structural"
    )
    assert rows(frame, "token_kl_share", "token").loc["To", "value"] == 6 / 16


def test_the_other_estimand_is_the_mean_of_problem_means() -> None:
    """Of the three brackets, problem 0 has 1 and 3 and problem 1 has 8: (2 + 8) / 2, not 12 / 3;
    shares 4/5 and 8/16."""
    rollouts = [(0, [("(", 1.0), ("(", 3.0), ("a", 1.0)]), (1, [("(", 8.0), ("a", 8.0)])]
    frame = measured(rollouts, estimand="problems")
    mean = rows(frame, "mean_reverse_kl", "category").loc["structural"]
    assert (mean["value"], mean["estimand"]) == (5, "mean of problem means")
    share = rows(frame, "kl_share", "category").loc["structural"]
    assert (share["value"], share["estimand"]) == (
        pytest.approx((4 / 5 + 8 / 16) / 2),
        "mean of problem shares",
    )
    tokens = measured(rollouts)
    assert rows(tokens, "mean_reverse_kl", "category").loc[
        "structural", ["value", "estimand"]
    ].tolist() == [4, "mean over tokens"]
    assert rows(tokens, "kl_share", "category").loc["structural", "value"] == pytest.approx(12 / 21)


@pytest.mark.parametrize("seed", range(3))
def test_means_and_shares_agree_with_slow_loops(seed: int) -> None:
    rollouts = random_rollouts(seed)
    tokens, frame = flat(rollouts), measured(rollouts)
    total = sum(kl for *_, kl in tokens)
    for row in frame[~frame["what"].str.contains("winsorised|largest")].itertuples():
        own = [one for one in tokens if row.position_low <= one[2] < row.position_high]
        if row.what.startswith("token_") and row.token:
            shown = {"": "(part of a character)", "\n": "↵"}
            own = [one for one in own if shown.get(one[4], one[4].replace(" ", "␣")) == row.token]
        else:
            own = [one for one in own if one[3] == row.category]
        kl = sum(one[5] for one in own)
        expected = {
            "reverse_kl": kl / len(own) if own else math.nan,
            "mean_reverse_kl": kl / len(own) if own else math.nan,
            "token_mean_reverse_kl": kl / max(len(own), 1),
            "kl_share": kl / total,
            "token_kl_share": kl / total,
            "token_share": len(own) / len(tokens),
        }[row.what]
        assert row.value == pytest.approx(expected, nan_ok=True), row
        behind = tokens if row.what.endswith("share") else own
        counts = (len({one[1] for one in behind}), len({one[0] for one in behind}), len(own))
        assert (row.problems, row.rollouts, row.tokens) == counts, row


def jackknife(
    tokens: list[tuple[int, int, int, str, str, float]], statistic: Callable[[list[Any]], float]
) -> float:
    """sqrt((G-1)/G times the sum over problems of (the number without it less the number)^2)."""
    problems = sorted({one[1] for one in tokens})
    without = [statistic([one for one in tokens if one[1] != problem]) for problem in problems]
    spread = sum((value - statistic(tokens)) ** 2 for value in without)
    return math.sqrt((len(problems) - 1) / len(problems) * spread)


def test_errors_resample_the_problem() -> None:
    tokens, frame = flat(random_rollouts()), measured(random_rollouts())

    def share(kept: list[Any]) -> float:
        return sum(one[5] for one in kept if one[3] == "structural") / sum(one[5] for one in kept)

    def mean(kept: list[Any]) -> float:
        return float(np.mean([one[5] for one in kept if one[3] == "structural"]))

    def tokens_share(kept: list[Any]) -> float:
        return float(np.mean([one[3] == "structural" for one in kept]))

    for what, statistic in (
        ("kl_share", share),
        ("mean_reverse_kl", mean),
        ("token_share", tokens_share),
    ):
        row = rows(frame, what, "category").loc["structural"]
        assert row["standard_error"] == pytest.approx(jackknife(tokens, statistic), rel=1e-6)
        if what != "mean_reverse_kl":
            assert 0 < row["low"] < row["value"] < row["high"]
        clustered_by_rollout = jackknife([(0, one[0], *one[2:]) for one in tokens], statistic)
        assert row["standard_error"] != pytest.approx(clustered_by_rollout, rel=0.02)


def test_categories_share_out_the_whole() -> None:
    frame = measured(random_rollouts())
    for what in ("kl_share", "token_share"):
        assert rows(frame, what)["value"].sum() == pytest.approx(1)
    listed = measured(random_rollouts(), top_tokens=100)
    assert rows(listed, "token_kl_share")["value"].sum() == pytest.approx(1)


def test_a_share_keeps_to_its_range_and_one_that_never_varies_has_no_interval() -> None:
    """Both problems give brackets nearly everything; a category that no problem has is nowhere else
    than at 0."""
    rollouts = [
        (0, [("(", 9.0), ("a", 0.001)]),
        (1, [("(", 1.0), ("a", 0.1)]),
        (2, [("(", 1.0), ("a", 1.0)]),
    ]
    share = rows(measured(rollouts), "kl_share", "category")
    assert share.loc["structural", "high"] == 1 and share.loc["structural", "low"] > 0
    absent = share.loc["planning"]
    assert (
        (absent["value"], absent["note"]) == (0, ALIKE)
        and math.isnan(absent["low"])
        and math.isnan(absent["high"])
    )


def test_policies_that_agree_have_a_mean_of_0_and_no_share() -> None:
    frame = measured([(problem, [(piece, 0.0) for piece, _ in one]) for problem, one in HAND])
    assert rows(frame, "mean_reverse_kl", "category").loc["planning", "value"] == 0
    for what in ("kl_share", "token_kl_share"):
        assert (
            rows(frame, what)["value"].isna().all() and (rows(frame, what)["note"] == NO_KL).all()
        )
    assert rows(frame, "token_share", "category").loc["planning", "value"] == 2 / 9


def test_a_kl_that_is_not_finite_is_said_where_it_counts() -> None:
    frame = measured([*HAND, (1, [("To", math.nan)])])
    mean = rows(frame, "mean_reverse_kl", "category")
    assert mean.loc["planning", "note"] == NOT_FINITE and math.isnan(mean.loc["planning", "value"])
    assert mean.loc["math_latex", "value"] == 3.5
    for estimand in ("tokens", "problems"):
        share = rows(measured([*HAND, (1, [("To", math.nan)])], estimand=estimand), "kl_share")
        assert share["value"].isna().all() and (share["note"] == NO_KL).all()


def test_no_rollouts_have_no_numbers() -> None:
    frame = measured([])
    assert (
        frame["value"].isna().all() and (frame["note"] != "").all() and (frame["tokens"] == 0).all()
    )


def test_tokens_are_listed_by_mean_and_by_share_if_they_are_frequent() -> None:
    """Means 9, 5, 2, 1 at counts 1, 2, 10, 30: shares go 30, 20, 10, 9. One of each: the 5 and the
    1."""
    counts = {"rare": (9.0, 1), "high": (5.0, 2), "often": (2.0, 10), "most": (1.0, 30)}
    rollouts = [
        (index % 2, [(piece, kl)])
        for piece, (kl, count) in counts.items()
        for index in range(count)
    ]
    frame = measured(rollouts, min_count=2, top_tokens=1)
    assert rows(frame, "token_mean_reverse_kl")["token"].tolist() == ["high", "most"]
    assert rows(frame, "token_kl_share", "token")["value"].to_dict() == {
        "high": 10 / 69,
        "most": 30 / 69,
    }
    assert rows(measured(rollouts, min_count=1, top_tokens=2), "token_kl_share")[
        "token"
    ].tolist() == ["rare", "high", "most", "often"]
    assert rows(measured(rollouts, min_count=31), "token_kl_share").empty


def test_a_token_with_its_space_is_another_token() -> None:
    frame = measured([(0, [("First", 1.0), (" First", 3.0)]), (1, [("First", 1.0)])])
    assert rows(frame, "token_mean_reverse_kl", "token")["value"].to_dict() == {
        "␣First": 3,
        "First": 1,
    }


def test_every_checkpoint_and_view_is_measured_by_itself() -> None:
    scored = [
        Scored(name, view, table(random_rollouts(seed), 8))
        for seed, (name, view) in enumerate(
            (("base", "fresh"), ("base", "frozen"), ("step-50", "fresh"))
        )
    ]
    settings = Settings(edges=(0, 4), run="mine", seed=3, level=0.9)
    frame = measure(scored, settings, RULES, [END])
    assert not frame.duplicated(KEY).any()
    assert (frame[["run", "seed", "level"]] == ["mine", 3, 0.9]).all(axis=None)
    for one in scored:
        alone = measure([one], settings, RULES, [END])
        kept = frame[(frame["checkpoint"] == one.checkpoint) & (frame["view"] == one.view)]
        pd.testing.assert_frame_equal(alone, kept.reset_index(drop=True))


def test_a_noise_floor_is_found_for_what_both_routes_measure() -> None:
    """The second route gives a quarter of the rollouts .25 nats more: each mean moves by just
    that."""
    rollouts = random_rollouts(count=80)
    tokens, twice = table(rollouts, 8), np.arange(80) % 4 == 0
    shifted = [
        (problem, [(piece, kl + 0.25) for piece, kl in one]) for problem, one in rollouts[::4]
    ]
    once = partial(measure, settings=Settings(min_count=5), rules=RULES, end_ids=[END])
    frame = with_noise_floor(once, [Scored("base", "fresh", tokens, twice, table(shifted, 8))])
    mean = rows(frame, "mean_reverse_kl")
    assert mean["noise_floor"].to_numpy() == pytest.approx(np.full(len(mean), 0.25), abs=1e-5)
    assert rows(frame, "token_share")["noise_floor"].eq(0).all()
    listed = rows(frame, "token_mean_reverse_kl")["noise_floor"]
    assert listed.notna().any() and listed.dropna().to_numpy() == pytest.approx(0.25, abs=1e-5)


def test_the_published_category_table_lies_in_the_same_cells() -> None:
    cells = [
        "what",
        "condition",
        "view",
        "checkpoint",
        "unit",
        "category",
        "position_low",
        "position_high",
    ]
    frame = measure(
        [Scored("base", "fresh", table(random_rollouts(), 8))], Settings(), RULES, [END]
    )
    ours, theirs = (
        {tuple(row) for row in one[cells].itertuples(index=False)}
        for one in (frame, publication.kl_by_category())
    )
    assert len(theirs) == 36 and theirs <= ours


@pytest.mark.parametrize("edges", [(), (5, 10), (0, 10, 10), (0, 20, 10)])
def test_edges_ascend_from_0(edges: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="edges must ascend from 0"):
        Settings(edges=edges)


OF_TASKS = {
    "code": (
        [("```\n", 1.0), ("def", 2.0), (" f", 4.0), ("():", 0.5), (" 1", 8.0), ("<end>", 0.25)],
        {"layout": 1.0, "keyword": 2.0, "name": 4.0, "operator": 0.5, "literal": 8.0},
    ),
    "calls": (
        [('[{"', 1.0), ("name", 3.0), ('": "', 2.0), ("f", 4.0), ('"}]', 2.0), ("<end>", 0.25)],
        {"call_syntax": 2.0, "function_name": 4.0},
    ),
}


@pytest.mark.parametrize("task", OF_TASKS)
def test_code_and_calls_have_a_table_of_their_categories_by_position(task: str) -> None:
    tokens, means = OF_TASKS[task]
    rules, settings = task_categories.load(task, None), Settings((0, 2), min_count=1)
    scored = [Scored("base", "fresh", table([(0, tokens), (1, tokens)], 2))]
    frame = measure(scored, settings, rules, [END])
    whole = frame[frame.what == "mean_reverse_kl"].set_index("category")
    assert tuple(whole.index) == rules.names
    measured_means = whole.value[whole.tokens > 0].to_dict()
    assert measured_means == {**means, "end_of_turn": 0.25}
    early = frame[(frame.what == "reverse_kl") & (frame.position_low == 0)].set_index("category")
    assert early.tokens.sum() == 4 and early.tokens[next(iter(means))] >= 2


def test_a_token_that_is_rare_among_few_rollouts_has_its_noise_floor_too() -> None:
    """Listed for 4 occurrences on the whole, of which 1 was scored twice."""
    whole = table([(problem, [("a", 1.0), ("b", 2.0)]) for problem in range(4)], 4)
    again = table([(0, [("a", 1.5), ("b", 2.0)])], 4)
    twice = np.array([True, False, False, False])
    entries = [Scored("base", "fresh", whole, twice, again)]
    settings = Settings((0,), min_count=4, top_tokens=5)
    rules = CategoryRules.load(None)
    every = partial(measure, settings=replace(settings, min_count=1), rules=rules, end_ids=())
    frame = with_noise_floor(
        partial(measure, settings=settings, rules=rules, end_ids=()), entries, every
    )
    floors = frame[frame.what == "token_mean_reverse_kl"].set_index("token").noise_floor
    assert floors.to_dict() == {"a": 0.5, "b": 0.0}


def test_a_listed_token_has_the_category_of_its_places_in_the_text() -> None:
    """By itself a star opens a list; between numbers it multiplies, as the table of categories on
    the same page counts it."""
    by_itself = RULES.names[RULES.classify(["*"], np.array([1]))[0]]
    product = [("3", 0.1), ("*", 2.0), ("4", 0.1)]
    frame = measured([(0, product), (1, product)])
    for what in ("token_mean_reverse_kl", "token_kl_share"):
        row = rows(frame, what, "token").loc["*"]
        assert (
            row["category"] == "math_operator"
            and "places" not in row["note"]
            and by_itself == "structural"
        )
    assert rows(frame, "mean_reverse_kl", "category").loc["math_operator", "tokens"] == 2
    mixed = rows(
        measured([(0, product), (1, product), (2, [("*", 1.0), (" a", 1.0)])]),
        "token_mean_reverse_kl",
        "token",
    )
    note = f"{RARE_PROBLEMS}; structural in 1 of 3 places"
    assert tuple(mixed.loc["*", ["category", "note"]]) == ("math_operator", note)


def test_a_token_whose_places_among_the_rescored_are_of_another_category_has_its_noise_floor() -> (
    None
):
    product, item = [("3", 0.1), ("*", 2.0), ("4", 0.1)], [("*", 1.0), (" a", 1.0)]
    whole, again = (
        table([(0, product), (1, product), (2, item)], 3),
        table([(2, [("*", 1.5), (" a", 1.0)])], 3),
    )
    entries = [Scored("base", "fresh", whole, np.array([False, False, True]), again)]
    once = partial(measure, settings=Settings((0,), min_count=1), rules=RULES, end_ids=())
    star = rows(with_noise_floor(once, entries), "token_mean_reverse_kl", "token").loc["*"]
    assert star["category"] == "math_operator" and star["noise_floor"] == 0.5
