"""A training run as a whole: it learns, repeats itself, goes on after a kill, agrees over
processes, refuses what is bad."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import _SharedGrader, contents, decaylab, start, write_lines
from tiny_models import byte_tokenizer, save_folder
from training_by_hand import SHORT, trace, train

from decaylab.errors import UserError
from decaylab.options.training import TrainOptions
from decaylab.policies import loading
from decaylab.problems import abacus
from decaylab.problems.generated import TEST_SEED
from decaylab.problems.sets import load_problems
from decaylab.trainer import loop, step
from decaylab.trainer import loss as losses
from decaylab.trainer.alarms import Thresholds, alarms


def weights(run: Path, step: int) -> bytes:
    return (run / f"step-{step:06d}" / "adapter_model.safetensors").read_bytes()


def refused(folder: Path, **options: Any) -> str:
    with pytest.raises(UserError) as error:
        train(folder, **options)
    message = str(error.value)
    assert "\n" not in message
    return message


# That it learns


def held_out(folder: Path) -> np.ndarray:
    """Reverse KL on held-out problems, before and after 12 steps of ESR at 20 tokens."""
    train(folder, steps=12, problems_per_step=16, checkpoint_every=12, validation_problems=60)
    return pd.read_csv(folder / "validation.csv")["reverse_kl"].to_numpy()


def test_twelve_steps_lower_the_held_out_reverse_kl(tmp_path: Path) -> None:
    before, after = held_out(tmp_path / "run")
    assert after < 0.95 * before


def test_a_loss_of_the_other_sign_raises_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lowered = losses.FORMS["reverse-kl"]
    monkeypatch.setitem(losses.FORMS, "reverse-kl", lambda at: tuple(-one for one in lowered(at)))
    before, after = held_out(tmp_path / "run")
    assert after > 1.5 * before


def test_a_student_equal_to_its_teacher_is_left_as_it_is(tmp_path: Path) -> None:
    same = {
        "teacher": "abacus-student",
        "student": "abacus-student",
        "problems": "abacus-train",
        "test_problems": "none",
    }
    result = train(
        tmp_path / "run",
        **same,
        rollout_length="20",
        max_tokens=100,
        validation_problems=0,
        learning_rate=1.0,
    )
    assert (
        result.metrics["loss"].tolist() == [0.0] * 4
        and result.metrics["gradient_norm"].tolist() == [0.0] * 4
    )
    trained, base = loading.load(str(tmp_path / "run")), loading.load("abacus-student")
    for one, other in zip(trained.weights.parameters(), base.weights.parameters(), strict=True):
        assert torch.equal(one, other)


# That it repeats itself


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(folder)
    return folder


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(
    whole: Path, tmp_path: Path
) -> None:
    train(tmp_path / "again")
    assert weights(tmp_path / "again", 4) == weights(whole, 4)
    pd.testing.assert_frame_equal(trace(tmp_path / "again"), trace(whole), check_exact=True)
    train(tmp_path / "other", seed=1)
    assert weights(tmp_path / "other", 4) != weights(whole, 4)


def test_gradients_of_any_number_of_micro_batches_are_the_same_step(
    whole: Path, tmp_path: Path
) -> None:
    train(tmp_path / "run", batch_tokens=1)
    pd.testing.assert_frame_equal(trace(tmp_path / "run"), trace(whole), rtol=1e-4)


SMALL = (
    *(
        "train",
        "--steps",
        "6",
        "--problems-per-step",
        "4",
        "--checkpoint-every",
        "2",
        "--validation-problems",
        "6",
    ),
    "--quiet",
)


def until(process: subprocess.Popen[str], reached: Callable[[], bool]) -> None:
    """Waits for a place in a process's work."""
    end = time.monotonic() + 120
    while not reached():
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.01)


