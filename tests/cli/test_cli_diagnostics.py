"""The diagnostics on the command line: each prints, draws and writes; bad input is one line, exit
2, and nothing is written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from command_line import DATA, Outcome, _SharedGrader, contents, decaylab, write_lines
from matplotlib import image
from tiny_models import save_folder
from tokenizer_families import wordpiece
from transformers import AutoModelForCausalLM

from decaylab.commands import diagnose
from decaylab.options.measuring import Options
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.runs import measurements

COMMANDS = ("position-kl", "category-kl", "submode", "signals", "behaviour", "evaluate")
SMALL = ("--limit", "6", "--samples", "1", "--max-tokens", "40")
PAIR = ("--student", "abacus-student", "--teacher", "abacus-teacher")


@pytest.fixture(autouse=True)
def one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnose, "Grader", _SharedGrader)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded student with other weights, in a folder that knows nothing."""
    path = Path(shutil.copytree(DATA / "student", tmp_path_factory.mktemp("train") / "step-7"))
    model = AutoModelForCausalLM.from_pretrained(path)
    generator = torch.Generator().manual_seed(0)
    for weight in model.parameters():
        weight.data += 0.3 * torch.randn(weight.shape, generator=generator) * weight.data.std()
    model.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(
    checkpoint: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Outcome]]:
    """Every command on the embedded pair and a checkpoint: the folder of the runs, and what was
    printed."""
    root, outcomes = tmp_path_factory.mktemp("finished"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(diagnose, "Grader", _SharedGrader)
        for command in COMMANDS:
            outcomes[command] = called(command, checkpoint, *PAIR, root / command, cache)
    return root, outcomes


def called(command: str, checkpoint: Path, *more: object) -> Outcome:
    *options, out, cache = more
    floor = () if command in ("behaviour", "evaluate") else ("--floor-problems", 2)
    return decaylab(command, checkpoint, *options, *SMALL, *floor, "--out", out, "--cache", cache)


# What comes out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_prints_its_tables_and_where_the_numbers_stand(
    command: str, finished: tuple[Path, dict[str, Outcome]]
) -> None:
    root, outcomes = finished
    outcome = outcomes[command]
    assert outcome.code == 0, outcome.err
    assert "step-7" in outcome.out and "abacus-teacher" in outcome.out
    assert str(root / command) in outcome.out
    assert "nan" not in outcome.out.lower().split() and "\x1b" not in outcome.out + outcome.err
    notes = json.loads((root / command / "run.json").read_text())["notes"]
    assert [outcome.out.count(note) for note in notes] == [1] * len(notes) and notes


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_writes_its_measurements_its_figure_and_its_caption(
    command: str, finished: tuple[Path, dict[str, Outcome]]
) -> None:
    folder = finished[0] / command
    frame = measurements.read(folder / "measurements.parquet")
    assert {"base", "train0/step-7"} <= set(frame["checkpoint"]) and set(frame["run"]) == {command}
    assert len(pd.read_csv(folder / "measurements.csv")) == len(frame)
    assert image.imread(folder / f"{command}.png").ndim == 3
    assert b"<svg" in (folder / f"{command}.svg").read_bytes()
    assert len((folder / f"{command}.txt").read_text().split()) > 10


def test_a_line_a_stage_goes_to_standard_error_and_only_for_what_was_done(
    finished: tuple[Path, dict[str, Outcome]],
) -> None:
    _, outcomes = finished
    stages = {
        command: [line.split(":")[0] for line in outcome.err.splitlines()[1:]]
        for command, outcome in outcomes.items()
    }
    assert stages["position-kl"] == [
        "student rollouts",
        "scoring base",
        "scoring base again",
        "train0/step-7 rollouts",
        "scoring train0/step-7",
        "scoring train0/step-7 again",
        "scoring train0/step-7 on base rollouts",
        "scoring train0/step-7 on base rollouts again",
    ]
    assert [stages[command] for command in ("category-kl", "submode", "signals")] == [[], [], []]
    assert (stages["behaviour"], stages["evaluate"]) == (["teacher rollouts"], [])


