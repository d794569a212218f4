"""Rollout files are read to the end: rows of any packing, columns by name, stop reasons by one
table, faults in one line."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from rollouts_of import ROW, abacus, read, responses, written

from decaylab.errors import UserError
from decaylab.rollout_files import asked, files, summary
from decaylab.rollout_files.formats.columns import USUAL
from decaylab.rollout_files.record import Record
from decaylab.rollout_files.stops import Stop, stop_of

NAMED = {"problem_id": "a", "response": "2"}
MANY = [
    ROW | {"prompt": f"What is {n} + 1 in all?", "answer": n + 1, "response": f"{n}+1={n + 1}"}
    for n in range(700)
]


def packed(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the file format that the name says."""
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif path.name.endswith(".json.gz"):
        path.write_bytes(gzip.compress(json.dumps(rows).encode()))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines))
    elif path.suffix == ".zst":
        path.write_bytes(pa.compress(lines, codec="zstd", asbytes=True))
    else:
        path.write_bytes(lines)
    return path


# Files


@pytest.mark.parametrize(
    "name",
    [
        "a.jsonl",
        "a.ndjson",
        "a.json",
        "a.parquet",
        "a.jsonl.gz",
        "a.jsonl.zst",
        "a.ndjson.gz",
        "a.json.gz",
    ],
)
def test_every_packing_gives_the_same_rollouts(name: str, tmp_path: Path) -> None:
    done: list[int] = []
    path = packed(tmp_path / name, MANY)
    found = [row for _, row in files.rows(path, done.append)]
    assert found == MANY
    assert sum(done) == pytest.approx(path.stat().st_size, abs=len(done)), (
        "the bar ends where the file does"
    )
    both = read(path)
    assert (both.counts.rows, both.counts.rollouts, both.problem_count) == (700, 700, 700)
    assert [one.record.response for one in both.rollouts] == [f"{n}+1={n + 1}" for n in range(700)]
    assert both.content_hash == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_json_file_may_hold_one_object_or_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(ROW, indent=1))
    (tmp_path / "lines.json").write_text("".join(json.dumps(row) + "\n" for row in MANY))
    assert [read(tmp_path / name).counts.rows for name in ("one.json", "lines.json")] == [1, 700]


def test_several_files_and_folders_are_read_in_order_and_hashed_together(tmp_path: Path) -> None:
    folder = tmp_path / "dumps" / "inner"
    folder.mkdir(parents=True)
    first, second = (
        packed(folder / "2.jsonl", MANY[:2]),
        packed(tmp_path / "dumps" / "10.jsonl.gz", MANY[2:5]),
    )
    (tmp_path / "dumps" / "notes.txt").write_text("not read")
    (tmp_path / "dumps" / ".hidden.jsonl").write_text("not read")
    (tmp_path / "dumps" / "_SUCCESS.jsonl").write_text("not read")
    whole = read(tmp_path / "dumps")
    assert (whole.paths, whole.counts.rollouts, whole.name) == (
        (second, first),
        5,
        "10.jsonl.gz and 1 more",
    )
    named = read(f"{first}, {second}")
    assert (
        named.paths == (first, second)
        and read(f"{second},{first}").content_hash != named.content_hash
    )
    alone = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    assert named.content_hash == hashlib.sha256("".join(alone).encode()).hexdigest()


def test_a_name_with_a_comma_is_one_file_and_a_trailing_comma_names_nothing(
    tmp_path: Path, monkeypatch: Any
) -> None:
    path = packed(tmp_path / "a,b.jsonl", MANY[:2])
    monkeypatch.chdir(tmp_path)
    assert files.paths_of("a,b.jsonl") == (Path("a,b.jsonl"),)
    packed(tmp_path / "c.jsonl", MANY[:2])
    assert files.paths_of("c.jsonl,") == (Path("c.jsonl"),)
    for nothing in (",", "", " , "):
        with pytest.raises(UserError, match="^--rollouts names no file$"):
            files.paths_of(nothing)
    assert path.exists()


def test_of_the_folder_of_a_run_its_rollouts_table_is_read_and_beside_lm_evals_samples_no_results(
    tmp_path: Path,
) -> None:
    for name in ("rollouts.parquet", "measurements.parquet"):
        packed(tmp_path / name, MANY[:1])
    assert files.paths_of(str(tmp_path)) == (tmp_path / "rollouts.parquet",)
    evaluated = tmp_path / "evaluated"
    evaluated.mkdir()
    for name in ("results_2025.json", "samples_gsm8k_2025.jsonl"):
        packed(evaluated / name, MANY[:1])
    assert files.paths_of(str(evaluated)) == (evaluated / "samples_gsm8k_2025.jsonl",)


