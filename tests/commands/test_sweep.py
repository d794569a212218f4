"""A sweep: which runs it makes, that it shares and resumes them, what it says of those that fail,
and what it compares."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command_line import DATA, ENVIRONMENT, decaylab
from stub_decaylab import chance_of

from decaylab.commands import children, drawing, sweep_runs, sweeps
from decaylab.errors import UserError
from decaylab.figures import style
from decaylab.options.command_options import COMMANDS
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.runs import measurements, store
from decaylab.runs.vocabulary import OVER_SEEDS, THESE_SEEDS

STUB = (sys.executable, str(Path(__file__).parents[1] / "helpers" / "stub_decaylab.py"))


DRAW = drawing.draw


@pytest.fixture(autouse=True)
def stubbed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PROGRAM", STUB)
    monkeypatch.setattr(drawing, "draw", lambda *more, **others: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def options(folder: Path, **changes: Any) -> SweepOptions:
    given = {
        "over": "rollout-length",
        "values": "5,20,full",
        "seeds": 2,
        "test_limit": 40,
        "runs": str(folder / "runs"),
    }
    return SweepOptions(**{**given, **changes})


def calls(folder: Path) -> list[str]:
    return (folder / "runs" / "calls.txt").read_text().splitlines()


def pick(frame: pd.DataFrame, what: str, arm: str, estimand: str) -> pd.Series:
    chosen = frame[
        (frame["what"] == what) & (frame["checkpoint"] == arm) & (frame["estimand"] == estimand)
    ]
    return chosen[(chosen["condition"] == "last_boxed") & (chosen["view"] == "last")].iloc[0]


def test_every_arm_is_trained_and_evaluated_with_every_seed(tmp_path: Path) -> None:
    result = sweeps.sweep(options(tmp_path))
    frame = result.measurements
    runs = [f"{arm}-seed-{seed}" for seed in (0, 1) for arm in ("prefix-5", "prefix-20", "full")]
    assert calls(tmp_path) == [f"{what} {run}" for run in runs for what in ("train", "evaluate")]
    draws = np.random.default_rng(0).random(40)
    right = {run: (draws < chance_of(run)).mean() for run in runs}
    for arm in ("prefix-5", "prefix-20", "full"):
        seeds = [right[f"{arm}-seed-{seed}"] for seed in (0, 1)]
        assert pick(frame, "avg_at_1", arm, OVER_SEEDS)["value"] == pytest.approx(np.mean(seeds))
        assert pick(frame, "avg_at_1_minus_base", arm, THESE_SEEDS)["value"] == pytest.approx(
            np.mean(seeds) - (draws < 0.3).mean()
        )
    assert result.folder.parent == tmp_path / "runs"
    stored = measurements.read(result.folder / "measurements.parquet")
    assert {"peak_minus_lowest", "seconds_per_step", "selected_kl_share"} <= set(stored["what"])


def test_a_second_sweep_shares_the_runs_it_has_in_common(tmp_path: Path) -> None:
    sweeps.sweep(options(tmp_path, values="20,full", seeds=1))
    before = len(calls(tmp_path))
    other = sweeps.sweep(
        options(tmp_path, over="selector", values="prefix,random,full", budget=20, seeds=1)
    )
    assert calls(tmp_path)[before:] == ["train random-20-seed-0", "evaluate random-20-seed-0"]
    assert other.folder.parent == tmp_path / "runs" and other.folder.name.startswith("selector-")
    assert (other.folder / "run.json").exists()


def test_a_finished_sweep_starts_no_process(tmp_path: Path) -> None:
    first = sweeps.sweep(options(tmp_path, values="5")).measurements
    before = calls(tmp_path)
    pd.testing.assert_frame_equal(sweeps.sweep(options(tmp_path, values="5")).measurements, first)
    assert calls(tmp_path) == before


def test_a_run_that_fails_is_named_and_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_FAIL", "prefix-20-seed-0")
    result = sweeps.sweep(options(tmp_path, values="5,20", workers=2))
    assert result.failed == {"prefix-20-seed-0": "the loss is not finite"}
    assert result.complaint == (
        "1 run failed: prefix-20-seed-0 (the loss is not finite); the same command tries it again"
    )
    assert len([line for line in calls(tmp_path) if line.startswith("evaluate")]) == 3
    rows = result.measurements
    assert set(rows[rows.checkpoint == "prefix-20"].training_seed.dropna()) == {1}, (
        "the others are measured"
    )
    assert any(note.startswith("1 of 4 runs failed, left out; ") for note in result.notes)
    log = (tmp_path / "runs" / "logs" / "prefix-20-seed-0.log").read_text().splitlines()
    assert log[0].startswith("$ decaylab train ") and log[1:] == [
        "something on the way",
        "decaylab: the loss is not finite",
    ]
    monkeypatch.delenv("STUB_FAIL")
    before = len(calls(tmp_path))
    assert sweeps.sweep(options(tmp_path, values="5,20")).failed == {}
    assert calls(tmp_path)[before:] == ["train prefix-20-seed-0", "evaluate prefix-20-seed-0"]


def test_a_failure_is_one_line_and_exit_code_2_behind_the_table_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_FAIL", "full-seed-0")
    words = ("sweep", "rollout-length", "--values", "5,full", "--seeds", "1", "--test-limit", "40")
    outcome = decaylab(*words, "--runs", tmp_path / "runs", "--quiet")
    assert outcome.code == 2 and "prefix-5" in outcome.out
    assert outcome.err == (
        "decaylab: 1 run failed: full-seed-0 (the loss is not finite); the same command tries it "
        "again\n"
    )
    monkeypatch.setenv("STUB_FAIL", "prefix-20-seed-0")
    none = decaylab(
        "sweep",
        "rollout-length",
        "--values",
        "20",
        "--seeds",
        "1",
        "--runs",
        tmp_path / "other",
        "--quiet",
    )
    assert none.complaint.startswith("1 run failed: prefix-20-seed-0 (the loss is not finite)")


def test_each_run_is_told_with_an_estimate_of_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from decaylab.progress import Reporter

    sweeps.sweep(options(tmp_path, values="5", seeds=2), reporter=Reporter())
    first, one, second, two, summary = capsys.readouterr().err.splitlines()
    logs = tmp_path / "runs" / "logs"
    assert first == f"prefix-5-seed-0 begins; log: {logs / 'prefix-5-seed-0.log'}"
    assert second == f"prefix-5-seed-1 begins; log: {logs / 'prefix-5-seed-1.log'}"
    assert one.startswith("1 of 2 runs: prefix-5-seed-0 in ") and one.endswith(" s left")
    assert two.startswith("2 of 2 runs: prefix-5-seed-1 in ") and "left" not in two
    assert summary.startswith("sweep rollout-length: 2 runs in ") and "tokens" not in summary


def test_checkpoints_that_are_not_evaluated_yet_are_and_those_that_are_stay(tmp_path: Path) -> None:
    sweeps.sweep(options(tmp_path, values="5", seeds=1))
    before = len(calls(tmp_path))
    frame = sweeps.sweep(
        options(tmp_path, values="5", seeds=1, checkpoint_rule="best", out=str(tmp_path / "best"))
    ).measurements
    assert calls(tmp_path)[before:] == ["evaluate prefix-5-seed-0"]
    draws = np.random.default_rng(0).random(40)
    rows = frame[
        (frame["what"] == "avg_at_1")
        & (frame["checkpoint"] == "prefix-5")
        & (frame["condition"] == "last_boxed")
    ]
    assert set(rows["view"]) == {"best"} and set(rows["step"]) == {1}
    assert set(rows["value"]) == {(draws < chance_of("prefix-5-seed-0", 1)).mean()}
    before = len(calls(tmp_path))
    both = sweeps.sweep(
        options(
            tmp_path, values="5", seeds=1, checkpoint_rule="last,best", out=str(tmp_path / "both")
        )
    )
    assert calls(tmp_path)[before:] == [], "the last one was kept"
    assert {"last", "best"} <= set(both.measurements["view"])


def test_overwrite_evaluates_and_compares_again_and_trains_nothing(tmp_path: Path) -> None:
    sweeps.sweep(options(tmp_path, values="5", seeds=1))
    with pytest.raises(UserError, match="--overwrite to evaluate again"):
        sweeps.sweep(options(tmp_path, values="5", seeds=1, test_limit=30))
    before = len(calls(tmp_path))
    frame = sweeps.sweep(
        options(tmp_path, values="5", seeds=1, test_limit=30, overwrite=True)
    ).measurements
    assert calls(tmp_path)[before:] == ["evaluate prefix-5-seed-0"]
    assert set(frame[frame["what"] == "avg_at_1"]["problems"]) == {30}


def test_two_sweeps_do_not_work_on_the_same_runs_at_once(tmp_path: Path) -> None:
    with (
        store.RunFolder(tmp_path / "runs").lock(),
        pytest.raises(UserError, match="runs is in use by another process"),
    ):
        sweeps.sweep(options(tmp_path))
    assert not (tmp_path / "runs" / "calls.txt").exists()


def test_seconds_that_were_taken_beside_others_say_so_for_good(tmp_path: Path) -> None:
    """Also in a later sweep that finds the runs finished and has one worker."""
    first = sweeps.sweep(options(tmp_path, values="5", seeds=1, workers=2))
    again = sweeps.sweep(options(tmp_path, values="5", seeds=1, workers=1))
    for result in (first, again):
        rows = result.measurements
        assert (
            rows[rows["what"] == "seconds_per_step"]["note"]
            .str.contains("timed beside up to 1 other run")
            .all()
        )
        assert any("timed beside up to 1 other run;" in note for note in result.notes)
    alone = sweeps.sweep(options(tmp_path, values="5", seeds=1, runs=str(tmp_path / "alone")))
    assert not alone.measurements["note"].str.contains("timed beside").any() and alone.notes == ()


def test_the_answer_rule_that_is_reported_is_that_of_the_problems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUB_RULE", "gsm8k")
    frame = sweeps.sweep(options(tmp_path, values="5", seeds=1)).measurements
    assert frame[frame["what"] == "avg_at_1"]["condition"].iloc[0] == "gsm8k"
    said = options(
        tmp_path,
        values="5",
        seeds=1,
        answer_rule="anywhere",
        overwrite=True,
        runs=str(tmp_path / "other"),
    )
    assert sweeps.sweep(said).measurements["condition"].iloc[0] == "anywhere"


def test_figures_are_drawn_as_far_as_there_are_rows_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[str] = []
    monkeypatch.setattr(drawing, "draw", DRAW)
    monkeypatch.setattr(style, "save", lambda figure, path, **more: saved.append(path.name))
    result = sweeps.sweep(options(tmp_path, values="5,full", seeds=1, paper=True))
    assert saved == ["n-sweep", "stability", "efficiency"]
    assert "arXiv 2605.27028" in (result.folder / "n-sweep.txt").read_text()
    saved.clear()
    runs = options(tmp_path, over="selector", values="prefix,full", budget=5, seeds=1)
    result = sweeps.sweep(runs)
    assert saved == ["token-selection", "stability", "efficiency"]
    saved.clear()
    frame = result.measurements
    single = frame[~frame["what"].isin(["peak_accuracy", "accuracy"])]
    measurements.write(single, result.folder / "measurements.parquet")
    DRAW(result.folder, "sweep selector", published=False)
    assert saved == ["token-selection", "efficiency"], (
        "runs of a single checkpoint have no stability"
    )


def test_a_sweep_killed_halfway_takes_its_children_along_and_goes_on(tmp_path: Path) -> None:
    words = ["sweep", "rollout-length", "--values", "5,20", "--seeds", "1", "--test-limit", "40"]
    words += ["--runs", str(tmp_path / "runs"), "--quiet"]
    code = (
        "from decaylab.commands import children, drawing\nfrom decaylab.cli import main as cli\n"
        + f"children.PROGRAM = {STUB!r}\n"
    )
    code += "drawing.draw = lambda *more, **others: None\ncli.main()"
    environment = ENVIRONMENT | {"STUB_STALL": "prefix-20-seed-0"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], env=environment, cwd=DATA.parent.parent
    )
    end = time.monotonic() + 60
    while not (tmp_path / "runs" / "stalled").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    end = time.monotonic() + 10
    while _children_of_the_stub(tmp_path):
        assert time.monotonic() < end
        time.sleep(0.05)
    found = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=ENVIRONMENT,
        cwd=DATA.parent.parent,
        capture_output=True,
    )
    assert found.returncode == 0
    assert calls(tmp_path) == [
        "train prefix-5-seed-0",
        "evaluate prefix-5-seed-0",
        "train prefix-20-seed-0",
        "train prefix-20-seed-0",
        "evaluate prefix-20-seed-0",
    ]


def _children_of_the_stub(folder: Path) -> list[str]:
    """Processes that still work for a sweep in this folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line and "stub_decaylab" in line:
            found.append(line)
    return found