def test_a_run_killed_twice_and_interrupted_once_ends_as_one_that_nothing_disturbed(
    tmp_path: Path,
) -> None:
    with start(*SMALL, "--out", tmp_path / "whole") as undisturbed:
        assert undisturbed.wait() == 0
    run = tmp_path / "cut"

    def rows() -> int:
        return (
            len((run / "metrics.csv").read_text().splitlines()) - 1
            if (run / "metrics.csv").exists()
            else 0
        )

    # Killed behind a step that no checkpoint has; killed between a checkpoint and the state to go
    # on from; interrupted.
    with start(*SMALL, "--out", run, before=STALLED_AT_STEP_3) as process:
        until(process, lambda: rows() == 3)
        process.kill()
    with start(*SMALL, "--out", run, before=STALLED_AT_STATE_4) as process:
        until(
            process,
            lambda: (run / "step-000004").exists() and len(trace(run, "validation.csv")) == 3,
        )
        process.kill()
    with start(*SMALL, "--out", run, before=INTERRUPTED_AT_STEP_3) as process:
        _, told = process.communicate()
        assert rows() == 3  # the step in flight is finished
        assert process.returncode == 130, told
        assert f"the first 3 steps are kept in {run}. To resume: decaylab train " in told, told
        kept = json.loads((run / "run.json").read_text())["made"]
    with start(*SMALL, "--out", run) as process:
        assert process.wait() == 0
    for name in ("metrics.csv", "validation.csv"):
        pd.testing.assert_frame_equal(
            trace(run, name), trace(tmp_path / "whole", name), check_exact=True
        )
    for count in (2, 4, 6):
        ours, theirs = (contents(one / f"step-{count:06d}") for one in (run, tmp_path / "whole"))
        # The card names the run.
        ours["README.md"] = ours["README.md"].replace(b"(run `cut`)", b"(run `whole`)")
        assert ours == theirs
    record = json.loads((run / "run.json").read_text())
    assert record["finished"] and not (run / "resume").exists()
    assert record["made"]["date"] == kept["date"], "of the first process"
    assert record["made"]["seconds"] > kept["seconds"] > 0, "resumed runs add up"


STALLED_AT_STEP_3 = """
import time
from decaylab.trainer import loop; from decaylab.runs import growing_csv as records
append = records.Table.append
def stalled(self, row):
    append(self, row)
    if self.path.name == "metrics.csv" and row["step"] == 3:
        time.sleep(300)
records.Table.append = stalled
"""
INTERRUPTED_AT_STEP_3 = """
import os, signal
from decaylab.trainer import loop
step = loop.Run.step
def interrupted(self, number, *more):
    if number == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return step(self, number, *more)
loop.Run.step = interrupted
"""
STALLED_AT_STATE_4 = """
import time
from decaylab.trainer.machinery import resume
write = resume.ResumeState.write
resume.ResumeState.write = lambda self, step, *more: time.sleep(300) if step == 4 else write(self, step, *more)
"""  # noqa: E501


def test_a_finished_run_is_read_and_not_redone_unless_it_is_asked_for(whole: Path) -> None:
    before = contents(whole)
    result = train(whole)
    assert contents(whole) == before and len(result.metrics) == 4 and len(result.validation) == 3
    train(whole, overwrite=True)
    after = contents(whole)
    assert after.keys() == before.keys() and after[
        "step-000004/adapter_model.safetensors"
    ] == weights(whole, 4)


def test_a_run_of_another_configuration_is_refused_with_what_differs(whole: Path) -> None:
    told = refused(whole, learning_rate=3e-4, budget=10)
    assert "--learning-rate 0.001 there, 0.0003 now" in told and "--budget 40 there, 10 now" in told


# What is recorded


def test_a_run_records_its_preset_what_was_held_out_and_a_card(whole: Path) -> None:
    record = json.loads((whole / "run.json").read_text())
    assert (
        record["preset"] == "embedded pair"
        and record["identity"]["options"]["problems"] == "abacus"
    )
    training = record["identity"]["training"]
    assert (training["selector"], training["rollout_length"], training["learning_rate"]) == (
        "prefix",
        "40",
        1e-3,
    )
    assert len(record["identity"]["problems"]["held_out"]) == 6
    card = (whole / "step-000002" / "README.md").read_text()
    assert (
        "base_model: abacus-student" in card
        and "stop at 40 tokens" in card
        and "step 2 of 4" in card
    )
    rows = pd.read_csv(whole / "metrics.csv")
    assert rows["step"].tolist() == [1, 2, 3, 4] and (rows["tokens_sampled"] == 4 * 40).all()
    assert np.allclose(rows["loss"], rows["reverse_kl"])  # everything is selected
    assert (
        rows[["generation_seconds", "scoring_seconds", "training_seconds", "training_peak_gib"]] > 0
    ).all(axis=None)


