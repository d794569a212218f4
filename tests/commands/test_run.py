"""A run as a whole: killed, interrupted, started again, read again, redone; and what it leaves in
its folder."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from command_line import DATA, contents, decaylab, start, write_lines
from matplotlib import image

from decaylab.commands import prefix_decay
from decaylab.errors import UserError
from decaylab.options import declared
from decaylab.options.measuring import Options
from decaylab.pair import prepare
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import measurements, store

COMMAND = [
    "prefix-decay",
    "--limit",
    "12",
    "--samples",
    "2",
    "--prefix-lengths",
    "0,10,20",
    "--max-tokens",
    "48",
    "--batch-rows",
    "8",
]
COMMAND += ["--controls", "own-prefix,correct-so-far"]
FEW = (
    *COMMAND,
    "--limit",
    "6",
    "--max-tokens",
    "32",
    "--batch-rows",
    "4",
    "--controls",
    "none",
    "--quiet",
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert decaylab(*COMMAND, "--out", folder).code == 0
    return folder


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "parts").glob("*.parquet"))


def stop_after(folder: Path, count: int, sign: signal.Signals) -> tuple[int, str]:
    """Starts the command, sends the signal once so many parts are on disk; returns how it ended and
    what it said.

    The grading workers must be gone soon after.
    """
    process = start(*COMMAND, "--out", folder)
    deadline = time.monotonic() + 120
    while len(parts(folder)) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    listing = ["ps", "-o", "pid=", "--ppid", str(process.pid)]
    workers = subprocess.run(listing, capture_output=True, text=True).stdout.split()
    process.send_signal(sign)
    _, said = process.communicate()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, f"{workers} still run"
        time.sleep(0.05)
    return process.returncode, said


def same_results(folder: Path, undisturbed: Path) -> None:
    assert (folder / "rollouts.parquet").read_bytes() == (
        undisturbed / "rollouts.parquet"
    ).read_bytes()
    first, second = (
        measurements.read(path / "measurements.parquet") for path in (folder, undisturbed)
    )
    pd.testing.assert_frame_equal(first, second)
    assert parts(folder) == []


def count_samples(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of sequences that engines are asked for from now on."""
    asked: list[int] = []
    sample = TransformersEngine.sample

    def counted(self: TransformersEngine, requests: Any, *more: Any) -> Any:
        asked.append(len(requests))
        return sample(self, requests, *more)

    monkeypatch.setattr(TransformersEngine, "sample", counted)
    return asked


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    code, _ = stop_after(folder, 2, signal.SIGKILL)
    assert code == -signal.SIGKILL
    done = parts(folder)
    assert len(done) >= 2 and not (folder / "rollouts.parquet").exists()
    asked = count_samples(monkeypatch)
    outcome = decaylab(*COMMAND, "--out", folder)
    assert outcome.code == 0
    kept = 8 * len([path for path in done if path.name.startswith("student_rollouts")])
    assert f"{kept} sequences were there already" in outcome.err.splitlines()[1]
    total = len(store.read_table(folder / "rollouts.parquet", store.ROLLOUTS))
    assert sum(asked) <= total - 16  # what stood in at least two parts is not sampled again
    same_results(folder, undisturbed)


@pytest.mark.slow
def test_an_interrupted_run_says_so_in_one_line_and_goes_on(
    tmp_path: Path, undisturbed: Path
) -> None:
    folder = tmp_path / "run"
    code, said = stop_after(folder, 1, signal.SIGINT)
    assert code == 130
    begun, told = [line for line in said.splitlines() if "tokens/s" not in line]
    assert begun.endswith("loads torch and the models, engine transformers ...")
    kept = re.fullmatch(
        r"decaylab: interrupted; (\d+) rollouts are kept in (.*)\. To resume: decaylab (.*)", told
    )
    assert kept and kept[2] == str(folder) and kept[3].startswith("prefix-decay ")
    assert 0 < int(kept[1]) == store.RunFolder(folder).finished_rollouts()
    assert decaylab(*COMMAND, "--out", folder).code == 0
    same_results(folder, undisturbed)


def test_a_truncated_part_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sample = tmp_path / "run", TransformersEngine.sample
    calls: list[int] = []

    def interrupted(self: TransformersEngine, requests: Any, *more: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return sample(self, requests, *more)

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "sample", interrupted)
        assert decaylab(*FEW, "--out", folder).code == 130
    first, second = parts(folder)
    whole = first.read_bytes()
    first.write_bytes(whole[:-60])
    before = contents(folder)
    assert f"{first} is truncated or damaged" in decaylab(*FEW, "--out", folder).complaint
    assert contents(folder) == before
    first.unlink()
    asked = count_samples(monkeypatch)
    assert decaylab(*FEW, "--out", folder).code == 0
    total = len(store.read_table(folder / "rollouts.parquet", store.ROLLOUTS))
    assert sum(asked) == total - 4  # all but the second part


