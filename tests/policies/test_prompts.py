"""Prompts of a run: rendered once and kept, with what was said of system message, instruction and
template, and what is too long, spelt oddly or without effect counted and reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from command_line import DATA, decaylab, write_lines
from transformers.utils import chat_template_utils

from decaylab.commands import diagnose, prefix_decay, sweep_runs, sweeps
from decaylab.errors import UserError
from decaylab.options.diagnosing import DiagnosticOptions
from decaylab.options.measuring import Options
from decaylab.options.sweeping import SweepOptions
from decaylab.options.training import TrainOptions
from decaylab.pair import kept_prompts, prepare
from decaylab.policies.policy import Policy
from decaylab.problems.grading import Grader
from decaylab.problems.problem import BOXED_INSTRUCTION
from decaylab.rollouts.sampling import Request
from decaylab.rollouts.transformers_engine import TransformersEngine
from decaylab.trainer import loop

FEW: dict[str, Any] = {"limit": 2, "samples": 1, "max_tokens": 24, "device": "cpu"}
DATED = "{{ '<|system|>' + strftime_now('%d %b %Y') + '<|end|>' }}"
TRAIN: dict[str, Any] = {
    **{
        "test_problems": "none",
        "steps": 2,
        "problems_per_step": 2,
        "validation_problems": 2,
        "rollout_length": "4",
    },
    **{"checkpoint_every": 1, "limit": 8, "max_tokens": 24, "device": "cpu", "lora_rank": 2},
}


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(workers=1) as pool:
        yield pool


def copied(folder: Path, role: str, before: str = "", behind: str = "") -> Path:
    """A copy of a policy of the embedded pair, with more in its template."""
    shutil.copytree(DATA / role, folder)
    template = folder / "chat_template.jinja"
    template.write_text(before + template.read_text() + behind)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, Any]:
    """The embedded pair with today's date in its prompts."""
    names = {role: str(copied(tmp_path / role, role, DATED)) for role in ("student", "teacher")}
    return {**FEW, **names, "problems": "abacus"}