def test_a_response_may_hold_any_character_that_json_allows(tmp_path: Path) -> None:
    """U+2028 and its kin end a line for str.splitlines, but not in JSONL."""
    response = "one\u2028two\x85three\x1cfour"
    line = json.dumps(ROW | {"response": response}, ensure_ascii=False).encode()
    (tmp_path / "theirs.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b"\r\n\r\n  \n")
    assert [one.record.response for one in read(tmp_path / "theirs.jsonl").rollouts] == [response]


def test_half_a_character_that_an_escape_wrote_is_replaced(tmp_path: Path) -> None:
    line = (
        b'{"prompt": "What is it \\ud83d?", "answer": "7", "response": "\\ud83d\\ude00 7 \\udc00"}'
    )
    found = read(
        written(
            tmp_path / "theirs.jsonl",
            line,
            line.replace(b"\\ud83d?", b"it?").replace(b" \\udc00", b""),
        )
    )
    assert (found.counts.halves, found.counts.rows) == (1, 2)
    assert found.problems[0].question == "What is it \ufffd?"
    assert found.rollouts[0].record.response == "\U0001f600 7 \ufffd"


# Problems and samples


def test_samples_are_numbered_by_order_where_they_have_no_number(tmp_path: Path) -> None:
    lines = [{"problem_id": name, "text": str(index)} for index, name in enumerate("abaab")]
    found = read(written(tmp_path / "theirs.jsonl", *lines))
    assert [(one.problem_id, one.sample) for one in found.rollouts] == [
        ("a", 0),
        ("b", 0),
        ("a", 1),
        ("a", 2),
        ("b", 1),
    ]
    assert found.samples == 3 and found.problems == () and found.problem_count == 2


def test_questions_of_their_own_become_problems_of_the_same_id_in_every_file(
    tmp_path: Path,
) -> None:
    lines = [
        {"question": "1 + 1?", "answer": 2, "completion": "2"},
        {"prompt": "1 + 1?", "answer": 2, "output": "3"},
        {"question": "2 + 2?", "answer": None, "problem_id": "mine", "response": "4"},
    ]
    found = read(written(tmp_path / "theirs.jsonl", *lines))
    assert [(one.question, one.answer) for one in found.problems] == [
        ("1 + 1?", "2"),
        ("2 + 2?", None),
    ]
    assert [one.sample for one in found.rollouts] == [0, 1, 0]
    assert found.problems[0].problem_id == hashlib.sha256(b"1 + 1?").hexdigest()[:12]
    assert found.problems[1].problem_id == "mine" and found.counts.without_gold == 1


@pytest.mark.parametrize(
    "given, gold, unwrapped, hashes",
    [
        ("136", "136", 0, 0),
        (136, "136", 0, 0),
        ({"value": "136"}, "136", 1, 0),
        ({"value": "136", "unit": None}, "136", 1, 0),
        (["136"], "136", 1, 0),
        ('{"value": 136}', "136", 1, 0),
        ({"ground_truth": {"target": ["136"]}}, "136", 1, 0),
        ("9 + 127 = <<9+127=136>>136\n#### 136", "136", 0, 1),
        ("They pay 1,136 in all.\n#### 1,136", "1136", 0, 1),
        ({"value": "so\n#### 136"}, "136", 1, 1),
    ],
)
def test_the_gold_answer_is_the_value_inside(
    given: Any, gold: str, unwrapped: int, hashes: int, tmp_path: Path
) -> None:
    found = read(
        written(tmp_path / "theirs.jsonl", ROW | {"answer": given}, ROW | {"answer": given})
    )
    assert [one.answer for one in found.problems] == [gold]
    assert (found.counts.gold_unwrapped, found.counts.gold_behind_hashes) == (unwrapped, hashes)


def test_only_the_first_problems_are_kept_and_all_are_counted(tmp_path: Path) -> None:
    found = read(packed(tmp_path / "theirs.jsonl", [*MANY, *MANY[:3]]), limit=2)
    assert [one.problem_id for one in found.rollouts] == [
        one.problem_id for one in (*found.problems, *found.problems)
    ]
    assert (len(found.rollouts), found.counts.rollouts, found.problem_count, found.samples) == (
        4,
        703,
        700,
        2,
    )


def test_rollouts_to_a_set_of_problems_are_found_by_id_or_by_question(tmp_path: Path) -> None:
    wanted = {
        "p1": ("What is 4 + 3 in all?\nBox it.", "What is 4 + 3 in all?"),
        "p2": ("What is 5 + 3 in all?",),
    }
    rows = [
        {"problem_id": "p2", "response": "8"},
        {"prompt": "What is 4 + 3 in all?", "response": "7"},
        {"prompt": " What is 4 + 3 in all?\nBox it. ", "response": "6"},
        {"problem_id": "p3", "response": "8"},
    ]
    found = read(written(tmp_path / "theirs.jsonl", rows[0], rows[3]), wanted=wanted)
    assert [one.problem_id for one in found.rollouts] == ["p2"] and found.problem_count == 2
    for row in rows[1:3]:
        found = read(written(tmp_path / "theirs.jsonl", row), wanted=wanted)
        assert [one.problem_id for one in found.rollouts] == ["p1"] and found.problems == ()
    with pytest.raises(
        UserError, match="problem p1 has a different prompt or gold answer in an earlier row"
    ):
        read(written(tmp_path / "theirs.jsonl", *rows), wanted=wanted)


def test_gold_answers_that_are_not_those_of_the_set_are_counted_and_named(tmp_path: Path) -> None:
    wanted = {name: (f"What is {name} in all?",) for name in "abcd"}
    golds = {"a": "7", "b": "1/2", "c": "8", "d": None}
    answers = {"a": {"value": "7.0"}, "b": "\\frac{1}{2}", "c": 9, "d": "1"}
    rows = [
        {"problem_id": name, "prompt": wanted[name][0], "answer": answers[name], "response": "7"}
        for name in wanted
    ]
    rows += [{"problem_id": "c", "prompt": wanted["c"][0], "answer": 9, "response": "8"}]
    found = read(written(tmp_path / "theirs.jsonl", *rows), wanted=wanted, golds=golds)
    assert found.counts.other_gold == ["c"]
    assert asked.notes(found) == (
        "1 of 4 gold answers of theirs.jsonl differ from those of --problems (c), which are used",
    )
    by_id = written(tmp_path / "theirs.jsonl", {"problem_id": "a", "answer": 8, "response": "7"})
    assert read(by_id, wanted=wanted, golds=golds).counts.other_gold == ["a"]


def test_a_batch_takes_its_prompts_from_the_file_of_its_requests(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": "What is 4 + 3 in all?"}]}
    request = {
        "custom_id": "r1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": body,
        "answer": "7",
    }
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "It is 7."},
        "finish_reason": "length",
    }
    result = {
        "custom_id": "r1",
        "response": {"status_code": 200, "body": {"choices": [choice]}},
        "error": None,
    }
    failed = {"custom_id": "r1", "response": None, "error": {"message": "no"}}
    asked, said = (
        written(tmp_path / "in.jsonl", request),
        written(tmp_path / "out.jsonl", result, failed),
    )
    found = read(f"{asked},{said}")
    assert found.counts.formats == {"OpenAI batch requests": 1, "OpenAI batch results": 1}
    assert [(one.question, one.answer) for one in found.problems] == [
        ("What is 4 + 3 in all?", "7")
    ]
    assert [(one.record.response, one.stop.kind) for one in found.rollouts] == [("It is 7.", "cut")]
    assert (found.counts.aborted, found.counts.stops["error", "aborted"]) == (1, 1)


