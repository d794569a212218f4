"""A diagnostic as a whole: killed, started again, followed by another one; what its folder holds
and what it refuses."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import DATA, Outcome, _SharedGrader, contents, decaylab, start

from decaylab.commands import diagnose, drawing, prefix_decay, study
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.pair import prepare
from decaylab.policies import loading
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import measurements, store
from decaylab.tokens import score_store
from decaylab.tokens.noise_floor import KEY
from decaylab.tokens.scoring import Scorer
from decaylab.tokens.token_table import ONE_TOKENIZER

SMALL = (
    "--limit",
    "6",
    "--samples",
    "2",
    "--max-tokens",
    "40",
    "--batch-rows",
    "4",
    "--floor-problems",
    "2",
    "--quiet",
)
PART_TOKENS = 200
# A process that goes on to a certain place and stays there until it is killed.
STALLS = f"""
import time
from decaylab.commands import diagnose, drawing, study; from decaylab.tokens import score_store; from decaylab.runs import store
score_store.PART_TOKENS, study.BATCHES_A_PART = {PART_TOKENS}, 0
drawing.draw = lambda *more, **others: None

def stall(owner, name, calls, before=False):
    function, seen = getattr(owner, name), []
    def stalled(*more):
        seen.append(1)
        if before and len(seen) == calls:
            time.sleep(300)
        function(*more)
        if len(seen) == calls:
            time.sleep(300)
    setattr(owner, name, stalled)

"""  # noqa: E501
SAMPLING = STALLS + "stall(store.Parts, 'write', 2)"
SCORING = STALLS + "stall(score_store, '_write_part', 2)"
MERGING = STALLS + "stall(score_store, '_merge', 2, before=True)"


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """No figures, one pool of grading workers, and parts so small that there are several."""
    monkeypatch.setattr(drawing, "draw", lambda *more, **others: None)
    monkeypatch.setattr(diagnose, "Grader", _SharedGrader)
    monkeypatch.setattr(prefix_decay, "Grader", _SharedGrader)
    monkeypatch.setattr(score_store, "PART_TOKENS", PART_TOKENS)
    monkeypatch.setattr(study, "BATCHES_A_PART", 0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """run: a position-kl that nothing disturbed. cache: what it left for others."""
    root = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        light.__wrapped__(patch)
        assert measured(root).code == 0
    return root


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Path:
    """A copy of that, to work in."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(loading.load("abacus-student").weights)
    monkeypatch.setattr(kind, "forward", lambda *_, **__: pytest.fail("a model was run"))
    monkeypatch.setattr(
        TransformersEngine, "sample", lambda *_, **__: pytest.fail("an engine was asked")
    )


def measured(root: Path, command: str = "position-kl", *more: object, out: str = "run") -> Outcome:
    return decaylab(command, *SMALL, "--cache", root / "cache", "--out", root / out, *more)


def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[list[int], list[int]]:
    """Numbers of sequences that are sampled and scored from now on."""
    sampled: list[int] = []
    scored: list[int] = []
    sample, score = TransformersEngine.sample, Scorer.score

    def counting_sample(self: TransformersEngine, requests: Any, *more: Any) -> Any:
        sampled.append(len(requests))
        return sample(self, requests, *more)

    def counting_score(self: Scorer, rollouts: Any, *more: Any) -> Any:
        scored.append(len(rollouts))
        return score(self, rollouts, *more)

    monkeypatch.setattr(TransformersEngine, "sample", counting_sample)
    monkeypatch.setattr(Scorer, "score", counting_score)
    return sampled, scored


# Killed


def stalled(root: Path, before: str, reached: Callable[[], bool]) -> subprocess.Popen[str]:
    """The command in a process of its own, once it has come as far as it will."""
    process = start(
        "position-kl", *SMALL, "--cache", root / "cache", "--out", root / "run", before=before
    )
    deadline = time.monotonic() + 120
    while not reached():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def files(root: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in (root / "cache").glob(pattern))