@pytest.fixture
def today(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the day that templates see."""

    def on(day: int) -> None:
        clock = SimpleNamespace(now=lambda: datetime(2026, 7, day))
        monkeypatch.setattr(chat_template_utils, "datetime", clock)

    return on


def interrupt(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """From here on a process ends where that stage is to be sampled."""
    sample = TransformersEngine.sample

    def stopped(self: Any, requests: list[Request], *more: Any) -> Any:
        if requests[0].stage.startswith(stage):
            raise KeyboardInterrupt
        return sample(self, requests, *more)

    monkeypatch.setattr(TransformersEngine, "sample", stopped)


def texts_of(table: pd.DataFrame, policy: str) -> set[str]:
    """The days in the prompts of a table of rollouts."""
    tokenizer = prepare.loading.load_tokenizer_only(policy).tokenizer
    return {
        tokenizer.decode(list(ids)).split("<|system|>")[1].split("<|end|>")[0]
        for ids in table["prompt_ids"]
    }


# A run has one prompt a problem


def test_a_run_that_goes_on_another_day_keeps_its_prompts(
    pair: dict[str, Any], today: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(**pair, prefix_lengths=(0, 8), out=str(tmp_path / "run"))
    today(1)
    with monkeypatch.context() as patch:
        interrupt(patch, "student-prefix")
        with pytest.raises(KeyboardInterrupt):
            prefix_decay.prefix_decay(options)
    today(2)
    result = prefix_decay.prefix_decay(options)
    rollouts = pd.read_parquet(tmp_path / "run" / "rollouts.parquet")
    assert set(rollouts["condition"]) == {"student", "teacher", "student-prefix"}
    assert texts_of(rollouts, pair["student"]) == {"01 Jul 2026"}
    assert any("rendered today they would differ" in note for note in result.notes)
    assert "01 Jul 2026" in result.record["example_prompt"]["student"]
    kept = pd.read_parquet(tmp_path / "run" / "prompts.parquet")
    assert len(kept) == 4 and kept["text"].str.contains("01 Jul 2026").all()
    assert result.record["identity"]["prompts"] == kept_prompts.digest(
        kept_prompts.read(tmp_path / "run") or {}
    )

    today(3)  # a diagnostic on its rollouts, and its checkpoints beside them, has those prompts too
    given = DiagnosticOptions(
        checkpoints=(str(tmp_path / "run"),), cache=str(tmp_path / "cache"), device="cpu"
    )
    behaviour = diagnose.diagnose("behaviour", given)
    assert any("the prompts are taken from" in note for note in behaviour.notes)
    again = prefix_decay.prefix_decay(
        Options(**{**pair, "prefix_lengths": (0, 8), "out": str(tmp_path / "run")}, overwrite=True)
    )
    assert "03 Jul 2026" in again.record["example_prompt"]["student"]


def test_prompts_that_were_changed_in_the_folder_are_no_longer_the_runs(
    pair: dict[str, Any], today: Any, tmp_path: Path
) -> None:
    options = Options(**pair, prefix_lengths=(0, 8), out=str(tmp_path / "run"))
    today(1)
    prefix_decay.prefix_decay(options)
    (tmp_path / "run" / "prompts.parquet").unlink()
    today(2)
    with pytest.raises(UserError, match="contains a run with different settings .other prompts"):
        prefix_decay.prefix_decay(options)


def test_diagnostics_share_prompts_and_rollouts_over_days(
    pair: dict[str, Any], today: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {**pair, "cache": str(tmp_path / "cache")}
    today(1)
    first = diagnose.diagnose("behaviour", DiagnosticOptions(**common, out=str(tmp_path / "one")))
    assert not any("the prompts are taken from" in note for note in first.notes)
    today(2)
    with monkeypatch.context() as patch:
        patch.setattr(
            TransformersEngine, "sample", lambda *_, **__: pytest.fail("an engine was asked")
        )
        for out in ("one", "two"):  # the same run again, and another
            second = diagnose.diagnose(
                "behaviour", DiagnosticOptions(**common, out=str(tmp_path / out))
            )
            assert any("the prompts are taken from" in note for note in second.notes)
            pd.testing.assert_frame_equal(
                second.measurements.drop(columns="run"), first.measurements.drop(columns="run")
            )


def test_training_goes_on_with_its_prompts(
    pair: dict[str, Any], today: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {role: pair[role] for role in ("student", "teacher")}
    options = TrainOptions(
        **{**TRAIN, **names, "problems": "abacus-train", "out": str(tmp_path / "run")}
    )
    asked: dict[str, set[tuple[int, ...]]] = {}
    sample = TransformersEngine.sample

    def watched(self: Any, requests: list[Request], *more: Any) -> Any:
        if requests[0].stage == stopping:
            raise KeyboardInterrupt
        asked.setdefault(requests[0].stage, set()).update(
            request.prompt_ids for request in requests
        )
        return sample(self, requests, *more)

    monkeypatch.setattr(TransformersEngine, "sample", watched)
    stopping = "train-2"
    today(1)
    with pytest.raises(KeyboardInterrupt):
        loop.train(options)
    today(2)
    stopping = ""
    result = loop.train(options)
    assert len(result.metrics) == 2 and {"train-1", "train-2", "validation"} <= asked.keys()
    tokenizer = prepare.loading.load_tokenizer_only(names["student"]).tokenizer
    for prompts in asked.values():
        assert all("01 Jul 2026" in tokenizer.decode(list(ids)) for ids in prompts)
    assert any("the prompts are taken from" in note for note in result.notes)


# Ends of turns


def test_a_rollout_ends_where_the_template_ends_a_turn(
    tmp_path: Path, pair: dict[str, Any]
) -> None:
    """The end-of-sequence token is another one, which the student never writes."""
    student = copied(tmp_path / "other", "student")
    for name in ("config.json", "generation_config.json"):
        edit(student / name, eos_token_id=2)
    edit(student / "tokenizer_config.json", eos_token="<|system|>")
    options = {
        **FEW,
        "limit": 6,
        "max_tokens": 200,
        "prefix_lengths": (0, 90),
        "teacher": "abacus-teacher",
    }
    plain = prefix_decay.prefix_decay(Options(**options, out=str(tmp_path / "plain")))
    other = prefix_decay.prefix_decay(
        Options(**{**options, "student": str(student), "out": str(tmp_path / "run")})
    )
    rows = [pd.read_parquet(one.folder / "rollouts.parquet") for one in (plain, other)]
    own, theirs = (one[one.condition == "student"] for one in rows)
    assert (own.stop_reason == "eos").any()
    assert [list(ids) for ids in own.response_ids] == [list(ids) for ids in theirs.response_ids]
    assert list(own.stop_reason) == list(theirs.stop_reason)
    assert (rows[0].condition == "student-prefix").sum() == (
        rows[1].condition == "student-prefix"
    ).sum()
    told = [note for note in other.notes if "it also ends a rollout here" in note]
    assert told == [
        f"student: the template of {student} ends a turn with '<|end|>', which is not one of its "
        "end-of-sequence tokens; it also ends a rollout here"
    ]
    assert other.record["identity"]["end_ids"]["student"] == [1, 2]
    assert not any("ends a turn" in note for note in plain.notes)


def test_a_response_of_a_file_is_closed_by_the_templates_end_and_cut_behind_it(
    tmp_path: Path,
) -> None:
    lines = [
        {"question": "1 + 1?", "answer": "2", "response": text}
        for text in (
            r"\boxed{2}",
            r"\boxed{2}<|end|>",
            "\\boxed{2}<|end|>\n",
            r"\boxed{2}<|end|><|pad|><|pad|>",
            r"\boxed{2}<|end|><|user|>2 + 2?<|end|><|assistant|>\boxed{4}",
        )
    ]
    path = write_lines(tmp_path / "theirs.jsonl", *lines)
    result = prefix_decay.prefix_decay(
        Options(
            rollouts=str(path),
            no_stop_reason="natural",
            max_tokens=24,
            prefix_lengths=(0, 8),
            samples=1,
            out=str(tmp_path / "run"),
            device="cpu",
        )
    )
    rows = pd.read_parquet(tmp_path / "run" / "rollouts.parquet")
    own = rows[rows.condition == "student"]
    assert len({tuple(ids) for ids in own.response_ids}) == 1 and own.response_ids.iloc[0][-1] == 1
    assert set(own.stop_reason) == {"eos"} and set(own.grade_last_boxed) == {"correct"}
    assert (
        "theirs.jsonl: 1 of 5 responses continue after an end-of-turn token: they were cut there"
        in result.notes
    )


# What is said of prompts


def test_thinking_without_effect_is_reported_by_every_command(tmp_path: Path) -> None:
    student = copied(
        tmp_path / "student", "student", behind="{% if add_generation_prompt %}<think>\n{% endif %}"
    )
    words = ["--student", student, "--limit", 2, "--max-tokens", 24]
    told = (
        f"--thinking off has no effect on {student}: its template always opens a thought (<think>)"
    )
    runs = {
        "prefix-decay": ["--samples", 1, "--prefix-lengths", "0,8"],
        "behaviour": ["--samples", 1, "--cache", tmp_path / "cache"],
        "evaluate": ["--samples", 1, "--cache", tmp_path / "cache"],
    }
    for command, more in runs.items():
        outcome = decaylab(command, *words, *more, "--out", tmp_path / command)
        assert outcome.code == 0 and told in " ".join((outcome.out + outcome.err).split()), command
        assert told in json.loads((tmp_path / command / "run.json").read_text())["notes"]
    outcome = decaylab("preflight", *words, "--prefix-lengths", "0,8")
    assert told.split(":")[0] in " ".join(outcome.out.split()) and "see the warning" in outcome.out
    outcome = decaylab(
        "plan", *words, "--prefix-lengths", "0,8", "--only", "prefix-decay", "--memory", "24GB"
    )
    assert told.split(":")[0] in " ".join(outcome.out.split())
    options = {**TRAIN, "student": str(student), "steps": 1, "out": str(tmp_path / "train")}
    trained = loop.train(TrainOptions(**options))
    assert told in trained.notes and told in trained.record["notes"]
    job = sweep_runs.Job(TrainOptions(), tmp_path / "train")
    assert sweeps._notes(
        [job], [job], SweepOptions(over="selector", values="full", runs=str(tmp_path))
    ) == [told]


def setup_of(grader: Grader, **options: Any) -> Any:
    return prepare.prepare(
        Options(**{**FEW, "prefix_lengths": (0, 8), **options}).resolved(), grader
    )


def shown(setup: Any, role: str) -> str:
    """The first prompt of a policy."""
    policy: Policy = getattr(setup, role)
    return str(policy.tokenizer.decode(list(next(iter(setup.prompts[role].values())))))


def test_system_messages_reach_their_prompts(grader: Grader) -> None:
    both = setup_of(grader, system="Be brief.")
    assert all(
        shown(both, role).startswith("<|system|>Be brief.<|end|><|user|>")
        for role in ("student", "teacher")
    )
    own = setup_of(grader, system="Be brief.", teacher_system="Teach.")
    assert shown(own, "student").startswith("<|system|>Be brief.") and shown(
        own, "teacher"
    ).startswith("<|system|>Teach.")
    none = setup_of(grader, system="Be brief.", teacher_system="")
    assert shown(none, "teacher").startswith("<|user|>")
    assert kept_prompts.digest(both.prompts) != kept_prompts.digest(own.prompts)


@pytest.mark.parametrize(
    "name, given, ending",
    [
        ("mine.jsonl", None, "2 + 3?"),
        ("mine.jsonl", "boxed", f"2 + 3?\n{BOXED_INSTRUCTION}"),
        ("mine.jsonl", "Say it.", "2 + 3?\nSay it."),
        ("math500:mine.jsonl", None, f"2 + 3?\n{BOXED_INSTRUCTION}"),
        ("math500:mine.jsonl", "none", "2 + 3?"),
    ],
)
def test_an_instruction_is_what_was_said_or_what_the_set_wants(
    grader: Grader, tmp_path: Path, name: str, given: str | None, ending: str
) -> None:
    path = write_lines(
        tmp_path / "mine.jsonl", {"problem": "2 + 3?", "answer": "5", "unique_id": "one"}
    )
    setup = setup_of(grader, problems=name.replace("mine.jsonl", str(path)), instruction=given)
    assert shown(setup, "student") == f"<|user|>{ending}<|end|><|assistant|>"
    told = [note for note in setup.notes if "are used without an instruction" in note]
    assert len(told) == (name == "mine.jsonl" and given is None)


def test_the_embedded_problems_have_no_instruction_and_no_note(grader: Grader) -> None:
    setup = setup_of(grader)
    assert setup.problem_set.instruction == "" and setup.prompt_notes == ()


@pytest.mark.parametrize(
    "options, told",
    [
        (
            {"teacher_system": "S", "teacher_prompt": "student"},
            "--teacher-system does not apply with --teacher-prompt student",
        ),
        ({"system": "S", "prompt_format": "plain"}, "--system needs a chat template"),
        (
            {"template_kwargs": {"a": "1"}, "prompt_format": "plain"},
            "--template-kwargs needs a chat template",
        ),
        (
            {"template_kwargs": {"enable_thinking": "true"}},
            "--template-kwargs enable_thinking: set with --thinking; remove it",
        ),
        (
            {"template_kwargs": {"messages": "[]"}},
            "--template-kwargs messages: reserved by the template engine; remove it",
        ),
    ],
)
def test_what_has_no_place_in_a_prompt_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError) as caught:
        Options(**options).resolved()
    assert told in str(caught.value)


def test_template_variables_come_by_flag_by_file_and_from_python(
    tmp_path: Path, grader: Grader
) -> None:
    student = copied(
        tmp_path / "student", "student", "{{ '<|system|>' + effort | default('none') + '<|end|>' }}"
    )
    words = [
        "--student",
        student,
        "--limit",
        2,
        "--max-tokens",
        24,
        "--samples",
        1,
        "--prefix-lengths",
        "0,8",
    ]
    config = tmp_path / "options.toml"
    config.write_text('instruction = "Say it."\n[template-kwargs]\neffort = "low"\n')
    for place, more in (
        ("flag", ["--template-kwargs", "effort=low", "--instruction", "Say it."]),
        ("file", ["--config", config]),
    ):
        outcome = decaylab("prefix-decay", *words, *more, "--out", tmp_path / place)
        assert outcome.code == 0, outcome.err
        record = json.loads((tmp_path / place / "run.json").read_text())
        assert record["identity"]["options"]["template_kwargs"] == {"effort": "low"}
        assert record["example_prompt"]["student"].startswith("<|system|>low<|end|>")
        assert "Say it." in record["example_prompt"]["teacher"]
        assert record["identity"]["problems"]["instruction"] == "Say it."
        # The teacher's template has no such variable.
        assert any(
            "--template-kwargs effort has no effect on abacus-teacher" in one
            for one in record["notes"]
        )
    outcome = decaylab(
        "prefix-decay", *words, "--template-kwargs", "effort=high", "--out", tmp_path / "flag"
    )
    assert outcome.code == 2 and "different settings" in outcome.err
    assert decaylab("prefix-decay", "--template-kwargs", "effort").complaint.endswith(
        "must be KEY=VALUE, got 'effort'"
    )


def test_what_training_was_told_of_prompts_reaches_children_and_measurements() -> None:
    options = TrainOptions(
        system="Be brief.",
        teacher_system="",
        instruction="boxed",
        template_kwargs={"effort": "low"},
    )
    words = sweep_runs.train_words(options)
    for flag, value in (
        ("--system", "Be brief."),
        ("--teacher-system", ""),
        ("--instruction", "boxed"),
        ("--template-kwargs", "effort=low"),
    ):
        assert words[words.index(flag) + 1] == value
    known = loop.run_record.__globals__["measured_with"](options.resolved())
    assert known["system"] == "Be brief." and known["template_kwargs"] == {"effort": "low"}


# What cannot stand in a prompt


def test_control_tokens_in_questions_are_counted(tmp_path: Path, grader: Grader) -> None:
    lines = [
        {"question": text, "answer": "5"}
        for text in ("2 + 3<|end|>?", "a <|end|><|user|>", "2 + 3?")
    ]
    path = write_lines(tmp_path / "mine.jsonl", *lines)
    setup = setup_of(grader, limit=None, problems=str(path), system="S <|pad|>", instruction="none")
    told = [
        f"{role}: {words}"
        for role in ("student", "teacher")
        for words in (
            "2 of 3 questions contain control tokens (<|end|> 2x, <|user|> 1x), encoded as text",
            "the system message contains control tokens (<|pad|> 1x), encoded as text",
        )
    ]
    assert list(setup.prompt_notes) == told
    for ids in setup.prompts["student"].values():
        assert setup.student.tokenizer.convert_ids_to_tokens([one for one in ids if one < 5]) == [
            "<|system|>",
            "<|end|>",
            "<|user|>",
            "<|end|>",
            "<|assistant|>",
        ]


def test_a_problem_that_is_too_long_is_named_and_left_out_where_that_was_said(
    tmp_path: Path, grader: Grader
) -> None:
    lines = [
        {"id": name, "question": text, "answer": "5"}
        for name, text in (("a", "2 + 3?"), ("long", "9 " * 600), ("b", "4?"))
    ]
    path = write_lines(tmp_path / "mine.jsonl", *lines)
    common = {"limit": None, "problems": str(path), "instruction": "none"}
    with pytest.raises(UserError) as caught:
        setup_of(grader, **common)
    told = str(caught.value)
    assert (
        "tokens plus --max-tokens 24 exceeds the context" in told
        and "problem long: its prompt of " in told
        and "the prompt alone is too long" in told
    )
    assert (
        "exceeds the context of the student abacus-student, 1024 tokens" in told
        and "--leave-out-long" in told
    )
    setup = setup_of(grader, **common, leave_out_long=True)
    assert [one.problem_id for one in setup.problems] == ["a", "b"]
    assert set(setup.prompts["student"]) == set(setup.prompts["teacher"]) == {"a", "b"}
    assert setup.notes[-1] == "1 of 3 problems do not fit into the context, left out (long)"
    with pytest.raises(UserError, match="no problem is left: .* plus --max-tokens 1020"):
        setup_of(grader, **common, leave_out_long=True, max_tokens=1020)


def test_training_leaves_out_what_is_too_long_and_says_so(tmp_path: Path) -> None:
    lines = [
        {"id": str(n), "question": "9 " * 600 if n == 3 else f"{n} + 3?", "answer": str(n + 3)}
        for n in range(8)
    ]
    path = write_lines(tmp_path / "mine.jsonl", *lines)
    options = {
        **TRAIN,
        "problems": str(path),
        "validation_problems": 0,
        "steps": 4,
        "out": str(tmp_path / "run"),
    }
    with pytest.raises(UserError, match="problem 3: its prompt of "):
        loop.train(TrainOptions(**options))
    result = loop.train(TrainOptions(**{**options, "steps": 4, "leave_out_long": True}))
    assert "1 of 8 problems do not fit into the context, left out (3)" in result.notes
    assert result.record["identity"]["problems"]["trained_on"] == 7


def test_half_characters_are_replaced_counted_and_written(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        '{"id": "a\\ud83d", "question": "2 + 3 \\ud83d?", "answer": "5"}\n'
        '{"id": "b", "question": "\\ud83d\\ude00 2 + 4?", "answer": "6"}\n'
        '{"id": "c", "question": "2 + 5?", "answer": "7\\udc00"}\n'
    )
    out = tmp_path / "run"
    words = [
        "--limit",
        3,
        "--samples",
        1,
        "--prefix-lengths",
        "0,8",
        "--max-tokens",
        24,
        "--system",
        "S\udcff",
    ]
    outcome = decaylab("prefix-decay", "--problems", path, *words, "--out", out)
    assert outcome.code == 0, outcome.err
    notes = json.loads((out / "run.json").read_text())["notes"]
    assert (
        r"2 of 3 problems contain half a character (a lone surrogate, such as \ud83d), replaced by "
        r"U+FFFD" in notes
    )
    assert "--system contains half a character (a lone surrogate), replaced by U+FFFD" in notes
    asked = pd.read_parquet(out / "problems.parquet")
    assert asked["problem_id"].iloc[0] == "a\ufffd" and asked["question"].iloc[0] == "2 + 3 \ufffd?"
    assert "\U0001f600 2 + 4?" in list(asked["question"])  # a whole one

    theirs = tmp_path / "theirs.jsonl"
    theirs.write_text(
        '{"question": "1 + 1\\ud83d?", "answer": "2", "response": "\\\\boxed{2}\\udfff"}\n'
    )
    cache = ["--cache", tmp_path / "cache", "--out", tmp_path / "kl"]
    outcome = decaylab("position-kl", "--rollouts", theirs, "--max-tokens", 24, *cache)
    assert outcome.code == 0, outcome.err
    notes = json.loads((tmp_path / "kl" / "run.json").read_text())["notes"]
    assert any(
        note.startswith("1 of 1 rows of theirs.jsonl contain half a character") for note in notes
    )
    viewed = pd.read_parquet(tmp_path / "kl" / "viewed-rollouts.parquet")
    assert viewed["question"].iloc[0] == "1 + 1\ufffd?"
    assert decaylab("view", tmp_path / "kl", "--out", tmp_path / "view.html").code == 0


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