# Columns


def nested(name: str, value: Any) -> dict[str, Any]:
    head, _, rest = name.partition(".")
    return {head: nested(rest, value) if rest else value}


@pytest.mark.parametrize("name", USUAL["response"])
@pytest.mark.parametrize("question", USUAL["prompt"])
def test_responses_and_questions_stand_under_any_of_their_usual_names(
    name: str, question: str, tmp_path: Path
) -> None:
    asked: Any = "What is 4 + 3 in all?"
    if question == "messages":
        asked = [{"role": "user", "content": asked}]
    found = read(
        written(tmp_path / "theirs.jsonl", {question: asked, name: "It is 7.", "answer": "7"})
    )
    assert [one.record.response for one in found.rollouts] == ["It is 7."]
    assert [one.question for one in found.problems] == ["What is 4 + 3 in all?"]


@pytest.mark.parametrize("name", USUAL["answer"])
def test_gold_answers_stand_under_any_of_their_usual_names(name: str, tmp_path: Path) -> None:
    row = {"prompt": "What is 4 + 3 in all?", "response": "It is 7."} | nested(name, 7)
    assert [one.answer for one in read(written(tmp_path / "theirs.jsonl", row)).problems] == ["7"]


def test_columns_that_are_named_are_taken_and_no_others(tmp_path: Path) -> None:
    row = {
        "response": "wrong",
        "made": {"text": "It is 7.", "why": "MAX_TOKENS", "n": 3},
        "q": "What is 4 + 3 in all?",
        "truth": [{"value": 7}],
        "key": 12,
        "ids": [1, 2],
        "right": True,
        "finish_reason": "stop",
        "correct": False,
    }
    columns = {
        "response": "made.text",
        "stop": "made.why",
        "sample": "made.n",
        "question": "q",
        "answer": "truth.0",
        "id": "key",
        "grade": "right",
    }
    found = read(written(tmp_path / "theirs.jsonl", row), columns=columns)
    (one,) = found.rollouts
    assert (one.record.response, one.problem_id, one.sample, one.stop.kind) == (
        "It is 7.",
        "12",
        3,
        "cut",
    )
    assert found.problems[0].answer == "7" and one.record.grades == {"right": True}
    assert found.counts.formats == {"plain columns": 1}


