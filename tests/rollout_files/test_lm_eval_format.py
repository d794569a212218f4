"""What lm-evaluation-harness logs of its samples, as records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from decaylab.errors import UserError
from decaylab.rollout_files.formats.lm_eval import FORMATS
from decaylab.rollout_files.record import Record

FILES = Path(__file__).parent / "files"
(SAMPLES,) = FORMATS
FIRST = Record(
    response=" It is 4\n#### 4",
    problem_id="0",
    prompt="Question: 2 + 2?\nAnswer:",
    answer="2 + 2 is 4\n#### 4",
    grades={"exact_match,strict-match": 1.0},
)
SECOND = Record(
    response=" So 3 + 4 is 7 and",
    problem_id="1",
    prompt="Question: 3 + 4?\nAnswer:",
    answer="3 + 4 is 7\n#### 7",
    grades={"exact_match,strict-match": 0.0},
)


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FILES / name).read_text().splitlines()]


def read(found: list[dict[str, Any]], file: str) -> list[Record]:
    return [
        record
        for number, row in enumerate(found, 1)
        for record in SAMPLES.records(row, f"{file}:{number}")
    ]


def test_samples_of_several_filters_are_read_once_with_the_first() -> None:
    found = rows("lm-eval.jsonl")
    assert all(SAMPLES.recognises(row) for row in found)
    assert read(found, "filters.jsonl") == [FIRST, SECOND]


def test_the_first_filter_is_found_in_any_order_of_rows() -> None:
    one, two, again, more = rows("lm-eval.jsonl")
    assert read([one, again, two, more], "by-sample.jsonl") == [FIRST, SECOND]
    mixed = read([again, two, one, more], "mixed.jsonl")
    assert [record.grades for record in mixed] == [
        {"exact_match,flexible-extract": 1.0},
        SECOND.grades,
    ]


def test_a_file_that_is_read_again_or_written_anew_starts_anew() -> None:
    found = rows("lm-eval.jsonl")
    assert read(found, "again.jsonl") == read(found, "again.jsonl") == [FIRST, SECOND]
    assert len(read(found[2:], "again.jsonl")) == 2
    assert read(found, "again, line ") == [FIRST, SECOND]


def test_runs_put_behind_each_other_are_further_rollouts() -> None:
    found = rows("lm-eval.jsonl")
    assert read([*found, *found], "runs.jsonl") == [FIRST, SECOND, FIRST, SECOND]


def test_several_responses_are_several_rollouts_without_the_grade_of_all() -> None:
    many, _ = rows("lm-eval-others.jsonl")
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    assert read([many], "many.jsonl") == [
        Record(response=text, problem_id="0", prompt=prompt, answer="4") for text in (" 4", " 5")
    ]


def test_older_files_are_read() -> None:
    _, old = rows("lm-eval-others.jsonl")
    assert SAMPLES.recognises(old)
    assert read([old], "old.jsonl") == [
        Record(
            response=" 7",
            problem_id="1",
            prompt="Question: 3 + 4?\nAnswer:",
            answer="7",
            grades={"exact_match": 1.0},
        )
    ]


def test_multiple_choice_is_refused_in_one_line() -> None:
    (choice,) = rows("lm-eval-choices.jsonl")
    assert SAMPLES.recognises(choice)
    with pytest.raises(UserError) as caught:
        read([choice], "choices.jsonl")
    assert str(caught.value) == (
        "choices.jsonl:1: column 'arguments' must hold a request to generate, got one of a "
        "log-likelihood task "
        "(such as multiple choice), which has no rollouts"
    )


@pytest.mark.parametrize(
    "row",
    [
        {},
        {"doc_id": 0, "doc": {}, "resps": [["4"]]},
        {"doc_id": 0, "doc": {}, "arguments": {}, "resps": "4", "filtered_resps": ["4"]},
        {"prompt": "2 + 2?", "response": "4"},
    ],
)
def test_rows_of_others_are_not_recognised(row: dict[str, Any]) -> None:
    assert not SAMPLES.recognises(row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"resps": [["4"], ["5"]]},
            "column 'resps' must hold the responses to one request, got [['4'], ['5']]",
        ),
        ({"resps": [[4]]}, "column 'resps.0.0' must hold text, got 4"),
        ({"arguments": {}}, "column 'arguments' must hold a request, got {}"),
        (
            {"arguments": ["2 + 2?"]},
            "column 'arguments' must hold lists or objects of arguments, got ['2 + 2?']",
        ),
        (
            {"arguments": [[5, {}]]},
            "column 'arguments' must hold text or a list of messages, got 5",
        ),
        (
            {"arguments": [["2 + 2?"]]},
            "column 'arguments' must hold a request to generate, got one of a log-likelihood",
        ),
        ({"arguments": [["a", {}], ["b", {}]]}, "column 'arguments' must hold one request, got 2"),
        (
            {"arguments": [[["{"], {}]]},
            "column 'arguments' must hold JSON text of chat messages, got '{'",
        ),
        (
            {"arguments": [[["[5]"], {}]]},
            "column 'arguments.0' must hold a chat message with a role, got 5",
        ),
        ({"metrics": "exact_match"}, "column 'metrics' must hold a list, got 'exact_match'"),
        ({"metrics": ["acc"]}, "column 'metrics' must name columns of the row, got 'acc'"),
        ({"filter": 1}, "column 'filter' must hold text, got 1"),
    ],
)
def test_malformed_samples_are_one_line(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        read([{**rows("lm-eval.jsonl")[0], **change}], "a.jsonl")
    assert str(caught.value).startswith(f"a.jsonl:1: {message}") and "\n" not in str(caught.value)


def test_samples_that_lm_eval_logs_itself(tmp_path: Path) -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="needs extra: pip install lm-eval")
    from lm_eval.api.model import LM
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.loggers import EvaluationTracker

    class Sums(LM):
        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            return [
                " It is 4\n#### 4" if "2 + 2" in one.args[0] else " So 3 + 4 is 7 and"
                for one in requests
            ]

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
            raise NotImplementedError

        loglikelihood_rolling = loglikelihood

    lines = [{"question": "2 + 2?", "answer": "4"}, {"question": "3 + 4?", "answer": "7"}]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    patterns = (
        ("strict-match", r"#### (-?[0-9]+)"),
        ("flexible-extract", r"(?:4 is |#### )(-?[0-9]+)"),
    )
    task = ConfigurableTask(
        config={
            "task": "sums",
            "dataset_path": "json",
            "dataset_kwargs": {"data_files": {"test": str(tmp_path / "sums.jsonl")}},
            "test_split": "test",
            "output_type": "generate_until",
            "doc_to_text": "Question: {{question}}\nAnswer:",
            "doc_to_target": "{{answer}}",
            "generation_kwargs": {"until": ["Question:"], "do_sample": False},
            "metric_list": [
                {"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}
            ],
            "filter_list": [
                {
                    "name": name,
                    "filter": [
                        {"function": "regex", "regex_pattern": text},
                        {"function": "take_first"},
                    ],
                }
                for name, text in patterns
            ],
        }
    )
    found = lm_eval.simple_evaluate(model=Sums(), tasks=[task], log_samples=True, bootstrap_iters=0)
    tracker = EvaluationTracker(output_path=str(tmp_path / "out"))
    tracker.general_config_tracker.model_name_sanitized = "sums"
    tracker.date_id = "now"
    tracker.save_results_samples("sums", found["samples"]["sums"])
    (file,) = (tmp_path / "out").rglob("samples_sums_*.jsonl")
    written = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(written) == 4 and all(SAMPLES.recognises(row) for row in written)
    for record, expected, answer in zip(
        read(written, str(file)), (FIRST, SECOND), ("4", "7"), strict=True
    ):
        expected.answer, expected.grades = answer, record.grades
        assert record == expected
        assert list(record.grades) in (
            ["exact_match,strict-match"],
            ["exact_match,flexible-extract"],
        )
