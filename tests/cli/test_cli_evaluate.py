"""``decaylab evaluate`` from a run's folder to tables, figure and outcomes; bad input is one line,
exit 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from command_line import DATA, Outcome, decaylab
from matplotlib import image
from peft import LoraConfig, get_peft_model
from training_runs import training_run
from transformers import AutoModelForCausalLM

from decaylab.maths.statistics import proportion
from decaylab.policies import loading
from decaylab.problems.answers import ANSWER_RULES
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import measurements, outcomes, store

SMALL = ("--limit", "5", "--samples", "2", "--max-tokens", "100", "--quiet")
VALIDATED = {0: 0.9, 10: 0.6, 20: 0.5}


def write_adapter(path: Path, scale: float) -> None:
    """A LoRA of random weights on the embedded student."""
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(DATA / "student"),
        LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM"),
    )
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=scale, generator=generator)
    model.save_pretrained(path)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """esr: a run of the embedded pair with two checkpoints. cache: what evaluations leave."""
    path = tmp_path_factory.mktemp("evaluate")
    run = Path(
        training_run(
            path / "esr", validation=VALIDATED, selector="prefix", rollout_length="20", seed=0
        )
    )
    record = json.loads((run / "run.json").read_text())
    record["identity"]["options"] = {
        "teacher": "abacus-teacher",
        "student": "abacus-student",
        "problems": "abacus",
    }
    (run / "run.json").write_text(json.dumps(record))
    for step, scale in ((10, 0.2), (20, 0.4)):
        write_adapter(run / f"step-{step:06}", scale)
    return path


def evaluated(root: Path, *arguments: object, out: Path | None = None) -> Outcome:
    where = () if out is None else ("--out", out)
    more = ("--cache", root / "cache", "--verbose")
    return decaylab("evaluate", *arguments, *SMALL, *more, *where)


@pytest.fixture(scope="module")
def finished(root: Path) -> tuple[Path, Outcome]:
    outcome = evaluated(root, root / "esr")
    (folder,) = (root / "esr").glob("evaluate*")
    return folder, outcome


@pytest.fixture
def no_model(finished: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        TransformersEngine, "sample", lambda *_, **__: pytest.fail("an engine was asked")
    )


# What comes out


def test_a_run_is_evaluated_whole_into_its_own_folder(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    assert (outcome.code, outcome.err) == (0, "")
    frame = measurements.read(folder / "measurements.parquet")
    assert frame["checkpoint"].unique().tolist() == [
        "base",
        "esr/step-000010",
        "esr/step-000020",
        "teacher",
    ]
    taken = {view: set(rows["checkpoint"]) for view, rows in frame.groupby("view")}
    assert taken["last"] == {"esr/step-000020"} and taken["best"] == {"esr/step-000010"}
    own = frame[frame["checkpoint"] == "esr/step-000010"].iloc[0]
    assert (own.step, own.selector, own.rollout_length, own.training_seed) == (10, "prefix", 20, 0)
    assert (
        set(frame["condition"]) == set(ANSWER_RULES) and frame["condition"].iloc[0] == "last_boxed"
    )


def test_tables_figure_and_caption_are_there(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    for words in (
        "\nEvaluation\n",
        "abacus-student with abacus-teacher as its teacher; abacus, 5 problems x 2 samples",
        "Accuracy by the rule last_boxed, %",
        "esr/step-000010 (best)",
        "esr/step-000020 (last)",
        "What each checkpoint rule takes, avg@2 by last_boxed, %",
        "Difference from base on the same problems, by the rule last_boxed, points",
        "Difference from the teacher on the same problems",
        "avg@2 under each answer rule, %",
        "smallest true difference",
    ):
        assert words in outcome.out, words
    assert "nan" not in outcome.out.lower().split() and "scored at" not in outcome.out
    assert image.imread(folder / "evaluate.png").ndim == 3 and (folder / "evaluate.svg").exists()
    assert "(a) avg@2" in (folder / "evaluate.txt").read_text()


def test_outcomes_are_those_of_the_rollouts_and_give_the_measurements(
    finished: tuple[Path, Outcome], root: Path
) -> None:
    folder, _ = finished
    found = outcomes.read(folder / "outcomes.parquet")
    assert found.groupby("checkpoint", sort=False).size().to_dict() == dict.fromkeys(
        ("base", "esr/step-000010", "esr/step-000020", "teacher"), 10
    )
    assert found.groupby("checkpoint", sort=False)["step"].first().tolist()[:3] == [0, 10, 20]
    stored = [
        store.read_table(path, store.ROLLOUTS).to_pandas()
        for path in root.glob("cache/*/rollouts.parquet")
    ]
    theirs = pd.concat(stored)
    for rule in ANSWER_RULES:
        assert sorted(found[f"grade_{rule}"]) == sorted(theirs[f"grade_{rule}"])
    frame = measurements.read(folder / "measurements.parquet")
    rows = found[found["checkpoint"] == "esr/step-000020"]
    expected = proportion(rows["grade_gsm8k"] == "correct", pd.factorize(rows["problem_id"])[0])
    (row,) = frame.query(
        "what == 'avg_at_2' and condition == 'gsm8k' and checkpoint == 'esr/step-000020' "
        "and view == 'fresh'"
    ).itertuples()
    assert (row.value, row.low, row.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("rule", "measured"),
    [
        ("last", ["esr/step-000020"]),
        ("best", ["esr/step-000010"]),
        ("last,best", ["esr/step-000010", "esr/step-000020"]),
    ],
)
def test_a_checkpoint_rule_chooses_what_is_sampled(
    rule: str, measured: list[str], root: Path, tmp_path: Path
) -> None:
    outcome = evaluated(
        root, root / "esr", "--checkpoint-rule", rule, "--json", out=tmp_path / "out"
    )
    assert outcome.code == 0, outcome.err
    frame = measurements.read(tmp_path / "out" / "measurements.parquet")
    assert frame["checkpoint"].unique().tolist() == ["base", *measured, "teacher"]
    assert json.loads(outcome.out)["measurements"][0]["what"] == "avg_at_2"


@pytest.mark.usefixtures("no_model")
def test_the_reported_rule_and_the_level_are_chosen_without_a_model(
    root: Path, tmp_path: Path
) -> None:
    outcome = evaluated(
        root, root / "esr", "--answer-rule", "anywhere", "--level", "0.5", out=tmp_path / "out"
    )
    assert (
        "Accuracy by the rule anywhere, %" in outcome.out
        and "–: the rule does not name one answer per response" in outcome.out
    )
    frame = measurements.read(tmp_path / "out" / "measurements.parquet")
    assert frame["condition"].iloc[0] == "anywhere" and set(frame["level"]) == {0.5}


@pytest.mark.usefixtures("no_model")
def test_checkpoints_of_several_runs_are_told_apart_and_their_results_stand_in_none(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights again, of a run without a validation: the note says whose best is
    missing."""
    other = Path(
        shutil.copytree(
            root / "esr", tmp_path / "again", ignore=shutil.ignore_patterns("evaluate*", "*.csv")
        )
    )
    monkeypatch.chdir(tmp_path)
    outcome = evaluated(root, root / "esr", other)
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("evaluate-abacus-teacher-abacus-student-esr-step-000010")
    frame = measurements.read(folder / "measurements.parquet")
    names = [f"{run}/step-0000{step}" for run in ("esr", "again") for step in (10, 20)]
    assert frame["checkpoint"].unique().tolist() == ["base", *names, "teacher"]
    assert set(frame[frame["view"] == "last"]["checkpoint"]) == {names[1], names[3]}
    assert set(frame[frame["view"] == "best"]["checkpoint"]) == {names[0]}
    assert f"note: {other} has no validation.csv" in outcome.out