@pytest.mark.parametrize("command", COMMANDS)
def test_json_holds_every_measurement_and_nothing_else_is_said(
    command: str, checkpoint: Path, cache: Path, finished: tuple[Path, dict[str, Outcome]]
) -> None:
    folder = finished[0] / command
    outcome = called(command, checkpoint, *PAIR, "--json", "--quiet", folder, cache)
    assert (outcome.code, outcome.err) == (0, "")
    printed = json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    stored = measurements.read(folder / "measurements.parquet")
    assert printed["run"] == str(folder)
    assert printed["notes"] == json.loads((folder / "run.json").read_text())["notes"] != []
    shown = re.sub(r"\s+", " ", finished[1][command].out)
    assert printed["verdict"] and all(line in shown for line in printed["verdict"])
    assert list(printed["measurements"][0]) == list(measurements.COLUMNS)
    assert [row["what"] for row in printed["measurements"]] == stored["what"].tolist()
    values = [
        float("nan") if row["value"] is None else row["value"] for row in printed["measurements"]
    ]
    assert values == pytest.approx(stored["value"].tolist(), rel=1e-8, abs=1e-9, nan_ok=True)


def test_quiet_leaves_standard_error_empty(checkpoint: Path, cache: Path, tmp_path: Path) -> None:
    outcome = called(
        "behaviour", checkpoint, *PAIR, "--quiet", "--seed", 1, tmp_path / "run", cache
    )
    assert (outcome.code, outcome.err) == (0, "")
    assert "step-7" in outcome.out


def test_a_config_file_says_the_same_as_the_command_line(
    checkpoint: Path, cache: Path, tmp_path: Path, finished: tuple[Path, dict[str, Outcome]]
) -> None:
    out = tmp_path / "position-kl"
    config = tmp_path / "mine.toml"
    config.write_text(
        f"""
        checkpoints = ["{checkpoint}"]
        student = "abacus-student"
        teacher = "abacus-teacher"
        limit = 6
        samples = 1
        max-tokens = 40
        floor-problems = 2
        bins = [0, 5, 10, 20, 40, 60, 80, 120, 160]
        rollout_length = 40
        estimand = "tokens"
        score-temperature = 1
        head = "model"
        share = 0.2            # of another command: not used by this one
        prefix-lengths = [0, 4]
        cache = "{cache}"
        """
    )
    outcome = decaylab("position-kl", "--config", config, "--out", out, "--quiet")
    assert outcome.code == 0, outcome.err
    assert (out / "measurements.csv").read_bytes() == (
        finished[0] / "position-kl" / "measurements.csv"
    ).read_bytes()
    again = decaylab(
        "position-kl", "--config", config, "--bins", "0,7", "--out", tmp_path / "other", "--json"
    )
    lows = {
        row["position_low"]
        for row in json.loads(again.out)["measurements"]
        if row["what"] == "reverse_kl"
    }
    assert lows == {0, 7}  # the command line goes before the file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bins = 5", "bins must be a list or comma-separated text, got 5"),
        ('checkpoints = "ckpt"', "checkpoints must be a list, got 'ckpt'"),
        ("share = true", "share must be a number, got True"),
        ("rollout-length = 1.5", "rollout-length must be a number of tokens or full, got 1.5"),
        ('head = "float16"', "head must be one of model, float32, got float16"),
        ("checkpoint = 1", "no option 'checkpoint'; did you mean checkpoint"),
        ("said = 1", "no option 'said'; there are"),
    ],
)
def test_a_config_file_with_a_fault_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "faulty.toml").write_text(text)
    assert message in decaylab("position-kl", "--config", tmp_path / "faulty.toml").complaint


def test_an_option_that_says_its_default_goes_before_what_a_run_knows(
    tmp_path: Path, cache: Path
) -> None:
    small = (
        "--limit",
        "2",
        "--samples",
        "1",
        "--max-tokens",
        "16",
        "--prefix-lengths",
        "0,4",
        "--controls",
        "none",
    )
    assert decaylab("prefix-decay", *small, "--out", tmp_path / "run", "--quiet").code == 0
    where = ("--cache", cache, "--json", "--quiet")
    taken = decaylab("behaviour", tmp_path / "run", *where)
    assert taken.code == 0
    options = json.loads((tmp_path / "run" / "behaviour" / "run.json").read_text())["identity"][
        "options"
    ]
    assert (options["samples"], options["limit"], options["max_tokens"]) == (1, 2, 16)
    said = decaylab(
        "behaviour", tmp_path / "run", "--samples", 4, "--out", tmp_path / "said", *where
    )
    assert (said.code, said.complaint) == (
        2,
        "--samples 4: the rollouts of the run were sampled with 1; use --samples 1",
    )