def test_held_out_problems_are_the_same_for_every_seed_and_never_trained_on(tmp_path: Path) -> None:
    from decaylab.problems.grading import Grader
    from decaylab.trainer.machinery.setup import prepare_training

    with Grader() as grader:
        setups = [
            prepare_training(TrainOptions(limit=60, seed=seed, **SHORT).resolved(), grader)
            for seed in (0, 1)
        ]
    held = [{problem.problem_id for problem in setup.validation} for setup in setups]
    trained = [{problem.problem_id for problem in setup.pair.problems} for setup in setups]
    assert held[0] == held[1] and len(held[0]) == 6
    assert trained[0] != trained[1] and not held[0] & (trained[0] | trained[1])


def test_training_problems_that_stand_in_the_test_set_are_dropped_and_counted(
    tmp_path: Path,
) -> None:
    test = load_problems("abacus", limit=3).problems
    mine = load_problems("abacus-train", limit=10).problems
    rows = [{"question": one.question.upper().replace(" ", "  ", 1)} for one in test]
    rows += [{"question": one.question} for one in mine]
    file = write_lines(tmp_path / "mine.jsonl", *rows)
    columns = {"question": "question", "answer": ""}
    result = train(
        tmp_path / "run", problems=str(file), columns=columns, validation_problems=0, steps=1
    )
    assert "3 of 13 training problems are also in abacus, dropped" in result.notes
    assert result.record["identity"]["problems"]["overlap_with_test"] == 3
    write_lines(file, *rows[:3])
    told = refused(tmp_path / "none", problems=str(file), columns=columns, validation_problems=0)
    assert (
        told
        == "mine.jsonl: no training problem is left (of 3, 3 are in the test set and 0 are held "
        "out)"
    )


def test_the_training_problems_of_the_embedded_pair_are_none_of_its_test(tmp_path: Path) -> None:
    asked = {problem.question for problem in abacus.generate(2000, seed=TEST_SEED, part="test")}
    trained = load_problems("abacus-train").problems
    assert len(trained) == 5000 and not asked & {problem.question for problem in trained}


def test_an_alarm_is_told_recorded_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        loop, "alarms", lambda before, now: alarms(before, now, Thresholds(length=0.5))
    )
    result = train(tmp_path / "run", steps=2)
    assert len(result.alarms) == 2 and result.alarms[1].startswith(
        "alarm at step 2: responses have grown to"
    )
    assert [
        one["step"] for one in json.loads((tmp_path / "run" / "run.json").read_text())["alarms"]
    ] == [0, 2]


def test_full_training_rollouts_are_watched_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(loop, "WINDOW", 2)
    monkeypatch.setattr(loop, "alarms", lambda before, now: seen.append((before, now)) or [])
    train(tmp_path / "run", selector="full", validation_problems=0)
    lengths = trace(tmp_path / "run")["response_tokens"]
    ((before, now),) = seen  # behind step 4: the last two steps against the first two
    assert before.response_tokens == pytest.approx(lengths[:2].mean())
    assert now.response_tokens == pytest.approx(lengths[2:].mean())


# What it makes


def test_full_fine_tuning_makes_a_model_folder_that_loads(tmp_path: Path) -> None:
    result = train(tmp_path / "run", full_finetune=True, validation_problems=0, steps=2)
    assert result.record["identity"]["training"]["learning_rate"] == pytest.approx(2e-4)
    trained, base = (
        loading.load(str(tmp_path / "run" / "step-000002")),
        loading.load("abacus-student"),
    )
    changed = [
        not torch.equal(*two)
        for two in zip(trained.weights.parameters(), base.weights.parameters(), strict=True)
    ]
    assert all(changed) and trained.identity.source == "folder"


def test_a_diagnostic_takes_the_run_and_knows_its_pair(whole: Path, tmp_path: Path) -> None:
    outcome = decaylab(
        *(
            "position-kl",
            whole,
            "--limit",
            "3",
            "--samples",
            "1",
            "--floor-problems",
            "0",
            "--quiet",
        ),
        *("--cache", tmp_path / "cache", "--out", tmp_path / "kl", "--json"),
    )
    assert outcome.code == 0, outcome.err
    options = json.loads((tmp_path / "kl" / "run.json").read_text())["identity"]["options"]
    assert (options["problems"], options["rollout_length"], options["student"]) == (
        "abacus",
        40,
        "abacus-student",
    )
    assert any(row["checkpoint"] == "run" for row in json.loads(outcome.out)["measurements"])


