"""Small problem sets of code and of function calls in their published columns, responses to them,
and a pair of tiny models whose tokenizer reads any text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from command_line import write_lines
from tiny_models import byte_tokenizer, save_folder

TOOL_CHAT = (
    "{% if tools %}{% for tool in tools %}<|user|>{{ tool | tojson }}<|end|>{% endfor %}{% endif %}"
    "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}<|assistant|>"
)
HUMANEVAL = [
    {
        "task_id": f"Own/{name}",
        "prompt": f'def {name}(a, b):\n    """{words}"""\n',
        "entry_point": name,
        "canonical_solution": f"    return {body}\n",
        "test": f"def check(candidate):\n    assert candidate(2, 3) == {right}\n",
    }
    for name, words, body, right in (
        ("added", "The sum.", "a + b", 5),
        ("larger", "The larger one.", "max(a, b)", 3),
        ("joined", "Both as text.", "str(a) + str(b)", "'23'"),
    )
]
PROGRAMS = {
    "Own/added": "Here:\n```python\ndef added(a, b):\n    return a + b\n```",
    "Own/larger": "```python\ndef larger(a, b):\n    return min(a, b)\n```\nDone.",
    "Own/joined": "I cannot do that.",
}
"""A program that passes, one that fails, and none."""
BFCL = [
    {
        "id": f"parallel_{index}",
        "question": [[{"role": "user", "content": f"How warm is it in {city}?"}]],
        "function": [
            {
                "name": "weather",
                "description": "The temperature.",
                "parameters": {
                    "type": "dict",
                    "properties": {"city": {"type": "string", "description": "Where."}},
                    "required": ["city"],
                },
            }
        ],
    }
    for index, city in enumerate(("Oslo", "Rome", "Lima"))
]
RIGHT_CALLS = [
    {"id": row["id"], "ground_truth": [{"weather": {"city": [city]}}]}
    for row, city in zip(BFCL, ("Oslo", "Rome", "Lima"), strict=True)
]
CALLS = {
    "parallel_0": '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>',
    "parallel_1": 'weather(city="Lima")',
    "parallel_2": "It is warm.",
}
"""A call that is right, one with another argument, and none."""


def code_file(folder: Path) -> Path:
    """A file in HumanEval's columns."""
    return write_lines(folder / "programs.jsonl", *HUMANEVAL)


def calls_folder(folder: Path) -> Path:
    """A folder with questions and right calls, as BFCL has them."""
    write_lines(folder / "parallel.jsonl", *BFCL)
    write_lines(folder / "parallel_answers.jsonl", *RIGHT_CALLS)
    return folder


def responses(path: Path, texts: Mapping[str, str]) -> Path:
    """A file of rollouts, one for each problem."""
    rows: list[dict[str, Any]] = [
        {"problem_id": name, "response": text, "finish_reason": "stop"}
        for name, text in texts.items()
    ]
    return write_lines(path, *rows)


def pair(folder: Path) -> tuple[str, str]:
    """``--teacher`` and ``--student``: two tiny models over bytes that take functions."""
    names = []
    for seed, name in enumerate(("teacher", "student")):
        tokenizer = byte_tokenizer(TOOL_CHAT)
        names.append(
            str(
                save_folder(
                    folder / name, tokenizer=tokenizer, seed=seed, max_position_embeddings=4096
                )
            )
        )
    return names[0], names[1]