def test_infinity_is_text_in_json_and_small_numbers_are_whole(cache: Path, tmp_path: Path) -> None:
    small = (
        "--limit",
        "3",
        "--samples",
        "1",
        "--cache",
        cache,
        "--out",
        tmp_path / "out",
        "--json",
        "--quiet",
    )
    rows = json.loads(decaylab("position-kl", *small).out)["measurements"]
    whole = next(row for row in rows if row["what"] == "mean_js")
    stored = pd.read_parquet(tmp_path / "out" / "measurements.parquet")
    assert whole["position_high"] == "inf" and whole["band_low"] is None
    assert whole["noise_floor"] == stored[stored.what == "mean_js"].noise_floor.iloc[0]


def test_a_changed_file_of_rollouts_is_another_run(cache: Path, tmp_path: Path) -> None:
    rows = [{"question": "1 + 1?", "answer": "2", "response": "1+1=2\n\\boxed{2}"}] * 2
    file = write_lines(
        tmp_path / "theirs.jsonl", *rows, {**rows[0], "response": "", "stop_reason": "length"}
    )
    where = ("--cache", cache, "--out", tmp_path / "out", "--floor-problems", "0")
    first = decaylab("position-kl", "--rollouts", file, *where)
    assert first.code == 0
    assert " of the rollouts in " in first.out and "samples at T" not in first.out
    assert (
        "1 of 3 rollouts hold no token, left out" in first.out
        and "were encoded from their text" in first.out
    )
    write_lines(file, *rows)
    assert (
        "contains a run with different settings"
        in decaylab("position-kl", "--rollouts", file, *where).complaint
    )
    said = decaylab("position-kl", "--rollouts", file, "--samples", 4, *where)
    assert said.complaint.startswith("--samples has no meaning here: the rollouts are those of ")


def test_many_checkpoints_make_no_folder_name_that_is_too_long() -> None:
    long, other = (
        Options().with_pair().folder_name("position-kl", *labels, kinds=("prefix-decay",))
        for labels in (LABELS, LABELS[1:])
    )
    assert len(long) <= 120 and long != other


LABELS = [f"checkpoint-{100 * step}" for step in range(1, 31)]