@pytest.mark.parametrize("rows", ["1", "3", "100"])
def test_a_run_goes_on_with_another_batch_size_and_ends_with_the_same_table(
    rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Advice on low memory is to lower --batch-rows: what is on disk stays, is not sampled again,
    and merges."""
    whole, folder, sample = tmp_path / "whole" / "run", tmp_path / "run", TransformersEngine.sample
    assert decaylab(*FEW, "--out", whole).code == 0
    calls: list[int] = []

    def interrupted(self: TransformersEngine, requests: Any, *more: Any) -> Any:
        calls.append(len(requests))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return sample(self, requests, *more)

    with monkeypatch.context() as patch:
        patch.setattr(TransformersEngine, "sample", interrupted)
        assert decaylab(*FEW, "--out", folder).code == 130
    asked = count_samples(monkeypatch)
    assert decaylab(*FEW, "--out", folder, "--batch-rows", rows).code == 0
    same_results(folder, whole)
    assert sum(asked) + sum(calls[:5]) == len(pd.read_parquet(whole / "rollouts.parquet"))


def test_how_a_run_is_computed_is_no_part_of_its_identity(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = count_samples(monkeypatch)
    for words in (
        ("--batch-rows", "1"),
        ("--device", "cpu"),
        ("--quiet",),
        ("--json",),
        ("--level", "0.9"),
        ("--paper",),
    ):
        assert decaylab(*COMMAND, "--out", undisturbed, *words).code == 0
    decaylab(*COMMAND, "--out", undisturbed)
    assert asked == []
    held = json.loads((undisturbed / "run.json").read_text())["identity"]["options"]
    assert set(held) == set(declared.identity(Options(), declared.DECAY))
    assert {"seed", "temperature", "dtype", "limit"} <= set(held) and "device" not in held


def test_a_second_process_in_the_folder_is_refused(undisturbed: Path) -> None:
    with store.RunFolder(undisturbed).lock():
        assert (
            "is in use by another process"
            in decaylab(*COMMAND, "--out", undisturbed, "--quiet").complaint
        )


def test_a_finished_run_is_read_and_not_sampled(
    undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(undisturbed)
    asked = count_samples(monkeypatch)
    outcome = decaylab(*COMMAND, "--out", undisturbed)
    assert asked == []
    assert (
        outcome.err
        == "decaylab prefix-decay: loads torch and the models, engine transformers ...\n"
        f"{undisturbed} holds this run, finished: nothing is sampled again (--overwrite redoes "
        "it)\n"
    )
    assert contents(undisturbed) == before


def test_another_answer_rule_or_level_measures_the_same_rollouts_again(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    asked = count_samples(monkeypatch)
    outcome = decaylab(*COMMAND, "--out", folder, "--answer-rule", "anywhere", "--level", "0.8")
    assert (outcome.code, asked) == (0, [])
    assert "answer rule anywhere" in outcome.out and "80 % intervals" in outcome.out
    frame = measurements.read(folder / "measurements.parquet")
    assert set(frame["answer_rule"]) == {"anywhere"} and set(frame["level"]) == {0.8}
    rollouts = pd.read_parquet(folder / "rollouts.parquet")
    own = rollouts[rollouts["condition"] == "student"]
    (accuracy,) = frame[(frame["what"] == "accuracy") & (frame["condition"] == "student")]["value"]
    assert accuracy == pytest.approx((own["grade_anywhere"] == "correct").mean(), abs=1e-9)
    assert (folder / "rollouts.parquet").read_bytes() == (
        undisturbed / "rollouts.parquet"
    ).read_bytes()
    record = json.loads((folder / "run.json").read_text())
    assert (record["answer_rule"], record["level"]) == ("anywhere", 0.8)


def test_overwrite_redoes_a_finished_run_and_takes_another_configuration(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    (folder / "mine.txt").write_text("not of the run")
    asked = count_samples(monkeypatch)
    small = ("--limit", 2, "--controls", "none", "--seed", 7)
    assert decaylab(*COMMAND, *small, "--out", folder).code == 2
    assert decaylab(*COMMAND, *small, "--out", folder, "--overwrite").code == 0
    rollouts = pd.read_parquet(folder / "rollouts.parquet")
    assert sum(asked) == len(rollouts) and set(rollouts["seed"]) == {7}
    assert len(pd.read_parquet(folder / "problems.parquet")) == 2
    assert (folder / "mine.txt").exists()


def test_the_record_holds_all_that_the_run_was(undisturbed: Path) -> None:
    record = json.loads((undisturbed / "run.json").read_text())
    assert record["command"] == "decaylab " + " ".join([*COMMAND, "--out", str(undisturbed)])
    identity = record["identity"]
    options = identity["options"]
    assert options["controls"] == ["own-prefix", "correct-so-far"]
    assert options["temperature"] == 0.7  # what was not said stands there too
    for role in ("student", "teacher"):
        assert identity[role]["name"] == f"abacus-{role}" and identity[role]["source"] == "embedded"
        assert len(identity[role]["content_hash"]) == 64
        assert identity["precision"][role] == "torch.float32 on cpu"
        assert record["example_prompt"][role].endswith("<|assistant|>")
    assert identity["student"]["content_hash"] != identity["teacher"]["content_hash"]
    assert (
        identity["problems"]["name"] == "abacus" and len(identity["problems"]["content_hash"]) == 64
    )
    assert {"decaylab", "torch", "transformers", "python"} <= record["versions"].keys()
    assert record["answer_rule"] == "last_boxed" and record["level"] == 0.95


def test_the_folder_holds_tables_and_pictures_that_open(undisturbed: Path) -> None:
    rollouts = pd.read_parquet(undisturbed / "rollouts.parquet")
    conditions = {"student", "teacher", "student-prefix", "own-prefix"}
    assert set(rollouts["condition"]) == conditions and rollouts["rollout_id"].is_unique
    for rule in ("last_boxed", "first_boxed", "anywhere", "gsm8k"):
        assert set(rollouts[f"grade_{rule}"]) <= {"correct", "wrong", "no_answer", "timeout"}
    problems = pd.read_parquet(undisturbed / "problems.parquet")
    assert set(rollouts["problem_id"]) == set(problems["problem_id"]) and len(problems) == 12
    parquet = pd.read_parquet(undisturbed / "measurements.parquet")
    csv = pd.read_csv(undisturbed / "measurements.csv", keep_default_na=False, na_values=[""])
    assert list(csv.columns) == list(parquet.columns) == list(measurements.COLUMNS)
    assert csv["value"].to_numpy() == pytest.approx(parquet["value"].to_numpy(), nan_ok=True)
    assert image.imread(undisturbed / "prefix-decay.png").ndim == 3
    assert b"<svg" in (undisturbed / "prefix-decay.svg").read_bytes()
    assert len((undisturbed / "prefix-decay.txt").read_text().split()) > 10


def test_folders_of_ones_own_and_a_problem_file_are_measured(tmp_path: Path) -> None:
    for role in ("student", "teacher"):
        shutil.copytree(DATA / role, tmp_path / role)
    problems = write_lines(
        tmp_path / "mine.jsonl",
        {"question": "1 + 1?", "answer": 2},
        {"question": "5?", "answer": "5"},
    )
    options = Options(
        teacher=str(tmp_path / "teacher"),
        student=str(tmp_path / "student"),
        problems=str(problems),
        prefix_lengths=(0, 4),
        samples=2,
        max_tokens=16,
        controls=("correct-so-far",),
        temperature=0.0,
        out=str(tmp_path / "run"),
    )
    result = prefix_decay.prefix_decay(options)
    assert result.record["identity"]["teacher"]["source"] == "folder"
    assert result.record["identity"]["problems"]["version"] == "local file"
    conditions = set(result.measurements["condition"])
    assert (
        not {"correct-so-far", "already-wrong"} & conditions
    )  # no steps are known: by the end, and named so
    rollouts = pd.read_parquet(tmp_path / "run" / "rollouts.parquet")
    greedy = rollouts[rollouts["condition"] == "teacher"].groupby("problem_id")["text"].nunique()
    assert set(greedy) == {1}


def test_controls_in_any_order_are_the_same_run() -> None:
    first, second = (
        Options(controls=("reverse", "own-prefix")),
        Options(controls=("own-prefix", "reverse", "reverse")),
    )
    assert first.resolved() == second.resolved()


def test_a_misspelt_model_is_told_before_problems_are_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prepare, "load_problems", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(UserError, match="no model 'nonsense'"):
        prefix_decay.prefix_decay(Options(teacher="nonsense"))
