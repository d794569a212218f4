"""Rollouts to look at: their tokens are those that were scored, and a continuation stands behind
its own prefix."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from command_line import SMALL, _SharedGrader, decaylab
from transformers import AutoTokenizer

from decaylab.commands import diagnose
from decaylab.errors import UserError
from decaylab.problems.sets import load_problems
from decaylab.runs import store
from decaylab.tokens import viewed
from decaylab.tokens.category_rules import CategoryRules

ASKED = ("--limit", "3", "--samples", "2", "--max-tokens", "24")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decay run and a diagnostic over the same rollouts, of which five are kept."""
    root = tmp_path_factory.mktemp("viewed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnose, "Grader", _SharedGrader)
        assert decaylab("prefix-decay", *SMALL, "--out", root / "decay").code == 0
        words = ("--view-rollouts", "5", "--cache", root / "cache", "--out", root / "kl")
        assert decaylab("position-kl", *ASKED, *words).code == 0
    return root


@pytest.fixture(scope="module")
def kept(runs: Path) -> viewed.Viewed:
    return viewed.read(runs / "kl")


def scored(runs: Path, name: str) -> pd.DataFrame:
    (folder,) = {
        path.parent for path in (runs / "cache").glob("tokens-*/top5.parquet") if rows(path)
    }
    return pq.read_table(folder / f"{name}.parquet").to_pandas()


def rows(path: Path) -> int:
    return int(pq.read_metadata(path).num_rows)


def test_the_first_rollouts_are_kept_with_problem_verdict_and_end(
    runs: Path, kept: viewed.Viewed
) -> None:
    assert len(kept.rollouts) == 5
    decay = store.read_table(runs / "decay" / "rollouts.parquet", store.ROLLOUTS).to_pandas()
    asked = (
        store.read_table(runs / "decay" / "problems.parquet", store.PROBLEMS)
        .to_pandas()
        .set_index("problem_id")
    )
    own = decay[decay["condition"] == "student"].set_index(["problem_id", "sample"])
    for row in kept.rollouts.itertuples():
        other = own.loc[(row.problem_id, row.sample)]
        assert (row.verdict, row.stop_reason) == (other["grade_last_boxed"], other["stop_reason"])
        assert row.response_tokens == len(other["response_ids"])
        assert (row.question, row.answer) == tuple(
            asked.loc[row.problem_id, ["question", "answer"]]
        )


def test_steps_are_those_of_the_problem_and_absent_where_it_has_no_chain(
    kept: viewed.Viewed,
) -> None:
    """By another route: the chain's equations, spelt out, are what the right steps hold."""
    problems = {
        problem.problem_id: problem for problem in load_problems("abacus", limit=3).problems
    }
    right = 0
    for row in kept.rollouts.itertuples():
        pieces = list(kept.tokens[kept.tokens["rollout_id"] == row.rollout_id]["token"])
        chain = problems[row.problem_id].steps
        assert chain is not None
        for step, expected in zip(row.steps, chain):
            written = "".join(pieces[step["start"] : step["end"]])
            assert (str(expected) in written.replace(" ", "")) == (step["verdict"] == "right")
            right += step["verdict"] == "right"
    assert right > 0
    unknown = dataclasses.replace(problems[row.problem_id], steps=None)
    assert viewed.steps_of(unknown, pieces) == {"steps": None, "first_wrong_token": None}


def test_the_statistics_are_those_of_the_scored_tokens(runs: Path, kept: viewed.Viewed) -> None:
    table = scored(runs, "tokens").astype({"rollout_id": str})
    table = table[table["rollout_id"].isin(kept.rollouts["rollout_id"])].reset_index(drop=True)
    assert len(table) == len(kept.tokens) == kept.rollouts["response_tokens"].sum()
    for name in ("rollout_id", "position", "token_id", *viewed.STATISTICS, *viewed.RANKS):
        np.testing.assert_array_equal(kept.tokens[name].to_numpy(), table[name].to_numpy())


def test_the_likeliest_tokens_are_told_as_texts_with_their_probabilities(
    runs: Path, kept: viewed.Viewed
) -> None:
    tokenizer = AutoTokenizer.from_pretrained("data/abacus/student")
    table = scored(runs, "top5").set_index(["rollout_id", "position", "policy"])
    for row in kept.tokens.iloc[::7].to_dict("records"):
        for policy in ("student", "teacher"):
            wanted = table.loc[(row["rollout_id"], row["position"], policy)]
            assert list(row[f"{policy}_top"]) == [tokenizer.decode([one]) for one in wanted["ids"]]
            np.testing.assert_array_equal(
                row[f"{policy}_top_probabilities"], wanted["probabilities"]
            )
        likely = dict(zip(row["student_top"], row["student_top_probabilities"]))
        if row["token"] in likely:  # the probability of the token that was taken, by another way
            assert likely[row["token"]] == pytest.approx(np.exp(row["student_logprob"]), rel=1e-4)


def test_categories_are_those_of_the_whole_text(kept: viewed.Viewed) -> None:
    rules = CategoryRules.load(None)
    for _, own in kept.tokens.groupby("rollout_id"):
        codes = rules.classify(list(own["token"]), np.array([len(own)]))
        plain = own["token"].to_numpy() != "<|end|>"
        told = own["category"].to_numpy()
        assert list(told[plain]) == [rules.names[code] for code in codes[plain]]
        assert set(told[~plain]) <= {"end_of_turn"}


def test_a_continuation_stands_behind_its_own_prefix_with_its_own_verdict(
    runs: Path, kept: viewed.Viewed
) -> None:
    found = viewed.continuations(kept, runs / "decay", "last_boxed")
    decay = store.read_table(runs / "decay" / "rollouts.parquet", store.ROLLOUTS).to_pandas()
    written = decay[decay["condition"] == "student-prefix"]
    ids = kept.rollouts.set_index("rollout_id")
    pieces = kept.tokens.groupby("rollout_id")["token"].apply(list)
    assert set(found["prefix_tokens"]) == {4, 8} and set(found["rollout_id"]) == set(ids.index)
    for row in found.itertuples():
        author = decay[
            (decay["condition"] == "student")
            & (decay["problem_id"] == ids.problem_id[row.rollout_id])
        ]
        author = author[author["sample"] == ids["sample"][row.rollout_id]].iloc[0]
        theirs = written[written["prefix_rollout_id"] == author["rollout_id"]]
        (other,) = theirs[theirs["prefix_tokens"] == row.prefix_tokens].to_dict("records")
        assert "".join(pieces[row.rollout_id][: row.prefix_tokens]) + row.text == other["text"]
        assert (row.verdict, row.stop_reason) == (other["grade_last_boxed"], other["stop_reason"])


def test_nothing_is_attached_to_a_rollout_of_other_tokens(runs: Path, kept: viewed.Viewed) -> None:
    first = kept.rollouts["rollout_id"].iloc[0]
    tokens = kept.tokens.copy()
    tokens.loc[(tokens["rollout_id"] == first) & (tokens["position"] == 20), "token_id"] += 1
    found = viewed.continuations(viewed.Viewed(kept.rollouts, tokens), runs / "decay", "last_boxed")
    assert first not in set(found["rollout_id"]) and len(found) > 0


def test_no_rollout_is_kept_where_none_was_asked_for(runs: Path) -> None:
    words = ("--view-rollouts", "0", "--cache", runs / "cache", "--out", runs / "none")
    assert decaylab("position-kl", *ASKED, *words).code == 0
    assert viewed.read(runs / "none").rollouts.empty


def test_a_run_without_scored_tokens_says_what_makes_them(runs: Path) -> None:
    with pytest.raises(UserError, match="has no scored tokens to view; run a diagnostic such as"):
        viewed.read(runs / "decay")