def test_two_columns_that_agree_are_one_and_that_differ_are_told_apart_by_a_flag(
    tmp_path: Path,
) -> None:
    path = written(tmp_path / "theirs.jsonl", ROW | {"text": "4+3=7"})
    assert read(path).rollouts[0].record.response == "4+3=7"
    path = written(tmp_path / "theirs.jsonl", ROW | {"text": "another"})
    with pytest.raises(
        UserError, match="--column response=response or --column response=text says which"
    ):
        read(path)
    assert read(path, columns={"response": "text"}).rollouts[0].record.response == "another"


def test_several_responses_of_a_row_are_its_samples(tmp_path: Path) -> None:
    path = written(tmp_path / "theirs.jsonl", ROW | {"response": ["4+3=7", "4+3=8"]})
    assert [(one.sample, one.record.response) for one in read(path).rollouts] == [
        (0, "4+3=7"),
        (1, "4+3=8"),
    ]


# Why a rollout ended


@pytest.mark.parametrize(
    "stop, more, kind, token",
    [
        ("stop", {}, "natural", None),
        ("eos", {}, "natural", None),
        ("EOS_TOKEN", {}, "natural", None),
        ("end-turn", {}, "natural", None),
        ("FinishReason.STOP", {}, "natural", None),
        ("tool_calls", {}, "natural", None),
        ({"type": "stop", "matched": 151645}, {}, "natural", 151645),
        ({"type": "stop", "matched": "###"}, {}, "other", None),
        ({"type": "stop"}, {}, "natural", None),
        ("stop", {"stop_detail": 99}, "natural", 99),
        ("stop", {"stop_detail": "\n\n"}, "other", None),
        ("stop", {"stop_detail": "eos"}, "natural", None),
        ("length", {}, "cut", None),
        ({"type": "length", "length": 512}, {}, "cut", None),
        ("MAX_TOKENS", {}, "cut", None),
        ("max tokens", {}, "cut", None),
        ("Max-Tokens", {}, "cut", None),
        ("FinishReason.LENGTH", {}, "cut", None),
        ("max_output_tokens", {}, "cut", None),
        ("truncated", {}, "cut", None),
        ("stop", {"truncated": True}, "cut", None),
        (None, {"truncated": True}, "cut", None),
        (None, {"truncated": False}, "natural", None),
        ("length", {"truncated": False}, "cut", None),
        ("max_turns_reached", {"truncated": False}, "natural", None),
        ("max_turns_reached", {"truncated": True}, "cut", None),
        ("abort", {}, "aborted", None),
        ({"type": "abort", "message": "gone"}, {}, "aborted", None),
        ("content_filter", {}, "aborted", None),
        ("repetition", {}, "other", None),
        ("", {}, "unknown", None),
        (True, {}, "other", None),
        (["stop", "length"], {}, "other", None),
        ("stop", {"stop_detail": ["a"]}, "other", None),
        (None, {}, "unknown", None),
    ],
)
def test_what_a_stop_reason_means(
    stop: Any, more: dict[str, Any], kind: str, token: int | None
) -> None:
    found = stop_of(Record(response="4+3=7", stop=stop, **more))
    assert (found.kind, found.token) == (kind, token)


def test_stop_reasons_are_counted_as_they_stand_and_aborted_rollouts_are_left_out(
    tmp_path: Path,
) -> None:
    stops = [
        *("stop", "length", "length", {"type": "length"}, "loop", None, "abort"),
        {"type": "stop", "matched": "###"},
    ]
    path = written(tmp_path / "theirs.jsonl", *(ROW | {"finish_reason": stop} for stop in stops))
    found = read(path)
    assert found.counts.stops == {
        ("stop", "natural"): 1,
        ("length", "cut"): 3,
        ("loop", "other"): 1,
        ("no stop reason", "unknown"): 1,
        ("abort", "aborted"): 1,
        ("stop at the stop string '###'", "other"): 1,
    }
    assert (
        found.counts.rows,
        found.counts.rollouts,
        found.counts.aborted,
        len(found.rollouts),
    ) == (8, 7, 1, 7)
    said = summary.line(found)
    assert "length (3, cut off)" in said and "loop (1, not a natural end)" in said
    assert (
        "no stop reason (1, unknown end)" in said
        and "1 were aborted by their engine, left out" in said
    )
    assert summary.record(found)["stop_reasons"]["loop"] == {"rollouts": 1, "means": "other"}


