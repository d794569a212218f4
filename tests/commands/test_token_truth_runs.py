"""token-truth on the embedded pair: what stands in the folder, resuming, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import Outcome, _SharedGrader, decaylab
from matplotlib import image

from decaylab.commands import token_truth
from decaylab.policies.loading import load_tokenizer_only
from decaylab.policies.policy import LoadSettings
from decaylab.problems.abacus_checking import check_steps
from decaylab.problems.sets import load_problems
from decaylab.runs import measurements, store
from decaylab.runs.vocabulary import ALREADY_WRONG, CORRECT_SO_FAR, TRUTH, gain, row
from decaylab.tokens import score_store
from decaylab.tokens.next_tokens import SetScorer
from decaylab.tokens.pieces import token_pieces
from decaylab.tokens.truth_places import PLACES

SMALL = ("--limit", "6", "--samples", "2", "--max-tokens", "100", "--bins", "0,40")


@pytest.fixture(autouse=True)
def one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_truth, "Grader", _SharedGrader)


def called(out: Path, *more: object) -> Outcome:
    return decaylab("token-truth", *SMALL, "--out", out, "--cache", out.parent / "cache", *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("truth") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(token_truth, "Grader", _SharedGrader)
        return folder, called(folder)


def table_of(folder: Path) -> pd.DataFrame:
    return pd.DataFrame(store.read_table(folder / "places.parquet", PLACES).to_pandas())


def responses(folder: Path) -> dict[str, list[int]]:
    (rollouts,) = (folder.parent / "cache").glob("rollouts-*/rollouts.parquet")
    table = store.read_table(rollouts, store.ROLLOUTS)
    return dict(zip(table["rollout_id"].to_pylist(), table["response_ids"].to_pylist()))


def test_the_run_prints_draws_and_keeps_every_place(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    assert outcome.code == 0, outcome.err
    assert "Token truth" in outcome.out and "true to the problem" in outcome.out
    assert image.imread(folder / "token-truth.png").ndim == 3
    frame, places = measurements.read(folder / "measurements.parquet"), table_of(folder)
    right = places[(places["kind"] == "result") & (places["state"] == CORRECT_SO_FAR)]
    found = row(
        frame,
        **{"what": gain(TRUTH), "condition": CORRECT_SO_FAR},
        **{"position_low": 0.0, "position_high": float("inf")},
    )
    assert found.value == pytest.approx((right["teacher_true"] - right["student_true"]).mean())


def test_a_written_token_outside_the_set_is_where_the_verifier_first_sees_the_error(
    finished: tuple[Path, Outcome],
) -> None:
    folder, _ = finished
    steps = {one.problem_id: one.steps for one in load_problems("abacus", limit=6).problems}
    tokenizer = load_tokenizer_only("abacus-student", LoadSettings(device="cpu")).tokenizer
    pieces = {name: token_pieces(tokenizer, ids) for name, ids in responses(folder).items()}
    places = table_of(folder)
    results = places[places["kind"] == "result"]
    assert set(results["rollout_id"]) == set(pieces) and len(results) > 30
    for place in results.itertuples():
        own, chain = pieces[place.rollout_id], steps[place.problem_id]
        before = "".join(own[: place.position])
        behind = check_steps(before + own[place.position], chain).correct_so_far
        if place.state == ALREADY_WRONG:
            assert check_steps(before, chain).correct_so_far is False and not place.written_true
        else:
            assert check_steps(before, chain).correct_so_far is True
            assert place.written_true == (behind is True)


def test_masses_are_probabilities_and_undefined_where_nothing_can_be_true(
    finished: tuple[Path, Outcome],
) -> None:
    places = table_of(finished[0])
    numbers = places.filter(regex="^(student|teacher|pairs|concordant)_")
    assert (numbers.max() <= 1 + 1e-6).all() and (numbers.min() >= 0).all()
    wrong = places[places["state"] == ALREADY_WRONG]
    assert len(wrong) and wrong["student_true"].isna().all()
    assert wrong["student_consistent"].notna().any()


def test_a_killed_run_scores_only_what_is_missing_and_ends_with_the_same_places(
    finished: tuple[Path, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    shutil.copytree(folder.parent / "cache", tmp_path / "cache")
    (scored,) = (tmp_path / "cache").glob("places-*")
    shutil.rmtree(scored)
    monkeypatch.setattr(score_store, "PART_TOKENS", 400)
    calls: list[int] = []
    at = SetScorer.at

    def killed(self: SetScorer, asked: Any, on_progress: Any = None) -> Any:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(len(asked))
        return at(self, asked, on_progress)

    monkeypatch.setattr(SetScorer, "at", killed)
    more = ("--batch-tokens", "400")
    assert called(tmp_path / "run", *more).code == 130
    done, calls[:] = sum(calls), [-1, -1, -1]
    assert called(tmp_path / "run", *more).code == 0
    assert done and sum(calls) + 3 == len(responses(folder)) - done
    pd.testing.assert_frame_equal(table_of(tmp_path / "run"), table_of(folder), rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--problems", "math500"),
            "token-truth needs problems whose steps are known (--problems abacus), and those of "
            "math500 are not; `decaylab values` measures any set by sampling, and `decaylab "
            "interventions --edits FILE` compares prefixes of your own",
        ),
        (("--bins", "5,10"), "--bins must begin with 0 and increase, got 5,10"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, str], complaint: str, tmp_path: Path) -> None:
    assert complaint in called(tmp_path / "run", *words).complaint


def test_the_run_of_another_pair_is_refused(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    complaint = called(
        folder, "--teacher", "abacus-student", "--student", "abacus-student", "--problems", "abacus"
    ).complaint
    assert "contains a run with different settings" in complaint and "another teacher" in complaint


def test_rollouts_without_a_step_are_refused_with_what_to_do(tmp_path: Path) -> None:
    outcome = called(tmp_path / "run", "--max-tokens", "3")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1] == (
        "decaylab: base: no rollout holds a step that the verifier can read; raise --max-tokens, "
        "or see what they hold with `decaylab rollouts`"
    )
