"""Rollouts that exist already, through the commands: any writer's file of a run gives that run's
measurements again."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import exported_rollouts as exported
import numpy as np
import pandas as pd
import pytest
from command_line import DATA, Outcome, decaylab, write_lines
from exported_rollouts import WRITERS, Made

from decaylab.commands import drawing
from decaylab.policies import loading
from decaylab.runs import measurements

SIZE = ("--limit", 4, "--quiet")
SAMPLED = ("--samples", 2)
DECAY = ("--prefix-lengths", "0,8,16", "--controls", "none")
COMMANDS = ("prefix-decay", "position-kl", "behaviour")
FROM_ROLLOUTS = COMMANDS[1:]
"""Those that sample nothing: what they measure is all in the rollouts."""
SAMPLED_FROM = ("ids", "vllm", "sglang", "messages")
"""Writers whose files go through all commands: those with ids, and one with texts."""
SHORT, LONG = 150, 200
"""Budgets: the first cuts half of the rollouts off, the second none, of two problems."""
END = 1
ROW: dict[str, Any] = {
    "prompt": "What is 4 + 3 in all?",
    "answer": "7",
    "response": "4+3=7",
    "finish_reason": "stop",
}


@dataclass(frozen=True)
class Own:
    """Runs of the embedded pair with one budget: of each command its folder; and the student's
    rollouts."""

    budget: int
    runs: dict[str, Path]
    rollouts: list[Made]


def measured(command: str, out: Path, cache: Path, budget: int, *options: object) -> Outcome:
    """A command on the embedded pair. Scores of rollouts that a file brings need no sampling
    options."""
    size = SIZE if budget == SHORT else ("--limit", 2, "--quiet")
    rest: tuple[object, ...] = () if command == "prefix-decay" else ("--cache", cache)
    if command != "position-kl" or "--rollouts" not in options:
        rest += (*SAMPLED, "--max-tokens", budget)
    rest += DECAY if command == "prefix-decay" else ()
    return decaylab(command, *size, *rest, *options, "--out", out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rollouts")


@pytest.fixture(autouse=True)
def undrawn(own: Own, ended: Own, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Figures take half of the time of a run, so that they are drawn in the first runs and where a
    test undoes this."""
    monkeypatch.setattr(drawing, "draw", lambda *args, **others: None)
    return monkeypatch


def own_runs(folder: Path, budget: int) -> Own:
    runs = {command: folder / f"{command}-{budget}" for command in COMMANDS}
    for command, run in runs.items():
        assert measured(command, run, folder / "cache", budget).code == 0
    return Own(budget, runs, exported.made(runs["prefix-decay"]))


@pytest.fixture(scope="module")
def own(folder: Path) -> Own:
    return own_runs(folder, SHORT)


@pytest.fixture(scope="module")
def ended(folder: Path) -> Own:
    return own_runs(folder, LONG)


def table(run: Path) -> pd.DataFrame:
    """The measurements of a run without what names it, and without a file's own verdicts."""
    found = measurements.read(run / "measurements.parquet").drop(columns="run")
    return found[found["answer_rule"] != "file"].reset_index(drop=True)


def value(run: Path, what: str, **where: Any) -> Any:
    frame = measurements.read(run / "measurements.parquet")
    for column, wanted in {"what": what, **where}.items():
        frame = frame[frame[column] == wanted]
    (found,) = (row for _, row in frame.iterrows())
    return found


# Every writer's file gives the run again


def test_of_the_rollouts_that_are_written_here_some_are_cut_off_and_some_end(
    own: Own, ended: Own
) -> None:
    assert {one.stop for one in own.rollouts} == {"eos", "length"} and {
        one.stop for one in ended.rollouts
    } == {"eos"}
    assert (len(own.rollouts), len(ended.rollouts)) == (8, 4) and all(
        one.ids[-1] == END for one in ended.rollouts
    )


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_of_a_run_gives_the_measurements_of_the_run(
    name: str, own: Own, ended: Own, folder: Path, tmp_path: Path
) -> None:
    writer = WRITERS[name]
    source = own if writer.says_ends else ended
    path = exported.export(source.rollouts, writer, tmp_path)
    for command in COMMANDS if name in SAMPLED_FROM else FROM_ROLLOUTS:
        outcome = measured(
            command,
            tmp_path / command,
            folder / "cache",
            source.budget,
            "--rollouts",
            path,
            *writer.options,
        )
        assert outcome.code == 0, outcome.err
        pd.testing.assert_frame_equal(
            table(tmp_path / command), table(source.runs[command]), check_exact=True
        )
    count = len(source.rollouts)
    read = json.loads((tmp_path / "behaviour" / "run.json").read_text())["rollouts"]
    assert (read["formats"], read["rollouts"], read["problems"]) == (
        {writer.title: 1},
        count,
        count // 2,
    )
    if name in SAMPLED_FROM:
        run = tmp_path / "prefix-decay"
        assert exported.made(run) == source.rollouts
        engines = pd.read_parquet(run / "rollouts.parquet").groupby("condition")["engine"].unique()
        assert list(engines["student"]) == ["external"]