def same_results(root: Path, finished: Path) -> None:
    """Every table of the cache and every number, byte for byte."""
    mine, theirs = (contents(one / "cache") for one in (root, finished))
    assert (
        mine.keys() == theirs.keys()
        and len([name for name in mine if name.endswith("/tokens.parquet")]) == 2
    )
    for name in mine:
        assert mine[name] == theirs[name], name
    for name in ("measurements.parquet", "measurements.csv"):
        assert (root / "run" / name).read_bytes() == (finished / "run" / name).read_bytes()


@pytest.mark.slow
def test_killed_while_sampling_it_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = stalled(
        tmp_path, SAMPLING, lambda: len(files(tmp_path, "rollouts-*/parts/*.parquet")) == 2
    )
    # While it is there, nobody else gets into its folder; what it samples for all is waited for.
    assert f"{tmp_path / 'run'} is in use by another process" in measured(tmp_path).complaint
    kill(process)
    sampled, scored = counted(monkeypatch)
    assert measured(tmp_path).code == 0
    assert (sum(sampled), sum(scored)) == (12 - 8, 12 + 4)
    same_results(tmp_path, finished)


@pytest.mark.slow
def test_killed_while_scoring_it_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(
        stalled(
            tmp_path, SCORING, lambda: "part-00001.parquet" in files(tmp_path, "tokens-*/*.parquet")
        )
    )
    kept = sum(len(set(rows["rollout_id"])) for rows in part_rows(tmp_path))
    assert 0 < kept < 12
    sampled, scored = counted(monkeypatch)
    assert measured(tmp_path).code == 0
    assert (sampled, sum(scored)) == ([], 12 - kept + 4)
    same_results(tmp_path, finished)