@pytest.mark.parametrize(
    "chosen, kind", [("unknown", "unknown"), ("natural", "natural"), ("cut-off", "cut")]
)
def test_how_rollouts_ended_that_do_not_say_is_an_option(
    chosen: Any, kind: str, tmp_path: Path
) -> None:
    path = written(
        tmp_path / "theirs.jsonl", ROW | {"finish_reason": None}, ROW | {"finish_reason": "length"}
    )
    assert [one.stop for one in read(path, no_stop_reason=chosen).rollouts] == [
        Stop(kind, "no stop reason"),
        Stop("cut", "length"),
    ]


# Responses that hold their prompt


def test_a_response_that_begins_with_its_prompt_is_refused_until_a_flag_decides(
    tmp_path: Path,
) -> None:
    whole = "What is 4 + 3 in all? 4+3=7"
    rendered = "<|user|>What is 4 + 3 in all?<|end|><|assistant|>4+3=7"
    rows = [
        ROW,
        ROW | {"response": whole},
        ROW | {"response": rendered},
        ROW | {"response": "\n" + whole},
    ]
    path = written(tmp_path / "theirs.jsonl", *rows)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value) == (
        f"{path}:2: 3 of 4 responses begin with their prompt; use --prompt-in-response cut to "
        "remove it, or keep if it is part of the response"
    )
    cut, kept = (read(path, prompt_in_response=choice) for choice in ("cut", "keep"))
    assert [one.record.response for one in cut.rollouts] == ["4+3=7", " 4+3=7", "4+3=7", " 4+3=7"]
    assert [one.record.response for one in kept.rollouts] == [row["response"] for row in rows]
    assert (cut.counts.prompts_cut_off, kept.counts.prompts_cut_off) == (3, 0)
    assert "the prompt was cut off 3 responses" in summary.line(cut)


def test_a_response_may_begin_with_a_few_characters_that_are_its_question_too(
    tmp_path: Path,
) -> None:
    assert (
        read(
            written(tmp_path / "theirs.jsonl", ROW | {"prompt": "4+3", "response": "4+3=7"})
        ).counts.rollouts
        == 1
    )


# Faults, each in one line