def test_the_rollouts_table_and_the_folder_of_a_run_give_the_run_again(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    run = own.runs["prefix-decay"]
    for command, path in zip(FROM_ROLLOUTS, (run, run / "rollouts.parquet"), strict=True):
        options = ("--rollouts", path, "--problems", "abacus")
        assert measured(command, tmp_path / command, folder / "cache", SHORT, *options).code == 0
        pd.testing.assert_frame_equal(
            table(tmp_path / command), table(own.runs[command]), check_exact=True
        )
    record = json.loads((tmp_path / "behaviour" / "run.json").read_text())["rollouts"]
    assert record["formats"] == {"decaylab's rollouts table": 1} and record["token_ids"] == 8


def test_with_every_control_ones_own_rollouts_give_the_same_rollouts(
    tmp_path: Path, own: Own
) -> None:
    path = exported.export(own.rollouts, WRITERS["columns"], tmp_path)
    few, size = own.rollouts[:4], ("--limit", 2, "--quiet")
    command = (
        "prefix-decay",
        *size,
        *SAMPLED,
        "--max-tokens",
        24,
        "--prefix-lengths",
        "0,8",
        "--controls",
        "all",
    )
    for name, more in (("run", ()), ("given", ("--rollouts", path, "--problems", "abacus"))):
        assert decaylab(*command, *more, "--out", tmp_path / name).code == 0
    first, second = (
        pd.read_parquet(tmp_path / name / "rollouts.parquet") for name in ("run", "given")
    )
    columns = [
        "rollout_id",
        "response_ids",
        "text",
        "stop_reason",
        "prefix_ids",
        "grade_last_boxed",
    ]
    teachers = [
        frame[frame["condition"].isin(("teacher", "own-prefix", "reverse"))]
        for frame in (first, second)
    ]
    for frame in teachers:
        frame[["response_ids", "prefix_ids"]] = frame[["response_ids", "prefix_ids"]].map(tuple)
    pd.testing.assert_frame_equal(*(frame[columns].reset_index(drop=True) for frame in teachers))
    cut = [len(one) for one in first[first["condition"] == "student"]["response_ids"]]
    whole = [len(one) for one in second[second["condition"] == "student"]["response_ids"]]
    assert max(cut) == 24 and whole == [len(one.ids) for one in few]


# Faults that there were


def of_file(
    own: Own,
    rows: Callable[[Made], dict[str, Any]],
    tmp_path: Path,
    folder: Path,
    command: str,
    *options: object,
) -> Path:
    """A run of a command on the rollouts, a row each as given."""
    path = write_lines(tmp_path / "theirs.jsonl", *(rows(one) for one in own.rollouts))
    outcome = measured(
        command, tmp_path / command, folder / "cache", own.budget, "--rollouts", path, *options
    )
    assert outcome.code == 0, outcome.err
    return tmp_path / command


def plain(one: Made) -> dict[str, Any]:
    finish = exported.FINISH[one.stop]
    return {
        "prompt": one.question,
        "response": one.text,
        "answer": one.answer,
        "finish_reason": finish,
    }


def test_no_prompt_becomes_the_text_of_a_list_or_a_template_in_a_template(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    """A problem of each kind: a question, messages, messages in parts, and a rendered prompt."""
    names = list(dict.fromkeys(one.problem_id for one in own.rollouts))

    def row(one: Made) -> dict[str, Any]:
        given: list[Any] = [
            one.question,
            [{"role": "user", "content": one.question}],
            [{"role": "user", "content": [{"type": "text", "text": one.question}]}],
            one.rendered,
        ]
        return plain(one) | {"prompt": given[names.index(one.problem_id)]}

    run = of_file(own, row, tmp_path, folder, "position-kl")
    prompts = pd.read_parquet(run / "prompts.parquet")
    for role in ("student", "teacher"):
        assert list(prompts[prompts["role"] == role]["text"]) == [
            one.rendered for one in own.rollouts[::2]
        ]
    read = json.loads((run / "run.json").read_text())["rollouts"]
    assert read["prompts"] == {"question": 1, "messages": 2, "rendered": 1}


def test_a_text_of_prompt_and_response_is_refused_and_once_cut_has_the_length_of_its_response(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    def row(one: Made) -> dict[str, Any]:
        return {
            "prompt": one.question,
            "text": one.question + one.text,
            "answer": one.answer,
            "finish_reason": "stop",
        }

    path = write_lines(tmp_path / "refused.jsonl", *map(row, own.rollouts))
    for command in COMMANDS:
        refused = measured(command, tmp_path / "no", folder / "cache", SHORT, "--rollouts", path)
        assert refused.complaint == (
            f"{path}:1: 8 of 8 responses begin with their prompt; use --prompt-in-response cut "
            "to remove it, or keep if it is part of the response"
        )
    run = of_file(own, row, tmp_path, folder, "behaviour", "--prompt-in-response", "cut")
    written = [len(one.ids) - (one.stop == "eos") for one in own.rollouts]
    assert value(run, "response_tokens_mean", checkpoint="base").value == np.mean(written)


def test_a_wrapped_gold_answer_is_compared_with_what_stands_inside(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    wraps: list[Callable[[str], Any]] = [
        lambda gold: {"value": gold},
        lambda gold: [gold],
        lambda gold: f"So it is\n#### {gold}",
        lambda gold: gold,
    ]
    wrap = dict(zip(dict.fromkeys(one.problem_id for one in own.rollouts), wraps, strict=True))
    run = of_file(
        own,
        lambda one: plain(one) | {"answer": wrap[one.problem_id](one.answer)},
        tmp_path,
        folder,
        "behaviour",
    )
    right = [f"\\boxed{{{one.answer}}}" in one.text for one in own.rollouts]
    assert 0 < sum(right) < len(right)
    assert value(run, "accuracy", answer_rule="last_boxed", checkpoint="base").value == np.mean(
        right
    )


CUT: tuple[dict[str, Any], ...] = (
    {"finish_reason": "length"},
    {"finish_reason": {"type": "length"}},
    {"finish_reason": "MAX_TOKENS"},
    {"finish_reason": None, "truncated": True},
    {"finish_reason": "stop", "truncated": True},
)


def test_however_a_file_says_that_a_rollout_was_cut_off_nobody_writes_an_end_token(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    ways = iter(CUT)
    open_ones = [one for one in own.rollouts if one.stop == "length"]
    assert len(open_ones) == 4

    def row(one: Made) -> dict[str, Any]:
        return plain(one) | (next(ways) if one.stop == "length" else {})

    run = of_file(own, row, tmp_path, folder, "behaviour")
    assert value(run, "natural_stop_share", checkpoint="base").value == 0.5
    ways = iter(CUT)
    run = of_file(own, row, tmp_path, folder, "position-kl")
    found = measurements.read(run / "measurements.parquet")
    tokens = found[(found["what"] == "reverse_kl") & (found["condition"] == "all")]["tokens"].sum()
    assert tokens == sum(len(one.ids) for one in own.rollouts)  # an end token more would count


def test_an_unknown_stop_reason_and_none_at_all_are_no_natural_ends(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    stops = iter(["loop", None, "stop", "length"] * 2)
    run = of_file(
        own, lambda one: plain(one) | {"finish_reason": next(stops)}, tmp_path, folder, "behaviour"
    )
    share = value(run, "natural_stop_share", checkpoint="base")
    assert (share.value, share.rollouts) == (pytest.approx(1 / 3), 6)
    notes = " ".join(json.loads((run / "run.json").read_text())["notes"])
    assert "loop (2, not a natural end)" in notes and "no stop reason (2, unknown end)" in notes
    assert "2 of 8 rollouts did not stop naturally" in notes
    assert "2 of 8 rollouts have no stop reason" in notes


def thinking_student(folder: Path) -> Path:
    """The embedded student with a template that writes thoughts."""
    path = Path(shutil.copytree(DATA / "student", folder / "thinks", dirs_exist_ok=True))
    template = path / "chat_template.jinja"
    said = "message['content']"
    thought = (
        "('<think>' + message.reasoning_content + '</think>' if message.reasoning_content else '')"
    )
    template.write_text(template.read_text().replace(said, f"{thought} + {said}"))
    return path


def test_a_thought_beside_its_answer_is_measured_and_holds_no_answer(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    student = thinking_student(tmp_path)

    def row(one: Made) -> dict[str, Any]:
        told = {"response": f"\\boxed{{{one.answer}}}", "reasoning_content": "First \\boxed{1}."}
        return plain(one) | told | {"finish_reason": "stop"}

    run = of_file(own, row, tmp_path, folder, "behaviour", "--student", student)
    tokenizer = loading.load_tokenizer_only("abacus-student")
    written = [
        len(tokenizer.encode(f"<think>First \\boxed{{1}}.</think>\\boxed{{{one.answer}}}"))
        for one in own.rollouts
    ]
    assert value(run, "response_tokens_mean", checkpoint="base").value == np.mean(written)
    assert value(run, "accuracy", answer_rule="first_boxed", checkpoint="base").value == 1
    notes = json.loads((run / "run.json").read_text())["notes"]
    assert any("8 of 8 responses were joined from thought and answer" in note for note in notes)


def test_token_ids_go_before_text(own: Own, folder: Path, tmp_path: Path) -> None:
    """One id a character, which no encoding of the text gives."""
    tokenizer = loading.load_tokenizer_only("abacus-student")

    def row(one: Made) -> dict[str, Any]:
        return plain(one) | {
            "response_ids": [token for letter in one.text for token in tokenizer.encode(letter)]
        }

    run = of_file(own, row, tmp_path, folder, "prefix-decay")
    longer = [len(one.text) + (one.stop == "eos") for one in own.rollouts]
    assert (
        [len(one.ids) for one in exported.made(run)]
        == longer
        != [len(one.ids) for one in own.rollouts]
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_budget_what_fits_behind_the_longest_prompt_is_the_budget(
    command: str, folder: Path, tmp_path: Path
) -> None:
    """The embedded pair has 1,024 positions; its usual budget is 320."""
    tokenizer = loading.load_tokenizer_only("abacus-student")
    question = "add three " * 230 + "?"
    length = len(tokenizer.encode(question)) + 3
    assert 1024 - 320 < length < 1024
    path = write_lines(tmp_path / "theirs.jsonl", ROW, ROW | {"prompt": question})
    rest = DECAY if command == "prefix-decay" else ("--cache", folder / "cache")
    lengths = {"prefix-decay": ("--samples", 1), "behaviour": ("--samples", 1)}.get(command, ())
    outcome = decaylab(
        command, "--rollouts", path, "--quiet", *rest, *lengths, "--out", tmp_path / "run"
    )
    assert outcome.code == 0, outcome.err
    notes = json.loads((tmp_path / "run" / "run.json").read_text())["notes"]
    assert (
        f"the budget is {1024 - length} tokens, all that fit after the longest prompt "
        "(set it with --max-tokens)" in notes
    )
    if command == "behaviour":  # the same for all
        usual = write_lines(tmp_path / "usual.jsonl", ROW)
        outcome = decaylab(
            command, "--rollouts", usual, "--quiet", *rest, *lengths, "--out", tmp_path / "usual"
        )
        assert (
            outcome.code == 0
            and "the budget is" not in (tmp_path / "usual" / "run.json").read_text()
        )


def test_a_prompt_beyond_the_context_is_refused_or_left_out(folder: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "theirs.jsonl", ROW, ROW | {"prompt": "add three " * 600 + "?"})
    command = (
        "behaviour",
        "--rollouts",
        path,
        "--quiet",
        "--samples",
        1,
        "--cache",
        folder / "cache",
    )
    refused = decaylab(*command, "--out", tmp_path / "no")
    assert (
        "the prompt alone is too long" in refused.complaint
        and "--leave-out-long" in refused.complaint
    )
    outcome = decaylab(*command, "--leave-out-long", "--out", tmp_path / "run")
    assert (
        outcome.code == 0 and "1 of 2 problems do not fit into the context, left out" in outcome.out
    )


# Several turns


def with_tool(one: Made) -> dict[str, Any]:
    """The rollout with twelve of its tokens, behind the fifth, taken for a tool's."""
    mask = [int(not 5 <= place < 17) for place in range(len(one.ids))]
    return {
        "prompt": one.question,
        "response_ids": one.ids,
        "response_mask": mask,
        "answer": one.answer,
    } | {"finish_reason": exported.FINISH[one.stop]}


def test_the_kl_of_what_a_tool_wrote_is_not_measured(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    run = of_file(own, with_tool, tmp_path, folder, "position-kl")
    scores = scored_tokens(folder / "cache", own)
    kept = scores[(scores["position"] < 5) | (scores["position"] >= 17)].copy()
    kept["own"] = kept.groupby("rollout_id").cumcount()
    for low, high in ((0, 5), (5, 10), (10, 20), (20, 40)):
        expected = kept[(kept["own"] >= low) & (kept["own"] < high)]["reverse_kl"]
        found = value(run, "reverse_kl", condition="all", position_low=low)
        assert found.tokens == len(expected) and found.value == pytest.approx(
            expected.mean(), rel=1e-3
        )


def scored_tokens(cache: Path, own: Own) -> pd.DataFrame:
    """The scored tokens of the own run; those of the second route differ by rounding alone."""
    ids = [token for one in own.rollouts for token in one.ids]
    tables = map(pd.read_parquet, sorted(cache.glob("tokens-*/tokens.parquet")))
    return next(one for one in tables if one["token_id"].tolist() == ids)


def test_lengths_and_prefixes_count_the_students_own_tokens(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    run = of_file(own, with_tool, tmp_path, folder, "behaviour")
    written = [len(one.ids) - 12 - (one.stop == "eos") for one in own.rollouts]
    assert value(run, "response_tokens_mean", checkpoint="base").value == np.mean(written)
    rollouts = pd.read_parquet(
        of_file(own, with_tool, tmp_path, folder, "prefix-decay") / "rollouts.parquet"
    )
    for length, reached in ((8, 20), (16, 28)):  # the tool's twelve tokens stand in the prefix too
        prefixes = rollouts[
            (rollouts["condition"] == "student-prefix") & (rollouts["prefix_tokens"] == length)
        ]
        assert [list(ids) for ids in prefixes["prefix_ids"]] == [
            one.ids[:reached] for one in own.rollouts
        ]


def test_messages_of_several_turns_are_continued_and_measured(
    own: Own, folder: Path, tmp_path: Path, undrawn: pytest.MonkeyPatch
) -> None:
    undrawn.undo()

    def row(one: Made) -> dict[str, Any]:
        turns = [{"role": "assistant", "content": "4+3="}, {"role": "tool", "content": "7"}]
        return plain(one) | {"response": [*turns, {"role": "assistant", "content": one.text}]}

    for command in ("prefix-decay", "behaviour"):  # the KL of what a tool wrote: above
        run = of_file(own, row, tmp_path, folder, command)
        notes = json.loads((run / "run.json").read_text())["notes"]
        assert any(
            "8 of 8 responses contain text that the student did not write" in note for note in notes
        )
    said = len("4+3=") + 1  # an id a character, and its end
    own_tokens = [said + len(one.ids) - (one.stop == "eos") for one in own.rollouts]
    assert value(
        tmp_path / "behaviour", "response_tokens_mean", checkpoint="base"
    ).value == np.mean(own_tokens)


@pytest.mark.parametrize("command", ["category-kl", "submode", "signals"])
def test_the_other_diagnostics_read_rollouts_of_several_turns_too(
    command: str, own: Own, folder: Path, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "theirs.jsonl", *map(with_tool, own.rollouts))
    options = ("--rollouts", path, "--cache", folder / "cache", *SIZE, "--out", tmp_path / "run")
    outcome = decaylab(command, *options)
    assert outcome.code == 0, outcome.err
    total = sum(len(one.ids) - 12 for one in own.rollouts)
    found = measurements.read(tmp_path / "run" / "measurements.parquet")
    tokens = found["tokens"].max()
    if command == "category-kl":
        tokens = found[found["what"] == "token_share"]["tokens"].sum()
    highest_tenth = math.ceil(total / 10)
    assert tokens == {"signals": total, "submode": highest_tenth, "category-kl": total}[command]


def test_a_checkpoint_is_compared_with_rollouts_of_a_file_whose_ends_are_unknown(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    path = write_lines(
        tmp_path / "theirs.jsonl",
        *(one.named | with_tool(one) | {"finish_reason": None} for one in own.rollouts[2:]),
    )
    checkpoint = shutil.copytree(DATA / "student", tmp_path / "step-1")
    for command in ("behaviour", "position-kl"):
        options = (
            "--rollouts",
            path,
            "--cache",
            folder / "cache",
            *SIZE,
            *SAMPLED,
            "--max-tokens",
            24,
        )
        pair = ("--student", "abacus-student", "--teacher", "abacus-teacher")
        outcome = decaylab(command, checkpoint, *pair, *options, "--out", tmp_path / command)
        assert outcome.code == 0, outcome.err
    change = value(
        tmp_path / "behaviour", "natural_stop_share_change", checkpoint=f"{tmp_path.name}/step-1"
    )
    assert (
        change.problems == 2 and "1 of 3 problems have no value for base" in change.note
    )  # the ids of two end


def test_two_readings_of_a_file_share_no_prompts(own: Own, tmp_path: Path) -> None:
    """Ids of prompts in two columns, of which one ends with a line break; one cache must not take
    them for each other."""
    (line_break,) = loading.load_tokenizer_only("abacus-student").encode("\n")

    def row(one: Made) -> dict[str, Any]:
        return plain(one) | {"first": one.prompt_ids, "second": [*one.prompt_ids, line_break]}

    path = write_lines(tmp_path / "theirs.jsonl", *map(row, own.rollouts))
    for column, more in (("first", []), ("second", [line_break])):
        options = (
            "--rollouts",
            path,
            "--column",
            f"prompt_ids={column}",
            "--cache",
            tmp_path / "cache",
        )
        assert (
            decaylab(
                "position-kl", *options, "--limit", 1, "--quiet", "--out", tmp_path / column
            ).code
            == 0
        )
        prompts = pd.read_parquet(tmp_path / column / "prompts.parquet")
        student = [list(ids) for ids in prompts[prompts["role"] == "student"]["ids"]]
        assert student == [[*own.rollouts[0].prompt_ids, *more]]


def test_a_run_is_resumed_with_the_same_file_and_the_same_reading_alone(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    path = exported.export(own.rollouts, WRITERS["messages"], tmp_path)
    command = ("prefix-decay", *SIZE, *SAMPLED, "--max-tokens", SHORT, *DECAY, "--rollouts", path)
    options = ("--out", tmp_path / "run")
    assert decaylab(*command, *options).code == 0
    first = table(tmp_path / "run")
    written_at = (tmp_path / "run" / "rollouts.parquet").stat().st_mtime_ns
    assert decaylab(*command, *options).code == 0
    assert (tmp_path / "run" / "rollouts.parquet").stat().st_mtime_ns == written_at, (
        "nothing is sampled again"
    )
    pd.testing.assert_frame_equal(first, table(tmp_path / "run"), check_exact=True)
    other = decaylab(*command, "--no-stop-reason", "natural", *options)
    assert (
        "with different settings (--no-stop-reason unknown there, natural now)" in other.complaint
    )
    path.write_text(path.read_text().replace("+", " + "))
    assert "with different settings (other problems; " in decaylab(*command, *options).complaint


def test_an_instruction_is_proposed_where_one_could_be_added_alone(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    told = "--instruction boxed asks for a boxed answer"
    for name, prompt in (("question", False), ("rendered", True)):
        rows = [plain(one) | ({"prompt": one.rendered} if prompt else {}) for one in own.rollouts]
        path = write_lines(tmp_path / f"{name}.jsonl", *rows)
        outcome = measured(
            "position-kl", tmp_path / name, folder / "cache", SHORT, "--rollouts", path
        )
        assert (
            outcome.code == 0 and (told in (tmp_path / name / "run.json").read_text()) is not prompt
        )


def test_an_instruction_beside_the_messages_of_a_file_stops_every_reading_of_it(
    own: Own, tmp_path: Path
) -> None:
    path = exported.export(own.rollouts, WRITERS["messages"], tmp_path)
    options = ("--problems", "abacus", "--instruction", "boxed")
    told = (
        f"4 of 4 prompts of {path} are chat messages, which are used unchanged for the "
        "problems of abacus: leave "
    )
    assert decaylab("rollouts", path, *options).complaint == f"{told}--instruction out"
    assert (
        decaylab("position-kl", "--rollouts", path, *options, *SIZE).complaint
        == f"{told}--instruction out"
    )


# Grades of the file


def test_grades_of_the_file_stand_beside_ours_as_a_rule_of_their_own(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    run = of_file(
        own,
        lambda one: one.named | plain(one) | {"correct": one.sample == 0},
        tmp_path,
        folder,
        "behaviour",
    )
    assert value(run, "accuracy", answer_rule="file").value == 0.5
    pd.testing.assert_frame_equal(table(run), table(own.runs["behaviour"]), check_exact=True)


# Problems


def test_a_tokenizer_is_student_enough_for_rollouts_that_are_there(
    own: Own, tmp_path: Path
) -> None:
    theirs = exported.export(own.rollouts, WRITERS["columns"], tmp_path)
    student = tmp_path / "tokenizer"
    student.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DATA / "student" / name, student)
    options = (
        "--rollouts",
        theirs,
        "--problems",
        "abacus",
        "--student",
        student,
        "--max-tokens",
        40,
        *SIZE,
    )
    command = ("prefix-decay", "--prefix-lengths", "0,8,16", *options)
    assert decaylab(*command, "--controls", "none", "--out", tmp_path / "run").code == 0
    identity = json.loads((tmp_path / "run" / "run.json").read_text())["identity"]
    assert identity["precision"]["student"] == "tokenizer only"
    made = pd.read_parquet(tmp_path / "run" / "rollouts.parquet")
    ids = {f"student/{one.problem_id}/{one.sample}": one.ids for one in own.rollouts}
    continued = made[made["condition"] == "student-prefix"]
    assert len(continued) == 16
    for row in continued.itertuples():
        assert list(row.prefix_ids) == ids[row.prefix_rollout_id][: row.prefix_tokens]
    refused = decaylab(*command, "--controls", "reverse", "--out", tmp_path / "other")
    assert str(student) in refused.complaint  # the reverse control has to sample from the student


def test_a_file_with_its_own_questions_is_measured_on_them(tmp_path: Path) -> None:
    lines = [
        {"question": f"{n} + 1?", "answer": n + 1, "response": f"{n}+1={n + 1} " * 9}
        for n in (1, 2, 3)
        for _ in "ab"
    ]
    theirs = write_lines(tmp_path / "theirs.jsonl", *lines)
    command = (
        "prefix-decay",
        "--rollouts",
        theirs,
        "--samples",
        1,
        "--prefix-lengths",
        "0,4",
        "--max-tokens",
        16,
    )
    outcome = decaylab(*command, "--limit", 2, "--quiet", "--out", tmp_path / "run")
    assert "theirs.jsonl, 2 problems x 1 samples" in outcome.out
    said = " ".join(outcome.out.split())
    assert "1 problems of " in said and "are not among those selected, left out" in said
    assert "4 student rollouts are longer than the budget of 16 tokens: graded whole" in said
    assert (
        "theirs.jsonl: plain columns, 6 rollouts for 3 problems; prompts bare questions (3); "
        "responses encoded from text" in said
    )
    assert (
        "so --split does not apply"
        in decaylab(*command, "--split", "test", "--out", tmp_path / "other").complaint
    )


def test_problems_that_the_set_does_not_have_are_refused_or_counted(
    own: Own, tmp_path: Path
) -> None:
    theirs = exported.export(own.rollouts, WRITERS["columns"], tmp_path)
    one = {"problem_id": "a", "response": "2"}
    strange = write_lines(tmp_path / "strange.jsonl", one)
    command = ("prefix-decay", "--prefix-lengths", "0,8,16", "--max-tokens", 40, *SIZE)
    refused = decaylab(
        *command, "--rollouts", strange, "--problems", "abacus", "--out", tmp_path / "run"
    )
    assert "none of its problem_ids is in abacus" in refused.complaint
    assert decaylab(*command, "--rollouts", strange, "--out", tmp_path / "run").complaint == (
        f"{strange} has problem_ids but no questions; give them with --problems"
    )
    mixed = write_lines(tmp_path / "mixed.jsonl", *theirs.read_text().splitlines(), one)
    options = (
        "--rollouts",
        mixed,
        "--problems",
        "abacus",
        "--controls",
        "none",
        "--out",
        tmp_path / "run",
    )
    outcome = decaylab(*command, *options)
    assert f"1 problems of {mixed} are not among those selected, left out" in outcome.out


# decaylab rollouts


def page(*arguments: object) -> str:
    outcome = decaylab("rollouts", *arguments)
    assert outcome.code == 0 and outcome.err == ""
    return outcome.out


def test_the_command_says_how_a_file_is_read(own: Own, tmp_path: Path) -> None:
    rows = exported.vllm(own.rollouts)
    rows[0]["outputs"][0]["finish_reason"] = "abort"
    path = write_lines(tmp_path / "theirs.jsonl", *rows)
    said = page(path, "--quiet")
    assert not [line for line in said.splitlines() if line != line.rstrip()]
    facts = [line.split(maxsplit=1) for line in said.splitlines()]
    assert ["format", "vLLM request outputs (1 file)"] in facts and ["rows", "4"] in facts
    assert ["rollouts", "7 for 4 problems, at most 2 each"] in facts
    assert ["prompts", "rendered by the student's template (4)"] in facts
    assert ["responses", "token ids (7)"] in facts
    for fact in ("stop: 4, natural end", "length: 3, cut off", "abort: 1, aborted, left out"):
        assert fact in said
    first = own.rollouts[0]
    words = " ".join(said.split())
    assert "gold answers 4 of 4 problems" in words and "left out 1 aborted by their engine" in words
    assert f"student reads {first.rendered}" in words and f"teacher reads {first.rendered}" in words
    assert " ".join(own.rollouts[1].text.split()) in words


def test_the_command_gives_the_same_as_json(own: Own, tmp_path: Path) -> None:
    path = exported.export(own.rollouts, WRITERS["messages"], tmp_path)
    found = json.loads(page(path, "--json", "--quiet"))
    assert found["files"] == [str(path)] and found["formats"] == {"plain columns": 1}
    assert (found["rows"], found["rollouts"], found["problems"], found["samples"]) == (8, 8, 4, 2)
    assert found["stop_reasons"] == {
        "stop": {"rollouts": 4, "means": "natural"},
        "length": {"rollouts": 4, "means": "cut"},
    }
    assert (found["gold_unwrapped"], found["texts"], found["token_ids"]) == (4, 8, 0)
    assert found["prompts"] == {"messages": 4}
    assert found["example"] == {
        "student": own.rollouts[0].rendered,
        "teacher": own.rollouts[0].rendered,
    }


def test_the_command_reads_several_files_and_loads_no_weights(own: Own, tmp_path: Path) -> None:
    student = tmp_path / "tokenizer"
    student.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(DATA / "student" / name, student)
    first = write_lines(tmp_path / "a.jsonl", ROW)
    second = write_lines(tmp_path / "b.jsonl", ROW | {"prompt": "What is 5 + 3 in all?"})
    said = page(first, second, "--student", student, "--teacher", student, "--quiet")
    assert "plain columns (2 files)" in said and "2 for 2 problems, one each" in said


@pytest.mark.parametrize(
    "options, message",
    [
        (("--rollouts-format", "vlm"), "--rollouts-format must be one of decaylab, trl, "),
        (("--column", "reply=text"), "--column must be ROLE=NAME, with a role among question, "),
        (
            ("--column", "response=made"),
            "{}:1: no column 'made' for the response (found prompt, answer, response",
        ),
        (("--prompt-kind", "chat"), "--prompt-kind must be "),
        (("--prompt-in-response", "drop"), "--prompt-in-response must be "),
        (("--no-stop-reason", "eos"), "--no-stop-reason must be "),
        (
            ("--prompt-kind", "rendered"),
            "{}:1: the prompt was not rendered by the template of abacus-student",
        ),
    ],
)
def test_what_stops_a_measurement_stops_the_command_with_the_same_line(
    options: tuple[str, ...], message: str, folder: Path, tmp_path: Path
) -> None:
    path = write_lines(tmp_path / "theirs.jsonl", ROW)
    complaint = decaylab("rollouts", path, *options).complaint
    assert complaint.startswith(message.format(path))
    command = COMMANDS[len(message) % len(COMMANDS)]  # all of them read files in the same way
    measured_too = decaylab(
        command, "--rollouts", path, *options, "--quiet", "--out", tmp_path / "no"
    )
    assert measured_too.complaint == complaint
    assert not (tmp_path / "no").exists()


def test_a_file_that_is_not_there_or_not_given_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "none.jsonl"
    assert decaylab("rollouts", gone).complaint == f"cannot read {gone}: No such file or directory"
    assert decaylab("rollouts").complaint == "no file is named: decaylab rollouts FILE"


def test_notes_of_the_command_say_what_a_measurement_would_say(tmp_path: Path) -> None:
    rows = [
        ROW | {"finish_reason": None, "answer": {"value": "7"}, "step": step} for step in (1, 2)
    ]
    said = " ".join(page(write_lines(tmp_path / "theirs.jsonl", *rows), "--quiet").split())
    assert (
        "the rollouts are from 2 training steps, that is, from different students; they are pooled"
        in said
    )
    assert "1 of 1 gold answers were unwrapped from an object or list" in said
    assert "2 of the first 2 rollouts have no stop reason" in said


def test_that_rollouts_are_of_several_training_steps_is_told_with_a_set_of_problems_too(
    own: Own, folder: Path, tmp_path: Path
) -> None:
    rows = [row | {"step": number} for number, row in enumerate(exported.verl(own.rollouts))]
    path = write_lines(tmp_path / "theirs.jsonl", *rows)
    told = (
        "the rollouts are from 8 training steps, that is, from different students; they are pooled"
    )
    outcome = measured(
        "position-kl",
        tmp_path / "set",
        folder / "cache",
        SHORT,
        "--rollouts",
        path,
        "--problems",
        "abacus",
    )
    assert (
        outcome.code == 0
        and json.loads((tmp_path / "set" / "run.json").read_text())["notes"].count(told) == 1
    )
    assert json.loads(page(path, "--json", "--quiet"))["notes"].count(told) == 1


def test_every_writer_here_is_read_without_an_option_or_says_which_is_missing(
    own: Own, tmp_path: Path
) -> None:
    for name, writer in WRITERS.items():
        path = exported.export(own.rollouts, writer, tmp_path)
        outcome = decaylab("rollouts", path, "--quiet")
        if name == "whole texts":
            assert "--prompt-in-response" in outcome.complaint
        elif name == "columns":
            assert outcome.complaint.endswith("give them with --problems")
        elif name == "trl":
            assert "the row has no problem" in outcome.complaint
        else:
            assert outcome.code == 0 and writer.title in outcome.out
