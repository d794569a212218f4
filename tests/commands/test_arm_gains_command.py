"""arm-gains as a command on the embedded pair and its committed sweeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import Outcome, _SharedGrader, decaylab

from decaylab.commands import arm_gains as command
from decaylab.commands import drawing
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import measurements, store
from decaylab.tokens.token_table import ONE_TOKENIZER

MEASURED = Path(__file__).resolve().parents[2] / "docs" / "measurements"
SWEEP = MEASURED / "selector"
STUDENT = ("--student", "abacus-student", "--problems", "abacus", "--max-tokens", "90")
SMALL = ("--limit", "4", "--samples", "1", "--max-tokens", "90", "--tokens-per-arm", "6")


@pytest.fixture(autouse=True)
def one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "Grader", _SharedGrader)
    monkeypatch.setattr(drawing, "draw", lambda *more, **others: None)


def called(root: Path, *more: object) -> Outcome:
    out = ("--cache", root / "cache", "--out", root / "run")
    return decaylab("arm-gains", SWEEP, *SMALL, *out, *more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    root = tmp_path_factory.mktemp("gains")
    with pytest.MonkeyPatch.context() as patch:
        one_pool.__wrapped__(patch)
        outcome = called(root)
    assert outcome.code == 0, outcome.err
    return root, outcome


def test_every_arm_is_printed_beside_what_training_gave_it(
    finished: tuple[Path, Outcome],
) -> None:
    root, outcome = finished
    assert "What training gave each arm, and what was measured where it trains" in outcome.out
    assert "after-teacher-prefix-40: left out" in outcome.out
    frame = measurements.read(root / "run" / "measurements.parquet")
    trained = frame[frame.what == "training_gain"].set_index("checkpoint").value
    assert len(trained) == 10 and trained["full"] == pytest.approx(0.1258333333)
    assert set(frame[frame.what == "one_token_gain"].checkpoint) == set(trained.index)


def test_drawn_tokens_are_those_that_the_arm_trains_on(finished: tuple[Path, Outcome]) -> None:
    root, _ = finished
    places = store.read_table(root / "run" / "places.parquet", command.PLACES).to_pandas()
    assert places.groupby("arm").size().eq(6).all()
    assert places[places.arm == "prefix-40"].position.max() < 40
    frame = measurements.read(root / "run" / "measurements.parquet")
    own = places[places.arm == "full"].dropna(subset=["with", "without"])
    row = frame[(frame.what == "one_token_gain") & (frame.checkpoint == "full")].iloc[0]
    assert row.value == pytest.approx((own["with"] - own["without"]).mean())


def test_the_share_of_the_kl_is_that_of_the_masked_tokens(finished: tuple[Path, Outcome]) -> None:
    root, _ = finished
    (path,) = (root / "cache").glob("tokens-*/tokens.parquet")
    tokens = store.read_table(path, ONE_TOKENIZER.name).to_pandas()
    frame = measurements.read(root / "run" / "measurements.parquet")
    shares = frame[frame.what == "masked_kl_share"].set_index("checkpoint").value
    kl = tokens["reverse_kl"].to_numpy(dtype=float)
    early = tokens["position"].to_numpy() < 40
    assert shares["prefix-40"] == pytest.approx(kl[early].sum() / kl.sum(), rel=1e-5)
    top = 0.0
    for _, rows in tokens.groupby("rollout_id", observed=True):
        top += np.sort(rows["reverse_kl"].to_numpy(dtype=float))[::-1][:40].sum()
    assert shares["top-reverse-kl-40"] == pytest.approx(top / kl.sum(), rel=1e-5)
    assert shares["full"] == pytest.approx(1.0)


def test_a_second_time_nothing_is_sampled(
    finished: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, first = finished

    def never(*given: object) -> None:
        raise AssertionError("sampled again")

    monkeypatch.setattr(TransformersEngine, "_batch", never)
    again = called(root)
    assert again.code == 0 and again.out == first.out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("arm-gains",), "arm-gains needs a sweep: `decaylab arm-gains runs/MY-SWEEP`"),
        (("arm-gains", MEASURED / "signals"), "is a run of signals, not a sweep; leave it out"),
        (("arm-gains", "nowhere"), "nowhere: no such run folder"),
        (("arm-gains", SWEEP, "--temperature", "0"), "--temperature 0: the student would finish"),
        (("arm-gains", SWEEP, "--tokens-per-arm", "0"), "--tokens-per-arm must be at least 1"),
        (
            ("arm-gains", SWEEP, "--teacher", "abacus-student", *STUDENT),
            "trained abacus-student under abacus-teacher, and this is abacus-student under "
            "abacus-student; give the sweep's pair",
        ),
    ],
)
def test_bad_input_is_one_line(words: tuple[object, ...], complaint: str, tmp_path: Path) -> None:
    found = decaylab(*words, *(("--out", tmp_path / "run") if len(words) > 1 else ()))
    assert complaint in found.complaint


def test_outcomes_are_the_teachers_own_where_its_token_ended_the_turn() -> None:
    alike = {"prefix_rollout_id": "r", "grade_r": "correct"}
    rows = [
        {**alike, "condition": "hand-back-teacher", "prefix_tokens": 1, "response_ids": [7]},
        {**alike, "condition": "hand-back-teacher", "prefix_tokens": 2, "response_ids": [7, 8]},
        {**alike, "condition": "hand-back", "prefix_tokens": 1, "teacher_tokens": 0},
        {**alike, "condition": "hand-back", "prefix_tokens": 2, "teacher_tokens": 0},
        {**alike, "condition": "hand-back", "prefix_tokens": 2, "teacher_tokens": 1},
    ]
    frame = pd.DataFrame(rows)
    frame["response_ids"] = [one if isinstance(one, list) else [1] for one in frame["response_ids"]]
    frame.loc[[3, 4], "grade_r"] = "wrong"
    found = command.outcomes_of(frame, "r").set_index("position")
    assert found.loc[1, ["with", "without"]].tolist() == [1.0, 1.0]
    assert found.loc[2, ["with", "without"]].tolist() == [0.0, 0.0]