def test_a_run_of_another_training_is_refused_with_what_differs(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "prefix-5-seed-0"
    run.mkdir(parents=True)
    training = dataclasses.asdict(TrainOptions(rollout_length="5", steps=7).resolved())
    (run / "run.json").write_text(json.dumps({"identity": {"training": training}}))
    with pytest.raises(
        UserError,
        match=r"prefix-5-seed-0 contains a run with different settings \(--steps 7 there, 100 now",
    ):
        sweeps.sweep(options(tmp_path))


def test_an_evaluation_of_other_problems_is_refused(tmp_path: Path) -> None:
    sweeps.sweep(options(tmp_path, values="5", seeds=1))
    with pytest.raises(
        UserError, match=r"holds another evaluation \(--test-limit 40 there, 30 now\)"
    ):
        sweeps.sweep(options(tmp_path, values="5", seeds=1, test_limit=30))


@pytest.mark.parametrize(
    "training",
    [
        TrainOptions(rollout_length="10", learning_rate=1e-4, score_end=False, bins=(0, 4)),
        TrainOptions(
            selector="random",
            budget=7,
            full_finetune=True,
            columns={"answer": ""},
            problems="mine.jsonl",
        ),
        TrainOptions(
            selector="after-teacher-prefix",
            rollout_length="10",
            teacher_prefix=30,
            normalise="rollouts",
        ),
        TrainOptions(selector="importance", seed=4, gradient_checkpointing=True, top_k=5),
        TrainOptions(rollout_length="full"),
    ],
)
def test_the_words_handed_to_a_run_mean_the_same_training(
    training: TrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from decaylab.cli import main
    from decaylab.trainer import loop

    said = []

    def kept(options: TrainOptions, **more: Any) -> None:
        said.append(options.resolved())
        raise UserError("enough")

    monkeypatch.setattr(loop, "train", kept)
    resolved = training.resolved()
    with pytest.raises(SystemExit):
        main.main(["train", *sweep_runs.train_words(resolved)])
    assert said == [resolved]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("rollouts", "--values", "5"),
            "what is swept must be rollout-length or selector, got rollouts",
        ),
        (
            ("rollout-length",),
            "--values must list the values to compare, such as 5,10,20,full",
        ),
        (("rollout-length", "--values", "5,0"), "each of --values must be at least 1 token, got 0"),
        (
            ("rollout-length", "--values", "5,five"),
            "each of --values must be a number of tokens or full, got five",
        ),
        (("rollout-length", "--values", "5,5"), "--values 5,5: prefix-5 appears twice"),
        (
            ("selector", "--values", "prefix,best"),
            "each of --values must be one of prefix, prefix-mask, ",
        ),
        (
            ("selector", "--values", "prefix", "--rollout-length", "9"),
            "sweep selector compares selectors at one --budget",
        ),
        (("rollout-length", "--values", "5", "--seeds", "0"), "--seeds must be at least 1, got 0"),
        (
            ("rollout-length", "--values", "5", "--workers", "0"),
            "--workers must be at least 1, got 0",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(
    words: tuple[str, ...], told: str, tmp_path: Path
) -> None:
    assert decaylab("sweep", *words, "--runs", tmp_path / "runs").complaint.startswith(told)
    assert not (tmp_path / "runs").exists()


def test_the_command_prints_every_arm_with_both_intervals_and_its_seeds(tmp_path: Path) -> None:
    words = ("sweep", "selector", "--values", "random,full", "--seeds", "2", "--test-limit", "40")
    outcome = decaylab(*words, "--runs", tmp_path / "runs", "--quiet", "--verbose")
    assert outcome.code == 0, outcome.err
    assert "\nSweep over selector\n" in outcome.out
    measured = "2 seeds, 40 test problems x 1, answer rule last_boxed, last checkpoint"
    assert f"\n{measured}\n" in outcome.out
    (line,) = [line for line in outcome.out.splitlines() if "│ random-40" in line][:1]
    draws = np.random.default_rng(0).random(40)
    assert all(f"{100 * (draws < chance).mean():.1f}" in line for chance in (0.5, 0.55))
    assert line.count("[") == 1, "two seeds have no interval over seeds"
    assert "Δ full, over seeds" in outcome.out and "share of KL" in outcome.out


def test_both_checkpoint_rules_are_printed_side_by_side(tmp_path: Path) -> None:
    words = (
        "sweep",
        "rollout-length",
        "--values",
        "5",
        "--seeds",
        "1",
        "--test-limit",
        "40",
        "--checkpoint-rule",
        "last,best",
    )
    out = decaylab(*words, "--runs", tmp_path / "runs", "--quiet", "--verbose").out
    assert "1 seed, 40 test problems x 1, answer rule last_boxed, last and best checkpoint" in out
    draws = np.random.default_rng(0).random(40)
    for view, step in (("last", 2), ("best", 1)):
        part = out.split(f"Accuracy, avg@1, %, {view} checkpoint")[1].split("Differences")[0]
        (line,) = [line for line in part.splitlines() if "│ prefix-5" in line]
        assert f"{100 * (draws < chance_of('prefix-5-seed-0', step)).mean():.1f}" in line


def handed_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, **given: Any
) -> tuple[TrainOptions, DiagnosticOptions]:
    """The options that train and evaluate make of the words that a sweep gives them."""
    from decaylab.cli import main
    from decaylab.commands import diagnose
    from decaylab.trainer import loop

    words: list[tuple[str, ...]] = []
    monkeypatch.setattr(
        children, "run", lambda jobs, **more: words.extend(jobs[0].commands) or {"all": "stopped"}
    )
    found: list[Any] = []
    end = UserError("enough")

    def kept(*options: Any, **more: Any) -> None:
        found.append(options[-1])
        raise end

    monkeypatch.setattr(loop, "train", kept)
    monkeypatch.setattr(diagnose, "diagnose", kept)
    with pytest.raises((UserError, FileNotFoundError)):
        sweeps.sweep(options(folder, **given))
    for one in words:
        with pytest.raises(SystemExit):
            main.main(list(one))
    return found[0], found[1]


CHANGED: dict[str, Any] = {
    "teacher": "abacus-student",
    "student": "abacus-teacher",
    "problems": "mine.jsonl",
    "samples": 3,
    "max_tokens": 99,
    "limit": 7,
    "split": "dev",
    "columns": {"answer": "gold"},
    "revision": "r1",
    "teacher_revision": "r2",
    "student_revision": "r3",
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "teacher_prompt": "student",
    "prompt_format": "plain",
    "thinking": "on",
    "answer_rule": "anywhere",
    "level": 0.8,
    "dtype": "float32",
    "device": "cpu",
    "batch_rows": 3,
    "engine": "vllm",
    "tensor_parallel": 2,
    "gpu_memory_share": 0.3,
    "trust_remote_code": True,
    "cache": "elsewhere",
    "test_problems": "gsm8k",
    "test_limit": 11,
    "validation_problems": 5,
    "steps": 3,
    "problems_per_step": 2,
    "rollouts_per_problem": 2,
    "divergence": "js",
    "normalise": "rollouts",
    "score_end": False,
    "full_finetune": True,
    "lora_rank": 3,
    "lora_alpha": 5,
    "lora_targets": "q_proj",
    "learning_rate": 0.1,
    "warmup_steps": 1,
    "schedule": "cosine",
    "weight_decay": 0.1,
    "clip": 2.0,
    "autocast": "bfloat16",
    "gradient_checkpointing": True,
    "batch_tokens": 77,
    "checkpoint_every": 2,
    "bins": (0, 3),
    "seed": 4,
    "checkpoint_rule": "best",
    "system": "Be brief.",
    "teacher_system": "Be exact.",
    "instruction": "none",
    "template_kwargs": {"effort": "low"},
    "thought_marks": "<a> <b>",
    "leave_out_long": True,
    "leave_out_broken": True,
    "no_sandbox": True,
    "tools": "text",
}
ARMS = (
    "over",
    "values",
    "seeds",
    "runs",
    "workers",
    "out",
    "overwrite",
    "paper",
    "selector",
    "rollout_length",
    "budget",
)
"""What makes the arms, or is the sweep's own: the tests above."""
OTHERS = {
    "problems": "mine.jsonl",
    "test_problems": "gsm8k",
}  # another pair than the embedded one has no problems of its own
ONLY_WITH = {
    "teacher": OTHERS,
    "tensor_parallel": {"engine": "vllm"},
    "gpu_memory_share": {"engine": "vllm"},
}


# A plugin is tested in test_own_parts: it registers names, which are those of the process.
@pytest.mark.parametrize(
    "name", sorted(set(COMMANDS["sweep"].names) - {*ARMS, "teacher_prefix", "plugin"})
)
def test_every_option_of_a_sweep_arrives_where_it_concerns(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An option without a value here, because it is new, fails: whoever adds it says where it
    goes."""
    value = CHANGED[name]
    given = {"values": "5", "seeds": 1, **ONLY_WITH.get(name, {}), name: value}
    training, evaluation = handed_on(tmp_path, monkeypatch, **given)
    if name in COMMANDS["train"].names:
        assert getattr(training, name) == (None if name == "test_limit" else value)
    of_the_test = {
        "test_limit": "limit",
        "samples": "samples",
        "cache": "cache",
        "checkpoint_rule": "checkpoint_rule",
    }
    own = of_the_test.get(name, name)
    if own in COMMANDS["evaluate"].names and name not in (*sweep_runs.TRAINING_PROBLEMS, "seed"):
        assert getattr(evaluation, own) == value
    if name in sweep_runs.TRAINING_PROBLEMS:
        untouched = {"limit": 40, "columns": {}}.get(name)
        assert getattr(evaluation, name) == untouched, (
            "the problems of the test are told by the run"
        )


def test_how_a_sweep_is_computed_is_no_part_of_what_it_is(tmp_path: Path) -> None:
    first = sweeps.sweep(options(tmp_path, values="5", seeds=1))
    before = calls(tmp_path)
    computed = {
        "batch_rows": 7,
        "batch_tokens": 99,
        "gradient_checkpointing": True,
        "device": "cpu",
        "workers": 2,
    }
    again = sweeps.sweep(options(tmp_path, values="5", seeds=1, **computed))
    assert again.folder == first.folder and calls(tmp_path) == before
    with pytest.raises(UserError, match="different settings"):
        sweeps.sweep(options(tmp_path, values="5", seeds=1, steps=7))


@pytest.mark.slow
def test_a_real_sweep_of_two_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PROGRAM", (sys.executable, "-m", "decaylab"))
    monkeypatch.setattr(drawing, "draw", DRAW)
    small = {
        "steps": 2,
        "problems_per_step": 4,
        "validation_problems": 4,
        "test_limit": 6,
        "seeds": 1,
        "values": "5,full",
    }
    result = sweeps.sweep(options(tmp_path, **small, workers=2, cache=str(tmp_path / "cache")))
    rows = result.measurements
    arms = rows[(rows["what"] == "avg_at_1") & (rows["condition"] == "last_boxed")]
    assert {"prefix-5", "full", "base", "teacher"} <= set(arms["checkpoint"]) and (
        arms["problems"] == 6
    ).all()
    assert (result.folder / "n-sweep.png").exists() and not (
        result.folder / "stability.png"
    ).exists()
    before = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "runs").glob("*-seed-0/**/*")
        if path.is_file()
    }
    again = sweeps.sweep(options(tmp_path, **small, workers=2, cache=str(tmp_path / "cache")))
    pd.testing.assert_frame_equal(again.measurements, rows)
    assert before == {path: path.stat().st_mtime_ns for path in before}, "nothing is done twice"