# Bad input


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("position-kl", "--seed -1", "--seed must be at least 0 and below 2^63, got -1"),
        ("position-kl", "--bins 0,10,5", "--bins must begin with 0 and increase, got 0,10,5"),
        ("position-kl", "--bins 0,5,5", "--bins must begin with 0 and increase, got 0,5,5"),
        ("position-kl", "--bins 5,10", "--bins must begin with 0 and increase, got 5,10"),
        ("category-kl", "--bins 0,-5", "--bins must begin with 0 and increase, got 0,-5"),
        (
            "signals",
            "--bins 0,ten",
            "--bins must be comma-separated whole numbers, such as 0,100,200, got '0,ten'",
        ),
        ("position-kl", "--bins=", "--bins must be comma-separated whole numbers"),
        ("position-kl", "--rollout-length 0", "--rollout-length must be at least 1, got 0"),
        ("position-kl", "--survivors 0", "--survivors must be at least 1, got 0"),
        (
            "position-kl",
            "--estimand median",
            "--estimand must be one of tokens, problems, got median",
        ),
        ("position-kl", "--head float16", "--head must be one of model, float32, got float16"),
        ("position-kl", "--score-temperature 0", "--score-temperature must be above 0, got 0.0"),
        ("position-kl", "--score-temperature nan", "--score-temperature must be above 0, got nan"),
        ("position-kl", "--batch-tokens 0", "--batch-tokens must be at least 1, got 0"),
        (
            "position-kl",
            "--floor-problems -1",
            "--floor-problems must be at least 0 (0 is off), got -1",
        ),
        (
            "position-kl",
            "--view-rollouts -1",
            "--view-rollouts must be at least 0 (0 is off), got -1",
        ),
        ("position-kl", "--level 95", "--level must lie between 0 and 1, got 95.0"),
        ("position-kl", "--samples 0", "--samples must be at least 1, got 0"),
        (
            "position-kl",
            "--max-tokens 2000",
            "exceeds the context of the student abacus-student, 1024 tokens",
        ),
        ("submode", "--share 2", "--share must lie between 0 and 1, got 2.0"),
        ("submode", "--share 0", "--share must lie between 0 and 1, got 0.0"),
        ("submode", "--second-mode 1", "--second-mode must be at least 0 and below 1, got 1.0"),
        (
            "signals",
            "--cumulative-share 45",
            "--cumulative-share must lie between 0 and 1, got 45.0",
        ),
        ("signals", "--horizon 0", "--horizon must be at least 1, got 0"),
        ("signals", "--evidence runs", "--evidence only applies with --advise; add --advise"),
        ("signals", "--advise --evidence runs/none", "--evidence runs/none: no such folder"),
        ("category-kl", "--min-count 0", "--min-count must be at least 1, got 0"),
        ("category-kl", "--categories nowhere.toml", "cannot read the category file nowhere.toml"),
        ("behaviour", "--bins 0,5", "no such option --bins of behaviour; position-kl,"),
        ("submode", "--advise", "no such option --advise of submode; signals has it"),
        ("behaviour", "--rollouts nothing.jsonl", "cannot read nothing.jsonl"),
        ("behaviour", "--problems nothing.jsonl", "no such file: nothing.jsonl"),
        ("signals", "nowhere", "no model 'nowhere'"),
        ("signals", "./nowhere", "no model './nowhere'"),
    ],
)
def test_a_bad_option_is_one_line_and_writes_nothing(
    command: str, arguments: str, message: str, tmp_path: Path
) -> None:
    outcome = decaylab(
        command, *arguments.split(), "--out", tmp_path / "run", "--cache", tmp_path / "cache"
    )
    assert message in outcome.complaint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_is_neither_model_adapter_nor_run_is_one_line(
    command: str, tmp_path: Path
) -> None:
    (tmp_path / "photographs").mkdir()
    complaint = decaylab(command, tmp_path / "photographs", "--out", tmp_path / "run").complaint
    assert "photographs is not a model folder" in complaint
    assert not (tmp_path / "run").exists()


def test_a_model_folder_alone_asks_for_its_pair(checkpoint: Path, tmp_path: Path) -> None:
    complaint = decaylab("position-kl", checkpoint, "--out", tmp_path / "run").complaint
    assert complaint.endswith(
        "step-7 does not record the student it was trained from or its teacher: give --student "
        "and --teacher"
    )
    assert (
        "the same checkpoint is given twice"
        in decaylab("behaviour", checkpoint, f"{checkpoint}/", *PAIR).complaint
    )


def test_a_checkpoint_of_another_base_is_one_line(cache: Path, tmp_path: Path) -> None:
    complaint = called(
        "position-kl", save_folder(tmp_path / "alien"), *PAIR, tmp_path / "run", cache
    ).complaint
    assert (
        "alien was not trained from --student abacus-student: its model_type is llama, not qwen3"
        in complaint
    )


def test_tokens_that_are_no_bytes_are_one_line_before_anything_is_sampled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TransformersEngine, "sample", lambda *_, **__: pytest.fail("sampled"))
    student = save_folder(tmp_path / "student")
    teacher = save_folder(tmp_path / "teacher", tokenizer=wordpiece())
    problems = write_lines(tmp_path / "mine.jsonl", {"question": "1 + 1?", "answer": "2"})
    pair = ("--student", student, "--teacher", teacher, "--problems", problems, "--max-tokens", 16)
    complaint = decaylab(
        "position-kl", *pair, "--out", tmp_path / "run", "--cache", tmp_path / "cache"
    ).complaint
    assert f"{teacher}: its tokens cannot be read as bytes" in complaint
    assert "use a teacher with the student's tokenizer" in complaint