LONG = "".join(json.dumps(row) + "\n" for row in MANY).encode()
RENDERED = "<|im_start|>user\nWhat is 4 + 3?<|im_end|>\n<|im_start|>assistant\n"
DEEP = b'{"prompt": ' + b"[" * 100_000
LINES: list[tuple[list[object], dict[str, Any], str]] = [
    ([NAMED, b"{broken"], {}, ":2: not JSON (Expecting property name"),
    ([NAMED, b"", b'["a list"]'], {}, ":3: must be an object with a response, got list"),
    ([b'"text"'], {}, ":1: must be an object with a response, got str"),
    ([DEEP], {}, ":1: not JSON (maximum recursion depth exceeded"),
    ([NAMED, b'{"problem_id": "b\xe9"}'], {}, ":2: not UTF-8 text (invalid continuation byte)"),
    ([], {}, " holds no rollouts"),
    ([b"", b" "], {}, " holds no rollouts"),
    (
        [ROW | {"response": "", "finish_reason": "abort"}],
        {},
        " has no rollouts except 1 that were aborted",
    ),
    (
        [NAMED, {"problem_id": "a"}],
        {},
        ":2: no response under response or completion or output or text",
    ),
    ([{"problem_id": "a", "answer_text": "7"}], {}, ":1: no response under"),
    ([NAMED | {"response": None}], {}, " has no rollouts except 1 that were aborted"),
    (
        [NAMED | {"response": 3}],
        {},
        ":1: column 'response' must hold text, messages or a list of those, got 3",
    ),
    (
        [NAMED | {"response": {"text": "7"}}],
        {},
        ":1: column 'response' must hold text, messages or a list of those, got {'te",
    ),
    ([NAMED | {"response": []}], {}, ":1: the list of responses is empty"),
    (
        [NAMED | {"response": ["4", 5]}],
        {},
        ":1: column 'response' must hold text, messages or a list of those, got 5",
    ),
    (
        [NAMED | {"response": ["4", "5"], "response_ids": [5]}],
        {},
        ":1: must have one response for its token ids, got 2",
    ),
    (
        [{"response": "2"}],
        {},
        ":1: the row has no problem: it needs problem_id, or a prompt with its gold answer",
    ),
    (
        [{"question": "1?", "response": "2"}],
        {},
        ":1: the row has no problem: it needs problem_id, or a prompt",
    ),
    (
        [{"answer": "1", "response": "2"}],
        {},
        ":1: the row has no problem: it needs problem_id, or a prompt",
    ),
    (
        [ROW | {"prompt": 4}],
        {},
        ":1: column 'prompt' must hold text or a list of messages, got 4",
    ),
    (
        [ROW | {"prompt": ["4 + 3?"]}],
        {},
        ":1: column 'prompt.0' must hold a chat message with a role, got '4 + 3?'",
    ),
    (
        [ROW | {"prompt": [{"role": "robot", "content": "4 + 3?"}]}],
        {},
        ":1: the role of a message must be one of system, dev",
    ),
    (
        [ROW | {"prompt": [{"role": "user", "content": 7}]}],
        {},
        ":1: column 'prompt.0.content' must hold text or a list of parts, got 7",
    ),
    (
        [
            ROW
            | {"prompt": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}
        ],
        {},
        ":1: the content of a message must be text or parts with text, got [{'type': 'image_url'",
    ),
    (
        [
            ROW
            | {
                "prompt": [
                    {"role": "user", "content": "4 + 3?"},
                    {"role": "assistant", "content": "7"},
                ]
            }
        ],
        {},
        ":1: the messages of a prompt must end with the user's, got assistant",
    ),
    (
        [ROW | {"prompt": [{"role": "assistant", "tool_calls": [{"function": {"name": "add"}}]}]}],
        {},
        ":1: the prompt contains tool calls, which are not supported",
    ),
    (
        [ROW | {"prompt": RENDERED}],
        {},
        ":1: the prompt contains '<|im_start|>', as rendered prompts do, but was not rendered",
    ),
    (
        [ROW | {"prompt": "<s>[INST] 4 + 3? [/INST]"}],
        {},
        ":1: the prompt contains '<s>[INST]', as rendered prompts do",
    ),
    (
        [ROW | {"prompt": "<bos><start_of_turn>user\n4 + 3?"}],
        {},
        ":1: the prompt contains '<bos><start_of_turn>', as",
    ),
    (
        [ROW | {"prompt": "<|user|>4 + 3?<|end|>"}],
        {},
        ":1: the prompt contains '<|user|>', as rendered prompts do",
    ),
    (
        [ROW],
        {"prompt_kind": "rendered"},
        ":1: the prompt was not rendered by the template of abacus-student",
    ),
    (
        [ROW | {"answer": {"a": 1, "b": 2}}],
        {},
        ":1: column 'answer' has several values (answer.a, answer.b) instead of one",
    ),
    (
        [ROW | {"answer": [7, 8]}],
        {},
        ":1: column 'answer' has several values (answer.0, answer.1) instead of one gold",
    ),
    (
        [{"input": "user\n1?", "output": "7", "gts": {"a": 1, "b": 2}, "score": 1.0, "step": 1}],
        {},
        ":1: column 'gts' has several values (gts.a, gts.b) instead of one gold answer",
    ),
    (
        [{"prompt": "4 + 3?", "response": "7", "target": [7, 8]}],
        {},
        ":1: column 'target' has several values (target.0, ",
    ),
    (
        [ROW | {"text": "other"}],
        {},
        ":1: columns 'response' and 'text' could both be the response and differ",
    ),
    (
        [ROW | {"question": "5?"}],
        {},
        ":1: columns 'question' and 'prompt' could both be the prompt and differ",
    ),
    (
        [ROW | {"gold": "8"}],
        {},
        ":1: columns 'answer' and 'gold' could both be the answer and differ",
    ),
    (
        [ROW | {"response_ids": [5], "token_ids": [6]}],
        {},
        ":1: columns 'response_ids' and 'token_ids' could both be the response_ids and differ",
    ),
    (
        [ROW],
        {"columns": {"response": "made"}},
        ":1: no column 'made' for the response (found prompt, answer, response",
    ),
    (
        [ROW],
        {"columns": {"prompt": "a.b"}},
        ":1: no column 'a.b' for the prompt (found prompt, answer",
    ),
    (
        [ROW, {"response": "8"}],
        {"columns": {"answer": "answer"}},
        ":2: no column 'answer' for the answer (found response)",
    ),
    (
        [NAMED | {"sample": "first"}],
        {},
        ":1: column 'sample' must hold a whole number from 0, got 'first'",
    ),
    ([NAMED | {"sample": -1}], {}, ":1: column 'sample' must hold a whole number from 0, got -1"),
    ([NAMED | {"sample": 0.5}], {}, ":1: column 'sample' must hold a whole number from 0, got 0.5"),
    (
        [NAMED | {"sample": True}],
        {},
        ":1: column 'sample' must hold a whole number from 0, got True",
    ),
    (
        [NAMED | {"sample": 1}, NAMED],
        {},
        ":2: sample 1 of problem a is already in an earlier row",
    ),
    (
        [NAMED | {"sample": 0}, NAMED | {"sample": 0}],
        {},
        ":2: sample 0 of problem a is already in an earlier row",
    ),
    (
        [NAMED | {"truncated": "yes"}],
        {},
        ":1: column 'truncated' must hold true or false, got 'yes'",
    ),
    (
        [NAMED | {"reasoning_content": 7}],
        {},
        ":1: column 'reasoning_content' must hold text, got 7",
    ),
    (
        [NAMED | {"response_ids": "5 6"}],
        {},
        ":1: column 'response_ids' must hold a list of token ids, got '5 6'",
    ),
    (
        [NAMED | {"response_ids": [5, 6.0]}],
        {},
        ":1: column 'response_ids' must hold a list of token ids, got [5, 6.0]",
    ),
    (
        [NAMED | {"prompt_ids": [True]}],
        {},
        ":1: column 'prompt_ids' must hold a list of token ids, got [True]",
    ),
    (
        [NAMED | {"response_ids": [24, 520]}],
        {},
        ":1: token id 520 is none of abacus-student, which has 520: give the st",
    ),
    (
        [NAMED | {"response_ids": [24, -1]}],
        {},
        ":1: column 'response_ids' must hold a list of token ids, got [24, -1]",
    ),
    (
        [ROW | {"prompt": None, "prompt_ids": [3, 9999]}],
        {},
        ":1: token id 9999 is none of abacus-student, which has 520",
    ),
    (
        [NAMED | {"response_ids": [24], "response_mask": [1, 1]}],
        {},
        ":1: column 'response_mask' must be as long as its 1 ids",
    ),
    (
        [NAMED | {"response_ids": [24], "response_mask": [2]}],
        {},
        ":1: column 'response_mask' must hold a mask of 0 and 1, got",
    ),
    (
        [NAMED | {"response_ids": [24], "response_mask": "1"}],
        {},
        ":1: column 'response_mask' must hold a mask of 0 and 1, got",
    ),
    (
        [NAMED | {"response_ids": [24], "loss_mask": [1, 1]}],
        {},
        ":1: column 'loss_mask' must be as long as its 1 ids, got",
    ),
    (
        [NAMED | {"response_ids": [24], "response_mask": [0]}],
        {},
        ":1: response_mask has no 1, so no token is the student's",
    ),
    (
        [NAMED | {"response_mask": [1]}],
        {},
        ":1: response_mask needs the token ids of the response",
    ),
    (
        [
            NAMED | {"response": "seven", "response_ids": [24, 25]},
            NAMED | {"response": "eight", "response_ids": [26]},
        ],
        {},
        ":1: 2 of 2 responses have token ids that abacus-student decodes to a different "
        "text: give the student that",
    ),
    (
        [ROW, ROW | {"answer": "8"}],
        {},
        f":2: problem {hashlib.sha256(ROW['prompt'].encode()).hexdigest()[:12]} has a different "
        "prompt or gold answer in an earlier row",
    ),
    (
        [NAMED | {"question": "1?", "answer": "1"}, NAMED | {"question": "2?", "answer": "1"}],
        {},
        ":2: problem a has a different prompt or gold answer in an earlier row",
    ),
    (
        [ROW | {"response": ROW["prompt"] + " 7"}],
        {},
        ":1: 1 of 1 responses begin with their prompt; use --prompt-in-response c",
    ),
    (
        [NAMED | {"response": [{"role": "user", "content": "no"}]}],
        {},
        ":1: the row has no assistant turn",
    ),
    (
        [ROW],
        {"format": "vllm"},
        ":1: column 'outputs' must hold a list of outputs with text and token_ids, got nothing",
    ),
    (
        [
            {
                "request_id": "1",
                "prompt": "4 + 3?",
                "outputs": [{"text": "7", "token_ids": ["7"]}],
                "answer": "7",
            }
        ],
        {},
        ":1: column 'outputs.0.token_ids' must hold a list of token ids, got ['7']",
    ),
    (
        [NAMED | {"problem_id": [1]}],
        {},
        ":1: column 'problem_id' must hold text or a whole number, got [1]",
    ),
]