# What it refuses


def test_a_loss_that_is_no_number_is_saved_and_leaves_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = step.chunked_loss, []

    def broken(*arguments: Any) -> Any:
        found, gradient = real(*arguments)
        calls.append(1)
        if len(calls) == 3:
            found.loss[5] = torch.nan
        return found, gradient

    monkeypatch.setattr(step, "chunked_loss", broken)
    told = refused(tmp_path / "run")
    assert told.startswith(
        "step 3: the loss is not finite at response position 5 of rollout train-3/"
    )
    assert "the checkpoint step-000002 is intact" in told
    found = json.loads((tmp_path / "run" / "not-finite.json").read_text())
    assert (found["step"], found["position"], found["losses"]["loss"]) == (3, 5, "nan")
    assert len(found["response"]) == 40 and found["rollout"] in told
    monkeypatch.setattr(step, "chunked_loss", real)
    train(tmp_path / "run")  # goes on
    train(tmp_path / "undisturbed")
    assert weights(tmp_path / "run", 4) == weights(tmp_path / "undisturbed", 4)


def test_a_teacher_of_another_vocabulary_is_refused_unless_the_loss_is_the_policy_gradient(
    tmp_path: Path,
) -> None:
    student = save_folder(tmp_path / "student")
    teacher = save_folder(tmp_path / "teacher", tokenizer=byte_tokenizer(shift=1))
    told = refused(
        tmp_path / "run",
        teacher=str(teacher),
        student=str(student),
        problems="abacus-train",
        test_problems="none",
        limit=50,
        max_tokens=60,
        rollout_length="10",
    )
    assert told.startswith("--divergence reverse-kl compares laws over one vocabulary")
    assert f"{student} and {teacher} differ" in told
    assert told.endswith("use --divergence policy-gradient")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rollout_length": "0"}, "--rollout-length must be at least 1 token, got 0"),
        (
            {"rollout_length": "10", "budget": 20},
            "--budget 20 exceeds --rollout-length 10: rollouts have fewer tokens; lower --budget",
        ),
        ({"selector": "best"}, "--selector must be one of prefix, prefix-mask, "),
        (
            {"lora_targets": "wq"},
            "--lora-targets wq matches no layer of abacus-student that can have an adapter: its "
            "linear layers",
        ),
        (
            {"test_problems": "no.jsonl"},
            "--test-problems no.jsonl: no such file: no.jsonl; use --test-problems none",
        ),
        (
            {"track": "tensorboard"},
            "--track tensorboard needs a package that is not installed: pip install tensorboard",
        ),
        (
            {"max_tokens": 2000},
            "problem abacus-2-001222: its prompt of 83 tokens plus --max-tokens 2000 ",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    real = importlib.util.find_spec
    with mock.patch(
        "importlib.util.find_spec",
        lambda name, *more: None if name == "tensorboard" else real(name, *more),
    ):
        assert refused(tmp_path / "run", **options).startswith(told)
    assert not (tmp_path / "run" / "run.json").exists()


def test_the_command_prints_the_run_and_json_holds_every_row(tmp_path: Path) -> None:
    from decaylab.cli import main

    words = (*SMALL, "--steps", "2", "--out", str(tmp_path / "run"))
    with (
        mock.patch.object(loading, "load", loading.load),
        mock.patch.object(loop, "Grader", _SharedGrader),
    ):
        outcomes = [_spoken(main, *words), _spoken(main, *words, "--json")]
    assert "selector prefix, rollouts of 40 tokens; 2 steps of 4 problems x 1, seed 0" in " ".join(
        outcomes[0].split()
    )
    assert (
        "6 held-out problems" in outcomes[0]
        and f"next: decaylab evaluate {tmp_path / 'run'}" in outcomes[0]
    )
    found = json.loads(outcomes[1])
    assert [row["step"] for row in found["metrics"]] == [1, 2] and len(found["validation"]) == 2
    printed = " ".join(outcomes[0].split())
    assert found["verdict"] and all(line in printed for line in found["verdict"])


def _spoken(main: Any, *words: str) -> str:
    """Standard output of a command, with models loaded afresh: training changes them."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
        main.main(list(words))
    assert end.value.code == 0
    return out.getvalue()