@pytest.mark.usefixtures("no_model")
def test_single_checkpoints_and_none_are_evaluated_too(root: Path, tmp_path: Path) -> None:
    one = evaluated(root, root / "esr" / "step-000010", out=tmp_path / "one")
    assert one.code == 0 and "checkpoint rule" not in one.out
    frame = measurements.read(tmp_path / "one" / "measurements.parquet")
    assert set(frame["view"]) == {"fresh"} and frame["checkpoint"].nunique() == 3
    none = evaluated(root, out=tmp_path / "none")
    frame = measurements.read(tmp_path / "none" / "measurements.parquet")
    assert none.code == 0 and frame["checkpoint"].unique().tolist() == ["base", "teacher"]
    assert "Difference from the teacher" in none.out and "Difference from base" not in none.out


@pytest.mark.usefixtures("no_model")
def test_the_same_command_again_gives_the_same_numbers(
    root: Path, finished: tuple[Path, Outcome]
) -> None:
    before = [
        (finished[0] / name).read_bytes() for name in ("measurements.csv", "outcomes.parquet")
    ]
    assert evaluated(root, root / "esr").out == finished[1].out
    assert [
        (finished[0] / name).read_bytes() for name in ("measurements.csv", "outcomes.parquet")
    ] == before


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--checkpoint-rule", "newest"),
            "--checkpoint-rule must be every, last, best, or last,best, got newest",
        ),
        (
            ("--answer-rule", "boxed"),
            "--answer-rule must be one of last_boxed, first_boxed, anywhere, gsm8k, last_block,",
        ),
        (("--samples", "0"), "--samples must be at least 1, got 0"),
        (("--rollouts", "theirs.jsonl"), "no such option --rollouts of evaluate; prefix-decay,"),
        (("nowhere",), "no model 'nowhere'"),
    ],
)
def test_a_bad_option_is_one_line(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    outcome = decaylab(
        "evaluate", *arguments, "--out", tmp_path / "out", "--cache", tmp_path / "cache"
    )
    assert message in outcome.complaint
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_checkpoints_or_without_a_validation_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "load", lambda *_, **__: pytest.fail("a model was loaded"))
    empty = training_run(tmp_path / "empty", validation=VALIDATED)
    assert (
        "empty is a run folder without rollouts or checkpoints"
        in decaylab("evaluate", empty).complaint
    )
    blind = training_run(tmp_path / "blind", 10)
    complaint = decaylab("evaluate", blind, "--checkpoint-rule", "best").complaint
    assert (
        "blind has no validation.csv to choose the best checkpoint from; use "
        "--checkpoint-rule last" in complaint
    )


def test_a_run_that_came_from_a_file_of_rollouts_is_one_line(tmp_path: Path) -> None:
    """Those may hold any number of samples of a problem, and none of the checkpoints'."""
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text(json.dumps({"question": "1 + 1?", "answer": "2", "response": "2"}) + "\n")
    small: tuple[Any, ...] = (
        "--rollouts",
        theirs,
        "--prefix-lengths",
        "0,1",
        "--max-tokens",
        8,
        "--controls",
        "none",
    )
    assert decaylab("prefix-decay", *small, "--out", tmp_path / "run").code == 0
    complaint = decaylab("evaluate", tmp_path / "run", "--out", tmp_path / "out").complaint
    assert complaint.startswith(
        "evaluate samples the base student as it does the checkpoints; leave out the run that "
    )