@pytest.mark.parametrize("rows, settings, message", LINES)
def test_a_fault_is_one_line_that_names_file_and_row(
    rows: list[object], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "theirs.jsonl", *rows)
    with pytest.raises(UserError) as error:
        responses(path, **settings)
    assert str(error.value).startswith(f"{path}{message}")
    assert "\n" not in str(error.value)


GZIPPED = gzip.compress(LONG, mtime=0)  # the same in every process that collects the tests
WHOLE: list[tuple[str, bytes, str]] = [
    (
        "a.jsonl.gz",
        GZIPPED[:-20],
        "cannot read {}: Compressed file ended before the end-of-stream",
    ),
    ("a.jsonl.gz", b"nothing", "cannot read {}: Not a gzipped file (b'no')"),
    ("a.jsonl.gz", GZIPPED[:99] + b"\xff" * 9 + GZIPPED[108:], "cannot read {}: "),
    (
        "a.jsonl.zst",
        pa.compress(LONG, codec="zstd", asbytes=True)[:-200],
        "cannot read {}: Truncated compressed",
    ),
    (
        "a.jsonl.zst",
        b"nothing",
        "cannot read {}: ZSTD decompress failed: Unknown frame descriptor",
    ),
    (
        "a.parquet",
        b"PAR1 nothing",
        "{} is not a readable parquet file (truncated?): Parquet magic bytes not found",
    ),
    (
        "a.parquet",
        b"",
        "{} is not a readable parquet file (truncated?): Parquet file size is 0 bytes",
    ),
    ("a.parquet.gz", b"PAR1", "{}: compressed parquet files cannot be read; decompress it first"),
    ("a.json", b"3", "{}: must be an array of objects, got int"),
    ("a.json", b"", "{}: not JSON (Expecting value"),
    ("a.json", b'[{"a": 1}', "{}: not JSON (Expecting ',' delimiter"),
    ("a.json", b"[1]", "{}, row 1: must be an object with a response, got int"),
    ("a.json", b"[]", "{} holds no rollouts"),
    ("a.json", DEEP, "{}:1: not JSON (maximum recursion depth exceeded"),
    ("a.json", b'[{"b": "\xff"}]', "{}:1: not UTF-8 text (invalid start byte)"),
    (
        "a.txt",
        b"",
        "{} has suffix '.txt'; rollouts are read from .jsonl, .ndjson, .json, .parquet, .eval, "
        "also compressed (.gz or",
    ),
    ("a.txt.gz", b"", "{} has suffix '.gz'; rollouts are read from .jsonl"),
]