def test_a_rollout_whose_response_is_null_is_left_out_and_counted(tmp_path: Path) -> None:
    lines = [
        {"question": "5?", "answer": "5", "response": "5"},
        {"question": "6?", "answer": "6", "response": None},
    ]
    rollouts = write_lines(tmp_path / "mine.jsonl", *lines)
    outcome = decaylab(
        "behaviour",
        "--rollouts",
        rollouts,
        "--out",
        tmp_path / "run",
        "--cache",
        tmp_path / "cache",
    )
    assert outcome.code == 0 and "1 were aborted by their engine, left out" in " ".join(
        outcome.out.split()
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"question": "1 + 1?", "answer": "2"}, "mine.jsonl:2: no response under response"),
        ("{broken", "mine.jsonl:2: not JSON"),
        (
            {"response": "2"},
            "mine.jsonl:2: the row has no problem: it needs problem_id, or a prompt",
        ),
    ],
)
def test_rollouts_without_a_response_are_one_line_with_its_number(
    line: Any, message: str, tmp_path: Path
) -> None:
    rollouts = write_lines(
        tmp_path / "mine.jsonl", {"question": "5?", "answer": "5", "response": "5"}, line
    )
    out = ("--out", tmp_path / "run", "--cache", tmp_path / "cache")
    assert message in decaylab("position-kl", "--rollouts", rollouts, *out).complaint
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[category]]\nname = "a"\nword = ["b"]',
            "category 'a': unknown key 'word'; allowed are name, words",
        ),
        ('[[kind]]\nname = "a"', "contains kind; only [[category]] tables are allowed"),
        ("[[category", "category file"),
    ],
)
def test_a_category_file_with_a_fault_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(text)
    complaint = decaylab(
        "category-kl", "--categories", tmp_path / "mine.toml", "--out", tmp_path / "run"
    ).complaint
    assert message in complaint and "mine.toml" in complaint
    assert not (tmp_path / "run").exists()


def test_a_tokens_table_of_another_schema_is_one_line(
    checkpoint: Path, cache: Path, tmp_path: Path, finished: tuple[Path, dict[str, Outcome]]
) -> None:
    copy = Path(shutil.copytree(cache, tmp_path / "cache"))
    (tokens,) = (Path(one).name for one in json.loads(run_json(finished[0]))["tokens"][:1])
    path = copy / tokens / "tokens.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"decaylab_schema": "decaylab.tokens/0"}), path)
    complaint = called("submode", checkpoint, *PAIR, tmp_path / "run", copy).complaint
    expected = "decaylab.tokens/1 or decaylab.tokens.aligned/1; delete it and run"
    assert f"{path} has schema decaylab.tokens/0, expected {expected}" in complaint
    path.write_bytes(path.read_bytes()[:-8])
    assert (
        f"{path} is truncated or damaged"
        in called("submode", checkpoint, *PAIR, tmp_path / "run", copy).complaint
    )
    path.unlink()
    assert called("submode", checkpoint, *PAIR, tmp_path / "run", copy).code == 0
    assert path.read_bytes() == (cache / tokens / "tokens.parquet").read_bytes()


def run_json(root: Path) -> str:
    return (root / "position-kl" / "run.json").read_text()


def test_a_folder_with_another_configuration_or_something_else_is_one_line_and_stays(
    checkpoint: Path, cache: Path, tmp_path: Path, finished: tuple[Path, dict[str, Outcome]]
) -> None:
    folder = finished[0] / "position-kl"
    before = contents(folder)
    complaint = called("position-kl", checkpoint, *PAIR, "--bins", "0,9", folder, cache).complaint
    assert "contains a run with different settings (--bins 0,5," in complaint
    assert contents(folder) == before
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "one.jpg").write_bytes(b"mine")
    complaint = called("position-kl", checkpoint, *PAIR, tmp_path / "photographs", cache).complaint
    assert "is not empty and holds no run.json" in complaint
    assert contents(tmp_path / "photographs") == {"one.jpg": b"mine"}
    complaint = called(
        "position-kl", checkpoint, *PAIR, tmp_path / "photographs" / "one.jpg", cache
    ).complaint
    assert "cannot write" in complaint
