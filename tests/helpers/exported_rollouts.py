"""The student's rollouts of a run as other programs would have written them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

Rows = list[dict[str, Any]]
FINISH = {"eos": "stop", "length": "length"}


@dataclass(frozen=True)
class Made:
    """A rollout of a run."""

    problem_id: str
    sample: int
    question: str
    answer: str
    prompt_ids: list[int]
    ids: list[int]
    text: str
    stop: str

    @property
    def rendered(self) -> str:
        """As the embedded student's template writes the prompt."""
        return f"<|user|>{self.question}<|end|><|assistant|>"

    @property
    def named(self) -> dict[str, Any]:
        return {"problem_id": self.problem_id, "sample": self.sample}


def made(run: Path) -> list[Made]:
    rollouts = pd.read_parquet(run / "rollouts.parquet")
    problems = pd.read_parquet(run / "problems.parquet").set_index("problem_id")
    return [
        Made(
            *(
                row.problem_id,
                int(row.sample),
                problems.question[row.problem_id],
                problems.answer[row.problem_id],
            ),
            *(
                [int(i) for i in row.prompt_ids],
                [int(i) for i in row.response_ids],
                row.text,
                row.stop_reason,
            ),
        )
        for row in rollouts[rollouts["condition"] == "student"].itertuples()
    ]


def _by_problem(rollouts: Sequence[Made]) -> list[list[Made]]:
    names = dict.fromkeys(one.problem_id for one in rollouts)
    return [[one for one in rollouts if one.problem_id == name] for name in names]


def columns(rollouts: Sequence[Made]) -> Rows:
    return [one.named | {"response": one.text, "stop_reason": one.stop} for one in rollouts]


def ids(rollouts: Sequence[Made]) -> Rows:
    """Token ids with a gold answer behind ####, and texts that say nothing."""
    return [
        one.named
        | {
            "prompt_ids": one.prompt_ids,
            "response_ids": one.ids,
            "stop_reason": one.stop,
            "question": one.question,
        }
        | {"answer": f"Some steps.\n#### {one.answer}"}
        for one in rollouts
    ]


def messages(rollouts: Sequence[Made]) -> Rows:
    return [
        one.named
        | {
            "prompt": [{"role": "user", "content": one.question}],
            "response": one.text,
            "answer": {"value": one.answer},
        }
        | {"finish_reason": FINISH[one.stop]}
        for one in rollouts
    ]


def rendered(rollouts: Sequence[Made]) -> Rows:
    return [
        one.named
        | {"prompt": one.rendered, "response": one.text, "answer": one.answer}
        | {"finish_reason": {"type": FINISH[one.stop]}}
        for one in rollouts
    ]


def whole_texts(rollouts: Sequence[Made]) -> Rows:
    """A text that holds prompt and response; whether it was cut off in a column of its own."""
    return [
        one.named
        | {"prompt": one.question, "text": f"{one.question}{one.text}", "answer": one.answer}
        | {"truncated": one.stop == "length"}
        for one in rollouts
    ]


def vllm(rollouts: Sequence[Made]) -> Rows:
    return [
        {
            "request_id": str(number),
            "prompt": own[0].rendered,
            "prompt_token_ids": own[0].prompt_ids,
            "outputs": [
                {
                    "index": one.sample,
                    "text": one.text,
                    "token_ids": one.ids,
                    "finish_reason": FINISH[one.stop],
                }
                | {"stop_reason": None, "cumulative_logprob": None, "logprobs": None}
                for one in own
            ],
            "finished": True,
            "problem_id": own[0].problem_id,
            "answer": own[0].answer,
        }
        for number, own in enumerate(_by_problem(rollouts))
    ]


def sglang(rollouts: Sequence[Made]) -> Rows:
    def stop(one: Made) -> dict[str, Any]:
        return (
            {"type": "length", "length": 70}
            if one.stop == "length"
            else {"type": "stop", "matched": one.ids[-1]}
        )

    return [
        {
            "problem_id": one.problem_id,
            "prompt": one.rendered,
            "answer": one.answer,
            "text": one.text,
        }
        | {
            "output_ids": one.ids,
            "meta_info": {"id": "a", "finish_reason": stop(one), "prompt_tokens": 9},
        }
        for one in rollouts
    ]


def openai(rollouts: Sequence[Made]) -> Rows:
    def choice(one: Made, number: int) -> dict[str, Any]:
        message = {"role": "assistant", "content": one.text}
        return {"index": number, "message": message, "finish_reason": FINISH[one.stop]}

    return [
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "problem_id": own[0].problem_id,
        }
        | {"messages": [{"role": "user", "content": own[0].question}], "answer": own[0].answer}
        | {"choices": [choice(one, number) for number, one in enumerate(own)]}
        for own in _by_problem(rollouts)
    ]


def verl(rollouts: Sequence[Made]) -> Rows:
    return [
        {
            "input": one.question,
            "output": one.text,
            "gts": one.answer,
            "score": 1.0,
            "step": 1,
            "acc": one.sample == 0,
        }
        for one in rollouts
    ]


def trl(rollouts: Sequence[Made]) -> Rows:
    return [
        {"step": 1, "prompt": one.question, "completion": one.text, "reward": 0.5, "advantage": 0.0}
        for one in rollouts
    ]


@dataclass(frozen=True)
class Writer:
    """A format of the rollouts. says_ends: whether it says why a rollout ended. options: that it is
    read with."""

    rows: Callable[[Sequence[Made]], Rows]
    name: str
    title: str
    options: tuple[str, ...] = ()
    says_ends: bool = True


SET = ("--problems", "abacus")
ENDED = (*SET, "--no-stop-reason", "natural")
WRITERS = {
    "columns": Writer(columns, "own.jsonl", "plain columns", SET),
    "ids": Writer(ids, "ids.jsonl.zst", "plain columns"),
    "messages": Writer(messages, "messages.jsonl", "plain columns"),
    "rendered": Writer(rendered, "rendered.jsonl.gz", "plain columns"),
    "whole texts": Writer(
        whole_texts, "texts.json", "plain columns", ("--prompt-in-response", "cut")
    ),
    "vllm": Writer(vllm, "vllm.jsonl", "vLLM request outputs"),
    "sglang": Writer(sglang, "sglang.jsonl", "SGLang outputs"),
    "openai": Writer(openai, "openai.jsonl", "OpenAI completions"),
    "verl": Writer(
        verl, "verl.jsonl", "verl rollouts and validation generations", ENDED, says_ends=False
    ),
    "trl": Writer(trl, "trl.parquet", "TRL completions", ENDED, says_ends=False),
}


def export(rollouts: Sequence[Made], writer: Writer, folder: Path) -> Path:
    path, rows = folder / writer.name, writer.rows(rollouts)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix in (".gz", ".zst"):
        packing = {".gz": "gzip", ".zst": "zstd"}[path.suffix]
        path.write_bytes(pa.compress(lines, codec=packing, asbytes=True))
    else:
        path.write_bytes(lines)
    return path
