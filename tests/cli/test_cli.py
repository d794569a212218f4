"""The command line: what it prints is what was measured, and bad input is one line and exit 2."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from command_line import DATA, SMALL, Outcome, contents, decaylab, start, write_lines
from rich.console import Console

from decaylab.printing import with_interval
from decaylab.runs import vocabulary
from decaylab.tables import terminal
from decaylab.tables.prefix_decay import CONTROLS

Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A finished run with every control."""
    out = tmp_path_factory.mktemp("finished") / "run"
    return out, decaylab("prefix-decay", *SMALL, "--controls", "all", "--out", out, "--verbose")


@pytest.fixture
def model(tmp_path: Path) -> Folders:
    """A copy of the embedded teacher under a name, to be spoilt."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(DATA / "teacher", tmp_path / name))

    return copy


# What is printed


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def test_every_printed_number_is_the_measured_one(finished: tuple[Path, Outcome]) -> None:
    folder, outcome = finished
    assert outcome.code == 0
    frame = pd.read_csv(folder / "measurements.csv", keep_default_na=False, na_values=[""])

    def shown(
        what: str, condition: str, view: str | None, length: float, signed: bool = False
    ) -> str:
        at = {"what": what, "condition": condition, "prefix_tokens": length}
        row = vocabulary.row(frame, **at, **({"view": view} if view else {}))
        return with_interval(row["value"], row["low"], row["high"], "fraction", signed=signed)

    printed = rows(outcome.out)
    lines = [row for row in printed if len(row) == 8]
    headline: list[list[str]] = []
    for line in lines:  # an interval may stand under its number
        if line[0]:
            headline.append(line)
        else:
            headline[-1] = [
                f"{number} {interval}".strip()
                for number, interval in zip(headline[-1], line, strict=True)
            ]
    assert [row[0] for row in headline] == ["0", "4", "8"]
    assert headline[0][2] == shown("accuracy", "teacher", None, 0)
    assert headline[0][6] == shown("accuracy", "student", None, 0)
    for row in headline[1:]:
        at = ("student-prefix", "open", float(row[0]))
        assert row[2] == shown("accuracy", *at)
        assert row[3] == shown("reference_accuracy", *at).split(" [")[0]
        assert row[4] == shown("accuracy_difference", *at, signed=True)
        assert row[6] == shown("student_accuracy", *at).split(" [")[0]
        assert row[7] == shown("retained_advantage", *at)
    carried = [row for row in printed if len(row) == 4]
    assert [row[2] for row in carried] == [
        shown("accuracy", "student-prefix", "carry-forward", n) for n in (4, 8)
    ]
    controls = [row for row in printed if len(row) == 6]
    meanings = {words: name for name, words in CONTROLS.items()}
    name, met = "", set()
    for row in controls:
        if row[0] in meanings:  # the name of a control stands over its rows
            name = meanings[row[0]]
            met.add(name)
            continue
        assert row[4] == shown("accuracy_difference", name, "open", float(row[0]), signed=True)
    assert met >= {"own-prefix", "swapped", "reverse"}


def test_results_go_to_standard_output_and_a_line_a_stage_to_standard_error(
    finished: tuple[Path, Outcome],
) -> None:
    folder, outcome = finished
    stages = [
        "student rollouts",
        "teacher rollouts",
        "student-prefix",
        "own-prefix",
        "swapped",
        "reverse",
    ]
    assert [line.split(":")[0] for line in outcome.err.splitlines()[1:]] == stages
    assert "\r" not in outcome.err and "\x1b" not in outcome.err + outcome.out
    assert f"measurements: {folder / 'measurements.csv'}" in outcome.out
    assert "nan" not in outcome.out.lower().replace("finance", "")


def test_notes_are_printed_once(tmp_path: Path) -> None:
    lines = [
        {"question": "1 + 1?", "answer": "2"},
        {"question": "2 + 2?", "answer": None},
        {"question": "3?", "answer": "3"},
    ]
    problems = write_lines(tmp_path / "mine.jsonl", *lines)
    small = ("--samples", 1, "--prefix-lengths", "0,4", "--max-tokens", 16)
    outcome = decaylab("prefix-decay", *small, "--problems", problems, "--out", tmp_path / "run")
    assert (outcome.out + outcome.err).count("1 of 3 problems have no gold answer") == 1
    assert "- note: 1 of 3 problems have no gold answer, left out; is --column" in outcome.out


def test_json_holds_every_measurement_and_quiet_says_nothing(
    finished: tuple[Path, Outcome],
) -> None:
    folder, _ = finished
    outcome = decaylab(
        "prefix-decay", *SMALL, "--controls", "all", "--out", folder, "--json", "--quiet"
    )
    assert (outcome.code, outcome.err) == (0, "")
    printed = json.loads(outcome.out)
    stored = pd.read_parquet(folder / "measurements.parquet")
    assert printed["run"] == str(folder)
    assert pd.DataFrame(printed["measurements"]).shape == stored.shape
    assert [row["value"] for row in printed["measurements"]] == pytest.approx(
        [
            None if pd.isna(value) or value in (float("inf"),) else value
            for value in stored["value"]
        ],
        abs=1e-9,
    )


def test_names_with_brackets_are_printed_as_they_are(tmp_path: Path) -> None:
    """rich takes [words] for markup."""
    problems = write_lines(tmp_path / "set[bold].jsonl", {"question": "1 + 1?", "answer": "2"})
    small = ("--samples", 1, "--prefix-lengths", "0,4", "--max-tokens", 16)
    outcome = decaylab(
        "prefix-decay", *small, "--problems", problems, "--out", tmp_path / "run[red]"
    )
    assert "; set[bold].jsonl, 1 problems x 1 samples" in outcome.out
    assert f"{tmp_path / 'run[red]' / 'measurements.csv'}" in outcome.out


def test_tables_fit_a_terminal_of_80_columns_whole(
    finished: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, wide = finished
    monkeypatch.setattr(terminal, "terminal", lambda: Console(width=80, highlight=False))
    outcome = decaylab(
        "prefix-decay", *SMALL, "--controls", "all", "--out", folder, "--quiet", "--verbose"
    )

    def tables(text: str) -> str:
        return text.split("\nabacus-teacher on prefixes")[0].split("Unfinished rollouts")[1]

    narrow = tables(outcome.out)
    assert max(map(len, narrow.splitlines())) <= 80
    assert "…" not in narrow
    wanted = re.findall(r"\[[^ ]+, [^ ]+\]", tables(wide.out))
    assert sorted(re.findall(r"\[[^ ]+,[^ ]+\]", narrow)) == sorted(
        one.replace(", ", ",") for one in wanted
    )


# Options in a file


def test_every_way_to_write_a_config_file_gives_the_same_run(tmp_path: Path) -> None:
    problems = write_lines(
        tmp_path / "mine.jsonl", {"q": "1 + 1?", "gold": 2}, {"q": "2 + 2?", "gold": 4}
    )
    dashes = f"""
        problems = "{problems}"
        samples = 1
        prefix-lengths = [0, 4]
        max-tokens = 16
        controls = ["reverse", "own-prefix"]
        json = true
        top-p = 1
        [column]
        question = "q"
        answer = "gold"
        """
    underscores = f"""
        problems = "{problems}"
        samples = 9
        prefix_lengths = "0,4"
        max_tokens = 16
        controls = "own-prefix,reverse"
        as_json = true
        column = ["question=q", "answer=gold"]
        """
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(dashes)
    second.write_text(underscores)
    outcome = decaylab("prefix-decay", "--config", first, "--out", tmp_path / "run")
    assert outcome.code == 0
    again = decaylab("prefix-decay", "--config", second, "--samples", 1, "--out", tmp_path / "run")
    assert (
        "nothing is sampled again" in again.err
    )  # the same run, and the command line goes before the file
    assert json.loads(again.out) == json.loads(outcome.out)
    options = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]["options"]
    assert (options["prefix_lengths"], options["max_tokens"], options["samples"]) == ([0, 4], 16, 1)
    assert options["columns"] == {"question": "q", "answer": "gold"}
    assert options["controls"] == ["own-prefix", "reverse"]


def test_one_config_file_serves_preflight_too(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        'limit = 2\nmax-tokens = 24\nprefix-lengths = [0, 8]\nout = "elsewhere"\ntemperature = '
        "0.5\n"
    )
    outcome = decaylab("preflight", "--config", config, "--json")
    assert "2 problems" in json.loads(outcome.out)["checks"][0]["finding"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("as-samples = 3", "no option 'as-samples'; did you mean samples?"),
        ("sample = 3", "no option 'sample'; did you mean samples?"),
        ("samples = 2.5", "samples must be a whole number, got 2.5"),
        ("samples = true", "samples must be a whole number, got True"),
        ('temperature = "hot"', "temperature must be a number, got 'hot'"),
        ("teacher = 3", "teacher must be text, got 3"),
        ("overwrite = 1", "overwrite must be true or false, got 1"),
        ("prefix-lengths = 20", "prefix-lengths must be a list or comma-separated text, got 20"),
        ("prefix-lengths = [0, 1.5]", "prefix-lengths must be comma-separated whole numbers"),
        ('column = "question"', "grade, got 'question'"),
        ("[column]\nsolution = 'x'", "grade, got {'solution': 'x'}"),
        ('dtype = "int4"', "dtype must be one of auto, float32, bfloat16, float16, got int4"),
        ("samples = ", "Invalid value"),
        ("samples = 1\nsamples = 2", "Cannot overwrite a value"),
    ],
)
def test_a_config_file_with_a_fault_is_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    config = tmp_path / "faulty.toml"
    config.write_text(text)
    assert message in decaylab("prefix-decay", "--config", config).complaint


def test_a_config_file_that_is_missing_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "No such file" in decaylab("prefix-decay", "--config", tmp_path / "none.toml").complaint
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "utf-8" in decaylab("prefix-decay", "--config", tmp_path / "binary.toml").complaint


# Bad input: one line, exit 2, and what stands in the folder stays


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--teacher nonsense", "no model 'nonsense': give a folder, a hub id"),
        ("--student ./nowhere", "no model './nowhere'"),
        ("--prefix-lengths 0,-4", "--prefix-lengths must not be negative, got 0,-4"),
        ("--prefix-lengths 0,8,4", "--prefix-lengths must increase, got 0,8,4"),
        ("--prefix-lengths 0,4,4", "--prefix-lengths must increase, got 0,4,4"),
        ("--prefix-lengths 4,8", "--prefix-lengths must begin with 0"),
        ("--prefix-lengths 0,24", "--prefix-lengths reach 24, beyond the budget --max-tokens 24"),
        ("--prefix-lengths 0,ten", "--prefix-lengths must be comma-separated whole numbers"),
        ("--prefix-lengths=", "--prefix-lengths must be comma-separated whole numbers"),
        ("--samples 0", "--samples must be at least 1, got 0"),
        ("--samples two", "Invalid value for '--samples'"),
        ("--limit 0", "--limit must be at least 1, got 0"),
        ("--limit 5000", "abacus has 2000 test problems"),
        ("--batch-rows 0", "--batch-rows must be at least 1"),
        ("--level 95", "--level must lie between 0 and 1"),
        ("--temperature -1", "--temperature must be at least 0"),
        ("--temperature nan", "--temperature must be at least 0"),
        ("--temperature inf", "--temperature must be at least 0"),
        ("--top-p 0", "--top-p must lie"),
        ("--top-k -1", "--top-k must be at least 0"),
        ("--max-tokens 2000", "exceeds the context of the student abacus-student, 1024 tokens"),
        ("--controls everything", "--controls must be all, none or among"),
        ("--hand-back 0,1", "--hand-back must be at least 1, got 0,1"),
        ("--hand-back 5,5", "--hand-back must increase, got 5,5"),
        ("--hand-back 10,1", "--hand-back must increase, got 10,1"),
        ("--hand-back few", "--hand-back must be comma-separated whole numbers"),
        ("--hand-back 20", "after a prefix of 4 tokens leaves the student nothing of the budget"),
        ("--hand-back 2", "settings (--hand-back not set there, 2 now)"),
        ("--answer-rule best", "--answer-rule must be one of last_boxed"),
        ("--dtype int8", "--dtype must be one of"),
        ("--thinking maybe", "--thinking must be one of"),
        ("--teacher-prompt mine", "--teacher-prompt must be one of"),
        ("--device tpu9", "--device tpu9 cannot be used here"),
        ("--device meta", "--device meta cannot be used here"),
        ("--column wrong", "--column must be ROLE=NAME, with a role among question, "),
        ("--column question=q", "is generated"),
        ("--problems nothing", "unknown problem set 'nothing'"),
        ("--problems nothing.jsonl", "no such file: nothing.jsonl"),
        ("--rollouts nothing.jsonl", "cannot read nothing.jsonl"),
        ("--seed 1", "run with different settings (--seed 0 there, 1 now)"),
        ("--samples 3", "run with different settings (--samples 2 there, 3 now)"),
        ("--controls none", "settings (--controls own-prefix,"),
        (
            "--no-such-option",
            "no such option --no-such-option; decaylab prefix-decay --help-all lists",
        ),
    ],
)
def test_a_bad_option_is_one_line_and_leaves_a_finished_run_alone(
    finished: tuple[Path, Outcome], arguments: str, message: str
) -> None:
    folder, _ = finished
    before = contents(folder)
    outcome = decaylab(
        "prefix-decay", *SMALL, "--controls", "all", "--out", folder, *arguments.split()
    )
    assert message in outcome.complaint
    assert contents(folder) == before


def test_a_gpu_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert (
        "--device cuda:77 cannot be used here"
        in decaylab("prefix-decay", "--device", "cuda:77").complaint
    )


def test_a_folder_that_is_no_model_is_named(tmp_path: Path, model: Folders) -> None:
    def complaint(folder: Path) -> str:
        return decaylab(
            "prefix-decay",
            *SMALL,
            "--teacher",
            folder,
            "--problems",
            "abacus",
            "--out",
            tmp_path / "run",
        ).complaint

    (empty := tmp_path / "empty").mkdir()
    assert "is not a model folder" in complaint(empty)
    (bare := model("bare")).joinpath("model.safetensors").unlink()
    assert "no weights (*.safetensors)" in complaint(bare)
    (pickled := model("pickled")).joinpath("model.safetensors").rename(
        pickled / "pytorch_model.bin"
    )
    assert "only pickled weights (pytorch_model.bin)" in complaint(pickled)
    (plain := model("plain")).joinpath("chat_template.jinja").unlink()
    assert "no chat template; use --prompt-format plain" in complaint(plain)
    (adapter := tmp_path / "adapter").mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    (adapter / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "gone", "peft_type": "LORA"}'
    )
    assert "is an adapter, and its base is missing: no model 'gone'" in complaint(adapter)
    short = model("short") / "model.safetensors"
    short.write_bytes(short.read_bytes()[:1000])
    assert "cannot load" in complaint(short.parent)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        ([], [], "has no problems: it is empty"),
        ([{"question": "1?", "answer": "1"}, "{broken"], [], "mine.jsonl:2: not JSON"),
        ([{"question": "1?", "answer": "1"}, "[1]"], [], "mine.jsonl:2: must be an object"),
        ([{"q": "1?", "answer": "1"}], [], "question"),
        ([{"question": "1?", "answer": "1"}], ["--column", "answer=gold"], "gold"),
        ([{"question": "1?", "answer": "1"}, {"answer": "1"}], [], "mine.jsonl:2: column"),
    ],
)
def test_a_faulty_problem_file_is_one_line_with_its_number(
    tmp_path: Path, lines: list[object], options: list[str], message: str
) -> None:
    problems = write_lines(tmp_path / "mine.jsonl", *lines)
    outcome = decaylab(
        "prefix-decay", *SMALL, "--problems", problems, *options, "--out", tmp_path / "run"
    )
    assert message in outcome.complaint
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "cannot write" in decaylab("prefix-decay", *SMALL, "--out", tmp_path / "file").complaint
    assert (
        "cannot write"
        in decaylab("prefix-decay", *SMALL, "--out", tmp_path / "file" / "below").complaint
    )
    assert (tmp_path / "file").read_text() == "mine"
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "one.jpg").write_bytes(b"mine")
    for more in ([], ["--overwrite"]):
        outcome = decaylab("prefix-decay", *SMALL, "--out", tmp_path / "photographs", *more)
        assert "is not empty and holds no run.json" in outcome.complaint
    assert contents(tmp_path / "photographs") == {"one.jpg": b"mine"}


def test_a_truncated_table_is_one_line_that_names_it(
    finished: tuple[Path, Outcome], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(finished[0], tmp_path / "run"))
    rollouts = folder / "rollouts.parquet"
    rollouts.write_bytes(rollouts.read_bytes()[:-100])
    before = contents(folder)
    command = ("prefix-decay", *SMALL, "--controls", "all", "--out", folder)
    complaint = decaylab(*command, "--quiet").complaint
    assert (
        f"{rollouts} is truncated or damaged" in complaint
        and "delete it and run the same command again" in complaint
    )
    assert contents(folder) == before
    rollouts.unlink()
    assert decaylab(*command).code == 0
    assert rollouts.read_bytes() == (finished[0] / "rollouts.parquet").read_bytes()


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(
    tmp_path: Path, finished: tuple[Path, Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, synced, written = tmp_path / "run", os.fsync, []

    def fill_up(descriptor: int) -> None:
        written.append(descriptor)
        # behind run.json, problems, prompts and two parts, with the time of the first in run.json
        if len(written) > 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(descriptor)

    command = ("prefix-decay", *SMALL, "--controls", "all", "--out", folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill_up)
        outcome = decaylab(*command, "--quiet")
    assert "no space left while writing" in outcome.complaint
    kept = sorted(path.name for path in (folder / "parts").iterdir())
    assert len(kept) == 2 and all(name.endswith(".parquet") for name in kept)
    assert decaylab(*command).code == 0
    assert (folder / "rollouts.parquet").read_bytes() == (
        finished[0] / "rollouts.parquet"
    ).read_bytes()


def test_a_file_size_limit_is_one_line_in_a_real_process(tmp_path: Path) -> None:
    """What a quota does: the write itself fails, with EFBIG where SIGXFSZ is ignored."""
    limit = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))"
    )
    process = start("prefix-decay", *SMALL, "--quiet", "--out", tmp_path / "run", before=limit)
    out, err = process.communicate()
    assert Outcome(process.returncode, out, err).complaint.startswith("cannot write")


def test_libraries_keep_quiet_in_a_real_process(finished: tuple[Path, Outcome]) -> None:
    folder, _ = finished
    words = (*SMALL, "--controls", "all", "--out", folder, "--verbose")
    process = start("prefix-decay", *words)
    out, err = process.communicate()
    assert (process.returncode, err) == (
        0,
        "decaylab prefix-decay: loads torch and the models, engine transformers ...\n"
        f"{folder} holds this run, finished: nothing is sampled again (--overwrite redoes it)\n",
    )
    assert out == finished[1].out