@pytest.mark.parametrize("name, held, message", WHOLE)
def test_a_file_that_is_damaged_or_of_another_kind_is_one_line(
    name: str, held: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(held)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(error.value).startswith(message.format(path))
    assert "\n" not in str(error.value)


def test_a_parquet_file_that_is_cut_off_is_one_line(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.parquet", MANY)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="is not a readable parquet file"):
        read(path)
    whole = packed(path, MANY).read_bytes()
    path.write_bytes(whole[:500] + bytes(300) + whole[800:])
    with pytest.raises(UserError, match="cannot read .*: Corrupt snappy") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_names_that_lead_nowhere_or_to_one_file_twice_are_refused(
    tmp_path: Path, monkeypatch: Any
) -> None:
    path = packed(tmp_path / "a.jsonl", MANY[:2])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.jsonl").symlink_to(path)
    for option, message in [
        ("none.jsonl", "cannot read none.jsonl: No such file or directory"),
        (f"{path},none.jsonl", "cannot read none.jsonl: No such file or directory"),
        (
            "empty",
            "empty is a folder without rollout files (.jsonl, .ndjson, .json, .parquet, .eval)",
        ),
        ("a.jsonl,a.jsonl", "a.jsonl is given twice"),
        (f"{path},a.jsonl", "a.jsonl is given twice"),
        ("a.jsonl,link.jsonl", "link.jsonl is named twice"),
    ]:
        with pytest.raises(UserError) as error:
            files.paths_of(option)
        assert str(error.value) == message


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"format": "vlm"}, "--rollouts-format must be one of decaylab, trl, "),
        (
            {"columns": {"reply": "text"}},
            "--column must map answer, grade, id, problem_id, prompt, prompt_ids, question, ",
        ),
    ],
)
def test_a_format_or_role_that_does_not_exist_is_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        read(written(tmp_path / "theirs.jsonl", ROW), **settings)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_ids_of_the_student_are_beyond_no_vocabulary_that_a_test_above_names() -> None:
    """The numbers in the messages above are those of the embedded pair."""
    assert len(abacus().tokenizer) == 520
