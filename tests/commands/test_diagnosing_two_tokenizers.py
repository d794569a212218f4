"""Diagnostics of a pair of two tokenizers, from the command line to figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from command_line import Outcome, decaylab
from tiny_models import save_folder
from tokenizer_families import family

import decaylab as dl
from decaylab.claims.advice_lengths import suggest
from decaylab.claims.judge import judge
from decaylab.claims.verdicts import CONTRADICTED, HOLDS, NOT_SUPPORTED
from decaylab.commands import study
from decaylab.runs import found_runs, measurements, vocabulary
from decaylab.tokens import aligned_rollouts
from decaylab.tokens.token_table import TWO_TOKENIZERS

COMMANDS = ("position-kl", "category-kl", "submode", "signals")
FAMILY = "Llama-2"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random teacher whose tokenizer is of another family than the embedded student's."""
    ends = {"eos_token_id": int(family(FAMILY).eos_token_id), "pad_token_id": 0}
    folder = tmp_path_factory.mktemp("pair") / "teacher"
    return save_folder(folder, tokenizer=family(FAMILY), max_position_embeddings=1024, **ends)


@pytest.fixture(scope="module")
def outcomes(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command prints, and its folder."""
    root = tmp_path_factory.mktemp("runs")
    found: dict[str, Any] = {}
    for command in COMMANDS:
        found[command] = called(command, teacher, root / command, root / "cache"), root / command
    return found


def called(command: str, teacher: Path, out: Path, cache: Path, *more: object) -> Outcome:
    pair = ("--student", "abacus-student", "--teacher", teacher, "--problems", "abacus")
    size = ("--limit", 4, "--samples", 1, "--max-tokens", 200, "--temperature", 1)
    return decaylab(command, *pair, *size, "--out", out, "--cache", cache, *more)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_diagnostic_measures_at_boundaries_of_both(
    outcomes: dict[str, Any], command: str
) -> None:
    outcome, folder = outcomes[command]
    assert outcome.code == 0
    frame = measurements.read(folder / "measurements.parquet")
    assert frame["estimand"].str.endswith(vocabulary.AT_BOUNDARIES.removeprefix(", ")).any()
    assert "spans between boundaries of both tokenizers" in " ".join(outcome.out.split())
    assert "reverse KL" not in outcome.out and "Reverse KL" not in outcome.out
    assert (folder / f"{command}.png").exists()
    assert "everse KL" not in (folder / f"{command}.txt").read_text()
    assert "everse KL" not in (folder / f"{command}.svg").read_text()


def test_no_claim_on_the_kl_of_tokens_is_decided(outcomes: dict[str, Any]) -> None:
    for command, (outcome, folder) in outcomes.items():
        findings = judge([found_runs.read(folder)])
        decided = [one for one in findings if one.verdict in (HOLDS, CONTRADICTED, NOT_SUPPORTED)]
        assert findings and not decided, command
        assert "Contradicted" not in outcome.out and "Supported" not in outcome.out
    signals = found_runs.read(outcomes["signals"][1])
    suggestion = suggest(signals, None)
    assert suggestion.tokens is None and "two tokenizers" in suggestion.obstacles[0]


def test_the_mean_is_that_of_the_tokens_at_boundaries(outcomes: dict[str, Any]) -> None:
    _, folder = outcomes["position-kl"]
    run = dl.open_run(folder)
    tokens = run.tokens
    kept = tokens[tokens["at_shared_boundary"]]
    assert 0 < len(kept) < len(tokens)
    assert tokens["reverse_kl"].notna().eq(tokens["at_shared_boundary"]).all()
    frame = run.measurements
    row = frame[(frame["what"] == "mean_reverse_kl") & (frame["condition"] == "all")].iloc[0]
    assert row["value"] == pytest.approx(kept["reverse_kl"].astype(float).mean(), rel=1e-6)
    assert row["tokens"] == len(kept)
    early = kept[(kept["position"] >= 5) & (kept["position"] < 20)]
    in_bin = frame[(frame["what"] == "reverse_kl") & (frame["position_low"] == 5)].iloc[0]
    assert in_bin["value"] == pytest.approx(early["reverse_kl"].astype(float).mean(), rel=1e-6)
    finished = tokens.groupby("rollout_id")["span_log_ratio"].sum()
    ratio = frame[(frame["what"] == "response_log_ratio") & (frame["condition"] == "finished")]
    ended = run.rollouts.set_index("rollout_id")["stop_reason"].eq("eos")
    wanted = finished[[name for name in finished.index if ended[name]]]
    assert ratio["value"].iloc[0] == pytest.approx(float(wanted.mean()), rel=1e-6)


def test_with_one_tokenizer_both_kinds_of_numbers_stand_side_by_side(tmp_path: Path) -> None:
    size = ("--problems", "abacus", "--limit", 3, "--max-tokens", 200, "--temperature", 1)
    places = ("--cache", tmp_path / "cache", "--floor-problems", 1)
    plain = decaylab("position-kl", *size, *places, "--out", tmp_path / "plain")
    beside = decaylab("position-kl", *size, *places, "--bytes", "--out", tmp_path / "beside")
    assert plain.code == beside.code == 0
    assert "The reverse KL is" in beside.out and "next-byte" not in plain.out
    before, after = (
        measurements.read(tmp_path / name / "measurements.parquet").drop(columns="run")
        for name in ("plain", "beside")
    )
    pd.testing.assert_frame_equal(before, after.iloc[: len(before)])
    more = after.iloc[len(before) :]
    assert more["what"].str.startswith("next_byte_").any()
    tokens = dl.open_run(tmp_path / "beside").tokens
    ratios = (tokens["student_logprob"] - tokens["teacher_logprob"]).astype(float)
    rollouts = dl.open_run(tmp_path / "beside").rollouts.set_index("rollout_id")
    finished = [name for name, row in rollouts.iterrows() if row["stop_reason"] == "eos"]
    whole = ratios.groupby(tokens["rollout_id"]).sum()[finished].mean()
    row = more[(more["what"] == "response_log_ratio") & (more["condition"] == "finished")].iloc[0]
    assert row["value"] == pytest.approx(whole, rel=1e-5, abs=1e-4)
    lower = more[more["what"] == "next_byte_mean_reverse_kl"]["value"].iloc[0]
    assert 0 < lower < before[before["what"] == "mean_reverse_kl"]["value"].iloc[0]


def test_a_category_is_told_from_the_whole_text(outcomes: dict[str, Any]) -> None:
    """Tokens without a shared boundary are not measured, but stand between the others."""
    frame = measurements.read(outcomes["category-kl"][1] / "measurements.parquet")
    shares = frame[frame["what"] == "token_share"].groupby("category")["value"].first()
    assert shares.sum() == pytest.approx(1) and shares["math_number"] > 0.1


def test_a_second_diagnostic_scores_nothing(
    teacher: Path, outcomes: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = outcomes["position-kl"][1].parent / "cache"
    monkeypatch.setattr(study, "scoring_of", lambda **_: (TWO_TOKENIZERS, pytest.fail))
    again = called("position-kl", teacher, tmp_path / "again", cache)
    assert again.code == 0


def test_rollouts_sampled_at_another_temperature_have_no_response_log_ratio(
    teacher: Path, tmp_path: Path
) -> None:
    pair = ("--student", "abacus-student", "--teacher", teacher, "--problems", "abacus")
    size = ("--limit", 2, "--samples", 1, "--max-tokens", 60, "--temperature", 0.5)
    places = ("--out", tmp_path / "run", "--cache", tmp_path / "cache", "--floor-problems", 0)
    assert decaylab("position-kl", *pair, *size, *places).code == 0
    frame = measurements.read(tmp_path / "run" / "measurements.parquet")
    rows = frame[frame["what"] == "response_log_ratio"]
    assert rows["value"].isna().all()
    assert rows["note"].str.contains("sample them so (--temperature 1", regex=False).all()


@pytest.mark.parametrize(("command", "more"), [("token-truth", ()), ("values", ("--grid", "0,20"))])
def test_what_needs_one_vocabulary_says_so(
    teacher: Path, tmp_path: Path, command: str, more: tuple[str, ...]
) -> None:
    outcome = called(command, teacher, tmp_path / "run", tmp_path / "cache", *more)
    assert outcome.code == 2
    assert "so tokens cannot be compared one by one" in outcome.complaint


def test_rollouts_that_are_left_out_are_counted_with_their_accuracy() -> None:
    reasons = aligned_rollouts.Counter({"hold bytes that are not text": 2, "hold no token": 1})
    (note,) = aligned_rollouts._left_out(reasons, {True: [True] * 3 + [False], False: [False] * 3})
    assert note.startswith(
        "3 of 7 rollouts left out: 2 hold bytes that are not text, 1 hold no token; 0 % of them "
        "correct, 75 % of the others; that is more than 2 %"
    )
    few = {True: [True] * 99, False: [False]}
    (note,) = aligned_rollouts._left_out(aligned_rollouts.Counter({"hold no token": 1}), few)
    assert "more than" not in note
    assert not [*aligned_rollouts._left_out(aligned_rollouts.Counter(), {True: [], False: []})]


@pytest.mark.parametrize(
    ("drawn", "is_same"),
    [((1.0, 1.0, 0), True), ((0.7, 1.0, 0), False), ((1.0, 0.9, 0), False), ((1.0, 1.0, 5), False)],
)
def test_the_law_of_sampling_is_read_from_the_rollouts(
    drawn: tuple[float, float, int], is_same: bool
) -> None:
    names = ("temperature", "top_p", "top_k")
    table = pa.table({name: [value] for name, value in zip(names, drawn, strict=True)})
    assert (aligned_rollouts.other_law(table, 1.0) == "") == is_same
    unknown = pa.Table.from_pandas(pd.DataFrame({name: [None] for name in names}))
    assert aligned_rollouts.other_law(unknown, 1.0)