@pytest.mark.slow
def test_killed_between_the_two_merges_it_scores_nothing_again(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(
        stalled(tmp_path, MERGING, lambda: "top5.parquet" in files(tmp_path, "tokens-*/*.parquet"))
    )
    assert files(tmp_path, "tokens-*/tokens.parquet") == []
    sampled, scored = counted(monkeypatch)
    assert measured(tmp_path).code == 0
    assert (sampled, sum(scored)) == ([], 4)  # the second route, of two problems
    same_results(tmp_path, finished)


def part_rows(root: Path) -> Iterator[pd.DataFrame]:
    for path in (root / "cache").glob("tokens-*/part-*.parquet"):
        yield store.read_table(path, ONE_TOKENIZER.name).to_pandas()


# Again, and another


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize("command", ["category-kl", "submode", "signals"])
def test_another_diagnostic_on_the_same_rollouts_runs_no_model(command: str, root: Path) -> None:
    outcome = measured(root, command, out=command)
    assert outcome.code == 0, outcome.err
    frame = measurements.read(root / command / "measurements.parquet")
    assert len(frame) > 5 and set(frame["run"]) == {command}
    position = json.loads((root / "run" / "run.json").read_text())["tokens"]
    tokens = json.loads((root / command / "run.json").read_text())["tokens"]
    assert [Path(one).name for one in tokens] == [Path(one).name for one in position]


@pytest.mark.usefixtures("no_model")
def test_the_same_command_again_measures_the_same_bytes(root: Path, finished: Path) -> None:
    assert measured(root).code == 0
    same_results(root, finished)


@pytest.mark.usefixtures("no_model")
def test_bins_and_level_are_measured_anew_without_a_model(root: Path) -> None:
    assert measured(root, "position-kl", "--bins", "0,7", "--level", "0.5", out="other").code == 0
    frame = measurements.read(root / "other" / "measurements.parquet")
    curve = frame[frame["what"] == "reverse_kl"]
    assert curve["position_low"].tolist() == [0, 7] and curve["position_high"].tolist() == [
        7,
        float("inf"),
    ]
    assert set(frame["level"]) == {0.5}


def test_another_configuration_in_the_folder_is_refused_and_overwrite_takes_it(root: Path) -> None:
    before = contents(root / "run")
    complaint = measured(root, "position-kl", "--bins", "0,7").complaint
    assert "contains a run with different settings (--bins 0,5," in complaint
    assert (
        "contains a position-kl run, and this is a submode run; choose another --out"
        in measured(root, "submode").complaint
    )
    assert contents(root / "run") == before
    assert measured(root, "position-kl", "--bins", "0,7", "--overwrite").code == 0
    curve = measurements.read(root / "run" / "measurements.parquet").query("what == 'reverse_kl'")
    assert curve["position_low"].tolist() == [0, 7]
    assert json.loads((root / "run" / "run.json").read_text())["identity"]["options"]["bins"] == [
        0,
        7,
    ]


def test_the_contents_of_a_category_file_are_part_of_the_run(root: Path, tmp_path: Path) -> None:
    rules = tmp_path / "mine.toml"
    rules.write_text(
        '[[category]]\nname = "digit"\npattern = "[0-9]"\n[[category]]\nname = "else"\nrest = '
        "true\n"
    )
    assert measured(root, "category-kl", "--categories", rules, out="mine").code == 0
    frame = measurements.read(root / "mine" / "measurements.parquet")
    assert {"digit", "else", "end_of_turn"} <= set(frame["category"])
    assert measured(root, "category-kl", "--categories", rules, out="mine").code == 0
    rules.write_text(rules.read_text().replace("[0-9]", "[0-8]"))
    complaint = measured(root, "category-kl", "--categories", rules, out="mine").complaint
    assert "contains a run with different settings (other categories in the file" in complaint


# What a folder holds


def test_the_record_holds_all_that_the_run_was(finished: Path) -> None:
    record = json.loads((finished / "run" / "run.json").read_text())
    assert record["command"].startswith("decaylab position-kl --limit 6 --samples 2")
    identity = record["identity"]
    assert identity["diagnostic"] == "position-kl"
    options = identity["options"]
    assert (options["limit"], options["head"], options["score_temperature"]) == (6, "model", 1.0)
    assert options["bins"] == [
        0,
        5,
        10,
        20,
        40,
        60,
        80,
        120,
        160,
    ]  # what was not said stands there too
    assert set(options) == set(declared.identity(DiagnosticOptions(), declared.DIAGNOSTIC))
    assert {"level", "seed", "checkpoints"} <= set(options) and not {"cache", "said"} & set(options)
    for role in ("student", "teacher"):
        assert (
            identity[role]["name"] == f"abacus-{role}" and len(identity[role]["content_hash"]) == 64
        )
        assert identity["precision"][role] == "torch.float32 on cpu"
    assert (identity["problems"]["name"], identity["problems"]["asked"]) == ("abacus", 6)
    assert {"decaylab", "torch", "transformers", "python"} <= record["versions"].keys()
    assert any("were cut off at the budget" in note for note in record["notes"])
    (tokens,) = map(Path, record["tokens"])
    assert store.read_table(tokens / "tokens.parquet", ONE_TOKENIZER.name).num_rows > 100


def test_the_result_is_what_stands_in_the_folder(root: Path) -> None:
    options = DiagnosticOptions(
        limit=6, samples=2, max_tokens=40, floor_problems=2, cache=str(root / "cache")
    )
    result = diagnose.diagnose("position-kl", replace(options, out=str(root / "run")))
    stored = measurements.read(root / "run" / "measurements.parquet")
    pd.testing.assert_frame_equal(result.measurements, stored, check_dtype=False)
    assert (result.command, result.folder, result.advice) == ("position-kl", root / "run", None)
    assert list(result.measurements.columns) == list(measurements.COLUMNS)
    assert not result.measurements[KEY].duplicated().any()


def test_without_a_folder_results_stand_under_runs_or_in_the_run_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small: dict[str, Any] = {"limit": 2, "samples": 1, "max_tokens": 16}
    found = diagnose.diagnose("behaviour", DiagnosticOptions(**small))
    named, given = "behaviour-abacus-teacher-abacus-student", "limit-2-samples-1-max-tokens-16"
    assert found.folder == Path(f"runs/{named}-abacus-{given}")
    assert (tmp_path / "runs" / "cache").is_dir()
    prefix_decay.prefix_decay(Options(**small, prefix_lengths=(0, 4), controls=(), out="runs/mine"))
    found = diagnose.diagnose(
        "position-kl", DiagnosticOptions(checkpoints=("runs/mine",), floor_problems=0)
    )
    assert found.folder == Path("runs/mine/position-kl-floor-problems-0")
    assert found.record["identity"]["options"]["limit"] == 2
    shutil.copytree(DATA / "student", "mine/step-5")
    pair = {"student": "abacus-student", "teacher": "abacus-teacher"}
    found = diagnose.diagnose(
        "behaviour", DiagnosticOptions(checkpoints=("mine/step-5",), **small, **pair)
    )
    assert found.folder == Path(f"runs/{named}-mine-step-5-abacus-{given}")


# Advice


@pytest.fixture(scope="module")
def decays(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mine: a decay run of the embedded pair. swapped: one of the pair the other way round."""
    folder = tmp_path_factory.mktemp("decays")
    small: dict[str, Any] = {
        "limit": 3,
        "samples": 1,
        "max_tokens": 24,
        "prefix_lengths": (0, 4),
        "controls": (),
    }
    prefix_decay.prefix_decay(Options(**small, out=str(folder / "mine")))
    prefix_decay.prefix_decay(
        Options(
            **small,
            out=str(folder / "swapped"),
            problems="abacus",
            student="abacus-teacher",
            teacher="abacus-student",
        )
    )
    return folder


def test_advice_is_given_where_it_is_asked_for_and_only_there(root: Path, decays: Path) -> None:
    assert measured(root, "signals", out="plain").code == 0
    assert not (root / "plain" / "advice.txt").exists()
    (root / "nothing").mkdir()
    wanted = ("signals", "--advise", "--evidence")
    assert measured(root, *wanted, root / "nothing").complaint.startswith("--evidence ")
    outcome = measured(root, *wanted, decays / "mine", out="advised")
    assert outcome.code == 0
    text = (root / "advised" / "advice.txt").read_text()
    assert text.startswith("No setting is recommended yet") and "Next experiment: " in text
    assert pd.read_csv(root / "advised" / "advice.csv").empty, "nothing was trained"
    record = json.loads((root / "advised" / "run.json").read_text())["advice"]
    assert record["recommended"] is None and record["left_out"] == []
    assert {Path(run["folder"]).name for run in record["runs"]} == {"mine", "advised"}
    first, second = (
        measurements.read(root / name / "measurements.parquet") for name in ("plain", "advised")
    )
    pd.testing.assert_frame_equal(first.drop(columns="run"), second.drop(columns="run"))


def test_every_run_of_the_pair_under_runs_is_found_whatever_its_name(
    root: Path, decays: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    for name in ("mine", "swapped"):
        shutil.copytree(decays / name, f"runs/of-friday/{name}")
    shutil.copytree(decays / "mine", "runs/damaged")
    Path("runs/damaged/measurements.parquet").write_bytes(b"no table")
    assert measured(root, "signals", "--advise", out="with").code == 0
    record = json.loads((root / "with" / "run.json").read_text())["advice"]
    assert [run["command"] for run in record["runs"]] == ["prefix-decay", "signals"]
    assert record["runs"][0]["folder"] == "runs/of-friday/mine"
    assert len(record["left_out"]) == 1 and "runs/damaged" in record["left_out"][0]
    assert "Left out: runs/damaged" in (root / "with" / "advice.txt").read_text()


def test_folders_without_a_run_of_the_pair_are_refused_before_anything_is_measured(
    root: Path, decays: Path, no_model: None
) -> None:
    there = decays / "swapped"
    outcome = measured(root, "signals", "--advise", "--evidence", there, out="new")
    assert f"--evidence {there} holds no run of abacus-student under abacus-teacher" in (
        outcome.complaint
    )
    assert not (root / "new").exists()


def test_folders_that_cannot_be_read_are_told_before_a_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "load_problems", lambda *_, **__: pytest.fail("fetched"))
    options = DiagnosticOptions(advise=True, evidence=("nowhere",), out=str(tmp_path / "out"))
    with pytest.raises(UserError, match="--evidence nowhere: no such folder"):
        diagnose.diagnose("signals", options)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="--evidence only applies with --advise; add --advise"):
        diagnose.diagnose("signals", DiagnosticOptions(evidence=("runs",)))
